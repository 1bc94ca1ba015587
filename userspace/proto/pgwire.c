// SPDX-License-Identifier: Apache-2.0
/* The queue's front: replies, what they answer, and what is handed out when they cannot answer any more. */
#include "proto/pgwire.h"

#include <stdlib.h>
#include <string.h>

#include "core/limits.h"
#include "proto/pgwire_private.h"

struct pgwire *pgwire_new(struct pgwire_pool *pool, const struct pgwire_ops *ops, void *ctx, bool joined)
{
	struct pgwire *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->share.pool = pool;
	w->ops = ops;
	w->ctx = ctx;
	w->framed[DBF_WIRE_CLIENT] = w->framed[DBF_WIRE_SERVER] = true;
	w->started = w->lost = joined;
	w->names_known = !joined;
	w->group_ended = true;
	return w;
}

static void op_free(struct pgwire *w, struct op *op)
{
	pgwire_text_drop(&w->share, op->text);
	w->share.ops--;
	w->share.pool->ops--;
	free(op);
}

/* Out of the queue, with its bytes on the account of what runs next. */
static void op_pop(struct pgwire *w, struct op *op)
{
	*(op->prev ? &op->prev->next : &w->head) = op->next;
	*(op->next ? &op->next->prev : &w->tail) = op->prev;
	w->bytes_in += op->bytes;
	op_free(w, op);
}

static void assembly_drop(struct pgwire *w, struct assembly *a)
{
	w->share.text_bytes -= a->cap;
	w->share.pool->text_bytes -= a->cap;
	free(a->buf);
	*a = (struct assembly){ 0 };
}

void pgwire_free(struct pgwire *w)
{
	if (!w)
		return;
	while (w->head)
		op_pop(w, w->head);
	pgwire_names_fini(&w->statements, &w->share);
	pgwire_names_fini(&w->portals, &w->share);
	assembly_drop(w, &w->parts[DBF_WIRE_CLIENT]);
	assembly_drop(w, &w->parts[DBF_WIRE_SERVER]);
	free(w);
}

/* --- what runs ------------------------------------------------------------------------------------------- */

static bool is_execution(const struct op *op)
{
	return op->type == 'Q' || op->type == 'E' || op->type == 'F';
}

/* Like no SQL: a word in capitals with an underscore, or none at all. SHOW is not parsed by a walsender. */
static bool is_command(const struct pgwire_text *text)
{
	size_t i = 0, from;

	while (i < text->captured && (unsigned char)text->bytes[i] <= ' ')
		i++;
	for (from = i; i < text->captured; i++) {
		char c = text->bytes[i];

		if (c == '_')
			return true;
		if (c < 'A' || c > 'Z')
			return i - from == 4 && !memcmp(text->bytes + from, "SHOW", 4);
	}
	return true;
}

void pgwire_run_of_text(struct pgwire_run *run, const struct pgwire_text *text)
{
	run->text = text ? text->bytes : "";
	run->captured = text ? text->captured : 0;
	run->length = text ? text->length : 0;
	run->flags |= text ? text->flags : PGWIRE_NAMELESS;
}

bool pgwire_run_of_name(const struct pgwire *w, struct pgwire_run *run, const char *name, bool portal, bool cut)
{
	const struct pgwire_name *n = cut ? NULL : pgwire_names_find(portal ? &w->portals : &w->statements, name);

	run->name = portal ? n ? n->of : "" : name;
	pgwire_run_of_text(run, n ? n->text : NULL);
	if (n && n->doubtful)
		run->flags |= PGWIRE_DOUBTFUL;
	if (n && n->started) {
		run->flags |= PGWIRE_AGAIN;
		run->handle = n->handle;
	}
	return n || !w->names_known || cut;
}

bool pgwire_run_of(const struct pgwire *w, const struct op *op, struct pgwire_run *run)
{
	*run = (struct pgwire_run){ .form = PGWIRE_EXTENDED, .text = "", .name = "", .start_ns = op->ts, .oid = op->oid,
				    .mark = op->mark,
				    .flags = op->overlap ? PGWIRE_OVERLAP : 0 };
	switch (op->type) {
	case 'Q':
		run->form = w->replication && op->text && is_command(op->text) ? PGWIRE_REPLICATION : PGWIRE_SIMPLE;
		pgwire_run_of_text(run, op->text);
		return true;
	case 'P':
		run->name = op->name;
		pgwire_run_of_text(run, op->text);
		return true;
	case 'F': run->form = PGWIRE_FASTPATH; return true;
	case 'B': return pgwire_run_of_name(w, run, op->name, false, op->names_cut);
	case 'D':
		return pgwire_run_of_name(w, run, op->kind == 'P' ? op->portal : op->name, op->kind == 'P', op->names_cut);
	case 'E':
		/* A cursor that SQL declared can be executed too. */
		pgwire_run_of_name(w, run, op->portal, true, op->names_cut);
		return true;
	default: return false;
	}
}

static void drop_unnamed(struct pgwire *w)
{
	pgwire_names_remove(&w->statements, &w->share, "");
	pgwire_names_remove(&w->portals, &w->share, "");
}

/* @op begins to be answered. */
static void begin(struct pgwire *w, struct op *op, uint32_t flags)
{
	struct pgwire_name *portal;
	struct pgwire_run run;
	uint64_t handle;

	if (op->begun || !pgwire_run_of(w, op, &run))
		return;
	run.flags |= flags;
	op->begun = true;
	w->bytes_in += op->bytes;
	op->bytes = 0;
	portal = op->type == 'E' ? pgwire_names_find(&w->portals, op->portal) : NULL;
	if (portal && !run.mark)
		run.mark = portal->mark;
	if (portal)
		portal->mark = 0;
	handle = w->ops->run(w->ctx, &run);
	if (portal && !portal->started) {
		portal->started = true;
		portal->handle = handle;
	}
	if (op->type == 'Q')
		drop_unnamed(w);
}

bool pgwire_ends_group(char type)
{
	return type == 'S' || type == 'Q' || type == 'F' || type == PGWIRE_OP_STARTUP;
}

/* --- loss ------------------------------------------------------------------------------------------------ */

static void set_statement(struct pgwire *w, const struct op *op, bool doubtful)
{
	if (op->names_cut || !pgwire_names_set(&w->statements, &w->share, op->name, op->text, "", doubtful))
		w->names_known = false;
	else
		pgwire_names_find(&w->statements, op->name)->mark = op->mark;
}

/* A mark goes from the Parse to the first Bind, unless that has its own, and on to the first Execute. */
static void set_portal(struct pgwire *w, const struct op *op, bool doubtful)
{
	struct pgwire_name *of = op->names_cut ? NULL : pgwire_names_find(&w->statements, op->name), *portal;

	if (op->names_cut ||
	    !pgwire_names_set(&w->portals, &w->share, op->portal, of ? of->text : NULL, of ? of->name : op->name,
			      doubtful || (of && (of->doubtful || op->overlap)))) {
		w->names_known = false;
		return;
	}
	portal = pgwire_names_find(&w->portals, op->portal);
	portal->mark = op->mark ? op->mark : of ? of->mark : 0;
	if (of)
		of->mark = 0;
}

/* What @op does if it succeeds; with PGWIRE_LOST, whether it did is not known. */
static void presume(struct pgwire *w, struct op *op, uint32_t flags)
{
	struct pgwire_name *n;

	if (op->withheld)
		begin(w, op, flags);
	else if (op->type == 'P')
		set_statement(w, op, flags & PGWIRE_LOST);
	else if (op->type == 'B')
		set_portal(w, op, flags & PGWIRE_LOST);
	else if (op->type == 'C' && op->kind == 'S' && (n = pgwire_names_find(&w->statements, op->name)))
		n->doubtful = true;
	else if (is_execution(op))
		begin(w, op, flags);
	/* It was stopped, and nothing came behind it: it may be all there ever was of a statement. */
	if (op->mark && !op->next)
		begin(w, op, flags);
}

/* All that waits, up to and with @last, is handed out without an answer. */
static void hand_out(struct pgwire *w, const struct op *last, uint32_t flags)
{
	bool end = false;

	while (w->head && !end) {
		struct op *op = w->head;

		end = op == last;
		if (w->skipping && op->type == 'S')
			w->skipping = op->swallowed;
		if (!w->skipping)
			presume(w, op, flags);
		op_pop(w, op);
	}
}

static unsigned groups(const struct pgwire *w)
{
	unsigned cnt = 0;

	for (const struct op *op = w->head; op; op = op->next)
		cnt += pgwire_ends_group(op->type);
	return cnt;
}

static void lose(struct pgwire *w, bool owed_known)
{
	if (!w->lost) {
		w->owed = 0;
		w->owed_known = true;
	}
	w->owed_known &= owed_known;
	/* Two may be there because the answer to the first is what was lost. */
	w->pipelines |= groups(w) > 2;
	/* Those sent while lost were counted then. */
	w->owed += w->lost ? 0 : groups(w);
	hand_out(w, NULL, PGWIRE_LOST);
	w->lost = true;
	w->skipping = w->copying = w->last_was_ready = false;
	w->passed = 0;
	w->rows = w->row_bytes = w->bytes_in = w->bytes_out = 0;
}

static unsigned waiting(const struct pgwire *w)
{
	unsigned cnt = 0;

	for (const struct op *op = w->head; op; op = op->next)
		cnt += is_execution(op);
	return cnt;
}

void pgwire_lose(struct pgwire *w, enum pgwire_loss why, unsigned more)
{
	*(why == PGWIRE_LOSS_LIMIT ? &w->share.pool->ops_limited : &w->share.pool->mismatches) += 1;
	w->ops->loss(w->ctx, why, waiting(w) + more);
	lose(w, why == PGWIRE_LOSS_LIMIT);
	pgwire_names_doubt(&w->statements);
	w->names_known = false;
}

/* --- replies --------------------------------------------------------------------------------------------- */

/* What the next reply is about, once what is not answered is out of the way. */
static struct op *head_of(struct pgwire *w)
{
	if (w->skipping)
		return NULL;
	/* Copy data that came too late, after its copy had failed, is ignored. */
	while (w->head && (w->head->type == 'c' || w->head->type == 'f'))
		op_pop(w, w->head);
	return w->head;
}

static void reply(struct pgwire *w, const struct assembly *m, bool of_statement)
{
	struct pgwire_reply r = { .type = (char)m->item.type, .bytes = m->buf, .captured = m->len,
				  .length = m->item.length, .ts = m->ts };

	if (of_statement) {
		r.rows = w->rows;
		r.row_bytes = w->row_bytes;
		r.bytes_in = w->bytes_in;
		r.bytes_out = w->bytes_out;
		w->rows = w->row_bytes = w->bytes_in = w->bytes_out = 0;
	}
	w->ops->reply(w->ctx, &r);
}

/* The copy at the head is over: Sync and Flush up to its end were not heard. */
static void swallow(struct pgwire *w, struct op *head)
{
	struct op *end = head->next, *op;

	while (end && end->type != 'c' && end->type != 'f')
		end = end->next;
	if (!end)
		return;
	while ((op = head->next) != end && op->type == 'S')
		op_pop(w, op);
	if (op == end)
		op_pop(w, end);
}

/* It failed. Whether the server had begun to read, and so swallowed a Sync, shows later. */
static void copy_failed(struct op *head)
{
	struct op *op = head->type == 'E' ? head->next : NULL;

	for (; op && op->type != 'c' && op->type != 'f'; op = op->next)
		op->swallowed |= op->type == 'S';
}

static void tag_of_names(struct pgwire *w, const struct assembly *m)
{
	const char *tag = m->buf;
	size_t len = strnlen(tag, m->len);

	if (len == 11 && !memcmp(tag, "DISCARD ALL", len)) {
		pgwire_names_clear(&w->portals, &w->share);
		pgwire_names_clear(&w->statements, &w->share);
	} else if (len == 14 && !memcmp(tag, "DEALLOCATE ALL", len)) {
		pgwire_names_clear(&w->statements, &w->share);
	} else if (len == 10 && !memcmp(tag, "DEALLOCATE", len)) {
		pgwire_names_loosen(&w->statements);
	} else if (len == 7 && !memcmp(tag, "PREPARE", len)) {
		pgwire_names_reuse(&w->statements);
		w->names_known = false;
	}
}

/* C, I and s: an execution, or a part of it, is complete. */
static bool reply_completion(struct pgwire *w, struct op *op, const struct assembly *m)
{
	if (!op || (op->type != 'E' && op->type != 'Q') || (m->item.type == 's' && op->type != 'E'))
		return false;
	begin(w, op, 0);
	reply(w, m, true);
	if (m->item.type == 'C') {
		tag_of_names(w, m);
		if (w->copying)
			swallow(w, op);
	}
	w->copying = false;
	if (op->type == 'E')
		op_pop(w, op);
	return true;
}

/* An Execute of a portal that cannot be there. */
static bool is_of_nothing(const struct pgwire *w, const struct op *op)
{
	return op->type == 'E' && w->names_known && !op->names_cut && !pgwire_names_find(&w->portals, op->portal);
}

static void reply_error(struct pgwire *w, struct op *op, const struct assembly *m)
{
	bool extended = op && strchr("PBDECH", op->type);

	if (op && op->type != 'C' && op->type != 'S' && op->type != PGWIRE_OP_STARTUP && !is_of_nothing(w, op))
		begin(w, op, 0);
	if (op && op->type == 'P' && !op->name[0])
		pgwire_names_remove(&w->statements, &w->share, "");
	reply(w, m, true);
	if (op && w->copying)
		copy_failed(op);
	w->copying = false;
	if (extended) {
		op_pop(w, op);
		w->skipping = true;
	}
}

/* The Sync that ends what is skipped: one that was certainly heard, else one that may have been. */
static struct op *sync_of_skip(const struct pgwire *w)
{
	struct op *maybe = NULL;

	for (struct op *op = w->head; op; op = op->next) {
		if (op->type == 'S' && !op->swallowed)
			return op;
		if (op->type == 'S' && !maybe)
			maybe = op;
	}
	return maybe;
}

static bool reply_ready(struct pgwire *w, const struct assembly *m)
{
	struct op *op = w->skipping ? sync_of_skip(w) : head_of(w);

	if (!op || !pgwire_ends_group(op->type) || ((op->type == 'Q' || op->type == 'F') && !op->begun))
		return false;
	while (w->head != op) {
		w->passed += w->head->swallowed;
		op_pop(w, w->head);
	}
	op_pop(w, op);
	/* More was sent before this was answered; but for the end of a copy that had failed. */
	w->pipelines |= w->head && w->head->type != 'c' && w->head->type != 'f';
	w->skipping = w->copying = false;
	reply(w, m, true);
	return true;
}

static bool reply_extended(struct pgwire *w, struct op *op, const struct assembly *m)
{
	char type = (char)m->item.type;

	if (type == '1' && op->type == 'P')
		set_statement(w, op, false);
	else if (type == '2' && op->type == 'B')
		set_portal(w, op, false);
	else if (type == '3' && op->type == 'C')
		pgwire_names_remove(op->kind == 'P' ? &w->portals : &w->statements, &w->share,
				    op->kind == 'P' ? op->portal : op->name);
	else if (!(type == 'n' || type == 'T') || op->type != 'D')
		return false;
	op_pop(w, op);
	return true;
}

/* False when it answers nothing that waits. */
static bool reply_matched(struct pgwire *w, const struct assembly *m)
{
	struct op *op = head_of(w);
	char type = (char)m->item.type;
	bool runs = op && (op->type == 'Q' || op->type == 'E');

	switch (type) {
	case 'Z': return reply_ready(w, m);
	case 'E': reply_error(w, op, m); return true;
	case 'C': case 'I': case 's': return reply_completion(w, op, m);
	case 't': return op && op->type == 'D';
	case 'V':
		if (!op || op->type != 'F')
			return false;
		begin(w, op, 0);
		reply(w, m, true);
		return true;
	case 'T':
		if (runs) {
			begin(w, op, 0);
			return true;
		}
		return op && reply_extended(w, op, m);
	case '1': case '2': case '3': case 'n': return op && reply_extended(w, op, m);
	default: break;
	}
	if (!runs) /* D d G H W c */
		return false;
	begin(w, op, 0);
	if (type == 'G' || type == 'W')
		w->copying = true;
	if (type == 'G' || type == 'H' || type == 'W')
		reply(w, m, true);
	return true;
}

/* While nothing can be matched, ReadyForQuery tells that something was answered, if not what. */
static void reply_lost(struct pgwire *w, const struct assembly *m)
{
	struct op *op = w->head;

	if (m->item.type != 'Z' && m->item.type != 'E')
		return;
	if (m->item.type == 'Z') {
		while (op && !pgwire_ends_group(op->type))
			op = op->next;
		if (op)
			hand_out(w, op, PGWIRE_LOST);
		else if (!w->head && !w->pipelines && w->framed[DBF_WIRE_CLIENT])
			w->lost = false;
		w->owed -= w->owed > 0;
		if (w->owed_known && !w->owed)
			w->lost = false;
	}
	w->rows = w->row_bytes = 0;
	reply(w, m, true);
}

static void count_rows(struct pgwire *w, const struct assembly *m)
{
	struct dbf_wire_run run = { 0 };

	memcpy(&run, m->buf, m->len < sizeof(run) ? m->len : sizeof(run));
	w->rows += m->item.length;
	w->row_bytes += run.bytes;
	w->bytes_out += run.bytes + PGWIRE_HEAD_BYTES * (uint64_t)m->item.length;
}

static void read_reply(struct pgwire *w, const struct assembly *m)
{
	char type = (char)m->item.type;

	if (type == DBF_WIRE_ANSWER)
		return;
	if (m->overlap && w->head)
		w->head->overlap = true;
	if (type == 'D' || type == 'd')
		count_rows(w, m);
	else
		w->bytes_out += PGWIRE_HEAD_BYTES + (uint64_t)m->item.length;
	if (type == 'N' || type == 'A' || type == 'v')
		return;
	if (type == 'R' || type == 'S' || type == 'K') {
		reply(w, m, false);
		return;
	}
	if (type != 'Z')
		w->passed = 0;
	if (w->lost)
		reply_lost(w, m);
	else if (!reply_matched(w, m)) {
		/* A Sync was answered after all that was taken for swallowed: what waits is not touched by that. */
		if (type == 'Z' && !w->skipping && w->passed)
			w->passed--;
		else
			pgwire_lose(w, PGWIRE_LOSS_MISMATCH, 0);
	}
	w->last_was_ready = type == 'Z';
	w->last_ts = m->ts;
	if (type == 'Z' && m->len && m->buf[0] == 'I')
		pgwire_names_clear(&w->portals, &w->share);
}

/* --- messages -------------------------------------------------------------------------------------------- */

static void take(struct pgwire *w, enum dbf_wire_dir dir, struct assembly *m)
{
	bool run = m->item.type == 'd' || (m->item.type == 'D' && dir == DBF_WIRE_SERVER);

	if (!run && m->len > m->item.length)
		m->len = m->item.length;
	m->overlap |= w->doubt_next[dir];
	w->doubt_next[dir] = false;
	if (dir == DBF_WIRE_CLIENT)
		pgwire_read_request(w, m);
	else
		read_reply(w, m);
}

static void append(struct pgwire *w, struct assembly *a, const void *bytes, size_t len)
{
	size_t room, max = LIMIT_STATEMENT_BYTES + 4 * PGWIRE_NAME_BYTES;

	if (a->cut) /* nothing is put behind a hole */
		return;
	if (a->len + len > max) {
		len = max - a->len;
		a->cut = true;
	}
	if (a->len + len > a->cap) {
		size_t cap = 2 * (a->len + len) < max ? 2 * (a->len + len) : max;
		char *buf;

		room = pgwire_text_room(&w->share);
		if (cap - a->cap > room) {
			cap = a->cap + room;
			w->share.pool->texts_limited += !a->cut && cap < a->len + len;
		}
		buf = cap > a->cap ? realloc(a->buf, cap) : NULL;
		if (buf) {
			w->share.text_bytes += cap - a->cap;
			w->share.pool->text_bytes += cap - a->cap;
			a->buf = buf;
			a->cap = cap;
		}
	}
	if (len > a->cap - a->len) {
		len = a->cap - a->len;
		a->cut = true;
	}
	if (len)
		memcpy(a->buf + a->len, bytes, len);
	a->len += len;
}

/* What is assembled is read from memory that gives its room to the copies made of it. */
static void assembled(struct pgwire *w, enum dbf_wire_dir dir)
{
	struct assembly *a = &w->parts[dir], whole = *a;

	w->share.text_bytes -= a->cap;
	w->share.pool->text_bytes -= a->cap;
	*a = (struct assembly){ 0 };
	take(w, dir, &whole);
	free(whole.buf);
}

void pgwire_feed(struct pgwire *w, enum dbf_wire_dir dir, const struct dbf_wire_item *item, const void *bytes, uint64_t ts)
{
	struct assembly *a = &w->parts[dir], now = { .item = *item, .ts = ts, .len = item->captured };

	if (a->open) { /* its rest never came */
		a->cut = true;
		assembled(w, dir);
	}
	if (item->flags & DBF_WIRE_ITEM_MORE) {
		*a = (struct assembly){ .open = true, .item = *item, .ts = ts };
		append(w, a, bytes, item->captured);
		return;
	}
	now.buf = (char *)(uintptr_t)bytes; /* is only read */
	take(w, dir, &now);
}

void pgwire_more(struct pgwire *w, enum dbf_wire_dir dir, const void *bytes, size_t len, bool more, uint64_t ts)
{
	struct assembly *a = &w->parts[dir];

	if (!a->open)
		return;
	append(w, a, bytes, len);
	if (dir == DBF_WIRE_SERVER)
		a->ts = ts; /* a reply is there when its end is */
	if (!more)
		assembled(w, dir);
}

void pgwire_gap(struct pgwire *w, enum dbf_wire_dir dir, uint64_t ts)
{
	struct assembly *a = &w->parts[dir];

	if (dir == DBF_WIRE_CLIENT && a->open) {
		a->cut = true;
		a->ts = ts < a->ts ? ts : a->ts;
		assembled(w, dir);
	}
	assembly_drop(w, a);
	lose(w, dir == DBF_WIRE_SERVER);
	if (dir == DBF_WIRE_CLIENT) {
		pgwire_names_doubt(&w->statements);
		pgwire_names_doubt(&w->portals);
		w->names_known = false;
		w->group_ended = false;
	}
	w->framed[dir] = false;
	w->started = true;
}

void pgwire_unframed(struct pgwire *w, enum dbf_wire_dir dir)
{
	w->framed[dir] = false;
}

void pgwire_resync(struct pgwire *w, enum dbf_wire_dir dir, uint64_t ts)
{
	(void)ts;
	if (w->framed[dir])
		return;
	w->framed[dir] = true;
	/* What was sent meanwhile may have been answered meanwhile. */
	if (dir == DBF_WIRE_SERVER)
		lose(w, true);
}

void pgwire_doubt(struct pgwire *w, enum dbf_wire_dir dir)
{
	struct assembly *a = &w->parts[dir];
	struct op *op = dir == DBF_WIRE_CLIENT ? w->tail : w->head;

	if (a->open)
		a->overlap = true;
	else
		w->doubt_next[dir] = true;
	if (a->open || !op)
		return;
	op->overlap = true;
	if (op->text)
		op->text->flags |= PGWIRE_OVERLAP;
}

void pgwire_withheld(struct pgwire *w, uint64_t mark)
{
	struct op *op = w->tail;

	while (op && op->mark != mark)
		op = op->prev;
	if (!op)
		return;
	while (w->tail != op)
		op_pop(w, w->tail);
	op->withheld = true;
}

void pgwire_end(struct pgwire *w, uint64_t ts)
{
	(void)ts;
	hand_out(w, NULL, w->lost ? PGWIRE_LOST : 0);
}

bool pgwire_idle(const struct pgwire *w)
{
	return !w->head && !w->lost;
}

