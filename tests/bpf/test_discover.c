// SPDX-License-Identifier: Apache-2.0
/*
 * Discovery against real servers: a scratch cluster is made once, and servers are started on it
 * from a private copy of the server program, so that other servers on the machine do not disturb
 * what is asserted. Needs root.
 */
#include "../lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "loader/discover.h"

#define PG_BIN "/usr/lib/postgresql/15/bin"
#define PG_PORT 54391

static char work[] = "/tmp/dbfence-discover-XXXXXX";
static char data[PATH_MAX], copy[PATH_MAX];
static struct passwd owner;
static const char *skip_reason;

/* What the callback has seen of our own program file. */
struct seen {
	struct stat file;
	unsigned cnt[DISCOVER_EVENT_MAX];
	uint64_t at_ns[DISCOVER_EVENT_MAX]; /* of the first */
	struct pg_server server;
	struct pg_postmaster pm;
	bool pm_before_server;
	unsigned process_max;
};

static void note(void *arg, enum discover_event event, const struct pg_server *server,
		 const struct pg_postmaster *pm)
{
	struct seen *s = arg;
	struct stat st;

	if (server->ino != s->file.st_ino || fstat(server->fd, &st) ||
	    st.st_size != s->file.st_size)
		return;
	if (!s->cnt[event]++)
		s->at_ns[event] = clock_mono_ns();
	if (event == DISCOVER_POSTMASTER_NEW && !s->cnt[DISCOVER_SERVER_NEW])
		s->pm_before_server = true;
	s->server = *server;
	if (server->process_cnt > s->process_max)
		s->process_max = server->process_cnt;
	if (pm)
		s->pm = *pm;
}

static pid_t spawn_as_owner(char *const argv[], int in)
{
	pid_t pid = fork();
	int null;

	if (pid)
		return pid;
	null = open("/dev/null", O_RDWR);
	dup2(in >= 0 ? in : null, 0);
	dup2(null, 1);
	dup2(null, 2);
	if (setgroups(0, NULL) || setgid(owner.pw_gid) || setuid(owner.pw_uid) || chdir("/"))
		_exit(126);
	execv(argv[0], argv);
	_exit(127);
}

static int run_as_owner(char *const argv[])
{
	pid_t pid = spawn_as_owner(argv, -1);
	int status = -1;

	return pid < 0 || waitpid(pid, &status, 0) != pid ? -1 : status;
}

static pid_t start_server(const char *exe)
{
	char *const argv[] = {
	    (char *)exe,	 "-D", data,	    "-k", work, "-p", "54391", "-c",
	    "listen_addresses=", "-c", "fsync=off", NULL};

	return spawn_as_owner(argv, -1);
}

static void stop_server(pid_t pid)
{
	if (pid > 0) {
		kill(pid, SIGINT);
		waitpid(pid, NULL, 0);
	}
}

static int copy_program(const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC),
	    out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755), err = -1;
	struct stat st;

	if (in >= 0 && out >= 0 && !fstat(in, &st)) {
		while (st.st_size > 0) {
			ssize_t n = sendfile(out, in, NULL, (size_t)st.st_size);

			if (n <= 0)
				break;
			st.st_size -= n;
		}
		err = st.st_size ? -1 : 0;
	}
	close(in);
	close(out);
	return err;
}

static const char *prepare(void)
{
	char *const initdb[] = {PG_BIN "/initdb", "-D", data,	     "-A",
				"trust",	  "-N", "--no-sync", NULL};
	struct passwd *pw = getpwnam("postgres");

	if (geteuid())
		return "needs root";
	if (access(PG_BIN "/postgres", X_OK))
		return "PostgreSQL 15 is not installed";
	if (!pw)
		return "there is no user postgres";
	owner = *pw;
	if (!mkdtemp(work) || chmod(work, 0755) || chown(work, owner.pw_uid, owner.pw_gid))
		return "no scratch directory can be made in /tmp";
	snprintf(data, sizeof(data), "%s/data", work);
	snprintf(copy, sizeof(copy), "%s/postgres", work);
	if (copy_program(PG_BIN "/postgres", copy))
		return "the server program cannot be copied";
	return run_as_owner(initdb) ? "initdb failed" : NULL;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static struct discover *begin(struct seen *s)
{
	struct discover *d;

	memset(s, 0, sizeof(*s));
	if (skip_reason) {
		test_skip(skip_reason);
		return NULL;
	}
	d = discover_new();
	if (!CHECK(d != NULL))
		return NULL;
	CHECK(!stat(copy, &s->file));
	return d;
}

/* Poll as a main loop would, until @event was seen @cnt times. */
static bool wait_for(struct discover *d, struct seen *s, enum discover_event event, unsigned cnt,
		     unsigned ms)
{
	uint64_t end = clock_mono_ns() + ms * NS_PER_MS;

	while (s->cnt[event] < cnt) {
		struct pollfd p = {.fd = discover_fd(d), .events = POLLIN};
		uint64_t now = clock_mono_ns();

		if (now >= end)
			return false;
		if (poll(&p, 1, (int)((end - now) / NS_PER_MS) + 1) > 0)
			CHECK_INT(discover_poll(d, note, s), 0);
	}
	return true;
}

static bool wait_ready(struct discover *d, struct seen *s)
{
	for (unsigned i = 0; i < 50 && !s->pm.ready; i++)
		wait_for(d, s, DISCOVER_POSTMASTER_CHANGED, s->cnt[DISCOVER_POSTMASTER_CHANGED] + 1,
			 200);
	return s->pm.ready;
}

static void check_postmaster(const struct seen *s, pid_t pid)
{
	CHECK_INT(s->pm.pid, pid);
	CHECK_INT(s->pm.ns_pid, pid);
	CHECK_INT(s->pm.port, PG_PORT);
	CHECK_STR(s->pm.data_dir, data);
	CHECK_STR(s->pm.socket_dir, work);
	CHECK_STR(s->pm.listen_address, "");
	CHECK(s->pm.ready);
	CHECK_INT(s->server.major, 15);
	CHECK_MSG(!strncmp(s->server.version, "15.", 3), "version %s", s->server.version);
	CHECK(s->server.exports);
	CHECK_INT(strlen(s->server.build_id), 40);
	CHECK_STR(s->server.exe, copy);
}

/* A server that runs before we look, and its end, by scans alone. */
static void test_scan(void)
{
	struct seen s;
	struct discover *d = begin(&s);
	pid_t pid;

	if (!d)
		return;
	CHECK_INT(discover_scan(d, note, &s), 0);
	CHECK_INT(s.cnt[DISCOVER_SERVER_NEW], 0);
	pid = start_server(copy);
	for (unsigned i = 0; i < 100 && !s.pm.ready; i++) {
		usleep(50000);
		CHECK_INT(discover_scan(d, note, &s), 0);
	}
	check_postmaster(&s, pid);
	CHECK_INT(s.cnt[DISCOVER_SERVER_NEW], 1);
	CHECK_INT(s.cnt[DISCOVER_POSTMASTER_NEW], 1);
	CHECK(!s.pm_before_server);
	CHECK_INT(discover_scan(d, note, &s), 0);
	CHECK_INT(s.cnt[DISCOVER_POSTMASTER_NEW], 1);
	stop_server(pid);
	CHECK_INT(discover_scan(d, note, &s), 0);
	CHECK_INT(s.cnt[DISCOVER_POSTMASTER_GONE], 1);
	CHECK_INT(s.cnt[DISCOVER_SERVER_GONE], 1);
	/* The postmaster and its auxiliary processes, by the scan before the last. */
	CHECK_MSG(s.process_max >= 3, "%u processes", s.process_max);
	CHECK_INT(s.server.process_cnt, 0);
	discover_free(d);
}

/* A server that starts while we watch: how soon is it known? */
static void test_watch(void)
{
	uint64_t started_ns, server_ns, postmaster_ns;
	struct err err = {0};
	struct seen s;
	struct discover *d = begin(&s);
	pid_t pid;

	if (!d)
		return;
	if (discover_watch(d, &err)) {
		test_skip(err.text);
		discover_free(d);
		return;
	}
	CHECK_INT(discover_scan(d, note, &s), 0);
	for (unsigned round = 0; round < 3; round++) {
		struct stat lock;
		char path[PATH_MAX + 32];

		memset(s.cnt, 0, sizeof(s.cnt));
		s.pm.ready = false;
		started_ns = clock_mono_ns();
		pid = start_server(copy);
		CHECK(wait_for(d, &s, DISCOVER_POSTMASTER_NEW, 1, 5000));
		server_ns = s.at_ns[DISCOVER_SERVER_NEW] - started_ns;
		postmaster_ns = s.at_ns[DISCOVER_POSTMASTER_NEW] - started_ns;
		snprintf(path, sizeof(path), "%s/postmaster.pid", data);
		CHECK(!stat(path, &lock));
		printf("from fork: server known after %.1f ms, postmaster after %.1f ms\n",
		       (double)server_ns / NS_PER_MS, (double)postmaster_ns / NS_PER_MS);
		CHECK_MSG(server_ns < 200 * NS_PER_MS, "server known after %.1f ms",
			  (double)server_ns / NS_PER_MS);
		CHECK_MSG(postmaster_ns < 500 * NS_PER_MS, "postmaster known after %.1f ms",
			  (double)postmaster_ns / NS_PER_MS);
		CHECK(wait_ready(d, &s));
		check_postmaster(&s, pid);
		stop_server(pid);
		CHECK(wait_for(d, &s, DISCOVER_POSTMASTER_GONE, 1, 10000));
		CHECK(wait_for(d, &s, DISCOVER_SERVER_GONE, 1, 10000));
	}
	CHECK_INT(discover_stats(d).over_limit, 0);
	discover_free(d);
}

/* Execs that have nothing to do with a server cost checks, not scans, and are not reported. */
static void test_storm(void)
{
	char *const argv[] = {"/bin/true", NULL};
	struct discover_stats before, after;
	struct seen s;
	struct discover *d = begin(&s);
	uint64_t start;
	unsigned polls = 0;

	if (!d)
		return;
	if (discover_watch(d, NULL)) {
		test_skip("the kernel gives no exec records");
		discover_free(d);
		return;
	}
	CHECK_INT(discover_scan(d, note, &s), 0);
	before = discover_stats(d);
	start = clock_mono_ns();
	for (unsigned i = 0; i < 100; i++) {
		struct pollfd p = {.fd = discover_fd(d), .events = POLLIN};

		CHECK_INT(run_as_owner(argv), 0);
		if (poll(&p, 1, 0) > 0) {
			CHECK_INT(discover_poll(d, note, &s), 0);
			polls++;
		}
	}
	usleep(50000);
	CHECK_INT(discover_poll(d, note, &s), 0);
	after = discover_stats(d);
	CHECK_MSG(after.checks - before.checks >= 100 || after.scans > before.scans,
		  "only %llu of 100 execs seen",
		  (unsigned long long)(after.checks - before.checks));
	CHECK_MSG(polls <= 4 + 2 * (clock_mono_ns() - start) / (DISCOVER_TICK_MS * NS_PER_MS),
		  "%u reactions: not rate limited", polls);
	for (unsigned i = 0; i < DISCOVER_EVENT_MAX; i++)
		CHECK_INT(s.cnt[i], 0);
	discover_free(d);
}

/* A single-user backend holds the data directory's lock with a negative pid: a server, and no
 * postmaster. */
static void test_single_user(void)
{
	char *const argv[] = {copy, "--single", "-D", data, "template1", NULL};
	struct seen s;
	struct discover *d = begin(&s);
	int fds[2];
	pid_t pid;

	if (!d)
		return;
	CHECK(!pipe2(fds, O_CLOEXEC));
	pid = spawn_as_owner(argv, fds[0]);
	for (unsigned i = 0; i < 20; i++) {
		usleep(50000);
		CHECK_INT(discover_scan(d, note, &s), 0);
	}
	CHECK_INT(s.cnt[DISCOVER_SERVER_NEW], 1);
	CHECK_INT(s.cnt[DISCOVER_POSTMASTER_NEW], 0);
	close(fds[0]);
	close(fds[1]);
	waitpid(pid, NULL, 0);
	discover_free(d);
}

/* A container in small: own mounts and own pids, with the data directory where only the server sees
 * it. */
static pid_t start_in_container(const char *inner)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	if (unshare(CLONE_NEWNS | CLONE_NEWPID) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount(data, inner, NULL, MS_BIND, NULL))
		_exit(125);
	snprintf(data, sizeof(data), "%s", inner);
	pid = start_server(copy);
	waitpid(pid, NULL, 0);
	_exit(0);
}

static void test_container(void)
{
	char inner[PATH_MAX], lock[PATH_MAX + 32];
	struct seen s;
	struct discover *d = begin(&s);
	pid_t outer;
	int status;

	if (!d)
		return;
	snprintf(inner, sizeof(inner), "%s/inner", work);
	snprintf(lock, sizeof(lock), "%s/postmaster.pid", inner);
	CHECK(!mkdir(inner, 0700) && !chown(inner, owner.pw_uid, owner.pw_gid));
	outer = start_in_container(inner);
	for (unsigned i = 0; i < 100 && !s.pm.ready && !waitpid(outer, &status, WNOHANG); i++) {
		usleep(50000);
		CHECK_INT(discover_scan(d, note, &s), 0);
	}
	if (!s.pm.pid && WIFEXITED(status) && WEXITSTATUS(status) == 125) {
		test_skip("this kernel lets nobody make namespaces");
	} else {
		CHECK(s.pm.ready);
		CHECK_STR(s.pm.data_dir, inner);
		CHECK_INT(s.pm.port, PG_PORT);
		CHECK_INT(s.pm.ns_pid, 1);
		CHECK_MSG(s.pm.pid > 1, "pid %d", s.pm.pid);
		CHECK_MSG(access(lock, F_OK) && errno == ENOENT,
			  "the lock file is visible from outside");
		kill(s.pm.pid, SIGINT);
		waitpid(outer, NULL, 0);
		CHECK_INT(discover_scan(d, note, &s), 0);
		CHECK_INT(s.cnt[DISCOVER_POSTMASTER_GONE], 1);
	}
	rmdir(inner);
	discover_free(d);
}

/* A process that stopped right behind its exec, so that nothing of the program runs. */
static pid_t start_stopped(const char *dir)
{
	char path[PATH_MAX + 16];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/postgres", dir);
	pid = fork();
	if (pid) {
		waitpid(pid, NULL, WUNTRACED);
		return pid;
	}
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	execl(path, path, (char *)NULL);
	_exit(127);
}

static void end_stopped(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* Two overlay mounts of one image are one file to a uprobe, so they must be one server. */
static void test_overlay(void)
{
	char dirs[4][PATH_MAX], file[PATH_MAX + 16], options[3 * PATH_MAX];
	static const char *const names[] = {"image", "empty", "overlay1", "overlay2"};
	struct seen s;
	struct discover *d = begin(&s);
	bool mounted = true;
	pid_t pids[2];

	if (!d)
		return;
	for (unsigned i = 0; i < 4; i++) {
		snprintf(dirs[i], sizeof(dirs[i]), "%s/%s", work, names[i]);
		CHECK(!mkdir(dirs[i], 0755));
	}
	snprintf(file, sizeof(file), "%s/postgres", dirs[0]);
	CHECK(!link(copy, file));
	snprintf(options, sizeof(options), "lowerdir=%s:%s", dirs[0], dirs[1]);
	for (unsigned i = 2; i < 4; i++)
		mounted = mounted && !mount("overlay", dirs[i], "overlay", MS_RDONLY, options);
	if (!mounted) {
		test_skip("overlay mounts are not possible here");
	} else {
		for (unsigned i = 0; i < 2; i++)
			pids[i] = start_stopped(dirs[i + 2]);
		CHECK_INT(discover_scan(d, note, &s), 0);
		CHECK_INT(s.cnt[DISCOVER_SERVER_NEW], 1);
		CHECK_INT(s.cnt[DISCOVER_POSTMASTER_NEW], 0);
		end_stopped(pids[0]);
		CHECK_INT(discover_scan(d, note, &s), 0);
		CHECK_INT(s.cnt[DISCOVER_SERVER_GONE], 0);
		end_stopped(pids[1]);
		CHECK_INT(discover_scan(d, note, &s), 0);
		CHECK_INT(s.cnt[DISCOVER_SERVER_GONE], 1);
		CHECK_INT(s.cnt[DISCOVER_SERVER_NEW], 1);
	}
	unlink(file);
	for (unsigned i = 0; i < 4; i++) {
		umount2(dirs[i], MNT_DETACH);
		rmdir(dirs[i]);
	}
	discover_free(d);
}

static const struct test_case cases[] = {
    {"scan", test_scan},	   {"watch", test_watch},
    {"storm", test_storm},	   {"single_user", test_single_user},
    {"container", test_container}, {"overlay", test_overlay},
};

int main(int argc, char **argv)
{
	int ret;

	skip_reason = prepare();
	ret = test_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
	nftw(work, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return ret;
}
