// SPDX-License-Identifier: BSD-3-Clause
/// Deterministic interleaving of several threads, of which one runs at a time. Threads are switched
/// at hook points (base/hook.h): every call of the persist seam on `sim` media, every hook_point()
/// in the code, idle_policy::idle(), and rte_pause() in code that was built with rte_pause_hook.h.
///
///     schedule s = schedule::seeded(7);
///     interleave(s, {[&] { producer(1); }, [&] { producer(2); }});
///     // s.text() says which thread ran when; schedule::from_text() makes it run so again
///
/// In an exploration, use history::threads() for `s` and let explorer_options.schedules choose.
///
/// A thread that waits must reach a hook point in its loop. The points "idle" and "rte_pause" count
/// as waiting: another thread runs next, and that costs no preemption. A thread that blocks on a
/// mutex which a switched-out thread holds is a hang; after a minute without a step the process
/// ends with a report.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace chainring::test {

/// Which thread runs when. By default the first thread runs to its end, then the next; a thread
/// that waits gives way to the next.
class schedule {
 public:
  /// Switch to `thread` before step `step`, which counts the hook points that all threads have
  /// passed.
  struct preemption {
    std::uint64_t step;
    unsigned thread;
    bool operator==(const preemption&) const = default;
  };

  schedule() = default;
  /// Makes exactly these preemptions, after starting with `first`.
  static schedule fixed(unsigned first, std::vector<preemption> at);
  /// Switches at random hook points, about one in `every`. A seed gives the same run each time.
  static schedule seeded(std::uint64_t seed, unsigned every = 8);
  /// Makes the schedule that text() described.
  static std::optional<schedule> from_text(const std::string& text);
  /// The schedule as it was followed, for from_text(). It is complete after interleave().
  [[nodiscard]] std::string text() const;

  /// The number of steps of the last interleave(), and of the preemptions that it made.
  [[nodiscard]] std::uint64_t steps() const { return steps_; }
  [[nodiscard]] unsigned threads() const { return threads_; }
  [[nodiscard]] const std::vector<preemption>& preemptions() const { return taken_; }
  [[nodiscard]] unsigned first() const { return first_; }

 private:
  friend class interleaver;
  friend class schedule_source;
  bool random_ = false;
  std::uint64_t state_ = 0;
  unsigned every_ = 8;
  unsigned first_ = 0;
  std::vector<preemption> wanted_;
  std::vector<preemption> taken_;
  std::vector<std::uint8_t> who_; ///< for each step, the thread that could be preempted there
  std::uint64_t steps_ = 0;
  unsigned threads_ = 0;
};

/// Runs the functions as threads, one at a time, to their ends. If one schedule is used for several
/// calls, its steps count on.
void interleave(schedule& s, const std::vector<std::function<void()>>& threads);

/// Which schedules an exploration tries.
struct schedule_plan {
  /// The number of seeded random schedules.
  unsigned random = 0;
  /// Tries all schedules with at most so many preemptions, those with the fewest first, up to
  /// `enumerated_max` of them; -1 for none.
  int preemptions = -1;
  unsigned enumerated_max = 1000;
};

/// Gives the schedules of a plan one after another, and at least the default one.
class schedule_source {
 public:
  schedule_source(const schedule_plan& plan, std::uint64_t seed);
  /// Returns the next schedule to run, or none. `ran` is the last one, after it ran: further
  /// schedules are derived from it.
  std::optional<schedule> next(const schedule* ran);
  /// True once every schedule within the bound was given.
  [[nodiscard]] bool complete() const { return complete_; }

 private:
  void derive(const schedule& ran);

  schedule_plan plan_;
  std::uint64_t seed_;
  unsigned given_ = 0;
  unsigned random_given_ = 0;
  bool first_given_ = false;
  bool first_derived_ = false;
  bool cut_ = false;
  bool complete_ = false;
  std::vector<schedule> queue_;
  std::size_t next_ = 0;
};

/// Runs `body` under every schedule of the plan. `body` makes its state anew and calls interleave()
/// once. Returns how many schedules ran. Stops when `body` returns false; `failed`, if given, then
/// holds the schedule.
unsigned for_each_schedule(const schedule_plan& plan, std::uint64_t seed,
                           const std::function<bool(schedule&)>& body, schedule* failed = nullptr);

} // namespace chainring::test
