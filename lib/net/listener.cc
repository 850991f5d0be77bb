// SPDX-License-Identifier: BSD-3-Clause
// The listeners of the workers.
//
// Ordering labels:
//   [port-emptied]  The worker that reads a port stores emptied_at with release; pairs with
//     [emptied-before-ring].
//   [emptied-before-ring]  The home worker of a client loads emptied_at with acquire before it
//     reads its ring; pairs with [port-emptied].
#include "net/listener.h"

#include <mutex>
#include <rte_cycles.h>
#include <rte_lcore.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>

namespace chainring::net {

namespace {

constexpr std::uint16_t burst_size = 64;
/// A port is read only while its link has room for all frames that a burst may cause: an
/// acknowledgement and a delivery for each datagram, twice over.
constexpr std::uint32_t answers_per_burst = 4 * burst_size;
/// Some drivers learn of new frames by a signal, and return none before the signal has arrived.
/// Therefore a port counts as emptied only after it returned fewer frames than asked for twice,
/// with this time between.
constexpr std::uint64_t settle_ms = 2;
constexpr std::uint32_t arp_packets_max = 512; ///< neighbour_options::pending_packets
/// What the one link of an interface that receives holds back: reassembly_options::datagrams_max.
constexpr std::uint32_t fragments_waiting_max = 64 * fragments_max;

} // namespace

std::uint32_t listener_group::frames_needed(std::size_t interfaces, const listener_options& o,
                                            std::uint32_t cache_size) noexcept {
  const std::uint32_t handed = o.workers > 1 ? o.handed_capacity : 0;
  const std::uint32_t link = o.tx_capacity + o.descriptors + handed;
  const std::uint32_t interface =
      o.descriptors + arp_packets_max + fragments_waiting_max + o.workers * link;
  const std::uint32_t worker =
      2 * burst_size + cache_size + cache_size / 2 + datagram_transport::stock_max;
  return static_cast<std::uint32_t>(interfaces) * interface + (o.workers + 1) * worker;
}

result<std::unique_ptr<listener_group>>
listener_group::create(std::span<net::interface* const> interfaces, const listener_options& o) {
  if (o.workers == 0)
    return error{errc::invalid_argument, "listener: there are 0 workers; expected at least 1"};
  if (o.pool == nullptr) return error{errc::invalid_argument, "listener: a packet pool is missing"};
  static_assert(2 * answers_per_burst >= fragments_max); // the longest datagram has room
  if (o.tx_capacity < 2 * answers_per_burst)
    return error{errc::invalid_argument, "listener: transmit buffers of " +
                                             std::to_string(o.tx_capacity) +
                                             " packets are too small; expected at least " +
                                             std::to_string(2 * answers_per_burst)};
  const std::uint32_t needed = frames_needed(interfaces.size(), o, o.pool->cache_size);
  if (o.pool->size < needed)
    return error{errc::invalid_argument,
                 "the packet pool has " + std::to_string(o.pool->size) +
                     " buffers, and the packets that may wait at one time need " +
                     std::to_string(needed)};
  std::unique_ptr<listener_group> g(new listener_group);
  g->settle_tsc_ = rte_get_tsc_hz() / 1000 * settle_ms;
  for (net::interface* i : interfaces) {
    auto p = std::make_unique<port_state>();
    p->tx_queues = i->device.tx_queues();
    p->tx_locks = std::make_unique<spin_lock[]>(p->tx_queues);
    g->ports_.push_back(std::move(p));
  }
  static std::atomic<unsigned> groups{0};
  const std::string name = "chainring_handed_" + std::to_string(groups++) + "_";
  for (unsigned n = 0; n < o.workers; ++n) {
    std::unique_ptr<listener> w(new listener(*g, n));
    std::vector<link*> links;
    for (std::size_t id = 0; id < interfaces.size(); ++id) {
      link_options l;
      l.rx_queue = id % o.workers == n ? 0 : link::no_queue;
      l.tx_queue = static_cast<std::uint16_t>(n % g->ports_[id]->tx_queues);
      l.tx_capacity = o.tx_capacity;
      l.pool = o.pool;
      auto made = link::create(*interfaces[id], l);
      if (!made) return made.error();
      links.push_back(made->get());
      w->links_.push_back(std::move(*made));
      rte_ring* ring = nullptr;
      if (o.workers > 1) {
        ring = rte_ring_create_elem((name + std::to_string(n) + "_" + std::to_string(id)).c_str(),
                                    sizeof(received_datagram), o.handed_capacity,
                                    static_cast<int>(rte_socket_id()),
                                    RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
        if (ring == nullptr)
          return error{errc::no_space, "there is no memory for the rings between workers"};
      }
      w->handed_.push_back(ring);
    }
    w->burst_ = std::make_unique<received_datagram[]>(burst_size);
    w->short_since_.resize(interfaces.size());
    w->heard_until_.resize(interfaces.size());
    w->out_ = std::make_unique<datagram_transport>(std::move(links), o.pool, o.waiting_max);
    g->workers_.push_back(std::move(w));
  }
  return g;
}

listener_group::~listener_group() {
  for (auto& w : workers_) {
    for (rte_ring* ring : w->handed_) {
      received_datagram d{};
      while (ring != nullptr && rte_ring_dequeue_elem(ring, &d, sizeof d) == 0)
        rte_pktmbuf_free(d.frame);
      rte_ring_free(ring);
    }
    w->out_.reset();
  }
}

void listener::announce() noexcept {
  for (const auto& l : links_)
    if (l->receives()) l->announce();
}

std::uint64_t listener::heard_until(client_address from) const noexcept {
  const std::size_t id = endpoint::from_key(from).interface_id;
  return id < heard_until_.size() ? heard_until_[id] : 0;
}

bool listener::poll(datagram_sink& sink) noexcept {
  bool any = false;
  for (std::size_t id = 0; id < links_.size(); ++id) {
    // A link without room receives nothing, while the other links go on.
    if (links_[id]->tx().free() < answers_per_burst) continue;
    if (links_[id]->receives()) any |= read_port(id, sink);
    any |= take_handed(id, sink);
  }
  return any;
}

void listener::handle(std::uint16_t n, datagram_sink& sink) noexcept {
  const std::span burst(burst_.get(), n);
  sink.receive_burst(burst);
  out_->give_back(burst);
}

// Hands the datagrams of other workers' clients over, and handles the others. Where a datagram
// belongs may depend on an earlier one of its sender, such as a CONNECT, so that is handled before.
void listener::hand_over(std::size_t id, std::uint16_t n, datagram_sink& sink) noexcept {
  std::uint16_t mine = 0;
  std::uint64_t senders = 0; // one bit for each sender of a datagram that waits to be handled here
  for (std::uint16_t i = 0; i < n; ++i) {
    received_datagram& d = burst_[i];
    const auto& words = d.from.words;
    constexpr std::uint64_t golden = 0x9E37'79B9'7F4A'7C15;
    const std::uint64_t bit = std::uint64_t{1} << ((words[0] ^ words[1] ^ words[2]) * golden >> 58);
    if ((senders & bit) != 0) {
      handle(mine, sink);
      mine = 0;
      senders = 0;
    }
    const unsigned home = sink.home_of(d.from, d.payload());
    if (home == number_) {
      senders |= bit;
      burst_[mine++] = d;
    } else if (rte_ring_enqueue_elem(group_->workers_[home]->handed_[id], &d, sizeof d) == 0) {
      ++handed_over_;
    } else { // the loss counts as one on the network
      ++handed_dropped_;
      out_->give_back({&d, 1});
    }
  }
  if (mine != 0) handle(mine, sink);
}

bool listener::read_port(std::size_t id, datagram_sink& sink) noexcept {
  link& l = *links_[id];
  const std::uint64_t now = rte_rdtsc();
  const std::uint16_t n = l.receive(std::span(burst_.get(), burst_size), now);
  if (n != 0) group_->workers_.size() == 1 ? handle(n, sink) : hand_over(id, n, sink);
  if (!l.emptied()) {
    short_since_[id] = 0;
  } else if (short_since_[id] == 0) {
    short_since_[id] = now;
  } else if (now - short_since_[id] >= group_->settle_tsc_) {
    // [port-emptied] Without it the home worker could see this time before it sees datagrams that
    // were handed over earlier, and judge their sender silent.
    group_->ports_[id]->emptied_at.store(short_since_[id], std::memory_order_release);
    short_since_[id] = now;
  }
  return n != 0;
}

bool listener::take_handed(std::size_t id, datagram_sink& sink) noexcept {
  // [emptied-before-ring] Without it the ring could lack datagrams that were handed over before the
  // time in emptied_at.
  const std::uint64_t emptied = group_->ports_[id]->emptied_at.load(std::memory_order_acquire);
  unsigned n = 0;
  if (handed_[id] != nullptr && !links_[id]->receives())
    n = rte_ring_dequeue_burst_elem(handed_[id], burst_.get(), sizeof burst_[0], burst_size,
                                    nullptr);
  if (n != 0) handle(static_cast<std::uint16_t>(n), sink);
  if (n < burst_size) heard_until_[id] = emptied;
  return n != 0;
}

CHAINRING_STAGE bool listener::send(media& m, std::uint64_t now_tsc) noexcept {
  bool any = false;
  for (std::size_t id = 0; id < links_.size(); ++id) {
    listener_group::port_state& port = *group_->ports_[id];
    // ethdev allows one thread at a time on a transmit queue.
    const std::unique_lock guard(port.tx_locks[number_ % port.tx_queues], std::try_to_lock);
    if (!guard.owns_lock()) continue;
    any |= links_[id]->pump(m, now_tsc) != 0;
  }
  return any;
}

} // namespace chainring::net
