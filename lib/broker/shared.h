// SPDX-License-Identifier: BSD-3-Clause
/// What the workers of one broker share. Internal to the broker.
#pragma once
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/lazy_array.h"
#include "base/spin_lock.h"
#include "base/value_ring.h"
#include "broker/broker.h"
#include "broker/session.h"
#include "broker/store.h"
#include "broker/volatile_pool.h"
#include "map/map_hash.h"
#include "map/seq_map.h"
#include "topic/filter_index.h"

namespace chainring {

/// An identity as a key: its octets where it is short, else two hashes with seeds of their own.
struct identity_key {
  std::array<char, 24> octets{};
  std::uint64_t size = 0;
  identity_key() = default;
  identity_key(std::string_view identity, const std::array<std::uint64_t, 2>& seeds) noexcept
      : size(identity.size()) {
    if (identity.size() <= octets.size()) {
      std::memcpy(octets.data(), identity.data(), identity.size());
      return;
    }
    const auto bytes = std::as_bytes(std::span(identity.data(), identity.size()));
    const std::uint64_t hashes[2] = {hash_bytes(bytes, seeds[0]), hash_bytes(bytes, seeds[1])};
    std::memcpy(octets.data(), hashes, sizeof hashes);
  }
  bool operator==(const identity_key&) const = default;
};

/// A QoS 0 delivery for a session whose home is another worker.
struct volatile_parcel {
  std::uint32_t message;
  std::uint32_t session;
  std::uint32_t incarnation;
  std::uint32_t bits;
};

/// What an operator asks of a session's home. It names the identity, because the session's number
/// may be another session's when the request is read.
struct operator_request {
  enum class kind : std::uint8_t { kick, clear_queue } what;
  std::string identity;
};

/// What other threads leave for one worker.
struct worker_inbox {
  /// The session woken last, whose next_woken is the one before it: each is in it once.
  alignas(cacheline_size) std::atomic<std::uint32_t> woken{session::none};
  value_ring parcels;             ///< volatile_parcel
  std::atomic<bool> asked{false}; ///< there are requests
  spin_lock requests_lock;
  std::vector<operator_request> requests;
};

struct broker::shared {
  broker_config config;
  std::unique_ptr<chainring::region> on;
  std::unique_ptr<store> state;
  open_summary opened;

  std::unique_ptr<filter_index> filters;
  std::unique_ptr<seq_map<identity_key, std::uint32_t>> identities; ///< identity -> session
  std::array<std::uint64_t, 2> identity_seeds{};
  std::uint64_t home_seed = 0;
  detail::lazy_array<session> sessions;
  std::uint32_t sessions_limit = 0; ///< as far as the table can grow
  std::unique_ptr<volatile_pool> volatiles;
  broker_observer observer = nullptr;
  void* observer_context = nullptr;

  spin_lock free_lock;
  std::vector<std::uint32_t> free_sessions;

  std::vector<std::unique_ptr<worker_inbox>> inboxes;
  std::vector<std::unique_ptr<broker_worker>> workers;

  [[nodiscard]] unsigned home_of(std::string_view identity) const noexcept;
  [[nodiscard]] identity_key key_of(std::string_view identity) const noexcept {
    return {identity, identity_seeds};
  }
  /// Tells a session's home that there is something to look at. Any thread.
  void wake(std::uint32_t number) noexcept;
};

} // namespace chainring
