// SPDX-License-Identifier: BSD-3-Clause
#include "ledger.h"

#include <algorithm>
#include <bit>
#include <random>

namespace chainring::gen {

result<ledger> ledger::create(const shape& of, std::uint64_t window) {
  ledger l(of);
  std::random_device entropy;
  while (l.run_ == 0)
    l.run_ = entropy();
  l.subscribed_.resize(of.subscribers);
  l.publishers_.resize(of.publishers);
  for (publisher_state& p : l.publishers_)
    p.starts = {1};
  if (auto done = l.allocate(window); !done) return done.error();
  return l;
}

result<void> ledger::allocate(std::uint64_t window) {
  std::uint64_t pairs = 0;
  for (std::uint32_t i = 0; i < shape_.publishers; ++i) {
    publisher_state& p = publishers_[i];
    const std::uint32_t t = topic_of(i);
    p.first_pair = pairs;
    p.pairs = shape_.wildcard          ? shape_.subscribers
              : t < shape_.subscribers ? (shape_.subscribers - t - 1) / shape_.topics + 1
                                       : 0;
    pairs += p.pairs;
  }
  // One word is added because the word in which `base` lies is still in use.
  words_ = std::bit_ceil(window / 64 + 2);
  window_ = std::max<std::uint64_t>(window, 1);
  const std::uint64_t bytes =
      words_ * 64 * 4 * shape_.publishers + pairs * (words_ * 8 + sizeof(pair_state));
  if (window > memory_max || bytes > memory_max)
    return error{errc::no_space,
                 "the ledger would need " + std::to_string(bytes >> 20) +
                     " MiB: expected at most " + std::to_string(memory_max >> 20) +
                     "; ask for a smaller --count or --window, or fewer clients on a topic"};
  pairs_.resize(pairs);
  bits_.resize(pairs * words_);
  remaining_.resize(words_ * 64 * shape_.publishers);
  return {};
}

std::uint32_t ledger::payload_size(std::uint32_t publisher, std::uint64_t sequence) const noexcept {
  const std::uint32_t spread = shape_.payload_max - shape_.payload_min + 1;
  if (spread == 1) return shape_.payload_min;
  return shape_.payload_min +
         static_cast<std::uint32_t>(mix(shape_.seed ^ mix(publisher) ^ sequence) % spread);
}

// --- publishers -------------------------------------------------------------------------------

bool ledger::window_full(std::uint32_t publisher) const noexcept {
  const publisher_state& p = publishers_[publisher];
  return acknowledges() && p.sent - p.base >= window_;
}

stamp ledger::begin_send(std::uint32_t publisher, std::uint64_t now_ns) noexcept {
  publisher_state& p = publishers_[publisher];
  ++p.sent;
  ++count.sent;
  p.sent_ns = now_ns;
  if (!acknowledges() && (p.sent >> 6) - (p.base >> 6) >= words_) move_base(p, p.base + 64);
  return last_stamp(publisher);
}

stamp ledger::last_stamp(std::uint32_t publisher) const noexcept {
  const publisher_state& p = publishers_[publisher];
  return {run_, publisher, life_of(p, p.sent), p.sent, p.sent_ns};
}

std::uint16_t ledger::life_of(const publisher_state& p, std::uint64_t sequence) const noexcept {
  const auto after = std::ranges::upper_bound(p.starts, sequence);
  return static_cast<std::uint16_t>(after - p.starts.begin() - 1);
}

void ledger::acknowledge(std::uint32_t publisher) noexcept {
  publisher_state& p = publishers_[publisher];
  p.acked = p.sent;
  ++count.acked;
  owe(publisher, p.acked);
  settle(publisher);
}

void ledger::owe(std::uint32_t publisher, std::uint64_t sequence) noexcept {
  const publisher_state& p = publishers_[publisher];
  std::uint32_t n = 0;
  for (std::uint64_t pair = p.first_pair; pair < p.first_pair + p.pairs; ++pair)
    n += pairs_[pair].from <= sequence && !has(pair, sequence);
  remaining(publisher, sequence) = n;
  owed_ += n;
}

void ledger::settle(std::uint32_t publisher) noexcept {
  publisher_state& p = publishers_[publisher];
  std::uint64_t to = p.base;
  while (to < p.acked && remaining(publisher, to + 1) == 0)
    ++to;
  if (to != p.base) move_base(p, to);
}

void ledger::move_base(publisher_state& p, std::uint64_t to) noexcept {
  if (!acknowledges())
    for (std::uint64_t q = p.base + 1; q <= to; ++q)
      for (std::uint64_t pair = p.first_pair; pair < p.first_pair + p.pairs; ++pair)
        passed_undelivered_ += pairs_[pair].from <= q && !has(pair, q);
  for (std::uint64_t w = p.base >> 6; w < to >> 6; ++w)
    for (std::uint64_t pair = p.first_pair; pair < p.first_pair + p.pairs; ++pair)
      word(pair, w << 6) = 0;
  p.base = to;
}

// --- subscribers ------------------------------------------------------------------------------

template <class F> void ledger::for_each_publisher_of(std::uint32_t subscriber, F&& fn) {
  const std::uint32_t step = shape_.wildcard ? 1 : shape_.topics;
  for (std::uint32_t p = subscriber % step; p < shape_.publishers; p += step)
    fn(p, pair_of(p, subscriber));
}

void ledger::subscribe(std::uint32_t subscriber) noexcept {
  if (subscribed_[subscriber]) return;
  subscribed_[subscriber] = true;
  for_each_publisher_of(subscriber, [this](std::uint32_t p, std::uint64_t pair) {
    pairs_[pair].from = publishers_[p].sent + 1;
  });
}

void ledger::unsubscribe(std::uint32_t subscriber) noexcept {
  if (!subscribed_[subscriber]) return;
  subscribed_[subscriber] = false;
  for_each_publisher_of(subscriber, [this](std::uint32_t p, std::uint64_t pair) {
    const publisher_state& of = publishers_[p];
    for (std::uint64_t q = std::max(of.base + 1, pairs_[pair].from); q <= of.acked; ++q)
      if (!has(pair, q)) {
        --remaining(p, q);
        --owed_;
      }
    pairs_[pair].from = never;
    settle(p);
  });
}

delivery_kind ledger::deliver(std::uint32_t subscriber, std::uint32_t topic,
                              std::span<const std::byte> payload, bool dup, stamp& s) noexcept {
  if (!read_payload(payload, s)) {
    ++count.torn;
    return delivery_kind::torn;
  }
  const auto unknown = [this] {
    ++count.unknown;
    return delivery_kind::unknown;
  };
  if (s.run != run_ || s.publisher >= shape_.publishers || s.sequence == 0 || s.life > life_ ||
      payload.size() != payload_size(s.publisher, s.sequence))
    return unknown();
  if (topic_of(s.publisher) != topic || (!shape_.wildcard && subscriber % shape_.topics != topic)) {
    ++count.misrouted;
    return delivery_kind::misrouted;
  }
  publisher_state& p = publishers_[s.publisher];
  const std::uint16_t life = life_of(p, s.sequence);
  if (s.sequence > p.sent || life != s.life) {
    // The message comes from a life that died after its ledger was last written, and the next life
    // has used its sequence number again.
    if (s.life >= life_ || complete_[s.life] || s.sequence < p.starts[s.life + 1u])
      return unknown();
    ++count.unlisted;
    return delivery_kind::unlisted;
  }
  const auto duplicate = [&] {
    ++(dup ? count.duplicated_dup : count.duplicated_plain);
    count.twice += shape_.qos == 2 && !shape_.clean && s.life == life_;
    return delivery_kind::duplicate;
  };
  if (s.sequence <= p.base) {
    if (acknowledges() && s.sequence >= pairs_[pair_of(s.publisher, subscriber)].from)
      return duplicate();
    ++count.late;
    return delivery_kind::duplicate;
  }
  const std::uint64_t pair = pair_of(s.publisher, subscriber);
  std::uint64_t& bits = word(pair, s.sequence);
  const std::uint64_t bit = std::uint64_t{1} << (s.sequence & 63);
  if ((bits & bit) != 0) return duplicate();
  bits |= bit;
  ++count.delivered;
  pair_state& of = pairs_[pair];
  if (s.sequence < of.high)
    ++count.reordered;
  else
    of.high = s.sequence;
  if (s.sequence <= p.acked && of.from <= s.sequence) {
    --owed_;
    if (--remaining(s.publisher, s.sequence) == 0 && s.sequence == p.base + 1) settle(s.publisher);
  }
  return delivery_kind::fresh;
}

// --- verdict ----------------------------------------------------------------------------------

bool ledger::partial(std::uint32_t publisher) const noexcept {
  const publisher_state& p = publishers_[publisher];
  if (!acknowledges() || p.sent == p.acked) return false;
  std::uint32_t to = 0, of = 0;
  for (std::uint64_t pair = p.first_pair; pair < p.first_pair + p.pairs; ++pair) {
    if (pairs_[pair].from > p.sent) continue;
    ++of;
    to += has(pair, p.sent);
  }
  return to != 0 && to != of;
}

std::uint64_t ledger::partial() const noexcept {
  std::uint64_t n = 0;
  for (std::uint32_t i = 0; i < shape_.publishers; ++i)
    n += partial(i);
  return n;
}

std::uint64_t ledger::unacknowledged() const noexcept {
  std::uint64_t n = 0;
  for (std::uint32_t i = 0; i < shape_.publishers; ++i)
    n += outstanding(i);
  return n;
}

verdict ledger::judge() const {
  constexpr std::size_t examples_max = 8;
  verdict v;
  v.undelivered = passed_undelivered_;
  for (std::uint32_t i = 0; i < shape_.publishers; ++i) {
    const publisher_state& p = publishers_[i];
    // A life that died may also have delivered the message to the other subscribers without writing
    // that into the ledger.
    if (partial(i)) ++(p.sent <= p.in_doubt_to ? v.in_doubt : v.partial);
    const std::uint64_t last = acknowledges() ? p.acked : p.sent;
    for (std::uint64_t q = p.base + 1; q <= last; ++q)
      for (std::uint32_t k = 0; k < p.pairs; ++k) {
        const std::uint64_t pair = p.first_pair + k;
        if (pairs_[pair].from > q || has(pair, q)) continue;
        if (!acknowledges()) {
          ++v.undelivered;
        } else if (q <= p.in_doubt_to) {
          ++v.in_doubt;
        } else {
          ++v.lost;
          if (v.examples.size() < examples_max) v.examples.push_back({i, subscriber_of(i, k), q});
        }
      }
  }
  return v;
}

} // namespace chainring::gen
