// SPDX-License-Identifier: BSD-3-Clause
// Edges: [W1] [W2] [W4] as in connect.cc
#include "broker/broker.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <fstream>
#include <rte_cycles.h>
#include <rte_ring.h>
#include <sstream>

#include "base/crc32c.h"
#include "broker/worker.h"
#include "mqttsn/codec.h"

namespace chainring {

result<overflow_policy> parse_overflow_policy(std::string_view text) {
  for (auto p :
       {overflow_policy::reject, overflow_policy::drop_newest, overflow_policy::drop_oldest})
    if (text == to_string(p)) return p;
  return error{errc::invalid_argument, "overflow policy '" + std::string(text) +
                                           "': expected reject, drop-newest or drop-oldest"};
}

const char* to_string(overflow_policy p) noexcept {
  switch (p) {
  case overflow_policy::reject:
    return "reject";
  case overflow_policy::drop_newest:
    return "drop-newest";
  case overflow_policy::drop_oldest:
    return "drop-oldest";
  }
  return "unknown";
}

result<std::vector<predefined_topic>> read_predefined_topics(const std::string& path) {
  std::ifstream in(path);
  if (!in) return error{errc::not_found, path + ": cannot be read"};
  std::vector<predefined_topic> topics;
  std::string line;
  for (unsigned number = 1; std::getline(in, line); ++number) {
    const std::string where = path + ":" + std::to_string(number) + ": ";
    line.resize(std::min(line.find('#') == std::string::npos || line[0] != '#' ? line.size() : 0,
                         line.size()));
    std::istringstream words(line);
    long id = 0;
    std::string name, rest;
    if (!(words >> std::ws) || words.eof()) continue;
    if (!(words >> id >> name) || (words >> rest))
      return error{errc::invalid_argument, where + "expected a topic id and a name"};
    if (id < 1 || id > 65534)
      return error{errc::invalid_argument,
                   where + "topic id " + std::to_string(id) + ": expected 1 to 65534"};
    if (!valid_topic_name(name) || name.size() > topic_length_max)
      return error{errc::invalid_argument, where + "'" + name + "' is no topic name of at most " +
                                               std::to_string(topic_length_max) + " octets"};
    for (const predefined_topic& t : topics)
      if (t.id == id || t.name == name)
        return error{errc::invalid_argument,
                     where + "id " + std::to_string(id) + " or name '" + name + "' stands twice"};
    topics.push_back({static_cast<std::uint16_t>(id), name});
  }
  return topics;
}

unsigned broker::shared::home_of(std::string_view client_id) const noexcept {
  return crc32c(0, client_id.data(), client_id.size()) % config.workers;
}

std::vector<area_spec> broker::areas(const store_layout& layout, std::uint64_t region_size,
                                     std::uint32_t block_size) {
  return store::areas(layout, region_size, block_size);
}

broker::broker(std::unique_ptr<shared> s) : shared_(std::move(s)) {}

broker::~broker() {
  shared_->workers.clear(); // they refer to the rest
}

result<std::unique_ptr<broker>> broker::open(std::unique_ptr<chainring::region> on,
                                             const broker_config& config, const progress& told) {
  if (config.workers == 0 || config.workers > 64)
    return error{errc::invalid_argument,
                 "workers " + std::to_string(config.workers) + ": expected 1 to 64"};
  const auto began = std::chrono::steady_clock::now();
  auto s = std::make_unique<shared>();
  s->config = config;
  s->on = std::move(on);
  auto state = store::open(*s->on, config, told, s->opened);
  if (!state) return state.error();
  s->state = std::move(state).value();
  s->sessions_max = s->state->sessions_max();

  filter_index_options fo;
  fo.subscriptions_max = static_cast<std::uint32_t>(s->state->subscriptions_max());
  fo.filters_max = fo.subscriptions_max;
  fo.levels_max = fo.subscriptions_max;
  fo.sessions_max = s->sessions_max;
  fo.readers = config.workers;
  s->filters = std::make_unique<filter_index>(fo);
  auto addresses = seq_map<std::uint64_t, std::uint32_t>::create(
      s->sessions_max, map_hash<std::uint64_t>{random_seed()});
  if (!addresses) return addresses.error();
  s->addresses = std::move(addresses).value();
  auto clients = seq_map<client_key, std::uint32_t>::create(s->sessions_max,
                                                            map_hash<client_key>{random_seed()});
  if (!clients) return clients.error();
  s->clients = std::move(clients).value();
  s->sessions = std::make_unique<session[]>(s->sessions_max);
  s->free_sessions.reserve(s->sessions_max);
  for (std::uint32_t i = s->sessions_max; i-- > 0;) {
    session& one = s->sessions[i];
    one.incarnation.store(s->state->session_incarnation(i),
                          std::memory_order_relaxed); // [W4] alone
    if (s->state->session_state_of(i).state == session_state::free) {
      s->free_sessions.push_back(i);
      continue;
    }
    const client_key key(s->state->client_id(i));
    one.home.store(static_cast<std::uint8_t>(s->home_of(key.text())),
                   std::memory_order_relaxed);                                    // [W2] alone
    one.keep_alive_s.store(s->state->keep_alive_s(i), std::memory_order_relaxed); // [W2] alone
    one.state.store(connection::disconnected, std::memory_order_relaxed);         // [W2] alone
    if (s->clients->insert(key, i) != map_status::done)
      s->opened.notes.push_back("session " + std::to_string(i) + ": another has its client id '" +
                                std::string(key.text()) + "'; it is not served");
  }
  std::vector<std::string>& notes = s->opened.notes;
  s->state->for_each_subscription(
      [&](std::uint32_t n, std::string_view filter, std::uint8_t bits) {
        if (!filter_index::accepted(s->filters->add(filter, n, bits)))
          notes.push_back("subscription of session " + std::to_string(n) + " to '" +
                          std::string(filter) + "': no room in the index; it is not served");
      },
      notes);
  for (const predefined_topic& t : config.predefined)
    s->predefined_names[t.id] = t.name;
  for (const auto& [id, name] : s->predefined_names)
    s->predefined_ids[name] = id;
  s->volatiles =
      std::make_unique<volatile_pool>(config.volatile_messages_max, config.datagram_size_max);
  for (unsigned w = 0; w < config.workers; ++w) {
    auto inbox = std::make_unique<worker_inbox>();
    inbox->woken = value_ring(s->sessions_max + 1, 4, RING_F_MP_HTS_ENQ | RING_F_SC_DEQ);
    inbox->parcels = value_ring(config.volatile_messages_max, sizeof(volatile_parcel),
                                RING_F_MP_HTS_ENQ | RING_F_SC_DEQ);
    s->inboxes.push_back(std::move(inbox));
  }
  for (unsigned w = 0; w < config.workers; ++w) {
    auto timers = timer_set::create(s->sessions_max);
    if (!timers) return timers.error();
    auto impl = std::make_unique<broker_worker::impl>(*s, w, std::move(timers).value());
    s->workers.push_back(std::unique_ptr<broker_worker>(new broker_worker(std::move(impl))));
  }
  s->opened.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  return std::unique_ptr<broker>(new broker(std::move(s)));
}

broker_worker::impl::impl(broker::shared& s, unsigned n, std::unique_ptr<timer_set> t)
    : shared(s), config(s.config), state(*s.state), on(s.state->medium()), number(n),
      topics(s.config.topics_max, s.config.registrations_max,
             static_cast<std::uint32_t>(s.state->subscriptions_max())),
      timers(std::move(t)), tsc_hz(rte_get_tsc_hz()),
      queues_grow(config.queue_slots_first != 0 && config.queue_slots_first < config.queue_slots),
      drain_bytes_max(on.drain_bytes_max() / 2), planned(s.sessions_max),
      nodes(s.config.volatile_messages_max) {
  // What a burst needs at most in the usual case; a wider fan-out grows these once.
  constexpr std::size_t burst_max = 1024;
  staged.reserve(burst_max);
  targets.reserve(16 * burst_max);
  volatile_targets.reserve(16 * burst_max);
  groups.reserve(16 * burst_max);
  refs.reserve(16 * burst_max);
  ready.reserve(s.sessions_max);
  ready_next.reserve(s.sessions_max);
  dirty.reserve(s.sessions_max);
  for (std::uint32_t i = static_cast<std::uint32_t>(nodes.size()); i-- > 0;)
    free_nodes.push_back(i);
}

broker_worker::broker_worker(std::unique_ptr<impl> i) : impl_(std::move(i)) {}
broker_worker::~broker_worker() = default;
void broker_worker::attach(transport& out) noexcept {
  impl_->out = &out;
}
void broker_worker::receive(client_address from, std::span<const std::byte> datagram) noexcept {
  impl_->receive(from, datagram);
}
bool broker_worker::end_burst() noexcept {
  return impl_->end_burst();
}

broker_worker& broker::worker(unsigned number) noexcept {
  return *shared_->workers[number];
}
unsigned broker::workers() const noexcept {
  return shared_->config.workers;
}
const broker_config& broker::config() const noexcept {
  return shared_->config;
}
const open_summary& broker::opened() const noexcept {
  return shared_->opened;
}
chainring::region& broker::region() noexcept {
  return *shared_->on;
}
store& broker::state() noexcept {
  return *shared_->state;
}

unsigned broker::home_of(client_address from, std::span<const std::byte> datagram) noexcept {
  if (shared_->config.workers == 1) return 0;
  // CONNECT says whose it is; everything else goes where its sender's session lives.
  const std::size_t header = !datagram.empty() && datagram[0] == std::byte{1} ? 3 : 1;
  if (datagram.size() > header &&
      datagram[header] == static_cast<std::byte>(mqttsn::message_type::connect)) {
    mqttsn::message m;
    if (mqttsn::decode(datagram, m) == mqttsn::decode_status::ok)
      return shared_->home_of(m.get<mqttsn::connect>()->client_id);
    return 0;
  }
  const auto at = shared_->addresses->get(from);
  return at ? shared_->sessions[*at].home.load(std::memory_order_relaxed) // [W2] a hint
            : static_cast<unsigned>(from % shared_->config.workers);
}

namespace {

void add(broker_counters& to, const basic_broker_counters<statistic>& from) {
  std::array<std::uint64_t, sizeof from / sizeof(statistic)> values;
  std::size_t i = 0;
  from.for_each([&](const char*, auto member) { values[i++] = (from.*member).value(); });
  i = 0;
  to.for_each([&](const char*, auto member) { to.*member += values[i++]; });
}

} // namespace

broker_counters broker::counters(unsigned worker) const {
  broker_counters sum{};
  add(sum, shared_->workers[worker]->impl_->count);
  return sum;
}

broker_counters broker::counters() const {
  broker_counters sum{};
  for (const auto& w : shared_->workers)
    add(sum, w->impl_->count);
  return sum;
}

std::uint32_t broker::sessions(std::uint32_t first, std::size_t max,
                               std::vector<session_info>& out) const {
  std::uint32_t n = first;
  for (; n < shared_->sessions_max && out.size() < max; ++n) {
    const session& s = shared_->sessions[n];
    const connection c = s.state.load(std::memory_order_acquire); // [W1]
    if (c == connection::none) continue;
    session_info i;
    i.number = n;
    i.client_id = shared_->state->client_id_seen(n);
    i.connected = c == connection::active;
    i.address = i.connected ? s.address.load(std::memory_order_relaxed) : 0; // [W2] as of now
    i.clean = (shared_->state->session_state_of(n).flags & session_flag_clean) != 0;
    i.home = s.home.load(std::memory_order_relaxed);                 // [W2] as of now
    i.keep_alive_s = s.keep_alive_s.load(std::memory_order_relaxed); // [W2] as of now
    const queue_statistics q = shared_->state->queues().statistics(n);
    i.queue_depth = q.depth;
    i.queue_capacity = q.capacity;
    i.queue_high_water = q.high_water;
    out.push_back(std::move(i));
  }
  return n < shared_->sessions_max ? n : 0;
}

std::vector<topic_info> broker::topics(std::size_t max) const {
  std::vector<topic_info> list;
  shared_->filters->for_each(max, [&](std::string_view filter, std::uint32_t subscriptions) {
    list.push_back({std::string(filter), subscriptions});
  });
  return list;
}

std::uint32_t broker::session_count() const noexcept {
  return static_cast<std::uint32_t>(shared_->clients->len());
}
std::uint32_t broker::subscription_count() const noexcept {
  return shared_->filters->subscription_count();
}

result<void> broker::grow(std::uint64_t size) {
  return shared_->state->grow(size);
}

result<void> broker::close() {
  shared_->workers.clear();
  return shared_->on->close();
}

} // namespace chainring
