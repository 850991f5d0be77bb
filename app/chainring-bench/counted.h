// SPDX-License-Identifier: BSD-3-Clause
/// The requests to valgrind's callgrind, which do nothing where its header is not installed, and
/// cost nothing where it does not run.
#pragma once

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#define CALLGRIND_DUMP_STATS_AT(name)
#endif
