// SPDX-License-Identifier: BSD-3-Clause
// Rare paths of the MQTT-SN gateway crashed at every point: a client whose address another worker
// serves, a publish that the core sets aside, clients that are asked for their wills, and a client
// that sends its message again because the PUBACK was lost.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "broker_fixture.h"
#include "crash_bounds.h"
#include "gateway_scenarios.h"
#include "support/explorer.h"

namespace chainring::testing_broker {
namespace {

using test::explore;
using test::history;
using test::scenario;
using test::verdict;
using testing_core::identity_at;

constexpr std::uint64_t at = 300, from = 301;
constexpr const char* topic = "a/long/topic/name/of/more/than/inline";
constexpr int settled = history::first_own_kind;

std::unique_ptr<bench> open(media& m, bool fresh, std::string& why, const broker_config& config) {
  auto made = testing_core::broker_in_order(test::join_life(m), config, fresh, tiny_layout(), why);
  return made == nullptr ? nullptr : std::make_unique<bench>(std::move(made));
}

/// A fresh broker with a subscriber that is connected, or nothing, and then the history has failed.
std::unique_ptr<bench> with_subscriber(media& m, history& h, const broker_config& config) {
  std::string why;
  auto b = open(m, true, why, config);
  if (b == nullptr) {
    h.fail(why);
    return b;
  }
  b->connect(at, "subscriber", false);
  b->subscribe(at, topic, sn::qos_level::one);
  return b;
}

std::string text_of(std::uint64_t id) {
  return "message " + std::to_string(id) + std::string(80, static_cast<char>('a' + id % 26));
}

/// Sends message `id`, as a client does that may have sent it before.
bool publish(bench& b, std::uint16_t topic_id, std::uint64_t id, bool dup = false,
             sn::topic_id_type type = sn::topic_id_type::normal) {
  const std::string text = text_of(id);
  b.send(from,
         sn::publish{
             .flags = sn::flags{}.with_qos(sn::qos_level::one).with_dup(dup).with_topic_type(type),
             .topic_id = topic_id,
             .msg_id = static_cast<std::uint16_t>(id),
             .data = std::as_bytes(std::span(text))});
  b.settle();
  const auto r = b.next(from);
  return r && r->get<sn::puback>() && r->get<sn::puback>()->code == sn::return_code::accepted;
}

/// What a session is given until nothing is left, each message acknowledged.
verdict take_all(bench& b, client_address by, const std::string& name, const history& h,
                 std::vector<std::uint64_t>& got) {
  b.connect(by, name, false);
  for (std::string text = b.take(by); text != "(nothing)"; text = b.take(by)) {
    const std::uint64_t id = text.starts_with("message ") ? std::stoul(text.substr(8)) : 0;
    if (id == 0 || text != text_of(id)) return "torn: " + text;
    if (!h.begun(id)) return "ghost: " + text;
    got.push_back(id);
  }
  return {};
}

} // namespace

// The client of a session of worker 0 begins, at the same address, a session of worker 1. Worker 1
// opens it once worker 0 has let go of the address.
scenario address_of_another_worker() {
  const broker_config config = tiny_config(2);
  const auto old_name = [](const bench& b) { return identity_at(*b.broker, 0, "old"); };
  // Few characters, and more octets than a record holds.
  const auto new_name = [](const bench& b) {
    std::string start;
    for (int i = 0; i < 16; ++i)
      start += "\u00fc";
    return identity_at(*b.broker, 1, start);
  };
  scenario s;
  s.name = "broker: a client at an address that another worker serves";
  s.size = 128 << 10;
  s.setup = [=](media& m, history& h) {
    std::string why;
    auto b = open(m, true, why, config);
    if (!b) return h.fail(why);
    b->connect(at, old_name(*b), false);
  };
  s.run = [=](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why, config);
    if (!b) return h.fail(why);
    b->connect(at, old_name(*b), false);
    if (b->connect(at, new_name(*b), false) != sn::return_code::accepted)
      return h.fail("the second session was not opened");
    if (b->gateway->counters().addresses_taken == 0)
      return h.fail("no worker had to let go of the address");
    h.promise(settled, 0);
  };
  s.recover_and_check = [=](media& m, const history& h) -> verdict {
    std::string why;
    auto b = open(m, false, why, config);
    if (!b) return "does not open: " + why;
    std::vector<session_info> all;
    (void)b->broker->sessions(0, 1000, all);
    if (std::ranges::count(all, old_name(*b), &session_info::identity) != 1)
      return "the first session is lost";
    const auto found = std::ranges::count(all, new_name(*b), &session_info::identity);
    if (found > 1 || (h.has(settled, 0) && found == 0)) return "the second session is lost";
    return all.size() > 2 ? verdict("a session that nobody opened") : verdict();
  };
  return s;
}

// The queue of a subscriber of worker 0 is full, and drops its oldest for a publisher of worker 1.
// Another subscriber has no ring yet. The topic is registered, or has a short name, which stands in
// the place of the id.
scenario publish_set_aside(bool short_name) {
  const std::string name = short_name ? "ab" : topic;
  const auto send = [=](bench& b, std::uint64_t i) {
    if (short_name) return publish(b, 'a' << 8 | 'b', i, false, sn::topic_id_type::short_name);
    return publish(b, b.register_name(from, name), i);
  };
  broker_config config = tiny_config(2);
  config.queue_slots = 3;
  config.queue_slots_first = 0;
  config.overflow = overflow_policy::drop_oldest;
  const auto full = [](const bench& b) { return identity_at(*b.broker, 0, "full"); };
  scenario s;
  s.name = short_name ? "broker: a publish with a short name that waits for room at another worker"
                      : "broker: a publish that waits for room at another worker";
  s.size = 128 << 10;
  s.setup = [=](media& m, history& h) {
    std::string why;
    auto b = open(m, true, why, config);
    if (!b) return h.fail(why);
    b->connect(at, full(*b), false);
    b->subscribe(at, name, sn::qos_level::one);
    b->send(at, sn::disconnect{});
    b->settle();
    b->connect(from, identity_at(*b->broker, 1, "publisher"), false);
    for (std::uint64_t i = 1; i <= 3; ++i) {
      h.begin(i);
      if (!send(*b, i)) h.fail("the queue is not filled");
    }
    b->connect(at + 10, "newcomer", false);
    b->subscribe(at + 10, name, sn::qos_level::one);
  };
  s.run = [=](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why, config);
    if (!b) return h.fail(why);
    b->connect(from, identity_at(*b->broker, 1, "publisher"), false);
    for (std::uint64_t i = 4; i <= 5; ++i) {
      h.begin(i);
      if (send(*b, i)) h.ack(i);
    }
    if (!h.is_acked(5) || b->broker->counters().set_aside == 0)
      h.fail("no publish was set aside, or one was refused");
  };
  s.recover_and_check = [=](media& m, const history& h) -> verdict {
    std::string why;
    auto b = open(m, false, why, config);
    if (!b) return "does not open: " + why;
    std::vector<std::uint64_t> old, young;
    if (verdict bad = take_all(*b, at, full(*b), h, old)) return bad;
    if (verdict bad = take_all(*b, at + 10, "newcomer", h, young)) return bad;
    for (std::uint64_t i = 4; i <= 5; ++i) {
      const bool in_old = std::ranges::count(old, i) == 1,
                 in_young = std::ranges::count(young, i) == 1;
      if (h.is_acked(i) && (!in_old || !in_young)) return "lost: " + std::to_string(i);
      if (in_old != in_young) return "in one queue and not in the other: " + std::to_string(i);
    }
    if (old.size() < 2) return "more was dropped than there was room made";
    return {};
  };
  s.continue_after = [=](media& m, history& h) {
    std::string why;
    if (!open(m, false, why, config)) h.fail("does not open again: " + why);
  };
  return s;
}

// Two clients whose ids are longer than a record are asked for their wills. The first one names
// topic and content, and the second one wants none after all.
scenario asked_for_wills() {
  broker_config config = tiny_config();
  config.will_grace_s = 0; // a client that was connected at the crash is lost at the open
  const auto name_of = [](const std::string& start) {
    std::string name = start;
    for (int i = 0; i < 16; ++i)
      name += "\u00fc";
    return name;
  };
  const std::string with = name_of("with"), without = name_of("none");
  scenario s;
  s.name = "broker: clients that are asked for their wills";
  s.size = 128 << 10;
  s.setup = [=](media& m, history& h) {
    auto b = with_subscriber(m, h, config);
    if (!b) return;
    b->send(at, sn::disconnect{});
    b->settle();
  };
  s.run = [=](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why, config);
    if (!b) return h.fail(why);
    const std::string text = text_of(1);
    const auto begin = [&](client_address who, const std::string& name) {
      (void)b->ask<sn::willtopicreq>(
          who, sn::connect{.flags = sn::flags{}.with_will(), .client_id = name});
    };
    const auto accepted = [](const received& r) {
      return r.get<sn::connack>()->code == sn::return_code::accepted;
    };
    begin(from, with);
    (void)b->ask<sn::willmsgreq>(
        from, sn::willtopic{.flags = sn::flags{}.with_qos(sn::qos_level::one), .topic = topic});
    h.begin(1);
    if (!accepted(b->ask<sn::connack>(from, sn::willmsg{.data = std::as_bytes(std::span(text))})))
      return h.fail("the client with a will was refused");
    h.ack(1);
    begin(from + 1, without);
    if (!accepted(b->ask<sn::connack>(from + 1, sn::willtopic{.erase = true})))
      return h.fail("the client without a will was refused");
    h.promise(settled, 0);
  };
  s.recover_and_check = [=](media& m, const history& h) -> verdict {
    std::string why;
    auto b = open(m, false, why, config);
    if (!b) return "does not open: " + why;
    std::vector<session_info> all;
    (void)b->broker->sessions(0, 1000, all);
    if (h.is_acked(1) && std::ranges::count(all, with, &session_info::identity) != 1)
      return "the session with a will is lost";
    if (h.has(settled, 0) && std::ranges::count(all, without, &session_info::identity) != 1)
      return "the session without a will is lost";
    b->settle(); // the will is sent
    std::vector<std::uint64_t> got;
    if (verdict bad = take_all(*b, at, "subscriber", h, got)) return bad;
    if (got.size() > 1) return "the will was sent twice";
    return h.is_acked(1) && got.empty() ? verdict("the will is lost") : verdict();
  };
  s.continue_after = [=](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why, config);
    if (!b) return h.fail("does not open again: " + why);
    b->settle();
  };
  return s;
}

// The PUBACK of a message is lost, so its publisher sends the message again with DUP, before the
// crash or after it. The subscriber gets it once or twice, and never not at all.
scenario sent_again_with_dup() {
  const broker_config config = tiny_config();
  scenario s;
  s.name = "broker: a message that its publisher sends again";
  s.size = 128 << 10;
  s.setup = [=](media& m, history& h) {
    auto b = with_subscriber(m, h, config);
    if (!b) return;
    b->connect(from, "publisher", false);
  };
  const auto send = [=](bench& b, history& h, std::uint64_t id, bool dup) {
    const auto topic_id = b.register_name(from, topic);
    if (!h.begun(id)) h.begin(id);
    if (publish(b, topic_id, id, dup)) h.ack(id);
  };
  s.run = [=](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why, config);
    if (!b) return h.fail(why);
    b->connect(from, "publisher", false);
    send(*b, h, 1, false);
    send(*b, h, 1, true);
    send(*b, h, 2, false);
    if (!h.is_acked(2)) h.fail("a message was refused");
  };
  s.recover_and_check = [=](media& m, const history& h) -> verdict {
    std::string why;
    auto b = open(m, false, why, config);
    if (!b) return "does not open: " + why;
    std::vector<std::uint64_t> got;
    if (verdict bad = take_all(*b, at, "subscriber", h, got)) return bad;
    for (const std::uint64_t id : h.ids(history::begun_kind)) {
      const auto times = std::ranges::count(got, id);
      if (times == 0 && h.is_acked(id)) return "lost: " + std::to_string(id);
      // The message may have been sent once in each life, and once more in the first.
      if (times > 2 + h.crashes()) return "more often than it was sent: " + std::to_string(id);
    }
    return {};
  };
  // The publisher does not know what became of its last message.
  s.continue_after = [=](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why, config);
    if (!b) return h.fail("does not open again: " + why);
    b->connect(from, "publisher", false);
    send(*b, h, 2, h.begun(2));
  };
  return s;
}

namespace {

TEST(CrashGateway, ASessionAtAnAddressThatAnotherWorkerServesIsThereOnceAnswered) {
  EXPECT_TRUE(explore(address_of_another_worker(), testing_core::crash_bounds()).ok());
}
TEST(CrashGateway, AClientThatIsAskedForItsWillHasSessionAndWillOnceAnswered) {
  EXPECT_TRUE(explore(asked_for_wills(), testing_core::crash_bounds()).ok());
}
TEST(CrashGateway, APublishThatWaitedForRoomIsInEveryQueueOrInNone) {
  EXPECT_TRUE(explore(publish_set_aside(false), testing_core::crash_bounds()).ok());
  EXPECT_TRUE(explore(publish_set_aside(true), testing_core::crash_bounds()).ok());
}
TEST(CrashGateway, AMessageThatIsSentAgainBecauseItsPubackWasLostIsNotLost) {
  EXPECT_TRUE(explore(sent_again_with_dup(), testing_core::crash_bounds()).ok());
}

} // namespace
} // namespace chainring::testing_broker
