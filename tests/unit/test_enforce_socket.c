// SPDX-License-Identifier: Apache-2.0
/* Finding a socket among a process's descriptors, and leaving it as it was. Our own process stands for the client. */
#include "enforce/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../lib/test.h"
#include "core/clock.h"

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
	if (!CHECK_INT(socket_take(NULL, getpid(), cookie_of(pair[0]), &fd, &pidfd, &err), 0))
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
	CHECK_INT(socket_take(NULL, getpid(), ~0ULL, &fd, &pidfd, &err), -ENOENT);
	CHECK(err.text[0] != '\0');
	CHECK_INT(socket_take(NULL, child, 1, &fd, &pidfd, &err), -ESRCH);
	CHECK(fd == -7 && pidfd == -7);
}

/* Found once it is tried where it was; what stands there by now is looked at. */
static void test_places(void)
{
	struct socket_places *places = calloc(1, sizeof(*places));
	int pair[2], fd = -1, pidfd = -1, moved;
	uint64_t cookie;

	if (!CHECK(places) || !CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair)))
		return;
	cookie = cookie_of(pair[0]);
	for (int i = 0; i < 2; i++) {
		CHECK_INT(socket_take(places, getpid(), cookie, &fd, &pidfd, NULL), 0);
		CHECK(cookie_of(fd) == cookie);
		close(fd);
		close(pidfd);
	}
	CHECK_INT(places->places[cookie % SOCKET_PLACES].number, pair[0]);
	/* Another socket in its place, and itself elsewhere. */
	moved = dup(pair[0]);
	CHECK_INT(dup2(pair[1], pair[0]), pair[0]);
	CHECK_INT(socket_take(places, getpid(), cookie, &fd, &pidfd, NULL), 0);
	CHECK(cookie_of(fd) == cookie);
	CHECK_INT(places->places[cookie % SOCKET_PLACES].number, moved);
	close(fd);
	close(pidfd);
	/* In a process that does not have it; not looked for again soon, unless it is another process. */
	close(moved);
	CHECK_INT(socket_take(places, getpid(), cookie, &fd, &pidfd, NULL), -ENOENT);
	CHECK_INT(places->places[cookie % SOCKET_PLACES].number, -1);
	close(pair[0]);
	close(pair[1]);
	free(places);
}

static void check_place(const struct socket_places *places, uint64_t cookie, int number)
{
	CHECK(places->places[cookie % SOCKET_PLACES].cookie == cookie);
	CHECK_INT(places->places[cookie % SOCKET_PLACES].number, number);
}

/* Of a process with many, one look finds the neighbours too. */
static void test_neighbours(void)
{
	struct socket_places *places = calloc(1, sizeof(*places));
	int pair[2], fd = -1, pidfd = -1;
	uint64_t cookies[2];

	if (!CHECK(places) || !CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair)))
		return;
	for (int i = 0; i < 2; i++)
		cookies[i] = cookie_of(pair[i]);
	for (int i = 0; i < 2; i++) {
		memset(places, 0, sizeof(*places));
		CHECK_INT(socket_take(places, getpid(), cookies[i], &fd, &pidfd, NULL), 0);
		check_place(places, cookies[0], pair[0]);
		check_place(places, cookies[1], pair[1]);
		close(fd);
		close(pidfd);
	}
	close(pair[0]);
	close(pair[1]);
	free(places);
}

static void test_not_again_soon(void)
{
	struct socket_places *places = calloc(1, sizeof(*places));
	struct socket_place *place;
	int pair[2], fd = -1, pidfd = -1;
	uint64_t cookie;

	if (!CHECK(places) || !CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair)))
		return;
	cookie = cookie_of(pair[0]);
	place = &places->places[cookie % SOCKET_PLACES];
	*place = (struct socket_place){ .cookie = cookie, .since_ns = clock_mono_ns(), .pid = getpid(), .number = -1 };
	CHECK_INT(socket_take(places, getpid(), cookie, &fd, &pidfd, NULL), -ENOENT);
	place->pid = getppid(); /* of another process that says nothing */
	CHECK_INT(socket_take(places, getpid(), cookie, &fd, &pidfd, NULL), 0);
	close(fd);
	close(pidfd);
	*place = (struct socket_place){ .cookie = cookie, .pid = getpid(), .number = -1 };
	CHECK_INT(socket_take(places, getpid(), cookie, &fd, &pidfd, NULL), 0);
	close(fd);
	close(pidfd);
	close(pair[0]);
	close(pair[1]);
	free(places);
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
	if (CHECK_INT(socket_take(NULL, child, cookie_of(pair[0]), &fd, &pidfd, &err), 0)) {
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
	{ "places", test_places },
	{ "neighbours", test_neighbours },
	{ "not_again_soon", test_not_again_soon },
	{ "owner_ends", test_owner_ends },
	{ "poke_keeps_nodelay", test_poke_keeps_nodelay },
};

TEST_MAIN(cases)
