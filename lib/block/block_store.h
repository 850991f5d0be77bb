// SPDX-License-Identifier: BSD-3-Clause
/// Block store: allocates chains of contiguous blocks from a media, best fit, all or nothing.
///
/// The store's blocks are the bytes [offset, offset + block_count * block_size) of a media. A
/// *chain* is a run of contiguous blocks. allocate() answers a request with as few chains as it
/// can. It takes a free run of exactly the requested length if there is one, otherwise the shortest
/// longer run, which it splits; if no single run is long enough it takes several, the longest
/// first. A released run is merged with the free runs on both sides of it.
///
/// **When to use:** for objects whose size is known when they are allocated and that recovery can
/// reach from a root. **When not:** for objects of one fixed size that need not be durable,
/// `rte_mempool` is simpler.
///
/// **Durability:** the store itself keeps nothing on media; its index of free runs lives in DRAM.
/// After a crash the live blocks are those that recovery reaches: between begin_recovery() and
/// finish_recovery() every owner marks its chains, and all other blocks become free. So no crash
/// can leak a block or free one twice. In return a caller must release a chain only after the store
/// that unlinked the chain has been drained.
///
/// **Thread-safety:** allocate*(), release() and resize() may be called from any thread; they
/// neither allocate memory nor throw. Runs of 1 to 8 blocks go through a cache of the calling
/// thread (thread_slot.h), so the usual allocation and release take no lock and no locked
/// instruction. A thread that has no row there goes to the index. The index behind the caches is
/// protected by one short spinlock and costs O(log n) per run. When the index runs short, the store
/// takes back the caches of all threads (one membarrier system call where the kernel has it), so a
/// request fails only if the store as a whole cannot meet it.
///
/// **What the caches cost:** blocks in a cache are free, but the index does not see them. So a run
/// that a thread has given back is not merged with its neighbours, and a request may split a longer
/// run, or take several, although one of its length is in the cache of another thread. A refill
/// takes at most one sixteenth of what is free, and a thread keeps at most cache_runs_max runs of
/// each length from 1 to 8. allocate_exact() is for requests that want the best fit all the same,
/// such as long-lived objects; with cache_runs_max 0 every request has it.
///
/// **Memory:** up to 20 bytes of DRAM for each block, touched only as far as the store fragments.
///
/// **Lost memory:** where the media tolerates the loss of blocks (media.h), the store never hands
/// out a block whose memory is known to be lost. It withholds such a block, which then counts as
/// allocated, until the next open. allocate_required() is for objects that their owner cannot check
/// at each read; losing their memory fails the media.
///
/// **Errors:** create() refuses wrong geometry with a sentence. A full store is a result (0 or
/// false), not an error. Releasing blocks that are not allocated breaks the contract, and is
/// asserted where it can be seen.
///
/// Example:
/// ```
/// auto store = chainring::block_store::create(media, 4096, 256, 1024);
/// chainring::chain extents[4];
/// if (unsigned n = (*store)->allocate(10, extents))   // 10 blocks in n chains
///   (*store)->release(std::span(extents, n));
/// ```
#pragma once
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "../base/error.h"
#include "../media/media.h"
#include "../media/recovery_part.h"

namespace chainring {

/// A run of `blocks` contiguous blocks that begins with block number `first`.
struct chain {
  std::uint32_t first = 0;
  std::uint32_t blocks = 0;
  friend bool operator==(const chain&, const chain&) = default;
};

struct block_store_options {
  /// Most runs of each short length that one thread may keep in its cache, 0 to 256; with 0 there
  /// are no caches. A thread that takes a burst of up to half as many and gives it back goes to the
  /// index once.
  std::uint32_t cache_runs_max = 256;
  /// Most blocks that extend() may reach later; 0 stands for block_count, so the store cannot grow.
  std::uint32_t block_count_max = 0;
};

/// The counts belong to one instant if no other thread works at the time. Otherwise each count is
/// right by itself, and sums of several counts may be slightly off.
struct block_store_statistics {
  std::uint64_t block_size = 0; ///< bytes
  std::uint64_t block_count = 0;
  std::uint64_t free_blocks = 0; ///< blocks in the index or in a cache
  std::uint64_t live_blocks = 0; ///< block_count - free_blocks
  /// live blocks that nobody owns, because their memory was lost
  std::uint64_t withheld_blocks = 0;
  std::uint64_t cached_blocks = 0; ///< free blocks that lie in the caches of threads
  std::uint64_t free_runs = 0;     ///< runs in the index
  std::uint64_t largest_run = 0;   ///< length of the longest run in the index, blocks
  /// Entry i counts the runs in the index that have 2^i to 2^(i+1) - 1 blocks.
  std::array<std::uint64_t, 32> runs_by_length{};
  /// 1 - largest_run / (free blocks in the index): 0 if they form one run, near 1 if they are
  /// scattered.
  double fragmentation = 0;
  std::uint64_t refused = 0;  ///< requests that could not be met
  std::uint64_t reclaims = 0; ///< how often the caches of all threads were taken back
};

/// What is free in a part of the store, as far as the index knows it.
struct block_store_room {
  std::uint32_t free = 0;    ///< blocks
  std::uint32_t longest = 0; ///< blocks of the longest stretch of them
  std::uint32_t runs = 0;    ///< stretches
};

class block_store {
 public:
  /// Most blocks that one store can have.
  static constexpr std::uint64_t blocks_max = 0x7fff'ffff;
  /// Longest run that goes through the caches of threads, in blocks.
  static constexpr std::uint32_t cached_length_max = 8;

  /// Makes a store over `block_count` blocks of `block_size` bytes (a power of two, 64 to 4096)
  /// that begin at `offset` (a multiple of 64) of the media. The media must outlive the store. All
  /// blocks are free at first; the caller that opens a store with content goes on with
  /// begin_recovery(). All DRAM that the store needs is allocated here.
  static result<std::unique_ptr<block_store>> create(media& medium, std::uint64_t offset,
                                                     std::uint32_t block_size,
                                                     std::uint64_t block_count,
                                                     block_store_options options = {});
  ~block_store();
  block_store(const block_store&) = delete;
  block_store& operator=(const block_store&) = delete;

  // --- data path --------------------------------------------------------------------------------

  /// Allocates `blocks` blocks (at least 1) in as few chains as possible. Returns the number of
  /// chains written to `out`. Returns 0, and allocates nothing, if too few blocks are free or they
  /// would need more chains than `out` holds.
  [[nodiscard]] unsigned allocate(std::uint32_t blocks, std::span<chain> out) noexcept;
  /// Allocates `blocks` blocks as one chain, or nothing.
  [[nodiscard]] bool allocate_contiguous(std::uint32_t blocks, chain& out) noexcept;
  /// As allocate(), but best fit among all free blocks: it takes back the caches of all threads
  /// before. That costs a system call where they hold anything.
  [[nodiscard]] unsigned allocate_exact(std::uint32_t blocks, std::span<chain> out) noexcept;
  /// Allocates up to cached_length_max blocks as one chain, if that can be had without taking the
  /// caches of other threads back and without leaving out lost memory. False says nothing about
  /// allocate(), and counts as no refusal.
  [[nodiscard]] bool try_allocate(std::uint32_t blocks, chain& out) noexcept;
  /// Fills `out` with chains of `blocks` blocks each, or allocates nothing.
  [[nodiscard]] bool allocate_bulk(std::uint32_t blocks, std::span<chain> out) noexcept;
  /// Allocates `blocks` blocks as one chain of memory whose loss fails the media (media::require),
  /// or nothing.
  [[nodiscard]] bool allocate_required(std::uint32_t blocks, chain& out) noexcept;
  /// Gives back chains, or a part of a chain.
  void release(const chain& c) noexcept;
  void release(std::span<const chain> chains) noexcept;
  /// Gives back a whole chain that came from allocate_required() or mark_required().
  void release_required(const chain& c) noexcept;
  /// Changes the length of an allocated chain to `blocks` (at least 1) without moving it. Making it
  /// shorter always succeeds. Making it longer succeeds if the blocks behind it are free in the
  /// index; otherwise returns false and changes nothing.
  [[nodiscard]] bool resize(chain& c, std::uint32_t blocks) noexcept;

  // --- arithmetic -------------------------------------------------------------------------------

  [[nodiscard]] std::uint32_t block_size() const noexcept { return block_size_; }
  /// Most blocks that extend() may reach.
  [[nodiscard]] std::uint64_t block_count_max() const noexcept;
  [[nodiscard]] std::uint64_t block_count() const noexcept {
    return block_count_.load(std::memory_order_relaxed); // [block-count-grown]
  }
  /// The number of blocks that hold `bytes` bytes.
  [[nodiscard]] std::uint64_t blocks_for(std::uint64_t bytes) const noexcept {
    return (bytes + block_size_ - 1) >> block_shift_;
  }
  [[nodiscard]] std::uint64_t size_of(const chain& c) const noexcept {
    return std::uint64_t{c.blocks} << block_shift_;
  }
  /// The first byte of the chain, which must be valid(): ask valid() first for a chain read from
  /// media.
  [[nodiscard]] std::byte* address(const chain& c) const noexcept {
    return blocks_ + (std::uint64_t{c.first} << block_shift_);
  }
  /// True if the chain has at least one block and lies inside the store.
  [[nodiscard]] bool valid(const chain& c) const noexcept {
    return c.blocks != 0 && std::uint64_t{c.first} + c.blocks <= block_count();
  }
  [[nodiscard]] media& medium() const noexcept { return media_; }

  // --- recovery, growth and inspection; not the data path ---------------------------------------

  /// Forgets every allocation and begins recovery. Until finish_recovery() no block is free, and
  /// only the mark calls and the arithmetic may be used. `several` announces that several threads
  /// will mark, which then costs locked instructions.
  void begin_recovery(bool several = false) noexcept;
  /// Marks the chain as live. Thread-safe if several threads were announced. Fails with
  /// errc::corrupt, names the chain and marks nothing if the chain is out of range or overlaps one
  /// marked before.
  [[nodiscard]] result<void> mark_live(const chain& c);
  /// As mark_live(), but returns false where mark_live() returns an error.
  [[nodiscard]] bool try_mark_live(const chain& c) noexcept;
  /// Prefetches what a later mark_live() of a chain that begins at `block` will touch.
  void prefetch_live(std::uint32_t block) const noexcept;
  /// As mark_live(), for a chain that allocate_required() gave. Fails also with errc::io if memory
  /// of the chain is lost.
  [[nodiscard]] result<void> mark_required(const chain& c);
  /// Takes back a mark_required(). Thread-safe under the same condition as mark_live().
  void unmark_required(const chain& c) noexcept;
  /// Takes back a mark_live(), for an object of which another part turned out to be damaged.
  /// Thread-safe under the same condition as mark_live().
  void unmark_live(const chain& c) noexcept;
  /// Ends recovery: every block that was not marked becomes free.
  void finish_recovery() noexcept;
  /// The store's part of an open or a check, which one thread runs. Its `repair` step begins the
  /// recovery, so it must come before the parts of all owners. Its `rebuild` step finishes the
  /// recovery, so it must come after the last mark.
  [[nodiscard]] recovery_part part();

  // --- runs that a record of the caller names by their offset, such as the segments of a table --

  /// Allocates `blocks` contiguous blocks of memory whose loss fails the media and returns their
  /// offset in the media. Returns nothing if no free run is that long. The blocks still hold old
  /// bytes.
  [[nodiscard]] std::optional<std::uint64_t> reserve_run(std::uint32_t blocks) noexcept;
  /// Gives back a whole run that came from reserve_run() or recover_run().
  void release_run(std::uint64_t offset, std::uint32_t blocks) noexcept;
  /// Marks a run as live during recovery. Fails with errc::corrupt if the run does not lie on
  /// blocks of the store or overlaps a chain marked before, and with errc::io if memory of the run
  /// is lost. A run that fails is not marked.
  [[nodiscard]] result<void> recover_run(std::uint64_t offset, std::uint32_t blocks);

  // --- for whoever moves chains together, such as message_compactor ------------------------------

  /// As allocate(), from the index alone: no cache is used or taken back, and a refusal is not
  /// counted.
  [[nodiscard]] unsigned allocate_from_index(std::uint32_t blocks, std::span<chain> out) noexcept;
  /// Allocates what the index has free among the `blocks` blocks from `first` on, the lowest first,
  /// until `out` is full. Returns how many chains it allocated.
  [[nodiscard]] unsigned allocate_inside(std::uint32_t first, std::uint32_t blocks,
                                         std::span<chain> out) noexcept;
  /// Gives chains back to the index, where they merge with their neighbours at once.
  void release_to_index(std::span<const chain> chains) noexcept;
  /// Counts what is free among the `blocks` blocks from `first` on. It takes time in proportion to
  /// them, during which no other thread gets blocks from the index.
  [[nodiscard]] block_store_room room_inside(std::uint32_t first, std::uint32_t blocks) const;
  /// The number of free runs in the index.
  [[nodiscard]] std::uint64_t free_runs() const noexcept;
  /// How many requests could not be met so far.
  [[nodiscard]] std::uint64_t refusals() const noexcept;

  /// Enlarges the store to `block_count` blocks, at most options.block_count_max, after the media
  /// grew. Thread-safe; an allocation that was refused meanwhile can be tried again.
  [[nodiscard]] result<void> extend(std::uint64_t block_count);
  /// Moves the blocks in all caches back into the index, which merges them. Thread-safe.
  void flush_caches() noexcept;
  [[nodiscard]] block_store_statistics statistics() const noexcept;
  /// Walks the index and the caches. Fails with errc::corrupt and names the block if runs overlap,
  /// if two free runs touch, or if runs disagree with their tags or with the statistics. No
  /// data-path call may run meanwhile.
  [[nodiscard]] result<void> check() const;

 private:
  struct state;
  [[nodiscard]] bool lost(const chain& c) const noexcept {
    return media_.lost(address(c), size_of(c));
  }
  [[nodiscard]] unsigned replace_lost(std::uint32_t blocks, std::span<chain> out,
                                      unsigned used) noexcept;
  void give_back_sound(const chain& c) noexcept;
  void withhold(chain c) noexcept;
  block_store(media& medium, std::byte* blocks, std::uint32_t block_size, std::uint64_t block_count,
              std::unique_ptr<state> s) noexcept;

  media& media_;
  std::byte* blocks_;
  std::uint32_t block_size_;
  unsigned block_shift_;
  std::atomic<std::uint64_t> block_count_;
  std::unique_ptr<state> state_;
};

} // namespace chainring
