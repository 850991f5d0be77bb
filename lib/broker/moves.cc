// SPDX-License-Identifier: BSD-3-Clause
// Messages of groups that members get at QoS 2. Such a message leaves its group for good before its
// client sees it, because a message that may have reached one client in part must not be sent to
// another one. It moves to the member's own queue in one burst, and is delivered from there like
// any other message of that session: its packet id and the client's PUBREC survive a crash.
//
// A message moves in two steps, with the burst's two drains behind them. First it is placed in the
// member's queue, together with the number of its slot in the group's queue. Then that slot is
// marked as moved. A crash between the two leaves a slot that is still queued, and so an open makes
// the placement void. The entry is offered behind the second drain.
//
// A member takes no more messages than its window, and no further ones before it was offered all of
// these. So the others wait for whichever member is free first.
//
// Its ordering labels [place-before-publish], [publish-before-ready] and [link-before-place] are
// described in burst.cc, [group-seen] in groups.cc, and [incarnation-read] in sessions.cc.
//
// Ordering labels:
//   [moved-before-mark]  An entry that was moved, and its origin, are drained before the group's
//     slot is marked.
//   [mark-before-taken]  The mark is drained before the entry is ready in the member's queue.
#include <algorithm>

#include "broker/worker_state.h"
#include "ring/consumer.h"

namespace chainring {

// Says whether the session has been offered all messages that it took from its groups at QoS 2.
bool broker_worker::state::may_take_more(session& s, std::uint32_t n) noexcept {
  if (s.last_taken != 0 && !s.has_pending && !durable.queues().may_lease(n)) s.last_taken = 0;
  return s.last_taken == 0;
}

// Says whether the member at that place takes messages of its group now.
bool broker_worker::state::may_visit(session& s, std::uint32_t n, std::uint32_t place) noexcept {
  const group_member& m = common.groups.member(place);
  if (now_tsc < m.from_tsc) return false;
  const std::uint64_t who = m.who.load(std::memory_order_relaxed); // [group-seen]
  return group_member::qos_of(who) != 2 || may_take_more(s, n);
}

// The member takes nothing from that group for a while, and is visited again then.
void broker_worker::state::rest(session& s, std::uint32_t n, std::uint32_t place,
                                std::uint64_t tsc) noexcept {
  common.groups.member(place).from_tsc = now_tsc + tsc;
  if (s.resting) return;
  s.resting = true;
  resting.push_back(n);
}

// Visits the sessions that rest. One that rests longer comes into the list again.
void broker_worker::state::end_rests() noexcept {
  rested.swap(resting);
  for (const std::uint32_t n : rested) {
    if (!own(n) || !at(n).resting) continue;
    session& s = at(n);
    s.resting = false;
    for (std::uint32_t p = s.first_place; p != 0; p = common.groups.member(p - 1).next_plus_1)
      if (const std::uint64_t until = common.groups.member(p - 1).from_tsc; now_tsc < until)
        rest(s, n, p - 1, until - now_tsc);
    make_ready(s, n);
  }
  rested.clear();
}

// Begins to move the message of a lease. Nothing has changed until the burst that follows, and the
// lease may end before.
void broker_worker::state::begin_move(session& s, std::uint32_t n, std::uint32_t lease) noexcept {
  set_phase(s, lease, group_lease::phase_type::moving);
  moves.push_back({n, ticket_of(lease), lease, {}});
  ++moved;
}

// Places the messages that move in the queues of their members. No lease ends from here to
// finish_moves(): leases end for front ends, operators and time, and the burst calls none of these
// in between.
void broker_worker::state::place_moves() noexcept {
  std::size_t placed = 0;
  for (move& m : moves) {
    if (find_lease(m.session, m.ticket) != m.lease ||
        leases[m.lease].phase != group_lease::phase_type::moving)
      continue; // the lease has ended, and another member may have the message
    const group_lease& l = leases[m.lease];
    const message_ref message = l.entry.message();
    const std::uint64_t who =
        common.groups.member(l.place).who.load(std::memory_order_relaxed); // [group-seen]
    const slot_delivery as{2, slot_delivery::unpack(l.entry.delivery()).retain,
                           group_member::bits_of(who)};
    refs.assign(1, slot_ref(message, slot_delivery::sealed(m.session, message, as.pack())));
    const slot_origin from = slot_origin::of(common.groups.group_of(l.place), l.entry.ticket());
    durable.messages().add_references(message.index, 1);
    const bool over_bytes =
        bytes_to_free(m.session, durable.messages().size_of(message.index)) != 0;
    const place_status got =
        place_refs(m.session,
                   at(m.session).incarnation.load(std::memory_order_relaxed), // [incarnation-read]
                   over_bytes, &from, m.placement);
    if (got == place_status::placed) {
      moves[placed++] = m;
      continue;
    }
    durable.messages().drop_reference(message.index); // the group's slot has one too
    refuse_move(at(m.session), m.session, m.lease);
  }
  moves.resize(placed);
}

// The member's queue has no room now. Another member may get the message meanwhile.
void broker_worker::state::refuse_move(session& s, std::uint32_t n, std::uint32_t lease) noexcept {
  ++count.group_moves_refused;
  rest(s, n, leases[lease].place, tsc_hz / maintain_hz);
  return_lease(s, n, lease);
}

// [mark-before-taken] Without it a client could get the message, and after a crash another one too.
// Crash between: the message is in the member's queue, and is delivered from there.
void broker_worker::state::mark_moves() noexcept {
  const queue_consumer queues(durable.group_queues());
  // The descriptors of the burst's publishes share the drain behind the last marks.
  std::uint64_t undrained = std::min(staged.size() * cacheline_size, drain_bytes_max);
  for (const move& m : moves) {
    if (undrained + cacheline_size > drain_bytes_max) {
      drain(); // [mark-before-taken]
      undrained = 0;
    }
    undrained += cacheline_size;
    const group_lease& l = leases[m.lease];
    const std::uint32_t g = common.groups.group_of(l.place);
    const bool marked = queues.set_state(g, l.entry.ticket(), slot_state::moved);
    CHAINRING_ASSERT(marked);               // the lease holds
    queues.flush_slot(g, l.entry.ticket()); // [mark-before-taken]
  }
}

// Ends the moves behind the drain of their marks.
void broker_worker::state::finish_moves() noexcept {
  for (const move& m : moves) {
    session& s = at(m.session);
    durable.queues().place_moved_finish(m.placement); // [mark-before-taken]
    note_high_water(m.session, m.placement.depth);
    s.last_taken = m.placement.first_ticket;
    make_group_dirty(common.groups.group_of(leases[m.lease].place));
    end_lease(s, m.lease);
    ++count.group_moves;
    make_ready(s, m.session);
  }
  moves.clear();
}

} // namespace chainring
