// SPDX-License-Identifier: BSD-3-Clause
/// Templates for the usual frame, which is a UDP datagram over IPv4 without a VLAN tag, without IP
/// options and in one packet. They read and write it with few instructions; every other frame goes
/// through classify() (parse.h) and build_udp() (build.h).
///
/// A receive_template compares the words of a frame that are the same in all usual frames of a port
/// with constants. What it accepts, classify() accepts with the same result; what it does not
/// accept may still be valid. A transmit_template writes the 42 octets of headers from constants,
/// and adds only the words that change to sums that it computed once (RFC 1624). What it writes is
/// what build_udp() writes, octet by octet.
///
/// All functions are thread-safe on different frames and allocate nothing.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <rte_byteorder.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_udp.h>
#include <span>

#include "../base/client_address.h"
#include "build.h"
#include "parse.h"

namespace chainring::net {

/// A received UDP datagram, in the form for the front ends.
struct received_datagram {
  static constexpr std::uint32_t no_hint = 0xffffffff;
  client_address from; ///< endpoint::key() of the sender
  /// The TSC at which the datagram was read from its port.
  std::uint64_t received_tsc;
  const std::byte* data; ///< the payload in the frame
  std::uint32_t size;    ///< octets of the payload
  /// What the sink noted for itself when it was asked where the datagram belongs, or no_hint.
  std::uint32_t hint = no_hint;
  /// The datagram was sent to a multicast group or broadcast, and not to this host alone.
  bool to_group;
  rte_mbuf* frame; ///< belongs to whoever received the datagram from its port

  [[nodiscard]] std::span<const std::byte> payload() const noexcept { return {data, size}; }
};

namespace detail {

static_assert(std::endian::native == std::endian::little,
              "the sums below shift words as they stand in memory");

template <class Word> [[nodiscard]] inline Word load(const void* at) noexcept {
  Word w;
  std::memcpy(&w, at, sizeof w);
  return w;
}
template <class Word> inline void store(void* at, Word w) noexcept {
  std::memcpy(at, &w, sizeof w);
}
[[nodiscard]] inline std::uint64_t load_8(const void* at) noexcept {
  return load<std::uint64_t>(at);
}

// Compilers do not make the carry chains of these sums, which save two of three instructions.
#if defined(__x86_64__)
/// The sum of two words in one's complement arithmetic of 64 bits.
[[nodiscard]] inline std::uint64_t add_word(std::uint64_t sum, std::uint64_t w) noexcept {
  asm("addq %1, %0\n\tadcq $0, %0" : "+r"(sum) : "r"(w) : "cc");
  return sum;
}
/// The sum with the four words at `at`.
[[nodiscard]] inline std::uint64_t add_4_words(std::uint64_t sum, const std::byte* at) noexcept {
  asm("addq (%1), %0\n\tadcq 8(%1), %0\n\tadcq 16(%1), %0\n\tadcq 24(%1), %0\n\tadcq $0, %0"
      : "+&r"(sum)
      : "r"(at), "m"(*reinterpret_cast<const std::byte(*)[32]>(at))
      : "cc");
  return sum;
}
#else
[[nodiscard]] inline std::uint64_t add_word(std::uint64_t sum, std::uint64_t w) noexcept {
  sum += w;
  return sum + (sum < w ? 1 : 0);
}
[[nodiscard]] inline std::uint64_t add_4_words(std::uint64_t sum, const std::byte* at) noexcept {
  for (unsigned i = 0; i < 4; ++i)
    sum = add_word(sum, load_8(at + std::size_t{8} * i));
  return sum;
}
#endif

/// Adds the 16-bit words of `n` octets to `sum`, as add_checksum() does. The eight octets in front
/// of the end must be readable even where `n` is below 8.
[[nodiscard, gnu::always_inline]] inline std::uint64_t
add_payload(std::uint64_t sum, const std::byte* at, std::size_t n) noexcept {
  const std::byte* const end = at + n;
  const std::byte* const last = end - 32;
  for (; at <= last; at += 32)
    sum = add_4_words(sum, at);
  for (; at <= last + 24; at += 8)
    sum = add_word(sum, load_8(at));
  // The last octets are the upper ones of the last eight. Shifted down they stand where a load from
  // `at` would put them, with zeroes behind.
  if (at != end) [[likely]]
    sum = add_word(sum, load_8(end - 8) >> (8 * (at - end) & 63));
  return sum;
}

/// fold_checksum() of a sum, with the complement.
[[nodiscard]] inline std::uint16_t complement_of_sum(std::uint64_t sum) noexcept {
  const auto high = static_cast<std::uint32_t>(sum >> 32);
  auto folded = static_cast<std::uint32_t>(sum) + high;
  folded += folded < high ? 1 : 0;
  // The upper half of this sum is the sum of both halves with their carry added.
  folded += std::rotl(folded, 16);
  return static_cast<std::uint16_t>(~folded >> 16);
}
/// True when the sum folds to 0xffff, as that of octets with their checksum does: it is a multiple
/// of that number. A word in it must not be 0; then no sum is.
[[nodiscard]] inline bool is_sum_right(std::uint64_t sum) noexcept {
  return sum % 0xffff == 0;
}

} // namespace detail

class receive_template {
 public:
  /// The template accepts datagrams to the first own address and port. A configuration that no
  /// usual frame can meet makes one that accepts nothing.
  explicit receive_template(const receive_filter& filter) noexcept;

  /// Returns true when the frame is usual and classify() accepts it from this sender if from any.
  /// Fills all of `d` but `received_tsc` and `hint`, and sets `mac` to the frame's source in the
  /// form of neighbours::noticed().
  [[nodiscard]] bool read(rte_mbuf* m, received_datagram& d, std::uint64_t& mac) const noexcept;
  /// True when the sender is one: an IPv4 address that a host can have and that is no own one, and
  /// a MAC of one host. What has an entry in the table of neighbours was found to be so before.
  [[nodiscard]] bool is_sender(std::uint32_t from, std::uint64_t mac) const noexcept {
    if ((mac & 0x1'0000) != 0 || mac == 0 || from - own_first_ < own_count_) return false;
    const std::uint32_t host = from - network_;
    return host - 1 < hosts_ || (host >= network_size_ && is_unicast(from));
  }

 private:
  /// Octets 0 to 7 of a frame, and 12 to 19, 20 to 27 and 30 to 37. They are compared under these
  /// masks: the destination's MAC; the EtherType and the octet with the version and the length of
  /// the header; the place of a fragment and the protocol; the destination's address and port.
  std::uint64_t mac_ = 0, type_ = 0, protocol_ = 0, to_ = 0;
  static constexpr std::uint64_t type_mask = 0xFF'FFFF, protocol_mask = 0xFF00'FF3F,
                                 to_mask = 0xFFFF'0000'FFFF'FFFF;
  std::uint32_t interface_id_ = 0;
  std::uint32_t size_min_ = 0xFFFF'FFFF; ///< of a frame; the template that accepts nothing has this
  std::uint32_t own_first_ = 0, own_count_ = 0; ///< the own addresses, which no sender has
  /// The hosts of the link are the `hosts_` addresses behind `network_`; it has `network_size_`
  /// addresses, or 0 where each of its addresses is a host.
  std::uint32_t network_ = 0, network_size_ = 0, hosts_ = 0;
};

[[gnu::always_inline]] inline bool receive_template::read(rte_mbuf* m, received_datagram& d,
                                                          std::uint64_t& mac) const noexcept {
  using namespace detail;
  const auto* at = rte_pktmbuf_mtod(m, const std::byte*);
  const std::size_t n = rte_pktmbuf_data_len(m);
  if (n < size_min_ || m->nb_segs != 1) [[unlikely]]
    return false;
  const std::uint64_t differs =
      (load_8(at) ^ mac_) << 16 | ((load_8(at + 12) ^ type_) & type_mask) |
      ((load_8(at + 20) ^ protocol_) & protocol_mask) | ((load_8(at + 30) ^ to_) & to_mask);
  if (differs != 0) [[unlikely]]
    return false;
  // The lengths: the datagram fills its IP packet, which fits into the frame.
  const std::uint32_t total = rte_bswap16(load<std::uint16_t>(at + 16));
  const std::uint32_t length = rte_bswap16(load<std::uint16_t>(at + 38));
  if (length < 8 || total != length + 20 || total + 14 > n) [[unlikely]]
    return false;
  const std::uint32_t port = rte_bswap16(load<std::uint16_t>(at + 34));
  if (port == 0) [[unlikely]]
    return false;
  // A verdict of the device that a checksum is good, or known to be good without one, has this bit.
  static_assert((RTE_MBUF_F_RX_IP_CKSUM_NONE & RTE_MBUF_F_RX_IP_CKSUM_GOOD) != 0 &&
                (RTE_MBUF_F_RX_IP_CKSUM_BAD & RTE_MBUF_F_RX_IP_CKSUM_GOOD) == 0 &&
                (RTE_MBUF_F_RX_L4_CKSUM_NONE & RTE_MBUF_F_RX_L4_CKSUM_GOOD) != 0 &&
                (RTE_MBUF_F_RX_L4_CKSUM_BAD & RTE_MBUF_F_RX_L4_CKSUM_GOOD) == 0);
  const std::uint64_t flags = m->ol_flags;
  if ((flags & RTE_MBUF_F_RX_IP_CKSUM_GOOD) == 0) {
    // The header is octets 14 to 33, and the version is not 0.
    const std::uint64_t sum = add_word(load_8(at + 14), load_8(at + 22));
    if (!is_sum_right(add_word(sum, load<std::uint32_t>(at + 30)))) [[unlikely]]
      return false;
  }
  const std::size_t size = length - 8;
  if ((flags & RTE_MBUF_F_RX_L4_CKSUM_GOOD) == 0 && load<std::uint16_t>(at + 40) != 0) {
    // The pseudo-header has the addresses, the protocol and the length once more.
    const std::uint64_t pseudo =
        std::uint64_t{load<std::uint16_t>(at + 38)} + rte_cpu_to_be_16(IPPROTO_UDP);
    const std::uint64_t sum = add_word(add_word(pseudo, load_8(at + 26)), load_8(at + 34));
    if (!is_sum_right(add_payload(sum, at + udp_header_room, size))) [[unlikely]]
      return false;
  }
  const std::uint32_t from = rte_bswap32(load<std::uint32_t>(at + 26));
  constexpr std::uint64_t mapped = ip_address(std::uint32_t{0}).low;
  d.from.words = {0, mapped | from, std::uint64_t{port} << 16 | interface_id_};
  d.data = at + udp_header_room;
  d.size = static_cast<std::uint32_t>(size);
  d.to_group = false;
  d.frame = m;
  mac = load_8(at + 6) << 16;
  return true;
}

class transmit_template {
 public:
  /// For datagrams from the IPv4 address and the port of `from`. A VLAN makes a template that
  /// writes nothing.
  transmit_template(const transmit_config& config, const endpoint& from) noexcept;

  /// The longest payload that write() takes, or -1.
  [[nodiscard]] std::int32_t payload_max() const noexcept { return payload_max_; }

  /// Makes a whole frame of the raw mbuf `m`, whose payload of `size` octets stands behind its
  /// headroom. The destination is a MAC in the form of neighbours::fresh_mac(), and in network byte
  /// order an IPv4 address, which is no group's, and a port. `id` is as for build_udp().
  void write(rte_mbuf* m, std::uint32_t size, std::uint64_t mac, rte_be32_t to, rte_be16_t port,
             std::uint16_t id) const noexcept;

 private:
  std::int32_t payload_max_ = -1;
  std::uint32_t own_ = 0;        ///< the source, in network byte order
  std::uint64_t own_mac_ = 0;    ///< its first two octets stand last
  std::uint64_t behind_mac_ = 0; ///< octets 8 to 15 of the frame
  std::uint64_t ip_sum_ = 0;     ///< of the constant words of the IP header
  std::uint64_t pseudo_sum_ = 0; ///< of those of the pseudo-header
  std::uint64_t flags_ = 0;      ///< mbuf flags
  std::uint64_t offload_ = 0;    ///< mbuf lengths for the device
  std::uint16_t port_ = 0;       ///< the source port, in network byte order
};

[[gnu::always_inline]] inline void transmit_template::write(rte_mbuf* m, std::uint32_t size,
                                                            std::uint64_t mac, rte_be32_t to,
                                                            rte_be16_t port,
                                                            std::uint16_t id) const noexcept {
  using namespace detail;
  constexpr std::uint16_t offset = RTE_PKTMBUF_HEADROOM - udp_header_room;
  auto* const at = static_cast<std::byte*>(m->buf_addr) + offset;
  const std::uint16_t ip_length = rte_bswap16(static_cast<std::uint16_t>(size + udp_ip_overhead));
  const std::uint16_t udp_length = rte_bswap16(static_cast<std::uint16_t>(size + 8));
  const std::uint16_t be_id = rte_bswap16(id);
  store(at, mac | own_mac_);
  store(at + 8, behind_mac_);
  store(at + 16, ip_length);
  store(at + 18, be_id);
  store<std::uint32_t>(at + 20, 0x40 | 64 << 16 | IPPROTO_UDP << 24); // don't fragment; the TTL
  store(at + 26, own_);
  store(at + 30, to);
  store(at + 34, port_);
  store(at + 36, port);
  store(at + 38, udp_length);
  // These sums of words of at most 32 bits stay below 2^36.
  const std::uint64_t pseudo = pseudo_sum_ + to + udp_length;
  std::uint16_t ip_check = 0, udp_check = 0;
  if (flags_ == 0) [[likely]] {
    ip_check = complement_of_sum(ip_sum_ + to + ip_length + be_id);
    const std::uint64_t sum = pseudo + port_ + port + udp_length;
    udp_check = complement_of_sum(add_payload(sum, at + udp_header_room, size));
    if (udp_check == 0) udp_check = 0xffff; // 0 would mean that there is no checksum
  } else {
    // The pseudo-header's sum, to which the device adds the rest.
    udp_check = static_cast<std::uint16_t>(~complement_of_sum(pseudo));
  }
  store(at + 24, ip_check);
  store(at + 40, udp_check);
  // The octets behind these two words have the offset of the data, one reference, one segment and
  // no port, and no type and the length of the packet.
  constexpr std::uint64_t rearm =
      std::uint64_t{offset} | 1ull << 16 | 1ull << 32 | std::uint64_t{RTE_MBUF_PORT_INVALID} << 48;
  static_assert(offsetof(rte_mbuf, data_off) == offsetof(rte_mbuf, rearm_data) &&
                offsetof(rte_mbuf, refcnt) == offsetof(rte_mbuf, rearm_data) + 2 &&
                offsetof(rte_mbuf, nb_segs) == offsetof(rte_mbuf, rearm_data) + 4 &&
                offsetof(rte_mbuf, port) == offsetof(rte_mbuf, rearm_data) + 6 &&
                offsetof(rte_mbuf, pkt_len) == offsetof(rte_mbuf, packet_type) + 4 &&
                offsetof(rte_mbuf, vlan_tci) == offsetof(rte_mbuf, data_len) + 2);
  const std::uint32_t frame_size = size + udp_header_room;
  store(&m->rearm_data, rearm);
  m->ol_flags = flags_;
  store(&m->packet_type, std::uint64_t{frame_size} << 32);
  store(&m->data_len, frame_size); // it is below 2^16, so the VLAN is 0
  // Without a flag the device asks for no length, and the word lies in a line of its own.
  if (flags_ != 0) [[unlikely]]
    m->tx_offload = offload_;
}

} // namespace chainring::net
