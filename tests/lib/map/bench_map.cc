// SPDX-License-Identifier: BSD-3-Clause
// Lookups of seq_map against rte_hash's lock-free ones: 1 M keys of 16 bytes, all hits, in random
// order, hashes precomputed, bursts of 32. Arguments are EAL's. Prints cycles a lookup and the
// ratio; which one goes first alternates, so that neither has the better half of the run.
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
    std::fprintf(stderr, "no memory\n");
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
  rte_hash_free(theirs);
  rte_eal_cleanup();
  return 0;
}
