// SPDX-License-Identifier: Apache-2.0
/* conn/: the extended protocol: Parse, Bind and Execute, pipelines, portals that go on. */
#include "conn_cuts.h"

static void make_extended(struct facts *f)
{
	opened(f);
	add_parse(f, "SELECT $1");
	add_reply(f, '1', NULL, 0, 0);
	add_ready(f, 'I');
	add_execute(f, 1, DBF_OP_SELECT, "SELECT $1", "s1");
	add_reply(f, '2', NULL, 0, 0);
	add_tag(f, "SELECT 1");
	add_ready(f, 'I');
	add_error(f, "22P02", 0, "SELECT $1", true);	/* Bind */
	add_failed(f, "ERROR", "22P02", "invalid input");
	add_ready(f, 'I');
	add_parse(f, "SELECT nowhere");
	add_failed(f, "ERROR", "42703", "no column");
	add_ready(f, 'I');
	add_parse(f, "");	/* an empty query leaves no trace */
	add_reply(f, '1', NULL, 0, 0);
	add_reply(f, '2', NULL, 0, 0);
	add_reply(f, 'I', NULL, 0, 0);
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void test_conn_extended(void)
{
	check("extended", make_extended,
	      OPEN "2 extended 'SELECT $1' executed name=s1 [SELECT 1] rows=1 x2+\n"
		   "3 extended 'SELECT $1' failed 22P02 (invalid input) execs=0 x3-\n"
		   "4 simple 'SELECT nowhere' failed 42703 (no column) execs=0 x4-\n"
		   "session close exit 0\n");
}

/* Input functions run while a text is parsed, and bound: what they ran belongs to the execution, if one comes. */
static void make_parse_runs(struct facts *f)
{
	opened(f);
	add_parse(f, "SELECT '(1)'::c");
	add_inside(f, 1, 0, DBF_OP_DELETE, "DELETE a");
	add_execute(f, 2, DBF_OP_SELECT, "SELECT '(1)'::c", NULL);
	add_reply(f, '1', NULL, 0, 0);
	add_reply(f, '2', NULL, 0, 0);
	add_tag(f, "SELECT 1");
	add_ready(f, 'I');
	add_parse(f, "SELECT '(2)'::c");
	add_inside(f, 3, 0, DBF_OP_DELETE, "DELETE b");
	add_reply(f, '1', NULL, 0, 0);
	add_ready(f, 'I');
	add_parse(f, "SELECT '(3)'::c, $1");
	add_inside(f, 4, 0, DBF_OP_DELETE, "DELETE c");
	add_reply(f, '1', NULL, 0, 0);
	add_error(f, "22P02", 0, "SELECT '(3)'::c, $1", true);
	add_failed(f, "ERROR", "22P02", "invalid input");
	add_ready(f, 'I');
	add_parse(f, "SELECT 1");
	add_execute(f, 5, DBF_OP_SELECT, "SELECT 1", NULL);
	add_parse(f, "SELECT '(4)'::c");
	add_inside(f, 6, 5, DBF_OP_DELETE, "DELETE d");	/* the last that the kernel knows to run */
	add_execute(f, 7, DBF_OP_SELECT, "SELECT '(4)'::c", NULL);
	add_reply(f, '1', NULL, 0, 0);
	add_reply(f, '2', NULL, 0, 0);
	add_tag(f, "SELECT 1");
	add_reply(f, '1', NULL, 0, 0);
	add_reply(f, '2', NULL, 0, 0);
	add_tag(f, "SELECT 1");
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void test_conn_parse_runs(void)
{
	check("parse runs", make_parse_runs,
	      OPEN "3 extended 'SELECT '(1)'::c' executed [SELECT 1] rows=1 x1+\n"
		   "2<3 nested 'DELETE a' executed x1\n"
		   "4 extended 'SELECT '(2)'::c' unknown execs=0 x2+\n"
		   "5<4 nested 'DELETE b' executed x2\n"
		   "8 extended 'SELECT '(3)'::c, $1' failed 22P02 (invalid input) execs=0 x3-\n"
		   "7<8 nested 'DELETE c' executed x3\n"
		   "10 extended 'SELECT 1' executed [SELECT 1] rows=1 x4\n"
		   "13 extended 'SELECT '(4)'::c' executed [SELECT 1] rows=1 x4\n"
		   "12<13 nested 'DELETE d' executed x4\n"
		   "x4 committed, 2 statements, xid 0, implicit\n"
		   "session close exit 0\n");
}

/* Answers come when the server's buffer is flushed: behind everything that ran. */
static void make_pipeline(struct facts *f)
{
	opened(f);
	add_parse(f, "SELECT 'a'");
	add_execute(f, 1, DBF_OP_SELECT, "SELECT 'a'", NULL);
	add_parse(f, "SELECT 1/x");
	add_execute(f, 2, DBF_OP_SELECT, "SELECT 1/x", NULL);
	add_error(f, "22012", 2, NULL, false);
	add_reply(f, '1', NULL, 0, 0);
	add_reply(f, '2', NULL, 0, 0);
	add_tag(f, "SELECT 1");
	add_reply(f, '1', NULL, 0, 0);
	add_reply(f, '2', NULL, 0, 0);
	add_failed(f, "ERROR", "22012", "division by zero");
	add_ready(f, 'I');
	/* The second one's Bind already fails, so there is nothing that runs. */
	add_parse(f, "SELECT 'b'");
	add_execute(f, 3, DBF_OP_SELECT, "SELECT 'b'", NULL);
	add_parse(f, "SELECT 1/0");
	add_error(f, "22012", 3, NULL, false);
	add_reply(f, '1', NULL, 0, 0);
	add_reply(f, '2', NULL, 0, 0);
	add_tag(f, "SELECT 1");
	add_reply(f, '1', NULL, 0, 0);
	add_failed(f, "ERROR", "22012", "division by zero");
	add_ready(f, 'I');
	/* What fails at Sync is nobody's: the statement was done. */
	add_parse(f, "INSERT INTO deferred VALUES (1)");
	add_execute(f, 4, DBF_OP_INSERT, "INSERT INTO deferred VALUES (1)", NULL);
	add_reply(f, '1', NULL, 0, 0);
	add_reply(f, '2', NULL, 0, 0);
	add_tag(f, "INSERT 0 1");
	add_failed(f, "ERROR", "23503", "deferred constraint");
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void test_conn_pipeline(void)
{
	check("pipeline", make_pipeline,
	      OPEN "2 extended 'SELECT 'a'' executed [SELECT 1] rows=1 x1\n"
		   "4 extended 'SELECT 1/x' failed 22012 (division by zero) x1\n"
		   "x1 rolled back, 2 statements, xid 0, implicit\n"
		   "6 extended 'SELECT 'b'' executed [SELECT 1] rows=1 x2\n"
		   "7 extended 'SELECT 1/0' failed 22012 (division by zero) execs=0 x2\n"
		   "x2 rolled back, 2 statements, xid 0, implicit\n"
		   "9 extended 'INSERT INTO deferred VALUES (1)' executed [INSERT 0 1] rows=1 x3-\n"
		   "session close exit 0\n");
}

static void make_portal(struct facts *f)
{
	opened(f);
	add_parse(f, "BEGIN");
	add_run(f, 1, DBF_OP_UTILITY, false);
	add_tag(f, "BEGIN");
	add_ready(f, 'T');
	/* Twice in one cycle, then in another one, where the kernel has forgotten its id. */
	add_execute(f, 2, DBF_OP_SELECT, "SELECT g", NULL);
	add_exec_fact(f, 2, 0, DBF_OP_SELECT, DBF_EXEC_TOP | DBF_EXEC_AGAIN, f->ptr, NULL, NULL);
	add_reply(f, '2', NULL, 0, 0);
	add_reply(f, 's', NULL, 0, 10);
	add_reply(f, 's', NULL, 0, 10);
	add_ready(f, 'T');
	add_exec_fact(f, 0, 0, DBF_OP_SELECT, DBF_EXEC_TOP | DBF_EXEC_AGAIN, f->ptr, NULL, NULL);
	add_reply(f, 'C', "SELECT 5", 9, 5);
	add_ready(f, 'T');
	add_execute(f, 3, DBF_OP_SELECT, "SELECT h", NULL);
	add_reply(f, 's', NULL, 0, 1);
	add_ready(f, 'T');
	add_parse(f, "COMMIT");
	add_run(f, 4, DBF_OP_UTILITY, false);
	add_tag(f, "COMMIT");
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void test_conn_portal(void)
{
	check("portal", make_portal,
	      OPEN "1 simple 'BEGIN' executed [BEGIN] x1\n"
		   "2 extended 'SELECT g' executed [SELECT 5] rows=25 !suspended x1\n"
		   "3 extended 'SELECT h' executed rows=1 !suspended x1\n"
		   "4 simple 'COMMIT' executed [COMMIT] x1\n"
		   "x1 committed, 4 statements, xid 0\n"
		   "session close exit 0\n");
}

/* What the server sends for one Execute while the gate is attached: its own id, then the portal's text. */
static void add_gated(struct facts *f, uint32_t id, const char *text, uint64_t portal, uint16_t how)
{
	add_execute(f, id, DBF_OP_EXECUTE, text, NULL);
	if (portal)
		add_exec_fact(f, id, 0, DBF_OP_SELECT, (uint16_t)(DBF_EXEC_TOP | how), portal, NULL, NULL);
}

static void make_portal_gated(struct facts *f)
{
	opened(f);
	add_parse(f, "BEGIN");
	add_run(f, 1, DBF_OP_UTILITY, false);
	add_tag(f, "BEGIN");
	add_ready(f, 'T');
	/* In one cycle: the server answers all of them at its end. */
	add_gated(f, 2, "SELECT g", 0x77000, DBF_EXEC_SAME);
	add_gated(f, 3, "SELECT g", 0x77000, DBF_EXEC_AGAIN);
	add_gated(f, 4, "SELECT g", 0x77000, DBF_EXEC_AGAIN);
	add_inside(f, 5, 4, DBF_OP_SELECT, "SELECT inside");
	add_reply(f, 's', NULL, 0, 10);
	add_reply(f, 's', NULL, 0, 10);
	add_reply(f, 's', NULL, 0, 10);
	add_ready(f, 'T');
	/* In the next ones; another portal with the same text is another statement. */
	add_gated(f, 6, "SELECT g", 0x77000, DBF_EXEC_AGAIN);
	add_reply(f, 's', NULL, 0, 10);
	add_ready(f, 'T');
	add_gated(f, 7, "SELECT g", 0x88000, DBF_EXEC_SAME);
	add_reply(f, 's', NULL, 0, 3);
	add_gated(f, 8, "SELECT g", 0x77000, DBF_EXEC_AGAIN);
	add_tag(f, "SELECT 5");
	add_gated(f, 9, "SELECT g", 0x88000, DBF_EXEC_AGAIN);
	add_tag(f, "SELECT 1");
	add_ready(f, 'T');
	add_parse(f, "COMMIT");
	add_run(f, 10, DBF_OP_UTILITY, false);
	add_tag(f, "COMMIT");
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void test_conn_portal_gated(void)
{
	check("portal behind the gate", make_portal_gated,
	      OPEN "1 simple 'BEGIN' executed [BEGIN] x1\n"
		   "2 extended 'SELECT g' executed [SELECT 5] rows=45 !suspended x1\n"
		   "5<2 nested 'SELECT inside' executed x1\n"
		   "7 extended 'SELECT g' executed [SELECT 1] rows=4 !suspended x1\n"
		   "10 simple 'COMMIT' executed [COMMIT] x1\n"
		   "x1 committed, 4 statements, xid 0\n"
		   "session close exit 0\n");
}

/* The rows of INSERT … RETURNING are made at first: what goes on enters nothing. @gate: its Executes are seen there. */
static void portal_stored(struct facts *f, bool gate)
{
	opened(f);
	if (gate)
		add_gated(f, 1, "INSERT r", 0x77000, DBF_EXEC_SAME);
	else
		add_execute(f, 1, DBF_OP_INSERT, "INSERT r", NULL);
	if (gate)
		add_gated(f, 2, "INSERT r", 0, 0);
	add_reply(f, 's', NULL, 0, 10);
	add_reply(f, 's', NULL, 0, 10);
	if (gate)
		add_gated(f, 3, "INSERT r", 0, 0);
	add_tag(f, "INSERT 0 5");
	if (gate)	/* once more, at its end */
		add_gated(f, 4, "INSERT r", 0, 0);
	add_tag(f, "INSERT 0 0");
	add_ready(f, 'I');
	add_exit(f, 0);
}

static void make_portal_stored(struct facts *f)
{
	portal_stored(f, false);
}

static void make_portal_stored_gated(struct facts *f)
{
	portal_stored(f, true);
}

static void test_conn_portal_stored(void)
{
	check("stored portal", make_portal_stored,
	      OPEN "1 extended 'INSERT r' executed [INSERT 0 5] rows=25 !suspended x1+\n"
		   "session close exit 0\n");
	check("stored portal behind the gate", make_portal_stored_gated,
	      OPEN "1 extended 'INSERT r' executed [INSERT 0 5] [INSERT 0 0] rows=25 !suspended x1+\n"
		   "session close exit 0\n");
}

/* A policy comes while a portal is read: the Execute that is denied is a record of its own, with the reason. */
static void portal_denied(struct facts *f, bool held)
{
	opened(f);
	add_parse(f, "BEGIN");
	add_run(f, 1, DBF_OP_UTILITY, false);
	add_tag(f, "BEGIN");
	add_ready(f, 'T');
	add_execute(f, 2, DBF_OP_SELECT, "SELECT g", NULL);
	add_reply(f, 's', NULL, 0, 10);
	add_ready(f, 'T');
	add_gated(f, 3, "SELECT g", 0, 0);
	if (held) {
		add_verdict(f, DBF_GATE_EXECUTE, DBF_HOW_HOLD, DBF_ACTION_NONE, 3, 4);
		add_settled(f, 4, DBF_ACTION_DENY, DBF_BY_KEEPER);
	} else {
		add_verdict(f, DBF_GATE_EXECUTE, DBF_HOW_CACHE, DBF_ACTION_DENY, 3, 0);
	}
	add_failed(f, "ERROR", "57014", "canceling");
	add_ready(f, 'E');
	add_exit(f, 0);
}

static void make_portal_denied(struct facts *f)
{
	portal_denied(f, false);
}

static void make_portal_denied_held(struct facts *f)
{
	portal_denied(f, true);
}

static void test_conn_portal_denied(void)
{
	check("portal denied", make_portal_denied,
	      OPEN "1 simple 'BEGIN' executed [BEGIN] x1\n"
		   "2 extended 'SELECT g' executed rows=10 !suspended x1\n"
		   "3 extended 'SELECT g' prevented 57014 (canceling) execute/cache/deny x1\n"
		   "x1 rolled back, 3 statements, xid 0\n"
		   "session close exit 0\n");
	check("portal denied after a hold", make_portal_denied_held,
	      OPEN "1 simple 'BEGIN' executed [BEGIN] x1\n"
		   "hold 4:9 'SELECT g'\n"
		   "2 extended 'SELECT g' executed rows=10 !suspended x1\n"
		   "3 extended 'SELECT g' prevented 57014 (canceling) execute/hold/deny/1 x1\n"
		   "x1 rolled back, 3 statements, xid 0\n"
		   "session close exit 0\n");
}

static const struct test_case cases[] = {
	{ "conn_extended", test_conn_extended },
	{ "conn_parse_runs", test_conn_parse_runs },
	{ "conn_pipeline", test_conn_pipeline },
	{ "conn_portal", test_conn_portal },
	{ "conn_portal_gated", test_conn_portal_gated },
	{ "conn_portal_stored", test_conn_portal_stored },
	{ "conn_portal_denied", test_conn_portal_denied },
};

TEST_MAIN(cases)
