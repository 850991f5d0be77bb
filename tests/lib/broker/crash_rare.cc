// SPDX-License-Identifier: BSD-3-Clause
// Rare paths of the core crashed at every point, under the line front end: more subscriptions in a
// burst than a batch of the map holds, filters that are refused when their records are there
// already, a stock of rings that is used up, rings that are taken out of use, queues that drop
// while they grow, publishes that are set aside, and what operators ask for.
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <map>

#include "broker/access.h"
#include "crash_bounds.h"
#include "line_case.h"
#include "line_scenarios.h"
#include "map/durable_map.h"

namespace chainring::testing_line {

namespace {

constexpr unsigned client_at = 300;
/// More than a batch holds, so that the burst commits some before its own drain.
constexpr unsigned many = durable_map::batch::changes_max + 3;

constexpr int set_settled = first_scenario_kind; // id: of the set of filters
constexpr int set_leaving = first_scenario_kind + 1;
constexpr int set_gone = first_scenario_kind + 2;
constexpr int closed = first_scenario_kind + 3;
constexpr int renewed = first_scenario_kind + 4;

/// Filters of one set. Those of set 1 are longer than a cell of the map holds.
std::string filter_of(unsigned set, unsigned i) {
  const std::string number = std::to_string(set) + "/" + std::to_string(i);
  return set == 1 ? "a/filter/longer/than/a/cell/" + number : number;
}
/// A filter with more levels than the index takes.
std::string too_deep(unsigned i) {
  std::string filter;
  for (int level = 0; level < filter_index::filter_levels_max; ++level)
    filter += "+/";
  return filter + std::to_string(i);
}

/// Sends one request for each filter of the set in one burst. Returns how many were answered so.
unsigned ask_for_all(server& b, unsigned at, const std::string& verb, unsigned set,
                     const std::string& answer) {
  for (unsigned i = 0; i < many; ++i)
    b.send(at, verb + " " + filter_of(set, i) + (verb == "SUB" ? " 1" : ""));
  b.settle();
  unsigned answered = 0;
  for (std::string line = b.next(at); !line.empty(); line = b.next(at))
    answered += line.starts_with(answer);
  return answered;
}

line_case many_subscriptions() {
  line_case c;
  c.subscribers = 1;
  c.layout.subscriptions_max = 256;
  return c;
}

/// How many filters of the set the core serves.
unsigned filters_of(const broker& b, unsigned set) {
  const std::vector<topic_info> all = b.topics(1000);
  unsigned found = 0;
  for (unsigned i = 0; i < many; ++i)
    found += std::ranges::count(all, filter_of(set, i), &topic_info::filter) != 0;
  return found;
}

/// Runs rounds until `done`, because a worker looks after some things only now and then.
template <class F> bool settle_until(server& b, F&& done) {
  for (const std::time_t begin = std::time(nullptr); !done() && std::time(nullptr) < begin + 60;)
    b.settle();
  return done();
}

} // namespace

// One burst holds more subscriptions than a batch of the map, and later one more unsubscribes. Then
// a session that has as many ends, and messages take the blocks that its filters had.
scenario many_subscriptions_in_a_burst() {
  const line_case kind = many_subscriptions();
  scenario s = line_scenario(
      "line: more subscriptions in a burst than a batch holds", kind, [](server& b, history& h) {
        if (!b.ask(client_at, "CONNECT keeper -").starts_with("OK ") ||
            ask_for_all(b, client_at, "SUB", 0, "OK ") != many)
          return h.fail("not every subscription was accepted");
        h.promise(set_settled, 0);
        h.promise(set_leaving, 0);
        if (ask_for_all(b, client_at, "UNSUB", 0, "OK ") != many)
          return h.fail("not every subscription could be taken back");
        h.promise(set_gone, 0);
        if (!b.ask(client_at + 1, "CONNECT leaver -,passing").starts_with("OK ") ||
            ask_for_all(b, client_at + 1, "SUB", 1, "OK ") != many)
          return h.fail("not every long subscription was accepted");
        h.promise(set_settled, 1);
        h.promise(set_leaving, 1);
        (void)b.ask(client_at + 1, "BYE");
        h.promise(set_gone, 1);
        publish(b, h, 1, 12, 150); // each takes one block, as a filter did
        if (!h.is_acked(12)) h.fail("there was no room for the content");
      });
  s.setup = [kind](media& m, history& h) {
    kind.set_up(m, h);
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr || b->ask(client_at, "CONNECT keeper -") != "OK 1")
      h.fail("no session " + why);
  };
  s.recover_and_check = [kind](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    // The session of set 1 ends with the process, if not before.
    const unsigned found = filters_of(b->broker(), 0);
    if (h.has(set_settled, 0) && !h.has(set_leaving, 0) && found != many)
      return "subscriptions are lost: " + std::to_string(many - found);
    if (h.has(set_gone, 0) && found != 0) return "subscriptions are back: " + std::to_string(found);
    if (filters_of(b->broker(), 1) != 0) return "subscriptions of a session that is gone";
    return judge_deliveries(*b, h, kind.rules());
  };
  return s;
}

// The records of these filters are durable before the index refuses them. They are erased before
// the client is told, so that no open finds them again.
scenario refused_filters() {
  line_case kind = many_subscriptions();
  kind.config.topic_size_max = 1024;
  scenario s;
  s.name = "line: filters that the index refuses";
  s.size = 256 << 10;
  s.setup = [kind](media& m, history& h) { kind.set_up(m, h); };
  const auto open = [kind](media& m, std::string& why, std::size_t& notes) {
    std::unique_ptr<server> b;
    auto made = broker_on(test::join_life(m), kind.config, false, kind.layout);
    if (!made) {
      why = made.error().message;
      return b;
    }
    notes = (*made)->opened().notes.size();
    return std::make_unique<server>(std::move(*made));
  };
  s.run = [open](media& m, history& h) {
    std::string why;
    std::size_t notes = 0;
    auto b = open(m, why, notes);
    if (b == nullptr) return h.fail(why);
    (void)b->ask(subscriber_at, "CONNECT " + subscriber_name(0) + " -");
    for (unsigned i = 0; i < many; ++i)
      b->send(subscriber_at, "SUB " + too_deep(i) + " 1");
    b->settle();
    unsigned told = 0;
    for (std::string line = b->next(subscriber_at); !line.empty(); line = b->next(subscriber_at))
      told += line.find("too_long") != std::string::npos;
    if (told != many) return h.fail("not every filter was refused");
    h.promise(set_gone, 0);
  };
  s.recover_and_check = [open](media& m, const history& h) -> verdict {
    std::string why;
    std::size_t notes = 0;
    auto b = open(m, why, notes);
    if (b == nullptr) return "does not open: " + why;
    if (h.has(set_gone, 0) && notes != 0)
      return "records of refused filters are back: " + std::to_string(notes);
    if (b->broker().subscription_count() != 1) return "not the subscription there was";
    return {};
  };
  return s;
}

// The stock holds one ring, and the first message goes to several queues.
scenario stock_of_rings_used_up() {
  line_case kind;
  kind.config.queue_slots = 255; // a ring of the size of a sixteenth of the region
  return line_scenario("line: a stock of rings that is used up", kind, [](server& b, history& h) {
    if (b.broker().queue_statistics().rings_in_stock != 1)
      return h.fail("the stock is not one ring");
    publish(b, h, 1, 1);
    publish(b, h, 2, 1);
    consume(b, h, 1, 1);
  });
}

// A queue has become empty, and the worker gives it a smaller ring when it looks after its queues.
scenario queues_that_shrink() {
  line_case kind;
  kind.config.queue_slots_first = 2;
  return line_scenario("line: queues that get smaller rings", kind, [](server& b, history& h) {
    publish(b, h, 1, 2);
    publish(b, h, 3, 1); // in a second, larger ring
    consume(b, h, 0, 3);
    consume(b, h, 1, 3);
    if (!settle_until(b, [&] { return b.broker().queue_statistics().shrunk == 2; }))
      return h.fail("the queues did not get smaller rings");
    publish(b, h, 4, 1);
  });
}

// The two rings of a queue hold as much as the queue may, and the newer one is full. A message that
// makes room by dropping the oldest needs a third ring.
scenario growing_queues_drop_oldest() {
  line_case kind;
  kind.subscribers = 1;
  kind.config.queue_slots = 7;
  kind.config.queue_slots_first = 2;
  kind.config.overflow = overflow_policy::drop_oldest;
  return line_scenario("line: queues that drop their oldest while they grow", kind,
                       [](server& b, history& h) {
                         publish(b, h, 1, 2);
                         publish(b, h, 3, 5);
                         const auto before = b.broker().queue_statistics().grown;
                         publish(b, h, 8, 1);
                         if (b.broker().counters().dropped_oldest == 0 ||
                             b.broker().queue_statistics().grown == before)
                           h.fail("nothing was dropped, or no ring was added");
                         consume(b, h, 0, 3);
                         publish(b, h, 9, 1);
                       });
}

// A publish waits for room in the queue of another worker, which drops its oldest message. Another
// of its queues has no ring yet and gets one before it waits.
scenario set_aside_with_a_new_queue() {
  line_case kind;
  kind.subscribers = 2;
  kind.config.workers = 2;
  kind.config.home_seed = 1;
  kind.config.queue_slots = 3;
  kind.config.overflow = overflow_policy::drop_oldest;
  scenario s = line_scenario(
      "line: a publish that is set aside, and a queue without a ring", kind,
      [](server& b, history& h) {
        const unsigned home = b.broker().home_of(subscriber_name(0));
        (void)b.ask(publisher_at,
                    "CONNECT " + identity_at(b.broker(), 1 - home, "publisher") + " -,passing");
        for (std::uint64_t id = 1; id <= 3; ++id)
          h.promise(acknowledging, place(1, id)); // subscriber 1 does not want these
        publish(b, h, 1, 3);
        const unsigned at = subscriber_at + 1;
        if (b.ask(at, "CONNECT " + subscriber_name(1) + " -") != "OK 1 present" ||
            b.ask(at, std::string("SUB ") + topic + " 1") != "OK 2")
          return h.fail("no second subscriber");
        leave(b, 1);
        publish(b, h, 4, 1);
        if (b.broker().counters().set_aside == 0) h.fail("no publish was set aside");
        consume(b, h, 1, 1);
        publish(b, h, 5, 1);
      });
  s.setup = [kind](media& m, history& h) { kind.set_up_second_session(m, h); };
  // The life after a crash knows nothing of the second subscriber's wishes.
  s.continue_after = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return h.fail("does not open again: " + why);
    in_flight f = connect_subscriber(*b, h, 0);
    if (!f.lines.empty()) acknowledge_oldest(*b, h, f, 1);
  };
  return s;
}

// A session begins clean twice in one burst. Nothing of what it was before comes back.
scenario begun_clean_twice() {
  line_case kind;
  kind.subscribers = 1;
  scenario s = line_scenario(
      "line: a session that begins clean twice in one burst", kind, [](server& b, history& h) {
        publish(b, h, 1, 1);
        h.promise(acknowledging, place(0, 1));
        const std::string connect = "CONNECT " + subscriber_name(0) + " ";
        b.send(subscriber_at, connect + "clean");
        b.send(subscriber_at, connect + "clean");
        if (b.ask(subscriber_at, std::string("SUB ") + topic + " 1") != "OK 1")
          return h.fail("the session did not begin");
        b.settle();
        h.promise(forgotten, place(0, 1));
        h.promise(renewed, 0);
        b.forget(subscriber_at);
        publish(b, h, 2, 1);
      });
  const auto go_on = s.continue_after;
  s.continue_after = [kind, go_on](media& m, history& h) {
    if (h.has(renewed, 0)) return go_on(m, h);
    std::string why; // nobody may want a message by now
    if (kind.open(m, false, why) == nullptr) h.fail("does not open again: " + why);
  };
  return s;
}

// An operator makes the region larger, and what is published then lies in the new blocks. At the
// end the broker is closed, which the next open sees.
scenario grown_and_closed() {
  line_case kind;
  scenario s = line_scenario("line: a region that grows, and a broker that is closed", kind,
                             [](server& b, history& h) {
                               block_store& blocks = broker_access::state(b.broker()).blocks();
                               // Nothing is left of the blocks there are.
                               for (std::uint64_t n = blocks.statistics().largest_run; n != 0;
                                    n = blocks.statistics().largest_run)
                                 if (!blocks.reserve_run(static_cast<std::uint32_t>(n))) break;
                               if (auto grown = b.broker().grow(std::uint64_t{256} << 10); !grown)
                                 return h.fail(grown.error().message);
                               publish(b, h, 1, 2, 900);
                               if (!h.is_acked(2)) return h.fail("the new blocks are not used");
                               if (auto done = b.broker().close(); !done)
                                 return h.fail(done.error().message);
                               h.promise(closed, 0);
                             });
  s.recover_and_check = [kind](media& m, const history& h) -> verdict {
    std::string why;
    auto b = kind.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    if (h.has(closed, 0) && !h.has(renewed, 0) && !b->broker().region().was_clean())
      return "a region that was closed is not clean";
    return judge_deliveries(*b, h, kind.rules());
  };
  const auto go_on = s.continue_after;
  s.continue_after = [go_on](media& m, history& h) {
    h.promise(renewed, 0);
    go_on(m, h);
  };
  return s;
}

namespace {

TEST(CrashRare, SubscriptionsOfMoreThanABatchAreThereOrGoneOnceSettled) {
  EXPECT_TRUE(explore(many_subscriptions_in_a_burst(), testing_core::crash_bounds()).ok());
}
TEST(CrashRare, ARefusedFilterLeavesNoRecord) {
  EXPECT_TRUE(explore(refused_filters(), testing_core::crash_bounds()).ok());
}
TEST(CrashRare, AQueueThatFindsNoRingInStockLosesNothing) {
  EXPECT_TRUE(explore(stock_of_rings_used_up(), testing_core::crash_bounds()).ok());
}
TEST(CrashRare, AQueueWithASmallerRingLosesNothing) {
  EXPECT_TRUE(explore(queues_that_shrink(), testing_core::crash_bounds()).ok());
}
TEST(CrashRare, AQueueThatDropsWhileItGrowsLosesNothingElse) {
  EXPECT_TRUE(explore(growing_queues_drop_oldest(), testing_core::crash_bounds()).ok());
}
TEST(CrashRare, APublishThatIsSetAsideIsInANewQueueToo) {
  EXPECT_TRUE(explore(set_aside_with_a_new_queue(), testing_core::crash_bounds()).ok());
}
TEST(CrashRare, ASessionThatBeginsCleanTwiceKeepsNothing) {
  EXPECT_TRUE(explore(begun_clean_twice(), testing_core::crash_bounds()).ok());
}
TEST(CrashRare, ARegionThatGrewKeepsWhatLiesBehindItsOldEnd) {
  EXPECT_TRUE(explore(grown_and_closed(), testing_core::crash_bounds()).ok());
}

} // namespace
} // namespace chainring::testing_line
