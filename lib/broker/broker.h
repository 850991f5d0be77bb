// SPDX-License-Identifier: BSD-3-Clause
/// The broker's core: sessions, subscriptions, queues and deliveries over a region, for whatever
/// protocols serve it. It knows no protocol, no ports and no sockets: front ends (front_end.h) call
/// its workers (worker.h).
///
/// **The contract.** When a publish is settled as accepted, its message and the message's place in
/// every matching queue are durable in the region's class; a message not accepted is in every
/// matching queue or in none. A QoS 1 delivery repeats until its acknowledgement is durable.
///
/// **Workers.** One per lcore. A session belongs to one worker, its home, which alone serves it and
/// consumes its queue; any worker may place messages in any queue.
///
/// **Full queues.** Which publishes a full queue refuses or drops is `overflow`; a publish that one
/// queue refuses is refused in all, and drops nothing anywhere.
///
/// Thread-safety: what is said to be for any thread may be called while workers run.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "../base/error.h"
#include "../region/region.h"
#include "../ring/ring.h"
#include "counters.h"
#include "worker.h"

namespace chainring {

/// Sizes of the tables in the region when it is created; they grow while it is open.
struct store_layout {
  std::uint32_t sessions_max = 16384;
  std::uint32_t subscriptions_max = 65536;
  std::uint32_t messages_max = 0; ///< 0: one for every two blocks
  std::uint32_t groups_max = 64;  ///< shared subscriptions
  std::uint32_t retained_max = 1024;
};

struct broker_config {
  unsigned workers = 1;
  std::uint32_t queue_slots = 1024; ///< messages a session's queue holds at most
  /// Messages it has room for at first: it grows to queue_slots as it fills, and shrinks again when
  /// it has been nearly empty for a while. 0: room for all from the first message on.
  std::uint32_t queue_slots_first = 255;
  overflow_policy overflow = overflow_policy::reject;
  std::uint32_t session_expiry_s = 0; ///< a session ends so long after its connection; 0: never
  std::uint32_t topics_max = 65536;   ///< distinct names a worker knows at one time
  std::uint32_t volatile_messages_max = 4096; ///< QoS 0 messages on their way at one time
  std::uint32_t volatile_per_session_max = 16;
  /// So that one client cannot take the table from the others.
  std::uint32_t subscriptions_per_session_max = 8192;
  std::uint32_t in_flight_max =
      65536;                    ///< QoS 1 messages sent and not acknowledged, beyond one a session
  std::uint32_t aside_max = 64; ///< publishes of a worker that wait for another to make room
  /// Content that some listener could deliver, octets: what is longer is refused when published.
  std::uint32_t content_size_max = 1463;
  std::uint32_t topic_size_max = 255; ///< topic names and filters, octets
  /// Of the hash that spreads sessions over workers; 0: a secret of this process, as outside of
  /// tests.
  std::uint64_t home_seed = 0;
};

/// What operators are shown of a session.
struct session_info {
  std::uint32_t number = 0;
  std::string identity;      ///< as the client chose it: escape it before it is shown
  std::uint64_t address = 0; ///< as the front end gave it; 0: not connected
  bool connected = false;
  bool ends_with_connection = false;
  unsigned home = 0;
  std::uint16_t keep_alive_s = 0;
  std::uint64_t queue_depth = 0, queue_capacity = 0;
  std::uint64_t queue_high_water = 0; ///< of all rings the queue had in this life
  std::uint64_t queue_limit = 0;      ///< what the queue may grow to
  std::uint64_t refused = 0;          ///< messages its full queue refused in this life
};

/// A filter and how many sessions subscribe to it.
struct topic_info {
  std::string filter;
  std::uint32_t subscriptions = 0;
};

/// What an open found, for the summary line.
struct open_summary {
  durability_class durability{};
  std::uint64_t messages = 0, sessions = 0, queues = 0, subscriptions = 0, voided = 0, expired = 0;
  double seconds = 0;
  std::vector<std::string> notes; ///< damage found, in sentences
};

/// Something an operator should know, said at most once a second for each kind.
struct broker_event {
  enum class kind : std::uint8_t {
    opened,     ///< a session was opened
    closed,     ///< its front end ended the connection
    lost,       ///< its front end gave the client up: it was silent, or did not answer
    taken_over, ///< another connection of the same identity ended it
    kicked,     ///< an operator ended it
    expired,    ///< a session without a connection ended, its queue with it
    queue_full, ///< a publish was refused because this session's queue is full
    too_long,   ///< a message stays in the queue: this connection cannot carry it
  };
  kind what{};
  std::uint32_t session = 0;
  std::string_view identity; ///< valid during the call
  std::uint64_t count = 0; ///< queue_full: messages the queue holds; too_long: the message's octets
  std::uint64_t more = 0;  ///< queue_full: refusals since the last event; too_long: the limit
};
/// Called on a worker's thread, so it must return quickly.
using broker_observer = void (*)(void* context, const broker_event& event) noexcept;

class store;

class broker {
 public:
  /// Called now and then while a long open goes on: what, how many done, of how many.
  using progress = std::function<void(const std::string&, std::uint64_t, std::uint64_t)>;

  /// The areas a region needs to hold a broker's state: hand them to region::create().
  [[nodiscard]] static std::vector<area_spec>
  areas(const store_layout& layout, std::uint64_t region_size, std::uint32_t block_size);
  /// Recovers what the region holds and gets ready to serve. From here on the broker
  /// owns the region.
  [[nodiscard]] static result<std::unique_ptr<broker>> open(std::unique_ptr<chainring::region> on,
                                                            const broker_config& config,
                                                            const progress& told = {});
  /// What is wrong with the region's contents, in sentences; nothing is changed.
  [[nodiscard]] static result<std::vector<std::string>> check(chainring::region& on);
  ~broker();
  broker(const broker&) = delete;
  broker& operator=(const broker&) = delete;

  [[nodiscard]] broker_worker& worker(unsigned number) noexcept;
  [[nodiscard]] unsigned workers() const noexcept;
  /// The worker that serves the session of that identity, for all of this process's life. Any
  /// thread.
  [[nodiscard]] unsigned home_of(std::string_view identity) const noexcept;
  /// Before the workers run.
  void observe(broker_observer observer, void* context) noexcept;

  [[nodiscard]] const broker_config& config() const noexcept;
  [[nodiscard]] const open_summary& opened() const noexcept;
  [[nodiscard]] chainring::region& region() noexcept;
  [[nodiscard]] media& medium() noexcept;
  [[nodiscard]] broker_counters counters() const;
  [[nodiscard]] broker_counters counters(unsigned worker) const;
  /// Statistics of the tables in the region. Any thread.
  [[nodiscard]] block_store_statistics block_statistics() const noexcept;
  [[nodiscard]] message_table_statistics message_statistics() const noexcept;
  [[nodiscard]] queue_table_statistics queue_statistics() const noexcept;
  /// Session numbers are below this as long as the broker is open, however tables grow.
  [[nodiscard]] std::uint32_t sessions_limit() const noexcept;
  /// How many sessions and subscriptions the tables have room for now.
  [[nodiscard]] std::uint32_t sessions_capacity() const noexcept;
  [[nodiscard]] std::uint64_t subscriptions_capacity() const noexcept;
  /// Sessions from number `first` on, at most `max`; the next first, or 0 at the end. Any thread.
  [[nodiscard]] std::uint32_t sessions(std::uint32_t first, std::size_t max,
                                       std::vector<session_info>& out) const;
  /// Up to `max` of the filters there are. Any thread.
  [[nodiscard]] std::vector<topic_info> topics(std::size_t max) const;
  [[nodiscard]] std::uint32_t session_count() const noexcept;
  [[nodiscard]] std::uint32_t subscription_count() const noexcept;

  /// Asks the session's home to end it, its subscriptions and queue with it. False: no such
  /// session. Any thread.
  bool kick(std::string_view identity) noexcept;
  /// Asks the session's home to give up everything in its queue. False: no such session. Any
  /// thread.
  bool clear_queue(std::string_view identity) noexcept;

  /// Makes the region at least `size` bytes long, while workers run: what was refused for lack of
  /// blocks is accepted again. One thread at a time; the new size is durable before a block of it
  /// is used. errc::no_space: the medium or the reserved addresses end before.
  [[nodiscard]] result<void> grow(std::uint64_t size);
  /// Adds a segment, as large as what there is, to each table of which fewer than an eighth is
  /// free, or `at_once` to each, where half of the free blocks have room for it. One thread at a
  /// time, now and then, while workers run; drains. Returns how many tables have grown. What was
  /// refused for want of a session, subscription or message is accepted again.
  [[nodiscard]] result<unsigned> grow_tables(bool at_once = false);
  /// Closes the region cleanly. No worker runs any more.
  [[nodiscard]] result<void> close();

 private:
  friend class broker_worker;
  friend struct broker_access; // access.h
  struct shared;
  explicit broker(std::unique_ptr<shared> s);
  std::unique_ptr<shared> shared_;
};

} // namespace chainring
