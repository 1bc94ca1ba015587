// SPDX-License-Identifier: Apache-2.0
/* conn/wire_verdict: who is asked for what, and to which statement a verdict comes; conn/outcome: how that ended. */
#include "../lib/test.h"

#include "conn/wire.h"
#include "wire_fixture.h"

static void setup(struct fixture *f)
{
	feeding_init(&f->out);
	wiring_init(&f->w, 0x77, feed_table, f->out.table);
	wiring_begin(&f->w, CLIENT, 5, 0);
	conn_table_lookup(f->out.table, 0x77, 0)->user = calloc(1, 1); /* it is described */
	buf_reset(&f->out.log);
}

static void done(struct fixture *f)
{
	CHECK_INT(conn_table_counters(f->out.table)->bad_records, 0);
	feeding_fini(&f->out);
}

static uint64_t orphans(const struct fixture *f)
{
	return conn_table_counters(f->out.table)->orphan_replies;
}

/* Each kind of message, and what it would run. */
static void test_asks(void)
{
	static const struct { const char *said, *asked; } cases[] = {
		{ "> Q(a)", "hold 4:5 'a'\n" },
		{ "> Q(x) Q(a)", "hold 4:5 'a'\n" },
		{ "> P(s,a)", "hold 4:5 'a'\n" },
		{ "> P(s,a) S < 1 ZI > B(,s)", "hold 4:5 'a'\n" },
		{ "> P(s,a) S < 1 ZI > B(p,s) E(p)", "hold 4:5 'a'\n" },
		{ "> P(s,x) P(t,a) B(,t) E()", "hold 4:5 'a'\n" },
		{ "> F", "hold 4:5 ''\n" },
		{ "> S", "" },
	};
	struct fixture f;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		setup(&f);
		wiring_say(&f.w, cases[i].said);
		wiring_hold(&f.w, 4, 1);
		expect(&f, cases[i].asked, cases[i].said);
		CHECK_INT(orphans(&f), !*cases[i].asked);
		done(&f);
	}
	/* In pieces: it is asked about once all of it is here. */
	setup(&f);
	f.w.script.piece = 3;
	wiring_say(&f.w, "> Q(select a)");
	wiring_hold(&f.w, 4, 0);
	expect(&f, "hold 4:5 'select a'\n", "pieces");
	/* Asking makes no statement. */
	wiring_say(&f.w, "< C(A) ZI");
	expect(&f, "1 simple 'select a' executed [A] wire/hold/-/0 x1+\n", "numbered as if nobody had asked");
	done(&f);
}

struct asked {
	struct conn_verdict verdict;
	enum conn_form form;
	uint32_t missing;
	unsigned cnt;
};

static void asked_session(void *ctx, struct conn_session *s, enum conn_event event, const char *reason)
{
	(void)ctx, (void)s, (void)event, (void)reason;
}

static void asked_client(void *ctx, struct conn_session *s)
{
	(void)ctx, (void)s;
}

static void asked_hold(void *ctx, const struct conn_stmt *st)
{
	struct asked *a = ctx;

	a->verdict = st->verdict;
	a->form = st->form;
	a->missing = st->missing;
	a->cnt++;
}

/* Of a connection that was there before, nobody has been told who it is: that comes first. */
static void test_asks_before_told(void)
{
	struct dbf_wire_open o = wiring_end(DBF_WIRE_SERVER, true);
	struct fixture f;

	feeding_init(&f.out);
	wiring_init(&f.w, 0x77, feed_table, f.out.table);
	wiring_open(&f.w, &o);
	wiring_say(&f.w, "> R! Q(a)");
	wiring_hold(&f.w, 4, 1);
	expect(&f, "client 0\nhold 4:5 'a'\n", "asked");
	done(&f);
}

/* All that whoever judges must know: which slot, which key, and what is not certain. */
static void test_asks_with(void)
{
	static const struct conn_ops ops = { .session = asked_session, .client = asked_client, .hold = asked_hold };
	struct asked a = { 0 };
	struct conn_table *t = conn_table_new(&ops, &a);
	struct wiring w;

	if (!CHECK(t))
		return;
	wiring_init(&w, 0x77, feed_table, t);
	wiring_begin(&w, CLIENT, 5, 0);
	wiring_say(&w, "> Q(ab)");
	wiring_hold(&w, 4, 2);
	CHECK_INT(a.cnt, 1);
	CHECK_INT(a.form, CONN_SIMPLE);
	CHECK_INT(a.verdict.slot, 4);
	CHECK_INT(a.verdict.slot_seq, 5);
	CHECK_INT(a.verdict.gate, DBF_GATE_WIRE);
	CHECK_INT(a.verdict.mode, DBF_MODE_WIRE);
	CHECK_INT(a.verdict.hashed_len, 2);
	CHECK_INT(a.verdict.hash[1], 12);
	CHECK_INT(a.verdict.policy_gen, 3);
	CHECK_INT(a.missing, 0);
	wiring_say(&w, "> F");
	wiring_hold(&w, 5, 0);
	CHECK_INT(a.form, CONN_FASTPATH);
	wiring_say(&w, "> Q(ab) O!");
	wiring_hold(&w, 6, 2);
	CHECK_INT(a.missing, 1U << CONN_MISSING_OVERLAP);
	wiring_say(&w, "> Q(caf\xc3\xa9) < S(client_encoding=LATIN1)");
	wiring_say(&w, "> Q(caf\xc3\xa9)");
	wiring_hold(&w, 7, 2);
	CHECK_INT(a.missing, 1U << CONN_MISSING_ENCODING);
	wiring_decided(&w, DBF_HOW_CACHE, DBF_ACTION_DENY);
	CHECK_INT(a.cnt, 4); /* nobody waits */
	conn_table_free(t);
}

static void test_decided(void)
{
	struct fixture f;

	setup(&f);
	wiring_say(&f.w, "> Q(a)");
	wiring_decided(&f.w, DBF_HOW_CACHE, DBF_ACTION_DENY);
	wiring_say(&f.w, "< E(42601) ZI");
	expect(&f, "1 simple 'a' prevented 42601 wire/cache/deny x1-\n", "whatever the server says of the other message");
	wiring_say(&f.w, "> Q(a)");
	wiring_decided(&f.w, DBF_HOW_FAIL, DBF_ACTION_ALLOW);
	wiring_say(&f.w, "< C(A) ZI");
	expect(&f, "2 simple 'a' executed [A] wire/fail/allow x2+\n", "nobody would have answered");
	wiring_say(&f.w, "> Q(a)");
	wiring_decided(&f.w, DBF_HOW_FAIL, DBF_ACTION_DENY);
	wiring_say(&f.w, "< E(42601) ZI");
	expect(&f, "3 simple 'a' prevented 42601 wire/fail/deny x3-\n", "nor let it pass");
	wiring_say(&f.w, "> Q(a)");
	wiring_decided(&f.w, DBF_HOW_FAIL, DBF_ACTION_ALLOW);
	wiring_say(&f.w, "< E(22012) ZI");
	expect(&f, "4 simple 'a' failed 22012 wire/fail/allow x4-\n", "its own error");
	wiring_say(&f.w, "> P(s,a)");
	wiring_decided(&f.w, DBF_HOW_CACHE, DBF_ACTION_DENY);
	wiring_say(&f.w, "> B(,s) E() S < E(42601) ZI");
	expect(&f, "5 extended 'a' prevented name=s 42601 wire/cache/deny x5-\n", "a Parse");
	wiring_say(&f.w, "> P(s,a) B(,s) E() S < E(22012) ZI");
	expect(&f, "6 extended 'a' failed name=s 22012 x6-\n", "the next is not judged by what was decided before");
	wiring_say(&f.w, "> F");
	wiring_decided(&f.w, DBF_HOW_FAIL, DBF_ACTION_DENY);
	wiring_say(&f.w, "< E(42883) ZI");
	expect(&f, "7 fastpath '' prevented 42883 wire/fail/deny x7-\n", "a function");
	/* What stands in front of it in the pipeline failed: the server never came to it. */
	wiring_say(&f.w, "> P(,x) B(,) E() P(,a)");
	wiring_decided(&f.w, DBF_HOW_CACHE, DBF_ACTION_DENY);
	wiring_say(&f.w, "> S < E(42601) ZI");
	expect(&f, "8 extended 'x' failed 42601 x8-\n", "an error first");
	wiring_say(&f.w, "> Q(a)");
	wiring_decided(&f.w, DBF_HOW_CACHE, DBF_ACTION_KILL);
	wiring_close(&f.w, DBF_WIRE_CLIENT, true);
	expect(&f, "9 simple 'a' prevented wire/cache/kill x9\nx9 unknown, 1 statements, xid 0, implicit\n"
	       "session close reset\n", "its connection is ended");
	done(&f);
}

static void test_killed_parse(void)
{
	struct fixture f;

	setup(&f);
	wiring_say(&f.w, "> P(,a)");
	wiring_decided(&f.w, DBF_HOW_CACHE, DBF_ACTION_KILL);
	wiring_close(&f.w, DBF_WIRE_CLIENT, true);
	expect(&f, "1 extended 'a' prevented wire/cache/kill x1\nx1 unknown, 1 statements, xid 0, implicit\n"
	       "session close reset\n", "nothing came behind it, and it is recorded");
	done(&f);
}

static void test_holds(void)
{
	struct fixture f;

	setup(&f);
	wiring_say(&f.w, "> Q(a)");
	wiring_hold(&f.w, 4, 1);
	wiring_ended(&f.w, 4, DBF_ACTION_ALLOW, DBF_BY_KEEPER);
	wiring_say(&f.w, "< C(A) ZI");
	expect(&f, "hold 4:5 'a'\n1 simple 'a' executed [A] wire/hold/allow/1 x1+\n", "let go");
	wiring_say(&f.w, "> P(s,a)");
	wiring_hold(&f.w, 4, 1);
	wiring_ended(&f.w, 4, DBF_ACTION_ALLOW, DBF_BY_KEEPER);
	wiring_say(&f.w, "> B(,s) E() S < 1 2 C(A) ZI > B(,s) E() S < 2 C(A) ZI");
	expect(&f, "hold 4:5 'a'\n2 extended 'a' executed name=s [A] wire/hold/allow/1 x2+\n"
	       "3 extended 'a' executed name=s [A] x3+\n", "a Parse: of what ran first");
	wiring_say(&f.w, "> Q(b)");
	wiring_hold(&f.w, 6, 1);
	wiring_ended(&f.w, 6, DBF_ACTION_DENY, DBF_BY_DEADMAN);
	wiring_say(&f.w, "< E(42601) ZI");
	expect(&f, "hold 6:7 'b'\n4 simple 'b' prevented 42601 wire/hold/deny/2 x4-\n", "denied");
	wiring_ended(&f.w, 6, DBF_ACTION_DENY, DBF_BY_DEADMAN);
	wiring_ended(&f.w, 9, DBF_ACTION_DENY, DBF_BY_DEADMAN);
	CHECK_INT(orphans(&f), 2);
	/* Two at once. */
	wiring_say(&f.w, "> Q(c)");
	wiring_hold(&f.w, 7, 1);
	wiring_say(&f.w, "> Q(d)");
	wiring_hold(&f.w, 8, 1);
	wiring_ended(&f.w, 8, DBF_ACTION_DENY, DBF_BY_KEEPER);
	wiring_ended(&f.w, 7, DBF_ACTION_ALLOW, DBF_BY_KEEPER);
	wiring_say(&f.w, "< C(C) ZI E(42601) ZI");
	expect(&f, "hold 7:8 'c'\nhold 8:9 'd'\n5 simple 'c' executed [C] wire/hold/allow/1 x5+\n"
	       "6 simple 'd' prevented 42601 wire/hold/deny/1 x6-\n", "each its own");
	CHECK_INT(orphans(&f), 2);
	done(&f);
}

/* The client gave up, or was ended, with the message in its queue; or nobody said how it ended. */
static void test_session_end(void)
{
	static const struct {
		int action;
		const char *said, *want;
	} cases[] = {
		{ DBF_ACTION_NONE, "> Q(a)", "1 simple 'a' prevented wire/hold/-/3 withheld x1\n" },
		{ DBF_ACTION_KILL, "> Q(a)", "1 simple 'a' prevented wire/hold/kill/3 withheld x1\n" },
		{ DBF_ACTION_DENY, "> Q(a)", "1 simple 'a' prevented wire/hold/deny/3 x1\n" },
		{ DBF_ACTION_ALLOW, "> Q(a)", "1 simple 'a' aborted wire/hold/allow/3 x1\n" },
		{ -1, "> Q(a)", "1 simple 'a' aborted wire/hold/-/0 x1\n" },
		{ DBF_ACTION_NONE, "> P(,a)", "1 extended 'a' prevented wire/hold/-/3 withheld x1\n" },
		{ DBF_ACTION_NONE, "> P(,a) S < 1 ZI > B(,)", "1 extended 'a' prevented wire/hold/-/3 withheld x1\n" },
		{ DBF_ACTION_NONE, "> P(,a) B(,) E()", "1 extended 'a' prevented wire/hold/-/3 withheld x1\n" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture f;

		setup(&f);
		wiring_say(&f.w, cases[i].said);
		wiring_hold(&f.w, 4, 1);
		buf_reset(&f.out.log);
		if (cases[i].action >= 0)
			wiring_ended(&f.w, 4, (uint16_t)cases[i].action, DBF_BY_KERNEL);
		wiring_close(&f.w, DBF_WIRE_CLIENT, false);
		CHECK_MSG(!strncmp(buf_str(&f.out.log), cases[i].want, strlen(cases[i].want)), "%zu: got\n%s", i,
			  buf_str(&f.out.log));
		done(&f);
	}
}

/* It had returned rows before it was stopped. */
static void test_goes_on(void)
{
	struct fixture f;

	setup(&f);
	wiring_say(&f.w, "> Q(begin) < C(BEGIN) ZT > P(s,a) B(p,s) E(p) S < 1 2 D(2) s ZT > E(p)");
	buf_reset(&f.out.log);
	wiring_decided(&f.w, DBF_HOW_FAIL, DBF_ACTION_DENY);
	wiring_say(&f.w, "> S < E(08P01) ZE > Q(rollback) < C(ROLLBACK) ZI");
	expect(&f, "2 extended 'a' cancelled name=s 08P01 rows=2 wire/fail/deny !suspended x1\n"
	       "3 simple 'rollback' executed [ROLLBACK] x1\nx1 rolled back, 3 statements, xid 0\n", "denied on its way");
	wiring_say(&f.w, "> Q(begin) < C(BEGIN) ZT > B(p,s) E(p) S < 2 D(2) s ZT > E(p)");
	wiring_hold(&f.w, 4, 0);
	wiring_ended(&f.w, 4, DBF_ACTION_NONE, DBF_BY_KERNEL);
	buf_reset(&f.out.log);
	wiring_close(&f.w, DBF_WIRE_CLIENT, false);
	CHECK(strstr(buf_str(&f.out.log), "extended 'a' cancelled name=s rows=2 wire/hold/-/3 withheld"));
	done(&f);
}

/* The oldest of too many is forgotten, and no other's is taken for it. */
static void test_too_many(void)
{
	struct fixture f;
	char last[64];

	setup(&f);
	for (unsigned i = 0; i <= CONN_WIRE_VERDICTS; i++) {
		wiring_say(&f.w, i ? "> Q(b)" : "> Q(a)");
		wiring_decided(&f.w, DBF_HOW_FAIL, DBF_ACTION_ALLOW);
	}
	wiring_say(&f.w, "< C(A) ZI");
	expect(&f, "1 simple 'a' executed [A] x1+\n", "forgotten");
	for (unsigned i = 1; i <= CONN_WIRE_VERDICTS; i++) {
		buf_reset(&f.out.log);
		wiring_say(&f.w, "< C(B) ZI");
		snprintf(last, sizeof(last), "%u simple 'b' executed [B] wire/fail/allow x%u+\n", i + 1, i + 1);
		expect(&f, last, "its own");
	}
	done(&f);
}

/* Numbers that are none of theirs, and verdicts that nothing can be done with. */
static void test_hostile(void)
{
	static const struct dbf_verdict bad[] = {
		{ .gate = DBF_GATE_MAX, .how = DBF_HOW_HOLD }, { .gate = DBF_GATE_WIRE, .how = DBF_HOW_MAX },
		{ .gate = DBF_GATE_WIRE, .action = DBF_ACTION_MAX }, { .gate = DBF_GATE_WIRE, .why = DBF_WHY_MAX },
		{ .how = DBF_HOW_MAX },
	};
	struct fixture f;

	setup(&f);
	wiring_say(&f.w, "> Q(a)");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		wiring_verdict(&f.w, &bad[i]);
	wiring_say(&f.w, "< C(A) ZI");
	expect(&f, "1 simple 'a' executed [A] x1+\n", "as if they were not there");
	wiring_hold(&f.w, 1, 1);
	expect(&f, "", "no message waits");
	/* A loss: what was held cannot be told from what came since, and is not asked about any more. */
	wiring_say(&f.w, "> Q(a) G! R!");
	buf_reset(&f.out.log);
	wiring_hold(&f.w, 1, 1);
	expect(&f, "", "after a loss");
	wiring_ended(&f.w, 1, DBF_ACTION_DENY, DBF_BY_KERNEL);
	CHECK_INT(orphans(&f), 3);
	done(&f);
}

static const struct test_case cases[] = {
	{ "asks", test_asks },	   { "asks_with", test_asks_with },	{ "decided", test_decided },
	{ "holds", test_holds },   { "killed_parse", test_killed_parse }, { "session_end", test_session_end },
	{ "asks_before_told", test_asks_before_told },
	{ "goes_on", test_goes_on }, { "too_many", test_too_many },	{ "hostile", test_hostile },
};

TEST_MAIN(cases)
