// SPDX-License-Identifier: BSD-3-Clause
/// The meaning of best fit in its simplest form: one flag for each block, and runs found by
/// scanning.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "block/block_store.h"

namespace chainring::test {

class block_model {
 public:
  explicit block_model(std::uint32_t count) : free_(count, true) {}

  [[nodiscard]] std::vector<chain> runs() const {
    std::vector<chain> found;
    for (std::uint32_t b = 0; b < free_.size(); ++b) {
      if (!free_[b]) continue;
      if (found.empty() || found.back().first + found.back().blocks != b)
        found.push_back({b, 1});
      else
        ++found.back().blocks;
    }
    return found;
  }
  [[nodiscard]] std::uint32_t free_blocks() const {
    return static_cast<std::uint32_t>(std::count(free_.begin(), free_.end(), true));
  }
  /// Takes a run of exactly that length, else the shortest longer one, else the longest there is,
  /// until everything is taken; of equal runs the one at the lowest address. Returns nothing if it
  /// is not possible in `chains_max` chains.
  std::vector<chain> allocate(std::uint32_t blocks, std::size_t chains_max) {
    const std::vector<bool> before = free_;
    std::vector<chain> taken;
    while (blocks != 0) {
      const chain* best = nullptr;
      const auto now = runs();
      for (const chain& r : now) {
        const bool fits = r.blocks >= blocks;
        const bool best_fits = best != nullptr && best->blocks >= blocks;
        if (best == nullptr || (fits && !best_fits) || (fits && r.blocks < best->blocks) ||
            (!fits && !best_fits && r.blocks > best->blocks))
          best = &r;
      }
      if (best == nullptr || taken.size() == chains_max) {
        free_ = before;
        return {};
      }
      taken.push_back({best->first, std::min(blocks, best->blocks)});
      mark(taken.back(), false);
      blocks -= taken.back().blocks;
    }
    return taken;
  }
  void release(const chain& c) { mark(c, true); }
  void take(const chain& c) { mark(c, false); }

  /// Says how the store's own view of its free blocks differs from the model; empty if it does not.
  [[nodiscard]] std::string difference(const block_store& store) const {
    if (auto ok = store.check(); !ok) return ok.error().message;
    const auto s = store.statistics();
    const auto now = runs();
    std::array<std::uint64_t, 32> by_length{};
    std::uint64_t largest = 0;
    for (const chain& r : now) {
      largest = std::max<std::uint64_t>(largest, r.blocks);
      for (unsigned i = 0; i < 32; ++i)
        if (r.blocks >> i == 1) ++by_length[i];
    }
    const std::uint64_t free = free_blocks();
    if (s.free_blocks != free) return "free blocks " + std::to_string(s.free_blocks);
    if (s.live_blocks != free_.size() - free) return "live blocks " + std::to_string(s.live_blocks);
    if (s.cached_blocks != 0) return "cached blocks " + std::to_string(s.cached_blocks);
    if (s.free_runs != now.size()) return "free runs " + std::to_string(s.free_runs);
    if (s.largest_run != largest) return "largest run " + std::to_string(s.largest_run);
    if (s.runs_by_length != by_length) return "runs by length";
    const double fragmentation =
        free == 0 ? 0 : 1 - static_cast<double>(largest) / static_cast<double>(free);
    if (s.fragmentation != fragmentation) return "fragmentation";
    return {};
  }

 private:
  void mark(const chain& c, bool free) {
    for (std::uint32_t b = c.first; b < c.first + c.blocks; ++b)
      free_[b] = free;
  }
  std::vector<bool> free_;
};

/// Makes `steps` random requests and releases on a store without caches and on the model. Returns
/// the first difference, or nothing.
inline std::string run_against_model(block_store& store, std::uint64_t seed, unsigned steps) {
  std::mt19937_64 random(seed);
  const auto count = static_cast<std::uint32_t>(store.block_count());
  block_model model(count);
  std::vector<chain> live;
  std::vector<chain> out(count);
  for (unsigned step = 0; step < steps; ++step) {
    const std::string at = "step " + std::to_string(step) + ": ";
    // Alternate phases that fill and phases that empty, so that every degree of fullness occurs.
    const bool filling = step / 64 % 2 == 0;
    if (random() % 4 < (filling ? 3u : 1u)) {
      const std::uint32_t most = random() % 8 == 0 ? count + 2 : 12;
      const auto blocks = static_cast<std::uint32_t>(1 + random() % most);
      const std::size_t chains_max = random() % 4 == 0 ? 1 + random() % 3 : count;
      const unsigned used = store.allocate(blocks, std::span(out).first(chains_max));
      const auto expected = model.allocate(blocks, chains_max);
      if (std::vector<chain>(out.begin(), out.begin() + used) != expected)
        return at + "another choice for " + std::to_string(blocks) + " blocks";
      live.insert(live.end(), expected.begin(), expected.end());
    } else if (!live.empty()) {
      const std::size_t which = random() % live.size();
      chain c = live[which];
      if (c.blocks > 1 && random() % 3 == 0) { // release only a part of a chain
        const auto keep = static_cast<std::uint32_t>(1 + random() % (c.blocks - 1));
        live[which].blocks = keep;
        c = {c.first + keep, c.blocks - keep};
      } else {
        live[which] = live.back();
        live.pop_back();
      }
      store.release(c);
      model.release(c);
    }
    if (const std::string d = model.difference(store); !d.empty()) return at + d;
  }
  for (const chain& c : live) {
    store.release(c);
    model.release(c);
  }
  if (const std::string d = model.difference(store); !d.empty()) return "at the end: " + d;
  return store.statistics().largest_run == count ? "" : "the end is not one run";
}

} // namespace chainring::test
