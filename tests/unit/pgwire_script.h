/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A conversation as a line of text, fed to a tracker, and what comes out as another. '>' and '<' say who speaks; then
 * messages by their types, arguments in parentheses, separated by blanks:
 *
 *   > P(name,text) B(portal,name) D(S,name) D(P,portal) E(portal) C(S,name) S Q(text) F c f d(3) X
 *   < 1 2 3 T t n D(rows) C(tag) I s E(sqlstate) ZI G H W d(3) V K R S(name=value) N
 *
 * G! and R! are a gap and a resync of who speaks, O! a doubt, U! a beginning that is not framed, W! two seconds. What comes out: +form'text'
 * with the statement's name and flags, C(tag), E(sqlstate), I, s, V, Zx, !reason:ops.
 */
#ifndef DBFENCE_TESTS_PGWIRE_SCRIPT_H
#define DBFENCE_TESTS_PGWIRE_SCRIPT_H

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "proto/pgwire.h"

struct script {
	struct pgwire_pool pool;
	struct pgwire *wire;
	struct buf log;
	uint64_t ts, handles;
	size_t piece;	/* messages come in pieces of so many bytes; 0: whole */
	/* Where items go instead of to a tracker. */
	void (*item)(struct script *s, int dir, const struct dbf_wire_item *item, const void *bytes);
	bool bytes;	/* log them */
};

static inline uint64_t script_run(void *ctx, const struct pgwire_run *r)
{
	static const char forms[] = "sxfr", flags[] = "cmndola";
	struct script *s = ctx;

	buf_printf(&s->log, " +%c", forms[r->form]);
	if (r->name[0])
		buf_printf(&s->log, "[%s]", r->name);
	buf_printf(&s->log, "'%.*s'", (int)r->captured, r->text);
	for (int i = 0; flags[i]; i++)
		if (r->flags & 1U << i)
			buf_putc(&s->log, flags[i]);
	if (r->flags & PGWIRE_AGAIN)
		buf_printf(&s->log, "%llu", (unsigned long long)r->handle);
	return ++s->handles;
}

static inline void script_reply(void *ctx, const struct pgwire_reply *r)
{
	struct script *s = ctx;

	if (r->type == 'S' || r->type == 'K')
		return;
	buf_printf(&s->log, " %c", r->type);
	if (r->type == 'C' || r->type == 'E')
		buf_printf(&s->log, "(%.*s)", (int)r->captured, r->bytes + (r->type == 'E'));
	if (r->type == 'Z')
		buf_putc(&s->log, r->bytes[0]);
	if (r->rows)
		buf_printf(&s->log, "/%llu", (unsigned long long)r->rows);
	if (s->bytes && (r->bytes_in || r->bytes_out))
		buf_printf(&s->log, "<%llu,%llu>", (unsigned long long)r->bytes_in, (unsigned long long)r->bytes_out);
}

static inline void script_startup(void *ctx, const struct pgwire_startup *st)
{
	struct script *s = ctx;

	buf_printf(&s->log, " start%d(%s,%s,%s,%d,%u)", st->kind, st->user, st->database, st->application, st->replication,
		   st->cancel_pid);
}

static inline void script_loss(void *ctx, enum pgwire_loss why, unsigned ops)
{
	struct script *s = ctx;

	buf_printf(&s->log, " !%s:%u", why == PGWIRE_LOSS_LIMIT ? "limit" : "mismatch", ops);
}

static const struct pgwire_ops script_ops = { .startup = script_startup, .run = script_run, .reply = script_reply,
					      .loss = script_loss };

static inline void script_init(struct script *s, bool joined)
{
	*s = (struct script){ 0 };
	buf_init(&s->log, 64 * 1024 * 1024);
	s->wire = pgwire_new(&s->pool, &script_ops, s, joined);
	if (!s->wire)
		abort();
}

static inline void script_fini(struct script *s)
{
	pgwire_free(s->wire);
	buf_fini(&s->log);
	if (s->pool.text_bytes || s->pool.ops || s->pool.names)
		abort();
}

/* Bytes of a message from memory of their own, so that a read beyond them is seen. */
static inline void script_message(struct script *s, int dir, char type, const void *bytes, size_t len, size_t length)
{
	struct dbf_wire_item item = { .type = (unsigned char)type, .length = (uint32_t)length };
	size_t first = s->piece && s->piece < len ? s->piece : len;

	for (size_t at = 0, n = first; !at || at < len; at += n, n = len - at < first ? len - at : first) {
		char *copy = malloc(n ? n : 1);
		bool more = at + n < len;

		if (!copy)
			abort();
		if (n)
			memcpy(copy, (const char *)bytes + at, n);
		item.captured = (uint16_t)n;
		item.flags = more ? DBF_WIRE_ITEM_MORE : 0;
		item.type = at ? DBF_WIRE_MORE : (unsigned char)type;
		if (s->item)
			s->item(s, dir, &item, copy);
		else if (at)
			pgwire_more(s->wire, dir, copy, n, more, ++s->ts);
		else
			pgwire_feed(s->wire, dir, &item, copy, ++s->ts);
		free(copy);
		if (!n)
			break;
	}
}

/* The arguments @a of client message @type as its payload. */
static inline size_t script_client(char type, const char *a, char *to, size_t cap)
{
	const char *comma = strchr(a, ',');
	size_t first = comma ? (size_t)(comma - a) : strlen(a), second = comma ? strlen(comma + 1) : 0;
	size_t n = 0;

	if (first + second + 8 > cap)
		abort();
	if (type == 'D' || type == 'C') {
		to[n++] = a[0];
		memcpy(to + n, comma + 1, second + 1);
		return n + second + 1;
	}
	if (type == 'Q' || type == 'E') {
		memcpy(to, a, strlen(a) + 1);
		return strlen(a) + 1;
	}
	if (type == 'P' || type == 'B') {
		memcpy(to, a, first);
		to[first] = '\0';
		memcpy(to + first + 1, comma ? comma + 1 : "", second + 1);
		memset(to + first + second + 2, 0, 2); /* no parameters */
		return first + second + 4;
	}
	if (type == 'F') {
		memcpy(to, "\0\0\0\7", 4);
		return 4;
	}
	return 0;
}

static inline size_t script_server(char type, const char *a, char *to, size_t cap)
{
	char *equal;
	int n = 0;

	if (type == 'C')
		n = snprintf(to, cap, "%s", a) + 1;
	else if (type == 'E')
		n = snprintf(to, cap, "C%s", a) + 2;
	else if (type == 'S') {
		n = snprintf(to, cap, "%s", a) + 1;
		equal = strchr(to, '=');
		if (equal)
			*equal = '\0';
	}
	return (size_t)n;
}

static inline void script_one(struct script *s, int dir, char type, const char *arg)
{
	static char bytes[3 << 20];
	struct dbf_wire_run run = { .bytes = 8 };
	size_t n;

	if ((type == 'D' && dir == DBF_WIRE_SERVER) || type == 'd') {
		script_message(s, dir, type, &run, sizeof(run), (size_t)strtoul(*arg ? arg : "1", NULL, 10));
		return;
	}
	n = dir == DBF_WIRE_CLIENT ? script_client(type, arg, bytes, sizeof(bytes)) : script_server(type, arg, bytes, sizeof(bytes));
	if (type == 'Z' && dir == DBF_WIRE_SERVER) {
		bytes[0] = arg[0];
		n = 1;
	}
	script_message(s, dir, type, bytes, n, n);
}

static inline void script_mark(struct script *s, int dir, char mark)
{
	struct dbf_wire_item item = { .type = mark == 'G' ? DBF_WIRE_GAP : mark == 'R' ? DBF_WIRE_RESYNC : DBF_WIRE_DOUBT };

	if (s->item) {
		s->item(s, dir, &item, NULL);
		return;
	}
	if (mark == 'G')
		pgwire_gap(s->wire, dir, ++s->ts);
	else if (mark == 'R')
		pgwire_resync(s->wire, dir, ++s->ts);
	else if (mark == 'W')
		s->ts += 2000000000;
	else if (mark == 'O')
		pgwire_doubt(s->wire, dir);
	else
		pgwire_unframed(s->wire, dir);
}

static inline void script_feed(struct script *s, const char *line)
{
	int dir = DBF_WIRE_CLIENT;
	char arg[512];

	while (*line) {
		char type = *line++;
		size_t n = 0;

		if (type == ' ' || type == '>' || type == '<') {
			dir = type == '>' ? DBF_WIRE_CLIENT : type == '<' ? DBF_WIRE_SERVER : dir;
			continue;
		}
		if (*line == '!') {
			line++;
			script_mark(s, dir, type);
			continue;
		}
		if (type == 'Z' && isupper((unsigned char)*line)) {
			arg[n++] = *line++;
		} else if (*line == '(') {
			n = strcspn(++line, ")");
			if (n >= sizeof(arg))
				abort();
			memcpy(arg, line, n);
			line += n + 1;
		}
		arg[n] = '\0';
		script_one(s, dir, type, arg);
	}
}

/* A start-up packet; @parameters: "user\0ada\0…", its last string ended twice. */
static inline void script_start(struct script *s, uint32_t code, const char *parameters, size_t len)
{
	char bytes[1024];

	for (int i = 0; i < 4; i++)
		bytes[i] = (char)(code >> (24 - 8 * i));
	memcpy(bytes + 4, parameters, len);
	script_message(s, DBF_WIRE_CLIENT, DBF_WIRE_STARTUP, bytes, 4 + len, 4 + len);
}

#endif
