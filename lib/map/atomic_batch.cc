// SPDX-License-Identifier: BSD-3-Clause
// The batches of the durable map that are atomic as a whole. Their log is described in map_media.h,
// and what an open does with it in durable_map_replay.cc.
//
// A commit, in the order of its steps:
//
//   step                                     a crash behind it leaves
//   the keys are claimed, cells and chains   nothing
//     are taken
//   chains and log are drained               nothing: nothing names them
//   a cell names the log, and is drained     the whole batch, by its log
//   the changes are stored into their cells  the same
//   the index changes, and all threads see   the same
//     the batch
//
// From there on the log counts until its cell is erased or names the log of another batch, and an
// open would store it once more. So nothing may be stored into the cells that it names until their
// lines are drained and that has happened: the claims of the keys stay parked, and the cells of
// erased keys are not given to others. The next batch takes the parked claims of its keys, drains
// those lines together with its own log, and commits its log in place of the last one. Any other
// writer of one of the keys settles first.
//
// Ordering labels:
//   [log-before-word]  Chains and log of a batch are drained before the word 0 that names the
//     log is stored.
//   [log-word-before-cells]  The word 0 that names the log is drained before a change of the batch
//     is stored into its cell, and before any thread sees one.
//   [cells-before-next-log]  The cells that the last batch has changed are drained before the word
//     0 that names its log is replaced or erased.
//   [log-gone-before-reuse]  The word 0 that replaced or erased a log is drained before the log's
//     blocks and its cell, the cells that its batch erased, or the claims of its keys are given
//     back.
//   [log-cells-in-pieces]  On media that bounds a drain, the cells of a batch are drained in pieces
//     before the drain that counts.
//
// The other labels are described in durable_map.cc.
#include <algorithm>
#include <cstring>
#include <mutex>

#include "base/hook.h"
#include "map/durable_map_state.h"

namespace chainring {

using detail::load_word;
using detail::pack;
using detail::unpack_chain;

/// A change with what its key and value are in `bytes_`, and what commit() makes of it.
struct durable_map::atomic_batch::change {
  std::size_t at; ///< of the key in `bytes_`; the value stands behind it
  std::uint32_t key_size, value_size;
  std::uint64_t hash;
  std::uint32_t stripe;
  std::uint32_t order; ///< the number of the call
  what kind;
  bool nothing = false;                            ///< an erase of a missing key
  std::uint32_t from = detail::key_claims::nobody; ///< who had the claim
  std::uint64_t slot = index_type::none;           ///< none: the key is missing
  payload before{};                                ///< of that slot
  map_log_entry now{};                             ///< what the cell becomes
};

durable_map::atomic_batch::atomic_batch(durable_map& map) noexcept : map_(map) {}
durable_map::atomic_batch::~atomic_batch() = default;

std::size_t durable_map::atomic_batch::size() const noexcept {
  return changes_.size();
}
void durable_map::atomic_batch::clear() noexcept {
  changes_.clear();
  bytes_.clear();
}

durable_map::key_span durable_map::atomic_batch::key_of(const change& c) const noexcept {
  return byte_span(bytes_).subspan(c.at, c.key_size);
}
durable_map::byte_span durable_map::atomic_batch::value_of(const change& c) const noexcept {
  return byte_span(bytes_).subspan(c.at + c.key_size, c.value_size);
}

map_status durable_map::atomic_batch::add(what kind, key_span key, byte_span value) {
  if (kind != what::identify)
    if (const map_status may = wanted_key::may_change(key, value); may != map_status::done)
      return may;
  if (changes_.size() == changes_max) return map_status::too_many;
  change c{};
  c.at = bytes_.size();
  c.key_size = static_cast<std::uint32_t>(key.size());
  c.value_size = static_cast<std::uint32_t>(value.size());
  c.hash = map_.hash(key);
  c.stripe = map_.claims_.stripe(c.hash);
  c.order = static_cast<std::uint32_t>(changes_.size());
  c.kind = kind;
  changes_.push_back(c);
  bytes_.insert(bytes_.end(), key.begin(), key.end());
  bytes_.insert(bytes_.end(), value.begin(), value.end());
  return map_status::done;
}

// The id is an entry of the map, which the batch changes with the others.
map_status durable_map::atomic_batch::identify(operation_id id) {
  CHAINRING_EXPECTS(id.valid(), "the sequence number of an operation id is 1 to 2^48 - 1");
  if (seeded_bug("map.operation_not_recorded")) return map_status::done;
  const map_client_key key = map_key_of_client(id.client);
  return add(what::identify, bytes_of(key), bytes_of(id.sequence));
}

// True when the operation of this id, or a later one of its client, took effect before. The claim
// of its key is held.
bool durable_map::atomic_batch::took_effect(const change& c) const noexcept {
  std::uint64_t copy[2], last = 0, wanted = 0;
  const byte_span now = map_.value_at(c.before, copy);
  if (now.size() != sizeof last) return false; // only a damaged map has such an entry
  std::memcpy(&last, now.data(), sizeof last);
  std::memcpy(&wanted, value_of(c).data(), sizeof wanted);
  return last >= wanted && !seeded_bug("map.operation_not_asked");
}

map_status durable_map::atomic_batch::commit() noexcept {
  prepare();
  const map_status status = changes_.empty() ? map_status::done : make();
  clear();
  return status;
}

// Puts the changes into the order of their claims, and leaves one for each key.
void durable_map::atomic_batch::prepare() noexcept {
  const auto compared = [this](const change& a, const change& b) {
    const key_span x = key_of(a), y = key_of(b);
    if (x.size() != y.size()) return x.size() < y.size() ? -1 : 1;
    return std::memcmp(x.data(), y.data(), x.size());
  };
  std::sort(changes_.begin(), changes_.end(), [&](const change& a, const change& b) {
    if (a.stripe != b.stripe) return a.stripe < b.stripe;
    if (a.hash != b.hash) return a.hash < b.hash;
    const int keys = compared(a, b);
    return keys != 0 ? keys < 0 : a.order < b.order;
  });
  std::size_t kept = 0;
  for (std::size_t i = 0; i < changes_.size(); ++i) {
    const bool again = kept != 0 && compared(changes_[kept - 1], changes_[i]) == 0;
    if (again && changes_[i].kind == what::insert) changes_[i].kind = what::upsert;
    CHAINRING_EXPECTS(!again || changes_[i].kind != what::identify,
                      "two identify() of one client in a batch; a batch is one operation of each "
                      "client");
    if (!again) ++kept;
    changes_[kept - 1] = changes_[i];
  }
  changes_.resize(kept);
}

map_status durable_map::atomic_batch::make() noexcept {
  durable_map& m = map_;
  batch_log& log = *m.log_;
  if (m.media_.failed()) return map_status::failed;
  const unsigned thread = thread_slot();
  if (batch* open = m.open_[thread]; open != nullptr) open->commit();
  owner_ = thread + 1;
  std::uint64_t expected = 0;
  if (m.index_.may_grow()) {
    // Room is made while no claim is held, because the mover needs the claims of all homes.
    expected = static_cast<std::uint64_t>(
        std::ranges::count_if(changes_, [](const change& c) { return c.kind != what::erase; }));
    const std::uint64_t keys =
        m.expected_.fetch_add(expected, std::memory_order_relaxed) + expected; // [expected-keys]
    m.index_.wait_for_room(keys, m.claims_, m.hash_of(), detail::key_claims::no_stripe);
  }
  const auto unexpect = [&](std::uint64_t keys) {
    if (expected != 0) m.expected_.fetch_sub(keys, std::memory_order_relaxed); // [expected-keys]
  };
  {
    const std::lock_guard turn(log.turn);
    claim_all();
    map_status status = find_all();
    if (status == map_status::done && !store_all()) {
      status = map_status::full;
      if (log.there) { // the last batch keeps cells and blocks
        m.settle_locked();
        for (change& c : changes_)
          c.from = detail::key_claims::nobody;
        if (store_all()) status = map_status::done;
      }
    }
    const bool changes = std::ranges::any_of(changes_, [](auto& c) { return !c.nothing; });
    if (status == map_status::done && changes) {
      make_durable();
      if (m.media_.failed()) status = map_status::failed;
    }
    if (status != map_status::done || !changes) {
      unclaim_all(false);
      unexpect(expected);
      return status;
    }
    apply_all();
    publish_all();
    hand_over();
  }
  std::uint64_t erased = 0;
  for (const change& c : changes_)
    erased += c.kind == what::erase && !c.nothing;
  if (m.index_.may_grow()) unexpect(expected - fresh_ + erased);
  m.count(static_cast<std::int64_t>(fresh_ - clients_) - static_cast<std::int64_t>(erased));
  if (m.growing()) [[unlikely]]
    m.help_grow(index_type::homes_each * static_cast<unsigned>(changes_.size()));
  return map_status::done;
}

// Takes the claims of all keys, also those that the last batch has parked. Only this thread holds
// some claims while it waits for others: only one thread has the turn, and other writers finish
// what they hold before they wait.
void durable_map::atomic_batch::claim_all() noexcept {
  detail::key_claims& claims = map_.claims_;
  for (std::size_t i = 0; i < changes_.size(); ++i) {
    change& c = changes_[i];
    if (i != 0 && c.stripe == changes_[i - 1].stripe) continue;
    CHAINRING_EXPECTS(claims.owner(c.stripe) != staged_by(owner_), detail::staged_open);
    detail::short_wait wait;
    while (!claims.try_take_parked(c.stripe, owner_, c.from)) {
      hook_point("map.claim.wait");
      wait.round();
    }
  }
}

// Gives the claims back as they were, or parks all of them.
void durable_map::atomic_batch::unclaim_all(bool park) noexcept {
  for (std::size_t i = 0; i < changes_.size(); ++i)
    if (i == 0 || changes_[i].stripe != changes_[i - 1].stripe)
      map_.claims_.give_back_to(changes_[i].stripe,
                                park ? detail::key_claims::parked : changes_[i].from);
}

map_status durable_map::atomic_batch::find_all() noexcept {
  durable_map& m = map_;
  fresh_ = clients_ = 0;
  bool exists = false;
  for (change& c : changes_) {
    const wanted_key key(key_of(c));
    c.slot = m.index_.find(c.hash, [&](const payload& p) { return m.has_key(p, key); });
    if (c.slot == index_type::none) {
      c.nothing = c.kind == what::erase;
      fresh_ += !c.nothing;
      clients_ += c.kind == what::identify;
    } else {
      exists |= c.kind == what::insert;
      c.before = m.index_.at(c.slot);
      // What the operation inserted may be the key that exists.
      if (c.kind == what::identify && took_effect(c)) return map_status::repeated;
    }
  }
  return exists ? map_status::exists : map_status::done;
}

// Takes what the batch needs. False: there is not enough, and nothing is taken.
bool durable_map::atomic_batch::store_all() noexcept {
  for (std::size_t i = 0; i < changes_.size(); ++i)
    if (!changes_[i].nothing && !store_one(changes_[i])) {
      take_back(i);
      return false;
    }
  if (store_log()) return true;
  take_back(changes_.size());
  return false;
}

// Writes the chains of a change, and says what its cell becomes.
bool durable_map::atomic_batch::store_one(change& c) noexcept {
  durable_map& m = map_;
  const wanted_key key(key_of(c));
  const bool inserts = c.slot == index_type::none;
  c.now = {};
  auto number = static_cast<std::uint32_t>(c.before[0]);
  c.now.cell = number;
  if (c.kind == what::erase) return true;
  map_word0 w{.used = true, .key_size = c.key_size, .value_size = c.value_size};
  if (!m.prepare_value(value_of(c), c.now.value)) return false;
  const auto fails = [&] {
    if (w.long_value()) m.blocks_.release_required(unpack_chain(c.now.value[0]));
    return false;
  };
  if (inserts) {
    if (!m.take_cell(number)) return fails();
    std::copy_n(key.words, 3, c.now.key);
    if (key.is_long()) {
      chain where;
      if (!m.take_chain(key.bytes.size(), where)) {
        m.give_cell(number);
        return fails();
      }
      m.media_.write(m.blocks_.address(where), key.bytes.data(),
                     key.bytes.size()); // [log-before-word]
      c.now.key[1] = pack(where);
    }
  } else {
    w.half = map_word0::unpack(c.before[1]).half ^ 1;
    for (int i = 0; i < 3; ++i)
      c.now.key[i] = load_word(m.cell_at(number).key[i]);
  }
  c.now.cell = number;
  w.check = map_check(number, w, c.now.key, c.now.value);
  c.now.state = w.pack();
  return true;
}

// Takes back what the first `stored` changes have taken.
void durable_map::atomic_batch::take_back(std::size_t stored) noexcept {
  durable_map& m = map_;
  for (std::size_t i = 0; i < stored; ++i) {
    const change& c = changes_[i];
    if (c.nothing || c.kind == what::erase) continue;
    const map_word0 w = map_word0::unpack(c.now.state);
    if (w.long_value()) m.blocks_.release_required(unpack_chain(c.now.value[0]));
    if (c.slot != index_type::none) continue;
    if (w.long_key()) m.blocks_.release_required(unpack_chain(c.now.key[1]));
    m.give_cell(static_cast<std::uint32_t>(c.now.cell));
  }
}

bool durable_map::atomic_batch::store_log() noexcept {
  durable_map& m = map_;
  batch_log& log = *m.log_;
  log.next.clear();
  for (const change& c : changes_)
    if (!c.nothing) log.next.push_back(c.now);
  if (log.next.empty()) return true;
  const std::size_t bytes = log.next.size() * sizeof(map_log_entry);
  if (!log.there && !m.take_cell(log.cell)) return false;
  if (!m.take_chain(bytes, log.made)) {
    if (!log.there) m.give_cell(log.cell);
    return false;
  }
  m.media_.write(m.blocks_.address(log.made), log.next.data(), bytes); // [log-before-word]
  return true;
}

void durable_map::atomic_batch::make_durable() noexcept {
  durable_map& m = map_;
  batch_log& log = *m.log_;
  std::uint64_t undrained = 0;
  if (log.there) m.flush_cells(log.cells, undrained); // [cells-before-next-log]
  for (const change& c : changes_) {
    const map_word0 w = map_word0::unpack(c.now.state);
    if (c.nothing || !w.used) continue;
    if (w.long_value())
      m.flush_chain(unpack_chain(c.now.value[0]), w.value_size, undrained); // [log-before-word]
    if (w.long_key() && c.slot == index_type::none)
      m.flush_chain(unpack_chain(c.now.key[1]), w.key_size, undrained); // [log-before-word]
  }
  const std::size_t bytes = log.next.size() * sizeof(map_log_entry);
  m.flush_chain(log.made, bytes, undrained); // [log-before-word]
  hook_point("map.batch.logged");
  // [log-before-word] Without it a crash could leave a word that names a log which was not written.
  // Crash between: nothing names the log, so its blocks are free.
  // [cells-before-next-log] Without it a crash could leave cells without the changes of the last
  // batch, whose log is gone.
  m.media_.drain(); // [log-before-word] [cells-before-next-log]
  map_word0 w{.used = true, .value_size = static_cast<std::uint32_t>(bytes)};
  if (log.there) w.half = log.word.half ^ 1;
  const std::uint64_t key[3] = {};
  const std::uint64_t half[2] = {pack(log.made), crc32c(0, log.next.data(), bytes)};
  w.check = map_check(log.cell, w, key, half);
  map_cell& c = m.cell_at(log.cell);
  for (int i = 0; i < 3; ++i)
    m.media_.store(&c.key[i], 0);               // [cell-words-before-commit]
  m.media_.store(&c.value[w.half][0], half[0]); // [cell-words-before-commit]
  m.media_.store(&c.value[w.half][1], half[1]); // [cell-words-before-commit]
  m.media_.store_release(&c.state, w.pack());   // [cell-commit] [cell-words-before-commit]
  log.word = w;
  hook_point("map.batch.named");
  m.media_.flush(&c, sizeof c); // [log-word-before-cells] [log-gone-before-reuse]
  hook_point("map.batch.flushed");
  // [log-word-before-cells] Without it a crash could leave some of the changes, and no log that has
  // the others. Crash between: no thread has seen the batch, and the open has all of it or nothing.
  m.media_.drain(); // [log-word-before-cells] [log-gone-before-reuse]
  hook_point("map.batch.durable");
}

// Stores the changes into their cells. Their lines are flushed when the log goes.
void durable_map::atomic_batch::apply_all() noexcept {
  media& m = map_.media_;
  for (const change& c : changes_) {
    if (c.nothing) continue;
    map_cell& cell = map_.cell_at(c.now.cell);
    if (c.kind != what::erase) {
      const unsigned half = map_word0::unpack(c.now.state).half;
      detail::before_words(cell); // [cell-words]
      if (c.slot == index_type::none)
        for (int i = 0; i < 3; ++i)
          m.store(&cell.key[i], c.now.key[i]);       // [cell-words] [cell-words-before-commit]
      m.store(&cell.value[half][0], c.now.value[0]); // [cell-words] [cell-words-before-commit]
      m.store(&cell.value[half][1], c.now.value[1]); // [cell-words] [cell-words-before-commit]
    }
    m.store_release(&cell.state, c.now.state); // [cell-commit] [cell-words-before-commit]
    hook_point("map.batch.applied");
  }
}

// Locks every entry before it changes the first.
void durable_map::atomic_batch::publish_all() noexcept {
  auto& index = map_.index_;
  const bool one_by_one = seeded_bug("map.batch_one_by_one");
  const auto change_all = [&] {
    for (change& c : changes_) {
      if (c.nothing || one_by_one) continue;
      if (c.slot != index_type::none)
        index.lock(c.slot); // [batch-locked]
      else
        c.slot = index.insert_locked(c.hash, {c.now.cell, c.now.state}); // [batch-locked]
      CHAINRING_ASSERT(c.slot != index_type::none); // the index is at most half full
      hook_point("map.publish.lock");
    }
    for (const change& c : changes_) {
      hook_point("map.publish.change");
      if (c.nothing) continue;
      if (c.kind == what::erase)
        index.erase(c.slot);
      else if (c.before[1] != 0)
        index.replace(c.slot, {c.now.cell, c.now.state});
      else if (one_by_one)
        (void)index.insert(c.hash, {c.now.cell, c.now.state});
      else
        index.unlock(c.slot); // [batch-locked]
    }
  };
  map_.order_.publish(change_all);
}

// Gives back what the last batch kept, and keeps what this one has to keep.
void durable_map::atomic_batch::hand_over() noexcept {
  durable_map& m = map_;
  batch_log& log = *m.log_;
  // [log-gone-before-reuse] Without it a crash could bring the log of the last batch back over what
  // was stored into its cells or blocks since then.
  if (log.there) {
    m.blocks_.release_required(log.entries); // [log-gone-before-reuse]
    for (const std::uint32_t cell : log.erased)
      m.give_cell(cell); // [log-gone-before-reuse]
    for (const std::uint32_t stripe : log.stripes)
      m.claims_.unpark(stripe); // [log-gone-before-reuse]
  }
  log.there = true;
  log.entries = log.made;
  log.cells.clear();
  log.erased.clear();
  log.stripes.clear();
  for (const change& c : changes_) {
    log.stripes.push_back(c.stripe);
    if (c.nothing) continue;
    log.cells.push_back(static_cast<std::uint32_t>(c.now.cell));
    const map_word0 old = map_word0::unpack(c.before[1]);
    const map_cell& cell = m.cell_at(c.now.cell);
    if (old.long_value()) m.retire(unpack_chain(load_word(cell.value[old.half][0])));
    if (c.kind != what::erase) continue;
    if (old.long_key()) m.retire(unpack_chain(load_word(cell.key[1])));
    if (seeded_bug("map.batch_cells_early"))
      m.give_cell(static_cast<std::uint32_t>(c.now.cell));
    else
      log.erased.push_back(static_cast<std::uint32_t>(c.now.cell));
  }
  for (change& c : changes_)
    c.from = detail::key_claims::nobody;
  unclaim_all(!seeded_bug("map.batch_claims_early"));
}

// --- operations with ids ------------------------------------------------------------------------

map_status durable_map::insert(operation_id id, key_span key, byte_span value) {
  atomic_batch one(*this);
  (void)one.identify(id);
  const map_status status = one.insert(key, value);
  return status == map_status::done ? one.commit() : status;
}

map_status durable_map::upsert(operation_id id, key_span key, byte_span value) {
  atomic_batch one(*this);
  (void)one.identify(id);
  const map_status status = one.upsert(key, value);
  return status == map_status::done ? one.commit() : status;
}

map_status durable_map::erase(operation_id id, key_span key) {
  atomic_batch one(*this);
  (void)one.identify(id);
  const map_status status = one.erase(key);
  return status == map_status::done ? one.commit() : status;
}

std::uint64_t durable_map::last_operation(std::uint32_t client) const noexcept {
  const map_client_key key = map_key_of_client(client);
  const std::optional<map_value> found = get(bytes_of(key));
  std::uint64_t last = 0;
  if (found && found->size == sizeof last) std::memcpy(&last, found->bytes.data(), sizeof last);
  return last;
}

// --- the end of a batch -------------------------------------------------------------------------

// Flushes cells, and drains some at once where one drain could not cover all.
void durable_map::flush_cells(const std::vector<std::uint32_t>& cells,
                              std::uint64_t& undrained) noexcept {
  const std::uint64_t most = media_.drain_bytes_max() / 4;
  for (const std::uint32_t cell : cells) {
    if (undrained + sizeof(map_cell) > most) {
      // [log-cells-in-pieces] Without it a batch could flush more than such a medium can drain at
      // once.
      media_.drain(); // [log-cells-in-pieces]
      undrained = 0;
    }
    media_.flush(&cell_at(cell), sizeof(map_cell)); // [cells-before-next-log]
    undrained += sizeof(map_cell);
  }
}

// The thread has the turn.
void durable_map::settle_locked() noexcept {
  batch_log& log = *log_;
  if (!log.there) return;
  std::uint64_t undrained = 0;
  flush_cells(log.cells, undrained);
  hook_point("map.settle.flushed");
  media_.drain(); // [cells-before-next-log]
  map_cell& c = cell_at(log.cell);
  media_.store_release(&c.state, 0); // [cell-commit]
  media_.flush(&c, sizeof c);        // [log-gone-before-reuse]
  hook_point("map.settle.erased");
  media_.drain(); // [log-gone-before-reuse]
  blocks_.release_required(log.entries);
  give_cell(log.cell);
  for (const std::uint32_t cell : log.erased)
    give_cell(cell);
  for (const std::uint32_t stripe : log.stripes)
    claims_.unpark(stripe);
  log.there = false;
  hook_point("map.settled");
}

void durable_map::settle() noexcept {
  const std::lock_guard turn(log_->turn);
  settle_locked();
}

// False: there is nothing to settle, or another thread has the turn and may wait for this one.
bool durable_map::try_settle() noexcept {
  const std::unique_lock turn(log_->turn, std::try_to_lock);
  if (!turn.owns_lock() || !log_->there) return false;
  settle_locked();
  return true;
}

} // namespace chainring
