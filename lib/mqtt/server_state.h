// SPDX-License-Identifier: BSD-3-Clause
/// The state of the MQTT front end. Internal to lib/mqtt.
#pragma once
#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "access/rule_board.h"
#include "access/scram.h"
#include "base/assert.h"
#include "base/hook.h"
#include "base/latest.h"
#include "broker/worker.h"
#include "mqtt/codec.h"
#include "mqtt/proof.h"
#include "mqtt/server.h"
#include "mqtt/transport.h"
#include "mqtt/v5_client.h"
#include "timer/timer.h"
#include "topic/topic_names.h"

namespace chainring::mqtt {

/// Octets that wait to be sent to a client, in the order in which they were written. Each burst's
/// octets wait for its mark. At most two marks are kept: while octets wait for the first, later
/// bursts share the second, so that neither can put the other off for ever.
class outbox {
 public:
  /// Room for `size` octets behind what is there; commit() keeps the first of them.
  [[nodiscard]] std::span<std::byte> begin(std::size_t size) {
    begun_ = octets_.size();
    octets_.resize(begun_ + size);
    return std::span(octets_).subspan(begun_);
  }
  void commit(std::size_t size) { octets_.resize(begun_ + size); }
  /// Gives a mark to what was written since the last call.
  void release(mark_t mark) noexcept {
    const std::uint64_t end = first_ + octets_.size();
    if (end == released_) return;
    released_ = end;
    if (waiting_count_ == 2) --waiting_count_;
    waiting_[waiting_count_++] = {end, mark};
  }
  /// Lets go what is durable. Returns the octets that may be sent now.
  [[nodiscard]] std::span<const std::byte> durable(media& medium) noexcept {
    while (waiting_count_ != 0 &&
           (medium.durable(waiting_[0].mark) || seeded_bug("mqtt.answers_before_durable"))) {
      ready_ = waiting_[0].end;
      waiting_[0] = waiting_[1];
      --waiting_count_;
    }
    return std::span(octets_).subspan(sent_ - first_, ready_ - sent_);
  }
  void sent(std::size_t size) noexcept {
    sent_ += size;
    const std::size_t gone = sent_ - first_;
    if (gone == octets_.size()) {
      octets_.clear();
      if (octets_.capacity() > kept) octets_.shrink_to_fit();
      first_ = sent_;
    } else if (gone >= kept) {
      octets_.erase(octets_.begin(), octets_.begin() + static_cast<std::ptrdiff_t>(gone));
      first_ = sent_;
    }
  }
  [[nodiscard]] std::size_t size() const noexcept { return first_ + octets_.size() - sent_; }
  [[nodiscard]] bool waits() const noexcept { return waiting_count_ != 0; }
  [[nodiscard]] std::size_t memory() const noexcept { return octets_.capacity(); }

 private:
  static constexpr std::size_t kept = 2048; ///< octets that an idle connection may hold
  struct wait {
    std::uint64_t end = 0;
    mark_t mark = 0;
  };
  std::vector<std::byte> octets_;
  std::size_t begun_ = 0;
  // Positions in the stream: of octets_[0], of what TCP has taken, of what may leave, and of what
  // has a mark.
  std::uint64_t first_ = 0, sent_ = 0, ready_ = 0, released_ = 0;
  std::array<wait, 3> waiting_{};
  std::size_t waiting_count_ = 0;
};

/// A message at QoS 1 or 2 that was sent to a client and is not settled.
struct under_way {
  std::uint64_t ticket;
  std::uint16_t packet_id;
  std::uint8_t qos;
  bool received; ///< the client has sent PUBREC
};

struct client {
  enum class phase : std::uint8_t {
    none,           ///< there is no such connection
    waiting,        ///< for CONNECT
    authenticating, ///< it proves itself by AUTH, and sends nothing else
    proving,        ///< a helper checks its password; what it sends waits
    opening,        ///< its session is being opened; what it sends waits
    open,
    leaving, ///< it is closed once its output has left
  };
  phase at = phase::none;
  bool in_output_list = false;
  version speaks = version::v3_1_1; ///< known from CONNECT on
  std::uint16_t listener = 0;       ///< the place of its listener in the configuration
  std::uint32_t session = no_session;
  std::uint32_t life = 0; ///< distinguishes the connections that had this number
  net::endpoint from;
  std::uint16_t keep_alive_s = 0;
  std::uint64_t heard_tsc = 0;
  timer_handle timer{};
  std::vector<std::byte> in;  ///< the start of a packet that is not whole, or what waits
  std::uint32_t consumed = 0; ///< octets handled in this burst
  outbox out;
  std::vector<under_way> sent;
  std::unique_ptr<v5_client> v5; ///< only of a connection of MQTT 5.0
  std::string user;              ///< the name that it has proved; empty when it has proved none
  access::verdict verdict{};
  std::uint32_t judged_under = 0; ///< the number of the rules that gave the verdict
  mutable bool blocked = false;   ///< credit() or deliver() had no room
  bool tcp_full = false;          ///< TCP takes nothing more until writable()
  bool peer_finished = false;     ///< it sends nothing more, and its session is being opened
  bool admitted = false;          ///< its password is right, and CONNECT is handled again
  bool condemned = false;         ///< it gets no answer any more, and poll() closes it
  bool deferred = false;          ///< it is in the list of what poll() goes on with
  std::uint8_t proved_under = 0;  ///< the number of its password file; 0: it has proved no password
  std::uint32_t held = 0;         ///< octets that wait until the session is open
};

/// What a token stands for.
struct pending {
  enum class kind : std::uint8_t { connect, publish, release, subscribe, unsubscribe, received };
  kind what{};
  std::uint8_t qos = 0;
  bool present = false;
  std::uint16_t packet_id = 0;
  std::uint32_t connection = 0;
  std::uint32_t life = 0;
  std::uint32_t list = 0;  ///< of a subscribe or unsubscribe: the place in `lists`
  std::uint32_t entry = 0; ///< of a subscribe or unsubscribe: its place in the list
};

/// The answer to a SUBSCRIBE or UNSUBSCRIBE, which has one outcome for each filter.
struct answer_list {
  std::uint32_t left = 0; ///< outcomes that are not known yet
  std::vector<reason_code> reasons;
  /// The filters, where identifiers of subscriptions change.
  std::vector<std::string> filters;
  std::uint32_t identifier = 0; ///< of all subscriptions of a SUBSCRIBE; 0 means none
};

/// An authentication by AUTH that is under way, or whose answer goes with CONNACK.
struct exchange {
  access::scram_exchange scram;
  std::shared_ptr<const access::password_file> file; ///< with which it has begun
  std::vector<std::byte> packet; ///< the CONNECT that is handled when the proof is good
  std::string answer;            ///< what proves to the client that the broker has its keys
};

struct server_worker::state final : front_end, stream::byte_stream_handler, proof_desk::listener {
  state(broker& b, const server_config& c);

  server_config config;
  broker& core_broker;
  broker_worker& core;
  topic_names& topics;
  access::rule_board rules_board{1};
  access::rule_board::rules rules{};
  basic_server_counters<statistic> count;
  std::vector<std::uint32_t> listener_connections; ///< by the place of the listener
  latest<access::password_file> passwords;
  std::shared_ptr<const access::password_file> file;        ///< that is in force
  std::shared_ptr<const access::password_file> former_file; ///< while clients are compared
  std::uint8_t file_number = 0;                             ///< of `file`, from 1 to 255 and again
  std::uint32_t next_to_compare = UINT32_MAX; ///< a connection; UINT32_MAX: all are compared
  std::mutex files_lock;
  /// What was given by use_passwords(), so that the worker is never the one who frees a file.
  std::vector<std::shared_ptr<const access::password_file>> files;
  std::unordered_map<std::uint32_t, exchange> exchanges; ///< by connection, at most one for each
  proof_desk desk;                           ///< outlives the helpers of `carrier`
  std::span<const std::byte> connect_packet; ///< the CONNECT that is being handled
  transport carrier;
  stream::byte_streams* tcp = nullptr; ///< the connections as `carrier` hands them on
  const net::hearing* heard = nullptr;
  std::unique_ptr<timer_set> timers;
  std::vector<client> clients;           ///< by the number of the TCP connection
  std::vector<std::uint32_t> of_session; ///< the connection of a session, plus one
  std::vector<pending> tokens;
  std::vector<std::uint32_t> free_tokens;
  std::vector<answer_list> lists;
  std::vector<std::uint32_t> free_lists;
  std::vector<std::uint32_t> with_output; ///< connections whose outbox is not empty
  std::vector<std::uint32_t> to_consume;  ///< connections of which octets were handled
  /// Connections with which poll() goes on, because the core may not be called while it settles.
  std::vector<std::uint32_t> deferred;
  std::uint64_t memory = 0; ///< octets in the buffers of all clients
  std::vector<std::uint32_t> found_ids; ///< subscription identifiers of a message
  std::vector<std::byte> section;       ///< room for the properties of a message
  std::uint64_t now_tsc = 0, hz = 0;
  std::uint32_t next_to_judge = UINT32_MAX;
  statistic open_connections;

  // server.cc
  [[nodiscard]] std::uint64_t token_for(const pending& p);
  [[nodiscard]] client* of(std::uint32_t session) noexcept {
    const std::uint32_t n = session < of_session.size() ? of_session[session] : 0;
    return n == 0 ? nullptr : &clients[n - 1];
  }
  [[nodiscard]] std::uint32_t number_of(const client& c) const noexcept {
    return static_cast<std::uint32_t>(&c - clients.data());
  }
  /// True for a connection whose packets are handled as they come.
  [[nodiscard]] static bool takes_packets(const client& c) noexcept {
    return c.at == client::phase::open || c.at == client::phase::waiting ||
           c.at == client::phase::authenticating;
  }
  [[nodiscard]] std::uint64_t seconds(std::uint64_t s) const noexcept { return s * hz; }
  [[nodiscard]] std::size_t handle_packets(client& c, std::span<const std::byte> octets) noexcept;
  void handle_waiting(client& c) noexcept;
  void handle_packet(client& c, std::span<const std::byte> packet, packet_type type) noexcept;
  void account(client& c, std::size_t before) noexcept;
  void drop(client& c) noexcept;
  /// Closes the connection: at once, or when what was written has left. Without a session that is
  /// open, nothing is told to the core.
  void leave(client& c) noexcept;
  /// Ends the session's connection, and closes it.
  void end(client& c, broker_worker::end_reason why) noexcept;
  /// The same. A client of MQTT 5.0 is told the reason before, and `said` as the reason string.
  void fail(client& c, broker_worker::end_reason why, reason_code reason,
            std::string_view said = {}) noexcept;
  void arm(client& c) noexcept;
  void on_timer(std::uint32_t n) noexcept;
  void note_output(client& c) noexcept;
  void defer(client& c) noexcept;
  bool go_on() noexcept;
  template <class Encode> void write(client& c, std::size_t size, Encode&& encode) noexcept;

  // v5.cc
  [[nodiscard]] std::size_t packet_size_limit(const client& c) const noexcept {
    return c.v5 != nullptr ? c.v5->packet_size_max : packet_size_max;
  }
  void tell_end(client& c, reason_code reason, std::string_view said) noexcept;
  [[nodiscard]] std::string_view explanation(const client& c, std::string_view said,
                                             std::size_t packet_size) const noexcept;
  void write_connack(client& c, const connack& m, std::string_view said = {}) noexcept;
  void read_limits(client& c, const properties& p) noexcept;
  [[nodiscard]] bool begin_v5(client& c, const connect& m, session_options& options) noexcept;
  [[nodiscard]] std::optional<std::uint32_t> set_expiry(session_options& options,
                                                        std::uint32_t asked_s) const noexcept;
  void accept_v5(client& c, bool present) noexcept;
  [[nodiscard]] bool expect_answer(client& c, const publish& m) noexcept;
  [[nodiscard]] std::span<const std::byte> carried(const properties& p) noexcept;
  void add_carried(const message_extras& extras, properties& p) noexcept;
  void read_identifiers(client& c) noexcept;
  void identify(client& c, std::string_view filter, std::uint32_t identifier) noexcept;
  [[nodiscard]] bool may_identify(const client& c, std::uint32_t others,
                                  std::string_view filter) const noexcept;
  [[nodiscard]] subscription_ids ids_for(const client& c, const delivery_item& item) noexcept;
  [[nodiscard]] std::optional<std::string_view> topic_of(client& c, const publish& m) noexcept;
  [[nodiscard]] std::uint16_t choose_alias(client& c, publish& p) noexcept;
  void keep_alias(client& c, std::string_view topic) noexcept;
  void answer_publish(client& c, std::uint16_t packet_id, reason_code reason) noexcept;
  void send_ack(client& c, packet_type type, std::uint16_t packet_id, reason_code reason,
                std::string_view said = {}) noexcept;
  void shut_down() noexcept;

  // stream::byte_stream_handler
  void accepted(stream::connection n, const net::endpoint& from, std::uint16_t) noexcept override;
  void received(stream::connection n, std::span<const std::byte> octets) noexcept override;
  void finished(stream::connection n) noexcept override;
  void writable(stream::connection n) noexcept override;
  void ended(stream::connection n, stream::end_reason reason) noexcept override;

  // admission.cc
  [[nodiscard]] bool enter(stream::connection n, std::uint16_t own_port) noexcept;
  [[nodiscard]] bool admit(client& c, const connect& m) noexcept;
  [[nodiscard]] bool awaits(const proof_desk::proof& p) const noexcept override;
  void decided(proof_desk::proof& p) noexcept override;

  // authenticate.cc
  void write_auth(client& c, reason_code reason, std::string_view data) noexcept;
  [[nodiscard]] bool begin_exchange(client& c, const properties& p) noexcept;
  void end_exchange(client& c) noexcept;
  void begin_authentication(client& c, const connect& m) noexcept;
  [[nodiscard]] std::optional<std::string> check_proof(client& c, exchange& e,
                                                       const auth& m) noexcept;
  void handle(client& c, const auth& m) noexcept;
  void add_proof(client& c, properties& p, std::string& kept) noexcept;

  // connect.cc
  void handle(client& c, const connect& m) noexcept;
  void refuse(client& c, connect_return_code code) noexcept;
  void refuse(client& c, reason_code reason, std::string_view said) noexcept;
  void settle_connect(client& c, const pending& p, outcome o) noexcept;
  void handle(client& c, const disconnect& m) noexcept;
  void closed(std::uint32_t session, close_reason reason) noexcept override;
  [[nodiscard]] access::sender who(const client& c, std::string_view id) const noexcept;
  [[nodiscard]] bool judge(client& c) noexcept;
  void adopt_rules() noexcept;
  void adopt_passwords() noexcept;

  // publish.cc
  void handle(client& c, const publish& m) noexcept;
  void handle(client& c, const pubrel& m) noexcept;
  void settle_publish(client& c, const pending& p, outcome o) noexcept;
  void settled(std::span<const settlement> all) noexcept override;

  // subscribe.cc
  void handle(client& c, const subscribe& m) noexcept;
  void handle(client& c, const unsubscribe& m) noexcept;
  [[nodiscard]] static subscribe_options options_of(const subscription& s,
                                                    const subscribe& m) noexcept;
  void settle_entry(client* c, const pending& p, outcome o) noexcept;
  void answer_when_complete(client* c, const pending& p) noexcept;

  // deliver.cc
  [[nodiscard]] std::uint32_t credit(std::uint32_t session) const noexcept override;
  [[nodiscard]] std::size_t deliver(std::uint32_t session,
                                    std::span<const delivery_item> items) noexcept override;
  [[nodiscard]] carriage may_take(std::uint32_t session,
                                  const delivery_item& item) noexcept override;
  void withdrawn(std::uint32_t session, std::uint64_t ticket) noexcept override;
  [[nodiscard]] bool may_read(client& c, std::string_view topic) noexcept;
  void send_pubrel(client& c, std::uint16_t packet_id,
                   reason_code reason = reason_code::success) noexcept;
  void settle_refused(client& c, std::vector<under_way>::iterator u) noexcept;
  void answered_wrongly(client& c) noexcept;
  void handle(client& c, const puback& m) noexcept;
  void handle(client& c, const pubrec& m) noexcept;
  void handle(client& c, const pubcomp& m) noexcept;
};

/// Writes a packet of at most `size` octets to the client: encode(room) returns its size.
template <class Encode>
void server_worker::state::write(client& c, std::size_t size, Encode&& encode) noexcept {
  const std::size_t before = c.out.memory();
  const std::span<std::byte> room = c.out.begin(size);
  const std::size_t n = encode(room);
  CHAINRING_ASSERT(n <= size);
  c.out.commit(n);
  memory += c.out.memory() - before;
  note_output(c);
}

} // namespace chainring::mqtt
