// SPDX-License-Identifier: BSD-3-Clause
/// The topic ids that the broker gave one subscriber, each with its topic number. It is a hash
/// table of fixed size with open addressing.
#pragma once
#include <bit>
#include <cstdint>
#include <vector>

namespace chainring::gen {

class topic_ids {
 public:
  static constexpr std::uint32_t none = ~std::uint32_t{0};

  /// Makes room for `topics` ids. Where ids change, `topics` must be one more than are in use.
  explicit topic_ids(std::uint32_t topics)
      : mask_(std::bit_ceil((topics < 32768 ? topics : 32768) * 2) - 1), slots_(mask_ + 1) {}

  void clear() noexcept {
    for (slot& s : slots_)
      s = {};
    used_ = 0;
  }
  /// Sets the topic of `id`, which must not be 0. Returns false when the table is full.
  bool set(std::uint16_t id, std::uint32_t topic) noexcept {
    for (std::uint32_t at = id & mask_;; at = (at + 1) & mask_) {
      slot& s = slots_[at];
      if (s.id == 0) {
        if (used_ == mask_) return false;
        ++used_;
        s.id = id;
      }
      if (s.id != id) continue;
      s.topic = topic;
      return true;
    }
  }
  [[nodiscard]] std::uint32_t find(std::uint16_t id) const noexcept {
    for (std::uint32_t at = id & mask_;; at = (at + 1) & mask_) {
      const slot& s = slots_[at];
      if (s.id == 0) return none;
      if (s.id == id) return s.topic;
    }
  }

 private:
  struct slot {
    std::uint16_t id = 0;
    std::uint32_t topic = none;
  };
  std::uint32_t mask_;
  std::uint32_t used_ = 0;
  std::vector<slot> slots_;
};

} // namespace chainring::gen
