// SPDX-License-Identifier: BSD-3-Clause
#include "net/nd.h"

#include <algorithm>
#include <mutex>

namespace chainring::net {

ipv6_neighbours::ipv6_neighbours() : hash_{random_seed()}, entries_(cells) {}

bool ipv6_neighbours::find(const ip_address& a, rte_ether_addr& mac,
                           std::uint32_t& age) const noexcept {
  const std::size_t bucket = bucket_of(a);
  entry e;
  for (std::size_t i = bucket; i < bucket + ways; ++i) {
    if (entries_.get(i, e) != seq_status::done || e.address != a) continue;
    mac = e.mac;
    age = e.age;
    return true;
  }
  return false;
}

void ipv6_neighbours::learn(const ip_address& a, const rte_ether_addr& mac, std::uint32_t now,
                            bool known_only) noexcept {
  rte_ether_addr known;
  std::uint32_t age = 0;
  if (find(a, known, age) ? age == now && rte_is_same_ether_addr(&known, &mac) : known_only)
    return; // nothing changes
  const std::lock_guard guard(lock_);
  const std::size_t bucket = bucket_of(a);
  std::size_t place = bucket;
  std::uint32_t oldest = UINT32_MAX;
  bool evicts = true;
  entry e;
  for (std::size_t i = bucket; i < bucket + ways; ++i) {
    const bool used = entries_.get(i, e) == seq_status::done;
    if (used && e.address == a) {
      place = i;
      evicts = false;
      break;
    }
    const std::uint32_t its_age = used ? e.age : 0; // ages begin at 1
    if (its_age >= oldest) continue;
    oldest = its_age;
    place = i;
    evicts = used;
  }
  if (evicts) ++evicted_;
  e = {a, mac, 0, now, 0};
  (void)entries_.set(place, e); // the place is within the table
}

void ipv6_neighbours::notice(const ip_address& a, const rte_ether_addr& mac, std::uint32_t now,
                             std::uint32_t replace_age) noexcept {
  rte_ether_addr known;
  std::uint32_t age = 0;
  const bool found = find(a, known, age);
  const bool same = found && rte_is_same_ether_addr(&known, &mac);
  if (found && (same ? age == now : age > replace_age)) return;
  const std::lock_guard guard(lock_);
  const std::size_t bucket = bucket_of(a);
  std::size_t empty = cells, silent = cells, place = cells;
  std::uint32_t oldest = replace_age;
  entry e;
  for (std::size_t i = bucket; i < bucket + ways; ++i) {
    if (entries_.get(i, e) != seq_status::done) {
      empty = std::min(empty, i);
    } else if (e.address == a) {
      place = i;
    } else if (e.age <= oldest) {
      oldest = e.age;
      silent = i;
    }
  }
  if (place == cells) place = empty;
  if (place == cells) {
    if (silent == cells) return; // a datagram evicts no entry that was heard from
    place = silent;
    ++evicted_;
  }
  // An entry that discovery has changed since it was looked at above stays.
  if (entries_.get(place, e) == seq_status::done && !rte_is_same_ether_addr(&e.mac, &mac) &&
      e.age > replace_age)
    return;
  e = {a, mac, 0, now, 0};
  (void)entries_.set(place, e); // the place is within the table
}

} // namespace chainring::net
