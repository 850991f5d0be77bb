// SPDX-License-Identifier: BSD-3-Clause
/// Maps that have no capacity, room that is made ahead, and keys that are looked for in another
/// form.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <string_view>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>

#include "map/seq_map.h"

namespace chainring::test {
namespace {

using number_map = seq_map<std::uint64_t, std::uint64_t>;

std::unique_ptr<number_map> unbounded(std::uint64_t first) {
  auto made = number_map::create_unbounded(first);
  EXPECT_TRUE(made);
  return std::move(made).value();
}

TEST(SeqMapRoom, AMapMadeForTenKeysTakesAMillionWhileReadersMissNone) {
  constexpr std::uint64_t keys = 1'000'000;
  auto m = unbounded(10);
  std::atomic<std::uint64_t> present{0}, missed{0};
  std::atomic<bool> done{false};
  std::thread reader([&] {
    std::uint64_t x = 1;
    while (!done.load()) {
      const std::uint64_t n = present.load();
      x = x * 6364136223846793005u + 1442695040888963407u;
      if (n != 0) missed += m->get((x >> 24) % n) != (x >> 24) % n;
    }
  });
  std::uint64_t refused = 0;
  for (std::uint64_t k = 0; k < keys; ++k) {
    refused += m->insert(k, k) != map_status::done;
    present = k + 1;
  }
  done = true;
  reader.join();
  EXPECT_EQ(refused, 0u);
  EXPECT_EQ(missed.load(), 0u);
  EXPECT_EQ(m->len(), keys);
  EXPECT_GT(m->capacity(), 1'000 * keys);
}

TEST(SeqMapRoom, AMapThatBeginsAboveTheLargestIsRefused) {
  const auto made = number_map::create_unbounded((std::uint64_t{1} << 40) + 1);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, errc::invalid_argument);
}

/// While an object of this class lives, the process may take `bytes` more of addresses and no more.
class few_addresses {
 public:
  explicit few_addresses(std::uint64_t bytes) {
    getrlimit(RLIMIT_AS, &before_);
    std::uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    rlimit less = before_;
    less.rlim_cur = pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE)) + bytes;
    setrlimit(RLIMIT_AS, &less);
  }
  ~few_addresses() { setrlimit(RLIMIT_AS, &before_); }
  few_addresses(const few_addresses&) = delete;
  few_addresses& operator=(const few_addresses&) = delete;

 private:
  rlimit before_{};
};

TEST(SeqMapRoom, WithoutMemoryForATableAnInsertIsRefusedAndTheMapGoesOn) {
  auto m = unbounded(1 << 16); // the next table takes 8 MiB
  std::uint64_t kept = 0;
  {
    const few_addresses now(4 << 20); // a sanitizer takes some
    while (m->insert(kept, kept) == map_status::done)
      ++kept;
    EXPECT_FALSE(m->growing());
    EXPECT_EQ(m->reserve(kept * 8), map_status::full);
    EXPECT_EQ(m->update(7, 8), map_status::done);
    EXPECT_EQ(m->upsert(7, 7), map_status::done);
  }
  // More than half of the entries were used before an insert was refused.
  EXPECT_GT(kept, std::uint64_t{1} << 16);
  EXPECT_LT(kept, std::uint64_t{1} << 18);
  EXPECT_EQ(m->len(), kept);
  for (std::uint64_t k = kept; k < 2 * kept; ++k)
    ASSERT_EQ(m->insert(k, k), map_status::done) << "with memory again, key " << k;
  for (std::uint64_t k = 0; k < 2 * kept; ++k)
    ASSERT_EQ(m->get(k), k);
}

TEST(SeqMapRoom, ReserveMakesRoomAndTheInsertsThatFollowMoveNothing) {
  auto m = unbounded(0);
  for (std::uint64_t k = 0; k < 100; ++k)
    ASSERT_EQ(m->insert(k, k), map_status::done);
  ASSERT_EQ(m->reserve(100'000), map_status::done);
  EXPECT_FALSE(m->growing());
  for (std::uint64_t k = 100; k < 100'000; ++k) {
    ASSERT_EQ(m->insert(k, k), map_status::done);
    ASSERT_FALSE(m->growing());
  }
  for (std::uint64_t k = 0; k < 100'000; ++k)
    ASSERT_EQ(m->get(k), k);
  EXPECT_EQ(m->reserve(1), map_status::done) << "a map never shrinks";
}

TEST(SeqMapRoom, ReserveBeyondACapacityIsRefused) {
  auto made = number_map::create(1000, {}, 10);
  ASSERT_TRUE(made);
  number_map& m = **made;
  EXPECT_EQ(m.reserve(1001), map_status::full);
  EXPECT_EQ(m.reserve(1000), map_status::done);
  for (std::uint64_t k = 0; k < 1000; ++k)
    ASSERT_EQ(m.insert(k, k), map_status::done);
  EXPECT_EQ(m.insert(1000, 0), map_status::full);
}

using name = std::array<char, 16>;
struct name_hash {
  std::uint64_t operator()(std::string_view text) const noexcept {
    return hash_bytes(std::as_bytes(std::span(text)), 7);
  }
  std::uint64_t operator()(const name& n) const noexcept { return (*this)(text_of(n)); }
  static std::string_view text_of(const name& n) noexcept {
    return {n.data(), strnlen(n.data(), n.size())};
  }
};

TEST(SeqMapRoom, AKeyIsFoundByATextThatIsNoKey) {
  auto made = seq_map<name, int, name_hash>::create_unbounded();
  ASSERT_TRUE(made);
  auto& m = **made;
  const name pump{'p', 'u', 'm', 'p'};
  ASSERT_EQ(m.insert(pump, 3), map_status::done);
  const auto look = [&](std::string_view text) {
    return m.find_if(name_hash()(text),
                     [&](const name& n) noexcept { return name_hash::text_of(n) == text; });
  };
  EXPECT_EQ(look("pump"), 3);
  EXPECT_EQ(look("pumps"), std::nullopt);
}

} // namespace
} // namespace chainring::test
