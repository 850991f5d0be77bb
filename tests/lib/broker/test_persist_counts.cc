// SPDX-License-Identifier: BSD-3-Clause
/// The lines that operations flush and the drains they make: golden numbers. Each constant names
/// its lines. A changed number is a changed protocol, and the commit that changes it says why.
#include <vector>

#include "broker_fixture.h"
#include "lib/map/map_fixture.h"
#include "lib/ring/ring_fixture.h"
#include "support/eal_main.h"

namespace chainring::testing_broker {
namespace {

/// Counts the lines flushed up to each drain. `open` counts lines flushed behind the last drain.
class drain_counter final : public persist_observer {
 public:
  explicit drain_counter(media& m) : media_(m) { media_.observe(this); }
  ~drain_counter() override { media_.observe(nullptr); }
  drain_counter(const drain_counter&) = delete;
  drain_counter& operator=(const drain_counter&) = delete;

  void on_store(const std::uint64_t*, std::uint64_t, const site&) noexcept override {}
  void on_write(const void*, const void*, std::size_t, const site&) noexcept override {}
  bool on_flush(const void* from, std::size_t n, const site&) noexcept override {
    const auto at = reinterpret_cast<std::uintptr_t>(from);
    open += (at + n + cacheline_size - 1) / cacheline_size - at / cacheline_size;
    return true;
  }
  bool on_drain(const site&) noexcept override {
    lines.push_back(std::exchange(open, 0));
    return true;
  }
  /// Returns the lines of each drain since the last call.
  std::vector<std::uint64_t> take() {
    EXPECT_EQ(open, 0u) << "lines were flushed and not drained";
    open = 0;
    return std::exchange(lines, {});
  }

  std::vector<std::uint64_t> lines;
  std::uint64_t open = 0;

 private:
  media& media_;
};

using lines = std::vector<std::uint64_t>;

// --- the broker ----------------------------------------------------------------------------------

constexpr std::uint64_t publisher = 1, first_subscriber = 100;

/// A publisher of topic "a/b" and its subscribers, whose queues have no ring yet.
struct audience {
  std::unique_ptr<bench> b;
  std::uint16_t topic = 0;
  unsigned subscribers;

  explicit audience(unsigned n) : subscribers(n) {
    store_layout layout;
    layout.sessions_max = n + 8;
    layout.subscriptions_max = n + 8;
    auto made =
        broker_on(memory_media(8 << 20, durability_class::process), small_config(), true, layout);
    EXPECT_TRUE(made) << made.error().message;
    b = std::make_unique<bench>(std::move(*made));
    b->connect(publisher, "publisher", true);
    topic = b->register_name(publisher, "a/b");
    for (unsigned i = 0; i < n; ++i) {
      b->connect(first_subscriber + i, "s" + std::to_string(i), true);
      b->subscribe(first_subscriber + i, "a/b", sn::qos_level::one);
    }
  }
  media& medium() const { return b->broker->region().medium(); }
  /// Publishes `n` messages of that many octets in one burst.
  void publish(unsigned n = 1, std::size_t size = 8) const {
    const std::string text(size, 'x');
    for (unsigned i = 0; i < n; ++i)
      b->send(publisher, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                                     .topic_id = topic,
                                     .msg_id = static_cast<std::uint16_t>(i + 1),
                                     .data = std::as_bytes(std::span(text))});
    b->round();
    for (unsigned i = 0; i < n; ++i) {
      auto r = b->next(publisher);
      ASSERT_TRUE(r && r->get<sn::puback>());
      EXPECT_EQ(r->get<sn::puback>()->code, sn::return_code::accepted);
    }
    for (unsigned i = 64; i < subscribers; i += 64) // a wide fan-out is delivered in parts
      b->round();
  }
  /// Sends the PUBACK of every subscriber for the messages it got, in one burst.
  void acknowledge() const {
    for (unsigned i = 0; i < subscribers; ++i) {
      auto r = b->next(first_subscriber + i);
      ASSERT_TRUE(r && r->get<sn::publish>());
      const auto* p = r->get<sn::publish>();
      b->send(first_subscriber + i, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
    }
    b->round();
  }
};

class PublishCounts : public testing::TestWithParam<unsigned> {};

TEST_P(PublishCounts, APublishOfAnyFanOutTakesTwoDrains) {
  const unsigned n = GetParam();
  const audience a(n);
  a.publish();
  a.acknowledge();
  drain_counter seen(a.medium());
  a.publish();
  // Drain 1 has the line of the content and one slot line in each queue; drain 2 has the
  // descriptor.
  EXPECT_EQ(seen.take(), (lines{1 + n, 1}));
  a.acknowledge();
  // The drain has the head of each queue.
  EXPECT_EQ(seen.take(), lines{n});
}

INSTANTIATE_TEST_SUITE_P(Subscribers, PublishCounts, testing::Values(1u, 8u, 100u));

TEST(PersistCounts, TheFirstPublishLinksTheRingOfEachQueueWithItsOwnDrain) {
  const audience a(8);
  drain_counter seen(a.medium());
  a.publish();
  // Each link has the record of its queue; then the two usual drains follow.
  EXPECT_EQ(seen.take(), (lines{1, 1, 1, 1, 1, 1, 1, 1, 1 + 8, 1}));
}

TEST(PersistCounts, AcksShareTheDrainsOfTheirBurst) {
  const audience a(1);
  a.publish();
  a.acknowledge();
  a.publish();
  drain_counter seen(a.medium());
  auto r = a.b->next(first_subscriber);
  ASSERT_TRUE(r && r->get<sn::publish>());
  a.b->send(first_subscriber, sn::puback{.topic_id = r->get<sn::publish>()->topic_id,
                                         .msg_id = r->get<sn::publish>()->msg_id});
  a.publish();
  // Drain 1 has the content, the slot, and the head that the acknowledgement moved; drain 2 the
  // descriptor.
  EXPECT_EQ(seen.take(), (lines{3, 1}));
}

TEST(PersistCounts, ABurstOfMessagesHasTwoDrains) {
  const audience a(1);
  a.publish();
  a.acknowledge();
  drain_counter seen(a.medium());
  a.publish(4);
  // Drain 1 has four contents, and four slots of 16 bytes behind a used one, which take two lines;
  // drain 2 has four descriptors.
  EXPECT_EQ(seen.take(), (lines{4 + 2, 4}));
}

TEST(PersistCounts, LongContentIsFlushedLineByLine) {
  const audience a(1);
  a.publish();
  a.acknowledge();
  drain_counter seen(a.medium());
  a.publish(1, 1000);
  // Drain 1 has 16 lines of topic and payload (1,003 octets) and the slot; drain 2 the descriptor.
  EXPECT_EQ(seen.take(), (lines{16 + 1, 1}));
}

TEST(PersistCounts, NothingIsPersistedForAMessageWithoutSubscribers) {
  const audience a(0);
  drain_counter seen(a.medium());
  a.publish();
  EXPECT_EQ(seen.take(), lines{});
}

/// A publisher at QoS 2 and one subscriber at QoS 2, which have had one exchange.
struct exactly_once : audience {
  exactly_once() : audience(1) {
    b->subscribe(first_subscriber, "a/b", sn::qos_level::two);
    publish_at_2();
    release();
    receive();
    complete();
  }
  void publish_at_2(std::uint16_t msg_id = 1) const {
    b->send(publisher, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::two),
                                   .topic_id = topic,
                                   .msg_id = msg_id});
    b->round();
    auto r = b->next(publisher);
    ASSERT_TRUE(r && r->get<sn::pubrec>());
  }
  void release() const {
    b->send(publisher, sn::pubrel{.msg_id = 1});
    b->round();
    auto r = b->next(publisher);
    ASSERT_TRUE(r && r->get<sn::pubcomp>());
  }
  void receive() {
    auto r = b->next(first_subscriber);
    ASSERT_TRUE(r && r->get<sn::publish>());
    msg_id = r->get<sn::publish>()->msg_id;
    b->send(first_subscriber, sn::pubrec{.msg_id = msg_id});
    b->round();
    r = b->next(first_subscriber);
    ASSERT_TRUE(r && r->get<sn::pubrel>());
  }
  void complete() const {
    b->send(first_subscriber, sn::pubcomp{.msg_id = msg_id});
    b->round();
  }
  std::uint16_t msg_id = 0;
};

TEST(PersistCounts, QosTwoTakesOneDrainMoreOnEachSide) {
  exactly_once a;
  drain_counter seen(a.medium());
  a.publish_at_2();
  // As at QoS 1: the content and the slot, then the descriptor, which has the open identifier.
  EXPECT_EQ(seen.take(), (lines{1 + 1, 1}));
  a.publish_at_2();
  EXPECT_EQ(seen.take(), lines{}) << "a repetition persists nothing";
  a.release();
  EXPECT_EQ(seen.take(), lines{1}); // the descriptor, whose identifier is closed
  a.release();
  EXPECT_EQ(seen.take(), lines{}) << "a release that is repeated persists nothing";
  a.receive();
  EXPECT_EQ(seen.take(), lines{1}); // the slot
  a.complete();
  EXPECT_EQ(seen.take(), lines{1}); // the head
}

TEST(PersistCounts, AReleaseSharesTheDrainsOfItsBurst) {
  const exactly_once a;
  a.publish_at_2();
  drain_counter seen(a.medium());
  a.b->send(publisher, sn::pubrel{.msg_id = 1});
  a.b->send(publisher, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::two),
                                   .topic_id = a.topic,
                                   .msg_id = 2});
  a.b->round();
  EXPECT_EQ(a.b->out.sent[publisher].size(), 2u);
  // Drain 1 has the closed descriptor, the content and the slot; drain 2 the new descriptor.
  EXPECT_EQ(seen.take(), (lines{3, 1}));
}

TEST(PersistCounts, AMessageAtQosTwoWithoutSubscribersIsPersistedForItsIdentifier) {
  const audience a(0);
  drain_counter seen(a.medium());
  a.b->send(publisher, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::two),
                                   .topic_id = a.topic,
                                   .msg_id = 1});
  a.b->round();
  EXPECT_EQ(seen.take(), (lines{1, 1})); // the content, then the descriptor
}

TEST(PersistCounts, SessionsAndSubscriptionsOfABurstShareItsDrain) {
  const audience a(8);
  constexpr std::uint64_t first = 500;
  drain_counter seen(a.medium());
  for (unsigned i = 0; i < 4; ++i)
    a.b->send(first + i, sn::connect{.flags = sn::flags{}.with_clean(false),
                                     .client_id = std::string_view("wxyz").substr(i, 1)});
  a.b->settle();
  // The drain has both lines of each record.
  EXPECT_EQ(seen.take(), lines{4 * 2});
  for (unsigned i = 0; i < 4; ++i)
    a.b->send(first + i, sn::subscribe{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                                       .msg_id = 1,
                                       .topic = "c/d"});
  a.b->settle();
  // The drain has one cell for each subscription.
  EXPECT_EQ(seen.take(), lines{4});
  for (unsigned i = 0; i < 4; ++i)
    a.b->send(first + i, sn::unsubscribe{.msg_id = 2, .topic = "c/d"});
  a.b->settle();
  EXPECT_EQ(seen.take(), lines{4});
}

TEST(PersistCounts, ARetainedPublishAddsTheLineOfItsTopicToTheFirstDrain) {
  const audience a(1);
  const auto retain = [&](std::string_view text) {
    a.b->send(publisher,
              sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one).with_retain(),
                          .topic_id = a.topic,
                          .msg_id = 9,
                          .data = std::as_bytes(std::span(text))});
    a.b->round();
    auto r = a.b->next(publisher);
    ASSERT_TRUE(r && r->get<sn::puback>());
    EXPECT_EQ(r->get<sn::puback>()->code, sn::return_code::accepted);
  };
  a.publish();
  a.acknowledge();
  drain_counter seen(a.medium());
  for (int i = 0; i < 2; ++i) { // set, and replaced
    retain("text");
    // Drain 1 has the content, the slot and the cell; drain 2 the descriptor.
    EXPECT_EQ(seen.take(), (lines{1 + 1 + 1, 1}));
    a.acknowledge();
    EXPECT_EQ(seen.take(), lines{1}); // the head
  }
  retain("");
  EXPECT_EQ(seen.take(), (lines{1 + 1 + 1, 1}));
  a.acknowledge();
  // The tombstone's cell is erased with the next burst, which has a head to make durable too.
  EXPECT_EQ(seen.take(), lines{1 + 1});
}

TEST(PersistCounts, ATopicThatNobodySubscribesToIsRetainedInTwoDrainsAndClearedInOne) {
  const audience a(0);
  const auto retain = [&](std::string_view text) {
    a.b->send(publisher, sn::publish{.flags = sn::flags{}.with_retain(),
                                     .topic_id = a.topic,
                                     .data = std::as_bytes(std::span(text))});
    a.b->settle();
  };
  drain_counter seen(a.medium());
  retain("text");
  EXPECT_EQ(seen.take(), (lines{1 + 1, 1})); // content and cell; descriptor
  retain("");
  EXPECT_EQ(seen.take(), lines{1}); // the cell
}

TEST(PersistCounts, ALongTopicNameIsDrainedBeforeItsCellOnce) {
  const audience a(0);
  const std::string name(100, 't');
  const auto id = a.b->register_name(publisher, name);
  const auto retain = [&] {
    a.b->send(publisher, sn::publish{.flags = sn::flags{}.with_retain(),
                                     .topic_id = id,
                                     .data = std::as_bytes(std::span("x", 1))});
    a.b->settle();
  };
  drain_counter seen(a.medium());
  retain();
  // The name has two lines; then come the content with the name (101 octets) and the cell.
  EXPECT_EQ(seen.take(), (lines{2, 2 + 1, 1}));
  retain();
  EXPECT_EQ(seen.take(), (lines{2 + 1, 1}));
}

TEST(PersistCounts, AGroupPersistsAMessageOnceForAllItsMembers) {
  audience a(0);
  a.subscribers = 2;
  const auto join = [&](unsigned member) {
    a.b->connect(first_subscriber + member, member == 0 ? "m0" : "m1", false);
    drain_counter seen(a.medium());
    a.b->subscribe(first_subscriber + member, "$share/g/a/b", sn::qos_level::one);
    return seen.take();
  };
  // The two lines of the group's record and the cell of the subscription. The second member
  // flushes the record too, because another worker could have stored it.
  EXPECT_EQ(join(0), lines{2 + 1});
  EXPECT_EQ(join(1), lines{2 + 1});
  drain_counter seen(a.medium());
  a.publish(2);
  // Groups have no rings in stock, so the 16 slots of 16 bytes are cleared first. The link of the
  // ring follows; then two contents and two slots in one line; then two descriptors.
  EXPECT_EQ(seen.take(), (lines{4, 1, 2 + 1, 2}));
  std::vector<sn::puback> answers;
  for (unsigned m = 0; m < 2; ++m) {
    auto r = a.b->next(first_subscriber + m);
    ASSERT_TRUE(r && r->get<sn::publish>()) << "member " << m;
    const auto* p = r->get<sn::publish>();
    answers.push_back({.topic_id = p->topic_id, .msg_id = p->msg_id});
  }
  for (unsigned m = 0; m < 2; ++m) {
    a.b->send(first_subscriber + m, answers[m]);
    a.b->settle();
    // The slot where the acknowledgement is out of order, else the head.
    EXPECT_EQ(seen.take(), lines{1}) << "member " << m;
  }
  for (unsigned m = 0; m < 2; ++m) {
    a.b->send(first_subscriber + m, sn::unsubscribe{.msg_id = 9, .topic = "$share/g/a/b"});
    a.b->settle();
    // The cell. With the last member the group's record follows, and then its queue's.
    EXPECT_EQ(seen.take(), m == 0 ? lines{1} : (lines{1, 2, 1})) << "member " << m;
  }
}

TEST(PersistCounts, AMemberAtQos2TakesAMessageOfItsGroupWithTwoDrainsMore) {
  audience a(0);
  a.subscribers = 1;
  a.b->connect(first_subscriber, "m0", false);
  a.b->subscribe(first_subscriber, "$share/g/a/b", sn::qos_level::two);
  const auto id = a.b->register_name(publisher, "a/b");
  const auto publish = [&](std::uint16_t msg_id) {
    a.b->send(publisher, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::two),
                                     .topic_id = id,
                                     .msg_id = msg_id,
                                     .data = std::as_bytes(std::span("x", 1))});
    a.b->settle();
  };
  publish(1); // both queues get their first ring
  drain_counter seen(a.medium());
  const auto finish = [&](std::uint16_t msg_id) {
    a.b->send(first_subscriber, sn::pubrec{.msg_id = msg_id});
    a.b->send(first_subscriber, sn::pubcomp{.msg_id = msg_id});
    a.b->settle();
    (void)seen.take();
  };
  finish(1);
  publish(2);
  // The content with the slot of the group's queue, and the descriptor; then the two slots in the
  // member's own queue, and the slot that is marked as moved; then the head of the group's queue.
  EXPECT_EQ(seen.take(), (lines{2, 1, 1, 1, 1}));
}

TEST(PersistCounts, RetainedMessagesForASubscriptionShareItsBurstsAndAreNotPublishedAgain) {
  const audience a(0);
  constexpr client_address newcomer = 500;
  for (const char* name : {"r/1", "r/2", "r/3"}) {
    const auto id = a.b->register_name(publisher, name);
    a.b->send(publisher,
              sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one).with_retain(),
                          .topic_id = id,
                          .msg_id = 1,
                          .data = std::as_bytes(std::span("x", 1))});
    a.b->settle();
    (void)a.b->next(publisher);
  }
  a.b->connect(newcomer, "newcomer", true);
  drain_counter seen(a.medium());
  a.b->subscribe(newcomer, "r/+", sn::qos_level::one);
  // The cell of the subscription; the link of the queue's ring; three slots of 16 bytes.
  EXPECT_EQ(seen.take(), (lines{1, 1, 1}));
}

// --- queues --------------------------------------------------------------------------------------

TEST(PersistCounts, ABurstOfAValueQueueHasOneDrainAndItsHeadSharesTheNext) {
  test::queue_layout l;
  l.values = true;
  l.options.slots = 64;
  auto m = memory_media(l.size(), durability_class::process);
  test::queues_on_media q(*m, l);
  ASSERT_EQ(q->link_now(0), link_status::ready);
  std::vector<std::uint64_t> values(32);
  std::vector<leased> got(32);
  drain_counter seen(*m);
  placement p;
  ASSERT_EQ(q->enqueue_burst(0, values, p), 32u);
  q->place_flush(p);
  m->drain();
  q->place_finish(p);
  EXPECT_EQ(seen.take(), lines{8}); // 32 slots of 16 bytes
  ASSERT_EQ(q->lease(0, got), 32u);
  q.consumer().ack_through(0, got.back().ticket());
  EXPECT_EQ(seen.take(), lines{}); // leases and acks in order store nothing on media
  ASSERT_EQ(q->enqueue_burst(0, {values.data(), 16}, p), 16u);
  ASSERT_TRUE(q->release_start(0));
  q->place_flush(p);
  q->release_flush(0);
  m->drain();
  q->place_finish(p);
  q->release_finish(0);
  EXPECT_EQ(seen.take(), lines{4 + 1}); // the slots, and the record with the head
}

TEST(PersistCounts, AnAckOutOfOrderFlushesOneLine) {
  test::queue_layout l;
  l.values = true;
  auto m = memory_media(l.size(), durability_class::process);
  test::queues_on_media q(*m, l);
  ASSERT_EQ(q->link_now(0), link_status::ready);
  const std::vector<std::uint64_t> values(2);
  placement p;
  ASSERT_EQ(q->enqueue_burst(0, values, p), 2u);
  q->place_flush(p);
  m->drain();
  q->place_finish(p);
  std::vector<leased> got(2);
  ASSERT_EQ(q->lease(0, got), 2u);
  drain_counter seen(*m);
  ASSERT_EQ(q->ack(0, got[1].ticket()), ack_status::marked);
  q.consumer().flush_slot(0, got[1].ticket());
  m->drain();
  EXPECT_EQ(seen.take(), lines{1});
  ASSERT_EQ(q->ack(0, got[0].ticket()), ack_status::advanced);
  EXPECT_EQ(q.release(0), 2u);
  EXPECT_EQ(seen.take(), lines{1}); // the head, which has passed both entries
}

TEST(PersistCounts, ALinkFlushesOneLineBecauseItsRingWasClearedBefore) {
  test::queue_layout l;
  l.values = true;
  l.options.rings_max = l.options.stock + 1;
  auto m = memory_media(l.size(), durability_class::process);
  test::queues_on_media q(*m, l);
  drain_counter seen(*m);
  ASSERT_EQ(q->link_start(0), link_status::linking);
  q->link_flush(0);
  m->drain();
  q->link_finish(0);
  EXPECT_EQ(seen.take(), lines{1}); // the queue's record
  ASSERT_EQ(q->refill(), 1u);
  EXPECT_EQ(seen.take(), lines{2}); // eight slots of the ring that replaces it in the stock
}

// --- the map -------------------------------------------------------------------------------------

struct counted_map {
  std::unique_ptr<media> m = memory_media(test::map_layout{}.size(), durability_class::process);
  test::opened_map map{*m, {}};
  drain_counter seen{*m};
};

const std::string long_text(200, 'v');

TEST(PersistCounts, AChangeOfAMapFlushesOneLine) {
  counted_map c;
  ASSERT_EQ(c.map->insert(bytes_of("k"), bytes_of("1")), map_status::done);
  EXPECT_EQ(c.seen.take(), lines{1}); // the cell: key, half and commit word
  ASSERT_EQ(c.map->update(bytes_of("k"), bytes_of("2")), map_status::done);
  EXPECT_EQ(c.seen.take(), lines{1}); // the cell: the other half and commit word
  ASSERT_EQ(c.map->upsert(bytes_of("k"), bytes_of("3")), map_status::done);
  EXPECT_EQ(c.seen.take(), lines{1});
  ASSERT_EQ(c.map->upsert(bytes_of("l"), bytes_of("4")), map_status::done);
  EXPECT_EQ(c.seen.take(), lines{1});
  ASSERT_EQ(c.map->compare_exchange(bytes_of("l"), bytes_of("4"), bytes_of("5")), map_status::done);
  EXPECT_EQ(c.seen.take(), lines{1});
  ASSERT_EQ(c.map->erase(bytes_of("k")), map_status::done);
  EXPECT_EQ(c.seen.take(), lines{1}); // the commit word
}

TEST(PersistCounts, ARefusedChangeOfAMapPersistsNothing) {
  counted_map c;
  ASSERT_EQ(c.map->insert(bytes_of("k"), bytes_of("1")), map_status::done);
  c.seen.take();
  EXPECT_EQ(c.map->insert(bytes_of("k"), bytes_of("2")), map_status::exists);
  EXPECT_EQ(c.map->update(bytes_of("l"), bytes_of("2")), map_status::missing);
  EXPECT_EQ(c.map->erase(bytes_of("l")), map_status::missing);
  EXPECT_EQ(c.map->compare_exchange(bytes_of("k"), bytes_of("2"), bytes_of("3")),
            map_status::mismatch);
  EXPECT_EQ(c.seen.take(), lines{});
}

TEST(PersistCounts, ALongKeyAndValueOfAMapAreDrainedBeforeTheCell) {
  counted_map c;
  const std::string long_key(100, 'k');
  ASSERT_EQ(c.map->insert(bytes_of(long_key), bytes_of(long_text)), map_status::done);
  EXPECT_EQ(c.seen.take(), (lines{2 + 4, 1})); // drain 1 has 100 and 200 bytes, drain 2 the cell
  ASSERT_EQ(c.map->update(bytes_of(long_key), bytes_of(long_text)), map_status::done);
  EXPECT_EQ(c.seen.take(), (lines{4, 1}));
  ASSERT_EQ(c.map->update(bytes_of(long_key), bytes_of("short")), map_status::done);
  EXPECT_EQ(c.seen.take(), lines{1});
  ASSERT_EQ(c.map->erase(bytes_of(long_key)), map_status::done);
  EXPECT_EQ(c.seen.take(), lines{1});
}

TEST(PersistCounts, ABatchOfAMapHasOneDrainOrTwo) {
  counted_map c;
  {
    durable_map::batch b(*c.map);
    for (std::uint64_t i = 0; i < 5; ++i)
      ASSERT_EQ(b.insert(bytes_of(i), bytes_of(i)), map_status::done);
    b.commit();
  }
  EXPECT_EQ(c.seen.take(), lines{5}); // the cells
  {
    durable_map::batch b(*c.map);
    ASSERT_EQ(b.update(bytes_of(std::uint64_t{0}), bytes_of(long_text)), map_status::done);
    ASSERT_EQ(b.update(bytes_of(std::uint64_t{1}), bytes_of(long_text)), map_status::done);
    ASSERT_EQ(b.erase(bytes_of(std::uint64_t{2})), map_status::done);
    b.commit();
  }
  EXPECT_EQ(c.seen.take(),
            (lines{4 + 4, 3})); // drain 1 has two values of 200 bytes, drain 2 the cells
  {
    durable_map::batch b(*c.map);
    ASSERT_EQ(b.update(bytes_of(std::uint64_t{3}), bytes_of("a")), map_status::done);
    ASSERT_EQ(b.update(bytes_of(std::uint64_t{3}), bytes_of("b")), map_status::done);
    b.commit();
  }
  EXPECT_EQ(c.seen.take(), (lines{1, 1})); // a second change of one key commits the first
}

} // namespace
} // namespace chainring::testing_broker
