// SPDX-License-Identifier: BSD-3-Clause
// Allocation through the caches of threads, the index behind them, and recovery.
//
// `revoked` changes only under the lock, and every cache is empty from the revocation until the
// restoration. Otherwise a full store could refuse a request while blocks lie in another thread's
// cache.
//
// Ordering labels:
//   [run-cache-owned]  The entries and counts of a cache are used by its owner between enter() and
//     leave(), by the holder of the lock while the caches are revoked, and by its owner under the
//     lock otherwise. The access itself orders nothing: the labels of thread_cache.h order it.
//   [block-counts-shown]  Statistics, and the guess whether a revocation is worth its cost, read
//     the counts of other threads at any moment; the read orders nothing.
//   [block-count-grown]  extend() raises the number of blocks before it puts the new blocks into
//     the index. A thread that owns a new block took it out of the index under the same lock.
#include "block/block_store.h"

#include <algorithm>
#include <bit>
#include <mutex>
#include <string>
#include <vector>

#include "base/assert.h"
#include "base/lazy_array.h"
#include "base/spin_lock.h"
#include "block/block_index.h"
#include "block/thread_cache.h"

namespace chainring {

namespace {

constexpr std::uint32_t cached_lengths = block_store::cached_length_max;
constexpr std::uint32_t cache_runs_limit = 256;
/// Chains of lost memory that one request withholds before it is refused. Each of them costs a
/// signal.
constexpr int replacements_max = 64;

// What a program is told that may not make a call.
constexpr const char* in_recovery =
    "blocks are asked for or given back during a recovery; call finish_recovery() first";
constexpr const char* not_in_recovery =
    "chains are marked live outside of a recovery; call begin_recovery() first";
constexpr const char* no_blocks = "a request for no blocks; ask for at least one";

/// The cached runs of one thread, by length. The newest run is last.
struct alignas(cacheline_size) thread_runs {
  std::atomic<std::uint32_t> busy;
  std::atomic<std::uint32_t> count[cached_lengths];
  std::atomic<std::uint32_t> firsts[cached_lengths][cache_runs_limit];
};

std::uint32_t get(const std::atomic<std::uint32_t>& a) noexcept {
  return a.load(std::memory_order_relaxed); // [run-cache-owned] [block-counts-shown]
}
void set(std::atomic<std::uint32_t>& a, std::uint32_t v) noexcept {
  a.store(v, std::memory_order_relaxed); // [run-cache-owned]
}
void count_one(std::atomic<std::uint64_t>& a, std::uint64_t n = 1) noexcept {
  a.fetch_add(n, std::memory_order_relaxed); // [block-counts-shown]
}

} // namespace

struct block_store::state {
  detail::revocable caches_open;
  detail::lazy_array<thread_runs> caches;
  std::uint32_t cache_runs_max = 0;

  alignas(cacheline_size) spin_lock lock; ///< protects all members below
  detail::block_index index;
  std::uint64_t block_count_max = 0;
  /// once the index has this many free blocks, caches may fill again
  std::uint64_t restore_free = 1;
  bool recovering = false;
  std::atomic<std::uint64_t> refused{0}, reclaims{0}, withheld{0};

  /// The cache of this thread; null: it has none (thread_slot.h).
  [[nodiscard]] thread_runs* mine() const noexcept {
    unsigned row = 0;
    return detail::own_row(row) ? &caches[row] : nullptr;
  }

  [[nodiscard]] bool cached_length(std::uint32_t blocks) const noexcept {
    return blocks - 1 < cached_lengths && cache_runs_max != 0;
  }

  /// Moves the `n` oldest cached runs of one length back to the index. The caller holds the lock.
  void flush_runs(thread_runs& cache, std::uint32_t length, std::uint32_t n) noexcept {
    std::uint32_t firsts[cache_runs_limit];
    auto& entries = cache.firsts[length - 1];
    const std::uint32_t count = get(cache.count[length - 1]);
    for (std::uint32_t i = 0; i < n; ++i)
      firsts[i] = get(entries[i]);
    for (std::uint32_t i = n; i < count; ++i)
      set(entries[i - n], get(entries[i]));
    set(cache.count[length - 1], count - n);
    // Runs that adjoin each other enter the index as one run, which changes the tree once.
    std::sort(firsts, firsts + n);
    for (std::uint32_t i = 0; i < n;) {
      std::uint32_t blocks = length;
      std::uint32_t next = i + 1;
      for (; next < n && firsts[next] == firsts[i] + blocks; ++next)
        blocks += length;
      index.release(firsts[i], blocks);
      i = next;
    }
  }

  /// Counts the blocks in all caches. The count is exact while the caches are revoked or no other
  /// thread works.
  [[nodiscard]] std::uint64_t cached_blocks() const noexcept {
    if (cache_runs_max == 0) return 0;
    std::uint64_t blocks = 0;
    for (unsigned slot = 0, slots = detail::slots_in_use(); slot < slots; ++slot)
      for (std::uint32_t length = 1; length <= cached_lengths; ++length)
        blocks += std::uint64_t{length} * get(caches[slot].count[length - 1]);
    return blocks;
  }

  /// Moves the blocks of every cache back to the index and leaves the caches revoked. Returns false
  /// if there was nothing to move. The caller holds the lock.
  bool reclaim() noexcept {
    if (caches_open.revoked() || cached_blocks() == 0) return false;
    caches_open.revoke();
    for (unsigned slot = 0, slots = detail::slots_in_use(); slot < slots; ++slot) {
      thread_runs& cache = caches[slot];
      detail::revocable::wait_out(cache.busy);
      for (std::uint32_t length = 1; length <= cached_lengths; ++length)
        if (const std::uint32_t n = get(cache.count[length - 1]); n != 0)
          flush_runs(cache, length, n);
    }
    count_one(reclaims);
    return true;
  }

  /// Restores the caches once the index has enough blocks to fill them. A store that stays nearly
  /// full therefore goes to the index each time and makes no system call. The caller holds the
  /// lock.
  void restore_if_plenty() noexcept {
    if (caches_open.revoked() && index.free_blocks() >= restore_free) caches_open.restore();
  }

  /// Takes a run from the cache of this thread. Returns false if the cache is empty or revoked.
  [[nodiscard]] bool pop(std::uint32_t length, std::uint32_t& first) noexcept {
    unsigned row = 0;
    if (!detail::own_row(row)) [[unlikely]]
      return false;
    thread_runs& cache = caches[row];
    if (!caches_open.enter(cache.busy)) return false;
    const std::uint32_t n = get(cache.count[length - 1]);
    if (n != 0) {
      first = get(cache.firsts[length - 1][n - 1]);
      set(cache.count[length - 1], n - 1);
    }
    caches_open.leave(cache.busy);
    return n != 0;
  }

  /// Puts a run into the cache of this thread. Returns false if the cache is full or revoked.
  [[nodiscard]] bool push(std::uint32_t length, std::uint32_t first) noexcept {
    unsigned row = 0;
    if (!detail::own_row(row)) [[unlikely]]
      return false;
    thread_runs& cache = caches[row];
    if (!caches_open.enter(cache.busy)) return false;
    const std::uint32_t n = get(cache.count[length - 1]);
    const bool room = n < cache_runs_max;
    if (room) {
      set(cache.firsts[length - 1][n], first);
      set(cache.count[length - 1], n + 1);
    }
    caches_open.leave(cache.busy);
    return room;
  }

  /// Fills the cache of this thread, if it has one and that holds no run of the length, with at
  /// most one sixteenth of what is free, and returns one more run to the caller. Returns false if
  /// the index cannot spare any. The caller holds the lock.
  [[nodiscard]] bool refill(std::uint32_t length, std::uint32_t& first) noexcept {
    thread_runs* const cache = mine();
    if (cache == nullptr || get(cache->count[length - 1]) != 0 || caches_open.revoked())
      return false;
    const std::uint64_t spare = index.free_blocks() / 16 / length;
    const auto want = static_cast<unsigned>(std::min<std::uint64_t>(cache_runs_max / 2 + 1, spare));
    if (want < 2) return false;
    std::uint32_t firsts[cache_runs_limit];
    const unsigned got = index.take_batch(length, firsts, want);
    if (got == 0) return false;
    // The cache is last in, first out: put the lowest addresses on top.
    std::uint32_t n = 0;
    for (unsigned i = got - 1; i > 0; --i)
      set(cache->firsts[length - 1][n++], firsts[i]);
    set(cache->count[length - 1], n);
    first = firsts[0];
    return true;
  }

  [[gnu::noinline]] unsigned allocate_behind_cache(std::uint32_t blocks,
                                                   std::span<chain> out) noexcept {
    const std::lock_guard guard(lock);
    CHAINRING_EXPECTS(!recovering, in_recovery);
    if (cached_length(blocks) && !out.empty() && refill(blocks, out[0].first)) {
      out[0].blocks = blocks;
      return 1;
    }
    unsigned used = index.take(blocks, out);
    if (used == 0 && reclaim()) {
      used = index.take(blocks, out);
      restore_if_plenty();
    }
    if (used == 0) count_one(refused);
    return used;
  }

  [[nodiscard]] unsigned take_exact(std::uint32_t blocks, std::span<chain> out) noexcept {
    CHAINRING_EXPECTS(blocks != 0, no_blocks);
    const std::lock_guard guard(lock);
    CHAINRING_EXPECTS(!recovering, in_recovery);
    reclaim();
    const unsigned used = index.take(blocks, out);
    restore_if_plenty();
    if (used == 0) count_one(refused);
    return used;
  }

  [[gnu::noinline]] bool try_behind_cache(std::uint32_t blocks, chain& out) noexcept {
    const std::lock_guard guard(lock);
    return (cached_length(blocks) && refill(blocks, out.first)) ||
           index.take(blocks, std::span(&out, 1)) == 1;
  }

  [[gnu::noinline]] void release_behind_cache(const chain& c) noexcept {
    const std::lock_guard guard(lock);
    CHAINRING_EXPECTS(!recovering, in_recovery);
    thread_runs* const cache = mine();
    if (cached_length(c.blocks) && cache != nullptr && !caches_open.revoked())
      if (const std::uint32_t n = get(cache->count[c.blocks - 1]); n >= cache_runs_max)
        flush_runs(*cache, c.blocks, (n + 1) / 2);
    index.release(c.first, c.blocks);
    restore_if_plenty();
  }

  /// Allocates as allocate() does while no memory is lost; give_back() releases likewise.
  [[nodiscard]] unsigned take(std::uint32_t blocks, std::span<chain> out) noexcept {
    CHAINRING_EXPECTS(blocks != 0, no_blocks);
    if (cached_length(blocks) && !out.empty() && pop(blocks, out[0].first)) {
      out[0].blocks = blocks;
      return 1;
    }
    return allocate_behind_cache(blocks, out);
  }
  void give_back(const chain& c) noexcept {
    if (cached_length(c.blocks) && push(c.blocks, c.first)) return;
    release_behind_cache(c);
  }
};

block_store::block_store(media& medium, std::byte* blocks, std::uint32_t block_size,
                         std::uint64_t block_count, std::unique_ptr<state> s) noexcept
    : media_(medium), blocks_(blocks), block_size_(block_size),
      block_shift_(static_cast<unsigned>(std::countr_zero(block_size))), block_count_(block_count),
      state_(std::move(s)) {}

block_store::~block_store() = default;

result<std::unique_ptr<block_store>> block_store::create(media& medium, std::uint64_t offset,
                                                         std::uint32_t block_size,
                                                         std::uint64_t block_count,
                                                         block_store_options options) {
  auto refuse = [](const char* what, std::uint64_t value, const std::string& expected) {
    return error{errc::invalid_argument,
                 std::string(what) + " " + std::to_string(value) + ": expected " + expected};
  };
  if (block_size < 64 || block_size > 4096 || !std::has_single_bit(block_size))
    return refuse("block size", block_size, "a power of two from 64 to 4096");
  if (offset % cacheline_size != 0) return refuse("block store offset", offset, "a multiple of 64");
  if (block_count == 0 || block_count > blocks_max)
    return refuse("block count", block_count, "1 to " + std::to_string(blocks_max));
  if (offset > medium.size() || block_count > (medium.size() - offset) / block_size)
    return refuse(
        "block count", block_count,
        "at most the " +
            std::to_string(offset > medium.size() ? 0 : (medium.size() - offset) / block_size) +
            " blocks that fit behind offset " + std::to_string(offset) + " of " + medium.path());
  if (options.cache_runs_max > cache_runs_limit)
    return refuse("cache_runs_max", options.cache_runs_max, "at most 256");
  const std::uint64_t most = options.block_count_max == 0 ? block_count : options.block_count_max;
  if (most < block_count || most > blocks_max)
    return refuse("block_count_max", most, "the block count to " + std::to_string(blocks_max));

  auto s = std::make_unique<state>();
  s->cache_runs_max = options.cache_runs_max;
  s->block_count_max = most;
  s->restore_free = std::max<std::uint64_t>(1, block_count / 8);
  if (!s->index.reserve(most) || !s->caches.make(max_thread_slots))
    return error{errc::no_space, "block store of " + std::to_string(most) +
                                     " blocks: no memory for its free index"};
  s->index.release(0, static_cast<std::uint32_t>(block_count));
  return std::unique_ptr<block_store>(
      new block_store(medium, medium.base() + offset, block_size, block_count, std::move(s)));
}

unsigned block_store::allocate(std::uint32_t blocks, std::span<chain> out) noexcept {
  const unsigned used = state_->take(blocks, out);
  if (media_.losses() != 0) [[unlikely]]
    return replace_lost(blocks, out, used);
  return used;
}

unsigned block_store::allocate_exact(std::uint32_t blocks, std::span<chain> out) noexcept {
  const unsigned used = state_->take_exact(blocks, out);
  if (media_.losses() != 0) [[unlikely]]
    return replace_lost(blocks, out, used);
  return used;
}

bool block_store::allocate_contiguous(std::uint32_t blocks, chain& out) noexcept {
  return allocate(blocks, std::span(&out, 1)) == 1;
}

bool block_store::try_allocate(std::uint32_t blocks, chain& out) noexcept {
  if (blocks - 1 >= cached_lengths || media_.losses() != 0) [[unlikely]]
    return false;
  out.blocks = blocks;
  return (state_->cached_length(blocks) && state_->pop(blocks, out.first)) ||
         state_->try_behind_cache(blocks, out);
}

bool block_store::allocate_required(std::uint32_t blocks, chain& out) noexcept {
  for (int tries = 0; tries < replacements_max; ++tries) {
    if (!allocate_contiguous(blocks, out)) return false;
    if (media_.require(address(out), size_of(out))) return true;
    release(out); // release() withholds the lost part
  }
  return false;
}

bool block_store::allocate_bulk(std::uint32_t blocks, std::span<chain> out) noexcept {
  CHAINRING_EXPECTS(blocks != 0, no_blocks);
  std::size_t got = 0;
  if (unsigned row = 0; state_->cached_length(blocks) && detail::own_row(row)) {
    thread_runs& cache = state_->caches[row];
    if (state_->caches_open.enter(cache.busy)) {
      std::uint32_t n = get(cache.count[blocks - 1]);
      for (; got < out.size() && n != 0; ++got)
        out[got] = {get(cache.firsts[blocks - 1][--n]), blocks};
      set(cache.count[blocks - 1], n);
      state_->caches_open.leave(cache.busy);
    }
  }
  if (media_.losses() != 0) [[unlikely]] {
    for (std::size_t i = 0; i < got;) {
      if (replace_lost(blocks, out.subspan(i, 1), 1) == 1)
        ++i;
      else
        out[i] = out[--got];
    }
  }
  for (; got < out.size(); ++got)
    if (!allocate_contiguous(blocks, out[got])) {
      release(out.first(got));
      return false;
    }
  return true;
}

void block_store::release(const chain& c) noexcept {
  CHAINRING_ASSERT(valid(c));
  if (media_.losses() != 0) [[unlikely]]
    return give_back_sound(c);
  state_->give_back(c);
}

void block_store::release_required(const chain& c) noexcept {
  CHAINRING_ASSERT(valid(c));
  media_.unrequire(address(c), size_of(c));
  release(c);
}

void block_store::release(std::span<const chain> chains) noexcept {
  std::size_t i = 0;
  if (unsigned row = 0; chains.size() > 1 && state_->cache_runs_max != 0 && media_.losses() == 0 &&
                        detail::own_row(row)) {
    // Put as many chains into the cache as fit, in one visit.
    thread_runs& cache = state_->caches[row];
    if (state_->caches_open.enter(cache.busy)) {
      for (; i < chains.size(); ++i) {
        const chain& c = chains[i];
        CHAINRING_ASSERT(valid(c));
        if (c.blocks > cached_lengths) break;
        const std::uint32_t n = get(cache.count[c.blocks - 1]);
        if (n >= state_->cache_runs_max) break;
        set(cache.firsts[c.blocks - 1][n], c.first);
        set(cache.count[c.blocks - 1], n + 1);
      }
      state_->caches_open.leave(cache.busy);
    }
  }
  for (; i < chains.size(); ++i)
    release(chains[i]);
}

// --- for whoever moves chains together -----------------------------------------------------------

unsigned block_store::allocate_from_index(std::uint32_t blocks, std::span<chain> out) noexcept {
  CHAINRING_EXPECTS(blocks != 0, no_blocks);
  const std::lock_guard guard(state_->lock);
  return state_->index.take(blocks, out);
}

unsigned block_store::allocate_inside(std::uint32_t first, std::uint32_t blocks,
                                      std::span<chain> out) noexcept {
  CHAINRING_ASSERT(valid({first, blocks}));
  const std::lock_guard guard(state_->lock);
  return state_->index.take_inside(first, blocks, out);
}

void block_store::release_to_index(std::span<const chain> chains) noexcept {
  const std::lock_guard guard(state_->lock);
  for (const chain& c : chains) {
    CHAINRING_ASSERT(valid(c));
    state_->index.release(c.first, c.blocks);
  }
  state_->restore_if_plenty();
}

block_store_room block_store::room_inside(std::uint32_t first, std::uint32_t blocks) const {
  CHAINRING_ASSERT(valid({first, blocks}));
  const std::lock_guard guard(state_->lock);
  return state_->index.free_inside(first, blocks);
}

std::uint64_t block_store::block_count_max() const noexcept {
  return state_->block_count_max;
}

std::uint64_t block_store::free_runs() const noexcept {
  const std::lock_guard guard(state_->lock);
  return state_->index.runs();
}

std::uint64_t block_store::refusals() const noexcept {
  return state_->refused.load(std::memory_order_relaxed); // [block-counts-shown]
}

// --- lost memory ---------------------------------------------------------------------------------

// Replaces the chains of a request, `used` of them, until none of them has lost memory.
[[gnu::noinline]] unsigned block_store::replace_lost(std::uint32_t blocks, std::span<chain> out,
                                                     unsigned used) noexcept {
  for (int tries = 0; used != 0; ++tries) {
    const std::span<const chain> got = out.first(used);
    const bool sound =
        std::none_of(got.begin(), got.end(), [&](const chain& c) { return lost(c); });
    if (sound) return used;
    for (const chain& c : got)
      give_back_sound(c);
    if (tries == replacements_max) {
      count_one(state_->refused);
      break;
    }
    used = state_->take(blocks, out);
  }
  return 0;
}

// Releases the blocks of a chain whose memory is sound, and withholds the others.
[[gnu::noinline]] void block_store::give_back_sound(const chain& c) noexcept {
  if (!lost(c)) return state_->give_back(c);
  for (std::uint32_t first = c.first; first < c.first + c.blocks;) {
    const bool gone = lost({first, 1});
    chain part{first, 1};
    while (part.first + part.blocks < c.first + c.blocks &&
           lost({part.first + part.blocks, 1}) == gone)
      ++part.blocks;
    first += part.blocks;
    if (gone)
      withhold(part);
    else
      state_->give_back(part);
  }
}

// Withholds a chain of lost blocks, together with free blocks behind it that are lost too, so that
// a large page is withheld at once.
void block_store::withhold(chain c) noexcept {
  count_one(state_->withheld, c.blocks);
  constexpr std::uint64_t pages_max = 16; // lost pages that this walk may discover
  const std::uint64_t before = media_.losses();
  while (media_.losses() - before < pages_max) {
    const chain behind{c.first + c.blocks, 1};
    if (!valid(behind)) return;
    {
      const std::lock_guard guard(state_->lock);
      if (!state_->index.take_at(behind.first, 1)) return;
    }
    if (!lost(behind)) return state_->give_back(behind);
    ++c.blocks;
    count_one(state_->withheld);
  }
}

bool block_store::resize(chain& c, std::uint32_t blocks) noexcept {
  CHAINRING_ASSERT(valid(c) && blocks != 0);
  if (blocks < c.blocks) {
    const chain tail{c.first + blocks, c.blocks - blocks};
    c.blocks = blocks;
    release(tail);
    return true;
  }
  if (blocks == c.blocks) return true;
  if (std::uint64_t{c.first} + blocks > block_count()) return false;
  const chain more{c.first + c.blocks, blocks - c.blocks};
  {
    const std::lock_guard guard(state_->lock);
    if (!state_->index.take_at(more.first, more.blocks)) return false;
  }
  if (media_.losses() != 0 && lost(more)) [[unlikely]] {
    give_back_sound(more);
    return false;
  }
  c.blocks = blocks;
  return true;
}

void block_store::begin_recovery(bool several) noexcept {
  const std::lock_guard guard(state_->lock);
  for (unsigned slot = 0; slot < detail::slots_in_use(); ++slot)
    for (auto& count : state_->caches[slot].count)
      if (get(count) != 0) set(count, 0);
  state_->index.begin_marking(block_count(), several);
  state_->recovering = true;
}

result<void> block_store::mark_live(const chain& c) {
  CHAINRING_EXPECTS(state_->recovering, not_in_recovery);
  auto bad = [&](const char* what) {
    return error{errc::corrupt, "chain of " + std::to_string(c.blocks) + " blocks at block " +
                                    std::to_string(c.first) + ": " + what};
  };
  if (!valid(c)) return bad("outside the block store");
  if (!try_mark_live(c)) return bad("overlaps another live chain");
  return {};
}

bool block_store::try_mark_live(const chain& c) noexcept {
  CHAINRING_EXPECTS(state_->recovering, not_in_recovery);
  return valid(c) && state_->index.mark(c.first, c.blocks);
}

void block_store::prefetch_live(std::uint32_t block) const noexcept {
  if (block < block_count()) state_->index.prefetch(block);
}

result<void> block_store::mark_required(const chain& c) {
  auto marked = mark_live(c);
  if (marked && !media_.require(address(c), size_of(c))) {
    unmark_live(c);
    return error{errc::io, "chain of " + std::to_string(c.blocks) + " blocks at block " +
                               std::to_string(c.first) + ": memory of the chain is lost"};
  }
  return marked;
}

void block_store::unmark_required(const chain& c) noexcept {
  media_.unrequire(address(c), size_of(c));
  unmark_live(c);
}

void block_store::unmark_live(const chain& c) noexcept {
  CHAINRING_EXPECTS(state_->recovering, not_in_recovery);
  CHAINRING_ASSERT(valid(c));
  state_->index.unmark(c.first, c.blocks);
}

void block_store::finish_recovery() noexcept {
  const std::lock_guard guard(state_->lock);
  CHAINRING_EXPECTS(state_->recovering, not_in_recovery);
  state_->index.finish_marking(block_count());
  state_->recovering = false;
  state_->restore_if_plenty();
}

recovery_part block_store::part() {
  return {.name = "blocks",
          .repair =
              [this](recovery_context& c) {
                begin_recovery();
                c.advance();
              },
          .rebuild =
              [this](recovery_context& c) {
                finish_recovery();
                c.advance();
              }};
}

std::optional<std::uint64_t> block_store::reserve_run(std::uint32_t blocks) noexcept {
  chain c;
  if (blocks == 0 || !allocate_required(blocks, c)) return std::nullopt;
  return static_cast<std::uint64_t>(address(c) - media_.base());
}

void block_store::release_run(std::uint64_t offset, std::uint32_t blocks) noexcept {
  const auto from = static_cast<std::uint64_t>(blocks_ - media_.base());
  release_required({static_cast<std::uint32_t>((offset - from) >> block_shift_), blocks});
}

result<void> block_store::recover_run(std::uint64_t offset, std::uint32_t blocks) {
  const auto from = static_cast<std::uint64_t>(blocks_ - media_.base());
  const std::uint64_t first = (offset - from) >> block_shift_;
  if (offset < from || (offset - from) % block_size_ != 0 || first >= block_count())
    return error{errc::corrupt, "run of " + std::to_string(blocks) + " blocks at offset " +
                                    std::to_string(offset) +
                                    ": it does not begin at a block of the store"};
  return mark_required({static_cast<std::uint32_t>(first), blocks});
}

result<void> block_store::extend(std::uint64_t wanted) {
  const std::lock_guard guard(state_->lock);
  const std::uint64_t now = block_count();
  const auto offset = static_cast<std::uint64_t>(blocks_ - media_.base());
  const std::uint64_t most =
      std::min(state_->block_count_max, (media_.size() - offset) / block_size_);
  if (wanted < now || wanted > most)
    return error{errc::invalid_argument, "block count " + std::to_string(wanted) + ": expected " +
                                             std::to_string(now) + " to " + std::to_string(most)};
  // [block-count-grown] Without it a thread could own a new block that valid() refuses.
  block_count_.store(wanted, std::memory_order_relaxed);
  if (wanted > now)
    state_->index.release(static_cast<std::uint32_t>(now),
                          static_cast<std::uint32_t>(wanted - now));
  state_->restore_free = std::max<std::uint64_t>(1, wanted / 8);
  state_->restore_if_plenty();
  return {};
}

void block_store::flush_caches() noexcept {
  const std::lock_guard guard(state_->lock);
  state_->reclaim();
  state_->restore_if_plenty();
}

block_store_statistics block_store::statistics() const noexcept {
  const std::lock_guard guard(state_->lock);
  block_store_statistics s;
  s.block_size = block_size_;
  s.block_count = block_count();
  s.cached_blocks = state_->cached_blocks();
  s.free_blocks = state_->index.free_blocks() + s.cached_blocks;
  s.live_blocks = state_->recovering ? 0 : block_count() - s.free_blocks;
  state_->index.fill(s);
  s.withheld_blocks = state_->withheld.load(std::memory_order_relaxed); // [block-counts-shown]
  s.refused = state_->refused.load(std::memory_order_relaxed);          // [block-counts-shown]
  s.reclaims = state_->reclaims.load(std::memory_order_relaxed);        // [block-counts-shown]
  return s;
}

result<void> block_store::check() const {
  const std::lock_guard guard(state_->lock);
  if (auto ok = state_->index.check(block_count()); !ok) return ok;
  std::vector<bool> seen(block_count());
  for (unsigned slot = 0; slot < detail::slots_in_use(); ++slot)
    for (std::uint32_t length = 1; length <= cached_lengths; ++length) {
      const thread_runs& cache = state_->caches[slot];
      for (std::uint32_t i = 0; i < get(cache.count[length - 1]); ++i) {
        const chain c{get(cache.firsts[length - 1][i]), length};
        const std::string name = "cached run of " + std::to_string(length) + " blocks at block " +
                                 std::to_string(c.first) + ": ";
        if (!valid(c)) return error{errc::corrupt, name + "outside the block store"};
        for (std::uint32_t b = c.first; b < c.first + length; ++b) {
          if (seen[b] || state_->index.is_free(b))
            return error{errc::corrupt, name + "it is free twice"};
          seen[b] = true;
        }
      }
    }
  return {};
}

} // namespace chainring
