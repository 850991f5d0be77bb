// SPDX-License-Identifier: BSD-3-Clause
/// What the media drivers share to lock, size and map files. Internal: not installed.
#pragma once
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "base/error.h"
#include "media/media.h"

namespace chainring::detail {

/// Owns a file descriptor.
class file_descriptor {
 public:
  explicit file_descriptor(int fd = -1) noexcept : fd_(fd) {}
  file_descriptor(file_descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  file_descriptor& operator=(file_descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~file_descriptor();
  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

/// Owns a range of addresses. The whole range is reserved at once and gets memory piece by piece
/// from its start, so that a region grows without moving. It is aligned for huge pages.
class address_range {
 public:
  address_range() = default;
  address_range(address_range&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  address_range& operator=(address_range&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~address_range();

  /// Reserves `size` bytes at a multiple of `alignment` (a power of two). Both are whole pages.
  [[nodiscard]] static result<address_range> reserve(std::uint64_t size, std::uint64_t alignment,
                                                     const std::string& path);
  /// Gives [from, to) zeroed memory, in transparent huge pages where the kernel grants them.
  [[nodiscard]] result<void> commit_memory(std::uint64_t from, std::uint64_t to);
  /// Maps the bytes [from, to) of the file at the same offsets of the range, with mmap's `flags`
  /// (MAP_SHARED, ...).
  [[nodiscard]] result<void> commit_file(int fd, std::uint64_t from, std::uint64_t to, int flags);
  /// Maps the bytes [0, n) of the file for a look beside its owner: shared, and for reading only.
  [[nodiscard]] result<void> commit_look(int fd, std::uint64_t n);

  /// Puts a private copy of the bytes [0, n) of the file at the start of the range, for inspection.
  [[nodiscard]] result<void> commit_copy(int fd, std::uint64_t n);

  [[nodiscard]] std::byte* base() const noexcept { return base_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

 private:
  [[nodiscard]] result<void> map_file(int fd, std::uint64_t from, std::uint64_t to, int protection,
                                      int flags);

  std::byte* base_ = nullptr;
  std::uint64_t size_ = 0;
};

inline constexpr std::uint64_t page_size = 4096;
inline constexpr std::uint64_t hugepage_size = 2u << 20;
/// Bound of the sizes that a caller may ask for, in bytes: x86-64 can reserve more than this.
inline constexpr std::uint64_t region_size_max = std::uint64_t{1} << 45;

/// The kind of file system a file lies on, which decides what a sync of the file is worth.
enum class file_system { disk, tmpfs, hugetlbfs };

struct file_place {
  file_system kind = file_system::disk;
  std::uint64_t block_size = page_size; ///< the size of its pages on hugetlbfs
};

/// Returns the place of the file, or of its directory while the file does not exist.
[[nodiscard]] result<file_place> place_of(const std::string& path);
[[nodiscard]] std::string directory_of(const std::string& path);

enum class open_mode {
  create,
  read_write,
  read_only,
  beside_owner, ///< for a look, whoever else has the file open
};
/// The mode in which a driver opens what exists.
[[nodiscard]] constexpr open_mode mode_of(const media_options& o) noexcept {
  if (!o.read_only) return open_mode::read_write;
  return o.beside_owner ? open_mode::beside_owner : open_mode::read_only;
}
[[nodiscard]] constexpr bool only_reads(open_mode m) noexcept {
  return m == open_mode::read_only || m == open_mode::beside_owner;
}

/// Opens the regular file or device at `path`, or creates it and refuses one that exists. Locks it
/// exclusively, or shared with other readers in read_only, or not at all in beside_owner.
/// errc::busy names the file.
[[nodiscard]] result<file_descriptor> open_locked(const std::string& path, open_mode mode);

/// Returns an error if nothing can be created or opened at `path`: it is a directory, a symbolic
/// link to nothing or an empty file, or its directory does not exist. The sentence says what to do.
[[nodiscard]] result<void> usable_path(const std::string& path);

/// Makes the error of a failed allocation or write of a region file: the sentence, the text of
/// errno, and a remedy if the disk, a quota or the limit on a file's size stopped it.
[[nodiscard]] error file_error(std::string sentence, int errno_value);

/// Keeps SIGXFSZ from this thread while it lives. A file that would exceed the limit on a file's
/// size (ulimit -f) then causes the error EFBIG, which drivers report and clean up after.
class file_limit_guard {
 public:
  file_limit_guard() noexcept;
  file_limit_guard(const file_limit_guard&) = delete;
  file_limit_guard& operator=(const file_limit_guard&) = delete;
  ~file_limit_guard();

 private:
  sigset_t before_;
  bool was_pending_ = false;
};

/// Returns the size of the regular file, or an error that names it.
[[nodiscard]] result<std::uint64_t> file_size(int fd, const std::string& path);
/// Returns an error if the file is shorter than the `size` bytes it had. If a file that was
/// truncated grows again, zeros replace what it held and no access shows it.
[[nodiscard]] result<void> not_cut_short(int fd, std::uint64_t size, const std::string& path);
/// Makes the directory entry of a file durable.
[[nodiscard]] result<void> sync_directory_of(const std::string& path);

/// The sizes of a region that a caller asks for, checked. Both are rounded up to `unit`; size_max
/// is by default four times the size. `size_now` is the size of the file when opening, and 0 when
/// creating.
struct region_sizes {
  std::uint64_t size = 0;
  std::uint64_t size_max = 0;
};
[[nodiscard]] result<region_sizes> checked_sizes(const media_options& options,
                                                 std::uint64_t size_now, std::uint64_t unit);
/// Returns the size that grow(size) leads to, in whole units, or the reason why it is refused.
[[nodiscard]] result<std::uint64_t> checked_growth(std::uint64_t size, std::uint64_t size_now,
                                                   std::uint64_t size_max, std::uint64_t unit,
                                                   const std::string& path);

} // namespace chainring::detail
