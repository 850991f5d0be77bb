// SPDX-License-Identifier: BSD-3-Clause
/// The broker's core: sessions, subscriptions, queues and deliveries over a region, for any
/// protocol. The core knows no protocol, no ports and no sockets; front ends (front_end.h) call its
/// workers (worker.h).
///
/// **The contract.** When a publish is settled as accepted, its message and the message's place in
/// every matching queue are durable in the region's class. A message that is not accepted is in
/// every matching queue or in none. A QoS 1 delivery is repeated until its acknowledgement is
/// durable. A QoS 2 publish that its client repeats is placed once, and a QoS 2 delivery whose
/// receipt is durable is never sent again, also after a crash.
///
/// **Workers.** There is one worker per lcore. A session belongs to one worker, its home, which
/// alone serves it and consumes its queue. Any worker may place messages in any queue.
///
/// **Full queues.** `overflow` says what a full queue refuses or drops. A publish that one queue
/// refuses is placed in no queue, and drops nothing anywhere. The queue of a group of a shared
/// subscription has many consumers, so it drops its newest message where a session's queue drops
/// its oldest.
///
/// **Shared subscriptions.** Sessions that subscribe to `$share/<group>/<filter>` share the
/// messages that match the filter. Each message goes to one member, and waits for one while all are
/// away. A member that leaves, disconnects or is silent for too long gives its unacknowledged
/// messages to the others. A group ends with its last member.
///
/// Thread-safety: any thread may call the functions that say so, also while workers run.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../base/client_address.h"
#include "../base/error.h"
#include "../media/recovery_crew.h"
#include "../message/compactor.h"
#include "../region/region.h"
#include "../ring/ring.h"
#include "counters.h"
#include "operator_view.h"
#include "worker.h"

namespace chainring {

/// The sizes of the tables in a new region; the tables grow while the region is open.
struct store_layout {
  std::uint32_t sessions_max = 16384;
  std::uint32_t subscriptions_max = 65536;
  std::uint32_t messages_max = 0; ///< 0 means one for every two blocks
  std::uint32_t groups_max = 64;  ///< groups of shared subscriptions
  std::uint32_t retained_max = 1024;
};

struct broker_config {
  unsigned workers = 1;
  /// Threads that broker::open() may use to recover the region; they do nothing else meanwhile.
  recovery_crew crew = {};
  std::uint32_t queue_slots = 1024; ///< messages that the queue of a session holds at most
  /// Messages that a new queue has room for. It grows to queue_slots as it fills, and shrinks again
  /// after it has been nearly empty for a while. 0 means queue_slots from the first message on.
  std::uint32_t queue_slots_first = 255;
  overflow_policy overflow = overflow_policy::reject;
  /// The same for sessions that end with their connection: their limit of messages, 0 means
  /// queue_slots; and what becomes of a message for a full queue, where it differs from `overflow`.
  std::uint32_t queue_slots_clean = 0;
  std::optional<overflow_policy> overflow_clean;
  /// The most messages that any queue may hold.
  [[nodiscard]] std::uint32_t queue_slots_most() const noexcept {
    return queue_slots_clean > queue_slots ? queue_slots_clean : queue_slots;
  }
  /// Octets that the topics and contents of the messages in one queue may have; 0 means no limit.
  /// An empty queue takes any message. Workers that publish at the same time may exceed it by a
  /// burst each.
  std::uint64_t queue_bytes = 0;
  /// A session ends so long after its connection; 0 means never.
  std::uint32_t session_expiry_s = 0;
  /// A message that is kept is not delivered any more so long after its publish; 0 means never.
  std::uint32_t message_expiry_s = 0;
  /// The members that a group of a shared subscription has at most.
  std::uint32_t group_members_max = 256;
  /// The groups of which one session is a member at most, so that one client cannot take all
  /// groups. A session that has more of them when the limit is lowered stays in these.
  std::uint32_t group_memberships_per_session_max = 32;
  /// A member of a group that does not acknowledge a message within this time loses it to the other
  /// members, and gets none for as long. 0 means that it keeps its messages while it is connected,
  /// except those that its connection cannot carry: these it loses after group_lease_skipped_ms,
  /// which is then at least 1.
  std::uint32_t group_lease_ms = 30'000;
  std::uint32_t group_lease_skipped_ms = 30'000;
  /// How long a member keeps the oldest message of a full queue while others behind it are
  /// acknowledged, because their room comes back only behind it. Then the member loses it as after
  /// group_lease_ms, if another member is connected and awake. 0 means group_lease_ms.
  std::uint32_t group_lease_pressed_ms = 1000;
  /// Messages from groups that a worker's members have and have not acknowledged.
  std::uint32_t group_leases_max = 65536;
  std::uint32_t topics_max = 65536;           ///< topic names that a worker knows at one time
  std::uint32_t volatile_messages_max = 4096; ///< QoS 0 messages that are under way at one time
  std::uint32_t volatile_per_session_max = 16;
  /// A limit per source (session_options::source), so that one sender cannot take all sessions. A
  /// session counts to the source from which its client connected last, also while the client is
  /// away. 0 means no limit. Sources are forgotten in a restart.
  std::uint32_t sessions_per_source_max = 0;
  /// A limit per session, so that one client cannot take the whole table.
  std::uint32_t subscriptions_per_session_max = 8192;
  /// QoS 2 messages that a session has published and not released yet, and those of all sessions of
  /// a worker.
  std::uint16_t identifiers_per_session_max = 64;
  std::uint32_t identifiers_max = 65536;
  /// QoS 1 and 2 messages that are sent and not acknowledged, beyond the first of each session.
  std::uint32_t in_flight_max = 65536;
  /// A client that was connected when the process ended has so long after the next open to come
  /// back before its will is sent.
  std::uint32_t will_grace_s = 60;
  /// How long a will is tried again while the queue of a subscriber refuses it.
  std::uint32_t will_retry_s = 60;
  /// How long it waits between two tries; 0 means that each burst tries it.
  std::uint32_t will_retry_ms = 50;
  std::uint32_t wills_changing_max = 1024; ///< changes of wills that a worker has under way
  /// Publishes of a worker that wait until another worker makes room, or until a retained topic is
  /// free. Each sender has at most an eighth of them; those without a session are one sender.
  std::uint32_t aside_max = 64;
  /// The longest content in octets that a listener can deliver; a longer publish is refused.
  std::uint32_t content_size_max = 1463;
  std::uint32_t topic_size_max = 255;             ///< the longest topic name or filter, in octets
  std::uint32_t retained_messages_max = 1u << 20; ///< topics that may have a retained message
  /// Octets that the blocks of retained messages may take; 0 means a quarter of the region's blocks
  /// when it is opened. The message that the last one has replaced counts too.
  std::uint64_t retained_bytes_max = 0;
  /// Subscriptions of a worker that are given retained messages at one time.
  std::uint32_t retained_scans_max = 1024;
  /// Of these, those of one session, so that one client cannot take all places.
  std::uint16_t retained_scans_per_session_max = 16;
  /// Where a place is missing, a session that has taken no retained message for so long, because
  /// its queue has no room, gives one up.
  std::uint32_t retained_scan_idle_ms = 1000;
  /// The seed of the hash that spreads sessions over workers; 0 means a secret of this process.
  /// Clients that know the seed can choose their worker, so only tests and measurements set it.
  std::uint64_t home_seed = 0;
};

/// What operators are shown about a group of a shared subscription.
struct group_info {
  std::uint32_t number = 0;
  std::string name; ///< chosen by clients: escape it before it is shown, like the filter
  std::string filter;
  std::uint32_t members = 0;
  std::uint64_t queue_depth = 0, queue_limit = 0, queue_high_water = 0;
  std::uint64_t leased = 0;  ///< messages that members have and have not acknowledged
  std::uint64_t refused = 0; ///< messages that its full queue refused in this life
};

/// What an open found, for the line in the log.
struct open_summary {
  durability_class durability{};
  std::uint64_t messages = 0, sessions = 0, queues = 0, subscriptions = 0, voided = 0, expired = 0;
  std::uint64_t retained = 0, groups = 0;
  double seconds = 0;
  std::vector<std::string> notes; ///< sentences about damage that was found
};

/// An event that an operator should know of. Each kind is reported at most once a second.
struct broker_event {
  enum class kind : std::uint8_t {
    opened,     ///< the session was opened
    closed,     ///< the front end ended the connection
    lost,       ///< the front end ended the connection: the client was silent or did not answer
    taken_over, ///< another connection of the same identity replaced it
    kicked,     ///< an operator ended the session
    expired,    ///< the session ended after its expiry time without a connection
    queue_full, ///< a publish was refused because the queue of this session is full
    group_full, ///< the same for the queue of a group; the identity is the group's name and filter
    too_long,   ///< a message stays in the queue because the connection cannot carry it
  };
  kind what{};
  std::uint32_t session = 0; ///< no_session for group_full
  std::string_view identity; ///< valid during the call
  /// For queue_full and group_full the messages in the queue; for too_long the octets of the
  /// message.
  std::uint64_t count = 0;
  /// For queue_full and group_full the refusals since the last event; for too_long the limit.
  std::uint64_t more = 0;
};
/// The observer is called on a worker's thread, so it must return quickly.
using broker_observer = void (*)(void* context, const broker_event& event) noexcept;

class store;

class broker {
 public:
  /// Called now and then during a long open, with what is being done, how many are done, of how
  /// many.
  using progress = std::function<void(const std::string&, std::uint64_t, std::uint64_t)>;

  /// The areas that a region needs to hold a broker's state; pass them to region::create().
  [[nodiscard]] static std::vector<area_spec>
  areas(const store_layout& layout, std::uint64_t region_size, std::uint32_t block_size);
  /// Recovers what the region holds and prepares to serve it. From then on the broker owns the
  /// region.
  [[nodiscard]] static result<std::unique_ptr<broker>>
  open(std::unique_ptr<chainring::region> region, const broker_config& config,
       const progress& report_progress = {});
  /// Returns sentences about what is wrong with the region's contents. It changes nothing.
  [[nodiscard]] static result<std::vector<std::string>> check(chainring::region& region);
  ~broker();
  broker(const broker&) = delete;
  broker& operator=(const broker&) = delete;

  [[nodiscard]] broker_worker& worker(unsigned number) noexcept;
  [[nodiscard]] unsigned workers() const noexcept;
  /// The number of the worker that serves the session of this identity, for the whole life of the
  /// process. Any thread may call it.
  [[nodiscard]] unsigned home_of(std::string_view identity) const noexcept;
  /// The same for a broker with this broker_config::home_seed and so many workers.
  [[nodiscard]] static unsigned home_of(std::string_view identity, std::uint64_t seed,
                                        unsigned workers) noexcept;
  /// Sets the observer. Call it before the workers run.
  void observe(broker_observer observer, void* context) noexcept;

  [[nodiscard]] const broker_config& config() const noexcept;
  [[nodiscard]] const open_summary& opened() const noexcept;
  [[nodiscard]] chainring::region& region() noexcept;
  [[nodiscard]] media& medium() noexcept;
  /// The store of blocks, for what lies in the region beside messages and is gone after a crash,
  /// such as the data rooms of a receive_pool. What has blocks of it gives them back before the
  /// broker ends.
  [[nodiscard]] block_store& blocks() noexcept;
  [[nodiscard]] broker_counters counters() const;
  [[nodiscard]] broker_counters counters(unsigned worker) const;
  /// Statistics of the tables in the region. Any thread may call these functions.
  [[nodiscard]] block_store_statistics block_statistics() const noexcept;
  [[nodiscard]] message_table_statistics message_statistics() const noexcept;
  [[nodiscard]] queue_table_statistics queue_statistics() const noexcept;
  /// All session numbers are below this limit while the broker is open, also after tables have
  /// grown.
  [[nodiscard]] std::uint32_t sessions_limit() const noexcept;
  /// The most sessions that one worker is the home of: half more than its share of all, and 1,024.
  /// A secret hash spreads the sessions, so no worker comes near it. What a worker keeps for each
  /// of its own sessions has this size, so the sum over all workers does not grow with their
  /// number.
  [[nodiscard]] std::uint32_t sessions_per_worker() const noexcept;
  /// How many sessions and subscriptions the tables have room for at present.
  [[nodiscard]] std::uint32_t sessions_capacity() const noexcept;
  [[nodiscard]] std::uint64_t subscriptions_capacity() const noexcept;
  /// Appends at most `max` sessions from number `first` on. Returns the `first` of the next call,
  /// or 0 at the end. Any thread may call it.
  [[nodiscard]] std::uint32_t sessions(std::uint32_t first, std::size_t max,
                                       std::vector<session_info>& out) const;
  /// Appends at most `max` groups from number `first` on. Returns the `first` of the next call, or
  /// 0 at the end. Any thread may call it.
  [[nodiscard]] std::uint32_t groups(std::uint32_t first, std::size_t max,
                                     std::vector<group_info>& out) const;
  [[nodiscard]] std::uint32_t group_count() const noexcept;
  /// How many members all groups have, and how many groups there is room for at present.
  [[nodiscard]] std::uint32_t group_member_count() const noexcept;
  [[nodiscard]] std::uint32_t groups_capacity() const noexcept;
  [[nodiscard]] queue_table_statistics group_queue_statistics() const noexcept;
  /// Returns the session of that identity, or nothing. Any thread may call it.
  [[nodiscard]] std::optional<session_info> session_of(std::string_view identity) const;
  /// Appends at most `max` filters from position `first` on. Returns the `first` of the next call,
  /// or 0 at the end. It may append fewer, or none, before the end, because sessions wait to
  /// subscribe meanwhile. Any thread may call it.
  std::uint32_t topics(std::uint32_t first, std::size_t max, std::vector<topic_info>& out) const;
  /// Returns the first `max` filters. Any thread may call it.
  [[nodiscard]] std::vector<topic_info> topics(std::size_t max) const;
  /// Returns up to `max` subscriptions of a session, after the first `skip` of them. Any thread may
  /// call it; a session that ends meanwhile has none.
  [[nodiscard]] std::vector<subscription_info>
  subscriptions_of(std::uint32_t session, std::uint32_t skip, std::size_t max) const;
  /// Appends at most `max` retained messages from place `first` on. Returns the `first` of the next
  /// call, or 0 at the end. Any thread may call it.
  [[nodiscard]] std::uint32_t retained(std::uint32_t first, std::size_t max,
                                       std::vector<retained_info>& out) const;
  [[nodiscard]] retained_statistics retained_counts() const noexcept;
  [[nodiscard]] std::uint32_t session_count() const noexcept;
  [[nodiscard]] std::uint32_t subscription_count() const noexcept;

  /// Asks the home of the session to end it and to delete its subscriptions and queue. The reply
  /// tells what was done, once it is done. It is null when there is no such session. Any thread may
  /// call it.
  std::shared_ptr<const operator_reply> kick(std::string_view identity);
  /// Asks the home of the session to drop all messages in its queue, with a reply as for kick().
  std::shared_ptr<const operator_reply> clear_queue(std::string_view identity);
  /// Asks a worker to delete the retained message of the topic, with a reply as for kick(). Nothing
  /// is sent to subscribers. Null when the topic has none.
  std::shared_ptr<const operator_reply> clear_retained(std::string_view topic);
  /// Drains the broker, or serves again: while it drains it opens no session that is not connected
  /// and refuses every publish with congestion, and goes on delivering. Any thread may call it.
  void set_draining(bool on) noexcept;
  [[nodiscard]] bool draining() const noexcept;
  /// Changes broker_config::session_expiry_s for sessions that expire from now on. Any thread may
  /// call it.
  void set_session_expiry(std::uint32_t seconds) noexcept;
  [[nodiscard]] std::uint32_t session_expiry() const noexcept;

  /// Makes the region at least `size` bytes long while workers run; publishes that were refused for
  /// lack of blocks are then accepted again. One thread at a time may call it. The new size is
  /// durable before a new block is used. errc::no_space means that the medium or the reserved
  /// addresses end before.
  [[nodiscard]] result<void> grow(std::uint64_t size);
  /// Adds a segment to each table of which fewer than an eighth is free, or with `at_once` to each
  /// table. The segment is as large as the table, and is added only if half of the free blocks have
  /// room for it. One thread at a time calls it now and then while workers run; it drains. Returns
  /// how many tables have grown. Requests that were refused for lack of a session, subscription or
  /// message are then accepted again.
  [[nodiscard]] result<unsigned> grow_tables(bool at_once = false);
  /// Moves messages together, so that the free blocks form long runs again (compactor.h): one step
  /// of bounded work, which drains. Until it returns `idle` there is more to do, and a part of the
  /// free blocks is set aside. One thread at a time calls it while workers run. An error: there is
  /// no memory for it.
  [[nodiscard]] result<compaction> compact(compaction_budget budget = {});
  /// What all calls of compact() have done. Any thread may ask.
  [[nodiscard]] compactor_statistics compaction_statistics() const noexcept;
  /// Closes the region cleanly. No worker may be running any more.
  [[nodiscard]] result<void> close();

 private:
  friend class broker_worker;
  friend struct broker_access; // access.h
  struct common_state;
  static void adopt_identifiers(common_state& s);
  explicit broker(std::unique_ptr<common_state> s);
  std::unique_ptr<common_state> common_;
};

} // namespace chainring
