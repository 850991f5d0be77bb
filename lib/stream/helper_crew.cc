// SPDX-License-Identifier: BSD-3-Clause
#include "stream/helper_crew.h"

#include <algorithm>
#include <array>
#include <bit>
#include <csignal>
#include <cstdlib>
#include <pthread.h>
#include <rte_ring.h>
#include <semaphore>
#include <system_error>
#include <thread>
#include <vector>

namespace chainring::stream {

namespace {

struct ring_memory {
  void operator()(rte_ring* r) const noexcept { std::free(r); }
};
using owned_ring = std::unique_ptr<rte_ring, ring_memory>;

// Makes a ring in memory of this process, so that the crew needs no EAL.
owned_ring make_ring(const char* name, std::uint32_t size) {
  const unsigned count = std::bit_ceil(size + 1);
  const auto octets = static_cast<std::size_t>(rte_ring_get_memsize(count));
  owned_ring r(static_cast<rte_ring*>(
      std::aligned_alloc(RTE_CACHE_LINE_SIZE, (octets + RTE_CACHE_LINE_SIZE - 1) /
                                                  RTE_CACHE_LINE_SIZE * RTE_CACHE_LINE_SIZE)));
  if (r != nullptr && rte_ring_init(r.get(), name, count, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0)
    r.reset();
  return r;
}

} // namespace

// Each helper has rings of its own, so that one which is preempted stops no other.
struct helper_crew::state {
  struct helper {
    owned_ring asked, done;
    std::counting_semaphore<> waiting{0};
    std::uint32_t under_way = 0;
    std::jthread thread; // last, so that it ends first

    void help(const std::stop_token& stop) noexcept {
      pthread_setname_np(pthread_self(), "chainring-help");
      for (;;) {
        waiting.acquire();
        if (stop.stop_requested()) return;
        void* next = nullptr;
        if (rte_ring_sc_dequeue(asked.get(), &next) != 0) continue;
        static_cast<job*>(next)->run();
        // The ring has room for every job that is under way.
        (void)rte_ring_sp_enqueue(done.get(), next);
      }
    }
  };
  std::uint32_t jobs_max = 0, under_way = 0;
  std::vector<std::unique_ptr<helper>> helpers;
};

helper_crew::helper_crew(std::unique_ptr<state> s) : state_(std::move(s)) {}

result<std::unique_ptr<helper_crew>> helper_crew::create(unsigned threads, std::uint32_t jobs_max) {
  if (threads == 0 || threads > 64)
    return error{errc::invalid_argument,
                 "threads " + std::to_string(threads) + ": expected 1 to 64"};
  if (jobs_max == 0 || jobs_max > 65536)
    return error{errc::invalid_argument,
                 "jobs_max " + std::to_string(jobs_max) + ": expected 1 to 65536"};
  auto s = std::make_unique<state>();
  s->jobs_max = jobs_max;
  for (unsigned i = 0; i < threads; ++i) {
    auto h = std::make_unique<state::helper>();
    h->asked = make_ring("helper_asked", jobs_max);
    h->done = make_ring("helper_done", jobs_max);
    if (h->asked == nullptr || h->done == nullptr)
      return error{errc::no_space, "there is no memory for the jobs of the helper threads"};
    s->helpers.push_back(std::move(h));
  }
  std::unique_ptr<helper_crew> made(new helper_crew(std::move(s)));
  // A signal is for the thread that waits for it, and none of these does.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool started = true;
  try {
    for (const auto& h : made->state_->helpers)
      h->thread = std::jthread([mine = h.get()](const std::stop_token& stop) { mine->help(stop); });
  } catch (const std::system_error&) {
    started = false;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!started) return error{errc::io, "a helper thread cannot be started"};
  return made;
}

helper_crew::~helper_crew() {
  for (const auto& h : state_->helpers) {
    h->thread.request_stop();
    h->waiting.release();
  }
}

bool helper_crew::submit(job& j) noexcept {
  state& s = *state_;
  if (!has_room()) return false;
  state::helper& least =
      **std::ranges::min_element(s.helpers, {}, [](const auto& h) { return h->under_way; });
  if (rte_ring_sp_enqueue(least.asked.get(), &j) != 0) return false;
  ++s.under_way;
  ++least.under_way;
  least.waiting.release();
  return true;
}

bool helper_crew::collect() noexcept {
  state& s = *state_;
  if (s.under_way == 0) return false;
  bool any = false;
  std::array<void*, 32> done;
  for (const auto& h : s.helpers) {
    const unsigned n = rte_ring_sc_dequeue_burst(h->done.get(), done.data(), done.size(), nullptr);
    s.under_way -= n;
    h->under_way -= n;
    for (unsigned i = 0; i < n; ++i)
      static_cast<job*>(done[i])->finish();
    any |= n != 0;
  }
  return any;
}

bool helper_crew::has_room() const noexcept {
  return state_->under_way < state_->jobs_max;
}
unsigned helper_crew::threads() const noexcept {
  return static_cast<unsigned>(state_->helpers.size());
}
std::uint32_t helper_crew::under_way() const noexcept {
  return state_->under_way;
}

} // namespace chainring::stream
