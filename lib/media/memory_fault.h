// SPDX-License-Identifier: BSD-3-Clause
/// Memory that the machine takes away: a page of a mapped file that is poisoned, or that a
/// truncation cut off, answers an access with SIGBUS. A watch turns that into a failed medium.
/// Internal: not installed.
///
/// The first access to such a page marks the watch failed, and only then puts a page of zeros in
/// its place, so that whoever sees the zeros also sees the failure: nothing that was read from them
/// leaves the machine, and no store to them is acknowledged. Execution goes on.
///
/// SIGBUS outside watched memory goes to the handler that was there before. The signal must not be
/// blocked in a thread that uses watched memory.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "media/media.h"

namespace chainring::detail {

class memory_watch {
 public:
  memory_watch() = default;
  memory_watch(const memory_watch&) = delete;
  memory_watch& operator=(const memory_watch&) = delete;
  ~memory_watch() { end(); }

  /// Watches [base, base + size), mapped in pages of `unit` bytes. False: too many are watched.
  [[nodiscard]] bool begin(std::byte* base, std::uint64_t size, std::uint64_t unit) noexcept;
  /// Before the memory is unmapped; nobody uses it any more.
  void end() noexcept;

  [[nodiscard]] bool failed() const noexcept { return first_offset() != none; }
  /// Offset of the first access that failed.
  [[nodiscard]] std::uint64_t first_offset() const noexcept {
    return first_.load(std::memory_order_acquire); // [N2] pairs with [N1]
  }
  static constexpr std::uint64_t none = UINT64_MAX;

  /// What a mapped medium answers for mark(), durable() and status().
  [[nodiscard]] mark_t mark() const noexcept { return failed() ? lost : 0; }
  [[nodiscard]] static bool durable(mark_t m) noexcept { return m != lost; }
  [[nodiscard]] result<void> status(const std::string& path) const;

  /// What the handler does for an address: true where it was watched memory.
  static bool handle(void* address) noexcept;

 private:
  static constexpr mark_t lost = UINT64_MAX; ///< of what was made after the failure

  std::byte* base_ = nullptr;
  std::uint64_t size_ = 0;
  std::uint64_t unit_ = 0;
  std::atomic<std::uint64_t> first_{none};
};

} // namespace chainring::detail
