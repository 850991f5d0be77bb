// SPDX-License-Identifier: BSD-3-Clause
/// What the crash tests of queues do, promise and check. Slots, descriptors and blocks are few, so
/// that everything is used again at once.
#pragma once
#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "ring_fixture.h"
#include "support/explorer.h"

namespace chainring::test {

enum kinds : int {
  delivered = history::first_own_kind, ///< key: a consumer has seen it: it stays until consumed
  consuming,                           ///< key: it may be gone
  consumed,                            ///< key: it is gone
  refused,                             ///< id: it is nowhere
  received,                            ///< key: in state pubrec
  changing,                            ///< queue: its mode is about to change; value: to which
  changed,                             ///< queue: its mode has changed
};

/// One message in one queue, for the history.
constexpr std::uint64_t key(std::uint32_t queue, std::uint64_t id) {
  return queue * 100000 + id;
}

/// What a caller may do wrong.
enum class defect {
  none,
  no_first_drain,        ///< publishes before the slots are drained
  ready_before_drain,    ///< consumers see it before its publication is drained
  finish_before_drain,   ///< slots and references freed before the head is drained
  restarted_before_drain ///< contents dropped before the restart is drained
};

inline queue_layout crash_layout() {
  queue_layout l;
  l.queues = 3;
  l.descriptors = 4;
  l.blocks = 40;
  l.options.slots = 4;
  l.options.stock = 1;
  return l;
}

/// Queues of 3 slots that may grow to 15.
inline queue_layout growing_layout() {
  queue_layout l = crash_layout();
  l.queues = 2;
  l.descriptors = 10;
  l.blocks = 64;
  l.options.capacity_max = 15;
  l.options.timed_leases = true;
  return l;
}

struct crash_world {
  queues_on_media q;
  history& h;
  defect wrong = defect::none;

  crash_world(media& on, history& said, const queue_layout& l = crash_layout(),
              defect d = defect::none)
      : q(on, l), h(said), wrong(d) {}

  static std::uint64_t mask_of(const std::vector<std::uint32_t>& to) {
    std::uint64_t mask = 0;
    for (std::uint32_t queue : to)
      mask |= 1u << queue;
    return mask;
  }
  /// A consumer looks at every queue: what it sees, it may have sent.
  void look() {
    for (std::uint32_t queue = 0; queue < q.l.queues; ++queue) {
      for (const leased& e : q.lease(queue)) {
        const std::uint64_t id = q.id_of(e.message());
        if (id == 0) return h.fail("delivered, and not whole");
        if (!h.has(delivered, key(queue, id))) h.promise(delivered, key(queue, id));
      }
      q->rewind(queue);
    }
  }
  /// As the broker does it: a queue's first ring is linked with a drain that comes anyway.
  bool prepare(const std::vector<std::uint32_t>& to) {
    for (;;) {
      bool linking = false;
      std::vector<std::uint32_t> links;
      for (std::uint32_t queue : to) {
        const link_status s = q->link_start(queue);
        if (s == link_status::linking) links.push_back(queue);
        if (s == link_status::refused && q->refill() == 0) return false;
        linking |= s != link_status::ready;
      }
      if (!linking) return true;
      for (std::uint32_t queue : links)
        q->link_flush(queue);
      q.m.drain();
      for (std::uint32_t queue : links)
        q->link_finish(queue);
    }
  }
  /// A larger ring for a full queue, with a consumer that looks after every step.
  link_status grow(std::uint32_t queue) {
    link_status s = q->grow(queue);
    if (s == link_status::unprepared) {
      q->maintain(1);
      s = q->grow(queue);
    }
    if (s != link_status::linking) return s;
    look();
    q->link_flush(queue);
    q.m.drain();
    look();
    q->link_finish(queue);
    look();
    return link_status::ready;
  }
  /// A queue that was nearly empty for long.
  void shrink(std::uint32_t queue) {
    const std::uint64_t before = q->statistics().shrunk;
    for (int visit = 0; visit < 16 && q->statistics().shrunk == before; ++visit)
      q->maintain();
    if (q->statistics().shrunk == before || q->statistics(queue).rings < 2) h.fail("not shrunk");
    look();
  }
  void set_mode(std::uint32_t queue, queue_mode mode) {
    h.promise(changing, queue, static_cast<std::uint64_t>(mode));
    if (!q.consumer().set_mode(queue, mode)) return h.fail("no such mode");
    h.promise(changed, queue, static_cast<std::uint64_t>(mode));
  }
  /// Places, as a publisher does that may wait for a larger ring.
  place_status place(std::uint32_t queue, const slot_ref& ref, placement& p) {
    place_status s = q->place_start(queue, {&ref, 1}, p);
    if (s == place_status::full && grow(queue) == link_status::ready)
      s = q->place_start(queue, {&ref, 1}, p);
    return s;
  }
  /// The publisher's burst, with a consumer that looks after every step.
  bool publish(std::uint64_t id, const std::vector<std::uint32_t>& to, std::uint16_t delivery = 1) {
    if (!prepare(to)) return false;
    message msg;
    if (!q.stage(id, msg)) return false;
    h.begin(id, mask_of(to));
    const auto places = static_cast<std::uint32_t>(to.size());
    q.messages->add_references(msg.ref.index, places);
    const slot_ref ref(msg.ref, delivery);
    std::vector<placement> placed;
    for (std::uint32_t queue : to) {
      placement p;
      if (place(queue, ref, p) != place_status::placed) {
        // The message goes to the others, if that is what the table says.
        if (q->overflow(queue) != overflow_policy::drop_newest) break;
        h.promise(consuming, key(queue, id));
        h.promise(consumed, key(queue, id));
        q.messages->drop_reference(msg.ref.index);
      }
      placed.push_back(p);
    }
    const bool whole = placed.size() == to.size();
    if (!whole)
      for (placement& p : placed)
        q->place_void(p);
    q.messages->flush_staged(msg);
    for (const placement& p : placed)
      q->place_flush(p);
    look();
    if (!whole) {
      h.promise(refused, id);
      q.messages->drop_reference(msg.ref.index, places - static_cast<std::uint32_t>(placed.size()));
      q.messages->discard(msg);
      q.m.drain();
      return false;
    }
    if (wrong != defect::no_first_drain) q.m.drain();
    look();
    q.messages->publish(msg);
    q.messages->flush_published(msg);
    auto ready = [&] {
      for (const placement& p : placed)
        if (p.count != 0) q->place_finish(p);
    };
    if (wrong == defect::ready_before_drain) ready();
    look();
    q.m.drain();
    if (wrong != defect::ready_before_drain) ready();
    h.ack(id);
    look();
    q.messages->drop_reference(msg.ref.index);
    return true;
  }
  /// Leases `order.size()` entries and acknowledges them in that order, by position.
  void consume(std::uint32_t queue, const std::vector<std::size_t>& order) {
    const auto entries = q.lease(queue, order.size());
    std::vector<std::uint64_t> marked, gone;
    for (std::size_t i : order) {
      if (i >= entries.size()) continue;
      const std::uint64_t id = q.id_of(entries[i].message());
      h.promise(consuming, key(queue, id));
      if (q->ack(queue, entries[i].ticket()) == ack_status::marked)
        marked.push_back(entries[i].ticket());
      gone.push_back(key(queue, id));
    }
    for (std::uint64_t ticket : marked)
      q.consumer().flush_slot(queue, ticket);
    release(queue, gone);
  }
  /// Leases until `deadline`, lets that pass, and acknowledges too late: nothing comes of it.
  void time_out(std::uint32_t queue, std::size_t n, std::uint64_t deadline) {
    std::vector<leased> late(n);
    late.resize(q.consumer().lease(queue, late, deadline));
    if (q.consumer().expire(queue, deadline - 1) != 0 ||
        q.consumer().expire(queue, deadline) != late.size())
      return h.fail("not in time");
    for (const leased& e : late)
      if (q.consumer().ack(queue, e) != ack_status::ignored) return h.fail("a late ack");
    std::vector<leased> again(n);
    again.resize(q.consumer().lease(queue, again, deadline + 1));
    if (again.size() != late.size()) return h.fail("not again");
    for (const leased& e : late) // not theirs any more
      if (q.consumer().ack(queue, e) != ack_status::ignored)
        return h.fail("a late ack of another's lease");
    std::vector<std::uint64_t> gone;
    for (std::size_t i = again.size(); i-- > 0;) {
      h.promise(consuming, key(queue, q.id_of(again[i].message())));
      if (q.consumer().ack(queue, again[i]) == ack_status::marked)
        q.consumer().flush_slot(queue, again[i].ticket());
      gone.push_back(key(queue, q.id_of(again[i].message())));
    }
    release(queue, gone);
  }
  void release(std::uint32_t queue, const std::vector<std::uint64_t>& gone = {}) {
    const bool moved = q->release_start(queue);
    if (moved) q->release_flush(queue);
    if (wrong == defect::finish_before_drain) {
      if (moved) q->release_finish(queue);
      return;
    }
    q.m.drain();
    for (std::uint64_t k : gone)
      h.promise(consumed, k);
    if (moved) q->release_finish(queue);
  }
  void receive(std::uint32_t queue) {
    const auto e = q.lease(queue, 1);
    if (e.empty() || !q.consumer().set_state(queue, e[0].ticket(), slot_state::pubrec)) return;
    q.consumer().flush_slot(queue, e[0].ticket());
    q.m.drain();
    h.promise(received, key(queue, q.id_of(e[0].message())));
    q->rewind(queue);
  }
  void restart(std::uint32_t queue) {
    std::vector<std::uint64_t> ids;
    for (const leased& e : q.lease(queue))
      ids.push_back(q.id_of(e.message()));
    q->rewind(queue);
    for (std::uint64_t id : ids)
      h.promise(consuming, key(queue, id));
    if (q->restart_start(queue, q->incarnation(queue)) != restart_status::stored)
      return h.fail("restart refused");
    q->restart_flush(queue);
    if (wrong == defect::restarted_before_drain) return q->restart_finish(queue);
    q.m.drain();
    q->restart_finish(queue);
    for (std::uint64_t id : ids)
      h.promise(consumed, key(queue, id));
  }
  void drop_oldest(std::uint32_t queue, std::uint32_t n) {
    std::vector<std::uint64_t> keys;
    for (const leased& e : q.lease(queue))
      keys.push_back(key(queue, q.id_of(e.message())));
    q->rewind(queue);
    keys.resize(std::min<std::size_t>(keys.size(), n));
    for (std::uint64_t k : keys)
      h.promise(consuming, k);
    keys.resize(q->drop_oldest(queue, n));
    release(queue, keys);
  }
};

/// Opens, and compares what is there with what was promised.
inline verdict check_queues(media& m, const history& h, const queue_layout& l = crash_layout()) {
  queues_on_media q(m, l);
  if (!q.found.notes.empty()) return "damage: " + q.found.notes.front();
  std::map<std::uint64_t, std::uint64_t> in; // id -> queues that have it
  std::set<std::uint64_t> in_pubrec;
  for (std::uint32_t queue = 0; queue < l.queues; ++queue) {
    std::uint64_t last_ticket = 0;
    for (const leased& e : q.lease(queue)) {
      const std::uint64_t id = q.id_of(e.message());
      const std::string name =
          "message " + std::to_string(id) + " in queue " + std::to_string(queue);
      if (id == 0) return "queue " + std::to_string(queue) + ": an entry that is not whole";
      if (!h.begun(id)) return "ghost: " + name;
      if ((*h.value(history::begun_kind, id) >> queue & 1) == 0) return "never matched: " + name;
      if (h.has(consumed, key(queue, id))) return "consumed and back: " + name;
      if (e.ticket() <= last_ticket) return "out of order: " + name;
      if (in[id] >> queue & 1) return "doubled: " + name;
      if (!e.redelivered()) return "not marked redelivered: " + name;
      last_ticket = e.ticket();
      in[id] |= 1u << queue;
      if (e.state() == slot_state::pubrec) in_pubrec.insert(key(queue, id));
    }
  }
  for (std::uint64_t id : h.ids(history::begun_kind)) {
    const std::uint64_t mask = *h.value(history::begun_kind, id);
    const std::string name = "message " + std::to_string(id);
    std::uint64_t due = mask; // queues that cannot have lost it to a consumer
    for (std::uint32_t queue = 0; queue < l.queues; ++queue) {
      if (h.has(consuming, key(queue, id))) due &= ~(1u << queue);
      const bool there = in[id] >> queue & 1;
      if ((due >> queue & 1) && h.has(delivered, key(queue, id)) && !there)
        return "delivered and lost: " + name;
      if ((due >> queue & 1) && h.has(received, key(queue, id)) &&
          !in_pubrec.contains(key(queue, id)))
        return "PUBREC forgotten: " + name;
    }
    if (h.is_acked(id) && (in[id] & due) != due) return "acknowledged and lost: " + name;
    if ((in[id] & due) != due && (in[id] & due) != 0) return "in some of its queues: " + name;
    if (h.has(refused, id) && in[id] != 0) return "refused and delivered: " + name;
  }
  // Live is what is reachable.
  std::uint64_t distinct = 0;
  for (const auto& [id, queues] : in)
    distinct += queues != 0;
  if (q.live() != distinct)
    return "messages live: " + std::to_string(q.live()) +
           ", in queues: " + std::to_string(distinct);
  std::uint64_t reachable =
      q->statistics().rings_in_stock *
          q.blocks->blocks_for(ring_header_size + std::uint64_t{16} * l.options.slots) +
      distinct * q.blocks->blocks_for(24);
  for (std::uint32_t queue = 0; queue < l.queues; ++queue) {
    const queue_commit c = queue_commit::unpack(q.record(queue).commit);
    for (unsigned k = 0; k < c.count; ++k)
      reachable += q.ring_blocks(q.record(queue).rings[(c.first + k) % queue_rings_max]);
    const auto mode = h.value(changed, queue), next = h.value(changing, queue);
    if (next && *next != static_cast<std::uint64_t>(c.mode) &&
        mode.value_or(0) != static_cast<std::uint64_t>(c.mode))
      return "queue " + std::to_string(queue) + ": not in its mode";
    if (next && mode == next && static_cast<std::uint64_t>(c.mode) != *mode)
      return "queue " + std::to_string(queue) + ": its mode was forgotten";
  }
  if (q.blocks->statistics().live_blocks != reachable)
    return "blocks live: " + std::to_string(q.blocks->statistics().live_blocks) +
           ", reachable: " + std::to_string(reachable);
  // And it goes on working, over more than a lap.
  auto empty = [&](std::uint32_t queue) {
    q->rewind(queue);
    for (const leased& e : q.lease(queue))
      if (q->ack(queue, e.ticket()) == ack_status::ignored) return false;
    q.release(queue);
    return true;
  };
  for (std::uint32_t queue = 0; queue < l.queues; ++queue)
    if (!empty(queue)) return "does not go on: an ack is ignored";
  if (q.live() != 0) return "messages left when all queues are empty";
  for (std::uint32_t queue = 0; queue < l.queues; ++queue)
    for (std::uint64_t id = 90001; id <= 90001 + 2 * l.options.slots; ++id) {
      if (!q.publish(id, {queue})) return "does not go on: nothing can be placed";
      if (const auto got = q.ids(queue); got != std::vector<std::uint64_t>{id})
        return "does not go on: what was placed does not come";
      if (!empty(queue)) return "does not go on: an ack is ignored";
    }
  return {};
}

/// A second life: what came back is worked on, and more is published, first where the messages cut
/// off before were not.
inline void go_on(crash_world& w) {
  const auto base = static_cast<std::uint64_t>(1000 * w.h.crashes());
  const std::uint32_t last = w.q.l.queues - 1;
  std::vector<std::uint32_t> every(w.q.l.queues);
  std::iota(every.begin(), every.end(), 0u);
  w.publish(base + 1, {last});
  w.look();
  w.consume(std::min(last, 1u), {0});
  w.publish(base + 2, every);
  w.consume(0, {1, 0});
  w.publish(base + 3, {std::min(last, 1u)});
}

using body = std::function<void(crash_world&)>;

inline scenario queue_scenario(const std::string& name, body run, queue_layout l = crash_layout(),
                               defect wrong = defect::none) {
  scenario s;
  s.name = "ring: " + name;
  s.size = l.size();
  // Every block looks like slots of the first tickets, all of which name message 0.
  s.setup = [l](media& m, history&) {
    auto* word = reinterpret_cast<std::uint64_t*>(m.base() + l.chains());
    const std::uint64_t words = (l.size() - l.chains()) / 8;
    for (std::uint64_t i = 0; i + 1 < words; i += 2) {
      m.store(&word[i], slot_ref(message_ref{0, 1}, 1).word);
      m.store(&word[i + 1], slot_tag{i / 2 % l.options.slots + 1, slot_state::queued}.pack(0));
    }
  };
  s.run = [run, l, wrong](media& m, history& h) {
    crash_world w(m, h, l, wrong);
    run(w);
  };
  s.recover_and_check = [l](media& m, const history& h) { return check_queues(m, h, l); };
  s.continue_after = [l](media& m, history& h) {
    crash_world w(m, h, l);
    go_on(w);
  };
  return s;
}

} // namespace chainring::test
