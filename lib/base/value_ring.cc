// SPDX-License-Identifier: BSD-3-Clause
#include "base/value_ring.h"

#include <cstdlib>
#include <new>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "base/assert.h"
#include "base/cacheline.h"

namespace chainring {

void value_ring::freer::operator()(rte_ring* r) const noexcept {
  std::free(r);
}

value_ring::value_ring(std::uint32_t capacity, unsigned element_size, unsigned flags)
    : element_size_(element_size) {
  const ssize_t size = rte_ring_get_memsize_elem(element_size, rte_align32pow2(capacity + 1));
  CHAINRING_ASSERT(size > 0);
  void* memory = std::aligned_alloc(cacheline_size,
                                    align_up(static_cast<std::uint64_t>(size), cacheline_size));
  if (memory == nullptr) throw std::bad_alloc();
  ring_.reset(static_cast<rte_ring*>(memory));
  const int made = rte_ring_init(ring_.get(), "values", capacity, flags | RING_F_EXACT_SZ);
  CHAINRING_ASSERT(made == 0);
}

bool value_ring::push(const void* value) noexcept {
  return rte_ring_enqueue_elem(ring_.get(), const_cast<void*>(value), element_size_) == 0;
}
bool value_ring::pop(void* value) noexcept {
  return rte_ring_dequeue_elem(ring_.get(), value, element_size_) == 0;
}
bool value_ring::empty() const noexcept {
  return rte_ring_empty(ring_.get()) != 0;
}

} // namespace chainring
