// SPDX-License-Identifier: BSD-3-Clause
// Crashes the writes of the journal in units of 512 bytes, in any order between syncs: while it
// runs, while it checkpoints, while it recovers, and after it continued.
#include <gtest/gtest.h>

#include "base/hook.h"
#include "journal_world.h"
#include "support/mutation.h"
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
  call_watch* watch = nullptr; ///< sees the calls of the lives that are crashed

  std::uint64_t states = 0;
  std::vector<std::string> failures;
  void fail(const std::string& text) {
    if (failures.size() < 3) failures.push_back(text);
  }
};

/// Has the disk ask the watch, where there is one.
void watch_disk(model_disk& disk, call_watch* watch) {
  if (watch != nullptr) disk.allows = [watch] { return watch->allows(); };
}

/// Recovers from `first`, crashes inside recovery and behind it, and recovers again.
void crash_in_recovery(exploration& e, workload& w, const file_bytes& first, std::uint64_t acked,
                       std::uint64_t done) {
  model_disk disk(first);
  watch_disk(disk, e.watch);
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
  watch_disk(disk, e.watch);
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
  const test::seeded active_bug(GetParam());
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
std::uint64_t drains_found_behind_a_repeated_record(call_watch* watch = nullptr) {
  workload w(5, 40);
  model_disk disk;
  EXPECT_TRUE(life::format(disk));
  watch_disk(disk, watch);
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
  watch_disk(second_disk, watch);
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
  const test::seeded active_bug("file_salt_kept");
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
  const test::seeded active_bug("file_lines_copied_after_lock");
  test::expect_found("file_lines_copied_after_lock", dependants_without_precondition() > 0);
}

// --- creating and growing --------------------------------------------------------------------

/// Crashes a creation at every sync. Says what is wrong, if anything.
std::string crash_creation(call_watch* watch, int& opened, int& refused) {
  model_disk disk;
  watch_disk(disk, watch);
  workload w(1, 1);
  std::string wrong;
  bool finished = false;
  disk.before_sync = [&] {
    disk.each_crash(1, 64, 32, [&](const file_bytes& bytes) {
      model_disk crashed(bytes);
      auto m = life::open(crashed);
      m ? ++opened : ++refused;
      if (!m && finished) wrong = "a created file does not open: " + m.error().message;
      if (!m && m.error().code != errc::corrupt) wrong = m.error().message;
      if (m && std::memcmp((*m)->base(), w.state(0).data(), workload::image_size) != 0)
        wrong = "a created file is not empty";
    });
  };
  if (auto done = life::format(disk); !done) return done.error().message;
  finished = true;
  disk.before_sync();
  return wrong;
}

TEST(JournalCrash, AnUnfinishedCreationIsRefusedOrLeavesAnEmptyIntactRegion) {
  int opened = 0, refused = 0;
  EXPECT_EQ(crash_creation(nullptr, opened, refused), "");
  EXPECT_GT(opened, 0);
  EXPECT_GT(refused, 0);
}

/// Grows a file with drains before and behind, and crashes it at every sync. Says what is wrong.
std::string crash_growth(call_watch* watch, int& old_size, int& new_size) {
  model_disk disk;
  workload w(3, 20);
  if (!life::format(disk)) return "cannot be created";
  watch_disk(disk, watch);
  auto m = life::open(disk).value();
  runner run(w, *m, 0);
  for (int i = 0; i < 4; ++i)
    run.drain();
  (void)m->commit_step();
  run.drain();
  const std::uint64_t grown = 2 * workload::image_size;
  auto* last = reinterpret_cast<std::uint64_t*>(m->base() + grown - 8);
  std::string wrong;
  bool has_grown = false, has_last = false;
  disk.before_sync = [&] {
    disk.each_crash(1, 64, 32, [&](const file_bytes& bytes) {
      model_disk crashed(bytes);
      std::unique_ptr<file_media> again;
      if (const auto bad = verdict(crashed, w, run.acked(), run.done(), nullptr, &again)) {
        wrong = *bad;
        return;
      }
      again->size() == grown ? ++new_size : ++old_size;
      if (again->size() == workload::image_size) {
        if (has_grown) wrong = "a growth that was answered is lost";
        return;
      }
      file_bytes more(again->size() - workload::image_size);
      std::memcpy(more.data(), again->base() + workload::image_size, more.size());
      std::uint64_t found = 0;
      std::memcpy(&found, more.data() + more.size() - 8, sizeof found);
      std::memset(more.data() + more.size() - 8, 0, 8);
      if (has_last && found != 9) wrong = "a mark in the new bytes was durable, and is lost";
      if (found != 0 && found != 9) wrong = "the new bytes hold what nobody wrote";
      if (more != file_bytes(more.size())) wrong = "the new bytes are not zero";
    });
  };
  if (auto done = m->grow(grown); !done) return done.error().message;
  has_grown = true;
  disk.before_sync();
  m->store(last, 9);
  m->flush(last, 8);
  m->drain();
  const mark_t mark = m->mark();
  while (m->commit_step()) {
  }
  has_last = m->durable(mark);
  disk.before_sync();
  (void)m->checkpoint_step();
  disk.before_sync();
  disk.before_sync = nullptr;
  if (m->failed()) return "it failed";
  return wrong;
}

TEST(JournalCrash, GrowthIsCompleteOrAbsentAndLosesNothing) {
  int old_size = 0, new_size = 0;
  EXPECT_EQ(crash_growth(nullptr, old_size, new_size), "");
  EXPECT_GT(old_size, 0);
  EXPECT_GT(new_size, 0);
}

// --- every call switched off -----------------------------------------------------------------

/// Lets each change of a life fail in turn. The process dies of it, the next one reads what only
/// the page cache holds, shows it, goes on, and then the power goes. Says what was lost or torn.
std::string crash_after_failures(call_watch* watch) {
  std::string wrong;
  for (std::uint64_t n = 0; n < 60 && wrong.empty(); ++n) {
    workload w(9, 20);
    model_disk disk;
    if (!life::format(disk)) return "cannot be created";
    watch_disk(disk, watch);
    std::uint64_t acked = 0, done = 0;
    disk.fail_at = disk.changes + n;
    disk.how = model_disk::fault::eio;
    const auto work = [&](file_media& m, std::uint64_t from) {
      runner run(w, m, from);
      for (int i = 0; i < 8 && !m.failed(); ++i) {
        run.drain();
        (void)m.commit_step();
        if (i % 3 == 2) (void)m.checkpoint_step();
      }
      acked = std::max(acked, run.acked());
      done = std::max(done, run.done());
    };
    const auto judge = [&] {
      disk.each_crash(n, 64, 8, [&](const file_bytes& bytes) {
        model_disk crashed(bytes);
        if (auto bad = verdict(crashed, w, acked, done)) wrong = *bad;
      });
    };
    if (auto m = life::open(disk)) work(**m, 0);
    disk.fail_at = UINT64_MAX;
    disk.before_sync = judge;
    std::uint64_t shown = 0;
    std::unique_ptr<file_media> m;
    if (auto bad = verdict(disk, w, acked, done, &shown, &m)) return *bad;
    acked = std::max(acked, shown); // whoever read it may have acted on it
    judge();
    disk.before_sync = nullptr;
    work(*m, shown);
    judge();
  }
  return wrong;
}

/// Closes a file with drains that nothing committed yet. Says what was lost.
std::string crash_after_close(call_watch* watch) {
  workload w(4, 20);
  model_disk disk;
  if (!life::format(disk)) return "cannot be created";
  watch_disk(disk, watch);
  auto m = life::open(disk).value();
  runner run(w, *m, 0);
  for (int i = 0; i < 4; ++i)
    run.drain();
  std::string wrong;
  const auto judge = [&](std::uint64_t acked) {
    disk.each_crash(1, 64, 32, [&](const file_bytes& bytes) {
      model_disk crashed(bytes);
      if (auto bad = verdict(crashed, w, acked, 4)) wrong = *bad;
    });
  };
  disk.before_sync = [&] { judge(run.acked()); };
  if (auto closed = m->close(); !closed) return closed.error().message;
  disk.before_sync = nullptr;
  judge(4);
  return wrong;
}

TEST(JournalCrash, WhatAnOpenShowsAfterAFailureAndWhatACloseHasDoneSurviveAPowerCut) {
  EXPECT_EQ(crash_after_failures(nullptr), "");
  EXPECT_EQ(crash_after_close(nullptr), "");
}

mutation_trial lives(const char* name, std::uint64_t seed, std::uint64_t lines_max,
                     int operations) {
  return {name, [=](call_watch& watch) {
            exploration e;
            e.seed = seed;
            e.lines_max = lines_max;
            e.operations = operations;
            e.watch = &watch;
            explore(e);
            return text(e) + (testing::Test::HasFailure() ? "it failed" : "");
          }};
}

TEST(JournalMutation, EveryWriteAndSyncIsNeeded) {
  mutation_options which;
  which.under = {"drivers/media/file/", "lib/media/block_file", "lib/media/container"};
  const char* const loop =
      "the trials make the steps of this thread themselves, so that their order repeats";
  const char* const real =
      "the trials have no file of the operating system; they make this call themselves";
  const char* const look = "a look beside the owner is read-only and writes nothing";
  which.stay = {
      {"file_format::journal_offset + at, zeros.data(), n)",
       "allocated space reads as zeros; written once, it makes later commits cheaper"},
      {"if (int e = image_.sync(); e != 0) return e;",
       "the sync at the end covers the same pages; this one bounds what a commit waits for"},
      {"while (checkpoint_step())",
       "the journal holds what a close has not checkpointed; this makes the next open short"},
      {"unsynced ? write_all(", "the call of a seeded bug"},
      {"{ commit_loop(); }", loop},
      {"{ checkpoint_loop(); }", loop},
      {"if (journal_.commit_step())", loop},
      {"(void)checkpoint_step();", loop},
      {"auto m = file_media::attach(std::move(parts), options);", real},
      {"if (auto done = file_media::format(*parts, *checked);", real},
      {"auto m = attach(std::move(*parts), opening);", real},
      {"return attach(std::move(*parts), *checked);", real},
      {"auto m = file_media::attach(std::move(*parts), options);", look},
      {"if (options.read_only && options.beside_owner) return look(*checked);", look},
  };
  const mutation_report r = mutate(
      {
          {"creation",
           [](call_watch& watch) {
             int opened = 0, refused = 0;
             return crash_creation(&watch, opened, refused);
           }},
          {"growth",
           [](call_watch& watch) {
             int old_size = 0, new_size = 0;
             return crash_growth(&watch, old_size, new_size);
           }},
          {"records of an earlier life",
           [](call_watch& watch) {
             return drains_found_behind_a_repeated_record(&watch) == 1 ? "" : "wrong";
           }},
          {"a change that fails", [](call_watch& watch) { return crash_after_failures(&watch); }},
          {"close", [](call_watch& watch) { return crash_after_close(&watch); }},
          lives("small drains", 1, 3, 60),
          lives("drains that share a checkpoint", 2, 40, 60),
          lives("drains that lap the journal", 3, 150, 60),
      },
      which);
  std::printf("%s", r.text().c_str());
  EXPECT_EQ(r.baseline, "");
  EXPECT_EQ(r.survivors(), std::vector<std::string>{});
  EXPECT_EQ(r.unreached(), std::vector<std::string>{});
}

} // namespace
} // namespace chainring::test
