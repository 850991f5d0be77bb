// SPDX-License-Identifier: BSD-3-Clause
/// What it costs to keep a received packet: by receive_pool::take(), and by a copy into blocks of
/// its own. Both flush nothing and release what they kept, in bursts of 32 and in turns in one run.
/// Printed are cycles for each packet, the least of many slices, and their ratio. With arguments,
/// such as `take 64 1000`, only so many bursts of that kind run, for callgrind to count.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_mbuf.h>
#include <string>

#include "mbuf/receive_pool.h"

namespace {

using namespace chainring;
constexpr unsigned burst = 32;

struct rig {
  std::unique_ptr<media> memory;
  std::unique_ptr<block_store> store;
  std::unique_ptr<receive_pool> pool;
  std::array<rte_mbuf*, burst> mbufs{};
  std::array<chain_piece, burst> pieces{};

  rig(const char* name, std::uint32_t block_size, std::uint16_t data_room)
      : memory(memory_media(64 << 20, durability_class::process)),
        store(block_store::create(*memory, 0, block_size, (64 << 20) / block_size).value()),
        pool(receive_pool::create(name, *store, {.mbufs = 1023, .data_room = data_room}).value()) {
    if (rte_pktmbuf_alloc_bulk(pool->mempool(), mbufs.data(), burst) != 0) std::abort();
    for (rte_mbuf* m : mbufs)
      m->data_len = rte_pktmbuf_tailroom(m);
  }
  ~rig() { rte_pktmbuf_free_bulk(mbufs.data(), burst); }
  rig(const rig&) = delete;
  rig& operator=(const rig&) = delete;

  void take(std::uint32_t size) {
    for (unsigned i = 0; i < burst; ++i)
      if (pool->take(*mbufs[i], 0, size, pieces[i]) != take_status::taken) std::abort();
    for (const chain_piece& p : pieces)
      store->release(chain_of(*store, p));
  }
  void copy(std::uint32_t size) {
    std::array<chain, burst> chains;
    if (!store->allocate_bulk(static_cast<std::uint32_t>(store->blocks_for(size)), chains))
      std::abort();
    for (unsigned i = 0; i < burst; ++i)
      memory->write(store->address(chains[i]), rte_pktmbuf_mtod(mbufs[i], void*), size);
    store->release(chains);
  }
};

/// Cycles for each packet over 100 bursts, in which the store's caches run empty and full again.
template <class F> double slice(F&& run) {
  const std::uint64_t before = rte_rdtsc_precise();
  for (int i = 0; i < 100; ++i)
    run();
  return static_cast<double>(rte_rdtsc_precise() - before) / (100 * burst);
}

} // namespace

int main(int argc, char** argv) {
  const char* eal[] = {argv[0], "--no-huge", "--no-pci",       "--no-shconf",
                       "-m",    "64",        "--no-telemetry", "--log-level=error"};
  if (rte_eal_init(sizeof eal / sizeof *eal, const_cast<char**>(eal)) < 0) return 1;
  const struct {
    const char* name;
    std::uint32_t block_size;
    std::uint16_t data_room;
  } shapes[] = {{"9 blocks of 256", 256, 2176},
                {"8 blocks of 256", 256, 2048},
                {"5 blocks of 512", 512, 2176},
                {"1 block of 2048", 2048, 2048},
                {"1 block of 4096", 4096, 4096}};
  if (argc == 4) { // take|copy SIZE ROUNDS
    rig r("counted", 2048, 2048);
    const auto size = static_cast<std::uint32_t>(std::atoi(argv[2]));
    for (int n = std::atoi(argv[3]); n > 0; --n)
      std::string(argv[1]) == "take" ? r.take(size) : r.copy(size);
    return 0;
  }
  std::printf("%-18s %6s %12s %12s %6s\n", "data room", "octets", "take, cycles", "copy, cycles",
              "ratio");
  for (const auto& s : shapes) {
    rig r(s.name, s.block_size, s.data_room);
    for (const std::uint32_t size : {64u, 256u, 1024u, 1500u, 3800u}) {
      if (size + 128 > s.data_room) continue;
      double take = 1e18, copy = 1e18;
      for (int round = 0; round < 50; ++round) {
        take = std::min(take, slice([&] { r.take(size); }));
        copy = std::min(copy, slice([&] { r.copy(size); }));
      }
      std::printf("%-18s %6u %12.0f %12.0f %6.2f\n", s.name, size, take, copy, take / copy);
    }
  }
  return 0;
}
