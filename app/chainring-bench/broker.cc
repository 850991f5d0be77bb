// SPDX-License-Identifier: BSD-3-Clause
// This benchmark runs one broker worker and its clients on one thread, connected by a memory port
// (net_ring). A loop iteration is the worker's round, as in app/dpdk-chainring/service.cc, followed
// by one step of the clients. "A worker second" is a second of this thread's CPU time without the
// clients' share, which the TSC measures. "A second" is a second of wall-clock time, which includes
// the clients and other processes. The packets are real: Ethernet, IPv4, UDP and MQTT-SN 1.2. The
// memory port has no offloads, so all checksums are computed and checked in software.
//
// Under valgrind's callgrind, started with --instr-atstart=no and --toggle-collect of
// world::round(), the counters cover the measured messages only, and of these the worker's part.
// The set-up of the clients runs without counting, and so faster. tests/instructions does this.
#include "broker/broker.h"
#include "mqttsn/gateway.h"
#include "mqttsn/sink.h"

#include <array>
#include <cstdio>
#include <deque>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_timer.h>

#include "base/idle.h"
#include "clients.h"
#include "figures.h"
#include "net/listener.h"

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#endif

namespace chainring::bench {

namespace {

constexpr std::uint32_t ring_slots = 32768;
constexpr std::uint64_t region_size = 256 << 20;

/// A port that receives frames from one ring and transmits frames into another ring.
struct memory_port {
  rte_ring* in = nullptr;
  rte_ring* out = nullptr;
  int id = -1;

  explicit memory_port(const std::string& name) {
    in = rte_ring_create((name + "_in").c_str(), ring_slots, SOCKET_ID_ANY,
                         RING_F_SP_ENQ | RING_F_SC_DEQ);
    out = rte_ring_create((name + "_out").c_str(), ring_slots, SOCKET_ID_ANY,
                          RING_F_SP_ENQ | RING_F_SC_DEQ);
    if (in != nullptr && out != nullptr) id = rte_eth_from_rings(name.c_str(), &in, 1, &out, 1, 0);
  }
  /// The port must be closed by its user before this destructor runs.
  ~memory_port() {
    for (rte_ring* r : {in, out}) {
      void* m = nullptr;
      while (r != nullptr && rte_ring_dequeue(r, &m) == 0)
        rte_pktmbuf_free(static_cast<rte_mbuf*>(m));
      rte_ring_free(r);
    }
  }
  memory_port(const memory_port&) = delete;
  memory_port& operator=(const memory_port&) = delete;
};

struct pool_deleter {
  void operator()(rte_mempool* p) const { rte_mempool_free(p); }
};

/// The measurements of one slice of time.
struct slice {
  double messages = 0, messages_per_worker_s = 0, messages_per_s = 0, drains_per_burst = 0,
         drain_share = 0, messages_per_burst = 0, group_us = 0, worker_ns = 0, p50_us = 0,
         p99_us = 0, p99_groups = 0;
};

class world {
 public:
  static result<std::unique_ptr<world>> create(bench_context& c, durability_class d,
                                               std::uint32_t clients, std::uint32_t window);
  ~world();
  /// Runs rounds until `done()` returns true. Returns false on an error, which why() describes.
  template <class Done> bool run_until(Done&& done);
  /// Measures for a time, or where `messages` is not 0, until so many are acknowledged.
  bool run(double seconds, std::uint64_t messages, slice& out);
  [[nodiscard]] client_fleet& clients() { return *fleet_; }
  [[nodiscard]] std::string why() const;
  [[nodiscard]] result<void> close();

 private:
  world() = default;
  [[gnu::noinline]] bool round();
  void watch_commits();

  std::unique_ptr<file_region> file_;
  std::unique_ptr<rte_mempool, pool_deleter> pool_;
  std::unique_ptr<memory_port> port_;
  std::unique_ptr<net::interface> interface_;
  std::unique_ptr<chainring::broker> broker_;
  std::unique_ptr<mqttsn::gateway> gateway_;
  std::unique_ptr<net::listener_group> listeners_;
  std::unique_ptr<client_fleet> fleet_;
  idle_policy idle_;
  std::uint64_t client_tsc_ = 0;
  std::deque<mark_t> marks_; ///< marks that are not durable yet, oldest first
  std::uint64_t commits_ = 0;
};

result<std::unique_ptr<world>> world::create(bench_context& c, durability_class d,
                                             std::uint32_t clients, std::uint32_t window) {
  std::unique_ptr<world> w(new world);
  static unsigned number = 0;
  const std::string name = "bench" + std::to_string(number++);
  const auto no_memory = error{errc::no_space, "no memory; give EAL more (-m 512)"};
  w->pool_.reset(rte_pktmbuf_pool_create((name + "_packets").c_str(), 65535,
                                         RTE_MEMPOOL_CACHE_MAX_SIZE, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
                                         SOCKET_ID_ANY));
  if (w->pool_ == nullptr) return no_memory;
  w->port_ = std::make_unique<memory_port>(name);
  if (w->port_->id < 0) return no_memory;

  net::interface_config ic;
  ic.port_id = static_cast<std::uint16_t>(w->port_->id);
  ic.address = {0x0a000001, 8}; // 10.0.0.1/8
  ic.udp_port = 10000;
  net::port_options po;
  po.pool = w->pool_.get();
  auto opened = net::open_interface(ic, po);
  if (!opened) return opened.error();
  w->interface_ = std::move(*opened);
  net::listener_options lo;
  lo.tx_capacity = 16384;
  lo.pool = w->pool_.get();
  std::array<net::interface*, 1> all{w->interface_.get()};
  auto listeners = net::listener_group::create(all, lo);
  if (!listeners) return listeners.error();
  w->listeners_ = std::move(*listeners);

  std::unique_ptr<media> medium;
  if (d == durability_class::file) {
    auto file = file_region::create(c, region_size);
    if (!file) return file.error();
    w->file_ = std::move(*file);
    medium = w->file_->take();
  } else {
    medium = memory_media(region_size, d);
    use_hugepages(*medium);
  }
  store_layout layout;
  layout.sessions_max = clients + 16;
  layout.subscriptions_max = clients + 16;
  region_options ro;
  ro.areas = chainring::broker::areas(layout, region_size, ro.block_size);
  auto made = region::create_on(std::move(medium), ro);
  if (!made) return made.error();
  broker_config bc;
  bc.queue_slots = 64;
  bc.topics_max = 2 * clients + 16;
  mqttsn::gateway_config gc;
  gc.registrations_max = 4 * clients + 16;
  gc.datagram_size_max = static_cast<std::uint16_t>(w->interface_->datagram_max());
  bc.content_size_max = mqttsn::payload_size_max(gc.datagram_size_max);
  auto served = chainring::broker::open(std::move(*made), bc);
  if (!served) return served.error();
  w->broker_ = std::move(*served);
  auto gateway = mqttsn::gateway::create(*w->broker_, gc);
  if (!gateway) return gateway.error();
  w->gateway_ = std::move(*gateway);
  w->gateway_->worker(0).attach(w->listeners_->worker(0).out(), &w->listeners_->worker(0));

  fleet_options fo;
  fo.clients = clients;
  fo.window = std::min(window, clients);
  fo.to_port = w->port_->in;
  fo.from_port = w->port_->out;
  fo.pool = w->pool_.get();
  fo.broker_mac = w->interface_->device.mac();
  fo.broker = {ic.address.address, ic.udp_port, 0};
  fo.first_address = 0x0a010000; // 10.1.0.0
  w->fleet_ = std::make_unique<client_fleet>(fo);
  return w;
}

world::~world() {
  fleet_.reset();
  gateway_.reset();
  broker_.reset();
  listeners_.reset();
  interface_.reset();
  port_.reset();
}

// One round of the worker, the same as the loop body of service::loop() with one worker.
bool world::round() {
  media& medium = broker_->region().medium();
  net::listener& in = listeners_->worker(0);
  mqttsn::gateway_sink sink(*gateway_, 0);
  bool any = medium.has_room() && in.poll(sink);
  gateway_->worker(0).judge(rte_rdtsc());
  const mark_t mark = broker_->worker(0).end_burst();
  any |= broker_->worker(0).worked();
  gateway_->worker(0).send(mark);
  any |= in.send(medium, rte_rdtsc());
  return any;
}

// Each advance of the durable end of the journal is one group commit. This function is called once
// in every round, and a round is shorter than a commit, so it misses none.
void world::watch_commits() {
  media& medium = broker_->region().medium();
  if (medium.durability() != durability_class::file) return;
  const mark_t now = medium.mark();
  if (marks_.empty() || marks_.back() != now) marks_.push_back(now);
  bool moved = false;
  while (!marks_.empty() && medium.durable(marks_.front())) {
    marks_.pop_front();
    moved = true;
  }
  commits_ += moved;
}

template <class Done> bool world::run_until(Done&& done) {
  while (!done()) {
    bool any = round();
    const std::uint64_t before = rte_rdtsc();
    any |= fleet_->step();
    watch_commits();
    client_tsc_ += rte_rdtsc() - before;
    if (any)
      idle_.busy();
    else
      idle_.idle();
    if (!fleet_->wrong().empty() || broker_->region().failed()) return false;
  }
  return true;
}

bool world::run(double seconds, std::uint64_t messages_wanted, slice& out) {
  const broker_counters before = broker_->counters();
  const std::uint64_t client_before = client_tsc_, commits_before = commits_;
  app::latencies latency;
  fleet_->latency = &latency;
  const double cpu_before = cpu_seconds();
  const std::uint64_t start = rte_rdtsc();
  const auto length = static_cast<std::uint64_t>(seconds * static_cast<double>(rte_get_tsc_hz()));
  CALLGRIND_START_INSTRUMENTATION;
  const bool good = run_until([&] {
    return messages_wanted != 0 ? broker_->counters().acked - before.acked >= messages_wanted
                                : rte_rdtsc() - start >= length;
  });
  CALLGRIND_STOP_INSTRUMENTATION;
  fleet_->latency = nullptr;
  if (!good) return false;
  const double cpu = cpu_seconds() - cpu_before;
  const auto hz = static_cast<double>(rte_get_tsc_hz());
  const auto all_tsc = static_cast<double>(rte_rdtsc() - start);
  const double worker_tsc = all_tsc - static_cast<double>(client_tsc_ - client_before);
  const broker_counters after = broker_->counters();
  // A message counts as done when its subscriber has acknowledged it.
  const auto messages = static_cast<double>(after.acked - before.acked);
  const auto bursts = static_cast<double>(after.bursts - before.bursts);
  if (messages == 0 || bursts == 0) return true;
  const double worker_s = cpu * worker_tsc / all_tsc;
  out.messages = messages;
  out.messages_per_worker_s = messages / worker_s;
  out.messages_per_s = messages * hz / all_tsc;
  out.drains_per_burst = static_cast<double>(after.drains - before.drains) / bursts;
  out.drain_share = static_cast<double>(after.drain_tsc - before.drain_tsc) / worker_tsc;
  out.messages_per_burst = messages / bursts;
  out.worker_ns = worker_s * 1e9 / messages;
  out.p50_us = latency.quantile_us(0.5);
  out.p99_us = latency.quantile_us(0.99);
  if (commits_ != commits_before) {
    out.group_us = all_tsc / hz * 1e6 / static_cast<double>(commits_ - commits_before);
    out.p99_groups = out.p99_us / out.group_us;
  }
  return true;
}

std::string world::why() const {
  if (!fleet_->wrong().empty()) return fleet_->wrong();
  if (broker_->region().failed()) return "the region's file cannot be written any more";
  if (listeners_->worker(0).links()[0]->drops().total() != 0)
    return "the listener dropped received packets";
  if (listeners_->worker(0).out().dropped() != 0)
    return "the listener dropped answers of the broker";
  return "";
}

result<void> world::close() {
  return broker_->close();
}

bool complain(const char* where, const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", where, what.c_str());
  return false;
}

bool measure(bench_context& c, durability_class d, std::uint32_t clients, std::uint32_t window) {
  const bool file = d == durability_class::file;
  auto made = world::create(c, d, clients, window);
  if (!made) return complain("broker", made.error().message);
  world& w = **made;
  client_fleet& fleet = w.clients();
  if (!w.run_until([&] { return fleet.set_up(); })) return complain("broker", w.why());
  // Wait until every queue has received its first message, and with it its first ring, before
  // anything is measured.
  fleet.publish(true);
  if (!w.run_until([&] { return fleet.delivered() >= 2 * std::uint64_t{clients}; }))
    return complain("broker", w.why());
  std::vector<slice> slices;
  const budget b = c.time();
  const unsigned count = c.o.messages != 0 ? 1 : std::max(b.rounds_min, 3u);
  for (unsigned i = 0; i < count; ++i) {
    slice s;
    if (!w.run(c.o.quick ? 0.05 : b.seconds / count, c.o.messages, s))
      return complain("broker", w.why());
    slices.push_back(s);
  }
  fleet.publish(false);
  if (!w.run_until([&] { return fleet.quiet(); })) return complain("broker", w.why());
  if (const std::string why = w.why(); !why.empty()) return complain("broker", why);
  if (auto closed = w.close(); !closed) return complain("broker", closed.error().message);

  const auto of = [&](auto member, double scale = 1) {
    std::vector<double> v;
    for (const slice& s : slices)
      v.push_back(s.*member * scale);
    return v;
  };
  const std::string of_clients = ", " + std::to_string(clients) + " clients";
  const auto at_least = [](double x) { return target{target::sense::at_least, x}; };
  const auto at_most = [](double x) { return target{target::sense::at_most, x}; };
  // In class `file` the committer thread works while the clients run, so only wall-clock time gives
  // a fair figure.
  std::optional<target> per_worker, per_second;
  if (file)
    per_second = at_least(0.5);
  else
    per_worker = at_least(clients == 64 ? 5 : 2);
  c.out.add(figure("messages a worker second" + of_clients, "M/s",
                   of(&slice::messages_per_worker_s, 1e-6), per_worker));
  c.out.add(figure("messages a second, clients' time in it", "M/s",
                   of(&slice::messages_per_s, 1e-6), per_second));
  c.out.add(figure("worker time a message", "ns", of(&slice::worker_ns)));
  if (c.o.messages != 0) c.out.add(figure("messages measured", "", of(&slice::messages)));
  c.out.add(figure("drains a burst", "", of(&slice::drains_per_burst), at_most(2)));
  c.out.add(figure("messages a burst", "", of(&slice::messages_per_burst)));
  c.out.add(figure("drains' share of the worker's time", "%", of(&slice::drain_share, 100)));
  c.out.add(figure("PUBLISH to PUBACK, p50", "us", of(&slice::p50_us)));
  c.out.add(figure("PUBLISH to PUBACK, p99", "us", of(&slice::p99_us)));
  if (file) {
    c.out.add(figure("one group commit", "us", of(&slice::group_us)));
    c.out.add(
        figure("PUBLISH to PUBACK, p99, in group commits", "", of(&slice::p99_groups), at_most(3)));
  }
  if (fleet.refused() != 0)
    c.out.note(std::to_string(fleet.refused()) +
               " PUBLISH messages were refused because of congestion");
  return true;
}

bool figures(bench_context& c, durability_class d, std::uint32_t window) {
  if (c.o.window != 0) window = c.o.window;
  c.out.heading(
      std::string("broker: durable QoS 1, 64 bytes, fan-out 1, class ") + to_string(d) +
      ", one worker, memory port, window " + std::to_string(window) +
      (rte_eal_has_hugepages() != 0 ? ", packets on hugepages" : ", packets on 4 KiB pages"));
  if (c.o.clients != 0) return measure(c, d, c.o.clients, window);
  const std::uint32_t many = c.o.quick ? 1000 : 10'000;
  return measure(c, d, many, window) && measure(c, d, 64, window);
}

} // namespace

bool broker_emulated_figures(bench_context& c) {
  return figures(c, durability_class::emulated, 64);
}
bool broker_file_figures(bench_context& c) {
  return figures(c, durability_class::file, 1024);
}

} // namespace chainring::bench
