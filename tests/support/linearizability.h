// SPDX-License-Identifier: BSD-3-Clause
/// Decides whether a recorded history is linearizable. Each operation has an invocation and a
/// response. The history is linearizable if each operation can be given one moment between the two
/// at which it took effect, such that an ordinary sequential object would have answered all
/// operations as they were answered. An operation that never returned may have taken effect or not.
///
///     linear_clock clock;                      // one for each history
///     recorder<map_operation> mine(clock);     // one for each thread
///     mine.begin({.kind = map_call::insert, .key = 3, .value = 7});
///     mine.end().result = map.insert(3, 7);
///     auto v = check_each_key(map_model{}, merged(recorders));
///     EXPECT_TRUE(v) << v.text;
///
/// Method: Wing and Gong's search with the memoised states of G. Lowe, "Testing for
/// linearizability" (Concurrency and Computation: Practice and Experience 29(4), 2017), in its
/// just-in-time form. The history is read once, in time order, together with the set of all
/// configurations that explain it so far. A configuration is a state of the object and the
/// operations in flight that have taken effect. Only a response makes an operation take effect,
/// together with those in flight that must come before it. The set is the memo and the only thing
/// kept, so memory is bounded by `limits` and not by the length of the history. The first response
/// that empties the set ends the shortest prefix that nothing explains.
///
/// A model is an object with types `state` and `operation` and
///   state initial() const;
///   void step(const state&, const operation&, bool pending, emit) const;
///       calls emit(next) for each state to which the operation may lead with the response it had;
///       a pending operation had no response, so any response will do
///   static std::size_t hash(const state&);  static std::string text(const state&) and (operation&)
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "map/map_status.h"

namespace chainring::test {

// --- recording ----------------------------------------------------------------------------------

/// The response time of an operation that has no response.
inline constexpr std::uint64_t never = UINT64_MAX;

template <class Operation> struct timed {
  Operation what;
  std::uint64_t invoked = 0;
  std::uint64_t returned = never;
};

/// Numbers invocations and responses in the order in which they happen. The order is that of one
/// word and orders nothing else, because recording must not hide faults of what it watches.
class linear_clock {
 public:
  std::uint64_t tick() noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    const std::uint64_t t = now_.fetch_add(1, std::memory_order_relaxed);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    return t;
  }

 private:
  std::atomic<std::uint64_t> now_{1};
};

/// The part of a history that one thread records.
template <class Operation> class recorder {
 public:
  explicit recorder(linear_clock& clock, std::size_t room = 1 << 16) : clock_(clock) {
    history_.reserve(room);
  }
  void begin(Operation o) {
    history_.push_back({std::move(o), 0});
    history_.back().invoked = clock_.tick();
  }
  /// The operation that began last, to store its response in.
  Operation& end() noexcept {
    history_.back().returned = clock_.tick();
    return history_.back().what;
  }
  /// For an operation that ends after the next one begins, or that is corrected later.
  [[nodiscard]] std::size_t last() const noexcept { return history_.size() - 1; }
  Operation& end(std::size_t i) noexcept {
    history_[i].returned = clock_.tick();
    return history_[i].what;
  }
  [[nodiscard]] timed<Operation>& at(std::size_t i) noexcept { return history_[i]; }
  /// Withdraws the operation: it promises nothing.
  void cancel(std::size_t i) { history_.erase(history_.begin() + static_cast<std::ptrdiff_t>(i)); }
  /// Adds an operation whose interval is known.
  void add(timed<Operation> t) { history_.push_back(std::move(t)); }
  [[nodiscard]] const std::vector<timed<Operation>>& history() const noexcept { return history_; }

 private:
  linear_clock& clock_;
  std::vector<timed<Operation>> history_;
};

template <class Operation>
std::vector<timed<Operation>> merged(const std::vector<recorder<Operation>>& parts) {
  std::vector<timed<Operation>> all;
  for (const auto& p : parts)
    all.insert(all.end(), p.history().begin(), p.history().end());
  std::sort(all.begin(), all.end(),
            [](const auto& a, const auto& b) { return a.invoked < b.invoked; });
  return all;
}

// --- checking -----------------------------------------------------------------------------------

struct linear_limits {
  std::size_t configurations_max = 1 << 20; ///< most configurations examined for one response
  std::uint64_t steps_max = 100'000'000;
};

struct linear_verdict {
  enum kind : std::uint8_t { linearizable, violated, undecided };
  kind found = linearizable;
  /// If violated: the operation whose response nothing explains.
  std::size_t operation = SIZE_MAX;
  /// The failing window, which begins with the invocation of that operation and ends with its
  /// response. The operation has to take effect between the two, and no shorter prefix of the
  /// history fails. The list has the operations that were in flight in the window, ordered by
  /// invocation.
  std::vector<std::size_t> window;
  /// The first few states in which the object may have been when the window began.
  std::vector<std::string> before;
  /// The whole explanation in words.
  std::string text;
  std::uint64_t steps = 0;        ///< operations tried
  std::size_t configurations = 0; ///< most configurations at one time
  explicit operator bool() const noexcept { return found == linearizable; }
};

namespace detail {

struct interval {
  std::uint64_t invoked, returned;
};

/// A model whose states are numbered, so that the search works on numbers.
class numbered_object {
 public:
  using state_id = std::uint32_t;
  virtual ~numbered_object() = default;
  virtual state_id initial() = 0;
  /// Appends the states to which operation `o` may lead from this state.
  virtual void step(state_id from, std::size_t o, bool pending, std::vector<state_id>& to) = 0;
  [[nodiscard]] virtual std::size_t states() const = 0;
  /// Forgets all states except these, which get new numbers.
  virtual void keep_only(std::vector<state_id>& ids) = 0;
  [[nodiscard]] virtual std::string state_text(state_id s) const = 0;
  [[nodiscard]] virtual std::string operation_text(std::size_t o) const = 0;
};

[[nodiscard]] linear_verdict search(std::span<const interval> history, numbered_object& object,
                                    const linear_limits& limits);

template <class Model> class numbered final : public numbered_object {
 public:
  numbered(const Model& model, std::span<const timed<typename Model::operation>> history)
      : model_(model), history_(history) {}
  state_id initial() override { return number(model_.initial()); }
  void step(state_id from, std::size_t o, bool pending, std::vector<state_id>& to) override {
    // a copy, because numbering a state may move the one that it refers to
    const state s = *states_[from];
    model_.step(s, history_[o].what, pending, [&](state n) { to.push_back(number(std::move(n))); });
  }
  [[nodiscard]] std::size_t states() const override { return states_.size(); }
  void keep_only(std::vector<state_id>& ids) override {
    std::vector<state> kept;
    kept.reserve(ids.size());
    for (state_id i : ids)
      kept.push_back(*states_[i]);
    states_.clear();
    numbers_.clear();
    for (std::size_t i = 0; i < ids.size(); ++i)
      ids[i] = number(std::move(kept[i]));
  }
  [[nodiscard]] std::string state_text(state_id s) const override {
    return Model::text(*states_[s]);
  }
  [[nodiscard]] std::string operation_text(std::size_t o) const override {
    return Model::text(history_[o].what);
  }

 private:
  using state = typename Model::state;
  struct hasher {
    std::size_t operator()(const state& s) const { return Model::hash(s); }
  };
  state_id number(state s) {
    const auto [at, fresh] =
        numbers_.try_emplace(std::move(s), static_cast<state_id>(states_.size()));
    if (fresh) states_.push_back(&at->first);
    return at->second;
  }

  const Model& model_;
  std::span<const timed<typename Model::operation>> history_;
  // a node-based map, so that addresses stay the same
  std::unordered_map<state, state_id, hasher> numbers_;
  std::vector<const state*> states_;
};

inline std::size_t mix(std::size_t h, std::uint64_t v) noexcept {
  h = (h ^ v) * 0x9e3779b97f4a7c15;
  return h ^ h >> 29;
}

} // namespace detail

/// Checks the history of one object.
template <class Model>
[[nodiscard]] linear_verdict
check_linearizable(const Model& model, std::span<const timed<typename Model::operation>> history,
                   const linear_limits& limits = {}) {
  std::vector<detail::interval> intervals;
  intervals.reserve(history.size());
  for (const auto& t : history)
    intervals.push_back({t.invoked, t.returned});
  detail::numbered<Model> object(model, history);
  return detail::search(intervals, object, limits);
}

/// Checks the history of several independent objects, which is linearizable if and only if the
/// history of each object is. The `key` of an operation names its object. Returns the first verdict
/// that is not good, or a good one with the sums. Indexes refer to the whole history.
template <class Model>
[[nodiscard]] linear_verdict
check_each_key(const Model& model, const std::vector<timed<typename Model::operation>>& history,
               const linear_limits& limits = {}) {
  std::map<std::uint64_t, std::vector<std::size_t>> parts;
  for (std::size_t i = 0; i < history.size(); ++i)
    parts[history[i].what.key].push_back(i);
  linear_verdict all;
  for (const auto& [key, indexes] : parts) {
    std::vector<timed<typename Model::operation>> part;
    for (std::size_t i : indexes)
      part.push_back(history[i]);
    linear_verdict v = check_linearizable<Model>(model, part, limits);
    if (v.found != linear_verdict::linearizable) {
      if (v.operation != SIZE_MAX) v.operation = indexes[v.operation];
      for (std::size_t& i : v.window)
        i = indexes[i];
      v.text = "key " + std::to_string(key) + ": " + v.text;
      return v;
    }
    all.steps += v.steps;
    all.configurations = std::max(all.configurations, v.configurations);
  }
  return all;
}

// --- models -------------------------------------------------------------------------------------

enum class map_call : std::uint8_t { insert, update, upsert, erase, get, compare_exchange };

/// One key of a map of words.
struct map_operation {
  map_call kind = map_call::get;
  std::uint64_t key = 0;
  std::uint64_t value = 0;    ///< the given value
  std::uint64_t expected = 0; ///< what compare_exchange expected
  map_status result = map_status::done;
  std::uint64_t found = 0; ///< what get found, if done
};

struct map_model {
  using state = std::optional<std::uint64_t>;
  using operation = map_operation;
  [[nodiscard]] state initial() const { return std::nullopt; }
  template <class Emit>
  void step(const state& now, const operation& o, bool pending, Emit&& emit) const {
    state next = now;
    const map_status answer = apply(next, o);
    if (!pending && (answer != o.result ||
                     (o.kind == map_call::get && answer == map_status::done && *now != o.found)))
      return;
    emit(std::move(next));
  }
  [[nodiscard]] static map_status apply(state& s, const operation& o);
  [[nodiscard]] static std::size_t hash(const state& s) {
    return detail::mix(s.has_value(), s.value_or(0));
  }
  [[nodiscard]] static std::string text(const state& s);
  [[nodiscard]] static std::string text(const operation& o);
};

/// A queue of words, first in, first out.
struct fifo_operation {
  bool enqueue = false;
  std::uint64_t key = 0;   ///< names the queue
  std::uint64_t value = 0; ///< the value given or taken
  bool done = true;        ///< false if the queue was full or empty
};

struct fifo_model {
  std::size_t capacity = SIZE_MAX;
  /// If false, "empty" and "full" promise nothing: a queue may report them for a moment too long.
  bool exact = true;

  using state = std::vector<std::uint64_t>;
  using operation = fifo_operation;
  [[nodiscard]] state initial() const { return {}; }
  template <class Emit>
  void step(const state& now, const operation& o, bool pending, Emit&& emit) const {
    const bool can = o.enqueue ? now.size() < capacity : !now.empty();
    if (!can || (!pending && !o.done)) {
      if (pending || (!o.done && (!exact || !can))) emit(now);
      return;
    }
    if (o.enqueue) {
      state next = now;
      next.push_back(o.value);
      emit(std::move(next));
    } else if (pending || now.front() == o.value) {
      emit(state(now.begin() + 1, now.end()));
    }
  }
  [[nodiscard]] static std::size_t hash(const state& s);
  [[nodiscard]] static std::string text(const state& s);
  [[nodiscard]] static std::string text(const operation& o);
};

/// The calls of a queue with tickets and leases (ring.h).
enum class queue_call : std::uint8_t {
  place, ///< values; ticket: the first one's, or 0 if the queue was full
  ready, ///< ticket, count
  lease, ///< room; ticket: the first one's, and the values, of which there are none if it was empty
  lease_again, ///< the ticket that nack() gave back, with its one value
  ack,         ///< ticket; done
  nack,        ///< ticket; done
  release,     ///< number of slots given back to the producers
};

struct queue_operation {
  queue_call kind{};
  std::uint64_t key = 0; ///< names the queue
  std::uint64_t ticket = 0;
  std::uint64_t count = 0; ///< or room
  std::vector<std::uint64_t> values{};
  bool done = true;
};

/// Producers get tickets in the order in which they place. Consumers lease in ticket order, each
/// ticket once, up to the first that is not ready. A ticket that was given back goes to the
/// consumer that asks next.
struct queue_model {
  std::uint64_t capacity = 0; ///< slots
  /// With one consumer, a lease that gets nothing says that nothing was ready.
  bool one_consumer = true;

  enum class slot : std::uint8_t { placed, ready, leased, returned, acked };
  struct state {
    std::uint64_t head = 0;                              ///< last ticket freed
    std::uint64_t cursor = 0;                            ///< last ticket leased
    std::vector<std::pair<slot, std::uint64_t>> slots{}; ///< the slots behind the head
    bool operator==(const state&) const = default;
  };
  using operation = queue_operation;
  [[nodiscard]] state initial() const { return {}; }
  template <class Emit>
  void step(const state& now, const operation& o, bool pending, Emit&& emit) const {
    if (state next = now; apply(next, o)) return emit(std::move(next));
    if (pending) emit(now); // it did nothing; these histories have no pending place or lease
  }
  /// Returns false if the object does not answer in this way.
  [[nodiscard]] bool apply(state& s, const operation& o) const;
  [[nodiscard]] static std::size_t hash(const state& s);
  [[nodiscard]] static std::string text(const state& s);
  [[nodiscard]] static std::string text(const operation& o);
};

} // namespace chainring::test
