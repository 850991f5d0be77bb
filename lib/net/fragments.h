// SPDX-License-Identifier: BSD-3-Clause
/// Fragments of UDP datagrams: those that are received are put together, and a datagram that is
/// longer than the MTU is taken apart.
///
/// **Received** fragments wait in a table of bounded size until all of their datagram have come. It
/// holds `datagrams_max` unfinished datagrams of at most eight fragments each. A datagram whose
/// fragments do not come within `timeout_ms` makes room for others, and within `crowded_ms` when a
/// fragment found no room. So made-up fragments cost no more memory than that, and they can keep
/// real ones from being put together only when more than `datagrams_max` of them come in each
/// `crowded_ms`; those of a sender that takes longer for one datagram are lost under fewer. What is
/// given up is counted: `fragment_refused` counts fragments that found no room, or that contradict
/// those before them, and `fragment_lost` the waiting fragments of a datagram that never became
/// whole.
///
/// **Sent** datagrams are copied into frames of their own. A datagram has at most eight of them.
///
/// The class belongs to one lcore. Nothing is allocated after create().
#pragma once
#include <array>
#include <memory>
#include <rte_ip_frag.h>
#include <rte_mbuf.h>

#include "../base/error.h"
#include "../base/statistic.h"
#include "address.h"
#include "build.h"
#include "drop.h"
#include "parse.h"

namespace chainring::net {

/// The most fragments of one datagram, in both directions. For received ones it is a constant of
/// librte_ip_frag.
inline constexpr std::size_t fragments_max = RTE_LIBRTE_IP_FRAG_MAX_FRAG;

struct reassembly_options {
  std::uint32_t datagrams_max = 64; ///< unfinished datagrams, 1 to 4096
  std::uint32_t timeout_ms = 2000;
  std::uint32_t crowded_ms = 20; ///< instead of timeout_ms when there is no room
  std::uint64_t tsc_hz = 0;      ///< 0 means rte_get_tsc_hz()
};

class reassembly {
 public:
  /// Refuses options out of range.
  [[nodiscard]] static result<std::unique_ptr<reassembly>>
  create(const reassembly_options& options = {});
  /// Frees the fragments that wait.
  ~reassembly();
  reassembly(const reassembly&) = delete;
  reassembly& operator=(const reassembly&) = delete;

  /// Takes the fragment `m`, which classify() has seen as `v`. Returns the whole packet when it was
  /// the last one missing, to be classified again, and nullptr otherwise.
  [[nodiscard]] rte_mbuf* add(rte_mbuf* m, const packet_view& v, drop_counters& drops,
                              std::uint64_t now_tsc) noexcept;
  /// The number of datagrams that became whole. Any thread may read it.
  [[nodiscard]] std::uint64_t datagrams() const noexcept { return datagrams_.value(); }

 private:
  reassembly() = default;
  /// Gives the fragment to the table, without extension headers.
  [[nodiscard]] rte_mbuf* put(rte_mbuf* m, const packet_view& v, std::uint64_t now_tsc) noexcept;
  void free_discarded(const rte_mbuf* newest, drop_counters& drops) noexcept;

  rte_ip_frag_tbl* table_ = nullptr;
  std::uint64_t spared_tsc_ = 0; ///< timeout_ms less crowded_ms
  rte_ip_frag_death_row discarded_{};
  statistic datagrams_;
};

/// How many packets a UDP payload of this size takes to this address.
[[nodiscard]] std::size_t packets_of(const transmit_config& config, const ip_address& to,
                                     std::size_t payload) noexcept;
/// The longest UDP payload that can be sent to this address in fragments.
[[nodiscard]] std::size_t fragmented_max(const transmit_config& config,
                                         const ip_address& to) noexcept;

/// Makes the frames of a datagram that takes several. Their number is packets_of() the payload in
/// `m`, which stays as it is; `from`, `to` and `id` are as for build_udp(). Returns `none`, or
/// datagram_too_long, or no_mbuf with no frame made.
[[nodiscard]] drop_reason build_fragments(const rte_mbuf* m, const transmit_config& config,
                                          const rte_ether_addr& to_mac, const endpoint& from,
                                          const endpoint& to, std::uint32_t id, rte_mempool* pool,
                                          std::array<rte_mbuf*, fragments_max>& frames) noexcept;

} // namespace chainring::net
