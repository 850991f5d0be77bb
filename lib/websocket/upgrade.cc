// SPDX-License-Identifier: BSD-3-Clause
#include "websocket/upgrade.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <openssl/evp.h>
#include <optional>

namespace chainring::websocket {

namespace {

constexpr std::size_t none = std::string_view::npos;

char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

bool same_word(std::string_view a, std::string_view b) noexcept {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                            [](char x, char y) { return lower(x) == lower(y); });
}

/// A character of a token (RFC 9110, 5.6.2).
bool token_character(char c) noexcept {
  return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') ||
         (c != '\0' && std::strchr("!#$%&'*+-.^_`|~", c) != nullptr);
}

std::string_view trimmed(std::string_view text) noexcept {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == none) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// Calls fn(word) for each word of a list with commas.
template <class F> void for_each_word(std::string_view list, F&& fn) noexcept {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    if (const std::string_view word = trimmed(list.substr(0, comma)); !word.empty()) fn(word);
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
}

/// A key is the Base64 of 16 octets: 22 characters and two signs of equality (RFC 6455, 4.1).
bool valid_key(std::string_view key) noexcept {
  if (key.size() != 24 || !key.ends_with("==")) return false;
  return std::ranges::all_of(key.substr(0, 22), [](char c) {
    return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') || c == '+' || c == '/';
  });
}

/// What the header lines say.
struct headers {
  bool upgrade = false, connection = false, subprotocol = false;
  std::optional<std::string_view> host, key, version, origin;

  /// Takes one line. Returns 0, or the code with which the request is refused.
  std::uint16_t take(std::string_view line, const upgrade_rules& rules) noexcept {
    const std::size_t colon = line.find(':');
    if (colon == none || colon == 0) return 400;
    const std::string_view name = line.substr(0, colon);
    // A line that begins with a blank goes on with the line before, which RFC 9112 forbids.
    if (!std::ranges::all_of(name, token_character)) return 400;
    const std::string_view value = trimmed(line.substr(colon + 1));
    if (std::ranges::any_of(value, [](char c) {
          return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
        }))
      return 400;
    for (const auto& [once, of] : {std::pair{std::string_view("host"), &host},
                                   {"sec-websocket-key", &key},
                                   {"sec-websocket-version", &version},
                                   {"origin", &origin}})
      if (same_word(name, once)) {
        if (*of) return 400;
        *of = value;
      }
    if (same_word(name, "upgrade"))
      for_each_word(value, [&](std::string_view word) { upgrade |= same_word(word, "websocket"); });
    if (same_word(name, "connection"))
      for_each_word(value,
                    [&](std::string_view word) { connection |= same_word(word, "upgrade"); });
    if (same_word(name, "sec-websocket-protocol"))
      for_each_word(value,
                    [&](std::string_view word) { subprotocol |= word == rules.subprotocol; });
    // A body would be taken for frames.
    if (same_word(name, "transfer-encoding")) return 400;
    if (same_word(name, "content-length") && value != "0") return 400;
    return 0;
  }
};

/// Returns 101, or the code with which the request is refused.
std::uint16_t judge(std::string_view head, const upgrade_rules& rules,
                    std::string_view& key) noexcept {
  const std::size_t end = head.find("\r\n");
  const std::string_view line = head.substr(0, end);
  const std::size_t first = line.find(' '), last = line.rfind(' ');
  if (first == none || last == first) return 400;
  const std::string_view version = line.substr(last + 1);
  if (!version.starts_with("HTTP/")) return 400;
  if (version != "HTTP/1.1") return 505;
  std::string_view target = line.substr(first + 1, last - first - 1);
  if (target.find_first_of(" \t") != none) return 400;
  if (line.substr(0, first) != "GET") return 405;
  target = target.substr(0, target.find('?'));
  headers all;
  head.remove_prefix(end + 2);
  while (!head.empty()) {
    const std::size_t size = head.find("\r\n");
    if (const std::uint16_t wrong = all.take(head.substr(0, size), rules); wrong != 0) return wrong;
    head.remove_prefix(size + 2);
  }
  if (!all.host) return 400;
  if (target != rules.path) return 404;
  if (!all.upgrade || !all.connection) return 426;
  if (all.version != "13") return 426;
  if (!all.key || !valid_key(*all.key) || !all.subprotocol) return 400;
  if (all.origin && !rules.origins.empty() &&
      std::ranges::none_of(rules.origins,
                           [&](const std::string& o) { return same_word(o, *all.origin); }))
    return 403;
  key = *all.key;
  return 101;
}

struct phrase {
  std::uint16_t code;
  const char* text;    ///< the reason phrase
  const char* headers; ///< what the code needs
};
constexpr std::array<phrase, 7> phrases{{
    {400, "Bad Request", ""},
    {403, "Forbidden", ""},
    {404, "Not Found", ""},
    {405, "Method Not Allowed", "Allow: GET\r\n"},
    {426, "Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"},
    {431, "Request Header Fields Too Large", ""},
    {505, "HTTP Version Not Supported", ""},
}};

} // namespace

upgrade read_upgrade(std::string_view octets, const upgrade_rules& rules) noexcept {
  const auto refuse = [](std::uint16_t code) {
    return upgrade{
        .status = upgrade_status::refused, .http_status = code, .head_size = 0, .key = {}};
  };
  constexpr std::string_view method = "GET ";
  // What is not HTTP at all, such as MQTT without WebSocket, is refused at once.
  const std::string_view start = octets.substr(0, method.size());
  if (!std::ranges::all_of(start, [](char c) { return token_character(c) || c == ' '; }))
    return refuse(400);
  const std::size_t blank = octets.substr(0, rules.head_size_max).find("\r\n\r\n");
  if (blank == none || blank + 4 > rules.head_size_max)
    return octets.size() < rules.head_size_max ? upgrade{} : refuse(431);
  upgrade found{
      .status = upgrade_status::accepted, .http_status = 101, .head_size = blank + 4, .key = {}};
  found.http_status = judge(octets.substr(0, blank + 2), rules, found.key);
  if (found.http_status != 101) return refuse(found.http_status);
  return found;
}

std::size_t answer(std::span<char> room, const upgrade& to, std::string_view subprotocol) noexcept {
  int n = 0;
  if (to.status == upgrade_status::accepted) {
    constexpr std::string_view guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; // RFC 6455, 1.3
    std::array<char, 64> text{};
    if (to.key.size() + guid.size() > text.size()) return 0;
    std::copy(guid.begin(), guid.end(), std::copy(to.key.begin(), to.key.end(), text.begin()));
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned digest_size = 0;
    if (EVP_Digest(text.data(), to.key.size() + guid.size(), digest.data(), &digest_size,
                   EVP_sha1(), nullptr) != 1 ||
        digest_size != 20)
      return 0;
    std::array<unsigned char, 32> accept{};
    EVP_EncodeBlock(accept.data(), digest.data(), 20);
    n = std::snprintf(room.data(), room.size(),
                      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
                      "Sec-WebSocket-Protocol: %.*s\r\n\r\n",
                      reinterpret_cast<const char*>(accept.data()),
                      static_cast<int>(subprotocol.size()), subprotocol.data());
  } else {
    const auto p = std::ranges::find(phrases, to.http_status, &phrase::code);
    if (p == phrases.end()) return 0;
    n = std::snprintf(room.data(), room.size(),
                      "HTTP/1.1 %u %s\r\n%sConnection: close\r\nContent-Length: 0\r\n\r\n", p->code,
                      p->text, p->headers);
  }
  return n > 0 && static_cast<std::size_t>(n) < room.size() ? static_cast<std::size_t>(n) : 0;
}

} // namespace chainring::websocket
