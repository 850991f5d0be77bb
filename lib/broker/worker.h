// SPDX-License-Identifier: BSD-3-Clause
/// What a front end calls: one worker of the broker, which is one lcore's part of it.
///
/// Calls stage; end_burst() makes everything staged durable at once and says what became of it. A
/// burst costs two drains whatever is in it, and two more where sessions ended or started anew.
/// ```
/// worker.publish(session, topic, content, {.qos = 1}, token);   // any number of calls
/// const mark_t mark = worker.end_burst(); // front_end::settled(), front_end::deliver()
/// transport.release(mark);                // what was answered leaves behind the mark
/// ```
/// Thread-safety: one thread a worker, the same one for all calls. A session belongs to the worker
/// that broker::home_of(identity) names, and is opened and served there only.
/// Durability: what was settled as `accepted` is durable, in the region's class, once the mark that
/// end_burst() returned is; nothing may be answered before.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "../media/media.h"
#include "front_end.h"

namespace chainring {

class broker;
class topic_names;

/// What a session is to be.
struct session_options {
  /// Subscriptions and queue of an earlier life are not wanted.
  bool clean_start = false;
  /// The session ends with its connection, and at the next open of the region.
  bool ends_with_connection = false;
  /// Seconds after the end of the connection at which the session ends; 0: the broker's setting.
  std::uint32_t expiry_s = 0;
  /// QoS 1 and 2 messages that may be on their way at one time.
  std::uint16_t window = 1;
  std::uint16_t keep_alive_s = 0; ///< shown to operators; the front end acts on it
  std::uint64_t address = 0;      ///< shown to operators: where the client is
};

enum class open_status : std::uint8_t {
  opening,    ///< settled(token) follows
  congestion, ///< no free session: nothing was done, and nothing follows
  refused,    ///< no octets, too many, or another worker's: nothing was done
};

struct opened_session {
  open_status status = open_status::refused;
  std::uint32_t session = no_session;
  bool present = false; ///< there was a session of that identity, and it goes on
};

struct publish_options {
  std::uint8_t qos = 0;
  bool retain = false;
  std::uint16_t packet_id = 0;
};

struct subscribe_options {
  std::uint8_t qos = 0;            ///< highest QoS to deliver at, 0 or 1 so far
  std::uint8_t front_end_bits = 0; ///< 0 to 3: handed back with every delivery
  std::uint32_t identifier = 0;    ///< kept for the front end, 0 to 268,435,455
};

class broker_worker {
 public:
  ~broker_worker();
  broker_worker(const broker_worker&) = delete;
  broker_worker& operator=(const broker_worker&) = delete;

  // --- sessions ---------------------------------------------------------------------------------

  /// Opens the session of that identity for `by`, which serves it from here on. Another connection
  /// of the same identity ends first, and its front end is told closed(). Identity: 1 to 65,535
  /// octets.
  [[nodiscard]] opened_session open_session(front_end& by, std::string_view identity,
                                            const session_options& options,
                                            std::uint64_t token) noexcept;
  enum class end_reason : std::uint8_t {
    client, ///< the client's own wish
    lost,   ///< the front end gave it up: silent, or without an answer
  };
  /// Ends the connection at the front end's own wish; closed() is not called for it.
  void close_session(std::uint32_t session, end_reason reason = end_reason::client) noexcept;
  /// Whether that session is open here and of that identity.
  [[nodiscard]] bool serves(std::uint32_t session, std::string_view identity) const noexcept;
  /// Messages that deliver() left, or that were held up for any other reason, are offered again.
  void resume(std::uint32_t session) noexcept;

  // --- topics -----------------------------------------------------------------------------------

  /// The topic names of this worker: a number stays the name's while it is held.
  [[nodiscard]] topic_names& topics() noexcept;

  // --- messages in ------------------------------------------------------------------------------

  /// Stages a message. `from`: who sends it, or no_session. QoS 1: settled(token) follows, and the
  /// content is copied. QoS 0: it is handed on at once, and nothing follows.
  void publish(front_end& by, std::uint32_t from, std::uint32_t topic,
               std::span<const std::byte> content, const publish_options& options,
               std::uint64_t token) noexcept;
  /// Adds or replaces a subscription: settled(token) follows.
  void subscribe(std::uint32_t session, std::string_view filter, const subscribe_options& options,
                 std::uint64_t token) noexcept;
  /// Ends one: settled(token) follows.
  void unsubscribe(std::uint32_t session, std::string_view filter, std::uint64_t token) noexcept;

  // --- messages out -----------------------------------------------------------------------------

  enum class ack_reason : std::uint8_t {
    delivered, ///< by the client's acknowledgement
    refused,   ///< the client will never take it: settled, counted and passed
  };
  /// The message is done with; durable with this burst. An unknown ticket is ignored.
  void ack(std::uint32_t session, std::uint64_t ticket,
           ack_reason reason = ack_reason::delivered) noexcept;
  /// Not now: it is offered again, as redelivered, after resume() or at once if not paused.
  void give_back(std::uint32_t session, std::uint64_t ticket) noexcept;
  /// This connection can never carry it. It stays in the queue, and the session's next connection
  /// is offered it again.
  void skip(std::uint32_t session, std::uint64_t ticket) noexcept;

  /// For operators: a message of `size` octets was skipped, the connection carries `limit`.
  void report_too_long(std::uint32_t session, std::uint64_t size, std::uint64_t limit) noexcept;

  // --- the burst --------------------------------------------------------------------------------

  /// Makes everything staged durable, settles it and delivers. Also does what other workers,
  /// operators and the clock left to do. Returns the mark behind which what was answered may leave.
  [[nodiscard]] mark_t end_burst() noexcept;
  /// Whether the last end_burst() found anything to do.
  [[nodiscard]] bool worked() const noexcept;
  [[nodiscard]] unsigned number() const noexcept;

 private:
  friend class broker;
  struct state;
  explicit broker_worker(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

} // namespace chainring
