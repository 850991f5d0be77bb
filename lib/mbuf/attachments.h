// SPDX-License-Identifier: BSD-3-Clause
/// Attaches mbufs to pieces of chains, so that what a region holds is sent without a copy.
///
/// attach() makes an mbuf of the caller's point at the octets (rte_pktmbuf_attach_extbuf()). From
/// then on the piece is *pinned*: its blocks must not be released or used again. A port frees the
/// mbuf when it has sent it, on whatever thread; that only queues the end of the pin. collect()
/// returns the pieces whose pins have ended. Clones of the mbuf share its pin, which ends with the
/// last of them; so for several receivers attach once, and clone.
///
/// The caller decides what the end of a pin means. To send and keep, do nothing. To send and
/// forget, make the removal of the record that names the piece durable, and release the chain when
/// both have happened:
/// ```
/// ...store the removal, flush, drain...                // nothing names the piece any more
/// if (links.attach(*m, piece)) rte_eth_tx_burst(port, 0, &m, 1);
/// ...
/// for (const attached_piece& ended : collected) store.release(chain_of(store, ended.piece));
/// ```
///
/// **When to use:** octets of some hundred bytes or more, that go out as they lie. **When not:**
/// short ones, for which a copy costs less; octets that must change on their way.
///
/// **Durability:** nothing is written. What leaves because of a record waits for the mark of that
/// record (media::mark()), as every packet does. After a crash no piece is pinned.
/// **Thread-safety:** one thread attaches and collects, so each lcore has an object of its own; any
/// thread may free the mbufs.
/// **Errors:** create() refuses with a sentence. attach() returns false when all places are taken:
/// collect, or copy.
/// **Complexity:** O(1) for each mbuf; no allocation, no system call, no lock. **Memory:** 64 bytes
/// of DRAM for each place.
/// **Limits:** 65,535 octets an mbuf. The octets are durable, so neither the program nor a port may
/// write to them: the mbuf has no headroom and no tailroom; put headers into an mbuf of their own
/// and chain it in front. With EAL's IOVA mode PA the bus address is unknown (receive_pool.h).
///
///     auto links = attachments::create(store, {.places = 1024});
///     rte_mbuf* m = rte_pktmbuf_alloc(pool);
///     if ((*links)->attach(*m, piece, ticket)) ...send m...
///     attached_piece ended[32];
///     for (std::uint32_t i = 0, n = (*links)->collect(ended); i < n; ++i) ...ended[i].token...
#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "../base/error.h"
#include "../block/block_store.h"
#include "chain_piece.h"

struct rte_mbuf;

namespace chainring {

struct attachments_options {
  /// Pieces that may be pinned at one time, 1 to 2^20.
  std::uint32_t places = 1024;
};

struct attached_piece {
  chain_piece piece;
  std::uint64_t token = 0; ///< what the caller gave to attach()
};

class attachments {
 public:
  /// The store must outlive the object. Errors: invalid_argument.
  [[nodiscard]] static result<std::unique_ptr<attachments>>
  create(const block_store& store, const attachments_options& options = {});
  /// Every mbuf that was attached must have been freed, on a thread with which this one has
  /// synchronised.
  ~attachments();
  attachments(const attachments&) = delete;
  attachments& operator=(const attachments&) = delete;

  /// Attaches a fresh mbuf to the octets of a valid piece, which becomes its whole packet, and pins
  /// the piece. The mbuf owns a data room of its own that is not in use, and comes from a pool
  /// without pinned external buffers. Returns false and changes nothing if all places are taken.
  [[nodiscard]] bool attach(rte_mbuf& m, const chain_piece& piece,
                            std::uint64_t token = 0) noexcept;
  /// Returns pieces whose pins have ended, and how many; each attach() once, in the order in which
  /// the mbufs were freed.
  [[nodiscard]] std::uint32_t collect(std::span<attached_piece> out) noexcept;
  /// Pieces that collect() has not returned yet.
  [[nodiscard]] std::uint32_t pinned() const noexcept { return pinned_; }

 private:
  struct state;
  explicit attachments(std::unique_ptr<state> s) noexcept;

  std::unique_ptr<state> state_;
  std::uint32_t pinned_ = 0;
};

} // namespace chainring
