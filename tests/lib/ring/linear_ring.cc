// SPDX-License-Identifier: BSD-3-Clause
/// Queues on threads, recorded call by call: each history must be that of a queue that does one
/// thing at a time.
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

/// How many times in a row a thread finds nothing to do before it gives up: a queue with a seeded
/// bug may never move again.
constexpr std::uint64_t for_ever = ~std::uint64_t{0};

/// Places `calls` times, up to `burst` values at once, all or none.
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
    // That it did not fit says something only where the queue stays as it is.
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
    // A burst is made ready slot by slot: a consumer may come in between.
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

/// One lease, as the calls it is: what came back first, then the next ones. Returns how many.
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
  // Shared, over a seam: a lease from each ring, and others may come in between.
  for (; i < n; ++i)
    r.add({{.kind = queue_call::lease,
            .ticket = out[i].ticket(),
            .count = 1,
            .values = {out[i].ref.word}},
           r.at(at).invoked,
           r.at(at).returned});
  // "Nothing" is said of one moment where there is one consumer, and of the newer ones only where
  // there was room for them.
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
      if (random() % 16 == 0) acknowledge(q, r, late, false); // again, and late
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

/// `calls` placements a producer, recorded from the threads' beginning to their end.
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
        wait.idle(); // so that it certainly grows
      consume(q, parts[producers + i], i, shared, burst, producing, acked, placed, patience);
    });
  std::atomic<bool> over{false};
  std::thread leisure([&] { // larger and smaller, all the time
    idle_policy wait;
    while (grows && !over) {
      q->maintain(2);
      wait.idle();
    }
  });
  for (auto& t : threads)
    t.join();
  over = true;
  leisure.join();
  if (grows) {
    const queue_table_statistics s = q->statistics();
    std::printf("%llu times larger, %llu times smaller\n", static_cast<unsigned long long>(s.grown),
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

TEST(RingLinear, ManyProducersOneConsumer) {
  expect_linearizable(run(false, 1, 4000, 4), false);
}
TEST(RingLinear, ManyProducersManyConsumers) {
  expect_linearizable(run(true, 3, 4000, 4), true);
}

TEST(RingLinear, RingsComeAndGoUnderOneConsumer) {
  expect_linearizable(run(false, 1, 4000, 4, for_ever, true), false, capacity_grown);
}
TEST(RingLinear, RingsComeAndGoUnderManyConsumers) {
  expect_linearizable(run(true, 3, 4000, 4, for_ever, true), true, capacity_grown);
}

// The check can fail: consumers that take what another has just taken.
TEST(RingLinear, TwoConsumersThatLeaseOneEntryAreFound) {
  const test::seeded on("ring.lease_race");
  const recorded r = run(true, 3, 2000, 4, 2000);
  const linear_verdict v = check_linearizable(
      queue_model{.capacity = capacity, .one_consumer = false}, std::span(r.history));
  test::expect_found("ring.lease_race", v.found == linear_verdict::violated);
  std::printf("%s\n", v.text.c_str());
}

/// What callers see who know no tickets: a queue, first in first out.
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

TEST(RingLinear, IsAQueueToThoseWhoKnowNoTickets) {
  expect_fifo(run(false, 1, 3000, 1));
}
TEST(RingLinear, IsAQueueToSeveralConsumersWhoKnowNoTickets) {
  expect_fifo(run(true, 3, 3000, 1));
}

} // namespace
} // namespace chainring::test
