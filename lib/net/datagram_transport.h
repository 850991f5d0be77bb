// SPDX-License-Identifier: BSD-3-Clause
/// The transport of a worker over its links. Each datagram becomes a packet, which leaves once its
/// mark is persistent.
///
/// commit() reserves a place for the datagram in the transmit buffer of its link, or several for
/// one that leaves in fragments. No other packet, such as an ARP answer or a packet whose neighbour
/// became known, can take the place before release(). credit() counts with the places that the
/// longest datagram to the address takes, because the caller does not say yet how long its
/// datagrams will be. So a full link does not delay the other links, and credit() keeps its promise
/// as long as the packet pool has the frames that listener_group::frames_needed() asks for.
#pragma once
#include <memory>
#include <rte_mempool.h>
#include <vector>

#include "../base/statistic.h"
#include "link.h"
#include "transport.h"

namespace chainring::net {

/// Belongs to one worker; any thread may call dropped().
class datagram_transport final : public transport {
 public:
  /// `links`: the worker's link on each interface, by interface id; its transmit buffer must have
  /// room for the longest datagram. `waiting_max`: the greatest number of datagrams between begin()
  /// and release().
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

  /// Returns how many datagrams were refused because credit was lacking, a frame was lacking, or
  /// the datagram was too long.
  [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_.value(); }

 private:
  struct waiting {
    rte_mbuf* frame;
    endpoint to;
    std::uint32_t places; ///< reserved in the transmit buffer: one for each packet
  };
  struct longest { ///< the places that the longest datagram takes
    std::uint32_t ipv4, ipv6;
  };
  [[nodiscard]] std::uint32_t places_for(const endpoint& to, std::size_t size) const noexcept;
  std::vector<link*> links_;
  std::vector<longest> longest_; ///< for each link
  rte_mempool* pool_;
  std::vector<waiting> waiting_; ///< its first waiting_count_ elements are in use
  std::size_t waiting_count_ = 0;
  rte_mbuf* open_ = nullptr;
  endpoint open_to_;
  statistic dropped_;
};

} // namespace chainring::net
