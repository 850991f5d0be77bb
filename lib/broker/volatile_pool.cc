// SPDX-License-Identifier: BSD-3-Clause
// Edges:
//   [V1] release in drop(): a holder's reads of the message -> [V2] acquire before it is reused
#include "broker/volatile_pool.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <rte_ring.h>
#include <rte_ring_elem.h>

#include "base/assert.h"
#include "base/cacheline.h"
#include "broker/shared.h"

namespace chainring {

void value_ring::freer::operator()(rte_ring* r) const noexcept {
  std::free(r);
}

value_ring::value_ring(std::uint32_t capacity, unsigned element_size, unsigned flags)
    : element_size_(element_size) {
  const ssize_t size = rte_ring_get_memsize_elem(element_size, rte_align32pow2(capacity + 1));
  CHAINRING_ASSERT(size > 0);
  void* memory = std::aligned_alloc(cacheline_size,
                                    align_up(static_cast<std::uint64_t>(size), cacheline_size));
  if (memory == nullptr) throw std::bad_alloc();
  ring_.reset(static_cast<rte_ring*>(memory));
  const int made = rte_ring_init(ring_.get(), "values", capacity, flags | RING_F_EXACT_SZ);
  CHAINRING_ASSERT(made == 0);
}

bool value_ring::push(const void* value) noexcept {
  return rte_ring_enqueue_elem(ring_.get(), const_cast<void*>(value), element_size_) == 0;
}
bool value_ring::pop(void* value) noexcept {
  return rte_ring_dequeue_elem(ring_.get(), value, element_size_) == 0;
}
bool value_ring::empty() const noexcept {
  return rte_ring_empty(ring_.get()) != 0;
}

volatile_pool::volatile_pool(std::uint32_t messages, std::size_t payload_max)
    : payload_max_(payload_max), stride_(align_up(topic_length_max + payload_max, cacheline_size)),
      headers_(std::make_unique<header[]>(messages)), memory_(new char[messages * stride_]),
      free_(std::make_unique<value_ring>(messages, 4, RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ)) {
  for (std::uint32_t i = 0; i < messages; ++i) {
    const bool room = free_->push(&i);
    CHAINRING_ASSERT(room);
  }
}

volatile_pool::~volatile_pool() = default;

std::uint32_t volatile_pool::make(std::string_view topic,
                                  std::span<const std::byte> payload) noexcept {
  std::uint32_t m = none;
  if (topic.size() > topic_length_max || payload.size() > payload_max_ || !free_->pop(&m))
    return none;
  header& h = headers_[m];
  h.topic_size = static_cast<std::uint16_t>(topic.size());
  h.payload_size = static_cast<std::uint32_t>(payload.size());
  std::memcpy(bytes(m), topic.data(), topic.size());
  std::memcpy(bytes(m) + topic.size(), payload.data(), payload.size());
  h.references.store(1, std::memory_order_relaxed); // [V3] nobody else knows it yet; see [V1]
  return m;
}

void volatile_pool::hold(std::uint32_t message) noexcept {
  // [V3] relaxed: the caller holds a reference, so the count cannot reach zero meanwhile.
  headers_[message].references.fetch_add(1, std::memory_order_relaxed);
}

void volatile_pool::drop(std::uint32_t message) noexcept {
  // [V1] release and [V2] acquire: the last holder's successor overwrites the bytes only after
  // every holder has read them.
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

} // namespace chainring
