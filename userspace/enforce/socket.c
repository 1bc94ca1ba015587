// SPDX-License-Identifier: Apache-2.0
#include "enforce/socket.h"

#include <dirent.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <linux/netlink.h>

#include "core/clock.h"
#include "core/limits.h"

#define DIAG_TIMEOUT_S 2
#define DIAG_BUF 32768
#define NOT_THERE_NS (1 * NS_PER_SEC)
#define SCAN_AHEAD 256 /* descriptors looked at behind the one that was wanted */

static uint64_t cookie_of(int fd)
{
	uint64_t got = 0;
	socklen_t len = sizeof(got);

	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, &got, &len) ? 0 : got;
}

static void remember(struct socket_places *places, uint64_t cookie, pid_t pid, int number)
{
	if (places && cookie)
		places->places[cookie % SOCKET_PLACES] = (struct socket_place){
			.cookie = cookie, .since_ns = clock_mono_ns(), .pid = pid, .number = number
		};
}

/* Descriptor @number of the process, when it is a socket; *cookie becomes its. */
static int take_number(int pidfd, int number, uint64_t *cookie)
{
	int fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);

	if (fd >= 0)
		*cookie = cookie_of(fd);
	return fd;
}

/* The entry of a process's folder of descriptors, when it is a socket; *cookie becomes its. */
static int take_socket(DIR *d, const char *name, int pidfd, uint64_t *cookie)
{
	char target[16], *end;
	int number = (int)strtol(name, &end, 10);
	ssize_t len = *end || end == name ? -1 : readlinkat(dirfd(d), name, target, sizeof(target));

	if (len < 8 || memcmp(target, "socket:[", 8))
		return -1;
	return take_number(pidfd, number, cookie);
}

/*
 * All that are looked at are remembered, and some behind the one: a process may have thousands, and those that are wanted
 * next are often its neighbours.
 */
static int scan_descriptors(struct socket_places *places, pid_t pid, int pidfd, uint64_t cookie)
{
	unsigned looked = 0, end = LIMIT_SOCKET_SCAN;
	int found = -ENOENT;
	struct dirent *e;
	char path[64];
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	d = opendir(path);
	if (!d)
		return -ESRCH;
	while (looked++ < end && (e = readdir(d))) {
		uint64_t got = 0;
		int fd = take_socket(d, e->d_name, pidfd, &got);

		if (fd < 0)
			continue;
		remember(places, got, pid, (int)strtol(e->d_name, NULL, 10));
		if (got != cookie || found >= 0) {
			close(fd);
			continue;
		}
		found = fd;
		end = places ? looked + SCAN_AHEAD : 0;
	}
	closedir(d);
	return found;
}

static int find_descriptor(struct socket_places *places, pid_t pid, int pidfd, uint64_t cookie)
{
	struct socket_place *known = places ? &places->places[cookie % SOCKET_PLACES] : NULL;
	uint64_t got;
	int fd;

	if (known && known->cookie == cookie && known->pid == pid) {
		fd = known->number < 0 ? -1 : take_number(pidfd, known->number, &got);
		if (fd >= 0 && got == cookie)
			return fd;
		if (fd >= 0)
			close(fd);
		if (known->number < 0 && clock_mono_ns() - known->since_ns < NOT_THERE_NS)
			return -ENOENT;
	}
	fd = scan_descriptors(places, pid, pidfd, cookie);
	if (fd < 0)
		remember(places, cookie, pid, -1);
	return fd;
}

int socket_take(struct socket_places *places, pid_t pid, uint64_t cookie, int *fd, int *pidfd, struct err *err)
{
	int process = (int)syscall(SYS_pidfd_open, pid, 0), found;

	if (process < 0)
		return err_set(err, -errno, "process %d cannot be opened: %s", pid, strerror(errno));
	found = find_descriptor(places, pid, process, cookie);
	if (found < 0) {
		close(process);
		return err_set(err, found, "process %d has no socket with cookie %llu", pid,
			       (unsigned long long)cookie);
	}
	*fd = found;
	*pidfd = process;
	return 0;
}

bool socket_poke_held(struct socket_places *places, const struct dbf_wire_hold *slot)
{
	int fd, pidfd;

	if (!slot->pid || socket_take(places, (pid_t)slot->pid, slot->cookie, &fd, &pidfd, NULL))
		return false;
	socket_poke(fd);
	close(fd);
	close(pidfd);
	return true;
}

int socket_owner_lives(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 0;
}

int socket_poke(int fd)
{
	int on = 1, before = 1;
	socklen_t len = sizeof(before);

	if (getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &before, &len))
		return -errno;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
		return -errno;
	if (!before && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &before, sizeof(before)))
		return -errno;
	return 0;
}

void socket_abort(int fd)
{
	struct linger now = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

struct opening {
	int netns;
	int fd; /* or a negative errno */
};

/* In a thread of its own, which ends in the other namespace. */
static void *open_there(void *arg)
{
	struct opening *o = arg;
	struct timeval patience = { .tv_sec = DIAG_TIMEOUT_S };

	if (o->netns >= 0 && setns(o->netns, CLONE_NEWNET)) {
		o->fd = -errno;
		return NULL;
	}
	o->fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (o->fd < 0)
		o->fd = -errno;
	else
		setsockopt(o->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return NULL;
}

int socket_diag_open(int netns, int *fd, struct err *err)
{
	struct opening o = { .netns = netns };
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, open_there, &o);

	if (rc)
		return err_set(err, -rc, "no thread for another network namespace: %s", strerror(rc));
	pthread_join(thread, NULL);
	if (o.fd < 0)
		return err_set(err, o.fd, "no socket diagnosis in a network namespace: %s", strerror(-o.fd));
	*fd = o.fd;
	return 0;
}

struct diag_request {
	struct nlmsghdr head;
	struct inet_diag_req_v2 body;
};

static bool is_mapped(const uint8_t *addr)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(addr, prefix, sizeof(prefix));
}

static void fill_address(uint32_t *to, const uint8_t *addr, bool v4)
{
	memcpy(to, v4 ? addr + 12 : addr, v4 ? 4 : 16);
}

static void fill_request(struct diag_request *r, const struct dbf_wire_hold *slot, uint16_t type, uint16_t flags)
{
	bool v4 = is_mapped(slot->local_addr);
	struct inet_diag_sockid *id = &r->body.id;

	memset(r, 0, sizeof(*r));
	r->head.nlmsg_len = sizeof(*r);
	r->head.nlmsg_type = type;
	r->head.nlmsg_flags = NLM_F_REQUEST | flags;
	r->body.sdiag_family = v4 ? AF_INET : AF_INET6;
	r->body.sdiag_protocol = IPPROTO_TCP;
	r->body.idiag_states = ~0U;
	id->idiag_sport = htons(slot->local_port);
	id->idiag_dport = htons(slot->remote_port);
	fill_address(id->idiag_src, slot->local_addr, v4);
	fill_address(id->idiag_dst, slot->remote_addr, v4);
	id->idiag_if = slot->bound_if;
	id->idiag_cookie[0] = (uint32_t)slot->cookie;
	id->idiag_cookie[1] = (uint32_t)(slot->cookie >> 32);
}

/* What a request before this one, which was given up, still has to say. */
static void drain(int diag)
{
	char buf[256];

	while (recv(diag, buf, sizeof(buf), MSG_DONTWAIT | MSG_TRUNC) > 0)
		;
}

static int ask(int diag, const struct diag_request *r)
{
	drain(diag);
	return send(diag, r, sizeof(*r), 0) == (ssize_t)sizeof(*r) ? 0 : -errno;
}

int socket_destroy(int diag, const struct dbf_wire_hold *slot, struct err *err)
{
	struct {
		struct nlmsghdr head;
		struct nlmsgerr body;
		char rest[256];
	} answer;
	struct diag_request r;
	ssize_t n;
	int rc;

	fill_request(&r, slot, SOCK_DESTROY, NLM_F_ACK);
	rc = ask(diag, &r);
	if (rc)
		return err_set(err, rc, "a socket cannot be ended: %s", strerror(-rc));
	n = recv(diag, &answer, sizeof(answer), 0);
	if (n < (ssize_t)(sizeof(answer.head) + sizeof(answer.body)) || answer.head.nlmsg_type != NLMSG_ERROR)
		return err_set(err, n < 0 ? -errno : -EPROTO, "the kernel did not say whether a socket was ended");
	rc = answer.body.error;
	if (rc && rc != -ENOENT)
		err_set(err, rc, "a socket cannot be ended: %s", strerror(-rc));
	return rc;
}

bool socket_destroy_held(int netns, const struct dbf_wire_hold *slot)
{
	int diag;
	bool done;

	if (socket_diag_open(netns, &diag, NULL))
		return false;
	done = socket_destroy(diag, slot, NULL) == 0;
	close(diag);
	return done;
}

/* One datagram of the list: 1 found, 0 not here, 2 the end, or a negative errno. */
static int read_list(char *buf, size_t len, uint64_t cookie)
{
	struct nlmsghdr *h = (struct nlmsghdr *)buf;

	for (; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
		const struct inet_diag_msg *m = NLMSG_DATA(h);

		if (h->nlmsg_type == NLMSG_DONE)
			return 2;
		if (h->nlmsg_type == NLMSG_ERROR)
			return ((struct nlmsgerr *)NLMSG_DATA(h))->error ?: -EPROTO;
		if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(*m)) &&
		    (m->id.idiag_cookie[0] | (uint64_t)m->id.idiag_cookie[1] << 32) == cookie)
			return 1;
	}
	return 0;
}

/* To the end of the list, or the next request reads the rest. */
static int list_family(int diag, struct diag_request *r, char *buf, uint64_t cookie)
{
	int found = 0, rc = ask(diag, r);

	while (!rc) {
		ssize_t n = recv(diag, buf, DIAG_BUF, 0);

		rc = n < 0 ? -errno : read_list(buf, (size_t)n, cookie);
		found |= rc == 1;
		if (rc == 1)
			rc = 0;
	}
	return rc < 0 ? rc : found;
}

int socket_is_listed(int diag, const struct dbf_wire_hold *slot, struct err *err)
{
	/* A socket that carries mapped addresses is on either list. */
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	char *buf = malloc(DIAG_BUF);
	struct diag_request r;
	int rc = 0;

	if (!buf)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(families) && !rc; i++) {
		fill_request(&r, slot, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
		r.body.id.idiag_if = 0;
		r.body.sdiag_family = families[i];
		rc = list_family(diag, &r, buf, slot->cookie);
	}
	free(buf);
	if (rc < 0)
		return err_set(err, rc, "the list of sockets cannot be read: %s", strerror(-rc));
	return rc;
}
