// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace chainring {

static_assert(std::endian::native == std::endian::little, "media fields are little-endian");

/// The unit of persistence and of false sharing, in bytes.
inline constexpr std::size_t cacheline_size = 64;
/// The smallest multiple of `to` that is not below `n`.
constexpr std::uint64_t align_up(std::uint64_t n, std::uint64_t to) noexcept {
  return (n + to - 1) / to * to;
}

} // namespace chainring
