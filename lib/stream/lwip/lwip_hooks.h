// SPDX-License-Identifier: BSD-3-Clause
/* The functions that lwIP calls; lwip_below.cc has them. */
#ifndef CHAINRING_STREAM_LWIP_HOOKS_H
#define CHAINRING_STREAM_LWIP_HOOKS_H
#include "lwip/ip_addr.h"
#ifdef __cplusplus
extern "C" {
#endif
/* The first sequence number of a connection (RFC 6528). */
u32_t stream_hook_first_sequence(const ip_addr_t* own, u16_t own_port, const ip_addr_t* peer,
                                 u16_t peer_port);
/* How many packets that arrived before their turn a connection may keep. */
u16_t stream_hook_out_of_order_max(void);
#ifdef __cplusplus
}
#endif
#endif
