// SPDX-License-Identifier: Apache-2.0
/* The keeper's side of the recorder's control socket. */
#include "audit/recorder.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "dbfence/audit.pb-c.h"

static int send_msg(int control_fd, const struct recorder_msg *msg, const void *body, size_t len,
		    int pass_fd)
{
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov[2] = {{(void *)msg, sizeof(*msg)}, {(void *)body, len}};
	struct msghdr hdr = {.msg_iov = iov, .msg_iovlen = body ? 2 : 1};
	struct cmsghdr *cmsg;
	ssize_t n;

	if (pass_fd >= 0) {
		hdr.msg_control = room;
		hdr.msg_controllen = sizeof(room);
		cmsg = CMSG_FIRSTHDR(&hdr);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &pass_fd, sizeof(int));
	}
	do
		n = sendmsg(control_fd, &hdr, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

int recorder_subscribe(int control_fd, int subscriber_fd, enum recorder_format format, bool color,
		       unsigned width)
{
	struct recorder_msg msg = {RECORDER_SUBSCRIBE, format, color, width};

	return send_msg(control_fd, &msg, NULL, 0, subscriber_fd);
}

int recorder_set_worker(int control_fd, int records_fd)
{
	struct recorder_msg msg = {.cmd = RECORDER_WORKER};

	return send_msg(control_fd, &msg, NULL, 0, records_fd);
}

int recorder_append(int control_fd, const Dbfence__Audit__V1__Record *record)
{
	struct recorder_msg msg = {.cmd = RECORDER_APPEND};
	size_t len = dbfence__audit__v1__record__get_packed_size(record);
	uint8_t *body;
	int err;

	if (len > LIMIT_RECORD_BYTES)
		return -EMSGSIZE;
	body = malloc(len + 1);
	if (!body)
		return -ENOMEM;
	dbfence__audit__v1__record__pack(record, body);
	err = send_msg(control_fd, &msg, body, len, -1);
	free(body);
	return err;
}

int recorder_stop(int control_fd)
{
	struct recorder_msg msg = {.cmd = RECORDER_STOP};

	return send_msg(control_fd, &msg, NULL, 0, -1);
}

int recorder_ask_stats(int control_fd)
{
	struct recorder_msg msg = {.cmd = RECORDER_STATS};

	return send_msg(control_fd, &msg, NULL, 0, -1);
}

int recorder_take_stats(int control_fd, struct recorder_stats *stats)
{
	struct recorder_stats answer;
	int err = -EAGAIN;
	ssize_t n;

	while ((n = recv(control_fd, &answer, sizeof(answer), MSG_DONTWAIT)) > 0) {
		if (n != (ssize_t)sizeof(answer))
			return -EPROTO;
		*stats = answer;
		err = 0;
	}
	if (!n)
		return -ECONNRESET;
	return err && errno != EAGAIN && errno != EWOULDBLOCK ? -errno : err;
}

int recorder_get_stats(int control_fd, int timeout_ms, struct recorder_stats *stats)
{
	struct pollfd ready = {.fd = control_fd, .events = POLLIN};
	struct recorder_stats late;
	int err, n;

	/*
	 * An answer that came after an earlier question had timed out is not the answer to this
	 * one.
	 */
	recorder_take_stats(control_fd, &late);
	err = recorder_ask_stats(control_fd);
	if (err)
		return err;
	do
		n = poll(&ready, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n ? -errno : -ETIMEDOUT;
	return recorder_take_stats(control_fd, stats);
}
