// SPDX-License-Identifier: BSD-3-Clause
// Edges:
//   [A1] acquire of stopping_ in loop()      <- [A2] release in stop()
//   [A3] acquire of a transmit queue's lock  <- [A4] release of it
#include "service.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

namespace chainring::app {

namespace {

/// A datagram on its way to its session's home.
struct handed_datagram {
  rte_mbuf* frame;
  client_address from;
  const std::byte* payload;
  std::uint64_t size;
};
static_assert(sizeof(handed_datagram) == 32);

constexpr std::uint16_t burst_size = 64;
constexpr std::uint32_t answers_per_burst =
    4 * burst_size; // an ack and a delivery each, twice over

// Statistics: nothing is ordered by them.
void bump(std::atomic<std::uint64_t>& counter, std::uint64_t n = 1) noexcept {
  counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

} // namespace

result<std::unique_ptr<service>> service::create(const options& o) {
  std::unique_ptr<service> s(new service(o));
  if (auto ports = s->open_ports(); !ports) return ports.error();
  if (auto opened = s->open_region(); !opened) return opened.error();
  const std::uint32_t waiting_max = 65536;
  for (auto& w : s->workers_) {
    std::vector<net::link*> links;
    for (auto& l : w->links)
      links.push_back(l.get());
    w->out = std::make_unique<packet_transport>(links, s->pool_, waiting_max);
    s->broker_->worker(w->number).attach(*w->out);
  }
  return s;
}

service::~service() {
  stop();
  if (started_) rte_eal_mp_wait_lcore();
  broker_.reset();
  for (auto& w : workers_) {
    handed_datagram d{};
    while (w->handed != nullptr && rte_ring_dequeue_elem(w->handed, &d, sizeof d) == 0)
      rte_pktmbuf_free(d.frame);
    rte_ring_free(w->handed);
    w->out.reset();
    w->links.clear();
  }
  interfaces_.clear();
}

result<void> service::open_region() {
  media_options m;
  m.path = options_.region;
  m.size = options_.size;
  m.journal_size = options_.journal_size;
  m.emulated = options_.durability == "emulated";
  if (options_.durability == "file") m.driver = "file";
  if (options_.durability == "power") m.driver = "dax";
  if (options_.durability == "process") m.driver = "hugetlb";
  struct stat st {};
  const bool exists = stat(m.path.c_str(), &st) == 0 && (st.st_size > 0 || !S_ISREG(st.st_mode));
  result<std::unique_ptr<region>> on = error{};
  if (exists) {
    on = region::open(m);
  } else {
    if (m.size == 0) m.size = 256u << 20;
    region_options r;
    r.media = m;
    r.block_size = options_.block_size;
    r.areas = broker::areas(options_.tables, m.size, options_.block_size);
    CHAINRING_LOG(INFO, region, "creating %s, %" PRIu64 " MiB", m.path.c_str(), m.size >> 20);
    on = region::create(r);
  }
  if (!on) return on.error();
  for (const std::string& note : (*on)->notes())
    CHAINRING_LOG(WARNING, region, "%s", note.c_str());
  broker_config config = options_.broker;
  config.workers = static_cast<unsigned>(workers_.size());
  for (const auto& i : interfaces_)
    config.datagram_size_max = std::min(config.datagram_size_max, i->payload_max());
  const std::uint64_t hz = rte_get_tsc_hz();
  std::uint64_t last = rte_rdtsc();
  auto opened = broker::open(
      std::move(*on), config, [&](const std::string& what, std::uint64_t done, std::uint64_t of) {
        if (rte_rdtsc() - last < hz) return; // quick opens say nothing
        last = rte_rdtsc();
        CHAINRING_LOG(INFO, region, "recovering: %s, %" PRIu64 " of %" PRIu64, what.c_str(), done,
                      of);
      });
  if (!opened) return opened.error();
  broker_ = std::move(*opened);
  const open_summary& s = broker_->opened();
  for (const std::string& note : s.notes)
    CHAINRING_LOG(WARNING, region, "%s", note.c_str());
  CHAINRING_LOG(NOTICE, region,
                "region %s: class %s, %" PRIu64 " messages, %" PRIu64 " sessions, %" PRIu64
                " queues, %.3f seconds",
                options_.region.c_str(), to_string(s.durability), s.messages, s.sessions, s.queues,
                s.seconds);
  return {};
}

result<void> service::open_ports() {
  unsigned lcore = 0;
  RTE_LCORE_FOREACH_WORKER(lcore) {
    auto w = std::make_unique<worker_context>();
    w->number = static_cast<unsigned>(workers_.size());
    w->lcore = lcore;
    workers_.push_back(std::move(w));
  }
  const auto workers = static_cast<std::uint16_t>(workers_.size());
  if (workers == 0)
    return error{errc::invalid_argument,
                 "lcores: the broker needs a worker lcore besides the main one; start it with "
                 "-l 0,1, or on one CPU with --lcores '0@0,1@0'"};
  if (workers > 64)
    return error{errc::invalid_argument, "lcores: expected at most 64 worker lcores"};
  const std::uint16_t ports = rte_eth_dev_count_avail();
  if (ports == 0)
    return error{errc::not_found,
                 "ports: EAL found none; give it one, as --vdev=net_tap0,iface=tap0, "
                 "or bind a NIC to a DPDK driver"};
  if (ports != options_.addresses.size())
    return error{errc::invalid_argument, "--address: there are " + std::to_string(ports) +
                                             " ports and " +
                                             std::to_string(options_.addresses.size()) +
                                             " addresses; give one for each port"};
  const std::uint16_t room = static_cast<std::uint16_t>(
      std::max<unsigned>(RTE_MBUF_DEFAULT_BUF_SIZE, options_.mtu + 64u + RTE_PKTMBUF_HEADROOM));
  const unsigned count = 4096u * ports + 8192u * workers - 1;
  pool_ = rte_pktmbuf_pool_create("chainring_packets", count, 256, 0, room,
                                  static_cast<int>(rte_socket_id()));
  if (pool_ == nullptr)
    return error{errc::no_space, "packet buffers: no memory for " + std::to_string(count) +
                                     " of them; give EAL more (-m 512)"};
  std::uint16_t port = 0, id = 0;
  RTE_ETH_FOREACH_DEV(port) {
    net::interface_config c;
    c.port_id = port;
    c.interface_id = id;
    c.address = options_.addresses[id];
    c.gateway = id < options_.gateways.size() ? options_.gateways[id] : 0;
    c.udp_port = options_.udp_port;
    c.mtu = options_.mtu;
    c.partial_checksums = options_.partial_checksums;
    net::port_options p;
    p.pool = pool_;
    p.tx_queues = workers;
    auto opened = net::open_interface(c, p);
    if (!opened) return opened.error();
    net::interface& on = **opened;
    CHAINRING_LOG(INFO, port, "port %u (%s, %s): %s, %u receive and %u transmit queues, link %s",
                  port, on.device.name().c_str(), on.device.driver().c_str(),
                  (net::format_ipv4(c.address.address) + ":" + std::to_string(c.udp_port)).c_str(),
                  on.device.rx_queues(), on.device.tx_queues(),
                  on.device.link_up() ? "up" : "down");
    tx_locks_.push_back(std::make_unique<queue_lock[]>(on.device.tx_queues()));
    tx_queue_of_.emplace_back();
    for (auto& w : workers_) {
      net::link_options l;
      // One worker polls a port's receive queue, and hands over what is others'.
      const bool polls = id % workers == w->number;
      l.rx_queue = polls ? 0 : net::link::no_queue;
      l.tx_queue = static_cast<std::uint16_t>(w->number % on.device.tx_queues());
      l.tx_capacity = 16384;
      l.pool = pool_;
      auto link = net::link::create(on, l);
      if (!link) return link.error();
      if (polls) w->polled.push_back(link->get());
      w->links.push_back(std::move(*link));
      tx_queue_of_.back().push_back(l.tx_queue);
    }
    interfaces_.push_back(std::move(*opened));
    ++id;
  }
  for (auto& w : workers_) {
    const std::string name = "chainring_handed_" + std::to_string(w->number);
    w->handed =
        rte_ring_create_elem(name.c_str(), sizeof(handed_datagram), 4096,
                             static_cast<int>(rte_socket_id()), RING_F_MP_HTS_ENQ | RING_F_SC_DEQ);
    if (w->handed == nullptr) return error{errc::no_space, "hand-over rings: no memory"};
  }
  return {};
}

result<void> service::start() {
  for (auto& w : workers_)
    for (net::link* l : w->polled)
      l->announce();
  arguments_.clear();
  arguments_.reserve(workers_.size());
  for (auto& w : workers_) {
    arguments_.push_back({this, w.get()});
    if (rte_eal_remote_launch(run, &arguments_.back(), w->lcore) != 0)
      return error{errc::busy, "lcore " + std::to_string(w->lcore) + " cannot be started"};
    started_ = true;
  }
  return {};
}

void service::stop() noexcept {
  stopping_.store(true, std::memory_order_release); // [A2] pairs with [A1]
}

result<void> service::finish() {
  // A worker that came upon lost memory may have stopped for good: nobody can wait for it.
  for (int tries = 0; broker_->region().medium().lost_at() != UINT64_MAX && tries < 100; ++tries) {
    const bool running = std::ranges::any_of(
        workers_, [](const auto& w) { return rte_eal_get_lcore_state(w->lcore) == RUNNING; });
    if (!running) break;
    rte_delay_us_sleep(10'000);
    if (tries < 99) continue;
    std::fprintf(stderr, "dpdk-chainring: %s\n", broker_->region().why_failed().c_str());
    std::fflush(nullptr);
    _exit(1);
  }
  rte_eal_mp_wait_lcore();
  started_ = false;
  return broker_->close();
}

int service::run(void* context) {
  auto* argument = static_cast<start_argument*>(context);
  argument->self->loop(*argument->worker);
  return 0;
}

void service::loop(worker_context& w) noexcept {
  broker_worker& mine = broker_->worker(w.number);
  region& on = broker_->region();
  idle_policy idle(options_.idle);
  std::array<net::datagram, burst_size> in;
  std::array<handed_datagram, burst_size> handed;
  while (!stopping_.load(std::memory_order_acquire)) { // [A1] pairs with [A2]
    const std::uint64_t now = rte_rdtsc();
    bool any = false;
    // A region that has failed is not touched any more: its memory may be gone. Frames are read all
    // the same, for the ARP and ping among them.
    const bool failed = on.failed();
    if (failed) {
      for (net::link* l : w.polled) {
        const std::uint16_t n = l->receive(in, now);
        any |= n != 0;
        for (std::uint16_t i = 0; i < n; ++i)
          rte_pktmbuf_free(in[i].frame);
      }
    } else if (on.medium().has_room() && w.out->has_room(answers_per_burst)) {
      // Else no room behind the marks, or in the journal: nothing more is taken in.
      for (net::link* l : w.polled) {
        const std::uint16_t n = l->receive(in, now);
        any |= n != 0;
        for (std::uint16_t i = 0; i < n; ++i) {
          const client_address from = in[i].view.source.key();
          const unsigned home = broker_->home_of(from, in[i].view.payload);
          if (home == w.number) {
            mine.receive(from, in[i].view.payload);
            rte_pktmbuf_free(in[i].frame);
            continue;
          }
          handed_datagram d{in[i].frame, from, in[i].view.payload.data(),
                            in[i].view.payload.size()};
          if (rte_ring_enqueue_elem(workers_[home]->handed, &d, sizeof d) == 0) {
            bump(w.handed_over);
          } else { // as if lost on the way
            bump(w.handed_dropped);
            rte_pktmbuf_free(in[i].frame);
          }
        }
      }
      const unsigned n = rte_ring_dequeue_burst_elem(w.handed, handed.data(), sizeof handed[0],
                                                     burst_size, nullptr);
      any |= n != 0;
      for (unsigned i = 0; i < n; ++i) {
        mine.receive(handed[i].from, {handed[i].payload, handed[i].size});
        rte_pktmbuf_free(handed[i].frame);
      }
    }
    if (!failed) any |= mine.end_burst();
    for (std::size_t i = 0; i < w.links.size(); ++i) {
      queue_lock& lock = tx_locks_[i][tx_queue_of_[i][w.number]];
      // [A3] acquire: pairs with [A4]. ethdev wants one thread at a time on a transmit queue.
      if (lock.held.exchange(true, std::memory_order_acquire)) continue;
      any |= w.links[i]->pump(on.medium(), now) != 0;
      lock.held.store(false, std::memory_order_release); // [A4] pairs with [A3]
    }
    bump(w.rounds);
    if (any) {
      idle.busy();
    } else {
      bump(w.idle_rounds);
      idle.idle();
    }
  }
}

} // namespace chainring::app
