// SPDX-License-Identifier: BSD-3-Clause
// Maps and pairs of the C binding.
#include "c/handles.h"

using namespace chainring;
using namespace chainring::binding;

chainring_status chainring_map_get(const chainring_map* map, chainring_bytes key, void* to,
                                   size_t room, size_t* size) {
  if (map == nullptr || !whole(key) || (to == nullptr && room != 0)) return CHAINRING_INVALID;
  std::size_t found = 0;
  const map_status s = map->bytes->get(bytes(key), {static_cast<std::byte*>(to), room}, found);
  if (size != nullptr && s != map_status::missing) *size = found;
  return status_of(s);
}

namespace {

/// A change of one key to a value.
template <class Fn>
chainring_status change(chainring_map* map, chainring_bytes key, chainring_bytes value,
                        Fn&& fn) noexcept {
  if (map == nullptr || !fits(map->key, key) || !fits(map->value, value)) return CHAINRING_INVALID;
  return guarded([&] { return kept(fn(*map->bytes, bytes(key), bytes(value)), map->medium); });
}
/// A change of one key without a value that is given.
template <class Fn>
chainring_status change(chainring_map* map, chainring_bytes key, Fn&& fn) noexcept {
  if (map == nullptr || !fits(map->key, key)) return CHAINRING_INVALID;
  return guarded([&] { return kept(fn(*map->bytes, bytes(key)), map->medium); });
}

} // namespace

chainring_status chainring_map_insert(chainring_map* map, chainring_bytes key,
                                      chainring_bytes value) {
  return change(map, key, value, [](durable_map& m, auto k, auto v) { return m.insert(k, v); });
}
chainring_status chainring_map_update(chainring_map* map, chainring_bytes key,
                                      chainring_bytes value) {
  return change(map, key, value, [](durable_map& m, auto k, auto v) { return m.update(k, v); });
}
chainring_status chainring_map_upsert(chainring_map* map, chainring_bytes key,
                                      chainring_bytes value) {
  return change(map, key, value, [](durable_map& m, auto k, auto v) { return m.upsert(k, v); });
}
chainring_status chainring_map_erase(chainring_map* map, chainring_bytes key) {
  return change(map, key, [](durable_map& m, auto k) { return m.erase(k); });
}
chainring_status chainring_map_compare_exchange(chainring_map* map, chainring_bytes key,
                                                chainring_bytes expected, chainring_bytes value) {
  if (!whole(expected)) return CHAINRING_INVALID;
  return change(map, key, value, [expected](durable_map& m, auto key, auto v) {
    return m.compare_exchange(key, bytes(expected), v);
  });
}
chainring_status chainring_map_increment(chainring_map* map, chainring_bytes key, uint64_t by) {
  if (map != nullptr && map->value != 0 && map->value != sizeof by) return CHAINRING_INVALID;
  return change(map, key, [by](durable_map& m, auto k) { return m.increment(k, by); });
}
chainring_status chainring_map_decrement(chainring_map* map, chainring_bytes key, uint64_t by) {
  return change(map, key, [by](durable_map& m, auto k) { return m.decrement(k, by); });
}

uint64_t chainring_map_len(const chainring_map* map) {
  return map == nullptr ? 0 : map->bytes->len();
}
uint64_t chainring_map_capacity(const chainring_map* map) {
  return map == nullptr ? 0 : map->bytes->capacity();
}

size_t chainring_map_apply(chainring_map* map, chainring_change* changes, size_t count) {
  if (map == nullptr || changes == nullptr) return 0;
  size_t done = 0;
  durable_map::batch b(*map->bytes);
  for (chainring_change& c : std::span(changes, count)) {
    c.status = CHAINRING_INVALID;
    const bool has_value = c.kind != CHAINRING_CHANGE_ERASE;
    if (!fits(map->key, c.key) || (has_value && !fits(map->value, c.value))) continue;
    const byte_span key = bytes(c.key), value = bytes(c.value);
    switch (c.kind) {
    case CHAINRING_CHANGE_INSERT:
      c.status = status_of(b.insert(key, value));
      break;
    case CHAINRING_CHANGE_UPDATE:
      c.status = status_of(b.update(key, value));
      break;
    case CHAINRING_CHANGE_UPSERT:
      c.status = status_of(b.upsert(key, value));
      break;
    case CHAINRING_CHANGE_ERASE:
      c.status = status_of(b.erase(key));
      break;
    default:
      break;
    }
    done += c.status == CHAINRING_DONE;
  }
  b.commit();
  if (!map->medium->failed()) return done;
  for (chainring_change& c : std::span(changes, count))
    if (c.status == CHAINRING_DONE) c.status = CHAINRING_FAILED;
  return 0;
}

chainring_status chainring_map_for_each(const chainring_map* map, chainring_visit visit,
                                        void* context) {
  if (map == nullptr || visit == nullptr) return CHAINRING_INVALID;
  return guarded([&] {
    bool more = true;
    map->bytes->for_each([&](byte_span k, byte_span v) {
      if (more) more = visit(context, bytes(k), bytes(v));
    });
    return CHAINRING_DONE;
  });
}

// --- pairs --------------------------------------------------------------------------------------

namespace {
bool found_by(const chainring_pairs* pairs, chainring_half by) noexcept {
  return by == CHAINRING_FIRST || (by == CHAINRING_SECOND && pairs->by_second);
}
} // namespace

chainring_status chainring_pairs_insert(chainring_pairs* pairs, chainring_bytes first,
                                        chainring_bytes second) {
  if (pairs == nullptr || !fits(pairs->first, first) || !fits(pairs->second, second))
    return CHAINRING_INVALID;
  return guarded(
      [&] { return kept(pairs->bytes->insert(bytes(first), bytes(second)), pairs->medium); });
}
chainring_status chainring_pairs_erase(chainring_pairs* pairs, chainring_bytes first,
                                       chainring_bytes second) {
  if (pairs == nullptr || !whole(first) || !whole(second)) return CHAINRING_INVALID;
  return guarded(
      [&] { return kept(pairs->bytes->erase(bytes(first), bytes(second)), pairs->medium); });
}
chainring_status chainring_pairs_contains(const chainring_pairs* pairs, chainring_bytes first,
                                          chainring_bytes second) {
  if (pairs == nullptr || !whole(first) || !whole(second)) return CHAINRING_INVALID;
  return guarded([&] {
    return pairs->bytes->contains(bytes(first), bytes(second)) ? CHAINRING_DONE : CHAINRING_MISSING;
  });
}
chainring_status chainring_pairs_for_each(const chainring_pairs* pairs, chainring_half by,
                                          chainring_bytes key, chainring_visit visit,
                                          void* context) {
  if (pairs == nullptr || visit == nullptr || !whole(key) || !found_by(pairs, by))
    return CHAINRING_INVALID;
  return guarded([&] {
    bool more = true;
    const pair_half half = by == CHAINRING_FIRST ? pair_half::first : pair_half::second;
    pairs->bytes->for_each_with(half, bytes(key), [&](byte_span other) {
      if (more) more = visit(context, key, bytes(other));
    });
    return CHAINRING_DONE;
  });
}
chainring_status chainring_pairs_erase_all(chainring_pairs* pairs, chainring_half by,
                                           chainring_bytes key, uint64_t* erased) {
  if (pairs == nullptr || !whole(key) || !found_by(pairs, by)) return CHAINRING_INVALID;
  return guarded([&] {
    const pair_half half = by == CHAINRING_FIRST ? pair_half::first : pair_half::second;
    const std::uint64_t n = pairs->bytes->erase_with(half, bytes(key));
    if (erased != nullptr) *erased = n;
    return kept(map_status::done, pairs->medium);
  });
}
uint64_t chainring_pairs_len(const chainring_pairs* pairs) {
  return pairs == nullptr ? 0 : pairs->bytes->len();
}
