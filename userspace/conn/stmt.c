// SPDX-License-Identifier: Apache-2.0
/*
 * The life of a statement: made from a text or an execution, joined by replies and verdicts, ended
 * with the cycle.
 */
#include "conn/state.h"

#include <stdlib.h>
#include <string.h>

#ifdef __has_feature
#define UNDER_ASAN __has_feature(address_sanitizer)
#elif defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#else
#define UNDER_ASAN 0
#endif

#define FREE_STMTS_MAX 256
#define FREE_TEXT_MAX (16 * 1024) /* larger text buffers are not kept */

static uint64_t text_hash(const char *p, size_t len)
{
	uint64_t h = 1469598103934665603ULL;

	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)p[i]) * 1099511628211ULL;
	return h;
}

static bool fits(size_t mine, size_t all, size_t min, size_t max, size_t total)
{
	return mine <= min || (mine <= max && all <= total);
}

/* A statement that is not followed: what comes of its text must not be taken for another's. */
static void lose(struct conn_table *t, struct conn_session *s)
{
	struct conn_state *cs = s->state;

	t->counters.nested_lost++;
	cs->text_target = cs->judged = NULL;
	if (cs->current)
		cs->current->pub.missing |= 1U << CONN_MISSING_NESTED;
	cs->lost++;
}

struct stmt *stmt_new(struct conn_table *t, struct conn_session *s, enum conn_form form,
		      uint64_t ts)
{
	struct stmt *st = t->free_stmts;
	char *buf = NULL;
	size_t cap = 0;

	if (!fits(s->state->stmt_cnt + 1, t->stmt_cnt + 1, LIMIT_SESSION_STATEMENTS_MIN,
		  LIMIT_SESSION_STATEMENTS, LIMIT_STATEMENTS)) {
		lose(t, s);
		return NULL;
	}
	if (st) {
		t->free_stmts = st->next_free;
		t->free_cnt--;
		buf = st->buf;
		cap = st->cap;
	} else {
		st = malloc(sizeof(*st));
		if (!st) {
			lose(t, s);
			return NULL;
		}
	}
	s->state->stmt_cnt++;
	t->stmt_cnt++;
	*st = (struct stmt){ .buf = buf, .cap = cap };
	st->pub.session = s;
	st->pub.form = form;
	st->pub.id = ++s->state->next_id;
	st->pub.start_ns = ts;
	st->pub.end_ns = ts;
	st->pub.name = st->name;
	st->pub.error = st->error;
	st->pub.text = buf ? buf : "";
	return st;
}

static void drop_text(struct conn_table *t, struct stmt *st)
{
	t->counters.text_bytes -= st->pub.captured;
	st->pub.session->state->text_bytes -= st->pub.captured;
	st->pub.captured = 0;
}

void stmt_free(struct conn_table *t, struct stmt *st)
{
	if (!st)
		return;
	for (unsigned i = 0; i < st->nested_cnt; i++)
		stmt_free(t, st->nested[i]);
	free(st->nested);
	free(st->pub.parts);
	t->stmt_cnt--;
	st->pub.session->state->stmt_cnt--;
	drop_text(t, st);
	/* Under AddressSanitizer what is freed is freed, so that its use is seen. */
	if (UNDER_ASAN || t->free_cnt >= FREE_STMTS_MAX || st->cap > FREE_TEXT_MAX) {
		free(st->buf);
		free(st);
		return;
	}
	st->next_free = t->free_stmts;
	t->free_stmts = st;
	t->free_cnt++;
}

static bool is_of(const struct stmt *st, const struct stmt *top)
{
	return st && (st == top || st->top == top);
}

/* Nothing may point at @top, or at what hangs below it, once it is freed: its memory is used again.
 */
static void forget(struct conn_state *cs, const struct stmt *top)
{
	if (is_of(cs->current, top))
		cs->current = NULL;
	if (is_of(cs->text_target, top))
		cs->text_target = NULL;
	if (is_of(cs->text_check, top))
		cs->text_check = NULL;
	if (is_of(cs->judged, top))
		cs->judged = NULL;
	if (is_of(cs->held, top))
		cs->held = NULL;
	for (unsigned i = 0; cs->refs && i < STATE_EXEC_IDS; i++)
		if (is_of(cs->refs[i].stmt, top))
			cs->refs[i] = (struct exec_ref){ 0 };
}

void stmt_drop(struct conn_table *t, struct conn_session *s, struct stmt *st)
{
	if (!st)
		return;
	forget(s->state, st);
	stmt_free(t, st);
}

bool stmt_ran_inside(const struct stmt *st)
{
	for (unsigned i = 0; i < st->nested_cnt; i++)
		if (st->nested[i]->pub.began)
			return true;
	return false;
}

void stmt_adopt(struct conn_state *cs, struct stmt *st)
{
	for (unsigned i = cs->top_cnt; i-- > 0;) {
		struct stmt *old = cs->tops[i];

		if (old == st || old->state != STMT_PARSED || !old->nested_cnt ||
		    !stmt_same_text(old, st))
			continue;
		st->nested = old->nested;
		st->nested_cnt = old->nested_cnt;
		st->nested_cap = old->nested_cap;
		old->nested = NULL;
		old->nested_cnt = old->nested_cap = 0;
		for (unsigned k = 0; k < st->nested_cnt; k++) {
			struct stmt *n = st->nested[k];

			n->top = st;
			if (n->pub.parent_id == old->pub.id)
				n->pub.parent_id = st->pub.id;
		}
		return;
	}
}

/* Room for @len bytes more of @st's text and a NUL; false when there is none. */
static bool text_room(struct conn_table *t, struct stmt *st, size_t len)
{
	size_t have = st->pub.captured, cap = 2 * (have + len + 1);
	char *buf;

	if (!fits(st->pub.session->state->text_bytes + len, t->counters.text_bytes + len,
		  LIMIT_SESSION_TEXT_MIN, LIMIT_SESSION_TEXT_BYTES, LIMIT_TEXT_BYTES)) {
		t->counters.texts_limited += !(st->pub.missing & 1U << CONN_MISSING_TEXT_LIMIT);
		return false;
	}
	if (have + len > STATE_TEXT_MAX)
		return false;
	if (have + len + 1 <= st->cap)
		return true;
	cap = cap < 256 ? 256 : cap > STATE_TEXT_MAX + 1 ? STATE_TEXT_MAX + 1 : cap;
	buf = realloc(st->buf, cap);
	if (!buf)
		return false;
	st->buf = buf;
	st->cap = cap;
	return true;
}

void stmt_absorb(struct conn_table *t, struct conn_session *s, struct stmt *st, struct stmt *gated)
{
	struct conn_state *cs = s->state;
	unsigned i = 0;

	while (i < cs->top_cnt && cs->tops[i] != gated)
		i++;
	if (i < cs->top_cnt) {
		memmove(&cs->tops[i], &cs->tops[i + 1], (cs->top_cnt - i - 1) * sizeof(*cs->tops));
		cs->top_cnt--;
	}
	st->exec_id = gated->exec_id;
	if (gated->pub.has_verdict) {
		st->pub.has_verdict = true;
		st->pub.verdict = gated->pub.verdict;
	}
	if (cs->held == gated)
		cs->held = st;
	stmt_drop(t, s, gated);
	cs->current = st;
}

void stmt_append_text(struct conn_table *t, struct stmt *st, const char *bytes, size_t len)
{
	size_t have = st->pub.captured;

	/* Nothing is put behind a hole. */
	if (st->pub.missing & 1U << CONN_MISSING_TEXT_LIMIT || !text_room(t, st, len)) {
		st->pub.missing |= 1U << CONN_MISSING_TEXT_LIMIT;
		st->pub.length_is_minimum = true;
		return;
	}
	memcpy(st->buf + have, bytes, len);
	st->buf[have + len] = '\0';
	st->pub.text = st->buf;
	st->pub.captured = have + len;
	st->pub.length += len;
	t->counters.text_bytes += len;
	st->pub.session->state->text_bytes += len;
}

void stmt_set_text(struct conn_table *t, struct stmt *st, const char *bytes, size_t len)
{
	drop_text(t, st);
	st->pub.length = 0;
	stmt_append_text(t, st, bytes, len);
}

static bool grow(void **array, unsigned *cap, unsigned cnt, size_t size, unsigned max)
{
	unsigned want = *cap ? 2 * *cap : 8;
	void *p;

	if (cnt < *cap)
		return true;
	if (cnt >= max)
		return false;
	p = realloc(*array, want * size);
	if (!p)
		return false;
	*array = p;
	*cap = want;
	return true;
}

struct stmt *stmt_add_top(struct conn_table *t, struct conn_session *s, struct stmt *st)
{
	struct conn_state *cs = s->state;

	if (!st)
		return NULL;
	if (!grow((void **)&cs->tops, &cs->top_cap, cs->top_cnt, sizeof(*cs->tops),
		  STATE_TOPS_MAX)) {
		stmt_free(t, st);
		lose(t, s);
		return NULL;
	}
	cs->tops[cs->top_cnt++] = st;
	cs->text_target = cs->judged = st;
	cs->text_check = NULL;
	if (cs->gap)
		st->pub.missing |= 1U << CONN_MISSING_GAP;
	if (!cs->xact_open) {
		cs->xact = (struct conn_xact){ .number = cs->xact.number + 1,
					       .start_ns = st->pub.start_ns };
		cs->xact_open = cs->xact_implicit = true;
	}
	st->pub.xact = cs->xact.number;
	return st;
}

/* The same text again: @old stands for both, and the pieces of @st's text that follow are not
 * needed. */
static struct stmt *merge_into(struct conn_table *t, struct conn_session *s, struct stmt *old,
			       struct stmt *st)
{
	old->ptr = st->ptr;
	old->stale = false;
	old->key_mode = st->key_mode;
	stmt_free(t, st);
	s->state->text_target = s->state->text_check = NULL;
	s->state->judged = old;
	return old;
}

/* Texts of which some is missing for want of room are not the same because the rest is. */
bool stmt_same_text(const struct stmt *a, const struct stmt *b)
{
	return !((a->pub.missing | b->pub.missing) & 1U << CONN_MISSING_TEXT_LIMIT) &&
	       a->pub.captured == b->pub.captured &&
	       !memcmp(a->pub.text, b->pub.text, a->pub.captured);
}

/*
 * A long text comes in pieces, so what begins to run has only its first one yet: it is the text
 * that was parsed last and has not run, when that begins the same.
 */
static struct stmt *parsed_before(struct stmt *top, const struct stmt *st)
{
	for (unsigned i = top->nested_cnt; i-- > 0;) {
		struct stmt *old = top->nested[i];

		if (old->state != STMT_PARSED || old->pub.began || !old->more || old->stale ||
		    old->pub.sqlstate[0] || old->pub.escapes != st->pub.escapes ||
		    old->pub.parent_id != st->pub.parent_id)
			continue;
		if (old->pub.captured >= st->pub.captured &&
		    !memcmp(old->pub.text, st->pub.text, st->pub.captured))
			return old;
		return NULL;
	}
	return NULL;
}

static bool is_top_id(const struct conn_state *cs, uint64_t id)
{
	for (unsigned i = cs->top_cnt; id && i-- > 0;)
		if (cs->tops[i]->pub.id == id)
			return true;
	return false;
}

struct stmt *stmt_add_nested(struct conn_table *t, struct conn_session *s, uint64_t parent_id,
			     struct stmt *st, bool ran)
{
	struct conn_state *cs = s->state;
	struct stmt *top = cs->current	 ? cs->current
			   : cs->top_cnt ? cs->tops[cs->top_cnt - 1]
					 : NULL;

	if (!st)
		return NULL;
	if (top && top->state == STMT_PARSED && is_top_id(cs, parent_id))
		parent_id = 0; /* the kernel knows no execution after that one yet */
	st->pub.parent_id = parent_id ? parent_id : top ? top->pub.id : 0;
	st->text_hash = text_hash(st->pub.text, st->pub.captured);
	if (!top) { /* runs outside of any statement we saw: a background worker, or after a loss */
		st->pub.missing |= 1U << CONN_MISSING_START;
		return stmt_add_top(t, s, st);
	}
	st->pub.xact = cs->xact_open ? cs->xact.number : top->pub.xact;
	for (unsigned i = 0; i < top->nested_cnt; i++) {
		struct stmt *old = top->nested[i];

		if ((!ran && old->pub.mode != st->pub.mode) ||
		    (ran && old->pub.mode >= 2 && old->pub.sqlstate[0]) || (!ran && old->pub.began) ||
		    old->pub.xact != st->pub.xact || old->pub.parent_id != st->pub.parent_id ||
		    old->pub.escapes != st->pub.escapes || old->text_hash != st->text_hash ||
		    !stmt_same_text(old, st))
			continue;
		return merge_into(t, s, old, st);
	}
	if (ran && st->more && !(st->pub.missing & 1U << CONN_MISSING_TEXT_LIMIT)) {
		struct stmt *old = parsed_before(top, st);
		size_t at = st->pub.captured;

		if (old) {
			merge_into(t, s, old, st);
			cs->text_check = old;
			cs->text_at = at;
			return old;
		}
	}
	if (!grow((void **)&top->nested, &top->nested_cap, top->nested_cnt, sizeof(*top->nested),
		  STATE_NESTED_MAX)) {
		top->pub.missing |= 1U << CONN_MISSING_NESTED;
		stmt_free(t, st);
		t->counters.nested_lost++;
		cs->text_target = cs->judged = NULL;
		return NULL;
	}
	st->top = top;
	top->nested[top->nested_cnt++] = st;
	cs->text_target = cs->judged = st;
	cs->text_check = NULL;
	return st;
}

void stmt_ref(struct conn_session *s, uint32_t exec_id, struct stmt *st)
{
	struct conn_state *cs = s->state;

	if (!cs->refs)
		cs->refs = calloc(STATE_EXEC_IDS, sizeof(*cs->refs));
	if (cs->refs)
		cs->refs[exec_id % STATE_EXEC_IDS] = (struct exec_ref){ exec_id, st };
}

struct stmt *stmt_by_exec(struct conn_session *s, uint32_t exec_id)
{
	struct conn_state *cs = s->state;
	const struct exec_ref *ref;

	if (!exec_id)
		return NULL;
	for (unsigned i = cs->top_cnt; i-- > 0;)
		if (cs->tops[i]->exec_id == exec_id)
			return cs->tops[i];
	ref = cs->refs ? &cs->refs[exec_id % STATE_EXEC_IDS] : NULL;
	return ref && ref->exec_id == exec_id ? ref->stmt : NULL;
}

void stmt_add_part(struct stmt *st, const char *tag, uint64_t rows, bool rows_known)
{
	struct conn_part *part;

	if (rows_known) {
		st->pub.rows += rows;
		st->pub.rows_known = true;
	}
	if (!grow((void **)&st->pub.parts, &st->parts_cap, st->pub.part_cnt, sizeof(*part),
		  STATE_PARTS_MAX))
		return;
	part = &st->pub.parts[st->pub.part_cnt++];
	*part = (struct conn_part){ .rows = rows, .rows_known = rows_known };
	strncpy(part->tag, tag, sizeof(part->tag) - 1);
}

static void hand_out(struct conn_table *t, struct stmt *st)
{
	t->counters.statements++;
	st->pub.session->statements++;
	t->ops.statement(t->ctx, &st->pub);
	for (unsigned i = 0; i < st->nested_cnt; i++) {
		struct stmt *n = st->nested[i];

		/* A text that was only parsed inside is an attribute of its parent, unless it
		 * failed or was rejected. */
		if (!n->pub.began && !n->pub.sqlstate[0] && !outcome_rejected(n))
			continue;
		outcome_decide_nested(n, st);
		t->counters.nested++;
		t->ops.statement(t->ctx, &n->pub);
	}
}

/* Only parsed, and nothing happened to it or meanwhile: no record. A simple query that is empty is one. */
static bool only_parsed(const struct stmt *st)
{
	return st->state == STMT_PARSED && !st->pub.sqlstate[0] && !st->pub.has_verdict &&
	       !st->empty_query && !(st->pub.missing & 1U << CONN_MISSING_GAP) &&
	       !stmt_ran_inside(st);
}

static void xact_end(struct conn_table *t, struct conn_session *s, uint64_t ts, int state)
{
	struct conn_state *cs = s->state;

	cs->xact.state = state;
	cs->xact.end_ns = ts;
	cs->xact.implicit = cs->xact_implicit;
	t->ops.transaction(t->ctx, s, &cs->xact);
	cs->xact_open = false;
}

/* The fate of the transaction that this cycle ended: the last transaction command's tag, else
 * whether all went well. */
static int xact_fate(const struct conn_state *cs, char status)
{
	for (unsigned i = cs->top_cnt; i-- > 0;) {
		const struct conn_stmt *p = &cs->tops[i]->pub;

		for (unsigned k = p->part_cnt; k-- > 0;) {
			if (!strcmp(p->parts[k].tag, "COMMIT"))
				return CONN_XACT_COMMITTED;
			if (!strcmp(p->parts[k].tag, "ROLLBACK"))
				return CONN_XACT_ROLLED_BACK;
			if (!strcmp(p->parts[k].tag, "PREPARE TRANSACTION"))
				return CONN_XACT_UNKNOWN;
		}
	}
	if (cs->gap)
		return CONN_XACT_UNKNOWN;
	if (cs->cycle_failed || !status)
		return cs->xact_implicit && !status && !cs->cycle_failed ? CONN_XACT_UNKNOWN
									 : CONN_XACT_ROLLED_BACK;
	return CONN_XACT_COMMITTED;
}

static void xact_next(struct conn_state *cs, uint64_t number, uint64_t ts)
{
	cs->xact = (struct conn_xact){ .number = number, .start_ns = ts };
	cs->xact_open = true;
}

/*
 * The transaction ended with @p and the cycle went on: COMMIT AND CHAIN, a pipeline, several
 * statements in one text. ROLLBACK is no proof: ROLLBACK TO has the same tag.
 */
static bool xact_ended_by(const struct conn_stmt *p, int *fate)
{
	for (unsigned k = p->part_cnt; k-- > 0;) {
		bool commit = !strcmp(p->parts[k].tag, "COMMIT");

		if (commit || !strcmp(p->parts[k].tag, "PREPARE TRANSACTION")) {
			*fate = commit ? CONN_XACT_COMMITTED : CONN_XACT_UNKNOWN;
			return true;
		}
	}
	return false;
}

void stmt_procedure_xact(struct conn_table *t, struct conn_session *s, bool commit, uint64_t ts)
{
	struct conn_state *cs = s->state;
	uint64_t number = cs->xact.number;

	if (!cs->xact_open)
		return;
	cs->xact.statements++;
	if (cs->current) {
		cs->xact.xid = cs->xact.xid ? cs->xact.xid : cs->current->pub.xid;
		cs->current->pub.xid = 0;
	}
	xact_end(t, s, ts, commit ? CONN_XACT_COMMITTED : CONN_XACT_ROLLED_BACK);
	xact_next(cs, number + 1, ts);
}

/* Still being fetched from: its record comes when it ends. */
static bool goes_on(const struct stmt *st, char status)
{
	return st->state == STMT_SUSPENDED && status == 'T';
}

static bool is_record(const struct stmt *st, char status)
{
	return !goes_on(st, status) && !only_parsed(st);
}

static void move_to_xact(struct stmt *st, uint64_t number)
{
	st->pub.xact = number;
	for (unsigned i = 0; i < st->nested_cnt; i++)
		st->nested[i]->pub.xact = number;
}

struct ending { /* of a cycle */
	char status;
	uint64_t ts;
	struct stmt *last; /* its last record */
	bool xact_ends;
	bool alone; /* the only record of an implicit transaction: needs no transaction record */
	bool split; /* transactions ended within */
	bool only;  /* it has one record: what the wire knows of the cycle is about it */
	int fate;
};

static void take_turn(struct stmt *st, const struct marks_turn *turn)
{
	if (st->pub.missing & (1U << CONN_MISSING_GAP | 1U << CONN_MISSING_SUSPENDED))
		return;
	st->pub.bytes_in = turn->bytes_in;
	st->pub.request_ns = turn->request_ns;
	st->pub.response_ns = turn->response_ns;
}

static void end_record(struct conn_table *t, struct conn_session *s, struct stmt *st,
		       struct ending *e)
{
	struct conn_state *cs = s->state;
	uint64_t number = cs->xact.number;
	int fate;

	if (st->pub.form == CONN_SIMPLE && e->status && !st->pub.sqlstate[0] && st->pub.part_cnt &&
	    st->state != STMT_LOST)
		st->state = STMT_DONE;
	st->pub.end_ns =
		st->state == STMT_DONE && st->pub.form != CONN_SIMPLE ? st->pub.end_ns : e->ts;
	if (e->split)
		move_to_xact(st, number);
	cs->xact.statements++;
	cs->xact.xid = cs->xact.xid ? cs->xact.xid : st->pub.xid;
	st->pub.closes_xact = e->alone && st == e->last;
	st->pub.xact_committed = e->fate == CONN_XACT_COMMITTED;
	st->pub.xid = st->pub.xact == number ? cs->xact.xid : 0;
	outcome_decide(st, !e->status);
	if (e->only)
		take_turn(st, &cs->turn);
	hand_out(t, st);
	if (cs->xact_open && !(e->xact_ends && st == e->last) && xact_ended_by(&st->pub, &fate)) {
		xact_end(t, s, st->pub.end_ns, fate);
		xact_next(cs, number + 1, st->pub.end_ns);
		cs->xact_implicit = true;
		e->split = true;
	}
}

/* In the references is only what ran nested: below a statement, or in its place when that was not
 * seen. */
static void end_free(struct conn_table *t, struct conn_session *s, struct stmt *st)
{
	if (st && (st->nested_cnt || st->pub.form == CONN_NESTED))
		stmt_drop(t, s, st);
	else
		stmt_free(t, st);
}

static void end_list(struct conn_table *t, struct conn_session *s, char status)
{
	struct conn_state *cs = s->state;
	unsigned kept = 0;

	cs->current = cs->text_target = cs->judged = cs->held = NULL;
	if (status != 'T') { /* nothing goes on */
		free(cs->refs);
		cs->refs = NULL;
	}
	for (unsigned i = 0; i < cs->top_cnt; i++) {
		struct stmt *st = cs->tops[i];

		if (goes_on(st, status))
			cs->tops[kept++] = st;
		else
			end_free(t, s, st);
	}
	cs->top_cnt = kept;
	end_free(t, s, cs->parsed);
	cs->parsed = NULL;
}

bool stmt_is_background(const struct conn_session *s)
{
	return s->known && s->info.kind == DBF_SESSION_BACKGROUND;
}

void stmt_settle_background(struct conn_session *s, uint64_t ts)
{
	struct conn_state *cs = s->state;

	for (unsigned i = 0; i < cs->top_cnt; i++) {
		struct stmt *st = cs->tops[i];

		if (st->state != STMT_RUNNING || !st->pub.began || st->pub.sqlstate[0])
			continue;
		st->state = STMT_DONE;
		st->pub.end_ns = ts;
	}
}

void stmt_end_cycle(struct conn_table *t, struct conn_session *s, char status, uint64_t ts)
{
	struct conn_state *cs = s->state;
	struct ending e = { .status = status, .ts = ts };
	bool background = stmt_is_background(s);
	unsigned records = 0;

	for (unsigned i = 0; i < cs->top_cnt; i++)
		if (is_record(cs->tops[i], status)) {
			records++;
			e.last = cs->tops[i];
		}
	e.only = records == 1 && s->vantage == CONN_SERVER;
	e.xact_ends = cs->xact_open && status != 'T' && status != 'E';
	e.fate = e.xact_ends && !background ? xact_fate(cs, status) : CONN_XACT_UNKNOWN;
	e.alone = e.xact_ends && cs->xact_implicit && records == 1 && !cs->xact.statements &&
		  !cs->gap && e.last->pub.xact == cs->xact.number && e.fate != CONN_XACT_UNKNOWN;
	for (unsigned i = 0; i < cs->top_cnt; i++)
		if (is_record(cs->tops[i], status))
			end_record(t, s, cs->tops[i], &e);
	end_list(t, s, status);
	if (background) /* where its transactions end is not seen */
		cs->xact_open = false;
	else if (e.xact_ends && (e.alone || !cs->xact.statements))
		cs->xact_open = false;
	else if (e.xact_ends)
		xact_end(t, s, ts, e.fate);
	else if (cs->xact_open)
		cs->xact_implicit = false;
	if (cs->lost)
		t->ops.limit(t->ctx, s, cs->lost);
	cs->lost = 0;
	cs->cycle_failed = false;
	cs->gap = false;
	cs->turn = (struct marks_turn){ 0 };
	cs->last_status = status;
}

/*
 * Whether the replies to come belong to what was running cannot be told any more: the end of the
 * cycle may be among what is missing. An execution that names its id proves that it goes on.
 */
void stmt_mark_gap(struct conn_session *s)
{
	struct conn_state *cs = s->state;

	cs->gap = true;
	cs->reply_open = false;
	cs->out_bytes = cs->tcp_ns = 0;
	cs->turn = (struct marks_turn){ 0 };
	cs->text_target = cs->text_check = NULL;
	cs->judged = NULL;
	for (unsigned i = 0; i < cs->top_cnt; i++) {
		struct stmt *st = cs->tops[i];

		st->pub.missing |= 1U << CONN_MISSING_GAP;
		st->stale = true;
		for (unsigned k = 0; k < st->nested_cnt; k++)
			st->nested[k]->stale = true;
		if (st->state != STMT_DONE && !st->pub.sqlstate[0])
			st->state = STMT_LOST;
	}
}
