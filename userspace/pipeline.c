// SPDX-License-Identifier: Apache-2.0
/*
 * conn → sql → policy → audit, and the one arrow back (verdicts). Each callback of the connection
 * stage is one function here; record_*.c turn the results into protobuf.
 */
#include "pipeline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "conn/conn.h"
#include "core/clock.h"
#include "core/limits.h"
#include "pipeline_record.h"

#define CLASSES_MAX 65536
#define KNOWN_SLOTS 2048 /* a power of two */
#define NS_PER_TICK (NS_PER_SEC / 100) /* USER_HZ is 100 everywhere */

struct class_entry {
	uint8_t digest[16];
	uint32_t id;
};

/* What it has prepared was not all allowed: under these policies, of this class, with what had gone by then. */
struct unvouched {
	uint64_t generation; /* 0: not tried */
	uint32_t identity_class;
	uint64_t gone;
};

struct session_user { /* hangs on conn_session.user */
	char client_address[64];
	char server_address[128];
	char application[DBF_NAME_BYTES]; /* when common was packed */
	bool who_known;
	bool who_answered;
	bool pooler_leg; /* when common was packed */
	bool asked; /* the keeper, about this process: */
	uint32_t asked_pid;
	uint64_t asked_start;
	struct unvouched unvouched;
	struct record_common common;
};

/*
 * What was decided for equal facts and one identity class under the policies in force, and its part of
 * the record. Direct mapped: a collision only costs time.
 */
struct known {
	uint64_t facts_id; /* 0: free */
	uint32_t identity_class;
	bool packed;
	struct policy_decision decision;
	struct record_known record;
};

struct pipeline {
	struct pipeline_ops ops;
	void *ctx;
	char node[65];
	bool full_text;
	struct conn_table *conns;
	struct sql_engine *sql;
	struct policy_set *set; /* owned; NULL before the first load */
	uint64_t generation;
	struct record_writer *writer;
	struct statement_writer *statements;
	struct known *known;	  /* owned; KNOWN_SLOTS */
	uint64_t wall_minus_mono; /* ns */
	bool overloaded;	  /* nothing is parsed but what somebody waits for */
	uint8_t class_key[16];
	struct class_entry *classes; /* owned; open addressing */
	uint32_t class_cnt, class_base; /* ids given count from the base and are never given again */
	uint64_t lost_batches, lost_execs;
	struct msg_stats stats;
};

/* @body NULL: it could not be packed. */
static void emit(struct pipeline *p, const void *body, size_t len)
{
	if (!body) {
		p->stats.record_errors++;
		return;
	}
	p->stats.records++;
	p->ops.record(p->ctx, body, len);
}

static void pipeline_emit(struct pipeline *p)
{
	size_t len = 0;
	const void *body = record_writer_pack(p->writer, &len);

	emit(p, body, len);
}

static void fill_identity(struct conn_session *s, struct identity *who)
{
	struct session_user *u = s->user;
	const struct dbf_session *i = &s->info;

	*who = (struct identity){ .engine = "postgresql" };
	if (!s->known || !u)
		return;
	who->database = i->database[0] ? i->database : i->user[0] ? i->user : NULL;
	who->db_user = i->user[0] ? i->user : NULL;
	who->application_name = s->application;
	who->transport = record_transport_name(i->transport);
	who->server_address = u->server_address[0] ? u->server_address : NULL;
	who->server_port = i->server_port;
	who->client_address = u->client_address[0] ? u->client_address : NULL;
	who->client_port = i->client_port;
	who->exe = s->who_known && s->who.exe[0] ? s->who.exe : NULL;
	who->comm = s->who_known && s->who.comm[0] ? s->who.comm
		    : i->client_comm[0]		   ? i->client_comm
						   : NULL;
	who->cgroup = s->who_known && s->who.cgroup[0] ? s->who.cgroup : NULL;
	who->uid_known = i->client_known;
	who->uid = i->client_uid;
	who->pid = i->client_pid;
}

/* The packed part that the session's records share, packed again when something in it changed. NULL
 * for an unknown session. */
static const struct record_common *common_of(struct pipeline *p, struct conn_session *s,
					     const struct identity *who)
{
	struct session_user *u = s->user;

	if (!u)
		u = s->user = calloc(1, sizeof(*u));
	if (!u)
		return NULL;
	if (u->common.len && u->who_known == s->who_known && u->pooler_leg == s->pooler_leg &&
	    !strcmp(u->application, s->application))
		return &u->common;
	memcpy(u->application, s->application, sizeof(u->application));
	u->who_known = s->who_known;
	u->pooler_leg = s->pooler_leg;
	record_writer_common(p->writer, s, who, &u->common);
	return &u->common;
}

static void hash_string(crypto_generichash_state *h, const char *s)
{
	uint32_t len = s ? (uint32_t)strlen(s) : UINT32_MAX;

	crypto_generichash_update(h, (const unsigned char *)&len, sizeof(len));
	if (s)
		crypto_generichash_update(h, (const unsigned char *)s, len);
}

/*
 * The class of everything about a session that cannot change and that a policy can ask for. What a
 * session can change (application_name) is left out: decisions that rest on it are not remembered.
 */
static void class_digest(const struct identity *who, uint8_t *digest, const uint8_t *key)
{
	crypto_generichash_state h;

	crypto_generichash_init(&h, key, 16, 16);
	hash_string(&h, who->database);
	hash_string(&h, who->db_user);
	hash_string(&h, who->transport);
	hash_string(&h, who->server_address);
	hash_string(&h, who->client_address);
	hash_string(&h, who->exe);
	hash_string(&h, who->cgroup);
	crypto_generichash_update(&h, (const unsigned char *)&who->server_port,
				  sizeof(who->server_port));
	crypto_generichash_update(&h, (const unsigned char *)&who->uid_known,
				  sizeof(who->uid_known));
	crypto_generichash_update(&h, (const unsigned char *)&who->uid, sizeof(who->uid));
	crypto_generichash_final(&h, digest, 16);
}

/* Full: begin anew. Sessions keep the ids they have; what the kernel remembers for those ages out. */
static void classes_clear(struct pipeline *p)
{
	memset(p->classes, 0, CLASSES_MAX * sizeof(*p->classes));
	p->class_base = (p->class_base + p->class_cnt) % (UINT32_MAX - CLASSES_MAX);
	p->class_cnt = 0;
}

static uint32_t class_get(struct pipeline *p, const struct identity *who)
{
	uint8_t digest[16];
	uint32_t start, at;

	class_digest(who, digest, p->class_key);
	memcpy(&start, digest, sizeof(start));
	start %= CLASSES_MAX;
	for (at = start; p->classes[at].id; at = (at + 1) % CLASSES_MAX)
		if (!memcmp(p->classes[at].digest, digest, sizeof(digest)))
			return p->classes[at].id;
	if (p->class_cnt >= CLASSES_MAX / 2) {
		classes_clear(p);
		at = start;
	}
	memcpy(p->classes[at].digest, digest, sizeof(digest));
	p->class_cnt++;
	p->classes[at].id = p->class_base + p->class_cnt;
	return p->classes[at].id;
}

/* On the wire a class is the sender's: the answer about one may come when another sends already. */
static struct dbf_session_key class_key(const struct conn_session *s)
{
	if (s->vantage != CONN_WIRE)
		return (struct dbf_session_key){ .session = s->start, .tgid = s->tgid };
	return (struct dbf_session_key){ .session = s->start,
					 .tgid = s->info.client_known ? s->info.client_pid : 0,
					 .uid = s->info.client_known ? s->info.client_uid : 0 };
}

/*
 * Class a session once all is known of it: who it is (the answer about a local client's program), and that it is:
 * names that nobody let in would fill the table. Until then nothing is remembered for it.
 */
static void class_when_known(struct pipeline *p, struct conn_session *s)
{
	struct msg_class m = { .session = class_key(s) };
	const struct session_user *u = s->user;
	struct identity who;

	if (!s->known || !u || (s->info.client_known && !u->who_answered) ||
	    (!s->authenticated && s->info.kind != DBF_SESSION_BACKGROUND))
		return;
	fill_identity(s, &who);
	s->identity_class = class_get(p, &who);
	m.identity_class = s->identity_class;
	p->ops.message(p->ctx, MSG_CLASS, &m, sizeof(m));
}

/* Another process sends: what is judged for it must not be remembered as the class of the one before. */
static void class_forget(struct pipeline *p, struct conn_session *s)
{
	struct msg_class m = { .session = class_key(s) };

	if (!s->identity_class)
		return;
	s->identity_class = 0;
	p->ops.message(p->ctx, MSG_CLASS, &m, sizeof(m));
}

/* What it says of its ends is new, or another. The keeper is asked about a process that it was not asked about. */
static void session_described(struct pipeline *p, struct conn_session *s)
{
	const struct dbf_session *i = &s->info;
	struct session_user *u = s->user ? s->user : calloc(1, sizeof(*u));
	struct msg_who ask = { .session = { .session = s->start, .tgid = s->tgid },
			       .pid = i->client_pid,
			       .start = i->client_start };

	s->user = u;
	if (!u)
		return;
	u->common.len = 0;
	if (i->transport == DBF_TRANSPORT_UNIX) {
		memcpy(u->server_address, i->socket_path, sizeof(i->socket_path));
	} else {
		record_address_text(i->client_addr, u->client_address, sizeof(u->client_address));
		record_address_text(i->server_addr, u->server_address, sizeof(u->server_address));
	}
	if (!i->client_known || (u->asked && u->asked_pid == i->client_pid && u->asked_start == i->client_start))
		return;
	u->asked = true;
	u->asked_pid = i->client_pid;
	u->asked_start = i->client_start;
	u->who_answered = s->who_known = false;
	class_forget(p, s);
	p->ops.message(p->ctx, MSG_WHO, &ask, sizeof(ask));
}

static void on_client(void *ctx, struct conn_session *s)
{
	session_described(ctx, s);
	class_when_known(ctx, s);
}

static void on_session(void *ctx, struct conn_session *s, enum conn_event event, const char *reason)
{
	struct pipeline *p = ctx;
	struct identity who;

	if (event == CONN_OPEN || event == CONN_FOUND || event == CONN_OPAQUE || event == CONN_CANCEL)
		session_described(p, s);
	if (event != CONN_CLOSE)
		class_when_known(p, s);
	fill_identity(s, &who);
	record_writer_begin(p->writer, common_of(p, s, &who), "session");
	record_writer_session(p->writer, s, event, reason);
	pipeline_emit(p);
}

static uint32_t effects_of_op(const struct conn_stmt *st)
{
	if (st->form == CONN_REPLICATION)
		return SQL_BIT(SQL_REPLICATION);
	switch (st->op) {
	case DBF_OP_SELECT:
		return st->modifying_cte ? SQL_BIT(SQL_READ) | SQL_BIT(SQL_UNKNOWN)
					 : SQL_BIT(SQL_READ);
	case DBF_OP_UPDATE: return SQL_BIT(SQL_MODIFY);
	case DBF_OP_INSERT: return SQL_BIT(SQL_WRITE);
	case DBF_OP_DELETE: return SQL_BIT(SQL_DELETE);
	case DBF_OP_MERGE: return SQL_BIT(SQL_WRITE) | SQL_BIT(SQL_MODIFY) | SQL_BIT(SQL_DELETE);
	default: return SQL_BIT(SQL_UNKNOWN);
	}
}

static const struct sql_facts *facts_of(struct pipeline *p, const struct conn_stmt *st)
{
	/* A verdict is remembered for the mode that the kernel asks for; the record says what was judged. */
	unsigned mode = st->has_verdict ? st->verdict.mode & (DBF_MODE_ESCAPES - 1) : st->mode;
	/* What runs may have been parsed long ago: who knows how its quotes were read then? */
	bool parsed = st->has_verdict ? st->verdict.gate == DBF_GATE_PARSE : st->parsed;

	if (st->missing & (1U << CONN_MISSING_TEXT_FAULT | 1U << CONN_MISSING_TEXT_LIMIT) ||
	    st->length_is_minimum)
		return sql_unknown_facts(p->sql, SQL_UNKNOWN_TRUNCATED, effects_of_op(st), st->text,
					 st->captured);
	if (st->missing & CONN_MISSING_DOUBT)
		return sql_unknown_facts(p->sql, SQL_UNKNOWN_DOUBT, effects_of_op(st), st->text, st->captured);
	if (!st->captured && st->began && st->form == CONN_NESTED)
		return sql_unknown_facts(p->sql, SQL_UNKNOWN_EMPTY_SOURCE, effects_of_op(st), "",
					 0);
	if (st->form == CONN_FASTPATH)
		return sql_unknown_facts(p->sql, SQL_UNKNOWN_EMPTY_SOURCE, SQL_BIT(SQL_PROCEDURAL),
					 "", 0);
	sql_engine_set_parsing(p->sql, !p->overloaded || st->has_verdict);
	if (st->form == CONN_REPLICATION)
		return sql_analyze_walsender(p->sql, st->text, st->captured, !st->escapes);
	return sql_analyze_mode(p->sql, st->text, st->captured, !st->escapes,
				parsed ? mode : mode | SQL_MODE_ANY_QUOTES);
}

static void judge(struct pipeline *p, const struct sql_facts *facts, const struct identity *who,
		  struct policy_decision *d)
{
	/* What was not read was not judged either; it held no word that an enforced rule needs. */
	if (!p->set || facts->unknown == SQL_UNKNOWN_OVERLOAD) {
		memset(d, 0, sizeof(*d));
		return;
	}
	policy_eval(p->set, facts, who, d);
}

static enum dbf_action action_of(const struct policy_decision *d)
{
	return d->action == POLICY_KILL	  ? DBF_ACTION_KILL
	       : d->action == POLICY_DENY ? DBF_ACTION_DENY
					  : DBF_ACTION_ALLOW;
}

bool pipeline_may_remember(const struct sql_facts *facts, const struct conn_stmt *st,
			   const struct policy_decision *d, uint64_t generation)
{
	const struct conn_verdict *v = &st->verdict;

	if (st->session->vantage == CONN_WIRE && !conn_is_ascii(st)) /* the kernel does not know its encoding */
		return false;
	/* All gates share the key, and each may read the text's quotes its own way. */
	return facts->unknown != SQL_UNKNOWN_RESOURCE && !facts->by_quotes && v->hashed_len && v->hashed_len == st->captured &&
	       st->session->identity_class && !d->identity_volatile && v->policy_gen == (uint32_t)generation;
}

/* Most that are judged at once to vouch for a connection. */
#define VOUCH_MAX 512

struct vouching {
	struct pipeline *p;
	unsigned left;
	bool lasts; /* what stood against it has a name, and stays until that goes */
};

static bool vouch_for(void *ctx, const struct conn_stmt *st)
{
	struct vouching *v = ctx;
	struct policy_decision d;
	struct identity who;

	v->lasts = true;
	if (!v->left--)
		return false;
	fill_identity(st->session, &who);
	judge(v->p, facts_of(v->p, st), &who, &d);
	v->lasts = st->name[0] != '\0';
	return action_of(&d) == DBF_ACTION_ALLOW && !d.identity_volatile;
}

/*
 * It ran what it prepared under other policies. When these allow all that it can still run, the kernel need not ask
 * again each time. When they do not, nothing that it prepares can change that, so it is not gone through again for each
 * message that is held, until something went: each is judged, as before.
 */
static void vouch(struct pipeline *p, const struct conn_stmt *st)
{
	struct vouching v = { .p = p, .left = VOUCH_MAX };
	struct msg_vouch m = { .conn = st->session->start, .policy_gen = st->verdict.policy_gen };
	struct session_user *u = st->session->user;
	struct unvouched now = { .generation = p->generation, .identity_class = st->session->identity_class,
				 .gone = conn_wire_prepared_gone(st->session) };

	if (st->verdict.policy_gen != (uint32_t)p->generation)
		return;
	if (u && u->unvouched.generation == now.generation && u->unvouched.identity_class == now.identity_class &&
	    u->unvouched.gone == now.gone)
		return;
	if (conn_wire_each_prepared(p->conns, st->session, vouch_for, &v))
		p->ops.message(p->ctx, MSG_VOUCH, &m, sizeof(m));
	else if (u && v.lasts)
		u->unvouched = now;
}

/* The server vantage judges it when it gets there. */
static void let_go(struct pipeline *p, const struct conn_stmt *st)
{
	struct msg_verdict m = { .slot = st->verdict.slot, .slot_seq = st->verdict.slot_seq,
				 .action = DBF_ACTION_ALLOW, .wire = true };

	p->stats.verdicts++;
	p->ops.message(p->ctx, MSG_VERDICT, &m, sizeof(m));
}

/* Who asks is not known yet, and may be at once. */
static void wait_for_who(struct pipeline *p, const struct conn_session *s)
{
	const struct session_user *u = s->user;

	if (p->ops.await_who && u && s->info.client_known && !u->who_answered)
		p->ops.await_who(p->ctx);
}

static void judge_held(struct pipeline *p, const struct conn_stmt *st)
{
	const struct conn_verdict *v = &st->verdict;
	struct msg_verdict m = { .slot = v->slot, .slot_seq = v->slot_seq };
	const struct sql_facts *facts;
	struct policy_decision d;
	struct identity who;

	wait_for_who(p, st->session);
	facts = facts_of(p, st);
	fill_identity(st->session, &who);
	judge(p, facts, &who, &d);
	m.action = action_of(&d);
	m.remember = pipeline_may_remember(facts, st, &d, p->generation);
	m.key = (struct dbf_verdict_key){ .hash = { v->hash[0], v->hash[1] },
					  .len = v->hashed_len,
					  .mode = v->mode,
					  .identity_class = st->session->identity_class,
					  .policy_gen = v->policy_gen };
	m.wire = st->session->vantage == CONN_WIRE;
	if (d.deciding)
		snprintf(m.name, sizeof(m.name), "%s", d.deciding->rule);
	p->stats.verdicts++;
	p->ops.message(p->ctx, MSG_VERDICT, &m, sizeof(m));
	if (m.wire && !v->hashed_len && m.action == DBF_ACTION_ALLOW)
		vouch(p, st);
}

static void on_hold(void *ctx, const struct conn_stmt *st)
{
	if (st->elsewhere)
		let_go(ctx, st);
	else
		judge_held(ctx, st);
}

/* The kernel or the dead-man denied it because nobody answered in time. */
static bool denied_unjudged(const struct conn_stmt *st)
{
	const struct conn_verdict *v = &st->verdict;

	return st->has_verdict && v->action == DBF_ACTION_DENY &&
	       (v->how == DBF_HOW_FAIL || (v->how == DBF_HOW_HOLD && v->resolver != DBF_BY_KEEPER));
}

/*
 * The decision on @facts for @who, from memory where it can be; *record is then its packed part, or NULL.
 * Otherwise judged into @own.
 */
static const struct policy_decision *decide(struct pipeline *p, const struct sql_facts *facts,
					    const struct conn_stmt *st, const struct identity *who,
					    struct policy_decision *own, const struct record_known **record)
{
	uint32_t class = st->session->identity_class;
	struct known *k = &p->known[(facts->id * 0x9e3779b97f4a7c15ULL >> 32 ^ class) % KNOWN_SLOTS];

	*record = NULL;
	if (!facts->id || !class) {
		judge(p, facts, who, own);
		return own;
	}
	if (k->facts_id != facts->id || k->identity_class != class) {
		struct record_statement r = { .st = st, .facts = facts, .decision = &k->decision,
					      .generation = p->generation };

		judge(p, facts, who, &k->decision);
		k->facts_id = k->decision.identity_volatile ? 0 : facts->id;
		k->identity_class = class;
		k->packed = k->facts_id && statement_writer_know(p->statements, &r, &k->record);
	}
	if (k->packed)
		*record = &k->record;
	return &k->decision;
}

static void count_decision(struct msg_stats *stats, const struct policy_decision *d)
{
	stats->denied += d->action >= POLICY_DENY;
	stats->would_deny += d->shadow >= POLICY_DENY;
	stats->alerts += d->action == POLICY_ALERT || d->shadow == POLICY_ALERT;
}

static void on_statement(void *ctx, const struct conn_stmt *st)
{
	struct pipeline *p = ctx;
	struct record_statement r = { .st = st, .facts = facts_of(p, st), .generation = p->generation,
				      .wall_minus_mono = p->wall_minus_mono, .full_text = p->full_text };
	struct policy_decision own;
	struct identity who;
	const void *body;
	size_t len;

	fill_identity(st->session, &who);
	r.decision = decide(p, r.facts, st, &who, &own, &r.known);
	if (r.decision->action < POLICY_DENY && denied_unjudged(st) && p->set) {
		policy_eval_undecided(p->set, &who, &own);
		r.decision = &own;
		r.known = NULL;
	}
	count_decision(&p->stats, r.decision);
	r.common = common_of(p, st->session, &who);
	body = statement_writer_pack(p->statements, &r, &len);
	emit(p, body, len);
}

static void on_transaction(void *ctx, struct conn_session *s, const struct conn_xact *x)
{
	struct pipeline *p = ctx;
	struct identity who;

	fill_identity(s, &who);
	record_writer_begin(p->writer, common_of(p, s, &who), "transaction");
	record_writer_transaction(p->writer, s, x);
	pipeline_emit(p);
}

/* The totals are recorded from the kernel's counters, see pipeline_losses(); this one is the
 * session's mark. */
static void on_gap(void *ctx, struct conn_session *s, uint32_t batches, uint32_t execs)
{
	struct pipeline *p = ctx;
	struct identity who;

	(void)execs;
	fill_identity(s, &who);
	record_writer_begin(p->writer, common_of(p, s, &who), "gap");
	record_writer_gap(p->writer, "session_hole", batches, 0,
			  "records of this session are missing here");
	pipeline_emit(p);
}

static void on_limit(void *ctx, struct conn_session *s, uint32_t statements)
{
	struct pipeline *p = ctx;
	struct identity who;

	fill_identity(s, &who);
	record_writer_begin(p->writer, common_of(p, s, &who), "gap");
	record_writer_gap(p->writer, "session_limit", 0, statements,
			  "more statements than are kept before they end");
	pipeline_emit(p);
}

struct pipeline *pipeline_new(const struct pipeline_opts *opts, const struct pipeline_ops *ops,
			      void *ctx)
{
	static const struct conn_ops conn_ops = {
		.session = on_session,
		.hold = on_hold,
		.client = on_client,
		.statement = on_statement,
		.transaction = on_transaction,
		.gap = on_gap,
		.limit = on_limit,
	};
	struct pipeline *p = calloc(1, sizeof(*p));
	uint8_t key[16];

	if (!p)
		return NULL;
	if (sodium_init() < 0) {
		free(p);
		errno = EIO;
		return NULL;
	}
	p->ops = *ops;
	p->ctx = ctx;
	p->full_text = opts->full_text;
	strncpy(p->node, opts->node, sizeof(p->node) - 1);
	randombytes_buf(key, sizeof(key));
	randombytes_buf(p->class_key, sizeof(p->class_key));
	pipeline_set_clock(p);
	p->class_base = opts->class_base % (UINT32_MAX - CLASSES_MAX);
	p->classes = calloc(CLASSES_MAX, sizeof(*p->classes));
	p->writer = record_writer_new(p->node);
	p->statements = statement_writer_new();
	p->known = calloc(KNOWN_SLOTS, sizeof(*p->known));
	p->conns = conn_table_new(&conn_ops, p);
	p->sql = sql_engine_new(opts->cache_entries ? opts->cache_entries : LIMIT_SQL_CACHE_ENTRIES,
				key);
	if (!p->classes || !p->writer || !p->statements || !p->known || !p->conns || !p->sql) {
		pipeline_free(p);
		errno = ENOMEM;
		return NULL;
	}
	conn_table_set_marks(p->conns, opts->marks);
	return p;
}

void pipeline_free(struct pipeline *p)
{
	if (!p)
		return;
	conn_table_free(p->conns);
	sql_engine_free(p->sql);
	policy_set_free(p->set);
	record_writer_free(p->writer);
	statement_writer_free(p->statements);
	free(p->known);
	free(p->classes);
	free(p);
}

void pipeline_set_policy(struct pipeline *p, struct policy_set *set)
{
	struct policy_summary summary;

	policy_set_free(p->set);
	p->set = set;
	policy_set_summary(set, &summary);
	p->generation = summary.generation;
	for (unsigned i = 0; i < KNOWN_SLOTS; i++)
		p->known[i].facts_id = 0;
}

void pipeline_set_clock(struct pipeline *p)
{
	uint64_t mono = clock_mono_ns();

	p->wall_minus_mono = clock_wall_ns() - mono;
}

void pipeline_set_overloaded(struct pipeline *p, bool overloaded)
{
	p->overloaded = overloaded;
}

void pipeline_feed(struct pipeline *p, const void *record, size_t len)
{
	conn_table_feed(p->conns, record, len);
}

void pipeline_who(struct pipeline *p, const struct msg_who_answer *a)
{
	struct conn_session *s = conn_table_lookup(p->conns, a->session.session, a->session.tgid);
	struct session_user *u = s ? s->user : NULL;

	/* The connection may have passed to another process since it was asked. */
	if (!u || (s->vantage == CONN_WIRE && a->found && u->asked_start / NS_PER_TICK != a->start_ticks))
		return;
	u->who_answered = true;
	s->who_known = a->found;
	if (a->found) {
		memcpy(s->who.exe, a->exe, sizeof(s->who.exe));
		memcpy(s->who.comm, a->comm, sizeof(s->who.comm));
		memcpy(s->who.cgroup, a->cgroup, sizeof(s->who.cgroup));
		s->who.exe[sizeof(s->who.exe) - 1] = s->who.comm[sizeof(s->who.comm) - 1] = '\0';
		s->who.cgroup[sizeof(s->who.cgroup) - 1] = '\0';
		s->who.start_ticks = a->start_ticks;
	}
	class_when_known(p, s);
}

void pipeline_losses(struct pipeline *p, uint64_t lost_batches, uint64_t lost_execs)
{
	if (lost_batches == p->lost_batches && lost_execs == p->lost_execs)
		return;
	record_writer_begin(p->writer, NULL, "gap");
	record_writer_gap(p->writer, "ring_full", lost_batches - p->lost_batches,
			  lost_execs - p->lost_execs, "the kernel had no room for these records");
	p->lost_batches = lost_batches;
	p->lost_execs = lost_execs;
	pipeline_emit(p);
}

void pipeline_stats(const struct pipeline *p, struct msg_stats *out)
{
	const struct conn_counters *c = conn_table_counters(p->conns);
	struct sql_stats sql;

	sql_engine_stats(p->sql, &sql);
	*out = p->stats;
	out->bad_records = c->bad_records;
	out->facts = c->facts;
	out->sessions_seen = c->sessions;
	out->sessions = conn_table_cnt(p->conns);
	out->statements = c->statements;
	out->nested = c->nested;
	out->nested_lost = c->nested_lost;
	out->orphan_replies = c->orphan_replies;
	out->texts_limited = c->texts_limited;
	out->text_bytes = c->text_bytes;
	out->sessions_refused = c->evicted;
	out->wire_records = c->wire_records;
	out->wire_sessions = c->wire_sessions;
	out->wire_merged = c->wire_merged;
	out->wire_mismatches = c->wire_mismatches;
	out->wire_limited = c->wire_limited;
	out->sql_calls = sql.calls;
	out->sql_exact_hits = sql.exact_hits;
	out->sql_shape_hits = sql.shape_hits;
	out->sql_parses = sql.parses;
	out->sql_refused = sql.refused;
	out->sql_errors = sql.parse_errors;
	out->sql_unread = sql.unread;
}
