// SPDX-License-Identifier: BSD-3-Clause
/// Hashes for the maps: 64 bits, well mixed in the low bits, which choose the home group, and in
/// the high bits, which make the tag. A secret seed, drawn at open, keeps clients from choosing
/// keys that collide.
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace chainring {

namespace detail {

/// Returns both halves of the 128-bit product combined (wyhash's mixing step, Wang Yi, public
/// domain).
inline std::uint64_t multiply_mix(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using wide = unsigned __int128;
  const wide product = static_cast<wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

inline constexpr std::uint64_t hash_odd_1 = 0xa0761d6478bd642f;
inline constexpr std::uint64_t hash_odd_2 = 0xe7037ed1a0b428db;

/// The number that the second word of each pair is combined with. It must be as secret as the seed:
/// a client that knew it could send the word that makes the factor zero, and every key with that
/// word would have the same hash, whatever the seed is. With seed 0 it is a known number, for
/// hashes that are kept on media.
constexpr std::uint64_t second_secret(std::uint64_t seed) noexcept {
  return hash_odd_2 ^ std::rotl(seed * hash_odd_1, 32);
}

} // namespace detail

/// Returns the hash of the bytes of `key` with a seed.
[[nodiscard]] inline std::uint64_t hash_bytes(std::span<const std::byte> key,
                                              std::uint64_t seed) noexcept {
  std::uint64_t h = seed ^ detail::multiply_mix(key.size() + 1, detail::hash_odd_1);
  const std::uint64_t second = detail::second_secret(seed);
  const std::byte* at = key.data();
  std::size_t left = key.size();
  while (left > 0) {
    std::uint64_t words[2] = {};
    const std::size_t n = left < sizeof words ? left : sizeof words;
    std::memcpy(words, at, n);
    h = detail::multiply_mix(words[0] ^ detail::hash_odd_1 ^ h, words[1] ^ second);
    at += n;
    left -= n;
  }
  return detail::multiply_mix(h ^ detail::hash_odd_2, seed ^ detail::hash_odd_1);
}

/// The default hash of a key that is compared as bytes.
template <class K> struct map_hash {
  std::uint64_t seed = 0;
  [[nodiscard]] std::uint64_t operator()(const K& key) const noexcept {
    std::array<std::uint64_t, (sizeof(K) + 15) / 16 * 2> words{};
    std::memcpy(words.data(), &key, sizeof(K));
    const std::uint64_t second = detail::second_secret(seed);
    std::uint64_t h = seed ^ detail::hash_odd_1;
    for (std::size_t i = 0; i < words.size(); i += 2)
      h = detail::multiply_mix(words[i] ^ h, words[i + 1] ^ second);
    return detail::multiply_mix(h ^ detail::hash_odd_2, sizeof(K) ^ detail::hash_odd_1);
  }
};

/// Draws a seed from the operating system, which no client knows.
[[nodiscard]] std::uint64_t random_seed() noexcept;

} // namespace chainring
