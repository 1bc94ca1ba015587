// SPDX-License-Identifier: Apache-2.0
/*
 * Owns: the list of running PostgreSQL servers and postmasters. Called by the keeper; reads /proc.
 *
 * A server is a file: uprobes belong to an inode, whoever maps it, in whatever container. It is
 * known by the fd that is held open, so its inode number cannot be given to another file. Two
 * overlay mounts of one image show the same file under two device numbers, and probing both would
 * count each hit twice: files of overlay mounts with the same inode number, size, time and build-id
 * are one server.
 *
 * A postmaster is a process that runs a server's file, is not the child of one that does, and is
 * named by the postmaster.pid of its data directory. The last rules out initdb's and single-user
 * backends (negative pid) and backends that outlived their postmaster.
 */
#include "loader/discover.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/clock.h"
#include "loader/exec_watch.h"
#include "loader/pg_layout.h"
#include "loader/pg_process.h"

#define OTHERS_CAP 4096	 /* program files known not to be servers; a power of two */
#define ALIASES_MAX 64	 /* overlay mounts of one file */
#define PENDING_MAX 64	 /* processes that may become postmasters */
#define PENDING_AGE_S 60 /* older ones are left to the full scans */
#define EXECS_MAX 1024	 /* exec records taken at once */
#define WATCHED_SCAN_MS                                                                            \
	5000 /* full scans when exec records arrive: a net, and how ends are noticed */

struct other {
	dev_t dev;
	ino_t ino;
	int64_t ctime_ns;
};

struct server_slot {
	struct pg_server pub;
	off_t size;
	int64_t mtime_ns;
	bool overlay;
	unsigned alias_cnt;
	dev_t aliases[ALIASES_MAX];
	unsigned counted; /* processes seen by the scan that is under way */
};

struct postmaster_slot {
	struct pg_postmaster pub;
	struct server_slot *server; /* borrowed: from the same discover */
};

struct discover {
	int epoll_fd;		  /* owned: what discover_fd returns */
	int timer_fd;		  /* owned */
	struct exec_watch *watch; /* owned; NULL when the kernel refused */
	unsigned server_cnt, postmaster_cnt, pending_cnt, other_cnt;
	struct server_slot *servers[DISCOVER_SERVERS_MAX];	       /* owned */
	struct postmaster_slot *postmasters[DISCOVER_POSTMASTERS_MAX]; /* owned */
	pid_t pending[PENDING_MAX];
	struct other others[OTHERS_CAP];
	uint64_t last_scan_ns;
	struct discover_stats stats;
	discover_fn fn; /* borrowed: for the call that is under way */
	void *arg;
};

/* files */

static int64_t timespec_ns(struct timespec ts)
{
	return (int64_t)ts.tv_sec * (int64_t)NS_PER_SEC + ts.tv_nsec;
}

static struct other *other_slot(struct discover *d, const struct stat *st)
{
	uint64_t hash = ((uint64_t)st->st_ino ^ (uint64_t)st->st_dev << 32) * 0x9e3779b97f4a7c15ULL;
	unsigned i = (unsigned)(hash >> 52) & (OTHERS_CAP - 1);

	/* At most three quarters are used, so there is always a free slot to stop at. */
	while (d->others[i].ino &&
	       (d->others[i].ino != st->st_ino || d->others[i].dev != st->st_dev))
		i = (i + 1) & (OTHERS_CAP - 1);
	return &d->others[i];
}

static bool is_other(struct discover *d, const struct stat *st)
{
	const struct other *o = other_slot(d, st);

	return o->ino && o->ctime_ns == timespec_ns(st->st_ctim);
}

static void add_other(struct discover *d, const struct stat *st)
{
	struct other *o;

	if (d->other_cnt >= OTHERS_CAP * 3 / 4) {
		memset(d->others, 0, sizeof(d->others));
		d->other_cnt = 0;
	}
	o = other_slot(d, st);
	if (!o->ino)
		d->other_cnt++;
	*o = (struct other){
	    .dev = st->st_dev, .ino = st->st_ino, .ctime_ns = timespec_ns(st->st_ctim)};
}

static struct server_slot *find_server(struct discover *d, const struct stat *st)
{
	for (unsigned i = 0; i < d->server_cnt; i++) {
		struct server_slot *s = d->servers[i];

		if (s->pub.ino != st->st_ino)
			continue;
		if (s->pub.dev == st->st_dev)
			return s;
		for (unsigned j = 0; j < s->alias_cnt; j++)
			if (s->aliases[j] == st->st_dev)
				return s;
	}
	return NULL;
}

static struct server_slot *find_overlay_twin(struct discover *d, const struct server_slot *n)
{
	for (unsigned i = 0; i < d->server_cnt; i++) {
		struct server_slot *s = d->servers[i];

		if (n->overlay && s->overlay && s->pub.ino == n->pub.ino && s->size == n->size &&
		    s->mtime_ns == n->mtime_ns && !strcmp(s->pub.build_id, n->pub.build_id))
			return s;
	}
	return NULL;
}

static bool has_server_name(const char *exe)
{
	const char *base = strrchr(exe, '/');
	size_t len;

	base = base ? base + 1 : exe;
	len = strcspn(base, " "); /* "postgres (deleted)" */
	return (len == 8 && !memcmp(base, "postgres", 8)) ||
	       (len == 10 && !memcmp(base, "postmaster", 10));
}

/* Is the file in n->pub.fd a server? Fills in what it says about itself. */
static bool inspect(struct server_slot *n)
{
	struct elf_symbol syms[] = {
	    {.name = "raw_parser"}, {.name = "ProcessUtility"}, {.name = "MyProcPort"}};
	struct elf_file *elf;
	bool has_version;

	if (elf_open_fd(n->pub.fd, &elf, NULL))
		return false;
	n->pub.exports = elf_lookup_symbols(elf, syms, 3) == 3;
	if (!n->pub.exports && !has_server_name(n->pub.exe)) {
		elf_close(elf);
		return false;
	}
	has_version =
	    !pg_binary_version(elf, &n->pub.major, n->pub.version, sizeof(n->pub.version), NULL);
	snprintf(n->pub.build_id, sizeof(n->pub.build_id), "%s", elf_build_id(elf));
	elf_close(elf);
	return n->pub.exports || has_version;
}

static void server_free(struct server_slot *s)
{
	if (!s)
		return;
	if (s->pub.fd >= 0)
		close(s->pub.fd);
	free(s);
}

/* Open what @pid runs. NULL when it is gone, unreadable, or not what @st described any more. */
static struct server_slot *open_exe(struct discover *d, pid_t pid, const struct stat *st)
{
	struct server_slot *n = calloc(1, sizeof(*n));
	struct statfs fs;
	struct stat now;
	char path[64];
	ssize_t len;

	if (!n)
		return NULL;
	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	n->pub.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	len = readlink(path, n->pub.exe, sizeof(n->pub.exe) - 1);
	if (n->pub.fd < 0 || len < 0 || fstat(n->pub.fd, &now) || fstatfs(n->pub.fd, &fs)) {
		if (errno != ENOENT && errno != ESRCH)
			d->stats.unreadable++;
		server_free(n);
		return NULL;
	}
	if (now.st_dev != st->st_dev || now.st_ino != st->st_ino) {
		server_free(n);
		return NULL;
	}
	n->pub.dev = now.st_dev;
	n->pub.ino = now.st_ino;
	n->size = now.st_size;
	n->mtime_ns = timespec_ns(now.st_mtim);
	n->overlay = fs.f_type == OVERLAYFS_SUPER_MAGIC;
	return n;
}

static struct server_slot *server_of(struct discover *d, pid_t pid, const struct stat *st)
{
	struct server_slot *s = find_server(d, st), *n;

	if (s || is_other(d, st))
		return s;
	n = open_exe(d, pid, st);
	if (!n)
		return NULL;
	if (!inspect(n)) {
		server_free(n);
		add_other(d, st);
		return NULL;
	}
	s = find_overlay_twin(d, n);
	if (s) {
		if (s->alias_cnt < ALIASES_MAX)
			s->aliases[s->alias_cnt++] = st->st_dev;
		server_free(n);
		return s;
	}
	if (d->server_cnt == DISCOVER_SERVERS_MAX) {
		d->stats.over_limit++;
		server_free(n);
		return NULL;
	}
	d->servers[d->server_cnt++] = n;
	d->fn(d->arg, DISCOVER_SERVER_NEW, &n->pub, NULL);
	return n;
}

/* processes */

/* Look again soon, while the process is young; a cluster that recovers for an hour must not be
 * polled for an hour. */
static void add_pending(struct discover *d, pid_t pid, uint64_t start_ticks)
{
	uint64_t now_s = clock_ns(CLOCK_BOOTTIME) / NS_PER_SEC;

	if (start_ticks / (uint64_t)sysconf(_SC_CLK_TCK) + PENDING_AGE_S < now_s)
		return;
	for (unsigned i = 0; i < d->pending_cnt; i++)
		if (d->pending[i] == pid)
			return;
	/* When there is no room the next full scan finds it. */
	if (d->pending_cnt < PENDING_MAX)
		d->pending[d->pending_cnt++] = pid;
}

static void drop_postmaster(struct discover *d, unsigned idx)
{
	struct postmaster_slot *p = d->postmasters[idx];

	d->fn(d->arg, DISCOVER_POSTMASTER_GONE, &p->server->pub, &p->pub);
	d->postmasters[idx] = d->postmasters[--d->postmaster_cnt];
	free(p);
}

static void drop_server(struct discover *d, unsigned idx)
{
	struct server_slot *s = d->servers[idx];

	d->fn(d->arg, DISCOVER_SERVER_GONE, &s->pub, NULL);
	d->servers[idx] = d->servers[--d->server_cnt];
	server_free(s);
}

static struct postmaster_slot *find_postmaster(struct discover *d, pid_t pid, uint64_t start_ticks)
{
	for (unsigned i = 0; i < d->postmaster_cnt; i++) {
		struct postmaster_slot *p = d->postmasters[i];

		if (p->pub.pid == pid && p->pub.start_ticks == start_ticks)
			return p;
	}
	return NULL;
}

static bool same_postmaster(const struct pg_postmaster *a, const struct pg_postmaster *b)
{
	return a->port == b->port && a->ready == b->ready && !strcmp(a->data_dir, b->data_dir) &&
	       !strcmp(a->socket_dir, b->socket_dir) &&
	       !strcmp(a->listen_address, b->listen_address);
}

/* A known postmaster that is not ready yet: tell what became known. */
static void refresh_postmaster(struct discover *d, struct postmaster_slot *p)
{
	struct pg_postmaster now = p->pub;

	if (p->pub.ready)
		return;
	if (!pg_postmaster_read(&now) && !same_postmaster(&now, &p->pub)) {
		p->pub = now;
		d->fn(d->arg, DISCOVER_POSTMASTER_CHANGED, &p->server->pub, &p->pub);
	}
	if (!p->pub.ready)
		add_pending(d, p->pub.pid, p->pub.start_ticks);
}

static void check_candidate(struct discover *d, struct server_slot *s, pid_t pid,
			    uint64_t start_ticks)
{
	struct postmaster_slot *p;

	if (d->postmaster_cnt == DISCOVER_POSTMASTERS_MAX) {
		d->stats.over_limit++;
		return;
	}
	p = calloc(1, sizeof(*p));
	if (!p) {
		d->stats.over_limit++;
		return;
	}
	p->server = s;
	p->pub.pid = pid;
	p->pub.start_ticks = start_ticks;
	p->pub.ns_pid = proc_read_ns_pid(pid);
	if (pg_postmaster_read(&p->pub)) {
		add_pending(d, pid, start_ticks);
		free(p);
		return;
	}
	d->postmasters[d->postmaster_cnt++] = p;
	d->fn(d->arg, DISCOVER_POSTMASTER_NEW, &s->pub, &p->pub);
	if (!p->pub.ready)
		add_pending(d, pid, start_ticks);
}

/* Look at one process. Returns whether it runs a server's file. */
static bool check_pid(struct discover *d, pid_t pid)
{
	struct postmaster_slot *p;
	struct server_slot *s;
	uint64_t start_ticks;
	struct stat st;
	pid_t ppid;

	if (proc_stat_exe(pid, &st))
		return false;
	s = server_of(d, pid, &st);
	if (!s)
		return false;
	s->counted++;
	if (proc_read_stat(pid, &ppid, &start_ticks))
		return true;
	p = find_postmaster(d, pid, start_ticks);
	if (p) {
		refresh_postmaster(d, p);
		return true;
	}
	if (ppid > 0 && !proc_stat_exe(ppid, &st) && find_server(d, &st) == s)
		return true;
	check_candidate(d, s, pid, start_ticks);
	return true;
}

static void drop_dead_postmasters(struct discover *d)
{
	for (unsigned i = d->postmaster_cnt; i-- > 0;) {
		const struct pg_postmaster *pm = &d->postmasters[i]->pub;
		uint64_t start_ticks;
		struct stat st;
		pid_t ppid;

		/* A zombie has no executable any more. */
		if (proc_read_stat(pm->pid, &ppid, &start_ticks) ||
		    start_ticks != pm->start_ticks || proc_stat_exe(pm->pid, &st) ||
		    find_server(d, &st) != d->postmasters[i]->server)
			drop_postmaster(d, i);
	}
}

static bool has_postmaster(const struct discover *d, const struct server_slot *s)
{
	for (unsigned i = 0; i < d->postmaster_cnt; i++)
		if (d->postmasters[i]->server == s)
			return true;
	return false;
}

static int scan_all(struct discover *d)
{
	struct dirent *e;
	DIR *dir = opendir("/proc");

	if (!dir)
		return -errno;
	d->stats.scans++;
	d->last_scan_ns = clock_mono_ns();
	for (unsigned i = 0; i < d->server_cnt; i++)
		d->servers[i]->counted = 0;
	while ((e = readdir(dir)))
		if (isdigit((unsigned char)e->d_name[0]))
			check_pid(d, (pid_t)strtol(e->d_name, NULL, 10));
	closedir(dir);
	drop_dead_postmasters(d);
	for (unsigned i = d->server_cnt; i-- > 0;) {
		struct server_slot *s = d->servers[i];

		s->pub.process_cnt = s->counted;
		if (!s->counted && !has_postmaster(d, s))
			drop_server(d, i);
	}
	return 0;
}

static void check_pending(struct discover *d)
{
	pid_t todo[PENDING_MAX];
	unsigned cnt = d->pending_cnt;

	memcpy(todo, d->pending, cnt * sizeof(todo[0]));
	d->pending_cnt = 0;
	for (unsigned i = 0; i < cnt; i++) {
		d->stats.checks++;
		check_pid(d, todo[i]);
	}
}

/* timing */

static uint64_t scan_interval_ns(const struct discover *d)
{
	return (d->watch ? WATCHED_SCAN_MS : DISCOVER_POLL_MS) * NS_PER_MS;
}

/*
 * After something happened, sleep one tick without listening to exec records, so that a storm of
 * them costs 50 reactions a second; otherwise listen, until the next full scan is due.
 */
static int set_wakeup(struct discover *d, bool busy)
{
	uint64_t due = d->last_scan_ns + scan_interval_ns(d), now = clock_mono_ns();
	uint64_t wait = due > now + NS_PER_MS ? due - now : NS_PER_MS;
	struct epoll_event ev = {.events = busy ? 0 : EPOLLIN};
	struct itimerspec ts = {0};

	if (busy && wait > DISCOVER_TICK_MS * NS_PER_MS)
		wait = DISCOVER_TICK_MS * NS_PER_MS;
	ts.it_value.tv_sec = (time_t)(wait / NS_PER_SEC);
	ts.it_value.tv_nsec = (long)(wait % NS_PER_SEC);
	if (timerfd_settime(d->timer_fd, 0, &ts, NULL))
		return -errno;
	if (d->watch && epoll_ctl(d->epoll_fd, EPOLL_CTL_MOD, exec_watch_fd(d->watch), &ev))
		return -errno;
	return 0;
}

static void ignore_event(void *arg, enum discover_event event, const struct pg_server *server,
			 const struct pg_postmaster *pm)
{
	(void)arg;
	(void)event;
	(void)server;
	(void)pm;
}

static void set_callback(struct discover *d, discover_fn fn, void *arg)
{
	d->fn = fn ? fn : ignore_event;
	d->arg = arg;
}

int discover_scan(struct discover *d, discover_fn fn, void *arg)
{
	int err, wake;

	set_callback(d, fn, arg);
	err = scan_all(d);
	wake = set_wakeup(d, d->pending_cnt > 0);
	return err ? err : wake;
}

int discover_poll(struct discover *d, discover_fn fn, void *arg)
{
	pid_t pids[EXECS_MAX];
	uint64_t expired, lost = 0;
	size_t cnt = 0;
	int err = 0, wake;

	set_callback(d, fn, arg);
	/* Only empties the timer: what is due is decided by the clock. */
	if (read(d->timer_fd, &expired, sizeof(expired)) < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	if (d->watch)
		cnt = exec_watch_drain(d->watch, pids, EXECS_MAX, &lost);
	d->stats.lost += lost;
	if (lost || clock_mono_ns() - d->last_scan_ns >= scan_interval_ns(d)) {
		err = scan_all(d);
	} else {
		for (size_t i = 0; i < cnt; i++) {
			d->stats.checks++;
			check_pid(d, pids[i]);
		}
	}
	check_pending(d);
	drop_dead_postmasters(d);
	wake = set_wakeup(d, cnt || lost || d->pending_cnt);
	return err ? err : wake;
}

/* life */

struct discover *discover_new(void)
{
	struct discover *d = calloc(1, sizeof(*d));
	struct epoll_event ev = {.events = EPOLLIN};

	if (!d)
		return NULL;
	d->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	d->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (d->epoll_fd < 0 || d->timer_fd < 0 ||
	    epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, d->timer_fd, &ev) || set_wakeup(d, true)) {
		int err = errno;

		discover_free(d);
		errno = err;
		return NULL;
	}
	return d;
}

void discover_free(struct discover *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < d->postmaster_cnt; i++)
		free(d->postmasters[i]);
	for (unsigned i = 0; i < d->server_cnt; i++)
		server_free(d->servers[i]);
	exec_watch_close(d->watch);
	if (d->timer_fd >= 0)
		close(d->timer_fd);
	if (d->epoll_fd >= 0)
		close(d->epoll_fd);
	free(d);
}

int discover_watch(struct discover *d, struct err *err)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int ret;

	if (d->watch)
		return 0;
	ret = exec_watch_open(&d->watch, err);
	if (ret)
		return ret;
	if (epoll_ctl(d->epoll_fd, EPOLL_CTL_ADD, exec_watch_fd(d->watch), &ev)) {
		ret = -errno;
		exec_watch_close(d->watch);
		d->watch = NULL;
		return err_set(err, ret, "the watch for new processes cannot be polled: %s",
			       strerror(-ret));
	}
	/* What started before the records began is found by looking once more. */
	d->last_scan_ns = 0;
	return set_wakeup(d, true);
}

int discover_fd(const struct discover *d)
{
	return d->epoll_fd;
}

struct discover_stats discover_stats(const struct discover *d)
{
	return d->stats;
}

const char *discover_event_name(enum discover_event event)
{
	static const char *const names[DISCOVER_EVENT_MAX] = {
	    [DISCOVER_SERVER_NEW] = "server_new",
	    [DISCOVER_SERVER_GONE] = "server_gone",
	    [DISCOVER_POSTMASTER_NEW] = "postmaster_new",
	    [DISCOVER_POSTMASTER_CHANGED] = "postmaster_changed",
	    [DISCOVER_POSTMASTER_GONE] = "postmaster_gone",
	};

	return event < DISCOVER_EVENT_MAX ? names[event] : "unknown";
}
