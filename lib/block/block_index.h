// SPDX-License-Identifier: BSD-3-Clause
/// Inside lib/block: the free runs of a block store, in DRAM. Not thread-safe, but for mark() where
/// announced.
///
/// Runs are ordered by (length, address) in a tree, which gives best fit at the lowest address, and
/// by address through boundary tags: tag[b] is the length of the free run that begins or ends at
/// block b, and 0 everywhere else, inside runs too. Free runs never touch, so two runs never begin
/// in the same pair of blocks, and the tree node of a run is number first / 2: nothing is
/// allocated. One bit a block says that it is in a free run, so no double release passes unseen.
#pragma once
#include <array>
#include <boost/intrusive/set.hpp>
#include <cstdint>
#include <span>

#include "../base/lazy_array.h"
#include "block_store.h"
#include "thread_cache.h"

namespace chainring::detail {

class block_index {
 public:
  /// For up to `blocks_max` blocks, of which none is free.
  [[nodiscard]] bool reserve(std::uint64_t blocks_max) noexcept;

  /// Coalesces both ways. The blocks are not free (asserted).
  void release(std::uint32_t first, std::uint32_t blocks) noexcept;
  /// As block_store::allocate().
  [[nodiscard]] unsigned take(std::uint32_t blocks, std::span<chain> out) noexcept;
  /// Up to `n` runs of `blocks` blocks, best fit each. Returns how many.
  [[nodiscard]] unsigned take_batch(std::uint32_t blocks, std::uint32_t* firsts,
                                    unsigned n) noexcept;
  /// The `blocks` blocks from `first` on, where a free run begins there.
  [[nodiscard]] bool take_at(std::uint32_t first, std::uint32_t blocks) noexcept;

  [[nodiscard]] std::uint64_t free_blocks() const noexcept { return free_blocks_; }
  void fill(block_store_statistics& s) const noexcept;
  [[nodiscard]] bool is_free(std::uint32_t block) const noexcept {
    return (bits_[block / 64] >> (block % 64) & 1) != 0;
  }
  [[nodiscard]] result<void> check(std::uint64_t block_count) const;

  /// Recovery: bits mean live from here to finish_marking().
  void begin_marking(std::uint64_t block_count, bool several_threads) noexcept;
  /// False: a block was marked before, and nothing changed. Thread-safe where that was announced.
  [[nodiscard]] bool mark(std::uint32_t first, std::uint32_t blocks) noexcept;
  void prefetch(std::uint32_t block) const noexcept { __builtin_prefetch(&bits_[block / 64], 1); }
  void unmark(std::uint32_t first, std::uint32_t blocks) noexcept;
  void finish_marking(std::uint64_t block_count) noexcept;

 private:
  struct run : boost::intrusive::set_base_hook<
                   boost::intrusive::optimize_size<true>,
                   boost::intrusive::link_mode<boost::intrusive::normal_link>> {
    std::uint32_t first = 0;
    std::uint32_t blocks = 0;
  };
  struct by_length {
    bool operator()(const run& a, const run& b) const noexcept {
      return a.blocks != b.blocks ? a.blocks < b.blocks : a.first < b.first;
    }
    bool operator()(const run& a, std::uint32_t blocks) const noexcept { return a.blocks < blocks; }
    bool operator()(std::uint32_t blocks, const run& b) const noexcept { return blocks < b.blocks; }
  };
  using tree = boost::intrusive::set<run, boost::intrusive::compare<by_length>,
                                     boost::intrusive::constant_time_size<false>>;

  void insert(std::uint32_t first, std::uint32_t blocks) noexcept;
  void remove(run& r) noexcept;
  /// Takes the front of a run and puts the rest back.
  void carve(run& r, std::uint32_t blocks) noexcept;
  void set_free(std::uint32_t first, std::uint32_t blocks, bool free) noexcept;

  tree by_length_;
  lazy_array<run> nodes_;
  lazy_array<std::uint32_t> tags_;
  lazy_array<std::uint64_t> bits_;
  std::uint64_t blocks_max_ = 0;
  std::uint64_t free_blocks_ = 0;
  bool markers_ = false; ///< several threads mark
  std::uint64_t runs_ = 0;
  std::array<std::uint64_t, 32> runs_by_length_{};
};

} // namespace chainring::detail
