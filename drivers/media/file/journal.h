// SPDX-License-Identifier: BSD-3-Clause
/// The redo journal of class `file`, with one record for each drain. file_format.h describes the
/// format.
///
/// Three positions only move forward: tail <= durable <= appended <= tail + size.
// clang-format off
/// - append() is for any thread. Under one short lock it takes a position, copies the lines into
///   the mirror in DRAM and moves `appended`. One lock covers all three, because a record must not
///   hold a word whose precondition was drained at a later position.
/// - commit_step() is for one thread. It chains the checksums of the finished prefix, writes the
///   prefix, syncs and moves `durable`. It chains the checksums outside the lock, because they
///   depend only on the order; this halves the time for which the lock is held.
/// - release() is for one thread, the checkpoint. It moves `tail` once the header on disk names the
///   new tail.
// clang-format on
///
/// The mirror holds the same bytes at the same places as the file. So a commit writes what is there
/// already, and a checkpoint reads durable copies and never the working copy.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "base/spin_lock.h"
#include "base/statistic.h"
#include "failure_latch.h"
#include "file_format.h"
#include "media/block_file.h"
#include "media/media.h"

namespace chainring {

/// The point at which a chain of records continues.
struct journal_point {
  std::uint64_t position = 0;
  std::uint64_t sequence = 0;
  std::uint32_t crc = 0;
};

class journal {
 public:
  journal(block_file& file, failure_latch& failure, std::uint64_t size) noexcept
      : file_(file), failure_(failure), size_(size) {}

  /// Allocates the memory of the mirror.
  [[nodiscard]] result<void> allocate(const std::string& path);

  // --- opening, single-threaded -----------------------------------------------------------------

  /// Reads the records from `tail` on, applies each valid one to `image`, and stops behind the
  /// last. A damaged record ends the journal; only a failed read is an error.
  [[nodiscard]] result<void> replay(const journal_point& tail, std::uint64_t salt, std::byte* image,
                                    std::uint64_t image_size, const std::string& path);
  /// Writes the replayed records to their places again. Returns 0 or errno. After a failed sync the
  /// page cache may hold clean pages that the disk does not have, and a sync alone would not write
  /// those.
  [[nodiscard]] int rewrite() noexcept;
  /// Says how long the file must be at least. A commit checks this before it calls anything
  /// durable, and a checkpoint before it writes. Any thread may call it.
  void expect_file_bytes(std::uint64_t bytes) noexcept {
    // [file-length-set] Without it a commit could find the file too short, although it has grown.
    file_bytes_.store(bytes, std::memory_order_release);
  }
  [[nodiscard]] bool file_whole() noexcept {
    // [file-length-read] Without it a commit could find the file too short, although it has grown.
    return file_.whole(file_bytes_.load(std::memory_order_acquire));
  }
  /// Sets the salt of the records that are appended from now on.
  void set_salt(std::uint64_t salt) noexcept { salt_ = salt; }

  // --- any thread -------------------------------------------------------------------------------

  /// Appends one record with the lines of `extents` (`lines` in all, at least 1) as they are in
  /// `image` now. Waits while the journal is full. Returns false if the journal failed, and then
  /// nothing was appended.
  bool append(std::span<const file_format::extent> extents, std::uint64_t lines,
              const std::byte* image) noexcept;
  [[nodiscard]] std::uint64_t appended() const noexcept {
    // [appended-read] Without it the committer could write a record that is not whole in the
    // mirror.
    return appended_.load(std::memory_order_acquire);
  }
  /// True if everything that is appended is durable.
  [[nodiscard]] bool all_committed() const noexcept {
    return appended_.load(std::memory_order_seq_cst) == durable(); // [sleep-or-wake]
  }
  [[nodiscard]] std::uint64_t durable() const noexcept {
    // [durable-read] Without it a checkpoint could read records whose checksums are not chained
    // yet.
    return durable_.load(std::memory_order_acquire);
  }
  [[nodiscard]] std::uint64_t tail() const noexcept {
    // [tail-read] Without it a drain could overwrite records that the checkpoint still reads.
    return tail_.load(std::memory_order_acquire);
  }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// True if a thread waits in append() for room.
  [[nodiscard]] bool awaited() const noexcept {
    // [waiters-read] Without it the committer could overlook a waiter and start no checkpoint.
    return waiters_.load(std::memory_order_acquire) > 0;
  }

  // --- the committer ----------------------------------------------------------------------------

  /// Commits the appended records. Returns false if there were none, or if the commit failed.
  bool commit_step() noexcept;

  [[nodiscard]] journal_statistics statistics() const noexcept {
    return {commits_.value(), bytes_.value(), seal_tsc_.value(), write_tsc_.value()};
  }

  // --- the checkpoint ---------------------------------------------------------------------------

  /// Calls visit(first_line, lines, copy) for each extent of the durable records, oldest first, and
  /// returns the point behind them.
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
  /// Releases the space before `to`, which may then be reused.
  void release(const journal_point& to) noexcept;

 private:
  [[nodiscard]] bool valid_at(const journal_point& at, std::uint64_t salt,
                              std::uint64_t image_size) const noexcept;
  /// Loads [position, position + n) of the file into the mirror. Returns 0 or errno.
  [[nodiscard]] int load(std::uint64_t position, std::uint64_t n) noexcept;
  /// Calls write(offset in the file, bytes, n) for the one or two stretches of [from, to). Returns
  /// the first errno that a call returns, or 0.
  template <class Write>
  [[nodiscard]] int for_range(std::uint64_t from, std::uint64_t to, Write write);
  void seal(std::uint64_t to) noexcept;

  block_file& file_;
  failure_latch& failure_;
  const std::uint64_t size_;
  detail::address_range mirror_;
  std::atomic<std::uint64_t> file_bytes_ = 0;
  std::uint64_t salt_ = 0;
  std::uint64_t loaded_ = 0; ///< while opening: the mirror holds the file up to this position
  journal_point tail_point_; ///< used by the checkpoint only
  /// used by the committer only: crc of the last record before `durable`
  std::uint32_t sealed_crc_ = 0;
  statistic commits_, bytes_, seal_tsc_, write_tsc_;

  alignas(cacheline_size) spin_lock lock_;
  std::uint64_t next_sequence_ = 0; ///< protected by the lock
  std::atomic<std::uint64_t> appended_ = 0;
  alignas(cacheline_size) std::atomic<std::uint64_t> durable_ = 0;
  alignas(cacheline_size) std::atomic<std::uint64_t> tail_ = 0;
  std::atomic<std::uint32_t> waiters_ = 0;
};

} // namespace chainring
