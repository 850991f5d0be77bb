// SPDX-License-Identifier: BSD-3-Clause
// Queues crashed at every point: places that are used again, each overflow policy, refused messages
// whose other places are void, queues of several rings, content in several extents, and answers
// that wait for their marks.
#include <algorithm>

#include "base/hook.h"
#include "crash_bounds.h"
#include "line_case.h"
#include "line_scenarios.h"
#include "support/seeded.h"

namespace chainring::testing_line {

namespace {

/// A queue takes three messages, so that it is soon full and its places are used again.
line_case small_queues(overflow_policy policy = overflow_policy::reject) {
  line_case c;
  c.config.queue_slots = 3;
  c.config.overflow = policy;
  return c;
}

bool answered_no(const history& h, std::uint64_t id) {
  return h.has(refused, id);
}

/// Fills two queues of three, lets one be consumed in part, and publishes what the policy decides
/// about: alone, and two in one burst.
void fill_and_overflow(server& b, history& h) {
  publish(b, h, 1, 3);
  publish(b, h, 4, 1); // finds both queues full
  consume(b, h, 0, 1);
  publish(b, h, 5, 2); // finds room for one in one queue, and none in the other
  in_flight f = connect_subscriber(b, h, 1);
  publish(b, h, 7, 1); // finds every place of queue 1 on its way to its subscriber
  f.take(b, h);
  acknowledge_oldest(b, h, f, 2);
  publish(b, h, 8, 1);
  leave(b, 1);
}

/// Subscriber 0 acknowledges its oldest message in the burst of a publish that finds its queue
/// full. That makes the room, and nothing is dropped.
void acknowledge_and_publish(server& b, history& h, std::uint64_t id) {
  const auto dropped = [&] {
    const auto info = b.broker().session_of(subscriber_name(0));
    return info ? info->dropped_oldest : 0;
  };
  in_flight f = connect_subscriber(b, h, 0);
  if (f.lines.size() != 3) return h.fail("the queue is not full");
  const std::uint64_t before = dropped();
  f.acknowledge(b, h, 0);
  publish(b, h, id, 1);
  h.promise(forgotten, place(0, id_of(f.lines[0].text)));
  if (dropped() != before) h.fail("a message was dropped although there was room");
  leave(b, 0);
}

} // namespace

scenario places_used_again() {
  return line_scenario("line: places acknowledged, released and used again", small_queues(),
                       [](server& b, history& h) {
                         publish(b, h, 1, 3);
                         consume(b, h, 0, 2);
                         consume(b, h, 1, 3);
                         publish(b, h, 4, 2);
                         consume(b, h, 0, 1);
                         publish(b, h, 6, 1);
                         if (!h.is_acked(6)) h.fail("a released place was not used again");
                       });
}

scenario full_queues_refuse() {
  return line_scenario("line: full queues refuse", small_queues(), [](server& b, history& h) {
    fill_and_overflow(b, h);
    if (!answered_no(h, 4)) h.fail("a full queue took a message");
  });
}

scenario full_queues_drop_newest() {
  return line_scenario("line: full queues go without the newest",
                       small_queues(overflow_policy::drop_newest), [](server& b, history& h) {
                         fill_and_overflow(b, h);
                         if (b.broker().counters().dropped_newest == 0) h.fail("nothing dropped");
                       });
}

scenario full_queues_drop_oldest() {
  return line_scenario("line: full queues drop their oldest",
                       small_queues(overflow_policy::drop_oldest), [](server& b, history& h) {
                         fill_and_overflow(b, h);
                         if (b.broker().counters().dropped_oldest == 0) h.fail("nothing dropped");
                         acknowledge_and_publish(b, h, 9);
                       });
}

// Worker 0 finds room for message 3 in both queues; before it places the message, worker 1 fills
// one of them. The message is refused, and its place in the other queue is void.
scenario refused_with_void_slots() {
  line_case c = small_queues();
  c.config.workers = 2;
  c.config.home_seed = 1;
  return line_scenario(
      "line: refused messages, whose other places are void", c, [](server& b, history& h) {
        const unsigned home = b.broker().home_of("publisher");
        constexpr unsigned other_at = 101;
        (void)b.ask(other_at,
                    "CONNECT " + identity_at(b.broker(), 1 - home, "publisher") + " -,passing");
        publish(b, h, 1, 2);
        consume(b, h, 1, 2);
        const auto send = [&](unsigned at, std::uint64_t id) {
          h.begin(id, usual_size);
          b.send(at, std::string("PUB ") + topic + " 1 " + text_of(id));
        };
        send(publisher_at, 4);
        send(other_at, 3);
        b.turn(1 - home);
        if (b.next(other_at).starts_with("OK ")) h.ack(3);
        b.turn(home);
        if (b.next(publisher_at).starts_with("NO ")) h.promise(refused, 4);
        if (!h.is_acked(3) || !answered_no(h, 4)) h.fail("the burst was not refused");
        consume(b, h, 0, 1);
        publish(b, h, 5, 1); // behind the void slot
        consume(b, h, 1, 2);
        consume(b, h, 0, 2);
        publish(b, h, 6, 1);
        if (!h.is_acked(6)) h.fail("a void slot was not released");
      });
}

// Queues begin with room for two: bursts find them full and append, and what is consumed unlinks
// the first ring.
scenario queues_that_grow() {
  line_case c;
  c.config.queue_slots_first = 2;
  return line_scenario("line: queues that grow and leave their first rings", c,
                       [](server& b, history& h) {
                         publish(b, h, 1, 2);
                         publish(b, h, 3, 3);
                         if (b.broker().queue_statistics().grown == 0) h.fail("no queue has grown");
                         consume(b, h, 0, 4);
                         publish(b, h, 6, 1);
                         prepare_rings(b);
                         publish(b, h, 7, 2); // in rings that were prepared, where they are full
                         consume_backwards(b, h, 1, 2);
                         consume(b, h, 1, 3);
                       });
}

// The region is full of messages of one block, every second of which has been consumed before the
// crashes begin. Longer content then finds runs of single blocks only.
scenario several_extents() {
  line_case c;
  c.subscribers = 1;
  c.config.queue_slots = 127;
  c.layout.messages_max = 256;
  constexpr unsigned keeper_at = 300, passing_at = 301;
  scenario s = line_scenario("line: content in several extents", c, [](server& b, history& h) {
    publish(b, h, 1, 1, 900);
    publish(b, h, 2, 2, 400);
    if (!h.is_acked(1) || !h.is_acked(3)) h.fail("there was no room for the content");
    consume(b, h, 0, 2);
    publish(b, h, 4, 1, 900); // in the blocks of what was consumed, among others
  });
  s.size = 64 << 10;
  const auto take_all = [](server& b, unsigned at, const std::string& name) {
    (void)b.ask(at, "CONNECT " + name + " -");
    for (std::string line = b.next(at); !line.empty(); line = b.next(at)) {
      b.send(at, "ACK " + message_line(line).number);
      b.settle();
    }
  };
  s.setup = [=](media& m, history& h) {
    c.set_up(m, h);
    std::string why;
    auto b = c.open(m, false, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    for (const auto& [at, name] : {std::pair{keeper_at, "keeper"}, {passing_at, "passing"}}) {
      (void)b->ask(at, std::string("CONNECT ") + name + " -");
      (void)b->ask(at, std::string("SUB ") + name + " 1");
      (void)b->ask(at, "BYE");
    }
    // The subscriber's queue gets its ring while there is a run of blocks for it.
    (void)b->ask(publisher_at, std::string("PUB ") + topic + " 1 text");
    take_all(*b, subscriber_at, subscriber_name(0));
    unsigned kept = 0;
    while (b->ask(publisher_at, "PUB keeper 1 text").starts_with("OK ") &&
           b->ask(publisher_at, "PUB passing 1 text").starts_with("OK "))
      ++kept;
    if (kept < 32) h.fail("the region was never full");
    take_all(*b, passing_at, "passing");
  };
  s.recover_and_check = [=](media& m, const history& h) -> verdict {
    std::string why;
    auto b = c.open(m, false, why);
    if (b == nullptr) return "does not open: " + why;
    take_all(*b, keeper_at, "keeper");
    return judge_deliveries(*b, h, c.rules());
  };
  return s;
}

// The medium reaches one mark after another. An answer and a delivery leave behind the mark of the
// burst that made them, and the history learns of each when it arrives.
scenario held_marks() {
  line_case c;
  return line_scenario(
      "line: answers and deliveries leave behind their marks", c, [](server& b, history& h) {
        auto& medium = static_cast<sim_media&>(b.broker().medium());
        in_flight f = connect_subscriber(b, h, 0);
        std::uint64_t answered = 0;
        const auto burst = [&] {
          b.turn(0);
          for (std::string line = b.next(publisher_at); !line.empty(); line = b.next(publisher_at))
            if (line.starts_with("OK ")) h.ack(++answered);
          f.take(b, h);
        };
        const auto send = [&](std::uint64_t id) {
          h.begin(id, usual_size);
          b.send(publisher_at, std::string("PUB ") + topic + " 1 " + text_of(id));
        };
        medium.hold_marks();
        mark_t reached = medium.mark();
        const auto reach_all = [&] {
          for (const mark_t last = medium.mark(); reached < last;) {
            medium.reach_mark(++reached);
            burst();
          }
        };
        send(1);
        burst();
        send(2); // two marks are on their way
        burst();
        if (answered != 0) return; // the explorer says what is wrong with that
        reach_all();
        if (answered != 2 || f.lines.size() != 2)
          return h.fail("the answers have not arrived behind their marks");
        f.acknowledge(b, h, 0);
        send(3);
        burst();
        reach_all();
        h.promise(forgotten, place(0, 1));
        if (answered != 3) h.fail("the last answer has not arrived");
        medium.reach_every_mark();
      });
}

namespace {

TEST(CrashQueues, APlaceIsUsedAgainOnlyBehindTheDurableAcknowledgement) {
  EXPECT_TRUE(explore(places_used_again(), testing_core::crash_bounds()).ok());
}
TEST(CrashQueues, AFullQueueThatRefusesRefusesInEveryQueue) {
  EXPECT_TRUE(explore(full_queues_refuse(), testing_core::crash_bounds()).ok());
}
TEST(CrashQueues, AFullQueueThatDropsTheNewestLosesNothingElse) {
  EXPECT_TRUE(explore(full_queues_drop_newest(), testing_core::crash_bounds()).ok());
}
TEST(CrashQueues, AFullQueueThatDropsItsOldestLosesNothingElse) {
  EXPECT_TRUE(explore(full_queues_drop_oldest(), testing_core::crash_bounds()).ok());
}
TEST(CrashQueues, ARefusedMessageIsInNoQueue) {
  EXPECT_TRUE(explore(refused_with_void_slots(), testing_core::crash_bounds()).ok());
}
TEST(CrashQueues, AQueueThatGrowsKeepsWhatWasAcknowledged) {
  EXPECT_TRUE(explore(queues_that_grow(), testing_core::crash_bounds()).ok());
}
TEST(CrashQueues, ContentInSeveralExtentsIsThereWholeOrNotAtAll) {
  EXPECT_TRUE(explore(several_extents(), testing_core::crash_bounds()).ok());
}
TEST(CrashQueues, AnAnswerLeavesBehindItsMark) {
  EXPECT_TRUE(explore(held_marks(), testing_core::crash_bounds()).ok());
}

// The tester tested: a transport that does not wait, and a mark that covers too little.
TEST(CrashQueues, AnAnswerThatLeavesBeforeItsMarkIsFound) {
  for (const char* bug : {"line.sent_before_mark", "broker.mark_before_burst"})
    testing_core::expect_bug(bug, held_marks());
}

} // namespace
} // namespace chainring::testing_line
