// SPDX-License-Identifier: BSD-3-Clause
/// An rte_ring of small values in memory of its own: works without EAL. Not installed.
#pragma once
#include <cstdint>
#include <memory>

struct rte_ring;

namespace chainring {

class value_ring {
 public:
  value_ring() = default;
  /// `flags`: rte_ring's, for how producers and consumers are synchronised.
  value_ring(std::uint32_t capacity, unsigned element_size, unsigned flags);
  /// False: it is full.
  [[nodiscard]] bool push(const void* value) noexcept;
  /// False: it is empty.
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
