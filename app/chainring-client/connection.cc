// SPDX-License-Identifier: BSD-3-Clause
// Sessions: CONNECT with its will, updates of the will, and DISCONNECT.
#include "client.h"

namespace chainring::client {

using mqttsn::flags;
using mqttsn::message_type;
using mqttsn::return_code;

namespace {

mqttsn::octets octets_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

flags will_flags(const will& w) {
  return flags{}.with_qos(w.qos).with_retain(w.retain);
}

} // namespace

status rejected(const std::string& what, return_code code) {
  std::string message = what + " was refused by the broker (" + to_string(code) + ")";
  if (code == return_code::congestion) message += "; try again later";
  return {outcome::rejected, code, message};
}

status client::connect() {
  return patiently([&] { return connect_once(); });
}

status client::connect_once() {
  ids_.clear();
  names_.clear();
  if (options_.clean) {
    open_.clear();
    outgoing_.msg_id = 0; // the new session knows no message ids of the old one
  }
  outgoing_.dup = outgoing_.msg_id != 0;
  inbox_.clear(); // these messages are not acknowledged, so the broker sends them again
  pings_ = 0;
  // A DISCONNECT that arrives now belongs to an older session and is ignored.
  phase_ = phase::connecting;
  return_code code{};
  auto s = connect_with_will(code);
  // The broker may have lost the session between the parts of the will, and then answers none of
  // them. Only a new CONNECT tells.
  if (s.what == outcome::no_answer && s.message.starts_with("WILL")) s = connect_with_will(code);
  phase_ = phase::closed;
  if (!s) return s;
  if (code != return_code::accepted) {
    const bool with_will = options_.will && !options_.update_will;
    return rejected("client id '" + options_.client_id + "'" +
                        (with_will ? " with a will to '" + options_.will->topic + "'" : ""),
                    code);
  }
  phase_ = phase::active;
  if (!options_.update_will) return {};
  s = update_will();
  if (!s && s.what != outcome::disconnected) static_cast<void>(disconnect());
  return s;
}

/// Sends CONNECT and what the broker asks for until it answers with CONNACK. The broker leads: it
/// asks for the parts of the will in its own order, and may ask again.
status client::connect_with_will(return_code& code) {
  const bool with_will = (options_.will || options_.delete_will) && !options_.update_will;
  std::optional<message_type> asked;
  const auto match = [&](const mqttsn::message& m) {
    if (const auto* ack = m.get<mqttsn::connack>())
      code = ack->code;
    else if (!with_will ||
             (m.type != message_type::willtopicreq && m.type != message_type::willmsgreq))
      return false;
    asked = m.type;
    return true;
  };
  const auto encode = [&](std::span<std::byte> to, bool) {
    if (asked == message_type::willtopicreq)
      return options_.delete_will
                 ? mqttsn::encode_willtopic(to, {.erase = true})
                 : mqttsn::encode_willtopic(
                       to, {.flags = will_flags(*options_.will), .topic = options_.will->topic});
    if (asked == message_type::willmsgreq) {
      const std::string payload = options_.will ? options_.will->payload.value_or("") : "";
      return mqttsn::encode_willmsg(to, {.data = octets_of(payload)});
    }
    return mqttsn::encode_connect(to,
                                  {.flags = flags{}.with_clean(options_.clean).with_will(with_will),
                                   .keep_alive_s = options_.keep_alive_s,
                                   .client_id = options_.client_id});
  };
  for (unsigned round = 0; round < 16; ++round) {
    const char* what = asked == message_type::willtopicreq ? "WILLTOPIC"
                       : asked == message_type::willmsgreq ? "WILLMSG"
                                                           : "CONNECT";
    if (auto s = exchange(what, encode, match); !s) return s;
    if (asked == message_type::connack) return {};
  }
  return failed(
      "the broker asked for the will again and again and never answered with CONNACK; connect "
      "without --will-topic, or report the broker's fault");
}

/// Replaces or deletes the will of the session (section 6.4).
status client::update_will() {
  return_code code{};
  auto s = exchange(
      "WILLTOPICUPD",
      [&](std::span<std::byte> to, bool) {
        if (options_.delete_will) return mqttsn::encode_willtopicupd(to, {.erase = true});
        return mqttsn::encode_willtopicupd(
            to, {.flags = will_flags(*options_.will), .topic = options_.will->topic});
      },
      [&](const mqttsn::message& m) {
        const auto* answer = m.get<mqttsn::willtopicresp>();
        if (answer != nullptr) code = answer->code;
        return answer != nullptr;
      });
  if (!s) return s;
  if (code != return_code::accepted)
    return rejected(options_.delete_will
                        ? "the deletion of the will"
                        : "the update of the will to topic '" + options_.will->topic + "'",
                    code);
  if (options_.delete_will || !options_.will->payload) return {};
  s = exchange(
      "WILLMSGUPD",
      [&](std::span<std::byte> to, bool) {
        return mqttsn::encode_willmsgupd(to, {.data = octets_of(*options_.will->payload)});
      },
      [&](const mqttsn::message& m) {
        const auto* answer = m.get<mqttsn::willmsgresp>();
        if (answer != nullptr) code = answer->code;
        return answer != nullptr;
      });
  if (!s) return s;
  return code == return_code::accepted ? status{}
                                       : rejected("the update of the will's message", code);
}

status client::disconnect() {
  if (phase_ == phase::closed) return ended();
  auto s = exchange(
      "DISCONNECT", [](std::span<std::byte> to, bool) { return mqttsn::encode_disconnect(to); },
      [](const mqttsn::message& m) { return m.get<mqttsn::disconnect>() != nullptr; });
  phase_ = phase::closed;
  return s;
}

} // namespace chainring::client
