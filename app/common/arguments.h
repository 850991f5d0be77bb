// SPDX-License-Identifier: BSD-3-Clause
/// The arguments of a program on EAL: the arguments of EAL, then "--", then those of the program.
#pragma once
#include <cstdio>
#include <cstring>

namespace chainring::app {

/// The result of parsing the options: the program either goes on, or ends with `exit_status`.
struct parsed {
  bool run = false;
  int exit_status = 0; ///< 0 after --help and --version, 2 after a refusal
};

/// The whole command line of the process, which read_arguments() stores.
struct command_line {
  int argc = 0;
  char** argv = nullptr;
  int own = 0; ///< the index of "--", or argc when there is none
};
inline command_line& whole_command_line() {
  static command_line line;
  return line;
}

/// Returns the index of "--", behind which the program's own arguments begin, or argc without "--".
inline int own_arguments(int argc, char** argv) {
  int own = 1;
  while (own < argc && std::strcmp(argv[own], "--") != 0)
    ++own;
  return own;
}

/// Parses the program's own arguments with parse(argc, argv, options). This happens before EAL
/// starts, which takes a second. --version and --help may also stand before "--"; --help then also
/// prints the help of EAL.
template <class Options>
parsed read_arguments(const char* program, int argc, char** argv,
                      parsed (*parse)(int, char**, Options&), Options& options) {
  const int own = own_arguments(argc, argv);
  whole_command_line() = {argc, argv, own};
  const auto asks_for = [&](const char* option) {
    for (int i = 1; i < own; ++i)
      if (std::strcmp(argv[i], option) == 0) return true;
    return false;
  };
  if (asks_for("--version")) {
    std::printf("%s %s\n", program, CHAINRING_VERSION);
    return {};
  }
  if (asks_for("--help") || asks_for("-h")) {
    char help[] = "--help";
    char* arguments[] = {argv[0], help, nullptr};
    whole_command_line() = {};
    (void)parse(2, arguments, options);
    std::puts("\nEAL arguments:");
    std::fflush(stdout);
    return {true, 0};
  }
  return own < argc ? parse(argc - own, argv + own, options) : parse(1, argv, options);
}

} // namespace chainring::app
