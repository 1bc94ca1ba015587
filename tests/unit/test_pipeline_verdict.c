// SPDX-License-Identifier: Apache-2.0
/* pipeline.c: which verdicts are remembered, and for which class of sessions. */
#include "../lib/test.h"

#include "conn_facts.h"
#include "pipeline.h"
#include "sql/sql.h"

static struct facts facts;

static void test_what_is_remembered(void)
{
	struct conn_session session = { .identity_class = 5 };
	struct sql_facts known = { .unknown = SQL_KNOWN };
	struct conn_stmt st = { .session = &session, .captured = 9, .verdict = { .hashed_len = 9, .policy_gen = 3 } };
	struct policy_decision d = { .action = POLICY_DENY };

	CHECK(pipeline_may_remember(&known, &st, &d, 3));
	/* A syntax error will be one the next time; want of memory may not. */
	known.unknown = SQL_UNKNOWN_SYNTAX;
	CHECK(pipeline_may_remember(&known, &st, &d, 3));
	known.unknown = SQL_UNKNOWN_RESOURCE;
	CHECK(!pipeline_may_remember(&known, &st, &d, 3));
	known.unknown = SQL_KNOWN;
	/* The next gate may read its quotes otherwise. */
	known.by_quotes = true;
	CHECK(!pipeline_may_remember(&known, &st, &d, 3));
	known.by_quotes = false;
	CHECK(!pipeline_may_remember(&known, &st, &d, 4));
	d.identity_volatile = true;
	CHECK(!pipeline_may_remember(&known, &st, &d, 3));
	d.identity_volatile = false;
	st.captured = 8;
	CHECK(!pipeline_may_remember(&known, &st, &d, 3));
	st.captured = st.verdict.hashed_len = 0;
	CHECK(!pipeline_may_remember(&known, &st, &d, 3));
	st.captured = st.verdict.hashed_len = 9;
	session.identity_class = 0;
	CHECK(!pipeline_may_remember(&known, &st, &d, 3));
}

struct told {
	uint32_t class;
	unsigned cnt, asked;
};

static void hear_record(void *ctx, const void *body, size_t len)
{
	(void)ctx, (void)body, (void)len;
}

static void hear_message(void *ctx, uint32_t type, const void *payload, size_t len)
{
	struct told *told = ctx;
	struct msg_class m;

	told->asked += type == MSG_WHO;
	if (type != MSG_CLASS || len != sizeof(m))
		return;
	memcpy(&m, payload, sizeof(m));
	told->class = m.identity_class;
	told->cnt++;
}

static struct pipeline *new_pipeline(uint32_t base, struct told *told)
{
	static const struct pipeline_ops ops = { .record = hear_record, .message = hear_message };
	struct pipeline_opts opts = { .node = "n", .class_base = base };

	*told = (struct told){ 0 };
	return pipeline_new(&opts, &ops, told);
}

/* The facts gathered, as the batch with number @seq of the session with process id @tgid. */
static void feed(struct pipeline *p, uint32_t tgid, uint32_t seq)
{
	static uint64_t record[(sizeof(struct dbf_batch) + DBF_BATCH_BYTES) / 8];
	struct dbf_batch b = { .abi = DBF_ABI_VERSION, .tgid = tgid, .postmaster = 7, .session = 9, .seq = seq };

	b.len = (uint32_t)(sizeof(b) + facts.at[facts.cnt]);
	memcpy(record, &b, sizeof(b));
	memcpy(record + sizeof(b) / 8, facts.words, facts.at[facts.cnt]);
	pipeline_feed(p, record, b.len);
	facts.cnt = 0;
}

static void add_user(const char *kind, unsigned number, bool local)
{
	struct dbf_session s = { .kind = DBF_SESSION_CLIENT, .transport = DBF_TRANSPORT_UNIX, .major = 15,
				 .client_known = local, .database = "db" };

	snprintf(s.user, sizeof(s.user), "%s %u", kind, number);
	facts_add(&facts, DBF_FACT_OPEN, 0, &s, sizeof(s), NULL, 0);
}

static void add_auth_ok(void)
{
	add_reply(&facts, 'R', "\0\0\0", 4, 0);
}

static uint32_t class_of_first_session(uint32_t base)
{
	struct told told;
	struct pipeline *p = new_pipeline(base, &told);

	if (!CHECK(p))
		return 0;
	add_open(&facts, true);
	feed(p, 4, 0);
	CHECK_INT(told.cnt, 1);
	pipeline_free(p);
	return told.class;
}

/* Who is not let in is no class: names that somebody makes up would fill the table. */
static void test_a_session_is_classed_once_authenticated(void)
{
	struct told told;
	struct pipeline *p = new_pipeline(0, &told);
	struct msg_who_answer answer = { .session = { .session = 9, .tgid = 6 } };

	if (!CHECK(p))
		return;
	add_user("u", 1, false);
	feed(p, 5, 0);
	CHECK_INT(told.cnt, 0);
	add_auth_ok();
	feed(p, 5, 1);
	CHECK_INT(told.cnt, 1);
	CHECK_INT(told.class, 1);
	/* A local client's program may be known before or after. */
	add_user("u", 2, true);
	feed(p, 6, 0);
	CHECK_INT(told.asked, 1);
	pipeline_who(p, &answer);
	CHECK_INT(told.cnt, 1);
	add_auth_ok();
	feed(p, 6, 1);
	CHECK_INT(told.class, 2);
	answer.session.tgid = 7;
	add_user("u", 3, true);
	add_auth_ok();
	feed(p, 7, 0);
	CHECK_INT(told.cnt, 2);
	pipeline_who(p, &answer);
	CHECK_INT(told.class, 3);
	/* Its opening was lost: nothing is known of it. */
	add_auth_ok();
	feed(p, 8, 3);
	CHECK_INT(told.cnt, 3);
	pipeline_free(p);
}

static void one_session(struct pipeline *p, const char *kind, unsigned number, bool let_in)
{
	add_user(kind, number, false);
	if (let_in)
		add_auth_ok();
	add_exit(&facts, 0);
	feed(p, 100, 0);
}

/* The table never runs full for good, and no class is ever another's. */
static void test_classes_do_not_run_out(void)
{
	enum { HALF = 32768 };
	struct told told;
	struct pipeline *p = new_pipeline(500, &told);

	if (!CHECK(p))
		return;
	for (unsigned i = 0; i < HALF + 10; i++)
		one_session(p, "refused", i, false);
	CHECK_INT(told.cnt, 0);
	for (unsigned i = 0; i < HALF; i++)
		one_session(p, "user", i, true);
	CHECK_INT(told.class, 500 + HALF);
	one_session(p, "user", 0, true);
	CHECK_INT(told.class, 501);
	one_session(p, "another", 0, true);
	CHECK_INT(told.class, 501 + HALF);
	one_session(p, "user", 0, true);
	CHECK_INT(told.class, 502 + HALF);
	one_session(p, "another", 0, true);
	CHECK_INT(told.class, 501 + HALF);
	pipeline_free(p);
}

/* Where a worker's numbers begin is its own: the classes of the one before it, still in the kernel, are nobody's. */
static void test_classes_of_two_workers_do_not_meet(void)
{
	uint32_t one = class_of_first_session(1000), other = class_of_first_session(7000000);

	CHECK_INT(one, 1001);
	CHECK_INT(other, 7000001);
	/* 0 means none, also when the numbers would wrap. */
	CHECK(class_of_first_session(UINT32_MAX) != 0);
	CHECK(class_of_first_session(0) != 0);
}

static const struct test_case cases[] = {
	{ "what_is_remembered", test_what_is_remembered },
	{ "a_session_is_classed_once_authenticated", test_a_session_is_classed_once_authenticated },
	{ "classes_do_not_run_out", test_classes_do_not_run_out },
	{ "classes_of_two_workers_do_not_meet", test_classes_of_two_workers_do_not_meet },
};

TEST_MAIN(cases)
