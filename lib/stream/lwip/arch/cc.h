// SPDX-License-Identifier: BSD-3-Clause
/* What lwIP asks of the compiler and the platform. */
#ifndef CHAINRING_STREAM_LWIP_CC_H
#define CHAINRING_STREAM_LWIP_CC_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* What the functions of lwIP print for themselves has no reader here. */
#define LWIP_PLATFORM_DIAG(x)                                                                      \
  do {                                                                                             \
  } while (0)
#define LWIP_PLATFORM_ASSERT(x) stream_hook_assert(x, __FILE__, __LINE__)
#ifdef NDEBUG
#define LWIP_NOASSERT
#endif

#ifdef __cplusplus
extern "C" {
#endif
void stream_hook_assert(const char* what, const char* file, int line);
void* stream_hook_allocate(size_t size);
void* stream_hook_allocate_zeroed(size_t count, size_t size);
void stream_hook_free(void* at);
#ifdef __cplusplus
}
#endif
#endif
