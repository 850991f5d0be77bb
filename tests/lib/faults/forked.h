// SPDX-License-Identifier: BSD-3-Clause
/// Runs numbered cases in child processes, so that a case that crashes or hangs is known by its
/// number and the others still run. EAL is initialised in each child, and never in the parent.
#pragma once
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace chainring::test_faults {

/// What the children report, in shared memory. Only one child runs at a time.
template <class Counts> struct shared_progress {
  std::uint64_t next = 0;   ///< the case that runs now, or that runs next
  std::uint64_t failed = 0; ///< cases whose outcome was wrong
  char first_failure[400] = {};
  Counts counts{};
};

/// Calls start() and then one(number, counts) in a child for each number in [0, cases); after a
/// child died, the rest run in a new one. one() returns what is wrong, or nothing. A case that
/// takes 60 seconds counts as hung. Returns the counts; `failures` gets a sentence for each failed
/// case, up to some number of them.
template <class Counts>
Counts run_forked(std::uint64_t cases, std::vector<std::string>& failures,
                  const std::function<bool()>& start,
                  const std::function<std::string(std::uint64_t, Counts&)>& one) {
  using progress = shared_progress<Counts>;
  void* at =
      mmap(nullptr, sizeof(progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) return failures.push_back("no shared memory"), Counts{};
  auto* p = new (at) progress;
  constexpr std::size_t deaths_max = 20;
  while (p->next < cases && failures.size() < deaths_max) {
    const pid_t child = fork();
    if (child == 0) {
      if (!start()) _exit(3);
      for (; p->next < cases; ++p->next) {
        alarm(60);
        const std::string wrong = one(p->next, p->counts);
        if (wrong.empty()) continue;
        std::printf("case %llu: %s\n", static_cast<unsigned long long>(p->next), wrong.c_str());
        std::fflush(stdout);
        if (p->failed++ == 0)
          std::snprintf(p->first_failure, sizeof p->first_failure, "case %llu: %s",
                        static_cast<unsigned long long>(p->next), wrong.c_str());
      }
      _exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    failures.push_back("case " + std::to_string(p->next) +
                       (WIFSIGNALED(status)
                            ? " died of signal " + std::to_string(WTERMSIG(status))
                            : " ended with " + std::to_string(WEXITSTATUS(status))));
    ++p->next;
  }
  if (p->failed != 0)
    failures.push_back(std::to_string(p->failed) + " wrong, the first " + p->first_failure);
  const Counts counts = p->counts;
  munmap(at, sizeof(progress));
  return counts;
}

} // namespace chainring::test_faults
