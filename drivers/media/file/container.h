// SPDX-License-Identifier: BSD-3-Clause
/// The two header copies of a region file.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "base/error.h"
#include "block_file.h"
#include "file_format.h"

namespace chainring {

/// What went wrong first, once for all: a failed write or sync is never retried, because the kernel
/// may have dropped the pages it could not write.
class failure_latch {
 public:
  /// `what` names the operation and must outlive the latch.
  void fail(const char* what, int errno_value) noexcept;
  [[nodiscard]] bool failed() const noexcept {
    return failed_.load(std::memory_order_acquire); // [F2] pairs with [F1]: what failed is readable
  }
  /// An error when failed, errc::no_space or errc::io.
  [[nodiscard]] result<void> status(const std::string& path) const;

 private:
  std::atomic<bool> taken_ = false;
  std::atomic<bool> failed_ = false;
  const char* what_ = "";
  int errno_ = 0;
};

/// The header that counts, and how it changes. Thread-safe.
class container {
 public:
  /// A new container's header, not written yet.
  container(std::uint64_t journal_size, std::uint64_t image_size, std::uint64_t salt);
  explicit container(const file_format::header& h) : header_(h) {}

  /// The header that counts of the two copies in the file, or an error that names the file.
  [[nodiscard]] static result<file_format::header> load(block_file& file, const std::string& path,
                                                        std::uint64_t file_bytes);

  [[nodiscard]] file_format::header now() const;
  /// Writes the copy that counts to its own place again: 0, or errno. What was read may be a page
  /// that never reached the disk.
  [[nodiscard]] int rewrite(block_file& file);
  /// Applies `change` to the header and writes both copies, a sync behind each: 0, or errno.
  template <class Change> [[nodiscard]] int update(block_file& file, Change change) {
    const std::lock_guard guard(lock_);
    change(header_);
    for (int copy = 0; copy < 2; ++copy) {
      ++header_.sequence;
      if (int e = write_copy(file); e != 0) return e;
      // [C1 < C2] a copy is durable before the other is touched, and both before update() returns.
      if (int e = file.sync(); e != 0) return e;
    }
    return 0;
  }

 private:
  [[nodiscard]] int write_copy(block_file& file);

  mutable std::mutex lock_;
  file_format::header header_{};
};

/// True where a file starts like one of these: other drivers must not map it as a bare region.
[[nodiscard]] bool is_container(int fd) noexcept;

} // namespace chainring
