// SPDX-License-Identifier: BSD-3-Clause
// Tests the core through its second front end. The tests use front_end.h, worker.h, a text protocol
// and a window of 16 deliveries, so what they show holds for any protocol.
#include <gtest/gtest.h>
#include <map>
#include <set>
#include <vector>

#include "line_fixture.h"
#include "support/eal_main.h"
#include "support/seeded.h"

namespace chainring::testing_line {
namespace {

constexpr unsigned alice = 1, bob = 2, carol = 3, dave = 4;

class LineFrontEnd : public testing::TestWithParam<unsigned> {
 protected:
  std::unique_ptr<test::line_server> server;
  broker_config config = line_config(GetParam(), 63);

  void start() {
    store_layout layout;
    layout.sessions_max = 64;
    layout.subscriptions_max = 128;
    auto made = broker_on(memory_media(4 << 20, durability_class::process), config, true, layout);
    ASSERT_TRUE(made) << made.error().message;
    server = std::make_unique<test::line_server>(std::move(*made));
  }
  /// Alice publishes and Bob subscribes, on two workers if there are two.
  void SetUp() override {
    start();
    ASSERT_NE(server, nullptr);
    bob_id = identity_at(server->broker(), GetParam() - 1, "bob");
    ASSERT_EQ(ask(alice, "CONNECT " + identity_at(server->broker(), 0, "alice") + " clean,passing"),
              "OK 1");
    ASSERT_EQ(ask(bob, "CONNECT " + bob_id + " -"), "OK 1");
    ASSERT_EQ(ask(bob, "SUB a/# 1"), "OK 2");
  }
  std::string ask(unsigned connection, const std::string& line) {
    return server->ask(connection, line);
  }
  void send(unsigned connection, const std::string& line) {
    server->send(connection, line);
    server->settle();
  }
  void publish(int first, int last) {
    for (int i = first; i <= last; ++i)
      ASSERT_TRUE(ask(alice, "PUB a/b 1 text " + std::to_string(i)).starts_with("OK ")) << i;
  }
  void expect(int first, int last, int number, const char* flags = "-") {
    for (int i = first; i <= last; ++i, ++number)
      ASSERT_EQ(server->next(bob), "MSG " + std::to_string(number) + " 1 0 " + flags +
                                       " a/b text " + std::to_string(i));
  }
  void acknowledge(int first, int last) {
    for (int i = first; i <= last; ++i)
      send(bob, "ACK " + std::to_string(i));
  }
  void reconnect(const char* answer) {
    send(bob, "BYE");
    server->forget(bob);
    const std::string answered = ask(bob, "CONNECT " + bob_id + " -");
    ASSERT_EQ(answered.substr(answered.rfind(' ') + 1), answer);
  }
  std::string bob_id;
};

TEST_P(LineFrontEnd, GetsAPublishWithTheBitsOfTheSubscription) {
  ASSERT_EQ(ask(bob, "SUB c/+ 1 2"), "OK 3");
  EXPECT_EQ(ask(alice, "PUB c/d 1 hello there"), "OK 2");
  EXPECT_EQ(server->next(bob), "MSG 1 1 2 - c/d hello there");
  send(bob, "ACK 1");
  EXPECT_EQ(server->broker().counters().acked, 1u);
  EXPECT_EQ(server->broker().message_statistics().live, 0u);
}

TEST_P(LineFrontEnd, GetsSixteenMessagesAndTheNextAfterEachAcknowledgement) {
  publish(1, 20);
  expect(1, 16, 1);
  EXPECT_EQ(server->next(bob), "");
  acknowledge(5, 5); // any of them may be acknowledged
  expect(17, 17, 17);
  EXPECT_EQ(server->next(bob), "");
  acknowledge(1, 4);
  expect(18, 20, 18);
  acknowledge(6, 20);
  EXPECT_EQ(server->broker().message_statistics().live, 0u);
}

// A burst in which Bob acknowledges a message, while another one waits for him and a new one comes.
TEST_P(LineFrontEnd, GetsTheMessageThatWaitedBeforeTheOneOfTheSameBurst) {
  const auto waited = [&](const char* user) {
    server->send(bob, "ACK 1");
    server->send(alice, std::string("PUB a/b 1 text 18 from ") + user);
    server->settle();
    return server->next(bob);
  };
  publish(1, 17);
  expect(1, 16, 1);
  EXPECT_EQ(waited("alice"), "MSG 17 1 0 - a/b text 17");
  EXPECT_EQ(server->next(bob), "");
  send(bob, "ACK 2");
  EXPECT_EQ(server->next(bob), "MSG 18 1 0 - a/b text 18 from alice");
}

/// Alice and Bob on one worker, which knows what it has published in a burst.
class LineFrontEndOnOneWorker : public LineFrontEnd {};
INSTANTIATE_TEST_SUITE_P(Workers, LineFrontEndOnOneWorker, testing::Values(1u));

// With two subscribers the messages are staged for the end of the burst.
TEST_P(LineFrontEndOnOneWorker, WouldGetAnotherMessageIfThoseOfTheBurstWereNotMatched) {
  ASSERT_EQ(ask(carol, "CONNECT carol clean"), "OK 1");
  ASSERT_EQ(ask(carol, "SUB a/b 1"), "OK 2");
  publish(1, 17);
  expect(1, 16, 1);
  const test::seeded on("broker.fresh_unmatched");
  server->send(bob, "ACK 1");
  server->send(alice, "PUB a/b 1 text 18");
  server->settle();
  test::expect_found("broker.fresh_unmatched", server->next(bob) == "MSG 17 1 0 - a/b text 18");
}

TEST_P(LineFrontEnd, GetsUnacknowledgedMessagesAgainInOrderAtTheNextConnection) {
  publish(1, 6);
  expect(1, 6, 1);
  for (const int n : {6, 2, 4})
    acknowledge(n, n);
  reconnect("present");
  std::vector<std::string> texts;
  for (std::string line = server->next(bob); !line.empty(); line = server->next(bob)) {
    EXPECT_NE(line.find(" again "), std::string::npos) << line;
    texts.push_back(line.substr(line.find("text")));
  }
  EXPECT_EQ(texts, (std::vector<std::string>{"text 1", "text 3", "text 5"}));
}

TEST_P(LineFrontEnd, GetsMissedMessagesOfQos1AndNoneOfQos0AfterAnAbsence) {
  ASSERT_EQ(ask(bob, "SUB z 0"), "OK 3");
  send(bob, "BYE");
  publish(1, 2);
  send(alice, "PUB z 0 lost");
  server->forget(bob);
  EXPECT_EQ(ask(bob, "CONNECT " + bob_id + " -"), "OK 5 present");
  EXPECT_EQ(server->waiting(bob), 2u);
  expect(1, 2, 1);
  send(alice, "PUB z 0 passing");
  EXPECT_EQ(server->next(bob), "MSG 0 0 0 - z passing");
}

TEST_P(LineFrontEnd, GetsAMessageThatItGaveBackAgain) {
  publish(1, 2);
  expect(1, 2, 1);
  send(bob, "NACK 1");
  EXPECT_EQ(server->next(bob), "MSG 3 1 0 again a/b text 1");
  acknowledge(2, 3);
  EXPECT_EQ(server->next(bob), "");
  EXPECT_EQ(server->broker().counters().given_back, 1u);
}

TEST_P(LineFrontEnd, GetsASkippedMessageAgainAtTheNextConnectionOnly) {
  publish(1, 2);
  expect(1, 2, 1);
  send(bob, "SKIP 1");
  acknowledge(2, 2);
  EXPECT_EQ(server->next(bob), "");
  publish(3, 3);
  expect(3, 3, 3);
  acknowledge(3, 3);
  reconnect("present");
  EXPECT_EQ(server->waiting(bob), 1u);
  EXPECT_EQ(server->next(bob), "MSG 4 1 0 again a/b text 1");
}

TEST_P(LineFrontEnd, GetsNothingWhileItIsPausedUntilItResumes) {
  send(bob, "STOP");
  publish(1, 3);
  EXPECT_EQ(server->next(bob), "");
  EXPECT_EQ(server->broker().counters().delivered, 0u);
  send(bob, "GO");
  expect(1, 3, 1);
}

TEST_P(LineFrontEnd, LosesItsConnectionToANewOneOfTheSameIdentity) {
  publish(1, 2);
  expect(1, 2, 1);
  acknowledge(1, 1);
  EXPECT_EQ(ask(carol, "CONNECT " + bob_id + " -"), "OK 1 present");
  EXPECT_EQ(server->next(bob), "GONE taken_over");
  EXPECT_EQ(server->next(carol), "MSG 1 1 0 again a/b text 2");
  send(bob, "ACK 2"); // a late answer of the connection that has ended
  send(carol, "BYE");
  server->forget(carol);
  EXPECT_EQ(ask(carol, "CONNECT " + bob_id + " -"), "OK 3 present");
  EXPECT_EQ(server->next(carol), "MSG 2 1 0 again a/b text 2");
}

TEST_P(LineFrontEnd, HasNoSubscriptionsOrMessagesAfterACleanStart) {
  publish(1, 3);
  send(bob, "BYE");
  server->forget(bob);
  EXPECT_EQ(ask(bob, "CONNECT " + bob_id + " clean"), "OK 4");
  publish(4, 4);
  EXPECT_EQ(server->next(bob), "");
  EXPECT_EQ(server->broker().subscription_count(), 0u);
  EXPECT_EQ(server->broker().message_statistics().live, 0u);
}

TEST_P(LineFrontEnd, LearnsWhyACallIsRefused) {
  EXPECT_EQ(ask(bob, "UNSUB never"), "NO 3 not_found");
  EXPECT_EQ(ask(bob, "UNSUB a/#"), "OK 4");
  EXPECT_EQ(ask(bob, "UNSUB a/#"), "NO 5 not_found");
  EXPECT_EQ(ask(alice, "PUB a 1 " + std::string(config.content_size_max + 1, 'x')),
            "NO 2 too_long");
  EXPECT_EQ(ask(alice, "PUB a 1 " + std::string(config.content_size_max, 'x')), "OK 3");
  EXPECT_EQ(ask(carol, "SUB a 1"), "NO 1 not_connected");
}

TEST_P(LineFrontEnd, HasItsPublishRefusedInEveryQueueWhenOneIsFull) {
  ASSERT_EQ(ask(carol, "CONNECT " + identity_at(server->broker(), 0, "carol") + " -"), "OK 1");
  ASSERT_EQ(ask(carol, "SUB a/b 1"), "OK 2");
  send(bob, "STOP");
  send(carol, "STOP");
  int kept = 0;
  while (kept < 1000 && ask(alice, "PUB a/b 1 text " + std::to_string(kept + 1)).starts_with("OK"))
    ++kept;
  EXPECT_GE(kept, 62);
  EXPECT_LE(kept, 64);
  send(carol, "GO");
  std::set<std::string> got;
  for (int n = 1; n <= kept + 1; ++n) {
    const std::string line = server->next(carol);
    if (line.empty()) break;
    got.insert(line.substr(line.find("text")));
    send(carol, "ACK " + std::to_string(n));
  }
  EXPECT_EQ(got.size(), static_cast<std::size_t>(kept));
  EXPECT_EQ(got.count("text " + std::to_string(kept + 1)),
            0u); // the message was refused in this queue as well
}

TEST_P(LineFrontEnd, MayHaveAnIdentityOf65535Octets) {
  const std::string identity(65535, 'i');
  ASSERT_EQ(ask(carol, "CONNECT " + identity + " -"), "OK 1");
  ASSERT_EQ(ask(carol, "SUB a/b 1"), "OK 2");
  publish(1, 1);
  EXPECT_EQ(server->next(carol), "MSG 1 1 0 - a/b text 1");
  send(carol, "BYE");
  server->forget(carol);
  EXPECT_EQ(ask(carol, "CONNECT " + identity + " -"), "OK 4 present");
  EXPECT_EQ(ask(dave, "CONNECT " + identity + "i -"), "NO 1 refused");
}

TEST_P(LineFrontEnd, LearnsThatAnOperatorEndedItsConnection) {
  ASSERT_TRUE(server->broker().kick(bob_id));
  server->settle();
  EXPECT_EQ(server->next(bob), "GONE kicked");
  EXPECT_EQ(server->broker().subscription_count(), 0u);
}

TEST_P(LineFrontEnd, GivesASessionNothingOfItsOwnWhereItsSubscriptionSaysSo) {
  ASSERT_EQ(ask(bob, "SUB c/# 1 0 others"), "OK 3");
  send(bob, "PUB c/own 0 at QoS 0");
  ASSERT_EQ(ask(bob, "PUB c/own 1 at QoS 1"), "OK 5");
  ASSERT_EQ(ask(alice, "PUB c/other 1 from Alice"), "OK 2");
  EXPECT_EQ(server->next(bob), "MSG 1 1 0 - c/other from Alice");
  send(alice, "PUB c/other 0 from Alice too");
  EXPECT_EQ(server->next(bob), "MSG 0 0 0 - c/other from Alice too");
  EXPECT_EQ(server->next(bob), "");
}

TEST_P(LineFrontEnd, ShowsTheIdentifiersOfSubscriptions) {
  const auto info = server->broker().session_of(bob_id);
  ASSERT_TRUE(info);
  broker_worker& home = server->broker().worker(GetParam() - 1);
  EXPECT_FALSE(home.has_identifiers(info->number));
  ASSERT_EQ(ask(bob, "SUB c/# 1 0 id=268435455"), "OK 3");
  ASSERT_EQ(ask(bob, "SUB $share/g/d 1 0 id=7"), "OK 4");
  EXPECT_TRUE(home.has_identifiers(info->number));
  std::map<std::string, std::uint32_t> found;
  for (const subscription_info& s : server->broker().subscriptions_of(info->number, 0, 10))
    found[s.filter] = s.identifier;
  EXPECT_EQ(found, (std::map<std::string, std::uint32_t>{
                       {"a/#", 0}, {"c/#", 268435455}, {"$share/g/d", 7}}));
  ASSERT_EQ(ask(bob, "SUB c/# 1"), "OK 5"); // without one now
  for (const subscription_info& s : server->broker().subscriptions_of(info->number, 0, 10))
    EXPECT_TRUE(s.filter != "c/#" || s.identifier == 0);
}

TEST_P(LineFrontEnd, ChangesTheExpiryOfASessionAsItsConnectionEnds) {
  ASSERT_EQ(ask(bob, "BYE 77"), "OK 3");
  const auto info = server->broker().session_of(bob_id);
  ASSERT_TRUE(info);
  EXPECT_EQ(info->expiry_s, 77u);
  EXPECT_FALSE(info->ends_with_connection);
  ASSERT_EQ(ask(bob, "CONNECT " + bob_id + " -"), "OK 4 present");
  ASSERT_EQ(ask(bob, "BYE 0"), "OK 5");
  EXPECT_FALSE(server->broker().session_of(bob_id));
  ASSERT_EQ(ask(bob, "CONNECT " + bob_id + " passing"), "OK 6");
  ASSERT_EQ(ask(bob, "BYE 5"), "OK 7");
  EXPECT_TRUE(server->broker().session_of(bob_id));
}

TEST_P(LineFrontEnd, DeliversTheProperties) {
  ASSERT_EQ(ask(alice, "SUB a/b 2"), "OK 2"); // so that messages go to two sessions
  ASSERT_EQ(ask(alice, "PUB a/b 1 {of both}text"), "OK 3");
  EXPECT_EQ(server->next(bob), "MSG 1 1 0 - a/b {of both}text");
  EXPECT_EQ(server->next(alice), "MSG 1 1 0 - a/b {of both}text");
  ASSERT_EQ(ask(alice, "UNSUB a/b"), "OK 4");
  ASSERT_EQ(ask(alice, "PUB a/b 1 {of one}text"), "OK 5");
  EXPECT_EQ(server->next(bob), "MSG 2 1 0 - a/b {of one}text");
  ASSERT_EQ(ask(alice, "PUB a/b 2:7 {at QoS 2}"), "OK 6");
  EXPECT_EQ(server->next(bob), "MSG 3 1 0 - a/b {at QoS 2}");
  send(alice, "PUB a/b 0 {at QoS 0}text");
  EXPECT_EQ(server->next(bob), "MSG 0 0 0 - a/b {at QoS 0}text");
  ASSERT_EQ(ask(alice, "PUB a/b 1 text alone"), "OK 8");
  EXPECT_EQ(server->next(bob), "MSG 4 1 0 - a/b text alone");
  acknowledge(1, 4);
  send(bob, "BYE");
  ASSERT_EQ(ask(alice, "PUB a/b 1 {kept}text"), "OK 9");
  reconnect("present");
  EXPECT_EQ(server->next(bob), "MSG 5 1 0 - a/b {kept}text");
}

TEST_P(LineFrontEnd, DeliversThePropertiesOfRetainedMessagesAndWills) {
  ASSERT_EQ(ask(alice, "RET r/1 1 {retained}text"), "OK 2");
  ASSERT_EQ(ask(bob, "SUB r/1 1"), "OK 3");
  EXPECT_EQ(server->next(bob), "MSG 1 1 0 retained r/1 {retained}text");
  ASSERT_EQ(ask(bob, "SUB r/+ 0"), "OK 4");
  EXPECT_EQ(server->next(bob), "MSG 0 0 0 retained r/1 {retained}text");
  for (const char* qos : {"0", "1", "2"}) {
    ASSERT_EQ(ask(bob, std::string("SUB w ") + qos).substr(0, 2), "OK");
    ASSERT_EQ(ask(carol, "CONNECT carol passing w 1 {will}text").substr(0, 2), "OK");
    send(carol, "LOST");
    const std::string got = server->next(bob);
    EXPECT_EQ(got.substr(got.find(" w ")), " w {will}text");
  }
  ASSERT_EQ(ask(carol, "CONNECT carol passing w 1 {will}text").substr(0, 2), "OK");
  ASSERT_EQ(ask(carol, "WILLTOPIC v 1").substr(0, 2), "OK");
  ASSERT_EQ(ask(bob, "SUB v 1").substr(0, 2), "OK");
  send(carol, "LOST");
  std::string got = server->next(bob);
  EXPECT_EQ(got.substr(got.find(" v ")), " v {will}text");
  ASSERT_EQ(ask(carol, "CONNECT carol passing w 1 {will}text").substr(0, 2), "OK");
  ASSERT_EQ(ask(carol, "WILLTEXT another").substr(0, 2), "OK");
  send(carol, "LOST");
  got = server->next(bob);
  EXPECT_EQ(got.substr(got.find(" w ")), " w another");
}

TEST_P(LineFrontEnd, SaysOfAMessageWithPropertiesThatItExpires) {
  ASSERT_EQ(ask(alice, "PUB a/b 1/50 {p}text"), "OK 2");
  EXPECT_EQ(server->next(bob), "MSG 1 1 0 expires a/b {p}text");
  send(alice, "PUB a/b 0/50 {p}text");
  EXPECT_EQ(server->next(bob), "MSG 0 0 0 expires a/b {p}text");
  ASSERT_EQ(ask(alice, "RET r 1/50 {p}text"), "OK 4");
  ASSERT_EQ(ask(bob, "SUB r 0"), "OK 3");
  EXPECT_EQ(server->next(bob), "MSG 0 0 0 retained,expires r {p}text");
}

TEST_P(LineFrontEnd, CountsThePropertiesToTheSizeOfAMessage) {
  const std::size_t most = server->broker().config().content_size_max;
  const auto of_size = [](std::size_t properties, std::size_t text) {
    return "{" + std::string(properties - 2, 'p') + "}" + std::string(text, 't');
  };
  ASSERT_EQ(ask(alice, "PUB a/b 1 " + of_size(most - 10, 11)), "NO 2 too_long");
  const std::string longest = of_size(most - 10, 10);
  ASSERT_EQ(ask(alice, "PUB a/b 1 " + longest), "OK 3");
  EXPECT_EQ(server->next(bob), "MSG 1 1 0 - a/b " + longest);
  send(alice, "PUB a/b 0 " + longest);
  EXPECT_EQ(server->next(bob), "MSG 0 0 0 - a/b " + longest);
}

INSTANTIATE_TEST_SUITE_P(Workers, LineFrontEnd, testing::Values(1u, 2u));

} // namespace
} // namespace chainring::testing_line
