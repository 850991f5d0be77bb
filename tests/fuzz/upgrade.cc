// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: what a connection at a port for WebSocket receives. The first octet says into what
// pieces the rest is cut. What is above and what is sent must not depend on that.
#include <algorithm>

#include "fuzz.h"
#include "lib/stream/fake_streams.h"
#include "websocket/upgrade.h"
#include "websocket/websocket.h"

using namespace chainring;

namespace {

constexpr stream::connection me = 0;
constexpr std::uint32_t head_size_max = 1024;

struct seen {
  std::string payload, sent;
  int finished = 0, ended = 0;
  bool closed = false;
  bool operator==(const seen&) const = default;
};

/// Gives the octets to a layer in pieces of this size.
seen run(std::string_view octets, std::size_t piece) {
  stream::fake_streams below;
  stream::recording_above above;
  websocket::layer_options o;
  o.endpoints.push_back({.port = 1, .path = "/mqtt"});
  o.connections_max = 1;
  o.head_size_max = head_size_max;
  auto ws = websocket::layer::create(o, above);
  fuzz::expect(ws.ok(), "the options are refused");
  (*ws)->use(below);
  (*ws)->accepted(me, {}, 1);
  stream::fake_streams::line& line = below.lines[me];
  const std::uint64_t whole = octets.size();
  while (!octets.empty() && !line.closed) {
    // The memory has exactly the size of the piece, so that a read past its end is found.
    const std::string now(octets.substr(0, piece));
    (*ws)->received(me, std::as_bytes(std::span(now.data(), now.size())));
    octets.remove_prefix(now.size());
  }
  const stream::recording_above::heard& heard = above.all[me];
  if (!line.closed) {
    (*ws)->consumed(me, static_cast<std::uint32_t>(heard.text.size()));
    fuzz::expect(line.consumed == whole, "the window is not opened for what has arrived");
    (*ws)->close(me);
  }
  return {heard.text, line.sent, heard.finished, heard.ended, line.closed};
}

/// Checks that what was sent is an answer, and whole frames behind it.
void check_sent(const std::string& all) {
  if (all.empty()) return;
  std::string_view sent = all;
  const std::size_t end = sent.find("\r\n\r\n");
  fuzz::expect(sent.starts_with("HTTP/1.1 ") && end != std::string_view::npos,
               "something else than an answer was sent first");
  const bool upgraded = sent.starts_with("HTTP/1.1 101 ");
  sent.remove_prefix(end + 4);
  fuzz::expect(upgraded || sent.empty(), "frames were sent behind a refusal");
  while (!sent.empty()) {
    fuzz::expect(sent.size() >= 2 && static_cast<unsigned char>(sent[1]) < 126 &&
                     sent.size() >= 2u + static_cast<unsigned char>(sent[1]),
                 "a control frame is not whole");
    const int opcode = static_cast<unsigned char>(sent[0]);
    fuzz::expect(opcode == 0x88 || opcode == 0x8a, "a frame is neither a close nor a pong");
    sent.remove_prefix(2u + static_cast<unsigned char>(sent[1]));
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view octets(reinterpret_cast<const char*>(data) + 1, size - 1);
  const websocket::upgrade found =
      websocket::read_upgrade(octets, {.head_size_max = head_size_max});
  fuzz::expect(found.head_size <= octets.size(), "a request is longer than what has arrived");
  fuzz::expect((found.status == websocket::upgrade_status::accepted) == (found.http_status == 101),
               "a status and its code say different things");
  const seen at_once = run(octets, std::max<std::size_t>(octets.size(), 1));
  const seen pieces = run(octets, data[0] % 64 + 1u);
  check_sent(at_once.sent);
  check_sent(pieces.sent);
  fuzz::expect(at_once == pieces, "what is seen depends on the pieces");
  return 0;
}
