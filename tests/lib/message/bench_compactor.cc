// SPDX-License-Identifier: BSD-3-Clause
/// What a compactor costs the threads beside it: how long it takes to publish, read and drop a
/// message while nobody compacts, and while a compactor works all the time. Prints percentiles; it
/// asserts nothing about them.
///
///     build/tests/lib/message/bench_compactor
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

#include "message/compactor.h"
#include "message_fixture.h"

namespace chainring::test {
namespace {

constexpr table_layout layout{.descriptors = 1 << 15, .block_size = 256, .blocks = 1 << 16};
constexpr std::size_t kept = 6000; ///< messages, about half of the store
constexpr unsigned rounds = 200'000;

struct shelf {
  std::vector<std::pair<message_ref, message_fields>> items;
};

/// Replaces messages at random by ones of other sizes. Returns the sorted times in nanoseconds.
std::vector<std::uint64_t> replace(const fixture& f, shelf& s, std::mt19937_64& random) {
  using clock = std::chrono::steady_clock;
  std::vector<std::uint64_t> times;
  times.reserve(rounds);
  message_view v;
  for (unsigned r = 0; r < rounds; ++r) {
    auto& item = s.items[random() % s.items.size()];
    const auto fresh = fields(r, static_cast<std::uint32_t>(random() % 3000), 0, 0);
    const auto begin = clock::now();
    message m;
    if (!publish_message(f.t, r, fresh, m)) continue;
    {
      const message_table::reading mine(*f.t.table);
      if (f->view(item.first, v) != message_status::ok || !f->verify(v)) std::abort();
    }
    f->drop_reference(item.first.index);
    times.push_back(
        static_cast<std::uint64_t>(std::chrono::nanoseconds(clock::now() - begin).count()));
    item = {m.ref, fresh};
  }
  std::sort(times.begin(), times.end());
  return times;
}

void print(const char* what, const std::vector<std::uint64_t>& times) {
  const auto at = [&](double share) {
    return 1e-3 *
           static_cast<double>(
               times[static_cast<std::size_t>(share * static_cast<double>(times.size() - 1))]);
  };
  std::printf("%-28s p50 %7.2f us, p99 %7.2f us, p99.9 %7.2f us\n", what, at(0.5), at(0.99),
              at(0.999));
}

int run() {
  std::mt19937_64 random(1);
  const fixture f(layout, true);
  shelf s;
  message m;
  for (std::size_t i = 0; i < kept; ++i) {
    const auto each = fields(i, static_cast<std::uint32_t>(random() % 3000), 0, 0);
    if (!publish_message(f.t, i, each, m)) return 1;
    s.items.emplace_back(m.ref, each);
  }
  (void)replace(f, s, random); // a store that has been in use
  print("nobody compacts", replace(f, s, random));
  std::atomic<bool> done{false};
  compactor_statistics moved;
  std::thread beside([&] {
    const auto c = message_compactor::create(*f.t.table).value();
    while (!done)
      if (c->step({.descriptors = 1024, .blocks = 256}) != compaction::working)
        std::this_thread::yield();
    moved = c->statistics();
  });
  print("a compactor works beside it", replace(f, s, random));
  done = true;
  beside.join();
  std::printf("%lu messages were moved in %lu cycles\n", moved.moved, moved.cycles);
  return 0;
}

} // namespace
} // namespace chainring::test

int main() {
  return chainring::test::run();
}
