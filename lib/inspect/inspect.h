// SPDX-License-Identifier: BSD-3-Clause
/// Inspection: reads what a region holds, record by record, and never writes. The region may be
/// closed, damaged, or in use by another process (region::attach()).
///
/// **When to use:** to show sessions, queues, messages and named objects of a region, beside its
/// running owner or without one. **When not:** to serve from a region (objects.h, broker.h), or to
/// judge whether it is whole (objects::check(), broker::check()), which takes a quiet region.
///
/// **How it reads.** Each record is copied line by line, and only the copy is judged and used. It
/// counts if it is valid as its header says (`*_media.h`): its checks fit, every index and chain in
/// it lies inside the region, and what the chain holds fits its checksum. A record that is not
/// valid is read again, a few times. If it then stays the same it is *damaged*. If it is different
/// every time it is *changing*: its owner stores to it, and there is no stable reading. Where a
/// record leads to another (a queue to its slots, a slot to its message), the first one is read
/// once more at the end, and if it no longer leads there the reading starts again.
///
/// **What a reading means.** Each record that is given to a callback was there in that form at some
/// moment. Two records may be of different moments while an owner stores, so a count need not agree
/// with another: this is a look and no snapshot. In class `file` an attached region is a copy of
/// one moment, and all records agree. Outside class `file`, what is seen may not be durable yet.
///
/// **Hostile input.** Nothing in the region is trusted. Every loop is bounded by the size of the
/// region, and nothing that is read makes a call fail otherwise than by counting it as damaged.
/// What clients and programs chose (identities, topics, keys, contents) is given as it is: escape
/// it before it is shown.
///
/// **Thread-safety:** an inspection is used by one thread at a time. Any number of them may look at
/// one region. **Allocation:** every call allocates.
///
///     auto r = region::attach({.path = "/dev/hugepages/broker"}).value();
///     inspection look(*r);
///     look.sessions([](const session_look& s) { puts(escape(s.identity).c_str()); });
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "../region/region.h"

namespace chainring {

/// How often what kind of reading was made.
struct look_counts {
  std::uint64_t whole = 0;
  std::uint64_t damaged = 0;
  std::uint64_t changing = 0;
  look_counts& operator+=(const look_counts& o) noexcept {
    whole += o.whole;
    damaged += o.damaged;
    changing += o.changing;
    return *this;
  }
};

/// A session's record, or that of a group of a shared subscription.
struct session_look {
  std::uint32_t number = 0;
  std::uint32_t incarnation = 0;
  std::string identity; ///< of a group: its name, a slash and its filter
  bool ends_with_connection = false;
  std::uint8_t front_end = 0;
  std::uint64_t created_ns = 0;      ///< on the wall clock
  bool has_settings = false;         ///< false: those below mean nothing
  bool settings_damaged = false;     ///< it had some, and they fail their check
  std::uint64_t disconnected_ns = 0; ///< on the wall clock; 0: connected, or never lost
  std::uint32_t expiry_s = 0;        ///< 0 means the broker's setting
  bool has_will = false;
};

/// A queue's record and its slots.
struct queue_look {
  std::uint32_t number = 0;
  std::uint32_t incarnation = 0;
  bool several_consumers = false;
  unsigned rings = 0;          ///< 0: nothing was placed in this incarnation
  std::uint64_t slots = 0;     ///< of all rings; one in each ring stays empty
  std::uint64_t head = 0;      ///< the last ticket that was released
  std::uint64_t newest = 0;    ///< the last ticket that was placed; 0: none is known
  std::uint64_t waiting = 0;   ///< entries that are to be delivered, those in `receiving` included
  std::uint64_t receiving = 0; ///< of these, messages at QoS 2 whose PUBREC was received
  std::uint64_t unpublished = 0; ///< slots of messages that are not published (yet)
  look_counts slots_read;        ///< damaged: slots that cannot be delivered
};

/// An entry of a queue that waits for its consumer.
struct entry_look {
  std::uint64_t ticket = 0;
  bool receiving = false;    ///< its PUBREC was received
  bool moving = false;       ///< it came from a group's queue
  std::uint64_t value = 0;   ///< the entry itself, in a queue whose entries are values
  std::uint32_t message = 0; ///< number of its message, in any other queue
  std::uint16_t generation = 0;
  std::uint16_t delivery = 0; ///< ring/slot_delivery.h, in the broker's queues
};

/// A message's descriptor and its content.
struct message_look {
  std::uint32_t number = 0;
  std::uint16_t generation = 0;
  bool held = false; ///< a will that was not sent
  bool identifier_open = false;
  std::uint8_t qos = 0;
  std::uint8_t flags = 0; ///< message_flag_*
  std::uint16_t packet_id = 0;
  std::uint32_t publisher = 0;                    ///< number of the session that published it
  std::uint64_t published_ns = 0, expires_ns = 0; ///< on the wall clock; 0: never
  std::string topic;
  std::vector<std::byte> properties, payload;
};

struct subscription_look {
  std::uint32_t session = 0, incarnation = 0;
  std::string filter;
  std::uint32_t options = 0; ///< subscription_option
  std::uint32_t identifier = 0;
};

struct retained_look {
  std::string topic;
  message_look message;
};

enum class object_kind : std::uint8_t {
  other, ///< a type that this build does not know, or no named object
  map,
  multimap,
  bimap,
  queue,
};

/// A named object. `kind` other has no entries to look at.
struct object_look {
  std::string name;
  object_kind kind = object_kind::other;
  std::string type; ///< in words, as docs/media-format.md says
  std::uint32_t version = 0;
  std::uint32_t streams = 0;     ///< of a queue
  std::uint32_t entry_bytes = 0; ///< of a queue; 0: any number
  bool values = false;           ///< a queue whose entries lie in its slots
  bool damaged = false;          ///< its header fails its check
};

class inspection {
 public:
  using bytes = std::span<const std::byte>;
  /// Which of the broker's tables of sessions and queues: those of sessions, or of groups.
  enum class owner : std::uint8_t { session, group };

  /// The region outlives the inspection.
  explicit inspection(const region& of) noexcept : region_(of) {}

  // --- a broker ---------------------------------------------------------------------------------

  /// True if the region has a broker's areas.
  [[nodiscard]] bool has_broker() const;
  /// Calls fn for each session, or each group, in the order of their numbers.
  look_counts sessions(const std::function<void(const session_look&)>& fn,
                       owner of = owner::session);
  /// Calls fn for each queue whose incarnation is that of its session or group.
  look_counts queues(const std::function<void(const queue_look&)>& fn, owner of = owner::session);
  /// Calls fn(entry, message) for what waits in one queue of the broker, oldest first. Messages
  /// whose content is not whole count as damaged.
  look_counts entries(std::uint32_t queue, owner of,
                      const std::function<void(const entry_look&, const message_look&)>& fn);
  /// Calls fn for each subscription of a session in its present incarnation, in no order.
  look_counts subscriptions(const std::function<void(const subscription_look&)>& fn);
  /// Calls fn for each topic with a retained message, in no order.
  look_counts retained(const std::function<void(const retained_look&)>& fn);

  // --- named objects ----------------------------------------------------------------------------

  /// All objects, in the order of the directory.
  [[nodiscard]] std::vector<object_look> objects();
  /// Calls fn(key, value) for each entry of a map, in no order. The entries of a multimap or bimap
  /// are given as (first half, second half).
  look_counts map_entries(const object_look& map, const std::function<void(bytes, bytes)>& fn);
  /// Calls fn(queue) for each stream of a queue.
  look_counts streams(const object_look& queue, const std::function<void(const queue_look&)>& fn);
  /// Calls fn(entry, its bytes) for what waits in one stream, oldest first.
  look_counts queue_entries(const object_look& queue, std::uint32_t stream,
                            const std::function<void(const entry_look&, bytes)>& fn);

  /// Sentences about the damage that the calls so far have found, at most damage_max of them.
  [[nodiscard]] const std::vector<std::string>& damage() const noexcept { return damage_; }
  static constexpr std::size_t damage_max = 1000;

 private:
  const region& region_;
  std::vector<std::string> damage_;
};

} // namespace chainring
