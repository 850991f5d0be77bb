// SPDX-License-Identifier: BSD-3-Clause
// Regions of named objects are compacted, and emptied at their end. A broker's regions:
// tests/system/region/test_compact.py.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <iterator>

#include "../media/scratch.h"
#include "inspect/compact.h"
#include "inspect/salvage.h"
#include "map/map_media.h"
#include "objects/object_map.h"
#include "objects/object_queue.h"
#include "objects/objects_media.h"

namespace chainring::test {
namespace {

using texts = queue<std::string>;
using long_values = map<std::string, std::string>;

/// A region with two queues of strings, between whose entries there are holes, and a map.
class Compact : public testing::Test {
 protected:
  const scratch_directory scratch{"/dev/shm"};
  const std::string path = scratch.file("region");
  const durable<texts> jobs{"jobs", 2000}, notes{"notes", 2000};
  const durable<long_values> values{"values", 50};
  static constexpr std::size_t short_text = 200, long_text = 8000;
  static constexpr std::uint64_t gone = 30;

  media_options at() const {
    media_options o;
    o.path = path;
    return o;
  }
  std::unique_ptr<objects> open() {
    region_options o;
    o.media = at();
    o.media.size = 2 << 20;
    auto r = objects::open_or_create(o, jobs, notes, values);
    EXPECT_TRUE(r) << r.error().message;
    EXPECT_TRUE((*r)->recovered().problems.empty());
    return std::move(r).value();
  }
  static std::string text(std::uint64_t n, std::size_t bytes) {
    return std::to_string(n) + std::string(bytes - std::to_string(n).size(), 'a' + n % 26);
  }
  /// Entries 0, 1, ... of short_text bytes in one queue, with holes between them, and entries of
  /// long_text bytes in the other, which had to be split.
  void SetUp() override {
    auto o = open();
    auto j = o->get<texts>("jobs").value();
    auto n = o->get<texts>("notes").value();
    for (std::uint64_t i = 0; i < 1500; ++i) {
      ASSERT_EQ(j.enqueue(text(i, short_text)), queue_status::done);
      ASSERT_EQ(n.enqueue(text(i, short_text)), queue_status::done);
    }
    while (n.dequeue()) {
    }
    longs = 0;
    while (longs < 1100 && n.enqueue(text(longs, long_text)) == queue_status::done)
      ++longs;
    for (std::uint64_t i = 0; i < gone; ++i) // a full store cannot be compacted
      ASSERT_TRUE(n.dequeue());
    ASSERT_TRUE(o->close());
  }
  void expect_everything() {
    auto o = open();
    auto j = o->get<texts>("jobs").value();
    auto n = o->get<texts>("notes").value();
    for (std::uint64_t i = 0; i < 1500; ++i)
      ASSERT_EQ(j.dequeue(), text(i, short_text));
    for (std::uint64_t i = gone; i < longs; ++i)
      ASSERT_EQ(n.dequeue(), text(i, long_text));
    EXPECT_FALSE(j.dequeue());
    EXPECT_FALSE(n.dequeue());
    EXPECT_TRUE(o->close());
  }
  void expect_clean() {
    media_options o = at();
    o.read_only = true;
    auto r = region::open(o);
    ASSERT_TRUE(r) << r.error().message;
    EXPECT_TRUE((*r)->was_clean());
    EXPECT_TRUE(objects::check(**r).problems.empty());
  }
  std::string bytes() const {
    std::ifstream in(path, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
  std::uint64_t longs = 0;
};

TEST_F(Compact, GivesEachMessageOfEachQueueOneChainAndKeepsEveryEntry) {
  std::uint64_t told = 0;
  const auto report =
      compact_region(at(), [&](const compactor_statistics& s) { told = std::max(told, s.moved); });
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->before.messages, 1500 + longs - gone);
  EXPECT_GT(report->before.chains, report->before.messages + 500);
  EXPECT_EQ(report->after.messages, report->before.messages);
  EXPECT_EQ(report->after.chains, report->after.messages);
  EXPECT_NE(report->done.joined, 0u);
  EXPECT_EQ(told, report->done.moved);
  EXPECT_TRUE(report->notes.empty());
  expect_clean();
  const auto again = compact_region(at());
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->done.joined, 0u);
  expect_everything();
}

TEST_F(Compact, ARegionThatIsInUseIsRefused) {
  const auto o = open();
  EXPECT_EQ(compact_region(at()).error().code, errc::busy);
  EXPECT_EQ(empty_end(at(), 1 << 20).error().code, errc::busy);
}

TEST_F(Compact, ADamagedRegionIsRefusedAndLeftAsItIs) {
  std::string damaged = bytes();
  const auto offset = region::attach(at()).value()->root("jobs").value().offset;
  damaged[offset + sizeof(object_header) + 3] ^= 1; // the head of its queue
  std::ofstream(path, std::ios::binary) << damaged;
  const auto report = compact_region(at());
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, errc::corrupt);
  EXPECT_NE(report.error().message.find("salvage"), std::string::npos) << report.error().message;
  EXPECT_EQ(empty_end(at(), 1 << 20).error().code, errc::corrupt);
  EXPECT_EQ(bytes(), damaged);
}

TEST_F(Compact, ARegionWithAnAreaOfAnotherProgramIsRefused) {
  region_options o;
  o.media.path = scratch.file("other");
  o.media.size = 1 << 20;
  o.areas = {{"mine", 4096, 1}};
  ASSERT_TRUE(region::create(o).value()->close());
  const auto report = compact_region(o.media);
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, errc::unsupported);
  EXPECT_NE(report.error().message.find("root 'mine'"), std::string::npos);
}

/// The bytes that a refusal says are enough.
std::uint64_t bytes_in(const std::string& sentence) {
  const auto from = sentence.find("ask for ");
  return from == std::string::npos ? 0 : std::stoull(sentence.substr(from + 8));
}

class EmptyEnd : public Compact {
 protected:
  static constexpr std::size_t text_bytes = long_text;
  static constexpr std::uint64_t kept = 30;

  /// Fills the region with entries, and leaves the last ones, which lie at the end.
  void SetUp() override {
    auto o = open();
    auto n = o->get<texts>("notes").value();
    while (longs < 250 && n.enqueue(text(longs, text_bytes)) == queue_status::done)
      ++longs;
    ASSERT_LT(longs, 250u); // the queue's first ring is long enough
    for (std::uint64_t i = 0; i + kept < longs; ++i)
      ASSERT_TRUE(n.dequeue());
    ASSERT_TRUE(o->close());
  }
  result<salvage_report> shrink_to(std::uint64_t size) {
    media_options o = at();
    o.read_only = true;
    auto source = region::open(o);
    EXPECT_TRUE(source) << source.error().message;
    return shrink(**source, size);
  }
  void expect_what_was_kept() {
    auto o = open();
    auto n = o->get<texts>("notes").value();
    for (std::uint64_t i = longs - kept; i < longs; ++i)
      ASSERT_EQ(n.dequeue(), text(i, text_bytes));
    EXPECT_FALSE(n.dequeue());
  }
};

TEST_F(EmptyEnd, TheRegionBecomesSmallerThanItsLastMessageAllowed) {
  constexpr std::uint64_t size = 1 << 20;
  ASSERT_EQ(shrink_to(size).error().code, errc::no_space);
  const auto report = empty_end(at(), size);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_NE(report->done.moved, 0u);
  EXPECT_EQ(report->done.joined, 0u);
  EXPECT_EQ(report->after.messages, kept);
  expect_clean();
  const auto shrunk = shrink_to(size);
  ASSERT_TRUE(shrunk) << shrunk.error().message;
  EXPECT_EQ(std::filesystem::file_size(path), size);
  expect_clean();
  expect_what_was_kept();
}

TEST_F(EmptyEnd, TheSizeThatARefusalNamesIsPossible) {
  const auto refused = empty_end(at(), 256 << 10);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, errc::no_space);
  const std::uint64_t size = bytes_in(refused.error().message);
  ASSERT_GT(size, 256u << 10) << refused.error().message;
  ASSERT_LT(size, 1u << 20) << refused.error().message;
  const auto report = empty_end(at(), size);
  ASSERT_TRUE(report) << report.error().message;
  const auto shrunk = shrink_to(size);
  ASSERT_TRUE(shrunk) << shrunk.error().message;
  expect_what_was_kept();
}

TEST_F(EmptyEnd, ARefusalNamesWhatCannotMove) {
  const auto value = [](std::uint64_t n) { return std::string(40'000, 'a' + n % 26); };
  std::uint64_t found = 0;
  {
    auto o = open();
    auto n = o->get<texts>("notes").value();
    while (n.dequeue()) {
    }
    auto v = o->get<long_values>("values").value();
    while (v.insert("value " + std::to_string(found), value(found)) == map_status::done)
      ++found;
    for (std::uint64_t i = 0; i + 2 < found; ++i)
      ASSERT_EQ(v.erase("value " + std::to_string(i)), map_status::done);
    ASSERT_TRUE(o->close());
  }
  const auto refused = empty_end(at(), 1 << 20);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("the value in cell "), std::string::npos)
      << refused.error().message;
  EXPECT_NE(refused.error().message.find("of object 'values' lies there and cannot be moved"),
            std::string::npos)
      << refused.error().message;
  expect_clean();
  const std::uint64_t size = bytes_in(refused.error().message);
  const auto report = empty_end(at(), size);
  ASSERT_TRUE(report) << report.error().message;
  ASSERT_TRUE(shrink_to(size));
  auto o = open();
  auto v = o->get<long_values>("values").value();
  for (std::uint64_t i = found - 2; i < found; ++i)
    EXPECT_EQ(v.get("value " + std::to_string(i)), value(i));
}

} // namespace
} // namespace chainring::test
