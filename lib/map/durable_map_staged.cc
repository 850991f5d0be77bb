// SPDX-License-Identifier: BSD-3-Clause
// The staged changes of the durable map, which the caller holds and drains. The ordering labels are
// described in durable_map.cc.
//
// A staged change claims its key under a number that differs from those of other threads and from
// that of the batch of this thread. A thread with open changes never waits: where a claim is taken,
// or the growth of the index waits for a claim, the call returns `busy`. The chains of a change are
// flushed when it starts. The first change_flush() of a burst that needs durable chains drains them
// for all changes that have started; the count of drains tells the others that theirs were
// included. For
// a thread without a row in tables (thread_slot.h) nothing counts, so it drains them for each
// change.
#include "base/hook.h"
#include "map/durable_map_state.h"

namespace chainring {

// Stands for the row of a thread that has none: no chain of it counts as drained or may wait.
[[gnu::noinline]] durable_map::staging& durable_map::staging_without_row() noexcept {
  static thread_local staging other;
  other.undrained = UINT64_MAX / 2; // so chains that wait are drained before further ones
  return other;
}

template <class Decide>
map_status durable_map::start(key_span key, bool may_insert, map_change& out,
                              Decide&& decide) noexcept {
  if (const map_status may = wanted_key::may_change(key, {}); may != map_status::done) [[unlikely]]
    return may;
  if (growing()) [[unlikely]]
    help_grow(index_type::homes_each);
  const bool expected = may_insert && index_.may_grow();
  if (expected) {
    const std::uint64_t keys =
        expected_.fetch_add(1, std::memory_order_relaxed) + 1; // [expected-keys]
    while (!index_.make_room(keys)) {
      const auto step =
          index_.move(claims_, hash_of(), index_type::homes_each, detail::key_claims::no_stripe);
      if (step == index_type::step::stuck) break; // the key must find an entry in the full table
      if (step != index_type::step::blocked) continue;
      unexpect_key();
      return map_status::busy; // perhaps a change of this thread is in the way
    }
  }
  const wanted_key wanted(key);
  const std::uint64_t hashed = hash(key);
  const std::uint32_t stripe = claims_.stripe(hashed);
  unsigned thread = 0;
  staging* own = nullptr;
  if (detail::own_row(thread)) [[likely]] {
    own = &staged_[thread];
  } else {
    own = &staging_without_row();
    thread = thread_slot();
  }
  const std::uint32_t owner = staged_by(thread + 1);
  map_status status = map_status::busy;
  bool inserts = false;
  const auto take = [&] {
    return claims_.owner(stripe) != owner && claims_.try_take(stripe, owner) == owner;
  };
  if (take() || (claims_.owner(stripe) == detail::key_claims::parked && try_settle() && take())) {
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
  out.drains = own->drains;
  // Where one drain cannot cover the chains, some are drained here, which nothing names yet.
  (void)flush_chains_of(out, own->undrained); // [chain-before-word]
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

map_status durable_map::insert_start(key_span key, byte_span value, map_change& out) noexcept {
  return start(key, true, out,
               [&](const wanted_key& k, std::uint64_t hashed, std::uint64_t slot, const payload&) {
                 return slot == index_type::none ? store_insert(k, hashed, value, out)
                                                 : map_status::exists;
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
    unsigned row = 0;
    if (!detail::own_row(row)) [[unlikely]] {
      media_.drain(); // [chain-before-word]
    } else if (staging& own = staged_[row]; own.drains == c.drains) {
      media_.drain(); // [chain-before-word]
      ++own.drains;
      own.undrained = 0;
    }
    store_word(c); // [cell-commit] [cell-words-before-commit]
  }
  flush_cell(c); // [cell-before-index]
  hook_point("map.flushed");
}

void durable_map::change_finish(map_change& c) noexcept {
  publish_one(c);
  claims_.give_back(c.stripe);
  hook_point("map.finished");
}

} // namespace chainring
