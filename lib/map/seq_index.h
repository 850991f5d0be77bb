// SPDX-License-Identifier: BSD-3-Clause
/// The index under seq_map and durable_map: a row of tables (seq_table.h), each twice the size of
/// the one before. One table holds the keys, or two while the index grows.
///
/// Growth: a writer that needs more room than half the entries of a table opens the next table.
/// From then on new keys go there. Every change of the map moves a few homes of the old table, if
/// the thread gets the mover's lock at once; no thread waits for that lock. A home moves under the
/// claim of its keys: each key is put into the new table and then taken out of the old one. So
/// - a key that is in the map is at every moment in one of the two tables, and never goes back.
///   Readers look in the old table, then in the new one, then in any that was opened meanwhile, and
///   cannot miss the key;
/// - no change of a key comes between its copy and its removal;
/// - a home that is moved stays empty in the old table, and readers pass over it.
/// When all homes are moved the new table is the only one, and the next growth may begin. An insert
/// waits for the mover only where the new table is half full while the old one is not empty. That
/// takes a claim that is held all that time, because moving keeps ahead of inserting (homes_each).
///
/// The tables take addresses when the index is made, or each one when it is opened, and memory when
/// they are used. The index does not know which readers still look at an old table, so it keeps the
/// table's addresses. give_back() gives its memory back at any time; readers then find zeros, which
/// are no keys. Where a table that is to be opened gets no addresses, the one before takes keys
/// beyond its half, until it has no entry left near the home of a key.
///
/// A walk goes home by home through the table that was the oldest when it began. It takes all keys
/// of a home, in both tables, at one moment at which the home was not moving.
///
/// Ordering labels:
///   [next-table]  The pointer to the next table is stored with release when that table is opened;
///     a reader loads it with acquire after it has looked at the table before, so a reader that
///     misses a key because it was moved sees the table it was moved to; pairs with [next-table].
///   [home-done]  The mover stores with release that a home is done; readers load it with acquire,
///     so a reader that passes over a home sees its keys in the next table; pairs with [home-done].
///   [home-in-motion]  The mover stores that a home is in motion and then makes a release fence; a
///     walk makes an acquire fence and loads the same word again, so a walk that saw a part of a
///     move takes the home again; pairs with [home-in-motion].
///   [oldest-table]  The mover stores the pointer to the oldest table with release when every home
///     of the table before is done; others load it with acquire; pairs with [oldest-table].
///   [mover-locked]  The word changes only under the mover's lock (base/spin_lock.h), which the
///     thread holds; the load orders nothing.
///   [key-claimed]  A writer takes the claim of a home with acquire and gives it back with release,
///     so the next writer of the home sees everything that the last one did; pairs with
///     [key-claimed].
///
/// The labels of the entries are described in seq_table.h.
#pragma once
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "../base/assert.h"
#include "../base/cacheline.h"
#include "../base/error.h"
#include "../base/hook.h"
#include "../base/spin_lock.h"
#include "../seqlock/seqlock.h"
#include "seq_table.h"

namespace chainring::detail {

/// The claims of homes by writers. All homes that agree in some low bits share one word, a stripe;
/// writers of two homes that share one only wait for each other.
class key_claims {
 public:
  /// A parked stripe is held by no thread. Writers of its keys have something to do before they
  /// take it; the mover need not care.
  static constexpr std::uint32_t nobody = 0, mover = ~std::uint32_t{0}, parked = mover - 1;
  static constexpr std::uint32_t no_stripe = ~std::uint32_t{0};

  explicit key_claims(std::uint64_t groups);

  [[nodiscard]] std::uint32_t stripe(std::uint64_t hash) const noexcept {
    return static_cast<std::uint32_t>(hash) & mask_;
  }
  /// Takes the stripe for `owner`, which is not `nobody`. Returns the owner that it has afterwards.
  std::uint32_t try_take(std::uint32_t stripe, std::uint32_t owner) noexcept {
    std::uint32_t found = nobody;
    return takes(stripe, owner, found) ? owner : found;
  }
  /// The same where several holders share an id. False: somebody holds it.
  [[nodiscard]] bool try_take_shared(std::uint32_t stripe, std::uint32_t owner) noexcept {
    std::uint32_t found = nobody;
    return takes(stripe, owner, found);
  }
  /// Takes the stripe and waits for it, whoever holds it: several owners may share an id.
  void take(std::uint32_t stripe, std::uint32_t owner) noexcept {
    short_wait wait;
    for (std::uint32_t found = nobody; !takes(stripe, owner, found); found = nobody)
      wait.round();
  }
  void give_back(std::uint32_t stripe) noexcept { give_back_to(stripe, nobody); }
  /// Leaves the stripe to `nobody`, or parks it.
  void give_back_to(std::uint32_t stripe, std::uint32_t to) noexcept {
    // [key-claimed] Without it the next writer of a home could miss what the last one did.
    words_[stripe].store(to, std::memory_order_release); // [key-claimed]
  }
  /// Takes the stripe for `owner` from `nobody` or, if it is parked, from there. `from` becomes who
  /// had it, and whom it is given back to. False: a thread has it.
  [[nodiscard]] bool try_take_parked(std::uint32_t stripe, std::uint32_t owner,
                                     std::uint32_t& from) noexcept {
    from = nobody;
    if (takes(stripe, owner, from)) return true;
    return from == parked && takes(stripe, owner, from);
  }
  /// Frees a parked stripe. Another owner than the mover, who gives it back as it was, keeps it.
  void unpark(std::uint32_t stripe) noexcept {
    short_wait wait;
    for (std::uint32_t found = parked;
         !words_[stripe].compare_exchange_strong(found, nobody,
                                                 std::memory_order_release,  // [key-claimed]
                                                 std::memory_order_relaxed); // [key-claimed]
         found = parked) {
      if (found != mover) return;
      wait.round();
    }
  }
  /// Returns the owner of the stripe. A thread only compares it with ids of its own.
  [[nodiscard]] std::uint32_t owner(std::uint32_t stripe) const noexcept {
    return words_[stripe].load(std::memory_order_relaxed); // [key-claimed]
  }
  [[nodiscard]] std::uint32_t stripes() const noexcept { return mask_ + 1; }

 private:
  /// `found` is who has the stripe, as the caller takes it. Where that is wrong it is its owner
  /// afterwards.
  bool takes(std::uint32_t stripe, std::uint32_t owner, std::uint32_t& found) noexcept {
    return words_[stripe].compare_exchange_strong(found, owner,
                                                  std::memory_order_acquire,  // [key-claimed]
                                                  std::memory_order_relaxed); // [key-claimed]
  }

  std::uint32_t mask_;
  std::unique_ptr<std::atomic<std::uint32_t>[]> words_;
};

/// The tables and their growth.
template <std::size_t PayloadWords> class alignas(cacheline_size) seq_index {
 public:
  using table = seq_table<PayloadWords>;
  using payload = typename table::payload;
  using first_look = typename table::first_look;
  static constexpr std::uint64_t none = ~std::uint64_t{0};
  /// The number of homes that a change of the map moves. A table becomes half full after as many
  /// inserts as the table before has entries divided by two, and that table has at most one home
  /// for each entry. So two would be enough.
  static constexpr unsigned homes_each = 4;

 private:
  /// A table with its place in the row. Lookups read only its first line.
  struct alignas(cacheline_size) level : table {
    std::atomic<level*> next{nullptr};
    std::uint64_t capacity = 0; ///< the most keys
    std::uint64_t number = 0;
    /// The progress of the move to the next table. Bit 0: home number `done` is in motion; bits
    /// 1..40: homes done; bits 41..63: moves that found no entry.
    alignas(cacheline_size) std::atomic<std::uint64_t> progress{0};

    static constexpr std::uint64_t in_motion = 1, one_done = 2, one_failed = std::uint64_t{1} << 41;
    static constexpr std::uint64_t done(std::uint64_t progress) noexcept {
      return (progress & (one_failed - 1)) >> 1;
    }
    [[nodiscard]] std::uint64_t home(std::uint64_t hash) const noexcept {
      return hash & (this->groups() - 1);
    }
    [[nodiscard]] bool moved(std::uint64_t hash) const noexcept {
      return home(hash) < done(progress.load(std::memory_order_acquire)); // [home-done]
    }
    [[nodiscard]] level* after() const noexcept {
      return next.load(std::memory_order_acquire); // [next-table]
    }
  };

 public:
  /// When tables take their addresses. Those taken at once make an index that grows without a
  /// system call. Those taken later make one whose capacity may be far above what the process can
  /// address.
  enum class addresses : std::uint8_t { at_once, when_opened };

  /// Makes an index with room for `first` keys that grows up to `capacity`. Both are at least 1,
  /// and `first` is not above `capacity`.
  [[nodiscard]] static result<seq_index> create(std::uint64_t first, std::uint64_t capacity,
                                                addresses taken_when = addresses::at_once) {
    seq_index index;
    index.addresses_ = taken_when;
    const std::uint64_t least = table::slots_for(first), most = table::slots_for(capacity);
    std::size_t count = 0;
    while (least << count < most)
      ++count;
    index.levels_ = std::make_unique<level[]>(count + 1);
    for (std::size_t i = 0; i <= count; ++i) {
      level& l = index.levels_[i];
      l.number = i;
      l.capacity = (least << i) / 2;
      if (i != 0 && taken_when == addresses::when_opened) continue;
      if (!l.take(least << i))
        return system_error(errc::no_space,
                            "memory for a map table of " +
                                std::to_string(table::bytes_for(least << i)) + " bytes",
                            errno);
    }
    index.last_ = &index.levels_[count];
    index.oldest_.store(&index.levels_[0], std::memory_order_relaxed); // [oldest-table]
    return index;
  }

  /// Only while no other thread uses `other`.
  seq_index(seq_index&& other) noexcept
      : levels_(std::move(other.levels_)), last_(other.last_), addresses_(other.addresses_),
        oldest_(other.oldest()) {}
  seq_index& operator=(seq_index&&) = delete;

  // --- lookups ----------------------------------------------------------------------------------

  /// Calls match(payload) for entries that may hold the key, until it returns true for an entry
  /// that did not change meanwhile. What match() copied out counts only then. False: the key is
  /// missing.
  template <class Match> [[nodiscard]] bool read(std::uint64_t hash, Match&& match) const noexcept {
    for (const level* l = first_for(hash);;) {
      if (l->read(hash, match)) return true;
      l = l->after();
      if (l == nullptr) [[likely]]
        return false;
    }
  }

  /// The tables in which the keys of a burst are looked for.
  class view {
   public:
    void prefetch(std::uint64_t hash) const noexcept { of(hash)->prefetch(hash); }
    /// The first step of read(): looks at one group, and returns `farther` where that does not
    /// decide.
    template <class Match>
    [[nodiscard]] first_look read_home(std::uint64_t hash, Match&& match) const noexcept {
      const level* l = of(hash);
      const first_look seen = l->read_home(hash, match);
      return seen == first_look::missing && l->after() != nullptr ? first_look::farther : seen;
    }

   private:
    friend class seq_index;
    explicit view(const level* l) noexcept : level_(l), next_(l->after()) {}
    [[nodiscard]] const level* of(std::uint64_t hash) const noexcept {
      if (next_ == nullptr) [[likely]]
        return level_;
      return level_->moved(hash) ? next_ : level_;
    }
    const level* level_;
    const level* next_;
  };
  [[nodiscard]] view look() const noexcept { return view(oldest()); }

  // --- for the holder of the claim of the key's home --------------------------------------------

  /// Returns the slot of the key, or none. The slot stays right while the claim is held.
  template <class Match>
  [[nodiscard]] std::uint64_t find(std::uint64_t hash, Match&& match) const noexcept {
    for (const level* l = first_for(hash); l != nullptr; l = l->after())
      if (const std::uint64_t at = l->find(hash, match); at != none) return slot(l, at);
    return none;
  }
  /// Adds a key that find() did not find. None: no entry within the longest reach is empty.
  std::uint64_t insert(std::uint64_t hash, const payload& value) noexcept {
    level* l = newest();
    const std::uint64_t at = l->insert(hash, value);
    return at == none ? none : slot(l, at);
  }
  void replace(std::uint64_t slot, const payload& value) noexcept {
    level_of(slot).replace(slot & slot_mask, value);
  }
  void erase(std::uint64_t slot) noexcept { level_of(slot).erase(slot & slot_mask); }
  /// These three make several changes visible at one moment (seq_table.h).
  void lock(std::uint64_t slot) noexcept { level_of(slot).lock(slot & slot_mask); }
  void unlock(std::uint64_t slot) noexcept { level_of(slot).unlock(slot & slot_mask); }
  std::uint64_t insert_locked(std::uint64_t hash, const payload& value) noexcept {
    level* l = newest();
    const std::uint64_t at = l->insert_locked(hash, value);
    return at == none ? none : slot(l, at);
  }
  [[nodiscard]] payload at(std::uint64_t slot) const noexcept {
    return level_of(slot).at(slot & slot_mask);
  }

  // --- growth -----------------------------------------------------------------------------------

  /// False: the index will never grow again.
  [[nodiscard]] bool may_grow() const noexcept { return oldest() != last_; }
  [[nodiscard]] bool growing() const noexcept { return oldest()->after() != nullptr; }
  /// The most keys that the newest table takes.
  [[nodiscard]] std::uint64_t room() const noexcept { return newest()->capacity; }

  /// True: there is room for that many keys in all, or there never will be. Opens the next table
  /// where that is needed and possible. False: the mover has to make progress first.
  [[nodiscard]] bool make_room(std::uint64_t keys) noexcept {
    for (;;) {
      level* l = oldest();
      if (level* next = l->after(); next != nullptr) return keys <= next->capacity || next == last_;
      if (keys <= l->capacity || l == last_) return true;
      if (!open_after(l)) return true;
      hook_point("map.grow");
    }
  }
  /// Makes room as make_room() does, waiting for the mover and helping it. The caller holds no
  /// claim except `held`, and uses no slot. False: so many keys have the same hash that there is no
  /// entry to move one to.
  template <class Claims, class Hash>
  bool wait_for_room(std::uint64_t keys, Claims& claims, Hash&& hash_of,
                     std::uint32_t held) noexcept {
    for (short_wait wait; !make_room(keys);) {
      const step s = move(claims, hash_of, homes_each, held);
      if (s == step::stuck) return false;
      if (s == step::blocked) {
        hook_point("map.move.wait");
        wait.round();
      }
    }
    return true;
  }

  /// Moves homes until the growth is over or stuck, and waits for other movers. The caller holds no
  /// claim and uses no slot.
  template <class Claims, class Hash>
  void finish_growth(Claims& claims, Hash&& hash_of) noexcept {
    constexpr unsigned homes_at_once = 64;
    for (short_wait wait; growing();) {
      const step s = move(claims, hash_of, homes_at_once, key_claims::no_stripe);
      if (s == step::stuck) return;
      if (s == step::blocked) {
        hook_point("map.move.wait");
        wait.round();
      }
    }
  }

  enum class step : std::uint8_t { moved, blocked, stuck, idle };
  /// Moves up to `homes` homes, unless another thread is moving, and while their claims are free or
  /// `held`. hash_of(payload) returns the hash with which its key was inserted; it is called under
  /// the key's claim.
  template <class Claims, class Hash>
  step move(Claims& claims, Hash&& hash_of, unsigned homes, std::uint32_t held) noexcept {
    if (!growing()) return step::idle;
    const std::unique_lock mover(moving_, std::try_to_lock);
    if (!mover.owns_lock()) return step::blocked;
    step s = step::moved;
    level* from = oldest();
    for (level* to = from->after(); s == step::moved && to != nullptr && homes != 0; --homes) {
      const std::uint64_t home =
          level::done(from->progress.load(std::memory_order_relaxed)); // [mover-locked]
      const std::uint32_t stripe = claims.stripe(home);
      const bool own = stripe == held || seeded_bug("map.move_unclaimed");
      std::uint32_t before = Claims::nobody;
      if (!own && !claims.try_take_parked(stripe, Claims::mover, before)) {
        s = step::blocked;
        break;
      }
      if (!move_home(*from, *to, home, hash_of)) s = step::stuck;
      if (!own) claims.give_back_to(stripe, before);
      if (s == step::moved && home + 1 == from->groups()) {
        // [oldest-table] Without it a thread could take the new table for the only one while it
        // does not see the keys that were moved there.
        oldest_.store(to, std::memory_order_release); // [oldest-table]
        hook_point("map.grown");
        to = nullptr;
      }
    }
    return s;
  }

  /// Gives the memory of outgrown tables back. It makes system calls.
  void give_back() noexcept {
    for (level* l = &levels_[0]; l != oldest(); ++l)
      (void)l->give_back();
  }

  /// Begins with a table for that many keys. Called before the first insert, by one thread alone.
  void begin_with(std::uint64_t keys) noexcept {
    level* l = oldest();
    while (l != last_ && l->capacity < keys)
      ++l;
    oldest_.store(l, std::memory_order_release); // [oldest-table]
  }

  /// A walk over the keys, home by home, while other threads write. Each key that is in the index
  /// from the walk's beginning to its end comes exactly once.
  template <class Item> class walk {
   public:
    explicit walk(const seq_index& index) noexcept : base_(index.oldest()) {}

    /// Fills `out` with copy(payload) of each key of the next home. False: there are no more homes.
    template <class Copy> [[nodiscard]] bool next(std::vector<Item>& out, Copy&& copy) {
      if (depth_ == 0) {
        if (home_ == base_->groups()) return false;
        todo_[depth_++] = {base_, home_++};
      }
      auto [l, home] = todo_[--depth_];
      for (short_wait wait;;) {
        const auto seen = l->progress.load(std::memory_order_acquire); // [home-done]
        const std::uint64_t done = level::done(seen);
        if (home < done) { // the keys of this home are now in two homes of the next table
          const level* n = l->after();
          todo_[depth_++] = {n, home + l->groups()};
          l = n;
          continue;
        }
        if (home == done && (seen & level::in_motion) != 0) {
          hook_point("map.walk.wait");
          wait.round(); // the mover needs a few instructions
          continue;
        }
        out.clear();
        l->collect(home, out, copy);
        if (const level* n = l->after(); n != nullptr) {
          hook_point("map.walk");
          n->collect(home, out, copy);
          n->collect(home + l->groups(), out, copy);
        }
        std::atomic_thread_fence(std::memory_order_acquire);          // [home-in-motion]
        const auto now = l->progress.load(std::memory_order_relaxed); // [home-in-motion]
        const std::uint64_t begun = level::done(now) + (now & level::in_motion);
        if (begun <= home && now / level::one_failed == seen / level::one_failed) return true;
      }
    }

   private:
    const level* base_;
    std::uint64_t home_ = 0;
    std::size_t depth_ = 0;
    std::array<std::pair<const level*, std::uint64_t>, 64> todo_;
  };

  // --- for tests and statistics -----------------------------------------------------------------

  /// The number of groups of the newest table.
  [[nodiscard]] std::uint64_t groups() const noexcept { return newest()->groups(); }
  /// The sum of the reaches of all its groups: the groups that misses read beyond the first.
  [[nodiscard]] std::uint64_t total_reach() const noexcept { return newest()->total_reach(); }
  /// The number of tables that have been outgrown.
  [[nodiscard]] std::uint64_t outgrown() const noexcept { return oldest()->number; }

 private:
  static constexpr unsigned slot_bits = 56;
  static constexpr std::uint64_t slot_mask = (std::uint64_t{1} << slot_bits) - 1;
  seq_index() noexcept = default;

  static std::uint64_t slot(const level* l, std::uint64_t at) noexcept {
    return l->number << slot_bits | at;
  }
  [[nodiscard]] level& level_of(std::uint64_t slot) const noexcept {
    return levels_[slot >> slot_bits];
  }
  [[nodiscard]] level* oldest() const noexcept {
    return oldest_.load(std::memory_order_acquire); // [oldest-table]
  }
  [[nodiscard]] level* newest() const noexcept {
    level* l = oldest();
    for (level* n = l->after(); n != nullptr; n = n->after())
      l = n;
    return l;
  }
  /// Returns the first table in which the key may be.
  [[nodiscard]] const level* first_for(std::uint64_t hash) const noexcept {
    const level* l = oldest();
    if (const level* n = l->after(); n != nullptr) [[unlikely]]
      if (l->moved(hash)) return n;
    return l;
  }

  /// Opens the table behind `l`, unless another thread did. False: it got no addresses.
  bool open_after(level* l) noexcept {
    level* not_opened = nullptr;
    std::unique_lock<spin_lock> taking;
    if (addresses_ == addresses::when_opened) {
      taking = std::unique_lock(moving_); // only one thread takes addresses
      if (l->after() != nullptr) return true;
      if (!l[1].take(2 * l[1].capacity)) return false;
    }
    // [next-table] Without it a reader could miss a key that was moved to the next table.
    l->next.compare_exchange_strong(not_opened, l + 1,          // only one thread opens it
                                    std::memory_order_release,  // [next-table]
                                    std::memory_order_relaxed); // [next-table]
    return true;
  }

  template <class Hash>
  static bool move_home(level& from, level& to, std::uint64_t home, Hash& hash_of) noexcept {
    const auto before = from.progress.load(std::memory_order_relaxed); // [mover-locked]
    // [home-in-motion] Without it a walk could miss a key or take it twice while its home moves.
    from.progress.store(before | level::in_motion, std::memory_order_relaxed); // [home-in-motion]
    std::atomic_thread_fence(std::memory_order_release);                       // [home-in-motion]
    const bool all = from.for_home(home, [&](std::uint64_t at, const payload& p) {
      std::uint64_t hash = hash_of(p);
      if (seeded_bug("map.move_signed")) // the remainder is negative, and is made to fit
        hash = (hash & ~(to.groups() - 1)) |
               static_cast<std::uint64_t>(std::abs(static_cast<std::int64_t>(hash) %
                                                   static_cast<std::int64_t>(to.groups())));
      if (seeded_bug("map.move_by_old_size")) hash &= ~from.groups();
      if (seeded_bug("map.move_gap")) from.erase(at);
      hook_point("map.move.copy");
      if (to.insert(hash, p) == none) return false;
      if (seeded_bug("map.move_twice")) (void)to.insert(hash, p);
      hook_point("map.move.copied");
      if (!seeded_bug("map.move_gap")) from.erase(at);
      return true;
    });
    // [home-done] Without it a reader could pass over the home and miss a key in the next table.
    from.progress.store(before + (all ? level::one_done : level::one_failed),
                        std::memory_order_release); // [home-done]
    hook_point("map.moved");
    return all;
  }

  std::unique_ptr<level[]> levels_;
  level* last_ = nullptr;
  addresses addresses_ = addresses::at_once;
  std::atomic<level*> oldest_{nullptr};      ///< where it has no next, it alone holds keys
  alignas(cacheline_size) spin_lock moving_; ///< the mover's lock
};

} // namespace chainring::detail
