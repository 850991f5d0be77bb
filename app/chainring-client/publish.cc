// SPDX-License-Identifier: BSD-3-Clause
// Topic registration, and PUBLISH at every QoS.
#include "client.h"

namespace chainring::client {

using mqttsn::flags;
using mqttsn::qos_level;
using mqttsn::return_code;
using mqttsn::topic_id_type;

topic topic::named(std::string name) {
  return {topic_id_type::normal, 0, std::move(name)};
}

topic topic::predefined(std::uint16_t id) {
  return {topic_id_type::predefined, id, std::to_string(id)};
}

topic topic::short_name(const std::string& name) {
  return {topic_id_type::short_name, mqttsn::short_topic_id(name), name};
}

status client::register_name(const std::string& name, std::uint16_t& id) {
  if (const auto known = ids_.find(name); known != ids_.end()) {
    id = known->second;
    return {};
  }
  const std::uint16_t msg_id = next_msg_id();
  return_code code{};
  auto s = exchange(
      "REGISTER of '" + name + "'",
      [&](std::span<std::byte> to, bool) {
        return mqttsn::encode_register(to, {.msg_id = msg_id, .topic = name});
      },
      [&](const mqttsn::message& m) {
        const auto* ack = m.get<mqttsn::regack>();
        if (ack == nullptr || ack->msg_id != msg_id) return false;
        code = ack->code;
        id = ack->topic_id;
        return true;
      });
  if (!s) return s;
  if (code != return_code::accepted) return rejected("the topic '" + name + "'", code);
  if (!mqttsn::valid_topic_id(id))
    return failed("the broker gave the topic '" + name + "' the id " + std::to_string(id) +
                  ", which the protocol reserves; publish with --topic-id or --short-topic, or "
                  "report the broker's fault");
  ids_[name] = id;
  names_[id] = name;
  return {};
}

/// Sends PUBREL until PUBCOMP comes.
status client::release(std::uint16_t msg_id, const std::string& what) {
  return exchange(
      what,
      [&](std::span<std::byte> buffer, bool) {
        return mqttsn::encode_pubrel(buffer, {.msg_id = msg_id});
      },
      [&](const mqttsn::message& m) {
        const auto* comp = m.get<mqttsn::pubcomp>();
        return comp != nullptr && comp->msg_id == msg_id;
      });
}

status client::publish_once(const topic& to, std::uint16_t id, mqttsn::octets data, qos_level qos,
                            bool retain) {
  mqttsn::publish out{.flags = flags{}.with_qos(qos).with_retain(retain).with_topic_type(to.type),
                      .topic_id = id,
                      .data = data};
  if (qos == qos_level::zero || qos == qos_level::minus_one) {
    if (auto s = send(mqttsn::encode_publish(out_, out)); !s) return s;
    bool matched = false, ready = false; // the refusal of an earlier message may be waiting
    return step(clock::now(), -1, {}, matched, ready);
  }
  if (outgoing_.msg_id == 0) {
    const std::uint16_t fresh = next_msg_id();
    // An earlier run of this program may have ended between PUBLISH and PUBREL. The broker then
    // still has that id open in the kept session, and would take a new message for the old one.
    if (qos == qos_level::two && !options_.clean && !own_ids_.contains(fresh)) {
      auto s = release(fresh, "PUBREL of message id " + std::to_string(fresh) +
                                  ", which an earlier run may have left open,");
      if (!s) return s;
      own_ids_.insert(fresh);
    }
    outgoing_.msg_id = fresh;
    outgoing_.dup = false;
  }
  const std::uint16_t msg_id = out.msg_id = outgoing_.msg_id;
  const std::string what = "PUBLISH " + std::to_string(msg_id) + " to '" + to.name + "'";
  return_code code{};
  auto s = exchange(
      what,
      [&](std::span<std::byte> buffer, bool again) {
        out.flags = out.flags.with_dup(again || outgoing_.dup);
        return mqttsn::encode_publish(buffer, out);
      },
      [&](const mqttsn::message& m) {
        if (const auto* ack = m.get<mqttsn::puback>(); ack != nullptr && ack->msg_id == msg_id) {
          code = ack->code;
          return qos == qos_level::one || code != return_code::accepted;
        }
        const auto* rec = m.get<mqttsn::pubrec>();
        return qos == qos_level::two && rec != nullptr && rec->msg_id == msg_id;
      });
  if (!s) return s;
  if (code != return_code::accepted || qos == qos_level::one) outgoing_ = {};
  if (code != return_code::accepted) return rejected(what, code);
  if (qos == qos_level::one) return {};
  outgoing_.received = true;
  if (s = release(msg_id, "PUBREL " + std::to_string(msg_id)); s) outgoing_ = {};
  return s;
}

status client::publish(const topic& to, mqttsn::octets data, qos_level qos, bool retain,
                       bool again) {
  if (qos != qos_level::minus_one && phase_ != phase::active) return ended();
  if (!again) outgoing_ = {};
  if (outgoing_.received) {
    // The broker has the message. A clean session has closed its id already.
    status s;
    if (!options_.clean)
      s = release(outgoing_.msg_id, "PUBREL " + std::to_string(outgoing_.msg_id));
    if (s) outgoing_ = {};
    return s;
  }
  return patiently([&]() -> status {
    std::uint16_t id = to.id;
    if (to.type != topic_id_type::normal) return publish_once(to, id, data, qos, retain);
    for (bool registered_again = false;; registered_again = true) {
      if (auto s = register_name(to.name, id); !s) return s;
      auto s = publish_once(to, id, data, qos, retain);
      if (s.what != outcome::rejected || s.code != return_code::invalid_topic_id ||
          registered_again)
        return s;
      ids_.erase(to.name); // the broker forgot the id: register the name again (section 6.6)
    }
  });
}

} // namespace chainring::client
