// SPDX-License-Identifier: BSD-3-Clause
/// The state that the workers of one broker have in common. Internal to the broker.
#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "base/lazy_array.h"
#include "base/spin_lock.h"
#include "base/value_ring.h"
#include "broker/broker.h"
#include "broker/declined.h"
#include "broker/groups.h"
#include "broker/identity_key.h"
#include "broker/retained.h"
#include "broker/session.h"
#include "broker/store.h"
#include "broker/volatile_pool.h"
#include "map/seq_map.h"
#include "message/compactor.h"
#include "topic/filter_index.h"

namespace chainring {

/// A QoS 0 delivery for a session whose home is another worker.
struct volatile_parcel {
  std::uint32_t message;
  std::uint32_t session;
  std::uint32_t incarnation;
  std::uint32_t bits;
};

/// A request of an operator to the home of a session. It names the identity, because the session's
/// number may belong to another session when the request is read.
struct operator_request {
  enum class kind : std::uint8_t { kick, clear_queue, clear_retained } what;
  std::string identity; ///< for clear_retained: the topic
  std::shared_ptr<operator_reply> reply;
};

/// What other threads leave for one worker.
struct worker_inbox {
  /// The head of the list of woken sessions. Each session is in the list at most once; its
  /// next_woken is the session that was woken before it.
  alignas(cacheline_size) std::atomic<std::uint32_t> woken{session::none};
  value_ring parcels;             ///< holds volatile_parcels
  std::atomic<bool> asked{false}; ///< set when there are requests
  spin_lock requests_lock;
  std::vector<operator_request> requests;
};

struct broker::common_state {
  broker_config config;
  std::unique_ptr<chainring::region> opened_region;
  std::unique_ptr<store> state;
  std::unique_ptr<message_compactor> compactor; ///< while there is something to move
  mutable spin_lock compacted_lock;             ///< protects the two below
  compactor_statistics compacted;               ///< of the compactors that are gone
  compactor_statistics compacted_now;           ///< of the present one
  open_summary opened;

  std::unique_ptr<filter_index> filters;
  std::unique_ptr<seq_map<identity_key, std::uint32_t>>
      identities; ///< maps an identity to its session
  std::array<std::uint64_t, 2> identity_seeds{};
  /// How many sessions each source has; nullptr when there is no limit.
  std::unique_ptr<seq_map<std::uint64_t, std::uint32_t>> sources;
  std::uint64_t home_seed = 0;
  detail::lazy_array<session> sessions;
  std::uint32_t sessions_limit = 0; ///< how far the table can grow
  /// The most sessions that one worker is the home of: see broker::sessions_per_worker().
  std::uint32_t sessions_per_worker = 0;
  group_directory groups;
  declined_messages declined;
  std::unique_ptr<volatile_pool> volatiles;
  std::unique_ptr<retained_table> retained;
  broker_observer observer = nullptr;
  void* observer_context = nullptr;

  std::atomic<bool> draining{false};              ///< see broker::set_draining()
  std::atomic<std::uint32_t> session_expiry_s{0}; ///< see broker::set_session_expiry()

  spin_lock free_lock;
  std::vector<std::uint32_t> free_sessions;

  std::vector<std::unique_ptr<worker_inbox>> inboxes;
  std::vector<std::unique_ptr<broker_worker>> workers;

  [[nodiscard]] bool add_member(std::uint32_t session, std::string_view filter,
                                std::uint32_t options);
  [[nodiscard]] unsigned home_of(std::string_view identity) const noexcept;
  /// What operators are shown about a session; nothing when the number is free. Any thread may call
  /// it.
  [[nodiscard]] std::optional<session_info> info_of(std::uint32_t number) const;
  [[nodiscard]] identity_key key_of(std::string_view identity) const noexcept {
    return {identity, identity_seeds};
  }
  /// Puts the session into its home's list of woken sessions. Any thread may call it.
  void wake(std::uint32_t number) noexcept;
};

} // namespace chainring
