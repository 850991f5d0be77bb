// SPDX-License-Identifier: BSD-3-Clause
/// Neighbours: which MAC an IPv4 address is reached through.
///
/// **Learning.** Entries are made and changed by ARP: requests to us and replies. ARP between
/// others only brings entries up to date that are there (RFC 826), so that a neighbour which moves
/// and says so is followed. A UDP datagram or an echo request may only fill an empty place, because
/// anybody on the link can write any source address into one: a known neighbour's answers cannot be
/// drawn away with it, nor its entry evicted. What is learned so saves a request to the sender
/// itself on the link, and is the way back to a sender behind a router where no gateway is
/// configured. No ARP can confirm the latter, so that its entry is replaced once it has been silent
/// for `lifetime_s`.
///
/// **Resolving.** route() finds a fresh entry of the address itself, else of the next hop (the
/// address on the link, the gateway off it). Where there is none, hold() keeps the packet and
/// poll() asks by ARP; packets wait a bounded time in a bounded queue. An entry that nothing
/// confirmed for `lifetime_s` is asked for again before it is used.
///
/// The table has a fixed size; ARP evicts the entry of a bucket that was confirmed longest ago:
/// made up addresses cost others their entries, and so ARP requests, but no memory. At most one
/// request per waiting address and `retry_ms` is sent. Thread-safety: route() and learn() never
/// lock and may be called by any lcore; hold(), poll() and announce() take a small lock. No
/// allocation after create().
///
/// Times are TSC values, one rte_rdtsc() a burst. Lcores take theirs apart: one that is older than
/// what another has noted is no age at all.
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
#include "../base/spin_lock.h"
#include "../media/media.h"
#include "address.h"
#include "build.h"
#include "drop.h"
#include "tx_buffer.h"

namespace chainring::net {

struct neighbour_options {
  std::uint64_t tsc_hz = 0; ///< 0: rte_get_tsc_hz()
  std::uint32_t lifetime_s = 300;
  std::uint32_t retry_ms = 250;
  std::uint16_t retries = 8;              ///< requests sent for an address before its packets go
  std::uint16_t pending_addresses = 64;   ///< addresses being resolved at one time
  std::uint16_t pending_packets = 512;    ///< packets waiting in all
  std::uint16_t packets_per_address = 64; ///< packets waiting for one address
};

enum class route_status : std::uint8_t {
  resolved,
  unresolved,  ///< hold() the packet for the next hop
  unreachable, ///< off the link, no gateway, never heard of
};

struct route_result {
  route_status status = route_status::unreachable;
  std::uint32_t next_hop = 0;
  rte_ether_addr mac{};
};

class neighbours {
 public:
  /// Refuses what is out of range: sizes, retries, retry_ms and lifetime_s of 0 among it.
  [[nodiscard]] static result<std::unique_ptr<neighbours>>
  create(const interface_config& config, const transmit_config& transmit,
         const neighbour_options& options = {});
  /// Frees the packets that wait.
  ~neighbours();
  neighbours(const neighbours&) = delete;
  neighbours& operator=(const neighbours&) = delete;

  /// The address is at `mac`, as its ARP just said.
  void learn(std::uint32_t ipv4, const rte_ether_addr& mac, std::uint64_t now_tsc) noexcept;

  /// learn(), but only of an address that is known already.
  void update(std::uint32_t ipv4, const rte_ether_addr& mac, std::uint64_t now_tsc) noexcept;

  /// The address seems to be at `mac`: a datagram with that source came from there.
  void notice(std::uint32_t ipv4, const rte_ether_addr& mac, std::uint64_t now_tsc) noexcept;

  [[nodiscard]] route_result route(std::uint32_t ipv4, std::uint64_t now_tsc) const noexcept;

  /// Keeps a frame, complete but for its destination MAC, until `next_hop` is known; poll() then
  /// hands it to the transmit buffer with `mark`. Returns `none`, or pending_full with the frame
  /// still the caller's. `own` is the address of ours the request is to come from.
  [[nodiscard]] drop_reason hold(std::uint32_t next_hop, rte_mbuf* frame, mark_t mark,
                                 std::uint32_t own, std::uint64_t now_tsc) noexcept;

  /// Sends the ARP requests that are due and the packets that need wait no longer, through `tx`,
  /// and gives up on the others in time. Nearly free while nothing waits; any lcore may call it, in
  /// every round. Requests come out of `pool`.
  void poll(tx_buffer& tx, rte_mempool* pool, drop_counters& drops, std::uint64_t now_tsc) noexcept;

  /// Sends a gratuitous ARP for the interface's first `count_max` addresses: call once when the
  /// port is up. Returns how many went into `tx`.
  std::uint32_t announce(tx_buffer& tx, rte_mempool* pool, drop_counters& drops,
                         std::uint32_t count_max = 64) noexcept;

  /// Packets waiting now.
  [[nodiscard]] std::uint32_t pending() const noexcept;

 private:
  static constexpr unsigned ways = 4;
  static constexpr unsigned bucket_bits = 16;
  static constexpr std::size_t cells = std::size_t{ways} << bucket_bits;
  static constexpr std::uint16_t none = 0xFFFF;

  struct free_deleter {
    void operator()(void* p) const noexcept { std::free(p); }
  };
  struct waiting_packet {
    rte_mbuf* frame = nullptr;
    mark_t mark = 0;
    std::uint16_t next = none;
  };
  struct waiting_address {
    std::uint32_t next_hop = 0;
    std::uint32_t own = 0;
    std::uint64_t asked_tsc = 0;
    std::uint16_t requests = 0;
    std::uint16_t packets = 0;
    std::uint16_t first = none;
    std::uint16_t last = none;
  };

  neighbours(const interface_config&, const transmit_config&, const neighbour_options&);
  [[nodiscard]] std::uint32_t age_now(std::uint64_t now_tsc) const noexcept {
    return static_cast<std::uint32_t>(now_tsc >> age_shift_) + 1;
  }
  void learn(std::uint32_t ipv4, const rte_ether_addr& mac, std::uint64_t now_tsc,
             bool known_only) noexcept;
  [[nodiscard]] bool find(std::uint32_t ipv4, rte_ether_addr& mac,
                          std::uint32_t& age) const noexcept;
  bool fresh(std::uint32_t ipv4, std::uint32_t now_age, rte_ether_addr& mac) const noexcept;
  /// False: the transmit buffer is full.
  bool release(waiting_address& w, const rte_ether_addr& mac, tx_buffer& tx) noexcept;
  void give_up(waiting_address& w, drop_counters& drops) noexcept;
  void ask(waiting_address& w, tx_buffer& tx, rte_mempool* pool, drop_counters& drops,
           std::uint64_t now_tsc) noexcept;
  void free_packet(std::uint16_t index) noexcept;

  interface_config config_;
  transmit_config transmit_;
  neighbour_options options_;
  unsigned age_shift_;     ///< an age unit is 2^age_shift_ cycles: half a second to a second
  std::uint32_t lifetime_; ///< age units
  std::uint64_t retry_tsc_;
  /// {MAC 48, tag 16}: bucket and tag together are the address, so one word says everything.
  std::unique_ptr<std::uint64_t[], free_deleter> words_;
  /// When each was last confirmed, age units; 0: never.
  std::unique_ptr<std::uint32_t[], free_deleter> ages_;

  mutable spin_lock lock_; // guards all below
  std::unique_ptr<waiting_packet[]> packets_;
  std::unique_ptr<waiting_address[]> addresses_; ///< in use where packets > 0
  std::uint16_t free_packet_ = none;
  alignas(cacheline_size) std::atomic<std::uint32_t> pending_{0};
};

} // namespace chainring::net
