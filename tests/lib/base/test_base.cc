// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <set>
#include <string>
#include <thread>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/hook.h"
#include "base/idle.h"
#include "base/thread_slot.h"

namespace chainring {
namespace {

TEST(Crc32c, GivesThePublishedCheckValues) {
  EXPECT_EQ(crc32c(0, "123456789", 9), 0xE3069283u); // RFC 3720's polynomial, its usual check input
  const std::string zeros(32, '\0');
  EXPECT_EQ(crc32c(0, zeros.data(), zeros.size()), 0x8A9136AAu); // RFC 3720 B.4
}

TEST(Crc32c, ContinuesWhereItStopped) {
  const std::string text = "an acknowledged message is never lost";
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    const std::uint32_t first = crc32c(0, text.data(), cut);
    EXPECT_EQ(crc32c(first, text.data() + cut, text.size() - cut), crc32c(0, text.data(), text.size()));
  }
}

TEST(Result, HoldsAValueOrAnError) {
  result<int> good = 7;
  ASSERT_TRUE(good);
  EXPECT_EQ(*good, 7);
  result<int> bad = error{errc::not_found, "root 'x': not there"};
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code, errc::not_found);
  EXPECT_DEATH((void)bad.value(), "broken invariant");
}

TEST(Hook, RunsOnlyWhileSet) {
  static int count = 0;
  hook_point("before");
  set_hook([](const char* name, void*) noexcept { count += std::string(name) == "here"; }, nullptr);
  hook_point("here");
  set_hook(nullptr, nullptr);
  hook_point("here");
  EXPECT_EQ(count, 1);
}

TEST(SeededBug, IsOffUnlessNamed) {
  EXPECT_FALSE(seeded_bug("a"));
  set_seeded_bug("a");
  EXPECT_TRUE(seeded_bug("a"));
  EXPECT_FALSE(seeded_bug("b"));
  set_seeded_bug(nullptr);
  EXPECT_FALSE(seeded_bug("a"));
}

TEST(ThreadSlot, DiffersBetweenLivingThreadsAndIsReused) {
  const unsigned mine = thread_slot();
  EXPECT_EQ(mine, thread_slot());
  unsigned first = 0, second = 0;
  std::thread([&] { first = thread_slot(); }).join();
  std::thread([&] { second = thread_slot(); }).join();
  EXPECT_NE(first, mine);
  EXPECT_EQ(first, second);
}

TEST(IdleMode, RefusesWhatItDoesNotKnow) {
  EXPECT_TRUE(parse_idle_mode("yield"));
  auto bad = parse_idle_mode("spin");
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("poll, yield or sleep"), std::string::npos);
}

} // namespace
} // namespace chainring
