// SPDX-License-Identifier: BSD-3-Clause
/// Refuses a compiler that is too old for these headers, with a sentence that names what is needed.
/// Every header of lib/base includes this one first.
#pragma once

#if defined(__clang_major__) && __clang_major__ < 16
#error                                                                                             \
    "chainring needs clang 16 or newer (Debian 12: clang-16 or clang-19), or g++ 12: this clang is too old, it lacks std::source_location"
#elif defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 12
#error "chainring needs g++ 12 or newer, or clang 16: this g++ is too old"
#elif __cplusplus < 202002L
#error "chainring needs C++20: compile with -std=c++20"
#endif

/// Stands in front of the definition of a function whose cost tests/instructions counts as a stage
/// of the worker's loop. The function is never inlined, so its calls can be seen in a profile.
#define CHAINRING_STAGE [[gnu::noinline]]
