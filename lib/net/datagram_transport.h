// SPDX-License-Identifier: BSD-3-Clause
/// The transport of a worker over its links. Each datagram becomes a packet, which leaves once its
/// mark is persistent.
///
/// commit() makes the usual datagram (datagram_frame.h) a frame at once and stages it in the
/// transmit buffer of its link. Of any other it reserves a place there, or several for one that
/// leaves in fragments, and release() makes the frames; so does it of all that come after in the
/// same burst, because datagrams leave in their order. No other packet, such as an ARP answer or a
/// packet whose neighbour became known, can take the place before release(). credit() counts with
/// the places that the longest datagram to the address takes, because the caller does not say yet
/// how long its datagrams will be. So a full link does not delay the other links, and credit()
/// keeps its promise as long as the packet pool has the frames that listener_group::frames_needed()
/// asks for.
///
/// **The stock.** Most received frames are given back after their burst, which sends about as many
/// datagrams. give_back() keeps up to `stock_max` of them for begin(), so that neither goes through
/// the packet pool.
#pragma once
#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <vector>

#include "../base/statistic.h"
#include "link.h"
#include "transport.h"

namespace chainring::net {

/// Belongs to one worker; any thread may call dropped().
class datagram_transport final : public transport {
 public:
  /// `links`: the worker's link on each interface, by interface id; its transmit buffer must have
  /// room for the longest datagram. `waiting_max`: the greatest number of datagrams between begin()
  /// and release().
  datagram_transport(std::vector<link*> links, rte_mempool* pool, std::uint32_t waiting_max);
  ~datagram_transport() override;
  datagram_transport(const datagram_transport&) = delete;
  datagram_transport& operator=(const datagram_transport&) = delete;

  [[nodiscard]] std::uint32_t credit(client_address to) const noexcept override;
  [[nodiscard]] std::uint32_t credit_of_any() const noexcept override;
  [[nodiscard]] std::size_t size_max(client_address to) const noexcept override;
  [[nodiscard]] std::uint32_t position(client_address to) const noexcept override;
  [[nodiscard]] bool passed(client_address to, std::uint32_t position) const noexcept override;
  std::span<std::byte> begin(client_address to, std::size_t size) noexcept override;
  void commit(std::size_t size) noexcept override;
  void release(mark_t mark) noexcept override;

  /// Takes back received frames whose datagrams were handled.
  void give_back(std::span<const received_datagram> burst) noexcept {
    // These octets of an mbuf hold the counts of references and of segments. An mbuf of one segment
    // has no next one, as the pool asks of those it gets.
    constexpr std::uint64_t alone_mask = 0xFFFF'FFFF'0000, alone = 0x1'0001'0000;
    std::uint32_t count = stock_count_;
    for (const received_datagram& d : burst) {
      rte_mbuf* const m = d.frame;
      std::uint64_t rearm;
      std::memcpy(&rearm, &m->rearm_data, sizeof rearm);
      if ((rearm & alone_mask) != alone || m->pool != pool_ ||
          (m->ol_flags & (RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL)) != 0) [[unlikely]] {
        rte_pktmbuf_free(m);
        continue;
      }
      if (count == stock_max) [[unlikely]]
        count = shrink_stock();
      stock_[count++] = m;
    }
    stock_count_ = count;
  }
  /// The frames that the stock holds at most.
  static constexpr std::uint32_t stock_max = 128;

  /// Returns how many datagrams were refused because credit was lacking, a frame was lacking, or
  /// the datagram was too long.
  [[nodiscard]] std::uint64_t dropped() const noexcept { return dropped_.value(); }

 private:
  struct waiting {
    rte_mbuf* frame;
    endpoint to;
    std::uint32_t places; ///< reserved in the transmit buffer: one for each packet
  };
  struct alignas(cacheline_size) lane { ///< what is sent through one link
    link* way;
    tx_buffer* tx;
    std::uint32_t age;       ///< neighbours::age_now() of this burst
    std::uint32_t one_place; ///< the longest payload that takes one place to any address
    std::uint32_t longest_ipv4, longest_ipv6;   ///< the places that the longest datagram takes
    std::uint32_t size_max_ipv4, size_max_ipv6; ///< the octets of the longest datagram
  };
  static_assert(offsetof(rte_mbuf, refcnt) == offsetof(rte_mbuf, rearm_data) + 2 &&
                offsetof(rte_mbuf, nb_segs) == offsetof(rte_mbuf, rearm_data) + 4);

  [[nodiscard]] static bool is_ipv4(const client_address& a) noexcept {
    return ip_address(a.words[0], a.words[1]).is_ipv4();
  }
  [[nodiscard]] static std::size_t id_of(const client_address& to) noexcept {
    return to.words[2] & endpoint::interface_id_max;
  }
  [[nodiscard]] const lane* lane_of(const client_address& to) const noexcept {
    const std::size_t id = id_of(to);
    return id < lane_count_ ? &lanes_[id] : nullptr;
  }
  [[nodiscard]] static std::uint32_t places_for(const lane& l, const client_address& to,
                                                std::size_t size) noexcept;
  [[nodiscard]] std::uint32_t begun_count() const noexcept {
    return staged_count_ + waiting_count_;
  }
  [[gnu::noinline, gnu::cold]] std::span<std::byte> begin_slowly(const client_address& to,
                                                                 std::size_t size) noexcept;
  /// Gives half of a full stock to the pool, and returns how many frames are left.
  [[nodiscard, gnu::noinline, gnu::cold]] std::uint32_t shrink_stock() noexcept;
  [[gnu::noinline, gnu::cold]] void commit_slowly(std::size_t size) noexcept;
  [[nodiscard, gnu::always_inline]] bool stage(std::size_t size) noexcept;
  [[gnu::noinline, gnu::cold]] void wait(std::size_t size) noexcept;

  std::unique_ptr<lane[]> lanes_; ///< indexed by interface id
  std::size_t lane_count_;
  rte_mempool* pool_;
  std::size_t room_; ///< the octets behind the headroom of a frame
  std::uint32_t waiting_max_;
  /// This burst has begun, and each of its datagrams so far was staged.
  bool staging_ = false;
  std::uint32_t staged_count_ = 0;
  std::uint32_t waiting_count_ = 0; ///< the elements of waiting_ in use
  std::uint32_t stock_count_ = 0;
  const lane* open_lane_ = nullptr; ///< of the datagram that was begun and not committed
  client_address open_to_;
  /// Frames as they come from the pool, with uncertain headers. The last one is the frame of the
  /// datagram that was begun, until it is committed.
  std::array<rte_mbuf*, stock_max> stock_;
  std::vector<waiting> waiting_;
  statistic dropped_;
};

} // namespace chainring::net
