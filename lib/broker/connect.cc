// SPDX-License-Identifier: BSD-3-Clause
// Sessions: how they begin and end.
//
// Edges:
//   [W2] [W3] release of a session's state -> [W1] acquire in find() and wake()
//   [W4] release of incarnation -> [W5] acquire in match (publish.cc)
//
// Crash windows. A session is one record; its commit word is the one commit of CONNECT, of a clean
// start and of a deletion:
//   [C1 < C2] the record's words, then its commit word, in one line in program order.
//      Crash between: the record is still free; CONNACK never left.
//   [C3 < C4] the new incarnation drained before the queue is emptied and the subscription cells
//      erased. Crash between: both carry the old incarnation, and open voids them.
#include "broker/worker.h"

namespace chainring {

void broker_worker::impl::connect(client_address from, const mqttsn::connect& m) noexcept {
  ++count.connects;
  auto answer = [&](mqttsn::return_code code) {
    if (code != mqttsn::return_code::accepted) ++count.connects_refused;
    reply(from, 3,
          [&](std::span<std::byte> b) { return mqttsn::encode_connack(b, {.code = code}); });
  };
  // Wills come later; an id that is empty or too long has no code of its own. The protocol counts
  // characters, and the session's record octets.
  if (m.flags.will() || !mqttsn::valid_client_id(m.client_id) ||
      m.client_id.size() > mqttsn::client_id_size_max)
    return answer(mqttsn::return_code::not_supported);

  const client_key key(m.client_id);
  const std::uint8_t flags = m.flags.clean() ? session_flag_clean : 0;
  std::uint32_t n = none;
  if (const auto known = shared.clients->get(key)) {
    n = *known;
    session& s = shared.sessions[n];
    // A clean session ends with its connection, and a new connection ends the old one.
    const bool over = m.flags.clean() || s.clean;
    if (s.state.load(std::memory_order_relaxed) == connection::active) {   // [W1] own session
      const std::uint64_t old = s.address.load(std::memory_order_relaxed); // [W2] own session
      if (old != from) forget_address(old, n);
    }
    topics.forget_all(s.registrations);
    if (over) wipe(s, n, true, flags);
    if (!over) state.queues().rewind(n);
  } else {
    {
      const std::lock_guard guard(shared.free_lock);
      if (shared.free_sessions.empty()) return answer(mqttsn::return_code::congestion);
      n = shared.free_sessions.back();
      shared.free_sessions.pop_back();
    }
    state.create_session(n, m.client_id, flags, m.keep_alive_s); // [C1 < C2]
    ++count.drains;
    const auto inserted = shared.clients->insert(key, n);
    CHAINRING_ASSERT(inserted == map_status::done);
  }

  session& s = shared.sessions[n];
  // Who was at this address before is not any more; its home is told, should it still be served.
  if (const auto other = shared.addresses->get(from); other && *other != n) wake(*other);
  shared.addresses->upsert(from, n);

  s.clean = m.flags.clean();
  s.home.store(static_cast<std::uint8_t>(number), std::memory_order_relaxed); // [W2] before state
  s.keep_alive_s.store(m.keep_alive_s, std::memory_order_relaxed);            // [W2] before state
  s.phase = session::exchange::idle;
  s.ticket = 0;
  s.retries = 0;
  s.retry_tsc = 0;
  s.heard_tsc = now_tsc;
  drop_volatile(s, true);
  s.incarnation.store(state.session_incarnation(n), std::memory_order_release); // [W4]
  s.address.store(from, std::memory_order_relaxed); // [W2] before the state that shows it
  // [W2] release: pairs with [W1]. Without it another lcore could hand this session
  // packets before its home is set.
  s.state.store(connection::active, std::memory_order_release);
  arm(s, n);
  answer(mqttsn::return_code::accepted);
  make_ready(s, n);
}

void broker_worker::impl::disconnect(session& s, std::uint32_t n, client_address from,
                                     const mqttsn::disconnect& m) noexcept {
  if (m.has_duration) ++count.unsupported; // sleeping clients come later: it is disconnected
  ++count.disconnects;
  reply(from, 2, [](std::span<std::byte> b) { return mqttsn::encode_disconnect(b); });
  end_connection(s, n);
}

void broker_worker::impl::end_connection(session& s, std::uint32_t n) noexcept {
  // [W3] release: pairs with [W1]. What ended with the connection comes before.
  s.state.store(connection::disconnected, std::memory_order_release);
  const std::uint64_t address = s.address.exchange(0, std::memory_order_relaxed); // [W2]
  forget_address(address, n);
  timers->cancel(s.timer);
  s.timer = {};
  s.timer_due = 0;
  s.phase = session::exchange::idle;
  s.ticket = 0;
  s.retry_tsc = 0;
  topics.forget_all(s.registrations);
  drop_volatile(s, true);
  if (s.clean) wipe(s, n, false, 0);
}

// Nobody else may have connected from there meanwhile.
void broker_worker::impl::forget_address(client_address address, std::uint32_t n) noexcept {
  shared.addresses->alter(address, [n](std::optional<std::uint32_t>& now) {
    if (!now || *now != n) return map_status::mismatch;
    now.reset();
    return map_status::done;
  });
}

void broker_worker::impl::wipe(session& s, std::uint32_t n, bool keep,
                               std::uint8_t flags) noexcept {
  // Publishers stop matching the session before its incarnation changes; one that matched earlier
  // carries the old incarnation, and its place is refused.
  const client_key key(state.client_id(n));
  s.phase = session::exchange::idle;
  s.ticket = 0;
  // [C3 < C4]
  state.end_incarnation(n, keep, flags, *shared.filters);
  count.drains += 3;
  s.incarnation.store(state.session_incarnation(n), std::memory_order_release); // [W4]
  if (keep) return;
  shared.clients->erase(key);
  // [W3] release: pairs with [W1].
  s.state.store(connection::none, std::memory_order_release);
  s.clean = false;
  // Its number may be another worker's session at once: nothing here may still point at it.
  if (s.ready) std::erase(ready, n);
  if (s.dirty) std::erase(dirty, n);
  s.ready = s.dirty = false;
  const std::lock_guard guard(shared.free_lock);
  shared.free_sessions.push_back(n);
}

// When a client that stays silent counts as lost; 0: never.
std::uint64_t broker_worker::impl::silence_end(const session& s) const noexcept {
  const std::uint64_t keep_alive_s = s.keep_alive_s.load(std::memory_order_relaxed); // [W2] own
  // Tolerance: 10 % above one minute, else 50 % (MQTT-SN 1.2 section 7.2).
  return keep_alive_s == 0
             ? 0
             : s.heard_tsc + milliseconds(keep_alive_s * (keep_alive_s > 60 ? 1100 : 1500));
}

// One timer a session: it fires at the nearest of the two deadlines as known when it was set, and
// looks then whether the deadline has moved. Nothing is re-armed per packet.
void broker_worker::impl::arm(session& s, std::uint32_t n) noexcept {
  std::uint64_t due = silence_end(s);
  if (s.retry_tsc != 0 && (due == 0 || s.retry_tsc < due)) due = s.retry_tsc;
  timers->cancel(s.timer);
  s.timer = {};
  s.timer_due = due;
  if (due == 0) return;
  s.timer = timers->arm(
      due,
      [](void* self, std::uint64_t session) noexcept {
        static_cast<impl*>(self)->on_timer(static_cast<std::uint32_t>(session));
      },
      this, n);
}

void broker_worker::impl::on_timer(std::uint32_t n) noexcept {
  session& s = shared.sessions[n];
  s.timer = {};
  s.timer_due = 0;
  if (s.state.load(std::memory_order_relaxed) != connection::active) return; // [W1] own session
  if (const std::uint64_t end = silence_end(s); end != 0 && now_tsc >= end) {
    ++count.sessions_lost;
    return end_connection(s, n);
  }
  if (s.retry_tsc != 0 && now_tsc >= s.retry_tsc && !retransmit(s, n)) return;
  arm(s, n);
}

} // namespace chainring
