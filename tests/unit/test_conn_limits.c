// SPDX-License-Identifier: Apache-2.0
/* conn/: texts in pieces, limits and what is said when one is reached, the session table, records that are none. */
#include "../lib/test.h"

#include "conn_facts.h"
#include "conn/state.h"
#include "core/limits.h"

static struct facts facts;

static void begin(void)
{
	facts.cnt = 0;
	facts.ts = 0;
	facts.ptr = 0x1000;
	facts.reply_split = 0;
}

static void add_whole(struct facts *f)
{
	add_parse(f, "SELECT 1");
	add_run(f, 1, DBF_OP_SELECT, false);
	add_tag(f, "SELECT 1");
	add_ready(f, 'I');
}

static char long_text[STATE_TEXT_MAX + 1];

static void add_long(struct facts *f, size_t len, unsigned pieces, uint32_t end)
{
	struct dbf_text t = { .ptr = 0x5000, .flags = DBF_TEXT_TOP | DBF_TEXT_MORE, .length = DBF_TEXT_CHUNK - 1 };

	for (size_t i = 0; i < len; i++)
		long_text[i] = (char)('a' + i % 23);
	facts_add(f, DBF_FACT_PARSE, 0, &t, sizeof(t), long_text, DBF_TEXT_CHUNK - 1);
	for (size_t at = DBF_TEXT_CHUNK - 1; at < len && pieces--; at += DBF_TEXT_CHUNK - 1) {
		size_t n = len - at < DBF_TEXT_CHUNK - 1 ? len - at : DBF_TEXT_CHUNK - 1;

		facts_add(f, DBF_FACT_TEXT, at + n < len ? 1 : end, NULL, 0, long_text + at, n);
	}
}

struct seen {
	size_t captured;
	bool minimum, same;
	uint32_t missing;
	unsigned statements, nested;
};

static void see_session(void *ctx, struct conn_session *s, enum conn_event event, const char *reason)
{
	(void)ctx, (void)s, (void)event, (void)reason;
}

static void see_statement(void *ctx, const struct conn_stmt *st)
{
	struct seen *seen = ctx;

	seen->captured = st->captured;
	seen->minimum = st->length_is_minimum;
	seen->same = !memcmp(st->text, long_text, st->captured);
	seen->missing |= st->missing;
	seen->statements += !st->parent_id;
	seen->nested += st->parent_id != 0;
}

static void see_transaction(void *ctx, struct conn_session *s, const struct conn_xact *x)
{
	(void)ctx, (void)s, (void)x;
}

static void see_gap(void *ctx, struct conn_session *s, uint32_t batches, uint32_t execs)
{
	(void)ctx, (void)s, (void)batches, (void)execs;
}

static void see_limit(void *ctx, struct conn_session *s, uint32_t statements)
{
	(void)ctx, (void)s, (void)statements;
}

static const struct conn_ops see_ops = { .session = see_session, .hold = see_statement, .statement = see_statement,
					 .transaction = see_transaction, .gap = see_gap,
					 .limit = see_limit };

static struct seen see(void)
{
	struct seen seen = { 0 };
	struct feeding g = { .session = 1, .tgid = 1 };

	g.table = conn_table_new(&see_ops, &seen);
	if (CHECK(g.table))
		feed_facts(&g, &facts, FACTS_MAX);
	conn_table_free(g.table);
	return seen;
}

static void test_conn_long_texts(void)
{
	struct seen seen;

	begin();
	add_long(&facts, 10000, 100, 0);
	add_failed(&facts, "ERROR", "42601", "x");
	add_ready(&facts, 'I');
	seen = see();
	CHECK_INT(seen.captured, 10000);
	CHECK(seen.same && !seen.minimum && !seen.missing);
	begin();
	add_long(&facts, (size_t)16 * (DBF_TEXT_CHUNK - 1), 100, 2);
	add_failed(&facts, "ERROR", "42601", "x");
	add_ready(&facts, 'I');
	seen = see();
	CHECK_INT(seen.captured, 16 * (DBF_TEXT_CHUNK - 1));
	CHECK(seen.same && seen.minimum);
	CHECK_INT(seen.missing, 1U << CONN_MISSING_TEXT_LIMIT);
	/* A piece is missing: what is there must not pass for the whole. */
	begin();
	add_long(&facts, 10000, 1, 0);
	add_loss(&facts, 1);
	add_arg(&facts, DBF_FACT_TEXT, 0);
	add_ready(&facts, 'I');
	seen = see();
	CHECK_INT(seen.captured, 2 * (DBF_TEXT_CHUNK - 1));
	CHECK(seen.same && seen.minimum);
	CHECK_INT(seen.missing, 1U << CONN_MISSING_GAP);
	begin();
	add_long(&facts, 10000, 0, 0);
	add_loss(&facts, 1);
	add_ready(&facts, 'I');
	seen = see();
	CHECK_INT(seen.captured, DBF_TEXT_CHUNK - 1);
	CHECK(seen.same && seen.minimum);
	/* The rest of a text that is known already is not appended again. */
	begin();
	add_execute(&facts, 1, DBF_OP_EXECUTE, "SELECT 1", NULL);
	add_execute(&facts, 1, DBF_OP_SELECT, "SELECT 1", NULL);
	facts_add(&facts, DBF_FACT_TEXT, 0, NULL, 0, "more", 4);
	add_tag(&facts, "SELECT 1");
	add_ready(&facts, 'I');
	CHECK_INT(see().captured, 8);
}

static void test_conn_statement_limits(void)
{
	struct seen seen;
	char text[32];

	begin();
	for (unsigned i = 0; i < 200; i++)
		add_parse(&facts, "SELECT 1");
	for (unsigned i = 0; i < 200; i++)
		add_failed(&facts, "ERROR", "42601", "x");
	add_ready(&facts, 'I');
	CHECK_INT(see().statements, 200);
	begin();
	add_parse(&facts, "DO");
	add_run(&facts, 1, DBF_OP_UTILITY, false);
	for (unsigned i = 0; i < STATE_NESTED_MAX + 10; i++) {
		snprintf(text, sizeof(text), "SELECT %u", i);
		add_inside(&facts, i + 2, 1, DBF_OP_SELECT, text);
	}
	facts_add(&facts, DBF_FACT_TEXT, 0, NULL, 0, "not the last one's", 18);
	add_tag(&facts, "DO");
	add_ready(&facts, 'I');
	seen = see();
	CHECK_INT(seen.statements, 1);
	CHECK_INT(seen.nested, STATE_NESTED_MAX);
	CHECK_INT(seen.missing, 1U << CONN_MISSING_NESTED);
	CHECK_INT(seen.captured, 11);
}

static void test_conn_top_limit(void)
{
	struct seen seen = { 0 };
	struct feeding g = { .session = 1, .tgid = 1 };

	g.table = conn_table_new(&see_ops, &seen);
	if (!CHECK(g.table))
		return;
	begin();
	for (unsigned i = 0; i < 100; i++)
		add_parse(&facts, "X");
	for (unsigned i = 0; i < STATE_TOPS_MAX / 100 + 2; i++)
		feed_facts(&g, &facts, FACTS_MAX);
	CHECK_INT(conn_table_counters(g.table)->nested_lost, (STATE_TOPS_MAX / 100 + 2) * 100 - STATE_TOPS_MAX);
	conn_table_free(g.table);
}

/* @cnt texts of @len bytes, parsed in one cycle that has not ended. */
static void feed_long_texts(struct feeding *g, unsigned cnt, size_t len)
{
	begin();
	add_long(&facts, len, 100, 0);
	for (unsigned i = 0; i < cnt; i++)
		feed_facts(g, &facts, FACTS_MAX);
}

/* A session that keeps too much loses texts, not statements; another one keeps its own. */
static void test_conn_session_text_limit(void)
{
	const unsigned fit = LIMIT_SESSION_TEXT_BYTES / 60000, over = 50;
	const struct conn_counters *c;
	struct seen seen = { 0 };
	struct feeding g = { .session = 1, .tgid = 1 };

	g.table = conn_table_new(&see_ops, &seen);
	if (!CHECK(g.table))
		return;
	c = conn_table_counters(g.table);
	feed_long_texts(&g, fit, 60000);
	CHECK_INT(c->texts_limited, 0);
	CHECK_INT(c->text_bytes, (uint64_t)fit * 60000);
	feed_long_texts(&g, over, 60000);
	CHECK_INT(c->texts_limited, over);
	CHECK(c->text_bytes <= LIMIT_SESSION_TEXT_BYTES);
	CHECK(c->text_bytes > LIMIT_SESSION_TEXT_BYTES - DBF_TEXT_CHUNK);
	begin();
	for (unsigned i = 0; i < fit + over; i++)
		add_failed(&facts, "ERROR", "42601", "x");
	add_ready(&facts, 'I');
	feed_facts(&g, &facts, FACTS_MAX);
	CHECK_INT(seen.statements, fit + over);
	CHECK_INT(seen.missing, 1U << CONN_MISSING_TEXT_LIMIT);
	CHECK_INT(c->nested_lost, 0);
	CHECK_INT(c->text_bytes, 0);
	/* What was freed is there again. */
	seen.missing = 0;
	feed_long_texts(&g, 1, 60000);
	begin();
	add_failed(&facts, "ERROR", "42601", "x");
	add_ready(&facts, 'I');
	feed_facts(&g, &facts, FACTS_MAX);
	CHECK_INT(seen.captured, 60000);
	CHECK_INT(seen.missing, 0);
	conn_table_free(g.table);
}

/* Sessions that fill the table leave every other one its minimum. */
static void test_conn_table_text_limit(void)
{
	const unsigned per_session = LIMIT_SESSION_TEXT_BYTES / 60000;
	const unsigned sessions = LIMIT_TEXT_BYTES / LIMIT_SESSION_TEXT_BYTES + 3;
	const struct conn_counters *c;
	struct seen seen = { 0 };
	struct feeding g = { 0 };

	g.table = conn_table_new(&see_ops, &seen);
	if (!CHECK(g.table))
		return;
	c = conn_table_counters(g.table);
	for (unsigned i = 1; i <= sessions; i++) {
		g.session = g.tgid = i;
		g.seq = 0;
		feed_long_texts(&g, per_session, 60000);
	}
	CHECK(c->texts_limited > 0);
	CHECK(c->text_bytes > LIMIT_TEXT_BYTES - DBF_TEXT_CHUNK);
	CHECK(c->text_bytes <= LIMIT_TEXT_BYTES + sessions * LIMIT_SESSION_TEXT_MIN);
	g.session = g.tgid = sessions + 1;
	g.seq = 0;
	feed_long_texts(&g, 1, LIMIT_SESSION_TEXT_MIN);
	begin();
	add_failed(&facts, "ERROR", "42601", "x");
	add_ready(&facts, 'I');
	feed_facts(&g, &facts, FACTS_MAX);
	CHECK_INT(seen.captured, LIMIT_SESSION_TEXT_MIN);
	CHECK_INT(seen.missing, 0);
	conn_table_free(g.table);
}

/* A text without room is undecided at a hold, and equal to no other. */
static void test_conn_limited_texts_are_not_alike(void)
{
	struct seen seen = { 0 };
	struct feeding g = { .session = 1, .tgid = 1 };
	char text[32];

	g.table = conn_table_new(&see_ops, &seen);
	if (!CHECK(g.table))
		return;
	feed_long_texts(&g, LIMIT_SESSION_TEXT_BYTES / 60000 + 1, 60000);
	begin();
	add_execute(&facts, 7, DBF_OP_UTILITY, "DO", NULL);
	for (unsigned i = 0; i < 600; i++) {
		snprintf(text, sizeof(text), "SELECT %u", 100 + i);
		add_inside(&facts, 10 + i, 7, DBF_OP_SELECT, text);
	}
	feed_facts(&g, &facts, FACTS_MAX);
	begin();
	add_parse(&facts, "DROP TABLE held");
	add_verdict(&facts, DBF_GATE_PARSE, DBF_HOW_HOLD, DBF_ACTION_NONE, 0, 3);
	for (unsigned i = 0; i < 3; i++)
		feed_facts(&g, &facts, FACTS_MAX);
	CHECK_INT(seen.statements, 3);
	CHECK_INT(seen.missing, 1U << CONN_MISSING_TEXT_LIMIT);
	CHECK(seen.minimum && !seen.captured);
	seen.nested = 0;
	begin();
	add_exit(&facts, 0);
	feed_facts(&g, &facts, FACTS_MAX);
	CHECK_INT(seen.nested, 600);
	conn_table_free(g.table);
}

struct told {
	struct seen seen;
	uint32_t limited;
};

static void told_limit(void *ctx, struct conn_session *s, uint32_t statements)
{
	struct told *told = ctx;

	(void)s;
	told->limited += statements;
}

/* Statements of many nested ones in one cycle: what is beyond the limit is counted, and told once. */
static void test_conn_session_statement_limit(void)
{
	struct conn_ops ops = see_ops;
	struct told told = { 0 };
	struct feeding g = { .session = 1, .tgid = 1 };
	unsigned fed = 0, id = 1;
	char text[32];

	ops.limit = told_limit;
	g.table = conn_table_new(&ops, &told);
	if (!CHECK(g.table))
		return;
	while (fed < LIMIT_SESSION_STATEMENTS + 500) {
		begin();
		add_execute(&facts, id, DBF_OP_UTILITY, "DO", NULL);
		fed++;
		for (unsigned i = 0, top = id++; i < STATE_NESTED_MAX; i++, fed++) {
			snprintf(text, sizeof(text), "SELECT %u", i);
			add_inside(&facts, id++, top, DBF_OP_SELECT, text);
		}
		feed_facts(&g, &facts, FACTS_MAX);
	}
	begin();
	add_exit(&facts, 0);
	feed_facts(&g, &facts, FACTS_MAX);
	CHECK_INT(told.seen.statements + told.seen.nested, LIMIT_SESSION_STATEMENTS);
	CHECK_INT(told.limited, fed - LIMIT_SESSION_STATEMENTS);
	CHECK(told.seen.missing & 1U << CONN_MISSING_NESTED);
	conn_table_free(g.table);
}

static void test_conn_table_many(void)
{
	struct seen seen = { 0 };
	struct feeding g = { 0 };
	unsigned cnt = 5000, found = 0;

	g.table = conn_table_new(&see_ops, &seen);
	if (!CHECK(g.table))
		return;
	for (unsigned round = 0; round < 3; round++) {
		begin();
		if (round == 0)
			add_open(&facts, false);
		else if (round == 1)
			add_whole(&facts);
		else
			add_exit(&facts, 0);
		for (unsigned i = 0; i < cnt; i++) {
			if (round == 2 && i % 3)
				continue;
			g.session = i / 4 + 1;	/* several processes start in one tick */
			g.tgid = i + 1;
			g.seq = round;
			feed_facts(&g, &facts, FACTS_MAX);
		}
	}
	CHECK_INT(seen.statements, cnt);
	CHECK_INT(conn_table_cnt(g.table), cnt - (cnt + 2) / 3);
	for (unsigned i = 0; i < cnt; i++) {
		struct conn_session *s = conn_table_lookup(g.table, i / 4 + 1, i + 1);

		if (i % 3 ? s && s->tgid == i + 1 && s->statements == 1 : !s)
			found++;
	}
	CHECK_INT(found, cnt);
	CHECK(!conn_table_lookup(g.table, 1, 0));
	conn_table_free(g.table);
}

/* More sessions than there is room for: one that was quiet goes, and what it was doing is told; a busy one stays. */
static void test_conn_table_full(void)
{
	struct seen seen = { 0 };
	struct feeding g = { 0 };

	g.table = conn_table_new(&see_ops, &seen);
	if (!CHECK(g.table))
		return;
	begin();
	add_open(&facts, false);
	add_parse(&facts, "SELECT 1");
	add_run(&facts, 1, DBF_OP_SELECT, false);
	for (unsigned i = 1; i <= LIMIT_SESSIONS + 300; i++) {
		g.session = i;
		g.tgid = i;
		g.seq = 0;
		feed_facts(&g, &facts, FACTS_MAX);
		if (i > LIMIT_SESSIONS) {
			g.session = g.tgid = 7;
			g.seq = i - LIMIT_SESSIONS;
			feed_facts(&g, &facts, FACTS_MAX);
		}
	}
	CHECK_INT(conn_table_cnt(g.table), LIMIT_SESSIONS);
	CHECK_INT(conn_table_counters(g.table)->evicted, conn_table_counters(g.table)->sessions - LIMIT_SESSIONS);
	CHECK(conn_table_counters(g.table)->sessions <= LIMIT_SESSIONS + 301);
	CHECK(conn_table_lookup(g.table, 7, 7));
	CHECK(seen.statements >= 300);
	CHECK_INT(seen.missing, 1U << CONN_MISSING_GAP);
	conn_table_free(g.table);
}

static void test_conn_bad_records(void)
{
	struct seen seen = { 0 };
	struct conn_table *t = conn_table_new(&see_ops, &seen);
	struct {
		struct dbf_batch b;
		struct dbf_fact f;
	} r = { .b = { .abi = DBF_ABI_VERSION, .len = sizeof(r), .session = 5, .tgid = 6 },
		.f = { .kind = DBF_FACT_MAX, .len = sizeof(struct dbf_fact) } };

	if (!CHECK(t))
		return;
	conn_table_feed(t, &r, sizeof(r) - 1);
	CHECK_INT(conn_table_counters(t)->bad_records, 1);
	CHECK_INT(conn_table_cnt(t), 0);
	conn_table_feed(t, &r, sizeof(r));	/* a session, and a fact that is none */
	CHECK_INT(conn_table_counters(t)->bad_records, 2);
	CHECK_INT(conn_table_counters(t)->facts, 0);
	CHECK_INT(conn_table_cnt(t), 1);
	r.f.kind = DBF_FACT_EXIT;
	r.b.seq = 1;
	conn_table_feed(t, &r, sizeof(r));
	CHECK_INT(conn_table_cnt(t), 0);
	CHECK_INT(conn_table_counters(t)->records, 3);
	conn_table_free(t);
	conn_table_free(NULL);
}

static void test_conn_names(void)
{
	for (int i = 0; i < CONN_FORM_MAX; i++)
		CHECK(conn_form_name(i)[0]);
	for (int i = 0; i < CONN_OUTCOME_MAX; i++)
		CHECK(conn_outcome_name(i)[0]);
	for (int i = 0; i < CONN_EVIDENCE_MAX; i++)
		CHECK(conn_evidence_name(i)[0]);
	for (int i = 0; i < CONN_MISSING_MAX; i++)
		CHECK(conn_missing_name(i)[0]);
	for (int i = 0; i < CONN_EVENT_MAX; i++)
		CHECK(conn_event_name(i)[0]);
	CHECK_STR(conn_outcome_name(CONN_OUTCOME_MAX), "");
}

static const struct test_case cases[] = {
	{ "conn_long_texts", test_conn_long_texts },
	{ "conn_statement_limits", test_conn_statement_limits },
	{ "conn_top_limit", test_conn_top_limit },
	{ "conn_session_text_limit", test_conn_session_text_limit },
	{ "conn_table_text_limit", test_conn_table_text_limit },
	{ "conn_limited_texts_are_not_alike", test_conn_limited_texts_are_not_alike },
	{ "conn_session_statement_limit", test_conn_session_statement_limit },
	{ "conn_table_many", test_conn_table_many },
	{ "conn_table_full", test_conn_table_full },
	{ "conn_bad_records", test_conn_bad_records },
	{ "conn_names", test_conn_names },
};

TEST_MAIN(cases)
