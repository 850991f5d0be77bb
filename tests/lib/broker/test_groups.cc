// SPDX-License-Identifier: BSD-3-Clause
// Shared subscriptions through the second front end: who gets which message, and what is kept while
// all members are away.
#include <map>
#include <set>

#include "broker/access.h"
#include "groups_fixture.h"
#include "support/eal_main.h"

namespace chainring::testing_line {
namespace {

TEST_P(Groups, GiveEveryMessageToExactlyOneMember) {
  join(3);
  publish(1, 12);
  std::map<std::string, int> seen;
  for (unsigned m = 0; m < 3; ++m) {
    const texts got = take_texts(m);
    EXPECT_EQ(got.size(), 4u) << "member " << m;
    for (const std::string& t : got)
      ++seen[t];
  }
  EXPECT_EQ(seen.size(), 12u);
  for (const auto& [text, times] : seen)
    EXPECT_EQ(times, 1) << text;
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(Groups, ShareABurstOfMessagesAmongTheirMembers) {
  join(4);
  for (int i = 0; i < 12; ++i)
    server->send(alice, "PUB a/b 1 " + std::to_string(i));
  server->settle();
  for (unsigned m = 0; m < 4; ++m) {
    const std::size_t got = take_texts(m).size();
    EXPECT_GE(got, 1u) << "member " << m;
    EXPECT_LE(got, 6u) << "member " << m;
  }
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(Groups, KeepMessagesWhileAllMembersAreAwayAndTheFirstBackGetsThem) {
  join(2);
  for (unsigned m = 0; m < 2; ++m)
    send(members_at + m, "BYE");
  publish(1, 3);
  EXPECT_EQ(groups().at(0).queue_depth, 3u);
  ASSERT_TRUE(connect(1));
  EXPECT_EQ(take_texts(1), (texts{"1", "2", "3"}));
  ASSERT_TRUE(connect(0));
  EXPECT_EQ(take_texts(0), texts{});
  EXPECT_EQ(live(), 0u);
}

TEST_P(Groups, GiveWhatAMemberThatLeftDidNotAcknowledgeToTheOthersAsRedelivered) {
  join(1);
  publish(1, 3);
  const auto first = take(0);
  ASSERT_EQ(first.size(), 3u);
  acknowledge(0, first[1]);
  ASSERT_TRUE(connect(1));
  ASSERT_TRUE(subscribe(1, "$share/g/a/#"));
  EXPECT_EQ(take(1).size(), 0u);
  send(members_at, "BYE");
  std::set<std::string> got;
  for (const arrived& a : take(1)) {
    EXPECT_EQ(a.flags, "again") << a.text;
    got.insert(a.text);
    acknowledge(1, a);
  }
  EXPECT_EQ(got, (std::set<std::string>{"1", "3"}));
  EXPECT_EQ(live(), 0u);
}

TEST_P(Groups, ServeSeveralFiltersAndPlainSubscriptionsSideBySide) {
  join(2);
  ASSERT_TRUE(subscribe(0, "$share/other/a/b", "1"));
  ASSERT_TRUE(subscribe(0, "$share/g/c/+"));
  ASSERT_TRUE(subscribe(1, "a/b 1", "3"));
  EXPECT_EQ(groups().size(), 3u);
  publish(1, 1);
  // One for the group g, one for the group other, and one for the plain subscription of member 1.
  std::size_t zero = take_texts(0).size(), one = take_texts(1).size();
  EXPECT_EQ(zero + one, 3u);
  EXPECT_GE(zero, 1u);
  EXPECT_GE(one, 1u);
  publish(2, 2, "c/d");
  EXPECT_EQ(take_texts(0), texts{"2"});
  EXPECT_EQ(take_texts(1), texts{});
  EXPECT_EQ(live(), 0u);
}

TEST_P(Groups, EndWithTheLastMemberAndAreMadeAgainEmpty) {
  join(2);
  for (unsigned m = 0; m < 2; ++m)
    send(members_at + m, "BYE");
  publish(1, 2);
  EXPECT_EQ(live(), 2u);
  EXPECT_TRUE(server->broker().kick(name(0)));
  server->settle();
  EXPECT_EQ(groups().size(), 1u);
  ASSERT_TRUE(connect(1));
  EXPECT_EQ(ask(members_at + 1, "UNSUB $share/g/a/#").substr(0, 2), "OK");
  server->settle();
  EXPECT_EQ(groups().size(), 0u);
  EXPECT_EQ(live(), 0u);
  EXPECT_EQ(server->broker().counters().groups_ended, 1u);
  publish(3, 3); // nobody wants it
  EXPECT_EQ(live(), 0u);
  (void)take(1);
  ASSERT_TRUE(subscribe(1, "$share/g/a/#"));
  EXPECT_EQ(take_texts(1), texts{});
  publish(4, 4);
  EXPECT_EQ(take_texts(1), texts{"4"});
  EXPECT_EQ(live(), 0u);
}

TEST_P(Groups, EndAndBeginAgainInOneBurst) {
  join(1);
  publish(1, 1);
  (void)take(0);
  server->send(members_at, "UNSUB $share/g/a/#");
  server->send(members_at, "SUB $share/g/a/# 1");
  server->send(members_at, "UNSUB $share/g/a/#");
  server->send(members_at, "UNSUB $share/g/a/#");
  server->send(members_at, "SUB $share/g/a/# 1");
  server->settle();
  std::vector<std::string> said;
  for (std::string line = server->next(members_at); !line.empty(); line = server->next(members_at))
    said.push_back(line);
  EXPECT_EQ(said, (texts{"DROP 1", "OK 3", "OK 4", "OK 5", "NO 6 not_found", "OK 7"}));
  server->settle();
  EXPECT_EQ(live(), 0u);
  EXPECT_EQ(groups().size(), 1u);
  EXPECT_EQ(server->broker().counters().groups_made, 3u);
}

TEST_P(Groups, GiveWhatALostOrSleepingMemberDidNotAcknowledgeToTheOthersAtOnce) {
  join(3);
  send(members_at + 1, "STOP");
  send(members_at + 2, "STOP");
  publish(1, 2);
  const auto kept = take(0);
  // The stopped members keep at most one each, which was offered to them.
  send(members_at, "SLEEP 1000");
  std::set<std::string> told;
  for (std::string line = server->next(members_at); !line.empty(); line = server->next(members_at))
    told.insert(line);
  for (const arrived& a : kept)
    EXPECT_TRUE(told.contains("DROP " + a.number)) << "the front end must not send it again";
  EXPECT_EQ(server->broker().counters().given_back, kept.size());
  send(members_at + 1, "GO");
  send(members_at + 2, "LOST"); // with what it was offered and did not take
  const auto all = take(1);
  std::set<std::string> got;
  for (const arrived& a : all)
    got.insert(a.text);
  EXPECT_EQ(got, (std::set<std::string>{"1", "2"}));
  send(members_at + 1, "LOST"); // with what it took and did not acknowledge
  EXPECT_EQ(live(), 2u);
  EXPECT_EQ(take(0).size(), 0u) << "nothing is sent to a client that sleeps";
  ASSERT_TRUE(connect(2));
  server->settle();
  const auto last = take_texts(2);
  EXPECT_EQ((std::set<std::string>{last.begin(), last.end()}), got);
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(Groups, DoNotStallBehindAMemberThatTakesNothing) {
  join(3);
  send(members_at + 1, "STOP");
  publish(1, 20);
  server->settle();
  std::size_t got = 0;
  for (const unsigned m : {0u, 2u})
    got += take_texts(m).size();
  server->settle();
  for (const unsigned m : {0u, 2u})
    got += take_texts(m).size();
  // The stopped member keeps at most the one that was offered to it.
  EXPECT_GE(got, 19u);
  send(members_at + 1, "GO");
  got += take_texts(1).size();
  EXPECT_EQ(got, 20u);
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(Groups, GiveAMessageAtQos0ToOnePresentMember) {
  join(3);
  send(members_at + 2, "BYE");
  std::size_t got = 0;
  for (int i = 0; i < 6; ++i) {
    send(alice, "PUB a/b 0 " + std::to_string(i));
    for (unsigned m = 0; m < 2; ++m)
      for (const arrived& a : take(m)) {
        EXPECT_EQ(a.qos, "0");
        ++got;
      }
  }
  EXPECT_EQ(got, 6u);
  send(members_at, "BYE");
  send(members_at + 1, "BYE");
  send(alice, "PUB a/b 0 nobody");
  ASSERT_TRUE(connect(0));
  EXPECT_EQ(take(0).size(), 0u);
}

TEST_P(Groups, DeliverAtTheQosOfTheMember) {
  ASSERT_TRUE(connect(0));
  ASSERT_TRUE(subscribe(0, "$share/g/a/#", "0 2"));
  send(alice, "PUB a/b 1 one");
  auto got = take(0);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].qos, "0");
  EXPECT_EQ(got[0].bits, "2");
  // A second member makes the group keep messages; the first still gets them at QoS 0.
  ASSERT_TRUE(connect(1));
  ASSERT_TRUE(subscribe(1, "$share/g/a/#", "1 3"));
  publish(1, 4);
  for (const arrived& a : take(0))
    EXPECT_EQ(a.qos + a.bits, "02");
  for (const arrived& a : take(1)) {
    EXPECT_EQ(a.qos + a.bits, "13");
    acknowledge(1, a);
  }
  server->settle();
  EXPECT_EQ(live(), 0u);
}

TEST_P(Groups, HaveLimitsThatAreCounted) {
  config.group_members_max = 2;
  layout.groups_max = 2;
  start();
  join(2);
  ASSERT_TRUE(connect(2));
  EXPECT_EQ(ask(members_at + 2, "SUB $share/g/a/# 1"), "NO 2 congestion");
  EXPECT_EQ(server->broker().counters().group_members_refused, 1u);
  EXPECT_TRUE(subscribe(2, "$share/h/a/#"));
  EXPECT_EQ(ask(members_at + 2, "SUB $share/i/a/# 1"), "NO 4 congestion");
  EXPECT_EQ(server->broker().counters().groups_refused, 1u);
  auto grown = server->broker().grow_tables();
  ASSERT_TRUE(grown);
  EXPECT_EQ(*grown, 1u);
  EXPECT_EQ(server->broker().groups_capacity(), 4u);
  EXPECT_TRUE(subscribe(2, "$share/i/a/#"));
  EXPECT_EQ(ask(members_at + 2, "SUB $share/no+/a 1"), "NO 6 too_long");
  EXPECT_EQ(ask(members_at + 2, "SUB $share//a 1"), "NO 7 too_long");
  EXPECT_EQ(ask(members_at + 2, "SUB $share/x/ 1"), "NO 8 too_long");
  EXPECT_EQ(ask(members_at + 2, "SUB $share 1"), "NO 9 too_long");
  EXPECT_EQ(server->broker().group_member_count(), 4u);
}

TEST_P(Groups, HaveALimitForEachSessionSoThatOneTakesNotAll) {
  config.group_memberships_per_session_max = 2;
  start();
  ASSERT_TRUE(connect(0));
  for (const char* group : {"g", "h", "i"}) // in one burst
    server->send(members_at, std::string("SUB $share/") + group + "/a/# 1");
  server->settle();
  EXPECT_EQ(server->next(members_at), "OK 2");
  EXPECT_EQ(server->next(members_at), "OK 3");
  EXPECT_EQ(server->next(members_at), "NO 4 congestion");
  EXPECT_EQ(ask(members_at, "SUB $share/i/a/# 1"), "NO 5 congestion");
  EXPECT_EQ(server->broker().counters().group_memberships_refused, 2u);
  EXPECT_EQ(groups().size(), 2u);
  EXPECT_EQ(ask(members_at, "SUB $share/g/a/# 0"), "OK 6") << "it is a member already";
  EXPECT_EQ(ask(members_at, "UNSUB $share/g/a/#"), "OK 7");
  EXPECT_EQ(ask(members_at, "SUB $share/i/a/# 1"), "OK 8");
  ASSERT_TRUE(connect(1));
  EXPECT_TRUE(subscribe(1, "$share/j/a/#"));
}

TEST_P(Groups, ForgetAMemberThatAnOpenFoundNoPlaceForWhenItUnsubscribes) {
  test::line_bytes bytes(4 << 20);
  config.home_seed = 1;
  const auto open_again = [&](std::uint32_t members_max, bool fresh = false) {
    server.reset();
    config.group_members_max = members_max;
    auto made = broker_on(std::make_unique<test::kept_media>(bytes), config, fresh, layout);
    ASSERT_TRUE(made) << made.error().message;
    server = std::make_unique<test::line_server>(std::move(*made));
    ASSERT_TRUE(ask(alice, "CONNECT " + identity_at(server->broker(), 0, "alice") + " clean")
                    .starts_with("OK 1"));
  };
  open_again(2, true);
  join(2);
  open_again(1);
  EXPECT_EQ(server->broker().opened().notes.size(), 1u);
  EXPECT_EQ(server->broker().group_member_count(), 1u);
  for (unsigned m = 0; m < 2; ++m) {
    ASSERT_TRUE(connect(m));
    const bool served = server->broker().session_of(name(m))->subscriptions == 1;
    if (served)
      EXPECT_TRUE(subscribe(m, "$share/g/a/#"));
    else
      EXPECT_EQ(ask(members_at + m, "UNSUB $share/g/a/#"), "NO 2 not_found");
  }
  open_again(2);
  EXPECT_EQ(server->broker().opened().notes.size(), 0u);
  EXPECT_EQ(server->broker().group_member_count(), 1u);
}

TEST_P(Groups, RefuseAMessageThatTheirFullQueueCannotTake) {
  join(1);
  send(members_at, "BYE");
  publish(1, 63);
  EXPECT_EQ(ask(alice, "PUB a/b 1 x"), "NO 65 congestion");
  EXPECT_EQ(groups().at(0).refused, 1u);
  EXPECT_EQ(groups().at(0).queue_high_water, 63u);
}

TEST_P(Groups, AreShownToOperators) {
  join(2);
  ASSERT_TRUE(subscribe(0, "$share/a-name-that-is-longer-than-a-record/some/filter/+"));
  publish(1, 2);
  const auto all = groups();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name, "g");
  EXPECT_EQ(all[0].filter, "a/#");
  EXPECT_EQ(all[0].members, 2u);
  EXPECT_EQ(all[0].queue_depth, 2u);
  EXPECT_EQ(all[0].leased, 2u);
  EXPECT_EQ(all[1].name, "a-name-that-is-longer-than-a-record");
  EXPECT_EQ(all[1].filter, "some/filter/+");
  EXPECT_EQ(server->broker().group_count(), 2u);
  EXPECT_EQ(server->broker().subscription_count(), 3u);
  const auto member = server->broker().session_of(name(0));
  ASSERT_TRUE(member);
  EXPECT_EQ(member->subscriptions, 2u);
  const auto listed = server->broker().subscriptions_of(member->number, 0, 10);
  ASSERT_EQ(listed.size(), 2u);
  EXPECT_EQ(listed[0].filter, "$share/g/a/#");
  EXPECT_EQ(listed[0].qos, 1u);
  EXPECT_EQ(listed[1].filter, "$share/a-name-that-is-longer-than-a-record/some/filter/+");
  EXPECT_EQ(server->broker().subscriptions_of(member->number, 1, 10).size(), 1u);
  EXPECT_EQ(server->broker().subscriptions_of(member->number, 2, 10).size(), 0u);
  EXPECT_EQ(server->broker().subscriptions_of(member->number, 0, 1).size(), 1u);
  std::vector<group_info> page;
  const std::uint32_t next = server->broker().groups(0, 1, page);
  ASSERT_NE(next, 0u);
  EXPECT_EQ(server->broker().groups(next, 10, page), 0u);
  EXPECT_EQ(page.size(), 2u);
}

TEST_P(Groups, AreNotSearchedForTheMembershipsThatAListOfSessionsCounts) {
  join(2);
  static std::uint64_t looked_at;
  looked_at = 0;
  set_hook(
      [](const char* at, void*) noexcept { looked_at += std::string_view(at) == "group.listed"; },
      nullptr);
  std::vector<session_info> sessions;
  (void)server->broker().sessions(0, 100, sessions);
  EXPECT_EQ(looked_at, 0u) << "a list of sessions walks through all groups for each of them";
  for (const session_info& i : sessions) {
    const auto filters = server->broker().subscriptions_of(i.number, 0, 10);
    EXPECT_EQ(filters.size(), i.subscriptions);
    EXPECT_EQ(looked_at != 0, i.subscriptions != 0) << "only members are looked for";
    looked_at = 0;
  }
  set_hook(nullptr, nullptr);
  EXPECT_EQ(server->broker().session_of(name(0))->subscriptions, 1u);
  ASSERT_EQ(ask(members_at, "UNSUB $share/g/a/#").substr(0, 2), "OK");
  EXPECT_EQ(server->broker().session_of(name(0))->subscriptions, 0u);
}

// The session's number is used again afterwards, by a session that is in no group.
TEST_P(Groups, AreNotJoinedByASessionThatEndsInTheBurstOfItsSubscribe) {
  const char* const ways[] = {"kick", "LOST"};
  for (const std::string way : ways)
    for (const std::string filter : {"$share/g/a/#", "a/#"}) {
      SCOPED_TRACE(way + " " + filter);
      ASSERT_EQ(
          ask(members_at, "CONNECT " + name(0) + (way == "LOST" ? " passing" : " -") + " w 1 gone"),
          "OK 1");
      const std::uint32_t number = server->broker().session_of(name(0))->number;
      server->send(members_at, "SUB " + filter + " 1");
      if (way == "kick")
        (void)server->broker().kick(name(0));
      else
        server->send(members_at, "LOST");
      server->settle();
      EXPECT_FALSE(server->broker().session_of(name(0)));
      EXPECT_EQ(server->broker().group_member_count(), 0u);
      EXPECT_EQ(groups().size(), 0u);
      EXPECT_EQ(server->broker().subscription_count(), 0u);
      ASSERT_EQ(ask(members_at + 1, "CONNECT " + name(1) + " passing"), "OK 1");
      if (GetParam() == 1) {
        EXPECT_EQ(server->broker().session_of(name(1))->number, number);
      }
      send(alice, "PUB a/b 1 x");
      EXPECT_EQ(take(1).size(), 0u);
      EXPECT_EQ(live(), 0u);
      send(members_at + 1, "BYE");
      start();
    }
}

// The earlier record counts until the end of the session is durable, so the second SUBSCRIBE does
// not erase it.
TEST_P(Groups, LoseAMemberThatSubscribesAgainAndEndsInOneBurst) {
  join(2);
  ASSERT_EQ(ask(members_at, "CONNECT " + name(0) + " - w 1 gone"), "OK 3 present");
  server->send(members_at, "SUB $share/g/a/# 0");
  (void)server->broker().kick(name(0));
  server->settle();
  EXPECT_EQ(server->broker().group_member_count(), 1u);
  publish(1, 2);
  EXPECT_EQ(take_texts(1), (texts{"1", "2"}));
  EXPECT_EQ(broker_access::state(server->broker()).subscriptions().len(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Workers, Groups, testing::Values(1u, 2u));

} // namespace
} // namespace chainring::testing_line
