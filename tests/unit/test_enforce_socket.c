// SPDX-License-Identifier: Apache-2.0
/* Finding a socket among a process's descriptors, and leaving it as it was. Our own process stands for the client. */
#include "enforce/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/test.h"

static uint64_t cookie_of(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len);
	return cookie;
}

static void test_take(void)
{
	int pair[2], other[2], fd = -1, pidfd = -1;
	struct err err = {};
	char c = 0;

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, other));
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	if (!CHECK_INT(socket_take(getpid(), cookie_of(pair[0]), &fd, &pidfd, &err), 0))
		return;
	CHECK(fd != pair[0] && cookie_of(fd) == cookie_of(pair[0]));
	CHECK(socket_owner_lives(pidfd));
	close(pair[0]); /* the duplicate is the socket still */
	CHECK_INT(write(fd, "x", 1), 1);
	CHECK_INT(read(pair[1], &c, 1), 1);
	close(fd);
	CHECK_INT(read(pair[1], &c, 1), 0);
	close(pidfd);
	close(pair[1]);
	close(other[0]);
	close(other[1]);
}

static void test_not_found(void)
{
	int fd = -7, pidfd = -7;
	struct err err = {};
	pid_t child = fork();

	if (!child)
		_exit(0);
	waitpid(child, NULL, 0);
	CHECK_INT(socket_take(getpid(), ~0ULL, &fd, &pidfd, &err), -ENOENT);
	CHECK(err.text[0] != '\0');
	CHECK_INT(socket_take(child, 1, &fd, &pidfd, &err), -ESRCH);
	CHECK(fd == -7 && pidfd == -7);
}

static void test_owner_ends(void)
{
	int pair[2], fd = -1, pidfd = -1, status;
	struct err err = {};
	pid_t child;

	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	child = fork();
	if (!child)
		for (;;)
			pause();
	if (CHECK_INT(socket_take(child, cookie_of(pair[0]), &fd, &pidfd, &err), 0)) {
		CHECK(socket_owner_lives(pidfd));
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
		CHECK(!socket_owner_lives(pidfd));
		close(fd);
		close(pidfd);
	} else {
		kill(child, SIGKILL);
		waitpid(child, &status, 0);
	}
	close(pair[0]);
	close(pair[1]);
}

static void test_poke_keeps_nodelay(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), got = -1, on = 1;
	socklen_t len = sizeof(got);

	if (fd < 0) {
		test_skip("no TCP socket");
		return;
	}
	CHECK_INT(socket_poke(fd), 0);
	CHECK(!getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &got, &len) && !got);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	CHECK_INT(socket_poke(fd), 0);
	CHECK(!getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &got, &len) && got);
	close(fd);
	CHECK_INT(socket_poke(fd), -EBADF);
}

static const struct test_case cases[] = {
	{ "take", test_take },
	{ "not_found", test_not_found },
	{ "owner_ends", test_owner_ends },
	{ "poke_keeps_nodelay", test_poke_keeps_nodelay },
};

TEST_MAIN(cases)
