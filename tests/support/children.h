// SPDX-License-Identifier: BSD-3-Clause
/// Jobs in child processes: for work that may abort or hang, and to use all CPUs.
#pragma once
#include <cstddef>
#include <functional>
#include <string>

namespace chainring::test {

struct child_end {
  std::string said = {}; ///< what the job returned; empty if it did not return
  int status = 0;        ///< of waitpid()
  bool hung = false;
  bool forked = true;
  double seconds = 0;

  [[nodiscard]] bool returned() const { return forked && !hung && status == 0; }
  /// "hang", "signal 6"; empty if it returned.
  [[nodiscard]] std::string wrong() const;
};

/// Runs `work(i)` for each i below `jobs` in a child process of its own, as many side by side as
/// there are CPUs, each child on one CPU. A job is forked when a place is free, so it sees what
/// `done` has noted of those before. `done(i, end)` runs in this process, in the order in which the
/// children end. A child that runs longer than hang_seconds is killed.
void in_children(std::size_t jobs, unsigned hang_seconds,
                 const std::function<std::string(std::size_t)>& work,
                 const std::function<void(std::size_t, const child_end&)>& done);

} // namespace chainring::test
