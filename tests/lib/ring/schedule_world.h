// SPDX-License-Identifier: BSD-3-Clause
/// Value queues under deterministic schedules.
#pragma once
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "base/hook.h"
#include "media/sim/sim.h"
#include "ring_fixture.h"
#include "support/schedule.h"
#include "support/seed.h"

namespace chainring::test {

/// Two value queues over `sim` media. Schedules switch threads at the calls of the persist seam.
/// The first queue has its ring.
struct scheduled_queues {
  queue_layout l;
  std::shared_ptr<sim_disk> disk = sim_disk::create(l.size());
  std::unique_ptr<sim_media> m = disk->boot();
  queues_on_media q{*m, l};

  scheduled_queues(queue_mode mode, const queue_layout& layout) : l(layout) {
    if (!q.consumer().set_mode(0, mode) || q->link_now(0) != link_status::ready) std::abort();
  }
  /// Places `n` values from `first` on, all or none. Returns how many were placed.
  std::uint32_t put(std::uint64_t first, std::uint32_t n, std::uint32_t queue = 0) {
    std::vector<std::uint64_t> values(n);
    for (std::uint32_t i = 0; i < n; ++i)
      values[i] = first + i;
    placement p;
    const std::uint32_t got = q->enqueue_bulk(queue, values, p);
    if (got == 0) return 0;
    q->place_flush(p);
    m->drain();
    q->place_finish(p);
    return got;
  }
  std::vector<std::uint64_t> values() {
    std::vector<std::uint64_t> out;
    for (const leased& e : q.lease(0))
      out.push_back(e.ref.word);
    return out;
  }
};

/// True when body() returns true for every schedule: up to `enumerated_max` enumerated ones and 200
/// random ones. The seeded bug `bug` is on meanwhile.
inline bool holds(const char* bug, unsigned enumerated_max,
                  const std::function<bool(schedule&)>& body) {
  set_seeded_bug(bug);
  bool all = true;
  for_each_schedule({.random = 200, .preemptions = 2, .enumerated_max = enumerated_max},
                    seed_from_environment(1), [&](schedule& s) {
                      all = body(s);
                      return all;
                    });
  set_seeded_bug(nullptr);
  return all;
}

} // namespace chainring::test
