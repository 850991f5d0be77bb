// SPDX-License-Identifier: BSD-3-Clause
/// Class `file`: a region in memory, with a redo journal behind it. Internal. media/media.h is the
/// contract of the seam, and file_format.h the format.
///
/// A destruction without close() leaves the file as the death of the process would: what no commit
/// wrote is lost, and nothing is checkpointed. The threads are joined, and the memory and the lock
/// are given back.
#pragma once
#include <array>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <sched.h>
#include <thread>

#include "base/thread_slot.h"
#include "checkpoint.h"
#include "failure_latch.h"
#include "journal.h"
#include "media/block_file.h"
#include "media/container.h"
#include "media/media.h"

namespace chainring {

/// What a file_media works on. checkpoint.h says why there are two descriptions of one file.
struct file_parts {
  std::unique_ptr<block_file> journal; ///< this description also holds the lock on the file
  std::unique_ptr<block_file> image;
  std::uint64_t file_bytes = 0; ///< length of the file when it is opened
  /// Draws a salt, which is never 0 and never the same twice.
  std::function<std::uint64_t()> draw_salt;
  /// Tests set this to false and call commit_step() and checkpoint_step() themselves.
  bool threads = true;
};

class file_media final : public media {
 public:
  /// Creates a new, empty container in the file: allocated, zero and durable.
  [[nodiscard]] static result<void> format(file_parts& parts, const media_options& options);
  /// Opens a container that format() or a crash left.
  [[nodiscard]] static result<std::unique_ptr<file_media>> attach(file_parts parts,
                                                                  const media_options& options);
  ~file_media() override;

  const char* driver_name() const noexcept override { return "file"; }
  journal_statistics journal_counts() const noexcept override { return journal_.statistics(); }
  mark_t mark() noexcept override;
  bool durable(mark_t mark) noexcept override { return mark <= journal_.durable(); }
  bool failed() const noexcept override { return failure_.failed(); }
  bool has_room() const noexcept override;
  std::uint64_t drain_bytes_max() const noexcept override { return lines_max_ * cacheline_size; }
  result<void> grow(std::uint64_t size) override;
  result<void> close() override;

  result<void> status() const override { return failure_.status(path_); }

  /// After a look beside the owner of the file: true if the owner has not moved the beginning of
  /// the journal since the header was read. Then every record since then was still there when it
  /// was replayed, whatever a checkpoint wrote to the image in between.
  [[nodiscard]] bool is_one_state();

  // --- the work of the threads, for tests that run without them ---------------------------------
  bool commit_step() noexcept { return journal_.commit_step(); }
  bool checkpoint_step() noexcept;
  /// True while the committer sleeps until the next drain wakes it. Any thread may call it.
  [[nodiscard]] bool committer_sleeps() const noexcept {
    return committer_sleeps_.load(std::memory_order_seq_cst); // [sleep-or-wake]
  }

 private:
  /// The extents that one thread has flushed and not drained yet.
  struct pending {
    std::unique_ptr<file_format::extent[]> extents; ///< room for as many as a record may have
    std::uint64_t count = 0;
    std::uint64_t lines = 0;
  };

  file_media(file_parts parts, const file_format::header& h);
  [[nodiscard]] pending& my_pending() noexcept;
  [[nodiscard]] pending& pending_without_row() noexcept;
  void driver_flush(const void* from, std::size_t n) noexcept override;
  void driver_drain() noexcept override;
  [[nodiscard]] result<void> fill(const media_options& options);
  [[nodiscard]] result<void> read_image(std::uint64_t size);
  /// Refuses a CPU on which this process may not run.
  [[nodiscard]] result<void> start_threads(int cpu);
  void stop_threads() noexcept;
  void enter_background_thread(const char* name) const noexcept;
  void commit_loop() noexcept;
  void sleep_until_drain() noexcept;
  void wake_committer() noexcept;
  void checkpoint_loop() noexcept;

  file_parts parts_;
  failure_latch failure_;
  container container_;
  journal journal_;
  checkpoint checkpoint_;
  /// Held during a whole checkpoint and a whole growth, until a failure is latched. Both sync the
  /// same description, for which the kernel reports a failed write-back only once. If they synced
  /// at the same time, one could receive the report of the other's pages, and the other would count
  /// its pages as written.
  std::mutex image_lock_;
  detail::address_range memory_;
  std::uint64_t lines_max_ = 0;
  std::array<pending, max_thread_slots> pending_; ///< by row of a thread
  std::mutex further_lock_;                       ///< guards the map, not its values
  std::map<unsigned, pending> further_;           ///< by thread_slot() of threads without a row

  std::atomic<bool> stop_ = false;
  std::thread committer_, checkpointer_;
  cpu_set_t cpus_{}; ///< of both threads
  std::mutex wake_lock_;
  std::condition_variable wake_;   ///< for the checkpoint thread
  std::condition_variable drained_; ///< for the committer
  /// Written by the committer only when a pause begins and ends, and read by each drain.
  alignas(cacheline_size) std::atomic<bool> committer_sleeps_ = false;
  std::atomic<bool> wanted_ = false; ///< a checkpoint is wanted
};

} // namespace chainring
