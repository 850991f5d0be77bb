// SPDX-License-Identifier: BSD-3-Clause
/// What the crash tests of queues do, promise and check. There are few slots, descriptors and
/// blocks, so that each of them is soon used again.
#pragma once
#include <algorithm>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "ring_fixture.h"
#include "support/explorer.h"

namespace chainring::test {

/// The kinds of promises that a history records about queues.
enum kinds : int {
  delivered = history::first_own_kind, ///< key: a consumer has seen it, so it stays until consumed
  consuming,                           ///< key: it may have left the queue
  consumed,                            ///< key: it has left the queue durably
  refused,                             ///< id: it is in no queue
  received,                            ///< key: its slot is in state pubrec
  changing, ///< queue: its mode is about to change; the value is the new mode
  changed,  ///< queue: its mode has changed durably
};

/// The number under which a history records one message in one queue.
constexpr std::uint64_t key(std::uint32_t queue, std::uint64_t id) {
  return queue * 100000 + id;
}

/// Mistakes that a caller can make.
enum class defect {
  none,
  no_first_drain,        ///< the caller publishes before the slots are drained
  ready_before_drain,    ///< consumers see a message before its publication is drained
  finish_before_drain,   ///< slots and references are freed before the head is drained
  restarted_before_drain ///< contents are dropped before the restart is drained
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

/// Queues whose first ring holds 3 entries, and which may grow to 15.
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
  bool unseen = false; ///< nobody leases what is published

  crash_world(media& medium, history& promises, const queue_layout& l = crash_layout(),
              defect d = defect::none)
      : q(medium, l), h(promises), wrong(d) {}

  static std::uint64_t mask_of(const std::vector<std::uint32_t>& to) {
    std::uint64_t mask = 0;
    for (std::uint32_t queue : to)
      mask |= 1u << queue;
    return mask;
  }
  /// A consumer leases everything in every queue and gives it back. It may have sent what it saw,
  /// so the history records these entries as delivered.
  void look() {
    if (unseen) return;
    for (std::uint32_t queue = 0; queue < q.l.queues; ++queue) {
      for (const leased& e : q.lease(queue)) {
        const std::uint64_t id = q.id_of(e.message());
        if (id == 0) return h.fail("a message that is not whole was delivered");
        if (!h.has(delivered, key(queue, id))) h.promise(delivered, key(queue, id));
      }
      q->rewind(queue);
    }
  }
  /// Links the queues' first rings as the broker does, with a drain that comes anyway.
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
  /// Gives a full queue a larger ring. A consumer looks at the queues after every step.
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
  /// Visits a queue that is nearly empty until it gets a smaller ring.
  void shrink(std::uint32_t queue) {
    const std::uint64_t before = q->statistics().shrunk;
    for (int visit = 0; visit < 16 && q->statistics().shrunk == before; ++visit)
      q->maintain();
    if (q->statistics().shrunk == before || q->statistics(queue).rings < 2)
      h.fail("the queue did not get a smaller ring");
    look();
  }
  void set_mode(std::uint32_t queue, queue_mode mode) {
    h.promise(changing, queue, static_cast<std::uint64_t>(mode));
    if (!q.consumer().set_mode(queue, mode))
      return h.fail("the mode of the queue could not be changed");
    h.promise(changed, queue, static_cast<std::uint64_t>(mode));
  }
  /// Places a message as a publisher does that can wait for a larger ring.
  place_status place(std::uint32_t queue, const slot_ref& ref, placement& p) {
    place_status s = q->place_start(queue, {&ref, 1}, p);
    if (s == place_status::full && grow(queue) == link_status::ready)
      s = q->place_start(queue, {&ref, 1}, p);
    return s;
  }
  /// Publishes a message whose entries are in no lease before the scenario's own.
  void publish_unseen(std::uint64_t id, const std::vector<std::uint32_t>& to) {
    unseen = true;
    publish(id, to);
    unseen = false;
  }
  /// Makes the publisher's burst. A consumer looks at the queues after every step.
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
        // With drop_newest the message goes to the other queues.
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
  /// Leases `order.size()` entries and acknowledges those at the positions in `order`, in that
  /// order.
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
  /// Leases up to `n` entries and acknowledges them in one call, and those one by one that it
  /// leaves.
  void consume_burst(std::uint32_t queue, std::size_t n) {
    const auto entries = q.lease(queue, n);
    std::vector<std::uint64_t> gone;
    for (const leased& e : entries) {
      gone.push_back(key(queue, q.id_of(e.message())));
      h.promise(consuming, gone.back());
    }
    const std::uint32_t acked = q.consumer().ack_burst(queue, entries);
    for (const leased& e : std::span(entries).subspan(acked))
      if (q.consumer().ack(queue, e) == ack_status::marked)
        q.consumer().flush_slot(queue, e.ticket());
    release(queue, gone);
  }
  /// Leases `n` entries in place, reads them there, and acknowledges them in one call.
  void consume_in_place(std::uint32_t queue, std::uint32_t n) {
    const leased_run run = q.consumer().lease_run(queue, n);
    if (run.count != n) return h.fail("the entries could not be leased in place");
    std::vector<std::uint64_t> gone;
    for (std::uint32_t i = 0; i < n; ++i) {
      gone.push_back(key(queue, q.id_of(run.ref(i).message())));
      h.promise(consuming, gone.back());
    }
    bool releasing = false;
    if (q.consumer().ack_run(queue, run, releasing) != n || !releasing)
      return h.fail("the entries could not be acknowledged in place");
    end_release(queue, gone, releasing);
  }
  /// Leases two entries in place, each for itself, and acknowledges the later one first.
  void consume_backwards(std::uint32_t queue) {
    const leased_run first = q.consumer().lease_run(queue, 1);
    const leased_run second = q.consumer().lease_run(queue, 1);
    if (second.count != 1) return h.fail("the entries could not be leased in place");
    for (const leased_run& run : {second, first}) {
      const std::uint64_t gone = key(queue, q.id_of(run.ref(0).message()));
      h.promise(consuming, gone);
      bool releasing = false;
      if (q.consumer().ack_run(queue, run, releasing) != 1)
        return h.fail("an entry could not be acknowledged in place");
      end_release(queue, {gone}, releasing);
    }
  }
  /// Leases until `deadline`, lets the deadline pass, and acknowledges too late. The late acks must
  /// be ignored, before and after the entries are leased again.
  void time_out(std::uint32_t queue, std::size_t n, std::uint64_t deadline) {
    std::vector<leased> late(n);
    late.resize(q.consumer().lease(queue, late, deadline));
    if (q.consumer().expire(queue, deadline - 1) != 0 ||
        q.consumer().expire(queue, deadline) != late.size())
      return h.fail("the leases did not end at their deadline");
    for (const leased& e : late)
      if (q.consumer().ack(queue, e) != ack_status::ignored)
        return h.fail("a late ack was not ignored");
    std::vector<leased> again(n);
    again.resize(q.consumer().lease(queue, again, deadline + 1));
    if (again.size() != late.size()) return h.fail("the entries did not come again");
    for (const leased& e : late) // these leases have ended
      if (q.consumer().ack(queue, e) != ack_status::ignored)
        return h.fail("a late ack ended the lease of another consumer");
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
    end_release(queue, gone, moved);
  }
  void end_release(std::uint32_t queue, const std::vector<std::uint64_t>& gone, bool moved) {
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
      return h.fail("the restart was refused");
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

/// Opens the queues and compares their contents with what the history promises.
inline verdict check_queues(media& m, const history& h, const queue_layout& l = crash_layout()) {
  queues_on_media q(m, l);
  if (!q.found.notes.empty()) return "damage: " + q.found.notes.front();
  std::map<std::uint64_t, std::uint64_t> in; // id -> mask of the queues that hold the message
  std::set<std::uint64_t> in_pubrec;
  for (std::uint32_t queue = 0; queue < l.queues; ++queue) {
    std::uint64_t last_ticket = 0;
    for (const leased& e : q.lease(queue)) {
      const std::uint64_t id = q.id_of(e.message());
      const std::string name =
          "message " + std::to_string(id) + " in queue " + std::to_string(queue);
      if (id == 0)
        return "queue " + std::to_string(queue) + ": an entry names a message that is not whole";
      if (!h.begun(id)) return "delivered although never published: " + name;
      if ((*h.value(history::begun_kind, id) >> queue & 1) == 0)
        return "in a queue that it was not published to: " + name;
      if (h.has(consumed, key(queue, id)))
        return "delivered again after its consumption was durable: " + name;
      if (e.ticket() <= last_ticket) return "out of order: " + name;
      if (in[id] >> queue & 1) return "in the same queue twice: " + name;
      if (!e.redelivered()) return "not marked redelivered: " + name;
      last_ticket = e.ticket();
      in[id] |= 1u << queue;
      if (e.state() == slot_state::pubrec) in_pubrec.insert(key(queue, id));
    }
  }
  for (std::uint64_t id : h.ids(history::begun_kind)) {
    const std::uint64_t mask = *h.value(history::begun_kind, id);
    const std::string name = "message " + std::to_string(id);
    std::uint64_t due = mask; // queues that must still hold the message
    for (std::uint32_t queue = 0; queue < l.queues; ++queue) {
      if (h.has(consuming, key(queue, id))) due &= ~(1u << queue);
      const bool there = in[id] >> queue & 1;
      if ((due >> queue & 1) && h.has(delivered, key(queue, id)) && !there)
        return "lost after it was delivered: " + name;
      if ((due >> queue & 1) && h.has(received, key(queue, id)) &&
          !in_pubrec.contains(key(queue, id)))
        return "no longer in state pubrec: " + name;
    }
    if (h.is_acked(id) && (in[id] & due) != due)
      return "lost after it was acknowledged to its publisher: " + name;
    if ((in[id] & due) != due && (in[id] & due) != 0)
      return "in some of its queues and not in the others: " + name;
    if (h.has(refused, id) && in[id] != 0) return "delivered although it was refused: " + name;
  }
  // Exactly those messages and blocks are live that a queue can reach.
  std::uint64_t distinct = 0;
  for (const auto& [id, queues] : in)
    distinct += queues != 0;
  if (q.live() != distinct)
    return "live messages: " + std::to_string(q.live()) +
           ", messages in queues: " + std::to_string(distinct);
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
      return "queue " + std::to_string(queue) + ": its mode is neither the old nor the new one";
    if (next && mode == next && static_cast<std::uint64_t>(c.mode) != *mode)
      return "queue " + std::to_string(queue) + ": its mode is not the one that was stored durably";
  }
  if (q.blocks->statistics().live_blocks != reachable)
    return "live blocks: " + std::to_string(q.blocks->statistics().live_blocks) +
           ", reachable blocks: " + std::to_string(reachable);
  // The queues must go on working for more than one round of their slots.
  auto empty = [&](std::uint32_t queue) {
    q->rewind(queue);
    for (const leased& e : q.lease(queue))
      if (q->ack(queue, e.ticket()) == ack_status::ignored) return false;
    q.release(queue);
    return true;
  };
  for (std::uint32_t queue = 0; queue < l.queues; ++queue)
    if (!empty(queue)) return "after recovery an ack was ignored";
  if (q.live() != 0) return "messages are live although all queues are empty";
  for (std::uint32_t queue = 0; queue < l.queues; ++queue)
    for (std::uint64_t id = 90001; id <= 90001 + 2 * l.options.slots; ++id) {
      if (!q.publish(id, {queue})) return "after recovery nothing can be placed";
      if (const auto got = q.ids(queue); got != std::vector<std::uint64_t>{id})
        return "after recovery a placed message is not delivered";
      if (!empty(queue)) return "after recovery an ack was ignored";
    }
  return {};
}

/// The work after a crash: recovered entries are consumed and more is published, first to a queue
/// that did not get the messages which the crash cut off.
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
  // At the start every block holds bytes that look like slots of the first tickets. All of them
  // name message 0.
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

inline scenario in_place() {
  return queue_scenario("leases in place", [](crash_world& w) {
    w.publish_unseen(1, {0, 1});
    w.publish_unseen(2, {0});
    w.consume_in_place(0, 2);
    w.publish_unseen(3, {0});
    w.publish_unseen(4, {0, 1});
    w.consume_backwards(0);
    w.publish_unseen(5, {0});
    w.consume_in_place(0, 1);
    w.publish(6, {0});
  });
}

} // namespace chainring::test
