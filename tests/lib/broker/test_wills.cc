// SPDX-License-Identifier: BSD-3-Clause
// Wills and sleeping clients in the core, under the line front end.
#include <gtest/gtest.h>

#include <ctime>
#include <string>
#include <vector>

#include "lib/region/region_fixture.h"
#include "line_fixture.h"
#include "support/eal_main.h"
#include "wall_clock.h"

namespace chainring::testing_line {
namespace {

using namespace testing_core;

constexpr unsigned watcher_at = 1, owner_at = 2, other_at = 3;

/// A client that watches the topic "will" at QoS 1, and the owner of a will. With two workers the
/// two are served by different ones.
class Wills : public testing::TestWithParam<unsigned> {
 protected:
  void SetUp() override {
    test::wall_clock_ahead_s = 0;
    config = line_config(GetParam(), 15);
    config.home_seed = 1;
    config.will_grace_s = 0;
    bytes.assign(8 << 20, std::byte{});
    open(true);
    owner = identity_at(b->broker(), 0, "owner");
    watch();
  }
  void open(bool fresh = false) {
    b.reset();
    store_layout layout;
    layout.sessions_max = 64;
    auto made = broker_on(std::make_unique<test::kept_media>(bytes), config, fresh, layout);
    ASSERT_TRUE(made) << made.error().message;
    for (const std::string& note : (*made)->opened().notes)
      ADD_FAILURE() << note;
    b = std::make_unique<test::line_server>(std::move(*made));
  }
  void watch() {
    ASSERT_NE(b, nullptr);
    const std::string watcher = identity_at(b->broker(), GetParam() - 1, "watcher");
    ASSERT_TRUE(b->ask(watcher_at, "CONNECT " + watcher + " -").starts_with("OK 1"));
    ASSERT_EQ(b->ask(watcher_at, "SUB will 1"), "OK 2");
  }
  /// The texts of the messages that the watcher was given since the last call, acknowledged.
  std::vector<std::string> seen() {
    b->settle();
    std::vector<std::string> texts;
    for (std::string line = b->next(watcher_at); !line.empty(); line = b->next(watcher_at)) {
      if (!line.starts_with("MSG ")) continue;
      texts.push_back(line.substr(line.rfind(' ') + 1));
      if (const std::string number = line.substr(4, line.find(' ', 4) - 4); number != "0")
        b->send(watcher_at, "ACK " + number);
      b->settle();
    }
    return texts;
  }
  /// Runs rounds until the watcher is given something, or for that many seconds at most.
  std::vector<std::string> wait_for_will(std::time_t most_s = 60) {
    std::vector<std::string> texts = seen();
    for (const std::time_t begin = std::time(nullptr);
         texts.empty() && std::time(nullptr) < begin + most_s;)
      texts = seen();
    return texts;
  }
  /// The watcher takes nothing from here on, and its queue is full.
  void fill_the_watchers_queue() {
    b->send(watcher_at, "STOP");
    for (unsigned i = 0; i < config.queue_slots; ++i)
      ASSERT_TRUE(b->ask(watcher_at, "PUB will 1 full").starts_with("OK"));
  }
  /// Runs rounds until the watcher has been given the will "gone", once.
  void expect_one_will() {
    std::ptrdiff_t times = 0;
    for (const std::time_t begin = std::time(nullptr);
         times == 0 && std::time(nullptr) < begin + 60;)
      times += std::ranges::count(seen(), "gone");
    EXPECT_EQ(times, 1);
  }
  std::string connect(const std::string& flags, const std::string& will = "",
                      unsigned at = owner_at) {
    b->forget(at);
    const std::string answer =
        b->ask(at, "CONNECT " + owner + " " + flags + (will.empty() ? "" : " will " + will));
    return answer.starts_with("OK") ? "OK" : answer;
  }
  [[nodiscard]] std::uint64_t live() { return b->broker().message_statistics().live; }

  broker_config config;
  test::line_bytes bytes;
  std::unique_ptr<test::line_server> b;
  std::string owner;
};
using texts = std::vector<std::string>;

TEST_P(Wills, AWillIsSentWhenTheConnectionIsLost) {
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  EXPECT_EQ(live(), 1u) << "the will is kept";
  EXPECT_EQ(seen(), texts{});
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{"gone"});
  EXPECT_EQ(b->broker().counters().wills_sent, 1u);
  // The next connection without a will sends none.
  ASSERT_EQ(connect("-"), "OK");
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{});
  EXPECT_EQ(live(), 0u);
}

TEST_P(Wills, AWillIsNotSentAfterTheClientsOwnDisconnect) {
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  b->send(owner_at, "BYE");
  EXPECT_EQ(seen(), texts{});
  open();
  watch();
  EXPECT_EQ(wait_for_will(1), texts{});
  ASSERT_EQ(connect("passing,clean", "1 gone"), "OK");
  b->send(owner_at, "BYE");
  EXPECT_EQ(seen(), texts{});
  EXPECT_EQ(live(), 0u);
}

TEST_P(Wills, ASessionThatEndsWithItsConnectionEndsAfterItsWillWasSent) {
  ASSERT_EQ(connect("passing,clean", "1 gone"), "OK");
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{"gone"});
  b->settle();
  EXPECT_EQ(b->broker().session_count(), 1u) << "only the watcher's session is left";
  EXPECT_EQ(live(), 0u);
}

TEST_P(Wills, AClientThatKeepsItsWillHasItAgainAfterItsDisconnectAndAfterItWasSent) {
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  b->send(owner_at, "BYE");
  ASSERT_EQ(connect("keep"), "OK");
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{"gone"});
  ASSERT_EQ(connect("keep"), "OK");
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{"gone"});
  open();
  watch();
  EXPECT_EQ(wait_for_will(1), texts{}) << "it was sent before";
  ASSERT_EQ(connect("keep"), "OK");
  open();
  watch();
  EXPECT_EQ(wait_for_will(), texts{"gone"});
  ASSERT_EQ(connect("clean,keep"), "OK") << "a clean start keeps nothing";
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{});
  EXPECT_EQ(live(), 0u);
}

TEST_P(Wills, AnotherConnectionOfTheClientSendsTheWillOfTheFirst) {
  for (const char* flags : {"-", "keep", "clean", "clean,passing"}) {
    ASSERT_EQ(connect("-", "1 first"), "OK");
    ASSERT_EQ(connect(flags, "", other_at), "OK") << flags;
    EXPECT_EQ(seen(), texts{"first"}) << flags;
    b->send(other_at, "LOST");
    EXPECT_EQ(seen(), std::string(flags) == "keep" ? texts{"first"} : texts{}) << flags;
  }
  ASSERT_EQ(connect("-", "1 first"), "OK");
  ASSERT_EQ(connect("-", "1 second", other_at), "OK");
  EXPECT_EQ(seen(), texts{"first"});
  b->send(other_at, "LOST");
  EXPECT_EQ(seen(), texts{"second"});
  ASSERT_EQ(connect("clean,passing", "1 third"), "OK");
  ASSERT_EQ(connect("clean,passing", "1 fourth", other_at), "OK");
  EXPECT_EQ(seen(), texts{"third"});
  b->send(other_at, "BYE");
  EXPECT_EQ(seen(), texts{});
  EXPECT_EQ(live(), 0u);
}

TEST_P(Wills, AClientThatConnectsAgainOverTheSameConnectionSendsNoWill) {
  ASSERT_EQ(connect("-", "1 first"), "OK");
  ASSERT_EQ(connect("same", "1 second", other_at), "OK");
  EXPECT_EQ(seen(), texts{});
  ASSERT_EQ(connect("same,keep", "", owner_at), "OK");
  EXPECT_EQ(seen(), texts{});
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{"second"});
}

TEST_P(Wills, AWillIsReplacedInWholeOrInPartAndDeleted) {
  ASSERT_EQ(connect("-"), "OK");
  EXPECT_TRUE(b->ask(owner_at, "WILLTEXT none").ends_with("not_found"));
  EXPECT_TRUE(b->ask(owner_at, "WILL will 1 one").starts_with("OK"));
  EXPECT_TRUE(b->ask(owner_at, "WILLTEXT two").starts_with("OK"));
  EXPECT_EQ(live(), 1u) << "the former wills are gone";
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{"two"});
  ASSERT_EQ(connect("-", "1 one"), "OK");
  // Three changes in one burst: each builds on the one before.
  b->send(owner_at, "WILLTOPIC elsewhere 1");
  b->send(owner_at, "WILLTEXT three");
  b->send(owner_at, "WILLTOPIC will 0");
  b->settle();
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{"three"});
  ASSERT_EQ(connect("-", "1 one"), "OK");
  b->send(owner_at, "WILL will 1 two");
  b->send(owner_at, "UNWILL");
  b->settle();
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{});
  EXPECT_EQ(live(), 0u);
}

TEST_P(Wills, AWillThatIsTooLongIsRefusedAndChangesNothing) {
  const std::string text(config.content_size_max + 1, 'x');
  EXPECT_TRUE(connect("-", "1 " + text).ends_with("refused"));
  EXPECT_EQ(b->broker().session_count(), 1u);
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  EXPECT_TRUE(b->ask(owner_at, "WILL will 1 " + text).ends_with("too_long"));
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{"gone"});
}

TEST_P(Wills, ChangesOfAConnectionThatIsOverAreGivenUp) {
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  b->send(owner_at, "WILL will 1 other");
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{"gone"});
  ASSERT_EQ(connect("clean"), "OK");
  EXPECT_EQ(live(), 0u);
}

TEST_P(Wills, AfterARestartTheWillOfAClientThatStaysAwayIsSentOnce) {
  for (const char* flags : {"-", "clean,passing"}) {
    ASSERT_EQ(connect(flags, "1 gone"), "OK");
    open();
    watch();
    EXPECT_EQ(wait_for_will(), texts{"gone"}) << flags;
    open();
    watch();
    EXPECT_EQ(wait_for_will(1), texts{}) << flags;
    b->settle();
    EXPECT_EQ(b->broker().session_count(), std::string(flags) == "-" ? 2u : 1u);
  }
  ASSERT_EQ(connect("clean"), "OK");
  EXPECT_EQ(live(), 0u);
}

TEST_P(Wills, AfterARestartAClientThatComesBackSendsNoWill) {
  config.will_grace_s = 10'000;
  for (const char* flags : {"-", "keep", "clean", "clean,passing"}) {
    ASSERT_EQ(connect("clean", "1 gone"), "OK");
    open();
    watch();
    ASSERT_EQ(connect(flags), "OK") << flags;
    EXPECT_EQ(seen(), texts{}) << flags;
    b->send(owner_at, "BYE");
    EXPECT_EQ(seen(), texts{}) << flags;
  }
  ASSERT_EQ(connect("clean"), "OK");
  EXPECT_EQ(live(), 0u);
}

TEST_P(Wills, AfterARestartTheWillOfASleeperIsSentOnlyWhenItsSleepIsOver) {
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  EXPECT_TRUE(b->ask(owner_at, "SLEEP 1000").starts_with("OK"));
  open();
  watch();
  EXPECT_EQ(wait_for_will(1), texts{});
  test::wall_clock_ahead_s = 1001;
  open();
  watch();
  EXPECT_EQ(wait_for_will(), texts{"gone"});
}

TEST_P(Wills, ASleeperDoesNotExpireBeforeItsSleepIsOver) {
  config.session_expiry_s = 100;
  open();
  ASSERT_EQ(connect("-"), "OK");
  EXPECT_TRUE(b->ask(owner_at, "SLEEP 1000").starts_with("OK"));
  test::wall_clock_ahead_s = 900;
  open();
  EXPECT_TRUE(b->ask(owner_at, "CONNECT " + owner + " -").ends_with("present"));
  EXPECT_TRUE(b->ask(owner_at, "SLEEP 1000").starts_with("OK"));
  test::wall_clock_ahead_s += 1101;
  open();
  EXPECT_FALSE(b->ask(owner_at, "CONNECT " + owner + " -").ends_with("present"));
}

TEST_P(Wills, ASleeperIsGivenNothingUntilItGoesOnAndThenEverything) {
  ASSERT_EQ(connect("-"), "OK");
  ASSERT_TRUE(b->ask(owner_at, "SUB other 1").starts_with("OK"));
  ASSERT_TRUE(b->ask(owner_at, "SLEEP 1000").starts_with("OK"));
  ASSERT_TRUE(b->ask(watcher_at, "PUB other 1 one").starts_with("OK"));
  ASSERT_TRUE(b->ask(watcher_at, "PUB other 1 two").starts_with("OK"));
  EXPECT_EQ(b->next(owner_at), "");
  b->send(owner_at, "GO");
  b->settle();
  EXPECT_TRUE(b->next(owner_at).ends_with("one"));
  EXPECT_TRUE(b->next(owner_at).ends_with("two"));
}

TEST_P(Wills, AWillAtQos0IsSentToSubscribersThatAreConnected) {
  ASSERT_EQ(connect("-", "0 gone"), "OK");
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{"gone"});
  ASSERT_EQ(connect("clean"), "OK");
  EXPECT_EQ(live(), 0u);
}

TEST_P(Wills, AWillWithoutSubscribersIsSentToNobodyAndOnlyOnce) {
  ASSERT_TRUE(b->ask(watcher_at, "UNSUB will").starts_with("OK"));
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  b->send(owner_at, "LOST");
  b->settle();
  EXPECT_EQ(b->broker().counters().wills_sent, 1u);
  open();
  watch();
  EXPECT_EQ(wait_for_will(1), texts{});
}

TEST_P(Wills, AnOperatorWhoEndsASessionSendsItsWill) {
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  EXPECT_TRUE(b->broker().kick(owner));
  EXPECT_EQ(seen(), texts{"gone"});
  b->settle();
  EXPECT_EQ(b->broker().session_count(), 1u);
  EXPECT_EQ(live(), 0u);
}

TEST_P(Wills, AKickedSessionWhoseWillStillWaitsEndsAlsoWhenItsClientConnectsAgain) {
  fill_the_watchers_queue();
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  ASSERT_TRUE(b->ask(owner_at, "SUB its/own 1").starts_with("OK"));
  EXPECT_TRUE(b->broker().kick(owner));
  b->settle();
  // The answer follows when the will has been sent, so it is not waited for here.
  b->send(owner_at, "CONNECT " + owner + " -");
  b->settle();
  b->send(watcher_at, "GO");
  expect_one_will();
  b->settle();
  EXPECT_EQ(b->broker().subscription_count(), 1u) << "only the watcher's is left";
}

TEST_P(Wills, ARefusedConnectionLeavesNothingOfItsWillBehind) {
  config.sessions_per_source_max = 1;
  open();
  watch();
  b->broker().set_draining(true);
  EXPECT_EQ(connect("-", "1 gone"), "NO 1 congestion");
  b->broker().set_draining(false);
  EXPECT_EQ(live(), 0u);
  // One session of a source is connected, and another one may not join it.
  const session_options from_there{.source = 7};
  const will_message will{.topic = "will", .content = {}, .qos = 1};
  session_options with_will = from_there;
  with_will.will = &will;
  broker_worker& w = b->broker().worker(0);
  struct nobody final : front_end {
    std::uint32_t credit(std::uint32_t) const noexcept override { return 0; }
    void settled(std::span<const settlement>) noexcept override {}
    std::size_t deliver(std::uint32_t, std::span<const delivery_item>) noexcept override {
      return 0;
    }
    void withdrawn(std::uint32_t, std::uint64_t) noexcept override {}
    void closed(std::uint32_t, close_reason) noexcept override {}
  } none;
  const std::string first = identity_at(b->broker(), 0, "first"),
                    second = identity_at(b->broker(), 0, "second");
  EXPECT_EQ(w.open_session(none, first, from_there, 0).status, open_status::opening);
  b->settle();
  EXPECT_EQ(w.open_session(none, second, with_will, 0).status, open_status::congestion);
  b->settle();
  EXPECT_EQ(live(), 0u);
  EXPECT_EQ(b->broker().counters().opens_refused_source, 1u);
}

TEST_P(Wills, AWillThatFindsAFullQueueIsSentWhenThereIsRoom) {
  fill_the_watchers_queue();
  ASSERT_EQ(connect("passing,clean", "1 gone"), "OK");
  b->send(owner_at, "LOST");
  b->settle();
  EXPECT_EQ(b->broker().counters().wills_sent, 0u);
  EXPECT_EQ(b->broker().session_count(), 2u) << "the session waits for its will";
  b->send(watcher_at, "GO");
  expect_one_will();
  b->settle();
  EXPECT_EQ(b->broker().session_count(), 1u);
  EXPECT_EQ(live(), 0u);
}

TEST_P(Wills, AWillThatNeverFindsRoomIsDroppedAndCounted) {
  config.will_retry_s = 0;
  open();
  watch();
  fill_the_watchers_queue();
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  b->send(owner_at, "LOST");
  b->settle();
  EXPECT_EQ(b->broker().counters().wills_dropped, 1u);
  b->send(watcher_at, "GO");
  EXPECT_EQ(std::ranges::count(seen(), "gone"), 0);
  open();
  watch();
  EXPECT_EQ(std::ranges::count(wait_for_will(1), "gone"), 0);
}

// A will that has no room is tried for a while, also when its client connects again and again.
TEST_P(Wills, AClientThatConnectsAgainAndAgainGivesItsWillNoMoreTime) {
  config.will_retry_s = 1;
  config.will_retry_ms = 1;
  open();
  watch();
  fill_the_watchers_queue();
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  b->send(owner_at, "LOST");
  b->settle();
  std::uint64_t connects = 0;
  for (const std::time_t begin = std::time(nullptr);
       b->broker().counters().wills_dropped == 0 && std::time(nullptr) < begin + 60; ++connects) {
    b->send(owner_at, "CONNECT " + owner + " keep"); // it is answered when the will is over
    b->settle();
  }
  EXPECT_EQ(b->broker().counters().wills_dropped, 1u);
  EXPECT_GE(connects, 2u);
}

// Changes wait while a former will of the session is being sent.
TEST_P(Wills, OneClientHasFewChangesUnderWayAndTheOthersGoOn) {
  fill_the_watchers_queue();
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  b->send(owner_at, "LOST");
  b->settle();
  b->send(owner_at, "CONNECT " + owner + " -"); // it is answered when the will has been sent
  for (unsigned i = 0; i < 2 * config.wills_changing_max; ++i)
    b->send(owner_at, "WILL will 1 another");
  b->settle();
  EXPECT_GE(b->broker().counters().wills_refused, 2 * config.wills_changing_max - 64u);
  const std::string other = identity_at(b->broker(), 0, "other");
  EXPECT_EQ(b->ask(other_at, "CONNECT " + other + " - will 1 hers").substr(0, 2), "OK");
}

// A crash before the will was sent leaves a session that ends when it has been.
TEST_P(Wills, AKickedSessionThatWaitsForItsWillEndsAfterARestartAsWell) {
  fill_the_watchers_queue();
  ASSERT_EQ(connect("-", "1 gone"), "OK");
  EXPECT_TRUE(b->broker().kick(owner));
  b->settle();
  EXPECT_EQ(b->broker().session_count(), 2u);
  open();
  const std::string watcher = identity_at(b->broker(), GetParam() - 1, "watcher");
  ASSERT_TRUE(b->ask(watcher_at, "CONNECT " + watcher + " -").starts_with("OK 1"));
  expect_one_will();
  b->settle();
  EXPECT_EQ(b->broker().session_count(), 1u);
}

TEST_P(Wills, AChangeBeyondTheWorkersLimitIsRefused) {
  config.wills_changing_max = 1;
  open();
  watch();
  ASSERT_EQ(connect("-"), "OK");
  b->send(owner_at, "WILL will 1 one");
  b->send(owner_at, "WILL will 1 two");
  b->settle();
  EXPECT_TRUE(b->next(owner_at).ends_with("congestion"));
  EXPECT_EQ(b->broker().counters().wills_refused, 1u);
  b->send(owner_at, "LOST");
  EXPECT_EQ(seen(), texts{"one"});
}

INSTANTIATE_TEST_SUITE_P(Workers, Wills, testing::Values(1u, 2u));

} // namespace
} // namespace chainring::testing_line
