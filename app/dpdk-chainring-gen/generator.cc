// SPDX-License-Identifier: BSD-3-Clause
#include "generator.h"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <rte_cycles.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "mqtt_generator.h"
#include "sn_generator.h"

namespace chainring::gen {

namespace {

constexpr std::uint16_t burst = 64;
constexpr std::uint32_t timers_per_round = 64;
/// How many handshakes run at one time; only one does until the broker has answered once.
constexpr std::uint32_t openings_max = 256;
constexpr double control_s = 0.001;
/// After this time without a delivery nothing more is expected.
constexpr double quiet_qos1_s = 0.2, quiet_qos0_s = 1;
constexpr double farewell_s = 1;
constexpr double revive_s = 0.25;
/// A neighbour that was restarted may have another MAC address, so it is asked for often.
constexpr std::uint32_t neighbour_lifetime_s = 3;

std::uint64_t monotonic_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(t.tv_nsec);
}

} // namespace

generator::generator(const options& o, ledger& book, ledger_file* file, int signal_fd)
    : options_(o), crossing_(o.shape, o.crossing), ledger_(book), file_(file),
      signal_fd_(signal_fd), clients_(o.clients()), due_(o.clients()),
      ready_(std::max(o.shape.publishers, 1u)) {}

generator::~generator() = default;

result<std::unique_ptr<generator>> generator::create(const options& o, ledger& book,
                                                     ledger_file* file, int signal_fd) {
  std::unique_ptr<generator> g;
  if (o.protocol == protocol::mqtt_sn)
    g = std::make_unique<sn_generator>(o, book, file, signal_fd);
  else
    g = std::make_unique<mqtt_generator>(o, book, file, signal_fd);
  if (auto opened = g->open_port(); !opened) return opened.error();
  if (auto opened = g->open_protocol(); !opened) return opened.error();
  return g;
}

result<void> generator::open_port() {
  const options& o = options_;
  if (rte_eth_dev_count_avail() == 0)
    return error{errc::not_found,
                 "EAL found no port; give it one, such as --vdev=net_tap0,iface=tap0"};
  const unsigned room =
      std::max<unsigned>(RTE_MBUF_DEFAULT_BUF_SIZE, o.mtu + 64u + RTE_PKTMBUF_HEADROOM);
  constexpr unsigned count = 16383;
  pool_ = rte_pktmbuf_pool_create("chainring_gen", count, 256, 0, static_cast<std::uint16_t>(room),
                                  static_cast<int>(rte_socket_id()));
  if (pool_ == nullptr)
    return error{errc::no_space, "there is no memory for " + std::to_string(count) +
                                     " packet buffers; give EAL more (-m 256)"};
  net::interface_config c;
  c.port_id = o.port_id;
  c.address = o.address;
  c.address_count = std::max(1u, (o.clients() + o.source_ports - 1) / o.source_ports);
  c.gateway = o.gateway;
  c.udp_port = o.source_port;
  c.udp_port_count = o.source_ports;
  c.mtu = o.mtu;
  c.partial_checksums = o.partial_checksums;
  c.tcp = o.protocol != protocol::mqtt_sn;
  net::port_options p;
  p.pool = pool_;
  net::neighbour_options n;
  n.lifetime_s = neighbour_lifetime_s;
  auto opened = net::open_interface(c, p, n);
  if (!opened) return opened.error();
  interface_ = std::move(*opened);
  net::link_options l;
  l.tx_capacity = 8192;
  l.pool = pool_;
  auto made = net::link::create(*interface_, l);
  if (!made) return made.error();
  link_ = std::move(*made);
  const net::port& device = interface_->device;
  is_memif_ = device.driver() == "net_memif";
  if (o.crossing.share >= 0)
    std::printf("%u of %u subscribers are served by another of %u workers than their publishers\n",
                crossing_.crossing_subscribers(), o.shape.subscribers, o.crossing.workers);
  std::printf("port %u (%s, %s): %u clients from %s:%u on, broker %s:%u, link %s\n", device.id(),
              device.name().c_str(), device.driver().c_str(), o.clients(),
              net::format_ipv4(o.address.address).c_str(), o.source_port,
              net::to_string(o.broker.address).c_str(), o.broker.port,
              device.link_up() ? "up" : "down");
  return {};
}

// --- the loop ---------------------------------------------------------------------------------

outcome generator::run() {
  hz_ = static_cast<double>(rte_get_tsc_hz());
  tick_ns_ = 1e9 / hz_;
  start_ns_ = monotonic_ns();
  start_tsc_ = now_ = rte_rdtsc();
  retry_tsc_ = cycles(options_.retry_interval_s);
  ping_tsc_ = cycles(std::min(options_.retry_interval_s, options_.drain_timeout_s / 4));
  progress_tsc_ = heard_tsc_ = delivery_tsc_ = report_tsc_ = tokens_tsc_ = now_;
  report_due_ = ledger_due_ = now_ + cycles(options_.report_interval_s);
  to_send_ = options_.count == 0 ? ~std::uint64_t{0} : options_.count;
  outcome_.before = reported_ = ledger_.count;
  const bool publishes = options_.phase == phase::all || options_.phase == phase::publish;
  outstanding_ = publishes ? static_cast<std::uint32_t>(ledger_.unacknowledged()) : 0;
  link_->announce();
  enter(options_.phase == phase::publish ? stage::connecting : stage::subscribing);

  idle_policy idle(options_.idle);
  std::array<net::datagram, burst> in;
  while (stage_ != stage::done) {
    now_ = rte_rdtsc();
    const std::uint16_t n = running_ ? link_->receive(in, now_) : std::uint16_t{0};
    bool any = n != 0;
    for (std::uint16_t i = 0; i < n; ++i) {
      receive(in[i]);
      rte_pktmbuf_free(in[i].frame);
    }
    any |= poll();
    if (stage_ == stage::publishing) any |= publish_some();
    any |= check_timers();
    if (now_ - control_tsc_ >= cycles(control_s)) control();
    if (running_) any |= link_->pump(now_) != 0;
    if (any)
      idle.busy();
    else
      idle.idle();
  }
  const std::uint64_t end = now_ + cycles(0.1);
  while (running_ && link_->tx().size() != 0 && (now_ = rte_rdtsc()) < end) {
    link_->pump(now_);
    idle.idle();
  }
  report();
  outcome_.elapsed_s = static_cast<double>(rte_rdtsc() - start_tsc_) / hz_;
  const std::uint64_t from = publish_tsc_ != 0 ? publish_tsc_ : start_tsc_;
  const auto since = [&](std::uint64_t to) {
    return to > from ? static_cast<double>(to - from) / hz_ : 0.0;
  };
  outcome_.publishing_s = since(publish_end_tsc_);
  outcome_.acking_s = since(ack_tsc_);
  outcome_.delivering_s = since(fresh_tsc_);
  return outcome_;
}

bool generator::publish_some() noexcept {
  std::uint64_t most =
      std::min<std::uint64_t>(std::min<std::uint64_t>(burst, ready_count_), to_send_);
  if (options_.rate > 0) {
    tokens_ = std::min(tokens_ + static_cast<double>(now_ - tokens_tsc_) / hz_ * options_.rate,
                       options_.rate / 10 + 1);
    tokens_tsc_ = now_;
    most = std::min(most, static_cast<std::uint64_t>(tokens_));
  }
  if (link_->tx().free() < 4 * burst) return false;
  std::uint64_t sent = 0;
  for (std::uint64_t tried = 0; tried < most; ++tried) {
    const std::uint32_t i = ready_[ready_first_];
    ready_first_ = (ready_first_ + 1) % static_cast<std::uint32_t>(ready_.size());
    --ready_count_;
    client& c = clients_[i];
    c.queued = false;
    // A publisher that is connecting, or has a message to repeat, is enqueued again later.
    if (c.state != state::ready || ledger_.outstanding(i)) continue;
    if (ledger_.window_full(i) || !may_publish(i)) {
      enqueue(i);
      continue;
    }
    (void)ledger_.begin_send(i, ns(now_));
    c.dup = c.refused = false;
    ++sent;
    publish(i);
    if (ledger_.acknowledges())
      ++outstanding_;
    else
      enqueue(i);
  }
  to_send_ -= sent;
  tokens_ -= static_cast<double>(sent);
  return sent != 0;
}

bool generator::check_timers() noexcept {
  bool any = false;
  const auto count = static_cast<std::uint32_t>(due_.size());
  for (std::uint32_t n = std::min(count, timers_per_round); n != 0; --n) {
    if (++timer_at_ >= count) timer_at_ = 0;
    if (due_[timer_at_] == 0 || due_[timer_at_] > now_) continue;
    if (link_->tx().free() < 2 * burst) return any;
    on_timeout(timer_at_);
    any = true;
  }
  return any;
}

// --- stages -----------------------------------------------------------------------------------

void generator::enter(stage next) {
  if (stage_ == stage::publishing) publish_end_tsc_ = now_;
  stage_ = next;
  stage_tsc_ = now_;
  const std::uint32_t p = options_.shape.publishers, all = options_.clients();
  switch (next) {
  case stage::subscribing:
    open_next_ = p;
    open_end_ = all;
    break;
  case stage::connecting:
    open_next_ = 0;
    open_end_ = p;
    break;
  case stage::publishing:
    publish_tsc_ = tokens_tsc_ = now_;
    break;
  case stage::leaving:
    open_next_ = 0;
    break;
  case stage::draining:
  case stage::done:
    break;
  }
}

void generator::open_clients() noexcept {
  const std::uint32_t limit = outcome_.answered ? openings_max : 1;
  while (open_next_ != open_end_ && opening_ < limit && link_->tx().free() >= 2 * burst)
    start(open_next_++);
}

void generator::close_clients() noexcept {
  for (; open_next_ != clients_.size() && link_->tx().free() >= 2 * burst; ++open_next_)
    leave(open_next_);
}

bool generator::all_subscribers_ready() const noexcept {
  return std::all_of(clients_.begin() + options_.shape.publishers, clients_.end(),
                     [](const client& c) { return c.state == state::ready; });
}

bool generator::drained() noexcept {
  if (outstanding_ != 0) return false;
  if (options_.phase == phase::publish) return true;
  const double quiet = ledger_.acknowledges() ? quiet_qos1_s : quiet_qos0_s;
  return opening_ == 0 && ledger_.owed() == 0 && now_ - stage_tsc_ >= cycles(quiet) &&
         now_ - delivery_tsc_ >= cycles(quiet) && ledger_.partial() == 0;
}

void generator::control() {
  control_tsc_ = now_;
  read_signals();
  revive_port();
  if (stage_ == stage::subscribing || stage_ == stage::connecting) open_clients();
  const bool opened = open_next_ == open_end_ && opening_ == 0;
  const bool subscribes = options_.phase == phase::all || options_.phase == phase::collect;
  bool waiting = outstanding_ != 0 || opening_ != 0 || (subscribes && ledger_.owed() != 0);
  switch (stage_) {
  case stage::subscribing:
    waiting = true;
    if (!opened) break;
    enter(options_.phase == phase::all         ? stage::connecting
          : options_.phase == phase::subscribe ? stage::leaving
                                               : stage::draining);
    outcome_.finished = options_.phase == phase::subscribe;
    break;
  case stage::connecting:
    waiting = true;
    if (opened) enter(stage::publishing);
    break;
  case stage::publishing: {
    const double seconds = static_cast<double>(now_ - stage_tsc_) / hz_;
    const bool over = options_.duration_s > 0 && seconds >= options_.duration_s;
    if (stop_ || over || to_send_ == 0 || options_.shape.publishers == 0) enter(stage::draining);
    break;
  }
  case stage::draining:
    waiting |= options_.phase == phase::collect && ledger_.partial() != 0;
    if (!drained()) break;
    outcome_.finished = outcome_.judged = true;
    enter(stage::leaving);
    break;
  case stage::leaving:
    close_clients();
    if (open_next_ == clients_.size() && (leaving_ == 0 || now_ - stage_tsc_ >= cycles(farewell_s)))
      enter(stage::done);
    return;
  case stage::done:
    return;
  }
  if (stage_ == stage::leaving) return;
  if (!waiting) progress();
  const bool stalled = now_ - progress_tsc_ >= cycles(options_.drain_timeout_s);
  const bool opening = stage_ == stage::subscribing || stage_ == stage::connecting;
  if (stalled || outcome_.interrupted || !outcome_.refusal.empty() || (stop_ && opening)) {
    // If the broker still answers and all subscribers are connected, the broker had its time to
    // deliver, so what is missing now counts as lost.
    outcome_.judged = stalled && stage_ != stage::subscribing && all_subscribers_ready() &&
                      now_ - heard_tsc_ <= 3 * ping_tsc_;
    enter(stage::leaving);
    return;
  }
  if (now_ >= report_due_) report();
  if (file_ != nullptr && now_ >= ledger_due_ && file_->idle()) {
    file_->write_later(ledger_.to_json(false));
    // Writing the ledger takes at most a tenth of the time.
    const std::uint64_t took = rte_rdtsc() - now_;
    ledger_due_ = now_ + std::max(cycles(options_.report_interval_s), 10 * took);
  }
}

/// A memif client whose server has gone away connects again only after the port is restarted.
void generator::revive_port() noexcept {
  const net::port& device = interface_->device;
  if (!is_memif_ || now_ - heard_tsc_ <= ping_tsc_ || now_ - revive_tsc_ < cycles(revive_s)) return;
  revive_tsc_ = now_;
  if (running_ && device.link_is_up_now()) return;
  if (running_) (void)rte_eth_dev_stop(device.id());
  running_ = rte_eth_dev_start(device.id()) == 0; // fails while no server listens on the socket
}

void generator::read_signals() {
  signalfd_siginfo info{};
  while (read(signal_fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    outcome_.interrupted |= stop_;
    stop_ = true;
  }
}

void generator::report() {
  static constexpr const char* names[] = {"subscribing", "connecting", "publishing",
                                          "draining",    "leaving",    "done"};
  const double seconds = std::max(static_cast<double>(now_ - report_tsc_) / hz_, 1e-9);
  const tally& t = ledger_.count;
  const auto rate = [seconds](std::uint64_t now, std::uint64_t before) {
    return static_cast<double>(now - before) / seconds;
  };
  std::printf("%.1f s, %s: sent %" PRIu64 " (%.0f/s), acked %" PRIu64
              " (%.0f/s), delivered %" PRIu64 " (%.0f/s), owed %" PRIu64 ", resent %" PRIu64
              ", duplicated %" PRIu64 ", corrupted %" PRIu64 ", congestion %" PRIu64
              ", reconnects %" PRIu64 "\n",
              static_cast<double>(now_ - start_tsc_) / hz_, names[static_cast<int>(stage_)], t.sent,
              rate(t.sent, reported_.sent), t.acked, rate(t.acked, reported_.acked), t.delivered,
              rate(t.delivered, reported_.delivered), ledger_.owed(), t.resent, t.duplicated(),
              t.corrupted(), t.congestion, outcome_.reconnects);
  std::fflush(stdout);
  reported_ = t;
  report_tsc_ = now_;
  report_due_ = now_ + cycles(options_.report_interval_s);
}

} // namespace chainring::gen
