// SPDX-License-Identifier: BSD-3-Clause
/// Messages named by places on media, crashed at every point.
#include <gtest/gtest.h>

#include "base/hook.h"
#include "message_world.h"
#include "support/explorer.h"
#include "support/mutation.h"
#include "support/seeded.h"

namespace chainring::test {
namespace {

scenario one(defect d = defect::none) {
  return make(
      "publish one", [](world& w, history& h) { w.publish(h, {1}, 8); }, false, d);
}
scenario burst() {
  return make("publish a burst", [](world& w, history& h) { w.publish(h, {1, 2}, 8); });
}
scenario at_once() {
  return make("publish one that is staged in one call", [](world& w, history& h) {
    w.consume_all(h, w.publish_at_once(h, 1, 40));
    (void)w.publish_at_once(h, 2, 8);
  });
}
scenario extents() {
  return make(
      "publish in several extents",
      [](world& w, history& h) {
        const auto refs = w.publish(h, {1}, 300); // 5 blocks in runs of 3, and an extent list
        if (refs.empty()) return;
        w.consume_all(h, refs[0]);
        w.publish(h, {2}, 220);
      },
      true);
}
scenario reuse(defect d = defect::none) {
  return make(
      "reuse descriptor and blocks",
      [](world& w, history& h) {
        for (std::uint64_t id = 1; id <= 3; ++id) {
          const auto refs = w.publish(h, {id}, 40);
          if (refs.empty()) return;
          w.consume_all(h, refs[0]);
        }
      },
      false, d);
}
scenario reuse_beside_one_queue() {
  return make("consume from one queue, publish on", [](world& w, history& h) {
    const auto refs = w.publish(h, {1}, 8);
    if (refs.empty()) return;
    w.consume(h, 0, refs[0]);
    w.publish(h, {2}, 8);
    w.consume(h, 1, refs[0]);
    w.publish(h, {3}, 8);
  });
}
scenario refused() {
  return make(
      "refuse a message that was placed",
      [](world& w, history& h) {
        const auto refs = w.publish(h, {1}, 8);
        if (refs.empty()) return;
        w.consume_all(h, refs[0]);
        w.refuse(h, 2, 8);
        w.publish(h, {3}, 8);
      },
      false);
}
/// The recovery driver runs the part of the table, as it does for every region.
scenario recovered_by_driver() {
  scenario s = extents();
  s.name = "chain: recovered as a part of a region";
  s.run = [](media& m, history& h) {
    world w(m, true, true);
    const auto refs = w.publish(h, {1}, 300);
    if (refs.empty()) return;
    w.consume_all(h, refs[0]);
    w.publish(h, {2}, 220);
  };
  s.recover_and_check = [](media& m, const history& h) { return check_world(m, h, true); };
  s.continue_after = [](media& m, history& h) { go_on(m, h, true); };
  return s;
}
scenario identifier() {
  return make("open and close a QoS 2 identifier", [](world& w, history& h) {
    message msg;
    auto f = fields(1, 8);
    f.identifier_open = true;
    if (!w.stage(h, 1, f, msg)) return;
    w.t->add_references(msg.ref.index, queues);
    for (unsigned q = 0; q < queues; ++q)
      w.place(q, msg.ref);
    w.t->flush_staged(msg);
    for (unsigned q = 0; q < queues; ++q)
      w.m.flush(w.slot(q, 0), 8);
    w.m.drain();
    w.t->publish(msg);
    w.t->flush_published(msg);
    w.m.drain();
    h.ack(1, 1); // from here on the publisher's own reference is the identifier's
    w.consume_all(h, msg.ref);
    h.promise(closing, 1);
    if (!w.t->close_identifier(msg.ref)) h.fail("not open");
    w.t->flush_descriptor(msg.ref.index);
    w.m.drain();
    h.promise(closed, 1);
    w.t->drop_reference(msg.ref.index);
    w.publish(h, {2}, 8);
  });
}
scenario will() {
  return make("hold a will and fire it", [](world& w, history& h) {
    message msg;
    auto f = fields(1, 8);
    f.held = true;
    if (!w.stage(h, 1, f, msg)) return;
    w.t->flush_staged(msg);
    w.m.drain();
    w.t->publish(msg);
    w.t->flush_published(msg);
    w.m.drain();
    w.m.store(w.will(), world::pack(msg.ref));
    w.m.flush(w.will(), 8);
    w.m.drain();
    h.promise(held_kind, 1);
    // The will is sent: placed, drained, and published by the same commit word.
    h.promise(firing, 1);
    w.t->add_references(msg.ref.index, queues);
    for (unsigned q = 0; q < queues; ++q) {
      const unsigned i = w.place(q, msg.ref);
      w.m.flush(w.slot(q, i), 8);
    }
    w.m.drain();
    if (!w.t->publish_held(msg.ref)) h.fail("not held");
    w.t->flush_descriptor(msg.ref.index);
    w.m.drain();
    h.ack(1);
    w.m.store(w.will(), 0);
    w.m.flush(w.will(), 8);
    w.m.drain();
    w.t->drop_reference(msg.ref.index);
    w.consume_all(h, msg.ref);
    w.publish(h, {2}, 8);
  });
}
scenario growing(defect d = defect::none) {
  return make(
      "add a segment and publish into it",
      [](world& w, history& h) {
        const auto first = w.publish(h, {1, 2}, 8);
        if (first.empty()) return;
        w.consume_all(h, first[0]);
        w.grow();
        const auto refs = w.publish(h, {3, 4}, 8);
        if (refs.empty()) return;
        if (refs[0].index < layout.descriptors && refs[1].index < layout.descriptors)
          h.fail("nothing lies in the second segment");
        w.consume(h, 0, refs[1]);
      },
      false, d);
}

explorer_options options() {
  explorer_options o;
  o.seed = seed_from_environment(1);
  return o;
}

TEST(MessageCrash, EveryPublicationIsInAllQueuesOrInNone) {
  EXPECT_TRUE(explore(one(), options()).ok());
  EXPECT_TRUE(explore(burst(), options()).ok());
  EXPECT_TRUE(explore(at_once(), options()).ok());
}
TEST(MessageCrash, AMessageInSeveralExtentsIsWholeOrAbsent) {
  EXPECT_TRUE(explore(extents(), options()).ok());
}
TEST(MessageCrash, AMessageIsWholeOrAbsentWhenTheRecoveryDriverHasRun) {
  EXPECT_TRUE(explore(recovered_by_driver(), options()).ok());
}
TEST(MessageCrash, ReusedDescriptorsAndBlocksNeverShowTheirFormerMessage) {
  EXPECT_TRUE(explore(reuse(), options()).ok());
  EXPECT_TRUE(explore(reuse_beside_one_queue(), options()).ok());
}
TEST(MessageCrash, ARefusedMessageIsNeverDelivered) {
  EXPECT_TRUE(explore(refused(), options()).ok());
}
TEST(MessageCrash, AnOpenIdentifierStaysOpenAndAClosedOneClosed) {
  EXPECT_TRUE(explore(identifier(), options()).ok());
}
TEST(MessageCrash, AWillIsHeldUntilItIsPublished) {
  EXPECT_TRUE(explore(will(), options()).ok());
}
TEST(MessageCrash, AnAddedSegmentIsThereWithItsMessagesOrNotAtAll) {
  EXPECT_TRUE(explore(growing(), options()).ok());
}

TEST(MessageCrash, SeededBugsAreCaught) {
  const struct {
    const char* bug;
    scenario in;
  } cases[] = {
      {"chain.word0_last", reuse()},
      {"chain.staged_as_published", burst()},
      {"chain.list_not_flushed", extents()},
      {"chain.same_generation", reuse()},
      {"chain.freed_at_one_left", reuse_beside_one_queue()},
  };
  for (const auto& c : cases) {
    auto o = options();
    o.print = false;
    const test::seeded active_bug(c.bug);
    const auto report = explore(c.in, o);
    test::expect_found(c.bug, !report.ok(), report.failure.substr(0, report.failure.find('\n')));
  }
}

TEST(MessageCrash, CallersThatBreakTheOrderAreCaught) {
  const struct {
    const char* what;
    scenario in;
  } cases[] = {
      {"publish without the first drain", one(defect::no_first_drain)},
      {"acknowledge without the second drain", one(defect::no_second_drain)},
      {"drop a reference before the drain", reuse(defect::dropped_before_drain)},
      {"list a segment before its zeroes are drained", growing(defect::listed_before_zeroed)},
      {"use a segment before its list is drained", growing(defect::used_before_listed)},
  };
  for (const auto& c : cases) {
    auto o = options();
    o.print = false;
    const auto report = explore(c.in, o);
    EXPECT_FALSE(report.ok()) << c.what << " was not caught";
    std::printf("%s: caught: %s\n", c.what,
                report.failure.substr(0, report.failure.find('\n')).c_str());
  }
}

TEST(MessageCrash, EveryFlushIsNeeded) {
  mutation_options which;
  which.under = {"lib/message/", "lib/block/"};
  auto o = options();
  o.print = false;
  const auto report =
      mutate({one(), at_once(), extents(), reuse(), identifier(), recovered_by_driver()}, o, which);
  std::printf("%s", report.text().c_str());
  EXPECT_EQ(report.baseline, "");
  EXPECT_EQ(report.survivors(), std::vector<std::string>{});
}

} // namespace
} // namespace chainring::test
