// SPDX-License-Identifier: BSD-3-Clause
// The core crashed at every point while the line front end serves it: bursts with several
// deliveries in flight, acknowledged out of order, which no client of MQTT-SN can do; and sessions
// that are made, ended, made again, and that expire.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "broker/access.h"
#include "crash_bounds.h"
#include "line_case.h"
#include "line_scenarios.h"
#include "support/seeded.h"
#include "wall_clock.h"

namespace chainring::testing_line {

namespace {

constexpr int subscribed = first_scenario_kind;
constexpr int unsubscribing = first_scenario_kind + 1;
constexpr int unsubscribed = first_scenario_kind + 2;
constexpr int opened = first_scenario_kind + 3;
constexpr int renewing = first_scenario_kind + 4;
constexpr int renewed = first_scenario_kind + 5;
constexpr int time_passed = first_scenario_kind + 6;
constexpr int ended_at_open = first_scenario_kind + 7;

// Of a short identity, and of one that needs a chain of its own.
const std::string phoenixes[] = {"phoenix", "phoenix-whose-identity-is-longer-than-a-record"};
constexpr unsigned phoenix_at = 300;

/// What a connection is given, in order, each acknowledged.
verdict take_all(server& b, unsigned at, std::vector<std::uint64_t>& got) {
  for (std::string line = b.next(at); !line.empty(); line = b.next(at)) {
    const message_line m(line);
    const std::uint64_t id = id_of(m.text);
    if (id == 0 || m.text != text_of(id)) return "torn: " + m.text;
    if (std::ranges::count(got, id) != 0) return "doubled: " + m.text;
    got.push_back(id);
    b.send(at, "ACK " + m.number);
    b.settle();
  }
  return {};
}

/// How many records in the region hold a session with that identity.
std::ptrdiff_t records_of(broker& b, std::string_view identity) {
  const session_table& records = broker_access::state(b).sessions();
  std::ptrdiff_t found = 0;
  for (std::uint32_t n = 0; n < records.count(); ++n)
    if (records.word0(n).state == session_state::used && records.identity(n) == identity) ++found;
  return found;
}

} // namespace

scenario publish_and_consume() {
  return line_scenario("line: bursts of publishes, several in flight, acknowledged out of order",
                       {}, [](server& b, history& h) {
                         publish(b, h, 1, 3);
                         consume_backwards(b, h, 0, 2); // 3 and 2, and 1 stays
                         publish(b, h, 4, 1);
                         consume(b, h, 1, 3);
                         consume(b, h, 0, 1);
                       });
}

scenario sessions_and_subscriptions() {
  const line_case kind;
  scenario s;
  s.name = "line: sessions and subscriptions settled with the burst they join";
  s.size = 128 << 10;
  s.setup = [kind](media& m, history& h) { kind.set_up(m, h); };
  s.run = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail(why);
    constexpr unsigned at = 300;
    // Three calls in one burst, settled together.
    b->send(at, "CONNECT newcomer -");
    b->send(at, "SUB first 1");
    b->send(at, "SUB a/second/that/needs/a/chain/of/its/own/+ 1 3");
    b->settle();
    if (b->next(at) == "OK 1") h.promise(opened, 0);
    if (b->next(at) == "OK 2") h.promise(subscribed, 0);
    if (b->next(at) == "OK 3") h.promise(subscribed, 1);
    h.promise(unsubscribing, 0);
    if (b->ask(at, "UNSUB first") == "OK 4") h.promise(unsubscribed, 0);
    if (h.ids(subscribed).size() != 2 || !h.has(unsubscribed, 0)) h.fail("something was refused");
  };
  s.recover_and_check = [kind](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    std::map<std::string, unsigned> found;
    for (const topic_info& t : b->broker().topics(100))
      found[t.filter] = t.subscriptions;
    if (found[topic] != kind.subscribers) return "an old subscription is lost";
    const bool first = found.count("first") != 0;
    if (h.has(subscribed, 0) && !h.has(unsubscribing, 0) && !first) return "first is lost";
    if (h.has(unsubscribed, 0) && first) return "first is back";
    if (h.has(subscribed, 1) && found.count("a/second/that/needs/a/chain/of/its/own/+") == 0)
      return "second is lost";
    const std::string said = b->ask(400, "CONNECT newcomer -");
    if (h.has(opened, 0) && said != "OK 1 present") return "the session is lost";
    if (said == "OK 1" && found.size() > 1) return "subscriptions of a session that is not there";
    return {};
  };
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    if (kind.open(m, false, why) == nullptr) h.fail("does not open again: " + why);
  };
  return s;
}

// A session that stays becomes one that ends with its connection, ends, and is made again under the
// same identity, all in one burst. After a crash it is the old one with everything, or there is
// none, or it is the new one with nothing of the old; never two.
scenario ended_and_made_again() {
  line_case kind;
  kind.subscribers = 1;
  scenario s;
  s.name = "line: sessions ended and made again in one burst";
  s.size = 128 << 10;
  s.setup = [kind](media& m, history& h) {
    kind.set_up(m, h);
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    for (const std::string& identity : phoenixes) {
      (void)b->ask(phoenix_at, "CONNECT " + identity + " -");
      (void)b->ask(phoenix_at, std::string("SUB ") + topic + " 1");
    }
    (void)b->ask(phoenix_at, "BYE");
    publish(*b, h, 1, 1);
  };
  s.run = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    // Both end before either is made again, so that each may get the number of the other's record.
    for (unsigned i = 0; i < 2; ++i) {
      h.promise(renewing, i);
      b->send(phoenix_at + 1 + i, "CONNECT " + phoenixes[i] + " passing");
      b->send(phoenix_at + 1 + i, "BYE");
    }
    for (unsigned i = 0; i < 2; ++i) {
      b->send(phoenix_at + 1 + i, "CONNECT " + phoenixes[i] + " -");
      b->send(phoenix_at + 1 + i, std::string("SUB ") + topic + " 1");
    }
    b->settle();
    for (unsigned i = 0; i < 2; ++i) {
      const unsigned at = phoenix_at + 1 + i;
      std::string last;
      for (std::string line = b->next(at); !line.empty(); line = b->next(at))
        last = line;
      if (last != "OK 4") return h.fail("not made again: " + last);
      h.promise(renewed, i);
    }
    publish(*b, h, 2, 1);
    // An operator ends one of them, and its client comes back.
    h.promise(renewing, 2);
    (void)b->broker().kick(phoenixes[1]);
    b->settle();
    b->forget(phoenix_at + 2);
    if (b->ask(phoenix_at + 3, "CONNECT " + phoenixes[1] + " -") != "OK 1")
      return h.fail("a session that was ended is there");
    h.promise(renewed, 2);
  };
  s.recover_and_check = [kind](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    for (unsigned i = 0; i < 2; ++i) {
      // Only one of two records would be served, and the other would come back when that one ends.
      if (records_of(b->broker(), phoenixes[i]) > 1) return "two records of one identity";
      const unsigned at = 400 + i;
      const bool present = b->ask(at, "CONNECT " + phoenixes[i] + " -") == "OK 1 present";
      std::vector<std::uint64_t> got;
      if (verdict bad = take_all(*b, at, got)) return bad;
      const bool one = std::ranges::count(got, 1) == 1, two = std::ranges::count(got, 2) == 1;
      if (!present && !got.empty()) return "a queue of a session that is not there";
      if (!h.has(renewing, i) && (!present || !one)) return "the old session is not whole";
      if (h.has(renewed, i) && one) return "the old session's queue is the new one's";
      if (i == 1 && h.has(renewed, 2) && (!present || !got.empty()))
        return "not the session that was made last";
      if (i == 1 && h.has(renewing, 2)) continue;
      if (h.has(renewed, i) && !present) return "the session made again is lost";
      if (h.has(renewed, i) && h.is_acked(2) && !two) return "lost";
    }
    return {};
  };
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    if (kind.open(m, false, why) == nullptr) h.fail("does not open again: " + why);
  };
  return s;
}

// A client that comes back in the burst in which its session ended makes the broker publish what is
// placed so far, in the middle of the burst. What is placed behind that is published with the
// burst.
scenario published_in_the_middle() {
  line_case kind;
  kind.subscribers = 1;
  return line_scenario("line: messages before and behind the end of a session in one burst", kind,
                       [](server& b, history& h) {
                         publish(b, h, 1, 1);
                         (void)b.ask(phoenix_at, "CONNECT " + phoenixes[0] + " passing");
                         const auto put = [&](std::uint64_t id) {
                           h.begin(id, usual_size);
                           b.send(publisher_at,
                                  std::string("PUB ") + topic + " 1 " + text_of(id, usual_size));
                         };
                         put(2);
                         b.send(phoenix_at, "BYE");
                         b.send(phoenix_at + 1, "CONNECT " + phoenixes[0] + " passing");
                         put(3);
                         b.settle();
                         for (const std::uint64_t id : {2, 3}) {
                           if (!b.next(publisher_at).starts_with("OK "))
                             return h.fail("no answer for message " + std::to_string(id));
                           h.ack(id);
                         }
                         consume(b, h, 0, 3);
                       });
}

// One session is away for longer than sessions are kept. It ends while the broker runs, or at the
// next open; its client comes back as a new one. The session that is in use stays.
scenario expired_sessions() {
  line_case kind;
  kind.subscribers = 1;
  kind.config.session_expiry_s = 100;
  constexpr const char* leaver = "leaver";
  constexpr unsigned leaver_at = 300;
  // Once an open has ended the session, a clock that is set back must not bring it back.
  const auto set_clock = [](const history& h) {
    test::wall_clock_ahead_s = h.has(time_passed, 0) && !h.has(ended_at_open, 0) ? 200 : 0;
  };
  scenario s;
  s.name = "line: sessions that expire under way and at an open";
  s.size = 128 << 10;
  s.setup = [=](media& m, history& h) {
    set_clock(h);
    kind.set_up(m, h);
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail(why);
    (void)b->ask(leaver_at, std::string("CONNECT ") + leaver + " -");
    (void)b->ask(leaver_at, std::string("SUB ") + topic + " 1");
    (void)b->ask(leaver_at, "BYE");
  };
  s.run = [=](media& m, history& h) {
    set_clock(h);
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    in_flight f = connect_subscriber(*b, h, 0);
    publish(*b, h, 1, 1);
    h.promise(time_passed, 0);
    set_clock(h);
    // The worker looks after its sessions now and then.
    for (const std::time_t begin = std::time(nullptr);
         b->broker().counters().expired == 0 && std::time(nullptr) < begin + 60;)
      b->settle();
    if (b->broker().counters().expired != 1) return h.fail("the session has not expired");
    h.promise(renewing, 0);
    if (b->ask(leaver_at, std::string("CONNECT ") + leaver + " -") != "OK 1" ||
        b->ask(leaver_at, std::string("SUB ") + topic + " 1") != "OK 2")
      return h.fail("the client does not come back");
    h.promise(renewed, 0);
    publish(*b, h, 2, 1);
  };
  s.recover_and_check = [=](media& m, const history& h) -> verdict {
    set_clock(h);
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    const bool there = b->ask(400, std::string("CONNECT ") + leaver + " -") == "OK 1 present";
    std::vector<std::uint64_t> got;
    if (verdict bad = take_all(*b, 400, got)) return bad;
    const bool one = std::ranges::count(got, 1) == 1, two = std::ranges::count(got, 2) == 1;
    if (!there && !got.empty()) return "a queue of a session that is not there";
    if (h.has(ended_at_open, 0) && !h.has(renewing, 0) && there)
      return "a session that an open ended is back";
    if (h.has(time_passed, 0)) {
      if (one) return "a message of a session that has expired";
      if (h.has(renewed, 0) && (!there || (h.is_acked(2) && !two)))
        return "the session that came back is not whole";
    } else if (!there || (h.is_acked(1) && !one)) {
      return "the session ended before its time";
    }
    return judge_deliveries(*b, h, kind.rules());
  };
  s.continue_after = [=](media& m, history& h) {
    set_clock(h);
    std::string why;
    if (kind.open(m, false, why) == nullptr) return h.fail("does not open again: " + why);
    if (h.has(time_passed, 0)) h.promise(ended_at_open, 0);
  };
  return s;
}

// Messages 1 and 2 expire while 3 does not: in the queue of an absent subscriber, whose oldest
// messages the worker looks at now and then, and under way to a connected one that has stopped.
scenario expired_messages() {
  line_case kind;
  kind.config.message_expiry_s = 100;
  const auto set_clock = [](const history& h) {
    test::wall_clock_ahead_s = h.has(time_passed, 2) ? 120 : h.has(time_passed, 1) ? 60 : 0;
  };
  scenario s;
  s.name = "line: messages that expire in queues";
  s.size = 128 << 10;
  s.setup = [=](media& m, history& h) {
    set_clock(h);
    kind.set_up(m, h);
  };
  s.run = [=](media& m, history& h) {
    set_clock(h);
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    const in_flight f = connect_subscriber(*b, h, 1);
    b->send(subscriber_at + 1, "STOP");
    b->settle();
    publish(*b, h, 1, 2);
    h.promise(time_passed, 1);
    set_clock(h);
    publish(*b, h, 3, 1);
    h.promise(time_passed, 2);
    set_clock(h);
    for (const std::time_t begin = std::time(nullptr);
         b->broker().counters().expired_messages < 2 && std::time(nullptr) < begin + 60;)
      b->settle();
    b->send(subscriber_at + 1, "GO");
    b->settle();
    if (b->broker().counters().expired_messages != 4)
      return h.fail("the messages have not expired");
    const std::string line = b->next(subscriber_at + 1);
    if (!line.starts_with("MSG ") || id_of(message_line(line).text) != 3)
      return h.fail("the message that has not expired was not delivered");
    publish(*b, h, 4, 1); // in places and blocks of those that have expired, among others
  };
  s.recover_and_check = [=](media& m, const history& h) -> verdict {
    set_clock(h);
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    for (unsigned n = 0; n < kind.subscribers; ++n) {
      const unsigned at = subscriber_at + n;
      if (b->ask(at, "CONNECT " + subscriber_name(n) + " -") != "OK 1 present")
        return "session " + subscriber_name(n) + " is not there";
      std::vector<std::uint64_t> got;
      if (verdict bad = take_all(*b, at, got)) return bad;
      for (std::uint64_t id = 1; id <= 4; ++id) {
        const bool there = std::ranges::count(got, id) == 1;
        const bool over = id <= 2 && h.has(time_passed, 2);
        if (over && there) return "delivered after it had expired: " + std::to_string(id);
        if (!over && !there && h.is_acked(id)) return "lost: " + std::to_string(id);
      }
    }
    b->settle();
    if (b->broker().message_statistics().live != 0) return "messages are live that nothing reaches";
    return {};
  };
  s.continue_after = [=](media& m, history& h) {
    set_clock(h);
    std::string why;
    if (kind.open(m, false, why) == nullptr) h.fail("does not open again: " + why);
  };
  return s;
}

namespace {

TEST(CrashLine, AMessageThatHasExpiredNeverComesAndNoOtherIsLost) {
  EXPECT_TRUE(explore(expired_messages(), testing_core::crash_bounds()).ok());
}
TEST(CrashLine, BurstsWithSeveralInFlightLoseNothingThatWasAcknowledged) {
  EXPECT_TRUE(explore(publish_and_consume(), testing_core::crash_bounds()).ok());
}
TEST(CrashLine, SessionsAndSubscriptionsAreThereOnceSettled) {
  EXPECT_TRUE(explore(sessions_and_subscriptions(), testing_core::crash_bounds()).ok());
}
TEST(CrashLine, ASessionEndedAndMadeAgainIsOneSession) {
  EXPECT_TRUE(explore(ended_and_made_again(), testing_core::crash_bounds()).ok());
  EXPECT_TRUE(explore(published_in_the_middle(), testing_core::crash_bounds()).ok());
}
TEST(CrashLine, ASessionThatExpiredStaysAwayAndOneInUseStays) {
  EXPECT_TRUE(explore(expired_sessions(), testing_core::crash_bounds()).ok());
}

// The tester tested: through this front end, too, a missing drain is found.
TEST(CrashLine, ADrainLeftOutIsFound) {
  for (const char* bug : {"broker.no_first_drain", "broker.no_second_drain"})
    testing_core::expect_bug(bug, publish_and_consume());
}

} // namespace
} // namespace chainring::testing_line
