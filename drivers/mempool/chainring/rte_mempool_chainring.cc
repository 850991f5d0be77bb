// SPDX-License-Identifier: BSD-3-Clause
/// The mempool operations "chainring": pools whose objects lie in a region.
///
///     export CHAINRING_MEMPOOL_REGION=/dev/hugepages/pools,512M
///     dpdk-testpmd -d librte_mempool_chainring.so --mbuf-pool-ops-name=chainring ...
///
/// The first pool of a process opens the region, and the last one that is freed closes it. Free
/// objects are kept in an rte_ring, as by DPDK's own default operations, so put and get cost the
/// same; the flags of the pool say whether several threads put and get. Of the memory that
/// rte_mempool reserves for a chunk of objects nothing is used, so calc_mem_size() asks for one
/// line, and populate() places all objects at once.
///
/// **Thread-safety:** that of rte_mempool. Processes: only the primary process may make, free and
/// use these pools, because a secondary process does not map the region; it may look at counts.
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_malloc.h>
#include <rte_memory.h>
#include <rte_mempool.h>
#include <rte_ring.h>

#include "base/cacheline.h"
#include "mempool/chainring/pool_region.h"

namespace chainring::mempool {
namespace {

/// What all pools share. It is never destroyed, because a program may end while it has pools.
struct common_state {
  std::mutex lock;
  std::unique_ptr<pool_region> region;
  unsigned pools = 0;
};
common_state& common() {
  static common_state* const only = new common_state;
  return *only;
}

/// The pool_data of a pool. It lies in EAL's memory, where a secondary process finds the ring.
struct pool {
  rte_ring* free = nullptr;
  pool_places* places = nullptr; ///< of the primary process; null before populate()
};
pool* of(const rte_mempool* mp) noexcept {
  return static_cast<pool*>(mp->pool_data);
}

void complain(const rte_mempool* mp, const std::string& why) {
  RTE_LOG(ERR, MEMPOOL, "chainring: pool %s: %s\n", mp->name, why.c_str());
}

void drop_region() {
  if (--common().pools == 0) common().region.reset();
}

rte_ring* make_ring(const rte_mempool* mp) {
  char name[RTE_RING_NAMESIZE];
  const int n = std::snprintf(name, sizeof name, RTE_MEMPOOL_MZ_FORMAT, mp->name);
  if (n < 0 || n >= static_cast<int>(sizeof name)) {
    rte_errno = ENAMETOOLONG;
    return nullptr;
  }
  const unsigned flags = ((mp->flags & RTE_MEMPOOL_F_SP_PUT) != 0 ? RING_F_SP_ENQ : 0u) |
                         ((mp->flags & RTE_MEMPOOL_F_SC_GET) != 0 ? RING_F_SC_DEQ : 0u);
  return rte_ring_create(name, rte_align32pow2(mp->size + 1), mp->socket_id, flags);
}

int open_region(const rte_mempool* mp) {
  if (common().region == nullptr) {
    const char* setting = std::getenv("CHAINRING_MEMPOOL_REGION");
    auto opened = pool_region::open(setting == nullptr ? "" : setting);
    if (!opened) {
      complain(mp, opened.error().message);
      return opened.error().code == errc::no_space ? -ENOMEM : -EINVAL;
    }
    common().region = std::move(opened).value();
    RTE_LOG(INFO, MEMPOOL, "chainring: pools lie in region %s\n", common().region->path().c_str());
  }
  ++common().pools;
  return 0;
}

int alloc(rte_mempool* mp) {
  const std::lock_guard hold(common().lock);
  try {
    if (const int failed = open_region(mp); failed != 0) return failed;
  } catch (const std::exception& e) {
    complain(mp, e.what());
    return -ENOMEM;
  }
  auto* p = static_cast<pool*>(
      rte_zmalloc_socket("chainring_pool", sizeof(pool), cacheline_size, mp->socket_id));
  rte_ring* const free = p == nullptr ? nullptr : make_ring(mp);
  if (free == nullptr) {
    const int failed = p == nullptr ? ENOMEM : rte_errno;
    rte_free(p);
    drop_region();
    return -failed;
  }
  p->free = free;
  mp->pool_data = p;
  return 0;
}

void release(rte_mempool* mp) {
  pool* const p = of(mp);
  if (p == nullptr) return; // alloc() has failed
  const std::lock_guard hold(common().lock);
  delete p->places;
  rte_ring_free(p->free);
  rte_free(p);
  mp->pool_data = nullptr;
  drop_region();
}

int enqueue(rte_mempool* mp, void* const* objects, unsigned n) {
  return rte_ring_enqueue_bulk(of(mp)->free, objects, n, nullptr) == 0 ? -ENOBUFS : 0;
}

int dequeue(rte_mempool* mp, void** objects, unsigned n) {
  return rte_ring_dequeue_bulk(of(mp)->free, objects, n, nullptr) == 0 ? -ENOBUFS : 0;
}

unsigned get_count(const rte_mempool* mp) {
  return rte_ring_count(of(mp)->free);
}

ssize_t calc_mem_size(const rte_mempool*, std::uint32_t, std::uint32_t, std::size_t* min_chunk,
                      std::size_t* align) {
  *min_chunk = *align = cacheline_size;
  return cacheline_size;
}

/// True if the bus addresses of [at, at + bytes) are known and contiguous. It touches each page,
/// because a page that was never touched has no address.
bool contiguous(const std::byte* at, std::size_t bytes) {
  constexpr std::uintptr_t page = 4096;
  const auto first = reinterpret_cast<std::uintptr_t>(at), end = first + bytes;
  rte_iova_t start = RTE_BAD_IOVA;
  for (std::uintptr_t p = first; p < end; p = (p / page + 1) * page) {
    auto* const byte = reinterpret_cast<volatile std::byte*>(p);
    *byte = *byte;
    const rte_iova_t iova = rte_mem_virt2iova(reinterpret_cast<const void*>(p));
    if (p == first) start = iova;
    if (iova == RTE_BAD_IOVA || iova != start + (p - first)) return false;
  }
  return true;
}

int populate(rte_mempool* mp, unsigned count, void*, rte_iova_t, std::size_t,
             rte_mempool_populate_obj_cb_t* add, void* argument) {
  pool* const p = of(mp);
  if (p->places != nullptr) return -EEXIST;
  const std::size_t bytes = mp->header_size + mp->elt_size + mp->trailer_size;
  const bool by_address =
      rte_eal_iova_mode() != RTE_IOVA_VA && (mp->flags & RTE_MEMPOOL_F_NO_IOVA_CONTIG) == 0;
  const std::lock_guard hold(common().lock);
  try {
    auto places = pool_places::take(*common().region, count, align_up(bytes, cacheline_size),
                                    by_address ? place_check(contiguous) : place_check());
    if (!places) {
      complain(mp, places.error().message);
      return -ENOMEM;
    }
    p->places = std::move(places).value().release();
  } catch (const std::exception& e) {
    complain(mp, e.what());
    return -ENOMEM;
  }
  for (std::byte* at : p->places->starts()) {
    void* object = at + mp->header_size;
    add(mp, argument, object, rte_mem_virt2iova(object));
    rte_mempool_ops_enqueue_bulk(mp, &object, 1);
  }
  return static_cast<int>(count);
}

const rte_mempool_ops operations = {.name = "chainring",
                                    .alloc = alloc,
                                    .free = release,
                                    .enqueue = enqueue,
                                    .dequeue = dequeue,
                                    .get_count = get_count,
                                    .calc_mem_size = calc_mem_size,
                                    .populate = populate,
                                    .get_info = nullptr,
                                    .dequeue_contig_blocks = nullptr};

RTE_MEMPOOL_REGISTER_OPS(operations);

} // namespace
} // namespace chainring::mempool
