// SPDX-License-Identifier: Apache-2.0
/*
 * The screen is sound: whatever a rule denies for what a text says, the text holds a word of the rule's screen. Tried
 * with every statement below in every writing of it, against a rule for each of its effects, its command, each of its
 * objects and functions, and against the shipped policies.
 */
#include "../lib/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "policy/set.h"
#include "policy/words.h"

static const char *const statements[] = {
	"SELECT a, b FROM public.t WHERE id = 1", "TABLE t", "VALUES (1, 2)", "SELECT * FROM t FOR UPDATE",
	"SELECT * FROM t FOR NO KEY UPDATE", "SELECT * FROM t FOR SHARE", "SELECT * FROM t FOR KEY SHARE",
	"SELECT * INTO copy_of_t FROM t", "SELECT a INTO TEMP x FROM t", "INSERT INTO t VALUES (1)",
	"INSERT INTO t DEFAULT VALUES", "INSERT INTO t SELECT * FROM u", "INSERT INTO t TABLE u",
	"INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2 RETURNING *",
	"INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", "UPDATE t SET a = 1", "UPDATE public.t SET a = 1 WHERE b = 2",
	"UPDATE t SET a = u.a FROM u WHERE u.id = t.id", "DELETE FROM t", "DELETE FROM t USING u WHERE u.id = t.id",
	"DELETE FROM ONLY t WHERE CURRENT OF c", "MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN DELETE",
	"MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN UPDATE SET a = 1 WHEN NOT MATCHED THEN INSERT VALUES (1)",
	"MERGE INTO t USING u ON t.id = u.id WHEN NOT MATCHED THEN INSERT DEFAULT VALUES",
	"WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", "WITH x AS (INSERT INTO t VALUES (1) RETURNING a) TABLE x",
	"WITH x AS (UPDATE t SET a = 1 RETURNING *) INSERT INTO u SELECT * FROM x", "TRUNCATE t",
	"TRUNCATE TABLE ONLY t, public.u RESTART IDENTITY CASCADE", "COPY t FROM STDIN", "COPY t TO STDOUT",
	"COPY t FROM '/tmp/f'", "COPY t TO PROGRAM 'gzip'", "COPY (SELECT * FROM t) TO STDOUT",
	"COPY (DELETE FROM t RETURNING *) TO STDOUT", "COPY t (a, b) FROM PROGRAM 'cat x' WITH (FORMAT csv)",
	"EXPLAIN SELECT * FROM t", "EXPLAIN ANALYZE DELETE FROM t", "EXPLAIN (ANALYZE true) UPDATE t SET a = 1",
	"EXPLAIN ANALYZE CREATE TABLE x AS SELECT 1", "EXPLAIN EXECUTE p", "DECLARE c CURSOR FOR SELECT * FROM t", "FETCH ALL FROM c", "FETCH c",
	"MOVE NEXT FROM c", "CLOSE c", "CLOSE ALL", "PREPARE p AS DELETE FROM t", "PREPARE p (int) AS SELECT $1",
	"EXECUTE p", "EXECUTE p (1, 2)", "DEALLOCATE p", "DEALLOCATE ALL", "DEALLOCATE PREPARE p", "CALL proc()",
	"CALL s.proc(1)", "DO $$ BEGIN NULL; END $$", "DO 'BEGIN END'", "DO LANGUAGE plpgsql $x$ BEGIN END $x$",
	"DO LANGUAGE plpython3u $$ pass $$", "DO E'BEGIN END'", "BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE",
	"START TRANSACTION", "START TRANSACTION READ WRITE", "COMMIT", "COMMIT AND CHAIN", "END", "ROLLBACK", "ABORT",
	"SAVEPOINT s", "RELEASE s", "RELEASE SAVEPOINT s", "ROLLBACK TO s", "PREPARE TRANSACTION 'x'",
	"COMMIT PREPARED 'x'", "ROLLBACK PREPARED 'x'", "SET TRANSACTION READ WRITE",
	"SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET TRANSACTION SNAPSHOT '1'",
	"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET CONSTRAINTS ALL DEFERRED", "SET CONSTRAINTS k IMMEDIATE",
	"SET search_path TO x", "SET LOCAL search_path = a, b", "SET SCHEMA 'x'", "SET TIME ZONE 'UTC'", "SET NAMES 'utf8'",
	"SET ROLE x", "SET ROLE 'x'", "SET ROLE NONE", "SET SESSION AUTHORIZATION 'x'", "SET SESSION AUTHORIZATION DEFAULT",
	"SET XML OPTION CONTENT", "SET row_security = off", "SET session_replication_role = replica", "SET a.b = 1",
	"SET session_preload_libraries = 'x'", "SET local_preload_libraries = 'x'", "SET dynamic_library_path = 'x'",
	"SET default_transaction_read_only = off", "SET transaction_read_only = off", "SET SEED TO 0.5", "RESET ALL", "RESET ROLE",
	"RESET SESSION AUTHORIZATION", "RESET search_path", "RESET TIME ZONE", "SHOW ALL", "SHOW TIME ZONE", "SHOW work_mem",
	"DISCARD ALL", "DISCARD TEMP", "DISCARD PLANS", "DISCARD SEQUENCES", "ALTER SYSTEM SET a = 1",
	"ALTER SYSTEM RESET ALL", "ALTER SYSTEM RESET work_mem", "VACUUM", "VACUUM FULL t", "VACUUM (ANALYZE) t (a)",
	"ANALYZE", "ANALYSE t", "ANALYZE VERBOSE t (a)", "REINDEX TABLE t", "REINDEX SCHEMA s", "REINDEX DATABASE d",
	"REINDEX INDEX CONCURRENTLY i", "CLUSTER", "CLUSTER t USING i", "CHECKPOINT", "REFRESH MATERIALIZED VIEW m",
	"REFRESH MATERIALIZED VIEW CONCURRENTLY m WITH NO DATA", "LOAD 'x'", "LOCK t", "LOCK TABLE public.t IN SHARE MODE NOWAIT",
	"NOTIFY c", "NOTIFY c, 'x'", "LISTEN c", "UNLISTEN c", "UNLISTEN *", "COMMENT ON TABLE t IS 'x'",
	"COMMENT ON COLUMN t.a IS NULL", "COMMENT ON SCHEMA s IS 'x'", "COMMENT ON ROLE r IS 'x'",
	"SECURITY LABEL ON TABLE t IS 'x'", "SECURITY LABEL FOR p ON ROLE r IS 'x'", "IMPORT FOREIGN SCHEMA r FROM SERVER s INTO l",
	"GRANT SELECT ON t TO PUBLIC", "GRANT SELECT (a, b) ON t TO r", "GRANT ALL ON ALL TABLES IN SCHEMA s TO r WITH GRANT OPTION",
	"GRANT USAGE ON SCHEMA s TO r", "GRANT ALL ON DATABASE d TO r", "GRANT EXECUTE ON FUNCTION f(int) TO r", "GRANT r TO u",
	"GRANT USAGE ON LANGUAGE plpgsql TO r", "GRANT SET ON PARAMETER work_mem TO r", "REVOKE SELECT ON t FROM r CASCADE", "REVOKE ALL ON SEQUENCE q FROM CURRENT_USER",
	"REVOKE r FROM u", "REVOKE ADMIN OPTION FOR r FROM u", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO r",
	"ALTER DEFAULT PRIVILEGES FOR ROLE r IN SCHEMA s REVOKE ALL ON FUNCTIONS FROM PUBLIC", "REASSIGN OWNED BY a TO b",
	"DROP OWNED BY a CASCADE", "CREATE ROLE r", "CREATE USER r PASSWORD 'x'", "CREATE GROUP g USER a, b",
	"CREATE ROLE r SUPERUSER IN ROLE x ADMIN y", "ALTER ROLE r SUPERUSER", "ALTER USER r PASSWORD 'x'", "ALTER GROUP g ADD USER u",
	"ALTER ROLE r SET search_path = x", "ALTER ROLE ALL RESET ALL", "ALTER ROLE r IN DATABASE d SET a = 1", "ALTER ROLE r RENAME TO s",
	"DROP ROLE r", "DROP USER IF EXISTS a, b", "DROP GROUP g", "CREATE TABLE t (a int PRIMARY KEY, b text REFERENCES u (id))",
	"CREATE TEMP TABLE t (a int) ON COMMIT DROP", "CREATE UNLOGGED TABLE s.t (LIKE u)", "CREATE TABLE t AS SELECT * FROM u",
	"CREATE TABLE t AS EXECUTE p", "CREATE TABLE t AS TABLE u", "CREATE TABLE p PARTITION OF t FOR VALUES IN (1)",
	"CREATE FOREIGN TABLE t (a int) SERVER s", "CREATE VIEW v AS SELECT * FROM t", "CREATE OR REPLACE VIEW v AS TABLE t",
	"CREATE RECURSIVE VIEW v (a) AS SELECT 1", "CREATE MATERIALIZED VIEW m AS SELECT * FROM t", "CREATE INDEX i ON t (a)",
	"CREATE UNIQUE INDEX CONCURRENTLY ON public.t USING btree (lower(a)) WHERE b > 1", "CREATE SEQUENCE q", "CREATE SCHEMA s",
	"CREATE SCHEMA AUTHORIZATION r", "CREATE SCHEMA s CREATE TABLE t (a int)", "CREATE DATABASE d OWNER r", "CREATE TABLESPACE x LOCATION '/x'",
	"CREATE EXTENSION dblink", "CREATE EXTENSION IF NOT EXISTS x SCHEMA s CASCADE", "CREATE LANGUAGE plpython3u", "CREATE TRUSTED LANGUAGE l HANDLER h",
	"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE OR REPLACE FUNCTION s.f(a int) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$",
	"CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'x', 'y'", "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS ''",
	"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC DELETE FROM t; SELECT 1; END", "CREATE FUNCTION f() RETURNS int RETURN 1",
	"CREATE PROCEDURE p() LANGUAGE plpgsql AS ''", "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
	"CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION f()", "CREATE RULE r AS ON SELECT TO t DO INSTEAD SELECT * FROM u",
	"CREATE RULE r AS ON INSERT TO t DO ALSO DELETE FROM u", "CREATE POLICY p ON t USING (a = current_user)", "CREATE TYPE y AS (a int)",
	"CREATE TYPE e AS ENUM ('a')", "CREATE TYPE r AS RANGE (subtype = int4)", "CREATE TYPE s", "CREATE DOMAIN d AS int CHECK (value > 0)",
	"CREATE CAST (int AS text) WITH FUNCTION f(int)", "CREATE COLLATION c (locale = 'x')", "CREATE CONVERSION c FOR 'a' TO 'b' FROM f",
	"CREATE AGGREGATE a (int) (sfunc = f, stype = int)", "CREATE OPERATOR + (function = f, leftarg = int)",
	"CREATE OPERATOR CLASS c FOR TYPE int USING btree AS OPERATOR 1 <", "CREATE OPERATOR FAMILY f USING btree",
	"CREATE ACCESS METHOD m TYPE INDEX HANDLER h", "CREATE FOREIGN DATA WRAPPER w", "CREATE SERVER s FOREIGN DATA WRAPPER w OPTIONS (host 'x')",
	"CREATE USER MAPPING FOR u SERVER s OPTIONS (user 'x')", "CREATE PUBLICATION p FOR ALL TABLES", "CREATE PUBLICATION p FOR TABLE t, u",
	"CREATE PUBLICATION p FOR TABLES IN SCHEMA s", "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p", "CREATE STATISTICS s ON a, b FROM t",
	"CREATE TEXT SEARCH CONFIGURATION c (PARSER = p)", "CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = simple)", "CREATE TRANSFORM FOR int LANGUAGE l (FROM SQL WITH FUNCTION f(internal))",
	"ALTER TABLE t ADD COLUMN a int", "ALTER TABLE t DROP COLUMN a", "ALTER TABLE IF EXISTS s.t DROP CONSTRAINT k CASCADE",
	"ALTER TABLE t ALTER COLUMN a TYPE text USING f(a)", "ALTER TABLE t ALTER a DROP DEFAULT", "ALTER TABLE t ALTER a DROP NOT NULL", "ALTER TABLE t RENAME TO u",
	"ALTER TABLE t RENAME COLUMN a TO b", "ALTER TABLE t SET SCHEMA s", "ALTER TABLE t OWNER TO r", "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
	"ALTER TABLE t NO FORCE ROW LEVEL SECURITY", "ALTER TABLE t DISABLE TRIGGER ALL", "ALTER TABLE t ATTACH PARTITION p FOR VALUES IN (1)", "ALTER TABLE t DETACH PARTITION p",
	"ALTER TABLE t REPLICA IDENTITY FULL", "ALTER TABLE t SET TABLESPACE x", "ALTER TABLE ALL IN TABLESPACE x SET TABLESPACE y", "ALTER TABLE t INHERIT p", "ALTER INDEX i RENAME TO j",
	"ALTER VIEW v ALTER COLUMN a SET DEFAULT 1", "ALTER MATERIALIZED VIEW m OWNER TO r", "ALTER SEQUENCE q RESTART", "ALTER SEQUENCE q OWNED BY t.a", "ALTER SCHEMA s RENAME TO x",
	"ALTER SCHEMA s OWNER TO r", "ALTER DATABASE d SET a = 1", "ALTER DATABASE d OWNER TO r", "ALTER DATABASE d CONNECTION LIMIT 1", "ALTER DATABASE d SET TABLESPACE x",
	"ALTER FUNCTION f() SECURITY DEFINER", "ALTER FUNCTION f(int) OWNER TO r", "ALTER FUNCTION f SET SCHEMA s", "ALTER FUNCTION f() DEPENDS ON EXTENSION x", "ALTER PROCEDURE p() RESET ALL",
	"ALTER TYPE e ADD VALUE 'b'", "ALTER TYPE y ADD ATTRIBUTE b int", "ALTER TYPE y DROP ATTRIBUTE b", "ALTER TYPE y RENAME TO z", "ALTER DOMAIN d DROP CONSTRAINT k", "ALTER DOMAIN d SET NOT NULL",
	"ALTER EXTENSION x UPDATE TO '2'", "ALTER EXTENSION x ADD TABLE t", "ALTER EXTENSION x DROP FUNCTION f()", "ALTER LANGUAGE l OWNER TO r", "ALTER POLICY p ON t TO r", "ALTER POLICY p ON t RENAME TO q",
	"ALTER TRIGGER g ON t RENAME TO h", "ALTER RULE r ON t RENAME TO s", "ALTER EVENT TRIGGER e DISABLE", "ALTER FOREIGN TABLE t ADD a int", "ALTER FOREIGN DATA WRAPPER w OPTIONS (SET a 'b')",
	"ALTER SERVER s OPTIONS (SET host 'y')", "ALTER SERVER s OWNER TO r", "ALTER SERVER s VERSION '2'", "ALTER USER MAPPING FOR u SERVER s OPTIONS (SET a 'b')", "ALTER PUBLICATION p ADD TABLE t", "ALTER PUBLICATION p OWNER TO r",
	"ALTER SUBSCRIPTION s DISABLE", "ALTER SUBSCRIPTION s CONNECTION 'y'", "ALTER STATISTICS s SET STATISTICS 1", "ALTER TABLESPACE x SET (a = 1)", "ALTER TABLESPACE x OWNER TO r", "ALTER LARGE OBJECT 1 OWNER TO r",
	"ALTER COLLATION c REFRESH VERSION", "ALTER OPERATOR + (int, int) SET (restrict = none)", "ALTER OPERATOR FAMILY f USING btree DROP OPERATOR 1 (int, int)", "ALTER AGGREGATE a (int) RENAME TO b",
	"ALTER TEXT SEARCH CONFIGURATION c DROP MAPPING FOR word", "ALTER TEXT SEARCH DICTIONARY d (a = b)", "ALTER CONVERSION c RENAME TO d", "ALTER MATERIALIZED VIEW m DEPENDS ON EXTENSION x",
	"DROP TABLE t", "DROP TABLE IF EXISTS s.t, u CASCADE", "DROP VIEW v", "DROP MATERIALIZED VIEW m", "DROP INDEX CONCURRENTLY i", "DROP SEQUENCE q", "DROP SCHEMA s CASCADE", "DROP DATABASE d", "DROP DATABASE d WITH (FORCE)",
	"DROP TABLESPACE x", "DROP FUNCTION f", "DROP FUNCTION IF EXISTS s.f(int), g", "DROP PROCEDURE p", "DROP ROUTINE r", "DROP AGGREGATE a (int)", "DROP TYPE y", "DROP DOMAIN d", "DROP EXTENSION x", "DROP LANGUAGE l", "DROP TRIGGER g ON t",
	"DROP RULE r ON s.t", "DROP POLICY p ON t", "DROP EVENT TRIGGER e", "DROP FOREIGN TABLE t", "DROP FOREIGN DATA WRAPPER w", "DROP SERVER s", "DROP USER MAPPING FOR u SERVER s", "DROP PUBLICATION p", "DROP SUBSCRIPTION s",
	"DROP STATISTICS s", "DROP CAST (int AS text)", "DROP COLLATION c", "DROP CONVERSION c", "DROP OPERATOR + (int, int)", "DROP OPERATOR CLASS c USING btree", "DROP ACCESS METHOD m", "DROP TRANSFORM FOR int LANGUAGE l",
	"DROP TEXT SEARCH CONFIGURATION c", "SELECT pg_read_file('x')", "SELECT * FROM pg_ls_dir('/')", "SELECT pg_catalog.lo_export(1, 'x')", "SELECT nextval('q')", "SELECT setval('q', 1)", "SELECT lo_unlink(1)",
	"SELECT query_to_xml('x', true, true, '')", "SELECT * FROM dblink('a', 'b') AS t(a int)", "SELECT s.dblink_exec('x')", "SELECT pg_notify('a', 'b')", "SELECT pg_advisory_lock(1)", "SELECT pg_terminate_backend(1)",
	"SELECT set_config('role', 'x', false)", "SELECT pg_create_logical_replication_slot('a', 'b')", "SELECT pg_sleep(1)", "SELECT ts_stat('x')", "SELECT binary_upgrade_x()", "SELECT extract(year FROM d) FROM t",
	"SELECT position('a' IN b) FROM t", "SELECT substring(a FROM 1 FOR 2) FROM t", "SELECT trim(BOTH FROM a), trim(LEADING 'x' FROM a), trim(TRAILING FROM a) FROM t", "SELECT overlay(a PLACING b FROM 1) FROM t",
	"SELECT a AT TIME ZONE 'UTC' FROM t", "SELECT COLLATION FOR (a) FROM t", "SELECT a SIMILAR TO b ESCAPE 'x' FROM t", "SELECT a LIKE b ESCAPE 'x' FROM t", "SELECT a IS NORMALIZED, normalize(a, NFC) FROM t", "SELECT (a, b) OVERLAPS (c, d) FROM t",
	"SELECT xmlexists('x' PASSING a) FROM t", "SELECT * FROM t TABLESAMPLE system (1)", "SELECT * FROM t TABLESAMPLE bernoulli (1) REPEATABLE (2)", "SELECT coalesce(a, greatest(b, c)) FROM t", "SELECT current_user, session_user, current_date",
	"SELECT * FROM ROWS FROM (f(1), g(2)) AS x", "SELECT count(*) FILTER (WHERE h(a)) OVER (PARTITION BY k(b)) FROM t", "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM t", "SELECT treat(a AS int) FROM t",
	"CREATE TABLE t (a int GENERATED ALWAYS AS IDENTITY, b text DEFAULT f(1), CHECK (g(a)))", "SELECT xmlelement(name x, a) FROM t", "SELECT (f(a)).b[1] FROM t", "DELETE FROM t WHERE f(a)",
};

#define COUNT(array) ((unsigned)(sizeof(array) / sizeof((array)[0])))

static struct sql_engine *engine;
static struct dbf_screen screen;
static unsigned long pairs, texts;

static struct sql_engine *the_engine(void)
{
	static const uint8_t key[16] = { 7 };

	if (!engine)
		engine = sql_engine_new(16, key);
	if (!engine) {
		printf("no engine: out of memory\n");
		exit(1);
	}
	return engine;
}

static bool screen_hits(const struct dbf_screen *s, const char *text, size_t len)
{
	unsigned state = 0;

	if (s->match_all)
		return true;
	if (!s->state_cnt)
		return false;
	for (size_t i = 0; i < len; i++) {
		state = s->next[state][s->class_of[(unsigned char)text[i]]];
		if (state & DBF_SCREEN_ACCEPT)
			return true;
		if (state >= s->state_cnt)
			return CHECK_MSG(false, "transition to state %u of %u", state, s->state_cnt);
	}
	return false;
}

static struct policy_set *load(const char *yaml)
{
	struct policy_source src = { .name = "t.yaml", .yaml = yaml, .len = strlen(yaml) };
	struct policy_report report;
	struct policy_set *set = NULL;

	policy_report_init(&report);
	policy_set_load(&src, 1, 1, &set, &report);
	CHECK_MSG(set != NULL, "%s", buf_str(&report.text));
	policy_report_fini(&report);
	return set;
}

static struct policy_set *load_rule(const char *when)
{
	static char yaml[4096];

	snprintf(yaml, sizeof(yaml),
		 "apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: p}\nspec:\n  mode: enforce\n"
		 "  rules: [{name: r, action: deny, when: {%s}}]\n", when);
	return load(yaml);
}

/* The claim itself: denied for what the text says, so the screen hits. Returns whether it was denied. */
static bool check_sound(const struct policy_set *set, const struct dbf_screen *s, const struct sql_facts *facts,
			const char *text, const char *what)
{
	struct identity who = { .engine = "postgresql" };
	struct policy_decision decision;
	bool denied;

	policy_eval(set, facts, &who, &decision);
	denied = decision.action >= POLICY_DENY && !decision.deciding->by_fail_mode;
	pairs++;
	if (denied)
		CHECK_MSG(screen_hits(s, text, strlen(text)), "%s denies, the screen does not see it: %s", what, text);
	return denied;
}

static void check_rule(const char *when, const struct sql_facts *facts, const char *text)
{
	struct policy_set *set = load_rule(when);

	if (!set)
		return;
	CHECK_INT(policy_compile_screen(set, &screen), 0);
	CHECK_MSG(check_sound(set, &screen, facts, text, when), "{%s} should deny: %s", when, text);
	policy_set_free(set);
}

static bool plain_name(const char *name)
{
	return name && *name && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ ") == strlen(name);
}

/* A rule for everything that the facts name. */
static void check_facts(const struct sql_facts *facts, const char *text)
{
	char when[512];

	for (unsigned s = 0; s < facts->stmt_cnt; s++) {
		const struct sql_stmt *stmt = &facts->stmts[s];

		snprintf(when, sizeof(when), "commands: ['%s']", stmt->command);
		check_rule(when, facts, text);
		for (unsigned i = 0; i < stmt->object_cnt; i++) {
			if (!plain_name(stmt->objects[i].name))
				continue;
			snprintf(when, sizeof(when), "objects: ['%s']", stmt->objects[i].name);
			check_rule(when, facts, text);
			if (stmt->objects[i].kind == SQL_OBJ_SCHEMA)
				snprintf(when, sizeof(when), "objects: ['%s.whatever']", stmt->objects[i].name);
			else if (stmt->objects[i].schema)
				snprintf(when, sizeof(when), "objects: ['%s.%s']", stmt->objects[i].schema, stmt->objects[i].name);
			else
				snprintf(when, sizeof(when), "objects: ['*%s']", stmt->objects[i].name);
			check_rule(when, facts, text);
			if (stmt->objects[i].all_columns) {
				snprintf(when, sizeof(when), "columns: ['%s.ssn']", stmt->objects[i].name);
				check_rule(when, facts, text);
			}
		}
		for (unsigned i = 0; i < stmt->function_cnt; i++) {
			snprintf(when, sizeof(when), "functions: ['%s']", stmt->functions[i].name);
			check_rule(when, facts, text);
			snprintf(when, sizeof(when), "function_risk: [%s]", sql_func_risk_name(stmt->functions[i].risk));
			check_rule(when, facts, text);
		}
		if (stmt->selective == SQL_SELECTIVE_NO)
			check_rule("selective: false", facts, text);
	}
}

static void check_effects(const struct sql_facts *facts, const char *text)
{
	static struct dbf_screen screens[SQL_EFFECT_MAX];
	static struct policy_set *sets[SQL_EFFECT_MAX];
	char when[64];

	for (enum sql_effect e = SQL_EFFECT_NONE + 1; e < SQL_EFFECT_MAX; e++) {
		if (!sets[e]) {
			snprintf(when, sizeof(when), "effects: [%s]", sql_effect_name(e));
			sets[e] = load_rule(when);
			if (!sets[e] || !CHECK_INT(policy_compile_screen(sets[e], &screens[e]), 0))
				return;
		}
		check_sound(sets[e], &screens[e], facts, text, sql_effect_name(e));
	}
}

/* Writings of one statement that mean the same. */
static void write_variant(const char *sql, unsigned variant, struct buf *out)
{
	static const char *const blanks[] = { " ", "\n", "/**/", "\t", " --x\n", "/* a /* b */ */ ", "\r\n", "\f" };
	bool quoted = false;

	buf_reset(out);
	if (variant >= 40)
		buf_puts(out, "SELECT 1;");
	for (const char *c = sql; *c; c++) {
		if (*c == '\'' || *c == '$')
			quoted = !quoted;
		if (*c == ' ' && !quoted)
			buf_puts(out, blanks[variant % COUNT(blanks)]);
		else if (!quoted && variant / COUNT(blanks) % 3 == 1 && *c >= 'A' && *c <= 'Z')
			buf_putc(out, (char)(*c + 32));
		else if (!quoted && variant / COUNT(blanks) % 3 == 2 && *c >= 'A' && *c <= 'Z' && (c - sql) % 2)
			buf_putc(out, (char)(*c + 32));
		else
			buf_putc(out, *c);
	}
	if (variant >= 40)
		buf_putc(out, ';');
}

static const unsigned variants[] = { 0, 2, 9, 12, 18, 23, 43, 46 };

static void for_all(void (*check)(const struct sql_facts *facts, const char *text), unsigned variant_cnt)
{
	const struct sql_facts *facts;
	struct buf text;

	buf_init(&text, 65536);
	for (unsigned i = 0; i < COUNT(statements); i++)
		for (unsigned v = 0; v < variant_cnt; v++) {
			write_variant(statements[i], variants[v], &text);
			facts = sql_analyze(the_engine(), text.data, text.len, true);
			CHECK_MSG(facts->unknown == SQL_KNOWN || v, "cannot be read (%s): %s", sql_unknown_name(facts->unknown), text.data);
			texts++;
			if (facts->unknown == SQL_KNOWN)
				check(facts, text.data);
		}
	buf_fini(&text);
}

static void test_effects(void)
{
	pairs = texts = 0;
	for_all(check_effects, COUNT(variants));
	CHECK_MSG(texts >= 2000, "only %lu texts", texts);
	printf("  %lu texts, %lu pairs of rule and text\n", texts, pairs);
}

static void test_everything_named(void)
{
	pairs = texts = 0;
	for_all(check_facts, 3);
	printf("  %lu texts, %lu rules made from their facts\n", texts, pairs);
}

static struct policy_set *shipped;
static struct dbf_screen shipped_screen;

static void check_shipped(const struct sql_facts *facts, const char *text)
{
	check_sound(shipped, &shipped_screen, facts, text, "a shipped policy");
}

static bool load_shipped(void)
{
	const char *src = getenv("DBFENCE_SRC");
	struct policy_report report;
	char path[4096];

	if (shipped)
		return true;
	policy_report_init(&report);
	snprintf(path, sizeof(path), "%s/policies", src ? src : ".");
	CHECK_MSG(policy_set_load_path(path, 1, &shipped, &report) == 0, "%s", buf_str(&report.text));
	policy_report_fini(&report);
	if (!shipped)
		return false;
	policy_set_force_mode(shipped, POLICY_ENFORCE);
	return CHECK_INT(policy_compile_screen(shipped, &shipped_screen), 0);
}

static void test_shipped(void)
{
	static const char *const ordinary[] = {
		"SELECT abalance FROM pgbench_accounts WHERE aid = 1", "BEGIN", "COMMIT", "SELECT 1",
		"SELECT id, created_at, updated_at, dropped FROM users WHERE deleted = false ORDER BY id LIMIT 10 OFFSET 5",
		"INSERT INTO pgbench_history (tid, bid) VALUES (1, 2)", "SET search_path = a",
		"SELECT \"a\", 'b' FROM \"t\" GROUP BY 1",
	};

	if (!load_shipped())
		return;
	CHECK(!shipped_screen.match_all);
	CHECK(shipped_screen.state_cnt > 10);
	pairs = texts = 0;
	for_all(check_shipped, COUNT(variants));
	for (unsigned i = 0; i < COUNT(ordinary); i++)
		CHECK_MSG(!screen_hits(&shipped_screen, ordinary[i], strlen(ordinary[i])), "needless candidate: %s", ordinary[i]);
	printf("  %u states for %u rules\n", shipped_screen.state_cnt, shipped->rule_cnt);
}

/* Ways to write a name so that its letters are not in the text. */
static void test_hidden_names(void)
{
	static const char *const texts_of_secret[] = {
		"SELECT * FROM secret", "SELECT * FROM \"secret\"", "SELECT * FROM SeCrEt", "SELECT * FROM U&\"\\0073ecret\"",
		"SELECT * FROM u&\"s\\0065cret\"", "SELECT * FROM U&\"!0073ecret\" UESCAPE '!'", "DROP SCHEMA secret_schema",
	};
	struct policy_set *set = load_rule("objects: [secret_schema.secret]");

	if (!set)
		return;
	CHECK_INT(policy_compile_screen(set, &screen), 0);
	for (unsigned i = 0; i < COUNT(texts_of_secret); i++)
		CHECK_MSG(check_sound(set, &screen, sql_analyze(the_engine(), texts_of_secret[i], strlen(texts_of_secret[i]), true),
				      texts_of_secret[i], "hidden"), "should deny: %s", texts_of_secret[i]);
	CHECK(!screen_hits(&screen, "SELECT * FROM other", 19));
	policy_set_free(set);
	set = load_rule("objects: ['a\"b']");
	if (set) {
		const char *text = "SELECT * FROM \"a\"\"b\"";

		CHECK_INT(policy_compile_screen(set, &screen), 0);
		CHECK(check_sound(set, &screen, sql_analyze(the_engine(), text, strlen(text), true), text, "quote"));
	}
	policy_set_free(set);
	set = load_rule("functions: [pg_read_file]");
	if (set) {
		const char *text = "SELECT U&\"pg\\005Fread_file\"('x')";

		CHECK_INT(policy_compile_screen(set, &screen), 0);
		CHECK(check_sound(set, &screen, sql_analyze(the_engine(), text, strlen(text), true), text, "function"));
	}
	policy_set_free(set);
}

static void test_shapes(void)
{
	static const struct {
		const char *when;
		bool all;
	} tests[] = {
		{ "effects: [read]", true },		 { "effects: [schema_destroy]", false },
		{ "effects: [read], objects: [secret]", false }, { "columns: ['*.ssn']", true },
		{ "columns: [customers.ssn]", false },	 { "columns: [ssn]", true },
		{ "columns: [ssn], effects: [modify]", false }, { "unknown: true", true },
		{ "unknown: true, effects: [modify]", true }, { "identity: {db_user: [x]}", true },
		{ "objects: ['*']", true },		 { "objects: ['audit_*']", false },
		{ "objects: ['\303\244\303\266']", true }, { "objects: ['\303\244rger']", false },
		{ "commands: ['DROP *']", false },	 { "commands: ['*']", true },
		{ "commands: ['D*']", true },		 { "function_risk: [unknown]", true },
		{ "function_risk: [file]", false },	 { "selective: false", false },
	};

	for (unsigned i = 0; i < COUNT(tests); i++) {
		struct policy_set *set = load_rule(tests[i].when);

		if (!set)
			continue;
		CHECK_INT(policy_compile_screen(set, &screen), 0);
		CHECK_MSG(screen.match_all == tests[i].all, "{%s}: match_all is %u", tests[i].when, screen.match_all);
		CHECK(screen.state_cnt > 0);
		policy_set_force_mode(set, POLICY_SHADOW);
		CHECK_INT(policy_compile_screen(set, &screen), 0);
		CHECK(!screen.match_all && !screen.state_cnt);
		policy_set_free(set);
	}
}

/* Far more words than states: shortened, and at last given up, but never wrong. */
static void test_too_many_words(void)
{
	static const unsigned counts[] = { 30, 60, 120, 400, 1000 };
	bool gave_up = false, fitted = false;
	struct buf when, text;

	for (unsigned n = 0; n < COUNT(counts); n++) {
		struct policy_set *set;

		buf_init(&when, 65536);
		buf_init(&text, 65536);
		buf_puts(&text, "apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: p}\nspec:\n  mode: enforce\n"
				"  rules: [{name: r, action: deny, when: {objects: [");
		for (unsigned i = 0; i < counts[n]; i++)
			buf_printf(&text, "%c%c%c_some_rather_long_name_%u, ", 'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 7 % 26, i);
		buf_puts(&text, "x_y]}}]\n");
		set = load(buf_str(&text));
		if (set) {
			CHECK_INT(policy_compile_screen(set, &screen), 0);
			gave_up |= screen.match_all;
			fitted |= !screen.match_all;
			for (unsigned i = 0; i < counts[n]; i++) {
				buf_reset(&when);
				buf_printf(&when, "SELECT * FROM %c%c%c_some_rather_long_name_%u", 'a' + i % 26,
					   'a' + i / 26 % 26, 'a' + i / 7 % 26, i);
				CHECK_MSG(screen_hits(&screen, when.data, when.len), "%s", when.data);
			}
		}
		policy_set_free(set);
		buf_fini(&when);
		buf_fini(&text);
	}
	CHECK(gave_up && fitted);
}

/* The automaton finds exactly the words, wherever they stand and whatever stands before. */
static void test_automaton(void)
{
	unsigned seed = 12345, hits = 0;
	struct words words;
	char text[64];

	if (!load_shipped())
		return;
	words_init(&words);
	words_of_set(&words, shipped);
	for (unsigned round = 0; round < 200000; round++) {
		bool want = false;
		unsigned len;

		/* Words, cut at random and glued together, so that failures lead into the middle of others. */
		for (len = 0; len < 48;) {
			const struct word *w;
			unsigned part;

			seed = seed * 1103515245 + 12345;
			w = &words.v[(seed >> 8) % words.cnt];
			part = 1 + (seed >> 20) % w->len;
			if (seed >> 30 == 0 && part < w->len)
				part = w->len - 1;
			memcpy(text + len, w->text, part);
			len += part;
			if (len > sizeof(text) - WORD_MAX - 1)
				break;
		}
		for (unsigned i = 0; i < words.cnt && !want; i++)
			want = memmem(text, len, words.v[i].text, words.v[i].len) != NULL;
		hits += want;
		if (!CHECK_MSG(screen_hits(&shipped_screen, text, len) == want, "%.*s", (int)len, text))
			break;
	}
	CHECK(hits > 1000 && hits < 199000);
	words_fini(&words);
}

/* Reported, not judged: the figure depends on the machine. */
static void test_speed(void)
{
	static const char *const sql[] = { "SELECT abalance FROM pgbench_accounts WHERE aid = 1",
					   "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 2", "DROP TABLE customers" };
	struct identity who = { .engine = "postgresql", .database = "d", .db_user = "u", .transport = "tcp" };
	struct policy_decision decision;
	uint64_t start, ns, sum = 0;

	if (!load_shipped())
		return;
	for (unsigned i = 0; i < COUNT(sql); i++) {
		const struct sql_facts *facts = sql_analyze(the_engine(), sql[i], strlen(sql[i]), true);

		start = clock_mono_ns();
		for (unsigned n = 0; n < 20000; n++) {
			policy_eval(shipped, facts, &who, &decision);
			sum += decision.match_total;
		}
		ns = (clock_mono_ns() - start) / 20000;
		printf("  policy_eval, %u rules: %llu ns for %s\n", shipped->rule_cnt, (unsigned long long)ns, sql[i]);
	}
	CHECK(sum >= 20000);
}

static void test_done(void)
{
	policy_set_free(shipped);
	shipped = NULL;
	sql_engine_free(engine);
	engine = NULL;
}

static const struct test_case cases[] = {
	{ "effects", test_effects },   { "everything_named", test_everything_named },
	{ "shipped", test_shipped },	     { "hidden_names", test_hidden_names }, { "shapes", test_shapes },
	{ "too_many_words", test_too_many_words }, { "automaton", test_automaton }, { "speed", test_speed },
	{ "done", test_done },
};

TEST_MAIN(cases)
