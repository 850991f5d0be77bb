// SPDX-License-Identifier: BSD-3-Clause
/// Hook points, seeded bugs and fixed seeds, for tests.
///
/// They exist only in a build that was configured with -Dtests=true, which the generated header
/// chainring_build.h records as CHAINRING_TEST_HOOKS. In every other build a hook point is an empty
/// function, a seeded bug is the constant false, a fixed seed is 0, and all compile to nothing.
///
/// Ordering labels:
///   [hook-set]  A hook, a seeded bug or a fixed seed is set while no other thread runs; starting
///     the threads orders the store, which itself orders nothing.
///   [hook-read]  One of them is read; the read orders nothing, for the same reason.
#pragma once
#include "compiler.h"

#include "chainring_build.h"

#include <cstdint>
#if CHAINRING_TEST_HOOKS
#include <atomic>
#endif

namespace chainring {

#if CHAINRING_TEST_HOOKS

/// A test's hook, which every named hook point calls on the thread that reached it.
using hook_function = void (*)(const char* name, void* context) noexcept;

namespace detail {
extern std::atomic<bool> hooks_on;
extern std::atomic<const char*> active_bug;
extern std::atomic<std::uint64_t> fixed_seed;
void run_hook(const char* name) noexcept;
bool is_active_bug(const char* name) noexcept;
} // namespace detail

/// A named point between two steps of a protocol, where a test may switch threads, fail or crash.
/// It costs one predicted branch while no test has set a hook.
inline void hook_point(const char* name) noexcept {
  if (detail::hooks_on.load(std::memory_order_relaxed)) [[unlikely]] // [hook-read]
    detail::run_hook(name);
}

/// True while the test has switched on the deliberate defect of this name. The crash tests list the
/// names.
[[nodiscard]] inline bool seeded_bug(const char* name) noexcept {
  return detail::active_bug.load(std::memory_order_relaxed) != nullptr && // [hook-read]
         detail::is_active_bug(name);
}

/// The seed that random_seed() returns, or 0 where it asks the kernel.
[[nodiscard]] inline std::uint64_t fixed_seed() noexcept {
  return detail::fixed_seed.load(std::memory_order_relaxed); // [hook-read]
}

/// Sets the hook of this process, or clears it with nullptr. Call while no other thread runs.
void set_hook(hook_function function, void* context) noexcept;

/// Switches on one seeded bug, or none with nullptr. Call while no other thread runs.
void set_seeded_bug(const char* name) noexcept;

/// Makes the hashes of this process repeat, or not with 0. Call while no other thread runs.
void set_fixed_seed(std::uint64_t seed) noexcept;

#else

constexpr void hook_point(const char*) noexcept {}
[[nodiscard]] constexpr bool seeded_bug(const char*) noexcept {
  return false;
}
[[nodiscard]] constexpr std::uint64_t fixed_seed() noexcept {
  return 0;
}

#endif

} // namespace chainring
