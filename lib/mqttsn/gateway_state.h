// SPDX-License-Identifier: BSD-3-Clause
/// The state of a gateway worker. Internal to lib/mqttsn.
///
///   discovery.cc  ADVERTISE, SEARCHGW and GWINFO, and messages that come through a forwarder
///   receive.cc    decodes a datagram, finds its connection, and calls the handler of its type
///   connect.cc    CONNECT, DISCONNECT, keep-alive, and addresses that change to another client
///   will.cc       how clients are asked for their wills, and change them
///   sleep.cc      clients that sleep, and PINGREQ
///   subscribe.cc  REGISTER, SUBSCRIBE and UNSUBSCRIBE
///   publish.cc    PUBLISH from clients, and the answers to all requests
///   deliver.cc    PUBLISH and PUBREL to clients, their answers and their retransmission
///   access.cc     what the access rules allow
///
/// Its ordering label [connection-home] is described in connect.cc.
#pragma once
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "access/rule_board.h"
#include "base/cacheline.h"
#include "base/lazy_array.h"
#include "base/statistic.h"
#include "base/value_ring.h"
#include "broker/worker.h"
#include "map/seq_map.h"
#include "mqttsn/forwarder.h"
#include "mqttsn/gateway.h"
#include "mqttsn/registrations.h"
#include "mqttsn/request_backlog.h"
#include "mqttsn/sender_index.h"
#include "mqttsn/strangers.h"
#include "mqttsn/will_prompts.h"
#include "timer/timer.h"
#include "topic/topic_names.h"

namespace chainring::mqttsn {

/// The connection of a session, indexed by session number. All members belong to the session's home
/// worker, except the one that any worker may read (any). All zero is a valid, closed connection.
///
/// The first line holds what each PUBLISH and PUBACK from the client touches, and the second what a
/// PUBLISH to the client touches besides. With many clients these lines are in no cache, so nothing
/// else on the way of a message may need a third one.
struct alignas(cacheline_size) connection {
  // Nothing is sent to a client that is asleep, except answers. A client that is awake gets what
  // waits for it, and PINGRESP at the end (section 6.14).
  enum class rest_state : std::uint8_t { active, asleep, awake };
  // Whether the client was asked for its will, and whether its CONNACK has been sent.
  enum class prompt : std::uint8_t { none, asked, answered };
  // The one outstanding exchange with the client (sections 6.5 and 6.6).
  enum class exchange : std::uint8_t { idle, registering, publishing, releasing };

  // The first line.
  client_address address;  // set while the connection is open
  std::uint64_t heard_tsc; // when the last datagram was received
  std::uint64_t ticket;    // the ticket of the PUBLISH or PUBREL under way
  std::uint64_t retry_tsc; // when to retransmit next; 0 means never
  std::uint32_t life; // counts the session's connections, so that no answer goes to a later one
  std::uint32_t published_topic;         // the topic of published_id
  std::uint16_t packet_id;               // of the exchange under way
  std::atomic<std::uint8_t> home_plus_1; // (any) one more than the worker's number; 0: closed
  rest_state rest;
  exchange phase;
  qos_level sent_qos; // QoS of the PUBLISH under way
  std::uint8_t retries, corrections;

  // The second line.
  std::uint64_t sent_ticket;          // the ticket that was published last in this connection
  std::uint64_t refused_ticket;       // the ticket whose name the client refused
  std::uint64_t timer_due;            // when `timer` fires; 0 means that it is not set
  std::uint32_t delivered_topic;      // the topic of delivered_id
  std::uint32_t refused_topic_plus_1; // the topic of a QoS 0 message whose name it refused; 0: none
  // The number of the access rules that made the verdict on the client, and the number of those
  // that allow each subscription of its session; 0 means none.
  std::uint32_t judged_under, subscribed_under;
  // The longest message that the transport carries to the client, at most
  // gateway_config::datagram_size_max octets; 0 means that it was not asked yet.
  std::uint16_t size_max;
  std::uint16_t topic_id;  // of the exchange under way
  topic_id_type sent_type; // topic id type of the PUBLISH under way
  bool awake_listed;       // the session is in the list of those that may have got everything
  // No topic id is free for a message that waits, so the client sleeps again without it.
  bool names_lacking;
  bool predefined_unknown; // the client knows no predefined ids, so names are registered instead
  bool reported_too_long;  // a message that is too long for this connection was logged
  topic_id_type volatile_sent_type; // topic id type of the last QoS 0 PUBLISH
  std::uint16_t volatile_sent_id;
  // The topic id of the last PUBLISH to the client that had one of its registrations, and that of
  // the last PUBLISH from it, with the number of the access rules that allowed it; an id of 0 means
  // none. They hold as long as the registration does and the client knows it (forget_ids()).
  std::uint16_t delivered_id;
  std::uint16_t published_id;
  std::uint32_t published_under;

  // The third line.
  std::uint16_t keep_alive_s;
  std::uint16_t sleep_s;     // the duration of the client's sleep
  std::uint16_t register_id; // message id of the last REGISTER that was sent
  prompt prompted;
  std::uint32_t registration_plus_1; // the registration under way; 0 means none
  std::uint32_t list_plus_1;    // list of registrations that the client asked for; 0 means none
  std::uint32_t offered_plus_1; // list of registrations that deliveries made; 0 means none
  timer_handle timer;
  std::uint64_t wanted_ticket;    // the ticket that needs the REGISTER; 0 means a QoS 0 message
  std::uint64_t withdrawn_ticket; // the last ticket that the core took back while it was under way
  std::uint64_t connected_tsc;    // when the CONNECT was received
};
static_assert(offsetof(connection, corrections) + 1 == cacheline_size);
static_assert(offsetof(connection, sent_ticket) == cacheline_size);
static_assert(offsetof(connection, published_under) + 4 <= std::size_t{2} * cacheline_size);
static_assert(sizeof(connection) == std::size_t{3} * cacheline_size);

/// What the access rules say about a connection. It is kept apart from the connection, and takes no
/// memory while there are no rules. All zero is valid.
struct admission {
  static constexpr std::size_t published_max = 8;
  access::verdict verdict;
  /// Whether the client may publish to a predefined or short topic id: see may_publish().
  std::array<std::uint32_t, published_max> published;
};

/// An address as a key: two hashes with different secret seeds, so that an entry of the map takes
/// half a line. A connection knows its address, with which a sender that was found is compared.
struct address_key {
  std::array<std::uint64_t, 2> hashes;
};

/// A request from one worker to another: a client of the first connects from the address of a
/// client of the second.
struct address_request {
  client_address address;
  std::uint32_t session;
  std::uint16_t from_worker;
  bool answered;   ///< set in the answer: nothing to the former client will leave any more
  bool superseded; ///< set when the former client's CONNECT came later and it keeps the address
  std::uint64_t received_tsc; ///< when the CONNECT that waits was received
};

struct gateway::common_state {
  common_state(broker& b, const gateway_config& c)
      : core(b), config(c), retry_ms(c.retry_ms), retry_ms_max(c.retry_ms_max),
        retries_max(c.retries_max), rules(b.workers()) {}
  broker& core;
  gateway_config config;
  // Settings that an operator may change at run time. [run-time-setting]
  std::atomic<std::uint32_t> retry_ms, retry_ms_max, retries_max;
  std::unique_ptr<seq_map<address_key, std::uint32_t>>
      addresses; ///< maps an address to its session
  std::array<std::uint64_t, 2> address_seeds{};
  [[nodiscard]] address_key key_of(const client_address& a) const noexcept {
    return {{map_hash<client_address>{address_seeds[0]}(a),
             map_hash<client_address>{address_seeds[1]}(a)}};
  }
  chainring::detail::lazy_array<connection> connections;
  std::unique_ptr<will_prompts::place_map> will_places; ///< where a client is asked for its will
  std::unique_ptr<node_table> nodes;                    ///< the nodes behind forwarders
  access::rule_board rules;
  chainring::detail::lazy_array<admission> admissions; ///< like `connections`
  std::uint64_t stranger_seed = 0;
  std::unordered_map<std::uint16_t, std::string> predefined_names; ///< constant after create()
  std::unordered_map<std::string_view, std::uint16_t> predefined_ids;
  std::uint16_t predefined_max = 0; ///< the highest predefined id; ids given out lie above it
  std::vector<std::unique_ptr<value_ring>> requests; ///< address_requests to each worker
  std::vector<std::unique_ptr<gateway_worker>> workers;

  /// gateway::home_of()
  [[nodiscard]] unsigned home_of(client_address from,
                                 std::span<const std::byte> datagram) const noexcept;
};

struct gateway_worker::state final : front_end {
  static constexpr std::uint32_t none = 0xffffffff;
  // After so many rounds without any message there is no limit for requests.
  static constexpr std::uint32_t quiet_rounds_max = 16;
  /// The sender of a datagram, with its session if it has one.
  struct sender {
    client_address address;
    std::uint32_t session = none;
    std::uint64_t received_tsc = 0;
    bool to_group = false; ///< the datagram was sent to a group, and not to this host alone
    [[nodiscard]] bool known() const noexcept { return session != none; }
  };
  /// An answer to a client that waits until the core settles the request.
  struct pending_answer {
    enum class kind : std::uint8_t {
      connack,
      suback,
      unsuback,
      pubcomp, // for a PUBREL
      pubrel,  // for a PUBREC
      willtopicresp,
      willmsgresp,
      disconnect, // for a DISCONNECT, with a duration or without
    } what;
    client_address to;
    std::uint32_t session = none;
    std::uint32_t life = 0;
    std::uint16_t topic_id = 0, msg_id = 0;
    qos_level qos = qos_level::zero;
  };
  /// The answer to a PUBLISH at QoS 1 or 2, PUBACK or PUBREC, which goes to the address of the
  /// connection that `life` counts. It is apart from the other answers because it is asked for with
  /// every message.
  struct publish_answer {
    std::uint32_t session, life;
    std::uint16_t topic_id, msg_id;
    std::uint32_t next; ///< the next free place, in a free one
  };
  // The two highest bits of a token say that it is the place of a publish_answer. The next one says
  // that the PUBLISH is at QoS 2. no_token has all three bits, and so names no such place.
  static constexpr std::uint64_t publish_token = std::uint64_t{2} << 62;
  static constexpr std::uint64_t qos2_token = std::uint64_t{1} << 61;
  [[nodiscard]] static bool is_publish_token(std::uint64_t token) noexcept {
    return token >> 62 == publish_token >> 62;
  }
  /// A CONNECT that waits until another worker has closed the connection at its address.
  struct waiting_connect {
    client_address from; ///< 0 means that the place is free
    std::uint64_t received_tsc = 0;
    std::uint16_t size = 0;
    std::uint8_t tries = 0;
    std::array<std::byte, 120> datagram;
  };
  /// An address that another worker waits for: nothing more to its former client may leave.
  struct address_handover {
    address_request request;
    std::uint32_t position;
  };

  state(gateway::common_state& s, unsigned number, std::unique_ptr<timer_set> timers);

  gateway::common_state& common;
  const gateway_config& config;
  broker_worker& core;
  topic_names& topics;
  connection* const connections; // of all workers
  const unsigned number;
  std::optional<node_transport> out;
  const net::hearing* heard = nullptr;
  registrations ids;
  sender_index senders;
  std::unique_ptr<timer_set> timers;
  stranger_limit strangers, forwarder_searches;
  will_prompts prompts;
  std::uint64_t prompts_looked_at_tsc = 0; // when to look for expired prompts next
  std::vector<std::uint32_t> awake;        // sessions that may have got everything
  std::uint64_t now_tsc = 0;
  const std::uint64_t tsc_hz;
  access::rule_board::rules rules;    // the access rules that the worker uses
  std::uint32_t next_to_judge = none; // the next connection to judge under new rules
  basic_gateway_counters<statistic> count;
  std::vector<pending_answer> answers;
  std::vector<std::uint32_t> free_answers;
  std::vector<publish_answer> publish_answers;
  std::uint32_t free_publish_answer = none; // the first free place
  // The settings, as they were seen last, and the time until the first retransmission in ticks that
  // they stand for.
  std::uint32_t retry_ms = 0, retry_ms_max = 0;
  std::uint64_t retry_ticks = 0;
  std::vector<waiting_connect> waiting;
  request_backlog backlog;
  std::uint32_t requests_now = 0;                // handled in this round
  std::uint32_t quiet_rounds = quiet_rounds_max; // without a usual datagram, at most so many
  std::vector<address_handover> address_handovers;
  std::uint64_t advertise_tsc = 0;    // when to advertise next
  std::uint64_t group_second_tsc = 0; // since when group_answers counts
  std::uint32_t group_answers = 0;    // GWINFOs in this second that many hosts receive

  [[nodiscard]] connection& at(std::uint32_t session) noexcept { return connections[session]; }
  [[nodiscard]] const connection& at(std::uint32_t session) const noexcept {
    return connections[session];
  }
  /// Returns the address of an own connection, or 0 where the connection is closed.
  [[nodiscard]] const client_address& address_of(std::uint32_t session) const noexcept {
    return at(session).address;
  }
  /// Returns true when the session's connection is open and served by this worker.
  [[nodiscard]] bool serves(std::uint32_t session) const noexcept {
    // [connection-home]
    return at(session).home_plus_1.load(std::memory_order_relaxed) == number + 1;
  }
  [[nodiscard]] bool serves(std::uint32_t session, const client_address& at) const noexcept {
    return serves(session) && address_of(session) == at;
  }
  [[nodiscard]] std::uint64_t milliseconds(std::uint64_t ms) const noexcept {
    return ms * tsc_hz / 1000;
  }
  /// A setting that an operator may change counts for what is sent from now on. [run-time-setting]
  [[nodiscard]] std::uint32_t now_set(const std::atomic<std::uint32_t>& setting) const noexcept {
    return setting.load(std::memory_order_relaxed); // [run-time-setting]
  }
  [[nodiscard]] std::uint64_t token_for(const pending_answer& a);
  [[nodiscard]] std::uint64_t publish_token_for(std::uint32_t session, const connection& c,
                                                const publish& m) noexcept;
  void make_publish_answers() noexcept;
  void answer_publish(const settlement& s) noexcept;
  template <class Message>
  void send_message(client_address to, std::size_t size, const Message& m) noexcept;
  [[nodiscard]] const std::string* predefined(std::uint16_t id) const noexcept;

  // These functions implement front_end.
  [[nodiscard]] std::uint32_t credit(std::uint32_t session) const noexcept override;
  [[nodiscard]] std::uint32_t credit_of_any() const noexcept override;
  void settled(std::span<const settlement> all) noexcept override;
  [[nodiscard]] carriage may_take(std::uint32_t session,
                                  const delivery_item& item) noexcept override;
  [[nodiscard]] std::size_t deliver(std::uint32_t session,
                                    std::span<const delivery_item> items) noexcept override;
  void withdrawn(std::uint32_t session, std::uint64_t ticket) noexcept override;
  void closed(std::uint32_t session, close_reason reason) noexcept override;

  // These functions are in receive.cc; handle() has one overload for each message type.
  void receive(const sender& from, std::span<const std::byte> datagram,
               bool has_waited = false) noexcept;
  [[nodiscard]] bool has_turn(const sender& from, std::span<const std::byte> datagram) noexcept;
  static constexpr std::size_t at_once = 32; ///< datagrams of a burst that are looked at together
  void find_senders(std::span<const received_datagram> some,
                    std::uint32_t* sessions) const noexcept;
  [[nodiscard]] unsigned home_of(std::uint32_t n, message_type type,
                                 const received_datagram& d) const noexcept;
  void receive_unusual(const received_datagram& d, std::uint32_t n) noexcept;
  [[nodiscard]] bool may_drop(const received_datagram& d, bool known) noexcept;
  [[nodiscard]] bool may_handle_more() const noexcept {
    return config.requests_per_round == 0 || requests_now < config.requests_per_round ||
           quiet_rounds == quiet_rounds_max;
  }
  [[nodiscard]] bool take_turns() noexcept;
  [[nodiscard]] bool may_wait(const sender& s, const message& m) noexcept;
  [[nodiscard]] bool receive_usual(const client_address& from, std::uint32_t n,
                                   std::span<const std::byte> datagram,
                                   std::uint64_t received_tsc) noexcept;
  struct usual;
  [[nodiscard]] bool look_up_published(std::uint32_t session, std::uint16_t topic_id) noexcept;
  [[nodiscard]] sender find(client_address from, std::uint64_t received_tsc) noexcept;
  void stranger(const sender& from, bool by_disconnect) noexcept;
  void refuse_field(const sender& from, const message& m) noexcept;
  void handle(const sender&, std::monostate) noexcept {}
  void handle(const sender& from, const advertise& m) noexcept;
  void handle(const sender& from, const searchgw& m) noexcept;
  void handle(const sender& from, const gwinfo& m) noexcept;
  void handle(const sender& from, const connect& m) noexcept;
  void handle(const sender& from, const connack& m) noexcept;
  void handle(const sender& from, const willtopicreq& m) noexcept;
  void handle(const sender& from, const willtopic& m) noexcept;
  void handle(const sender& from, const willmsgreq& m) noexcept;
  void handle(const sender& from, const willmsg& m) noexcept;
  void handle(const sender& from, const register_topic& m) noexcept;
  void handle(const sender& from, const regack& m) noexcept;
  void handle(const sender& from, const publish& m) noexcept;
  void handle(const sender& from, const puback& m) noexcept;
  void handle(const sender& from, const pubrec& m) noexcept;
  void handle(const sender& from, const pubrel& m) noexcept;
  void handle(const sender& from, const pubcomp& m) noexcept;
  void handle(const sender& from, const subscribe& m) noexcept;
  void handle(const sender& from, const suback& m) noexcept;
  void handle(const sender& from, const unsubscribe& m) noexcept;
  void handle(const sender& from, const unsuback& m) noexcept;
  void handle(const sender& from, const pingreq& m) noexcept;
  void handle(const sender& from, const pingresp& m) noexcept;
  void handle(const sender& from, const disconnect& m) noexcept;
  void handle(const sender& from, const willtopicupd& m) noexcept;
  void handle(const sender& from, const willmsgupd& m) noexcept;
  void handle(const sender& from, const willtopicresp& m) noexcept;
  void handle(const sender& from, const willmsgresp& m) noexcept;
  void handle(const sender& from, const encapsulated& m) noexcept;

  // These functions are in discovery.cc.
  void advertise_now() noexcept;
  [[nodiscard]] bool may_answer_many(const sender& from) noexcept;
  [[nodiscard]] client_address group_of(const client_address& from) const noexcept;

  // These functions are in will.cc.
  void prompt(const sender& from, const connect& m) noexcept;
  void forget_old_prompts() noexcept;
  void finish_prompt(const sender& from, will_prompt& p, const will_message* will) noexcept;
  void refuse_prompt(const sender& from, will_prompt& p) noexcept;
  void unasked(const sender& from) noexcept;
  [[nodiscard]] bool may_have_will(const sender& from, std::string_view client_id,
                                   std::string_view topic) const noexcept;

  // These functions are in sleep.cc.
  void go_to_sleep(const sender& from, std::uint16_t duration_s) noexcept;
  void fall_asleep(std::uint32_t session, std::uint64_t token) noexcept;
  void wake(std::uint32_t session) noexcept;
  void go_on(std::uint32_t session) noexcept;
  void go_on_resting(std::uint32_t session) noexcept;
  void end_awakenings() noexcept;
  void ping_from_elsewhere(const sender& from, const pingreq& m) noexcept;

  // These functions are in connect.cc.
  void open(const sender& from, const connect& m, const will_message* will) noexcept;
  [[nodiscard]] bool same_connection(const sender& from, const connect& m) const noexcept;
  [[nodiscard]] bool clear_address(const sender& from, const connect& m) noexcept;
  void keep_waiting(const sender& from, const connect& m, std::uint32_t other) noexcept;
  void take_address_requests() noexcept;
  void answer_address_handovers() noexcept;
  void end(std::uint32_t session, broker_worker::end_reason reason) noexcept;
  void lose(std::uint32_t session) noexcept;
  void leave_address(std::uint32_t session) noexcept;
  void reset(std::uint32_t session) noexcept;
  [[nodiscard]] std::uint64_t silence_end(const connection& c) const noexcept;
  [[nodiscard]] bool read_until(std::uint32_t session, std::uint64_t tsc) const noexcept;
  void arm(std::uint32_t session) noexcept;
  void on_timer(std::uint32_t session) noexcept;

  // These functions are in subscribe.cc.
  [[nodiscard]] std::uint32_t registration(std::uint32_t session, std::uint32_t topic) noexcept;
  /// Forgets which ids were used last, because a registration ends or counts as unknown.
  void forget_ids(std::uint32_t session) noexcept {
    at(session).published_id = at(session).delivered_id = 0;
  }
  [[nodiscard]] std::uint32_t registration_to_offer(std::uint32_t session,
                                                    std::uint32_t topic) noexcept;

  // These functions are in access.cc.
  [[nodiscard]] access::sender who(client_address from, std::string_view client_id) const noexcept;
  [[nodiscard]] access::sender who(std::uint32_t session) const noexcept;
  [[nodiscard]] std::uint64_t source_of(client_address from) const noexcept;
  void adopt_rules() noexcept;
  [[nodiscard]] bool may_connect(client_address from, std::string_view client_id) const noexcept;
  void admit(std::uint32_t session, bool new_session) noexcept;
  [[nodiscard]] bool judge_again(std::uint32_t session) noexcept;
  /// False when the connection has ended because the rules allow it no more.
  [[nodiscard]] bool still_allowed(std::uint32_t session) noexcept {
    return rules.number == 0 || at(session).judged_under == rules.number || judge_again(session);
  }
  /// What was decided under a rule set, in one word: the number of the rules, and the decision.
  [[nodiscard]] static constexpr std::uint32_t word_of(std::uint32_t rules_number,
                                                       bool allowed) noexcept {
    return rules_number << 1 | (allowed ? 1u : 0u);
  }
  [[nodiscard]] bool may_publish(const sender& from, std::uint32_t registration) noexcept;
  [[nodiscard]] bool may_publish(const sender& from, topic_id_type type, std::uint16_t id,
                                 std::string_view name) noexcept;
  [[nodiscard]] bool may_publish_to(const sender& from, std::string_view name) const noexcept;
  [[nodiscard]] bool may_subscribe(std::uint32_t session, std::string_view filter) const noexcept;
  [[nodiscard]] bool may_deliver(std::uint32_t session, std::uint32_t topic,
                                 std::string_view name) noexcept {
    return rules.set == nullptr || at(session).subscribed_under == rules.number ||
           judge_delivery(session, topic, name);
  }
  [[nodiscard]] bool judge_delivery(std::uint32_t session, std::uint32_t topic,
                                    std::string_view name) noexcept;

  // These functions are in publish.cc.
  void stage(std::uint32_t source, const publish& m, octets data, std::uint32_t topic) noexcept;
  [[nodiscard]] std::uint32_t topic_of(const sender& from, const publish& m, octets& data,
                                       return_code& code) noexcept;
  void refuse_publish(const sender& from, const publish& m, return_code code) noexcept;
  void deny_publish(const sender& from, const publish& m) noexcept;

  // These functions are in deliver.cc.
  enum class usual_status : std::uint8_t { sent, no_room, other };
  [[nodiscard]] usual_status deliver_usual(std::uint32_t session, connection& c,
                                           const delivery_item& item) noexcept;
  [[nodiscard]] std::size_t deliver_each(std::uint32_t session,
                                         std::span<const delivery_item> items) noexcept;
  enum class name_status : std::uint8_t { known, asked, impossible, later };
  [[nodiscard]] name_status name_for(std::uint32_t session, const delivery_item& item,
                                     std::uint16_t& id, topic_id_type& type) noexcept;
  void send_register(std::uint32_t session) noexcept;
  [[nodiscard]] bool can_name(std::uint32_t n, const delivery_item& item) const noexcept;
  [[nodiscard]] std::uint16_t fixed_id(std::uint32_t n, const delivery_item& item,
                                       topic_id_type& type) const noexcept;
  void note_too_long(std::uint32_t n, std::size_t size) noexcept;
  void pass_over(std::uint32_t session, const delivery_item& item, std::size_t size) noexcept;
  static void end_exchange(connection& c) noexcept;
  void finish_exchange(std::uint32_t session) noexcept;
  void schedule_retry(std::uint32_t session) noexcept;
  /// True when retry_ticks stands for the settings as they are now.
  [[nodiscard]] bool usual_retries() const noexcept {
    return now_set(common.retry_ms) == retry_ms && now_set(common.retry_ms_max) == retry_ms_max;
  }
  [[nodiscard]] std::uint64_t retry_interval(unsigned retries) noexcept;
  [[nodiscard]] bool carries(connection& c, std::size_t size) noexcept;
  void retransmit(std::uint32_t session) noexcept;
  void send_pubrel(std::uint32_t session) noexcept;
  [[nodiscard]] bool offer_release(std::uint32_t session, const delivery_item& item) noexcept;
  void unknown_id(std::uint32_t session, const puback& m) noexcept;
};

// Makes the core offer the next message, unless the client sleeps.
inline void gateway_worker::state::go_on(std::uint32_t n) noexcept {
  if (at(n).rest != connection::rest_state::active) [[unlikely]]
    return go_on_resting(n);
  core.resume(n);
}

inline void gateway_worker::state::end_exchange(connection& c) noexcept {
  c.phase = connection::exchange::idle;
  c.ticket = 0;
  c.retry_tsc = 0;
  c.retries = 0;
}

inline void gateway_worker::state::finish_exchange(std::uint32_t n) noexcept {
  end_exchange(at(n));
  go_on(n);
}

inline void gateway_worker::state::schedule_retry(std::uint32_t n) noexcept {
  connection& c = at(n);
  if (c.rest == connection::rest_state::asleep) return; // it goes on when the client wakes
  const bool usual = c.retries == 0 && usual_retries();
  c.retry_tsc = now_tsc + (usual ? retry_ticks : retry_interval(c.retries));
  // A timer that fires earlier sees the deadline and sets itself again.
  if (c.timer_due == 0 || c.retry_tsc < c.timer_due) [[unlikely]]
    arm(n);
}

inline std::uint64_t gateway_worker::state::publish_token_for(std::uint32_t n, const connection& c,
                                                              const publish& m) noexcept {
  if (free_publish_answer == none) [[unlikely]]
    make_publish_answers();
  const std::uint32_t i = free_publish_answer;
  publish_answer& a = publish_answers[i];
  free_publish_answer = a.next;
  a.session = n;
  a.life = c.life;
  a.topic_id = m.topic_id;
  a.msg_id = m.msg_id;
  return publish_token | (m.flags.qos() == qos_level::two ? qos2_token : 0) | i;
}

// Hands a message over to the core. `data` is the part of the message's data that is content.
inline void gateway_worker::state::stage(std::uint32_t source, const publish& m, octets data,
                                         std::uint32_t topic) noexcept {
  const auto qos = static_cast<std::uint8_t>(m.flags.qos());
  const bool retain = m.flags.retain();
  if (qos != 1 && qos != 2)
    return core.publish(*this, source, topic, data, {.qos = 0, .retain = retain}, no_token);
  core.publish(*this, source, topic, data, {.qos = qos, .retain = retain, .packet_id = m.msg_id},
               publish_token_for(source, at(source), m));
}

template <class Message>
void gateway_worker::state::send_message(client_address to, std::size_t size,
                                         const Message& m) noexcept {
  const std::span<std::byte> room = out->begin(to, size);
  if (room.empty()) { // the client repeats its request
    ++count.answers_dropped;
    return;
  }
  out->commit(encode_message(room, m));
}

} // namespace chainring::mqttsn
