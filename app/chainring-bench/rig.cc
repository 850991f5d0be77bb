// SPDX-License-Identifier: BSD-3-Clause
#include "rig.h"

#include <cstring>
#include <fstream>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>

#include "client_side.h"
#include "figures.h"
#include "net/build.h"
#include "region/region.h"

namespace chainring::bench {

namespace {

constexpr std::uint32_t own_address = 0x0a000001; // 10.0.0.1
constexpr std::uint32_t router = 0x0a000002;      // 10.0.0.2, behind which the clients are
constexpr std::size_t destination_at = 30, payload_at = 42;

} // namespace

double from_status(const char* name) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(name)) return std::stod(line.substr(std::strlen(name))) * 1024;
  return 0;
}

result<std::unique_ptr<rig>> rig::create(const rig_options& o) {
  std::unique_ptr<rig> w(new rig);
  w->pool_ = make_pool();
  if (w->pool_ == nullptr) return no_memory();
  broker_port_options po;
  po.pool = w->pool_.get();
  po.slots = o.port_slots;
  po.prefix = 24;
  po.router = router;
  po.tx_capacity = o.tx_capacity;
  if (auto opened = w->at_.open(po); !opened) return opened.error();

  std::unique_ptr<region> made;
  if (o.reopen) {
    media_options at;
    at.path = o.path;
    auto r = region::open(at);
    if (!r) return r.error();
    made = std::move(*r);
  } else {
    region_options ro;
    ro.block_size = o.block_size;
    ro.areas = broker::areas(o.layout, o.region_size, o.block_size);
    ro.media.path = o.path;
    ro.media.size = o.region_size;
    if (o.path.empty()) {
      std::unique_ptr<media> medium = memory_media(o.region_size, durability_class::emulated);
      use_hugepages(*medium);
      auto r = region::create_on(std::move(medium), ro);
      if (!r) return r.error();
      made = std::move(*r);
    } else {
      auto r = region::create(ro);
      if (!r) return r.error();
      made = std::move(*r);
    }
  }
  w->memory_before_ = anonymous_bytes();
  if (auto served = w->at_.serve(std::move(made), o.broker, o.gateway); !served)
    return served.error();
  return w;
}

bool rig::round() {
  const std::uint64_t begin = rte_rdtsc();
  const bool any = run_round(*at_.broker, *at_.gateway, at_.listeners->worker(0));
  round_tsc_ = rte_rdtsc() - begin;
  return any;
}

std::string rig::dropped() const {
  const net::drop_counters& drops = at_.listeners->worker(0).links()[0]->drops();
  const std::uint64_t in = drops.total(), out = at_.listeners->worker(0).out().dropped(),
                      answers = at_.gateway->counters().answers_dropped;
  if (in + out + answers == 0) return "";
  std::string reasons;
  for (std::size_t i = 1; i < net::drop_reason_count; ++i)
    if (const auto reason = static_cast<net::drop_reason>(i); drops[reason] != 0)
      reasons += std::string(reasons.empty() ? " (" : ", ") + net::to_string(reason);
  if (!reasons.empty()) reasons += ")";
  return "the listener dropped " + std::to_string(in) + " packets" + reasons + ", refused " +
         std::to_string(out) + " datagrams for want of credit, and the gateway dropped " +
         std::to_string(answers) + " answers";
}

crowd::crowd(rig& r) : rig_(r), pool_(r.pool()), mac_(r.mac()) {
  out_.reserve(frames_max);
  // The router asks for the worker, so that the worker knows the router before its first answer.
  rte_mbuf* m = rte_pktmbuf_alloc(pool_);
  static constexpr rte_ether_addr everybody = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
  const net::transmit_config from{.mac = client_mac};
  if (m != nullptr && net::build_arp_request(m, from, router, own_address, everybody)) queue(m);
}

template <class Encode> void crowd::send(std::uint32_t n, Encode&& encode) {
  rte_mbuf* m = rte_pktmbuf_alloc(pool_);
  if (m == nullptr) {
    ++lost_;
    return;
  }
  const std::size_t size = encode(std::span<std::byte>(rte_pktmbuf_mtod(m, std::byte*), 512));
  rte_pktmbuf_append(m, static_cast<std::uint16_t>(size));
  const net::transmit_config from{.mac = client_mac};
  if (net::build_udp(m, from, mac_, {first_address + n, client_port, 0}, rig::address) !=
      net::drop_reason::none) {
    rte_pktmbuf_free(m);
    ++lost_;
    return;
  }
  queue(m);
}

void crowd::say(std::uint32_t n, const mqttsn::message_body& body) {
  send(n, [&](std::span<std::byte> to) { return mqttsn::encode(to, body); });
}

void crowd::send_octets(std::uint32_t n, std::span<const std::byte> octets) {
  send(n, [&](std::span<std::byte> to) {
    std::memcpy(to.data(), octets.data(), octets.size());
    return octets.size();
  });
}

void crowd::queue(rte_mbuf* m) {
  out_.push_back(m);
  if (out_.size() == frames_max) flush();
}

std::uint32_t crowd::flush() {
  const auto n = static_cast<unsigned>(out_.size());
  const unsigned sent =
      n == 0 ? 0
             : rte_ring_enqueue_burst(rig_.port().in, reinterpret_cast<void**>(out_.data()), n,
                                      nullptr);
  if (sent != n) rte_pktmbuf_free_bulk(out_.data() + sent, n - sent);
  lost_ += n - sent;
  out_.clear();
  return n - sent;
}

void crowd::drop() {
  if (!out_.empty()) rte_pktmbuf_free_bulk(out_.data(), static_cast<unsigned>(out_.size()));
  out_.clear();
}

crowd::kind crowd::take(const rte_mbuf* m, std::uint32_t& client, mqttsn::message& out) {
  const auto* at = rte_pktmbuf_mtod(m, const std::byte*);
  rte_be16_t type;
  std::memcpy(&type, at + offsetof(rte_ether_hdr, ether_type), sizeof type);
  rte_be32_t to;
  if (type == rte_cpu_to_be_16(RTE_ETHER_TYPE_ARP)) {
    rte_arp_hdr arp;
    if (m->data_len < sizeof(rte_ether_hdr) + sizeof arp) return kind::other;
    std::memcpy(&arp, at + sizeof(rte_ether_hdr), sizeof arp);
    return arp.arp_opcode == rte_cpu_to_be_16(RTE_ARP_OP_REQUEST) &&
                   arp.arp_data.arp_tip == rte_cpu_to_be_32(router)
               ? kind::arp
               : kind::other;
  }
  if (m->data_len < payload_at) return kind::other;
  std::memcpy(&to, at + destination_at, sizeof to);
  client = rte_be_to_cpu_32(to) - first_address;
  const bool whole =
      client < 1u << 24 &&
      mqttsn::decode({at + payload_at, m->data_len - payload_at}, out) == mqttsn::decode_status::ok;
  return whole ? kind::datagram : kind::other;
}

void crowd::answer_arp(const rte_mbuf* m) {
  arp_frame f = arp_frame::of(m);
  f.answer();
  rte_mbuf* answer = rte_pktmbuf_alloc(pool_);
  if (answer == nullptr) {
    ++lost_;
    return;
  }
  std::memcpy(rte_pktmbuf_append(answer, sizeof f), &f, sizeof f);
  queue(answer);
}

} // namespace chainring::bench
