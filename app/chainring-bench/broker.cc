// SPDX-License-Identifier: BSD-3-Clause
// This benchmark runs one broker worker and its clients on one thread, connected by a memory port
// (net_ring). A loop iteration is the worker's round, as in app/dpdk-chainring/service.cc, followed
// by one step of the clients. "A worker second" is a second of this thread's CPU time without the
// clients' share, which the TSC measures. "A second" is a second of wall-clock time, which includes
// the clients and other processes. The packets are real: Ethernet, IPv4, UDP and MQTT-SN 1.2. The
// memory port has no offloads, so all checksums are computed and checked in software.
//
// Two peers run in turn with a broker of class `emulated`. The first is the same broker with the
// same clients in class `process`, whose flushes are nothing and whose drain is one fence: it says
// what durability costs. The second is a bare loop that forwards the same frames (forward.h): it
// says how far the broker is from what this machine can do at all.
//
// Under valgrind's callgrind, started with --instr-atstart=no and --toggle-collect of
// world::round(), the counters cover the measured messages only, and of these the worker's part.
// The set-up of the clients runs without counting, and so faster. tests/instructions does this.
#include "broker/broker.h"
#include "mqttsn/gateway.h"

#include <cstdio>
#include <deque>
#include <optional>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_timer.h>
#include <sched.h>

#include "base/idle.h"
#include "broker_port.h"
#include "client_side.h"
#include "clients.h"
#include "counted.h"
#include "figures.h"
#include "forward.h"
#include "mqttsn/taking_sink.h"
#include "net/listener.h"

namespace chainring::bench {

namespace {

constexpr std::uint64_t region_size = 256 << 20;

/// What the clients do.
struct load {
  std::uint32_t clients = 64, window = 64, payload_size = 64, fan_out = 1;
  int journal_cpu = -1; ///< media_options::journal_cpu
  std::uint32_t block_size = 256;
  std::optional<std::uint32_t> rx_in_region; ///< as the broker's argument

  /// The targets of the design are about messages of this size for one subscriber.
  [[nodiscard]] bool as_designed() const { return payload_size == 64 && fan_out == 1; }
};

/// The measurements of one slice of time.
struct slice {
  double messages = 0, messages_per_worker_s = 0, messages_per_s = 0, drains_per_burst = 0,
         drain_share = 0, messages_per_burst = 0, group_us = 0, worker_ns = 0, p50_us = 0,
         p90_us = 0, p99_us = 0, p99_9_us = 0, p99_groups = 0, frames_per_round = 0;
  // Of class file, in the committer thread: the checksums of the journal's records, and their write
  // with its sync.
  double seal_ns = 0, commit_us = 0, messages_per_commit = 0, journal_bytes = 0;
};

class world {
 public:
  static result<std::unique_ptr<world>> create(bench_context& c, durability_class d, const load& l,
                                               rte_mempool* pool);
  ~world();
  world(const world&) = delete;
  world& operator=(const world&) = delete;
  /// Runs rounds until `done()` returns true. Returns false on an error, which why() describes.
  template <class Done> bool run_until(Done&& done);
  /// Measures for a time, or where `messages` is not 0, until so many are acknowledged.
  bool run(double seconds, std::uint64_t messages, slice& out);
  [[nodiscard]] client_fleet& clients() { return *fleet_; }
  /// From now on the thread polls and never sleeps, so that no sleep is part of a latency.
  void poll() { idle_ = idle_policy(idle_mode::poll); }
  [[nodiscard]] std::string why() const;
  [[nodiscard]] result<void> close();

 private:
  world() = default;
  result<void> receive_into_region(std::uint32_t octets_min);
  [[gnu::noinline]] bool round();
  void watch_commits();

  std::unique_ptr<file_region> file_;
  broker_port at_;
  std::unique_ptr<receive_pool> rooms_; ///< whose mbufs the clients fill, as a port would
  std::optional<mqttsn::taking_sink> taking_;
  std::unique_ptr<client_fleet> fleet_;
  idle_policy idle_;
  std::uint64_t client_tsc_ = 0;
  std::uint64_t busy_rounds_ = 0; ///< rounds in which the worker or the clients had something to do
  std::uint32_t fan_out_ = 1;
  std::deque<mark_t> marks_; ///< marks that are not durable yet, oldest first
  std::uint64_t commits_ = 0;
};

result<std::unique_ptr<world>> world::create(bench_context& c, durability_class d, const load& l,
                                             rte_mempool* pool) {
  std::unique_ptr<world> w(new world);
  w->fan_out_ = l.fan_out;
  if (auto opened = w->at_.open({.pool = pool}); !opened) return opened.error();

  std::unique_ptr<media> medium;
  if (d == durability_class::file) {
    auto file = file_region::create(c, region_size, l.journal_cpu);
    if (!file) return file.error();
    w->file_ = std::move(*file);
    medium = w->file_->take();
  } else {
    medium = memory_media(region_size, d);
    use_hugepages(*medium);
  }
  store_layout layout;
  layout.sessions_max = l.clients + 16;
  layout.subscriptions_max = l.clients * l.fan_out + 16;
  region_options ro;
  ro.block_size = l.block_size;
  ro.areas = chainring::broker::areas(layout, region_size, ro.block_size);
  auto made = region::create_on(std::move(medium), ro);
  if (!made) return made.error();
  broker_config bc;
  bc.queue_slots = 64;
  bc.topics_max = 2 * l.clients + 16;
  mqttsn::gateway_config gc;
  gc.registrations_max = (2 * l.fan_out + 2) * l.clients + 16;
  if (auto served = w->at_.serve(std::move(*made), bc, gc); !served) return served.error();
  if (l.rx_in_region)
    if (auto received = w->receive_into_region(*l.rx_in_region); !received) return received.error();

  fleet_options fo;
  fo.clients = l.clients;
  fo.window = std::min(l.window, l.clients);
  fo.payload_size = l.payload_size;
  fo.fan_out = l.fan_out;
  fo.to_port = w->at_.port->in;
  fo.from_port = w->at_.port->out;
  fo.pool = w->rooms_ != nullptr ? w->rooms_->mempool() : pool;
  fo.broker_mac = w->at_.interface->device.mac();
  fo.broker = broker_port::address;
  fo.first_address = 0x0a010000; // 10.1.0.0
  w->fleet_ = std::make_unique<client_fleet>(fo);
  return w;
}

result<void> world::receive_into_region(std::uint32_t octets_min) {
  constexpr std::uint32_t frames = 16383;
  receive_pool_options o;
  o.mbufs = frames;
  o.cache_mbufs = RTE_MEMPOOL_CACHE_MAX_SIZE;
  o.data_room = static_cast<std::uint16_t>(at_.broker->blocks().block_size());
  auto made = receive_pool::create((new_name() + "_rooms").c_str(), at_.broker->blocks(), o);
  if (!made) return made.error();
  rooms_ = std::move(*made);
  taking_.emplace(*at_.gateway, 0, *rooms_);
  at_.broker->worker(0).receive_from(&*taking_, octets_min);
  return {};
}

world::~world() {
  // What the clients have sent lies in the port.
  fleet_.reset();
  if (at_.port != nullptr)
    for (void* m = nullptr; rte_ring_dequeue(at_.port->in, &m) == 0;)
      rte_pktmbuf_free(static_cast<rte_mbuf*>(m));
  // ARP answers leave in the frames of their requests.
  if (rooms_ != nullptr && rte_mempool_full(rooms_->mempool()) == 0) (void)rooms_.release();
}

bool world::round() {
  if (taking_) return run_round(*at_.broker, *at_.gateway, at_.listeners->worker(0), 0, *taking_);
  return run_round(*at_.broker, *at_.gateway, at_.listeners->worker(0));
}

// Each advance of the durable end of the journal is one group commit. This function is called once
// in every round, and a round is shorter than a commit, so it misses none.
void world::watch_commits() {
  media& medium = at_.broker->region().medium();
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
    busy_rounds_ += any;
    if (any)
      idle_.busy();
    else
      idle_.idle();
    if (!fleet_->wrong().empty() || at_.broker->region().failed()) return false;
  }
  return true;
}

bool world::run(double seconds, std::uint64_t messages_wanted, slice& out) {
  const broker_counters before = at_.broker->counters();
  const std::uint64_t client_before = client_tsc_, commits_before = commits_,
                      rounds_before = busy_rounds_, wanted = messages_wanted * fan_out_;
  app::latencies latency;
  fleet_->latency = &latency;
  const double cpu_before = cpu_seconds();
  const journal_statistics journal_before = at_.broker->region().medium().journal_counts();
  const std::uint64_t start = rte_rdtsc();
  const auto length = static_cast<std::uint64_t>(seconds * static_cast<double>(rte_get_tsc_hz()));
  CALLGRIND_START_INSTRUMENTATION;
  const bool good = run_until([&] {
    if (wanted != 0) return at_.broker->counters().acked - before.acked >= wanted;
    // On a busy machine a short slice may end before the first message is through.
    const std::uint64_t passed = rte_rdtsc() - start;
    return passed >= length && (at_.broker->counters().acked != before.acked ||
                                passed >= 10 * length + rte_get_tsc_hz());
  });
  CALLGRIND_STOP_INSTRUMENTATION;
  fleet_->latency = nullptr;
  if (!good) return false;
  const double cpu = cpu_seconds() - cpu_before;
  const auto hz = static_cast<double>(rte_get_tsc_hz());
  const auto all_tsc = static_cast<double>(rte_rdtsc() - start);
  const double worker_tsc = all_tsc - static_cast<double>(client_tsc_ - client_before);
  const broker_counters after = at_.broker->counters();
  // A message counts as done when its subscribers have acknowledged it.
  const auto messages = static_cast<double>(after.acked - before.acked) / fan_out_;
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
  out.p90_us = latency.quantile_us(0.9);
  out.p99_us = latency.quantile_us(0.99);
  out.p99_9_us = latency.quantile_us(0.999);
  out.frames_per_round =
      messages * (1 + fan_out_) /
      static_cast<double>(std::max<std::uint64_t>(busy_rounds_ - rounds_before, 1));
  const journal_statistics journal = at_.broker->region().medium().journal_counts();
  if (const std::uint64_t n = journal.commits - journal_before.commits; n != 0) {
    out.seal_ns =
        static_cast<double>(journal.seal_tsc - journal_before.seal_tsc) / hz * 1e9 / messages;
    out.commit_us = static_cast<double>(journal.write_tsc - journal_before.write_tsc) / hz * 1e6 /
                    static_cast<double>(n);
    out.messages_per_commit = messages / static_cast<double>(n);
    out.journal_bytes = static_cast<double>(journal.bytes - journal_before.bytes) / messages;
  }
  if (commits_ != commits_before) {
    out.group_us = all_tsc / hz * 1e6 / static_cast<double>(commits_ - commits_before);
    out.p99_groups = out.p99_us / out.group_us;
  }
  return true;
}

std::string world::why() const {
  if (!fleet_->wrong().empty()) return fleet_->wrong();
  if (at_.broker->region().failed()) return "the region's file cannot be written any more";
  if (at_.listeners->worker(0).links()[0]->drops().total() != 0)
    return "the listener dropped received packets";
  if (at_.listeners->worker(0).out().dropped() != 0)
    return "the listener dropped answers of the broker";
  return "";
}

result<void> world::close() {
  return at_.broker->close();
}

/// The least messages a worker second of class `emulated`, in millions. Where a machine gives less,
/// the ratio to the bare loop decides.
double wanted_per_worker(std::uint32_t clients) {
  return clients == 64 ? 4 : 2;
}

bool complain(const char* where, const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", where, what.c_str());
  return false;
}

/// Connects the clients and lets every queue receive its first message, and with it its first ring,
/// before anything is measured.
bool prepare(world& w, const load& l) {
  client_fleet& fleet = w.clients();
  if (!w.run_until([&] { return fleet.set_up(); })) return complain("broker", w.why());
  fleet.publish(true);
  const std::uint64_t first = std::uint64_t{2} * l.clients * l.fan_out;
  return w.run_until([&] { return fleet.delivered() >= first; }) || complain("broker", w.why());
}

/// Waits until every accepted message is delivered and acknowledged, and closes the region.
bool finish(world& w) {
  client_fleet& fleet = w.clients();
  fleet.offer(0);
  fleet.publish(false);
  if (!w.run_until([&] { return fleet.quiet(); })) return complain("broker", w.why());
  if (const std::string why = w.why(); !why.empty()) return complain("broker", why);
  if (auto closed = w.close(); !closed) return complain("broker", closed.error().message);
  return true;
}

std::vector<double> values(const std::vector<slice>& slices, double slice::*member,
                           double scale = 1) {
  std::vector<double> v;
  for (const slice& s : slices)
    v.push_back(s.*member * scale);
  return v;
}

/// The worker's time a message, and that of the peers in the slices between.
struct in_turn {
  std::vector<slice> slices;
  pairs without_drains, bare; ///< nanoseconds; empty where there is no peer
};

/// The peers of a world of class `emulated`. Both are null where there are none.
struct peers {
  std::unique_ptr<world> without_drains;
  std::unique_ptr<forward_loop> bare;
};

bool run_in_turn(bench_context& c, world& w, peers& p, in_turn& out) {
  const budget b = c.time();
  const unsigned count = c.o.messages != 0 ? 1 : std::max(b.rounds_min, 3u);
  const double seconds = c.o.quick ? 0.05 : b.seconds / count;
  for (unsigned i = 0; i < count; ++i) {
    slice own, other;
    // Half of the time of a figure is its own where it has peers.
    const double own_seconds = p.bare != nullptr ? seconds / 2 : seconds;
    const auto run_own = [&] {
      return w.run(own_seconds, c.o.messages, own) || complain("broker", w.why());
    };
    if (i % 2 == 0 && !run_own()) return false;
    if (p.without_drains != nullptr && !p.without_drains->run(seconds / 4, 0, other))
      return complain("broker without drains", p.without_drains->why());
    if (i % 2 != 0 && !run_own()) return false;
    out.slices.push_back(own);
    if (p.bare == nullptr || own.messages == 0 || other.messages == 0) continue;
    const auto burst = static_cast<unsigned>(std::max(1.0, own.frames_per_round + 0.5));
    const double bare_ns = p.bare->run(seconds / 4, burst);
    if (bare_ns == 0) return complain("bare loop", "no packet buffer or no room in a ring is left");
    for (auto* of : {&out.without_drains, &out.bare})
      of->own.push_back(own.worker_ns);
    out.without_drains.peer.push_back(other.worker_ns);
    out.bare.peer.push_back(bare_ns);
  }
  return true;
}

/// The rows that compare the worker with its peers, and what they mean.
void show_peers(bench_context& c, const load& l, const in_turn& t) {
  row r = against("worker time a message, without drains", "ns", t.without_drains,
                  "the same in class process", {}, true);
  const double of_undrained = r.ratio;
  c.out.add(std::move(r));
  r = against("worker time a message, bare loop", "ns", t.bare, "l2fwd, the same frames", {}, true);
  const double of_bare = r.ratio, bare_ns = r.peer_value;
  c.out.add(std::move(r));
  char text[512];
  std::snprintf(
      text, sizeof text,
      "the broker works at %.0f %% of its speed without drains (at 100 %% its flushes and "
      "drains would cost nothing)",
      of_undrained * 100);
  c.out.note(text);
  std::snprintf(text, sizeof text,
                "a bare loop that receives %u frames for each message, writes their MAC addresses "
                "and sends them does %.1f M messages/s in bursts of %.0f frames; the broker does "
                "%.2f %% of that",
                1 + l.fan_out, 1e3 / bare_ns,
                std::min(median(values(t.slices, &slice::frames_per_round)), 64.0), of_bare * 100);
  c.out.note(text);
  const double own = median(values(t.slices, &slice::messages_per_worker_s)) * 1e-6,
               wanted = wanted_per_worker(l.clients);
  if (c.o.quick || !l.as_designed() || own >= wanted) return;
  std::snprintf(text, sizeof text,
                "this machine gives less than %.0f M messages a worker second now, so judge the "
                "broker by its share of the bare loop",
                wanted);
  c.out.note(text);
}

/// An open loop at a share of the greatest rate or at a fixed one: how long a message waits from
/// the moment it falls due until it is acknowledged.
bool show_offered(bench_context& c, world& w, double most_per_s, const offered_rate& offered) {
  const double rate = offered.percent ? most_per_s * offered.value / 100 : offered.value;
  const budget b = c.time();
  std::vector<slice> slices;
  w.poll();
  for (unsigned i = 0; i < std::max(b.rounds_min, 3u); ++i) {
    slice s;
    w.clients().offer(rate);
    if (!w.run(c.o.quick ? 0.05 : b.seconds / b.rounds_min, 0, s))
      return complain("broker", w.why());
    slices.push_back(s);
  }
  const std::string name = "offered " + offered.text + ", ";
  c.out.add(figure(name + "rate", "M/s", {rate * 1e-6}));
  c.out.add(figure(name + "rate reached", "M/s", values(slices, &slice::messages_per_s, 1e-6)));
  c.out.add(figure(name + "due to PUBACK, p50", "us", values(slices, &slice::p50_us)));
  c.out.add(figure(name + "due to PUBACK, p90", "us", values(slices, &slice::p90_us)));
  c.out.add(figure(name + "due to PUBACK, p99", "us", values(slices, &slice::p99_us)));
  c.out.add(figure(name + "due to PUBACK, p99.9", "us", values(slices, &slice::p99_9_us)));
  return true;
}

bool measure(bench_context& c, durability_class d, const load& l) {
  const bool file = d == durability_class::file;
  // tests/instructions counts messages of the broker alone, so that there are no peers then.
  const bool with_peers = d == durability_class::emulated && c.o.messages == 0;
  const packet_pool pool = make_pool();
  if (pool == nullptr) return complain("broker", no_memory().message);
  auto made = world::create(c, d, l, pool.get());
  if (!made) return complain("broker", made.error().message);
  world& w = **made;
  if (!prepare(w, l)) return false;
  peers p;
  if (with_peers) {
    auto other = world::create(c, durability_class::process, l, pool.get());
    if (!other) return complain("broker without drains", other.error().message);
    p.without_drains = std::move(*other);
    if (!prepare(*p.without_drains, l)) return false;
    const frames_of_message frames{static_cast<std::uint32_t>(w.clients().publish_octets()),
                                   static_cast<std::uint32_t>(w.clients().puback_octets()),
                                   l.fan_out};
    auto bare = forward_loop::create(new_name(), pool.get(), frames);
    if (!bare) return complain("bare loop", bare.error().message);
    p.bare = std::move(*bare);
  }
  in_turn t;
  if (!run_in_turn(c, w, p, t)) return false;

  const auto of = [&](double slice::*member, double scale = 1) {
    return values(t.slices, member, scale);
  };
  const std::string of_clients = ", " + std::to_string(l.clients) + " clients";
  const auto at_least = [](double x) { return target{target::sense::at_least, x}; };
  const auto at_most = [](double x) { return target{target::sense::at_most, x}; };
  // In class `file` the committer thread works while the clients run, so only wall-clock time gives
  // a fair figure.
  std::optional<target> per_worker, per_second;
  if (l.as_designed() && file)
    per_second = at_least(0.5);
  else if (l.as_designed())
    per_worker = at_least(wanted_per_worker(l.clients));
  c.out.add(figure("messages a worker second" + of_clients, "M/s",
                   of(&slice::messages_per_worker_s, 1e-6), per_worker));
  c.out.add(figure("messages a second, clients' time in it", "M/s",
                   of(&slice::messages_per_s, 1e-6), per_second));
  c.out.add(figure("worker time a message", "ns", of(&slice::worker_ns)));
  if (with_peers) show_peers(c, l, t);
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
    c.out.add(figure("journal: checksums, committer's time a message", "ns", of(&slice::seal_ns)));
    c.out.add(figure("journal: write and sync of one commit", "us", of(&slice::commit_us)));
    c.out.add(figure("journal: messages a commit", "", of(&slice::messages_per_commit)));
    c.out.add(figure("journal: octets a message", "", of(&slice::journal_bytes)));
  }
  const double most_per_s = median(of(&slice::messages_per_s));
  for (const offered_rate& offered : c.o.rates)
    if (!show_offered(c, w, most_per_s, offered)) return false;
  if (const auto refused = w.clients().refused(); refused != 0)
    c.out.note(std::to_string(refused) + " PUBLISH messages were refused because of congestion");
  return finish(w) && (p.without_drains == nullptr || finish(*p.without_drains));
}

/// The same load with the journal's threads on a CPU of their own, and on that of the worker.
bool show_committers(bench_context& c, load l) {
  const int own = sched_getcpu();
  std::vector<std::pair<int, const char*>> places = {{own, "on the worker's CPU"}};
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (i != own && CPU_ISSET(static_cast<std::size_t>(i), &c.all_cpus)) {
      places.insert(places.begin(), {i, "on a CPU of its own"});
      break;
    }
  if (places.size() == 1)
    c.out.note("this process may use one CPU, so the committer had none of its own");
  for (const auto& [cpu, name] : places) {
    l.journal_cpu = cpu;
    const packet_pool pool = make_pool();
    if (pool == nullptr) return complain("broker", no_memory().message);
    auto made = world::create(c, durability_class::file, l, pool.get());
    if (!made) return complain("broker", made.error().message);
    if (!prepare(**made, l)) return false;
    peers none;
    in_turn t;
    if (!run_in_turn(c, **made, none, t) || !finish(**made)) return false;
    const std::string with = std::string("committer ") + name + ", ";
    c.out.add(figure(with + "messages a second", "M/s",
                     values(t.slices, &slice::messages_per_s, 1e-6)));
    c.out.add(figure(with + "p99", "us", values(t.slices, &slice::p99_us)));
  }
  return true;
}

bool figures(bench_context& c, durability_class d, std::uint32_t window) {
  if (c.o.window != 0) window = c.o.window;
  const auto number = [](auto n) { return std::to_string(n); };
  c.out.heading(
      "broker: durable QoS 1, " + number(c.o.payload_size) + " bytes, fan-out " +
      number(c.o.fan_out) + ", class " + to_string(d) + ", one worker, memory port, window " +
      number(window) + ", blocks of " + number(c.o.block_size) +
      (c.o.rx_in_region ? ", payloads from " + number(*c.o.rx_in_region) + " received there"
                        : std::string()) +
      (rte_eal_has_hugepages() != 0 ? ", packets on hugepages" : ", packets on 4 KiB pages"));
  load l{c.o.clients, window, c.o.payload_size, c.o.fan_out, -1, c.o.block_size, c.o.rx_in_region};
  if (c.o.clients != 0) return measure(c, d, l);
  for (const std::uint32_t clients : {c.o.quick ? 1000u : 10'000u, 64u}) {
    l.clients = clients;
    if (!measure(c, d, l)) return false;
    if (d == durability_class::file && !show_committers(c, l)) return false;
  }
  return true;
}

} // namespace

bool broker_emulated_figures(bench_context& c) {
  return figures(c, durability_class::emulated, 64);
}
bool broker_file_figures(bench_context& c) {
  return figures(c, durability_class::file, 1024);
}

// Each pair is one broker that copies each payload and one that keeps it where it was received, in
// turn, with the same blocks.
bool received_figures(bench_context& c) {
  const budget b = c.time();
  const unsigned count = std::max(b.rounds_min, 3u);
  const double seconds = c.o.quick ? 0.05 : b.seconds / count / 2;
  const packet_pool pool = make_pool();
  if (pool == nullptr) return complain("received", no_memory().message);
  for (const std::uint32_t block_size : {2048u, 256u}) {
    c.out.heading("received: payloads kept where a port has received them, with blocks of 2048 "
                  "bytes, beside payloads copied into blocks of " +
                  std::to_string(block_size) + ", class emulated, 64 clients");
    for (const std::uint32_t payload : {64u, 256u, 1024u}) {
      load copying;
      copying.payload_size = payload;
      copying.block_size = block_size;
      load taking = copying;
      taking.block_size = 2048;
      taking.rx_in_region = 0;
      auto own = world::create(c, durability_class::emulated, taking, pool.get());
      if (!own) return complain("received", own.error().message);
      auto other = world::create(c, durability_class::emulated, copying, pool.get());
      if (!other) return complain("received", other.error().message);
      if (!prepare(**own, taking) || !prepare(**other, copying)) return false;
      pairs p;
      for (unsigned i = 0; i < count; ++i) {
        slice mine, theirs;
        if (i % 2 == 0 && !(*own)->run(seconds, 0, mine))
          return complain("received", (*own)->why());
        if (!(*other)->run(seconds, 0, theirs)) return complain("received", (*other)->why());
        if (i % 2 != 0 && !(*own)->run(seconds, 0, mine))
          return complain("received", (*own)->why());
        if (mine.messages == 0 || theirs.messages == 0) continue;
        p.own.push_back(mine.worker_ns);
        p.peer.push_back(theirs.worker_ns);
      }
      c.out.add(against("worker time a message, " + std::to_string(payload) + " octets", "ns", p,
                        "the same, copied"));
      if (!finish(**own) || !finish(**other)) return false;
    }
  }
  return true;
}

} // namespace chainring::bench
