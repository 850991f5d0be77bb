// SPDX-License-Identifier: BSD-3-Clause
/// Queues, a message table and a block store in one media, which are opened as in a region.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "message/message.h"
#include "ring/consumer.h"
#include "ring/ring.h"

namespace chainring::test {

struct queues_on_media;

struct queue_layout {
  std::uint32_t queues = 4;
  std::uint32_t descriptors = 64;
  std::uint32_t block_size = 64;
  std::uint32_t blocks = 512;
  bool values = false; ///< true: the queues are value queues
  incarnation_of expected = {};
  bool moves = false; ///< true: recovery asks the queues themselves about messages that moved
  queue_table_options options{.slots = 8, .capacity = 0, .rings_max = 0, .stock = 4};
  /// What the tables grow by while they are open (grow_tables()), and whether they have it already.
  std::uint32_t blocks_later = 0, descriptors_later = 0;
  bool grown = false;
  /// What recovers the tables, from the first step to the last. Empty: their own calls.
  std::function<queue_recovery(queues_on_media&)> recover_by = {};

  [[nodiscard]] std::uint64_t table() const { return std::uint64_t{64} * queues; }
  [[nodiscard]] std::uint64_t chains() const { return table() + std::uint64_t{64} * descriptors; }
  [[nodiscard]] std::uint64_t later() const {
    return chains() + std::uint64_t{block_size} * (blocks + blocks_later);
  }
  [[nodiscard]] std::uint64_t size() const {
    return later() + std::uint64_t{64} * descriptors_later;
  }
};

/// The queues of one media. Opening and every call use production code, in the order that ring.h
/// prescribes.
struct queues_on_media {
  media& m;
  queue_layout l;
  std::unique_ptr<block_store> blocks;
  std::unique_ptr<message_table> messages;
  std::unique_ptr<queue_table> queues;
  queue_recovery found;

  explicit queues_on_media(media& medium, const queue_layout& layout = {}, bool caches = false)
      : m(medium), l(layout) {
    blocks =
        block_store::create(
            medium, l.chains(), l.block_size, l.blocks + (l.grown ? l.blocks_later : 0),
            {.cache_runs_max = caches ? 64u : 0u, .block_count_max = l.blocks + l.blocks_later})
            .value();
    std::vector<message_segment> segments{{l.table(), l.descriptors}};
    if (l.grown && l.descriptors_later != 0) segments.push_back({l.later(), l.descriptors_later});
    messages = message_table::create(medium, segments, *blocks,
                                     {.cache_descriptors_max = caches ? 64u : 0u,
                                      .descriptors_max = l.descriptors + l.descriptors_later})
                   .value();
    queues = queue_table::create(medium, 0, l.queues, *blocks, l.values ? nullptr : messages.get(),
                                 l.options)
                 .value();
    if (l.recover_by) {
      found = l.recover_by(*this);
      return;
    }
    blocks->begin_recovery();
    messages->begin_recovery();
    messages->persist_as_read();
    queues->persist_as_read();
    m.drain();
    found = queues->recover(l.expected, holds_of_moves()).value();
    m.drain();
    messages->finish_recovery();
    blocks->finish_recovery();
    const bool served = queues->finish_recovery().ok();
    CHAINRING_ASSERT(served);
  }

  [[nodiscard]] source_holds holds_of_moves() const {
    if (!l.moves) return {};
    return [this](slot_origin from, message_ref message) { return queues->holds(from, message); };
  }
  /// Grows the block store and the message table by what the layout says.
  [[nodiscard]] bool grow_tables() const {
    return blocks->extend(l.blocks + l.blocks_later).ok() &&
           messages->add_segment(l.later(), l.descriptors_later).ok();
  }
  queue_table* operator->() const { return queues.get(); }
  [[nodiscard]] queue_consumer consumer() const { return queue_consumer(*queues); }
  [[nodiscard]] queue_record& record(std::uint32_t queue) const {
    return reinterpret_cast<queue_record*>(m.base())[queue];
  }
  /// Returns the number of blocks that the ring of an entry takes.
  [[nodiscard]] std::uint32_t ring_blocks(const queue_ring& entry) const {
    const unsigned log2 = queue_base::unpack(entry.base).log2_slots;
    return static_cast<std::uint32_t>(
        blocks->blocks_for(ring_header_size + (std::uint64_t{16} << log2)));
  }
  [[nodiscard]] ring_slot* slots(std::uint32_t queue) const {
    const auto first = static_cast<std::uint32_t>(record(queue).rings[0].chain);
    return reinterpret_cast<ring_slot*>(m.base() + l.chains() +
                                        std::uint64_t{first} * l.block_size + ring_header_size);
  }

  // --- messages whose fields and payload tell their id ---
  static message_fields fields(std::uint64_t id, std::uint32_t payload = 24) {
    message_fields f;
    f.payload_size = payload;
    f.qos = 1;
    f.published_ns = id;
    return f;
  }
  [[nodiscard]] bool stage(std::uint64_t id, message& out, std::uint32_t payload = 24) const {
    if (!messages->reserve(fields(id, payload), out)) return false;
    std::vector<std::uint64_t> words(payload / 8, id * 0x9e3779b97f4a7c15);
    messages->copy_in(out, words.data(), payload);
    messages->stage(out);
    return true;
  }
  /// Returns the id of a message, or 0 when the message is not whole.
  [[nodiscard]] std::uint64_t id_of(message_ref ref) const {
    message_view v;
    if (messages->view(ref, v) != message_status::ok || !messages->verify(v)) return 0;
    std::vector<std::uint64_t> words(v.payload.remaining() / 8);
    v.payload.copy_out(words.data(), words.size() * 8);
    for (std::uint64_t w : words)
      if (w != v.fields.published_ns * 0x9e3779b97f4a7c15) return 0;
    return v.fields.published_ns;
  }

  /// Makes the whole burst of one message. False: the message is in none of the queues.
  bool publish(std::uint64_t id, std::initializer_list<std::uint32_t> to,
               std::uint16_t delivery = 1, std::uint32_t payload = 24) const {
    for (std::uint32_t q : to)
      if (queues->link_now(q) != link_status::ready) return false;
    message msg;
    if (!stage(id, msg, payload)) return false;
    messages->add_references(msg.ref.index, static_cast<std::uint32_t>(to.size()));
    const slot_ref ref(msg.ref, delivery);
    std::vector<placement> placed;
    for (std::uint32_t q : to) {
      placement p;
      if (queues->place_start(q, {&ref, 1}, p) != place_status::placed) break;
      placed.push_back(p);
    }
    const bool whole = placed.size() == to.size();
    if (!whole)
      for (placement& p : placed)
        queues->place_void(p);
    messages->flush_staged(msg);
    for (const placement& p : placed)
      queues->place_flush(p);
    m.drain();
    if (!whole) {
      messages->drop_reference(msg.ref.index,
                               static_cast<std::uint32_t>(to.size() - placed.size()));
      messages->discard(msg);
      return false;
    }
    messages->publish(msg);
    messages->flush_published(msg);
    m.drain();
    for (const placement& p : placed)
      queues->place_finish(p);
    messages->drop_reference(msg.ref.index);
    return true;
  }
  /// Gives a full queue a larger ring, and prepares the ring if necessary. Returns `ready`, or the
  /// status of grow() when the queue did not grow.
  link_status grow(std::uint32_t queue, std::uint32_t n = 1) const {
    link_status s = queues->grow(queue, n);
    if (s == link_status::unprepared) {
      queues->maintain();
      s = queues->grow(queue, n);
    }
    if (s != link_status::linking) return s;
    queues->link_flush(queue);
    m.drain();
    queues->link_finish(queue);
    return link_status::ready;
  }
  /// Places `n` values from `first` on with one drain, and grows the queue where that is allowed.
  /// Returns how many were placed.
  std::uint32_t put(std::uint32_t queue, std::uint64_t first, std::uint32_t n = 1) const {
    if (queues->link_now(queue) != link_status::ready) return 0;
    std::vector<std::uint64_t> values(n);
    for (std::uint32_t i = 0; i < n; ++i)
      values[i] = first + i;
    placement p;
    std::uint32_t got = queues->enqueue_bulk(queue, values, p);
    if (got == 0 && grow(queue, n) == link_status::ready)
      got = queues->enqueue_bulk(queue, values, p);
    if (got == 0) return 0;
    queues->place_flush(p);
    m.drain();
    queues->place_finish(p);
    return got;
  }
  /// Leases up to `n` values and returns them in order.
  [[nodiscard]] std::vector<std::uint64_t> values(std::uint32_t queue, std::size_t n = 64) const {
    std::vector<std::uint64_t> out;
    for (const leased& e : lease(queue, n))
      out.push_back(e.ref.word);
    return out;
  }
  [[nodiscard]] std::vector<leased> lease(std::uint32_t queue, std::size_t n = 64) const {
    std::vector<leased> out(n);
    out.resize(queues->lease(queue, out));
    return out;
  }
  [[nodiscard]] std::vector<std::uint64_t> ids(std::uint32_t queue, std::size_t n = 64) const {
    std::vector<std::uint64_t> out;
    for (const leased& e : lease(queue, n))
      out.push_back(id_of(e.message()));
    return out;
  }
  std::uint32_t release(std::uint32_t queue) const {
    if (!queues->release_start(queue)) return 0;
    queues->release_flush(queue);
    m.drain();
    return queues->release_finish(queue);
  }
  restart_status restart(std::uint32_t queue) const {
    const restart_status s = queues->restart_start(queue, queues->incarnation(queue));
    if (s != restart_status::stored) return s;
    queues->restart_flush(queue);
    m.drain();
    queues->restart_finish(queue);
    return s;
  }
  /// The number of messages that have a reference, as the table counts them.
  [[nodiscard]] std::uint64_t live() const { return messages->statistics().live; }
};

/// Queues in memory, which are opened when they are first used.
struct queues_in_memory {
  queue_layout layout;
  std::unique_ptr<media> m = memory_media(1 << 20, durability_class::process);
  std::unique_ptr<queues_on_media> opened;
  queues_on_media& q() {
    if (!opened) opened = std::make_unique<queues_on_media>(*m, layout);
    return *opened;
  }
  /// Opens one value queue, and places so many values in it, more than there are packet ids.
  [[nodiscard]] bool place_many(std::uint32_t n) {
    layout.values = true;
    layout.options.slots = 65536;
    layout.options.capacity_max = 0;
    layout.options.stock = 1;
    layout.queues = 1;
    layout.blocks = 20000;
    m = memory_media(layout.size(), durability_class::process);
    const std::vector<std::uint64_t> values(n);
    placement p;
    if (q()->link_now(0) != link_status::ready || q()->enqueue_bulk(0, values, p) != n)
      return false;
    q()->place_finish(p);
    return true;
  }
  queues_on_media& reopen() {
    opened.reset();
    return q();
  }
};

} // namespace chainring::test
