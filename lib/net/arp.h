// SPDX-License-Identifier: BSD-3-Clause
/// The neighbour table: it maps an IP address to the MAC address through which it is reached.
///
/// **Learning.** ARP creates and changes the entries of addresses on the link: requests for an own
/// address, and replies. What it says about other addresses is passed over. ARP
/// between other hosts only updates entries that exist (RFC 826), so that the table follows a
/// neighbour that moves and announces it. A UDP datagram or an echo request from the link may only
/// fill an empty place. Any host on the link can write any source address into such a packet, and
/// so it can neither redirect the answers to a known neighbour nor evict its entry. For a sender on
/// the link such an entry saves an ARP request. For a sender behind a router it is the way back
/// when no gateway is configured. ARP cannot confirm the latter, so such an entry is replaced after
/// it has been silent for `lifetime_s`, by another way back to the same address, or by one to
/// another address whose four places are all taken. Which addresses share places is secret.
///
/// **IPv6.** Neighbour discovery takes the place of ARP (RFC 4861), with the same rules: a
/// solicitation for an own address creates or changes the entry of its sender, and an advertisement
/// that of its target when the target is known or waited for. Entries are in a table of their own
/// (nd.h); packets of both families wait in the same queue.
///
/// **Resolving.** route() uses a fresh entry of the address itself, else a fresh entry of the next
/// hop: the address itself on the link, the gateway off the link. When there is none, hold() keeps
/// the packet and poll() sends ARP requests. Packets wait for a bounded time in a bounded queue. An
/// entry that nothing has confirmed for `lifetime_s` is asked for again before it is used.
///
/// The table has a fixed size. ARP evicts the entry of a bucket that was confirmed longest ago, so
/// made-up addresses can cost other hosts their entries, and then an ARP request, but no memory. At
/// most one request per waiting address is sent in `retry_ms`. Datagrams with made-up sources can
/// fill the table, which keeps senders behind routers from being answered for as long as these
/// sources are repeated within each `lifetime_s`; a `gateway` makes that impossible. evicted()
/// counts the entries that gave their place to another address.
///
/// Thread-safety: route() and learn() take no lock and any lcore may call them. hold(), poll() and
/// announce() take a short lock. Nothing is allocated after create().
///
/// Times are TSC values, one rte_rdtsc() per burst. Each lcore takes its own, so a time may be
/// older than one that another lcore has stored; its age then counts as zero.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <rte_ether.h>
#include <rte_mbuf.h>

#include "../base/error.h"
#include "../base/lazy_array.h"
#include "../base/spin_lock.h"
#include "../media/media.h"
#include "address.h"
#include "build.h"
#include "drop.h"
#include "nd.h"
#include "tx_buffer.h"

namespace chainring::net {

struct neighbour_options {
  std::uint64_t tsc_hz = 0; ///< 0 means rte_get_tsc_hz()
  /// Which addresses share places; 0 means a random number, so that nobody can know.
  std::uint64_t seed = 0;
  std::uint32_t lifetime_s = 300;
  std::uint32_t retry_ms = 250;
  std::uint16_t retries = 8;            ///< requests for an address before its packets are dropped
  std::uint16_t pending_addresses = 64; ///< addresses that are being resolved at one time
  std::uint16_t pending_packets = 512;  ///< packets that wait in all
  std::uint16_t packets_per_address = 64; ///< packets that wait for one address
};

enum class route_status : std::uint8_t {
  resolved,    ///< send the packet to `mac`
  unresolved,  ///< give the packet to hold() for `next_hop`
  unreachable, ///< off the link, without a gateway and without an entry
};

struct route_result {
  route_status status = route_status::unreachable;
  ip_address next_hop{};
  rte_ether_addr mac{};
};

class neighbours {
 public:
  /// Refuses options out of range, such as sizes, retries, retry_ms or lifetime_s of 0.
  [[nodiscard]] static result<std::unique_ptr<neighbours>>
  create(const interface_config& config, const transmit_config& transmit,
         const neighbour_options& options = {});
  /// Frees the packets that still wait.
  ~neighbours();
  neighbours(const neighbours&) = delete;
  neighbours& operator=(const neighbours&) = delete;

  /// A caller of this and the next functions has checked that a host can have the address, which is
  /// no own one, and the MAC.
  ///
  /// Records that the address is at `mac`, as a message of ARP or neighbour discovery from there
  /// has just said. An address off the link is not recorded, because a host on the link could
  /// otherwise take what is sent to it.
  void learn(const ip_address& a, const rte_ether_addr& mac, std::uint64_t now_tsc) noexcept;

  /// Does the same as learn(), but only for an address that has an entry.
  void update(const ip_address& a, const rte_ether_addr& mac, std::uint64_t now_tsc) noexcept;

  /// Takes a neighbour advertisement, which counts only for an address that has an entry or is
  /// waited for. Without `overrides` it does not change the MAC of a fresh entry.
  void advertised(const ip_address& a, const rte_ether_addr& mac, bool overrides,
                  std::uint64_t now_tsc) noexcept;

  /// Records that the address seems to be at `mac`: a datagram with that source came from there.
  void notice(const ip_address& a, const rte_ether_addr& mac, std::uint64_t now_tsc) noexcept;

  /// Returns true for an address of the link, which is reached without a gateway.
  [[nodiscard]] bool on_link(const ip_address& a) const noexcept {
    return a.is_ipv4() ? config_.address.contains(a.ipv4()) : on_link_ipv6(a);
  }

  /// The time in the unit of the two functions below, which one burst needs once.
  [[nodiscard]] std::uint32_t age_now(std::uint64_t now_tsc) const noexcept {
    return static_cast<std::uint32_t>(now_tsc >> age_shift_) + 1;
  }
  /// True when notice() of this IPv4 address would change nothing, because its entry has this MAC
  /// and was confirmed in this unit of time. The MAC is the last six octets of a word whose first
  /// two are zero.
  [[nodiscard]] bool noticed(std::uint32_t ipv4, std::uint64_t mac,
                             std::uint32_t now_age) const noexcept {
    const std::uint32_t x = mixed(ipv4, seed_low_, seed_factor_);
    bucket& b = buckets_[x >> 16];
    const std::uint64_t word = mac | (x & 0xffff);
    for (unsigned i = 0; i < ways; ++i)
      if (std::atomic_ref(b.words[i]).load(std::memory_order_acquire) == word) // [neighbour-word]
        return static_cast<std::int32_t>(
                   now_age - std::atomic_ref(b.ages[i]).load(std::memory_order_relaxed)) <=
               0; // [neighbour-age]
    return false;
  }
  /// Returns the MAC through which a packet to this IPv4 address leaves, where a fresh entry of the
  /// address has it, as the first six octets of a word whose last two are zero; else 0, and route()
  /// says how it leaves.
  [[nodiscard]] std::uint64_t fresh_mac(std::uint32_t ipv4, std::uint32_t now_age) const noexcept {
    const std::uint32_t x = mixed(ipv4, seed_low_, seed_factor_);
    bucket& b = buckets_[x >> 16];
    for (unsigned i = 0; i < ways; ++i) {
      const std::uint64_t word =
          std::atomic_ref(b.words[i]).load(std::memory_order_acquire); // [neighbour-word]
      if ((word & 0xffff) != (x & 0xffff)) continue;
      const std::uint32_t age =
          std::atomic_ref(b.ages[i]).load(std::memory_order_relaxed); // [neighbour-age]
      return static_cast<std::int32_t>(now_age - age) <= static_cast<std::int32_t>(lifetime_)
                 ? word >> 16
                 : 0;
    }
    return 0;
  }

  /// Finds how a packet to this address leaves.
  [[nodiscard]] route_result route(const ip_address& to, std::uint64_t now_tsc) const noexcept;

  /// Keeps a frame that is complete except for its destination MAC until `next_hop` is known;
  /// poll() then hands it to the transmit buffer with `mark`. Returns `none`, or pending_full with
  /// the frame still owned by the caller. `own` is the own address that the request comes from.
  [[nodiscard]] drop_reason hold(const ip_address& next_hop, rte_mbuf* frame, mark_t mark,
                                 const ip_address& own, std::uint64_t now_tsc) noexcept;

  /// Sends the ARP requests and neighbour solicitations that are due and the packets whose address
  /// has become known through `tx`, and drops packets that have waited too long. It costs nearly
  /// nothing while no packet waits; any lcore may call it in every round. Requests are allocated
  /// from `pool`.
  void poll(tx_buffer& tx, rte_mempool* pool, drop_counters& drops, std::uint64_t now_tsc) noexcept;

  /// Sends a gratuitous ARP for each of the interface's first `count_max` IPv4 addresses, and an
  /// advertisement for each IPv6 address. Call it once when the port is up. Returns how many frames
  /// went into `tx`.
  std::uint32_t announce(tx_buffer& tx, rte_mempool* pool, drop_counters& drops,
                         std::uint32_t count_max = 64) noexcept;

  /// The place of an address: the bucket in the high half, and the tag in the low half. Each step
  /// permutes the 32-bit numbers, so no two addresses have the same place. One multiplication alone
  /// would not do: with some factors, addresses in a row fall into few buckets. (The fixed steps
  /// are those of the finalizer of MurmurHash3; both halves of the seed are secret.)
  [[nodiscard]] static constexpr std::uint32_t mixed(std::uint32_t ipv4,
                                                     std::uint64_t seed) noexcept {
    return mixed(ipv4, static_cast<std::uint32_t>(seed), factor_of(seed));
  }
  [[nodiscard]] static constexpr std::uint32_t factor_of(std::uint64_t seed) noexcept {
    return static_cast<std::uint32_t>(seed >> 32) | 1;
  }
  [[nodiscard]] static constexpr std::uint32_t mixed(std::uint32_t ipv4, std::uint32_t seed_low,
                                                     std::uint32_t factor) noexcept {
    std::uint32_t x = (ipv4 ^ seed_low) * factor;
    x = (x ^ x >> 16) * 0x85ebca6b;
    x = (x ^ x >> 13) * 0xc2b2ae35;
    return x ^ x >> 16;
  }

  /// The number of packets that wait now.
  [[nodiscard]] std::uint32_t pending() const noexcept;
  /// How many entries were replaced by those of other addresses.
  [[nodiscard]] std::uint64_t evicted() const noexcept;

 private:
  static constexpr unsigned ways = 4;
  static constexpr unsigned bucket_bits = 16;
  static constexpr std::size_t bucket_count = std::size_t{1} << bucket_bits;
  static constexpr std::uint16_t none = 0xFFFF;

  /// The entries that an address may have; they share a cache line.
  struct alignas(cacheline_size) bucket {
    /// Each word is {MAC 48, tag 16}. Bucket and tag together are the address, so one word is a
    /// whole entry.
    std::array<std::uint64_t, ways> words;
    /// When each entry was last confirmed, in age units; 0 means never.
    std::array<std::uint32_t, ways> ages;
  };
  static_assert(sizeof(bucket) == cacheline_size);
  struct waiting_packet {
    rte_mbuf* frame = nullptr;
    mark_t mark = 0;
    std::uint16_t next = none;
  };
  struct waiting_address {
    ip_address next_hop{};
    ip_address own{};
    std::uint64_t asked_tsc = 0;
    std::uint16_t requests = 0;
    std::uint16_t packets = 0;
    std::uint16_t first = none;
    std::uint16_t last = none;
  };

  neighbours(const interface_config&, const transmit_config&, const neighbour_options&);
  void learn(const ip_address& a, const rte_ether_addr& mac, std::uint64_t now_tsc,
             bool known_only) noexcept;
  [[nodiscard]] route_result route_ipv6(const ip_address& to, std::uint64_t now_tsc) const noexcept;
  void notice_ipv6(const ip_address& a, const rte_ether_addr& mac, std::uint64_t now_tsc) noexcept;
  [[nodiscard]] bool waited_for(const ip_address& a) noexcept;
  [[nodiscard]] bool on_link_ipv6(const ip_address& a) const noexcept {
    return is_link_local(a) ||
           (config_.address6.address != ip_address{} && config_.address6.contains(a));
  }
  [[nodiscard]] bool find(const ip_address& a, rte_ether_addr& mac,
                          std::uint32_t& age) const noexcept {
    return a.is_ipv4() ? find(a.ipv4(), mac, age) : ipv6_->find(a, mac, age);
  }
  [[nodiscard]] bool find(std::uint32_t ipv4, rte_ether_addr& mac,
                          std::uint32_t& age) const noexcept;
  /// `Address` is std::uint32_t for IPv4, or ip_address.
  template <class Address>
  bool fresh(Address a, std::uint32_t now_age, rte_ether_addr& mac) const noexcept;
  /// Returns false when the transmit buffer is full.
  bool release(waiting_address& w, const rte_ether_addr& mac, tx_buffer& tx) noexcept;
  void give_up(waiting_address& w, drop_counters& drops) noexcept;
  void ask(waiting_address& w, tx_buffer& tx, rte_mempool* pool, drop_counters& drops,
           std::uint64_t now_tsc) noexcept;
  void free_packet(std::uint16_t index) noexcept;

  interface_config config_;
  transmit_config transmit_;
  neighbour_options options_;
  unsigned age_shift_; ///< an age unit is 2^age_shift_ cycles, half a second to a second
  std::uint64_t seed_;
  std::uint32_t seed_low_, seed_factor_; ///< both parts of the seed
  std::uint32_t lifetime_; ///< in age units
  std::uint64_t retry_tsc_;
  chainring::detail::lazy_array<bucket> buckets_;
  std::unique_ptr<ipv6_neighbours> ipv6_; ///< only where the interface has IPv6
  std::atomic<std::uint64_t> evicted_{0}; ///< IPv4 entries

  mutable spin_lock lock_; // guards the members below except pending_
  std::unique_ptr<waiting_packet[]> packets_;
  /// An element is in use when its `packets` is above 0.
  std::unique_ptr<waiting_address[]> addresses_;
  std::uint16_t free_packet_ = none;
  alignas(cacheline_size) std::atomic<std::uint32_t> pending_{0};
};

} // namespace chainring::net
