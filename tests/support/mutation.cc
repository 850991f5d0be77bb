// SPDX-License-Identifier: BSD-3-Clause
#include "support/mutation.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <list>
#include <sstream>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "support/crash_case.h"

namespace chainring::test {

namespace {

namespace fs = std::filesystem;

/// The text with comments, strings and characters blanked, lines kept.
std::string code_only(const std::string& text) {
  std::string out = text;
  enum { code, line_comment, block_comment, string, character } in = code;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i], next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (in == code) {
      if (c == '/' && next == '/')
        in = line_comment;
      else if (c == '/' && next == '*')
        in = block_comment;
      else if (c == '"')
        in = string;
      else if (c == '\'' && (i == 0 || !std::isalnum(static_cast<unsigned char>(text[i - 1]))))
        in = character;
    } else if (in == line_comment) {
      if (c == '\n') in = code;
    } else if (in == block_comment) {
      if (c == '*' && next == '/') {
        out[i] = out[i + 1] = ' ';
        ++i;
        in = code;
        continue;
      }
    } else {
      if (c == '\\') {
        out[i] = ' ';
        if (next != '\n') out[++i] = ' ';
        continue;
      }
      if (c == (in == string ? '"' : '\'')) {
        out[i] = ' ';
        in = code;
        continue;
      }
    }
    if (in != code && c != '\n') out[i] = ' ';
  }
  return out;
}

/// The seam call whose name starts at `at`, as `m.flush (` or `m->drain(`; empty where it is none.
std::string call_at(const std::string& text, std::size_t at) {
  constexpr const char* space = " \t\n";
  const auto before = at == 0 ? std::string::npos : text.find_last_not_of(space, at - 1);
  if (before == std::string::npos) return {};
  const bool member =
      text[before] == '.' || (text[before] == '>' && before > 0 && text[before - 1] == '-');
  if (!member) return {};
  for (const char* name : {"flush_read", "flush", "drain"}) {
    if (text.compare(at, std::strlen(name), name) != 0) continue;
    const auto after = text.find_first_not_of(space, at + std::strlen(name));
    if (after != std::string::npos && text[after] == '(') return name;
  }
  return {};
}

/// The call passes on the site it was given, by the name `s`: then its caller's is the site.
bool forwards_site(const std::string& text, std::size_t at) {
  const auto open = text.find('(', at);
  const auto end = text.rfind(')', text.find(';', open));
  if (open == std::string::npos || end == std::string::npos || end < open) return false;
  const std::string arguments = text.substr(open + 1, end - open - 1);
  const auto last = arguments.find_last_of(" ,(\n");
  return arguments.substr(last == std::string::npos ? 0 : last + 1) == "s";
}

void scan(const fs::path& file, const std::string& path, std::vector<call_site>& out) {
  std::ifstream in(file);
  std::stringstream buffer;
  buffer << in.rdbuf();
  const std::string text = code_only(buffer.str());
  unsigned line = 1;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') ++line;
    call_site s;
    s.call = call_at(text, i);
    if (s.call.empty() || forwards_site(text, i)) continue;
    s.path = path;
    s.line = line;
    const auto end =
        text.begin() + static_cast<std::ptrdiff_t>(std::min(text.find(';', i), text.size()));
    s.line_last = line + static_cast<unsigned>(
                             std::count(text.begin() + static_cast<std::ptrdiff_t>(i), end, '\n'));
    s.label = label_of(path, s.line);
    out.push_back(std::move(s));
  }
}

struct outcome {
  bool failed = false;
  std::string by;
};

/// Explores in a child; a failure, a crash and a hang all count as failing.
outcome run_mutant(const std::vector<const scenario*>& scenarios, const explorer_options& o,
                   unsigned hang_seconds) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    const int null = open("/dev/null", O_WRONLY);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    for (std::size_t i = 0; i < scenarios.size(); ++i)
      if (!explore(*scenarios[i], o).ok())
        _exit(static_cast<int>(std::min<std::size_t>(i + 1, 200)));
    _exit(0);
  }
  if (child < 0) return {false, "fork failed"};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(hang_seconds);
  int status = 0;
  for (;;) {
    const pid_t done = waitpid(child, &status, WNOHANG);
    if (done == child) break;
    if (std::chrono::steady_clock::now() > deadline) {
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      return {true, "hang"};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (WIFSIGNALED(status)) return {true, "signal " + std::to_string(WTERMSIG(status))};
  const auto code = static_cast<std::size_t>(WEXITSTATUS(status));
  if (code == 0) return {};
  return {true, code <= scenarios.size() ? scenarios[code - 1]->name : "exit"};
}

} // namespace

std::string call_site::name() const {
  return path + ":" + std::to_string(line) + " " + call + (label.empty() ? "" : " " + label);
}

std::vector<call_site> find_call_sites(const std::vector<std::string>& under) {
  std::vector<call_site> out;
  const fs::path root = CHAINRING_SOURCE_ROOT;
  for (const std::string& folder : under) {
    std::vector<fs::path> files;
    if (fs::is_regular_file(root / folder)) {
      files.push_back(root / folder);
    } else if (fs::is_directory(root / folder)) {
      for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
        const auto kind = entry.path().extension();
        if (kind == ".h" || kind == ".cc") files.push_back(entry.path());
      }
    }
    std::sort(files.begin(), files.end());
    for (const fs::path& f : files)
      scan(f, fs::relative(f, root).generic_string(), out);
  }
  return out;
}

site_filter::site_filter(const std::vector<call_site>& sites)
    : sites_(sites), reached_(sites.size(), false) {}

const std::vector<int>& site_filter::at(const site& s) {
  const auto [it, fresh] = at_.try_emplace({s.file_name(), s.line()});
  if (!fresh) return it->second;
  const std::string path = source_path(s.file_name());
  for (std::size_t i = 0; i < sites_.size(); ++i) {
    const call_site& c = sites_[i];
    if (c.path == path && s.line() >= c.line && s.line() <= c.line_last)
      it->second.push_back(static_cast<int>(i));
  }
  if (it->second.empty()) unknown_.insert(place(s));
  return it->second;
}

bool site_filter::allowed(const site& s) noexcept {
  bool off = false;
  for (const int i : at(s)) {
    reached_[static_cast<std::size_t>(i)] = true;
    off = off || i == disabled_;
  }
  return !off;
}

bool site_filter::on_flush(const void*, std::size_t, const site& s) noexcept {
  return allowed(s);
}
bool site_filter::on_drain(const site& s) noexcept {
  return allowed(s);
}

mutation_report mutate(const std::vector<scenario>& scenarios, const explorer_options& options,
                       const mutation_options& which) {
  const auto start = std::chrono::steady_clock::now();
  mutation_report report;
  const std::vector<call_site> sites = find_call_sites(which.under);
  explorer_options o = options;
  o.print = false;

  struct baseline {
    const scenario* what;
    site_filter seen;
    double seconds;
  };
  std::list<baseline> all;
  for (const scenario& s : scenarios) {
    baseline& b = all.emplace_back(baseline{&s, site_filter(sites), 0});
    o.observer = &b.seen;
    const explorer_report r = explore(s, o);
    if (!r.ok()) {
      report.baseline = r.failure;
      return report;
    }
    b.seconds = r.seconds;
  }
  all.sort([](const baseline& a, const baseline& b) { return a.seconds < b.seconds; });

  o.minimal = false;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    mutation_report::mutant m{sites[i], fate::unreached, {}};
    std::vector<const scenario*> reaching;
    for (const baseline& b : all)
      if (b.seen.reached(i)) reaching.push_back(b.what);
    if (!reaching.empty()) {
      site_filter filter(sites);
      filter.disable(static_cast<int>(i));
      o.observer = &filter;
      const outcome out = run_mutant(reaching, o, which.hang_seconds);
      m.result = out.failed ? fate::killed : fate::survived;
      m.by = out.by;
      for (const auto& [label, proof] : which.stay)
        if (m.result == fate::survived && m.where.label == label) {
          m.result = fate::stays;
          m.by = proof;
        }
    }
    report.mutants.push_back(std::move(m));
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

std::size_t mutation_report::count(fate f) const {
  return static_cast<std::size_t>(std::count_if(mutants.begin(), mutants.end(),
                                                [&](const mutant& m) { return m.result == f; }));
}

std::vector<std::string> mutation_report::names(fate f) const {
  std::vector<std::string> out;
  for (const mutant& m : mutants)
    if (m.result == f) out.push_back(m.where.name());
  return out;
}

std::string mutation_report::text() const {
  if (!baseline.empty()) return "mutation: a scenario fails with nothing switched off\n" + baseline;
  std::string out;
  for (const mutant& m : mutants)
    out += (m.result == fate::killed     ? "killed     "
            : m.result == fate::stays    ? "stays      "
            : m.result == fate::survived ? "SURVIVED   "
                                         : "unreached  ") +
           m.where.name() + (m.by.empty() ? "" : "  by: " + m.by) + "\n";
  char total[160];
  std::snprintf(
      total, sizeof total,
      "mutation: %zu killed of %zu reached; %zu stay, %zu survived, %zu unreached; %.1f s\n",
      count(fate::killed), mutants.size() - count(fate::unreached), count(fate::stays),
      count(fate::survived), count(fate::unreached), seconds);
  return out + total;
}

} // namespace chainring::test
