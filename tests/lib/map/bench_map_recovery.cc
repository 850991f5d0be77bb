// SPDX-License-Identifier: BSD-3-Clause
// Measures how many entries of a durable map a recovery finds in a second, with one thread and with
// two, for keys and values that lie in the cells and for values of 200 bytes. The runs take turns.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>

#include "base/bytes_of.h"
#include "crew.h"
#include "map/durable_map.h"

using namespace chainring;

namespace {

constexpr std::uint64_t cells = 1u << 19, keys = cells / 4 * 3, block_size = 256;

struct opened {
  std::unique_ptr<block_store> blocks;
  std::unique_ptr<durable_map> map;

  explicit opened(media& m)
      : blocks(block_store::create(m, cells * 64, block_size, cells).value()),
        map(durable_map::create(m, 0, cells, *blocks).value()) {}
  /// Returns the millions of entries in a second.
  double recover(media& m, unsigned threads) {
    const auto begin = std::chrono::steady_clock::now();
    blocks->begin_recovery();
    map->persist_as_read();
    m.drain();
    const map_recovery r = map->recover({}, test::crew_of(threads));
    m.drain();
    blocks->finish_recovery();
    if (r.entries != keys || r.damaged != 0) std::abort();
    return static_cast<double>(keys) / 1e6 /
           std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
};

} // namespace

int main() {
  for (const std::size_t bytes : {8u, 200u}) {
    auto m = memory_media(cells * (64 + block_size), durability_class::process);
    {
      const opened o(*m);
      const std::string value(bytes, 'v');
      for (std::uint64_t n = 0; n < keys; ++n)
        if (o.map->insert(bytes_of("key " + std::to_string(n)), bytes_of(value)) !=
            map_status::done)
          return 1;
    }
    double best[3] = {};
    for (int round = 0; round < 5; ++round)
      for (const unsigned threads : {1u, 2u})
        best[threads] = std::max(best[threads], opened(*m).recover(*m, threads));
    std::printf("recovery of a map, values of %zu bytes, M entries/s: 1 thread %.2f, 2 threads "
                "%.2f, %.2fx\n",
                bytes, best[1], best[2], best[2] / best[1]);
  }
  return 0;
}
