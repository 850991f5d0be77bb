// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

#include <bit>
#include <cstddef>
#include <cstdint>

namespace chainring {

static_assert(std::endian::native == std::endian::little, "media fields are little-endian");

/// Unit of persistence and of false sharing, bytes.
inline constexpr std::size_t cacheline_size = 64;

constexpr std::uint64_t align_up(std::uint64_t n, std::uint64_t to) noexcept {
  return (n + to - 1) / to * to;
}

} // namespace chainring
