// SPDX-License-Identifier: BSD-3-Clause
// What a change of the durable map stores, flushes and publishes, whoever holds it: a batch or the
// caller (durable_map_staged.cc). Edges and crash windows: durable_map.cc.
#include <cstring>

#include "base/hook.h"
#include "map/durable_map_state.h"

namespace chainring {

using detail::load_word;
using detail::pack;
using detail::unpack_chain;

// The words of a half: the value, or its chain with the value already in it.
bool durable_map::prepare_value(byte_span value, std::uint64_t (&half)[2]) noexcept {
  half[0] = half[1] = 0;
  if (value.size() <= map_value_inline) {
    if (!value.empty()) std::memcpy(half, value.data(), value.size());
    return true;
  }
  chain c;
  if (!take_chain(value.size(), c)) return false;
  media_.write(blocks_.address(c), value.data(), value.size()); // [P1] flushed in flush_changes()
  half[0] = pack(c);
  half[1] = crc32c(0, value.data(), value.size());
  return true;
}

map_status durable_map::store_insert(const wanted_key& key, std::uint64_t hash, byte_span value,
                                     map_change& out) noexcept {
  if (value.size() > map_value_max) return map_status::too_long;
  std::uint32_t number = 0;
  if (!take_cell(number)) return map_status::full;
  std::uint64_t half[2];
  if (!prepare_value(value, half)) {
    give_cell(number);
    return map_status::full;
  }
  std::uint64_t words[3] = {key.words[0], key.words[1], key.words[2]};
  if (key.is_long()) {
    chain c;
    if (!take_chain(key.bytes.size(), c)) {
      if (value.size() > map_value_inline) blocks_.release_required(unpack_chain(half[0]));
      give_cell(number);
      return map_status::full;
    }
    media_.write(blocks_.address(c), key.bytes.data(), key.bytes.size()); // [P1]
    words[1] = pack(c);
  }
  map_cell& c = cell_at(number);
  map_word0 w{.used = true,
              .key_size = static_cast<std::uint32_t>(key.bytes.size()),
              .value_size = static_cast<std::uint32_t>(value.size())};
  w.check = map_check(number, w, words, half);
  media& m = media_;
  detail::before_words(c); // [M1]
  for (int i = 0; i < 3; ++i)
    m.store(&c.key[i], words[i]);   // [M1] [P2] before its commit word
  m.store(&c.value[0][0], half[0]); // [M1] [P2]
  m.store(&c.value[0][1], half[1]); // [M1] [P2]
  out = {hash,
         index_type::none,
         w.pack(),
         0,
         0,
         number,
         claims_.stripe(hash),
         key.is_long() || w.long_value()};
  stored(out);
  return map_status::done;
}

map_status durable_map::store_update(std::uint64_t slot, const payload& p, std::uint64_t hash,
                                     byte_span value, map_change& out) noexcept {
  if (value.size() > map_value_max) return map_status::too_long;
  std::uint64_t half[2];
  if (!prepare_value(value, half)) return map_status::full;
  const auto number = static_cast<std::uint32_t>(p[0]);
  map_cell& c = cell_at(number);
  map_word0 w = map_word0::unpack(p[1]);
  if (!seeded_bug("map.overwrite_active")) w.half ^= 1;
  w.value_size = static_cast<std::uint32_t>(value.size());
  w.owners_words = false;
  const std::uint64_t key[3] = {load_word(c.key[0]), load_word(c.key[1]), load_word(c.key[2])};
  w.check = map_check(number, w, key, half);
  detail::before_words(c);                    // [M1]
  media_.store(&c.value[w.half][0], half[0]); // [M1] [P2] before its commit word
  media_.store(&c.value[w.half][1], half[1]); // [M1] [P2]
  out = {hash, slot, w.pack(), p[1], 0, number, claims_.stripe(hash), w.long_value()};
  stored(out);
  return map_status::done;
}

void durable_map::store_erase(std::uint64_t slot, const payload& p, std::uint64_t hash,
                              map_change& out) noexcept {
  const auto number = static_cast<std::uint32_t>(p[0]);
  out = {hash, slot, 0, p[1], 0, number, claims_.stripe(hash), false};
  stored(out);
  if (seeded_bug("map.free_early")) give_cell(number);
}

void durable_map::store_word(const map_change& c) noexcept {
  media_.store_release(&cell_at(c.cell).state, c.word); // [M2] [P2] pairs with [M8]
}

// Key and half are stored; word 0 follows here where no chain has to be drained before it.
void durable_map::stored(map_change& c) noexcept {
  if (seeded_bug("map.commit_before_chains")) c.waits_for_chains = false;
  if (!c.waits_for_chains) store_word(c);
  if (seeded_bug("map.release_early") && c.before != 0) {
    const map_word0 old = map_word0::unpack(c.before);
    if (old.long_value()) retire(unpack_chain(load_word(cell_at(c.cell).value[old.half][0])));
  }
}

// Bytes of a chain, drained at once where a drain could not cover them with those before: nothing
// names them until all are, so it does not matter how many drains they take.
void durable_map::flush_chain(chain c, std::size_t n, std::uint64_t& undrained) noexcept {
  const std::byte* at = blocks_.address(c);
  // A quarter: persist_range() flushes half at a time, and the caller may have its own pending.
  const std::uint64_t most = media_.drain_bytes_max() / 4;
  undrained += align_up(n, cacheline_size);
  if (undrained <= most) {
    media_.flush(at, n); // [P1]
  } else {
    persist_range(media_, at, n); // [P1]
    undrained = 0;
  }
}

bool durable_map::flush_chains_of(const map_change& c, std::uint64_t& undrained) noexcept {
  const map_word0 w = map_word0::unpack(c.word);
  if (!w.used) return false;
  const map_cell& cell = cell_at(c.cell);
  const bool key = c.slot == index_type::none && w.long_key();
  if (key) flush_chain(unpack_chain(load_word(cell.key[1])), w.key_size, undrained); // [P1]
  if (w.long_value())
    flush_chain(unpack_chain(load_word(cell.value[w.half][0])), w.value_size, undrained); // [P1]
  return key || w.long_value();
}

void durable_map::flush_cell(const map_change& c) noexcept {
  media_.flush(&cell_at(c.cell), sizeof(map_cell)); // [P2] then [P3]
}

void durable_map::publish_one(const map_change& c) noexcept {
  const map_word0 w = map_word0::unpack(c.word), old = map_word0::unpack(c.before);
  map_cell& cell = cell_at(c.cell);
  if (c.slot == index_type::none) {
    const auto slot = index_.insert(c.hash, {c.cell, c.word}); // [P3]
    CHAINRING_ASSERT(slot != index_type::none); // at most half the entries are ever taken
    count(1);
    return;
  }
  // What the old value leaves behind, read before the cell can have a next use.
  const chain old_value = unpack_chain(load_word(cell.value[old.half][0]));
  const chain old_key = unpack_chain(load_word(cell.key[1]));
  if (w.used)
    index_.replace(c.slot, {c.cell, c.word}); // [P3]
  else
    index_.erase(c.slot);                                                      // [P3]
  if (old.long_value() && !seeded_bug("map.release_early")) retire(old_value); // [P4]
  if (w.used) return;
  if (old.long_key()) retire(old_key);                  // [P4]
  if (!seeded_bug("map.free_early")) give_cell(c.cell); // [P4]
  count(-1);
  unexpect_key();
}

} // namespace chainring
