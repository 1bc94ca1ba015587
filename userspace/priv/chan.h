/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded messages between the keeper and its children, over SOCK_SEQPACKET pairs: a type, a payload, at most one
 * descriptor. The other side is not trusted: what is cut, too long or carries too much is -EPROTO, and
 * what stands in no table is refused and counted.
 *
 * Knows nothing of what messages mean.
 */
#ifndef DBFENCE_PRIV_CHAN_H
#define DBFENCE_PRIV_CHAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/limits.h"

/* The longest payload: one packed record and what stands around it. */
#define CHAN_MAX_PAYLOAD (LIMIT_RECORD_BYTES + 4096)

struct chan_msg {
	uint32_t type;
	uint32_t len;
	const void *payload; /* borrowed: by the buffer given to chan_recv(), until it is used again */
	int fd;		     /* -1, or a received descriptor, which is the caller's to close */
};

/*
 * A connected pair, close-on-exec, each end able to send CHAN_MAX_PAYLOAD at once. 0 or a negative errno. Without root
 * and with a small net.core.wmem_max the longest messages may be refused by chan_send() with -EMSGSIZE.
 */
int chan_pair(int fds[2], struct err *err);

/*
 * Send one message whole; @fd_to_pass is -1 or a descriptor that the other side receives a duplicate of. 0, -EMSGSIZE
 * (longer than CHAN_MAX_PAYLOAD), -EPIPE (the other side is gone), or another negative errno. chan_send waits
 * for room, chan_try_send answers -EAGAIN instead.
 */
int chan_send(int fd, uint32_t type, const void *payload, size_t len, int fd_to_pass);
int chan_try_send(int fd, uint32_t type, const void *payload, size_t len, int fd_to_pass);

/*
 * Receive one message into @buf of @cap bytes. 0 with *msg filled; -EPIPE when the other side is gone; -EPROTO for a
 * message that is longer than @cap or CHAN_MAX_PAYLOAD, cut, malformed, or with more than one descriptor (it is
 * consumed and its descriptors are closed); or another negative errno. chan_try_recv answers -EAGAIN instead of waiting.
 */
int chan_recv(int fd, void *buf, size_t cap, struct chan_msg *msg);
int chan_try_recv(int fd, void *buf, size_t cap, struct chan_msg *msg);

/* @msg's payload and, when the rule takes one, its descriptor, which then is the handler's. 0 or a negative errno. */
typedef int (*chan_handler_fn)(void *ctx, const struct chan_msg *msg);

struct chan_rule {
	uint32_t type;
	uint32_t min_len, max_len; /* of the payload, inclusive */
	bool takes_fd;		   /* a descriptor must come with it; without it none may */
	chan_handler_fn handler;
};

/* What one end accepts. The counters are the table's only state. */
struct chan_table {
	const struct chan_rule *rules; /* borrowed: by the caller, constant */
	size_t rule_cnt;
	void *ctx; /* passed to the handlers */
	uint64_t handled;
	uint64_t refused_type, refused_length, refused_fd;
};

/*
 * Hand @msg to the handler that the table names for it. Its answer; -EPERM for a type that is not in the table, -EPROTO
 * for a length or descriptor that the rule does not allow: counted, and the descriptor closed. @msg->fd is -1
 * afterwards in every case.
 */
int chan_dispatch(struct chan_table *table, struct chan_msg *msg);

/* All refusals of the table together. */
uint64_t chan_refused(const struct chan_table *table);

#endif
