// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <gtest/gtest.h>
#include <random>
#include <set>

#include "base/escape.h"
#include "support/seed.h"

namespace chainring {
namespace {

TEST(Escape, PlainTextStaysAsItIs) {
  EXPECT_EQ(escape("sensors/7 +#~"), "sensors/7 +#~");
  EXPECT_EQ(escape(""), "");
}

TEST(Escape, ControlCharactersQuotesAndBackslashesAreEscaped) {
  EXPECT_EQ(escape("a\"b\\c"), "a\\\"b\\\\c");
  EXPECT_EQ(escape(std::string_view("\0\x1b[2J\n\x7f", 7)), "\\u0000\\u001b[2J\\u000a\\u007f");
}

TEST(Escape, CharactersBeyondAsciiAreShownAsTheirCodePoints) {
  EXPECT_EQ(escape("\xC3\xA9"), "\\u00e9");
  EXPECT_EQ(escape("\xE2\x82\xAC"), "\\u20ac");
  EXPECT_EQ(escape("\xF0\x9F\x98\x80"), "\\ud83d\\ude00");
}

TEST(Escape, OctetsThatAreNoUtf8AreShownAsOctets) {
  EXPECT_EQ(escape("\xC3"), "\\xc3");
  EXPECT_EQ(escape("\xE9x"), "\\xe9x");
  EXPECT_EQ(escape("\xC0\x80"), "\\xc0\\x80");          // an overlong NUL
  EXPECT_EQ(escape("\xED\xA0\x80"), "\\xed\\xa0\\x80"); // half a surrogate pair
  EXPECT_EQ(escape("\xF4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
}

TEST(Escape, TextThatIsTooLongEndsInDotsAndNeverInHalfAnEscape) {
  EXPECT_EQ(escape("abcdefgh", 8), "abcdefgh");
  EXPECT_EQ(escape("abcdefghi", 8), "abcde...");
  EXPECT_EQ(escape("abc\xC3\xA9g", 8), "abc...");
  EXPECT_EQ(escape("abcdefghi", 2), "");
}

TEST(Escape, AnyOctetsBecomePrintableAsciiAndDifferentTextsStayDifferent) {
  std::mt19937_64 random(test::fresh_seed());
  std::set<std::string> texts, shown;
  for (int i = 0; i < 20'000; ++i) {
    std::string text(random() % 6, ' ');
    for (char& c : text)
      c = static_cast<char>(random() % 4 == 0 ? random() : 0x80 + random() % 0x80);
    if (!texts.insert(text).second) continue;
    const std::string out = escape(text);
    EXPECT_TRUE(std::ranges::all_of(out, [](char c) { return c >= 0x20 && c < 0x7F; }));
    EXPECT_TRUE(shown.insert(out).second) << out;
  }
}

} // namespace
} // namespace chainring
