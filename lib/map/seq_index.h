// SPDX-License-Identifier: BSD-3-Clause
/// The index under seq_map and durable_map: tables (seq_table.h), each twice the size of the one
/// before, of which one or, while the index grows, two hold the keys.
///
/// Growth: a writer that needs more room than half a table's entries opens the next table. From
/// then on new keys go there, and every change of the map has a few homes of the old table moved,
/// by whoever has the mover's lock at that moment; nobody waits for that lock. A home moves under
/// the claim of its keys: each key is put into the new table, then taken out of the old one. So
/// - a key that is there is at every moment in one of the two, and never goes back: readers look in
///   the old table, then in the new, then in any that has been opened meanwhile, and cannot miss
///   it;
/// - no change of a key comes between its copy and its removal;
/// - a home that is done is empty for ever in the old table, which readers then pass over.
/// When all homes are done the new table is the only one, and the next growth may begin. An insert
/// waits for the mover only where the new table is half full and the old one not empty yet, which
/// takes a claim held all that time: moving keeps ahead of inserting (homes_each).
///
/// Tables take addresses when the index is made, and memory when they are used. Nobody knows which
/// reader still looks at an old one, so its addresses stay with the index; give_back() gives its
/// memory back at any time, and readers find zeros there, which are no keys.
///
/// A walk goes home by home of the table that was the oldest when it began, and takes all keys of
/// the home, in both tables, at one moment with no move of that home in it.
///
/// Edges (those of entries, I, are in seq_table.h)
///   [G1] next table opened (release) -> [G2] looked for (acquire), behind a look at the table
///        before: who misses a key because it moved sees where to.
///   [G3] home done (release) -> [G4] compared with (acquire): who passes a home over sees its keys
///        in the next table.
///   [G5] home said to be in motion, then a release fence -> [G6] a walk's acquire fence, then the
///        same word again: a walk that saw anything of a move starts the home again.
///   [G7] table made the oldest, all of the one before done (release) -> [G8] loaded (acquire).
///   [G9] read under the mover's lock (base/spin_lock.h), under which alone it changes.
///   [C1] claim taken (acquire) <- [C2] claim released (release): the next writer of a home sees
///        all the last one did.
#pragma once
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
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

/// Claims of homes by writers: one word for all homes that agree in some low bits. Two that share
/// one only wait for each other.
class key_claims {
 public:
  static constexpr std::uint32_t nobody = 0, mover = ~std::uint32_t{0};
  static constexpr std::uint32_t no_stripe = ~std::uint32_t{0};

  explicit key_claims(std::uint64_t groups);

  [[nodiscard]] std::uint32_t stripe(std::uint64_t hash) const noexcept {
    return static_cast<std::uint32_t>(hash) & mask_;
  }
  /// Takes the stripe for `owner` (not nobody), or returns who has it.
  std::uint32_t try_take(std::uint32_t stripe, std::uint32_t owner) noexcept {
    std::uint32_t found = nobody;
    return takes(stripe, owner, found) ? owner : found;
  }
  /// Waits for it, whoever has it: owners may share an id.
  void take(std::uint32_t stripe, std::uint32_t owner) noexcept {
    short_wait wait;
    for (std::uint32_t found = nobody; !takes(stripe, owner, found); found = nobody)
      wait.round();
  }
  void give_back(std::uint32_t stripe) noexcept {
    words_[stripe].store(nobody, std::memory_order_release); // [C2] pairs with [C1]
  }
  [[nodiscard]] std::uint32_t owner(std::uint32_t stripe) const noexcept {
    return words_[stripe].load(std::memory_order_relaxed); // [C1] compared with our own id only
  }
  [[nodiscard]] std::uint32_t stripes() const noexcept { return mask_ + 1; }

 private:
  /// `found` is nobody before, and afterwards who has it where it was not free.
  bool takes(std::uint32_t stripe, std::uint32_t owner, std::uint32_t& found) noexcept {
    return words_[stripe].compare_exchange_strong(found, owner,
                                                  std::memory_order_acquire, // [C1] pairs with [C2]
                                                  std::memory_order_relaxed); // [C1] nothing taken
  }

  std::uint32_t mask_;
  std::unique_ptr<std::atomic<std::uint32_t>[]> words_;
};

/// Tables and their growth.
template <std::size_t PayloadWords> class alignas(cacheline_size) seq_index {
 public:
  using table = seq_table<PayloadWords>;
  using payload = typename table::payload;
  using first_look = typename table::first_look;
  static constexpr std::uint64_t none = ~std::uint64_t{0};
  /// Homes that a change of the map moves. A table is half full after as many inserts as half the
  /// entries of the one before, which has at most one home an entry: two would be enough.
  static constexpr unsigned homes_each = 4;

 private:
  /// A table with its place in the row. Lookups read the first line only.
  struct alignas(cacheline_size) level : table {
    std::atomic<level*> next{nullptr};
    std::uint64_t capacity = 0; ///< keys
    std::uint64_t number = 0;
    /// Of the move to the next: bit 0: home `done` is in motion; 1..40: homes done; 41..63: moves
    /// that found no entry.
    alignas(cacheline_size) std::atomic<std::uint64_t> progress{0};

    static constexpr std::uint64_t in_motion = 1, one_done = 2, one_failed = std::uint64_t{1} << 41;
    static constexpr std::uint64_t done(std::uint64_t progress) noexcept {
      return (progress & (one_failed - 1)) >> 1;
    }
    [[nodiscard]] std::uint64_t home(std::uint64_t hash) const noexcept {
      return hash & (this->groups() - 1);
    }
    [[nodiscard]] bool moved(std::uint64_t hash) const noexcept {
      return home(hash) < done(progress.load(std::memory_order_acquire)); // [G4] pairs with [G3]
    }
    [[nodiscard]] level* after() const noexcept {
      return next.load(std::memory_order_acquire); // [G2] pairs with [G1]
    }
  };

 public:
  /// Room for `first` keys, growing up to `capacity` (both at least 1, first the smaller).
  [[nodiscard]] static result<seq_index> create(std::uint64_t first, std::uint64_t capacity) {
    seq_index index;
    const std::uint64_t least = table::slots_for(first), most = table::slots_for(capacity);
    const auto count = static_cast<std::size_t>(std::countr_zero(most) - std::countr_zero(least));
    index.levels_ = std::make_unique<level[]>(count + 1);
    for (std::size_t i = 0; i <= count; ++i) {
      level& l = index.levels_[i];
      if (auto taken = l.take(least << i); !taken) return taken.error();
      l.number = i;
      l.capacity = (least << i) / 2;
    }
    index.last_ = &index.levels_[count];
    index.oldest_.store(&index.levels_[0], std::memory_order_relaxed); // [G7] alone yet
    return index;
  }

  /// Only while nobody else uses it.
  seq_index(seq_index&& other) noexcept
      : levels_(std::move(other.levels_)), last_(other.last_), oldest_(other.oldest()) {}
  seq_index& operator=(seq_index&&) = delete;

  // --- lookups ----------------------------------------------------------------------------------

  /// Calls match(payload) for entries that may hold the key, until it says true of one whose
  /// payload was whole. What match() copied out counts only then. False: no such key.
  template <class Match> [[nodiscard]] bool read(std::uint64_t hash, Match&& match) const noexcept {
    for (const level* l = first_for(hash);;) {
      if (l->read(hash, match)) return true;
      l = l->after();
      if (l == nullptr) [[likely]]
        return false;
    }
  }

  /// Where the keys of a burst are looked for.
  class view {
   public:
    void prefetch(std::uint64_t hash) const noexcept { of(hash)->prefetch(hash); }
    /// The first step of read(): looks at one group, and says farther where that does not decide.
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

  /// The slot of the key, or none. Stays right while the claim is held.
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
  [[nodiscard]] payload at(std::uint64_t slot) const noexcept {
    return level_of(slot).at(slot & slot_mask);
  }

  // --- growth -----------------------------------------------------------------------------------

  /// False: it never will again.
  [[nodiscard]] bool may_grow() const noexcept { return oldest() != last_; }
  [[nodiscard]] bool growing() const noexcept { return oldest()->after() != nullptr; }
  /// Keys that the newest table takes.
  [[nodiscard]] std::uint64_t room() const noexcept { return newest()->capacity; }

  /// True: there is room for that many keys in all; opens the next table for that where it must and
  /// can. False: the mover has to get on first.
  [[nodiscard]] bool make_room(std::uint64_t keys) noexcept {
    for (;;) {
      level* l = oldest();
      if (level* next = l->after(); next != nullptr) return keys <= next->capacity || next == last_;
      if (keys <= l->capacity || l == last_) return true;
      level* nobody = nullptr;
      l->next.compare_exchange_strong(nobody, l + 1,              // one opens it
                                      std::memory_order_release,  // [G1] pairs with [G2]
                                      std::memory_order_relaxed); // [G1] another did; seen above
      hook_point("map.grow");
    }
  }
  /// The same, waiting for the mover and helping it. The caller holds no claim but `held`, and no
  /// slot. False: keys that all hash alike leave no entry to move to.
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

  enum class step : std::uint8_t { moved, blocked, stuck, idle };
  /// Moves up to `homes` homes, where nobody else is at it and their claims are free or `held`.
  /// hash_of(payload) is the hash its key was inserted with; called under the key's claim.
  template <class Claims, class Hash>
  step move(Claims& claims, Hash&& hash_of, unsigned homes, std::uint32_t held) noexcept {
    if (!growing()) return step::idle;
    const std::unique_lock mover(moving_, std::try_to_lock);
    if (!mover.owns_lock()) return step::blocked;
    step s = step::moved;
    level* from = oldest();
    for (level* to = from->after(); s == step::moved && to != nullptr && homes != 0; --homes) {
      const std::uint64_t home =
          level::done(from->progress.load(std::memory_order_relaxed)); // [G9] the mover's own
      const std::uint32_t stripe = claims.stripe(home);
      const bool own = stripe == held || seeded_bug("map.move_unclaimed");
      if (!own && claims.try_take(stripe, Claims::mover) != Claims::mover) {
        s = step::blocked;
        break;
      }
      if (!move_home(*from, *to, home, hash_of)) s = step::stuck;
      if (!own) claims.give_back(stripe);
      if (s == step::moved && home + 1 == from->groups()) {
        oldest_.store(to, std::memory_order_release); // [G7] pairs with [G8]
        hook_point("map.grown");
        to = nullptr;
      }
    }
    return s;
  }

  /// Gives the memory of outgrown tables back: system calls.
  void give_back() noexcept {
    for (level* l = &levels_[0]; l != oldest(); ++l)
      (void)l->give_back();
  }

  /// Begins with the table for that many keys. Alone, before the first insert.
  void begin_with(std::uint64_t keys) noexcept {
    level* l = oldest();
    while (l != last_ && l->capacity < keys)
      ++l;
    oldest_.store(l, std::memory_order_release); // [G7] pairs with [G8]
  }

  /// A walk over the keys, home by home, while others write: each key that is there from its
  /// beginning to its end comes exactly once.
  template <class Item> class walk {
   public:
    explicit walk(const seq_index& index) noexcept : base_(index.oldest()) {}

    /// Fills `out` with copy(payload) of each key of the next home. False: that was all.
    template <class Copy> [[nodiscard]] bool next(std::vector<Item>& out, Copy&& copy) {
      if (depth_ == 0) {
        if (home_ == base_->groups()) return false;
        todo_[depth_++] = {base_, home_++};
      }
      auto [l, home] = todo_[--depth_];
      for (short_wait wait;;) {
        const auto seen = l->progress.load(std::memory_order_acquire); // [G4] pairs with [G3]
        const std::uint64_t done = level::done(seen);
        if (home < done) { // its keys are those of two homes of the next table
          const level* n = l->after();
          todo_[depth_++] = {n, home + l->groups()};
          l = n;
          continue;
        }
        if (home == done && (seen & level::in_motion) != 0) {
          hook_point("map.walk.wait");
          wait.round(); // a few instructions
          continue;
        }
        out.clear();
        l->collect(home, out, copy);
        if (const level* n = l->after(); n != nullptr) {
          hook_point("map.walk");
          n->collect(home, out, copy);
          n->collect(home + l->groups(), out, copy);
        }
        std::atomic_thread_fence(std::memory_order_acquire);          // [G6] pairs with [G5]
        const auto now = l->progress.load(std::memory_order_relaxed); // [G6]
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

  /// Of the newest table.
  [[nodiscard]] std::uint64_t groups() const noexcept { return newest()->groups(); }
  /// Sum of the reaches of all its groups: what misses look at beyond the first group.
  [[nodiscard]] std::uint64_t total_reach() const noexcept { return newest()->total_reach(); }
  /// Tables that have been outgrown.
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
    return oldest_.load(std::memory_order_acquire); // [G8] pairs with [G7]
  }
  [[nodiscard]] level* newest() const noexcept {
    level* l = oldest();
    for (level* n = l->after(); n != nullptr; n = n->after())
      l = n;
    return l;
  }
  /// The first table in which the key may be.
  [[nodiscard]] const level* first_for(std::uint64_t hash) const noexcept {
    const level* l = oldest();
    if (const level* n = l->after(); n != nullptr) [[unlikely]]
      if (l->moved(hash)) return n;
    return l;
  }

  template <class Hash>
  static bool move_home(level& from, level& to, std::uint64_t home, Hash& hash_of) noexcept {
    const auto before = from.progress.load(std::memory_order_relaxed);         // [G9] ours
    from.progress.store(before | level::in_motion, std::memory_order_relaxed); // [G5] fence below
    std::atomic_thread_fence(std::memory_order_release); // [G5] pairs with [G6]
    const bool all = from.for_home(home, [&](std::uint64_t at, const payload& p) {
      std::uint64_t hash = hash_of(p);
      if (seeded_bug("map.move_signed")) // a remainder that is negative, and made to fit
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
    from.progress.store(before + (all ? level::one_done : level::one_failed),
                        std::memory_order_release); // [G3] pairs with [G4]
    hook_point("map.moved");
    return all;
  }

  std::unique_ptr<level[]> levels_;
  level* last_ = nullptr;
  std::atomic<level*> oldest_{nullptr};      ///< the only one with keys, if it has no next
  alignas(cacheline_size) spin_lock moving_; ///< the mover's lock
};

} // namespace chainring::detail
