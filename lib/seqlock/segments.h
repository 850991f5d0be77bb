// SPDX-License-Identifier: BSD-3-Clause
/// Elements that never move, in segments that are allocated as they are needed. Internal to
/// lib/seqlock.
///
/// Segment 0 has a power of two of elements, and each further one as many as all before it. So the
/// segment of an element follows from its index, 48 segments are enough for any number, and at most
/// half of the memory is unused. Memory is given back by the destructor only, so a thread may hold
/// a reference to an element while another one makes room.
///
/// Thread-safety: any thread may make any call, but construction and destruction.
///
/// Ordering labels:
///   [segment-made]  The pointer to a segment is stored with release behind the construction of its
///     elements, and loaded with acquire before one of them is used; pairs with [segment-made].
///   [segment-there]  A look whether a segment is there uses none of its elements, and the
///     destructor runs when no other thread is left; the load orders nothing.
#pragma once
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <memory>
#include <new>

namespace chainring::detail {

template <class E> class segments {
 public:
  static constexpr std::size_t elements_max = std::size_t{1} << 40;

  /// Segment 0 will have room for `first` elements at least.
  explicit segments(std::size_t first) noexcept
      : log2_first_(static_cast<unsigned>(std::bit_width(first > 1 ? first - 1 : 0))) {}
  ~segments() {
    for (auto& s : all_)
      delete[] s.load(std::memory_order_relaxed); // [segment-there]
  }
  segments(const segments&) = delete;
  segments& operator=(const segments&) = delete;

  /// Returns an element for which there is room.
  [[nodiscard]] E& operator[](std::size_t i) const noexcept {
    const unsigned s = segment_of(i);
    // [segment-made] Without it the element could be used before it was constructed.
    return all_[s].load(std::memory_order_acquire)[i - begin_of(s)]; // [segment-made]
  }
  /// Makes room for elements 0 to n - 1. False: there is no memory, or n is above elements_max.
  [[nodiscard]] bool make_room(std::size_t n) noexcept {
    if (n == 0) return true;
    if (n > elements_max) return false;
    const unsigned last = segment_of(n - 1);
    // They are made in their order, so the last one is there behind all others.
    for (unsigned s = has(last) ? last + 1 : 0; s <= last; ++s)
      if (!has(s) && !make(s)) return false;
    return true;
  }
  /// How many elements there is room for.
  [[nodiscard]] std::size_t room() const noexcept {
    unsigned s = 0;
    while (s < all_.size() && has(s))
      ++s;
    return begin_of(s);
  }

 private:
  [[nodiscard]] unsigned segment_of(std::size_t i) const noexcept {
    return static_cast<unsigned>(std::bit_width(i >> log2_first_));
  }
  [[nodiscard]] std::size_t begin_of(unsigned segment) const noexcept {
    return segment == 0 ? 0 : std::size_t{1} << (log2_first_ + segment - 1);
  }
  [[nodiscard]] bool has(unsigned segment) const noexcept {
    return all_[segment].load(std::memory_order_relaxed) != nullptr; // [segment-there]
  }
  /// Where two threads make one segment, the later one gives its memory back.
  bool make(unsigned s) noexcept {
    const std::size_t begin = begin_of(s);
    const std::size_t size = s == 0 ? std::size_t{1} << log2_first_ : begin;
    std::unique_ptr<E[]> made(new (std::nothrow) E[size]);
    if (made == nullptr) return false;
    E* none = nullptr;
    if (all_[s].compare_exchange_strong(none, made.get(), std::memory_order_acq_rel,
                                        std::memory_order_relaxed)) // [segment-made]
      made.release();
    return true;
  }

  unsigned log2_first_;
  std::array<std::atomic<E*>, 48> all_{};
};

} // namespace chainring::detail
