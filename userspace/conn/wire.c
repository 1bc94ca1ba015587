// SPDX-License-Identifier: Apache-2.0
#include "conn/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conn/message.h"
#include "conn/wire_verdict.h"
#include "core/clock.h"
#include "source/wire.h"

#define OPAQUE_WAIT_NS (2 * NS_PER_SEC)
#define TEXT_PIECE 4096
#define TLS_HANDSHAKE 0x16

/* --- telling --------------------------------------------------------------------------------------------- */

static void tell_gap(struct conn_wire *w, uint32_t records, uint32_t execs)
{
	if (w->merged)
		return;
	if (w->told) {
		w->table->ops.gap(w->table->ctx, w->session, records, execs);
		return;
	}
	w->gap = true;
	w->gap_records += records;
	w->gap_execs += execs;
}

/* It is settled that its records stand. */
static void tell(struct conn_wire *w)
{
	struct conn_table *t = w->table;
	struct conn_session *s = w->session;

	if (w->told || w->merged)
		return;
	w->told = true;
	t->counters.wire_sessions++;
	t->ops.session(t->ctx, s, w->joined ? CONN_FOUND : CONN_OPEN, NULL);
	if (s->authenticated && !w->joined)
		t->ops.session(t->ctx, s, CONN_AUTH_OK, NULL);
	if (w->failed)
		t->ops.session(t->ctx, s, CONN_AUTH_FAILED, s->state->fatal_text);
	if (w->gap)
		tell_gap(w, w->gap_records, w->gap_execs);
}

void conn_wire_session(struct conn_table *t, struct conn_session *s, enum conn_event event, const char *reason)
{
	struct conn_wire *w = s->vantage == CONN_WIRE ? s->state->wire : NULL;

	if (w && !w->told)
		w->failed |= event == CONN_AUTH_FAILED;
	else
		t->ops.session(t->ctx, s, event, reason);
}

/* What was gathered, without a record. */
static void discard(struct conn_table *t, struct conn_session *s)
{
	struct conn_state *cs = s->state;

	while (cs->top_cnt)
		stmt_drop(t, s, cs->tops[--cs->top_cnt]);
	stmt_drop(t, s, cs->parsed);
	cs->parsed = NULL;
	cs->lost = 0;
	cs->xact_open = cs->gap = false;
}

static void stop_reading(struct conn_wire *w)
{
	pgwire_free(w->protocol);
	w->protocol = NULL;
	discard(w->table, w->session);
}

static void opaque_tell(struct conn_wire *w)
{
	struct conn_table *t = w->table;

	if (w->merged || !w->opaque_waits)
		return;
	w->opaque_waits = false;
	w->told = w->session->known = true; /* whose it is, if not for whom */
	t->counters.wire_sessions++;
	t->ops.session(t->ctx, w->session, CONN_OPAQUE, w->opaque_reason);
}

/* In the order in which they became opaque, which is the order of their times. */
static void opaque_tell_due(struct conn_table *t, uint64_t now)
{
	struct conn_wire *w;

	while ((w = t->opaque_first) && now - w->opaque_ns >= OPAQUE_WAIT_NS && now > w->opaque_ns) {
		t->opaque_first = w->next_opaque;
		if (!t->opaque_first)
			t->opaque_last = NULL;
		w->next_opaque = NULL;
		opaque_tell(w);
	}
}

static void opaque_unlink(struct conn_wire *w)
{
	struct conn_table *t = w->table;
	struct conn_wire **at = &t->opaque_first, *last = NULL;

	while (*at && *at != w) {
		last = *at;
		at = &(*at)->next_opaque;
	}
	if (!*at)
		return;
	*at = w->next_opaque;
	if (t->opaque_last == w)
		t->opaque_last = last;
}

/* @byte: the first of what cannot be read, or the answer that allowed it. */
static void opaque_begin(struct conn_wire *w, uint32_t byte, uint64_t ts)
{
	struct conn_table *t = w->table;

	if (w->opaque)
		return;
	w->opaque = true;
	stop_reading(w);
	if (w->merged)
		return;
	w->opaque_waits = true;
	w->opaque_reason = byte == 'S' || byte == TLS_HANDSHAKE ? "tls" : byte == 'G' ? "gss" : "unreadable";
	w->opaque_ns = ts;
	if (!w->who_seen[DBF_WIRE_SERVER] && !w->end_seen[DBF_WIRE_SERVER]) {
		opaque_tell(w);
		return;
	}
	*(t->opaque_last ? &t->opaque_last->next_opaque : &t->opaque_first) = w;
	t->opaque_last = w;
}

/* --- the server vantage ---------------------------------------------------------------------------------- */

static void seen_as(struct conn_seen_as *to, const uint8_t *own, uint16_t own_port, const uint8_t *seen, uint16_t port)
{
	to->differs = port != own_port || memcmp(own, seen, sizeof(to->addr));
	to->port = port;
	memcpy(to->addr, seen, sizeof(to->addr));
}

/* Each end's own address where that end was seen, and how the other sees it. */
static void set_addresses(const struct conn_wire *w, struct conn_session *s)
{
	const struct dbf_wire_open *client = &w->ends[DBF_WIRE_CLIENT], *server = &w->ends[DBF_WIRE_SERVER];
	bool both = w->end_seen[DBF_WIRE_CLIENT] && w->end_seen[DBF_WIRE_SERVER];
	const struct dbf_wire_open *of_client = w->end_seen[DBF_WIRE_CLIENT] ? client : server;
	const struct dbf_wire_open *of_server = w->end_seen[DBF_WIRE_SERVER] ? server : client;

	memcpy(s->info.client_addr, of_client->client_addr, sizeof(s->info.client_addr));
	memcpy(s->info.server_addr, of_server->server_addr, sizeof(s->info.server_addr));
	s->info.client_port = of_client->client_port;
	s->info.server_port = of_server->server_port;
	if (both) {
		seen_as(&s->client_seen_as, client->client_addr, client->client_port, server->client_addr,
			server->client_port);
		seen_as(&s->server_seen_as, server->server_addr, server->server_port, client->server_addr,
			client->server_port);
	}
}

static void set_client(const struct conn_wire *w, struct conn_session *s)
{
	const struct dbf_wire_who *who = &w->who[DBF_WIRE_CLIENT];
	struct peers *peers = w->table->peers;
	struct peer *before = s->state->client;

	s->info.client_known = true;
	s->info.client_pid = who->pid;
	s->info.client_uid = who->uid;
	s->info.client_cgroup = who->cgroup;
	s->info.client_start = who->start;
	memcpy(s->info.client_comm, who->comm, sizeof(s->info.client_comm));
	s->info.client_comm[sizeof(s->info.client_comm) - 1] = '\0';
	s->state->client = peers_add_client(peers, who->pid, who->start);
	peers_drop_client(peers, before);
}

void conn_wire_enrich(struct conn_table *t, struct conn_session *s)
{
	const struct conn_wire *w = s->vantage == CONN_SERVER ? s->state->wire : NULL;

	(void)t;
	if (!w || !s->known || s->info.transport == DBF_TRANSPORT_UNIX)
		return;
	if (w->end_seen[DBF_WIRE_CLIENT] && w->end_seen[DBF_WIRE_SERVER])
		set_addresses(w, s);
	if (w->who_seen[DBF_WIRE_CLIENT] && !s->info.client_known)
		set_client(w, s);
}

/* What is known changed after @s had been told: the same again, and whoever records it is told so. */
static void enrich_again(struct conn_wire *w)
{
	struct conn_session *s = w->server;
	bool had_client = s->info.client_known, differed = s->client_seen_as.differs;

	conn_wire_enrich(w->table, s);
	if (s->known && (had_client != s->info.client_known || differed != s->client_seen_as.differs))
		w->table->ops.client(w->table->ctx, s);
}

static void merge(struct conn_wire *w, struct conn_session *server)
{
	struct conn_table *t = w->table;

	if (!w->merged) {
		t->counters.wire_merged++;
		w->merged = true;
		wire_verdict_part(w);
		stop_reading(w);
		wire_verdict_parted(w, w->session->state->last_ts);
		if (w->told)
			t->ops.session(t->ctx, w->session, CONN_CLOSE, "seen at the server");
	}
	if (server->state->wire)
		server->state->wire->server = NULL;
	if (w->server)
		w->server->state->wire = NULL;
	w->server = server;
	server->state->wire = w;
	enrich_again(w);
}

void conn_wire_find(struct conn_table *t, struct conn_session *s)
{
	struct peer *peer = peers_find(t->peers, s->tgid, s->start);

	for (struct conn_wire *w = peer ? peer->wires : NULL; w; w = w->next_here)
		merge(w, s);
}

void conn_wire_forget(struct conn_table *t, struct conn_session *s)
{
	struct conn_wire *w = s->state->wire;

	s->state->wire = NULL;
	if (!w)
		return;
	if (s->vantage == CONN_SERVER) {
		w->server = NULL;
		return;
	}
	if (w->server)
		w->server->state->wire = NULL;
	opaque_unlink(w);
	peers_drop_wire(t->peers, w->server_peer, w);
	pgwire_free(w->protocol);
	stmt_drop(t, s, w->parting);
	free(w->verdicts);
	free(w);
}

/* --- replies to statements ------------------------------------------------------------------------------- */

static struct stmt *find(const struct conn_state *cs, uint64_t id)
{
	for (unsigned i = cs->top_cnt; id && i-- > 0;)
		if (cs->tops[i]->pub.id == id)
			return cs->tops[i];
	return NULL;
}

static void on_startup(void *ctx, const struct pgwire_startup *start)
{
	struct conn_wire *w = ctx;
	struct conn_table *t = w->table;
	struct conn_session *s = w->session;
	char reason[32];

	if (start->kind == PGWIRE_CANCEL) {
		w->told = w->cancels = s->known = true;
		t->counters.wire_sessions++;
		snprintf(reason, sizeof(reason), "backend %u", start->cancel_pid);
		t->ops.session(t->ctx, s, CONN_CANCEL, reason);
	} else if (start->kind == PGWIRE_SESSION) {
		s->known = true;
		s->info.kind = start->replication ? DBF_SESSION_WALSENDER : DBF_SESSION_CLIENT;
		memcpy(s->info.user, start->user, sizeof(s->info.user));
		memcpy(s->info.database, start->database, sizeof(s->info.database));
		memcpy(s->info.application, start->application, sizeof(s->info.application));
		memcpy(s->application, start->application, sizeof(s->application));
	}
}

/* A long text finds room piece by piece, so that its beginning is kept when all of it has none. */
static void set_text(struct conn_table *t, struct stmt *st, const struct pgwire_run *run)
{
	stmt_set_text(t, st, run->text, run->captured < TEXT_PIECE ? run->captured : TEXT_PIECE);
	for (size_t at = TEXT_PIECE; at < run->captured; at += TEXT_PIECE)
		stmt_append_text(t, st, run->text + at,
				 run->captured - at < TEXT_PIECE ? run->captured - at : TEXT_PIECE);
	st->pub.length = run->length;
	st->pub.length_is_minimum = run->flags & (PGWIRE_MINIMUM | PGWIRE_NAMELESS);
}

/* Bytes that are not ASCII mean what the session's client_encoding says, which is only ours when it is UTF-8. */
static void doubt_encoding(const struct conn_wire *w, struct stmt *st)
{
	if (!w->utf8 && !(st->pub.missing & CONN_MISSING_DOUBT) && !conn_is_ascii(&st->pub))
		st->pub.missing |= 1U << CONN_MISSING_ENCODING;
}

static uint32_t missing_of(const struct conn_session *s, uint32_t flags)
{
	return (flags & PGWIRE_CUT ? 1U << CONN_MISSING_TEXT_LIMIT : 0) |
	       (flags & PGWIRE_NAMELESS ? 1U << CONN_MISSING_START : 0) |
	       (flags & PGWIRE_DOUBTFUL ? 1U << CONN_MISSING_NAME : 0) |
	       (flags & PGWIRE_OVERLAP ? 1U << CONN_MISSING_OVERLAP : 0) |
	       (flags & PGWIRE_LOST ? 1U << CONN_MISSING_GAP : 0) |
	       (s->info.user[0] || !s->known ? 0 : 1U << CONN_MISSING_IDENTITY);
}

/* The portal goes on that stopped, or ended, in this transaction or cycle. */
static struct stmt *goes_on(const struct conn_wire *w, const struct pgwire_run *run)
{
	struct stmt *st = run->flags & PGWIRE_AGAIN ? find(w->session->state, run->handle) : NULL;

	if (!st || st->pub.sqlstate[0] || (st->state != STMT_SUSPENDED && st->state != STMT_DONE))
		return NULL;
	return st;
}

static const enum conn_form forms[] = { [PGWIRE_SIMPLE] = CONN_SIMPLE, [PGWIRE_EXTENDED] = CONN_EXTENDED,
					[PGWIRE_FASTPATH] = CONN_FASTPATH, [PGWIRE_REPLICATION] = CONN_REPLICATION };

struct stmt *conn_wire_new_statement(struct conn_wire *w, const struct pgwire_run *run)
{
	struct conn_session *s = w->session;
	struct stmt *st = stmt_new(w->table, s, forms[run->form], run->start_ns);

	if (!st)
		return NULL;
	set_text(w->table, st, run);
	memcpy(st->name, run->name, strnlen(run->name, sizeof(st->name) - 1));
	st->pub.executions = 1;
	st->pub.fastpath_oid = run->oid;
	st->pub.escapes = !s->standard_strings;
	st->pub.parsed = run->form == PGWIRE_SIMPLE && w->strings_known;
	st->pub.missing |= missing_of(s, run->flags);
	doubt_encoding(w, st);
	return st;
}

static uint64_t on_run(void *ctx, const struct pgwire_run *run)
{
	struct conn_wire *w = ctx;
	struct conn_table *t = w->table;
	struct conn_session *s = w->session;
	struct stmt *st = goes_on(w, run);

	w->running = 0;
	if (!st) {
		st = stmt_add_top(t, s, conn_wire_new_statement(w, run));
		if (!st)
			return 0;
	}
	wire_verdict_take(w, st, run->mark);
	st->pub.missing |= missing_of(s, run->flags & (PGWIRE_LOST | PGWIRE_OVERLAP));
	st->state = run->flags & PGWIRE_LOST ? STMT_LOST : STMT_RUNNING;
	s->state->gap |= st->state == STMT_LOST; /* how its transaction ended is not known either */
	w->running = st->pub.id;
	return st->pub.id;
}

static void read_parameter(struct conn_wire *w, const struct pgwire_reply *r)
{
	struct conn_session *s = w->session;
	char value[32];

	if (message_parameter(r->bytes, r->captured, "client_encoding", value, sizeof(value)))
		w->utf8 = !strcmp(value, "UTF8");
	else if (message_parameter(r->bytes, r->captured, "server_version", value, sizeof(value)))
		s->info.major = (uint32_t)strtoul(value, NULL, 10);
	else if (message_parameter(r->bytes, r->captured, "standard_conforming_strings", value, sizeof(value)))
		w->strings_known = true;
}

static bool is_pooler(const struct conn_wire *w)
{
	const char *comm = w->who[DBF_WIRE_SERVER].comm;

	return w->server_peer && w->server_peer->clients && strncmp(comm, "postgres", 8) && strncmp(comm, "postmaster", 10);
}

static void on_reply(void *ctx, const struct pgwire_reply *r)
{
	struct conn_wire *w = ctx;
	struct dbf_reply reply = { .type = (unsigned char)r->type, .length = (uint32_t)r->captured,
				   .captured = (uint32_t)r->captured,
				   .rows = r->rows < UINT32_MAX ? (uint32_t)r->rows : UINT32_MAX, .row_bytes = r->row_bytes };
	struct stmt *st = find(w->session->state, w->running);

	if (r->type == 'S')
		read_parameter(w, r);
	if (st) {
		st->pub.bytes_in += r->bytes_in;
		st->pub.bytes_out += r->bytes_out;
	}
	if (r->type == 'Z') {
		/* A change of client_encoding is told before this, and may concern what was sent behind it. */
		for (unsigned i = 0; i < w->session->state->top_cnt; i++)
			doubt_encoding(w, w->session->state->tops[i]);
		w->session->pooler_leg |= is_pooler(w);
		tell(w);
	}
	reply_begin(w->table, w->session, &reply, r->bytes, r->captured, r->ts);
}

static void on_loss(void *ctx, enum pgwire_loss why, unsigned ops)
{
	struct conn_wire *w = ctx;

	stmt_mark_gap(w->session);
	if (why == PGWIRE_LOSS_LIMIT)
		w->session->state->lost += ops;
	else
		tell_gap(w, 0, ops);
}

static const struct pgwire_ops protocol_ops = { .startup = on_startup, .run = on_run, .reply = on_reply, .loss = on_loss };

/* --- items ----------------------------------------------------------------------------------------------- */

/* What it said of itself at its start may be old, and what it is now nobody has told. */
static void forget_parameters(struct conn_session *s)
{
	s->application[0] = s->info.application[0] = '\0';
}

/* A session that another reader was told of begins for this one. */
static void item_again(struct conn_wire *w, const struct wire_item *item)
{
	if (!w->protocol || !w->joined || w->session->info.user[0])
		return;
	pgwire_began(w->protocol, (const char *)item->bytes, item->head.captured);
	if (w->changed)
		forget_parameters(w->session);
	if (w->told)
		w->table->ops.client(w->table->ctx, w->session);
}

static void item_open(struct conn_wire *w, const struct wire_item *item)
{
	struct conn_session *s = w->session;
	struct dbf_wire_open open;

	memcpy(&open, item->bytes, sizeof(open));
	if (open.end > DBF_WIRE_SERVER)
		return;
	w->ends[open.end] = open;
	w->end_seen[open.end] = true;
	for (int dir = DBF_WIRE_CLIENT; w->protocol && w->joined && dir <= DBF_WIRE_SERVER; dir++)
		if (!(open.synced & 1 << dir) && !w->dirs[dir].seen)
			pgwire_unframed(w->protocol, dir);
	if (w->joined && open.changed && !w->changed) {
		w->changed = true;
		forget_parameters(s);
	}
	s->known |= w->joined;
	s->info.transport = DBF_TRANSPORT_TCP;
	set_addresses(w, s);
	if (w->server)
		enrich_again(w);
	else if (w->told)
		w->table->ops.client(w->table->ctx, s);
}

static void item_who(struct conn_wire *w, enum dbf_wire_dir end, const struct wire_item *item)
{
	struct conn_table *t = w->table;
	struct conn_session *server;
	struct dbf_wire_who *who = &w->who[end];
	bool again = w->who_seen[end];

	memcpy(who, item->bytes, sizeof(*who));
	who->comm[sizeof(who->comm) - 1] = '\0';
	w->who_seen[end] = true;
	if (end == DBF_WIRE_CLIENT) {
		set_client(w, w->session);
		if (w->server && !again)
			enrich_again(w);
		else if (!w->merged) /* at once: it may be gone soon, or have to be judged */
			t->ops.client(t->ctx, w->session);
		return;
	}
	peers_drop_wire(t->peers, w->server_peer, w);
	w->server_peer = peers_add_wire(t->peers, who->pid, who->start, w);
	w->session->server_pid = who->pid;
	server = conn_table_lookup(t, who->start, who->pid);
	if (server && server->vantage == CONN_SERVER)
		merge(w, server);
}

static void item_gap(struct conn_wire *w, enum dbf_wire_dir dir, uint64_t ts)
{
	stmt_mark_gap(w->session);
	pgwire_gap(w->protocol, dir, ts);
	tell_gap(w, 0, 0);
}

/* What was answered in part already is touched too. */
static void item_doubt(struct conn_wire *w, enum dbf_wire_dir dir)
{
	const struct conn_state *cs = w->session->state;

	pgwire_doubt(w->protocol, dir);
	for (unsigned i = 0; i < cs->top_cnt; i++)
		if (cs->tops[i]->state != STMT_DONE)
			cs->tops[i]->pub.missing |= 1U << CONN_MISSING_OVERLAP;
}

static const char *end_reason(const struct conn_state *cs, bool reset, char *reason, size_t cap)
{
	if (!cs->fatal)
		return reset ? "reset" : "closed";
	snprintf(reason, cap, "%s %s", cs->fatal_sqlstate, cs->fatal_text);
	return reason;
}

static void end(struct conn_wire *w, uint64_t ts, const char *reason)
{
	struct conn_table *t = w->table;
	struct conn_session *s = w->session;

	opaque_tell(w);
	if (w->protocol && !w->merged) {
		pgwire_end(w->protocol, ts);
		if (s->state->top_cnt || (s->known && !w->joined))
			tell(w);
		stmt_end_cycle(t, s, 0, ts);
		if (w->told && !w->cancels)
			t->ops.session(t->ctx, s, CONN_CLOSE, reason);
	}
	session_remove(t, s);
}

/* An end has no socket any more. The other, where it is on this node, may still answer. False when the session is gone. */
static bool item_close(struct conn_wire *w, enum dbf_wire_dir from, const struct wire_item *item, uint64_t ts)
{
	char reason[300];

	w->closed[from] = true;
	w->reset |= item->head.length == 2;
	if (w->end_seen[!from] && !w->closed[!from])
		return true;
	end(w, ts, end_reason(w->session->state, w->reset, reason, sizeof(reason)));
	return false;
}

void conn_wire_evict(struct conn_session *s)
{
	struct conn_wire *w = s->state->wire;

	stmt_mark_gap(s);
	if (w->protocol)
		pgwire_gap(w->protocol, DBF_WIRE_SERVER, s->state->last_ts);
	end(w, s->state->last_ts, "forgotten: too many sessions");
}

/* False when the session is gone. */
static bool take(struct conn_wire *w, const struct dbf_wire *r, const struct wire_item *item)
{
	enum dbf_wire_dir dir = r->dir;

	switch (item->head.type) {
	case DBF_WIRE_OPEN: item_open(w, item); return true;
	case DBF_WIRE_WHO: item_who(w, dir, item); return true;
	case DBF_WIRE_AGAIN: item_again(w, item); return true;
	case DBF_WIRE_OPAQUE: opaque_begin(w, item->head.length, r->ts); return true;
	case DBF_WIRE_CLOSE: return item_close(w, dir, item, r->ts);
	default: break;
	}
	if (w->merged && item->head.type == DBF_WIRE_VERDICT)
		wire_verdict_merged(w, item, r->ts);
	if (!w->protocol)
		return true;
	switch (item->head.type) {
	case DBF_WIRE_GAP: item_gap(w, dir, r->ts); break;
	case DBF_WIRE_RESYNC: pgwire_resync(w->protocol, dir, r->ts); break;
	case DBF_WIRE_DOUBT: item_doubt(w, dir); break;
	case DBF_WIRE_VERDICT: wire_verdict_item(w, item, r->ts); break;
	case DBF_WIRE_MORE:
		pgwire_more(w->protocol, dir, item->bytes, item->head.captured,
			    item->head.flags & DBF_WIRE_ITEM_MORE, r->ts);
		break;
	default: pgwire_feed(w->protocol, dir, &item->head, item->bytes, r->ts); break;
	}
	return true;
}

/* --- records --------------------------------------------------------------------------------------------- */

/* @first: the first item that is known of it. */
static struct conn_wire *wire_new(struct conn_table *t, const struct dbf_wire *r, const struct wire_item *first)
{
	struct conn_session *s = session_new(t, r->conn, 0);
	struct conn_wire *w = s ? calloc(1, sizeof(*w)) : NULL;
	struct dbf_wire_open open = { .joined = true };

	if (!s)
		return NULL;
	if (first->head.type == DBF_WIRE_OPEN)
		memcpy(&open, first->bytes, sizeof(open));
	s->vantage = CONN_WIRE;
	if (w)
		w->protocol = pgwire_new(&t->wire_pool, &protocol_ops, w, open.joined);
	if (!w || !w->protocol) {
		free(w);
		session_remove(t, s);
		return NULL;
	}
	w->table = t;
	w->session = s;
	w->joined = open.joined;
	s->state->wire = w;
	s->info.kind = DBF_SESSION_CLIENT;
	s->info.found = s->authenticated = w->joined;
	return w;
}

static struct conn_wire *wire_get(struct conn_table *t, const struct dbf_wire *r, struct wire_iter it)
{
	struct conn_session *s = conn_table_lookup(t, r->conn, 0);
	struct wire_item first;

	if (s)
		return s->state->wire;
	/* The end of what is over already begins nothing. */
	if (!r->conn || !wire_next(&it, &first) || first.head.type == DBF_WIRE_CLOSE)
		return NULL;
	return wire_new(t, r, &first);
}

static void check_sequence(struct conn_wire *w, const struct dbf_wire *r)
{
	struct conn_wire_dir *d = &w->dirs[r->dir];
	bool hole = d->seen ? r->seq != d->next_seq || r->lost_records != d->lost_records : r->seq && !w->joined;

	if (hole && w->protocol) {
		stmt_mark_gap(w->session);
		pgwire_gap(w->protocol, r->dir, r->ts);
		pgwire_resync(w->protocol, r->dir, r->ts);
		tell_gap(w, r->lost_records - d->lost_records, r->lost_execs - d->lost_execs);
	}
	d->seen = w->session->state->recent = true;
	d->next_seq = r->seq + 1;
	d->lost_records = r->lost_records;
	d->lost_execs = r->lost_execs;
	d->bytes = r->bytes;
	w->session->bytes_in = w->dirs[DBF_WIRE_CLIENT].bytes;
	w->session->bytes_out = w->dirs[DBF_WIRE_SERVER].bytes;
}

static void feed(struct conn_table *t, const void *record, size_t len)
{
	const struct dbf_wire *r;
	struct wire_item item;
	struct wire_iter it;
	struct conn_wire *w;

	r = wire_open(record, len, &it);
	if (!r) {
		t->counters.bad_records++;
		return;
	}
	t->counters.wire_records++;
	opaque_tell_due(t, r->ts);
	w = wire_get(t, r, it);
	if (!w)
		return;
	w->session->state->last_ts = r->ts;
	check_sequence(w, r);
	while (wire_next(&it, &item)) {
		t->counters.facts++;
		if (!take(w, r, &item))
			return;
	}
	if (it.bad)
		t->counters.bad_records++;
}

void conn_wire_feed(struct conn_table *t, const void *record, size_t len)
{
	const struct pgwire_pool *pool = &t->wire_pool;

	feed(t, record, len);
	t->counters.wire_mismatches = pool->mismatches;
	t->counters.wire_limited = pool->ops_limited + pool->names_limited + pool->texts_limited;
}
