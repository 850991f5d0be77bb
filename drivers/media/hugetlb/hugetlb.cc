// SPDX-License-Identifier: BSD-3-Clause
// hugetlbfs and tmpfs files, mapped shared: they survive the process and not the machine. With
// media_options::emulated any file will do, and the instructions of class `power` are issued.
#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "media/drivers.h"

namespace chainring {

namespace {

std::string directory_of(const std::string& path) {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// The file system's page size where its files survive a process and no power cut; 0 elsewhere.
std::uint64_t volatile_page_size(const std::string& path) {
  struct statfs fs {};
  if (statfs(path.c_str(), &fs) != 0 && statfs(directory_of(path).c_str(), &fs) != 0) return 0;
  if (fs.f_type == HUGETLBFS_MAGIC) return static_cast<std::uint64_t>(fs.f_bsize);
  if (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC) return 4096;
  return 0;
}

class shared_media final : public media {
 public:
  static result<std::unique_ptr<media>> make(const media_options& o, bool create) {
    const std::uint64_t page = volatile_page_size(o.path);
    const std::string name = "region " + o.path + ": ";
    if (page == 0 && !o.emulated)
      return error{errc::unsupported, name +
                                          "the hugetlb driver takes files on hugetlbfs or tmpfs; "
                                          "use class file there"};
    const std::string base = o.path.substr(o.path.rfind('/') + 1);
    if (page > 4096 && base.find("map_") != std::string::npos)
      return error{errc::invalid_argument,
                   name + "on hugetlbfs EAL removes files named *map_*; choose another name"};
    std::unique_ptr<shared_media> m(new shared_media);
    m->path_ = o.path;
    m->page_ = page == 0 ? 4096 : page;
    m->class_ = o.emulated ? durability_class::emulated : durability_class::process;
    m->kind_ = o.emulated ? kind::instructions : kind::visible;
    const int flags =
        (o.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | (create ? O_CREAT | O_EXCL : 0);
    m->fd_ = ::open(o.path.c_str(), flags, 0600);
    if (m->fd_ < 0)
      return system_error(errno == ENOENT   ? errc::not_found
                          : errno == EEXIST ? errc::exists
                                            : errc::io,
                          name + "cannot be opened", errno);
    auto refused = [&](error e) -> result<std::unique_ptr<media>> {
      if (create) unlink(o.path.c_str());
      return e;
    };
    if (flock(m->fd_, (o.read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0)
      return error{errc::busy, name + "another process has it open"};
    struct stat st {};
    if (fstat(m->fd_, &st) != 0) return system_error(errc::io, name + "stat", errno);
    std::uint64_t size =
        align_up(create ? o.size : static_cast<std::uint64_t>(st.st_size), m->page_);
    if (size == 0)
      return refused({errc::invalid_argument, name + "its size is 0; expected " +
                                                  std::to_string(m->page_) + " bytes at least"});
    if (!create && static_cast<std::uint64_t>(st.st_size) % m->page_ != 0)
      return error{errc::corrupt, name + "its size is no multiple of " + std::to_string(m->page_) +
                                      " bytes: the file was truncated"};
    m->reserved_ =
        align_up(std::max(o.size_max != 0 ? o.size_max : 4 * size, std::max(size, o.size)),
                 std::max<std::uint64_t>(m->page_, 2u << 20));
    // Address space for the largest size, aligned for hugepages, so that growth moves nothing.
    const std::uint64_t align = std::max<std::uint64_t>(m->page_, 2u << 20);
    m->mapped_size_ = m->reserved_ + align;
    void* at = mmap(nullptr, m->mapped_size_, PROT_NONE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
      return refused(
          system_error(errc::no_space, name + "no address space for its largest size", errno));
    m->mapping_ = at;
    m->base_ = reinterpret_cast<std::byte*>(align_up(reinterpret_cast<std::uint64_t>(at), align));
    m->read_only_ = o.read_only;
    if (auto mapped = m->extend(size, create); !mapped) return refused(mapped.error());
    return std::unique_ptr<media>(std::move(m));
  }

  ~shared_media() override {
    if (mapping_ != nullptr) munmap(mapping_, mapped_size_);
    if (fd_ >= 0) ::close(fd_);
  }
  const char* driver_name() const noexcept override { return "hugetlb"; }

  result<void> grow(std::uint64_t size) override {
    size = align_up(size, page_);
    if (size <= size_) return {};
    if (read_only_) return error{errc::read_only, "region " + path_ + ": open for reading only"};
    if (size > reserved_)
      return error{errc::invalid_argument,
                   "region " + path_ + ": it can grow to " + std::to_string(reserved_) +
                       " bytes while it is open; reopen it to grow further"};
    return extend(size, true);
  }

  result<void> close() override {
    if (mapping_ != nullptr) munmap(mapping_, mapped_size_);
    mapping_ = nullptr;
    base_ = nullptr;
    size_ = 0;
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
    return {};
  }

 private:
  shared_media() = default;

  // Maps [size_, size) where it belongs; all pages are there afterwards, so no access can fail.
  result<void> extend(std::uint64_t size, bool allocate) {
    const std::string name = "region " + path_ + ": ";
    if (allocate) {
      const int failed = posix_fallocate(fd_, 0, static_cast<off_t>(size));
      if (failed != 0)
        return system_error(errc::no_space, name + "no room for " + std::to_string(size) + " bytes",
                            failed);
      if (fsync(fd_) != 0) return system_error(errc::io, name + "sync", errno);
    }
    void* want = base_ + size_;
    void* at = mmap(want, size - size_, read_only_ ? PROT_READ : PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_FIXED, fd_, static_cast<off_t>(size_));
    if (at == MAP_FAILED)
      return system_error(errc::no_space, name + "cannot be mapped; are there enough free pages?",
                          errno);
    size_ = size;
    return {};
  }

  int fd_ = -1;
  void* mapping_ = nullptr;
  std::uint64_t mapped_size_ = 0;
  std::uint64_t reserved_ = 0;
  std::uint64_t page_ = 4096;
  bool read_only_ = false;
};

} // namespace

const media_driver hugetlb_driver = {
    "hugetlb", "hugetlbfs and tmpfs files (class process); any file with class emulated",
    [](const std::string& path) { return volatile_page_size(path) != 0; },
    [](const media_options& o) { return shared_media::make(o, true); },
    [](const media_options& o) { return shared_media::make(o, false); }};

} // namespace chainring
