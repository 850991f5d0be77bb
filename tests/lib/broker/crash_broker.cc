// SPDX-License-Identifier: BSD-3-Clause
// The whole publish burst to several queues, the consumers' side, clean start and subscriptions,
// crashed at every point: through the broker's own front door, packets in and packets out.
#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <ctime>
#include <functional>
#include <mutex>
#include <rte_lcore.h>
#include <thread>

#include "base/hook.h"
#include "broker/access.h"
#include "broker_fixture.h"
#include "crash_bounds.h"
#include "gateway_scenarios.h"
#include "line_scenarios.h"
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

constexpr int consumed = history::first_own_kind; // id: subscriber * 1000 + message
constexpr int subscribed = history::first_own_kind + 1;
constexpr int unsubscribing = history::first_own_kind + 2;
constexpr int cleaning = history::first_own_kind + 3;
constexpr int cleaned = history::first_own_kind + 4;
constexpr int forgotten_by = history::first_own_kind + 7; // as consumed, and durable
constexpr std::uint64_t publisher = 100, subscriber_base = 200;
constexpr unsigned subscribers = 3;
/// A client id of 32 octets: longer than a record holds.
constexpr const char* newcomer =
    "newc\u00f6mer \u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc\u00fc";
constexpr const char* load_topic = "a/long/topic/name/of/more/than/inline";

bool checks_clean = true; ///< off where it is only asked whether a mistake is found: takes as long

std::unique_ptr<bench> open(media& m, bool fresh, std::string& why, unsigned workers = 1,
                            std::uint32_t queue_slots_first = 0) {
  broker_config config = tiny_config(workers);
  config.queue_slots_first = queue_slots_first;
  auto made = testing_core::broker_in_order(test::join_life(m), config, fresh, tiny_layout(), why,
                                            checks_clean);
  if (made == nullptr) return nullptr;
  return std::make_unique<bench>(std::move(made));
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
    b->subscribe(subscriber_base + s, load_topic, sn::qos_level::one);
  }
}

// One burst: a PUBLISH each from several publishers.
void publish(bench& b, history& h, std::uint64_t first, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    const client_address from = publisher + i;
    b.connect(from, "publisher" + std::to_string(i), true);
    const auto id = b.register_name(from, load_topic);
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
    std::uint64_t id = 0;
    b.take(subscriber_base + s, [&](const std::string& text) {
      id = s * 1000 + std::stoul(text.substr(8));
      h.promise(consumed, id);
    });
    // take() ends the burst: the acknowledgement is durable.
    if (id != 0) h.promise(forgotten_by, id);
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
      if (h.has(forgotten_by, s * 1000 + id))
        return "again after its acknowledgement was durable: " + text;
      last = id;
      got[s].push_back(id);
    }
  }
  for (const std::uint64_t id : h.ids(history::acked))
    for (unsigned s = 0; s < subscribers; ++s) {
      const bool there = std::ranges::count(got[s], id) != 0;
      if (!there && !h.has(consumed, s * 1000 + id) && !h.has(cleaning, s))
        return "lost: " + std::to_string(id) + " of " + name_of(s);
      if (there && h.has(cleaned, s)) return "back after a clean start: " + std::to_string(id);
    }
  // All or none, also where some subscribers have consumed it: they must have been given it.
  for (const std::uint64_t id : h.ids(history::begun_kind)) {
    unsigned there = 0, had = 0;
    for (unsigned s = 0; s < subscribers; ++s) {
      there += std::ranges::count(got[s], id) != 0;
      had += std::ranges::count(got[s], id) == 0 && h.has(consumed, s * 1000 + id);
    }
    if (there + had != 0 && there + had != subscribers && !h.is_acked(id))
      return "in " + std::to_string(there + had) + " queues: " + std::to_string(id);
  }
  if (b->broker->counters().damaged != 0) return "a delivery was damaged";
  b->settle();
  const auto live = broker_access::state(*b->broker).messages().statistics().live;
  if (live != 0) return "messages live that nothing reaches: " + std::to_string(live);
  return {};
}

/// The life after a crash, where the scenario has nothing else to do in it.
void publish_once_more(media& m, history& h) {
  std::string why;
  auto b = open(m, false, why);
  if (!b) return h.fail("does not open again: " + why);
  publish(*b, h, static_cast<std::uint64_t>(10 * h.crashes()), 1);
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
  s.continue_after = publish_once_more;
  return s;
}

/// Queues begin with room for two: bursts find them full and append, and what is consumed unlinks
/// the first ring.
scenario growing_queues() {
  scenario s;
  s.name = "broker: bursts of publishes to queues that grow";
  s.size = 256 << 10;
  s.setup = set_up;
  s.run = [](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why, 1, 2);
    if (!b) return h.fail(why);
    publish(*b, h, 1, 2);
    publish(*b, h, 3, 1);
    consume(*b, h, 0, 3);
    if (broker_access::state(*b->broker).queues().statistics().grown == 0)
      h.fail("no queue has grown");
  };
  s.recover_and_check = check;
  s.continue_after = [](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why, 1, 2);
    if (!b) return h.fail("does not open again: " + why);
    publish(*b, h, static_cast<std::uint64_t>(10 * h.crashes()), 1);
  };
  return s;
}

/// Worker 0 on this thread and worker 1 on another: what one drains is not the other's.
class two_workers {
 public:
  explicit two_workers(bench& b) : b_(b), other_([this] { serve(); }) {}
  ~two_workers() {
    hand({});
    other_.join();
  }
  /// Gives the datagram to its session's home and lets it happen there.
  template <class T> void send(unsigned home, client_address from, const T& m) {
    const auto work = [&, datagram = encode(m)] {
      b_.gateway->worker(home).receive(from, datagram);
      for (int i = 0; i < 4; ++i)
        b_.turn(home);
    };
    if (home == 0)
      work();
    else
      hand(work);
  }
  template <class Answer, class T> bool ask(unsigned home, client_address from, const T& m) {
    send(home, from, m);
    const auto r = b_.next(from);
    return r && r->template get<Answer>() && r->template get<Answer>()->code == sn::return_code{};
  }
  static std::string name(const chainring::broker& b, unsigned home, const std::string& start) {
    for (int i = 0;; ++i) {
      const std::string id = start + std::to_string(i);
      if (b.home_of(id) == home) return id;
    }
  }

 private:
  void hand(std::function<void()> work) {
    std::unique_lock lock(lock_);
    work_ = std::move(work);
    waiting_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !waiting_; });
  }
  void serve() {
    (void)rte_thread_register();
    std::unique_lock lock(lock_);
    for (;;) {
      changed_.wait(lock, [this] { return waiting_; });
      const bool last = !work_;
      if (!last) work_();
      waiting_ = false;
      changed_.notify_all();
      if (last) break;
    }
    rte_thread_unregister();
  }

  bench& b_;
  std::mutex lock_;
  std::condition_variable changed_;
  std::function<void()> work_;
  bool waiting_ = false;
  std::thread other_;
};

/// A durable session with a queue begins clean, and later durable again, while another worker
/// publishes to it: what was before is there whole or not at all, and what comes after is kept.
scenario clean_start() {
  static constexpr int renewing = history::first_own_kind + 5, renewed = renewing + 1;
  static constexpr std::uint64_t at = 300, from = 301;
  scenario s;
  s.name = "broker: clean start of a session with a queue";
  s.size = 256 << 10;
  static constexpr auto subscribe = sn::flags{}.with_qos(sn::qos_level::one);
  s.setup = [](media& m, history& h) {
    std::string why;
    auto b = open(m, true, why, 2);
    if (!b) return h.fail(why);
    b->connect(at, two_workers::name(*b->broker, 1, "sub"), false);
    b->subscribe(at, load_topic, sn::qos_level::one);
  };
  s.run = [](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why, 2);
    if (!b) return h.fail(why);
    const std::string sub = two_workers::name(*b->broker, 1, "sub");
    two_workers on(*b);
    const auto publish = [&](std::uint64_t id) {
      const std::string text = text_of(id);
      h.begin(id);
      if (on.ask<sn::puback>(0, from,
                             sn::publish{.flags = subscribe,
                                         .topic_id = 1,
                                         .msg_id = static_cast<std::uint16_t>(id),
                                         .data = std::as_bytes(std::span(text))}))
        h.ack(id);
    };
    if (!on.ask<sn::connack>(0, from,
                             sn::connect{.flags = sn::flags{}.with_clean(true),
                                         .client_id = two_workers::name(*b->broker, 0, "pub")}) ||
        !on.ask<sn::regack>(0, from, sn::register_topic{.msg_id = 1, .topic = load_topic}))
      return h.fail("no publisher");
    publish(1);
    h.promise(cleaning, 0);
    if (!on.ask<sn::connack>(1, at,
                             sn::connect{.flags = sn::flags{}.with_clean(true), .client_id = sub}))
      return h.fail("no clean start");
    h.promise(cleaned, 0);
    h.promise(renewing, 0);
    if (!on.ask<sn::connack>(1, at, sn::connect{.client_id = sub}) ||
        !on.ask<sn::suback>(1, at,
                            sn::subscribe{.flags = subscribe, .msg_id = 2, .topic = load_topic}))
      return h.fail("no durable session");
    h.promise(renewed, 0);
    publish(2);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    std::string why;
    auto b = open(m, false, why, 2);
    if (!b) return "does not open: " + why;
    if (!b->broker->opened().notes.empty()) return "damage: " + b->broker->opened().notes.front();
    const auto filters = b->broker->subscription_count();
    b->connect(at, two_workers::name(*b->broker, 1, "sub"), false);
    std::vector<std::uint64_t> got;
    for (;;) {
      const std::string text = b->take(at);
      if (text == "(nothing)") break;
      const std::uint64_t id = std::stoul(text.substr(8));
      if (text != text_of(id)) return "torn: " + text;
      if (!h.begun(id)) return "ghost: " + text;
      got.push_back(id);
    }
    const bool one = std::ranges::count(got, 1) == 1, two = std::ranges::count(got, 2) == 1;
    if (got.size() != static_cast<std::size_t>(one) + two) return "doubled";
    if (!h.has(cleaning, 0)) {
      if (filters != 1) return "the subscription is lost";
      if (h.is_acked(1) && !one) return "lost";
    } else if (!h.has(cleaned, 0)) {
      const bool before = filters == 1 && one, after = filters == 0 && !one;
      if (!before && !after) return "half of a clean start";
    } else if (one) {
      return "a message from before a clean start";
    }
    if (h.has(cleaned, 0) && !h.has(renewing, 0) && filters != 0)
      return "a subscription from before a clean start";
    if (h.has(renewed, 0) && filters != 1) return "the new subscription is lost";
    if (h.is_acked(2) && !two) return "lost after a clean start";
    return {};
  };
  s.continue_after = [](media& m, history& h) {
    std::string why;
    if (!open(m, false, why, 2)) h.fail("does not open again: " + why);
  };
  return s;
}

scenario subscriptions() {
  scenario s;
  s.name = "broker: subscribe and unsubscribe";
  s.size = 256 << 10;
  // A clean session, with a message in its queue, ends with the process that made it.
  s.setup = [](media& m, history& h) {
    set_up(m, h);
    std::string why;
    auto b = open(m, false, why);
    if (!b) return h.fail(why);
    b->connect(publisher, "passing", true);
    b->subscribe(publisher, "passing/by", sn::qos_level::one);
    if (b->publish(publisher, b->register_name(publisher, "passing/by"), "text", 1) !=
        sn::return_code::accepted)
      h.fail("no message for the clean session");
  };
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
    b->connect(subscriber_base + 50, newcomer, false);
    b->subscribe(subscriber_base + 50, "new", sn::qos_level::one);
    h.promise(subscribed, 2);
  };
  s.recover_and_check = [](media& m, const history& h) -> verdict {
    std::string why;
    auto b = open(m, false, why);
    if (!b) return "does not open: " + why;
    if (!b->broker->opened().notes.empty()) return "damage: " + b->broker->opened().notes.front();
    std::map<std::string, unsigned> found;
    for (const topic_info& t : b->broker->topics(100))
      found[t.filter] = t.subscriptions;
    if (found[load_topic] != subscribers) return "an old one is lost";
    const bool first = found.count("short") != 0;
    if (h.has(subscribed, 0) && !h.has(unsubscribing, 0) && !first) return "short is lost";
    if (h.has(unsubscribing, 1) && first) return "short is back";
    if (h.has(subscribed, 1) && found.count("a/filter/that/needs/a/chain/+") == 0)
      return "the long one is lost";
    if (h.has(subscribed, 2) && found.count("new") == 0) return "the newcomer's is lost";
    if (found.count("passing/by") != 0) return "a clean session's is back";
    if (found.size() > 4) return "a filter nobody asked for";
    return {};
  };
  // A record that was seen and was not durable yet must be, before anything is built on it.
  s.continue_after = [](media& m, history& h) {
    std::string why;
    auto b = open(m, false, why);
    if (!b) return h.fail("does not open again: " + why);
    b->connect(subscriber_base + 50, newcomer, false);
    b->subscribe(subscriber_base + 50, "new", sn::qos_level::one);
    h.promise(subscribed, 2);
  };
  return s;
}

/// A client does not answer: its message is sent again, and acknowledged then. It never
/// acknowledges the next one, and counts as lost. Its queue stays, and what it did not acknowledge
/// comes again when it is back.
scenario retransmissions_and_a_lost_client() {
  scenario s;
  s.name = "broker: retransmissions, and a client that is lost";
  s.size = 128 << 10;
  s.setup = set_up;
  s.run = [](media& m, history& h) {
    broker_config config = tiny_config();
    config.queue_slots_first = 0;
    std::string why;
    auto made =
        testing_core::broker_in_order(test::join_life(m), config, false, tiny_layout(), why);
    if (made == nullptr) return h.fail(why);
    sn::gateway_config quick = small_gateway();
    quick.retry_ms = 50;
    quick.retry_ms_max = 400;
    quick.retries_max = 4;
    bench b(std::move(made), quick);
    publish(b, h, 1, 2);
    const client_address at = subscriber_base;
    b.connect(at, name_of(0), false);
    // The next PUBLISH, after a REGISTER where one comes first. Waits for it, and not for ever.
    const auto next_publish = [&]() -> std::optional<received> {
      for (const std::time_t begin = std::time(nullptr); std::time(nullptr) < begin + 60;) {
        b.settle();
        auto r = b.next(at);
        if (!r) continue;
        if (const auto* g = r->get<sn::register_topic>())
          b.send(at, sn::regack{.topic_id = g->topic_id, .msg_id = g->msg_id});
        if (r->get<sn::publish>()) return r;
      }
      return std::nullopt;
    };
    const auto first = next_publish(), again = next_publish();
    if (!first || !again) return h.fail("nothing is sent again");
    const auto* p = again->get<sn::publish>();
    if (!p->flags.dup() || p->msg_id != first->get<sn::publish>()->msg_id)
      return h.fail("not the same message again");
    h.promise(consumed, 1);
    b.send(at, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
    b.settle();
    h.promise(forgotten_by, 1);
    for (const std::time_t begin = std::time(nullptr);
         b.gateway->counters().sessions_lost == 0 && std::time(nullptr) < begin + 60;)
      b.settle();
    if (b.gateway->counters().sessions_lost == 0) return h.fail("the client is not lost");
    b.out.sent[at].clear();
    publish(b, h, 3, 1);
    consume(b, h, 0, 1);
  };
  s.recover_and_check = check;
  s.continue_after = publish_once_more;
  return s;
}

TEST(CrashBroker, PublishBurstToSeveralQueuesIsInAllOrNone) {
  EXPECT_TRUE(explore(publish_and_consume(), testing_core::crash_bounds()).ok());
}
TEST(CrashBroker, QueuesThatGrowKeepWhatWasAcknowledged) {
  test::explorer_options fewer =
      testing_core::crash_large; // many points, as rings are cleared and linked
  fewer.second_lives = 1;
  fewer.second_states_max = 2;
  EXPECT_TRUE(explore(growing_queues(), test::bounds(testing_core::crash_gate, fewer)).ok());
}
TEST(CrashBroker, CleanStartIsOneCommit) {
  EXPECT_TRUE(explore(clean_start(), testing_core::crash_bounds()).ok());
}
TEST(CrashBroker, WhatIsSentAgainAndWhoIsLostLosesNothing) {
  EXPECT_TRUE(explore(retransmissions_and_a_lost_client(), testing_core::crash_bounds()).ok());
}
TEST(CrashBroker, SubscriptionsAreThereOnceAcknowledged) {
  EXPECT_TRUE(explore(subscriptions(), testing_core::crash_bounds()).ok());
}

// The tester tested: each of these must be found.
struct seeded_case {
  const char* bug;
  test::scenario (*in)();
};
class SeededBug : public testing::TestWithParam<seeded_case> {};
TEST_P(SeededBug, IsFound) {
  testing_core::expect_bug(GetParam().bug, GetParam().in());
}
INSTANTIATE_TEST_SUITE_P(Broker, SeededBug,
                         testing::Values(seeded_case{"broker.no_first_drain", publish_and_consume},
                                         seeded_case{"broker.no_second_drain", publish_and_consume},
                                         seeded_case{"broker.no_publish_flush",
                                                     publish_and_consume},
                                         seeded_case{"broker.no_session_flush", clean_start}));

TEST(CrashBroker, EveryFlushAndDrainIsNeeded) {
  checks_clean = false;
  test::mutation_options which;
  // The sites of the structures below are tried by their own suites.
  // Only the broker gives up places of a will or of a scan, whose slots then are flushed as void.
  which.under = {"lib/broker/", "lib/mqttsn/", "lib/ring/place.cc"};
  const char* const in_pieces = "its lines are drained once more at the end; it is for media that "
                                "cannot cover so many lines with one drain";
  const char* const restarts_anyway =
      "the end of the session or group is durable by then, and an open restarts every queue that "
      "has another incarnation than its session or group; the call keeps the promise of "
      "queue_table, that a queue's blocks are free only behind its durable restart";
  const char* const emptied = "the batch is empty when it goes";
  which.stay = {
      {"    drain(); // [place-before-publish]", in_pieces},
      {"    cover(", in_pieces},
      {"if (retried) cover(", in_pieces},
      {"  cover((closings.size() + receipts.size())", in_pieces},
      {"  cover(group_records.size()", in_pieces},
      {"      drain(); // [mark-before-taken]", in_pieces},
      {"queues.restart_flush(e.session)", restarts_anyway},
      {"restart_flush(e.group)", restarts_anyway},
      {"bool any = empty_group_queues();", restarts_anyway},
      {"if (any) drain()", restarts_anyway},
      {"    drain(); // [ended-before-restart]", restarts_anyway},
      {"link_status s = queues.grow(q, n);", "reaches the seam in a seeded bug only"},
      {"if (seeded_bug(\"groups.marked_before_moved\")) mark_moves();",
       "reaches the seam in a seeded bug only"},
      {"finish_moves(); | }",
       "the batch of the burst is empty when it goes: publish() comes behind "
       "flush_changes(), which covers every change, and takes all of them"},
      {"{.qos = 0, .retain = retain}, no_token",
       "a message of QoS 0 has no place in a queue, and only that may link a ring"},
      {"retained_cells->emplace(durable.retained());", "the batch of the burst before is gone"},
      {"retained_cells->reset(); // all changes are published", emptied},
      {"make_durable(); | }", emptied},
      {"~burst_cells() { reset(); }", emptied},
      {"reset(); // the batch of the burst before", "the batch of the burst before is gone"},
      {"std::destroy_at(&batch_);", emptied},
      {"of a tombstone", "a burst tidies up at most as many cells as the batch holds"},
      {"without the one refused", "a burst tidies up at most as many cells as the batch holds"},
      {"(void)cells.upsert(bytes_of(changes[i].topic)", "the batch is committed when it is full"},
      {"} // all changes are published | }", emptied},
      {"s->state->for_each_retained(", "erases a cell without a message, as the next open does"},
      {"a cell without a message", "the next open erases such a cell as well"}};
  which.hang_seconds = 1500; // a slow machine is none
  // A missing call shows in a few of the states. What one thread cannot notice two workers do.
  const test::explorer_options alone{.states_max = 64,
                                     .sample = true,
                                     .second_lives = 1,
                                     .second_points = 12,
                                     .second_states_max = 8};
  const test::explorer_options longer{
      .states_max = 64, .sample = true, .second_lives = 2, .second_states_max = 16};
  const test::explorer_options together{
      .states_max = 12,
      .sample = true,
      .depth = 1,
      .schedules = {.random = 16, .preemptions = 1, .enumerated_max = 24}};
  using namespace testing_line;
  auto trials = test::trials_of({testing_broker::publish_and_consume(),
                                 clean_start(),
                                 subscriptions(),
                                 growing_queues(),
                                 sessions_and_subscriptions(),
                                 ended_and_made_again(),
                                 published_in_the_middle(),
                                 expired_sessions(),
                                 expired_messages(),
                                 places_used_again(),
                                 full_queues_drop_oldest(),
                                 refused_with_void_slots(),
                                 queues_that_grow(),
                                 many_subscriptions_in_a_burst(),
                                 refused_filters(),
                                 stock_of_rings_used_up(),
                                 queues_that_shrink(),
                                 growing_queues_drop_oldest(),
                                 set_aside_with_a_new_queue(),
                                 begun_clean_twice(),
                                 grown_and_closed(),
                                 address_of_another_worker(),
                                 publish_set_aside(false),
                                 publish_set_aside(true),
                                 set_replaced_and_cleared(),
                                 two_publishers_in_one_burst(),
                                 cleared_behind_another(),
                                 given_to_a_subscription(),
                                 many_topics_in_a_burst(),
                                 many_tombstones_in_a_burst(),
                                 wills_set_replaced_and_sent(),
                                 wills_that_rest(),
                                 wills_of_sessions_that_end(),
                                 wills_of_connections_taken_over(),
                                 publishes_at_qos_2(),
                                 deliveries_at_qos_2(),
                                 clean_start_at_qos_2(),
                                 members_acknowledge_in_any_order(),
                                 group_ended_and_made_again(),
                                 members_take_at_qos_2(),
                                 members_leave_at_qos_2(),
                                 asked_for_wills(),
                                 will_that_makes_room(),
                                 will_that_names_no_message(),
                                 many_memberships_in_a_burst(),
                                 groups_end_side_by_side(),
                                 group_without_members(),
                                 group_queues_that_shrink()},
                                alone);
  const auto add = [&](std::vector<test::mutation_trial> more) {
    std::ranges::move(more, std::back_inserter(trials));
  };
  // What recovery flushes is missed only in the lives after it.
  add(test::trials_of({testing_broker::publish_and_consume(), subscriptions(), expired_sessions()},
                      longer));
  add(test::trials_of({workers_publish_to_both(), workers_publish_and_release(),
                       workers_grow_a_queue(), workers_make_room(), workers_publish_to_one_topic(),
                       workers_fill_a_queue_of_a_will(), workers_fill_a_queue_beside_a_scan(),
                       workers_share_a_group()},
                      together));
  const auto r = mutate(trials, which);
  std::printf("%s", r.text().c_str());
  checks_clean = true;
  EXPECT_TRUE(r.baseline.empty()) << r.baseline; // tests/prove judges all suites together
}

} // namespace
} // namespace chainring::testing_broker
