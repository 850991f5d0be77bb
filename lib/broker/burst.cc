// SPDX-License-Identifier: BSD-3-Clause
// Makes a burst durable in two drains, whatever its fan-out.
//
// Its ordering labels [home-read], [incarnation-read] and [shown-only] are described in
// sessions.cc, and [moved-before-mark] and [mark-before-taken] in moves.cc.
//
// Ordering labels:
//   [place-before-publish]  Payloads, staged descriptors, slots, heads, session records and
//     subscription cells are drained before any descriptor is published.
//   [publish-before-ready]  The published descriptors are drained before their slots are ready
//     and a publish is settled.
//   [closed-before-reuse]  A closed identifier is drained before its message loses the reference
//     and before the publisher is answered, who may then use the packet id again.
//   [received-before-release]  The state of a slot whose message was received is drained before
//     the receipt is settled and PUBREL may leave.
//   [link-before-place]  The link of a new ring is drained before a slot is placed in the ring.
//   [release-before-reuse]  Heads are drained before the slots that they passed are reused.
//   [void-before-retry]  When a will, or a retained message for a subscription, was refused, its
//     void slots are flushed by place_void() and drained before the same message is placed again.
#include <algorithm>
#include <rte_cycles.h>

#include "base/hook.h"
#include "base/idle.h"
#include "broker/worker_state.h"
#include "ring/ring_media.h"

namespace chainring {

namespace {
constexpr std::uint32_t maintain_pieces = 64;
} // namespace

void broker_worker::state::drain() noexcept {
  const std::uint64_t before = rte_rdtsc();
  medium.drain(); // [place-before-publish] [publish-before-ready] [link-before-place]
                  // [release-before-reuse] [closed-before-reuse] [received-before-release]
                  // [moved-before-mark] [mark-before-taken]
  count.drain_tsc += rte_rdtsc() - before;
  ++count.drains;
}

// Notes that the next drain has to cover so many bytes more, which are about to be flushed. Where
// they are too many, those before them are drained.
void broker_worker::state::cover(std::uint64_t bytes) noexcept {
  bytes += 2 * cacheline_size; // both ends may share their lines
  if (undrained != 0 && undrained + bytes > drain_bytes_max) [[unlikely]] {
    drain(); // [place-before-publish]
    undrained = 0;
  }
  undrained += bytes;
}

void broker_worker::state::make_ready(session& s, std::uint32_t n) noexcept {
  if (s.ready) return;
  s.ready = true;
  ready.push_back(n);
}

[[gnu::flatten]] void broker_worker::state::make_dirty(session& s, std::uint32_t n) noexcept {
  if (s.dirty) return;
  s.dirty = true;
  dirty.push_back(n);
}

// Places the messages of `refs` in a queue that is full, or that is about to get a larger ring from
// another worker. Returns `full` when the overflow policy applies, and `no_ring` or `closed` when
// the publisher must retry.
place_status broker_worker::state::place_in_larger(std::uint32_t subscriber,
                                                   std::uint32_t incarnation,
                                                   const slot_origin* from,
                                                   placement& out) noexcept {
  queue_table& queues = table_of(subscriber);
  const std::uint32_t q = queue_of(subscriber);
  // Bounded, because a restart may wait for this worker's own placements.
  constexpr int rounds_max = 64;
  const std::uint32_t n = from != nullptr ? 2 : static_cast<std::uint32_t>(refs.size());
  const std::uint32_t most = slots_bound(subscriber);
  place_status placed = place_status::full;
  idle_policy wait;
  for (int round = 0; round < rounds_max; ++round) {
    // A larger ring does not help a queue that is at its own limit.
    if (slots_differ && std::uint64_t{queues.depth(q)} + n > most) return place_status::full;
    link_status s = queues.grow(q, n);
    if (s == link_status::unprepared) { // no larger ring was prepared in time
      count.drains += 2;
      s = queues.grow_now(q, n);
    }
    if (s == link_status::refused) return place_status::full;
    // The queue is below its limit and the region is full, so the overflow policy does not apply.
    if (s == link_status::no_room) return place_status::no_ring;
    if (s == link_status::linking) {
      queues.link_flush(q); // [link-before-place]
      drain();              // [link-before-place]
      queues.link_finish(q);
    } else if (s == link_status::wait) {
      wait.idle();
    }
    placed = start_placement(subscriber, incarnation, from, out);
    if (placed != place_status::full && placed != place_status::closed) break;
  }
  // `full` here means that other workers have taken the new room.
  return placed == place_status::full ? place_status::closed : placed;
}

// Places `refs` in the newest ring of a queue, or one message that is moved from another queue.
place_status broker_worker::state::start_placement(std::uint32_t subscriber,
                                                   std::uint32_t incarnation,
                                                   const slot_origin* from,
                                                   placement& out) noexcept {
  queue_table& queues = table_of(subscriber);
  const std::uint32_t q = queue_of(subscriber), most = slots_bound(subscriber);
  return from != nullptr ? queues.place_moved_start(q, incarnation, refs.front(), *from, out, most)
                         : queues.place_start(q, incarnation, refs, out, most);
}

// Places `refs` in a queue, which gets its first ring or a larger one where it needs one. Returns
// `full` or `closed` where the queue has no room now.
place_status broker_worker::state::place_refs(std::uint32_t subscriber, std::uint32_t incarnation,
                                              bool over_bytes, const slot_origin* from,
                                              placement& out) noexcept {
  queue_table& queues = table_of(subscriber);
  const std::uint32_t q = queue_of(subscriber);
  link_status prepared = queues.link_start(q);
  if (prepared == link_status::linking) {
    // This is the first message of the queue.
    // [link-before-place] Crash between: the queue has an empty ring.
    queues.link_flush(q);
    drain(); // [link-before-place]
    queues.link_finish(q);
    prepared = link_status::ready;
  } else if (prepared == link_status::refused) {
    prepared = queues.link_now(q); // the stock of rings was used up and is filled again
    ++count.drains;
  }
  // A larger ring does not help a queue that is at its limit of bytes.
  if (over_bytes) return place_status::full;
  const place_status placed = prepared == link_status::ready
                                  ? start_placement(subscriber, incarnation, from, out)
                                  : place_status::no_ring;
  if (queues_grow && placed != place_status::placed && placed != place_status::changed) [[unlikely]]
    return place_in_larger(subscriber, incarnation, from, out);
  return placed;
}

// Puts a target into the group of its queue, behind those that arrived earlier. A queue whose
// incarnation has changed within the burst has one group for each.
void broker_worker::state::add_to_group(std::uint32_t target_at, std::uint64_t size) noexcept {
  const target& t = targets[target_at];
  plan_table::plan& plan = planned.add(t.session, size);
  if (plan.count != 1) {
    group& g = groups[plan.group];
    if (targets[g.first].incarnation == t.incarnation) {
      targets[g.last].next = target_at;
      g.last = target_at;
      ++g.count;
      g.makes_room |= t.makes_room;
      return;
    }
  }
  plan.group = static_cast<std::uint32_t>(groups.size());
  groups.push_back({.first = target_at, .count = 1, .last = target_at, .makes_room = t.makes_room});
}

// Puts the targets of each group next to each other, in the order of their arrival. The targets of
// a publish that store_cells() has refused are left out, and so is a group that has no others. From
// here to the end of the burst the groups are runs of `targets`, which nothing else changes.
void broker_worker::state::collect_groups() noexcept {
  if (groups.size() == targets.size() && !any_refused) return; // each group has one target
  targets_sorted.clear();
  std::size_t kept = 0;
  for (group g : groups) {
    const auto first = static_cast<std::uint32_t>(targets_sorted.size());
    g.makes_room = false;
    for (std::uint32_t t = g.first, left = g.count; left != 0; --left, t = targets[t].next) {
      if (staged[targets[t].publish].refused) continue;
      g.makes_room |= targets[t].makes_room;
      targets_sorted.push_back(targets[t]);
    }
    g.first = first;
    g.count = static_cast<std::uint32_t>(targets_sorted.size()) - first;
    if (g.count != 0) groups[kept++] = g;
  }
  groups.resize(kept);
  targets.swap(targets_sorted);
}

// Returns true if the queue was full and may be tried again: the caller makes room in the queue and
// calls this again. Otherwise a full queue refuses the group's publishes.
bool broker_worker::state::place_group(group& g, full_queue_rule rule) noexcept {
  const std::uint32_t subscriber = targets[g.first].session;
  queue_table& queues = table_of(subscriber);
  const std::uint32_t q = queue_of(subscriber), seal = seal_of(subscriber);
  const std::uint32_t incarnation = targets[g.first].incarnation;
  refs.clear();
  for (std::uint32_t i = 0; i < g.count; ++i) {
    target& t = targets[g.first + i];
    const message_ref m = staged[t.publish].content.ref;
    t.sealed = slot_delivery::sealed(seal, m, t.bits);
    refs.emplace_back(m, t.sealed);
  }
  const bool over_bytes = g.makes_room && bytes_to_free(subscriber, group_bytes(g)) != 0;
  // A queue nearly always has a ring with room. place_refs() sees to the other cases.
  place_status placed =
      over_bytes ? place_status::full
                 : queues.place_start(q, incarnation, refs, g.placement, slots_bound(subscriber));
  if (placed != place_status::placed && placed != place_status::changed) [[unlikely]]
    placed = place_refs(subscriber, incarnation, over_bytes, nullptr, g.placement);
  g.placed = placed == place_status::placed;
  if (g.placed) note_high_water(subscriber, g.placement.depth);
  // `changed` means that the queue belongs to another session now, which this publish did not
  // match.
  if (g.placed || placed == place_status::changed) return false;
  const bool full = placed == place_status::full || placed == place_status::closed;
  if (full) press_group(subscriber);
  // Other workers may have filled the queue since the publish was matched. Then room is made in it,
  // if this worker owns the session and so may drop from its queue. [home-read]
  if (full && rule == full_queue_rule::if_own &&
      policy_of(subscriber) == overflow_policy::drop_oldest &&
      at(subscriber).home.load(std::memory_order_relaxed) == number) // [home-read]
    rule = full_queue_rule::try_again;
  if (full && rule == full_queue_rule::try_again) return true;
  if (placed == place_status::full && policy_of(subscriber) == overflow_policy::drop_newest) {
    count.dropped_newest += g.count;
    (void)queues.overflow(q, overflow_policy::drop_newest, g.count); // this counts the drops
    return false;
  }
  for (std::uint32_t i = 0; i < g.count; ++i)
    staged[targets[g.first + i].publish].refused = true;
  any_refused = true;
  return false;
}

// Makes room in the full queues of publishes that all other queues have accepted, with one drain
// for all queues.
void broker_worker::state::make_room() noexcept {
  queue_table& queues = durable.queues();
  for (group& g : groups) {
    if (!g.makes_room || g.placed) continue;
    // A message that was refused meanwhile drops nothing.
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < g.count; ++i) {
      const target t = targets[g.first + i];
      if (staged[t.publish].refused)
        durable.messages().drop_reference(staged[t.publish].content.ref.index);
      else
        targets[g.first + kept++] = t;
    }
    g.count = kept;
    if (g.count == 0) continue;
    const std::uint32_t q = targets[g.first].session;
    // A session that ended in this burst may have another home by now, and only a queue's own
    // consumer may drop from it. [incarnation-read]
    if (at(q).incarnation.load(std::memory_order_relaxed) != targets[g.first].incarnation) continue;
    // Where it has become impossible, place_group() refuses the messages, and nothing is dropped.
    const drop_plan plan = plan_drop(q, g.count, group_bytes(g));
    g.impossible = !plan.possible;
    if (g.impossible) continue;
    if (plan.entries != 0) {
      count.dropped_oldest += queues.drop_oldest(q, plan.entries);
      forget_dropped(at(q), q);
    }
    if (!queues.release_start(q)) continue;
    // [release-before-reuse] Crash between: the entries are delivered again.
    queues.release_flush(q);
    releasing.push_back(q);
  }
  if (releasing.empty()) return;
  drain(); // [release-before-reuse]
  for (const std::uint32_t q : releasing)
    queues.release_finish(q);
  releasing.clear();
}

// Places every target in its queue; all targets of one queue are placed together. A message that
// one queue refuses is refused in all, and its other places become void. Queues that must drop a
// message come last, when it is known which other messages were refused.
void broker_worker::state::place() noexcept {
  any_refused = false;
  store_cells();
  collect_groups();
  for (staged_publish& p : staged) {
    if (p.places == 0) continue;
    // Behind its burst the usual publish is named by its places alone, so its publisher's reference
    // becomes that of one place.
    p.gives_own = !p.content.fields.identifier_open && p.retained == none && p.scan == none &&
                  p.will_of == none;
    if (const std::uint32_t more = p.places - (p.gives_own ? 1 : 0); more != 0)
      durable.messages().add_references(p.content.ref.index, more);
  }
  bool later = false;
  for (group& g : groups) {
    if (!g.makes_room) g.makes_room = place_group(g, full_queue_rule::if_own);
    later |= g.makes_room;
  }
  settle_groups();
  // Publishers on other workers may take the room before it is used here. Then room is made again,
  // because drop-oldest refuses no message while the queue has an older one.
  constexpr int attempts_max = 16;
  for (int left = attempts_max; later && left-- > 0;) {
    make_room();
    hook_point("broker.room.made");
    later = false;
    for (group& g : groups)
      if (g.makes_room && !g.placed && g.count != 0)
        later |= place_group(g, left != 0 && !g.impossible ? full_queue_rule::try_again
                                                           : full_queue_rule::refuse);
    settle_groups();
  }
}

// A placement becomes ready or void as a whole, so one refused message refuses its whole group.
// That may refuse messages of further groups, so this repeats until nothing changes.
void broker_worker::state::settle_groups() noexcept {
  for (bool changed = any_refused; changed;) {
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

// True when the group has a message that is placed again after it was refused, under the same
// reference. A slot of it that came back with a crash would be a second delivery.
bool broker_worker::state::placed_again(const group& g) const noexcept {
  for (std::uint32_t i = 0; i < g.count; ++i) {
    const staged_publish& p = staged[targets[g.first + i].publish];
    if (p.will_of != none && !seeded_bug("broker.will_void_not_flushed")) return true;
    if (p.scan != none && !seeded_bug("broker.scan_void_not_flushed")) return true;
  }
  return false;
}

// Stores and flushes the heads of the queues with acknowledgements. Returns how many it moves;
// their sessions are the first ones of `dirty` then.
[[gnu::flatten]] std::size_t broker_worker::state::start_releases() noexcept {
  queue_table& queues = durable.queues();
  std::size_t releases = 0;
  for (const std::uint32_t n : dirty) {
    at(n).dirty = false;
    if (!queues.release_start(n)) continue;
    dirty[releases++] = n;
    cover(0);
    queues.release_flush(n); // [release-before-reuse]
  }
  return releases;
}

[[gnu::flatten]] void broker_worker::state::finish_releases() noexcept {
  queue_table& queues = durable.queues();
  for (const std::uint32_t n : dirty)
    queues.release_finish(n); // [release-before-reuse]
}

void broker_worker::state::make_durable() noexcept {
  queue_table& queues = durable.queues();
  message_table& messages = durable.messages();
  hook_point("broker.burst.placed");
  undrained = 0;
  // All stores come first, also those of heads.
  bool any = false, publishes = false;
  for (group& g : groups) {
    if (!g.placed || !staged[targets[g.first].publish].refused) continue;
    const bool retried = placed_again(g);
    if (retried) cover(g.count * sizeof(ring_slot));
    any |= retried;
    table_of(targets[g.first].session).place_void(g.placement, retried); // [void-before-retry]
  }
  const std::size_t releases = start_releases(); // [release-before-reuse]
  dirty.resize(releases);
  start_group_releases();
  durable_map::batch cells(durable.subscriptions());
  apply_subscriptions(cells);
  place_moves(); // behind the ends of leases that a request to unsubscribe brings
  if (seeded_bug("groups.marked_before_moved")) mark_moves();
  // Then come all flushes, and then the drain; a very wide fan-out needs several drains.
  any |= releases != 0 || !subscriptions.empty() || !records.empty() || !closings.empty() ||
         !receipts.empty() || *retained_cells || !group_releases.empty() || !acked_slots.empty() ||
         !moves.empty();
  // The cells of subscriptions and of retained topics are among the lines of this drain.
  // [place-before-publish]
  cells.flush_changes();
  if (*retained_cells) (*retained_cells)->flush_changes(); // [place-before-publish]
  for (const std::uint32_t n : records) {
    cover(sizeof(session_record));
    at(n).record_dirty = false;
    durable.sessions().flush_record(n); // [place-before-publish]
  }
  records.clear();
  cover((closings.size() + receipts.size()) * cacheline_size);
  close_identifiers(); // [place-before-publish]
  flush_receipts();
  cover(group_records.size() * sizeof(session_record) + acked_slots.size() * cacheline_size +
        group_releases.size() * cacheline_size);
  flush_groups();
  for (const move& m : moves) {
    cover(m.placement.count * sizeof(ring_slot));
    // [moved-before-mark] Without it a crash could lose the message: neither queue would have it.
    queues.place_flush(m.placement); // [moved-before-mark]
  }
  any |= !direct.empty();
  publishes |= !direct.empty();
  flush_direct(); // [place-before-publish]
  for (const staged_publish& p : staged) {
    any |= p.kept || p.places != 0;
    if (!p.published()) continue;
    publishes = true;
    if (p.will_of != none) continue; // the message is durable, and held
    cover(messages.flushed_bytes(p.content));
    messages.flush_staged(p.content); // [place-before-publish]
  }
  if (wills_copied != 0)
    for (const staged_will& w : will_changes) {
      if (w.now != staged_will::phase::copied) continue;
      any = publishes = true;
      cover(messages.flushed_bytes(w.content));
      messages.flush_staged(w.content); // [place-before-publish]
    }
  for (const group& g : groups) {
    if (!g.placed || staged[targets[g.first].publish].refused) continue;
    cover(g.count * sizeof(ring_slot));
    table_of(targets[g.first].session).place_flush(g.placement); // [place-before-publish]
  }
  if (seeded_bug("broker.finish_before_drain"))
    finish_releases(); // [release-before-reuse] the wrong way round
  // [place-before-publish] Crash between: the slots are void and the blocks free; no client was
  // answered.
  if (any && !seeded_bug("broker.no_first_drain")) drain(); // [release-before-reuse]
  hook_point("broker.burst.drained");
  cells.publish();
  if (*retained_cells) (*retained_cells)->publish();
  retained_cells->reset(); // all changes are published
  // The entries that move are durable by now.
  if (!seeded_bug("groups.marked_before_moved")) mark_moves();
  if (publishes || (!moves.empty() && !seeded_bug("groups.mark_not_drained"))) {
    commit_direct(); // [publish-before-ready]
    for (const staged_publish& p : staged) {
      if (!p.published()) continue;
      if (p.will_of != none)
        (void)messages.publish_held(p.content.ref); // [publish-before-ready]
      else
        messages.publish(p.content); // [publish-before-ready]
    }
    for (const staged_will& w : will_changes)
      if (w.now == staged_will::phase::copied)
        messages.publish(w.content); // [publish-before-ready]
    for (const staged_publish& p : staged)
      if (p.published() && !seeded_bug("broker.no_publish_flush"))
        messages.flush_published(p.content); // [publish-before-ready]
    for (const staged_will& w : will_changes)
      if (w.now == staged_will::phase::copied)
        messages.flush_published(w.content); // [publish-before-ready]
    // [publish-before-ready] Crash between: each message is in all its queues or in none; its
    // publisher sends it again.
    if (!seeded_bug("broker.no_second_drain")) drain();
  }
  hook_point("broker.burst.published");
  if (!seeded_bug("broker.finish_before_drain")) finish_releases(); // [release-before-reuse]
  for (const std::uint32_t n : dirty)
    let_scans_go_on(at(n));
  dirty.clear();
  finish_group_releases();
  finish_moves();
}

// Marks the publishes whose content is in lost memory. Such content is not durable although it was
// drained, so it is not acknowledged and its publisher sends it again. This comes after the drains,
// because content is written until then. Publishes that are set aside are looked at when they are
// staged.
void broker_worker::state::mark_lost_publishes() noexcept {
  const std::uint64_t now = medium.losses();
  if (now == losses) [[likely]]
    return;
  losses = now;
  for (std::vector<direct_publish>* some : {&direct, &direct_done})
    for (direct_publish& p : *some)
      p.lost = durable.messages().lost(p.content);
  for (staged_publish& p : staged)
    if (p.kept && !p.refused) p.lost = durable.messages().lost(p.content);
}

void broker_worker::state::finish_publishes() noexcept {
  message_table& messages = durable.messages();
  finish_direct(); // [publish-before-ready]
  for (group& g : groups) {
    const std::uint32_t to = targets[g.first].session;
    const bool voided = g.placed && staged[targets[g.first].publish].refused;
    if (g.placed && !voided) {
      table_of(to).place_finish(g.placement); // [publish-before-ready]
      count.placed += g.count;
      // The home delivers the messages from what it still knows of them. [home-read]
      if (!common.groups.is_group(to) && at(to).home.load(std::memory_order_relaxed) == number) {
        at(to).fresh_burst = burst_number;
        at(to).fresh_group = static_cast<std::uint32_t>(&g - groups.data());
      }
    }
    // Behind void slots another worker's messages may have been waiting for these.
    if (g.placed && common.groups.is_group(to))
      wake_members(queue_of(to), g.count);
    else if (g.placed)
      wake(to);
    // A place that was never made must not keep its message alive.
    for (std::uint32_t i = 0; i < g.count && !g.placed; ++i)
      messages.drop_reference(staged[targets[g.first + i].publish].content.ref.index);
  }
  planned.clear();
  finish_cells(); // [cell-before-drop]
  for (staged_publish& p : staged) {
    finish_retained(p); // [cell-before-drop]
    if (p.scan != none) scans[p.scan].refused |= p.refused;
    if (p.gives_own) {
      // Its reference ends with that of its places.
    } else if (p.kept && p.refused) {
      forget_identifier(p.content);
      messages.discard(p.content);
    } else if (p.kept && p.content.fields.identifier_open) {
      open_identifier_of(p.content, p.lost); // [publish-before-ready]
    } else if (p.kept || p.scan != none || p.will_of != none) {
      messages.drop_reference(p.content.ref.index); // the publisher's own reference
    }
    if (p.will_of != none) finish_will(p);
    if (p.refused && p.by != nullptr) ++count.refused_congestion;
    answer_with(p.by, p.token,
                p.lost      ? outcome::lost
                : p.refused ? outcome::congestion
                            : outcome::accepted); // [publish-before-ready]
    if (p.volatile_copy == none) continue;
    // What could not be retained at QoS 0 is delivered all the same.
    const bool handed = !p.refused || p.is_qos_0();
    for (std::uint32_t i = 0; i < p.volatile_count && handed; ++i)
      hand_volatile(p.volatile_copy, volatile_targets[p.volatile_first + i]);
    common.volatiles->drop(p.volatile_copy);
  }
  staged_done.swap(staged);
  targets_done.swap(targets);
  groups_done.swap(groups);
  staged.clear();
  targets.clear();
  volatile_targets.clear();
  groups.clear();
}

// Forgets what the burst has published.
void broker_worker::state::forget_burst() noexcept {
  for (const direct_publish& p : direct_done)
    names.release(p.topic);
  direct_done.clear();
  in_place.release();
  if (staged_done.empty()) return;
  for (const staged_publish& p : staged_done)
    if (p.topic != none) names.release(p.topic);
  staged_done.clear();
  targets_done.clear();
  groups_done.clear();
  ++burst_number; // no session has messages of this burst any more
}

// Reports the outcomes of their calls to the front ends, in the order in which they became known.
void broker_worker::state::report_settled() noexcept {
  report_direct();
  for (std::size_t i = 0; i < answers.size();) {
    front_end* to = answers[i].to;
    settled_now.clear();
    for (; i < answers.size() && answers[i].to == to; ++i)
      settled_now.push_back(answers[i].result);
    to->settled(settled_now);
  }
  answers.clear();
}

// Does what is due by the clock, maintain_hz times a second.
void broker_worker::state::maintain() noexcept {
  if (queues_grow) {
    durable.queues().maintain(maintain_pieces);
    if (!own_groups.empty()) durable.group_queues().maintain(maintain_pieces);
  }
  check_sessions();
  if (number == 0) clear_expired_retained();
  scans_may_go_on = true;
  look_for_due_wills();
  check_leases();
  end_rests();
  drop_expired_shared();
  for (const std::uint32_t g : own_groups)
    make_group_dirty(g);
  maintain_at = now_tsc + tsc_hz / maintain_hz;
}

void broker_worker::state::end_burst() noexcept {
  // What this burst publishes and what it delivers stays where it is until the burst is over.
  const message_table::reading mine(durable.messages());
  now_tsc = rte_rdtsc();
  burst_ns = 0;
  did_work = take_woken();
  did_work |= take_parcels();
  take_requests();
  retry_aside();
  if (now_tsc >= maintain_at) maintain();
  apply_will_changes();
  send_wills();
  did_work |= !endings.empty() || !answers.empty() || !group_endings.empty();
  finish_endings();
  if (!clears.empty()) clear_retained();
  run_scans();
  if (!direct.empty() || !staged.empty() || !dirty.empty() || !subscriptions.empty() ||
      !records.empty() || !closings.empty() || !receipts.empty() || !tidy.empty() ||
      !group_dirty.empty() || !moves.empty() || wills_copied != 0) {
    did_work = true;
    ++count.bursts;
    hook_point("broker.burst.matched");
    {
      burst_cells cells;
      retained_cells = &cells;
      place();
      make_durable();
    }
    finish_closings(); // [closed-before-reuse]
    drop_former_wills();
    finish_will_changes();
    mark_lost_publishes();
    finish_publishes();
    finish_subscriptions();
  } else {
    drop_former_wills(); // their records were drained with endings
    mark_lost_publishes();
  }
  finish_scans();
  report_settled();
  deliver_ready();
  forget_burst();
}

} // namespace chainring
