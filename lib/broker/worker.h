// SPDX-License-Identifier: BSD-3-Clause
/// A worker's state and the parts of its burst, in the order a burst goes through them. Internal to
/// the broker.
///
///   receive.cc  a datagram: decoded, its session found, given to its handler
///   connect.cc  CONNECT, DISCONNECT, keep-alive; the ends of sessions
///   subscribe.cc  REGISTER, SUBSCRIBE, UNSUBSCRIBE and their answers
///   publish.cc  PUBLISH in: matched and staged
///   burst.cc    the burst made durable: placed, drained, published, drained
///   deliver.cc  PUBLISH out, its acknowledgement, its retransmission
#pragma once
#include <memory>
#include <vector>

#include "base/statistic.h"
#include "broker/shared.h"
#include "topic/topic_table.h"
#include "timer/timer.h"
#include "mqttsn/codec.h"

namespace chainring {

struct broker_worker::impl {
  static constexpr std::uint32_t none = topic_table::none;

  /// A QoS 1 publish between its match and its acknowledgement.
  struct staged_publish {
    message content;
    client_address from = 0;
    std::uint16_t topic_id = 0;
    std::uint16_t msg_id = 0;
    std::uint32_t places = 0;                             // slots that name it, void ones included
    std::uint32_t volatile_copy = none;                   // for subscribers at QoS 0
    std::uint32_t volatile_first = 0, volatile_count = 0; // in volatile_targets
    bool refused = false;
    bool lost = false; // memory its content lay in is gone: not acknowledged
  };
  /// One queue a staged publish goes to.
  struct target {
    std::uint32_t session;
    std::uint32_t incarnation;
    std::uint32_t publish; // index into staged
    std::uint16_t bits;
  };
  struct volatile_target {
    std::uint32_t session;
    std::uint32_t incarnation;
    std::uint16_t bits;
  };
  /// A run of targets of one life of one queue, placed together.
  struct group {
    std::uint32_t first, count;
    bool placed = false;
    bool skipped = false; // dropped by policy
    chainring::placement placement{};
  };
  struct volatile_node {
    std::uint32_t message;
    std::uint32_t next;
    std::uint16_t bits;
  };

  impl(broker::shared& s, unsigned number, std::unique_ptr<timer_set> timers);

  broker::shared& shared;
  const broker_config& config;
  store& state;
  media& on;
  const unsigned number;
  transport* out = nullptr;
  topic_table topics;
  std::unique_ptr<timer_set> timers;
  std::uint64_t now_tsc = 0;
  std::uint64_t tsc_hz;
  const bool queues_grow;
  const std::uint64_t drain_bytes_max; // what one drain covers at most; half, as others flush too
  std::uint64_t maintain_at = 0;       // when queues are looked after next
  std::uint32_t release_from = 0;      // the session whose queue is looked after next
  std::uint64_t losses = 0;            // media::losses() before what is staged was copied in
  basic_broker_counters<statistic> count;

  std::vector<staged_publish> staged;
  std::vector<target> targets;
  std::vector<volatile_target> volatile_targets;
  std::vector<group> groups;
  std::vector<slot_ref> refs;                   // of one group
  std::vector<std::uint32_t> planned;           // places this burst wants, by session
  std::vector<std::uint32_t> ready, ready_next; // sessions to look at for deliveries
  std::vector<std::uint32_t> dirty;             // sessions with acks to make durable
  std::vector<volatile_node> nodes;
  std::vector<std::uint32_t> free_nodes;

  // receive.cc
  void receive(client_address from, std::span<const std::byte> datagram) noexcept;
  void refuse_field(const session* s, client_address from, const mqttsn::message& m) noexcept;
  [[nodiscard]] session* find(client_address from, std::uint32_t& number) noexcept;
  [[nodiscard]] std::uint32_t number_of(const session& s) const noexcept;
  template <class Encode> void reply(client_address to, std::size_t size, Encode&& encode) noexcept;
  void disconnect_unknown(client_address to) noexcept;
  [[nodiscard]] std::uint64_t milliseconds(std::uint64_t ms) const noexcept {
    return ms * tsc_hz / 1000;
  }

  // connect.cc
  void connect(client_address from, const mqttsn::connect& m) noexcept;
  void disconnect(session& s, std::uint32_t number, client_address from,
                  const mqttsn::disconnect& m) noexcept;
  /// The connection is over; what a clean session leaves is deleted, and its number may be another
  /// worker's at once: the caller does not touch the session any more.
  void end_connection(session& s, std::uint32_t number) noexcept;
  /// Subscriptions and queue of the session are gone, durably; the session itself as well if asked.
  void wipe(session& s, std::uint32_t number, bool keep, std::uint8_t flags) noexcept;
  void forget_address(client_address address, std::uint32_t number) noexcept;
  [[nodiscard]] std::uint64_t silence_end(const session& s) const noexcept;
  void arm(session& s, std::uint32_t number) noexcept;
  void on_timer(std::uint32_t number) noexcept;

  // subscribe.cc
  void register_topic(session& s, std::uint32_t number, client_address from,
                      const mqttsn::register_topic& m) noexcept;
  void regack(session& s, std::uint32_t number, const mqttsn::regack& m) noexcept;
  void subscribe(session& s, std::uint32_t number, client_address from,
                 const mqttsn::subscribe& m) noexcept;
  void unsubscribe(std::uint32_t number, client_address from,
                   const mqttsn::unsubscribe& m) noexcept;
  void remove_subscription(std::uint32_t number, std::string_view filter) noexcept;
  [[nodiscard]] const std::string* predefined(std::uint16_t id) const noexcept;

  // publish.cc
  void publish(session* s, std::uint32_t number, client_address from,
               const mqttsn::publish& m) noexcept;
  [[nodiscard]] std::uint32_t topic_of(session* s, std::uint32_t number, const mqttsn::publish& m,
                                       mqttsn::return_code& code) noexcept;
  void publish_volatile(std::uint32_t topic, const mqttsn::publish& m,
                        std::span<const subscriber> to) noexcept;
  bool stage(std::uint32_t topic, session& s, std::uint32_t number, client_address from,
             const mqttsn::publish& m) noexcept;
  bool make_room(std::uint32_t queue) noexcept;
  void puback(client_address to, std::uint16_t topic_id, std::uint16_t msg_id,
              mqttsn::return_code code) noexcept;

  // burst.cc
  bool end_burst() noexcept;
  void place() noexcept;
  [[nodiscard]] place_status place_in_larger(std::uint32_t q, std::uint32_t incarnation,
                                             placement& out) noexcept;
  void settle() noexcept;
  void make_durable() noexcept;
  void find_lost() noexcept;
  void release_voids() noexcept;
  void finish_publishes() noexcept;
  void drain() noexcept;
  bool take_inbox() noexcept;
  void wake(std::uint32_t session) noexcept;
  void make_ready(session& s, std::uint32_t number) noexcept;
  void make_dirty(session& s, std::uint32_t number) noexcept;

  // deliver.cc
  void hand_volatile(std::uint32_t message, const volatile_target& to) noexcept;
  void keep_volatile(session& s, std::uint32_t number, std::uint32_t message,
                     std::uint16_t bits) noexcept;
  void drop_volatile(session& s, bool all) noexcept;
  void forget_dropped(session& s, std::uint32_t number) noexcept;
  void deliver(session& s, std::uint32_t number) noexcept;
  bool deliver_volatile(session& s, std::uint32_t number) noexcept;
  bool deliver_leased(session& s, std::uint32_t number, bool again) noexcept;
  /// The topic id for a name at that client; asks it first by REGISTER where it does not know one.
  enum class name_status : std::uint8_t { known, asked, impossible, later };
  name_status name_for(session& s, std::uint32_t number, std::string_view topic, std::uint16_t bits,
                       std::uint16_t& id, mqttsn::topic_id_type& type) noexcept;
  bool send_register(session& s, std::uint32_t registration) noexcept;
  bool send_publish(session& s, mqttsn::flags flags, std::uint16_t id, std::uint16_t msg_id,
                    message_cursor payload, std::uint64_t losses_then) noexcept;
  void puback_in(session& s, std::uint32_t number, const mqttsn::puback& m) noexcept;
  void finish_delivery(session& s, std::uint32_t number) noexcept;
  /// False: it was the last try, and the session may be another worker's by now.
  bool retransmit(session& s, std::uint32_t number) noexcept;
  void schedule_retry(session& s, std::uint32_t number) noexcept;
};

template <class Encode>
void broker_worker::impl::reply(client_address to, std::size_t size, Encode&& encode) noexcept {
  const std::span<std::byte> room = out->begin(to, size);
  if (room.empty()) return; // the client asks again
  out->commit(encode(room));
}

} // namespace chainring
