// SPDX-License-Identifier: BSD-3-Clause
// What the clients of both protocols have in common: their names, the way to a session, and what
// the ledger is told.
#include <algorithm>
#include <charconv>
#include <rte_cycles.h>

#include "generator.h"
#include "topic_ids.h"

namespace chainring::gen {

namespace {

constexpr std::string_view alphabet =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
constexpr unsigned backoff_shift_max = 3;    ///< a retransmission waits for up to eight intervals
constexpr unsigned congestion_shift_max = 8; ///< a refused message waits for up to 256 ms

std::string_view join(std::span<char> room, std::string_view a, std::string_view b,
                      std::uint32_t n) noexcept {
  char* at = std::ranges::copy(a, room.data()).out;
  at = std::ranges::copy(b, at).out;
  at = std::to_chars(at, room.data() + room.size(), n).ptr;
  return {room.data(), at};
}

} // namespace

// --- names and addresses ----------------------------------------------------------------------

std::string_view generator::topic_name(std::uint32_t topic, std::span<char> room) const noexcept {
  if (options_.shape.qos != -1) return join(room, options_.shape.prefix, "/", topic);
  room[0] = alphabet[topic / alphabet.size()];
  room[1] = alphabet[topic % alphabet.size()];
  return {room.data(), 2};
}

std::uint32_t generator::topic_of_name(std::string_view name) const noexcept {
  std::uint32_t topic = topic_ids::none;
  if (options_.shape.qos == -1) {
    if (name.size() != 2) return topic_ids::none;
    const std::size_t high = alphabet.find(name[0]), low = alphabet.find(name[1]);
    if (high == alphabet.npos || low == alphabet.npos) return topic_ids::none;
    topic = static_cast<std::uint32_t>(high * alphabet.size() + low);
  } else {
    const std::string& prefix = options_.shape.prefix;
    if (!name.starts_with(prefix) || name.size() < prefix.size() + 2 || name[prefix.size()] != '/')
      return topic_ids::none;
    const char* end = name.data() + name.size();
    const auto read = std::from_chars(name.data() + prefix.size() + 1, end, topic);
    if (read.ec != std::errc() || read.ptr != end) return topic_ids::none;
  }
  return topic < options_.shape.topics ? topic : topic_ids::none;
}

std::string_view generator::client_id(std::uint32_t i, std::span<char> room) const noexcept {
  const std::string_view id = is_publisher(i)
                                  ? join(room, options_.shape.prefix, "-pub-", i)
                                  : join(room, options_.shape.prefix, "-sub-", subscriber_of(i));
  const std::string_view letters = crossing_.letters(i);
  std::ranges::copy(letters, room.data() + id.size());
  return {room.data(), id.size() + letters.size()};
}

net::endpoint generator::endpoint_of(std::uint32_t i) const noexcept {
  return {options_.address.address + i / options_.source_ports,
          static_cast<std::uint16_t>(options_.source_port + i % options_.source_ports), 0};
}

// --- sessions ---------------------------------------------------------------------------------

void generator::arm(std::uint32_t i) noexcept {
  due_[i] = now_ + (retry_tsc_ << std::min<unsigned>(clients_[i].tries, backoff_shift_max));
}

void generator::start(std::uint32_t i) noexcept {
  clients_[i].tries = 0;
  ++opening_;
  const bool wipe =
      !is_publisher(i) && !options_.shape.clean && !ledger_.subscribed(subscriber_of(i));
  connect(i, wipe ? state::wiping : state::connecting);
}

void generator::reconnect(std::uint32_t i) noexcept {
  client& c = clients_[i];
  ++outcome_.reconnects;
  if (c.state == state::ready) ++opening_;
  if (!is_publisher(i) && options_.shape.clean) ledger_.unsubscribe(subscriber_of(i));
  c.tries = 0;
  connect(i, state::connecting);
}

void generator::connected(std::uint32_t i, bool prepares) noexcept {
  client& c = clients_[i];
  c.tries = 0;
  progress();
  if (!is_publisher(i)) {
    if (ledger_.subscribed(subscriber_of(i))) return set_ready(i);
  } else if (!prepares) {
    return set_ready(i);
  }
  c.request_id = c.request_id % 65535 + 1;
  prepare(i);
}

void generator::set_ready(std::uint32_t i) noexcept {
  client& c = clients_[i];
  c.state = state::ready;
  c.tries = 0;
  --opening_;
  progress();
  if (!is_publisher(i)) {
    due_[i] = now_ + ping_tsc_;
    return;
  }
  due_[i] = 0;
  if (!ledger_.outstanding(i)) return enqueue(i);
  c.dup = true; // the broker may have accepted it before the session ended
  ++ledger_.count.resent;
  publish(i);
}

/// Puts the publisher into the ring of those that may send another message.
void generator::enqueue(std::uint32_t i) noexcept {
  client& c = clients_[i];
  if (c.queued) return;
  c.queued = true;
  ready_[(ready_first_ + ready_count_++) % ready_.size()] = i;
}

// --- messages -----------------------------------------------------------------------------------

bool generator::awaits(std::uint32_t i, std::uint16_t id) const noexcept {
  return ledger_.outstanding(i) && clients_[i].state == state::ready &&
         id == id_of(ledger_.last_stamp(i).sequence);
}

void generator::acknowledged(std::uint32_t i) noexcept {
  client& c = clients_[i];
  const std::uint64_t sent_ns = ledger_.last_stamp(i).sent_ns, now_ns = ns(now_);
  if (sent_ns >= start_ns_ && sent_ns <= now_ns) to_ack_.record(now_ns - sent_ns);
  ledger_.acknowledge(i);
  ack_tsc_ = now_;
  --outstanding_;
  due_[i] = 0;
  c.tries = c.refusals = 0;
  progress();
  enqueue(i);
}

void generator::congested(std::uint32_t i) noexcept {
  client& c = clients_[i];
  ++ledger_.count.congestion;
  due_[i] = now_ + (cycles(0.001) << std::min<unsigned>(c.refusals, congestion_shift_max));
  c.tries = 0;
  c.refused = true;
  if (c.refusals < 255) ++c.refusals;
}

void generator::delivered(std::uint32_t subscriber, std::uint32_t topic,
                          std::span<const std::byte> data, bool dup) noexcept {
  delivery_tsc_ = now_;
  stamp of;
  if (ledger_.deliver(subscriber, topic, data, dup, of) != delivery_kind::fresh) return;
  progress();
  fresh_tsc_ = now_;
  const std::uint64_t now_ns = ns(now_);
  if (of.sent_ns >= start_ns_ && of.sent_ns <= now_ns) to_delivery_.record(now_ns - of.sent_ns);
}

bool generator::again_later(std::uint32_t i, const char* what, bool congestion,
                            const char* answer) noexcept {
  if (congestion) {
    ++ledger_.count.congestion;
    arm(i);
    return true;
  }
  if (outcome_.refusal.empty()) {
    char room[name_room];
    outcome_.refusal =
        std::string(what) + " of " + std::string(client_id(i, room)) + " was " + answer;
  }
  return false;
}

} // namespace chainring::gen
