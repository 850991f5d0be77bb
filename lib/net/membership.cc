// SPDX-License-Identifier: BSD-3-Clause
// Reports of the groups that a port has joined.
//
// Ordering labels:
//   [report-due]  The time of the next report is stored under the lock and read without it, so that
//     a round without a report takes no lock. A round that reads an old time sends the report in
//     the next round; the access orders nothing.
#include "net/membership.h"

#include <algorithm>
#include <mutex>
#include <rte_cycles.h>
#include <rte_random.h>

namespace chainring::net {

namespace {

constexpr unsigned unasked_reports = 2;
constexpr std::uint64_t unasked_interval_s = 10;
constexpr std::uint32_t within_ms_min = 100;
constexpr std::uint32_t apart_ms = 100; ///< between two reports of a group

} // namespace

std::vector<ip_address> ipv6_groups(const interface_config& c, const rte_ether_addr& mac) {
  if (!c.ipv6) return {};
  std::vector<ip_address> all{solicited_node(link_local_of(mac))};
  const auto add = [&](const ip_address& group) {
    if (std::ranges::find(all, group) == all.end()) all.push_back(group);
  };
  if (c.address6.address != ip_address{}) add(solicited_node(c.address6.address));
  if (c.multicast_group6 != ip_address{}) add(c.multicast_group6);
  return all;
}

membership::membership(const interface_config& c, const transmit_config& t, std::uint64_t tsc_hz)
    : config_(c), transmit_(t), tsc_hz_(tsc_hz != 0 ? tsc_hz : rte_get_tsc_hz()) {
  if (c.multicast_group != 0) members_.push_back({c.multicast_group});
  for (const ip_address& group : ipv6_groups(c, t.mac))
    members_.push_back({group});
}

void membership::announce(std::uint64_t now_tsc) noexcept {
  const std::lock_guard guard(lock_);
  for (member& m : members_) {
    m.due_tsc = now_tsc;
    m.unasked = unasked_reports - 1;
  }
  set_next();
}

void membership::asked(const ip_address& group, std::uint32_t within_ms,
                       std::uint64_t now_tsc) noexcept {
  const std::lock_guard guard(lock_);
  const std::uint64_t within = tsc_hz_ / 1000 * std::max(within_ms, within_ms_min);
  for (member& m : members_) {
    const bool all = group == ip_address{} || group == ip_address(0u);
    if (all ? m.group.is_ipv4() != group.is_ipv4() : m.group != group) continue;
    const std::uint64_t due =
        std::max(now_tsc + rte_rand_max(within), m.sent_tsc + tsc_hz_ / 1000 * apart_ms);
    m.due_tsc = std::min(m.due_tsc, due);
  }
  set_next();
}

void membership::set_next() noexcept {
  std::uint64_t next = never;
  for (const member& m : members_)
    next = std::min(next, m.due_tsc);
  next_tsc_.store(next, std::memory_order_relaxed); // [report-due]
}

void membership::send_due(tx_buffer& tx, rte_mempool* pool, drop_counters& drops,
                          std::uint64_t now_tsc) noexcept {
  const std::unique_lock guard(lock_, std::try_to_lock);
  if (!guard.owns_lock()) return; // another lcore is at it
  for (member& m : members_) {
    if (m.due_tsc > now_tsc) continue;
    m.sent_tsc = now_tsc;
    m.due_tsc = m.unasked == 0 ? never : now_tsc + unasked_interval_s * tsc_hz_;
    if (m.unasked != 0) --m.unasked;
    rte_mbuf* report = rte_pktmbuf_alloc(pool);
    if (report == nullptr) {
      drops.count(drop_reason::no_mbuf);
    } else if (!build_membership_report(report, transmit_, config_, m.group) ||
               !tx.send(report, 0)) {
      rte_pktmbuf_free(report);
      drops.count(drop_reason::transmit_full);
    }
  }
  set_next();
}

} // namespace chainring::net
