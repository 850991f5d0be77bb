// SPDX-License-Identifier: BSD-3-Clause
/// The counters of the core. Each counter is named after what it counts.
#pragma once
#include <cstdint>

namespace chainring {

/// The counters of one worker, or the sum of all workers. `Word` is std::uint64_t in sums that are
/// handed out, and `statistic` in the counters of a worker.
template <class Word> struct basic_broker_counters {
  Word opens{}, opens_refused{}, opens_refused_source{}, closes{}, taken_over{}, kicked{},
      expired{};
  Word subscribes{}, unsubscribes{}, subscribes_refused{};
  Word published_qos0{}, published_qos1{}, published_qos2{};
  Word repeated_qos2{};       ///< QoS 2 publishes whose identifier was known
  Word released_qos2{};       ///< identifiers that their publishers closed
  Word received_qos2{};       ///< QoS 2 messages that subscribers have received
  Word refused_identifiers{}; ///< QoS 2 publishes beyond the limit of open identifiers
  Word refused_congestion{}, refused_too_long{}, refused_draining{};
  Word received_in_place{}; ///< payloads that became messages where they were received
  Word received_copied{};   ///< those that were long enough for that, and were copied all the same
  Word set_aside{}; ///< publishes that waited for room at another worker or for a retained topic
  Word placed{}, delivered{}, delivered_qos0{}, acked{}, given_back{}, skipped{};
  Word dropped_qos0{}, dropped_newest{}, dropped_oldest{}, dropped_by_client{}, dropped_denied{},
      cleared{}, damaged{};
  Word expired_messages{};  ///< messages that expired in a queue
  Word over_queue_bytes{};  ///< messages that found a queue at its limit of bytes
  Word retained_expired{};  ///< retained messages that expired
  Word retained{};          ///< publishes that became the retained message of their topic
  Word retained_cleared{};  ///< topics whose retained message was cleared
  Word retained_refused{};  ///< publishes that were not retained for a limit or for want of room
  Word retained_sent{};     ///< retained messages that new subscriptions were given
  Word retained_given_up{}; ///< subscriptions whose other retained messages were given up
  Word retained_scans_refused{}; ///< subscriptions refused because so many are given such messages
  Word groups_made{}, groups_ended{};
  Word groups_refused{};        ///< shared subscriptions refused because there was no free group
  Word group_members_refused{}; ///< shared subscriptions refused because the group was full
  Word group_memberships_refused{}; ///< shared subscriptions of sessions that are in enough groups
  Word group_leases_ended{}; ///< messages taken back from a member that did not answer in time
  /// Visits of members that could take nothing because they, or their worker, have as many messages
  /// from groups as they may have.
  Word group_leases_refused{};
  Word group_messages_declined{}; ///< messages that went to another member for a refusal or a rule
  /// Messages whose refusals were forgotten, because so many others were refused.
  Word group_refusals_forgotten{};
  Word group_moves{};         ///< messages that members took at QoS 2 into their own queues
  Word group_moves_refused{}; ///< those for which the member's queue had no room
  Word wills_set{}, wills_deleted{}, wills_refused{};
  Word wills_sent{}, wills_dropped{}; ///< dropped: damaged, or its receivers had no room in time
  Word bursts{}, drains{}, drain_tsc{};

  /// Calls fn(name, member pointer) for each counter.
  template <class F> static void for_each(F&& fn) {
    using c = basic_broker_counters;
    fn("opens", &c::opens);
    fn("opens_refused", &c::opens_refused);
    fn("opens_refused_source", &c::opens_refused_source);
    fn("closes", &c::closes);
    fn("taken_over", &c::taken_over);
    fn("kicked", &c::kicked);
    fn("expired", &c::expired);
    fn("subscribes", &c::subscribes);
    fn("unsubscribes", &c::unsubscribes);
    fn("subscribes_refused", &c::subscribes_refused);
    fn("published_qos0", &c::published_qos0);
    fn("published_qos1", &c::published_qos1);
    fn("published_qos2", &c::published_qos2);
    fn("repeated_qos2", &c::repeated_qos2);
    fn("released_qos2", &c::released_qos2);
    fn("received_qos2", &c::received_qos2);
    fn("refused_identifiers", &c::refused_identifiers);
    fn("refused_congestion", &c::refused_congestion);
    fn("refused_too_long", &c::refused_too_long);
    fn("refused_draining", &c::refused_draining);
    fn("received_in_place", &c::received_in_place);
    fn("received_copied", &c::received_copied);
    fn("set_aside", &c::set_aside);
    fn("placed", &c::placed);
    fn("delivered", &c::delivered);
    fn("delivered_qos0", &c::delivered_qos0);
    fn("acked", &c::acked);
    fn("given_back", &c::given_back);
    fn("skipped", &c::skipped);
    fn("dropped_qos0", &c::dropped_qos0);
    fn("dropped_newest", &c::dropped_newest);
    fn("dropped_oldest", &c::dropped_oldest);
    fn("dropped_by_client", &c::dropped_by_client);
    fn("dropped_denied", &c::dropped_denied);
    fn("cleared", &c::cleared);
    fn("damaged", &c::damaged);
    fn("expired_messages", &c::expired_messages);
    fn("over_queue_bytes", &c::over_queue_bytes);
    fn("retained_expired", &c::retained_expired);
    fn("retained", &c::retained);
    fn("retained_cleared", &c::retained_cleared);
    fn("retained_refused", &c::retained_refused);
    fn("retained_sent", &c::retained_sent);
    fn("retained_given_up", &c::retained_given_up);
    fn("retained_scans_refused", &c::retained_scans_refused);
    fn("groups_made", &c::groups_made);
    fn("groups_ended", &c::groups_ended);
    fn("groups_refused", &c::groups_refused);
    fn("group_members_refused", &c::group_members_refused);
    fn("group_memberships_refused", &c::group_memberships_refused);
    fn("group_leases_ended", &c::group_leases_ended);
    fn("group_leases_refused", &c::group_leases_refused);
    fn("group_messages_declined", &c::group_messages_declined);
    fn("group_refusals_forgotten", &c::group_refusals_forgotten);
    fn("group_moves", &c::group_moves);
    fn("group_moves_refused", &c::group_moves_refused);
    fn("wills_set", &c::wills_set);
    fn("wills_deleted", &c::wills_deleted);
    fn("wills_refused", &c::wills_refused);
    fn("wills_sent", &c::wills_sent);
    fn("wills_dropped", &c::wills_dropped);
    fn("bursts", &c::bursts);
    fn("drains", &c::drains);
    fn("drain_tsc", &c::drain_tsc);
  }
};
using broker_counters = basic_broker_counters<std::uint64_t>;

/// Calls fn(name, value) for each counter.
template <class F> void for_each_counter(const broker_counters& c, F&& fn) {
  broker_counters::for_each([&](const char* name, auto member) { fn(name, c.*member); });
}

} // namespace chainring
