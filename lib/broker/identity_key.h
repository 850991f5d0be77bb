// SPDX-License-Identifier: BSD-3-Clause
/// The identity of a session or a group as a key of a map in DRAM. Internal to the broker.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "map/map_hash.h"

namespace chainring {

/// An identity as a key: its octets if it is short, else two hashes with different seeds.
struct identity_key {
  std::array<char, 24> octets{};
  std::uint64_t size = 0;
  identity_key() = default;
  identity_key(std::string_view identity, const std::array<std::uint64_t, 2>& seeds) noexcept
      : size(identity.size()) {
    if (identity.size() <= octets.size()) {
      std::memcpy(octets.data(), identity.data(), identity.size());
      return;
    }
    const auto bytes = std::as_bytes(std::span(identity.data(), identity.size()));
    const std::uint64_t hashes[2] = {hash_bytes(bytes, seeds[0]), hash_bytes(bytes, seeds[1])};
    std::memcpy(octets.data(), hashes, sizeof hashes);
  }
  bool operator==(const identity_key&) const = default;
};

} // namespace chainring
