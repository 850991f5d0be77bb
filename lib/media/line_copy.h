// SPDX-License-Identifier: BSD-3-Clause
/// Copies lines to which other threads or processes may be storing. Internal: not installed.
///
/// Ordering labels:
///   [line-copied]  copy_line() loads the words of a line with acquire, last to first, and then
///     compares them; pairs with [seam-commit].
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/cacheline.h"

namespace chainring {

/// Copies one line. It reads the last word first: a commit word is stored behind the words that it
/// validates, so the copy never has the commit word without them, wherever in the line they are.
/// Then it reads the words again until two readings agree, so that the copy is a state which the
/// line was in. Returns false if none of its readings agreed; the copy of a line that is stored to
/// without pause still has the first property.
inline bool copy_line(void* to, const void* from) noexcept {
  constexpr unsigned words = cacheline_size / sizeof(std::uint64_t);
  constexpr int readings_max = 16;
  auto* word = static_cast<std::uint64_t*>(const_cast<void*>(from));
  std::uint64_t copy[words];
  bool agreed = false;
  for (int reading = 0; reading < readings_max && !agreed; ++reading) {
    // [line-copied] Without it the copy could hold a commit word without what the word makes valid.
    // The order also keeps each load before the next, and the second reading behind the first.
    constexpr auto order = std::memory_order_acquire;
    for (unsigned i = words; i-- > 0;)
      copy[i] = std::atomic_ref(word[i]).load(order);
    std::uint64_t changed = 0;
    for (unsigned i = words; i-- > 0;)
      changed |= copy[i] ^ std::atomic_ref(word[i]).load(order);
    agreed = changed == 0;
  }
  std::memcpy(to, copy, sizeof copy);
  return agreed;
}

/// Copies whole lines, each as copy_line() does. The copies of two lines may be of different
/// moments. Returns false if one of the lines did not hold still.
inline bool copy_lines(void* to, const void* from, std::size_t n) noexcept {
  bool agreed = true;
  for (std::size_t at = 0; at < n; at += cacheline_size)
    agreed &= copy_line(static_cast<std::byte*>(to) + at, static_cast<const std::byte*>(from) + at);
  return agreed;
}

} // namespace chainring
