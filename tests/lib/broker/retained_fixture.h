// SPDX-License-Identifier: BSD-3-Clause
/// A broker under the line front end, for tests of retained messages.
#pragma once
#include "broker/access.h"
#include "kept_line_fixture.h"

namespace chainring::testing_line {

class Retained : public KeptLine {
 protected:
  Retained() : KeptLine(63) {}
  void SetUp() override { open(true); }

  /// Takes all free blocks but so many.
  void leave_blocks(std::uint32_t left) {
    block_store& blocks = broker_access::state(core()).blocks();
    std::uint64_t last = 0;
    for (std::uint64_t n = blocks.statistics().largest_run; n != 0;
         n = blocks.statistics().largest_run) {
      const auto run = blocks.reserve_run(static_cast<std::uint32_t>(n));
      if (!run) break;
      last = *run;
    }
    while (blocks.reserve_run(1))
      ;
    for (std::uint32_t i = 0; i < left; ++i)
      blocks.release_run(last + std::uint64_t{i} * 256, 1);
  }
  std::uint64_t retained() { return core().retained_counts().messages; }
  std::uint64_t live() { return core().message_statistics().live; }
  void connect(unsigned at, const std::string& name) {
    ASSERT_TRUE(accepted(at, "CONNECT " + name + " -"));
  }
  /// A client that takes nothing subscribes to 40 retained messages, with a queue for 15.
  void subscribe_slowly() {
    config.queue_slots = 15;
    open(true);
    for (int i = 0; i < 40; ++i)
      ASSERT_TRUE(accepted(publisher, "RET t/" + std::to_string(i) + " 1 x"));
    connect(subscriber, "slow");
    server->send(subscriber, "STOP");
    ASSERT_EQ(server->ask(subscriber, "SUB t/# 1"), "OK 2");
  }
  /// What the connection has got, as "qos flags topic text"; each is acknowledged.
  lines take(unsigned at) {
    lines got = take_lines(at);
    for (std::string& line : got) {
      const std::size_t qos = line.find(' ') + 1;
      line = line.substr(qos, 1) + line.substr(qos + 3);
    }
    return got;
  }
};

} // namespace chainring::testing_line
