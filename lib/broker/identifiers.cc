// SPDX-License-Identifier: BSD-3-Clause
// QoS 2 in both directions: the identifiers of publishers, and what subscribers have received.
//
// A publisher's identifier opens with the commit of its message. From then on a publish with this
// packet id is a repetition, which is answered and placed nowhere. PUBREL closes the identifier.
// The closing is drained with the first drain of its burst, so a publish behind the PUBREL in the
// same burst is a new message whose publication comes later.
//
// Its ordering labels are described in sessions.cc and burst.cc.
#include "base/hook.h"
#include "broker/worker_state.h"
#include "ring/consumer.h"

namespace chainring {

// Answers a publish whose identifier is known. Returns false when it is a new message.
bool broker_worker::state::repeats(front_end& by, std::uint32_t from, std::uint16_t packet_id,
                                   std::uint64_t token) noexcept {
  const identifier_table::entry* known = identifiers.find(at(from).identifiers, packet_id);
  if (known == nullptr) return false;
  ++count.repeated_qos2;
  // While the first copy has no outcome, this one has none either.
  answer_with(&by, token, known->open ? outcome::accepted : outcome::repeated);
  return true;
}

// Returns false, and counts, when the session or the worker has no room for another identifier.
bool broker_worker::state::may_identify(std::uint32_t from) noexcept {
  if (at(from).identifiers.count < config.identifiers_per_session_max && !identifiers.full())
    return true;
  ++count.refused_identifiers;
  return false;
}

// Returns the entry of a publish that is staged or set aside, or nullptr when its session has ended
// since. The number of that session may belong to another worker by now.
identifier_table::entry* broker_worker::state::entry_of(const message& m) noexcept {
  session& s = at(m.fields.publisher_session);
  // [incarnation-read]
  if (s.incarnation.load(std::memory_order_relaxed) != m.fields.publisher_incarnation)
    return nullptr;
  identifier_table::entry* e = identifiers.find(s.identifiers, m.fields.packet_id);
  return e != nullptr && e->message == m.ref ? e : nullptr;
}

// Forgets the identifier of a publish that is refused, so that the same publish may succeed later.
void broker_worker::state::forget_identifier(const message& m) noexcept {
  if (!m.fields.identifier_open || entry_of(m) == nullptr) return;
  identifiers.remove(at(m.fields.publisher_session).identifiers, m.fields.packet_id);
}

// Hands the publisher's reference to the identifier, whose message is published and drained.
void broker_worker::state::open_identifier_of(const message& m, bool lost) noexcept {
  identifier_table::entry* e = entry_of(m);
  if (e == nullptr) { // its session has ended, durably, so nothing on media names the message by it
    durable.messages().drop_reference(m.ref.index);
    return;
  }
  if (!lost) {
    e->open = true;
    return;
  }
  // The publisher got no answer because the content is lost. It sends the message again, which must
  // not count as a repetition.
  identifiers.remove(at(m.fields.publisher_session).identifiers, m.fields.packet_id);
  closings.push_back({m.ref, nullptr, 0});
}

void broker_worker::state::release_identifier(std::uint32_t n, std::uint16_t packet_id,
                                              std::uint64_t token) noexcept {
  session& s = at(n);
  if (!own(n)) return;
  const identifier_table::entry* e = identifiers.find(s.identifiers, packet_id);
  if (e == nullptr) return answer_with(s.server, token, outcome::accepted);
  // The publisher releases a message that was not acknowledged yet. Its answer follows first.
  if (!e->open) return answer_with(s.server, token, outcome::repeated);
  ++count.released_qos2;
  closings.push_back({e->message, s.server, token});
  identifiers.remove(s.identifiers, packet_id);
}

// Stores and flushes the closings; the caller drains.
void broker_worker::state::close_identifiers() noexcept {
  for (const closing& c : closings) {
    // [closed-before-reuse] Without it an identifier that is open again after a crash could swallow
    // the next message with its packet id.
    (void)durable.messages().close_identifier(c.message);
    if (!seeded_bug("broker.identifier_not_flushed"))
      durable.messages().flush_descriptor(c.message.index); // [closed-before-reuse]
  }
}

// Follows the drain of the closings.
void broker_worker::state::finish_closings() noexcept {
  for (const closing& c : closings) {
    durable.messages().drop_reference(c.message.index); // [closed-before-reuse]
    answer_with(c.by, c.token, outcome::accepted);
  }
  closings.clear();
}

// --- what subscribers have received
// ---------------------------------------------------------------

void broker_worker::state::received(std::uint32_t n, std::uint64_t ticket,
                                    std::uint64_t token) noexcept {
  session& s = at(n);
  if (!own(n)) return;
  if (!is_in_flight(s, ticket)) return answer_with(s.server, token, outcome::not_found);
  if (!seeded_bug("broker.receipt_not_stored") &&
      queue_consumer(durable.queues()).set_state(n, ticket, slot_state::pubrec)) {
    ++count.received_qos2;
    receipts.push_back({n, s.incarnation.load(std::memory_order_relaxed), // [incarnation-read]
                        ticket});
  }
  // Where the state was `pubrec` already, it is durable or becomes so with this burst.
  answer_with(s.server, token, outcome::accepted); // [received-before-release]
}

// Flushes the slots whose messages were received; the caller drains.
void broker_worker::state::flush_receipts() noexcept {
  for (const receipt& r : receipts)
    // [received-before-release] Without it a message whose PUBREL was sent could be delivered again
    // after a crash.
    // A session that has ended meanwhile may have another home. [incarnation-read]
    if (at(r.session).incarnation.load(std::memory_order_relaxed) == r.incarnation &&
        !seeded_bug("broker.receipt_not_flushed"))
      queue_consumer(durable.queues()).flush_slot(r.session, r.ticket); // [received-before-release]
  receipts.clear();
}

} // namespace chainring
