/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the sandbox share: run a function in a forked child that has entered a profile. */
#ifndef DBFENCE_TESTS_PRIV_TRIAL_H
#define DBFENCE_TESTS_PRIV_TRIAL_H

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include "priv/sandbox.h"
#include "../lib/test.h"

#define EXIT_NOT_ENTERED 120 /* reserved: the sandbox could not be entered */
#define HANG_SECONDS 20

typedef int (*trial_fn)(void *arg); /* 0: as it must be; anything else says which step was not */

/* How a trial ended: an exit status, or a signal as its negative. */
struct ending {
	int code;
	struct err err; /* what sandbox_enter() said */
};

static const enum sandbox_role roles[] = { SANDBOX_WORKER, SANDBOX_RECORDER, SANDBOX_COMPILER, SANDBOX_DEADMAN };
#define ROLE_CNT (sizeof(roles) / sizeof(roles[0]))

static inline bool need_root(void)
{
	if (geteuid() == 0)
		return true;
	test_skip("needs root");
	return false;
}

static inline bool need_kill(void)
{
	if (!sandbox_relaxed())
		return true;
	test_skip("AddressSanitizer builds log what others kill for");
	return false;
}

static inline int ending_code(pid_t pid)
{
	int status = 0;

	if (waitpid(pid, &status, 0) != pid)
		return -1000;
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* Fork, enter @profile (its filter only unless @whole), run @fn, and report. */
static inline struct ending try_in(const struct sandbox_profile *profile, bool whole, trial_fn fn, void *arg)
{
	struct sandbox_profile p = *profile;
	struct ending ending = { .code = -1000 };
	int keep[SANDBOX_KEEP_MAX], said[2];
	pid_t pid;

	if (!CHECK_INT(pipe(said), 0))
		return ending;
	pid = fork();
	if (pid == 0) {
		struct err err = { "" };
		size_t cnt = 0;
		int code;

		alarm(HANG_SECONDS);
		for (; cnt < p.keep_cnt && cnt < SANDBOX_KEEP_MAX - 2; cnt++)
			keep[cnt] = p.keep_fds[cnt];
		keep[cnt++] = said[1];
		keep[cnt++] = STDERR_FILENO;
		p.keep_fds = keep;
		p.keep_cnt = cnt;
		code = whole ? sandbox_enter(&p, &err) : sandbox_filter(&p, &err);
		if (write(said[1], err.text, strlen(err.text)) < 0 || code)
			_exit(EXIT_NOT_ENTERED);
		close(said[1]);
		_exit(fn(arg));
	}
	close(said[1]);
	if (read(said[0], ending.err.text, sizeof(ending.err.text) - 1) < 0)
		CHECK(!"the trial's pipe can be read");
	close(said[0]);
	ending.code = ending_code(pid);
	CHECK_MSG(ending.code != EXIT_NOT_ENTERED, "not entered: %s", ending.err.text);
	return ending;
}

static inline void expect(enum sandbox_role role, bool whole, trial_fn fn, void *arg, int want, const char *what)
{
	struct sandbox_profile profile = sandbox_profile_get(role);
	struct ending got = try_in(&profile, whole, fn, arg);

	CHECK_MSG(got.code == want, "%s, %s: ended with %d, expected %d", sandbox_role_name(role), what, got.code, want);
}

/* A thread that is started before the sandbox, waits for a byte, and tries what only an unfiltered one can. */
static int thread_go[2];

static inline void *thread_uses_socket(void *arg)
{
	char byte;

	(void)arg;
	if (read(thread_go[0], &byte, 1) == 1 && socket(AF_INET, SOCK_STREAM, 0) >= 0)
		_exit(2);
	_exit(1);
}

#endif
