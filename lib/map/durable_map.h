// SPDX-License-Identifier: BSD-3-Clause
/// Durable map: byte-string keys to byte-string values, in a table of one-line cells of a media.
///
/// **When to use:** records that must survive and are found by key. **When not:** what may be
/// rebuilt (seq_map.h); queues (ring.h).
///
/// **Durability:** each change is one commit word. A single call returns when it is drained. A
/// `batch` gathers changes of one thread for one drain, which may be the caller's own, and each is
/// durable after that drain; a batch is atomic per cell only. **No lookup ever returns a value, or
/// misses a key, that a crash would take back**: the index is changed after the drain. Flushes: one
/// an insert, update or erase, and one for each chain of a long key or value, which are drained
/// before the commit words (a second drain a batch). In class `file` drained means ordered
/// (media.h): what leaves the machine waits for media::mark().
///
/// **Thread-safety:** every call from any thread, but create, recovery and destruction. Lookups
/// take no lock, write nothing shared, and wait at most for a few instructions of a writer, never
/// for a drain. Writers of different keys work side by side. A writer that meets a key which
/// another's batch has changed commits its own batch before it waits, so batches cannot deadlock.
/// One batch at a time a thread and map; a single call while a batch is open joins it and commits
/// it. Callbacks must not change the map.
///
/// **Consistency:** each call is atomic for its key. for_each() visits every key that is there from
/// its beginning to its end exactly once.
///
/// **Growth:** the index begins with room for `first` keys and doubles while it is used
/// (seq_index.h), up to one entry a cell: lookups never wait for it, each change moves a few homes
/// along. An insert waits for other threads' batches where those hold the growth up until the next
/// table is full as well. The cells grow by segments, add_segment(), while everything goes on; with
/// no cell free a change is `full`.
///
/// **Complexity:** O(1); a lookup is two cache lines, the index entry and the cell. **Memory:** 64
/// bytes of media a cell; 64 to 128 bytes of DRAM for each key the index has room for, as much
/// again for the tables outgrown, which trim() gives back, and 4 for each cell; blocks for keys
/// over 24 bytes and values over 16. Nothing allocates memory after create(), but add_segment() for
/// its free cells, recover() and check() for notes and walks for the keys of one home; large tables
/// take theirs as they are used.
///
/// **Untrusted media:** recover() names, leaves out and erases each cell that is not valid
/// (map_media.h); one whose commit word is not even well formed it neither serves nor reuses.
///
///     auto map = durable_map::create(media, offset, 1024, blocks);     // then recover(), or not
///     (*map)->upsert(bytes_of("key"), bytes_of(value));                // one flush, one drain
///
///     durable_map::batch burst(**map);
///     burst.insert(bytes_of("a"), bytes_of(1));                        // done, exists, full ...
///     burst.erase(bytes_of("b"));
///     burst.flush_changes();  media.drain();  burst.publish();                 // or
///     burst.commit()
///
///     map_change c;                                                    // in a burst of the
///     caller's if ((*map)->upsert_start(key, value, c) == map_status::busy) ... // end the burst,
///     try again
///     (*map)->change_flush(c);  media.drain();  (*map)->change_finish(c);
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "../base/error.h"
#include "../base/spin_lock.h"
#include "../base/thread_slot.h"
#include "../block/block_store.h"
#include "../media/media.h"
#include "../media/recovery_part.h"
#include "map_hash.h"
#include "map_media.h"
#include "map_status.h"
#include "seq_index.h"

namespace chainring {

/// The bytes of a string, or of a plain value.
[[nodiscard]] inline std::span<const std::byte> bytes_of(std::string_view s) noexcept {
  return std::as_bytes(std::span(s.data(), s.size()));
}
template <class T>
requires(std::is_trivially_copyable_v<T> && !std::is_convertible_v<T, std::string_view>)
    [[nodiscard]] std::span<const std::byte> bytes_of(const T& value) noexcept {
  return std::as_bytes(std::span(&value, 1));
}

struct map_recovery {
  std::uint64_t entries = 0; ///< cells that are served
  std::uint64_t voided = 0;  ///< erased because the filter did not want them
  std::uint64_t damaged = 0;
  std::vector<std::string> notes; ///< damage, in sentences that name the cell; the first 100
};

/// Cells of a media that belong to a map.
struct map_segment {
  std::uint64_t offset; ///< of the media, a multiple of 64
  std::uint64_t cells;
};
/// The most segments a map has.
inline constexpr std::size_t map_segments_max = 16;

/// A staged change, between its start and its finish. Plain data, its holder's own; may be moved.
struct map_change {
  std::uint64_t hash;
  std::uint64_t slot;   ///< in the index; none: an insert
  std::uint64_t word;   ///< word 0 to be
  std::uint64_t before; ///< word 0 as it is published; 0: an insert
  std::uint64_t drains; ///< of its thread's chains, when it was started
  std::uint32_t cell;
  std::uint32_t stripe;
  bool waits_for_chains; ///< word 0 is not stored before they are drained
};
static_assert(sizeof(map_change) <= 64);

/// A value of up to 16 bytes, or the size of a longer one.
struct map_value {
  std::array<std::byte, map_value_inline> bytes{};
  std::size_t size = 0; ///< bytes of the value; above 16, `bytes` is zero: get() it into a buffer
};

namespace detail {
class map_graveyard;
}

class durable_map {
 public:
  using byte_span = std::span<const std::byte>;
  using key_span = byte_span;
  class batch;

  /// Over the cells of 1 to 16 segments, 2^32 - 1 cells at most in all, in the order in which they
  /// were added. Cells are zero, durably, when they are first given to a map. `blocks` and the
  /// media outlive the map. Empty: where the cells may hold something, recover() comes next.
  /// `first`: keys the index has room for to begin with, at most all cells, which is also what 0
  /// means. `cells_max`: cells that there may be with segments added later; 0: those there are. It
  /// costs addresses, and memory only as they come.
  static result<std::unique_ptr<durable_map>> create(media& on,
                                                     std::span<const map_segment> segments,
                                                     block_store& blocks, std::uint64_t first = 0,
                                                     std::uint64_t cells_max = 0);
  /// Of one segment.
  static result<std::unique_ptr<durable_map>> create(media& on, std::uint64_t offset,
                                                     std::uint64_t cells, block_store& blocks,
                                                     std::uint64_t first = 0) {
    const map_segment one{offset, cells};
    return create(on, {&one, 1}, blocks, first);
  }
  /// No batch is open any more, and no call under way.
  ~durable_map();
  durable_map(const durable_map&) = delete;
  durable_map& operator=(const durable_map&) = delete;

  // --- lookups ----------------------------------------------------------------------------------

  [[nodiscard]] std::optional<map_value> get(key_span key) const noexcept;
  /// Copies the value out: done; missing; too_long when `out` is too small. `size` is the value's
  /// size unless it is missing.
  map_status get(key_span key, std::span<std::byte> out, std::size_t& size) const noexcept;
  [[nodiscard]] bool contains(key_span key) const noexcept { return get(key).has_value(); }
  /// Calls fn(key, value) for each entry while others write. The spans are valid during the call;
  /// blocks that entries give up meanwhile are not reused before it returns, so it should be short.
  void for_each(const std::function<void(key_span, byte_span)>& fn) const;
  [[nodiscard]] std::uint64_t len() const noexcept;
  /// Cells.
  [[nodiscard]] std::uint64_t capacity() const noexcept;

  // --- changes, each durable when it returns ----------------------------------------------------

  map_status insert(key_span key, byte_span value) noexcept;
  map_status update(key_span key, byte_span value) noexcept;
  map_status upsert(key_span key, byte_span value) noexcept;
  map_status erase(key_span key) noexcept;
  /// Replaces the value if it is `expected`, byte by byte: done, missing, mismatch, full, too_long.
  map_status compare_exchange(key_span key, byte_span expected, byte_span value) noexcept;
  /// Calls fn(value) with a copy of the value, at most in_place_max bytes (else too_long), and
  /// makes what it leaves there the value.
  map_status update_in_place(key_span key,
                             const std::function<void(std::span<std::byte>)>& fn) noexcept;
  static constexpr std::size_t in_place_max = 4096;
  /// Erases each entry that keep(key, value) is false for. Returns how many.
  std::uint64_t retain(const std::function<bool(key_span, byte_span)>& keep) noexcept;

  // --- staged changes, which join a drain of the caller's ---------------------------------------
  //
  // start, change_flush(), a drain of the same thread, change_finish(): then the change is durable
  // and everybody sees it; nobody did before. A thread may have any number of changes open, starts
  // and finishes them itself, and makes no other change of the map (a single call, a batch, retain)
  // before it has finished them.
  //
  // `busy`: the key has a change open, of this thread's too; or a key that shares its claim has, or
  // the growth of the index waits for an open change. Nothing was done: end the burst (drain, and
  // finish what is open), then start again. So nobody waits for anybody with changes open.

  /// done, busy, full or too_long. `out` is a change only where it is done.
  map_status upsert_start(key_span key, byte_span value, map_change& out) noexcept;
  /// done, busy, missing or too_long.
  map_status erase_start(key_span key, map_change& out) noexcept;
  /// Once for each change, before the drain. The first of a burst that has a key over 24 bytes or a
  /// value over 16 drains itself, once for all that were started by then.
  void change_flush(const map_change& c) noexcept;
  /// After the drain.
  void change_finish(map_change& c) noexcept;

  // --- growth -----------------------------------------------------------------------------------

  /// More cells, whose numbers follow on, while others read and write; at most 16 segments. The
  /// cells are zero, durably, and the caller's commit has named them as this map's, so that the
  /// next open gives them to create().
  [[nodiscard]] result<void> add_segment(std::uint64_t offset, std::uint64_t cells);
  /// The index is growing.
  [[nodiscard]] bool growing() const noexcept { return index_.growing(); }
  /// Moves up to that many homes of the index, for a thread with time to spare. False: none is
  /// left, or somebody's claim or another mover is in the way.
  bool help_grow(unsigned homes) noexcept;
  /// Gives the memory of outgrown tables back to the system, and to the block store the chains
  /// that nobody reads any more. System calls: not on a data path.
  void trim() noexcept;

  // --- recovery; one thread ---------------------------------------------------------------------

  /// Makes durable what recovery will read; the caller drains. Before recover().
  void persist_as_read() noexcept;
  /// Rebuilds the index, erasing what is damaged and what wanted(key, value) is false for; between
  /// the block store's begin_recovery() and finish_recovery(). Flushes; the caller drains before
  /// anything is allocated or served.
  map_recovery recover(const std::function<bool(key_span, byte_span)>& wanted);
  map_recovery recover(const std::function<bool(key_span)>& wanted);
  map_recovery recover() { return recover(std::function<bool(key_span, byte_span)>()); }
  /// Changes nothing, and needs no recovery before: the notes recover() would give, but for chains
  /// that overlap and keys that are there twice. `voided` counts what recover() would erase.
  [[nodiscard]] map_recovery
  check(const std::function<bool(key_span, byte_span)>& wanted = {}) const;
  /// All of that as one part of a region's recovery, to stand behind the block store's part that
  /// begins, and before the one that finishes. What recover() or check() returned is put into
  /// `found`, which outlives the recovery, where it is given.
  [[nodiscard]] recovery_part part(std::string name,
                                   std::function<bool(key_span, byte_span)> wanted = {},
                                   map_recovery* found = nullptr);

 private:
  using index_type = detail::seq_index<2>; // the cell's number, its published word 0
  using payload = index_type::payload;
  struct wanted_key;
  class reading;
  struct copied;
  struct segment {
    std::atomic<map_cell*> at{nullptr}; ///< null: not added yet
    std::uint64_t first = 0, end = 0;   ///< numbers of its cells
    std::vector<std::uint32_t> free;    ///< under free_lock_
  };
  /// What a thread's staged changes share.
  struct alignas(cacheline_size) staging {
    std::uint64_t drains = 0;    ///< of chains
    std::uint64_t undrained = 0; ///< bytes of chains flushed since
  };

  durable_map(media& on, block_store& blocks, std::uint64_t cells_max, index_type index,
              std::unique_ptr<detail::map_graveyard> graveyard);
  [[nodiscard]] std::uint64_t hash(key_span key) const noexcept { return hash_bytes(key, seed_); }
  /// Any cell for a number that a lookup made of two entries, and will throw away.
  [[nodiscard]] map_cell& cell_at(std::uint64_t number) const noexcept {
    for (const segment& s : segments_) {
      map_cell* at = s.at.load(std::memory_order_acquire); // [M11] pairs with [M10]
      if (at == nullptr) break;
      if (number < s.end) [[likely]]
        return at[number - s.first];
    }
    return *segments_[0].at.load(std::memory_order_acquire); // [M11] pairs with [M10]
  }
  [[nodiscard]] const map_cell& cell_of(const payload& p) const noexcept { return cell_at(p[0]); }
  [[nodiscard]] segment& segment_of(std::uint64_t number) noexcept;
  [[nodiscard]] result<void> place(const map_segment& s);
  [[nodiscard]] bool has_key(const payload& p, const wanted_key& key) const noexcept;
  template <class Take>
  [[nodiscard]] bool find(const wanted_key& key, bool long_values, Take&& take) const noexcept;
  template <class Fn> void walk(Fn&& fn) const;
  [[nodiscard]] auto hash_of() const noexcept {
    return [this](const payload& p) { return hash_at(p); };
  }
  [[nodiscard]] key_span key_in(const payload& p, const std::uint64_t (&words)[3]) const noexcept;
  [[nodiscard]] byte_span value_in(const payload& p,
                                   const std::uint64_t (&words)[2]) const noexcept;
  /// Of the key of an entry that stands still.
  [[nodiscard]] std::uint64_t hash_at(const payload& p) const noexcept;
  [[nodiscard]] key_span key_at(const payload& p, std::uint64_t (&copy)[3]) const noexcept;
  [[nodiscard]] byte_span value_at(const payload& p, std::uint64_t (&copy)[2]) const noexcept;
  /// Inside the store, and as long as `size` bytes need.
  [[nodiscard]] bool whole(chain c, std::uint64_t size) const noexcept;
  [[nodiscard]] const char* examine(std::uint64_t cell) const noexcept;
  [[nodiscard]] const char* adopt(std::uint64_t cell) noexcept;

  [[nodiscard]] bool take_cell(std::uint32_t& cell) noexcept;
  void give_cell(std::uint32_t cell) noexcept;
  [[nodiscard]] bool take_chain(std::size_t bytes, chain& c) noexcept;
  /// Gives a chain back once no lookup can be reading it.
  void retire(chain c) noexcept;
  void count(std::int64_t by) noexcept;
  // Stored, with the claim held; `out` says what is to be published.
  map_status store_insert(const wanted_key& key, std::uint64_t hash, byte_span value,
                          map_change& out) noexcept;
  map_status store_update(std::uint64_t slot, const payload& p, std::uint64_t hash, byte_span value,
                          map_change& out) noexcept;
  void store_erase(std::uint64_t slot, const payload& p, std::uint64_t hash,
                   map_change& out) noexcept;
  [[nodiscard]] bool prepare_value(byte_span value, std::uint64_t (&half)[2]) noexcept;
  void store_word(const map_change& c) noexcept;
  void stored(map_change& c) noexcept;
  void flush_chain(chain c, std::size_t n, std::uint64_t& undrained) noexcept;
  /// Of the change's new key and value. False: it has none.
  bool flush_chains_of(const map_change& c, std::uint64_t& undrained) noexcept;
  void flush_cell(const map_change& c) noexcept;
  void publish_one(const map_change& c) noexcept;
  template <class Decide>
  map_status start(key_span key, bool may_insert, map_change& out, Decide&& decide) noexcept;

  /// A key that may be there soon, for the growth; false: nothing to take back.
  bool expect_key(batch& by) noexcept;
  void unexpect_key() noexcept;
  /// Runs one change in this thread's batch, or in one of its own.
  template <class Fn> map_status alone(Fn&& fn) noexcept;

  media& media_;
  block_store& blocks_;
  std::array<segment, map_segments_max> segments_;
  const std::uint64_t cells_max_;
  std::uint64_t seed_;
  index_type index_;
  detail::key_claims claims_;
  std::unique_ptr<detail::map_graveyard> graveyard_;
  std::array<batch*, max_thread_slots> open_{}; ///< each thread's own
  std::unique_ptr<staging[]> staged_;           ///< by thread slot
  std::mutex adding_;                           ///< of segments
  alignas(cacheline_size) spin_lock free_lock_; ///< over the segments' free cells
  std::atomic<std::uint64_t> count_{0};         ///< cells
  alignas(cacheline_size) std::atomic<std::uint64_t> entries_{0};
  alignas(cacheline_size) std::atomic<std::uint64_t> expected_{0}; ///< keys, inserts under way too
};

/// One thread's changes that share a drain. Keys it has changed are claimed until publish(): other
/// writers of them wait. A second change of a key commits the first, and so does the change past
/// changes_max.
///
/// The calls return done, exists, missing, mismatch, full or too_long by what is published; the
/// batch's own changes are visible to nobody, not to itself either, before publish().
class durable_map::batch {
 public:
  static constexpr std::size_t changes_max = 64;

  explicit batch(durable_map& map) noexcept;
  /// Commits.
  ~batch();
  batch(const batch&) = delete;
  batch& operator=(const batch&) = delete;

  map_status insert(key_span key, byte_span value) noexcept;
  map_status update(key_span key, byte_span value) noexcept;
  map_status upsert(key_span key, byte_span value) noexcept;
  map_status erase(key_span key) noexcept;
  map_status compare_exchange(key_span key, byte_span expected, byte_span value) noexcept;
  map_status update_in_place(key_span key,
                             const std::function<void(std::span<std::byte>)>& fn) noexcept;

  /// Has every change so far on its way (drains itself where chains must come first: once, and more
  /// often where they are more than one drain can cover). What the thread's next drain makes
  /// durable is then for publish(). The caller may have a quarter of drain_bytes_max() flushed
  /// before.
  void flush_changes() noexcept;
  /// After a drain that followed flush_changes(): what that covered becomes visible.
  void publish() noexcept;
  /// flush_changes(), drain, publish().
  void commit() noexcept;
  /// Changes not published yet.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  friend class durable_map;

  template <class Decide>
  map_status change_key(key_span key, bool may_insert, Decide&& decide) noexcept;
  void claim(std::uint64_t hash, std::uint32_t stripe) noexcept;
  void unclaim_unused(std::uint32_t stripe) noexcept;
  /// Where the next change is put, and then counted, if it was stored.
  [[nodiscard]] map_change& next() noexcept { return changes_[size_]; }
  map_status add(map_status stored) noexcept;
  void flush_chains() noexcept;

  durable_map& map_;
  std::uint32_t owner_;
  std::size_t size_ = 0, flushed_ = 0;
  std::array<map_change, changes_max> changes_; // the first size_ mean something
};

} // namespace chainring
