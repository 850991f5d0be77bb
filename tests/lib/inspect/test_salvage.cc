// SPDX-License-Identifier: BSD-3-Clause
// Named objects are salvaged from regions with each kind of damage. A broker's regions:
// tests/lib/faults/test_salvage.cc.
#include <algorithm>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>

#include "../media/scratch.h"
#include "inspect/inspect.h"
#include "inspect/salvage.h"
#include "map/map_media.h"
#include "objects/object_map.h"
#include "objects/object_pairs.h"
#include "objects/object_queue.h"
#include "objects/objects_media.h"

namespace chainring::test {
namespace {

using counts_map = map<std::string, std::uint64_t>;
using relation = bimap<std::string, std::string>;
using numbers = queue<std::uint64_t>;
using texts = queue<std::string>;

class Salvage : public testing::Test {
 protected:
  const scratch_directory scratch{"/dev/shm"};
  const std::string from = scratch.file("from"), to = scratch.file("to");
  const durable<counts_map> counts{"counts", 50};
  const durable<relation> pairs{"pairs", 50};
  const durable<numbers> values{"values", 50};
  const durable<texts> jobs{"jobs", 50};

  void SetUp() override {
    auto o = objects::open_or_create(from, counts, pairs, values, jobs);
    ASSERT_TRUE(o) << o.error().message;
    auto c = (*o)->get<counts_map>("counts").value();
    auto p = (*o)->get<relation>("pairs").value();
    auto v = (*o)->get<numbers>("values").value();
    auto j = (*o)->get<texts>("jobs").value();
    for (std::uint64_t n = 0; n < entries; ++n) {
      ASSERT_EQ(c.insert(key(n), n), map_status::done);
      ASSERT_EQ(p.insert("left" + std::to_string(n), key(n)), map_status::done);
      ASSERT_EQ(v.enqueue(n), queue_status::done);
      ASSERT_EQ(j.enqueue(std::string(200 + n, static_cast<char>('a' + n))), queue_status::done);
    }
    ASSERT_TRUE(v.dequeue());
    ASSERT_TRUE((*o)->close());
    std::ifstream in(from, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(in), {});
  }
  static std::string key(std::uint64_t n) {
    return n % 2 == 0 ? std::to_string(n)
                      : "a key of more than twenty-four bytes " + std::to_string(n);
  }
  /// Stores the damaged bytes, salvages, and sees that the source was left as it is.
  result<salvage_report> run() {
    std::ofstream(from, std::ios::binary) << bytes;
    media_options o;
    o.path = from;
    o.read_only = true;
    auto source = region::open(o);
    if (!source) return source.error();
    media_options target;
    target.path = to;
    auto report = salvage(**source, target);
    std::ifstream in(from, std::ios::binary);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), bytes);
    EXPECT_FALSE(std::filesystem::exists(to + ".partial"));
    return report;
  }
  /// What a program finds in the new region.
  struct found {
    std::size_t counts = 0, pairs = 0;
    std::vector<std::uint64_t> values;
    std::string jobs; ///< the first letter of each
  };
  found reopen() {
    found f;
    {
      media_options at;
      at.path = to;
      at.read_only = true;
      auto r = region::open(at);
      EXPECT_TRUE(r) << r.error().message;
      EXPECT_TRUE((*r)->was_clean());
      const recovery_report report = objects::check(**r);
      EXPECT_TRUE(report.problems.empty()) << report.problems.front().text();
    }
    auto o = objects::open_or_create(to, counts, pairs, values, jobs);
    EXPECT_TRUE(o) << o.error().message;
    EXPECT_TRUE((*o)->recovered().problems.empty());
    auto c = (*o)->get<counts_map>("counts").value();
    for (std::uint64_t n = 0; n < entries; ++n)
      if (auto v = c.get(key(n))) {
        EXPECT_EQ(*v, n);
        ++f.counts;
      }
    auto p = (*o)->get<relation>("pairs").value();
    for (std::uint64_t n = 0; n < entries; ++n)
      f.pairs += p.contains("left" + std::to_string(n), key(n));
    auto v = (*o)->get<numbers>("values").value();
    while (auto next = v.dequeue())
      f.values.push_back(*next);
    auto j = (*o)->get<texts>("jobs").value();
    while (auto next = j.dequeue())
      f.jobs += (*next)[0];
    return f;
  }
  [[nodiscard]] std::uint64_t range_of(const std::string& name) const {
    media_options o;
    o.path = from;
    return region::attach(o).value()->root(name).value().offset;
  }
  template <class T> T& at(std::uint64_t offset) {
    return *reinterpret_cast<T*>(bytes.data() + offset);
  }
  static bool names(const salvage_report& r, const std::string& words) {
    return std::ranges::any_of(
        r.lost, [&](const std::string& s) { return s.find(words) != std::string::npos; });
  }

  static constexpr std::uint64_t entries = 20;
  std::string bytes;
};

TEST_F(Salvage, EverythingArrivesFromARegionWithoutDamage) {
  const auto report = run();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(report->complete()) << report->lost.front();
  EXPECT_EQ(report->kinds.size(), 4u);
  for (const salvaged_kind& k : report->kinds)
    EXPECT_EQ(k.arrived, k.of.find("values") != std::string::npos ? entries - 1 : entries) << k.of;
  const found f = reopen();
  EXPECT_EQ(f.counts, entries);
  EXPECT_EQ(f.pairs, entries);
  EXPECT_EQ(f.values.size(), entries - 1);
  EXPECT_EQ(f.jobs, "abcdefghijklmnopqrst");
}

TEST_F(Salvage, ADamagedEntryIsLostAndNamedAndTheOthersArrive) {
  auto* cells = &at<map_cell>(range_of("counts") + sizeof(object_header));
  map_cell* used = std::find_if(cells, cells + 50,
                                [](const map_cell& c) { return map_word0::unpack(c.state).used; });
  used->state ^= std::uint64_t{1} << 5; // a malformed commit word, which no recovery repairs
  for (std::size_t found_at = 0;
       (found_at = bytes.find(std::string(201, 'b'), found_at)) != std::string::npos;)
    bytes[found_at + 9] = '?';
  const auto report = run();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_FALSE(report->complete());
  EXPECT_TRUE(names(*report, "object 'counts', cell"));
  EXPECT_TRUE(names(*report, "object 'jobs', entry at ticket 2"));
  EXPECT_EQ(report->lost.size(), 2u);
  const found f = reopen();
  EXPECT_EQ(f.counts, entries - 1);
  EXPECT_EQ(f.pairs, entries);
  EXPECT_EQ(f.values.size(), entries - 1);
  EXPECT_EQ(f.jobs, "acdefghijklmnopqrst");
}

TEST_F(Salvage, AQueueWhoseRecordIsDamagedArrivesEmpty) {
  at<queue_record>(range_of("values") + sizeof(object_header)).head ^= 2;
  const auto report = run();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(names(*report, "object 'values': its head fails its check"));
  const found f = reopen();
  EXPECT_TRUE(f.values.empty());
  EXPECT_EQ(f.counts, entries);
  EXPECT_EQ(f.jobs.size(), entries);
}

TEST_F(Salvage, AnObjectWithADamagedHeaderIsLostAndTheOthersArrive) {
  at<object_header>(range_of("pairs")).type[0] ^= 1;
  const auto report = run();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(names(*report, "object 'pairs': the check of its header fails"));
  const found f = reopen();
  EXPECT_EQ(f.counts, entries);
  EXPECT_EQ(f.pairs, 0u);
  EXPECT_EQ(f.jobs.size(), entries);
}

TEST_F(Salvage, AnObjectWithoutItsEntryInTheDirectoryIsLostAndTheOthersArrive) {
  auto* entry = &at<root_entry>(root_directory_offset);
  while (std::string(entry->name) != "counts")
    ++entry;
  entry->size ^= 64;
  const auto report = run();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(names(*report, "of its directory fails its checksum"));
  const found f = reopen();
  EXPECT_EQ(f.counts, 0u);
  EXPECT_EQ(f.pairs, entries);
  EXPECT_EQ(f.jobs.size(), entries);
}

TEST_F(Salvage, ASuperblockThatTheOtherMakesUpForIsNoLoss) {
  at<superblock>(superblock_offsets[0]).size ^= 8;
  const auto report = run();
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(report->complete()) << report->lost.front();
  EXPECT_EQ(reopen().counts, entries);
}

TEST_F(Salvage, ATargetThatExistsIsLeftAsItIs) {
  std::ofstream(to) << "mine";
  const auto report = run();
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, errc::exists);
  EXPECT_EQ(std::filesystem::file_size(to), 4u);
}

TEST_F(Salvage, ARegionWithoutAValidSuperblockIsRefused) {
  for (const std::uint64_t offset : superblock_offsets)
    at<superblock>(offset).size ^= 8;
  const auto report = run();
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, errc::corrupt);
  EXPECT_FALSE(std::filesystem::exists(to));
}

class Shrink : public Salvage {
 protected:
  result<salvage_report> shrink_to(std::uint64_t size) {
    media_options o;
    o.path = from;
    o.read_only = true;
    auto source = region::open(o);
    EXPECT_TRUE(source) << source.error().message;
    return shrink(**source, size);
  }
  void grow_to(std::uint64_t size) {
    media_options o;
    o.path = from;
    o.size = size;
    auto r = region::open(o);
    ASSERT_TRUE(r) << r.error().message;
    ASSERT_TRUE((*r)->close());
  }
};

TEST_F(Shrink, ARegionBecomesAsShortAsItsContentAllowsAndKeepsEverything) {
  const auto size = std::filesystem::file_size(from);
  grow_to(4 * size);
  const auto report = shrink_to(size);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(std::filesystem::file_size(from), size);
  std::filesystem::rename(from, to);
  const found f = reopen();
  EXPECT_EQ(f.counts, entries);
  EXPECT_EQ(f.pairs, entries);
  EXPECT_EQ(f.values.size(), entries - 1);
  EXPECT_EQ(f.jobs.size(), entries);
}

TEST_F(Shrink, ARegionThatWouldLoseSomethingStaysAsItIs) {
  for (const std::uint64_t size : {std::uint64_t{16384}, std::uint64_t{40960}}) {
    const auto report = shrink_to(size);
    ASSERT_FALSE(report);
    std::ifstream in(from, std::ios::binary);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), bytes);
    EXPECT_FALSE(std::filesystem::exists(from + ".partial"));
  }
}

TEST_F(Shrink, ALargerSizeIsRefused) {
  EXPECT_EQ(shrink_to(1 << 30).error().code, errc::invalid_argument);
}

} // namespace
} // namespace chainring::test
