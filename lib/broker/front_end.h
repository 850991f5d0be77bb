// SPDX-License-Identifier: BSD-3-Clause
/// The interface that a protocol implements to use the broker's core, and the types both sides use.
///
/// The core knows sessions, queues, topics and bursts. A front end knows octets, ids and clients.
/// It decodes what arrives and calls the worker (worker.h), which reports the outcome through this
/// interface. Both run on the lcore of one worker, so no other thread calls these functions.
///
/// A front end keeps what its protocol needs for a connection, indexed by session number. A number
/// belongs to one session from open_session() until the front end closes the session or closed() is
/// called.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "../message/message.h"

namespace chainring {

/// The session number of a sender without a session.
inline constexpr std::uint32_t no_session = 0xffffffff;
/// The value that stands for no topic number.
inline constexpr std::uint32_t no_topic = 0xffffffff;

/// The token of a call whose outcome does not matter; nothing is settled for it.
inline constexpr std::uint64_t no_token = UINT64_MAX;

/// The outcome of a call that was given a token.
enum class outcome : std::uint8_t {
  accepted,   ///< durable in the region's class once the mark of this burst is
  congestion, ///< refused by a limit or a full queue; the same call may succeed later
  too_long,   ///< refused finally, because no listener can deliver it
  /// There was no such subscription, no such message under way, or no will of which a part could be
  /// changed.
  not_found,
  /// The QoS 2 publish with this packet id has no outcome yet. Say nothing: its answer follows.
  repeated,
  /// What was to be stored lies in memory that was lost (media.h), so nothing was done that lasts.
  /// Say nothing to a client that asks again by itself, and close the connection of another one.
  lost,
};

/// The outcome of one call.
struct settlement {
  std::uint64_t token;
  chainring::outcome outcome;
};

/// What a front end says about a message that a session has not taken yet.
enum class carriage : std::uint8_t {
  possible,
  too_long, ///< the connection can never carry it
  denied,   ///< its client may not get it
};

/// The reason why the core ended a connection.
enum class close_reason : std::uint8_t {
  taken_over, ///< the same identity has connected again
  kicked,     ///< an operator ended the session
};

/// The content of a delivery: octets that are contiguous in memory, or a chain in the region. It is
/// valid during deliver() only.
class delivery_content {
 public:
  /// The octets of a QoS 0 copy.
  explicit delivery_content(std::span<const std::byte> octets) noexcept : octets_(octets) {
    if (octets.data() == nullptr) chain_ = message_cursor{};
  }
  /// Octets in one extent of the region.
  delivery_content(std::span<const std::byte> octets, const media& medium,
                   std::uint64_t losses) noexcept
      : octets_(octets), medium_(&medium), losses_(losses) {
    if (octets.data() == nullptr) [[unlikely]]
      chain_ = message_cursor{};
  }
  delivery_content(const message_cursor& at, const media& medium, std::uint64_t losses) noexcept
      : chain_(at), medium_(&medium), losses_(losses) {}

  [[nodiscard]] std::uint64_t size() const noexcept {
    return octets_.data() != nullptr ? octets_.size() : chain_.remaining();
  }
  /// Copies the whole content to `to`, which must have room for size() octets. Returns false when
  /// memory was lost meanwhile; the copy must then not be sent.
  [[nodiscard]] bool copy_out(void* to) const noexcept;

 private:
  std::span<const std::byte> octets_;
  // The chain is set where there are no octets. Otherwise nothing reads it, so it is not cleared.
  union {
    message_cursor chain_;
  };
  const media* medium_ = nullptr;
  /// The value of media::losses() before the content was verified, or before it was written.
  std::uint64_t losses_ = 0;
};

/// What a publisher has given beside the content of a message. It is valid during deliver() only.
struct message_extras {
  /// The properties as the publisher's front end has given them, which the core does not interpret.
  std::span<const std::byte> properties{};
  /// On the wall clock; 0 means that the message does not expire.
  std::uint64_t expires_ns = 0;
};

/// One message for one session.
struct delivery_item {
  /// Names the message in ack(), give_back() and skip(). 0 means QoS 0, which is settled when the
  /// front end takes it.
  std::uint64_t ticket = 0;
  std::uint8_t qos = 0;
  bool retain = false;
  /// The message may have been sent before, in this life or an earlier one.
  bool redelivered = false;
  /// The client has received this QoS 2 message, durably, and waits for PUBREL. Release it, and do
  /// not send it: the item has neither a topic nor content.
  bool released = false;
  std::uint8_t front_end_bits = 0; ///< the bits that were given with the subscription, 0 to 3
  std::uint32_t topic = no_topic;  ///< the worker's topic number; no_topic when none was free
  std::string_view name;
  delivery_content content{std::span<const std::byte>{}};
  /// Set for a message that was published with properties.
  const message_extras* extras = nullptr;
};

/// Returns the packet id under which a protocol with ids of 16 bits sends the message of that
/// ticket. Messages of the session's own queue have ids from 1 to 32767, which are the same after a
/// crash. Messages from groups of shared subscriptions have ids from 32768 on, each different from
/// those of the session's other messages under way.
[[nodiscard]] std::uint16_t delivery_packet_id(std::uint64_t ticket) noexcept;

class front_end {
 public:
  virtual ~front_end() = default;

  /// Returns how many more messages can be sent to this session now. The core leases no message
  /// without this credit.
  [[nodiscard]] virtual std::uint32_t credit(std::uint32_t session) const noexcept = 0;
  /// Returns how many more messages can be sent now, whichever sessions they are for: credit() of
  /// any session is at least that, less one for each message that was offered since. 0 says
  /// nothing. The core asks once for the messages of a burst, and for each session where this is
  /// used up.
  [[nodiscard]] virtual std::uint32_t credit_of_any() const noexcept { return 0; }
  /// Reports the outcomes of calls that were made in this burst. The front end answers its clients.
  virtual void settled(std::span<const settlement> all) noexcept = 0;
  /// Offers messages for a session, oldest first. Returns how many of them the front end took; the
  /// core offers the others again after resume(). A message that this connection can never carry
  /// must be skipped by worker.skip(), and counts as taken. The front end may call ack(), skip()
  /// and give_back() of the worker for these items.
  [[nodiscard]] virtual std::size_t deliver(std::uint32_t session,
                                            std::span<const delivery_item> items) noexcept = 0;
  /// Says whether the session can be given a message, before it takes one from a group at QoS 2.
  /// Once the mark of the burst that follows is durable, the message is that session's, also after
  /// a crash, and no other member gets it. The item has no ticket. The front end may close the
  /// session here.
  [[nodiscard]] virtual carriage may_take(std::uint32_t session,
                                          const delivery_item& item) noexcept {
    (void)session;
    (void)item;
    return carriage::possible;
  }
  /// Reports that a message which the session took and did not acknowledge was dropped by policy.
  /// The front end must send nothing more for it; an acknowledgement would be ignored.
  virtual void withdrawn(std::uint32_t session, std::uint64_t ticket) noexcept = 0;
  /// Reports that the core ended the connection. The number may belong to another session
  /// afterwards.
  virtual void closed(std::uint32_t session, close_reason reason) noexcept = 0;
};

} // namespace chainring
