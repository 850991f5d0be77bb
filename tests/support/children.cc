// SPDX-License-Identifier: BSD-3-Clause
#include "support/children.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sched.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace chainring::test {

namespace {

using clock = std::chrono::steady_clock;

struct child {
  std::size_t job = 0;
  std::size_t place = 0; ///< which of the CPUs
  pid_t pid = -1;
  std::FILE* said = nullptr;
  clock::time_point begun = clock::now();

  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(clock::now() - begun).count();
  }
};

/// Binds the process to the nth of the CPUs that it may have, whatever EAL bound its parent to: the
/// threads of a schedule take turns, which is quick on one CPU only.
void bind_to_cpu(std::size_t nth) {
  cpu_set_t cpus;
  std::memset(&cpus, 0xff, sizeof cpus);
  if (sched_setaffinity(0, sizeof cpus, &cpus) != 0) return;
  if (sched_getaffinity(0, sizeof cpus, &cpus) != 0) return;
  nth %= static_cast<std::size_t>(CPU_COUNT(&cpus));
  for (std::size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &cpus) || nth-- > 0) continue;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    (void)sched_setaffinity(0, sizeof cpus, &cpus);
    return;
  }
}

[[noreturn]] void run(const child& c, const std::function<std::string(std::size_t)>& work) {
  bind_to_cpu(c.place);
  const std::string said = work(c.job);
  const bool written =
      std::fwrite(said.data(), 1, said.size(), c.said) == said.size() && std::fflush(c.said) == 0;
  std::fflush(nullptr);
  _exit(written ? 0 : 1);
}

std::string all_of(std::FILE* file) {
  std::string out;
  std::rewind(file);
  char some[65536];
  for (std::size_t n; (n = std::fread(some, 1, sizeof some, file)) > 0;)
    out.append(some, n);
  std::fclose(file);
  return out;
}

/// The first place that no child has.
std::size_t free_place(const std::vector<child>& running) {
  std::size_t place = 0;
  while (std::ranges::find(running, place, &child::place) != running.end())
    ++place;
  return place;
}

} // namespace

std::string child_end::wrong() const {
  if (!forked) return "fork failed";
  if (hung) return "hang";
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return status == 0 ? "" : "exit status " + std::to_string(WEXITSTATUS(status));
}

void in_children(std::size_t jobs, unsigned hang_seconds,
                 const std::function<std::string(std::size_t)>& work,
                 const std::function<void(std::size_t, const child_end&)>& done) {
  const std::size_t places = std::max(1u, std::thread::hardware_concurrency());
  std::vector<child> running;
  for (std::size_t next = 0; next < jobs || !running.empty();) {
    while (next < jobs && running.size() < places) {
      std::fflush(nullptr);
      child c{.job = next++, .place = free_place(running), .said = std::tmpfile()};
      c.pid = c.said == nullptr ? -1 : fork();
      if (c.pid == 0) run(c, work);
      if (c.pid > 0)
        running.push_back(c);
      else
        done(c.job, {.forked = false});
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    for (std::size_t i = 0; i < running.size();) {
      const child c = running[i];
      child_end end{.seconds = c.seconds()};
      if (waitpid(c.pid, &end.status, WNOHANG) != c.pid) {
        if (end.seconds <= hang_seconds) {
          ++i;
          continue;
        }
        end.hung = true;
        kill(c.pid, SIGKILL);
        waitpid(c.pid, &end.status, 0);
      }
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
      end.said = all_of(c.said);
      done(c.job, end);
    }
  }
}

} // namespace chainring::test
