// SPDX-License-Identifier: BSD-3-Clause
#pragma once
#include "compiler.h"

namespace chainring::detail {
[[noreturn]] void assert_failed(const char* expression, const char* file, int line) noexcept;
/// The same for a call that a program may not make; the sentence says what it has to do instead.
[[noreturn]] void misused(const char* sentence, const char* expression, const char* file,
                          int line) noexcept;

/// Announces that memory was lost (see media/memory_fault.h), so that an assertion may fail
/// although the program is right. From then on a thread whose assertion fails stops for good and
/// the process goes on, so that operators can still ask it what happened. Safe in a signal handler.
void expect_broken_invariants() noexcept;
} // namespace chainring::detail

/// Checks on the data path that a caller kept its contract. The check is always on: its branch is
/// well predicted, and a program that went on with a broken invariant could acknowledge a message
/// that is not durable. Media and packets are untrusted input; they are validated and never
/// asserted.
#define CHAINRING_ASSERT(expression)                                                               \
  (__builtin_expect(!(expression), 0)                                                              \
       ? ::chainring::detail::assert_failed(#expression, __FILE__, __LINE__)                       \
       : static_cast<void>(0))

/// As CHAINRING_ASSERT, for what the caller of a public call owes: its text is a sentence that says
/// which call is missing or one too many, and is printed before the process ends.
#define CHAINRING_EXPECTS(expression, sentence)                                                    \
  (__builtin_expect(!(expression), 0)                                                              \
       ? ::chainring::detail::misused(sentence, #expression, __FILE__, __LINE__)                   \
       : static_cast<void>(0))
