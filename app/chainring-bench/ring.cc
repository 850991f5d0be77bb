// SPDX-License-Identifier: BSD-3-Clause
// This benchmark passes a burst of 32 slots of 16 bytes through one durable queue: the slots are
// placed, flushed, drained, leased, acknowledged and released. The queue's head is made durable by
// the drain of the next burst. A single consumer leases in place or copies, as several do.
//
// With --messages each of the queues, and each peer, passes so many slots and nothing is timed.
// Under valgrind's callgrind, started with --instr-atstart=no, each of them leaves a dump of its
// own that counts its bursts only; the dumps come in the order in which the figures are printed.
#include "ring/consumer.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "counted.h"
#include "figures.h"

namespace chainring::bench {

namespace {

constexpr unsigned burst = 32;
constexpr std::uint32_t slots = 1024;
constexpr std::uint32_t blocks = 256;
constexpr std::uint32_t block_size = 256;

struct durable_queue {
  std::unique_ptr<media> m;
  std::unique_ptr<block_store> store;
  std::unique_ptr<queue_table> queues;
  std::uint64_t values[burst];
  leased got[burst];
  bool in_place;
  bool moved = false; ///< the head is stored, and not durable yet
  bool good = true;

  enum class leases : std::uint8_t { in_place, copied };
  explicit durable_queue(durability_class c, leases how = leases::in_place,
                         queue_mode mode = queue_mode::mpsc)
      : m(memory_media(4096 + std::uint64_t{blocks} * block_size, c)),
        store(block_store::create(*m, 4096, block_size, blocks).value()),
        in_place(how == leases::in_place) {
    queue_table_options o;
    o.slots = slots;
    o.stock = 1;
    o.mode = mode;
    queues = queue_table::create(*m, 0, 1, *store, nullptr, o).value();
    good = queues->start().ok() && queues->link_now(0) == link_status::ready;
    for (unsigned i = 0; i < burst; ++i)
      values[i] = i;
  }
  void turn() {
    placement p;
    const std::uint32_t n = queues->enqueue_burst(0, values, p);
    queues->place_flush(p);
    m->drain();
    queues->place_finish(p);
    if (moved) queues->release_finish(0);
    moved = false;
    const queue_consumer consumer(*queues);
    if (in_place) {
      const leased_run run = consumer.lease_run(0, burst); // bursts fill the ring to its end
      good &= n == burst && run.count == n && consumer.ack_run(0, run, moved) == n;
    } else {
      good &= n == burst && queues->lease(0, got) == n && consumer.ack_burst(0, got) == n;
      moved = queues->release_start(0);
      if (moved) queues->release_flush(0);
    }
  }
};

/// The peer: the same stores, 9 flushes and one fence, and nothing else.
struct bare_stores {
  std::unique_ptr<media> m = memory_media(4096 + slots * 16, durability_class::emulated);
  std::uint64_t* words = reinterpret_cast<std::uint64_t*>(m->base() + 4096);
  std::uint64_t next = 0;
  void turn() {
    std::uint64_t* at = words + next % slots * 2;
    for (unsigned i = 0; i < burst; ++i) {
      m->store(&at[2 * i], i);
      m->store(&at[2 * i + 1], ++next);
    }
    auto* head = reinterpret_cast<std::uint64_t*>(m->base());
    m->store(head, next);
    m->flush(at, burst * 16);
    m->flush(head, 8);
    m->drain();
  }
};

struct volatile_ring {
  std::unique_ptr<std::byte, decltype(&std::free)> memory{
      static_cast<std::byte*>(std::aligned_alloc(
          64, align_up(static_cast<std::uint64_t>(rte_ring_get_memsize_elem(16, slots)), 64))),
      &std::free};
  rte_ring* r = reinterpret_cast<rte_ring*>(memory.get());
  std::uint64_t in[2 * burst] = {}, got[2 * burst];
  bool good = rte_ring_init(r, "bench", slots, RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ) == 0;
  void turn() {
    good &= rte_ring_enqueue_burst_elem(r, in, 16, burst, nullptr) == burst &&
            rte_ring_dequeue_burst_elem(r, got, 16, burst, nullptr) == burst;
    asm volatile("" : : "r"(got) : "memory");
  }
};

/// Passes `messages` slots in bursts, behind some bursts that are not counted.
template <class Subject> row count(Subject& subject, const char* name, std::uint64_t messages) {
  const std::uint64_t bursts = (messages + burst - 1) / burst;
  for (unsigned i = 0; i < 2 * slots / burst; ++i)
    subject.turn();
  CALLGRIND_START_INSTRUMENTATION;
  for (std::uint64_t i = 0; i < bursts; ++i)
    subject.turn();
  CALLGRIND_STOP_INSTRUMENTATION;
  CALLGRIND_DUMP_STATS_AT(name);
  return figure(std::string("bursts counted: ") + name, "", {static_cast<double>(bursts)});
}

} // namespace

bool ring_figures(bench_context& c) {
  c.out.heading("ring: burst of 32 x 16 bytes, placed, leased, acknowledged, released");
  using leases = durable_queue::leases;
  durable_queue emulated(durability_class::emulated), process(durability_class::process),
      copied(durability_class::process, leases::copied),
      several(durability_class::process, leases::copied, queue_mode::mpmc);
  bare_stores bare;
  volatile_ring plain;
  if (c.o.messages != 0) {
    c.out.add(count(plain, "rte_ring HTS, volatile", c.o.messages));
    c.out.add(count(process, "durable ring, class process, one consumer", c.o.messages));
    c.out.add(count(copied, "durable ring, class process, leases copied", c.o.messages));
    c.out.add(count(several, "durable ring, class process, several consumers", c.o.messages));
    c.out.add(count(bare, "same stores, 9 flushes, 1 fence", c.o.messages));
    c.out.add(count(emulated, "durable ring, class emulated, one consumer", c.o.messages));
    return emulated.good && process.good && copied.good && several.good && plain.good;
  }
  c.out.add(
      against("durable ring, class emulated", "ns/burst",
              alternate(c.time(), timed([&] { emulated.turn(); }), timed([&] { bare.turn(); })),
              "same stores, 9 flushes, 1 fence", target{target::sense::at_most, 1.2}));
  c.out.add(
      against("durable ring, class process", "ns/burst",
              alternate(c.time(), timed([&] { process.turn(); }), timed([&] { plain.turn(); })),
              "rte_ring HTS, volatile", target{target::sense::at_most, 1.2}));
  c.out.add(
      against("durable ring, class process, leases copied", "ns/burst",
              alternate(c.time(), timed([&] { copied.turn(); }), timed([&] { plain.turn(); })),
              "rte_ring HTS, volatile", target{target::sense::at_most, 1.2}));
  c.out.add(
      against("durable ring, class process, several consumers", "ns/burst",
              alternate(c.time(), timed([&] { several.turn(); }), timed([&] { plain.turn(); })),
              "rte_ring HTS, volatile", target{target::sense::at_most, 1.2}));
  if (emulated.good && process.good && copied.good && several.good && plain.good) return true;
  std::fprintf(stderr, "ring: a queue did not pass a whole burst\n");
  return false;
}

} // namespace chainring::bench
