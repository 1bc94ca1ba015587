/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper's children: started by fork without exec, watched through a pidfd, started again with growing pauses when
 * they end, stopped in order. One struct child per role; it outlives the processes that fill it.
 *
 * Knows nothing of what a child does; the child's main function enters its sandbox itself.
 */
#ifndef DBFENCE_PRIV_CHILD_H
#define DBFENCE_PRIV_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"

/* Pause before a restart: none after a long life, then doubling between these. */
#define CHILD_BACKOFF_MIN_MS 100
#define CHILD_BACKOFF_MAX_MS 30000
/* A child that lived this long is healthy: its next restart is immediate. */
#define CHILD_HEALTHY_MS 60000

/* The child's whole life; its answer, 0 to 255, is the exit status. */
typedef int (*child_main_fn)(void *arg);

struct child {
	const char *name; /* borrowed: constant; "worker" makes the process "dbfence-worker" */
	child_main_fn main_fn;
	void *arg;
	pid_t pid;	     /* 0 while not running */
	int pidfd;	     /* -1 while not running; readable when the process has ended */
	uint64_t started_ns; /* CLOCK_MONOTONIC */
	uint64_t restart_ns; /* not to be started again before; 0: at once */
	unsigned backoff_ms; /* the pause that led to restart_ns */
	uint64_t starts;
	char ended[128]; /* how the last process ended, as a sentence's end: "was killed by SIGSEGV" */
};

/*
 * Let children put their name over argv[0], as far as it has room, so that ps shows it. Optional; once, by main(). The other
 * arguments are left alone.
 */
void child_title_init(char **argv);

/* A child that does not run yet. Allocates nothing; @name and @arg must outlive it. */
void child_init(struct child *child, const char *name, child_main_fn main_fn, void *arg);

/*
 * Start it: in the new process signals are as at program start, the parent's death kills it, its name is set, and
 * main_fn runs. Must be called by the thread that lives as long as the keeper. 0; -EBUSY while it runs; -EAGAIN
 * before its time to restart; or a negative errno.
 */
int child_spawn(struct child *child, struct err *err);

/*
 * Collect it if it has ended. 1 when it has: @child->ended says how, and the pause before the next start is set.
 * 0 while it runs, or does not run at all.
 */
int child_reap(struct child *child);

/* Milliseconds until child_spawn() is allowed; 0: now. */
int child_restart_in_ms(const struct child *child);

/*
 * End it: SIGTERM, @grace_ms of waiting, SIGKILL; and collect it. No pause before the next start. 0 when it went by itself,
 * 1 when it had to be killed, a negative errno when it cannot be waited for.
 */
int child_stop(struct child *child, unsigned grace_ms);

/* What a waitid() code (CLD_EXITED, CLD_KILLED, CLD_DUMPED) and status mean, for people. */
void child_end_text(int code, int status, char *text, size_t cap);

#endif
