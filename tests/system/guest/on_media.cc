// SPDX-License-Identifier: BSD-3-Clause
// Puts the memory_media() of a test program on real media. It is linked with --wrap, so that the
// same tests that run on ordinary memory run on persistent memory in the guest.
// CHAINRING_TEST_MEDIA names a directory (each medium is a file, unlinked at once) or a device
// (cleared for each medium; while one is in use, a second gets ordinary memory). At the end it
// prints the counts, for the caller to check.
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <libpmem.h>
#include <string>
#include <sys/file.h>
#include <unistd.h>

#include "media/media.h"

#define MEMORY_MEDIA "_ZN9chainring12memory_mediaEmNS_16durability_classE"

namespace chainring::test {

std::unique_ptr<media> ordinary(std::uint64_t, durability_class) __asm__("__real_" MEMORY_MEDIA);
std::unique_ptr<media> on_media(std::uint64_t, durability_class) __asm__("__wrap_" MEMORY_MEDIA);

namespace {

struct tally {
  unsigned real = 0, ordinary = 0;
  std::string driver, durability;
  ~tally() {
    std::printf("on media: %u on driver %s of class %s, %u in ordinary memory\n", real,
                driver.c_str(), durability.c_str(), ordinary);
  }
} counted;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "on media: %s\n", why.c_str());
  std::_Exit(2);
}

bool in_use(const std::string& device) {
  const int fd = ::open(device.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) give_up("cannot open " + device);
  const bool locked = flock(fd, LOCK_EX | LOCK_NB) != 0;
  ::close(fd);
  return locked;
}

} // namespace

std::unique_ptr<media> on_media(std::uint64_t size, durability_class c) {
  const char* where = std::getenv("CHAINRING_TEST_MEDIA");
  if (where == nullptr) give_up("CHAINRING_TEST_MEDIA is not set");
  media_options o;
  o.path = where;
  o.size = align_up(size, 4096);
  const bool device = o.path.rfind("/dev/", 0) == 0;
  if (device && in_use(o.path)) {
    ++counted.ordinary;
    return ordinary(size, c);
  }
  if (device) {
    std::size_t mapped = 0;
    void* at = pmem_map_file(where, 0, 0, 0, &mapped, nullptr);
    if (at == nullptr) give_up(pmem_errormsg());
    pmem_memset_persist(at, 0, 8192);
    pmem_unmap(at, mapped);
  } else {
    o.path += "/media-" + std::to_string(getpid()) + "-" + std::to_string(counted.real);
  }
  auto made = create_media(o);
  if (!made) give_up(made.error().message);
  if (!device) unlink(o.path.c_str());
  ++counted.real;
  counted.driver = (*made)->driver_name();
  counted.durability = to_string((*made)->durability());
  return std::move(*made);
}

} // namespace chainring::test
