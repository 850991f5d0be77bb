// SPDX-License-Identifier: BSD-3-Clause
// One durable queue with two streams: each entry goes to both readers, and each reads at a pace of
// its own, also after the other has gone. The one who is late finds what it missed, in a later run
// of the program, too.
//   c++ -std=c++20 two_readers.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out /var/tmp/news one two       # both readers print "one" and "two"
#include <chainring/chainring.h>
#include <chrono>
#include <cstdio>
#include <thread>

using namespace chainring;
using news = queue<std::string>;

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: %s REGION TEXT...\n", argv[0]);
    return 2;
  }
  auto opened =
      objects::open_or_create(argv[1], durable<news>{.name = "news", .entries = 100, .streams = 2});
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
    return 1;
  }
  news all = (*opened)->get<news>("news").value();

  std::string heard[2];
  const auto read = [&](std::uint32_t reader) {
    news mine = all.stream(reader);
    // A real reader would go on; this one ends when nothing has come for a while.
    while (auto next = mine.wait_dequeue(std::chrono::milliseconds(200)))
      heard[reader] += " " + *next;
  };
  std::thread early(read, 0);
  for (int i = 2; i < argc; ++i)
    if (all.enqueue(argv[i]) != queue_status::done) std::fprintf(stderr, "the queue is full\n");
  early.join();
  read(1); // the late one
  for (const std::string& text : heard)
    std::printf("heard:%s\n", text.c_str());
  return (*opened)->close() ? 0 : 1;
}
