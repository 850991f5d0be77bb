// SPDX-License-Identifier: BSD-3-Clause
// The lookups of the durable map. The ordering labels are described in durable_map.cc.
//
// A lookup finds its index entry, reads the cell that the entry names, and checks that the entry
// has not changed meanwhile (seq_index::read). Then the words that it read belong together and were
// drained. The entry has its own copy of word 0, which says what half of the cell counts and how
// long key and value are; the cell's own word 0 may already belong to a change that is not drained.
// Chains are read only inside a section of retired_chains. A lookup that finds that it needs a
// chain starts again inside one.
#include <algorithm>

#include "map/durable_map_state.h"

namespace chainring {

using detail::load_word;
using detail::unpack_chain;

bool durable_map::whole(chain c, std::uint64_t size) const noexcept {
  return blocks_.valid(c) && c.blocks == blocks_.blocks_for(size);
}

// The words may belong to different changes of a cell. The lookup then notices it and starts again.
durable_map::key_span durable_map::key_in(const payload& p,
                                          const std::uint64_t (&words)[3]) const noexcept {
  const map_word0 w = map_word0::unpack(p[1]);
  if (!w.long_key()) return {reinterpret_cast<const std::byte*>(words), w.key_size};
  const chain where = unpack_chain(words[1]);
  if (!whole(where, w.key_size)) return {};
  detail::behind_words(cell_of(p));
  return {blocks_.address(where), w.key_size};
}

durable_map::byte_span durable_map::value_in(const payload& p,
                                             const std::uint64_t (&words)[2]) const noexcept {
  const map_word0 w = map_word0::unpack(p[1]);
  if (!w.long_value()) return {reinterpret_cast<const std::byte*>(words), w.value_size};
  const chain where = unpack_chain(words[0]);
  if (!whole(where, w.value_size)) return {};
  detail::behind_words(cell_of(p));
  return {blocks_.address(where), w.value_size};
}

durable_map::key_span durable_map::key_at(const payload& p,
                                          std::uint64_t (&copy)[3]) const noexcept {
  for (int i = 0; i < 3; ++i)
    copy[i] = load_word(cell_of(p).key[i]);
  return key_in(p, copy);
}

durable_map::byte_span durable_map::value_at(const payload& p,
                                             std::uint64_t (&copy)[2]) const noexcept {
  const map_word0 w = map_word0::unpack(p[1]);
  for (int i = 0; i < 2; ++i)
    copy[i] = load_word(cell_of(p).value[w.half][i]);
  return value_in(p, copy);
}

std::uint64_t durable_map::hash_at(const payload& p) const noexcept {
  std::uint64_t copy[3];
  return hash(key_at(p, copy));
}

// Calls take(payload) for the entry of the key, perhaps several times; the last call counts.
template <class Take>
bool durable_map::find(const wanted_key& key, bool long_values, Take&& take) const noexcept {
  const std::uint64_t hashed = hash(key.bytes);
  bool chains = key.is_long();
  if (!chains) {
    const bool found = index_.read(hashed, [&](const payload& p) {
      chains = false;
      if (!has_key(p, key)) return false;
      chains = long_values && map_word0::unpack(p[1]).long_value();
      if (!chains) take(p);
      return true;
    });
    if (!found) return false;
    if (!chains) return true;
  }
  const reading section(*this);
  return index_.read(hashed, [&](const payload& p) {
    if (!has_key(p, key)) return false;
    take(p);
    return true;
  });
}

std::optional<map_value> durable_map::get(key_span key) const noexcept {
  if (!wanted_key::accepted(key, {})) return std::nullopt;
  map_value value;
  const bool found = find(wanted_key(key), false, [&](const payload& p) {
    const map_word0 w = map_word0::unpack(p[1]);
    value.size = w.value_size;
    std::uint64_t words[2] = {};
    if (!w.long_value())
      for (int i = 0; i < 2; ++i)
        words[i] = load_word(cell_of(p).value[w.half][i]);
    std::memcpy(value.bytes.data(), words, sizeof words);
  });
  if (!found) return std::nullopt;
  return value;
}

map_status durable_map::get(key_span key, std::span<std::byte> out,
                            std::size_t& size) const noexcept {
  if (!wanted_key::accepted(key, {})) return map_status::missing;
  const bool found = find(wanted_key(key), true, [&](const payload& p) {
    std::uint64_t copy[2];
    const byte_span value = value_at(p, copy);
    size = map_word0::unpack(p[1]).value_size;
    if (size <= out.size()) std::ranges::copy(value, out.begin());
  });
  if (!found) return map_status::missing;
  return size <= out.size() ? map_status::done : map_status::too_long;
}

void durable_map::for_each(const std::function<void(key_span, byte_span)>& fn) const {
  walk([&](const copied& k) {
    const key_span key = key_in(k.entry, k.key);
    if (!is_client_key(key)) fn(key, value_in(k.entry, k.value));
  });
}

} // namespace chainring
