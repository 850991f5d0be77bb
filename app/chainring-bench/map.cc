// SPDX-License-Identifier: BSD-3-Clause
// This benchmark measures lookups in the maps, volatile and durable, against rte_hash without
// locks, and durable inserts against the bare cost of writing the same cache lines. Keys have 16
// bytes and values 8; every lookup finds its key; keys come in random order.
#include <bit>
#include <cstdio>
#include <cstring>
#include <random>
#include <rte_errno.h>
#include <rte_hash.h>
#include <vector>

#include "figures.h"
#include "map/durable_map.h"
#include "map/seq_map.h"

namespace chainring::bench {

namespace {

struct key16 {
  std::uint64_t a, b;
};

constexpr unsigned burst = 32;

std::uint32_t hash32(const void* key, std::uint32_t, std::uint32_t) {
  key16 k;
  std::memcpy(&k, key, sizeof k);
  return static_cast<std::uint32_t>(map_hash<key16>{}(k));
}

struct key_set {
  std::vector<key16> keys;
  std::vector<std::uint64_t> hashes;
  std::vector<hash_sig_t> signatures;
  std::vector<const void*> pointers;
  std::size_t own_at = 0, peer_at = 0;

  explicit key_set(std::uint64_t n) : keys(n) {
    std::mt19937_64 random(1);
    for (key16& k : keys)
      k = {random(), random()};
  }
  /// Puts the keys into another order than they were inserted in, and computes their hashes.
  template <class Hash> void shuffle(Hash&& hash) {
    std::mt19937_64 random(2);
    std::ranges::shuffle(keys, random);
    for (const key16& k : keys) {
      hashes.push_back(hash(k));
      signatures.push_back(static_cast<hash_sig_t>(hashes.back()));
      pointers.push_back(&k);
    }
  }
  [[nodiscard]] std::size_t next(std::size_t& at) const {
    const std::size_t was = at;
    at = at + 2 * burst > keys.size() ? 0 : at + burst;
    return was;
  }
};

using hash_pointer = std::unique_ptr<rte_hash, decltype(&rte_hash_free)>;

hash_pointer make_hash(std::uint64_t entries) {
  rte_hash_parameters p{};
  p.name = "bench_hash";
  p.entries = static_cast<std::uint32_t>(std::bit_ceil(entries));
  p.key_len = sizeof(key16);
  p.hash_func = hash32;
  p.socket_id = SOCKET_ID_ANY;
  p.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF;
  return {rte_hash_create(&p), &rte_hash_free};
}

bool volatile_lookup(bench_context& c, key_set& k, rte_hash* theirs) {
  auto made = seq_map<key16, std::uint64_t>::create(std::bit_ceil(k.keys.size()));
  if (!made) return false;
  auto& table = **made;
  for (std::uint64_t i = 0; i < k.keys.size(); ++i) {
    if (table.insert(k.keys[i], i) != map_status::done) return false;
    if (rte_hash_add_key_data(theirs, &k.keys[i], reinterpret_cast<void*>(i)) != 0) return false;
  }
  k.shuffle([&](const key16& key) { return table.hash(key); });
  bool good = true;
  pairs p = alternate(
      c.time(), timed([&] {
        const std::size_t at = k.next(k.own_at);
        std::uint64_t values[burst];
        good &= table.get_bulk(&k.keys[at], &k.hashes[at], burst, values) == 0xffff'ffff;
        asm volatile("" : : "r"(values) : "memory");
      }),
      timed([&] {
        const std::size_t at = k.next(k.peer_at);
        void* values[burst];
        std::uint64_t mask = 0;
        good &= rte_hash_lookup_with_hash_bulk_data(theirs, &k.pointers[at], &k.signatures[at],
                                                    burst, &mask, values) == burst;
        asm volatile("" : : "r"(values) : "memory");
      }));
  for (auto* side : {&p.own, &p.peer})
    for (double& ns : *side)
      ns /= burst;
  c.out.add(against("seq_map lookup, bulk of 32, hash given", "ns/key", p,
                    "rte_hash lock-free, bulk of 32", target{target::sense::at_least, 1.5}, true));
  return good;
}

struct durable {
  std::unique_ptr<media> m;
  std::unique_ptr<block_store> blocks;
  std::unique_ptr<durable_map> map;
  explicit durable(std::uint64_t cells) {
    const std::uint64_t table = align_up(cells * sizeof(map_cell), 4096);
    m = memory_media(table + 64 * 256, durability_class::emulated);
    use_hugepages(*m);
    blocks = block_store::create(*m, table, 256, 64).value();
    map = durable_map::create(*m, 0, cells, *blocks).value();
  }
};

bool durable_lookup(bench_context& c, key_set& k, durable& d, rte_hash* theirs) {
  bool good = true;
  {
    durable_map::batch b(*d.map);
    for (std::uint64_t i = 0; i < k.keys.size(); ++i)
      good &= b.insert(bytes_of(k.keys[i]), bytes_of(i)) == map_status::done;
  }
  const pairs p = alternate(c.time(), timed([&] {
                              k.own_at = k.own_at + 1 == k.keys.size() ? 0 : k.own_at + 1;
                              good &= d.map->get(bytes_of(k.keys[k.own_at])).has_value();
                            }),
                            timed([&] {
                              k.peer_at = k.peer_at + 1 == k.keys.size() ? 0 : k.peer_at + 1;
                              void* value = nullptr;
                              good &= rte_hash_lookup_data(theirs, &k.keys[k.peer_at], &value) >= 0;
                            }));
  c.out.add(against("durable_map lookup, one at a time", "ns/key", p,
                    "rte_hash lock-free, one at a time", {}, true));
  return good;
}

/// Inserts `batch` keys with one drain; each key is erased again, which the time does not include.
bool durable_insert(bench_context& c, durable& d, unsigned batch) {
  constexpr unsigned batches = 64;
  std::mt19937_64 random(3);
  bool good = true;
  std::uint64_t next = 0;
  const auto own = [&] {
    double ns = 0;
    std::vector<key16> keys(batch);
    for (unsigned n = 0; n < batches; ++n) {
      for (key16& k : keys)
        k = {~0ull, ++next};
      durable_map::batch b(*d.map);
      const auto start = clock::now();
      for (const key16& k : keys)
        good &= b.insert(bytes_of(k), bytes_of(next)) == map_status::done;
      b.commit();
      ns += std::chrono::duration<double, std::nano>(clock::now() - start).count();
      for (const key16& k : keys)
        good &= b.erase(bytes_of(k)) == map_status::done;
    }
    return ns / batches / batch;
  };
  // The peer writes as many cache lines, at random places of a table of the same size.
  const std::uint64_t lines = d.map->capacity();
  auto other = memory_media(lines * 64, durability_class::emulated);
  use_hugepages(*other);
  const auto peer = [&] {
    double ns = 0;
    std::vector<std::uint64_t*> at(batch);
    for (unsigned n = 0; n < batches; ++n) {
      for (auto& word : at)
        word = reinterpret_cast<std::uint64_t*>(other->base()) + random() % lines * 8;
      const auto start = clock::now();
      for (std::uint64_t* word : at)
        for (unsigned w = 0; w < 6; ++w)
          other->store(word + w, n);
      for (std::uint64_t* word : at)
        other->flush(word, 64);
      other->drain();
      ns += std::chrono::duration<double, std::nano>(clock::now() - start).count();
    }
    return ns / batches / batch;
  };
  c.out.add(against("durable_map insert, " +
                        (batch == 1 ? std::string("alone") : "batch of " + std::to_string(batch)),
                    "ns/key", alternate(c.time(), own, peer),
                    "6 stores + flush; one fence " + std::string(batch == 1 ? "each" : "for all")));
  return good;
}

} // namespace

bool map_figures(bench_context& c) {
  const std::uint64_t count = c.o.quick ? 15'000 : 1'000'000;
  c.out.heading("map: " + std::to_string(count) + " keys of 16 bytes, values of 8, all hits");
  const hash_pointer theirs = make_hash(count);
  if (theirs == nullptr) {
    std::fprintf(stderr, "map: rte_hash: %s; give EAL more memory (-m 512)\n",
                 rte_strerror(rte_errno));
    return false;
  }
  key_set keys(count);
  bool good = volatile_lookup(c, keys, theirs.get());
  durable d(count + 64);
  good = good && durable_lookup(c, keys, d, theirs.get());
  good = good && durable_insert(c, d, 32);
  good = good && durable_insert(c, d, 1);
  if (!good) std::fprintf(stderr, "map: a key was not found, or was refused by a full map\n");
  return good;
}

} // namespace chainring::bench
