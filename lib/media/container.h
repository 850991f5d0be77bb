// SPDX-License-Identifier: BSD-3-Clause
/// The two copies of the header of a region file of class `file`. The driver of that class changes
/// them; every other driver recognises them and refuses to map the file as a bare region. Internal:
/// not installed.
#pragma once
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>

#include "base/error.h"
#include "media/block_file.h"
#include "media/container_format.h"

namespace chainring {

/// The current header and the way it changes. Thread-safe.
class container {
 public:
  /// Makes the header of a new container. It is not written yet.
  container(std::uint64_t journal_size, std::uint64_t image_size, std::uint64_t salt);
  explicit container(const file_format::header& h) : header_(h) {}

  /// Reads both copies and returns the one that counts, or an error that names the file.
  [[nodiscard]] static result<file_format::header> load(block_file& file, const std::string& path,
                                                        std::uint64_t file_bytes);

  [[nodiscard]] file_format::header now() const;
  /// Applies `change` to the header and writes both copies, each followed by a sync. Returns 0 or
  /// errno.
  template <class Change> [[nodiscard]] int update(block_file& file, Change change) {
    const std::lock_guard guard(lock_);
    change(header_);
    for (int copy = 0; copy < 2; ++copy) {
      ++header_.sequence;
      if (int e = write_copy(file); e != 0) return e;
      // [header-copy-before-other]
      if (int e = file.sync(); e != 0) return e;
    }
    return 0;
  }

 private:
  [[nodiscard]] int write_copy(block_file& file);

  mutable std::mutex lock_;
  file_format::header header_{};
};

/// True if a file begins like a container, so that other drivers must not map it as a bare region.
[[nodiscard]] bool is_container(int fd) noexcept;

} // namespace chainring
