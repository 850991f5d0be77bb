// SPDX-License-Identifier: BSD-3-Clause
/// A hook for stress tests.
#pragma once
#include <functional>
#include <random>
#include <sched.h>
#include <thread>

namespace chainring::test {

/// Makes threads yield in the middle of operations now and then. With few cores this would hardly
/// happen otherwise.
inline void give_way(const char*, void*) noexcept {
  thread_local std::minstd_rand random(
      static_cast<unsigned>(std::hash<std::thread::id>{}(std::this_thread::get_id())));
  if (random() % 8 == 0) sched_yield();
}

} // namespace chainring::test
