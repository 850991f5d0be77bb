// SPDX-License-Identifier: BSD-3-Clause
/// QoS 0 messages on their way to sessions: counted copies in DRAM. Internal to the broker. All
/// functions are thread-safe, and the constructor allocates all memory.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "broker/front_end.h"

namespace chainring {

class value_ring;

class volatile_pool {
 public:
  static constexpr std::uint32_t none = 0xffffffff;
  volatile_pool(std::uint32_t messages, std::size_t topic_max, std::size_t payload_max);
  ~volatile_pool();

  /// Makes a message with one reference. Returns none when all are in use, or payload and
  /// properties together are too long. `expires_ns` is kept for a message with properties.
  [[nodiscard]] std::uint32_t make(std::string_view topic, std::span<const std::byte> payload,
                                   std::span<const std::byte> properties = {},
                                   std::uint64_t expires_ns = 0) noexcept;
  void hold(std::uint32_t message) noexcept;
  void drop(std::uint32_t message) noexcept;
  [[nodiscard]] std::string_view topic(std::uint32_t message) const noexcept;
  [[nodiscard]] std::span<const std::byte> payload(std::uint32_t message) const noexcept;
  [[nodiscard]] bool has_properties(std::uint32_t message) const noexcept {
    return headers_[message].properties_size != 0;
  }
  /// The properties, which lie behind the payload, and the expiry of a message that has them.
  [[nodiscard]] message_extras extras(std::uint32_t message) const noexcept;

 private:
  struct header {
    std::atomic<std::uint32_t> references{0};
    std::uint32_t payload_size = 0;
    std::uint16_t topic_size = 0;
    std::uint32_t properties_size = 0;
    std::uint64_t expires_ns = 0; ///< set where there are properties
  };
  [[nodiscard]] char* bytes(std::uint32_t message) const noexcept {
    return memory_.get() + message * stride_;
  }
  std::size_t topic_max_, payload_max_, stride_;
  std::unique_ptr<header[]> headers_;
  std::unique_ptr<char[]> memory_;
  std::unique_ptr<value_ring> free_;
};

} // namespace chainring
