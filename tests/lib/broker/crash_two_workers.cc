// SPDX-License-Identifier: BSD-3-Clause
// Two workers, each on a thread of its own, interleaved by schedules and crashed at every point. A
// drain covers only what its own thread flushed, so what one worker relies on must be durable by
// its own drains, or by those that the other made before it let go.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "base/hook.h"
#include "crash_bounds.h"
#include "line_case.h"
#include "line_scenarios.h"
#include "support/seeded.h"

namespace chainring::testing_line {

namespace {

/// Publisher 0 and subscriber 0 are worker 0's, publisher 1 and subscriber 1 are worker 1's. Both
/// subscribers want every message.
struct two_workers : line_case {
  two_workers() {
    config.workers = 2;
    config.home_seed = 1;
    publishers = 2;
  }
};

constexpr unsigned publisher_of[] = {publisher_at, publisher_at + 1};

std::string publisher_name(const broker& b, unsigned w) {
  return identity_at(b, w, "worker-publisher");
}

/// The parts that two workers play, for interleave(). Each calls only what is its own.
class workers {
 public:
  workers(server& b, history& h) : b_(b), h_(h) {
    for (unsigned w = 0; w < 2; ++w) {
      if (!b.ask(publisher_of[w], "CONNECT " + publisher_name(b.broker(), w) + " -")
               .starts_with("OK "))
        h.fail("no publisher");
    }
  }
  /// Worker `w` publishes a message and goes on with its bursts until that is answered.
  void publish(unsigned w, std::uint64_t id) {
    h_.begin(id, usual_size);
    b_.send(publisher_of[w], std::string("PUB ") + topic + " 1 " + text_of(id));
    std::string said;
    for (int bursts = 0; bursts < 100'000 && said.empty(); ++bursts) {
      b_.turn(w);
      said = b_.next(publisher_of[w]);
      if (said.empty()) hook_point("idle"); // the other worker has to do something first
    }
    if (said.starts_with("OK "))
      h_.ack(id);
    else if (said.starts_with("NO "))
      h_.promise(refused, id);
    else
      h_.fail("no answer for message " + std::to_string(id));
  }
  /// Worker `w` hands in the oldest `count` acknowledgements of its subscriber.
  void acknowledge(unsigned w, in_flight& f, unsigned count) {
    f.take(b_, h_);
    count = std::min(count, static_cast<unsigned>(f.lines.size()));
    for (unsigned i = 0; i < count; ++i)
      f.acknowledge(b_, h_, i);
    b_.turn(w);
    for (unsigned i = 0; i < count; ++i)
      h_.promise(forgotten, place(f.subscriber, id_of(f.lines[i].text)));
    f.lines.erase(f.lines.begin(), f.lines.begin() + count);
  }
  void turn(unsigned w) { b_.turn(w); }
  void run(const std::function<void()>& first, const std::function<void()>& second) {
    test::interleave(h_.threads(), {first, second});
  }

 private:
  server& b_;
  history& h_;
};

/// Publishers and subscribers of both workers; no message of the set-up is in a queue.
scenario of_workers(const std::string& name, const line_case& kind,
                    std::function<void(server&, history&, workers&)> run) {
  scenario s = line_scenario(name, kind, [run](server& b, history& h) {
    workers w(b, h);
    run(b, h, w);
    b.settle();
  });
  return s;
}

} // namespace

// The queues have no rings at first: each worker finds a ring that the other has linked.
scenario workers_publish_to_both() {
  return of_workers("two workers publish to the same queues", two_workers{},
                    [](server&, history&, workers& w) {
                      w.run(
                          [&] {
                            w.publish(0, 1);
                            w.publish(0, 3);
                          },
                          [&] {
                            w.publish(1, 2);
                            w.publish(1, 4);
                          });
                    });
}

// Worker 0 releases what its subscriber acknowledged, while worker 1 publishes: the descriptors,
// the blocks and the places of the queue are used again at once.
scenario workers_publish_and_release() {
  two_workers kind;
  kind.subscribers = 1;
  kind.config.queue_slots = 3;
  kind.layout.messages_max = 4;
  return of_workers("one worker releases while the other publishes", kind,
                    [](server& b, history& h, workers& w) {
                      const unsigned home = b.broker().home_of(subscriber_name(0));
                      publish(b, h, 1, 2);
                      in_flight f = connect_subscriber(b, h, 0);
                      w.run(
                          [&] {
                            w.acknowledge(home, f, 1);
                            w.acknowledge(home, f, 1);
                          },
                          [&] {
                            w.publish(1 - home, 3);
                            w.publish(1 - home, 4);
                          });
                    });
}

// Queues begin with room for two. One worker appends a ring, and the other places in it.
scenario workers_grow_a_queue() {
  two_workers kind;
  kind.config.queue_slots_first = 2;
  return of_workers("a ring that one worker appends and the other places in", kind,
                    [](server& b, history& h, workers& w) {
                      publish(b, h, 1, 2);
                      prepare_rings(b); // so that a worker only links them
                      w.run(
                          [&] {
                            w.publish(0, 3);
                            w.publish(0, 5);
                          },
                          [&] {
                            w.publish(1, 4);
                            w.publish(1, 6);
                          });
                      if (b.broker().queue_statistics().grown == 0) h.fail("no queue has grown");
                    });
}

// Both queues are full. A publisher has to ask the other worker to drop the oldest message of its
// queue, and the room may be taken before it comes back.
scenario workers_make_room() {
  two_workers kind;
  kind.config.queue_slots = 3;
  kind.config.overflow = overflow_policy::drop_oldest;
  return of_workers("two workers make room in each other's queues", kind,
                    [](server& b, history& h, workers& w) {
                      publish(b, h, 1, 3);
                      std::atomic<unsigned> done{0};
                      const auto part = [&](unsigned worker, std::uint64_t id) {
                        return [&, worker, id] {
                          w.publish(worker, id);
                          ++done;
                          for (int i = 0; i < 100'000 && done < 2; ++i) {
                            w.turn(worker);
                            hook_point("idle");
                          }
                        };
                      };
                      w.run(part(0, 4), part(1, 5));
                      if (b.broker().counters().dropped_oldest == 0) h.fail("nothing was dropped");
                    });
}

// Tables get another segment while both workers use them.
scenario workers_while_tables_grow() {
  two_workers kind;
  kind.layout.messages_max = 8;
  return of_workers("two workers publish while the tables grow", kind,
                    [](server& b, history& h, workers& w) {
                      test::interleave(h.threads(), {[&] {
                                                       w.publish(0, 1);
                                                       w.publish(0, 3);
                                                     },
                                                     [&] { w.publish(1, 2); },
                                                     [&] {
                                                       auto grown = b.broker().grow_tables(true);
                                                       if (!grown || *grown != 5)
                                                         h.fail("not all tables have grown");
                                                     }});
                      // In the new segments.
                      publish(b, h, 5, 3);
                      if (!h.is_acked(7)) h.fail("the new places are not used");
                    });
}

// The subscribers' records, queues and subscriptions lie in the segments that their tables got
// last.
scenario workers_in_second_segments() {
  two_workers kind;
  kind.layout.sessions_max = 3; // the publishers
  scenario s = of_workers("two workers publish to queues of a second segment", kind,
                          [kind](server& b, history& h, workers& w) {
                            std::vector<session_info> all;
                            (void)b.broker().sessions(kind.layout.sessions_max, 100, all);
                            if (all.size() != kind.subscribers)
                              return h.fail("not in the second segment");
                            w.run(
                                [&] {
                                  w.publish(0, 1);
                                  w.publish(0, 3);
                                },
                                [&] { w.publish(1, 2); });
                            // A message may have been refused, where one worker found that the
                            // other links a ring.
                            in_flight f = connect_subscriber(b, h, 0);
                            if (!f.lines.empty()) acknowledge_oldest(b, h, f, 1);
                            leave(b, 0);
                          });
  s.setup = [kind](media& m, history& h) {
    std::string why;
    auto b = kind.open(m, true, why);
    if (b == nullptr || !connect_publisher(*b)) return h.fail("no publisher " + why);
    for (unsigned w = 0; w < 2; ++w)
      if (!b->ask(publisher_of[w], "CONNECT " + publisher_name(b->broker(), w) + " -")
               .starts_with("OK "))
        return h.fail("no publisher");
    if (auto grown = b->broker().grow_tables(true); !grown || *grown != 5)
      return h.fail("not all tables have grown");
    kind.make_subscribers(*b, h);
  };
  return s;
}

namespace {

// Every schedule repeats most images of the one before; those are not checked again.
test::explorer_options under(unsigned preempted, unsigned random) {
  return {.states_max = 24,
          .sample = true,
          .depth = 1,
          .schedules = {.random = random, .preemptions = 1, .enumerated_max = preempted}};
}
test::explorer_options bounds() {
  test::explorer_options large{
      .states_max = 256,
      .second_lives = 1,
      .deaths = 4,
      .second_points = 8,
      .second_states_max = 8,
      .schedules = {.random = 100, .preemptions = 1, .enumerated_max = 1000}};
  return test::bounds(under(40, 24), large);
}

TEST(CrashTwoWorkers, WhatBothPublishIsInEveryQueueOrInNone) {
  EXPECT_TRUE(explore(workers_publish_to_both(), bounds()).ok());
}
TEST(CrashTwoWorkers, WhatOneReleasesTheOtherUsesOnlyBehindItsDrain) {
  EXPECT_TRUE(explore(workers_publish_and_release(), bounds()).ok());
}
TEST(CrashTwoWorkers, ARingThatOneAppendsIsDurableBeforeTheOtherPlacesInIt) {
  EXPECT_TRUE(explore(workers_grow_a_queue(), bounds()).ok());
}
TEST(CrashTwoWorkers, RoomThatTheOtherMakesLosesNothingElse) {
  EXPECT_TRUE(explore(workers_make_room(), bounds()).ok());
}
TEST(CrashTwoWorkers, TablesThatGrowUnderThemLoseNothing) {
  EXPECT_TRUE(explore(workers_while_tables_grow(), bounds()).ok());
}

TEST(CrashTwoWorkers, QueuesOfASecondSegmentLoseNothing) {
  EXPECT_TRUE(explore(workers_in_second_segments(), bounds()).ok());
}

// The tester tested: what one worker lets go of before its drain, the other uses at once.
TEST(CrashTwoWorkers, AReleaseBeforeItsDrainIsFound) {
  testing_core::expect_bug("broker.finish_before_drain", workers_publish_and_release(),
                           under(200, 50));
}

} // namespace
} // namespace chainring::testing_line
