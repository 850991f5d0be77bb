// SPDX-License-Identifier: BSD-3-Clause
/// Hashes for tables whose keys a stranger chooses.
///
/// A client that could compute the hash could send names that all fall into one bucket, and each
/// look-up would walk them all. A checksum does not help, whatever it starts from: two strings that
/// collide under one CRC of their length collide under each. SipHash-1-3 (Aumasson and Bernstein,
/// 2012; one round a word and three at the end, as Rust's and Python's tables use it) under a
/// secret key gives an attacker nothing to compute with.
///
/// Thread-safe; nothing allocates. Cost: about 8 ns for a word and 1 ns for each further eight
/// octets.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace chainring {

struct hash_key {
  std::uint64_t k0, k1;
};

/// The key that a seed stands for. Seed 0 stands for this process's secret, which the operating
/// system's random source gives once; another seed always gives the same key, for tests.
[[nodiscard]] hash_key make_hash_key(std::uint64_t seed) noexcept;

/// SipHash-1-3 of `size` octets.
[[nodiscard]] std::uint64_t keyed_hash(const hash_key& key, const void* data,
                                       std::size_t size) noexcept;
[[nodiscard]] inline std::uint64_t keyed_hash(const hash_key& key, std::string_view text) noexcept {
  return keyed_hash(key, text.data(), text.size());
}

/// A hash of a pair of numbers which strangers influence but do not choose freely: multiplication
/// by secret odd numbers, of which the high half is kept (Dietzfelbinger et al., 1997).
[[nodiscard]] inline std::uint32_t keyed_mix(const hash_key& key, std::uint32_t a,
                                             std::uint32_t b) noexcept {
  std::uint64_t x = ((static_cast<std::uint64_t>(a) << 32 | b) ^ key.k0) * (key.k1 | 1);
  x = (x ^ x >> 32) * (key.k0 | 1);
  return static_cast<std::uint32_t>(x >> 32);
}

} // namespace chainring
