// SPDX-License-Identifier: BSD-3-Clause
/// Parsing with refusals that say what the user probably meant: an argument that is misspelt, one
/// that stands on the wrong side of "--", or one in the configuration file, with its line.
#pragma once
#include <algorithm>
#include <CLI/CLI.hpp>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "arguments.h"

namespace chainring::app {

/// The number of letters to change, insert, drop or swap to turn one word into the other; `most` +
/// 1 when it is more than `most`.
inline std::size_t edit_distance(std::string_view a, std::string_view b, std::size_t most = 3) {
  if (a.size() > b.size() + most || b.size() > a.size() + most) return most + 1;
  std::vector<std::size_t> before(b.size() + 1), last(b.size() + 1), now(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j)
    last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        now[j] = std::min(now[j], before[j - 2] + 1);
    }
    before = last;
    last = now;
  }
  return std::min(last[b.size()], most + 1);
}

/// Returns "; did you mean --region?" for a similar name, or nothing when no name is similar.
inline std::string suggestion(std::string_view word, const std::vector<std::string>& names) {
  const std::size_t most = std::clamp<std::size_t>(word.size() / 3, 1, 3);
  std::string nearest;
  std::size_t least = most + 1;
  for (const std::string& name : names)
    if (const std::size_t d = edit_distance(word, name, most); d < least) {
      least = d;
      nearest = name;
    }
  return nearest.empty() ? "" : "; did you mean " + nearest + "?";
}

/// Appends the long names of all options, including those in option groups, with their "--".
inline void long_names(const CLI::App& a, std::vector<std::string>& out) {
  for (const CLI::Option* option : a.get_options())
    for (const std::string& name : option->get_lnames())
      out.push_back("--" + name);
  for (const CLI::App* group : a.get_subcommands([](const CLI::App*) { return true; }))
    if (group->get_name().empty()) long_names(*group, out);
}

/// Refuses the first argument that begins with "--" and that neither the app nor the subcommand
/// before it has. CLI11 alone would first complain about an option that is missing because of it.
inline void refuse_unknown(const CLI::App& a, int argc, char** argv) {
  const CLI::App* in = &a;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--") return;
    if (!word.starts_with("-") || word.size() < 2) {
      for (const CLI::App* sub : in->get_subcommands(
               [&](const CLI::App* s) { return !word.empty() && s->get_name() == word; }))
        in = sub;
      continue;
    }
    const bool is_long = word.starts_with("--");
    const std::size_t equals = word.find('=');
    const std::string name = is_long ? word.substr(0, equals) : word.substr(0, 2);
    const CLI::Option* option = in->get_option_no_throw(name);
    if (option == nullptr) option = a.get_option_no_throw(name);
    if (option == nullptr) {
      if (!is_long) continue; // "-1" may be a value, which CLI11 decides
      std::vector<std::string> names;
      long_names(*in, names);
      throw CLI::ExtrasError("'" + name + "': there is no such argument" + suggestion(name, names),
                             CLI::ExitCodes::ExtrasError);
    }
    const bool value_within = is_long ? equals != std::string::npos : word.size() > 2;
    if (option->get_items_expected_min() > 0 && !value_within)
      ++i; // skip the option's value, whatever it is
  }
}

/// Returns "FILE:LINE: " for the line of the configuration file that sets `key`, or nothing.
inline std::string where_in_file(const std::string& file, const std::string& key) {
  std::ifstream in(file);
  std::string line;
  for (unsigned n = 1; std::getline(in, line); ++n) {
    const std::size_t from = line.find_first_not_of(" \t\"'");
    if (from == std::string::npos || line.compare(from, key.size(), key) != 0) continue;
    const std::size_t end = from + key.size();
    if (end == line.size() || std::string_view(" \t=\"'\r").find(line[end]) != std::string::npos)
      return file + ":" + std::to_string(n) + ": ";
  }
  return "";
}

/// Returns the refusal as a sentence, with the line of the configuration file when the fault is
/// there.
inline std::string sentence_of(const CLI::App& a, const CLI::ParseError& e, int argc, char** argv) {
  std::string what = e.what();
  const CLI::Option* config = a.get_config_ptr();
  const std::string file =
      config != nullptr && !config->results().empty() ? config->results().front() : "";
  constexpr std::string_view cli11_key = "INI was not able to parse ";
  if (what.starts_with(cli11_key)) {
    const std::string key = what.substr(cli11_key.size());
    std::vector<std::string> names;
    long_names(a, names);
    for (std::string& name : names)
      name.erase(0, 2);
    return where_in_file(file, key) + "'" + key + "': there is no such key" +
           suggestion(key, names);
  }
  if (file.empty() || !what.starts_with("--")) return what;
  const std::string name = what.substr(0, what.find_first_of(": "));
  for (int i = 1; i < argc; ++i)
    if (std::string_view(argv[i]).starts_with(name))
      return what; // the command line overrides the configuration file
  return where_in_file(file, name.substr(2)) + what;
}

/// Parses the program's own arguments, then calls check(), which may also throw CLI::ParseError.
/// Prints the help, the version or the refusal itself.
template <class Check> parsed parse_arguments(CLI::App& a, int argc, char** argv, Check&& check) {
  const command_line& all = whole_command_line();
  const std::string program = a.get_name().substr(0, a.get_name().find(' '));
  try {
    // An argument of the program that stands before "--" would be unknown to EAL, or be taken for
    // an argument of EAL.
    for (int i = 1; i < all.own; ++i) {
      const std::string word = all.argv[i];
      const std::string name = word.substr(0, word.find('='));
      if (!name.starts_with("--") || name == "--log-level" ||
          a.get_option_no_throw(name) == nullptr)
        continue;
      throw CLI::ExtrasError("'" + name + "' is an argument of " + program +
                                 " and stands before \"--\": write " + program +
                                 " [EAL arguments] -- " + name + " ...",
                             CLI::ExitCodes::ExtrasError);
    }
    refuse_unknown(a, argc, argv);
    a.parse(argc, argv);
    check();
  } catch (const CLI::Success& e) { // help and version
    return {false, a.exit(e) == 0 ? 0 : 2};
  } catch (const CLI::ParseError& e) {
    std::string what = sentence_of(a, e, argc, argv);
    if (all.argc > 1 && all.own == all.argc && what.ends_with("is required"))
      what += "; the arguments of " + program + " must stand behind \"--\", which is missing";
    std::fprintf(stderr, "%s: %s\nRun with --help for more information.\n", program.c_str(),
                 what.c_str());
    return {false, 2};
  }
  return {true, 0};
}

} // namespace chainring::app
