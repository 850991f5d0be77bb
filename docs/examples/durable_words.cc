// SPDX-License-Identifier: BSD-3-Clause
// This program keeps a count of its own runs in a durable map:
//   c++ -std=c++20 durable_words.cc $(pkg-config --cflags --libs libchainring) && ./a.out
//   /var/tmp/words
#include <chainring/chainring.h>
#include <cstdio>
#include <cstring>
#include <sys/stat.h>

using namespace chainring;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s REGION\n", argv[0]);
    return 2;
  }
  constexpr std::uint64_t cells = 64;
  region_options o;
  o.media.path = argv[1];
  o.media.size = 16 << 20;
  o.areas = {{"words", cells * sizeof(map_cell), 1}};
  struct stat st {};
  auto r = stat(argv[1], &st) == 0 ? region::open(o.media) : region::create(o);
  if (!r) {
    std::fprintf(stderr, "%s\n", r.error().message.c_str());
    return 1;
  }
  const region_geometry& g = (*r)->geometry();
  auto blocks = block_store::create((*r)->medium(), g.block_offset, g.block_size, g.block_count);
  auto root = (*r)->root("words");
  if (!blocks || !root) return 1;
  auto map = durable_map::create((*r)->medium(), root->offset, cells, **blocks);
  if (!map) return 1;
  (*blocks)->begin_recovery();
  (*map)->persist_as_read();
  (*r)->medium().drain();
  (void)(*map)->recover();
  (*r)->medium().drain();
  (*blocks)->finish_recovery();

  const auto key = std::as_bytes(std::span("runs", 4));
  std::uint64_t runs = 0;
  if (auto v = (*map)->get(key)) std::memcpy(&runs, v->bytes.data(), sizeof runs);
  ++runs;
  if ((*map)->upsert(key, std::as_bytes(std::span(&runs, 1))) != map_status::done) return 1;
  if (!(*r)->medium().wait((*r)->mark())) return 1; // the new count is durable from here on
  std::printf("run %llu, class %s\n", static_cast<unsigned long long>(runs),
              to_string((*r)->medium().durability()));
  map->reset();
  return (*r)->close() ? 0 : 1;
}
