// SPDX-License-Identifier: BSD-3-Clause
/// Arguments of a program on EAL: EAL's, "--", its own.
#pragma once
#include <cstdio>
#include <cstring>

namespace chainring::app {

/// What an options parser found: go on, or end with that status.
struct parsed {
  bool run = false;
  int exit_status = 0; ///< when not to run: 0 after --help and --version, else 2
};

/// What the process was started with: read_arguments() notes it.
struct command_line {
  int argc = 0;
  char** argv = nullptr;
  int own = 0; ///< index of "--"; argc without one
};
inline command_line& whole_command_line() {
  static command_line line;
  return line;
}

/// Index of "--", where a program's own arguments begin; argc without one.
inline int own_arguments(int argc, char** argv) {
  int own = 1;
  while (own < argc && std::strcmp(argv[own], "--") != 0)
    ++own;
  return own;
}

/// Parses the program's own arguments with parse(argc, argv, options), before EAL, which takes a
/// second to start. --version and --help may stand before "--" too; the latter goes on to EAL's.
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
