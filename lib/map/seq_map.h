// SPDX-License-Identifier: BSD-3-Clause
/// seq_map: a hash map in DRAM that any number of threads read without a lock while several threads
/// write.
///
/// **When to use:** lookups by many lcores of small trivially copyable values that change now and
/// then. **When not:** values that own memory; keys or values of more than a few cache lines; data
/// that must survive a crash (durable_map.h).
///
/// **Thread-safety:** any thread may make any call, except construction and destruction. Lookups
/// take no lock and write nothing. A lookup that meets a value being replaced reads that entry
/// again. Writers of one key take turns; writers of different keys rarely meet. A callback runs
/// while its key is claimed, so it must not call the map.
///
/// **Exceptions:** callbacks of alter(), retain() and for_each() may throw. The caller gets the
/// exception, the key that the callback was called for stays as it is, and other threads may change
/// it at once. What retain() had erased before stays erased. The callback of find_if() is noexcept.
/// Hash functions, and == and < of values, must not throw.
///
/// **Consistency:** each call is atomic for its key. for_each() visits every key that is in the map
/// from its beginning to its end exactly once, with a value that the key had in between. It may
/// also visit other keys.
///
/// **Batches:** an `atomic_batch` gathers changes of up to 256 keys, which all become visible at
/// one moment, or none of them does. A thread that has seen one change of a batch, by whatever
/// call, sees all others of it from then on. read_together() is for several keys of one moment: no
/// batch comes between them. A batch is for keys that belong together. **When not:** changes that
/// need not be seen together, which are cheaper one by one. commit() takes O(n log n) for n
/// changes, and readers of these keys wait while their entries are replaced, a few instructions for
/// each. Two batches become visible one after the other, and a batch waits for the writers of its
/// keys as any change does. Batches cost the lookups of a map nothing.
///
/// **Growth:** a map made with `first` below its capacity begins with room for that many keys, and
/// doubles while it is used (seq_index.h). Lookups and walks go on as before, each change moves a
/// few homes along, and no call does more than that. An insert waits only where a callback, or a
/// thread that is off its CPU, holds the mover up until the next table is full as well.
///
/// A map of create_unbounded() grows so as long as it gets memory. Its callers need not know how
/// many keys there will be; the change that opens a table makes a system call for it.
///
/// **Memory:** a map with a capacity takes all its addresses when it is created: 2 to 4 entries for
/// each key of capacity. An entry is 8 bytes and key and value, rounded up to 16, 32 or 64 bytes or
/// to whole lines. Outgrown tables take as much again until trim() gives it back. Large tables take
/// memory as they are used. Afterwards only walks allocate memory, for the keys of one home.
///
/// **Performance:** a hit reads one cache line at the loads that are allowed. get_bulk() prefetches
/// the lines of all keys of a burst before it looks at the first. There are no tombstones
/// (seq_index.h), so lookups do not become slower while keys come and go.
///
/// Keys are compared as bytes, so K has no padding. The map is volatile: it is not durable.
///
/// Ordering labels:
///   [key-count]  The number of keys decides only when the map is full and when it grows; it orders
///     nothing.
///
/// The labels of the entries are described in seq_table.h and seq_index.h.
///
///     auto made = chainring::seq_map<client_key, session_ref>::create(1'000'000);
///     auto& map = **made;
///     map.insert(key, ref);                                     // done, exists or full
///     std::optional<session_ref> seen = map.get(key);
///     std::uint64_t hits = map.get_bulk(keys, hashes, 32, refs); // bit i: keys[i] was there
///
///     chainring::seq_map<client_key, session_ref>::atomic_batch move(map); // to another key
///     move.erase(old_key);
///     move.upsert(new_key, ref);
///     if (move.commit() != map_status::done) ...                 // full: nothing has changed
///     auto both = map.read_together([&] { return std::pair(map.get(old_key), map.get(new_key));
///     });
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

#include "../base/assert.h"
#include "../base/error.h"
#include "batch_order.h"
#include "map_hash.h"
#include "map_status.h"
#include "seq_index.h"

namespace chainring {

template <class K, class V, class Hash = map_hash<K>> class seq_map {
  static_assert(std::is_trivially_copyable_v<K> && std::is_trivially_copyable_v<V>);
  static_assert(std::has_unique_object_representations_v<K>,
                "seq_map: keys are compared as bytes, so they must have no padding");

 public:
  class atomic_batch;

  /// The most keys of one get_bulk().
  static constexpr unsigned bulk_max = 64;

  /// Makes a map with room for `capacity` keys (1 to 2^40), of which `first` have room at first (0:
  /// all). Errors: invalid_argument, no_space.
  [[nodiscard]] static result<std::unique_ptr<seq_map>>
  create(std::uint64_t capacity, Hash hash = Hash{}, std::uint64_t first = 0) {
    if (capacity == 0 || capacity > most)
      return error{errc::invalid_argument,
                   "map capacity " + std::to_string(capacity) + ": expected 1 to 2^40 keys"};
    if (first > capacity)
      return error{errc::invalid_argument, "map with room for " + std::to_string(first) +
                                               " keys at first: expected at most its capacity, " +
                                               std::to_string(capacity)};
    auto index = index_type::create(first == 0 ? capacity : first, capacity);
    if (!index) return index.error();
    return std::unique_ptr<seq_map>(new seq_map(std::move(index).value(), capacity, hash));
  }
  /// Makes a map with room for `first` keys that grows while there is memory, up to 2^40 keys.
  /// A change that needs more memory than there is returns full. The map has room for at least
  /// `least_unbounded` keys at first, so that writers of different keys rarely meet. Errors:
  /// invalid_argument, no_space.
  [[nodiscard]] static result<std::unique_ptr<seq_map>> create_unbounded(std::uint64_t first = 0,
                                                                         Hash hash = Hash{}) {
    if (first > most)
      return error{errc::invalid_argument, "map with room for " + std::to_string(first) +
                                               " keys at first: expected at most 2^40"};
    auto index = index_type::create(std::max(first, least_unbounded), most,
                                    index_type::addresses::when_opened);
    if (!index) return index.error();
    return std::unique_ptr<seq_map>(new seq_map(std::move(index).value(), most, hash));
  }
  static constexpr std::uint64_t least_unbounded = 512;

  /// Returns the hash that the calls which take a hash expect.
  [[nodiscard]] std::uint64_t hash(const K& key) const noexcept { return hash_(key); }

  // --- lookups ----------------------------------------------------------------------------------

  [[nodiscard]] std::optional<V> get(const K& key) const noexcept { return get(key, hash(key)); }
  [[nodiscard]] std::optional<V> get(const K& key, std::uint64_t hashed) const noexcept {
    V value;
    if (!find(key_words(key), hashed, value)) return std::nullopt;
    return value;
  }
  [[nodiscard]] bool contains(const K& key) const noexcept {
    const auto words = key_words(key);
    return index_.read(hash(key), [&](const payload& p) { return same(p, words); });
  }

  /// Looks for a key that the caller has in another form, and need not make a K of. `hashed` is
  /// what hash() returns for the key, and same(const K&) says whether it is the one. It is
  /// noexcept, because it may be shown a key that is changing, which counts for nothing.
  template <class Same>
  requires std::is_nothrow_invocable_r_v<bool, Same&, const K&>
  [[nodiscard]] std::optional<V> find_if(std::uint64_t hashed, Same&& same) const noexcept {
    V value;
    const bool found = index_.read(hashed, [&](const payload& p) {
      if (!same(key_of(p))) return false;
      value = value_of(p);
      return true;
    });
    return found ? std::optional(value) : std::nullopt;
  }

  /// Looks `n` keys up (at most bulk_max) with their hashes. Bit i of the result is set where
  /// keys[i] was found. Then values[i] is its value; otherwise values[i] is not changed.
  std::uint64_t get_bulk(const K* keys, const std::uint64_t* hashes, unsigned n,
                         V* values) const noexcept {
    CHAINRING_EXPECTS(n <= bulk_max,
                      "get_bulk() looks up to bulk_max keys up; call it again for more");
    const auto look = index_.look();
    for (unsigned i = 0; i < n; ++i)
      look.prefetch(hashes[i]);
    std::uint64_t hits = 0, farther = 0;
    for (unsigned i = 0; i < n; ++i) {
      const auto words = key_words(keys[i]);
      const auto seen = look.read_home(hashes[i], finder(words, values[i]));
      hits |= std::uint64_t{seen == index_type::first_look::found} << i;
      farther |= std::uint64_t{seen == index_type::first_look::farther} << i;
    }
    for (; farther != 0; farther &= farther - 1) {
      const int i = std::countr_zero(farther);
      hits |= std::uint64_t{find(key_words(keys[i]), hashes[i], values[i])} << i;
    }
    return hits;
  }
  /// Looks `n` keys up and hashes them itself.
  std::uint64_t get_bulk(const K* keys, unsigned n, V* values) const noexcept {
    CHAINRING_EXPECTS(n <= bulk_max,
                      "get_bulk() looks up to bulk_max keys up; call it again for more");
    std::uint64_t hashes[bulk_max];
    for (unsigned i = 0; i < n; ++i)
      hashes[i] = hash(keys[i]);
    return get_bulk(keys, hashes, n, values);
  }

  /// Calls fn(), which looks keys up, and returns what fn() returned when no batch became visible
  /// between its first lookup and its last. Changes that belong to no batch may come between them.
  /// fn() may be called several times. It is short, because batches may have to wait for it, and it
  /// does not change the map.
  template <class Fn> std::invoke_result_t<Fn&> read_together(Fn&& fn) const {
    return order_.read(fn);
  }

  /// The number of keys in the map. It is exact when no writer is at work.
  [[nodiscard]] std::uint64_t len() const noexcept { return count(); }
  /// The most keys that the map holds; without a maximum, 2^40.
  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }

  // --- changes ----------------------------------------------------------------------------------

  /// Returns done, exists or full.
  map_status insert(const K& key, const V& value) noexcept {
    return alter(key, [&](std::optional<V>& now) {
      if (now) return map_status::exists;
      now = value;
      return map_status::done;
    });
  }
  /// Returns done or missing.
  map_status update(const K& key, const V& value) noexcept {
    return alter(key, [&](std::optional<V>& now) {
      if (!now) return map_status::missing;
      now = value;
      return map_status::done;
    });
  }
  /// Returns done or full.
  map_status upsert(const K& key, const V& value) noexcept {
    return alter(key, [&](std::optional<V>& now) {
      now = value;
      return map_status::done;
    });
  }
  /// Returns done or missing.
  map_status erase(const K& key) noexcept {
    return alter(key, [&](std::optional<V>& now) {
      if (!now) return map_status::missing;
      now.reset();
      return map_status::done;
    });
  }
  /// Replaces the value if it equals `expected` (by ==). Returns done, missing or mismatch; with
  /// mismatch, `expected` holds the value that was found.
  map_status compare_exchange(const K& key, V& expected, const V& value) noexcept {
    return alter(key, [&](std::optional<V>& now) {
      if (!now) return map_status::missing;
      if (!(*now == expected)) {
        expected = *now;
        return map_status::mismatch;
      }
      now = value;
      return map_status::done;
    });
  }
  /// Adds to an integer value, and inserts it if it is missing. Returns done or full.
  map_status increment(const K& key, const V& by = V{1}) noexcept {
    return alter(key, [&](std::optional<V>& now) {
      now = now ? static_cast<V>(*now + by) : by;
      return map_status::done;
    });
  }
  /// Subtracts from an integer value, and erases the key when the value becomes 0. Returns done,
  /// missing, or mismatch when the value is less than `by`.
  map_status decrement(const K& key, const V& by = V{1}) noexcept {
    return alter(key, [&](std::optional<V>& now) {
      if (!now) return map_status::missing;
      if (*now < by) return map_status::mismatch;
      if (*now == by)
        now.reset();
      else
        now = static_cast<V>(*now - by);
      return map_status::done;
    });
  }

  /// Calls fn(std::optional<V>&) with the key's value or nothing, and makes what fn leaves there
  /// the key's: a value inserts or replaces, nothing erases. fn returns a map_status, and its
  /// changes count only with `done`. Returns that status, or full.
  template <class Fn>
  map_status alter(const K& key,
                   Fn&& fn) noexcept(std::is_nothrow_invocable_v<Fn&, std::optional<V>&>) {
    const std::uint64_t hashed = hash(key);
    map_status status;
    {
      const claim held(claims_, hashed);
      status = alter_claimed(key, hashed, held.stripe(), fn);
    }
    if (index_.growing()) [[unlikely]]
      index_.move(claims_, hash_of(), index_type::homes_each, detail::key_claims::no_stripe);
    return status;
  }

  /// Erases each key for which keep(key, value) is false. Returns how many.
  template <class Keep> std::uint64_t retain(Keep&& keep) {
    std::uint64_t erased = 0;
    walk([&](const payload& p) {
      const K key = key_of(p);
      erased += alter(key, [&](std::optional<V>& now) {
                  if (!now || keep(key, std::as_const(*now))) return map_status::missing;
                  now.reset();
                  return map_status::done;
                }) == map_status::done;
    });
    return erased;
  }

  /// Erases every key that is in the map from the beginning of the call on.
  void clear() {
    retain([](const K&, const V&) { return false; });
  }

  /// Calls fn(key, value) for each key while other threads write.
  template <class Fn> void for_each(Fn&& fn) const {
    walk([&](const payload& p) { fn(key_of(p), value_of(p)); });
  }

  // --- growth -----------------------------------------------------------------------------------

  /// Makes room for `keys` keys in all, so that the inserts up to there neither open a table nor
  /// move keys. Returns done or full. It takes O(keys), while other threads read and write as during
  /// any growth.
  map_status reserve(std::uint64_t keys) noexcept {
    if (keys > capacity_) return map_status::full;
    constexpr auto no_claim = detail::key_claims::no_stripe;
    const bool moved = index_.wait_for_room(keys, claims_, hash_of(), no_claim);
    if (moved) index_.finish_growth(claims_, hash_of());
    return moved && keys <= index_.room() ? map_status::done : map_status::full;
  }
  /// True while the index grows.
  [[nodiscard]] bool growing() const noexcept { return index_.growing(); }
  /// Moves up to `homes` homes of a growth, for a thread that has time for it. False: no home is
  /// left, or another thread is moving homes.
  bool help_grow(unsigned homes) noexcept {
    return index_.move(claims_, hash_of(), homes, detail::key_claims::no_stripe) ==
           index_type::step::moved;
  }
  /// Gives the memory of outgrown tables back to the system. It makes system calls, so it is not
  /// for the data path.
  void trim() noexcept { index_.give_back(); }

  /// The mean number of groups (cache lines) that a miss reads beyond the first. For tests and
  /// statistics; it takes O(capacity).
  [[nodiscard]] double mean_reach() const noexcept {
    return static_cast<double>(index_.total_reach()) / static_cast<double>(index_.groups());
  }

 private:
  static constexpr std::size_t key_size = detail::words_of<K>, value_size = detail::words_of<V>;
  using index_type = detail::seq_index<key_size + value_size>;
  using payload = typename index_type::payload;
  using key_array = std::array<std::uint64_t, key_size>;
  static constexpr std::uint64_t most = std::uint64_t{1} << 40; // keys

  class claim {
   public:
    claim(detail::key_claims& claims, std::uint64_t hash) noexcept
        : claims_(claims), stripe_(claims.stripe(hash)) {
      claims_.take(stripe_, 1);
    }
    ~claim() { claims_.give_back(stripe_); }
    [[nodiscard]] std::uint32_t stripe() const noexcept { return stripe_; }
    claim(const claim&) = delete;
    claim& operator=(const claim&) = delete;

   private:
    detail::key_claims& claims_;
    std::uint32_t stripe_;
  };

  seq_map(index_type index, std::uint64_t capacity, Hash hash)
      : index_(std::move(index)), claims_(index_.groups()), capacity_(capacity), hash_(hash) {}

  static key_array key_words(const K& key) noexcept { return detail::to_words(key); }
  static bool same(const payload& p, const key_array& key) noexcept {
    std::uint64_t difference = 0;
    for (std::size_t i = 0; i < key_size; ++i)
      difference |= p[i] ^ key[i];
    return difference == 0;
  }
  static K key_of(const payload& p) noexcept { return detail::from_words<K>(p.data()); }
  static V value_of(const payload& p) noexcept {
    return detail::from_words<V>(p.data() + key_size);
  }
  static payload payload_of(const key_array& key, const V& value) noexcept {
    payload p;
    const auto words = detail::to_words(value);
    std::memcpy(p.data(), key.data(), key_size * 8);
    std::memcpy(p.data() + key_size, words.data(), value_size * 8);
    return p;
  }

  [[nodiscard]] auto hash_of() const noexcept {
    return [this](const payload& p) { return hash_(key_of(p)); };
  }
  template <class Fn> void walk(Fn&& fn) const {
    typename index_type::template walk<payload> homes(index_);
    std::vector<payload> keys;
    while (homes.next(keys, [](const payload& p) { return p; }))
      for (const payload& p : keys)
        fn(p);
  }

  static auto finder(const key_array& key, V& value) noexcept {
    return [&key, &value](const payload& p) {
      if (!same(p, key)) return false;
      std::memcpy(static_cast<void*>(&value), p.data() + key_size, sizeof(V));
      return true;
    };
  }
  bool find(const key_array& key, std::uint64_t hashed, V& value) const noexcept {
    return index_.read(hashed, finder(key, value));
  }

  template <class Fn>
  map_status alter_claimed(const K& key, std::uint64_t hashed, std::uint32_t stripe,
                           Fn& fn) noexcept(std::is_nothrow_invocable_v<Fn&, std::optional<V>&>) {
    const auto words = key_words(key);
    const std::uint64_t at = index_.find(hashed, [&](const payload& p) { return same(p, words); });
    const bool present = at != index_type::none;
    std::optional<V> value;
    if (present) value = value_of(index_.at(at));
    const map_status status = fn(value);
    if (status != map_status::done) return status;
    if (value) {
      const payload p = payload_of(words, *value);
      if (present) {
        index_.replace(at, p);
      } else {
        const std::uint64_t keys = count_more(1);
        if (keys == 0) return map_status::full;
        if (!index_.wait_for_room(keys, claims_, hash_of(), stripe) ||
            index_.insert(hashed, p) == index_type::none) { // only when a hash function is bad
          count_less(1);
          return map_status::full;
        }
      }
    } else if (present) {
      index_.erase(at);
      count_less(1);
    }
    return map_status::done;
  }

  [[nodiscard]] std::uint64_t count() const noexcept {
    return count_.load(std::memory_order_relaxed); // [key-count]
  }
  /// Returns the number of keys including so many more, or 0 where the map has no room for them.
  [[nodiscard]] std::uint64_t count_more(std::uint64_t keys) noexcept {
    const std::uint64_t now =
        count_.fetch_add(keys, std::memory_order_relaxed) + keys; // [key-count]
    if (now <= capacity_) return now;
    count_less(keys);
    return 0;
  }
  void count_less(std::uint64_t keys) noexcept {
    count_.fetch_sub(keys, std::memory_order_relaxed); // [key-count]
  }

  index_type index_;
  detail::key_claims claims_;
  std::uint64_t capacity_;
  [[no_unique_address]] Hash hash_;
  alignas(cacheline_size) std::atomic<std::uint64_t> count_{0};
  mutable detail::batch_order order_;
};

/// Changes that become visible together. The calls gather them, and commit() makes them. The last
/// change of a key counts; an insert behind another change of its key counts as an upsert. One
/// thread uses the object. It allocates memory for its changes, which it keeps when it is used
/// again after a commit().
template <class K, class V, class Hash> class seq_map<K, V, Hash>::atomic_batch {
 public:
  /// The most changes.
  static constexpr std::size_t changes_max = 256;

  /// `map` outlives the object.
  explicit atomic_batch(seq_map& map) noexcept : map_(map) {}

  /// Each returns done, or too_many and is not part of the batch.
  map_status insert(const K& key, const V& value) { return add(what::insert, key, value); }
  map_status upsert(const K& key, const V& value) { return add(what::upsert, key, value); }
  map_status erase(const K& key) { return add(what::erase, key, V{}); }

  /// The number of changes.
  [[nodiscard]] std::size_t size() const noexcept { return changes_.size(); }
  /// Forgets the changes.
  void clear() noexcept { changes_.clear(); }

  /// Makes the changes visible. Returns done; exists: a key of an insert is in the map; or full:
  /// there is no room for all keys that are new, beside those that the batch erases. Only with
  /// `done` has anything changed, and has any thread seen anything of the batch. Where a key of an
  /// erase is missing there is nothing to do for it. Afterwards the batch is empty.
  map_status commit() noexcept {
    prepare();
    const map_status status = changes_.empty() ? map_status::done : publish();
    clear();
    return status;
  }

 private:
  enum class what : std::uint8_t { insert, upsert, erase };
  struct change {
    std::uint64_t hash;
    std::uint64_t slot; ///< none: the key is missing
    payload entry;
    std::uint32_t stripe;
    std::uint32_t order; ///< the number of the call
    what kind;
  };

  static bool same_key(const change& a, const change& b) noexcept {
    return std::equal(a.entry.begin(), a.entry.begin() + key_size, b.entry.begin());
  }
  map_status add(what kind, const K& key, const V& value) {
    if (changes_.size() == changes_max) return map_status::too_many;
    const std::uint64_t hashed = map_.hash(key);
    changes_.push_back({hashed, index_type::none, payload_of(key_words(key), value),
                        map_.claims_.stripe(hashed), static_cast<std::uint32_t>(changes_.size()),
                        kind});
    return map_status::done;
  }

  // Puts the changes into the order of their claims, and leaves one for each key.
  void prepare() noexcept {
    std::sort(changes_.begin(), changes_.end(), [](const change& a, const change& b) {
      if (a.stripe != b.stripe) return a.stripe < b.stripe;
      if (a.hash != b.hash) return a.hash < b.hash;
      const int keys = std::memcmp(a.entry.data(), b.entry.data(), key_size * 8);
      return keys != 0 ? keys < 0 : a.order < b.order;
    });
    std::size_t kept = 0;
    for (std::size_t i = 0; i < changes_.size(); ++i) {
      const bool again = kept != 0 && same_key(changes_[kept - 1], changes_[i]);
      if (again && changes_[i].kind == what::insert) changes_[i].kind = what::upsert;
      if (!again) ++kept;
      changes_[kept - 1] = changes_[i];
    }
    changes_.resize(kept);
  }

  map_status publish() noexcept {
    auto& index = map_.index_;
    std::uint64_t fresh = 0, expected = 0;
    for (detail::short_wait wait;; wait.round()) {
      expected = 0;
      for (const change& c : changes_)
        expected += c.kind != what::erase && !index.read(c.hash, matches(c));
      // Room is made while no claim is held, because the mover needs the claims of all homes.
      const std::uint64_t keys = map_.count_more(expected);
      if (expected != 0 && keys == 0) return map_status::full;
      if (expected != 0 &&
          !index.wait_for_room(keys, map_.claims_, map_.hash_of(), detail::key_claims::no_stripe)) {
        map_.count_less(expected);
        return map_status::full;
      }
      claim_all();
      fresh = 0;
      bool exists = false;
      for (change& c : changes_) {
        c.slot = index.find(c.hash, matches(c));
        fresh += c.kind != what::erase && c.slot == index_type::none;
        exists |= c.kind == what::insert && c.slot != index_type::none;
      }
      if (!exists && fresh <= expected) break;
      unclaim(changes_.size()); // a key went or came meanwhile
      map_.count_less(expected);
      if (exists) return map_status::exists;
    }
    bool done = true;
    std::uint64_t erased = 0;
    map_.order_.publish([&] { done = change_all(erased); });
    unclaim(changes_.size());
    map_.count_less(done ? expected - fresh + erased : expected);
    if (index.growing()) [[unlikely]]
      index.move(map_.claims_, map_.hash_of(),
                 index_type::homes_each * static_cast<unsigned>(changes_.size()),
                 detail::key_claims::no_stripe);
    return done ? map_status::done : map_status::full;
  }

  // Locks every entry before it changes the first. False: some home has no entry left near it, and
  // nothing has changed.
  bool change_all(std::uint64_t& erased) noexcept {
    auto& index = map_.index_;
    std::size_t locked = 0;
    std::array<bool, changes_max> added;
    for (change& c : changes_) {
      added[locked] = c.slot == index_type::none && c.kind != what::erase;
      if (added[locked])
        c.slot = seeded_bug("map.batch_one_by_one") ? index.insert(c.hash, c.entry)
                                                    : index.insert_locked(c.hash, c.entry);
      else if (c.slot != index_type::none && !seeded_bug("map.batch_one_by_one"))
        index.lock(c.slot); // [batch-locked]
      if (c.slot == index_type::none && c.kind != what::erase) break;
      ++locked;
      hook_point("map.batch.lock");
    }
    const bool all = locked == changes_.size();
    for (std::size_t i = 0; i < locked; ++i) {
      const change& c = changes_[i];
      hook_point("map.batch.change");
      if (c.slot == index_type::none) continue;
      if (all ? c.kind == what::erase : added[i]) {
        index.erase(c.slot);
        ++erased;
      } else if (all && !added[i]) {
        index.replace(c.slot, c.entry);
      } else if (!seeded_bug("map.batch_one_by_one")) {
        index.unlock(c.slot); // [batch-locked]
      }
    }
    return all;
  }

  static auto matches(const change& c) noexcept {
    return [&c](const payload& p) {
      return std::equal(p.begin(), p.begin() + key_size, c.entry.begin());
    };
  }

  // Takes the claims of all keys. A holder of one may wait for the growth of the index, which may
  // wait for another one, so this thread does not hold some while it waits for long.
  void claim_all() noexcept {
    constexpr unsigned rounds_max = 64;
    detail::short_wait wait;
    for (std::size_t i = 0; i < changes_.size();) {
      if (i != 0 && changes_[i].stripe == changes_[i - 1].stripe) {
        ++i;
        continue;
      }
      unsigned rounds = 0;
      while (!map_.claims_.try_take_shared(changes_[i].stripe, 1) && ++rounds != rounds_max)
        wait.round();
      if (rounds == rounds_max) {
        unclaim(i);
        i = 0;
      } else {
        ++i;
      }
    }
  }
  // Gives the claims of the first `n` changes back.
  void unclaim(std::size_t n) noexcept {
    for (std::size_t i = 0; i < n; ++i)
      if (i == 0 || changes_[i].stripe != changes_[i - 1].stripe)
        map_.claims_.give_back(changes_[i].stripe);
  }

  seq_map& map_;
  std::vector<change> changes_;
};

} // namespace chainring
