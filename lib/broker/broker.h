// SPDX-License-Identifier: BSD-3-Clause
/// The broker: sessions, topics, subscriptions and delivery of MQTT-SN 1.2 messages over durable
/// queues. It knows no ports and no sockets: datagrams are handed to a worker, answers go to the
/// worker's transport.
///
/// **The contract.** When a publisher's PUBACK leaves, its message and the message's place in every
/// matching queue are durable in the region's class; a message not acknowledged is in every
/// matching queue or in none. A QoS 1 delivery repeats until the subscriber's PUBACK is durable.
///
/// **Workers.** One per lcore. A session belongs to one worker, its home, which alone handles its
/// packets and consumes its queue; any worker may place messages in any queue. Call, in a loop:
/// ```
/// for each datagram of the burst (or handed over): worker.receive(address, payload);
/// worker.end_burst();             // drain, publish, drain; acks and deliveries to the transport
/// ```
/// Everything a burst says goes to the transport before end_burst() returns, which then tells the
/// mark those packets have to wait for.
///
/// **Thread-safety:** a worker belongs to one thread; the broker's queries may be called from any.
/// **Allocation:** everything at open; while running only where a queue grows, a fan-out is wider
/// than any before it, or a session ends.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../base/error.h"
#include "../media/media.h"
#include "../net/transport.h"
#include "../region/region.h"

namespace chainring {

using net::client_address;
using net::transport;

/// What happens to a message for a queue that is full.
enum class overflow_policy : std::uint8_t {
  reject,      ///< the publisher is told "congestion", and nobody gets the message (default)
  drop_newest, ///< that queue does not get the message; counted
  drop_oldest, ///< that queue loses its oldest message, delivered just now or not; counted
};
[[nodiscard]] result<overflow_policy> parse_overflow_policy(std::string_view text);
[[nodiscard]] const char* to_string(overflow_policy p) noexcept;

/// A topic id both sides know beforehand (MQTT-SN 1.2 section 6.7).
struct predefined_topic {
  std::uint16_t id = 0; ///< 1 to 65534
  std::string name;
};
/// Reads "ID NAME" lines; '#' starts a comment. Errors name file and line.
[[nodiscard]] result<std::vector<predefined_topic>> read_predefined_topics(const std::string& path);

/// Sizes of the tables in the region: fixed when it is created.
struct store_layout {
  std::uint32_t sessions_max = 16384;
  std::uint32_t subscriptions_max = 65536;
  std::uint32_t messages_max = 0; ///< 0: one for every two blocks
};

struct broker_config {
  unsigned workers = 1;
  std::uint32_t queue_slots = 1024; ///< messages a session's queue holds at most
  /// Messages it has room for at first: it grows to queue_slots as it fills, and shrinks again when
  /// it has been nearly empty for a while. 0: room for all from the first message on.
  std::uint32_t queue_slots_first = 255;
  overflow_policy overflow = overflow_policy::reject;
  std::uint32_t retry_ms = 10'000; ///< first retransmission (Tretry); doubles each time
  std::uint32_t retry_ms_max = 80'000;
  std::uint32_t retries_max = 5;              ///< then the client counts as lost (Nretry)
  std::uint16_t keep_alive_max_s = 0;         ///< longest keep alive accepted as asked; 0: any
  std::uint32_t topics_max = 65536;           ///< distinct names a worker knows at one time
  std::uint32_t registrations_max = 262144;   ///< topic ids in all sessions of a worker
  std::uint32_t volatile_messages_max = 4096; ///< QoS 0 messages on their way at one time
  std::uint32_t volatile_per_session_max = 16;
  std::uint16_t datagram_size_max = 1472; ///< largest payload the transport sends, octets
  std::uint8_t gateway_id = 1;
  std::vector<predefined_topic> predefined;
};

/// Counters of one worker, or of all. What each counts is its name; refusals by reason. `Word`:
/// std::uint64_t in what is handed out, statistic in what a worker counts with.
template <class Word> struct basic_broker_counters {
  Word datagrams{}, malformed{}, unknown_source{}, trailing_octets{}, unsupported{}, unexpected{};
  Word connects{}, connects_refused{}, disconnects{}, sessions_lost{};
  Word subscribes{}, unsubscribes{}, registers{}, pings{};
  Word published_qos0{}, published_qos1{}, published_minus_one{};
  Word refused_congestion{}, refused_topic{}, refused_unsupported{};
  Word placed{}, delivered{}, delivered_qos0{}, acked{}, retransmitted{};
  Word dropped_qos0{}, dropped_newest{}, dropped_oldest{}, dropped_too_long{}, dropped_by_client{},
      damaged{};
  Word bursts{}, drains{}, drain_tsc{};

  /// Calls fn(name, member pointer) for each.
  template <class F> static void for_each(F&& fn) {
    using c = basic_broker_counters;
    fn("datagrams", &c::datagrams);
    fn("malformed", &c::malformed);
    fn("unknown_source", &c::unknown_source);
    fn("trailing_octets", &c::trailing_octets);
    fn("unsupported", &c::unsupported);
    fn("unexpected", &c::unexpected);
    fn("connects", &c::connects);
    fn("connects_refused", &c::connects_refused);
    fn("disconnects", &c::disconnects);
    fn("sessions_lost", &c::sessions_lost);
    fn("subscribes", &c::subscribes);
    fn("unsubscribes", &c::unsubscribes);
    fn("registers", &c::registers);
    fn("pings", &c::pings);
    fn("published_qos0", &c::published_qos0);
    fn("published_qos1", &c::published_qos1);
    fn("published_minus_one", &c::published_minus_one);
    fn("refused_congestion", &c::refused_congestion);
    fn("refused_topic", &c::refused_topic);
    fn("refused_unsupported", &c::refused_unsupported);
    fn("placed", &c::placed);
    fn("delivered", &c::delivered);
    fn("delivered_qos0", &c::delivered_qos0);
    fn("acked", &c::acked);
    fn("retransmitted", &c::retransmitted);
    fn("dropped_qos0", &c::dropped_qos0);
    fn("dropped_newest", &c::dropped_newest);
    fn("dropped_oldest", &c::dropped_oldest);
    fn("dropped_too_long", &c::dropped_too_long);
    fn("dropped_by_client", &c::dropped_by_client);
    fn("damaged", &c::damaged);
    fn("bursts", &c::bursts);
    fn("drains", &c::drains);
    fn("drain_tsc", &c::drain_tsc);
  }
};
using broker_counters = basic_broker_counters<std::uint64_t>;

/// Calls fn(name, value) for each.
template <class F> void for_each_counter(const broker_counters& c, F&& fn) {
  broker_counters::for_each([&](const char* name, auto member) { fn(name, c.*member); });
}

/// What the broker tells of a session.
struct session_info {
  std::uint32_t number = 0;
  std::string client_id;
  client_address address = 0; ///< 0: not connected
  bool connected = false;
  bool clean = false;
  unsigned home = 0;
  std::uint16_t keep_alive_s = 0;
  std::uint64_t queue_depth = 0, queue_capacity = 0, queue_high_water = 0;
};

/// A filter and how many sessions subscribe to it.
struct topic_info {
  std::string filter;
  std::uint32_t subscriptions = 0;
};

/// What an open found, for the summary line.
struct open_summary {
  durability_class durability{};
  std::uint64_t messages = 0, sessions = 0, queues = 0, subscriptions = 0, voided = 0;
  double seconds = 0;
  std::vector<std::string> notes; ///< damage found, in sentences
};

class broker_worker;
class store;

class broker {
 public:
  /// Called now and then while a long open goes on: what, how many done, of how many.
  using progress = std::function<void(const std::string&, std::uint64_t, std::uint64_t)>;

  /// The areas a region needs to hold a broker's state: hand them to region::create().
  [[nodiscard]] static std::vector<area_spec>
  areas(const store_layout& layout, std::uint64_t region_size, std::uint32_t block_size);
  /// Recovers what the region holds and gets ready to serve. The region is the broker's from here.
  [[nodiscard]] static result<std::unique_ptr<broker>> open(std::unique_ptr<chainring::region> on,
                                                            const broker_config& config,
                                                            const progress& told = {});
  ~broker();
  broker(const broker&) = delete;
  broker& operator=(const broker&) = delete;

  [[nodiscard]] broker_worker& worker(unsigned number) noexcept;
  [[nodiscard]] unsigned workers() const noexcept;
  /// The worker a datagram is to be given to. Any thread.
  [[nodiscard]] unsigned home_of(client_address from, std::span<const std::byte> datagram) noexcept;

  [[nodiscard]] const broker_config& config() const noexcept;
  [[nodiscard]] const open_summary& opened() const noexcept;
  [[nodiscard]] chainring::region& region() noexcept;
  [[nodiscard]] store& state() noexcept;
  [[nodiscard]] broker_counters counters() const;
  [[nodiscard]] broker_counters counters(unsigned worker) const;
  /// Sessions from number `first` on, at most `max`; the next first, or 0 at the end. Any thread.
  [[nodiscard]] std::uint32_t sessions(std::uint32_t first, std::size_t max,
                                       std::vector<session_info>& out) const;
  /// Up to `max` of the filters there are. Any thread.
  [[nodiscard]] std::vector<topic_info> topics(std::size_t max) const;
  [[nodiscard]] std::uint32_t session_count() const noexcept;
  [[nodiscard]] std::uint32_t subscription_count() const noexcept;

  /// Makes the region at least `size` bytes long, while workers run: what was refused for lack of
  /// blocks is accepted again. Tables keep their sizes. One thread at a time; the new size is
  /// durable before a block of it is used. errc::no_space: the medium or the reserved addresses end
  /// before.
  [[nodiscard]] result<void> grow(std::uint64_t size);
  /// Closes the region cleanly. No worker runs any more.
  [[nodiscard]] result<void> close();

 private:
  friend class broker_worker;
  struct shared;
  explicit broker(std::unique_ptr<shared> s);
  std::unique_ptr<shared> shared_;
};

/// One thread's part of the broker.
class broker_worker {
 public:
  ~broker_worker();
  broker_worker(const broker_worker&) = delete;
  broker_worker& operator=(const broker_worker&) = delete;

  /// Where answers go; before the first burst.
  void attach(transport& out) noexcept;
  /// Handles one datagram. Never fails: what is wrong with it is answered or counted.
  void receive(client_address from, std::span<const std::byte> datagram) noexcept;
  /// Makes the burst durable, then acknowledges and delivers. Also does what other workers and the
  /// timers left to do. True when anything was done.
  bool end_burst() noexcept;

 private:
  friend class broker;
  struct impl;
  explicit broker_worker(std::unique_ptr<impl> i);
  std::unique_ptr<impl> impl_;
};

} // namespace chainring
