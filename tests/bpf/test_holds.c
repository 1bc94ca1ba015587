// SPDX-License-Identifier: Apache-2.0
/*
 * Beginning and ending holds, without a server and without a daemon: the program is its own server
 * (server.h), and the test is the keeper: it writes the heartbeats, resolves holds and reads the
 * ring. Needs root.
 */
#include "../lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sodium.h>

#include "core/clock.h"
#include "enforce/hold.h"
#include "loader/kernel.h"
#include "loader/pg_memory.h"
#include "source/batch.h"
#include "source/ring.h"
#include "server.h"

#define FOREVER_NS (3600 * NS_PER_SEC)
#define RING_BYTES (1 << 20)

/* --- the kernel side ------------------------------------------------------------------------------------ */

static struct {
	struct kernel *k;
	struct dbf_vitals *v;
	struct dbf_hold_slot *slots;
	char pins[64];
	struct ring *ring;
	struct dbf_config config;
	uint64_t before[DBF_COUNT_MAX];
} t;

static struct dbf_screen screen = { .match_all = 1, .state_cnt = 1 };

static void beat(void)
{
	t.v->keeper_beat_ns = t.v->deadman_beat_ns = clock_mono_ns();
}

static bool set_up(size_t ring_bytes, bool fail_closed, unsigned max_holds)
{
	struct kernel_opts opts = { .pin_dir = t.pins, .ring_bytes = ring_bytes };
	struct pg_server server = { .major = 15, .version = "15" };
	struct dbf_cluster cluster = { .flags = DBF_CLUSTER_ENFORCE };
	struct kernel_server out;
	struct err err = {};

	if (geteuid()) {
		test_skip("needs root");
		return false;
	}
	snprintf(t.pins, sizeof(t.pins), "/sys/fs/bpf/dbfence-holds-%d", getpid());
	t.k = kernel_open(&opts, &err);
	if (!CHECK_MSG(t.k != NULL, "%s", err.text))
		return false;
	t.v = kernel_vitals(t.k);
	t.slots = kernel_holds(t.k);
	t.v->reader_epoch = 1;
	t.ring = ring_open(kernel_ring_fd(t.k), kernel_ring_bytes(t.k));
	t.config = (struct dbf_config){ .policy_gen = 1, .enforce = 1, .fail_closed = fail_closed,
					.max_holds = max_holds, .hold_ns = FOREVER_NS, .beat_max_ns = FOREVER_NS };
	server.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	CHECK_INT(kernel_attach_server(t.k, &server, &out, &err), 0);
	CHECK_MSG(out.covered, "%s %s", err.text, out.problem);
	close(server.fd);
	CHECK_INT(kernel_set_cluster(t.k, (uint32_t)getpid(), &cluster), 0);
	CHECK_INT(kernel_set_policy(t.k, &t.config, &screen), 0);
	CHECK_INT(kernel_activate(t.k, &err), 0);
	beat();
	return out.covered;
}

static void tear_down(void)
{
	ring_close(t.ring);
	kernel_close(t.k, KERNEL_REMOVE);
}

static uint64_t counted(enum dbf_count what)
{
	return __atomic_load_n(&t.v->counts[what], __ATOMIC_RELAXED);
}

/* The slot in which @b is held, or -1. */
static int slot_of(const struct backend *b)
{
	for (int i = 0; i < DBF_HOLD_SLOTS; i++)
		if (t.slots[i].tgid == (uint32_t)b->pid && DBF_STATE_OF(t.slots[i].state) == DBF_HOLD_OPEN)
			return i;
	return -1;
}

static int resolve(const struct backend *b, enum dbf_hold_state to)
{
	int i = slot_of(b);

	if (!CHECK_MSG(i >= 0, "backend %d is held in no slot", b->pid))
		return -1;
	CHECK_INT(hold_end(t.slots, (uint32_t)i, DBF_STATE_SEQ(t.slots[i].state), to, DBF_BY_KEEPER), 0);
	return i;
}

/* The last verdict of a backend that is in the ring, which is emptied. */
struct last_verdict {
	pid_t pid;
	struct dbf_verdict v;
	unsigned cnt;
};

static void see_record(void *ctx, const void *record, size_t len)
{
	struct last_verdict *last = ctx;
	struct batch_iter it;
	struct batch_fact f;
	const struct dbf_batch *b = batch_open(record, len, &it);

	while (b && b->tgid == (uint32_t)last->pid && batch_next(&it, &f))
		if (f.kind == DBF_FACT_VERDICT) {
			last->v = *(const struct dbf_verdict *)f.head;
			last->cnt++;
		}
}

static struct dbf_verdict last_verdict(struct backend *b)
{
	struct last_verdict last = { .pid = b->pid };

	ring_consume(t.ring, 1000, see_record, &last);
	CHECK_MSG(last.cnt, "no verdict was told");
	return last.v;
}

/* --- cases ---------------------------------------------------------------------------------------------- */

static void test_holds_allow_and_deny(void)
{
	struct dbf_verdict v;
	struct backend *b;

	if (!set_up(RING_BYTES, true, 8))
		return;
	b = backend_new();
	CHECK(!parse(b, "SELECT one"));
	v = last_verdict(b);
	CHECK_INT(v.how, DBF_HOW_HOLD);
	CHECK_INT(v.gate, DBF_GATE_PARSE);
	CHECK_INT(v.slot, slot_of(b));
	resolve(b, DBF_HOLD_ALLOWED);
	wait_done(b);
	CHECK_INT(b->interrupts, 0);
	CHECK(!parse(b, "SELECT two"));
	resolve(b, DBF_HOLD_DENIED);
	wait_done(b);
	CHECK_INT(b->interrupts, 1);
	tell(b, ORDER_READY);
	v = last_verdict(b);
	CHECK_INT(v.action, DBF_ACTION_DENY);
	CHECK_INT(v.why, DBF_BY_KEEPER);
	CHECK(v.deadline_ns > 0);
	CHECK_INT(counted(DBF_COUNT_HOLDS), 2);
	backend_end(b);
	tear_down();
}

/* The first piece of the text goes into a ring that has no room for it, the verdict into one that has: a reader would
 * look for the text at the verdict's address and find an older one. */
static void test_holds_lost_text(void)
{
	static char text[4500];
	struct backend *b;

	if (!set_up(8192, true, 8))
		return;
	b = backend_new();
	memset(text, 'x', sizeof(text) - 1);
	CHECK(!parse(b, text));
	CHECK_INT(counted(DBF_COUNT_LOST_BATCHES), 0);
	resolve(b, DBF_HOLD_ALLOWED);
	wait_done(b);
	CHECK_MSG(parse(b, text), "a backend is held for a text that was lost");
	CHECK_INT(counted(DBF_COUNT_LOST_BATCHES), 1);
	CHECK_INT(counted(DBF_COUNT_HOLDS), 1);
	CHECK_INT(counted(DBF_COUNT_FAIL_CLOSED), 1);
	CHECK_INT(b->interrupts, 1);
	tell(b, ORDER_READY);
	CHECK_INT(last_verdict(b).why, DBF_WHY_RING_FULL);
	backend_end(b);
	tear_down();
}

/* Slots that a hold can have: where the kernel ends holds, those whose timer could be made. */
static unsigned usable_slots(void)
{
	unsigned made = 0;

	for (unsigned i = 0; i < DBF_HOLD_SLOTS; i++)
		made += (t.slots[i].timer & DBF_TIMER_MADE) != 0;
	return made ? made : DBF_HOLD_SLOTS;
}

/* Statements that were held, allowed, and run on: whoever comes next is held all the same, however many they are. Only
 * holds that are open count. */
static void test_holds_long_runners(void)
{
	enum { RUNNERS = DBF_HOLD_SLOTS + 8, OPEN = 3 };
	static struct backend *run[RUNNERS], *more[OPEN];
	struct dbf_verdict v;
	struct backend *b;

	if (!set_up(RING_BYTES, true, OPEN))
		return;
	for (int i = 0; i < RUNNERS; i++) {
		run[i] = backend_new();
		CHECK_MSG(!parse(run[i], "SELECT long"), "backend %d is not held", i);
		resolve(run[i], DBF_HOLD_ALLOWED);
		wait_done(run[i]);
	}
	CHECK_INT(usable_slots(), DBF_HOLD_SLOTS);
	CHECK_INT(counted(DBF_COUNT_HOLD_ENDS_LOST), RUNNERS - DBF_HOLD_SLOTS);
	for (int i = 0; i < OPEN; i++) {
		more[i] = backend_new();
		CHECK(!parse(more[i], "SELECT held"));
	}
	b = backend_new();
	CHECK_MSG(parse(b, "SELECT too many"), "more than max_holds are held");
	CHECK_INT(b->interrupts, 1);
	tell(b, ORDER_READY);
	CHECK_INT(last_verdict(b).why, DBF_WHY_NO_SLOT);
	/* The first lost its slot, which belongs to another now: it was allowed, and nothing that happens there is its own. */
	tell(run[0], ORDER_READY);
	v = last_verdict(run[0]);
	CHECK_INT(v.action, DBF_ACTION_ALLOW);
	CHECK_INT(v.why, DBF_BY_NONE);
	CHECK_INT(run[0]->interrupts, 0);
	resolve(more[0], DBF_HOLD_DENIED);
	wait_done(more[0]);
	CHECK_INT(more[0]->interrupts, 1);
	tell(run[RUNNERS - 1], ORDER_READY);
	v = last_verdict(run[RUNNERS - 1]);
	CHECK_INT(v.action, DBF_ACTION_ALLOW);
	CHECK_INT(v.why, DBF_BY_KEEPER);
	CHECK(!parse(b, "SELECT fits again"));
	backend_end(b);
	for (int i = 0; i < RUNNERS; i++)
		backend_end(run[i]);
	for (int i = 0; i < OPEN; i++)
		backend_end(more[i]);
	for (int i = 0; i < DBF_HOLD_SLOTS; i++)
		CHECK_MSG(DBF_STATE_OF(t.slots[i].state) == DBF_HOLD_FREE, "slot %d is in state %llx", i,
			  (unsigned long long)t.slots[i].state);
	tear_down();
}

/* Each server has its own share. */
static void test_holds_per_cluster(void)
{
	struct dbf_cluster cluster = { .flags = DBF_CLUSTER_ENFORCE, .max_holds = 1 };
	struct backend *one, *other;

	if (!set_up(RING_BYTES, false, 8))
		return;
	CHECK_INT(kernel_set_cluster(t.k, (uint32_t)getpid(), &cluster), 0);
	one = backend_new();
	other = backend_new();
	CHECK(!parse(one, "SELECT 1"));
	/* As if it were another server's. */
	t.slots[slot_of(one)].postmaster++;
	CHECK(!parse(other, "SELECT 2"));
	resolve(other, DBF_HOLD_ALLOWED);
	wait_done(other);
	t.slots[slot_of(one)].postmaster--;
	CHECK(parse(other, "SELECT 3"));
	CHECK_INT(counted(DBF_COUNT_FAIL_OPEN), 1);
	backend_end(one);
	CHECK(!parse(other, "SELECT 4"));
	backend_end(other);
	tear_down();
}

static void drop(struct backend *b, struct one_page *page)
{
	b->page = page;
	CHECK(tell(b, ORDER_DROP_PAGE));
}

/* What this program would say if it were asked for these bytes by hash: the kernel's own function. */
static void remember(struct backend *b, const char *text, uint32_t action)
{
	struct dbf_session_key session = { .tgid = (uint32_t)b->pid, .session = t.slots[slot_of(b)].session };
	struct dbf_verdict_key key = { .len = (uint32_t)strlen(text), .identity_class = 7, .policy_gen = 1 };
	struct dbf_config config;

	CHECK_INT(kernel_get_config(t.k, &config), 0);
	crypto_shorthash_siphashx24((unsigned char *)key.hash, (const unsigned char *)text, strlen(text),
				    (const unsigned char *)config.key);
	CHECK_INT(kernel_put_class(t.k, &session, 7), 0);
	CHECK_INT(kernel_put_verdict(t.k, &key, action, NULL), 0);
}

/* Whoever cannot be seen to hold no lock is not stopped; what is known to be denied is denied all the same. */
static void test_holds_unreadable_locks(void)
{
	struct one_page *const pages[] = { &InterruptHoldoffCount, &QueryCancelHoldoffCount, &CritSectionCount };
	struct backend *b;

	if (!set_up(RING_BYTES, false, 8))
		return;
	b = backend_new();
	CHECK(!parse(b, "SELECT 1"));
	remember(b, "SELECT denied", DBF_ACTION_DENY);
	resolve(b, DBF_HOLD_ALLOWED);
	wait_done(b);
	for (unsigned i = 0; i < 3; i++) {
		drop(b, pages[i]);
		CHECK_MSG(parse(b, "SELECT 2"), "stopped without a look at variable %u", i);
		tell(b, ORDER_READY);
		CHECK_INT(last_verdict(b).why, DBF_WHY_FAULT);
		CHECK_INT(counted(DBF_COUNT_FAIL_OPEN), i + 1);
		CHECK_INT(b->interrupts, i);
		CHECK(parse(b, "SELECT denied"));
		CHECK_INT(b->interrupts, i + 1);
		CHECK_INT(counted(DBF_COUNT_CACHE_DENY), i + 1);
		CHECK_INT(counted(DBF_COUNT_STATE_FAULTS), 2 * (i + 1));
		tell(b, ORDER_TOUCH_PAGE);
	}
	CHECK(!parse(b, "SELECT 3"));
	backend_end(b);
	tear_down();
}

/* A process is not what a page that is not there makes of it. */
static void test_holds_unreadable_kind(void)
{
	struct one_page *const pages[] = { &MyProcPort, &ParallelWorkerNumber, &am_walsender };
	struct backend *b;

	if (!set_up(RING_BYTES, true, 8))
		return;
	for (unsigned i = 0; i < 3; i++) {
		b = backend_new();
		drop(b, pages[i]);
		CHECK(parse(b, "SELECT 1"));
		CHECK_INT(counted(DBF_COUNT_STATE_FAULTS), i + 1);
		CHECK_INT(b->interrupts, 0);
		tell(b, ORDER_TOUCH_PAGE);
		CHECK_MSG(!parse(b, "SELECT 2"), "variable %u was not there once, and the backend is nobody's for good", i);
		backend_end(b);
	}
	tear_down();
}

/* Without knowing what its quotes mean nobody judges a text. */
static void test_holds_unreadable_quotes(void)
{
	struct dbf_verdict v;
	struct backend *b;

	if (!set_up(RING_BYTES, true, 8))
		return;
	b = backend_new();
	drop(b, &standard_conforming_strings);
	CHECK(!parse(b, "SELECT 1"));
	v = last_verdict(b);
	CHECK_INT(v.hash[0] | v.hash[1], 0);
	CHECK_INT(counted(DBF_COUNT_TEXT_FAULTS), 1);
	backend_end(b);
	tear_down();
}

/* Settings are read where the server keeps them, wherever it was loaded. */
static void test_holds_server_setting(void)
{
	struct pg_server server = { .major = 15 };
	struct backend *b;
	int value = 0;

	b = backend_new();
	tell(b, ORDER_SET);
	server.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	CHECK_INT(pg_memory_read_int(&server, b->pid, "MaxConnections", &value), 0);
	CHECK_INT(value, b->pid);
	CHECK_INT(pg_memory_read_int(&server, getpid(), "MaxConnections", &value), 0);
	CHECK_INT(value, 100);
	CHECK_INT(pg_memory_read_int(&server, getpid(), "NoSuchVariable", &value), -ENOENT);
	CHECK(pg_memory_read_int(&server, getpid(), "debug_query_string", &value) < 0); /* no int */
	CHECK_INT(value, 100);
	close(server.fd);
	backend_end(b);
}

/* A stranger's SIGCONT frees nobody: the next gate stops again, and the verdict still comes. */
static void test_holds_foreign_continue(void)
{
	struct backend *b;

	if (!set_up(RING_BYTES, true, 8))
		return;
	b = backend_new();
	CHECK(!parse(b, "SELECT 1"));
	kill(b->pid, SIGCONT);
	wait_done(b);
	CHECK_MSG(!tell(b, ORDER_READY), "continued by a stranger, and past the next gate");
	CHECK(slot_of(b) >= 0);
	resolve(b, DBF_HOLD_DENIED);
	wait_done(b);
	CHECK_INT(b->interrupts, 1);
	CHECK_INT(counted(DBF_COUNT_HOLDS), 1);
	backend_end(b);
	tear_down();
}

/* All slots but @spare hold something that is nobody's to take. */
static void fill_slots(unsigned spare)
{
	for (unsigned i = spare; i < DBF_HOLD_SLOTS; i++)
		t.slots[i] = (struct dbf_hold_slot){ .state = DBF_STATE(1, DBF_HOLD_DENIED), .tgid = 1 };
}

/* Sequences come round; what a backend believes must be its own by more than that. */
static void test_holds_sequence_wraps(void)
{
	struct backend *one, *other;

	if (!set_up(RING_BYTES, true, 8))
		return;
	fill_slots(1);
	t.slots[0].state = DBF_STATE(UINT32_MAX, DBF_HOLD_FREE);
	one = backend_new();
	other = backend_new();
	CHECK(!parse(one, "SELECT 1"));
	CHECK(t.slots[0].state == DBF_STATE(UINT32_MAX, DBF_HOLD_OPEN));
	resolve(one, DBF_HOLD_ALLOWED);
	wait_done(one);
	CHECK(!parse(other, "SELECT 2"));
	CHECK_MSG(t.slots[0].state == DBF_STATE(0, DBF_HOLD_OPEN), "%llx", (unsigned long long)t.slots[0].state);
	tell(one, ORDER_READY);
	CHECK_INT(last_verdict(one).action, DBF_ACTION_ALLOW);
	CHECK(t.slots[0].state == DBF_STATE(0, DBF_HOLD_OPEN));
	resolve(other, DBF_HOLD_ALLOWED);
	wait_done(other);
	/* A whole round later, while it still ran: the same number, another's denial. */
	t.slots[0].tgid = 1;
	t.slots[0].state = DBF_STATE(0, DBF_HOLD_DENIED);
	tell(other, ORDER_READY);
	CHECK_INT(last_verdict(other).action, DBF_ACTION_ALLOW);
	CHECK(t.slots[0].state == DBF_STATE(0, DBF_HOLD_DENIED));
	backend_end(one);
	backend_end(other);
	tear_down();
}

/* A server that is told to stop: its holds are overdue at once and no other begins. Its neighbour notices nothing. */
static void test_holds_server_stops(void)
{
	static const int signals[] = { SIGINT, SIGQUIT };
	struct dbf_cluster cluster = { .flags = DBF_CLUSTER_ENFORCE };
	struct backend *ours, *theirs, *next;
	pid_t postmaster;
	uint64_t now;

	if (!set_up(RING_BYTES, false, 8))
		return;
	for (unsigned i = 0; i < 2; i++) {
		ours = backend_new();
		CHECK(!parse(ours, "SELECT ours"));
		theirs = backend_under_another(&postmaster);
		CHECK_INT(kernel_set_cluster(t.k, (uint32_t)postmaster, &cluster), 0);
		CHECK(!parse(theirs, "SELECT theirs"));
		kill(postmaster, SIGTERM); /* waits for its sessions */
		now = clock_mono_ns();
		CHECK(t.slots[slot_of(theirs)].deadline_ns > now);
		kill(postmaster, signals[i]);
		now = clock_mono_ns();
		CHECK(t.slots[slot_of(theirs)].deadline_ns <= now);
		CHECK(t.slots[slot_of(ours)].deadline_ns > now);
		/* The keeper writes the cluster again, because its state has changed: it stops all the same. */
		CHECK_INT(kernel_set_cluster(t.k, (uint32_t)postmaster, &cluster), 0);
		resolve(theirs, DBF_HOLD_ALLOWED);
		wait_done(theirs);
		CHECK_MSG(parse(theirs, "SELECT more"), "held while the server stops");
		tell(theirs, ORDER_READY);
		CHECK_INT(last_verdict(theirs).why, DBF_WHY_STOPPING);
		next = backend_new();
		CHECK(!parse(next, "SELECT next"));
		backend_end(next);
		backend_end(ours);
		kill(theirs->pid, SIGKILL);
		kill(postmaster, SIGKILL);
		waitpid(postmaster, NULL, 0);
		munmap(theirs, sizeof(*theirs));
	}
	tear_down();
}

enum { STORM = 24, STORM_SLOTS = 5, STORM_OPEN = 3, STORM_NS = 4 };

/* How many were open at one moment: those that are the same before and after it. */
static unsigned open_at_once(unsigned cnt)
{
	uint64_t before[DBF_HOLD_SLOTS];
	unsigned open = 0;

	for (unsigned s = 0; s < cnt; s++)
		before[s] = __atomic_load_n(&t.slots[s].state, __ATOMIC_SEQ_CST);
	for (unsigned s = 0; s < cnt; s++)
		open += DBF_STATE_OF(before[s]) == DBF_HOLD_OPEN &&
			before[s] == __atomic_load_n(&t.slots[s].state, __ATOMIC_SEQ_CST);
	return open;
}

/*
 * More backends than slots, most of which never come back to collect, answered as fast as possible while some die and
 * strangers continue them. Each gets its own verdict, and never more are held than may be.
 */
static void test_holds_storm(void)
{
	static struct backend *all[STORM];
	unsigned denied[STORM] = { 0 }, rounds = 0, deaths = 0, most = 0;
	uint64_t until;

	if (!set_up(RING_BYTES, false, STORM_OPEN))
		return;
	fill_slots(STORM_SLOTS);
	for (int i = 0; i < STORM; i++)
		all[i] = backend_new();
	until = clock_mono_ns() + STORM_NS * NS_PER_SEC;
	for (unsigned seed = 1; clock_mono_ns() < until; rounds++) {
		unsigned open = open_at_once(STORM_SLOTS);

		for (int i = 0; i < STORM; i++) {
			seed = seed * 1103515245 + 12345;
			if (all[i]->order)
				continue;
			snprintf(all[i]->text, sizeof(all[i]->text), "%s %u", seed & 1 << 20 ? "deny" : "allow", rounds);
			all[i]->order = ORDER_PARSE;
		}
		for (uint32_t s = 0; s < STORM_SLOTS; s++) {
			uint64_t state = t.slots[s].state;
			int i = 0;

			if (DBF_STATE_OF(state) != DBF_HOLD_OPEN)
				continue;
			while (i < STORM && all[i]->pid != (pid_t)t.slots[s].tgid)
				i++;
			if (i == STORM)
				continue; /* it changed hands */
			seed = seed * 1103515245 + 12345;
			if ((seed >> 16) % 50 == 0) {
				kill(all[i]->pid, SIGCONT);
			} else if ((seed >> 16) % 500 == 1) {
				CHECK_INT(all[i]->interrupts, denied[i]);
				backend_end(all[i]);
				all[i] = backend_new();
				denied[i] = 0;
				deaths++;
			} else {
				bool deny = all[i]->text[0] == 'd';

				if (!hold_end(t.slots, s, DBF_STATE_SEQ(state), deny ? DBF_HOLD_DENIED : DBF_HOLD_ALLOWED,
					      DBF_BY_KEEPER))
					denied[i] += deny;
			}
		}
		most = open > most ? open : most;
	}
	for (int i = 0; i < STORM; i++) {
		for (int n = 0; n < 1000 && all[i]->order; n++) { /* who is still held */
			int s = slot_of(all[i]);

			if (s >= 0)
				hold_end(t.slots, (uint32_t)s, DBF_STATE_SEQ(t.slots[s].state), DBF_HOLD_ALLOWED,
					 DBF_BY_KEEPER);
			usleep(1000);
		}
		CHECK_MSG(!all[i]->order, "backend %d stands for ever", i);
		CHECK_INT(all[i]->interrupts, denied[i]);
		backend_end(all[i]);
	}
	printf("  %u rounds, %llu holds, %llu slots taken over, %u deaths, at most %u of %u held\n", rounds,
	       (unsigned long long)counted(DBF_COUNT_HOLDS), (unsigned long long)counted(DBF_COUNT_HOLD_ENDS_LOST), deaths,
	       most, STORM_OPEN);
	CHECK(most <= STORM_OPEN);
	CHECK(counted(DBF_COUNT_HOLDS) > 100 && counted(DBF_COUNT_HOLD_ENDS_LOST) > 10);
	for (int s = 0; s < STORM_SLOTS; s++)
		CHECK_MSG(DBF_STATE_OF(t.slots[s].state) == DBF_HOLD_FREE, "slot %d stays %llx", s,
			  (unsigned long long)t.slots[s].state);
	tear_down();
}

/* Held as a command, and allowed; or not held. */
static bool command_is_held(struct backend *b, const char *text)
{
	struct dbf_verdict v;

	if (tell_text(b, ORDER_COMMAND, text))
		return false;
	v = last_verdict(b);
	CHECK_INT(v.gate, DBF_GATE_REPLICATION);
	resolve(b, DBF_HOLD_ALLOWED);
	wait_done(b);
	return true;
}

/* What a walsender gets: its own commands are judged where they come in, what is SQL where it is parsed. */
static void test_holds_commands(void)
{
	static char blanks[3][300];
	static const struct {
		const char *text;
		bool held;
	} rows[] = {
		{ "BASE_BACKUP", true },   { " \n\tSTART_REPLICATION 0/0", true }, { "A_", true },
		{ "SHOW port", true },     { "SHOW", true },    { "SHOWS_IT", true },   { "SHOWN", false },
		{ "show port", false },    { "SELECT 1", false }, { "base_backup", false }, { "DROP", false },
		{ "_BASE", false },        { "-- BASE_BACKUP", false }, { "", false }, { "  ", false },
		{ blanks[0], true },       { blanks[1], true }, { blanks[2], false },
	};
	struct backend *b;

	if (!set_up(RING_BYTES, true, 8))
		return;
	snprintf(blanks[0], sizeof(blanks[0]), "%255sSELECT 1", "");
	snprintf(blanks[1], sizeof(blanks[1]), "%200sBASE_BACKUP", "");
	snprintf(blanks[2], sizeof(blanks[2]), "%200sSELECT 1", "");
	b = backend_new();
	CHECK_MSG(!command_is_held(b, "BASE_BACKUP"), "held, and no rule is about it");
	CHECK_INT(counted(DBF_COUNT_CANDIDATES), 0);
	t.config.gate_replication = 1;
	CHECK_INT(kernel_set_policy(t.k, &t.config, &screen), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_MSG(command_is_held(b, rows[i].text) == rows[i].held, "'%s' was %sheld", rows[i].text,
			  rows[i].held ? "not " : "");
	backend_end(b);
	tear_down();
}

/* A walsender that streams is neither stopped nor signalled by what runs inside; its SQL is, once it is back. */
static void test_holds_streaming(void)
{
	struct backend *b;

	if (!set_up(RING_BYTES, true, 8))
		return;
	t.config.gate_replication = 1;
	CHECK_INT(kernel_set_policy(t.k, &t.config, &screen), 0);
	b = backend_new();
	CHECK(command_is_held(b, "START_REPLICATION 0/0"));
	CHECK_MSG(tell_text(b, ORDER_INSIDE, "SELECT 1"), "held while it streams");
	t.v->keeper_beat_ns = 0; /* nobody could judge it */
	t.config.beat_max_ns = NS_PER_MS;
	CHECK_INT(kernel_set_policy(t.k, &t.config, &screen), 0);
	CHECK(tell_text(b, ORDER_INSIDE, "SELECT 2"));
	CHECK_INT(b->interrupts, 0);
	CHECK(tell_text(b, ORDER_COMMAND, "SELECT 3"));
	CHECK(tell_text(b, ORDER_INSIDE, "SELECT 4"));
	CHECK_INT(b->interrupts, 1);
	backend_end(b);
	tear_down();
}

/* A walsender that streamed before the probes were there: what it was told is not known. */
static void test_holds_found_streaming(void)
{
	struct backend *b;

	if (!set_up(RING_BYTES, true, 8))
		return;
	am_walsender.flag = true;
	b = backend_new();
	am_walsender.flag = false;
	CHECK_MSG(tell_text(b, ORDER_INSIDE, "SELECT 1"), "held, though it may be streaming");
	CHECK(tell_text(b, ORDER_COMMAND, "SELECT 2"));
	CHECK_MSG(!tell_text(b, ORDER_INSIDE, "SELECT 2"), "its SQL is not judged");
	resolve(b, DBF_HOLD_ALLOWED);
	wait_done(b);
	CHECK_INT(b->interrupts, 0);
	backend_end(b);
	tear_down();
}

static const struct test_case cases[] = {
	{ "holds_found_streaming", test_holds_found_streaming },
	{ "holds_commands", test_holds_commands },
	{ "holds_streaming", test_holds_streaming },
	{ "holds_foreign_continue", test_holds_foreign_continue },
	{ "holds_sequence_wraps", test_holds_sequence_wraps },
	{ "holds_server_stops", test_holds_server_stops },
	{ "holds_storm", test_holds_storm },
	{ "holds_server_setting", test_holds_server_setting },
	{ "holds_unreadable_locks", test_holds_unreadable_locks },
	{ "holds_unreadable_kind", test_holds_unreadable_kind },
	{ "holds_unreadable_quotes", test_holds_unreadable_quotes },
	{ "holds_long_runners", test_holds_long_runners },
	{ "holds_per_cluster", test_holds_per_cluster },
	{ "holds_allow_and_deny", test_holds_allow_and_deny },
	{ "holds_lost_text", test_holds_lost_text },
};

TEST_MAIN(cases)
