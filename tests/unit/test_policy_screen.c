// SPDX-License-Identifier: Apache-2.0
/*
 * The screen is sound: whatever a rule denies for what a text says, the text holds a word of the
 * rule's screen. Tried with every statement below in every writing of it, against a rule for each
 * of its effects, its command, each of its objects and functions, and against the shipped policies.
 */
#include "../lib/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "policy/set.h"
#include "policy/words.h"

static const char *const statements[] = {
#include "../policy/statements.inc"
};

#define COUNT(array) ((unsigned)(sizeof(array) / sizeof((array)[0])))

static struct sql_engine *engine;
static struct dbf_screen screen;
static unsigned long pairs, texts;

static struct sql_engine *the_engine(void)
{
	static const uint8_t key[16] = {7};

	if (!engine)
		engine = sql_engine_new(16, key);
	if (!engine) {
		printf("no engine: out of memory\n");
		exit(1);
	}
	return engine;
}

enum found { NOTHING, OPEN, CLOSED };

/* As the kernel does. */
static enum found screen_look(const struct dbf_screen *s, const char *text, size_t len)
{
	enum found found = s->match_all == DBF_SCREEN_ALL	 ? CLOSED
			   : s->match_all == DBF_SCREEN_ALL_OPEN ? OPEN
								 : NOTHING;
	unsigned state = 0, next;

	if (found == CLOSED || !s->state_cnt)
		return found;
	for (size_t i = 0; i < len; i++) {
		next = s->next[state][s->class_of[(unsigned char)text[i]]];
		if (next & DBF_SCREEN_ACCEPT)
			return CLOSED;
		if (next & DBF_SCREEN_OPEN)
			found = OPEN;
		state = next & DBF_SCREEN_STATE;
		CHECK_MSG(state < s->state_cnt, "transition to state %u of %u", state,
			  s->state_cnt);
	}
	return found;
}

static bool screen_hits(const struct dbf_screen *s, const char *text, size_t len)
{
	return screen_look(s, text, len) != NOTHING;
}

static struct policy_set *load(const char *yaml)
{
	struct policy_source src = {.name = "t.yaml", .yaml = yaml, .len = strlen(yaml)};
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
		 "apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: p}\nspec:\n  mode: "
		 "enforce\n"
		 "  rules: [{name: r, action: deny, when: {%s}}]\n",
		 when);
	return load(yaml);
}

static struct policy_set *load_two(const char *open, const char *closed)
{
	static const char one[] = "apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: %s}\nspec:\n  mode: enforce\n"
				  "  on_failure: %s\n  rules: [{name: r, action: deny, when: {%s}}]\n";
	static char yaml[8192];
	int n = snprintf(yaml, sizeof(yaml), one, "lenient", "open", open);

	n += snprintf(yaml + n, sizeof(yaml) - (size_t)n, "---\n");
	snprintf(yaml + n, sizeof(yaml) - (size_t)n, one, "strict", "closed", closed);
	return load(yaml);
}

/* The claim itself: a text that could be read is denied, so the screen hits. Returns whether it was
 * denied. */
static bool check_sound(const struct policy_set *set, const struct dbf_screen *s,
			const struct sql_facts *facts, const char *text, const char *what)
{
	struct identity who = {.engine = "postgresql"};
	struct policy_decision decision;
	bool denied;

	policy_eval(set, facts, &who, &decision);
	denied = decision.action >= POLICY_DENY;
	pairs++;
	if (denied)
		CHECK_MSG(screen_hits(s, text, strlen(text)),
			  "%s denies, the screen does not see it: %s", what, text);
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
	return name && *name &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_ ") ==
		   strlen(name);
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
				snprintf(when, sizeof(when), "objects: ['%s.whatever']",
					 stmt->objects[i].name);
			else if (stmt->objects[i].schema)
				snprintf(when, sizeof(when), "objects: ['%s.%s']",
					 stmt->objects[i].schema, stmt->objects[i].name);
			else
				snprintf(when, sizeof(when), "objects: ['*%s']",
					 stmt->objects[i].name);
			check_rule(when, facts, text);
			if (stmt->objects[i].all_columns) {
				snprintf(when, sizeof(when), "columns: ['%s.ssn']",
					 stmt->objects[i].name);
				check_rule(when, facts, text);
			}
		}
		for (unsigned i = 0; i < stmt->function_cnt; i++) {
			snprintf(when, sizeof(when), "functions: ['%s']", stmt->functions[i].name);
			check_rule(when, facts, text);
			snprintf(when, sizeof(when), "function_risk: [%s]",
				 sql_func_risk_name(stmt->functions[i].risk));
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
	static const char *const blanks[] = {
	    " ", "\n", "/**/", "\t", " --x\n", "/* a /* b */ */ ", "\r\n", "\f"};
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
		else if (!quoted && variant / COUNT(blanks) % 3 == 2 && *c >= 'A' && *c <= 'Z' &&
			 (c - sql) % 2)
			buf_putc(out, (char)(*c + 32));
		else
			buf_putc(out, *c);
	}
	if (variant >= 40)
		buf_putc(out, ';');
}

static const unsigned variants[] = {0, 2, 9, 12, 18, 23, 43, 46};

static void for_all(void (*check)(const struct sql_facts *facts, const char *text),
		    unsigned variant_cnt)
{
	const struct sql_facts *facts;
	struct buf text;

	buf_init(&text, 65536);
	for (unsigned i = 0; i < COUNT(statements); i++)
		for (unsigned v = 0; v < variant_cnt; v++) {
			write_variant(statements[i], variants[v], &text);
			facts = sql_analyze(the_engine(), text.data, text.len, true);
			CHECK_MSG(facts->unknown == SQL_KNOWN || v, "cannot be read (%s): %s",
				  sql_unknown_name(facts->unknown), text.data);
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
	CHECK_MSG(policy_set_load_path(path, 1, &shipped, &report) == 0, "%s",
		  buf_str(&report.text));
	policy_report_fini(&report);
	if (!shipped)
		return false;
	policy_set_force_mode(shipped, POLICY_ENFORCE);
	return CHECK_INT(policy_compile_screen(shipped, &shipped_screen), 0);
}

static void test_shipped(void)
{
	static const char *const ordinary[] = {
	    "SELECT abalance FROM pgbench_accounts WHERE aid = 1",
	    "BEGIN",
	    "COMMIT",
	    "SELECT 1",
	    "SELECT id, created_at, updated_at, dropped FROM users WHERE deleted = false ORDER BY "
	    "id LIMIT 10 OFFSET 5",
	    "INSERT INTO pgbench_history (tid, bid) VALUES (1, 2)",
	    "SET search_path = a",
	    "SELECT \"a\", 'b' FROM \"t\" GROUP BY 1",
	};

	if (!load_shipped())
		return;
	CHECK(!shipped_screen.match_all);
	CHECK(shipped_screen.state_cnt > 10);
	pairs = texts = 0;
	for_all(check_shipped, COUNT(variants));
	for (unsigned i = 0; i < COUNT(ordinary); i++)
		CHECK_MSG(!screen_hits(&shipped_screen, ordinary[i], strlen(ordinary[i])),
			  "needless candidate: %s", ordinary[i]);
	printf("  %u states for %u rules\n", shipped_screen.state_cnt, shipped->rule_cnt);
}

/* Ways to write a name so that its letters are not in the text. */
static void test_hidden_names(void)
{
	static const char *const texts_of_secret[] = {
	    "SELECT * FROM secret",
	    "SELECT * FROM \"secret\"",
	    "SELECT * FROM SeCrEt",
	    "SELECT * FROM U&\"\\0073ecret\"",
	    "SELECT * FROM u&\"s\\0065cret\"",
	    "SELECT * FROM U&\"!0073ecret\" UESCAPE '!'",
	    "DROP SCHEMA secret_schema",
	};
	struct policy_set *set = load_rule("objects: [secret_schema.secret]");

	if (!set)
		return;
	CHECK_INT(policy_compile_screen(set, &screen), 0);
	for (unsigned i = 0; i < COUNT(texts_of_secret); i++)
		CHECK_MSG(check_sound(set, &screen,
				      sql_analyze(the_engine(), texts_of_secret[i],
						  strlen(texts_of_secret[i]), true),
				      texts_of_secret[i], "hidden"),
			  "should deny: %s", texts_of_secret[i]);
	CHECK(!screen_hits(&screen, "SELECT * FROM other", 19));
	policy_set_free(set);
	set = load_rule("objects: ['a\"b']");
	if (set) {
		const char *text = "SELECT * FROM \"a\"\"b\"";

		CHECK_INT(policy_compile_screen(set, &screen), 0);
		CHECK(check_sound(set, &screen, sql_analyze(the_engine(), text, strlen(text), true),
				  text, "quote"));
	}
	policy_set_free(set);
	set = load_rule("functions: [pg_read_file]");
	if (set) {
		const char *text = "SELECT U&\"pg\\005Fread_file\"('x')";

		CHECK_INT(policy_compile_screen(set, &screen), 0);
		CHECK(check_sound(set, &screen, sql_analyze(the_engine(), text, strlen(text), true),
				  text, "function"));
	}
	policy_set_free(set);
}

static void test_shapes(void)
{
	static const struct {
		const char *when;
		bool all;
	} tests[] = {
	    {"effects: [read]", true},
	    {"effects: [schema_destroy]", false},
	    {"effects: [read], objects: [secret]", false},
	    {"columns: ['*.ssn']", true},
	    {"columns: [customers.ssn]", false},
	    {"columns: [ssn]", true},
	    {"columns: [ssn], effects: [modify]", false},
	    {"unknown: true", true},
	    {"unknown: true, effects: [modify]", true},
	    {"identity: {db_user: [x]}", true},
	    {"objects: ['*']", true},
	    {"objects: ['audit_*']", false},
	    {"objects: ['\303\244\303\266']", true},
	    {"objects: ['\303\244rger']", false},
	    {"commands: ['DROP *']", false},
	    {"commands: ['*']", true},
	    {"commands: ['D*']", true},
	    {"function_risk: [unknown]", true},
	    {"function_risk: [file]", false},
	    {"selective: false", false},
	};

	for (unsigned i = 0; i < COUNT(tests); i++) {
		struct policy_set *set = load_rule(tests[i].when);

		if (!set)
			continue;
		CHECK_INT(policy_compile_screen(set, &screen), 0);
		CHECK_MSG(screen.match_all == tests[i].all, "{%s}: match_all is %u", tests[i].when,
			  screen.match_all);
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
	static const unsigned counts[] = {30, 60, 120, 400, 1000};
	bool gave_up = false, fitted = false;
	struct buf when, text;

	for (unsigned n = 0; n < COUNT(counts); n++) {
		struct policy_set *set;

		buf_init(&when, 65536);
		buf_init(&text, 65536);
		buf_puts(&text, "apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: "
				"p}\nspec:\n  mode: enforce\n"
				"  rules: [{name: r, action: deny, when: {objects: [");
		for (unsigned i = 0; i < counts[n]; i++)
			buf_printf(&text, "%c%c%c_some_rather_long_name_%u, ", 'a' + i % 26,
				   'a' + i / 26 % 26, 'a' + i / 7 % 26, i);
		buf_puts(&text, "x_y]}}]\n");
		set = load(buf_str(&text));
		if (set) {
			CHECK_INT(policy_compile_screen(set, &screen), 0);
			gave_up |= screen.match_all;
			fitted |= !screen.match_all;
			for (unsigned i = 0; i < counts[n]; i++) {
				buf_reset(&when);
				buf_printf(&when, "SELECT * FROM %c%c%c_some_rather_long_name_%u",
					   'a' + i % 26, 'a' + i / 26 % 26, 'a' + i / 7 % 26, i);
				CHECK_MSG(screen_hits(&screen, when.data, when.len), "%s",
					  when.data);
			}
		}
		policy_set_free(set);
		buf_fini(&when);
		buf_fini(&text);
	}
	CHECK(gave_up && fitted);
}

static struct policy_set *mixed;
static struct dbf_screen mixed_screen;

static bool load_mixed(void)
{
	if (!mixed)
		mixed = load_two("effects: [modify, delete, session, notify]",
				 "effects: [schema_destroy, schema_alter, privilege]");
	return mixed && CHECK_INT(policy_compile_screen(mixed, &mixed_screen), 0);
}

/* What a closed policy denies has a word of its own. */
static void check_mixed(const struct sql_facts *facts, const char *text)
{
	struct identity who = {.engine = "postgresql"};
	struct policy_decision d;

	check_sound(mixed, &mixed_screen, facts, text, "one of two policies");
	policy_eval(mixed, facts, &who, &d);
	for (unsigned i = 0; i < d.match_cnt; i++)
		if (!strcmp(d.matches[i].policy, "strict"))
			CHECK_MSG(screen_look(&mixed_screen, text, strlen(text)) == CLOSED,
				  "the closed policy denies, and would not be asked for: %s", text);
}

static void test_mixed(void)
{
	if (load_mixed())
		for_all(check_mixed, COUNT(variants));
}

/* Which fail mode a text falls by: that of the policies whose rules need it judged. */
static void test_fail_modes(void)
{
	static const struct {
		const char *open, *closed, *text;
		enum found want;
	} tests[] = {
	    {"effects: [modify]", "effects: [schema_destroy]", "SELECT 1", NOTHING},
	    {"effects: [modify]", "effects: [schema_destroy]", "UPDATE t SET a = 1", OPEN},
	    {"effects: [modify]", "effects: [schema_destroy]", "DROP TABLE t", CLOSED},
	    {"effects: [modify]", "effects: [schema_destroy]", "UPDATE t SET a = 1; DROP TABLE t", CLOSED},
	    {"effects: [modify]", "effects: [schema_destroy]", "DROP TABLE t; UPDATE t SET a = 1", CLOSED},
	    /* One word in another. */
	    {"objects: [secret]", "objects: [secret_table]", "SELECT * FROM secret", OPEN},
	    {"objects: [secret]", "objects: [secret_table]", "SELECT * FROM secret_table", CLOSED},
	    {"objects: [secret]", "objects: [top_secret]", "SELECT * FROM top_secret", CLOSED},
	    {"objects: [top_secret]", "objects: [secret]", "SELECT * FROM top_secret", CLOSED},
	    {"objects: [secret]", "objects: [secret]", "SELECT * FROM secret", CLOSED},
	    {"objects: [arrow]", "objects: [rows]", "SELECT * FROM arrows", CLOSED},
	    {"objects: [crows]", "objects: [row_level]", "SELECT * FROM crow_level", CLOSED},
	    /* Escapes count for those that name something. */
	    {"objects: [secret]", "commands: ['DROP *']", "SELECT * FROM U&\"\\0073ecret\"", OPEN},
	    {"effects: [schema_destroy]", "objects: [secret]", "SELECT * FROM U&\"\\0073ecret\"", CLOSED},
	    /* Every text is a candidate, for one of them. */
	    {"effects: [read]", "effects: [schema_destroy]", "SELECT 1", OPEN},
	    {"effects: [read]", "effects: [schema_destroy]", "DROP TABLE t", CLOSED},
	    {"effects: [schema_destroy]", "effects: [read]", "SELECT 1", CLOSED},
	};

	for (unsigned i = 0; i < COUNT(tests); i++) {
		struct policy_set *set = load_two(tests[i].open, tests[i].closed);

		if (!set)
			continue;
		CHECK_INT(policy_compile_screen(set, &screen), 0);
		CHECK_MSG(screen_look(&screen, tests[i].text, strlen(tests[i].text)) == tests[i].want,
			  "open {%s}, closed {%s}: %s", tests[i].open, tests[i].closed, tests[i].text);
		policy_set_free(set);
	}
}

/* The automaton finds exactly the words, wherever they stand and whatever stands before. */
static void test_automaton(void)
{
	unsigned seed = 12345, hits[3] = {0};
	struct words words;
	char text[64];

	if (!load_mixed())
		return;
	words_init(&words);
	words_of_set(&words, mixed);
	for (unsigned round = 0; round < 200000; round++) {
		enum found want = NOTHING;
		unsigned len;

		/* Words, cut at random and glued together, so that failures lead into the middle of
		 * others. */
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
		for (unsigned i = 0; i < words.cnt && want != CLOSED; i++)
			if (memmem(text, len, words.v[i].text, words.v[i].len))
				want = words.v[i].open ? OPEN : CLOSED;
		hits[want]++;
		if (!CHECK_MSG(screen_look(&mixed_screen, text, len) == want, "%.*s", (int)len,
			       text))
			break;
	}
	CHECK_MSG(hits[NOTHING] > 1000 && hits[OPEN] > 1000 && hits[CLOSED] > 1000, "%u %u %u", hits[NOTHING],
		  hits[OPEN], hits[CLOSED]);
	words_fini(&words);
}

/* Reported, not judged: the figure depends on the machine. */
static void test_speed(void)
{
	static const char *const sql[] = {
	    "SELECT abalance FROM pgbench_accounts WHERE aid = 1",
	    "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 2",
	    "DROP TABLE customers"};
	struct identity who = {
	    .engine = "postgresql", .database = "d", .db_user = "u", .transport = "tcp"};
	struct policy_decision decision;
	uint64_t start, ns, sum = 0;

	if (!load_shipped())
		return;
	for (unsigned i = 0; i < COUNT(sql); i++) {
		const struct sql_facts *facts =
		    sql_analyze(the_engine(), sql[i], strlen(sql[i]), true);

		start = clock_mono_ns();
		for (unsigned n = 0; n < 20000; n++) {
			policy_eval(shipped, facts, &who, &decision);
			sum += decision.match_total;
		}
		ns = (clock_mono_ns() - start) / 20000;
		printf("  policy_eval, %u rules: %llu ns for %s\n", shipped->rule_cnt,
		       (unsigned long long)ns, sql[i]);
	}
	CHECK(sum >= 20000);
}

static void test_done(void)
{
	policy_set_free(shipped);
	policy_set_free(mixed);
	shipped = mixed = NULL;
	sql_engine_free(engine);
	engine = NULL;
}

/* Rules on what they are see them; rules on anything else leave them alone, whatever their words are. */
static void test_replication_commands(void)
{
	static const char *const commands[] = {
	    "ALTER_REPLICATION_SLOT kept (FAILOVER)", "BASE_BACKUP (LABEL 'x')",
	    "CREATE_REPLICATION_SLOT kept PHYSICAL", "DROP_REPLICATION_SLOT kept", "IDENTIFY_SYSTEM",
	    "READ_REPLICATION_SLOT kept", "START_REPLICATION SLOT \"kept\" 0/3000000 TIMELINE 1",
	    "TIMELINE_HISTORY 2", "UPLOAD_MANIFEST"};
	static const struct {
		const char *when;
		bool concerns;
	} rules[] = {
	    {"effects: [replication]", true},
	    {"effects: [read, bulk_export]", true},
	    {"commands: ['BASE_BACKUP']", true},
	    {"commands: ['DROP *', '*SLOT']", true},
	    {"objects: [kept]", true},
	    {"unknown: true", true},
	    {"identity: {db_user: [x]}", true},
	    {"effects: [schema_destroy, modify, delete]", false},
	    {"effects: [read], columns: [ssn]", false},
	    {"columns: ['*.ssn']", false},
	    {"function_risk: [file]", false},
	    {"commands: ['DROP *']", false},
	    {"selective: false", false},
	};
	struct policy_summary summary;

	for (unsigned i = 0; i < COUNT(commands); i++) {
		const struct sql_facts *facts =
		    sql_analyze_walsender(the_engine(), commands[i], strlen(commands[i]), true);

		CHECK_INT(facts->unknown, SQL_KNOWN);
		check_effects(facts, commands[i]);
		check_facts(facts, commands[i]);
	}
	for (unsigned i = 0; i < COUNT(rules); i++) {
		struct policy_set *set = load_rule(rules[i].when);

		if (!set)
			continue;
		policy_set_summary(set, &summary);
		CHECK_MSG(summary.replication == rules[i].concerns, "{%s}: replication is %d", rules[i].when,
			  summary.replication);
		policy_set_force_mode(set, POLICY_SHADOW);
		policy_set_summary(set, &summary);
		CHECK(!summary.replication);
		policy_set_free(set);
	}
	mixed = load_two("effects: [modify, delete, session]", "effects: [schema_destroy, schema_create, transaction]");
	if (mixed && CHECK_INT(policy_compile_screen(mixed, &screen), 0))
		for (unsigned i = 0; i < COUNT(commands); i++)
			CHECK_MSG(screen_look(&screen, commands[i], strlen(commands[i])) == NOTHING, "a candidate: %s",
				  commands[i]);
	policy_set_free(mixed);
	mixed = NULL;
}

static const struct test_case cases[] = {
    {"replication_commands", test_replication_commands},
    {"effects", test_effects},	   {"everything_named", test_everything_named},
    {"shipped", test_shipped},	   {"hidden_names", test_hidden_names},
    {"shapes", test_shapes},	   {"too_many_words", test_too_many_words},
    {"mixed", test_mixed},	   {"fail_modes", test_fail_modes},
    {"automaton", test_automaton}, {"speed", test_speed},
    {"done", test_done},
};

TEST_MAIN(cases)
