// SPDX-License-Identifier: BSD-3-Clause
/// A worker's hold on one interface: datagrams in, datagrams out; ARP and ping answered on the way.
///
/// An `interface` is a port with our address and its neighbours, shared by all lcores. A `link` is
/// one lcore's receive and transmit queue of it, with its buffer and its counters.
///
/// Thread-safety: an interface may be used by all its links at once; a link belongs to one lcore
/// (its counters may be read by any). No allocation and no system call of its own after create().
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
#include "drop.h"
#include "parse.h"
#include "port.h"
#include "tx_buffer.h"

namespace chainring::net {

/// A port, who we are on it, and our neighbours there.
struct interface {
  interface_config config;
  port device;
  receive_filter filter;
  transmit_config transmit;
  std::unique_ptr<neighbours> arp;

  /// Largest UDP payload that fits one packet.
  [[nodiscard]] std::uint16_t payload_max() const noexcept {
    return static_cast<std::uint16_t>(transmit.mtu - udp_ip_overhead);
  }
};

/// Opens the port and sets the rest up from it.
[[nodiscard]] result<std::unique_ptr<interface>>
open_interface(const interface_config& config, const port_options& options,
               const neighbour_options& neighbour = {});

/// A received UDP datagram. The frame is the receiver's to free; view.payload points into it.
struct datagram {
  rte_mbuf* frame = nullptr;
  packet_view view;
};

enum class send_status : std::uint8_t {
  queued,
  held,    ///< waits for an ARP answer
  dropped, ///< freed and counted: too long, no headroom, unreachable, too many waiting
  full,    ///< the frame, its headers not yet built, is still the caller's
};

struct link_options {
  std::uint16_t rx_queue = 0;
  std::uint16_t tx_queue = 0;
  std::uint32_t tx_capacity = 4096;
  std::uint32_t stall_ms = 100;
  /// For ARP requests: any pool of ordinary mbufs.
  rte_mempool* pool = nullptr;
};

class link {
 public:
  /// Refuses queues the port does not have and a missing pool. A link may be transmit-only: give it
  /// no_queue as rx_queue.
  static constexpr std::uint16_t no_queue = 0xFFFF;
  [[nodiscard]] static result<std::unique_ptr<link>> create(interface& on,
                                                            const link_options& options);

  /// Polls the port once for up to 64 frames. Fills `out` with the UDP datagrams among them and
  /// returns their number; answers ARP and echo requests, learns neighbours, counts and frees the
  /// rest.
  std::uint16_t receive(std::span<datagram> out, std::uint64_t now_tsc) noexcept;

  /// Whether the last receive() found fewer frames than it asked the port for.
  [[nodiscard]] bool emptied() const noexcept { return emptied_; }
  [[nodiscard]] bool receives() const noexcept { return options_.rx_queue != no_queue; }

  /// The same for frames that came some other way; takes all of them. `out` holds at least as many.
  std::uint16_t process(std::span<rte_mbuf* const> frames, std::span<datagram> out,
                        std::uint64_t now_tsc) noexcept;

  /// Sends the payload that `m` holds to a client, from our first address and port. Takes the mbuf
  /// except where it is `full`. It leaves once `mark` is durable, in the order of send(); only
  /// packets that wait for ARP may be overtaken, while another lcore hears the answer.
  send_status send(rte_mbuf* m, const endpoint& to, mark_t mark, std::uint64_t now_tsc) noexcept {
    return send(m, own_, to, mark, now_tsc);
  }
  /// The same from another address or port of ours.
  send_status send(rte_mbuf* m, const endpoint& from, const endpoint& to, mark_t mark,
                   std::uint64_t now_tsc) noexcept;

  /// Sends what may leave; polls ARP. Call in every round. Returns how many packets left.
  std::uint32_t pump(media& m, std::uint64_t now_tsc) noexcept {
    poll_arp(now_tsc);
    return count_stalled(tx_->pump(m, now_tsc));
  }
  /// For a program that stores nothing: marks do not count.
  std::uint32_t pump(std::uint64_t now_tsc) noexcept {
    poll_arp(now_tsc);
    return count_stalled(tx_->pump(now_tsc));
  }
  /// Announces our addresses by gratuitous ARP. Once, by one link of the interface.
  void announce() noexcept;

  [[nodiscard]] net::interface& interface() noexcept { return *on_; }
  [[nodiscard]] tx_buffer& tx() noexcept { return *tx_; }
  [[nodiscard]] const tx_buffer& tx() const noexcept { return *tx_; }
  [[nodiscard]] const drop_counters& drops() const noexcept { return drops_; }
  /// Frames received, good and bad; UDP datagrams among them. Any thread may read them.
  [[nodiscard]] std::uint64_t frames() const noexcept { return frames_.value(); }
  [[nodiscard]] std::uint64_t datagrams() const noexcept { return datagrams_.value(); }

 private:
  link(net::interface& on, const link_options& options) noexcept;
  void poll_arp(std::uint64_t now_tsc) noexcept {
    on_->arp->poll(*tx_, options_.pool, drops_, now_tsc);
  }
  std::uint32_t count_stalled(std::uint32_t left) noexcept {
    const std::uint64_t now = tx_->stalled();
    if (now != stalled_) [[unlikely]]
      drops_.count(drop_reason::transmit_stalled, now - stalled_);
    stalled_ = now;
    return left;
  }
  void answer(rte_mbuf* frame) noexcept;
  /// True where the frame was consumed.
  bool handle_arp(rte_mbuf* frame, const packet_view& view, std::uint64_t now_tsc) noexcept;

  net::interface* on_;
  link_options options_;
  endpoint own_;
  std::uint16_t ip_id_ = 0;
  bool emptied_ = false;
  std::unique_ptr<tx_buffer> tx_;
  std::uint64_t stalled_ = 0; ///< tx_->stalled() as counted in drops_
  drop_counters drops_;
  statistic frames_, datagrams_;
};

} // namespace chainring::net
