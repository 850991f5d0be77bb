// SPDX-License-Identifier: BSD-3-Clause
#pragma once

namespace chainring {

/// Most threads that may use durable structures at one time.
inline constexpr unsigned max_thread_slots = 256;

/// A small number that is this thread's while it lives, for per-thread tables. Given back at thread
/// exit and reused. Asserts when more than max_thread_slots threads ask.
[[nodiscard]] unsigned thread_slot() noexcept;

} // namespace chainring
