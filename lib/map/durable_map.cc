// SPDX-License-Identifier: BSD-3-Clause
// The durable map's changes. Lookups: durable_map_read.cc; recovery: durable_map_recover.cc.
//
// clang-format off
// Edges (those of the index entry, of growth and of claims: seq_table.h, seq_index.h)
//   [M1] a cell's words stored behind a release fence -> [M4] a lookup's relaxed loads, and the
//        acquire fence before it follows a chain or looks at its index entry again: the entry moved
//        on before the cell was given to its next use (half, or cell), so a lookup that saw any new
//        word sees the entry's new version, and starts again.
//   [M2] commit word stored (release) -> [M8] its load (acquire), by recovery and the next writer.
//   [M7] count of entries: statistics.
//   [M9] count of keys there may be: says when to grow, and orders nothing.
// clang-format on
//
// Crash windows
//   [P1 < P2] chains of long keys and values drained before the word that names them is stored.
//      Crash between: they are unreachable, so their blocks are free.
//   [P2 < P3] the commit word drained before the index has it, so before any lookup.
//      Crash between: nobody has seen it.
//   [P2 < P4] an erase or update drained before the cell and the old chains are free for reuse.
//      Crash between: the old value is whole, or the chains are free at the next open.
//   [P2 < P5] a key's change drained before the next change of the key is stored.
//      Crash between: one of the two in full. Without it a key could be there twice.
#include "map/durable_map.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include "base/hook.h"
#include "map/durable_map_state.h"

namespace chainring {

using detail::load_word;
using detail::pack;
using detail::unpack_chain;

// --- graveyard ----------------------------------------------------------------------------------

namespace detail {

bool map_graveyard::collect() noexcept {
  std::uint64_t newest;
  {
    const std::lock_guard guard(lock_);
    if (count_ == 0) return false;
    newest = ring_[(first_ + count_ - 1) % graves].stamp;
  }
  if (!periods_.begun(newest)) periods_.begin();
  const std::lock_guard guard(lock_);
  while (count_ != 0 && periods_.over(ring_[first_].stamp)) {
    blocks_waiting_ -= ring_[first_].what.blocks;
    blocks_.release_required(ring_[first_].what);
    first_ = (first_ + 1) % graves;
    --count_;
  }
  return true;
}

void map_graveyard::bury(chain c) noexcept {
  short_wait wait;
  for (;;) {
    bool collect_now = true, buried = false;
    {
      const std::lock_guard guard(lock_);
      if (count_ < graves) {
        // Stamped under the lock, so that the ring is in the order of the stamps.
        ring_[(first_ + count_++) % graves] = {c, periods_.stamp()};
        blocks_waiting_ += c.blocks;
        collect_now = count_ % enough == 0 || blocks_waiting_ >= too_much;
        buried = true;
      }
    }
    if (collect_now) collect();
    if (buried) return;
    wait.round(); // lookups and walks end soon
  }
}

} // namespace detail

// --- map ----------------------------------------------------------------------------------------

durable_map::durable_map(media& on, map_cell* cells, std::uint64_t count, block_store& blocks,
                         index_type index, std::unique_ptr<detail::map_graveyard> graveyard)
    : media_(on), cells_(cells), count_(count), blocks_(blocks), seed_(random_seed()),
      index_(std::move(index)), claims_(index_.groups()), graveyard_(std::move(graveyard)) {
  free_.reserve(count);
  for (std::uint64_t i = count; i-- > 0;)
    free_.push_back(static_cast<std::uint32_t>(i));
}

durable_map::~durable_map() {
  detail::short_wait wait;
  while (graveyard_->collect())
    wait.round();
}

result<std::unique_ptr<durable_map>> durable_map::create(media& on, std::uint64_t offset,
                                                         std::uint64_t cells, block_store& blocks,
                                                         std::uint64_t first) {
  if (cells == 0 || cells > UINT32_MAX || offset % cacheline_size != 0 || offset > on.size() ||
      cells > (on.size() - offset) / sizeof(map_cell))
    return error{errc::invalid_argument, "map of " + std::to_string(cells) +
                                             " cells: expected 1 to 2^32 - 1 of them, on a line, "
                                             "inside the region"};
  if (first > cells)
    return error{errc::invalid_argument, "map index of " + std::to_string(first) +
                                             " keys to begin with: expected at most one a cell, " +
                                             std::to_string(cells)};
  auto index = index_type::create(first == 0 ? cells : first, cells);
  if (!index) return index.error();
  auto graveyard = std::make_unique<detail::map_graveyard>(blocks);
  if (!graveyard->make()) return error{errc::no_space, "map: no memory for its readers"};
  return std::unique_ptr<durable_map>(
      new durable_map(on, reinterpret_cast<map_cell*>(on.base() + offset), cells, blocks,
                      std::move(index).value(), std::move(graveyard)));
}

bool durable_map::take_cell(std::uint32_t& cell) noexcept {
  const std::lock_guard guard(free_lock_);
  if (free_.empty()) return false;
  cell = free_.back();
  free_.pop_back();
  return true;
}

void durable_map::give_cell(std::uint32_t cell) noexcept {
  const std::lock_guard guard(free_lock_);
  free_.push_back(cell); // within the capacity reserved at creation
}

bool durable_map::take_chain(std::size_t bytes, chain& c) noexcept {
  const auto blocks = static_cast<std::uint32_t>(blocks_.blocks_for(bytes));
  if (blocks_.allocate_required(blocks, c)) return true;
  return graveyard_->collect() && blocks_.allocate_required(blocks, c);
}

void durable_map::retire(chain c) noexcept {
  graveyard_->bury(c);
}

void durable_map::count(std::int64_t by) noexcept {
  entries_.fetch_add(static_cast<std::uint64_t>(by), std::memory_order_relaxed); // [M7] statistics
}
std::uint64_t durable_map::len() const noexcept {
  return entries_.load(std::memory_order_relaxed); // [M7] statistics
}

void durable_map::trim() noexcept {
  index_.give_back();
  graveyard_->collect();
}

bool durable_map::help_grow(unsigned homes) noexcept {
  return index_.move(claims_, hash_of(), homes, detail::key_claims::no_stripe) ==
         index_type::step::moved;
}

bool durable_map::expect_key(batch& by) noexcept {
  if (!index_.may_grow()) return false;
  const std::uint64_t keys = expected_.fetch_add(1, std::memory_order_relaxed) + 1; // [M9]
  if (!index_.make_room(keys)) {
    by.commit(); // or the mover could wait for it
    index_.wait_for_room(keys, claims_, hash_of(), detail::key_claims::no_stripe);
  }
  return true;
}
void durable_map::unexpect_key() noexcept {
  if (!index_.may_grow()) return;                    // nobody asks any more
  expected_.fetch_sub(1, std::memory_order_relaxed); // [M9]
}

template <class Fn> map_status durable_map::alone(Fn&& fn) noexcept {
  if (batch* open = open_[thread_slot()]; open != nullptr) {
    const map_status status = fn(*open);
    open->commit();
    return status;
  }
  batch one(*this);
  return fn(one); // committed at the end of its life
}

map_status durable_map::insert(key_span key, byte_span value) noexcept {
  return alone([&](batch& b) { return b.insert(key, value); });
}
map_status durable_map::update(key_span key, byte_span value) noexcept {
  return alone([&](batch& b) { return b.update(key, value); });
}
map_status durable_map::upsert(key_span key, byte_span value) noexcept {
  return alone([&](batch& b) { return b.upsert(key, value); });
}
map_status durable_map::erase(key_span key) noexcept {
  return alone([&](batch& b) { return b.erase(key); });
}
map_status durable_map::compare_exchange(key_span key, byte_span expected,
                                         byte_span value) noexcept {
  return alone([&](batch& b) { return b.compare_exchange(key, expected, value); });
}
map_status
durable_map::update_in_place(key_span key,
                             const std::function<void(std::span<std::byte>)>& fn) noexcept {
  return alone([&](batch& b) { return b.update_in_place(key, fn); });
}

std::uint64_t durable_map::retain(const std::function<bool(key_span, byte_span)>& keep) noexcept {
  std::uint64_t erased = 0;
  if (batch* open = open_[thread_slot()]; open != nullptr) open->commit();
  batch changes(*this);
  struct seen {
    std::uint64_t cell, hash;
  };
  index_type::walk<seen> homes(index_);
  std::vector<seen> keys;
  for (;;) {
    {
      const reading section(*this); // not while we wait for claims: their holders may wait for it
      if (!homes.next(keys, [&](const payload& p) { return seen{p[0], hash_at(p)}; })) break;
    }
    for (const seen& k : keys) {
      const std::uint32_t stripe = claims_.stripe(k.hash);
      if (changes.size_ == batch::changes_max) changes.commit();
      changes.claim(k.hash, stripe);
      // Of this key's claim holder the entry stands still. (The cell may have gone to another key
      // meanwhile: its hash tells.)
      const std::uint64_t slot = index_.find(
          k.hash, [&](const payload& p) { return p[0] == k.cell && hash_at(p) == k.hash; });
      if (slot != index_type::none) {
        const payload now = index_.at(slot);
        std::uint64_t key_copy[3], value_copy[2];
        if (!keep(key_at(now, key_copy), value_at(now, value_copy))) {
          changes.store_erase(slot, now, k.hash);
          ++erased;
        }
      }
      changes.unclaim_unused(stripe);
    }
  }
  return erased;
}

// --- batch --------------------------------------------------------------------------------------

durable_map::batch::batch(durable_map& map) noexcept : map_(map), owner_(thread_slot() + 1) {
  CHAINRING_ASSERT(map.open_[owner_ - 1] == nullptr); // one batch at a time a thread and map
  map.open_[owner_ - 1] = this;
}

durable_map::batch::~batch() {
  commit();
  map_.open_[owner_ - 1] = nullptr;
}

// Returns with the stripe ours and no change of this key pending.
void durable_map::batch::claim(std::uint64_t hash, std::uint32_t stripe) noexcept {
  detail::key_claims& claims = map_.claims_;
  if (claims.owner(stripe) == owner_) {
    const bool again = std::any_of(changes_.begin(), changes_.begin() + size_,
                                   [&](const change& c) { return c.hash == hash; });
    if (!again || seeded_bug("map.two_undrained")) return;
    commit(); // [P2 < P5]; gives the claim back too
  }
  detail::short_wait wait;
  while (claims.try_take(stripe, owner_) != owner_) {
    if (size_ != 0) commit(); // or two batches could wait for each other
    hook_point("map.claim.wait");
    wait.round();
  }
}

void durable_map::batch::unclaim_unused(std::uint32_t stripe) noexcept {
  if (map_.claims_.owner(stripe) != owner_) return;
  for (std::size_t i = 0; i < size_; ++i)
    if (changes_[i].stripe == stripe) return;
  map_.claims_.give_back(stripe);
}

// decide(slot, payload) stores a change, or not; slot is none where the key is not there.
template <class Decide>
map_status durable_map::batch::change_key(key_span key, bool may_insert, Decide&& decide) noexcept {
  if (!wanted_key::accepted(key, {})) return map_status::too_long;
  if (size_ == changes_max) commit();
  if (map_.growing()) [[unlikely]]
    map_.help_grow(index_type::homes_each);
  const bool expected = may_insert && map_.expect_key(*this); // before anything is claimed
  const wanted_key wanted(key);
  const std::uint64_t hashed = map_.hash(key);
  const std::uint32_t stripe = map_.claims_.stripe(hashed);
  claim(hashed, stripe);
  const std::uint64_t slot =
      map_.index_.find(hashed, [&](const payload& p) { return map_.has_key(p, wanted); });
  payload p{};
  if (slot != index_type::none) p = map_.index_.at(slot);
  const map_status status = decide(wanted, hashed, slot, p);
  if (expected && (status != map_status::done || slot != index_type::none)) map_.unexpect_key();
  if (status != map_status::done) unclaim_unused(stripe);
  return status;
}

map_status durable_map::batch::insert(key_span key, byte_span value) noexcept {
  return change_key(
      key, true, [&](const wanted_key& k, std::uint64_t hash, std::uint64_t slot, const payload&) {
        return slot != index_type::none ? map_status::exists : store_insert(k, hash, value);
      });
}

map_status durable_map::batch::update(key_span key, byte_span value) noexcept {
  return change_key(
      key, false, [&](const wanted_key&, std::uint64_t hash, std::uint64_t slot, const payload& p) {
        return slot == index_type::none ? map_status::missing : store_update(slot, p, hash, value);
      });
}

map_status durable_map::batch::upsert(key_span key, byte_span value) noexcept {
  return change_key(
      key, true,
      [&](const wanted_key& k, std::uint64_t hash, std::uint64_t slot, const payload& p) {
        return slot == index_type::none ? store_insert(k, hash, value)
                                        : store_update(slot, p, hash, value);
      });
}

map_status durable_map::batch::erase(key_span key) noexcept {
  return change_key(
      key, false, [&](const wanted_key&, std::uint64_t hash, std::uint64_t slot, const payload& p) {
        if (slot == index_type::none) return map_status::missing;
        store_erase(slot, p, hash);
        return map_status::done;
      });
}

map_status durable_map::batch::compare_exchange(key_span key, byte_span expected,
                                                byte_span value) noexcept {
  return change_key(
      key, false, [&](const wanted_key&, std::uint64_t hash, std::uint64_t slot, const payload& p) {
        if (slot == index_type::none) return map_status::missing;
        std::uint64_t copy[2];
        const byte_span now = map_.value_at(p, copy);
        if (!std::ranges::equal(now, expected)) return map_status::mismatch;
        return store_update(slot, p, hash, value);
      });
}

map_status
durable_map::batch::update_in_place(key_span key,
                                    const std::function<void(std::span<std::byte>)>& fn) noexcept {
  return change_key(
      key, false, [&](const wanted_key&, std::uint64_t hash, std::uint64_t slot, const payload& p) {
        if (slot == index_type::none) return map_status::missing;
        std::uint64_t copy[2];
        const byte_span now = map_.value_at(p, copy);
        if (now.size() > in_place_max) return map_status::too_long;
        std::array<std::byte, in_place_max> buffer;
        const std::span value = std::span(buffer).first(now.size());
        std::ranges::copy(now, value.begin());
        fn(value);
        return store_update(slot, p, hash, value);
      });
}

// The words of a half: the value, or its chain with the value already in it.
bool durable_map::batch::prepare_value(byte_span value, std::uint64_t (&half)[2]) noexcept {
  half[0] = half[1] = 0;
  if (value.size() <= map_value_inline) {
    if (!value.empty()) std::memcpy(half, value.data(), value.size());
    return true;
  }
  chain c;
  if (!map_.take_chain(value.size(), c)) return false;
  map_.media_.write(map_.blocks_.address(c), value.data(), value.size()); // [P1] flushed in flush()
  half[0] = pack(c);
  half[1] = crc32c(0, value.data(), value.size());
  return true;
}

map_status durable_map::batch::store_insert(const wanted_key& key, std::uint64_t hash,
                                            byte_span value) noexcept {
  if (value.size() > map_value_max) return map_status::too_long;
  std::uint32_t number = 0;
  if (!map_.take_cell(number)) return map_status::full;
  std::uint64_t half[2];
  if (!prepare_value(value, half)) {
    map_.give_cell(number);
    return map_status::full;
  }
  std::uint64_t words[3] = {key.words[0], key.words[1], key.words[2]};
  if (key.is_long()) {
    chain c;
    if (!map_.take_chain(key.bytes.size(), c)) {
      if (value.size() > map_value_inline) map_.blocks_.release_required(unpack_chain(half[0]));
      map_.give_cell(number);
      return map_status::full;
    }
    map_.media_.write(map_.blocks_.address(c), key.bytes.data(), key.bytes.size()); // [P1]
    words[1] = pack(c);
  }
  map_cell& c = map_.cells_[number];
  map_word0 w = map_word0::unpack(
      std::atomic_ref(c.state).load(std::memory_order_acquire)); // [M8] pairs with [M2]
  w = {true, 0, static_cast<std::uint16_t>(key.bytes.size()),
       static_cast<std::uint32_t>(value.size()), static_cast<std::uint16_t>(w.version + 1)};
  media& m = map_.media_;
  detail::before_words(c); // [M1]
  for (int i = 0; i < 3; ++i)
    m.store(&c.key[i], words[i]);   // [M1] [P2] before its commit word
  m.store(&c.value[0][0], half[0]); // [M1] [P2]
  m.store(&c.value[0][1], half[1]); // [M1] [P2]
  add({hash, index_type::none, w.pack(), 0, number, map_.claims_.stripe(hash),
       key.is_long() || w.long_value()});
  return map_status::done;
}

map_status durable_map::batch::store_update(std::uint64_t slot, const payload& p,
                                            std::uint64_t hash, byte_span value) noexcept {
  if (value.size() > map_value_max) return map_status::too_long;
  std::uint64_t half[2];
  if (!prepare_value(value, half)) return map_status::full;
  const auto number = static_cast<std::uint32_t>(p[0]);
  map_cell& c = map_.cells_[number];
  map_word0 w = map_word0::unpack(p[1]);
  if (!seeded_bug("map.overwrite_active")) w.half ^= 1;
  w.value_size = static_cast<std::uint32_t>(value.size());
  ++w.version;
  detail::before_words(c);                         // [M1]
  map_.media_.store(&c.value[w.half][0], half[0]); // [M1] [P2] before its commit word
  map_.media_.store(&c.value[w.half][1], half[1]); // [M1] [P2]
  add({hash, slot, w.pack(), p[1], number, map_.claims_.stripe(hash), w.long_value()});
  return map_status::done;
}

void durable_map::batch::store_erase(std::uint64_t slot, const payload& p,
                                     std::uint64_t hash) noexcept {
  const auto number = static_cast<std::uint32_t>(p[0]);
  add({hash, slot, map_word0::unpack(p[1]).erased().pack(), p[1], number, map_.claims_.stripe(hash),
       false});
  if (seeded_bug("map.free_early")) map_.give_cell(number);
}

void durable_map::batch::add(change c) noexcept {
  if (seeded_bug("map.commit_before_chains")) c.waits_for_chains = false;
  if (!c.waits_for_chains)
    map_.media_.store_release(&map_.cells_[c.cell].state, c.word); // [M2] [P2] pairs with [M8]
  changes_[size_++] = c;
  if (seeded_bug("map.release_early") && c.before != 0) {
    const map_word0 old = map_word0::unpack(c.before);
    if (old.long_value())
      map_.retire(unpack_chain(load_word(map_.cells_[c.cell].value[old.half][0])));
  }
  hook_point("map.stored");
}

// Bytes of a chain, drained at once where a drain could not cover them with those before: nothing
// names them until all are, so it does not matter how many drains they take.
void durable_map::batch::flush_chain(chain c, std::size_t n, std::uint64_t& undrained) noexcept {
  const std::byte* at = map_.blocks_.address(c);
  // A quarter: persist_range() flushes half at a time, and the caller may have its own pending.
  const std::uint64_t most = map_.media_.drain_bytes_max() / 4;
  undrained += align_up(n, cacheline_size);
  if (undrained <= most) {
    map_.media_.flush(at, n); // [P1]
  } else {
    persist_range(map_.media_, at, n); // [P1]
    undrained = 0;
  }
}

// Chains of changes that flush() has not covered, then the words that name them.
void durable_map::batch::flush_chains() noexcept {
  bool any = false;
  std::uint64_t undrained = 0;
  for (std::size_t i = flushed_; i < size_; ++i) {
    const change& c = changes_[i];
    const map_word0 w = map_word0::unpack(c.word);
    const map_cell& cell = map_.cells_[c.cell];
    if (!w.used) continue;
    if (c.slot == index_type::none && w.long_key()) {
      flush_chain(unpack_chain(load_word(cell.key[1])), w.key_size, undrained); // [P1]
      any = true;
    }
    if (w.long_value()) {
      flush_chain(unpack_chain(load_word(cell.value[w.half][0])), w.value_size, undrained); // [P1]
      any = true;
    }
  }
  if (!any || seeded_bug("map.commit_before_chains")) return;
  map_.media_.drain(); // [P1 < P2]
  for (std::size_t i = flushed_; i < size_; ++i)
    if (changes_[i].waits_for_chains)
      map_.media_.store_release(&map_.cells_[changes_[i].cell].state,
                                changes_[i].word); // [M2] [P2] pairs with [M8]
}

void durable_map::batch::flush() noexcept {
  flush_chains();
  for (; flushed_ < size_; ++flushed_)
    map_.media_.flush(&map_.cells_[changes_[flushed_].cell], sizeof(map_cell)); // [P2] then [P3]
}

void durable_map::batch::publish_one(const change& c) noexcept {
  const map_word0 w = map_word0::unpack(c.word), old = map_word0::unpack(c.before);
  map_cell& cell = map_.cells_[c.cell];
  if (c.slot == index_type::none) {
    const auto slot = map_.index_.insert(c.hash, {c.cell, c.word}); // [P3]
    CHAINRING_ASSERT(slot != index_type::none); // at most half the entries are ever taken
    map_.count(1);
    return;
  }
  // What the old value leaves behind, read before the cell can have a next use.
  const chain old_value = unpack_chain(load_word(cell.value[old.half][0]));
  const chain old_key = unpack_chain(load_word(cell.key[1]));
  if (w.used)
    map_.index_.replace(c.slot, {c.cell, c.word}); // [P3]
  else
    map_.index_.erase(c.slot);                                                      // [P3]
  if (old.long_value() && !seeded_bug("map.release_early")) map_.retire(old_value); // [P4]
  if (w.used) return;
  if (old.long_key()) map_.retire(old_key);                  // [P4]
  if (!seeded_bug("map.free_early")) map_.give_cell(c.cell); // [P4]
  map_.count(-1);
  map_.unexpect_key();
}

void durable_map::batch::publish() noexcept {
  for (std::size_t i = 0; i < flushed_; ++i)
    publish_one(changes_[i]);
  const std::size_t left = size_ - flushed_;
  std::array<std::uint32_t, changes_max> stripes;
  const std::size_t done = flushed_;
  for (std::size_t i = 0; i < done; ++i)
    stripes[i] = changes_[i].stripe;
  std::copy(changes_.begin() + done, changes_.begin() + size_, changes_.begin());
  size_ = left;
  flushed_ = 0;
  for (std::size_t i = 0; i < done; ++i)
    unclaim_unused(stripes[i]);
}

void durable_map::batch::commit() noexcept {
  if (size_ == 0) return;
  flush();
  if (seeded_bug("map.publish_undrained")) publish();
  hook_point("map.flushed");
  map_.media_.drain(); // [P2 < P3]
  hook_point("map.drained");
  publish();
}

} // namespace chainring
