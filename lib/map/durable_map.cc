// SPDX-License-Identifier: BSD-3-Clause
// The durable map: how it is made, its segments, single calls and batches. durable_map_store.cc has
// what a change stores, durable_map_read.cc the lookups, durable_map_recover.cc the recovery. The
// labels of the index entries, of growth and of claims are described in seq_table.h and
// seq_index.h.
//
// Ordering labels:
//   [cell-words]  A change stores a cell's words behind a release fence; a lookup loads them and
//     then makes an acquire fence, before it follows a chain or looks at its index entry again; the
//     entry was changed before the cell, or its other half, got the new words, so a lookup that saw
//     a new word sees the entry's new version and starts again; pairs with [cell-words].
//   [cell-commit]  Word 0 is stored with release; recovery and the next writer load it with
//     acquire; pairs with [cell-commit].
//   [segment-placed]  add_cells() stores the address of a segment with release after its bounds;
//     cell_at() loads it with acquire; pairs with [segment-placed].
//   [map-counts-shown]  The numbers of cells and of entries are read for statistics; the accesses
//     order nothing.
//   [expected-keys]  The number of keys that there may be says when the index grows; it orders
//     nothing.
//   [chain-before-word]  Chains of long keys and values are drained before the word 0 that names
//     them is stored.
//   [cell-words-before-commit]  Key and half are stored before word 0, the commit word of their
//     line.
//   [cell-before-index]  A changed cell is drained before the index changes, so before any lookup
//     finds the change.
//   [change-before-reuse]  An update or erase is drained before the cell or the old chains can be
//     reused.
//   [change-before-next]  A change of a key is drained before the next change of the key is stored.
#include "map/durable_map.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include "base/hook.h"
#include "map/durable_map_state.h"

namespace chainring {

// --- map ----------------------------------------------------------------------------------------

durable_map::durable_map(media& medium, block_store& blocks, std::uint64_t cells_max,
                         index_type index, std::unique_ptr<detail::retired_chains> retired)
    : media_(medium), blocks_(blocks), cells_max_(cells_max), seed_(random_seed()),
      index_(std::move(index)), claims_(index_.groups()), retired_(std::move(retired)),
      staged_(std::make_unique<staging[]>(max_thread_slots)), log_(std::make_unique<batch_log>()) {}

durable_map::~durable_map() {
  CHAINRING_EXPECTS(open_list_ == nullptr && std::ranges::count(open_, nullptr) == max_thread_slots,
                    "a map is destroyed while a batch of it is open; end the batch by its "
                    "destruction first");
  detail::short_wait wait;
  while (retired_->reclaim())
    wait.round();
}

result<std::unique_ptr<durable_map>> durable_map::create(media& medium,
                                                         std::span<const map_segment> segments,
                                                         block_store& blocks, std::uint64_t first,
                                                         std::uint64_t cells_max) {
  if (segments.empty() || segments.size() > map_segments_max)
    return error{errc::invalid_argument, "map of " + std::to_string(segments.size()) +
                                             " segments: expected 1 to " +
                                             std::to_string(map_segments_max)};
  std::uint64_t cells = 0;
  for (const map_segment& s : segments)
    cells += std::min<std::uint64_t>(s.cells, std::uint64_t{UINT32_MAX} + 1);
  if (cells == 0 || cells > UINT32_MAX)
    return error{errc::invalid_argument,
                 "map of " + std::to_string(cells) + " cells: expected 1 to 4294967295 cells"};
  if (cells_max == 0) cells_max = cells;
  if (cells_max < cells || cells_max > UINT32_MAX)
    return error{errc::invalid_argument, "map of at most " + std::to_string(cells_max) +
                                             " cells: expected " + std::to_string(cells) +
                                             ", the cells there are, to 4294967295"};
  if (first > cells)
    return error{errc::invalid_argument, "map index with room for " + std::to_string(first) +
                                             " keys at first: expected at most one for each of " +
                                             std::to_string(cells) + " cells"};
  auto index = index_type::create(first == 0 ? cells : first, cells_max);
  if (!index) return index.error();
  auto retired = std::make_unique<detail::retired_chains>(blocks);
  if (!retired->make())
    return error{errc::no_space, "map: not enough memory for the state of its readers"};
  std::unique_ptr<durable_map> map(
      new durable_map(medium, blocks, cells_max, std::move(index).value(), std::move(retired)));
  for (const map_segment& s : segments)
    if (auto added = map->add_cells(s); !added) return added.error();
  return map;
}

// Adds a segment. Only one thread at a time calls it.
result<void> durable_map::add_cells(const map_segment& s) {
  const std::uint64_t before = capacity();
  if (s.cells == 0 || s.offset % cacheline_size != 0 || s.offset > media_.size() ||
      s.cells > (media_.size() - s.offset) / sizeof(map_cell))
    return error{errc::invalid_argument,
                 "map segment of " + std::to_string(s.cells) + " cells at offset " +
                     std::to_string(s.offset) +
                     ": expected at least one cell, an offset that is a multiple of 64, and a "
                     "range inside the region"};
  if (s.cells > cells_max_ - before)
    return error{errc::invalid_argument,
                 "map segment of " + std::to_string(s.cells) + " cells: expected at most " +
                     std::to_string(cells_max_ - before) + ", the number that cells_max leaves"};
  map_cell* at = reinterpret_cast<map_cell*>(media_.base() + s.offset);
  segment* to = nullptr;
  for (segment& other : segments_) {
    map_cell* other_at = other.at.load(std::memory_order_relaxed); // [segment-placed]
    if (other_at == nullptr) {
      to = &other;
      break;
    }
    if (at < other_at + (other.end - other.first) && other_at < at + s.cells)
      return error{errc::invalid_argument, "map segment at offset " + std::to_string(s.offset) +
                                               ": it overlaps another segment of the map"};
  }
  if (to == nullptr)
    return error{errc::no_space, "map segment: the map already has " +
                                     std::to_string(map_segments_max) +
                                     " segments, the most a map can have; make a larger map and "
                                     "copy the entries"};
  std::vector<std::uint32_t> free;
  free.reserve(s.cells);
  for (std::uint64_t i = s.cells; i-- > 0;)
    free.push_back(static_cast<std::uint32_t>(before + i));
  const std::lock_guard guard(free_lock_);
  to->first = before;
  to->end = before + s.cells;
  to->free = std::move(free);
  // [segment-placed] Without it a thread could use a segment whose bounds are not set.
  to->at.store(at, std::memory_order_release);               // [segment-placed]
  count_.store(before + s.cells, std::memory_order_relaxed); // [map-counts-shown]
  return {};
}

result<void> durable_map::add_segment(std::uint64_t offset, std::uint64_t cells) {
  const std::lock_guard one(adding_);
  if (offset % cacheline_size == 0 && offset <= media_.size() &&
      cells <= (media_.size() - offset) / sizeof(map_cell)) {
    const auto* at = reinterpret_cast<const map_cell*>(media_.base() + offset);
    for (std::uint64_t i = 0; i < cells; ++i)
      if (at[i].state != 0)
        return error{errc::invalid_argument,
                     "map segment at offset " + std::to_string(offset) + ": cell " +
                         std::to_string(i) +
                         " of it is not zero; zero the range and drain it before it is added"};
  }
  return add_cells({offset, cells});
}

std::uint64_t durable_map::capacity() const noexcept {
  return count_.load(std::memory_order_relaxed); // [map-counts-shown]
}

durable_map::segment& durable_map::segment_of(std::uint64_t number) noexcept {
  std::size_t i = 0;
  while (number >= segments_[i].end)
    ++i;
  return segments_[i];
}

bool durable_map::take_cell(std::uint32_t& cell) noexcept {
  do {
    const std::lock_guard guard(free_lock_);
    for (segment& s : segments_) {
      if (s.free.empty()) continue;
      cell = s.free.back();
      s.free.pop_back();
      CHAINRING_EXPECTS(cell_at(cell).state == 0, detail::not_recovered);
      return true;
    }
  } while (try_settle()); // the last batch may keep cells
  return false;
}

void durable_map::give_cell(std::uint32_t cell) noexcept {
  const std::lock_guard guard(free_lock_);
  segment_of(cell).free.push_back(cell); // the capacity was reserved when the segment was added
}

bool durable_map::take_chain(std::size_t bytes, chain& c) noexcept {
  const auto blocks = static_cast<std::uint32_t>(blocks_.blocks_for(bytes));
  if (blocks_.allocate_required(blocks, c)) return true;
  const bool settled = try_settle(); // the last batch may keep blocks
  return (retired_->reclaim() || settled) && blocks_.allocate_required(blocks, c);
}

void durable_map::retire(chain c) noexcept {
  retired_->add(c);
}

void durable_map::count(std::int64_t by) noexcept {
  entries_.fetch_add(static_cast<std::uint64_t>(by),
                     std::memory_order_relaxed); // [map-counts-shown]
}
std::uint64_t durable_map::len() const noexcept {
  return entries_.load(std::memory_order_relaxed); // [map-counts-shown]
}

void durable_map::trim() noexcept {
  index_.give_back();
  retired_->reclaim();
}

bool durable_map::help_grow(unsigned homes) noexcept {
  return index_.move(claims_, hash_of(), homes, detail::key_claims::no_stripe) ==
         index_type::step::moved;
}

bool durable_map::expect_key(batch& by) noexcept {
  if (!index_.may_grow()) return false;
  const std::uint64_t keys =
      expected_.fetch_add(1, std::memory_order_relaxed) + 1; // [expected-keys]
  if (!index_.make_room(keys)) {
    by.commit(); // the mover could otherwise wait for a claim of this batch
    index_.wait_for_room(keys, claims_, hash_of(), detail::key_claims::no_stripe);
  }
  return true;
}
void durable_map::unexpect_key() noexcept {
  if (!index_.may_grow()) return;                    // the number is not used any more
  expected_.fetch_sub(1, std::memory_order_relaxed); // [expected-keys]
}

// The open batches of threads that have no row are in a list.
[[gnu::noinline]] durable_map::batch* durable_map::open_in_list() noexcept {
  const std::uint32_t owner = thread_slot() + 1;
  const std::lock_guard guard(open_lock_);
  batch* b = open_list_;
  while (b != nullptr && b->owner_ != owner)
    b = b->next_open_;
  return b;
}

durable_map::batch* durable_map::my_open_batch() noexcept {
  unsigned row = 0;
  return detail::own_row(row) ? open_[row] : open_in_list();
}

template <class Fn> map_status durable_map::run_single(Fn&& fn) {
  if (batch* open = my_open_batch(); open != nullptr) {
    const map_status status = fn(*open);
    open->commit();
    return status;
  }
  batch one(*this);
  return fn(one); // its destructor commits the batch
}

map_status durable_map::insert(key_span key, byte_span value) noexcept {
  return run_single([&](batch& b) { return b.insert(key, value); });
}
map_status durable_map::update(key_span key, byte_span value) noexcept {
  return run_single([&](batch& b) { return b.update(key, value); });
}
map_status durable_map::upsert(key_span key, byte_span value) noexcept {
  return run_single([&](batch& b) { return b.upsert(key, value); });
}
map_status durable_map::erase(key_span key) noexcept {
  return run_single([&](batch& b) { return b.erase(key); });
}
map_status durable_map::compare_exchange(key_span key, byte_span expected,
                                         byte_span value) noexcept {
  return run_single([&](batch& b) { return b.compare_exchange(key, expected, value); });
}
// What the calls leave in a map_edit that have callbacks, or make one of their own.
namespace {

using editor = std::function<map_status(map_edit&)>;

editor in_place_by(const std::function<void(std::span<std::byte>)>& fn) {
  return [&fn](map_edit& e) {
    if (!e.present()) return map_status::missing;
    if (e.now().size() > map_edit::size_max) return map_status::too_long;
    fn(e.in_place());
    return map_status::done;
  };
}

editor erase_where(const std::function<bool(map_edit::byte_span)>& unwanted) {
  return [&unwanted](map_edit& e) {
    if (!e.present()) return map_status::missing;
    if (!unwanted(e.now())) return map_status::mismatch;
    e.erase();
    return map_status::done;
  };
}

editor add(std::uint64_t by) noexcept {
  return [by](map_edit& e) {
    std::uint64_t sum = 0;
    if (e.present()) {
      if (e.now().size() != sizeof sum) return map_status::mismatch;
      std::memcpy(&sum, e.now().data(), sizeof sum);
    }
    if (__builtin_add_overflow(sum, by, &sum)) return map_status::mismatch;
    e.assign(bytes_of(sum));
    return map_status::done;
  };
}

editor subtract(std::uint64_t by) noexcept {
  return [by](map_edit& e) {
    std::uint64_t left = 0;
    if (!e.present()) return map_status::missing;
    if (e.now().size() != sizeof left) return map_status::mismatch;
    std::memcpy(&left, e.now().data(), sizeof left);
    if (left < by) return map_status::mismatch;
    left -= by;
    if (left == 0)
      e.erase();
    else
      e.assign(bytes_of(left));
    return map_status::done;
  };
}

} // namespace

map_status durable_map::edit_single(key_span key, bool may_insert, const editor& fn) {
  return run_single([&](batch& b) { return b.edit_key(key, may_insert, fn); });
}
map_status durable_map::update_in_place(key_span key,
                                        const std::function<void(std::span<std::byte>)>& fn) {
  return edit_single(key, false, in_place_by(fn));
}
map_status durable_map::alter(key_span key, const std::function<map_status(map_edit&)>& fn) {
  return edit_single(key, true, fn);
}
map_status durable_map::erase_if(key_span key, const std::function<bool(byte_span)>& unwanted) {
  return edit_single(key, false, erase_where(unwanted));
}
map_status durable_map::increment(key_span key, std::uint64_t by) noexcept {
  return edit_single(key, true, add(by));
}
map_status durable_map::decrement(key_span key, std::uint64_t by) noexcept {
  return edit_single(key, false, subtract(by));
}

std::uint64_t durable_map::retain(const std::function<bool(key_span, byte_span)>& keep) {
  std::uint64_t erased = 0;
  batch changes(*this);
  struct claimed { // gives the claim back where nothing was erased, also where keep() throws
    batch& by;
    const std::uint32_t stripe;
    ~claimed() { by.unclaim_unused(stripe); }
  };
  struct seen {
    std::uint64_t cell, hash;
  };
  index_type::walk<seen> homes(index_);
  std::vector<seen> keys;
  for (;;) {
    {
      // The section ends before claims are waited for, because their holders may wait for it.
      const reading section(*this);
      if (!homes.next(keys, [&](const payload& p) { return seen{p[0], hash_at(p)}; })) break;
    }
    for (const seen& k : keys) {
      const std::uint32_t stripe = claims_.stripe(k.hash);
      if (changes.size_ == batch::changes_max) changes.commit();
      changes.claim(k.hash, stripe);
      const claimed until_end{changes, stripe};
      // While this thread holds the claim, no thread changes an entry of the key. The cell may have
      // been given to another key meanwhile, which its hash shows.
      const std::uint64_t slot = index_.find(
          k.hash, [&](const payload& p) { return p[0] == k.cell && hash_at(p) == k.hash; });
      if (slot != index_type::none) {
        const payload now = index_.at(slot);
        std::uint64_t key_copy[3], value_copy[2];
        const key_span key = key_at(now, key_copy);
        if (!is_client_key(key) && !keep(key, value_at(now, value_copy))) {
          store_erase(slot, now, k.hash, changes.next());
          (void)changes.add(map_status::done);
          ++erased;
        }
      }
    }
  }
  return erased;
}

// --- batch --------------------------------------------------------------------------------------

durable_map::batch::batch(durable_map& map) noexcept : map_(map) {
  unsigned row = 0;
  if (detail::own_row(row)) [[likely]] {
    owner_ = row + 1;
    CHAINRING_EXPECTS(map.open_[row] == nullptr, detail::second_batch);
    map.open_[row] = this;
    return;
  }
  owner_ = thread_slot() + 1;
  CHAINRING_EXPECTS(map.open_in_list() == nullptr, detail::second_batch);
  const std::lock_guard guard(map.open_lock_);
  next_open_ = map.open_list_;
  map.open_list_ = this;
}

durable_map::batch::~batch() {
  commit();
  if (owner_ <= max_thread_slots) [[likely]] {
    map_.open_[owner_ - 1] = nullptr;
    return;
  }
  const std::lock_guard guard(map_.open_lock_);
  batch** at = &map_.open_list_;
  while (*at != this)
    at = &(*at)->next_open_;
  *at = next_open_;
}

// Takes the claim of the key's stripe. Afterwards no change of the key is pending.
void durable_map::batch::claim(std::uint64_t hash, std::uint32_t stripe) noexcept {
  detail::key_claims& claims = map_.claims_;
  if (claims.owner(stripe) == owner_) {
    const bool again = std::any_of(changes_.begin(), changes_.begin() + size_,
                                   [&](const map_change& c) { return c.hash == hash; });
    if (!again || seeded_bug("map.two_undrained")) return;
    // commit() gives the claim back, too.
    // [change-before-next] Without it a crash could leave a key in two cells. Crash between: the
    // map has one of the two changes in full.
    commit(); // [change-before-next]
  }
  CHAINRING_EXPECTS(claims.owner(stripe) != staged_by(owner_), detail::staged_open);
  detail::short_wait wait;
  for (std::uint32_t found; (found = claims.try_take(stripe, owner_)) != owner_;) {
    if (size_ != 0) commit(); // two batches could otherwise wait for each other
    if (found == detail::key_claims::parked) {
      map_.settle();
      continue;
    }
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

// Claims the key, finds it and calls decide(key, hash, slot, payload), which may store a change.
// The slot is `none` where the key is missing. Where decide() stores nothing, or throws, the claim
// is given back.
template <class Decide>
map_status durable_map::batch::change_key(key_span key, bool may_insert, Decide&& decide) {
  if (const map_status may = wanted_key::may_change(key, {}); may != map_status::done) [[unlikely]]
    return may;
  if (size_ == changes_max) commit();
  if (map_.growing()) [[unlikely]]
    map_.help_grow(index_type::homes_each);
  struct ending {
    batch& of;
    const bool expected;
    std::uint32_t stripe = 0;
    std::size_t before = 0;
    std::uint64_t slot = index_type::none;
    ~ending() {
      const bool stored = of.size_ != before;
      if (expected && (!stored || slot != index_type::none)) of.map_.unexpect_key();
      if (!stored) of.unclaim_unused(stripe);
    }
  } end{*this, may_insert && map_.expect_key(*this)}; // before a claim is taken
  const wanted_key wanted(key);
  const std::uint64_t hashed = map_.hash(key);
  end.stripe = map_.claims_.stripe(hashed);
  claim(hashed, end.stripe);
  end.before = size_; // claim() may have committed what the batch held
  end.slot = map_.index_.find(hashed, [&](const payload& p) { return map_.has_key(p, wanted); });
  payload p{};
  if (end.slot != index_type::none) p = map_.index_.at(end.slot);
  return decide(wanted, hashed, end.slot, p);
}

map_status durable_map::batch::insert(key_span key, byte_span value) noexcept {
  return change_key(
      key, true, [&](const wanted_key& k, std::uint64_t hash, std::uint64_t slot, const payload&) {
        return slot != index_type::none ? map_status::exists
                                        : add(map_.store_insert(k, hash, value, next()));
      });
}

map_status durable_map::batch::update(key_span key, byte_span value) noexcept {
  return change_key(
      key, false, [&](const wanted_key&, std::uint64_t hash, std::uint64_t slot, const payload& p) {
        return slot == index_type::none ? map_status::missing
                                        : add(map_.store_update(slot, p, hash, value, next()));
      });
}

map_status durable_map::batch::upsert(key_span key, byte_span value) noexcept {
  return change_key(
      key, true,
      [&](const wanted_key& k, std::uint64_t hash, std::uint64_t slot, const payload& p) {
        return slot == index_type::none ? add(map_.store_insert(k, hash, value, next()))
                                        : add(map_.store_update(slot, p, hash, value, next()));
      });
}

map_status durable_map::batch::erase(key_span key) noexcept {
  return change_key(
      key, false, [&](const wanted_key&, std::uint64_t hash, std::uint64_t slot, const payload& p) {
        if (slot == index_type::none) return map_status::missing;
        map_.store_erase(slot, p, hash, next());
        return add(map_status::done);
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
        return add(map_.store_update(slot, p, hash, value, next()));
      });
}

// Calls fn(map_edit&) and stores what it leaves there, if it returns done.
map_status durable_map::batch::edit_key(key_span key, bool may_insert, const editor& fn) {
  return change_key(
      key, may_insert,
      [&](const wanted_key& k, std::uint64_t hash, std::uint64_t slot, const payload& p) {
        const bool present = slot != index_type::none;
        std::uint64_t copy[2];
        map_edit edit(present, present ? map_.value_at(p, copy) : byte_span{});
        const map_status status = fn(edit);
        if (status != map_status::done) return status;
        const byte_span value = std::span(edit.bytes_).first(edit.size_);
        switch (edit.what_) {
        case map_edit::change::too_long:
          return map_status::too_long;
        case map_edit::change::assigned:
          return add(present ? map_.store_update(slot, p, hash, value, next())
                             : map_.store_insert(k, hash, value, next()));
        case map_edit::change::erased:
          if (!present) return map_status::done;
          map_.store_erase(slot, p, hash, next());
          return add(map_status::done);
        case map_edit::change::nothing:
          break;
        }
        return map_status::done;
      });
}

map_status
durable_map::batch::update_in_place(key_span key,
                                    const std::function<void(std::span<std::byte>)>& fn) {
  return edit_key(key, false, in_place_by(fn));
}
map_status durable_map::batch::alter(key_span key, const std::function<map_status(map_edit&)>& fn) {
  return edit_key(key, true, fn);
}
map_status durable_map::batch::erase_if(key_span key,
                                        const std::function<bool(byte_span)>& unwanted) {
  return edit_key(key, false, erase_where(unwanted));
}
map_status durable_map::batch::increment(key_span key, std::uint64_t by) noexcept {
  return edit_key(key, true, chainring::add(by));
}
map_status durable_map::batch::decrement(key_span key, std::uint64_t by) noexcept {
  return edit_key(key, false, subtract(by));
}

map_status durable_map::batch::add(map_status stored) noexcept {
  if (stored != map_status::done) return stored;
  ++size_;
  hook_point("map.stored");
  return stored;
}

// Flushes and drains the chains of the changes that flush_changes() has not covered, and stores the
// words that name them.
void durable_map::batch::flush_chains() noexcept {
  bool any = false;
  std::uint64_t undrained = 0;
  for (std::size_t i = flushed_; i < size_; ++i)
    any |= map_.flush_chains_of(changes_[i], undrained);
  if (!any || seeded_bug("map.commit_before_chains")) return;
  // [chain-before-word] Without it a crash could leave a cell that names bytes which were not
  // written. Crash between: nothing names the chains, so their blocks are free.
  map_.media_.drain(); // [chain-before-word]
  for (std::size_t i = flushed_; i < size_; ++i)
    if (changes_[i].waits_for_chains) map_.store_word(changes_[i]);
}

void durable_map::batch::flush_changes() noexcept {
  flush_chains();
  for (; flushed_ < size_; ++flushed_)
    map_.flush_cell(changes_[flushed_]);
}

void durable_map::batch::publish() noexcept {
  for (std::size_t i = 0; i < flushed_; ++i)
    map_.publish_one(changes_[i]);
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
  flush_changes();
  if (seeded_bug("map.publish_undrained")) publish();
  hook_point("map.flushed");
  // [cell-before-index] Without it a lookup could return a value that a crash takes back. Crash
  // between: no thread has seen the change.
  map_.media_.drain(); // [cell-before-index]
  hook_point("map.drained");
  publish();
}

} // namespace chainring
