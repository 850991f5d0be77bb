// SPDX-License-Identifier: BSD-3-Clause
#include "base/keyed_hash.h"

#include <ctime>
#include <sys/random.h>

namespace chainring {

namespace {

std::uint64_t split_mix(std::uint64_t& state) noexcept { // splitmix64: Steele, Lea and Flood, 2014
  std::uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

hash_key draw_key() noexcept {
  hash_key key{};
  if (getrandom(&key, sizeof key, 0) == static_cast<ssize_t>(sizeof key)) return key;
  // This kernel has no getrandom. The clock and an address are still better than a constant.
  std::timespec now{};
  std::timespec_get(&now, TIME_UTC);
  std::uint64_t state = static_cast<std::uint64_t>(now.tv_nsec) ^
                        static_cast<std::uint64_t>(now.tv_sec) << 30 ^
                        reinterpret_cast<std::uintptr_t>(&key);
  key.k0 = split_mix(state);
  key.k1 = split_mix(state);
  return key;
}

} // namespace

hash_key make_hash_key(std::uint64_t seed) noexcept {
  static const hash_key secret = draw_key();
  if (seed == 0) return secret;
  hash_key key{};
  key.k0 = split_mix(seed);
  key.k1 = split_mix(seed);
  return key;
}

} // namespace chainring
