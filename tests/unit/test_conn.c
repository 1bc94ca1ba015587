// SPDX-License-Identifier: Apache-2.0
/* conn/: facts in, statements, transactions and sessions out. The extended protocol is in test_conn_extended.c. */
#include "conn_cuts.h"

/* --- the simple protocol --- */

static void make_simple(struct facts *f)
{
	opened(f);
	add_parse(f, "SELECT 1");
	add_run(f, 1, DBF_OP_SELECT, false);
	add_tag(f, "SELECT 1");
	add_ready(f, 'I');
	add_parse(f, "INSERT INTO a VALUES (1); UPDATE a SET x = 2; SELECT 3");
	add_run(f, 2, DBF_OP_INSERT, false);
	add_arg(f, DBF_FACT_XID, 77);
	add_run(f, 2, DBF_OP_UPDATE, true);
	add_arg(f, DBF_FACT_XID, 78);
	add_run(f, 2, DBF_OP_SELECT, true);
	add_tag(f, "INSERT 0 1");
	add_tag(f, "UPDATE 4");
	add_tag(f, "SELECT 2");
	add_ready(f, 'I');
	add_parse(f, "SELEC");
	add_failed(f, "ERROR", "42601", "syntax error");
	add_ready(f, 'I');
	add_parse(f, "SELECT 1; SELECT 1/0; SELECT 2");
	add_run(f, 4, DBF_OP_SELECT, false);
	add_tag(f, "SELECT 1");
	add_failed(f, "ERROR", "22012", "division by zero");
	add_ready(f, 'I');
	add_parse(f, "");
	add_reply(f, 'I', NULL, 0, 0);
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void test_conn_simple(void)
{
	check("simple", make_simple,
	      OPEN "1 simple 'SELECT 1' executed [SELECT 1] rows=1 x1+\n"
		   "2 simple 'INSERT INTO a VALUES (1); UPDATE a SET x = 2; SELECT 3' executed [INSERT 0 1] [UPDATE 4] "
		   "[SELECT 2] rows=7 x2+\n"
		   "3 simple 'SELEC' failed 42601 (syntax error) execs=0 x3-\n"
		   "4 simple 'SELECT 1; SELECT 1/0; SELECT 2' failed 22012 (division by zero) [SELECT 1] rows=1 x4-\n"
		   "5 simple '' executed execs=0 x5+\n"
		   "session close exit 0\n");
}

static void make_copy(struct facts *f)
{
	opened(f);
	add_parse(f, "COPY a FROM STDIN");
	add_run(f, 1, DBF_OP_UTILITY, false);
	add_reply(f, 'G', "\0\0\1\0\0", 5, 0);
	add_tag(f, "COPY 12");
	add_ready(f, 'I');
	add_parse(f, "COPY a TO STDOUT");
	add_run(f, 2, DBF_OP_UTILITY, false);
	add_reply(f, 'H', "\0\0\1\0\0", 5, 0);
	add_reply(f, 'C', "COPY 5", 7, 5);
	add_ready(f, 'I');
	add_exit(f, 9);
}

static void test_conn_copy(void)
{
	check("copy", make_copy,
	      OPEN "1 simple 'COPY a FROM STDIN' executed [COPY 12] rows=12 x1+\n"
		   "2 simple 'COPY a TO STDOUT' executed [COPY 5] rows=5 x2+\n"
		   "session close signal 9\n");
}

/* --- what runs inside --- */

static void make_nested(struct facts *f)
{
	opened(f);
	add_parse(f, "DO 1");
	add_run(f, 1, DBF_OP_UTILITY, false);
	add_inside(f, 2, 1, DBF_OP_INSERT, "INSERT a");
	add_inside(f, 3, 2, DBF_OP_SELECT, "SELECT fk");
	add_inside(f, 4, 1, DBF_OP_INSERT, "INSERT b");
	add_error(f, "23505", 4, NULL, false);		/* caught */
	add_error(f, "42601", 1, "SELEC inside", false);	/* a text that the parser refused, caught too */
	add_fold(f, 2, 100, 100);
	add_fold(f, 3, 100, 0);
	add_inside(f, 5, 1, DBF_OP_INSERT, "INSERT a");	/* its fold was given away meanwhile */
	add_fold(f, 5, 7, 7);
	add_tag(f, "DO");
	add_ready(f, 'I');
	add_parse(f, "DO 2");
	add_run(f, 6, DBF_OP_UTILITY, false);
	add_inside(f, 7, 6, DBF_OP_DELETE, "DELETE c");
	add_error(f, "42501", 7, NULL, false);
	add_failed(f, "ERROR", "42501", "permission denied");
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void test_conn_nested(void)
{
	check("nested", make_nested,
	      OPEN "1 simple 'DO 1' executed [DO] x1+\n"
		   "2<1 nested 'INSERT a' executed rows=107 execs=107 x1\n"
		   "3<2 nested 'SELECT fk' executed rows=0 execs=100 x1\n"
		   "4<1 nested 'INSERT b' failed 23505 x1\n"
		   "5<1 nested 'SELEC inside' failed 42601 execs=0 x1\n"
		   "7 simple 'DO 2' failed 42501 (permission denied) x2-\n"
		   "8<7 nested 'DELETE c' failed 42501 x2\n"
		   "session close exit 0\n");
}

static void make_parentless(struct facts *f)
{
	opened(f);
	add_inside(f, 9, 8, DBF_OP_INSERT, "INSERT orphan");
	add_inside(f, 10, 9, DBF_OP_INSERT, "INSERT below");
	add_fold(f, 10, 3, 3);
	add_ready(f, 'I');
	add_fold(f, 9, 3, 3);	/* of a statement that is gone */
	add_fold(f, 10, 3, 3);
	add_exit(f, 0);
}

static void test_conn_parentless(void)
{
	check("parentless", make_parentless,
	      OPEN "1 nested 'INSERT orphan' unknown execs=0 !joined_mid_stream x1+\n"
		   "2<1 nested 'INSERT below' executed rows=3 execs=3 x1\n"
		   "session close exit 0\n");
}

/* --- verdicts --- */

static void make_denied(struct facts *f)
{
	opened(f);
	add_parse(f, "DROP a");
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_CACHE, DBF_ACTION_DENY, 0, 0);
	add_failed(f, "ERROR", "57014", "canceling");
	add_ready(f, 'I');
	add_parse(f, "DROP missing");
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_CACHE, DBF_ACTION_DENY, 0, 0);
	add_failed(f, "ERROR", "42P01", "does not exist");
	add_ready(f, 'I');
	add_execute(f, 1, DBF_OP_EXECUTE, "DELETE b", "s");
	add_verdict(f, DBF_GATE_EXECUTE, DBF_HOW_CACHE, DBF_ACTION_DENY, 1, 0);
	add_failed(f, "ERROR", "57014", "canceling");
	add_ready(f, 'I');
	add_parse(f, "DELETE c");
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_CACHE, DBF_ACTION_DENY, 0, 0);
	add_run(f, 2, DBF_OP_DELETE, false);
	add_verdict(f, DBF_GATE_EXECUTOR, DBF_HOW_CACHE, DBF_ACTION_DENY, 2, 0);
	add_failed(f, "ERROR", "57014", "canceling");
	add_ready(f, 'I');
	add_parse(f, "VACUUM d");
	add_run(f, 3, DBF_OP_UTILITY, false);
	add_verdict(f, DBF_GATE_UTILITY, DBF_HOW_CACHE, DBF_ACTION_DENY, 3, 0);
	add_failed(f, "ERROR", "57014", "canceling");
	add_ready(f, 'I');
	add_parse(f, "DELETE 1; DELETE 2");
	add_run(f, 5, DBF_OP_DELETE, false);
	add_tag(f, "DELETE 1");
	add_run(f, 5, DBF_OP_DELETE, true);
	add_verdict(f, DBF_GATE_EXECUTOR, DBF_HOW_CACHE, DBF_ACTION_DENY, 5, 0);
	add_failed(f, "ERROR", "57014", "canceling");
	add_ready(f, 'I');
	add_parse(f, "DROP e");
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_FAIL, DBF_ACTION_ALLOW, 0, 0);
	add_run(f, 4, DBF_OP_UTILITY, false);
	add_tag(f, "DROP TABLE");
	add_ready(f, 'I');
	add_parse(f, "DROP f");
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_CACHE, DBF_ACTION_KILL, 0, 0);
	add_failed(f, "FATAL", "57P01", "terminating");
	add_exit(f, 1 << 8);
}

static void test_conn_denied(void)
{
	check("denied", make_denied,
	      OPEN "1 simple 'DROP a' prevented 57014 (canceling) execs=0 parse/cache/deny x1-\n"
		   "2 simple 'DROP missing' failed 42P01 (does not exist) execs=0 parse/cache/deny x2-\n"
		   "3 extended 'DELETE b' prevented name=s 57014 (canceling) execute/cache/deny x3-\n"
		   "4 simple 'DELETE c' prevented 57014 (canceling) executor/cache/deny x4-\n"
		   "5 simple 'VACUUM d' cancelled 57014 (canceling) utility/cache/deny x5-\n"
		   "6 simple 'DELETE 1; DELETE 2' cancelled 57014 (canceling) [DELETE 1] rows=1 executor/cache/deny x6-\n"
		   "7 simple 'DROP e' executed [DROP TABLE] parse/fail/allow x7+\n"
		   "8 simple 'DROP f' prevented 57P01 (terminating) execs=0 parse/cache/kill x8-\n"
		   "session close 57P01 terminating\n");
}

static void make_killed_silently(struct facts *f)
{
	opened(f);
	add_parse(f, "DROP a");
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_CACHE, DBF_ACTION_KILL, 0, 0);
	add_exit(f, 9);
}

static void make_held(struct facts *f)
{
	opened(f);
	add_parse(f, "DROP a");
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 5);
	add_settled(f, 5, DBF_ACTION_DENY, DBF_BY_KEEPER);
	add_failed(f, "ERROR", "57014", "canceling");
	add_ready(f, 'I');
	add_parse(f, "DROP b");
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 6);
	add_settled(f, 5, DBF_ACTION_DENY, DBF_BY_KEEPER);	/* another hold's: nobody's */
	add_settled(f, 6, DBF_ACTION_ALLOW, DBF_BY_DEADMAN);
	add_run(f, 1, DBF_OP_UTILITY, false);
	add_tag(f, "DROP TABLE");
	add_ready(f, 'I');
	add_parse(f, "SELECT held");	/* Parse: allowed, its Execute makes the record */
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 1);
	add_settled(f, 1, DBF_ACTION_ALLOW, DBF_BY_KEEPER);
	add_reply(f, '1', NULL, 0, 0);
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void test_conn_held(void)
{
	check("held", make_held,
	      OPEN "hold 5:9 'DROP a'\n"
		   "1 simple 'DROP a' prevented 57014 (canceling) execs=0 parse/hold/deny/1 x1-\n"
		   "hold 6:9 'DROP b'\n"
		   "2 simple 'DROP b' executed [DROP TABLE] parse/hold/allow/2 x2+\n"
		   "hold 1:9 'SELECT held'\n"
		   "session close exit 0\n");
	check("killed silently", make_killed_silently,
	      OPEN "1 simple 'DROP a' prevented execs=0 parse/cache/kill x1\n"
		   "x1 unknown, 1 statements, xid 0, implicit\n"
		   "session close signal 9\n");
}

/* The same text inside, asked about again after it ran: somebody waits for the answer each time. */
static void make_held_inside(struct facts *f)
{
	opened(f);
	add_parse(f, "DO");
	add_run(f, 1, DBF_OP_UTILITY, false);
	add_text(f, DBF_FACT_PARSE, "DROP x", 0, 1);
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 0);
	add_settled(f, 0, DBF_ACTION_ALLOW, DBF_BY_KEEPER);
	add_inside(f, 2, 1, DBF_OP_UTILITY, "DROP x");
	add_text(f, DBF_FACT_PARSE, "DROP x", 0, 1);
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 1);
	add_settled(f, 1, DBF_ACTION_DENY, DBF_BY_KEEPER);
	add_error(f, "57014", 1, NULL, false);
	add_failed(f, "ERROR", "57014", "canceling");
	add_ready(f, 'I');
	/* Memory is used again: the verdict is about the text that came last. */
	add_parse(f, "DO again");
	add_run(f, 9, DBF_OP_UTILITY, false);
	for (unsigned i = 0; i < 3; i++) {
		f->ptr = 0x9000;
		add_text(f, DBF_FACT_PARSE, i == 1 ? "DROP b" : "DROP a", 0, 9);
		add_verdict(f, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, i);
		add_settled(f, i, DBF_ACTION_ALLOW, DBF_BY_KEEPER);
	}
	add_tag(f, "DO");
	add_ready(f, 'I');
	add_parse(f, "DO caught");
	add_run(f, 3, DBF_OP_UTILITY, false);
	add_inside(f, 4, 3, DBF_OP_DELETE, "DELETE y");
	add_verdict(f, DBF_GATE_EXECUTOR, DBF_HOW_CACHE, DBF_ACTION_DENY, 4, 0);
	add_error(f, "57014", 4, NULL, false);
	add_tag(f, "DO");
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void test_conn_held_inside(void)
{
	check("held inside", make_held_inside,
	      OPEN "hold 0:9 'DROP x'\n"
		   "hold 1:9 'DROP x'\n"
		   "1 simple 'DO' cancelled 57014 (canceling) x1-\n"
		   "2<1 nested 'DROP x' executed parse/hold/allow/1 x1\n"
		   "4<1 nested 'DROP x' prevented 57014 execs=0 parse/hold/deny/1 x1\n"
		   "hold 0:9 'DROP a'\n"
		   "hold 1:9 'DROP b'\n"
		   "hold 2:9 'DROP a'\n"
		   "5 simple 'DO again' executed [DO] x2+\n"
		   "9 simple 'DO caught' executed [DO] x3+\n"
		   "10<9 nested 'DELETE y' prevented 57014 executor/cache/deny x3\n"
		   "session close exit 0\n");
}

/* What is held is judged by its own text or not at all: never by one that stood at the same address before a loss. */
static void make_held_after_loss(struct facts *f)
{
	opened(f);
	add_parse(f, "SELECT harmless");
	add_loss(f, 1); /* of the text that is held, at the same address */
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 0);
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_FAIL, DBF_ACTION_DENY, 0, 0);
	add_ready(f, 'I');
	add_parse(f, "DO");
	add_run(f, 1, DBF_OP_UTILITY, false);
	add_text(f, DBF_FACT_PARSE, "SELECT inside", 0, 1);
	add_loss(f, 1);
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 1);
	add_verdict(f, DBF_GATE_EXECUTOR, DBF_HOW_HOLD, DBF_ACTION_NONE, 2, 2);
	/* The same bytes again, told after the loss: these are known. */
	add_text(f, DBF_FACT_PARSE, "SELECT inside", 0, 1);
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 3);
	add_exit(f, 0);
}

static void test_conn_held_after_loss(void)
{
	check("held after a loss", make_held_after_loss,
	      OPEN "gap 1 1\n"
		   "1 simple 'SELECT harmless' unknown execs=0 !gap x1\n"
		   "x1 unknown, 1 statements, xid 0, implicit\n"
		   "gap 1 1\n"
		   "hold 3:9 'SELECT inside'\n"
		   "2 simple 'DO' unknown !gap x2\n"
		   "x2 unknown, 1 statements, xid 0, implicit\n"
		   "session close exit 0\n");
}

/* A long text is known by its first piece when it runs. If the rest is another's, so is every verdict. */
static void add_long(struct facts *f, uint16_t kind, uint32_t id, const char *rest)
{
	static char first[DBF_TEXT_CHUNK];
	struct dbf_exec e = { .text = { .ptr = f->ptr += 0x100, .length = DBF_TEXT_CHUNK - 1, .captured = DBF_TEXT_CHUNK - 1,
					.flags = DBF_TEXT_MORE, .id = 1 },
			      .exec_id = id, .parent_id = 1, .op = DBF_OP_UTILITY };

	memset(first, 'x', sizeof(first));
	facts_add(f, kind, 0, &e, kind == DBF_FACT_EXEC ? sizeof(e) : sizeof(e.text), first, DBF_TEXT_CHUNK - 1);
	facts_add(f, DBF_FACT_TEXT, 0, NULL, 0, rest, strlen(rest));
}

static bool last_hold_faulty;

static void see_hold(void *ctx, const struct conn_stmt *st)
{
	(void)ctx;
	last_hold_faulty = st->missing & 1U << CONN_MISSING_TEXT_FAULT;
}

static void test_conn_held_long(void)
{
	static const char *const run[] = { "; SELECT 1", "; SELECT 2", "; SELECT", "; SELECT 11" };
	static struct facts f;

	for (unsigned i = 0; i < 4; i++) {
		struct feeding g;

		f = (struct facts){ 0 };
		feeding_init(&g);
		conn_table_free(g.table);
		g.table = conn_table_new(&(struct conn_ops){ .session = log_session, .hold = see_hold,
							     .statement = log_statement, .transaction = log_transaction,
							     .gap = log_gap },
					 &g);
		opened(&f);
		add_parse(&f, "DO");
		add_run(&f, 1, DBF_OP_UTILITY, false);
		add_long(&f, DBF_FACT_PARSE, 0, "; SELECT 1");
		add_long(&f, DBF_FACT_EXEC, 2, run[i]);
		add_verdict(&f, DBF_GATE_UTILITY, DBF_HOW_HOLD, DBF_ACTION_NONE, 2, 0);
		last_hold_faulty = i == 0;
		feed_facts(&g, &f, 0);
		CHECK_MSG(last_hold_faulty == (i != 0), "%s", run[i]);
		feeding_fini(&g);
	}
}

/* --- transactions --- */

static void simple(struct facts *f, uint32_t id, const char *text, const char *tag, uint32_t xid, char status)
{
	add_parse(f, text);
	add_run(f, id, DBF_OP_UTILITY, false);
	if (xid)
		add_arg(f, DBF_FACT_XID, xid);
	add_tag(f, tag);
	add_ready(f, status);
}

static void make_transactions(struct facts *f)
{
	opened(f);
	simple(f, 1, "BEGIN", "BEGIN", 0, 'T');
	simple(f, 2, "INSERT", "INSERT 0 1", 50, 'T');
	simple(f, 3, "ROLLBACK TO s", "ROLLBACK", 0, 'T');
	simple(f, 4, "INSERT", "INSERT 0 1", 51, 'T');
	simple(f, 5, "COMMIT", "COMMIT", 0, 'I');
	simple(f, 6, "BEGIN", "BEGIN", 0, 'T');
	add_parse(f, "bad");
	add_failed(f, "ERROR", "42601", "bad");
	add_ready(f, 'E');
	simple(f, 7, "COMMIT", "ROLLBACK", 0, 'I');
	simple(f, 8, "BEGIN", "BEGIN", 0, 'T');
	simple(f, 9, "INSERT", "INSERT 0 1", 60, 'T');
	simple(f, 10, "COMMIT AND CHAIN", "COMMIT", 0, 'T');
	simple(f, 11, "INSERT", "INSERT 0 1", 61, 'T');
	simple(f, 12, "PREPARE TRANSACTION", "PREPARE TRANSACTION", 0, 'I');
	simple(f, 13, "BEGIN", "BEGIN", 0, 'T');
	add_exit(f, 0);
}

static void test_conn_transactions(void)
{
	check("transactions", make_transactions,
	      OPEN "1 simple 'BEGIN' executed [BEGIN] x1\n"
		   "2 simple 'INSERT' executed [INSERT 0 1] rows=1 x1\n"
		   "3 simple 'ROLLBACK TO s' executed [ROLLBACK] x1\n"
		   "4 simple 'INSERT' executed [INSERT 0 1] rows=1 x1\n"
		   "5 simple 'COMMIT' executed [COMMIT] x1\n"
		   "x1 committed, 5 statements, xid 50\n"
		   "6 simple 'BEGIN' executed [BEGIN] x2\n"
		   "7 simple 'bad' failed 42601 (bad) execs=0 x2\n"
		   "8 simple 'COMMIT' executed [ROLLBACK] x2\n"
		   "x2 rolled back, 3 statements, xid 0\n"
		   "9 simple 'BEGIN' executed [BEGIN] x3\n"
		   "10 simple 'INSERT' executed [INSERT 0 1] rows=1 x3\n"
		   "11 simple 'COMMIT AND CHAIN' executed [COMMIT] x3\n"
		   "x3 committed, 3 statements, xid 60\n"
		   "12 simple 'INSERT' executed [INSERT 0 1] rows=1 x4\n"
		   "13 simple 'PREPARE TRANSACTION' executed [PREPARE TRANSACTION] x4\n"
		   "x4 unknown, 2 statements, xid 61\n"
		   "14 simple 'BEGIN' executed [BEGIN] x5\n"
		   "x5 rolled back, 1 statements, xid 0\n"
		   "session close exit 0\n");
}

/* One pipeline with a transaction that ends in it and one that begins. */
static void make_pipelined_commit(struct facts *f)
{
	static const char *const texts[] = { "BEGIN", "INSERT a", "COMMIT", "BEGIN", "INSERT b" };
	static const char *const tags[] = { "BEGIN", "INSERT 0 1", "COMMIT", "BEGIN", "INSERT 0 1" };

	opened(f);
	for (unsigned i = 0; i < 5; i++) {
		add_execute(f, i + 1, DBF_OP_UTILITY, texts[i], NULL);
		if (i % 3 == 1)
			add_arg(f, DBF_FACT_XID, 70 + i);
	}
	for (unsigned i = 0; i < 5; i++)
		add_tag(f, tags[i]);
	add_ready(f, 'T');
	simple(f, 6, "ROLLBACK", "ROLLBACK", 0, 'I');
	add_exit(f, 0);
}

static void make_procedure(struct facts *f)
{
	opened(f);
	add_parse(f, "CALL p()");
	add_run(f, 1, DBF_OP_UTILITY, false);
	add_inside(f, 2, 1, DBF_OP_INSERT, "INSERT");
	add_arg(f, DBF_FACT_XID, 80);
	add_arg(f, DBF_FACT_XACT, 1);
	add_inside(f, 3, 1, DBF_OP_INSERT, "INSERT");
	add_arg(f, DBF_FACT_XID, 81);
	add_arg(f, DBF_FACT_XACT, 2);
	add_tag(f, "CALL");
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void test_conn_transactions_inside(void)
{
	check("pipelined commit", make_pipelined_commit,
	      OPEN "1 extended 'BEGIN' executed [BEGIN] x1\n"
		   "2 extended 'INSERT a' executed [INSERT 0 1] rows=1 x1\n"
		   "3 extended 'COMMIT' executed [COMMIT] x1\n"
		   "x1 committed, 3 statements, xid 71, implicit\n"
		   "4 extended 'BEGIN' executed [BEGIN] x2\n"
		   "5 extended 'INSERT b' executed [INSERT 0 1] rows=1 x2\n"
		   "6 simple 'ROLLBACK' executed [ROLLBACK] x2\n"
		   "x2 rolled back, 3 statements, xid 74\n"
		   "session close exit 0\n");
	check("procedure", make_procedure,
	      OPEN "x1 committed, 1 statements, xid 80, implicit\n"
		   "x2 rolled back, 1 statements, xid 81, implicit\n"
		   "1 simple 'CALL p()' executed [CALL] x1\n"
		   "2<1 nested 'INSERT' executed x1\n"
		   "3<1 nested 'INSERT' executed x2\n"
		   "x3 committed, 1 statements, xid 0, implicit\n"
		   "session close exit 0\n");
}

/* --- ends and losses --- */

static void make_aborted(struct facts *f)
{
	opened(f);
	add_parse(f, "DO");
	add_run(f, 1, DBF_OP_UTILITY, false);
	add_inside(f, 2, 1, DBF_OP_INSERT, "INSERT");
	add_exit(f, 11);
}

static void make_refused(struct facts *f)
{
	add_open(f, false);
	add_failed(f, "FATAL", "28000", "no such role");
	add_exit(f, 1 << 8);
}

static void make_rest(struct facts *f)
{
	struct dbf_text t = { .ptr = 1, .flags = DBF_TEXT_TOP, .length = 15, .captured = 15 };

	add_open(f, true);
	add_reply(f, 'S', "application_name\0renamed", 25, 0);
	add_arg(f, DBF_FACT_FASTPATH, 957);
	add_reply(f, 'V', "\0\0\0\0", 4, 0);
	add_ready(f, 'I');
	facts_add(f, DBF_FACT_REPLICATION, 0, &t, sizeof(t), "IDENTIFY_SYSTEM", 15);
	add_tag(f, "IDENTIFY_SYSTEM");
	add_ready(f, 'I');
	add_failed(f, "FATAL", "57P01", "terminating");	/* while idle */
	add_exit(f, 1 << 8);
}

static void test_conn_ends(void)
{
	check("aborted", make_aborted,
	      OPEN "1 simple 'DO' aborted x1\n"
		   "2<1 nested 'INSERT' aborted x1\n"
		   "x1 unknown, 1 statements, xid 0, implicit\n"
		   "session close signal 11\n");
	check("refused", make_refused,
	      "session open\nsession auth_failed no such role\nsession close 28000 no such role\n");
	check("rest", make_rest,
	      "session found\n"
	      "1 fastpath '' executed [FUNCTION CALL] x1+\n"
	      "2 replication 'IDENTIFY_SYSTEM' executed [IDENTIFY_SYSTEM] x2+\n"
	      "session close 57P01 terminating\n");
}

/* --- replication commands --- */

static void add_command(struct facts *f, const char *text)
{
	add_text(f, DBF_FACT_REPLICATION, text, DBF_TEXT_TOP, 0);
}

/* The parser gets the very text that the walsender got. */
static void add_command_parsed(struct facts *f, const char *text)
{
	add_command(f, text);
	f->ptr -= 0x100;
	add_parse(f, text);
}

static void make_commands(struct facts *f)
{
	opened(f);
	add_command(f, "BASE_BACKUP whole");
	add_reply(f, 'C', "SELECT", 7, 1);
	add_reply(f, 'C', "SELECT", 7, 1);
	add_reply(f, 'H', "\0\0", 3, 0);
	add_reply(f, 'C', "SELECT", 7, 90);
	add_ready(f, 'I');
	add_command(f, "BASE_BACKUP half");
	add_reply(f, 'C', "SELECT", 7, 1);
	add_reply(f, 'H', "\0\0", 3, 0);
	add_failed(f, "ERROR", "58030", "no disk");
	add_ready(f, 'I');
	add_command(f, "BASE_BACKUP denied");
	add_verdict(f, DBF_GATE_REPLICATION, DBF_HOW_CACHE, DBF_ACTION_DENY, 0, 0);
	add_failed(f, "ERROR", "57014", "canceling");
	add_ready(f, 'I');
	add_command(f, "BASE_BACKUP held");
	add_verdict(f, DBF_GATE_REPLICATION, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 4);
	add_settled(f, 4, DBF_ACTION_DENY, DBF_BY_KEEPER);
	add_failed(f, "ERROR", "57014", "canceling");
	add_ready(f, 'I');
	add_command(f, "READ_REPLICATION_SLOT mistyped");
	add_failed(f, "ERROR", "42601", "syntax");
	add_ready(f, 'I');
	/* What was denied and answers all the same had begun. */
	add_command(f, "START_REPLICATION late");
	add_verdict(f, DBF_GATE_REPLICATION, DBF_HOW_CACHE, DBF_ACTION_DENY, 0, 0);
	add_reply(f, 'W', "\0\0", 3, 0);
	add_failed(f, "ERROR", "57014", "canceling");
	add_ready(f, 'I');
	add_command(f, "START_REPLICATION");
	add_reply(f, 'W', "\0\0", 3, 0);
	add_exit(f, 0);
}

static void make_commands_that_are_sql(struct facts *f)
{
	opened(f);
	add_command_parsed(f, "SELECT 1");
	add_run(f, 1, DBF_OP_SELECT, false);
	add_tag(f, "SELECT 1");
	add_ready(f, 'I');
	add_command_parsed(f, "DROP");
	add_verdict(f, DBF_GATE_PARSE, DBF_HOW_CACHE, DBF_ACTION_DENY, 0, 0);
	add_failed(f, "ERROR", "57014", "canceling");
	add_ready(f, 'I');
	add_command(f, "SELECT 2");	/* without a database */
	add_failed(f, "ERROR", "0A000", "not here");
	add_ready(f, 'I');
	add_command(f, "SHOW x");
	add_tag(f, "SHOW");
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void test_conn_commands(void)
{
	check("commands", make_commands,
	      OPEN "1 replication 'BASE_BACKUP whole' executed [SELECT] [SELECT] [SELECT] x1+\n"
		   "2 replication 'BASE_BACKUP half' failed 58030 (no disk) [SELECT] x2-\n"
		   "3 replication 'BASE_BACKUP denied' prevented 57014 (canceling) execs=0 replication/cache/deny x3-\n"
		   "hold 4:9 'BASE_BACKUP held'\n"
		   "4 replication 'BASE_BACKUP held' prevented 57014 (canceling) execs=0 replication/hold/deny/1 x4-\n"
		   "5 replication 'READ_REPLICATION_SLOT mistyped' failed 42601 (syntax) execs=0 x5-\n"
		   "6 replication 'START_REPLICATION late' cancelled 57014 (canceling) replication/cache/deny x6-\n"
		   "7 replication 'START_REPLICATION' aborted x7\n"
		   "x7 unknown, 1 statements, xid 0, implicit\n"
		   "session close exit 0\n");
	check("commands that are SQL", make_commands_that_are_sql,
	      OPEN "1 simple 'SELECT 1' executed [SELECT 1] rows=1 x1+\n"
		   "2 simple 'DROP' prevented 57014 (canceling) execs=0 parse/cache/deny x2-\n"
		   "3 replication 'SELECT 2' failed 0A000 (not here) execs=0 x3-\n"
		   "4 replication 'SHOW x' executed [SHOW] x4+\n"
		   "session close exit 0\n");
}

static void make_gap(struct facts *f)
{
	opened(f);
	add_parse(f, "SELECT lost");
	add_run(f, 1, DBF_OP_SELECT, false);
	add_inside(f, 2, 1, DBF_OP_SELECT, "SELECT inside");
	add_loss(f, 2);		/* its end, and perhaps more */
	add_parse(f, "SELECT next");
	add_run(f, 5, DBF_OP_SELECT, false);
	add_tag(f, "SELECT 1");
	add_ready(f, 'I');
	add_parse(f, "A; B");
	add_run(f, 6, DBF_OP_SELECT, false);
	add_loss(f, 1);		/* its id proves that it goes on */
	add_run(f, 6, DBF_OP_SELECT, true);
	add_tag(f, "SELECT 2");
	add_ready(f, 'I');
	add_loss(f, 1);		/* only the end of something is seen */
	add_run(f, 7, DBF_OP_SELECT, false);
	add_tag(f, "SELECT 3");
	add_ready(f, 'I');
	add_parse(f, "SELECT whole");
	add_run(f, 8, DBF_OP_SELECT, false);
	add_tag(f, "SELECT 4");
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void test_conn_gap(void)
{
	check("gap", make_gap,
	      OPEN "gap 2 2\n"
		   "1 simple 'SELECT lost' unknown !gap x1\n"
		   "2<1 nested 'SELECT inside' unknown !gap x1\n"
		   "3 simple 'SELECT next' executed [SELECT 1] rows=1 !gap x1\n"
		   "x1 unknown, 2 statements, xid 0, implicit\n"
		   "gap 1 1\n"
		   "4 simple 'A; B' executed [SELECT 2] rows=2 !gap x2\n"
		   "x2 unknown, 1 statements, xid 0, implicit\n"
		   "gap 1 1\n"
		   "5 simple '' executed [SELECT 3] rows=3 !gap !joined_mid_stream x3\n"
		   "x3 unknown, 1 statements, xid 0, implicit\n"
		   "6 simple 'SELECT whole' executed [SELECT 4] rows=4 x4+\n"
		   "session close exit 0\n");
}

static void make_times(struct facts *f)
{
	add_parse(f, "SELECT 1");			/* 10 */
	add_run(f, 1, DBF_OP_SELECT, false);
	add_tag(f, "SELECT 1");
	add_ready(f, 'I');				/* 40 */
	add_execute(f, 2, DBF_OP_SELECT, "SELECT 2", NULL);	/* 50 */
	add_tag(f, "SELECT 1");				/* 60 */
	add_ready(f, 'I');
}

static void test_conn_times(void)
{
	struct feeding g;

	begin(0);
	make_times(&facts);
	feeding_init(&g);
	g.times = true;
	feed_facts(&g, &facts, FACTS_MAX);
	CHECK_STR(buf_str(&g.log), "1 simple 'SELECT 1' executed [SELECT 1] rows=1 10..40 x1+\n"
				   "2 extended 'SELECT 2' executed [SELECT 1] rows=1 50..60 x2+\n");
	feeding_fini(&g);
}

/* --- without a client --- */

static void make_background(struct facts *f)
{
	add_open_background(f);
	add_parse(f, "CREATE TABLE a ()");
	add_run(f, 1, DBF_OP_UTILITY, false);
	add_arg(f, DBF_FACT_XID, 77);
	add_parse(f, "SELEC");
	add_error(f, "42601", 1, NULL, false);
	add_parse(f, "SELECT 1/0; SELECT 2");
	add_run(f, 2, DBF_OP_SELECT, false);
	add_error(f, "22012", 2, NULL, false);
	add_parse(f, "DO");
	add_run(f, 3, DBF_OP_UTILITY, false);
	add_inside(f, 4, 3, DBF_OP_INSERT, "INSERT INTO a");
	add_execute(f, 5, DBF_OP_SELECT, "SELECT never_parsed", NULL);
	add_parse(f, "SELECT last");
	add_run(f, 6, DBF_OP_SELECT, false);
}

static void make_background_ends(struct facts *f)
{
	make_background(f);
	add_exit(f, 0);
}

static void make_background_dies(struct facts *f)
{
	make_background(f);
	add_exit(f, 1 << 8);
}

#define BACKGROUND "session open\n" \
		   "1 simple 'CREATE TABLE a ()' executed x1\n" \
		   "2 simple 'SELEC' failed 42601 execs=0 x2\n" \
		   "3 simple 'SELECT 1/0; SELECT 2' failed 22012 x3\n" \
		   "4 simple 'DO' executed x4\n" \
		   "5<4 nested 'INSERT INTO a' executed x4\n" \
		   "6 extended 'SELECT never_parsed' executed x5\n"

static void test_conn_background(void)
{
	check("background ends", make_background_ends,
	      BACKGROUND "7 simple 'SELECT last' executed x6\n"
			 "session close exit 0\n");
	check("background dies", make_background_dies,
	      BACKGROUND "7 simple 'SELECT last' aborted x6\n"
			 "session close exit 1\n");
}

static const struct test_case cases[] = {
	{ "conn_simple", test_conn_simple },
	{ "conn_copy", test_conn_copy },
	{ "conn_nested", test_conn_nested },
	{ "conn_parentless", test_conn_parentless },
	{ "conn_denied", test_conn_denied },
	{ "conn_held", test_conn_held },
	{ "conn_held_inside", test_conn_held_inside },
	{ "conn_held_after_loss", test_conn_held_after_loss },
	{ "conn_held_long", test_conn_held_long },
	{ "conn_transactions", test_conn_transactions },
	{ "conn_transactions_inside", test_conn_transactions_inside },
	{ "conn_ends", test_conn_ends },
	{ "conn_commands", test_conn_commands },
	{ "conn_gap", test_conn_gap },
	{ "conn_times", test_conn_times },
	{ "conn_background", test_conn_background },
};

TEST_MAIN(cases)
