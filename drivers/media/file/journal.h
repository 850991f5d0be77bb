// SPDX-License-Identifier: BSD-3-Clause
/// The redo journal of class `file`: one record a drain (format: file_format.h).
///
/// Three positions move forward only: tail <= durable <= appended <= tail + size.
// clang-format off
/// - append(), any thread: under one short lock takes a position, copies the lines into the DRAM
///   mirror and moves `appended`. One lock for all three, because a record must not hold a word
///   whose precondition drained at a later position.
/// - commit_step(), one thread: chains the checksums of the finished prefix, writes it, syncs,
///   moves `durable`. Checksums are chained here and not under the lock: they depend on the order
///   alone, and this halves the time the lock is held.
/// - release(), one thread (the checkpoint): moves `tail` once the header on disk says so.
// clang-format on
///
/// The mirror holds the same bytes at the same places as the file, so that committing is a write of
/// what is there and a checkpoint reads durable copies and never the working copy.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "base/spin_lock.h"
#include "failure_latch.h"
#include "file_format.h"
#include "media/block_file.h"

namespace chainring {

/// Where a chain of records goes on.
struct journal_point {
  std::uint64_t position = 0;
  std::uint64_t sequence = 0;
  std::uint32_t crc = 0;
};

class journal {
 public:
  journal(block_file& file, failure_latch& failure, std::uint64_t size) noexcept
      : file_(file), failure_(failure), size_(size) {}

  /// Memory for the mirror.
  [[nodiscard]] result<void> allocate(const std::string& path);

  // --- opening, single-threaded -----------------------------------------------------------------

  /// Reads the records from `tail` on, lays each valid one over `image`, and stands at their end.
  /// Damage ends the journal; only a failed read is an error.
  [[nodiscard]] result<void> replay(const journal_point& tail, std::uint64_t salt, std::byte* image,
                                    std::uint64_t image_size, const std::string& path);
  /// Writes what replay() took to its place again: 0, or errno. After a failed sync the page cache
  /// may hold clean pages that the disk lacks, and a sync alone would not write those.
  [[nodiscard]] int rewrite() noexcept;
  /// How long the file is at least: a commit looks before it says durable, a checkpoint before it
  /// writes. Any thread.
  void expect_file_bytes(std::uint64_t bytes) noexcept {
    file_bytes_.store(bytes, std::memory_order_release); // [J15] pairs with [J16]
  }
  [[nodiscard]] bool file_whole() noexcept {
    return file_.whole(file_bytes_.load(std::memory_order_acquire)); // [J16] pairs with [J15]
  }
  /// What records appended from now on carry.
  void set_salt(std::uint64_t salt) noexcept { salt_ = salt; }

  // --- any thread -------------------------------------------------------------------------------

  /// Appends one record with the lines of `extents` (`lines` in all, at least 1) as they are in
  /// `image` now. Waits while the journal is full. False: it failed and nothing was appended.
  bool append(std::span<const file_format::extent> extents, std::uint64_t lines,
              const std::byte* image) noexcept;
  [[nodiscard]] std::uint64_t appended() const noexcept {
    return appended_.load(std::memory_order_acquire); // [J4] pairs with [J3]
  }
  [[nodiscard]] std::uint64_t durable() const noexcept {
    return durable_.load(std::memory_order_acquire); // [J6] pairs with [J5]
  }
  [[nodiscard]] std::uint64_t tail() const noexcept {
    return tail_.load(std::memory_order_acquire); // [J8] pairs with [J7]
  }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// Somebody waits in append() for room.
  [[nodiscard]] bool awaited() const noexcept {
    return waiters_.load(std::memory_order_acquire) > 0; // [J10] pairs with [J9]
  }

  // --- the committer ----------------------------------------------------------------------------

  /// Commits what is appended. False: there was nothing, or it failed.
  bool commit_step() noexcept;

  // --- the checkpoint ---------------------------------------------------------------------------

  /// Calls visit(first_line, lines, copy) for each extent of the durable records, oldest first, and
  /// gives the point behind them.
  template <class Visit> journal_point walk_durable(Visit visit) const {
    journal_point at = tail_point_;
    for (const std::uint64_t end = durable(); at.position < end;) {
      const std::byte* bytes = mirror_.base() + at.position % size_;
      const auto* r = reinterpret_cast<const file_format::record*>(bytes);
      const auto* extents = reinterpret_cast<const file_format::extent*>(bytes + sizeof *r);
      const std::byte* lines = bytes + sizeof *r + file_format::table_bytes(r->extents);
      for (std::uint64_t i = 0; i < r->extents; ++i) {
        visit(file_format::first_line(extents[i]), file_format::lines_of(extents[i]), lines);
        lines += file_format::lines_of(extents[i]) * cacheline_size;
      }
      at = {at.position + r->bytes, r->sequence + 1, r->crc};
    }
    return at;
  }
  /// The space before `to` may be reused.
  void release(const journal_point& to) noexcept;

 private:
  [[nodiscard]] bool valid_at(const journal_point& at, std::uint64_t salt,
                              std::uint64_t image_size) const noexcept;
  /// Has the mirror hold [position, position + n) of the file: 0, or errno.
  [[nodiscard]] int load(std::uint64_t position, std::uint64_t n) noexcept;
  /// Calls write(offset in the file, bytes, n) for the one or two stretches of [from, to), until
  /// one gives an errno: that, or 0.
  template <class Write>
  [[nodiscard]] int for_range(std::uint64_t from, std::uint64_t to, Write write);
  void seal(std::uint64_t to) noexcept;

  block_file& file_;
  failure_latch& failure_;
  const std::uint64_t size_;
  detail::address_range mirror_;
  std::atomic<std::uint64_t> file_bytes_ = 0;
  std::uint64_t salt_ = 0;
  std::uint64_t loaded_ = 0;     ///< opening: the mirror holds the file up to here
  journal_point tail_point_;     ///< the checkpoint's
  std::uint32_t sealed_crc_ = 0; ///< the committer's: of the last record before `durable`

  alignas(cacheline_size) spin_lock lock_;
  std::uint64_t next_sequence_ = 0; ///< under the lock
  std::atomic<std::uint64_t> appended_ = 0;
  alignas(cacheline_size) std::atomic<std::uint64_t> durable_ = 0;
  alignas(cacheline_size) std::atomic<std::uint64_t> tail_ = 0;
  std::atomic<std::uint32_t> waiters_ = 0;
};

} // namespace chainring
