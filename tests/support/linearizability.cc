// SPDX-License-Identifier: BSD-3-Clause
#include "support/linearizability.h"

#include <bit>
#include <unordered_set>

namespace chainring::test {

namespace detail {
namespace {

/// Most operations in flight at one time: the bits of a mask.
constexpr unsigned in_flight_max = 64;

struct configuration {
  numbered_object::state_id state;
  std::uint64_t done; ///< bit mask of the operations in flight, by place, that have taken effect
  bool operator==(const configuration&) const = default;
};
struct configuration_hash {
  std::size_t operator()(const configuration& c) const noexcept { return mix(c.state, c.done); }
};
using configuration_set = std::unordered_set<configuration, configuration_hash>;

struct event {
  std::uint64_t at;
  bool response; ///< invocations come first if a clock gives one number twice
  std::size_t operation;
};

class searcher {
 public:
  searcher(std::span<const interval> history, numbered_object& object, const linear_limits& limits)
      : history_(history), object_(object), limits_(limits) {
    for (std::size_t i = 0; i < history.size(); ++i) {
      events_.push_back({history[i].invoked, false, i});
      if (history[i].returned != never) events_.push_back({history[i].returned, true, i});
    }
    std::sort(events_.begin(), events_.end(), [](const event& a, const event& b) {
      return a.at != b.at ? a.at < b.at : a.response < b.response;
    });
  }

  /// Runs up to the first response that nothing explains or, if one is given, up to an invocation.
  void run(linear_verdict& v, std::size_t until_invoked = SIZE_MAX) {
    places_.assign(in_flight_max, SIZE_MAX);
    place_of_.assign(history_.size(), in_flight_max);
    free_ = ~std::uint64_t{0};
    now_.assign(1, {object_.initial(), 0});
    for (const event& e : events_) {
      if (!e.response) {
        if (e.operation == until_invoked) return;
        if (free_ == 0) {
          v.found = linear_verdict::undecided;
          v.text = "undecided: more than 64 operations in flight";
          return;
        }
        const auto place = static_cast<unsigned>(std::countr_zero(free_));
        free_ &= free_ - 1;
        places_[place] = e.operation;
        place_of_[e.operation] = place;
        continue;
      }
      respond(e.operation, v);
      if (v.found != linear_verdict::linearizable) return;
      if (object_.states() > 2 * now_.size() + 4096) forget();
    }
  }

  [[nodiscard]] const std::vector<configuration>& configurations() const { return now_; }
  [[nodiscard]] std::size_t at_place(unsigned p) const { return places_[p]; }

 private:
  void respond(std::size_t x, linear_verdict& v) {
    const std::uint64_t bit = std::uint64_t{1} << place_of_[x];
    configuration_set seen, next;
    std::vector<configuration> todo = now_;
    std::vector<numbered_object::state_id> to;
    while (!todo.empty()) {
      const configuration c = todo.back();
      todo.pop_back();
      if ((c.done & bit) != 0) {
        next.insert({c.state, c.done & ~bit});
        continue;
      }
      for (std::uint64_t left = ~(free_ | c.done); left != 0; left &= left - 1) {
        const auto place = static_cast<unsigned>(std::countr_zero(left));
        const std::size_t o = places_[place];
        to.clear();
        ++v.steps;
        object_.step(c.state, o, history_[o].returned == never, to);
        for (const auto s : to) {
          const configuration n{s, c.done | std::uint64_t{1} << place};
          if (seen.insert(n).second) todo.push_back(n);
        }
      }
      if (seen.size() > limits_.configurations_max || v.steps > limits_.steps_max) {
        v.found = linear_verdict::undecided;
        v.text = "undecided: " + std::to_string(seen.size()) + " configurations, " +
                 std::to_string(v.steps) + " steps";
        return;
      }
    }
    if (next.empty()) {
      v.found = linear_verdict::violated;
      v.operation = x;
      return;
    }
    now_.assign(next.begin(), next.end());
    v.configurations = std::max(v.configurations, now_.size());
    places_[place_of_[x]] = SIZE_MAX;
    free_ |= bit;
  }

  void forget() {
    std::vector<numbered_object::state_id> ids;
    for (const configuration& c : now_)
      ids.push_back(c.state);
    object_.keep_only(ids);
    for (std::size_t i = 0; i < ids.size(); ++i)
      now_[i].state = ids[i];
  }

  std::span<const interval> history_;
  numbered_object& object_;
  const linear_limits& limits_;
  std::vector<event> events_;
  std::vector<std::size_t> places_; ///< the operation in flight at each place
  std::vector<unsigned> place_of_;  ///< by operation
  std::uint64_t free_ = 0;          ///< bit mask of free places
  std::vector<configuration> now_;
};

void explain(std::span<const interval> history, numbered_object& object,
             const linear_limits& limits, linear_verdict& v) {
  const interval x = history[v.operation];
  for (std::size_t i = 0; i < history.size(); ++i)
    if (history[i].invoked <= x.returned && history[i].returned >= x.invoked) v.window.push_back(i);
  std::sort(v.window.begin(), v.window.end(),
            [&](std::size_t a, std::size_t b) { return history[a].invoked < history[b].invoked; });
  searcher again(history, object, limits);
  linear_verdict unused;
  again.run(unused, v.operation);
  constexpr std::size_t shown_max = 8;
  for (const configuration& c : again.configurations()) {
    if (v.before.size() == shown_max) break;
    std::string s = object.state_text(c.state);
    for (std::uint64_t done = c.done; done != 0; done &= done - 1)
      s += ", #" + std::to_string(again.at_place(static_cast<unsigned>(std::countr_zero(done)))) +
           " has taken effect";
    v.before.push_back(std::move(s));
  }
  v.text = "not linearizable: nothing explains #" + std::to_string(v.operation) + " " +
           object.operation_text(v.operation) + "\nbefore it:";
  for (const std::string& s : v.before)
    v.text += "\n  " + s;
  v.text += "\nin flight with it:";
  for (const std::size_t i : v.window)
    v.text += "\n  [" + std::to_string(history[i].invoked) + ", " +
              (history[i].returned == never ? "never" : std::to_string(history[i].returned)) +
              "] #" + std::to_string(i) + " " + object.operation_text(i);
}

} // namespace

linear_verdict search(std::span<const interval> history, numbered_object& object,
                      const linear_limits& limits) {
  linear_verdict v;
  searcher(history, object, limits).run(v);
  if (v.found == linear_verdict::violated) explain(history, object, limits, v);
  return v;
}

} // namespace detail

// --- map ----------------------------------------------------------------------------------------

map_status map_model::apply(state& s, const operation& o) {
  switch (o.kind) {
  case map_call::insert:
    if (s) return map_status::exists;
    s = o.value;
    return map_status::done;
  case map_call::upsert:
    s = o.value;
    return map_status::done;
  case map_call::update:
    if (!s) return map_status::missing;
    s = o.value;
    return map_status::done;
  case map_call::erase:
    if (!s) return map_status::missing;
    s.reset();
    return map_status::done;
  case map_call::get:
    return s ? map_status::done : map_status::missing;
  case map_call::compare_exchange:
    if (!s) return map_status::missing;
    if (*s != o.expected) return map_status::mismatch;
    s = o.value;
    return map_status::done;
  }
  return map_status::full;
}

std::string map_model::text(const state& s) {
  return s ? std::to_string(*s) : "(none)";
}

std::string map_model::text(const operation& o) {
  static constexpr const char* names[] = {"insert", "update", "upsert",
                                          "erase",  "get",    "compare_exchange"};
  std::string s = std::string(names[static_cast<unsigned>(o.kind)]) + "(";
  if (o.kind == map_call::compare_exchange) s += std::to_string(o.expected) + ", ";
  if (o.kind != map_call::erase && o.kind != map_call::get) s += std::to_string(o.value);
  s += std::string(") -> ") + to_string(o.result);
  if (o.kind == map_call::get && o.result == map_status::done) s += " " + std::to_string(o.found);
  return s;
}

// --- queues -------------------------------------------------------------------------------------

std::size_t fifo_model::hash(const state& s) {
  std::size_t h = s.size();
  for (std::uint64_t v : s)
    h = detail::mix(h, v);
  return h;
}

std::string fifo_model::text(const state& s) {
  std::string t = "[";
  for (std::uint64_t v : s)
    t += " " + std::to_string(v);
  return t + " ]";
}

std::string fifo_model::text(const operation& o) {
  if (o.enqueue) return "enqueue(" + std::to_string(o.value) + (o.done ? ")" : ") -> full");
  return o.done ? "dequeue -> " + std::to_string(o.value) : "dequeue -> empty";
}

bool queue_model::apply(state& s, const operation& o) const {
  const std::uint64_t last = s.head + s.slots.size();
  const auto at = [&](std::uint64_t ticket) -> std::pair<slot, std::uint64_t>* {
    return ticket > s.head && ticket <= last ? &s.slots[ticket - s.head - 1] : nullptr;
  };
  switch (o.kind) {
  case queue_call::place:
    if (o.ticket == 0) return s.slots.size() + o.values.size() > capacity;
    if (o.ticket != last + 1 || s.slots.size() + o.values.size() > capacity) return false;
    for (std::uint64_t v : o.values)
      s.slots.emplace_back(slot::placed, v);
    return true;
  case queue_call::ready:
    for (std::uint64_t t = o.ticket; t < o.ticket + o.count; ++t) {
      auto* const e = at(t);
      if (e == nullptr || e->first != slot::placed) return false;
      e->first = slot::ready;
    }
    return true;
  case queue_call::lease: {
    if (o.values.empty()) {
      const auto* const e = at(s.cursor + 1);
      return !one_consumer || e == nullptr || e->first == slot::placed;
    }
    if (o.values.size() > o.count || o.ticket != s.cursor + 1) return false;
    for (std::uint64_t v : o.values) {
      auto* const e = at(s.cursor + 1);
      if (e == nullptr || e->first != slot::ready || e->second != v) return false;
      e->first = slot::leased;
      ++s.cursor;
    }
    return true;
  }
  case queue_call::lease_again: {
    auto* const e = at(o.ticket);
    if (e == nullptr || e->first != slot::returned || e->second != o.values.at(0)) return false;
    e->first = slot::leased;
    return true;
  }
  case queue_call::ack:
  case queue_call::nack: {
    auto* const e = at(o.ticket);
    const bool leased_now = e != nullptr && e->first == slot::leased;
    if (leased_now != o.done) return false;
    if (leased_now) e->first = o.kind == queue_call::ack ? slot::acked : slot::returned;
    return true;
  }
  case queue_call::release:
    for (std::uint64_t i = 0; i < o.count; ++i)
      if (i >= s.slots.size() || s.slots[i].first != slot::acked) return false;
    s.slots.erase(s.slots.begin(), s.slots.begin() + static_cast<std::ptrdiff_t>(o.count));
    s.head += o.count;
    return true;
  }
  return false;
}

std::size_t queue_model::hash(const state& s) {
  std::size_t h = detail::mix(s.head, s.cursor);
  for (const auto& [state, value] : s.slots)
    h = detail::mix(h, value << 3 | static_cast<unsigned>(state));
  return h;
}

std::string queue_model::text(const state& s) {
  static constexpr const char* names[] = {"placed", "ready", "leased", "returned", "acked"};
  std::string t = "head " + std::to_string(s.head) + ", leased to " + std::to_string(s.cursor);
  for (std::size_t i = 0; i < s.slots.size(); ++i)
    t += (i == 0 ? ": " : ", ") + std::to_string(s.head + 1 + i) + " " +
         names[static_cast<unsigned>(s.slots[i].first)];
  return t;
}

std::string queue_model::text(const operation& o) {
  static constexpr const char* names[] = {"place", "ready", "lease", "lease again",
                                          "ack",   "nack",  "free"};
  std::string t = names[static_cast<unsigned>(o.kind)];
  if (o.ticket != 0) t += " ticket " + std::to_string(o.ticket);
  if (o.count != 0) t += " (" + std::to_string(o.count) + ")";
  for (std::uint64_t v : o.values)
    t += " " + std::to_string(v);
  if (o.kind == queue_call::place && o.ticket == 0) t += " -> full";
  if (o.kind == queue_call::lease && o.values.empty()) t += " -> empty";
  return o.done ? t : t + " -> no";
}

} // namespace chainring::test
