// SPDX-License-Identifier: BSD-3-Clause
// What a change of the durable map stores, flushes and publishes, whether a batch or the caller
// holds it (durable_map_staged.cc). The ordering labels are described in durable_map.cc.
#include <cstring>

#include "base/hook.h"
#include "map/durable_map_state.h"

namespace chainring {

using detail::load_word;
using detail::pack;
using detail::unpack_chain;

// Makes the words of a half: the value, or the chain of the value, which is already written to it.
bool durable_map::prepare_value(byte_span value, std::uint64_t (&half)[2]) noexcept {
  half[0] = half[1] = 0;
  if (value.size() <= map_value_inline) {
    if (!value.empty()) std::memcpy(half, value.data(), value.size());
    return true;
  }
  chain c;
  if (!take_chain(value.size(), c)) return false;
  media_.write(blocks_.address(c), value.data(), value.size()); // [chain-before-word]
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
    media_.write(blocks_.address(c), key.bytes.data(), key.bytes.size()); // [chain-before-word]
    words[1] = pack(c);
  }
  map_cell& c = cell_at(number);
  map_word0 w{.used = true,
              .key_size = static_cast<std::uint32_t>(key.bytes.size()),
              .value_size = static_cast<std::uint32_t>(value.size())};
  w.check = map_check(number, w, words, half);
  media& m = media_;
  detail::before_words(c); // [cell-words]
  // [cell-words-before-commit] Without it a crash could leave a word 0 whose key or value was never
  // stored. Crash between: the cell is as it was before.
  for (int i = 0; i < 3; ++i)
    m.store(&c.key[i], words[i]);   // [cell-words] [cell-words-before-commit]
  m.store(&c.value[0][0], half[0]); // [cell-words] [cell-words-before-commit]
  m.store(&c.value[0][1], half[1]); // [cell-words] [cell-words-before-commit]
  out = {hash,
         index_type::none,
         w.pack(),
         0,
         0,
         number,
         claims_.stripe(hash),
         key.is_long() || w.long_value()};
  finish_store(out);
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
  detail::before_words(c);                    // [cell-words]
  media_.store(&c.value[w.half][0], half[0]); // [cell-words] [cell-words-before-commit]
  media_.store(&c.value[w.half][1], half[1]); // [cell-words] [cell-words-before-commit]
  out = {hash, slot, w.pack(), p[1], 0, number, claims_.stripe(hash), w.long_value()};
  finish_store(out);
  return map_status::done;
}

void durable_map::store_erase(std::uint64_t slot, const payload& p, std::uint64_t hash,
                              map_change& out) noexcept {
  const auto number = static_cast<std::uint32_t>(p[0]);
  out = {hash, slot, 0, p[1], 0, number, claims_.stripe(hash), false};
  finish_store(out);
  if (seeded_bug("map.free_early")) give_cell(number);
}

void durable_map::store_word(const map_change& c) noexcept {
  // [cell-commit] Without it a later writer or recovery could see word 0 without the words it
  // names.
  media_.store_release(&cell_at(c.cell).state, c.word); // [cell-commit] [cell-words-before-commit]
}

// Key and half are stored. Stores word 0 here, unless a chain has to be drained before it.
void durable_map::finish_store(map_change& c) noexcept {
  if (seeded_bug("map.commit_before_chains")) c.waits_for_chains = false;
  if (!c.waits_for_chains) store_word(c);
  if (seeded_bug("map.release_early") && c.before != 0) {
    const map_word0 old = map_word0::unpack(c.before);
    if (old.long_value()) retire(unpack_chain(load_word(cell_at(c.cell).value[old.half][0])));
  }
}

// Flushes a chain. Drains it at once where one drain could not cover it with the bytes flushed
// before. Nothing names the chains until all of them are drained, so any number of drains will do.
void durable_map::flush_chain(chain c, std::size_t n, std::uint64_t& undrained) noexcept {
  const std::byte* at = blocks_.address(c);
  // A quarter, because persist_range() flushes half at a time and the caller may have flushed a
  // quarter of its own.
  const std::uint64_t most = media_.drain_bytes_max() / 4;
  undrained += align_up(n, cacheline_size);
  if (undrained <= most) {
    media_.flush(at, n); // [chain-before-word]
  } else {
    persist_range(media_, at, n); // [chain-before-word]
    undrained = 0;
  }
}

bool durable_map::flush_chains_of(const map_change& c, std::uint64_t& undrained) noexcept {
  const map_word0 w = map_word0::unpack(c.word);
  if (!w.used) return false;
  const map_cell& cell = cell_at(c.cell);
  const bool key = c.slot == index_type::none && w.long_key();
  if (key)
    flush_chain(unpack_chain(load_word(cell.key[1])), w.key_size, undrained); // [chain-before-word]
  if (w.long_value())
    flush_chain(unpack_chain(load_word(cell.value[w.half][0])), w.value_size,
                undrained); // [chain-before-word]
  return key || w.long_value();
}

void durable_map::flush_cell(const map_change& c) noexcept {
  media_.flush(&cell_at(c.cell), sizeof(map_cell)); // [cell-before-index]
}

void durable_map::publish_one(const map_change& c) noexcept {
  const map_word0 w = map_word0::unpack(c.word), old = map_word0::unpack(c.before);
  map_cell& cell = cell_at(c.cell);
  if (c.slot == index_type::none) {
    const auto slot = index_.insert(c.hash, {c.cell, c.word}); // [cell-before-index]
    CHAINRING_ASSERT(slot != index_type::none);                // the index is at most half full
    count(1);
    return;
  }
  // The chains of the old value and key are read before the cell can be used again.
  const chain old_value = unpack_chain(load_word(cell.value[old.half][0]));
  const chain old_key = unpack_chain(load_word(cell.key[1]));
  if (w.used)
    index_.replace(c.slot, {c.cell, c.word}); // [cell-before-index]
  else
    index_.erase(c.slot); // [cell-before-index]
  // [change-before-reuse] Without it a crash could bring the old entry back over a cell or chain
  // that was used again. Crash between: the old value is whole, or its chains are free at the next
  // open.
  if (old.long_value() && !seeded_bug("map.release_early"))
    retire(old_value); // [change-before-reuse]
  if (w.used) return;
  if (old.long_key()) retire(old_key);                  // [change-before-reuse]
  if (!seeded_bug("map.free_early")) give_cell(c.cell); // [change-before-reuse]
  count(-1);
  unexpect_key();
}

} // namespace chainring
