// SPDX-License-Identifier: BSD-3-Clause
/// Queues under free-running threads: every value is stamped by its producer and verified by the
/// consumer that gets it.
#include <gtest/gtest.h>

#include <algorithm>
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
    q->flush_placed(p);
    q.m.drain();
    q->ready(p);
    next += got;
    wait.busy();
  }
}

TEST(RingStress, ManyProducersOneConsumer) {
  const queue_layout l = value_layout(32);
  auto m = memory_media(l.size(), durability_class::emulated);
  queues_on_media q(*m, l);
  ASSERT_EQ(q->prepare_now(0), prepare_status::ready);
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < producers; ++i)
    threads.emplace_back([&q, i] { produce(q, i); });
  std::uint64_t next[producers] = {};
  std::uint64_t seen = 0, ticket = 0;
  bool good = true;
  idle_policy wait;
  std::mt19937_64 random(7);
  while (seen < producers * per_producer) {
    leased got[16];
    const std::uint32_t n = q->lease(0, {got, 1 + random() % 16});
    std::uint32_t taken = n;
    if (n > 1 && random() % 4 == 0) { // some are given back
      taken = static_cast<std::uint32_t>(random() % n);
      if (taken == 0) {
        q->rewind(0);
        continue;
      }
      q->ack_through(0, got[taken - 1].ticket());
      q->rewind(0);
    } else if (n != 0 && random() % 2 == 0) {
      for (std::uint32_t i = n; i-- > 0;) // backwards
        good &= q->ack(0, got[i].ticket()) == (i == 0 ? ack_status::advanced : ack_status::marked);
    } else if (n != 0) {
      q->ack_through(0, got[n - 1].ticket());
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
}

TEST(RingStress, ManyProducersManyConsumers) {
  const queue_layout l = value_layout(64);
  auto m = memory_media(l.size(), durability_class::emulated);
  queues_on_media q(*m, l);
  ASSERT_TRUE(q->set_mode(0, queue_mode::mpmc));
  ASSERT_EQ(q->prepare_now(0), prepare_status::ready);
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
        std::shuffle(e, e + n, random);
        for (std::uint32_t i = 0; i < n; ++i) {
          if (random() % 16 == 0) { // to another member
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
      EXPECT_TRUE(all.insert(v).second) << "twice: " << v;
  EXPECT_EQ(all.size(), producers * per_producer);
  q.release(0);
  EXPECT_EQ(q->statistics(0).head, producers * per_producer);
}

TEST(RingStress, MessagesToTwoQueuesWhileOneIsRestarted) {
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
          if (q->prepare_now(queue) != prepare_status::ready) wait.idle();
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
  // Queue 0 is restarted now and then, queue 1 gets every message.
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
        if (q.id_of(x.message()) == 0) ADD_FAILURE() << "not whole";
      if (!e.empty()) q->ack_through(0, e.back().ticket());
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
      ASSERT_NE(id, 0u) << "not whole";
      ASSERT_EQ(id & 0xffff'ffff, next[id >> 32]++);
    }
    seen += e.size();
    if (!e.empty()) q->ack_through(1, e.back().ticket());
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
