// SPDX-License-Identifier: BSD-3-Clause
// This benchmark measures how long the block store takes to allocate and release blocks.
#include <cstdio>
#include <rte_malloc.h>
#include <rte_mempool.h>

#include "block/block_store.h"
#include "figures.h"

namespace chainring::bench {

bool chain_figures(bench_context& c) {
  constexpr std::uint32_t blocks = 1 << 16, block_size = 256, run = 8;
  c.out.heading("chain: blocks of 256 bytes, allocated and released");
  auto m = memory_media(std::uint64_t{blocks} * block_size, durability_class::emulated);
  auto store = block_store::create(*m, 0, block_size, blocks);
  rte_mempool* pool = rte_mempool_create("bench_blocks", 16383, block_size, 512, 0, nullptr,
                                         nullptr, nullptr, nullptr, SOCKET_ID_ANY, 0);
  if (!store || pool == nullptr) {
    std::fprintf(stderr, "chain: there is no memory for the pools; give EAL more (-m 512)\n");
    rte_mempool_free(pool);
    return false;
  }
  block_store& s = **store;
  chain one;
  void* object = nullptr;
  bool ok = true;
  c.out.add(against("one block", "ns",
                    alternate(c.time(), timed([&] {
                                ok &= s.allocate_contiguous(1, one);
                                s.release(one);
                              }),
                              timed([&] {
                                ok &= rte_mempool_get(pool, &object) == 0;
                                rte_mempool_put(pool, object);
                              })),
                    "rte_mempool get + put, cache", target{target::sense::at_most, 1.5}));
  c.out.add(against("8 contiguous blocks", "ns",
                    alternate(c.time(), timed([&] {
                                ok &= s.allocate_contiguous(run, one);
                                s.release(one);
                              }),
                              timed([&] {
                                object = rte_malloc(nullptr, run * block_size, 64);
                                ok &= object != nullptr;
                                rte_free(object);
                              })),
                    "rte_malloc + rte_free", target{target::sense::at_least, 1.0}, true));
  rte_mempool_free(pool);
  if (!ok) std::fprintf(stderr, "chain: the block store or its peer failed to allocate\n");
  return ok;
}

} // namespace chainring::bench
