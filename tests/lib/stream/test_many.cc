// SPDX-License-Identifier: BSD-3-Clause
// A hundred thousand connections at once. Their clients are in this process (tcp_peers.h), because
// the kernel would need a socket for each.
#include <gtest/gtest.h>
#include <rte_cycles.h>

#include "chainring-bench/tcp_peers.h"

namespace chainring::stream {
namespace {

constexpr std::uint32_t many = 100'000;

/// Sends back what it receives, and closes when the peer has finished.
class echo final : public byte_stream_handler {
 public:
  tcp_stack* stack = nullptr;
  std::uint32_t open = 0, resets = 0;

  void accepted(connection, const net::endpoint&, std::uint16_t) noexcept override { ++open; }
  void received(connection c, std::span<const std::byte> octets) noexcept override {
    EXPECT_EQ(stack->write(c, octets), octets.size());
    stack->push(c);
    stack->consumed(c, static_cast<std::uint32_t>(octets.size()));
  }
  void finished(connection c) noexcept override {
    stack->close(c);
    --open;
  }
  void writable(connection) noexcept override {}
  void ended(connection, end_reason why) noexcept override {
    if (why == end_reason::reset) ++resets;
    --open;
  }
};

class TcpOfMany : public testing::Test {
 protected:
  rte_mempool* pool = nullptr;
  std::unique_ptr<tcp_peers> peers;
  echo handler;
  std::unique_ptr<tcp_stack> stack;
  std::uint64_t now = 1;

  void SetUp() override {
    pool = rte_pktmbuf_pool_create("many", 8191, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
    ASSERT_NE(pool, nullptr);
    peers = std::make_unique<tcp_peers>(pool, many);
    tcp_options o;
    o.connections_max = many;
    auto made = tcp_stack::create(o, handler, *peers);
    ASSERT_TRUE(made) << made.error().message;
    stack = std::move(*made);
    handler.stack = stack.get();
    ASSERT_TRUE(stack->add_interface(0, tcp_peers::own_address, 1500));
    ASSERT_TRUE(stack->listen(tcp_peers::own_port));
    peers->open(*stack, 0, many, now);
    ASSERT_EQ(handler.open, many);
  }
  void TearDown() override {
    stack.reset();
    peers.reset();
    rte_mempool_free(pool);
  }
  /// Each of these clients sends a segment with these flags and octets, and acknowledges what it
  /// gets for it.
  template <class Chosen>
  void all_send(Chosen&& chosen, std::uint8_t flags, std::string_view payload = {}) {
    std::uint32_t waiting = 0;
    const auto turn = [&] {
      (void)stack->poll(now);
      do {
        waiting = 0;
        peers->read([&](std::uint32_t n) {
          ++waiting;
          stack->input(peers->make(n, RTE_TCP_ACK_FLAG), 0, 0, true);
        });
        (void)stack->poll(now);
      } while (waiting != 0);
    };
    std::uint32_t sent = 0;
    for (std::uint32_t n = 0; n < many; ++n) {
      if (!chosen(n)) continue;
      stack->input(peers->make(n, flags, payload), 0, 0, true);
      if (++sent % 512 == 0) turn();
    }
    turn();
  }
};

TEST_F(TcpOfMany, AHundredThousandConnectionsComeTalkAndGo) {
  constexpr auto all = [](std::uint32_t) { return true; };
  all_send(all, RTE_TCP_ACK_FLAG | RTE_TCP_PSH_FLAG, "ten octets");
  for (std::uint32_t n = 0; n < many; ++n)
    ASSERT_EQ((*peers)[n].octets, 10u) << "client " << n;
  for (std::uint32_t round = 0; round < 2; ++round) {
    const auto leaves = [&](std::uint32_t n) { return n % 10 == round; };
    const auto breaks = [&](std::uint32_t n) { return n % 10 == 5 + round; };
    all_send(leaves, RTE_TCP_FIN_FLAG | RTE_TCP_ACK_FLAG);
    EXPECT_EQ(stack->open(), many - many / 10);
    all_send(breaks, RTE_TCP_RST_FLAG);
    EXPECT_EQ(stack->open(), many - many / 5);
    EXPECT_EQ(handler.open, many - many / 5);
    EXPECT_EQ(handler.resets, (round + 1) * many / 10);
    for (std::uint32_t n = 0; n < many; ++n)
      if (leaves(n) || breaks(n)) peers->open(*stack, n, n + 1, now);
    ASSERT_EQ(handler.open, many);
    EXPECT_EQ(stack->audit(), nullptr);
  }
  const auto octets_before = (*peers)[7].octets;
  all_send([](std::uint32_t n) { return n == 7; }, RTE_TCP_ACK_FLAG | RTE_TCP_PSH_FLAG, "still");
  EXPECT_EQ((*peers)[7].octets, octets_before + 5);
  EXPECT_EQ(stack->counters().accepted.value(), many + 4 * many / 10);
  EXPECT_EQ(stack->counters().no_memory.value(), 0u);
}

TEST_F(TcpOfMany, AnIdleConnectionTakesLessThanAKibibyte) {
  EXPECT_GT(stack->memory(), std::uint64_t{many} * 100);
  EXPECT_LT(stack->memory(), std::uint64_t{many} * 1024);
}

TEST_F(TcpOfMany, TheTimersVisitNoIdleConnection) {
  // The stack sends nothing and has nothing to do, for as long as two minutes.
  for (int half_seconds = 0; half_seconds < 240; ++half_seconds) {
    now += rte_get_tsc_hz() / 2;
    const bool any = stack->poll(now);
    EXPECT_FALSE(any && half_seconds > 1);
  }
  bool heard = false;
  peers->read([&](std::uint32_t) { heard = true; });
  EXPECT_FALSE(heard);
  EXPECT_EQ(handler.open, many);
}

} // namespace
} // namespace chainring::stream
