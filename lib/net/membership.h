// SPDX-License-Identifier: BSD-3-Clause
/// Membership in multicast groups: reports that tell switches and routers to forward the groups'
/// frames to this port.
///
/// A port reports each group twice at its start, ten seconds apart, and then when a router asks:
/// after a random time within the one that the router allows, at most once for each group and
/// query (IGMPv2, RFC 2236; MLDv1, RFC 2710). Over IPv6 the groups in which neighbours ask for the
/// own addresses are reported as well. A query that comes while a report is due makes it earlier,
/// and never adds another one; two reports of a group are at least 100 ms apart, however many
/// queries come. The reports of other hosts are not looked at, because a switch wants one from each
/// port. Nothing is sent when the port closes; the membership ends when the router's next queries
/// find no answer.
///
/// Thread-safety: any lcore may make any call; a short lock is taken when a query comes or a report
/// is due. Nothing is allocated after the constructor.
#pragma once
#include <atomic>
#include <cstdint>
#include <rte_mbuf.h>
#include <vector>

#include "../base/spin_lock.h"
#include "address.h"
#include "build.h"
#include "drop.h"
#include "tx_buffer.h"

namespace chainring::net {

/// The IPv6 groups of a port whose membership is reported: the one of each own address, and the
/// configured one.
[[nodiscard]] std::vector<ip_address> ipv6_groups(const interface_config& config,
                                                  const rte_ether_addr& mac);

class membership {
 public:
  /// `tsc_hz`: 0 means rte_get_tsc_hz().
  membership(const interface_config& config, const transmit_config& transmit,
             std::uint64_t tsc_hz = 0);
  membership(const membership&) = delete;
  membership& operator=(const membership&) = delete;

  /// Makes the first reports due now. Call it once when the port is up.
  void announce(std::uint64_t now_tsc) noexcept;
  /// A router asks for the members of `group`, or of every group where `group` is unspecified, and
  /// waits `within_ms` for the answer.
  void asked(const ip_address& group, std::uint32_t within_ms, std::uint64_t now_tsc) noexcept;
  /// Sends the reports that are due through `tx`, in mbufs from `pool`. It costs one load while
  /// none is due; any lcore may call it in every round.
  void poll(tx_buffer& tx, rte_mempool* pool, drop_counters& drops,
            std::uint64_t now_tsc) noexcept {
    if (now_tsc < next_tsc_.load(std::memory_order_relaxed)) return; // [report-due]
    send_due(tx, pool, drops, now_tsc);
  }

 private:
  static constexpr std::uint64_t never = UINT64_MAX;
  struct member {
    ip_address group;
    std::uint64_t due_tsc = never;
    std::uint64_t sent_tsc = 0;
    unsigned unasked = 0; ///< reports still to be sent without a query, after the one that is due
  };
  void send_due(tx_buffer& tx, rte_mempool* pool, drop_counters& drops,
                std::uint64_t now_tsc) noexcept;
  void set_next() noexcept;

  interface_config config_;
  transmit_config transmit_;
  std::uint64_t tsc_hz_;
  spin_lock lock_; // guards the next member
  std::vector<member> members_;
  std::atomic<std::uint64_t> next_tsc_{never}; ///< the earliest due_tsc
};

} // namespace chainring::net
