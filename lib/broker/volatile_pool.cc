// SPDX-License-Identifier: BSD-3-Clause
// Ordering labels:
//   [copy-held]  A holder of a reference adds another one, so the count cannot reach zero
//     meanwhile; the access orders nothing.
//   [copy-dropped]  drop() takes a reference away with release, after its holder has read the
//     message; pairs with [copy-reused].
//   [copy-reused]  The last drop() acquires what the other holders released, before the message
//     is reused; pairs with [copy-dropped].
#include "broker/volatile_pool.h"

#include <cstring>
#include <rte_ring.h>

#include "base/assert.h"
#include "base/cacheline.h"
#include "base/value_ring.h"

namespace chainring {

volatile_pool::volatile_pool(std::uint32_t messages, std::size_t topic_max, std::size_t payload_max)
    : topic_max_(topic_max), payload_max_(payload_max),
      stride_(align_up(topic_max + payload_max, cacheline_size)),
      headers_(std::make_unique<header[]>(messages)), memory_(new char[messages * stride_]),
      free_(std::make_unique<value_ring>(messages, 4, RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ)) {
  for (std::uint32_t i = 0; i < messages; ++i) {
    const bool room = free_->push(&i);
    CHAINRING_ASSERT(room);
  }
}

volatile_pool::~volatile_pool() = default;

std::uint32_t volatile_pool::make(std::string_view topic, std::span<const std::byte> payload,
                                  std::span<const std::byte> properties,
                                  std::uint64_t expires_ns) noexcept {
  std::uint32_t m = none;
  if (topic.size() > topic_max_ || payload.size() + properties.size() > payload_max_ ||
      !free_->pop(&m))
    return none;
  header& h = headers_[m];
  h.topic_size = static_cast<std::uint16_t>(topic.size());
  h.payload_size = static_cast<std::uint32_t>(payload.size());
  std::memcpy(bytes(m), topic.data(), topic.size());
  std::memcpy(bytes(m) + topic.size(), payload.data(), payload.size());
  h.properties_size = static_cast<std::uint32_t>(properties.size());
  if (!properties.empty()) [[unlikely]] {
    h.expires_ns = expires_ns;
    std::memcpy(bytes(m) + topic.size() + payload.size(), properties.data(), properties.size());
  }
  // No other thread knows this message yet. [copy-held]
  h.references.store(1, std::memory_order_relaxed);
  return m;
}

void volatile_pool::hold(std::uint32_t message) noexcept {
  // [copy-held]
  headers_[message].references.fetch_add(1, std::memory_order_relaxed);
}

void volatile_pool::drop(std::uint32_t message) noexcept {
  // [copy-dropped] Without it a later message could overwrite octets that a holder is still
  // reading. [copy-reused] Without it the last holder could reuse the message before it sees the
  // other holders' reads done.
  if (headers_[message].references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    const bool room = free_->push(&message);
    CHAINRING_ASSERT(room);
  }
}

std::string_view volatile_pool::topic(std::uint32_t message) const noexcept {
  return {bytes(message), headers_[message].topic_size};
}

std::span<const std::byte> volatile_pool::payload(std::uint32_t message) const noexcept {
  return {reinterpret_cast<const std::byte*>(bytes(message)) + headers_[message].topic_size,
          headers_[message].payload_size};
}

message_extras volatile_pool::extras(std::uint32_t message) const noexcept {
  const header& h = headers_[message];
  if (h.properties_size == 0) return {};
  const std::span<const std::byte> content = payload(message);
  return {{content.data() + content.size(), h.properties_size}, h.expires_ns};
}

} // namespace chainring
