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
	unsigned cnt;
};

static void hear_record(void *ctx, const void *body, size_t len)
{
	(void)ctx, (void)body, (void)len;
}

static void hear_message(void *ctx, uint32_t type, const void *payload, size_t len)
{
	struct told *told = ctx;
	struct msg_class m;

	if (type != MSG_CLASS || len != sizeof(m))
		return;
	memcpy(&m, payload, sizeof(m));
	told->class = m.identity_class;
	told->cnt++;
}

static uint32_t class_of_first_session(uint32_t base)
{
	static const struct pipeline_ops ops = { .record = hear_record, .message = hear_message };
	struct pipeline_opts opts = { .node = "n", .class_base = base };
	struct told told = { 0 };
	struct pipeline *p = pipeline_new(&opts, &ops, &told);
	uint64_t record[(sizeof(struct dbf_batch) + DBF_BATCH_BYTES) / 8];
	struct dbf_batch b = { .abi = DBF_ABI_VERSION, .tgid = 4, .postmaster = 7, .session = 9 };

	if (!CHECK(p))
		return 0;
	facts.cnt = 0;
	add_open(&facts, false);
	b.len = (uint32_t)(sizeof(b) + facts.at[facts.cnt]);
	memcpy(record, &b, sizeof(b));
	memcpy(record + sizeof(b) / 8, facts.words, facts.at[facts.cnt]);
	pipeline_feed(p, record, b.len);
	CHECK_INT(told.cnt, 1);
	pipeline_free(p);
	return told.class;
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
	{ "classes_of_two_workers_do_not_meet", test_classes_of_two_workers_do_not_meet },
};

TEST_MAIN(cases)
