// SPDX-License-Identifier: BSD-3-Clause
/// Measures a burst of 32 slots through one queue, with lease, ack and release. It is compared with
/// the bare cost of the same stores, 9 flushes and one fence, and in class `process` with rte_ring.
/// Then it measures the rate of recovery. One thread does all of it in one run, which prints
/// nanoseconds for a burst and the ratios.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <vector>

#include "ring_fixture.h"

namespace {

using namespace chainring;
using namespace chainring::test;

constexpr unsigned burst = 32, slots = 1024;

/// One of the things that are measured. Its time is the best of several interleaved rounds, because
/// noise only adds time.
struct subject {
  const char* name;
  std::function<void()> call;
  double best_ns = 1e9;
};

void measure(std::vector<subject>& subjects, unsigned calls) {
  for (int round = 0; round < 40; ++round)
    for (subject& s : subjects) {
      const auto start = std::chrono::steady_clock::now();
      for (unsigned i = 0; i < calls; ++i)
        s.call();
      const std::chrono::duration<double, std::nano> took =
          std::chrono::steady_clock::now() - start;
      s.best_ns = std::min(s.best_ns, took.count() / calls);
    }
}

/// A value queue, and one burst of a producer that also consumes.
struct one_queue {
  queue_layout l = [] {
    queue_layout v;
    v.queues = 1;
    v.values = true;
    v.options.slots = slots;
    v.options.stock = 1;
    return v;
  }();
  std::unique_ptr<media> m;
  queues_on_media q;
  std::uint64_t values[burst];
  leased got[burst];

  explicit one_queue(durability_class c) : m(memory_media(l.size(), c)), q(*m, l) {
    if (q->link_now(0) != link_status::ready) std::abort();
    for (unsigned i = 0; i < burst; ++i)
      values[i] = i;
  }
  void turn() {
    queue_table& queues = *q.queues;
    placement p;
    const std::uint32_t n = queues.enqueue_burst(0, values, p);
    const bool moved = queues.release_start(0);
    queues.place_flush(p);
    if (moved) queues.release_flush(0);
    m->drain();
    queues.place_finish(p);
    if (moved) queues.release_finish(0);
    if (queues.lease(0, got) != n || n != burst) std::abort();
    queue_consumer(queues).ack_through(0, got[n - 1].ticket());
  }
};

/// The stores of such a burst, their flushes and the fence, without the queue.
struct bare {
  std::unique_ptr<media> m;
  std::uint64_t* words;
  std::uint64_t next = 0;
  explicit bare(durability_class c)
      : m(memory_media(4096 + slots * 16, c)),
        words(reinterpret_cast<std::uint64_t*>(m->base() + 4096)) {}
  void turn() {
    std::uint64_t* at = words + next % slots * 2;
    for (unsigned i = 0; i < burst; ++i) {
      std::atomic_ref(at[2 * i]).store(i, std::memory_order_relaxed);
      std::atomic_ref(at[2 * i + 1]).store(++next, std::memory_order_relaxed);
    }
    auto* head = reinterpret_cast<std::uint64_t*>(m->base());
    std::atomic_ref(*head).store(next, std::memory_order_relaxed);
    m->flush(at, burst * 16);
    m->flush(head, 8);
    m->drain();
  }
};

struct plain_ring {
  std::unique_ptr<std::byte, decltype(&std::free)> memory{
      static_cast<std::byte*>(std::aligned_alloc(
          64, align_up(static_cast<std::uint64_t>(rte_ring_get_memsize_elem(16, slots)), 64))),
      &std::free};
  rte_ring* r = reinterpret_cast<rte_ring*>(memory.get());
  std::uint64_t in[2 * burst] = {}, out[2 * burst];
  plain_ring() {
    if (rte_ring_init(r, "plain", slots, RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ) != 0) std::abort();
  }
  void turn() {
    if (rte_ring_enqueue_burst_elem(r, in, 16, burst, nullptr) != burst ||
        rte_ring_dequeue_burst_elem(r, out, 16, burst, nullptr) != burst)
      std::abort();
    asm volatile("" : : "r"(out) : "memory");
  }
};

void print(const char* title, const std::vector<subject>& all, std::size_t base) {
  std::printf("%s\n", title);
  for (const subject& s : all)
    std::printf("  %-44s %8.1f ns  %5.2fx\n", s.name, s.best_ns, s.best_ns / all[base].best_ns);
}

void recovery(bool values) {
  queue_layout l;
  l.queues = 1024;
  l.values = values;
  l.options.slots = slots;
  l.options.stock = 1024;
  l.descriptors = values ? 64 : 1 << 20;
  l.blocks = 1024 * (slots / 4 + 6) + (values ? 0 : (1 << 20)) + 1024;
  auto m = memory_media(l.size(), durability_class::process);
  std::uint64_t entries = 0;
  {
    queues_on_media q(*m, l, true);
    std::vector<std::uint64_t> words(1000);
    std::vector<slot_ref> refs(1000);
    for (std::uint32_t queue = 0; queue < l.queues; ++queue) {
      if (q->link_now(queue) != link_status::ready) std::abort();
      placement p;
      if (values) {
        if (q->enqueue_bulk(queue, words, p) != words.size()) std::abort();
      } else {
        for (slot_ref& ref : refs) {
          message msg;
          if (!q.stage(1 + entries, msg)) std::abort();
          q.messages->publish(msg);
          ref = slot_ref(msg.ref, 1);
          ++entries;
        }
        if (q->place_start(queue, refs, p) != place_status::placed) std::abort();
      }
      q->place_finish(p);
    }
  }
  double best = 1e9;
  std::uint64_t found = 0;
  for (int round = 0; round < 5; ++round) {
    const auto start = std::chrono::steady_clock::now();
    queues_on_media q(*m, l, true);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
    found = q.found.entries;
  }
  std::printf("  recovery of %llu queued %s: %.1f ms, %.1f M/s\n",
              static_cast<unsigned long long>(found), values ? "values" : "messages", best * 1e3,
              static_cast<double>(found) / best / 1e6);
}

} // namespace

int main() {
  {
    one_queue ring(durability_class::emulated);
    bare floor(durability_class::emulated);
    std::vector<subject> all = {
        {"the same stores, 9 flushes, one fence", [&] { floor.turn(); }},
        {"durable ring, lease, ack and release", [&] { ring.turn(); }},
    };
    measure(all, 20000);
    print("burst of 32 slots, class emulated (target 1.20x, then 1.10x)", all, 0);
  }
  {
    one_queue ring(durability_class::process);
    plain_ring plain;
    std::vector<subject> all = {
        {"rte_ring HTS, 16 bytes, enqueue and dequeue", [&] { plain.turn(); }},
        {"durable ring, lease, ack and release", [&] { ring.turn(); }},
    };
    measure(all, 20000);
    print("burst of 32 slots, class process (target 1.20x)", all, 0);
  }
  std::printf("recovery, with everything that an open does (target 10 M/s)\n");
  recovery(true);
  recovery(false);
  return 0;
}
