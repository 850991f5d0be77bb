// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <random>
#include <vector>

#include "mqttsn/sender_index.h"
#include "net/address.h"
#include "support/seed.h"

namespace chainring::mqttsn {
namespace {

constexpr std::uint32_t none = sender_index::none;

client_address address(std::uint32_t i) {
  return net::endpoint{0x0a010000 + i / 4, static_cast<std::uint16_t>(1024 + i % 4), 0}.key();
}

TEST(SenderIndex, FindsASessionUntilItIsForgotten) {
  sender_index index(16);
  const std::uint32_t h = index.hash(address(1));
  EXPECT_EQ(index.find(h), none);
  index.note(h, 0);
  EXPECT_EQ(index.find(h), 0u);
  index.forget(h, 1); // another session, which is not there
  EXPECT_EQ(index.find(h), 0u);
  index.forget(h, 0);
  EXPECT_EQ(index.find(h), none);
}

TEST(SenderIndex, ASessionThatIsNotedAgainTakesNoSecondPlace) {
  sender_index index(1); // one line of eight places
  std::vector<std::uint32_t> hashes;
  for (std::uint32_t i = 0; i < 8; ++i)
    hashes.push_back(index.hash(address(i)));
  for (int round = 0; round < 100; ++round)
    for (std::uint32_t i = 0; i < 8; ++i)
      index.note(hashes[i], i);
  for (std::uint32_t i = 0; i < 8; ++i)
    EXPECT_EQ(index.find(hashes[i]), i);
  index.note(hashes[3], 77); // the address belongs to another session now
  EXPECT_EQ(index.find(hashes[3]), 77u);
}

TEST(SenderIndex, AFullLineGivesUpOneEntryAndNeverNamesAnotherSession) {
  sender_index index(1, chainring::test::fresh_seed());
  for (std::uint32_t i = 0; i < 1000; ++i) {
    index.note(index.hash(address(i)), i);
    EXPECT_EQ(index.find(index.hash(address(i))), i);
  }
  unsigned kept = 0;
  for (std::uint32_t i = 0; i < 1000; ++i) {
    const std::uint32_t n = index.find(index.hash(address(i)));
    EXPECT_TRUE(n == i || n == none) << i;
    kept += n == i;
  }
  EXPECT_GE(kept, 1u);
  EXPECT_LE(kept, 8u);
}

// Otherwise the clients that find no place would be looked up in the map with each datagram.
TEST(SenderIndex, HasRoomForNearlyAllSessions) {
  constexpr std::uint32_t sessions = 10000;
  std::mt19937_64 random(chainring::test::fresh_seed());
  for (int round = 0; round < 50; ++round) {
    sender_index index(sessions, random() | 1);
    for (std::uint32_t i = 0; i < sessions; ++i)
      index.note(index.hash(address(i)), i);
    unsigned lost = 0;
    for (std::uint32_t i = 0; i < sessions; ++i)
      lost += index.find(index.hash(address(i))) != i;
    EXPECT_LE(lost, sessions / 50);
  }
}

} // namespace
} // namespace chainring::mqttsn
