// SPDX-License-Identifier: BSD-3-Clause
#include "media/block_file.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

namespace chainring {

namespace {

constexpr std::uint64_t transfer_max = 1u << 30; // Linux moves less than 2 GiB in one call

class posix_file final : public block_file {
 public:
  explicit posix_file(detail::file_descriptor fd) noexcept : fd_(std::move(fd)) {}

  ssize_t do_write_at(std::uint64_t offset, const void* from, std::size_t n) noexcept override {
    ssize_t done = 0;
    do
      done = pwrite(fd_.get(), from, n, static_cast<off_t>(offset));
    while (done < 0 && errno == EINTR);
    return done < 0 ? -errno : done;
  }
  ssize_t read_at(std::uint64_t offset, void* to, std::size_t n) noexcept override {
    ssize_t done = 0;
    do
      done = pread(fd_.get(), to, n, static_cast<off_t>(offset));
    while (done < 0 && errno == EINTR);
    return done < 0 ? -errno : done;
  }
  int do_write_durably(std::uint64_t offset, const void* from, std::uint64_t n) noexcept override {
    const auto* at = static_cast<const std::byte*>(from);
    while (n > 0) {
      const iovec part = {const_cast<std::byte*>(at), std::min(n, transfer_max)};
      const ssize_t done = pwritev2(fd_.get(), &part, 1, static_cast<off_t>(offset), RWF_DSYNC);
      if (done < 0 && (errno == EOPNOTSUPP || errno == ENOSYS))
        return block_file::do_write_durably(offset, at, n);
      if (done < 0 && errno == EINTR) continue;
      if (done <= 0) return done == 0 ? EIO : errno;
      at += done;
      offset += static_cast<std::uint64_t>(done);
      n -= static_cast<std::uint64_t>(done);
    }
    return 0;
  }
  int do_sync() noexcept override { return fdatasync(fd_.get()) == 0 ? 0 : errno; }
  bool whole(std::uint64_t bytes) noexcept override {
    struct stat now {};
    return fstat(fd_.get(), &now) == 0 && now.st_nlink != 0 &&
           static_cast<std::uint64_t>(now.st_size) >= bytes;
  }
  int do_allocate(std::uint64_t from, std::uint64_t to) noexcept override {
    // Truncate first: an earlier growth that did not finish may have left bytes behind `from` that
    // are not zero.
    const detail::file_limit_guard guard;
    if (ftruncate(fd_.get(), static_cast<off_t>(from)) != 0) return errno;
    int e = 0;
    do
      e = posix_fallocate(fd_.get(), static_cast<off_t>(from), static_cast<off_t>(to - from));
    while (e == EINTR);
    if (e != 0 && ftruncate(fd_.get(), static_cast<off_t>(from)) != 0) return e;
    return e;
  }
  void find_data(std::uint64_t& from, std::uint64_t& to, std::uint64_t end) noexcept override {
    to = end;
    const off_t data = lseek(fd_.get(), static_cast<off_t>(from), SEEK_DATA);
    if (data < 0) {
      if (errno == ENXIO) from = end; // there are only holes up to the end of the file
      return;
    }
    from = std::min(end, static_cast<std::uint64_t>(data));
    const off_t hole = lseek(fd_.get(), data, SEEK_HOLE);
    if (hole > data) to = std::min(end, static_cast<std::uint64_t>(hole));
  }

 private:
  detail::file_descriptor fd_;
};

} // namespace

int block_file::do_write_durably(std::uint64_t offset, const void* from, std::uint64_t n) noexcept {
  if (int e = write_all(*this, offset, from, n); e != 0) return e;
  return sync();
}

int write_all(block_file& file, std::uint64_t offset, const void* from, std::uint64_t n) noexcept {
  const auto* at = static_cast<const std::byte*>(from);
  while (n > 0) {
    const ssize_t done = file.write_at(offset, at, std::min(n, transfer_max));
    if (done < 0) return static_cast<int>(-done);
    if (done == 0) return EIO;
    at += done;
    offset += static_cast<std::uint64_t>(done);
    n -= static_cast<std::uint64_t>(done);
  }
  return 0;
}

int read_all(block_file& file, std::uint64_t offset, void* to, std::uint64_t n) noexcept {
  auto* at = static_cast<std::byte*>(to);
  while (n > 0) {
    const ssize_t done = file.read_at(offset, at, std::min(n, transfer_max));
    if (done < 0) return static_cast<int>(-done);
    if (done == 0) return ENODATA;
    at += done;
    offset += static_cast<std::uint64_t>(done);
    n -= static_cast<std::uint64_t>(done);
  }
  return 0;
}

std::unique_ptr<block_file> posix_block_file(detail::file_descriptor fd) {
  return std::make_unique<posix_file>(std::move(fd));
}

} // namespace chainring
