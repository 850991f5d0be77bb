// SPDX-License-Identifier: BSD-3-Clause
// Values that some threads read while others write, without locks for the readers: the total of all
// measurements in a seqlock, the last one of each sensor in a seq_array, and all of them in a
// seq_vec. Two threads measure, and the main thread looks on. At the end the three must agree.
//   c++ -std=c++20 shared_readings.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out 100000                      # "200000 readings of 4 sensors, sum 19999900000"
#include <atomic>
#include <chainring/chainring.h>
#include <cstdio>
#include <cstdlib>
#include <thread>

using namespace chainring;

struct reading {
  std::uint32_t sensor = 0;
  std::uint32_t number = 0; ///< of the sensor's readings
  std::uint64_t value = 0;
};
struct totals {
  std::uint64_t count = 0, sum = 0;
};

int main(int argc, char** argv) {
  const std::uint64_t each = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1000;
  constexpr std::uint32_t sensors = 4;
  seqlock<totals> all;
  seq_array<reading> last(sensors); // any of the four may be set first
  seq_vec<reading> log(2);          // grows while it is read
  std::atomic<unsigned> working{2};

  const auto measure = [&](std::uint32_t thread) {
    for (std::uint64_t i = 0; i < each; ++i) {
      const std::uint32_t sensor = 2 * thread + i % 2;
      const reading r{sensor, static_cast<std::uint32_t>(i / 2), i};
      if (log.push(r) != seq_status::done) std::abort(); // no memory
      last.set(sensor, r);
      auto now = all.lock_write(); // other writers wait here, readers do not
      now->count += 1;
      now->sum += i;
    }
    --working;
  };
  std::thread first(measure, 0), second(measure, 1);

  std::uint64_t seen = 0;
  for (idle_policy idle; working != 0; idle.idle()) {
    const totals t = all.read(); // count and sum of one moment
    if (t.count < seen || t.sum > t.count * each) std::abort();
    seen = t.count;
    reading r;
    // A sensor that has not measured yet is uninitialized, and a fifth one is out of bounds.
    if (last.get(0, r) == seq_status::done && r.sensor != 0) std::abort();
    if (last.get(sensors, r) != seq_status::out_of_bounds) std::abort();
  }
  first.join();
  second.join();

  std::uint64_t sum = 0;
  reading r;
  for (std::size_t i = 0; i < log.len(); ++i)
    if (log.get(i, r) == seq_status::done) sum += r.value;
  const totals t = all.read();
  if (t.count != log.len() || t.sum != sum) return 1;
  std::printf("%llu readings of %u sensors, sum %llu\n", static_cast<unsigned long long>(t.count),
              sensors, static_cast<unsigned long long>(t.sum));
}
