// SPDX-License-Identifier: BSD-3-Clause
/// Threads that do what would take a worker too long: the public-key arithmetic of TLS, the hash of
/// a password.
///
/// A worker hands a job over by submit() and goes on with its rounds. A helper runs it; then
/// collect(), which the worker calls in each round, finishes it on the worker's thread. A job is a
/// part of what it works for, so nothing is allocated.
///
///     struct proof final : stream::helper_crew::job { void run() ...; void finish() ...; };
///     if (!crew.submit(mine)) ...   // as many jobs as there may be are under way; try again later
///     crew.collect();               // in every round
///
/// Thread-safety: one thread calls submit() and collect(). run() is called on a helper, while
/// nothing else may touch the job; finish() on the thread that calls collect().
#pragma once
#include <cstdint>
#include <memory>

#include "../base/error.h"

namespace chainring::stream {

class helper_crew {
 public:
  class job {
   public:
    virtual ~job() = default;
    virtual void run() noexcept = 0;    ///< on a helper
    virtual void finish() noexcept = 0; ///< on the worker; may destroy the job, or submit it again
  };

  /// Starts the threads, which run where the calling thread may run, with all signals blocked.
  /// errc::invalid_argument names an option of 0; errc::io says that there is no further thread.
  [[nodiscard]] static result<std::unique_ptr<helper_crew>> create(unsigned threads,
                                                                   std::uint32_t jobs_max);
  /// Waits for the jobs that run. Those that are under way are not finished, so what owns them must
  /// outlive the crew.
  ~helper_crew();
  helper_crew(const helper_crew&) = delete;
  helper_crew& operator=(const helper_crew&) = delete;

  /// Hands a job over. Returns false when `jobs_max` jobs are under way.
  [[nodiscard]] bool submit(job& j) noexcept;
  /// True when submit() would take a job.
  [[nodiscard]] bool has_room() const noexcept;
  [[nodiscard]] unsigned threads() const noexcept;
  /// Finishes the jobs that helpers have run. Returns true when there was any.
  bool collect() noexcept;
  /// Jobs that are submitted and not finished.
  [[nodiscard]] std::uint32_t under_way() const noexcept;

 private:
  struct state;
  explicit helper_crew(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

} // namespace chainring::stream
