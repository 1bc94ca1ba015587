/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of the TCP connections that are there at a start are worth remembering, and in which order.
 * Pure: reads the kernel's list from a descriptor, knows neither maps nor libbpf.
 */
#ifndef DBFENCE_LOADER_TCP_SEED_H
#define DBFENCE_LOADER_TCP_SEED_H

#include <stddef.h>
#include <stdint.h>

#include "dbfence/abi/shared.h"

typedef void (*tcp_seed_fn)(void *ctx, const struct dbf_tcp_owner *owner);

/* The servers' ports, as far as they are known. */
struct tcp_seed_ports {
	const uint16_t *ports; /* borrowed */
	unsigned cnt;
};

/*
 * Read struct dbf_tcp_owner from @fd to its end and hand at most @room of them to @fn: first those
 * that go to other ports, then those that go to @ports, because an LRU map keeps what came last.
 * The server's end of a connection is left out. Of several processes that share a connection the
 * one that @fd names first comes first. *left_out counts those to @ports that did not fit. 0 or a
 * negative errno, with nothing handed out.
 */
int tcp_seed(int fd, const struct tcp_seed_ports *ports, size_t room, tcp_seed_fn fn, void *ctx,
	     size_t *left_out);

#endif
