// SPDX-License-Identifier: BSD-3-Clause
/// A durable map of typed keys and values: the calls of a durable_map, with a K and a V in place of
/// byte strings.
///
/// **When to use:** records of one type that must survive a crash and are found by a key of one
/// type. **When not:** records of several types in one map, or changes that share the drain of a
/// burst of the caller (durable_map.h, which bytes() gives); data that can be rebuilt (seq_map.h).
///
/// **Types:** a K or V is std::string, or trivially copyable. Both are stored as their bytes, so a
/// trivially copyable one has no padding and no pointer that must outlive the process. A key of a
/// map<std::string, V> may be given as a std::string_view. A string key is not empty, and has at
/// most 131,071 bytes; a value has at most 16 MiB.
///
/// A `map` is a view, as small as a pointer, of the durable_map that it is made for. That one
/// outlives it, and holds keys and values of these types only: misfits() counts the others, and is
/// worth a call after the map was opened.
///
/// **Durability, thread-safety, consistency, growth, complexity:** those of durable_map.h. Each
/// call that changes something returns when its change is durable. Calls that return a std::string
/// allocate it.
///
///     chainring::map<std::uint64_t, std::uint64_t> stock(**bytes);   // part number -> pieces
///     stock.increment(4711, 20);                        // 20 pieces came
///     stock.decrement(4711, 5);                         // 5 went; at 0 the key is erased
///     std::optional<std::uint64_t> left = stock.get(4711);
#pragma once
#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "../base/bytes_of.h"
#include "durable_map.h"

namespace chainring {

template <class K, class V> class map {
  using key_type = detail::stored_as_bytes<K>;
  using value_type = detail::stored_as_bytes<V>;
  using byte_span = durable_map::byte_span;
  static_assert(std::is_same_v<K, std::string> || std::has_unique_object_representations_v<K>,
                "map: keys are compared as bytes, so they must have no padding");

 public:
  using key_argument = typename key_type::argument;     ///< const K&, or std::string_view
  using value_argument = typename value_type::argument; ///< const V&, or std::string_view
  class batch;
  class atomic_batch;

  /// `bytes` outlives the object.
  explicit map(durable_map& bytes) noexcept : bytes_(&bytes) {}
  /// The map of byte strings, for its recovery, its growth and its staged changes.
  [[nodiscard]] durable_map& bytes() const noexcept { return *bytes_; }

  // --- lookups ----------------------------------------------------------------------------------

  /// Returns the value. Nothing: the key is missing, or its value is no V.
  [[nodiscard]] std::optional<V> get(key_argument k) const {
    const byte_span name = key_type::bytes(k);
    const std::optional<map_value> found = bytes_->get(name);
    if (!found) return std::nullopt;
    if (found->size <= map_value_inline)
      return value_in(std::span(found->bytes).first(found->size));
    return get_long(name, found->size);
  }
  [[nodiscard]] bool contains(key_argument k) const noexcept {
    return bytes_->contains(key_type::bytes(k));
  }
  /// Calls fn(K, V) for each entry while other threads write. fn may throw.
  template <class Fn> void for_each(Fn&& fn) const {
    bytes_->for_each([&](byte_span k, byte_span v) {
      if (fits(k, v)) fn(key_type::of(k), value_type::of(v));
    });
  }
  /// Calls fn(K, V) for each entry whose key begins with `prefix`, in no order. It takes O(capacity
  /// of the index), because it looks at every key.
  template <class Fn>
  void for_each_with_prefix(std::string_view prefix,
                            Fn&& fn) const requires std::is_same_v<K, std::string> {
    const byte_span begin = detail::stored_as_bytes<std::string>::bytes(prefix);
    bytes_->for_each([&](byte_span k, byte_span v) {
      if (k.size() >= begin.size() && std::ranges::equal(k.first(begin.size()), begin) &&
          fits(k, v))
        fn(key_type::of(k), value_type::of(v));
    });
  }
  /// Counts the entries whose key or value is not of the size of its type. No call finds them. It
  /// takes O(len()).
  [[nodiscard]] std::uint64_t misfits() const {
    std::uint64_t found = 0;
    bytes_->for_each([&](byte_span k, byte_span v) { found += !fits(k, v); });
    return found;
  }
  /// Calls fn() for several keys of one moment, as durable_map::read_together() does.
  template <class Fn> std::invoke_result_t<Fn&> read_together(Fn&& fn) const {
    return bytes_->read_together(fn);
  }
  /// The number of keys.
  [[nodiscard]] std::uint64_t len() const noexcept { return bytes_->len(); }
  /// The number of cells on media, one for each key.
  [[nodiscard]] std::uint64_t capacity() const noexcept { return bytes_->capacity(); }

  // --- changes, each of which is durable when its call returns ----------------------------------

  /// Returns done, exists, full or too_long.
  map_status insert(key_argument k, value_argument v) noexcept {
    return bytes_->insert(key_type::bytes(k), value_type::bytes(v));
  }
  /// Returns done, missing, full or too_long.
  map_status update(key_argument k, value_argument v) noexcept {
    return bytes_->update(key_type::bytes(k), value_type::bytes(v));
  }
  /// Returns done, full or too_long.
  map_status upsert(key_argument k, value_argument v) noexcept {
    return bytes_->upsert(key_type::bytes(k), value_type::bytes(v));
  }
  /// Returns done, missing or too_long.
  map_status erase(key_argument k) noexcept { return bytes_->erase(key_type::bytes(k)); }
  /// Replaces the value where it has the bytes of `expected`. Returns done, missing, mismatch, full
  /// or too_long.
  map_status compare_exchange(key_argument k, value_argument expected, value_argument v) noexcept {
    const byte_span key = key_type::bytes(k);
    return bytes_->compare_exchange(key, value_type::bytes(expected), value_type::bytes(v));
  }
  /// Calls fn(std::optional<V>&) with the key's value or nothing, while no other thread changes the
  /// key, and makes what fn leaves there the key's: a value inserts or replaces, nothing erases. fn
  /// returns a map_status, and its changes count only with `done`. Returns that status, full,
  /// too_long (also for a value of more than map_edit::size_max bytes) or, where the value is no V,
  /// mismatch. fn may throw: then the key stays as it is. It must not call the map.
  template <class Fn> map_status alter(key_argument k, Fn&& fn) {
    return bytes_->alter(key_type::bytes(k), altering(fn));
  }
  /// Erases the key if unwanted(V) is true. Returns done, missing or mismatch.
  template <class Unwanted> map_status erase_if(key_argument k, Unwanted&& unwanted) {
    return bytes_->erase_if(key_type::bytes(k), [&](byte_span v) {
      return value_type::fits(v) && unwanted(value_type::of(v));
    });
  }
  /// Adds to an integer, and inserts it if it is missing. Returns done, full, or mismatch where the
  /// sum is no V.
  map_status increment(key_argument k, V by = V{1}) noexcept requires std::is_integral_v<V> {
    return bytes_->alter(key_type::bytes(k), adding(by));
  }
  /// Subtracts from an integer, and erases the key when the value becomes 0. Returns done, missing,
  /// or mismatch where the value is less than `by`.
  map_status decrement(key_argument k, V by = V{1}) noexcept requires std::is_integral_v<V> {
    return bytes_->alter(key_type::bytes(k), subtracting(by));
  }
  // Operations with ids (durable_map.h): each takes effect once, however often it is repeated, and
  // resolve() says after a crash whether it did. They return what the calls above do, or repeated,
  // reserved or failed; an erase with an id is done also where the key is missing.

  map_status insert(operation_id id, key_argument k, value_argument v) {
    return bytes_->insert(id, key_type::bytes(k), value_type::bytes(v));
  }
  map_status upsert(operation_id id, key_argument k, value_argument v) {
    return bytes_->upsert(id, key_type::bytes(k), value_type::bytes(v));
  }
  map_status erase(operation_id id, key_argument k) {
    return bytes_->erase(id, key_type::bytes(k));
  }
  [[nodiscard]] operation_outcome resolve(operation_id id) const noexcept {
    return bytes_->resolve(id);
  }
  [[nodiscard]] std::uint64_t last_operation(std::uint32_t client) const noexcept {
    return bytes_->last_operation(client);
  }
  /// Erases each entry for which keep(K, V) is false. Returns how many. It commits as many erases
  /// at once as a batch takes. keep may throw: the entry that it was called for stays, and what was
  /// erased before is erased.
  template <class Keep> std::uint64_t retain(Keep&& keep) {
    return bytes_->retain([&](byte_span k, byte_span v) {
      return !fits(k, v) || keep(key_type::of(k), value_type::of(v));
    });
  }
  /// Erases every key that is in the map from the beginning of the call on.
  void clear() {
    bytes_->retain([](byte_span, byte_span) { return false; });
  }

 private:
  using editor = std::function<map_status(map_edit&)>;

  static bool fits(byte_span k, byte_span v) noexcept {
    return key_type::fits(k) && value_type::fits(v);
  }
  static std::optional<V> value_in(byte_span v) {
    return value_type::fits(v) ? std::optional<V>(value_type::of(v)) : std::nullopt;
  }
  // The value may have become longer meanwhile: then its new size is asked for.
  [[nodiscard]] std::optional<V> get_long(byte_span name, std::size_t size) const {
    for (;;) {
      const auto buffer = std::make_unique_for_overwrite<std::byte[]>(size);
      const map_status found = bytes_->get(name, {buffer.get(), size}, size);
      if (found == map_status::missing) return std::nullopt;
      if (found == map_status::done) return value_in({buffer.get(), size});
    }
  }

  template <class Fn> static editor altering(Fn& fn) {
    return [&fn](map_edit& e) {
      if (e.present() && !value_type::fits(e.now())) return map_status::mismatch;
      std::optional<V> now;
      if (e.present()) now = value_type::of(e.now());
      const map_status status = fn(now);
      if (status != map_status::done) return status;
      if (now)
        e.assign(value_type::bytes(*now));
      else
        e.erase();
      return map_status::done;
    };
  }
  static editor adding(V by) noexcept {
    return [by](map_edit& e) {
      V sum{};
      if (e.present()) {
        if (!value_type::fits(e.now())) return map_status::mismatch;
        sum = value_type::of(e.now());
      }
      if (__builtin_add_overflow(sum, by, &sum)) return map_status::mismatch;
      e.assign(value_type::bytes(sum));
      return map_status::done;
    };
  }
  static editor subtracting(V by) noexcept {
    return [by](map_edit& e) {
      if (!e.present()) return map_status::missing;
      if (!value_type::fits(e.now())) return map_status::mismatch;
      V left = value_type::of(e.now());
      if (left < by) return map_status::mismatch;
      if (__builtin_sub_overflow(left, by, &left)) return map_status::mismatch;
      if (left == 0)
        e.erase();
      else
        e.assign(value_type::bytes(left));
      return map_status::done;
    };
  }

  durable_map* bytes_;
};

/// The changes of one thread that share a drain, as durable_map::batch has them: each change is
/// atomic for its key, and durable and visible after commit() or the destruction.
template <class K, class V> class map<K, V>::batch {
 public:
  explicit batch(map on) noexcept : bytes_(on.bytes()) {}

  map_status insert(key_argument k, value_argument v) noexcept {
    return bytes_.insert(key_type::bytes(k), value_type::bytes(v));
  }
  map_status update(key_argument k, value_argument v) noexcept {
    return bytes_.update(key_type::bytes(k), value_type::bytes(v));
  }
  map_status upsert(key_argument k, value_argument v) noexcept {
    return bytes_.upsert(key_type::bytes(k), value_type::bytes(v));
  }
  map_status erase(key_argument k) noexcept { return bytes_.erase(key_type::bytes(k)); }
  template <class Fn> map_status alter(key_argument k, Fn&& fn) {
    return bytes_.alter(key_type::bytes(k), altering(fn));
  }
  map_status increment(key_argument k, V by = V{1}) noexcept requires std::is_integral_v<V> {
    return bytes_.alter(key_type::bytes(k), adding(by));
  }
  map_status decrement(key_argument k, V by = V{1}) noexcept requires std::is_integral_v<V> {
    return bytes_.alter(key_type::bytes(k), subtracting(by));
  }
  void commit() noexcept { bytes_.commit(); }
  /// The batch of byte strings, for a drain of the caller's.
  [[nodiscard]] durable_map::batch& bytes() noexcept { return bytes_; }

 private:
  durable_map::batch bytes_;
};

/// Changes that are made together or not at all, as durable_map::atomic_batch has them.
template <class K, class V> class map<K, V>::atomic_batch {
 public:
  /// The most changes.
  static constexpr std::size_t changes_max = durable_map::atomic_batch::changes_max;

  explicit atomic_batch(map on) noexcept : bytes_(on.bytes()) {}

  /// Each returns done, too_long, reserved or too_many, and is part of the batch only with `done`.
  map_status insert(key_argument k, value_argument v) {
    return bytes_.insert(key_type::bytes(k), value_type::bytes(v));
  }
  map_status upsert(key_argument k, value_argument v) {
    return bytes_.upsert(key_type::bytes(k), value_type::bytes(v));
  }
  map_status erase(key_argument k) { return bytes_.erase(key_type::bytes(k)); }
  /// Makes the batch the operation of that id. Returns done or too_many.
  map_status identify(operation_id id) { return bytes_.identify(id); }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
  void clear() noexcept { bytes_.clear(); }
  /// Makes all changes durable and then visible, or none. Returns done, repeated, exists, full or
  /// failed.
  map_status commit() noexcept { return bytes_.commit(); }

 private:
  durable_map::atomic_batch bytes_;
};

} // namespace chainring
