// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <vector>

#include "lib/stream/fake_streams.h"
#include "websocket/websocket.h"

namespace chainring::websocket {
namespace {

using stream::octets_of;

enum opcode : unsigned char {
  more = 0,
  text = 1,
  binary = 2,
  close_frame = 8,
  ping = 9,
  pong = 10
};

/// A frame of a client. Each has a mask.
std::string frame(unsigned char code, std::string_view payload, bool last = true,
                  bool masked = true) {
  std::string made(1, static_cast<char>((last ? 0x80 : 0) | code));
  const unsigned char mask_bit = masked ? 0x80 : 0;
  if (payload.size() < 126) {
    made += static_cast<char>(mask_bit | payload.size());
  } else {
    made += static_cast<char>(mask_bit | 126);
    made += static_cast<char>(payload.size() >> 8);
    made += static_cast<char>(payload.size() & 0xff);
  }
  const std::string mask = "\x11\x22\xf3\x04";
  if (masked) made += mask;
  for (std::size_t i = 0; i < payload.size(); ++i)
    made += static_cast<char>(masked ? payload[i] ^ mask[i % 4] : payload[i]);
  return made;
}

struct read_frame {
  unsigned char code;
  std::string payload;
  bool operator==(const read_frame&) const = default;
};

/// The frames in what the layer has sent, which have no mask and are whole messages.
std::vector<read_frame> frames_in(std::string_view sent) {
  std::vector<read_frame> all;
  while (!sent.empty()) {
    if (sent.size() < 2) {
      ADD_FAILURE() << "half a header";
      break;
    }
    const auto first = static_cast<unsigned char>(sent[0]),
               second = static_cast<unsigned char>(sent[1]);
    EXPECT_EQ(first & 0xf0, 0x80);
    std::size_t size = second, header = 2;
    if (second == 126) {
      size = static_cast<unsigned char>(sent[2]) * 256u + static_cast<unsigned char>(sent[3]);
      header = 4;
    }
    EXPECT_LT(second, 127);
    if (sent.size() < header + size) {
      ADD_FAILURE() << "half a frame";
      break;
    }
    all.push_back({static_cast<unsigned char>(first & 15), std::string(sent.substr(header, size))});
    sent.remove_prefix(header + size);
  }
  return all;
}

class WebSocket : public testing::Test {
 protected:
  static constexpr stream::connection me = 3;
  stream::fake_streams below;
  stream::recording_above above;
  std::unique_ptr<layer> ws;

  void SetUp() override {
    layer_options o;
    o.endpoints.push_back({.port = 8080, .path = "/mqtt"});
    o.connections_max = 8;
    auto made = layer::create(o, above);
    ASSERT_TRUE(made) << made.error().message;
    ws = std::move(*made);
    ws->use(below);
  }
  static std::string request(std::string_view path = "/mqtt") {
    return "GET " + std::string(path) +
           " HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n"
           "Sec-WebSocket-Version: 13\r\n\r\n";
  }
  stream::fake_streams::line& line() { return below.lines[me]; }
  stream::recording_above::heard& heard() { return above.all[me]; }
  void give(std::string_view octets) { ws->received(me, octets_of(octets)); }
  void connect() {
    ws->accepted(me, {}, 8080);
    give(request());
    ASSERT_TRUE(line().sent.starts_with("HTTP/1.1 101 "));
    line().sent.clear();
  }
  std::vector<read_frame> sent() { return frames_in(std::exchange(line().sent, {})); }
};

TEST_F(WebSocket, AConnectionAtAnotherPortPassesThrough) {
  ws->accepted(me, {}, 1883);
  give("plain");
  EXPECT_EQ(heard().text, "plain");
  EXPECT_EQ(ws->write(me, octets_of("answer")), 6u);
  EXPECT_EQ(line().sent, "answer");
  ws->consumed(me, 5);
  EXPECT_EQ(line().consumed, 5u);
  ws->close(me);
  EXPECT_TRUE(line().closed);
}

TEST_F(WebSocket, PayloadGoesBothWaysInBinaryMessages) {
  connect();
  give(frame(binary, "hello"));
  EXPECT_EQ(heard().text, "hello");
  EXPECT_EQ(ws->write(me, octets_of("answer")), 6u);
  const std::string longer(70000, 'x');
  EXPECT_EQ(ws->write(me, octets_of(longer)), longer.size());
  EXPECT_EQ(sent(), (std::vector<read_frame>{{binary, "answer"},
                                             {binary, longer.substr(0, 65535)},
                                             {binary, longer.substr(65535)}}));
}

TEST_F(WebSocket, FramesBehindTheRequestInTheSameSegmentAreRead) {
  ws->accepted(me, {}, 8080);
  give(request() + frame(binary, "early"));
  EXPECT_EQ(heard().text, "early");
}

TEST_F(WebSocket, EveryOctetMayComeAlone) {
  ws->accepted(me, {}, 8080);
  const std::string all = request() + frame(binary, "one", false) + frame(ping, "p") +
                          frame(more, std::string(200, 'y')) + frame(binary, "") +
                          frame(binary, "two");
  for (const char c : all)
    give({&c, 1});
  EXPECT_EQ(heard().text, "one" + std::string(200, 'y') + "two");
  line().sent.erase(0, line().sent.find("\r\n\r\n") + 4);
  EXPECT_EQ(sent(), (std::vector<read_frame>{{pong, "p"}}));
}

TEST_F(WebSocket, TheWindowOpensForHeadersAtOnceAndForPayloadWhenItIsConsumed) {
  connect();
  EXPECT_EQ(line().consumed, request().size());
  line().consumed = 0;
  const std::string one = frame(binary, std::string(500, 'z')) + frame(ping, "");
  give(one);
  EXPECT_EQ(line().consumed, one.size() - 500);
  ws->consumed(me, 200);
  EXPECT_EQ(line().consumed, one.size() - 300);
  ws->consumed(me, 300);
  EXPECT_EQ(line().consumed, one.size());
}

TEST_F(WebSocket, ARefusedRequestIsAnsweredAndEndsTheConnection) {
  ws->accepted(me, {}, 8080);
  give(request("/elsewhere"));
  EXPECT_TRUE(line().sent.starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(line().closed);
  EXPECT_EQ(heard().ended, 1);
  EXPECT_EQ(ws->counters().refused_path.value(), 1u);
  EXPECT_EQ(ws->counters().refused.value(), 1u);
  ws->accepted(4, {}, 8080);
  ws->received(4, octets_of("GET /" + std::string(9000, 'a')));
  EXPECT_TRUE(below.lines[4].sent.starts_with("HTTP/1.1 431 "));
  EXPECT_EQ(ws->counters().refused_size.value(), 1u);
}

TEST_F(WebSocket, WhatBreaksARuleEndsTheConnectionWithTheStatusOfTheRule) {
  // Where a frame cannot be what it says, libwslay gives no status.
  const std::vector<std::tuple<std::string, std::string, std::string>> faults = {
      {"a frame without a mask", frame(binary, "x", true, false), "\x03\xea"},
      {"a continuation of nothing", frame(more, "x"), "\x03\xea"},
      {"a new message within a message", frame(binary, "x", false) + frame(binary, "y"),
       "\x03\xea"},
      {"a reserved opcode", frame(3, "x"), "\x03\xea"},
      {"a reserved bit", "\xc2" + frame(binary, "x").substr(1), "\x03\xea"},
      {"a ping in parts", frame(ping, "x", false), ""},
      {"a ping of 126 octets", frame(ping, std::string(126, 'p')), ""},
      {"text", frame(text, "x"), "\x03\xeb"},
  };
  for (const auto& [what, octets, status] : faults) {
    SCOPED_TRACE(what);
    below.lines.clear();
    connect();
    give(octets + frame(binary, "never"));
    const auto answers = sent();
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0].code, close_frame);
    EXPECT_EQ(answers[0].payload.substr(0, 2), status);
    EXPECT_TRUE(line().closed);
    EXPECT_EQ(heard().ended, 1);
    EXPECT_EQ(heard().text.find("never"), std::string::npos);
  }
  EXPECT_EQ(ws->counters().malformed.value(), 7u);
  EXPECT_EQ(ws->counters().text.value(), 1u);
}

TEST_F(WebSocket, AMalformedCloseFrameIsAnsweredByACloseFrame) {
  // Of one octet, with the reserved status 1004, and with a reason that is not UTF-8.
  for (const std::string_view wrong : {"x", "\x03\xec", "\x03\xe8\xc0\x80"}) {
    below.lines.clear();
    connect();
    give(frame(close_frame, wrong));
    if (heard().finished != 0) ws->close(me);
    const auto answers = sent();
    ASSERT_EQ(answers.size(), 1u);
    EXPECT_EQ(answers[0].code, close_frame);
    EXPECT_TRUE(line().closed);
  }
}

TEST_F(WebSocket, ACloseFrameMeansTheSameHoweverItIsCut) {
  struct text {
    std::string close;
    int finished, ended;
  };
  // A reason with characters of two and of four octets; one that is not UTF-8; and a status that is
  // none, with a reason that is not UTF-8.
  for (const text& t : {text{"\x03\xe8\xc3\xa9\xf0\x9f\x98\x80", 1, 0},
                        text{"\x03\xe8 \xff\xfe", 0, 1}, text{"\xa4\x01\xff\xff", 0, 1}}) {
    std::vector<read_frame> first;
    const std::string all = frame(close_frame, t.close);
    for (std::size_t piece = all.size(); piece != 0; --piece) {
      SCOPED_TRACE(piece);
      below.lines.clear();
      above.all.clear();
      connect();
      for (std::size_t at = 0; at < all.size() && !line().closed; at += piece)
        give(std::string_view(all).substr(at, piece));
      EXPECT_EQ(heard().finished, t.finished);
      EXPECT_EQ(heard().ended, t.ended);
      if (heard().finished != 0) ws->close(me);
      const auto answers = sent();
      ASSERT_EQ(answers.size(), 1u);
      if (piece == all.size()) first = answers;
      EXPECT_EQ(answers, first);
    }
  }
}

TEST_F(WebSocket, APingIsAnsweredAlsoInFrontOfWhatBreaksARule) {
  connect();
  give(frame(ping, "p") + frame(ping, "q") + frame(3, "no such opcode"));
  const auto answers = sent();
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0], (read_frame{pong, "p"}));
  EXPECT_EQ(answers[1], (read_frame{pong, "q"}));
  EXPECT_EQ(answers[2].code, close_frame);
}

TEST_F(WebSocket, ACloseFrameIsAnsweredWhenWhatIsAboveHasNothingMoreToSend) {
  connect();
  give(frame(binary, "last") + frame(close_frame, "\x03\xe8"));
  EXPECT_EQ(heard().text, "last");
  EXPECT_EQ(heard().finished, 1);
  EXPECT_EQ(ws->write(me, octets_of("the rest")), 8u);
  ws->finished(me);
  EXPECT_EQ(heard().finished, 1);
  ws->close(me);
  EXPECT_EQ(sent(), (std::vector<read_frame>{{binary, "the rest"}, {close_frame, "\x03\xe8"}}));
  EXPECT_TRUE(line().closed);
}

TEST_F(WebSocket, ACloseFromAboveSendsACloseFrame) {
  connect();
  ws->close(me);
  EXPECT_EQ(sent(), (std::vector<read_frame>{{close_frame, "\x03\xe8"}}));
  EXPECT_TRUE(line().closed);
  EXPECT_EQ(heard().ended, 0);
}

TEST_F(WebSocket, WhatIsAboveMayCloseOrAbortWhileItReceives) {
  for (const bool aborts : {false, true}) {
    below.lines.clear();
    connect();
    above.on_received = [&](stream::connection c, std::string_view) {
      if (aborts)
        ws->abort(c);
      else
        ws->close(c);
    };
    give(frame(binary, "a") + frame(binary, "b"));
    EXPECT_EQ(heard().text, "a");
    EXPECT_EQ(line().closed, !aborts);
    EXPECT_EQ(line().aborted, aborts);
    above.on_received = nullptr;
  }
}

TEST_F(WebSocket, ASlowConnectionGetsEveryOctetInOrder) {
  std::mt19937 random(11);
  for (int run = 0; run < 50; ++run) {
    below.lines.clear();
    connect();
    std::string all;
    for (int i = 0; i < 3000; ++i)
      all += static_cast<char>('a' + random() % 26);
    line().room = 0;
    std::size_t done = 0;
    int pings = 0, waits = 0;
    while (done < all.size()) {
      if (random() % 4 == 0 && pings < 5) {
        give(frame(ping, std::to_string(pings)));
        ++pings;
      }
      const std::size_t given = std::min<std::size_t>(1 + random() % 700, all.size() - done);
      const int told = heard().writable;
      const std::size_t taken = ws->write(me, octets_of(std::string_view(all).substr(done, given)));
      done += taken;
      if (taken == given) continue;
      ++waits;
      // Nothing more is taken before it is said that there is room.
      while (heard().writable == told)
        below.make_room(*ws, me, 1 + random() % 100);
    }
    for (int i = 0; i < 100; ++i)
      below.make_room(*ws, me, 1000);
    std::string payload;
    int pongs = 0;
    for (const read_frame& f : sent()) {
      if (f.code == binary)
        payload += f.payload;
      else if (f.code == pong)
        EXPECT_EQ(f.payload, std::to_string(pongs++));
      else
        ADD_FAILURE() << int{f.code};
    }
    EXPECT_TRUE(payload == all);
    EXPECT_EQ(pongs, pings);
    EXPECT_GT(waits, 5);
    ws->close(me);
  }
}

TEST_F(WebSocket, AClientThatPingsAndReadsNothingIsEnded) {
  connect();
  line().room = 0;
  for (int i = 0; i < 1000 && !line().closed; ++i)
    give(frame(ping, std::string(125, 'p')));
  EXPECT_TRUE(line().closed);
  EXPECT_EQ(heard().ended, 1);
  EXPECT_LT(ws->counters().pings.value(), 20u);
  EXPECT_EQ(ws->counters().unread.value(), 1u);
}

TEST_F(WebSocket, ManyPingsAtOnceAreAnsweredWhereTheAnswersAreTaken) {
  connect();
  std::string all;
  for (int i = 0; i < 100; ++i)
    all += frame(ping, "p");
  give(all);
  EXPECT_EQ(sent().size(), 100u);
  EXPECT_FALSE(line().closed);
}

TEST_F(WebSocket, AnEndFromBelowIsHeardOnceAndTheNumberCanBeUsedAgain) {
  connect();
  ws->ended(me, stream::end_reason::timed_out);
  EXPECT_EQ(heard().ended, 1);
  EXPECT_EQ(heard().reason, stream::end_reason::timed_out);
  connect();
  give(frame(binary, "again"));
  EXPECT_EQ(heard().text, "again");
}

TEST(WebSocketOptions, WhatIsOutOfRangeIsRefusedByName) {
  stream::recording_above above;
  const auto refusal = [&](auto&& change) {
    layer_options o;
    change(o);
    auto made = layer::create(o, above);
    return made ? std::string() : made.error().message;
  };
  EXPECT_EQ(refusal([](layer_options&) {}), "");
  const auto names = [&](const char* name, auto&& change) {
    EXPECT_NE(refusal(change).find(name), std::string::npos) << name;
  };
  names("head_size_max", [](layer_options& o) { o.head_size_max = 10; });
  names("control_frames_max", [](layer_options& o) { o.control_frames_max = 0; });
  names("connections_max", [](layer_options& o) { o.connections_max = 0; });
  names("path", [](layer_options& o) { o.endpoints = {{.port = 1, .path = "mqtt"}}; });
  names("subprotocol", [](layer_options& o) { o.subprotocol = ""; });
}

} // namespace
} // namespace chainring::websocket
