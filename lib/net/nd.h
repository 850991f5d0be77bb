// SPDX-License-Identifier: BSD-3-Clause
/// The IPv6 part of the neighbour table (arp.h): it maps an IPv6 address to a MAC address.
///
/// The table has a fixed size, in buckets of four entries. A new entry in a full bucket replaces
/// the one that was confirmed longest ago. Which addresses share a bucket depends on a secret, so a
/// host cannot choose addresses that replace those of another.
///
/// Thread-safety: find() takes no lock. The other functions take a short lock, and only where
/// something changes. Nothing is allocated after the constructor.
#pragma once
#include <cstdint>
#include <rte_ether.h>

#include "../base/spin_lock.h"
#include "../base/statistic.h"
#include "../map/map_hash.h"
#include "../seqlock/seqlock.h"
#include "address.h"

namespace chainring::net {

class ipv6_neighbours {
 public:
  ipv6_neighbours();

  /// Finds the MAC of the address and when it was last confirmed, in the caller's unit of age.
  [[nodiscard]] bool find(const ip_address& a, rte_ether_addr& mac,
                          std::uint32_t& age) const noexcept;
  /// Records that the address is at `mac`, but with `known_only` only where it has an entry.
  void learn(const ip_address& a, const rte_ether_addr& mac, std::uint32_t now,
             bool known_only) noexcept;
  /// Records that the address seems to be at `mac`: fills an empty place and confirms an equal
  /// entry. It replaces another MAC, or where its bucket is full the oldest entry of another
  /// address, only when `replace_age` is not below that entry's age.
  void notice(const ip_address& a, const rte_ether_addr& mac, std::uint32_t now,
              std::uint32_t replace_age) noexcept;
  /// How many entries were replaced by those of other addresses. Any thread may read it.
  [[nodiscard]] std::uint64_t evicted() const noexcept { return evicted_.value(); }

 private:
  static constexpr std::size_t ways = 4, buckets = 1 << 12, cells = buckets * ways;
  struct entry {
    ip_address address;
    rte_ether_addr mac{};
    std::uint16_t unused = 0; ///< because the words of an entry are copied whole
    std::uint32_t age = 0;
    std::uint32_t unused_too = 0;
  };
  static_assert(sizeof(entry) == 32);

  [[nodiscard]] std::size_t bucket_of(const ip_address& a) const noexcept {
    return hash_(a) % buckets * ways;
  }

  map_hash<ip_address> hash_;
  seq_array<entry> entries_;
  spin_lock lock_; // only its holder stores entries
  statistic evicted_;
};

} // namespace chainring::net
