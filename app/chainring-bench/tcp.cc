// SPDX-License-Identifier: BSD-3-Clause
// This benchmark sends 64 octets back to each of up to 100,000 TCP clients: what the TCP stack
// itself costs, between the link below it and the front end above it. The clients are in this
// process and are not counted. A segment with data is received, handed to the handler, written,
// and leaves with the acknowledgement; the client's own acknowledgement is a segment of its own.
//
// With --messages nothing is timed. Under valgrind's callgrind, started with --instr-atstart=no,
// each number of connections leaves dumps of its own for these two and for calls of poll() while
// all connections are idle and both timers of TCP are due.
#include <algorithm>
#include <array>
#include <cstdio>
#include <rte_cycles.h>
#include <string>

#include "counted.h"
#include "figures.h"
#include "mqtt/server_state.h"
#include "tcp_peers.h"

namespace chainring::bench {

namespace {

constexpr std::array<std::uint32_t, 4> numbers = {1, 1000, 10'000, 100'000};
constexpr std::uint32_t batch = 256;
constexpr double memory_max = 1024; ///< octets of an idle connection

class echo final : public stream::byte_stream_handler {
 public:
  stream::tcp_stack* stack = nullptr;
  std::uint64_t accepted_count = 0;

  void accepted(stream::connection, const net::endpoint&, std::uint16_t) noexcept override {
    ++accepted_count;
  }
  void received(stream::connection c, std::span<const std::byte> octets) noexcept override {
    (void)stack->write(c, octets);
    stack->push(c);
    stack->consumed(c, static_cast<std::uint32_t>(octets.size()));
  }
  void finished(stream::connection c) noexcept override { stack->close(c); }
  void writable(stream::connection) noexcept override {}
  void ended(stream::connection, stream::end_reason) noexcept override {}
};

/// A stack with so many open connections.
class world {
 public:
  explicit world(std::uint32_t connections) : peers_(pool(), connections) {
    stream::tcp_options o;
    o.connections_max = connections + 1;
    auto made = stream::tcp_stack::create(o, handler_, peers_);
    if (!made) return;
    stack_ = std::move(*made);
    handler_.stack = stack_.get();
    tables_ = stack_->memory();
    if (!stack_->add_interface(0, tcp_peers::own_address, 1500) ||
        !stack_->listen(tcp_peers::own_port))
      return;
    peers_.open(*stack_, 0, connections, now_);
    good_ = handler_.accepted_count == connections;
  }
  [[nodiscard]] bool good() const { return good_; }
  /// The octets that the stack holds for each connection while nothing is under way.
  [[nodiscard]] double memory() const {
    return static_cast<double>(tables_) / (peers_.size() + 1.0) +
           static_cast<double>(stack_->memory() - tables_) / peers_.size();
  }
  /// Makes a segment with data of each of the next clients.
  void make_data() {
    frames_.clear();
    for (std::uint32_t i = 0; i < batch_size(); ++i) {
      next_ = (next_ + 7919) % peers_.size(); // a prime number, so that all have their turn
      frames_.push_back(peers_.make(next_, RTE_TCP_ACK_FLAG | RTE_TCP_PSH_FLAG, octets_));
    }
  }
  /// How many clients send at one time: each waits for its answer before it sends again.
  [[nodiscard]] std::uint32_t batch_size() const { return std::min(peers_.size(), batch); }
  /// Makes the acknowledgements of what make_data()'s clients were sent.
  void make_acknowledgements() {
    frames_.clear();
    peers_.read([this](std::uint32_t n) { frames_.push_back(peers_.make(n, RTE_TCP_ACK_FLAG)); });
    answers_ += frames_.size();
  }
  /// The part that counts.
  void serve() {
    for (rte_mbuf* m : frames_)
      stack_->input(m, 0, 0, true);
    (void)stack_->poll(now_);
  }
  void serve_timers() {
    now_ += rte_get_tsc_hz() / 2;
    (void)stack_->poll(now_);
  }
  [[nodiscard]] std::size_t frames() const { return frames_.size(); }
  [[nodiscard]] std::uint64_t answers() const { return answers_; }

 private:
  static rte_mempool* pool() {
    static rte_mempool* const p =
        rte_pktmbuf_pool_create("tcp", 8191, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
    return p;
  }
  const std::string octets_ = std::string(64, 'e');
  tcp_peers peers_;
  echo handler_;
  std::unique_ptr<stream::tcp_stack> stack_;
  std::vector<rte_mbuf*> frames_;
  std::uint64_t now_ = 1, tables_ = 0, answers_ = 0;
  std::uint32_t next_ = 0;
  bool good_ = false;
};

/// Dumps what callgrind has counted since the last dump, and says for how many operations.
template <class F> void counted(const std::string& name, F&& work) {
  CALLGRIND_START_INSTRUMENTATION;
  work();
  CALLGRIND_STOP_INSTRUMENTATION;
  CALLGRIND_DUMP_STATS_AT(name.c_str());
}

bool count(bench_context& c, world& w, const std::string& with) {
  std::uint64_t echoes = 0, acknowledgements = 0;
  const bool one = w.batch_size() == 1; // each of its echoes is a dump
  const std::uint64_t wanted = one ? std::min<std::uint64_t>(c.o.messages, 64) : c.o.messages;
  for (unsigned warm = 0; warm < 4 || echoes < wanted; ++warm) {
    const bool counts = warm >= 4;
    w.make_data();
    const auto serve = [&] { w.serve(); };
    if (counts) {
      counted("echo, " + with, serve);
      echoes += w.frames();
    } else {
      serve();
    }
    w.make_acknowledgements();
    if (counts) {
      counted("acknowledgement, " + with, serve);
      acknowledgements += w.frames();
    } else {
      serve();
    }
  }
  constexpr std::uint64_t polls = 100;
  counted("idle timers, " + with, [&] {
    for (std::uint64_t i = 0; i < polls; ++i)
      w.serve_timers();
  });
  for (const auto& [name, n] : {std::pair("echo, ", echoes),
                                {"acknowledgement, ", acknowledgements},
                                {"idle timers, ", polls}})
    c.out.add(figure("counted: " + (name + with), "", {static_cast<double>(n)}));
  return echoes == acknowledgements;
}

} // namespace

bool tcp_figures(bench_context& c) {
  c.out.heading("tcp: 64 octets sent back, clients in this process");
  if (!stream::tcp_available()) {
    c.out.note("This program was built without TCP, so that the group tcp has no figures.");
    return true;
  }
  for (const std::uint32_t connections : numbers) {
    const std::string with =
        std::to_string(connections) + (connections == 1 ? " connection" : " connections");
    world w(connections);
    if (!w.good()) {
      std::fprintf(stderr, "tcp: %u connections were not opened\n", connections);
      return false;
    }
    const double memory = w.memory();
    if (c.o.messages != 0) {
      if (!count(c, w, with)) return false;
    } else {
      std::uint64_t sent = 0;
      const auto turn = [&] {
        w.make_data();
        w.serve();
        sent += w.frames();
        w.make_acknowledgements();
        w.serve();
      };
      turn();
      const double per_turn = static_cast<double>(sent);
      auto times = alternate(c.time(), timed(turn)).own;
      for (double& t : times)
        t /= per_turn;
      c.out.add(figure("echo, client included, " + with, "ns", times));
      if (w.answers() < sent) {
        std::fprintf(stderr, "tcp: %lu of %lu segments were not answered\n", sent - w.answers(),
                     sent);
        return false;
      }
    }
    if (connections == numbers.back())
      c.out.add(figure("memory of an idle connection, TCP", "bytes", {memory},
                       target{target::sense::at_most, memory_max}));
  }
  c.out.add(figure("memory of an idle connection, MQTT's own, without buffers", "bytes",
                   {static_cast<double>(sizeof(mqtt::client))}));
  return true;
}

} // namespace chainring::bench
