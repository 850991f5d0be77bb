// SPDX-License-Identifier: BSD-3-Clause
// Persistent memory: a devdax device, or a file on a file system mounted with DAX. It gives class
// `power`, and only if libpmem says is_pmem of a mapping of the very file: a device, or a file for
// which MAP_SYNC is granted.
//
// Two environment variables change what libpmem says or does. PMEM_IS_PMEM_FORCE makes it call all
// memory persistent, so none of its answers can be believed, and the driver refuses to work.
// PMEM_NO_FLUSH=1 makes it flush nothing. That is right only if the caches survive a power cut
// (eADR), and the driver refuses to work otherwise.
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <libpmem.h>
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

/// libpmem reads the variable once, when it is loaded.
const bool forced_at_start = std::getenv("PMEM_IS_PMEM_FORCE") != nullptr;

bool forced() {
  return forced_at_start || std::getenv("PMEM_IS_PMEM_FORCE") != nullptr;
}

bool unflushed() {
  const char* text = std::getenv("PMEM_NO_FLUSH");
  return text != nullptr && std::strcmp(text, "1") == 0 && pmem_has_auto_flush() != 1;
}

bool is_device(const std::string& path) {
  struct stat info {};
  return stat(path.c_str(), &info) == 0 && S_ISCHR(info.st_mode) &&
         path.compare(0, 8, "/dev/dax") == 0;
}

/// The unit in which a device may be mapped and unmapped.
std::uint64_t alignment_of(const std::string& device) {
  std::uint64_t bytes = 0;
  std::ifstream("/sys/bus/dax/devices/" + device.substr(device.rfind('/') + 1) + "/align") >> bytes;
  return bytes != 0 ? bytes : detail::hugepage_size;
}

/// A mapping of a whole file or device, made by libpmem.
class pmem_mapping {
 public:
  pmem_mapping() = default;
  pmem_mapping(const char* path, std::size_t size, int flags) {
    int pmem = 0;
    base_ = pmem_map_file(path, size, flags, 0600, &size_, &pmem);
    is_pmem_ = base_ != nullptr && pmem != 0;
  }
  pmem_mapping(pmem_mapping&& other) noexcept { *this = std::move(other); }
  pmem_mapping& operator=(pmem_mapping&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(size_, other.size_);
    std::swap(is_pmem_, other.is_pmem_);
    return *this;
  }
  ~pmem_mapping() {
    if (base_ != nullptr) pmem_unmap(base_, size_);
  }
  [[nodiscard]] std::byte* base() const { return static_cast<std::byte*>(base_); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool is_pmem() const { return is_pmem_; }

 private:
  void* base_ = nullptr;
  std::size_t size_ = 0;
  bool is_pmem_ = false;
};

/// True if the kernel grants MAP_SYNC, which is what libpmem goes by. libpmem itself opens the file
/// for writing, which a reader may not be allowed to do.
bool grants_sync(int fd) {
  void* at = mmap(nullptr, detail::page_size, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
  if (at == MAP_FAILED) return false;
  munmap(at, detail::page_size);
  return true;
}

class dax_media final : public detail::watched_media {
 public:
  ~dax_media() override { watch_.end(); }

  static result<std::unique_ptr<media>> make(const media_options& o, open_mode mode) {
    if (auto ok = check(o, mode); !ok) return ok.error();
    std::unique_ptr<dax_media> m(new dax_media);
    m->path_ = o.path;
    m->class_ = durability_class::power;
    const bool device = is_device(o.path);
    const bool creates_file = mode == open_mode::create && !device;
    if (creates_file) {
      if (auto sizes = detail::checked_sizes(o, 0, detail::page_size); !sizes) return sizes.error();
    }
    auto fd = detail::open_locked(
        o.path, device && mode == open_mode::create ? open_mode::read_write : mode);
    if (!fd) return fd.error();
    m->fd_ = std::move(*fd);
    auto mapped = device ? m->map_device(o, mode) : m->map_file(o, mode);
    if (!mapped) {
      if (creates_file) (void)unlink(o.path.c_str());
      return mapped.error();
    }
    if (!detail::only_reads(mode)) m->kind_ = kind::instructions;
    return std::unique_ptr<media>(std::move(m));
  }

  const char* driver_name() const noexcept override { return "dax"; }

  result<void> grow(std::uint64_t size) override {
    if (kind_ != kind::instructions)
      return error{errc::read_only, "region file " + path_ + ": it is not open for writing"};
    const std::uint64_t old = this->size();
    if (device_.base() != nullptr && size <= old) return {};
    if (device_.base() != nullptr)
      return error{errc::unsupported,
                   "region device " + path_ + ": a device cannot grow; use a larger one"};
    auto grown = detail::checked_growth(size, old, range_.size(), detail::page_size, path_);
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
    device_ = pmem_mapping();
    fd_ = detail::file_descriptor();
    return ended;
  }

 private:
  dax_media() = default;

  static result<void> check(const media_options& o, open_mode mode) {
    const std::string name = "region " + o.path + ": ";
    if (mode == open_mode::create && o.read_only)
      return error{errc::invalid_argument, name + "cannot create it read-only"};
    if (forced())
      return error{errc::unsupported,
                   name + "PMEM_IS_PMEM_FORCE is set, so libpmem calls any memory persistent and "
                          "nothing shows whether it is; unset it, or ask for class emulated"};
    if (unflushed())
      return error{errc::unsupported,
                   name +
                       "PMEM_NO_FLUSH=1 is set and this machine has no eADR: a drain would leave "
                       "what it covers in the caches; unset it"};
    return {};
  }

  error not_pmem() const {
    return {errc::unsupported,
            "region " + path_ +
                ": libpmem says this is no persistent memory (neither devdax nor "
                "a file on a file system mounted with DAX); ask for class file"};
  }

  result<void> map_device(const media_options& o, open_mode mode) {
    pmem_mapping device(path_.c_str(), 0, 0); // a device is always mapped whole
    if (!device.is_pmem()) return not_pmem();
    const std::string name = "region device " + path_ + ": ";
    if (o.size > device.size())
      return error{errc::no_space, name + "it has " + std::to_string(device.size()) + " bytes"};
    if (mode == open_mode::beside_owner && mprotect(device.base(), device.size(), PROT_READ) != 0)
      return system_error(errc::io, name + "cannot map it for reading only", errno);
    if (mode == open_mode::read_only) {
      auto range = detail::address_range::reserve(device.size(), detail::hugepage_size, path_);
      if (!range) return range.error();
      range_ = std::move(*range);
      if (auto done = range_.commit_memory(0, device.size()); !done) return done.error();
      std::memcpy(range_.base(), device.base(), device.size());
      base_ = range_.base();
      size_ = range_.size();
      return {};
    }
    if (mode == open_mode::create) {
      constexpr std::size_t looked_at = 8192; // both kinds of region begin in these bytes
      for (std::size_t i = 0; i < looked_at && i < device.size(); ++i)
        if (device.base()[i] != std::byte{0})
          return error{errc::exists, name +
                                         "its first bytes are not zero, so it may hold "
                                         "something; write zeros over its first 8 KiB to reuse it"};
      // A new region reads as zero, and what an earlier use left behind must not look valid.
      (void)pmem_memset_persist(device.base(), 0, device.size());
    }
    device_ = std::move(device);
    base_ = device_.base();
    size_ = device_.size();
    return watch(base_, size_, alignment_of(path_));
  }

  result<void> map_file(const media_options& o, open_mode mode) {
    std::uint64_t now = 0;
    if (mode != open_mode::create) {
      auto bytes = detail::file_size(fd_.get(), path_);
      if (!bytes) return bytes.error();
      if (is_container(fd_.get()))
        return error{errc::unsupported,
                     "region file " + path_ + ": it is a region of class file; ask for class file"};
      if (*bytes == 0 || *bytes % detail::page_size != 0)
        return error{errc::corrupt, "region file " + path_ + ": it is " + std::to_string(*bytes) +
                                        " bytes long: it was cut short, or its creation did not "
                                        "finish"};
      now = *bytes;
    }
    auto sizes = detail::checked_sizes(o, now, detail::page_size);
    if (!sizes) return sizes.error();
    auto range = detail::address_range::reserve(sizes->size_max, detail::hugepage_size, path_);
    if (!range) return range.error();
    range_ = std::move(*range);
    if (detail::only_reads(mode)) {
      if (!grants_sync(fd_.get())) return not_pmem();
      auto done = mode == open_mode::beside_owner
                      ? range_.commit_look(fd_.get(), sizes->size)
                      : range_.commit_file(fd_.get(), 0, sizes->size, MAP_PRIVATE);
      if (!done)
        return error{done.error().code, "region file " + path_ + ": " + done.error().message};
    } else {
      if (auto done = allocate(0, sizes->size); !done) return done.error();
      if (auto done = detail::sync_directory_of(path_); !done) return done.error();
      // libpmem judges by a mapping of its own. The mapping that is kept is made at a reserved
      // address, so that it can grow in place; the kernel refuses it unless MAP_SYNC holds.
      if (!pmem_mapping(path_.c_str(), 0, 0).is_pmem()) return not_pmem();
      if (auto done = commit(0, sizes->size); !done) return done.error();
    }
    base_ = range_.base();
    size_ = sizes->size;
    return watch(base_, range_.size(), detail::page_size);
  }

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
    return detail::file_error(
        "region file " + path_ + ": cannot allocate " + std::to_string(to) + " bytes", e);
  }
  result<void> commit(std::uint64_t from, std::uint64_t to) {
    auto done = range_.commit_file(fd_.get(), from, to, MAP_SHARED_VALIDATE | MAP_SYNC);
    if (!done)
      return error{done.error().code, "region file " + path_ + ": " + done.error().message};
    return {};
  }

  result<void> watch(std::byte* base, std::uint64_t size, std::uint64_t unit) {
    if (watch_.begin(base, size, unit, losses_)) return {};
    return error{errc::no_space, "region " + path_ + ": too many regions are open"};
  }

  detail::file_descriptor fd_;
  detail::address_range range_; ///< used for a file
  pmem_mapping device_;         ///< used for a device
};

/// True for devices, and for regular files that libpmem maps as persistent memory. For a file that
/// does not exist yet, it tries an unnamed file in the same directory.
bool suits(const std::string& path) {
  if (is_device(path)) return true;
  auto place = detail::place_of(path);
  if (!place || place->kind != file_system::disk || forced()) return false;
  struct stat info {};
  if (stat(path.c_str(), &info) != 0)
    return pmem_mapping(detail::directory_of(path).c_str(), detail::page_size,
                        PMEM_FILE_CREATE | PMEM_FILE_TMPFILE)
        .is_pmem();
  if (!S_ISREG(info.st_mode) || info.st_size == 0) return false;
  if (!pmem_mapping(path.c_str(), 0, 0).is_pmem()) return false;
  const detail::file_descriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return fd.get() >= 0 && !is_container(fd.get());
}

constexpr durability_class given[] = {durability_class::power};

} // namespace

const media_driver dax_driver = {
    "dax",
    "persistent memory: devdax, or a file mounted with DAX; survives power loss",
    given,
    suits,
    [](const media_options& o) { return dax_media::make(o, open_mode::create); },
    [](const media_options& o) { return dax_media::make(o, detail::mode_of(o)); }};

} // namespace chainring
