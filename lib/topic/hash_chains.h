// SPDX-License-Identifier: BSD-3-Clause
/// Tables of entries, and hash chains through them, for indexes in DRAM of which only the largest
/// size is known. Internal to lib/topic and the front ends.
///
/// Address space is reserved for the largest size, and memory is taken as entries come. So a table
/// grows without moving anything. The chains grow by linear hashing (Litwin, 1980): each insertion
/// splits at most two buckets, so no insertion has to double a whole table.
///
/// Each link that a call looks at passes the hook point "topic.link", so that a test can count
/// them.
#pragma once
#include <bit>
#include <cstdint>
#include <new>

#include "../base/assert.h"
#include "../base/hook.h"
#include "../base/lazy_array.h"

namespace chainring::detail {

/// The part of an entry that one set of chains uses. The first one also links unused entries.
struct hash_link {
  std::uint32_t hash = 0;
  std::uint32_t next = 0xffffffff;
};

/// A table of up to `limit` entries, numbered from 0. An entry that was given back is used again;
/// the last one given back is used first.
template <class T, hash_link T::*Link> class entry_table {
 public:
  static constexpr std::uint32_t none = 0xffffffff;

  /// `ceiling` is the number of entries for which there is address space. `limit` is the number
  /// that the table gives out for now.
  void make(std::uint32_t limit, std::uint32_t ceiling) {
    if (!entries_.make(ceiling, true)) throw std::bad_alloc();
    limit_ = limit;
    ceiling_ = ceiling;
  }
  /// Raises the limit; it never lowers it. False: `limit` is above the ceiling.
  [[nodiscard]] bool raise_limit(std::uint32_t limit) noexcept {
    if (limit > ceiling_) return false;
    if (limit > limit_) limit_ = limit;
    return true;
  }
  [[nodiscard]] bool full() const noexcept { return used_ >= limit_; }
  /// Returns the number of an entry that equals T{}, or none when the table is full.
  std::uint32_t take() noexcept {
    if (full()) return none;
    std::uint32_t i = free_;
    if (i != none)
      free_ = (entries_[i].*Link).next;
    else
      i = touched_++;
    new (&entries_[i]) T{};
    ++used_;
    return i;
  }
  void give(std::uint32_t i) noexcept {
    entries_[i] = T{};
    (entries_[i].*Link).next = free_;
    free_ = i;
    --used_;
  }
  [[nodiscard]] T& operator[](std::uint32_t i) const noexcept { return entries_[i]; }
  [[nodiscard]] std::uint32_t used() const noexcept { return used_; }
  /// All entries in use have numbers below this one.
  [[nodiscard]] std::uint32_t touched() const noexcept { return touched_; }
  [[nodiscard]] std::uint32_t limit() const noexcept { return limit_; }

 private:
  lazy_array<T> entries_;
  std::uint32_t limit_ = 0, ceiling_ = 0;
  std::uint32_t used_ = 0, touched_ = 0, free_ = none;
};

/// Chains of the entries of a table, by hash. The caller compares keys.
template <class T, hash_link T::*Link> class hash_chains {
 public:
  static constexpr std::uint32_t none = 0xffffffff;

  /// `ceiling` is the most entries that there will ever be.
  void make(std::uint32_t ceiling) {
    buckets_max_ = std::bit_ceil(ceiling < buckets_min ? buckets_min : 2 * ceiling);
    if (!heads_.make(buckets_max_, true)) throw std::bad_alloc();
  }
  /// Returns the first entry with that hash for which same(number) returns true, or none.
  template <class Table, class Same>
  std::uint32_t find(const Table& table, std::uint32_t hash, Same&& same) const noexcept {
    std::uint32_t i = heads_[bucket_of(hash)] - 1;
    for (; i != none; i = (table[i].*Link).next) {
      hook_point("topic.link");
      if ((table[i].*Link).hash == hash && same(i)) break;
    }
    return i;
  }
  template <class Table>
  void insert(const Table& table, std::uint32_t i, std::uint32_t hash) noexcept {
    (table[i].*Link).hash = hash;
    push(table, bucket_of(hash), i);
    ++size_;
    for (int i = 0; i < 2 && 2 * size_ > buckets_ && buckets_ < buckets_max_; ++i)
      split(table); // there are two buckets for each entry
  }
  template <class Table> void erase(const Table& table, std::uint32_t i) noexcept {
    std::uint32_t& head = heads_[bucket_of((table[i].*Link).hash)];
    if (head - 1 == i) {
      head = (table[i].*Link).next + 1;
    } else {
      std::uint32_t before = head - 1;
      for (; (table[before].*Link).next != i; before = (table[before].*Link).next)
        hook_point("topic.link");
      (table[before].*Link).next = (table[i].*Link).next;
    }
    --size_;
  }

 private:
  static constexpr std::uint32_t buckets_min = 64;

  // Buckets numbered `low_` and above are the upper halves of buckets that were already split.
  [[nodiscard]] std::uint32_t bucket_of(std::uint32_t hash) const noexcept {
    const std::uint32_t i = hash & (2 * low_ - 1);
    return i < buckets_ ? i : i & (low_ - 1);
  }
  template <class Table>
  void push(const Table& table, std::uint32_t bucket, std::uint32_t i) noexcept {
    (table[i].*Link).next = heads_[bucket] - 1;
    heads_[bucket] = i + 1;
  }
  template <class Table> void split(const Table& table) noexcept {
    const std::uint32_t from = buckets_ - low_;
    ++buckets_;
    std::uint32_t i = heads_[from] - 1;
    heads_[from] = 0;
    while (i != none) {
      hook_point("topic.link");
      const std::uint32_t next = (table[i].*Link).next;
      push(table, bucket_of((table[i].*Link).hash), i);
      i = next;
    }
    if (buckets_ == 2 * low_) low_ = buckets_;
  }

  lazy_array<std::uint32_t> heads_; // number of the first entry plus one; 0: the bucket is empty
  std::uint32_t buckets_max_ = 0;
  std::uint32_t low_ = buckets_min, buckets_ = buckets_min;
  std::uint32_t size_ = 0;
};

} // namespace chainring::detail
