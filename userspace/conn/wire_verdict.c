// SPDX-License-Identifier: Apache-2.0
#include "conn/wire_verdict.h"

#include <stdlib.h>
#include <string.h>

static struct conn_wire_verdict *verdict_by_mark(const struct conn_wire *w, uint64_t mark)
{
	struct conn_wire_verdict *v = mark && w->verdicts ? &w->verdicts[mark % CONN_WIRE_VERDICTS] : NULL;

	return v && v->mark == mark ? v : NULL;
}

void wire_verdict_take(struct conn_wire *w, struct stmt *st, uint64_t mark)
{
	struct conn_wire_verdict *v = verdict_by_mark(w, mark);

	if (!v)
		return;
	st->pub.has_verdict = true;
	st->pub.verdict = v->verdict;
	v->mark = 0;
}

static void fill_verdict(struct conn_verdict *to, const struct dbf_verdict *v, uint64_t ts)
{
	*to = (struct conn_verdict){ .gate = DBF_GATE_WIRE,
				     .how = v->how,
				     .action = v->action,
				     .why = v->how == DBF_HOW_FAIL ? v->why : DBF_WHY_NONE,
				     .policy_gen = v->policy_gen,
				     .slot = v->slot,
				     .slot_seq = v->slot_seq,
				     .deadline_ns = v->deadline_ns,
				     .since_ns = ts,
				     .hash = { v->hash[0], v->hash[1] },
				     .hashed_len = v->text_len,
				     .mode = DBF_MODE_WIRE,
				     .signalled = v->how != DBF_HOW_HOLD && v->action > DBF_ACTION_ALLOW };
}

static void hold_ends(struct conn_verdict *to, const struct dbf_verdict *v)
{
	conn_verdict_ends(to, v);
	to->signalled = v->action == DBF_ACTION_DENY || v->action == DBF_ACTION_KILL;
	to->withheld = v->action == DBF_ACTION_NONE || v->action == DBF_ACTION_KILL;
}

/* How a hold ended. */
static void verdict_ends(struct conn_wire *w, const struct dbf_verdict *v)
{
	for (unsigned i = 0; w->verdicts && i < CONN_WIRE_VERDICTS; i++) {
		struct conn_verdict *to = &w->verdicts[i].verdict;

		if (!w->verdicts[i].mark || to->how != DBF_HOW_HOLD || to->slot != v->slot || to->slot_seq != v->slot_seq)
			continue;
		hold_ends(to, v);
		if (to->withheld)
			pgwire_withheld(w->protocol, w->verdicts[i].mark);
		return;
	}
	w->table->counters.orphan_replies++;
}

/* Somebody waits: judge the message that came right before. */
static void ask(struct conn_wire *w, const struct pgwire_run *run, const struct conn_verdict *verdict)
{
	struct conn_table *t = w->table;
	struct conn_session *s = w->session;
	struct stmt *st = conn_wire_new_statement(w, run);

	if (!s->user)
		t->ops.client(t->ctx, s);
	if (!st)
		return;
	/* What is not answered yet may change how its bytes are read. */
	if (!pgwire_alone(w->protocol) && !conn_is_ascii(&st->pub))
		st->pub.missing |= 1U << CONN_MISSING_ENCODING;
	st->pub.has_verdict = true;
	st->pub.verdict = *verdict;
	t->ops.hold(t->ctx, &st->pub);
	stmt_drop(t, s, st);
	s->state->next_id--; /* it was no statement yet */
}

void wire_verdict_item(struct conn_wire *w, const struct wire_item *item, uint64_t ts)
{
	struct conn_wire_verdict *to;
	struct pgwire_run run;
	struct dbf_verdict v;

	memcpy(&v, item->bytes, sizeof(v));
	if (v.gate >= DBF_GATE_MAX || v.how >= DBF_HOW_MAX || v.action >= DBF_ACTION_MAX || v.why >= DBF_WHY_MAX)
		return;
	if (!v.gate) {
		verdict_ends(w, &v);
		return;
	}
	if (!w->verdicts)
		w->verdicts = calloc(CONN_WIRE_VERDICTS, sizeof(*w->verdicts));
	if (!w->verdicts || !pgwire_pending_text(w->protocol, &run)) {
		w->table->counters.orphan_replies++;
		return;
	}
	to = &w->verdicts[++w->last_mark % CONN_WIRE_VERDICTS];
	to->mark = w->last_mark;
	fill_verdict(&to->verdict, &v, ts);
	pgwire_mark(w->protocol, to->mark);
	if (v.how == DBF_HOW_HOLD)
		ask(w, &run, &to->verdict);
}

/* Nobody else has seen it as it was. Its answer is the other session's, and not looked for. */
static void record_parting(struct conn_wire *w, uint64_t ts)
{
	struct conn_table *t = w->table;
	struct conn_session *s = w->session;
	struct stmt *st = w->parting;

	w->parting = NULL;
	if (!st->pub.verdict.signalled && !st->pub.verdict.withheld) {
		stmt_drop(t, s, st);
		return;
	}
	if (!w->told)
		t->ops.session(t->ctx, s, w->joined ? CONN_FOUND : CONN_OPEN, NULL);
	s->state->gap = true;
	st = stmt_add_top(t, s, st);
	if (st)
		st->state = STMT_LOST;
	stmt_end_cycle(t, s, 0, ts);
	if (!w->told)
		t->ops.session(t->ctx, s, CONN_CLOSE, "seen at the server");
}

void wire_verdict_part(struct conn_wire *w)
{
	const struct conn_wire_verdict *v = verdict_by_mark(w, w->last_mark);
	struct pgwire_run run;

	if (!w->protocol || !v || !pgwire_pending_text(w->protocol, &run) || run.mark != v->mark)
		return;
	w->parting = conn_wire_new_statement(w, &run);
	if (!w->parting)
		return;
	w->parting->pub.has_verdict = true;
	w->parting->pub.verdict = v->verdict;
}

void wire_verdict_parted(struct conn_wire *w, uint64_t ts)
{
	if (w->parting && (w->parting->pub.verdict.how != DBF_HOW_HOLD || w->parting->pub.verdict.action))
		record_parting(w, ts);
}

static bool is_parting(const struct conn_wire *w, const struct dbf_verdict *v)
{
	const struct conn_verdict *held = w->parting ? &w->parting->pub.verdict : NULL;

	return held && !v->gate && held->slot == v->slot && held->slot_seq == v->slot_seq;
}

void wire_verdict_merged(struct conn_wire *w, const struct wire_item *item, uint64_t ts)
{
	struct conn_stmt st = { .session = w->session, .text = "", .name = "", .elsewhere = true };
	struct dbf_verdict v;

	memcpy(&v, item->bytes, sizeof(v));
	if (is_parting(w, &v)) {
		hold_ends(&w->parting->pub.verdict, &v);
		record_parting(w, ts);
	}
	if (!v.gate || v.how != DBF_HOW_HOLD)
		return;
	fill_verdict(&st.verdict, &v, 0);
	w->table->ops.hold(w->table->ctx, &st);
}

struct preparing {
	struct conn_wire *wire;
	conn_text_fn fn;
	void *ctx;
};

static bool on_prepared(void *ctx, const struct pgwire_run *run)
{
	struct preparing *p = ctx;
	struct stmt *st = conn_wire_new_statement(p->wire, run);
	bool go_on;

	if (!st)
		return false;
	go_on = p->fn(p->ctx, &st->pub);
	stmt_drop(p->wire->table, p->wire->session, st);
	p->wire->session->state->next_id--;
	return go_on;
}

bool conn_wire_each_prepared(struct conn_table *t, struct conn_session *s, conn_text_fn fn, void *ctx)
{
	struct conn_wire *w = s->vantage == CONN_WIRE ? s->state->wire : NULL;
	struct preparing p = { .wire = w, .fn = fn, .ctx = ctx };

	(void)t;
	return w && w->protocol && pgwire_each_text(w->protocol, on_prepared, &p);
}

uint64_t conn_wire_prepared_gone(const struct conn_session *s)
{
	const struct conn_wire *w = s->vantage == CONN_WIRE ? s->state->wire : NULL;

	return w && w->protocol ? pgwire_gone(w->protocol) : 0;
}
