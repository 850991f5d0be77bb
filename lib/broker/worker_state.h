// SPDX-License-Identifier: BSD-3-Clause
/// A worker's state and the parts of its burst, in the order a burst goes through them. Internal to
/// the broker.
///
///   sessions.cc   sessions opened, closed, taken over, expired; incarnations that end
///   publish.cc    messages in: matched, room decided for all targets, staged or set aside
///   subscribe.cc  subscriptions staged, and made durable with the burst
///   burst.cc      the burst made durable: placed, drained, published, drained, settled
///   deliver.cc    messages out: leased, offered, acknowledged, given back
///   inbox.cc      what other workers, operators and the clock left to do
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/statistic.h"
#include "broker/plan.h"
#include "broker/shared.h"
#include "broker/worker.h"
#include "topic/topic_names.h"

namespace chainring {

struct broker_worker::state {
  static constexpr std::uint32_t none = 0xffffffff;

  /// A QoS 1 publish between its match and its settlement.
  struct staged_publish {
    message content;
    front_end* by = nullptr;
    std::uint64_t token = 0;
    std::uint32_t places = 0;                             // slots that name it, void ones included
    std::uint32_t volatile_copy = none;                   // for subscribers at QoS 0
    std::uint32_t volatile_first = 0, volatile_count = 0; // in volatile_targets
    bool refused = false;
    bool lost = false; // memory its content lay in is gone: it is not acknowledged
  };
  /// One queue a staged publish goes to.
  struct target {
    std::uint32_t session;
    std::uint32_t incarnation;
    std::uint32_t publish; // index into staged
    std::uint16_t bits;
    bool makes_room;    // the queue is full, and its oldest message goes for this one
    std::uint32_t free; // places of the queue when it was matched
  };
  struct volatile_target {
    std::uint32_t session;
    std::uint32_t incarnation;
    std::uint8_t bits;
  };
  /// A run of targets of one life of one queue, placed together.
  struct group {
    std::uint32_t first, count;
    bool makes_room = false;
    bool placed = false;
    chainring::placement placement{};
  };
  /// A publish whose content is kept while another worker makes room for it.
  struct aside_publish {
    message content;
    front_end* by;
    std::uint64_t token;
    std::uint64_t until_tsc;
    std::uint64_t ask_tsc; // when the other worker is asked again
    std::uint32_t topic;   // held
    std::uint32_t from, from_incarnation;
    std::uint32_t volatile_copy; // made before anything could change, or none
  };
  struct volatile_node {
    std::uint32_t message;
    std::uint32_t next;
    std::uint8_t bits;
  };
  /// An incarnation that ends in this burst. Its filters left the index when it was staged.
  struct ending {
    std::uint32_t session;
    std::uint32_t incarnation;
    std::uint32_t names_first, names_count; // in ended_filters
    bool keep;
    bool finished; // its queue has been restarted
    identity_key identity;
  };
  struct staged_subscription {
    front_end* by;
    std::uint64_t token;
    std::uint32_t session, incarnation;
    std::uint32_t filter_at, filter_size; // in filter_text
    std::uint32_t options, identifier;
    bool remove;
    bool applied;
    outcome result;
  };
  struct answer {
    front_end* to;
    settlement said;
  };

  state(broker::shared& s, unsigned number);

  broker::shared& shared;
  const broker_config& config;
  store& durable;
  media& medium;
  const unsigned number;
  topic_names names;
  std::uint64_t now_tsc = 0;
  std::uint64_t tsc_hz;
  const bool queues_grow;
  const std::uint64_t drain_bytes_max; // what one drain covers at most; half, as others flush too
  std::uint64_t maintain_at = 0;       // when queues are looked after next
  std::uint32_t sweep_from = 0;        // the session that is looked after next
  std::uint64_t losses = 0;            // media::losses() before what is staged was copied in
  std::uint64_t told_full_at = 0;      // when a full queue was reported last
  std::uint64_t full_untold = 0;
  bool did_work = false;
  std::uint64_t moved = 0; // messages that left a queue in any way, ever
  basic_broker_counters<statistic> count;

  std::vector<staged_publish> staged;
  std::vector<target> targets;
  std::vector<volatile_target> volatile_targets;
  std::vector<group> groups;
  std::vector<slot_ref> refs; // of one group
  plan_table planned;         // places this burst wants, by session
  std::vector<aside_publish> aside;
  std::vector<ending> endings;
  std::vector<std::string> ended_filters; // reused: strings keep their memory
  std::size_t ended_filters_used = 0;
  std::vector<staged_subscription> subscriptions;
  std::string filter_text;
  std::vector<std::uint32_t> records; // sessions whose record is to be flushed
  std::vector<answer> answers;        // in the order of the calls
  std::vector<settlement> settled_now;
  std::vector<std::uint32_t> ready, ready_next; // sessions to look at for deliveries
  std::vector<std::uint32_t> dirty;             // sessions with acks to make durable
  std::vector<std::uint32_t> releasing;         // queues that make_room() releases
  std::vector<volatile_node> nodes;
  std::vector<std::uint32_t> free_nodes;
  std::vector<in_flight_node> flights;
  std::vector<std::uint32_t> free_flights;
  std::vector<char> name_buffer;
  std::vector<operator_request> requests;

  [[nodiscard]] session& at(std::uint32_t n) noexcept { return shared.sessions[n]; }
  [[nodiscard]] bool own(std::uint32_t n) noexcept;
  void drain() noexcept;
  void answer_with(front_end* to, std::uint64_t token, outcome o) noexcept {
    if (to != nullptr) answers.push_back({to, {token, o}});
  }
  void tell(broker_event::kind what, std::uint32_t n, std::uint64_t held = 0,
            std::uint64_t more = 0) noexcept;

  // sessions.cc
  [[nodiscard]] opened_session open(front_end& by, std::string_view identity,
                                    const session_options& options, std::uint64_t token) noexcept;
  [[nodiscard]] std::uint32_t create(std::string_view identity, const identity_key& key,
                                     const session_options& options) noexcept;
  void close(std::uint32_t n, end_reason reason) noexcept;
  /// The connection is over. Nothing of it is delivered any more.
  void detach(session& s, std::uint32_t n) noexcept;
  void disconnected(session& s, std::uint32_t n) noexcept;
  void end_session(std::uint32_t n, broker_event::kind why) noexcept;
  void begin_ending(session& s, std::uint32_t n, bool keep, std::uint8_t flags,
                    const session_settings& settings) noexcept;
  void finish_endings() noexcept;
  void free_number(session& s, std::uint32_t n) noexcept;
  [[nodiscard]] bool expired(session& s, std::uint32_t n) noexcept;
  void make_record_dirty(session& s, std::uint32_t n) noexcept;

  // publish.cc
  enum class room : std::uint8_t { there, changed, full, wait };
  void publish(front_end& by, std::uint32_t from, std::uint32_t topic,
               std::span<const std::byte> content, const publish_options& options,
               std::uint64_t token) noexcept;
  void publish_volatile(std::uint32_t topic, std::span<const std::byte> content,
                        std::span<const subscriber> to) noexcept;
  [[nodiscard]] room find_room(std::uint32_t topic, std::size_t& targets_before,
                               std::size_t& volatile_before) noexcept;
  [[nodiscard]] bool reserve(std::uint32_t topic, std::uint32_t from,
                             std::span<const std::byte> content, const publish_options& options,
                             message& out) noexcept;
  void stage(staged_publish& p, std::size_t targets_before, std::size_t volatile_before) noexcept;
  void set_aside(const aside_publish& p) noexcept;
  [[nodiscard]] bool prepare_rings(std::size_t targets_before) noexcept;
  void ask_for_room(std::size_t targets_before) noexcept;
  void retry_aside() noexcept;
  void report_full(std::uint32_t n) noexcept;

  // subscribe.cc
  void subscribe(std::uint32_t n, std::string_view filter, const subscribe_options& options,
                 std::uint64_t token, bool remove) noexcept;
  void apply_subscriptions(durable_map::batch& batch) noexcept;
  void erase_ended(durable_map::batch& batch) noexcept;
  void finish_subscriptions() noexcept;

  // burst.cc
  void end_burst() noexcept;
  void collect_groups() noexcept;
  void place() noexcept;
  [[nodiscard]] bool place_group(group& g, bool may_try_again) noexcept;
  void make_room() noexcept;
  [[nodiscard]] place_status place_in_larger(std::uint32_t q, std::uint32_t incarnation,
                                             placement& out) noexcept;
  void settle_groups() noexcept;
  void make_durable() noexcept;
  void find_lost() noexcept;
  void finish_publishes() noexcept;
  void say_settled() noexcept;
  void make_ready(session& s, std::uint32_t n) noexcept;
  void make_dirty(session& s, std::uint32_t n) noexcept;

  // deliver.cc
  void hand_volatile(std::uint32_t message, const volatile_target& to) noexcept;
  void keep_volatile(session& s, std::uint32_t n, std::uint32_t message,
                     std::uint8_t bits) noexcept;
  void drop_volatile(session& s, bool all) noexcept;
  void drop_asked(session& s, std::uint32_t n) noexcept;
  void forget_dropped(session& s, std::uint32_t n) noexcept;
  void deliver(session& s, std::uint32_t n) noexcept;
  [[nodiscard]] bool offer_volatile(session& s, std::uint32_t n) noexcept;
  [[nodiscard]] bool offer_leased(session& s, std::uint32_t n) noexcept;
  [[nodiscard]] bool describe(session& s, std::uint32_t n, const leased& l,
                              delivery_item& out) noexcept;
  void settle_unseen(std::uint32_t n, std::uint64_t ticket) noexcept;
  [[nodiscard]] bool add_in_flight(session& s, std::uint64_t ticket) noexcept;
  bool remove_in_flight(session& s, std::uint64_t ticket) noexcept;
  void clear_in_flight(session& s) noexcept;
  void ack(std::uint32_t n, std::uint64_t ticket, ack_reason reason) noexcept;
  void give_back(std::uint32_t n, std::uint64_t ticket) noexcept;
  void skip(std::uint32_t n, std::uint64_t ticket) noexcept;

  // inbox.cc
  void wake(std::uint32_t n) noexcept;
  bool take_woken() noexcept;
  bool take_parcels() noexcept;
  void take_requests() noexcept;
  void look_after_sessions() noexcept;
};

} // namespace chainring
