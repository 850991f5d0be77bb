// SPDX-License-Identifier: BSD-3-Clause
/// mmap() and munmap() for programs that map and give back the same tables thousands of times, as a
/// crash explorer does when it opens one image after another. An anonymous private mapping that is
/// given back whole is kept, and the next mapping of the same size gets it, with the pages that
/// were touched filled with zeros again. That saves the page faults and the flushes of the TLB,
/// which were a third of the time of such a program. Where sanitizers watch the memory this file is
/// empty. Thread-safe.
#include <sys/mman.h>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !defined(__has_feature)
#define CHAINRING_KEEPS_MAPPINGS 1
#elif defined(__has_feature)
#if !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
#define CHAINRING_KEEPS_MAPPINGS 1
#endif
#endif

#ifdef CHAINRING_KEEPS_MAPPINGS
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

constexpr int table_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
constexpr std::size_t page_size = 4096, size_min = 64 << 10, size_max = 65 << 20;

struct mapping {
  void* at = nullptr;
  std::size_t size = 0;
  bool used = false;
};

std::mutex lock;
std::array<mapping, 256> all; // those of size 0 are free places

void* map(void* at, std::size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  // mmap() is this file's own, so the kernel is asked by number.
  return reinterpret_cast<void*>(syscall(SYS_mmap, at, size, protection, flags, fd, offset));
}

/// Fills the touched pages with zeros. Returns false where it cannot be told which these are.
bool clear(const mapping& m) noexcept {
  static std::array<unsigned char, size_max / page_size> touched;
  if (mincore(m.at, m.size, touched.data()) != 0) return false;
  const unsigned char* const end = touched.data() + m.size / page_size;
  for (const unsigned char* t = touched.data(); t != end; ++t) {
    t = static_cast<const unsigned char*>(std::memchr(t, 1, static_cast<std::size_t>(end - t)));
    if (t == nullptr) break;
    const auto page = static_cast<std::size_t>(t - touched.data());
    std::memset(static_cast<std::byte*>(m.at) + page * page_size, 0, page_size);
  }
  return true;
}

} // namespace

extern "C" void* mmap(void* at, std::size_t size, int protection, int flags, int fd,
                      off_t offset) noexcept {
  const bool table = at == nullptr && flags == table_flags &&
                     protection == (PROT_READ | PROT_WRITE) && size >= size_min && size <= size_max;
  if (!table) return map(at, size, protection, flags, fd, offset);
  const std::size_t rounded = (size + page_size - 1) / page_size * page_size;
  const std::lock_guard guard(lock);
  for (mapping& m : all)
    if (!m.used && m.size == rounded && clear(m)) {
      m.used = true;
      return m.at;
    }
  void* const made = map(nullptr, rounded, protection, flags, fd, offset);
  for (mapping& m : all)
    if (made != MAP_FAILED && m.size == 0) {
      m = {made, rounded, true};
      break;
    }
  return made;
}

extern "C" int munmap(void* at, std::size_t size) noexcept {
  const std::size_t rounded = (size + page_size - 1) / page_size * page_size;
  {
    const std::lock_guard guard(lock);
    for (mapping& m : all)
      if (m.used && m.at == at) {
        m.used = false;
        if (m.size == rounded) return 0;
        m.size = 0; // a part of it goes: the rest is an ordinary mapping from now on
        break;
      }
  }
  return static_cast<int>(syscall(SYS_munmap, at, size));
}
#endif
