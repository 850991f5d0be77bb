// SPDX-License-Identifier: BSD-3-Clause
#include "support/crash_case.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>

namespace chainring::test {

namespace {

std::string hex(std::uint64_t v) {
  char text[24];
  std::snprintf(text, sizeof text, "%llx", static_cast<unsigned long long>(v));
  return text;
}

char digit(unsigned v) {
  return static_cast<char>(v < 10 ? '0' + v : 'a' + (v - 10));
}
int value_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'z') return c - 'a' + 10;
  return -1;
}

/// Cuts `text` at the next `mark`, and returns what stood before it.
std::string cut(std::string& text, char mark) {
  const auto at = text.find(mark);
  std::string head = text.substr(0, at);
  text = at == std::string::npos ? std::string() : text.substr(at + 1);
  return head;
}

bool parse_step(std::string text, crash_step& step) {
  const std::string kind = cut(text, '@');
  if (kind != "power" && kind != "death") return false;
  step.kind = kind == "power" ? crash_kind::power_loss : crash_kind::process_death;
  std::string where = cut(text, ':');
  step.position = std::strtoull(cut(where, '<').c_str(), nullptr, 10);
  step.struck = std::strtoull(where.c_str(), nullptr, 10);
  while (!text.empty()) {
    std::string choice = cut(text, ',');
    const std::uint64_t line = std::strtoull(cut(choice, '=').c_str(), nullptr, 16);
    line_choice c;
    c.stores = static_cast<std::uint32_t>(std::strtoul(cut(choice, 'w').c_str(), nullptr, 10));
    for (std::size_t w = 0; w < choice.size() && w < 8; ++w) {
      if (value_of(choice[w]) < 0) return false;
      c.version[w] = static_cast<std::uint8_t>(value_of(choice[w]));
    }
    step.kept.emplace_back(line, c);
  }
  return true;
}

} // namespace

std::string crash_case::text() const {
  std::string out = std::to_string(seed) + "|" + schedule_text + "|";
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const crash_step& step = steps[i];
    out += i == 0 ? "" : ";";
    out += step.kind == crash_kind::power_loss ? "power@" : "death@";
    out += std::to_string(step.position);
    if (step.struck != 0) out += "<" + std::to_string(step.struck);
    char before = ':';
    for (const auto& [line, c] : step.kept) {
      out += before + hex(line) + "=" + std::to_string(c.stores);
      before = ',';
      if (std::any_of(c.version.begin(), c.version.end(), [](auto v) { return v != 0; })) {
        out += 'w';
        for (unsigned v : c.version)
          out += digit(v);
      }
    }
  }
  return out + "|" + scenario_name;
}

std::optional<crash_case> crash_case::from_text(const std::string& text) {
  crash_case c;
  std::string rest = text;
  c.seed = std::strtoull(cut(rest, '|').c_str(), nullptr, 10);
  c.schedule_text = cut(rest, '|');
  std::string steps = cut(rest, '|');
  c.scenario_name = rest;
  while (!steps.empty()) {
    crash_step step;
    if (!parse_step(cut(steps, ';'), step)) return std::nullopt;
    c.steps.push_back(std::move(step));
  }
  if (c.scenario_name.empty()) return std::nullopt;
  return c;
}

std::string source_path(const char* file_name) {
  std::string path = file_name;
  const std::string root = std::string(CHAINRING_SOURCE_ROOT) + "/";
  if (path.starts_with(root)) return path.substr(root.size());
  while (path.starts_with("../"))
    path.erase(0, 3);
  return path;
}

const std::string& source_line(const std::string& path, unsigned line) {
  static std::map<std::string, std::vector<std::string>> files;
  static const std::string none;
  auto [at, added] = files.try_emplace(path);
  if (added) {
    std::ifstream in(path.starts_with('/') ? path
                                           : std::string(CHAINRING_SOURCE_ROOT) + "/" + path);
    for (std::string text; std::getline(in, text);)
      at->second.push_back(text);
  }
  return line >= 1 && line <= at->second.size() ? at->second[line - 1] : none;
}

std::string label_of(const std::string& path, unsigned line) {
  for (unsigned up = 0; up < 12 && up < line; ++up) {
    const std::string& text = source_line(path, line - up);
    const auto comment = text.find("//");
    if (comment == std::string::npos) {
      if (up > 2) break; // a call over several lines may stand between
      continue;
    }
    const auto open = text.find('[', comment);
    const auto close = text.find(']', comment);
    if (open == std::string::npos || close == std::string::npos || close < open) continue;
    if (text.find_first_not_of(" /", comment) == open) return text.substr(open, close - open + 1);
  }
  return {};
}

std::string place(const site& s) {
  const std::string path = source_path(s.file_name());
  const std::string label = label_of(path, s.line());
  return path + ":" + std::to_string(s.line()) + (label.empty() ? "" : " " + label);
}

std::string describe(const crash_model& model, const kept_lines& kept,
                     const std::vector<std::uint64_t>& must_drop) {
  constexpr int lines_max = 24;
  std::string out;
  int shown = 0;
  for (const auto& [offset, words] : model.pending()) {
    const auto at = std::find_if(kept.begin(), kept.end(),
                                 [o = offset](const auto& k) { return k.first == o; });
    const bool needed = std::find(must_drop.begin(), must_drop.end(), offset) != must_drop.end();
    if (at == kept.end() && !needed) continue;
    if (++shown > lines_max) return out + "    ... and more lines\n";
    const line_choice all = model.everything(offset);
    const line_choice c = at == kept.end() ? line_choice{} : at->second;
    out += "    line 0x" + hex(offset) +
           (c == all             ? ": kept\n"
            : c == line_choice{} ? ": lost\n"
                                 : ": kept in part\n");
    std::uint32_t stores = 0;
    std::array<std::uint8_t, 8> seen{};
    int rows = 0;
    for (const pending_word& p : words) {
      const bool stays = p.ordered ? stores++ < c.stores : ++seen[p.word] <= c.version[p.word];
      if (++rows > 10) {
        out += "      ... and more words\n";
        break;
      }
      out += std::string("      ") + (stays ? "kept" : "lost") + " +" + std::to_string(8 * p.word) +
             " = 0x" + hex(p.value) + (p.ordered ? "  store  " : "  word   ") + place(p.where) +
             "\n";
    }
  }
  return out;
}

} // namespace chainring::test
