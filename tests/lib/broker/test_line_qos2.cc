// SPDX-License-Identifier: BSD-3-Clause
// QoS 2 of the core in both directions, through the line front end.
#include <gtest/gtest.h>
#include <vector>

#include "../region/region_fixture.h"
#include "broker/access.h"
#include "line_fixture.h"

namespace chainring::testing_line {
namespace {

constexpr unsigned alice = 1, bob = 2;

class Qos2 : public testing::TestWithParam<unsigned> {
 protected:
  std::unique_ptr<test::line_server> server;
  broker_config config = line_config(GetParam(), 15);
  std::string alice_id, bob_id;

  /// Alice publishes and Bob subscribes at QoS 2, on two workers if there are two.
  void start() {
    store_layout layout;
    layout.sessions_max = 64;
    layout.subscriptions_max = 128;
    auto made = broker_on(memory_media(4 << 20, durability_class::process), config, true, layout);
    ASSERT_TRUE(made) << made.error().message;
    server = std::make_unique<test::line_server>(std::move(*made));
    alice_id = identity_at(server->broker(), 0, "alice");
    bob_id = identity_at(server->broker(), GetParam() - 1, "bob");
    ASSERT_EQ(ask(alice, "CONNECT " + alice_id + " -"), "OK 1");
    ASSERT_EQ(ask(bob, "CONNECT " + bob_id + " -"), "OK 1");
    ASSERT_EQ(ask(bob, "SUB a/# 2"), "OK 2");
  }
  void SetUp() override { start(); }
  std::string ask(unsigned connection, const std::string& line) {
    return server->ask(connection, line);
  }
  void send(unsigned connection, const std::string& line) {
    server->send(connection, line);
    server->settle();
  }
  std::vector<std::string> all(unsigned connection) {
    std::vector<std::string> lines;
    for (std::string l = server->next(connection); !l.empty(); l = server->next(connection))
      lines.push_back(l);
    return lines;
  }
  [[nodiscard]] broker_counters counters() const { return server->broker().counters(); }
  [[nodiscard]] std::uint64_t live() const { return server->broker().message_statistics().live; }
  using lines = std::vector<std::string>;
};

TEST_P(Qos2, AMessagePublishedThreeTimesBeforeItsReleaseIsDeliveredOnce) {
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 text"), "OK 2");
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 text"), "OK 3");
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 text"), "OK 4");
  EXPECT_EQ(all(bob), lines{"MSG 1 2 0 - a/b text"});
  EXPECT_EQ(counters().repeated_qos2, 2u);
  EXPECT_EQ(ask(alice, "REL 7"), "OK 5");
  EXPECT_EQ(ask(alice, "REL 7"), "OK 6") << "a release that is repeated is answered again";
  EXPECT_EQ(counters().released_qos2, 1u);
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 another"), "OK 7");
  EXPECT_EQ(all(bob), lines{"MSG 2 2 0 - a/b another"});
}

TEST_P(Qos2, ARepetitionInTheSameBurstGetsTheAnswerOfTheFirst) {
  server->send(alice, "PUB a/b 2:7 text");
  server->send(alice, "PUB a/b 2:7 text");
  server->send(alice, "REL 7"); // the client has no answer yet that it could release
  server->settle();
  EXPECT_EQ(all(alice), lines{"OK 2"});
  EXPECT_EQ(all(bob), lines{"MSG 1 2 0 - a/b text"});
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 text"), "OK 5");
  EXPECT_EQ(all(bob), lines{}) << "the early release has not closed the identifier";
}

TEST_P(Qos2, APublishBehindTheReleaseInOneBurstIsANewMessage) {
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 one"), "OK 2");
  server->send(alice, "REL 7");
  server->send(alice, "PUB a/b 2:7 two");
  server->settle();
  EXPECT_EQ(all(alice), (lines{"OK 3", "OK 4"}));
  EXPECT_EQ(all(bob), (lines{"MSG 1 2 0 - a/b one", "MSG 2 2 0 - a/b two"}));
}

TEST_P(Qos2, AReleaseOfAnUnknownIdentifierIsAnswered) {
  EXPECT_EQ(ask(alice, "REL 7"), "OK 2");
  EXPECT_EQ(counters().released_qos2, 0u);
}

TEST_P(Qos2, IdentifiersOfTwoSessionsAreApart) {
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 one"), "OK 2");
  EXPECT_EQ(ask(bob, "PUB a/b 2:7 two"), "OK 3");
  EXPECT_EQ(counters().repeated_qos2, 0u);
  EXPECT_EQ(all(bob).size(), 2u);
}

TEST_P(Qos2, AMessageWithoutSubscribersIsKeptUntilItsRelease) {
  EXPECT_EQ(ask(alice, "PUB nobody 2:7 text"), "OK 2");
  EXPECT_EQ(live(), 1u);
  EXPECT_EQ(ask(alice, "PUB nobody 2:7 text"), "OK 3");
  EXPECT_EQ(live(), 1u);
  EXPECT_EQ(ask(alice, "REL 7"), "OK 4");
  EXPECT_EQ(live(), 0u);
}

TEST_P(Qos2, AnIdentifierOutlivesTheConnectionAndNotACleanStart) {
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 one"), "OK 2");
  send(alice, "BYE");
  (void)all(alice);
  EXPECT_EQ(ask(alice, "CONNECT " + alice_id + " -"), "OK 4 present");
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 one"), "OK 5");
  EXPECT_EQ(counters().repeated_qos2, 1u);
  EXPECT_EQ(all(bob), lines{"MSG 1 2 0 - a/b one"});
  send(bob, "REC 1");
  send(bob, "ACK 1");
  (void)all(bob);
  EXPECT_EQ(live(), 1u) << "the identifier keeps its message";
  EXPECT_EQ(ask(alice, "CONNECT " + alice_id + " clean"), "OK 6");
  EXPECT_EQ(live(), 0u) << "the clean start ends the identifier";
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 new"), "OK 7");
  EXPECT_EQ(all(bob), lines{"MSG 2 2 0 - a/b new"})
      << "an old identifier must not swallow a new message";
}

TEST_P(Qos2, AMessageWhoseSessionEndsInItsBurstIsDeliveredAndIdentifiesNothing) {
  server->send(alice, "PUB a/b 2:7 one");
  server->send(alice, "CONNECT " + alice_id + " clean");
  server->send(alice, "PUB a/b 2:7 two");
  server->settle();
  EXPECT_EQ(all(bob), (lines{"MSG 1 2 0 - a/b one", "MSG 2 2 0 - a/b two"}));
  (void)all(alice);
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 two"), "OK 5");
  EXPECT_EQ(all(bob), lines{});
}

TEST_P(Qos2, ASessionMayHaveSoManyIdentifiersOpenAndNoMore) {
  config.identifiers_per_session_max = 3;
  start();
  for (int i = 1; i <= 3; ++i)
    ASSERT_EQ(ask(alice, "PUB a/b 2:" + std::to_string(i) + " text"),
              "OK " + std::to_string(i + 1));
  EXPECT_EQ(ask(alice, "PUB a/b 2:4 text"), "NO 5 congestion");
  EXPECT_EQ(counters().refused_identifiers, 1u);
  EXPECT_EQ(ask(alice, "PUB a/b 2:3 text"), "OK 6") << "a repetition needs no room";
  EXPECT_EQ(ask(bob, "PUB a/b 2:4 text"), "OK 3") << "the limit is each session's own";
  EXPECT_EQ(ask(alice, "REL 1"), "OK 7");
  EXPECT_EQ(ask(alice, "PUB a/b 2:4 text"), "OK 8");
}

TEST_P(Qos2, AWorkerMayHaveSoManyIdentifiersOpenAndNoMore) {
  config.identifiers_max = 2;
  start();
  EXPECT_EQ(ask(alice, "PUB a/b 2:1 text"), "OK 2");
  EXPECT_EQ(ask(alice, "PUB a/b 2:2 text"), "OK 3");
  EXPECT_EQ(ask(alice, "PUB a/b 2:3 text"), "NO 4 congestion");
  EXPECT_EQ(counters().refused_identifiers, 1u);
  EXPECT_EQ(ask(alice, "CONNECT " + alice_id + " clean"), "OK 5");
  EXPECT_EQ(ask(alice, "PUB a/b 2:3 text"), "OK 6") << "the clean start has freed the others";
}

TEST_P(Qos2, ARefusedMessageLeavesNoIdentifier) {
  for (int i = 1; i <= 15; ++i) // Bob answers nothing, and his queue becomes full
    ASSERT_EQ(ask(alice, "PUB a/b 1 text"), "OK " + std::to_string(i + 1));
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 text"), "NO 17 congestion");
  for (int i = 1; i <= 15; ++i)
    send(bob, "ACK " + std::to_string(i));
  (void)all(bob);
  EXPECT_EQ(live(), 0u);
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 text"), "OK 18") << "the same message is accepted later";
  EXPECT_EQ(all(bob), lines{"MSG 16 2 0 - a/b text"});
  EXPECT_EQ(counters().repeated_qos2, 0u);
}

TEST_P(Qos2, AMessageIsDeliveredAtTheLowerQos) {
  ASSERT_EQ(ask(bob, "UNSUB a/#"), "OK 3");
  ASSERT_EQ(ask(bob, "SUB zero 0"), "OK 4");
  ASSERT_EQ(ask(bob, "SUB one 1"), "OK 5");
  ASSERT_EQ(ask(bob, "SUB two 2"), "OK 6");
  for (const char* at : {"0", "1", "2:1"})
    for (const char* topic : {"zero", "one", "two"}) {
      server->send(alice, std::string("PUB ") + topic + " " + at + " x");
      server->settle();
      if (at[0] == '2') (void)ask(alice, "REL 1");
    }
  std::vector<std::string> got;
  for (const std::string& l : all(bob)) // "MSG n qos bits flags topic text"
    got.push_back(l.substr(l.find(' ', 4) + 1, 1) + " " + l.substr(l.rfind(' ', l.size() - 3) + 1));
  EXPECT_EQ(got, (lines{"0 zero x", "0 one x", "0 two x", "0 zero x", "1 one x", "1 two x",
                        "0 zero x", "1 one x", "2 two x"}));
}

TEST_P(Qos2, ARetainedMessageThatIsRepeatedIsSetOnce) {
  EXPECT_EQ(ask(alice, "RET a/b 2:7 text"), "OK 2");
  EXPECT_EQ(ask(alice, "RET a/b 2:7 text"), "OK 3");
  EXPECT_EQ(ask(alice, "REL 7"), "OK 4");
  EXPECT_EQ(all(bob), lines{"MSG 1 2 0 - a/b text"});
  EXPECT_EQ(ask(bob, "SUB a/b 2"), "OK 3");
  EXPECT_EQ(all(bob), lines{"MSG 2 2 0 retained a/b text"});
  for (const char* n : {"1", "2"}) {
    send(bob, std::string("REC ") + n);
    send(bob, std::string("ACK ") + n);
  }
  EXPECT_EQ(live(), 1u) << "only the retained message keeps it";
  EXPECT_EQ(ask(alice, "RET a/b 2:7"), "OK 5");
  EXPECT_EQ(ask(alice, "RET a/b 2:7"), "OK 6");
  (void)all(bob);
  for (const char* n : {"3", "4"})
    send(bob, std::string("ACK ") + n);
  EXPECT_EQ(ask(alice, "REL 7"), "OK 7");
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(Qos2, AMessageThatWasReceivedIsReleasedAndNotSentAgain) {
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 text"), "OK 2");
  EXPECT_EQ(all(bob), lines{"MSG 1 2 0 - a/b text"});
  send(bob, "REC 1");
  EXPECT_EQ(all(bob), lines{"REL 1"});
  send(bob, "REC 1");
  EXPECT_EQ(all(bob), lines{"REL 1"}) << "a receipt that is repeated is answered again";
  EXPECT_EQ(counters().received_qos2, 1u);
  send(bob, "NACK 1");
  EXPECT_EQ(all(bob), lines{"REL 2"}) << "a message given back after its receipt is only released";
  send(bob, "BYE");
  (void)all(bob);
  EXPECT_EQ(ask(bob, "CONNECT " + bob_id + " -"), "OK 4 present");
  EXPECT_EQ(all(bob), lines{"REL 3"});
  EXPECT_EQ(counters().delivered, 1u);
  send(bob, "ACK 3");
  EXPECT_EQ(ask(alice, "REL 7"), "OK 3");
  EXPECT_EQ(live(), 0u);
  send(bob, "BYE");
  (void)all(bob);
  EXPECT_EQ(ask(bob, "CONNECT " + bob_id + " -"), "OK 6 present");
  EXPECT_EQ(all(bob), lines{});
}

TEST_P(Qos2, SeveralMessagesAreReceivedAndReleasedInAnyOrder) {
  for (int i = 1; i <= 4; ++i)
    ASSERT_EQ(ask(alice, "PUB a/b 2:" + std::to_string(i) + " " + std::to_string(i)),
              "OK " + std::to_string(i + 1));
  (void)all(bob);
  server->send(bob, "REC 3");
  server->send(bob, "REC 1");
  server->settle();
  EXPECT_EQ(all(bob), (lines{"REL 3", "REL 1"}));
  send(bob, "ACK 3");
  send(bob, "BYE");
  (void)all(bob);
  EXPECT_EQ(ask(bob, "CONNECT " + bob_id + " -"), "OK 4 present");
  EXPECT_EQ(all(bob), (lines{"REL 5", "MSG 6 2 0 again a/b 2", "MSG 7 2 0 again a/b 4"}));
}

TEST_P(Qos2, DropOldestNeverDropsAMessageThatMayHaveBeenDelivered) {
  config.overflow = overflow_policy::drop_oldest;
  start();
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 first"), "OK 2");
  send(bob, "REC 1");
  EXPECT_EQ(all(bob), (lines{"MSG 1 2 0 - a/b first", "REL 1"}));
  for (int i = 0; i < 14; ++i)
    ASSERT_EQ(ask(alice, "PUB a/b 1 text"), "OK " + std::to_string(i + 3));
  server->send(alice, "PUB a/b 1 text");
  server->settle();
  EXPECT_EQ(counters().dropped_oldest, 0u);
  (void)all(bob);
  send(bob, "BYE");
  (void)all(bob);
  EXPECT_EQ(ask(bob, "CONNECT " + bob_id + " -"), "OK 4 present");
  EXPECT_EQ(server->next(bob), "REL 16");
}

TEST_P(Qos2, AReceiptOfAnUnknownDeliveryChangesNothing) {
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 text"), "OK 2");
  (void)all(bob);
  send(bob, "REC 9");
  EXPECT_EQ(all(bob), lines{});
  send(bob, "ACK 1");
  send(bob, "REC 1");
  EXPECT_EQ(all(bob), lines{});
  EXPECT_EQ(counters().received_qos2, 0u);
}

/// Bob's queue becomes full, and only his worker may drop from it.
class Qos2SetAside : public Qos2 {};

TEST_P(Qos2SetAside, AMessageThatIsSetAsideHasNoOutcomeUntilThereIsRoom) {
  config.overflow = overflow_policy::drop_oldest;
  start();
  for (int i = 1; i <= 15; ++i)
    ASSERT_EQ(ask(alice, "PUB a/b 1 text"), "OK " + std::to_string(i + 1));
  (void)all(bob);
  server->send(alice, "PUB a/b 2:7 new");
  (void)server->turn(0);
  ASSERT_EQ(counters().set_aside, 1u);
  server->send(alice, "PUB a/b 2:7 new");
  server->send(alice, "REL 7");
  (void)server->turn(0);
  EXPECT_EQ(all(alice), lines{}) << "neither a repetition nor an early release has an answer yet";
  server->settle();
  EXPECT_EQ(all(alice), lines{"OK 17"});
  EXPECT_EQ(counters().repeated_qos2, 1u);
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 new"), "OK 20");
  EXPECT_EQ(counters().repeated_qos2, 2u) << "the message is accepted, and its identifier is open";
  EXPECT_EQ(ask(alice, "REL 7"), "OK 21");
}

TEST_P(Qos2SetAside, AMessageSetAsideWhoseSessionEndsIsDeliveredAndIdentifiesNothing) {
  config.overflow = overflow_policy::drop_oldest;
  start();
  for (int i = 1; i <= 15; ++i)
    ASSERT_EQ(ask(alice, "PUB a/b 1 text"), "OK " + std::to_string(i + 1));
  server->send(alice, "PUB a/b 2:7 old");
  (void)server->turn(0);
  ASSERT_EQ(counters().set_aside, 1u);
  server->send(alice, "CONNECT " + alice_id + " clean");
  (void)server->turn(0);
  server->settle();
  (void)all(alice);
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 new"), "OK 19");
  EXPECT_EQ(counters().repeated_qos2, 0u);
  EXPECT_EQ(counters().placed, 17u);
}

/// Processes one after the other, each with another number of workers and so with other homes.
class Qos2Restarts : public testing::Test {
 protected:
  using lines = std::vector<std::string>;
  test::line_bytes bytes{4 << 20};
  std::unique_ptr<test::line_server> server;
  std::uint32_t identifiers_max = 64;

  void restart(unsigned workers, bool fresh = false) {
    server.reset();
    broker_config config = line_config(workers, 15);
    config.identifiers_max = identifiers_max;
    store_layout layout;
    layout.sessions_max = 64;
    layout.subscriptions_max = 128;
    auto made = broker_on(std::make_unique<test::kept_media>(bytes), config, fresh, layout);
    ASSERT_TRUE(made) << made.error().message;
    server = std::make_unique<test::line_server>(std::move(*made));
    (void)ask(alice, "CONNECT alice -");
    (void)ask(bob, "CONNECT bob -");
  }
  void SetUp() override {
    restart(1, true);
    ASSERT_EQ(ask(bob, "SUB a/# 2"), "OK 2");
  }
  std::string ask(unsigned connection, const std::string& line) {
    return server->ask(connection, line);
  }
  std::vector<std::string> all(unsigned connection) {
    server->settle();
    std::vector<std::string> lines;
    for (std::string l = server->next(connection); !l.empty(); l = server->next(connection))
      lines.push_back(l);
    return lines;
  }
};

TEST_F(Qos2Restarts, IdentifiersAndReceiptsOutliveTheProcess) {
  ASSERT_EQ(ask(alice, "PUB a/b 2:7 text"), "OK 2");
  server->send(bob, "REC 1");
  ASSERT_EQ(all(bob), (lines{"MSG 1 2 0 - a/b text", "REL 1"}));
  for (const unsigned workers : {2u, 3u, 1u}) {
    restart(workers);
    EXPECT_EQ(all(bob), lines{"REL 1"});
    EXPECT_EQ(ask(alice, "PUB a/b 2:7 text"), "OK 2");
    EXPECT_EQ(server->broker().counters().repeated_qos2, 1u);
  }
  EXPECT_EQ(ask(alice, "REL 7"), "OK 3");
  server->send(bob, "ACK 1");
  server->settle();
  EXPECT_EQ(server->broker().message_statistics().live, 0u);
  restart(2);
  EXPECT_EQ(all(bob), lines{});
  EXPECT_EQ(ask(alice, "REL 7"), "OK 2") << "a release of an earlier process is answered";
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 new"), "OK 3");
  EXPECT_EQ(all(bob), lines{"MSG 1 2 0 - a/b new"});
}

TEST_F(Qos2Restarts, MoreIdentifiersThanAWorkerMayHaveAreAllKept) {
  for (int i = 1; i <= 5; ++i)
    ASSERT_EQ(ask(alice, "PUB a/b 2:" + std::to_string(i) + " text"),
              "OK " + std::to_string(i + 1));
  identifiers_max = 2;
  restart(1);
  for (int i = 1; i <= 5; ++i)
    EXPECT_EQ(ask(alice, "PUB a/b 2:" + std::to_string(i) + " text"),
              "OK " + std::to_string(i + 1));
  EXPECT_EQ(server->broker().counters().repeated_qos2, 5u);
  EXPECT_EQ(ask(alice, "PUB a/b 2:6 text"), "NO 7 congestion");
  EXPECT_EQ(ask(alice, "REL 1"), "OK 8");
  EXPECT_EQ(ask(alice, "PUB a/b 2:6 text"), "OK 9");
}

TEST_F(Qos2Restarts, TwoIdentifiersOfOneNameAreNotedAndTheSecondIsClosed) {
  ASSERT_EQ(ask(alice, "PUB a/b 2:7 text"), "OK 2");
  message_table& messages = broker_access::state(server->broker()).messages();
  session_table& sessions = broker_access::state(server->broker()).sessions();
  message_fields fields; // what no broker writes
  fields.topic_size = 3;
  fields.qos = 2;
  fields.identifier_open = true;
  fields.packet_id = 7;
  fields.publisher_session = sessions.identity(0) == "alice" ? 0 : 1;
  fields.publisher_incarnation = sessions.incarnation(fields.publisher_session);
  message second;
  ASSERT_TRUE(messages.reserve(fields, second));
  messages.copy_in(second, "a/b", 3);
  messages.stage(second);
  messages.publish(second);
  restart(1);
  ASSERT_EQ(server->broker().opened().notes.size(), 1u);
  EXPECT_NE(server->broker().opened().notes[0].find("has another message with packet id 7"),
            std::string::npos)
      << server->broker().opened().notes[0];
  EXPECT_EQ(ask(alice, "PUB a/b 2:7 text"), "OK 2");
  EXPECT_EQ(server->broker().counters().repeated_qos2, 1u);
  restart(1);
  EXPECT_EQ(server->broker().opened().notes.size(), 0u);
}

INSTANTIATE_TEST_SUITE_P(Workers, Qos2, testing::Values(1u, 2u));
INSTANTIATE_TEST_SUITE_P(Workers, Qos2SetAside, testing::Values(2u));

} // namespace
} // namespace chainring::testing_line
