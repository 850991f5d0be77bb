// SPDX-License-Identifier: BSD-3-Clause
#include "system_topics.h"

#include <algorithm>

#include "service.h"
#include "topic/topic_names.h"

namespace chainring::app {

namespace {
// How many sessions are looked at in a second, and how many values are published in a burst, so
// that neither the main thread nor a subscriber's queue is filled at once.
constexpr std::size_t sessions_per_look = 20'000;
constexpr std::size_t values_per_burst = 4;
} // namespace

system_topics::system_topics(std::uint32_t interval_s)
    : next_(begin_ + std::chrono::seconds(interval_s)), interval_(interval_s) {}

void system_topics::count_clients(const chainring::broker& b) {
  census& c = clients_;
  c.part.clear();
  c.next = b.sessions(c.next, sessions_per_look, c.part);
  c.connected +=
      static_cast<std::uint32_t>(std::ranges::count(c.part, true, &session_info::connected));
  if (c.next != 0) return;
  c.last = std::exchange(c.connected, 0);
  c.most = std::max(c.most, c.last);
}

std::vector<system_topics::value> system_topics::values_of(service& s) const {
  std::vector<value> all;
  const auto add = [&](const char* topic, std::uint64_t number) {
    all.push_back({std::string("$SYS/broker/") + topic, std::to_string(number)});
  };
  const chainring::broker& b = s.broker();
  const broker_counters core = b.counters();
  std::uint64_t received = s.gateway().counters().datagrams;
  if (s.mqtt() != nullptr) received += s.mqtt()->counters().packets;
  all.push_back({"$SYS/broker/version", "chainring version " CHAINRING_VERSION});
  const auto up = std::chrono::duration_cast<std::chrono::seconds>(clock::now() - begin_);
  all.push_back({"$SYS/broker/uptime", std::to_string(up.count()) + " seconds"});
  const std::uint32_t sessions = std::max(b.session_count(), clients_.last);
  add("clients/total", sessions);
  add("clients/connected", clients_.last);
  add("clients/disconnected", sessions - clients_.last);
  add("clients/maximum", clients_.most);
  add("clients/expired", core.expired);
  add("messages/received", received);
  add("publish/messages/received", core.published_qos0 + core.published_qos1 + core.published_qos2);
  add("publish/messages/sent", core.delivered + core.delivered_qos0);
  add("publish/messages/dropped", core.dropped_qos0 + core.dropped_newest + core.dropped_oldest +
                                      core.dropped_by_client + core.dropped_denied +
                                      core.expired_messages);
  const std::uint64_t stored = b.message_statistics().live;
  add("messages/stored", stored);
  add("store/messages/count", stored);
  add("subscriptions/count", b.subscription_count());
  add("shared_subscriptions/count", b.group_member_count());
  add("retained messages/count", b.retained_counts().messages);
  return all;
}

void system_topics::sample(service& s) {
  count_clients(s.broker());
  const auto now = clock::now();
  if (now < next_) return;
  next_ = now + interval_;
  newest_.offer(std::make_shared<const std::vector<value>>(values_of(s)));
}

bool system_topics::publish(broker_worker& core) noexcept {
  if (const auto& newest = newest_.take(); newest != current_) {
    current_ = newest;
    published_ = 0;
  }
  if (current_ == nullptr || published_ == current_->size()) return false;
  for (std::size_t n = 0; n < values_per_burst && published_ < current_->size(); ++n) {
    const value& v = (*current_)[published_++];
    const std::uint32_t topic = core.topics().intern(v.topic);
    if (topic == topic_names::none) continue; // held names fill the table
    core.publish(*this, no_session, topic, std::as_bytes(std::span(v.text)), {.qos = 0}, no_token);
  }
  return true;
}

} // namespace chainring::app
