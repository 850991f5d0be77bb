// SPDX-License-Identifier: BSD-3-Clause
// A media driver of one's own, of class `process`: a file in /dev/shm, mapped shared. The program
// counts its runs in a region that this driver holds.
//   c++ -std=c++20 shared_memory_driver.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out /dev/shm/runs && ./a.out /dev/shm/runs     # the second run prints "run 2, driver
//   shared-memory"
#include <cerrno>
#include <chainring/chainring.h>
#include <cstdio>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace chainring;

class shared_memory final : public media {
 public:
  ~shared_memory() override { release(); }

  static result<std::unique_ptr<media>> make(const media_options& o, bool create) {
    std::unique_ptr<shared_memory> m(new shared_memory);
    if (auto done = m->map(o, create); !done) {
      if (create && done.error().code != errc::exists) (void)unlink(o.path.c_str());
      return done.error();
    }
    return std::unique_ptr<media>(std::move(m));
  }

  const char* driver_name() const noexcept override { return "shared-memory"; }
  result<void> grow(std::uint64_t) override {
    return error{errc::unsupported, "region file " + path_ + ": this driver does not grow files"};
  }
  /// Every store that another thread can see survives the process, so there is nothing to write
  /// back.
  result<void> close() override {
    release();
    return {};
  }

 private:
  shared_memory() = default;

  error failed(const std::string& what) const {
    return system_error(errc::io, "region file " + path_ + ": " + what, errno);
  }

  result<void> map(const media_options& o, bool create) {
    path_ = o.path;
    class_ = durability_class::process;
    kind_ = kind::visible; // A drain is a fence: flush() has nothing to do.
    file_ = ::open(path_.c_str(),
                   (o.read_only ? O_RDONLY : O_RDWR) | (create ? O_CREAT | O_EXCL : 0) | O_CLOEXEC,
                   0600);
    if (file_ < 0 && errno == EEXIST)
      return error{errc::exists, "region file " + path_ + ": it exists already"};
    if (file_ < 0) return failed("cannot open it");
    // Two processes that both recover one region would destroy it.
    if (flock(file_, (o.read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0)
      return error{errc::busy, "region file " + path_ + ": another process has it open"};
    std::uint64_t size = align_up(o.size, 4096);
    if (create) {
      // All space is allocated now, so that no later store can find the file system full.
      if (const int e = posix_fallocate(file_, 0, static_cast<off_t>(size)); e != 0) {
        errno = e;
        return failed("there is no room for " + std::to_string(size) + " bytes");
      }
    } else {
      struct stat now {};
      if (fstat(file_, &now) != 0) return failed("cannot tell its size");
      size = static_cast<std::uint64_t>(now.st_size);
      if (size == 0 || size % 4096 != 0)
        return error{errc::corrupt, "region file " + path_ + ": it was cut short: it is " +
                                        std::to_string(size) +
                                        " bytes long, expected a multiple of 4096"};
    }
    void* at =
        mmap(nullptr, size, o.read_only ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
    if (at == MAP_FAILED) return failed("cannot map it");
    base_ = static_cast<std::byte*>(at);
    size_ = size;
    return {};
  }

  void release() noexcept {
    if (base_ != nullptr) munmap(base_, size_);
    if (file_ >= 0) ::close(file_); // This gives the lock back.
    base_ = nullptr;
    file_ = -1;
  }

  int file_ = -1;
};

constexpr durability_class classes[] = {durability_class::process};
const media_driver shared_memory_driver = {
    "shared-memory",
    "files in /dev/shm (class process)",
    classes,
    [](const std::string& path) { return path.starts_with("/dev/shm/"); },
    [](const media_options& o) { return shared_memory::make(o, true); },
    [](const media_options& o) { return shared_memory::make(o, false); }};

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s REGION\n", argv[0]);
    return 2;
  }
  add_media_driver(shared_memory_driver); // It is asked before the drivers that are built in.
  region_options o;
  o.media.path = argv[1];
  o.media.size = 1 << 20;
  o.areas = {{"runs", 64, 1}};
  struct stat there {};
  auto r = stat(argv[1], &there) == 0 ? region::open(o.media) : region::create(o);
  if (!r) {
    std::fprintf(stderr, "%s\n", r.error().message.c_str());
    return 1;
  }
  auto area = (*r)->root("runs");
  if (!area) return 1;
  media& m = (*r)->medium();
  auto* runs = reinterpret_cast<std::uint64_t*>((*r)->at(area->offset));
  m.store(runs,
          *runs + 1); // One word needs no recovery: a store of eight aligned bytes never tears.
  m.flush(runs, sizeof *runs);
  m.drain();
  if (!m.wait(m.mark())) return 1;
  std::printf("run %llu, driver %s\n", static_cast<unsigned long long>(*runs), m.driver_name());
  return (*r)->close() ? 0 : 1;
}
