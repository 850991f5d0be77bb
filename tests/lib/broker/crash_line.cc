// SPDX-License-Identifier: BSD-3-Clause
// The core crashed at every point while the second front end serves it: bursts with several
// deliveries in flight, acknowledged out of order, which no client of MQTT-SN can do.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "line_fixture.h"
#include "support/eal_main.h"
#include "support/explorer.h"
#include "support/seeded.h"

namespace chainring::testing_line {
namespace {

using test::explore;
using test::history;
using test::scenario;
using test::verdict;

constexpr int consumed = history::first_own_kind; // id: subscriber * 1000 + message
constexpr int subscribed = history::first_own_kind + 1;
constexpr int unsubscribing = history::first_own_kind + 2;
constexpr int unsubscribed = history::first_own_kind + 3;
constexpr int opened = history::first_own_kind + 4;
constexpr unsigned publisher = 100, subscriber_base = 200, subscribers = 2;
constexpr const char* topic = "a/long/topic/name/of/more/than/inline";

std::unique_ptr<test::line_server> open(media& m, bool fresh, std::string& why) {
  store_layout layout;
  layout.sessions_max = 8;
  layout.subscriptions_max = 16;
  layout.messages_max = 64;
  auto made = broker_on(test::join_life(m), line_config(1, 15), fresh, layout);
  if (!made) {
    why = made.error().message;
    return nullptr;
  }
  if (!(*made)->opened().notes.empty()) {
    why = "damage: " + (*made)->opened().notes.front();
    return nullptr;
  }
  auto wrong = broker::check((*made)->region());
  if (!wrong || !wrong->empty()) {
    why = "check: " + (wrong ? wrong->front() : wrong.error().message);
    return nullptr;
  }
  return std::make_unique<test::line_server>(std::move(*made));
}

std::string name_of(unsigned s) {
  return "subscriber" + std::to_string(s);
}
std::string text_of(std::uint64_t id) {
  // Longer than a line, and different in every line.
  std::string text = std::to_string(id) + ":";
  while (text.size() < 90)
    text += static_cast<char>('a' + (text.size() + id) % 26);
  return text;
}
/// "MSG n qos bits flags topic text"
struct message_line {
  std::string number, text;
  std::uint64_t id = 0;
  explicit message_line(const std::string& line) {
    const std::size_t end = line.find(' ', 4);
    number = line.substr(4, end - 4);
    text = line.substr(line.rfind(' ') + 1);
    id = std::stoul(text);
  }
};

void set_up(media& m, history& h) {
  std::string why;
  auto b = open(m, true, why);
  if (!b) return h.fail(why);
  for (unsigned s = 0; s < subscribers; ++s) {
    if (b->ask(subscriber_base + s, "CONNECT " + name_of(s) + " -") != "OK 1" ||
        b->ask(subscriber_base + s, std::string("SUB ") + topic + " 1") != "OK 2")
      return h.fail("no subscriber");
    b->send(subscriber_base + s, "BYE");
    b->settle();
  }
}

// One burst with all of them.
void publish(test::line_server& b, history& h, std::uint64_t first, unsigned count) {
  if (!b.ask(publisher, "CONNECT publisher clean,passing").starts_with("OK "))
    return h.fail("no publisher");
  for (unsigned i = 0; i < count; ++i) {
    h.begin(first + i);
    b.send(publisher, std::string("PUB ") + topic + " 1 " + text_of(first + i));
  }
  b.settle();
  for (unsigned i = 0; i < count; ++i)
    if (b.next(publisher).starts_with("OK ")) h.ack(first + i);
  b.ask(publisher, "BYE");
}

// Takes what is there into flight, and acknowledges the last `count` of them, the last first.
void consume(test::line_server& b, history& h, unsigned s, unsigned count) {
  const unsigned at = subscriber_base + s;
  if (b.ask(at, "CONNECT " + name_of(s) + " -").find("present") == std::string::npos)
    return h.fail("the subscriber's session is not there");
  std::vector<message_line> got;
  for (std::string line = b.next(at); !line.empty(); line = b.next(at))
    got.emplace_back(line);
  if (got.size() < count) return h.fail("fewer messages than were acknowledged");
  for (unsigned i = 0; i < count; ++i) {
    const message_line& m = got[got.size() - 1 - i];
    // What the subscriber acknowledges it has had, and the broker may forget from then on.
    h.promise(consumed, s * 1000 + m.id);
    b.send(at, "ACK " + m.number);
    if (i % 2 == 1) b.settle(); // two acknowledgements in a burst
  }
  b.settle();
  b.ask(at, "BYE");
  b.forget(at);
}

verdict check(media& m, const history& h) {
  std::string why;
  auto b = open(m, false, why);
  if (!b) return "does not open: " + why;
  std::vector<std::vector<std::uint64_t>> got(subscribers);
  for (unsigned s = 0; s < subscribers; ++s) {
    const unsigned at = subscriber_base + s;
    if (b->ask(at, "CONNECT " + name_of(s) + " -") != "OK 1 present")
      return "session " + name_of(s) + " is not there";
    std::uint64_t last = 0;
    for (std::string line = b->next(at); !line.empty(); line = b->next(at)) {
      const message_line found(line);
      if (found.text != text_of(found.id)) return "torn: " + line;
      if (!h.begun(found.id)) return "ghost: " + line;
      if (found.id <= last) return "out of order or doubled: " + line;
      last = found.id;
      got[s].push_back(found.id);
      b->send(at, "ACK " + found.number);
      b->settle();
    }
  }
  for (const std::uint64_t id : h.ids(history::acked))
    for (unsigned s = 0; s < subscribers; ++s)
      if (std::ranges::count(got[s], id) == 0 && !h.has(consumed, s * 1000 + id))
        return "lost: " + std::to_string(id) + " of " + name_of(s);
  if (h.ids(consumed).empty() && got[0] != got[1]) return "in one queue and not in the other";
  b->settle();
  if (b->broker().message_statistics().live != 0) return "messages live that nothing reaches";
  return {};
}

scenario publish_and_consume() {
  scenario s;
  s.name = "line: bursts of publishes, several in flight, acknowledged out of order";
  s.setup = set_up;
  s.run = [](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why);
    if (!b) return h.fail(why);
    publish(*b, h, 1, 3);
    consume(*b, h, 0, 2); // 3 and 2, and 1 stays
    publish(*b, h, 4, 1);
    consume(*b, h, 1, 3);
  };
  s.recover_and_check = check;
  s.continue_after = [](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why);
    if (!b) return h.fail("does not open again: " + why);
    publish(*b, h, static_cast<std::uint64_t>(10 * h.crashes()), 1);
  };
  return s;
}

scenario sessions_and_subscriptions() {
  scenario s;
  s.name = "line: sessions and subscriptions settled with the burst they join";
  s.setup = set_up;
  s.run = [](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why);
    if (!b) return h.fail(why);
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
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    std::string why;
    auto b = open(m, false, why);
    if (!b) return "does not open: " + why;
    std::map<std::string, unsigned> found;
    for (const topic_info& t : b->broker().topics(100))
      found[t.filter] = t.subscriptions;
    if (found[topic] != subscribers) return "an old subscription is lost";
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
  s.continue_after = [](media& m, history& h) {
    std::string why;
    if (!open(m, false, why)) h.fail("does not open again: " + why);
  };
  return s;
}

const test::explorer_options bounds{.second_lives = 1, .second_states_max = 4};

TEST(CrashLine, BurstsWithSeveralInFlightLoseNothingThatWasAcknowledged) {
  EXPECT_TRUE(explore(publish_and_consume(), bounds).ok());
}
TEST(CrashLine, SessionsAndSubscriptionsAreThereOnceSettled) {
  EXPECT_TRUE(explore(sessions_and_subscriptions(), bounds).ok());
}

// The tester tested: through this front end, too, a missing drain is found.
TEST(CrashLine, ADrainLeftOutIsFound) {
  for (const char* bug : {"broker.no_first_drain", "broker.no_second_drain"}) {
    const test::seeded on(bug);
    test::explorer_options quick = bounds;
    quick.print = false;
    quick.states_max = 128;
    const auto r = explore(publish_and_consume(), quick);
    EXPECT_FALSE(r.ok()) << bug;
  }
}

} // namespace
} // namespace chainring::testing_line
