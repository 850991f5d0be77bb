// SPDX-License-Identifier: BSD-3-Clause
/// A durable map: byte-string keys to byte-string values, in cells of one line each on a media.
///
/// **When to use:** records that must survive a crash and are found by key. **When not:** data that
/// can be rebuilt (seq_map.h), and queues (ring.h).
///
/// **Durability:** each change is one commit word. A single call returns when its change is
/// drained. A `batch` gathers the changes of one thread for one drain, which may be a drain of the
/// caller's; each change is durable after it. A batch is atomic for each cell, not as a whole. **No
/// lookup ever returns a value, or misses a key, that a crash would take back**, because the index
/// changes after the drain. An insert, update or erase takes one flush, and one more for each chain
/// of a long key or value. Chains are drained before the commit words, so a batch with chains takes
/// a second drain. An `atomic_batch` is atomic as a whole, and takes two drains however many
/// changes it has. In class `file`, drained means ordered (media.h): data that leaves the machine
/// waits for media::mark(). A medium that has failed (media::failed()) keeps nothing more: changes
/// are then visible to this process only, so a program looks before it acts upon one.
///
/// **Thread-safety:** any thread may make any call, except create, recovery and destruction.
/// Lookups take no lock and write nothing that threads share. They wait at most for a few
/// instructions of a writer, never for a drain. Writers of different keys work side by side. A
/// writer that meets a key which the batch of another thread has changed commits its own batch
/// before it waits, so batches cannot deadlock. A thread has at most one batch open for a map. A
/// single call that a thread makes while its batch is open joins the batch and commits it.
/// Callbacks must not change the map.
///
/// **Exceptions:** callbacks of alter(), erase_if(), update_in_place(), retain() and for_each() may
/// throw. The caller gets the exception, the key that the callback was called for stays as it is,
/// and other threads may change it at once. What retain() had erased before stays erased, durably,
/// and a batch keeps the changes that it had. Those of recover(), check() and part() must not
/// throw.
///
/// **Batches that are atomic as a whole:** the changes of an `atomic_batch` are made together or
/// not at all, to readers and after a crash at any point. A thread that has seen one of them, by
/// whatever call, sees all others from then on, and read_together() looks several keys up between
/// two batches. **When to use:** facts that have several keys, of which no crash may leave some.
/// **When not:** changes that only want to share a drain, for which `batch` is cheaper. commit()
/// writes the changes to a log, a chain of 64 bytes for each, drains it, commits it with one word
/// of a cell, drains that, and then stores the changes into their cells. The next batch takes over
/// from there with its own drains. Who changes one of the keys otherwise makes the cells durable
/// and erases the log first, with two drains; so does settle(). Until then the
/// batch keeps the cell of the log, the blocks of the log and the cells that it erased. A change
/// that finds no cell or block settles as well, and returns `full` without that only while another
/// batch is being committed. Batches of one map are committed one after the other: a commit() waits
/// for that of another thread, and for the writers of its keys as any change does.
///
/// **Operation ids:** a change with an operation_id (base/operation_id.h), or an atomic_batch that
/// was given one by identify(), takes effect once however often it is repeated, and resolve() says
/// after a crash whether it did. The id is one more change of the batch: two drains, and one cell
/// for each client that ever had one, which stays and which len() and the walks leave out.
///
/// **Consistency:** each call is atomic for its key. for_each() visits every key that is in the map
/// from its beginning to its end exactly once.
///
/// **Growth:** the index begins with room for `first` keys and doubles while it is used
/// (seq_index.h), up to one entry for each cell. Lookups never wait for the growth; each change
/// moves a few homes along. When the next table is full as well before the growth is over, an
/// insert waits for the batches of other threads that hold it up. Segments of cells are added by
/// add_segment() while the map is used. A change that finds no free cell returns `full`.
///
/// **Complexity:** every call is O(1), but commit() of an atomic_batch, which is O(n log n) for n
/// changes. A lookup reads two cache lines, the index entry and the
/// cell. **Memory:** 64 bytes of media for each cell; 64 to 128 bytes of DRAM for each key the
/// index has room for, as much again for outgrown tables, which trim() gives back, and 4 bytes for
/// each cell; blocks for keys over 24 bytes and values over 16. After create(), memory is allocated
/// only by add_segment() for its list of free cells, by recover() and check() for notes, by walks
/// for the keys of one home, and by the first atomic_batches for their logs. Large tables take
/// their memory as they are used.
///
/// **Untrusted media:** recover() names and erases each cell that is not valid (map_media.h) and
/// does not serve it. A cell whose commit word is not even well formed is neither served nor
/// reused.
///
///     auto map = durable_map::create(media, offset, 1024, blocks);     // then recover(), or not
///     (*map)->upsert(bytes_of("key"), bytes_of(value));                // one flush, one drain
///
///     durable_map::batch burst(**map);
///     burst.insert(bytes_of("a"), bytes_of(1));                        // done, exists, full ...
///     burst.erase(bytes_of("b"));
///     burst.flush_changes();  media.drain();  burst.publish();         // or burst.commit()
///
///     durable_map::atomic_batch move(**map);                           // all or nothing
///     move.erase(bytes_of("old name"));
///     move.insert(bytes_of("new name"), bytes_of(value));
///     if (move.commit() != map_status::done) ...                       // nothing has changed
///
///     const operation_id id{7, (*map)->last_operation(7) + 1};         // of client 7
///     (*map)->insert(id, bytes_of("key"), bytes_of(value));            // or repeated
///
///     map_change c;                                                    // in a burst of the caller
///     if ((*map)->upsert_start(key, value, c) == map_status::busy)     // end the burst, try again
///     ...
///     (*map)->change_flush(c);  media.drain();  (*map)->change_finish(c);
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "../base/bytes_of.h"
#include "../base/error.h"
#include "../base/operation_id.h"
#include "../base/spin_lock.h"
#include "../base/thread_slot.h"
#include "../block/block_store.h"
#include "../media/media.h"
#include "../media/recovery_crew.h"
#include "../media/recovery_part.h"
#include "batch_order.h"
#include "map_hash.h"
#include "map_media.h"
#include "map_status.h"
#include "seq_index.h"

namespace chainring {

/// What recovery found and did.
struct map_recovery {
  std::uint64_t entries = 0;      ///< cells that are served
  std::uint64_t clients = 0;      ///< further cells, which hold the operation ids of clients
  std::uint64_t voided = 0;       ///< cells erased because wanted() returned false for them
  std::uint64_t damaged = 0;      ///< cells that were not valid
  std::uint64_t replayed = 0;     ///< changes of a batch that a crash had cut short
  std::vector<std::string> notes; ///< the first 100 damages, as sentences that name the cell
};

/// A range of cells that belongs to a map.
struct map_segment {
  std::uint64_t offset; ///< of the first cell in the media, a multiple of 64
  std::uint64_t cells;
};
/// The most segments of one map.
inline constexpr std::size_t map_segments_max = 16;

/// A staged change between its start and its finish. It is plain data that belongs to its holder
/// and may be moved.
struct map_change {
  std::uint64_t hash;
  std::uint64_t slot;   ///< the slot in the index; none: the change is an insert
  std::uint64_t word;   ///< the new word 0
  std::uint64_t before; ///< the published word 0; 0: the change is an insert
  std::uint64_t drains; ///< how often its thread had drained chains when the change was started
  std::uint32_t cell;
  std::uint32_t stripe;
  bool waits_for_chains; ///< word 0 is stored after the change's chains are drained
};
static_assert(sizeof(map_change) <= 64);

/// A value of up to 16 bytes, or the size of a longer one.
struct map_value {
  std::array<std::byte, map_value_inline> bytes{};
  std::size_t size = 0; ///< bytes of the value; above 16 `bytes` is zero and get() needs a buffer
};

namespace detail {
class retired_chains;
}
class durable_pairs;

/// The value of a key in the callback of alter(). What the callback leaves here becomes the key's.
class map_edit {
 public:
  using byte_span = std::span<const std::byte>;
  /// The most bytes that a callback may give a value or change in place.
  static constexpr std::size_t size_max = 4096;

  /// False: the key is missing.
  [[nodiscard]] bool present() const noexcept { return present_; }
  /// The value as it is on media, of any length; empty where the key is missing.
  [[nodiscard]] byte_span now() const noexcept { return now_; }
  /// A copy of the value whose bytes the callback may change, with what assign() or an earlier call
  /// made of it. It is empty, and changes nothing, where the key is missing or the value has more
  /// than size_max bytes.
  [[nodiscard]] std::span<std::byte> in_place() noexcept {
    if (what_ != change::assigned) {
      if (!present_ || now_.size() > size_max) return {};
      assign(now_);
    }
    return std::span(bytes_).first(size_);
  }
  /// Gives the key a value, of which it takes a copy. Above size_max bytes alter() returns
  /// too_long.
  void assign(byte_span value) noexcept {
    what_ = value.size() > size_max ? change::too_long : change::assigned;
    if (what_ == change::too_long) return;
    if (!value.empty()) std::memcpy(bytes_.data(), value.data(), value.size());
    size_ = value.size();
  }
  /// Takes the key out of the map.
  void erase() noexcept { what_ = change::erased; }

 private:
  friend class durable_map;
  enum class change : std::uint8_t { nothing, assigned, erased, too_long };
  map_edit(bool present, byte_span now) noexcept : present_(present), now_(now) {}

  bool present_;
  change what_ = change::nothing;
  byte_span now_;
  std::size_t size_ = 0;
  std::array<std::byte, size_max> bytes_; // the first size_ of them are the new value
};

class durable_map {
 public:
  using byte_span = std::span<const std::byte>;
  using key_span = byte_span;
  class batch;
  class atomic_batch;

  /// Makes a map over the cells of 1 to 16 segments, in the order in which they were added, with at
  /// most 2^32 - 1 cells in all. Cells are zero, durably, when they are first given to a map.
  /// `blocks` and the media outlive the map. The map is empty: where the cells may hold entries,
  /// recover() comes next. `first` is the number of keys that the index has room for at first, at
  /// most one for each cell; 0 means one for each cell. `cells_max` is the most cells there may be
  /// with segments that are added later; 0 means the cells of `segments`. It takes address space;
  /// memory is used only for segments that are added.
  static result<std::unique_ptr<durable_map>> create(media& medium,
                                                     std::span<const map_segment> segments,
                                                     block_store& blocks, std::uint64_t first = 0,
                                                     std::uint64_t cells_max = 0);
  /// Makes a map over one segment.
  static result<std::unique_ptr<durable_map>> create(media& medium, std::uint64_t offset,
                                                     std::uint64_t cells, block_store& blocks,
                                                     std::uint64_t first = 0) {
    const map_segment one{offset, cells};
    return create(medium, {&one, 1}, blocks, first);
  }
  /// No batch is open and no call is running. It drains nothing: after a batch the next open finds
  /// what it finds after a crash, unless settle() was called.
  ~durable_map();
  durable_map(const durable_map&) = delete;
  durable_map& operator=(const durable_map&) = delete;

  // --- lookups ----------------------------------------------------------------------------------

  /// Returns the value, or only its size where it is longer than 16 bytes. Nothing: the key is
  /// missing.
  [[nodiscard]] std::optional<map_value> get(key_span key) const noexcept;
  /// Copies the value into `out`. Returns done, missing, or too_long when `out` is too small.
  /// `size` becomes the size of the value, except where the key is missing.
  map_status get(key_span key, std::span<std::byte> out, std::size_t& size) const noexcept;
  [[nodiscard]] bool contains(key_span key) const noexcept { return get(key).has_value(); }
  /// Calls fn(key, value) for each entry while other threads write. The spans are valid during the
  /// call. Blocks that entries give up meanwhile are not reused before fn returns, so fn should be
  /// short.
  void for_each(const std::function<void(key_span, byte_span)>& fn) const;
  /// Calls fn(), which looks keys up, and returns what fn() returned when no atomic_batch became
  /// visible between its first lookup and its last. Other changes may come between them. fn() may
  /// be called several times. It is short, because batches may have to wait for it, and it does not
  /// change the map.
  template <class Fn> std::invoke_result_t<Fn&> read_together(Fn&& fn) const {
    return order_.read(fn);
  }
  /// The number of keys.
  [[nodiscard]] std::uint64_t len() const noexcept;
  /// The number of cells.
  [[nodiscard]] std::uint64_t capacity() const noexcept;

  // --- changes, each of which is durable when its call returns ----------------------------------

  map_status insert(key_span key, byte_span value) noexcept;
  map_status update(key_span key, byte_span value) noexcept;
  map_status upsert(key_span key, byte_span value) noexcept;
  map_status erase(key_span key) noexcept;
  /// Replaces the value where it equals `expected`, byte by byte. Returns done, missing, mismatch,
  /// full or too_long.
  map_status compare_exchange(key_span key, byte_span expected, byte_span value) noexcept;
  /// Calls fn(value) with a copy of the value and makes what fn leaves there the value. A value of
  /// more than in_place_max bytes is too_long.
  map_status update_in_place(key_span key, const std::function<void(std::span<std::byte>)>& fn);
  static constexpr std::size_t in_place_max = map_edit::size_max;
  /// Calls fn(map_edit&) while no other thread changes the key, and makes what fn leaves there the
  /// key's value. fn returns a map_status, and its changes count only with `done`. Returns that
  /// status, full or too_long.
  map_status alter(key_span key, const std::function<map_status(map_edit&)>& fn);
  /// Erases the key if unwanted(value) is true. Returns done, missing or mismatch.
  map_status erase_if(key_span key, const std::function<bool(byte_span)>& unwanted);
  /// Adds to a value of 8 bytes, an unsigned number, and inserts it if it is missing. Returns done,
  /// full, or mismatch where the value has another size or the sum would be above 2^64 - 1.
  map_status increment(key_span key, std::uint64_t by = 1) noexcept;
  /// Subtracts from such a value, and erases the key when it becomes 0. Returns done, missing, or
  /// mismatch where the value has another size or is less than `by`.
  map_status decrement(key_span key, std::uint64_t by = 1) noexcept;
  /// Erases each entry for which keep(key, value) returns false. Returns how many were erased. This
  /// thread has no batch of the map open.
  std::uint64_t retain(const std::function<bool(key_span, byte_span)>& keep);

  // --- operations with ids ----------------------------------------------------------------------
  //
  // Each is an atomic_batch of one change, with its two drains. A thread that makes many keeps an
  // atomic_batch, which keeps its memory. They allocate, and may throw std::bad_alloc before
  // anything has changed. Operations of one client may come from any thread, one after the other.

  /// Returns done, exists, repeated, reserved, full, too_long or failed. Only with `done` and
  /// `repeated` has the operation taken effect, now or before.
  map_status insert(operation_id id, key_span key, byte_span value);
  /// Returns done, repeated, reserved, full, too_long or failed.
  map_status upsert(operation_id id, key_span key, byte_span value);
  /// The same; done also where the key is missing.
  map_status erase(operation_id id, key_span key);
  /// Says whether the operation took effect. What is visible is durable, so the answer is that
  /// which an open after a crash would give.
  [[nodiscard]] operation_outcome resolve(operation_id id) const noexcept {
    return outcome_of(id, last_operation(id.client));
  }
  /// The sequence number of the client's last operation that took effect; 0: none did.
  [[nodiscard]] std::uint64_t last_operation(std::uint32_t client) const noexcept;

  // --- staged changes, which share a drain of the caller's --------------------------------------
  //
  // A staged change takes its start, change_flush(), a drain of the same thread and
  // change_finish(). It becomes visible to all threads with change_finish(), when it is durable. A
  // thread may have any number of changes open and finishes them itself. Until it has finished them
  // it makes no other change of the map: no single call, no batch, no retain().
  //
  // `busy` means that a change of the key is open, perhaps of this thread; or that a change of a
  // key with the same claim is open; or that the growth of the index waits for an open change.
  // Nothing was done. The caller ends its burst (drains and finishes its open changes) and starts
  // again. So no thread waits for another one while it has changes open.

  /// Returns done, busy, full or too_long. `out` holds a change only where it returns done.
  map_status upsert_start(key_span key, byte_span value, map_change& out) noexcept;
  /// Returns done, busy, exists, full or too_long.
  map_status insert_start(key_span key, byte_span value, map_change& out) noexcept;
  /// Returns done, busy, missing or too_long.
  map_status erase_start(key_span key, map_change& out) noexcept;
  /// Flushes the change; called once for each, before the drain. The first call of a burst for a
  /// change with a key over 24 bytes or a value over 16 also drains the chains of all changes that
  /// were started by then.
  void change_flush(const map_change& c) noexcept;
  /// Publishes the change; called after the drain.
  void change_finish(map_change& c) noexcept;

  /// Gives back what the last atomic_batch keeps for its log, with two drains, so that the cells
  /// are as builds before batches know them. Called before the map is closed for good;
  /// objects::close() does it. It does nothing where that has been done. The thread has no staged
  /// changes open.
  void settle() noexcept;

  // --- growth -----------------------------------------------------------------------------------

  /// Adds a segment of cells, numbered on from the last, while other threads read and write. A map
  /// has at most 16 segments. The cells are zero, durably, and the caller has durably recorded that
  /// they belong to this map, so that the next open gives them to create().
  [[nodiscard]] result<void> add_segment(std::uint64_t offset, std::uint64_t cells);
  /// True while the index grows.
  [[nodiscard]] bool growing() const noexcept { return index_.growing(); }
  /// Moves up to `homes` homes of the index, for a thread that has time for it. False: no home is
  /// left, or a claim or another mover is in the way.
  bool help_grow(unsigned homes) noexcept;
  /// Gives the memory of outgrown tables back to the system, and to the block store the chains that
  /// no thread reads any more. It makes system calls, so it is not for the data path.
  void trim() noexcept;

  // --- recovery: one thread calls, and others may help -------------------------------------------

  /// Flushes everything that recovery will read; the caller drains. Called before recover().
  void persist_as_read() noexcept;
  /// Rebuilds the index. Erases damaged cells, and those for which wanted(key, value) returns
  /// false. Called between begin_recovery() and finish_recovery() of the block store. It flushes;
  /// the caller drains before anything is allocated or served. The threads of `crew` examine cells
  /// side by side; the calling thread decides what becomes of them, one after the other, and calls
  /// wanted(). So the result does not depend on how many threads there are.
  map_recovery recover(const std::function<bool(key_span, byte_span)>& wanted,
                       const recovery_crew& crew = {});
  map_recovery recover(const std::function<bool(key_span)>& wanted);
  map_recovery recover() { return recover(std::function<bool(key_span, byte_span)>()); }
  /// Changes nothing and needs no recovery before. Returns the notes that recover() would give,
  /// except for chains that overlap and keys that occur twice. `voided` counts the cells that
  /// recover() would erase because wanted() returns false.
  [[nodiscard]] map_recovery
  check(const std::function<bool(key_span, byte_span)>& wanted = {}) const;
  /// The whole of this as one part of a region's recovery. It stands behind the part that begins
  /// the recovery of the block store, and before the part that finishes it. The result of recover()
  /// or check() is put into `found`, unless that is null; `found` outlives the recovery.
  [[nodiscard]] recovery_part part(std::string name,
                                   std::function<bool(key_span, byte_span)> wanted = {},
                                   map_recovery* found = nullptr, recovery_crew crew = {});

 private:
  friend class durable_pairs;              // finds entries by other ways than their key
  using index_type = detail::seq_index<2>; // the number of the cell, and its published word 0
  using payload = index_type::payload;
  struct wanted_key;
  class reading;
  struct copied;
  struct batch_log;
  struct segment {
    std::atomic<map_cell*> at{nullptr}; ///< null: the segment is not added yet
    std::uint64_t first = 0, end = 0;   ///< numbers of its cells
    std::vector<std::uint32_t> free;    ///< guarded by free_lock_
  };
  /// What the staged changes of one thread share.
  struct alignas(cacheline_size) staging {
    std::uint64_t drains = 0;    ///< how often the thread has drained chains
    std::uint64_t undrained = 0; ///< bytes of chains that it flushed since
  };

  durable_map(media& medium, block_store& blocks, std::uint64_t cells_max, index_type index,
              std::unique_ptr<detail::retired_chains> retired);
  [[nodiscard]] std::uint64_t hash(key_span key) const noexcept { return hash_bytes(key, seed_); }
  /// Returns the cell of that number. A lookup may have read the number while its index entry was
  /// changing and discards what it finds; for such a number any cell will do.
  [[nodiscard]] map_cell& cell_at(std::uint64_t number) const noexcept {
    for (const segment& s : segments_) {
      map_cell* at = s.at.load(std::memory_order_acquire); // [segment-placed]
      if (at == nullptr) break;
      if (number < s.end) [[likely]]
        return at[number - s.first];
    }
    return *segments_[0].at.load(std::memory_order_acquire); // [segment-placed]
  }
  [[nodiscard]] const map_cell& cell_of(const payload& p) const noexcept { return cell_at(p[0]); }
  [[nodiscard]] segment& segment_of(std::uint64_t number) noexcept;
  [[nodiscard]] result<void> add_cells(const map_segment& s);
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
  /// Returns the hash of the key of an entry that no thread changes meanwhile.
  [[nodiscard]] std::uint64_t hash_at(const payload& p) const noexcept;
  [[nodiscard]] key_span key_at(const payload& p, std::uint64_t (&copy)[3]) const noexcept;
  [[nodiscard]] byte_span value_at(const payload& p, std::uint64_t (&copy)[2]) const noexcept;
  /// True for a chain that lies in the block store and is as long as `size` bytes need.
  [[nodiscard]] bool whole(chain c, std::uint64_t size) const noexcept;
  [[nodiscard]] const char* examine(std::uint64_t number) const noexcept;
  [[nodiscard]] const char* examine(std::uint64_t number, const map_cell& c) const noexcept;
  [[nodiscard]] const char* examine_log(std::uint64_t number) const noexcept;
  [[nodiscard]] std::span<const map_log_entry> log_in(const map_cell& c) const noexcept;
  void replay(map_recovery& r);
  /// What a cell shows by itself: why it is not valid, or null; and the hash of its key where it
  /// has one.
  struct judged {
    const char* wrong;
    std::uint64_t hash;
  };
  [[nodiscard]] judged judge(std::uint64_t number) const noexcept;
  template <class Decide> void judge_all(const recovery_crew& crew, Decide&& decide) const;
  [[nodiscard]] const char* adopt(std::uint64_t number, std::uint64_t hashed) noexcept;

  [[nodiscard]] bool take_cell(std::uint32_t& cell) noexcept;
  void give_cell(std::uint32_t cell) noexcept;
  [[nodiscard]] bool take_chain(std::size_t bytes, chain& c) noexcept;
  /// Retires a chain: it goes back to the block store once no lookup can be reading it.
  void retire(chain c) noexcept;
  void count(std::int64_t by) noexcept;
  // These store a change while the key's claim is held; `out` says what is to be published.
  map_status store_insert(const wanted_key& key, std::uint64_t hash, byte_span value,
                          map_change& out) noexcept;
  map_status store_update(std::uint64_t slot, const payload& p, std::uint64_t hash, byte_span value,
                          map_change& out) noexcept;
  void store_erase(std::uint64_t slot, const payload& p, std::uint64_t hash,
                   map_change& out) noexcept;
  [[nodiscard]] bool prepare_value(byte_span value, std::uint64_t (&half)[2]) noexcept;
  void store_word(const map_change& c) noexcept;
  void finish_store(map_change& c) noexcept;
  void flush_chain(chain c, std::size_t n, std::uint64_t& undrained) noexcept;
  /// Flushes the chains of the change's new key and value. False: it has none.
  bool flush_chains_of(const map_change& c, std::uint64_t& undrained) noexcept;
  void flush_cell(const map_change& c) noexcept;
  void publish_one(const map_change& c) noexcept;
  [[nodiscard]] staging& staging_without_row() noexcept;
  template <class Decide>
  map_status start(key_span key, bool may_insert, map_change& out, Decide&& decide) noexcept;

  /// Counts a key that may be inserted soon, for the growth of the index. False: it was not
  /// counted.
  bool expect_key(batch& by) noexcept;
  void unexpect_key() noexcept;
  /// The open batch of this thread, or null.
  [[nodiscard]] batch* my_open_batch() noexcept;
  [[nodiscard]] batch* open_in_list() noexcept;
  /// The owner of the claims of a thread's staged changes, from the owner of those of its batch.
  [[nodiscard]] static constexpr std::uint32_t staged_by(std::uint32_t owner) noexcept {
    return owner | std::uint32_t{1} << 30;
  }
  /// Runs one change in this thread's open batch, or in a batch of its own.
  template <class Fn> map_status run_single(Fn&& fn);
  map_status edit_single(key_span key, bool may_insert,
                         const std::function<map_status(map_edit&)>& fn);

  [[nodiscard]] bool try_settle() noexcept;
  void settle_locked() noexcept;
  void flush_cells(const std::vector<std::uint32_t>& cells, std::uint64_t& undrained) noexcept;

  media& media_;
  block_store& blocks_;
  std::array<segment, map_segments_max> segments_;
  const std::uint64_t cells_max_;
  std::uint64_t seed_;
  index_type index_;
  detail::key_claims claims_;
  std::unique_ptr<detail::retired_chains> retired_;
  std::array<batch*, max_thread_slots> open_{}; ///< the open batch of each thread with a row
  std::unique_ptr<staging[]> staged_;           ///< by row of a thread
  spin_lock open_lock_;                         ///< guards the list
  batch* open_list_ = nullptr;                  ///< the open batches of threads without a row
  std::mutex adding_;                           ///< held while a segment is added
  std::unique_ptr<batch_log> log_;              ///< of the last atomic_batch
  mutable detail::batch_order order_;           ///< in which they become visible
  alignas(cacheline_size) spin_lock free_lock_; ///< guards the free cells of all segments
  std::atomic<std::uint64_t> count_{0};         ///< number of cells
  alignas(cacheline_size) std::atomic<std::uint64_t> entries_{0};
  alignas(cacheline_size) std::atomic<std::uint64_t> expected_{0}; ///< keys, with open inserts
};

/// The changes of one thread that share a drain. A key that the batch has changed is claimed until
/// publish(), and other writers of the key wait. A second change of a key commits the first, and so
/// does a change past changes_max.
///
/// The calls return done, exists, missing, mismatch, full or too_long according to what is
/// published. Before publish() no thread sees the changes of the batch, and its own calls do not
/// either.
class durable_map::batch {
 public:
  static constexpr std::size_t changes_max = 64;

  explicit batch(durable_map& map) noexcept;
  /// Commits the batch.
  ~batch();
  batch(const batch&) = delete;
  batch& operator=(const batch&) = delete;

  map_status insert(key_span key, byte_span value) noexcept;
  map_status update(key_span key, byte_span value) noexcept;
  map_status upsert(key_span key, byte_span value) noexcept;
  map_status erase(key_span key) noexcept;
  map_status compare_exchange(key_span key, byte_span expected, byte_span value) noexcept;
  map_status update_in_place(key_span key, const std::function<void(std::span<std::byte>)>& fn);
  map_status alter(key_span key, const std::function<map_status(map_edit&)>& fn);
  map_status erase_if(key_span key, const std::function<bool(byte_span)>& unwanted);
  map_status increment(key_span key, std::uint64_t by = 1) noexcept;
  map_status decrement(key_span key, std::uint64_t by = 1) noexcept;

  /// Flushes every change so far. Where chains must come first it drains them itself: once, or more
  /// often where one drain cannot cover them. After the thread's next drain publish() may follow.
  /// The caller may have a quarter of drain_bytes_max() flushed before.
  void flush_changes() noexcept;
  /// Follows the drain behind flush_changes(): the changes that it covered become visible.
  void publish() noexcept;
  /// Does flush_changes(), a drain and publish().
  void commit() noexcept;
  /// The number of changes that are not published yet.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  friend class durable_map;

  template <class Decide> map_status change_key(key_span key, bool may_insert, Decide&& decide);
  map_status edit_key(key_span key, bool may_insert,
                      const std::function<map_status(map_edit&)>& fn);
  void claim(std::uint64_t hash, std::uint32_t stripe) noexcept;
  void unclaim_unused(std::uint32_t stripe) noexcept;
  /// Where the next change is stored. add() then counts it, if it was stored.
  [[nodiscard]] map_change& next() noexcept { return changes_[size_]; }
  map_status add(map_status stored) noexcept;
  void flush_chains() noexcept;

  durable_map& map_;
  std::uint32_t owner_ = 0;    ///< the number of its thread, plus one
  batch* next_open_ = nullptr; ///< of a thread without a row
  std::size_t size_ = 0, flushed_ = 0;
  std::array<map_change, changes_max> changes_; // the first size_ of them are changes
};

/// Changes that are made together, or not at all. The calls gather them, with copies of keys and
/// values, and commit() makes them. The last change of a key counts; an insert behind another
/// change of its key counts as an upsert. One thread uses the object. It allocates memory for what
/// it gathers, and keeps it when it is used again after a commit().
class durable_map::atomic_batch {
 public:
  /// The most changes.
  static constexpr std::size_t changes_max = map_log_entries_max;

  /// `map` outlives the object.
  explicit atomic_batch(durable_map& map) noexcept;
  ~atomic_batch();
  atomic_batch(const atomic_batch&) = delete;
  atomic_batch& operator=(const atomic_batch&) = delete;

  /// Each returns done, too_long, reserved or too_many, and is part of the batch only with `done`.
  map_status insert(key_span key, byte_span value) { return add(what::insert, key, value); }
  map_status upsert(key_span key, byte_span value) { return add(what::upsert, key, value); }
  map_status erase(key_span key) { return add(what::erase, key, {}); }
  /// Makes the batch the operation of that id, or of several, each of another client: commit()
  /// returns `repeated`, and changes nothing, where one of them took effect before. It is one of
  /// the changes. Returns done or too_many.
  map_status identify(operation_id id);

  /// The number of changes.
  [[nodiscard]] std::size_t size() const noexcept;
  /// Forgets the changes.
  void clear() noexcept;

  /// Makes the changes durable, with two drains, and then visible. Returns done; repeated: see
  /// identify(); exists: a key of an insert is in the map; full: there are not enough cells or
  /// blocks, or no run of blocks for the log, beside those that the batch gives up; or failed: the
  /// medium has failed. Only with `done` has any thread seen anything of the batch. With `failed`
  /// the next open has all of it or nothing; with the others, nothing has changed. Where a key of
  /// an erase is missing there is nothing to do for it. Afterwards the batch is empty. An open
  /// `batch` of this thread is committed first. The thread has no staged changes open.
  map_status commit() noexcept;

 private:
  enum class what : std::uint8_t { insert, upsert, erase, identify };
  struct change;

  map_status add(what kind, key_span key, byte_span value);
  [[nodiscard]] bool took_effect(const change& c) const noexcept;
  [[nodiscard]] key_span key_of(const change& c) const noexcept;
  [[nodiscard]] byte_span value_of(const change& c) const noexcept;
  void prepare() noexcept;
  [[nodiscard]] map_status make() noexcept;
  void claim_all() noexcept;
  void unclaim_all(bool park) noexcept;
  [[nodiscard]] map_status find_all() noexcept;
  [[nodiscard]] bool store_all() noexcept;
  [[nodiscard]] bool store_one(change& c) noexcept;
  [[nodiscard]] bool store_log() noexcept;
  void take_back(std::size_t stored) noexcept;
  void make_durable() noexcept;
  void apply_all() noexcept;
  void publish_all() noexcept;
  void hand_over() noexcept;

  durable_map& map_;
  std::uint32_t owner_ = 0; ///< of the claims, during commit()
  std::vector<change> changes_;
  std::vector<std::byte> bytes_; ///< their keys and values, one after the other
  std::uint64_t fresh_ = 0;      ///< keys that the batch adds
  std::uint64_t clients_ = 0;    ///< those of them that hold the operation ids of clients
};

} // namespace chainring
