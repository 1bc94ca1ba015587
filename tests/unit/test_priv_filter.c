// SPDX-License-Identifier: Apache-2.0
/*
 * priv/sandbox_rules and the limits: what each role's filter kills for, refuses, and lets pass. Needs no root; where there is
 * root, the worker's ordinary life is tried in the whole sandbox too.
 */
#include "priv_trial.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "priv/chan.h"

/* --- what ends the process ------------------------------------------------------------------------------ */

static int try_socket(void *arg)
{
	(void)arg;
	return socket(AF_INET, SOCK_STREAM, 0) < 0 ? 1 : 2;
}

static int try_kill(void *arg)
{
	(void)arg;
	return kill(getpid(), 0) ? 1 : 2;
}

static int try_bpf(void *arg)
{
	(void)arg;
	return syscall(SYS_bpf, 0, NULL, 0) < 0 ? 1 : 2;
}

static int try_exec(void *arg)
{
	static char *argv[] = { (char *)"true", NULL };

	(void)arg;
	execv("/bin/true", argv);
	return 1;
}

static int try_fork(void *arg)
{
	(void)arg;
	return syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) < 0 ? 1 : 2;
}

static int try_ptrace(void *arg)
{
	(void)arg;
	return syscall(SYS_ptrace, 0, 0, 0, 0) < 0 ? 1 : 2;
}

static int try_setuid(void *arg)
{
	(void)arg;
	return setuid(0) ? 1 : 2;
}

static int try_executable_memory(void *arg)
{
	(void)arg;
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? 1 : 2;
}

static int try_make_executable(void *arg)
{
	(void)arg;
	return mprotect(arg, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) ? 1 : 2;
}

static int try_prlimit(void *arg)
{
	struct rlimit wide = { 1, RLIM_INFINITY };

	(void)arg;
	return syscall(SYS_prlimit64, 0, RLIMIT_CORE, &wide, NULL) ? 1 : 2;
}

static int try_pidfd(void *arg)
{
	(void)arg;
	return syscall(SYS_pidfd_open, getpid(), 0) < 0 ? 1 : 2;
}

static const struct {
	const char *what;
	trial_fn fn;
} forbidden[] = {
	{ "socket", try_socket },
	{ "kill", try_kill },
	{ "bpf", try_bpf },
	{ "execve", try_exec },
	{ "fork", try_fork },
	{ "ptrace", try_ptrace },
	{ "setuid", try_setuid },
	{ "executable mmap", try_executable_memory },
	{ "executable mprotect", try_make_executable },
	{ "setting a limit", try_prlimit },
};

static void test_forbidden_calls_kill(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!need_kill())
		return;
	for (size_t i = 0; i < ROLE_CNT; i++) {
		for (size_t j = 0; j < sizeof(forbidden) / sizeof(forbidden[0]); j++)
			expect(roles[i], false, forbidden[j].fn, page, -SIGSYS, forbidden[j].what);
		if (roles[i] != SANDBOX_DEADMAN)
			expect(roles[i], false, try_pidfd, NULL, -SIGSYS, "pidfd_open");
	}
	munmap(page, 4096);
}

static int try_abort(void *arg)
{
	(void)arg;
	abort();
}

static void test_abort_is_seen_as_such(void)
{
	expect(SANDBOX_WORKER, false, try_abort, NULL, -SIGABRT, "abort");
}

static void test_whole_sandbox_kills_too(void)
{
	if (!need_root() || !need_kill())
		return;
	expect(SANDBOX_WORKER, true, try_socket, NULL, -SIGSYS, "socket");
	expect(SANDBOX_WORKER, true, try_kill, NULL, -SIGSYS, "kill");
	expect(SANDBOX_WORKER, true, try_bpf, NULL, -SIGSYS, "bpf");
	expect(SANDBOX_WORKER, true, try_setuid, NULL, -SIGSYS, "setuid");
}

/* --- threads -------------------------------------------------------------------------------------------- */

static void test_earlier_thread_is_filtered(void)
{
	struct sandbox_profile profile = sandbox_profile_get(SANDBOX_WORKER);
	pid_t pid;

	if (!need_kill())
		return;
	pid = fork();
	if (pid == 0) {
		struct err err;
		pthread_t thread;

		alarm(HANG_SECONDS);
		if (pipe(thread_go) || pthread_create(&thread, NULL, thread_uses_socket, NULL) ||
		    sandbox_filter(&profile, &err) || write(thread_go[1], "g", 1) != 1)
			_exit(EXIT_NOT_ENTERED);
		pthread_join(thread, NULL);
		_exit(3);
	}
	CHECK_INT(ending_code(pid), -SIGSYS);
}

static void *thread_nothing(void *arg)
{
	return arg;
}

static int try_clone3(void *arg)
{
	(void)arg;
	/* Its flags cannot be checked, so it does not exist; the C library then uses clone. */
	return syscall(SYS_clone3, NULL, 0) == -1 && errno == ENOSYS ? 0 : 1;
}

static void test_clone3_does_not_exist(void)
{
	expect(SANDBOX_WORKER, false, try_clone3, NULL, 0, "clone3");
	expect(SANDBOX_RECORDER, false, try_clone3, NULL, 0, "clone3");
	expect(SANDBOX_COMPILER, false, try_clone3, NULL, 0, "clone3");
}

static int try_thread(void *arg)
{
	pthread_t thread;

	(void)arg;
	return pthread_create(&thread, NULL, thread_nothing, NULL) == EAGAIN ? 0 : 1;
}

static void test_new_thread_is_an_error_not_death(void)
{
	if (need_root())
		expect(SANDBOX_WORKER, true, try_thread, NULL, 0, "pthread_create");
}

/* --- what must go on working ---------------------------------------------------------------------------- */

static int worker_life(void *arg)
{
	static char buf[CHAN_MAX_PAYLOAD];
	const int *fds = arg; /* epoll, both ends of a channel */
	struct epoll_event event;
	struct chan_msg msg;
	time_t now = time(NULL);
	struct tm tm;
	char *p = malloc(100), byte;

	for (size_t i = 1000; p && i <= 32 << 20; i *= 4) {
		p = realloc(p, i);
		if (p)
			p[i - 1] = 1;
	}
	if (!p)
		return 1;
	free(p);
	if (chan_send(fds[1], 4, "hello", 5, -1) || epoll_wait(fds[0], &event, 1, 1000) != 1)
		return 2;
	if (chan_recv(fds[2], buf, sizeof(buf), &msg) || msg.type != 4 || msg.len != 5)
		return 3;
	if (!localtime_r(&now, &tm) || getrandom(&byte, 1, 0) != 1)
		return 4;
	if (usleep(1000) || sched_yield())
		return 5;
	if (prctl(PR_SET_NAME, "still-me"))
		return 6;
	fprintf(stderr, "%s", "");
	return 0;
}

static int open_fails(void *arg)
{
	(void)arg;
	if (open("/etc/passwd", O_RDONLY) >= 0)
		return 1;
	if (fopen("/etc/passwd", "r"))
		return 2;
	return access("/etc/passwd", F_OK) ? 0 : 3;
}

static void try_worker(bool whole)
{
	struct sandbox_profile profile = sandbox_profile_get(SANDBOX_WORKER);
	struct epoll_event event = { .events = EPOLLIN };
	int keep[3], pair[2];
	struct ending got;

	keep[0] = epoll_create1(EPOLL_CLOEXEC);
	if (!CHECK(keep[0] >= 0) || !CHECK_INT(chan_pair(pair, NULL), 0))
		return;
	keep[1] = pair[0];
	keep[2] = pair[1];
	CHECK_INT(epoll_ctl(keep[0], EPOLL_CTL_ADD, pair[1], &event), 0);
	profile.keep_fds = keep;
	profile.keep_cnt = 3;
	got = try_in(&profile, whole, worker_life, keep);
	CHECK_INT(got.code, 0);
	for (int i = 0; i < 3; i++)
		close(keep[i]);
}

static void test_worker_works(void)
{
	try_worker(false);
	if (geteuid() == 0)
		try_worker(true);
}

static void test_files_cannot_be_opened(void)
{
	expect(SANDBOX_WORKER, false, open_fails, NULL, 0, "open");
	expect(SANDBOX_COMPILER, false, open_fails, NULL, 0, "open");
	expect(SANDBOX_DEADMAN, false, open_fails, NULL, 0, "open");
	if (geteuid() != 0)
		return;
	for (size_t i = 0; i < ROLE_CNT; i++)
		expect(roles[i], true, open_fails, NULL, 0, "open in the whole sandbox");
}

/* --- limits ----------------------------------------------------------------------------------------------- */

static int too_much_memory(void *arg)
{
	const uint64_t *limit = arg;
	void *p = mmap(NULL, *limit, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p != MAP_FAILED || errno != ENOMEM)
		return 1;
	p = mmap(NULL, *limit / 4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return p == MAP_FAILED ? 2 : 0;
}

static void test_memory_limit(void)
{
	if (sandbox_relaxed()) {
		test_skip("AddressSanitizer needs the whole address space");
		return;
	}
	for (size_t i = 0; i < ROLE_CNT; i++) {
		struct sandbox_profile profile = sandbox_profile_get(roles[i]);

		CHECK(profile.limit_as > 0);
		CHECK_INT(try_in(&profile, false, too_much_memory, &profile.limit_as).code, 0);
	}
}

static int no_file_grows(void *arg)
{
	return write(*(int *)arg, "x", 1) == -1 && errno == EFBIG ? 0 : 1;
}

static int descriptors_run_out(void *arg)
{
	uint64_t limit = *(uint64_t *)arg;

	for (uint64_t i = 0; i <= limit; i++) {
		if (fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3) < 0)
			return errno == EMFILE ? 0 : 1;
	}
	return 2;
}

static void test_file_limits(void)
{
	struct sandbox_profile worker = sandbox_profile_get(SANDBOX_WORKER);
	char path[] = "/tmp/test-sandbox-XXXXXX";
	int fd = mkstemp(path);

	if (!CHECK(fd >= 0))
		return;
	unlink(path);
	expect(SANDBOX_COMPILER, false, no_file_grows, &fd, 0, "writing to a file");
	close(fd);
	CHECK_INT(try_in(&worker, false, descriptors_run_out, &worker.limit_nofile).code, 0);
}

static const struct test_case cases[] = {
	{ "forbidden_calls_kill", test_forbidden_calls_kill },
	{ "abort_is_seen_as_such", test_abort_is_seen_as_such },
	{ "whole_sandbox_kills_too", test_whole_sandbox_kills_too },
	{ "earlier_thread_is_filtered", test_earlier_thread_is_filtered },
	{ "clone3_does_not_exist", test_clone3_does_not_exist },
	{ "new_thread_is_an_error_not_death", test_new_thread_is_an_error_not_death },
	{ "worker_works", test_worker_works },
	{ "files_cannot_be_opened", test_files_cannot_be_opened },
	{ "memory_limit", test_memory_limit },
	{ "file_limits", test_file_limits },
};
TEST_MAIN(cases)
