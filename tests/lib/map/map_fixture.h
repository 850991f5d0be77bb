// SPDX-License-Identifier: BSD-3-Clause
/// A durable map on a media, which is opened as in a region.
#pragma once
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

#include "map/durable_map.h"

namespace chainring::test {

/// Whether an entry is kept by recovery. An empty one keeps every entry.
using map_filter = std::function<bool(std::span<const std::byte>, std::span<const std::byte>)>;
/// What recovers a map and its block store, from the first step to the last.
using map_recoverer =
    std::function<map_recovery(media&, block_store&, durable_map&, const map_filter&)>;

struct map_layout {
  std::uint64_t cells = 8;
  std::uint32_t block_size = 64;
  std::uint64_t blocks = 16;
  std::uint64_t first = 0;                ///< keys that have room at first; 0: one for each cell
  std::vector<map_segment> segments = {}; ///< of the cells; empty: one segment with all of them
  std::uint64_t cells_max = 0;
  map_recoverer recover_by = {}; ///< empty: the map's own calls
  [[nodiscard]] std::uint64_t blocks_offset() const { return align_up(cells * 64, 4096); }
  [[nodiscard]] std::uint64_t size() const { return blocks_offset() + blocks * block_size; }
};

struct opened_map {
  using filter = map_filter;

  media& m;
  std::unique_ptr<block_store> blocks;
  std::unique_ptr<durable_map> map;
  map_recovery recovered;

  opened_map(media& on, const map_layout& layout, const filter& wanted = {}) : m(on) {
    auto store = block_store::create(on, layout.blocks_offset(), layout.block_size, layout.blocks);
    EXPECT_TRUE(store) << store.error().message;
    blocks = std::move(store).value();
    const map_segment all{0, layout.cells};
    auto made = durable_map::create(
        on, layout.segments.empty() ? std::span(&all, 1) : std::span(layout.segments), *blocks,
        layout.first, layout.cells_max);
    EXPECT_TRUE(made) << made.error().message;
    map = std::move(made).value();
    if (layout.recover_by) {
      recovered = layout.recover_by(on, *blocks, *map, wanted);
      return;
    }
    blocks->begin_recovery();
    map->persist_as_read();
    on.drain();
    recovered = map->recover(wanted);
    on.drain();
    blocks->finish_recovery();
  }
  ~opened_map() {
    map.reset(); // gives chains back, so it goes before the block store
  }
  durable_map* operator->() const { return map.get(); }
  durable_map& operator*() const { return *map; }
  [[nodiscard]] std::uint64_t live_blocks() const {
    if (map) map->trim(); // gives back the chains that no lookup reads any more
    return blocks->statistics().live_blocks;
  }
  [[nodiscard]] map_cell* cell(std::size_t i) const {
    return reinterpret_cast<map_cell*>(m.base()) + i;
  }
  /// Stores the check that fits the contents of the cell.
  void seal(std::size_t i) const {
    map_cell& c = *cell(i);
    map_word0 w = map_word0::unpack(c.state);
    w.check = map_check(i, w, c.key, c.value[w.half]);
    c.state = w.pack();
  }
  /// Returns the value as text, or "(none)" where the key is missing.
  [[nodiscard]] std::string text(std::string_view key) const {
    static thread_local std::vector<std::byte> buffer(1 << 16);
    std::size_t size = 0;
    const auto status = map->get(bytes_of(key), buffer, size);
    if (status == map_status::missing) return "(none)";
    EXPECT_EQ(status, map_status::done);
    return {reinterpret_cast<const char*>(buffer.data()), size};
  }
};

} // namespace chainring::test
