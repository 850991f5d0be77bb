// SPDX-License-Identifier: BSD-3-Clause
/// The running state of a session, which its record on media does not hold. There is one for each
/// session number. Internal to the broker.
#pragma once
#include <atomic>
#include <cstdint>

#include "base/cacheline.h"
#include "base/client_address.h"
#include "base/statistic.h"
#include "broker/front_end.h"
#include "broker/identifiers.h"
#include "message/message.h"
#include "ring/ring.h"
#include "seqlock/seqlock.h"

namespace chainring {

enum class connection : std::uint8_t { none, disconnected, active };

/// A message that is sent and not acknowledged, beyond the first of its session.
struct in_flight_node {
  std::uint64_t ticket;
  std::uint32_t next;
};

/// Any thread may read the members marked (any). The others belong to the session's home worker.
/// What the path of a message touches stands in the first two lines: what other workers read too,
/// and what the home alone uses.
struct alignas(cacheline_size) session {
  static constexpr std::uint32_t none = 0xffffffff;

  std::atomic<connection> state{connection::none}; // (any)
  std::atomic<std::uint8_t> home{0};               // (any) set before the state
  std::atomic<bool> woken{false}; // (any) whether it is in its home's list of woken sessions
  // (any) Whether its client sleeps, until resume(). The home writes it.
  std::atomic<bool> asleep{false};
  std::atomic<std::uint32_t> incarnation{0};   // (any)
  std::atomic<std::uint32_t> next_woken{none}; // (any) the next session in that list
  // (any) The number of places in groups of shared subscriptions, in the list of `first_place`.
  std::atomic<std::uint32_t> memberships{0};
  std::atomic<std::uint64_t> high_water{0}; // (any) the most messages that its queue held
  // The last ticket that moved to its queue from a group and was not offered; 0: none. It stands
  // here because each delivery looks at it, and the home's line is full.
  std::uint64_t last_taken = 0;

  // The home's line.
  alignas(cacheline_size) front_end* server = nullptr; // the front end that serves the connection
  std::uint64_t first_ticket = 0;    // the message that is sent and not acknowledged; 0: none
  statistic published, delivered;    // (any) messages that its client has sent, or was sent
  std::uint32_t more_tickets = none; // further messages that are sent and not acknowledged
  std::uint32_t fresh_burst = 0;     // the last burst in which this worker placed messages for it,
  std::uint32_t fresh_group = 0;     // and the group of targets in which they are
  std::uint32_t volatile_count = 0;  // the QoS 0 messages that wait
  std::uint16_t window = 1;
  std::uint16_t in_flight = 0; // the number of tickets in first_ticket and more_tickets
  std::uint16_t moving = 0;    // messages of groups that move to the session's own queue
  std::uint16_t scans = 0;     // subscriptions that are still given retained messages
  std::uint16_t unsettled = 0; // scans whose subscription is not settled; until then nothing is
                               // delivered, so that the settlement comes first
  std::uint8_t aside = 0;      // publishes of this session that are set aside, at most 255
  bool ready = false;          // whether it is in the list of sessions that may have deliveries
  bool dirty = false;          // whether it is in the list of queues with acks to make durable
  bool paused = false;         // whether deliver() left a message, until resume()
  bool has_pending = false;    // whether `pending` is a message that is leased and not taken yet
  bool exhausted = false;      // whether the queue had nothing to lease when it was asked last

  alignas(cacheline_size) leased pending;
  std::atomic<std::uint64_t> refused{0};    // (any) messages that its full queue refused
  std::atomic<std::uint64_t> over_bytes{0}; // (any) messages beyond the limit of bytes
  // (any) The size of all messages together for which other workers have asked for room in the
  // queue; 0 means none.
  std::atomic<std::uint64_t> bytes_asked{0};
  // (any) The shortest of these messages; UINT64_MAX means none.
  std::atomic<std::uint64_t> bytes_asked_least{UINT64_MAX};
  // (any) When the oldest message in its queue was published, as check_sessions() last saw it.
  std::atomic<std::uint64_t> oldest_published_ns{0};
  statistic dropped_qos0;     // (any) QoS 0 messages for which there was no room
  statistic expired_messages; // (any) that were dropped from its queue

  seqlock<client_address> address;            // (any) given by the front end
  std::atomic<std::uint16_t> keep_alive_s{0}; // (any) given by the front end
  std::uint64_t source = 0;                   // where it counts; 0 means nowhere
  std::uint32_t staged_burst = 0;    // the last burst in which a publish of its client was staged
  bool ends_with_connection = false; // a copy of the flag in the record
  bool record_dirty = false;         // whether it is in the list of records to flush
  std::uint8_t endings = 0; // how many of its incarnations end in this burst
  bool has_identifiers = false; // whether one of its subscriptions was given an identifier

  identifier_list identifiers; // the QoS 2 messages it has published and not released
  // Groups of shared subscriptions (sharing.cc). Places and leases are stored plus one; 0 means
  // none.
  [[nodiscard]] std::uint32_t membership_count() const noexcept {
    return memberships.load(std::memory_order_relaxed); // [shown-only]
  }
  std::uint32_t joining = 0;        // places that this burst has given it, not in the list yet
  std::uint32_t first_place = 0;    // the session's places in groups
  std::uint32_t next_place = 0;     // where the next delivery from a group begins
  std::uint32_t first_lease = 0;    // the messages that it got from groups, latest first
  std::uint32_t leases = 0;         // the number of these
  std::uint32_t pending_leases = 0; // those of these that are to be offered, or offered again
  bool resting = false;             // whether it is in the list of sessions that rest from a group
  std::uint16_t last_group_id = 0;  // from which the last packet id of such a message follows
  bool groups_next = false;         // whether the next delivery is one from a group
  std::uint64_t groups_from_tsc = 0; // it gets nothing from groups before this time
  // The will (wills.cc). It is due when it is to be sent, now or after a while.
  bool will_due = false;
  bool will_certain = false;    // the due will is sent even if the client comes back
  bool will_graced = false;     // the will became due because the process had ended
  bool will_listed = false;     // whether the session is in one of the lists of due wills
  bool will_counted = false;    // whether a full queue that it found was counted
  bool will_blocked = false;    // used while changes of wills are applied
  bool ends_after_will = false; // the session ends once its will has been sent
  std::uint64_t will_due_tsc = 0;
  std::uint64_t will_until_tsc = 0; // when a will that finds no room is given up; 0: not tried yet

  // The subscriptions of this burst that may be given retained messages, and when the session last
  // took a message while some of its subscriptions were given them, or the first of these began.
  std::uint16_t scans_promised = 0;
  std::uint64_t taken_tsc = 0;

  std::uint32_t volatile_first = none, volatile_last = none; // the QoS 0 messages that wait
};
static_assert(offsetof(session, server) == cacheline_size &&
              offsetof(session, pending) == 2 * cacheline_size);

} // namespace chainring
