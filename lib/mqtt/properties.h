// SPDX-License-Identifier: BSD-3-Clause
/// The properties of MQTT 5.0, and the lists that they and the packets hold. mqtt/codec.h includes
/// this header.
///
/// A list is a view, like a span: over octets of a packet that the decoder has validated, or over
/// an array of the caller's. Reading an item of a packet takes a few loads and allocates nothing.
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <span>
#include <string_view>

#include "values.h"

namespace chainring::mqtt {

// --- lists ---------------------------------------------------------------------------------------

/// A name and a value with which a sender extends the protocol. Names may come more than once, and
/// the order of user properties is kept.
struct user_property {
  std::string_view name{};
  std::string_view value{};
};

/// One entry of a SUBSCRIBE. In MQTT 3.1.1 only the filter and the QoS are on the wire.
struct subscription {
  std::string_view filter{};
  qos_level qos = qos_level::zero; ///< the maximum QoS that the subscriber wants
  bool no_local = false;           ///< do not send it what it published itself
  bool retain_as_published = false;
  mqtt::retain_handling retain_handling = mqtt::retain_handling::send;
};

namespace wire {
/// Reads the items of lists in octets that decode() has validated: read() reads the item that
/// starts at `at`, and next() returns where the item behind it starts.
template <class Item> struct items;

[[nodiscard]] inline std::size_t u16(const std::byte* at) noexcept {
  return std::to_integer<std::size_t>(at[0]) << 8 | std::to_integer<std::size_t>(at[1]);
}
[[nodiscard]] inline std::string_view text(const std::byte* at) noexcept {
  return {reinterpret_cast<const char*>(at + 2), u16(at)};
}
/// Reads a variable byte integer that is known to be well-formed.
[[nodiscard]] inline std::uint32_t variable_integer(const std::byte* at) noexcept {
  std::uint32_t value = 0;
  for (unsigned shift = 0;; shift += 7, ++at) {
    value |= (std::to_integer<std::uint32_t>(*at) & 0x7F) << shift;
    if ((*at & std::byte{0x80}) == std::byte{0}) return value;
  }
}
/// Returns where the property with this identifier starts that follows the property at `at`. There
/// must be one.
[[nodiscard]] const std::byte* next_property(const std::byte* at, std::uint8_t id) noexcept;

template <> struct items<user_property> {
  static user_property read(const std::byte* at) noexcept {
    const std::string_view name = text(at + 1);
    return {name, text(at + 3 + name.size())};
  }
  static const std::byte* next(const std::byte* at) noexcept { return next_property(at, 0x26); }
};
template <> struct items<std::uint32_t> { // subscription identifiers
  static std::uint32_t read(const std::byte* at) noexcept { return variable_integer(at + 1); }
  static const std::byte* next(const std::byte* at) noexcept { return next_property(at, 0x0B); }
};
template <> struct items<std::string_view> { // filters of UNSUBSCRIBE
  static std::string_view read(const std::byte* at) noexcept { return text(at); }
  static const std::byte* next(const std::byte* at) noexcept { return at + 2 + u16(at); }
};
template <> struct items<subscription> {
  static subscription read(const std::byte* at) noexcept {
    const std::string_view filter = text(at);
    const auto options = std::to_integer<unsigned>(at[2 + filter.size()]);
    return {.filter = filter,
            .qos = qos_level(options & 3),
            .no_local = (options & 4) != 0,
            .retain_as_published = (options & 8) != 0,
            .retain_handling = retain_handling(options >> 4 & 3)};
  }
  static const std::byte* next(const std::byte* at) noexcept { return at + 3 + u16(at); }
};
template <> struct items<reason_code> {
  static reason_code read(const std::byte* at) noexcept {
    return reason_code(std::to_integer<std::uint8_t>(*at));
  }
  static const std::byte* next(const std::byte* at) noexcept { return at + 1; }
};
} // namespace wire

/// A forward range of items. decode() makes it over the octets of a packet, which it has validated.
/// A caller that encodes makes it over an array of its own. Either must outlive the list. An
/// iterator gives items by value.
template <class Item> class list {
 public:
  constexpr list() noexcept = default;
  /// A list of the caller's items: an array, a vector or a span of them.
  template <class Items>
  requires(
      !std::same_as<Items, list> &&
      std::convertible_to<
          const Items&,
          std::span<const Item>>) constexpr list(const Items&
                                                     items) noexcept // NOLINT: implicit on purpose
      : items_(std::data(items)), count_(static_cast<std::uint32_t>(std::size(items))) {}

  class iterator {
   public:
    using iterator_concept = std::forward_iterator_tag;
    using iterator_category = std::input_iterator_tag;
    using value_type = Item;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = Item;

    constexpr iterator() noexcept = default;
    Item operator*() const noexcept {
      return items_ != nullptr ? *items_ : wire::items<Item>::read(at_);
    }
    iterator& operator++() noexcept {
      --left_;
      if (items_ != nullptr) {
        ++items_;
      } else if (left_ > 0) {
        at_ = wire::items<Item>::next(at_);
      }
      return *this;
    }
    iterator operator++(int) noexcept {
      const iterator before = *this;
      ++*this;
      return before;
    }
    /// Iterators of the same list are equal where they are at the same item.
    friend constexpr bool operator==(const iterator& a, const iterator& b) noexcept {
      return a.left_ == b.left_;
    }

   private:
    friend class list;
    constexpr iterator(const std::byte* at, const Item* items, std::uint32_t left) noexcept
        : at_(at), items_(items), left_(left) {}
    const std::byte* at_ = nullptr;
    const Item* items_ = nullptr;
    std::uint32_t left_ = 0;
  };

  [[nodiscard]] constexpr iterator begin() const noexcept { return {at_, items_, count_}; }
  [[nodiscard]] constexpr iterator end() const noexcept { return {}; }
  [[nodiscard]] constexpr std::size_t size() const noexcept { return count_; }
  [[nodiscard]] constexpr bool empty() const noexcept { return count_ == 0; }

  /// The octets of the packet from the first item to the last, or nothing for a list of the
  /// caller's items. Between user properties, other properties may stand.
  [[nodiscard]] octets raw() const noexcept { return {at_, raw_size_}; }

 private:
  friend struct list_access; // what the codec itself may do
  const std::byte* at_ = nullptr;
  const Item* items_ = nullptr;
  std::uint32_t count_ = 0;
  std::uint32_t raw_size_ = 0;   // octets from the first item to the last
  std::uint32_t items_size_ = 0; // octets of the items alone
};

using user_properties = list<user_property>;
using subscription_ids = list<std::uint32_t>;
using subscription_list = list<subscription>;
using filter_list = list<std::string_view>;
using reason_list = list<reason_code>;

// --- properties ----------------------------------------------------------------------------------

/// The properties of one packet or of a will. A property that is absent has no value; the
/// specification gives most of them a default. MQTT 3.1.1 has none.
struct properties {
  // of messages
  std::optional<bool> payload_format_indicator{}; ///< true: the payload is UTF-8
  std::optional<std::uint32_t> message_expiry_s{};
  std::optional<std::string_view> content_type{};
  std::optional<std::string_view> response_topic{}; ///< a valid topic name
  std::optional<octets> correlation_data{};
  std::optional<std::uint16_t> topic_alias{}; ///< not 0
  std::optional<std::uint32_t> will_delay_s{};
  /// Not 0. A SUBSCRIBE has at most one.
  mqtt::subscription_ids subscription_ids{};
  // of connections
  std::optional<std::uint32_t> session_expiry_s{};    ///< 0xFFFFFFFF: never
  std::optional<std::uint16_t> receive_maximum{};     ///< not 0
  std::optional<std::uint32_t> maximum_packet_size{}; ///< in octets; not 0
  std::optional<std::uint16_t> topic_alias_maximum{};
  std::optional<bool> request_response_information{};
  std::optional<bool> request_problem_information{};
  std::optional<std::string_view> authentication_method{};
  std::optional<octets> authentication_data{};
  // of answers
  std::optional<std::string_view> reason_string{};
  std::optional<std::string_view> server_reference{};
  std::optional<std::string_view> assigned_client_id{};
  std::optional<std::string_view> response_information{};
  std::optional<std::uint16_t> server_keep_alive_s{};
  std::optional<qos_level> maximum_qos{}; ///< zero or one
  std::optional<bool> retain_available{};
  std::optional<bool> wildcard_subscription_available{};
  std::optional<bool> subscription_ids_available{};
  std::optional<bool> shared_subscription_available{};
  // of everything
  mqtt::user_properties user_properties{};

  /// The octets of the section behind its length, as they were decoded. decode_properties() reads
  /// them again. The encoder does not use them.
  octets raw{};
};

} // namespace chainring::mqtt
