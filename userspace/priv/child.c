// SPDX-License-Identifier: Apache-2.0
#include "priv/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "priv/sandbox.h"

#define CHILD_EXIT_BAD_START 125

static char *title_start;
static size_t title_cap;

void child_title_init(char **argv)
{
	if (!argv[0])
		return;
	title_start = argv[0];
	title_cap = strlen(argv[0]);
}

static void set_title(const char *name)
{
	char title[64];
	size_t len;

	snprintf(title, sizeof(title), "dbfence-%s", name);
	prctl(PR_SET_NAME, title); /* cut to 15 bytes by the kernel */
	if (!title_cap)
		return;
	len = strlen(title) < title_cap ? strlen(title) : title_cap;
	memset(title_start, ' ', title_cap);
	memcpy(title_start, title, len);
}

void child_init(struct child *child, const char *name, child_main_fn main_fn, void *arg)
{
	*child = (struct child){ .name = name, .main_fn = main_fn, .arg = arg, .pidfd = -1 };
}

/* The keeper's handlers and blocked signals are not the child's. */
static void reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL); /* fails for those that cannot be changed, which is fine */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void __attribute__((noreturn)) run_child(const struct child *child, pid_t parent)
{
	reset_signals();
	set_title(child->name);
	if (sandbox_bind_parent(parent, NULL))
		_exit(CHILD_EXIT_BAD_START);
	_exit(child->main_fn(child->arg) & 0xff);
}

int child_spawn(struct child *child, struct err *err)
{
	pid_t parent = getpid(), pid;
	int code;

	if (child->pid)
		return err_set(err, -EBUSY, "the %s runs already", child->name);
	if (child_restart_in_ms(child) > 0)
		return err_set(err, -EAGAIN, "the %s is started again in %d ms", child->name,
			       child_restart_in_ms(child));
	/* Buffered output would be written by both. */
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		run_child(child, parent);
	if (pid < 0) {
		code = -errno;
		return err_set(err, code, "the %s cannot be started: %s", child->name, strerror(-code));
	}
	/* Nobody else collects our children, so the pid still means this one. */
	child->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (child->pidfd < 0) {
		code = -errno;
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return err_set(err, code, "the %s cannot be watched: %s", child->name, strerror(-code));
	}
	child->pid = pid;
	child->started_ns = clock_mono_ns();
	child->starts++;
	return 0;
}

void child_end_text(int code, int status, char *text, size_t cap)
{
	const char *name;

	if (code == CLD_EXITED) {
		snprintf(text, cap, "exited with status %d", status);
		return;
	}
	name = sigabbrev_np(status);
	if (status == SIGSYS)
		snprintf(text, cap, "was killed by SIGSYS: it made a system call that its sandbox forbids");
	else if (name)
		snprintf(text, cap, "was killed by SIG%s%s", name, code == CLD_DUMPED ? " and left a core" : "");
	else
		snprintf(text, cap, "was killed by signal %d", status);
}

static void plan_restart(struct child *child)
{
	uint64_t now = clock_mono_ns();

	if (now - child->started_ns >= CHILD_HEALTHY_MS * NS_PER_MS) {
		child->backoff_ms = 0;
		child->restart_ns = 0;
		return;
	}
	child->backoff_ms = child->backoff_ms ? child->backoff_ms * 2 : CHILD_BACKOFF_MIN_MS;
	if (child->backoff_ms > CHILD_BACKOFF_MAX_MS)
		child->backoff_ms = CHILD_BACKOFF_MAX_MS;
	child->restart_ns = now + child->backoff_ms * NS_PER_MS;
}

/* 1 collected, 0 still running, or a negative errno. */
static int collect(struct child *child, int options)
{
	siginfo_t info;
	int rc;

	memset(&info, 0, sizeof(info));
	do {
		rc = waitid(P_PIDFD, (id_t)child->pidfd, &info, WEXITED | options);
	} while (rc && errno == EINTR);
	if (rc && errno != ECHILD)
		return -errno;
	if (!rc && info.si_pid == 0)
		return 0;
	if (rc)
		snprintf(child->ended, sizeof(child->ended), "was collected by somebody else");
	else
		child_end_text(info.si_code, info.si_status, child->ended, sizeof(child->ended));
	close(child->pidfd);
	child->pidfd = -1;
	child->pid = 0;
	return 1;
}

int child_reap(struct child *child)
{
	if (!child->pid || collect(child, WNOHANG) != 1)
		return 0;
	plan_restart(child);
	return 1;
}

int child_restart_in_ms(const struct child *child)
{
	uint64_t now = clock_mono_ns();

	if (child->restart_ns <= now)
		return 0;
	return (int)((child->restart_ns - now + NS_PER_MS - 1) / NS_PER_MS);
}

/* True when the process has ended within @ms. */
static bool ended_within(const struct child *child, unsigned ms)
{
	uint64_t end = clock_mono_ns() + ms * NS_PER_MS;

	for (;;) {
		struct pollfd p = { .fd = child->pidfd, .events = POLLIN };
		uint64_t now = clock_mono_ns();
		int left = now < end ? (int)((end - now + NS_PER_MS - 1) / NS_PER_MS) : 0;
		int rc = poll(&p, 1, left);

		if (rc > 0)
			return true;
		if (rc == 0 || errno != EINTR)
			return false;
	}
}

int child_stop(struct child *child, unsigned grace_ms)
{
	int killed = 0, code;

	child->restart_ns = 0;
	child->backoff_ms = 0;
	if (!child->pid)
		return 0;
	/* A process that has ended already makes these fail; it is collected below. */
	syscall(SYS_pidfd_send_signal, child->pidfd, SIGTERM, NULL, 0);
	if (!ended_within(child, grace_ms)) {
		syscall(SYS_pidfd_send_signal, child->pidfd, SIGKILL, NULL, 0);
		killed = 1;
	}
	code = collect(child, 0);
	return code < 0 ? code : killed;
}
