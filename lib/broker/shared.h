// SPDX-License-Identifier: BSD-3-Clause
/// What the workers of one broker share. Internal to the broker.
#pragma once
#include <array>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/broker.h"
#include "topic/filter_index.h"
#include "broker/session.h"
#include "broker/store.h"
#include "broker/volatile_pool.h"
#include "map/seq_map.h"

struct rte_ring;

namespace chainring {

/// A client id as a key: zero behind its end.
struct client_key {
  std::array<char, 24> id{};
  explicit client_key(std::string_view text = {}) noexcept {
    for (std::size_t i = 0; i < text.size() && i < id.size(); ++i)
      id[i] = text[i];
  }
  [[nodiscard]] std::string_view text() const noexcept {
    std::size_t n = 0;
    while (n < id.size() && id[n] != 0)
      ++n;
    return {id.data(), n};
  }
  bool operator==(const client_key&) const = default;
};

/// An rte_ring of small values in memory of its own: works without EAL.
class value_ring {
 public:
  value_ring() = default;
  value_ring(std::uint32_t capacity, unsigned element_size, unsigned flags);
  [[nodiscard]] bool push(const void* value) noexcept;
  [[nodiscard]] bool pop(void* value) noexcept;
  [[nodiscard]] bool empty() const noexcept;

 private:
  struct freer {
    void operator()(rte_ring* r) const noexcept;
  };
  std::unique_ptr<rte_ring, freer> ring_;
  unsigned element_size_ = 0;
};

/// A QoS 0 delivery for a session whose home is another worker.
struct volatile_parcel {
  std::uint32_t message;
  std::uint32_t session;
  std::uint32_t incarnation;
  std::uint32_t bits;
};

/// What other workers leave for one.
struct worker_inbox {
  value_ring woken;   ///< session numbers whose queue has something new, or that are to be closed
  value_ring parcels; ///< volatile_parcel
};

struct broker::shared {
  broker_config config;
  std::unique_ptr<chainring::region> on;
  std::unique_ptr<store> state;
  open_summary opened;

  std::unique_ptr<filter_index> filters;
  std::unique_ptr<seq_map<std::uint64_t, std::uint32_t>> addresses; ///< client_address -> session
  std::unique_ptr<seq_map<client_key, std::uint32_t>> clients;      ///< client id -> session
  std::unique_ptr<session[]> sessions;
  std::uint32_t sessions_max = 0;
  std::unordered_map<std::uint16_t, std::string> predefined_names; ///< constant after open
  std::unordered_map<std::string_view, std::uint16_t> predefined_ids;
  std::unique_ptr<volatile_pool> volatiles;

  std::mutex free_lock;
  std::vector<std::uint32_t> free_sessions;

  std::vector<std::unique_ptr<worker_inbox>> inboxes;
  std::vector<std::unique_ptr<broker_worker>> workers;

  /// The home of a client id, for all of this process's life.
  [[nodiscard]] unsigned home_of(std::string_view client_id) const noexcept;
};

} // namespace chainring
