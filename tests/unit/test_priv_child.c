// SPDX-License-Identifier: Apache-2.0
/* priv/child: start, watch, restart, stop, and that children do not outlive the one that started them. */
#include "priv/child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "../lib/test.h"

#define WAIT_MS 10000

static int main_exit(void *arg)
{
	return *(int *)arg;
}

static int main_wait(void *arg)
{
	(void)arg;
	alarm(2 * WAIT_MS / 1000); /* a test that fails leaves nobody behind */
	while (pause() < 0)
		continue;
	return 0;
}

static int main_stubborn(void *arg)
{
	signal(SIGTERM, SIG_IGN);
	if (write(*(int *)arg, "r", 1) != 1)
		return 1;
	return main_wait(NULL);
}

static int main_raise(void *arg)
{
	return raise(*(int *)arg);
}

/* 0 when signals are as at program start and the name is set. */
static int main_inspect(void *arg)
{
	struct sigaction action;
	char name[16] = "";
	sigset_t blocked;

	(void)arg;
	sigprocmask(SIG_SETMASK, NULL, &blocked);
	if (sigismember(&blocked, SIGUSR1) || sigaction(SIGTERM, NULL, &action) || action.sa_handler != SIG_DFL)
		return 1;
	if (sigaction(SIGPIPE, NULL, &action) || action.sa_handler != SIG_IGN)
		return 3;
	if (prctl(PR_GET_NAME, name) || strcmp(name, "dbfence-inspect"))
		return 2;
	return 0;
}

static void wait_end(const struct child *child)
{
	struct pollfd p = { .fd = child->pidfd, .events = POLLIN };

	CHECK_INT(poll(&p, 1, WAIT_MS), 1);
}

static void run_to_end(child_main_fn main_fn, void *arg, const char *name, const char *ended)
{
	struct child child;
	struct err err = { "" };

	child_init(&child, name, main_fn, arg);
	if (!CHECK_MSG(child_spawn(&child, &err) == 0, "%s", err.text))
		return;
	CHECK_INT(child_spawn(&child, &err), -EBUSY);
	wait_end(&child);
	CHECK_INT(child_reap(&child), 1);
	CHECK_STR(child.ended, ended);
	CHECK_INT(child.pid, 0);
	CHECK_INT(child.pidfd, -1);
	CHECK_INT(child_reap(&child), 0);
}

static void test_endings(void)
{
	int status = 3, sigkill = SIGKILL, sigusr = SIGUSR2;

	run_to_end(main_exit, &status, "exit", "exited with status 3");
	run_to_end(main_raise, &sigkill, "raise", "was killed by SIGKILL");
	run_to_end(main_raise, &sigusr, "raise", "was killed by SIGUSR2");
}

static void test_end_texts(void)
{
	static const struct {
		int code, status;
		const char *want;
	} texts[] = {
		{ CLD_EXITED, 0, "exited with status 0" },
		{ CLD_KILLED, SIGSYS, "was killed by SIGSYS: it made a system call that its sandbox forbids" },
		{ CLD_DUMPED, SIGSEGV, "was killed by SIGSEGV and left a core" },
		{ CLD_KILLED, 4000, "was killed by signal 4000" },
	};
	char text[128];

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		child_end_text(texts[i].code, texts[i].status, text, sizeof(text));
		CHECK_STR(text, texts[i].want);
	}
}

static void on_signal(int sig)
{
	(void)sig;
}

static void test_child_starts_clean(void)
{
	sigset_t usr1, old;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, &old);
	signal(SIGTERM, on_signal);
	run_to_end(main_inspect, NULL, "inspect", "exited with status 0");
	signal(SIGTERM, SIG_DFL);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

static void test_backoff(void)
{
	static const unsigned pauses[] = { 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000 };
	struct child child;
	struct err err = { "" };
	int status = 1;

	child_init(&child, "backoff", main_exit, &status);
	CHECK_INT(child_restart_in_ms(&child), 0);
	for (size_t i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++) {
		child.restart_ns = 0; /* as if the pause were over */
		if (!CHECK_INT(child_spawn(&child, &err), 0))
			return;
		wait_end(&child);
		CHECK_INT(child_reap(&child), 1);
		CHECK_INT(child.backoff_ms, pauses[i]);
		CHECK(child_restart_in_ms(&child) > 0 && child_restart_in_ms(&child) <= (int)pauses[i]);
		CHECK_INT(child_spawn(&child, &err), -EAGAIN);
	}
	CHECK_INT(child.starts, sizeof(pauses) / sizeof(pauses[0]));
	/* A long life forgives. */
	child.restart_ns = 0;
	if (!CHECK_INT(child_spawn(&child, &err), 0))
		return;
	child.started_ns -= CHILD_HEALTHY_MS * NS_PER_MS;
	wait_end(&child);
	CHECK_INT(child_reap(&child), 1);
	CHECK_INT(child_restart_in_ms(&child), 0);
	CHECK_INT(child.backoff_ms, 0);
}

static void test_stop(void)
{
	struct child polite, stubborn, ended;
	struct err err = { "" };
	int tube[2], status = 4;
	char byte;

	if (!CHECK_INT(pipe(tube), 0))
		return;
	child_init(&polite, "polite", main_wait, NULL);
	child_init(&stubborn, "stubborn", main_stubborn, &tube[1]);
	child_init(&ended, "ended", main_exit, &status);
	CHECK_INT(child_stop(&polite, 10), 0); /* not running */
	if (!CHECK_INT(child_spawn(&polite, &err), 0) || !CHECK_INT(child_spawn(&stubborn, &err), 0) ||
	    !CHECK_INT(child_spawn(&ended, &err), 0))
		return;
	CHECK_INT(child_reap(&polite), 0);
	CHECK_INT(read(tube[0], &byte, 1), 1);
	CHECK_INT(child_stop(&polite, WAIT_MS), 0);
	CHECK_STR(polite.ended, "was killed by SIGTERM");
	CHECK_INT(child_stop(&stubborn, 50), 1);
	CHECK_STR(stubborn.ended, "was killed by SIGKILL");
	wait_end(&ended);
	CHECK_INT(child_stop(&ended, 10), 0);
	CHECK_STR(ended.ended, "exited with status 4");
	CHECK_INT(polite.pid, 0);
	CHECK_INT(child_restart_in_ms(&ended), 0);
	close(tube[0]);
	close(tube[1]);
}

static void test_child_dies_with_its_parent(void)
{
	struct child grandchild;
	siginfo_t info = { 0 };
	pid_t keeper, orphan = 0;
	int tube[2];

	if (!CHECK_INT(pipe(tube), 0) || !CHECK_INT(prctl(PR_SET_CHILD_SUBREAPER, 1), 0))
		return;
	keeper = fork();
	if (keeper == 0) {
		child_init(&grandchild, "orphan", main_wait, NULL);
		if (child_spawn(&grandchild, NULL) || write(tube[1], &grandchild.pid, sizeof(pid_t)) != sizeof(pid_t))
			_exit(1);
		_exit(0);
	}
	CHECK_INT(read(tube[0], &orphan, sizeof(orphan)), sizeof(orphan));
	CHECK_INT(waitpid(keeper, NULL, 0), keeper);
	alarm(WAIT_MS / 1000); /* an orphan that lives for ever must fail the test, not hang it */
	CHECK_INT(waitid(P_PID, (id_t)orphan, &info, WEXITED), 0);
	alarm(0);
	/* 125: the parent was gone before the child could ask to die with it, and the child noticed. */
	CHECK_MSG((info.si_code == CLD_KILLED && info.si_status == SIGKILL) ||
			  (info.si_code == CLD_EXITED && info.si_status == 125),
		  "the orphan ended with code %d, status %d", info.si_code, info.si_status);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	close(tube[0]);
	close(tube[1]);
}

static const struct test_case cases[] = {
	{ "endings", test_endings },
	{ "end_texts", test_end_texts },
	{ "child_starts_clean", test_child_starts_clean },
	{ "backoff", test_backoff },
	{ "stop", test_stop },
	{ "child_dies_with_its_parent", test_child_dies_with_its_parent },
};
TEST_MAIN(cases)
