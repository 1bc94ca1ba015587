// SPDX-License-Identifier: Apache-2.0
/* conn/: what a verdict is about, the key it is remembered by, and which text of a function it belongs to. */
#include "../lib/test.h"

#include "conn_facts.h"

static struct facts facts;


static void begin(void)
{
	facts.cnt = 0;
	facts.ts = 0;
	facts.ptr = 0x1000;
	facts.reply_split = 0;
}

static void check(const char *what, const char *want)
{
	struct feeding g;

	feeding_init(&g);
	feed_facts(&g, &facts, FACTS_MAX);
	CHECK_MSG(!strcmp(buf_str(&g.log), want), "%s:\n--- got\n%s--- expected\n%s---", what, buf_str(&g.log), want);
	feeding_fini(&g);
}

static void add_nested_parse(struct facts *f, uint32_t parent, const char *text, uint16_t mode, uint16_t flags)
{
	struct dbf_text t = { .ptr = f->ptr += 0x100, .length = (uint32_t)strlen(text), .captured = (uint32_t)strlen(text),
			      .flags = flags, .mode = mode, .id = parent };

	facts_add(f, DBF_FACT_PARSE, 0, &t, sizeof(t), text, strlen(text));
}

/* Texts read in different ways are not the same, and one that failed as an expression did not run as a statement. */
static void test_modes_are_not_merged(void)
{
	begin();
	add_parse(&facts, "DO");
	add_run(&facts, 1, DBF_OP_UTILITY, false);
	add_nested_parse(&facts, 1, "abort", 0, 0);
	add_verdict(&facts, DBF_GATE_PARSE, DBF_HOW_CACHE, DBF_ACTION_DENY, 0, 0);
	add_nested_parse(&facts, 1, "abort", 2, 0);
	add_verdict(&facts, DBF_GATE_PARSE, DBF_HOW_CACHE, DBF_ACTION_DENY, 0, 0);
	add_nested_parse(&facts, 1, "abort", 2, 0);
	add_verdict(&facts, DBF_GATE_PARSE, DBF_HOW_CACHE, DBF_ACTION_DENY, 0, 0);
	add_failed(&facts, "ERROR", "57014", "canceling");
	add_ready(&facts, 'I');
	check("two modes", "1 simple 'DO' cancelled 57014 (canceling) x1-\n"
			   "2<1 nested 'abort' prevented 57014 execs=0 parse/cache/deny x1\n"
			   "3<1 nested 'abort' prevented 57014 execs=0 parse/cache/deny x1\n");
}

/* A reject that came when the statement had run before did not prevent it. */
static void test_only_a_first_execution_is_prevented(void)
{
	for (unsigned again = 0; again < 2; again++) {
		begin();
		add_parse(&facts, "DO");
		add_run(&facts, 1, DBF_OP_UTILITY, false);
		add_inside(&facts, 2, 1, DBF_OP_DELETE, "DELETE FROM t");
		if (again)
			add_fold(&facts, 2, 2, 5);
		else
			add_fold(&facts, 2, 1, 0);
		add_verdict(&facts, DBF_GATE_EXECUTOR, DBF_HOW_CACHE, DBF_ACTION_DENY, 2, 0);
		add_error(&facts, "57014", 2, NULL, false);
		add_failed(&facts, "ERROR", "57014", "canceling");
		add_ready(&facts, 'I');
		check(again ? "again" : "first",
		      again ? "1 simple 'DO' cancelled 57014 (canceling) x1-\n"
			      "2<1 nested 'DELETE FROM t' cancelled 57014 rows=5 execs=2 executor/cache/deny x1\n"
			    : "1 simple 'DO' cancelled 57014 (canceling) x1-\n"
			      "2<1 nested 'DELETE FROM t' prevented 57014 rows=0 executor/cache/deny x1\n");
	}
}

struct key {
	uint32_t modes[4];
	unsigned cnt;
};

static void key_session(void *ctx, struct conn_session *s, enum conn_event event, const char *reason)
{
	(void)ctx, (void)s, (void)event, (void)reason;
}

static void key_hold(void *ctx, const struct conn_stmt *st)
{
	struct key *key = ctx;

	if (key->cnt < 4)
		key->modes[key->cnt++] = st->verdict.mode;
}

static void key_statement(void *ctx, const struct conn_stmt *st)
{
	(void)ctx, (void)st;
}

static void key_transaction(void *ctx, struct conn_session *s, const struct conn_xact *x)
{
	(void)ctx, (void)s, (void)x;
}

/* The key of a hold is the kernel's: how the text was read where it was judged, and how its strings were. */
static void test_key_is_the_kernels(void)
{
	static const struct conn_ops ops = { .session = key_session, .hold = key_hold, .statement = key_statement,
					     .transaction = key_transaction };
	struct feeding g = { .session = 1, .tgid = 1 };
	struct key key = { .cnt = 0 };

	begin();
	add_text(&facts, DBF_FACT_PARSE, "SELECT 'a'", DBF_TEXT_TOP | DBF_TEXT_ESCAPES, 0);
	add_verdict(&facts, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 1);
	add_settled(&facts, 1, DBF_ACTION_ALLOW, DBF_BY_KEEPER);
	add_run(&facts, 1, DBF_OP_SELECT, false);
	add_nested_parse(&facts, 1, "f(1)", 3, 0);
	add_verdict(&facts, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 2);
	add_settled(&facts, 2, DBF_ACTION_ALLOW, DBF_BY_KEEPER);
	{
		struct dbf_exec e = { .text = { .ptr = facts.ptr, .length = 4, .captured = 4, .mode = DBF_MODE_UNKNOWN },
				      .exec_id = 2, .parent_id = 1, .op = DBF_OP_SELECT };

		facts_add(&facts, DBF_FACT_EXEC, 0, &e, sizeof(e), "f(1)", 4);
	}
	add_verdict(&facts, DBF_GATE_EXECUTOR, DBF_HOW_HOLD, DBF_ACTION_NONE, 2, 3);
	g.table = conn_table_new(&ops, &key);
	if (!CHECK(g.table))
		return;
	feed_facts(&g, &facts, FACTS_MAX);
	CHECK_INT(key.cnt, 3);
	CHECK_INT(key.modes[0], DBF_MODE_ESCAPES);
	CHECK_INT(key.modes[1], 3);
	CHECK_INT(key.modes[2], DBF_MODE_UNKNOWN);
	conn_table_free(g.table);
}

static const struct test_case cases[] = {
	{ "modes_are_not_merged", test_modes_are_not_merged },
	{ "only_a_first_execution_is_prevented", test_only_a_first_execution_is_prevented },
	{ "key_is_the_kernels", test_key_is_the_kernels },
};

TEST_MAIN(cases)
