// SPDX-License-Identifier: BSD-3-Clause
/// The wire format of MQTT 3.1.1 and MQTT 5.0: finding packets in a stream of octets, decoding
/// packets to messages and encoding messages.
///
/// Sources: "MQTT Version 3.1.1" (OASIS, 2014) and "MQTT Version 5.0" (OASIS, 2019), sections 2 and
/// 3 of both. All integers are big-endian on the wire and in host order in these structs.
///
/// **Framing.** find_frame() looks at the start of what a connection has received. It says whether
/// one whole packet is there, and how long it is or will be.
///
/// **Decoding** takes one whole packet and never reads past its end. It copies no text and no
/// payload: the strings, spans and lists of the message point into the packet and are valid as long
/// as it is. A packet that is decoded `ok` keeps every rule of the specification that it shows by
/// itself. A status other than `ok` says which kind of fault it has, and reason_for() gives the
/// reason code with which MQTT 5.0 answers it. MQTT 3.1.1 closes the connection for each of them.
///
/// **Encoding** writes one packet to the start of a buffer, with the shortest remaining length, and
/// returns the number of octets written. It returns 0 when the packet does not fit into the buffer,
/// when it is longer than `packet_size_max`, when a string is longer than 65,535 octets, and when
/// a subscription identifier is larger than `variable_integer_max`. It checks nothing else, so a
/// caller can encode a packet that a decoder refuses. What a version does not have (properties and
/// most reason codes in 3.1.1) is not written.
///
/// **The caller checks** what needs more than the packet:
/// - who sent it: a server sends no CONNECT, a client sends no Subscription Identifier in a PUBLISH
///   (MQTT-3.3.4-6), a server sends no Session Expiry Interval in a DISCONNECT (MQTT-3.14.2-2);
/// - the order of packets, packet identifiers in use, topic aliases above the agreed maximum;
/// - what it offers: QoS (0x9B), retain (0x9A), wildcards (0xA2), sizes (0x95), and whether it
///   takes an empty client id (3.1.1 answers it with 0x02 where clean session is 0, MQTT-3.1.3-8);
/// - the payload. Payload Format Indicator 1 promises UTF-8, and a receiver may check it with
///   valid_utf8() and answer 0x99. The decoder does not look at payloads.
///
/// All functions are thread-safe, allocate nothing, throw nothing and have no global state.
///
///     mqtt::frame f;
///     if (mqtt::find_frame(received, size_max, f) != mqtt::frame_status::ok) return wait(...);
///     mqtt::message in;
///     const auto status = mqtt::decode(version, received.first(f.size), in);
///     if (status != mqtt::decode_status::ok) return disconnect(mqtt::reason_for(status));
///     if (const auto* p = in.get<mqtt::publish>()) {
///       std::size_t n = mqtt::encode_puback(reply, version, {.packet_id = p->packet_id});
///     }
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <variant>

#include "../topic/topic.h"
#include "properties.h"
#include "values.h"

namespace chainring::mqtt {

// --- the packets, in the order of section 3 ------------------------------------------------------

/// The message that a server publishes when its client is gone.
struct will {
  std::string_view topic{};
  octets payload{};
  qos_level qos = qos_level::zero;
  bool retain = false;
  mqtt::properties properties{};
};
struct connect {
  static constexpr auto type = packet_type::connect;
  static constexpr const char* name = "CONNECT";
  bool clean_start = true; ///< MQTT 3.1.1 calls it Clean Session, and it means more there
  std::uint16_t keep_alive_s = 0;
  std::string_view client_id{};
  std::optional<mqtt::will> will{};
  std::optional<std::string_view> user_name{};
  std::optional<octets> password{}; ///< in MQTT 3.1.1 only with a user name
  mqtt::properties properties{};
};
struct connack {
  static constexpr auto type = packet_type::connack;
  static constexpr const char* name = "CONNACK";
  bool session_present = false;
  reason_code reason = reason_code::success;                       ///< of MQTT 5.0
  connect_return_code return_code = connect_return_code::accepted; ///< of MQTT 3.1.1
  mqtt::properties properties{};
};
struct publish {
  static constexpr auto type = packet_type::publish;
  static constexpr const char* name = "PUBLISH";
  bool dup = false; ///< false at QoS 0
  qos_level qos = qos_level::zero;
  bool retain = false;
  std::uint16_t packet_id = 0; ///< 0 at QoS 0, and not on the wire there
  std::string_view topic{};    ///< empty only where the properties have a topic alias
  octets payload{};
  mqtt::properties properties{};
};
struct puback {
  static constexpr auto type = packet_type::puback;
  static constexpr const char* name = "PUBACK";
  std::uint16_t packet_id = 0;
  reason_code reason = reason_code::success;
  mqtt::properties properties{};
};
struct pubrec {
  static constexpr auto type = packet_type::pubrec;
  static constexpr const char* name = "PUBREC";
  std::uint16_t packet_id = 0;
  reason_code reason = reason_code::success;
  mqtt::properties properties{};
};
struct pubrel {
  static constexpr auto type = packet_type::pubrel;
  static constexpr const char* name = "PUBREL";
  std::uint16_t packet_id = 0;
  reason_code reason = reason_code::success;
  mqtt::properties properties{};
};
struct pubcomp {
  static constexpr auto type = packet_type::pubcomp;
  static constexpr const char* name = "PUBCOMP";
  std::uint16_t packet_id = 0;
  reason_code reason = reason_code::success;
  mqtt::properties properties{};
};
struct subscribe {
  static constexpr auto type = packet_type::subscribe;
  static constexpr const char* name = "SUBSCRIBE";
  std::uint16_t packet_id = 0;
  subscription_list subscriptions{}; ///< at least one; each filter is valid
  mqtt::properties properties{};
};
/// One reason for each entry of the SUBSCRIBE, in its order.
struct suback {
  static constexpr auto type = packet_type::suback;
  static constexpr const char* name = "SUBACK";
  std::uint16_t packet_id = 0;
  reason_list reasons{}; ///< at least one
  mqtt::properties properties{};
};
struct unsubscribe {
  static constexpr auto type = packet_type::unsubscribe;
  static constexpr const char* name = "UNSUBSCRIBE";
  std::uint16_t packet_id = 0;
  filter_list filters{}; ///< at least one; each is valid
  mqtt::properties properties{};
};
/// One reason for each filter of the UNSUBSCRIBE, in its order. MQTT 3.1.1 has none.
struct unsuback {
  static constexpr auto type = packet_type::unsuback;
  static constexpr const char* name = "UNSUBACK";
  std::uint16_t packet_id = 0;
  reason_list reasons{}; ///< at least one in MQTT 5.0
  mqtt::properties properties{};
};
struct pingreq {
  static constexpr auto type = packet_type::pingreq;
  static constexpr const char* name = "PINGREQ";
};
struct pingresp {
  static constexpr auto type = packet_type::pingresp;
  static constexpr const char* name = "PINGRESP";
};
struct disconnect {
  static constexpr auto type = packet_type::disconnect;
  static constexpr const char* name = "DISCONNECT";
  reason_code reason = reason_code::normal_disconnection;
  mqtt::properties properties{};
};
/// Only of MQTT 5.0.
struct auth {
  static constexpr auto type = packet_type::auth;
  static constexpr const char* name = "AUTH";
  reason_code reason = reason_code::success;
  mqtt::properties properties{};
};

/// All packet types. The decoder's table, the encoder and the names use this list, so code that
/// lacks one of them does not compile.
template <class... Message> struct message_types {
  using body = std::variant<std::monostate, Message...>;
  /// Calls `fn.template operator()<Message>()` for each packet type.
  template <class F> static constexpr void for_each(F&& fn) {
    (fn.template operator()<Message>(), ...);
  }
};
using all_messages =
    message_types<publish, puback, pubrec, pubrel, pubcomp, connect, connack, subscribe, suback,
                  unsubscribe, unsuback, pingreq, pingresp, disconnect, auth>;
using message_body = all_messages::body;

struct message {
  packet_type type{};
  /// The protocol level by whose rules the packet was decoded. CONNECT states it itself, and it is
  /// 0 where the packet ends before or is refused before.
  std::uint8_t level = 0;
  message_body body;

  /// Returns the body if it is a T, else nullptr.
  template <class T> [[nodiscard]] const T* get() const noexcept { return std::get_if<T>(&body); }
};

// --- framing -------------------------------------------------------------------------------------

enum class frame_status : std::uint8_t {
  need_more, ///< the packet is not whole yet
  ok,        ///< the first `size` octets are one packet
  malformed, ///< no packet starts like this, whatever follows
  too_long,  ///< the packet is longer than the given size; `size` is set
};

/// The status as a word such as "need_more", which fits into the name of a counter.
[[nodiscard]] const char* to_string(frame_status status) noexcept;

/// Where a packet ends and what its fixed header says.
struct frame {
  packet_type type{};           ///< set as soon as there is an octet, unless it is malformed
  std::uint8_t flags = 0;       ///< the low four bits of the first octet
  std::uint8_t header_size = 0; ///< octets of the fixed header, 2 to 5; 0: not known yet
  std::size_t size = 0;         ///< octets of the whole packet; 0: not known yet
};

/// Looks for one packet at the start of `in`, which is what a connection has received.
///
/// `malformed` is a first octet that begins no packet of either version (the reserved type 0, a
/// wrong value of reserved flags, QoS 3, DUP at QoS 0), and a remaining length of more than four
/// octets. MQTT 5.0 also demands that the remaining length has the shortest form (MQTT-1.5.5-1),
/// and MQTT 3.1.1 does not; the frame is `ok` here and decode() refuses it for MQTT 5.0. AUTH is
/// also `ok` here, and decode() refuses it for MQTT 3.1.1.
///
/// `too_long` is known as soon as the fixed header is there. `size_max` counts the whole packet, as
/// Maximum Packet Size of MQTT 5.0 does.
[[nodiscard]] frame_status find_frame(octets in, std::size_t size_max, frame& out) noexcept;

// --- decoding ------------------------------------------------------------------------------------

enum class decode_status : std::uint8_t {
  ok,
  /// The octets are not one whole packet: find_frame() does not say `ok`, or a smaller size.
  not_one_packet,
  /// The packet cannot be parsed, or the specification calls it malformed (0x81).
  malformed,
  /// The packet can be parsed, and holds what the protocol does not allow (0x82).
  protocol_error,
  topic_alias_invalid, ///< the topic alias is 0 (0x94)
  /// CONNECT has another protocol name than "MQTT" (0x84). `level` is set where it has one.
  unknown_protocol,
  /// CONNECT has a protocol level other than 4 and 5 (0x84; 0x01 in MQTT 3.1.1). `level` is set.
  unknown_level,
};
inline constexpr std::size_t decode_status_count = 7;

/// The status as a word such as "protocol_error", which fits into the name of a counter.
[[nodiscard]] const char* to_string(decode_status status) noexcept;

/// The reason code with which MQTT 5.0 answers the fault, in DISCONNECT or CONNACK. For `ok` it is
/// `success`.
[[nodiscard]] reason_code reason_for(decode_status status) noexcept;

/// Decodes the packet that fills `packet` into `out`, whose views then point into `packet`. CONNECT
/// is decoded by the rules of the version that it states, whatever `v` is, and `out.level` tells
/// it. With any status except ok, the body is empty.
///
/// These faults are `malformed`: reserved bits, fields that end behind the packet or before its
/// end, text that is not UTF-8 or holds U+0000, topic names that are empty or hold wildcards, topic
/// filters that are not valid (in MQTT 5.0 also those of shared subscriptions), a will QoS or flags
/// that contradict each other, a password without user name in MQTT 3.1.1, properties that the
/// packet may not have, and AUTH in MQTT 3.1.1.
///
/// These are `protocol_error`: packet identifier 0, a property that comes twice or has a value out
/// of its range, an empty topic without alias in MQTT 5.0, authentication data without method, AUTH
/// with properties and no method, a list without items, QoS or retain handling 3 in a subscription
/// (QoS 3 is `malformed` in MQTT 3.1.1), No Local on a shared subscription, a reason code that the
/// packet may not have, and a session that is present although CONNACK refuses.
[[nodiscard]] decode_status decode(version v, octets packet, message& out) noexcept;

/// Decodes the octets of a property section, without its length, by the rules of a packet of this
/// type. `out.raw` is `section`. A caller that stored properties::raw reads it with this.
[[nodiscard]] decode_status decode_properties(packet_type type, octets section,
                                              properties& out) noexcept;
/// The same for the properties of a will.
[[nodiscard]] decode_status decode_will_properties(octets section, properties& out) noexcept;

// --- encoding ------------------------------------------------------------------------------------

std::size_t encode_connect(std::span<std::byte> to, version v, const connect& m) noexcept;
std::size_t encode_connack(std::span<std::byte> to, version v, const connack& m) noexcept;
std::size_t encode_publish(std::span<std::byte> to, version v, const publish& m) noexcept;
/// PUBACK, PUBREC, PUBREL, PUBCOMP and DISCONNECT are written in their shortest form: without
/// properties where there are none, and then without the reason code where it is 0x00.
std::size_t encode_puback(std::span<std::byte> to, version v, const puback& m) noexcept;
std::size_t encode_pubrec(std::span<std::byte> to, version v, const pubrec& m) noexcept;
std::size_t encode_pubrel(std::span<std::byte> to, version v, const pubrel& m) noexcept;
std::size_t encode_pubcomp(std::span<std::byte> to, version v, const pubcomp& m) noexcept;
std::size_t encode_subscribe(std::span<std::byte> to, version v, const subscribe& m) noexcept;
std::size_t encode_suback(std::span<std::byte> to, version v, const suback& m) noexcept;
std::size_t encode_unsubscribe(std::span<std::byte> to, version v, const unsubscribe& m) noexcept;
std::size_t encode_unsuback(std::span<std::byte> to, version v, const unsuback& m) noexcept;
std::size_t encode_pingreq(std::span<std::byte> to, version v, const pingreq& m = {}) noexcept;
std::size_t encode_pingresp(std::span<std::byte> to, version v, const pingresp& m = {}) noexcept;
std::size_t encode_disconnect(std::span<std::byte> to, version v,
                              const disconnect& m = {}) noexcept;
/// Returns 0 for MQTT 3.1.1, which has no AUTH.
std::size_t encode_auth(std::span<std::byte> to, version v, const auth& m) noexcept;

/// The number of octets that encode_publish_header() writes, or 0 when it would return 0 whatever
/// the room.
[[nodiscard]] std::size_t publish_header_size(version v, const publish& m,
                                              std::size_t payload_size) noexcept;

/// Writes only the header of a PUBLISH (the fixed header, the variable header and the properties),
/// whose payload of `payload_size` octets the caller puts behind it; `m.payload` is not used.
/// Returns the number of octets of the header, which is all that must fit.
std::size_t encode_publish_header(std::span<std::byte> to, version v, const publish& m,
                                  std::size_t payload_size) noexcept;

/// Writes a PUBACK, PUBREC, PUBREL or PUBCOMP with reason Success and without properties, which has
/// the same four octets in both versions, to `to`, which has room for them. It writes what the
/// encoder of this type writes, in one store.
inline void write_ack(std::byte* to, packet_type type, std::uint16_t packet_id) noexcept {
  static_assert(std::endian::native == std::endian::little);
  const std::uint32_t flags = type == packet_type::pubrel ? 2 : 0;
  const std::uint32_t first = static_cast<std::uint32_t>(type) << 4 | flags;
  const auto id = static_cast<std::uint16_t>(packet_id << 8 | packet_id >> 8);
  const std::uint32_t word = first | 2u << 8 | std::uint32_t{id} << 16;
  std::memcpy(to, &word, 4);
}

/// Encodes the message in the body, whatever its type. Returns 0 for an empty body.
std::size_t encode(std::span<std::byte> to, version v, const message_body& body) noexcept;

/// Writes a property section without its length, in the order of the identifiers and with the user
/// properties last. Returns the number of octets written, which is 0 also where nothing is present.
std::size_t encode_properties(std::span<std::byte> to, const properties& p) noexcept;
/// The number of octets that encode_properties() writes, or nothing where a value cannot be
/// expressed.
[[nodiscard]] std::optional<std::size_t> properties_size(const properties& p) noexcept;

} // namespace chainring::mqtt
