// SPDX-License-Identifier: BSD-3-Clause
#include "format.h"

#include <cstdio>
#include <cstring>
#include <ctime>

namespace chainring::client {
namespace {

constexpr const char* known_letters = "%tpqrlmxXIU";
constexpr const char* known_escapes = "nrt0\\ae";
constexpr const char* escaped = "\n\r\t\0\\\a\x1b";

void append_hexadecimal(std::string& out, const std::vector<std::byte>& payload,
                        const char* digits) {
  for (const std::byte b : payload) {
    out += digits[static_cast<unsigned>(b) >> 4];
    out += digits[static_cast<unsigned>(b) & 15];
  }
}

void append_time(std::string& out, char letter) {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  char text[64];
  if (letter == 'U') {
    std::snprintf(text, sizeof text, "%lld.%09ld", static_cast<long long>(now.tv_sec), now.tv_nsec);
  } else {
    tm local{};
    localtime_r(&now.tv_sec, &local);
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S%z", &local);
  }
  out += text;
}

void append_field(std::string& out, char letter, const delivery& d) {
  switch (letter) {
  case 't':
    out += d.topic;
    break;
  case 'p':
    out.append(reinterpret_cast<const char*>(d.payload.data()), d.payload.size());
    break;
  case 'q':
    out += std::to_string(static_cast<int>(d.flags.qos()));
    break;
  case 'r':
    out += d.flags.retain() ? '1' : '0';
    break;
  case 'l':
    out += std::to_string(d.payload.size());
    break;
  case 'm':
    out += std::to_string(d.msg_id);
    break;
  case 'x':
    append_hexadecimal(out, d.payload, "0123456789abcdef");
    break;
  case 'X':
    append_hexadecimal(out, d.payload, "0123456789ABCDEF");
    break;
  case 'I':
  case 'U':
    append_time(out, letter);
    break;
  default:
    out += letter;
  }
}

} // namespace

std::string fault_of_format(const std::string& format) {
  for (std::size_t i = 0; i < format.size(); ++i) {
    const char c = format[i];
    if (c != '%' && c != '\\') continue;
    const char next = ++i < format.size() ? format[i] : '\0';
    if (next == '\0') return std::string("it ends with '") + c + "'";
    if (std::strchr(c == '%' ? known_letters : known_escapes, next) == nullptr)
      return std::string("there is no '") + c + next + "'";
  }
  return {};
}

bool print(const delivery& d, const output_options& options) {
  std::string line;
  if (options.format.empty()) {
    if (options.verbose) line = d.topic + " ";
    append_field(line, 'p', d);
  }
  for (std::size_t i = 0; i < options.format.size(); ++i) {
    const char c = options.format[i];
    if (c == '%')
      append_field(line, options.format[++i], d);
    else if (c == '\\')
      line += escaped[std::strchr(known_escapes, options.format[++i]) - known_escapes];
    else
      line += c;
  }
  if (options.newline) line += '\n';
  std::fwrite(line.data(), 1, line.size(), stdout);
  return std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
}

} // namespace chainring::client
