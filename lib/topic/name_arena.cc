// SPDX-License-Identifier: BSD-3-Clause
#include "topic/name_arena.h"

#include <bit>
#include <new>

#include "base/assert.h"

namespace chainring::detail {

void name_arena::make(std::uint64_t bytes) {
  const std::uint64_t rounded = (bytes + 65535) / 65536 * 65536;
  units_ = static_cast<std::uint32_t>(rounded / unit_size);
  if (!bytes_.make(rounded) || !free_order_.make(units_)) throw std::bad_alloc();
}

unsigned name_arena::order_of(std::size_t length) noexcept {
  const std::size_t units = length == 0 ? 1 : (length + unit_size - 1) / unit_size;
  return static_cast<unsigned>(std::bit_width(units - 1));
}

name_arena::free_block* name_arena::links(std::uint32_t block) const noexcept {
  return reinterpret_cast<free_block*>(at(block));
}

void name_arena::push(std::uint32_t block, unsigned order) noexcept {
  *links(block) = {none, first_[order]};
  if (first_[order] != none) links(first_[order])->before = block;
  first_[order] = block;
  free_order_[block] = static_cast<std::uint8_t>(order + 1);
}

void name_arena::remove(std::uint32_t block, unsigned order) noexcept {
  const free_block l = *links(block);
  if (l.before != none)
    links(l.before)->after = l.after;
  else
    first_[order] = l.after;
  if (l.after != none) links(l.after)->before = l.before;
  free_order_[block] = 0;
}

std::uint32_t name_arena::allocate(std::size_t length) noexcept {
  CHAINRING_ASSERT(length <= length_max);
  const unsigned order = order_of(length);
  unsigned found = order;
  while (found < orders && first_[found] == none)
    ++found;
  std::uint32_t block;
  if (found < orders) {
    block = first_[found];
    remove(block, found);
  } else {
    if (fresh_ == units_) return none;
    found = orders - 1;
    block = fresh_;
    fresh_ += 1u << found;
  }
  while (found > order) {
    --found;
    push(block + (1u << found), found);
  }
  used_ += std::uint64_t{unit_size} << order;
  return block;
}

void name_arena::free(std::uint32_t block, std::size_t length) noexcept {
  unsigned order = order_of(length);
  used_ -= std::uint64_t{unit_size} << order;
  for (; order + 1 < orders; ++order) {
    const std::uint32_t buddy = block ^ 1u << order;
    if (free_order_[buddy] != order + 1) break;
    remove(buddy, order);
    block &= ~(1u << order);
  }
  push(block, order);
}

} // namespace chainring::detail
