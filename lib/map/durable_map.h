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
/// table is full as well. The table of cells does not grow: with no cell free a change is `full`.
///
/// **Complexity:** O(1); a lookup is two cache lines, the index entry and the cell. **Memory:** 64
/// bytes of media a cell; 64 to 128 bytes of DRAM for each key the index has room for, as much
/// again for the tables outgrown, which trim() gives back, and 4 for each cell; blocks for keys
/// over 24 bytes and values over 16. Nothing allocates memory after create(), but recover() and
/// check() for notes and walks for the keys of one home; large tables take theirs as they are used.
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
///     burst.flush();  media.drain();  burst.publish();                 // or burst.commit()
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
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

  /// Over `cells` cells (1 to 2^32 - 1) from `offset` (a multiple of 64) of the media. The cells
  /// are zero, durably, when the region is made. `blocks` and the media outlive the map. Empty:
  /// where the cells may hold something, recover() comes next. `first`: keys the index has room for
  /// to begin with, at most `cells`, which is also what 0 means.
  static result<std::unique_ptr<durable_map>> create(media& on, std::uint64_t offset,
                                                     std::uint64_t cells, block_store& blocks,
                                                     std::uint64_t first = 0);
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
  [[nodiscard]] std::uint64_t capacity() const noexcept { return count_; }

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

  // --- growth -----------------------------------------------------------------------------------

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
  /// that overlap and keys that are there twice.
  [[nodiscard]] map_recovery check() const;

 private:
  using index_type = detail::seq_index<2>; // the cell's number, its published word 0
  using payload = index_type::payload;
  struct wanted_key;
  class reading;
  struct copied;
  /// A change stored and not published.
  struct change {
    std::uint64_t hash;
    std::uint64_t slot;   ///< in the index; none: an insert
    std::uint64_t word;   ///< word 0 to be
    std::uint64_t before; ///< word 0 as it is published; 0: an insert
    std::uint32_t cell;
    std::uint32_t stripe;
    bool waits_for_chains; ///< word 0 is not stored before they are drained
  };

  durable_map(media& on, map_cell* cells, std::uint64_t count, block_store& blocks,
              index_type index, std::unique_ptr<detail::map_graveyard> graveyard);
  [[nodiscard]] std::uint64_t hash(key_span key) const noexcept { return hash_bytes(key, seed_); }
  [[nodiscard]] const map_cell& cell_of(const payload& p) const noexcept { return cells_[p[0]]; }
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
  /// A key that may be there soon, for the growth; false: nothing to take back.
  bool expect_key(batch& by) noexcept;
  void unexpect_key() noexcept;
  /// Runs one change in this thread's batch, or in one of its own.
  template <class Fn> map_status alone(Fn&& fn) noexcept;

  media& media_;
  map_cell* cells_;
  std::uint64_t count_;
  block_store& blocks_;
  std::uint64_t seed_;
  index_type index_;
  detail::key_claims claims_;
  std::unique_ptr<detail::map_graveyard> graveyard_;
  std::array<batch*, max_thread_slots> open_{}; ///< each thread's own
  alignas(cacheline_size) spin_lock free_lock_;
  std::vector<std::uint32_t> free_;
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
  void flush() noexcept;
  /// After a drain that followed flush(): what that flush() covered becomes visible.
  void publish() noexcept;
  /// flush(), drain, publish().
  void commit() noexcept;
  /// Changes not published yet.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  friend class durable_map;

  template <class Decide>
  map_status change_key(key_span key, bool may_insert, Decide&& decide) noexcept;
  void claim(std::uint64_t hash, std::uint32_t stripe) noexcept;
  void unclaim_unused(std::uint32_t stripe) noexcept;
  map_status store_insert(const wanted_key& key, std::uint64_t hash, byte_span value) noexcept;
  map_status store_update(std::uint64_t slot, const payload& p, std::uint64_t hash,
                          byte_span value) noexcept;
  void store_erase(std::uint64_t slot, const payload& p, std::uint64_t hash) noexcept;
  [[nodiscard]] bool prepare_value(byte_span value, std::uint64_t (&half)[2]) noexcept;
  void add(change c) noexcept;
  void flush_chain(chain c, std::size_t n, std::uint64_t& undrained) noexcept;
  void flush_chains() noexcept;
  void publish_one(const change& c) noexcept;

  durable_map& map_;
  std::uint32_t owner_;
  std::size_t size_ = 0, flushed_ = 0;
  std::array<change, changes_max> changes_; // the first size_ mean something
};

} // namespace chainring
