// SPDX-License-Identifier: BSD-3-Clause
/// A broker under the line front end, on memory that outlives it, with a publisher that is
/// connected.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "../region/region_fixture.h"
#include "line_fixture.h"

namespace chainring::testing_line {

inline constexpr unsigned publisher = 1, subscriber = 2, another = 3;
using lines = std::vector<std::string>;

class KeptLine : public testing::Test {
 protected:
  test::line_bytes bytes = test::line_bytes(4 << 20);
  broker_config config;
  store_layout layout;
  std::unique_ptr<test::line_server> server;

  explicit KeptLine(std::uint32_t queue_slots) : config(line_config(1, queue_slots)) {
    layout.sessions_max = 16;
    layout.subscriptions_max = 64;
    layout.messages_max = 512;
    layout.groups_max = 1;
    layout.retained_max = 64;
  }
  void open(bool fresh) {
    server.reset();
    if (fresh) std::ranges::fill(bytes, std::byte{});
    auto made = broker_on(std::make_unique<test::kept_media>(bytes), config, fresh, layout);
    ASSERT_TRUE(made) << made.error().message;
    EXPECT_EQ((*made)->opened().notes, lines{});
    server = std::make_unique<test::line_server>(std::move(*made));
    ASSERT_TRUE(server->ask(publisher, "CONNECT publisher -").starts_with("OK 1"));
  }
  broker& core() { return server->broker(); }
  broker_counters counters() { return core().counters(); }
  bool accepted(unsigned at, const std::string& line) {
    return server->ask(at, line).starts_with("OK ");
  }
  /// Turns until the condition holds. The worker looks after its sessions now and then.
  template <class F> bool comes_true(F&& condition) {
    for (const std::time_t begin = std::time(nullptr); !condition();) {
      if (std::time(nullptr) > begin + 60) return false;
      server->settle();
    }
    return true;
  }
  /// What the connection has got, as "n qos bits flags topic text"; each is acknowledged.
  lines take_lines(unsigned at) {
    lines got;
    server->settle();
    for (std::string line = server->next(at); !line.empty(); line = server->next(at)) {
      if (!line.starts_with("MSG ")) continue;
      got.push_back(line.substr(4));
      const std::string number = got.back().substr(0, got.back().find(' '));
      if (number != "0") server->send(at, "ACK " + number);
      server->settle();
    }
    return got;
  }
};

} // namespace chainring::testing_line
