// SPDX-License-Identifier: BSD-3-Clause
// The hooks that tests set. Compiled with -Dtests=true only. Its ordering labels are in hook.h.
#include "base/hook.h"

#include <cstring>

#if !CHAINRING_TEST_HOOKS
#error "hook.cc is no part of a build without test hooks"
#endif

namespace chainring {

namespace detail {

std::atomic<bool> hooks_on{false};
std::atomic<const char*> active_bug{nullptr};
std::atomic<std::uint64_t> fixed_seed{0};

namespace {
hook_function hook = nullptr;
void* hook_context = nullptr;
} // namespace

void run_hook(const char* name) noexcept {
  if (hook != nullptr) hook(name, hook_context);
}

bool is_active_bug(const char* name) noexcept {
  const char* active = active_bug.load(std::memory_order_relaxed); // [hook-read]
  return active != nullptr && std::strcmp(active, name) == 0;
}

} // namespace detail

void set_hook(hook_function function, void* context) noexcept {
  detail::hook = function;
  detail::hook_context = context;
  detail::hooks_on.store(function != nullptr, std::memory_order_relaxed); // [hook-set]
}

void set_seeded_bug(const char* name) noexcept {
  detail::active_bug.store(name, std::memory_order_relaxed); // [hook-set]
}

void set_fixed_seed(std::uint64_t seed) noexcept {
  detail::fixed_seed.store(seed, std::memory_order_relaxed); // [hook-set]
}

} // namespace chainring
