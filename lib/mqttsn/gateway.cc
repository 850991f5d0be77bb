// SPDX-License-Identifier: BSD-3-Clause
// The gateway's set-up, and the calls of a worker's loop.
//
// Its ordering labels are described in connect.cc.
#include "mqttsn/gateway.h"

#include <rte_cycles.h>
#include <rte_ring.h>

#include "map/map_hash.h"
#include "mqttsn/gateway_state.h"

namespace chainring::mqttsn {

std::uint32_t payload_size_max(std::size_t datagram_size) noexcept {
  if (datagram_size <= 7) return 0;
  return static_cast<std::uint32_t>(datagram_size <= 0xff
                                        ? datagram_size - 7
                                        : std::max<std::size_t>(datagram_size - 9, 0xff - 7));
}

gateway::gateway(std::unique_ptr<common_state> s) : common_(std::move(s)) {}
gateway::~gateway() {
  common_->workers.clear(); // the workers refer to the other members
}

result<std::unique_ptr<gateway>> gateway::create(broker& core, const gateway_config& config) {
  if (config.datagram_size_max < 32)
    return error{errc::invalid_argument, "datagram_size_max " +
                                             std::to_string(config.datagram_size_max) +
                                             ": expected at least 32 octets"};
  if (config.will_prompts_max == 0 || config.will_prompts_max > 1u << 20)
    return error{errc::invalid_argument, "will_prompts_max " +
                                             std::to_string(config.will_prompts_max) +
                                             ": expected 1 to 1048576"};
  if (config.registrations_per_session_max == 0 || config.registrations_per_session_max > 16383)
    return error{errc::invalid_argument, "registrations_per_session_max " +
                                             std::to_string(config.registrations_per_session_max) +
                                             ": expected 1 to 16383"};
  auto s = std::make_unique<common_state>(core, config);
  for (const predefined_topic& t : config.predefined)
    s->predefined_max = std::max(s->predefined_max, t.id);
  if (const std::uint16_t first_id_max =
          registrations::first_id_max(config.registrations_per_session_max);
      s->predefined_max >= first_id_max)
    return error{errc::invalid_argument,
                 "predefined topic id " + std::to_string(s->predefined_max) +
                     ": expected at most " + std::to_string(first_id_max - 1) +
                     ", because the topic ids that the broker gives out lie above it; use lower "
                     "ids or fewer registrations for each session"};
  const std::uint32_t sessions = core.sessions_limit();
  s->address_seeds = {random_seed(), random_seed()};
  auto addresses = seq_map<address_key, std::uint32_t>::create(
      sessions, map_hash<address_key>{random_seed()}, core.sessions_capacity());
  if (!addresses) return addresses.error();
  s->addresses = std::move(addresses).value();
  if (!s->connections.make(sessions) || !s->admissions.make(sessions))
    return error{errc::no_space,
                 "there is no memory for " + std::to_string(sessions) + " connections"};
  auto places =
      will_prompts::place_map::create(std::uint64_t{config.will_prompts_max} * core.workers(),
                                      map_hash<client_address>{random_seed()});
  if (!places) return places.error();
  s->will_places = std::move(places).value();
  auto nodes = node_table::create(
      {.nodes_max = config.nodes_max, .per_forwarder_max = config.nodes_per_forwarder_max},
      [all = s.get(), places = s->will_places.get()](const client_address& a) {
        return all->addresses->get(all->key_of(a)).has_value() || places->get(a).has_value();
      });
  if (!nodes) return nodes.error();
  s->nodes = std::move(nodes).value();
  s->stranger_seed = random_seed();
  for (const predefined_topic& t : config.predefined)
    s->predefined_names[t.id] = t.name;
  for (const auto& [id, name] : s->predefined_names)
    s->predefined_ids[name] = id;
  for (unsigned w = 0; w < core.workers(); ++w)
    s->requests.push_back(std::make_unique<value_ring>(1023, sizeof(address_request),
                                                       RING_F_MP_HTS_ENQ | RING_F_SC_DEQ));
  for (unsigned w = 0; w < core.workers(); ++w) {
    auto timers = timer_set::create(core.sessions_per_worker());
    if (!timers) return timers.error();
    auto worker = std::make_unique<gateway_worker::state>(*s, w, std::move(timers).value());
    if (!worker->backlog.make(s->stranger_seed))
      return error{errc::no_space, "there is no memory for the requests that wait"};
    s->workers.push_back(std::unique_ptr<gateway_worker>(new gateway_worker(std::move(worker))));
  }
  return std::unique_ptr<gateway>(new gateway(std::move(s)));
}

gateway_worker::state::state(gateway::common_state& s, unsigned n, std::unique_ptr<timer_set> t)
    : common(s), config(s.config), core(s.core.worker(n)), topics(core.topics()),
      connections(s.connections.data()), number(n),
      ids(topics, {.entries_max = s.config.registrations_max,
                   .per_session_max = s.config.registrations_per_session_max,
                   .first_id = static_cast<std::uint16_t>(s.predefined_max + 1)}),
      senders(s.core.sessions_per_worker()), timers(std::move(t)),
      strangers(s.stranger_seed, rte_get_tsc_hz()),
      forwarder_searches(s.stranger_seed, rte_get_tsc_hz()),
      prompts(*s.will_places, n, s.config.will_prompts_max, s.config.will_prompts_per_source_max),
      tsc_hz(rte_get_tsc_hz()), waiting(64) {
  answers.reserve(4096);
  free_answers.reserve(4096);
  address_handovers.reserve(64);
}

gateway_worker& gateway::worker(unsigned number) noexcept {
  return *common_->workers[number];
}

unsigned gateway::common_state::home_of(client_address from,
                                         std::span<const std::byte> datagram) const noexcept {
  const unsigned workers = core.workers();
  if (workers == 1) return 0;
  // CONNECT names its client; any other datagram goes to the worker of its sender's connection. A
  // message behind a forwarder's header is looked at in its place.
  message m;
  message_type type = type_of(datagram);
  if (type == message_type::encapsulated) [[unlikely]] {
    if (decode(datagram, m) == decode_status::ok) {
      const auto* e = m.get<encapsulated>();
      if (const auto node = nodes->find(from, e->node_id)) from = *node;
      datagram = e->inner;
      type = type_of(datagram);
    }
  }
  if (type == message_type::connect && decode(datagram, m) == decode_status::ok)
    return core.home_of(m.get<connect>()->client_id);
  // A client that is asked for its will has no connection, or one that this CONNECT ends.
  if (type == message_type::willtopic || type == message_type::willmsg) [[unlikely]]
    if (const auto place = will_places->get(from))
      return *place / config.will_prompts_max;
  if (const auto at = addresses->get(key_of(from)))
    // [connection-home]
    if (const unsigned home = connections[*at].home_plus_1.load(std::memory_order_relaxed);
        home != 0)
      return home - 1;
  // A sleeping client may wake at an address from which it has not connected.
  if (type == message_type::pingreq && decode(datagram, m) == decode_status::ok)
    if (const std::string_view id = m.get<pingreq>()->client_id; !id.empty())
      return core.home_of(id);
  const std::uint64_t hash =
      hash_bytes(std::as_bytes(std::span(from.words)), stranger_seed);
  return static_cast<unsigned>((hash >> 32) * workers >> 32);
}

unsigned gateway::home_of(client_address from, std::span<const std::byte> datagram) const noexcept {
  return common_->home_of(from, datagram);
}

void gateway::use_rules(std::shared_ptr<const access::rule_set> rules) {
  common_->rules.publish(std::move(rules));
}

std::shared_ptr<const access::rule_set> gateway::rules() const {
  return common_->rules.newest();
}

void gateway::set_retry_interval(std::uint32_t ms) noexcept {
  common_->retry_ms.store(ms, std::memory_order_relaxed);         // [run-time-setting]
  common_->retry_ms_max.store(8 * ms, std::memory_order_relaxed); // [run-time-setting]
}
void gateway::set_retries_max(std::uint32_t n) noexcept {
  common_->retries_max.store(n, std::memory_order_relaxed); // [run-time-setting]
}

std::uint32_t gateway::timers_armed(unsigned worker) const noexcept {
  return common_->workers[worker]->state_->timers->armed();
}

gateway_counters gateway::counters(unsigned worker) const {
  gateway_counters sum{};
  add_counters(sum, common_->workers[worker]->state_->count);
  return sum;
}

gateway_counters gateway::counters() const {
  gateway_counters sum{};
  for (const auto& w : common_->workers)
    add_counters(sum, w->state_->count);
  return sum;
}

gateway_worker::gateway_worker(std::unique_ptr<state> s) : state_(std::move(s)) {}
gateway_worker::~gateway_worker() = default;

void gateway_worker::attach(net::transport& out, const net::hearing* heard) noexcept {
  state_->out.emplace(out, *state_->common.nodes);
  state_->heard = heard;
  state_->adopt_rules();
}

void gateway_worker::receive_failed(client_address from,
                                    std::span<const std::byte> datagram) noexcept {
  message m;
  if (decode(datagram, m) != decode_status::ok || m.get<pingreq>() == nullptr) return;
  if (!state_->find(from, 0).known()) return;
  ++state_->count.pings;
  state_->send_message(from, 2, pingresp{});
}

bool gateway_worker::judge(std::uint64_t now_tsc) noexcept {
  state_->now_tsc = std::max(state_->now_tsc, now_tsc);
  state_->adopt_rules();
  // Where the journal has no room, requests wait like what is in the ports.
  const bool any = state_->common.core.region().medium().has_room() && state_->take_turns();
  state_->take_address_requests();
  state_->timers->manage();
  state_->forget_old_prompts();
  if (state_->advertise_tsc <= state_->now_tsc) state_->advertise_now();
  return any;
}

CHAINRING_STAGE void gateway_worker::send(mark_t mark) noexcept {
  if (!state_->awake.empty()) [[unlikely]]
    state_->end_awakenings();
  state_->out->release(mark);
  if (!state_->address_handovers.empty()) state_->answer_address_handovers();
}

} // namespace chainring::mqttsn
