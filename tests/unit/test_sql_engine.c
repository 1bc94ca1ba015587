// SPDX-License-Identifier: Apache-2.0
/* The engine: caches that never mix up facts, offsets, limits, and texts that have crashed or slowed parsers. */
#include "../lib/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/limits.h"
#include "sql/sql.h"

static const uint8_t key[16] = "a key for tests";
static struct sql_engine *engine;

static const struct sql_facts *analyze(const char *sql)
{
	return sql_analyze(engine, sql, strlen(sql), true);
}

static void fresh_engine(unsigned entries)
{
	sql_engine_free(engine);
	engine = sql_engine_new(entries, key);
}

static struct sql_stats stats(void)
{
	struct sql_stats s;

	sql_engine_stats(engine, &s);
	return s;
}

static void test_exact_cache(void)
{
	const struct sql_facts *facts;

	fresh_engine(64);
	analyze("SELECT a FROM t WHERE b = 'x'");
	facts = analyze("SELECT a FROM t WHERE b = 'x'");
	CHECK_INT(stats().exact_hits, 1);
	CHECK_INT(stats().parses, 1);
	CHECK_STR(facts->masked, "SELECT a FROM t WHERE b = ?");
	CHECK_INT(facts->stmt_cnt, 1);
	CHECK_STR(facts->stmts[0].objects[0].name, "t");
	/* Syntax errors are remembered by bytes too. */
	analyze("SELEC 1");
	facts = analyze("SELEC 1");
	CHECK_INT(stats().exact_hits, 2);
	CHECK_INT(stats().parse_errors, 1);
	CHECK_INT(facts->unknown, SQL_UNKNOWN_SYNTAX);
	CHECK(facts->error != NULL);
	CHECK(facts->effects & SQL_BIT(SQL_UNKNOWN));
}

static void test_shape_cache(void)
{
	const struct sql_facts *facts;

	fresh_engine(64);
	analyze("SELECT a FROM t WHERE b = 1 /*traceparent='1'*/");
	facts = analyze("SELECT a FROM t WHERE b = 22 /*traceparent='2'*/");
	CHECK_INT(stats().shape_hits, 1);
	CHECK_INT(stats().parses, 1);
	/* What belongs to the bytes is this text's own. */
	CHECK_STR(facts->masked, "SELECT a FROM t WHERE b = ? /*traceparent='2'*/");
	CHECK_STR(facts->tags, "traceparent='2'");
	CHECK_INT(facts->stmts[0].len, strlen("SELECT a FROM t WHERE b = 22"));
	/* A short one stays known by its shape, so that texts with literals of their own push nothing out. */
	for (unsigned i = 2; i <= 4; i++) {
		analyze("SELECT a FROM t WHERE b = 22 /*traceparent='2'*/");
		CHECK_INT(stats().shape_hits, i);
	}
	CHECK_INT(stats().exact_hits, 0);
	CHECK_INT(stats().parses, 1);
}

/* A long text is known by its bytes from the third time on, without lexing. */
static void test_long_text_by_bytes(void)
{
	const struct sql_facts *facts;
	char text[2048];
	int n;

	fresh_engine(64);
	for (unsigned i = 0; i < 4; i++) {
		n = snprintf(text, sizeof(text), "SELECT a FROM t WHERE b = %u /*traceparent='%0900u'*/", i ? 22 : 1, 7);
		CHECK(n > 0);
		facts = analyze(text);
	}
	CHECK_INT(stats().parses, 1);
	CHECK_INT(stats().shape_hits, 2);
	CHECK_INT(stats().exact_hits, 1);
	CHECK_INT(strlen(facts->tags), strlen("traceparent=''") + 900);
}

/* Equal ids mean equal facts; with comments the masked text is the text's own. */
static void test_facts_id(void)
{
	uint64_t id;

	fresh_engine(64);
	id = analyze("SELECT a FROM t WHERE b = 1")->id;
	CHECK(id);
	CHECK(!analyze("SELECT a FROM t WHERE b = 1")->own_text);
	CHECK_INT(analyze("SELECT a FROM t WHERE b = 22")->id, id);
	id = analyze("SELECT a FROM t WHERE b = 22 /* c */")->id;
	CHECK_INT(analyze("SELECT a FROM t WHERE b = 22 /* d */")->id, id);
	CHECK(analyze("SELECT a FROM t WHERE b = 22 /* d */")->own_text);
	CHECK(analyze("SELECT a FROM t WHERE c = 1")->id != id);
	/* Literals that matter: each text has an id of its own. */
	id = analyze("SET ROLE a")->id;
	CHECK(id && analyze("SET ROLE b")->id != id);
	CHECK_INT(analyze("SET ROLE a")->id, id);
	CHECK(!sql_unknown_facts(engine, SQL_UNKNOWN_TRUNCATED, 0, "SELECT", 6)->id);
}

/* Pairs of one shape whose facts differ: neither may get the other's. */
static void test_literal_dependence(void)
{
	static const char *const pairs[][2] = {
		{ "DELETE FROM t WHERE 1=2", "DELETE FROM t WHERE 1=1" },
		{ "DELETE FROM t WHERE 'a'='b'", "DELETE FROM t WHERE 'a'='a'" },
		{ "DELETE FROM t WHERE n LIKE 'a%'", "DELETE FROM t WHERE n LIKE '%'" },
		{ "DELETE FROM t WHERE a+1=a+2", "DELETE FROM t WHERE a+1=a+1" },
		{ "DELETE FROM t WHERE id=7 OR 1=2", "DELETE FROM t WHERE id=7 OR 1=1" },
		{ "DELETE FROM t WHERE 'f'::bool", "DELETE FROM t WHERE 't'::bool" },
		{ "EXPLAIN (ANALYZE 0) DELETE FROM t", "EXPLAIN (ANALYZE 1) DELETE FROM t" },
		{ "EXPLAIN (ANALYZE 'off') DELETE FROM t", "EXPLAIN (ANALYZE 'on') DELETE FROM t" },
		{ "DELETE FROM t WHERE CASE WHEN 1=2 THEN true ELSE id=1 END",
		  "DELETE FROM t WHERE CASE WHEN 1=1 THEN true ELSE id=1 END" },
		{ "DELETE FROM t WHERE id = ANY (ARRAY[a+1]) OR (2 < 1) IS TRUE",
		  "DELETE FROM t WHERE id = ANY (ARRAY[a+1]) OR (1 < 2) IS TRUE" },
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		for (unsigned first = 0; first < 2; first++) {
			const struct sql_facts *facts;
			enum sql_selective selective;
			uint32_t effects;

			fresh_engine(64);
			facts = analyze(pairs[i][first]);
			CHECK_MSG(facts->literal_dependent, "%s", pairs[i][first]);
			selective = facts->stmts[0].selective;
			effects = facts->effects;
			facts = analyze(pairs[i][!first]);
			CHECK_MSG(facts->stmts[0].selective != selective || facts->effects != effects, "%s",
				  pairs[i][!first]);
			CHECK_INT(stats().shape_hits, 0);
		}
	}
}

static void test_always_literal_dependent(void)
{
	static const char *const rows[] = {
		"SET a = 1", "SET ROLE x", "DO 'x'", "COPY t TO '/x'", "EXECUTE p(1)", "ALTER SYSTEM SET a = 1",
		"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'x'", "SELECT query_to_xml('x', true, true, '')",
		"LOAD 'x'", "CREATE LANGUAGE 'x'", "SELECT * FROM dblink('x') AS t(a int)", "SELECT set_config('a', 'b', true)",
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_MSG(analyze(rows[i])->literal_dependent, "%s", rows[i]);
	CHECK(!analyze("SELECT * FROM t WHERE id = 5 LIMIT 3")->literal_dependent);
	CHECK(!analyze("DELETE FROM t WHERE id = 5")->literal_dependent);
}

/* Escapes can be wrong, which the shape does not show. */
static void test_escapes_are_not_cached_by_shape(void)
{
	fresh_engine(64);
	CHECK_INT(analyze("SELECT E'a\\b'")->unknown, SQL_KNOWN);
	CHECK_INT(analyze("SELECT E'\\xff\\xfe'")->unknown, SQL_UNKNOWN_SYNTAX);
	CHECK_INT(analyze("SELECT U&'\0041'")->unknown, SQL_KNOWN);
	CHECK_INT(analyze("SELECT U&'\00'")->unknown, SQL_UNKNOWN_SYNTAX);
	CHECK_INT(stats().shape_hits, 0);
}

/* standard_conforming_strings is part of the question. */
static void test_string_modes_do_not_mix(void)
{
	static const char sql[] = "SELECT 'a\\'; DROP TABLE t --'";

	fresh_engine(64);
	for (unsigned round = 0; round < 3; round++) {
		CHECK_INT(sql_analyze(engine, sql, strlen(sql), true)->stmt_cnt, 2);
		CHECK_INT(sql_analyze(engine, sql, strlen(sql), false)->stmt_cnt, 1);
	}
}

static void test_cache_is_bounded(void)
{
	char sql[128];

	fresh_engine(32);
	for (unsigned i = 0; i < 2000; i++) {
		const struct sql_facts *facts;

		snprintf(sql, sizeof(sql), "SELECT a%u FROM t%u WHERE b = %u", i, i % 77, i);
		facts = analyze(sql);
		snprintf(sql, sizeof(sql), "a%u", i);
		CHECK_STR(facts->stmts[0].objects[0].columns[0], sql);
	}
	CHECK_INT(stats().calls, 2000);
	CHECK_INT(stats().parses, 2000);
	/* What is asked for again and again stays, whatever else comes by. */
	analyze("SELECT hot FROM t");
	for (unsigned i = 0; i < 500; i++) {
		snprintf(sql, sizeof(sql), "SELECT b%u FROM t", i);
		analyze(sql);
		analyze("SELECT hot FROM t");
	}
	CHECK_INT(stats().exact_hits, 500);
}

static void test_offsets(void)
{
	static const char sql[] = " SELECT 1 ; ;-- x\n DELETE FROM t WHERE id = 'a;b' /* z */;"
				  "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END; COMMIT";
	const struct sql_facts *facts;

	fresh_engine(64);
	for (unsigned round = 0; round < 3; round++) {
		facts = analyze(sql);
		if (!CHECK_INT(facts->stmt_cnt, 4))
			return;
		CHECK(!strncmp(sql + facts->stmts[0].off, "SELECT 1", facts->stmts[0].len));
		CHECK_INT(facts->stmts[0].len, strlen("SELECT 1"));
		CHECK_INT(facts->stmts[1].len, strlen("DELETE FROM t WHERE id = 'a;b'"));
		CHECK(!strncmp(sql + facts->stmts[1].off, "DELETE", 6));
		CHECK(!strncmp(sql + facts->stmts[2].off, "CREATE", 6));
		CHECK(!strncmp(sql + facts->stmts[2].off + facts->stmts[2].len - 3, "END", 3));
		CHECK(!strcmp(sql + facts->stmts[3].off, "COMMIT"));
	}
}

static void test_union_of_statements(void)
{
	const struct sql_facts *facts = analyze("SELECT a FROM t; DROP TABLE u; NOTIFY x");

	CHECK_INT(facts->effects, SQL_BIT(SQL_READ) | SQL_BIT(SQL_SCHEMA_DESTROY) | SQL_BIT(SQL_NOTIFY));
	CHECK_INT(facts->stmts[0].effects, SQL_BIT(SQL_READ));
	CHECK_STR(facts->stmts[1].command, "DROP TABLE");
}

static void test_fingerprint(void)
{
	char first[17];

	snprintf(first, sizeof(first), "%s", analyze("SELECT a FROM t WHERE b = 1")->fingerprint);
	CHECK_INT(strlen(first), 16);
	CHECK_STR(analyze("SELECT a  FROM t WHERE b = 2")->fingerprint, first);
	CHECK(strcmp(analyze("SELECT a FROM u WHERE b = 2")->fingerprint, first) != 0);
	CHECK_INT(strlen(analyze("SELEC")->fingerprint), 16);
}

static void test_unknown_facts(void)
{
	const struct sql_facts *facts;

	facts = sql_unknown_facts(engine, SQL_UNKNOWN_TRUNCATED, SQL_BIT(SQL_DELETE), "DELETE FROM t WHERE x = 'se", 27);
	CHECK_INT(facts->unknown, SQL_UNKNOWN_TRUNCATED);
	CHECK_INT(facts->effects, SQL_BIT(SQL_DELETE) | SQL_BIT(SQL_UNKNOWN));
	CHECK_STR(facts->masked, "DELETE FROM t WHERE x = ?");
	CHECK_INT(facts->stmt_cnt, 0);
	CHECK(facts->literal_dependent);
	facts = sql_unknown_facts(engine, SQL_UNKNOWN_EMPTY_SOURCE, 0, NULL, 0);
	CHECK_STR(facts->masked, "");
	CHECK_STR(facts->tags, "");
	CHECK_INT(facts->effects, SQL_BIT(SQL_UNKNOWN));
}

static void test_names(void)
{
	for (unsigned i = 0; i < SQL_EFFECT_MAX; i++)
		CHECK_INT(sql_effect_from_name(sql_effect_name((enum sql_effect)i)), i);
	for (unsigned i = 0; i < SQL_RISK_MAX; i++)
		CHECK_INT(sql_func_risk_from_name(sql_func_risk_name((enum sql_func_risk)i)), i);
	for (unsigned i = 0; i < SQL_OBJ_KIND_MAX; i++)
		CHECK(strcmp(sql_object_kind_name((enum sql_object_kind)i), "invalid") != 0);
	for (unsigned i = 0; i < SQL_UNKNOWN_MAX; i++)
		CHECK(strcmp(sql_unknown_name((enum sql_unknown)i), "invalid") != 0);
	CHECK_INT(sql_effect_from_name("dropp"), SQL_EFFECT_MAX);
	CHECK_INT(sql_effect_from_name(NULL), SQL_EFFECT_MAX);
	CHECK_INT(sql_func_risk_from_name(""), SQL_RISK_MAX);
	CHECK_STR(sql_effect_name((enum sql_effect)99), "invalid");
}

/* @head, @part repeated @cnt times, @tail; analysed within @max_ms. */
static enum sql_unknown repeated(const char *head, const char *part, unsigned cnt, const char *tail, unsigned max_ms)
{
	size_t len = strlen(head) + strlen(part) * cnt + strlen(tail);
	char *sql = malloc(len + 1);
	enum sql_unknown unknown;
	uint64_t start, took;
	char *p = sql;

	if (!CHECK(sql != NULL))
		return SQL_UNKNOWN_MAX;
	p += snprintf(p, len + 1, "%s", head);
	for (unsigned i = 0; i < cnt; i++) {
		memcpy(p, part, strlen(part));
		p += strlen(part);
	}
	memcpy(p, tail, strlen(tail) + 1);
	start = clock_mono_ns();
	unknown = sql_analyze(engine, sql, len, true)->unknown;
	took = clock_mono_ns() - start;
#ifdef __SANITIZE_ADDRESS__
	(void)took;	/* AddressSanitizer walks a deep foreign stack again and again: its time says nothing */
	(void)max_ms;
#else
	CHECK_MSG(took < max_ms * NS_PER_MS, "%s%s... x %u took %llu ms", head, part, cnt,
		  (unsigned long long)(took / NS_PER_MS));
#endif
	free(sql);
	return unknown;
}

/* Inputs that made libpg_query crash or take seconds. The times are generous for sanitizers and busy machines. */
static void test_bombs_are_refused_fast(void)
{
	CHECK_INT(repeated("SELECT 1", "+1", 30000, "", 200), SQL_UNKNOWN_DEPTH);
	CHECK_INT(repeated("SELECT 1", "+1", 100000, "", 200), SQL_UNKNOWN_TOO_LONG);
	CHECK_INT(repeated("TABLE a", " UNION TABLE b", 40000, "", 200), SQL_UNKNOWN_TOO_LONG);
	CHECK_INT(repeated("(TABLE a)", "UNION(TABLE b)", 4600, "", 3000), SQL_KNOWN);
	CHECK_INT(repeated("SELECT 1 ", "+", 20000, " 1", 200), SQL_UNKNOWN_OPERATOR_RUN);
	CHECK_INT(repeated("SELECT 1 ", "+", 40000, " 1", 200), SQL_UNKNOWN_OPERATOR_RUN);
	CHECK_INT(repeated("SELECT 1 ", "/*", 10000, "", 200), SQL_UNKNOWN_OPERATOR_RUN);
	CHECK_INT(repeated("SELECT 1 ", "/*", 100000, "", 200), SQL_UNKNOWN_TOO_LONG);
	CHECK_INT(repeated("", "SELECT 1;", 100000, "", 200), SQL_UNKNOWN_TOO_LONG);
	CHECK_INT(repeated("", "SELECT 1;", 7000, "", 200), SQL_UNKNOWN_TOO_MANY);
}

static void test_deepest_allowed(void)
{
	CHECK_INT(repeated("SELECT 1", "+1", 4990, "", 3000), SQL_KNOWN);
	CHECK_INT(repeated("SELECT a", "::text", 4990, "", 3000), SQL_KNOWN);
	CHECK_INT(repeated("SELECT ", "(", 2000, "", 3000), SQL_UNKNOWN_SYNTAX);
	CHECK_INT(repeated("SELECT ", "NOT ", 16000, "a", 3000), SQL_UNKNOWN_DEPTH);
	CHECK_INT(repeated("SELECT ", "- ", 4900, "a", 3000), SQL_KNOWN);
	CHECK_INT(repeated("", "SELECT 1;", 1000, "", 3000), SQL_KNOWN);
}

static void test_too_many_names(void)
{
	char *sql = malloc(LIMIT_SQL_PARSE_BYTES), *p = sql;
	const struct sql_facts *facts;
	uint64_t start;

	if (!CHECK(sql != NULL))
		return;
	p += snprintf(p, 100, "SELECT c0 FROM t0");
	for (unsigned i = 1; i < 600; i++)
		p += snprintf(p, 100, ", t%u", i);
	facts = analyze(sql);
	CHECK_INT(facts->unknown, SQL_UNKNOWN_TOO_MANY);
	CHECK(facts->effects & SQL_BIT(SQL_UNKNOWN));
	CHECK(facts->effects & SQL_BIT(SQL_READ));
	p = sql + snprintf(sql, 100, "SELECT c0");
	for (unsigned i = 1; i < 500; i++)
		p += snprintf(p, 100, ", c%u", i);
	p += snprintf(p, 100, " FROM t0");
	for (unsigned i = 1; i < 500; i++)
		p += snprintf(p, 100, ", t%u", i);
	start = clock_mono_ns();
	CHECK_INT(analyze(sql)->unknown, SQL_UNKNOWN_TOO_MANY);
	CHECK(clock_mono_ns() - start < 1000 * NS_PER_MS);
	p = sql + snprintf(sql, 100, "SELECT c0");
	for (unsigned i = 1; i < 600; i++)
		p += snprintf(p, 100, ", c%u", i);
	snprintf(p, 100, " FROM t");
	CHECK_INT(analyze(sql)->unknown, SQL_UNKNOWN_TOO_MANY);
	free(sql);
}

static const struct sql_facts *read_as(unsigned mode, const char *text)
{
	return sql_analyze_mode(engine, text, strlen(text), true, mode);
}

static enum sql_func_risk worst_risk(const struct sql_facts *facts)
{
	enum sql_func_risk worst = SQL_RISK_NONE;

	for (unsigned i = 0; i < facts->stmt_cnt; i++)
		for (unsigned k = 0; k < facts->stmts[i].function_cnt; k++)
			if (facts->stmts[i].functions[k].risk == SQL_RISK_FILE)
				worst = SQL_RISK_FILE;
	return worst;
}

/* Texts that are expressions or assignments of PL/pgSQL, with what calls pg_read_file in each place that can. */
static void test_modes_find_what_is_called(void)
{
	static const struct {
		unsigned mode;
		const char *text;
	} rows[] = {
		{ SQL_MODE_EXPRESSION, "pg_read_file('/etc/passwd') || 'x'" },
		{ SQL_MODE_EXPRESSION, "a FROM t WHERE b = pg_read_file(c)" },
		{ SQL_MODE_EXPRESSION, "a = pg_read_file('x')" },
		{ SQL_MODE_EXPRESSION, "(SELECT pg_read_file('x'))" },
		{ SQL_MODE_ASSIGN1, "x := pg_read_file('/etc/passwd')" },
		{ SQL_MODE_ASSIGN1, "x = pg_read_file('/etc/passwd')" },
		{ SQL_MODE_ASSIGN1, "x := (SELECT pg_read_file('a') FROM t)" },
		{ SQL_MODE_ASSIGN1, "x := count(*) FROM t WHERE a = pg_read_file('b')" },
		{ SQL_MODE_ASSIGN1, "x[length(pg_read_file('b'))] := 1" },
		{ SQL_MODE_ASSIGN2, "r.\"a=b\" := y = pg_read_file('b')" },
		{ SQL_MODE_ASSIGN3, "a.b.c[1:2] := pg_read_file('b')" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const unsigned modes[] = { rows[i].mode, SQL_MODE_ANY, 0xff };

		for (unsigned k = 0; k < 3; k++) {
			const struct sql_facts *facts = read_as(modes[k], rows[i].text);

			CHECK_MSG(facts->unknown == SQL_KNOWN && worst_risk(facts) == SQL_RISK_FILE, "%s in mode %u: %s",
				  rows[i].text, modes[k], sql_unknown_name(facts->unknown));
		}
		CHECK_INT(analyze(rows[i].text)->unknown, rows[i].text[0] == '(' ? SQL_KNOWN : SQL_UNKNOWN_SYNTAX);
	}
}

static void test_modes_keep_the_text_as_it_came(void)
{
	const struct sql_facts *facts;

	for (unsigned round = 0; round < 3; round++) {
		facts = read_as(SQL_MODE_ASSIGN1, "x := f('secret') /*a='b'*/");
		CHECK_STR(facts->masked, "x := f(?) /*a='b'*/");
		CHECK_INT(facts->masked_len, strlen(facts->masked));
		CHECK_STR(facts->tags, "a='b'");
		CHECK_INT(facts->stmt_cnt, 1);
		CHECK_INT(facts->stmts[0].off, 0);
		CHECK_INT(facts->stmts[0].len, strlen("x := f('secret')"));
		CHECK_STR(facts->stmts[0].functions[0].name, "f");
		facts = read_as(SQL_MODE_EXPRESSION, "a + 1");
		CHECK_STR(facts->masked, "a + ?");
		CHECK_INT(facts->stmts[0].len, 5);
		CHECK(!(facts->effects & SQL_BIT(SQL_UNKNOWN)));
	}
}

/* Both readings count: neither hides what the other one does. */
static void test_modes_are_joined_when_not_known(void)
{
	const struct sql_facts *facts = read_as(SQL_MODE_ANY, "set x = 1");
	bool set = false, select = false;

	CHECK_INT(facts->unknown, SQL_KNOWN);
	for (unsigned i = 0; i < facts->stmt_cnt; i++) {
		set |= !strcmp(facts->stmts[i].command, "SET");
		select |= !strcmp(facts->stmts[i].command, "SELECT");
		CHECK(facts->stmts[i].off + facts->stmts[i].len <= 9);
	}
	CHECK(set && select && facts->effects & SQL_BIT(SQL_SESSION));
	CHECK_INT(read_as(SQL_MODE_STATEMENTS, "set x = 1")->stmt_cnt, 1);
	facts = read_as(SQL_MODE_ANY, "x := 1; DROP TABLE t");
	CHECK(facts->effects & SQL_BIT(SQL_SCHEMA_DESTROY));
	facts = read_as(SQL_MODE_ANY, "DROP TABLE t");
	CHECK(facts->stmt_cnt == 1 && facts->effects == SQL_BIT(SQL_SCHEMA_DESTROY));
	/* What no expression can begin with is not tried as one. */
	fresh_engine(64);
	read_as(SQL_MODE_ANY, "  SELECT a FROM t");
	CHECK_INT(stats().calls, 1);
}

static void test_modes_that_do_not_fit(void)
{
	const struct sql_facts *facts = read_as(SQL_MODE_ASSIGN1, "a + 1");
	char *text = malloc(LIMIT_SQL_PARSE_BYTES + 1);

	CHECK_INT(facts->unknown, SQL_UNKNOWN_SYNTAX);
	CHECK_STR(facts->masked, "a + ?");
	CHECK_INT(read_as(SQL_MODE_EXPRESSION, "x := 1")->unknown, SQL_UNKNOWN_SYNTAX);
	facts = read_as(SQL_MODE_ANY, "SELEC a b c");
	CHECK_INT(facts->unknown, SQL_UNKNOWN_SYNTAX);
	CHECK_INT(facts->effects, SQL_BIT(SQL_UNKNOWN));
	facts = read_as(SQL_MODE_TYPE_NAME, "numeric(10, 2)");
	CHECK_INT(facts->unknown, SQL_KNOWN);
	CHECK_INT(facts->stmt_cnt, 0);
	CHECK_STR(facts->masked, "numeric(?, ?)");
	CHECK_INT(sql_analyze_mode(engine, "a\0", 3, true, SQL_MODE_EXPRESSION)->unknown, SQL_UNKNOWN_NUL);
	if (!CHECK(text))
		return;
	memset(text, 'a', LIMIT_SQL_PARSE_BYTES + 1);
	CHECK(sql_analyze_mode(engine, text, LIMIT_SQL_PARSE_BYTES, true, SQL_MODE_EXPRESSION)->unknown != SQL_KNOWN);
	CHECK_INT(sql_analyze_mode(engine, text, LIMIT_SQL_PARSE_BYTES + 1, true, SQL_MODE_ANY)->unknown,
		  SQL_UNKNOWN_TOO_LONG);
	free(text);
}

/* What a walsender gets. The slot is NULL where there is none; ALL of the effects. */
static void test_replication_commands(void)
{
	static const struct {
		const char *text, *command, *slot;
		uint32_t effects;
	} rows[] = {
#define REPL SQL_BIT(SQL_REPLICATION)
		{ "IDENTIFY_SYSTEM", "IDENTIFY_SYSTEM", NULL, REPL },
		{ "  \n\tIDENTIFY_SYSTEM;", "IDENTIFY_SYSTEM", NULL, REPL },
		{ "BASE_BACKUP ( LABEL 'x', TARGET 'client')", "BASE_BACKUP", NULL, REPL | SQL_BIT(SQL_BULK_EXPORT) },
		{ "BASE_BACKUP(LABEL 'x')", "BASE_BACKUP", NULL, REPL | SQL_BIT(SQL_BULK_EXPORT) },
		{ "TIMELINE_HISTORY 3", "TIMELINE_HISTORY", NULL, REPL },
		{ "UPLOAD_MANIFEST", "UPLOAD_MANIFEST", NULL, REPL },
		{ "START_REPLICATION 0/0", "START_REPLICATION", NULL, REPL },
		{ "START_REPLICATION PHYSICAL 0/0", "START_REPLICATION", NULL, REPL },
		{ "START_REPLICATION SLOT a_1 PHYSICAL 0/0 TIMELINE 1", "START_REPLICATION", "a_1", REPL },
		{ "START_REPLICATION SLOT \"a\"\"b\" LOGICAL 0/0 (\"p\" 'v')", "START_REPLICATION", "a\"b", REPL },
		{ "CREATE_REPLICATION_SLOT \"s\" TEMPORARY PHYSICAL", "CREATE_REPLICATION_SLOT", "s", REPL },
		{ "DROP_REPLICATION_SLOT s WAIT", "DROP_REPLICATION_SLOT", "s", REPL },
		{ "READ_REPLICATION_SLOT s", "READ_REPLICATION_SLOT", "s", REPL },
		{ "ALTER_REPLICATION_SLOT s (FAILOVER)", "ALTER_REPLICATION_SLOT", "s", REPL },
		/* Not understood */
		{ "DROP_REPLICATION_SLOT", NULL, NULL, REPL },
		{ "DROP_REPLICATION_SLOT \"s", NULL, NULL, REPL },
		{ "DROP_REPLICATION_SLOT \"\"", NULL, NULL, REPL },
		{ "START_REPLICATION SLOT 'a'", NULL, NULL, REPL },
		{ "DROP_REPLICATION_SLOT aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL, NULL,
		  REPL },
		{ "NEW_COMMAND x", NULL, NULL, REPL },
		{ "BASE_BACKUPS", NULL, NULL, REPL },
		/* SQL */
		{ "base_backup", NULL, NULL, 0 },
		{ "/* */ BASE_BACKUP", NULL, NULL, 0 },
		{ "_A", NULL, NULL, 0 },
		{ "SHOW port", "SHOW", "port", SQL_BIT(SQL_READ) },
		{ "DROP TABLE t", "DROP TABLE", "t", SQL_BIT(SQL_SCHEMA_DESTROY) },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *text = rows[i].text;
		const struct sql_facts *facts = sql_analyze_walsender(engine, text, strlen(text), true);
		const struct sql_stmt *stmt = facts->stmts;
		uint32_t unknown = rows[i].command ? 0 : SQL_BIT(SQL_UNKNOWN);

		CHECK_MSG(facts->effects == (rows[i].effects | unknown), "%s: effects %x", text, facts->effects);
		CHECK_MSG(facts->unknown == (unknown ? SQL_UNKNOWN_SYNTAX : SQL_KNOWN), "%s: %s", text,
			  sql_unknown_name(facts->unknown));
		CHECK_MSG(strlen(facts->fingerprint) == 16, "%s: %s", text, facts->fingerprint);
		if (unknown || !CHECK_MSG(facts->stmt_cnt == 1, "%s: %u statements", text, facts->stmt_cnt))
			continue;
		CHECK_STR(stmt->command, rows[i].command);
		CHECK_INT(stmt->effects, rows[i].effects);
		CHECK_MSG(!stmt->object_cnt == !rows[i].slot &&
				  (!rows[i].slot || !strcmp(stmt->objects[0].name, rows[i].slot)),
			  "%s: slot %s", text, stmt->object_cnt ? stmt->objects[0].name : "none");
	}
	CHECK_STR(sql_analyze_walsender(engine, "BASE_BACKUP (LABEL 'secret')", 28, true)->masked,
		  "BASE_BACKUP (LABEL ?)");
}

static bool effects_of(const char *text, bool standard, unsigned mode, uint32_t effect)
{
	return sql_analyze_mode(engine, text, strlen(text), standard, mode)->effects & SQL_BIT(effect);
}

/* What was parsed when standard_conforming_strings were others: read both ways, so that the stronger reading decides. */
static void test_quotes_are_read_both_ways(void)
{
	static const char text[] = "WITH x AS (SELECT '\\'' ), d AS (DELETE FROM t RETURNING 1) SELECT 1 --') SELECT 1";
	static const char expression[] = "f('\\'' || (SELECT a FROM s) --')\n";
	const struct sql_facts *facts;

	for (unsigned standard = 0; standard < 2; standard++) {
		CHECK(effects_of(text, standard, SQL_MODE_STATEMENTS | SQL_MODE_ANY_QUOTES, SQL_DELETE));
		CHECK(effects_of(text, standard, SQL_MODE_ANY | SQL_MODE_ANY_QUOTES, SQL_DELETE));
		CHECK_INT(effects_of(text, standard, SQL_MODE_STATEMENTS, SQL_DELETE), !standard);
		facts = sql_analyze_mode(engine, text, strlen(text), standard, SQL_MODE_ANY_QUOTES);
		CHECK_INT(facts->unknown, SQL_KNOWN);
		CHECK_INT(facts->stmt_cnt, 2);
		CHECK(facts->by_quotes);
		CHECK_INT(facts->id, 0);
		CHECK(sql_analyze_mode(engine, text, strlen(text), standard, SQL_MODE_STATEMENTS)->by_quotes);
		facts = sql_analyze_mode(engine, expression, strlen(expression), standard,
					 SQL_MODE_EXPRESSION | SQL_MODE_ANY_QUOTES);
		CHECK(facts->by_quotes);
	}
}

static void test_the_reading_that_is_none_is_ignored(void)
{
	static const char path[] = "INSERT INTO t VALUES ('C:\\dir\\')", quote[] = "SELECT 'it\\'s', a FROM t";
	const struct sql_facts *facts;

	for (unsigned standard = 0; standard < 2; standard++) {
		facts = sql_analyze_mode(engine, path, strlen(path), standard, SQL_MODE_ANY_QUOTES);
		CHECK_INT(facts->unknown, SQL_KNOWN);
		CHECK_INT(facts->stmt_cnt, 1);
		CHECK_STR(facts->masked, "INSERT INTO t VALUES (?)");
		CHECK(facts->by_quotes);
		facts = sql_analyze_mode(engine, quote, strlen(quote), standard, SQL_MODE_ANY_QUOTES);
		CHECK_INT(facts->unknown, SQL_KNOWN);
		CHECK_STR(facts->masked, "SELECT ?, a FROM t");
	}
	/* The parser's gate reads as the session reads now. */
	CHECK_INT(sql_analyze_mode(engine, quote, strlen(quote), true, SQL_MODE_STATEMENTS)->unknown, SQL_UNKNOWN_SYNTAX);
	facts = sql_analyze_mode(engine, "SELEC '\\'", 9, true, SQL_MODE_ANY_QUOTES);
	CHECK_INT(facts->unknown, SQL_UNKNOWN_SYNTAX);
	CHECK(facts->error != NULL);
}

/* One reading is refused by the lexer: the other's statements are not lost with it. */
static void test_the_reading_that_is_refused_hides_nothing(void)
{
	static const char *const frames[] = { "DELETE FROM t WHERE a = '\\' --%s'\n", "DELETE FROM t WHERE a = 'x\\'' --' %s" };
	char run[LIMIT_SQL_OPERATOR_RUN + 8], text[256];

	memset(run, '+', sizeof(run) - 1);
	run[sizeof(run) - 1] = '\0';
	for (unsigned i = 0; i < 4; i++) {
		snprintf(text, sizeof(text), frames[i / 2], run);
		CHECK(effects_of(text, i & 1, SQL_MODE_ANY_QUOTES, SQL_DELETE));
	}
}

/* Both readings say the same: as if there was one. */
static void test_quotes_that_decide_nothing(void)
{
	static const char *const texts[] = {
		"SELECT a FROM t WHERE b LIKE 'x\\_y'", "SELECT a FROM t WHERE b ~ '\\d+' AND c = N'\\s'",
		"SELECT E'a\\'b', $$\\'$$", "DO $$ BEGIN RAISE NOTICE '\\'; END $$", "SELECT 1 /* \\ */",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		const struct sql_facts *facts =
			sql_analyze_mode(engine, texts[i], strlen(texts[i]), true, SQL_MODE_ANY_QUOTES);

		CHECK_MSG(!facts->by_quotes && facts->id && facts->stmt_cnt == 1, "%s", texts[i]);
	}
	/* A value that decides is another one. */
	CHECK(sql_analyze_mode(engine, "COPY t FROM '/a\\b'", 18, true, SQL_MODE_STATEMENTS)->by_quotes);
}

static const struct test_case cases[] = {
	{ "replication_commands", test_replication_commands },
	{ "quotes_are_read_both_ways", test_quotes_are_read_both_ways },
	{ "the_reading_that_is_none_is_ignored", test_the_reading_that_is_none_is_ignored },
	{ "the_reading_that_is_refused_hides_nothing", test_the_reading_that_is_refused_hides_nothing },
	{ "quotes_that_decide_nothing", test_quotes_that_decide_nothing },
	{ "modes_find_what_is_called", test_modes_find_what_is_called },
	{ "modes_keep_the_text_as_it_came", test_modes_keep_the_text_as_it_came },
	{ "modes_are_joined_when_not_known", test_modes_are_joined_when_not_known },
	{ "modes_that_do_not_fit", test_modes_that_do_not_fit },
	{ "exact_cache", test_exact_cache },
	{ "shape_cache", test_shape_cache },
	{ "long_text_by_bytes", test_long_text_by_bytes },
	{ "facts_id", test_facts_id },
	{ "literal_dependence", test_literal_dependence },
	{ "always_literal_dependent", test_always_literal_dependent },
	{ "escapes_are_not_cached_by_shape", test_escapes_are_not_cached_by_shape },
	{ "string_modes_do_not_mix", test_string_modes_do_not_mix },
	{ "cache_is_bounded", test_cache_is_bounded },
	{ "offsets", test_offsets },
	{ "union_of_statements", test_union_of_statements },
	{ "fingerprint", test_fingerprint },
	{ "unknown_facts", test_unknown_facts },
	{ "names", test_names },
	{ "bombs_are_refused_fast", test_bombs_are_refused_fast },
	{ "deepest_allowed", test_deepest_allowed },
	{ "too_many_names", test_too_many_names },
};

int main(int argc, char **argv)
{
	int failed;

	fresh_engine(1024);
	failed = engine ? test_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv) : 1;
	sql_engine_free(engine);
	return failed;
}
