// SPDX-License-Identifier: BSD-3-Clause
// Wills crashed at every point. A will whose change was answered is sent exactly once after its
// client was lost, to every subscriber; the will of a client that has disconnected is never sent; a
// will that was replaced is not sent.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "base/hook.h"
#include "broker/access.h"
#include "crash_bounds.h"
#include "line_case.h"
#include "line_scenarios.h"
#include "support/seeded.h"

namespace chainring::testing_line {
namespace {

/// A will was begun and answered as the history's messages are. Besides: its client's disconnect
/// was begun, and was answered.
constexpr int leaving = first_scenario_kind, left = leaving + 1;
/// The second subscriber may have acknowledged the will before the crash.
constexpr int taken = leaving + 2;
constexpr unsigned owner_at = 150, taker_at = 151;
/// What fills a queue; it is no will.
constexpr const char* filler = "x";
constexpr std::uint64_t filler_id = 999;

struct will_case : line_case {
  unsigned owner_home = 0;
  [[nodiscard]] std::string owner(server& b) const {
    return config.workers == 1 ? "owner" : identity_at(b.broker(), owner_home, "owner");
  }
  will_case() {
    subscribers = 1;
    config.will_grace_s = 0; // a client that was connected at the crash is lost at the open
    layout.messages_max = 16;
    layout.retained_max = 1;
    layout.groups_max = 1;
  }
};

/// A will with properties.
std::string will_text(std::uint64_t id) {
  return properties_for(text_of(id)) + text_of(id);
}

/// Changes the will of the owner, who connects with it first.
void set_will(server& b, history& h, std::uint64_t id, bool connect) {
  h.begin(id, usual_size);
  const std::string will = std::string(topic) + " 1 " + will_text(id);
  const std::string said = b.ask(owner_at, (connect ? "CONNECT owner - " : "WILL ") + will);
  if (said.starts_with("OK "))
    h.ack(id);
  else
    h.fail("will " + std::to_string(id) + ": " + said);
}
void lose(server& b) {
  b.send(owner_at, "LOST");
  b.settle();
  b.forget(owner_at);
}
void disconnect(server& b, history& h, std::uint64_t id) {
  h.promise(leaving, id);
  if (b.ask(owner_at, "BYE").starts_with("OK ")) h.promise(left, id);
  b.forget(owner_at);
}

/// The texts that a subscriber is given, acknowledged.
verdict take(server& b, unsigned s, std::map<std::uint64_t, unsigned>& got, history* h = nullptr) {
  const unsigned at = subscriber_at + s;
  b.forget(at); // what arrived over an earlier connection comes again
  if (!b.ask(at, "CONNECT " + subscriber_name(s) + " -").ends_with(" present"))
    return "session " + subscriber_name(s) + " is not there";
  b.settle();
  for (std::string line = b.next(at); !line.empty(); line = b.next(at)) {
    if (!line.starts_with("MSG ")) continue;
    const message_line m(line);
    const std::uint64_t id = m.text == filler ? filler_id : id_of(m.text);
    if (id == 0 || (id != filler_id && (m.text != text_of(id) || !m.has_properties)))
      return "torn or a ghost: " + line;
    ++got[id];
    if (h != nullptr) h->promise(taken, id);
    b.send(at, "ACK " + m.number);
    b.settle();
  }
  return {};
}

/// Judges the wills of one owner. `connections` has the wills of each of its connections, each set
/// behind the one before.
verdict check(const will_case& kind, const std::vector<std::vector<std::uint64_t>>& connections,
              media& m, const history& h) {
  std::string why;
  auto b = kind.open(m, false, why);
  if (b == nullptr) return "does not open: " + why;
  b->settle(); // the wills of clients that were connected are sent
  std::vector<std::map<std::uint64_t, unsigned>> all(kind.subscribers);
  for (unsigned s = 0; s < kind.subscribers; ++s)
    if (verdict bad = take(*b, s, all[s])) return bad;
  // A will for a full queue is tried again when that queue has been emptied.
  if (kind.subscribers > 1 && h.is_acked(1) && !all[0].contains(1)) {
    b->settle();
    for (unsigned s = 0; s < kind.subscribers; ++s)
      if (verdict bad = take(*b, s, all[s])) return bad;
  }
  for (unsigned s = 0; s < kind.subscribers; ++s) {
    std::map<std::uint64_t, unsigned>& got = all[s];
    for (const auto& wills : connections) {
      // Of the wills of one connection one is sent: the last that was answered, or one behind it.
      unsigned sent = 0, last = 0;
      for (unsigned i = 0; i < wills.size(); ++i)
        if (h.is_acked(wills[i])) last = i + 1;
      bool may_stay = last == 0;
      for (const std::uint64_t id : wills)
        may_stay |= h.has(leaving, id) || (s == 1 && h.has(taken, id));
      for (unsigned i = 0; i < wills.size(); ++i) {
        const unsigned times = got[wills[i]];
        if (times > 1) return "a will was sent twice: " + std::to_string(wills[i]);
        if (times != 0 && i + 1 < last) return "a replaced will was sent";
        if (times != 0 && !h.begun(wills[i])) return "a will that nobody has set was sent";
        if (times != 0 && h.has(left, wills[i])) return "a will was sent behind a disconnect";
        sent += times;
      }
      if (sent > 1) return "two wills of one connection were sent";
      if (sent == 0 && !may_stay) return "a will was lost: " + std::to_string(wills[last - 1]);
    }
  }
  // Nothing is left behind when the sessions of owner and publisher have ended.
  (void)b->ask(publisher_at, "CONNECT publisher clean");
  (void)b->ask(owner_at, "CONNECT " + kind.owner(*b) + " clean");
  b->settle();
  if (b->broker().counters().damaged != 0) return "a delivery was damaged";
  if (const auto live = b->broker().message_statistics().live; live != 0)
    return std::to_string(live) + " messages are live that nothing reaches";
  return {};
}

scenario will_scenario(const std::string& name, const will_case& kind,
                       const std::vector<std::vector<std::uint64_t>>& connections,
                       std::function<void(server&, history&)> run) {
  scenario s = line_scenario(name, kind, std::move(run));
  s.recover_and_check = [kind, connections](media& m, const history& h) {
    return check(kind, connections, m, h);
  };
  // A message gets the descriptors that a crash has set free.
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail("does not open again: " + why);
    b->settle();
    if (!connect_publisher(*b)) return h.fail("no publisher");
    (void)b->ask(publisher_at, std::string("PUB nobody 2:") + std::to_string(h.crashes()) + " x");
    (void)b->ask(publisher_at, std::string("REL ") + std::to_string(h.crashes()));
  };
  return s;
}

} // namespace

scenario wills_set_replaced_and_sent() {
  return will_scenario("will: set, replaced, and sent", {}, {{1, 2}, {3, 4}},
                       [](server& b, history& h) {
                         set_will(b, h, 1, true);
                         set_will(b, h, 2, false);
                         lose(b);
                         set_will(b, h, 3, true);
                         set_will(b, h, 4, false);
                       });
}

scenario wills_that_rest() {
  return will_scenario("will: not sent behind a disconnect", {}, {{1}, {2}},
                       [](server& b, history& h) {
                         set_will(b, h, 1, true);
                         disconnect(b, h, 1);
                         set_will(b, h, 2, true);
                         disconnect(b, h, 2);
                       });
}

scenario wills_of_sessions_that_end() {
  return will_scenario(
      "will: of a session that ends with its connection", {}, {{1}}, [](server& b, history& h) {
        h.begin(1, usual_size);
        const std::string will = std::string(topic) + " 1 " + will_text(1);
        if (b.ask(owner_at, "CONNECT owner passing,clean " + will).starts_with("OK ")) h.ack(1);
        lose(b);
      });
}

// A client that begins anew from another address takes its connection over. The will of the earlier
// connection is due, and it passes to the next incarnation of the session until it has been sent.
scenario wills_of_connections_taken_over() {
  return will_scenario("will: of a connection that a clean start takes over", {}, {{1}},
                       [](server& b, history& h) {
                         set_will(b, h, 1, true);
                         const std::string said = b.ask(taker_at, "CONNECT owner clean");
                         if (!said.starts_with("OK ")) h.fail("not taken over: " + said);
                         b.send(taker_at, "LOST");
                         b.settle();
                       });
}

// While a will is placed in two queues, another worker fills one of them. Its place in the other
// queue is void, and the will is placed again when there is room.
scenario workers_fill_a_queue_of_a_will() {
  will_case kind;
  kind.config = line_config(2, 7);
  kind.config.home_seed = 1;
  kind.config.will_grace_s = 0;
  kind.config.will_retry_ms = 0;
  kind.subscribers = 2;
  constexpr unsigned other_at = 101;
  constexpr const char* only_second = "second/only";
  scenario s = will_scenario(
      "will: a queue that another worker fills", kind, {{1}}, [kind](server& b, history& h) {
        (void)b.ask(other_at, "CONNECT " + identity_at(b.broker(), 1, "other") + " passing");
        h.begin(1, usual_size);
        const std::string will = std::string(topic) + " 1 " + will_text(1);
        if (!b.ask(owner_at, "CONNECT " + kind.owner(b) + " - " + will).starts_with("OK "))
          return h.fail("no owner");
        h.ack(1);
        // The first place of the will is the last of its cache line, and the second one the first
        // of the next, so that no flush of the one covers the other. The second queue has room for
        // one.
        for (int i = 0; i < 6; ++i)
          if (!b.ask(other_at, std::string("PUB ") + (i < 3 ? topic : only_second) + " 1 " + filler)
                   .starts_with("OK "))
            return h.fail("the queue is full too early");
        test::interleave(h.threads(), {[&] {
                                         b.send(owner_at, "LOST");
                                         for (int i = 0; i < 4; ++i) {
                                           b.turn(0);
                                           hook_point("idle");
                                         }
                                       },
                                       [&] {
                                         b.send(other_at,
                                                std::string("PUB ") + only_second + " 1 " + filler);
                                         for (int i = 0; i < 4; ++i) {
                                           b.turn(1);
                                           hook_point("idle");
                                         }
                                       }});
        // The second subscriber makes room, and the will is placed again and sent.
        std::map<std::uint64_t, unsigned> got;
        if (verdict bad = take(b, 1, got, &h)) return h.fail(*bad);
        b.settle();
        leave(b, 1);
        if (b.broker().counters().wills_sent != 1) h.fail("the will was not sent");
      });
  s.setup = [kind](media& m, history& h) {
    kind.set_up(m, h);
    std::string why;
    auto b = kind.open(m, false, why);
    const unsigned at = subscriber_at + 1;
    if (b == nullptr || b->ask(at, "CONNECT " + subscriber_name(1) + " -") != "OK 1 present" ||
        b->ask(at, std::string("SUB ") + only_second + " 1") != "OK 2")
      h.fail("no second subscription " + why);
  };
  return s;
}

// The queue of one subscriber is full, and its home is another worker, which drops the oldest
// message for the will. The other subscriber's queue gets its first ring before the will waits.
scenario will_that_makes_room() {
  will_case kind;
  kind.config = line_config(2, 3);
  kind.config.home_seed = 1;
  kind.config.overflow = overflow_policy::drop_oldest;
  kind.config.will_grace_s = 0;
  kind.config.will_retry_ms = 0;
  kind.subscribers = 2;
  kind.owner_home = 1;
  scenario s = will_scenario(
      "will: for which another worker makes room", kind, {{1}}, [kind](server& b, history& h) {
        if (b.broker().home_of(subscriber_name(0)) == kind.owner_home)
          return h.fail("the full queue is the owner's worker's");
        for (int i = 0; i < 3; ++i)
          if (!b.ask(publisher_at, std::string("PUB ") + topic + " 1 " + filler).starts_with("OK "))
            return h.fail("the queue is full too early");
        const unsigned at = subscriber_at + 1;
        if (b.ask(at, "CONNECT " + subscriber_name(1) + " -") != "OK 1 present" ||
            b.ask(at, std::string("SUB ") + topic + " 1") != "OK 2")
          return h.fail("no second subscriber");
        leave(b, 1);
        h.begin(1, usual_size);
        const std::string will = std::string(topic) + " 1 " + will_text(1);
        if (!b.ask(owner_at, "CONNECT " + kind.owner(b) + " - " + will).starts_with("OK "))
          return h.fail("no owner");
        h.ack(1);
        b.send(owner_at, "LOST");
        b.settle();
        if (b.broker().counters().wills_sent != 1 || b.broker().counters().dropped_oldest == 0)
          h.fail("no room was made, or the will was not sent");
      });
  s.setup = [kind](media& m, history& h) { kind.set_up_second_session(m, h); };
  return s;
}

// The record of a session names a message that is not held, as lost memory leaves it. The open
// deletes that will. Then another client's will gets the very descriptor, and that client
// disconnects, so its will must not be sent for the first session.
scenario will_that_names_no_message() {
  const will_case kind;
  const message_ref next{0, 1}; // what the first message of the region is named
  const auto open = [kind](media& m, std::string& why) {
    auto made = broker_on(test::join_life(m), kind.config, false, kind.layout);
    if (!made) why = made.error().message;
    return made ? std::make_unique<server>(std::move(*made)) : nullptr;
  };
  scenario s;
  s.name = "will: one that names no message, and one that gets its descriptor";
  s.size = 128 << 10;
  s.setup = [kind, next](media& m, history& h) {
    kind.set_up(m, h);
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail(why);
    session_table& sessions = broker_access::state(b->broker()).sessions();
    if (sessions.identity(0) != "publisher") return h.fail("session 0 is not the publisher's");
    sessions.settings_start(0, {.will = slot_ref(next, will_flag_set).word});
    sessions.flush_record(0);
    b->broker().medium().drain();
  };
  s.run = [open, next](media& m, history& h) {
    std::string why;
    auto b = open(m, why);
    if (b == nullptr) return h.fail(why);
    set_will(*b, h, 1, true);
    store& all = broker_access::state(b->broker());
    if (!all.messages().held(next)) return h.fail("the will has not got the descriptor");
    disconnect(*b, h, 1);
  };
  s.recover_and_check = [open](media& m, const history& h) -> verdict {
    std::string why;
    auto b = open(m, why);
    if (b == nullptr) return "does not open: " + why;
    b->settle();
    std::map<std::uint64_t, unsigned> got;
    if (verdict bad = take(*b, 0, got)) return bad;
    if (got[1] != 0 && !h.begun(1)) return "a will that nobody has set was sent";
    if (got[1] != 0 && h.has(left, 1)) return "a will was sent for a session that has none";
    if (got[1] > 1) return "a will was sent twice";
    if (got[1] == 0 && h.is_acked(1) && !h.has(leaving, 1)) return "a will was lost";
    return {};
  };
  s.continue_after = [open](media& m, history& h) {
    std::string why;
    auto b = open(m, why);
    if (b == nullptr) return h.fail("does not open again: " + why);
    b->settle();
  };
  return s;
}

namespace {

test::explorer_options workers_bounds() {
  return test::bounds({.states_max = 12,
                       .sample = true,
                       .depth = 1,
                       .schedules = {.random = 8, .preemptions = 1, .enumerated_max = 24}},
                      {.states_max = 256,
                       .second_lives = 1,
                       .second_points = 8,
                       .second_states_max = 8,
                       .schedules = {.random = 100, .preemptions = 1, .enumerated_max = 1000}});
}

TEST(CrashWills, TheLastWillThatWasAnsweredIsSentOnceWhenItsClientIsLost) {
  EXPECT_TRUE(explore(wills_set_replaced_and_sent(), testing_core::crash_bounds()).ok());
}
TEST(CrashWills, AWillIsNeverSentBehindTheDisconnectOfItsClient) {
  EXPECT_TRUE(explore(wills_that_rest(), testing_core::crash_bounds()).ok());
}
TEST(CrashWills, ASessionThatEndsWithItsConnectionKeepsItsWillUntilThatWasSent) {
  EXPECT_TRUE(explore(wills_of_sessions_that_end(), testing_core::crash_bounds()).ok());
}
TEST(CrashWills, TheWillOfAConnectionThatIsTakenOverIsSentOnce) {
  EXPECT_TRUE(explore(wills_of_connections_taken_over(), testing_core::crash_bounds()).ok());
}
TEST(CrashWills, AWillThatAFullQueueRefusesIsSentOnceToAll) {
  EXPECT_TRUE(explore(workers_fill_a_queue_of_a_will(), workers_bounds()).ok());
}
TEST(CrashWills, AWillForWhichAnotherWorkerMakesRoomIsSentOnceToAll) {
  EXPECT_TRUE(explore(will_that_makes_room(), testing_core::crash_bounds()).ok());
}
TEST(CrashWills, AWillIsNeverSentForASessionWhoseOwnWillNamedNoMessage) {
  EXPECT_TRUE(explore(will_that_names_no_message(), testing_core::crash_bounds()).ok());
}
TEST(CrashWills, SeededBugARecordThatNamesAWillBeforeItIsHeldIsFound) {
  expect_bug("broker.will_named_before_held", wills_set_replaced_and_sent(),
             testing_core::crash_bounds());
}
TEST(CrashWills, SeededBugAWillThatIsSentBehindADisconnectIsFound) {
  expect_bug("broker.will_after_disconnect", wills_that_rest(), testing_core::crash_bounds());
}
TEST(CrashWills, SeededBugASessionThatBeginsBeforeTheWillIsDurableThatPassesToItIsFound) {
  expect_bug("broker.will_settings_with_state", wills_of_connections_taken_over(),
             testing_core::crash_bounds());
}
TEST(CrashWills, SeededBugVoidSlotsOfARefusedWillThatAreNotFlushedAreFound) {
  expect_bug("broker.will_void_not_flushed", workers_fill_a_queue_of_a_will(), workers_bounds());
}

} // namespace

} // namespace chainring::testing_line
