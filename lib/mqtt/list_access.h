// SPDX-License-Identifier: BSD-3-Clause
/// What only the codec does with lists: making one over octets that it has validated, and copying
/// one without looking at its items. Not installed.
#pragma once
#include "codec.h"

namespace chainring::mqtt {

struct list_access {
  /// Adds the item in `where`, which is validated and behind the items so far.
  template <class Item> static void add(list<Item>& to, octets where) noexcept {
    if (to.count_++ == 0) to.at_ = where.data();
    to.raw_size_ = static_cast<std::uint32_t>(where.data() + where.size() - to.at_);
    to.items_size_ += static_cast<std::uint32_t>(where.size());
  }
  /// A list of `count` items that stand in `where` one behind the other.
  template <class Item> static list<Item> over(octets where, std::size_t count) noexcept {
    list<Item> made;
    made.at_ = where.data();
    made.count_ = static_cast<std::uint32_t>(count);
    made.raw_size_ = made.items_size_ = static_cast<std::uint32_t>(where.size());
    return made;
  }
  /// True for a list over octets that can be copied as they are, because nothing stands between
  /// the items.
  template <class Item> static bool contiguous(const list<Item>& of) noexcept {
    return of.items_ == nullptr && of.raw_size_ == of.items_size_;
  }
  /// True for a list over validated octets, whose items can all be expressed.
  template <class Item> static bool validated(const list<Item>& of) noexcept {
    return of.items_ == nullptr;
  }
  /// Octets of the items of a validated list.
  template <class Item> static std::size_t items_size(const list<Item>& of) noexcept {
    return of.items_size_;
  }
};

} // namespace chainring::mqtt
