// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <vector>

#include "media/media.h"
#include "support/seam_counter.h"

namespace chainring {
namespace {

TEST(Media, SeamStoresAndShowsEveryCallToItsObserver) {
  for (auto c : {durability_class::process, durability_class::emulated}) {
    auto m = memory_media(8192, c);
    test::seam_counter seen;
    m->observe(&seen);
    auto* words = reinterpret_cast<std::uint64_t*>(m->base());
    m->store(&words[0], 1);
    m->store_release(&words[1], 2);
    std::uint64_t expected = 2;
    EXPECT_TRUE(m->compare_exchange(&words[1], expected, 3));
    expected = 2;
    EXPECT_FALSE(m->compare_exchange(&words[1], expected, 4));
    EXPECT_EQ(expected, 3u);
    m->write(&words[8], "12345678", 8);
    m->flush(words, 128);
    m->drain();
    m->observe(nullptr);
    m->store(&words[2], 9);
    EXPECT_EQ(words[0], 1u);
    EXPECT_EQ(words[1], 3u);
    EXPECT_EQ(words[2], 9u);
    EXPECT_EQ(std::memcmp(&words[8], "12345678", 8), 0);
    EXPECT_EQ(seen.stores, 3);
    EXPECT_EQ(seen.writes, 1);
    EXPECT_EQ(seen.flushes, 1);
    EXPECT_EQ(seen.drains, 1);
  }
}

TEST(Media, RefusesAnUnknownDriverByName) {
  media_options options;
  options.path = "/nowhere";
  options.driver = "tape";
  auto m = open_media(options);
  ASSERT_FALSE(m);
  EXPECT_NE(m.error().message.find("dax, hugetlb, file"), std::string::npos) << m.error().message;
}

TEST(DurabilityClass, NamesRoundTrip) {
  for (auto c : {durability_class::power, durability_class::file, durability_class::process,
                 durability_class::emulated}) {
    auto parsed = parse_durability_class(to_string(c));
    ASSERT_TRUE(parsed);
    EXPECT_EQ(*parsed, c);
  }
  EXPECT_FALSE(parse_durability_class("disk"));
}

} // namespace
} // namespace chainring
