// SPDX-License-Identifier: BSD-3-Clause
// The table of neighbours, and the packets that wait for an address to be resolved.
//
// Ordering labels:
//   [neighbour-word]  learn() and notice() store the word of an entry, and find() loads it. The
//     word alone holds the whole entry, MAC address and tag, so the access orders nothing.
//   [neighbour-age]  The age of an entry is a hint for eviction and for asking again; the
//     access orders nothing.
//   [evicted-count]  The count of evicted entries is shown to operators; it orders nothing.
//   [waiting-count]  hold(), release() and give_up() change the count of waiting packets, and
//     poll() reads it to skip the lock. lock_ orders the packets themselves, so the count
//     orders nothing; a poll() that reads an old count finds the packets in the next round.
#include "net/arp.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <new>
#include <rte_cycles.h>
#include <span>

#include "map/map_hash.h"

namespace chainring::net {

namespace {

std::uint64_t pack(const rte_ether_addr& mac, std::uint32_t tag) noexcept {
  std::uint64_t w = 0;
  std::memcpy(&w, mac.addr_bytes, RTE_ETHER_ADDR_LEN);
  return w << 16 | tag;
}

rte_ether_addr unpack(std::uint64_t word) noexcept {
  rte_ether_addr mac;
  word >>= 16;
  std::memcpy(mac.addr_bytes, &word, RTE_ETHER_ADDR_LEN);
  return mac;
}

// Ages are hints for eviction and for asking again.
std::uint32_t load_age(std::uint32_t& age) noexcept {
  return std::atomic_ref(age).load(std::memory_order_relaxed); // [neighbour-age]
}
void store_age(std::uint32_t& age, std::uint32_t value) noexcept {
  std::atomic_ref(age).store(value, std::memory_order_relaxed); // [neighbour-age]
}

// The cycles or age units from `then` to `now`. The result is 0 when another lcore has taken `then`
// a little later than this lcore has taken `now`.
std::uint64_t elapsed(std::uint64_t then, std::uint64_t now) noexcept {
  const auto d = static_cast<std::int64_t>(now - then);
  return d > 0 ? static_cast<std::uint64_t>(d) : 0;
}
std::uint32_t elapsed(std::uint32_t then, std::uint32_t now) noexcept {
  const auto d = static_cast<std::int32_t>(now - then);
  return d > 0 ? static_cast<std::uint32_t>(d) : 0;
}

} // namespace

neighbours::neighbours(const interface_config& c, const transmit_config& t,
                       const neighbour_options& o)
    : config_(c), transmit_(t), options_(o) {
  if (options_.tsc_hz == 0) options_.tsc_hz = rte_get_tsc_hz();
  seed_ = options_.seed != 0 ? options_.seed : random_seed();
  seed_low_ = static_cast<std::uint32_t>(seed_);
  seed_factor_ = factor_of(seed_);
  age_shift_ = static_cast<unsigned>(std::bit_width(options_.tsc_hz)) - 1;
  const std::uint64_t unit = std::uint64_t{1} << age_shift_;
  // The lifetime is rounded down, so that no entry is used for longer than configured.
  lifetime_ = static_cast<std::uint32_t>(options_.lifetime_s * options_.tsc_hz / unit);
  retry_tsc_ = options_.tsc_hz * options_.retry_ms / 1000;
  // Each address has a page of its own nearly always, so small pages cost a TLB miss a look-up.
  if (!buckets_.make(bucket_count, true)) throw std::bad_alloc();
  if (c.ipv6) ipv6_ = std::make_unique<ipv6_neighbours>();
  packets_ = std::make_unique<waiting_packet[]>(options_.pending_packets);
  addresses_ = std::make_unique<waiting_address[]>(options_.pending_addresses);
  for (std::uint16_t i = options_.pending_packets; i-- > 0;)
    free_packet(i);
}

result<std::unique_ptr<neighbours>> neighbours::create(const interface_config& c,
                                                       const transmit_config& t,
                                                       const neighbour_options& o) {
  const struct {
    const char* name;
    std::uint64_t value, most;
  } ranges[] = {{"lifetime_s", o.lifetime_s, 86400u * 365},
                {"retry_ms", o.retry_ms, 3'600'000},
                {"retries", o.retries, 0xFFFF},
                {"pending_addresses", o.pending_addresses, none - 1},
                {"pending_packets", o.pending_packets, none - 1},
                {"packets_per_address", o.packets_per_address, 0xFFFF}};
  for (const auto& r : ranges)
    if (r.value == 0 || r.value > r.most)
      return error{errc::invalid_argument, std::string("neighbour table: ") + r.name + " " +
                                               std::to_string(r.value) + ": expected 1 to " +
                                               std::to_string(r.most)};
  try {
    return std::unique_ptr<neighbours>(new neighbours(c, t, o));
  } catch (const std::bad_alloc&) {
    return error{errc::no_space, "neighbour table: there is no memory for it"};
  }
}

neighbours::~neighbours() {
  drop_counters unread;
  for (std::uint16_t i = 0; i < options_.pending_addresses; ++i)
    give_up(addresses_[i], unread);
}

void neighbours::learn(const ip_address& a, const rte_ether_addr& mac,
                       std::uint64_t now_tsc) noexcept {
  learn(a, mac, now_tsc, false);
}

void neighbours::update(const ip_address& a, const rte_ether_addr& mac,
                        std::uint64_t now_tsc) noexcept {
  learn(a, mac, now_tsc, true);
}

void neighbours::learn(const ip_address& a, const rte_ether_addr& mac, std::uint64_t now_tsc,
                       bool known_only) noexcept {
  if (!on_link(a)) return;
  if (!a.is_ipv4()) return ipv6_->learn(a, mac, age_now(now_tsc), known_only);
  const std::uint32_t x = mixed(a.ipv4(), seed_);
  bucket& b = buckets_[x >> 16];
  const std::uint64_t word = pack(mac, x & 0xffff);
  const std::uint32_t now = age_now(now_tsc);
  std::size_t victim = 0;
  for (std::size_t i = 0; i < ways; ++i) {
    const std::uint64_t entry_word =
        std::atomic_ref(b.words[i]).load(std::memory_order_acquire); // [neighbour-word]
    if (entry_word != 0 && (entry_word & 0xffff) == (word & 0xffff)) {
      // The word is stored only when it changes, because every lcore reads its cache line.
      if (entry_word != word)
        std::atomic_ref(b.words[i]).store(word, std::memory_order_release); // [neighbour-word]
      if (elapsed(load_age(b.ages[i]), now) != 0) store_age(b.ages[i], now);
      return;
    }
    if (load_age(b.ages[i]) < load_age(b.ages[victim])) victim = i;
  }
  if (known_only) return;
  if (load_age(b.ages[victim]) != 0)
    evicted_.fetch_add(1, std::memory_order_relaxed);                      // [evicted-count]
  std::atomic_ref(b.words[victim]).store(word, std::memory_order_release); // [neighbour-word]
  store_age(b.ages[victim], now);
}

void neighbours::advertised(const ip_address& a, const rte_ether_addr& mac, bool overrides,
                            std::uint64_t now_tsc) noexcept {
  rte_ether_addr known;
  if (!overrides && fresh(a, age_now(now_tsc), known) && !rte_is_same_ether_addr(&known, &mac))
    return;
  learn(a, mac, now_tsc, !waited_for(a));
}

bool neighbours::waited_for(const ip_address& a) noexcept {
  if (pending_.load(std::memory_order_acquire) == 0) return false; // [waiting-count]
  const std::lock_guard guard(lock_);
  const std::span all(addresses_.get(), options_.pending_addresses);
  return std::ranges::any_of(
      all, [&](const waiting_address& w) { return w.packets != 0 && w.next_hop == a; });
}

void neighbours::notice_ipv6(const ip_address& a, const rte_ether_addr& mac,
                             std::uint64_t now_tsc) noexcept {
  const bool on_link = on_link_ipv6(a);
  if (!on_link && config_.gateway6 != ip_address{}) return; // it is reached through the gateway
  const std::uint32_t now = age_now(now_tsc);
  // Only a sender off the link replaces an entry that was silent for its lifetime. One on the link
  // is asked for by neighbour discovery.
  const std::uint32_t replace_age = on_link || now <= lifetime_ ? 0 : now - lifetime_ - 1;
  ipv6_->notice(a, mac, now, replace_age);
}

void neighbours::notice(const ip_address& a, const rte_ether_addr& mac,
                        std::uint64_t now_tsc) noexcept {
  if (!a.is_ipv4()) [[unlikely]]
    return notice_ipv6(a, mac, now_tsc);
  const std::uint32_t ipv4 = a.ipv4();
  const bool on_link = config_.address.contains(ipv4);
  if (!on_link && config_.gateway != 0) return; // it is reached through the gateway
  const std::uint32_t x = mixed(ipv4, seed_);
  bucket& b = buckets_[x >> 16];
  const std::uint64_t word = pack(mac, x & 0xffff);
  const std::uint32_t now = age_now(now_tsc);
  std::size_t empty = ways, silent = ways;
  std::uint64_t silent_word = 0;
  std::uint32_t silence = lifetime_;
  for (std::size_t i = 0; i < ways; ++i) {
    const std::uint64_t entry_word =
        std::atomic_ref(b.words[i]).load(std::memory_order_acquire); // [neighbour-word]
    if (entry_word == 0) {
      empty = std::min(empty, i);
      continue;
    }
    if ((entry_word & 0xffff) != (word & 0xffff)) {
      const std::uint32_t age = load_age(b.ages[i]);
      if (age != 0 && elapsed(age, now) > silence) {
        silence = elapsed(age, now);
        silent = i;
        silent_word = entry_word;
      }
      continue;
    }
    if (entry_word != word) {
      if (on_link || elapsed(load_age(b.ages[i]), now) <= lifetime_) return;
      std::atomic_ref(b.words[i]).store(word, std::memory_order_release); // [neighbour-word]
    }
    if (elapsed(load_age(b.ages[i]), now) != 0) store_age(b.ages[i], now);
    return;
  }
  if (empty == ways) {
    // A sender on the link is asked for by ARP, so only one off the link needs the place.
    if (on_link || silent == ways) return;
    // The age comes first. An lcore that sees it late may evict the new entry once more, which
    // costs its client the wait for its next datagram.
    store_age(b.ages[silent], now);
    if (std::atomic_ref(b.words[silent])
            .compare_exchange_strong(silent_word, word, std::memory_order_release,
                                     std::memory_order_relaxed)) // [neighbour-word]
      evicted_.fetch_add(1, std::memory_order_relaxed);          // [evicted-count]
    return;
  }
  std::uint64_t nothing = 0;
  // The word is exchanged, so that an entry that ARP has written here meanwhile stays.
  if (std::atomic_ref(b.words[empty])
          .compare_exchange_strong(nothing, word, std::memory_order_release,
                                   std::memory_order_relaxed)) // [neighbour-word]
    store_age(b.ages[empty], now);
}

bool neighbours::find(std::uint32_t ipv4, rte_ether_addr& mac, std::uint32_t& age) const noexcept {
  const std::uint32_t x = mixed(ipv4, seed_);
  bucket& b = buckets_[x >> 16];
  for (std::size_t i = 0; i < ways; ++i) {
    const std::uint64_t entry_word =
        std::atomic_ref(b.words[i]).load(std::memory_order_acquire); // [neighbour-word]
    if (entry_word == 0 || (entry_word & 0xffff) != (x & 0xffff)) continue;
    mac = unpack(entry_word);
    age = load_age(b.ages[i]);
    return true;
  }
  return false;
}

template <class Address>
bool neighbours::fresh(Address a, std::uint32_t now_age, rte_ether_addr& mac) const noexcept {
  std::uint32_t age = 0;
  return find(a, mac, age) && elapsed(age, now_age) <= lifetime_;
}

route_result neighbours::route_ipv6(const ip_address& to, std::uint64_t now_tsc) const noexcept {
  route_result r;
  if (ipv6_ == nullptr) return r;
  const std::uint32_t now = age_now(now_tsc);
  if (is_multicast(to)) return {route_status::resolved, to, group_mac(to)};
  if (fresh(to, now, r.mac)) return {route_status::resolved, to, r.mac};
  if (on_link_ipv6(to)) return {route_status::unresolved, to, {}};
  const ip_address& gateway = config_.gateway6;
  if (gateway != ip_address{}) {
    if (fresh(gateway, now, r.mac)) return {route_status::resolved, gateway, r.mac};
    return {route_status::unresolved, gateway, {}};
  }
  std::uint32_t age = 0;
  if (find(to, r.mac, age)) return {route_status::resolved, to, r.mac};
  return r;
}

route_result neighbours::route(const ip_address& to, std::uint64_t now_tsc) const noexcept {
  if (!to.is_ipv4()) [[unlikely]]
    return route_ipv6(to, now_tsc);
  const std::uint32_t ipv4 = to.ipv4();
  route_result r;
  const std::uint32_t now = age_now(now_tsc);
  // Most packets go to a fresh neighbour, so that is looked up first. A group's address never has
  // an entry.
  if (fresh(ipv4, now, r.mac)) [[likely]] {
    r.status = route_status::resolved;
    r.next_hop = to;
    return r;
  }
  if (is_multicast(ipv4) || ipv4 == 0xffffffff ||
      (config_.address.broadcast() != 0 && ipv4 == config_.address.broadcast()))
    return {route_status::resolved, ipv4, group_mac(ipv4)};
  if (config_.address.contains(ipv4)) return {route_status::unresolved, ipv4, {}};
  if (config_.gateway != 0) {
    if (fresh(config_.gateway, now, r.mac)) return {route_status::resolved, config_.gateway, r.mac};
    return {route_status::unresolved, config_.gateway, {}};
  }
  // The address is off the link and there is no gateway. The packet goes to the neighbour that last
  // forwarded a packet from it, however long ago that was.
  std::uint32_t age = 0;
  if (find(ipv4, r.mac, age)) return {route_status::resolved, ipv4, r.mac};
  return r;
}

void neighbours::free_packet(std::uint16_t index) noexcept {
  packets_[index].frame = nullptr;
  packets_[index].next = free_packet_;
  free_packet_ = index;
}

drop_reason neighbours::hold(const ip_address& next_hop, rte_mbuf* frame, mark_t mark,
                             const ip_address& own, std::uint64_t now_tsc) noexcept {
  const std::lock_guard guard(lock_);
  waiting_address* w = nullptr;
  for (std::uint16_t i = 0; i < options_.pending_addresses; ++i) {
    waiting_address& a = addresses_[i];
    if (a.packets != 0 && a.next_hop == next_hop) {
      w = &a;
      break;
    }
    if (a.packets == 0 && w == nullptr) w = &a;
  }
  if (w == nullptr || free_packet_ == none || w->packets >= options_.packets_per_address)
    return drop_reason::pending_full;
  if (w->packets == 0) *w = {next_hop, own, now_tsc - retry_tsc_, 0, 0, none, none};
  const std::uint16_t p = free_packet_;
  free_packet_ = packets_[p].next;
  packets_[p] = {frame, mark, none};
  (w->packets == 0 ? w->first : packets_[w->last].next) = p;
  w->last = p;
  ++w->packets;
  pending_.fetch_add(1, std::memory_order_release); // [waiting-count]
  return drop_reason::none;
}

bool neighbours::release(waiting_address& w, const rte_ether_addr& mac, tx_buffer& tx) noexcept {
  while (w.packets != 0) {
    const std::uint16_t p = w.first;
    auto* eth = rte_pktmbuf_mtod(packets_[p].frame, rte_ether_hdr*);
    eth->dst_addr = mac;
    if (!tx.send(packets_[p].frame, packets_[p].mark)) return false;
    w.first = packets_[p].next;
    --w.packets;
    free_packet(p);
    pending_.fetch_sub(1, std::memory_order_release); // [waiting-count]
  }
  return true;
}

void neighbours::give_up(waiting_address& w, drop_counters& drops) noexcept {
  while (w.packets != 0) {
    const std::uint16_t p = w.first;
    rte_pktmbuf_free(packets_[p].frame);
    w.first = packets_[p].next;
    --w.packets;
    free_packet(p);
    pending_.fetch_sub(1, std::memory_order_release); // [waiting-count]
    drops.count(drop_reason::unresolved);
  }
}

void neighbours::ask(waiting_address& w, tx_buffer& tx, rte_mempool* pool, drop_counters& drops,
                     std::uint64_t now_tsc) noexcept {
  w.asked_tsc = now_tsc;
  ++w.requests;
  rte_mbuf* m = rte_pktmbuf_alloc(pool);
  if (m == nullptr) {
    drops.count(drop_reason::no_mbuf);
    return;
  }
  const bool built =
      w.next_hop.is_ipv4()
          ? build_arp_request(m, transmit_, w.own.ipv4(), w.next_hop.ipv4(), group_mac(0xffffffff))
          : build_neighbour_solicitation(m, transmit_, w.own, w.next_hop);
  if (!built || !tx.send(m, 0)) {
    rte_pktmbuf_free(m);
    drops.count(drop_reason::transmit_full);
  }
}

void neighbours::poll(tx_buffer& tx, rte_mempool* pool, drop_counters& drops,
                      std::uint64_t now_tsc) noexcept {
  if (pending_.load(std::memory_order_acquire) == 0) return; // [waiting-count]
  const std::unique_lock guard(lock_, std::try_to_lock);
  if (!guard.owns_lock()) return; // another lcore is polling
  for (std::uint16_t i = 0; i < options_.pending_addresses; ++i) {
    waiting_address& w = addresses_[i];
    if (w.packets == 0) continue;
    rte_ether_addr mac;
    if (fresh(w.next_hop, age_now(now_tsc), mac)) {
      if (!release(w, mac, tx)) break;
    } else if (elapsed(w.asked_tsc, now_tsc) >= retry_tsc_) {
      if (w.requests >= options_.retries)
        give_up(w, drops);
      else
        ask(w, tx, pool, drops, now_tsc);
    }
  }
}

std::uint32_t neighbours::announce(tx_buffer& tx, rte_mempool* pool, drop_counters& drops,
                                   std::uint32_t count_max) noexcept {
  std::uint32_t sent = 0;
  const auto send = [&](auto build) {
    rte_mbuf* m = rte_pktmbuf_alloc(pool);
    if (m == nullptr) {
      drops.count(drop_reason::no_mbuf);
      return false;
    }
    if (!build(m) || !tx.send(m, 0)) {
      rte_pktmbuf_free(m);
      drops.count(drop_reason::transmit_full);
      return false;
    }
    ++sent;
    return true;
  };
  for (std::uint32_t i = 0; i < std::min(count_max, config_.address_count); ++i) {
    const std::uint32_t own = config_.address.address + i;
    if (!send([&](rte_mbuf* m) {
          return build_arp_request(m, transmit_, own, own, group_mac(0xffffffff));
        }))
      return sent;
  }
  if (!config_.ipv6) return sent;
  for (const ip_address& own : {link_local_of(transmit_.mac), config_.address6.address})
    if (own != ip_address{} && !send([&](rte_mbuf* m) {
          return build_neighbour_advertisement(m, transmit_, own, {}, {});
        }))
      break;
  return sent;
}

std::uint64_t neighbours::evicted() const noexcept {
  const std::uint64_t ipv6 = ipv6_ == nullptr ? 0 : ipv6_->evicted();
  return ipv6 + evicted_.load(std::memory_order_relaxed); // [evicted-count]
}

std::uint32_t neighbours::pending() const noexcept {
  return pending_.load(std::memory_order_acquire); // [waiting-count]
}

} // namespace chainring::net
