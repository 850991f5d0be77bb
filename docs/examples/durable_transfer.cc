// SPDX-License-Identifier: BSD-3-Clause
// This program moves pieces between the shelves of a store. A crash at any point leaves a move undone
// or done: no pieces are lost, and none are there twice.
//   c++ -std=c++20 durable_transfer.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out /var/tmp/store put hall 20
//   ./a.out /var/tmp/store move hall attic 5
#include <chainring/chainring.h>
#include <cstdio>
#include <cstdlib>
#include <string>

using shelves = chainring::map<std::string, std::uint64_t>;
using chainring::map_status;

// Another thread may change the shelves between the two lookups and the batch. Here there is none.
static map_status move(shelves on, const std::string& from, const std::string& to,
                       std::uint64_t pieces) {
  const auto there = on.get(from);
  if (!there || *there < pieces) return map_status::missing;
  shelves::atomic_batch both(on);
  if (*there == pieces)
    both.erase(from);
  else
    both.upsert(from, *there - pieces);
  // The last change of a shelf counts, so a move to the same shelf puts back what it took.
  both.upsert(to, pieces + (from == to ? *there - pieces : on.get(to).value_or(0)));
  return both.commit();
}

int main(int argc, char** argv) {
  const std::string what = argc > 2 ? argv[2] : "";
  if (!(what == "put" && argc == 5) && !(what == "move" && argc == 6)) {
    std::fprintf(stderr, "usage: %s REGION put SHELF N | move SHELF SHELF N\n", argv[0]);
    return 2;
  }
  auto opened =
      chainring::objects::open_or_create(argv[1], chainring::durable<shelves>{"shelves", 1000});
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
    return 1;
  }
  shelves all = (*opened)->get<shelves>("shelves").value();
  const std::uint64_t pieces = std::strtoull(argv[argc - 1], nullptr, 10);
  const map_status done =
      what == "put" ? all.increment(argv[3], pieces) : move(all, argv[3], argv[4], pieces);
  if (done != map_status::done) {
    std::fprintf(stderr, "nothing was moved: %s\n", to_string(done));
    return 1;
  }
  auto& region = (*opened)->region();
  if (!region.wait(region.mark())) return 1; // in class `file` it is durable from here on

  std::uint64_t sum = 0;
  all.read_together([&] { // no move comes between two shelves
    sum = 0;
    all.for_each([&](const std::string&, std::uint64_t n) { sum += n; });
  });
  std::printf("%llu pieces on %llu shelves\n", static_cast<unsigned long long>(sum),
              static_cast<unsigned long long>(all.len()));
  return (*opened)->close() ? 0 : 1;
}
