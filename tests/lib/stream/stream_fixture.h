// SPDX-License-Identifier: BSD-3-Clause
/// A TCP stack behind a TAP port, and clients that use the kernel's TCP.
#pragma once
#include <arpa/inet.h>
#include <atomic>
#include <csignal>
#include <cstring>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <random>
#include <rte_cycles.h>
#include <rte_tcp.h>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "stream/link_packets.h"

namespace chainring::stream {

inline constexpr const char* own_text = "198.18.7.1";
inline constexpr const char* own_text6 = "2001:db8:7::1";
inline constexpr std::uint16_t own_port = 1883;

/// A connection of the kernel. Each call waits for at most a minute.
class kernel_client {
 public:
  explicit kernel_client(int family = AF_INET) {
    fd_ = socket(family, SOCK_STREAM, 0);
    const timeval minute{60, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &minute, sizeof minute);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &minute, sizeof minute);
  }
  /// A connection that a listener of the kernel has accepted.
  [[nodiscard]] static kernel_client accepted(int fd) {
    kernel_client c;
    c.close();
    c.fd_ = fd;
    return c;
  }
  kernel_client(kernel_client&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~kernel_client() { close(); }
  void bind_port(std::uint16_t port) {
    const int on = 1;
    setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(port);
    inet_pton(AF_INET, "198.18.7.2", &a.sin_addr);
    ASSERT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a), 0) << std::strerror(errno);
  }
  void receive_buffer(int octets) {
    setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &octets, sizeof octets);
  }
  void segments_of(int octets) { setsockopt(fd_, IPPROTO_TCP, TCP_MAXSEG, &octets, sizeof octets); }
  bool connect(std::uint16_t port = own_port) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(port);
    inet_pton(AF_INET, own_text, &a.sin_addr);
    return ::connect(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0;
  }
  /// Connects over IPv6. A link-local address needs the index of the interface.
  bool connect6(const std::string& address = own_text6, unsigned interface = 0,
                std::uint16_t port = own_port) {
    sockaddr_in6 a{};
    a.sin6_family = AF_INET6;
    a.sin6_port = htons(port);
    a.sin6_scope_id = interface;
    inet_pton(AF_INET6, address.c_str(), &a.sin6_addr);
    return ::connect(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0;
  }
  bool send(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  /// Receives exactly so many octets, or fewer at the end of the stream.
  std::string receive(std::size_t size) {
    std::string text(size, '\0');
    std::size_t got = 0;
    while (got < size) {
      const ssize_t n = ::recv(fd_, text.data() + got, size - got, 0);
      if (n <= 0) break;
      got += static_cast<std::size_t>(n);
    }
    text.resize(got);
    return text;
  }
  /// What recv() returns next: 0 at the end of the stream, -errno after an error.
  int receive_end() {
    char c;
    const ssize_t n = ::recv(fd_, &c, 1, 0);
    return n < 0 ? -errno : static_cast<int>(n);
  }
  void finish() { shutdown(fd_, SHUT_WR); }
  void reset() {
    const linger now{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

/// A thread that the signals do not reach by which the TAP driver interrupts the process.
template <class F> std::thread client_thread(F&& fn) {
  return std::thread([fn = std::forward<F>(fn)] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    fn();
  });
}

/// What the handler was told of a connection.
struct told {
  net::endpoint from;
  std::string text;
  bool connected = false; ///< connect() has begun it, and the peer has accepted it
  bool finished = false, ended = false;
  end_reason reason{};
};

class recording_handler final : public byte_stream_handler {
 public:
  tcp_stack* stack = nullptr;
  bool echo = true;         ///< sends back what it receives
  bool consumes = true;     ///< opens the window again at once
  bool closes_after = true; ///< closes when the peer has finished
  std::map<connection, told> open;
  std::vector<told> gone;
  std::map<connection, std::string> waiting; ///< what write() did not take
  std::uint64_t received_octets = 0;

  void accepted(connection c, const net::endpoint& from, std::uint16_t) noexcept override {
    EXPECT_FALSE(open.contains(c));
    open[c].from = from;
  }
  void connected(connection c) noexcept override {
    EXPECT_FALSE(open.at(c).connected);
    open.at(c).connected = true;
  }
  void received(connection c, std::span<const std::byte> octets) noexcept override {
    received_octets += octets.size();
    const std::string text(reinterpret_cast<const char*>(octets.data()), octets.size());
    open.at(c).text += text;
    if (echo) send(c, text);
    if (consumes) stack->consumed(c, static_cast<std::uint32_t>(octets.size()));
  }
  void finished(connection c) noexcept override {
    open.at(c).finished = true;
    if (closes_after && waiting[c].empty()) close(c);
  }
  void writable(connection c) noexcept override {
    send(c, {});
    if (open.at(c).finished && closes_after && waiting[c].empty()) close(c);
  }
  void ended(connection c, end_reason reason) noexcept override {
    open.at(c).ended = true;
    open.at(c).reason = reason;
    forget(c);
  }
  void send(connection c, std::string_view text) {
    std::string& all = waiting[c];
    all += text;
    all.erase(0, stack->write(c, std::as_bytes(std::span(all))));
    stack->push(c);
  }
  void close(connection c) {
    stack->close(c);
    forget(c);
  }
  void forget(connection c) {
    gone.push_back(open.at(c));
    open.erase(c);
    waiting.erase(c);
  }
};

/// Loses packets and exchanges neighbours, in both directions, between a link and a stack.
class bad_line final : public packet_output, public net::packet_sink {
 public:
  link_packets* good = nullptr;
  unsigned lost_per_mille = 0, exchanged_per_mille = 0;
  std::uint64_t lost = 0, exchanged = 0;
  std::uint32_t next_sequence = 0; ///< of the peer that was heard last
  std::uint32_t largest = 0;       ///< octets of the longest IP packet that was sent

  ~bad_line() override { clear(); }
  void clear() {
    rte_pktmbuf_free(out_.m);
    rte_pktmbuf_free(in_.m);
    out_ = in_ = {};
  }
  rte_mbuf* allocate() noexcept override { return good->allocate(); }
  void send(std::uint16_t id, const net::ip_address& to, rte_mbuf* m) noexcept override {
    largest = std::max(largest, rte_pktmbuf_pkt_len(m));
    if (loses(m)) return;
    if (out_.m == nullptr && happens(exchanged_per_mille)) {
      ++exchanged;
      out_ = {m, {}, id, to};
      return;
    }
    good->send(id, to, m);
    if (out_.m != nullptr) good->send(out_.id, out_.to, out_.m);
    out_ = {};
  }
  void take(rte_mbuf* m, const net::packet_view& view) noexcept override {
    rte_tcp_hdr tcp;
    std::memcpy(&tcp, view.payload.data(), sizeof tcp);
    next_sequence = rte_be_to_cpu_32(tcp.sent_seq) +
                    static_cast<std::uint32_t>(view.payload.size() - (tcp.data_off >> 4) * 4u) +
                    ((tcp.tcp_flags & RTE_TCP_SYN_FLAG) != 0 ? 1 : 0);
    if (loses(m)) return;
    if (in_.m == nullptr && happens(exchanged_per_mille)) {
      ++exchanged;
      in_ = {m, view, 0, {}};
      return;
    }
    good->take(m, view);
    if (in_.m != nullptr) good->take(in_.m, in_.view);
    in_ = {};
  }

 private:
  struct held {
    rte_mbuf* m = nullptr;
    net::packet_view view;
    std::uint16_t id = 0;
    net::ip_address to;
  };
  bool happens(unsigned per_mille) { return random_() % 1000 < per_mille; }
  bool loses(rte_mbuf* m) {
    if (!happens(lost_per_mille)) return false;
    ++lost;
    rte_pktmbuf_free(m);
    return true;
  }
  std::minstd_rand random_{7};
  held out_, in_;
};

class Tcp : public testing::Test {
 protected:
  inline static rte_mempool* pool = nullptr;
  inline static std::unique_ptr<net::interface> interface;
  inline static std::vector<std::unique_ptr<net::link>> links;
  std::unique_ptr<link_packets> packets;
  bad_line line;
  std::unique_ptr<tcp_stack> stack;
  recording_handler handler;
  tcp_options options;
  std::uint64_t clock = 0; ///< what is added to the time, so that timers can be brought forward

  static void SetUpTestSuite() {
    pool = rte_pktmbuf_pool_create("stream", 16383, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
    ASSERT_NE(pool, nullptr);
    net::interface_config c;
    c.address = net::parse_ipv4_prefix("198.18.7.1/24").value();
    c.tcp = true;
    c.ipv6 = true;
    c.address6 = net::parse_ipv6_prefix("2001:db8:7::1/64").value();
    auto opened = net::open_interface(c, {.pool = pool});
    ASSERT_TRUE(opened) << opened.error().message;
    interface = std::move(*opened);
    net::link_options l;
    l.pool = pool;
    auto made = net::link::create(*interface, l);
    ASSERT_TRUE(made) << made.error().message;
    links.push_back(std::move(*made));
  }
  static void TearDownTestSuite() {
    links.clear();
    interface.reset();
    rte_mempool_free(pool);
  }
  void SetUp() override { start(); }
  void TearDown() override {
    line.clear();
    stack.reset();
  }
  void start() {
    stack.reset();
    packets = std::make_unique<link_packets>(links, pool);
    line.good = packets.get();
    auto made = tcp_stack::create(options, handler, line);
    ASSERT_TRUE(made) << made.error().message;
    stack = std::move(*made);
    packets->attach(*stack);
    links[0]->hand_tcp_to(&line);
    handler.stack = stack.get();
    ASSERT_TRUE(packets->add_interfaces(*stack));
    ASSERT_TRUE(stack->listen(own_port));
  }
  void round() {
    std::array<net::datagram, 64> in;
    const std::uint64_t now = rte_rdtsc() + clock;
    packets->begin_round(now);
    const std::uint16_t n = links[0]->receive(in, now);
    for (std::uint16_t i = 0; i < n; ++i)
      rte_pktmbuf_free(in[i].frame);
    const bool any = stack->poll(now);
    links[0]->pump(now);
    if (const char* wrong = stack->audit()) ADD_FAILURE() << wrong;
    if (n == 0 && !any) std::this_thread::yield();
  }
  /// Runs the stack while `clients` run on another thread.
  void run(const std::function<void()>& clients) {
    std::atomic<bool> done{false};
    std::thread other = client_thread([&] {
      clients();
      done = true;
    });
    while (!done)
      round();
    other.join();
  }
  /// Runs the stack until the condition holds, for at most a minute.
  bool run_until(const std::function<bool()>& holds) {
    const std::uint64_t end = rte_rdtsc() + 60 * rte_get_tsc_hz();
    while (!holds()) {
      if (rte_rdtsc() > end) return false;
      round();
    }
    return true;
  }
};

} // namespace chainring::stream
