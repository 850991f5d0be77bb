// SPDX-License-Identifier: BSD-3-Clause
// Class `file` under bursts like those of a broker: 32 messages in each drain and 5 lines for each
// message (two of payload, a descriptor, a queue slot, a queue record). Prints the messages made
// durable in a second and the time from a drain to its durable mark, beside the same load in class
// `process`.
//
//   bench_file [THREADS [SECONDS [REGION_MIB [RATE [JOURNAL_MIB]]]]]
//
// RATE is how many messages each thread makes durable in a second; 0 means as many as it can.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <random>
#include <thread>
#include <vector>

#include "base/idle.h"
#include "media/file/file_media.h"
#include "scratch.h"

namespace chainring::test {
namespace {

using clock = std::chrono::steady_clock;
constexpr std::uint64_t burst = 32;

struct outcome {
  std::uint64_t messages = 0;
  std::vector<double> ack_us;
};

void load(media& m, unsigned t, unsigned threads, clock::time_point end, double rate,
          outcome& out) {
  auto* words = reinterpret_cast<std::uint64_t*>(m.base());
  const std::uint64_t lines = m.size() / cacheline_size / threads;
  const std::uint64_t first = t * lines;
  // Descriptors, slots and queue records share a sixteenth of the memory; blocks of four lines get
  // the rest.
  const std::uint64_t small = lines / 16, blocks = (lines - 3 * small) / 4;
  std::mt19937_64 draw(t + 1);
  std::deque<std::pair<mark_t, clock::time_point>> waiting;
  idle_policy policy;
  const auto begin = clock::now();
  std::uint64_t k = 0;
  const auto line = [&](std::uint64_t l) { return words + (first + l) * 8; };
  while (clock::now() < end) {
    while (!waiting.empty() && m.durable(waiting.front().first)) {
      out.ack_us.push_back(
          std::chrono::duration<double, std::micro>(clock::now() - waiting.front().second).count());
      waiting.pop_front();
    }
    const bool early =
        rate > 0 &&
        static_cast<double>(k) > rate * std::chrono::duration<double>(clock::now() - begin).count();
    if (early || !m.has_room()) {
      policy.idle();
      continue;
    }
    policy.busy();
    std::uint64_t queue[burst];
    for (std::uint64_t i = 0; i < burst; ++i) {
      const std::uint64_t n = k + i;
      std::uint64_t* block = line(3 * small + n % blocks * 4);
      for (int w = 0; w < 16; ++w)
        m.store(block + w, n);
      for (int w = 1; w < 5; ++w)
        m.store(line(n % small) + w, n);
      queue[i] = draw() % small;
      m.store(line(small + queue[i]), n);
      m.store(line(2 * small + queue[i]), n);
    }
    for (std::uint64_t i = 0; i < burst; ++i) {
      m.flush(line(3 * small + (k + i) % blocks * 4), 2 * cacheline_size);
      m.flush(line((k + i) % small), 8);
      m.flush(line(small + queue[i]), 8);
      m.flush(line(2 * small + queue[i]), 8);
    }
    m.drain();
    k += burst;
    waiting.emplace_back(m.mark(), clock::now());
  }
  (void)m.wait(m.mark());
  out.messages = k;
}

void run(media& m, const char* name, unsigned threads, double seconds, double rate) {
  std::vector<outcome> out(threads);
  const auto begin = clock::now();
  const auto end =
      begin + std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>(seconds));
  std::vector<std::thread> all;
  for (unsigned t = 0; t < threads; ++t)
    all.emplace_back([&, t] { load(m, t, threads, end, rate, out[t]); });
  for (auto& t : all)
    t.join();
  const double took = std::chrono::duration<double>(clock::now() - begin).count();
  std::uint64_t messages = 0;
  std::vector<double> ack;
  for (outcome& o : out) {
    messages += o.messages;
    ack.insert(ack.end(), o.ack_us.begin(), o.ack_us.end());
  }
  std::sort(ack.begin(), ack.end());
  const auto at = [&](double q) {
    return ack.empty() ? 0.0
                       : ack[static_cast<std::size_t>(q * static_cast<double>(ack.size() - 1))];
  };
  std::printf("%-8s %u threads: %8.0f k messages/s; drain to durable p50 %.0f us, p99 %.0f us, max "
              "%.0f us\n",
              name, threads, static_cast<double>(messages) / took / 1e3, at(0.5), at(0.99), at(1));
}

} // namespace
} // namespace chainring::test

int main(int argc, char** argv) {
  using namespace chainring;
  using namespace chainring::test;
  const auto arg = [&](int i, double fallback) { return argc > i ? std::atof(argv[i]) : fallback; };
  const unsigned threads = static_cast<unsigned>(arg(1, 2));
  const double seconds = arg(2, 2), rate = arg(4, 0);
  const std::uint64_t size = static_cast<std::uint64_t>(arg(3, 256)) << 20;
  const scratch_directory d(disk_directory());
  media_options o;
  o.path = d.file("region");
  o.size = size;
  o.driver = "file";
  o.journal_size = static_cast<std::uint64_t>(arg(5, 64)) << 20;
  {
    auto m = create_media(o);
    if (!m) return std::printf("%s\n", m.error().message.c_str()), 1;
    run(**m, "file", threads, seconds, rate);
    if (auto closed = (*m)->close(); !closed)
      return std::printf("%s\n", closed.error().message.c_str()), 1;
  }
  auto memory = memory_media(size, durability_class::process);
  run(*memory, "process", threads, seconds, rate);
  return 0;
}
