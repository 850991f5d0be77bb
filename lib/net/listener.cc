// SPDX-License-Identifier: BSD-3-Clause
// The listeners of the workers.
//
// Ordering labels:
//   [queue-emptied]  The reader of a receive queue stores when it was empty with release; pairs with
//     [emptied-before-ring].
//   [emptied-before-ring]  The home worker of a client loads that time with acquire before it reads
//     the ring of that reader; pairs with [queue-emptied].
#include "net/listener.h"

#include <algorithm>
#include <mutex>
#include <rte_cycles.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_prefetch.h>
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
/// What a link that receives holds back: reassembly_options::datagrams_max.
constexpr std::uint32_t fragments_waiting_max = 64 * fragments_max;

/// The size of each ring, where so many readers share the capacity of a home worker.
std::uint32_t handed_each(std::uint32_t capacity, unsigned readers) noexcept {
  return std::max(capacity / readers, std::min<std::uint32_t>(capacity, burst_size));
}

// The rings are no memory zones, of which EAL has few.
rte_ring* make_ring(std::uint32_t capacity) {
  const ssize_t bytes =
      rte_ring_get_memsize_elem(sizeof(received_datagram), rte_align32pow2(capacity + 1));
  auto* ring = static_cast<rte_ring*>(
      rte_zmalloc("chainring_handed", static_cast<std::size_t>(bytes), RTE_CACHE_LINE_SIZE));
  if (ring == nullptr) return nullptr;
  if (rte_ring_init(ring, "chainring_handed", capacity,
                    RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ) == 0)
    return ring;
  rte_free(ring);
  return nullptr;
}

} // namespace

std::uint32_t listener_group::frames_needed(std::size_t interfaces, const listener_options& o,
                                            std::uint32_t cache_size) noexcept {
  // Each worker may read a queue of each port.
  const std::uint32_t handed =
      o.workers > 1
          ? std::max(o.handed_capacity, o.workers * handed_each(o.handed_capacity, o.workers))
          : 0;
  const std::uint32_t link =
      o.tx_capacity + o.descriptors + handed + o.descriptors + fragments_waiting_max;
  const std::uint32_t interface = arp_packets_max + o.workers * link;
  const std::uint32_t worker =
      3 * burst_size + cache_size + cache_size / 2 + datagram_transport::stock_max;
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
  g->workers_count_ = o.workers;
  for (net::interface* i : interfaces) {
    auto p = std::make_unique<port_state>();
    p->tx_queues = i->device.tx_queues();
    if (p->tx_queues < o.workers) p->tx_locks = std::make_unique<spin_lock[]>(p->tx_queues);
    // A worker reads at most one queue of a port, so queues beyond the workers stay unread. A port
    // is opened with as many queues as there are workers at most.
    p->rx_queues = i->device.rx_queues();
    if (p->rx_queues > o.workers)
      return error{errc::invalid_argument, "listener: port " + std::to_string(i->device.id()) +
                                               " has " + std::to_string(p->rx_queues) +
                                               " receive queues; expected at most one for each of " +
                                               std::to_string(o.workers) + " workers"};
    p->queues = std::make_unique<emptied[]>(p->rx_queues);
    g->ports_.push_back(std::move(p));
  }
  g->rings_.resize(interfaces.size() * o.workers * o.workers);
  for (unsigned n = 0; n < o.workers; ++n) {
    std::unique_ptr<listener> w(new listener(*g, n));
    std::vector<link*> links;
    w->hearing_.resize(interfaces.size());
    for (std::size_t id = 0; id < interfaces.size(); ++id) {
      const port_state& port = *g->ports_[id];
      listener::hearing_state& hears = w->hearing_[id];
      link_options l;
      l.rx_queue = link::no_queue;
      l.tx_queue = static_cast<std::uint16_t>(n % port.tx_queues);
      l.tx_capacity = o.tx_capacity;
      l.pool = o.pool;
      for (std::uint16_t q = 0; q < port.rx_queues; ++q) {
        const unsigned reader = g->reader_of(id, q);
        if (reader == n) {
          l.rx_queue = q;
          hears.own_until = 0;
          continue;
        }
        rte_ring* ring = make_ring(handed_each(o.handed_capacity, port.rx_queues));
        if (ring == nullptr)
          return error{errc::no_space, "there is no memory for the rings between workers"};
        g->ring(id, reader, n) = ring;
        hears.sources.push_back({q, ring, 0});
      }
      auto made = link::create(*interfaces[id], l);
      if (!made) return made.error();
      links.push_back(made->get());
      w->links_.push_back(std::move(*made));
    }
    w->burst_ = std::make_unique<received_datagram[]>(burst_size);
    w->leaving_ = std::make_unique<received_datagram[]>(2 * burst_size);
    w->homes_ = std::make_unique<std::uint8_t[]>(burst_size);
    w->out_ = std::make_unique<datagram_transport>(std::move(links), o.pool, o.waiting_max);
    g->workers_.push_back(std::move(w));
  }
  return g;
}

listener_group::~listener_group() {
  for (rte_ring* ring : rings_) {
    received_datagram d{};
    while (ring != nullptr && rte_ring_dequeue_elem(ring, &d, sizeof d) == 0)
      rte_pktmbuf_free(d.frame);
    rte_free(ring);
  }
  for (auto& w : workers_)
    w->out_.reset();
}

void listener::announce() noexcept {
  for (const auto& l : links_)
    if (l->rx_queue() == 0) l->announce();
}

std::uint64_t listener::heard_until(client_address from) const noexcept {
  const std::size_t id = endpoint::from_key(from).interface_id;
  return id < hearing_.size() ? hearing_[id].heard_until : 0;
}

bool listener::poll(datagram_sink& sink) noexcept {
  bool any = false;
  for (std::size_t id = 0; id < links_.size(); ++id) {
    // A link without room receives nothing, while the other links go on. Where the room is for one
    // burst only, the own queue and the other readers have it in turns.
    hearing_state& h = hearing_[id];
    h.own_first = !h.own_first;
    for (const bool own : {h.own_first, !h.own_first}) {
      if (links_[id]->tx().free() < answers_per_burst) break;
      if (own && links_[id]->receives()) any |= read_port(id, sink);
      if (!own && !h.sources.empty()) any |= take_handed(id, sink);
    }
    h.heard_until = h.own_until;
    for (const source& s : h.sources)
      h.heard_until = std::min(h.heard_until, s.heard_until);
  }
  return any;
}

// Where a datagram belongs may depend on an earlier one of its sender, such as a CONNECT.
std::size_t datagram_sink::place(std::span<received_datagram> burst, std::uint8_t* homes) noexcept {
  sender_set before;
  std::size_t n = 0;
  for (received_datagram& d : burst) {
    if (before.may_have(d.from)) break;
    before.add(d.from);
    d.hint = received_datagram::no_hint;
    homes[n++] = static_cast<std::uint8_t>(home_of(d.from, d.payload()));
  }
  return n;
}

void listener::handle(std::span<received_datagram> burst, datagram_sink& sink) noexcept {
  sink.receive_burst(burst);
  out_->give_back(burst);
}

// Hands the datagrams of other workers' clients over, and handles the others.
void listener::hand_over(std::size_t id, std::uint16_t n, datagram_sink& sink) noexcept {
  for (std::span burst(burst_.get(), n); !burst.empty();) {
    const std::size_t placed = sink.place(burst, homes_.get());
    std::uint16_t mine = 0, leaving = 0;
    for (std::uint16_t i = 0; i < placed; ++i) {
      if (homes_[i] == number_) [[likely]] {
        if (mine != i) burst[mine] = burst[i];
        ++mine;
      } else {
        homes_[leaving] = homes_[i];
        leaving_[leaving++] = burst[i];
      }
    }
    if (leaving != 0) hand_to_homes(id, leaving);
    if (mine != 0) handle(burst.first(mine), sink);
    burst = burst.subspan(placed);
  }
}

// Enqueues the datagrams of one home after the other, so that each ring moves once.
void listener::hand_to_homes(std::size_t id, std::uint16_t n) noexcept {
  received_datagram* const of_home = leaving_.get() + burst_size;
  while (n != 0) {
    const std::uint8_t home = homes_[0];
    std::uint16_t count = 0, left = 0;
    for (std::uint16_t i = 0; i < n; ++i) {
      if (homes_[i] == home) {
        of_home[count++] = leaving_[i];
      } else {
        homes_[left] = homes_[i];
        leaving_[left++] = leaving_[i];
      }
    }
    n = left;
    const unsigned taken = rte_ring_enqueue_burst_elem(group_->ring(id, number_, home), of_home,
                                                       sizeof *of_home, count, nullptr);
    handed_over_ += taken;
    if (taken == count) continue;
    handed_dropped_ += count - taken; // the loss counts as one on the network
    out_->give_back(std::span(of_home + taken, count - taken));
  }
}

bool listener::read_port(std::size_t id, datagram_sink& sink) noexcept {
  link& l = *links_[id];
  hearing_state& h = hearing_[id];
  const std::uint64_t now = rte_rdtsc();
  const std::uint16_t n = l.receive(std::span(burst_.get(), burst_size), now);
  if (n != 0)
    group_->workers_count_ == 1 ? handle({burst_.get(), n}, sink) : hand_over(id, n, sink);
  // Frames are read in their order, so a full read in between takes nothing from what the two short
  // ones say.
  if (!l.emptied()) return n != 0;
  if (h.short_since == 0) {
    h.short_since = now;
  } else if (now - h.short_since >= group_->settle_tsc_) {
    h.own_until = h.short_since;
    // [queue-emptied] Without it the home worker could see this time before it sees datagrams that
    // were handed over earlier, and judge their sender silent.
    group_->ports_[id]->queues[l.rx_queue()].at.store(h.own_until, std::memory_order_release);
    h.short_since = now;
  }
  return n != 0;
}

// Takes at most a burst from all readers together. The readers have the first turn in turns.
bool listener::take_handed(std::size_t id, datagram_sink& sink) noexcept {
  hearing_state& h = hearing_[id];
  const std::size_t count = h.sources.size();
  unsigned n = 0;
  std::size_t at = h.next_source;
  if (++h.next_source == count) h.next_source = 0;
  for (std::size_t i = 0; i < count && n < burst_size; ++i) {
    source& s = h.sources[at];
    if (++at == count) at = 0;
    // [emptied-before-ring] Without it the ring could lack datagrams that were handed over before
    // this time.
    const std::uint64_t emptied =
        group_->ports_[id]->queues[s.queue].at.load(std::memory_order_acquire);
    const unsigned room = burst_size - n;
    const unsigned got =
        rte_ring_dequeue_burst_elem(s.ring, burst_.get() + n, sizeof burst_[0], room, nullptr);
    n += got;
    if (got < room) s.heard_until = emptied;
  }
  if (n == 0) return false;
  // Another worker's CPU has read and written these lines last.
  for (unsigned i = 0; i < n; ++i) {
    rte_prefetch0(burst_[i].frame);
    rte_prefetch0(burst_[i].payload().data());
  }
  handle({burst_.get(), n}, sink);
  return true;
}

CHAINRING_STAGE bool listener::send(media& m, std::uint64_t now_tsc) noexcept {
  bool any = false;
  for (std::size_t id = 0; id < links_.size(); ++id) {
    listener_group::port_state& port = *group_->ports_[id];
    std::unique_lock<spin_lock> guard;
    if (port.tx_locks != nullptr) { // ethdev allows one thread at a time on a transmit queue
      guard = std::unique_lock(port.tx_locks[number_ % port.tx_queues], std::try_to_lock);
      if (!guard.owns_lock()) continue;
    }
    any |= links_[id]->pump(m, now_tsc) != 0;
  }
  return any;
}

} // namespace chainring::net
