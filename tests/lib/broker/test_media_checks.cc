// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "broker/broker_media.h"
#include "ring/slot_delivery.h"

namespace chainring {
namespace {

TEST(DeliveryCheck, FindsEveryChangedBitAndEveryOtherSession) {
  for (const std::uint32_t session : {0u, 7u, 65535u, 4'000'000u})
    for (const std::uint64_t ref : {0ull, 0x0001'0000'0005ull, 0xffff'0012'3456ull}) {
      const std::uint16_t bits = 9;
      const std::uint64_t word =
          ref | std::uint64_t(bits | slot_delivery::check(session, ref, bits)) << 48;
      ASSERT_TRUE(slot_delivery::whole(session, word));
      for (unsigned bit = 0; bit < 64; ++bit)
        EXPECT_FALSE(slot_delivery::whole(session, word ^ std::uint64_t{1} << bit)) << bit;
      for (unsigned bit = 0; bit < 32; ++bit)
        EXPECT_FALSE(slot_delivery::whole(session ^ 1u << bit, word)) << bit;
    }
}

TEST(SessionCheck, CoversTheNumberAndEveryBitOfTheIdentityWords) {
  session_record r{};
  r.attributes = 5;
  r.identity[0] = 0x6f6c6c6568;
  r.created_ns = 12345;
  r.check = session_check(3, r);
  EXPECT_NE(session_check(4, r), r.check);
  auto* words = &r.attributes;
  for (unsigned word = 0; word < 5; ++word)
    for (unsigned bit = 0; bit < 64; ++bit) {
      words[word] ^= std::uint64_t{1} << bit;
      EXPECT_NE(session_check(3, r), r.check);
      words[word] ^= std::uint64_t{1} << bit;
    }
  r.state = 1;
  EXPECT_EQ(session_check(3, r), r.check) << "the check must not cover the commit word";
}

} // namespace
} // namespace chainring
