// SPDX-License-Identifier: BSD-3-Clause
// Threads that count in one map, which nobody has to keep: it grows while they use it, and a reader
// never waits for a writer.
//   c++ -std=c++20 counted_letters.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out mississippi                 # "i 8000", "m 2000", "p 4000" and "s 8000": two threads
#include <chainring/chainring.h>
#include <cstdio>
#include <string_view>
#include <thread>

using namespace chainring;

int main(int argc, char** argv) {
  const std::string_view word = argc > 1 ? argv[1] : "mississippi";
  auto made = seq_map<std::uint64_t, std::uint64_t>::create_unbounded(1);
  if (!made) {
    std::fprintf(stderr, "%s\n", made.error().message.c_str());
    return 1;
  }
  auto& counts = **made;

  const auto count = [&] {
    for (int round = 0; round < 1000; ++round)
      for (const char letter : word)
        if (counts.increment(static_cast<unsigned char>(letter)) != map_status::done)
          std::abort(); // no memory
  };
  std::thread other(count);
  count();
  other.join();

  for (std::uint64_t letter = 0; letter < 256; ++letter)
    if (const auto n = counts.get(letter))
      std::printf("%c %llu\n", static_cast<char>(letter), static_cast<unsigned long long>(*n));
  return 0;
}
