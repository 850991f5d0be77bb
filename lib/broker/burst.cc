// SPDX-License-Identifier: BSD-3-Clause
// A burst made durable, whatever its fan-out, in two drains.
//
// Edges:
//   [W1] [W2] [W5] as in connect.cc
//   [W6] exchange of a session's `woken` <- [W7] its clearing
//
// Crash windows:
//   [B1 < B2] payloads, staged descriptors, slots and heads drained before any descriptor is
//      published. Crash between: the slots are void, the blocks unreachable; nobody was told.
//   [B2 < B3] the published descriptors drained before the slots are ready and PUBACK is made.
//      Crash between: each message is in all its queues or in none; the publisher sends it again.
//   [B5 < B1] a new ring's link drained before a slot is placed in it. Crash between: an empty
//      ring.
//   [B1 < B4] heads drained before the slots they passed are reused. Crash between: delivered
//      again.
#include <algorithm>
#include <rte_cycles.h>

#include "base/hook.h"
#include "base/idle.h"
#include "broker/worker.h"
#include "ring/ring_media.h"

namespace chainring {

namespace {
constexpr std::uint32_t maintain_pieces = 64;
constexpr std::uint32_t release_pieces = 256; ///< sessions at a visit
constexpr std::uint32_t maintain_hz = 20;
} // namespace

void broker_worker::impl::drain() noexcept {
  const std::uint64_t before = rte_rdtsc();
  on.drain(); // [B1] [B2]
  count.drain_tsc += rte_rdtsc() - before;
  ++count.drains;
}

void broker_worker::impl::make_ready(session& s, std::uint32_t n) noexcept {
  if (s.ready) return;
  s.ready = true;
  ready.push_back(n);
}

void broker_worker::impl::make_dirty(session& s, std::uint32_t n) noexcept {
  if (s.dirty) return;
  s.dirty = true;
  dirty.push_back(n);
}

// Tells a session's home that there is something to look at.
void broker_worker::impl::wake(std::uint32_t n) noexcept {
  session& s = shared.sessions[n];
  // [W1] acquire: the home is set before the state that shows it.
  if (s.state.load(std::memory_order_acquire) == connection::none) return;
  if (s.home.load(std::memory_order_relaxed) == number) return make_ready(s, n); // [W1]
  // [W6] acq_rel: pairs with [W7]. Without it the home could clear the flag and miss what was made
  // ready before it was set.
  if (s.woken.exchange(true, std::memory_order_acq_rel)) return;
  const bool room = shared.inboxes[s.home.load(std::memory_order_relaxed)]->woken.push( // [W1]
      &n); // one entry a session: it has room
  CHAINRING_ASSERT(room);
}

bool broker_worker::impl::take_inbox() noexcept {
  worker_inbox& inbox = *shared.inboxes[number];
  bool any = false;
  std::uint32_t n = 0;
  while (inbox.woken.pop(&n)) {
    any = true;
    session& s = shared.sessions[n];
    s.woken.exchange(false, std::memory_order_acq_rel); // [W7] pairs with [W6]
    // [W1] as seen with [W7]: whoever left it there for a later session saw that session's home.
    if (s.home.load(std::memory_order_relaxed) != number) {
      wake(n); // the number has been given away meanwhile, and what woke it may be for its new home
      continue;
    }
    const connection c = s.state.load(std::memory_order_relaxed); // [W1] own session
    if (c == connection::none) continue;
    if (c == connection::disconnected) { // asked to drop, at most
      make_ready(s, n);
      continue;
    }
    const auto at = shared.addresses->get(s.address.load(std::memory_order_relaxed)); // [W2] own
    if (!at || *at != n)
      end_connection(s, n); // somebody else is at its address now
    else
      make_ready(s, n);
  }
  volatile_parcel p{};
  while (inbox.parcels.pop(&p)) {
    any = true;
    session& s = shared.sessions[p.session];
    if (s.home.load(std::memory_order_relaxed) == number &&
        s.state.load(std::memory_order_relaxed) == connection::active && // [W1] own session
        s.incarnation.load(std::memory_order_relaxed) == p.incarnation)  // [W4] own session
      keep_volatile(s, p.session, p.message, static_cast<std::uint16_t>(p.bits));
    else
      shared.volatiles->drop(p.message);
  }
  return any;
}

// Its queue is full, or about to get a larger ring from another worker. `full`: the policy applies.
// `no_ring` or `closed`: the publisher comes again.
place_status broker_worker::impl::place_in_larger(std::uint32_t q, std::uint32_t incarnation,
                                                  placement& out) noexcept {
  constexpr int rounds_max = 64; // a restart may wait for this worker's own places: no longer
  queue_table& queues = state.queues();
  const auto n = static_cast<std::uint32_t>(refs.size());
  place_status placed = place_status::full;
  idle_policy wait;
  for (int round = 0; round < rounds_max; ++round) {
    link_status s = queues.grow(q, n);
    if (s == link_status::unprepared) { // there was no leisure for it
      count.drains += 2;
      s = queues.grow_now(q, n);
    }
    if (s == link_status::refused) return place_status::full;
    // Below its limit, and the region is what is full: no policy of the queue's.
    if (s == link_status::no_room) return place_status::no_ring;
    if (s == link_status::linking) {
      queues.link_flush(q); // [B5] the link, before anything is placed behind it
      drain();              // [B5]
      queues.link_finish(q);
    } else if (s == link_status::wait) {
      wait.idle();
    }
    placed = queues.place_start(q, incarnation, refs, out);
    if (placed != place_status::full && placed != place_status::closed) break;
  }
  return placed == place_status::full ? place_status::closed : placed; // somebody was in the way
}

// Places every target in its queue, those of one queue together. What a queue refuses is refused in
// all: its other places become void.
void broker_worker::impl::place() noexcept {
  // By queue, in the order of arrival within each.
  std::ranges::sort(targets, [](const target& a, const target& b) {
    return a.session != b.session ? a.session < b.session : a.publish < b.publish;
  });
  groups.clear();
  for (std::uint32_t i = 0; i < targets.size();) {
    std::uint32_t n = 1;
    while (i + n < targets.size() && targets[i + n].session == targets[i].session &&
           targets[i + n].incarnation == targets[i].incarnation)
      ++n;
    groups.push_back({.first = i, .count = n});
    i += n;
  }
  queue_table& queues = state.queues();
  for (const staged_publish& p : staged)
    if (p.places != 0) state.messages().add_references(p.content.ref.index, p.places);
  for (group& g : groups) {
    const std::uint32_t q = targets[g.first].session;
    const std::uint32_t incarnation = targets[g.first].incarnation;
    refs.clear();
    for (std::uint32_t i = 0; i < g.count; ++i) {
      const target& t = targets[g.first + i];
      const message_ref m = staged[t.publish].content.ref;
      refs.emplace_back(m, t.bits | delivery::check(q, slot_ref(m, 0).word, t.bits));
    }
    link_status prepared = queues.link_start(q);
    if (prepared == link_status::linking) { // a queue's first message, once
      queues.link_flush(q); // [B5] the queue's own link, before anything is placed behind it
      drain();              // [B5]
      queues.link_finish(q);
      prepared = link_status::ready;
    } else if (prepared == link_status::refused) {
      prepared = queues.link_now(q); // the stock is used up: filled again
      ++count.drains;
    }
    place_status placed = prepared == link_status::ready
                              ? queues.place_start(q, incarnation, refs, g.placement)
                              : place_status::no_ring;
    if (queues_grow && placed != place_status::placed && placed != place_status::changed)
        [[unlikely]]
      placed = place_in_larger(q, incarnation, g.placement);
    g.placed = placed == place_status::placed;
    // The queue is another's by now: what was matched for the old one is not for the new.
    if (placed == place_status::changed) continue;
    if (!g.placed) {
      const queue_overflow policy =
          placed == place_status::full ? queues.overflow(q, g.count) : queue_overflow::reject;
      g.skipped = policy == queue_overflow::drop_newest;
      if (g.skipped) count.dropped_newest += g.count;
      for (std::uint32_t i = 0; i < g.count && !g.skipped; ++i)
        staged[targets[g.first + i].publish].refused = true;
    }
  }
}

// Of a group with refused messages, which share a placement with accepted ones: all are refused
// then, so that a placement is ready or void as one. Goes on until nothing changes.
void broker_worker::impl::settle() noexcept {
  for (bool changed = true; changed;) {
    changed = false;
    for (const group& g : groups) {
      if (!g.placed) continue;
      bool any = false, all = true;
      for (std::uint32_t i = 0; i < g.count; ++i) {
        const bool refused = staged[targets[g.first + i].publish].refused;
        any |= refused;
        all &= refused;
      }
      if (!any || all) continue;
      changed = true;
      for (std::uint32_t i = 0; i < g.count; ++i)
        staged[targets[g.first + i].publish].refused = true;
    }
  }
}

void broker_worker::impl::make_durable() noexcept {
  queue_table& queues = state.queues();
  message_table& messages = state.messages();
  hook_point("broker.burst.placed");
  // Stores first, heads among them.
  for (group& g : groups)
    if (g.placed && staged[targets[g.first].publish].refused) queues.place_void(g.placement);
  std::size_t releases = 0;
  for (const std::uint32_t n : dirty) {
    shared.sessions[n].dirty = false;
    if (queues.release_start(n)) dirty[releases++] = n;
  }
  dirty.resize(releases);
  // Then every flush, then the drain; or several, where a fan-out is wider than one may cover.
  bool any = releases != 0, publishes = false;
  std::uint64_t undrained = 0;
  const auto covering = [&](std::uint64_t bytes) {
    bytes += 2 * cacheline_size; // the parts of lines at both ends
    if (undrained != 0 && undrained + bytes > drain_bytes_max) {
      drain(); // [B1]
      undrained = 0;
    }
    undrained += bytes;
  };
  for (const staged_publish& p : staged) {
    if (p.places == 0) continue;
    any = true;
    if (p.refused) continue;
    publishes = true;
    covering(messages.flushed_bytes(p.content));
    messages.flush_staged(p.content); // [B1]
  }
  for (const group& g : groups) {
    if (!g.placed) continue;
    covering(g.count * sizeof(ring_slot));
    queues.place_flush(g.placement); // [B1]
  }
  for (const std::uint32_t n : dirty) {
    covering(0);
    queues.release_flush(n); // [B4]
  }
  if (any && !seeded_bug("broker.no_first_drain")) drain(); // [B1 < B2] [B1 < B4]
  hook_point("broker.burst.drained");
  if (publishes) {
    for (const staged_publish& p : staged)
      if (p.places != 0 && !p.refused) messages.publish(p.content); // [B2]
    for (const staged_publish& p : staged)
      if (p.places != 0 && !p.refused && !seeded_bug("broker.no_publish_flush"))
        messages.flush_published(p.content);            // [B2]
    if (!seeded_bug("broker.no_second_drain")) drain(); // [B2 < B3]
  }
  hook_point("broker.burst.published");
  for (const std::uint32_t n : dirty)
    queues.release_finish(n); // [B4]
  dirty.clear();
}

// What lay in memory that is gone is not durable, drained or not: its publisher hears nothing and
// sends it again. Behind the drains: nothing of what is acknowledged is still to be written.
void broker_worker::impl::find_lost() noexcept {
  const std::uint64_t now = on.losses();
  if (now == losses) [[likely]]
    return;
  losses = now;
  for (staged_publish& p : staged)
    if (p.places != 0 && !p.refused) p.lost = state.messages().lost(p.content);
}

void broker_worker::impl::finish_publishes() noexcept {
  queue_table& queues = state.queues();
  message_table& messages = state.messages();
  for (group& g : groups) {
    const bool voided = g.placed && staged[targets[g.first].publish].refused;
    if (g.placed && !voided) {
      queues.place_finish(g.placement); // [B3]
      count.placed += g.count;
      wake(targets[g.first].session);
    }
    // A place that was never made keeps nothing alive.
    for (std::uint32_t i = 0; i < g.count && !g.placed; ++i)
      messages.drop_reference(staged[targets[g.first + i].publish].content.ref.index);
    for (std::uint32_t i = 0; i < g.count; ++i)
      planned[targets[g.first + i].session] = 0;
  }
  for (staged_publish& p : staged) {
    if (p.places != 0) {
      if (p.refused)
        messages.discard(p.content);
      else
        messages.drop_reference(p.content.ref.index); // the publisher's own
    }
    if (!p.lost)
      puback(p.from, p.topic_id, p.msg_id,
             p.refused ? mqttsn::return_code::congestion : mqttsn::return_code::accepted); // [B3]
    if (p.volatile_copy == none) continue;
    for (std::uint32_t i = 0; i < p.volatile_count && !p.refused; ++i)
      hand_volatile(p.volatile_copy, volatile_targets[p.volatile_first + i]);
    shared.volatiles->drop(p.volatile_copy);
  }
  staged.clear();
  targets.clear();
  volatile_targets.clear();
  groups.clear();
}

// Slots of refused publishes, and rings that were left, go with the next release: without an ack
// nothing else would ask for one.
void broker_worker::impl::release_voids() noexcept {
  for (std::uint32_t i = 0; i < release_pieces; ++i) {
    const std::uint32_t n = release_from;
    release_from = n + 1 < shared.sessions_max ? n + 1 : 0;
    session& s = shared.sessions[n];
    // [W1] acquire: the home is set before the state that shows it.
    if (s.state.load(std::memory_order_acquire) != connection::none &&
        s.home.load(std::memory_order_relaxed) == number) // [W1]
      make_dirty(s, n);
    if (release_from == 0) break;
  }
}

bool broker_worker::impl::end_burst() noexcept {
  now_tsc = rte_rdtsc();
  bool any = take_inbox();
  any |= timers->manage() != 0;
  if (!staged.empty() || !dirty.empty()) {
    any = true;
    ++count.bursts;
    place();
    settle();
    make_durable();
    find_lost();
    finish_publishes();
  }
  // Deliveries may make more sessions ready; those wait for the next round.
  ready.swap(ready_next);
  ready.clear();
  for (const std::uint32_t n : ready_next)
    deliver(shared.sessions[n], n);
  any |= !ready_next.empty();
  ready_next.clear();
  if (now_tsc >= maintain_at) {
    if (queues_grow) state.queues().maintain(maintain_pieces);
    release_voids();
    maintain_at = now_tsc + tsc_hz / maintain_hz;
  }
  out->release(on.mark());
  return any;
}

} // namespace chainring
