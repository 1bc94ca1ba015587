// SPDX-License-Identifier: Apache-2.0
/*
 * pipeline_statement.c: what it packs by hand is what the schema says, field by field, and stays a record at the limits.
 */
#include "../lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "audit/record.h"
#include "core/limits.h"
#include "dbfence/audit.pb-c.h"
#include "pipeline_record.h"

#define MANY 300

struct number {
	const ProtobufCMessageDescriptor *message;
	const char *name;
	unsigned number;
};

#define R dbfence__audit__v1__record__descriptor
#define S dbfence__audit__v1__statement__descriptor
#define D dbfence__audit__v1__decision__descriptor
#define E dbfence__audit__v1__effect__descriptor
#define P dbfence__audit__v1__part__descriptor
#define M dbfence__audit__v1__match__descriptor
#define H dbfence__audit__v1__hold__descriptor
#define T dbfence__audit__v1__transaction__descriptor

static const struct number numbers[] = {
	{ &R, "seq", RECORD_SEQ }, { &R, "kind", RECORD_KIND }, { &R, "time_ns", RECORD_TIME_NS },
	{ &R, "mono_ns", RECORD_MONO_NS }, { &R, "end_time_ns", RECORD_END_TIME_NS },
	{ &R, "end_mono_ns", RECORD_END_MONO_NS }, { &R, "duration_us", RECORD_DURATION_US },
	{ &R, "session_id", RECORD_SESSION_ID }, { &R, "transaction_id", RECORD_TRANSACTION_ID },
	{ &R, "parent_seq", RECORD_PARENT_SEQ }, { &R, "statement_id", RECORD_STATEMENT_ID },
	{ &R, "parent_statement_id", RECORD_PARENT_STATEMENT_ID }, { &R, "statement", RECORD_STATEMENT },
	{ &R, "effects", RECORD_EFFECTS }, { &R, "tag", RECORD_TAG }, { &R, "rows", RECORD_ROWS },
	{ &R, "rows_known", RECORD_ROWS_KNOWN }, { &R, "sqlstate", RECORD_SQLSTATE },
	{ &R, "error_message", RECORD_ERROR_MESSAGE }, { &R, "decision", RECORD_DECISION },
	{ &R, "outcome", RECORD_OUTCOME }, { &R, "evidence", RECORD_EVIDENCE }, { &R, "incomplete", RECORD_INCOMPLETE },
	{ &R, "hold", RECORD_HOLD }, { &R, "transaction", RECORD_TRANSACTION }, { &R, "gap", RECORD_GAP },
	{ &S, "text", STATEMENT_TEXT }, { &S, "masked", STATEMENT_MASKED }, { &S, "length", STATEMENT_LENGTH },
	{ &S, "length_is_minimum", STATEMENT_LENGTH_IS_MINIMUM }, { &S, "captured", STATEMENT_CAPTURED },
	{ &S, "digest", STATEMENT_DIGEST }, { &S, "fingerprint", STATEMENT_FINGERPRINT }, { &S, "form", STATEMENT_FORM },
	{ &S, "name", STATEMENT_NAME }, { &S, "executions", STATEMENT_EXECUTIONS },
	{ &S, "statements", STATEMENT_STATEMENTS }, { &S, "unknown_reason", STATEMENT_UNKNOWN_REASON },
	{ &S, "gate", STATEMENT_GATE },
	{ &P, "command", PART_COMMAND }, { &P, "tag", PART_TAG }, { &P, "rows", PART_ROWS }, { &P, "outcome", PART_OUTCOME },
	{ &E, "kind", EFFECT_KIND }, { &E, "object", EFFECT_OBJECT }, { &E, "object_kind", EFFECT_OBJECT_KIND },
	{ &E, "columns", EFFECT_COLUMNS }, { &E, "risk", EFFECT_RISK },
	{ &D, "action", DECISION_ACTION }, { &D, "policy", DECISION_POLICY }, { &D, "rule", DECISION_RULE },
	{ &D, "mode", DECISION_MODE }, { &D, "message", DECISION_MESSAGE }, { &D, "generation", DECISION_GENERATION },
	{ &D, "acted", DECISION_ACTED }, { &D, "by_fail_mode", DECISION_BY_FAIL_MODE },
	{ &D, "undecided_reason", DECISION_UNDECIDED_REASON },
	{ &D, "unknown_attributes", DECISION_UNKNOWN_ATTRIBUTES }, { &D, "matches", DECISION_MATCHES },
	{ &D, "guarantee", DECISION_GUARANTEE },
	{ &M, "policy", MATCH_POLICY }, { &M, "rule", MATCH_RULE }, { &M, "action", MATCH_ACTION }, { &M, "mode", MATCH_MODE },
	{ &H, "held_us", HOLD_HELD_US }, { &H, "resolved_by", HOLD_RESOLVED_BY }, { &H, "deadline_us", HOLD_DEADLINE_US },
	{ &T, "state", TRANSACTION_STATE }, { &T, "xid", TRANSACTION_XID }, { &T, "statements", TRANSACTION_STATEMENTS },
	{ &T, "implicit", TRANSACTION_IMPLICIT },
};

static void test_field_numbers(void)
{
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		const struct number *n = &numbers[i];
		const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field_by_name(n->message, n->name);

		CHECK_MSG(f && f->id == n->number, "%s.%s is %u in the schema", n->message->short_name, n->name,
			  f ? f->id : 0);
	}
}

static struct conn_session session = { .id = "1a-2b", .known = true };
static struct policy_decision allowed = { .action = POLICY_ALLOW };

static const Dbfence__Audit__V1__Record *pack(const struct record_statement *r)
{
	static struct record_arena arena;
	struct statement_writer *w = statement_writer_new();
	Dbfence__Audit__V1__Record *rec = NULL;
	const void *body;
	size_t len;

	body = statement_writer_pack(w, r, &len);
	if (CHECK(body) && CHECK(len <= LIMIT_RECORD_BYTES))
		rec = record_unpack(&arena, body, len);
	CHECK(rec);
	statement_writer_free(w);
	return rec;
}

static bool says(const Dbfence__Audit__V1__Record *rec, const char *incomplete)
{
	for (size_t i = 0; i < rec->n_incomplete; i++)
		if (!strcmp(rec->incomplete[i], incomplete))
			return true;
	return false;
}

/* More effects, and more statements, than one record names: it says so, and keeps the first. */
static void test_lists_at_their_limit(void)
{
	static struct sql_object objects[MANY];
	static struct sql_stmt stmts[MANY];
	struct conn_stmt st = { .session = &session, .text = "x", .captured = 1, .length = 1, .name = "", .error = "" };
	struct sql_facts facts = { .stmts = stmts, .masked = "x", .masked_len = 1 };
	struct record_statement r = { .st = &st, .facts = &facts, .decision = &allowed };
	const Dbfence__Audit__V1__Record *rec;

	for (unsigned i = 0; i < MANY; i++) {
		objects[i] = (struct sql_object){ .kind = SQL_OBJ_RELATION, .name = "t", .effects = SQL_BIT(SQL_READ) };
		stmts[i] = (struct sql_stmt){ .command = "SELECT", .effects = SQL_BIT(SQL_READ) };
	}
	stmts[0].objects = objects;
	stmts[0].object_cnt = MANY;
	facts.stmt_cnt = 1;
	rec = pack(&r);
	if (!rec)
		return;
	CHECK_INT(rec->n_effects, 256);
	CHECK(says(rec, "effects_limit"));
	CHECK(!says(rec, "parts_limit"));
	stmts[0].object_cnt = 0;
	facts.stmt_cnt = MANY;
	rec = pack(&r);
	if (!rec)
		return;
	CHECK_INT(rec->statement->n_statements, 256);
	CHECK(says(rec, "parts_limit"));
}

/* A text that no record can hold: everything else is there. */
static void test_text_too_large(void)
{
	char *text = malloc(LIMIT_RECORD_BYTES);
	struct conn_stmt st = { .session = &session, .text = text, .captured = 1000, .length = LIMIT_RECORD_BYTES,
				.length_is_minimum = true, .name = "p", .error = "", .id = 7 };
	struct sql_facts facts = { .masked = text, .masked_len = LIMIT_RECORD_BYTES, .fingerprint = "00ff" };
	struct record_statement r = { .st = &st, .facts = &facts, .decision = &allowed };
	const Dbfence__Audit__V1__Record *rec;

	memset(text, 0xff, LIMIT_RECORD_BYTES);	/* each byte becomes three */
	rec = pack(&r);
	if (rec) {
		CHECK(says(rec, "record_limit"));
		CHECK_STR(rec->statement->text, "");
		CHECK_STR(rec->statement->fingerprint, "00ff");
		CHECK_STR(rec->statement->name, "p");
		CHECK_INT(rec->statement->length, LIMIT_RECORD_BYTES);
		CHECK_INT(rec->statement_id, 7);
		CHECK_STR(rec->decision->action, "allow");
	}
	free(text);
}

/* The part that was packed before gives the same record as packing all of it; a verdict is never taken from there. */
static void test_known_part(void)
{
	struct statement_writer *w = statement_writer_new();
	struct sql_stmt stmt = { .command = "DROP TABLE", .effects = SQL_BIT(SQL_SCHEMA_DESTROY) };
	struct sql_facts facts = { .stmts = &stmt, .stmt_cnt = 1, .masked = "DROP TABLE t", .masked_len = 12,
				   .effects = SQL_BIT(SQL_SCHEMA_DESTROY), .fingerprint = "ab" };
	struct policy_decision denied = { .action = POLICY_DENY, .match_cnt = 1, .match_total = 1 };
	struct conn_stmt st = { .session = &session, .text = "DROP TABLE t", .captured = 12, .length = 12, .name = "",
				.error = "", .id = 1 };
	struct record_statement r = { .st = &st, .facts = &facts, .decision = &denied, .generation = 3 };
	struct record_known known;
	const Dbfence__Audit__V1__Record *rec;
	uint8_t first[1024];
	const void *body;
	size_t len, again;

	denied.matches[0] = (struct policy_match){ .policy = "p", .rule = "r", .action = POLICY_DENY,
						   .mode = POLICY_ENFORCE, .guarantee = POLICY_PREVENT };
	denied.deciding = &denied.matches[0];
	body = statement_writer_pack(w, &r, &len);
	if (CHECK(body && len <= sizeof(first)))
		memcpy(first, body, len);
	CHECK(statement_writer_know(w, &r, &known));
	r.known = &known;
	body = statement_writer_pack(w, &r, &again);
	CHECK(body && again == len && !memcmp(body, first, len));
	st.has_verdict = true;
	st.verdict = (struct conn_verdict){ .gate = DBF_GATE_PARSE, .how = DBF_HOW_FAIL, .why = DBF_WHY_NO_SLOT,
					    .action = DBF_ACTION_ALLOW };
	rec = pack(&r);
	if (rec) {
		CHECK_STR(rec->decision->action, "allow");
		CHECK_STR(rec->decision->undecided_reason, "no_hold_slot");
		CHECK_STR(rec->decision->rule, "r");
		CHECK_STR(rec->statement->gate, "parse");
	}
	statement_writer_free(w);
}

static void check_error(const char *sqlstate, const char *error, bool full_text, const char *want)
{
	struct conn_stmt st = { .session = &session, .text = "x", .captured = 1, .length = 1, .name = "", .error = error };
	struct sql_facts facts = { .masked = "x", .masked_len = 1 };
	struct record_statement r = { .st = &st, .facts = &facts, .decision = &allowed, .full_text = full_text };
	const Dbfence__Audit__V1__Record *rec;

	snprintf(st.sqlstate, sizeof(st.sqlstate), "%s", sqlstate);
	rec = pack(&r);
	if (rec)
		CHECK_STR(rec->error_message, want);
}

/* Messages quote literals, whatever quotes these hold. */
static void test_error_masked(void)
{
	check_error("22P02", "invalid input syntax for type integer: \"x\" secret \"y\"", false,
		    "invalid input syntax for type integer: \"?\"");
	check_error("22P02", "invalid input syntax for type integer: \"cut of", false,
		    "invalid input syntax for type integer: \"?\"");
	check_error("22007", "invalid value \"se\" for \"YYYY\" here", false, "invalid value \"?\" here");
	check_error("42601", "syntax error at or near \"'secret'\"", false, "syntax error at or near \"?\"");
	check_error("42601", "syntax error at or near \"'secret'\"", true, "syntax error at or near \"'secret'\"");
	check_error("22012", "division by zero", false, "division by zero");
	check_error("42703", "column \"c\" does not exist", false, "column \"c\" does not exist");
}

static const struct test_case cases[] = {
	{ "field_numbers", test_field_numbers },
	{ "lists_at_their_limit", test_lists_at_their_limit },
	{ "text_too_large", test_text_too_large },
	{ "known_part", test_known_part },
	{ "error_masked", test_error_masked },
};

int main(int argc, char **argv)
{
	return test_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
