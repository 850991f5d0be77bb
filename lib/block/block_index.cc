// SPDX-License-Identifier: BSD-3-Clause
// The index of free runs, and the marks of recovery.
//
// Ordering labels:
//   [live-bits-marked]  mark() sets the bits of a chain with an atomic fetch_or and looks at the
//     word it returns; pairs with [live-bits-marked]. The block store's lock serialises everything
//     else, and the caller of a recovery joins the threads that mark.
#include "block/block_index.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <string>

#include "base/assert.h"
#include "base/hook.h"

namespace chainring::detail {

namespace {

/// Calls fn(word, mask) for each bitmap word that blocks [first, first + blocks) touch, until fn
/// returns false.
template <class F> bool for_each_word(std::uint32_t first, std::uint32_t blocks, F&& fn) {
  std::uint64_t at = first;
  const std::uint64_t end = at + blocks;
  while (at < end) {
    const unsigned bit = at % 64;
    const std::uint64_t n = std::min<std::uint64_t>(64 - bit, end - at);
    if (!fn(at / 64, (n == 64 ? ~0ull : (1ull << n) - 1) << bit)) return false;
    at += n;
  }
  return true;
}

unsigned length_class(std::uint32_t blocks) noexcept {
  return static_cast<unsigned>(std::bit_width(blocks)) - 1;
}

} // namespace

bool block_index::reserve(std::uint64_t blocks_max) noexcept {
  blocks_max_ = blocks_max;
  return nodes_.make(blocks_max / 2 + 1) && tags_.make(blocks_max + 1) &&
         bits_.make(blocks_max / 64 + 1, true);
}

void block_index::set_free(std::uint32_t first, std::uint32_t blocks, bool free) noexcept {
  for_each_word(first, blocks, [&](std::uint64_t word, std::uint64_t mask) {
    CHAINRING_EXPECTS(
        (bits_[word] & mask) == (free ? 0 : mask),
        "a chain that is not allocated; release() each chain once, as it was allocated");
    bits_[word] ^= mask;
    return true;
  });
}

void block_index::insert(std::uint32_t first, std::uint32_t blocks) noexcept {
  run* r = new (&nodes_[first / 2]) run;
  r->first = first;
  r->blocks = blocks;
  by_length_.insert(*r);
  tags_[first] = blocks;
  tags_[first + blocks - 1] = blocks;
  ++runs_;
  ++runs_by_length_[length_class(blocks)];
}

void block_index::remove(run& r) noexcept {
  by_length_.erase(by_length_.iterator_to(r));
  tags_[r.first] = 0;
  tags_[r.first + r.blocks - 1] = 0;
  --runs_;
  --runs_by_length_[length_class(r.blocks)];
}

void block_index::carve(run& r, std::uint32_t blocks) noexcept {
  const std::uint32_t first = r.first, found = r.blocks;
  remove(r);
  if (found > blocks) insert(first + blocks, found - blocks);
  set_free(first, blocks, false);
  free_blocks_ -= blocks;
}

void block_index::release(std::uint32_t first, std::uint32_t blocks) noexcept {
  CHAINRING_EXPECTS(blocks != 0 && std::uint64_t{first} + blocks <= blocks_max_,
                    "a chain that lies outside the block store; release() what allocate() gave");
  set_free(first, blocks, true);
  free_blocks_ += blocks;
  if (first != 0)
    if (const std::uint32_t before = tags_[first - 1]; before != 0) {
      first -= before;
      blocks += before;
      remove(nodes_[first / 2]);
    }
  // tags_ has one entry more than there are blocks, so tags_[first + blocks] always exists.
  if (const std::uint32_t after = tags_[first + blocks];
      after != 0 && !seeded_bug("chain.coalesce_one_way")) {
    remove(nodes_[(first + blocks) / 2]);
    blocks += after;
  }
  insert(first, blocks);
}

unsigned block_index::take(std::uint32_t blocks, std::span<chain> out) noexcept {
  // The run of exactly this length, or the shortest longer one, at the lowest address.
  auto fit = by_length_.lower_bound(blocks, by_length());
  if (fit != by_length_.end()) {
    if (out.empty()) return 0;
    out[0] = {fit->first, blocks};
    if (seeded_bug("chain.split_takes_found")) out[0].blocks = fit->blocks;
    carve(*fit, out[0].blocks);
    return 1;
  }
  // No single run is long enough. Do enough of the longest runs fit into `out`?
  std::uint64_t sum = 0;
  std::size_t n = 0;
  for (auto r = by_length_.rbegin(); r != by_length_.rend() && sum < blocks && n < out.size();
       ++r, ++n)
    sum += r->blocks;
  if (sum < blocks) return 0;
  unsigned used = 0;
  for (std::uint32_t left = blocks; left != 0;) {
    fit = by_length_.lower_bound(left, by_length());
    if (fit == by_length_.end())
      fit = by_length_.lower_bound(by_length_.rbegin()->blocks, by_length());
    const chain piece{fit->first, std::min(left, fit->blocks)};
    carve(*fit, piece.blocks);
    out[used++] = piece;
    left -= piece.blocks;
  }
  return used;
}

unsigned block_index::take_batch(std::uint32_t blocks, std::uint32_t* firsts, unsigned n) noexcept {
  unsigned got = 0;
  while (got < n) {
    auto fit = by_length_.lower_bound(blocks, by_length());
    if (fit == by_length_.end()) break;
    // The rest of a split run is the shortest run that still fits, so cut all pieces from it at
    // once.
    const std::uint32_t pieces = std::min<std::uint32_t>(n - got, fit->blocks / blocks);
    const std::uint32_t first = fit->first;
    carve(*fit, pieces * blocks);
    for (std::uint32_t i = 0; i < pieces; ++i)
      firsts[got++] = first + i * blocks;
  }
  return got;
}

bool block_index::take_at(std::uint32_t first, std::uint32_t blocks) noexcept {
  if (std::uint64_t{first} + blocks > blocks_max_ || tags_[first] < blocks) return false;
  // The block before `first` is allocated, so the free run that touches `first` begins there.
  run& r = nodes_[first / 2];
  CHAINRING_ASSERT(r.first == first && r.blocks == tags_[first]);
  carve(r, blocks);
  return true;
}

// Calls fn(first, blocks) for each stretch of free blocks inside the range, in order. A stretch is
// a run, or what the range contains of one.
template <class F>
void block_index::for_each_stretch(std::uint32_t first, std::uint32_t blocks, F&& fn) const {
  const std::uint32_t end = first + blocks;
  for (std::uint32_t at = first; at < end;) {
    const std::uint64_t word = bits_[at / 64] >> (at % 64);
    if ((word & 1) == 0) { // go on to the next free block of this word, or to the next word
      at += word == 0 ? 64 - at % 64 : static_cast<unsigned>(std::countr_zero(word));
      continue;
    }
    std::uint32_t length = tags_[at];                // of the run that begins here
    if (length == 0 || (at != 0 && is_free(at - 1))) // `first` lies inside a run
      for (length = 1; at + length < end && is_free(at + length);)
        ++length;
    length = std::min(length, end - at);
    fn(at, length);
    at += length;
  }
}

block_store_room block_index::free_inside(std::uint32_t first,
                                          std::uint32_t blocks) const noexcept {
  block_store_room room;
  for_each_stretch(first, blocks, [&](std::uint32_t, std::uint32_t length) {
    room.free += length;
    room.longest = std::max(room.longest, length);
    ++room.runs;
  });
  return room;
}

// The first block of the run that contains the free block `at`.
std::uint32_t block_index::begin_of(std::uint32_t at) const noexcept {
  while (at != 0 && is_free(at - 1))
    at -= at % 64 == 0 && bits_[at / 64 - 1] == UINT64_MAX ? 64 : 1;
  return at;
}

unsigned block_index::take_inside(std::uint32_t first, std::uint32_t blocks,
                                  std::span<chain> out) noexcept {
  unsigned used = 0;
  for_each_stretch(first, blocks, [&](std::uint32_t at, std::uint32_t length) {
    if (used < out.size()) out[used++] = {at, length};
  });
  for (const chain& c : out.first(used)) {
    // What the range does not contain of the run stays: a part before it, and one behind it.
    run& r = nodes_[begin_of(c.first) / 2];
    const std::uint32_t begin = r.first, end = r.first + r.blocks;
    remove(r);
    if (begin != c.first) insert(begin, c.first - begin);
    if (end != c.first + c.blocks) insert(c.first + c.blocks, end - c.first - c.blocks);
    set_free(c.first, c.blocks, false);
    free_blocks_ -= c.blocks;
  }
  return used;
}

void block_index::fill(block_store_statistics& s) const noexcept {
  s.free_runs = runs_;
  s.runs_by_length = runs_by_length_;
  s.largest_run = by_length_.empty() ? 0 : by_length_.rbegin()->blocks;
  s.fragmentation = free_blocks_ == 0 ? 0
                                      : 1.0 - static_cast<double>(s.largest_run) /
                                                  static_cast<double>(free_blocks_);
}

result<void> block_index::check(std::uint64_t block_count) const {
  auto bad = [](std::uint64_t block, const char* what) {
    return error{errc::corrupt, "block " + std::to_string(block) + ": " + what};
  };
  std::uint64_t free = 0, runs = 0;
  std::array<std::uint64_t, 32> by_class{};
  for (const run& r : by_length_) {
    if (r.blocks == 0 || std::uint64_t{r.first} + r.blocks > block_count)
      return bad(r.first, "a free run leaves the store");
    if (tags_[r.first] != r.blocks || tags_[r.first + r.blocks - 1] != r.blocks)
      return bad(r.first, "a free run and its tags differ");
    if ((r.first != 0 && is_free(r.first - 1)) ||
        (r.first + r.blocks < block_count && is_free(r.first + r.blocks)))
      return bad(r.first, "a free run touches another");
    for (std::uint32_t b = r.first; b < r.first + r.blocks; ++b) {
      if (!is_free(b)) return bad(b, "it lies in a free run and is not marked as free");
      if (tags_[b] != 0 && b != r.first && b != r.first + r.blocks - 1)
        return bad(b, "a tag stands inside a free run");
    }
    free += r.blocks;
    ++runs;
    ++by_class[length_class(r.blocks)];
  }
  std::uint64_t bits = 0;
  for (std::uint64_t b = 0; b < block_count; ++b) {
    bits += is_free(static_cast<std::uint32_t>(b));
    if (tags_[b] != 0 && !is_free(static_cast<std::uint32_t>(b)))
      return bad(b, "it has a tag and is not free");
  }
  if (bits != free) return bad(0, "more blocks are free than the runs hold");
  if (free != free_blocks_ || runs != runs_ || by_class != runs_by_length_)
    return bad(0, "the counts of free blocks and runs are wrong");
  return {};
}

void block_index::begin_marking(std::uint64_t block_count, bool several_threads) noexcept {
  markers_ = several_threads;
  while (!by_length_.empty())
    remove(*by_length_.begin());
  free_blocks_ = 0;
  std::fill_n(bits_.data(), block_count / 64 + 1, 0);
}

bool block_index::mark(std::uint32_t first, std::uint32_t blocks) noexcept {
  if (!markers_) { // one thread marks, so no locked instruction is needed
    if (!for_each_word(first, blocks, [&](std::uint64_t word, std::uint64_t mask) {
          return (bits_[word] & mask) == 0;
        }))
      return false;
    return for_each_word(first, blocks, [&](std::uint64_t word, std::uint64_t mask) {
      bits_[word] |= mask;
      return true;
    });
  }
  std::uint64_t done = first;
  const bool free_before =
      for_each_word(first, blocks, [&](std::uint64_t word, std::uint64_t mask) {
        // [live-bits-marked] Without it two threads could mark two overlapping chains as live.
        const std::uint64_t old =
            std::atomic_ref(bits_[word]).fetch_or(mask, std::memory_order_relaxed);
        if ((old & mask) != 0) {
          // [live-bits-marked]
          std::atomic_ref(bits_[word]).fetch_and(~(mask & ~old), std::memory_order_relaxed);
          return false;
        }
        done = word * 64 + 64;
        return true;
      });
  if (free_before) return true;
  if (done > first) unmark(first, static_cast<std::uint32_t>(done - first));
  return false;
}

void block_index::unmark(std::uint32_t first, std::uint32_t blocks) noexcept {
  for_each_word(first, blocks, [&](std::uint64_t word, std::uint64_t mask) {
    std::atomic_ref(bits_[word]).fetch_and(~mask, std::memory_order_relaxed); // [live-bits-marked]
    return true;
  });
}

void block_index::finish_marking(std::uint64_t block_count) noexcept {
  auto next = [&](std::uint64_t from, bool live) {
    while (from < block_count) {
      const std::uint64_t word = live ? bits_[from / 64] : ~bits_[from / 64];
      const std::uint64_t rest = word >> (from % 64);
      if (rest != 0)
        return std::min(block_count, from + static_cast<unsigned>(std::countr_zero(rest)));
      from = (from / 64 + 1) * 64;
    }
    return block_count;
  };
  // The scan inserts the free runs by ascending address. The bits change their meaning afterwards,
  // from live to free.
  for (std::uint64_t at = 0; at < block_count;) {
    const std::uint64_t free_from = next(at, false);
    const std::uint64_t free_to = next(free_from, true);
    if (free_to > free_from) {
      insert(static_cast<std::uint32_t>(free_from),
             static_cast<std::uint32_t>(free_to - free_from));
      free_blocks_ += free_to - free_from;
    }
    at = free_to;
  }
  for (std::uint64_t w = 0; w < block_count / 64; ++w)
    bits_[w] = ~bits_[w];
  if (const unsigned tail = block_count % 64; tail != 0)
    bits_[block_count / 64] = ~bits_[block_count / 64] & ((1ull << tail) - 1);
}

} // namespace chainring::detail
