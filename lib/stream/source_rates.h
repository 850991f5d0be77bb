// SPDX-License-Identifier: BSD-3-Clause
/// How many connections each host may begin in a second.
#pragma once
#include <cstdint>
#include <vector>

#include "../base/keyed_hash.h"
#include "../net/address.h"

namespace chainring::stream {

/// A bucket of tokens for each host that has connected lately: a connection takes one, and `rate`
/// of them come back in a second, up to `rate`. A host of IPv6 is its prefix of 64 bits.
///
/// The table has a fixed size, in sets of four buckets. A new host in a full set takes the place of
/// the one with the most tokens, which loses the least: a bucket that is full again remembers
/// nothing. forgotten() counts the buckets that were not. Which hosts share a set is secret.
///
/// Thread-safety: one thread calls it. Nothing is allocated after the constructor. Complexity:
/// O(1).
class source_rates {
 public:
  /// A `rate` of 0 is no limit. `key` is the secret.
  source_rates(std::uint32_t rate, std::uint64_t tsc_hz, const hash_key& key,
               std::uint32_t hosts = 16384);

  /// True when the host has a token.
  [[nodiscard]] bool allows(const net::ip_address& host, std::uint64_t now_tsc) noexcept;
  /// Takes a token. Returns false when the host has none.
  [[nodiscard]] bool take(const net::ip_address& host, std::uint64_t now_tsc) noexcept;

  [[nodiscard]] std::uint64_t forgotten() const noexcept { return forgotten_; }
  [[nodiscard]] std::size_t memory() const noexcept { return buckets_.capacity() * sizeof(bucket); }

 private:
  static constexpr std::size_t ways = 4;
  struct bucket {
    std::uint64_t host = 0;
    std::uint64_t filled_tsc = 0;
    double tokens = 0;
    bool used = false;
  };
  void fill(bucket& b, std::uint64_t now_tsc) const noexcept;
  [[nodiscard]] std::size_t set_of(std::uint64_t host) const noexcept;

  double rate_;
  double per_tsc_;
  hash_key key_;
  std::vector<bucket> buckets_;
  std::uint64_t forgotten_ = 0;
};

} // namespace chainring::stream
