// SPDX-License-Identifier: BSD-3-Clause
// Measures what an operation id costs: enqueues of 100 bytes and changes of a map, each with ids
// and without, in memory of class `emulated`, whose flushes and drains are real. The two take
// turns, and the median of their ratios is printed; absolute times depend on the machine. The
// argument is the number of rounds.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <time.h>
#include <vector>

#include "objects/object_map.h"
#include "objects/object_queue.h"

namespace chainring::bench {
namespace {

using entry = std::array<char, 100>;
using entries = queue<entry>;
using counts = map<std::uint64_t, std::uint64_t>;
constexpr unsigned clients = 64, operations = 4096;

[[noreturn]] void stop(const char* why) {
  std::fprintf(stderr, "bench_operations: %s\n", why);
  std::exit(1);
}

/// Of the CPU, so that other programs of the machine do not count.
double seconds_used() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}
template <class Fn> double seconds(Fn&& fn) {
  const double begin = seconds_used();
  fn();
  return seconds_used() - begin;
}

/// Prints how much longer `with` takes than `without`.
template <class With, class Without>
void compare(const char* what, int rounds, With&& with, Without&& without) {
  std::vector<double> ratios;
  for (int i = 0; i < rounds; ++i) {
    const bool first = i % 2 == 0;
    double a = 0, b = 0;
    if (first) a = seconds(with);
    b = seconds(without);
    if (!first) a = seconds(with);
    ratios.push_back(a / b);
  }
  std::ranges::sort(ratios);
  std::printf("| %-46s | %.2f | %.2f to %.2f |\n", what, ratios[ratios.size() / 2], ratios.front(),
              ratios.back());
}

int run(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 15;
  auto opened = objects::open(
      region::create_on(memory_media(64 << 20, durability_class::emulated), {}).value(),
      durable<entries>{.name = "with", .entries = 256, .clients = clients},
      durable<entries>{.name = "without", .entries = 256}, durable<counts>{"counts", 4096});
  if (!opened) stop(opened.error().message.c_str());
  entries with = (*opened)->get<entries>("with").value(),
          without = (*opened)->get<entries>("without").value();
  counts map = (*opened)->get<counts>("counts").value();
  std::vector<entry> some(clients), out(clients);
  std::vector<operation_id> ids(clients);
  std::uint64_t sequence = 0;

  std::printf("| %-46s | with an id / without | range |\n|---|---|---|\n", "operation");
  for (const unsigned burst : {1u, 32u}) {
    const auto text = "enqueue and dequeue, burst of " + std::to_string(burst);
    compare(
        text.c_str(), rounds,
        [&] {
          for (unsigned n = 0; n < operations; n += burst) {
            ++sequence;
            for (unsigned i = 0; i < burst; ++i)
              ids[i] = {i, sequence};
            if (with.enqueue_burst(std::span(ids).first(burst), std::span(some).first(burst)) !=
                burst)
              stop("a burst with ids was refused");
            if (with.dequeue_burst(std::span(out).first(burst)) != burst) stop("entries are gone");
          }
        },
        [&] {
          for (unsigned n = 0; n < operations; n += burst) {
            if (without.enqueue_burst(std::span(some).first(burst)) != burst)
              stop("a burst was refused");
            if (without.dequeue_burst(std::span(out).first(burst)) != burst)
              stop("entries are gone");
          }
        });
  }
  compare(
      "map, one upsert", rounds,
      [&] {
        ++sequence;
        for (std::uint64_t n = 0; n < operations; ++n)
          if (map.upsert(
                  {static_cast<std::uint32_t>(n % clients), sequence * operations + n / clients},
                  n % 1024, n) != map_status::done)
            stop("a change with an id was refused");
      },
      [&] {
        for (std::uint64_t n = 0; n < operations; ++n)
          if (map.upsert(n % 1024, n) != map_status::done) stop("a change was refused");
      });
  counts::atomic_batch b(map);
  const auto batches = [&](bool named) {
    ++sequence;
    for (std::uint64_t n = 0; n < operations / 64; ++n) {
      if (named) (void)b.identify({1, sequence * operations + n});
      for (std::uint64_t k = 0; k < 64; ++k)
        (void)b.upsert(n * 64 % 1024 + k, n);
      if (b.commit() != map_status::done) stop("a batch was refused");
    }
  };
  compare(
      "map, atomic_batch of 64 changes", rounds, [&] { batches(true); }, [&] { batches(false); });
  return 0;
}

} // namespace
} // namespace chainring::bench

int main(int argc, char** argv) {
  return chainring::bench::run(argc, argv);
}
