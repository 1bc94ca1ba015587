// SPDX-License-Identifier: Apache-2.0
/*
 * Statement -> facts, as a table in tests/golden/sql/facts.txt. A row is a line "= statement" (with \n, \t, \v, \r, \\
 * and \xNN escapes; a line "@ off" before it switches standard_conforming_strings off) and below it, indented, what the
 * engine says. DBFENCE_GOLDEN_UPDATE=1 rewrites the table; the difference is to be reviewed as code.
 */
#include "../lib/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/buf.h"
#include "sql/sql.h"

#define TABLE "tests/golden/sql/facts.txt"

static void put_effects(struct buf *b, uint32_t effects)
{
	bool any = false;

	for (unsigned e = 1; e < SQL_EFFECT_MAX; e++) {
		if (!(effects & SQL_BIT(e)))
			continue;
		buf_printf(b, "%s%s", any ? "," : "", sql_effect_name((enum sql_effect)e));
		any = true;
	}
	if (!any)
		buf_putc(b, '-');
}

static void put_object(struct buf *b, const struct sql_object *object)
{
	buf_printf(b, "    %s %s%s%s ", sql_object_kind_name(object->kind), object->schema ? object->schema : "",
		   object->schema ? "." : "", object->name);
	put_effects(b, object->effects);
	if (object->column_cnt || object->all_columns) {
		buf_puts(b, " (");
		for (unsigned i = 0; i < object->column_cnt; i++)
			buf_printf(b, "%s%s", i ? " " : "", object->columns[i]);
		buf_printf(b, "%s%s)", object->column_cnt && object->all_columns ? " " : "",
			   object->all_columns ? "*" : "");
	}
	buf_putc(b, '\n');
}

static void put_stmt(struct buf *b, const struct sql_stmt *stmt)
{
	static const char *const selective[] = { "", " selective", " NOT-SELECTIVE", " selective-unknown" };

	buf_printf(b, "  %s: ", stmt->command);
	put_effects(b, stmt->effects);
	buf_printf(b, "%s%s%s%s%s\n", selective[stmt->selective], stmt->has_where ? " where" : "",
		   stmt->where_true ? " where-true" : "", stmt->has_limit ? " limit" : "",
		   stmt->has_returning ? " returning" : "");
	for (unsigned i = 0; i < stmt->object_cnt; i++)
		put_object(b, &stmt->objects[i]);
	for (unsigned i = 0; i < stmt->function_cnt; i++)
		buf_printf(b, "    %s%s%s() risk=%s\n", stmt->functions[i].schema ? stmt->functions[i].schema : "",
			   stmt->functions[i].schema ? "." : "", stmt->functions[i].name,
			   sql_func_risk_name(stmt->functions[i].risk));
}

static void put_facts(struct buf *b, const struct sql_facts *facts, const char *sql)
{
	if (strcmp(facts->masked, sql) != 0) {
		buf_puts(b, "  masked ");
		for (const char *p = facts->masked; *p; p++)
			buf_printf(b, (unsigned char)*p < ' ' ? "\\x%02x" : "%c", (unsigned char)*p);
		buf_putc(b, '\n');
	}
	if (facts->tags[0])
		buf_printf(b, "  tags %s\n", facts->tags);
	if (facts->unknown)
		buf_printf(b, "  UNKNOWN %s\n", sql_unknown_name(facts->unknown));
	if (facts->literal_dependent && !facts->unknown)
		buf_puts(b, "  literal-dependent\n");
	for (unsigned i = 0; i < facts->stmt_cnt; i++)
		put_stmt(b, &facts->stmts[i]);
}

/* In place; returns the length. */
static size_t unescape(char *s)
{
	static const char from[] = "ntvr\\", to[] = "\n\t\v\r\\";
	char *out = s, *start = s;

	while (*s) {
		const char *at = s[0] == '\\' && s[1] ? strchr(from, s[1]) : NULL;

		if (at) {
			*out++ = to[at - from];
			s += 2;
		} else if (s[0] == '\\' && s[1] == 'x' && s[2] && s[3]) {
			char digits[3] = { s[2], s[3], 0 };

			*out++ = (char)strtol(digits, NULL, 16);
			s += 4;
		} else {
			*out++ = *s++;
		}
	}
	*out = '\0';
	return (size_t)(out - start);
}

static char *read_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	struct buf b;
	char chunk[4096];
	size_t n;

	if (!f)
		return NULL;
	buf_init(&b, 8 << 20);
	while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
		buf_put(&b, chunk, n);
	fclose(f);
	buf_putc(&b, '\0');
	return b.data;
}

struct golden {
	struct sql_engine *engine;
	struct buf whole;	/* the table as it should be now */
	unsigned rows, failed;
	bool standard_strings;
};

/* @line is "= statement"; @expected what stands below it in the table. */
static void check_row(struct golden *g, char *line, const char *expected, size_t expected_len)
{
	struct buf got;
	char *sql = line[1] ? line + 2 : line + 1;
	size_t len;

	buf_init(&got, 1 << 20);
	buf_printf(&g->whole, "%s\n", line);
	len = unescape(sql);
	put_facts(&got, sql_analyze(g->engine, sql, len, g->standard_strings), sql);
	buf_puts(&g->whole, buf_str(&got));
	g->rows++;
	if (got.len != expected_len || memcmp(buf_str(&got), expected, expected_len) != 0) {
		g->failed++;
		test_check(getenv("DBFENCE_GOLDEN_UPDATE") != NULL, __FILE__, __LINE__,
			   "%s\n--- expected\n%.*s--- got\n%s", line, (int)expected_len, expected, buf_str(&got));
	}
	buf_fini(&got);
	g->standard_strings = true;
}

static void run_table(struct golden *g, char *table)
{
	char *line = table;

	while (*line) {
		char *end = line + strcspn(line, "\n"), *next = *end ? end + 1 : end, *rest = next;

		*end = '\0';
		if (!strcmp(line, "@ off"))
			g->standard_strings = false;
		if (line[0] != '=') {
			buf_printf(&g->whole, "%s\n", line);
			line = next;
			continue;
		}
		while (rest[0] == ' ')
			rest += strcspn(rest, "\n") + (rest[strcspn(rest, "\n")] == '\n');
		check_row(g, line, next, (size_t)(rest - next));
		line = rest;
	}
}

static void test_golden_table(void)
{
	static const uint8_t key[16] = "golden table key";
	struct golden g = { .engine = sql_engine_new(4096, key), .standard_strings = true };
	char *table = read_file(TABLE);
	FILE *f;

	buf_init(&g.whole, 8 << 20);
	if (!CHECK(g.engine != NULL) || !CHECK_MSG(table != NULL, "run from the top of the tree: %s", TABLE))
		goto out;
	run_table(&g, table);
	CHECK_MSG(g.rows >= 150, "only %u rows", g.rows);
	if (getenv("DBFENCE_GOLDEN_UPDATE") && g.failed) {
		f = fopen(TABLE, "wb");
		if (CHECK(f != NULL)) {
			CHECK(fwrite(g.whole.data, 1, g.whole.len, f) == g.whole.len);
			CHECK(fclose(f) == 0);
		}
	}
out:
	buf_fini(&g.whole);
	free(table);
	sql_engine_free(g.engine);
}

static const struct test_case cases[] = {
	{ "golden_table", test_golden_table },
};

TEST_MAIN(cases)
