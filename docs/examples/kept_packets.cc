// SPDX-License-Identifier: BSD-3-Clause
// This program keeps received packets in a region without a copy, and the next run sends them.
//   c++ -std=c++20 kept_packets.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out --no-huge -m 256 --no-pci --vdev=net_null0,size=1000 -- /var/tmp/packets
#include <chainring/chainring.h>
#include <cstdio>
#include <filesystem>
#include <rte_ethdev.h>

using namespace chainring;
constexpr std::uint32_t packets = 32;
int main(int argc, char** argv) {
  const int own = rte_eal_init(argc, argv);
  if (own < 0 || argc - own != 2) return 2; // usage: EAL arguments -- REGION
  region_options o;
  o.media.path = argv[own + 1];
  o.media.size = 16 << 20;
  o.block_size = 2048;                     // a data room is one block
  o.areas = {{"packets", packets * 8, 1}}; // each word names a packet, or is 0
  auto r = std::filesystem::exists(argv[own + 1]) ? region::open(o.media) : region::create(o);
  if (!r) return std::fprintf(stderr, "%s\n", r.error().message.c_str()), 1;
  media& m = (*r)->medium();
  const region_geometry& g = (*r)->geometry();
  auto store = block_store::create(m, g.block_offset, g.block_size, g.block_count).value();
  auto* words = reinterpret_cast<std::uint64_t*>((*r)->at((*r)->root("packets")->offset));
  recovery all;
  all.add(store->part());
  const auto repair = [&](recovery_context& c) {
    for (std::uint32_t n = 0; n < packets; ++n) {
      const chain_piece p = chain_piece::unpack(words[n]);
      if (valid(*store, p) && store->try_mark_live(chain_of(*store, p))) continue;
      m.store(&words[n], 0);
      c.flush_repair(&words[n], 8);
    }
  };
  all.add({.name = "packets",
           .persist_as_read = [&](auto& c) { c.medium().flush_read(words, packets * 8); },
           .repair = repair});
  if (!all.run(**r)) return 1;
  auto pool = receive_pool::create("received", *store, {.mbufs = 1023}).value();
  rte_mempool* empty = rte_pktmbuf_pool_create("empty", 1023, 0, 0, 128, SOCKET_ID_ANY);
  const rte_eth_conf conf{};
  if (empty == nullptr || rte_eth_dev_configure(0, 1, 1, &conf) != 0 ||
      rte_eth_rx_queue_setup(0, 0, 64, 0, nullptr, pool->mempool()) != 0 ||
      rte_eth_tx_queue_setup(0, 0, 64, 0, nullptr) != 0 || rte_eth_dev_start(0) != 0)
    return 1;
  auto links = attachments::create(*store, {.places = packets}).value();
  std::uint16_t out = 0, kept = 0;
  rte_mbuf* mbufs[packets];
  for (std::uint32_t n = 0; n < packets; ++n)
    if (words[n] != 0 && (mbufs[out] = rte_pktmbuf_alloc(empty)) != nullptr)
      if (links->attach(*mbufs[out], chain_piece::unpack(words[n]), n)) ++out;
  const std::uint16_t sent = rte_eth_tx_burst(0, 0, mbufs, out);
  rte_pktmbuf_free_bulk(mbufs + sent, out - sent);
  attached_piece ended[packets];
  for (std::uint32_t n = 0; n < out;) // until the port has freed them
    n += links->collect(std::span(ended).subspan(n));
  // They are forgotten durably, and only then are their blocks free.
  for (std::uint32_t n = 0; n < out; ++n)
    m.store_release(&words[ended[n].token], 0);
  m.flush(words, packets * 8);
  m.drain();
  for (std::uint32_t n = 0; n < out; ++n)
    store->release(chain_of(*store, ended[n].piece));
  // First the octets of the whole burst are durable, and then the words that name them.
  chain_piece pieces[packets];
  const std::uint16_t in = rte_eth_rx_burst(0, 0, mbufs, packets);
  for (; kept < in; flush(*store, pieces[kept++]))
    if (pool->take(*mbufs[kept], 0, mbufs[kept]->data_len, pieces[kept]) != take_status::taken)
      break;
  m.drain();
  for (std::uint32_t n = 0; n < kept; ++n)
    m.store_release(&words[n], pieces[n].pack());
  m.flush(words, packets * 8);
  m.drain();
  rte_pktmbuf_free_bulk(mbufs, in);
  if (!(*r)->wait((*r)->mark())) return 1; // What is printed from here on is durable.
  return std::printf("sent %u of former runs, kept %u\n", sent, kept) < 0 || rte_eth_dev_stop(0);
}
