// SPDX-License-Identifier: BSD-3-Clause
#include <net/if.h>

#include "forged.h"
#include "stream_fixture.h"

namespace chainring::stream {
namespace {

TEST_F(Tcp, AListenerAtOneAddressIsNotFoundAtAnother) {
  start(); // with own_port at all addresses
  ASSERT_TRUE(stack->listen(own_port + 1, net::parse_ipv4(own_text).value()));
  ASSERT_TRUE(stack->listen(own_port + 2, net::parse_ipv6(own_text6).value()));
  run([] {
    for (const std::uint16_t port : {own_port, std::uint16_t{own_port + 1}})
      EXPECT_TRUE(kernel_client().connect(port)) << port;
    EXPECT_FALSE(kernel_client().connect(own_port + 2));
    for (const std::uint16_t port : {own_port, std::uint16_t{own_port + 2}})
      EXPECT_TRUE(kernel_client(AF_INET6).connect6(own_text6, 0, port)) << port;
    EXPECT_FALSE(kernel_client(AF_INET6).connect6(own_text6, 0, own_port + 1));
  });
  EXPECT_EQ(stack->counters().accepted.value(), 4u);
}

TEST_F(Tcp, OverIpv6MegabytesGoBothWaysInFullSegments) {
  std::string all(2 << 20, ' ');
  for (std::size_t i = 0; i < all.size(); ++i)
    all[i] = static_cast<char>('a' + i % 23);
  run([&] {
    kernel_client c(AF_INET6);
    ASSERT_TRUE(c.connect6()) << std::strerror(errno);
    std::thread sender = client_thread([&] { EXPECT_TRUE(c.send(all)); });
    EXPECT_TRUE(c.receive(all.size()) == all);
    sender.join();
    c.finish();
    EXPECT_EQ(c.receive_end(), 0);
  });
  EXPECT_EQ(line.largest, 1500u);
  ASSERT_EQ(handler.gone.size(), 1u);
  EXPECT_EQ(handler.gone[0].from.address, net::parse_ipv6("2001:db8:7::2").value());
  EXPECT_FALSE(handler.gone[0].from.other_own);
}

TEST_F(Tcp, OverIpv6AClientReachesTheLinkLocalAddress) {
  const std::string own = net::to_string(net::link_local_of(interface->device.mac()));
  run([&] {
    kernel_client c(AF_INET6);
    ASSERT_TRUE(c.connect6(own, if_nametoindex("stream0"))) << std::strerror(errno);
    ASSERT_TRUE(c.send("near"));
    EXPECT_EQ(c.receive(4), "near");
  });
  ASSERT_TRUE(run_until([&] { return handler.gone.size() == 1; }));
  // In the first second of its link the kernel has no link-local address to connect from.
  const net::endpoint& from = handler.gone[0].from;
  EXPECT_EQ(from.other_own, !net::is_link_local(from.address));
}

TEST_F(Tcp, OverIpv6ClientsOfBothFamiliesAreServedSideBySide) {
  run([] {
    kernel_client six(AF_INET6), four;
    ASSERT_TRUE(six.connect6());
    ASSERT_TRUE(four.connect());
    ASSERT_TRUE(six.send("six"));
    ASSERT_TRUE(four.send("four"));
    EXPECT_EQ(four.receive(4), "four");
    EXPECT_EQ(six.receive(3), "six");
    four.reset();
    six.reset();
  });
  ASSERT_TRUE(run_until([&] { return stack->open() == 0; }));
}

TEST_F(Tcp, OverIpv6APortWithoutAListenerRefuses) {
  stack.reset();
  packets = std::make_unique<link_packets>(links, pool);
  auto made = tcp_stack::create(options, handler, *packets);
  ASSERT_TRUE(made);
  stack = std::move(*made);
  packets->attach(*stack);
  ASSERT_TRUE(packets->add_interfaces(*stack));
  run([] {
    kernel_client c(AF_INET6);
    EXPECT_FALSE(c.connect6());
    EXPECT_EQ(errno, ECONNREFUSED);
  });
}

TEST_F(Tcp, OverIpv6AFullLineIsAnsweredWithCookies) {
  options.half_open_max = 1;
  start();
  stack->input(make(pool, {}), 0, 0, true);
  run([] {
    kernel_client c(AF_INET6);
    ASSERT_TRUE(c.connect6());
    ASSERT_TRUE(c.send(std::string(5000, 'c')));
    EXPECT_EQ(c.receive(5000).size(), 5000u);
  });
  EXPECT_EQ(stack->counters().cookies_accepted.value(), 1u);
}

/// Makes a SYN over IPv6 behind so many headers of options, without a checksum.
rte_mbuf* syn_behind_options(rte_mempool* pool, unsigned headers, std::size_t cut = 0) {
  constexpr std::uint8_t tcp_next = IPPROTO_TCP, options_next = IPPROTO_DSTOPTS;
  rte_ipv6_hdr ip{};
  rte_tcp_hdr tcp{};
  const std::size_t size = sizeof ip + 8 * headers + sizeof tcp;
  std::string octets(size, '\1'); // PadN of one octet
  ip.vtc_flow = rte_cpu_to_be_32(6u << 28);
  ip.payload_len = rte_cpu_to_be_16(static_cast<std::uint16_t>(size - sizeof ip));
  ip.proto = headers == 0 ? tcp_next : options_next;
  net::store_ipv6(ip.src_addr, net::parse_ipv6("2001:db8:7::9").value());
  net::store_ipv6(ip.dst_addr, net::parse_ipv6(own_text6).value());
  std::memcpy(octets.data(), &ip, sizeof ip);
  for (unsigned i = 0; i < headers; ++i) {
    octets[sizeof ip + 8 * i] = i + 1 == headers ? tcp_next : options_next;
    octets[sizeof ip + 8 * i + 1] = 0;
  }
  tcp.src_port = rte_cpu_to_be_16(999);
  tcp.dst_port = rte_cpu_to_be_16(own_port);
  tcp.data_off = 5 << 4;
  tcp.tcp_flags = RTE_TCP_SYN_FLAG;
  std::memcpy(octets.data() + sizeof ip + 8 * headers, &tcp, sizeof tcp);
  rte_mbuf* const m = rte_pktmbuf_alloc(pool);
  std::memcpy(rte_pktmbuf_append(m, static_cast<std::uint16_t>(size - cut)), octets.data(),
              size - cut);
  return m;
}

TEST_F(Tcp, OverIpv6ASegmentIsFoundBehindExtensionHeaders) {
  stack->input(syn_behind_options(pool, 0), 0, 0, true);
  EXPECT_EQ(stack->open(), 1u);
  stack->input(syn_behind_options(pool, 3), 0, 0, true);
  EXPECT_EQ(stack->open(), 1u);
  EXPECT_EQ(stack->counters().malformed.value(), 0u);
  for (std::size_t cut = 1; cut < 40 + 24 + 20; ++cut)
    stack->input(syn_behind_options(pool, 3, cut), 0, 0, true);
  EXPECT_EQ(stack->counters().malformed.value(), 83u);
}

} // namespace
} // namespace chainring::stream
