// SPDX-License-Identifier: BSD-3-Clause
// Crashes the writes of the journal in units of 512 bytes, in any order between syncs: while it
// runs, while it checkpoints, while it recovers, and after it continued.
#include <gtest/gtest.h>

#include "base/hook.h"
#include "journal_world.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

/// What one exploration may spend, and what it found.
struct exploration {
  std::uint64_t seed = 1;
  std::size_t exhaustive_max = 64;
  std::size_t random = 12;
  std::size_t second_crashes = 6; ///< the number of first crashes that are followed into recovery
  int operations = 60;
  std::uint64_t lines_max = 60;

  std::uint64_t states = 0;
  std::vector<std::string> failures;
  void fail(const std::string& text) {
    if (failures.size() < 3) failures.push_back(text);
  }
};

/// Recovers from `first`, crashes inside recovery and behind it, and recovers again.
void crash_in_recovery(exploration& e, workload& w, const file_bytes& first, std::uint64_t acked,
                       std::uint64_t done) {
  model_disk disk(first);
  std::uint64_t least = acked, most = done;
  std::optional<runner> run;
  disk.before_sync = [&] {
    if (!e.failures.empty()) return;
    if (run) {
      least = run->acked();
      most = run->done();
    }
    disk.each_crash(e.seed, 16, 4, [&](const file_bytes& second) {
      ++e.states;
      model_disk again(second);
      if (auto wrong = verdict(again, w, least, most)) e.fail("second crash: " + *wrong);
    });
  };
  std::uint64_t k = 0;
  std::unique_ptr<file_media> m;
  if (auto wrong = verdict(disk, w, acked, done, &k, &m)) {
    e.fail("recovery: " + *wrong);
    return;
  }
  // Someone may have acted on what recovery showed, so it must not vanish.
  run.emplace(w, *m, k);
  disk.before_sync();
  for (int i = 0; i < 5; ++i) {
    run->drain();
    if (i % 2 == 1) (void)m->commit_step();
  }
  disk.before_sync();
  (void)m->commit_step();
  (void)m->checkpoint_step();
  disk.before_sync();
  disk.before_sync = nullptr;
}

/// Runs one random life, with a crash before every sync in it.
void explore(exploration& e) {
  workload w(e.seed, e.lines_max);
  model_disk disk;
  ASSERT_TRUE(life::format(disk));
  auto opened = life::open(disk);
  ASSERT_TRUE(opened) << opened.error().message;
  file_media& m = **opened;
  runner run(w, m, 0);
  std::mt19937_64 draw(e.seed);
  std::size_t followed = 0;
  bool busy = false; // no hook runs in the lives that recover from a crash
  const auto crash = [&] {
    if (!e.failures.empty()) return;
    const bool before = std::exchange(busy, true);
    const std::uint64_t acked = run.acked(), done = run.done();
    std::size_t follow = followed < e.second_crashes && draw() % 4 == 0 ? 1 + draw() % 3 : 0;
    followed += follow;
    disk.each_crash(draw(), e.exhaustive_max, e.random, [&](const file_bytes& bytes) {
      ++e.states;
      model_disk crashed(bytes);
      if (auto wrong = verdict(crashed, w, acked, done)) e.fail(*wrong);
      if (follow > 0 && draw() % 4 == 0) {
        --follow;
        crash_in_recovery(e, w, bytes, acked, done);
      }
    });
    busy = before;
  };
  disk.before_sync = crash;
  disk.after_journal_write = [&] {
    if (!busy && m.has_room() && draw() % 4 == 0) run.drain();
  };
  // While a checkpoint is between its steps, other threads drain and the committer commits.
  struct context {
    runner& run;
    file_media& m;
    std::mt19937_64& draw;
    bool& inside;
  } c{run, m, draw, busy};
  set_hook(
      [](const char* name, void* at) noexcept {
        auto& c = *static_cast<context*>(at);
        if (c.inside || !c.m.has_room()) return;
        c.inside = true;
        const std::string_view point = name;
        if (point == "journal_sealed" && c.draw() % 4 == 0) c.run.drain();
        if (point == "checkpoint_window" || point == "checkpoint_image_synced") {
          c.run.drain();
          if (c.draw() % 2 == 0) (void)c.m.commit_step();
        }
        c.inside = false;
      },
      &c);
  for (int i = 0; i < e.operations && e.failures.empty(); ++i) {
    run.make_room();
    const std::uint64_t what = draw() % 16;
    if (what < 9)
      run.drain();
    else if (what < 14)
      (void)m.commit_step();
    else
      (void)m.checkpoint_step();
  }
  crash();
  set_hook(nullptr, nullptr);
  disk.before_sync = nullptr;
  disk.after_journal_write = nullptr;
  EXPECT_FALSE(m.failed());
}

std::string text(const exploration& e) {
  std::string out;
  for (const std::string& f : e.failures)
    out += f + "\n";
  return out;
}

TEST(JournalCrash, ACrashLeavesAPrefixOfTheDrainsWithEveryDurableMark) {
  const std::uint64_t seed = printed_seed(1);
  std::uint64_t states = 0;
  for (std::uint64_t i = 0; i < 12; ++i) {
    exploration e;
    e.seed = seed + i;
    // Some lives have small drains, whose records share sectors, and some lap the journal.
    e.lines_max = std::array<std::uint64_t, 3>{3, 40, 150}[i % 3];
    explore(e);
    states += e.states;
    ASSERT_TRUE(e.failures.empty()) << "seed " << e.seed << ": " << text(e);
  }
  std::printf("%llu crash states\n", static_cast<unsigned long long>(states));
  EXPECT_GT(states, 10'000u);
}

TEST(JournalCrash, ACrashOfASmallGroupLeavesAPrefixInEveryPossibleState) {
  exploration e;
  e.seed = printed_seed(100);
  e.exhaustive_max = 1u << 12;
  e.lines_max = 2;
  e.operations = 40;
  explore(e);
  ASSERT_TRUE(e.failures.empty()) << text(e);
}

/// Each seeded bug must be found; otherwise the exploration proves nothing.
class SeededJournalBug : public testing::TestWithParam<const char*> {};

TEST_P(SeededJournalBug, IsFound) {
  const test::seeded on(GetParam());
  bool found = false;
  for (std::uint64_t seed = 1; seed <= 12 && !found; ++seed) {
    exploration e;
    e.seed = seed;
    e.lines_max = std::array<std::uint64_t, 3>{3, 40, 150}[seed % 3];
    explore(e);
    found = !e.failures.empty();
  }
  test::expect_found(GetParam(), found);
}

INSTANTIATE_TEST_SUITE_P(All, SeededJournalBug,
                         testing::Values("file_commit_not_synced", "file_image_not_synced",
                                         "file_space_reused_early",
                                         "file_checkpoint_working_lines"));

// --- records of an earlier life --------------------------------------------------------------

/// Life 1 leaves record 1 torn and record 2 whole. Life 2 makes drain 1 again, byte for byte, and
/// is interrupted. Returns what life 3 finds.
std::uint64_t drains_found_behind_a_repeated_record() {
  workload w(5, 40);
  model_disk disk;
  EXPECT_TRUE(life::format(disk));
  auto first = life::open(disk).value();
  runner one(w, *first, 0);
  one.drain();
  one.drain();
  file_bytes torn;
  disk.before_sync = [&] {
    torn = disk.visible();
    torn[file_format::journal_offset + 100] ^= std::byte{1}; // a sector of record 1 is missing
  };
  (void)first->commit_step();
  model_disk second_disk(torn);
  auto second = life::open(second_disk).value();
  EXPECT_EQ(life::drains_in(*second), 0u);
  runner two(w, *second, 0);
  two.drain();
  (void)second->commit_step();
  EXPECT_EQ(two.acked(), 1u);
  second.reset();
  auto third = life::open(second_disk).value();
  return life::drains_in(*third);
}

TEST(JournalCrash, RecordsOfAnEarlierLifeAreNeverReplayed) {
  EXPECT_EQ(drains_found_behind_a_repeated_record(), 1u);
}

TEST(JournalCrash, RecordsOfAnEarlierLifeWouldBeReplayedIfTheSaltWereKept) {
  const test::seeded on("file_salt_kept");
  test::expect_found("file_salt_kept", drains_found_behind_a_repeated_record() == 2);
}

// --- one lock --------------------------------------------------------------------------------

/// Thread A has taken its position. Thread B drains a precondition, and then stores the word that
/// depends on it into a line that A flushed. Counts the crash states that have the word and not the
/// precondition.
int dependants_without_precondition() {
  model_disk disk;
  EXPECT_TRUE(life::format(disk));
  auto m = life::open(disk).value();
  auto* words = reinterpret_cast<std::uint64_t*>(m->base());
  struct context {
    file_media& m;
    std::uint64_t* words;
    bool done = false;
  } c{*m, words};
  static constexpr auto thread_b = [](context& c) {
    c.m.store(&c.words[80], 7); // the precondition
    c.m.flush(&c.words[80], 8);
    c.m.drain();
    // the word that depends on it, in the line of thread A's word
    c.m.store_release(&c.words[9], 7);
  };
  set_hook(
      [](const char* name, void* at) noexcept {
        auto& c = *static_cast<context*>(at);
        if (c.done || std::string_view(name) != "journal_position_taken") return;
        c.done = true;
        std::thread(thread_b, std::ref(c)).join();
      },
      &c);
  m->store(&words[8], 1);
  m->flush(&words[8], 8);
  m->flush(&words[160], 12 * cacheline_size); // the next record begins in another sector
  m->drain();
  set_hook(nullptr, nullptr);
  if (!c.done) thread_b(c); // with one lock, thread B can only come behind
  int broken = 0;
  disk.before_sync = [&] {
    disk.each_crash(1, 1u << 12, 0, [&](const file_bytes& bytes) {
      model_disk crashed(bytes);
      auto again = life::open(crashed).value();
      const auto* found = reinterpret_cast<const std::uint64_t*>(again->base());
      broken += found[9] == 7 && found[80] != 7;
    });
  };
  (void)m->commit_step();
  return broken;
}

TEST(JournalCrash, NoRecordHoldsAWordWhosePreconditionIsInALaterRecord) {
  EXPECT_EQ(dependants_without_precondition(), 0);
  const test::seeded on("file_lines_copied_after_lock");
  test::expect_found("file_lines_copied_after_lock", dependants_without_precondition() > 0);
}

// --- creating and growing --------------------------------------------------------------------

TEST(JournalCrash, AnUnfinishedCreationIsRefusedOrLeavesAnEmptyIntactRegion) {
  model_disk disk;
  workload w(1, 1);
  int opened = 0, refused = 0;
  disk.before_sync = [&] {
    disk.each_crash(1, 64, 32, [&](const file_bytes& bytes) {
      model_disk crashed(bytes);
      auto m = life::open(crashed);
      m ? ++opened : ++refused;
      if (m) {
        EXPECT_EQ(std::memcmp((*m)->base(), w.state(0).data(), workload::image_size), 0);
      } else {
        EXPECT_EQ(m.error().code, errc::corrupt) << m.error().message;
      }
    });
  };
  ASSERT_TRUE(life::format(disk));
  disk.before_sync();
  EXPECT_GT(opened, 0);
  EXPECT_GT(refused, 0);
}

TEST(JournalCrash, GrowthIsCompleteOrAbsentAndLosesNothing) {
  model_disk disk;
  workload w(3, 20);
  ASSERT_TRUE(life::format(disk));
  auto m = life::open(disk).value();
  runner run(w, *m, 0);
  for (int i = 0; i < 4; ++i)
    run.drain();
  (void)m->commit_step();
  run.drain();
  const std::uint64_t grown = 2 * workload::image_size;
  int old_size = 0, new_size = 0;
  disk.before_sync = [&] {
    disk.each_crash(1, 64, 32, [&](const file_bytes& bytes) {
      model_disk crashed(bytes);
      std::unique_ptr<file_media> again;
      const auto wrong = verdict(crashed, w, run.acked(), run.done(), nullptr, &again);
      ASSERT_FALSE(wrong) << *wrong;
      again->size() == grown ? ++new_size : ++old_size;
      if (again->size() == workload::image_size) return;
      const file_bytes zeros(again->size() - workload::image_size);
      EXPECT_EQ(std::memcmp(again->base() + workload::image_size, zeros.data(), zeros.size()), 0);
    });
  };
  ASSERT_TRUE(m->grow(grown));
  EXPECT_EQ(m->size(), grown);
  EXPECT_GT(old_size, 0);
  EXPECT_GT(new_size, 0);
  disk.before_sync = nullptr;
  auto* last = reinterpret_cast<std::uint64_t*>(m->base() + grown - 8);
  m->store(last, 9);
  m->flush(last, 8);
  m->drain();
  ASSERT_TRUE(m->close());
  m = life::open(disk).value();
  EXPECT_EQ(*reinterpret_cast<std::uint64_t*>(m->base() + grown - 8), 9u);
}

} // namespace
} // namespace chainring::test
