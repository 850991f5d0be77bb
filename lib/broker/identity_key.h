// SPDX-License-Identifier: BSD-3-Clause
/// The identity of a session or a group as a key of a map in DRAM. Internal to the broker.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "map/map_hash.h"

namespace chainring {

/// An identity as a key: two hashes with different secret seeds, so that an entry of the map takes
/// half a line, whatever the length of the identity. Two identities with the same hashes are not
/// expected in the life of a broker; whoever opens a session compares the identity itself.
struct identity_key {
  std::array<std::uint64_t, 2> hashes{};
  identity_key() = default;
  identity_key(std::string_view identity, const std::array<std::uint64_t, 2>& seeds) noexcept {
    const auto bytes = std::as_bytes(std::span(identity.data(), identity.size()));
    hashes = {hash_bytes(bytes, seeds[0]), hash_bytes(bytes, seeds[1])};
  }
  bool operator==(const identity_key&) const = default;
};

} // namespace chainring
