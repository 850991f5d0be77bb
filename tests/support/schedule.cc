// SPDX-License-Identifier: BSD-3-Clause
#include "support/schedule.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <semaphore>
#include <thread>

#include "base/hook.h"

namespace chainring::test {

namespace {
constexpr std::uint8_t waited = 0xff; // in schedule::who_: the step was a wait and no choice
constexpr std::uint64_t waits_max = 200'000;
thread_local int self = -1;
} // namespace

schedule schedule::fixed(unsigned first, std::vector<preemption> at) {
  schedule s;
  s.first_ = first;
  s.wanted_ = std::move(at);
  return s;
}

schedule schedule::seeded(std::uint64_t seed, unsigned every) {
  schedule s;
  s.random_ = true;
  s.state_ = seed;
  s.every_ = std::max(every, 1u);
  return s;
}

std::string schedule::text() const {
  std::string out = std::to_string(first_);
  for (const preemption& p : taken_)
    out += "," + std::to_string(p.step) + ">" + std::to_string(p.thread);
  return out;
}

std::optional<schedule> schedule::from_text(const std::string& text) {
  schedule s;
  const char* at = text.c_str();
  char* end = nullptr;
  s.first_ = static_cast<unsigned>(std::strtoul(at, &end, 10));
  if (end == at) return std::nullopt;
  while (*end == ',') {
    preemption p{};
    at = end + 1;
    p.step = std::strtoull(at, &end, 10);
    if (end == at || *end != '>') return std::nullopt;
    at = end + 1;
    p.thread = static_cast<unsigned>(std::strtoul(at, &end, 10));
    if (end == at) return std::nullopt;
    s.wanted_.push_back(p);
  }
  if (*end != '\0') return std::nullopt;
  return s;
}

/// The work of one interleave(): passes a baton between the threads.
class interleaver {
 public:
  interleaver(schedule& s, const std::vector<std::function<void()>>& functions)
      : s_(s), functions_(functions), batons_(functions.size()), done_(functions.size(), false) {}

  void run() {
    const auto n = static_cast<unsigned>(functions_.size());
    s_.threads_ = std::max(s_.threads_, n);
    if (s_.random_ && s_.steps_ == 0) s_.first_ = draw() % n;
    std::vector<std::thread> threads;
    set_hook(&interleaver::hook, this);
    for (unsigned i = 0; i < n; ++i)
      threads.emplace_back([this, i] {
        self = static_cast<int>(i);
        batons_[i].baton.acquire();
        functions_[i]();
        self = -1;
        finish(i);
      });
    current_ = s_.first_ % n;
    batons_[current_].baton.release();
    watch();
    for (std::thread& t : threads)
      t.join();
    set_hook(nullptr, nullptr);
  }

 private:
  struct holder {
    std::binary_semaphore baton{0};
  };

  static void hook(const char* name, void* context) noexcept {
    if (self >= 0) static_cast<interleaver*>(context)->step(name);
  }

  unsigned draw() {
    s_.state_ = s_.state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<unsigned>(s_.state_ >> 33);
  }

  unsigned next_alive(unsigned after) const {
    const auto n = static_cast<unsigned>(done_.size());
    for (unsigned k = 1; k <= n; ++k)
      if (!done_[(after + k) % n]) return (after + k) % n;
    return after;
  }

  void step(const char* name) noexcept {
    const std::uint64_t number = s_.steps_++;
    progress_.store(number);
    const bool waits = std::strcmp(name, "idle") == 0 || std::strcmp(name, "rte_pause") == 0;
    s_.who_.push_back(waits ? waited : static_cast<std::uint8_t>(current_));
    unsigned to = current_;
    if (waits) {
      if (++waits_ > waits_max) stop("every thread waits");
      to = next_alive(current_);
    } else {
      waits_ = 0;
      to = choose(number);
      if (to != current_) s_.taken_.push_back({number, to});
    }
    if (to == current_) return;
    const unsigned from = current_;
    current_ = to;
    batons_[to].baton.release();
    batons_[from].baton.acquire();
  }

  unsigned choose(std::uint64_t number) {
    if (s_.random_) {
      if (draw() % s_.every_ != 0) return current_;
      unsigned to = current_;
      for (unsigned k = draw() % done_.size() + 1; k > 0; --k)
        to = next_alive(to);
      return to;
    }
    for (const schedule::preemption& p : s_.wanted_)
      if (p.step == number && p.thread < done_.size() && !done_[p.thread]) return p.thread;
    return current_;
  }

  void finish(unsigned thread) {
    done_[thread] = true;
    waits_ = 0;
    const unsigned to = next_alive(thread);
    if (to == thread) return over_.release();
    current_ = to;
    batons_[to].baton.release();
  }

  void watch() {
    std::uint64_t before = ~0ull;
    while (!over_.try_acquire_for(std::chrono::seconds(60))) {
      const std::uint64_t now = progress_.load();
      if (now == before) stop("no step in a minute: a thread blocks on something another holds");
      before = now;
    }
  }

  [[noreturn]] void stop(const char* why) noexcept {
    std::fprintf(stderr, "interleave: %s (thread %u runs, step %llu, schedule %s)\n", why, current_,
                 static_cast<unsigned long long>(s_.steps_), s_.text().c_str());
    std::abort();
  }

  schedule& s_;
  const std::vector<std::function<void()>>& functions_;
  std::vector<holder> batons_;
  std::vector<bool> done_;
  std::binary_semaphore over_{0};
  std::atomic<std::uint64_t> progress_{0};
  unsigned current_ = 0;
  std::uint64_t waits_ = 0;
};

void interleave(schedule& s, const std::vector<std::function<void()>>& threads) {
  if (threads.empty()) return;
  interleaver(s, threads).run();
}

schedule_source::schedule_source(const schedule_plan& plan, std::uint64_t seed)
    : plan_(plan), seed_(seed) {}

void schedule_source::derive(const schedule& ran) {
  const auto& made = ran.preemptions();
  if (!first_derived_) {
    first_derived_ = true;
    for (unsigned t = 1; t < ran.threads(); ++t)
      queue_.push_back(schedule::fixed(t, {}));
  }
  // A preemption that named a finished thread changed nothing, so this run was that of its parent.
  if (made != ran.wanted_ || static_cast<int>(made.size()) >= plan_.preemptions) return;
  std::vector<schedule> children;
  const std::uint64_t from = made.empty() ? 0 : made.back().step + 1;
  for (std::uint64_t step = from; step < ran.steps(); ++step)
    for (unsigned t = 0; t < ran.threads(); ++t) {
      if (ran.who_[step] == waited || ran.who_[step] == t) continue;
      auto at = made;
      at.push_back({step, t});
      children.push_back(schedule::fixed(ran.first(), std::move(at)));
    }
  // Shuffle them, so that a bound on their number does not favour early steps.
  std::shuffle(children.begin(), children.end(), std::mt19937_64(seed_ + given_));
  for (schedule& c : children) {
    if (queue_.size() >= plan_.enumerated_max) {
      cut_ = true;
      break;
    }
    queue_.push_back(std::move(c));
  }
}

std::optional<schedule> schedule_source::next(const schedule* ran) {
  if (!first_given_) {
    first_given_ = true;
    if (plan_.preemptions >= 0 || plan_.random == 0) {
      given_ = 1;
      return schedule{};
    }
  } else if (plan_.preemptions >= 0 && ran != nullptr && random_given_ == 0) {
    derive(*ran);
  }
  if (plan_.preemptions >= 0 && next_ < queue_.size() && given_ < plan_.enumerated_max) {
    ++given_;
    return queue_[next_++];
  }
  complete_ = plan_.preemptions >= 0 && next_ == queue_.size() && !cut_;
  if (random_given_ < plan_.random) {
    ++random_given_;
    // Some schedules switch often, some rarely.
    return schedule::seeded(seed_ * 1000003 + random_given_, 2u << (random_given_ % 5));
  }
  return std::nullopt;
}

unsigned for_each_schedule(const schedule_plan& plan, std::uint64_t seed,
                           const std::function<bool(schedule&)>& body, schedule* failed) {
  schedule_source source(plan, seed);
  std::optional<schedule> s = source.next(nullptr);
  unsigned ran = 0;
  while (s.has_value()) {
    ++ran;
    if (!body(*s)) {
      if (failed != nullptr) *failed = *s;
      return ran;
    }
    const schedule last = *s;
    s = source.next(&last);
  }
  return ran;
}

} // namespace chainring::test
