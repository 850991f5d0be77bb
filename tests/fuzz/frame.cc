// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: frames as a port delivers them, over IPv4 and IPv6, on a port without and on one
// with a VLAN. A link parses them, puts fragments together, answers them, and sends replies to
// their senders, some of them in fragments. The first octet of an input chooses the port.
//
// The rest is a sequence of {how, length (2), frame}. Bits of `how`: 1 the IPv4 header checksum is
// made right, 2 the UDP or ICMP checksum is made right, 4 the frame has several segments, 8 the
// device found the checksums good, 16 the device did not verify them, 32 the frame is sent to the
// device's address, 64 it has room behind it for a whole datagram.
#include "../lib/net/frames.h"
#include "fuzz.h"

using namespace chainring;
using namespace chainring::net;

namespace {

/// Makes the checksum of a UDP datagram or an ICMPv6 message over IPv6 right. It skips extension
/// headers, but not those of a fragment.
void put_ipv6_checksum(net_test::octets& o, std::size_t l2) {
  std::size_t at = l2 + 40;
  unsigned next = o.size() >= at ? o[l2 + 6] : 59u;
  while ((next == 0 || next == 43 || next == 60) && at + 8 <= o.size()) {
    next = o[at];
    at += (o[at + 1] + 1u) * 8;
  }
  const std::size_t total = l2 + 40 + (o.size() >= l2 + 6 ? net_test::get16(o, l2 + 4) : 0);
  const std::size_t field = next == 17 ? 6 : 2;
  if ((next != 17 && next != 58) || total > o.size() || at + field + 2 > total) return;
  net_test::octets covered(o.begin() + static_cast<std::ptrdiff_t>(l2 + 8),
                           o.begin() + static_cast<std::ptrdiff_t>(l2 + 40));
  net_test::put32(covered, static_cast<std::uint32_t>(total - at));
  net_test::put32(covered, next);
  net_test::set16(o, at + field, 0);
  covered.insert(covered.end(), o.begin() + static_cast<std::ptrdiff_t>(at),
                 o.begin() + static_cast<std::ptrdiff_t>(total));
  const auto sum = net_test::checksum(covered);
  net_test::set16(o, at + field, sum == 0 && next == 17 ? 0xffffu : sum);
}

void put_checksums(net_test::octets& o, unsigned how) {
  const std::size_t l2 = o.size() > 18 && o[12] == 0x81 && o[13] == 0 ? 18 : 14;
  if ((how & 2) != 0 && o.size() > l2 && o[l2 - 2] == 0x86 && o[l2 - 1] == 0xdd)
    return put_ipv6_checksum(o, l2);
  if (o.size() < l2 + 20 || o[l2 - 2] != 8 || o[l2 - 1] != 0) return;
  const std::size_t header = (o[l2] & 15u) * 4, total = net_test::get16(o, l2 + 2);
  if (header < 20 || total < header || l2 + total > o.size()) return;
  const auto at = [&](std::size_t from, std::size_t to) {
    return net_test::octets(o.begin() + static_cast<std::ptrdiff_t>(from),
                            o.begin() + static_cast<std::ptrdiff_t>(to));
  };
  if ((how & 1) != 0) {
    net_test::set16(o, l2 + 10, 0);
    net_test::set16(o, l2 + 10, net_test::checksum(at(l2, l2 + header)));
  }
  if ((how & 2) == 0) return;
  const std::size_t l4 = l2 + header, length = total - header;
  if (o[l2 + 9] == 1 && length >= 4) {
    net_test::set16(o, l4 + 2, 0);
    net_test::set16(o, l4 + 2, net_test::checksum(at(l4, l2 + total)));
  } else if (o[l2 + 9] == 17 && length >= 8) {
    const std::size_t udp = net_test::get16(o, l4 + 4);
    if (udp < 8 || udp > length) return;
    net_test::set16(o, l4 + 6, 0);
    const auto sum = net_test::checksum(
        at(l4, l4 + udp),
        net_test::pseudo_header(net_test::get32(o, l2 + 12), net_test::get32(o, l2 + 16), udp));
    net_test::set16(o, l4 + 6, sum == 0 ? 0xffffu : sum);
  }
}

struct world {
  net_test::ring_port device;
  std::unique_ptr<interface> on;
  std::unique_ptr<net::link> link;
  explicit world(std::uint16_t vlan) {
    port_options p;
    p.pool = net_test::pool();
    auto opened = open_interface(
        [&] {
          interface_config c = net_test::configuration();
          c.port_id = device.id();
          c.ipv6 = true;
          c.address6 = parse_ipv6_prefix("2001:db8::1/64").value();
          c.multicast_group = net_test::group;
          c.multicast_group6 = parse_ipv6("ff02::101").value();
          c.datagram_max = 4000;
          c.vlan = vlan;
          return c;
        }(),
        p);
    fuzz::expect(opened.ok(), "the interface could not be opened");
    on = std::move(*opened);
    make_link();
  }
  void make_link() {
    link.reset();
    link_options l;
    l.pool = net_test::pool();
    auto made = net::link::create(*on, l);
    fuzz::expect(made.ok(), "the link could not be created");
    link = std::move(*made);
  }
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::array<world*, 2> worlds = [] {
    fuzz::start_eal();
    return std::array{new world(0), new world(7)};
  }();
  fuzz::input in(data, size);
  world* w = worlds[in.octet() % 2];
  std::uint64_t now = 1'000'000'000;
  for (int frames = 0; frames < 32 && !in.empty(); ++frames) {
    const unsigned how = in.octet();
    const auto bytes = in.take(in.number(2) % 2048);
    net_test::octets o(bytes.begin(), bytes.end());
    put_checksums(o, how);
    if (o.size() >= 6 && (how & 32) != 0) std::memcpy(o.data(), w->on->device.mac().addr_bytes, 6);
    rte_mbuf* m = (how & 4) != 0 && o.size() > 3
                      ? net_test::segmented(o, {o.size() / 3, o.size() / 2}, net_test::exact_mbuf)
                  : (how & 64) != 0 && o.size() <= 2048 ? net_test::mbuf(o)
                                                        : net_test::exact_mbuf(o);
    if ((how & 8) != 0) m->ol_flags |= RTE_MBUF_F_RX_L4_CKSUM_GOOD | RTE_MBUF_F_RX_IP_CKSUM_GOOD;
    // What the template of the usual frame accepts, the parser must accept with the same result.
    const receive_template usual(w->on->filter);
    received_datagram short_form{};
    std::uint64_t mac = 0;
    const bool is_usual =
        usual.read(m, short_form, mac) &&
        usual.is_sender(static_cast<std::uint32_t>(short_form.from.words[1]), mac);
    std::array<datagram, 4> got;
    const std::uint16_t datagrams = w->link->process(std::span(&m, 1), got, now);
    if (is_usual)
      fuzz::expect(datagrams == 1 && got[0].frame == m &&
                       got[0].view.source.key() == short_form.from &&
                       got[0].view.payload.data() == short_form.data &&
                       got[0].view.payload.size() == short_form.size && !got[0].view.to_group,
                   "the template and the parser read a frame in different ways");
    if (datagrams == 1) {
      const packet_view& v = got[0].view;
      std::uint64_t sum = 0;
      for (const std::byte b : v.payload)
        sum += static_cast<std::uint64_t>(b);
      fuzz::expect(sum <= 255u * 8 * 2048, "the payload of a frame is longer than any frame");
      fuzz::expect(endpoint::from_key(v.source.key()) == v.source,
                   "the key of a sender gives another sender");
      rte_pktmbuf_free(got[0].frame);
      const unsigned length = in.octet() * 8u; // up to 2040 octets, which take two packets
      rte_mbuf* reply = net_test::mbuf(net_test::octets(length, 0x55));
      if (w->link->send(reply, v.source, 0, now) == send_status::full) rte_pktmbuf_free(reply);
    }
    now += 50'000'000;
    (void)w->link->pump(now);
    for (const net_test::octets& left : w->device.all_left())
      fuzz::expect(left.size() >= 14 && left.size() <= 1518,
                   "the link sent a frame that is too short or too long");
  }
  now += 3'600'000'000'000; // frames that wait for a neighbour's address are given up
  for (int i = 0; i < 64; ++i, now += 3'600'000'000'000) {
    (void)w->link->pump(now);
    (void)w->device.all_left();
    if (w->on->arp->pending() == 0) break;
  }
  if (!net_test::all_back()) w->make_link(); // unfinished datagrams hold their fragments
  fuzz::expect(net_test::all_back(), "an mbuf was not freed");
  return 0;
}
