// SPDX-License-Identifier: BSD-3-Clause
// Two workers of one broker, each with a receive and a transmit queue of a memory port and with
// clients of its own. Three things are varied. Clients are at home where their datagrams land, as
// RSS brings it about at best; or every datagram lands at the other worker, which hands it over.
// And a share of the messages crosses: the subscriber is at home at the other worker than the
// publisher.
//
// In time, each worker runs with its clients on a thread and a CPU of its own, in turn with a
// broker of one worker. A worker second is a second of the threads' CPU time without the clients'
// part, as in broker.cc, so the load's own cost is not in it.
//
// With --messages both workers run in turn on one thread, and nothing is timed. tests/instructions
// --workers counts what their rounds execute.
#include "broker/broker.h"
#include "mqttsn/gateway.h"

#include <atomic>
#include <cmath>
#include <cstdio>
#include <pthread.h>
#include <rte_cycles.h>
#include <rte_lcore.h>
#include <span>
#include <thread>

#include "base/idle.h"
#include "broker_port.h"
#include "client_side.h"
#include "clients.h"
#include "counted.h"
#include "figures.h"
#include "net/listener.h"

namespace chainring::bench {

namespace {

constexpr std::uint64_t region_size = 256 << 20;
constexpr std::uint32_t clients_each = 64; ///< clients of a worker
constexpr std::uint64_t home_seed = 1;
constexpr unsigned packets = 24575; ///< of a pool

/// One of the cases that are measured.
struct situation {
  std::string name;
  unsigned workers = 2;
  double crossing = 0;    ///< share of the messages, 0 to 1
  bool misplaced = false; ///< every datagram lands at the other worker
};

class crossing_world {
 public:
  static result<std::unique_ptr<crossing_world>> create(const situation& s, rte_mempool* pool);
  /// Connects the clients and delivers the first messages, on this thread.
  bool prepare();
  /// Runs the workers in turn on this thread until so many messages are acknowledged.
  bool count(std::uint64_t messages);
  /// Runs each worker of all these brokers on a CPU of its own, at the same time. Returns a
  /// worker's nanoseconds a message, or 0 on an error. The first worker runs on the calling thread.
  static double run(std::span<crossing_world* const> all, double seconds,
                    const std::vector<int>& cpus);
  bool finish();
  [[nodiscard]] std::uint64_t acked() const { return at_.broker->counters().acked; }
  [[nodiscard]] std::uint64_t handed_over() const;
  [[nodiscard]] std::string why() const;

 private:
  /// What belongs to one worker.
  struct lane {
    std::unique_ptr<client_fleet> fleet;
    std::uint64_t client_tsc = 0;
    double worker_s = 0;
  };
  crossing_world() = default;
  [[gnu::noinline]] bool round(unsigned worker);
  bool step(unsigned worker);
  template <class Done> bool run_until(Done&& done);
  void run_lane(unsigned worker, std::uint64_t end_tsc);

  broker_port at_;
  std::vector<lane> lanes_;
};

bool complain(const std::string& what) {
  std::fprintf(stderr, "workers: %s\n", what.c_str());
  return false;
}

result<std::unique_ptr<crossing_world>> crossing_world::create(const situation& s,
                                                               rte_mempool* pool) {
  std::unique_ptr<crossing_world> w(new crossing_world);
  broker_port_options po;
  po.pool = pool;
  po.workers = s.workers;
  po.slots = memory_port::ring_slots / 4;
  po.tx_capacity = 4096;
  if (auto opened = w->at_.open(po); !opened) return opened.error();

  auto medium = memory_media(region_size, durability_class::emulated);
  use_hugepages(*medium);
  store_layout layout;
  layout.sessions_max = s.workers * clients_each + 16;
  layout.subscriptions_max = layout.sessions_max;
  region_options ro;
  ro.areas = chainring::broker::areas(layout, region_size, ro.block_size);
  auto made = region::create_on(std::move(medium), ro);
  if (!made) return made.error();
  broker_config bc;
  bc.home_seed = home_seed;
  bc.queue_slots = 64;
  if (auto served = w->at_.serve(std::move(*made), bc, {}); !served) return served.error();

  w->lanes_.resize(s.workers);
  for (unsigned n = 0; n < s.workers; ++n) {
    fleet_options fo;
    fo.clients = fo.window = clients_each;
    const unsigned lands_at = s.misplaced ? (n + 1) % s.workers : n;
    fo.to_port = w->at_.port->ins[lands_at];
    fo.from_port = w->at_.port->outs[n];
    fo.pool = pool;
    fo.broker_mac = w->at_.interface->device.mac();
    fo.broker = broker_port::address;
    fo.first_address = 0x0a010000 + (n << 16); // 10.1.0.0 and 10.2.0.0
    fo.topics = "bench" + std::to_string(n) + "/";
    fo.other_topics = "bench" + std::to_string((n + 1) % s.workers) + "/";
    fo.crosses = [share = s.crossing](std::uint32_t c) {
      return std::floor((c + 1) * share) > std::floor(c * share);
    };
    fo.client_id = [n, workers = s.workers](std::uint32_t c) {
      std::string id;
      for (unsigned i = 0; id.empty() || chainring::broker::home_of(id, home_seed, workers) != n;
           ++i)
        id = "c" + std::to_string(n) + "-" + std::to_string(c) + "-" + std::to_string(i);
      return id;
    };
    w->lanes_[n].fleet = std::make_unique<client_fleet>(fo);
  }
  return w;
}

bool crossing_world::round(unsigned worker) {
  return run_round(*at_.broker, *at_.gateway, at_.listeners->worker(worker), worker);
}

bool crossing_world::step(unsigned worker) {
  lane& l = lanes_[worker];
  const std::uint64_t before = rte_rdtsc();
  const bool any = l.fleet->step();
  l.client_tsc += rte_rdtsc() - before;
  return any;
}

template <class Done> bool crossing_world::run_until(Done&& done) {
  idle_policy idle;
  while (!done()) {
    bool any = false;
    for (unsigned n = 0; n < lanes_.size(); ++n)
      any |= round(n);
    for (unsigned n = 0; n < lanes_.size(); ++n)
      any |= step(n);
    if (any)
      idle.busy();
    else
      idle.idle();
    if (!why().empty()) return complain(why());
  }
  return true;
}

bool crossing_world::prepare() {
  if (!run_until([&] {
        bool all = true;
        for (const lane& l : lanes_)
          all &= l.fleet->set_up();
        return all;
      }))
    return false;
  for (lane& l : lanes_)
    l.fleet->publish(true);
  const std::uint64_t first = acked() + std::uint64_t{2} * clients_each * lanes_.size();
  return run_until([&] { return acked() >= first; });
}

bool crossing_world::count(std::uint64_t messages) {
  const std::uint64_t wanted = acked() + messages;
  CALLGRIND_START_INSTRUMENTATION;
  const bool good = run_until([&] { return acked() >= wanted; });
  CALLGRIND_STOP_INSTRUMENTATION;
  return good;
}

void crossing_world::run_lane(unsigned worker, std::uint64_t end_tsc) {
  lane& l = lanes_[worker];
  idle_policy idle;
  const double cpu_before = cpu_seconds();
  const std::uint64_t start = rte_rdtsc(), clients_before = l.client_tsc;
  while (rte_rdtsc() < end_tsc) {
    bool any = round(worker);
    any |= step(worker);
    if (any)
      idle.busy();
    else
      idle.idle();
  }
  const auto all = static_cast<double>(rte_rdtsc() - start);
  const auto clients = static_cast<double>(l.client_tsc - clients_before);
  l.worker_s = (cpu_seconds() - cpu_before) * (all - clients) / all;
}

double crossing_world::run(std::span<crossing_world* const> all, double seconds,
                           const std::vector<int>& cpus) {
  const auto acked_by_all = [&] {
    std::uint64_t n = 0;
    for (const crossing_world* w : all)
      n += w->acked();
    return n;
  };
  const std::uint64_t before = acked_by_all();
  const std::uint64_t end =
      rte_rdtsc() + static_cast<std::uint64_t>(seconds * static_cast<double>(rte_get_tsc_hz()));
  std::vector<std::thread> threads;
  std::atomic<unsigned> refused = 0;
  std::size_t cpu = 0;
  for (crossing_world* const w : all)
    for (unsigned n = 0; n < w->lanes_.size(); ++n, ++cpu) {
      if (cpu == 0) continue; // the calling thread
      threads.emplace_back([w, n, end, at = cpus[cpu], &refused] {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(static_cast<std::size_t>(at), &set);
        (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
        (void)pthread_setname_np(pthread_self(), ("worker-" + std::to_string(n)).c_str());
        if (rte_thread_register() != 0) { // for a cache of the packet pool
          ++refused;
          return;
        }
        w->run_lane(n, end);
        rte_thread_unregister();
      });
    }
  all[0]->run_lane(0, end);
  for (std::thread& t : threads)
    t.join();
  if (refused != 0) return complain("EAL has no lcore left for a thread") ? 1 : 0;
  double worker_s = 0;
  for (const crossing_world* w : all) {
    if (!w->why().empty()) return complain(w->why()) ? 1 : 0;
    for (const lane& l : w->lanes_)
      worker_s += l.worker_s;
  }
  return worker_s * 1e9 / static_cast<double>(std::max<std::uint64_t>(acked_by_all() - before, 1));
}

bool crossing_world::finish() {
  for (lane& l : lanes_)
    l.fleet->publish(false);
  if (!run_until([&] {
        std::uint64_t accepted = 0, delivered = 0;
        bool answered = true;
        for (const lane& l : lanes_) {
          accepted += l.fleet->accepted();
          delivered += l.fleet->delivered();
          answered &= l.fleet->answered();
        }
        return answered && accepted == delivered;
      }))
    return false;
  if (auto closed = at_.broker->close(); !closed) return complain(closed.error().message);
  return true;
}

std::uint64_t crossing_world::handed_over() const {
  std::uint64_t n = 0;
  for (unsigned i = 0; i < lanes_.size(); ++i)
    n += at_.listeners->worker(i).handed_over();
  return n;
}

std::string crossing_world::why() const {
  for (unsigned n = 0; n < lanes_.size(); ++n) {
    if (!lanes_[n].fleet->wrong().empty()) return lanes_[n].fleet->wrong();
    const net::listener& l = at_.listeners->worker(n);
    if (l.links()[0]->drops().total() + l.out().dropped() + l.handed_dropped() != 0)
      return "the listener of worker " + std::to_string(n) + " dropped packets";
  }
  return "";
}

std::string percent_text(double share) {
  return std::to_string(std::lround(share * 100)) + " %";
}

bool count_messages(bench_context& c, const situation& s, rte_mempool* pool) {
  auto made = crossing_world::create(s, pool);
  if (!made) return complain(made.error().message);
  crossing_world& w = **made;
  if (!w.prepare()) return false;
  const std::uint64_t handed = w.handed_over(), acked = w.acked();
  if (!w.count(c.o.messages)) return false;
  const auto messages = static_cast<double>(w.acked() - acked);
  c.out.add(figure("messages measured", "", {messages}));
  c.out.add(figure("datagrams handed over, a message", "",
                   {static_cast<double>(w.handed_over() - handed) / messages}));
  return w.finish();
}

/// Measures the workers of these brokers at the same time, in turns with one worker alone.
bool compare(bench_context& c, const std::string& name,
             const std::vector<std::pair<situation, rte_mempool*>>& brokers, rte_mempool* pool,
             const std::vector<int>& cpus) {
  const budget b = c.time();
  std::vector<std::unique_ptr<crossing_world>> worlds;
  const auto make = [&](const situation& s, rte_mempool* of) {
    auto made = crossing_world::create(s, of);
    if (!made) return complain(made.error().message);
    worlds.push_back(std::move(*made));
    return worlds.back()->prepare();
  };
  for (const auto& [s, of] : brokers)
    if (!make(s, of)) return false;
  if (!make({"one worker", 1, 0, false}, pool)) return false;
  std::vector<crossing_world*> all;
  for (const auto& w : worlds)
    all.push_back(w.get());
  const double seconds = c.o.quick ? 0.05 : b.seconds / (2 * b.rounds_min);
  bool good = true;
  const auto slice_of = [&](std::span<crossing_world* const> some) {
    return [&good, &cpus, some, seconds] {
      const double ns = crossing_world::run(some, seconds, cpus);
      good &= ns != 0;
      return ns;
    };
  };
  const std::span<crossing_world* const> both(all);
  const pairs p = alternate({c.o.quick ? 0 : b.seconds, b.rounds_min},
                            slice_of(both.first(brokers.size())), slice_of(both.last(1)));
  if (!good) return false;
  for (const auto& w : worlds)
    if (!w->finish()) return false;
  c.out.add(against(name + ", time a message", "ns", p, "one worker", {}, true));
  return true;
}

} // namespace

bool workers_figures(bench_context& c) {
  c.out.heading("workers: durable QoS 1, 64 bytes, fan-out 1, class emulated, 64 clients a worker, "
                "memory port");
  const packet_pool pool = make_pool(packets);
  if (pool == nullptr) return complain(no_memory().message);
  if (c.o.messages != 0)
    return count_messages(c, {"counted", 2, std::max(c.o.crossing, 0.0), c.o.misplaced},
                          pool.get());
  std::vector<int> cpus;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &c.all_cpus)) cpus.push_back(i);
  if (cpus.size() < 2) {
    c.out.note("this group needs two CPUs, and this process may use one; nothing was measured");
    return true;
  }
  const situation one{"one worker", 1, 0, false};
  std::vector<situation> cases = {{"two workers, 0 % cross", 2, 0, false},
                                  {"two workers, 50 % cross", 2, 0.5, false},
                                  {"two workers, all cross", 2, 1, false},
                                  {"two workers, all datagrams handed over", 2, 0, true}};
  if (c.o.crossing >= 0 || c.o.misplaced) {
    const double share = std::max(c.o.crossing, 0.0);
    cases = {{"two workers, " + percent_text(share) + " cross" +
                  (c.o.misplaced ? ", all datagrams handed over" : ""),
              2, share, c.o.misplaced}};
  }
  // What two workers cost each other who share nothing but the machine: its caches, its memory, and
  // perhaps a core that it shows as two.
  const packet_pool second_pool = make_pool(packets);
  if (second_pool == nullptr) return complain(no_memory().message);
  if (!compare(c, "two brokers, nothing shared", {{one, pool.get()}, {one, second_pool.get()}},
               pool.get(), cpus))
    return false;
  for (const situation& s : cases)
    if (!compare(c, s.name, {{s, pool.get()}}, pool.get(), cpus)) return false;
  c.out.note("the ratio is the efficiency: how much of the speed of a worker alone each of two "
             "workers has");
  return true;
}

} // namespace chainring::bench
