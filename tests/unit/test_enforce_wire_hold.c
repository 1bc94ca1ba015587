// SPDX-License-Identifier: Apache-2.0
/* Decisions about statements held on the wire: one wins, and only while the statement is held. */
#include "enforce/wire_hold.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/test.h"
#include "core/clock.h"
#include "enforce/deadman.h"

static struct dbf_wire_hold *slots;

static void reset(void)
{
	free(slots);
	slots = calloc(DBF_WIRE_HOLD_SLOTS, sizeof(*slots));
}

static void hold(unsigned at, uint32_t seq, bool closed, uint64_t deadline)
{
	slots[at].state = DBF_STATE(seq, DBF_WIRE_HOLD);
	slots[at].fail_closed = closed;
	slots[at].deadline_ns = deadline;
}

static const char *name_of(const struct dbf_wire_hold *slot)
{
	return slot->name[DBF_WIRE_NAME_OF(slot->state)];
}

static void test_first_wins(void)
{
	reset();
	hold(3, 9, true, 0);
	CHECK_INT(wire_hold_end(slots, 3, 8, DBF_WIRE_ALLOW, NULL, DBF_BY_KEEPER), -EALREADY);
	CHECK_INT(wire_hold_end(slots, 3, 9, DBF_WIRE_REWRITE, "r", DBF_BY_KEEPER), 0);
	CHECK_INT(wire_hold_end(slots, 3, 9, DBF_WIRE_ALLOW, "other", DBF_BY_KEEPER), -EALREADY);
	CHECK(slots[3].state == DBF_WIRE_STATE(9, DBF_BY_KEEPER, DBF_WIRE_REWRITE));
	CHECK_STR(name_of(&slots[3]), "r"); /* a packet may be being rewritten with it */
	CHECK(wire_hold_decided_ns(&slots[3]) != 0);
}

static void test_refuses(void)
{
	reset();
	hold(0, 0, true, 0);
	CHECK_INT(wire_hold_end(slots, DBF_WIRE_HOLD_SLOTS, 0, DBF_WIRE_ALLOW, NULL, DBF_BY_KEEPER), -EINVAL);
	CHECK_INT(wire_hold_end(slots, 0, 0, DBF_WIRE_FREE, NULL, DBF_BY_KEEPER), -EINVAL);
	CHECK_INT(wire_hold_end(slots, 0, 0, DBF_WIRE_ABANDONED, NULL, DBF_BY_KEEPER), -EINVAL);
	CHECK_INT(wire_hold_end(slots, 1, 0, DBF_WIRE_ALLOW, NULL, DBF_BY_KEEPER), -EALREADY);
	CHECK(slots[0].state == DBF_STATE(0, DBF_WIRE_HOLD));
}

/* What the client's error and the server's log will show is a word, whatever the rule is called. */
static void test_name(void)
{
	static const struct { const char *given, *want; } names[] = {
		{ "no-destructive-ddl", "no_destructive_ddl" },
		{ "a'; DROP TABLE t; --", "a___DROP_TABLE_t____" },
		{ "n\xc3\xa4me", "n__me" },
		{ "0123456789012345678901234567890123456789", "0123456789012345678901234567890" },
		{ "", "" },
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		reset();
		hold(0, 1, true, 0);
		CHECK_INT(wire_hold_end(slots, 0, 1, DBF_WIRE_KILL, names[i].given, DBF_BY_KEEPER), 0);
		CHECK_STR(name_of(&slots[0]), names[i].want);
		CHECK_INT(slots[0].name_len[DBF_WIRE_NAME_JUDGED], strlen(names[i].want));
	}
}

static void test_overdue(void)
{
	unsigned held;

	reset();
	hold(0, 1, true, 100);
	hold(1, 2, false, 100);
	hold(2, 3, true, 300);
	slots[3].state = DBF_STATE(4, DBF_WIRE_ABANDONED);
	CHECK_INT(wire_hold_end_overdue(slots, DBF_WIRE_HOLD_SLOTS, 200, DBF_BY_DEADMAN, &held), 2);
	CHECK_INT(held, 1);
	CHECK_INT(wire_hold_count(slots, DBF_WIRE_HOLD_SLOTS), 4); /* what is decided is not done yet */
	CHECK(slots[0].state == DBF_WIRE_STATE(1, DBF_BY_DEADMAN, DBF_WIRE_REWRITE));
	CHECK(slots[1].state == DBF_WIRE_STATE(2, DBF_BY_DEADMAN, DBF_WIRE_ALLOW));
	CHECK(slots[2].state == DBF_STATE(3, DBF_WIRE_HOLD));
	CHECK(slots[3].state == DBF_STATE(4, DBF_WIRE_ABANDONED));
	CHECK_INT(wire_hold_end_overdue(slots, DBF_WIRE_HOLD_SLOTS, 200, DBF_BY_DEADMAN, &held), 0);
}

/* The keeper is gone; nobody is left but the dead-man, which stays until the last hold is over. */
static void test_deadman(void)
{
	struct dbf_vitals *vitals = calloc(1, sizeof(*vitals));
	struct dbf_hold_slot *stopped = calloc(DBF_HOLD_SLOTS, sizeof(*stopped));
	uint64_t start = clock_mono_ns();
	int keeper[2];

	reset();
	hold(7, 1, true, start + 1500 * NS_PER_MS);
	hold(8, 1, false, 0);
	if (CHECK(!pipe(keeper))) {
		struct deadman d = { vitals, stopped, slots, keeper[0] };

		close(keeper[1]);
		CHECK_INT(deadman_run(&d), 0);
		close(keeper[0]);
	}
	CHECK(clock_mono_ns() - start >= 1500 * NS_PER_MS);
	CHECK(slots[7].state == DBF_WIRE_STATE(1, DBF_BY_DEADMAN, DBF_WIRE_REWRITE));
	CHECK(wire_hold_decided_ns(&slots[7]) < start + 1600 * NS_PER_MS);
	CHECK(slots[8].state == DBF_WIRE_STATE(1, DBF_BY_DEADMAN, DBF_WIRE_ALLOW));
	free(vitals);
	free(stopped);
}

static bool writing;

/* The dead-man, again and again; and the program, which gives the next statement its own name. */
static void *decide_all(void *arg)
{
	unsigned held;

	(void)arg;
	while (__atomic_load_n(&writing, __ATOMIC_RELAXED))
		wire_hold_end_overdue(slots, 1, UINT64_MAX, DBF_BY_DEADMAN, &held);
	return NULL;
}

/*
 * Two want to decide at once: the name, the time and the word are always one's. The times of who lost lie beside.
 */
static void test_race(void)
{
	unsigned won[DBF_BY_MAX] = { 0 };
	pthread_t thread;

	reset();
	writing = true;
	if (!CHECK(!pthread_create(&thread, NULL, decide_all, NULL)))
		return;
	for (uint32_t seq = 1; seq <= 200000; seq++) {
		struct dbf_wire_hold *slot = &slots[0];
		uint64_t word, begun = clock_mono_ns();
		char rule[16];
		int rc;

		snprintf(slot->name[DBF_WIRE_NAME_SEEN], DBF_WIRE_NAME_BYTES, "seen_%u", seq);
		snprintf(rule, sizeof(rule), "rule_%u", seq);
		slot->fail_closed = true;
		__atomic_store_n(&slot->state, DBF_STATE(seq, DBF_WIRE_HOLD), __ATOMIC_SEQ_CST);
		rc = wire_hold_end(slots, 0, seq, DBF_WIRE_KILL, rule, DBF_BY_KEEPER);
		word = __atomic_load_n(&slot->state, __ATOMIC_SEQ_CST);
		won[DBF_WIRE_BY(word) % DBF_BY_MAX]++;
		if (word != (rc ? DBF_WIRE_STATE(seq, DBF_BY_DEADMAN, DBF_WIRE_REWRITE) :
				  DBF_WIRE_STATE(seq, DBF_BY_KEEPER, DBF_WIRE_KILL)) ||
		    strcmp(name_of(slot), rc ? slot->name[DBF_WIRE_NAME_SEEN] : rule) ||
		    strcmp(strchr(name_of(slot), '_'), strchr(rule, '_')) || wire_hold_decided_ns(slot) < begun) {
			CHECK_MSG(0, "%u: %llx by %u, named %s", seq, (unsigned long long)word, DBF_WIRE_BY(word),
				  name_of(slot));
			break;
		}
	}
	writing = false;
	pthread_join(thread, NULL);
	CHECK_MSG(won[DBF_BY_KEEPER] && won[DBF_BY_DEADMAN], "%u by the keeper, %u by the dead-man", won[DBF_BY_KEEPER],
		  won[DBF_BY_DEADMAN]);
}

/* One statement after the other in slot 0, as the programs do it: every field has the sequence number. */
static void *write_slots(void *arg)
{
	struct dbf_wire_hold *slot = arg;

	for (uint32_t seq = 1; __atomic_load_n(&writing, __ATOMIC_RELAXED); seq++) {
		__atomic_store_n(&slot->state, DBF_STATE(seq, DBF_WIRE_CLAIMED), __ATOMIC_SEQ_CST);
		__atomic_store_n(&slot->cookie, seq, __ATOMIC_SEQ_CST);
		__atomic_store_n(&slot->pid, seq, __ATOMIC_SEQ_CST);
		__atomic_store_n(&slot->bound_if, seq, __ATOMIC_SEQ_CST);
		__atomic_store_n(&slot->state, DBF_STATE(seq, DBF_WIRE_HOLD), __ATOMIC_SEQ_CST);
		__atomic_store_n(&slot->state, DBF_STATE(seq + 1, DBF_WIRE_FREE), __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* What is read is never half of one statement and half of the next: a socket would be ended that nothing is against. */
static void test_read(void)
{
	struct dbf_wire_hold copy;
	unsigned whole = 0;
	pthread_t thread;

	reset();
	slots[1].state = DBF_STATE(1, DBF_WIRE_CLAIMED);
	CHECK(!wire_hold_read(&slots[1], &copy));
	hold(2, 7, true, 9);
	CHECK(wire_hold_read(&slots[2], &copy) && copy.deadline_ns == 9 && copy.state == DBF_STATE(7, DBF_WIRE_HOLD));
	writing = true;
	if (!CHECK(!pthread_create(&thread, NULL, write_slots, &slots[0])))
		return;
	for (unsigned i = 0; i < 200000 || (!whole && i < 50000000); i++) {
		if (!wire_hold_read(&slots[0], &copy) || DBF_STATE_OF(copy.state) != DBF_WIRE_HOLD)
			continue;
		whole++;
		if (!CHECK(copy.cookie == DBF_STATE_SEQ(copy.state) && copy.pid == copy.cookie && copy.bound_if == copy.pid))
			break;
	}
	__atomic_store_n(&writing, false, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	CHECK(whole);
}

static void test_names_of_states(void)
{
	CHECK_STR(wire_hold_state_name(DBF_WIRE_HOLD), "held");
	CHECK_STR(wire_hold_state_name(DBF_WIRE_ABANDONED), "abandoned");
	CHECK_STR(wire_hold_state_name(DBF_WIRE_STATE_MAX), "");
	free(slots);
	slots = NULL;
}

static const struct test_case cases[] = {
	{ "first_wins", test_first_wins }, { "refuses", test_refuses }, { "race", test_race },
	{ "name", test_name },		   { "overdue", test_overdue },
	{ "deadman", test_deadman }, { "read", test_read },
	{ "names_of_states", test_names_of_states },
};

TEST_MAIN(cases)
