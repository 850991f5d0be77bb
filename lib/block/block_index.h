// SPDX-License-Identifier: BSD-3-Clause
/// Internal to lib/block: the index of a block store's free runs, in DRAM. Its caller serialises
/// all calls; only mark() may run on several threads, if begin_marking() announced them.
///
/// A tree orders the runs by (length, address), which gives best fit at the lowest address.
/// Boundary tags order them by address: tags_[b] is the length of the free run that begins or ends
/// at block b, and 0 for every other block, also inside a run. Free runs never touch, so two runs
/// never begin in the same pair of blocks and the tree node of a run can be node number first / 2
/// of an array: no node is allocated. One bit for each block says whether the block lies in a free
/// run, so a double release is always noticed.
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
  /// Allocates the index for up to `blocks_max` blocks. None of them is free yet.
  [[nodiscard]] bool reserve(std::uint64_t blocks_max) noexcept;

  /// Makes a run free and merges it with its free neighbours. Asserts that none of its blocks was
  /// free.
  void release(std::uint32_t first, std::uint32_t blocks) noexcept;
  /// As block_store::allocate().
  [[nodiscard]] unsigned take(std::uint32_t blocks, std::span<chain> out) noexcept;
  /// Takes up to `n` runs of `blocks` blocks, each by best fit. Returns how many it took.
  [[nodiscard]] unsigned take_batch(std::uint32_t blocks, std::uint32_t* firsts,
                                    unsigned n) noexcept;
  /// Takes the `blocks` blocks from `first` on, if a free run begins there and is long enough.
  [[nodiscard]] bool take_at(std::uint32_t first, std::uint32_t blocks) noexcept;

  /// Takes what is free among the `blocks` blocks from `first` on, the lowest first, until `out` is
  /// full. Returns how many chains it took.
  [[nodiscard]] unsigned take_inside(std::uint32_t first, std::uint32_t blocks,
                                     std::span<chain> out) noexcept;
  /// Counts what is free among the `blocks` blocks from `first` on.
  [[nodiscard]] block_store_room free_inside(std::uint32_t first,
                                             std::uint32_t blocks) const noexcept;

  [[nodiscard]] std::uint64_t free_blocks() const noexcept { return free_blocks_; }
  [[nodiscard]] std::uint64_t runs() const noexcept { return runs_; }
  void fill(block_store_statistics& s) const noexcept;
  [[nodiscard]] bool is_free(std::uint32_t block) const noexcept {
    return (bits_[block / 64] >> (block % 64) & 1) != 0;
  }
  [[nodiscard]] result<void> check(std::uint64_t block_count) const;

  /// Begins recovery. Until finish_marking() a set bit means that the block is live.
  void begin_marking(std::uint64_t block_count, bool several_threads) noexcept;
  /// Marks a run as live. Returns false and changes nothing if one of its blocks was marked before.
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
  /// Takes the first `blocks` blocks of a run and inserts the rest again.
  void carve(run& r, std::uint32_t blocks) noexcept;
  void set_free(std::uint32_t first, std::uint32_t blocks, bool free) noexcept;
  [[nodiscard]] std::uint32_t begin_of(std::uint32_t at) const noexcept;
  template <class F> void for_each_stretch(std::uint32_t first, std::uint32_t blocks, F&& fn) const;

  tree by_length_;
  lazy_array<run> nodes_;
  lazy_array<std::uint32_t> tags_;
  lazy_array<std::uint64_t> bits_;
  std::uint64_t blocks_max_ = 0;
  std::uint64_t free_blocks_ = 0;
  bool markers_ = false; ///< several threads may mark at once
  std::uint64_t runs_ = 0;
  std::array<std::uint64_t, 32> runs_by_length_{};
};

} // namespace chainring::detail
