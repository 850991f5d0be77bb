// SPDX-License-Identifier: BSD-3-Clause
/// Block store: chains of contiguous blocks in a media, best fit, all or nothing.
///
/// The blocks are [offset, offset + block_count * block_size) of a media. A *chain* is a run of
/// contiguous blocks; a request is met by the fewest and longest chains: a free run of exactly that
/// length first, then the shortest longer one (split, the remainder stays free), then several runs,
/// longest first. Free runs coalesce on both sides.
///
/// **When to use:** for anything whose size is known when it is allocated and that recovery can
/// reach from a root. **When not:** for one fixed size without durability, `rte_mempool` is
/// simpler.
///
/// **Durability:** none of its own. Allocation and release store nothing on media; the free index
/// lives in DRAM. What is live is what recovery reaches: between begin_recovery() and
/// finish_recovery() every owner marks its chains, and the rest becomes free. So nothing leaks and
/// nothing is freed twice, whatever a crash leaves. The rule callers keep in return: release a
/// chain only after your own drain of the store that unlinked it.
///
/// **Thread-safety:** allocate*(), release(), resize() from any thread, without allocation or
/// exceptions. Runs of 1 to 8 blocks go through a cache of the calling thread's (thread_slot.h), so
/// the usual pair of calls takes no lock and no locked instruction; the index behind is under one
/// short spinlock, O(log n) a run. When the index is short, the caches of all threads are taken
/// back (one membarrier system call where the kernel has it), so a request fails only if the store
/// as a whole cannot meet it.
///
/// **Memory:** up to 20 bytes of DRAM a block, touched only as far as the store fragments.
///
/// **Lost memory:** where the media tolerates the loss of blocks (media.h), none whose memory is
/// known to be lost is given out: it is withheld, allocated for good, until the next open.
/// allocate_required() is for what its owner cannot check whenever it reads it.
///
/// Errors: create() refuses geometry with a sentence; full is a result (0 or false), not an error.
/// Releasing what is not allocated is a broken contract and asserted where it can be seen.
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

/// `blocks` contiguous blocks from block number `first` on.
struct chain {
  std::uint32_t first = 0;
  std::uint32_t blocks = 0;
  friend bool operator==(const chain&, const chain&) = default;
};

struct block_store_options {
  /// Runs of each short length that one thread may keep, 0 to 256; 0: no caches.
  std::uint32_t cache_runs_max = 64;
  /// Blocks extend() may reach later; 0: block_count, no growth.
  std::uint32_t block_count_max = 0;
};

/// Counts are of one instant when no other thread works; else each is right, and their sums nearly.
struct block_store_statistics {
  std::uint64_t block_size = 0; ///< bytes
  std::uint64_t block_count = 0;
  std::uint64_t free_blocks = 0;     ///< in the index or in a cache
  std::uint64_t live_blocks = 0;     ///< block_count - free_blocks
  std::uint64_t withheld_blocks = 0; ///< of the live ones, those nobody has: their memory was lost
  std::uint64_t cached_blocks = 0;   ///< of the free ones, those in threads' caches
  std::uint64_t free_runs = 0;       ///< in the index
  std::uint64_t largest_run = 0;     ///< blocks, in the index
  /// [i]: runs in the index of 2^i to 2^(i+1) - 1 blocks.
  std::array<std::uint64_t, 32> runs_by_length{};
  /// 1 - largest_run / free blocks in the index: 0 where all is one run, near 1 where it is dust.
  double fragmentation = 0;
  std::uint64_t refused = 0;  ///< requests that could not be met
  std::uint64_t reclaims = 0; ///< times all caches were taken back
};

class block_store {
 public:
  /// Most blocks of a store.
  static constexpr std::uint64_t blocks_max = 0x7fff'ffff;
  /// Longest run that goes through the threads' caches, blocks.
  static constexpr std::uint32_t cached_length_max = 8;

  /// Over `block_count` blocks of `block_size` bytes (a power of two, 64 to 4096) from `offset` (a
  /// multiple of 64) of the media, which outlives the store. All blocks are free; to open a store
  /// that holds something, go on with begin_recovery(). All DRAM is allocated here.
  static result<std::unique_ptr<block_store>> create(media& on, std::uint64_t offset,
                                                     std::uint32_t block_size,
                                                     std::uint64_t block_count,
                                                     block_store_options options = {});
  ~block_store();
  block_store(const block_store&) = delete;
  block_store& operator=(const block_store&) = delete;

  // --- data path
  // ----------------------------------------------------------------------------------

  /// `blocks` blocks (at least 1) in the fewest, longest chains, all at once. Returns how many
  /// chains of `out` were used; 0: fewer blocks are free, or they need more chains than `out`
  /// holds, and nothing was taken.
  [[nodiscard]] unsigned allocate(std::uint32_t blocks, std::span<chain> out) noexcept;
  /// The same in one chain, or nothing.
  [[nodiscard]] bool allocate_contiguous(std::uint32_t blocks, chain& out) noexcept;
  /// As many chains as `out` holds, each of `blocks` blocks, or nothing.
  [[nodiscard]] bool allocate_bulk(std::uint32_t blocks, std::span<chain> out) noexcept;
  /// The same, of memory whose loss fails the media (media::require).
  [[nodiscard]] bool allocate_required(std::uint32_t blocks, chain& out) noexcept;
  /// Gives chains, or a part of a chain, back.
  void release(const chain& c) noexcept;
  void release(std::span<const chain> chains) noexcept;
  /// Of allocate_required(), or mark_required(): whole.
  void release_required(const chain& c) noexcept;
  /// Makes an allocated chain `blocks` (at least 1) blocks long where it is: shorter always, longer
  /// when the blocks behind it are free in the index. False: nothing changed.
  [[nodiscard]] bool resize(chain& c, std::uint32_t blocks) noexcept;

  // --- arithmetic
  // ---------------------------------------------------------------------------------

  [[nodiscard]] std::uint32_t block_size() const noexcept { return block_size_; }
  [[nodiscard]] std::uint64_t block_count() const noexcept {
    return block_count_.load(std::memory_order_relaxed); // [B4]
  }
  /// Blocks that hold `bytes` bytes.
  [[nodiscard]] std::uint64_t blocks_for(std::uint64_t bytes) const noexcept {
    return (bytes + block_size_ - 1) >> block_shift_;
  }
  [[nodiscard]] std::uint64_t size_of(const chain& c) const noexcept {
    return std::uint64_t{c.blocks} << block_shift_;
  }
  /// First byte of the chain. The chain is valid(): what comes from media is asked first.
  [[nodiscard]] std::byte* address(const chain& c) const noexcept {
    return blocks_ + (std::uint64_t{c.first} << block_shift_);
  }
  /// At least one block, and all inside the store.
  [[nodiscard]] bool valid(const chain& c) const noexcept {
    return c.blocks != 0 && std::uint64_t{c.first} + c.blocks <= block_count();
  }
  [[nodiscard]] media& medium() const noexcept { return media_; }

  // --- recovery, growth and inspection; not the data path ---------------------------------------

  /// Forgets every allocation: until finish_recovery() nothing is free. No other call meanwhile but
  /// mark_live() and the arithmetic. One thread recovers, or `several`: that costs locked
  /// instructions.
  void begin_recovery(bool several = false) noexcept;
  /// The chain is live. Thread-safe where several threads were announced. errc::corrupt, naming the
  /// chain: it is out of range or overlaps one marked before; then nothing was marked.
  [[nodiscard]] result<void> mark_live(const chain& c);
  /// The same without the sentence.
  [[nodiscard]] bool try_mark_live(const chain& c) noexcept;
  /// For a mark_live() of a chain that begins there, some calls later.
  void prefetch_live(std::uint32_t block) const noexcept;
  /// mark_live() of what allocate_required() gave. Also errc::io: its memory is lost.
  [[nodiscard]] result<void> mark_required(const chain& c);
  /// Takes a mark_required() back. Thread-safe as mark_live().
  void unmark_required(const chain& c) noexcept;
  /// Takes a mark_live() back, where a part of the same object turned out to be damaged.
  /// Thread-safe as mark_live().
  void unmark_live(const chain& c) noexcept;
  /// Whatever was not marked is free.
  void finish_recovery() noexcept;
  /// The store's share of an open or a check, one thread. Its `repair` begins the recovery, so it
  /// stands before the parts of all owners; its `rebuild` finishes it, behind the last mark.
  [[nodiscard]] recovery_part part();

  // --- runs that a record of the caller's names by their offset: segments of tables --------------

  /// `blocks` contiguous blocks of memory whose loss fails the media, as an offset of the media;
  /// nothing where no free run is that long. Their bytes are what was left in them.
  [[nodiscard]] std::optional<std::uint64_t> reserve_run(std::uint32_t blocks) noexcept;
  /// Of reserve_run(), or recover_run(): whole.
  void release_run(std::uint64_t offset, std::uint32_t blocks) noexcept;
  /// During recovery: the run is live. errc::corrupt: it does not lie on blocks of the store, or
  /// overlaps what was marked before; errc::io: its memory is lost. Then nothing was marked.
  [[nodiscard]] result<void> recover_run(std::uint64_t offset, std::uint32_t blocks);

  /// After the media grew: the store has `block_count` blocks, at most options.block_count_max.
  /// Thread-safe: whoever is refused meanwhile may ask again.
  [[nodiscard]] result<void> extend(std::uint64_t block_count);
  /// Puts every cached block back into the index, where it coalesces. Thread-safe.
  void flush_caches() noexcept;
  [[nodiscard]] block_store_statistics statistics() const noexcept;
  /// Walks the index and the caches: errc::corrupt, naming the block, where runs overlap, touch
  /// without having coalesced, or disagree with their tags or with the statistics. No data-path
  /// call runs meanwhile.
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
  block_store(media& on, std::byte* blocks, std::uint32_t block_size, std::uint64_t block_count,
              std::unique_ptr<state> s) noexcept;

  media& media_;
  std::byte* blocks_;
  std::uint32_t block_size_;
  unsigned block_shift_;
  std::atomic<std::uint64_t> block_count_;
  std::unique_ptr<state> state_;
};

} // namespace chainring
