// SPDX-License-Identifier: BSD-3-Clause
#include "common/stream.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <mutex>
#include <rte_log.h>
#include <string_view>
#include <unistd.h>

namespace chainring::app {

namespace {

constexpr std::array<std::string_view, 8> level_names = {
    "emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"};
constexpr std::size_t errors_max = 16;

/// The one log of this process. The lock of its FILE is held during write_log().
struct log_stream {
  std::string path;
  int fd = STDERR_FILENO;
  bool with_times = true;
  bool in_line = false; ///< true when the last write ended inside a line
  bool is_open = false;
  std::mutex errors_lock;
  std::vector<std::string> errors;
};
log_stream& the_log() {
  static log_stream s;
  return s;
}

void put(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return; // the log itself failed, so there is nowhere to report it
    text.remove_prefix(static_cast<std::size_t>(n));
  }
}

std::string time_now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  std::array<char, 40> text{};
  const std::size_t n = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  (void)std::snprintf(text.data() + n, text.size() - n, ".%03ldZ ", now.tv_nsec / 1'000'000);
  return text.data();
}

void note_error(log_stream& s, std::string_view text) {
  if (rte_log_cur_msg_loglevel() < 1 || rte_log_cur_msg_loglevel() > static_cast<int>(RTE_LOG_ERR))
    return;
  while (!text.empty() && text.back() == '\n')
    text.remove_suffix(1);
  const std::lock_guard guard(s.errors_lock);
  if (s.errors.size() < errors_max && !text.empty()) s.errors.emplace_back(text);
}

ssize_t write_log(void* cookie, const char* data, std::size_t size) {
  log_stream& s = *static_cast<log_stream*>(cookie);
  const std::string_view text(data, size);
  note_error(s, text);
  if (!s.with_times) {
    put(s.fd, text);
    return static_cast<ssize_t>(size);
  }
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    if (!s.in_line) out += time_now();
    out += text.substr(at, end - at);
    s.in_line = text[end - 1] != '\n';
    at = end;
  }
  put(s.fd, out);
  return static_cast<ssize_t>(size);
}

result<int> open_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0)
    return system_error(errc::io, "--log-file " + path + ": the file cannot be opened", errno);
  return fd;
}

} // namespace

result<log_level> parse_log_level(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  log_level l{colon == std::string::npos ? "*" : text.substr(0, colon), 0};
  const std::string name = colon == std::string::npos ? text : text.substr(colon + 1);
  for (unsigned i = 0; i < level_names.size(); ++i)
    if (name == level_names[i] || name == std::to_string(i + 1)) l.level = i + 1;
  if (l.level == 0 || l.pattern.empty()) {
    std::string all;
    for (const std::string_view n : level_names)
      all += (all.empty() ? "" : ", ") + std::string(n);
    return error{errc::invalid_argument, "'" + text +
                                             "': expected LEVEL or TYPES:LEVEL, such as "
                                             "chainring.*:debug; the levels are " +
                                             all};
  }
  return l;
}

void apply(const std::vector<log_level>& levels) {
  for (const log_level& l : levels)
    (void)rte_log_set_level_pattern(l.pattern.c_str(), l.level);
}

result<void> open_log(const std::string& path, bool with_times) {
  log_stream& s = the_log();
  if (s.is_open) return {};
  if (!path.empty()) {
    auto fd = open_file(path);
    if (!fd) return fd.error();
    s.fd = *fd;
  }
  s.path = path;
  s.with_times = with_times;
  FILE* f = fopencookie(&s, "w", {nullptr, write_log, nullptr, nullptr});
  if (f == nullptr) return error{errc::no_space, "there is no memory for the log's stream"};
  s.is_open = true;
  rte_openlog_stream(f);
  return {};
}

result<void> reopen_log() {
  log_stream& s = the_log();
  if (s.path.empty()) return {};
  auto fd = open_file(s.path);
  if (!fd) return fd.error();
  // dup3() keeps the descriptor's number, so a thread that is writing a line writes it either to
  // the old file or to the new one.
  const bool moved = dup3(*fd, s.fd, O_CLOEXEC) >= 0;
  const int why = errno;
  ::close(*fd);
  if (!moved)
    return system_error(errc::io, "--log-file " + s.path + ": the file cannot be opened again",
                        why);
  return {};
}

std::vector<std::string> logged_errors() {
  log_stream& s = the_log();
  const std::lock_guard guard(s.errors_lock);
  return s.errors;
}

} // namespace chainring::app
