// SPDX-License-Identifier: BSD-3-Clause
// The calls that front ends make. What they do stands in the files that worker_state.h names.
#include "base/assert.h"
#include "broker/worker_state.h"

namespace chainring {

broker_worker::broker_worker(std::unique_ptr<state> s) : state_(std::move(s)) {}
broker_worker::~broker_worker() = default;

opened_session broker_worker::open_session(front_end& by, std::string_view identity,
                                           const session_options& options,
                                           std::uint64_t token) noexcept {
  return state_->open(by, identity, options, token);
}
void broker_worker::close_session(std::uint32_t n, end_reason reason,
                                  std::uint64_t token) noexcept {
  state_->close(n, reason, token);
}
void broker_worker::set_expiry(std::uint32_t n, std::uint32_t expiry_s,
                               bool ends_with_connection) noexcept {
  state_->set_expiry(n, expiry_s, ends_with_connection);
}
void broker_worker::set_will(std::uint32_t n, const will_message* will, std::uint64_t token,
                             will_part part) noexcept {
  state_->set_will(n, will, part, token);
}
void broker_worker::sleep(std::uint32_t n, std::uint32_t duration_s, std::uint64_t token) noexcept {
  state_->sleep(n, duration_s, token);
}
bool broker_worker::has_identifiers(std::uint32_t n) const noexcept {
  return state_->own(n) && state_->at(n).has_identifiers;
}
bool broker_worker::delivered_all(std::uint32_t n) const noexcept {
  const session& s = state_->at(n);
  return !state_->own(n) || (!s.ready && s.exhausted && s.in_flight == 0 && s.moving == 0 &&
                             s.volatile_count == 0 && !s.has_pending);
}
std::uint32_t broker_worker::find_session(std::string_view identity) const noexcept {
  const auto n = state_->common.identities->get(state_->common.key_of(identity));
  return n && serves(*n, identity) ? *n : no_session;
}
std::string_view broker_worker::identity_of(std::uint32_t n) const noexcept {
  return state_->own(n) ? state_->durable.sessions().identity(n) : std::string_view{};
}
bool broker_worker::serves(std::uint32_t n, std::string_view identity) const noexcept {
  return state_->own(n) && state_->durable.sessions().identity(n) == identity;
}
// Lets an own session have what deliver() left, or what waited for another reason.
inline void broker_worker::state::resume(session& s, std::uint32_t n) noexcept {
  s.paused = false;
  s.asleep.store(false, std::memory_order_relaxed); // [turn-only]
  // Whatever comes for a session whose queue was exhausted makes the session ready.
  if (!s.exhausted || !offers_own_only(s)) make_ready(s, n);
}
void broker_worker::resume(std::uint32_t n) noexcept {
  if (state_->own(n)) state_->resume(state_->at(n), n);
}
topic_names& broker_worker::topics() noexcept {
  return state_->names;
}
CHAINRING_STAGE void broker_worker::publish(front_end& by, std::uint32_t from, std::uint32_t topic,
                                            std::span<const std::byte> content,
                                            const publish_options& options,
                                            std::uint64_t token) noexcept {
  state_->publish(by, from, topic, content, options, token);
}
void broker_worker::publish_with_properties(front_end& by, std::uint32_t from, std::uint32_t topic,
                                            std::span<const std::byte> content,
                                            std::span<const std::byte> properties,
                                            const publish_options& options,
                                            std::uint64_t token) noexcept {
  CHAINRING_ASSERT(properties.empty() || properties.front() != std::byte{0});
  state_->publish_any(by, from, topic, {content, properties}, options, token);
}
void broker_worker::release_identifier(std::uint32_t n, std::uint16_t packet_id,
                                       std::uint64_t token) noexcept {
  state_->release_identifier(n, packet_id, token);
}
void broker_worker::subscribe(std::uint32_t n, std::string_view filter,
                              const subscribe_options& options, std::uint64_t token) noexcept {
  state_->subscribe(n, filter, options, token, false);
}
void broker_worker::unsubscribe(std::uint32_t n, std::string_view filter,
                                std::uint64_t token) noexcept {
  state_->subscribe(n, filter, {}, token, true);
}
CHAINRING_STAGE void broker_worker::ack(std::uint32_t n, std::uint64_t ticket,
                                        ack_reason reason) noexcept {
  state_->ack(n, ticket, reason);
}
CHAINRING_STAGE [[gnu::flatten]] void broker_worker::ack_and_resume(std::uint32_t n,
                                                                    std::uint64_t ticket) noexcept {
  if (!state_->own(n)) return;
  session& s = state_->at(n);
  state_->ack(s, n, ticket, ack_reason::delivered);
  state_->resume(s, n);
}
void broker_worker::received(std::uint32_t n, std::uint64_t ticket, std::uint64_t token) noexcept {
  state_->received(n, ticket, token);
}
void broker_worker::give_back(std::uint32_t n, std::uint64_t ticket) noexcept {
  state_->give_back(n, ticket);
}
void broker_worker::skip(std::uint32_t n, std::uint64_t ticket) noexcept {
  state_->skip(n, ticket);
}
void broker_worker::report_too_long(std::uint32_t n, std::uint64_t size,
                                    std::uint64_t limit) noexcept {
  state_->notify_observer(broker_event::kind::too_long, n, size, limit);
}
mark_t broker_worker::end_burst() noexcept {
  const mark_t before = seeded_bug("broker.mark_before_burst") ? state_->medium.mark() : 0;
  state_->end_burst();
  return before != 0 ? before : state_->medium.mark();
}
bool broker_worker::worked() const noexcept {
  return state_->did_work;
}
unsigned broker_worker::number() const noexcept {
  return state_->number;
}

} // namespace chainring
