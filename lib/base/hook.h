// SPDX-License-Identifier: BSD-3-Clause
/// Hook points and seeded bugs, for tests.
///
/// They exist only where meson was configured with -Dtests=true, which chainring_build.h beside this
/// file records as CHAINRING_TEST_HOOKS. In every other build a hook point is an empty function, a
/// seeded bug is the constant false, and both compile to nothing.
///
/// Edges: [H1] a hook or bug is set -> [H2] looked at. Both relaxed: they are set while no other
/// thread runs, and starting the threads orders it.
#pragma once
#include "compiler.h"

#include "chainring_build.h"

#if CHAINRING_TEST_HOOKS
#include <atomic>
#endif

namespace chainring {

#if CHAINRING_TEST_HOOKS

/// Called at every named hook point, on the thread that reached it.
using hook_function = void (*)(const char* name, void* context) noexcept;

namespace detail {
extern std::atomic<bool> hooks_on;
extern std::atomic<const char*> active_bug;
void run_hook(const char* name) noexcept;
bool is_active_bug(const char* name) noexcept;
} // namespace detail

/// A named point between two steps of a protocol, where a test may switch threads, fail or crash.
/// One predicted branch when no test has set a hook.
inline void hook_point(const char* name) noexcept {
  if (detail::hooks_on.load(std::memory_order_relaxed)) [[unlikely]] // [H2]
    detail::run_hook(name);
}

/// A deliberate defect, by name, that a test can switch on at run time. Names are listed where the
/// crash tests list them.
[[nodiscard]] inline bool seeded_bug(const char* name) noexcept {
  return detail::active_bug.load(std::memory_order_relaxed) != nullptr && // [H2]
         detail::is_active_bug(name);
}

/// Sets (or with nullptr clears) the process's hook. Call while no other thread runs.
void set_hook(hook_function function, void* context) noexcept;

/// Switches one seeded bug on (nullptr: none). Call while no other thread runs.
void set_seeded_bug(const char* name) noexcept;

#else

constexpr void hook_point(const char*) noexcept {}
[[nodiscard]] constexpr bool seeded_bug(const char*) noexcept {
  return false;
}

#endif

} // namespace chainring
