// SPDX-License-Identifier: BSD-3-Clause
/// Class `file`: a region in memory behind a redo journal. Internal: the seam's contract is
/// media/media.h, the format file_format.h.
///
/// Destroying one without close() leaves the file as a dead process would: what no commit wrote is
/// lost, nothing is checkpointed; its threads are joined and its memory and lock given back.
#pragma once
#include <array>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "base/thread_slot.h"
#include "checkpoint.h"
#include "failure_latch.h"
#include "journal.h"
#include "media/block_file.h"
#include "media/container.h"
#include "media/media.h"

namespace chainring {

/// What a file_media works on. Two descriptions of one file: see checkpoint.h.
struct file_parts {
  std::unique_ptr<block_file> journal; ///< owns the lock
  std::unique_ptr<block_file> image;
  std::uint64_t file_bytes = 0; ///< when opening
  /// Draws a salt, never 0 and never the same twice.
  std::function<std::uint64_t()> draw_salt;
  /// Off: a test calls commit_step() and checkpoint_step() itself.
  bool threads = true;
};

class file_media final : public media {
 public:
  /// Lays out a new, empty container in the file: allocated, zero, durable.
  [[nodiscard]] static result<void> format(file_parts& parts, const media_options& options);
  /// Opens what format() left or a crash did.
  [[nodiscard]] static result<std::unique_ptr<file_media>> attach(file_parts parts,
                                                                  const media_options& options);
  ~file_media() override;

  const char* driver_name() const noexcept override { return "file"; }
  mark_t mark() noexcept override;
  bool durable(mark_t mark) noexcept override { return mark <= journal_.durable(); }
  bool failed() const noexcept override { return failure_.failed(); }
  bool has_room() const noexcept override;
  std::uint64_t drain_bytes_max() const noexcept override { return lines_max_ * cacheline_size; }
  result<void> grow(std::uint64_t size) override;
  result<void> close() override;

  result<void> status() const override { return failure_.status(path_); }

  // --- what the threads do, for tests without them ----------------------------------------------
  bool commit_step() noexcept { return journal_.commit_step(); }
  bool checkpoint_step() noexcept;

 private:
  /// What one thread flushed and has not drained.
  struct pending {
    std::unique_ptr<file_format::extent[]> extents; ///< room for the most a record may have
    std::uint64_t count = 0;
    std::uint64_t lines = 0;
  };

  file_media(file_parts parts, const file_format::header& h);
  void driver_flush(const void* from, std::size_t n) noexcept override;
  void driver_drain() noexcept override;
  [[nodiscard]] result<void> fill(const media_options& options);
  [[nodiscard]] result<void> read_image(std::uint64_t size);
  void start_threads();
  void stop_threads() noexcept;
  void commit_loop() noexcept;
  void checkpoint_loop() noexcept;

  file_parts parts_;
  failure_latch failure_;
  container container_;
  journal journal_;
  checkpoint checkpoint_;
  /// Over a whole checkpoint and a whole growth, to where a failure is latched: both sync one
  /// description, which reports a failed write-back once. Who gets it must not be the one whose
  /// pages it is not about, or the other would count them as written.
  std::mutex image_lock_;
  detail::address_range memory_;
  std::uint64_t lines_max_ = 0;
  std::array<pending, max_thread_slots> pending_;

  std::atomic<bool> stop_ = false;
  std::thread committer_, checkpointer_;
  std::mutex wake_lock_;
  std::condition_variable wake_;
  std::atomic<bool> wanted_ = false; ///< a checkpoint
};

} // namespace chainring
