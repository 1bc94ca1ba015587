// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel records from nowhere, through source/batch and conn/. Whatever comes in, what is handed out is sound: texts that
 * can be read to their end and end in a NUL, names within their enums, counts that add up, and not a word about a session
 * after its close.
 *
 * Input: records as in records.h. All of the input is fed once more as one record.
 */
#include <stdlib.h>
#include <string.h>

#include "conn/conn.h"
#include "conn/state.h"
#include "records.h"
#include "source/batch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SESSIONS 512

struct sink {
	uint64_t statements;
	uint64_t touched;	/* so that reading is not optimised away */
	const struct conn_session *open[SESSIONS];
	unsigned open_cnt;
};

static void must(bool ok)
{
	if (!ok)
		abort();
}

static bool is_open(const struct sink *k, const struct conn_session *s)
{
	for (unsigned i = 0; i < k->open_cnt; i++)
		if (k->open[i] == s)
			return true;
	return false;
}

/* A session is first heard of in any callback; only the close ends it. */
static void heard(struct sink *k, const struct conn_session *s)
{
	must(s && s->state && s->id[0] && strlen(s->id) < sizeof(s->id));
	must(strnlen(s->application, sizeof(s->application)) < sizeof(s->application));
	if (!is_open(k, s) && k->open_cnt < SESSIONS)
		k->open[k->open_cnt++] = s;
}

static void on_session(void *ctx, struct conn_session *s, enum conn_event event, const char *reason)
{
	struct sink *k = ctx;

	heard(k, s);
	must(conn_event_name(event)[0]);
	k->touched += reason ? strlen(reason) : 0;
	if (event == CONN_OPEN || event == CONN_FOUND)
		must(s->known || s->vantage == CONN_WIRE);
	if (event != CONN_CLOSE)
		return;
	for (unsigned i = 0; i < k->open_cnt; i++)
		if (k->open[i] == s)
			k->open[i--] = k->open[--k->open_cnt];
}

static void check_statement(struct sink *k, const struct conn_stmt *st)
{
	heard(k, st->session);
	must(st->captured <= STATE_TEXT_MAX);
	must(st->captured <= st->length);
	for (size_t i = 0; i < st->captured; i++)
		k->touched += (unsigned char)st->text[i];
	must(!st->captured || !st->text[st->captured]);
	must(strlen(st->name) < DBF_NAME_BYTES && strlen(st->error) < 256 && strlen(st->sqlstate) <= 5);
	must(st->part_cnt <= STATE_PARTS_MAX);
	for (unsigned i = 0; i < st->part_cnt; i++)
		k->touched += strlen(st->parts[i].tag);
	must(st->id && st->id != st->parent_id);
	must(conn_form_name(st->form)[0]);
	must(!(st->evidence >> CONN_EVIDENCE_MAX) && !(st->missing >> CONN_MISSING_MAX));
}

static void on_hold(void *ctx, const struct conn_stmt *st)
{
	check_statement(ctx, st);
	must(st->has_verdict && st->verdict.how == DBF_HOW_HOLD);
}

static void on_statement(void *ctx, const struct conn_stmt *st)
{
	struct sink *k = ctx;

	check_statement(k, st);
	must(conn_outcome_name(st->outcome)[0]);
	must(st->outcome != CONN_PREVENTED || (st->has_verdict && st->verdict.signalled));
	must(st->outcome != CONN_EXECUTED || !st->sqlstate[0]);
	k->statements++;
}

static void on_transaction(void *ctx, struct conn_session *s, const struct conn_xact *x)
{
	heard(ctx, s);
	must(x->number && x->state <= CONN_XACT_ROLLED_BACK);
}

static void on_limit(void *ctx, struct conn_session *s, uint32_t statements)
{
	(void)ctx;
	(void)s;
	if (!statements)
		abort();
}

static void on_gap(void *ctx, struct conn_session *s, uint32_t batches, uint32_t execs)
{
	struct sink *k = ctx;

	heard(k, s);
	k->touched += batches + execs;
}

static void on_client(void *ctx, struct conn_session *s)
{
	heard(ctx, s);
}

/* Records are 8-aligned in the ring; the copy is exact, so that a read beyond it is seen. */
static void feed(void *to, const void *record, size_t len)
{
	conn_table_feed(to, record, len);
}

static void check_table(struct conn_table *t, const struct sink *k, uint64_t records)
{
	const struct conn_counters *c = conn_table_counters(t);

	must(c->records == records);
	must(c->bad_records <= records);
	must(c->statements + c->nested == k->statements);
	must(conn_table_cnt(t) <= c->sessions);
	for (unsigned i = 0; i <= t->mask; i++)
		if (t->slots[i])
			must(conn_table_lookup(t, t->slots[i]->start, t->slots[i]->tgid) == t->slots[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct conn_ops ops = {
		.session = on_session, .hold = on_hold, .client = on_client, .statement = on_statement, .transaction = on_transaction,
		.gap = on_gap,
		.limit = on_limit,
	};
	struct sink sink = { 0 };
	struct conn_table *t = conn_table_new(&ops, &sink);
	uint64_t records;

	must(t);
	records = records_feed(data, size, feed, t);
	records_feed_one(data, size, false, feed, t);
	check_table(t, &sink, records + 1);
	conn_table_free(t);
	return 0;
}
