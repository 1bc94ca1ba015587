// SPDX-License-Identifier: Apache-2.0
/* Backend messages: what the client was told decides how its statements ended. Matched in order, as
 * the protocol answers. */
#include "conn/message.h"
#include "conn/state.h"
#include "conn/wire.h"

#include <string.h>

#define MESSAGE_HEAD 5 /* type and length */

void reply_count(struct conn_state *cs, const struct dbf_reply *r, uint32_t other)
{
	cs->out_bytes += MESSAGE_HEAD + (uint64_t)r->length + r->row_bytes + MESSAGE_HEAD * (uint64_t)r->rows + other;
}

/* What was told since the statement before is about @st, which may be NULL. */
static void take_bytes(struct conn_state *cs, struct stmt *st)
{
	if (!st)
		return;
	st->pub.bytes_out += cs->out_bytes;
	cs->out_bytes = 0;
}

/* The statement that the next completion or error belongs to: a simple query's, else the oldest
 * Execute not done. */
static struct stmt *reply_target(struct conn_state *cs)
{
	struct stmt *parsed = NULL;

	for (unsigned i = 0; i < cs->top_cnt; i++) {
		struct stmt *st = cs->tops[i];

		if (st->state == STMT_RUNNING || st->state == STMT_GATED)
			return st;
		if (st->state == STMT_PARSED && !st->answered && !st->pub.sqlstate[0] && !parsed)
			parsed = st;
	}
	return parsed;
}

/*
 * What an Execute's reply without an error belongs to. A portal whose rows were all computed at first (INSERT …
 * RETURNING, EXPLAIN) goes on without entering anything: the last one that stopped in the middle, with the text that
 * was seen at the gate, if there is one.
 */
static struct stmt *reply_execute(struct conn_table *t, struct conn_session *s)
{
	struct conn_state *cs = s->state;
	struct stmt *st = reply_target(cs);

	if (st && (st->state == STMT_RUNNING || st->pub.began))
		return st;
	for (unsigned i = cs->top_cnt; i-- > 0;) {
		struct stmt *old = cs->tops[i];
		bool gated = st && st->state == STMT_GATED;
		/* At its end already, and asked once more. */
		bool over = gated && old->state == STMT_DONE && !old->pub.sqlstate[0];

		if (!over && old->state != STMT_SUSPENDED)
			continue;
		if (gated && !stmt_same_text(old, st))
			continue;
		if (gated)
			stmt_absorb(t, s, old, st);
		old->state = STMT_RUNNING;
		return old;
	}
	return st;
}

static void reply_complete(struct conn_table *t, struct conn_session *s, uint64_t ts)
{
	struct conn_state *cs = s->state;
	struct stmt *st = reply_execute(t, s);
	bool rows_known;
	uint64_t rows;
	char tag[68];

	if (!st || st->state == STMT_PARSED) {
		t->counters.orphan_replies++;
		return;
	}
	message_parse_complete(cs->reply_buf, cs->reply_len, tag, sizeof(tag), &rows, &rows_known);
	if (!rows_known && s->vantage == CONN_WIRE && cs->reply.rows && !(st->pub.missing & 1U << CONN_MISSING_SUSPENDED)) {
		rows = cs->reply.rows;
		rows_known = true;
	}
	/* A tag counts the rows of the last piece only; where it counts none, the pieces before were counted. */
	if (st->pub.missing & 1U << CONN_MISSING_SUSPENDED && !rows_known)
		st->pub.rows += cs->reply.rows;
	stmt_add_part(st, tag, rows, rows_known);
	take_bytes(cs, st);
	st->pub.end_ns = ts;
	if (st->pub.form != CONN_SIMPLE)
		st->state = STMT_DONE;
}

static void reply_fail(struct stmt *st, const struct message_error *e, uint64_t ts)
{
	memcpy(st->pub.sqlstate, e->sqlstate, sizeof(st->pub.sqlstate));
	memcpy(st->error, e->text,
	       sizeof(st->error) < sizeof(e->text) ? sizeof(st->error) : sizeof(e->text));
	st->error[sizeof(st->error) - 1] = '\0';
	st->pub.end_ns = ts;
	if (st->state != STMT_PARSED)
		st->state = STMT_DONE;
}

/* True when an Execute ran the text of @parsed after it was parsed. */
static bool reply_has_run(const struct conn_state *cs, const struct stmt *parsed)
{
	for (unsigned i = 0; i < cs->top_cnt; i++) {
		const struct conn_stmt *p = &cs->tops[i]->pub;

		if (p->id > parsed->pub.id && p->form == CONN_EXTENDED &&
		    !((p->missing | parsed->pub.missing) & 1U << CONN_MISSING_TEXT_LIMIT) &&
		    p->captured == parsed->pub.captured &&
		    !memcmp(p->text, parsed->pub.text, p->captured))
			return true;
	}
	return false;
}

/*
 * An error that no execution can be blamed for, behind a text that was parsed and did not run: its
 * Bind failed, or its Execute before the executor (a constant expression, a parameter's value, an
 * aborted transaction).
 */
static bool reply_take_parsed(struct conn_table *t, struct conn_session *s)
{
	struct conn_state *cs = s->state;
	struct stmt *st = cs->parsed;

	for (unsigned i = cs->top_cnt; !st && i-- > 0;)
		if (cs->tops[i]->answered)
			st = cs->tops[i];
	if (!st || reply_has_run(cs, st))
		return false;
	if (st->answered) {
		st->answered = false;
		st->state = STMT_GATED;
		return true;
	}
	cs->parsed = NULL;
	st->pub.form = CONN_EXTENDED;
	st->state = STMT_GATED;
	return stmt_add_top(t, s, st) != NULL;
}

static void reply_error(struct conn_table *t, struct conn_session *s, uint64_t ts)
{
	struct conn_state *cs = s->state;
	struct stmt *st = reply_target(cs);
	struct message_error e;

	if (!message_parse_error(cs->reply_buf, cs->reply_len, &e)) {
		t->counters.orphan_replies++;
		return;
	}
	cs->cycle_failed = true;
	if (!strcmp(e.severity, "FATAL") || !strcmp(e.severity, "PANIC")) {
		cs->fatal = true;
		memcpy(cs->fatal_text, e.text, sizeof(cs->fatal_text));
		memcpy(cs->fatal_sqlstate, e.sqlstate, sizeof(cs->fatal_sqlstate));
		if (!s->authenticated)
			conn_wire_session(t, s, CONN_AUTH_FAILED, e.text);
	}
	if (!st && reply_take_parsed(t, s))
		st = reply_target(cs);
	take_bytes(cs, st);
	if (st)
		reply_fail(st, &e, ts);
}

/* ParseComplete: the oldest text that was only parsed is no statement of its own. The last one is
 * kept: see above. */
static void reply_parsed(struct conn_table *t, struct conn_session *s)
{
	struct conn_state *cs = s->state;

	for (unsigned i = 0; i < cs->top_cnt; i++) {
		struct stmt *st = cs->tops[i];

		if (st->state != STMT_PARSED || st->answered || st->pub.sqlstate[0])
			continue;
		stmt_drop(t, s, cs->parsed);
		cs->parsed = NULL;
		if (stmt_ran_inside(st)) {
			st->answered = true;
			st->pub.form = CONN_EXTENDED;
			return;
		}
		cs->parsed = st;
		if (cs->text_target == st)
			cs->text_target = NULL;
		if (cs->current == st)
			cs->current = NULL;
		memmove(&cs->tops[i], &cs->tops[i + 1], (cs->top_cnt - i - 1) * sizeof(*cs->tops));
		cs->top_cnt--;
		return;
	}
}

static void reply_suspended(struct conn_table *t, struct conn_session *s)
{
	struct conn_state *cs = s->state;
	struct stmt *st = reply_execute(t, s);

	if (st && st->state == STMT_RUNNING) {
		take_bytes(cs, st);
		if (st->runs)
			st->runs--;
		if (!st->runs)
			st->state = STMT_SUSPENDED;
		st->pub.rows += cs->reply.rows;
		st->pub.rows_known = true;
		st->pub.missing |= 1U << CONN_MISSING_SUSPENDED;
	}
}

static void reply_auth(struct conn_table *t, struct conn_session *s)
{
	const unsigned char *p = (const unsigned char *)s->state->reply_buf;

	if (s->state->reply_len >= 4 && !(p[0] | p[1] | p[2] | p[3]) && !s->authenticated) {
		s->authenticated = true;
		conn_wire_session(t, s, CONN_AUTH_OK, NULL);
	}
}

static void reply_parameter(struct conn_session *s)
{
	const struct conn_state *cs = s->state;
	char value[8];

	message_parameter(cs->reply_buf, cs->reply_len, "application_name", s->application,
			  sizeof(s->application));
	if (message_parameter(cs->reply_buf, cs->reply_len, "standard_conforming_strings", value,
			      sizeof(value)))
		s->standard_strings = strcmp(value, "off") != 0;
}

/*
 * Whatever a replication command answers but an error shows that it began; and what comes behind a completion, that it
 * goes on: BASE_BACKUP has several.
 */
static void reply_of_command(struct conn_state *cs)
{
	struct stmt *st = cs->top_cnt ? cs->tops[cs->top_cnt - 1] : NULL;
	bool data = cs->reply.rows || cs->reply.type == 'G' || cs->reply.type == 'H' || cs->reply.type == 'W';

	if (!st || st->pub.form != CONN_REPLICATION || st->state == STMT_LOST || st->pub.sqlstate[0])
		return;
	if (data || cs->reply.type == 'C') {
		st->pub.began = true;
		st->pub.executions = 1;
	}
	if (data || cs->reply.type == 'C' || cs->reply.type == 'E')
		st->state = STMT_RUNNING;
}

static void reply_done(struct conn_table *t, struct conn_session *s, uint64_t ts)
{
	struct conn_state *cs = s->state;
	struct stmt *st;

	cs->reply_open = false;
	reply_of_command(cs);
	switch (cs->reply.type) {
	case 'C': reply_complete(t, s, ts); break;
	case 'V':
		st = reply_target(cs);
		if (st && st->pub.form == CONN_FASTPATH) {
			stmt_add_part(st, "FUNCTION CALL", 0, false);
			take_bytes(cs, st);
			st->pub.end_ns = ts;
			st->state = STMT_DONE;
		}
		break;
	case 'E': reply_error(t, s, ts); break;
	case 'I':
		st = reply_target(cs);
		if (st && (st->state == STMT_PARSED || s->vantage == CONN_WIRE))
			st->empty_query = true;
		if (st && s->vantage == CONN_WIRE) {
			st->pub.evidence |= 1U << CONN_SAW_TAG;
			st->state = st->pub.form == CONN_EXTENDED ? STMT_DONE : st->state;
		}
		break;
	case '1': reply_parsed(t, s); break;
	case 's': reply_suspended(t, s); break;
	case 'R': reply_auth(t, s); break;
	case 'S': reply_parameter(s); break;
	case 'Z':
		take_bytes(cs, cs->top_cnt ? cs->tops[cs->top_cnt - 1] : NULL);
		cs->out_bytes = 0;
		stmt_end_cycle(t, s, cs->reply_len ? cs->reply_buf[0] : 'I', ts);
		break;
	}
}

static bool reply_whole(const struct conn_state *cs)
{
	return cs->reply_len >= cs->reply.length || cs->reply_len >= sizeof(cs->reply_buf);
}

void reply_begin(struct conn_table *t, struct conn_session *s, const struct dbf_reply *r,
		 const char *bytes, size_t len, uint64_t ts)
{
	struct conn_state *cs = s->state;

	if (cs->reply_open)
		reply_done(t, s, ts);
	cs->reply = *r;
	cs->reply_len = 0;
	cs->reply_open = true;
	reply_more(t, s, bytes, len, ts);
}

void reply_more(struct conn_table *t, struct conn_session *s, const char *bytes, size_t len,
		uint64_t ts)
{
	struct conn_state *cs = s->state;
	size_t room = sizeof(cs->reply_buf) - cs->reply_len;

	if (!cs->reply_open)
		return;
	if (len > room)
		len = room;
	memcpy(cs->reply_buf + cs->reply_len, bytes, len);
	cs->reply_len += len;
	if (reply_whole(cs))
		reply_done(t, s, ts);
}
