// SPDX-License-Identifier: BSD-3-Clause
#include "access/scram.h"

#include <gtest/gtest.h>
#include <string>

#include "access/secrets.h"

namespace chainring::access {
namespace {

std::span<const unsigned char> octets_of(std::string_view text) {
  return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

std::shared_ptr<const password_file> file_of(const std::string& text) {
  auto file = password_file::parse(text, "file");
  EXPECT_TRUE(file) << file.error().message;
  return *file;
}
std::string line_of(std::string_view user, std::string_view password, password_kind kind) {
  auto line = make_password_line(user, password, 100, kind);
  EXPECT_TRUE(line) << line.error().message;
  return *line + "\n";
}

/// The client's side, made here from the RFC alone.
struct client {
  std::string bare, header = "n,,", server_first;

  std::string first(const std::string& user, const std::string& nonce = "client-nonce") {
    bare = "n=" + user + ",r=" + nonce;
    return header + bare;
  }
  std::string last(const std::string& password) {
    const std::size_t salt_at = server_first.find(",s="), rounds_at = server_first.find(",i=");
    const std::string nonce = server_first.substr(2, salt_at - 2);
    const auto salt = from_base64(server_first.substr(salt_at + 3, rounds_at - salt_at - 3));
    const auto rounds = static_cast<std::uint32_t>(std::stoul(server_first.substr(rounds_at + 3)));
    const std::string without_proof = "c=" + to_base64(octets_of(header)) + ",r=" + nonce;
    const std::string covered = bare + "," + server_first + "," + without_proof;
    const auto keys = scram_keys_of(std::as_bytes(std::span(password)), *salt, rounds);
    // The client key is what StoredKey is the hash of, so it is made once more here.
    std::string salted(32, '\0'), block = *salt + std::string("\0\0\0\1", 4);
    auto u = hmac(octets_of(password), block);
    for (std::uint32_t round = 0; round < rounds; ++round) {
      for (std::size_t i = 0; i < u->size(); ++i)
        salted[i] = static_cast<char>(salted[i] ^ static_cast<char>((*u)[i]));
      u = hmac(octets_of(password), {reinterpret_cast<const char*>(u->data()), u->size()});
    }
    auto proof = *hmac(octets_of(salted), "Client Key");
    const auto signature = *hmac(std::span(*keys).first(32), covered);
    for (std::size_t i = 0; i < proof.size(); ++i)
      proof[i] ^= signature[i];
    return without_proof + ",p=" + to_base64(proof);
  }
};

TEST(Scram, TheExampleOfTheRfc) { // RFC 7677, section 3
  const std::string_view password = "pencil";
  const auto salt = from_base64("W22ZaJ0SNY7soEsUEjb6gQ==");
  const auto keys = scram_keys_of(std::as_bytes(std::span(password)), *salt, 4096);
  ASSERT_TRUE(keys);
  const std::span<const unsigned char> both(*keys);
  const auto file = file_of("user:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$" +
                            to_base64(both.first(32)) + ":" + to_base64(both.subspan(32)) + "\n");
  scram_exchange e;
  EXPECT_EQ(
      e.first("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", *file, "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"),
      "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
  EXPECT_EQ(e.last("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                   "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
  EXPECT_EQ(e.user(), "user");
  EXPECT_TRUE(file->matches("user", std::as_bytes(std::span(password)))) << "without SCRAM";
}

TEST(Scram, OnlyTheRightPasswordIsProved) {
  const auto file = file_of(line_of("ann", "apple", password_kind::scram_sha256) +
                            line_of("old", "apple", password_kind::pbkdf2_sha512));
  const auto proves = [&](const std::string& user, const std::string& password) {
    scram_exchange e;
    client c;
    const auto answer = e.first(c.first(user), *file);
    EXPECT_TRUE(answer) << user;
    c.server_first = answer.value_or("");
    return e.last(c.last(password)).has_value();
  };
  EXPECT_TRUE(proves("ann", "apple"));
  EXPECT_FALSE(proves("ann", "pear"));
  EXPECT_FALSE(proves("ann", ""));
  EXPECT_FALSE(proves("nobody", "apple"));
  EXPECT_FALSE(proves("old", "apple")) << "its entry is of another kind";
}

TEST(Scram, AUserThatDoesNotExistIsAnsweredLikeOneThatDoes) {
  const auto file = file_of(line_of("ann", "apple", password_kind::scram_sha256));
  const auto answer = [&](const std::string& user) {
    scram_exchange e;
    client c;
    std::string found = e.first(c.first(user), *file, "fixed").value_or("");
    EXPECT_FALSE(found.empty());
    return found;
  };
  EXPECT_EQ(answer("nobody"), answer("nobody"));
  EXPECT_NE(answer("nobody"), answer("somebody"));
  EXPECT_EQ(answer("nobody").size(), answer("ann").size());
}

TEST(Scram, NamesMayHoldCommasAndEqualsSigns) {
  const auto file = file_of(line_of("a,b=c", "apple", password_kind::scram_sha256));
  scram_exchange e;
  client c;
  c.header = "y,a=a=2Cb=3Dc,";
  c.server_first = e.first(c.first("a=2Cb=3Dc"), *file).value_or("");
  EXPECT_TRUE(e.last(c.last("apple")));
  EXPECT_EQ(e.user(), "a,b=c");
}

TEST(Scram, WhatIsMalformedOrNotSupportedIsRefused) {
  const auto file = file_of(line_of("ann", "apple", password_kind::scram_sha256));
  for (const char* first :
       {"", "n", "n,", "n,,", "n,,n=ann", "n,,r=x,n=ann", "n,,n=,r=x",
        "n,,n=ann,r=", "n,,n=a=n,r=x", "n,,n=ann,r=a b", "p=tls-unique,,n=ann,r=x",
        "n,a=other,n=ann,r=x", "n,x,n=ann,r=x", "n,,m=1,n=ann,r=x", "x,,n=ann,r=x"}) {
    scram_exchange e;
    EXPECT_FALSE(e.first(first, *file)) << first;
    EXPECT_FALSE(e.last("c=biws,r=x,p=AAAA")) << first;
  }
  scram_exchange e;
  EXPECT_FALSE(e.first("n,,n=ann,r=" + std::string(scram_message_max, 'x'), *file));
  client c;
  c.server_first = e.first(c.first("ann"), *file).value_or("");
  const std::string right = c.last("apple");
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string text = right;
    return text.replace(text.find(from), from.size(), to);
  };
  for (const std::string& last :
       {std::string(), changed("c=biws", "c=eSws"), changed("r=client", "r=other"),
        changed(",p=", ",q="), changed(",p=", ",p=A"), right.substr(0, right.find(",p=")),
        "r=x," + right, right + std::string(scram_message_max, 'x')}) {
    scram_exchange other;
    client again;
    again.server_first =
        other.first(again.first("ann"), *file, c.server_first.substr(14, 24)).value_or("");
    EXPECT_FALSE(other.last(last)) << last;
  }
  EXPECT_TRUE(e.last(right));
  EXPECT_FALSE(e.last(right)) << "an exchange ends once";
}

} // namespace
} // namespace chainring::access
