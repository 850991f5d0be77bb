// SPDX-License-Identifier: BSD-3-Clause
/// Pairs as named objects: durable<multimap<K, V>> and durable<bimap<A, B>> of objects.h.
///
/// The type that is kept on media says how long fixed halves are, and in how many directions pairs
/// are found. A region that has a multimap is refused where a program asks for a bimap of the same
/// types, because the two stand for different things, though they lie on media alike.
///
/// **Room:** an object has room for so many pairs, and objects::grow() adds some. For each pair the
/// region keeps 256 bytes for its strings, and what its fixed half takes beside one.
///
///     using topic_map = bimap<std::string, std::string>;
///     auto opened = objects::open_or_create("/var/tmp/topics", durable<topic_map>{"topics",
///     1000}); auto topics = (*opened)->get<topic_map>("topics").value();
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "../map/multimap.h"
#include "object_map.h"

namespace chainring {

namespace detail {

/// A durable_pairs as a named object.
class pairs_object final : public map_object {
 public:
  /// The sizes of fixed halves, and 0 for strings; and whether pairs are found by their second
  /// half, too.
  pairs_object(std::string name, std::uint64_t entries, std::uint32_t version,
               std::size_t first_bytes, std::size_t second_bytes, bool by_second);
  [[nodiscard]] static std::string type_of(std::size_t first_bytes, std::size_t second_bytes,
                                           bool by_second);
  [[nodiscard]] durable_pairs& pairs() noexcept { return *pairs_; }
  /// Bytes of each half; 0 for strings.
  [[nodiscard]] std::size_t first_bytes() const noexcept { return first_bytes_; }
  [[nodiscard]] std::size_t second_bytes() const noexcept { return second_bytes_; }
  [[nodiscard]] bool by_second() const noexcept { return by_second_; }

 private:
  [[nodiscard]] result<void> make(media& medium, block_store& blocks, std::span<const range> ranges,
                                  bool fresh) override;
  [[nodiscard]] std::vector<recovery_part> parts() override;

  std::size_t first_bytes_, second_bytes_;
  bool by_second_;
  std::unique_ptr<durable_pairs> pairs_;
};

/// `T` is a multimap or a bimap of A and B.
template <class T, class A, class B, bool by_second> struct object_of_pairs {
  static constexpr std::size_t first = stored_as_bytes<A>::fixed,
                               second = stored_as_bytes<B>::fixed;
  static std::unique_ptr<named_object> make(const durable<T>& wanted) {
    return std::make_unique<pairs_object>(wanted.name, wanted.entries, wanted.version, first,
                                          second, by_second);
  }
  static std::string type() { return pairs_object::type_of(first, second, by_second); }
  static bool is(std::string_view words) { return words == type(); }
  static T view(named_object& o) noexcept { return T(static_cast<pairs_object&>(o).pairs()); }
};

} // namespace detail

template <class K, class V>
struct object_of<multimap<K, V>> : detail::object_of_pairs<multimap<K, V>, K, V, false> {};
template <class A, class B>
struct object_of<bimap<A, B>> : detail::object_of_pairs<bimap<A, B>, A, B, true> {};

} // namespace chainring
