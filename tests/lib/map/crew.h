// SPDX-License-Identifier: BSD-3-Clause
/// Threads of a test that help in a recovery.
#pragma once
#include <thread>
#include <vector>

#include "media/recovery_crew.h"

namespace chainring::test {

inline recovery_crew crew_of(unsigned threads) {
  return {threads, [threads](const std::function<void(unsigned)>& work) {
            std::vector<std::thread> others;
            for (unsigned t = 1; t < threads; ++t)
              others.emplace_back(work, t);
            work(0);
            for (std::thread& t : others)
              t.join();
          }};
}

} // namespace chainring::test
