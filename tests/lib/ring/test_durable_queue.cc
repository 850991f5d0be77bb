// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>

#include "queue_fixture.h"
#include "ring/guards.h"
#include "support/seam_counter.h"
#include "support/test_media.h"

namespace chainring::test {
namespace {

struct job {
  std::uint64_t id, more[4];
  friend bool operator==(const job&, const job&) = default;
};
job job_of(std::uint64_t id) {
  return {id, {id, id * 3, ~id, 7}};
}

class DurableQueue : public testing::Test {
 protected:
  queue_layout layout;
  std::unique_ptr<media> memory;
  std::unique_ptr<opened_queue> q;
  void open(const durable_queue_options& options, std::uint64_t blocks = 512) {
    layout.options = options;
    layout.blocks = blocks;
    q.reset();
    memory = memory_media(layout.size(), durability_class::process);
    reopen();
  }
  void reopen() {
    q.reset();
    q = std::make_unique<opened_queue>(*memory, layout);
  }
  template <class T> queue<T> typed(std::uint32_t stream = 0) { return queue<T>(**q, stream); }
};

TEST_F(DurableQueue, ValuesComeOutInTheOrderInWhichTheyWentIn) {
  open({.entry_bytes = 8, .entries = 100});
  auto numbers = typed<std::uint64_t>();
  EXPECT_EQ(numbers.dequeue(), std::nullopt);
  for (std::uint64_t i = 0; i < 100; ++i)
    ASSERT_EQ(numbers.enqueue(i), queue_status::done);
  EXPECT_EQ(numbers.enqueue(100), queue_status::full);
  EXPECT_EQ(numbers.depth(), 100u);
  EXPECT_EQ(numbers.peek(), 0u);
  EXPECT_EQ(numbers.depth(), 100u);
  reopen();
  numbers = typed<std::uint64_t>();
  for (std::uint64_t i = 0; i < 100; ++i)
    ASSERT_EQ(numbers.dequeue(), i);
  EXPECT_EQ(numbers.dequeue(), std::nullopt);
  reopen();
  EXPECT_EQ(typed<std::uint64_t>().dequeue(), std::nullopt);
}

TEST_F(DurableQueue, BurstsTakeAsMuchAsThereIsRoomForAndBulkAllOrNone) {
  open({.entry_bytes = 4, .entries = 300}, 2000);
  auto numbers = typed<std::uint32_t>();
  std::vector<std::uint32_t> many(400);
  for (std::uint32_t i = 0; i < many.size(); ++i)
    many[i] = i;
  EXPECT_EQ(numbers.enqueue_bulk({many.data(), 60}), queue_status::done);
  EXPECT_EQ(numbers.enqueue_burst(std::span(many).subspan(60)), 240u);
  EXPECT_EQ(numbers.enqueue_bulk({many.data(), 2}), queue_status::full);
  EXPECT_EQ(numbers.depth(), 300u);
  std::vector<std::uint32_t> out(1000);
  EXPECT_EQ(numbers.dequeue_burst(std::span(out).first(7)), 7u);
  EXPECT_EQ(numbers.dequeue_burst(std::span(out).subspan(7)), 293u);
  for (std::uint32_t i = 0; i < 300; ++i)
    ASSERT_EQ(out[i], i);
}

TEST_F(DurableQueue, AnEntryThatIsNotDoneComesAgainAlsoAfterAnOpen) {
  open({.entry_bytes = sizeof(job), .entries = 10});
  auto jobs = typed<job>();
  ASSERT_EQ(jobs.enqueue(job_of(1)), queue_status::done);
  ASSERT_EQ(jobs.enqueue(job_of(2)), queue_status::done);
  {
    auto first = jobs.take();
    ASSERT_TRUE(first);
    EXPECT_EQ(first->value(), job_of(1));
    EXPECT_FALSE(first->again());
    auto second = jobs.take();
    ASSERT_TRUE(second);
    EXPECT_EQ(second->value(), job_of(2));
    EXPECT_FALSE(jobs.take());
    EXPECT_EQ(second->done(), queue_status::done); // out of order
  }
  auto again = jobs.take();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->value(), job_of(1));
  again.reset();
  reopen();
  jobs = typed<job>();
  EXPECT_EQ(jobs.depth(), 2u) << "the oldest entry holds the room of the one behind it";
  again = jobs.take();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->value(), job_of(1));
  EXPECT_EQ(again->done(), queue_status::done);
  EXPECT_FALSE(jobs.take());
  EXPECT_EQ(jobs.depth(), 0u);
}

TEST_F(DurableQueue, StringsOfAnyLengthAndThoseThatAreTooLong) {
  open({.entries = 40}, 4000);
  auto texts = typed<std::string>();
  for (const std::size_t n : {0, 1, 8, 63, 64, 65, 1000, 20000}) {
    ASSERT_EQ(texts.enqueue(std::string(n, 't')), queue_status::done) << n;
    ASSERT_EQ(texts.dequeue(), std::string(n, 't'));
  }
  const std::string longest(300'000, 'x'); // there are not so many blocks
  EXPECT_EQ(texts.enqueue(longest), queue_status::full);
  EXPECT_EQ((*q)->enqueue({reinterpret_cast<const std::byte*>(longest.data()),
                           durable_queue::entry_bytes_max + 1ul}),
            queue_status::too_long);
  EXPECT_EQ(texts.enqueue("short"), queue_status::done);
  EXPECT_EQ(texts.dequeue(), "short");
}

TEST_F(DurableQueue, AnEntryOfAnotherLengthIsTooLong) {
  open({.entry_bytes = 8, .entries = 10});
  EXPECT_EQ((*q)->enqueue(bytes_of("four")), queue_status::too_long);
  const durable_queue::byte_span some[] = {bytes_of("12345678"), bytes_of("12345678"),
                                           bytes_of("9"), bytes_of("12345678")};
  EXPECT_EQ((*q)->enqueue_bulk(some), queue_status::too_long);
  EXPECT_EQ((*q)->depth(0), 0u);
  EXPECT_EQ((*q)->enqueue_burst(some), 2u);
}

TEST_F(DurableQueue, EachStreamHasEveryEntryAtItsOwnPace) {
  open({.entry_bytes = 8, .entries = 20, .streams = 3}, 2000);
  auto numbers = typed<std::uint64_t>();
  for (std::uint64_t i = 0; i < 20; ++i)
    ASSERT_EQ(numbers.enqueue(i), queue_status::done);
  for (std::uint64_t i = 0; i < 20; ++i)
    ASSERT_EQ(numbers.stream(1).dequeue(), i);
  EXPECT_EQ(numbers.enqueue(20), queue_status::full) << "two streams have no room";
  reopen();
  numbers = typed<std::uint64_t>();
  EXPECT_EQ(numbers.stream(1).dequeue(), std::nullopt);
  for (const std::uint32_t s : {0, 2})
    for (std::uint64_t i = 0; i < 20; ++i)
      ASSERT_EQ(numbers.stream(s).dequeue(), i);
  EXPECT_EQ(numbers.enqueue(20), queue_status::done);
}

TEST_F(DurableQueue, ABurstOfValuesTakesOneDrainAndOneOfMessagesTwo) {
  const std::vector<std::uint64_t> numbers(32, 7);
  const std::vector<job> jobs(32, job_of(3));
  const auto drains = [&](auto&& what) {
    seam_counter seen;
    memory->observe(&seen);
    what();
    memory->observe(nullptr);
    return seen.drains;
  };
  open({.entry_bytes = 8, .entries = 100});
  (void)typed<std::uint64_t>().enqueue(1); // gives the queue its ring
  EXPECT_EQ(drains([&] { (void)typed<std::uint64_t>().enqueue_bulk(numbers); }), 1);
  std::vector<std::uint64_t> out(33);
  EXPECT_EQ(drains([&] { EXPECT_EQ(typed<std::uint64_t>().dequeue_burst(out), 33u); }), 1);
  open({.entry_bytes = sizeof(job), .entries = 100});
  (void)typed<job>().enqueue(job_of(1));
  EXPECT_EQ(drains([&] { (void)typed<job>().enqueue_bulk(jobs); }), 2);
  std::vector<job> done(33);
  EXPECT_EQ(drains([&] { EXPECT_EQ(typed<job>().dequeue_burst(done), 33u); }), 1);
}

TEST_F(DurableQueue, ProducersAndConsumersOfOneStreamLoseAndDoubleNothing) {
  for (const std::uint32_t bytes : {std::uint32_t{8}, static_cast<std::uint32_t>(sizeof(job))}) {
    open({.entry_bytes = bytes, .entries = 400, .mode = queue_mode::mpmc}, 8000);
    constexpr std::uint64_t producers = 2, consumers = 2, each = 4000;
    std::atomic<std::uint64_t> taken{0}, wrong{0};
    std::vector<std::vector<std::uint64_t>> got(consumers);
    std::vector<std::thread> threads;
    for (std::uint64_t p = 0; p < producers; ++p)
      threads.emplace_back([&, p] {
        for (std::uint64_t i = 0; i < each;) {
          const std::uint64_t id = p << 32 | i;
          const queue_status s =
              bytes == 8 ? typed<std::uint64_t>().enqueue(id) : typed<job>().enqueue(job_of(id));
          if (s == queue_status::done)
            ++i;
          else if (s == queue_status::full)
            std::this_thread::yield();
          else
            ++wrong;
        }
      });
    for (std::uint64_t c = 0; c < consumers; ++c)
      threads.emplace_back([&, c] {
        while (taken.load() < producers * each) {
          std::optional<std::uint64_t> id;
          if (bytes == 8)
            id = typed<std::uint64_t>().dequeue();
          else if (auto one = typed<job>().dequeue()) {
            id = one->id;
            wrong += *one != job_of(*id);
          }
          if (!id) {
            std::this_thread::yield();
            continue;
          }
          got[c].push_back(*id);
          ++taken;
        }
      });
    for (auto& t : threads)
      t.join();
    EXPECT_EQ(wrong.load(), 0u);
    std::set<std::uint64_t> all;
    for (const auto& some : got)
      all.insert(some.begin(), some.end());
    EXPECT_EQ(all.size(), producers * each);
    EXPECT_EQ(taken.load(), producers * each);
    EXPECT_EQ((*q)->depth(0), 0u);
  }
}

TEST_F(DurableQueue, TheModeMayBeAnotherAtEachOpen) {
  open({.entry_bytes = 8, .entries = 10});
  ASSERT_EQ(typed<std::uint64_t>().enqueue(1), queue_status::done);
  layout.options.mode = queue_mode::mpmc;
  reopen();
  EXPECT_TRUE(q->recovered.clean());
  EXPECT_EQ((*q)->statistics(0).mode, queue_mode::mpmc);
  EXPECT_EQ(typed<std::uint64_t>().dequeue(), 1u);
}

TEST_F(DurableQueue, AConsumerWaitsForAnEntryOrForSoLong) {
  open({.entry_bytes = 8, .entries = 10});
  EXPECT_EQ(typed<std::uint64_t>().wait_dequeue(std::chrono::milliseconds(1)), std::nullopt);
  std::thread later([&] { EXPECT_EQ(typed<std::uint64_t>().enqueue(5), queue_status::done); });
  EXPECT_EQ(typed<std::uint64_t>().wait_dequeue(std::chrono::seconds(120)), 5u);
  later.join();
}

TEST_F(DurableQueue, ManyMoreEntriesThanAFirstRingHoldComeThrough) {
  open({.entry_bytes = 8, .entries = 5000}, 8000);
  auto numbers = typed<std::uint64_t>();
  std::uint64_t in = 0, out = 0;
  for (int round = 0; round < 3; ++round) {
    for (; numbers.enqueue(in) == queue_status::done; ++in)
      ;
    EXPECT_EQ(in - out, 5000u);
    if (round == 1) {
      reopen();
      numbers = typed<std::uint64_t>();
    }
    for (; out < in - 100; ++out)
      ASSERT_EQ(numbers.dequeue(), out);
  }
}

TEST_F(DurableQueue, ADamagedEntryIsLeftOutAndCounted) {
  open({.entry_bytes = sizeof(job), .entries = 10});
  ASSERT_EQ(typed<job>().enqueue(job_of(1)), queue_status::done);
  ASSERT_EQ(typed<job>().enqueue(job_of(2)), queue_status::done);
  // The bytes of the first entry change behind the back of the queue.
  auto* words = reinterpret_cast<std::uint64_t*>(memory->base() + layout.blocks_offset());
  for (std::uint64_t i = 0; i < layout.blocks * layout.block_size / 8; ++i)
    if (words[i] == job_of(1).more[2]) words[i] ^= 4;
  EXPECT_EQ(typed<job>().dequeue(), job_of(2));
  EXPECT_EQ((*q)->damaged(), 1u);
  EXPECT_EQ((*q)->depth(0), 0u);
}

TEST_F(DurableQueue, ABulkOfMoreThanADrainCoversIsDrainedInPieces) {
  layout.options = {.entry_bytes = 0, .entries = 20, .first_entries = 20};
  auto narrow = std::make_unique<small_drains>(layout.size(), 4096);
  small_drains& m = *narrow;
  memory = std::move(narrow);
  reopen();
  m.most = 0;
  const std::vector<std::string> texts(20, std::string(900, 't'));
  EXPECT_EQ(typed<std::string>().enqueue_bulk(texts), queue_status::done);
  EXPECT_LE(m.most, m.limit);
  EXPECT_EQ(typed<std::string>().enqueue(std::string(1024, 'x')), queue_status::too_long);
  std::vector<std::string> out(21);
  EXPECT_EQ(typed<std::string>().dequeue_burst(out), 20u);
  EXPECT_EQ(out[19], texts[19]);
}

TEST_F(DurableQueue, AMediumThatFailsIsSaidAndNothingIsTakenFromIt) {
  for (const std::uint32_t bytes : {std::uint32_t{8}, static_cast<std::uint32_t>(sizeof(job))}) {
    layout.options = {.entry_bytes = bytes, .entries = 20, .first_entries = 20};
    auto failing = std::make_unique<failing_media>(layout.size());
    failing_media& m = *failing;
    q.reset();
    memory = std::move(failing);
    reopen();
    const std::vector<std::byte> entry(bytes);
    ASSERT_EQ((*q)->enqueue(entry), queue_status::done);
    durable_queue::taken t;
    ASSERT_EQ((*q)->take(0, {&t, 1}), 1u);
    m.broken = true;
    EXPECT_EQ((*q)->enqueue(entry), queue_status::failed);
    EXPECT_EQ((*q)->release(0, {&t, 1}), queue_status::failed);
  }
}

TEST_F(DurableQueue, WrongOptionsAreRefused) {
  open({.entry_bytes = 8, .entries = 10});
  const auto refused = [&](const durable_queue_options& o, bool descriptors) {
    const message_segment some{layout.descriptors_offset(), 4};
    const auto made = durable_queue::create(
        *memory, 0, {&some, descriptors ? std::size_t{1} : std::size_t{0}}, *q->blocks, o);
    return made ? std::string() : made.error().message;
  };
  EXPECT_EQ(refused({.entry_bytes = 8, .entries = 0}, false),
            "durable queue: entries 0: expected 1 to 16777215");
  EXPECT_EQ(refused({.entry_bytes = 8, .streams = 65}, true),
            "durable queue: streams 65: expected 1 to 64");
  EXPECT_EQ(
      refused({.entry_bytes = 8}, true),
      "durable queue: ranges of descriptors 1: expected none, because entries lie in the slots");
  EXPECT_EQ(refused({.entry_bytes = 9}, false),
            "durable queue: ranges of descriptors 0: expected at least one");
}

TEST_F(DurableQueue, AGuardGivesBackWhatItHoldsWhereItIsDropped) {
  for (const queue_mode mode : {queue_mode::mpsc, queue_mode::mpmc}) {
    open({.entry_bytes = 8, .entries = 200, .mode = mode});
    auto numbers = typed<std::uint64_t>();
    for (std::uint64_t i = 0; i < 100; ++i)
      ASSERT_EQ(numbers.enqueue(i), queue_status::done);
    try {
      taken_guard some(**q, 0);
      EXPECT_EQ(some.take(10), 10u);
      EXPECT_EQ(some.take(), durable_queue::burst_max - 10);
      EXPECT_EQ(some.take(), 0u) << "it holds no more";
      throw std::runtime_error("the work fails");
    } catch (const std::runtime_error&) {
    }
    EXPECT_EQ(numbers.depth(), 100u);
    {
      taken_guard some(**q, 0);
      EXPECT_EQ(some.take(70), durable_queue::burst_max);
      EXPECT_TRUE(some.entries()[0].again());
      EXPECT_EQ(some.release(), queue_status::done);
      EXPECT_TRUE(some.entries().empty());
    }
    EXPECT_EQ(numbers.depth(), 100u - durable_queue::burst_max);
    EXPECT_EQ(numbers.dequeue(), durable_queue::burst_max);
  }
}

// Takes all the entries of a queue of one consumer, and ends them in another order.
template <class T> void hold_all(queue<T> entries, std::uint32_t n, T (*make)(std::uint64_t)) {
  std::vector<T> burst;
  for (std::uint64_t i = 0; i < n; ++i) {
    burst.push_back(make(i));
    if (burst.size() < durable_queue::burst_max && i + 1 != n) continue;
    ASSERT_EQ(entries.enqueue_bulk(burst), queue_status::done);
    burst.clear();
  }
  std::vector<durable_queue::taken> held(n + 1);
  ASSERT_EQ(entries.bytes().take(0, held), n);
  held.pop_back();
  // First every entry whose number is odd, from the last on, and then the others.
  std::vector<durable_queue::taken> order;
  for (std::uint32_t i = n; i-- > 0;)
    if (i % 2 == 1) order.push_back(held[i]);
  const std::size_t odd = order.size();
  for (std::uint32_t i = 0; i < n; ++i)
    if (i % 2 == 0) order.push_back(held[i]);
  ASSERT_EQ(entries.bytes().release(0, std::span(order).first(odd)), queue_status::done);
  EXPECT_EQ(entries.depth(), n) << "the oldest entry keeps the room of the others";
  ASSERT_EQ(entries.bytes().release(0, std::span(order).subspan(odd)), queue_status::done);
  EXPECT_EQ(entries.depth(), 0u);
}

TEST_F(DurableQueue, AConsumerMayHoldEveryEntryOfALargeQueueAndEndThemInAnyOrder) {
  constexpr std::uint32_t n = 100'000;
  open({.entry_bytes = 8, .entries = n}, 60'000);
  hold_all<std::uint64_t>(typed<std::uint64_t>(), n, [](std::uint64_t i) { return i; });
  open({.entry_bytes = sizeof(job), .entries = n}, 160'000);
  hold_all<job>(typed<job>(), n, job_of);
}

TEST_F(DurableQueue, EntriesThatWereHeldBeyondEveryWindowComeBackAfterAnOpen) {
  constexpr std::uint32_t n = 40'000;
  open({.entry_bytes = 8, .entries = n}, 60'000);
  auto numbers = typed<std::uint64_t>();
  for (std::uint64_t i = 0; i < n; ++i)
    ASSERT_EQ(numbers.enqueue(i), queue_status::done);
  std::vector<durable_queue::taken> held(n);
  ASSERT_EQ((*q)->take(0, held), n);
  std::vector<durable_queue::taken> ended;
  for (std::uint32_t i = 0; i < n; ++i)
    if (i % 3 == 2) ended.push_back(held[i]);
  ASSERT_EQ((*q)->release(0, ended), queue_status::done);
  reopen();
  numbers = typed<std::uint64_t>();
  for (std::uint64_t i = 0; i < n; ++i)
    if (i % 3 != 2) {
      ASSERT_EQ(numbers.dequeue(), i);
    }
  EXPECT_EQ(numbers.dequeue(), std::nullopt);
}

} // namespace
} // namespace chainring::test
