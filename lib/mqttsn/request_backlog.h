// SPDX-License-Identifier: BSD-3-Clause
/// Requests that wait for a later round of their worker: CONNECT, REGISTER, SUBSCRIBE and whatever
/// else is no part of a message's delivery, so that a flood of them leaves time for messages.
/// Internal to lib/mqttsn.
///
/// Requests have their turn in the order in which they came. The number that wait is limited, in
/// total and for each sender; senders that share an entry of the table of counts share its limit.
///
/// Thread-safety: one thread. put() and pop() take constant time and no memory, except that pages
/// of the backlog are touched for the first time.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/client_address.h"
#include "base/lazy_array.h"
#include "map/map_hash.h"

namespace chainring::mqttsn {

struct waiting_request {
  static constexpr std::size_t size_max = 2000;
  client_address from;
  std::uint64_t received_tsc;
  std::uint16_t size;
  bool to_group;
  std::array<std::byte, size_max> data;

  [[nodiscard]] std::span<const std::byte> datagram() const noexcept {
    return std::span(data).first(size);
  }
};

class request_backlog {
 public:
  /// Takes the secret that keeps strangers from choosing an entry. Call it once. Returns false if
  /// there is no memory.
  [[nodiscard]] bool make(std::uint64_t seed) noexcept {
    seed_ = seed;
    return slots_.make(slots_max);
  }
  [[nodiscard]] bool empty() const noexcept { return first_ == end_; }

  /// Returns true when as many requests of this sender wait as may.
  [[nodiscard]] bool is_full_for(const client_address& from) noexcept {
    return count_of(from) == per_sender_max;
  }
  /// Returns true when a place is left for a request of this sender.
  [[nodiscard]] bool has_room(const client_address& from) noexcept {
    return end_ - first_ != slots_max && !is_full_for(from);
  }
  /// Returns false, having kept nothing, when the datagram is longer than a place or has_room() is
  /// false.
  [[nodiscard]] bool put(const client_address& from, std::uint64_t received_tsc, bool to_group,
                         std::span<const std::byte> datagram) noexcept {
    if (datagram.size() > waiting_request::size_max || !has_room(from)) return false;
    ++count_of(from);
    waiting_request& r = slots_[end_++ % slots_max];
    r.from = from;
    r.received_tsc = received_tsc;
    r.size = static_cast<std::uint16_t>(datagram.size());
    r.to_group = to_group;
    std::memcpy(r.data.data(), datagram.data(), datagram.size());
    return true;
  }
  /// Returns the request that has waited longest. It stays valid until pop().
  [[nodiscard]] const waiting_request& front() const noexcept { return slots_[first_ % slots_max]; }
  /// Forgets the request that has waited longest.
  void pop() noexcept {
    --count_of(front().from);
    ++first_;
    if (empty()) first_ = end_ = 0; // the places that are used again are in the cache
  }

 private:
  static constexpr std::uint32_t slots_max = 1024;
  static constexpr std::uint8_t per_sender_max = 16;

  [[nodiscard]] std::uint8_t& count_of(const client_address& from) noexcept {
    return counts_[hash_bytes(std::as_bytes(std::span(from.words)), seed_) % counts_.size()];
  }

  detail::lazy_array<waiting_request> slots_;
  std::array<std::uint8_t, 4096> counts_{}; ///< requests that wait, by the hash of their sender
  std::uint32_t first_ = 0, end_ = 0;
  std::uint64_t seed_ = 0;
};

} // namespace chainring::mqttsn
