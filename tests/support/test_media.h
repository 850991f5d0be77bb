// SPDX-License-Identifier: BSD-3-Clause
/// Media for tests that want one property of a medium and nothing else: memory of the process,
/// which a test derives from, and two such media.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>

#include "media/media.h"
#include "seam_counter.h"

namespace chainring::test {

/// Zeroed memory that nothing outlives. It cannot grow, and closing it does nothing.
class memory_for_test : public media {
 public:
  const char* driver_name() const noexcept override { return "test"; }
  result<void> grow(std::uint64_t) override { return error{errc::unsupported, "grow"}; }
  result<void> close() override { return {}; }

 protected:
  memory_for_test(std::uint64_t size, durability_class c, const char* name)
      : memory_(memory_media(size, durability_class::process)) {
    base_ = memory_->base();
    size_ = size;
    path_ = name;
    class_ = c;
  }

 private:
  std::unique_ptr<media> memory_;
};

/// Memory that fails when the test says so.
class failing_media final : public memory_for_test {
 public:
  explicit failing_media(std::uint64_t size)
      : memory_for_test(size, durability_class::process, "(fails)") {}
  bool failed() const noexcept override { return broken; }

  bool broken = false;
};

/// Memory whose drains cover few bytes, like class `file` with a small journal. It notes the most
/// bytes that a drain had to cover.
class small_drains final : public memory_for_test {
 public:
  explicit small_drains(std::uint64_t size, std::uint64_t drain_bytes_max = UINT64_MAX)
      : memory_for_test(size, durability_class::file, "(small drains)"), limit(drain_bytes_max) {
    kind_ = kind::driver;
  }
  std::uint64_t drain_bytes_max() const noexcept override { return limit; }
  void driver_flush(const void* from, std::size_t n) noexcept override {
    pending_ += seam_counter::lines_of(from, n) * cacheline_size;
    most = std::max(most, pending_);
  }
  void driver_drain() noexcept override { pending_ = 0; }

  std::uint64_t limit, most = 0;

 private:
  std::uint64_t pending_ = 0;
};

} // namespace chainring::test
