// SPDX-License-Identifier: BSD-3-Clause
/// Threads that live at one time, more than tables have rows for (base/thread_slot.h).
#pragma once
#include <latch>
#include <thread>
#include <vector>

#include "base/thread_slot.h"

namespace chainring::test {

/// Calls work(i) for i below `n`, each on a thread of its own, while all of them live.
template <class Work> void run_at_once(unsigned n, Work&& work) {
  std::latch began(n), ended(n);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < n; ++i)
    threads.emplace_back([&, i] {
      (void)thread_slot();
      began.arrive_and_wait();
      work(i);
      ended.arrive_and_wait();
    });
  for (std::thread& t : threads)
    t.join();
}

/// While an object of this class lives, a new thread has no row.
class occupied_rows {
 public:
  occupied_rows() {
    for (unsigned i = 0; i < max_thread_slots; ++i)
      threads_.emplace_back([this] {
        (void)thread_slot();
        began_.count_down();
        end_.wait();
      });
    began_.wait();
  }
  ~occupied_rows() {
    end_.count_down();
    for (std::thread& t : threads_)
      t.join();
  }

 private:
  std::latch began_{max_thread_slots}, end_{1};
  std::vector<std::thread> threads_;
};

} // namespace chainring::test
