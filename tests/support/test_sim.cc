// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "media/sim/sim.h"
#include "media/sim/sim_life.h"

namespace chainring {
namespace {

std::uint64_t* words(media& m) {
  return reinterpret_cast<std::uint64_t*>(m.base());
}

TEST(Sim, RecordsEveryCallWithItsThreadPlaceAndValues) {
  auto m = sim_media::create(8192);
  auto* w = words(*m);
  const std::uint64_t from[2] = {7, 8};
  m->store(&w[1], 5);
  m->write(&w[8], from, 16);
  m->flush(&w[1], 100);
  std::thread([&] { m->drain(); }).join();
  const auto& events = m->trace().events;
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].call, sim_call::store);
  EXPECT_EQ(events[0].offset, 8u);
  EXPECT_EQ(m->trace().values[events[0].values], 5u);
  EXPECT_STREQ(events[0].where.file_name(), __FILE__);
  EXPECT_EQ(events[1].call, sim_call::write);
  EXPECT_EQ(events[1].count, 2u);
  EXPECT_EQ(m->trace().values[events[1].values + 1], 8u);
  EXPECT_EQ(events[2].call, sim_call::flush);
  EXPECT_EQ(events[2].offset, 0u);
  EXPECT_EQ(events[2].count, 128u);
  EXPECT_EQ(events[3].call, sim_call::drain);
  EXPECT_NE(events[3].thread, events[2].thread);
  EXPECT_EQ(w[1], 5u);
  EXPECT_EQ(w[9], 8u);
}

TEST(Sim, FindsStoresThatBypassedTheSeamAtFlushAndAtDrain) {
  auto m = sim_media::create(64 << 10);
  auto* w = words(*m);
  w[3] = 1;
  w[4000] = 2; // on another page, and never flushed
  m->flush(&w[3], 8);
  m->drain();
  const auto& events = m->trace().events;
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].call, sim_call::direct);
  EXPECT_EQ(events[0].offset, 24u);
  EXPECT_EQ(events[1].call, sim_call::flush);
  EXPECT_EQ(events[2].call, sim_call::direct);
  EXPECT_EQ(events[2].offset, 32000u);
  m->drain();
  EXPECT_EQ(m->trace().events.size(), 5u) << "each change is found once";
}

TEST(Sim, AWriteOfPartOfAWordKeepsTheBytesStoredDirectlyBesideIt) {
  auto m = sim_media::create(8192);
  auto* bytes = reinterpret_cast<std::uint8_t*>(m->base());
  bytes[0] = 0xaa;
  const std::uint8_t one = 0xbb;
  m->write(&bytes[1], &one, 1);
  const auto& t = m->trace();
  ASSERT_EQ(t.events.size(), 2u);
  EXPECT_EQ(t.events[0].call, sim_call::direct);
  EXPECT_EQ(t.values[t.events[1].values], 0xbbaau);
}

TEST(Sim, ARecordedStoreThatIsNotYetVisibleIsNotRecordedAgain) {
  auto disk = sim_disk::create(8192);
  detail::sim_life life(disk, true, false);
  auto* w = reinterpret_cast<std::uint64_t*>(life.base);
  life.on_store(w, 5, site::current()); // this thread is about to store
  std::thread([&] { EXPECT_TRUE(life.on_flush(w, 8, site::current())); }).join();
  std::atomic_ref(*w).store(5);
  std::thread([&] { EXPECT_TRUE(life.on_flush(w, 8, site::current())); }).join();
  ASSERT_EQ(life.trace.events.size(), 3u);
  EXPECT_EQ(life.trace.events[1].call, sim_call::flush);
  EXPECT_EQ(life.trace.events[2].call, sim_call::flush);
}

TEST(Sim, ALifeLeavesItsDiskAloneUntilItSettles) {
  auto disk = sim_disk::create(8192);
  {
    auto m = disk->boot();
    m->store(words(*m), 9);
    m->flush(words(*m), 8);
    m->drain();
  }
  EXPECT_EQ(disk->bytes()[0], std::byte{0});
  auto m = disk->boot();
  EXPECT_EQ(*words(*m), 0u);
  m->store(words(*m), 9);
  m->settle();
  EXPECT_TRUE(m->trace().events.empty());
  EXPECT_EQ(*words(*m), 9u);
  m->drain();
  EXPECT_EQ(m->trace().events.size(), 1u) << "what was settled is no direct store";
  EXPECT_EQ(disk->bytes()[0], std::byte{9});
}

TEST(Sim, ConsecutiveLivesHaveDifferentAddresses) {
  auto disk = sim_disk::create(8192);
  std::byte* last = nullptr;
  for (int i = 0; i < 20; ++i) {
    auto m = disk->boot(i % 3 == 0);
    EXPECT_NE(m->base(), last);
    last = m->base();
    EXPECT_EQ(*words(*m), 0u);
    *words(*m) = 77;
  }
}

TEST(Sim, AMediumMadeFromAnImageCopiesTheImage) {
  auto a = sim_media::create(4096);
  a->store(&words(*a)[3], 12);
  auto b = sim_media::from_image(a->image());
  EXPECT_NE(a->base(), b->base());
  EXPECT_EQ(words(*b)[3], 12u);
  b->store(&words(*b)[3], 13);
  EXPECT_EQ(words(*a)[3], 12u);
}

TEST(Sim, IsCreatedOpenedGrownAndReopenedByPath) {
  media_options options;
  options.path = "sim:by-path";
  EXPECT_FALSE(open_media(options));
  EXPECT_FALSE(create_media(options)) << "no size given";
  options.size = 10000;
  options.size_max = 100000;
  std::byte* first = nullptr;
  {
    auto m = create_media(options);
    ASSERT_TRUE(m) << m.error().message;
    EXPECT_STREQ((*m)->driver_name(), "sim");
    EXPECT_EQ((*m)->size(), 12288u);
    EXPECT_EQ((*m)->durability(), durability_class::emulated);
    first = (*m)->base();
    (*m)->store(words(**m), 5);
    ASSERT_TRUE((*m)->grow(50000));
    EXPECT_EQ((*m)->size(), 53248u);
    EXPECT_EQ(words(**m)[53248 / 8 - 1], 0u);
    (*m)->store(&words(**m)[53248 / 8 - 1], 6);
    EXPECT_FALSE((*m)->grow(4096));
    auto too_far = (*m)->grow(200000);
    ASSERT_FALSE(too_far);
    EXPECT_EQ(too_far.error().code, errc::no_space);
    auto again = open_media(options);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, errc::busy);
    const mark_t mark = (*m)->mark();
    EXPECT_LT(mark, (*m)->mark());
    EXPECT_TRUE((*m)->durable(mark));
    ASSERT_TRUE((*m)->close());
  }
  auto exists = create_media(options);
  ASSERT_FALSE(exists);
  EXPECT_EQ(exists.error().code, errc::exists);
  options.size = 0;
  {
    auto m = open_media(options);
    ASSERT_TRUE(m) << m.error().message;
    EXPECT_NE((*m)->base(), first);
    EXPECT_EQ(*words(**m), 5u);
    EXPECT_EQ((*m)->size(), 53248u);
    EXPECT_EQ(words(**m)[53248 / 8 - 1], 6u);
  }
  options.read_only = true;
  {
    auto a = open_media(options);
    auto b = open_media(options);
    ASSERT_TRUE(a && b);
    EXPECT_EQ((*b)->size(), 53248u);
    EXPECT_FALSE((*a)->grow(60000));
    options.read_only = false;
    EXPECT_FALSE(open_media(options)) << "readers hold it";
  }
  EXPECT_TRUE(sim_forget("sim:by-path"));
  EXPECT_FALSE(open_media(options));
}

TEST(Sim, OpeningByPathJoinsARunningLife) {
  auto disk = sim_disk::create(8192);
  auto m = disk->boot();
  media_options options;
  options.path = m->path();
  {
    auto joined = open_media(options);
    ASSERT_TRUE(joined) << joined.error().message;
    EXPECT_EQ((*joined)->base(), m->base());
    EXPECT_EQ(m->joined(), 1u);
    (*joined)->store(words(**joined), 4);
    ASSERT_TRUE((*joined)->grow(16384));
    EXPECT_EQ(m->size(), 16384u);
  }
  EXPECT_EQ(m->joined(), 0u);
  ASSERT_EQ(m->trace().events.size(), 2u);
  m.reset();
  EXPECT_EQ(disk->bytes()[0], std::byte{0})
      << "a life that the tester started never settles itself";
}

TEST(Sim, AMisuseOfTheSeamIsAViolation) {
  auto m = sim_media::create(8192);
  auto* w = words(*m);
  m->declare_scratch(&w[8], 64);
  m->store(&w[0], 1);
  m->flush(w, 64);
  w[9] = 3; // a direct store to scratch
  EXPECT_TRUE(m->violations().empty());
  m->flush(w, 128);
  ASSERT_EQ(m->violations().size(), 1u);
  EXPECT_NE(m->violations()[0].find("scratch"), std::string::npos) << m->violations()[0];
  EXPECT_NE(m->violations()[0].find("test_sim.cc"), std::string::npos);
  m->flush(m->base() + 8000, 200);
  EXPECT_EQ(m->violations().size(), 2u);
  m->declare_scratch(&w[17], 64);
  EXPECT_EQ(m->violations().size(), 3u);
  m->retract_scratch(&w[8], 64);
  m->flush(w, 128);
  EXPECT_EQ(m->violations().size(), 3u);
}

class suppress_all final : public persist_observer {
 public:
  int asked = 0;
  void on_store(const std::uint64_t*, std::uint64_t, const site&) noexcept override { ++asked; }
  void on_write(const void*, const void*, std::size_t, const site&) noexcept override { ++asked; }
  bool on_flush(const void*, std::size_t, const site&) noexcept override { return ++asked < 0; }
  bool on_drain(const site&) noexcept override { return ++asked < 0; }
};

TEST(Sim, AnObserverIsAskedBeforeTheRecordAndMaySuppress) {
  auto m = sim_media::create(8192);
  suppress_all observer;
  m->observe(&observer);
  m->store(words(*m), 1);
  std::uint64_t expected = 1;
  EXPECT_TRUE(m->compare_exchange(words(*m), expected, 2));
  m->flush(words(*m), 8);
  m->drain();
  EXPECT_EQ(observer.asked, 4);
  EXPECT_EQ(m->trace().events.size(), 2u);
}

TEST(Sim, ScratchRangesSplitAndMerge) {
  auto m = sim_media::create(8192);
  const auto flushed_scratch = [&](std::size_t line) {
    const auto before = m->violations().size();
    m->flush(m->base() + 64 * line, 1);
    return m->violations().size() > before;
  };
  m->declare_scratch(m->base() + 64, 64 * 10);
  m->retract_scratch(m->base() + 64 * 4, 64 * 2);
  std::set<std::size_t> scratch;
  for (std::size_t line = 0; line < 12; ++line)
    if (flushed_scratch(line)) scratch.insert(line);
  EXPECT_EQ(scratch, (std::set<std::size_t>{1, 2, 3, 6, 7, 8, 9, 10}));
}

TEST(Sim, FreeRunningThreadsAreRecordedWithoutInventedStores) {
  auto m = sim_media::create(1 << 20);
  constexpr std::uint64_t rounds = 2000;
  const auto work = [&](std::size_t who) {
    // The words of both threads share every line, so each flush examines words that the other
    // thread is storing.
    for (std::uint64_t i = 0; i < rounds; ++i) {
      auto* w = words(*m) + i * 8 + who;
      m->store(w, i + 1);
      m->flush(w, 8);
      if (i % 16 == 0) m->drain();
    }
  };
  std::thread a(work, 0), b(work, 1);
  a.join();
  b.join();
  std::uint64_t stores = 0;
  for (const sim_event& e : m->trace().events) {
    EXPECT_NE(e.call, sim_call::direct);
    stores += e.call == sim_call::store;
  }
  EXPECT_EQ(stores, 2 * rounds);
}

} // namespace
} // namespace chainring
