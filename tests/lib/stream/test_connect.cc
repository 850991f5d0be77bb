// SPDX-License-Identifier: BSD-3-Clause
// Connections that the stack begins, to a listener of the kernel.
#include "stream_fixture.h"

namespace chainring::stream {
namespace {

/// Listens on a port of the kernel, and accepts one connection after another.
class kernel_listener {
 public:
  kernel_listener() {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    const timeval minute{60, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    inet_pton(AF_INET, "198.18.7.2", &a.sin_addr);
    socklen_t size = sizeof a;
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&a), size) != 0 || ::listen(fd_, 16) != 0 ||
        getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &size) != 0)
      ADD_FAILURE() << std::strerror(errno);
    address = {net::parse_ipv4("198.18.7.2").value(), ntohs(a.sin_port), 0};
  }
  ~kernel_listener() { ::close(fd_); }
  [[nodiscard]] kernel_client accept() {
    return kernel_client::accepted(::accept(fd_, nullptr, nullptr));
  }

  net::endpoint address;

 private:
  int fd_;
};

connection connect(recording_handler& handler, std::uint16_t port, const net::endpoint& to) {
  const connection c = handler.stack->connect(0, port, to);
  if (c != no_connection) handler.open[c] = {};
  return c;
}

TEST_F(Tcp, WhatIsSentToAListenerComesBack) {
  kernel_listener listener;
  handler.echo = false;
  const connection c = connect(handler, 40001, listener.address);
  ASSERT_NE(c, no_connection);
  std::thread peer = client_thread([&] {
    kernel_client k = listener.accept();
    EXPECT_EQ(k.receive(5), "hello");
    EXPECT_TRUE(k.send("and back"));
    EXPECT_EQ(k.receive_end(), 0);
  });
  ASSERT_TRUE(run_until([&] { return handler.open.at(c).connected; }));
  handler.send(c, "hello");
  ASSERT_TRUE(run_until([&] { return handler.open.at(c).text == "and back"; }));
  handler.close(c);
  run([&] { peer.join(); });
  EXPECT_EQ(stack->counters().connected.value(), 1u);
  EXPECT_EQ(stack->counters().accepted.value(), 0u);
}

TEST_F(Tcp, APeerThatDoesNotListenRefuses) {
  net::endpoint nobody;
  {
    kernel_listener listener; // its port is free again behind this
    nobody = listener.address;
  }
  const connection c = connect(handler, 40002, nobody);
  ASSERT_NE(c, no_connection);
  ASSERT_TRUE(run_until([&] { return !handler.gone.empty(); }));
  EXPECT_FALSE(handler.gone[0].connected);
  EXPECT_EQ(handler.gone[0].reason, end_reason::reset);
  EXPECT_EQ(stack->open(), 0u);
}

TEST_F(Tcp, APortIsUsedAgainButNotTwiceAtOneTime) {
  kernel_listener listener;
  handler.echo = false;
  for (int i = 0; i < 3; ++i) {
    connection c = no_connection;
    // The peer's end of the former connection may still be under way.
    ASSERT_TRUE(run_until([&] {
      return (c = connect(handler, 40003, listener.address)) != no_connection;
    })) << i;
    EXPECT_EQ(connect(handler, 40003, listener.address), no_connection) << i;
    std::atomic<bool> done{false};
    std::thread peer = client_thread([&] {
      kernel_client k = listener.accept();
      EXPECT_TRUE(k.send("x"));
      EXPECT_EQ(k.receive_end(), 0);
      done = true;
    });
    EXPECT_TRUE(run_until([&] { return handler.open.at(c).text == "x"; }));
    handler.close(c);
    EXPECT_TRUE(run_until([&] { return done.load(); }));
    peer.join();
  }
}

TEST_F(Tcp, AConnectionIsGivenUpBeforeThePeerAnswers) {
  kernel_listener listener;
  line.lost_per_mille = 1000;
  for (int i = 0; i < 100; ++i) {
    const connection c = connect(handler, static_cast<std::uint16_t>(41000 + i), listener.address);
    ASSERT_NE(c, no_connection);
    round();
    if (i % 2 == 0)
      stack->abort(c);
    else
      stack->close(c);
    handler.forget(c);
  }
  EXPECT_EQ(stack->open(), 0u);
  EXPECT_EQ(stack->counters().connected.value(), 0u);
}

TEST_F(Tcp, ALineThatLosesPacketsIsConnectedInTheEnd) {
  kernel_listener listener;
  line.lost_per_mille = 100;
  handler.echo = false;
  constexpr int count = 8;
  std::thread peer = client_thread([&] {
    std::vector<kernel_client> all;
    for (int i = 0; i < count; ++i)
      all.push_back(listener.accept());
    for (kernel_client& k : all)
      EXPECT_TRUE(k.send("x"));
    for (kernel_client& k : all)
      EXPECT_EQ(k.receive(1), "y");
  });
  for (int i = 0; i < count; ++i)
    ASSERT_NE(connect(handler, static_cast<std::uint16_t>(42000 + i), listener.address),
              no_connection);
  EXPECT_TRUE(run_until([&] {
    return std::ranges::all_of(handler.open, [](const auto& o) { return o.second.text == "x"; });
  }));
  for (auto& [c, what] : handler.open)
    handler.send(c, "y");
  std::atomic<bool> done{false};
  std::thread waits = client_thread([&] {
    peer.join();
    done = true;
  });
  EXPECT_TRUE(run_until([&] { return done.load(); }));
  waits.join();
}

} // namespace
} // namespace chainring::stream
