// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <string>

#include "topic/topic.h"

namespace chainring {
namespace {

using namespace std::string_literals;

TEST(Utf8, AcceptsEveryWellFormedSequenceAndItsBounds) {
  for (const auto& text : {""s, "plain"s, "\x7F"s, "\xC2\x80"s, "\xDF\xBF"s, "\xE0\xA0\x80"s,
                           "\xED\x9F\xBF"s, "\xEE\x80\x80"s, "\xEF\xBF\xBF"s, "\xF0\x90\x80\x80"s,
                           "\xF4\x8F\xBF\xBF"s, "gr\xC3\xBC\xC3\x9F/\xE2\x82\xAC"s})
    EXPECT_TRUE(valid_utf8(text)) << testing::PrintToString(text);
}

TEST(Utf8, RefusesOverlongSurrogatePastTheEndTruncatedAndNul) {
  for (const auto& text : {"\0"s,
                           "a\0b"s,
                           "\x80"s,
                           "\xBF"s,
                           "\xC0\x80"s,
                           "\xC1\xBF"s,
                           "\xC3"s,
                           "\xC3\x28"s,
                           "\xE0\x9F\xBF"s,
                           "\xED\xA0\x80"s,
                           "\xED\xBF\xBF"s,
                           "\xE2\x82"s,
                           "\xE2\x28\xA1"s,
                           "\xE2\x82\x28"s,
                           "\xF0\x8F\xBF\xBF"s,
                           "\xF4\x90\x80\x80"s,
                           "\xF5\x80\x80\x80"s,
                           "\xF0\x9F\x98"s,
                           "\xF0\x9F\x98\x28"s,
                           "\xFE"s,
                           "\xFF"s})
    EXPECT_FALSE(valid_utf8(text)) << testing::PrintToString(text);
}

// Octets are looked at eight at a time.
TEST(TopicName, IsJudgedByEachOctetWhereverItStands) {
  for (std::size_t size = 1; size <= 33; ++size)
    for (std::size_t at = 0; at < size; ++at)
      for (unsigned value = 0; value < 256; ++value)
        for (const char others : {'a', '\x01', '\x7F', '*', '"', ',', '$'}) {
          std::string text(size, others);
          text[at] = static_cast<char>(value);
          const bool alone = value > 0 && value < 0x80; // above that, it needs others beside it
          ASSERT_EQ(valid_utf8(text), alone) << size << " " << at << " " << value;
          ASSERT_EQ(valid_topic_name(text), alone && value != '+' && value != '#')
              << size << " " << at << " " << value;
        }
  for (std::size_t before = 0; before <= 17; ++before)
    for (std::size_t behind = 0; behind <= 17; ++behind) {
      const auto around = [&](const std::string& text) {
        return std::string(before, 'b') + text + std::string(behind, 'c');
      };
      EXPECT_TRUE(valid_topic_name(around("\xF0\x90\x80\x80")));
      EXPECT_FALSE(valid_topic_name(around("\xF0\x90\x80\x80+")));
      EXPECT_FALSE(valid_topic_name(around("#\xC3\xA4")));
      EXPECT_FALSE(valid_utf8(around("\xF0\x90\x80")));
      EXPECT_FALSE(valid_utf8(around("\xED\xA0\x80")));
    }
}

TEST(TopicName, HasNoWildcardIsNotEmptyAndFitsSixteenBits) {
  for (const auto& name :
       {"a"s, "/"s, "a/b"s, "/a//b/"s, "$SYS/x"s, "with space"s, std::string(topic_size_max, 'x')})
    EXPECT_TRUE(valid_topic_name(name));
  for (const auto& name :
       {""s, "+"s, "#"s, "a/+/b"s, "a#"s, "a\0"s, "\xFF"s, std::string(topic_size_max + 1, 'x')})
    EXPECT_FALSE(valid_topic_name(name));
}

TEST(TopicFilter, HasWildcardsOnlyAsWholeLevelsAndHashOnlyLast) {
  for (const auto& filter :
       {"a"s, "#"s, "+"s, "/"s, "+/+"s, "/+"s, "+/"s, "a/#"s, "/#"s, "+/a/#"s, "a/+/b"s, "$SYS/#"s})
    EXPECT_TRUE(valid_topic_filter(filter)) << filter;
  for (const auto& filter : {""s, "a#"s, "#a"s, "#/"s, "#/a"s, "a/#/b"s, "a+"s, "+a"s, "a/+b/c"s,
                             "a/b+"s, "++"s, "##"s, "+#"s, "a\0"s, "\xC0\x80"s})
    EXPECT_FALSE(valid_topic_filter(filter)) << filter;
  EXPECT_TRUE(has_wildcard("a/+"));
  EXPECT_TRUE(has_wildcard("#"));
  EXPECT_FALSE(has_wildcard("a/b"));
}

struct match_case {
  const char* filter;
  const char* name;
  bool matches;
};

TEST(TopicName, OfTheBrokerItselfIsTheRootAndWhatIsBelowIt) {
  for (const char* name : {"$SYS", "$SYS/", "$SYS/broker/uptime"})
    EXPECT_TRUE(is_system_topic(name)) << name;
  for (const char* name : {"", "$", "$SY", "$SYSTEM", "$SYSTEM/x", "$sys/x", "a/$SYS/x", "/$SYS"})
    EXPECT_FALSE(is_system_topic(name)) << name;
}

TEST(TopicMatch, FollowsTheRulesOfMqttSection47) {
  // The examples of the specification (4.7.1.2, 4.7.1.3, 4.7.2) come first, then other limits.
  const match_case cases[] = {
      {"sport/tennis/player1/#", "sport/tennis/player1", true},
      {"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
      {"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
      {"sport/#", "sport", true},
      {"#", "a/b/c", true},
      {"sport/tennis/+", "sport/tennis/player1", true},
      {"sport/tennis/+", "sport/tennis/player1/ranking", false},
      {"sport/+", "sport", false},
      {"sport/+", "sport/", true},
      {"+/+", "/finance", true},
      {"/+", "/finance", true},
      {"+", "/finance", false},
      {"#", "$SYS/x", false},
      {"+/monitor/Clients", "$SYS/monitor/Clients", false},
      {"$SYS/#", "$SYS/x", true},
      {"$SYS/monitor/+", "$SYS/monitor/Clients", true},
      {"+/#", "$SYS", false},
      {"a/b", "a/b", true},
      {"a/b", "a/B", false},
      {"a/b", "a/b/c", false},
      {"a/b/c", "a/b", false},
      {"a/", "a", false},
      {"a", "a/", false},
      {"a//b", "a//b", true},
      {"a/+/b", "a//b", true},
      {"a/#", "ab", false},
      {"a/#", "a/", true},
      {"+/#", "a", true},
      {"/#", "a", false},
      {"/#", "/", true},
      {"+/b/#", "a/b", true},
      {"+/b/#", "a/c", false},
      {"a/$x", "a/$x", true},
      {"a/+", "a/$x", true},
  };
  for (const auto& c : cases)
    EXPECT_EQ(topic_matches(c.filter, c.name), c.matches) << c.filter << " against " << c.name;
}

} // namespace
} // namespace chainring
