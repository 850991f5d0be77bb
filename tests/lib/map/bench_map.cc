// SPDX-License-Identifier: BSD-3-Clause
// Measures lookups of seq_map beside the lock-free lookups of rte_hash: 1 M keys of 16 bytes, all
// hits, in random order, with hashes computed before, in bursts of 32. It prints cycles for a
// lookup and the ratio. The two take turns in going first, so that neither has the better half of
// the run. Then it measures the same lookups in a map whose growth to that size stands half way,
// and inserts into a map that has its size and into one that grows from one key. The arguments are
// those of EAL.
#include <algorithm>
#include <cstdio>
#include <random>
#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_hash.h>
#include <rte_lcore.h>
#include <vector>

#include "map/seq_map.h"

namespace {

struct key16 {
  std::uint64_t a, b;
};

constexpr std::uint64_t keys_count = 1'000'000;
constexpr unsigned burst = 32;

std::uint32_t hash32(const void* key, std::uint32_t, std::uint32_t) {
  key16 k;
  std::memcpy(&k, key, sizeof k);
  return static_cast<std::uint32_t>(chainring::map_hash<key16>{}(k));
}

} // namespace

int main(int argc, char** argv) {
  if (rte_eal_init(argc, argv) < 0) return 1;
  rte_hash_parameters parameters{};
  parameters.name = "bench";
  parameters.entries = 1u << 20;
  parameters.key_len = sizeof(key16);
  parameters.hash_func = hash32;
  parameters.socket_id = static_cast<int>(rte_socket_id());
  parameters.extra_flag = RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF;
  rte_hash* theirs = rte_hash_create(&parameters);
  auto made = chainring::seq_map<key16, std::uint64_t>::create(1u << 20);
  if (theirs == nullptr || !made) {
    std::fprintf(stderr, "there is not enough memory\n");
    return 1;
  }
  auto& ours = **made;

  std::mt19937_64 random(1);
  std::vector<key16> keys(keys_count);
  for (auto& k : keys)
    k = {random(), random()};
  for (std::uint64_t i = 0; i < keys_count; ++i) {
    if (ours.insert(keys[i], i) != chainring::map_status::done) return 1;
    if (rte_hash_add_key_data(theirs, &keys[i], reinterpret_cast<void*>(i)) != 0) return 1;
  }
  std::shuffle(keys.begin(), keys.end(), random);
  std::vector<std::uint64_t> hashes(keys_count);
  std::vector<hash_sig_t> signatures(keys_count);
  std::vector<const void*> pointers(keys_count);
  for (std::uint64_t i = 0; i < keys_count; ++i) {
    hashes[i] = ours.hash(keys[i]);
    signatures[i] = static_cast<hash_sig_t>(hashes[i]);
    pointers[i] = &keys[i];
  }

  constexpr std::uint64_t bursts = keys_count / burst;
  const auto run_ours = [&] {
    std::uint64_t hits = 0, values[burst];
    const std::uint64_t begin = rte_rdtsc_precise();
    for (std::uint64_t b = 0; b < bursts; ++b)
      hits += static_cast<unsigned>(
          __builtin_popcountll(ours.get_bulk(&keys[b * burst], &hashes[b * burst], burst, values)));
    const std::uint64_t spent = rte_rdtsc_precise() - begin;
    if (hits != bursts * burst) std::abort();
    return static_cast<double>(spent) / static_cast<double>(bursts * burst);
  };
  const auto run_theirs = [&] {
    std::uint64_t hits = 0, mask = 0;
    void* values[burst];
    const std::uint64_t begin = rte_rdtsc_precise();
    for (std::uint64_t b = 0; b < bursts; ++b) {
      const int n = rte_hash_lookup_with_hash_bulk_data(
          theirs, &pointers[b * burst], &signatures[b * burst], burst, &mask, values);
      hits += static_cast<unsigned>(n);
    }
    const std::uint64_t spent = rte_rdtsc_precise() - begin;
    if (hits != bursts * burst) std::abort();
    return static_cast<double>(spent) / static_cast<double>(bursts * burst);
  };
  std::vector<double> mine, others;
  for (int round = 0; round < 15; ++round) {
    if (round % 2 == 0) mine.push_back(run_ours());
    others.push_back(run_theirs());
    if (round % 2 != 0) mine.push_back(run_ours());
  }
  const auto median = [](std::vector<double> v) {
    std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
    return v[v.size() / 2];
  };
  std::printf("bulk lookup, 1 M keys, cycles each: seq_map %.1f, rte_hash %.1f, %.2fx as fast\n",
              median(mine), median(others), median(others) / median(mine));
  {
    auto half = chainring::seq_map<key16, std::uint64_t>::create(1u << 20, {}, 1u << 19);
    if (!half) return 1;
    auto& m = **half;
    std::uint64_t n = 0;
    const auto insert = [&] { return m.insert(keys[n], n) == chainring::map_status::done && ++n; };
    while (n <= 1u << 19)
      if (!insert()) return 1;
    // A home has four entries and two of them are taken, so there are 2^18 homes.
    for (unsigned homes = 1u << 17; homes != 0 && m.help_grow(1); --homes)
      ;
    std::vector<std::uint32_t> order(n / burst);
    for (std::uint32_t i = 0; i < order.size(); ++i)
      order[i] = i * burst;
    std::shuffle(order.begin(), order.end(), random);
    const auto lookups = [&](auto& map) {
      std::uint64_t hits = 0, values[burst];
      const std::uint64_t begin = rte_rdtsc_precise();
      for (std::uint32_t at : order)
        hits += static_cast<unsigned>(
            __builtin_popcountll(map.get_bulk(&keys[at], &hashes[at], burst, values)));
      const std::uint64_t spent = rte_rdtsc_precise() - begin;
      if (hits != order.size() * burst) std::abort();
      return static_cast<double>(spent) / static_cast<double>(hits);
    };
    std::vector<double> growing, grown;
    const bool under_way = m.growing();
    for (int round = 0; round < 15; ++round)
      growing.push_back(lookups(m));
    while (m.help_grow(1024))
      ;
    for (int round = 0; round < 15; ++round)
      grown.push_back(lookups(m));
    std::printf("bulk lookup, 0.5 M keys, cycles each: %s %.1f, afterwards %.1f\n",
                under_way ? "half way through a growth" : "(no growth)", median(growing),
                median(grown));
  }
  {
    std::vector<double> fixed, grows, worst;
    for (int round = 0; round < 5; ++round)
      for (const bool all : {true, false}) {
        auto fresh = chainring::seq_map<key16, std::uint64_t>::create(1u << 20, {}, all ? 0 : 1);
        if (!fresh) return 1;
        std::uint64_t longest = 0;
        const std::uint64_t begin = rte_rdtsc_precise();
        std::uint64_t last = begin;
        for (std::uint64_t i = 0; i < keys_count; ++i) {
          if ((*fresh)->insert(keys[i], i) != chainring::map_status::done) return 1;
          const std::uint64_t now = rte_rdtsc();
          longest = std::max(longest, now - last);
          last = now;
        }
        (all ? fixed : grows).push_back(static_cast<double>(last - begin) / keys_count);
        if (!all) worst.push_back(static_cast<double>(longest));
      }
    std::printf("insert of 1 M keys, cycles each: at its size %.1f, growing from 1 key %.1f, of "
                "which the longest %.0f (page faults and preemption included)\n",
                median(fixed), median(grows), median(worst));
  }
  rte_hash_free(theirs);
  rte_eal_cleanup();
  return 0;
}
