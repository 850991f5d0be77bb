// SPDX-License-Identifier: BSD-3-Clause
/// What a protocol implements to be served by the broker's core, and the words both sides share.
///
/// The core knows sessions, queues, topics and bursts. A front end knows octets, ids and clients:
/// it decodes what arrives, calls the worker (worker.h), and is told here what came of it. Both
/// work on the lcore of one worker, so nothing here is called from another thread.
///
/// A front end keeps whatever its protocol needs for a connection, by session number. A number
/// belongs to one session from open_session() until the front end closes it or is told closed().
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "../message/message.h"

namespace chainring {

/// No session: of a sender that has none.
inline constexpr std::uint32_t no_session = 0xffffffff;
/// No topic number.
inline constexpr std::uint32_t no_topic = 0xffffffff;

/// What became of a call that was given a token.
enum class outcome : std::uint8_t {
  accepted,   ///< durable, in the region's class, behind the mark of this burst
  congestion, ///< a limit or a full queue: the same call may succeed later
  too_long,   ///< no listener could ever deliver it: refused for good
  not_found,  ///< unsubscribe: there was no such subscription
};

/// One answer of the core.
struct settlement {
  std::uint64_t token;
  chainring::outcome outcome;
};

/// Why the core ended a connection.
enum class close_reason : std::uint8_t {
  taken_over, ///< the same identity has connected anew
  kicked,     ///< by the operator
};

/// The content of a delivery: octets of a QoS 0 copy, or of a chain in the region. Valid during
/// deliver() only.
class delivery_content {
 public:
  explicit delivery_content(std::span<const std::byte> octets) noexcept : octets_(octets) {}
  delivery_content(const message_cursor& at, const media& on, std::uint64_t losses) noexcept
      : chain_(at), medium_(&on), losses_(losses) {}

  [[nodiscard]] std::uint64_t size() const noexcept {
    return medium_ == nullptr ? octets_.size() : chain_.remaining();
  }
  /// Copies all of it to `to`, which has room for size() octets. False: memory was lost meanwhile,
  /// and what was copied must not be sent.
  [[nodiscard]] bool copy_out(void* to) const noexcept;

 private:
  std::span<const std::byte> octets_;
  message_cursor chain_;
  const media* medium_ = nullptr;
  std::uint64_t losses_ = 0; ///< media::losses() before the content was verified
};

/// One message for one session.
struct delivery_item {
  std::uint64_t ticket =
      0; ///< names it in ack(), give_back() and skip(); 0: QoS 0, settled by taking it
  std::uint8_t qos = 0;
  bool retain = false;
  bool redelivered = false;        ///< it may have been sent before, in this life or an earlier one
  std::uint8_t front_end_bits = 0; ///< what the subscription was given, 0 to 3
  std::uint32_t topic = no_topic;  ///< topic number of this worker; no_topic: none was free
  std::string_view name;
  delivery_content content{std::span<const std::byte>{}};
};

class front_end {
 public:
  virtual ~front_end() = default;

  /// How many more messages can be sent to that session now. The core leases no message without
  /// this credit.
  [[nodiscard]] virtual std::uint32_t credit(std::uint32_t session) const noexcept = 0;
  /// What became of calls made in this burst: acknowledge, refuse, or say nothing.
  virtual void settled(std::span<const settlement> all) noexcept = 0;
  /// Messages for a session, oldest first. Returns how many of them were taken; the rest is offered
  /// again after resume(). One that this connection can never carry is to be passed over by
  /// worker.skip(), and counts as taken. May call the worker's ack(), skip() and give_back() for
  /// these items.
  [[nodiscard]] virtual std::size_t deliver(std::uint32_t session,
                                            std::span<const delivery_item> items) noexcept = 0;
  /// A message that the session took and has not acknowledged was given up by policy: nothing is to
  /// be sent for it any more, and an acknowledgement would be ignored.
  virtual void withdrawn(std::uint32_t session, std::uint64_t ticket) noexcept = 0;
  /// The core ended the connection. Its number may be another session's afterwards.
  virtual void closed(std::uint32_t session, close_reason reason) noexcept = 0;
};

} // namespace chainring
