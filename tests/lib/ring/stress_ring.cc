// SPDX-License-Identifier: BSD-3-Clause
/// Queues under free-running threads. Each producer stamps its values, and the consumer that gets a
/// value verifies the stamp.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "base/idle.h"
#include "ring_fixture.h"

namespace chainring::test {
namespace {

constexpr std::uint64_t per_producer = 100000;
constexpr unsigned producers = 3;

queue_layout value_layout(std::uint32_t slots) {
  queue_layout l;
  l.queues = 2;
  l.values = true;
  l.options.slots = slots;
  l.options.stock = 2;
  return l;
}

void produce(queues_on_media& q, std::uint64_t producer) {
  idle_policy wait;
  std::mt19937_64 random(producer);
  std::uint64_t next = 0;
  while (next < per_producer) {
    std::uint64_t values[8];
    const auto n = std::min<std::uint64_t>(1 + random() % 8, per_producer - next);
    for (std::uint64_t i = 0; i < n; ++i)
      values[i] = producer << 32 | (next + i);
    placement p;
    const std::uint32_t got = q->enqueue_burst(0, {values, n}, p);
    if (got == 0) {
      wait.idle();
      continue;
    }
    q->place_flush(p);
    q.m.drain();
    q->place_finish(p);
    next += got;
    wait.busy();
  }
}

TEST(RingStress, OneConsumerGetsEveryValueOfManyProducersOnceInOrder) {
  const queue_layout l = value_layout(32);
  auto m = memory_media(l.size(), durability_class::emulated);
  queues_on_media q(*m, l);
  ASSERT_EQ(q->link_now(0), link_status::ready);
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < producers; ++i)
    threads.emplace_back([&q, i] { produce(q, i); });
  std::uint64_t next[producers] = {};
  std::uint64_t seen = 0, ticket = 0, in_place = 0;
  bool good = true;
  idle_policy wait;
  std::mt19937_64 random(7);
  while (seen < producers * per_producer) {
    if (random() % 2 == 0) { // in place, where that can be done
      const auto most = static_cast<std::uint32_t>(1 + random() % 16);
      const leased_run run = q.consumer().lease_run(0, most);
      for (std::uint32_t i = 0; i < run.count; ++i) {
        const std::uint64_t producer = run.value(i) >> 32;
        good &= run.first_ticket + i == ++ticket && producer < producers &&
                next[producer]++ == (run.value(i) & 0xffff'ffff);
      }
      bool releasing = false;
      good &= run.count == 0 || q.consumer().ack_run(0, run, releasing) == run.count;
      ASSERT_TRUE(good) << "in place, at ticket " << ticket;
      in_place += run.count;
      seen += run.count;
      if (releasing) {
        m->drain();
        q->release_finish(0);
      }
      if (run.count != 0) {
        wait.busy();
        continue;
      }
    }
    leased got[16];
    const std::uint32_t n = q->lease(0, {got, 1 + random() % 16});
    std::uint32_t taken = n;
    if (n > 1 && random() % 4 == 0) { // some entries are given back
      taken = static_cast<std::uint32_t>(random() % n);
      if (taken == 0) {
        q->rewind(0);
        continue;
      }
      q.consumer().ack_through(0, got[taken - 1].ticket());
      q->rewind(0);
    } else if (n != 0 && random() % 2 == 0) {
      for (std::uint32_t i = n; i-- > 0;) // acknowledged in reverse order
        good &= q->ack(0, got[i].ticket()) == (i == 0 ? ack_status::advanced : ack_status::marked);
    } else if (n != 0) {
      q.consumer().ack_through(0, got[n - 1].ticket());
    }
    for (std::uint32_t i = 0; i < taken; ++i) {
      const std::uint64_t producer = got[i].ref.word >> 32;
      good &= got[i].ticket() == ++ticket && producer < producers &&
              next[producer]++ == (got[i].ref.word & 0xffff'ffff);
    }
    ASSERT_TRUE(good) << "at ticket " << ticket;
    seen += taken;
    if (n == 0)
      wait.idle();
    else
      wait.busy();
    q.release(0);
  }
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(q->statistics(0).tail, producers * per_producer);
  q.release(0);
  EXPECT_EQ(q->statistics(0).depth, 0u);
  EXPECT_GT(in_place, 0u);
}

TEST(RingStress, ManyConsumersGetEveryValueOfManyProducersOnce) {
  const queue_layout l = value_layout(64);
  auto m = memory_media(l.size(), durability_class::emulated);
  queues_on_media q(*m, l);
  ASSERT_TRUE(q.consumer().set_mode(0, queue_mode::mpmc));
  ASSERT_EQ(q->link_now(0), link_status::ready);
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < producers; ++i)
    threads.emplace_back([&q, i] { produce(q, i); });
  std::atomic<std::uint64_t> acked{0};
  std::atomic<std::uint32_t> ignored{0};
  std::vector<std::vector<std::uint64_t>> got(3);
  for (std::size_t c = 0; c < got.size(); ++c)
    threads.emplace_back([&, c] {
      std::mt19937_64 random(c);
      idle_policy wait;
      while (acked.load() < producers * per_producer) {
        leased e[8];
        const std::uint32_t n = q->lease(0, {e, 1 + random() % 8});
        std::uint32_t first = 0; // some bursts are acknowledged in one call, as far as that goes
        if (random() % 2 == 0) first = q.consumer().ack_burst(0, {e, n});
        for (std::uint32_t i = 0; i < first; ++i)
          got[c].push_back(e[i].ref.word);
        acked.fetch_add(first);
        std::shuffle(e + first, e + n, random);
        for (std::uint32_t i = first; i < n; ++i) {
          if (random() % 16 == 0) { // so that another consumer gets it
            if (!q->nack(0, e[i].ticket())) ++ignored;
            continue;
          }
          got[c].push_back(e[i].ref.word);
          if (q->ack(0, e[i].ticket()) == ack_status::ignored) ++ignored;
          acked.fetch_add(1);
        }
        q.release(0);
        if (n == 0)
          wait.idle();
        else
          wait.busy();
      }
    });
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(ignored.load(), 0u);
  std::set<std::uint64_t> all;
  for (const auto& one : got)
    for (std::uint64_t v : one)
      EXPECT_TRUE(all.insert(v).second) << "value " << v << " was delivered twice";
  EXPECT_EQ(all.size(), producers * per_producer);
  q.release(0);
  EXPECT_EQ(q->statistics(0).head, producers * per_producer);
}

// --- rings that are added and removed -----------------------------------------------------------

queue_layout growing_values() {
  queue_layout l = value_layout(8);
  l.blocks = 4096;
  l.options.capacity_max = 200;
  l.options.timed_leases = true;
  return l;
}

/// The objects that the queues carry. Whoever holds an object stamps it, and the next holder finds
/// that stamp.
struct object {
  std::uint64_t stamp[8];
  void fill(std::uint64_t with) {
    for (std::uint64_t& s : stamp)
      s = with;
  }
  [[nodiscard]] bool has_stamp(std::uint64_t with) const {
    return std::ranges::all_of(stamp, [&](std::uint64_t s) { return s == with; });
  }
};
constexpr std::uint32_t smallest = 7;                     ///< the capacity of a first ring
constexpr std::uint64_t unused_stamp = ~std::uint64_t{0}; ///< no thread holds the object
constexpr std::uint64_t consumer_stamp = unused_stamp - 1;
constexpr std::uint32_t objects_each = 512;

/// The side that works alone while the other one waits. With turns the queue certainly grows and
/// shrinks.
enum class turn : int { all, producers, consumers };

/// A producer stamps free objects and places them. A full queue grows, or the producer waits.
void produce_objects(queues_on_media& q, std::vector<object>& all, std::uint32_t who,
                     std::atomic<std::uint64_t>& taken_back, std::uint64_t rounds,
                     const std::atomic<turn>& current_turn, std::atomic<bool>& good) {
  idle_policy wait;
  std::mt19937_64 random(who);
  std::uint64_t next = 0;
  while (next < rounds) {
    const auto n = std::min<std::uint64_t>(1 + random() % 8, rounds - next);
    // An object is free again once its consumer has given it back.
    if (current_turn == turn::consumers ||
        next + n > taken_back.load(std::memory_order_acquire) + objects_each) {
      wait.idle();
      continue;
    }
    std::uint64_t values[8];
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t index = who * objects_each + (next + i) % objects_each;
      if (!all[index].has_stamp(unused_stamp)) good = false;
      all[index].fill(std::uint64_t{who} << 32 | (next + i));
      values[i] = std::uint64_t{who} << 32 | (next + i);
    }
    placement p;
    std::uint32_t got = 0;
    while ((got = q->enqueue_bulk(0, {values, n}, p)) == 0) {
      if (q->grow(0, static_cast<std::uint32_t>(n)) == link_status::linking) {
        q->link_flush(0);
        q.m.drain();
        q->link_finish(0);
        continue;
      }
      wait.idle();
    }
    q->place_flush(p);
    q.m.drain();
    q->place_finish(p);
    next += n;
    wait.busy();
  }
}

struct grown {
  std::uint64_t grown = 0, shrunk = 0, expired = 0, late = 0;
};

/// Runs producers, consumers, and one thread that calls maintain() and moves a clock on, so that
/// leases end. At the first six eighths of the way, consumers wait until the ring has the largest
/// size, and then producers wait until it has the smallest.
grown run_growing(queue_mode mode, unsigned consumers, std::uint64_t rounds) {
  const queue_layout l = growing_values();
  auto m = memory_media(l.size(), durability_class::emulated);
  queues_on_media q(*m, l);
  EXPECT_TRUE(q.consumer().set_mode(0, mode));
  EXPECT_EQ(q->link_now(0), link_status::ready);
  std::vector<object> all(std::size_t{producers} * objects_each);
  for (object& o : all)
    o.fill(unused_stamp);
  std::array<std::atomic<std::uint64_t>, producers> taken_back{};
  std::atomic<bool> good{true}, over{false};
  std::atomic<turn> current_turn{turn::all};
  std::atomic<std::uint64_t> now{1}, acked{0}, expired{0}, late{0};
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < producers; ++i)
    threads.emplace_back(
        [&, i] { produce_objects(q, all, i, taken_back[i], rounds, current_turn, good); });
  threads.emplace_back([&] {
    idle_policy wait;
    while (!over) {
      if (q->maintain(4) == 0) wait.idle();
      now.fetch_add(1);
    }
  });
  // The objects of each producer that were consumed. A run of them is given back at once.
  std::vector<std::vector<std::uint8_t>> done(producers, std::vector<std::uint8_t>(rounds));
  std::mutex put_back;
  auto take = [&](std::uint64_t value) {
    const std::uint64_t who = value >> 32, at = value & 0xffff'ffff;
    if (who >= producers || at >= rounds) return false;
    object& o = all[who * objects_each + at % objects_each];
    if (!o.has_stamp(value)) return false;
    o.fill(consumer_stamp);
    if (!o.has_stamp(consumer_stamp)) return false;
    o.fill(unused_stamp);
    const std::lock_guard hold(put_back);
    if (done[who][at]++ != 0) return false; // the value was delivered twice
    std::uint64_t to = taken_back[who].load();
    while (to < rounds && done[who][to] != 0)
      ++to;
    taken_back[who].store(to, std::memory_order_release);
    return true;
  };
  for (unsigned c = 0; c < consumers; ++c)
    threads.emplace_back([&, c] {
      std::mt19937_64 random(c + 100);
      idle_policy wait;
      std::uint64_t last = 0, turns = 0;
      const std::uint64_t total = producers * rounds;
      while (acked.load() < total && good) {
        if (c == 0) {
          const std::uint32_t slots = q->statistics(0).capacity;
          if (current_turn == turn::producers && slots == l.options.capacity_max)
            current_turn = turn::consumers;
          if (current_turn == turn::consumers && slots == smallest) current_turn = turn::all;
          if (current_turn == turn::all && turns < 6 && acked.load() >= total * (turns + 1) / 8) {
            current_turn = turn::producers;
            ++turns;
          }
        }
        if (current_turn == turn::producers) {
          wait.idle();
          continue;
        }
        leased e[16];
        const std::uint64_t begin = now.load();
        const std::uint32_t n =
            q.consumer().lease(0, {e, 1 + random() % 16}, begin + 1 + random() % 3);
        if (random() % 2 == 0) std::shuffle(e, e + n, random);
        if (n > 1 && random() % 64 == 0) // takes longer than its leases last
          for (const std::uint64_t t = now.load() + 4; now.load() < t;)
            wait.idle();
        for (std::uint32_t i = 0; i < n; ++i) {
          if (random() % 64 == 0) continue; // not acknowledged, so that its lease ends
          if (mode == queue_mode::mpsc && !e[i].redelivered()) {
            if (e[i].ticket() <= last) good = false;
          }
          // The entry is this consumer's only if its ack counts. Otherwise the lease has ended, and
          // another consumer may have the entry.
          if (q.consumer().ack(0, e[i]) == ack_status::ignored) {
            late.fetch_add(1);
            continue;
          }
          if (!take(e[i].ref.word)) good = false;
          acked.fetch_add(1);
        }
        for (std::uint32_t i = 0; i < n; ++i)
          if (!e[i].redelivered()) last = std::max(last, e[i].ticket());
        if (random() % 4 == 0) expired.fetch_add(q.consumer().expire(0, now.load()));
        q.release(0);
        if (n == 0)
          wait.idle();
        else
          wait.busy();
      }
      expired.fetch_add(q.consumer().expire(0, UINT64_MAX - 1));
    });
  for (std::size_t i = 0; i < threads.size(); ++i)
    if (i != producers) threads[i].join();
  over = true;
  threads[producers].join();
  EXPECT_TRUE(good.load()) << "an object did not have the stamp of its last holder";
  q.release(0);
  const queue_statistics s = q->statistics(0);
  EXPECT_EQ(s.depth, 0u);
  EXPECT_EQ(s.head, producers * rounds);
  for (const auto& d : done)
    EXPECT_EQ(std::ranges::count(d, 1), static_cast<std::ptrdiff_t>(rounds));
  // The queue becomes as small as it was, and no retired ring is left.
  for (int visit = 0; visit < 400; ++visit) {
    q->maintain();
    q.release(0);
  }
  EXPECT_EQ(q->statistics(0).capacity, smallest);
  EXPECT_EQ(q->statistics().rings_retired, 0u);
  return {q->statistics().grown, q->statistics().shrunk, expired.load(), late.load()};
}

void expect_grown(const grown& g) {
  std::printf("%llu larger and %llu smaller rings appended, %llu leases ended, %llu late acks\n",
              static_cast<unsigned long long>(g.grown), static_cast<unsigned long long>(g.shrunk),
              static_cast<unsigned long long>(g.expired), static_cast<unsigned long long>(g.late));
  EXPECT_GE(g.grown, 6u);
  EXPECT_GE(g.shrunk, 6u);
  EXPECT_GT(g.expired, 0u);
}

TEST(RingStress, RingsAreAddedAndRemovedWithManyProducersAndOneConsumer) {
  expect_grown(run_growing(queue_mode::mpsc, 1, per_producer / 2));
}
TEST(RingStress, RingsAreAddedAndRemovedWithManyProducersAndConsumers) {
  expect_grown(run_growing(queue_mode::mpmc, 3, per_producer / 2));
}

TEST(RingStress, AQueueGetsEveryMessageWhileAnotherOneIsRestarted) {
  queue_layout l;
  l.queues = 2;
  l.descriptors = 256;
  l.blocks = 2048;
  l.options.slots = 64;
  l.options.stock = 4;
  auto m = memory_media(l.size(), durability_class::emulated);
  queues_on_media q(*m, l, true);
  std::atomic<int> publishing{2};
  std::vector<std::thread> threads;
  std::atomic<std::uint64_t> published{0};
  for (std::uint64_t p = 0; p < 2; ++p)
    threads.emplace_back([&, p] {
      idle_policy wait;
      for (std::uint64_t i = 1; i <= 4000;) {
        for (std::uint32_t queue : {0u, 1u})
          if (q->link_now(queue) != link_status::ready) wait.idle();
        if (q.publish(p << 32 | i, {0, 1})) {
          ++i;
          published.fetch_add(1);
          wait.busy();
        } else {
          wait.idle();
        }
      }
      publishing.fetch_sub(1);
    });
  // Queue 0 is restarted now and then. Queue 1 gets every message.
  std::thread home([&] {
    idle_policy wait;
    std::mt19937_64 random(3);
    while (publishing.load() != 0) {
      if (random() % 64 == 0) {
        while (q.restart(0) == restart_status::busy)
          wait.idle();
        q->refill();
      }
      const auto e = q.lease(0, 16);
      for (const leased& x : e)
        if (q.id_of(x.message()) == 0) ADD_FAILURE() << "a message is not whole";
      if (!e.empty()) q.consumer().ack_through(0, e.back().ticket());
      q.release(0);
      if (e.empty()) wait.idle();
    }
  });
  std::uint64_t next[2] = {1, 1}, seen = 0;
  idle_policy wait;
  while (seen < 8000) {
    const auto e = q.lease(1, 16);
    for (const leased& x : e) {
      const std::uint64_t id = q.id_of(x.message());
      ASSERT_NE(id, 0u) << "a message is not whole";
      ASSERT_EQ(id & 0xffff'ffff, next[id >> 32]++);
    }
    seen += e.size();
    if (!e.empty()) q.consumer().ack_through(1, e.back().ticket());
    q.release(1);
    if (e.empty())
      wait.idle();
    else
      wait.busy();
  }
  for (auto& t : threads)
    t.join();
  home.join();
  while (q.restart(0) == restart_status::busy)
    wait.idle();
  EXPECT_EQ(q.live(), 0u);
}

} // namespace
} // namespace chainring::test
