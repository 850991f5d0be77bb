// SPDX-License-Identifier: BSD-3-Clause
/// Deterministic interleaving: several threads, of which one runs at a time, switched at hook
/// points (base/hook.h): every call of the persist seam on `sim` media, every hook_point() in the
/// code, idle_policy::idle(), and rte_pause() where the code was built with rte_pause_hook.h.
///
///     schedule s = schedule::seeded(7);
///     interleave(s, {[&] { producer(1); }, [&] { producer(2); }});
///     // s.text() says which thread ran when; schedule::from_text() runs it so again
///
/// In an exploration use history::threads() for `s`, and let explorer_options.schedules choose.
///
/// A thread that waits must reach a hook point in its loop ("idle" and "rte_pause" count as
/// waiting: another thread runs next, at no cost in preemptions). Blocking on a mutex that a
/// switched-out thread holds is a hang; after a minute without a step the process ends with a
/// report.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace chainring::test {

/// Which thread runs when. Default: the first thread to its end, then the next; a thread that waits
/// gives way to the next.
class schedule {
 public:
  /// Before step `step` (hook points passed so far, by all threads), switch to `thread`.
  struct preemption {
    std::uint64_t step;
    unsigned thread;
    bool operator==(const preemption&) const = default;
  };

  schedule() = default;
  /// Exactly these preemptions, after starting with `first`.
  static schedule fixed(unsigned first, std::vector<preemption> at);
  /// Switches at random hook points, about one in `every`; a seed gives the same run each time.
  static schedule seeded(std::uint64_t seed, unsigned every = 8);
  /// What text() gave.
  static std::optional<schedule> from_text(const std::string& text);
  /// The schedule as it was followed, for from_text(): complete after interleave().
  [[nodiscard]] std::string text() const;

  /// Steps of the last interleave(), and the preemptions it made.
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
  std::vector<std::uint8_t> who_; ///< by step: the thread that could be preempted there
  std::uint64_t steps_ = 0;
  unsigned threads_ = 0;
};

/// Runs the functions as threads, one at a time, to their ends. Several calls with one schedule
/// count their steps on.
void interleave(schedule& s, const std::vector<std::function<void()>>& threads);

/// Which schedules an exploration tries.
struct schedule_plan {
  /// Seeded random ones.
  unsigned random = 0;
  /// All with at most so many preemptions, fewest first, up to `enumerated_max` of them; -1: none.
  int preemptions = -1;
  unsigned enumerated_max = 1000;
};

/// Gives the schedules of a plan one after another; at least the default one.
class schedule_source {
 public:
  schedule_source(const schedule_plan& plan, std::uint64_t seed);
  /// The next to run, or none. `ran` is the last one, after it ran: the next are derived from it.
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

/// Runs `body` under every schedule of the plan; it makes its state anew and calls interleave()
/// once. Returns how many ran. Stops when `body` returns false; `failed` (if given) then holds the
/// schedule.
unsigned for_each_schedule(const schedule_plan& plan, std::uint64_t seed,
                           const std::function<bool(schedule&)>& body, schedule* failed = nullptr);

} // namespace chainring::test
