// SPDX-License-Identifier: BSD-3-Clause
/// The wire format of MQTT-SN 1.2: decoding datagrams to messages and encoding messages.
///
/// Source: "MQTT For Sensor Networks (MQTT-SN) Protocol Specification, Version 1.2" (IBM, 2013),
/// sections 5.2 to 5.5. All integers are big-endian on the wire and in host order in these structs.
///
/// **Decoding** takes one datagram, which holds one message, and never reads past its end. It
/// copies no text and no payload: the strings and spans of the message point into the datagram and
/// are valid as long as it is. The length field may have one octet or three (0x01 and 16 bits) for
/// any size.
///
/// **Encoding** writes one message to the start of a buffer, with the shortest length field, and
/// returns the number of octets written. It returns 0 when the message does not fit into the buffer
/// or into the 65,535 octets of the length field. It checks nothing but the size, so a caller can
/// encode a message that a decoder refuses.
///
/// **The caller checks** what the protocol has an answer for: empty or malformed client ids and
/// topics (valid_client_id(), topic.h), ids that are reserved or unknown, reserved return codes,
/// and message id 0. It also checks PUBLISH at QoS -1 with a topic id of type `normal`. The
/// specification forbids that combination, and some clients use it to put a name in front of the
/// data, with the length of the name as the topic id. It decodes like any PUBLISH, and the caller
/// refuses or splits it.
///
/// All functions are thread-safe, allocate nothing, throw nothing and have no global state.
/// Decoding PUBLISH or PUBACK takes a few predictable branches.
///
///     mqttsn::message in;
///     if (mqttsn::decode(datagram, in) != mqttsn::decode_status::ok) return count(...);
///     if (const auto* p = in.get<mqttsn::publish>()) {
///       std::size_t n = mqttsn::encode_puback(reply, {.topic_id = p->topic_id,
///                                                     .msg_id = p->msg_id});
///     }
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <variant>

#include "../topic/topic.h"

namespace chainring::mqttsn {

/// The message types of table 3.
enum class message_type : std::uint8_t {
  advertise = 0x00,
  searchgw = 0x01,
  gwinfo = 0x02,
  connect = 0x04,
  connack = 0x05,
  willtopicreq = 0x06,
  willtopic = 0x07,
  willmsgreq = 0x08,
  willmsg = 0x09,
  register_topic = 0x0A,
  regack = 0x0B,
  publish = 0x0C,
  puback = 0x0D,
  pubcomp = 0x0E,
  pubrec = 0x0F,
  pubrel = 0x10,
  subscribe = 0x12,
  suback = 0x13,
  unsubscribe = 0x14,
  unsuback = 0x15,
  pingreq = 0x16,
  pingresp = 0x17,
  disconnect = 0x18,
  willtopicupd = 0x1A,
  willtopicresp = 0x1B,
  willmsgupd = 0x1C,
  willmsgresp = 0x1D,
  encapsulated = 0xFE,
};

/// The specification's name, such as "PUBLISH", or "reserved" for a value that it does not define.
[[nodiscard]] const char* to_string(message_type type) noexcept;

/// The return codes of table 5. Values from 4 on are reserved; they are decoded as they are.
enum class return_code : std::uint8_t {
  accepted = 0,
  congestion = 1,
  invalid_topic_id = 2,
  not_supported = 3,
};

/// Returns a phrase such as "rejected: congestion".
[[nodiscard]] const char* to_string(return_code code) noexcept;

/// The two QoS bits of the flags octet. Only a PUBLISH from a client may have `minus_one`.
enum class qos_level : std::uint8_t { zero = 0, one = 1, two = 2, minus_one = 3 };

/// The type of a topic id. In SUBSCRIBE and UNSUBSCRIBE, `normal` means that a name takes its
/// place.
enum class topic_id_type : std::uint8_t {
  normal = 0,
  predefined = 1,
  short_name = 2,
  reserved = 3
};

/// The flags octet (table 4). Which of its flags have a meaning depends on the message.
struct flags {
  std::uint8_t octet = 0;

  [[nodiscard]] constexpr bool dup() const noexcept { return (octet & 0x80) != 0; }
  [[nodiscard]] constexpr qos_level qos() const noexcept { return qos_level((octet >> 5) & 3); }
  [[nodiscard]] constexpr bool retain() const noexcept { return (octet & 0x10) != 0; }
  [[nodiscard]] constexpr bool will() const noexcept { return (octet & 0x08) != 0; }
  [[nodiscard]] constexpr bool clean() const noexcept { return (octet & 0x04) != 0; }
  [[nodiscard]] constexpr topic_id_type topic_type() const noexcept {
    return topic_id_type(octet & 3);
  }

  [[nodiscard]] constexpr flags with_dup(bool on = true) const noexcept { return with(0x80, on); }
  [[nodiscard]] constexpr flags with_qos(qos_level level) const noexcept {
    return {static_cast<std::uint8_t>((octet & ~0x60) | (static_cast<unsigned>(level) << 5))};
  }
  [[nodiscard]] constexpr flags with_retain(bool on = true) const noexcept {
    return with(0x10, on);
  }
  [[nodiscard]] constexpr flags with_will(bool on = true) const noexcept { return with(0x08, on); }
  [[nodiscard]] constexpr flags with_clean(bool on = true) const noexcept { return with(0x04, on); }
  [[nodiscard]] constexpr flags with_topic_type(topic_id_type type) const noexcept {
    return {static_cast<std::uint8_t>((octet & ~3) | static_cast<unsigned>(type))};
  }

  friend constexpr bool operator==(flags, flags) noexcept = default;

 private:
  [[nodiscard]] constexpr flags with(unsigned bit, bool on) const noexcept {
    return {static_cast<std::uint8_t>(on ? octet | bit : octet & ~bit)};
  }
};

/// The only ProtocolId that the specification defines.
inline constexpr std::uint8_t protocol_id = 0x01;
/// The longest message that the length field can express, in octets.
inline constexpr std::size_t message_size_max = 65535;
/// The longest client id, in characters (section 5.3.1).
inline constexpr std::size_t client_id_size_max = 23;
/// The largest number of octets that encode_publish_header() writes.
inline constexpr std::size_t publish_header_size_max = 9;
/// The topic ids that are never assigned.
inline constexpr std::uint16_t topic_id_none = 0x0000, topic_id_last = 0xFFFF;

[[nodiscard]] constexpr bool valid_topic_id(std::uint16_t id) noexcept {
  return id != topic_id_none && id != topic_id_last;
}

/// True for 1 to 23 characters of valid UTF-8 without NUL.
[[nodiscard]] bool valid_client_id(std::string_view id) noexcept;

/// The topic id that carries a short topic name. `name` must have exactly two octets.
[[nodiscard]] constexpr std::uint16_t short_topic_id(std::string_view name) noexcept {
  return static_cast<std::uint16_t>(static_cast<std::uint8_t>(name[0]) << 8 |
                                    static_cast<std::uint8_t>(name[1]));
}
/// The two octets of the short topic name that `id` carries.
[[nodiscard]] constexpr std::array<char, 2> short_topic_name(std::uint16_t id) noexcept {
  return {static_cast<char>(id >> 8), static_cast<char>(id & 0xFF)};
}

using octets = std::span<const std::byte>;

// --- the messages, in the order of section 5.4 ---------------------------------------------------

struct advertise {
  static constexpr auto type = message_type::advertise;
  static constexpr const char* name = "ADVERTISE";
  std::uint8_t gw_id = 0;
  std::uint16_t duration_s = 0;
};
struct searchgw {
  static constexpr auto type = message_type::searchgw;
  static constexpr const char* name = "SEARCHGW";
  std::uint8_t radius = 0;
};
struct gwinfo {
  static constexpr auto type = message_type::gwinfo;
  static constexpr const char* name = "GWINFO";
  std::uint8_t gw_id = 0;
  octets gw_address{}; ///< empty, unless a client answers for a gateway
};
struct connect {
  static constexpr auto type = message_type::connect;
  static constexpr const char* name = "CONNECT";
  mqttsn::flags flags{};
  std::uint8_t protocol = protocol_id;
  std::uint16_t keep_alive_s = 0;
  std::string_view client_id{};
};
struct connack {
  static constexpr auto type = message_type::connack;
  static constexpr const char* name = "CONNACK";
  return_code code = return_code::accepted;
};
struct willtopicreq {
  static constexpr auto type = message_type::willtopicreq;
  static constexpr const char* name = "WILLTOPICREQ";
};
/// `erase` stands for the specification's "empty WILLTOPIC message", which has neither flags nor
/// topic.
struct willtopic {
  static constexpr auto type = message_type::willtopic;
  static constexpr const char* name = "WILLTOPIC";
  mqttsn::flags flags{};
  std::string_view topic{};
  bool erase = false;
};
struct willmsgreq {
  static constexpr auto type = message_type::willmsgreq;
  static constexpr const char* name = "WILLMSGREQ";
};
struct willmsg {
  static constexpr auto type = message_type::willmsg;
  static constexpr const char* name = "WILLMSG";
  octets data{};
};
struct register_topic {
  static constexpr auto type = message_type::register_topic;
  static constexpr const char* name = "REGISTER";
  std::uint16_t topic_id = topic_id_none; ///< 0 in a message from a client
  std::uint16_t msg_id = 0;
  std::string_view topic{};
};
struct regack {
  static constexpr auto type = message_type::regack;
  static constexpr const char* name = "REGACK";
  std::uint16_t topic_id = 0;
  std::uint16_t msg_id = 0;
  return_code code = return_code::accepted;
};
struct publish {
  static constexpr auto type = message_type::publish;
  static constexpr const char* name = "PUBLISH";
  mqttsn::flags flags{};
  std::uint16_t topic_id = 0; ///< the two octets of a short topic name, if the flags say so
  std::uint16_t msg_id = 0;   ///< 0 at QoS 0 and -1
  octets data{};
};
struct puback {
  static constexpr auto type = message_type::puback;
  static constexpr const char* name = "PUBACK";
  std::uint16_t topic_id = 0;
  std::uint16_t msg_id = 0;
  return_code code = return_code::accepted;
};
struct pubrec {
  static constexpr auto type = message_type::pubrec;
  static constexpr const char* name = "PUBREC";
  std::uint16_t msg_id = 0;
};
struct pubrel {
  static constexpr auto type = message_type::pubrel;
  static constexpr const char* name = "PUBREL";
  std::uint16_t msg_id = 0;
};
struct pubcomp {
  static constexpr auto type = message_type::pubcomp;
  static constexpr const char* name = "PUBCOMP";
  std::uint16_t msg_id = 0;
};
/// The topic type in the flags says which member counts: `topic` (normal) or `topic_id`
/// (predefined, short name). Decoding a short name also sets `topic` to its two octets.
struct subscribe {
  static constexpr auto type = message_type::subscribe;
  static constexpr const char* name = "SUBSCRIBE";
  mqttsn::flags flags{};
  std::uint16_t msg_id = 0;
  std::uint16_t topic_id = 0;
  std::string_view topic{};
};
struct suback {
  static constexpr auto type = message_type::suback;
  static constexpr const char* name = "SUBACK";
  mqttsn::flags flags{};      ///< the granted QoS
  std::uint16_t topic_id = 0; ///< 0 when the filter has a wildcard
  std::uint16_t msg_id = 0;
  return_code code = return_code::accepted;
};
/// The members have the same meaning as in subscribe.
struct unsubscribe {
  static constexpr auto type = message_type::unsubscribe;
  static constexpr const char* name = "UNSUBSCRIBE";
  mqttsn::flags flags{};
  std::uint16_t msg_id = 0;
  std::uint16_t topic_id = 0;
  std::string_view topic{};
};
struct unsuback {
  static constexpr auto type = message_type::unsuback;
  static constexpr const char* name = "UNSUBACK";
  std::uint16_t msg_id = 0;
};
struct pingreq {
  static constexpr auto type = message_type::pingreq;
  static constexpr const char* name = "PINGREQ";
  std::string_view client_id{}; ///< empty, unless a sleeping client has woken up
};
struct pingresp {
  static constexpr auto type = message_type::pingresp;
  static constexpr const char* name = "PINGRESP";
};
struct disconnect {
  static constexpr auto type = message_type::disconnect;
  static constexpr const char* name = "DISCONNECT";
  bool has_duration = false; ///< true when the client goes to sleep, even for 0 s
  std::uint16_t duration_s = 0;
};
/// The members have the same meaning as in willtopic.
struct willtopicupd {
  static constexpr auto type = message_type::willtopicupd;
  static constexpr const char* name = "WILLTOPICUPD";
  mqttsn::flags flags{};
  std::string_view topic{};
  bool erase = false;
};
struct willmsgupd {
  static constexpr auto type = message_type::willmsgupd;
  static constexpr const char* name = "WILLMSGUPD";
  octets data{};
};
struct willtopicresp {
  static constexpr auto type = message_type::willtopicresp;
  static constexpr const char* name = "WILLTOPICRESP";
  return_code code = return_code::accepted;
};
struct willmsgresp {
  static constexpr auto type = message_type::willmsgresp;
  static constexpr const char* name = "WILLMSGRESP";
  return_code code = return_code::accepted;
};
/// A frame that came through a forwarder (section 5.5). Its length covers its own header only;
/// `inner` is the rest of the datagram, which the caller decodes in turn. `inner` may be an
/// encapsulated message again, so the caller must bound the depth.
struct encapsulated {
  static constexpr auto type = message_type::encapsulated;
  static constexpr const char* name = "ENCAPSULATED";
  std::uint8_t radius = 0; ///< 0 to 3
  octets node_id{};
  octets inner{};
};

/// All message types, the most frequent first. A new message needs one struct in this file, one
/// parse() in decode.cc, one encode_message() and one handler in the front end. Code that lacks one
/// of them does not compile, because the decoder's table, the encoder and the dispatch use this
/// list.
template <class... Message> struct message_types {
  using body = std::variant<std::monostate, Message...>;
  /// Calls `fn.template operator()<Message>()` for each message type.
  template <class F> static constexpr void for_each(F&& fn) {
    (fn.template operator()<Message>(), ...);
  }
};
using all_messages =
    message_types<publish, puback, advertise, searchgw, gwinfo, connect, connack, willtopicreq,
                  willtopic, willmsgreq, willmsg, register_topic, regack, pubrec, pubrel, pubcomp,
                  subscribe, suback, unsubscribe, unsuback, pingreq, pingresp, disconnect,
                  willtopicupd, willmsgupd, willtopicresp, willmsgresp, encapsulated>;
using message_body = all_messages::body;

struct message {
  message_type type{};
  /// The number of octets of the datagram that belong to this message (for `encapsulated` with the
  /// inner message).
  std::size_t length = 0;
  /// The number of octets of the datagram behind the message, which the decoder ignores.
  std::size_t trailing = 0;
  message_body body;

  /// Returns the body if it is a T, else nullptr.
  template <class T> [[nodiscard]] const T* get() const noexcept { return std::get_if<T>(&body); }
};

// --- decoding ------------------------------------------------------------------------------------

enum class decode_status : std::uint8_t {
  ok,
  truncated,    ///< the datagram ends inside the header or before the message's length
  bad_length,   ///< the length is smaller than the header
  unknown_type, ///< the message type is reserved; `type` is set
  too_short,    ///< the message ends inside the fixed fields of its type; `type` is set
  too_long,     ///< octets follow the last field of a type of fixed size; `type` is set
  /// The message is whole but a field has a reserved value; the body is set, so that the caller can
  /// refuse it.
  bad_field,
};
inline constexpr std::size_t decode_status_count = 7;

/// The status as a word such as "bad_length", which fits into the name of a counter.
[[nodiscard]] const char* to_string(decode_status status) noexcept;

/// Decodes the message at the start of `datagram` into `out`, whose views then point into
/// `datagram`.
///
/// `bad_field` is returned for CONNECT with an unknown protocol id; for PUBLISH, SUBSCRIBE or
/// UNSUBSCRIBE with the reserved topic id type; for SUBSCRIBE or UNSUBSCRIBE with an id or short
/// name that is not two octets long (`topic_id` is then 0); and for SUBSCRIBE, WILLTOPIC or
/// WILLTOPICUPD at QoS -1. The specification has one octet for the length of an encapsulated frame,
/// so the long form is `bad_length` there.
///
/// With any other status except ok, the body is empty.
[[nodiscard]] decode_status decode(octets datagram, message& out) noexcept;

/// Returns the type that a datagram states, which says nothing about the rest of it. A datagram
/// that is too short for a type counts as an ADVERTISE.
[[nodiscard]] inline message_type type_of(octets datagram) noexcept {
  const std::size_t header = !datagram.empty() && datagram[0] == std::byte{1} ? 3 : 1;
  return datagram.size() > header ? static_cast<message_type>(datagram[header])
                                  : message_type::advertise;
}

/// Reads a PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP or PINGREQ whose length field has one octet and
/// which fills its datagram, and calls fn(message) with its struct. Returns what fn returns, or
/// false for every other datagram, which is left to decode(). decode() returns `ok` and the same
/// fields for each datagram for which fn is called. A gateway asks it first, because nearly all
/// datagrams are such messages and it takes few instructions for them.
template <class Fn>
[[nodiscard, gnu::always_inline]] inline bool visit_usual(octets datagram, Fn&& fn) noexcept {
  const std::size_t size = datagram.size();
  const std::byte* const d = datagram.data();
  // With two octets or more, a length of one octet that fits is not the mark of the long form.
  if (size < 2 || std::to_integer<std::size_t>(d[0]) != size) [[unlikely]]
    return false;
  const auto u16 = [d](std::size_t at) noexcept {
    return static_cast<std::uint16_t>(std::to_integer<unsigned>(d[at]) << 8 |
                                      std::to_integer<unsigned>(d[at + 1]));
  };
  switch (message_type(std::to_integer<std::uint8_t>(d[1]))) {
  case message_type::publish: {
    if (size < 7) return false;
    const mqttsn::flags f{std::to_integer<std::uint8_t>(d[2])};
    if (f.topic_type() == topic_id_type::reserved) return false;
    return fn(
        publish{.flags = f, .topic_id = u16(3), .msg_id = u16(5), .data = octets(d + 7, size - 7)});
  }
  case message_type::puback:
    if (size != 7) return false;
    return fn(puback{.topic_id = u16(2),
                     .msg_id = u16(4),
                     .code = return_code(std::to_integer<std::uint8_t>(d[6]))});
  case message_type::pubrec:
    return size == 4 && fn(pubrec{.msg_id = u16(2)});
  case message_type::pubrel:
    return size == 4 && fn(pubrel{.msg_id = u16(2)});
  case message_type::pubcomp:
    return size == 4 && fn(pubcomp{.msg_id = u16(2)});
  case message_type::pingreq:
    return fn(pingreq{.client_id = {reinterpret_cast<const char*>(d + 2), size - 2}});
  default:
    return false;
  }
}

// --- encoding ------------------------------------------------------------------------------------

std::size_t encode_advertise(std::span<std::byte> to, const advertise& m) noexcept;
std::size_t encode_searchgw(std::span<std::byte> to, const searchgw& m) noexcept;
std::size_t encode_gwinfo(std::span<std::byte> to, const gwinfo& m) noexcept;
std::size_t encode_connect(std::span<std::byte> to, const connect& m) noexcept;
std::size_t encode_connack(std::span<std::byte> to, const connack& m) noexcept;
std::size_t encode_willtopicreq(std::span<std::byte> to, const willtopicreq& m = {}) noexcept;
std::size_t encode_willtopic(std::span<std::byte> to, const willtopic& m) noexcept;
std::size_t encode_willmsgreq(std::span<std::byte> to, const willmsgreq& m = {}) noexcept;
std::size_t encode_willmsg(std::span<std::byte> to, const willmsg& m) noexcept;
std::size_t encode_register(std::span<std::byte> to, const register_topic& m) noexcept;
std::size_t encode_regack(std::span<std::byte> to, const regack& m) noexcept;
std::size_t encode_publish(std::span<std::byte> to, const publish& m) noexcept;
std::size_t encode_puback(std::span<std::byte> to, const puback& m) noexcept;
std::size_t encode_pubrec(std::span<std::byte> to, const pubrec& m) noexcept;
std::size_t encode_pubrel(std::span<std::byte> to, const pubrel& m) noexcept;
std::size_t encode_pubcomp(std::span<std::byte> to, const pubcomp& m) noexcept;
std::size_t encode_subscribe(std::span<std::byte> to, const subscribe& m) noexcept;
std::size_t encode_suback(std::span<std::byte> to, const suback& m) noexcept;
std::size_t encode_unsubscribe(std::span<std::byte> to, const unsubscribe& m) noexcept;
std::size_t encode_unsuback(std::span<std::byte> to, const unsuback& m) noexcept;
std::size_t encode_pingreq(std::span<std::byte> to, const pingreq& m = {}) noexcept;
std::size_t encode_pingresp(std::span<std::byte> to, const pingresp& m = {}) noexcept;
std::size_t encode_disconnect(std::span<std::byte> to, const disconnect& m = {}) noexcept;
std::size_t encode_willtopicupd(std::span<std::byte> to, const willtopicupd& m) noexcept;
std::size_t encode_willmsgupd(std::span<std::byte> to, const willmsgupd& m) noexcept;
std::size_t encode_willtopicresp(std::span<std::byte> to, const willtopicresp& m) noexcept;
std::size_t encode_willmsgresp(std::span<std::byte> to, const willmsgresp& m) noexcept;
/// Writes the wrapper and, behind it, `m.inner`. With an empty `inner` it writes only the wrapper,
/// so that a message can be encoded in place behind it.
std::size_t encode_encapsulated(std::span<std::byte> to, const encapsulated& m) noexcept;

/// The number of octets that encode_publish_header() writes for this payload, 7 or 9, or 0 when the
/// message would be longer than the length field can express.
[[nodiscard]] constexpr std::size_t publish_header_size(std::size_t payload_size) noexcept {
  if (payload_size > message_size_max - 9) return 0;
  return payload_size + 7 <= 0xFF ? 7 : 9;
}

/// Writes only the header of a PUBLISH whose payload of `payload_size` octets the caller puts
/// behind it; `m.data` is not used. Returns the number of octets of the header.
std::size_t encode_publish_header(std::span<std::byte> to, const publish& m,
                                  std::size_t payload_size) noexcept;

namespace wire {
/// Stores the low seven octets of a word, the lowest first.
inline void store_seven(std::byte* to, std::uint64_t octets) noexcept {
  static_assert(std::endian::native == std::endian::little);
  const auto low = static_cast<std::uint32_t>(octets);
  const auto high = static_cast<std::uint32_t>(octets >> 24); // both stores write the fourth octet
  std::memcpy(to, &low, 4);
  std::memcpy(to + 3, &high, 4);
}
constexpr std::uint64_t swapped(std::uint16_t value) noexcept {
  return static_cast<std::uint16_t>(value << 8 | value >> 8);
}
} // namespace wire

/// Writes a PUBACK to `to`, which has room for its seven octets. It writes what encode_puback()
/// writes, in two stores.
inline void write_puback(std::byte* to, const puback& m) noexcept {
  wire::store_seven(to, std::uint64_t{7} | std::uint64_t{0x0D} << 8 |
                            wire::swapped(m.topic_id) << 16 | wire::swapped(m.msg_id) << 32 |
                            std::uint64_t{static_cast<std::uint8_t>(m.code)} << 48);
}
/// Writes the header of a PUBLISH of `size` octets in all, at most 255, to `to`, which has room for
/// the seven octets of the header. It writes what encode_publish_header() writes, in two stores.
inline void write_short_publish_header(std::byte* to, const publish& m, std::size_t size) noexcept {
  wire::store_seven(to, static_cast<std::uint64_t>(size) | std::uint64_t{0x0C} << 8 |
                            std::uint64_t{m.flags.octet} << 16 | wire::swapped(m.topic_id) << 24 |
                            wire::swapped(m.msg_id) << 40);
}

/// The encoder of each message type.
inline std::size_t encode_message(std::span<std::byte> to, const advertise& m) noexcept {
  return encode_advertise(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const searchgw& m) noexcept {
  return encode_searchgw(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const gwinfo& m) noexcept {
  return encode_gwinfo(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const connect& m) noexcept {
  return encode_connect(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const connack& m) noexcept {
  return encode_connack(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const willtopicreq& m) noexcept {
  return encode_willtopicreq(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const willtopic& m) noexcept {
  return encode_willtopic(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const willmsgreq& m) noexcept {
  return encode_willmsgreq(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const willmsg& m) noexcept {
  return encode_willmsg(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const register_topic& m) noexcept {
  return encode_register(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const regack& m) noexcept {
  return encode_regack(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const publish& m) noexcept {
  return encode_publish(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const puback& m) noexcept {
  return encode_puback(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const pubrec& m) noexcept {
  return encode_pubrec(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const pubrel& m) noexcept {
  return encode_pubrel(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const pubcomp& m) noexcept {
  return encode_pubcomp(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const subscribe& m) noexcept {
  return encode_subscribe(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const suback& m) noexcept {
  return encode_suback(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const unsubscribe& m) noexcept {
  return encode_unsubscribe(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const unsuback& m) noexcept {
  return encode_unsuback(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const pingreq& m) noexcept {
  return encode_pingreq(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const pingresp& m) noexcept {
  return encode_pingresp(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const disconnect& m) noexcept {
  return encode_disconnect(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const willtopicupd& m) noexcept {
  return encode_willtopicupd(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const willmsgupd& m) noexcept {
  return encode_willmsgupd(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const willtopicresp& m) noexcept {
  return encode_willtopicresp(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const willmsgresp& m) noexcept {
  return encode_willmsgresp(to, m);
}
inline std::size_t encode_message(std::span<std::byte> to, const encapsulated& m) noexcept {
  return encode_encapsulated(to, m);
}

/// Encodes the message in the body, whatever its type. Returns 0 for an empty body.
std::size_t encode(std::span<std::byte> to, const message_body& body) noexcept;

} // namespace chainring::mqttsn
