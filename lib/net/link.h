// SPDX-License-Identifier: BSD-3-Clause
/// A worker's access to one interface: it receives and sends datagrams, and answers ARP, neighbour
/// discovery, ping and queries for members of its multicast groups.
///
/// An `interface` is a port with its own address and its neighbours; all lcores share it. A `link`
/// is one lcore's receive queue and transmit queue of it, with the lcore's buffer and counters.
///
/// Thread-safety: all links of an interface may use it at once. A link belongs to one lcore; any
/// thread may read its counters. After create() there is no allocation and no system call of its
/// own.
///
///     std::array<datagram, 32> in;
///     std::uint64_t now = rte_rdtsc();
///     for (datagram& d : in_use(in, link.receive(in, now))) {
///       handle(d.view.source, d.view.payload);
///       rte_pktmbuf_free(d.frame);
///     }
///     link.send(reply, source, media.mark(), now);
///     link.pump(media, now);
#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "../base/statistic.h"
#include "arp.h"
#include "build.h"
#include "datagram_frame.h"
#include "drop.h"
#include "fragments.h"
#include "membership.h"
#include "parse.h"
#include "port.h"
#include "tx_buffer.h"

namespace chainring::net {

/// A port, its own addresses, and its neighbours.
struct interface {
  interface_config config;
  port device;
  receive_filter filter;
  transmit_config transmit;
  std::unique_ptr<neighbours> arp;
  std::unique_ptr<membership> groups;

  /// The largest UDP payload that fits into one packet to this address.
  [[nodiscard]] std::uint16_t payload_max(const ip_address& to) const noexcept {
    return transmit.payload_max(to);
  }
  /// The longest UDP payload that is sent to this address, in fragments if need be.
  [[nodiscard]] std::size_t datagram_max(const ip_address& to) const noexcept {
    const std::size_t in_fragments =
        std::min<std::size_t>(config.datagram_max, fragmented_max(transmit, to));
    return std::max<std::size_t>(payload_max(to), in_fragments);
  }
  /// The longest one that is sent to any address.
  [[nodiscard]] std::size_t datagram_max() const noexcept {
    return datagram_max(config.address.address != 0 ? ip_address(config.address.address)
                                                    : all_nodes);
  }
};

/// Opens the port and makes the other members from it.
[[nodiscard]] result<std::unique_ptr<interface>>
open_interface(const interface_config& config, const port_options& options,
               const neighbour_options& neighbour = {});

/// A received UDP datagram. The receiver must free the frame; view.payload points into it.
struct datagram {
  rte_mbuf* frame = nullptr;
  packet_view view;
};

enum class send_status : std::uint8_t {
  queued,  ///< the packet is in the transmit buffer
  held,    ///< the packet waits until the neighbour is known
  dropped, ///< the packet is freed, and counted under a drop_reason
  full,    ///< the caller still owns the mbuf, which has no headers yet
};

/// The receiver of the packets of a link that are no datagrams. It is called on the link's lcore.
class packet_sink {
 public:
  virtual ~packet_sink() = default;
  /// Takes the TCP packet that `view` describes, and owns the frame.
  virtual void take(rte_mbuf* frame, const packet_view& view) noexcept = 0;
};

struct link_options {
  std::uint16_t rx_queue = 0;
  std::uint16_t tx_queue = 0;
  std::uint32_t tx_capacity = 4096;
  std::uint32_t stall_ms = 100;
  reassembly_options fragments{};
  /// The pool for the link's own frames (ARP requests, fragments and so on): any pool of ordinary
  /// mbufs that hold a frame of the MTU.
  rte_mempool* pool = nullptr;
};

class link {
 public:
  /// The rx_queue of a link that only transmits.
  static constexpr std::uint16_t no_queue = 0xFFFF;
  /// Refuses queues that the port does not have, and a missing pool.
  [[nodiscard]] static result<std::unique_ptr<link>> create(net::interface& port,
                                                            const link_options& options);

  /// Polls the port once for up to 64 frames. Writes the UDP datagrams among them to `out` and
  /// returns their number. Answers ARP and echo requests, learns neighbours, and counts and frees
  /// all other frames.
  std::uint16_t receive(std::span<datagram> out, std::uint64_t now_tsc) noexcept;

  /// Does the same for a front end, in passes over the burst. A usual frame (datagram_frame.h)
  /// costs far fewer instructions than any other. The receiver must free the frames.
  std::uint16_t receive(std::span<received_datagram> out, std::uint64_t now_tsc) noexcept;

  /// True when the last receive() got fewer frames than it asked the port for.
  [[nodiscard]] bool emptied() const noexcept { return emptied_; }
  [[nodiscard]] bool receives() const noexcept { return options_.rx_queue != no_queue; }
  /// The receive queue, or no_queue.
  [[nodiscard]] std::uint16_t rx_queue() const noexcept { return options_.rx_queue; }

  /// Does the same as receive() for frames that came in another way, and consumes all of them.
  /// `out` must have room for as many datagrams.
  std::uint16_t process(std::span<rte_mbuf* const> frames, std::span<datagram> out,
                        std::uint64_t now_tsc) noexcept;

  /// Sends the payload in `m` to a client, from receive_filter::own_address()
  /// and port. The link owns the
  /// mbuf from then on, unless the result is `full`. Packets leave after their `mark` is durable,
  /// in the order of send(). Only a packet that waits for ARP may be overtaken, when another lcore
  /// receives the answer.
  send_status send(rte_mbuf* m, const endpoint& to, mark_t mark, std::uint64_t now_tsc) noexcept {
    if (!to.address.is_ipv4()) [[unlikely]]
      return send(m, {interface_->filter.own_address(to), own_.port, own_.interface_id}, to, mark,
                  now_tsc);
    return send(m, own_, to, mark, now_tsc);
  }
  /// Does the same from another own address or port.
  send_status send(rte_mbuf* m, const endpoint& from, const endpoint& to, mark_t mark,
                   std::uint64_t now_tsc) noexcept;

  /// Hands TCP packets to `sink`, which must outlive the link. Without one they are dropped.
  void hand_tcp_to(packet_sink* sink) noexcept { packets_ = sink; }
  /// Sends the IPv4 or IPv6 packet in `m` to `to`. There must be room for a link header in front of
  /// it. Its checksums are whole, or its flags and header lengths tell the device to fill them in
  /// (port::fills_tcp_checksums()). The link owns the mbuf from then on. It leaves after the
  /// packets in front of it.
  void send_packet(rte_mbuf* m, const ip_address& to, std::uint64_t now_tsc) noexcept;

  /// Makes a frame of the raw mbuf `m`, whose payload of `size` octets stands behind its headroom,
  /// and stages it in tx(), which must have a free place: it leaves once tx().release() has given
  /// it a mark. Returns false, with `m` unchanged, when the frame is not a usual one: then send()
  /// knows what to do. `to` is an IPv4 address in host byte order, and `age` is
  /// neighbours::age_now() of this burst.
  [[nodiscard, gnu::always_inline]] bool stage(rte_mbuf* m, std::uint32_t size, std::uint32_t to,
                                               std::uint16_t port, std::uint32_t age) noexcept {
    if (static_cast<std::int32_t>(size) > sender_.payload_max()) [[unlikely]]
      return false;
    const std::uint64_t mac = interface_->arp->fresh_mac(to, age);
    if (mac == 0) [[unlikely]]
      return false;
    sender_.write(m, size, mac, rte_cpu_to_be_32(to), rte_cpu_to_be_16(port), ip_id_++);
    tx_->stage(m);
    return true;
  }

  /// Sends the packets whose marks are durable, with the ARP requests and membership reports that
  /// are due. Call it in every round. Returns how many packets left.
  std::uint32_t pump(media& m, std::uint64_t now_tsc) noexcept {
    poll_timers(now_tsc);
    return count_stalled(tx_->pump(m, now_tsc));
  }
  /// Does the same in a program that stores nothing: marks are ignored.
  std::uint32_t pump(std::uint64_t now_tsc) noexcept {
    poll_timers(now_tsc);
    return count_stalled(tx_->pump(now_tsc));
  }
  /// Announces the own addresses by gratuitous ARP and neighbour advertisements, and reports the
  /// joined groups. One link of each
  /// interface calls it once.
  void announce() noexcept;

  [[nodiscard]] net::interface& interface() noexcept { return *interface_; }
  [[nodiscard]] tx_buffer& tx() noexcept { return *tx_; }
  [[nodiscard]] const tx_buffer& tx() const noexcept { return *tx_; }
  [[nodiscard]] const drop_counters& drops() const noexcept { return drops_; }
  /// The number of frames received, good and bad, and of the UDP datagrams among them. Any thread
  /// may read them.
  [[nodiscard]] std::uint64_t frames() const noexcept { return frames_.value(); }
  [[nodiscard]] std::uint64_t datagrams() const noexcept { return datagrams_.value(); }
  /// The number of datagrams that were put together from fragments. Any thread may read it.
  [[nodiscard]] std::uint64_t reassembled() const noexcept {
    return whole_ == nullptr ? 0 : whole_->datagrams();
  }

 private:
  link(net::interface& port, const link_options& options) noexcept;
  void poll_timers(std::uint64_t now_tsc) noexcept {
    interface_->arp->poll(*tx_, options_.pool, drops_, now_tsc);
    interface_->groups->poll(*tx_, options_.pool, drops_, now_tsc);
  }
  std::uint32_t count_stalled(std::uint32_t left) noexcept {
    const std::uint64_t now = tx_->stalled();
    if (now != stalled_) [[unlikely]]
      drops_.count(drop_reason::transmit_stalled, now - stalled_);
    stalled_ = now;
    return left;
  }
  send_status send_fragments(rte_mbuf* m, const route_result& way, const endpoint& from,
                             const endpoint& to, mark_t mark, std::uint64_t now_tsc) noexcept;
  std::uint16_t read_burst(std::uint16_t most, rte_mbuf** frames) noexcept;
  [[gnu::noinline, gnu::cold]] std::uint16_t
  process_unusual(rte_mbuf* frame, received_datagram& out, std::uint64_t now_tsc) noexcept;
  /// Returns false when this is no sender, which classify() knows how to count.
  [[gnu::noinline, gnu::cold]] bool notice(std::uint32_t from, std::uint64_t mac,
                                           std::uint64_t now_tsc) noexcept;
  std::uint16_t process_packets(std::span<rte_mbuf* const> frames, std::span<datagram> out,
                                std::uint64_t now_tsc) noexcept;
  void answer(rte_mbuf* frame) noexcept;
  void advertise(const packet_view& view, std::uint64_t now_tsc) noexcept;
  /// Returns true when it consumed the frame.
  bool handle_arp(rte_mbuf* frame, const packet_view& view, std::uint64_t now_tsc) noexcept;

  net::interface* interface_;
  link_options options_;
  endpoint own_;
  std::uint16_t ip_id_ = 0;
  bool emptied_ = false;
  receive_template receiver_;
  transmit_template sender_;
  std::unique_ptr<tx_buffer> tx_;
  packet_sink* packets_ = nullptr;
  std::unique_ptr<reassembly> whole_; ///< only in a link that receives
  std::uint64_t stalled_ = 0;         ///< the value of tx_->stalled() that drops_ already contains
  drop_counters drops_;
  statistic frames_, datagrams_;
};

} // namespace chainring::net
