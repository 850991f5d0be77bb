// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include "base/hook.h"
#include "map/map_hash.h"
#include "map/map_status.h"
#include "map/seq_index.h"

namespace chainring {

const char* to_string(map_status s) noexcept {
  switch (s) {
  case map_status::done:
    return "done";
  case map_status::exists:
    return "exists";
  case map_status::missing:
    return "missing";
  case map_status::mismatch:
    return "mismatch";
  case map_status::full:
    return "full";
  case map_status::busy:
    return "busy";
  case map_status::too_many:
    return "too many";
  case map_status::failed:
    return "failed";
  case map_status::too_long:
    return "too long";
  case map_status::repeated:
    return "repeated";
  case map_status::reserved:
    return "reserved";
  }
  return "unknown";
}

std::uint64_t random_seed() noexcept {
  if (const std::uint64_t fixed = fixed_seed(); fixed != 0) return fixed;
  std::uint64_t seed = 0;
  if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != sizeof seed) {
    // The kernel's pool is not ready yet: the clock can be guessed, but it is still a seed.
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    seed ^= detail::multiply_mix(static_cast<std::uint64_t>(now.tv_nsec) + 1,
                                 static_cast<std::uint64_t>(now.tv_sec) ^ detail::hash_odd_1);
  }
  return seed;
}

namespace detail {

namespace {
constexpr std::uint64_t huge_page = 2u << 20;
constexpr std::uint64_t mapped_min = 128u << 10; // the heap is cheaper for less than this
} // namespace

table_memory::~table_memory() {
  if (at_ == nullptr) return;
  if (size_ >= mapped_min)
    munmap(at_, size_);
  else
    std::free(at_);
}

bool table_memory::give_back() noexcept {
  return size_ >= mapped_min && madvise(at_, size_, MADV_DONTNEED) == 0;
}

bool table_memory::take(std::uint64_t size) noexcept {
  // A large table starts on a huge page, so that a lookup costs one line and no page walk.
  const std::uint64_t rounded = align_up(size, size >= huge_page ? huge_page : 4096);
  const std::uint64_t slack = size >= huge_page ? huge_page : 0;
  void* at = MAP_FAILED;
  if (rounded >= mapped_min) {
    at = mmap(nullptr, rounded + slack, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  } else if (void* small = std::aligned_alloc(4096, rounded)) {
    at = std::memset(small, 0, rounded);
  }
  if (at == MAP_FAILED) return false;
  auto* bytes = static_cast<std::byte*>(at);
  if (slack != 0) {
    const std::uint64_t lead = align_up(reinterpret_cast<std::uintptr_t>(bytes), huge_page) -
                               reinterpret_cast<std::uintptr_t>(bytes);
    if (lead != 0) munmap(bytes, lead);
    if (lead != slack) munmap(bytes + lead + rounded, slack - lead);
    bytes += lead;
    (void)madvise(bytes, rounded, MADV_HUGEPAGE); // a refused advice only makes the table slower
  }
  at_ = bytes;
  size_ = rounded;
  return true;
}

key_claims::key_claims(std::uint64_t groups)
    : mask_(static_cast<std::uint32_t>(std::min<std::uint64_t>(std::bit_ceil(groups), 1u << 16)) -
            1),
      words_(std::make_unique<std::atomic<std::uint32_t>[]>(std::size_t{mask_} + 1)) {}

} // namespace detail
} // namespace chainring
