// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <cctype>
#include <gtest/gtest.h>
#include <vector>

#include "media/media.h"
#include "support/seam_counter.h"

namespace chainring {
namespace {

TEST(Media, TheSeamStoresAndShowsEveryCallToItsObserver) {
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

/// Writes down what the seam shows of its stores and writes.
struct seam_log final : persist_observer {
  std::vector<std::uint64_t> values;
  std::size_t written = 0;
  void on_store(const std::uint64_t*, std::uint64_t value, const site&) noexcept override {
    values.push_back(value);
  }
  void on_write(const void*, const void*, std::size_t n, const site&) noexcept override {
    written += n;
  }
  bool on_flush(const void*, std::size_t, const site&) noexcept override { return true; }
  bool on_drain(const site&) noexcept override { return true; }
};

TEST(Media, ARunOfStoresIsShownWordByWordAndASummedWriteAsAWrite) {
  auto m = memory_media(8192, durability_class::process);
  auto* words = reinterpret_cast<std::uint64_t*>(m->base());
  for (const bool watched : {false, true}) {
    seam_log seen;
    if (watched) m->observe(&seen);
    const std::uint64_t values[] = {5, 6, 7, 8};
    m->store_run(&words[8], values);
    const std::uint32_t sum = m->write_summed(&words[32], "123456789", 9, 0);
    m->observe(nullptr);
    EXPECT_TRUE(std::equal(std::begin(values), std::end(values), &words[8]));
    EXPECT_EQ(words[12], 0u);
    EXPECT_EQ(std::memcmp(&words[32], "123456789", 10), 0);
    EXPECT_EQ(sum, 0xE3069283u);
    EXPECT_EQ(seen.values,
              watched ? std::vector<std::uint64_t>({5, 6, 7, 8}) : std::vector<std::uint64_t>());
    EXPECT_EQ(seen.written, watched ? 9u : 0u);
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

TEST(Media, EachClassHasOneDriverAmongThoseBuiltIn) {
  for (auto c : {durability_class::power, durability_class::file, durability_class::process,
                 durability_class::emulated}) {
    int drivers = 0;
    for (const media_driver* d : media_drivers())
      drivers += static_cast<int>(std::count(d->classes.begin(), d->classes.end(), c));
    EXPECT_EQ(drivers, 1) << to_string(c);
  }
}

TEST(Media, TheRequestedClassChoosesItsDriver) {
  media_options options;
  options.path = "/dev/shm/chainring-absent";
  for (const auto& [c, words] :
       {std::pair{durability_class::file, "class file is not possible there"},
        std::pair{durability_class::process, "no such file"}}) {
    options.durability = c;
    auto m = open_media(options);
    ASSERT_FALSE(m);
    std::string said = m.error().message;
    std::transform(said.begin(), said.end(), said.begin(), [](char x) { return std::tolower(x); });
    EXPECT_NE(said.find(words), std::string::npos) << m.error().message;
  }
}

TEST(Media, RefusesADriverThatCannotGiveTheClass) {
  media_options options;
  options.path = "/dev/shm/chainring-absent";
  options.driver = "hugetlb";
  options.durability = durability_class::power;
  auto m = open_media(options);
  ASSERT_FALSE(m);
  EXPECT_EQ(m.error().code, errc::invalid_argument);
  EXPECT_NE(m.error().message.find("driver hugetlb gives class process and emulated, not power"),
            std::string::npos)
      << m.error().message;
}

TEST(Media, TheSimulatorIsNoDriverOfTheProduct) {
  for (const media_driver* d : media_drivers())
    EXPECT_STRNE(d->name, "sim");
}

TEST(DurabilityClass, TheChoiceAutoAsksForNoClass) {
  EXPECT_FALSE(*parse_durability_choice("auto"));
  for (const char* choice : durability_choices)
    EXPECT_TRUE(parse_durability_choice(choice)) << choice;
  EXPECT_EQ(**parse_durability_choice("file"), durability_class::file);
  auto wrong = parse_durability_choice("tape");
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("auto, power, file, process or emulated"),
            std::string::npos);
}

TEST(DurabilityClass, EachNameParsesToItsClass) {
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
