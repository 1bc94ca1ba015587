// SPDX-License-Identifier: Apache-2.0
#include "pipeline_record.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "audit/text.h"
#include "core/buf.h"
#include "core/clock.h"
#include "dbfence/audit.pb-c.h"
#include "enforce/hold.h"

#define EFFECTS_MAX 256
#define PARTS_MAX 256
#define NAME_MAX_BYTES 300

static const char *const password_commands[] = {
	"CREATE ROLE",	       "ALTER ROLE",	     "CREATE USER",   "ALTER USER",
	"CREATE USER MAPPING", "ALTER USER MAPPING", "CREATE SERVER", "ALTER SERVER",
	"CREATE SUBSCRIPTION", "ALTER SUBSCRIPTION",
};

#define R(name) Dbfence__Audit__V1__##name
#define INIT(name) DBFENCE__AUDIT__V1__##name##__INIT

struct record_writer {
	const char *node;
	uint64_t wall_minus_mono;
	R(Record) rec;
	R(Client) client;
	R(Server) server;
	R(Statement) statement;
	R(Decision) decision;
	R(Hold) hold;
	R(Transaction) transaction;
	R(Session) session;
	R(Gap) gap;
	R(Effect) effects[EFFECTS_MAX];
	R(Effect) * effect_ptrs[EFFECTS_MAX];
	char names[EFFECTS_MAX][NAME_MAX_BYTES];
	R(Part) parts[PARTS_MAX];
	R(Part) * part_ptrs[PARTS_MAX];
	R(Match) matches[LIMIT_POLICY_MATCHES];
	R(Match) * match_ptrs[LIMIT_POLICY_MATCHES];
	char *evidence[CONN_EVIDENCE_MAX];
	char *incomplete[CONN_MISSING_MAX + 1];
	char xact_id[80];
	char error[256];
	char fingerprint[17];
	uint8_t digest[crypto_hash_sha256_BYTES];
	const struct record_common *common;
	struct buf text;
	struct buf out;
};

const char *record_transport_name(enum dbf_transport transport)
{
	static const char *const names[DBF_TRANSPORT_MAX] = { NULL, "tcp", "tls", "unix" };

	return transport < DBF_TRANSPORT_MAX ? names[transport] : NULL;
}

void record_address_text(const uint8_t *ip, char *text, size_t cap)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	static const uint8_t none[16];

	text[0] = '\0';
	if (!memcmp(ip, none, sizeof(none)))
		return;
	if (!memcmp(ip, mapped, sizeof(mapped)))
		inet_ntop(AF_INET, ip + 12, text, (socklen_t)cap);
	else
		inet_ntop(AF_INET6, ip, text, (socklen_t)cap);
}

struct record_writer *record_writer_new(const char *node)
{
	struct record_writer *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->node = node;
	buf_init(&w->text, LIMIT_RECORD_BYTES);
	buf_init(&w->out, LIMIT_RECORD_BYTES);
	for (unsigned i = 0; i < EFFECTS_MAX; i++)
		w->effect_ptrs[i] = &w->effects[i];
	for (unsigned i = 0; i < PARTS_MAX; i++)
		w->part_ptrs[i] = &w->parts[i];
	for (unsigned i = 0; i < LIMIT_POLICY_MATCHES; i++)
		w->match_ptrs[i] = &w->matches[i];
	return w;
}

void record_writer_free(struct record_writer *w)
{
	if (!w)
		return;
	buf_fini(&w->text);
	buf_fini(&w->out);
	free(w);
}

/* protobuf-c has no const; packing does not write. */
static char *str(const char *s)
{
	return (char *)(uintptr_t)(s ? s : "");
}

static void set_times(struct record_writer *w, uint64_t start_ns, uint64_t end_ns)
{
	R(Record) *r = &w->rec;

	r->mono_ns = start_ns;
	r->end_mono_ns = end_ns;
	r->time_ns = (int64_t)(start_ns + w->wall_minus_mono);
	r->end_time_ns = (int64_t)(end_ns + w->wall_minus_mono);
	r->duration_us = end_ns > start_ns ? (end_ns - start_ns) / NS_PER_US : 0;
}

static void set_client(struct record_writer *w, const struct conn_session *s,
		       const struct identity *who)
{
	R(Client) *c = &w->client;

	*c = (R(Client))INIT(CLIENT);
	c->pid = who->pid;
	c->exe = str(who->exe);
	c->comm = str(who->comm);
	c->uid = who->uid;
	c->known = who->uid_known;
	c->cgroup = str(who->cgroup);
	c->address = str(who->client_address);
	c->port = who->client_port;
	c->assurance = str(who->uid_known ? "kernel" : "handshake");
	c->start_time = s->who.start_ticks;
	w->rec.client = c;
}

static void set_server(struct record_writer *w, const struct conn_session *s,
		       const struct identity *who)
{
	R(Server) *v = &w->server;

	*v = (R(Server))INIT(SERVER);
	v->pid = s->tgid;
	v->postmaster_pid = s->postmaster;
	if (s->info.transport == DBF_TRANSPORT_UNIX)
		v->socket_path = str(who->server_address);
	else
		v->address = str(who->server_address);
	v->port = who->server_port;
	w->rec.server = v;
}

void record_writer_begin(struct record_writer *w, const struct record_common *common,
			 const char *kind)
{
	R(Record) *r = &w->rec;
	uint64_t mono = clock_mono_ns();

	w->wall_minus_mono = clock_wall_ns() - mono;
	w->common = common;
	*r = (R(Record))INIT(RECORD);
	r->kind = str(kind);
	if (!common)
		r->node = str(w->node);
	set_times(w, mono, mono);
}

void record_writer_common(struct record_writer *w, const struct conn_session *s,
			  const struct identity *who, struct record_common *out)
{
	static const char *const majors[] = { "13", "14", "15", "16", "17", "18" };
	R(Record) *r = &w->rec;
	size_t need;

	*r = (R(Record))INIT(RECORD);
	r->node = str(w->node);
	r->vantage = str("server");
	r->engine = str("postgresql");
	if (s->info.major >= 13 && s->info.major <= 18)
		r->engine_version = str(majors[s->info.major - 13]);
	r->session_id = str(s->id);
	r->database = str(who->database);
	r->db_user = str(who->db_user);
	r->application_name = str(who->application_name);
	r->transport = str(who->transport);
	set_client(w, s, who);
	set_server(w, s, who);
	need = dbfence__audit__v1__record__get_packed_size(r);
	out->len = need <= sizeof(out->bytes) ? dbfence__audit__v1__record__pack(r, out->bytes) : 0;
}

void record_writer_session(struct record_writer *w, const struct conn_session *s,
			   enum conn_event event, const char *reason)
{
	w->session = (R(Session))INIT(SESSION);
	w->session.event = str(conn_event_name(event));
	w->session.reason = str(reason);
	w->session.statements = s->statements;
	w->rec.session = &w->session;
}

/* printf is most of a record's cost where it is used for every one. */
static void put_decimal(char *to, uint64_t value)
{
	char digits[20];
	int n = 0;

	do
		digits[n++] = (char)('0' + value % 10);
	while (value /= 10);
	while (n)
		*to++ = digits[--n];
	*to = '\0';
}

static void set_xact_id(struct record_writer *w, const struct conn_session *s, uint64_t number)
{
	size_t n;

	if (!number)
		return;
	n = strlen(s->id);
	memcpy(w->xact_id, s->id, n);
	w->xact_id[n++] = '.';
	put_decimal(w->xact_id + n, number);
	w->rec.transaction_id = w->xact_id;
}

void record_writer_transaction(struct record_writer *w, const struct conn_session *s,
			       const struct conn_xact *x)
{
	static const char *const states[] = { "unknown", "committed", "rolled_back" };

	set_times(w, x->start_ns, x->end_ns);
	set_xact_id(w, s, x->number);
	w->transaction = (R(Transaction))INIT(TRANSACTION);
	w->transaction.state = str(states[x->state]);
	w->transaction.xid = x->xid;
	w->transaction.statements = x->statements;
	w->transaction.implicit = x->implicit;
	w->rec.transaction = &w->transaction;
}

void record_writer_gap(struct record_writer *w, const char *reason, uint64_t records,
		       uint64_t execs, const char *detail)
{
	w->gap = (R(Gap))INIT(GAP);
	w->gap.reason = str(reason);
	w->gap.records = records;
	w->gap.executions = execs;
	w->gap.detail = str(detail);
	w->rec.gap = &w->gap;
}

static void add_effect(struct record_writer *w, enum sql_effect effect, const struct sql_object *o)
{
	size_t at = w->rec.n_effects;
	R(Effect) * e;

	if (at >= EFFECTS_MAX)
		return;
	e = &w->effects[at];
	*e = (R(Effect))INIT(EFFECT);
	e->kind = str(sql_effect_name(effect));
	if (o) {
		if (o->schema) {
			snprintf(w->names[at], sizeof(w->names[at]), "%.140s.%.140s", o->schema,
				 o->name);
			e->object = w->names[at];
		} else {
			e->object = str(o->name);
		}
		e->object_kind = str(sql_object_kind_name(o->kind));
		e->columns = (char **)(uintptr_t)o->columns;
		e->n_columns = o->column_cnt;
	}
	w->rec.n_effects++;
}

static void add_function(struct record_writer *w, const struct sql_function *f)
{
	size_t at = w->rec.n_effects;

	if (f->risk == SQL_RISK_NONE || at >= EFFECTS_MAX)
		return;
	w->effects[at] = (R(Effect))INIT(EFFECT);
	w->effects[at].kind = str("call");
	w->effects[at].object = str(f->name);
	w->effects[at].object_kind = str("function");
	w->effects[at].risk = str(sql_func_risk_name(f->risk));
	w->rec.n_effects++;
}

static void set_effects(struct record_writer *w, const struct sql_facts *facts)
{
	w->rec.effects = w->effect_ptrs;
	for (unsigned i = 0; i < facts->stmt_cnt; i++) {
		const struct sql_stmt *s = &facts->stmts[i];
		uint32_t rest = s->effects;

		for (unsigned k = 0; k < s->object_cnt; k++)
			for (int e = 1; e < SQL_EFFECT_MAX; e++)
				if (s->objects[k].effects & SQL_BIT(e)) {
					add_effect(w, e, &s->objects[k]);
					rest &= ~SQL_BIT(e);
				}
		for (int e = 1; e < SQL_EFFECT_MAX; e++)
			if (rest & SQL_BIT(e))
				add_effect(w, e, NULL);
		for (unsigned k = 0; k < s->function_cnt; k++)
			add_function(w, &s->functions[k]);
	}
	if (!facts->stmt_cnt)
		for (int e = 1; e < SQL_EFFECT_MAX; e++)
			if (facts->effects & SQL_BIT(e))
				add_effect(w, e, NULL);
}

/* Statements that can carry a password are masked even where full texts are wanted; so is what
 * could not be read. */
static bool holds_password(const struct sql_facts *facts)
{
	for (unsigned i = 0; i < facts->stmt_cnt; i++)
		for (size_t k = 0; k < sizeof(password_commands) / sizeof(password_commands[0]);
		     k++)
			if (!strcmp(facts->stmts[i].command, password_commands[k]))
				return true;
	return false;
}

/* protobuf strings are UTF-8 without NUL; a database's encoding may be another, and a client may
 * send anything. */
static void put_utf8(struct buf *out, const char *text, size_t len)
{
	const unsigned char *at = (const unsigned char *)text, *end = at + len;

	while (at < end) {
		const unsigned char *from = at;
		uint32_t cp;
		unsigned n;

		while (at < end && *at && *at < 0x80)
			at++;
		buf_put(out, from, (size_t)(at - from));
		if (at == end)
			break;
		n = *at ? text_utf8(at, end, &cp) : 0;
		if (n)
			buf_put(out, at, n);
		else
			buf_puts(out, "\xef\xbf\xbd");
		at += n ? n : 1;
	}
}

static void set_text(struct record_writer *w, const struct conn_stmt *st,
		     const struct sql_facts *facts, bool full)
{
	R(Statement) *s = &w->statement;

	buf_reset(&w->text);
	if (full && !holds_password(facts))
		put_utf8(&w->text, st->text, st->captured);
	else
		put_utf8(&w->text, facts->masked, facts->masked_len);
	s->text = str(buf_str(&w->text));
	s->masked = !full || holds_password(facts);
	s->length = st->length;
	s->length_is_minimum = st->length_is_minimum;
	s->captured = st->captured;
	memcpy(w->fingerprint, facts->fingerprint, sizeof(w->fingerprint));
	s->fingerprint = w->fingerprint;
	if (st->captured == st->length && !st->length_is_minimum && st->captured) {
		crypto_hash_sha256(w->digest, (const unsigned char *)st->text, st->captured);
		s->digest.data = w->digest;
		s->digest.len = sizeof(w->digest);
	}
	if (facts->unknown != SQL_KNOWN)
		s->unknown_reason = str(sql_unknown_name(facts->unknown));
}

static void set_parts(struct record_writer *w, const struct conn_stmt *st,
		      const struct sql_facts *facts)
{
	R(Statement) *s = &w->statement;
	unsigned cnt = st->part_cnt > facts->stmt_cnt ? st->part_cnt : facts->stmt_cnt;

	if (cnt < 2)
		return;
	s->statements = w->part_ptrs;
	for (unsigned i = 0; i < cnt && i < PARTS_MAX; i++) {
		R(Part) *p = &w->parts[i];

		*p = (R(Part))INIT(PART);
		if (i < facts->stmt_cnt)
			p->command = str(facts->stmts[i].command);
		if (i < st->part_cnt) {
			p->tag = st->parts[i].tag;
			p->rows = st->parts[i].rows;
			p->outcome = str("executed");
		} else {
			p->outcome = str(i == st->part_cnt ? conn_outcome_name(st->outcome)
							   : "not_reached");
		}
		s->n_statements++;
	}
}

static const char *why_name(enum dbf_why why)
{
	static const char *const names[DBF_WHY_MAX] = {
		"",
		"keeper_silent",
		"deadman_silent",
		"no_hold_slot",
		"ring_full",
		"state_fault",
		"interrupts_held_off",
		"not_enforced_here",
		"signal_failed",
		"standby",
		"inside_ddl",
	};

	return why < DBF_WHY_MAX ? names[why] : "";
}

static const char *gate_name(enum dbf_gate gate)
{
	static const char *const names[DBF_GATE_MAX] = { "",	     "parse",	"execute",
							 "executor", "utility", "replication" };

	return gate < DBF_GATE_MAX ? names[gate] : "";
}

static void set_decision(struct record_writer *w, const struct conn_stmt *st,
			 const struct policy_decision *d, uint64_t generation)
{
	const struct policy_match *m = d->deciding;
	R(Decision) *o = &w->decision;

	*o = (R(Decision))INIT(DECISION);
	o->action = str(policy_action_name(d->action));
	o->generation = generation;
	if (m) {
		o->action = str(policy_action_name(m->action));
		o->policy = str(m->policy);
		o->rule = str(m->rule);
		o->mode = str(policy_mode_name(m->mode));
		o->message = str(m->message);
		o->guarantee = str(policy_guarantee_name(m->guarantee));
		o->by_fail_mode = m->by_fail_mode;
	}
	o->matches = w->match_ptrs;
	for (unsigned i = 0; i < d->match_cnt; i++) {
		w->matches[i] = (R(Match))INIT(MATCH);
		w->matches[i].policy = str(d->matches[i].policy);
		w->matches[i].rule = str(d->matches[i].rule);
		w->matches[i].action = str(policy_action_name(d->matches[i].action));
		w->matches[i].mode = str(policy_mode_name(d->matches[i].mode));
	}
	o->n_matches = d->match_cnt;
	o->unknown_attributes = (char **)(uintptr_t)d->unknown_attributes;
	o->n_unknown_attributes = d->unknown_cnt;
	w->rec.decision = o;
	if (!st->has_verdict)
		return;
	w->statement.gate = str(gate_name(st->verdict.gate));
	o->acted = st->verdict.signalled;
	if (st->verdict.how == DBF_HOW_FAIL ||
	    (st->verdict.how == DBF_HOW_HOLD && st->verdict.resolver &&
	     st->verdict.resolver != DBF_BY_KEEPER)) {
		o->by_fail_mode = true;
		o->undecided_reason =
			str(st->verdict.how == DBF_HOW_FAIL ? why_name(st->verdict.why)
							    : "verdict_late");
		o->action = str(st->verdict.action == DBF_ACTION_ALLOW ? "allow" : "deny");
	}
	if (st->verdict.how == DBF_HOW_HOLD) {
		w->hold = (R(Hold))INIT(HOLD);
		w->hold.held_us = st->verdict.held_ns / NS_PER_US;
		w->hold.resolved_by = str(hold_resolver_name(st->verdict.resolver));
		w->hold.deadline_us =
			st->verdict.deadline_ns > st->verdict.since_ns
				? (st->verdict.deadline_ns - st->verdict.since_ns) / NS_PER_US
				: 0;
		w->rec.hold = &w->hold;
	}
}

/* Data errors quote the data: what stands in quotes is masked with the literals. */
static void set_error(struct record_writer *w, const struct conn_stmt *st, bool full)
{
	bool data = !strncmp(st->sqlstate, "22", 2) || !strncmp(st->sqlstate, "23", 2);
	bool quoted = false;
	size_t n = 0;

	w->rec.sqlstate = str(st->sqlstate);
	for (const char *p = st->error; *p && n < sizeof(w->error) - 2; p++) {
		if (*p == '"') {
			quoted = !quoted;
			w->error[n++] = '"';
			if (quoted && data && !full)
				w->error[n++] = '?';
		} else if (!quoted || !data || full) {
			w->error[n++] = *p;
		}
	}
	w->error[n] = '\0';
	w->rec.error_message = w->error;
}

static void set_lists(struct record_writer *w, const struct conn_stmt *st)
{
	R(Record) *r = &w->rec;

	r->evidence = w->evidence;
	for (int i = 0; i < CONN_EVIDENCE_MAX; i++)
		if (st->evidence & 1U << i)
			w->evidence[r->n_evidence++] = str(conn_evidence_name(i));
	r->incomplete = w->incomplete;
	for (int i = 0; i < CONN_MISSING_MAX; i++)
		if (st->missing & 1U << i)
			w->incomplete[r->n_incomplete++] = str(conn_missing_name(i));
	if (!st->session->known)
		w->incomplete[r->n_incomplete++] = str("identity");
}

void record_writer_statement(struct record_writer *w, const struct conn_stmt *st,
			     const struct sql_facts *facts, const struct policy_decision *d,
			     uint64_t generation, bool full_text)
{
	R(Record) *r = &w->rec;

	set_times(w, st->start_ns, st->end_ns);
	set_xact_id(w, st->session, st->xact);
	w->statement = (R(Statement))INIT(STATEMENT);
	r->statement = &w->statement;
	r->statement_id = st->id;
	r->parent_statement_id = st->parent_id;
	w->statement.form = str(conn_form_name(st->form));
	w->statement.name = str(st->name);
	w->statement.executions = st->executions;
	set_text(w, st, facts, full_text);
	set_parts(w, st, facts);
	set_effects(w, facts);
	if (st->part_cnt) {
		r->tag = st->parts[st->part_cnt - 1].tag;
	}
	r->rows = st->rows;
	r->rows_known = st->rows_known;
	set_error(w, st, full_text);
	set_decision(w, st, d, generation);
	set_lists(w, st);
	r->outcome = str(conn_outcome_name(st->outcome));
	if (st->closes_xact) {
		w->transaction = (R(Transaction))INIT(TRANSACTION);
		w->transaction.state = str(st->xact_committed ? "committed" : "rolled_back");
		w->transaction.xid = st->xid;
		w->transaction.statements = 1;
		w->transaction.implicit = true;
		r->transaction = &w->transaction;
	}
}

const void *record_writer_pack(struct record_writer *w, size_t *len)
{
	size_t need = dbfence__audit__v1__record__get_packed_size(&w->rec);
	char *to;

	buf_reset(&w->out);
	if (w->common)
		buf_put(&w->out, w->common->bytes, w->common->len);
	to = w->out.len + need <= LIMIT_RECORD_BYTES ? buf_grow(&w->out, need) : NULL;
	if (!to) { /* an enormous text: the record stays, without it */
		if (!w->rec.statement || !w->statement.text[0])
			return NULL;
		w->statement.text = str("");
		w->incomplete[w->rec.n_incomplete ? w->rec.n_incomplete - 1 : 0] =
			str("record_limit");
		w->rec.n_incomplete = w->rec.n_incomplete ? w->rec.n_incomplete : 1;
		w->rec.n_effects = 0;
		w->statement.n_statements = 0;
		return record_writer_pack(w, len);
	}
	dbfence__audit__v1__record__pack(&w->rec, (uint8_t *)to);
	*len = w->out.len;
	return w->out.data;
}
