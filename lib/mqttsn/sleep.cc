// SPDX-License-Identifier: BSD-3-Clause
// Sleeping clients (MQTT-SN 1.2 section 6.14).
//
// A DISCONNECT with a duration puts a client to sleep. Its connection stays, with its topic ids and
// the exchange that is under way, but nothing is sent to it unasked, and the duration takes the
// place of the keep-alive time. A PINGREQ with its client id wakes the client. Then everything that
// waits for it is delivered as usual, and PINGRESP says that nothing more waits and that the client
// may sleep again.
//
// A client that falls silent while it is awake has gone back to sleep, as section 6.14 tells it to,
// so it is not lost before its duration is over.
//
// A client may have another address when it wakes, because nothing kept its path open meanwhile.
// Its PINGREQ is accepted from a new address if it sleeps and no other client is connected there.
#include <algorithm>

#include "mqttsn/gateway_state.h"

namespace chainring::mqttsn {

// A DISCONNECT with a duration, from a client that is active, asleep or awake.
void gateway_worker::state::go_to_sleep(const sender& from, std::uint16_t duration_s) noexcept {
  ++count.sleeps;
  connection& c = at(from.session);
  c.sleep_s = duration_s;
  fall_asleep(from.session, token_for({.what = pending_answer::kind::disconnect,
                                       .to = from.address,
                                       .session = from.session,
                                       .life = c.life}));
}

// An exchange that is under way stops, and goes on when the client wakes.
void gateway_worker::state::fall_asleep(std::uint32_t n, std::uint64_t token) noexcept {
  connection& c = at(n);
  c.rest = connection::rest_state::asleep;
  c.retry_tsc = 0;
  c.retries = 0;
  core.sleep(n, c.sleep_s, token);
  arm(n);
}

void gateway_worker::state::wake(std::uint32_t n) noexcept {
  connection& c = at(n);
  ++count.wakes;
  c.rest = connection::rest_state::awake;
  c.retries = 0;
  core.resume(n); // also where an exchange is under way, after which it goes on
  if (c.phase == connection::exchange::idle)
    go_on(n);
  else
    retransmit(n);
}

void gateway_worker::state::go_on_resting(std::uint32_t n) noexcept {
  connection& c = at(n);
  if (c.rest == connection::rest_state::asleep) return;
  if (c.rest == connection::rest_state::awake && !c.awake_listed) {
    c.awake_listed = true;
    awake.push_back(n);
  }
  core.resume(n);
}

// Sends PINGRESP to each client that is awake and for which nothing waits any more. Call it between
// the end of a burst and its release.
void gateway_worker::state::end_awakenings() noexcept {
  constexpr auto idle = connection::exchange::idle;
  std::erase_if(awake, [&](std::uint32_t n) {
    connection& c = at(n);
    const bool over = c.rest == connection::rest_state::awake &&
                      (core.delivered_all(n) || (c.names_lacking && c.phase == idle));
    // A client with an exchange under way is listed again when that is finished.
    if (!over && c.rest == connection::rest_state::awake && c.phase == connection::exchange::idle)
      return false;
    if (over && out->credit(address_of(n)) == 0) return false;
    c.awake_listed = c.names_lacking = false;
    if (!over) return true;
    send_message(address_of(n), 2, pingresp{});
    c.heard_tsc = std::max(c.heard_tsc, now_tsc); // the sleep begins anew
    fall_asleep(n, no_token);
    return true;
  });
}

void gateway_worker::state::handle(const sender& from, const pingreq& m) noexcept {
  if (!from.known()) return ping_from_elsewhere(from, m);
  const connection& c = at(from.session);
  if (!m.client_id.empty() && !core.serves(from.session, m.client_id))
    return stranger(from, false); // another client's connection is at the address of this one
  ++count.pings;
  switch (c.rest) {
  case connection::rest_state::asleep:
    if (!m.client_id.empty()) return wake(from.session);
    break;
  case connection::rest_state::awake: // PINGRESP follows when everything is delivered
    return;
  case connection::rest_state::active:
    break;
  }
  send_message(from.address, 2, pingresp{});
}

// A sleeping client may wake at another address.
void gateway_worker::state::ping_from_elsewhere(const sender& from, const pingreq& m) noexcept {
  const std::uint32_t n = m.client_id.empty() ? none : core.find_session(m.client_id);
  if (n == none || !serves(n) || at(n).rest != connection::rest_state::asleep ||
      !may_connect(from.address, m.client_id))
    return stranger(from, false);
  bool taken = false;
  const map_status status =
      common.addresses->alter(common.key_of(from.address), [&](std::optional<std::uint32_t>& now) {
        taken = now.has_value();
        if (taken) return map_status::mismatch;
        now = n;
        return map_status::done;
      });
  if (taken || status != map_status::done) return stranger(from, false);
  connection& c = at(n);
  // The client keeps its registrations, which were judged at its former host.
  if (who(n).address != who(from.address, {}).address ||
      who(n).listener != who(from.address, {}).listener) {
    for (const std::uint32_t list_plus_1 : {c.list_plus_1, c.offered_plus_1})
      ids.forget_judgements(list_plus_1 - 1);
    forget_ids(n);
  }
  leave_address(n);
  c.address = from.address;
  c.size_max = 0;
  c.connected_tsc = from.received_tsc;
  c.heard_tsc = std::max(c.heard_tsc, from.received_tsc);
  ++c.life; // what was asked from the former address is not answered
  admit(n, false);
  ++count.pings;
  ++count.addresses_moved;
  wake(n);
}

} // namespace chainring::mqttsn
