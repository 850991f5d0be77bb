// SPDX-License-Identifier: BSD-3-Clause
/// A gateway worker's state. Internal to lib/mqttsn.
///
///   receive.cc    a datagram: decoded, its connection found, given to the handler of its type
///   connect.cc    CONNECT, DISCONNECT, keep-alive, addresses taken from another worker's client
///   subscribe.cc  REGISTER, SUBSCRIBE, UNSUBSCRIBE
///   publish.cc    PUBLISH in, and what is said of it
///   deliver.cc    PUBLISH out, its acknowledgement, its retransmission
#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/lazy_array.h"
#include "base/statistic.h"
#include "base/value_ring.h"
#include "broker/worker.h"
#include "map/seq_map.h"
#include "mqttsn/gateway.h"
#include "mqttsn/registrations.h"
#include "mqttsn/strangers.h"
#include "timer/timer.h"
#include "topic/topic_names.h"

namespace chainring::mqttsn {

/// What the front end knows of a session's connection, by session number. All of it belongs to the
/// session's home worker, but for what is marked (any). Zero is a valid, closed connection.
struct connection {
  std::atomic<client_address> address; // (any) 0: closed
  std::atomic<std::uint8_t> home;      // (any) the worker that serves it
  std::uint16_t keep_alive_s;
  std::uint32_t life; // counts connections: an answer for an earlier one is not sent

  // One outstanding exchange towards the client (sections 6.5 and 6.6).
  enum class exchange : std::uint8_t { idle, registering, publishing } phase;
  bool predefined_unknown; // the client does not know predefined ids: names are registered for it
  bool told_too_long;      // a message too long for this connection was reported
  bool refused_volatile;   // the client refused the name of the QoS 0 message that waits
  std::uint8_t retries, corrections;
  std::uint16_t register_id; // message id of the last REGISTER sent
  std::uint16_t packet_id, topic_id;
  topic_id_type sent_type;          // of what is being published
  topic_id_type volatile_sent_type; // of the last QoS 0 PUBLISH
  std::uint16_t volatile_sent_id;
  std::uint32_t registration_plus_1; // being registered; 0: none
  std::uint32_t list_plus_1;         // of the registrations it asked for; 0: none
  std::uint32_t offered_plus_1;      // of those that deliveries made; 0: none
  std::uint64_t ticket;              // being published
  std::uint64_t sent_ticket;         // published last, in this connection
  std::uint64_t wanted_ticket;       // what the REGISTER is for; 0: a QoS 0 message
  std::uint64_t refused_ticket;      // the client refused its name

  std::uint64_t connected_tsc; // reception of its CONNECT
  std::uint64_t heard_tsc;     // reception of the last datagram
  std::uint64_t retry_tsc;     // next retransmission; 0: none
  std::uint64_t timer_due;     // when `timer` fires; 0: it is not set
  timer_handle timer;
};

/// The token of a call whose outcome is of no interest.
inline constexpr std::uint64_t no_token = UINT64_MAX;

/// What one worker asks of another: an address is taken over from its client.
struct address_request {
  client_address address;
  std::uint32_t session;
  std::uint16_t from_worker;
  bool answered; ///< to the asker: nothing of the former client will leave to the address any more
  bool superseded;            ///< or: that client's CONNECT came later, and it keeps the address
  std::uint64_t received_tsc; ///< reception of the CONNECT that waits
};

struct gateway::shared {
  shared(broker& b, const gateway_config& c) : core(b), config(c) {}
  broker& core;
  gateway_config config;
  std::unique_ptr<seq_map<std::uint64_t, std::uint32_t>> addresses; ///< client_address -> session
  chainring::detail::lazy_array<connection> connections;
  std::uint64_t stranger_seed = 0;
  std::unordered_map<std::uint16_t, std::string> predefined_names; ///< constant after create
  std::unordered_map<std::string_view, std::uint16_t> predefined_ids;
  std::vector<std::unique_ptr<value_ring>> requests; ///< address_request, by worker
  std::vector<std::unique_ptr<gateway_worker>> workers;
};

struct gateway_worker::state final : front_end {
  static constexpr std::uint32_t none = 0xffffffff;
  /// A datagram's sender: its session where it has one.
  struct sender {
    client_address address = 0;
    std::uint32_t session = none;
    std::uint64_t received_tsc = 0;
    [[nodiscard]] bool known() const noexcept { return session != none; }
  };
  /// An answer that waits for the core.
  struct pending_answer {
    enum class kind : std::uint8_t { connack, puback, suback, unsuback } what;
    client_address to = 0;
    std::uint32_t session = none;
    std::uint32_t life = 0;
    std::uint16_t topic_id = 0, msg_id = 0;
    qos_level qos = qos_level::zero;
  };
  /// A CONNECT that waits until another worker has closed who was at its address.
  struct waiting_connect {
    client_address from = 0; ///< 0: free
    std::uint64_t received_tsc = 0;
    std::uint16_t size = 0;
    std::uint8_t tries = 0;
    std::array<std::byte, 120> datagram;
  };
  /// An address another worker waits for: nothing more of its former client may leave.
  struct leaving {
    address_request request;
    std::uint32_t position;
  };

  state(gateway::shared& s, unsigned number, std::unique_ptr<timer_set> timers);

  gateway::shared& shared;
  const gateway_config& config;
  broker_worker& core;
  topic_names& topics;
  const unsigned number;
  net::transport* out = nullptr;
  const net::hearing* heard = nullptr;
  registrations ids;
  std::unique_ptr<timer_set> timers;
  stranger_limit strangers;
  std::uint64_t now_tsc = 0;
  const std::uint64_t tsc_hz;
  basic_gateway_counters<statistic> count;
  std::vector<pending_answer> answers;
  std::vector<std::uint32_t> free_answers;
  std::vector<waiting_connect> waiting;
  std::vector<leaving> leavings;

  [[nodiscard]] connection& at(std::uint32_t session) noexcept {
    return shared.connections[session];
  }
  [[nodiscard]] client_address address_of(std::uint32_t session) const noexcept {
    return shared.connections[session].address.load(std::memory_order_relaxed); // [address-own]
  }
  [[nodiscard]] std::uint64_t milliseconds(std::uint64_t ms) const noexcept {
    return ms * tsc_hz / 1000;
  }
  [[nodiscard]] std::uint64_t token_for(const pending_answer& a);
  template <class Message> void say(client_address to, std::size_t size, const Message& m) noexcept;
  [[nodiscard]] const std::string* predefined(std::uint16_t id) const noexcept;

  // front_end
  [[nodiscard]] std::uint32_t credit(std::uint32_t session) const noexcept override;
  void settled(std::span<const settlement> all) noexcept override;
  [[nodiscard]] std::size_t deliver(std::uint32_t session,
                                    std::span<const delivery_item> items) noexcept override;
  void withdrawn(std::uint32_t session, std::uint64_t ticket) noexcept override;
  void closed(std::uint32_t session, close_reason reason) noexcept override;

  // receive.cc: one overload of handle() for each message type
  void receive(client_address from, std::span<const std::byte> datagram,
               std::uint64_t received_tsc) noexcept;
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

  // connect.cc
  [[nodiscard]] bool clear_address(const sender& from, const connect& m) noexcept;
  void keep_waiting(const sender& from, const connect& m, std::uint32_t other) noexcept;
  void take_requests() noexcept;
  void answer_leavings() noexcept;
  void end(std::uint32_t session) noexcept;
  void lose(std::uint32_t session) noexcept;
  void reset(std::uint32_t session) noexcept;
  [[nodiscard]] std::uint64_t silence_end(const connection& c) const noexcept;
  [[nodiscard]] bool read_until(std::uint32_t session, std::uint64_t tsc) const noexcept;
  void arm(std::uint32_t session) noexcept;
  void on_timer(std::uint32_t session) noexcept;

  // subscribe.cc
  [[nodiscard]] std::uint32_t registration(std::uint32_t session, std::uint32_t topic) noexcept;
  [[nodiscard]] std::uint32_t registration_to_offer(std::uint32_t session,
                                                    std::uint32_t topic) noexcept;

  // publish.cc
  [[nodiscard]] std::uint32_t topic_of(const sender& from, const publish& m,
                                       return_code& code) noexcept;
  void refuse_publish(const sender& from, const publish& m, return_code code) noexcept;

  // deliver.cc
  enum class name_status : std::uint8_t { known, asked, impossible, later };
  [[nodiscard]] name_status name_for(std::uint32_t session, const delivery_item& item,
                                     std::uint16_t& id, topic_id_type& type) noexcept;
  void send_register(std::uint32_t session) noexcept;
  [[nodiscard]] bool too_long(std::uint32_t session, std::size_t size) const noexcept;
  void pass_over(std::uint32_t session, const delivery_item& item, std::size_t size) noexcept;
  void finish_exchange(std::uint32_t session) noexcept;
  void schedule_retry(std::uint32_t session) noexcept;
  void retransmit(std::uint32_t session) noexcept;
  void unknown_id(std::uint32_t session, const puback& m) noexcept;
};

template <class Message>
void gateway_worker::state::say(client_address to, std::size_t size, const Message& m) noexcept {
  const std::span<std::byte> room = out->begin(to, size);
  if (room.empty()) { // the client asks again
    ++count.answers_dropped;
    return;
  }
  out->commit(encode_message(room, m));
}

} // namespace chainring::mqttsn
