// SPDX-License-Identifier: BSD-3-Clause
// Subscriptions, and what the broker sends: deliveries, registrations, pings.
#include <algorithm>

#include "client.h"

namespace chainring::client {

using mqttsn::flags;
using mqttsn::qos_level;
using mqttsn::return_code;
using mqttsn::topic_id_type;

namespace {

constexpr std::string_view share_prefix = "$share/";
/// How many messages wait for next() at most while the client waits for an answer.
constexpr std::size_t inbox_max = 10'000;

} // namespace

bool is_shared(std::string_view filter) noexcept {
  return filter == share_prefix.substr(0, share_prefix.size() - 1) ||
         filter.starts_with(share_prefix);
}

std::string_view without_group(std::string_view filter) noexcept {
  if (!is_shared(filter)) return filter;
  filter.remove_prefix(std::min(share_prefix.size(), filter.size()));
  const std::size_t group = filter.find('/');
  return group == std::string_view::npos || group == 0 ? std::string_view{}
                                                       : filter.substr(group + 1);
}

status client::subscribe(const topic& filter, qos_level qos, qos_level& granted) {
  return patiently([&]() -> status {
    const std::uint16_t msg_id = next_msg_id();
    mqttsn::subscribe out{.flags = flags{}.with_qos(qos).with_topic_type(filter.type),
                          .msg_id = msg_id,
                          .topic_id = filter.id,
                          .topic = filter.name};
    mqttsn::suback got;
    subscribing_ = true;
    auto s = exchange(
        "SUBSCRIBE to '" + filter.name + "'",
        [&](std::span<std::byte> to, bool again) {
          out.flags = out.flags.with_dup(again);
          return mqttsn::encode_subscribe(to, out);
        },
        [&](const mqttsn::message& m) {
          const auto* ack = m.get<mqttsn::suback>();
          // QoS -1 cannot be granted, so such a SUBACK is malformed.
          if (ack == nullptr || ack->msg_id != msg_id || ack->flags.qos() == qos_level::minus_one)
            return false;
          got = *ack;
          return true;
        });
    subscribing_ = false;
    if (!s) return s;
    if (got.code != return_code::accepted)
      return rejected("the subscription to '" + filter.name + "'", got.code);
    granted = got.flags.qos();
    if (filter.type == topic_id_type::predefined)
      predefined_.insert(filter.id);
    else if (filter.type == topic_id_type::normal && mqttsn::valid_topic_id(got.topic_id) &&
             !has_wildcard(filter.name))
      names_[got.topic_id] = std::string(without_group(filter.name));
    return {};
  });
}

status client::unsubscribe(const topic& filter) {
  const std::uint16_t msg_id = next_msg_id();
  auto s = exchange(
      "UNSUBSCRIBE from '" + filter.name + "'",
      [&](std::span<std::byte> to, bool) {
        return mqttsn::encode_unsubscribe(to, {.flags = flags{}.with_topic_type(filter.type),
                                               .msg_id = msg_id,
                                               .topic_id = filter.id,
                                               .topic = filter.name});
      },
      [&](const mqttsn::message& m) {
        const auto* ack = m.get<mqttsn::unsuback>();
        return ack != nullptr && ack->msg_id == msg_id;
      });
  if (s && filter.type == topic_id_type::predefined) predefined_.erase(filter.id);
  return s;
}

void client::handle(const mqttsn::message& m) {
  if (const auto* p = m.get<mqttsn::publish>()) {
    on_publish(*p);
  } else if (const auto* r = m.get<mqttsn::register_topic>()) {
    on_register(*r);
  } else if (m.get<mqttsn::pingreq>() != nullptr) {
    if (listening()) answer(mqttsn::pingresp{});
  } else if (m.get<mqttsn::pingresp>() != nullptr) {
    pings_ = 0;
    if (phase_ == phase::awake) phase_ = phase::asleep; // the broker has sent all that it kept
  } else if (m.get<mqttsn::disconnect>() != nullptr) {
    if (phase_ != phase::connecting) phase_ = phase::closed;
  } else if (const auto* rel = m.get<mqttsn::pubrel>()) {
    if (!listening()) return;
    open_.erase(rel->msg_id);
    answer(mqttsn::pubcomp{rel->msg_id});
  } else if (const auto* rec = m.get<mqttsn::pubrec>()) {
    // A PUBLISH that the network had delayed has opened the id of a completed message again.
    // Without PUBREL the id would stay open and swallow a later message.
    if (listening()) answer(mqttsn::pubrel{rec->msg_id});
  } else if (const auto* ack = m.get<mqttsn::puback>();
             ack != nullptr && ack->msg_id == 0 && ack->code != return_code::accepted) {
    ++refused_count_;
    refused_code_ = ack->code;
  }
}

void client::on_register(const mqttsn::register_topic& r) {
  if (!listening()) return;
  mqttsn::regack ack{.topic_id = r.topic_id, .msg_id = r.msg_id};
  if (!mqttsn::valid_topic_id(r.topic_id))
    ack.code = return_code::invalid_topic_id;
  else if (!valid_topic_name(r.topic))
    ack.code = return_code::not_supported;
  else
    names_[r.topic_id] = std::string(r.topic);
  answer(ack);
}

/// True when this very message already waits for next(), which happens when the broker sends it
/// again before the client could acknowledge it.
bool client::waiting(const mqttsn::publish& p) const noexcept {
  return p.flags.qos() != qos_level::zero &&
         std::any_of(inbox_.begin(), inbox_.end(), [&](const delivery& d) {
           return d.msg_id == p.msg_id && d.flags.qos() == p.flags.qos();
         });
}

void client::on_publish(const mqttsn::publish& p) {
  if (!listening() || p.flags.qos() == qos_level::minus_one) return;
  // Until PUBREL, the message id stands for the message that the caller already has. Only its
  // PUBREC was lost.
  if (p.flags.qos() == qos_level::two && open_.contains(p.msg_id))
    return answer(mqttsn::pubrec{p.msg_id});
  if (waiting(p)) return;
  delivery d{p.flags, p.topic_id, p.msg_id, {}, {p.data.begin(), p.data.end()}};
  bool known = true;
  switch (p.flags.topic_type()) {
  case topic_id_type::short_name: {
    const auto name = mqttsn::short_topic_name(p.topic_id);
    d.topic.assign(name.begin(), name.end());
    break;
  }
  case topic_id_type::predefined:
    // A kept session may have subscriptions of an earlier run of the program.
    known = predefined_.contains(p.topic_id) || !options_.clean;
    d.topic = std::to_string(p.topic_id);
    break;
  default:
    const auto name = names_.find(p.topic_id);
    known = name != names_.end();
    if (known) d.topic = name->second;
  }
  if (known && inbox_.size() < inbox_max) {
    inbox_.push_back(std::move(d));
  } else if (known) {
    // At QoS 1 and 2 the broker sends the message again, because there is no answer.
    if (p.flags.qos() == qos_level::zero) ++overflow_count_;
  } else if (!subscribing_) {
    // While a SUBSCRIBE waits for its SUBACK, that SUBACK may be what was lost. The client then
    // does not answer, so that the broker sends the message again instead of dropping it.
    answer(mqttsn::puback{p.topic_id, p.msg_id, return_code::invalid_topic_id});
  }
}

status client::next(clock::time_point deadline, std::optional<delivery>& out) {
  out.reset();
  for (;;) {
    if (!inbox_.empty()) {
      out = std::move(inbox_.front());
      inbox_.pop_front();
      return {};
    }
    if (phase_ == phase::closed) return ended();
    if (phase_ == phase::asleep || clock::now() >= deadline) return {};
    if (phase_ == phase::awake) {
      if (auto s = stay_awake(); !s) return s;
    } else if (auto s = keep_alive(); !s) {
      return s;
    }
    const auto again = phase_ == phase::awake
                           ? std::max(ping_at_, heard_at_) + options_.retry_interval
                           : keep_alive_at();
    bool matched = false, ready = false;
    if (auto s = step(std::min(deadline, again), -1, {}, matched, ready); !s) return s;
  }
}

status client::acknowledge(const delivery& d) {
  if (phase_ == phase::closed) return {}; // the session in which the message came is over
  if (d.flags.qos() == qos_level::one)
    return send(mqttsn::encode_puback(out_, {.topic_id = d.topic_id, .msg_id = d.msg_id}));
  if (d.flags.qos() == qos_level::two) {
    open_.insert(d.msg_id);
    return send(mqttsn::encode_pubrec(out_, {.msg_id = d.msg_id}));
  }
  return {};
}

} // namespace chainring::client
