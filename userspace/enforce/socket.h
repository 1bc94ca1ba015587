/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets of other processes: a duplicate of one, to make it send or to close it, and its end by the kernel's socket
 * diagnosis. Needs root; reads nothing from any socket. A duplicate keeps the connection open when its owner dies, and
 * the owner's end is not seen in its packets then: whoever keeps one watches the process, and gives it up soon.
 */
#ifndef DBFENCE_ENFORCE_SOCKET_H
#define DBFENCE_ENFORCE_SOCKET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"
#include "dbfence/abi/wire_hold.h"

/*
 * Where sockets were found before, or looked for in vain: a process may have thousands of descriptors. Only a hint: what
 * stands there is looked at again. Zeroed is empty.
 */
#define SOCKET_PLACES 8192
struct socket_places {
	struct socket_place {
		uint64_t cookie; /* 0: free */
		uint64_t since_ns;
		pid_t pid;
		int number; /* -1: it was not there */
	} places[SOCKET_PLACES];
};

/*
 * The socket with @cookie that process @pid has open: *fd becomes a duplicate of it, *pidfd the process. -ESRCH when
 * there is no such process, -ENOENT when it has no such socket (among the first LIMIT_SOCKET_SCAN that were looked at).
 * @places may be NULL; with it, what was not found is not looked for again for a second.
 */
int socket_take(struct socket_places *places, pid_t pid, uint64_t cookie, int *fd, int *pidfd, struct err *err);

/* The process has not ended. */
int socket_owner_lives(int pidfd);

/* Make TCP try at once what it has to send. TCP_NODELAY is as before afterwards. */
int socket_poke(int fd);

/* The same for the socket of @slot, by its owner. False when that was not found. */
bool socket_poke_held(struct socket_places *places, const struct dbf_wire_hold *slot);

/* Close the duplicate; if it was the last descriptor of the socket, what is queued is thrown away and the peer told. */
void socket_abort(int fd);

/*
 * A diagnosis socket in the network namespace that @netns is open on (of the caller, when negative). It keeps the
 * namespace alive, so close it when the namespace has no process any more.
 */
int socket_diag_open(int netns, int *fd, struct err *err);

/* End the socket of a slot: its queue is thrown away, the peer gets a RST. 0, -ENOENT when there is none, other errors. */
int socket_destroy(int diag, const struct dbf_wire_hold *slot, struct err *err);

/* The same, in the network namespace that @netns is open on, with a diagnosis socket of its own. False if not ended. */
bool socket_destroy_held(int netns, const struct dbf_wire_hold *slot);

/* The list of sockets has the slot's: 1, 0, or a negative errno. */
int socket_is_listed(int diag, const struct dbf_wire_hold *slot, struct err *err);

#endif
