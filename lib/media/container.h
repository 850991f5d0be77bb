// SPDX-License-Identifier: BSD-3-Clause
/// The two header copies of a region file of class `file`: what the driver of that class changes, and
/// what every other driver recognises and refuses to map as a bare region. Internal: not installed.
#pragma once
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "base/error.h"
#include "media/block_file.h"
#include "media/container_format.h"

namespace chainring {

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
