// SPDX-License-Identifier: BSD-3-Clause
/// Threads use queues, and each of their calls is recorded. Each history must be one that a queue
/// could have which does one call at a time.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <random>
#include <sched.h>
#include <thread>

#include "base/hook.h"
#include "base/idle.h"
#include "ring_fixture.h"
#include "support/give_way.h"
#include "support/linearizability.h"
#include "support/seed.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

using call_recorder = recorder<queue_operation>;

constexpr unsigned producers = 3;
constexpr std::uint32_t capacity = 7;
constexpr std::uint32_t capacity_grown = 31;

std::uint64_t run_seed() {
  static const std::uint64_t seed = printed_seed(1);
  return seed;
}

queue_layout few_slots(bool grows) {
  queue_layout l;
  if (grows) l.options.capacity_max = capacity_grown;
  l.queues = 1;
  l.values = true;
  l.options.slots = 8;
  l.options.stock = 2;
  return l;
}

/// A thread gives up after it has found nothing to do for `patience` times in a row, because a
/// queue with a seeded bug may get stuck. This value means that it never gives up.
constexpr std::uint64_t for_ever = ~std::uint64_t{0};

/// Makes `calls` placements of up to `burst` values each, all or none.
void produce(queues_on_media& q, call_recorder& r, std::uint64_t who, std::uint64_t calls,
             unsigned burst, std::uint64_t patience) {
  std::uint64_t idle = 0;
  std::mt19937_64 random(run_seed() * 100 + who);
  idle_policy wait;
  std::uint64_t next = 0;
  for (std::uint64_t i = 0; i < calls && idle < patience;) {
    std::vector<std::uint64_t> values(1 + random() % burst);
    for (std::uint64_t& v : values)
      v = who << 32 | ++next;
    placement p;
    r.begin({.kind = queue_call::place, .values = values});
    const bool placed = q->enqueue_bulk(0, values, p) != 0;
    r.end().ticket = placed ? p.first_ticket : 0;
    // A refused placement is only recorded where the queue cannot grow.
    if (!placed && q.l.options.capacity_max != 0) {
      r.cancel(r.last());
      next -= values.size();
      static_cast<void>(q->grow_now(0, static_cast<std::uint32_t>(values.size())));
    }
    if (!placed) {
      wait.idle();
      ++idle;
      continue;
    }
    wait.busy();
    idle = 0;
    q->place_flush(p);
    q.m.drain();
    give_way(nullptr, nullptr);
    r.begin({.kind = queue_call::ready, .ticket = p.first_ticket, .count = 1});
    q->place_finish(p);
    r.end();
    // The slots of a burst become ready one by one, and a consumer may come in between.
    for (std::uint32_t k = 1; k < p.count; ++k) {
      auto each = r.at(r.last());
      each.what.ticket = p.first_ticket + k;
      r.add(each);
    }
    ++i;
  }
}

void free_slots(queues_on_media& q, call_recorder& r) {
  r.begin({.kind = queue_call::release});
  const std::uint32_t n = q.release(0);
  r.end().count = n;
  if (n == 0) r.cancel(r.last());
}

void acknowledge(queues_on_media& q, call_recorder& r, std::uint64_t ticket, bool give_back) {
  r.begin({.kind = give_back ? queue_call::nack : queue_call::ack, .ticket = ticket});
  const bool done = give_back ? q->nack(0, ticket) : q->ack(0, ticket) != ack_status::ignored;
  r.end().done = done;
}

/// Makes one lease, and records it as the calls that it consists of: one for each returned entry,
/// then one for the next entries. Returns how many entries it leased.
std::uint32_t take(queues_on_media& q, call_recorder& r, std::span<leased> out, bool shared) {
  r.begin({.kind = queue_call::lease, .count = out.size()});
  const std::uint32_t n = q->lease(0, out);
  r.end();
  const std::size_t at = r.last();
  std::uint32_t i = 0;
  for (; i < n && out[i].redelivered(); ++i)
    r.add(
        {{.kind = queue_call::lease_again, .ticket = out[i].ticket(), .values = {out[i].ref.word}},
         r.at(at).invoked,
         r.at(at).returned});
  queue_operation& fresh = r.at(at).what;
  if (i < n) fresh.ticket = out[i].ticket();
  const std::uint32_t first = i;
  for (; i < n && out[i].ticket() == fresh.ticket + (i - first); ++i)
    fresh.values.push_back(out[i].ref.word);
  // In a shared queue with two rings, the lease takes from each ring, and others may come in
  // between.
  for (; i < n; ++i)
    r.add({{.kind = queue_call::lease,
            .ticket = out[i].ticket(),
            .count = 1,
            .values = {out[i].ref.word}},
           r.at(at).invoked,
           r.at(at).returned});
  // A lease that found nothing says so of one moment only where there is one consumer. It says
  // something of new entries only where no returned entry took their room.
  if (first == n && (shared || first != 0)) r.cancel(at);
  return n;
}

void consume(queues_on_media& q, call_recorder& r, std::uint64_t who, bool shared, unsigned burst,
             const std::atomic<unsigned>& producing, std::atomic<std::uint64_t>& acked,
             const std::atomic<std::uint64_t>& placed, std::uint64_t patience) {
  std::uint64_t idle = 0;
  std::mt19937_64 random(run_seed() * 1000 + who);
  idle_policy wait;
  std::vector<leased> e(burst);
  std::uint64_t late = 0;
  while (idle < patience && (producing.load() != 0 || acked.load() < placed.load())) {
    const std::uint32_t n = take(q, r, {e.data(), 1 + random() % burst}, shared);
    for (std::uint32_t i = n; i-- > 0;) {
      const bool back = random() % 8 == 0;
      acknowledge(q, r, e[i].ticket(), back);
      if (!back) acked.fetch_add(1);
      if (random() % 16 == 0) acknowledge(q, r, late, false); // a second, late ack
      if (!back) late = e[i].ticket();
    }
    if (random() % 2 == 0) free_slots(q, r);
    idle = n == 0 ? idle + 1 : 0;
    if (n == 0)
      wait.idle();
    else
      wait.busy();
  }
}

struct recorded {
  std::vector<timed<queue_operation>> history;
  std::uint64_t values = 0;
};

/// Runs producers that make `calls` placements each, and consumers, and records all their calls.
recorded run(bool shared, unsigned consumers, std::uint64_t calls, unsigned burst,
             std::uint64_t patience = for_ever, bool grows = false) {
  const queue_layout l = few_slots(grows);
  auto m = memory_media(l.size(), durability_class::emulated);
  queues_on_media q(*m, l);
  EXPECT_TRUE(q.consumer().set_mode(0, shared ? queue_mode::mpmc : queue_mode::mpsc));
  EXPECT_EQ(q->link_now(0), link_status::ready);
  linear_clock clock;
  std::vector<call_recorder> parts;
  for (unsigned i = 0; i < producers + consumers; ++i)
    parts.emplace_back(clock);
  std::atomic<unsigned> producing{producers};
  std::atomic<std::uint64_t> placed{0}, acked{0};
  set_hook(give_way, nullptr);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < producers; ++i)
    threads.emplace_back([&, i] {
      produce(q, parts[i], i + 1, calls, burst, patience);
      std::uint64_t mine = 0;
      for (const auto& t : parts[i].history())
        if (t.what.kind == queue_call::ready) mine += t.what.count;
      placed.fetch_add(mine);
      producing.fetch_sub(1);
    });
  for (unsigned i = 0; i < consumers; ++i)
    threads.emplace_back([&, i] {
      for (idle_policy wait; grows && q->statistics().grown == 0 && producing.load() != 0;)
        wait.idle(); // so that the queue certainly grows
      consume(q, parts[producers + i], i, shared, burst, producing, acked, placed, patience);
    });
  std::atomic<bool> over{false};
  std::thread maintainer([&] { // prepares larger rings and appends smaller ones all the time
    idle_policy wait;
    while (grows && !over) {
      q->maintain(2);
      wait.idle();
    }
  });
  for (auto& t : threads)
    t.join();
  over = true;
  maintainer.join();
  if (grows) {
    const queue_table_statistics s = q->statistics();
    std::printf("%llu larger and %llu smaller rings appended\n",
                static_cast<unsigned long long>(s.grown),
                static_cast<unsigned long long>(s.shrunk));
    EXPECT_GT(s.grown, 0u);
  }
  set_hook(nullptr, nullptr);
  return {merged(parts), placed.load()};
}

void expect_linearizable(const recorded& r, bool shared, std::uint32_t slots = capacity) {
  const queue_model model{.capacity = slots, .one_consumer = !shared};
  const linear_verdict v = check_linearizable(model, std::span(r.history));
  std::printf("%zu calls, %llu values, %llu steps, at most %zu configurations\n", r.history.size(),
              static_cast<unsigned long long>(r.values), static_cast<unsigned long long>(v.steps),
              v.configurations);
  EXPECT_TRUE(v) << v.text;
}

TEST(RingLinear, ManyProducersAndOneConsumerSeeOneOrderOfCalls) {
  expect_linearizable(run(false, 1, 4000, 4), false);
}
TEST(RingLinear, ManyProducersAndConsumersSeeOneOrderOfCalls) {
  expect_linearizable(run(true, 3, 4000, 4), true);
}

TEST(RingLinear, OneConsumerSeesOneOrderOfCallsWhileRingsAreAddedAndRemoved) {
  expect_linearizable(run(false, 1, 4000, 4, for_ever, true), false, capacity_grown);
}
TEST(RingLinear, ManyConsumersSeeOneOrderOfCallsWhileRingsAreAddedAndRemoved) {
  expect_linearizable(run(true, 3, 4000, 4, for_ever, true), true, capacity_grown);
}

// With the seeded bug a consumer leases what another has just leased, and the check must find it.
TEST(RingLinear, TwoConsumersThatLeaseOneEntryAreFound) {
  const test::seeded on("ring.lease_race");
  const recorded r = run(true, 3, 2000, 4, 2000);
  const linear_verdict v = check_linearizable(
      queue_model{.capacity = capacity, .one_consumer = false}, std::span(r.history));
  test::expect_found("ring.lease_race", v.found == linear_verdict::violated);
  std::printf("%s\n", v.text.c_str());
}

/// Callers that do not know the tickets see a queue that is first in, first out.
void expect_fifo(const recorded& r) {
  std::vector<timed<fifo_operation>> h;
  std::map<std::uint64_t, std::size_t> by_ticket;
  for (const auto& t : r.history) {
    const queue_operation& o = t.what;
    if (o.kind == queue_call::place && o.ticket != 0) {
      by_ticket[o.ticket] = h.size();
      h.push_back({{.enqueue = true, .value = o.values.at(0)}, t.invoked, never});
    } else if (o.kind == queue_call::ready) {
      h.at(by_ticket.at(o.ticket)).returned = t.returned;
    } else if (o.kind == queue_call::lease && !o.values.empty()) {
      h.push_back({{.enqueue = false, .value = o.values[0]}, t.invoked, t.returned});
    }
  }
  const linear_verdict v = check_linearizable(fifo_model{.exact = false}, std::span(h));
  std::printf("%zu operations, %llu steps, at most %zu configurations\n", h.size(),
              static_cast<unsigned long long>(v.steps), v.configurations);
  EXPECT_TRUE(v) << v.text;
}

TEST(RingLinear, OneConsumerThatKnowsNoTicketsSeesAFifoQueue) {
  expect_fifo(run(false, 1, 3000, 1));
}
TEST(RingLinear, SeveralConsumersThatKnowNoTicketsSeeAFifoQueue) {
  expect_fifo(run(true, 3, 3000, 1));
}

} // namespace
} // namespace chainring::test
