// SPDX-License-Identifier: BSD-3-Clause
// This program counts words, also across its runs and whatever ends them:
//   c++ -std=c++20 durable_words.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out /var/tmp/words to be or not to be
#include <chainring/chainring.h>
#include <cstdio>

using words = chainring::map<std::string, std::uint64_t>;

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s REGION [WORD]...\n", argv[0]);
    return 2;
  }
  auto opened = chainring::objects::open_or_create(argv[1], chainring::durable<words>{"words", 1000});
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
    return 1;
  }
  words count = (*opened)->get<words>("words").value();

  for (int i = 2; i < argc; ++i)
    if (count.increment(argv[i]) != chainring::map_status::done) {
      std::fprintf(stderr, "there is no room for '%s'\n", argv[i]);
      return 1;
    }
  auto& region = (*opened)->region();
  if (!region.wait(region.mark())) return 1; // in class `file` it is durable from here on

  count.for_each([](const std::string& word, std::uint64_t n) {
    std::printf("%s %llu\n", word.c_str(), static_cast<unsigned long long>(n));
  });
  std::printf("class %s\n", to_string(region.medium().durability()));
  return (*opened)->close() ? 0 : 1;
}
