// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

#include "cacheline.h"

namespace chainring::detail {

/// An array that is all zero at first, of objects for which zero bytes are a valid value. A large
/// array takes memory only where it is touched. Constructors and destructors of the objects are not
/// run.
template <class T> class lazy_array {
 public:
  lazy_array() = default;
  lazy_array(const lazy_array&) = delete;
  lazy_array& operator=(const lazy_array&) = delete;
  ~lazy_array() {
    if (data_ == nullptr) return;
    if (bytes_ >= mapped_min)
      munmap(data_, bytes_);
    else
      std::free(data_);
  }

  /// Allocates the array. Call it once. `dense` says that the touched objects lie together, so that
  /// huge pages are worth their memory. Returns false if there is no memory.
  [[nodiscard]] bool make(std::size_t n, bool dense = false) noexcept {
    static_assert(alignof(T) <= cacheline_size);
    if (n > SIZE_MAX / 2 / sizeof(T)) return false;
    bytes_ = (n * sizeof(T) + cacheline_size) / cacheline_size * cacheline_size;
    if (bytes_ >= mapped_min) {
      // Huge pages save page faults where a whole array is walked, and TLB misses where its objects
      // are looked up here and there.
      const bool huge = dense && bytes_ >= huge_page;
      void* const at = map(bytes_, huge ? huge_page : 0);
      if (at == nullptr) return false;
      data_ = static_cast<T*>(at);
      if (huge) (void)madvise(at, bytes_, MADV_HUGEPAGE); // the kernel may ignore this advice
    } else {
      data_ = static_cast<T*>(std::aligned_alloc(cacheline_size, bytes_));
      if (data_ != nullptr) std::memset(static_cast<void*>(data_), 0, bytes_);
    }
    return data_ != nullptr;
  }

  T& operator[](std::size_t i) const noexcept { return data_[i]; }
  [[nodiscard]] T* data() const noexcept { return data_; }

 private:
  static constexpr std::size_t mapped_min = 128 << 10;
  static constexpr std::size_t huge_page = 2 << 20;

  /// Maps so many bytes of zeros at a multiple of `alignment`, a power of two, or anywhere if it is
  /// 0. Returns nullptr if there is no memory.
  [[nodiscard]] static void* map(std::size_t bytes, std::size_t alignment) noexcept {
    void* const at = mmap(nullptr, bytes + alignment, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return nullptr;
    if (alignment == 0) return at;
    auto* const begin = static_cast<std::byte*>(at);
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t before = -reinterpret_cast<std::uintptr_t>(at) & (alignment - 1);
    const std::size_t used = (before + bytes + page - 1) & ~(page - 1);
    if (before != 0) munmap(begin, before);
    if (used < bytes + alignment) munmap(begin + used, bytes + alignment - used);
    return begin + before;
  }

  T* data_ = nullptr;
  std::size_t bytes_ = 0;
};

} // namespace chainring::detail
