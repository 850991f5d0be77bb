// SPDX-License-Identifier: BSD-3-Clause
/// Seqlocks: values that many threads read without a lock while others replace them.
///
/// When to use: small trivially copyable values, read far more often than written. When not: values
/// that own memory, or that are larger than a few cache lines (a reader copies all of it and starts
/// again when a writer interferes).
///
/// Protocol (Boehm, "Can seqlocks get along with programming language memory models?", 2012): a
/// version with a bit that says the payload is being replaced; the payload is copied as relaxed
/// atomic words, so there is no data race in the C++ sense.
///
/// Thread-safety: every call from any thread unless it says otherwise. Readers never make a writer
/// wait, and wait themselves only while a payload is being copied in, never for the holder of a
/// write guard. Volatile: nothing here is durable, and versions are never on media, so a writer
/// that dies cannot hang readers after a reopen.
///
///     chainring::seqlock<stats> shared;
///     { auto now = shared.lock_write(); now->count += 1; }   // replaced when the guard goes
///     stats seen = shared.read();
///
/// Edges
///   [S1] version says replacing, then a release fence -> [S4] acquire fence, version read again:
///        a reader that saw any new word sees that too, and starts again.
///   [S2] next version stored (release)                -> [S3] version read first (acquire):
///        a reader that saw this version sees every word of its payload.
///   [S5] writer claim taken (acquire)              <- [S6] writer claim released (release):
///        the next writer starts from the last writer's payload.
///   [S7] length published (release)                -> [S8] length read (acquire):
///        an element within the length was cleared before it came within it.
#pragma once
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "../base/assert.h"
#include "../base/cacheline.h"
#include "../base/idle.h"

namespace chainring {

namespace detail {

/// A short wait for another thread's few instructions: pauses, and gives the CPU away when that was
/// not enough (the other thread was preempted).
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

/// A version and its payload. Bit 0 of the version: being replaced; bit 1: set; the rest counts up
/// and never back, or a reader could take a new payload for the rest of an old one.
template <class T> class versioned {
 public:
  static constexpr std::uint64_t replacing = 1, set = 2, step = 4;

  versioned() noexcept = default;

  /// One attempt; empty when a writer interfered. Sets `version` to the version read.
  [[nodiscard]] std::optional<T> try_read(std::uint64_t& version) const noexcept {
    version = version_.load(std::memory_order_acquire); // [S3] pairs with [S2]
    if ((version & replacing) != 0) return std::nullopt;
    std::array<std::uint64_t, words_of<T>> words;
    for (std::size_t i = 0; i < words.size(); ++i)
      words[i] = words_[i].load(std::memory_order_relaxed);  // [S4] ordered by the fence below
    std::atomic_thread_fence(std::memory_order_acquire);     // [S4] pairs with [S1]
    if (version_.load(std::memory_order_relaxed) != version) // [S4]
      return std::nullopt;
    return from_words<T>(words.data());
  }

  /// Replaces the payload. The caller excludes other writers.
  void replace(const T& value) noexcept {
    const std::uint64_t version = version_.load(std::memory_order_relaxed); // [S5] ours alone
    publish(version | replacing, value);
  }

  /// Takes the element for writing by its version; for elements without a lock of their
  /// own. Waits for other writers.
  void claim_and_replace(const T& value) noexcept { publish(claim() | replacing, value); }

  /// Back to never set; excludes other writers by itself.
  void clear() noexcept {
    const std::uint64_t version = claim();
    version_.store((version & ~set) + step, std::memory_order_release); // [S2] pairs with [S3]
  }

 private:
  /// Returns the version found; it says `replacing` afterwards.
  std::uint64_t claim() noexcept {
    short_wait wait;
    for (;;) {
      std::uint64_t version = version_.load(std::memory_order_relaxed); // [S5] checked by the swap
      if ((version & replacing) == 0 &&
          version_.compare_exchange_weak(version, version | replacing,
                                         std::memory_order_acquire,  // [S5] pairs with [S2]
                                         std::memory_order_relaxed)) // [S5] nothing taken
        return version;
      wait.round();
    }
  }

  void publish(std::uint64_t claimed, const T& value) noexcept {
    const auto words = to_words(value);
    version_.store(claimed, std::memory_order_relaxed);  // [S1] ordered by the fence below
    std::atomic_thread_fence(std::memory_order_release); // [S1] pairs with [S4]
    for (std::size_t i = 0; i < words.size(); ++i)
      words_[i].store(words[i], std::memory_order_relaxed); // [S1] behind the fence
    version_.store(((claimed & ~replacing) | set) + step,
                   std::memory_order_release); // [S2] pairs with [S3]
  }

  std::atomic<std::uint64_t> version_{0};
  std::array<std::atomic<std::uint64_t>, words_of<T>> words_{};
};

} // namespace detail

/// One value behind a seqlock. T is trivially copyable.
template <class T> class seqlock {
  static_assert(std::is_trivially_copyable_v<T>, "seqlock: the value is copied as plain words");

 public:
  /// A writer's copy of the value, which replaces the shared one when the guard goes. One writer at
  /// a time holds a guard; readers meanwhile read the old value.
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
      owner_->writer_.store(false, std::memory_order_release); // [S6] pairs with [S5]
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

  /// The value as some writer left it. Starts again while a writer interferes.
  [[nodiscard]] T read() const noexcept {
    detail::short_wait wait;
    for (;;) {
      if (auto value = try_read()) return *value;
      wait.round();
    }
  }
  /// One attempt: empty when a writer was replacing the value.
  [[nodiscard]] std::optional<T> try_read() const noexcept {
    std::uint64_t version = 0;
    return state_.try_read(version);
  }

  /// Waits for other writers.
  [[nodiscard]] write_guard lock_write() noexcept {
    detail::short_wait wait;
    for (;;) {
      if (auto guard = try_lock_write()) return std::move(*guard);
      wait.round();
    }
  }
  /// Empty when another writer holds the guard.
  [[nodiscard]] std::optional<write_guard> try_lock_write() noexcept {
    if (writer_.exchange(true, std::memory_order_acquire)) // [S5] pairs with [S6]
      return std::nullopt;
    return write_guard(this, read());
  }

  /// Takes the value out. No other thread may use the seqlock any more.
  [[nodiscard]] T into_inner() && noexcept { return read(); }

 private:
  detail::versioned<T> state_;
  std::atomic<bool> writer_{false};
};

enum class seq_status : std::uint8_t {
  done,
  out_of_bounds, ///< the index is not below the length (set, get) or capacity (resize, push)
  uninitialized, ///< the element was never set
};

/// An array of values, each under a seqlock of its own. Memory is taken once, at construction.
/// resize() is for one thread at a time; a set() that races with a resize() below its index may
/// leave the element set when the length grows again.
template <class T> class seq_array {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  /// `capacity` elements at most, `length` of them in use and uninitialized.
  explicit seq_array(std::size_t capacity, std::size_t length = 0)
      : elements_(std::make_unique<detail::versioned<T>[]>(capacity)), capacity_(capacity),
        length_(length) {
    CHAINRING_ASSERT(length <= capacity);
  }

  seq_status set(std::size_t index, const T& value) noexcept {
    if (index >= len()) return seq_status::out_of_bounds;
    elements_[index].claim_and_replace(value);
    return seq_status::done;
  }

  seq_status get(std::size_t index, T& value) const noexcept {
    if (index >= len()) return seq_status::out_of_bounds;
    detail::short_wait wait;
    for (;;) {
      std::uint64_t version = 0;
      const auto read = elements_[index].try_read(version);
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
    return length_.load(std::memory_order_acquire); // [S8] pairs with [S7]
  }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

  /// Elements past the new length are forgotten; new ones are uninitialized.
  seq_status resize(std::size_t length) noexcept {
    if (length > capacity_) return seq_status::out_of_bounds;
    const std::size_t before = len();
    length_.store(length, std::memory_order_release); // [S7] pairs with [S8]
    for (std::size_t i = length; i < before; ++i)
      elements_[i].clear();
    return seq_status::done;
  }

 private:
  std::unique_ptr<detail::versioned<T>[]> elements_;
  std::size_t capacity_;
  std::atomic<std::size_t> length_;
};

/// A list that only grows, up to a capacity taken at construction. Many threads push and get.
template <class T> class seq_vec {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  explicit seq_vec(std::size_t capacity)
      : elements_(std::make_unique<detail::versioned<T>[]>(capacity)), capacity_(capacity) {}

  /// Appends; out_of_bounds when full. Sets `index` to the element's.
  seq_status push(const T& value, std::size_t& index) noexcept {
    std::size_t at = length_.load(std::memory_order_relaxed); // [S7] checked by the swap
    do {
      if (at >= capacity_) return seq_status::out_of_bounds;
    } while (!length_.compare_exchange_weak(at, at + 1,
                                            std::memory_order_release,   // [S7] pairs with [S8]
                                            std::memory_order_relaxed)); // [S7] nothing taken
    elements_[at].claim_and_replace(value);
    index = at;
    return seq_status::done;
  }
  seq_status push(const T& value) noexcept {
    std::size_t index = 0;
    return push(value, index);
  }

  /// uninitialized: another thread has taken the place and not stored its value yet.
  seq_status get(std::size_t index, T& value) const noexcept {
    if (index >= len()) return seq_status::out_of_bounds;
    std::uint64_t version = 0;
    const auto read = elements_[index].try_read(version);
    if (!read || (version & detail::versioned<T>::set) == 0) return seq_status::uninitialized;
    value = *read;
    return seq_status::done;
  }

  /// Places taken so far.
  [[nodiscard]] std::size_t len() const noexcept {
    return length_.load(std::memory_order_acquire); // [S8] pairs with [S7]
  }
  [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }

 private:
  std::unique_ptr<detail::versioned<T>[]> elements_;
  std::size_t capacity_;
  std::atomic<std::size_t> length_{0};
};

} // namespace chainring
