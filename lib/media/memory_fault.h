// SPDX-License-Identifier: BSD-3-Clause
/// Memory that the machine takes away: a page of a mapped file that is poisoned, or that a
/// truncation cut off, answers an access with SIGBUS. A watch turns that into a failed medium, or,
/// where the page's loss is tolerated, into one loss more. Internal: not installed.
///
/// The first access to such a page marks the watch failed, or the page lost, and only then puts a
/// page of zeros in its place, so that whoever sees the zeros also sees that: nothing that was read
/// from them leaves the machine, and no store to them is acknowledged. Execution goes on.
///
/// SIGBUS outside watched memory goes to the handler that was there before. The signal must not be
/// blocked in a thread that uses watched memory.
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/lazy_array.h"
#include "media/media.h"

namespace chainring::detail {

class memory_watch {
 public:
  memory_watch() = default;
  memory_watch(const memory_watch&) = delete;
  memory_watch& operator=(const memory_watch&) = delete;
  ~memory_watch() { end(); }

  /// Watches [base, base + size), mapped in pages of `unit` bytes; `losses` is counted up with each
  /// tolerated loss. Once. False: too many are watched.
  [[nodiscard]] bool begin(std::byte* base, std::uint64_t size, std::uint64_t unit,
                           std::atomic<std::uint64_t>& losses) noexcept;
  /// Before the memory is unmapped; nobody uses it any more.
  void end() noexcept;

  [[nodiscard]] bool failed() const noexcept { return first_offset() != none; }
  /// Offset of the first access that failed the medium.
  [[nodiscard]] std::uint64_t first_offset() const noexcept {
    return first_.load(std::memory_order_acquire); // [N2] pairs with [N1]
  }
  static constexpr std::uint64_t none = UINT64_MAX;

  /// What a mapped medium answers for mark(), durable() and status().
  [[nodiscard]] mark_t mark() const noexcept { return failed() ? lost_mark : 0; }
  [[nodiscard]] static bool durable(mark_t m) noexcept { return m != lost_mark; }
  [[nodiscard]] result<void> status(const std::string& path) const;

  /// What a mapped medium answers for the calls of these names.
  void tolerate_loss(const void* from, std::uint64_t n) noexcept;
  [[nodiscard]] bool require(const void* from, std::uint64_t n) noexcept;
  void unrequire(const void* from, std::uint64_t n) noexcept;
  [[nodiscard]] bool lost(const void* from, std::uint64_t n) noexcept;
  [[nodiscard]] std::uint64_t lost_pages() const noexcept;
  [[nodiscard]] std::uint64_t lost_page(std::uint64_t n) const noexcept;

  /// What the handler does for an address: true where it was watched memory.
  static bool handle(void* address) noexcept;

 private:
  static constexpr mark_t lost_mark = UINT64_MAX; ///< of what was made after the failure

  /// What a page is beside being in the tolerated range or not: how many require it, or lost.
  using page_state = std::atomic<std::uint8_t>;
  static constexpr std::uint8_t required_max = 0xfe; ///< as many or more: for good
  static constexpr std::uint8_t is_lost = 0xff;
  struct page_range {
    std::uint64_t first, end;
  };

  [[nodiscard]] page_range pages_of(const void* from, std::uint64_t n) const noexcept;
  [[nodiscard]] bool look(std::uint64_t page, const void* from) noexcept;
  void unrequire_page(std::uint64_t page) noexcept;
  [[nodiscard]] bool tolerated(std::uint64_t offset) noexcept;

  std::byte* base_ = nullptr;
  std::uint64_t size_ = 0;
  std::uint64_t unit_ = 0;
  std::atomic<std::uint64_t> first_{none};

  bool begun_ = false;           ///< between begin() and end()
  lazy_array<page_state> pages_; ///< null: no memory for it, and every page is required
  std::atomic<std::uint64_t> tolerated_from_{0}, tolerated_to_{0}; ///< pages
  std::atomic<std::uint64_t>* losses_ = nullptr;
  std::atomic<std::uint64_t> lost_count_{0};
  /// Offset + 1 of the first losses.
  std::array<std::atomic<std::uint64_t>, 64> lost_at_{};
};

/// A medium that is mapped, and watched. Who derives from it ends the watch before it unmaps.
class watched_media : public media {
 public:
  mark_t mark() noexcept override { return watch_.mark(); }
  bool durable(mark_t m) noexcept override { return memory_watch::durable(m); }
  bool failed() const noexcept override { return watch_.failed(); }
  result<void> status() const override { return watch_.status(path_); }
  std::uint64_t lost_at() const noexcept override { return watch_.first_offset(); }
  void tolerate_loss(const void* from, std::uint64_t n) noexcept override {
    watch_.tolerate_loss(from, n);
  }
  bool require(const void* from, std::uint64_t n) noexcept override {
    return watch_.require(from, n);
  }
  void unrequire(const void* from, std::uint64_t n) noexcept override { watch_.unrequire(from, n); }
  bool lost(const void* from, std::uint64_t n) noexcept override { return watch_.lost(from, n); }
  std::uint64_t lost_pages() const noexcept override { return watch_.lost_pages(); }
  std::uint64_t lost_page(std::uint64_t n) const noexcept override { return watch_.lost_page(n); }

 protected:
  memory_watch watch_;
};

} // namespace chainring::detail
