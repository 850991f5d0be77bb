// SPDX-License-Identifier: BSD-3-Clause
// Connections: how they begin and how they end.
//
// An address belongs to one connection. A CONNECT from an address that another client holds first
// ends that client's connection. When another worker serves that client, the CONNECT waits until
// the worker has closed the connection and everything that it sent to the address has left. Of two
// CONNECTs from one address the one that was received later wins, whichever worker handles it
// first.
//
// Ordering labels:
//   [connection-home]  A worker stores its number in the home of a connection that it opens, and
//     reset() stores 0. A worker that finds its own number there has stored it itself, so the
//     connection is its own. For any other worker the home only says where to ask, and the worker
//     that is asked looks again. The access orders nothing.
#include <algorithm>
#include <cstring>
#include <rte_cycles.h>
#include <utility>

#include "mqttsn/gateway_state.h"

namespace chainring::mqttsn {

void gateway_worker::state::handle(const sender& from, const connect& m) noexcept {
  ++count.connects;
  // The protocol has no return code for an id that is empty or too long.
  if (!valid_client_id(m.client_id)) {
    ++count.connects_refused;
    return send_message(from.address, 3, connack{.code = return_code::not_supported});
  }
  if (!may_connect(from.address, m.client_id)) {
    ++count.connects_denied;
    return send_message(from.address, 3, connack{.code = return_code::not_supported});
  }
  if (!clear_address(from, m)) return;
  if (m.flags.will()) return prompt(from, m);
  if (will_prompt* const former = prompts.find(from.address)) prompts.erase(*former);
  open(from, m, nullptr);
}

// True when the client connects again over the connection that it has, so that no connection is
// lost. A client that sleeps may have another address when it wakes.
bool gateway_worker::state::same_connection(const sender& from, const connect& m) const noexcept {
  const std::uint32_t n = core.find_session(m.client_id);
  return n != none && serves(n) &&
         (address_of(n) == from.address ||
          common.connections[n].rest != connection::rest_state::active);
}

// Opens the session of a client, whose will is known if it has one.
void gateway_worker::state::open(const sender& from, const connect& m,
                                 const will_message* will) noexcept {
  if (m.flags.will() && !clear_address(from, m)) return; // time has passed since the CONNECT
  const session_options options{.clean_start = m.flags.clean(),
                                .ends_with_connection = m.flags.clean(),
                                .expiry_s = 0,
                                .window = 1,
                                .keep_alive_s = m.keep_alive_s,
                                .will = will,
                                .keep_will = !m.flags.will() && !m.flags.clean(),
                                .same_connection = same_connection(from, m),
                                .address = from.address,
                                .source = source_of(from.address)};
  // A node behind a forwarder that lost its place while its CONNECT waited has another address now.
  if (!common.nodes->is_current(from.address)) {
    ++count.connects_refused;
    return;
  }
  const std::uint64_t token =
      token_for({.what = pending_answer::kind::connack, .to = from.address});
  const opened_session opened = core.open_session(*this, m.client_id, options, token);
  if (opened.status != open_status::opening) {
    free_answers.push_back(static_cast<std::uint32_t>(token));
    ++count.connects_refused;
    const bool will_refused = will != nullptr && opened.status == open_status::refused;
    return send_message(
        from.address, 3,
        connack{.code = will_refused ? return_code::not_supported : return_code::congestion});
  }
  const std::uint32_t n = opened.session;
  connection& c = at(n);
  if (serves(n)) reset(n);
  answers[token].session = n;
  answers[token].life = c.life;
  c.keep_alive_s = m.keep_alive_s;
  if (m.flags.will()) c.prompted = connection::prompt::asked;
  c.connected_tsc = c.heard_tsc = from.received_tsc;
  c.address = from.address;
  c.home_plus_1.store(static_cast<std::uint8_t>(number + 1),
                      std::memory_order_relaxed); // [connection-home]
  admit(n, !opened.present);
  // Another worker's client may have connected from this address at the same moment. This
  // connection gets the address only after that client's connection is closed, so it ends and the
  // CONNECT waits.
  std::uint32_t other = none;
  common.addresses->alter(common.key_of(from.address), [&](std::optional<std::uint32_t>& now) {
    if (now && *now != n) other = *now;
    if (other == none) now = n;
    return map_status::done;
  });
  // The node may have lost its place since it was looked at above.
  if (other == none && !common.nodes->is_current(from.address)) {
    ++count.connects_refused;
    return end(n, broker_worker::end_reason::client);
  }
  if (other == none) return arm(n);
  end(n, broker_worker::end_reason::client);
  keep_waiting(from, m, other);
}

// Ends the connection of any other client at the sender's address. Returns false when the CONNECT
// has to wait or is refused.
bool gateway_worker::state::clear_address(const sender& from, const connect& m) noexcept {
  const auto other = common.addresses->get(common.key_of(from.address));
  if (!other) return true;
  connection& c = at(*other);
  const unsigned home_plus_1 = c.home_plus_1.load(std::memory_order_relaxed); // [connection-home]
  if (home_plus_1 == 0) return true; // that connection is ending

  // When the same client connects again from the same address, the core takes its session over.
  if (home_plus_1 == number + 1) {
    const sender before{from.address, *other, from.received_tsc};
    if (core.serves(before.session, m.client_id)) return true;
    if (c.connected_tsc > from.received_tsc) { // a later CONNECT came while this one waited
      ++count.connects_refused;
      return false;
    }
    ++count.addresses_taken;
    end(before.session, broker_worker::end_reason::lost);
    return true;
  }
  keep_waiting(from, m, *other);
  return false;
}

void gateway_worker::state::keep_waiting(const sender& from, const connect& m,
                                         std::uint32_t other) noexcept {
  const auto refuse = [&] {
    ++count.connects_refused;
    send_message(from.address, 3, connack{.code = return_code::congestion});
  };
  auto slot = std::ranges::find(waiting, from.address, &waiting_connect::from);
  if (slot == waiting.end())
    slot = std::ranges::find(waiting, client_address{}, &waiting_connect::from);
  if (slot == waiting.end()) return refuse();
  const address_request request{.address = from.address,
                                .session = other,
                                .from_worker = static_cast<std::uint16_t>(number),
                                .answered = false,
                                .superseded = false,
                                .received_tsc = from.received_tsc};
  // [connection-home]
  const unsigned home_plus_1 = at(other).home_plus_1.load(std::memory_order_relaxed);
  // A connection that has ended meanwhile has no home, so this worker asks itself.
  const unsigned home = home_plus_1 == 0 ? number : home_plus_1 - 1;
  if (slot->tries >= 8 || !common.requests[home]->push(&request)) {
    slot->from = 0;
    slot->tries = 0;
    return refuse();
  }
  slot->from = from.address;
  slot->received_tsc = from.received_tsc;
  ++slot->tries;
  slot->size = static_cast<std::uint16_t>(encode_connect(slot->datagram, m));
}

void gateway_worker::state::take_address_requests() noexcept {
  address_request r{};
  while (common.requests[number]->pop(&r)) {
    if (!r.answered) {
      if (serves(r.session, r.address)) {
        r.superseded = at(r.session).connected_tsc > r.received_tsc;
        if (!r.superseded) {
          ++count.addresses_taken;
          end(r.session, broker_worker::end_reason::lost);
        }
      }
      // The request is answered after this burst's release, once everything in it has left.
      address_handovers.push_back({r, 0});
      continue;
    }
    const auto slot = std::ranges::find(waiting, r.address, &waiting_connect::from);
    if (slot == waiting.end()) continue;
    if (r.superseded) {
      if (slot->received_tsc > r.received_tsc)
        continue; // a later CONNECT waits in the slot and has its own request
      ++count.connects_refused;
      slot->from = 0;
      slot->tries = 0;
      continue;
    }
    message m;
    const waiting_connect kept = *slot;
    slot->from = 0;
    const bool whole = decode({kept.datagram.data(), kept.size}, m) == decode_status::ok;
    if (whole && m.get<connect>() != nullptr)
      handle(sender{r.address, none, kept.received_tsc}, *m.get<connect>());
    if (slot->from == 0) slot->tries = 0;
  }
}

// Call after a release. `position` marks the end of everything that was sent to the address so far.
// Once that has left, the other worker may answer its client at the address.
void gateway_worker::state::answer_address_handovers() noexcept {
  for (std::size_t i = 0; i < address_handovers.size();) {
    address_handover& l = address_handovers[i];
    if (!l.request.answered) {
      l.request.answered = true;
      l.position = out->position(l.request.address);
    }
    if (!out->passed(l.request.address, l.position) ||
        !common.requests[l.request.from_worker]->push(&l.request)) {
      ++i;
      continue;
    }
    l = address_handovers.back();
    address_handovers.pop_back();
  }
}

void gateway_worker::state::handle(const sender& from, const disconnect& m) noexcept {
  if (!from.known()) return stranger(from, true);
  // It waited in another queue or in another worker's hands, and belongs to a former connection.
  if (at(from.session).connected_tsc > from.received_tsc) {
    ++count.unexpected;
    return;
  }
  if (m.duration_s != 0) return go_to_sleep(from, m.duration_s);
  ++count.disconnects;
  reset(from.session);
  // The answer goes to the address, which has no connection any more.
  core.close_session(from.session, broker_worker::end_reason::client,
                     token_for({.what = pending_answer::kind::disconnect, .to = from.address}));
}

// Ends a connection because the front end decides so.
void gateway_worker::state::end(std::uint32_t n, broker_worker::end_reason reason) noexcept {
  reset(n);
  core.close_session(n, reason);
}

// Ends the connection of a client that is silent or answers nothing, and sends it DISCONNECT.
void gateway_worker::state::lose(std::uint32_t n) noexcept {
  ++count.sessions_lost;
  const client_address to = address_of(n);
  reset(n);
  core.close_session(n, broker_worker::end_reason::lost);
  send_message(to, 2, disconnect{});
}

void gateway_worker::state::closed(std::uint32_t n, close_reason reason) noexcept {
  const client_address to = address_of(n);
  reset(n);
  if (reason == close_reason::kicked && to != 0) send_message(to, 2, disconnect{});
}

// Takes the connection's address out of the map if it still belongs to this session, because
// another client may have connected from there meanwhile.
void gateway_worker::state::leave_address(std::uint32_t n) noexcept {
  if (const client_address address = std::exchange(at(n).address, {}); address != 0) {
    senders.forget(senders.hash(address), n);
    common.addresses->alter(common.key_of(address), [n](std::optional<std::uint32_t>& now) {
      if (!now || *now != n) return map_status::mismatch;
      now.reset();
      return map_status::done;
    });
  }
}

// Forgets the connection.
void gateway_worker::state::reset(std::uint32_t n) noexcept {
  connection& c = at(n);
  c.home_plus_1.store(0, std::memory_order_relaxed); // [connection-home]
  leave_address(n);
  if (c.awake_listed) std::erase(awake, n);
  c.awake_listed = c.names_lacking = false;
  c.rest = connection::rest_state::active;
  c.prompted = connection::prompt::none;
  timers->cancel(c.timer);
  c.timer = {};
  c.timer_due = 0;
  for (std::uint32_t* of : {&c.list_plus_1, &c.offered_plus_1}) {
    std::uint32_t list = *of - 1;
    ids.forget_all(list);
    *of = 0;
  }
  ++c.life;
  c.phase = connection::exchange::idle;
  c.predefined_unknown = c.reported_too_long = false;
  c.refused_topic_plus_1 = 0;
  c.retries = c.corrections = 0;
  c.registration_plus_1 = 0;
  forget_ids(n);
  c.size_max = 0;
  c.judged_under = c.subscribed_under = 0;
  c.ticket = c.sent_ticket = c.wanted_ticket = c.refused_ticket = c.withdrawn_ticket = 0;
  c.volatile_sent_id = 0;
  c.retry_tsc = 0;
}

// Returns when the client counts as lost if it stays silent; 0 means never.
std::uint64_t gateway_worker::state::silence_end(const connection& c) const noexcept {
  const std::uint64_t allowed_s =
      c.rest == connection::rest_state::active ? c.keep_alive_s : c.sleep_s;
  // The tolerance is 10 % above one minute, else 50 % (MQTT-SN 1.2 section 7.2).
  return allowed_s == 0 ? 0
                        : c.heard_tsc + milliseconds(allowed_s * (allowed_s > 60 ? 1100 : 1500));
}

// Returns true when everything that the interface of the client received before `tsc` has been
// handled. Until then a datagram that ends the client's silence may still wait in the port.
bool gateway_worker::state::read_until(std::uint32_t n, std::uint64_t tsc) const noexcept {
  return heard == nullptr || heard->heard_until(address_of(n)) >= tsc;
}

// Sets the one timer of the session to the nearer of its two deadlines. When the timer fires, it
// checks whether the deadline has moved, so that no packet has to set the timer again.
void gateway_worker::state::arm(std::uint32_t n) noexcept {
  connection& c = at(n);
  std::uint64_t due = silence_end(c);
  if (c.retry_tsc != 0 && (due == 0 || c.retry_tsc < due)) due = c.retry_tsc;
  timers->cancel(c.timer);
  c.timer = {};
  if (due != 0 && due <= now_tsc)
    due = now_tsc + milliseconds(10); // the deadline is over but could not be judged yet
  c.timer_due = due;
  if (due == 0) return;
  c.timer = timers->arm(
      due,
      [](void* self, std::uint64_t session) noexcept {
        static_cast<state*>(self)->on_timer(static_cast<std::uint32_t>(session));
      },
      this, n);
}

void gateway_worker::state::on_timer(std::uint32_t n) noexcept {
  connection& c = at(n);
  c.timer = {};
  c.timer_due = 0;
  if (!serves(n)) return;
  if (const std::uint64_t end = silence_end(c); end != 0 && now_tsc >= end && read_until(n, end))
    return lose(n);
  if (c.retry_tsc != 0 && now_tsc >= c.retry_tsc && read_until(n, c.retry_tsc)) retransmit(n);
  if (serves(n) && c.timer_due == 0) arm(n);
}

} // namespace chainring::mqttsn
