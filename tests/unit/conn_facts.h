/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes what the kernel sends, fact by fact, feeds it to a connection table and writes what comes out as text, one line
 * each. For tests of conn/.
 */
#ifndef DBFENCE_TESTS_CONN_FACTS_H
#define DBFENCE_TESTS_CONN_FACTS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conn/conn.h"
#include "core/buf.h"

#define FACTS_BYTES (512 * 1024)
#define FACTS_MAX 16384
#define FACTS_LOST 0xffff	/* not a fact: arg batches are missing here */

struct facts {
	uint64_t words[FACTS_BYTES / 8];
	size_t at[FACTS_MAX + 1];
	unsigned cnt;
	uint64_t ts;
	size_t reply_split;	/* bytes in the first piece of a reply, + 1; 0: all in one */
	uint64_t ptr;		/* of the last text */
};

struct feeding {
	struct conn_table *table;
	struct buf log;
	uint32_t seq, lost, lost_execs;
	uint64_t session;
	uint32_t tgid;
	bool times;
};

static void *facts_add(struct facts *f, uint16_t kind, uint32_t arg, const void *head, size_t head_len, const void *bytes,
		       size_t len)
{
	unsigned char *to = (unsigned char *)f->words + f->at[f->cnt];
	size_t size = sizeof(struct dbf_fact) + head_len + len;
	struct dbf_fact h = { .kind = kind, .len = (uint16_t)size, .arg = arg, .ts = f->ts += 10 };

	if (f->cnt == FACTS_MAX || f->at[f->cnt] + size + 8 > FACTS_BYTES)
		abort();
	memset(to, 0, (size + 7) & ~7UL);
	memcpy(to, &h, sizeof(h));
	if (head_len)
		memcpy(to + sizeof(h), head, head_len);
	if (len)
		memcpy(to + sizeof(h) + head_len, bytes, len);
	f->cnt++;
	f->at[f->cnt] = f->at[f->cnt - 1] + ((size + 7) & ~7UL);
	return to + sizeof(h);
}

/* A process of the server that serves no client. */
static inline void add_open_background(struct facts *f)
{
	struct dbf_session s = { .kind = DBF_SESSION_BACKGROUND, .major = 15 };

	facts_add(f, DBF_FACT_OPEN, 0, &s, sizeof(s), NULL, 0);
}

static inline void add_open(struct facts *f, bool found)
{
	struct dbf_session s = { .kind = DBF_SESSION_CLIENT, .transport = DBF_TRANSPORT_UNIX, .found = found, .major = 15,
				 .database = "db", .user = "ada", .application = "test" };

	facts_add(f, DBF_FACT_OPEN, 0, &s, sizeof(s), NULL, 0);
}

static inline void add_text(struct facts *f, uint16_t kind, const char *text, uint16_t flags, uint32_t id)
{
	struct dbf_text t = { .ptr = f->ptr += 0x100, .length = (uint32_t)strlen(text), .captured = (uint32_t)strlen(text),
			      .flags = flags, .id = id };

	facts_add(f, kind, 0, &t, sizeof(t), text, strlen(text));
}

/* The client's own text reaches the parser. */
static inline void add_parse(struct facts *f, const char *text)
{
	add_text(f, DBF_FACT_PARSE, text, DBF_TEXT_TOP, 0);
}

static inline void add_exec_fact(struct facts *f, uint32_t id, uint32_t parent, uint16_t op, uint16_t flags, uint64_t ptr,
				 const char *text, const char *name)
{
	struct dbf_exec e = { .text = { .ptr = ptr, .id = parent }, .exec_id = id, .parent_id = parent, .op = op,
			      .flags = flags };
	size_t len = text ? strlen(text) : 0;

	e.text.length = e.text.captured = (uint32_t)len;
	if (text && flags & DBF_EXEC_TOP)
		e.text.flags = DBF_TEXT_TOP;
	if (name)
		snprintf(e.statement_name, sizeof(e.statement_name), "%s", name);
	facts_add(f, DBF_FACT_EXEC, 0, &e, sizeof(e), text, len);
}

/* A simple query's execution, its first or one more. */
static inline void add_run(struct facts *f, uint32_t id, uint16_t op, bool more)
{
	add_exec_fact(f, id, 0, op, DBF_EXEC_TOP | DBF_EXEC_SIMPLE | (more ? DBF_EXEC_SAME : 0), f->ptr, NULL, NULL);
}

/* An Execute. */
static inline void add_execute(struct facts *f, uint32_t id, uint16_t op, const char *text, const char *name)
{
	add_exec_fact(f, id, 0, op, DBF_EXEC_TOP, f->ptr += 0x100, text, name);
}

static inline void add_inside(struct facts *f, uint32_t id, uint32_t parent, uint16_t op, const char *text)
{
	add_exec_fact(f, id, parent, op, 0, f->ptr += 0x100, text, NULL);
}

static inline void add_fold(struct facts *f, uint32_t id, uint32_t executions, uint64_t rows)
{
	struct dbf_nested n = { .exec_id = id, .executions = executions, .rows = rows, .first_ts = 1, .last_ts = f->ts };

	facts_add(f, DBF_FACT_NESTED, 0, &n, sizeof(n), NULL, 0);
}

static inline void add_reply(struct facts *f, char type, const void *bytes, size_t len, uint32_t rows)
{
	struct dbf_reply r = { .type = (unsigned char)type, .length = (uint32_t)len, .rows = rows };
	size_t first = f->reply_split && f->reply_split - 1 < len ? f->reply_split - 1 : len;

	r.captured = (uint32_t)first;
	facts_add(f, DBF_FACT_REPLY, 0, &r, sizeof(r), bytes, first);
	if (first < len)
		facts_add(f, DBF_FACT_REPLY_MORE, 0, NULL, 0, (const char *)bytes + first, len - first);
}

static inline void add_tag(struct facts *f, const char *tag)
{
	add_reply(f, 'C', tag, strlen(tag) + 1, 0);
}

static inline void add_ready(struct facts *f, char status)
{
	add_reply(f, 'Z', &status, 1, 0);
}

static inline void add_failed(struct facts *f, const char *severity, const char *sqlstate, const char *text)
{
	char bytes[512];
	int n = snprintf(bytes, sizeof(bytes), "S%s%cV%s%cC%s%cM%s%cFx.c%c", severity, 0, severity, 0, sqlstate, 0, text, 0,
			 0);

	bytes[n] = '\0';
	add_reply(f, 'E', bytes, (size_t)n + 1, 0);
}

static inline uint32_t pack_sqlstate(const char *s)
{
	uint32_t v = 0;

	for (int i = 0; i < 5; i++)
		v |= (uint32_t)((s[i] - '0') & 0x3f) << (6 * i);
	return v;
}

/* errcode() ran: inside execution @id, or for @text, which did not run. */
static inline void add_error(struct facts *f, const char *sqlstate, uint32_t id, const char *text, bool top)
{
	struct dbf_error e = { .sqlstate = pack_sqlstate(sqlstate), .exec_id = id };
	size_t len = text ? strlen(text) : 0;

	if (text) {
		e.text.ptr = f->ptr += 0x100;
		e.text.flags = top ? DBF_TEXT_TOP : 0;
		e.text.length = e.text.captured = (uint32_t)len;
	}
	facts_add(f, DBF_FACT_ERROR, 0, &e, sizeof(e), text, len);
}

/* About the last text, or about execution @id. */
static inline void add_verdict(struct facts *f, uint16_t gate, uint16_t how, uint16_t action, uint32_t id, uint32_t slot)
{
	struct dbf_verdict v = { .ptr = f->ptr, .gate = gate, .how = how, .action = action, .exec_id = id, .slot = slot,
				 .slot_seq = 9, .policy_gen = 3, .text_len = 5, .hash = { 1, 2 } };

	if (how != DBF_HOW_HOLD)
		v.signal = action == DBF_ACTION_DENY ? 2 : action == DBF_ACTION_KILL ? 15 : 0;
	facts_add(f, DBF_FACT_VERDICT, 0, &v, sizeof(v), NULL, 0);
}

/* A hold ended. */
static inline void add_settled(struct facts *f, uint32_t slot, uint16_t action, uint16_t by)
{
	struct dbf_verdict v = { .ptr = f->ptr, .how = DBF_HOW_HOLD, .action = action, .why = by, .slot = slot,
				 .slot_seq = 9, .deadline_ns = f->ts + 5 };

	v.signal = action == DBF_ACTION_DENY ? 2 : action == DBF_ACTION_KILL ? 15 : 0;
	facts_add(f, DBF_FACT_VERDICT, 0, &v, sizeof(v), NULL, 0);
}

static inline void add_arg(struct facts *f, uint16_t kind, uint32_t arg)
{
	facts_add(f, kind, arg, NULL, 0, NULL, 0);
}

static inline void add_exit(struct facts *f, uint32_t code)
{
	add_arg(f, DBF_FACT_EXIT, code);
}

static inline void add_loss(struct facts *f, uint32_t batches)
{
	add_arg(f, FACTS_LOST, batches);
}

/* --- what comes out --- */

static inline void log_session(void *ctx, struct conn_session *s, enum conn_event event, const char *reason)
{
	struct feeding *g = ctx;

	(void)s;
	buf_printf(&g->log, "session %s%s%s\n", conn_event_name(event), reason ? " " : "", reason ? reason : "");
}

static inline void log_hold(void *ctx, const struct conn_stmt *st)
{
	struct feeding *g = ctx;

	buf_printf(&g->log, "hold %u:%u '%.*s'\n", st->verdict.slot, st->verdict.slot_seq, (int)st->captured, st->text);
}

static inline void log_client(void *ctx, struct conn_session *s)
{
	struct feeding *g = ctx;

	buf_printf(&g->log, "client %u\n", s->info.client_pid);
}

static inline void log_statement(void *ctx, const struct conn_stmt *st)
{
	static const char *const gates[] = { "-", "parse", "execute", "executor", "utility", "replication", "wire" };
	static const char *const hows[] = { "-", "cache", "hold", "fail", "screen" };
	static const char *const actions[] = { "-", "allow", "deny", "kill" };
	struct feeding *g = ctx;

	buf_printf(&g->log, "%llu", (unsigned long long)st->id);
	if (st->parent_id)
		buf_printf(&g->log, "<%llu", (unsigned long long)st->parent_id);
	buf_printf(&g->log, " %s '%.*s' %s", conn_form_name(st->form), (int)st->captured, st->text,
		   conn_outcome_name(st->outcome));
	if (st->name[0])
		buf_printf(&g->log, " name=%s", st->name);
	if (st->sqlstate[0])
		buf_printf(&g->log, " %s", st->sqlstate);
	if (st->error[0])
		buf_printf(&g->log, " (%s)", st->error);
	for (unsigned i = 0; i < st->part_cnt; i++)
		buf_printf(&g->log, " [%s]", st->parts[i].tag);
	if (st->rows_known)
		buf_printf(&g->log, " rows=%llu", (unsigned long long)st->rows);
	if (st->executions != 1)
		buf_printf(&g->log, " execs=%llu", (unsigned long long)st->executions);
	if (st->has_verdict)
		buf_printf(&g->log, " %s/%s/%s", gates[st->verdict.gate % DBF_GATE_MAX], hows[st->verdict.how % DBF_HOW_MAX],
			   actions[st->verdict.action % DBF_ACTION_MAX]);
	if (st->has_verdict && st->verdict.how == DBF_HOW_HOLD)
		buf_printf(&g->log, "/%u", st->verdict.resolver);
	if (st->has_verdict && st->verdict.withheld)
		buf_printf(&g->log, " withheld");
	for (int i = 0; i < CONN_MISSING_MAX; i++)
		if (st->missing & 1U << i)
			buf_printf(&g->log, " !%s", conn_missing_name(i));
	if (g->times)
		buf_printf(&g->log, " %llu..%llu", (unsigned long long)st->start_ns, (unsigned long long)st->end_ns);
	buf_printf(&g->log, " x%llu%s\n", (unsigned long long)st->xact,
		   !st->closes_xact ? "" : st->xact_committed ? "+" : "-");
}

static inline void log_transaction(void *ctx, struct conn_session *s, const struct conn_xact *x)
{
	static const char *const states[] = { "unknown", "committed", "rolled back" };
	struct feeding *g = ctx;

	(void)s;
	buf_printf(&g->log, "x%llu %s, %llu statements, xid %llu%s\n", (unsigned long long)x->number, states[x->state],
		   (unsigned long long)x->statements, (unsigned long long)x->xid, x->implicit ? ", implicit" : "");
}

static inline void log_gap(void *ctx, struct conn_session *s, uint32_t batches, uint32_t execs)
{
	struct feeding *g = ctx;

	(void)s;
	buf_printf(&g->log, "gap %u %u\n", batches, execs);
}

static void log_limit(void *ctx, struct conn_session *s, uint32_t statements)
{
	struct feeding *g = ctx;

	(void)s;
	buf_printf(&g->log, "limit %u\n", statements);
}

static inline void feeding_init(struct feeding *g)
{
	static const struct conn_ops ops = { .session = log_session, .hold = log_hold, .client = log_client, .statement = log_statement,
					     .transaction = log_transaction, .gap = log_gap, .limit = log_limit };

	*g = (struct feeding){ .session = 1000, .tgid = 42 };
	buf_init(&g->log, 4 * 1024 * 1024);
	g->table = conn_table_new(&ops, g);
	if (!g->table)
		abort();
}

static inline void feeding_fini(struct feeding *g)
{
	conn_table_free(g->table);
	buf_fini(&g->log);
}

/* Facts @from up to @to as one batch. */
static inline void feed_batch(struct feeding *g, const struct facts *f, unsigned from, unsigned to)
{
	uint64_t record[(sizeof(struct dbf_batch) + DBF_BATCH_BYTES) / 8];
	size_t size = f->at[to] - f->at[from];
	struct dbf_batch b = { .abi = DBF_ABI_VERSION, .len = (uint32_t)(sizeof(b) + size), .tgid = g->tgid,
			       .postmaster = 7, .session = g->session, .seq = g->seq++, .lost_batches = g->lost,
			       .lost_execs = g->lost_execs };

	if (size > DBF_BATCH_BYTES)
		abort();
	memcpy(record, &b, sizeof(b));
	memcpy(record + sizeof(b) / 8, (const unsigned char *)f->words + f->at[from], size);
	conn_table_feed(g->table, record, b.len);
}

/* All facts, in batches that end before @cut (and where one is full), or after each fact when @cut is 0. */
static inline void feed_facts(struct feeding *g, const struct facts *f, unsigned cut)
{
	unsigned from = 0;

	for (unsigned i = 0; i < f->cnt; i++) {
		struct dbf_fact h;

		memcpy(&h, (const unsigned char *)f->words + f->at[i], sizeof(h));
		if (h.kind == FACTS_LOST) {
			if (i > from)
				feed_batch(g, f, from, i);
			from = i + 1;
			g->seq += h.arg;
			g->lost += h.arg;
			g->lost_execs += h.arg;
			continue;
		}
		if (i > from && (i == cut || !cut || f->at[i + 1] - f->at[from] > DBF_BATCH_BYTES)) {
			feed_batch(g, f, from, i);
			from = i;
		}
	}
	if (f->cnt > from)
		feed_batch(g, f, from, f->cnt);
}

#endif
