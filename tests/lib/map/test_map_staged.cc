// SPDX-License-Identifier: BSD-3-Clause
/// Staged changes of a durable map, which share a drain of the caller's.
#include <atomic>
#include <gtest/gtest.h>
#include <thread>

#include "map_fixture.h"
#include "support/seam_counter.h"

namespace chainring::test {
namespace {

const std::string long_key(40, 'k'), other_long_key(41, 'l'), long_value(300, 'v');

class MapStaged : public testing::Test {
 protected:
  map_layout layout{.cells = 256, .blocks = 64}; // there are many claims, so few keys share one
  std::unique_ptr<media> memory = memory_media(1 << 17, durability_class::process);
  std::unique_ptr<opened_map> m = std::make_unique<opened_map>(*memory, layout);

  map_change started(std::string_view key, std::string_view value) {
    map_change c{};
    EXPECT_EQ((*m)->upsert_start(bytes_of(key), bytes_of(value), c), map_status::done);
    return c;
  }
  void end(std::vector<map_change> burst) {
    for (const map_change& c : burst)
      (*m)->change_flush(c);
    memory->drain();
    for (map_change& c : burst)
      (*m)->change_finish(c);
  }
  /// Returns a key whose change is not busy while the `open` changes are open.
  std::string beside(std::string_view name) {
    for (int i = 0;; ++i) {
      const std::string key = std::string(name) + std::to_string(i);
      map_change c{};
      if ((*m)->erase_start(bytes_of(key), c) == map_status::missing) return key;
    }
  }
};

TEST_F(MapStaged, AChangeIsVisibleOnceItIsFinishedAndNotBefore) {
  map_change c = started("a", "1");
  EXPECT_EQ(m->text("a"), "(none)");
  (*m)->change_flush(c);
  EXPECT_EQ(m->text("a"), "(none)");
  memory->drain();
  EXPECT_EQ(m->text("a"), "(none)");
  (*m)->change_finish(c);
  EXPECT_EQ(m->text("a"), "1");
  EXPECT_EQ((*m)->len(), 1u);
  end({started("a", "2")});
  EXPECT_EQ(m->text("a"), "2");
  ASSERT_EQ((*m)->erase_start(bytes_of("a"), c), map_status::done);
  EXPECT_EQ(m->text("a"), "2");
  end({c});
  EXPECT_EQ(m->text("a"), "(none)");
  EXPECT_EQ((*m)->erase_start(bytes_of("a"), c), map_status::missing);
  EXPECT_EQ((*m)->len(), 0u);
  EXPECT_EQ((*m)->insert(bytes_of("a"), {}), map_status::done)
      << "change_finish() gave the claim back";
}

TEST_F(MapStaged, AStagedChangeCostsOneFlushAndChainsCostTheBurstOneDrain) {
  const std::string second = [&] {
    const map_change c = started("a", "1");
    const std::string key = beside("b");
    end({c});
    return key;
  }();
  seam_counter seen;
  memory->observe(&seen);
  std::vector<map_change> burst{started("a", "2"), started(second, "2")};
  EXPECT_EQ(seen.flushes + seen.drains, 0);
  for (const map_change& c : burst)
    (*m)->change_flush(c);
  EXPECT_EQ(seen.flushes, 2);
  EXPECT_EQ(seen.drains, 0);
  memory->drain();
  for (map_change& c : burst)
    (*m)->change_finish(c);
  EXPECT_EQ(seen.drains, 1);

  seen = {};
  burst = {started(long_key, long_value), started(other_long_key, "short")};
  EXPECT_EQ(seen.flushes, 3) << "one flush for each chain";
  EXPECT_EQ(seen.drains, 0);
  for (const map_change& c : burst)
    (*m)->change_flush(c);
  EXPECT_EQ(seen.flushes, 5);
  EXPECT_EQ(seen.drains, 1) << "one drain for the chains of both changes";
  memory->drain();
  for (map_change& c : burst)
    (*m)->change_finish(c);
  memory->observe(nullptr);
  EXPECT_EQ(seen.flushes, 5);
  EXPECT_EQ(seen.drains, 2);
  m.reset();
  m = std::make_unique<opened_map>(*memory, layout);
  EXPECT_EQ(m->text(long_key), long_value);
  EXPECT_EQ(m->text(other_long_key), "short");
}

TEST_F(MapStaged, ASecondChangeOfAKeyIsBusyUntilTheFirstIsFinished) {
  map_change first = started("a", "1"), second{};
  EXPECT_EQ((*m)->upsert_start(bytes_of("a"), bytes_of("2"), second), map_status::busy);
  EXPECT_EQ((*m)->erase_start(bytes_of("a"), second), map_status::busy);
  (*m)->change_flush(first);
  EXPECT_EQ((*m)->upsert_start(bytes_of("a"), bytes_of("2"), second), map_status::busy);
  memory->drain();
  (*m)->change_finish(first);
  EXPECT_EQ(m->text("a"), "1");
  end({started("a", "2")});
  EXPECT_EQ(m->text("a"), "2");
}

TEST_F(MapStaged, AKeyThatAnotherThreadChangesIsBusyForABurstAndASingleCallWaits) {
  map_change first = started("a", "1");
  map_status seen = map_status::done;
  std::thread([&] {
    map_change c{};
    seen = (*m)->upsert_start(bytes_of("a"), bytes_of("2"), c);
  }).join();
  EXPECT_EQ(seen, map_status::busy);
  std::atomic<bool> done{false};
  std::thread single([&] {
    EXPECT_EQ((*m)->update(bytes_of("a"), bytes_of("3")), map_status::done);
    done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(done);
  end({first});
  single.join();
  EXPECT_EQ(m->text("a"), "3");
}

TEST_F(MapStaged, ABatchOfAnotherThreadIsBusy) {
  std::atomic<int> step{0};
  std::thread other([&] {
    durable_map::batch b(**m);
    b.insert(bytes_of("a"), bytes_of("1"));
    step = 1;
    while (step != 2)
      std::this_thread::yield();
  });
  while (step != 1)
    std::this_thread::yield();
  map_change c{};
  EXPECT_EQ((*m)->upsert_start(bytes_of("a"), bytes_of("2"), c), map_status::busy);
  step = 2;
  other.join();
  end({started("a", "2")});
  EXPECT_EQ(m->text("a"), "2");
}

TEST_F(MapStaged, ARefusedChangeTakesNothing) {
  map_change c{};
  EXPECT_EQ((*m)->upsert_start({}, bytes_of("1"), c), map_status::too_long);
  EXPECT_EQ((*m)->upsert_start(bytes_of("a"), bytes_of(std::string(65 * 64, 'x')), c),
            map_status::full);
  EXPECT_EQ((*m)->upsert_start(bytes_of("a"), bytes_of(std::string(map_value_max + 1, 'x')), c),
            map_status::too_long);
  EXPECT_EQ(m->live_blocks(), 0u);
  end({started("a", "1")});
  EXPECT_EQ(m->text("a"), "1");
}

// The index begins with one home, so its growth needs the claim that an open change holds.
TEST_F(MapStaged, AChangeIsBusyWhileAnOpenChangeHoldsTheGrowthUp) {
  layout = {.cells = 300, .first = 1};
  m.reset();
  memory = memory_media(layout.size(), durability_class::process);
  m = std::make_unique<opened_map>(*memory, layout);
  std::vector<map_change> open;
  unsigned busy = 0;
  for (unsigned i = 0; i < layout.cells;) {
    map_change c{};
    const map_status status = (*m)->upsert_start(bytes_of(i), bytes_of(i), c);
    if (status == map_status::done) {
      open.push_back(c);
      ++i;
      continue;
    }
    ASSERT_EQ(status, map_status::busy);
    ASSERT_FALSE(open.empty()) << "a change was busy although no change was open";
    ++busy;
    end(std::move(open));
    open.clear();
  }
  end(std::move(open));
  EXPECT_GT(busy, 0u);
  EXPECT_EQ((*m)->len(), layout.cells);
  for (unsigned i = 0; i < layout.cells; ++i)
    EXPECT_TRUE((*m)->contains(bytes_of(i)));
}

} // namespace
} // namespace chainring::test
