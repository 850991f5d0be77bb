// SPDX-License-Identifier: BSD-3-Clause
// The durable map's staged changes: the caller's own, drained by the caller. Edges and crash
// windows: durable_map.cc.
//
// A change claims its key under a number that is neither another thread's nor that of this thread's
// batch. Whoever has changes open never waits: a claim that is taken, and a growth that waits for
// one, are `busy`. Chains are on their way from the start; the first change_flush() of a burst that
// needs them durable drains for all of them, and the others see in the count of drains that theirs
// were among them.
#include "base/hook.h"
#include "map/durable_map_state.h"

namespace chainring {

template <class Decide>
map_status durable_map::start(key_span key, bool may_insert, map_change& out,
                              Decide&& decide) noexcept {
  if (!wanted_key::accepted(key, {})) return map_status::too_long;
  if (growing()) [[unlikely]]
    help_grow(index_type::homes_each);
  const bool expected = may_insert && index_.may_grow();
  if (expected) {
    const std::uint64_t keys = expected_.fetch_add(1, std::memory_order_relaxed) + 1; // [M9]
    while (!index_.make_room(keys)) {
      const auto step =
          index_.move(claims_, hash_of(), index_type::homes_each, detail::key_claims::no_stripe);
      if (step == index_type::step::stuck) break; // the entries there are have to do
      if (step != index_type::step::blocked) continue;
      unexpect_key();
      return map_status::busy; // it may be a change of this thread that is in the way
    }
  }
  const wanted_key wanted(key);
  const std::uint64_t hashed = hash(key);
  const std::uint32_t stripe = claims_.stripe(hashed);
  const unsigned thread = detail::my_slot();
  const std::uint32_t owner = thread + 1 + max_thread_slots;
  map_status status = map_status::busy;
  bool inserts = false;
  if (claims_.owner(stripe) != owner && claims_.try_take(stripe, owner) == owner) {
    const std::uint64_t slot =
        index_.find(hashed, [&](const payload& p) { return has_key(p, wanted); });
    payload p{};
    if (slot != index_type::none) p = index_.at(slot);
    status = decide(wanted, hashed, slot, p);
    inserts = slot == index_type::none;
    if (status != map_status::done) claims_.give_back(stripe);
  }
  if (expected && (status != map_status::done || !inserts)) unexpect_key();
  if (status != map_status::done) return status;
  staging& mine = staged_[thread];
  out.drains = mine.drains;
  // Where they are more than one drain can cover, some are drained here: nothing names them yet.
  (void)flush_chains_of(out, mine.undrained); // [P1]
  hook_point("map.stored");
  return status;
}

map_status durable_map::upsert_start(key_span key, byte_span value, map_change& out) noexcept {
  return start(
      key, true, out,
      [&](const wanted_key& k, std::uint64_t hashed, std::uint64_t slot, const payload& p) {
        return slot == index_type::none ? store_insert(k, hashed, value, out)
                                        : store_update(slot, p, hashed, value, out);
      });
}

map_status durable_map::erase_start(key_span key, map_change& out) noexcept {
  return start(key, false, out,
               [&](const wanted_key&, std::uint64_t hashed, std::uint64_t slot, const payload& p) {
                 if (slot == index_type::none) return map_status::missing;
                 store_erase(slot, p, hashed, out);
                 return map_status::done;
               });
}

void durable_map::change_flush(const map_change& c) noexcept {
  if (c.waits_for_chains) {
    staging& mine = staged_[detail::my_slot()];
    if (mine.drains == c.drains) {
      media_.drain(); // [P1 < P2] for every change that this thread has started
      ++mine.drains;
      mine.undrained = 0;
    }
    store_word(c); // [M2] [P2]
  }
  flush_cell(c); // [P2] then [P3]
  hook_point("map.flushed");
}

void durable_map::change_finish(map_change& c) noexcept {
  publish_one(c);
  claims_.give_back(c.stripe);
  hook_point("map.finished");
}

} // namespace chainring
