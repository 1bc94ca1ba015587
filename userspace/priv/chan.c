// SPDX-License-Identifier: Apache-2.0
#include "priv/chan.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* On the wire between two processes of one program: host byte order. */
struct chan_head {
	uint32_t type;
	uint32_t len; /* of the payload; must agree with what was received */
};

/* More than one descriptor is a fault; room for a few, so that they are received and can be closed. */
#define CHAN_FDS_SEEN 8
/* The kernel accounts a message's bookkeeping to the buffer too. */
#define CHAN_BUFFER_BYTES (CHAN_MAX_PAYLOAD * 2)

union fd_control {
	struct cmsghdr align;
	char space[CMSG_SPACE(CHAN_FDS_SEEN * sizeof(int))];
};

int chan_pair(int fds[2], struct err *err)
{
	int pair[2], size = CHAN_BUFFER_BYTES;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		int code = -errno;

		return err_set(err, code, "a socket pair cannot be made: %s", strerror(-code));
	}
	for (int i = 0; i < 2; i++) {
		/* Without the privilege to exceed the system's limit, take what it gives. */
		if (setsockopt(pair[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) &&
		    setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size))) {
			int code = -errno;

			close(pair[0]);
			close(pair[1]);
			return err_set(err, code, "a socket buffer cannot be sized: %s", strerror(-code));
		}
	}
	fds[0] = pair[0];
	fds[1] = pair[1];
	return 0;
}

static int send_message(int fd, uint32_t type, const void *payload, size_t len, int fd_to_pass, int flags)
{
	struct chan_head head = { .type = type, .len = (uint32_t)len };
	struct iovec parts[2] = { { &head, sizeof(head) }, { (void *)payload, len } };
	union fd_control control;
	struct msghdr msg = { .msg_iov = parts, .msg_iovlen = len ? 2 : 1 };
	ssize_t sent;

	if (len > CHAN_MAX_PAYLOAD)
		return -EMSGSIZE;
	if (fd_to_pass >= 0) {
		struct cmsghdr *cmsg;

		memset(&control, 0, sizeof(control));
		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &fd_to_pass, sizeof(int));
	}
	do {
		sent = sendmsg(fd, &msg, flags | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return 0;
	return errno == ECONNRESET ? -EPIPE : -errno;
}

int chan_send(int fd, uint32_t type, const void *payload, size_t len, int fd_to_pass)
{
	return send_message(fd, type, payload, len, fd_to_pass, 0);
}

int chan_try_send(int fd, uint32_t type, const void *payload, size_t len, int fd_to_pass)
{
	return send_message(fd, type, payload, len, fd_to_pass, MSG_DONTWAIT);
}

/* Take the received descriptors out of @msg: the only one in *fd, or none and false when there were more. */
static bool take_fd(struct msghdr *msg, int *fd)
{
	int first = -1;
	size_t seen = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
			continue;
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			int got;

			memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (seen++)
				close(got);
			else
				first = got;
		}
	}
	if (seen > 1) {
		close(first);
		first = -1;
	}
	*fd = first;
	return seen <= 1;
}

static int receive_message(int fd, void *buf, size_t cap, struct chan_msg *out, int flags)
{
	struct chan_head head;
	struct iovec parts[2] = { { &head, sizeof(head) }, { buf, cap } };
	union fd_control control;
	struct msghdr msg = {
		.msg_iov = parts,
		.msg_iovlen = 2,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	ssize_t got;
	int passed;
	bool sound;

	do {
		got = recvmsg(fd, &msg, flags | MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	sound = take_fd(&msg, &passed);
	/* An empty message is what the end of the connection looks like; no message of ours is empty. */
	if (got == 0 && sound && passed < 0)
		return -EPIPE;
	if (!sound || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || (size_t)got < sizeof(head) ||
	    head.len > CHAN_MAX_PAYLOAD || head.len != (size_t)got - sizeof(head)) {
		if (passed >= 0)
			close(passed);
		return -EPROTO;
	}
	*out = (struct chan_msg){ .type = head.type, .len = head.len, .payload = buf, .fd = passed };
	return 0;
}

int chan_recv(int fd, void *buf, size_t cap, struct chan_msg *msg)
{
	return receive_message(fd, buf, cap, msg, 0);
}

int chan_try_recv(int fd, void *buf, size_t cap, struct chan_msg *msg)
{
	return receive_message(fd, buf, cap, msg, MSG_DONTWAIT);
}

static const struct chan_rule *rule_lookup(const struct chan_table *table, uint32_t type)
{
	for (size_t i = 0; i < table->rule_cnt; i++)
		if (table->rules[i].type == type)
			return &table->rules[i];
	return NULL;
}

static int refuse(struct chan_msg *msg, uint64_t *counter, int code)
{
	if (msg->fd >= 0)
		close(msg->fd);
	msg->fd = -1;
	++*counter;
	return code;
}

int chan_dispatch(struct chan_table *table, struct chan_msg *msg)
{
	const struct chan_rule *rule = rule_lookup(table, msg->type);
	struct chan_msg given = *msg;

	if (!rule)
		return refuse(msg, &table->refused_type, -EPERM);
	if (msg->len < rule->min_len || msg->len > rule->max_len)
		return refuse(msg, &table->refused_length, -EPROTO);
	if ((msg->fd >= 0) != rule->takes_fd)
		return refuse(msg, &table->refused_fd, -EPROTO);
	msg->fd = -1;
	table->handled++;
	return rule->handler(table->ctx, &given);
}

uint64_t chan_refused(const struct chan_table *table)
{
	return table->refused_type + table->refused_length + table->refused_fd;
}
