// SPDX-License-Identifier: Apache-2.0
/* The queue's end: what the client sends, and what that would run if everything before it succeeds. */
#include "proto/pgwire_private.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/clock.h"
#include "core/limits.h"

#define QUIET_NS NS_PER_SEC
#define PENDING_STEPS_MAX 4096 /* requests looked through for the one that a name would come from */

#define CODE_CANCEL 80877102
#define CODE_SSL 80877103
#define CODE_GSS 80877104

/* Whether nothing can be outstanding any more, now that the client begins something new. */
static void settle(struct pgwire *w, char type, uint64_t ts)
{
	bool quiet = w->last_was_ready && ts > w->last_ts && ts - w->last_ts >= QUIET_NS;
	bool begins = type == 'Q' || type == 'F' || (w->group_ended && type != 'c' && type != 'f');

	if (begins && w->lost && !w->head && w->framed[DBF_WIRE_CLIENT] && w->framed[DBF_WIRE_SERVER] &&
	    (!w->pipelines || quiet))
		w->lost = false;
	w->owed += w->lost && pgwire_ends_group(type);
	if (pgwire_ends_group(type))
		w->group_ended = true;
	else if (type != 'c' && type != 'f')
		w->group_ended = false;
}

struct names { /* of a message that is read */
	const char *first, *second;
	size_t first_len, second_len;
	bool cut;
};

static size_t name_len(size_t len)
{
	return len < PGWIRE_NAME_BYTES ? len : PGWIRE_NAME_BYTES - 1;
}

static struct op *enqueue(struct pgwire *w, char type, const struct assembly *m, const struct names *n)
{
	size_t first = name_len(n->first_len), second = name_len(n->second_len);
	struct op *op = NULL;

	settle(w, type, m->ts);
	if (pgwire_fits(w->share.ops + 1, w->share.pool->ops + 1, LIMIT_WIRE_OPS_MIN, LIMIT_WIRE_OPS,
			LIMIT_WIRE_OPS_TOTAL))
		op = malloc(sizeof(*op) + first + second + 2);
	if (!op) {
		pgwire_lose(w, PGWIRE_LOSS_LIMIT, type == 'Q' || type == 'E' || type == 'F');
		return NULL;
	}
	*op = (struct op){ .type = type, .ts = m->ts, .bytes = PGWIRE_HEAD_BYTES + (uint64_t)m->item.length, .prev = w->tail,
			   .overlap = m->overlap, .names_cut = n->cut, .name = op->names, .portal = op->names + first + 1 };
	if (first)
		memcpy(op->names, n->first, first);
	op->names[first] = '\0';
	if (second)
		memcpy(op->names + first + 1, n->second, second);
	op->names[first + 1 + second] = '\0';
	*(w->tail ? &w->tail->next : &w->head) = op;
	w->tail = op;
	w->share.ops++;
	w->share.pool->ops++;
	return op;
}

/* One string of a message, at *at; false when its end was not captured. */
static bool take_string(const char *bytes, size_t len, size_t *at, const char **out, size_t *out_len)
{
	const char *end = *at < len ? memchr(bytes + *at, '\0', len - *at) : NULL;

	*out = bytes + (*at < len ? *at : len);
	*out_len = end ? (size_t)(end - *out) : len - (*at < len ? *at : len);
	*at = end ? (size_t)(end - bytes) + 1 : len;
	return end != NULL;
}

/* The text that begins at @at; a Query's is the message's last field. */
static void set_text(struct pgwire *w, struct op *op, const struct assembly *m, size_t at)
{
	bool whole = m->len >= m->item.length && !m->cut;
	uint64_t length = m->item.length > at ? m->item.length - at : 0;
	const char *text;
	size_t len;
	bool ended = take_string(m->buf, m->len, &at, &text, &len);
	uint32_t flags = m->overlap ? PGWIRE_OVERLAP : 0;

	if (!ended && !whole && op->type == 'Q') { /* but for its NUL, the rest is text */
		flags |= PGWIRE_CUT;
		length -= length > len;
	} else {
		flags |= ended || whole ? 0 : PGWIRE_CUT | PGWIRE_MINIMUM;
		length = len;
	}
	op->text = pgwire_text_new(&w->share, text, len, length, flags);
	if (!op->text)
		op->overlap = op->names_cut = true; /* undecided: nothing is known of it */
}

static void read_query(struct pgwire *w, const struct assembly *m)
{
	struct names none = { 0 };
	struct op *op = enqueue(w, 'Q', m, &none);

	if (op)
		set_text(w, op, m, 0);
}

static void read_parse(struct pgwire *w, const struct assembly *m)
{
	struct names n = { 0 };
	size_t at = 0;
	struct op *op;

	n.cut = !take_string(m->buf, m->len, &at, &n.first, &n.first_len);
	op = enqueue(w, 'P', m, &n);
	if (op)
		set_text(w, op, m, at);
}

static void read_bind(struct pgwire *w, const struct assembly *m)
{
	struct names n = { 0 };
	size_t at = 0;

	n.cut = !take_string(m->buf, m->len, &at, &n.second, &n.second_len);
	n.cut |= !take_string(m->buf, m->len, &at, &n.first, &n.first_len);
	enqueue(w, 'B', m, &n);
}

static void read_execute(struct pgwire *w, const struct assembly *m)
{
	struct names n = { 0 };
	size_t at = 0;

	n.cut = !take_string(m->buf, m->len, &at, &n.second, &n.second_len);
	enqueue(w, 'E', m, &n);
}

/* Describe and Close: 'S' or 'P', then the name. */
static void read_about(struct pgwire *w, char type, const struct assembly *m)
{
	char kind = m->len ? m->buf[0] : 0;
	struct names n = { 0 };
	struct op *op;
	size_t at = 1;

	if (kind == 'P')
		n.cut = !take_string(m->buf, m->len, &at, &n.second, &n.second_len);
	else
		n.cut = !take_string(m->buf, m->len, &at, &n.first, &n.first_len);
	op = enqueue(w, type, m, &n);
	if (op)
		op->kind = kind;
}

static uint32_t read_u32(const struct assembly *m, size_t at)
{
	const unsigned char *p = (const unsigned char *)m->buf + at;

	return m->len >= at + 4 ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;
}

static void copy_value(char *to, const char *value, size_t len)
{
	memcpy(to, value, name_len(len));
	to[name_len(len)] = '\0';
}

/* A boolean as the server reads it. */
static bool is_true(const char *v, size_t len)
{
	return (len && (!strncasecmp(v, "true", len) || !strncasecmp(v, "yes", len))) ||
	       (len == 2 && !strncasecmp(v, "on", len)) || (len == 1 && *v == '1');
}

static void read_parameters(const char *bytes, size_t len, struct pgwire_startup *s)
{
	const char *key, *value;
	size_t at = 4, key_len, value_len;

	while (take_string(bytes, len, &at, &key, &key_len) && key_len && take_string(bytes, len, &at, &value, &value_len)) {
		if (!strcmp(key, "user"))
			copy_value(s->user, value, value_len);
		else if (!strcmp(key, "database"))
			copy_value(s->database, value, value_len);
		else if (!strcmp(key, "application_name"))
			copy_value(s->application, value, value_len);
		else if (!strcmp(key, "replication"))
			s->replication = !strcmp(value, "database") || is_true(value, value_len);
	}
}

static void read_startup(struct pgwire *w, const struct assembly *m)
{
	struct pgwire_startup s = { 0 };
	struct names none = { 0 };
	uint32_t code = read_u32(m, 0);

	if (w->started)
		return;
	if (code == CODE_SSL || code == CODE_GSS) {
		s.kind = code == CODE_SSL ? PGWIRE_SSL : PGWIRE_GSS;
	} else if (code == CODE_CANCEL) {
		s.kind = PGWIRE_CANCEL;
		s.cancel_pid = read_u32(m, 4);
	} else if (code >> 16 == 3) {
		s.kind = PGWIRE_SESSION;
		read_parameters(m->buf, m->len, &s);
		w->started = true;
		w->replication = s.replication;
		if (!enqueue(w, PGWIRE_OP_STARTUP, m, &none))
			return;
	} else {
		return;
	}
	w->ops->startup(w->ctx, &s);
}

void pgwire_began(struct pgwire *w, const char *bytes, size_t len)
{
	struct pgwire_startup s = { .kind = PGWIRE_SESSION };

	if (len < 4 || bytes[0] || bytes[1] != 3)
		return;
	read_parameters(bytes, len, &s);
	w->replication = s.replication;
	w->ops->startup(w->ctx, &s);
}

void pgwire_read_request(struct pgwire *w, const struct assembly *m)
{
	struct names none = { 0 };
	struct dbf_wire_run run;
	struct op *op;

	if (w->tail && w->tail->withheld)
		return;
	switch (m->item.type) {
	case 'Q': read_query(w, m); break;
	case 'P': read_parse(w, m); break;
	case 'B': read_bind(w, m); break;
	case 'E': read_execute(w, m); break;
	case 'D': case 'C': read_about(w, (char)m->item.type, m); break;
	case 'S': case 'c': case 'f': enqueue(w, (char)m->item.type, m, &none); break;
	case 'F':
		op = enqueue(w, 'F', m, &none);
		if (op)
			op->oid = read_u32(m, 0);
		break;
	case 'd':
		memset(&run, 0, sizeof(run));
		memcpy(&run, m->buf, m->len < sizeof(run) ? m->len : sizeof(run));
		w->bytes_in += run.bytes + PGWIRE_HEAD_BYTES * (uint64_t)m->item.length;
		break;
	case DBF_WIRE_STARTUP: read_startup(w, m); break;
	}
}

/* --- the reading at request time -------------------------------------------------------------------------- */

/*
 * What is sent in a later group than what it builds on (a Sync lies between) is not skipped when that fails: then it
 * runs what its name stood for before. True when @name may have stood for something else before @at.
 */
static bool stood_before(const struct pgwire *w, const struct op *at, const char *name, bool portal, unsigned *steps)
{
	for (; at; at = at->prev)
		if (++*steps > PENDING_STEPS_MAX ||
		    (at->type == (portal ? 'B' : 'P') && !strcmp(portal ? at->portal : at->name, name)))
			return true;
	return !w->names_known || pgwire_names_find(portal ? &w->portals : &w->statements, name);
}

/* What statement @name will stand for when the request behind @at is reached. */
static void pending_statement(const struct pgwire *w, const struct op *at, const char *name, unsigned *steps,
			      struct pgwire_run *run)
{
	bool later = false;

	run->name = name;
	for (; at; at = at->prev) {
		if (++*steps > PENDING_STEPS_MAX) {
			pgwire_run_of_text(run, NULL);
			return;
		}
		if (at->type == 'P' && !strcmp(at->name, name)) {
			pgwire_run_of_text(run, at->text);
			if (later && stood_before(w, at->prev, name, false, steps))
				run->flags |= PGWIRE_DOUBTFUL;
			return;
		}
		if ((at->type == 'C' && at->kind == 'S' && !strcmp(at->name, name)) || (at->type == 'Q' && !*name)) {
			pgwire_run_of_text(run, NULL);
			return;
		}
		later |= pgwire_ends_group(at->type);
	}
	pgwire_run_of_name(w, run, name, false, false);
	run->flags &= ~(uint32_t)PGWIRE_AGAIN;
}

static void pending_portal(const struct pgwire *w, const struct op *execute, struct pgwire_run *run)
{
	unsigned steps = 0;
	bool later = false;

	for (const struct op *op = execute->prev; op && ++steps <= PENDING_STEPS_MAX; op = op->prev) {
		if ((op->type == 'C' && op->kind == 'P' && !strcmp(op->portal, execute->portal)) ||
		    (op->type == 'Q' && !execute->portal[0])) {
			pgwire_run_of_text(run, NULL);
			return;
		}
		if (op->type == 'B' && !strcmp(op->portal, execute->portal)) {
			if (op->overlap)
				run->flags |= PGWIRE_OVERLAP;
			if (op->names_cut)
				pgwire_run_of_text(run, NULL);
			else
				pending_statement(w, op->prev, op->name, &steps, run);
			if (later && stood_before(w, op->prev, execute->portal, true, &steps))
				run->flags |= PGWIRE_DOUBTFUL;
			return;
		}
		later |= pgwire_ends_group(op->type);
	}
	if (steps > PENDING_STEPS_MAX)
		pgwire_run_of_text(run, NULL);
	else
		pgwire_run_of_name(w, run, execute->portal, true, false);
}

bool pgwire_pending_text(const struct pgwire *w, struct pgwire_run *out)
{
	const struct op *op = w->tail;
	unsigned steps = 0;

	if (!op || !strchr("QPBEF", op->type))
		return false;
	if (op->type == 'Q' || op->type == 'P' || op->type == 'F' || op->names_cut)
		return pgwire_run_of(w, op, out);
	*out = (struct pgwire_run){ .form = PGWIRE_EXTENDED, .text = "", .name = "", .start_ns = op->ts,
				    .flags = op->overlap ? PGWIRE_OVERLAP : 0 };
	if (op->type == 'B')
		pending_statement(w, op->prev, op->name, &steps, out);
	else
		pending_portal(w, op, out);
	return true;
}

bool pgwire_alone(const struct pgwire *w)
{
	return w->head == w->tail;
}

void pgwire_mark(struct pgwire *w, uint64_t mark)
{
	if (w->tail)
		w->tail->mark = mark;
}

uint64_t pgwire_gone(const struct pgwire *w)
{
	return w->statements.gone;
}

bool pgwire_each_text(const struct pgwire *w, pgwire_text_fn fn, void *ctx)
{
	struct pgwire_run run;

	if (!w->names_known || !pgwire_names_each(&w->statements, false, fn, ctx) ||
	    !pgwire_names_each(&w->portals, true, fn, ctx))
		return false;
	for (const struct op *op = w->head; op; op = op->next)
		if (op->type == 'P' && pgwire_run_of(w, op, &run) && !fn(ctx, &run))
			return false;
	return true;
}
