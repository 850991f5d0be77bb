// SPDX-License-Identifier: BSD-3-Clause
// Prints what a link answers and builds in hexadecimal, for a script that knows the protocols:
//   arrive HEX              prints the frames that are sent because of this one, separated by
//   spaces,
//                           or "datagram HEX" with its payload, or "dropped REASON"
//   fragment HEX            is the same, with room for a whole datagram behind the frame
//   send ADDRESS PORT HEX   prints the frames in which this payload is sent
//   announce                prints what is announced at the start
//   later                   prints the frames that leave in the next minute
//   mac                     prints the port's MAC address
// Each line of input gets one line of output. With an argument the port belongs to that VLAN.
#include <iostream>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <sstream>

#include "frames.h"

using namespace chainring;
using namespace chainring::net;

namespace {

std::string hex(const net_test::octets& o) {
  std::string s;
  for (const std::uint8_t b : o) {
    s += "0123456789abcdef"[b >> 4];
    s += "0123456789abcdef"[b & 15];
  }
  return s;
}

net_test::octets unhex(const std::string& s) {
  net_test::octets o;
  for (std::size_t i = 0; i + 1 < s.size(); i += 2)
    o.push_back(static_cast<std::uint8_t>(std::stoul(s.substr(i, 2), nullptr, 16)));
  return o;
}

std::uint64_t now = 0;

std::string answer(const std::string& line, net::link& l, const net_test::ring_port& device) {
  std::istringstream in(line);
  std::string what, text;
  in >> what;
  std::array<datagram, 64> got;
  if (what == "mac") return hex(net_test::mac_octets(l.interface().device.mac()));
  if (what == "send") {
    std::string address;
    endpoint to;
    in >> address >> to.port >> text;
    to.address = address.find(':') == std::string::npos ? ip_address(parse_ipv4(address).value())
                                                        : parse_ipv6(address).value();
    const send_status status = l.send(net_test::mbuf(unhex(text)), to, 0, now);
    if (status != send_status::queued && status != send_status::held) return "not sent";
  } else if (what == "announce") {
    l.announce();
    now = rte_rdtsc();
  } else if (what == "later") {
    std::string all;
    for (int i = 0; i < 600; ++i, now += rte_get_tsc_hz() / 10) {
      (void)l.pump(now);
      for (const net_test::octets& o : device.all_left())
        all += (all.empty() ? "" : " ") + hex(o);
    }
    return all;
  } else if (what == "answer") { // the datagram is sent back to its sender
    in >> text;
    rte_mbuf* m = net_test::exact_mbuf(unhex(text));
    if (l.process(std::span(&m, 1), got, now) != 1) return "no datagram";
    const packet_view v = got[0].view;
    const net_test::octets o(reinterpret_cast<const std::uint8_t*>(v.payload.data()),
                             reinterpret_cast<const std::uint8_t*>(v.payload.data()) +
                                 v.payload.size());
    rte_pktmbuf_free(got[0].frame);
    const endpoint to = endpoint::from_key(v.source.key()); // as a front end keeps it
    if (l.send(net_test::mbuf(o), to, 0, now) != send_status::queued) return "not sent";
  } else if (what == "arrive" || what == "fragment") {
    in >> text;
    const std::uint64_t before = l.drops().total();
    std::array<std::uint64_t, drop_reason_count> counts{};
    for (std::size_t i = 0; i < counts.size(); ++i)
      counts[i] = l.drops()[static_cast<drop_reason>(i)];
    rte_mbuf* m =
        what == "arrive" ? net_test::exact_mbuf(unhex(text)) : net_test::mbuf(unhex(text));
    if (l.process(std::span(&m, 1), got, now) == 1) {
      const auto p = got[0].view.payload;
      net_test::octets o(p.size());
      if (!o.empty()) std::memcpy(o.data(), p.data(), o.size());
      rte_pktmbuf_free(got[0].frame);
      return "datagram " + hex(o);
    }
    for (std::size_t i = 0; i < counts.size() && l.drops().total() != before; ++i)
      if (l.drops()[static_cast<drop_reason>(i)] != counts[i])
        return std::string("dropped ") + to_string(static_cast<drop_reason>(i));
  } else {
    return "?";
  }
  (void)l.pump(now);
  std::string all;
  for (const net_test::octets& o : device.all_left())
    all += (all.empty() ? "" : " ") + hex(o);
  return all;
}

} // namespace

int main(int argc, char** argv) {
  const char* eal[] = {"net_frames", "--no-huge", "--no-pci", "--no-shconf",   "-m",
                       "64",         "-l",        "0",        "--no-telemetry"};
  if (rte_eal_init(sizeof eal / sizeof *eal, const_cast<char**>(eal)) < 0) return 2;
  int status = 0;
  {
    const net_test::ring_port device;
    interface_config c = net_test::configuration();
    c.port_id = device.id();
    c.ipv6 = true;
    c.address6 = parse_ipv6_prefix("2001:db8::1/64").value();
    c.multicast_group = parse_ipv4("225.1.1.1").value();
    c.multicast_group6 = parse_ipv6("ff02::101").value();
    c.datagram_max = 1900;
    if (argc > 1) c.vlan = static_cast<std::uint16_t>(std::stoul(argv[1]));
    now = rte_rdtsc();
    auto opened = open_interface(c, {.pool = net_test::pool()});
    if (!opened) return 2;
    link_options o;
    o.pool = net_test::pool();
    auto l = net::link::create(**opened, o);
    if (!l) return 2;
    std::string line;
    while (std::getline(std::cin, line))
      std::cout << answer(line, **l, device) << std::endl;
    l->reset();
    opened->reset();
    if (!net_test::all_back()) status = 1;
  }
  rte_eal_cleanup();
  return status;
}
