// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>

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
      void* at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (at == MAP_FAILED) return false;
      data_ = static_cast<T*>(at);
      // Huge pages save page faults and TLB misses when a recovery walks the whole array. The
      // kernel may ignore this advice.
      if (dense && bytes_ >= huge_min) (void)madvise(at, bytes_, MADV_HUGEPAGE);
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
  static constexpr std::size_t huge_min = 8 << 20;

  T* data_ = nullptr;
  std::size_t bytes_ = 0;
};

} // namespace chainring::detail
