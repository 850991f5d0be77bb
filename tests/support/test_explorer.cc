// SPDX-License-Identifier: BSD-3-Clause
/// Tests the explorer on small protocols. It must catch those with known defects, and pass their
/// correct forms.
#include <gtest/gtest.h>

#include <cstdlib>
#include <thread>

#include "base/hook.h"
#include "support/explorer.h"

namespace chainring::test {
namespace {

constexpr std::size_t line = 8; // words

std::uint64_t* words(media& m) {
  return reinterpret_cast<std::uint64_t*>(m.base());
}
std::uint64_t payload(std::uint64_t id, std::uint64_t i) {
  return id * 1000 + i + 1;
}

explorer_options quiet() {
  explorer_options o;
  o.print = false;
  return o;
}

explorer_report explored(const scenario& s, const explorer_options& o = quiet()) {
  return explore(s, o);
}

void expect_caught(const scenario& s, const std::string& reason,
                   const explorer_options& o = quiet()) {
  const explorer_report r = explored(s, o);
  ASSERT_FALSE(r.ok()) << s.name << " was not caught";
  EXPECT_NE(r.failure.find(reason), std::string::npos) << r.failure;
  // Every failure replays from its own text alone, to the same reason, in one state.
  const explorer_report again = explore(s, o, r.replay);
  ASSERT_FALSE(again.ok()) << s.name << ": " << r.replay << " does not fail again\n" << r.failure;
  EXPECT_NE(again.failure.find(reason), std::string::npos) << again.failure;
  EXPECT_LE(again.states, 2u);
}

void expect_passes(const scenario& s, const explorer_options& o = quiet()) {
  const explorer_report r = explored(s, o);
  EXPECT_TRUE(r.ok()) << r.failure;
  EXPECT_GT(r.crash_points, 0u);
  EXPECT_GT(r.recoveries, 0u);
}

// --- a log of records: payload in lines of its own, then a commit word ---------------------------

enum class defect {
  none,
  one_drain, ///< the commit word is in another line and in the payload's drain
  payload_unflushed,
  commit_unflushed,
  commit_undrained,
  foreign_drain, ///< this thread flushes the payload and another thread drains
  torn_write,    ///< payload by write(), with the commit word in the same drain
};

struct log_layout {
  static constexpr std::size_t records = 3, payload_words = 3;
  static std::uint64_t* commit(media& m, std::uint64_t id) { return words(m) + id * line; }
  static std::uint64_t* data(media& m, std::uint64_t id) { return words(m) + (16 + id) * line; }
};

void put_record(media& m, std::uint64_t id, defect d) {
  std::uint64_t* to = log_layout::data(m, id);
  std::uint64_t from[log_layout::payload_words];
  for (std::size_t i = 0; i < log_layout::payload_words; ++i)
    from[i] = payload(id, i);
  if (d == defect::torn_write)
    m.write(to, from, sizeof from);
  else
    for (std::size_t i = 0; i < log_layout::payload_words; ++i)
      m.store(&to[i], from[i]);
  if (d != defect::payload_unflushed) m.flush(to, sizeof from);
  if (d == defect::foreign_drain) {
    std::thread([&] { m.drain(); }).join();
  } else if (d != defect::one_drain && d != defect::torn_write) {
    m.drain();
  }
  m.store_release(log_layout::commit(m, id), id);
  if (d != defect::commit_unflushed) m.flush(log_layout::commit(m, id), 8);
  if (d != defect::commit_undrained) m.drain();
}

void append(media& m, history& h, std::uint64_t id, defect d) {
  h.begin(id);
  put_record(m, id, d);
  h.ack(id);
}

verdict check_log(media& m, const history& h) {
  for (std::uint64_t id = 1; id <= log_layout::records; ++id) {
    const std::uint64_t found = *log_layout::commit(m, id);
    if (found == 0) {
      if (h.is_acked(id)) return "lost " + std::to_string(id);
      continue;
    }
    if (found != id || !h.begun(id)) return "ghost " + std::to_string(found);
    for (std::size_t i = 0; i < log_layout::payload_words; ++i)
      if (log_layout::data(m, id)[i] != payload(id, i)) return "torn " + std::to_string(id);
  }
  return {};
}

scenario log_scenario(defect d) {
  scenario s;
  s.name = "log with defect " + std::to_string(static_cast<int>(d));
  s.run = [d](media& m, history& h) {
    for (std::uint64_t id = 1; id <= log_layout::records; ++id)
      append(m, h, id, d);
  };
  s.recover_and_check = check_log;
  return s;
}

TEST(Explorer, PassesAPayloadDrainedBeforeItsCommitWord) {
  expect_passes(log_scenario(defect::none));
}

TEST(Explorer, CatchesACommitWordInThePayloadsDrain) {
  expect_caught(log_scenario(defect::one_drain), "torn 1");
}

TEST(Explorer, CatchesAMissingFlush) {
  expect_caught(log_scenario(defect::payload_unflushed), "torn 1");
  expect_caught(log_scenario(defect::commit_unflushed), "lost 1");
}

TEST(Explorer, CatchesAMissingDrain) {
  expect_caught(log_scenario(defect::commit_undrained), "lost 1");
}

TEST(Explorer, CatchesRelyingOnAnotherThreadsDrain) {
  expect_caught(log_scenario(defect::foreign_drain), "torn 1");
}

// --- marks that the medium holds ---------------------------------------------------------------

/// Two records, each with a mark of its own. `acknowledged` of them are acknowledged when only
/// `reached` of the marks are reached.
scenario marked_log(std::uint64_t reached, std::uint64_t acknowledged) {
  scenario s;
  s.name = "log whose marks are held, " + std::to_string(acknowledged) + " acknowledged of " +
           std::to_string(reached) + " reached";
  s.run = [=](media& m, history& h) {
    auto& medium = static_cast<sim_media&>(m);
    append(m, h, 3, defect::none);
    medium.hold_marks();
    mark_t marks[3] = {};
    for (std::uint64_t id = 1; id <= 2; ++id) {
      h.begin(id);
      put_record(m, id, defect::none);
      marks[id] = m.mark();
      EXPECT_FALSE(m.durable(marks[id]));
    }
    for (std::uint64_t id = 1; id <= reached; ++id) {
      medium.reach_mark(marks[id]);
      EXPECT_TRUE(m.durable(marks[id]));
    }
    for (std::uint64_t id = 1; id <= acknowledged; ++id)
      h.ack(id);
    medium.reach_every_mark();
    EXPECT_TRUE(m.durable(marks[2]));
  };
  s.recover_and_check = check_log;
  return s;
}

TEST(Explorer, PassesWhatIsToldBehindItsMark) {
  for (std::uint64_t n = 0; n <= 2; ++n)
    expect_passes(marked_log(n, n));
}

TEST(Explorer, CatchesWhatIsToldBeforeItsMark) {
  expect_caught(marked_log(0, 1), "lost 1, told at ");
  expect_caught(marked_log(1, 2), "lost 2, told at ");
  expect_caught(marked_log(0, 2), "lost 1, told at ");
}

TEST(Explorer, AMarkReachedCoversTheDrainsBeforeItWasTakenAndNoLaterOne) {
  scenario s = marked_log(1, 1);
  s.name = "a mark taken before the drain it is to cover";
  s.run = [](media& m, history& h) {
    auto& medium = static_cast<sim_media&>(m);
    medium.hold_marks();
    h.begin(1);
    const mark_t too_early = m.mark();
    put_record(m, 1, defect::none);
    medium.reach_mark(too_early);
    h.ack(1);
  };
  expect_caught(s, "lost 1, told at ");
}

// --- the process dies between two stores --------------------------------------------------------

TEST(Explorer, ProcessDeathBetweenTwoStoresIsSeenByTheNextLife) {
  scenario s;
  s.name = "the next life acts on one store of two and does not make it durable";
  s.run = [](media& m, history&) {
    m.store(words(m), 1);
    m.store(words(m) + line, 1);
    m.flush(words(m), 2 * 64);
    m.drain();
  };
  s.continue_after = [](media& m, history& h) {
    if (words(m)[0] == 1 && words(m)[line] == 0) h.ack(7);
    m.drain();
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    if (h.is_acked(7) && words(m)[0] != 1) return "what was seen is gone";
    return {};
  };
  expect_passes(s); // power loss leaves the first store durable, or both
  explorer_options o = quiet();
  o.deaths = 1;
  expect_caught(s, "what was seen is gone", o);
}

TEST(Explorer, ASampleOfDeathsIsNoLargerThanAskedFor) {
  explorer_options o = quiet();
  o.depth = 1;
  for (const unsigned wanted : {0u, 2u, 5u}) {
    o.deaths = wanted;
    const explorer_report r = explored(log_scenario(defect::none), o);
    EXPECT_TRUE(r.ok()) << r.failure;
    EXPECT_EQ(r.deaths, wanted);
    EXPECT_EQ(r.crash_points, 15u);
  }
  o.deaths = 1000; // one place behind each store: three words and the commit word of each record
  EXPECT_EQ(explored(log_scenario(defect::none), o).deaths, 12u);
}

TEST(Explorer, CatchesTornWords) {
  expect_caught(log_scenario(defect::torn_write), "torn 1");
}

TEST(Explorer, CountsPointsAndStatesAsWorkedOutByHand) {
  explorer_options o = quiet();
  o.depth = 1;
  scenario s = log_scenario(defect::none);
  const explorer_report r = explored(s, o);
  ASSERT_TRUE(r.ok()) << r.failure;
  // For each record: a line with 3 pending stores before the payload's drain (4 states), nothing
  // after it (1), 2 states before the commit word's drain, 1 after it, and 1 at the ack. The end
  // adds 1 point, at the same position as the last ack.
  ASSERT_EQ(r.first_life.size(), 15u);
  const std::uint64_t expected[] = {4, 1, 2, 1, 1};
  for (std::size_t i = 0; i < 15; ++i) {
    EXPECT_EQ(r.first_life[i].states, expected[i % 5]) << r.first_life[i].where;
    EXPECT_TRUE(r.first_life[i].exhaustive);
  }
  EXPECT_EQ(r.crash_points, 15u);
  EXPECT_EQ(r.exhaustive_points, 15u);
  EXPECT_EQ(r.states, 27u);
  // Each record has 4 states, then 1 seen before, then 1 more, 1 seen, and 1 with the history of
  // the ack. The second and third record add one for "begun": nothing persisted, but the history
  // differs.
  EXPECT_EQ(r.recoveries, 3u * (4 + 1 + 1));
  EXPECT_EQ(r.lives, 1u);
}

TEST(Explorer, PrintsAMinimalCase) {
  const explorer_report r = explored(log_scenario(defect::one_drain));
  ASSERT_FALSE(r.ok());
  // The line of the commit word persists and the line of the payload does not, nor does any other.
  EXPECT_NE(r.failure.find("line 0x40: kept"), std::string::npos) << r.failure;
  EXPECT_NE(r.failure.find("line 0x440: "), std::string::npos) << r.failure;
  EXPECT_EQ(r.failure.find("line 0x80"), std::string::npos) << r.failure;
  EXPECT_NE(r.failure.find("tests/support/test_explorer.cc:"), std::string::npos) << r.failure;
  EXPECT_NE(r.failure.find("CHAINRING_REPLAY='1|0|power@"), std::string::npos) << r.failure;
}

TEST(Explorer, ReplaysFromTheEnvironmentOnlyTheScenarioNamed) {
  const explorer_report r = explored(log_scenario(defect::one_drain));
  ASSERT_FALSE(r.ok());
  ASSERT_EQ(setenv("CHAINRING_REPLAY", r.replay.c_str(), 1), 0);
  const explorer_report again = explored(log_scenario(defect::one_drain));
  const explorer_report other = explored(log_scenario(defect::none));
  ASSERT_EQ(unsetenv("CHAINRING_REPLAY"), 0);
  EXPECT_FALSE(again.ok());
  EXPECT_EQ(again.recoveries, 1u);
  EXPECT_TRUE(other.ok());
  EXPECT_EQ(other.crash_points, 0u);
  EXPECT_FALSE(explore(log_scenario(defect::none), quiet(), "nonsense").ok());
}

TEST(Explorer, SameSeedSameExploration) {
  scenario s = log_scenario(defect::none);
  explorer_options o = quiet();
  const explorer_report a = explored(s, o), b = explored(s, o);
  EXPECT_EQ(a.states, b.states);
  EXPECT_EQ(a.recoveries, b.recoveries);
  EXPECT_EQ(a.lives, b.lives);
}

// --- defects that need particular states ---------------------------------------------------------

/// Six lines in one drain. The defect shows only if the first three persist and the last three do
/// not.
scenario three_lines(bool defective) {
  scenario s;
  s.name = "three lines at once";
  s.run = [](media& m, history&) {
    for (std::size_t l = 0; l < 6; ++l)
      m.store(words(m) + l * line, 1);
    m.flush(m.base(), 6 * 64);
    m.drain();
  };
  s.recover_and_check = [defective](media& m, const history&) -> verdict {
    std::uint64_t bits = 0;
    for (std::size_t l = 0; l < 6; ++l)
      bits |= words(m)[l * line] << l;
    if (defective && bits == 0b000111) return "the first three alone";
    return {};
  };
  return s;
}

TEST(Explorer, CatchesADefectThatNeedsThreeLinesAtOnce) {
  expect_caught(three_lines(true), "the first three alone");
  expect_passes(three_lines(false));
  explorer_options pairs = quiet();
  pairs.states_max = 44; // all singles and pairs, and next to nothing at random
  EXPECT_EQ(explored(three_lines(false), pairs).first_life.at(0).exhaustive, false);
}

/// A 16-byte value {v, ~v}. It is overwritten in place, or stored in the idle one of two halves
/// which one word then selects.
scenario sixteen_bytes(bool in_place) {
  scenario s;
  s.name = "sixteen bytes";
  const auto put = [in_place](media& m, std::uint64_t v) {
    std::uint64_t* w = words(m);
    const std::uint64_t active = w[0];
    const std::uint64_t half = in_place ? active : 1 - active;
    // All are in one line: two stores, and then, in the correct form, the word that makes them
    // count.
    m.store(&w[2 + 2 * half], v);
    m.store(&w[3 + 2 * half], ~v);
    if (!in_place) m.store_release(&w[0], half);
    m.flush(w, 64);
    m.drain();
  };
  s.setup = [put](media& m, history&) { put(m, 1); };
  s.run = [put](media& m, history& h) {
    for (std::uint64_t v = 2; v <= 4; ++v) {
      h.begin(v);
      put(m, v);
      h.ack(v);
    }
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    const std::uint64_t* w = words(m) + 2 + 2 * words(m)[0];
    if (w[1] != ~w[0]) return "torn value";
    const auto acked = h.ids(history::acked);
    if (!acked.empty() && w[0] < acked.back()) return "lost value";
    if (w[0] != 1 && !h.begun(w[0])) return "ghost value";
    return {};
  };
  return s;
}

TEST(Explorer, CatchesAnOverwriteOfSixteenBytesInPlace) {
  expect_caught(sixteen_bytes(true), "torn value");
  expect_passes(sixteen_bytes(false));
}

/// Item 1 is in a block. The consumer moves the head past it, and the next life reuses the block if
/// the head allows it. If that life acts on a head that is visible and not durable, the item is
/// lost when a power cut brings the old head back.
scenario visible_head(bool made_durable_first) {
  constexpr std::size_t head = 0, block = line, marker = 2 * line;
  scenario s;
  s.name = "visible head";
  s.setup = [](media& m, history&) {
    m.store(words(m) + block, 111);
    m.flush(words(m) + block, 8);
    m.drain();
  };
  s.run = [](media& m, history&) {
    m.store_release(words(m) + head, 1);
    m.flush(words(m) + head, 8);
    m.drain();
  };
  s.recover_and_check = [](media& m, const history&) -> verdict {
    if (words(m)[head] == 0 && words(m)[block] != 111) return "the queued item is overwritten";
    return {};
  };
  s.continue_after = [made_durable_first](media& m, history&) {
    std::uint64_t* w = words(m);
    if (made_durable_first) {
      m.flush_read(w + head, 8);
      m.drain();
    }
    if (w[head] == 0) return;
    m.store(w + block, 222); // the head says that the block is free, so it is reused
    m.flush(w + block, 8);
    m.drain();
    m.store(w + marker, 1);
    m.flush(w + marker, 8);
    m.drain();
  };
  return s;
}

TEST(Explorer, CatchesRecoveryThatActsOnWhatIsVisibleAndNotDurable) {
  expect_caught(visible_head(false), "the queued item is overwritten");
  expect_passes(visible_head(true));
  explorer_options power_only = quiet();
  power_only.process_death = false;
  EXPECT_TRUE(explored(visible_head(false), power_only).ok()) << "only process death shows it";
}

/// Recovery adds `pending` to `count`, which lie in two lines.
scenario recovery_moves(bool idempotent) {
  constexpr std::size_t count = 0, pending = line;
  scenario s;
  s.name = "recovery moves a sum";
  const auto recover = [idempotent](media& m) {
    std::uint64_t* w = words(m);
    if (idempotent) {
      // The second word of the count says which pending value is added already.
      if (w[pending] != 0 && w[count + 1] != w[pending + 1]) {
        // Sum and mark must change together, in one line: the sum is stored as a new value beside
        // the old one, and the mark selects one of them.
        const std::uint64_t sum = w[count + 2 + w[count + 1] % 2] + w[pending];
        m.store(&w[count + 2 + w[pending + 1] % 2], sum);
        m.store_release(&w[count + 1], w[pending + 1]);
        m.flush(&w[count], 64);
        m.drain();
      }
      return w[count + 2 + w[count + 1] % 2];
    }
    if (w[pending] != 0) {
      m.store(&w[count], w[count] + w[pending]);
      m.flush(&w[count], 8);
      m.drain();
      m.store(&w[pending], 0);
      m.flush(&w[pending], 8);
      m.drain();
    }
    return w[count];
  };
  s.run = [](media& m, history& h) {
    std::uint64_t* w = words(m);
    h.begin(1);
    m.store(&w[pending + 1], 1); // its number is stored before its value, in one line
    m.store_release(&w[pending], 5);
    m.flush(&w[pending], 64);
    m.drain();
    h.ack(1);
  };
  s.recover_and_check = [recover](media& m, const history& h) -> verdict {
    const std::uint64_t sum = recover(m);
    if (sum == 5 || (sum == 0 && !h.is_acked(1))) return {};
    return "the sum is " + std::to_string(sum);
  };
  return s;
}

TEST(Explorer, CatchesADefectInsideRecoveryAtTheSecondCrash) {
  expect_caught(recovery_moves(false), "the sum is 10");
  expect_passes(recovery_moves(true));
  explorer_options once = quiet();
  once.depth = 1;
  EXPECT_TRUE(explored(recovery_moves(false), once).ok()) << "only a second crash shows it";
}

TEST(Explorer, GoesAsManyLivesDeepAsAsked) {
  explorer_options o = quiet();
  o.depth = 3;
  const explorer_report two = explored(recovery_moves(true));
  const explorer_report three = explored(recovery_moves(true), o);
  EXPECT_TRUE(three.ok()) << three.failure;
  EXPECT_GT(three.lives, two.lives);
}

// --- scratch, and stores that bypass the seam ----------------------------------------------------

scenario scratch_count(bool relied_on) {
  scenario s;
  s.name = "count in scratch";
  const auto recover = [relied_on](media& m) {
    std::uint64_t* w = words(m);
    m.declare_scratch(w, 64);
    std::uint64_t n = 0;
    while (w[(1 + n) * line] != 0)
      ++n;
    if (!relied_on) w[0] = n;
    return w[0];
  };
  s.setup = [recover](media& m, history&) { recover(m); };
  s.run = [](media& m, history& h) {
    std::uint64_t* w = words(m);
    m.declare_scratch(w, 64);
    for (std::uint64_t id = 1; id <= 2; ++id) {
      h.begin(id);
      m.store_release(&w[id * line], id);
      m.flush(&w[id * line], 8);
      m.drain();
      w[0] = id;
      h.ack(id);
    }
  };
  s.recover_and_check = [recover](media& m, const history& h) -> verdict {
    const std::uint64_t n = recover(m);
    if (n < h.ids(history::acked).size() || n > h.ids(history::begun_kind).size())
      return "count is " + std::to_string(n);
    return {};
  };
  return s;
}

TEST(Explorer, CatchesRecoveryThatReadsScratch) {
  expect_caught(scratch_count(true), "count is ");
  expect_passes(scratch_count(false));
}

TEST(Explorer, NoiseShowsScratchThatHappensToBeRight) {
  // It counts again only if the scratch word is zero, which it is on a fresh disk.
  scenario s = scratch_count(false);
  s.name = "scratch taken for empty";
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    const std::uint64_t* w = words(m);
    std::uint64_t n = w[0];
    if (n == 0)
      while (w[(1 + n) * line] != 0)
        ++n;
    return n > h.ids(history::begun_kind).size() ? verdict("too many") : verdict();
  };
  expect_caught(s, "too many");
  explorer_options o = quiet();
  o.noise = false;
  EXPECT_TRUE(explored(s, o).ok());
}

scenario direct_payload(bool flushed) {
  scenario s = log_scenario(defect::none);
  s.name = "payload from a device";
  s.run = [flushed](media& m, history& h) {
    h.begin(1);
    for (std::size_t i = 0; i < log_layout::payload_words; ++i)
      log_layout::data(m, 1)[i] = payload(1, i); // as DMA would
    if (flushed) m.flush(log_layout::data(m, 1), 64);
    m.drain();
    m.store_release(log_layout::commit(m, 1), 1);
    m.flush(log_layout::commit(m, 1), 8);
    m.drain();
    h.ack(1);
  };
  return s;
}

TEST(Explorer, CatchesReceivedBytesThatWereNotFlushed) {
  expect_caught(direct_payload(false), "torn 1");
  expect_passes(direct_payload(true));
}

TEST(Explorer, CatchesAFlushOfScratch) {
  scenario s = log_scenario(defect::none);
  s.name = "flush of scratch";
  s.run = [](media& m, history&) {
    m.declare_scratch(m.base(), 64);
    m.flush(m.base(), 64);
    m.drain();
  };
  expect_caught(s, "a flush of scratch");
}

// --- growth, misuse of the explorer --------------------------------------------------------------

TEST(Explorer, CrashesAroundGrowth) {
  scenario s;
  s.name = "growth";
  s.size = 8192;
  s.run = [](media& m, history& h) {
    h.begin(1);
    ASSERT_TRUE(m.grow(16384));
    m.store(words(m) + 8192 / 8, 7); // in the new part, before anything names it
    m.flush(words(m) + 8192 / 8, 8);
    m.drain();
    m.store_release(words(m), 16384);
    m.flush(words(m), 8);
    m.drain();
    h.ack(1);
  };
  std::uint64_t sizes[2] = {};
  s.recover_and_check = [&](media& m, const history& h) -> verdict {
    ++sizes[m.size() >= 16384];
    if (words(m)[0] > m.size()) return "the superblock says more than there is";
    if (h.is_acked(1) && m.size() < 16384) return "growth was lost";
    if (words(m)[0] == 16384 && words(m)[8192 / 8] != 7) return "the new part was lost";
    if (m.size() >= 16384 && words(m)[16384 / 8 - 1] != 0) return "new bytes are not zero";
    if (m.size() >= 24576 && words(m)[24576 / 8 - 1] != 0 && !h.begun(2))
      return "bytes of another life";
    return {};
  };
  s.continue_after = [](media& m, history& h) {
    if (m.size() < 16384) return;
    ASSERT_TRUE(m.grow(24576));
    h.promise(history::first_own_kind, 1);
    h.begin(2);
    m.store(words(m) + 24576 / 8 - 1, 3);
    m.flush(words(m) + 24576 / 8 - 1, 8);
    m.drain();
  };
  expect_passes(s);
  EXPECT_GT(sizes[1], 0u);
}

TEST(Explorer, RefusesARegionLeftOpen) {
  scenario s = log_scenario(defect::none);
  s.name = "left open";
  std::unique_ptr<media> kept;
  s.run = [&](media& m, history&) {
    media_options o;
    o.path = m.path();
    auto joined = open_media(o);
    ASSERT_TRUE(joined);
    kept = std::move(joined).value();
  };
  const explorer_report r = explored(s);
  EXPECT_NE(r.failure.find("still has the region open"), std::string::npos) << r.failure;
}

TEST(Explorer, OpensByPathInsideEveryLife) {
  scenario s = log_scenario(defect::none);
  s.name = "by path";
  s.run = [](media& m, history& h) {
    auto own = join_life(m);
    for (std::uint64_t id = 1; id <= 3; ++id)
      append(*own, h, id, defect::none);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    auto own = join_life(m);
    return check_log(*own, h);
  };
  expect_passes(s);
  s.run = [](media& m, history& h) {
    auto own = join_life(m);
    for (std::uint64_t id = 1; id <= 3; ++id)
      append(*own, h, id, defect::one_drain);
  };
  expect_caught(s, "torn 1");
}

TEST(Explorer, ReportsWhatTheRunItselfFoundWrong) {
  scenario s = log_scenario(defect::none);
  s.name = "run fails";
  s.run = [](media&, history& h) { h.fail("did not open"); };
  expect_caught(s, "did not open");
}

TEST(Explorer, BoundedPointsAreCountedAsSuch) {
  scenario s;
  s.name = "twenty lines";
  s.run = [](media& m, history&) {
    for (std::size_t l = 0; l < 20; ++l)
      m.store(words(m) + l * line, 1);
    m.flush(m.base(), 20 * 64);
    m.drain();
  };
  s.recover_and_check = [](media&, const history&) -> verdict { return {}; };
  explorer_options o = quiet();
  o.depth = 1;
  const explorer_report r = explored(s, o);
  EXPECT_EQ(r.crash_points, 2u);
  EXPECT_EQ(r.exhaustive_points, 1u);
  EXPECT_GE(r.first_life[0].states, 4000u);
  EXPECT_FALSE(r.first_life[0].exhaustive);
}

} // namespace
} // namespace chainring::test
