// SPDX-License-Identifier: BSD-3-Clause
// How the connections of MQTT clients begin and end, and who may connect.
#include <array>
#include <cstdio>
#include <sys/random.h>

#include "mqtt/server_state.h"
#include "net/address.h"

namespace chainring::mqtt {

access::sender server_worker::state::who(const client& c, std::string_view id) const noexcept {
  return {.client_id = id,
          .address = {c.from.address.high, c.from.address.low},
          .listener = c.from.interface_id,
          .own_port = config.listeners[c.listener].port,
          .user = c.user};
}

void server_worker::state::handle(client& c, const connect& m) noexcept {
  if (!admit(c, m)) return;
  ++count.connects;
  session_options options{.clean_start = m.clean_start,
                          .ends_with_connection = m.clean_start,
                          .window = config.window_max,
                          .keep_alive_s = m.keep_alive_s,
                          .address = c.from.key(),
                          .source = net::host_of(c.from.address)};
  if (c.speaks == version::v5 && !begin_v5(c, m, options)) return;
  std::string_view id = m.client_id;
  std::array<char, 40> made{};
  if (id.empty()) {
    if (!m.clean_start && c.v5 == nullptr)
      return refuse(c, connect_return_code::identifier_rejected);
    if (c.v5 != nullptr) c.v5->has_assigned_id = true;
    // Whoever could guess the id would take the session over, so it is drawn as secrets are.
    std::array<unsigned long long, 2> drawn{};
    if (getrandom(drawn.data(), sizeof drawn, 0) != sizeof drawn)
      return refuse(c, connect_return_code::server_unavailable);
    const int n =
        std::snprintf(made.data(), made.size(), "auto-%016llx%016llx", drawn[0], drawn[1]);
    id = {made.data(), static_cast<std::size_t>(n)};
  }
  if (m.will && is_system_topic(m.will->topic)) {
    ++count.connects_denied;
    return refuse(c, connect_return_code::not_authorized);
  }
  if (rules.set != nullptr) {
    c.verdict = rules.set->judge(who(c, id));
    c.judged_under = rules.number;
    const bool will_denied =
        m.will && !rules.set->publish(c.verdict, who(c, id), m.will->topic).allowed;
    if (!c.verdict.connect().allowed || will_denied) {
      ++count.connects_denied;
      return refuse(c, connect_return_code::not_authorized);
    }
  }
  will_message will{};
  if (m.will)
    will = {.topic = m.will->topic,
            .content = m.will->payload,
            .properties = carried(m.will->properties),
            .qos = static_cast<std::uint8_t>(m.will->qos),
            .retain = m.will->retain,
            .delay_s = m.will->properties.will_delay_s.value_or(0)};
  if (m.will) options.will = &will;
  const std::uint64_t token =
      token_for({.what = pending::kind::connect, .connection = number_of(c), .life = c.life});
  const opened_session opened = core.open_session(*this, id, options, token);
  if (opened.status != open_status::opening) {
    free_tokens.push_back(static_cast<std::uint32_t>(token));
    const broker_config& limits = core_broker.config();
    if (c.v5 != nullptr && m.will && opened.status == open_status::refused &&
        (will.topic.size() > limits.topic_size_max ||
         will.content.size() + will.properties.size() > limits.content_size_max))
      return refuse(c, reason_code::packet_too_large,
                    "no listener of the broker could deliver so long a will");
    return refuse(c, opened.status == open_status::congestion
                         ? connect_return_code::server_unavailable
                         : connect_return_code::identifier_rejected);
  }
  tokens[token].present = opened.present;
  c.at = client::phase::opening;
  c.session = opened.session;
  c.keep_alive_s = m.keep_alive_s;
  c.sent.reserve(options.window);
  of_session[c.session] = number_of(c) + 1;
  arm(c);
}

void server_worker::state::settle_connect(client& c, const pending& p, outcome o) noexcept {
  if (c.at != client::phase::opening) return;
  if (o == outcome::lost) return end(c, broker_worker::end_reason::lost); // its will is not kept
  if (o != outcome::accepted) { // the core has no session of this connection any more
    of_session[c.session] = 0;
    c.session = no_session;
    return refuse(c, connect_return_code::server_unavailable);
  }
  c.at = client::phase::open;
  c.heard_tsc = now_tsc;
  if (c.v5 != nullptr)
    accept_v5(c, p.present);
  else
    write(c, 4, [&](std::span<std::byte> room) {
      return encode_connack(room, version::v3_1_1, {.session_present = p.present});
    });
  arm(c);
  defer(c);
}

// A client of MQTT 5.0 may ask for its will, and for another expiry of its session
// (sections 3.14.2.2.2 and 3.1.2.5).
void server_worker::state::handle(client& c, const disconnect& m) noexcept {
  ++count.disconnects;
  if (const auto expiry_s = m.properties.session_expiry_s;
      c.session != no_session && c.v5 != nullptr && expiry_s) {
    if (*expiry_s != 0 && c.v5->ends_with_connection) {
      ++count.unexpected;
      return fail(c, broker_worker::end_reason::lost, reason_code::protocol_error,
                  "the session expiry was 0 in CONNECT and is not 0 in DISCONNECT");
    }
    session_options options;
    (void)set_expiry(options, *expiry_s);
    core.set_expiry(c.session, options.expiry_s, options.ends_with_connection);
  }
  end(c, m.reason == reason_code::normal_disconnection ? broker_worker::end_reason::client
                                                       : broker_worker::end_reason::lost);
}

void server_worker::state::closed(std::uint32_t session, close_reason reason) noexcept {
  client* const c = of(session);
  if (c == nullptr) return;
  ++count.closed_by_core;
  tell_end(*c,
           reason == close_reason::taken_over ? reason_code::session_taken_over
                                              : reason_code::administrative_action,
           {});
  leave(*c);
}

// Judges a connection under new rules. The will of a client that is not allowed any more is not
// sent, because the rules would not let the client send it.
bool server_worker::state::judge(client& c) noexcept {
  if (rules.set == nullptr || c.judged_under == rules.number) return true;
  c.verdict = rules.set->judge(who(c, core.identity_of(c.session)));
  c.judged_under = rules.number;
  return c.verdict.connect().allowed;
}

void server_worker::state::adopt_rules() noexcept {
  constexpr std::uint32_t looked_at_per_round = 256;
  const access::rule_board::rules now = rules_board.adopt(0);
  if (now.number != rules.number) {
    rules = now;
    next_to_judge = 0;
  }
  if (next_to_judge == UINT32_MAX) return;
  const auto all = static_cast<std::uint32_t>(clients.size());
  const std::uint32_t last = std::min(all, next_to_judge + looked_at_per_round);
  for (; next_to_judge < last; ++next_to_judge) {
    client& c = clients[next_to_judge];
    if (c.at != client::phase::open || judge(c)) continue;
    ++count.ended_by_rules;
    fail(c, broker_worker::end_reason::client, reason_code::not_authorized);
  }
  if (next_to_judge >= all) next_to_judge = UINT32_MAX;
}

} // namespace chainring::mqtt
