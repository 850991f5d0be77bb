// SPDX-License-Identifier: BSD-3-Clause
/// Handles memory that the machine takes away. A page of a mapped file that is poisoned, or that a
/// truncation cut off, answers an access with SIGBUS. A watch turns the signal into a failed medium
/// or, if the loss of the page is tolerated, into one more counted loss. Internal: not installed.
///
/// The first access to such a page marks the watch as failed, or the page as lost. Only then does
/// the handler put a page of zeros in its place, so that a thread that reads the zeros also sees
/// the mark. Nothing that was read from the zeros leaves the machine, and no store to them is
/// acknowledged. Execution goes on.
///
/// SIGBUS outside watched memory goes to the handler that was installed before. A thread that uses
/// watched memory must not block the signal.
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

  /// Watches [base, base + size), which is mapped in pages of `unit` bytes. Each tolerated loss
  /// increments `losses`. Call it once. Returns false if too many watches exist.
  [[nodiscard]] bool begin(std::byte* base, std::uint64_t size, std::uint64_t unit,
                           std::atomic<std::uint64_t>& losses) noexcept;
  /// Ends the watch before the memory is unmapped, once no thread uses the memory any more.
  void end() noexcept;

  [[nodiscard]] bool failed() const noexcept { return first_offset() != none; }
  /// Offset of the first access that failed the medium.
  [[nodiscard]] std::uint64_t first_offset() const noexcept {
    // [failure-offset-read] Without it a thread could read zeros and take a mark as if nothing failed.
    return first_.load(std::memory_order_acquire);
  }
  static constexpr std::uint64_t none = UINT64_MAX;

  /// The answers of a mapped medium to mark(), durable() and status().
  [[nodiscard]] mark_t mark() const noexcept { return failed() ? lost_mark : 0; }
  [[nodiscard]] static bool durable(mark_t m) noexcept { return m != lost_mark; }
  [[nodiscard]] result<void> status(const std::string& path) const;

  /// The answers of a mapped medium to the calls of these names.
  void tolerate_loss(const void* from, std::uint64_t n) noexcept;
  [[nodiscard]] bool require(const void* from, std::uint64_t n) noexcept;
  void unrequire(const void* from, std::uint64_t n) noexcept;
  [[nodiscard]] bool lost(const void* from, std::uint64_t n) noexcept;
  [[nodiscard]] std::uint64_t lost_pages() const noexcept;
  [[nodiscard]] std::uint64_t lost_page(std::uint64_t n) const noexcept;

  /// The work of the signal handler for one address. Returns true if the address was watched.
  static bool handle(void* address) noexcept;

 private:
  /// the mark of everything that was made after the failure
  static constexpr mark_t lost_mark = UINT64_MAX;

  /// State of a page: how many times it is required, or that it is lost.
  using page_state = std::atomic<std::uint8_t>;
  /// a page required as often as this stays required for good
  static constexpr std::uint8_t required_max = 0xfe;
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

  bool begun_ = false; ///< true between begin() and end()
  /// null if there was no memory for it; then every page is required
  lazy_array<page_state> pages_;
  std::atomic<std::uint64_t> tolerated_from_{0}, tolerated_to_{0}; ///< the tolerated pages
  std::atomic<std::uint64_t>* losses_ = nullptr;
  std::atomic<std::uint64_t> lost_count_{0};
  /// Offset + 1 of each of the first losses.
  std::array<std::atomic<std::uint64_t>, 64> lost_at_{};
};

/// A medium that is mapped and watched. A derived class must end the watch before it unmaps.
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
