// SPDX-License-Identifier: BSD-3-Clause
/// The file-system calls of class `file`, and nothing else: what a test fails, cuts short or
/// records.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sys/types.h>

#include "media/mapping.h"

namespace chainring {

/// One open description of a file. Two of the same file learn of write-back errors independently.
/// Thread-safety: as pread and pwrite.
class block_file {
 public:
  virtual ~block_file() = default;
  /// As pwrite and pread, but a failure returns -errno. May be short.
  virtual ssize_t write_at(std::uint64_t offset, const void* from, std::size_t n) noexcept = 0;
  virtual ssize_t read_at(std::uint64_t offset, void* to, std::size_t n) noexcept = 0;
  /// Writes all of it and returns once these bytes are durable, without waiting for others: 0, or
  /// errno. A commit so finds none of a checkpoint's pages to write beside its own.
  virtual int write_durably(std::uint64_t offset, const void* from, std::uint64_t n) noexcept;
  /// Everything written through any description of the file is durable: 0, or errno.
  virtual int sync() noexcept = 0;
  /// False where the file is shorter than `bytes`, or has no name any more: somebody cut it short
  /// or deleted it, and what is written to it is not there after the next open.
  virtual bool whole(std::uint64_t /*bytes*/) noexcept { return true; }
  /// Makes the file end at `to`, with [from, to) allocated and zero: 0, or errno, and then the file
  /// ends at `from` again. Durable after sync().
  virtual int allocate(std::uint64_t from, std::uint64_t to) noexcept = 0;
  /// The first bytes at or after `from` that may be other than zero: [from, to), empty at `end`.
  virtual void find_data(std::uint64_t& from, std::uint64_t& to, std::uint64_t end) noexcept {
    to = end;
    (void)from;
  }
};

/// Writes or reads all of it, going on after a short call as long as each moves: 0, or errno. A
/// write that moves nothing is EIO, a read past the end ENODATA.
[[nodiscard]] int write_all(block_file& file, std::uint64_t offset, const void* from,
                            std::uint64_t n) noexcept;
[[nodiscard]] int read_all(block_file& file, std::uint64_t offset, void* to,
                           std::uint64_t n) noexcept;

/// The real one.
[[nodiscard]] std::unique_ptr<block_file> posix_block_file(detail::file_descriptor fd);

} // namespace chainring
