// SPDX-License-Identifier: BSD-3-Clause
// Reads and writes of 256 values of 64 octets, each under a seqlock of its own, against the same
// values each under a std::shared_mutex; and appending to a seq_vec against a std::vector under a
// mutex. Alone, and beside a second thread that does the same. The clock measures what two threads
// do, because a thread that waits for a mutex uses no CPU time.
#include "seqlock/seqlock.h"

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <pthread.h>
#include <random>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "figures.h"

namespace chainring::bench {

namespace {

constexpr std::size_t values = 256;
constexpr unsigned burst = 32; ///< operations between two looks at the clock
constexpr std::size_t pushes = 1 << 16;

struct value {
  std::array<std::uint64_t, 8> words{};
};

class seqlocks {
 public:
  [[nodiscard]] value read(std::size_t i) const { return all_[i].read(); }
  void write(std::size_t i) { ++all_[i].lock_write()->words[0]; }

 private:
  std::unique_ptr<seqlock<value>[]> all_ = std::make_unique<seqlock<value>[]>(values);
};

class shared_mutexes {
 public:
  [[nodiscard]] value read(std::size_t i) const {
    const std::shared_lock guard(all_[i].lock);
    return all_[i].now;
  }
  void write(std::size_t i) {
    const std::unique_lock guard(all_[i].lock);
    ++all_[i].now.words[0];
  }

 private:
  struct cell {
    mutable std::shared_mutex lock;
    value now;
  };
  std::unique_ptr<cell[]> all_ = std::make_unique<cell[]>(values);
};

/// Operations in a random order that repeats.
class mix {
 public:
  mix(unsigned percent_written, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    for (operation& o : all_)
      o = {static_cast<std::uint16_t>(random() % values), random() % 100 < percent_written};
  }
  template <class Side> void run(Side& side) {
    for (unsigned n = 0; n < burst; ++n, at_ = (at_ + 1) % all_.size()) {
      if (all_[at_].writes) {
        side.write(all_[at_].of);
      } else {
        const value v = side.read(all_[at_].of);
        asm volatile("" : : "m"(v));
      }
    }
  }

 private:
  struct operation {
    std::uint16_t of;
    bool writes;
  };
  std::array<operation, 4096> all_;
  std::size_t at_ = 0;
};

void add(bench_context& c, const std::string& name, pairs p, const std::string& peer) {
  for (auto* side : {&p.own, &p.peer})
    for (double& ns : *side)
      ns /= burst;
  c.out.add(against(name, "ns", p, peer, {}, true));
}

/// Runs the operations on another CPU, on whichever side is measured now.
class second_thread {
 public:
  second_thread(seqlocks& own, shared_mutexes& peer, unsigned percent_written, int cpu)
      : thread_([this, &own, &peer, percent_written, cpu] {
          cpu_set_t set;
          CPU_ZERO(&set);
          CPU_SET(static_cast<std::size_t>(cpu), &set);
          (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
          mix m(percent_written, 2);
          for (which now; (now = now_.load(std::memory_order_relaxed)) != which::end;)
            if (now == which::own)
              m.run(own);
            else
              m.run(peer);
        }) {}
  ~second_thread() {
    now_ = which::end;
    thread_.join();
  }
  second_thread(const second_thread&) = delete;
  second_thread& operator=(const second_thread&) = delete;
  void own() { now_.store(which::own, std::memory_order_relaxed); }
  void peer() { now_.store(which::peer, std::memory_order_relaxed); }

 private:
  enum class which { own, peer, end };
  std::atomic<which> now_{which::own};
  std::thread thread_; // the last member: it uses the others
};

void measure_mix(bench_context& c, unsigned percent_written, std::optional<int> other_cpu) {
  seqlocks own;
  shared_mutexes peer;
  mix m(percent_written, 1);
  std::optional<second_thread> second;
  if (other_cpu) second.emplace(own, peer, percent_written, *other_cpu);
  double (*const now)() = other_cpu ? clock_seconds : cpu_seconds;
  const auto own_slice = timed([&] { m.run(own); }, now);
  const auto peer_slice = timed([&] { m.run(peer); }, now);
  const pairs p = alternate(
      c.time(),
      [&] {
        if (second) second->own();
        return own_slice();
      },
      [&] {
        if (second) second->peer();
        return peer_slice();
      });
  add(c,
      "seqlock, " + std::to_string(100 - percent_written) + " % read" +
          (other_cpu ? ", of two threads" : ""),
      p, "std::shared_mutex");
}

void measure_push(bench_context& c) {
  const value v;
  auto own = std::make_unique<seq_vec<value>>(2);
  std::vector<value> peer;
  std::mutex lock;
  const pairs p = alternate(c.time(), timed([&] {
                              if (own->len() >= pushes) own = std::make_unique<seq_vec<value>>(2);
                              for (unsigned n = 0; n < burst; ++n)
                                (void)own->push(v);
                            }),
                            timed([&] {
                              if (peer.size() >= pushes) peer = std::vector<value>(2);
                              for (unsigned n = 0; n < burst; ++n) {
                                const std::lock_guard guard(lock);
                                peer.push_back(v);
                              }
                            }));
  add(c, "seq_vec push, from 2 to 65,536 values", p, "std::vector under a mutex");
}

} // namespace

bool seqlock_figures(bench_context& c) {
  c.out.heading("seqlock: reads and writes of 256 values of 64 octets, in a random order");
  std::optional<int> other;
  for (int i = 0; i < CPU_SETSIZE; ++i)
    if (CPU_ISSET(i, &c.all_cpus) && i != sched_getcpu()) other = i;
  for (const unsigned percent_written : {0u, 5u, 50u})
    measure_mix(c, percent_written, {});
  if (other)
    for (const unsigned percent_written : {0u, 5u, 50u})
      measure_mix(c, percent_written, other);
  else
    c.out.note("two threads need two CPUs, and this process may use one; that was not measured");
  measure_push(c);
  return true;
}

} // namespace chainring::bench
