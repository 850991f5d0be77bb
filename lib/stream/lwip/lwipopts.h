// SPDX-License-Identifier: BSD-3-Clause
/* The settings of lwIP: TCP alone, over packets that lib/net has received, without threads,
   without timers of its own and without its IP (lwip_below.cc has what takes its place). */
#ifndef CHAINRING_STREAM_LWIPOPTS_H
#define CHAINRING_STREAM_LWIPOPTS_H

#define NO_SYS 1
#define SYS_LIGHTWEIGHT_PROT 0
#define LWIP_SOCKET 0
#define LWIP_NETCONN 0
#define LWIP_TIMERS 0 /* tcp_timers.cc calls the timers, for a few connections at a time */

#define LWIP_ARP 0
#define LWIP_ETHERNET 0
#define LWIP_ICMP 0
#define LWIP_RAW 0
#define LWIP_UDP 0
#define LWIP_DNS 0
#define LWIP_IPV4 1
#define LWIP_IPV6 1
#define LWIP_IPV6_SCOPES 0
#define LWIP_ICMP6 0
#define LWIP_IPV6_MLD 0
#define LWIP_IPV6_FRAG 0
#define LWIP_IPV6_REASS 0
#define LWIP_IPV6_AUTOCONFIG 0
#define LWIP_IPV6_SEND_ROUTER_SOLICIT 0
#define LWIP_ND6_TCP_REACHABILITY_HINTS 0
#define LWIP_ND6_QUEUEING 0
#define IP_REASSEMBLY 0
#define IP_FRAG 0
#define LWIP_SINGLE_NETIF 0
#define LWIP_STATS 0

/* Everything that lwIP allocates goes through one allocator, which counts it and has a limit. */
#define MEM_LIBC_MALLOC 1
#define MEMP_MEM_MALLOC 1
#define MEM_ALIGNMENT 8
#define mem_clib_malloc stream_hook_allocate
#define mem_clib_calloc stream_hook_allocate_zeroed
#define mem_clib_free stream_hook_free

#define LWIP_TCP 1
#define TCP_MSS 1460
#define TCP_CALCULATE_EFF_SEND_MSS 1
#define LWIP_WND_SCALE 1
#define TCP_RCV_SCALE 0
#define TCP_WND 65535
#define TCP_SND_BUF 65535
#define TCP_SND_QUEUELEN 256
#define TCP_SNDLOWAT 16384
#define TCP_OVERSIZE TCP_MSS
#define LWIP_DISABLE_TCP_SANITY_CHECKS 1
#define LWIP_TCP_SACK_OUT 1
#define TCP_QUEUE_OOSEQ 1
#define TCP_OOSEQ_PBUFS_LIMIT(pcb) stream_hook_out_of_order_max()
#define PBUF_POOL_FREE_OOSEQ 0
#define TCP_LISTEN_BACKLOG 0 /* tcp_stack.cc limits the half-open connections itself */
#define LWIP_TCP_RTO_TIME 1000 /* RFC 6298, 2.1 */
#define TCP_MSL 30000UL
#define LWIP_TCP_KEEPALIVE 0
#define LWIP_NETIF_TX_SINGLE_PBUF 0 /* lwip_below.cc copies chains, so a segment is as long as it is */
/* tcp_input.cc and lwip_below.cc have the checksums. */
#define CHECKSUM_CHECK_TCP 0
#define CHECKSUM_GEN_TCP 0
#define LWIP_SUPPORT_CUSTOM_PBUF 1
#define PBUF_POOL_SIZE 0 /* received packets stay in their mbufs */
#define LWIP_HOOK_FILENAME "lwip_hooks.h"
#define LWIP_HOOK_TCP_ISN stream_hook_first_sequence

#endif
