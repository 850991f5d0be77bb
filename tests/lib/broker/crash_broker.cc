// SPDX-License-Identifier: BSD-3-Clause
// The whole publish burst to several queues, the consumers' side, clean start and subscriptions,
// crashed at every point: through the broker's own front door, packets in and packets out.
#include <algorithm>
#include <cstring>

#include "base/hook.h"
#include "broker/store.h"
#include "broker_fixture.h"
#include "support/eal_main.h"
#include "support/explorer.h"

namespace chainring::testing_broker {
namespace {

using test::explore;
using test::history;
using test::scenario;
using test::verdict;

constexpr int consumed = history::first_own_kind; // id: subscriber * 1000 + message
constexpr int subscribed = history::first_own_kind + 1;
constexpr int unsubscribing = history::first_own_kind + 2;
constexpr int cleaning = history::first_own_kind + 3;
constexpr int cleaned = history::first_own_kind + 4;
constexpr client_address publisher = 100, subscriber_base = 200;
constexpr unsigned subscribers = 3;

store_layout tiny_layout() {
  store_layout l;
  l.sessions_max = 8;
  l.subscriptions_max = 16;
  l.messages_max = 64;
  return l;
}

broker_config tiny_config() {
  broker_config c = small_config();
  c.queue_slots = 7;
  c.topics_max = 16;
  c.registrations_max = 32;
  c.volatile_messages_max = 16;
  return c;
}

std::unique_ptr<bench> open(media& m, bool fresh, std::string& why) {
  auto made = broker_on(test::join_life(m), tiny_config(), fresh, tiny_layout());
  if (!made) {
    why = made.error().message;
    return nullptr;
  }
  return std::make_unique<bench>(std::move(*made));
}

std::string name_of(unsigned s) {
  return "subscriber" + std::to_string(s);
}
std::string text_of(std::uint64_t id) {
  // Longer than a line, and different in every line.
  std::string text = "message " + std::to_string(id) + " ";
  while (text.size() < 90)
    text += static_cast<char>('a' + (text.size() + id) % 26);
  return text;
}

void set_up(media& m, history& h) {
  std::string why;
  auto b = open(m, true, why);
  if (!b) return h.fail(why);
  for (unsigned s = 0; s < subscribers; ++s) {
    b->connect(subscriber_base + s, name_of(s), false);
    b->subscribe(subscriber_base + s, "a/long/topic/name/of/more/than/inline", sn::qos_level::one);
  }
}

// One burst: a PUBLISH each from several publishers.
void publish(bench& b, history& h, std::uint64_t first, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    const client_address from = publisher + i;
    b.connect(from, "publisher" + std::to_string(i), true);
    const auto id = b.register_name(from, "a/long/topic/name/of/more/than/inline");
    const std::string text = text_of(first + i);
    h.begin(first + i);
    b.send(from, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                             .topic_id = id,
                             .msg_id = static_cast<std::uint16_t>(first + i),
                             .data = std::as_bytes(std::span(text))});
  }
  b.settle();
  for (unsigned i = 0; i < count; ++i)
    if (auto r = b.next(publisher + i);
        r && r->get<sn::puback>() && r->get<sn::puback>()->code == sn::return_code::accepted)
      h.ack(first + i);
}

void consume(bench& b, history& h, unsigned s, unsigned count) {
  b.connect(subscriber_base + s, name_of(s), false);
  for (unsigned i = 0; i < count; ++i) {
    // What the subscriber acknowledges it has had, and the broker may forget from then on.
    b.take(subscriber_base + s, [&](const std::string& text) {
      h.promise(consumed, s * 1000 + std::stoul(text.substr(8)));
    });
  }
  b.send(subscriber_base + s, sn::disconnect{});
  b.settle();
  b.out.sent[subscriber_base + s].clear();
}

// What is in each subscriber's queue, through its eyes.
verdict check(media& m, const history& h) {
  std::string why;
  auto b = open(m, false, why);
  if (!b) return "does not open: " + why;
  if (!b->broker->opened().notes.empty()) return "damage: " + b->broker->opened().notes.front();
  std::map<std::uint64_t, unsigned> places;
  std::vector<std::vector<std::uint64_t>> got(subscribers);
  for (unsigned s = 0; s < subscribers; ++s) {
    if (b->connect(subscriber_base + s, name_of(s), false) != sn::return_code::accepted)
      return "session " + name_of(s) + " is not there";
    std::uint64_t last = 0;
    for (;;) {
      const std::string text = b->take(subscriber_base + s);
      if (text == "(nothing)") break;
      const std::uint64_t id = std::stoul(text.substr(8));
      if (text != text_of(id)) return "torn: " + text;
      if (!h.begun(id)) return "ghost: " + text;
      if (id <= last) return "out of order or doubled: " + text;
      last = id;
      got[s].push_back(id);
      ++places[id];
    }
  }
  for (const std::uint64_t id : h.ids(history::acked))
    for (unsigned s = 0; s < subscribers; ++s) {
      const bool there = std::ranges::count(got[s], id) != 0;
      if (!there && !h.has(consumed, s * 1000 + id) && !h.has(cleaning, s))
        return "lost: " + std::to_string(id) + " of " + name_of(s);
      if (there && h.has(cleaned, s)) return "back after a clean start: " + std::to_string(id);
    }
  for (const auto& [id, n] : places)
    if (!h.is_acked(id) && n != subscribers && h.ids(consumed).empty())
      return "in " + std::to_string(n) + " queues: " + std::to_string(id);
  b->settle();
  const auto live = b->broker->state().messages().statistics().live;
  if (live != 0) return "messages live that nothing reaches: " + std::to_string(live);
  return {};
}

scenario publish_and_consume() {
  scenario s;
  s.name = "broker: a burst of publishes to three queues, consumed";
  s.size = 256 << 10;
  s.setup = set_up;
  s.run = [](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why);
    if (!b) return h.fail(why);
    publish(*b, h, 1, 2);
    consume(*b, h, 0, 1);
    publish(*b, h, 3, 1);
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

scenario clean_start() {
  scenario s = publish_and_consume();
  s.name = "broker: clean start of a session with a queue";
  s.run = [](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why);
    if (!b) return h.fail(why);
    publish(*b, h, 1, 1);
    h.promise(cleaning, 0);
    b->connect(subscriber_base, name_of(0), true);
    h.promise(cleaned, 0);
  };
  // The session ends with its connection, and at an open: it must be gone, or empty.
  s.continue_after = {};
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    std::string why;
    auto b = open(m, false, why);
    if (!b) return "does not open: " + why;
    b->connect(subscriber_base, name_of(0), false);
    const std::string first = b->next(subscriber_base) ? "something" : "nothing";
    if (h.has(cleaned, 0) && first != "nothing") return "a queue after a clean start";
    if (h.has(cleaned, 0) && b->broker->subscription_count() != subscribers - 1)
      return "subscriptions after a clean start";
    if (!h.has(cleaning, 0) && b->broker->subscription_count() != subscribers)
      return "a subscription is lost";
    if (h.is_acked(1) && !h.has(cleaning, 0) && first != "something") return "lost";
    return {};
  };
  return s;
}

scenario subscriptions() {
  scenario s;
  s.name = "broker: subscribe and unsubscribe";
  s.size = 256 << 10;
  s.setup = set_up;
  s.run = [](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why);
    if (!b) return h.fail(why);
    b->connect(subscriber_base, name_of(0), false);
    b->subscribe(subscriber_base, "short", sn::qos_level::one);
    h.promise(subscribed, 0);
    b->subscribe(subscriber_base, "a/filter/that/needs/a/chain/+", sn::qos_level::one);
    h.promise(subscribed, 1);
    h.promise(unsubscribing, 0);
    (void)b->ask<sn::unsuback>(subscriber_base, sn::unsubscribe{.msg_id = 4, .topic = "short"});
    h.promise(unsubscribing, 1);
    b->connect(subscriber_base + 50, "newcomer", false);
    b->subscribe(subscriber_base + 50, "new", sn::qos_level::one);
    h.promise(subscribed, 2);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    std::string why;
    auto b = open(m, false, why);
    if (!b) return "does not open: " + why;
    std::map<std::string, unsigned> found;
    for (const topic_info& t : b->broker->topics(100))
      found[t.filter] = t.subscriptions;
    if (found["a/long/topic/name/of/more/than/inline"] != subscribers) return "an old one is lost";
    const bool first = found.count("short") != 0;
    if (h.has(subscribed, 0) && !h.has(unsubscribing, 0) && !first) return "short is lost";
    if (h.has(unsubscribing, 1) && first) return "short is back";
    if (h.has(subscribed, 1) && found.count("a/filter/that/needs/a/chain/+") == 0)
      return "the long one is lost";
    if (h.has(subscribed, 2) && found.count("new") == 0) return "the newcomer's is lost";
    if (found.size() > 4) return "a filter nobody asked for";
    return {};
  };
  return s;
}

// Everything at a point up to that many states, then a bounded choice: about half a minute in all.
const test::explorer_options bounds{.states_max = 512, .second_lives = 2, .second_states_max = 64};

TEST(CrashBroker, PublishBurstToSeveralQueuesIsInAllOrNone) {
  EXPECT_TRUE(explore(publish_and_consume(), bounds).ok());
}
TEST(CrashBroker, CleanStartIsOneCommit) {
  EXPECT_TRUE(explore(clean_start(), bounds).ok());
}
TEST(CrashBroker, SubscriptionsAreThereOnceAcknowledged) {
  EXPECT_TRUE(explore(subscriptions(), bounds).ok());
}

// The tester tested: each of these must be found.
class SeededBug : public testing::TestWithParam<const char*> {};
TEST_P(SeededBug, IsFound) {
  set_seeded_bug(GetParam());
  test::explorer_options quick = bounds;
  quick.print = false;
  quick.states_max = 128;
  quick.second_lives = 1;
  const bool holds = explore(publish_and_consume(), quick).ok() &&
                     explore(clean_start(), quick).ok() && explore(subscriptions(), quick).ok();
  set_seeded_bug(nullptr);
  EXPECT_FALSE(holds) << GetParam() << " was not found";
}
INSTANTIATE_TEST_SUITE_P(Broker, SeededBug,
                         testing::Values("broker.no_first_drain", "broker.no_second_drain",
                                         "broker.no_publish_flush", "broker.no_session_flush"));

} // namespace
} // namespace chainring::testing_broker
