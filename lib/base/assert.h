// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

namespace chainring::detail {
[[noreturn]] void assert_failed(const char* expression, const char* file, int line) noexcept;

/// From here on a broken invariant may be the consequence of memory that the machine took away (see
/// media/memory_fault.h): the thread that meets one stops for good and the process goes on, for
/// those who ask what happened. Safe in a signal handler.
void expect_broken_invariants() noexcept;
} // namespace chainring::detail

/// Checks a caller's contract on the data path. Always on: the branch is well predicted, and going
/// on with a broken invariant could acknowledge what is not durable. Never used for media or
/// packets, which are untrusted input and are validated instead.
#define CHAINRING_ASSERT(expression)                                                               \
  (__builtin_expect(!(expression), 0)                                                              \
       ? ::chainring::detail::assert_failed(#expression, __FILE__, __LINE__)                       \
       : static_cast<void>(0))
