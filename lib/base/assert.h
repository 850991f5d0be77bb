// SPDX-License-Identifier: BSD-3-Clause
#pragma once

namespace chainring::detail {
[[noreturn]] void assert_failed(const char* expression, const char* file, int line) noexcept;
}

/// Checks a caller's contract on the data path. Always on: the branch is well predicted, and going
/// on with a broken invariant could acknowledge what is not durable. Never used for media or
/// packets, which are untrusted input and are validated instead.
#define CHAINRING_ASSERT(expression)                                                               \
  (__builtin_expect(!(expression), 0)                                                              \
       ? ::chainring::detail::assert_failed(#expression, __FILE__, __LINE__)                       \
       : static_cast<void>(0))
