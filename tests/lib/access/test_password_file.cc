// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "access/password_file.h"

namespace chainring::access {
namespace {

std::span<const std::byte> octets(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// What mosquitto_passwd 2.0.11 wrote for user u1 and password "secret".
constexpr const char* mosquittos =
    "u1:$7$101$GLdc7yr6DHoV1muy$9MNr0i7a4tTIVNcw1t8ubH+bxKgmCm1mYD1qEX4DxVHL2xIP0QGuYBhErXeZK++"
    "pzycWnU1C9pwYUgNi+Cx47g==\n";

TEST(PasswordFile, AnEntryOfMosquittoMatchesItsPasswordOnly) {
  auto file = password_file::parse(mosquittos, "f");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_TRUE((*file)->matches("u1", octets("secret")));
  for (const char* wrong : {"", "Secret", "secret ", "secre"})
    EXPECT_FALSE((*file)->matches("u1", octets(wrong))) << wrong;
  EXPECT_FALSE((*file)->matches("u2", octets("secret")));
  EXPECT_FALSE((*file)->matches("", octets("secret")));
}

TEST(PasswordFile, AnEntryThatWasMadeMatchesAndNoTwoAreTheSame) {
  const std::string strange("p\xc3\xa4ss\0word:$", 13);
  auto first = make_password_line("sensor 7", strange, 1000);
  auto second = make_password_line("sensor 7", strange, 1000);
  ASSERT_TRUE(first && second);
  EXPECT_NE(*first, *second);
  auto file = password_file::parse("# comment\n\r\n" + *first + "\r\n" + mosquittos, "f");
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ((*file)->size(), 2u);
  EXPECT_TRUE((*file)->matches("sensor 7", octets(strange)));
  EXPECT_FALSE((*file)->matches("sensor 7", octets("p\xc3\xa4ss")));
}

TEST(PasswordFile, AnEmptyFileLetsNobodyIn) {
  auto file = password_file::parse("", "f");
  ASSERT_TRUE(file);
  EXPECT_FALSE((*file)->matches("u", octets("")));
}

TEST(PasswordFile, AFaultIsRefusedWithItsLine) {
  const std::string hash(86, 'A'), good = "$7$101$AAAAAAAAAAAAAAAA$" + hash + "==";
  ASSERT_TRUE(password_file::parse("u:" + good, "f"));
  const std::vector<std::pair<std::string, const char*>> faults = {
      {"no colon", "colon"},
      {":" + good, "0 octets"},
      {std::string(256, 'u') + ":" + good, "256 octets"},
      {"\xff:" + good, "UTF-8"},
      {"u:plain text", "$7$"},
      {"u:$6$salt$hash", "$7$"},
      {"u:$7$101", "not whole"},
      {"u:$7$101$AAAAAAAAAAAAAAAA", "not whole"},
      {"u:$7$0$AAAAAAAAAAAAAAAA$" + hash + "==", "rounds"},
      {"u:$7$10000001$AAAAAAAAAAAAAAAA$" + hash + "==", "rounds"},
      {"u:$7$x$AAAAAAAAAAAAAAAA$" + hash + "==", "rounds"},
      {"u:$7$101$AAAA$" + hash + "==", "salt"},
      {"u:$7$101$A!AAAAAAAAAAAAAA$" + hash + "==", "salt"},
      {"u:$7$101$AAAAAAAAAAAAAAAA$AAAA", "64 octets"},
      {"u:" + good + "\nu:" + good, "twice"},
  };
  for (const auto& [text, words] : faults) {
    auto file = password_file::parse("# one\n" + text + "\n", "f");
    ASSERT_FALSE(file) << text;
    EXPECT_TRUE(
        file.error().message.starts_with(text.find('\n') == std::string::npos ? "f:2: " : "f:3: "))
        << file.error().message;
    EXPECT_NE(file.error().message.find(words), std::string::npos) << file.error().message;
  }
  EXPECT_FALSE(password_file::read("/absent"));
}

TEST(PasswordFile, ALineIsMadeForGoodNamesOnly) {
  for (const char* user : {"", "a:b", "a\nb", "#a", "\xff"})
    EXPECT_FALSE(make_password_line(user, "p")) << user;
  EXPECT_FALSE(make_password_line("u", ""));
  EXPECT_FALSE(make_password_line("u", "p", 0));
  EXPECT_FALSE(make_password_line("u", "p", rounds_max + 1));
}

} // namespace
} // namespace chainring::access
