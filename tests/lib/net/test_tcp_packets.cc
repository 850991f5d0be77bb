// SPDX-License-Identifier: BSD-3-Clause
// How a link hands over packets of TCP, and sends packets that others have built.
#include "frames.h"

namespace chainring::net_test {
namespace {

constexpr ip_address own6{0x2001'0DB8'0000'0000, 1}, peer6{0x2001'0DB8'0000'0000, 9};
constexpr unsigned tcp_protocol = 6;

octets ipv6(const ip_address& from, const ip_address& to, const octets& payload,
            unsigned next = tcp_protocol) {
  octets o;
  put32(o, 6u << 28);
  put16(o, static_cast<unsigned>(payload.size()));
  o.push_back(static_cast<std::uint8_t>(next));
  o.push_back(64);
  for (const ip_address* a : {&from, &to}) {
    octets sixteen(16);
    store_ipv6(sixteen.data(), *a);
    o = o + sixteen;
  }
  return o + payload;
}

class TcpPackets : public testing::Test, public packet_sink {
 protected:
  std::unique_ptr<ring_port> device;
  std::unique_ptr<interface> interface_;
  std::unique_ptr<link> l;
  std::vector<packet_view> taken_views;
  std::uint64_t now = 1'000'000'000'000;

  void open(bool tcp) {
    close();
    device = std::make_unique<ring_port>();
    interface_config c = configuration();
    c.port_id = device->id();
    c.ipv6 = true;
    c.address6 = {own6, 64};
    c.tcp = tcp;
    auto opened = open_interface(c, {.pool = pool()});
    ASSERT_TRUE(opened) << opened.error().message;
    interface_ = std::move(*opened);
    link_options o;
    o.pool = pool();
    auto made = link::create(*interface_, o);
    ASSERT_TRUE(made) << made.error().message;
    l = std::move(*made);
  }
  void close() {
    l.reset();
    interface_.reset();
    device.reset();
  }
  void TearDown() override {
    close();
    EXPECT_TRUE(all_back());
  }
  void take(rte_mbuf* frame, const packet_view& view) noexcept override {
    taken_views.push_back(view);
    rte_pktmbuf_free(frame);
  }
  void arrive(const octets& packet, unsigned type) {
    std::array<datagram, 64> in;
    device->arrives(mbuf(ethernet(packet, type, interface_->device.mac())));
    EXPECT_EQ(l->receive(in, now), 0);
  }
  void arrive_both() {
    arrive(ipv4(octets(20), {.protocol = tcp_protocol}), 0x0800);
    arrive(ipv6(peer6, own6, octets(24)), 0x86DD);
  }
};

TEST_F(TcpPackets, PacketsOfBothFamiliesAreHandedToTheSink) {
  open(true);
  l->hand_tcp_to(this);
  arrive_both();
  ASSERT_EQ(taken_views.size(), 2u);
  EXPECT_EQ(taken_views[0].kind, packet_kind::tcp);
  EXPECT_EQ(taken_views[0].source.address, ip_address(peer));
  EXPECT_EQ(taken_views[0].ip_size, 20);
  EXPECT_EQ(taken_views[0].payload.size(), 20u);
  EXPECT_EQ(taken_views[1].kind, packet_kind::tcp);
  EXPECT_EQ(taken_views[1].source.address, peer6);
  EXPECT_EQ(taken_views[1].ip_size, 40);
  EXPECT_EQ(taken_views[1].payload.size(), 24u);
}

TEST_F(TcpPackets, WithoutASinkOrTcpTheyAreDropped) {
  open(true);
  arrive_both();
  EXPECT_EQ(l->drops()[drop_reason::ip_protocol], 2u);
  open(false);
  l->hand_tcp_to(this);
  arrive_both();
  EXPECT_TRUE(taken_views.empty());
  EXPECT_EQ(l->drops()[drop_reason::ip_protocol], 2u);
}

TEST_F(TcpPackets, APacketToAGroupIsNoTcp) {
  open(true);
  l->hand_tcp_to(this);
  arrive(ipv6(peer6, all_nodes, octets(24)), 0x86DD);
  EXPECT_TRUE(taken_views.empty());
  EXPECT_EQ(l->drops()[drop_reason::ip_protocol], 1u);
}

TEST_F(TcpPackets, APacketLeavesToItsNeighbourWithTheTypeOfItsFamily) {
  open(true);
  l->hand_tcp_to(this);
  arrive_both(); // the link learns both neighbours
  const octets four = ipv4(text("four"), {.from = own_address, .to = peer}),
               six = ipv6(own6, peer6, text("six"));
  l->send_packet(mbuf(four), peer, now);
  l->send_packet(mbuf(six), peer6, now);
  (void)l->pump(now);
  EXPECT_EQ(device->all_left(),
            (std::vector<octets>{ethernet(four, 0x0800, peer_mac, interface_->device.mac()),
                                 ethernet(six, 0x86DD, peer_mac, interface_->device.mac())}));
}

TEST_F(TcpPackets, AnUnknownNeighbourIsAskedForFromThePacketsOwnAddress) {
  open(true);
  l->send_packet(mbuf(ipv6(own6, peer6, text("six"))), peer6, now);
  (void)l->pump(now);
  const std::vector<octets> left = device->all_left();
  ASSERT_EQ(left.size(), 1u);
  EXPECT_EQ(left[0][14 + 40], nd_solicitation);
  EXPECT_EQ(load_ipv6(left[0].data() + 14 + 8), own6);
  EXPECT_EQ(load_ipv6(left[0].data() + 14 + 24), solicited_node(peer6));
}

} // namespace
} // namespace chainring::net_test
