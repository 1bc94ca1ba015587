// SPDX-License-Identifier: Apache-2.0
/* priv/chan: bounds, descriptors, hostile messages, and the dispatcher's refusals. */
#include "priv/chan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../lib/test.h"

static char big[CHAN_MAX_PAYLOAD + 16], in[CHAN_MAX_PAYLOAD + 16];

static bool open_pair(int fds[2])
{
	struct err err = { "" };

	return CHECK_MSG(chan_pair(fds, &err) == 0, "chan_pair: %s", err.text);
}

static void close_pair(int fds[2])
{
	close(fds[0]);
	close(fds[1]);
}

static int open_fds(void)
{
	int cnt = 0;

	for (int fd = 0; fd < 256; fd++)
		cnt += fcntl(fd, F_GETFD) >= 0;
	return cnt;
}

static void test_round_trip(void)
{
	static const size_t lens[] = { 0, 1, 100, 70000, LIMIT_RECORD_BYTES, CHAN_MAX_PAYLOAD };
	struct chan_msg msg;
	int fds[2];

	if (!open_pair(fds))
		return;
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7 + i / 251);
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		int code = chan_try_send(fds[0], 5 + (uint32_t)i, big, lens[i], -1);

		if (code == -EMSGSIZE && geteuid() != 0) {
			test_skip("the longest messages need root or a larger net.core.wmem_max");
			break;
		}
		CHECK_INT(code, 0);
		if (!CHECK_INT(chan_try_recv(fds[1], in, CHAN_MAX_PAYLOAD, &msg), 0))
			break;
		CHECK_INT(msg.type, 5 + i);
		CHECK_INT(msg.len, lens[i]);
		CHECK_INT(msg.fd, -1);
		CHECK(!memcmp(msg.payload, big, lens[i]));
	}
	CHECK_INT(chan_try_recv(fds[1], in, sizeof(in), &msg), -EAGAIN);
	close_pair(fds);
}

static void test_message_bounds_are_kept(void)
{
	struct chan_msg msg;
	int fds[2];

	if (!open_pair(fds))
		return;
	CHECK_INT(chan_send(fds[0], 1, big, CHAN_MAX_PAYLOAD + 1, -1), -EMSGSIZE);
	CHECK_INT(chan_send(fds[0], 1, "abcdefgh", 8, -1), 0);
	CHECK_INT(chan_send(fds[0], 2, "next", 4, -1), 0);
	/* A buffer that is one byte too small: the message is refused whole, the next one is not touched. */
	CHECK_INT(chan_recv(fds[1], in, 7, &msg), -EPROTO);
	CHECK_INT(chan_recv(fds[1], in, 7, &msg), 0);
	CHECK_INT(msg.type, 2);
	CHECK(msg.len == 4 && !memcmp(msg.payload, "next", 4));
	close_pair(fds);
}

static void test_full_queue_and_end(void)
{
	struct chan_msg msg;
	unsigned sent = 0;
	int fds[2], code;

	if (!open_pair(fds))
		return;
	while (!(code = chan_try_send(fds[0], 1, big, 1000, -1)) && sent < 100000)
		sent++;
	CHECK_INT(code, -EAGAIN);
	CHECK(sent > 0);
	for (unsigned i = 0; i < sent; i++)
		CHECK_INT(chan_try_recv(fds[1], in, sizeof(in), &msg), 0);
	close(fds[0]);
	CHECK_INT(chan_recv(fds[1], in, sizeof(in), &msg), -EPIPE);
	CHECK_INT(chan_send(fds[1], 1, "x", 1, -1), -EPIPE);
	close(fds[1]);
}

static void test_descriptor_is_passed(void)
{
	int fds[2], tube[2];
	struct chan_msg msg;
	char byte = 0;

	if (!open_pair(fds) || !CHECK_INT(pipe(tube), 0))
		return;
	CHECK_INT(chan_send(fds[0], 9, "p", 1, tube[1]), 0);
	close(tube[1]);
	if (CHECK_INT(chan_recv(fds[1], in, sizeof(in), &msg), 0) && CHECK(msg.fd >= 0)) {
		CHECK(fcntl(msg.fd, F_GETFD) & FD_CLOEXEC);
		CHECK_INT(write(msg.fd, "!", 1), 1);
		CHECK_INT(read(tube[0], &byte, 1), 1);
		CHECK_INT(byte, '!');
		close(msg.fd);
	}
	close(tube[0]);
	close_pair(fds);
}

/* Send raw bytes with @cnt descriptors, as a peer that does not keep the rules. */
static void send_raw(int fd, const void *data, size_t len, int cnt)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(32 * sizeof(int))];
	} control;
	struct iovec part = { (void *)data, len };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };

	memset(&control, 0, sizeof(control));
	if (cnt) {
		struct cmsghdr *c;

		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE((size_t)cnt * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)cnt * sizeof(int));
		for (int i = 0; i < cnt; i++)
			memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &fd, sizeof(int));
	}
	CHECK_INT(sendmsg(fd, &msg, 0), len);
}

static void test_hostile_messages(void)
{
	static const struct {
		uint32_t words[4];
		size_t len;
		int fds;
	} cases[] = {
		{ { 1 }, 4, 0 },	       /* shorter than a head */
		{ { 1 }, 1, 1 },
		{ { 1, 5, 0, 0 }, 12, 0 },     /* says 5, carries 4 */
		{ { 1, 3, 0, 0 }, 12, 0 },
		{ { 1, 0xffffffff }, 8, 0 },
		{ { 1, 0xfffffff8, 0, 0 }, 16, 1 },
		{ { 1, 4, 0, 0 }, 12, 2 },     /* sound, but with two descriptors */
		{ { 1, 4, 0, 0 }, 12, 8 },
		{ { 1, 4, 0, 0 }, 12, 30 },    /* more than there is room for */
	};
	struct chan_msg msg;
	int fds[2], before;

	if (!open_pair(fds))
		return;
	before = open_fds();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		send_raw(fds[0], cases[i].words, cases[i].len, cases[i].fds);
		CHECK_MSG(chan_try_recv(fds[1], in, sizeof(in), &msg) == -EPROTO, "case %zu is not refused", i);
		CHECK_MSG(open_fds() == before, "case %zu leaves %d descriptors open", i, open_fds() - before);
	}
	CHECK_INT(chan_send(fds[0], 3, "ok", 2, -1), 0);
	CHECK_INT(chan_try_recv(fds[1], in, sizeof(in), &msg), 0);
	CHECK_INT(msg.type, 3);
	close_pair(fds);
}

/* A descriptor that the receiver has no room for is missing: the message is not what was sent. */
static void test_lost_descriptor(void)
{
	struct rlimit old, tight;
	struct chan_msg msg;
	int fds[2], next;

	if (!open_pair(fds) || !CHECK_INT(getrlimit(RLIMIT_NOFILE, &old), 0))
		return;
	CHECK_INT(chan_send(fds[0], 9, "p", 1, fds[0]), 0);
	next = dup(fds[0]); /* the lowest free number */
	close(next);
	tight = old;
	tight.rlim_cur = (rlim_t)next;
	CHECK_INT(setrlimit(RLIMIT_NOFILE, &tight), 0);
	CHECK_INT(chan_try_recv(fds[1], in, sizeof(in), &msg), -EPROTO);
	CHECK_INT(setrlimit(RLIMIT_NOFILE, &old), 0);
	close_pair(fds);
}

struct seen {
	unsigned calls;
	uint32_t type, len;
	int fd;
};

static int remember(void *ctx, const struct chan_msg *msg)
{
	struct seen *seen = ctx;

	seen->calls++;
	seen->type = msg->type;
	seen->len = msg->len;
	seen->fd = msg->fd;
	return (int)msg->len;
}

static const struct chan_rule rules[] = {
	{ 1, 0, 0, false, remember },
	{ 7, 4, 8, false, remember },
	{ 9, 1, 1, true, remember },
};

static void test_dispatch_by_table(void)
{
	static const struct {
		uint32_t type, len;
		bool fd;
		int want;
	} cases[] = {
		{ 1, 0, false, 0 },	    { 1, 1, false, -EPROTO }, { 7, 3, false, -EPROTO },
		{ 7, 4, false, 4 },	    { 7, 8, false, 8 },	      { 7, 9, false, -EPROTO },
		{ 7, 4, true, -EPROTO },    { 9, 1, true, 1 },	      { 9, 1, false, -EPROTO },
		{ 9, 2, true, -EPROTO },    { 0, 0, false, -EPERM },  { 2, 4, false, -EPERM },
		{ 0xffffffff, 4, true, -EPERM },
	};
	struct seen seen = { 0 };
	struct chan_table table = { .rules = rules, .rule_cnt = 3, .ctx = &seen };
	unsigned handled = 0;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = cases[i].fd ? dup(STDERR_FILENO) : -1;
		struct chan_msg msg = { cases[i].type, cases[i].len, "01234567", fd };
		int got = chan_dispatch(&table, &msg);

		CHECK_MSG(got == cases[i].want, "case %zu: %d, expected %d", i, got, cases[i].want);
		CHECK_INT(msg.fd, -1);
		handled += cases[i].want >= 0;
		CHECK_INT(seen.calls, handled);
		if (got >= 0) {
			CHECK_INT(seen.fd, fd);
			CHECK_INT(seen.type, cases[i].type);
			if (fd >= 0)
				close(fd);
		} else if (fd >= 0) {
			CHECK_MSG(fcntl(fd, F_GETFD) < 0, "case %zu: the descriptor is still open", i);
		}
	}
	CHECK_INT(table.handled, handled);
	CHECK_INT(table.refused_type, 3);
	CHECK_INT(table.refused_length, 4);
	CHECK_INT(table.refused_fd, 2);
	CHECK_INT(chan_refused(&table), 9);
}

static const struct test_case cases[] = {
	{ "round_trip", test_round_trip },
	{ "message_bounds_are_kept", test_message_bounds_are_kept },
	{ "full_queue_and_end", test_full_queue_and_end },
	{ "descriptor_is_passed", test_descriptor_is_passed },
	{ "hostile_messages", test_hostile_messages },
	{ "lost_descriptor", test_lost_descriptor },
	{ "dispatch_by_table", test_dispatch_by_table },
};
TEST_MAIN(cases)
