/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes at the ends of connections, private to conn/: whose client a process is, and whose server's end. Answers two
 * questions: which connection on the wire is a backend's own, whichever of the two is seen first; and whether the process
 * at a server's end is itself a client, as a connection pooler is.
 */
#ifndef DBFENCE_CONN_PEERS_H
#define DBFENCE_CONN_PEERS_H

#include <stdbool.h>
#include <stdint.h>

struct conn_wire;
struct peers;

struct peer {
	struct peer *next;
	uint64_t start; /* ns since boot */
	uint32_t pid;
	unsigned clients;	 /* sessions whose client it is */
	struct conn_wire *wires; /* borrowed: connections whose server's end it is, linked by ->next_here */
};

/* NULL when memory is out. */
struct peers *peers_new(void);
void peers_free(struct peers *p);

struct peer *peers_find(const struct peers *p, uint32_t pid, uint64_t start);
/* NULL when memory is out. */
struct peer *peers_add_client(struct peers *p, uint32_t pid, uint64_t start);
void peers_drop_client(struct peers *p, struct peer *peer); /* NULL is fine */
struct peer *peers_add_wire(struct peers *p, uint32_t pid, uint64_t start, struct conn_wire *wire);
void peers_drop_wire(struct peers *p, struct peer *peer, struct conn_wire *wire);

#endif
