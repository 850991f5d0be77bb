// SPDX-License-Identifier: BSD-3-Clause
/// Force-included before everything else (-include) in a build variant. rte_pause(), which DPDK's
/// inline functions call while they spin, becomes the hook point "rte_pause", so that a thread that
/// waits inside rte_ring gives way to another thread of the schedule. meson: `cpp_args:
/// rte_pause_hook_args`.
#pragma once
#include "base/hook.h"

#if defined(__x86_64__) || defined(__i386__)
#define _RTE_PAUSE_X86_H_ // so that <rte_pause.h> defines nothing more
#include <emmintrin.h>
#include <generic/rte_pause.h>
static inline void rte_pause(void) {
  ::chainring::hook_point("rte_pause");
}
#else
#error "rte_pause_hook.h: add this processor's include guard of <rte_pause.h>"
#endif
