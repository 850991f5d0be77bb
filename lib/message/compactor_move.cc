// SPDX-License-Identifier: BSD-3-Clause
// How a message moves, on media:
//   1. its bytes are copied to a free chain and flushed; one drain covers the moves of a step
//   2. the seal of the new chain is stored beside that of the present one; then word 1 is stored
//      with the new chain, in the same line; the line is flushed, and one drain covers the step
//   3. the old chain is free
// A crash before word 1 is durable leaves the old chain, whose seal is still there, and the blocks
// of the copy are unreachable. A crash behind it leaves the new chain, whose content is whole.
// Where some chains of a message move, the new list is copied like the bytes, and shares the other
// chains with the old one.
//
// A compactor counts a reference to a message that it has from nobody. While it does, every thread
// counts references by locked instructions: it revokes the gate of the table. Whether the count
// that it added to belongs to the message of word 0 is told by the generation beside the count.
//
// Ordering labels:
//   [move-before-name]  The copy is flushed and drained before word 1 names it.
//   [move-sealed]  The seal of the new chain is stored before word 1, in one line.
//   [move-named]  Word 1 is stored with release; pairs with [extent-read] and
//     [seals-behind-extent].
//   [name-before-reuse]  Word 1 is flushed and drained before the old chain is set free.
//   [reference-taken]  A reference is added with acquire to a count that is not 0; pairs with
//     [reference-owned] and [reference-dropped].
//   [pin-counted]  A pin is counted inside a reading, whose end orders it for the compactor; the
//     access itself orders nothing.
//   [pin-dropped]  A pin is dropped with release; pairs with [pins-looked-up].
#include "base/assert.h"
#include "base/hook.h"
#include "message/compactor_state.h"

namespace chainring {

using detail::add;

// --- pins and readings ---------------------------------------------------------------------------

message_table::reading::reading(const message_table& table) noexcept
    : mine_(table.state_->readers.is_inside() ? nullptr : &table.state_->readers.enter()) {}

message_table::reading::~reading() {
  if (mine_ != nullptr) detail::grace_periods::leave(*mine_);
}

bool message_table::pin(std::uint32_t index) noexcept {
  auto& pins = state_->entries[index].pins;
  std::uint16_t n = pins.load(std::memory_order_relaxed); // [pin-counted]
  do {
    if (n == UINT16_MAX) return false;
    // [pin-counted]
  } while (
      !pins.compare_exchange_weak(n, static_cast<std::uint16_t>(n + 1), std::memory_order_relaxed));
  return true;
}

void message_table::unpin(std::uint32_t index) noexcept {
  // [pin-dropped] Without it blocks could be reused while the holder of the pin still reads them.
  const auto before = state_->entries[index].pins.fetch_sub(1, std::memory_order_release);
  CHAINRING_ASSERT(before != 0);
}

// --- a move --------------------------------------------------------------------------------------

bool message_compactor::state::take_reference(std::uint32_t index) const noexcept {
  auto& count = shared().entries[index].references;
  std::uint32_t n = count.load(std::memory_order_relaxed); // [reference-taken]
  while (n != 0 && n < message_table::state::damaged - 1)
    // [reference-taken] Without it the words of a message that had the descriptor before could be
    // read.
    if (count.compare_exchange_weak(n, n + 1, std::memory_order_acquire,
                                    std::memory_order_relaxed)) // [reference-taken]
      return true;
  return false;
}

// Takes so many blocks from the end of a run: from the far end, where a gap comes down.
bool message_compactor::state::take_of(chain& from, std::uint32_t wanted,
                                       chain& out) const noexcept {
  if (from.blocks < wanted) return false;
  from.blocks -= wanted;
  const bool high = cycle == kind::roll && !upward;
  out = {high ? from.first + from.blocks : from.first, wanted};
  if (!high) from.first += wanted;
  return true;
}

// Finds a place for so many blocks of a message. What makes way for a gap goes to its far end.
// Otherwise the hole that fits best will do, then, for what lies in a victim, the reserve, and then
// a hole of a victim that lies below, so that what is left of these collects at their upper end.
// Messages that are joined leave the gap twice as long as the longest chain.
bool message_compactor::state::find_room(std::uint32_t wanted, message_word1 from,
                                         chain& out) noexcept {
  if (cycle == kind::roll) return take_of(reserve, wanted, out);
  if (blocks.allocate_from_index(wanted, std::span(&out, 1)) == 1) return true;
  if (cycle == kind::join)
    return reserve.blocks >= wanted + 2 * std::max(longest, wanted) &&
           take_of(reserve, wanted, out);
  if (!in_victim(from)) return false;
  if (take_of(reserve, wanted, out)) return true;
  const auto hole = std::find_if(held.begin(), held.end(), [&](const chain& h) {
    return h.blocks >= wanted && (from.list || h.first < from.first);
  });
  return hole != held.end() && take_of(*hole, wanted, out);
}

// Copies the bytes of a message to chains that have room for them, and flushes them. False: they do
// not agree with the message's CRC, or memory was lost meanwhile.
bool message_compactor::state::fill(const message_view& v, std::span<const chain> to) noexcept {
  media& m = table.media_;
  const std::uint64_t losses = m.losses();
  message_cursor in = v.all;
  std::uint32_t crc = 0;
  for (const chain& c : to) {
    std::byte* out = blocks.address(c);
    for (std::uint64_t room = blocks.size_of(c); room != 0 && in.remaining() != 0;) {
      const auto piece = in.contiguous();
      const std::uint64_t n = std::min<std::uint64_t>(room, piece.size());
      crc = m.write_summed(out, piece.data(), n, crc);
      out += n;
      room -= n;
      in.advance(n);
    }
  }
  if (detail::seal(crc, detail::pack_fields(v.fields), v.ref) != v.crc || m.lost_since(losses))
    return false;
  std::uint64_t left = v.fields.size();
  for (const chain& c : to) {
    const std::uint64_t n = std::min(left, blocks.size_of(c));
    flush_copy(blocks.address(c), n);
    left -= n;
  }
  return true;
}

// A medium that bounds what one drain covers gets a long copy in pieces: nothing names it yet.
void message_compactor::state::flush_copy(const std::byte* from, std::uint64_t n) noexcept {
  media& m = table.media_;
  const std::uint64_t most = m.drain_bytes_max() / 4; // other threads flush too
  for (std::uint64_t piece; n != 0; from += piece, n -= piece) {
    piece = std::min(n, most);
    if (undrained + piece > most) {
      m.drain(); // [move-before-name]
      undrained = 0;
    }
    // [move-before-name] Crash between: the message names its old chain, and the copy is
    // unreachable.
    m.flush(from, piece);
    undrained += piece;
  }
}

// Keeps a chain that was found and is not used until the end of the cycle.
void message_compactor::state::keep(const chain& c) noexcept {
  if (c.blocks == 0) return;
  if (held.size() + 1 < held.capacity())
    held.push_back(c);
  else
    blocks.release_to_index(std::span(&c, 1));
}

void message_compactor::state::keep(std::span<const chain> chains) noexcept {
  for (const chain& c : chains)
    keep(c);
}

// Copies a message to one chain.
bool message_compactor::state::copy_to_one(const message_view& v, move& m) noexcept {
  const auto wanted = static_cast<std::uint32_t>(blocks.blocks_for(v.fields.size()));
  chain to;
  if (!find_room(wanted, m.from, to)) {
    add(no_room);
    return false;
  }
  m.blocks = wanted; // also if the copy is not used: the work was done
  m.to = {to.first, to.blocks, false};
  if (fill(v, {&to, 1})) return true;
  add(unsound);
  keep(to);
  return false;
}

// Takes blocks in front of the end that is emptied, in as few chains as possible. Returns how many
// chains; 0: there are not enough blocks, or `out` is too short.
unsigned message_compactor::state::take_below(std::uint32_t wanted, std::span<chain> out) noexcept {
  for (;;) {
    const unsigned used = blocks.allocate_from_index(wanted, out);
    const auto taken = out.first(used);
    // What other threads have given back in the end meanwhile is kept aside, too.
    const auto beyond = [&](const chain& c) { return c.first + c.blocks > options.ceiling_block; };
    if (std::none_of(taken.begin(), taken.end(), beyond)) return used;
    if (held.size() + used + 1 >= held.capacity()) {
      blocks.release_to_index(taken);
      return 0;
    }
    for (const chain& c : taken)
      if (beyond(c))
        held.push_back(c);
      else
        blocks.release_to_index({&c, 1});
  }
}

// Copies a message out of the end of the store: to one chain, or to several and a list of them.
bool message_compactor::state::copy_below(const message_view& v, move& m) noexcept {
  media& medium = table.media_;
  const std::uint64_t losses = medium.losses();
  const auto wanted = static_cast<std::uint32_t>(blocks.blocks_for(v.fields.size()));
  extents.resize(std::min(wanted, message_table::extents_max));
  const unsigned used = take_below(wanted, extents);
  extents.resize(used);
  const std::uint64_t bytes = std::uint64_t{used} * sizeof(message_extent);
  chain list{};
  const bool room =
      used == 1 || (used != 0 && take_below(static_cast<std::uint32_t>(blocks.blocks_for(bytes)),
                                            {&list, 1}) == 1);
  if (!room) {
    add(no_room);
    keep(extents);
    return false;
  }
  m.blocks = wanted;
  if (!fill(v, extents) ||
      (used != 1 && !medium.require(blocks.address(list), blocks.size_of(list)))) {
    add(unsound);
    keep(extents);
    keep(list);
    return false;
  }
  if (used == 1) {
    m.to = {extents[0].first, extents[0].blocks, false};
    return true;
  }
  medium.write(blocks.address(list), extents.data(), bytes);
  flush_copy(blocks.address(list), bytes);
  m.to = {list.first, used, true};
  m.to_list_crc = crc32c(0, extents.data(), bytes);
  if (!medium.lost_since(losses)) return true;
  medium.unrequire(blocks.address(list), blocks.size_of(list));
  keep(extents);
  keep(list);
  return false;
}

// Copies those chains of a message that lie beside the gap, and makes a new list.
bool message_compactor::state::copy_some(const message_view& v, move& m) noexcept {
  media& medium = table.media_;
  const std::uint64_t losses = medium.losses();
  const std::uint64_t bytes = std::uint64_t{m.from.count} * sizeof(message_extent);
  const auto list_blocks = static_cast<std::uint32_t>(blocks.blocks_for(bytes));
  extents.clear();
  for_each_chain(m.from, [&](const chain& c) { extents.push_back(c); });
  extents.erase(extents.begin()); // the list itself
  std::uint32_t wanted = 0;
  for (const chain& c : extents)
    if (in_victim(c)) wanted += c.blocks;
  chain list;
  // The list itself takes no part of the gap if it need not.
  if (blocks.allocate_from_index(list_blocks, std::span(&list, 1)) != 1 &&
      (reserve.blocks < wanted + list_blocks || !take_of(reserve, list_blocks, list)))
    list = {};
  if (list.blocks == 0 || reserve.blocks < wanted || !table.verify(v) ||
      !medium.require(blocks.address(list), blocks.size_of(list))) {
    add(list.blocks == 0 || reserve.blocks < wanted ? no_room : unsound);
    keep(list);
    return false;
  }
  std::uint64_t left = v.fields.size();
  for (chain& c : extents) {
    const std::uint64_t n = std::min(left, blocks.size_of(c));
    left -= n;
    chain to;
    if (!in_victim(c) || !take_of(reserve, c.blocks, to)) continue;
    medium.write(blocks.address(to), blocks.address(c), n);
    flush_copy(blocks.address(to), n);
    m.blocks += c.blocks;
    c = to;
  }
  medium.write(blocks.address(list), extents.data(), bytes);
  flush_copy(blocks.address(list), bytes);
  m.to = {list.first, m.from.count, true};
  m.to_list_crc = crc32c(0, extents.data(), bytes);
  if (!medium.lost_since(losses)) return true;
  for_each_old_chain(m.to, m.from, [&](const chain& c, bool required) {
    if (required) medium.unrequire(blocks.address(c), blocks.size_of(c));
    keep(c);
  });
  return false;
}

// Copies a message that is to make way, or to be joined. Returns how many blocks it copied.
std::uint32_t message_compactor::state::copy(std::uint32_t index) noexcept {
  auto& e = shared().entries[index];
  const std::uint32_t references =
      e.references.load(std::memory_order_relaxed); // [reference-taken]
  if (references == 0 || references >= message_table::state::damaged) return 0;
  const auto known = message_word1::unpack(e.word1());
  if (known.count == 0 || (!known.list && !in_victim(known))) return 0;
  if (!take_reference(index)) return 0;
  move m;
  m.ref = {index, e.generation.load(std::memory_order_relaxed)}; // [reference-taken]
  m.from = message_word1::unpack(e.word1());
  message_view v;
  // The message may be another one by now, or not be published yet.
  const bool whole = table.look(m.ref, true, v) == message_status::ok && m.from.count != 0 &&
                     table.words_of(index).extent.pack() == m.from.pack();
  if (whole && m.from.list && cycle != kind::pack) ++lists;
  const bool some = cycle == kind::roll && m.from.list;
  if (!whole || ((some || cycle == kind::vacate) && !in_victim(m.from))) {
    table.drop_reference(index);
    return 0;
  }
  const bool stays = e.pins.load(std::memory_order_relaxed) != 0; // [pin-counted]
  if (stays) add(pinned);
  const auto copied = [&] {
    if (cycle == kind::vacate) return copy_below(v, m);
    return some ? copy_some(v, m) : copy_to_one(v, m);
  };
  if (!stays && copied()) {
    if (m.from.list)
      m.from_list_crc = crc32c(0, blocks.address({m.from.first, 1}),
                               std::uint64_t{m.from.count} * sizeof(message_extent));
    batch.push_back(m);
    leaving += m.from.list ? m.from.count + 1 : 1;
  } else {
    table.drop_reference(index);
  }
  return m.blocks;
}

void message_compactor::state::name_copies() noexcept {
  if (batch.empty()) return;
  media& m = table.media_;
  if (!seeded_bug("compactor.copy_undrained")) m.drain(); // [move-before-name]
  undrained = 0;
  for (const move& each : batch) {
    message_descriptor& d = table.descriptor_of(each.ref.index);
    const auto seal_of = [&](const message_word1& word1, std::uint32_t list_crc) {
      return message_seal(word1.pack(), list_crc, each.ref.index, each.ref.generation);
    };
    const bool low = static_cast<std::uint32_t>(d.seals) == seal_of(each.from, each.from_list_crc);
    const std::uint64_t fresh = seal_of(each.to, each.to_list_crc);
    const std::uint64_t seals = low != seeded_bug("compactor.seal_of_present_lost")
                                    ? (d.seals & 0xffff'ffff) | fresh << 32
                                    : (d.seals & ~std::uint64_t{0xffff'ffff}) | fresh;
    // [move-sealed] Crash between: word 1 names the old chain, and its seal is still there.
    if (!seeded_bug("compactor.sealed_late")) m.store(&d.seals, seals);
    // [move-named] Without it a reader could follow word 1 to bytes that are not visible yet.
    m.store_release(&d.extent, each.to.pack());
    if (seeded_bug("compactor.sealed_late")) m.store(&d.seals, seals);
    // [name-before-reuse] Crash between: the message has the old chains or the new ones, and both
    // are whole.
    m.flush(&d, sizeof(d));
  }
  if (!seeded_bug("compactor.name_undrained")) m.drain(); // [name-before-reuse]
  for (const move& each : batch) {
    const std::uint32_t index = each.ref.index;
    shared().entries[index].set_word1(each.to.pack());
    for_each_old_chain(each.from, each.to, [&](const chain& c, bool required) {
      old.push_back({index, required, c});
    });
    add(moved);
    add(moved_blocks, each.blocks);
    if (each.from.list && !each.to.list) add(joined);
    if (cycle == kind::vacate && each.to.list) add(split);
    table.drop_reference(index);
  }
  batch.clear();
  leaving = 0;
}

} // namespace chainring
