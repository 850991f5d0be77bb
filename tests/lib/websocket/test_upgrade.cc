// SPDX-License-Identifier: BSD-3-Clause
#include <array>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "websocket/upgrade.h"

namespace chainring::websocket {
namespace {

/// The request of RFC 6455, 1.3, with the subprotocol of MQTT. `line` replaces the line that begins
/// with `name`, or is added.
std::string request(std::string_view name = {}, std::string_view line = {},
                    std::string_view first = "GET /mqtt HTTP/1.1") {
  std::string text(first);
  text += "\r\n";
  bool replaced = name.empty();
  for (const std::string_view own :
       {"Host: server.example.com", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: mqtt",
        "Sec-WebSocket-Version: 13"}) {
    const bool mine = !name.empty() && own.starts_with(name);
    replaced |= mine;
    if (mine && line.empty()) continue;
    text += mine ? line : own;
    text += "\r\n";
  }
  if (!replaced) {
    text += line;
    text += "\r\n";
  }
  return text + "\r\n";
}

int status_of(const std::string& text, const upgrade_rules& rules = {}) {
  return read_upgrade(text, rules).http_status;
}

upgrade refused(std::uint16_t code) {
  return {.status = upgrade_status::refused, .http_status = code, .head_size = 0, .key = {}};
}

TEST(Upgrade, TheExampleOfTheSpecificationIsAcceptedAndAnsweredAsItSays) {
  const std::string text = request(), with_more = text + "frames";
  const upgrade found = read_upgrade(with_more, {});
  ASSERT_EQ(found.status, upgrade_status::accepted);
  EXPECT_EQ(found.head_size, text.size());
  std::array<char, answer_size_max> room{};
  const std::string said(room.data(), answer(room, found, "mqtt"));
  EXPECT_EQ(said, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                  "Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
                  "Sec-WebSocket-Protocol: mqtt\r\n\r\n");
}

TEST(Upgrade, EveryBeginningOfARequestNeedsMore) {
  const std::string text = request();
  for (std::size_t n = 0; n < text.size(); ++n)
    EXPECT_EQ(read_upgrade(std::string_view(text).substr(0, n), {}).status,
              upgrade_status::need_more)
        << n;
}

TEST(Upgrade, WhatBrowsersSendIsAccepted) {
  for (const auto& [name, line] : std::vector<std::pair<std::string, std::string>>{
           {"Connection", "Connection: keep-alive, Upgrade"},
           {"Connection", "connection:upgrade"},
           {"Upgrade", "UPGRADE: WebSocket"},
           {"Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: mqttv3.1 , mqtt"},
           {"Origin", "Origin: https://example.org"},
           {"Sec-WebSocket-Extensions", "Sec-WebSocket-Extensions: permessage-deflate"},
           {"Cookie", "Cookie: a=\xc3\xa4; b"},
           {"Content-Length", "Content-Length: 0"}})
    EXPECT_EQ(status_of(request(name, line)), 101) << line;
  EXPECT_EQ(status_of(request({}, {}, "GET /mqtt?token=1 HTTP/1.1")), 101);
}

TEST(Upgrade, WhatIsNotTheRequestIsRefusedWithTheStatusThatFits) {
  const std::vector<std::pair<std::string, int>> lines = {
      {"POST /mqtt HTTP/1.1", 405},
      {"GET /other HTTP/1.1", 404},
      {"GET /mqtt/ HTTP/1.1", 404},
      {"GET mqtt HTTP/1.1", 404},
      {"GET /mqtt HTTP/1.0", 505},
      {"GET /mqtt HTTP/2", 505},
      {"GET /mqtt", 400},
      {"GET  HTTP/1.1", 404},
      {"GET /mqtt x HTTP/1.1", 400},
      {"GET /mqtt FTP/1.1", 400},
      {"GET", 400},
  };
  for (const auto& [line, status] : lines)
    EXPECT_EQ(status_of(request({}, {}, line)), status) << line;
  const std::vector<std::tuple<std::string, std::string, int>> headers = {
      {"Host", "", 400},
      {"Host", "Host: a\r\nHost: b", 400},
      {"Upgrade", "", 426},
      {"Upgrade", "Upgrade: h2c", 426},
      {"Connection", "", 426},
      {"Connection", "Connection: close", 426},
      {"Sec-WebSocket-Version", "", 426},
      {"Sec-WebSocket-Version", "Sec-WebSocket-Version: 8", 426},
      {"Sec-WebSocket-Version", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13", 400},
      {"Sec-WebSocket-Key", "", 400},
      {"Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=", 400},
      {"Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!==", 400},
      {"Sec-WebSocket-Protocol", "", 400},
      {"Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: mqttv3.1", 400},
      {"Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: MQTT", 400},
      {"X", "Transfer-Encoding: chunked", 400},
      {"X", "Content-Length: 5", 400},
      {"X", "no colon", 400},
      {"X", ": no name", 400},
      {"X", " folded: line", 400},
      {"X", "space before : colon", 400},
      {"X", std::string("NUL: a\0b", 8), 400},
      {"X", "bare: a\rb", 400},
  };
  for (const auto& [name, line, status] : headers)
    EXPECT_EQ(status_of(request(name, line)), status) << line;
  for (const char* text : {"\x10\x12", "{\"a\"", "GET\r", "\r\n"})
    EXPECT_EQ(status_of(text), 400) << text;
}

TEST(Upgrade, OnlyTheListedOriginsConnectWhereAnyAreListed) {
  const std::vector<std::string> origins{"https://example.org", "null"};
  const upgrade_rules rules{.origins = origins};
  EXPECT_EQ(status_of(request("Origin", "Origin: https://example.org"), rules), 101);
  EXPECT_EQ(status_of(request("Origin", "Origin: https://EXAMPLE.org"), rules), 101);
  EXPECT_EQ(status_of(request("Origin", "Origin: https://example.org.evil"), rules), 403);
  EXPECT_EQ(status_of(request("Origin", "Origin:"), rules), 403);
  EXPECT_EQ(status_of(request(), rules), 101) << "no browser";
}

TEST(Upgrade, ARequestThatIsTooLongIsRefusedBeforeItIsWhole) {
  const std::string whole = request("X", "X: " + std::string(5000, 'x'));
  EXPECT_EQ(status_of(whole, {.head_size_max = static_cast<std::uint32_t>(whole.size())}), 101);
  EXPECT_EQ(status_of(whole, {.head_size_max = static_cast<std::uint32_t>(whole.size()) - 1}), 431);
  const std::string open = "GET /mqtt HTTP/1.1\r\nX: " + std::string(1000, 'x');
  EXPECT_EQ(status_of(open.substr(0, 999), {.head_size_max = 1000}), 0);
  EXPECT_EQ(status_of(open.substr(0, 1000), {.head_size_max = 1000}), 431);
}

TEST(Upgrade, ARefusalSaysWhyAndEndsTheConnection) {
  std::array<char, answer_size_max> room{};
  for (const std::uint16_t code : {400, 403, 404, 405, 426, 431, 505}) {
    const std::string said(room.data(), answer(room, refused(code), "mqtt"));
    EXPECT_TRUE(said.starts_with("HTTP/1.1 " + std::to_string(code) + " ")) << said;
    EXPECT_NE(said.find("Connection: close\r\n"), std::string::npos);
    EXPECT_TRUE(said.ends_with("\r\n\r\n"));
  }
  EXPECT_EQ(answer(std::span(room).first(20), refused(400), "mqtt"), 0u);
}

} // namespace
} // namespace chainring::websocket
