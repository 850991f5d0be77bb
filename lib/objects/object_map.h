// SPDX-License-Identifier: BSD-3-Clause
/// Maps as named objects: durable<map<K, V>> of objects.h.
///
/// The type that is kept on media says how long fixed keys and values are, and not what they mean:
/// a program that changes the meaning gives its objects another version.
///
/// **Room:** a map has room for so many keys. A change that finds none returns `full`, and
/// objects::grow() adds some. For a std::string beyond 24 characters in a key, or 16 in a value,
/// the region keeps 256 bytes for each entry beside it; a region that should hold longer ones is
/// made with a size.
///
///     auto opened = objects::open_or_create("/var/tmp/words",
///                                           durable<map<std::string, std::uint64_t>>{"runs",
///                                           100});
///     auto runs = (*opened)->get<map<std::string, std::uint64_t>>("runs").value();
#pragma once
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "../map/map.h"
#include "objects.h"

namespace chainring {

namespace detail {

/// A durable_map as a named object.
class map_object : public named_object {
 public:
  /// `key_bytes` and `value_bytes` are the sizes of fixed types, and 0 for strings.
  map_object(std::string name, std::uint64_t entries, std::uint32_t version, std::size_t key_bytes,
             std::size_t value_bytes);
  [[nodiscard]] static std::string type_of(std::size_t key_bytes, std::size_t value_bytes);
  [[nodiscard]] std::uint64_t range_bytes(std::uint64_t entries) const noexcept override;
  [[nodiscard]] std::uint64_t content_blocks(std::uint64_t entries,
                                             std::uint32_t block_size) const noexcept override;
  [[nodiscard]] durable_map& bytes() noexcept { return *map_; }
  /// Bytes of each key and value; 0 for strings.
  [[nodiscard]] std::size_t key_bytes() const noexcept { return key_bytes_; }
  [[nodiscard]] std::size_t value_bytes() const noexcept { return value_bytes_; }
  [[nodiscard]] result<void> acceptable() const override;
  void settle() noexcept override;

 protected:
  /// An object of another type whose entries have a key and no value.
  map_object(std::string name, std::string type, std::uint64_t entries, std::uint32_t version,
             std::size_t key_bytes);
  [[nodiscard]] result<void> make(media& medium, block_store& blocks, std::span<const range> ranges,
                                  bool fresh) override;
  [[nodiscard]] std::vector<recovery_part> parts() override;

 private:
  [[nodiscard]] result<void> add(const range& more) override;
  [[nodiscard]] std::uint64_t room() const noexcept override { return map_->capacity(); }
  [[nodiscard]] std::uint64_t room_max() const noexcept override { return cells_max_; }
  [[nodiscard]] bool grows_in_use() const noexcept override { return true; }

  std::size_t key_bytes_, value_bytes_;
  std::uint64_t cells_max_ = 0;
  std::unique_ptr<durable_map> map_;
};

} // namespace detail

template <class K, class V> struct object_of<map<K, V>> {
  static constexpr std::size_t key = detail::stored_as_bytes<K>::fixed,
                               value = detail::stored_as_bytes<V>::fixed;
  static std::unique_ptr<named_object> make(const durable<map<K, V>>& wanted) {
    return std::make_unique<detail::map_object>(wanted.name, wanted.entries, wanted.version, key,
                                                value);
  }
  static std::string type() { return detail::map_object::type_of(key, value); }
  static bool is(std::string_view words) { return words == type(); }
  static map<K, V> view(named_object& o) noexcept {
    return map<K, V>(static_cast<detail::map_object&>(o).bytes());
  }
};

} // namespace chainring
