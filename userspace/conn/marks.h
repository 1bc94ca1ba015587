/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the wire adds to a statement of the server vantage: the bytes of its request, and when request and response were on
 * the wire. Private to conn/. Where the connection had been read when the server was ready, and where it is now, are the
 * ends of a span; the span is a request when the kernel side marked exactly that (abi/wire.h). Anything else, as a client
 * that does not wait for answers makes it, stays unknown.
 */
#ifndef DBFENCE_CONN_MARKS_H
#define DBFENCE_CONN_MARKS_H

#include <stdint.h>

struct conn_session;
struct conn_table;
struct dbf_tcp_at;

/* Of the cycle that ends next; 0 where it is not known. */
struct marks_turn {
	uint64_t bytes_in;
	uint64_t request_ns;
	uint64_t response_ns;
};

/* @s, of the server vantage, is about to be ready, at @ts. @at is all 0 when that is not known. */
void marks_take(struct conn_table *t, struct conn_session *s, const struct dbf_tcp_at *at, uint64_t ts);

#endif
