// SPDX-License-Identifier: BSD-3-Clause
#include "media/mapping.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>
#include <ctime>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace chainring::detail {

file_descriptor::~file_descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

address_range::~address_range() {
  if (base_ != nullptr) munmap(base_, size_);
}

result<address_range> address_range::reserve(std::uint64_t size, std::uint64_t alignment,
                                             const std::string& path) {
  const std::uint64_t asked = size + alignment;
  void* at = mmap(nullptr, asked, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED)
    return system_error(errc::no_space,
                        "region " + path + ": cannot reserve " + std::to_string(size) +
                            " bytes of addresses; lower size_max",
                        errno);
  const auto start = reinterpret_cast<std::uintptr_t>(at);
  const std::uintptr_t aligned = align_up(start, alignment);
  const std::uint64_t before = aligned - start;
  auto* base = static_cast<std::byte*>(at) + before;
  if (before > 0) munmap(at, before);
  if (alignment > before) munmap(base + size, alignment - before);
  address_range range;
  range.base_ = base;
  range.size_ = size;
  return range;
}

result<void> address_range::commit_memory(std::uint64_t from, std::uint64_t to) {
  CHAINRING_ASSERT(from <= to && to <= size_);
  if (from == to) return {};
  void* at = mmap(base_ + from, to - from, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (at == MAP_FAILED)
    return system_error(errc::no_space,
                        "cannot get " + std::to_string(to - from) + " bytes of memory", errno);
  // EAL looks after explicit huge pages, and fails without them. This advice only asks for
  // transparent ones; a kernel without them gives small pages.
  (void)madvise(at, to - from, MADV_HUGEPAGE);
  return {};
}

result<void> address_range::commit_file(int fd, std::uint64_t from, std::uint64_t to, int flags) {
  return map_file(fd, from, to, PROT_READ | PROT_WRITE, flags);
}

result<void> address_range::commit_look(int fd, std::uint64_t n) {
  return map_file(fd, 0, n, PROT_READ, MAP_SHARED);
}

result<void> address_range::map_file(int fd, std::uint64_t from, std::uint64_t to, int protection,
                                     int flags) {
  CHAINRING_ASSERT(from <= to && to <= size_);
  if (from == to) return {};
  if (mmap(base_ + from, to - from, protection, flags | MAP_FIXED, fd, static_cast<off_t>(from)) !=
      MAP_FAILED)
    return {};
  const int e = errno;
  // A failed fixed mapping may have removed the reservation: restore it.
  (void)mmap(base_ + from, to - from, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  return system_error(e == EOPNOTSUPP || e == EINVAL ? errc::unsupported : errc::no_space,
                      "cannot map the file", e);
}

result<void> address_range::commit_copy(int fd, std::uint64_t n) {
  if (auto done = commit_memory(0, n); !done) return done.error();
  constexpr std::uint64_t piece = 1u << 30; // Linux moves less than 2 GiB in one call
  for (std::uint64_t at = 0; at < n;) {
    const ssize_t got = pread(fd, base_ + at, std::min(piece, n - at), static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return system_error(errc::io, "cannot read the file", got < 0 ? errno : ENODATA);
    at += static_cast<std::uint64_t>(got);
  }
  return {};
}

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

result<file_place> place_of(const std::string& path) {
  struct statfs info {};
  int failed = statfs(path.c_str(), &info);
  if (failed != 0 && errno == ENOENT) failed = statfs(directory_of(path).c_str(), &info);
  if (failed != 0)
    return system_error(errno == ENOENT ? errc::not_found : errc::io, "region path " + path, errno);
  file_place place;
  switch (static_cast<unsigned long>(info.f_type)) {
  case HUGETLBFS_MAGIC:
    place.kind = file_system::hugetlbfs;
    place.block_size = static_cast<std::uint64_t>(info.f_bsize);
    break;
  case TMPFS_MAGIC:
  case RAMFS_MAGIC:
    place.kind = file_system::tmpfs;
    break;
  default:
    break;
  }
  return place;
}

result<file_descriptor> open_locked(const std::string& path, open_mode mode) {
  int flags = O_CLOEXEC | (only_reads(mode) ? O_RDONLY : O_RDWR);
  if (mode == open_mode::create) flags |= O_CREAT | O_EXCL;
  file_descriptor fd(::open(path.c_str(), flags, 0600));
  if (fd.get() < 0) {
    const errc code = errno == EEXIST                      ? errc::exists
                      : errno == ENOENT                    ? errc::not_found
                      : errno == ENOSPC || errno == EDQUOT ? errc::no_space
                                                           : errc::io;
    return system_error(code, "region file " + path, errno);
  }
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return system_error(errc::io, "region file " + path, errno);
  if (!S_ISREG(info.st_mode) && !S_ISCHR(info.st_mode))
    return error{errc::unsupported,
                 "region path " + path + ": it is neither a regular file nor a DAX device"};
  if (mode == open_mode::beside_owner) return fd;
  if (flock(fd.get(), (mode == open_mode::read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK)
      return error{errc::busy, "region file " + path +
                                   ": it is open elsewhere; stop that program first, or work on a "
                                   "copy of the file"};
    return system_error(errc::io, "region file " + path + ": cannot lock it", errno);
  }
  return fd;
}

result<void> usable_path(const std::string& path) {
  const std::string name = "region path " + path + ": ";
  struct stat info {};
  if (stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode))
      return error{errc::unsupported,
                   name + "it is a directory; name a file in it, or a DAX device"};
    if (S_ISREG(info.st_mode) && info.st_size == 0)
      return error{errc::corrupt, name +
                                      "it is an empty file, which is no region; remove it, and the "
                                      "region can be created there"};
    return {};
  }
  if (lstat(path.c_str(), &info) == 0 && S_ISLNK(info.st_mode)) {
    char to[PATH_MAX];
    const ssize_t n = readlink(path.c_str(), to, sizeof to);
    return error{errc::invalid_argument,
                 name + "it is a symbolic link to " +
                     std::string(to, n > 0 ? static_cast<std::size_t>(n) : 0) +
                     ", which is not there; remove the link or point it at the region, or name the "
                     "file itself"};
  }
  const std::string directory = directory_of(path);
  if (stat(directory.c_str(), &info) != 0 && errno == ENOENT)
    return error{errc::invalid_argument, name + "its directory " + directory +
                                             " does not exist; make it, or name another path"};
  if (stat(directory.c_str(), &info) != 0 && errno != EACCES)
    return system_error(errc::invalid_argument, name + "its directory " + directory, errno);
  if (stat(directory.c_str(), &info) == 0 && !S_ISDIR(info.st_mode))
    return error{errc::invalid_argument, name + directory + " is no directory; name another path"};
  return {};
}

error file_error(std::string sentence, int errno_value) {
  const bool no_room = errno_value == ENOSPC || errno_value == EDQUOT || errno_value == EFBIG;
  error e = system_error(no_room ? errc::no_space : errc::io, std::move(sentence), errno_value);
  if (errno_value == EFBIG)
    e.message += "; raise the limit on the size of a file (ulimit -f), or ask for a smaller region";
  else if (no_room)
    e.message += "; free some space, or ask for a smaller region";
  return e;
}

file_limit_guard::file_limit_guard() noexcept {
  sigset_t limit, pending;
  sigemptyset(&limit);
  sigaddset(&limit, SIGXFSZ);
  was_pending_ = sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ) == 1;
  (void)pthread_sigmask(SIG_BLOCK, &limit, &before_);
}

file_limit_guard::~file_limit_guard() {
  sigset_t limit;
  sigemptyset(&limit);
  sigaddset(&limit, SIGXFSZ);
  const timespec now{};
  // the failed call has reported the signal
  if (!was_pending_) (void)sigtimedwait(&limit, nullptr, &now);
  (void)pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

result<std::uint64_t> file_size(int fd, const std::string& path) {
  struct stat info {};
  if (fstat(fd, &info) != 0) return system_error(errc::io, "region file " + path, errno);
  return static_cast<std::uint64_t>(info.st_size);
}

result<void> not_cut_short(int fd, std::uint64_t size, const std::string& path) {
  auto now = file_size(fd, path);
  if (!now) return now.error();
  if (*now >= size) return {};
  return error{errc::io, "region file " + path + ": it is " + std::to_string(*now) +
                             " bytes long and was " + std::to_string(size) +
                             ": it was cut short; restore it before it grows"};
}

result<void> sync_directory_of(const std::string& path) {
  const file_descriptor fd(::open(directory_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0 || (fsync(fd.get()) != 0 && errno != EINVAL))
    return system_error(errc::io, "directory of region file " + path + ": cannot sync it", errno);
  return {};
}

result<region_sizes> checked_sizes(const media_options& options, std::uint64_t size_now,
                                   std::uint64_t unit) {
  const std::string name = "region file " + options.path + ": ";
  if (size_now == 0 && options.size == 0)
    return error{errc::invalid_argument,
                 name + "size is 0; give the bytes of the region to create"};
  if (options.size > region_size_max || options.size_max > region_size_max)
    return error{errc::invalid_argument, name + "size and size_max: expected at most " +
                                             std::to_string(region_size_max) + " bytes"};
  if (size_now != 0 && options.size != 0 && align_up(options.size, unit) != size_now)
    return error{errc::invalid_argument, name + "size " + std::to_string(options.size) +
                                             ": the region is " + std::to_string(size_now) +
                                             " bytes long; open it with size 0, then grow it"};
  region_sizes sizes;
  sizes.size = size_now != 0 ? size_now : align_up(options.size, unit);
  sizes.size_max = options.size_max != 0
                       ? align_up(options.size_max, unit)
                       : std::max(sizes.size, std::min(4 * sizes.size, region_size_max));
  if (sizes.size_max < sizes.size)
    return error{errc::invalid_argument, name + "size_max " + std::to_string(options.size_max) +
                                             ": expected at least the region's size, " +
                                             std::to_string(sizes.size)};
  return sizes;
}

result<std::uint64_t> checked_growth(std::uint64_t size, std::uint64_t size_now,
                                     std::uint64_t size_max, std::uint64_t unit,
                                     const std::string& path) {
  const std::string name = "region file " + path + ": ";
  if (size < size_now)
    return error{errc::invalid_argument, name + "grow to " + std::to_string(size) +
                                             " bytes: it is " + std::to_string(size_now) +
                                             " bytes long and never shrinks"};
  if (size > size_max)
    return error{errc::invalid_argument,
                 name + "grow to " + std::to_string(size) + " bytes: only " +
                     std::to_string(size_max) +
                     " were reserved at open; reopen it with that size_max"};
  return std::min(align_up(size, unit), size_max);
}

} // namespace chainring::detail
