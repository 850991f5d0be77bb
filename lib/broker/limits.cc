// SPDX-License-Identifier: BSD-3-Clause
// How much a queue may hold, and what becomes of a message for a full one. Sessions that end with
// their connection may have other limits and another policy than durable ones; the groups of shared
// subscriptions have those of durable sessions.
//
// Its ordering label [home-read] is described in sessions.cc.
#include <algorithm>

#include "broker/worker_state.h"
#include "ring/consumer.h"

namespace chainring {

// The flags are read from the record, because the session may belong to another worker. A session
// that changes its class meanwhile may be judged as either.
bool broker_worker::state::is_clean(std::uint32_t subscriber) noexcept {
  return !common.groups.is_group(subscriber) &&
         (durable.sessions().word0(subscriber).flags & session_flag_clean) != 0;
}

overflow_policy broker_worker::state::policy_of(std::uint32_t subscriber) noexcept {
  const overflow_policy policy =
      config.overflow_clean && is_clean(subscriber) ? *config.overflow_clean : config.overflow;
  // Only one consumer may drop the oldest message of a queue, and a group has several.
  return policy == overflow_policy::drop_oldest && common.groups.is_group(subscriber)
             ? overflow_policy::drop_newest
             : policy;
}

// The most messages that the subscriber's queue may hold.
std::uint32_t broker_worker::state::slots_of(std::uint32_t subscriber) noexcept {
  return slots_differ && is_clean(subscriber) ? config.queue_slots_clean : config.queue_slots;
}

// The most slots that may be in use in the queue when more are placed. The table's own limit
// suffices where all queues have the same.
std::uint32_t broker_worker::state::slots_bound(std::uint32_t subscriber) noexcept {
  return slots_differ ? slots_of(subscriber) : UINT32_MAX;
}

// How many messages can be placed in the subscriber's queue now, or after it has grown.
std::uint32_t broker_worker::state::room_of(std::uint32_t subscriber) noexcept {
  const std::uint32_t q = queue_of(subscriber);
  const std::uint32_t free = table_of(subscriber).free_count(q);
  if (!slots_differ) return free;
  const std::uint32_t most = slots_of(subscriber), depth = table_of(subscriber).depth(q);
  return std::min(free, most - std::min(most, depth));
}

// Says whether the queue of the subscriber would exceed its limit of bytes with one more message of
// that size, behind those of this burst.
bool broker_worker::state::exceeds_bytes(std::uint32_t subscriber, std::uint64_t size) noexcept {
  if (config.queue_bytes == 0) return false;
  const std::uint64_t held =
      table_of(subscriber).content_bytes(queue_of(subscriber)) + planned.bytes_of(subscriber);
  return held != 0 && held + size > config.queue_bytes;
}

// How many bytes must leave the queue of a session so that it can take `size` more. An empty
// queue takes any message.
std::uint64_t broker_worker::state::bytes_to_free(std::uint32_t session,
                                                  std::uint64_t size) noexcept {
  if (config.queue_bytes == 0) return 0;
  const std::uint64_t held = durable.queues().content_bytes(session);
  return std::min(held, held + size - std::min(held + size, config.queue_bytes));
}

// The bytes of the messages of a group, where they count.
std::uint64_t broker_worker::state::group_bytes(const group& g) noexcept {
  if (config.queue_bytes == 0) return 0;
  std::uint64_t bytes = 0;
  for (std::uint32_t i = 0; i < g.count; ++i)
    bytes += durable.messages().size_of(staged[targets[g.first + i].publish].content.ref.index);
  return bytes;
}

// What the queue of a session has to drop so that it can take `n` more messages of together `size`
// bytes.
drop_plan broker_worker::state::plan_drop(std::uint32_t session, std::uint32_t n,
                                          std::uint64_t size) noexcept {
  return queue_consumer(durable.queues())
      .plan_drop(session, slots_to_free(session, n), bytes_to_free(session, size));
}

// Says whether the full queue of a session of this worker can make room for one more message,
// behind those of this burst, by dropping its oldest. The messages of one burst do not drop each
// other.
bool broker_worker::state::can_make_room(std::uint32_t session, std::uint64_t size) noexcept {
  const std::uint32_t n = planned.of(session);
  const std::uint64_t bytes = planned.bytes_of(session) + size;
  if (n >= slots_of(session) || (n != 0 && config.queue_bytes != 0 && bytes > config.queue_bytes))
    return false;
  return at(session).home.load(std::memory_order_relaxed) != number || // [home-read]
         plan_drop(session, n + 1, bytes).possible;
}

// Notes how many messages the subscriber's queue holds, for those who look at it later.
void broker_worker::state::note_high_water(std::uint32_t subscriber, std::uint64_t depth) noexcept {
  std::atomic<std::uint64_t>& most = common.groups.is_group(subscriber)
                                         ? common.groups.at(queue_of(subscriber)).high_water
                                         : at(subscriber).high_water;
  if (depth > most.load(std::memory_order_relaxed)) // [shown-only]
    most.store(depth, std::memory_order_relaxed);   // [shown-only]
}

// Counts a message that found the limit of bytes in some queues.
void broker_worker::state::count_over_bytes() noexcept {
  count.over_queue_bytes += beyond_bytes.size();
  for (const std::uint32_t n : beyond_bytes)
    if (!common.groups.is_group(n))
      at(n).over_bytes.fetch_add(1, std::memory_order_relaxed); // [shown-only]
}

// How many slots the queue of a session must release so that it can take `n` more messages. A queue
// whose limit has become smaller may hold more than the limit.
std::uint32_t broker_worker::state::slots_to_free(std::uint32_t session, std::uint32_t n) noexcept {
  const std::uint32_t free = durable.queues().free_count(session);
  std::uint32_t drops = n - std::min(n, free);
  if (!slots_differ) return drops;
  const std::uint64_t most = slots_of(session),
                      wanted = std::uint64_t{durable.queues().depth(session)} + n;
  if (wanted > most) drops = std::max(drops, static_cast<std::uint32_t>(wanted - most));
  return drops;
}

} // namespace chainring
