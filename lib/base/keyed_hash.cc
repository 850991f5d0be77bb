// SPDX-License-Identifier: BSD-3-Clause
#include "base/keyed_hash.h"

#include <bit>
#include <cstring>
#include <ctime>
#include <sys/random.h>

namespace chainring {

namespace {

struct sip_state {
  std::uint64_t v0, v1, v2, v3;
  void round() noexcept {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }
  void word(std::uint64_t m) noexcept {
    v3 ^= m;
    round();
    v0 ^= m;
  }
};

std::uint64_t split_mix(std::uint64_t& state) noexcept { // Steele, Lea and Flood, 2014
  std::uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

hash_key draw_key() noexcept {
  hash_key key{};
  if (getrandom(&key, sizeof key, 0) == static_cast<ssize_t>(sizeof key)) return key;
  // A kernel without getrandom: the clock and an address are better than a constant.
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

std::uint64_t keyed_hash(const hash_key& key, const void* data, std::size_t size) noexcept {
  sip_state s{key.k0 ^ 0x736f6d6570736575u, key.k1 ^ 0x646f72616e646f6du,
              key.k0 ^ 0x6c7967656e657261u, key.k1 ^ 0x7465646279746573u}; // the paper's constants
  const auto* at = static_cast<const unsigned char*>(data);
  std::size_t left = size;
  for (; left >= 8; left -= 8, at += 8) {
    std::uint64_t m;
    std::memcpy(&m, at, 8);
    s.word(m);
  }
  std::uint64_t last = static_cast<std::uint64_t>(size) << 56;
  for (std::size_t i = 0; i < left; ++i)
    last |= static_cast<std::uint64_t>(at[i]) << (8 * i);
  s.word(last);
  s.v2 ^= 0xff;
  s.round();
  s.round();
  s.round();
  return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

} // namespace chainring
