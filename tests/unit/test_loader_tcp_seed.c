// SPDX-License-Identifier: Apache-2.0
/* Connections from before a start: which are handed out, in which order, when there are too many.
 */
#include "../lib/test.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "loader/tcp_seed.h"

static const uint16_t known[] = { 5432, 5499 };
static const struct tcp_seed_ports ports = { known, 2 };

static int list_new(void)
{
	return memfd_create("owners", MFD_CLOEXEC);
}

static void list_add(int fd, uint32_t pid, uint16_t client_port, uint16_t server_port)
{
	struct dbf_tcp_owner o = { .key = { .client_port = client_port,
					    .server_port = server_port },
				   .client = { .pid = pid } };

	CHECK(write(fd, &o, sizeof(o)) == sizeof(o));
}

struct got {
	char pids[256];
	size_t cnt;
};

static void take(void *ctx, const struct dbf_tcp_owner *owner)
{
	struct got *g = ctx;
	size_t len = strlen(g->pids);

	g->cnt++;
	if (len < sizeof(g->pids) - 12)
		snprintf(g->pids + len, sizeof(g->pids) - len, "%u ", owner->client.pid);
}

static int seed(int fd, size_t room, struct got *g, size_t *left_out)
{
	*g = (struct got){};
	*left_out = 77;
	lseek(fd, 0, SEEK_SET);
	return tcp_seed(fd, &ports, room, take, g, left_out);
}

static void test_servers_come_last(void)
{
	size_t left_out;
	int fd = list_new();
	struct got g;

	list_add(fd, 1, 40001, 5432);
	list_add(fd, 2, 40002, 443);
	list_add(fd, 3, 5432, 40001); /* the server's end */
	list_add(fd, 4, 40004, 5499);
	list_add(fd, 5, 40004, 5499); /* shares it with 4 */
	list_add(fd, 6, 40006, 80);
	CHECK_INT(seed(fd, 16, &g, &left_out), 0);
	CHECK_STR(g.pids, "2 6 1 4 5 ");
	CHECK_INT(left_out, 0);
	close(fd);
}

static void test_too_many(void)
{
	size_t left_out;
	int fd = list_new();
	struct got g;

	list_add(fd, 1, 40001, 443);
	list_add(fd, 2, 40002, 443);
	list_add(fd, 3, 40003, 5432);
	list_add(fd, 4, 40004, 5432);
	CHECK_INT(seed(fd, 3, &g, &left_out), 0);
	CHECK_STR(g.pids, "1 3 4 "); /* others only where there is room */
	CHECK_INT(left_out, 0);
	list_add(fd, 5, 40005, 5432);
	list_add(fd, 6, 40006, 5432);
	CHECK_INT(seed(fd, 3, &g, &left_out), 0);
	CHECK_STR(g.pids, "3 4 5 ");
	CHECK_INT(left_out, 1);
	close(fd);
}

static void test_longer_than_a_chunk(void)
{
	size_t left_out;
	int fd = list_new();
	struct got g;

	for (unsigned i = 0; i < 5000; i++)
		list_add(fd, i, (uint16_t)(30000 + i), 5432);
	CHECK_INT(seed(fd, 16384, &g, &left_out), 0);
	CHECK_INT(g.cnt, 5000);
	close(fd);
}

/* However the kernel cuts it: a pipe gives what was written, 7 bytes at a time here. */
static void test_in_pieces(void)
{
	struct dbf_tcp_owner o = { .key = { .server_port = 5432 }, .client = { .pid = 9 } };
	size_t left_out;
	struct got g = {};
	int fds[2];

	CHECK(!pipe(fds));
	if (!fork()) {
		for (size_t at = 0; at < sizeof(o); at += 7) {
			size_t n = sizeof(o) - at < 7 ? sizeof(o) - at : 7;

			if (write(fds[1], (char *)&o + at, n) < 0)
				_exit(1);
			usleep(200);
		}
		_exit(0);
	}
	close(fds[1]);
	CHECK_INT(tcp_seed(fds[0], &ports, 4, take, &g, &left_out), 0);
	CHECK_STR(g.pids, "9 ");
	close(fds[0]);
}

static void test_damaged(void)
{
	size_t left_out;
	int fd = list_new();
	struct got g;

	list_add(fd, 1, 40001, 5432);
	CHECK(write(fd, "half", 4) == 4);
	CHECK_INT(seed(fd, 4, &g, &left_out), -EIO);
	CHECK_STR(g.pids, "");
	close(fd);
	CHECK_INT(tcp_seed(-1, &ports, 4, take, &g, &left_out), -EBADF);
}

static const struct test_case cases[] = {
	{ "servers_come_last", test_servers_come_last },
	{ "too_many", test_too_many },
	{ "longer_than_a_chunk", test_longer_than_a_chunk },
	{ "in_pieces", test_in_pieces },
	{ "damaged", test_damaged },
};

TEST_MAIN(cases)
