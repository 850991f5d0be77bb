// SPDX-License-Identifier: BSD-3-Clause
#include "mbuf/receive_pool.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "mbuf/receive_rooms.h"

namespace chainring {

namespace {

/// Ends the use of an mbuf whose last holder was a clone, as rte_mbuf does for pools of its own.
void back_to_pool(void*, void* opaque) {
  auto* const m = static_cast<rte_mbuf*>(opaque);
  rte_mbuf_ext_refcnt_set(m->shinfo, 1);
  m->ol_flags = RTE_MBUF_F_EXTERNAL;
  m->next = nullptr;
  m->nb_segs = 1;
  rte_mbuf_raw_free(m);
}

/// Where the next mbuf that is initialised has its data room.
struct next_room {
  std::span<const chain> chains;
  const block_store& store;
  std::uint64_t at = 0;

  void* take(std::uint64_t bytes) noexcept {
    if (at == store.size_of(chains.front())) {
      chains = chains.subspan(1);
      at = 0;
    }
    void* const room = store.address(chains.front()) + at;
    at += bytes;
    return room;
  }
};

/// Initialises an mbuf with a pinned external buffer. (rte_pktmbuf_pool_create_extbuf() is
/// experimental in DPDK 22.11.)
void initialise(rte_mempool* pool, void* rooms, void* object, unsigned) {
  auto* const m = static_cast<rte_mbuf*>(object);
  const std::uint16_t private_bytes = rte_pktmbuf_priv_size(pool);
  auto* const shared = reinterpret_cast<rte_mbuf_ext_shared_info*>(static_cast<std::byte*>(object) +
                                                                   sizeof *m + private_bytes);
  std::memset(object, 0, sizeof *m + private_bytes);
  m->priv_size = private_bytes;
  m->buf_len = rte_pktmbuf_data_room_size(pool);
  m->buf_addr = static_cast<next_room*>(rooms)->take(m->buf_len);
  rte_mbuf_iova_set(m, detail::iova_of(m->buf_addr));
  m->data_off = RTE_PKTMBUF_HEADROOM;
  m->pool = pool;
  m->nb_segs = 1;
  m->port = RTE_MBUF_PORT_INVALID;
  m->ol_flags = RTE_MBUF_F_EXTERNAL;
  rte_mbuf_refcnt_set(m, 1);
  m->next = nullptr;
  m->shinfo = shared;
  shared->free_cb = back_to_pool;
  shared->fcb_opaque = m;
  rte_mbuf_ext_refcnt_set(shared, 1);
}

/// Returns nullptr and sets rte_errno if there is no such pool.
rte_mempool* make_mempool(const char* name, const receive_pool_options& o, std::uint16_t room_bytes,
                          next_room rooms) {
  const auto object =
      static_cast<unsigned>(sizeof(rte_mbuf) + o.private_bytes + sizeof(rte_mbuf_ext_shared_info));
  rte_mempool* const pool = rte_mempool_create_empty(name, o.mbufs, object, o.cache_mbufs,
                                                     sizeof(rte_pktmbuf_pool_private), o.socket, 0);
  if (pool == nullptr) return nullptr;
  rte_pktmbuf_pool_private shape{};
  shape.mbuf_data_room_size = room_bytes;
  shape.mbuf_priv_size = o.private_bytes;
  shape.flags = RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF;
  int failed = rte_mempool_set_ops_byname(pool, "ring_mp_mc", nullptr);
  if (failed == 0) {
    rte_pktmbuf_pool_init(pool, &shape);
    failed = std::min(0, rte_mempool_populate_default(pool));
  }
  if (failed != 0) {
    rte_mempool_free(pool);
    rte_errno = -failed;
    return nullptr;
  }
  rte_mempool_obj_iter(pool, initialise, &rooms);
  return pool;
}

} // namespace

struct receive_pool::state {
  detail::receive_rooms rooms;
};

receive_pool::receive_pool(std::unique_ptr<state> s, rte_mempool* mempool) noexcept
    : state_(std::move(s)), mempool_(mempool) {}

result<std::unique_ptr<receive_pool>> receive_pool::create(const char* name, block_store& store,
                                                           const receive_pool_options& options) {
  const std::string who = std::string("receive pool ") + name + ": ";
  if (options.mbufs == 0) return error{errc::invalid_argument, who + "mbufs is 0; give at least 1"};
  if (options.data_room <= RTE_PKTMBUF_HEADROOM)
    return error{errc::invalid_argument, who + "data_room is " + std::to_string(options.data_room) +
                                             "; give more than the " +
                                             std::to_string(RTE_PKTMBUF_HEADROOM) +
                                             " octets of the headroom"};
  if (options.private_bytes % RTE_MBUF_PRIV_ALIGN != 0)
    return error{errc::invalid_argument,
                 who + "private_bytes is " + std::to_string(options.private_bytes) +
                     "; give a multiple of " + std::to_string(RTE_MBUF_PRIV_ALIGN)};
  const auto room_blocks = static_cast<std::uint32_t>(store.blocks_for(options.data_room));
  auto s = std::make_unique<state>(state{{store, room_blocks}});
  const std::uint64_t bytes = s->rooms.room_bytes();
  if (bytes > UINT16_MAX)
    return error{errc::invalid_argument,
                 who + "a data room of " + std::to_string(options.data_room) + " octets takes " +
                     std::to_string(bytes) +
                     " bytes in blocks, more than the 65,535 of an mbuf; give a smaller data_room"};
  const std::vector<chain> chains = s->rooms.take_blocks(options.mbufs);
  if (chains.empty())
    return error{errc::no_space, who + "the block store has no room for " +
                                     std::to_string(options.mbufs) + " data rooms of " +
                                     std::to_string(room_blocks) +
                                     " blocks each; give fewer mbufs, or a larger region"};
  rte_mempool* const pool =
      make_mempool(name, options, static_cast<std::uint16_t>(bytes), {chains, store});
  if (pool == nullptr) {
    for (const chain& c : chains)
      for (std::uint64_t at = 0; at < store.size_of(c); at += bytes)
        s->rooms.release(store.address(c) + at);
    return error{rte_errno == ENOMEM ? errc::no_space : errc::invalid_argument,
                 who + "EAL makes no such mempool: " + rte_strerror(rte_errno)};
  }
  return std::unique_ptr<receive_pool>(new receive_pool(std::move(s), pool));
}

receive_pool::~receive_pool() {
  CHAINRING_EXPECTS(rte_mempool_full(mempool_),
                    "a receive pool is destroyed while mbufs of it are in use; stop the ports and "
                    "free their mbufs first");
  const auto give_back = [](rte_mempool*, void* rooms, void* object, unsigned) {
    static_cast<detail::receive_rooms*>(rooms)->release(
        static_cast<const std::byte*>(static_cast<rte_mbuf*>(object)->buf_addr));
  };
  rte_mempool_obj_iter(mempool_, give_back, &state_->rooms);
  rte_mempool_free(mempool_);
}

take_status receive_pool::take(rte_mbuf& m, std::uint32_t from, std::uint32_t size,
                               chain_piece& out) noexcept {
  CHAINRING_EXPECTS(size != 0 && std::uint64_t{from} + size <= m.data_len,
                    "take() of octets that the mbuf has not received");
  if (m.pool != mempool_ || m.nb_segs != 1 || rte_mbuf_refcnt_read(&m) != 1 ||
      rte_mbuf_ext_refcnt_read(m.shinfo) != 1)
    return take_status::not_own;
  return state_->rooms.exchange(m, from, size, out) ? take_status::taken : take_status::no_room;
}

} // namespace chainring
