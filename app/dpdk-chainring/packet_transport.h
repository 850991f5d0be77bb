// SPDX-License-Identifier: BSD-3-Clause
/// A worker's way out: the broker's datagrams as packets of the links, behind their marks.
#pragma once
#include <memory>
#include <rte_mempool.h>
#include <vector>

#include "base/statistic.h"
#include "broker/broker.h"
#include "net/link.h"

namespace chainring::app {

/// Belongs to one worker. `links`: the worker's link on each interface, by interface id.
class packet_transport final : public transport {
 public:
  packet_transport(std::vector<net::link*> links, rte_mempool* pool, std::uint32_t burst_max);
  ~packet_transport() override;
  packet_transport(const packet_transport&) = delete;
  packet_transport& operator=(const packet_transport&) = delete;

  std::span<std::byte> begin(client_address to, std::size_t size) noexcept override;
  void commit(std::size_t size) noexcept override;
  void release(mark_t mark) noexcept override;

  /// Whether every link could take another burst of `packets`.
  [[nodiscard]] bool has_room(std::uint32_t packets) const noexcept;
  /// Datagrams given up for want of a buffer or of room.
  [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_.value(); }

 private:
  struct waiting {
    rte_mbuf* frame;
    net::endpoint to;
  };
  std::vector<net::link*> links_;
  rte_mempool* pool_;
  std::vector<waiting> waiting_;
  std::size_t burst_max_;
  rte_mbuf* open_ = nullptr;
  net::endpoint open_to_;
  statistic dropped_;
};

} // namespace chainring::app
