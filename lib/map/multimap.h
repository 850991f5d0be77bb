// SPDX-License-Identifier: BSD-3-Clause
/// Typed views of durable_pairs: a multimap has any number of values under a key, and a bimap is a
/// relation that is looked up in both directions, as between clients and their topics.
///
/// **When to use:** a multimap where values are added to a key, listed and removed one by one; a
/// bimap where one also asks which keys a value has. **When not:** one value for each key (map.h);
/// the same pair more than once, as both hold a set of pairs.
///
/// **Types:** as for a map, each of both is std::string, which may be empty here, or trivially
/// copyable without padding. A pair has at most durable_pairs::bytes_max bytes.
///
/// Both are views, as small as a pointer, of the durable_pairs that they are made for. That one
/// outlives them, and holds pairs of these types only: misfits() counts the others.
///
/// **Durability, thread-safety, consistency, complexity:** those of durable_pairs.h. Each call that
/// changes something returns when its change is durable. Listings allocate.
///
///     chainring::multimap<std::string, std::uint64_t> orders(*pairs);
///     orders.insert("ada", 4711);
///     orders.insert("ada", 4712);
///     for (std::uint64_t order : orders.get("ada")) ...          // in no order
///
///     chainring::bimap<std::string, std::string> topics(*both);  // made with by_second
///     topics.insert("client 1", "news");
///     topics.get_first("news");                                  // the clients of a topic
///     topics.erase_first("client 1");                            // the client goes
#pragma once
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "../base/bytes_of.h"
#include "durable_pairs.h"

namespace chainring {

namespace detail {

/// What multimap and bimap have in common.
template <class A, class B> class typed_pairs {
 protected:
  using first_type = stored_as_bytes<A>;
  using second_type = stored_as_bytes<B>;
  using byte_span = std::span<const std::byte>;
  static_assert((std::is_same_v<A, std::string> || std::has_unique_object_representations_v<A>)&&(
                    std::is_same_v<B, std::string> || std::has_unique_object_representations_v<B>),
                "pairs are compared as bytes, so their types must have no padding");

 public:
  using first_argument = typename first_type::argument;   ///< const A&, or std::string_view
  using second_argument = typename second_type::argument; ///< const B&, or std::string_view

  /// `pairs` outlives the object.
  explicit typed_pairs(durable_pairs& pairs) noexcept : pairs_(&pairs) {}
  /// The pairs of byte strings, for their recovery and growth.
  [[nodiscard]] durable_pairs& bytes() const noexcept { return *pairs_; }

  /// Returns done, exists, full or too_long.
  map_status insert(first_argument a, second_argument b) {
    return pairs_->insert(first_type::bytes(a), second_type::bytes(b));
  }
  /// Returns done, missing or too_long.
  map_status erase(first_argument a, second_argument b) {
    return pairs_->erase(first_type::bytes(a), second_type::bytes(b));
  }
  [[nodiscard]] bool contains(first_argument a, second_argument b) const {
    return pairs_->contains(first_type::bytes(a), second_type::bytes(b));
  }
  /// Calls fn(A, B) for each pair while other threads write. fn must not change pairs.
  template <class Fn> void for_each(Fn&& fn) const {
    pairs_->for_each([&](byte_span a, byte_span b) {
      if (first_type::fits(a) && second_type::fits(b)) fn(first_type::of(a), second_type::of(b));
    });
  }
  /// Counts the entries that are no pair of these types, in O(len()).
  [[nodiscard]] std::uint64_t misfits() const {
    return pairs_->misfits(first_type::fixed, second_type::fixed);
  }
  /// The number of pairs, and the number for which there is room.
  [[nodiscard]] std::uint64_t len() const noexcept { return pairs_->len(); }
  [[nodiscard]] std::uint64_t capacity() const noexcept { return pairs_->capacity(); }

  /// The changes of one thread that share a drain, as durable_pairs::batch has them.
  class batch {
   public:
    explicit batch(typed_pairs on) noexcept : bytes_(on.bytes()) {}
    map_status insert(first_argument a, second_argument b) {
      return bytes_.insert(first_type::bytes(a), second_type::bytes(b));
    }
    map_status erase(first_argument a, second_argument b) {
      return bytes_.erase(first_type::bytes(a), second_type::bytes(b));
    }
    void commit() noexcept { bytes_.commit(); }

   private:
    durable_pairs::batch bytes_;
  };

 protected:
  /// Calls fn for the other half of each pair with that half.
  template <class Fn> void for_each_second(first_argument a, Fn&& fn) const {
    pairs_->for_each_with(pair_half::first, first_type::bytes(a), [&](byte_span b) {
      if (second_type::fits(b)) fn(second_type::of(b));
    });
  }
  template <class Fn> void for_each_first(second_argument b, Fn&& fn) const {
    pairs_->for_each_with(pair_half::second, second_type::bytes(b), [&](byte_span a) {
      if (first_type::fits(a)) fn(first_type::of(a));
    });
  }
  [[nodiscard]] std::vector<B> seconds_of(first_argument a) const {
    std::vector<B> found;
    for_each_second(a, [&](B b) { found.push_back(std::move(b)); });
    return found;
  }
  [[nodiscard]] std::vector<A> firsts_of(second_argument b) const {
    std::vector<A> found;
    for_each_first(b, [&](A a) { found.push_back(std::move(a)); });
    return found;
  }

  [[nodiscard]] std::uint64_t count_seconds(first_argument a) const {
    return pairs_->count_with(pair_half::first, first_type::bytes(a));
  }
  std::uint64_t erase_seconds(first_argument a) {
    return pairs_->erase_with(pair_half::first, first_type::bytes(a));
  }

  durable_pairs* pairs_;
};

} // namespace detail

/// Any number of different values under each key.
template <class K, class V> class multimap : public detail::typed_pairs<K, V> {
  using base = detail::typed_pairs<K, V>;

 public:
  using base::base;
  using base::contains;
  using base::erase;
  using base::for_each;
  using typename base::first_argument;

  /// Returns the values of the key, in no order.
  [[nodiscard]] std::vector<V> get(first_argument k) const { return base::seconds_of(k); }
  /// Calls fn(V) for each value of the key.
  template <class Fn> void for_each(first_argument k, Fn&& fn) const {
    base::for_each_second(k, fn);
  }
  [[nodiscard]] bool contains(first_argument k) const { return count(k) != 0; }
  /// The number of values of the key.
  [[nodiscard]] std::uint64_t count(first_argument k) const { return base::count_seconds(k); }
  /// Erases all values of the key. Returns how many.
  std::uint64_t erase(first_argument k) { return base::erase_seconds(k); }
};

/// A relation of As and Bs that is looked up in both directions.
template <class A, class B> class bimap : public detail::typed_pairs<A, B> {
  using base = detail::typed_pairs<A, B>;

 public:
  using base::base;
  using base::for_each_first;
  using base::for_each_second;
  using typename base::first_argument;
  using typename base::second_argument;

  /// Returns the Bs of an A, in no order.
  [[nodiscard]] std::vector<B> get_second(first_argument a) const { return base::seconds_of(a); }
  /// Returns the As of a B, in no order.
  [[nodiscard]] std::vector<A> get_first(second_argument b) const { return base::firsts_of(b); }
  /// The number of Bs of an A, and of As of a B.
  [[nodiscard]] std::uint64_t count_first(first_argument a) const { return base::count_seconds(a); }
  [[nodiscard]] std::uint64_t count_second(second_argument b) const {
    return this->pairs_->count_with(pair_half::second, base::second_type::bytes(b));
  }
  /// Erases every pair of an A, or of a B. Returns how many.
  std::uint64_t erase_first(first_argument a) { return base::erase_seconds(a); }
  std::uint64_t erase_second(second_argument b) {
    return this->pairs_->erase_with(pair_half::second, base::second_type::bytes(b));
  }
};

} // namespace chainring
