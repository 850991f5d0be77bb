// SPDX-License-Identifier: BSD-3-Clause
#include <rte_cycles.h>
#include <set>

#include "frames.h"

namespace chainring::net_test {
namespace {

constexpr rte_ether_addr moved_mac = {{0x02, 0, 0, 0, 0, 0x44}};

class Link : public testing::Test {
 protected:
  std::unique_ptr<ring_port> device;
  std::unique_ptr<interface> interface_;
  std::unique_ptr<link> l;
  marked_media media;
  std::array<datagram, 64> in;
  std::uint64_t now = 1'000'000'000'000;
  interface_config config = configuration();
  neighbour_options neighbour;
  link_options options;

  void open(unsigned tx_slots = 1024) {
    close();
    device = std::make_unique<ring_port>(tx_slots);
    config.port_id = device->id();
    auto opened = open_interface(config, {.pool = pool()}, neighbour);
    ASSERT_TRUE(opened) << opened.error().message;
    interface_ = std::move(*opened);
    options.pool = pool();
    auto made = link::create(*interface_, options);
    ASSERT_TRUE(made) << made.error().message;
    l = std::move(*made);
  }
  void close() {
    l.reset();
    interface_.reset();
    device.reset();
  }
  void SetUp() override { open(); }
  void TearDown() override {
    close();
    EXPECT_TRUE(all_back());
  }
  [[nodiscard]] rte_ether_addr mac() const { return interface_->device.mac(); }
  // The frame with the port's own MAC in place of the MAC that the tests use.
  [[nodiscard]] octets readdressed(octets o) const {
    const octets was = mac_octets(our_mac), is = mac_octets(mac());
    if (o.size() >= 6 && std::equal(was.begin(), was.end(), o.begin()))
      std::copy(is.begin(), is.end(), o.begin());
    return o;
  }
  std::uint16_t arrive(const octets& o) {
    device->arrives(mbuf(readdressed(o)));
    return l->receive(in, now);
  }
  void answered(std::size_t i, const char* payload, mark_t mark = 0) {
    const endpoint to = in[i].view.source;
    rte_pktmbuf_free(in[i].frame);
    EXPECT_EQ(l->send(mbuf(text(payload)), to, mark, now), send_status::queued);
  }
  std::vector<octets> sent() {
    (void)l->pump(media, now);
    return device->all_left();
  }
};

TEST_F(Link, AnAnswerLeavesToTheSenderOfItsDatagramOnceItsMarkIsDurable) {
  ASSERT_EQ(arrive(datagram_frame(text("question"))), 1);
  EXPECT_EQ(in[0].view.source, (endpoint{peer, peer_port, 0}));
  answered(0, "answer", 3);
  EXPECT_TRUE(sent().empty()); // the mark is not durable yet
  media.reached = 3;
  const std::vector<octets> f = sent();
  ASSERT_EQ(f.size(), 1u);
  EXPECT_EQ(
      f[0],
      ethernet(
          ipv4(udp(text("answer"),
                   {.from = own_address, .to = peer, .from_port = our_port, .to_port = peer_port}),
               {.from = own_address, .to = peer, .fragment = 0x4000, .ttl = 64, .id = 0}),
          0x0800, peer_mac, mac()));
  EXPECT_EQ(l->frames(), 1u);
  EXPECT_EQ(l->datagrams(), 1u);
  EXPECT_EQ(l->drops().total(), 0u);
}

TEST_F(Link, AnArpRequestIsAnsweredAndMakesItsSenderKnown) {
  EXPECT_EQ(arrive(arp_frame()), 0);
  std::vector<octets> f = sent();
  ASSERT_EQ(f.size(), 1u);
  EXPECT_EQ(
      f[0],
      ethernet(
          arp({.operation = 2, .sha = mac(), .sip = own_address, .tha = peer_mac, .tip = peer}),
          0x0806, peer_mac, mac()));
  EXPECT_EQ(l->send(mbuf(text("x")), {peer, 7, 0}, 0, now), send_status::queued);
  EXPECT_EQ(l->send(mbuf(text("x")), {peer + 1, 7, 0}, 0, now), send_status::held);
}

TEST_F(Link, AnAddressProbeIsAnsweredAndMakesNoEntry) {
  EXPECT_EQ(arrive(arp_frame({.sip = 0})), 0);
  EXPECT_EQ(sent().size(), 1u);
  EXPECT_EQ(interface_->arp->route(0, now).status, route_status::unreachable);
}

TEST_F(Link, AnArpRequestFromAnAddressOffTheLinkIsAnsweredAndMakesNoEntry) {
  constexpr std::uint32_t elsewhere = 0xCB007107; // 203.0.113.7
  EXPECT_EQ(arrive(arp_frame({.sip = elsewhere})), 0);
  EXPECT_EQ(sent().size(), 1u);
  EXPECT_EQ(interface_->arp->route(elsewhere, now).status, route_status::unreachable);
}

TEST_F(Link, APingIsAnswered) {
  EXPECT_EQ(arrive(echo_frame(text("data"))), 0);
  const std::vector<octets> f = sent();
  ASSERT_EQ(f.size(), 1u);
  EXPECT_EQ(f[0], ethernet(ipv4(echo(text("data"), 0), {.from = own_address,
                                                        .to = peer,
                                                        .protocol = 1,
                                                        .fragment = 0x4000,
                                                        .ttl = 64,
                                                        .id = 0}),
                           0x0800, peer_mac, mac()));
}

TEST_F(Link, IpIdentificationsCountUp) {
  for (unsigned i = 0; i < 4; ++i) {
    if (i % 2 == 0) {
      (void)arrive(echo_frame());
    } else {
      ASSERT_EQ(arrive(datagram_frame()), 1);
      answered(0, "x");
    }
    const std::vector<octets> f = sent();
    ASSERT_EQ(f.size(), 1u);
    EXPECT_EQ(get16(f[0], 18), i);
  }
}

TEST_F(Link, AnAnnouncementOfAKnownNeighbourUpdatesItsEntry) {
  EXPECT_EQ(arrive(arp_frame({.sip = peer, .tip = peer})), 0); // the neighbour is not known yet
  EXPECT_EQ(interface_->arp->route(peer, now).status, route_status::unresolved);
  (void)arrive(arp_frame());
  (void)sent();
  EXPECT_EQ(arrive(arp_frame({.sha = moved_mac, .sip = peer, .tip = peer})), 0);
  EXPECT_EQ(mac_octets(interface_->arp->route(peer, now).mac), mac_octets(moved_mac));
  EXPECT_EQ(l->drops()[drop_reason::arp_elsewhere], 2u);
}

TEST_F(Link, ADatagramWithTheAddressOfANeighbourDoesNotRedirectItsAnswers) {
  (void)arrive(arp_frame());
  (void)sent();
  octets forged = datagram_frame();
  std::ranges::copy(mac_octets(moved_mac), forged.begin() + 6);
  ASSERT_EQ(arrive(forged), 1);
  rte_pktmbuf_free(in[0].frame);
  octets ping = echo_frame();
  std::ranges::copy(mac_octets(moved_mac), ping.begin() + 6);
  (void)arrive(ping);
  EXPECT_EQ(mac_octets(interface_->arp->route(peer, now).mac), mac_octets(peer_mac));
}

TEST_F(Link, AClaimOfAnOwnAddressMakesNoEntry) {
  (void)arrive(arp_frame({.sip = own_address, .tip = own_address}));
  EXPECT_EQ(l->drops()[drop_reason::arp_conflict], 1u);
  EXPECT_EQ(interface_->arp->route(own_address, now).status, route_status::unresolved);
}

TEST_F(Link, PacketsThatWaitForAnAddressLeaveBeforeLaterPacketsToIt) {
  EXPECT_EQ(l->send(mbuf(text("first")), {peer, 7, 0}, 0, now), send_status::held);
  EXPECT_EQ(sent().size(), 1u); // this is the ARP request
  const octets reply =
      ethernet(arp({.operation = 2, .sip = peer, .tha = mac(), .tip = own_address}), 0x0806, mac());
  EXPECT_EQ(arrive(reply), 0);
  EXPECT_EQ(l->send(mbuf(text("later")), {peer, 7, 0}, 0, now), send_status::queued);
  const std::vector<octets> f = sent();
  ASSERT_EQ(f.size(), 2u);
  EXPECT_EQ(octets(f[0].begin() + 42, f[0].end()), text("first"));
  EXPECT_EQ(octets(f[1].begin() + 42, f[1].end()), text("later"));
}

TEST_F(Link, AnAttachedBufferGoesBackToItsOwner) {
  // The answer is made in the received frame, which may lie in memory of a driver or a region.
  const octets frames[] = {readdressed(arp_frame()), readdressed(echo_frame())};
  for (const octets& o : frames) {
    rte_mbuf* m = exact_mbuf(o);
    m->ol_flags |= RTE_MBUF_F_RX_RSS_HASH;
    ASSERT_EQ(l->process(std::span(&m, 1), in, now), 0);
    (void)l->pump(media, now);
    rte_mbuf* out = device->left();
    ASSERT_EQ(out, m);
    EXPECT_EQ(out->ol_flags, RTE_MBUF_F_EXTERNAL);
    rte_pktmbuf_free(out); // AddressSanitizer reports a buffer that is not freed
  }
}

TEST_F(Link, EachReasonToDropAPacketThatIsSentIsReached) {
  std::set<drop_reason> reached;
  auto note = [&](drop_reason r) {
    EXPECT_EQ(l->drops()[r], 1u) << to_string(r);
    EXPECT_EQ(l->drops().total(), 1u) << to_string(r);
    reached.insert(r);
  };
  EXPECT_EQ(l->send(mbuf(octets(1473)), {peer, 7, 0}, 0, now), send_status::dropped);
  note(drop_reason::datagram_too_long);

  open();
  EXPECT_EQ(l->send(exact_mbuf(text("x")), {peer, 7, 0}, 0, now), send_status::dropped);
  note(drop_reason::no_headroom);

  open();
  EXPECT_EQ(l->send(mbuf(text("x")), {0xCB007107, 7, 0}, 0, now), send_status::dropped);
  note(drop_reason::unreachable);

  neighbour = {.tsc_hz = 1000, .retries = 1, .packets_per_address = 1};
  open();
  EXPECT_EQ(l->send(mbuf(text("x")), {peer, 7, 0}, 0, now), send_status::held);
  EXPECT_EQ(l->send(mbuf(text("x")), {peer, 7, 0}, 0, now), send_status::dropped);
  note(drop_reason::pending_full);

  open();
  EXPECT_EQ(l->send(mbuf(text("x")), {peer, 7, 0}, 0, now), send_status::held);
  EXPECT_EQ(sent().size(), 1u);
  now += 250;
  EXPECT_TRUE(sent().empty());
  note(drop_reason::unresolved);

  options.tx_capacity = 2;
  open();
  (void)arrive(arp_frame());
  (void)arrive(arp_frame());
  (void)arrive(arp_frame());
  note(drop_reason::transmit_full);
  EXPECT_EQ(sent().size(), 2u);

  options.tx_capacity = 64;
  options.stall_ms = 1;
  open(2); // the device takes one packet
  ASSERT_EQ(rte_eth_dev_set_link_down(interface_->device.id()), 0);
  (void)arrive(arp_frame());
  (void)arrive(arp_frame());
  (void)l->pump(media, now);
  (void)l->pump(media, now);
  now += rte_get_tsc_hz();
  (void)l->pump(media, now);
  note(drop_reason::transmit_stalled);
  (void)l->pump(media, now);
  EXPECT_EQ(l->drops().total(), 1u); // it is counted once only

  rte_mempool* empty = rte_pktmbuf_pool_create("empty", 1, 0, 0, 256, SOCKET_ID_ANY);
  ASSERT_NE(empty, nullptr);
  rte_mbuf* only = rte_pktmbuf_alloc(empty);
  options = {};
  neighbour = {};
  open();
  options.pool = empty;
  l = std::move(link::create(*interface_, options)).value();
  EXPECT_EQ(l->send(mbuf(text("x")), {peer, 7, 0}, 0, now), send_status::held);
  EXPECT_TRUE(sent().empty());
  note(drop_reason::no_mbuf);
  rte_pktmbuf_free(only);
  close();
  rte_mempool_free(empty);

  for (auto i = static_cast<unsigned>(drop_reason::datagram_too_long); i < drop_reason_count; ++i)
    EXPECT_TRUE(reached.contains(static_cast<drop_reason>(i)))
        << to_string(static_cast<drop_reason>(i));
}

TEST_F(Link, AReceivedFrameThatIsDroppedIsCountedByItsReason) {
  (void)arrive(ethernet(ipv4(udp(text("x"), {.sum = udp_fields::wrong}))));
  EXPECT_EQ(l->drops()[drop_reason::udp_checksum], 1u);
  EXPECT_EQ(l->frames(), 1u);
  EXPECT_EQ(l->datagrams(), 0u);
  EXPECT_TRUE(sent().empty());
}

TEST_F(Link, AnEchoReplyLongerThanTheMtuIsNotSent) {
  config.mtu = 576;
  open();
  (void)arrive(echo_frame(octets(576 - 28)));
  EXPECT_EQ(sent().size(), 1u);
  (void)arrive(echo_frame(octets(576 - 27)));
  EXPECT_TRUE(sent().empty());
  EXPECT_EQ(l->drops()[drop_reason::datagram_too_long], 1u);
}

TEST_F(Link, AFullBufferLeavesTheFrameToTheCaller) {
  options.tx_capacity = 2;
  open();
  (void)arrive(arp_frame());
  EXPECT_EQ(l->send(mbuf(text("x")), {peer, 7, 0}, 1, now), send_status::queued);
  rte_mbuf* m = mbuf(text("y"));
  EXPECT_EQ(l->send(m, {peer, 7, 0}, 1, now), send_status::full);
  EXPECT_EQ(taken(m), text("y"));
}

TEST_F(Link, MutatedFramesInBurstsDoNoHarm) {
  std::mt19937_64 random(run_seed());
  const octets valid[] = {readdressed(datagram_frame()), readdressed(echo_frame()),
                          readdressed(arp_frame())};
  std::size_t frames = 0;
  for (int round = 0; round < 2000; ++round) {
    std::vector<rte_mbuf*> burst;
    for (std::uint64_t n = random() % 32; n-- > 0;) {
      octets o = valid[random() % 3];
      for (std::uint64_t k = random() % 4; k-- > 0 && !o.empty();) {
        if (random() % 4 == 0)
          o.resize(random() % (o.size() + 20));
        else
          o[random() % o.size()] = static_cast<std::uint8_t>(random());
      }
      burst.push_back(random() % 2 == 0 ? exact_mbuf(o)
                                        : segmented(o, {random() % (o.size() + 1)}));
    }
    frames += burst.size();
    const std::uint16_t n = l->process(burst, in, now);
    for (std::uint16_t i = 0; i < n; ++i) {
      const endpoint to = in[i].view.source;
      if (random() % 2 == 0)
        rte_pktmbuf_free(in[i].frame);
      else if (l->send(in[i].frame, to, 0, now) == send_status::full)
        rte_pktmbuf_free(in[i].frame);
    }
    now += rte_get_tsc_hz() / 50;
    (void)sent();
  }
  EXPECT_EQ(l->frames(), frames);
}

TEST_F(Link, AQueueOrPoolThatDoesNotExistIsRefusedByName) {
  link_options o;
  o.pool = pool();
  o.rx_queue = 1;
  EXPECT_NE(link::create(*interface_, o).error().message.find("receive queue 1"),
            std::string::npos);
  o.rx_queue = link::no_queue;
  o.tx_queue = 5;
  EXPECT_NE(link::create(*interface_, o).error().message.find("transmit queue 5"),
            std::string::npos);
  o.tx_queue = 0;
  o.pool = nullptr;
  EXPECT_NE(link::create(*interface_, o).error().message.find("pool"), std::string::npos);
  o.pool = pool();
  const auto transmit_only = std::move(link::create(*interface_, o)).value();
  EXPECT_EQ(transmit_only->receive(in, now), 0);
}

// --- ports ---------------------------------------------------------------------------------------

TEST(Port, AMulticastGroupIsReceivedByTheNarrowestMeansOfTheDevice) {
  ring_port device;
  interface_config c = configuration();
  c.port_id = device.id();
  {
    const port p = std::move(open_port(c, {.pool = pool()})).value();
    EXPECT_EQ(p.multicast(), multicast_reception::none);
  }
  ring_port other;
  c.port_id = other.id();
  c.multicast_group = group;
  const port p = std::move(open_port(c, {.pool = pool()})).value();
  EXPECT_EQ(p.multicast(), multicast_reception::all_groups); // a ring port has no filter
  EXPECT_EQ(rte_eth_allmulticast_get(other.id()), 1);
}

TEST(Port, ADeviceWithoutAMacGetsOne) {
  ring_port device;
  interface_config c = configuration();
  c.port_id = device.id();
  const port p = std::move(open_port(c, {.pool = pool()})).value();
  EXPECT_FALSE(rte_is_zero_ether_addr(&p.mac()));
  EXPECT_TRUE(rte_is_unicast_ether_addr(&p.mac()));
}

TEST(Port, EachFieldOutOfRangeIsRefusedByNameWithItsRange) {
  struct one {
    const char* name;
    void (*spoil)(interface_config&);
    const char* says;
  };
  using c = interface_config;
  const one cases[] = {
      {"no address", [](c& x) { x.address = {}; }, "address 0.0.0.0: expected"},
      {"network 0",
       [](c& x) {
         x.address = {7, 24};
       },
       "address 0.0.0.7: expected"},
      {"loopback",
       [](c& x) {
         x.address = {0x7F000001, 8};
       },
       "a unicast address"},
      {"group",
       [](c& x) {
         x.address = {group, 24};
       },
       "a unicast address"},
      {"prefix 33", [](c& x) { x.address.length = 33; }, "prefix length 33: expected 0 to 32"},
      {"network's", [](c& x) { x.address.address = 0xC0000200; }, "the address of a host"},
      {"broadcast", [](c& x) { x.address.address = 0xC00002FF; }, "the address of a host"},
      {"no addresses", [](c& x) { x.address_count = 0; }, "address_count 0: expected 1 to 254"},
      {"one too many", [](c& x) { x.address_count = 255; }, "address_count 255: expected 1 to 254"},
      {"into the broadcast address",
       [](c& x) {
         x.address = {0xC00002FA, 24};
         x.address_count = 6;
       },
       "address_count 6: expected 1 to 5"},
      {"round the end",
       [](c& x) {
         x.address.length = 0;
         x.address_count = 0xffffffff;
       },
       "address_count 4294967295: expected 1 to 536870399"},
      {"into loopback",
       [](c& x) {
         x.address = {0x7EFFFFFE, 0};
         x.address_count = 3;
       },
       "expected 1 to 2"},
      {"two of a /32",
       [](c& x) {
         x.address.length = 32;
         x.address_count = 2;
       },
       "expected 1 to 1"},
      {"gateway elsewhere", [](c& x) { x.gateway = 0xCB007107; }, "gateway 203.0.113.7: expected"},
      {"the gateway has an own address",
       [](c& x) {
         x.gateway = own_address + 1;
         x.address_count = 2;
       },
       "gateway 192.0.2.2"},
      {"gateway broadcast", [](c& x) { x.gateway = 0xC00002FF; }, "gateway 192.0.2.255"},
      {"gateway network", [](c& x) { x.gateway = 0xC0000200; }, "gateway 192.0.2.0"},
      {"port 0", [](c& x) { x.udp_port = 0; }, "udp_port 0: expected 1 to 65535"},
      {"no ports", [](c& x) { x.udp_port_count = 0; }, "udp_port_count 0: expected 1 to 55536"},
      {"ports past the end",
       [](c& x) {
         x.udp_port = 65535;
         x.udp_port_count = 2;
       },
       "udp_port_count 2: expected 1 to 1"},
      {"no group", [](c& x) { x.multicast_group = own_address; },
       "multicast_group 192.0.2.1: expected"},
      {"MTU 0", [](c& x) { x.mtu = 0; }, "mtu 0: expected 68 to 65535"},
      {"MTU 67", [](c& x) { x.mtu = 67; }, "mtu 67: expected 68 to 65535"},
  };
  for (const one& t : cases) {
    interface_config bad = configuration();
    t.spoil(bad);
    const auto valid = validate(bad);
    ASSERT_FALSE(valid) << t.name;
    EXPECT_NE(valid.error().message.find(t.says), std::string::npos)
        << t.name << ": " << valid.error().message;
    EXPECT_FALSE(open_port(bad, {.pool = pool()})) << t.name;
  }
}

TEST(Port, TheEdgesOfEachRangeAreAccepted) {
  using c = interface_config;
  void (*const set[])(c&) = {
      [](c&) {},
      [](c& x) { x.address_count = 254; },
      [](c& x) {
        x.address = {0xC00002FA, 24};
        x.address_count = 5;
      },
      [](c& x) {
        x.address = {own_address, 32};
      },
      [](c& x) {
        x.address = {0xC0000200, 31};
        x.address_count = 2;
      },
      [](c& x) {
        x.address = {0x7EFFFFFE, 0};
        x.address_count = 2;
      },
      [](c& x) {
        x.gateway = 0xC00002FE;
        x.address_count = 253;
      },
      [](c& x) {
        x.udp_port = 1;
        x.udp_port_count = 65535;
      },
      [](c& x) { x.multicast_group = group; },
      [](c& x) { x.mtu = 68; },
      [](c& x) { x.mtu = 65535; },
  };
  for (const auto& change : set) {
    interface_config good = configuration();
    change(good);
    const auto valid = validate(good);
    EXPECT_TRUE(valid) << valid.error().message;
  }
}

TEST(Port, AMissingPortOrPoolIsNamedInTheRefusal) {
  interface_config c = configuration();
  c.port_id = 31;
  EXPECT_NE(open_port(c, {.pool = pool()}).error().message.find("port 31"), std::string::npos);
  ring_port device;
  c.port_id = device.id();
  EXPECT_NE(open_port(c, {}).error().message.find("a packet pool is missing"), std::string::npos);
}

// The same frames come in twice: once in full, and once for a front end.
TEST_F(Link, ABurstForAFrontEndHoldsTheSameAsOneInFull) {
  std::mt19937_64 random(run_seed());
  constexpr std::uint32_t elsewhere = 0xCB007107; // 203.0.113.7
  const std::vector<octets> kinds = {
      datagram_frame(text("usual")),
      ethernet(ipv4(udp(text("far"), {.from = elsewhere}), {.from = elsewhere})),
      ethernet(ipv4(udp(text("options")), {.options = octets(4, 1)})),
      ethernet(ipv4(udp(text("all"), {.to = 0xffffffff}), {.to = 0xffffffff}), 0x0800, everybody),
      ethernet(ipv4(udp(text("sum"), {.sum = udp_fields::wrong}))),
      ethernet(ipv4(udp(text("loop"), {.from = 0x7f000001}), {.from = 0x7f000001})),
      ethernet(ipv4(udp(text("own"), {.from = own_address}), {.from = own_address})),
      ethernet(ipv4(udp(text("net"), {.from = 0xC0000200}), {.from = 0xC0000200})),
      ethernet(ipv4(udp(text("mac"))), 0x0800, our_mac, everybody),
      ethernet(ipv4(udp(text("mac"))), 0x0800, our_mac, rte_ether_addr{}),
      ethernet(ipv4(udp(text("moved"))), 0x0800, our_mac, moved_mac),
      ethernet(ipv4(udp(text("frag")), {.fragment = 0x2000})),
      echo_frame(),
      arp_frame(),
      octets(13),
  };
  std::vector<std::size_t> order;
  for (int i = 0; i < 1000; ++i)
    order.push_back(random() % 2 == 0 ? 0 : random() % kinds.size());
  const auto run = [&](auto&& receive) {
    std::string log;
    open();
    for (std::size_t i = 0; i < order.size();) {
      for (auto n = 1 + random() % 64; n != 0 && i < order.size(); --n, ++i)
        device->arrives(mbuf(readdressed(kinds[order[i]])));
      receive(log);
      (void)l->pump(now);
      for (const octets& o : device->all_left())
        log += "sent " + std::to_string(o.size()) + "\n";
    }
    for (unsigned why = 0; why < drop_reason_count; ++why)
      log += std::to_string(l->drops()[static_cast<drop_reason>(why)]) + " ";
    for (const std::uint32_t a : {peer, elsewhere, own_address, 0xC0000200u, 0x7f000001u}) {
      const route_result way = interface_->arp->route(a, now);
      log += std::to_string(static_cast<int>(way.status)) + " " +
             std::to_string(way.mac.addr_bytes[5]) + " ";
    }
    return log + std::to_string(l->frames()) + " " + std::to_string(l->datagrams());
  };
  const auto note = [](std::string& log, const client_address& from, bool to_group,
                       std::span<const std::byte> payload, rte_mbuf* frame) {
    log += to_string(endpoint::from_key(from)) + (to_group ? " to all: " : ": ") +
           std::string(reinterpret_cast<const char*>(payload.data()), payload.size()) + "\n";
    rte_pktmbuf_free(frame);
  };
  random.seed(1);
  const std::string full = run([&](std::string& log) {
    const std::uint16_t n = l->receive(in, now);
    for (const datagram& d : std::span(in).first(n))
      note(log, d.view.source.key(), d.view.to_group, d.view.payload, d.frame);
  });
  random.seed(1);
  const std::string for_front_end = run([&](std::string& log) {
    std::array<received_datagram, 64> burst;
    const std::uint16_t n = l->receive(burst, now);
    for (const received_datagram& d : std::span(burst).first(n)) {
      EXPECT_EQ(d.received_tsc, now);
      note(log, d.from, d.to_group, d.payload(), d.frame);
    }
  });
  EXPECT_EQ(full, for_front_end);
  EXPECT_NE(full.find("usual"), std::string::npos);
  EXPECT_NE(full.find("options"), std::string::npos);
}

TEST_F(Link, AReceivedDatagramConfirmsItsSenderInEachUnitOfTime) {
  std::array<received_datagram, 64> burst;
  const std::uint64_t unit = rte_get_tsc_hz();
  const std::uint64_t lifetime = neighbour.lifetime_s * unit;
  for (int i = 0; i < 5; ++i) {
    device->arrives(mbuf(readdressed(datagram_frame())));
    ASSERT_EQ(l->receive(burst, now), 1);
    rte_pktmbuf_free(burst[0].frame);
    EXPECT_EQ(interface_->arp->route(peer, now + lifetime / 2).status, route_status::resolved);
    now += lifetime / 2;
  }
}

} // namespace
} // namespace chainring::net_test
