// SPDX-License-Identifier: BSD-3-Clause
/// Seqlocks: values that many threads read without a lock while others replace them.
///
/// When to use: small trivially copyable values that are read far more often than written. When
/// not: values that own memory, or values larger than a few cache lines, because a reader copies
/// the whole value and starts again when a writer interferes.
///
/// Protocol (Boehm, "Can seqlocks get along with programming language memory models?", 2012):
/// beside the payload stands a version, of which one bit says that the payload is being replaced.
/// The payload is copied as relaxed atomic words, so there is no data race in the sense of C++.
///
/// Thread-safety: any thread may make any call, unless the call says otherwise. Readers never make
/// a writer wait. A reader waits only while a payload is being copied in, and never for the holder
/// of a write guard. Nothing here is durable, and versions never lie on media, so a writer that
/// dies cannot block readers after a reopen.
///
///     chainring::seqlock<stats> totals;
///     { auto now = totals.lock_write(); now->count += 1; }   // the guard replaces the value
///     stats seen = totals.read();
///
/// Ordering labels:
///   [replacing-marked]  A writer marks the version as replacing, and a release fence follows
///     before it stores the payload; pairs with [payload-checked].
///   [payload-checked]  A reader has an acquire fence between the payload and its second load of
///     the version; pairs with [replacing-marked].
///   [version-stored]  A writer stores the next version with release behind the payload; pairs with
///     [version-read] and [version-claimed].
///   [version-read]  A reader loads the version with acquire before the payload; pairs with
///     [version-stored].
///   [version-claimed]  A writer of an element without a lock claims it by exchanging its version
///     with acquire; pairs with [version-stored].
///   [version-owned]  The one writer loads the version that only it changes; the load orders
///     nothing.
///   [writer-entered]  A writer takes the claim of a seqlock with acquire; pairs with
///     [writer-left].
///   [writer-left]  A write guard gives the claim back with release; pairs with [writer-entered].
///   [length-stored]  resize() and push() store the length with release, after an element past it
///     was cleared; pairs with [length-read].
///   [length-read]  The length is loaded with acquire before an element is used; pairs with
///     [length-stored].
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "../base/idle.h"
#include "segments.h"

namespace chainring {

namespace detail {

/// Waits a short time for a few instructions of another thread: pauses at first, and yields the CPU
/// when the pauses were not enough because the other thread was preempted.
class short_wait {
 public:
  void round() noexcept {
    constexpr unsigned pauses = 64;
    if (rounds_ < pauses) {
      ++rounds_;
      __builtin_ia32_pause();
    } else {
      policy_.idle();
    }
  }

 private:
  unsigned rounds_ = 0;
  idle_policy policy_;
};

template <class T> inline constexpr std::size_t words_of = (sizeof(T) + 7) / 8;

template <class T> std::array<std::uint64_t, words_of<T>> to_words(const T& value) noexcept {
  std::array<std::uint64_t, words_of<T>> words{};
  std::memcpy(words.data(), &value, sizeof(T));
  return words;
}

template <class T> T from_words(const std::uint64_t* words) noexcept {
  static_assert(std::is_trivially_copyable_v<T>);
  std::array<std::byte, sizeof(T)> bytes;
  std::memcpy(bytes.data(), words, sizeof(T));
  return std::bit_cast<T>(bytes);
}

/// A version and its payload. Bit 0 of the version says that the payload is being replaced, bit 1
/// that it was set. The rest of the version only counts up: if it went back, a reader could take
/// words of a new payload for the rest of an old one.
template <class T> class versioned {
 public:
  static constexpr std::uint64_t replacing = 1, set = 2, step = 4;

  versioned() noexcept = default;

  /// Tries once to read. Returns nothing if a writer interfered. Sets `version` to the version
  /// read.
  [[nodiscard]] std::optional<T> try_read(std::uint64_t& version) const noexcept {
    // [version-read] Without it a reader could see a new version with words of the old payload.
    version = version_.load(std::memory_order_acquire);
    if ((version & replacing) != 0) return std::nullopt;
    std::array<std::uint64_t, words_of<T>> words;
    for (std::size_t i = 0; i < words.size(); ++i)
      words[i] = words_[i].load(std::memory_order_relaxed); // [payload-checked]
    // [payload-checked] Without it a reader could see a new word and then still the old version.
    std::atomic_thread_fence(std::memory_order_acquire);
    if (version_.load(std::memory_order_relaxed) != version) // [payload-checked]
      return std::nullopt;
    return from_words<T>(words.data());
  }

  /// Replaces the payload. The caller excludes other writers.
  void replace(const T& value) noexcept {
    const std::uint64_t version = version_.load(std::memory_order_relaxed); // [version-owned]
    publish(version | replacing, value);
  }

  /// Claims the element by its version and replaces the payload, for elements without a lock of
  /// their own. Waits for other writers.
  void claim_and_replace(const T& value) noexcept { publish(claim() | replacing, value); }

  /// Makes the element unset again. It excludes other writers by itself.
  void clear() noexcept {
    const std::uint64_t version = claim();
    version_.store((version & ~set) + step, std::memory_order_release); // [version-stored]
  }

 private:
  /// Claims the element: the version says `replacing` afterwards. Returns the version found.
  std::uint64_t claim() noexcept {
    short_wait wait;
    for (;;) {
      std::uint64_t version = version_.load(std::memory_order_relaxed); // [version-claimed]
      if ((version & replacing) == 0 &&
          // [version-claimed] Without it a writer could store over the end of another's payload.
          version_.compare_exchange_weak(version, version | replacing, std::memory_order_acquire,
                                         std::memory_order_relaxed)) // [version-claimed]
        return version;
      wait.round();
    }
  }

  void publish(std::uint64_t claimed, const T& value) noexcept {
    const auto words = to_words(value);
    version_.store(claimed, std::memory_order_relaxed); // [replacing-marked]
    // [replacing-marked] Without it a reader could see a new word and no mark, and mix two
    // payloads.
    std::atomic_thread_fence(std::memory_order_release);
    for (std::size_t i = 0; i < words.size(); ++i)
      words_[i].store(words[i], std::memory_order_relaxed); // [replacing-marked]
    // [version-stored] Without it a reader could see the new version and old words.
    version_.store(((claimed & ~replacing) | set) + step, std::memory_order_release);
  }

  std::atomic<std::uint64_t> version_{0};
  std::array<std::atomic<std::uint64_t>, words_of<T>> words_{};
};

} // namespace detail

/// One value behind a seqlock. T is trivially copyable.
template <class T> class seqlock {
  static_assert(std::is_trivially_copyable_v<T>, "seqlock: the value is copied as plain words");

 public:
  /// A writer's copy of the value, which replaces the value when the guard is destroyed. Only one
  /// writer at a time holds a guard; readers read the old value meanwhile.
  class write_guard {
   public:
    write_guard(write_guard&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), value_(other.value_) {}
    write_guard(const write_guard&) = delete;
    write_guard& operator=(const write_guard&) = delete;
    write_guard& operator=(write_guard&&) = delete;
    ~write_guard() {
      if (owner_ == nullptr) return;
      owner_->state_.replace(value_);
      // [writer-left] Without it the next writer could start from an older value.
      owner_->writer_.store(false, std::memory_order_release);
    }
    T& operator*() noexcept { return value_; }
    T* operator->() noexcept { return &value_; }

   private:
    friend class seqlock;
    write_guard(seqlock* owner, const T& value) noexcept : owner_(owner), value_(value) {}
    seqlock* owner_;
    T value_;
  };

  explicit seqlock(const T& initial = T{}) noexcept { state_.replace(initial); }

  /// Reads the value. Starts again while a writer interferes.
  [[nodiscard]] T read() const noexcept {
    detail::short_wait wait;
    for (;;) {
      if (auto value = try_read()) return *value;
      wait.round();
    }
  }
  /// Tries once to read. Returns nothing if a writer was replacing the value.
  [[nodiscard]] std::optional<T> try_read() const noexcept {
    std::uint64_t version = 0;
    return state_.try_read(version);
  }

  /// Takes the write guard. Waits for other writers.
  [[nodiscard]] write_guard lock_write() noexcept {
    detail::short_wait wait;
    for (;;) {
      if (auto guard = try_lock_write()) return std::move(*guard);
      wait.round();
    }
  }
  /// Tries once to take the write guard. Returns nothing if another writer holds it.
  [[nodiscard]] std::optional<write_guard> try_lock_write() noexcept {
    // [writer-entered] Without it this writer could start from an older value than the last one
    // left.
    if (writer_.exchange(true, std::memory_order_acquire)) return std::nullopt;
    return write_guard(this, read());
  }

  /// Calls fn(T&) with a copy of the value, and stores what fn leaves in the copy. No other thread
  /// may use the seqlock during the call, and nobody may hold a write guard.
  template <class Fn> void get_mut(Fn&& fn) {
    T value = read();
    fn(value);
    state_.replace(value);
  }
  /// Takes the value out. No other thread may use the seqlock any more.
  [[nodiscard]] T into_inner() && noexcept { return read(); }

 private:
  detail::versioned<T> state_;
  std::atomic<bool> writer_{false};
};

enum class seq_status : std::uint8_t {
  done,
  out_of_bounds, ///< the index is not below the length
  uninitialized, ///< the element was not set yet, or the array was shorter after it was set
  no_memory,     ///< there is no memory for more elements; length and elements are as before
};

/// An array of values, each under a seqlock of its own. Three things are different. The *length* is
/// how many elements there are: any of them may be set at once, in any order. An element below the
/// length that was not set yet is *uninitialized*. The *capacity* is how many elements there is
/// memory for: below it, resize() allocates nothing.
///
/// Elements never move, so readers and writers go on while the array grows. It keeps its memory
/// until it is destroyed.
///
/// Complexity: each call but resize() is O(1) and allocates nothing. Thread-safety: any thread may
/// make any call, but only one at a time resize(). A set() that races with a resize() below its
/// index may leave the element set when the length grows again. Durability: none.
///
///     chainring::seq_array<reading> sensors(4);          // four elements, none of them set
///     sensors.set(2, {.celsius = 21});                   // done
///     reading seen;
///     sensors.get(0, seen);                              // uninitialized
///     sensors.get(4, seen);                              // out_of_bounds
///     sensors.resize(100);                               // element 2 is what it was
template <class T> class seq_array {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  /// Makes an array of `length` uninitialized elements, with memory for at least `capacity`. Throws
  /// std::bad_alloc.
  explicit seq_array(std::size_t length = 0, std::size_t capacity = 0)
      : elements_(std::max(length, capacity)), length_(length) {
    if (!elements_.make_room(std::max(length, capacity))) throw std::bad_alloc();
  }

  /// Returns done or out_of_bounds.
  seq_status set(std::size_t index, const T& value) noexcept {
    if (index >= len()) return seq_status::out_of_bounds;
    elements_[index].claim_and_replace(value);
    return seq_status::done;
  }

  /// Returns done, out_of_bounds or uninitialized.
  seq_status get(std::size_t index, T& value) const noexcept {
    if (index >= len()) return seq_status::out_of_bounds;
    const detail::versioned<T>& element = elements_[index];
    detail::short_wait wait;
    for (;;) {
      std::uint64_t version = 0;
      const auto read = element.try_read(version);
      if ((version & (detail::versioned<T>::set | detail::versioned<T>::replacing)) == 0)
        return seq_status::uninitialized;
      if (read) {
        value = *read;
        return seq_status::done;
      }
      wait.round();
    }
  }

  [[nodiscard]] std::size_t len() const noexcept {
    // [length-read] Without it a thread could read an element from before it was cleared.
    return length_.load(std::memory_order_acquire);
  }
  [[nodiscard]] std::size_t capacity() const noexcept { return elements_.room(); }

  /// Changes the length. Elements past the new length are forgotten; new ones are uninitialized.
  /// Returns done or no_memory.
  seq_status resize(std::size_t length) noexcept {
    if (!elements_.make_room(length)) return seq_status::no_memory;
    const std::size_t before = len();
    // [length-stored] Without it another thread could find the element before it was cleared.
    length_.store(length, std::memory_order_release);
    for (std::size_t i = length; i < before; ++i)
      elements_[i].clear();
    return seq_status::done;
  }

 private:
  detail::segments<detail::versioned<T>> elements_;
  std::atomic<std::size_t> length_;
};

/// A list that only grows, by segments of memory that it allocates when the last one is full. Many
/// threads may push and get at the same time, and no element moves.
///
/// Complexity: push() and get() are O(1); a push() that needs a segment allocates it, and as much
/// memory as the list has. reserve() does that beforehand. Thread-safety: any thread may make any
/// call. Durability: none.
///
///     chainring::seq_vec<event> log(2);                  // memory for two, and more when needed
///     std::size_t at;
///     log.push(what, at);                                // done or no_memory
///     event seen;
///     log.get(at, seen);                                 // done
template <class T> class seq_vec {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  /// Makes an empty list with memory for at least `capacity` elements. Throws std::bad_alloc.
  explicit seq_vec(std::size_t capacity = 0) : elements_(capacity) {
    if (!elements_.make_room(capacity)) throw std::bad_alloc();
  }

  /// Appends a value and sets `index` to its place. Returns done or no_memory.
  seq_status push(const T& value, std::size_t& index) noexcept {
    std::size_t at = length_.load(std::memory_order_relaxed); // [length-stored]
    do {
      if (!elements_.make_room(at + 1)) return seq_status::no_memory;
    } while (!length_.compare_exchange_weak(at, at + 1,
                                            std::memory_order_release,   // [length-stored]
                                            std::memory_order_relaxed)); // [length-stored]
    elements_[at].claim_and_replace(value);
    index = at;
    return seq_status::done;
  }
  seq_status push(const T& value) noexcept {
    std::size_t index = 0;
    return push(value, index);
  }

  /// Returns done, out_of_bounds, or uninitialized if another thread has taken the place and not
  /// stored its value yet.
  seq_status get(std::size_t index, T& value) const noexcept {
    if (index >= len()) return seq_status::out_of_bounds;
    std::uint64_t version = 0;
    const auto read = elements_[index].try_read(version);
    if (!read || (version & detail::versioned<T>::set) == 0) return seq_status::uninitialized;
    value = *read;
    return seq_status::done;
  }

  /// Makes memory for `capacity` elements in all. Returns done or no_memory.
  seq_status reserve(std::size_t capacity) noexcept {
    return elements_.make_room(capacity) ? seq_status::done : seq_status::no_memory;
  }

  /// The number of places taken so far.
  [[nodiscard]] std::size_t len() const noexcept {
    return length_.load(std::memory_order_acquire); // [length-read]
  }
  [[nodiscard]] std::size_t capacity() const noexcept { return elements_.room(); }

 private:
  detail::segments<detail::versioned<T>> elements_;
  std::atomic<std::size_t> length_{0};
};

} // namespace chainring
