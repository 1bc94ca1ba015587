// SPDX-License-Identifier: Apache-2.0
/*
 * audit/line.c: each kind's line, shortening, colour only when asked, and nothing that could steer
 * a terminal.
 */
#include "../lib/test.h"

#include "audit/line.h"
#include "audit/text.h"
#include "audit_sample.h"

static const char *to_line(const Dbfence__Audit__V1__Record *record, const struct line_opts *opts)
{
	static struct buf out;

	if (!out.max)
		buf_init(&out, 8 * LIMIT_RECORD_BYTES);
	buf_reset(&out);
	audit_line_write(record, opts, &out);
	CHECK_INT(buf_err(&out), 0);
	return buf_str(&out);
}

static const struct line_opts plain = {0};

static void test_line_statement(void)
{
	struct line_opts file = {.date = true, .seq = true};
	struct sample s;

	sample_statement(&s, "s", 1, "SELECT *\n\tFROM  t ");
	CHECK_STR(to_line(&s.record, &plain),
		  "22:13:20.123Z app@orders psql[4242] executed 3 rows 1.23ms SELECT * FROM t\n");
	s.record.seq = 17;
	s.record.rows = 1;
	s.record.duration_us = 61000000;
	CHECK_STR(to_line(&s.record, &file), "#17 2023-11-14T22:13:20.123Z app@orders psql[4242] "
					     "executed 1 row 61.0s SELECT * FROM t\n");
	s.record.seq = 0;
	s.record.rows_known = 0;
	s.record.outcome = (char *)"failed";
	s.record.sqlstate = (char *)"42P01";
	s.record.parent_statement_id = 3;
	s.statement.executions = 12;
	s.client = (Dbfence__Audit__V1__Client)DBFENCE__AUDIT__V1__CLIENT__INIT;
	s.client.address = (char *)"10.0.0.7";
	s.client.port = 5123;
	s.record.duration_us = 15000;
	CHECK_STR(
	    to_line(&s.record, &plain),
	    "22:13:20.123Z app@orders 10.0.0.7:5123 failed 42P01 15ms x12 > SELECT * FROM t\n");
}

static void test_line_decision(void)
{
	Dbfence__Audit__V1__Match match = DBFENCE__AUDIT__V1__MATCH__INIT, *matches[] = {&match};
	struct sample s;

	sample_statement(&s, "s", 1, "DROP TABLE t");
	s.record.rows_known = 0;
	s.record.outcome = (char *)"prevented";
	s.decision.action = (char *)"deny";
	s.decision.policy = (char *)"guard";
	s.decision.rule = (char *)"no-ddl";
	s.decision.mode = (char *)"enforce";
	CHECK_STR(to_line(&s.record, &plain), "22:13:20.123Z app@orders psql[4242] prevented deny "
					      "guard/no-ddl 1.23ms DROP TABLE t\n");
	s.decision.mode = (char *)"shadow";
	s.record.outcome = (char *)"executed";
	CHECK_STR(to_line(&s.record, &plain), "22:13:20.123Z app@orders psql[4242] executed would "
					      "deny guard/no-ddl 1.23ms DROP TABLE t\n");
	s.decision = (Dbfence__Audit__V1__Decision)DBFENCE__AUDIT__V1__DECISION__INIT;
	s.decision.action = (char *)"allow";
	match.policy = (char *)"p";
	match.rule = (char *)"r";
	match.action = (char *)"kill";
	match.mode = (char *)"shadow";
	s.decision.matches = matches;
	s.decision.n_matches = 1;
	CHECK_STR(
	    to_line(&s.record, &plain),
	    "22:13:20.123Z app@orders psql[4242] executed would kill p/r 1.23ms DROP TABLE t\n");
}

static void test_line_kinds(void)
{
	Dbfence__Audit__V1__Transaction transaction = DBFENCE__AUDIT__V1__TRANSACTION__INIT;
	Dbfence__Audit__V1__Session session = DBFENCE__AUDIT__V1__SESSION__INIT;
	Dbfence__Audit__V1__Agent agent = DBFENCE__AUDIT__V1__AGENT__INIT;
	Dbfence__Audit__V1__Gap gap = DBFENCE__AUDIT__V1__GAP__INIT;
	Dbfence__Audit__V1__Coverage coverage = DBFENCE__AUDIT__V1__COVERAGE__INIT;
	Dbfence__Audit__V1__PolicyChange change = DBFENCE__AUDIT__V1__POLICY_CHANGE__INIT;
	struct sample s;

	sample_statement(&s, "s", 1, "");
	s.record.kind = (char *)"transaction";
	transaction.state = (char *)"rolled_back";
	transaction.xid = 734;
	transaction.statements = 2;
	s.record.transaction = &transaction;
	CHECK_STR(to_line(&s.record, &plain), "22:13:20.123Z app@orders psql[4242] transaction "
					      "rolled_back xid 734 2 statements 1.23ms\n");
	s.record.kind = (char *)"session";
	session.event = (char *)"close";
	session.reason = (char *)"client left";
	session.statements = 1;
	s.record.session = &session;
	CHECK_STR(to_line(&s.record, &plain),
		  "22:13:20.123Z app@orders psql[4242] session close 1 statement: client left\n");
	s.record.kind = (char *)"gap";
	gap.reason = (char *)"ring_full";
	gap.records = 3;
	gap.executions = 40;
	gap.detail = (char *)"cpu 1";
	s.record.gap = &gap;
	CHECK_STR(to_line(&s.record, &plain),
		  "22:13:20.123Z gap ring_full 3 records 40 executions: cpu 1\n");
	s.record.kind = (char *)"agent";
	agent.event = (char *)"start";
	agent.version = (char *)"0.1";
	s.record.agent = &agent;
	CHECK_STR(to_line(&s.record, &plain), "22:13:20.123Z agent start 0.1\n");
	s.record.kind = (char *)"policy";
	change.generation = 4;
	change.policies = 2;
	change.rules = 9;
	change.enforcing = 1;
	s.record.policy_change = &change;
	CHECK_STR(to_line(&s.record, &plain),
		  "22:13:20.123Z policy generation 4: policies 2, rules 9, enforcing 1\n");
	s.record.kind = (char *)"coverage";
	coverage.object = (char *)"/usr/bin/postgres";
	coverage.state = (char *)"not_covered";
	coverage.detail = (char *)"unknown release";
	s.record.coverage = &coverage;
	CHECK_STR(to_line(&s.record, &plain),
		  "22:13:20.123Z coverage /usr/bin/postgres not_covered: unknown release\n");
	s.record.kind = (char *)"approval";
	CHECK_STR(to_line(&s.record, &plain), "22:13:20.123Z approval app@orders psql[4242]\n");
}

/* A record of any kind without the part that belongs to it. */
static void test_line_bare(void)
{
	static const char *const kinds[] = {"statement", "transaction", "session", "gap", "agent",
					    "policy",	 "coverage",	"",	   NULL};
	Dbfence__Audit__V1__Record record = DBFENCE__AUDIT__V1__RECORD__INIT;

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		record.kind = (char *)kinds[i];
		CHECK(strchr(to_line(&record, &plain), '\n'));
	}
}

static unsigned columns_of(const char *line)
{
	const unsigned char *at = (const unsigned char *)line, *end = at + strlen(line) - 1;
	unsigned columns = 0, len;
	uint32_t cp;

	for (; at < end; at += len) {
		len = text_utf8(at, end, &cp);
		if (!CHECK(len))
			break;
		columns += text_width(cp);
	}
	return columns;
}

static void test_line_width(void)
{
	static const char *const texts[] = {
	    "SELECT "
	    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	    "aaaa",
	    "SELECT "
	    "'\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2"
	    "\xe5\xad"
	    "\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc"
	    "\xa2\xe5\xad\x97"
	    "\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2"
	    "\xe5\xad\x97'",
	    "SELECT "
	    "'\033\033\033\033\033\033\033\033\033\033\033\033\033\033\033\033\033\033\033\033\033"
	    "\033\033\033'",
	};
	struct line_opts opts = {0};
	struct sample s;

	for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		sample_statement(&s, "s", 1, texts[i]);
		for (opts.width = 90; opts.width < 130; opts.width++) {
			const char *line = to_line(&s.record, &opts);
			unsigned columns = columns_of(line);

			CHECK_MSG(columns <= opts.width, "width %u gives %u: %s", opts.width,
				  columns, line);
			CHECK(columns + 5 >= opts.width || !strstr(line, "..."));
		}
		opts.width = 0;
		CHECK(!strstr(to_line(&s.record, &opts), "..."));
		opts.width = 10;
		CHECK(strstr(to_line(&s.record, &opts), "SELECT"));
	}
	sample_statement(&s, "s", 1, "SELECT 1");
	s.statement.length = 1008;
	CHECK(strstr(to_line(&s.record, &plain), "SELECT 1 [+1000 bytes]\n"));
}

static void test_line_hostile(void)
{
	static const char evil[] = "x\033]0;owned\007\033[2J\r\n\t\x7f\xc2\x9b"
				   "31m\xe2\x80\xae\xff\xe2\x80\x8bz";
	Dbfence__Audit__V1__Record record = DBFENCE__AUDIT__V1__RECORD__INIT;
	struct record_arena arena = {0};
	struct line_opts opts = {0};
	struct sample s;
	const char *line;

	sample_statement(&s, evil, 1, evil);
	s.record.db_user = s.record.database = s.record.outcome = s.record.sqlstate = (char *)evil;
	s.client.exe = (char *)evil;
	s.decision.action = s.decision.policy = s.decision.rule = (char *)evil;
	for (opts.width = 0; opts.width < 300; opts.width += 7) {
		line = to_line(&s.record, &opts);
		for (const char *at = line; *at; at++)
			CHECK(((unsigned char)*at >= 0x20 && (unsigned char)*at < 0x7f) ||
			      (*at == '\n' && !at[1]));
	}
	CHECK(strstr(line, "x\\x1b]0;owned\\x07\\x1b[2J \\x7f\\x9b31m\\u{202e}\\xff\\u{200b}z"));
	/* The same for every kind, every field hostile. */
	sample_fill(&arena, &record.base);
	record.kind = (char *)evil;
	line = to_line(&record, &plain);
	CHECK(!strchr(line, '\033') && strchr(line, '\n') == line + strlen(line) - 1);
	record_arena_fini(&arena);
}

static void test_line_color(void)
{
	struct line_opts opts = {.color = true};
	struct sample s;
	const char *line;
	int open = 0;

	sample_statement(&s, "s", 1, "DROP TABLE t");
	s.record.outcome = (char *)"prevented";
	s.decision.action = (char *)"deny";
	line = to_line(&s.record, &opts);
	for (const char *at = line; (at = strchr(at, '\033')); at++)
		open = strncmp(at, "\033[0m", 4) ? 1 : 0;
	CHECK(strstr(line, "\033[1;33mprevented\033[0m"));
	CHECK_INT(open, 0);
	/* Neither red nor green, in any record. */
	CHECK(!strstr(line, "31m") && !strstr(line, "32m"));
	CHECK(!strchr(to_line(&s.record, &plain), '\033'));
}

static const struct test_case cases[] = {
    {"line_statement", test_line_statement}, {"line_decision", test_line_decision},
    {"line_kinds", test_line_kinds},	     {"line_bare", test_line_bare},
    {"line_width", test_line_width},	     {"line_hostile", test_line_hostile},
    {"line_color", test_line_color},
};

TEST_MAIN(cases)
