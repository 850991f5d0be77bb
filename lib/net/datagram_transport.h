// SPDX-License-Identifier: BSD-3-Clause
/// A worker's way out over its links: datagrams as packets, each behind its mark.
///
/// A datagram that was begun holds a place in its link's transmit buffer, so that nothing else (an
/// ARP answer, a packet whose neighbour became known) can take the place before release(). One link
/// that is full therefore costs the others nothing, and what credit() promised is kept as long as
/// the packet pool has the frames that listener_group::frames_needed() asks for.
#pragma once
#include <memory>
#include <rte_mempool.h>
#include <vector>

#include "../base/statistic.h"
#include "link.h"
#include "transport.h"

namespace chainring::net {

/// Belongs to one worker; dropped() may be read by any thread.
class datagram_transport final : public transport {
 public:
  /// `links`: the worker's link on each interface, by interface id. `waiting_max`: datagrams
  /// between begin() and release() at one time.
  datagram_transport(std::vector<link*> links, rte_mempool* pool, std::uint32_t waiting_max);
  ~datagram_transport() override;
  datagram_transport(const datagram_transport&) = delete;
  datagram_transport& operator=(const datagram_transport&) = delete;

  [[nodiscard]] std::uint32_t credit(client_address to) const noexcept override;
  [[nodiscard]] std::size_t size_max(client_address to) const noexcept override;
  [[nodiscard]] std::uint32_t position(client_address to) const noexcept override;
  [[nodiscard]] bool passed(client_address to, std::uint32_t position) const noexcept override;
  std::span<std::byte> begin(client_address to, std::size_t size) noexcept override;
  void commit(std::size_t size) noexcept override;
  void release(mark_t mark) noexcept override;

  /// Datagrams refused for want of credit, of a frame or of a size that fits.
  [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_.value(); }

 private:
  struct waiting {
    rte_mbuf* frame;
    endpoint to;
  };
  std::vector<link*> links_;
  rte_mempool* pool_;
  std::vector<waiting> waiting_; ///< of which waiting_count_ are taken
  std::size_t waiting_count_ = 0;
  rte_mbuf* open_ = nullptr;
  endpoint open_to_;
  statistic dropped_;
};

} // namespace chainring::net
