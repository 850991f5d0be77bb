// SPDX-License-Identifier: BSD-3-Clause
/// The CRC-32C (Castagnoli, RFC 3720 appendix B.4), inline where the target has an instruction for
/// it. Most inputs of this tree are a few words long, so a call would cost more than the sum.
#pragma once
#include "compiler.h"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace chainring {

namespace detail {

/// The sum in its inner form, the complement of what crc32c() returns. crc32c_begin() and
/// crc32c_end() convert, and crc32c_word() adds eight bytes, the lowest first. A caller that has
/// whole words in registers adds them this way.
[[nodiscard]] constexpr std::uint64_t crc32c_begin(std::uint32_t crc) noexcept {
  return ~crc;
}
[[nodiscard]] constexpr std::uint32_t crc32c_end(std::uint64_t state) noexcept {
  return ~static_cast<std::uint32_t>(state);
}

/// As crc32c(), for a target without the instruction.
[[nodiscard]] std::uint32_t crc32c_any(std::uint32_t crc, const void* data, std::size_t n) noexcept;

[[nodiscard]] inline std::uint64_t crc32c_word(std::uint64_t state, std::uint64_t word) noexcept {
#if defined(__SSE4_2__) && defined(__x86_64__)
  return __builtin_ia32_crc32di(state, word);
#else
  return crc32c_begin(crc32c_any(crc32c_end(state), &word, sizeof word));
#endif
}

} // namespace detail

namespace detail {

/// Adds the `n` bytes at `from`. With `copied` it also stores them at `to`. The memory may lie at
/// any address, so each piece is copied out of it.
template <bool copied>
[[nodiscard]] inline std::uint32_t crc32c_over(std::uint32_t crc, void* to, const void* from,
                                               std::size_t n) noexcept {
#if defined(__SSE4_2__) && defined(__x86_64__)
  const auto* in = static_cast<const unsigned char*>(from);
  auto* out = static_cast<unsigned char*>(to);
  const auto take = [&]<class Word>(Word word) {
    std::memcpy(&word, in, sizeof word);
    in += sizeof word;
    if constexpr (copied) {
      std::memcpy(out, &word, sizeof word);
      out += sizeof word;
    }
    return word;
  };
  std::uint64_t state = crc32c_begin(crc);
  constexpr std::size_t step = sizeof(std::uint64_t);
  for (; n >= 4 * step; n -= 4 * step)
    for (int i = 0; i < 4; ++i)
      state = __builtin_ia32_crc32di(state, take(std::uint64_t{}));
  for (; n >= step; n -= step)
    state = __builtin_ia32_crc32di(state, take(std::uint64_t{}));
  auto rest = static_cast<std::uint32_t>(state);
  if ((n & 4) != 0) rest = __builtin_ia32_crc32si(rest, take(std::uint32_t{}));
  if ((n & 2) != 0) rest = __builtin_ia32_crc32hi(rest, take(std::uint16_t{}));
  if ((n & 1) != 0) rest = __builtin_ia32_crc32qi(rest, take(std::uint8_t{}));
  return crc32c_end(rest);
#else
  if constexpr (copied) std::memcpy(to, from, n);
  return crc32c_any(crc, from, n);
#endif
}

} // namespace detail

/// The CRC-32C of `n` bytes, continued from `crc`, which is 0 at the start. So
/// crc32c(crc32c(0, a), b) equals crc32c(0, ab). Thread-safe.
[[nodiscard]] inline std::uint32_t crc32c(std::uint32_t crc, const void* data,
                                          std::size_t n) noexcept {
  return detail::crc32c_over<false>(crc, nullptr, data, n);
}

/// As crc32c(), and copies the bytes to `to` in the same pass. The two ranges do not overlap.
[[nodiscard]] inline std::uint32_t copy_crc32c(std::uint32_t crc, void* to, const void* from,
                                               std::size_t n) noexcept {
  return detail::crc32c_over<true>(crc, to, from, n);
}

} // namespace chainring
