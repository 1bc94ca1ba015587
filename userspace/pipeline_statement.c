// SPDX-License-Identifier: Apache-2.0
/*
 * The statement record, packed in one pass: it is made for every execution, everything else in
 * pipeline_record.c is rare. Owns what of a statement is written, and how it is masked.
 *
 * What follows from facts and decision alone is packed apart (struct record_known), so that the
 * pipeline can keep it: most statements differ from the one before in times, ids and length only.
 */
#include "pipeline_record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nettle/sha2.h>

#include "audit/record.h"
#include "audit/text.h"
#include "audit/wire.h"
#include "core/buf.h"
#include "core/clock.h"
#include "enforce/hold.h"

#define EFFECTS_MAX 256
#define PARTS_MAX 256
#define EFFECT_BYTES (64 * 1024) /* of one effect: its columns are bounded */

static const char *const password_commands[] = {
	"CREATE ROLE",	       "ALTER ROLE",	     "CREATE USER",   "ALTER USER",
	"CREATE USER MAPPING", "ALTER USER MAPPING", "CREATE SERVER", "ALTER SERVER",
	"CREATE SUBSCRIPTION", "ALTER SUBSCRIPTION",
};

struct statement_writer {
	struct buf utf8;
	uint8_t element[EFFECT_BYTES];	     /* a repeated message that is being packed */
	uint8_t execution[PARTS_MAX * 256]; /* more than a part can take */
	uint8_t effects[LIMIT_RECORD_BYTES];
	uint8_t decision[LIMIT_RECORD_BYTES];
	uint8_t statement[LIMIT_RECORD_BYTES];
	uint8_t out[LIMIT_RECORD_BYTES];
};

struct statement_writer *statement_writer_new(void)
{
	struct statement_writer *w = calloc(1, sizeof(*w));

	if (w)
		buf_init(&w->utf8, LIMIT_RECORD_BYTES);
	return w;
}

void statement_writer_free(struct statement_writer *w)
{
	if (!w)
		return;
	buf_fini(&w->utf8);
	free(w);
}

/* A name or message from elsewhere. */
static void put_foreign(struct statement_writer *w, struct wire *to, unsigned field, const char *s, size_t len)
{
	if (text_is_utf8(s, len)) {
		wire_element(to, field, s, len);
		return;
	}
	buf_reset(&w->utf8);
	text_put_utf8(&w->utf8, s, len);
	wire_element(to, field, buf_str(&w->utf8), w->utf8.len);
}

static void put_foreign_string(struct statement_writer *w, struct wire *to, unsigned field, const char *s)
{
	if (*s)
		put_foreign(w, to, field, s, strlen(s));
}

/* --- effects --------------------------------------------------------------------------------------------- */

struct effects {
	struct statement_writer *w;
	struct wire to;
	unsigned cnt;
};

static void add_effect(struct effects *all, enum sql_effect effect, const struct sql_object *o)
{
	struct wire e;

	if (all->cnt++ >= EFFECTS_MAX)
		return;
	wire_init(&e, all->w->element, sizeof(all->w->element));
	wire_string(&e, EFFECT_KIND, sql_effect_name(effect));
	if (o) {
		char name[300];
		struct wire full;

		wire_init(&full, name, sizeof(name));
		if (o->schema) {
			wire_raw(&full, o->schema, strnlen(o->schema, 140));
			wire_raw(&full, ".", 1);
		}
		wire_raw(&full, o->name, strnlen(o->name, o->schema ? 140 : sizeof(name)));
		put_foreign(all->w, &e, EFFECT_OBJECT, name, wire_len(&full));
		wire_string(&e, EFFECT_OBJECT_KIND, sql_object_kind_name(o->kind));
		for (unsigned i = 0; i < o->column_cnt; i++)
			put_foreign(all->w, &e, EFFECT_COLUMNS, o->columns[i], strlen(o->columns[i]));
	}
	all->to.full |= e.full;
	wire_element(&all->to, RECORD_EFFECTS, all->w->element, wire_len(&e));
}

static void add_function(struct effects *all, const struct sql_function *f)
{
	struct wire e;

	if (f->risk == SQL_RISK_NONE || all->cnt++ >= EFFECTS_MAX)
		return;
	wire_init(&e, all->w->element, sizeof(all->w->element));
	wire_string(&e, EFFECT_KIND, "call");
	put_foreign_string(all->w, &e, EFFECT_OBJECT, f->name);
	wire_string(&e, EFFECT_OBJECT_KIND, "function");
	wire_string(&e, EFFECT_RISK, sql_func_risk_name(f->risk));
	wire_element(&all->to, RECORD_EFFECTS, all->w->element, wire_len(&e));
}

static void add_loose(struct effects *all, uint32_t set)
{
	for (int e = 1; e < SQL_EFFECT_MAX; e++)
		if (set & SQL_BIT(e))
			add_effect(all, e, NULL);
}

static void add_statement(struct effects *all, const struct sql_stmt *s)
{
	uint32_t rest = s->effects;

	for (unsigned k = 0; k < s->object_cnt; k++)
		for (int e = 1; e < SQL_EFFECT_MAX; e++)
			if (s->objects[k].effects & SQL_BIT(e)) {
				add_effect(all, e, &s->objects[k]);
				rest &= ~SQL_BIT(e);
			}
	add_loose(all, rest);
	for (unsigned k = 0; k < s->function_cnt; k++)
		add_function(all, &s->functions[k]);
}

static size_t put_effects(struct statement_writer *w, const struct sql_facts *facts, bool *full)
{
	struct effects all = { .w = w };

	wire_init(&all.to, w->effects, sizeof(w->effects));
	for (unsigned i = 0; i < facts->stmt_cnt; i++)
		add_statement(&all, &facts->stmts[i]);
	if (!facts->stmt_cnt)
		add_loose(&all, facts->effects);
	*full |= all.to.full;
	if (all.cnt > EFFECTS_MAX)
		wire_string(&all.to, RECORD_INCOMPLETE, "effects_limit");
	return wire_len(&all.to);
}

/* --- decision -------------------------------------------------------------------------------------------- */

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
		"server_stopping",
	};

	return why < DBF_WHY_MAX ? names[why] : "";
}

static const char *gate_name(enum dbf_gate gate)
{
	static const char *const names[DBF_GATE_MAX] = { "",	     "parse",	"execute",
							 "executor", "utility", "replication" };

	return gate < DBF_GATE_MAX ? names[gate] : "";
}

/* The fail mode decided: in the kernel at once, or when the hold's end came before the verdict. */
static bool by_fail_mode(const struct conn_verdict *v)
{
	return v->how == DBF_HOW_FAIL ||
	       (v->how == DBF_HOW_HOLD && v->resolver && v->resolver != DBF_BY_KEEPER);
}

static void put_match(struct wire *to, const struct policy_match *m)
{
	uint8_t bytes[1024];
	struct wire one;

	wire_init(&one, bytes, sizeof(bytes));
	wire_string(&one, MATCH_POLICY, m->policy);
	wire_string(&one, MATCH_RULE, m->rule);
	wire_string(&one, MATCH_ACTION, policy_action_name(m->action));
	wire_string(&one, MATCH_MODE, policy_mode_name(m->mode));
	to->full |= one.full;
	wire_element(to, DECISION_MATCHES, bytes, wire_len(&one));
}

/* @v: what the kernel did about it; NULL when it had no reason to look. */
static size_t put_decision(struct statement_writer *w, const struct policy_decision *d,
			   uint64_t generation, const struct conn_verdict *v, bool *full)
{
	const struct policy_match *m = d->deciding;
	bool failed = v && by_fail_mode(v);
	const char *action = policy_action_name(m ? m->action : d->action);
	struct wire to;

	if (failed)
		action = v->action == DBF_ACTION_ALLOW ? "allow" : "deny";
	wire_init(&to, w->decision, sizeof(w->decision));
	wire_string(&to, DECISION_ACTION, action);
	if (m) {
		wire_string(&to, DECISION_POLICY, m->policy);
		wire_string(&to, DECISION_RULE, m->rule);
		wire_string(&to, DECISION_MODE, policy_mode_name(m->mode));
		wire_string(&to, DECISION_MESSAGE, m->message);
		wire_string(&to, DECISION_GUARANTEE, policy_guarantee_name(m->guarantee));
	}
	wire_number(&to, DECISION_GENERATION, generation);
	wire_number(&to, DECISION_ACTED, v && v->signalled);
	wire_number(&to, DECISION_BY_FAIL_MODE, failed || (m && m->by_fail_mode));
	if (failed)
		wire_string(&to, DECISION_UNDECIDED_REASON,
			    v->how == DBF_HOW_FAIL ? why_name(v->why) : "verdict_late");
	for (unsigned i = 0; i < d->unknown_cnt; i++)
		wire_string(&to, DECISION_UNKNOWN_ATTRIBUTES, d->unknown_attributes[i]);
	for (unsigned i = 0; i < d->match_cnt; i++)
		put_match(&to, &d->matches[i]);
	*full |= to.full;
	return wire_len(&to);
}

static void put_hold(struct wire *to, const struct conn_verdict *v)
{
	uint8_t bytes[128];
	struct wire hold;

	wire_init(&hold, bytes, sizeof(bytes));
	wire_number(&hold, HOLD_HELD_US, v->held_ns / NS_PER_US);
	wire_string(&hold, HOLD_RESOLVED_BY, hold_resolver_name(v->resolver));
	if (v->deadline_ns > v->since_ns)
		wire_number(&hold, HOLD_DEADLINE_US, (v->deadline_ns - v->since_ns) / NS_PER_US);
	wire_element(to, RECORD_HOLD, bytes, wire_len(&hold));
}

/* --- text ------------------------------------------------------------------------------------------------ */

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

enum text_form { TEXT_MASKED, TEXT_FULL, TEXT_LEFT_OUT };

static size_t put_text(struct statement_writer *w, const struct conn_stmt *st,
		       const struct sql_facts *facts, enum text_form form, bool *full)
{
	struct wire to;

	if (form == TEXT_FULL && holds_password(facts))
		form = TEXT_MASKED;
	buf_reset(&w->utf8);
	if (form == TEXT_MASKED)
		text_put_utf8(&w->utf8, facts->masked, facts->masked_len);
	else if (form == TEXT_FULL)
		text_put_utf8(&w->utf8, st->text, st->captured);
	wire_init(&to, w->statement, sizeof(w->statement));
	wire_bytes(&to, STATEMENT_TEXT, w->utf8.data, w->utf8.len);
	wire_number(&to, STATEMENT_MASKED, form == TEXT_MASKED);
	wire_string(&to, STATEMENT_FINGERPRINT, facts->fingerprint);
	if (facts->unknown != SQL_KNOWN)
		wire_string(&to, STATEMENT_UNKNOWN_REASON, sql_unknown_name(facts->unknown));
	*full |= to.full || buf_err(&w->utf8);
	return wire_len(&to);
}

static void put_part(struct statement_writer *w, struct wire *to, const struct conn_stmt *st,
		     const struct sql_facts *facts, unsigned i)
{
	uint8_t bytes[512];
	struct wire part;

	wire_init(&part, bytes, sizeof(bytes));
	if (i < facts->stmt_cnt)
		wire_string(&part, PART_COMMAND, facts->stmts[i].command);
	if (i < st->part_cnt) {
		put_foreign_string(w, &part, PART_TAG, st->parts[i].tag);
		wire_number(&part, PART_ROWS, st->parts[i].rows);
		wire_string(&part, PART_OUTCOME, "executed");
	} else {
		wire_string(&part, PART_OUTCOME, i == st->part_cnt ? conn_outcome_name(st->outcome)
								   : "not_reached");
	}
	wire_element(to, STATEMENT_STATEMENTS, bytes, wire_len(&part));
}

/* What is this execution's own in the statement message. */
static void put_execution(struct statement_writer *w, struct wire *to, const struct conn_stmt *st,
			  const struct sql_facts *facts)
{
	unsigned cnt = st->part_cnt > facts->stmt_cnt ? st->part_cnt : facts->stmt_cnt;
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx sha; /* nettle's: it uses the CPU's instructions for it */

	wire_string(to, STATEMENT_FORM, conn_form_name(st->form));
	put_foreign_string(w, to, STATEMENT_NAME, st->name);
	wire_number(to, STATEMENT_EXECUTIONS, st->executions);
	wire_number(to, STATEMENT_LENGTH, st->length);
	wire_number(to, STATEMENT_LENGTH_IS_MINIMUM, st->length_is_minimum);
	wire_number(to, STATEMENT_CAPTURED, st->captured);
	if (st->has_verdict)
		wire_string(to, STATEMENT_GATE, gate_name(st->verdict.gate));
	if (st->captured == st->length && !st->length_is_minimum && st->captured) {
		sha256_init(&sha);
		sha256_update(&sha, st->captured, (const uint8_t *)st->text);
		sha256_digest(&sha, sizeof(digest), digest);
		wire_bytes(to, STATEMENT_DIGEST, digest, sizeof(digest));
	}
	for (unsigned i = 0; cnt > 1 && i < cnt && i < PARTS_MAX; i++)
		put_part(w, to, st, facts, i);
}

/* --- the record ------------------------------------------------------------------------------------------ */

/*
 * Errors of data and of syntax quote what they were given, literals too, and do not double the quotes inside: all from
 * the first to the last quote is masked.
 */
static bool quotes_literals(const char *sqlstate)
{
	return !strncmp(sqlstate, "22", 2) || !strncmp(sqlstate, "23", 2) || !strcmp(sqlstate, "42601");
}

static void put_error(struct statement_writer *w, struct wire *to, const struct conn_stmt *st,
		      bool full_text)
{
	const char *first = strchr(st->error, '"'), *last = strrchr(st->error, '"');
	char error[256];

	put_foreign_string(w, to, RECORD_SQLSTATE, st->sqlstate);
	if (!first || full_text || !quotes_literals(st->sqlstate)) {
		put_foreign_string(w, to, RECORD_ERROR_MESSAGE, st->error);
		return;
	}
	/* A message that was cut off may have lost the quote at its end. */
	snprintf(error, sizeof(error), "%.*s\"?\"%s", (int)(first - st->error), st->error, last > first ? last + 1 : "");
	put_foreign_string(w, to, RECORD_ERROR_MESSAGE, error);
}

static void put_transaction(struct wire *to, const struct conn_stmt *st)
{
	uint8_t bytes[64];
	struct wire xact;

	wire_init(&xact, bytes, sizeof(bytes));
	wire_string(&xact, TRANSACTION_STATE, st->xact_committed ? "committed" : "rolled_back");
	wire_number(&xact, TRANSACTION_XID, st->xid);
	wire_number(&xact, TRANSACTION_STATEMENTS, 1);
	wire_number(&xact, TRANSACTION_IMPLICIT, 1);
	wire_element(to, RECORD_TRANSACTION, bytes, wire_len(&xact));
}

static void put_xact_id(struct wire *to, const struct conn_stmt *st)
{
	char id[sizeof(st->session->id) + 24];
	size_t n = strlen(st->session->id);

	if (!st->xact)
		return;
	memcpy(id, st->session->id, n);
	id[n++] = '.';
	wire_bytes(to, RECORD_TRANSACTION_ID, id, n + record_decimal(id + n, st->xact));
}

static void put_lists(struct wire *to, const struct conn_stmt *st, const struct sql_facts *facts)
{
	for (int i = 0; i < CONN_EVIDENCE_MAX; i++)
		if (st->evidence & 1U << i)
			wire_string(to, RECORD_EVIDENCE, conn_evidence_name(i));
	for (int i = 0; i < CONN_MISSING_MAX; i++)
		if (st->missing & 1U << i)
			wire_string(to, RECORD_INCOMPLETE, conn_missing_name(i));
	if (!st->session->known)
		wire_string(to, RECORD_INCOMPLETE, "identity");
	if (st->part_cnt > PARTS_MAX || facts->stmt_cnt > PARTS_MAX)
		wire_string(to, RECORD_INCOMPLETE, "parts_limit");
}

static void put_times(struct wire *to, const struct conn_stmt *st, uint64_t wall_minus_mono)
{
	wire_number(to, RECORD_TIME_NS, st->start_ns + wall_minus_mono);
	wire_number(to, RECORD_MONO_NS, st->start_ns);
	wire_number(to, RECORD_END_TIME_NS, st->end_ns + wall_minus_mono);
	wire_number(to, RECORD_END_MONO_NS, st->end_ns);
	if (st->end_ns > st->start_ns)
		wire_number(to, RECORD_DURATION_US, (st->end_ns - st->start_ns) / NS_PER_US);
}

static void put_wire_times(struct wire *to, const struct conn_stmt *st)
{
	uint8_t bytes[48];
	struct wire times;

	if (!st->request_ns && !st->response_ns)
		return;
	wire_init(&times, bytes, sizeof(bytes));
	wire_number(&times, WIRE_REQUEST_MONO_NS, st->request_ns);
	wire_number(&times, WIRE_RESPONSE_MONO_NS, st->response_ns);
	if (st->request_ns && st->response_ns)
		wire_number(&times, WIRE_DURATION_US, (st->response_ns - st->request_ns) / NS_PER_US);
	wire_element(to, RECORD_WIRE, bytes, wire_len(&times));
}

struct piece { /* packed bytes, borrowed */
	const uint8_t *data;
	size_t len;
};

static size_t assemble(struct statement_writer *w, const struct record_statement *r,
		       const struct piece *text, const struct piece *effects,
		       const struct piece *decision)
{
	const struct conn_stmt *st = r->st;
	struct wire to, execution;

	wire_init(&execution, w->execution, sizeof(w->execution));
	put_execution(w, &execution, st, r->facts);
	wire_init(&to, w->out, sizeof(w->out));
	if (r->common)
		wire_raw(&to, r->common->bytes, r->common->len);
	wire_string(&to, RECORD_KIND, "statement");
	put_times(&to, st, r->wall_minus_mono);
	put_xact_id(&to, st);
	wire_number(&to, RECORD_STATEMENT_ID, st->id);
	wire_number(&to, RECORD_PARENT_STATEMENT_ID, st->parent_id);
	wire_message(&to, RECORD_STATEMENT, text->len + wire_len(&execution));
	wire_raw(&to, text->data, text->len);
	wire_raw(&to, w->execution, wire_len(&execution));
	wire_raw(&to, effects->data, effects->len);
	if (st->part_cnt)
		put_foreign_string(w, &to, RECORD_TAG, st->parts[st->part_cnt - 1].tag);
	wire_number(&to, RECORD_ROWS, st->rows);
	wire_number(&to, RECORD_ROWS_KNOWN, st->rows_known);
	if (st->sqlstate[0] || st->error[0])
		put_error(w, &to, st, r->full_text);
	wire_number(&to, RECORD_BYTES_IN, st->bytes_in);
	wire_number(&to, RECORD_BYTES_OUT, st->bytes_out);
	put_wire_times(&to, st);
	wire_element(&to, RECORD_DECISION, decision->data, decision->len);
	wire_string(&to, RECORD_OUTCOME, conn_outcome_name(st->outcome));
	put_lists(&to, st, r->facts);
	if (st->has_verdict && st->verdict.how == DBF_HOW_HOLD)
		put_hold(&to, &st->verdict);
	if (st->closes_xact)
		put_transaction(&to, st);
	return to.full || execution.full ? 0 : wire_len(&to);
}

bool statement_writer_know(struct statement_writer *w, const struct record_statement *r,
			   struct record_known *known)
{
	bool full = false;
	size_t text = r->facts->own_text ? 0 : put_text(w, r->st, r->facts, TEXT_MASKED, &full);
	size_t effects = put_effects(w, r->facts, &full);
	size_t decision = put_decision(w, r->decision, r->generation, NULL, &full);

	if (full || text + effects + decision > sizeof(known->bytes))
		return false;
	known->text_len = (uint32_t)text;
	known->effects_len = (uint32_t)effects;
	known->decision_len = (uint32_t)decision;
	memcpy(known->bytes, w->statement, text);
	memcpy(known->bytes + text, w->effects, effects);
	memcpy(known->bytes + text + effects, w->decision, decision);
	return true;
}

/* An enormous text or too many objects: the record stays, without them. */
static size_t assemble_short(struct statement_writer *w, const struct record_statement *r,
			     const struct piece *decision)
{
	struct piece text = { w->statement, 0 }, effects = { w->effects, 0 };
	bool full = false;
	struct wire to;

	text.len = put_text(w, r->st, r->facts, TEXT_LEFT_OUT, &full);
	wire_init(&to, w->effects, sizeof(w->effects));
	wire_string(&to, RECORD_INCOMPLETE, "record_limit");
	effects.len = wire_len(&to);
	return assemble(w, r, &text, &effects, decision);
}

const void *statement_writer_pack(struct statement_writer *w, const struct record_statement *r,
				  size_t *len)
{
	const struct record_known *k = r->known;
	const struct conn_verdict *v = r->st->has_verdict ? &r->st->verdict : NULL;
	struct piece text, effects, decision;
	bool full = false;

	if (k && k->text_len && !r->full_text)
		text = (struct piece){ k->bytes, k->text_len };
	else
		text = (struct piece){ w->statement, put_text(w, r->st, r->facts,
							      r->full_text ? TEXT_FULL : TEXT_MASKED,
							      &full) };
	if (k)
		effects = (struct piece){ k->bytes + k->text_len, k->effects_len };
	else
		effects = (struct piece){ w->effects, put_effects(w, r->facts, &full) };
	if (k && !v)
		decision = (struct piece){ effects.data + effects.len, k->decision_len };
	else
		decision = (struct piece){ w->decision,
					   put_decision(w, r->decision, r->generation, v, &full) };
	*len = full ? 0 : assemble(w, r, &text, &effects, &decision);
	if (!*len)
		*len = assemble_short(w, r, &decision);
	return *len ? w->out : NULL;
}
