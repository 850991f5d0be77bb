// SPDX-License-Identifier: BSD-3-Clause
// Delivering messages: each is leased from the session's queue, offered to the session's front end,
// and acknowledged in the queue when the front end says so. Until the acknowledgement is durable, a
// crash makes the broker deliver the message again.
//
// Credit comes before a lease: a message that cannot be sent now stays in the queue. A message that
// was offered and not taken is kept and offered again after resume().
//
// Its ordering labels are described in sessions.cc.
#include <algorithm>
#include <cstring>

#include "base/hook.h"
#include "broker/worker_state.h"

namespace chainring {

bool delivery_content::copy_out(void* to) const noexcept {
  if (octets_.data() != nullptr) {
    std::memcpy(to, octets_.data(), octets_.size());
  } else {
    message_cursor at = chain_;
    at.copy_out(to, at.remaining());
  }
  return medium_ == nullptr || !medium_->lost_since(losses_);
}

// --- QoS 0 ------------------------------------------------------------------------------------

// Gives one target its copy. The caller keeps its own reference to the copy.
void broker_worker::state::hand_volatile(std::uint32_t message,
                                         const volatile_target& to) noexcept {
  session& s = at(to.session);
  // [home-read]
  if (s.state.load(std::memory_order_acquire) != connection::active)
    return; // QoS 0 messages are not kept for clients that are not connected
  common.volatiles->hold(message);
  if (s.home.load(std::memory_order_relaxed) == number) {                // [home-read]
    if (s.incarnation.load(std::memory_order_acquire) == to.incarnation) // [incarnation-read]
      return keep_volatile(s, to.session, message, to.bits);
  } else {
    const volatile_parcel parcel{message, to.session, to.incarnation, to.bits};
    // [home-read]
    if (common.inboxes[s.home.load(std::memory_order_relaxed)]->parcels.push(&parcel)) return;
    ++count.dropped_qos0;
  }
  common.volatiles->drop(message);
}

// Keeps the copy for the session, and takes over the caller's reference to it.
void broker_worker::state::keep_volatile(session& s, std::uint32_t n, std::uint32_t message,
                                         std::uint8_t bits) noexcept {
  if (s.volatile_count >= config.volatile_per_session_max || free_nodes.empty()) {
    ++count.dropped_qos0;
    ++s.dropped_qos0;
    common.volatiles->drop(message);
    return;
  }
  const std::uint32_t node = free_nodes.back();
  free_nodes.pop_back();
  nodes[node] = {message, none, bits};
  (s.volatile_count == 0 ? s.volatile_first : nodes[s.volatile_last].next) = node;
  s.volatile_last = node;
  ++s.volatile_count;
  make_ready(s, n);
}

void broker_worker::state::drop_volatile(session& s, bool all) noexcept {
  while (s.volatile_count != 0) {
    const std::uint32_t node = s.volatile_first;
    s.volatile_first = nodes[node].next;
    --s.volatile_count;
    common.volatiles->drop(nodes[node].message);
    free_nodes.push_back(node);
    if (!all) return;
  }
}

// --- messages in flight -----------------------------------------------------------------------

bool broker_worker::state::add_in_flight(session& s, std::uint64_t ticket) noexcept {
  if (s.first_ticket == 0) {
    s.first_ticket = ticket;
  } else {
    if (free_flights.empty()) return false;
    const std::uint32_t node = free_flights.back();
    free_flights.pop_back();
    flights[node] = {ticket, s.more_tickets};
    s.more_tickets = node;
  }
  ++s.in_flight;
  return true;
}

bool broker_worker::state::is_in_flight(const session& s, std::uint64_t ticket) const noexcept {
  if (ticket == 0) return false;
  if (s.first_ticket == ticket) return true;
  for (std::uint32_t node = s.more_tickets; node != none; node = flights[node].next)
    if (flights[node].ticket == ticket) return true;
  return false;
}

bool broker_worker::state::remove_in_flight(session& s, std::uint64_t ticket) noexcept {
  if (ticket == 0) return false;
  if (remove_first_in_flight(s, ticket)) return true;
  for (std::uint32_t* link = &s.more_tickets; *link != none; link = &flights[*link].next) {
    const std::uint32_t node = *link;
    if (flights[node].ticket != ticket) continue;
    *link = flights[node].next;
    free_flights.push_back(node);
    --s.in_flight;
    return true;
  }
  return false;
}

void broker_worker::state::clear_in_flight(session& s) noexcept {
  s.first_ticket = 0;
  s.in_flight = 0;
  while (s.more_tickets != none) {
    const std::uint32_t node = s.more_tickets;
    s.more_tickets = flights[node].next;
    free_flights.push_back(node);
  }
}

// --- drop oldest ------------------------------------------------------------------------------

// Takes what other workers have asked for in bytes: of all their messages together, and of the
// shortest. What a worker adds between the two counts for both or for the first.
broker_worker::state::asked_bytes broker_worker::state::take_bytes_asked(session& s) noexcept {
  const std::uint64_t least =
      s.bytes_asked_least.exchange(UINT64_MAX, std::memory_order_relaxed);        // [bytes-asked]
  const std::uint64_t all = s.bytes_asked.exchange(0, std::memory_order_relaxed); // [bytes-asked]
  return {all, std::min(least, all)};
}

// Makes room in the queue when other workers have asked for it, as far as it has none yet.
void broker_worker::state::drop_asked(session& s, std::uint32_t n) noexcept {
  const std::uint32_t asked = durable.queues().drop_requested(n);
  if (asked == 0 && s.bytes_asked.load(std::memory_order_relaxed) == 0) return; // [bytes-asked]
  const auto [bytes, least] = take_bytes_asked(s);
  drop_plan plan = plan_drop(n, asked, bytes);
  // Where there is no room for all of the messages, there may be some for the shortest. Nothing is
  // dropped for a message that finds no room all the same.
  if (!plan.possible && bytes != 0) plan = plan_drop(n, 1, least);
  if (!plan.possible && bytes != 0) plan.entries = 0;
  count.dropped_oldest += durable.queues().drop_oldest(n, plan.entries); // this ends the requests
  make_dirty(s, n);
  if (plan.entries == 0) return;
  ++moved;
  forget_dropped(s, n);
}

// Ends the exchanges of messages that were sent and then dropped, so that the next ones can begin.
void broker_worker::state::forget_dropped(session& s, std::uint32_t n) noexcept {
  const queue_table& queues = durable.queues();
  const auto gone = [&](std::uint64_t ticket) {
    return ticket != 0 && (ticket & group_ticket_bit) == 0 &&
           queues.resolve(n, packet_id_of(ticket)) != ticket;
  };
  if (s.has_pending && gone(s.pending.ticket())) s.has_pending = false;
  constexpr std::size_t at_once = 16;
  std::uint64_t ended[at_once];
  for (std::size_t found = at_once; found == at_once;) {
    found = 0;
    if (gone(s.first_ticket)) ended[found++] = s.first_ticket;
    for (std::uint32_t node = s.more_tickets; node != none && found < at_once;
         node = flights[node].next)
      if (gone(flights[node].ticket)) ended[found++] = flights[node].ticket;
    for (std::size_t i = 0; i < found; ++i) {
      remove_in_flight(s, ended[i]);
      if (s.server != nullptr) s.server->withdrawn(n, ended[i]);
    }
  }
  s.paused = false;
  make_ready(s, n);
}

// --- offering ---------------------------------------------------------------------------------

void broker_worker::state::deliver(session& s, std::uint32_t n) noexcept {
  s.ready = s.exhausted = false;
  if (drops_oldest) drop_asked(s, n);
  // [home-read]
  if (s.state.load(std::memory_order_relaxed) != connection::active || s.paused ||
      s.asleep.load(std::memory_order_relaxed)) // [turn-only]
    return pass_on(s);
  if (s.membership_count() == 0 && s.volatile_count == 0) return deliver_own(s, n);
  if (s.unsettled != 0) return pass_on(s); // the settlement of a subscription comes first
  if (s.volatile_count == 0 && is_window_full(s)) return pass_on(s);
  // The front end may close the session while it is called. [home-read]
  const auto able = [&] {
    return !s.paused &&
           s.state.load(std::memory_order_relaxed) == connection::active; // [home-read]
  };
  shared_visit visit;
  std::uint32_t credit = s.server->credit(n);
  for (;; --credit) {
    if (s.volatile_count == 0 && is_window_full(s)) return pass_on(s);
    if (credit == 0) {
      pass_on(s);
      return make_ready(s, n);
    }
    bool more = false;
    if (s.volatile_count != 0) {
      more = offer_volatile(s, n);
    } else if (s.membership_count() == 0) {
      more = offer_leased(s, n);
    } else { // the session's own queue and its groups take turns
      s.groups_next = !s.groups_next;
      more = s.groups_next ? offer_leased(s, n) : offer_shared(s, n, visit);
      if (!more && able()) more = s.groups_next ? offer_shared(s, n, visit) : offer_leased(s, n);
    }
    if (!able()) return pass_on(s);
    if (!more) {
      s.exhausted = !s.has_pending && s.pending_leases == 0 && s.moving == 0;
      break;
    }
  }
  if (s.membership_count() != 0) end_visit(s, n, may_take_shared(s));
}

// Offers what waits in the own queue of an active session that has no QoS 0 messages and is in no
// group. Nobody else waits for these messages, so there is nothing to pass on.
void broker_worker::state::deliver_own(session& s, std::uint32_t n) noexcept {
  if (s.unsettled != 0 || is_window_full(s)) return; // the settlement of a subscription comes first
  // After an acknowledgement the queue is often empty. Then the front end is not asked for credit.
  if (!s.has_pending && !durable.queues().may_lease(n)) {
    s.exhausted = true;
    return;
  }
  for (std::uint32_t credit = s.server->credit(n); !is_window_full(s); --credit) {
    if (credit == 0) return make_ready(s, n);
    const bool more = offer_leased(s, n);
    // The front end may close the session while it is called. [home-read]
    if (s.paused || s.state.load(std::memory_order_relaxed) != connection::active) return;
    if (!more) {
      s.exhausted = !s.has_pending;
      return;
    }
  }
}

// Copies the properties of a message to where a front end reads them. Returns false where they are
// longer than anything that this broker accepts. Zeros in front of a payload that lies where a port
// received it are no properties.
bool broker_worker::state::copy_properties(message_cursor properties) noexcept {
  extras = {};
  const std::span<const std::byte> first = properties.contiguous();
  if (first.empty() || first.front() == std::byte{0}) return true;
  const auto size = static_cast<std::size_t>(properties.remaining());
  if (size > properties_buffer.size()) return false;
  properties.copy_out(properties_buffer.data(), size);
  extras.properties = std::span(properties_buffer).first(size);
  return true;
}

// Offers the oldest QoS 0 message. Returns false when nothing more can be offered to this session
// now.
bool broker_worker::state::offer_volatile(session& s, std::uint32_t n) noexcept {
  const volatile_node& first = nodes[s.volatile_first];
  delivery_item item;
  const slot_delivery bits = slot_delivery::unpack(first.bits);
  item.front_end_bits = bits.front_end;
  item.retain = bits.retain;
  item.topic = names.intern(common.volatiles->topic(first.message));
  item.name = common.volatiles->topic(first.message);
  item.content = delivery_content(common.volatiles->payload(first.message));
  if (common.volatiles->has_properties(first.message)) [[unlikely]] {
    extras = common.volatiles->extras(first.message);
    item.extras = &extras;
    if (extras.expires_ns != 0 && extras.expires_ns <= store::now_ns()) {
      ++count.expired_messages;
      ++s.expired_messages;
      ++moved;
      drop_volatile(s, false);
      return true;
    }
  }
  if (s.server->deliver(n, {&item, 1}) == 0) {
    s.paused = true;
    return false;
  }
  ++count.delivered_qos0;
  ++s.delivered;
  ++moved;
  // The front end may have closed the session, and so dropped its waiting messages.
  if (s.volatile_count != 0) drop_volatile(s, false);
  let_scans_go_on(s);
  return true;
}

// Acknowledges a damaged message in its queue, which its front end never sees.
void broker_worker::state::settle_unseen(std::uint32_t n, std::uint64_t ticket) noexcept {
  ++count.damaged; // a damaged message is never delivered
  ++moved;
  if (durable.queues().ack(n, ticket) != ack_status::ignored) make_dirty(at(n), n);
}

// True when bytes from here on lie in memory that was lost. It is asked only after a loss.
bool broker_worker::state::in_lost_memory(message_cursor at) noexcept {
  while (at.remaining() != 0) {
    const std::span<const std::byte> next = at.contiguous();
    if (medium.lost(next.data(), next.size())) return true;
    at.advance(next.size());
  }
  return false;
}

// Acknowledges a message in its queue that has expired, so that its client does not get it.
void broker_worker::state::settle_expired(session& s, std::uint32_t n,
                                          std::uint64_t ticket) noexcept {
  ++count.expired_messages;
  ++s.expired_messages;
  ++moved;
  if (durable.queues().ack(n, ticket) != ack_status::ignored) make_dirty(s, n);
}

// Views and verifies a leased message of a queue with this seal. `again` says that memory was lost
// during the call, so that the message must be verified again.
broker_worker::state::viewed broker_worker::state::view_leased(std::uint32_t seal, const leased& l,
                                                               delivery_item& out) noexcept {
  const slot_delivery bits = slot_delivery::unpack(l.delivery());
  // A damaged slot does not say which message it means.
  if (!slot_delivery::whole(seal, l.ref.word)) return viewed::damaged;
  if (l.state() == slot_state::pubrec) { // the client has the message, and its content is not read
    out.ticket = l.ticket();
    out.qos = bits.qos;
    out.redelivered = out.released = true;
    return viewed::whole;
  }
  message_view v;
  const std::uint64_t before = medium.losses();
  if (durable.messages().view(l.message(), v) != message_status::ok ||
      !durable.messages().verify(v) || v.topic.remaining() > name_buffer.size())
    return viewed::damaged;
  // A QoS 2 message that the client may have in part ends only by the client's answers.
  if (v.fields.expires_ns != 0 && v.fields.expires_ns <= store::now_ns() &&
      (bits.qos != 2 || !l.redelivered()))
    return viewed::expired;
  // A publish into lost memory can be read until the process ends, but it was not acknowledged. Its
  // publisher sends it again, and at QoS 2 it must not be delivered twice.
  if (before != 0 && v.fields.qos == 2 && in_lost_memory(v.all)) [[unlikely]]
    return viewed::damaged;
  hook_point("broker.deliver.verified");
  const auto length = static_cast<std::size_t>(v.topic.remaining());
  v.topic.copy_out(name_buffer.data(), length);
  if (v.properties.remaining() != 0) [[unlikely]] {
    if (!copy_properties(v.properties)) return viewed::damaged;
    extras.expires_ns = v.fields.expires_ns;
    if (!extras.properties.empty()) out.extras = &extras;
  }
  if (medium.lost_since(before)) [[unlikely]] // the copied name may not be the verified one
    return viewed::again;
  out.ticket = l.ticket();
  out.qos = bits.qos;
  out.retain = bits.retain;
  out.redelivered = l.redelivered();
  out.front_end_bits = bits.front_end;
  out.topic = names.intern({name_buffer.data(), length});
  out.name = {name_buffer.data(), length};
  out.content = delivery_content(v.payload, medium, before);
  return viewed::whole;
}

// Describes a leased message that this worker has published in this burst. What the worker knows of
// it need not be read back from media, and its topic need not be looked for again. Returns false
// for any other message, and for one that may have been delivered before.
bool broker_worker::state::describe_fresh(const session& s, const leased& l,
                                          delivery_item& out) noexcept {
  // The number of a burst comes again after 2^32 of them, so what it leads to is compared as well.
  if (s.fresh_burst != burst_number || s.fresh_group >= groups_done.size()) return false;
  const group& g = groups_done[s.fresh_group];
  const std::uint64_t i = l.ticket() - g.placement.first_ticket;
  if (i >= g.count && !seeded_bug("broker.fresh_unmatched")) return false;
  const target& t = targets_done[g.first + (i < g.count ? i : 0)];
  const staged_publish& p = staged_done[t.publish];
  // The slot is compared with what was placed in it: a damaged one is left to view_leased().
  const bool same =
      p.content.ref == l.message() && t.sealed == l.delivery() && l.state() == slot_state::queued;
  if ((!same && !seeded_bug("broker.fresh_unmatched")) || l.redelivered() || p.lost ||
      p.octets.data() == nullptr)
    return false;
  const slot_delivery bits = slot_delivery::unpack(t.bits);
  out.ticket = l.ticket();
  out.qos = bits.qos;
  out.retain = bits.retain;
  out.front_end_bits = bits.front_end;
  out.topic = p.topic;
  out.name = names.name(p.topic);
  out.content = delivery_content(p.octets, medium, losses);
  return true;
}

// Describes the next message of a session's queue. Returns false when the message is damaged or
// expired and so acknowledged, or when it must be verified again.
bool broker_worker::state::describe(session& s, std::uint32_t n, const leased& l,
                                    delivery_item& out) noexcept {
  if (describe_fresh(s, l, out)) return true;
  switch (view_leased(n, l, out)) {
  case viewed::whole:
    return true;
  case viewed::damaged:
    settle_unseen(n, l.ticket());
    return false;
  case viewed::expired:
    settle_expired(s, n, l.ticket());
    return false;
  case viewed::again:
    s.has_pending = true;
    s.pending = l;
    make_ready(s, n);
    return false;
  }
  return false;
}

// Gives the front end a leased message, which waits as `pending` where it is not taken. Returns
// false when nothing more can be offered now.
bool broker_worker::state::offer(session& s, std::uint32_t n, const leased& entry,
                                 const delivery_item& item) noexcept {
  if (!add_in_flight(s, item.ticket)) { // other sessions use the whole pool of the worker
    s.has_pending = true;
    s.pending = entry;
    make_ready(s, n);
    return false;
  }
  const std::uint16_t sent = s.in_flight;
  const std::size_t taken = s.server->deliver(n, {&item, 1});
  ++moved;
  // [home-read]
  if (s.state.load(std::memory_order_relaxed) != connection::active) return false;
  if (taken == 0) {
    if (remove_in_flight(s, item.ticket)) {
      s.has_pending = true;
      s.pending = entry;
    }
    s.paused = true;
    return false;
  }
  if (s.in_flight == sent && !item.released) { // else it was acknowledged or skipped at once
    ++count.delivered;
    ++s.delivered;
  }
  return true;
}

// Offers the next message at QoS 1 or 2. Returns false when nothing more can be offered now.
bool broker_worker::state::offer_leased(session& s, std::uint32_t n) noexcept {
  leased next;
  if (s.has_pending) {
    next = s.pending;
    s.has_pending = false;
  } else if (durable.queues().lease(n, {&next, 1}) == 0) {
    s.exhausted = true;
    return false;
  }
  if (next.ticket() >= s.last_taken) s.last_taken = 0;
  delivery_item item;
  return describe(s, n, next, item) ? offer(s, n, next, item) : !s.has_pending;
}

// --- turns ------------------------------------------------------------------------------------

void broker_worker::state::deliver_ready() noexcept {
  deliver_direct();
  // Deliveries may make more sessions ready; these wait for the next round.
  ready.swap(ready_next);
  ready.clear();
  // A session that only waits for credit does not count as work, so that the worker's loop may
  // sleep.
  const std::uint64_t moved_before = moved;
  const std::uint64_t heard =
      count.acked.value() + count.published_qos1.value() + count.published_qos2.value();
  const std::uint64_t heard_now = heard - std::exchange(heard_before, heard);
  if (ready_next.size() > deliveries_max || !backlog.empty()) [[unlikely]]
    deliver_backlog(std::max<std::size_t>(deliveries_max, heard_now));
  for (const std::uint32_t n : ready_next)
    deliver(at(n), n);
  did_work |= moved != moved_before;
  ready_next.clear();
}

// Delivers to some of the sessions of a wide fan-out, and leaves the others for the next rounds.
// The clients answer as fast as they are sent messages, and a round reads few answers; what comes
// faster is lost in the port, and delivered again much later. So `most` of them have their turn: as
// many as messages and answers came in this round, or 64 where fewer did. The sessions that became
// ready now are not kept waiting by those of a wide fan-out before them.
void broker_worker::state::deliver_backlog(std::size_t most) noexcept {
  if (ready_next.size() > most) {
    backlog.erase(backlog.begin(), backlog.begin() + static_cast<std::ptrdiff_t>(backlog_from));
    backlog_from = 0;
    backlog.insert(backlog.end(), ready_next.begin(), ready_next.end());
    ready_next.clear();
  }
  const std::size_t end = std::min(backlog.size(), backlog_from + most);
  const std::size_t handled = end - backlog_from;
  while (backlog_from < end) {
    const std::uint32_t n = backlog[backlog_from++];
    deliver(at(n), n);
  }
  if (backlog_from != backlog.size()) {
    // Those that wait for credit are ready again. Where others have left the list, the next ones
    // may find credit.
    did_work |= ready.size() < handled;
    return;
  }
  backlog.clear();
  backlog_from = 0;
}

// --- answers ----------------------------------------------------------------------------------

void broker_worker::state::ack(std::uint32_t n, std::uint64_t ticket, ack_reason reason) noexcept {
  if (own(n)) ack(at(n), n, ticket, reason);
}

// Acknowledges a message of an own session; the acknowledgement becomes durable with the next
// burst.
void broker_worker::state::ack(session& s, std::uint32_t n, std::uint64_t ticket,
                               ack_reason reason) noexcept {
  if ((ticket & group_ticket_bit) != 0 || (ticket == 0 && offered_lease != 0))
    return ack_shared(s, n, ticket, reason);
  // The ticket may be late, doubled or made up.
  if (!remove_first_in_flight(s, ticket) && !remove_in_flight(s, ticket)) return;
  ++(reason == ack_reason::delivered ? count.acked
     : reason == ack_reason::denied  ? count.dropped_denied
                                     : count.dropped_by_client);
  bool more = true;
  const auto ack_out_of_order = [&]() __attribute__((noinline, cold)) {
    if (durable.queues().ack(n, ticket) != ack_status::ignored) make_dirty(s, n);
    more = durable.queues().may_lease(n);
  };
  if (durable.queues().ack_oldest(n, ticket, more)) [[likely]]
    make_dirty(s, n);
  else
    ack_out_of_order();
  // Most clients have acknowledged all that there is for them. Then there is nothing to offer.
  s.exhausted = !s.ready && offers_own_only(s) && !more;
  if (!s.exhausted) make_ready(s, n);
}

void broker_worker::state::give_back(std::uint32_t n, std::uint64_t ticket) noexcept {
  session& s = at(n);
  if (!own(n)) return;
  if ((ticket & group_ticket_bit) != 0) return give_back_one(s, n, ticket);
  if (!remove_in_flight(s, ticket)) return;
  ++count.given_back;
  (void)durable.queues().nack(n, ticket);
  make_ready(s, n);
}

// Skips a message, whose lease goes on. Nothing acknowledges it before the session's next
// connection, whose rewind offers it again.
void broker_worker::state::skip(std::uint32_t n, std::uint64_t ticket) noexcept {
  session& s = at(n);
  if (!own(n)) return;
  if ((ticket & group_ticket_bit) != 0 || (ticket == 0 && offered_lease != 0))
    return skip_shared(s, n, ticket);
  if (!remove_in_flight(s, ticket)) return;
  ++count.skipped;
  make_ready(s, n);
}

} // namespace chainring
