// SPDX-License-Identifier: BSD-3-Clause
/// A pool of mbufs whose data lies in a region, so that a received packet becomes durable where it
/// was received.
///
/// The pool is an rte_mempool for rte_eth_rx_queue_setup(), with mbufs in DRAM and *data rooms*
/// that are chains of a block store ("pinned external buffers" in rte_mbuf.h). take() hands the
/// octets of a received mbuf to the caller as a piece of a chain, and gives the mbuf another data
/// room; what the piece does not need of the old one becomes free. So the mbuf is freed as usual,
/// the pool never runs dry because of what is kept, and the caller's blocks are ordinary blocks,
/// which a record names, a recovery marks as live, and release() frees.
///
/// **When to use:** packets of a thousand octets or more that are kept as they came, with blocks as
/// long as a data room (a store with blocks of 2,048 bytes). **When not:** short packets, which a
/// copy keeps for less; and stores with short blocks, where take() splits runs, and leaves of each
/// data room a free run that is too short for the next one: pieces of one block then use up rooms
/// of eight blocks eight times as fast as their size says, while other requests still find the
/// short runs. The [guide](mempool.md) has figures.
///
/// **Durability:** what lies in the pool is scratch; no crash leaves anything of it. A piece is
/// durable behind flush() and a drain, before which nothing on media may name it:
/// ```
/// flush(store, piece);  medium.drain();      // [piece-before-record]
/// ...store the record that names the piece, flush it, drain...
/// ```
/// After a crash before the record is durable, the blocks are free again.
///
/// **Lost memory:** the loss of a data room's memory fails the medium, because nobody could tell
/// what lies there from what was received. A piece is its owner's, who may tolerate the loss.
///
/// **Thread-safety:** that of rte_mempool for its mbufs; take() may be called by any thread, for an
/// mbuf that this thread owns.
/// **Errors:** create() refuses with a sentence. take() answers with a status, and the caller
/// copies instead.
/// **Complexity:** take() is O(1) where a data room is one block, and otherwise O(log blocks). It
/// allocates no memory and makes no system call.
/// **Limits:** EAL's primary process only. A port with RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE must not
/// send these mbufs. With EAL's IOVA mode PA their bus addresses are unknown, so a physical NIC
/// needs --iova-mode=va, and rte_extmem_register() with rte_dev_dma_map() for the region.
///
///     auto pool = receive_pool::create("rx", store, {.mbufs = 8192});
///     rte_eth_rx_queue_setup(port, 0, 1024, socket, nullptr, (*pool)->mempool());
///     ...
///     chain_piece piece;
///     if ((*pool)->take(*m, 0, m->data_len, piece) == take_status::taken) {
///       flush(store, piece);                     // with those of the whole burst, then one drain
///     }
///     rte_pktmbuf_free(m);
#pragma once
#include <cstdint>
#include <memory>

#include "../base/error.h"
#include "../block/block_store.h"
#include "chain_piece.h"

struct rte_mbuf;
struct rte_mempool;

namespace chainring {

struct receive_pool_options {
  std::uint32_t mbufs = 8191;      ///< at least 1; 2^n - 1 uses memory best
  std::uint32_t cache_mbufs = 256; ///< that each lcore may cache, as in rte_pktmbuf_pool_create()
  std::uint16_t private_bytes = 0; ///< of each mbuf, a multiple of 8
  /// Octets of a data room, the port's headroom of 128 included. It is rounded up to blocks. Some
  /// NICs round what lies behind the headroom down to 1 KiB; give 2,176 to these.
  std::uint16_t data_room = 2048;
  int socket = -1; ///< NUMA node of the mbufs; -1: any
};

enum class take_status : std::uint8_t {
  taken,
  /// The mbuf is of another pool, has several segments, or is shared by a clone or a reference.
  not_own,
  no_room, ///< the store has no blocks for another data room
};

class receive_pool {
 public:
  /// Makes the pool. `name` is that of the rte_mempool, unique in the process. The store must
  /// outlive the pool. Errors: invalid_argument, no_space.
  [[nodiscard]] static result<std::unique_ptr<receive_pool>>
  create(const char* name, block_store& store, const receive_pool_options& options = {});
  /// Frees the pool and gives its blocks back. All mbufs must be back in it, and no port may use it
  /// any more. Pieces that were taken stay.
  ~receive_pool();
  receive_pool(const receive_pool&) = delete;
  receive_pool& operator=(const receive_pool&) = delete;

  [[nodiscard]] rte_mempool* mempool() const noexcept { return mempool_; }
  /// Makes `size` octets of the packet, from its octet `from` on, the caller's. The caller asserts
  /// that the packet has them, and `size` is at least 1. When it answers `taken`, the mbuf no
  /// longer holds these octets: free it, or build another packet in it. With another answer nothing
  /// has changed.
  [[nodiscard]] take_status take(rte_mbuf& m, std::uint32_t from, std::uint32_t size,
                                 chain_piece& out) noexcept;

 private:
  struct state;
  receive_pool(std::unique_ptr<state> s, rte_mempool* mempool) noexcept;

  std::unique_ptr<state> state_;
  rte_mempool* mempool_;
};

} // namespace chainring
