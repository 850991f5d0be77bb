// SPDX-License-Identifier: BSD-3-Clause
#include "mqttsn/codec.h"

#include <algorithm>
#include <type_traits>

namespace chainring::mqttsn {
namespace {

/// Writes a message from left to right, once header() has found that the whole message fits.
class writer {
 public:
  explicit writer(std::span<std::byte> to) noexcept
      : begin_(to.data()), at_(begin_), n_(to.size()) {}

  /// Writes the length and the type of a message whose header is followed by `body` octets, of
  /// which `written` go through this writer. Returns false when the message does not fit.
  bool header(message_type type, std::size_t body, std::size_t written) noexcept {
    std::size_t header = 2;
    if (body + header > 0xFF) header = 4;
    if (body > message_size_max - header || header + written > n_) return false;
    if (header == 4) {
      u8(1);
      u16(static_cast<std::uint16_t>(header + body));
    } else {
      u8(static_cast<std::uint8_t>(header + body));
    }
    u8(static_cast<std::uint8_t>(type));
    return true;
  }
  bool header(message_type type, std::size_t body) noexcept { return header(type, body, body); }

  writer& u8(std::uint8_t value) noexcept {
    *at_++ = std::byte(value);
    return *this;
  }
  writer& u16(std::uint16_t value) noexcept {
    return u8(static_cast<std::uint8_t>(value >> 8)).u8(static_cast<std::uint8_t>(value));
  }
  writer& code(return_code value) noexcept { return u8(static_cast<std::uint8_t>(value)); }
  writer& bytes(octets data) noexcept {
    at_ = std::copy(data.begin(), data.end(), at_);
    return *this;
  }
  writer& text(std::string_view value) noexcept { return bytes(std::as_bytes(std::span(value))); }
  std::size_t size() const noexcept { return static_cast<std::size_t>(at_ - begin_); }

 private:
  std::byte* begin_;
  std::byte* at_;
  std::size_t n_;
};

template <class Message> std::size_t bare(std::span<std::byte> to, const Message&) noexcept {
  writer out(to);
  return out.header(Message::type, 0) ? out.size() : 0;
}

template <class Message> std::size_t with_code(std::span<std::byte> to, const Message& m) noexcept {
  writer out(to);
  return out.header(Message::type, 1) ? out.code(m.code).size() : 0;
}

template <class Message>
std::size_t with_msg_id(std::span<std::byte> to, const Message& m) noexcept {
  writer out(to);
  return out.header(Message::type, 2) ? out.u16(m.msg_id).size() : 0;
}

template <class Message>
std::size_t with_topic_ack(std::span<std::byte> to, const Message& m) noexcept {
  writer out(to);
  if (!out.header(Message::type, 5)) return 0;
  return out.u16(m.topic_id).u16(m.msg_id).code(m.code).size();
}

template <class Message>
std::size_t with_will_topic(std::span<std::byte> to, const Message& m) noexcept {
  writer out(to);
  if (m.erase) return out.header(Message::type, 0) ? out.size() : 0;
  if (!out.header(Message::type, 1 + m.topic.size())) return 0;
  return out.u8(m.flags.octet).text(m.topic).size();
}

template <class Message> std::size_t with_data(std::span<std::byte> to, const Message& m) noexcept {
  writer out(to);
  return out.header(Message::type, m.data.size()) ? out.bytes(m.data).size() : 0;
}

template <class Message>
std::size_t with_filter(std::span<std::byte> to, const Message& m) noexcept {
  const bool named = m.flags.topic_type() == topic_id_type::normal;
  writer out(to);
  if (!out.header(Message::type, 3 + (named ? m.topic.size() : 2))) return 0;
  out.u8(m.flags.octet).u16(m.msg_id);
  return (named ? out.text(m.topic) : out.u16(m.topic_id)).size();
}

} // namespace

std::size_t encode_advertise(std::span<std::byte> to, const advertise& m) noexcept {
  writer out(to);
  return out.header(m.type, 3) ? out.u8(m.gw_id).u16(m.duration_s).size() : 0;
}

std::size_t encode_searchgw(std::span<std::byte> to, const searchgw& m) noexcept {
  writer out(to);
  return out.header(m.type, 1) ? out.u8(m.radius).size() : 0;
}

std::size_t encode_gwinfo(std::span<std::byte> to, const gwinfo& m) noexcept {
  writer out(to);
  if (!out.header(m.type, 1 + m.gw_address.size())) return 0;
  return out.u8(m.gw_id).bytes(m.gw_address).size();
}

std::size_t encode_connect(std::span<std::byte> to, const connect& m) noexcept {
  writer out(to);
  if (!out.header(m.type, 4 + m.client_id.size())) return 0;
  return out.u8(m.flags.octet).u8(m.protocol).u16(m.keep_alive_s).text(m.client_id).size();
}

std::size_t encode_register(std::span<std::byte> to, const register_topic& m) noexcept {
  writer out(to);
  if (!out.header(m.type, 4 + m.topic.size())) return 0;
  return out.u16(m.topic_id).u16(m.msg_id).text(m.topic).size();
}

std::size_t encode_publish_header(std::span<std::byte> to, const publish& m,
                                  std::size_t payload_size) noexcept {
  writer out(to);
  if (payload_size > message_size_max || !out.header(m.type, 5 + payload_size, 5)) return 0;
  return out.u8(m.flags.octet).u16(m.topic_id).u16(m.msg_id).size();
}

std::size_t encode_publish(std::span<std::byte> to, const publish& m) noexcept {
  writer out(to);
  if (!out.header(m.type, 5 + m.data.size())) return 0;
  return out.u8(m.flags.octet).u16(m.topic_id).u16(m.msg_id).bytes(m.data).size();
}

std::size_t encode_suback(std::span<std::byte> to, const suback& m) noexcept {
  writer out(to);
  if (!out.header(m.type, 6)) return 0;
  return out.u8(m.flags.octet).u16(m.topic_id).u16(m.msg_id).code(m.code).size();
}

std::size_t encode_pingreq(std::span<std::byte> to, const pingreq& m) noexcept {
  writer out(to);
  return out.header(m.type, m.client_id.size()) ? out.text(m.client_id).size() : 0;
}

std::size_t encode_disconnect(std::span<std::byte> to, const disconnect& m) noexcept {
  writer out(to);
  if (!out.header(m.type, m.has_duration ? 2 : 0)) return 0;
  return (m.has_duration ? out.u16(m.duration_s) : out).size();
}

std::size_t encode_encapsulated(std::span<std::byte> to, const encapsulated& m) noexcept {
  const std::size_t own = 3 + m.node_id.size();
  if (own > 0xFF || own > to.size() || m.inner.size() > to.size() - own) return 0;
  writer out(to);
  out.u8(static_cast<std::uint8_t>(own)).u8(static_cast<std::uint8_t>(m.type));
  return out.u8(m.radius & 3).bytes(m.node_id).bytes(m.inner).size();
}

std::size_t encode_connack(std::span<std::byte> to, const connack& m) noexcept {
  return with_code(to, m);
}
std::size_t encode_willtopicresp(std::span<std::byte> to, const willtopicresp& m) noexcept {
  return with_code(to, m);
}
std::size_t encode_willmsgresp(std::span<std::byte> to, const willmsgresp& m) noexcept {
  return with_code(to, m);
}
std::size_t encode_willtopicreq(std::span<std::byte> to, const willtopicreq& m) noexcept {
  return bare(to, m);
}
std::size_t encode_willmsgreq(std::span<std::byte> to, const willmsgreq& m) noexcept {
  return bare(to, m);
}
std::size_t encode_pingresp(std::span<std::byte> to, const pingresp& m) noexcept {
  return bare(to, m);
}
std::size_t encode_regack(std::span<std::byte> to, const regack& m) noexcept {
  return with_topic_ack(to, m);
}
std::size_t encode_puback(std::span<std::byte> to, const puback& m) noexcept {
  return with_topic_ack(to, m);
}
std::size_t encode_pubrec(std::span<std::byte> to, const pubrec& m) noexcept {
  return with_msg_id(to, m);
}
std::size_t encode_pubrel(std::span<std::byte> to, const pubrel& m) noexcept {
  return with_msg_id(to, m);
}
std::size_t encode_pubcomp(std::span<std::byte> to, const pubcomp& m) noexcept {
  return with_msg_id(to, m);
}
std::size_t encode_unsuback(std::span<std::byte> to, const unsuback& m) noexcept {
  return with_msg_id(to, m);
}
std::size_t encode_subscribe(std::span<std::byte> to, const subscribe& m) noexcept {
  return with_filter(to, m);
}
std::size_t encode_unsubscribe(std::span<std::byte> to, const unsubscribe& m) noexcept {
  return with_filter(to, m);
}
std::size_t encode_willtopic(std::span<std::byte> to, const willtopic& m) noexcept {
  return with_will_topic(to, m);
}
std::size_t encode_willtopicupd(std::span<std::byte> to, const willtopicupd& m) noexcept {
  return with_will_topic(to, m);
}
std::size_t encode_willmsg(std::span<std::byte> to, const willmsg& m) noexcept {
  return with_data(to, m);
}
std::size_t encode_willmsgupd(std::span<std::byte> to, const willmsgupd& m) noexcept {
  return with_data(to, m);
}

std::size_t encode(std::span<std::byte> to, const message_body& body) noexcept {
  return std::visit(
      [&]<class Message>(const Message& m) noexcept -> std::size_t {
        if constexpr (std::is_same_v<Message, std::monostate>)
          return 0;
        else
          return encode_message(to, m);
      },
      body);
}

} // namespace chainring::mqttsn
