// SPDX-License-Identifier: BSD-3-Clause
/// The file-system calls of class `file`. Tests replace them, to make calls fail, cut them short or
/// record them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sys/types.h>

#include "media/mapping.h"

namespace chainring {

/// One open description of a file. Two descriptions of the same file learn of write-back errors
/// independently of each other. Thread-safety: as pread and pwrite.
///
/// The calls that change the file are not virtual, so that the mutation suites find each place that
/// makes one (tests/support/call_sites); a kind of file overrides their do_ functions.
class block_file {
 public:
  virtual ~block_file() = default;
  /// As pwrite and pread, but a failure returns -errno. A call may transfer fewer bytes than asked.
  ssize_t write_at(std::uint64_t offset, const void* from, std::size_t n) noexcept {
    return do_write_at(offset, from, n);
  }
  virtual ssize_t read_at(std::uint64_t offset, void* to, std::size_t n) noexcept = 0;
  /// Writes all bytes and returns once these bytes are durable, without waiting for other bytes of
  /// the file. Returns 0 or errno. So a commit does not have to write the pages of a checkpoint.
  int write_durably(std::uint64_t offset, const void* from, std::uint64_t n) noexcept {
    return do_write_durably(offset, from, n);
  }
  /// Makes everything durable that was written through any description of the file. Returns 0 or
  /// errno.
  int sync() noexcept { return do_sync(); }
  /// Returns false if the file is shorter than `bytes` or has no name any more. Then it was
  /// truncated or deleted, and what is written to it is gone at the next open.
  virtual bool whole(std::uint64_t /*bytes*/) noexcept { return true; }
  /// Makes the file end at `to`, with [from, to) allocated and zero. Returns 0, or errno and a file
  /// that ends at `from` again. The change is durable after sync().
  int allocate(std::uint64_t from, std::uint64_t to) noexcept { return do_allocate(from, to); }
  /// Finds the first range [from, to) at or behind `from` that may hold other bytes than zero. The
  /// range is empty if there is none before `end`.
  virtual void find_data(std::uint64_t& from, std::uint64_t& to, std::uint64_t end) noexcept {
    to = end;
    (void)from;
  }

 protected:
  virtual ssize_t do_write_at(std::uint64_t offset, const void* from, std::size_t n) noexcept = 0;
  virtual int do_write_durably(std::uint64_t offset, const void* from, std::uint64_t n) noexcept;
  virtual int do_sync() noexcept = 0;
  virtual int do_allocate(std::uint64_t from, std::uint64_t to) noexcept = 0;
};

/// Writes or reads all bytes, and goes on after a short call as long as each call moves some.
/// Returns 0 or errno: EIO for a write that moves nothing, ENODATA for a read past the end.
[[nodiscard]] int write_all(block_file& file, std::uint64_t offset, const void* from,
                            std::uint64_t n) noexcept;
[[nodiscard]] int read_all(block_file& file, std::uint64_t offset, void* to,
                           std::uint64_t n) noexcept;

/// The block file of the operating system's calls.
[[nodiscard]] std::unique_ptr<block_file> posix_block_file(detail::file_descriptor fd);

} // namespace chainring
