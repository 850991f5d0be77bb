// SPDX-License-Identifier: BSD-3-Clause
/// The state of a worker, and the parts of its burst in the order in which they run. Internal to
/// the broker.
///
///     sessions.cc     sessions that open, close or expire, and incarnations that end
///     publish.cc      publishing: matching, finding room, staging or setting aside
///     direct.cc       the most frequent publish, which is placed when it arrives
///     received.cc     payloads that become messages where a port has received them
///     identifiers.cc  QoS 2: identifiers of publishers, and receipts of subscribers
///     subscribe.cc    subscriptions that are staged and made durable with the burst
///     sharing.cc      shared subscriptions: members that join and leave, and groups that end
///     leases.cc       shared subscriptions: messages that members lease from their groups
///     moves.cc        shared subscriptions at QoS 2: messages that move to a member's own queue
///     burst.cc        the burst: place, drain, publish, drain, settle
///     worker.cc       the calls of front ends
///     deliver.cc      delivering: messages are leased, offered, acknowledged or given back
///     inbox.cc        what other workers, operators and the clock ask for
///     retain.cc       retained messages: claims, the cells of the burst, what becomes of them
///     scan.cc         retained messages for new subscriptions
///     limits.cc       what a queue may hold, and what becomes of a message for a full one
///     wills.cc        wills that are set, replaced, and sent when a connection is lost
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/statistic.h"
#include "broker/burst_cells.h"
#include "broker/burst_credit.h"
#include "broker/common_state.h"
#include "broker/group_lease.h"
#include "broker/message_content.h"
#include "broker/plan.h"
#include "broker/received_content.h"
#include "broker/scan_job.h"
#include "broker/worker.h"
#include "ring/consumer.h"
#include "topic/topic_names.h"

namespace chainring {

struct broker_worker::state {
  static constexpr std::uint32_t none = 0xffffffff;
  /// How many sessions of a wide fan-out have their turn in a round in which fewer messages and
  /// answers came.
  static constexpr std::size_t deliveries_max = 64;
  /// How often in a second a worker looks after its sessions, queues, groups and wills.
  static constexpr std::uint32_t maintain_hz = 20;

  /// A publish at QoS 1 or 2, or one that is to be retained, from its match to its settlement.
  struct staged_publish {
    message content;
    front_end* by = nullptr;
    std::uint64_t token = 0;
    bool kept = false;                  // it has a descriptor, and is published with the burst
    std::uint32_t places = 0;           // the slots that name it, including void ones
    std::uint32_t volatile_copy = none; // the copy for subscribers at QoS 0
    std::uint32_t volatile_first = 0, volatile_count = 0; // a range of volatile_targets
    std::uint32_t retained = none;     // the entry that it has claimed in the retained table
    std::uint64_t retained_before = 0; // the word of the topic's message so far
    std::uint64_t matched_version = 0; // of the index of filters
    // The topic, which the publish holds until the burst is over, and the content where it lies in
    // one extent. Both are none for a publish that is not delivered from what the worker knows.
    std::uint32_t topic = none;
    std::span<const std::byte> octets{};
    std::uint32_t scan = none;    // the scan for which it was placed, if it was
    bool erases = false;          // it only erases the cell of its topic
    bool cell_stored = false;     // the burst has stored its cell
    std::uint32_t will_of = none; // the session whose will it is; the message is held, and no one
                                  // waits for an answer
    bool gives_own = false;       // one of its places has the publisher's reference
    bool refused = false;
    bool lost = false; // memory of its content is lost, so it is not acknowledged
    /// True for a client's publish at QoS 0, which is here because it is to be retained.
    [[nodiscard]] bool is_qos_0() const noexcept { return by == nullptr && will_of == none; }
    /// True when the burst publishes a message on media for it.
    [[nodiscard]] bool published() const noexcept { return (kept || will_of != none) && !refused; }
  };
  /// A publish at QoS 1 for one session, which is placed already: see direct.cc.
  struct direct_publish {
    // publish_direct() sets every member, so none is cleared before.
    direct_publish() noexcept {} // NOLINT(modernize-use-equals-default)
    staged_message content;
    chainring::placement placement;
    slot_ref ref; // as it stands in the slot
    front_end* by;
    std::uint64_t token;
    std::uint32_t session, incarnation; // of the subscriber
    std::uint32_t topic;                // the publish holds it until the burst is over
    std::uint16_t bits;                 // a slot_delivery
    bool lost = false;                  // as of a staged_publish
  };
  /// One queue to which a staged publish goes.
  struct target {
    std::uint32_t session;
    std::uint32_t incarnation;
    std::uint32_t publish; // an index into staged
    std::uint16_t bits;
    bool makes_room;           // the queue is full and drops its oldest message for this one
    std::uint16_t sealed = 0;  // the bits as they stand in the slot, with their check
    std::uint32_t next = none; // the next target of its group, while the burst is collected
  };
  struct volatile_target {
    std::uint32_t session;
    std::uint32_t incarnation;
    std::uint8_t bits;
  };
  /// The targets of one incarnation of one queue, which are placed together. While the burst is
  /// collected they are a list, and from collect_groups() on a run of `targets`.
  struct group {
    std::uint32_t first, count;
    std::uint32_t last; // the end of the list
    bool makes_room = false;
    bool placed = false;
    bool impossible = false; // dropping makes no room for it
    chainring::placement placement{};
  };
  /// A publish whose content is kept while another worker makes room for it.
  struct aside_publish {
    message content;
    front_end* by;
    std::uint64_t token;
    std::uint64_t until_tsc;
    std::uint64_t ask_tsc; // when to ask the other worker again
    bool for_claim;        // it waits for the claim of a retained topic, or behind one that does
    bool counted;          // it was matched, and counted where it found a limit of bytes
    std::uint32_t topic;   // the publish holds this topic
    std::uint32_t from;
    std::uint32_t volatile_copy;        // the copy for subscribers at QoS 0, or none
    std::uint32_t from_incarnation = 0; // set_aside() notes it
    std::uint32_t claim_tries = 0;
  };
  struct volatile_node {
    std::uint32_t message;
    std::uint32_t next;
    std::uint8_t bits;
  };
  /// An incarnation that ends in this burst. Its filters left the index when the end was staged.
  struct ending {
    std::uint32_t session;
    std::uint32_t incarnation;
    std::uint32_t names_first, names_count; // a range of ended_filters
    bool keep;
    bool finished; // its queue has been restarted
    identity_key identity;
    identifier_list identifiers; // each open one has a reference to its message
  };
  struct staged_subscription {
    front_end* by;
    std::uint64_t token;
    std::uint32_t session, incarnation;
    std::uint32_t filter_at, filter_size; // a range of filter_text
    std::uint32_t options, identifier;
    bool remove;
    bool applied;
    bool scans;  // a scan settles it
    bool undone; // the index has not accepted it, and its record is erased again
    outcome result;
    bool ended = false; // its incarnation has ended in this burst
    // Only for shared subscriptions:
    std::uint32_t place = 0; // the place in the group, plus one
    bool joins = false;      // the session was not a member before
    bool deferred = false;   // it waits for the next burst
  };
  /// A message that moves from a group's queue to its member's own in this burst.
  struct move {
    std::uint32_t session;
    std::uint64_t ticket; // of the lease
    std::uint32_t lease;
    chainring::placement placement;
  };
  /// The entries that a session may still take from one of its groups, in one call of deliver().
  struct shared_visit {
    std::uint32_t place = 0; // plus one; 0 means that the visit has not begun
    std::uint32_t left = 0;
    std::uint32_t seen = 0;
    bool over = false;
  };
  struct group_ending {
    std::uint32_t group;
    std::uint32_t incarnation;
    identity_key identity;
    bool restarted;
  };
  struct acked_slot {
    std::uint32_t group;
    std::uint64_t ticket;
  };
  /// A QoS 2 identifier that is closed in this burst.
  struct closing {
    message_ref message;
    front_end* by; // nullptr when nobody waits for it
    std::uint64_t token;
  };
  /// A QoS 2 message that its subscriber has received, noted in its slot in this burst.
  struct receipt {
    std::uint32_t session, incarnation;
    std::uint64_t ticket;
  };
  /// A change of a session's will. A new will is held before the session's record names it.
  struct staged_will {
    enum class phase : std::uint8_t { copied, held, deletion } now = phase::deletion;
    message content;
    message_cursor all; // the bytes of the content, while it is `copied`
    std::uint32_t session, incarnation, delay_s;
    front_end* by;
    std::uint64_t token;
  };
  struct answer {
    front_end* to;
    settlement result;
  };

  state(broker::common_state& s, unsigned number);

  broker::common_state& common;
  const broker_config& config;
  store& durable;
  media& medium;
  const unsigned number;
  topic_names names;
  std::uint64_t now_tsc = 0;
  std::uint64_t tsc_hz;
  const bool queues_grow;
  const bool drops_oldest; // some session's full queue drops its oldest message
  const bool slots_differ; // sessions that end with their connection have another limit
  const std::uint64_t drain_bytes_max; // half of what a drain may cover, as others flush too
  std::uint64_t maintain_at = 0;      // when to maintain queues and check sessions next
  std::uint32_t sweep_from = 0;       // the session to check next
  std::uint32_t retained_from = 0;    // the retained topic to check next, by the first worker only
  std::uint64_t losses = 0;           // media::losses() before the staged content was copied
  std::uint64_t full_reported_at = 0; // when a full queue was last reported
  std::uint64_t full_unreported = 0;
  bool did_work = false;
  std::uint32_t scans_promised = 0; // subscriptions of this burst that may need a scan
  std::uint64_t moved = 0;          // counts the messages that left a queue in any way
  basic_broker_counters<statistic> count;
  received_content in_place;

  std::vector<direct_publish> direct, direct_done; // placed, and published with this burst
  std::vector<staged_publish> staged;
  std::vector<target> targets, targets_sorted;
  // What the burst has published and placed, from the moment at which it is settled to the end of
  // the burst, for deliveries in the same burst.
  std::vector<staged_publish> staged_done;
  std::vector<target> targets_done;
  std::vector<group> groups_done;
  std::uint32_t burst_number = 1; // rises with each burst that places anything
  std::vector<volatile_target> volatile_targets;
  std::vector<group> groups;
  std::vector<slot_ref> refs;  // the references of one group
  std::uint64_t undrained = 0; // the bytes that the next drain covers: see cover()
  plan_table planned;          // the places that this burst wants in each queue
  bool any_refused = false;    // a queue has refused a message of this burst
  std::uint64_t burst_ns = 0;  // the wall clock as this burst has read it; 0: not yet
  bool burst_is_usual = false; // what begin_burst() has found with it
  // What find_room() has found: the subscribers whose queues drop this message, those whose queues
  // are at their limit of bytes, and the one whose queue refuses the message.
  std::vector<std::uint32_t> without_newest, beyond_bytes;
  std::uint32_t full_queue = none;
  std::vector<aside_publish> aside;
  std::uint32_t aside_without_session = 0; // how many of them came from no session
  std::vector<ending> endings;
  std::vector<std::string> ended_filters; // reused, so that the strings keep their memory
  std::size_t ended_filters_used = 0;
  std::vector<staged_subscription> subscriptions;
  std::string filter_text;
  std::vector<std::uint32_t> records; // the sessions whose records must be flushed
  std::vector<answer> answers;        // in the order in which they became known
  identifier_table identifiers;
  std::vector<closing> closings;
  std::vector<receipt> receipts;
  std::vector<settlement> settled_now;
  std::uint32_t own_sessions = 0; // whose home is this worker, at most sessions_per_worker
  std::vector<std::uint32_t> ready, ready_next; // the sessions that may have deliveries
  // The sessions of a wide fan-out that may have deliveries, in the order in which they became
  // ready. Those before `backlog_from` have had their turn.
  std::vector<std::uint32_t> backlog;
  std::size_t backlog_from = 0;
  std::uint64_t heard_before = 0;   // messages and answers until the last round
  std::vector<std::uint32_t> dirty; // the sessions with acks to make durable
  std::vector<staged_will> will_changes;
  std::uint32_t wills_copied = 0; // changes whose content becomes durable with this burst
  // The due wills, by session: those that are tried in this burst, and those that wait.
  std::vector<std::uint32_t> wills_now, wills_later;
  std::size_t wills_from = 0;              // the waiting will to look at next
  std::vector<std::uint32_t> former_wills; // messages that records name no more after this burst
  std::vector<std::uint32_t> releasing;    // the queues that make_room() releases
  std::vector<volatile_node> nodes;
  std::vector<in_flight_node> flights;
  std::vector<std::uint32_t> free_nodes, free_flights;
  // Shared subscriptions.
  const std::uint64_t lease_tsc;         // how long a member may keep a message; 0 means for ever
  const std::uint64_t pressed_lease_tsc; // how long where the group's queue is full; 0: as above
  const std::uint64_t skipped_tsc; // how long a message that it cannot take, where lease_tsc is 0
  detail::lazy_array<group_lease> leases;
  std::uint32_t leases_max = 0, leases_touched = 0;
  std::uint32_t free_lease = 0, oldest_lease = 0, newest_lease = 0; // plus one
  std::uint32_t offered_lease = 0;        // plus one; the lease that is offered at QoS 0 now
  std::size_t expired_from = 0;           // the own group whose queue is looked at next
  std::vector<std::uint64_t> expires_ns;  // by group, when its queue is worth a look, wall clock
  std::vector<std::uint32_t> own_members; // by group, the members whose home is this worker
  std::vector<std::uint32_t> own_groups;  // the groups that have such members
  std::vector<std::uint32_t> group_dirty, group_releases, group_retries;
  std::vector<bool> group_is_dirty;         // by group, whether it is in group_dirty
  std::vector<std::uint32_t> group_records; // the groups whose records must be flushed
  std::vector<acked_slot> acked_slots;      // the slots that must be flushed
  std::vector<move> moves;
  std::vector<std::uint32_t> resting, rested; // the sessions that rest from a group for a while
  std::vector<std::uint32_t> leaving;         // the places of members that left in this burst
  std::vector<group_ending> group_endings;    // the groups that end with the next burst
  std::string deferred_text;                  // the filters of requests that wait
  std::vector<char> name_buffer;
  std::vector<char> will_topic; // the will that is read
  std::vector<std::byte> will_content;
  std::vector<operator_request> requests;
  // The cells of retained topics that this burst changes. The batch lives in end_burst().
  burst_cells* retained_cells = nullptr;
  std::vector<std::uint32_t> tidy;      // the claimed entries whose cells this worker tidies up
  std::uint32_t tidied_now = 0;         // how many of them this burst tidies up
  std::vector<operator_request> clears; // topics that an operator asked to clear
  std::vector<scan_job> scans;          // all places for scans, which keep their memory
  std::vector<std::uint32_t> free_scans, running_scans;
  bool scans_may_go_on = false;          // a session with a stalled scan has got room
  std::vector<std::byte> content_buffer; // of the longest content
  // The properties of the message that is offered.
  std::vector<std::byte> properties_buffer, will_properties;
  message_extras extras;

  [[nodiscard]] session& at(std::uint32_t n) noexcept { return common.sessions[n]; }
  /// True for a session that is connected and whose home is this worker.
  [[nodiscard, gnu::always_inline]] bool own(std::uint32_t n) noexcept {
    if (n >= durable.sessions_max()) return false;
    // [home-read] Without it a worker could use the home of the session's former life.
    return at(n).state.load(std::memory_order_acquire) == connection::active &&
           at(n).home.load(std::memory_order_relaxed) == number;
  }
  void drain() noexcept;
  void cover(std::uint64_t bytes) noexcept;
  void answer_with(front_end* to, std::uint64_t token, outcome o) noexcept {
    if (to != nullptr && token != no_token) answers.push_back({to, {token, o}});
  }
  void notify_observer(broker_event::kind what, std::uint32_t n, std::uint64_t held = 0,
                       std::uint64_t more = 0) noexcept;

  // These functions are in sessions.cc.
  [[nodiscard]] opened_session open(front_end& by, std::string_view identity,
                                    const session_options& options, std::uint64_t token) noexcept;
  [[nodiscard]] std::uint32_t create(std::string_view identity, const identity_key& key,
                                     const session_options& options) noexcept;
  void close(std::uint32_t n, end_reason reason, std::uint64_t token) noexcept;
  /// Takes the connection off the session, so that nothing more is delivered to it.
  void detach(session& s, std::uint32_t n) noexcept;
  void disconnected(session& s, std::uint32_t n, end_reason reason) noexcept;
  void set_expiry(std::uint32_t n, std::uint32_t expiry_s, bool ends_with_connection) noexcept;
  void end_session(std::uint32_t n, broker_event::kind why) noexcept;
  void end_after_will(session& s, std::uint32_t n) noexcept;
  void begin_ending(session& s, std::uint32_t n, bool keep, std::uint8_t flags,
                    const session_settings& settings) noexcept;
  void finish_endings() noexcept;
  [[nodiscard]] bool enter_source(std::uint64_t source) noexcept;
  void leave_source(std::uint64_t source) noexcept;
  [[nodiscard]] bool move_to_source(session& s, std::uint64_t source) noexcept;
  void free_number(session& s, std::uint32_t n) noexcept;
  [[nodiscard]] bool expired(session& s, std::uint32_t n) noexcept;
  void forget_will(std::uint64_t before, std::uint64_t now) noexcept;
  void change_settings(session& s, std::uint32_t n, const session_settings& settings) noexcept;
  void sleep(std::uint32_t n, std::uint32_t duration_s, std::uint64_t token) noexcept;
  void make_record_dirty(session& s, std::uint32_t n) noexcept;

  // These functions are in retain.cc.
  enum class claim_party : std::uint8_t { publishes, wills, operators };
  static constexpr unsigned claim_parties = 3;
  [[nodiscard]] retained_table::asker asker_for(claim_party party) const noexcept;
  void clear_retained() noexcept;
  void give_up_claim(staged_publish& p) noexcept;
  void store_cells() noexcept;
  void store_cell(staged_publish& p) noexcept;
  void finish_cells() noexcept;
  void finish_retained(staged_publish& p) noexcept;
  void drop_named(std::uint64_t word) noexcept;

  // These functions are in scan.cc.
  [[nodiscard]] bool needs_scan(std::string_view filter) noexcept;
  [[nodiscard]] bool has_its_share_of_scans(const session& s, std::uint32_t n,
                                            std::string_view filter) noexcept;
  [[nodiscard]] bool is_at_subscription_limit(std::uint32_t n) noexcept;
  [[nodiscard]] bool may_scan(bool may_give_up = true) noexcept;
  void let_scans_go_on(session& s) noexcept;
  [[nodiscard]] bool begin_scan(const staged_subscription& p, std::string_view filter) noexcept;
  void run_scans() noexcept;
  void run_scan(std::uint32_t job, std::uint32_t& budget) noexcept;
  [[nodiscard]] bool give_retained(std::uint32_t job, const retained_message& m) noexcept;
  [[nodiscard]] bool has_room_for_retained(const scan_job& j, std::uint8_t qos) noexcept;
  void finish_scans() noexcept;
  void end_scan(std::uint32_t job, outcome o) noexcept;
  void end_scans_of(std::uint32_t session, std::string_view filter) noexcept;
  void answer_scan(scan_job& j, outcome o) noexcept;

  // These functions are in publish.cc.
  enum class room : std::uint8_t { available, changed, full, wait };
  void publish(front_end& by, std::uint32_t from, std::uint32_t topic,
               std::span<const std::byte> content, const publish_options& options,
               std::uint64_t token) noexcept;
  void begin_burst() noexcept;
  void publish_any(front_end& by, std::uint32_t from, std::uint32_t topic,
                   const message_content& content, const publish_options& options,
                   std::uint64_t token) noexcept;
  [[nodiscard]] std::uint32_t make_copy(std::uint32_t topic, const message_content& content,
                                        const publish_options& options) noexcept;
  void know(staged_publish& p, std::uint32_t topic, std::size_t size) noexcept;
  void publish_volatile(std::uint32_t topic, std::uint32_t from, const message_content& content,
                        const publish_options& options, std::span<const subscriber> to) noexcept;
  void hand_to_all(std::uint32_t copy, std::uint32_t from, bool retain,
                   std::span<const subscriber> to) noexcept;
  [[nodiscard]] room find_room(std::uint32_t topic, std::uint32_t from, std::uint8_t qos,
                               bool retain, std::uint64_t size, std::size_t& targets_before,
                               std::size_t& volatile_before,
                               std::uint64_t& matched_version) noexcept;
  [[nodiscard]] bool waits_for_claims(std::uint32_t from) noexcept;
  [[nodiscard]] bool topic_is_waited_for(std::uint32_t topic) noexcept;
  [[nodiscard]] bool may_set_aside(std::uint32_t from) noexcept;
  [[nodiscard]] bool wait_for_claim(front_end& by, std::uint32_t from, std::uint32_t topic,
                                    const message_content& content, const publish_options& options,
                                    std::uint64_t token) noexcept;
  [[nodiscard]] message_fields fields_of(std::string_view name, std::uint32_t from,
                                         std::size_t size, const publish_options& options) noexcept;
  [[nodiscard]] bool reserve(std::uint32_t topic, std::uint32_t from,
                             const message_content& content, const publish_options& options,
                             message& out) noexcept;
  void stage(staged_publish& p, std::size_t targets_before, std::size_t volatile_before) noexcept;
  void add_to_group(std::uint32_t target, std::uint64_t size) noexcept;
  void set_aside(aside_publish p) noexcept;
  [[nodiscard]] bool prepare_rings(std::size_t targets_before) noexcept;
  void ask_for_room(std::size_t targets_before, std::uint64_t size) noexcept;
  void retry_aside() noexcept;
  void report_full(std::uint32_t n) noexcept;

  // These functions are in direct.cc.
  [[nodiscard]] bool publish_direct(front_end& by, std::uint32_t from, std::uint32_t topic,
                                    std::span<const std::byte> content,
                                    const publish_options& options, std::uint64_t token) noexcept;
  [[nodiscard]] CHAINRING_STAGE bool place_direct(direct_publish& p) noexcept;
  void flush_direct() noexcept;
  void commit_direct() noexcept;
  void finish_direct() noexcept;
  void publish_placed() noexcept;
  void report_direct() noexcept;
  void deliver_direct() noexcept;
  [[nodiscard]] bool offer_direct(session& s, const direct_publish& p,
                                  credit_of_burst& credit) noexcept;

  // These functions are in limits.cc.
  [[nodiscard]] bool is_clean(std::uint32_t subscriber) noexcept;
  [[nodiscard]] overflow_policy policy_of(std::uint32_t subscriber) noexcept;
  [[nodiscard]] std::uint32_t slots_of(std::uint32_t subscriber) noexcept;
  [[nodiscard]] std::uint32_t slots_bound(std::uint32_t subscriber) noexcept;
  [[nodiscard]] std::uint32_t room_of(std::uint32_t subscriber) noexcept;
  [[nodiscard]] bool exceeds_bytes(std::uint32_t subscriber, std::uint64_t size) noexcept;
  void note_high_water(std::uint32_t subscriber, std::uint64_t depth) noexcept;
  void count_over_bytes() noexcept;
  [[nodiscard]] std::uint32_t slots_to_free(std::uint32_t session, std::uint32_t n) noexcept;
  [[nodiscard]] std::uint64_t bytes_to_free(std::uint32_t session, std::uint64_t size) noexcept;
  [[nodiscard]] std::uint64_t group_bytes(const group& g) noexcept;
  [[nodiscard]] drop_plan plan_drop(std::uint32_t session, std::uint32_t n,
                                    std::uint64_t size) noexcept;
  [[nodiscard]] bool can_make_room(std::uint32_t session, std::uint64_t size) noexcept;

  // These functions are in identifiers.cc.
  [[nodiscard]] bool repeats(front_end& by, std::uint32_t from, std::uint16_t packet_id,
                             std::uint64_t token) noexcept;
  [[nodiscard]] bool may_identify(std::uint32_t from) noexcept;
  [[nodiscard]] identifier_table::entry* entry_of(const message& m) noexcept;
  void forget_identifier(const message& m) noexcept;
  void open_identifier_of(const message& m, bool lost) noexcept;
  void release_identifier(std::uint32_t n, std::uint16_t packet_id, std::uint64_t token) noexcept;
  void close_identifiers() noexcept;
  void finish_closings() noexcept;
  void received(std::uint32_t n, std::uint64_t ticket, std::uint64_t token) noexcept;
  void flush_receipts() noexcept;

  // These functions are in subscribe.cc.
  void subscribe(std::uint32_t n, std::string_view filter, const subscribe_options& options,
                 std::uint64_t token, bool remove) noexcept;
  void apply_subscriptions(durable_map::batch& batch) noexcept;
  void finish_subscriptions() noexcept;
  [[nodiscard]] bool give_up_ended(staged_subscription& p) noexcept;

  // These functions are in wills.cc.
  void set_will(std::uint32_t n, const will_message* will, will_part part,
                std::uint64_t token) noexcept;
  [[nodiscard]] outcome copy_will(std::uint32_t n, will_message will, will_part part,
                                  staged_will& out) noexcept;
  [[nodiscard]] outcome copy_will_again(std::uint32_t n, staged_will& out) noexcept;
  [[nodiscard]] bool read_will(std::uint32_t n, will_message& out) noexcept;
  [[nodiscard]] bool read_will(const message_view& v, will_message& out) noexcept;
  [[nodiscard]] bool read_held_will(message_ref ref, will_message& out) noexcept;
  void change_will(session& s, staged_will& change, std::uint32_t n, front_end* by,
                   std::uint64_t token) noexcept;
  [[nodiscard]] bool has_will(std::uint32_t n) const noexcept;
  [[nodiscard]] bool will_unsent(std::uint64_t will) const noexcept;
  void cancel_will_changes(std::uint32_t n) noexcept;
  void apply_will_changes() noexcept;
  void finish_will_changes() noexcept;
  void make_will_due(session& s, std::uint32_t n, std::uint64_t after_tsc, bool certain) noexcept;
  void forget_due_will(session& s) noexcept;
  void send_wills() noexcept;
  void look_for_due_wills() noexcept;
  /// What became of a try: with `soon` a claim is waited for, which takes a few bursts.
  enum class will_attempt : std::uint8_t { staged, soon, later, impossible };
  [[nodiscard]] will_attempt try_will(session& s, std::uint32_t n) noexcept;
  void finish_will(const staged_publish& p) noexcept;
  void retry_will(session& s, std::uint32_t n, bool soon = false) noexcept;
  void will_over(session& s, std::uint32_t n) noexcept;
  void drop_former_wills() noexcept;
  void schedule_will_after_open(std::uint32_t n) noexcept;

  // These functions are in burst.cc.
  void end_burst() noexcept;
  CHAINRING_STAGE void maintain() noexcept;
  void collect_groups() noexcept;
  CHAINRING_STAGE void place() noexcept;
  /// Whether a full queue may be tried again behind make_room().
  enum class full_queue_rule : std::uint8_t { try_again, refuse, if_own };
  [[nodiscard]] bool place_group(group& g, full_queue_rule rule) noexcept;
  [[nodiscard]] place_status place_refs(std::uint32_t subscriber, std::uint32_t incarnation,
                                        bool over_bytes, const slot_origin* from,
                                        placement& out) noexcept;
  [[nodiscard]] place_status start_placement(std::uint32_t subscriber, std::uint32_t incarnation,
                                             const slot_origin* from, placement& out) noexcept;
  void make_room() noexcept;
  [[nodiscard]] place_status place_in_larger(std::uint32_t subscriber, std::uint32_t incarnation,
                                             const slot_origin* from, placement& out) noexcept;
  void settle_groups() noexcept;
  [[nodiscard]] bool placed_again(const group& g) const noexcept;
  CHAINRING_STAGE void make_durable() noexcept;
  [[nodiscard]] std::size_t start_releases() noexcept;
  void finish_releases() noexcept;
  void mark_lost_publishes() noexcept;
  CHAINRING_STAGE void finish_publishes() noexcept;
  void forget_burst() noexcept;
  CHAINRING_STAGE void report_settled() noexcept;
  CHAINRING_STAGE void deliver_ready() noexcept;
  void deliver_backlog(std::size_t most) noexcept;
  void make_ready(session& s, std::uint32_t n) noexcept;
  void make_dirty(session& s, std::uint32_t n) noexcept;

  // These functions are in deliver.cc.
  void hand_volatile(std::uint32_t message, const volatile_target& to) noexcept;
  void keep_volatile(session& s, std::uint32_t n, std::uint32_t message,
                     std::uint8_t bits) noexcept;
  void drop_volatile(session& s, bool all) noexcept;
  struct asked_bytes {
    std::uint64_t all, least;
  };
  [[nodiscard]] static asked_bytes take_bytes_asked(session& s) noexcept;
  void drop_asked(session& s, std::uint32_t n) noexcept;
  void forget_dropped(session& s, std::uint32_t n) noexcept;
  void deliver(session& s, std::uint32_t n) noexcept;
  void deliver_own(session& s, std::uint32_t n) noexcept;
  /// True for a session that is offered nothing but what its own queue has to lease.
  [[nodiscard]] static bool offers_own_only(const session& s) noexcept {
    return s.volatile_count == 0 && !s.has_pending && s.membership_count() == 0;
  }
  [[nodiscard]] bool offer_volatile(session& s, std::uint32_t n) noexcept;
  [[nodiscard]] bool offer_leased(session& s, std::uint32_t n) noexcept;
  enum class viewed : std::uint8_t { whole, damaged, expired, again };
  [[nodiscard]] bool copy_properties(message_cursor properties) noexcept;
  [[nodiscard]] viewed view_leased(std::uint32_t seal, const leased& l,
                                   delivery_item& out) noexcept;
  [[nodiscard]] bool describe(session& s, std::uint32_t n, const leased& l,
                              delivery_item& out) noexcept;
  [[nodiscard]] bool describe_fresh(const session& s, const leased& l, delivery_item& out) noexcept;
  [[nodiscard]] bool offer(session& s, std::uint32_t n, const leased& entry,
                           const delivery_item& item) noexcept;
  [[nodiscard]] bool in_lost_memory(message_cursor at) noexcept;
  void settle_unseen(std::uint32_t n, std::uint64_t ticket) noexcept;
  void settle_expired(session& s, std::uint32_t n, std::uint64_t ticket) noexcept;
  [[nodiscard]] bool add_in_flight(session& s, std::uint64_t ticket) noexcept;
  [[nodiscard]] bool is_in_flight(const session& s, std::uint64_t ticket) const noexcept;
  bool remove_in_flight(session& s, std::uint64_t ticket) noexcept;
  /// The same where it is the only one, as that of most sessions is.
  static bool remove_first_in_flight(session& s, std::uint64_t ticket) noexcept {
    if (ticket == 0 || s.first_ticket != ticket) return false;
    s.first_ticket = 0;
    --s.in_flight;
    return true;
  }
  void clear_in_flight(session& s) noexcept;
  void ack(std::uint32_t n, std::uint64_t ticket, ack_reason reason) noexcept;
  void ack(session& s, std::uint32_t n, std::uint64_t ticket, ack_reason reason) noexcept;
  void resume(session& s, std::uint32_t n) noexcept;
  void give_back(std::uint32_t n, std::uint64_t ticket) noexcept;
  void skip(std::uint32_t n, std::uint64_t ticket) noexcept;

  // These functions are in sharing.cc.
  [[nodiscard]] queue_table& table_of(std::uint32_t subscriber) noexcept {
    return common.groups.is_group(subscriber) ? durable.group_queues() : durable.queues();
  }
  [[nodiscard]] std::uint32_t queue_of(std::uint32_t subscriber) const noexcept {
    return common.groups.is_group(subscriber) ? common.groups.group_of_subscriber(subscriber)
                                              : subscriber;
  }
  [[nodiscard]] std::uint32_t seal_of(std::uint32_t subscriber) const noexcept;
  [[nodiscard]] std::uint32_t incarnation_of(std::uint32_t subscriber) noexcept;
  void wake_members(std::uint32_t group, std::uint32_t n) noexcept;
  [[nodiscard]] bool choose_member(std::uint32_t group, volatile_target& out) noexcept;
  [[nodiscard]] std::uint32_t place_in_group(const session& s, std::string_view identity) noexcept;
  void apply_shared(staged_subscription& p, std::string_view filter,
                    durable_map::batch& batch) noexcept;
  [[nodiscard]] bool join_group(staged_subscription& p, session& s,
                                std::string_view identity) noexcept;
  void finish_shared(staged_subscription& p) noexcept;
  void add_own_member(std::uint32_t group) noexcept;
  void leave_group(session& s, std::uint32_t n, std::uint32_t place) noexcept;
  void finish_leaving() noexcept;
  void free_place(std::uint32_t place) noexcept;
  void end_groups() noexcept;
  [[nodiscard]] bool empty_group_queues() noexcept;
  void free_groups() noexcept;
  void start_group_releases() noexcept;
  void flush_groups() noexcept;
  void finish_group_releases() noexcept;

  // These functions are in leases.cc.
  [[nodiscard]] bool has_lease_room(const session& s) const noexcept;
  [[nodiscard]] bool may_take_shared(const session& s) const noexcept;
  [[nodiscard]] std::uint64_t lease_patience() const noexcept;
  [[nodiscard]] std::uint32_t pending_lease_of(const session& s) const noexcept;
  void list_lease(std::uint32_t lease) noexcept;
  void unlist_lease(std::uint32_t lease) noexcept;
  void set_phase(session& s, std::uint32_t lease, group_lease::phase_type to) noexcept;
  void take_back(session& s, std::uint32_t n, std::uint32_t lease) noexcept;
  void press_group(std::uint32_t subscriber) noexcept;
  void relieve_groups() noexcept;
  [[nodiscard]] std::uint32_t find_own_lease(std::uint32_t group, std::uint64_t ticket) noexcept;
  [[nodiscard]] bool is_active(std::uint32_t place) const noexcept;
  [[nodiscard]] std::uint32_t answered_lease(std::uint32_t n, std::uint64_t ticket) noexcept;
  void drop_expired_shared() noexcept;
  void drop_expired_of(std::uint32_t group, std::uint64_t now_ns) noexcept;
  [[nodiscard]] std::uint64_t ticket_of(std::uint32_t lease) const noexcept;
  [[nodiscard]] std::uint32_t find_lease(std::uint32_t n, std::uint64_t ticket) noexcept;
  [[nodiscard]] std::uint32_t take_lease() noexcept;
  void begin_lease(session& s, std::uint32_t n, std::uint32_t lease, std::uint32_t place,
                   const leased& entry) noexcept;
  void end_lease(session& s, std::uint32_t lease) noexcept;
  void return_lease(session& s, std::uint32_t n, std::uint32_t lease) noexcept;
  void give_back_shared(session& s, std::uint32_t n, std::uint32_t group, bool tell) noexcept;
  void detach_shared(session& s, std::uint32_t n, bool tell) noexcept;
  void check_leases() noexcept;
  void pass_on(const session& s) noexcept;
  void end_visit(session& s, std::uint32_t n, bool may_take) noexcept;
  void visit_group(session& s, std::uint32_t n, shared_visit& v, std::uint32_t place) noexcept;
  [[nodiscard]] std::uint32_t lease_shared(session& s, std::uint32_t n, shared_visit& v) noexcept;
  [[nodiscard]] bool offer_shared(session& s, std::uint32_t n, shared_visit& v) noexcept;
  void make_group_dirty(std::uint32_t group) noexcept;
  void settle_shared(session& s, std::uint32_t lease) noexcept;
  void ack_shared(session& s, std::uint32_t n, std::uint64_t ticket, ack_reason reason) noexcept;
  void give_back_one(session& s, std::uint32_t n, std::uint64_t ticket) noexcept;
  void decline(session& s, std::uint32_t n, std::uint32_t lease, ack_reason reason) noexcept;
  void pass_over(session& s, std::uint32_t lease) noexcept;
  void skip_shared(session& s, std::uint32_t n, std::uint64_t ticket) noexcept;

  // These functions are in moves.cc.
  [[nodiscard]] bool is_window_full(const session& s) const noexcept {
    return s.in_flight + s.moving >= s.window;
  }
  [[nodiscard]] bool may_take_more(session& s, std::uint32_t n) noexcept;
  void begin_move(session& s, std::uint32_t n, std::uint32_t lease) noexcept;
  void place_moves() noexcept;
  void refuse_move(session& s, std::uint32_t n, std::uint32_t lease) noexcept;
  [[nodiscard]] bool may_visit(session& s, std::uint32_t n, std::uint32_t place) noexcept;
  void rest(session& s, std::uint32_t n, std::uint32_t place, std::uint64_t tsc) noexcept;
  void end_rests() noexcept;
  void mark_moves() noexcept;
  void finish_moves() noexcept;

  // These functions are in inbox.cc.
  void wake(std::uint32_t n) noexcept;
  bool take_woken() noexcept;
  bool take_parcels() noexcept;
  void take_requests() noexcept;
  void answer_request(const operator_request& r) noexcept;
  void check_sessions() noexcept;
  void drop_expired(session& s, std::uint32_t n, std::uint64_t now_ns) noexcept;
  void clear_expired_retained() noexcept;
};

} // namespace chainring
