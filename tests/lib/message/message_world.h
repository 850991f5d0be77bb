// SPDX-License-Identifier: BSD-3-Clause
/// The world of the crash suites of messages: messages named by places on media (two queues of four
/// slots, a will, open identifiers). Descriptors and blocks are few, so that they are reused at
/// once.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "message_fixture.h"
#include "region/recovery.h"
#include "support/explorer.h"

namespace chainring::test {
constexpr table_layout layout{
    .descriptors = 3, .block_size = 64, .blocks = 24, .descriptors_max = 6};
/// The offset at which a table that grows gets its second segment.
constexpr message_segment second{4096, 3};
constexpr unsigned queues = 2, slots = 4;

enum kinds : int {
  consuming = history::first_own_kind,
  consumed,
  discarded,
  named,
  closing,
  closed,
  held_kind,
  firing
};

/// What the harness itself may do wrong on purpose.
enum class defect {
  none,
  no_first_drain,
  no_second_drain,
  dropped_before_drain,
  listed_before_zeroed,
  used_before_listed
};

inline std::uint64_t key(message_ref r) {
  return std::uint64_t{r.index} << 16 | r.generation;
}

/// A region: the table, its blocks, and one line for each slot, {1 | generation | index} or 0 if it
/// is empty; then a line that says whether the table has its second segment.
struct world {
  media& m;
  table_on_media t;
  defect wrong = defect::none;

  explicit world(media& medium, bool fragmented = false, bool by_driver = false)
      : m(medium), t(medium, layout, false, more(medium)) {
    if (by_driver)
      recover_by_driver();
    else
      recover();
    if (fragmented) fragment();
  }
  [[nodiscard]] std::uint64_t* slot(unsigned queue, unsigned i) const {
    return reinterpret_cast<std::uint64_t*>(m.base() + layout.size() +
                                            std::size_t{64} * (queue * slots + i));
  }
  [[nodiscard]] std::uint64_t* will() const { return slot(queues, 0); }
  [[nodiscard]] static std::uint64_t* grown(media& medium) {
    return reinterpret_cast<std::uint64_t*>(medium.base() + layout.size() +
                                            std::size_t{64} * (queues * slots + 1));
  }
  [[nodiscard]] static std::vector<message_segment> more(media& medium) {
    return *grown(medium) == 0 ? std::vector<message_segment>{} : std::vector{second};
  }
  static std::uint64_t pack(message_ref r) {
    return std::uint64_t{1} << 63 | std::uint64_t{r.generation} << 32 | r.index;
  }
  static message_ref unpack(std::uint64_t w) {
    return {static_cast<std::uint32_t>(w), static_cast<std::uint16_t>(w >> 32)};
  }

  /// Opens as a region is opened: read, make durable what was read, void, drain, and only then
  /// allocate.
  void recover() {
    t.begin_recovery();
    t->persist_as_read();
    m.flush_read(slot(0, 0), std::size_t{64} * (queues * slots + 2));
    m.drain();
    if (void_places()) {
      m.flush(slot(0, 0), std::size_t{64} * (queues * slots + 1));
      m.drain();
    }
    t.finish_recovery();
  }
  /// The same, where the recovery driver runs the parts of the structures.
  void recover_by_driver() {
    recovery all;
    all.add(t.store->part());
    all.add(t->part());
    all.add({.name = "places",
             .persist_as_read =
                 [this](recovery_context& c) {
                   c.medium().flush_read(slot(0, 0), std::size_t{64} * (queues * slots + 2));
                 },
             .repair =
                 [this](recovery_context& c) {
                   if (void_places())
                     c.flush_repair(slot(0, 0), std::size_t{64} * (queues * slots + 1));
                 }});
    const auto done = all.run(m);
    CHAINRING_ASSERT(done.ok());
  }
  /// Counts the reference of each place, and clears the places of messages that do not count.
  bool void_places() const {
    bool voided = false;
    for (unsigned q = 0; q < queues; ++q)
      for (unsigned i = 0; i < slots; ++i)
        if (*slot(q, i) != 0 && t->recover_reference(unpack(*slot(q, i))) != message_status::ok) {
          m.store(slot(q, i), 0);
          voided = true;
        }
    if (*will() != 0 && t->recover_held(unpack(*will())) != message_status::ok) {
      m.store(will(), 0);
      voided = true;
    }
    t->for_each_open_identifier(
        [&](const message_view& v) { static_cast<void>(t->recover_reference(v.ref)); });
    return voided;
  }
  /// Leaves only free runs of three blocks.
  void fragment() const {
    std::vector<chain> all(layout.blocks);
    std::uint32_t got = 0;
    while (got < layout.blocks && t.store->allocate_contiguous(1, all[got]))
      ++got;
    for (std::uint32_t i = 0; i < got; ++i)
      if (all[i].first % 4 != 0) t.store->release(all[i]);
  }

  /// The slot of the queue that names the message `r`; `slots` if none does.
  [[nodiscard]] unsigned find(unsigned queue, message_ref r) const {
    unsigned i = 0;
    while (i < slots && *slot(queue, i) != pack(r))
      ++i;
    return i;
  }
  unsigned place(unsigned queue, message_ref r) const {
    for (unsigned i = 0; i < slots; ++i)
      if (*slot(queue, i) == 0) {
        m.store(slot(queue, i), pack(r));
        return i;
      }
    return slots;
  }

  bool stage(history& h, std::uint64_t id, const message_fields& f, message& msg) const {
    if (!t->reserve(f, msg)) {
      h.fail("no room for message " + std::to_string(id));
      return false;
    }
    h.begin(id, f.size());
    h.promise(named, key(msg.ref), id);
    const auto bytes = content(id, f.size());
    t->copy_in(msg, bytes.data(), bytes.size());
    t->stage(msg);
    return true;
  }

  /// Publishes one burst, with every message in every queue. Returns the names of the messages.
  std::vector<message_ref> publish(history& h, const std::vector<std::uint64_t>& ids,
                                   std::uint32_t payload, bool identifier = false) const {
    std::vector<message> burst(ids.size());
    for (std::size_t k = 0; k < ids.size(); ++k) {
      auto f = fields(ids[k], payload);
      f.identifier_open = identifier;
      if (!stage(h, ids[k], f, burst[k])) return {};
      t->add_references(burst[k].ref.index, queues + (identifier ? 1 : 0));
      for (unsigned q = 0; q < queues; ++q)
        if (place(q, burst[k].ref) == slots) h.fail("no slot");
    }
    for (const message& msg : burst) {
      t->flush_staged(msg);
      for (unsigned q = 0; q < queues; ++q)
        m.flush(slot(q, find(q, msg.ref)), 8);
    }
    if (wrong != defect::no_first_drain) m.drain();
    for (const message& msg : burst)
      t->publish(msg);
    for (const message& msg : burst)
      t->flush_published(msg);
    if (wrong != defect::no_second_drain) m.drain();
    std::vector<message_ref> refs;
    for (std::size_t k = 0; k < ids.size(); ++k) {
      h.ack(ids[k]);
      t->drop_reference(burst[k].ref.index);
      refs.push_back(burst[k].ref);
    }
    return refs;
  }

  /// Publishes a message of one chain, which is staged in one call. Returns its name.
  [[nodiscard]] message_ref publish_at_once(history& h, std::uint64_t id,
                                            std::uint32_t payload) const {
    const auto f = fields(id, payload, 8, 0);
    const auto bytes = content(id, f.size());
    h.begin(id, f.size());
    staged_message msg;
    if (!t->stage_one(f, {reinterpret_cast<const char*>(bytes.data()), f.topic_size},
                      std::span(bytes).subspan(f.topic_size), msg)) {
      h.fail("no room for message " + std::to_string(id));
      return {};
    }
    h.promise(named, key(msg.ref), id);
    t->add_references(msg.ref.index, queues);
    for (unsigned q = 0; q < queues; ++q)
      if (place(q, msg.ref) == slots) h.fail("no slot");
    t->flush_staged(msg);
    for (unsigned q = 0; q < queues; ++q)
      m.flush(slot(q, find(q, msg.ref)), 8);
    m.drain();
    t->publish(msg);
    t->flush_published(msg);
    m.drain();
    h.ack(id);
    t->drop_reference(msg.ref.index);
    return msg.ref;
  }

  void consume(history& h, unsigned queue, message_ref r) const {
    const unsigned i = find(queue, r);
    message_view v;
    if (i == slots || t->view(r, v) != message_status::ok || !t->verify(v)) {
      h.fail("not there to be consumed: message " + std::to_string(r.index));
      return;
    }
    const std::uint64_t id = v.fields.packet_id;
    h.begin(id, v.fields.size()); // a later life knows it too
    h.promise(consuming, id * queues + queue);
    m.store(slot(queue, i), 0);
    if (wrong == defect::dropped_before_drain) t->drop_reference(r.index);
    m.flush(slot(queue, i), 8);
    if (wrong == defect::dropped_before_drain) return;
    m.drain();
    h.promise(consumed, id * queues + queue);
    t->drop_reference(r.index);
  }
  void consume_all(history& h, message_ref r) const {
    for (unsigned q = 0; q < queues; ++q)
      consume(h, q, r);
  }

  /// The memory of the second segment held a payload that looks like published messages.
  void grow() {
    auto* words = reinterpret_cast<std::uint64_t*>(m.base() + second.offset);
    const std::size_t bytes = second.count * sizeof(message_descriptor);
    for (std::uint32_t i = 0; i < second.count; ++i)
      m.store(&words[std::size_t{8} * i],
              message_word0{77, message_state::published, false}.pack());
    m.flush(words, bytes);
    m.drain();
    for (std::size_t i = 0; i < bytes / 8; ++i)
      m.store(&words[i], 0);
    m.flush(words, bytes);
    if (wrong != defect::listed_before_zeroed) m.drain();
    m.store(grown(m), 1);
    if (wrong != defect::used_before_listed) {
      m.flush(grown(m), 8);
      m.drain();
    }
    t.add_segment(second);
  }

  /// Publishes messages that are placed in the first queue and refused by the second.
  void refuse(history& h, std::uint64_t id, std::uint32_t payload) const {
    message msg;
    if (!stage(h, id, fields(id, payload), msg)) return;
    h.promise(discarded, id);
    const message_ref ref = msg.ref;
    t->add_references(ref.index, 1);
    const unsigned i = place(0, ref);
    m.store(slot(0, i), 0);
    t->discard(msg);
    m.flush(slot(0, i), 8);
    m.drain();
    t->drop_reference(ref.index);
  }
};

/// In every state a crash leaves, the fields must belong to the generation that word 0 says,
/// whether a place names the descriptor or not.
inline verdict check_descriptors(media& m, const history& h) {
  std::vector<const message_descriptor*> table;
  for (const message_segment& s : table_on_media::all(layout, world::more(m)))
    for (std::uint32_t i = 0; i < s.count; ++i)
      table.push_back(reinterpret_cast<const message_descriptor*>(m.base() + s.offset) + i);
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    const auto word = message_word0::unpack(table[i]->state);
    if (word.state != message_state::published && word.state != message_state::held) continue;
    const auto id = h.value(named, key({i, word.generation}));
    if (!id) return "descriptor " + std::to_string(i) + ": published in a generation it never had";
    if (static_cast<std::uint16_t>(table[i]->check >> 32) != *id ||
        table[i]->published_ns != fields(*id, 0).published_ns ||
        static_cast<std::uint32_t>(table[i]->publisher) != fields(*id, 0).publisher_session)
      return "descriptor " + std::to_string(i) + ": published, with another message's fields";
  }
  return {};
}

inline verdict check_world(media& m, const history& h, bool by_driver) {
  if (auto bad = check_descriptors(m, h)) return bad;
  const world w(m, false, by_driver);
  std::map<std::uint64_t, unsigned> found[queues];
  std::map<std::uint32_t, std::uint64_t> live; // from the index to the number of blocks
  auto look = [&](message_ref ref, bool held) -> verdict {
    message_view v;
    const auto status = held ? w.t->view_held(ref, v) : w.t->view(ref, v);
    if (status != message_status::ok) return std::string("unreadable: ") + to_string(status);
    const std::uint64_t id = v.fields.packet_id;
    std::vector<std::byte> all(v.all.remaining());
    message_cursor at = v.all;
    at.copy_out(all.data(), all.size());
    if (!w.t->verify(v) || all != content(id, all.size())) return "torn " + std::to_string(id);
    if (!h.begun(id)) return "ghost " + std::to_string(id);
    if (h.has(discarded, id)) return "refused, and delivered: " + std::to_string(id);
    const auto word1 = message_word1::unpack(w.t.descriptor(ref.index).extent);
    live[ref.index] = w.t.store->blocks_for(all.size()) +
                      (word1.list ? w.t.store->blocks_for(word1.count * 8ull) : 0);
    return {};
  };
  for (unsigned q = 0; q < queues; ++q)
    for (unsigned i = 0; i < slots; ++i) {
      if (*w.slot(q, i) == 0) continue;
      const message_ref ref = world::unpack(*w.slot(q, i));
      if (auto bad = look(ref, false)) return bad;
      message_view v;
      static_cast<void>(w.t->view(ref, v));
      const std::uint64_t id = v.fields.packet_id;
      if (++found[q][id] > 1) return "twice " + std::to_string(id);
      if (h.has(consumed, id * queues + q)) return "consumed and back: " + std::to_string(id);
    }
  if (*w.will() != 0)
    if (auto bad = look(world::unpack(*w.will()), true)) return bad;
  std::map<std::uint64_t, bool> open;
  verdict bad;
  w.t->for_each_open_identifier([&](const message_view& v) {
    if (auto b = look(v.ref, false)) bad = b;
    open[v.fields.packet_id] = true;
  });
  if (bad) return bad;

  for (const std::uint64_t id : h.ids(history::begun_kind)) {
    // "Delivered once" is promised for every queue, as an acknowledgement is.
    bool promised = h.is_acked(id), anywhere = false;
    for (unsigned q = 0; q < queues; ++q) {
      promised = promised || h.has(consumed, id * queues + q);
      anywhere = anywhere || found[q].contains(id);
    }
    for (unsigned q = 0; q < queues; ++q) {
      if (found[q].contains(id) || h.has(consuming, id * queues + q)) continue;
      if (h.has(held_kind, id) && !h.has(firing, id)) continue;
      if (promised) return "lost " + std::to_string(id);
      if (anywhere) return "in one queue and not in the other: " + std::to_string(id);
    }
    if (h.has(closed, id) && open[id]) return "closed, and open again: " + std::to_string(id);
    if (h.value(history::acked, id).value_or(0) == 1 && !h.has(closing, id) && !open[id])
      return "an open identifier is gone: " + std::to_string(id);
    if (h.has(held_kind, id) && !h.has(firing, id)) {
      if (anywhere) return "a will that did not fire is delivered";
      if (*w.will() == 0) return "a will is gone";
    }
  }
  std::uint64_t blocks = 0;
  for (const auto& [index, n] : live)
    blocks += n;
  if (w.t.store->statistics().live_blocks != blocks) return "live blocks are not those reachable";
  if (w.t->statistics().live != live.size()) return "live descriptors are not those reachable";
  if (w.t->statistics().damaged != 0) return "a descriptor is damaged";
  return {};
}

inline verdict check(media& m, const history& h) {
  return check_world(m, h, false);
}

/// Opens, delivers one message from one queue, publishes another, and goes on.
inline void go_on(media& m, history& h, bool by_driver) {
  const world w(m, false, by_driver);
  for (unsigned i = 0; i < slots; ++i)
    if (*w.slot(0, i) != 0) {
      w.consume(h, 0, world::unpack(*w.slot(0, i)));
      break;
    }
  const auto id = static_cast<std::uint64_t>(100 + 10 * h.crashes());
  if (w.t->statistics().free != 0) w.publish(h, {id}, 8);
}
inline void continue_after(media& m, history& h) {
  go_on(m, h, false);
}

inline scenario make(std::string name, std::function<void(world&, history&)> run,
                     bool fragmented = false, defect wrong = defect::none) {
  scenario s;
  s.name = "chain: " + std::move(name);
  s.size = 8192;
  s.run = [=](media& m, history& h) {
    world w(m, fragmented);
    w.wrong = wrong;
    run(w, h);
  };
  s.recover_and_check = check;
  s.continue_after = continue_after;
  return s;
}

} // namespace chainring::test
