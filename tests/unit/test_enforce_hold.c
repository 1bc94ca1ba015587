// SPDX-License-Identifier: Apache-2.0
/*
 * enforce/hold on real processes: children that stopped themselves, slots in memory. Each child tells by its end what
 * it got: 0 went on, a signal's number otherwise.
 */
#include "../lib/test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "enforce/hold.h"

#define SEQ 3

static struct dbf_hold_slot slots[DBF_HOLD_SLOTS];

/* A child that stands still as a held backend does. */
static pid_t hold(uint32_t index, uint32_t seq, bool fail_closed, uint64_t deadline_ns)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		alarm(30);
		raise(SIGSTOP);
		_exit(0);
	}
	if (!CHECK(pid > 0) || !CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status)))
		return -1;
	slots[index] = (struct dbf_hold_slot){ .state = DBF_STATE(seq, DBF_HOLD_OPEN), .tgid = (uint32_t)pid,
					       .fail_closed = fail_closed, .deadline_ns = deadline_ns,
					       .since_ns = clock_mono_ns() };
	return pid;
}

/* How it ended: 0, or the signal; -1 when it still stands. */
static int end_of(pid_t pid)
{
	int status;

	for (int i = 0; i < 500; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
		usleep(2000);
	}
	return -1;
}

static bool still_stopped(pid_t pid)
{
	siginfo_t info = { 0 };

	usleep(20000);
	return waitid(P_PID, (id_t)pid, &info, WEXITED | WCONTINUED | WNOHANG | WNOWAIT) == 0 && !info.si_pid;
}

static void discard(pid_t pid)
{
	kill(pid, SIGKILL);
	CHECK_INT(end_of(pid), SIGKILL);
}

static void end_one(enum dbf_hold_state to, int want)
{
	uint64_t before = clock_mono_ns();
	pid_t pid = hold(5, SEQ, true, UINT64_MAX);

	CHECK_INT(hold_end(slots, 5, SEQ, to, DBF_BY_KEEPER), 0);
	CHECK_INT(end_of(pid), want);
	CHECK(slots[5].state == DBF_STATE(SEQ, to));
	CHECK_INT(slots[5].resolver, DBF_BY_KEEPER);
	CHECK(slots[5].resolved_ns >= before && slots[5].resolved_ns <= clock_mono_ns());
}

static void test_hold_allow(void)
{
	end_one(DBF_HOLD_ALLOWED, 0);
}

static void test_hold_deny(void)
{
	end_one(DBF_HOLD_DENIED, SIGINT);
}

static void test_hold_kill(void)
{
	end_one(DBF_HOLD_KILLED, SIGTERM);
}

static void test_hold_refused(void)
{
	pid_t pid = hold(0, SEQ, true, UINT64_MAX);

	CHECK_INT(hold_end(slots, DBF_HOLD_SLOTS, SEQ, DBF_HOLD_ALLOWED, DBF_BY_KEEPER), -EINVAL);
	CHECK_INT(hold_end(slots, UINT32_MAX, SEQ, DBF_HOLD_ALLOWED, DBF_BY_KEEPER), -EINVAL);
	/* An answer to an earlier hold in this slot, and to one that is not yet. */
	CHECK_INT(hold_end(slots, 0, SEQ - 1, DBF_HOLD_ALLOWED, DBF_BY_KEEPER), -EALREADY);
	CHECK_INT(hold_end(slots, 0, SEQ + 1, DBF_HOLD_ALLOWED, DBF_BY_KEEPER), -EALREADY);
	for (unsigned st = 0; st < DBF_HOLD_STATE_MAX; st++) {
		if (st == DBF_HOLD_OPEN)
			continue;
		slots[0].state = DBF_STATE(SEQ, st);
		CHECK_INT(hold_end(slots, 0, SEQ, DBF_HOLD_DENIED, DBF_BY_KEEPER), -EALREADY);
		CHECK(slots[0].state == DBF_STATE(SEQ, st));
	}
	CHECK(still_stopped(pid));
	CHECK_INT(slots[0].resolver, 0);
	discard(pid);
}

static void test_hold_twice(void)
{
	pid_t pid = hold(1, SEQ, false, UINT64_MAX);

	CHECK_INT(hold_end(slots, 1, SEQ, DBF_HOLD_ALLOWED, DBF_BY_KEEPER), 0);
	CHECK_INT(hold_end(slots, 1, SEQ, DBF_HOLD_DENIED, DBF_BY_DEADMAN), -EALREADY);
	CHECK_INT(slots[1].resolver, DBF_BY_KEEPER);
	CHECK_INT(end_of(pid), 0);
}

/* A process that is gone: nothing is signalled, the kernel side frees the slot. */
static void test_hold_gone(void)
{
	pid_t pid = hold(2, SEQ, false, UINT64_MAX);

	discard(pid);
	CHECK_INT(hold_end(slots, 2, SEQ, DBF_HOLD_DENIED, DBF_BY_KEEPER), -ESRCH);
	CHECK(slots[2].state == DBF_STATE(SEQ, DBF_HOLD_OPEN));
	slots[2].state = 0;
}

static void test_hold_overdue(void)
{
	uint64_t now = clock_mono_ns();
	pid_t open, closed, later;
	unsigned left;

	memset(slots, 0, sizeof(slots));
	open = hold(0, 7, false, now);
	closed = hold(DBF_HOLD_SLOTS - 1, 8, true, now);
	later = hold(9, 9, true, now + 1000);
	CHECK_INT(hold_end_overdue(slots, DBF_HOLD_SLOTS, now, DBF_BY_DEADMAN, &left), 0);	/* not past it yet */
	CHECK_INT(left, 3);
	CHECK_INT(hold_end_overdue(slots, DBF_HOLD_SLOTS, now + 1, DBF_BY_DEADMAN, &left), 2);
	CHECK_INT(left, 1);
	CHECK_INT(end_of(open), 0);
	CHECK_INT(end_of(closed), SIGINT);
	CHECK_INT(slots[0].resolver, DBF_BY_DEADMAN);
	CHECK(still_stopped(later));
	/* The keeper is late for one and in time for the other. */
	CHECK_INT(hold_end(slots, DBF_HOLD_SLOTS - 1, 8, DBF_HOLD_ALLOWED, DBF_BY_KEEPER), -EALREADY);
	CHECK_INT(hold_end(slots, 9, 9, DBF_HOLD_ALLOWED, DBF_BY_KEEPER), 0);
	CHECK_INT(end_of(later), 0);
	CHECK_INT(hold_end_overdue(slots, DBF_HOLD_SLOTS, UINT64_MAX, DBF_BY_DEADMAN, &left), 0);
	CHECK_INT(left, 0);
}

static void test_hold_release_all(void)
{
	pid_t open, closed;

	memset(slots, 0, sizeof(slots));
	open = hold(3, 1, false, clock_mono_ns() + NS_PER_SEC * 100);
	closed = hold(4, 1, true, clock_mono_ns() + NS_PER_SEC * 100);
	CHECK_INT(hold_release_all(slots, DBF_HOLD_SLOTS, DBF_BY_START), 2);
	CHECK_INT(end_of(open), 0);
	CHECK_INT(end_of(closed), SIGINT);
	CHECK_INT(slots[3].resolver, DBF_BY_START);
	CHECK_INT(hold_release_all(slots, DBF_HOLD_SLOTS, DBF_BY_START), 0);
}

#define RACE_ROUNDS 30

struct racer {
	pthread_barrier_t *barrier;
	enum dbf_hold_state to;
	enum dbf_resolver by;
	int got[RACE_ROUNDS];
};

static void *race(void *arg)
{
	struct racer *r = arg;

	for (uint32_t i = 0; i < RACE_ROUNDS; i++) {
		pthread_barrier_wait(r->barrier);
		r->got[i] = hold_end(slots, i, SEQ, r->to, r->by);
	}
	return NULL;
}

/* Keeper and dead-man at the same moment: exactly one decides, and it is that one's verdict that the process gets. */
static void test_hold_race(void)
{
	pthread_barrier_t barrier;
	struct racer keeper = { .barrier = &barrier, .to = DBF_HOLD_ALLOWED, .by = DBF_BY_KEEPER };
	struct racer deadman = { .barrier = &barrier, .to = DBF_HOLD_DENIED, .by = DBF_BY_DEADMAN };
	pid_t pids[RACE_ROUNDS];
	pthread_t one, other;

	memset(slots, 0, sizeof(slots));
	for (uint32_t i = 0; i < RACE_ROUNDS; i++)
		pids[i] = hold(i, SEQ, true, UINT64_MAX);
	pthread_barrier_init(&barrier, NULL, 2);
	CHECK(!pthread_create(&one, NULL, race, &keeper));
	CHECK(!pthread_create(&other, NULL, race, &deadman));
	pthread_join(one, NULL);
	pthread_join(other, NULL);
	pthread_barrier_destroy(&barrier);
	for (uint32_t i = 0; i < RACE_ROUNDS; i++) {
		bool allowed = keeper.got[i] == 0;

		CHECK_MSG((keeper.got[i] == 0) != (deadman.got[i] == 0), "round %u: %d and %d", i, keeper.got[i],
			  deadman.got[i]);
		/* The loser may find the process gone already. */
		CHECK_INT(end_of(pids[i]), allowed ? 0 : SIGINT);
		CHECK_INT(slots[i].resolver, allowed ? DBF_BY_KEEPER : DBF_BY_DEADMAN);
		CHECK(slots[i].state == DBF_STATE(SEQ, allowed ? DBF_HOLD_ALLOWED : DBF_HOLD_DENIED));
	}
}

static void test_hold_names(void)
{
	CHECK_STR(hold_resolver_name(DBF_BY_KEEPER), "keeper");
	CHECK_STR(hold_resolver_name(DBF_BY_DEADMAN), "dead-man");
	CHECK_STR(hold_resolver_name(DBF_BY_NONE), "");
	CHECK_STR(hold_resolver_name(DBF_BY_MAX), "");
}

static const struct test_case cases[] = {
	{ "hold_allow", test_hold_allow }, { "hold_deny", test_hold_deny }, { "hold_kill", test_hold_kill },
	{ "hold_refused", test_hold_refused }, { "hold_twice", test_hold_twice }, { "hold_gone", test_hold_gone },
	{ "hold_overdue", test_hold_overdue }, { "hold_release_all", test_hold_release_all },
	{ "hold_race", test_hold_race }, { "hold_names", test_hold_names },
};

TEST_MAIN(cases)
