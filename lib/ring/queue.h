// SPDX-License-Identifier: BSD-3-Clause
/// A durable queue of a type: the calls of a durable_queue, with a T in place of byte strings.
///
/// **When to use:** work of one type that must survive a crash. **When not:** entries whose bytes
/// should not be copied, or several streams of one thread that share a drain (durable_queue.h and
/// ring.h).
///
/// **Types:** T is std::string, or trivially copyable and without a pointer that must outlive the
/// process. In a queue with one stream, a T of up to 8 bytes lies in its slot, and a burst takes
/// one drain; any other takes two.
///
/// **Two ways to consume.** dequeue() ends the entry durably and then returns it: an entry whose
/// process dies behind that is not handed out again (at most once). take() returns an object that
/// holds the entry: done() ends it durably after the work; where the object is dropped before, or
/// the process dies, the entry is handed out again (at least once).
///
/// A `queue` is a view, as small as two pointers, of one stream of the durable_queue that it is
/// made for, which outlives it.
///
/// **Durability, thread-safety, order, room and errors:** those of durable_queue.h. Calls that
/// return a std::string allocate it; where there is no memory they throw, and the entry stays.
///
///     chainring::queue<job> jobs(**made);
///     jobs.enqueue({.id = 7});                            // done or full; durable
///     if (auto next = jobs.take()) {
///       work(next->value());
///       next->done();                                     // otherwise it comes again
///     }
///     std::optional<job> one = jobs.wait_dequeue(std::chrono::seconds(1));
#pragma once
#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "../base/bytes_of.h"
#include "../base/idle.h"
#include "durable_queue.h"

namespace chainring {

template <class T> class queue {
  using type = detail::stored_as_bytes<T>;

 public:
  using argument = typename type::argument; ///< const T&, or std::string_view
  class held;

  /// `bytes` outlives the object, and holds entries of this type only.
  explicit queue(durable_queue& bytes, std::uint32_t stream = 0) noexcept
      : bytes_(&bytes), stream_(stream) {}
  /// The queue of byte strings.
  [[nodiscard]] durable_queue& bytes() const noexcept { return *bytes_; }
  /// The same queue for consumers of another stream.
  [[nodiscard]] queue stream(std::uint32_t n) const noexcept { return queue(*bytes_, n); }

  // --- producers --------------------------------------------------------------------------------

  /// Puts an entry into every stream. Returns done, full, too_long or failed.
  queue_status enqueue(argument entry) noexcept { return bytes_->enqueue(type::bytes(entry)); }
  /// Puts as many of the first of `entries` into every stream as there is room for, and returns how
  /// many.
  std::size_t enqueue_burst(std::span<const T> entries) noexcept {
    std::size_t done = 0;
    while (done < entries.size()) {
      const auto some = of(entries.subspan(done));
      const std::uint32_t now = bytes_->enqueue_burst(some.list());
      done += now;
      if (now < some.n) break;
    }
    return done;
  }
  /// Puts all of at most durable_queue::burst_max entries into every stream, or none of them.
  /// Returns done, full, too_long or failed.
  queue_status enqueue_bulk(std::span<const T> entries) noexcept {
    CHAINRING_EXPECTS(entries.size() <= durable_queue::burst_max,
                      "enqueue_bulk() of more than burst_max entries, which no crash could keep "
                      "together; call enqueue_burst()");
    return bytes_->enqueue_bulk(of(entries).list());
  }

  /// Puts an entry into every stream as the operation of that id, once however often it is repeated
  /// (durable_queue.h). Returns done, repeated, full, too_long or failed.
  queue_status enqueue(operation_id id, argument entry) noexcept {
    return bytes_->enqueue(id, type::bytes(entry));
  }
  /// The same for each entry with its id. Returns how many are done.
  std::size_t enqueue_burst(std::span<const operation_id> ids,
                            std::span<const T> entries) noexcept {
    CHAINRING_EXPECTS(ids.size() == entries.size(), "enqueue_burst() needs one id for each entry");
    std::size_t done = 0;
    while (done < entries.size()) {
      const auto some = of(entries.subspan(done));
      const std::uint32_t now = bytes_->enqueue_burst(ids.subspan(done, some.n), some.list());
      done += now;
      if (now < some.n) break;
    }
    return done;
  }
  /// Says whether the operation took effect.
  [[nodiscard]] operation_outcome resolve(operation_id id) const noexcept {
    return bytes_->resolve(id);
  }
  /// The sequence number of the client's last operation that took effect; 0: none did.
  [[nodiscard]] std::uint64_t last_operation(std::uint32_t client) const noexcept {
    return bytes_->last_operation(client);
  }

  // --- consumers --------------------------------------------------------------------------------

  /// Takes the next entry, to be ended by done(). Nothing: there is none now.
  [[nodiscard]] std::optional<held> take() {
    for (;;) {
      durable_queue::taken t;
      if (bytes_->take(stream_, {&t, 1}) == 0) return std::nullopt;
      if (std::optional<T> value = read_or_give_back({&t, 1}, 0))
        return held(*this, t, std::move(*value));
      bytes_->release(stream_, {&t, 1}); // it is damaged; damaged() of the queue counts it
    }
  }
  /// Ends the next entry and returns it. Nothing: there is none now, or the media has failed.
  [[nodiscard]] std::optional<T> dequeue() {
    std::optional<held> next = take();
    if (!next || next->done() != queue_status::done) return std::nullopt;
    return std::move(*next).value();
  }
  /// Ends the next entries and returns how many, with one drain for up to burst_max of them.
  /// `out` is as long as the most entries wanted.
  [[nodiscard]] std::size_t dequeue_burst(std::span<T> out) {
    std::size_t n = 0;
    while (n < out.size()) {
      durable_queue::taken t[durable_queue::burst_max];
      const std::uint32_t now = bytes_->take(
          stream_, std::span(t).first(std::min<std::size_t>(std::size(t), out.size() - n)));
      if (now == 0) break;
      const std::size_t before = n;
      for (std::uint32_t i = 0; i < now; ++i)
        if (std::optional<T> value = read_or_give_back({t, now}, i)) out[n++] = std::move(*value);
      if (bytes_->release(stream_, {t, now}) != queue_status::done) return before;
    }
    return n;
  }
  /// As dequeue(), but waits until there is an entry, or for so long. For threads that need not
  /// poll: it sleeps for up to a millisecond at a time.
  template <class Rep, class Period>
  [[nodiscard]] std::optional<T> wait_dequeue(std::chrono::duration<Rep, Period> longest) {
    const auto end = std::chrono::steady_clock::now() + longest;
    for (idle_policy wait(idle_mode::sleep, 1000);; wait.idle()) {
      if (std::optional<T> next = dequeue()) return next;
      if (bytes_->medium().failed() || std::chrono::steady_clock::now() >= end) return std::nullopt;
    }
  }
  /// Returns the next entry and leaves it in the queue, where other consumers may take it. To the
  /// queue it is an entry that was taken and given back, so again() is true for whoever takes it.
  [[nodiscard]] std::optional<T> peek() {
    std::optional<held> next = take();
    if (!next) return std::nullopt;
    return std::move(*next).value(); // the destruction of `next` gives it back
  }

  /// The entries in the stream, also those that are taken.
  [[nodiscard]] std::uint32_t depth() const noexcept { return bytes_->depth(stream_); }
  /// The most entries in the stream.
  [[nodiscard]] std::uint32_t capacity() const noexcept { return bytes_->capacity(); }

 private:
  /// The bytes of the first burst_max of some entries.
  struct burst {
    durable_queue::byte_span bytes[durable_queue::burst_max];
    std::size_t n;
    [[nodiscard]] std::span<const durable_queue::byte_span> list() const noexcept {
      return std::span(bytes).first(n);
    }
  };
  static burst of(std::span<const T> entries) noexcept {
    burst b;
    b.n = std::min<std::size_t>(entries.size(), durable_queue::burst_max);
    for (std::size_t i = 0; i < b.n; ++i)
      b.bytes[i] = type::bytes(entries[i]);
    return b;
  }
  [[nodiscard]] std::optional<T> read(const durable_queue::taken& t) const {
    if constexpr (type::fixed != 0) {
      std::byte buffer[type::fixed];
      if (bytes_->copy(t, buffer) != type::fixed) return std::nullopt;
      return type::of(buffer);
    } else {
      const auto buffer = std::make_unique_for_overwrite<std::byte[]>(t.bytes);
      if (bytes_->copy(t, {buffer.get(), t.bytes}) != t.bytes) return std::nullopt;
      return type::of({buffer.get(), t.bytes});
    }
  }

  /// As read(), of one of some entries that were taken. Where there is no memory for its value, all
  /// of them are given back.
  [[nodiscard]] std::optional<T> read_or_give_back(std::span<const durable_queue::taken> some,
                                                   std::size_t i) const {
    try {
      return read(some[i]);
    } catch (...) {
      bytes_->give_back(stream_, some);
      throw;
    }
  }

  durable_queue* bytes_;
  std::uint32_t stream_;
};

/// An entry that is taken and not ended. Its destruction gives the entry back, and the next take()
/// hands it out again.
template <class T> class queue<T>::held {
 public:
  held(held&& other) noexcept
      : from_(std::exchange(other.from_, nullptr)), stream_(other.stream_), entry_(other.entry_),
        value_(std::move(other.value_)) {}
  held& operator=(held&& other) noexcept { // `other` gives back what this object held
    std::swap(from_, other.from_);
    std::swap(stream_, other.stream_);
    std::swap(entry_, other.entry_);
    std::swap(value_, other.value_);
    return *this;
  }
  ~held() {
    if (from_ != nullptr) from_->give_back(stream_, {&entry_, 1});
  }
  [[nodiscard]] const T& value() const& noexcept { return value_; }
  [[nodiscard]] T value() && noexcept { return std::move(value_); }
  /// True when the entry may have been handed out before.
  [[nodiscard]] bool again() const noexcept { return entry_.again(); }
  /// Ends the entry. It is out of the stream, durably, when it returns done.
  queue_status done() noexcept {
    CHAINRING_EXPECTS(from_ != nullptr,
                      "done() of an entry that was ended before, or moved to another object; call "
                      "done() once for each take()");
    return std::exchange(from_, nullptr)->release(stream_, {&entry_, 1});
  }

 private:
  friend class queue;
  held(const queue& of, const durable_queue::taken& entry, T value)
      : from_(of.bytes_), stream_(of.stream_), entry_(entry), value_(std::move(value)) {}

  durable_queue* from_; ///< null: the entry is ended, or another object holds it
  std::uint32_t stream_;
  durable_queue::taken entry_;
  T value_;
};

} // namespace chainring
