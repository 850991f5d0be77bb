// SPDX-License-Identifier: BSD-3-Clause
// A file that is mapped shared. On hugetlbfs and tmpfs it survives the death of the process, but
// not of the machine: class `process`, in which what is visible is all there is. If class
// `emulated` is asked for, any file will do; the driver then executes the instructions of class
// `power` on memory that gains nothing from them.
//
// A sync of an ordinary file mapped in this way would promise nothing: the kernel may write a page
// at any time, so the sync cannot order two stores. For this reason a file on a disk is refused
// unless class `emulated` is asked for.
#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "media/container.h"
#include "media/drivers.h"
#include "media/mapping.h"
#include "media/memory_fault.h"

namespace chainring {

namespace {

using detail::file_system;
using detail::open_mode;

bool emulated(const media_options& o) {
  return o.durability == durability_class::emulated;
}

class shared_media final : public detail::watched_media {
 public:
  ~shared_media() override { watch_.end(); }

  static result<std::unique_ptr<media>> make(const media_options& o, open_mode mode) {
    auto place = detail::place_of(o.path);
    if (!place) return place.error();
    if (auto ok = check(o, mode, *place); !ok) return ok.error();
    std::unique_ptr<shared_media> m(new shared_media);
    m->path_ = o.path;
    m->unit_ = place->kind == file_system::hugetlbfs ? place->block_size : detail::page_size;
    m->class_ = emulated(o) ? durability_class::emulated : durability_class::process;
    if (mode == open_mode::create) {
      // Check the sizes before there is a file that would have to be removed again.
      if (auto sizes = detail::checked_sizes(o, 0, m->unit_); !sizes) return sizes.error();
    }
    auto fd = detail::open_locked(o.path, mode);
    if (!fd) return fd.error();
    m->fd_ = std::move(*fd);
    if (auto mapped = m->map(o, mode, *place); !mapped) {
      if (mode == open_mode::create) (void)unlink(o.path.c_str());
      return mapped.error();
    }
    if (emulated(o) && !detail::only_reads(mode)) m->kind_ = kind::instructions;
    return std::unique_ptr<media>(std::move(m));
  }

  const char* driver_name() const noexcept override { return "hugetlb"; }

  result<void> grow(std::uint64_t size) override {
    if (read_only_ || fd_.get() < 0)
      return error{errc::read_only, "region file " + path_ + ": it is not open for writing"};
    const std::uint64_t old = this->size();
    auto grown = detail::checked_growth(size, old, range_.size(), unit_, path_);
    if (!grown) return grown.error();
    if (auto whole = detail::not_cut_short(fd_.get(), old, path_); !whole) return whole.error();
    if (auto done = allocate(old, *grown); !done) return done.error();
    if (auto done = commit(old, *grown); !done) return done.error();
    size_ = *grown;
    return {};
  }

  result<void> close() override {
    const result<void> ended = status();
    watch_.end();
    kind_ = kind::visible;
    base_ = nullptr;
    size_ = 0;
    range_ = detail::address_range();
    fd_ = detail::file_descriptor();
    return ended;
  }

 private:
  shared_media() = default;

  static result<void> check(const media_options& o, open_mode mode,
                            const detail::file_place& place) {
    const std::string name = "region file " + o.path + ": ";
    if (mode == open_mode::create && o.read_only)
      return error{errc::invalid_argument, name + "cannot create it read-only"};
    if (place.kind == file_system::disk && !emulated(o))
      return error{errc::unsupported,
                   name +
                       "a shared mapping of a file on a disk survives nothing; ask for class file "
                       "there, or a path on hugetlbfs or tmpfs"};
    const std::string base = o.path.substr(o.path.rfind('/') + 1);
    if (place.kind == file_system::hugetlbfs && base.find("map_") != std::string::npos)
      return error{errc::invalid_argument,
                   name + "EAL removes files named *map_* from hugetlbfs; choose another name"};
    return {};
  }

  result<void> map(const media_options& o, open_mode mode, const detail::file_place& place) {
    const std::string name = "region file " + path_ + ": ";
    std::uint64_t now = 0;
    if (mode != open_mode::create) {
      auto bytes = detail::file_size(fd_.get(), path_);
      if (!bytes) return bytes.error();
      if (is_container(fd_.get()))
        return error{errc::unsupported, name + "it is a region of class file; ask for that "
                                               "class, on a disk or read-only"};
      if (*bytes == 0 || *bytes % unit_ != 0)
        return error{errc::corrupt, name + "it is " + std::to_string(*bytes) +
                                        " bytes long, which is no multiple of " +
                                        std::to_string(unit_) +
                                        "; it was cut short, or its creation did not finish"};
      now = *bytes;
    }
    auto sizes = detail::checked_sizes(o, now, unit_);
    if (!sizes) return sizes.error();
    const std::uint64_t alignment = std::max(unit_, detail::hugepage_size);
    auto range = detail::address_range::reserve(sizes->size_max, alignment, path_);
    if (!range) return range.error();
    range_ = std::move(*range);
    read_only_ = detail::only_reads(mode);
    // A memory file system counts exactly the pages of a file. A disk also counts its own tables.
    struct stat held {};
    const bool whole = place.kind != file_system::disk && fstat(fd_.get(), &held) == 0 &&
                       static_cast<std::uint64_t>(held.st_blocks) * 512 >= sizes->size;
    if (mode == open_mode::beside_owner && (whole || place.kind == file_system::disk)) {
      if (auto done = range_.commit_look(fd_.get(), sizes->size); !done)
        return error{done.error().code, name + done.error().message};
    } else if (read_only_) {
      // A private mapping on hugetlbfs would need as many free pages again. A shared mapping would
      // fill the holes of a file that no owner has opened since it was copied.
      auto done = place.kind == file_system::hugetlbfs || mode == open_mode::beside_owner
                      ? range_.commit_copy(fd_.get(), sizes->size)
                      : range_.commit_file(fd_.get(), 0, sizes->size, MAP_PRIVATE);
      if (!done) return error{done.error().code, name + done.error().message};
    } else {
      if (!whole)
        if (auto done = allocate(0, sizes->size); !done) return done.error();
      if (auto done = commit(0, sizes->size); !done) return done.error();
    }
    if (!watch_.begin(range_.base(), range_.size(), unit_, losses_))
      return error{errc::no_space, name + "too many regions are open"};
    base_ = range_.base();
    size_ = sizes->size;
    return {};
  }

  /// Gives every page of [from, to) memory, also the holes of a file that was copied sparsely, so
  /// that no access finds the file system full.
  result<void> allocate(std::uint64_t from, std::uint64_t to) {
    if (from == to) return {};
    const detail::file_limit_guard guard;
    int e = 0;
    do
      e = posix_fallocate(fd_.get(), static_cast<off_t>(from), static_cast<off_t>(to - from));
    while (e == EINTR);
    if (e == 0 && fsync(fd_.get()) != 0) e = errno;
    if (e == 0) return {};
    if (from > 0) (void)ftruncate(fd_.get(), static_cast<off_t>(from));
    if (e == EFBIG)
      return detail::file_error(
          "region file " + path_ + ": cannot allocate " + std::to_string(to) + " bytes", e);
    return system_error(e == ENOSPC || e == EINTR || e == ENOMEM ? errc::no_space : errc::io,
                        "region file " + path_ + ": no room for " + std::to_string(to) +
                            " bytes; remove other files, or give the file system more pages",
                        e);
  }
  result<void> commit(std::uint64_t from, std::uint64_t to) {
    auto done = range_.commit_file(fd_.get(), from, to, MAP_SHARED);
    if (!done)
      return error{done.error().code, "region file " + path_ + ": " + done.error().message};
    return {};
  }

  detail::file_descriptor fd_;
  detail::address_range range_;
  std::uint64_t unit_ = detail::page_size;
  bool read_only_ = false;
};

bool suits(const std::string& path) {
  auto place = detail::place_of(path);
  return place && place->kind != file_system::disk;
}

constexpr durability_class given[] = {durability_class::process, durability_class::emulated};

} // namespace

const media_driver hugetlb_driver = {
    "hugetlb",
    "hugetlbfs and tmpfs files (class process); any file with class emulated",
    given,
    suits,
    [](const media_options& o) { return shared_media::make(o, open_mode::create); },
    [](const media_options& o) { return shared_media::make(o, detail::mode_of(o)); }};

} // namespace chainring
