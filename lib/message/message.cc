// SPDX-License-Identifier: BSD-3-Clause
//
// Publishing: one commit word, and nothing drained here. S: stage(), F: flush_*(), C: commit.
//
//   edge                                                        breaks without it
//   [S1] content and extent list, written in reserve() and      a published message has holes
//        copy_in(), precede [F1], [F2]
//   [S2] word 0 is stored before [S3] words 1 to 7, in one      the old generation, still
//        line                                                   published, over the new fields
//   [F1] content, [F2] extent list flushed before the caller's  a published message has holes
//        first drain
//   [C1] word 0 stored published (or held) after that drain;    a reader sees `published` and
//        a release, pairs with the acquire [C4]                 not what it makes valid
//   [F3] word 0 flushed before the caller's second drain        an acknowledged message is gone
//   [C2] held -> published, [C3] identifier closed: exchanges   one of two changes is undone
//        of the whole word, pair with [C4]
//   [C5] word 1 acquired: it may commit an extent list          a reader follows a list that is
//                                                               not there yet
//   [G1] the count of descriptors is acquired before an index   a segment is looked for that is not
//        below it is followed (stored in message_segments.cc)   in the list yet
//   [D1] a reference is dropped with release, and the last      blocks are reused while another
//        one acquires, so every holder's reads are over         holder still reads them
//   [D2] references are set or added while one is held          nothing: the count cannot be 0
//   [D3] counters for statistics                                nothing: they are only counts
//
// The staged descriptor is not flushed before the first drain: its words precede word 0 in the
// same line, so what makes word 0 durable makes them durable; a crash that leaves [C1] leaves
// [S3]. The cases of look() are in message_recover.cc.
//
// Crash windows, the drains being the caller's:
//   [P1 < P2] [F1], [F2] and the slots drained before [C1] is stored. Crash between: the
//             descriptor is staged, or still of the generation before; every slot that names it
//             is void, its blocks are unreachable; the publisher was not acknowledged.
//   [P2 < P3] [C1] stored, [F3] not drained: the message is in every queue or in none, by word 0.
//   [P4 < P5] a place that names the message is removed, drained, then its reference dropped.
//             Crash between: the place is gone, and recovery counts what is left.
#include "message/message.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/assert.h"
#include "base/hook.h"
#include "message/message_state.h"

namespace chainring {

static_assert(sizeof(chain) == sizeof(message_extent) && sizeof(chain) == sizeof(std::uint64_t));
static_assert(offsetof(chain, first) == offsetof(message_extent, first));

namespace {

void count_one(std::atomic<std::uint64_t>& a) noexcept {
  a.fetch_add(1, std::memory_order_relaxed); // [D3]
}

std::uint64_t load_state(const message_descriptor& d) noexcept {
  return std::atomic_ref(const_cast<std::uint64_t&>(d.state))
      .load(std::memory_order_acquire); // [C4] pairs with [C1], [C2], [C3]
}

chain unpack_extent(std::uint64_t w) noexcept {
  return {static_cast<std::uint32_t>(w), static_cast<std::uint32_t>(w >> 32)};
}

} // namespace

const char* to_string(message_status s) noexcept {
  switch (s) {
  case message_status::ok:
    return "ok";
  case message_status::not_published:
    return "not published";
  case message_status::stale_generation:
    return "another generation";
  case message_status::out_of_range:
    return "no such descriptor";
  case message_status::damaged:
    return "damaged";
  }
  return "unknown";
}

// --- cursor --------------------------------------------------------------------------------------

void message_cursor::next_extent() noexcept {
  const chain c = unpack_extent(list_[next_++]);
  at_ = blocks_->address(c);
  in_extent_ = blocks_->size_of(c);
}

std::uint64_t message_cursor::advance(std::uint64_t n) noexcept {
  n = std::min(n, remaining_);
  for (std::uint64_t left = n; left != 0;) {
    const std::uint64_t step = std::min(left, in_extent_);
    at_ += step;
    in_extent_ -= step;
    remaining_ -= step;
    left -= step;
    if (in_extent_ == 0 && remaining_ != 0) {
      if (list_ == nullptr || next_ == count_) { // a copy by first() that ended with its extent
        remaining_ = 0;
        break;
      }
      next_extent();
    }
  }
  return n;
}

std::uint64_t message_cursor::copy_out(void* to, std::uint64_t n) noexcept {
  auto* out = static_cast<std::byte*>(to);
  const std::uint64_t all = n = std::min(n, remaining_);
  while (n != 0) {
    const auto piece = contiguous();
    const std::uint64_t step = std::min<std::uint64_t>(n, piece.size());
    std::memcpy(out, piece.data(), step);
    out += step;
    n -= step;
    advance(step);
  }
  return all;
}

// --- the publisher -------------------------------------------------------------------------------

bool message_table::place_chains(std::uint64_t size, message& out) noexcept {
  message_cursor& at = out.to_write;
  at = message_cursor{};
  at.blocks_ = &blocks_;
  at.remaining_ = size;
  out.chains = {};
  out.list_crc = 0;
  if (size == 0) return true;
  const std::uint64_t wanted = blocks_.blocks_for(size);
  if (wanted > blocks_.block_count()) return false;
  const auto blocks = static_cast<std::uint32_t>(wanted);

  chain* extents = state_->scratches[detail::my_slot()].extents;
  const unsigned used = blocks_.allocate(blocks, std::span(extents, std::min(blocks, extents_max)));
  if (used == 0) return false;
  if (used == 1) {
    out.chains = {extents[0].first, blocks, false};
    at.at_ = blocks_.address(extents[0]);
    at.in_extent_ = blocks_.size_of(extents[0]);
    return true;
  }
  chain list;
  const std::uint64_t list_bytes = std::uint64_t{used} * sizeof(message_extent);
  // Required: the list is followed without a check once view() has made it.
  if (!blocks_.allocate_required(static_cast<std::uint32_t>(blocks_.blocks_for(list_bytes)),
                                 list)) {
    blocks_.release(std::span(extents, used));
    return false;
  }
  media_.write(blocks_.address(list), extents, list_bytes); // [S1] pairs with [F2]
  out.chains = {list.first, used, true};
  out.list_crc = crc32c(0, extents, list_bytes);
  at.list_ = reinterpret_cast<const std::uint64_t*>(blocks_.address(list));
  at.count_ = used;
  at.next_extent();
  return true;
}

bool message_table::reserve(const message_fields& fields, message& out) noexcept {
  CHAINRING_ASSERT(fields.qos <= 2 && (fields.flags & ~message_flags_known) == 0 &&
                   fields.properties_size <= message_properties_max);
  std::uint32_t index;
  if (!state_->pool.take(index)) {
    count_one(state_->refused_descriptors);
    return false;
  }
  if (!place_chains(fields.size(), out)) {
    state_->pool.give(index);
    count_one(state_->refused_blocks);
    return false;
  }
  const auto generation = message_word0::unpack(load_state(descriptor_of(index))).generation;
  out.ref = {index, static_cast<std::uint16_t>(
                        seeded_bug("chain.same_generation") ? generation : generation + 1)};
  out.fields = fields;
  out.crc = 0;
  state_->entries[index].chains = out.chains.pack();
  state_->entries[index].references.store(1, std::memory_order_relaxed); // [D2]
  return true;
}

void message_table::copy_in(message& m, const void* from, std::uint64_t n) noexcept {
  message_cursor& at = m.to_write;
  CHAINRING_ASSERT(n <= at.remaining());
  const auto* in = static_cast<const std::byte*>(from);
  m.crc = crc32c(m.crc, in, n);
  while (n != 0) {
    const auto room = at.contiguous();
    const std::uint64_t step = std::min<std::uint64_t>(n, room.size());
    media_.write(const_cast<std::byte*>(room.data()), in, step); // [S1] pairs with [F1]
    in += step;
    n -= step;
    at.advance(step);
  }
}

void message_table::stage(message& m) noexcept {
  CHAINRING_ASSERT(m.to_write.remaining() == 0);
  message_descriptor& d = descriptor_of(m.ref.index);
  const auto fixed = detail::pack_fields(m.fields);
  m.crc = detail::seal(m.crc, m.fields, m.ref);
  const bool last = seeded_bug("chain.word0_last");
  const std::uint64_t word0 =
      message_word0{m.ref.generation,
                    seeded_bug("chain.staged_as_published") ? message_state::published
                                                            : message_state::staged,
                    false}
          .pack();
  // [S2] before [S3], in one line: a crash leaves a prefix, so never the old generation, which may
  //      still say published, over any of the new words.
  if (!last) media_.store(&d.state, word0);          // [S2]
  media_.store(&d.extent, m.chains.pack());          // [S3]
  media_.store(&d.sizes, fixed.sizes);               // [S3]
  media_.store(&d.check, fixed.check | m.crc);       // [S3]
  media_.store(&d.expires_ns, fixed.expires_ns);     // [S3]
  media_.store(&d.published_ns, fixed.published_ns); // [S3]
  media_.store(&d.publisher, fixed.publisher);       // [S3]
  media_.store(&d.seals, message_seal(m.chains.pack(), m.list_crc, m.ref.index,
                                      m.ref.generation)); // [S3]
  if (last) media_.store(&d.state, word0);                // [S2] as a seeded bug
}

void message_table::flush_staged(const message& m) noexcept {
  std::uint64_t left = m.fields.size();
  auto flush_content = [&](const chain& c) {
    const std::uint64_t n = std::min(left, blocks_.size_of(c));
    media_.flush(blocks_.address(c), n); // [F1] before the caller's drain; covers [S1]
    left -= n;
  };
  if (m.chains.list) {
    const chain head{m.chains.first, 1};
    const auto* list = reinterpret_cast<const std::uint64_t*>(blocks_.address(head));
    for (std::uint32_t i = 0; i < m.chains.count; ++i)
      flush_content(unpack_extent(list[i]));
    const std::uint64_t list_bytes = std::uint64_t{m.chains.count} * sizeof(message_extent);
    if (!seeded_bug("chain.list_not_flushed"))
      media_.flush(list, list_bytes); // [F2] before the caller's drain; covers [S1]
  } else if (m.chains.count != 0) {
    flush_content({m.chains.first, m.chains.count});
  }
}

bool message_table::lost(const message& m) const noexcept {
  const auto gone = [&](const chain& c) {
    return media_.lost(blocks_.address(c), blocks_.size_of(c));
  };
  if (m.chains.count == 0) return false;
  if (!m.chains.list) return gone({m.chains.first, m.chains.count});
  const auto* list = reinterpret_cast<const std::uint64_t*>(blocks_.address({m.chains.first, 1}));
  return std::any_of(list, list + m.chains.count,
                     [&](std::uint64_t w) { return gone(unpack_extent(w)); });
}

void message_table::publish(const message& m) noexcept {
  message_descriptor& d = descriptor_of(m.ref.index);
  // [C1] after the drain of [F1], [F2] and the slots; pairs with [C4]. [P1 < P2]
  media_.store_release(&d.state,
                       message_word0{m.ref.generation,
                                     m.fields.held ? message_state::held : message_state::published,
                                     m.fields.identifier_open}
                           .pack());
}

void message_table::flush_descriptor(std::uint32_t index) noexcept {
  // [F3] covers [C1], [C2], [C3]; what the caller does behind its drain is [P3].
  media_.flush(&descriptor_of(index), sizeof(message_descriptor));
}

void message_table::discard(message& m) noexcept {
  drop_reference(m.ref.index);
  m = message{};
}

// --- what is published ---------------------------------------------------------------------------

bool message_table::publish_held(message_ref ref) noexcept {
  message_descriptor& d = descriptor_of(ref.index);
  std::uint64_t found = load_state(d);
  auto word = message_word0::unpack(found);
  while (word.generation == ref.generation && word.state == message_state::held) {
    word.state = message_state::published;
    if (media_.compare_exchange(&d.state, found, word.pack())) return true; // [C2] pairs with [C4]
    word = message_word0::unpack(found);
  }
  return false;
}

bool message_table::close_identifier(message_ref ref) noexcept {
  message_descriptor& d = descriptor_of(ref.index);
  std::uint64_t found = load_state(d);
  auto word = message_word0::unpack(found);
  while (word.generation == ref.generation && word.identifier_open) {
    word.identifier_open = false;
    if (media_.compare_exchange(&d.state, found, word.pack())) return true; // [C3] pairs with [C4]
    word = message_word0::unpack(found);
  }
  return false;
}

void message_table::add_references(std::uint32_t index, std::uint32_t n) noexcept {
  auto& count = state_->entries[index].references;
  // The only holder needs no locked instruction: nobody else can add or drop one.
  if (count.load(std::memory_order_acquire) == 1)  // [D1] pairs with [D1], the others' drops
    count.store(n + 1, std::memory_order_relaxed); // [D2]
  else
    count.fetch_add(n, std::memory_order_relaxed); // [D2]
}

// [P4 < P5] the caller has drained the removal of the place.
bool message_table::drop_reference(std::uint32_t index, std::uint32_t n) noexcept {
  auto& count = state_->entries[index].references;
  if (seeded_bug("chain.freed_at_one_left") && references(index) == n + 1) ++n;
  // Who holds every reference there is needs no locked instruction: nobody else can add one.
  if (count.load(std::memory_order_acquire) == n) { // [D1] pairs with [D1], the others' drops
    count.store(0, std::memory_order_relaxed);      // [D2]
  } else {
    const std::uint32_t before =
        count.fetch_sub(n, std::memory_order_acq_rel); // [D1] pairs with [D1]
    CHAINRING_ASSERT(before >= n && before < state::damaged);
    if (before != n) return false;
  }
  give_back(index);
  return true;
}

void message_table::give_back(std::uint32_t index) noexcept {
  release_chains(message_word1::unpack(state_->entries[index].chains));
  state_->pool.give(index);
}

void message_table::release_chains(message_word1 chains) noexcept {
  if (chains.count == 0) return;
  if (!chains.list) {
    blocks_.release({chains.first, chains.count});
    return;
  }
  const std::uint64_t bytes = std::uint64_t{chains.count} * sizeof(message_extent);
  const chain list{chains.first, static_cast<std::uint32_t>(blocks_.blocks_for(bytes))};
  const auto* extents = reinterpret_cast<const std::uint64_t*>(blocks_.address(list));
  for (std::uint32_t i = 0; i < chains.count; ++i)
    if (const chain c = unpack_extent(extents[i]); blocks_.valid(c)) blocks_.release(c);
  blocks_.release_required(list);
}

std::uint32_t message_table::references(std::uint32_t index) const noexcept {
  const std::uint32_t n = state_->entries[index].references.load(std::memory_order_relaxed); // [D3]
  return n < state::damaged ? n : 0;
}

void message_table::prefetch(std::uint32_t index) const noexcept {
  if (index >= count()) return;
  __builtin_prefetch(&descriptor_of(index));
  __builtin_prefetch(&state_->entries[index], 1);
}

// --- reading, every bound checked ----------------------------------------------------------------

const char* message_table::invalid(message_ref ref, const words& w) const noexcept {
  if ((w.check >> 48 & 3) > 2) return "its QoS is more than 2";
  if ((w.check >> 50 & 0x3f & ~std::uint64_t{message_flags_known}) != 0)
    return "it has unknown flags";
  const auto unsealed = [&](std::uint32_t list_crc) -> const char* {
    const std::uint32_t seal = message_seal(w.extent.pack(), list_crc, ref.index, ref.generation);
    const bool sealed = seal == static_cast<std::uint32_t>(w.seals) || seal == w.seals >> 32;
    return sealed ? nullptr : "its chain fails its seal";
  };
  const std::uint64_t blocks = blocks_.blocks_for(w.size());
  if (blocks == 0) return w.extent.pack() != 0 ? "it is empty and names a chain" : unsealed(0);
  if (!w.extent.list) {
    const chain c{w.extent.first, w.extent.count};
    if (!blocks_.valid(c)) return "its chain lies outside the block store";
    return c.blocks != blocks ? "its chain and its sizes differ" : unsealed(0);
  }
  if (w.extent.count < 2 || w.extent.count > extents_max)
    return "its extent list has no length there is";
  const std::uint64_t list_bytes = std::uint64_t{w.extent.count} * sizeof(message_extent);
  const chain list{w.extent.first, static_cast<std::uint32_t>(blocks_.blocks_for(list_bytes))};
  if (!blocks_.valid(list)) return "its extent list lies outside the block store";
  const auto* extents = reinterpret_cast<const std::uint64_t*>(blocks_.address(list));
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < w.extent.count; ++i) {
    const chain c = unpack_extent(extents[i]);
    if (!blocks_.valid(c)) return "an extent lies outside the block store";
    sum += c.blocks;
  }
  return sum != blocks ? "its extents and its sizes differ"
                       : unsealed(crc32c(0, extents, list_bytes));
}

message_table::words message_table::words_of(std::uint32_t index) const noexcept {
  const message_descriptor& d = descriptor_of(index);
  return {message_word1::unpack(std::atomic_ref(const_cast<std::uint64_t&>(d.extent))
                                    .load(std::memory_order_acquire)), // [C5] pairs with [C1]
          d.sizes, d.check, d.seals};
}

const char* message_table::examine(std::uint32_t index, message_view& out) const noexcept {
  return examine({index, message_word0::unpack(load_state(descriptor_of(index))).generation}, out);
}

const char* message_table::examine(message_ref ref, message_view& out) const noexcept {
  const words w = words_of(ref.index);
  if (const char* reason = invalid(ref, w); reason != nullptr) return reason;
  const message_descriptor& d = descriptor_of(ref.index);
  out.ref = ref;
  message_fields& f = out.fields;
  f.payload_size = static_cast<std::uint32_t>(w.sizes);
  f.topic_size = static_cast<std::uint16_t>(w.sizes >> 32);
  f.properties_size = w.properties();
  out.crc = static_cast<std::uint32_t>(w.check);
  f.packet_id = static_cast<std::uint16_t>(w.check >> 32);
  f.qos = static_cast<std::uint8_t>(w.check >> 48 & 3);
  f.flags = static_cast<std::uint8_t>(w.check >> 50 & 0x3f);
  f.expires_ns = d.expires_ns;
  f.published_ns = d.published_ns;
  f.publisher_session = static_cast<std::uint32_t>(d.publisher);
  f.publisher_incarnation = static_cast<std::uint32_t>(d.publisher >> 32);
  message_cursor at;
  at.blocks_ = &blocks_;
  at.remaining_ = w.size();
  if (w.extent.list) {
    at.list_ = reinterpret_cast<const std::uint64_t*>(blocks_.address({w.extent.first, 1}));
    at.count_ = w.extent.count;
    at.next_extent();
  } else if (at.remaining_ != 0) {
    const chain c{w.extent.first, w.extent.count};
    at.at_ = blocks_.address(c);
    at.in_extent_ = blocks_.size_of(c);
  }
  out.all = at;
  out.topic = at.first(f.topic_size);
  at.advance(f.topic_size);
  out.properties = at.first(f.properties_size);
  at.advance(f.properties_size);
  out.payload = at;
  return nullptr;
}

message_status message_table::look_at_state(message_ref ref, bool held_counts,
                                            message_word0& word) const noexcept {
  if (ref.index >= count()) return message_status::out_of_range; // [K1]
  const std::uint64_t found = load_state(descriptor_of(ref.index));
  if (!message_word0::well_formed(found)) return message_status::damaged; // [K2]
  word = message_word0::unpack(found);
  if (word.generation != ref.generation) return message_status::stale_generation; // [K3]
  if (word.state != message_state::published && !(held_counts && word.state == message_state::held))
    return message_status::not_published; // [K4]
  return message_status::ok;
}

message_status message_table::look(message_ref ref, bool held_counts,
                                   message_view& out) const noexcept {
  message_word0 word;
  if (const message_status s = look_at_state(ref, held_counts, word); s != message_status::ok)
    return s;
  out.fields.held = word.state == message_state::held;
  out.fields.identifier_open = word.identifier_open;
  // [K7], or [K5]; [K6] is a recovery's alone
  return examine(ref, out) == nullptr ? message_status::ok : message_status::damaged;
}

bool message_table::published(message_ref ref) const noexcept {
  if (ref.index >= count()) return false;
  const std::uint64_t found = load_state(descriptor_of(ref.index));
  const auto word = message_word0::unpack(found);
  return message_word0::well_formed(found) && word.generation == ref.generation &&
         word.state == message_state::published;
}

bool message_table::held(message_ref ref) const noexcept {
  if (ref.index >= count()) return false;
  const std::uint64_t found = load_state(descriptor_of(ref.index));
  const auto word = message_word0::unpack(found);
  return message_word0::well_formed(found) && word.generation == ref.generation &&
         word.state == message_state::held;
}

message_status message_table::view(message_ref ref, message_view& out) const noexcept {
  return look(ref, false, out);
}

message_status message_table::view_held(message_ref ref, message_view& out) const noexcept {
  return look(ref, true, out);
}

bool message_table::verify(const message_view& v) const noexcept {
  std::uint32_t crc = 0;
  for (message_cursor at = v.all; at.remaining() != 0;) {
    const auto piece = at.contiguous();
    crc = crc32c(crc, piece.data(), piece.size());
    at.advance(piece.size());
  }
  return detail::seal(crc, v.fields, v.ref) == v.crc;
}

message_table_statistics message_table::statistics() const noexcept {
  message_table_statistics s;
  const auto free = state_->pool.count();
  s.descriptors = count();
  s.free = free.free;
  s.cached = free.cached;
  s.damaged = state_->damaged_count;
  s.live = s.descriptors - s.free - s.damaged;
  s.refused_descriptors = state_->refused_descriptors.load(std::memory_order_relaxed); // [D3]
  s.refused_blocks = state_->refused_blocks.load(std::memory_order_relaxed);           // [D3]
  return s;
}

} // namespace chainring
