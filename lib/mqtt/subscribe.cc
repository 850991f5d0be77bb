// SPDX-License-Identifier: BSD-3-Clause
// SUBSCRIBE and UNSUBSCRIBE, which ask for several filters at once and are answered once.
#include "mqtt/server_state.h"

namespace chainring::mqtt {

namespace {
/// What a client may be told about a filter.
reason_code reason_of(outcome o) noexcept {
  switch (o) {
  case outcome::accepted:
    return reason_code::success;
  case outcome::congestion:
    return reason_code::quota_exceeded;
  case outcome::too_long:
    return reason_code::topic_filter_invalid;
  case outcome::not_found:
    return reason_code::no_subscription_existed;
  case outcome::repeated:
  case outcome::lost:
    break;
  }
  return reason_code::unspecified_error;
}

constexpr std::string_view too_many_filters = "the packet has more filters than the broker allows";
} // namespace

void server_worker::state::handle(client& c, const subscribe& m) noexcept {
  ++count.subscribes;
  const std::size_t n = m.subscriptions.size();
  if (n > config.subscriptions_per_packet_max) {
    ++count.too_long;
    return fail(c, broker_worker::end_reason::lost, reason_code::quota_exceeded, too_many_filters);
  }
  if (rules.set != nullptr && !judge(c)) {
    ++count.ended_by_rules;
    return fail(c, broker_worker::end_reason::client, reason_code::not_authorized);
  }
  if (free_lists.empty()) {
    free_lists.push_back(static_cast<std::uint32_t>(lists.size()));
    lists.emplace_back();
  }
  pending p{.what = pending::kind::subscribe,
            .packet_id = m.packet_id,
            .connection = number_of(c),
            .life = c.life,
            .list = free_lists.back()};
  free_lists.pop_back();
  lists[p.list].reasons.assign(n, reason_code::unspecified_error);
  lists[p.list].left = 1; // one more than there are outcomes to come, until all are asked for
  answer_list& answers = lists[p.list];
  answers.identifier =
      m.properties.subscription_ids.empty() ? 0 : *m.properties.subscription_ids.begin();
  if (c.v5 != nullptr && (answers.identifier != 0 || !c.v5->identified.empty()))
    for (const subscription& s : m.subscriptions)
      answers.filters.emplace_back(s.filter);
  for (const subscription& s : m.subscriptions) {
    // Access rules are about the filter and not about the group.
    const auto shared = split_shared_filter(s.filter);
    const std::string_view names = shared ? shared->filter : s.filter;
    const bool valid = !asks_to_share(s.filter) || shared.has_value();
    const bool allowed =
        rules.set == nullptr ||
        rules.set->subscribe(c.verdict, who(c, core.identity_of(c.session)), names).allowed;
    const bool identifiable = answers.identifier == 0 || may_identify(c, p.entry, s.filter);
    if (!allowed) ++count.subscribes_denied;
    if (!valid) ++count.subscribes_refused;
    if (!identifiable) ++count.identifiers_refused;
    if (!identifiable) lists[p.list].reasons[p.entry] = reason_code::quota_exceeded;
    if (!allowed) lists[p.list].reasons[p.entry] = reason_code::not_authorized;
    if (!valid) lists[p.list].reasons[p.entry] = reason_code::topic_filter_invalid;
    if (valid && allowed && identifiable) {
      p.qos = static_cast<std::uint8_t>(s.qos);
      ++lists[p.list].left;
      core.subscribe(c.session, s.filter, options_of(s, m), token_for(p));
    }
    ++p.entry;
  }
  answer_when_complete(&c, p);
}

void server_worker::state::handle(client& c, const unsubscribe& m) noexcept {
  ++count.unsubscribes;
  const std::size_t n = m.filters.size();
  if (n > config.subscriptions_per_packet_max) {
    ++count.too_long;
    return fail(c, broker_worker::end_reason::lost, reason_code::quota_exceeded, too_many_filters);
  }
  if (free_lists.empty()) {
    free_lists.push_back(static_cast<std::uint32_t>(lists.size()));
    lists.emplace_back();
  }
  pending p{.what = pending::kind::unsubscribe,
            .packet_id = m.packet_id,
            .connection = number_of(c),
            .life = c.life,
            .list = free_lists.back()};
  free_lists.pop_back();
  lists[p.list].reasons.assign(n, reason_code::unspecified_error);
  lists[p.list].left = static_cast<std::uint32_t>(n) + 1;
  if (c.v5 != nullptr && !c.v5->identified.empty())
    for (const std::string_view filter : m.filters)
      lists[p.list].filters.emplace_back(filter);
  for (const std::string_view filter : m.filters) {
    core.unsubscribe(c.session, filter, token_for(p));
    ++p.entry;
  }
  answer_when_complete(&c, p);
}

// Notes the outcome of one filter. In MQTT 3.1.1 an UNSUBSCRIBE is answered whatever came of it.
void server_worker::state::settle_entry(client* c, const pending& p, outcome o) noexcept {
  const bool subscribes = p.what == pending::kind::subscribe;
  if (subscribes && o != outcome::accepted) ++count.subscribes_refused;
  reason_code reason = subscribes && o == outcome::accepted ? reason_code(p.qos) : reason_of(o);
  if (!allowed_in(subscribes ? packet_type::suback : packet_type::unsuback, reason))
    reason = reason_code::unspecified_error;
  lists[p.list].reasons[p.entry] = reason;
  if (c != nullptr && o == outcome::accepted && !lists[p.list].filters.empty())
    identify(*c, lists[p.list].filters[p.entry], subscribes ? lists[p.list].identifier : 0);
  answer_when_complete(c, p);
}

subscribe_options server_worker::state::options_of(const subscription& s,
                                                   const subscribe& m) noexcept {
  subscribe_options options{.qos = static_cast<std::uint8_t>(s.qos),
                            .retain_as_published = s.retain_as_published,
                            .no_local = s.no_local};
  switch (s.retain_handling) {
  case retain_handling::send:
    options.retain_handling = chainring::retain_handling::always;
    break;
  case retain_handling::send_if_new:
    options.retain_handling = chainring::retain_handling::if_new;
    break;
  case retain_handling::do_not_send:
    options.retain_handling = chainring::retain_handling::never;
    break;
  }
  if (!m.properties.subscription_ids.empty())
    options.identifier = *m.properties.subscription_ids.begin();
  return options;
}

// Sends the answer when this was the last outcome. Without the client the place is given back.
void server_worker::state::answer_when_complete(client* c, const pending& p) noexcept {
  answer_list& l = lists[p.list];
  if (--l.left != 0) return;
  if (c != nullptr) {
    if (c->speaks == version::v3_1_1) // it knows one reason for everything that is refused
      for (reason_code& r : l.reasons)
        if (failed(r)) r = reason_code::unspecified_error;
    const std::size_t size = 16 + l.reasons.size();
    const reason_list reasons = std::span(std::as_const(l.reasons));
    std::size_t written = 0;
    write(*c, size, [&](std::span<std::byte> room) {
      written =
          p.what == pending::kind::subscribe
              ? encode_suback(room, c->speaks, {.packet_id = p.packet_id, .reasons = reasons})
              : encode_unsuback(room, c->speaks, {.packet_id = p.packet_id, .reasons = reasons});
      return written <= packet_size_limit(*c) ? written : 0;
    });
    // A client that takes no packet so long waits for no answer in vain.
    if (written > packet_size_limit(*c)) {
      c->condemned = true;
      defer(*c);
    }
  }
  l.reasons.clear();
  l.reasons.shrink_to_fit();
  l.filters.clear();
  l.filters.shrink_to_fit();
  free_lists.push_back(p.list);
}

} // namespace chainring::mqtt
