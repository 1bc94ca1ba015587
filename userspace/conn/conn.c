// SPDX-License-Identifier: Apache-2.0
/* The session table, and facts to what they mean. Life cycle and outcome are in stmt.c, backend
 * messages in reply.c. */
#include "conn/conn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conn/message.h"
#include "conn/peers.h"
#include "conn/state.h"
#include "conn/wire.h"
#include "source/batch.h"
#include "source/wire.h"

#define TABLE_SLOTS 32768 /* a power of two, twice LIMIT_SESSIONS */

const char *conn_form_name(enum conn_form form)
{
	static const char *const names[CONN_FORM_MAX] = { "simple", "extended", "nested",
							  "replication", "fastpath" };

	return form < CONN_FORM_MAX ? names[form] : "";
}

const char *conn_outcome_name(enum conn_outcome outcome)
{
	static const char *const names[CONN_OUTCOME_MAX] = { "unknown",	  "executed",  "failed",
							     "prevented", "cancelled", "aborted",
							     "contained" };

	return outcome < CONN_OUTCOME_MAX ? names[outcome] : "";
}

const char *conn_evidence_name(enum conn_evidence evidence)
{
	static const char *const names[CONN_EVIDENCE_MAX] = {
		"completion",  "error",		"executor_entry",    "utility_entry",
		"reject_sent", "session_ended", "no_execution_seen", "enclosing_statement_ended", "never_sent"
	};

	return evidence < CONN_EVIDENCE_MAX ? names[evidence] : "";
}

const char *conn_missing_name(enum conn_missing missing)
{
	static const char *const names[CONN_MISSING_MAX] = { "gap",	   "text_fault",
							     "text_limit", "joined_mid_stream",
							     "identity",   "nested_limit",
							     "suspended",  "overlap",
							     "name_doubt", "encoding" };

	return missing < CONN_MISSING_MAX ? names[missing] : "";
}

const char *conn_event_name(enum conn_event event)
{
	static const char *const names[CONN_EVENT_MAX] = { "open", "found", "auth_ok",
							   "auth_failed", "close", "opaque", "cancel_request" };

	return event < CONN_EVENT_MAX ? names[event] : "";
}

const char *conn_vantage_name(enum conn_vantage vantage)
{
	return vantage == CONN_WIRE ? "wire" : "server";
}

struct conn_table *conn_table_new(const struct conn_ops *ops, void *ctx)
{
	struct conn_table *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->slots = calloc(TABLE_SLOTS, sizeof(*t->slots));
	t->peers = peers_new();
	if (!t->slots || !t->peers) {
		peers_free(t->peers);
		free(t->slots);
		free(t);
		errno = ENOMEM;
		return NULL;
	}
	t->mask = TABLE_SLOTS - 1;
	t->ops = *ops;
	t->ctx = ctx;
	return t;
}

void conn_table_set_marks(struct conn_table *t, const struct dbf_wire_mark *marks)
{
	t->marks = marks;
}

static void session_free(struct conn_table *t, struct conn_session *s)
{
	struct conn_state *cs = s->state;

	conn_wire_forget(t, s);
	peers_drop_client(t->peers, cs->client);
	for (unsigned i = 0; i < cs->top_cnt; i++)
		stmt_free(t, cs->tops[i]);
	stmt_free(t, cs->parsed);
	free(cs->tops);
	free(cs->refs);
	free(s->user);
	free(cs);
	free(s);
}

void conn_table_free(struct conn_table *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i <= t->mask; i++)
		if (t->slots[i])
			session_free(t, t->slots[i]);
	while (t->free_stmts) {
		struct stmt *st = t->free_stmts;

		t->free_stmts = st->next_free;
		free(st->buf);
		free(st);
	}
	peers_free(t->peers);
	free(t->slots);
	free(t);
}

static unsigned slot_of(const struct conn_table *t, uint64_t start, uint32_t tgid)
{
	return (unsigned)((start ^ (uint64_t)tgid * 0x9e3779b97f4a7c15ULL) *
				  0xff51afd7ed558ccdULL >>
			  32) &
	       t->mask;
}

struct conn_session *conn_table_lookup(struct conn_table *t, uint64_t start, uint32_t tgid)
{
	for (unsigned i = slot_of(t, start, tgid);; i = (i + 1) & t->mask) {
		struct conn_session *s = t->slots[i];

		if (!s)
			return NULL;
		if (s->start == start && s->tgid == tgid)
			return s;
	}
}

static void table_remove(struct conn_table *t, struct conn_session *s)
{
	unsigned i = slot_of(t, s->start, s->tgid);

	while (t->slots[i] != s)
		i = (i + 1) & t->mask;
	t->slots[i] = NULL;
	t->cnt--;
	/* Close the hole: what probed past it must be found again. */
	for (unsigned k = (i + 1) & t->mask; t->slots[k]; k = (k + 1) & t->mask) {
		struct conn_session *moved = t->slots[k];
		unsigned to = slot_of(t, moved->start, moved->tgid);

		t->slots[k] = NULL;
		while (t->slots[to])
			to = (to + 1) & t->mask;
		t->slots[to] = moved;
	}
}

/*
 * Make room: sessions whose end was lost would fill the table for ever. The hand passes over those
 * that were fed since it passed last; one that lives after all is found again with its next batch.
 */
static void session_evict(struct conn_table *t)
{
	struct conn_session *s;

	for (;; t->hand = (t->hand + 1) & t->mask) {
		s = t->slots[t->hand];
		if (s && !s->state->recent)
			break;
		if (s)
			s->state->recent = false;
	}
	t->counters.evicted++;
	if (s->vantage == CONN_WIRE) {
		conn_wire_evict(s);
		return;
	}
	stmt_mark_gap(s);
	stmt_end_cycle(t, s, 'I', s->state->last_ts);
	t->ops.session(t->ctx, s, CONN_CLOSE, "forgotten: too many sessions");
	session_remove(t, s);
}

void session_remove(struct conn_table *t, struct conn_session *s)
{
	table_remove(t, s);
	session_free(t, s);
}

struct conn_session *session_new(struct conn_table *t, uint64_t start, uint32_t tgid)
{
	struct conn_session *s;
	unsigned i;

	if (t->cnt >= LIMIT_SESSIONS)
		session_evict(t);
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->state = calloc(1, sizeof(*s->state));
	if (!s->state) {
		free(s);
		return NULL;
	}
	s->start = start;
	s->tgid = s->server_pid = tgid;
	s->standard_strings = true;
	s->state->last_status = 'I';
	snprintf(s->id, sizeof(s->id), "%llx-%x", (unsigned long long)start, tgid);
	for (i = slot_of(t, start, tgid); t->slots[i]; i = (i + 1) & t->mask)
		;
	t->slots[i] = s;
	t->cnt++;
	t->counters.sessions++;
	return s;
}

static struct conn_session *session_get(struct conn_table *t, const struct dbf_batch *b)
{
	struct conn_session *s = conn_table_lookup(t, b->session, b->tgid);

	if (s)
		return s;
	s = session_new(t, b->session, b->tgid);
	if (!s)
		return NULL;
	s->postmaster = b->postmaster;
	conn_wire_find(t, s);
	return s;
}

static void terminate(char *s, size_t cap)
{
	s[cap - 1] = '\0';
}

static void fact_open(struct conn_table *t, struct conn_session *s, const struct batch_fact *f)
{
	memcpy(&s->info, f->head, sizeof(s->info));
	terminate(s->info.client_comm, sizeof(s->info.client_comm));
	terminate(s->info.database, sizeof(s->info.database));
	terminate(s->info.user, sizeof(s->info.user));
	terminate(s->info.application, sizeof(s->info.application));
	terminate(s->info.socket_path, sizeof(s->info.socket_path));
	memcpy(s->application, s->info.application, sizeof(s->application));
	s->known = true;
	s->authenticated = s->info.found;
	conn_wire_enrich(t, s);
	if (!s->state->client && s->info.client_known)
		s->state->client = peers_add_client(t->peers, s->info.client_pid, s->info.client_start);
	t->ops.session(t->ctx, s, s->info.found ? CONN_FOUND : CONN_OPEN, NULL);
}

static void take_text(struct conn_table *t, struct stmt *st, const struct dbf_text *text, const char *bytes, size_t len)
{
	st->ptr = text->ptr;
	st->pub.mode = st->key_mode = text->mode;
	st->more = text->flags & DBF_TEXT_MORE;
	st->pub.escapes = text->flags & DBF_TEXT_ESCAPES;
	stmt_set_text(t, st, bytes, len);
	/* Until the last piece is here: what follows may be lost. */
	if (text->flags & (DBF_TEXT_MORE | DBF_TEXT_MINIMUM))
		st->pub.length_is_minimum = true;
	if (text->flags & DBF_TEXT_FAULT)
		st->pub.missing |= 1U << CONN_MISSING_TEXT_FAULT;
}

static uint64_t id_of_exec(struct conn_session *s, uint32_t exec_id)
{
	const struct stmt *st = stmt_by_exec(s, exec_id);

	return st ? st->pub.id : 0;
}

/* The next statement of a session begins; where replies tell how the last one ended, they do. */
static void next_statement(struct conn_table *t, struct conn_session *s, uint64_t ts)
{
	if (!stmt_is_background(s) || !s->state->top_cnt)
		return;
	stmt_settle_background(s, ts);
	stmt_end_cycle(t, s, 'T', ts);
}

/* A walsender's text that is parsed is SQL after all: the statement that stands for it, or NULL. */
static struct stmt *command_is_sql(struct conn_state *cs, uint64_t ptr)
{
	struct stmt *st = cs->top_cnt ? cs->tops[cs->top_cnt - 1] : NULL;

	if (!st || st->pub.form != CONN_REPLICATION || st->state != STMT_RUNNING || st->ptr != ptr)
		return NULL;
	st->pub.form = CONN_SIMPLE;
	st->pub.has_verdict = false;
	st->state = STMT_PARSED;
	cs->text_target = cs->judged = st;
	cs->text_check = NULL;
	if (cs->held == st)
		cs->held = NULL;
	return st;
}

static void fact_parse(struct conn_table *t, struct conn_session *s, const struct batch_fact *f)
{
	const struct dbf_text *text = f->head;
	bool top = text->flags & DBF_TEXT_TOP;
	struct stmt *st;

	if (top)
		next_statement(t, s, f->ts);
	st = top ? command_is_sql(s->state, text->ptr) : NULL;
	if (st) {
		take_text(t, st, text, f->bytes, f->len);
		s->state->current = st;
		return;
	}
	st = stmt_new(t, s, top ? CONN_SIMPLE : CONN_NESTED, f->ts);
	if (!st)
		return;
	take_text(t, st, text, f->bytes, f->len);
	st->pub.parsed = true;
	if (top)
		s->state->current = stmt_add_top(t, s, st);
	else
		stmt_add_nested(t, s, id_of_exec(s, text->id), st, false);
}

/* An Execute's statement: a new one, or the one that the Execute gate announced. */
static struct stmt *exec_extended(struct conn_table *t, struct conn_session *s,
				  const struct dbf_exec *e, const struct batch_fact *f)
{
	struct stmt *st = stmt_by_exec(s, e->exec_id);

	s->state->text_target = s->state->text_check = NULL; /* the rest is known already */
	s->state->judged = st;
	if (!st) {
		next_statement(t, s, f->ts);
		st = stmt_new(t, s, e->flags & DBF_EXEC_SIMPLE ? CONN_SIMPLE : CONN_EXTENDED,
			      f->ts);
		if (!st)
			return NULL;
		st->exec_id = e->exec_id;
		take_text(t, st, &e->text, f->bytes, f->len);
		if (!f->len && !(e->text.flags & DBF_TEXT_TOP)) {
			st->pub.missing |= 1U << CONN_MISSING_START;
			st->pub.length_is_minimum = true;
		}
		st = stmt_add_top(t, s, st);
		if (st)
			stmt_adopt(s->state, st);
	}
	return st;
}

static struct stmt *exec_simple(struct conn_session *s, uint32_t exec_id)
{
	struct conn_state *cs = s->state;
	struct stmt *st = stmt_by_exec(s, exec_id);

	if (st)
		return st;
	for (unsigned i = cs->top_cnt; i-- > 0;)
		if (cs->tops[i]->state == STMT_PARSED)
			return cs->tops[i];
	return NULL;
}

/*
 * The portal that goes on: it kept the address of its text. Whether its last Execute was answered already depends on
 * when the server sends.
 */
static struct stmt *exec_again(struct conn_table *t, struct conn_session *s, const struct dbf_exec *e)
{
	struct conn_state *cs = s->state;
	struct stmt *gated = stmt_by_exec(s, e->exec_id);

	for (unsigned i = cs->top_cnt; i-- > 0;) {
		struct stmt *st = cs->tops[i];

		if (st->state == STMT_GATED || st->state == STMT_LOST || st->pub.sqlstate[0] ||
		    !st->portal || st->portal != e->text.ptr)
			continue;
		if (gated && gated != st && gated->state == STMT_GATED)
			stmt_absorb(t, s, st, gated);
		return st;
	}
	return NULL;
}

static void mark_began(struct stmt *st, const struct dbf_exec *e)
{
	if (!st->pub.began) {
		st->pub.op = e->op;
		st->pub.modifying_cte = e->flags & DBF_EXEC_MODIFYING_CTE;
	}
	st->pub.began = true;
	st->pub.evidence |= 1U << (e->op == DBF_OP_UTILITY ? CONN_SAW_UTILITY : CONN_SAW_EXECUTOR);
}

static void exec_top(struct conn_table *t, struct conn_session *s, const struct dbf_exec *e,
		     const struct batch_fact *f)
{
	struct stmt *st = e->flags & DBF_EXEC_AGAIN ? exec_again(t, s, e) : NULL;

	if (!st && e->flags & DBF_EXEC_SIMPLE)
		st = exec_simple(s, e->exec_id);
	if (!st)
		st = exec_extended(t, s, e, f);
	if (!st)
		return;
	s->state->current = st;
	st->exec_id = e->exec_id;
	if (e->statement_name[0]) {
		memcpy(st->name, e->statement_name, sizeof(st->name));
		terminate(st->name, sizeof(st->name));
	}
	if (!st->pub.executions)
		st->pub.executions = 1;
	if (e->op == DBF_OP_EXECUTE) {
		st->state = STMT_GATED;
		return;
	}
	st->state = STMT_RUNNING;
	st->portal = e->text.ptr;
	if (e->flags & DBF_EXEC_AGAIN || !st->runs)
		st->runs++;
	mark_began(st, e);
}

static void exec_nested(struct conn_table *t, struct conn_session *s, const struct dbf_exec *e,
			const struct batch_fact *f)
{
	struct stmt *st = stmt_new(t, s, CONN_NESTED, f->ts);

	if (!st)
		return;
	take_text(t, st, &e->text, f->bytes, f->len);
	st = stmt_add_nested(t, s, id_of_exec(s, e->parent_id), st, true);
	if (!st)
		return;
	st->exec_id = e->exec_id;
	st->state = STMT_RUNNING;
	mark_began(st, e);
	stmt_ref(s, e->exec_id, st);
}

static void fact_nested(struct conn_session *s, const struct batch_fact *f)
{
	const struct dbf_nested *n = f->head;
	struct stmt *st = stmt_by_exec(s, n->exec_id);

	if (!st)
		return;
	st->pub.executions += n->executions;
	st->pub.rows += n->rows;
	st->pub.rows_known = !f->arg;
	if (n->last_ts > st->pub.end_ns)
		st->pub.end_ns = n->last_ts;
}

/* How the text at @ptr was parsed last: an error tells where the text is, not its mode. */
static uint32_t mode_of_parsed(const struct conn_state *cs, uint64_t ptr)
{
	const struct stmt *top = cs->current;

	for (unsigned i = top ? top->nested_cnt : 0; i-- > 0;)
		if (top->nested[i]->ptr == ptr && !top->nested[i]->pub.began)
			return top->nested[i]->pub.mode;
	return DBF_MODE_UNKNOWN;
}

/* The innermost statement that was running failed; or a text inside was refused by the parser; or
 * Bind failed. */
static void fact_error(struct conn_table *t, struct conn_session *s, const struct batch_fact *f)
{
	const struct dbf_error *e = f->head;
	struct stmt *st;

	if (e->text.flags & DBF_TEXT_TOP) {
		st = stmt_new(t, s, CONN_EXTENDED, f->ts);
		if (!st)
			return;
		take_text(t, st, &e->text, f->bytes, f->len);
		st = stmt_add_top(t, s, st);
		if (st) {
			st->state = STMT_GATED; /* the error's message follows and completes it */
			stmt_adopt(s->state, st);
		}
		return;
	}
	if (e->text.ptr) {
		st = stmt_new(t, s, CONN_NESTED, f->ts);
		if (!st)
			return;
		take_text(t, st, &e->text, f->bytes, f->len);
		st->pub.mode = mode_of_parsed(s->state, e->text.ptr);
		st = stmt_add_nested(t, s, id_of_exec(s, e->exec_id), st, false);
	} else {
		st = stmt_by_exec(s, e->exec_id);
		/* What failed before it ran has no id of its own yet. */
		if (!st && stmt_is_background(s) && s->state->top_cnt)
			st = s->state->tops[s->state->top_cnt - 1];
	}
	/* What the client was told decides about its own statements; without a client there is only this. */
	if (st && (st->pub.parent_id || stmt_is_background(s))) {
		message_sqlstate(e->sqlstate, st->pub.sqlstate);
		st->pub.end_ns = f->ts;
	}
}

/* What a verdict without an execution is about: the text that was told last with that address. What
 * was told before a loss is another one's by now, for all we know. */
static bool is_text_at(const struct stmt *st, uint64_t ptr)
{
	return st->ptr == ptr && !st->stale;
}

static struct stmt *verdict_target(struct conn_session *s, const struct dbf_verdict *v)
{
	struct conn_state *cs = s->state;
	struct stmt *st = stmt_by_exec(s, v->exec_id);

	if (!v->gate)
		return cs->held && cs->held->pub.verdict.slot == v->slot &&
				       cs->held->pub.verdict.slot_seq == v->slot_seq
			       ? cs->held
			       : NULL;
	if (st)
		return st;
	if (cs->judged && is_text_at(cs->judged, v->ptr))
		return cs->judged;
	if (v->how == DBF_HOW_HOLD) /* its text comes right before it, or was lost */
		return NULL;
	for (unsigned i = cs->top_cnt; i-- > 0;) {
		struct stmt *top = cs->tops[i];

		for (unsigned k = top->nested_cnt; k-- > 0;)
			if (is_text_at(top->nested[k], v->ptr) && !top->nested[k]->pub.began)
				return top->nested[k];
		if (is_text_at(top, v->ptr))
			return top;
	}
	return NULL;
}

void conn_verdict_ends(struct conn_verdict *to, const struct dbf_verdict *v)
{
	to->action = v->action;
	to->resolver = (enum dbf_resolver)v->why;
	to->held_ns = v->deadline_ns > to->since_ns ? v->deadline_ns - to->since_ns : 0;
}

static void fact_verdict(struct conn_table *t, struct conn_session *s, const struct batch_fact *f)
{
	const struct dbf_verdict *v = f->head;
	struct stmt *st = verdict_target(s, v);
	struct conn_verdict *to;

	if (!st) {
		t->counters.orphan_replies++;
		return;
	}
	to = &st->pub.verdict;
	if (!v->gate) { /* how a hold ended */
		conn_verdict_ends(to, v);
		to->signalled = v->signal != 0;
		s->state->held = NULL;
		return;
	}
	/* A denial that is repeated because it has not taken effect: what is known of the first
	 * stays. */
	if (st->pub.has_verdict && to->signalled && v->how == DBF_HOW_CACHE &&
	    v->action == to->action) {
		to->gate = v->gate;
		return;
	}
	st->pub.has_verdict = true;
	to->gate = v->gate;
	to->how = v->how;
	to->action = v->action;
	to->why = v->how == DBF_HOW_FAIL ? v->why : DBF_WHY_NONE;
	to->policy_gen = v->policy_gen;
	to->slot = v->slot;
	to->slot_seq = v->slot_seq;
	to->deadline_ns = v->deadline_ns;
	to->since_ns = f->ts;
	memcpy(to->hash, v->hash, sizeof(to->hash));
	to->hashed_len = v->hash[0] | v->hash[1] ? v->text_len : 0;
	to->mode = st->key_mode | (st->pub.escapes ? DBF_MODE_ESCAPES : 0);
	to->signalled = v->signal != 0;
	if (v->how == DBF_HOW_HOLD) {
		s->state->held = st;
		t->ops.hold(t->ctx, &st->pub);
	}
}

static void fact_rare(struct conn_table *t, struct conn_session *s, const struct batch_fact *f)
{
	struct conn_state *cs = s->state;
	struct stmt *st;

	if (f->kind ==
	    DBF_FACT_XID) { /* the first is the transaction's, others are of subtransactions */
		if (!cs->current)
			cs->xact.xid = cs->xact.xid ? cs->xact.xid : f->arg;
		else if (!cs->current->pub.xid)
			cs->current->pub.xid = f->arg;
		return;
	}
	if (f->kind == DBF_FACT_XACT) {
		stmt_procedure_xact(t, s, f->arg == 1, f->ts);
		return;
	}
	st = stmt_new(t, s, f->kind == DBF_FACT_FASTPATH ? CONN_FASTPATH : CONN_REPLICATION, f->ts);
	if (!st)
		return;
	if (f->kind == DBF_FACT_REPLICATION) { /* whether it begins is for its replies to say */
		take_text(t, st, f->head, f->bytes, f->len);
	} else {
		st->pub.fastpath_oid = f->arg;
		st->pub.began = true;
		st->pub.executions = 1;
	}
	st = stmt_add_top(t, s, st);
	if (st)
		st->state = STMT_RUNNING;
}

static void fact_exit(struct conn_table *t, struct conn_session *s, const struct batch_fact *f)
{
	struct conn_state *cs = s->state;
	char reason[300];

	if (stmt_is_background(s) && !f->arg)
		stmt_settle_background(s, f->ts);
	stmt_end_cycle(t, s, 0, f->ts);
	if (cs->fatal)
		snprintf(reason, sizeof(reason), "%s %s", cs->fatal_sqlstate, cs->fatal_text);
	else if (f->arg & 0x7f)
		snprintf(reason, sizeof(reason), "signal %u", f->arg & 0x7f);
	else
		snprintf(reason, sizeof(reason), "exit %u", f->arg >> 8 & 0xff);
	t->ops.session(t->ctx, s, CONN_CLOSE, reason);
	session_remove(t, s);
}

/* One more piece of the last text. */
static void fact_text(struct conn_table *t, struct conn_state *cs, const struct batch_fact *f)
{
	struct stmt *st = cs->text_target, *known = cs->text_check;

	if (st) {
		st->pub.length_is_minimum = f->arg != 0;
		stmt_append_text(t, st, f->bytes, f->len);
		if (f->arg == 2)
			st->pub.missing |= 1U << CONN_MISSING_TEXT_LIMIT;
		if (f->arg == 3)
			st->pub.missing |= 1U << CONN_MISSING_TEXT_FAULT;
	} else if (known) {
		if (known->pub.captured - cs->text_at < f->len ||
		    memcmp(known->pub.text + cs->text_at, f->bytes, f->len) ||
		    (!f->arg && known->pub.captured != cs->text_at + f->len)) {
			/* It was another one after all: whose verdict would it be? */
			known->pub.missing |= 1U << CONN_MISSING_TEXT_FAULT;
			cs->text_check = NULL;
			return;
		}
		cs->text_at += f->len;
	}
}

static void fact_reply(struct conn_table *t, struct conn_session *s, const struct batch_fact *f)
{
	struct dbf_reply r;
	struct dbf_tcp_at at;

	memcpy(&r, f->head, sizeof(r));
	if (r.type == 'Z') {
		memcpy(&at, &r.row_bytes, sizeof(at));
		r.row_bytes = 0;
		marks_take(t, s, &at, f->ts);
	}
	reply_count(s->state, &r, f->arg);
	reply_begin(t, s, &r, f->bytes, f->len, f->ts);
}

/* False when the session is gone. */
static bool feed_fact(struct conn_table *t, struct conn_session *s, const struct batch_fact *f)
{
	struct conn_state *cs = s->state;

	if (f->ts)
		cs->last_ts = f->ts;
	switch (f->kind) {
	case DBF_FACT_OPEN: fact_open(t, s, f); break;
	case DBF_FACT_PARSE: fact_parse(t, s, f); break;
	case DBF_FACT_TEXT: fact_text(t, cs, f); break;
	case DBF_FACT_EXEC:
		if (((const struct dbf_exec *)f->head)->flags & DBF_EXEC_TOP)
			exec_top(t, s, f->head, f);
		else
			exec_nested(t, s, f->head, f);
		break;
	case DBF_FACT_NESTED: fact_nested(s, f); break;
	case DBF_FACT_REPLY: fact_reply(t, s, f); break;
	case DBF_FACT_REPLY_MORE: reply_more(t, s, f->bytes, f->len, f->ts); break;
	case DBF_FACT_ERROR: fact_error(t, s, f); break;
	case DBF_FACT_VERDICT: fact_verdict(t, s, f); break;
	case DBF_FACT_EXIT: fact_exit(t, s, f); return false;
	default: fact_rare(t, s, f); break;
	}
	return true;
}

static void check_sequence(struct conn_table *t, struct conn_session *s, const struct dbf_batch *b)
{
	struct conn_state *cs = s->state;
	/* A session that began under another reader starts somewhere in the middle; that is no
	 * loss. */
	bool hole = cs->seen && b->seq != cs->next_seq;

	if (hole || b->lost_batches != cs->lost_batches) {
		stmt_mark_gap(s);
		t->ops.gap(t->ctx, s, b->lost_batches - cs->lost_batches,
			   b->lost_execs - cs->lost_execs);
	}
	cs->seen = cs->recent = true;
	cs->next_seq = b->seq + 1;
	cs->lost_batches = b->lost_batches;
	cs->lost_execs = b->lost_execs;
}

void conn_table_feed(struct conn_table *t, const void *record, size_t len)
{
	const struct dbf_batch *b;
	struct conn_session *s;
	struct batch_fact f;
	struct batch_iter it;

	t->counters.records++;
	if (wire_is_record(record, len)) {
		conn_wire_feed(t, record, len);
		return;
	}
	b = batch_open(record, len, &it);
	if (!b) {
		t->counters.bad_records++;
		return;
	}
	s = session_get(t, b);
	if (!s)
		return;
	check_sequence(t, s, b);
	while (batch_next(&it, &f)) {
		t->counters.facts++;
		if (!feed_fact(t, s, &f))
			return;
	}
	if (it.bad)
		t->counters.bad_records++;
}

bool conn_is_ascii(const struct conn_stmt *stmt)
{
	for (size_t i = 0; i < stmt->captured; i++)
		if ((unsigned char)stmt->text[i] >= 0x80)
			return false;
	return true;
}

const struct conn_counters *conn_table_counters(const struct conn_table *t)
{
	return &t->counters;
}

unsigned conn_table_cnt(const struct conn_table *t)
{
	return t->cnt;
}
