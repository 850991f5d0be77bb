// SPDX-License-Identifier: BSD-3-Clause
// The running broker.
//
// Ordering labels:
//   [stop-requested]  stop() stores stopping_ with release; pairs with [stop-seen].
//   [stop-seen]  loop() loads stopping_ with acquire; pairs with [stop-requested].
//   [compaction-asked]  The request for a compaction and its end are passed on. The access orders
//     nothing, because the broker's own lock orders what a step has done.
#include "service.h"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <optional>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_service.h>
#include <rte_service_component.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/escape.h"
#include "common/size.h"
#include "listeners.h"
#include "log.h"
#include "mqttsn/sink.h"
#include "mqttsn/taking_sink.h"

namespace chainring::app {

namespace {

/// Logs an event of the broker for its operators. Text that a client chose is escaped.
void log_event(void*, const broker_event& e) noexcept {
  const std::string identity = escape(e.identity);
  switch (e.what) {
  case broker_event::kind::opened:
    CHAINRING_LOG(DEBUG, session, "client '%s' has connected", identity.c_str());
    break;
  case broker_event::kind::closed:
    CHAINRING_LOG(DEBUG, session, "the connection of client '%s' has ended", identity.c_str());
    break;
  case broker_event::kind::lost:
    CHAINRING_LOG(DEBUG, session,
                  "client '%s' is lost: it was silent for too long or did not answer",
                  identity.c_str());
    break;
  case broker_event::kind::taken_over:
    CHAINRING_LOG(DEBUG, session,
                  "client '%s' has connected again; its earlier connection has ended",
                  identity.c_str());
    break;
  case broker_event::kind::kicked:
    CHAINRING_LOG(NOTICE, session, "the session of client '%s' was ended by 'kick'",
                  identity.c_str());
    break;
  case broker_event::kind::expired:
    CHAINRING_LOG(INFO, session,
                  "the session of client '%s' has expired; its subscriptions and its queue "
                  "are deleted",
                  identity.c_str());
    break;
  case broker_event::kind::queue_full:
    CHAINRING_LOG(
        WARNING, session,
        "the queue of client '%s' is full with %" PRIu64 " messages: %" PRIu64
        " PUBLISH messages were refused because of it. The queue empties "
        "when the client connects. Otherwise use 'clear queue' or 'kick' at the prompt, or "
        "--session-expiry",
        identity.c_str(), e.count, e.more);
    break;
  case broker_event::kind::group_full:
    CHAINRING_LOG(WARNING, session,
                  "the queue of the shared subscription '$share/%s' is full with %" PRIu64
                  " messages: %" PRIu64
                  " PUBLISH messages were refused because of it. The queue empties when a member "
                  "connects, and ends with the session of the last member",
                  identity.c_str(), e.count, e.more);
    break;
  case broker_event::kind::too_long:
    CHAINRING_LOG(
        WARNING, session,
        "a message of %" PRIu64
        " octets stays in the queue of client '%s', because its port carries only %" PRIu64
        " octets",
        e.count, identity.c_str(), e.more);
    break;
  }
}

/// The longest sleep of an idle worker. The first packet after a pause waits at most this long.
constexpr std::uint32_t idle_sleep_us_max = 1000;

/// The addresses and the UDP port at which an interface is reached.
std::string addresses_text(const net::interface& i) {
  const net::interface_config& c = i.config;
  const std::string port = ":" + std::to_string(c.udp_port);
  std::string text;
  if (c.address.address != 0) text = net::format_ipv4(c.address.address) + port;
  for (const net::ip_address& a :
       {c.address6.address, c.ipv6 ? net::link_local_of(i.device.mac()) : net::ip_address{}})
    if (a != net::ip_address{})
      text += (text.empty() ? "[" : " [") + net::to_string(a) + "]" + port;
  if (c.vlan != 0) text += " on VLAN " + std::to_string(c.vlan);
  return text;
}

/// With a smaller cache the frames of a burst and its answers overflow it in each round, and every
/// frame comes from the far end of the pool, where no cache of the CPU has it.
constexpr unsigned frames_cached = RTE_MEMPOOL_CACHE_MAX_SIZE;

/// The number of frames that one link may hold back. All links together hold about 100 MiB at most.
std::uint32_t link_capacity(std::size_t links) {
  std::uint32_t capacity = 8192;
  while (capacity > 1024 && capacity * links > 32768)
    capacity /= 2;
  return capacity;
}

} // namespace

result<std::unique_ptr<service>> service::create(const options& o) {
  std::unique_ptr<service> s(new service(o));
  if (auto found = s->find_workers(); !found) return found.error();
  if (o.rx_in_region) { // the ports need a part of the region
    if (auto right = s->check_drivers(); !right) return right.error();
    if (auto opened = s->open_region(s->datagram_max()); !opened) return opened.error();
    if (auto made = s->make_rooms(); !made) return made.error();
  }
  if (auto ports = s->open_ports(); !ports) return ports.error();
  if (!o.rx_in_region)
    if (auto opened = s->open_region(s->datagram_max()); !opened) return opened.error();
  if (auto opened = s->open_gateway(); !opened) return opened.error();
  for (auto& w : s->workers_)
    s->gateway_->worker(w->number).attach(s->listeners_->worker(w->number).out(),
                                          &s->listeners_->worker(w->number));
  if (s->mqtt_ != nullptr) {
    net::listener& in = s->listeners_->worker(0);
    if (auto attached = s->mqtt_->worker().attach(in.links(), s->pool_, &in); !attached)
      return attached.error();
    for (const mqtt::listener_config& l : o.mqtt.listeners)
      CHAINRING_LOG(INFO, port, "MQTT 3.1.1 and 5.0 are served at %s", to_string(l).c_str());
  }
  return s;
}

service::~service() {
  stop();
  if (started_) rte_eal_mp_wait_lcore();
  mqtt_.reset();
  gateway_.reset();
  listeners_.reset();
  interfaces_.clear();
  // A port may not have given back all of its buffers. Then their pool stays until EAL ends.
  if (rooms_ != nullptr && rte_mempool_full(rooms_->mempool()) == 0) (void)rooms_.release();
  rooms_.reset();
  broker_.reset();
}

std::size_t service::datagram_max() const {
  if (interfaces_.empty()) // what the ports are asked for
    return std::max<std::size_t>(options_.mtu - net::udp_ip_overhead, options_.datagram_max);
  std::size_t most = 0;
  for (const auto& i : interfaces_)
    most = std::max(most, i->datagram_max());
  return most;
}

result<void> service::open_region(std::size_t datagram_max) {
  media_options m;
  m.path = options_.region;
  m.size = options_.size;
  m.journal_size = options_.journal_size;
  m.journal_cpu = options_.journal_cpu;
  auto durability = parse_durability_choice(options_.durability);
  if (!durability) return durability.error();
  m.durability = *durability;
  struct stat st {};
  const bool exists = stat(m.path.c_str(), &st) == 0 && (st.st_size > 0 || !S_ISREG(st.st_mode));
  result<std::unique_ptr<region>> opened_region = error{};
  if (exists) {
    opened_region = region::open(m);
  } else {
    if (m.size == 0) m.size = 256u << 20;
    region_options r;
    r.media = m;
    r.block_size = options_.block_size;
    r.areas = broker::areas(options_.tables, m.size, options_.block_size);
    CHAINRING_LOG(INFO, region, "creating the region %s with %" PRIu64 " MiB", m.path.c_str(),
                  m.size >> 20);
    opened_region = region::create(r);
  }
  if (!opened_region) return opened_region.error();
  constexpr std::uint64_t rounding = 2u << 20; // region sizes are rounded up to hugepages
  if (const std::uint64_t present = (*opened_region)->medium().size();
      options_.size != 0 && options_.size + rounding <= present)
    return error{errc::invalid_argument, "--size " + size_name(options_.size) + ": the region " +
                                             m.path + " has " + size_name(present) +
                                             " and cannot become smaller; leave --size out, or "
                                             "give " +
                                             size_name(present) + " or more"};
  for (const std::string& note : (*opened_region)->notes())
    CHAINRING_LOG(WARNING, region, "%s", note.c_str());
  broker_config config = options_.broker;
  config.workers = static_cast<unsigned>(workers_.size());
  config.crew = crew();
  // The broker keeps every message that the largest port can carry. Delivery at a smaller port
  // skips a message that is too long for it.
  config.content_size_max = mqttsn::payload_size_max(static_cast<std::uint16_t>(datagram_max));
  if (!options_.mqtt.listeners.empty())
    config.content_size_max =
        std::max(config.content_size_max, mqtt::content_size_max(options_.mqtt.packet_size_max));
  const std::uint64_t hz = rte_get_tsc_hz();
  std::uint64_t last = rte_rdtsc();
  auto opened =
      broker::open(std::move(*opened_region), config,
                   [&](const std::string& what, std::uint64_t done, std::uint64_t of) {
                     if (rte_rdtsc() - last < hz)
                       return; // an open of less than a second logs no progress
                     last = rte_rdtsc();
                     CHAINRING_LOG(INFO, region, "recovery, %s: %" PRIu64 " of %" PRIu64 " done",
                                   what.c_str(), done, of);
                   });
  if (!opened) return opened.error();
  broker_ = std::move(*opened);
  broker_->observe(log_event, nullptr);
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

/// The main lcore and those of the workers, which have not started yet.
recovery_crew service::crew() const {
  return {static_cast<unsigned>(workers_.size()) + 1,
          [this](const std::function<void(unsigned)>& work) {
            struct share {
              const std::function<void(unsigned)>& work;
              unsigned number;
            };
            std::vector<share> shares;
            for (const auto& w : workers_)
              shares.push_back({work, w->number + 1});
            for (share& s : shares) {
              const auto run = [](void* of) {
                const share& mine = *static_cast<share*>(of);
                mine.work(mine.number);
                return 0;
              };
              const unsigned lcore = workers_[s.number - 1]->lcore;
              // A lcore that cannot be had leaves its share to this one.
              if (rte_eal_remote_launch(run, &s, lcore) != 0) run(&s);
            }
            work(0);
            rte_eal_mp_wait_lcore();
          }};
}

result<void> service::open_gateway() {
  mqttsn::gateway_config gateway = options_.gateway;
  gateway.datagram_size_max = static_cast<std::uint16_t>(datagram_max());
  gateway.own_port = options_.udp_port;
  for (const auto& i : interfaces_) {
    const net::interface_config& c = i->config;
    for (const net::ip_address& group : {net::ip_address(c.multicast_group), c.multicast_group6})
      if (net::is_multicast(group))
        gateway.groups.push_back(net::endpoint{group, c.udp_port, c.interface_id}.key());
  }
  auto made = mqttsn::gateway::create(*broker_, gateway);
  if (!made) return made.error();
  gateway_ = std::move(*made);
  if (options_.sys_interval_s != 0)
    system_ = std::make_unique<system_topics>(options_.sys_interval_s);
  if (!options_.mqtt.listeners.empty()) {
    auto server = mqtt::server::create(*broker_, options_.mqtt);
    if (!server) return error{server.error().code, "--listen: " + server.error().message};
    mqtt_ = std::move(*server);
    auto passwords = load_passwords();
    if (!passwords) return passwords.error();
    if (!passwords->empty()) CHAINRING_LOG(NOTICE, broker, "%s", passwords->c_str());
  }
  if (options_.access.empty()) return {};
  auto loaded = load_access();
  if (!loaded) return error{loaded.error().code, "--access: " + loaded.error().message};
  CHAINRING_LOG(NOTICE, broker, "%s", loaded->c_str());
  return {};
}

/// Refuses an --mtu or --max-datagram that the port cannot have.
result<void> service::check_sizes(const net::interface& i) const {
  const std::string port = "port " + std::to_string(i.device.id()) + " (" + i.device.name() + ") ";
  if (options_.mtu_given && i.device.mtu() < options_.mtu)
    return error{errc::unsupported, "--mtu " + std::to_string(options_.mtu) + ": " + port +
                                        "carries packets of at most " +
                                        std::to_string(i.device.mtu()) + " octets"};
  if (options_.datagram_max > i.datagram_max())
    return error{errc::unsupported, "--max-datagram " + std::to_string(options_.datagram_max) +
                                        ": with packets of " + std::to_string(i.device.mtu()) +
                                        " octets " + port + "carries at most " +
                                        std::to_string(i.datagram_max()) + " octets in " +
                                        std::to_string(net::fragments_max) + " fragments"};
  return {};
}

result<std::string> service::load_certificates() {
  const tls::context_options& files = options_.mqtt.tls;
  if (mqtt_ == nullptr || (files.certificates.empty() && files.keys.empty())) return std::string();
  if (auto loaded = mqtt_->reload_certificates(); !loaded)
    return error{loaded.error().code, tls_refusal(files, loaded.error().message)};
  std::string sentence = "certificates: " + std::to_string(files.certificates.size()) + " are read";
  if (!files.revoked.empty()) sentence += ", with the revocation lists of " + files.revoked;
  if (!files.keys.empty()) sentence += ", and the shared keys of " + files.keys;
  return sentence + "; new connections use them";
}

result<std::string> service::load_passwords() {
  if (mqtt_ == nullptr || options_.passwords.empty()) return std::string();
  auto file = access::password_file::read(options_.passwords);
  if (!file) return error{file.error().code, "--password-file: " + file.error().message};
  const std::size_t users = (*file)->size();
  mqtt_->use_passwords(std::move(*file));
  return "passwords: " + std::to_string(users) + " users of the file " + options_.passwords;
}

result<std::string> service::load_access() {
  if (options_.access.empty())
    return std::string(
        "there are no access rules, because the broker was started without --access");
  auto rules = access::rule_set::read(options_.access);
  if (!rules) return rules.error();
  const std::string sentence = "access rules: " + std::to_string((*rules)->size()) +
                               " rules of the file " + options_.access +
                               " are in force, and what fits none of them is " +
                               ((*rules)->allows_by_default() ? "allowed" : "denied");
  if (mqtt_ != nullptr) mqtt_->use_rules(*rules);
  gateway_->use_rules(std::move(*rules));
  return sentence;
}

result<void> service::find_workers() {
  unsigned lcore = 0;
  RTE_LCORE_FOREACH_WORKER(lcore) {
    auto w = std::make_unique<worker_context>();
    w->number = static_cast<unsigned>(workers_.size());
    w->lcore = lcore;
    workers_.push_back(std::move(w));
  }
  const std::size_t workers = workers_.size();
  if (workers == 0)
    return error{errc::invalid_argument,
                 "the broker needs a worker lcore besides the main lcore; start it with "
                 "-l 0,1, or on one CPU with --lcores '0@0,1@0'"};
  if (workers > 64)
    return error{errc::invalid_argument,
                 "there are " + std::to_string(workers) + " worker lcores; expected at most 64"};
  const std::uint16_t ports = rte_eth_dev_count_avail();
  if (ports == 0)
    return error{errc::not_found,
                 "EAL found no port; give it one, such as --vdev=net_tap0,iface=tap0, "
                 "or bind a NIC to a DPDK driver"};
  if (ports != options_.addresses.size())
    return error{errc::invalid_argument, "--address: there are " + std::to_string(ports) +
                                             " ports and " +
                                             std::to_string(options_.addresses.size()) +
                                             " addresses; give one for each port"};
  return {};
}

net::listener_options service::shape_of_listeners() const {
  net::listener_options l;
  l.workers = static_cast<unsigned>(workers_.size());
  l.tx_capacity = link_capacity(options_.addresses.size() * workers_.size());
  return l;
}

std::uint32_t service::frames_needed(const net::listener_options& l) const {
  // TCP holds received packets until they are handled, and those that came before their turn.
  constexpr std::uint32_t tcp_frames = 8192;
  return net::listener_group::frames_needed(options_.addresses.size(), l, frames_cached) +
         (options_.mqtt.listeners.empty() ? 0 : tcp_frames);
}

result<void> service::open_ports() {
  const auto workers = static_cast<std::uint16_t>(workers_.size());
  const auto room =
      static_cast<std::uint16_t>(std::max<std::size_t>(RTE_MBUF_DEFAULT_BUF_SIZE, room_needed()));
  net::listener_options l = shape_of_listeners();
  const unsigned count = frames_needed(l);
  pool_ = rte_pktmbuf_pool_create("chainring_packets", count, frames_cached, 0, room,
                                  static_cast<int>(rte_socket_id()));
  if (pool_ == nullptr)
    return error{errc::no_space, "there is no memory for " + std::to_string(count) +
                                     " packet buffers; give EAL more (-m 512)"};
  std::uint16_t port = 0, id = 0;
  RTE_ETH_FOREACH_DEV(port) {
    net::interface_config c;
    c.port_id = port;
    c.interface_id = id;
    c.address = options_.addresses[id];
    c.gateway = id < options_.gateways.size() ? options_.gateways[id] : 0;
    c.udp_port = options_.udp_port;
    c.multicast_group = c.address.address != 0 ? options_.multicast : 0;
    if (!options_.addresses6.empty()) {
      c.ipv6 = true;
      c.address6 = options_.addresses6[id];
      c.multicast_group6 = options_.multicast6;
      if (!options_.gateways6.empty()) c.gateway6 = options_.gateways6[id];
    }
    if (!options_.vlans.empty()) c.vlan = options_.vlans[id];
    c.mtu = options_.mtu;
    c.datagram_max = options_.datagram_max;
    c.partial_checksums = options_.partial_checksums;
    c.tcp = !options_.mqtt.listeners.empty();
    net::port_options p;
    p.pool = rooms_ != nullptr ? rooms_->mempool() : pool_;
    p.rx_queues = p.tx_queues = workers;
    auto opened = net::open_interface(c, p);
    if (!opened) return opened.error();
    net::interface& added = **opened;
    if (auto fits = check_sizes(added); !fits) return fits.error();
    CHAINRING_LOG(INFO, port, "port %u (%s, %s): %s, %u receive and %u transmit queues, link %s",
                  port, added.device.name().c_str(), added.device.driver().c_str(),
                  addresses_text(added).c_str(), added.device.rx_queues(), added.device.tx_queues(),
                  added.device.link_up() ? "up" : "down");
    if ((c.ipv6 || c.multicast_group != 0) &&
        added.device.multicast() == net::multicast_reception::none)
      CHAINRING_LOG(NOTICE, port,
                    "port %u (%s) cannot be told which multicast groups to receive. If it does not "
                    "receive them anyway, clients do not find the broker over IPv6 or at its group",
                    port, added.device.name().c_str());
    interfaces_.push_back(std::move(*opened));
    ++id;
  }
  std::vector<net::interface*> all;
  for (const auto& i : interfaces_)
    all.push_back(i.get());
  l.pool = pool_;
  auto made = net::listener_group::create(all, l);
  if (!made) return made.error();
  listeners_ = std::move(*made);
  return {};
}

void service::compact_once() noexcept {
  if (!compacting()) return;
  // One lcore at a time has the service, or only the main thread does it.
  auto done = broker_->compact({.descriptors = 1024, .blocks = 256});
  if (!done)
    CHAINRING_LOG(ERR, region, "messages cannot be moved together: %s",
                  done.error().message.c_str());
  if (!done || *done == compaction::idle)
    compacting_.store(false, std::memory_order_relaxed); // [compaction-asked]
}

void service::go_on_compacting() noexcept {
  if (!on_service_lcore_) compact_once();
}

std::int32_t service::serve_compaction(void* context) noexcept {
  static_cast<service*>(context)->compact_once();
  return 0;
}

// Registers the compaction with EAL's services, so that it runs on the lcores of -s or -S.
result<void> service::offer_compaction() {
  std::array<std::uint32_t, RTE_MAX_LCORE> lcores{};
  const std::int32_t count = rte_service_lcore_list(lcores.data(), lcores.size());
  if (count <= 0) return {};
  rte_service_spec spec{};
  std::snprintf(spec.name, sizeof spec.name, "chainring_compaction");
  spec.callback = serve_compaction;
  spec.callback_userdata = this;
  spec.socket_id = SOCKET_ID_ANY;
  bool ok = rte_service_component_register(&spec, &compaction_service_) == 0;
  for (std::int32_t i = 0; ok && i < count; ++i)
    ok =
        rte_service_map_lcore_set(compaction_service_, lcores[static_cast<std::size_t>(i)], 1) == 0;
  ok = ok && rte_service_component_runstate_set(compaction_service_, 1) == 0 &&
       rte_service_runstate_set(compaction_service_, 1) == 0;
  if (!ok)
    return error{errc::invalid_argument, "the service lcores refuse the compaction; start "
                                         "without -s and -S"};
  on_service_lcore_ = true;
  return {};
}

result<void> service::start() {
  if (auto offered = offer_compaction(); !offered) return offered;
  for (auto& w : workers_)
    listeners_->worker(w->number).announce();
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

void service::watch_links() {
  while (link_seen_.size() < interfaces_.size()) // the line that was logged for the port said so
    link_seen_.push_back(interfaces_[link_seen_.size()]->device.link_up());
  for (std::size_t i = 0; i < interfaces_.size(); ++i) {
    const net::port& port = interfaces_[i]->device;
    const bool up = port.link_is_up_now();
    if (up == link_seen_[i]) continue;
    link_seen_[i] = up;
    if (up)
      CHAINRING_LOG(NOTICE, port, "the link of port %u (%s) is up again", port.id(),
                    port.name().c_str());
    else
      CHAINRING_LOG(ERR, port,
                    "the link of port %u (%s) is down, or its interface is gone. No client is "
                    "reached there. If the interface was removed, start the broker again",
                    port.id(), port.name().c_str());
  }
}

void service::stop() noexcept {
  // [stop-requested] Without it a worker could end its loop before it sees what the main thread
  // stored before the stop.
  stopping_.store(true, std::memory_order_release);
}

result<void> service::finish() {
  // A worker that touched lost memory may have stopped for good. After a second without an end of
  // the workers the process exits at once.
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
  if (on_service_lcore_) {
    (void)rte_service_runstate_set(compaction_service_, 0);
    while (rte_service_may_be_active(compaction_service_) != 0)
      rte_delay_us_sleep(100);
    (void)rte_service_component_unregister(compaction_service_);
    on_service_lcore_ = false;
  }
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
  mqttsn::gateway_worker& gateway = gateway_->worker(w.number);
  net::listener& in = listeners_->worker(w.number);
  media& medium = broker_->medium();
  mqttsn::gateway_sink copying(*gateway_, w.number);
  std::optional<mqttsn::taking_sink> taking;
  if (rooms_ != nullptr) {
    taking.emplace(*gateway_, w.number, *rooms_);
    mine.receive_from(&*taking, *options_.rx_in_region);
  }
  net::datagram_sink& sink = taking ? static_cast<net::datagram_sink&>(*taking) : copying;
  mqttsn::failed_sink pings_only(*gateway_, w.number);
  mqtt::server_worker* const tcp = mqtt_ == nullptr ? nullptr : &mqtt_->worker();
  system_topics* const system = w.number == 0 ? system_.get() : nullptr;
  idle_policy idle(options_.idle, options_.idle == idle_mode::sleep ? idle_sleep_us_max
                                                                    : idle_policy::sleep_us_least);
  // [stop-seen] Without it what this worker does after the loop could come before the stop.
  while (!stopping_.load(std::memory_order_acquire)) {
    bool any = false;
    if (medium.failed()) {
      any |= in.poll(pings_only);
      gateway.send(mark_t{}); // the answer to a ping waits for no mark
    } else {
      // While the journal has no room, the worker receives nothing more.
      if (tcp != nullptr) tcp->begin_round(rte_rdtsc());
      if (medium.has_room()) {
        any |= in.poll(sink);
        if (tcp != nullptr) any |= tcp->poll(rte_rdtsc());
      }
      any |= gateway.judge(rte_rdtsc());
      if (system != nullptr) any |= system->publish(mine);
      const mark_t mark = mine.end_burst();
      any |= mine.worked();
      gateway.send(mark);
      if (tcp != nullptr) {
        tcp->send(mark);
        tcp->pump(medium);
      }
    }
    any |= in.send(medium, rte_rdtsc());
    ++w.rounds;
    if (any) {
      idle.busy();
    } else {
      ++w.idle_rounds;
      idle.idle();
    }
  }
  mine.receive_from(nullptr, 0);
  if (tcp == nullptr || medium.failed()) return;
  // Clients of MQTT 5.0 are told that the broker ends. One that takes nothing is not waited for.
  tcp->begin_round(rte_rdtsc());
  tcp->shut_down();
  for (const std::uint64_t until = rte_rdtsc() + rte_get_tsc_hz() / 2; rte_rdtsc() < until;) {
    tcp->send(mine.end_burst());
    tcp->pump(medium);
    (void)in.send(medium, rte_rdtsc());
    if (tcp->is_flushed()) break;
    rte_delay_us_sleep(100);
  }
}

} // namespace chainring::app
