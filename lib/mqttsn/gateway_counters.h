// SPDX-License-Identifier: BSD-3-Clause
/// The counters of the MQTT-SN front end. Each counter is named after what it counts.
#pragma once
#include <cstdint>

namespace chainring::mqttsn {

/// The counters of one worker, or the sum of all workers. `Word` is std::uint64_t in sums that are
/// handed out, and `statistic` in the counters of a worker.
template <class Word> struct basic_gateway_counters {
  Word datagrams{}, malformed{}, unknown_source{}, strangers_told{}, trailing_octets{};
  Word unexpected{};
  Word requests_waited{}, requests_dropped{}; ///< for their turn among many, or beyond the limit
  Word connects_denied{}, registers_denied{}, publishes_denied{}, subscribes_denied{};
  Word deliveries_denied{}, ended_by_rules{}; // what the access rules do not allow
  Word connects{}, connects_refused{}, disconnects{}, sessions_lost{}, addresses_taken{};
  Word registers{}, registers_refused{}, pings{};
  Word will_prompts{}, will_prompts_refused{}, will_prompts_expired{}, will_updates{};
  Word sleeps{}, wakes{}, addresses_moved{}; ///< clients that sleep, and wake elsewhere
  Word pubrels{}, pubrels_sent{};
  Word published_minus_one{}, refused_topic{}, refused_unsupported{};
  Word searches{}, advertised{},
      discovery_limited{};           ///< SEARCHGW, ADVERTISE, and what was not sent
  Word forwarded{}, nodes_refused{}; ///< messages from nodes behind forwarders
  Word retransmitted{}, kept_too_long{}, dropped_too_long{}, dropped_no_id{}, ids_forgotten{},
      ids_replaced{}, refused_by_client{};
  Word answers_dropped{};

  /// Calls fn(name, member pointer) for each counter.
  template <class F> static void for_each(F&& fn) {
    using c = basic_gateway_counters;
    fn("datagrams", &c::datagrams);
    fn("malformed", &c::malformed);
    fn("unknown_source", &c::unknown_source);
    fn("strangers_told", &c::strangers_told);
    fn("trailing_octets", &c::trailing_octets);
    fn("unexpected", &c::unexpected);
    fn("requests_waited", &c::requests_waited);
    fn("requests_dropped", &c::requests_dropped);
    fn("connects_denied", &c::connects_denied);
    fn("registers_denied", &c::registers_denied);
    fn("publishes_denied", &c::publishes_denied);
    fn("subscribes_denied", &c::subscribes_denied);
    fn("deliveries_denied", &c::deliveries_denied);
    fn("ended_by_rules", &c::ended_by_rules);
    fn("connects", &c::connects);
    fn("connects_refused", &c::connects_refused);
    fn("disconnects", &c::disconnects);
    fn("sessions_lost", &c::sessions_lost);
    fn("addresses_taken", &c::addresses_taken);
    fn("registers", &c::registers);
    fn("registers_refused", &c::registers_refused);
    fn("pings", &c::pings);
    fn("will_prompts", &c::will_prompts);
    fn("will_prompts_refused", &c::will_prompts_refused);
    fn("will_prompts_expired", &c::will_prompts_expired);
    fn("will_updates", &c::will_updates);
    fn("sleeps", &c::sleeps);
    fn("wakes", &c::wakes);
    fn("addresses_moved", &c::addresses_moved);
    fn("pubrels", &c::pubrels);
    fn("pubrels_sent", &c::pubrels_sent);
    fn("published_minus_one", &c::published_minus_one);
    fn("refused_topic", &c::refused_topic);
    fn("refused_unsupported", &c::refused_unsupported);
    fn("searches", &c::searches);
    fn("advertised", &c::advertised);
    fn("discovery_limited", &c::discovery_limited);
    fn("forwarded", &c::forwarded);
    fn("nodes_refused", &c::nodes_refused);
    fn("retransmitted", &c::retransmitted);
    fn("kept_too_long", &c::kept_too_long);
    fn("dropped_too_long", &c::dropped_too_long);
    fn("dropped_no_id", &c::dropped_no_id);
    fn("ids_forgotten", &c::ids_forgotten);
    fn("ids_replaced", &c::ids_replaced);
    fn("refused_by_client", &c::refused_by_client);
    fn("answers_dropped", &c::answers_dropped);
  }
};
using gateway_counters = basic_gateway_counters<std::uint64_t>;

/// Calls fn(name, value) for each counter.
template <class F> void for_each_counter(const gateway_counters& c, F&& fn) {
  gateway_counters::for_each([&](const char* name, auto member) { fn(name, c.*member); });
}

} // namespace chainring::mqttsn
