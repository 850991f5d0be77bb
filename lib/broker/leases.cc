// SPDX-License-Identifier: BSD-3-Clause
// Messages of groups, as a worker delivers them: they are leased from the queues of groups,
// offered, acknowledged, and given back to the other members.
//
// A lease has a deadline, which the member's home keeps: only the home can tell the front end that
// a message was taken back. An acknowledgement that comes later finds that its lease has ended. A
// session has few leases beyond its window, so that a client that skips every message leaves most
// of them to the others.
//
// Its ordering labels [group-seen] and [turn-only] are described in groups.cc, and [home-read] in
// sessions.cc.
#include <algorithm>

#include "broker/worker_state.h"
#include "ring/consumer.h"

namespace chainring {

namespace {

// A ticket of a group: bit 62, the generation of the lease's place, its number, and 15 bits from
// which the packet id follows.
constexpr unsigned id_bits = 15, lease_bits = 24, generation_bits = 23;
constexpr std::uint64_t id_mask = (1u << id_bits) - 1;
constexpr std::uint64_t lease_mask = (1u << lease_bits) - 1;
constexpr std::uint64_t generation_mask = (1u << generation_bits) - 1;
static_assert(id_bits + lease_bits + generation_bits == 62);
/// Packet ids of a session's own queue end below this one.
constexpr std::uint16_t group_packet_id_first = packet_id_count + 1;
static_assert(group_packet_id_first + id_mask == 0xffff);

/// The messages that a session may have from its groups beyond its window, because its connection
/// cannot carry them.
constexpr std::uint32_t leases_beyond_window = 8;
/// A group counts as pressed for so long after its queue was found full.
constexpr std::uint64_t pressed_hz = 1;
/// The groups that one visit looks at for expired messages, those that it drops from each, and how
/// long a message that never expires keeps it from looking again.
constexpr std::size_t expired_groups = 64;
constexpr std::uint32_t expired_each_group = 64;
constexpr std::uint64_t look_again_ns = 10'000'000'000;
/// A member that has declined a message rests for one part of a second.
constexpr std::uint64_t declined_hz = 1;

} // namespace

std::uint16_t delivery_packet_id(std::uint64_t ticket) noexcept {
  if ((ticket & group_ticket_bit) == 0) return packet_id_of(ticket);
  return static_cast<std::uint16_t>(group_packet_id_first + (ticket & id_mask));
}

// --- leases -----------------------------------------------------------------------------------

std::uint64_t broker_worker::state::ticket_of(std::uint32_t lease) const noexcept {
  const group_lease& l = leases[lease];
  return group_ticket_bit | (l.generation & generation_mask) << (id_bits + lease_bits) |
         std::uint64_t{lease} << id_bits | l.id;
}

// Returns the lease that the session holds under this ticket, or none.
std::uint32_t broker_worker::state::find_lease(std::uint32_t n, std::uint64_t ticket) noexcept {
  const auto lease = static_cast<std::uint32_t>(ticket >> id_bits & lease_mask);
  if (lease >= leases_touched || leases[lease].session_plus_1 != n + 1 ||
      ticket_of(lease) != ticket)
    return none;
  return lease;
}

// Returns a free lease, or none.
std::uint32_t broker_worker::state::take_lease() noexcept {
  if (free_lease != 0) {
    const std::uint32_t lease = free_lease - 1;
    free_lease = leases[lease].next;
    return lease;
  }
  return leases_touched < leases_max ? leases_touched++ : none;
}

// A member is active once the index has its group's filter.
bool broker_worker::state::is_active(std::uint32_t place) const noexcept {
  return (common.groups.member(place).who.load(std::memory_order_relaxed) & // [group-seen]
          group_member::active) != 0;
}

// Returns the lease that an answer names, or none. At QoS 0 the message that is offered has no
// ticket.
std::uint32_t broker_worker::state::answered_lease(std::uint32_t n, std::uint64_t ticket) noexcept {
  if (ticket != 0) return find_lease(n, ticket);
  return offered_lease != 0 && leases[offered_lease - 1].session_plus_1 == n + 1 ? offered_lease - 1
                                                                                 : none;
}

bool broker_worker::state::has_lease_room(const session& s) const noexcept {
  // There are more packet ids than leases, so each lease gets one of its own.
  static_assert(id_mask < 1u << id_bits);
  return s.leases < std::min<std::uint64_t>(s.window + leases_beyond_window, id_mask);
}

bool broker_worker::state::may_take_shared(const session& s) const noexcept {
  return now_tsc >= s.groups_from_tsc && has_lease_room(s);
}

// How long a member gets nothing after a message was taken back from it.
std::uint64_t broker_worker::state::lease_patience() const noexcept {
  return lease_tsc != 0 ? lease_tsc : skipped_tsc;
}

// Puts a lease that has a deadline into the worker's list. All leases there last equally long, so
// it is in the order of their deadlines.
void broker_worker::state::list_lease(std::uint32_t lease) noexcept {
  group_lease& l = leases[lease];
  l.older = newest_lease;
  l.newer = 0;
  (newest_lease != 0 ? leases[newest_lease - 1].newer : oldest_lease) = lease + 1;
  newest_lease = lease + 1;
}

void broker_worker::state::unlist_lease(std::uint32_t lease) noexcept {
  const group_lease& l = leases[lease];
  (l.older != 0 ? leases[l.older - 1].newer : oldest_lease) = l.newer;
  (l.newer != 0 ? leases[l.newer - 1].older : newest_lease) = l.older;
}

void broker_worker::state::set_phase(session& s, std::uint32_t lease,
                                     group_lease::phase_type to) noexcept {
  using enum group_lease::phase_type;
  group_lease& l = leases[lease];
  s.pending_leases += (to == pending ? 1 : 0) - (l.phase == pending ? 1 : 0);
  s.moving =
      static_cast<std::uint16_t>(s.moving + (to == moving ? 1 : 0) - (l.phase == moving ? 1 : 0));
  l.phase = to;
}

// Returns the oldest lease whose message is to be offered, or none.
std::uint32_t broker_worker::state::pending_lease_of(const session& s) const noexcept {
  if (s.pending_leases == 0) return none;
  std::uint32_t found = none;
  for (std::uint32_t l = s.first_lease; l != 0; l = leases[l - 1].next)
    if (leases[l - 1].phase == group_lease::phase_type::pending) found = l - 1;
  return found;
}

void broker_worker::state::begin_lease(session& s, std::uint32_t n, std::uint32_t lease,
                                       std::uint32_t place, const leased& entry) noexcept {
  group_lease& l = leases[lease];
  l.session_plus_1 = n + 1;
  l.place = place;
  l.entry = entry;
  l.phase = group_lease::phase_type::pending;
  l.again = false;
  ++s.leases;
  ++s.pending_leases;
  l.since_tsc = now_tsc;
  l.deadline_tsc = lease_tsc == 0 ? UINT64_MAX : now_tsc + lease_tsc;
  // No two messages of a session may have one packet id.
  const auto in_use = [&](std::uint16_t id) {
    for (std::uint32_t other = s.first_lease; other != 0; other = leases[other - 1].next)
      if (leases[other - 1].id == id) return true;
    return false;
  };
  do
    s.last_group_id = static_cast<std::uint16_t>((s.last_group_id + 1) & id_mask);
  while (in_use(s.last_group_id));
  l.id = s.last_group_id;
  l.next = s.first_lease;
  l.before = 0;
  if (s.first_lease != 0) leases[s.first_lease - 1].before = lease + 1;
  s.first_lease = lease + 1;
  if (l.deadline_tsc != UINT64_MAX) list_lease(lease);
  common.groups.at(common.groups.group_of(place))
      .leased.fetch_add(1, std::memory_order_relaxed); // [turn-only]
}

void broker_worker::state::end_lease(session& s, std::uint32_t lease) noexcept {
  group_lease& l = leases[lease];
  (l.before != 0 ? leases[l.before - 1].next : s.first_lease) = l.next;
  if (l.next != 0) leases[l.next - 1].before = l.before;
  if (l.deadline_tsc != UINT64_MAX) unlist_lease(lease);
  --s.leases;
  if (l.phase == group_lease::phase_type::pending) --s.pending_leases;
  if (l.phase == group_lease::phase_type::moving) --s.moving;
  common.groups.at(common.groups.group_of(l.place))
      .leased.fetch_sub(1, std::memory_order_relaxed); // [turn-only]
  if (offered_lease == lease + 1) offered_lease = 0;   // a second answer to it finds nothing
  ++l.generation;
  l.session_plus_1 = 0;
  l.next = free_lease;
  free_lease = lease + 1;
}

// Gives one message back to its group.
void broker_worker::state::return_lease(session& s, std::uint32_t n, std::uint32_t lease) noexcept {
  const std::uint32_t g = common.groups.group_of(leases[lease].place);
  (void)remove_in_flight(s, ticket_of(lease));
  (void)queue_consumer(durable.group_queues()).nack(g, leases[lease].entry);
  end_lease(s, lease);
  ++moved;
  wake_members(g, 1);
  make_ready(s, n);
}

// Gives back what the session has from one group, or from all where `group` is none. With `tell`
// the front end hears that it must send nothing more for these messages.
void broker_worker::state::give_back_shared(session& s, std::uint32_t n, std::uint32_t group,
                                            bool tell) noexcept {
  for (std::uint32_t l = s.first_lease; l != 0;) {
    const std::uint32_t lease = l - 1;
    l = leases[lease].next;
    if (group != none && common.groups.group_of(leases[lease].place) != group) continue;
    const bool told = leases[lease].phase == group_lease::phase_type::sent;
    const std::uint64_t ticket = ticket_of(lease);
    ++count.given_back;
    return_lease(s, n, lease);
    if (tell && told && s.server != nullptr) s.server->withdrawn(n, ticket);
  }
}

// The session's connection ends or its client falls asleep. Its messages go to the other members,
// and what it was woken for is for somebody else.
void broker_worker::state::detach_shared(session& s, std::uint32_t n, bool tell) noexcept {
  for (std::uint32_t p = s.first_place; p != 0; p = common.groups.member(p - 1).next_plus_1) {
    (void)common.groups.stop_waiting(p - 1);
    common.groups.member(p - 1).from_tsc = 0; // it rests no longer, wherever it is served next
  }
  give_back_shared(s, n, none, tell);
  s.groups_from_tsc = 0;
  pass_on(s);
}

// Takes a message back from a member that has not acknowledged it in time, or cannot take it. For a
// while the member gets nothing, unless it was never asked, or is the only one who could get it.
void broker_worker::state::take_back(session& s, std::uint32_t n, std::uint32_t lease) noexcept {
  using enum group_lease::phase_type;
  const std::uint64_t ticket = ticket_of(lease);
  const group_lease& l = leases[lease];
  const bool sent_now = l.phase == sent;
  ++count.group_leases_ended;
  if (l.phase == skipped ? common.groups.another_is_awake(common.groups.group_of(l.place), l.place,
                                                          common.sessions.data())
                         : l.phase == sent || l.again)
    s.groups_from_tsc = now_tsc + lease_patience();
  for (std::uint32_t p = s.first_place; p != 0; p = common.groups.member(p - 1).next_plus_1)
    (void)common.groups.stop_waiting(p - 1);
  return_lease(s, n, lease);
  if (sent_now && s.server != nullptr) s.server->withdrawn(n, ticket);
}

void broker_worker::state::check_leases() noexcept {
  while (oldest_lease != 0 && leases[oldest_lease - 1].deadline_tsc <= now_tsc) {
    const std::uint32_t n = leases[oldest_lease - 1].session_plus_1 - 1;
    take_back(at(n), n, oldest_lease - 1);
  }
  relieve_groups();
}

// Notes that a queue was found full.
void broker_worker::state::press_group(std::uint32_t subscriber) noexcept {
  if (!common.groups.is_group(subscriber)) return;
  std::atomic<std::uint64_t>& pressed = common.groups.at(queue_of(subscriber)).pressed_tsc;
  // Other workers read the line, so it is written seldom.
  const std::uint64_t before = pressed.load(std::memory_order_relaxed); // [turn-only]
  if (now_tsc - before >= tsc_hz / maintain_hz)
    pressed.store(now_tsc, std::memory_order_relaxed); // [turn-only]
}

// Takes back the message of each full queue that holds up the room of others: the oldest one, when
// a member of this worker has it for long and those behind it are acknowledged. Where nobody is
// done, the members keep what they have, because their acknowledgements bring the room.
void broker_worker::state::relieve_groups() noexcept {
  if (pressed_lease_tsc == 0) return;
  const queue_consumer queues(durable.group_queues());
  for (const std::uint32_t g : own_groups) {
    const shared_group& group = common.groups.at(g);
    const std::uint64_t pressed = group.pressed_tsc.load(std::memory_order_relaxed); // [turn-only]
    if (pressed == 0 || pressed + tsc_hz / pressed_hz < now_tsc) continue;
    const std::uint32_t leased_now = group.leased.load(std::memory_order_relaxed); // [turn-only]
    const queue_backlog held = queues.backlog(g);
    if (held.slots <= std::uint64_t{leased_now} + queues.leasable(g)) continue; // nobody is done
    const std::uint32_t lease = find_own_lease(g, held.oldest);
    if (lease == none || leases[lease].since_tsc + pressed_lease_tsc > now_tsc ||
        !common.groups.another_is_awake(g, leases[lease].place, common.sessions.data()))
      continue;
    const std::uint32_t n = leases[lease].session_plus_1 - 1;
    take_back(at(n), n, lease);
  }
}

// Returns the lease of that entry of the group's queue, if a member of this worker has it, or none.
std::uint32_t broker_worker::state::find_own_lease(std::uint32_t group,
                                                   std::uint64_t ticket) noexcept {
  for (std::uint32_t i = 0; i < common.groups.places_of(group); ++i) {
    const std::uint32_t place = common.groups.place_at(group, i);
    const std::uint64_t who =
        common.groups.member(place).who.load(std::memory_order_relaxed); // [group-seen]
    const auto n = static_cast<std::uint32_t>(who);
    if ((who & group_member::active) == 0 || !own(n)) continue;
    for (std::uint32_t l = at(n).first_lease; l != 0; l = leases[l - 1].next)
      if (leases[l - 1].place == place && leases[l - 1].entry.ticket() == ticket) return l - 1;
  }
  return none;
}

// --- expired messages -------------------------------------------------------------------------

// Drops expired messages from the front of the queues of groups whose members are all away or
// asleep. Otherwise they would take room until a member comes back. Another one finds them itself.
void broker_worker::state::drop_expired_shared() noexcept {
  if (common.config.message_expiry_s == 0) return;
  const std::uint64_t now_ns = store::now_ns();
  for (std::size_t left = std::min(expired_groups, own_groups.size()); left-- > 0;) {
    if (expired_from >= own_groups.size()) expired_from = 0;
    const std::uint32_t g = own_groups[expired_from++];
    if (now_ns >= expires_ns[g] && !common.groups.another_is_awake(g, none, common.sessions.data()))
      drop_expired_of(g, now_ns);
  }
}

// Another worker may take messages from the queue at any time, so a message is read only while it
// is leased. The first that has not expired goes back, and says when the next look is due.
void broker_worker::state::drop_expired_of(std::uint32_t group, std::uint64_t now_ns) noexcept {
  const queue_consumer queues(durable.group_queues());
  for (std::uint32_t i = 0; i < expired_each_group; ++i) {
    leased entry;
    if (durable.group_queues().lease(group, {&entry, 1}) == 0) return;
    delivery_item unread;
    const viewed as = view_leased(group_seal | group, entry, unread);
    if (as == viewed::whole || as == viewed::again) {
      message_view v;
      const bool expires = durable.messages().view(entry.message(), v) == message_status::ok &&
                           v.fields.expires_ns > now_ns;
      // A member may take this message, and others may expire before it.
      expires_ns[group] = now_ns + look_again_ns;
      if (expires) expires_ns[group] = std::min(expires_ns[group], v.fields.expires_ns);
      (void)queues.nack(group, entry);
      return wake_members(group, 1);
    }
    ++(as == viewed::expired ? count.expired_messages : count.damaged);
    if (queues.ack(group, entry) == ack_status::marked)
      acked_slots.push_back({group, entry.ticket()});
    make_group_dirty(group);
    ++moved;
  }
}

// --- offering ---------------------------------------------------------------------------------

// Where a session cannot take anything, an entry that it was woken for is for another member.
void broker_worker::state::pass_on(const session& s) noexcept {
  const queue_consumer queues(durable.group_queues());
  for (std::uint32_t p = s.first_place; p != 0; p = common.groups.member(p - 1).next_plus_1) {
    const std::uint32_t g = common.groups.group_of(p - 1);
    if (queues.leasable(g) != 0) wake_members(g, 1);
  }
}

// Ends a session's visit to its groups. A member that could take more waits; one that finds
// something after all comes again with the next burst, and another member is woken meanwhile.
void broker_worker::state::end_visit(session& s, std::uint32_t n, bool may_take) noexcept {
  const queue_consumer queues(durable.group_queues());
  for (std::uint32_t p = s.first_place; p != 0; p = common.groups.member(p - 1).next_plus_1) {
    const std::uint32_t g = common.groups.group_of(p - 1);
    if (may_take && may_visit(s, n, p - 1)) {
      common.groups.wait(p - 1);
      if (queues.leasable(g) == 0) continue;
      (void)common.groups.stop_waiting(p - 1);
      make_ready(s, n);
    } else if (queues.leasable(g) == 0) {
      continue;
    }
    wake_members(g, 1);
  }
}

// Begins to take entries from one group. A member takes its share of what is there, so that one
// that is visited first does not take everything.
void broker_worker::state::visit_group(session& s, std::uint32_t n, shared_visit& v,
                                       std::uint32_t place) noexcept {
  const std::uint32_t g = common.groups.group_of(place);
  const std::uint32_t there = queue_consumer(durable.group_queues()).leasable(g);
  const std::uint32_t members = there < 2 ? 1 : std::max(common.groups.active_count(g), 1u);
  v.place = place + 1;
  v.left = (there + members - 1) / members;
  // A place that an open found and the index did not take has no QoS, and is served after the next
  // SUBSCRIBE.
  if (!is_active(place) || !may_visit(s, n, place)) v.left = 0;
}

// Leases the next entry from the session's groups, each in turn. Returns none when there is
// nothing.
std::uint32_t broker_worker::state::lease_shared(session& s, std::uint32_t n,
                                                 shared_visit& v) noexcept {
  if (v.over || now_tsc < s.groups_from_tsc) return none;
  if (!has_lease_room(s)) { // it comes again when one of its leases has ended
    ++count.group_leases_refused;
    v.over = true;
    return none;
  }
  const std::uint32_t lease = take_lease();
  if (lease == none) {
    ++count.group_leases_refused;
    make_ready(s, n);
    return none;
  }
  if (v.place == 0) {
    visit_group(s, n, v, (s.next_place != 0 ? s.next_place : s.first_place) - 1);
    v.seen = 1;
    const std::uint32_t next = common.groups.member(v.place - 1).next_plus_1;
    s.next_place = next != 0 ? next : s.first_place;
  }
  for (;;) {
    leased entry;
    if (v.left != 0 &&
        durable.group_queues().lease(common.groups.group_of(v.place - 1), {&entry, 1}) != 0) {
      --v.left;
      begin_lease(s, n, lease, v.place - 1, entry);
      return lease;
    }
    if (v.seen++ == s.membership_count()) break;
    const std::uint32_t next = common.groups.member(v.place - 1).next_plus_1;
    visit_group(s, n, v, (next != 0 ? next : s.first_place) - 1);
  }
  v.over = true;
  leases[lease].next = free_lease;
  free_lease = lease + 1;
  return none;
}

// Offers the next message from the session's groups. Returns false when nothing more can be offered
// now.
bool broker_worker::state::offer_shared(session& s, std::uint32_t n, shared_visit& v) noexcept {
  using enum group_lease::phase_type;
  std::uint32_t lease = pending_lease_of(s);
  if (lease == none) lease = lease_shared(s, n, v);
  if (lease == none) return false;
  group_lease& l = leases[lease];
  const std::uint64_t ticket = ticket_of(lease);
  delivery_item item;
  switch (view_leased(group_seal | common.groups.group_of(l.place), l.entry, item)) {
  case viewed::whole:
    break;
  case viewed::damaged:
    ++count.damaged; // a damaged message is never delivered
    settle_shared(s, lease);
    return true;
  case viewed::expired:
    ++count.expired_messages;
    ++s.expired_messages;
    settle_shared(s, lease);
    return true;
  case viewed::again:
    make_ready(s, n);
    return false;
  }
  const std::uint64_t who =
      common.groups.member(l.place).who.load(std::memory_order_relaxed); // [group-seen]
  item.qos = std::min(item.qos, group_member::qos_of(who));
  item.front_end_bits = group_member::bits_of(who);
  // A queue of one slot never has room for the two of a move. A message that was sent at QoS 1
  // before the client asked for QoS 2 stays at QoS 1.
  if (item.qos == 2 && (l.again || slots_of(n) < 2)) item.qos = 1;
  if (item.qos == 2) {
    if (!may_take_more(s, n)) return false;
    const carriage answer = s.server->may_take(n, item);
    if (find_lease(n, ticket) != lease) return false; // the front end has ended the connection
    switch (answer) {
    case carriage::possible:
      begin_move(s, n, lease);
      break;
    case carriage::too_long:
      pass_over(s, lease);
      break;
    case carriage::denied:
      decline(s, n, lease, ack_reason::denied);
      break;
    }
    return s.state.load(std::memory_order_relaxed) == connection::active; // [home-read]
  }
  item.ticket = item.qos == 0 ? 0 : ticket;
  item.redelivered |= l.again;
  if (item.qos != 0 && !add_in_flight(s, ticket)) { // other sessions use the whole pool
    make_ready(s, n);
    return false;
  }
  set_phase(s, lease, sent);
  const std::uint16_t in_flight = s.in_flight;
  if (item.qos == 0) offered_lease = lease + 1;
  const std::size_t taken = s.server->deliver(n, {&item, 1});
  offered_lease = 0;
  ++moved;
  // [home-read]
  if (s.state.load(std::memory_order_relaxed) != connection::active) return false;
  const bool held = find_lease(n, ticket) == lease; // else the front end has answered at once
  if (taken == 0) {
    if (held) {
      (void)remove_in_flight(s, ticket);
      set_phase(s, lease, pending);
    }
    s.paused = true;
    return false;
  }
  if (item.qos == 0) {
    if (held && l.phase == sent) { // it was neither skipped nor refused
      ++count.delivered_qos0;
      settle_shared(s, lease);
    }
  } else if (s.in_flight == in_flight) {
    ++count.delivered;
  }
  return true;
}

// --- answers ----------------------------------------------------------------------------------

void broker_worker::state::make_group_dirty(std::uint32_t group) noexcept {
  if (group_is_dirty[group]) return;
  group_is_dirty[group] = true;
  group_dirty.push_back(group);
}

// Acknowledges the entry of a lease, which ends it. The acknowledgement becomes durable with the
// next burst.
void broker_worker::state::settle_shared(session& s, std::uint32_t lease) noexcept {
  const group_lease& l = leases[lease];
  const std::uint32_t g = common.groups.group_of(l.place);
  if (queue_consumer(durable.group_queues()).ack(g, l.entry) == ack_status::marked)
    acked_slots.push_back({g, l.entry.ticket()});
  make_group_dirty(g);
  end_lease(s, lease);
  ++moved;
}

[[gnu::noinline]] void broker_worker::state::ack_shared(session& s, std::uint32_t n,
                                                        std::uint64_t ticket,
                                                        ack_reason reason) noexcept {
  s.groups_from_tsc = 0; // the client answers, also where its lease has ended
  const std::uint32_t lease = answered_lease(n, ticket);
  if (lease != none && (ticket == 0 || remove_in_flight(s, ticket))) {
    if (reason == ack_reason::refused || reason == ack_reason::denied)
      return decline(s, n, lease, reason);
    ++(reason == ack_reason::delivered ? count.acked : count.dropped_by_client);
    settle_shared(s, lease);
  }
  make_ready(s, n);
}

// A member may not have a message, or its client has refused the message's name. Another member
// gets it that has not declined it, and where there is none it is dropped. The member that declined
// takes nothing from the group for a moment, so that it does not get the same message again at
// once.
void broker_worker::state::decline(session& s, std::uint32_t n, std::uint32_t lease,
                                   ack_reason reason) noexcept {
  const std::uint32_t place = leases[lease].place;
  const std::uint32_t g = common.groups.group_of(place);
  const auto awake = [&](std::uint32_t i) {
    return common.groups.is_awake(common.groups.place_at(g, i), common.sessions.data());
  };
  bool replaced = false;
  const bool another =
      common.declined.note(g, leases[lease].entry.ticket(), place - common.groups.place_at(g, 0),
                           common.groups.places_of(g), awake, replaced);
  if (replaced) ++count.group_refusals_forgotten;
  if (another) {
    ++count.group_messages_declined;
    rest(s, n, place, tsc_hz / declined_hz);
    return return_lease(s, n, lease);
  }
  ++(reason == ack_reason::denied ? count.dropped_denied : count.dropped_by_client);
  settle_shared(s, lease);
  make_ready(s, n);
}

// The front end sends the message again. The lease stays as it is, and so do its ticket, its packet
// id and its deadline.
void broker_worker::state::give_back_one(session& s, std::uint32_t n,
                                         std::uint64_t ticket) noexcept {
  const std::uint32_t lease = find_lease(n, ticket);
  if (lease == none || !remove_in_flight(s, ticket)) return;
  ++count.given_back;
  set_phase(s, lease, group_lease::phase_type::pending);
  leases[lease].again = true;
  make_ready(s, n);
}

// The lease goes on until its deadline, which it has in any case, or the end of the connection.
// Then another member may get the message.
void broker_worker::state::skip_shared(session& s, std::uint32_t n, std::uint64_t ticket) noexcept {
  const std::uint32_t lease = answered_lease(n, ticket);
  if (lease == none || (ticket != 0 && !remove_in_flight(s, ticket))) return;
  pass_over(s, lease);
  make_ready(s, n);
}

void broker_worker::state::pass_over(session& s, std::uint32_t lease) noexcept {
  set_phase(s, lease, group_lease::phase_type::skipped);
  if (leases[lease].deadline_tsc == UINT64_MAX) {
    leases[lease].deadline_tsc = now_tsc + lease_patience();
    list_lease(lease);
  }
  ++count.skipped;
}

} // namespace chainring
