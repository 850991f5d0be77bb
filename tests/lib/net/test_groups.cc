// SPDX-License-Identifier: BSD-3-Clause
// Multicast groups: joining, reporting, receiving and sending.
#include <rte_cycles.h>

#include "frames.h"

namespace chainring::net_test {
namespace {

constexpr rte_ether_addr ipv4_group_mac = {{0x01, 0x00, 0x5e, 0x00, 0x01, 0x07}};
constexpr std::uint32_t every_host = 0xE0000001;
const octets router_alert = {0x94, 4, 0, 0};

octets igmp(unsigned type, std::uint32_t asked, unsigned tenths = 0, bool bad_checksum = false) {
  octets o = {static_cast<std::uint8_t>(type), static_cast<std::uint8_t>(tenths), 0, 0};
  put32(o, asked);
  set16(o, 2, checksum(o) ^ (bad_checksum ? 1u : 0u));
  return o;
}
octets igmp_query_frame(std::uint32_t asked, std::uint32_t from = peer, unsigned tenths = 100) {
  const std::uint32_t to = asked == 0 ? every_host : asked;
  return ethernet(ipv4(igmp(0x11, asked, tenths),
                       {.from = from, .to = to, .protocol = 2, .ttl = 1, .options = router_alert}),
                  0x0800, group_mac(to));
}

class Groups : public testing::Test {
 protected:
  std::unique_ptr<ring_port> device;
  std::unique_ptr<interface> on;
  std::unique_ptr<link> l;
  std::array<datagram, 64> in;
  std::uint64_t now = rte_rdtsc();
  interface_config config = configuration();

  void SetUp() override {
    config.multicast_group = group;
    device = std::make_unique<ring_port>();
    config.port_id = device->id();
    auto opened = open_interface(config, {.pool = pool()});
    ASSERT_TRUE(opened) << opened.error().message;
    on = std::move(*opened);
    link_options o;
    o.pool = pool();
    auto made = link::create(*on, o);
    ASSERT_TRUE(made) << made.error().message;
    l = std::move(*made);
  }
  void TearDown() override {
    l.reset();
    on.reset();
    device.reset();
    EXPECT_TRUE(all_back());
  }
  std::uint16_t arrive(const octets& o) {
    rte_mbuf* m = mbuf(o);
    const std::uint16_t n = l->process(std::span(&m, 1), in, now);
    for (std::uint16_t i = 0; i < n; ++i)
      rte_pktmbuf_free(in[i].frame);
    return n;
  }
  std::vector<octets> sent_after(double seconds) {
    now += static_cast<std::uint64_t>(seconds * static_cast<double>(rte_get_tsc_hz()));
    (void)l->pump(now);
    return device->all_left();
  }
  /// The report as the standard has it, made without the library.
  [[nodiscard]] octets report() const {
    return ethernet(ipv4(igmp(0x16, group), {.from = own_address,
                                             .to = group,
                                             .protocol = 2,
                                             .fragment = 0,
                                             .ttl = 1,
                                             .id = 0,
                                             .options = router_alert}),
                    0x0800, ipv4_group_mac, on->device.mac());
  }
};

TEST_F(Groups, AMembershipIsReportedTwiceAtTheStart) {
  l->announce();
  now = rte_rdtsc();
  std::vector<octets> f = sent_after(0);
  ASSERT_EQ(f.size(), 2u); // the gratuitous ARP comes first
  EXPECT_EQ(f[1], report());
  EXPECT_EQ(sent_after(9), std::vector<octets>{});
  EXPECT_EQ(sent_after(1.1), std::vector<octets>{report()});
  EXPECT_EQ(sent_after(3600), std::vector<octets>{});
}

TEST_F(Groups, AQueryIsAnsweredOnceWithinItsTime) {
  for (const auto& [asked, from] : {std::pair{0u, peer}, {group, peer}, {0u, 0u}}) {
    EXPECT_EQ(arrive(igmp_query_frame(asked, from)), 0);
    EXPECT_EQ(arrive(igmp_query_frame(asked, from)), 0);
    unsigned reports = 0;
    for (int i = 0; i < 110; ++i)
      for (const octets& f : sent_after(0.1)) {
        EXPECT_EQ(f, report());
        ++reports;
      }
    EXPECT_EQ(reports, 1u) << asked << " from " << from;
  }
  EXPECT_EQ(l->drops().total(), 0u);
}

TEST_F(Groups, AFloodOfQueriesCausesAtMostTenReportsASecond) {
  unsigned reports = 0;
  for (int i = 0; i < 10'000; ++i) {
    arrive(igmp_query_frame(0, peer, 1));
    reports += static_cast<unsigned>(sent_after(0.001).size());
  }
  EXPECT_GT(reports, 10u);
  EXPECT_LE(reports, 100u);
}

TEST_F(Groups, IgmpThatIsNoQueryForThePortIsCounted) {
  const auto to = [](std::uint32_t address, const octets& message, unsigned ttl = 1) {
    return ethernet(ipv4(message, {.to = address, .protocol = 2, .ttl = ttl}), 0x0800,
                    group_mac(address));
  };
  // The last two may come from a host that is not on the link.
  const octets cases[] = {
      to(group, igmp(0x16, group)),       to(group, igmp(0x11, group, 10, true)),
      to(group, igmp(0x11, own_address)), to(group, {0x11, 0, 0, 0}),
      to(group, igmp(0x11, group), 2),    to(every_host, igmp(0x11, 0, 10), 255)};
  for (const octets& frame : cases)
    EXPECT_EQ(arrive(frame), 0);
  EXPECT_EQ(l->drops()[drop_reason::igmp_other], std::size(cases));
  // A query that is not sent to a group.
  arrive(ethernet(ipv4(igmp(0x11, 0), {.protocol = 2}), 0x0800, on->device.mac()));
  EXPECT_EQ(l->drops()[drop_reason::ip_protocol], 1u);
  arrive(igmp_query_frame(group + 1)); // a query for a group that the port has not joined
  EXPECT_EQ(l->drops()[drop_reason::ip_destination], 1u);
  EXPECT_EQ(sent_after(60), std::vector<octets>{});
}

TEST_F(Groups, ADatagramForTheGroupSaysSo) {
  const octets d = ipv4(udp(text("x"), {.to = group}), {.to = group});
  ASSERT_EQ(arrive(ethernet(d, 0x0800, ipv4_group_mac)), 1);
  EXPECT_TRUE(in[0].view.to_group);
  EXPECT_EQ(in[0].view.destination, group);
  ASSERT_EQ(arrive(ethernet(ipv4(udp(text("x"))), 0x0800, on->device.mac())), 1);
  EXPECT_FALSE(in[0].view.to_group);
}

TEST_F(Groups, ADatagramToAGroupLeavesAtOnceToTheMacOfTheGroupWithTtlOne) {
  EXPECT_EQ(l->send(mbuf(text("hello")), {group, 1884, 0}, 0, now), send_status::queued);
  const std::vector<octets> f = sent_after(0);
  ASSERT_EQ(f.size(), 1u);
  EXPECT_EQ(
      f[0],
      ethernet(ipv4(udp(text("hello"),
                        {.from = own_address, .to = group, .from_port = our_port, .to_port = 1884}),
                    {.from = own_address, .to = group, .fragment = 0x4000, .ttl = 1, .id = 0}),
               0x0800, ipv4_group_mac, on->device.mac()));
}

} // namespace
} // namespace chainring::net_test
