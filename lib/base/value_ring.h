// SPDX-License-Identifier: BSD-3-Clause
/// An rte_ring of small values in memory of its own, which works without EAL. Not installed.
#pragma once
#include <cstdint>
#include <memory>

struct rte_ring;

namespace chainring {

class value_ring {
 public:
  value_ring() = default;
  /// `flags` are those of rte_ring_init() that say how producers and consumers are synchronised.
  value_ring(std::uint32_t capacity, unsigned element_size, unsigned flags);
  /// Returns false if the ring is full.
  [[nodiscard]] bool push(const void* value) noexcept;
  /// Returns false if the ring is empty.
  [[nodiscard]] bool pop(void* value) noexcept;
  [[nodiscard]] bool empty() const noexcept;

 private:
  struct freer {
    void operator()(rte_ring* r) const noexcept;
  };
  std::unique_ptr<rte_ring, freer> ring_;
  unsigned element_size_ = 0;
};

} // namespace chainring
