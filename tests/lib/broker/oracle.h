// SPDX-License-Identifier: BSD-3-Clause
/// What every crash scenario of the broker must find, whatever front end serves it: a message that
/// was acknowledged is in every queue that wanted it; one that was not is in all of them or in
/// none; one that was refused is in none; what a subscriber was given is in every queue; what a
/// subscriber acknowledged durably never comes again; nothing is torn, doubled, out of order or
/// made up.
///
/// A message is a number, and its content follows from the number and its size.
#pragma once
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <vector>

#include "ring/overflow.h"
#include "support/explorer.h"

namespace chainring::testing_core {

using test::history;
using test::verdict;

// Kinds of a scenario's history, beside `begun` and `acked`, which are a message's publication. The
// id of a kind about a subscriber is place(subscriber, message).
constexpr int refused = history::first_own_kind;           ///< the publisher was told so
constexpr int delivered = history::first_own_kind + 1;     ///< the subscriber was given it
constexpr int acknowledging = history::first_own_kind + 2; ///< from here on it may be gone
constexpr int forgotten = history::first_own_kind + 3;     ///< from here on it must be gone
constexpr int first_scenario_kind = history::first_own_kind + 8;

constexpr std::uint64_t place(unsigned subscriber, std::uint64_t message) {
  return subscriber * 100'000 + message;
}

constexpr std::size_t usual_size = 90; ///< longer than a cache line

/// Different in every line, and in every message.
inline std::string text_of(std::uint64_t id, std::size_t size = usual_size) {
  std::string text = std::to_string(id) + ":";
  while (text.size() < size)
    text += static_cast<char>('a' + (text.size() + id + text.size() / 26) % 26);
  return text;
}
/// The number of the message with that content; 0: it is not the content of any.
inline std::uint64_t id_of(const std::string& text) {
  std::uint64_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc{} || end == text.data() + text.size() || *end != ':') return 0;
  return id;
}

/// How the queues of a scenario take messages.
struct queue_rules {
  unsigned subscribers = 2;
  std::uint32_t capacity = 15; ///< messages a queue holds
  overflow_policy overflow = overflow_policy::reject;
  /// Publishers at one time; message m is from publisher m % publishers. Only the messages of one
  /// publisher have an order.
  unsigned publishers = 1;
};

class oracle {
 public:
  oracle(const history& h, const queue_rules& rules)
      : h_(h), rules_(rules), got_(rules.subscribers) {}

  /// The next message that the subscriber was given after the crash.
  verdict found(unsigned subscriber, const std::string& text) {
    const std::uint64_t id = id_of(text);
    if (id == 0 || !h_.begun(id)) return "ghost: " + text;
    const std::uint64_t size = h_.value(history::begun_kind, id).value_or(0);
    if (text != text_of(id, size == 0 ? usual_size : size)) return "torn: " + text;
    std::vector<std::uint64_t>& got = got_[subscriber];
    for (const std::uint64_t before : got)
      if (id == before || (id < before && (before - id) % rules_.publishers == 0))
        return "out of order or doubled: " + text;
    if (h_.has(forgotten, place(subscriber, id)))
      return "delivered again after its acknowledgement was durable: " + name(subscriber, id);
    got.push_back(id);
    return {};
  }

  /// After the last of them.
  [[nodiscard]] verdict judge() const {
    for (const std::uint64_t id : h_.ids(history::begun_kind)) {
      bool anywhere = false;
      for (unsigned s = 0; s < rules_.subscribers; ++s)
        anywhere = anywhere || has(s, id) || h_.has(delivered, place(s, id));
      if (anywhere && h_.has(refused, id)) return "refused, and delivered: " + std::to_string(id);
      if (!anywhere && !h_.is_acked(id)) continue;
      for (unsigned s = 0; s < rules_.subscribers; ++s) {
        if (has(s, id) || h_.has(acknowledging, place(s, id)) || dropped(s, id)) continue;
        return (h_.is_acked(id) ? "lost: " : "in one queue and not in another: ") + name(s, id);
      }
    }
    return {};
  }

 private:
  static std::string name(unsigned s, std::uint64_t id) {
    return std::to_string(id) + " of subscriber " + std::to_string(s);
  }
  [[nodiscard]] bool has(unsigned s, std::uint64_t id) const {
    return std::ranges::find(got_[s], id) != got_[s].end();
  }
  /// Whether the queue's policy may have dropped the message.
  [[nodiscard]] bool dropped(unsigned s, std::uint64_t id) const {
    if (rules_.overflow == overflow_policy::reject) return false;
    // Messages the queue may have held when this one came, and those that came after it.
    std::uint64_t before = 0, after = 0;
    bool seen = false;
    for (const history::entry& e : h_.entries()) {
      if (e.kind == history::begun_kind && e.id == id)
        seen = true;
      else if (e.kind == history::begun_kind)
        ++(seen ? after : before);
      else if (!seen && e.kind == acknowledging && e.id / 100'000 == s)
        --before;
    }
    if (rules_.overflow == overflow_policy::drop_newest) return before >= rules_.capacity;
    if (rules_.publishers > 1) return before + after >= rules_.capacity;
    // The oldest goes first, and only for a message that finds the queue full.
    return after >= rules_.capacity && (got_[s].empty() || got_[s].front() > id);
  }

  const history& h_;
  queue_rules rules_;
  std::vector<std::vector<std::uint64_t>> got_; ///< by subscriber, in order
};

} // namespace chainring::testing_core
