// SPDX-License-Identifier: BSD-3-Clause
/// What operators see of a broker, and what becomes of their requests.
///
/// Ordering labels:
///   [reply-done]  The home of a session stores `done` with release, behind the results of the
///     request; pairs with [reply-read].
///   [reply-read]  Whoever waits for a reply loads `done` with acquire before the results; pairs
///     with [reply-done].
///   [run-time-setting]  A setting that an operator changes counts for what begins later; the
///     access orders nothing.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>

#include "../base/client_address.h"

namespace chainring {

/// What operators are shown about a session.
struct session_info {
  std::uint32_t number = 0;
  std::string identity;     ///< chosen by the client: escape it before it is shown
  client_address address{}; ///< given by the front end; 0 means not connected
  bool connected = false;
  bool ends_with_connection = false;
  unsigned home = 0;
  std::uint16_t keep_alive_s = 0;
  std::uint32_t expiry_s = 0;        ///< 0 means the broker's setting
  std::uint64_t disconnected_ns = 0; ///< on the wall clock; 0 means connected or not known
  std::uint32_t subscriptions = 0;
  std::uint64_t queue_depth = 0, queue_capacity = 0;
  std::uint64_t queue_bytes = 0;         ///< of the queued messages; 0 without a limit of bytes
  std::uint64_t over_bytes = 0;          ///< of the drops and refusals, those by that limit
  std::uint64_t queue_high_water = 0;    ///< over all rings that the queue had in this life
  std::uint64_t queue_limit = 0;         ///< how many messages the queue may grow to
  std::uint64_t oldest_published_ns = 0; ///< of the oldest queued message; 0: the queue is empty
  std::uint64_t refused = 0;             ///< messages that its full queue refused in this life
  std::uint64_t dropped_newest = 0, dropped_oldest = 0; ///< messages that its full queue dropped
  std::uint64_t dropped_qos0 = 0;     ///< QoS 0 messages for which there was no room
  std::uint64_t expired_messages = 0; ///< messages that expired before they were sent to its client
  std::uint64_t published = 0;        ///< messages that its client has sent in this life
  std::uint64_t delivered = 0;        ///< messages that were sent to its client in this life
};

/// A subscription of a session.
struct subscription_info {
  std::string filter;
  std::uint8_t qos = 0;
  std::uint32_t identifier = 0; ///< given by its client; 0 means none
};

/// What became of an operator's request to the home of a session.
struct operator_reply {
  /// True once the request was handled; the other members are constant from then on.
  [[nodiscard]] bool done() const noexcept {
    // [reply-read] Without it a thread could read the results before they are stored.
    return done_.load(std::memory_order_acquire);
  }
  bool found = false; ///< the session still existed
  bool connected = false;
  std::uint32_t subscriptions = 0; ///< how many were deleted
  std::uint64_t messages = 0;      ///< how many were dropped from the queue
  /// The home calls it once, after it has set the other members.
  void finish() noexcept {
    // [reply-done] Without it whoever waits could see the request as done with old results.
    done_.store(true, std::memory_order_release);
  }

 private:
  std::atomic<bool> done_{false};
};

/// A filter, and how many sessions subscribe to it.
struct topic_info {
  std::string filter;
  std::uint32_t subscriptions = 0;
};

/// What operators are shown about a retained message.
struct retained_info {
  std::string topic;              ///< chosen by a client: escape it before it is shown
  std::uint32_t size = 0;         ///< octets of its content
  std::uint8_t qos = 0;           ///< at which it was published
  std::uint64_t published_ns = 0; ///< on the wall clock
};

struct retained_statistics {
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0; ///< of the blocks of all messages that the table names
  std::uint64_t messages_max = 0, bytes_max = 0;
};

} // namespace chainring
