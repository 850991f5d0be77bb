// SPDX-License-Identifier: BSD-3-Clause
// Access rules: who may connect, publish and subscribe (access/access.h).
//
// A client is judged once, when it connects; the verdict is kept with its connection. Whether it
// may publish to a topic is kept with the registration of the topic, so that a PUBLISH costs one
// comparison. New rules get a new number, which makes everything that was kept under another number
// stale: a connection is judged again with its next datagram, or when the worker comes to it. What
// is denied makes no state: no session, no registration, no topic name.
//
// A subscription is judged when it is made, and its filter must be allowed as a whole.
// Subscriptions of an earlier connection, or from before the rules changed, stay; each message that
// they bring is judged when it is delivered, and is dropped if the client may not read its topic.
#include <algorithm>

#include "mqttsn/gateway_state.h"
#include "net/address.h"

namespace chainring::mqttsn {

namespace {

// The connections that a worker looks at in one round after the rules have changed.
constexpr std::uint32_t looked_at_per_round = 256;

} // namespace

// The only place that knows how a transport makes an address of an Internet address.
access::sender gateway_worker::state::who(client_address from,
                                          std::string_view client_id) const noexcept {
  const net::endpoint e = net::endpoint::from_key(from);
  return {.client_id = client_id,
          .address = {e.address.high, e.address.low},
          .listener = e.interface_id,
          .own_port = common.config.own_port};
}

access::sender gateway_worker::state::who(std::uint32_t n) const noexcept {
  return who(address_of(n), core.identity_of(n));
}

// The sessions of all clients at one host count together, whatever their ports.
std::uint64_t gateway_worker::state::source_of(client_address from) const noexcept {
  return net::host_of(net::endpoint::from_key(from).address);
}

bool gateway_worker::state::may_connect(client_address from,
                                        std::string_view client_id) const noexcept {
  return rules.set == nullptr || rules.set->judge(who(from, client_id)).connect().allowed;
}

// Keeps the verdict on a client with its new connection, or at the new address of its connection.
// `new_session` says that the session has no subscriptions from before.
void gateway_worker::state::admit(std::uint32_t n, bool new_session) noexcept {
  if (rules.set == nullptr) return; // the first rules will judge the client
  admission& a = common.admissions[n];
  a.verdict = rules.set->judge(who(n));
  a.published.fill(0);
  connection& c = at(n);
  c.judged_under = rules.number;
  c.subscribed_under = new_session ? rules.number : 0;
}

// Judges a connection under new rules. Ends it and returns false when it is not allowed any more.
// The will of such a client is not sent, because the rules would not let the client send it.
bool gateway_worker::state::judge_again(std::uint32_t n) noexcept {
  admission& a = common.admissions[n];
  a.verdict = rules.set->judge(who(n));
  a.published.fill(0);
  at(n).judged_under = rules.number;
  if (a.verdict.connect().allowed) return true;
  ++count.ended_by_rules;
  const client_address to = address_of(n);
  end(n, broker_worker::end_reason::client);
  send_message(to, 2, disconnect{});
  return false;
}

// Takes over new rules, and judges some connections under them.
void gateway_worker::state::adopt_rules() noexcept {
  const access::rule_board::rules now = common.rules.adopt(number);
  if (now.number != rules.number) {
    rules = now;
    next_to_judge = 0;
  }
  if (next_to_judge == none) return;
  const std::uint32_t all = common.core.sessions_capacity();
  const std::uint32_t last = std::min(all, next_to_judge + looked_at_per_round);
  for (; next_to_judge < last; ++next_to_judge) {
    if (serves(next_to_judge)) (void)still_allowed(next_to_judge);
  }
  if (next_to_judge >= all) next_to_judge = none;
}

bool gateway_worker::state::may_publish(const sender& from, std::uint32_t registration) noexcept {
  registrations::entry& e = ids.at(registration);
  if (e.of_broker) return false;
  if (rules.set == nullptr) return true;
  if (e.publish_judged >> 1 != rules.number) [[unlikely]]
    e.publish_judged = word_of(rules.number, may_publish_to(from, topics.name(e.topic)));
  return (e.publish_judged & 1) != 0;
}

// A predefined or a short topic id, whose name never changes.
bool gateway_worker::state::may_publish(const sender& from, topic_id_type type, std::uint16_t id,
                                        std::string_view name) noexcept {
  if (is_system_topic(name)) return false;
  if (rules.set == nullptr) return true;
  if (!from.known()) return may_publish_to(from, name);
  std::uint32_t& kept = common.admissions[from.session].published[id % admission::published_max];
  // The word is never 0 when it holds a decision.
  const std::uint32_t key = std::uint32_t{id} << 4 | static_cast<std::uint32_t>(type) << 2 | 2;
  if ((kept & ~1u) != key) kept = key | (may_publish_to(from, name) ? 1u : 0u);
  return (kept & 1) != 0;
}

bool gateway_worker::state::may_publish_to(const sender& from,
                                           std::string_view name) const noexcept {
  if (is_system_topic(name)) return false;
  if (rules.set == nullptr) return true;
  if (from.known())
    return rules.set->publish(common.admissions[from.session].verdict, who(from.session), name)
        .allowed;
  const access::sender stranger = who(from.address, {});
  return rules.set->publish(rules.set->judge(stranger), stranger, name).allowed;
}

// Judges a topic name or a filter. For a shared subscription this is the filter behind its group,
// which the caller has taken apart.
bool gateway_worker::state::may_subscribe(std::uint32_t n, std::string_view filter) const noexcept {
  if (rules.set == nullptr) return true;
  return rules.set->subscribe(common.admissions[n].verdict, who(n), filter).allowed;
}

bool gateway_worker::state::judge_delivery(std::uint32_t n, std::uint32_t topic,
                                           std::string_view name) noexcept {
  const std::uint32_t r = topic == no_topic ? none : ids.find_by_topic(n, topic);
  if (r == none) return may_subscribe(n, name);
  registrations::entry& e = ids.at(r);
  if (e.deliver_judged >> 1 != rules.number)
    e.deliver_judged = word_of(rules.number, may_subscribe(n, name));
  return (e.deliver_judged & 1) != 0;
}

} // namespace chainring::mqttsn
