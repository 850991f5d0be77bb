// SPDX-License-Identifier: BSD-3-Clause
/// Hook points and seeded bugs, for tests.
///
/// Edges: [H1] a hook or bug is set -> [H2] looked at. Both relaxed: they are set while no other
/// thread runs, and starting the threads orders it.
#pragma once
#include <atomic>

namespace chainring {

/// Called at every named hook point, on the thread that reached it.
using hook_function = void (*)(const char* name, void* context) noexcept;

namespace detail {
extern std::atomic<bool> hooks_on;
void run_hook(const char* name) noexcept;
} // namespace detail

/// A named point between two steps of a protocol, where a test may switch threads, fail or crash.
/// One predicted branch when no test has set a hook.
inline void hook_point(const char* name) noexcept {
  if (detail::hooks_on.load(std::memory_order_relaxed)) [[unlikely]] // [H2]
    detail::run_hook(name);
}

/// Sets (or with nullptr clears) the process's hook. Call while no other thread runs.
void set_hook(hook_function function, void* context) noexcept;

/// A deliberate defect, by name, that the test build can switch on at run time; always false in
/// production. Names are listed where the crash tests list them.
[[nodiscard]] inline bool seeded_bug(const char* name) noexcept;

namespace detail {
extern std::atomic<const char*> active_bug;
bool is_active_bug(const char* name) noexcept;
} // namespace detail

inline bool seeded_bug(const char* name) noexcept {
  return detail::active_bug.load(std::memory_order_relaxed) != nullptr && // [H2]
         detail::is_active_bug(name);
}

/// Switches one seeded bug on (nullptr: none). Call while no other thread runs.
void set_seeded_bug(const char* name) noexcept;

} // namespace chainring
