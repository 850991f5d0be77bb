// SPDX-License-Identifier: BSD-3-Clause
// Payloads that become messages where a port has received them (--rx-in-region). What is durable,
// and when, is as for payloads that are copied: flush_staged() flushes the content of both.
#include "broker/received_content.h"
#include "broker/worker_state.h"

namespace chainring {

bool received_content::reserve(const message_fields& fields, std::string_view topic,
                               std::span<const std::byte> payload, message& out) noexcept {
  if (held_ == payload.data() && held_ != nullptr) { // it has the same fields
    out = taken_;
    held_ = nullptr;
    return true;
  }
  const bool taken = messages_.reserve_taken(fields, topic, payload, *source_, out);
  ++(taken ? count_.received_in_place : count_.received_copied);
  return taken;
}

bool received_content::stage(const message_fields& fields, std::string_view topic,
                             std::span<const std::byte> payload, staged_message& out) noexcept {
  release(); // taken_ is used again
  if (!messages_.reserve_taken(fields, topic, payload, *source_, taken_)) return false;
  ++count_.received_in_place;
  message m = taken_;
  messages_.stage(m);
  out = messages_.as_staged(m);
  return true;
}

void received_content::give_up(staged_message& m, std::span<const std::byte> payload) noexcept {
  if (wants(payload.size()) && taken_.chains.count != 0)
    held_ = payload.data();
  else
    messages_.discard(m);
}

void received_content::drop_held() noexcept {
  held_ = nullptr;
  messages_.discard(taken_);
}

void broker_worker::receive_from(content_source* source, std::size_t octets_min) noexcept {
  state_->in_place.use(source, octets_min);
}

} // namespace chainring
