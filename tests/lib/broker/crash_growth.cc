// SPDX-License-Identifier: BSD-3-Clause
// Crashed at every point: tables that grow and are used at once, and the life of session records.
#include <algorithm>

#include "broker/access.h"
#include "broker/session_table.h"
#include "broker_fixture.h"
#include "crash_bounds.h"
#include "region/recovery.h"
#include "support/eal_main.h"
#include "support/explorer.h"
#include "support/mutation.h"
#include "support/seeded.h"

namespace chainring::testing_broker {
namespace {

using test::explore;
using test::history;
using test::scenario;
using test::verdict;

constexpr int subscribed = history::first_own_kind;
constexpr std::uint64_t first_client = 100;
constexpr const char* topic = "t";

store_layout two_sessions() {
  store_layout l = tiny_layout();
  l.sessions_max = 2;
  l.subscriptions_max = 2;
  l.messages_max = 4;
  return l;
}

std::string id_of(std::uint64_t n) {
  return "client-" + std::to_string(n);
}

std::unique_ptr<bench> open(media& m, bool fresh, std::string& why) {
  broker_config config = tiny_config();
  config.queue_slots = 3;
  auto made = broker_on(test::join_life(m), config, fresh, two_sessions());
  if (!made) {
    why = made.error().message;
    return nullptr;
  }
  auto wrong = chainring::broker::check((*made)->region());
  if (!wrong || !wrong->empty()) {
    why = "check: " + (wrong ? wrong->front() : wrong.error().message);
    return nullptr;
  }
  return std::make_unique<bench>(std::move(*made));
}

void join(bench& b, history& h, std::uint64_t n) {
  h.begin(n);
  const auto at = static_cast<client_address>(first_client + n);
  if (b.connect(at, id_of(n), false) != sn::return_code::accepted)
    return h.fail("no room for " + id_of(n));
  h.ack(n);
  b.subscribe(at, topic, sn::qos_level::one);
  h.promise(subscribed, n);
}

void grow_and_join(media& m, history& h, std::uint64_t first) {
  std::string why;
  auto b = open(m, false, why);
  if (!b) return h.fail(why);
  auto grown = b->broker->grow_tables(true);
  if (!grown || *grown != 5) return h.fail("not all tables have grown");
  join(*b, h, first);
  join(*b, h, first + 1);
}

// As messages long gone leave them.
void dirty_free_blocks(bench& b) {
  block_store& blocks = broker_access::state(*b.broker).blocks();
  const auto n = static_cast<std::uint32_t>(blocks.statistics().largest_run);
  const auto run = blocks.reserve_run(n);
  if (!run) return;
  const std::vector<std::byte> noise(std::size_t{n} * blocks.block_size(), std::byte{0x5a});
  media& m = b.broker->medium();
  m.write(m.base() + *run, noise.data(), noise.size());
  m.flush(m.base() + *run, noise.size());
  m.drain();
  blocks.release_run(*run, n);
}

scenario growth() {
  scenario s;
  s.name = "broker: tables that grow, and are used at once";
  s.size = 128 << 10;
  s.setup = [](media& m, history& h) {
    std::string why;
    auto b = open(m, true, why);
    if (!b) return h.fail(why);
    join(*b, h, 0);
    join(*b, h, 1);
    dirty_free_blocks(*b);
  };
  s.run = [](media& m, history& h) { grow_and_join(m, h, 2); };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    std::string why;
    auto b = open(m, false, why);
    if (!b) return "does not open: " + why;
    if (!b->broker->opened().notes.empty()) return "damage: " + b->broker->opened().notes.front();
    std::vector<session_info> all;
    (void)b->broker->sessions(0, 1000, all);
    for (const session_info& one : all) {
      const std::uint64_t n = std::stoul(one.identity.substr(7));
      if (one.identity != id_of(n) || !h.begun(n)) return "a session nobody made: " + one.identity;
    }
    for (const std::uint64_t n : h.ids(history::acked))
      if (std::ranges::count(all, id_of(n), &session_info::identity) != 1)
        return "lost or doubled: " + id_of(n);
    if (b->broker->subscription_count() < h.ids(subscribed).size()) return "a subscription is lost";
    // What is there has a queue that takes a message.
    if (b->broker->sessions_capacity() > all.size()) {
      b->connect(99, "p", true);
      if (b->publish(99, b->register_name(99, topic), "text", 1) != sn::return_code::accepted)
        return "a queue takes nothing";
    }
    return {};
  };
  s.continue_after = [](media& m, history& h) {
    grow_and_join(m, h, static_cast<std::uint64_t>(10 * h.crashes()));
  };
  return s;
}

// --- the life of a session record
// -----------------------------------------------------------------

constexpr std::uint64_t blocks_at = 4096, second = 1'000'000'000;
constexpr int created = history::first_own_kind, set = created + 1, ending = created + 2,
              ended = created + 3, created_again = created + 4, beginning_again = created + 5;

const std::string long_identity(200, 'L'); // of more than one line, and of one block
constexpr session_settings settings_of(std::uint32_t i) {
  return {.disconnected_ns = i * second, .expiry_s = i, .will_delay_s = i};
}

struct records {
  std::unique_ptr<media> medium;
  std::unique_ptr<block_store> blocks;
  std::unique_ptr<session_table> table;
  session_recovery found;
  recovery_report report;

  records(media& m, std::uint64_t now_ns, std::string& why) : medium(test::join_life(m)) {
    auto made = block_store::create(*medium, blocks_at, 256, 16);
    blocks = std::move(*made);
    table = std::make_unique<session_table>(*medium, *blocks, "session");
    if (!table->add_segment({0, 4})) why = "no segment";
    recovery all;
    all.add(blocks->part());
    all.add(table->part("sessions", {.now_ns = now_ns}, &found));
    auto done = all.run(*medium);
    if (!done) why = done.error().message;
    if (done && !done->problems.empty()) why = done->problems.front().text();
  }
  void flush(std::uint32_t n) {
    table->flush_record(n);
    medium->drain();
  }
};

scenario record_lives() {
  scenario s;
  s.name = "session records: made, set, ended, and made again of the same identity";
  s.size = 16 << 10;
  s.run = [](media& m, history& h) {
    std::string why;
    records r(m, 1, why);
    if (!why.empty()) return h.fail(why);
    if (!r.table->create_start(0, long_identity, 0, settings_of(1))) return h.fail("no room");
    r.flush(0);
    h.promise(created, 0);
    for (std::uint32_t i = 2; i < 4; ++i) {
      h.begin(i);
      r.table->settings_start(0, settings_of(i));
      r.flush(0);
      h.promise(set, i);
    }
    h.promise(ending, 0);
    r.table->end_start(0, false, 0, {});
    r.flush(0); // before the identity gets another record
    h.promise(ended, 0);
    r.table->end_finish(0);
    h.promise(beginning_again, 0);
    if (!r.table->create_start(1, long_identity, 0, settings_of(9))) return h.fail("no room");
    r.flush(1);
    h.promise(created_again, 0);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    std::string why;
    records r(m, 1, why);
    if (!why.empty()) return "damage after a crash: " + why;
    const bool first = r.table->word0(0).state == session_state::used;
    const bool again = r.table->word0(1).state == session_state::used;
    if (first && r.table->identity(0) != long_identity) return "another identity";
    if (again && r.table->identity(1) != long_identity) return "another identity, made again";
    if (h.has(created, 0) && !h.has(ending, 0) && !first) return "the session is lost";
    if (h.has(ended, 0) && first) return "the session is back";
    if (again && !h.has(beginning_again, 0)) return "a session nobody made";
    if (h.has(created_again, 0) && !again) return "the session made again is lost";
    if (h.has(created_again, 0) && r.table->settings(1) != settings_of(9))
      return "the settings of the session made again are lost";
    if (first && h.has(created, 0)) {
      // The last ones promised, or ones that were begun since, and never parts of two.
      std::uint32_t last = 1;
      for (const std::uint64_t i : h.ids(set))
        last = static_cast<std::uint32_t>(i);
      const session_settings is = r.table->settings(0);
      if (is != settings_of(last) && !(h.begun(last + 1) && is == settings_of(last + 1)))
        return "the settings are others: " + std::to_string(is.expiry_s);
    }
    if (r.blocks->statistics().live_blocks != static_cast<unsigned>(first) + again)
      return "blocks are live that no identity needs";
    return {};
  };
  return s;
}

// The same records, at a time at which every one of them has expired: what recovery deletes stays
// deleted wherever recovery is crashed.
scenario expiry() {
  scenario s = record_lives();
  s.name = "session records: expired at an open that is crashed";
  s.setup = [](media& m, history& h) {
    std::string why;
    records r(m, 1, why);
    if (!r.table->create_start(0, long_identity, 0, settings_of(1)) ||
        !r.table->create_start(1, "stays", 0, {}))
      return h.fail("no room");
    r.flush(0);
    r.flush(1);
  };
  s.run = [](media& m, history& h) {
    std::string why;
    records r(m, 1000 * second, why);
    if (!why.empty() || r.found.expired != 1) return h.fail("not expired " + why);
    h.promise(ended, 0);
    if (!r.table->create_start(0, "newcomer", 0, {})) return h.fail("no room");
    r.flush(0);
    h.promise(created_again, 0);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    std::string why;
    records r(m, 1, why); // a clock that was set back does not bring it back
    if (!why.empty()) return "damage after a crash: " + why;
    if (r.table->word0(1).state != session_state::used || r.table->identity(1) != "stays")
      return "the other one is lost";
    const bool used = r.table->word0(0).state == session_state::used;
    if (h.has(created_again, 0) && (!used || r.table->identity(0) != "newcomer"))
      return "the newcomer is lost";
    if (h.has(ended, 0) && used && r.table->identity(0) != "newcomer") return "it is back";
    return {};
  };
  return s;
}

const test::explorer_options large{
    .states_max = 64, .second_lives = 1, .deaths = 64, .second_deaths = 4, .second_states_max = 4};

TEST(CrashGrowth, TablesThatGrowLoseNothingAndAreUsedAtOnce) {
  EXPECT_TRUE(explore(growth(), test::bounds(testing_core::crash_gate, large)).ok());
}
TEST(CrashSessions, ARecordIsThereOnceAndWholeWithItsSettings) {
  EXPECT_TRUE(explore(record_lives(), {}).ok());
}
TEST(CrashSessions, WhatExpiredIsDeletedForGood) {
  EXPECT_TRUE(explore(expiry(), {}).ok());
}

// The tester tested.
TEST(CrashGrowth, ASegmentThatIsNamedBeforeItIsClearedDurablyIsFound) {
  const test::seeded on("store.range_not_drained");
  test::explorer_options quick = large;
  quick.deaths = quick.second_deaths = 0;
  quick.print = false;
  const auto r = explore(growth(), quick);
  test::expect_found("store.range_not_drained", !r.ok(), r.failure.substr(0, r.failure.find('\n')));
}

// A growth that is not durable, and nothing but that. What these scenarios cannot notice others do:
// tests/prove judges all suites together.
TEST(CrashGrowth, EveryCallThatGrowsIsTried) {
  test::mutation_options which;
  which.under = {"lib/broker/growth.cc", "lib/broker/store_growth.cc", "lib/media/media.cc"};
  which.hang_seconds = 1500;
  const test::explorer_options quick{.states_max = 32,
                                     .sample = true,
                                     .second_lives = 1,
                                     .second_points = 12,
                                     .second_states_max = 4};
  const auto r = mutate({growth()}, quick, which);
  std::printf("%s", r.text().c_str());
  EXPECT_EQ(r.baseline, "");
}

} // namespace
} // namespace chainring::testing_broker
