// SPDX-License-Identifier: BSD-3-Clause
/// What the media drivers share to lock, size and map files. Internal: not installed.
#pragma once
#include <cstddef>
#include <csignal>
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

/// Owns a range of addresses, reserved whole and given memory from its start piece by piece, so
/// that a region grows without moving. Aligned for huge pages.
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

  /// Reserves `size` bytes at a multiple of `alignment` (a power of two); both whole pages.
  [[nodiscard]] static result<address_range> reserve(std::uint64_t size, std::uint64_t alignment,
                                                     const std::string& path);
  /// Gives [from, to) zeroed memory, in transparent hugepages where the kernel grants them.
  [[nodiscard]] result<void> commit_memory(std::uint64_t from, std::uint64_t to);
  /// Maps bytes [from, to) of the file there, with mmap's `flags` (MAP_SHARED, ...).
  [[nodiscard]] result<void> commit_file(int fd, std::uint64_t from, std::uint64_t to, int flags);

  /// Puts a private copy of bytes [0, n) of the file there: for inspection.
  [[nodiscard]] result<void> commit_copy(int fd, std::uint64_t n);

  [[nodiscard]] std::byte* base() const noexcept { return base_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

 private:
  std::byte* base_ = nullptr;
  std::uint64_t size_ = 0;
};

inline constexpr std::uint64_t page_size = 4096;
inline constexpr std::uint64_t hugepage_size = 2u << 20;
/// Bound on what a caller may ask for, bytes: what x86-64 can reserve with room to spare.
inline constexpr std::uint64_t region_size_max = std::uint64_t{1} << 45;

/// Where a file lies, which decides what a sync of it is worth.
enum class file_system { disk, tmpfs, hugetlbfs };

struct file_place {
  file_system kind = file_system::disk;
  std::uint64_t block_size = page_size; ///< hugetlbfs: the size of its pages
};

/// Of the file, or of its directory while there is no such file.
[[nodiscard]] result<file_place> place_of(const std::string& path);
[[nodiscard]] std::string directory_of(const std::string& path);

enum class open_mode { create, read_write, read_only };

/// Opens or creates (refusing one that exists) the regular file or device at `path`, and locks it:
/// exclusively, or shared with other readers in read_only. errc::busy names the file.
[[nodiscard]] result<file_descriptor> open_locked(const std::string& path, open_mode mode);

/// Why nothing can be created or opened at `path`, in a sentence that says what to do: it is a
/// directory, a symbolic link to nothing or an empty file, or its directory is not there. Nothing
/// where none of these holds.
[[nodiscard]] result<void> usable_path(const std::string& path);

/// What a failed allocation or write of a region file is: the sentence, errno's text, and a remedy
/// where the disk, a quota or the limit on a file's size is what stopped it.
[[nodiscard]] error file_error(std::string sentence, int errno_value);

/// While it lives, SIGXFSZ does not reach this thread: a file that would pass the limit on a file's
/// size (ulimit -f) is the error EFBIG, which drivers report and clean up after.
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

/// Size of the regular file, or an error that names it.
[[nodiscard]] result<std::uint64_t> file_size(int fd, const std::string& path);
/// An error unless the file has the `size` bytes it had: one that was cut short, and then grows,
/// has zeros where it held something, and no access says so.
[[nodiscard]] result<void> not_cut_short(int fd, std::uint64_t size, const std::string& path);
/// Makes the directory entry of a file durable.
[[nodiscard]] result<void> sync_directory_of(const std::string& path);

/// Region sizes a caller asks for, checked: size and size_max rounded up to `unit`, size_max
/// defaulted to four times the size. `size_now` is the file's when opening, 0 when creating.
struct region_sizes {
  std::uint64_t size = 0;
  std::uint64_t size_max = 0;
};
[[nodiscard]] result<region_sizes> checked_sizes(const media_options& options,
                                                 std::uint64_t size_now, std::uint64_t unit);
/// What grow(size) comes to: the new size in whole units, or why not.
[[nodiscard]] result<std::uint64_t> checked_growth(std::uint64_t size, std::uint64_t size_now,
                                                   std::uint64_t size_max, std::uint64_t unit,
                                                   const std::string& path);

} // namespace chainring::detail
