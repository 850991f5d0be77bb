// SPDX-License-Identifier: BSD-3-Clause
/// One hash table of the index under seq_map and durable_map (seq_index.h): open addressing with
/// linear probing. An entry is a version word and a few payload words, and is a seqlock of its own.
///
/// Entries lie in groups of one cache line; an entry larger than that is a group by itself. A key's
/// home is a group. A key that finds its home full lies in a later group, and the *reach* of its
/// home says how many groups behind the home its keys lie at most. Word 0 of an entry:
///
///     63           31 30      23 22          15 14       3    2      1..0
///     +--------------+----------+--------------+----------+--------+-------+
///     | version      | reach    | displacement | tag      | locked | state |
///     +--------------+----------+--------------+----------+--------+-------+
///
/// The reach stands only in the first entry of a group. It belongs to the group, and the holder of
/// the claim of the group's keys changes it. The other fields are those of the entry. The
/// displacement is the number of groups from the key's home to this one. The state is empty,
/// reserved (an insert is filling the entry) or live. While `locked` is set the payload is being
/// replaced, and a reader of its tag waits for those few instructions. Every change of an entry
/// changes its version, so a payload that a reader copied under one version is whole. Within a
/// table a key never moves while it lives.
///
/// There are no tombstones. A probe ends at the reach, not at an empty entry. So an erased entry is
/// empty at once, and the next insert takes the first empty entry on its probe. The erase of the
/// farthest key lowers the reach to that of the farthest key left. So lookups do not become slower
/// while keys come and go. (Tombstones were tried: at a load of 61 %, with sweeping of those at the
/// end of a run, every entry was a tombstone or a key after random churn of 100 times the
/// capacity.)
///
/// Writers of one home exclude each other before they come here (key_claims, seq_index.h). Writers
/// of different homes meet only in word 0, so every change of word 0 is a read-modify-write.
///
/// A table whose keys are all gone for good may be zeroed while readers look at it (give_back()).
/// Word 0 of a live entry is never zero, so they find nothing there.
///
/// A batch changes several entries at one moment for readers: it locks all of them, also those that
/// it adds, before it gives the first its new payload and unlocks it. So a reader that has seen one
/// change of the batch finds every other entry of it locked or changed.
///
/// Ordering labels:
///   [entry-live]  A writer stores the payload and then makes word 0 live with release; a reader
///     loads word 0 with acquire, so a reader that sees a version sees its payload; pairs with
///     [entry-live].
///   [entry-changing]  A writer makes word 0 reserved or locked and then makes a release fence; a
///     reader copies the payload, makes an acquire fence and loads word 0 again, so a reader that
///     copied a word of a later payload sees a later version and reads the entry again; pairs with
///     [entry-changing].
///   [batch-locked]  A batch locks its entries and then unlocks the first of them with release; a
///     reader loads word 0 of each entry with acquire, so a reader that sees one of them unlocked
///     sees every other one locked or changed; pairs with [batch-locked].
///   [entry-emptied]  A writer makes an entry empty with release; an insert reserves it with
///     acquire, so what the last owner did with what the payload names lies before what the next
///     owner does; a reader that misses a key because it was moved sees it in the next table; pairs
///     with [entry-emptied].
///   [reach-set]  The reach is raised with release after the key is live, and lowered after the key
///     is gone; a reader loads it with acquire, so a reader that looks that far sees the key there;
///     pairs with [reach-set].
///
/// The label of claims is described in seq_index.h.
#pragma once
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "../base/cacheline.h"
#include "../base/error.h"
#include "../seqlock/seqlock.h"

namespace chainring::detail {

/// Zeroed memory, in huge pages where there are any. The destructor gives it back.
class table_memory {
 public:
  table_memory() noexcept = default;
  table_memory(table_memory&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), size_(other.size_) {}
  table_memory& operator=(table_memory&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~table_memory();
  /// Takes zeroed memory. False: there is none; errno says why.
  [[nodiscard]] bool take(std::uint64_t size) noexcept;
  [[nodiscard]] void* at() const noexcept { return at_; }
  /// Zeroes the memory and gives it back, but keeps the addresses. False: it is too small for that.
  bool give_back() noexcept;

 private:
  void* at_ = nullptr;
  std::uint64_t size_ = 0;
};

template <std::size_t PayloadWords> class seq_table {
 public:
  using payload = std::array<std::uint64_t, PayloadWords>;
  static constexpr std::uint64_t none = ~std::uint64_t{0};

  /// The result of read_home(), the first step of a lookup.
  enum class first_look : std::uint8_t { found, missing, farther };

  seq_table() noexcept = default;

  /// Returns the number of entries for `capacity` keys at a load of at most one half. At that load
  /// the longest reach to expect among 2^32 keys is far below the largest that word 0 can hold.
  [[nodiscard]] static constexpr std::uint64_t slots_for(std::uint64_t capacity) noexcept {
    return std::bit_ceil(capacity * 2 < group_size ? group_size : capacity * 2);
  }
  /// Takes the memory for `slots` entries, a power of two and at least one group. Called once.
  /// False: there is none; errno says why.
  [[nodiscard]] bool take(std::uint64_t slots) noexcept {
    if (!memory_.take(bytes_for(slots))) return false;
    entries_ = static_cast<entry*>(memory_.at());
    mask_ = slots / group_size - 1;
    return true;
  }
  [[nodiscard]] static constexpr std::uint64_t bytes_for(std::uint64_t slots) noexcept {
    return slots * sizeof(entry);
  }
  /// Gives the memory back. The table holds no key and will never hold one.
  bool give_back() noexcept { return memory_.give_back(); }

  [[nodiscard]] std::uint64_t slots() const noexcept { return groups() * group_size; }
  [[nodiscard]] std::uint64_t groups() const noexcept { return mask_ + 1; }

  void prefetch(std::uint64_t hash) const noexcept { __builtin_prefetch(group(hash)); }

  /// Calls match(payload) for entries that may hold the key, until it returns true for an entry
  /// that did not change meanwhile. What match() copied out counts only then. False: the key is
  /// missing.
  template <class Match> [[nodiscard]] bool read(std::uint64_t hash, Match&& match) const noexcept {
    const std::uint64_t reach = reach_of(hash);
    for (std::uint64_t d = 0; d <= reach; ++d)
      if (read_group(hash, d, match)) return true;
    return false;
  }

  /// The first step of read(), for bursts. Looks only at the home group, and prefetches the next
  /// one when the key may lie farther.
  template <class Match>
  [[nodiscard]] first_look read_home(std::uint64_t hash, Match&& match) const noexcept {
    entry* g = group(hash);
    const std::uint64_t wanted = live | tag_of(hash);
    // The position of the key in its group is random, so the entry is chosen without a branch.
    std::uint64_t words[group_size];
    std::size_t chosen = 0;
    for (std::size_t i = group_size; i-- > 0;) {
      words[i] = g[i].version.load(std::memory_order_acquire); // [entry-live] [batch-locked]
      chosen = (words[i] & (key_mask | locked)) == wanted ? i : chosen;
    }
    const std::uint64_t word = words[chosen];
    if ((word & (key_mask | locked)) == wanted) [[likely]] {
      const bool same = match(load(g[chosen]));
      std::atomic_thread_fence(std::memory_order_acquire); // [entry-changing]
      if (unchanged(g[chosen], word) && same) [[likely]]
        return first_look::found;
      return first_look::farther; // keys share a tag, or a writer is at work: look again
    }
    bool busy = false;
    for (std::size_t i = 0; i < group_size; ++i)
      busy |= (words[i] & key_mask) == wanted;
    if (!busy && (words[0] & reach_mask) == 0) return first_look::missing;
    __builtin_prefetch(group(hash, 1));
    return first_look::farther;
  }

  /// Appends copy(payload) for each key of a home. Each was in the table, and whole, at one moment.
  template <class Item, class Copy>
  void collect(std::uint64_t home, std::vector<Item>& out, Copy&& copy) const {
    const std::uint64_t reach = reach_of(home);
    for (std::uint64_t d = 0; d <= reach; ++d) {
      entry* g = group(home, d);
      for (std::size_t i = 0; i < group_size; ++i) {
        entry& e = g[i];
        short_wait wait;
        for (;;) {
          const auto word = e.version.load(std::memory_order_acquire); // [entry-live]
          if ((word & home_mask) != (live | d << displacement_shift)) break;
          if ((word & locked) == 0) {
            out.push_back(copy(load(e)));
            std::atomic_thread_fence(std::memory_order_acquire); // [entry-changing]
            if (unchanged(e, word)) break;
            out.pop_back();
          }
          wait.round();
        }
      }
    }
  }

  // --- for the holder of the claim of the key's home --------------------------------------------

  /// Returns the slot of the key, or none. The slot stays right while the claim is held.
  template <class Match>
  [[nodiscard]] std::uint64_t find(std::uint64_t hash, Match&& match) const noexcept {
    const std::uint64_t reach = reach_of(hash);
    for (std::uint64_t d = 0; d <= reach; ++d) {
      const std::uint64_t first = number(hash, d) * group_size;
      for (std::uint64_t at = first; at < first + group_size; ++at) {
        // While the claim is held, no other thread changes the keys of the home. An entry of
        // another home has another displacement in this group.
        const auto word = entries_[at].version.load(std::memory_order_relaxed); // [key-claimed]
        if ((word & key_mask) == (live | tag_of(hash) | d << displacement_shift) &&
            match(load(entries_[at])))
          return at;
      }
    }
    return none;
  }

  /// Adds a key that find() did not find. None: no entry within the longest reach is empty.
  std::uint64_t insert(std::uint64_t hash, const payload& value) noexcept {
    return insert(hash, value, live);
  }
  /// The same, and leaves the entry locked: readers of the key wait until unlock() or erase().
  std::uint64_t insert_locked(std::uint64_t hash, const payload& value) noexcept {
    return insert(hash, value, live | locked);
  }
  /// Locks a live slot: readers of the key wait until unlock(), replace() or erase().
  void lock(std::uint64_t at) noexcept {
    entry& e = entries_[at];
    const std::uint64_t word = fields(e);
    change(e, word, word | locked, std::memory_order_relaxed); // [batch-locked]
  }
  void unlock(std::uint64_t at) noexcept {
    entry& e = entries_[at];
    const std::uint64_t word = fields(e);
    // [batch-locked] Without it a reader could see one change of a batch, and then a key as it was
    // before the batch.
    change(e, word, word & ~locked, std::memory_order_release); // [batch-locked]
  }

  /// Replaces the payload of a live slot, which may be locked.
  void replace(std::uint64_t at, const payload& value) noexcept {
    entry& e = entries_[at];
    const std::uint64_t word = fields(e);
    change(e, word, word | locked, std::memory_order_relaxed); // [entry-changing]
    std::atomic_thread_fence(std::memory_order_release);       // [entry-changing]
    store(e, value);
    change(e, word | locked, bump(word, live), std::memory_order_release); // [entry-live]
  }

  /// Removes the key of a live slot, which may be locked.
  void erase(std::uint64_t at) noexcept {
    entry& e = entries_[at];
    const std::uint64_t word = fields(e);
    const std::uint64_t d = (word & displacement_mask) >> displacement_shift;
    const std::uint64_t home = home_of(at / group_size, d);
    // [entry-emptied] Without it the next owner of the entry could reuse what its payload names
    // while the last owner still uses it.
    change(e, word, (word & version_mask) + version_step,
           std::memory_order_release); // [entry-emptied]
    std::uint64_t reach = reach_of(home);
    if (d == 0 || d != reach) return;
    while (reach > 0 && !has_key(home, reach))
      --reach;
    if (reach != d) set_reach(home, reach);
  }

  /// The payload of a live slot.
  [[nodiscard]] payload at(std::uint64_t slot) const noexcept { return load(entries_[slot]); }

  /// Calls fn(slot, payload) for each key of a home until it returns false. fn may erase that slot.
  template <class Fn> bool for_home(std::uint64_t home, Fn&& fn) const {
    const std::uint64_t reach = reach_of(home);
    for (std::uint64_t d = 0; d <= reach; ++d) {
      const std::uint64_t first = number(home, d) * group_size;
      for (std::uint64_t at = first; at < first + group_size; ++at) {
        const auto word = entries_[at].version.load(std::memory_order_relaxed); // [key-claimed]
        if ((word & home_mask) == (live | d << displacement_shift) && !fn(at, load(entries_[at])))
          return false;
      }
    }
    return true;
  }

  /// The sum of the reaches of all groups, for tests and statistics: the groups that misses read
  /// beyond the first.
  [[nodiscard]] std::uint64_t total_reach() const noexcept {
    std::uint64_t sum = 0;
    for (std::uint64_t g = 0; g <= mask_; ++g)
      sum += reach_of(g);
    return sum;
  }

 private:
  static constexpr std::uint64_t empty = 0, reserved = 1, live = 2, state_mask = 3, locked = 4;
  static constexpr unsigned tag_shift = 3, tag_bits = 12;
  static constexpr unsigned displacement_shift = 15, reach_shift = 23, version_shift = 31;
  static constexpr std::uint64_t reach_max = 255; // groups
  static constexpr std::uint64_t tag_mask = ((std::uint64_t{1} << tag_bits) - 1) << tag_shift;
  static constexpr std::uint64_t displacement_mask = reach_max << displacement_shift;
  static constexpr std::uint64_t reach_mask = reach_max << reach_shift;
  static constexpr std::uint64_t version_step = std::uint64_t{1} << version_shift;
  static constexpr std::uint64_t version_mask = ~(version_step - 1);
  static constexpr std::uint64_t home_mask = displacement_mask | state_mask;
  static constexpr std::uint64_t key_mask = home_mask | tag_mask;

  /// An entry lies in no more lines than its size requires.
  static constexpr std::size_t entry_words =
      PayloadWords + 1 <= 8 ? std::bit_ceil(PayloadWords + 1) : (PayloadWords + 8) / 8 * 8;
  static constexpr std::size_t group_size = entry_words < 8 ? 8 / entry_words : 1;
  struct alignas(entry_words < 8 ? entry_words * 8 : 64) entry {
    std::atomic<std::uint64_t> version;
    std::atomic<std::uint64_t> payload[entry_words - 1];
  };
  static_assert(sizeof(entry) == entry_words * 8);

  static std::uint64_t tag_of(std::uint64_t hash) noexcept {
    return hash >> (64 - tag_bits) << tag_shift;
  }
  /// Returns the next version of the entry's word 0, unlocked, in another state.
  static std::uint64_t bump(std::uint64_t word, std::uint64_t state) noexcept {
    return ((word & ~(state_mask | locked)) + version_step) | state;
  }
  /// Returns the group `d` behind a home. The first is the other line of the pair of 128 bytes,
  /// which the processor tends to fetch as well; then they follow pair by pair. For a given d each
  /// group belongs to exactly one home: home_of().
  [[nodiscard]] std::uint64_t number(std::uint64_t home, std::uint64_t d) const noexcept {
    return ((home ^ (d & 1)) + (d & ~std::uint64_t{1})) & mask_;
  }
  [[nodiscard]] std::uint64_t home_of(std::uint64_t group, std::uint64_t d) const noexcept {
    return ((group - (d & ~std::uint64_t{1})) ^ (d & 1)) & mask_;
  }
  [[nodiscard]] entry* group(std::uint64_t home, std::uint64_t d = 0) const noexcept {
    return &entries_[number(home, d) * group_size];
  }
  static payload load(entry& e) noexcept {
    payload copy;
    for (std::size_t i = 0; i < PayloadWords; ++i)
      copy[i] = e.payload[i].load(std::memory_order_relaxed); // [entry-changing]
    return copy;
  }
  static void store(entry& e, const payload& value) noexcept {
    for (std::size_t i = 0; i < PayloadWords; ++i)
      e.payload[i].store(value[i], std::memory_order_relaxed); // [entry-changing]
  }
  /// True when the entry has not changed. The acquire fence of the reader comes before.
  static bool unchanged(entry& e, std::uint64_t word) noexcept {
    const std::uint64_t now = e.version.load(std::memory_order_relaxed); // [entry-changing]
    return ((now ^ word) & ~reach_mask) == 0;
  }
  /// Returns word 0 of an entry whose claim is held, without the reach, which another home may own.
  static std::uint64_t fields(entry& e) noexcept {
    return e.version.load(std::memory_order_relaxed) & ~reach_mask; // [key-claimed]
  }
  /// Changes the fields of an entry whose claim is held. The reach beside them may change
  /// meanwhile.
  static void change(entry& e, std::uint64_t from, std::uint64_t to,
                     std::memory_order order) noexcept {
    // [entry-live] [entry-changing] [entry-emptied] [batch-locked]
    e.version.fetch_add(to - from, order);
  }

  /// Adds a key in state `as`.
  std::uint64_t insert(std::uint64_t hash, const payload& value, std::uint64_t as) noexcept {
    const std::uint64_t farthest = reach_max < mask_ ? reach_max : mask_;
    for (std::uint64_t d = 0; d <= farthest; ++d) {
      const std::uint64_t first = number(hash, d) * group_size;
      for (std::uint64_t at = first; at < first + group_size; ++at) {
        entry& e = entries_[at];
        std::uint64_t mine = 0;
        if (!reserve(e, tag_of(hash) | d << displacement_shift, mine)) continue;
        // [entry-changing] Without it a reader could copy words of two payloads and take them for
        // one.
        std::atomic_thread_fence(std::memory_order_release); // [entry-changing]
        store(e, value);
        // [entry-live] Without it a reader could see a live entry before its payload.
        change(e, mine, bump(mine, as), std::memory_order_release); // [entry-live]
        if (d > reach_of(hash)) set_reach(hash, d);
        return at;
      }
    }
    return none;
  }

  /// Reserves an empty entry. `mine` becomes its fields.
  static bool reserve(entry& e, std::uint64_t key_fields, std::uint64_t& mine) noexcept {
    std::uint64_t word = e.version.load(std::memory_order_relaxed); // [entry-emptied]
    while ((word & state_mask) == empty) {
      mine = ((word & version_mask) + version_step) | key_fields | reserved;
      if (e.version.compare_exchange_weak(word, mine | (word & reach_mask),
                                          std::memory_order_acquire,  // [entry-emptied]
                                          std::memory_order_relaxed)) // [entry-emptied]
        return true;
    }
    return false;
  }

  [[nodiscard]] std::uint64_t reach_of(std::uint64_t home) const noexcept {
    const auto word = group(home)->version.load(std::memory_order_acquire); // [reach-set]
    return (word & reach_mask) >> reach_shift;
  }
  void set_reach(std::uint64_t home, std::uint64_t reach) noexcept {
    // [reach-set] Without it a reader could look as far as the key lies and not see it there.
    const std::uint64_t by = (reach - reach_of(home)) << reach_shift;
    group(home)->version.fetch_add(by, std::memory_order_release); // [reach-set]
  }
  /// True where a key of `home` lies `d` groups behind it.
  [[nodiscard]] bool has_key(std::uint64_t home, std::uint64_t d) const noexcept {
    entry* g = group(home, d);
    for (std::size_t i = 0; i < group_size; ++i) {
      const auto word = g[i].version.load(std::memory_order_relaxed); // [key-claimed]
      if ((word & home_mask) == (live | d << displacement_shift)) return true;
    }
    return false;
  }

  template <class Match>
  bool read_group(std::uint64_t hash, std::uint64_t d, Match& match) const noexcept {
    const std::uint64_t wanted = live | tag_of(hash) | d << displacement_shift;
    entry* g = group(hash, d);
    for (std::size_t i = 0; i < group_size; ++i) {
      entry& e = g[i];
      short_wait wait;
      for (;;) {
        const auto word = e.version.load(std::memory_order_acquire); // [entry-live] [batch-locked]
        if ((word & key_mask) != wanted) break;
        if ((word & locked) == 0) {
          const bool same = match(load(e));
          std::atomic_thread_fence(std::memory_order_acquire); // [entry-changing]
          if (unchanged(e, word)) {
            if (same) return true;
            break;
          }
        }
        wait.round();
      }
    }
    return false;
  }

  table_memory memory_;
  entry* entries_ = nullptr;
  std::uint64_t mask_ = 0; ///< the number of groups less one
};

} // namespace chainring::detail
