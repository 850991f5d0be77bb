// SPDX-License-Identifier: BSD-3-Clause
/// Counts the calls of the persist seam.
#pragma once
#include <cstdint>
#include <string>

#include "base/cacheline.h"
#include "media/media.h"

namespace chainring::test {

struct seam_counter final : persist_observer {
  int stores = 0, writes = 0, flushes = 0, drains = 0;
  std::uint64_t lines = 0; ///< lines flushed

  void on_store(const std::uint64_t*, std::uint64_t, const site&) noexcept override { ++stores; }
  void on_write(const void*, const void*, std::size_t, const site&) noexcept override { ++writes; }
  bool on_flush(const void* from, std::size_t n, const site&) noexcept override {
    lines += lines_of(from, n);
    return ++flushes > 0;
  }
  bool on_drain(const site&) noexcept override { return ++drains > 0; }

  [[nodiscard]] std::string text() const {
    return std::to_string(stores) + " stores, " + std::to_string(writes) + " writes, " +
           std::to_string(flushes) + " flushes of " + std::to_string(lines) + " lines, " +
           std::to_string(drains) + " drains";
  }
  /// The number of lines that n bytes lie in.
  static std::uint64_t lines_of(const void* from, std::size_t n) noexcept {
    const auto at = reinterpret_cast<std::uintptr_t>(from);
    return (at + n + cacheline_size - 1) / cacheline_size - at / cacheline_size;
  }
};

} // namespace chainring::test
