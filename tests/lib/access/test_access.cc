// SPDX-License-Identifier: BSD-3-Clause
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>
#include <vector>

#include "access/access.h"
#include "topic/topic.h"

namespace chainring::access {
namespace {

std::shared_ptr<const rule_set> rules_of(const std::string& text) {
  auto made = rule_set::parse(text, "rules");
  EXPECT_TRUE(made) << made.error().message;
  return made ? *made : nullptr;
}

constexpr std::uint32_t ipv4(unsigned a, unsigned b, unsigned c, unsigned d) {
  return a << 24 | b << 16 | c << 8 | d;
}
const ip_address inside_10 = ip_address::from_ipv4(ipv4(10, 1, 2, 3));
const ip_address outside_10 = ip_address::from_ipv4(ipv4(11, 1, 2, 3));

bool may_connect(const rule_set& r, std::string_view id, ip_address from = inside_10,
                 std::uint16_t listener = 0) {
  return r.judge({id, from, listener}).connect().allowed;
}
bool may_publish(const rule_set& r, std::string_view id, std::string_view topic,
                 ip_address from = inside_10) {
  const sender who{id, from, 0};
  return r.publish(r.judge(who), who, topic).allowed;
}
bool may_subscribe(const rule_set& r, std::string_view id, std::string_view filter) {
  const sender who{id, inside_10, 0};
  return r.subscribe(r.judge(who), who, filter).allowed;
}

TEST(AccessRules, AnEmptyFileDeniesEverything) {
  for (const char* text : {"", "\n", "# only a comment\n\n  # and another"}) {
    const auto r = rules_of(text);
    EXPECT_FALSE(may_connect(*r, "a"));
    EXPECT_FALSE(may_publish(*r, "a", "t"));
    EXPECT_FALSE(may_subscribe(*r, "a", "t"));
  }
}

TEST(AccessRules, TheDefaultDecidesWhereNoRuleFitsWhereverItStands) {
  const auto r = rules_of("deny connect client bad\ndefault allow\ndeny publish topic a");
  EXPECT_TRUE(may_connect(*r, "good"));
  EXPECT_FALSE(may_connect(*r, "bad"));
  EXPECT_TRUE(may_publish(*r, "good", "b"));
  EXPECT_FALSE(may_publish(*r, "good", "a"));
}

// A rule that denies takes such an id for any text, so the name "a" is denied, and a filter that
// takes it in must be denied as well.
TEST(AccessRules, AnIdThatCannotStandInALevelIsDeniedWhatWildcardsTakeIn) {
  const auto r = rules_of("deny subscribe topic $S%cX\ndefault allow");
  for (const char* filter : {"a", "+", "#"}) {
    EXPECT_FALSE(may_subscribe(*r, "+", filter)) << filter;
    EXPECT_TRUE(may_subscribe(*r, "one", filter)) << filter;
  }
  EXPECT_FALSE(may_subscribe(*r, "one", "$SoneX"));
}

TEST(AccessRules, TheFirstRuleThatFitsDecides) {
  const auto r = rules_of("allow publish topic a/b\ndeny publish topic a/#\nallow publish");
  EXPECT_TRUE(may_publish(*r, "c", "a/b"));
  EXPECT_FALSE(may_publish(*r, "c", "a"));
  EXPECT_FALSE(may_publish(*r, "c", "a/c"));
  EXPECT_TRUE(may_publish(*r, "c", "b"));
}

TEST(AccessRules, ARuleConcernsOnlyTheActionsThatItNames) {
  const auto r = rules_of("allow publish,connect\n");
  EXPECT_TRUE(may_connect(*r, "c"));
  EXPECT_TRUE(may_publish(*r, "c", "a"));
  EXPECT_FALSE(may_subscribe(*r, "c", "a"));
}

TEST(AccessRules, AClientPatternHasStarsAndQuestionMarks) {
  const struct {
    const char *pattern, *id;
    bool fits;
  } cases[] = {{"abc", "abc", true},   {"abc", "abcd", false},   {"abc", "ab", false},
               {"*", "x", true},       {"a*", "a", true},        {"a*", "ab", true},
               {"a*", "ba", false},    {"*b", "ab", true},       {"*b", "abb", true},
               {"*b", "aba", false},   {"a*b*c", "axbxc", true}, {"a*b*c", "abcbc", true},
               {"a*b*c", "ac", false}, {"a?c", "abc", true},     {"a?c", "ac", false},
               {"?", "", false},       {"**a**", "xay", true},   {"*aab", "aaaaab", true},
               {"a[b]", "a[b]", true}, {"A", "a", false},        {"*?", "a", true}};
  for (const auto& c : cases) {
    const auto r = rules_of("allow connect client " + std::string(c.pattern));
    EXPECT_EQ(may_connect(*r, c.id), c.fits) << c.pattern << " " << c.id;
  }
}

TEST(AccessRules, AnAddressRangeHoldsExactlyItsAddresses) {
  const auto from = [](const std::string& range) {
    return rules_of("allow connect from " + range);
  };
  EXPECT_TRUE(may_connect(*from("10.0.0.0/8"), "c", inside_10));
  EXPECT_FALSE(may_connect(*from("10.0.0.0/8"), "c", outside_10));
  EXPECT_TRUE(may_connect(*from("0.0.0.0/0"), "c", outside_10));
  EXPECT_TRUE(may_connect(*from("10.1.2.3"), "c", inside_10));
  EXPECT_FALSE(may_connect(*from("10.1.2.2"), "c", inside_10));
  EXPECT_TRUE(may_connect(*from("10.1.2.2/31"), "c", inside_10));
  EXPECT_FALSE(may_connect(*from("10.1.2.0/31"), "c", inside_10));
  const ip_address v6{0xfd00'0000'0000'0001, 7};
  EXPECT_TRUE(may_connect(*from("fd00:0:0:1::7"), "c", v6));
  EXPECT_FALSE(may_connect(*from("fd00:0:0:1::6"), "c", v6));
  EXPECT_TRUE(may_connect(*from("fd00::/8"), "c", v6));
  EXPECT_TRUE(may_connect(*from("fd00:0:0:1::/64"), "c", v6));
  EXPECT_FALSE(may_connect(*from("fd00::/64"), "c", v6));
  EXPECT_TRUE(may_connect(*from("fd00:0:0:1::6/127"), "c", v6));
  EXPECT_TRUE(may_connect(*from("::/0"), "c", v6));
  EXPECT_FALSE(may_connect(*from("0.0.0.0/0"), "c", v6)) << "an IPv4 range holds no IPv6 address";
  EXPECT_TRUE(may_connect(*from("::ffff:10.1.2.3"), "c", inside_10));
}

TEST(AccessRules, AListenerIsComparedByItsNumber) {
  const auto r = rules_of("allow connect listener 1");
  EXPECT_FALSE(may_connect(*r, "c", inside_10, 0));
  EXPECT_TRUE(may_connect(*r, "c", inside_10, 1));
}

TEST(AccessRules, TheClientIdStandsInTheTopicWherePercentCIs) {
  const auto r = rules_of("allow publish topic dev/%c/#\nallow publish topic by-%c-%c/100%%");
  EXPECT_TRUE(may_publish(*r, "seven", "dev/seven/t"));
  EXPECT_FALSE(may_publish(*r, "seven", "dev/eight/t"));
  EXPECT_FALSE(may_publish(*r, "seven", "dev/seven7/t"));
  EXPECT_TRUE(may_publish(*r, "x", "by-x-x/100%"));
  EXPECT_FALSE(may_publish(*r, "x", "by-x-y/100%"));
}

TEST(AccessRules, AClientIdWithASlashOrAWildcardGetsNoTopicOfAnotherClient) {
  const auto allowing = rules_of("allow all client *\nallow publish topic dev/%c/#");
  const auto only_own = rules_of("allow publish,subscribe topic dev/%c/#");
  for (const char* id : {"a/b", "+", "#", "a+"}) {
    EXPECT_FALSE(may_publish(*only_own, id, "dev/a/b/t")) << id;
    EXPECT_FALSE(may_subscribe(*only_own, id, "dev/+/t")) << id;
    EXPECT_FALSE(may_subscribe(*only_own, id, "dev/#")) << id;
  }
  const auto denying = rules_of("deny publish,subscribe topic locked/%c/#\ndefault allow");
  EXPECT_FALSE(may_publish(*denying, "a", "locked/a/t"));
  EXPECT_TRUE(may_publish(*denying, "a", "locked/b/t"));
  EXPECT_FALSE(may_publish(*denying, "a/b", "locked/a/b/t")) << "the rule must not be evaded";
  EXPECT_FALSE(may_subscribe(*denying, "a/b", "locked/a/#"));
}

TEST(AccessRules, ASenderWithoutAConnectionHasNoClientId) {
  const auto r = rules_of("deny publish topic shut/%c\nallow publish client * topic a\n"
                          "allow publish unconnected topic b\nallow publish topic c\n"
                          "allow publish topic %c\nallow publish topic shut/#");
  EXPECT_FALSE(may_publish(*r, "", "a"));
  EXPECT_TRUE(may_publish(*r, "", "b"));
  EXPECT_FALSE(may_publish(*r, "id", "b"));
  EXPECT_TRUE(may_publish(*r, "", "c"));
  EXPECT_TRUE(may_publish(*r, "id", "c"));
  EXPECT_FALSE(may_publish(*r, "", "id"));
  EXPECT_TRUE(may_publish(*r, "id", "id"));
  EXPECT_FALSE(may_publish(*r, "", "shut/x")) << "a denying rule with %c shuts every level";
}

TEST(AccessRules, ASubscriptionIsAllowedWhenEveryTopicOfItsFilterIs) {
  const auto r = rules_of("deny subscribe topic a/secret\nallow subscribe topic a/#\n"
                          "allow subscribe topic b/+\nallow subscribe topic %c/+/x");
  EXPECT_TRUE(may_subscribe(*r, "c", "a/b"));
  EXPECT_TRUE(may_subscribe(*r, "c", "a"));
  EXPECT_TRUE(may_subscribe(*r, "c", "a/b/#"));
  EXPECT_FALSE(may_subscribe(*r, "c", "a/secret"));
  EXPECT_FALSE(may_subscribe(*r, "c", "a/+")) << "the filter takes in a/secret";
  EXPECT_FALSE(may_subscribe(*r, "c", "a/#"));
  EXPECT_FALSE(may_subscribe(*r, "c", "#"));
  EXPECT_TRUE(may_subscribe(*r, "c", "b/+"));
  EXPECT_FALSE(may_subscribe(*r, "c", "b/#"));
  EXPECT_FALSE(may_subscribe(*r, "c", "+/c"));
  EXPECT_TRUE(may_subscribe(*r, "c", "c/+/x"));
  EXPECT_FALSE(may_subscribe(*r, "c", "+/+/x"));
}

TEST(AccessRules, ARuleWithAWildcardInFrontDoesNotReachDollarTopicsButOneWithoutTopicDoes) {
  const auto some = rules_of("allow publish,subscribe topic #");
  EXPECT_FALSE(may_publish(*some, "c", "$SYS/x"));
  EXPECT_FALSE(may_subscribe(*some, "c", "$SYS/#"));
  EXPECT_TRUE(may_subscribe(*some, "c", "#"));
  const auto all = rules_of("allow publish,subscribe");
  EXPECT_TRUE(may_publish(*all, "c", "$SYS/x"));
  EXPECT_TRUE(may_subscribe(*all, "c", "$SYS/#"));
  const auto denied = rules_of("deny subscribe topic $SYS/#\nallow subscribe");
  EXPECT_TRUE(may_subscribe(*denied, "c", "#")) << "the filter # does not match $SYS topics";
  EXPECT_FALSE(may_subscribe(*denied, "c", "$SYS/x"));
}

// Compares each decision with one that is made name by name, over all filters and names of a few
// levels.
TEST(AccessRules, APatternAndAFilterAreComparedAsIfNameByName) {
  const std::vector<std::string> words{"a", "$b", ""}, with_wildcards{"a", "$b", "", "+", "#"};
  const auto build = [](const std::vector<std::string>& from) {
    std::vector<std::string> all, last{""};
    for (const std::string& w : from)
      all.push_back(w);
    last = all;
    for (int depth = 1; depth < 3; ++depth) {
      std::vector<std::string> next;
      for (const std::string& l : last)
        for (const std::string& w : from)
          next.push_back(l + "/" + w);
      all.insert(all.end(), next.begin(), next.end());
      last = next;
    }
    return all;
  };
  std::vector<std::string> filters = build(with_wildcards), names = build(words);
  std::erase_if(filters, [](const std::string& f) { return !valid_topic_filter(f); });
  std::erase_if(names, [](const std::string& n) { return !valid_topic_name(n); });
  for (std::size_t i = 0, n = names.size(); i < n; ++i)
    names.push_back(names[i] + "/a"); // one level more than any filter has
  names.emplace_back(); // the parent of "/#", which compare() takes for a name
  std::size_t covered = 0, overlapped = 0;
  for (const std::string& p : filters) {
    const auto pattern = topic_pattern::parse(p);
    ASSERT_TRUE(pattern) << p;
    for (const std::string& f : filters) {
      bool some = false, all = true;
      for (const std::string& n : names)
        if (topic_matches(f, n)) {
          const bool both = topic_matches(p, n);
          some |= both;
          all &= both;
        }
      const relation r = pattern->compare(f, {"id", {}}, false);
      EXPECT_EQ(r != relation::disjoint, some) << p << " and " << f;
      EXPECT_TRUE(r != relation::covers || all) << p << " does not cover " << f;
      covered += r == relation::covers;
      overlapped += r == relation::overlaps;
    }
    for (const std::string& n : names)
      EXPECT_EQ(pattern->compare(n, {"id", {}}, false),
                topic_matches(p, n) ? relation::covers : relation::disjoint)
          << p << " and the name " << n;
  }
  EXPECT_GT(covered, 0u);
  EXPECT_GT(overlapped, 0u);
}

TEST(AccessRules, AUserIsWhoHasProvedItAndMayHaveTopicsOfItsOwn) {
  const auto r = rules_of("default deny\n"
                          "deny connect anonymous client guest*\n"
                          "deny subscribe topic secret/%u\n"
                          "allow connect user sensor-*\n"
                          "allow connect client guest*\n"
                          "allow publish topic site/%u/%c/#\n"
                          "allow subscribe user sensor-1 topic #\n");
  const auto judged = [&](std::string_view id, std::string_view user) {
    return sender{.client_id = id, .address = inside_10, .listener = 0, .user = user};
  };
  const auto connects = [&](const sender& who) { return r->judge(who).connect().allowed; };
  EXPECT_TRUE(connects(judged("c", "sensor-1")));
  EXPECT_FALSE(connects(judged("c", "sensor")));
  EXPECT_FALSE(connects(judged("sensor-1", "")));
  EXPECT_FALSE(connects(judged("guest1", "")));
  EXPECT_TRUE(connects(judged("guest1", "anybody")));
  const auto publishes = [&](const sender& who, std::string_view topic) {
    return r->publish(r->judge(who), who, topic).allowed;
  };
  const sender one = judged("c", "sensor-1");
  EXPECT_TRUE(publishes(one, "site/sensor-1/c/x"));
  EXPECT_FALSE(publishes(one, "site/sensor-2/c/x"));
  EXPECT_FALSE(publishes(one, "site/c/sensor-1/x"));
  EXPECT_FALSE(publishes(judged("c", ""), "site//c/x"));
  for (const std::string_view wild : {"+", "#", "a/b"})
    EXPECT_FALSE(publishes(judged("c", wild), "site/" + std::string(wild) + "/c/x")) << wild;
  const auto subscribes = [&](const sender& who, std::string_view filter) {
    return r->subscribe(r->judge(who), who, filter).allowed;
  };
  EXPECT_TRUE(subscribes(one, "a/#"));
  EXPECT_TRUE(subscribes(one, "secret/sensor-2"));
  EXPECT_FALSE(subscribes(one, "secret/sensor-1"));
  EXPECT_FALSE(subscribes(one, "#"));
  EXPECT_FALSE(subscribes(judged("c", "sensor-2"), "a/#"));
}

TEST(AccessRules, APortOfTheBrokerHasRulesOfItsOwn) {
  const auto r = rules_of("deny all user guest* port 8883\n"
                          "allow connect port 8883\n"
                          "allow publish port 8883 topic a/#\n"
                          "allow subscribe topic a/#\n");
  const auto at = [](std::uint16_t port, std::string_view user) {
    return sender{.client_id = "c", .address = inside_10, .own_port = port, .user = user};
  };
  EXPECT_TRUE(r->judge(at(8883, "u")).connect().allowed);
  EXPECT_FALSE(r->judge(at(8883, "guest1")).connect().allowed);
  EXPECT_FALSE(r->judge(at(1883, "u")).connect().allowed);
  EXPECT_FALSE(r->judge(at(0, "u")).connect().allowed) << "a port that nobody knows";
  const auto publishes = [&](const sender& who) {
    return r->publish(r->judge(who), who, "a/b").allowed;
  };
  EXPECT_TRUE(publishes(at(8883, "u")));
  EXPECT_FALSE(publishes(at(1883, "u")));
  const sender other = at(1883, "u");
  EXPECT_TRUE(r->subscribe(r->judge(other), other, "a/b").allowed);
}

TEST(AccessRules, AVerdictListsManyRulesAndAsksForTheOthersOneByOne) {
  std::string text;
  for (int i = 0; i < 40; ++i)
    text += "allow publish client x* topic t/" + std::to_string(i) + "\n" +
            "deny publish client other" + std::to_string(i) + "\n";
  text += "deny connect client x1\nallow connect client x*";
  const auto r = rules_of(text);
  for (int i = 0; i < 40; ++i) {
    const sender who{"x2", inside_10, 0};
    const decision d = r->publish(r->judge(who), who, "t/" + std::to_string(i));
    EXPECT_TRUE(d.allowed) << i;
    EXPECT_EQ(d.line, 2u * static_cast<unsigned>(i) + 1);
  }
  EXPECT_FALSE(may_publish(*r, "x2", "t/40"));
  EXPECT_TRUE(may_connect(*r, "x2"));
  EXPECT_FALSE(may_connect(*r, "x1")) << "the connect rule stands behind many others";
}

TEST(AccessRules, RulesForSingleClientsKeepTheirPlaceAmongTheOthers) {
  const auto r = rules_of("deny connect client mid\nallow connect client m*\nallow connect client "
                          "last\ndeny connect\n");
  EXPECT_FALSE(may_connect(*r, "mid"));
  EXPECT_TRUE(may_connect(*r, "mine"));
  EXPECT_TRUE(may_connect(*r, "last"));
  EXPECT_FALSE(may_connect(*r, "none"));
  const auto reversed = rules_of("allow connect client m*\ndeny connect client mid");
  EXPECT_TRUE(may_connect(*reversed, "mid"));
}

TEST(AccessRules, ADecisionNamesTheLineOfItsRule) {
  const auto r = rules_of("# comment\n\ndeny connect client bad\nallow connect");
  EXPECT_EQ(r->judge({"bad", inside_10, 0}).connect().line, 3u);
  EXPECT_EQ(r->judge({"good", inside_10, 0}).connect().line, 4u);
  const sender who{"good", inside_10, 0};
  EXPECT_EQ(r->publish(r->judge(who), who, "t").line, 0u);
}

TEST(AccessFile, WordsMayStandInQuotesAndLinesMayEndInCarriageReturns) {
  const auto r = rules_of("allow publish client \"my \\\"id\\\"\" topic \"a b/\\\\\"\r\n");
  EXPECT_TRUE(may_publish(*r, "my \"id\"", "a b/\\"));
  EXPECT_FALSE(may_publish(*r, "my", "a b/\\"));
}

TEST(AccessFile, AValueMayReadLikeTheNameOfACondition) {
  const auto r = rules_of("allow publish client topic topic client");
  EXPECT_TRUE(may_publish(*r, "topic", "client"));
}

TEST(AccessFile, AWrongLineIsRefusedWithItsNumberAndASentence) {
  const struct {
    const char *line, *says;
  } cases[] = {
      {"alow connect", "'alow' begins no rule; expected allow, deny or default"},
      {"allow", "expected what the rule is about behind 'allow'"},
      {"allow write", "'write' is nothing that a rule can be about"},
      {"allow publish,", "'' is nothing that a rule can be about"},
      {"allow publish,publish", "'publish' is given twice"},
      {"allow connect group x", "'group' is no condition of a rule"},
      {"allow connect user", "expected a value behind 'user'"},
      {"allow connect user \"\"", "the pattern behind 'user' is empty"},
      {"allow connect user a user b", "'user' is given twice"},
      {"allow connect anonymous anonymous", "'anonymous' is given twice"},
      {"allow connect anonymous user a", "a client that is anonymous has no user name"},
      {"allow publish anonymous topic %u", "a client that is anonymous has no user name"},
      {"allow publish unconnected user a", "a sender without a connection has no user"},
      {"allow publish unconnected topic %u", "a sender without a connection has no user"},
      {"allow connect client", "expected a value behind 'client'"},
      {"allow connect client \"\"", "the pattern behind 'client' is empty"},
      {"allow connect client a client b", "'client' is given twice"},
      {"allow publish unconnected unconnected", "'unconnected' is given twice"},
      {"allow connect from ten", "'ten' is not an IPv4 or IPv6 address"},
      {"allow connect from 10.0.0.0/33", "the length of the range '10.0.0.0/33' must be 0 to 32"},
      {"allow connect from fd00::/129", "must be 0 to 128"},
      {"allow connect from 10.0.0.0/", "must be 0 to 32"},
      {"allow connect from 10.0.0.0/-1", "must be 0 to 32"},
      {"allow connect from 10.0.0.1/8", "has bits behind its first 8, which must be zero"},
      {"allow connect from fd00::1/64", "has bits behind its first 64, which must be zero"},
      {"allow connect listener x", "'x' is no listener; expected 0 to 65535"},
      {"allow connect listener 65536", "'65536' is no listener"},
      {"allow publish topic a/#/b", "'a/#/b' is not a topic filter"},
      {"allow publish topic a%", "holds a percent sign"},
      {"allow publish topic %x/a", "holds a percent sign"},
      {"allow connect topic a", "which has no topic"},
      {"allow all topic a", "'all' contains connecting, which has no topic"},
      {"allow all unconnected", "a sender without a connection only publishes"},
      {"allow publish unconnected client a", "has no client id; leave out either"},
      {"allow publish unconnected topic %c", "has no client id that %c could stand for"},
      {"default", "expected allow or deny behind 'default'"},
      {"default maybe", "expected allow or deny behind 'default'"},
      {"default deny now", "and nothing more"},
      {"allow connect client \"a", "a quote is not closed"},
      {"allow connect client \"a\"b", "a closing quote must stand at the end of its word"},
      {"allow connect client \"a\\n\"", "a backslash in quotes"},
      {"allow connect client \"a\\", "a backslash in quotes"},
      {"allow connect client \xff", "the line is not text in UTF-8"},
  };
  for (const auto& c : cases) {
    const auto made =
        rule_set::parse("allow connect\n\n" + std::string(c.line) + "\ndeny publish", "the/file");
    ASSERT_FALSE(made) << c.line;
    EXPECT_TRUE(made.error().message.starts_with("the/file:3: ")) << made.error().message;
    EXPECT_NE(made.error().message.find(c.says), std::string::npos) << made.error().message;
  }
  EXPECT_FALSE(rule_set::parse("default deny\ndefault deny", "f"));
  EXPECT_FALSE(rule_set::parse(std::string("allow connect\0", 14), "f"));
}

TEST(AccessFile, LimitsOfLinesAndRulesAreRefusedWithASentence) {
  const std::string longest = "allow connect client " + std::string(line_size_max - 21, 'x');
  EXPECT_TRUE(rule_set::parse(longest, "f"));
  const auto longer = rule_set::parse(longest + "x", "f");
  ASSERT_FALSE(longer);
  EXPECT_EQ(longer.error().message, "f:1: the line has 4097 octets; expected at most 4096");
  std::string many;
  for (std::size_t i = 0; i < rules_max; ++i)
    many += "deny connect\n";
  EXPECT_TRUE(rule_set::parse(many, "f"));
  const auto more = rule_set::parse(many + "deny connect", "f");
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().message, "f:65001: there are more than 65000 rules");
}

TEST(AccessFile, AFileThatCannotBeReadIsAnErrorAndNoEmptyRuleSet) {
  const std::string path = testing::TempDir() + "access_" + std::to_string(getpid());
  EXPECT_FALSE(rule_set::read(path));
  EXPECT_FALSE(rule_set::read(testing::TempDir())) << "a folder is no file";
  std::ofstream(path) << "allow connect\nfoo\n";
  const auto wrong = rule_set::read(path);
  ASSERT_FALSE(wrong);
  EXPECT_TRUE(wrong.error().message.starts_with(path + ":2: ")) << wrong.error().message;
  std::ofstream(path) << "allow connect\n";
  const auto right = rule_set::read(path);
  ASSERT_TRUE(right) << right.error().message;
  EXPECT_EQ((*right)->size(), 1u);
  unlink(path.c_str());
}

} // namespace
} // namespace chainring::access
