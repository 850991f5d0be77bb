// SPDX-License-Identifier: BSD-3-Clause
/// Contiguous blocks for strings of 0 to 65,535 octets, in one bounded arena. Internal to
/// lib/topic.
///
/// The arena is a buddy system (Knowlton, 1965): blocks have 32 to 65,536 octets in powers of two,
/// and two free halves of a larger block become that block again. Each call takes at most twelve
/// steps. make() reserves address space, and memory is taken where blocks are used.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../base/lazy_array.h"

namespace chainring::detail {

class name_arena {
 public:
  static constexpr std::uint32_t none = 0xffffffff;
  static constexpr std::size_t length_max = 65535;
  static constexpr std::uint32_t unit_size = 32;
  static constexpr std::uint64_t bytes_limit = std::uint64_t{1} << 36; // so a unit's number fits

  /// Rounds `bytes` up to a multiple of 65,536. Throws std::bad_alloc when there is not enough
  /// memory.
  void make(std::uint64_t bytes);

  /// Returns a block for `length` octets, at most length_max, or none when there is no room.
  [[nodiscard]] std::uint32_t allocate(std::size_t length) noexcept;
  /// Gives back the block that allocate(length) returned.
  void free(std::uint32_t block, std::size_t length) noexcept;
  [[nodiscard]] char* at(std::uint32_t block) const noexcept {
    return bytes_.data() + std::size_t{block} * unit_size;
  }
  [[nodiscard]] std::uint64_t bytes_used() const noexcept { return used_; }

 private:
  static constexpr unsigned orders = 12; // the largest order is 11, and 32 << 11 is 65,536
  struct free_block {                    // lies in the free block itself
    std::uint32_t before, after;
  };
  static unsigned order_of(std::size_t length) noexcept;
  [[nodiscard]] free_block* links(std::uint32_t block) const noexcept;
  void push(std::uint32_t block, unsigned order) noexcept;
  void remove(std::uint32_t block, unsigned order) noexcept;

  lazy_array<char> bytes_;
  // Order + 1 of the free block that begins at a unit; 0 where none begins.
  lazy_array<std::uint8_t> free_order_;
  std::uint32_t first_[orders] = {none, none, none, none, none, none,
                                  none, none, none, none, none, none};
  std::uint32_t fresh_ = 0; // the first unit that was never used
  std::uint32_t units_ = 0;
  std::uint64_t used_ = 0;
};

} // namespace chainring::detail
