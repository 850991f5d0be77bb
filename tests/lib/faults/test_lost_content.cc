// SPDX-License-Identifier: BSD-3-Clause
// Pages are lost that held messages or nothing. Those messages are not delivered, and everything
// else is served, with acknowledgements that hold. If a lost page held anything else, the region
// fails.
#include <algorithm>
#include <rte_lcore.h>
#include <thread>

#include "base/hook.h"
#include "broker/access.h"
#include "lost_memory.h"
#include "ring/ring_media.h"
#include "support/eal_main.h"

namespace chainring::test_faults {
namespace {

constexpr int hang_ms = 60'000; // detects hangs, and nothing else

constexpr std::uint64_t publisher = 1, one = 2, two = 3;

/// The text of message `i`. Any two texts differ in every few octets.
std::string text_of(int i) {
  std::string s;
  for (int k = 0; s.size() < 1300; ++k)
    s += "message " + std::to_string(i) + " part " + std::to_string(k) + "; ";
  return s;
}

/// A broker on the file of a region, its publisher, and two durable subscribers.
struct world {
  std::unique_ptr<bench> b;
  std::uint16_t ab = 0, cd = 0;
  std::uint16_t next_id = 0;

  explicit world(std::unique_ptr<region> backing, bool fresh = true, broker_config c = config(),
                 const sn::gateway_config& g = small_gateway()) {
    auto opened = broker::open(std::move(backing), c);
    EXPECT_TRUE(opened) << opened.error().message;
    b = std::make_unique<bench>(std::move(*opened), g);
    EXPECT_EQ(b->connect(publisher, "publisher", true), sn::return_code::accepted);
    ab = b->register_name(publisher, "a/b");
    cd = b->register_name(publisher, "c/d");
    if (!fresh) return;
    b->connect(one, "one", false);
    b->subscribe(one, "a/b", sn::qos_level::one);
    leave(one);
    b->connect(two, "two", false);
    b->subscribe(two, "c/d", sn::qos_level::one);
    leave(two);
  }
  static broker_config config() {
    broker_config c = small_config();
    c.queue_slots = 127;
    return c;
  }
  region& served_region() const { return b->broker->region(); }
  std::uint64_t damaged() const { return b->broker->counters().damaged; }

  void leave(client_address who) { (void)b->ask<sn::disconnect>(who, sn::disconnect{}); }
  /// Returns false if there is no answer, or an answer other than accepted.
  bool publish(std::uint16_t topic, const std::string& text, bool retain = false) {
    b->send(publisher,
            sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one).with_retain(retain),
                        .topic_id = topic,
                        .msg_id = ++next_id,
                        .data = std::as_bytes(std::span(text))});
    b->settle();
    const auto r = b->next(publisher);
    if (!r || !r->get<sn::puback>()) return false;
    EXPECT_EQ(r->get<sn::puback>()->msg_id, next_id);
    return r->get<sn::puback>()->code == sn::return_code::accepted;
  }
  /// Takes everything that waits for the subscriber, and acknowledges it.
  std::vector<std::string> collect(client_address who, const char* id) {
    EXPECT_EQ(b->connect(who, id, false), sn::return_code::accepted);
    std::vector<std::string> got;
    for (std::string text = b->take(who); text != "(nothing)"; text = b->take(who))
      got.push_back(text);
    leave(who);
    return got;
  }
  /// Where the content of this text's message begins, which starts with the topic. Call it before
  /// anything is lost.
  std::uint64_t place_of(const std::string& text) const {
    const std::byte* from = served_region().at(served_region().geometry().block_offset);
    const std::byte* end = served_region().at(served_region().geometry().size);
    const auto wanted = std::as_bytes(std::span(text));
    const std::byte* found = std::search(from, end, wanted.begin(), wanted.end());
    EXPECT_NE(found, end);
    return served_region().offset_of(found) - 3;
  }
  /// The numbered texts whose content does not touch the page.
  std::vector<std::string> outside(const std::map<int, std::uint64_t>& places,
                                   std::uint64_t lost) const {
    std::vector<std::string> whole;
    for (const auto& [i, at] : places)
      if (at / page > lost || (at + 3 + text_of(i).size() - 1) / page < lost)
        whole.push_back(text_of(i));
    return whole;
  }
};

/// A configuration in which rings have several pages.
broker_config large_rings() {
  broker_config c = small_config();
  c.queue_slots = 1023;
  c.queue_slots_first = 0;
  return c;
}

class LostContent : public OnAPlace {};

TEST_P(LostContent, AMessageWhoseMemoryIsLostIsNotDeliveredAndAllOthersAre) {
  world w(made());
  std::map<int, std::uint64_t> for_one, for_two;
  for (int i = 0; i < 16; ++i)
    ASSERT_TRUE(w.publish(i % 4 == 3 ? w.cd : w.ab, text_of(i)));
  for (int i = 0; i < 16; ++i)
    (i % 4 == 3 ? for_two : for_one)[i] = w.place_of(text_of(i));
  const std::uint64_t lost = (for_one[6] + 600) / page;
  poison(w.served_region().medium(), lost * page);
  const auto whole_one = w.outside(for_one, lost), whole_two = w.outside(for_two, lost);
  ASSERT_LT(whole_one.size(), for_one.size());
  EXPECT_EQ(w.collect(one, "one"), whole_one);
  EXPECT_EQ(w.collect(two, "two"), whole_two);
  EXPECT_EQ(w.damaged(), 16 - whole_one.size() - whole_two.size());

  EXPECT_FALSE(w.served_region().failed()) << w.served_region().why_failed();
  EXPECT_EQ(w.served_region().medium().lost_pages(), 1u);
  EXPECT_EQ(w.served_region().medium().lost_page(0) / page, lost);
  const std::string said = w.served_region().loss(0);
  const std::uint64_t block =
      (w.served_region().medium().lost_page(0) - w.served_region().geometry().block_offset) / 256;
  for (const std::string& part :
       {options_.media.path, std::string("is gone"), "block " + std::to_string(block)})
    EXPECT_NE(said.find(part), std::string::npos) << said;
  EXPECT_EQ(w.served_region().loss(1), "");

  for (int i = 20; i < 60; ++i)
    EXPECT_TRUE(w.publish(i % 2 == 0 ? w.ab : w.cd, text_of(i))) << i;
  const auto more = w.collect(one, "one");
  EXPECT_EQ(more.size(), 20u);
  EXPECT_EQ(more.front(), text_of(20));
  EXPECT_TRUE(w.publish(w.ab, "the last"));
  EXPECT_TRUE(w.b->broker->close());
  w.b.reset();

  world again(opened(), false);
  EXPECT_TRUE(again.served_region().was_clean());
  EXPECT_EQ(again.collect(one, "one"), std::vector<std::string>{"the last"});
  EXPECT_EQ(again.collect(two, "two").size(), 20u);
}

TEST_P(LostContent, ATruncationOfTheLastBlocksLeavesTheRestServed) {
  world w(made());
  std::map<int, std::uint64_t> places;
  for (int i = 0; i < 16; ++i)
    ASSERT_TRUE(w.publish(w.ab, text_of(i)));
  for (int i = 0; i < 16; ++i)
    places[i] = w.place_of(text_of(i));
  const std::uint64_t kept = (places[9] / page) * page;
  cut(kept);
  std::vector<std::string> whole;
  for (int i = 0; i < 16; ++i)
    if (places[i] + 3 + text_of(i).size() <= kept) whole.push_back(text_of(i));
  ASSERT_GT(whole.size(), 4u);
  EXPECT_EQ(w.collect(one, "one"), whole);
  EXPECT_EQ(w.damaged(), 16 - whole.size());
  EXPECT_FALSE(w.served_region().failed());
  // The free memory is lost too, except for what was just released. It is found little by little.
  bool accepted = false;
  for (int tries = 0; tries < 100 && !accepted; ++tries)
    accepted = w.publish(w.ab, "found room");
  EXPECT_TRUE(accepted);
  EXPECT_EQ(w.collect(one, "one").back(), "found room");
  EXPECT_FALSE(w.served_region().failed());
  EXPECT_TRUE(broker_access::state(*w.b->broker).blocks().check());
  EXPECT_TRUE(w.b->broker->close());
  w.b.reset();
  EXPECT_FALSE(region::open(options_.media)) << "the file is shorter than its superblock says";
}

TEST_P(LostContent, ALossWhereAMessageIsWrittenIsFoundBeforeItsAcknowledgement) {
  world w(made());
  ASSERT_TRUE(w.publish(w.ab, text_of(0)));
  const std::uint64_t at = w.place_of(text_of(0)) / page;
  for (const std::uint64_t p : {at + 2, at + 5, at + 6}) // the next messages would lie there
    poison(w.served_region().medium(), p * page);
  int unanswered = 0;
  std::vector<std::string> acked{text_of(0)};
  for (int i = 1; i < 40; ++i) {
    for (int tries = 0; !w.publish(w.ab, text_of(i)); ++tries, ++unanswered)
      ASSERT_LT(tries, 3) << i;
    acked.push_back(text_of(i));
  }
  EXPECT_EQ(w.served_region().medium().lost_pages(), 3u);
  EXPECT_EQ(unanswered, 1)
      << "once memory was lost, the store checks memory before it hands it out";
  EXPECT_FALSE(w.served_region().failed());
  const block_store& blocks = broker_access::state(*w.b->broker).blocks();
  EXPECT_TRUE(blocks.check());
  const block_store_statistics s = blocks.statistics();
  EXPECT_GT(s.withheld_blocks, 0u);
  EXPECT_EQ(s.free_blocks + s.live_blocks, s.block_count);
  w.b.reset(); // a crash: what was written to the zeros is not in the file

  world again(opened(), false);
  EXPECT_EQ(again.collect(one, "one"), acked);
  EXPECT_EQ(again.damaged(), 1u) << "only the message that was not acknowledged is damaged";
}

// The publisher got no answer and sends the same message again with the same packet id. The first
// copy is published with its identifier, and must not swallow the second one.
TEST_P(LostContent, AMessageAtQosTwoThatIsSentAgainAfterALossIsDeliveredOnce) {
  world w(made());
  const auto attempt = [&](int i, bool dup) {
    const std::string text = text_of(i);
    w.b->send(publisher,
              sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::two).with_dup(dup),
                          .topic_id = w.ab,
                          .msg_id = 7,
                          .data = std::as_bytes(std::span(text))});
    w.b->settle();
    const auto r = w.b->next(publisher);
    return r && r->get<sn::pubrec>() != nullptr;
  };
  std::vector<std::string> acked;
  const auto publish = [&](int i) {
    int unanswered = 0;
    for (bool dup = false; !attempt(i, dup); dup = true)
      if (++unanswered == 3) return unanswered;
    acked.push_back(text_of(i));
    (void)w.b->ask<sn::pubcomp>(publisher, sn::pubrel{.msg_id = 7});
    return unanswered;
  };
  ASSERT_EQ(publish(0), 0);
  const std::uint64_t at = w.place_of(text_of(0)) / page;
  poison(w.served_region().medium(), (at + 2) * page); // one of the next messages would lie there
  int unanswered = 0;
  for (int i = 1; i < 20; ++i)
    unanswered += publish(i);
  EXPECT_EQ(unanswered, 1);
  EXPECT_EQ(w.b->broker->counters().repeated_qos2, 0u);
  EXPECT_EQ(w.collect(one, "one"), acked);
  EXPECT_EQ(w.damaged(), 1u) << "only the copy that was not acknowledged is damaged";
  w.b->settle();
  EXPECT_EQ(w.b->broker->message_statistics().live, 0u) << "the first identifier is closed as well";
}

// A topic keeps the last message that was acknowledged, in the broker that has lost the next one
// and in the one that opens behind its crash.
TEST_P(LostContent, ARetainedMessageIsNotReplacedByOneThatIsLostBeforeItsAcknowledgement) {
  constexpr client_address reader = 4;
  const auto retained = [&](world& w) {
    w.b->connect(reader, "reader", true);
    w.b->send(reader, sn::subscribe{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                                    .msg_id = 9,
                                    .topic = "e/f"});
    w.b->settle();
    const auto r = w.b->next(reader);
    EXPECT_TRUE(r && r->get<sn::suback>());
    const std::string text = w.b->take(reader);
    w.leave(reader);
    return text;
  };
  world w(made());
  const std::uint16_t ef = w.b->register_name(publisher, "e/f");
  // Retained messages that lie on pages of their own. Where the first one was, a next one will be.
  int last = -1;
  for (int others = 100; last < 2; ++others) {
    ASSERT_TRUE(w.publish(w.ab, text_of(others)));
    if (others % 4 != 3) continue;
    ASSERT_TRUE(w.publish(ef, text_of(++last), true));
  }
  poison(w.served_region().medium(), w.place_of(text_of(0)));
  while (w.publish(ef, text_of(last + 1), true))
    ASSERT_LT(++last, 20);
  ASSERT_EQ(w.served_region().medium().lost_pages(), 1u);
  EXPECT_EQ(retained(w), text_of(last));
  w.b.reset(); // a crash

  world again(opened(), false);
  EXPECT_EQ(retained(again), text_of(last));
  EXPECT_EQ(again.damaged(), 0u);
  const std::uint16_t once_more = again.b->register_name(publisher, "e/f");
  EXPECT_TRUE(again.publish(once_more, text_of(last + 1), true));
  EXPECT_EQ(retained(again), text_of(last + 1));
}

/// Which message is lost in the tests below. The first messages share a page with rings.
constexpr int chosen = 4;

struct at_hook {
  media* m = nullptr;
  std::uint64_t lost = 0;
  int before = 0; ///< how many calls to let pass first
};

TEST_P(LostContent, AMessageLostBetweenItsCheckAndItsNameIsNotSentUnderAnotherName) {
  world w(made());
  std::map<int, std::uint64_t> places;
  for (int i = 0; i < 8; ++i)
    ASSERT_TRUE(w.publish(w.ab, text_of(i)));
  for (int i = 0; i < 8; ++i)
    places[i] = w.place_of(text_of(i));
  const auto whole = w.outside(places, places[chosen] / page);
  static at_hook state;
  state = {&w.served_region().medium(), places[chosen], chosen};
  set_hook(
      [](const char* name, void*) noexcept {
        if (std::string_view(name) == "broker.deliver.verified" && state.before-- == 0)
          poison(*state.m, state.lost);
      },
      nullptr);
  w.b->send(one, sn::connect{.client_id = "one"});
  std::vector<std::string> got;
  for (w.b->settle(); auto r = w.b->next(one); w.b->settle()) {
    if (const auto* g = r->get<sn::register_topic>()) {
      EXPECT_EQ(g->topic, "a/b");
      w.b->send(one, sn::regack{.topic_id = g->topic_id, .msg_id = g->msg_id});
    } else if (const auto* p = r->get<sn::publish>()) {
      got.emplace_back(reinterpret_cast<const char*>(p->data.data()), p->data.size());
      w.b->send(one, sn::puback{.topic_id = p->topic_id, .msg_id = p->msg_id});
    }
  }
  set_hook(nullptr, nullptr);
  EXPECT_LT(state.before, 0);
  // Messages that were sent from that page before it was lost were intact.
  EXPECT_GE(got.size(), whole.size());
  EXPECT_EQ(std::ranges::count(got, text_of(chosen)), 0);
  for (const std::string& text : whole)
    EXPECT_EQ(std::ranges::count(got, text), 1);
  EXPECT_FALSE(w.served_region().failed());
  EXPECT_EQ(w.damaged(), 8 - got.size());
}

// The end of a session finishes what was placed before in this burst. Behind it a message is lost.
void lose_what_is_finished(world& w, bool more_work) {
  constexpr client_address leaving = 77;
  for (int i = 1; i < 8; ++i) // the first messages share a page with rings
    ASSERT_TRUE(w.publish(w.cd, text_of(i)));
  ASSERT_EQ(w.b->connect(one, "one", false), sn::return_code::accepted);
  ASSERT_TRUE(w.publish(w.ab, "before"));
  ASSERT_EQ(w.b->take(one), "before"); // it knows the topic's id now
  w.b->connect(leaving, "leaving", true);
  if (more_work) w.b->subscribe(leaving, "c/d", sn::qos_level::one);
  static world* in = nullptr;
  in = &w;
  set_hook(
      [](const char* name, void*) noexcept {
        if (std::string_view(name) != "broker.session.ended") return;
        media& m = in->served_region().medium();
        const std::uint64_t at = in->place_of("it is lost");
        poison(m, at);
        EXPECT_TRUE(m.lost(m.base() + at, 1)); // somebody finds it
      },
      nullptr);
  const std::string text = "it is lost";
  w.b->send(publisher, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                                   .topic_id = w.ab,
                                   .msg_id = 1001,
                                   .data = std::as_bytes(std::span(text))});
  w.b->send(leaving, sn::disconnect{});
  w.b->settle();
  set_hook(nullptr, nullptr);
  EXPECT_GT(w.served_region().medium().losses(), 0u);
  EXPECT_FALSE(w.b->next(publisher)) << "it is not durable, so its publisher sends it again";
  EXPECT_EQ(w.b->take(one), "(nothing)");
  EXPECT_FALSE(w.served_region().failed());
}

TEST_P(LostContent, AMessageLostBehindTheEndOfASessionIsNeitherSentNorAcknowledged) {
  world w(made());
  lose_what_is_finished(w, false);
}

TEST_P(LostContent,
       AMessageLostBehindTheEndOfASessionWithSubscriptionsIsNeitherSentNorAcknowledged) {
  world w(made());
  lose_what_is_finished(w, true);
}

TEST_P(LostContent, APublishThatWaitedForRoomIsNotAcknowledgedWhereItWasLostMeanwhile) {
  broker_config c = small_config();
  c.workers = 2;
  c.queue_slots = 3;
  c.queue_slots_first = 0;
  c.overflow = overflow_policy::drop_oldest;
  world w(made(), true, c);
  broker& b = *w.b->broker;
  const unsigned home = b.home_of("publisher");
  const auto id_with = [&](std::string id, bool same) {
    while ((b.home_of(id) == home) != same)
      id += 'x';
    return id;
  };
  constexpr client_address full = 77, busy = 78;
  w.b->connect(full, id_with("full", false), false);
  w.b->subscribe(full, "e/f", sn::qos_level::one);
  w.leave(full);
  ASSERT_EQ(w.b->connect(busy, id_with("busy", true), true), sn::return_code::accepted);
  const std::uint16_t of_busy = w.b->register_name(busy, "c/d");
  const std::uint16_t ef = w.b->register_name(publisher, "e/f");
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(w.publish(ef, text_of(i)));
  const std::string text = text_of(3);
  w.b->send(publisher, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                                   .topic_id = ef,
                                   .msg_id = 1001,
                                   .data = std::as_bytes(std::span(text))});
  w.b->turn(home);
  ASSERT_EQ(b.counters().set_aside, 1u);
  media& m = w.served_region().medium();
  const std::uint64_t at = w.place_of(text);
  poison(m, at);
  EXPECT_TRUE(m.lost(m.base() + at, 1));
  w.b->send(busy, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                              .topic_id = of_busy,
                              .msg_id = 1,
                              .data = std::as_bytes(std::span("x", 1))});
  w.b->turn(home); // this burst has seen the loss
  w.b->settle();
  EXPECT_FALSE(w.b->next(publisher)) << "it is not durable, so its publisher sends it again";
  EXPECT_FALSE(w.served_region().failed());
}

/// Loses memory just before a message is copied out.
class losing_transport final : public net::transport {
 public:
  losing_transport(recording_transport& to, media& m, std::uint64_t lost)
      : to_(to), m_(m), lost_(lost) {}
  std::span<std::byte> begin(client_address to, std::size_t size) noexcept override {
    if (size > 1000 && ++messages == chosen + 1) poison(m_, lost_);
    return to_.begin(to, size);
  }
  void commit(std::size_t size) noexcept override { to_.commit(size); }
  void release(mark_t mark) noexcept override { to_.release(mark); }
  int messages = 0;

 private:
  recording_transport& to_;
  media& m_;
  std::uint64_t lost_;
};

TEST_P(LostContent, AMessageLostBetweenItsCheckAndItsCopyIsNotSent) {
  broker_config c = world::config();
  sn::gateway_config g = small_gateway();
  g.retry_ms = g.retry_ms_max = 1;
  g.retries_max = 250;
  world w(made(), true, c, g);
  std::map<int, std::uint64_t> places;
  for (int i = 0; i < 8; ++i)
    ASSERT_TRUE(w.publish(w.ab, text_of(i)));
  for (int i = 0; i < 8; ++i)
    places[i] = w.place_of(text_of(i));
  losing_transport out(w.b->out, w.served_region().medium(), places[chosen]);
  w.b->gateway->worker(0).attach(out);
  w.b->connect(one, "one", false);
  std::vector<std::string> got;
  for (int ms = 0; ms < hang_ms && (got.empty() || got.back() != text_of(7)); ++ms) {
    for (std::string text = w.b->take(one); text != "(nothing)"; text = w.b->take(one))
      if (got.empty() || got.back() != text) got.push_back(text); // unless it was sent again
    usleep(1000);
    w.b->settle();
  }
  EXPECT_GT(out.messages, chosen);
  const auto whole = w.outside(places, places[chosen] / page);
  EXPECT_EQ(std::ranges::count(got, text_of(chosen)), 0);
  for (const std::string& text : got)
    EXPECT_TRUE(
        std::ranges::any_of(places, [&](const auto& p) { return text_of(p.first) == text; }));
  for (const std::string& text : whole)
    EXPECT_EQ(std::ranges::count(got, text), 1);
  EXPECT_FALSE(w.served_region().failed());
  EXPECT_EQ(w.damaged(), 8 - got.size());
}

/// The packets that leave one worker, on a thread of its own.
class own_transport final : public net::transport {
 public:
  std::span<std::byte> begin(client_address, std::size_t size) noexcept override {
    room_.resize(size);
    return room_;
  }
  void commit(std::size_t size) noexcept override {
    sent.emplace_back(room_.begin(), room_.begin() + static_cast<std::ptrdiff_t>(size));
  }
  void release(mark_t) noexcept override {}
  std::vector<bytes> sent;

 private:
  bytes room_;
};

// The file keeps the content of a page that is lost. So after a crash every acknowledged message is
// there, and no message that was written to zeros may have been acknowledged.
TEST_P(LostContent, AMessageAcknowledgedWhilePagesAreLostUnderTwoWorkersIsInTheFile) {
  const char* given = std::getenv("CHAINRING_SEED");
  const unsigned seed =
      given != nullptr ? static_cast<unsigned>(std::atoi(given)) : std::random_device{}();
  std::printf("CHAINRING_SEED=%u\n", seed);
  options_.media.size = 8 << 20;
  options_.areas = broker::areas(small_layout(), options_.media.size, 256);
  broker_config c = large_rings(); // rings are there from the beginning
  c.workers = 2;
  std::vector<std::string> acked[2];
  constexpr std::uint64_t publishers[2] = {11, 12};
  constexpr int messages = 900, messages_a_page = 10;
  {
    world w(made(), true, c);
    broker& b = *w.b->broker;
    ASSERT_TRUE(w.publish(w.ab, "the first"));
    const std::uint64_t from = w.place_of("the first") / page + 1;
    std::uint16_t topics[2] = {};
    for (unsigned t = 0; t < 2; ++t) {
      std::string id = "publisher";
      while (b.home_of(id) != t)
        id += 'x';
      ASSERT_EQ(w.b->connect(publishers[t], id, true), sn::return_code::accepted);
      topics[t] = w.b->register_name(publishers[t], t == 0 ? "a/b" : "c/d");
    }
    std::atomic<int> working = 2, taken = 0;
    std::vector<std::thread> all;
    for (unsigned t = 0; t < 2; ++t)
      all.emplace_back([&, t] {
        ASSERT_EQ(rte_thread_register(), 0);
        own_transport out;
        w.b->gateway->worker(t).attach(out);
        for (int i = 0; i < messages; ++i) {
          while (taken < i / messages_a_page)
            std::this_thread::yield();
          const std::string text = text_of(static_cast<int>(t) * messages + i);
          w.b->gateway->worker(t).receive(
              publishers[t], encode(sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                                                .topic_id = topics[t],
                                                .msg_id = static_cast<std::uint16_t>(i + 1),
                                                .data = std::as_bytes(std::span(text))}));
          out.sent.clear();
          w.b->turn(t);
          sn::message m;
          if (out.sent.size() != 1 || sn::decode(out.sent[0], m) != sn::decode_status::ok) continue;
          const auto* a = m.get<sn::puback>();
          if (a != nullptr && a->code == sn::return_code::accepted) acked[t].push_back(text);
        }
        --working;
        rte_thread_unregister();
      });
    std::mt19937 random(seed);
    for (; working != 0; ++taken) {
      poison(w.served_region().medium(), (from + random() % 600) * page);
      if (random() % 4 == 0) usleep(random() % 200);
    }
    for (auto& t : all)
      t.join();
    EXPECT_FALSE(w.served_region().failed()) << w.served_region().why_failed();
    EXPECT_TRUE(broker_access::state(b).blocks().check());
    std::printf("%zu and %zu of %d acknowledged, %llu pages lost\n", acked[0].size(),
                acked[1].size(), messages,
                static_cast<unsigned long long>(w.served_region().medium().lost_pages()));
    EXPECT_GT(w.served_region().medium().lost_pages(), 0u);
  } // a crash
  ASSERT_GT(acked[0].size() + acked[1].size(), 0u);
  world again(opened(), false, c);
  auto first = again.collect(one, "one"), second = again.collect(two, "two");
  EXPECT_EQ(first.front(), "the first");
  first.erase(first.begin());
  // Beside them there may be messages that were published and not acknowledged, if they happen to
  // be whole.
  const auto holds = [](const std::vector<std::string>& all, const std::vector<std::string>& some) {
    std::size_t at = 0;
    for (const std::string& s : all)
      if (at < some.size() && s == some[at]) ++at;
    return at == some.size();
  };
  EXPECT_TRUE(holds(first, acked[0])) << first.size();
  EXPECT_TRUE(holds(second, acked[1])) << second.size();
}

// --- losses that fail the region all the same ----------------------------------------------------

constexpr std::uint64_t a_page_of_slots = 300, earlier = 2; ///< messages

/// A publisher's thread loses the page of a queue's newest ring. What goes wrong is reported as an
/// exit status.
[[noreturn]] void publish_and_lose_the_ring(std::unique_ptr<region> backing, bool fresh,
                                            const broker_config& c, std::uint64_t messages) {
  world w(std::move(backing), fresh, c);
  region& r = w.served_region();
  for (std::uint64_t i = 0; i < messages; ++i)
    if (!w.publish(w.ab, "before")) _exit(2);
  auto root = r.root("broker.queues");
  const auto* records = reinterpret_cast<const queue_record*>(r.at(root->offset));
  std::uint64_t slot = 0; // of the next message
  for (std::uint32_t n = 0; n < small_layout().sessions_max; ++n) {
    const queue_commit at = queue_commit::unpack(records[n].commit);
    if (at.count == 0) continue;
    const queue_ring& newest = records[n].rings[(at.first + at.count - 1) % queue_rings_max];
    const std::uint64_t placed = messages + (fresh ? 0 : earlier);
    slot = r.geometry().block_offset + (newest.chain & 0xffff'ffff) * 256 + ring_header_size +
           (placed - queue_base::unpack(newest.base).ticket) * sizeof(ring_slot);
    if (c.queue_slots_first != 0 && at.count < 2) _exit(3);
  }
  if (slot == 0) _exit(4);
  poison(r.medium(), slot);
  std::atomic<bool> acked = false;
  std::thread worker([&] {
    if (rte_thread_register() != 0) _exit(5);
    marked_transport out(r); // a transport that waits for marks
    w.b->gateway->worker(0).attach(out);
    const std::string text = "one more";
    w.b->send(publisher, sn::publish{.flags = sn::flags{}.with_qos(sn::qos_level::one),
                                     .topic_id = w.ab,
                                     .msg_id = 999,
                                     .data = std::as_bytes(std::span(text))});
    w.b->round();
    acked = out.sent != 0;
    for (;;)
      pause();
  });
  for (int ms = 0; !r.failed(); ++ms) {
    if (ms > hang_ms) _exit(6);
    usleep(1000);
  }
  usleep(10'000);
  _exit(acked ? 7 : r.why_failed().find("block ") == std::string::npos ? 8 : 0);
}

TEST_P(LostContent, TheLossOfARingFailsTheRegion) {
  auto backing = made();
  EXPECT_EXIT(publish_and_lose_the_ring(std::move(backing), true, large_rings(), a_page_of_slots),
              testing::ExitedWithCode(0), "");
}

TEST_P(LostContent, TheLossOfARingThatGrewFailsTheRegion) {
  broker_config c = large_rings();
  c.queue_slots_first = 255;
  auto backing = made();
  EXPECT_EXIT(publish_and_lose_the_ring(std::move(backing), true, c, 2 * a_page_of_slots),
              testing::ExitedWithCode(0), "");
}

TEST_P(LostContent, TheLossOfARingThatRecoveryFoundFailsTheRegion) {
  {
    world w(made(), true, large_rings());
    for (std::uint64_t i = 0; i < earlier; ++i)
      ASSERT_TRUE(w.publish(w.ab, "earlier"));
  }
  auto backing = opened();
  EXPECT_EXIT(publish_and_lose_the_ring(std::move(backing), false, large_rings(), a_page_of_slots),
              testing::ExitedWithCode(0), "");
}

INSTANTIATE_TEST_SUITE_P(Places, LostContent, places(), place_name);

} // namespace
} // namespace chainring::test_faults
