// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

#include <cstddef>
#include <cstdint>

namespace chainring {

/// The CRC-32C (Castagnoli, RFC 3720 appendix B.4) of `n` bytes, continued from `crc`, which is 0
/// at the start. So crc32c(crc32c(0, a), b) equals crc32c(0, ab). Thread-safe.
[[nodiscard]] std::uint32_t crc32c(std::uint32_t crc, const void* data, std::size_t n) noexcept;

} // namespace chainring
