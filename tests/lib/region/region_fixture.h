// SPDX-License-Identifier: BSD-3-Clause
/// Regions in memory that outlives its medium, as the bytes of a file do.
#pragma once
#include <cstring>
#include <gtest/gtest.h>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "region/region.h"
#include "region/region_cases.h"
#include "support/seam_counter.h"

namespace chainring::test {

/// Bytes that begin on a cache line, as those of a medium do.
template <class T> struct line_allocator {
  using value_type = T;
  line_allocator() = default;
  template <class U> line_allocator(const line_allocator<U>&) noexcept {}
  T* allocate(std::size_t n) {
    return static_cast<T*>(::operator new (n * sizeof(T), std::align_val_t{64}));
  }
  void deallocate(T* p, std::size_t) noexcept { ::operator delete (p, std::align_val_t{64}); }
  friend bool operator==(const line_allocator&, const line_allocator&) noexcept { return true; }
};
using line_bytes = std::vector<std::byte, line_allocator<std::byte>>;

class kept_media final : public media {
 public:
  explicit kept_media(line_bytes& bytes) : bytes_(bytes) {
    base_ = bytes.data();
    size_ = bytes.size();
    path_ = "(kept)";
  }
  const char* driver_name() const noexcept override { return "kept"; }
  bool wait(mark_t) noexcept override { return !failed_; }
  bool failed() const noexcept override { return failed_; }
  std::uint64_t drain_bytes_max() const noexcept override { return drain_bytes_max_; }
  result<void> grow(std::uint64_t size) override {
    if (size > bytes_.capacity()) return error{errc::no_space, "(kept): no room"};
    bytes_.resize(size);
    size_ = size;
    return {};
  }
  result<void> close() override { return {}; }

  bool failed_ = false;
  std::uint64_t drain_bytes_max_ = UINT64_MAX;

 private:
  line_bytes& bytes_;
};

class RegionTest : public testing::Test {
 protected:
  static constexpr std::uint64_t size = 1 << 20;

  RegionTest() { bytes.reserve(4 * size), bytes.resize(size); }

  static region_options two_areas() {
    region_options o;
    o.areas = {{"a", 100, 1}, {"b", 4096, 7}};
    return o;
  }
  std::unique_ptr<kept_media> fresh() { return std::make_unique<kept_media>(bytes); }
  std::unique_ptr<region> reopen(bool read_only = false) {
    auto r = region::open_on(fresh(), read_only);
    EXPECT_TRUE(r) << r.error().message;
    return r ? std::move(r).value() : nullptr;
  }
  void make(const region_options& o = two_areas()) {
    auto r = region::create_on(fresh(), o);
    ASSERT_TRUE(r) << r.error().message;
    ASSERT_TRUE((*r)->close());
  }
  superblock& block(int i) {
    return *reinterpret_cast<superblock*>(bytes.data() + superblock_offsets[i]);
  }
  void reseal(int i) { block(i).crc = detail::crc_of(block(i)); }
  /// Changes both superblocks and makes their checksums right.
  template <class F> void forge(F change) {
    for (int i : {0, 1}) {
      change(block(i));
      reseal(i);
    }
  }
  root_entry& entry(int i) {
    return reinterpret_cast<root_entry*>(bytes.data() + root_directory_offset)[i];
  }
  template <class F> void forge_root(int i, F change) {
    change(entry(i));
    entry(i).crc = detail::crc_of(entry(i));
  }
  /// Checks that an open refuses with this code and these words, and changes nothing.
  void refused(errc code, const std::string& words, bool read_only = false) {
    const auto before = bytes;
    auto r = region::open_on(fresh(), read_only);
    ASSERT_FALSE(r) << "expected: " << words;
    EXPECT_EQ(to_string(r.error().code), std::string(to_string(code))) << r.error().message;
    EXPECT_NE(r.error().message.find(words), std::string::npos) << r.error().message;
    EXPECT_NE(r.error().message.find("(kept)"), std::string::npos) << r.error().message;
    EXPECT_TRUE(bytes == before) << "the medium was changed";
  }

  line_bytes bytes;
};

} // namespace chainring::test
