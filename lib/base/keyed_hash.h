// SPDX-License-Identifier: BSD-3-Clause
/// Hashes for tables whose keys a stranger chooses.
///
/// A client that could compute the hash of a table could send names that all fall into one bucket,
/// and each look-up would then walk through all of them. A checksum does not prevent this, whatever
/// its start value is: two strings of one length that collide under a CRC collide under every start
/// value. The hashes here add secret numbers to words of the key, multiply them, and fold both
/// halves of each product together, as wyhash (Wang Yi) does with public numbers. An attacker does
/// not know the factors, so it cannot choose a word that makes one of them zero, and it never sees
/// a hash.
///
/// Do not use them as signatures: an attacker that sees hashes may work out the secret.
/// Thread-safe; no call allocates. Cost: about 2 ns for up to 16 octets, and 1 ns for each further
/// 16.
#pragma once
#include "compiler.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace chainring {

struct hash_key {
  std::uint64_t k0, k1;
};

/// Returns the key that a seed stands for. Seed 0 stands for the secret of this process, which the
/// operating system's random source gives once. Any other seed always gives the same key, for
/// tests.
[[nodiscard]] hash_key make_hash_key(std::uint64_t seed) noexcept;

namespace detail {
inline std::uint64_t load_word(const unsigned char* at) noexcept {
  std::uint64_t w;
  std::memcpy(&w, at, 8);
  return w;
}
inline std::uint64_t load_half(const unsigned char* at) noexcept {
  std::uint32_t w;
  std::memcpy(&w, at, 4);
  return w;
}
inline std::uint64_t folded_product(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using wide = unsigned __int128;
  const wide product = static_cast<wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}
} // namespace detail

/// Returns a hash of `size` octets; all 64 bits are well mixed.
[[nodiscard]] inline std::uint64_t keyed_hash(const hash_key& key, const void* data,
                                              std::size_t size) noexcept {
  const auto* at = static_cast<const unsigned char*>(data);
  std::uint64_t h = key.k0;
  std::uint64_t a = 0, b = 0;
  if (size >= 8) {
    std::size_t left = size;
    for (; left > 16; left -= 16, at += 16)
      h = detail::folded_product(detail::load_word(at) ^ h, detail::load_word(at + 8) ^ key.k1);
    if (left >= 8) {
      a = detail::load_word(at);
      b = detail::load_word(at + left - 8);
    } else { // some of these octets were hashed already; hashing them again does no harm
      a = detail::load_word(at + left - 16);
      b = detail::load_word(at + left - 8);
    }
  } else if (size >= 4) {
    a = detail::load_half(at);
    b = detail::load_half(at + size - 4);
  } else if (size > 0) {
    a = std::uint64_t{at[0]} << 16 | std::uint64_t{at[size >> 1]} << 8 | at[size - 1];
  }
  h = detail::folded_product(a ^ h, b ^ key.k1);
  // The length distinguishes texts that differ only in zeros at their end.
  return detail::folded_product(h ^ key.k1, (key.k0 | 1) + 2 * size);
}
[[nodiscard]] inline std::uint64_t keyed_hash(const hash_key& key, std::string_view text) noexcept {
  return keyed_hash(key, text.data(), text.size());
}

/// Returns a hash of a pair of numbers that strangers influence but cannot choose freely. It
/// multiplies by secret odd numbers and keeps the high half (Dietzfelbinger et al., 1997).
[[nodiscard]] inline std::uint32_t keyed_mix(const hash_key& key, std::uint32_t a,
                                             std::uint32_t b) noexcept {
  std::uint64_t x = ((static_cast<std::uint64_t>(a) << 32 | b) ^ key.k0) * (key.k1 | 1);
  x = (x ^ x >> 32) * (key.k0 | 1);
  return static_cast<std::uint32_t>(x >> 32);
}

} // namespace chainring
