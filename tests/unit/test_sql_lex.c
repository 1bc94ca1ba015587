// SPDX-License-Identifier: Apache-2.0
/* The lexer alone: what is a literal, where statements end, which texts have one shape, what is refused. */
#include "../lib/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "sql/sql_lex.h"

static const uint8_t key[16] = "a key for tests";
static struct sql_lex *lex;

static const char *mask(const char *sql)
{
	sql_lex_run(lex, sql, strlen(sql), true);
	return lex->masked;
}

static const char *mask_off(const char *sql)
{
	sql_lex_run(lex, sql, strlen(sql), false);
	return lex->masked;
}

static bool same_shape(const char *a, const char *b)
{
	uint8_t shape[16];

	sql_lex_run(lex, a, strlen(a), true);
	memcpy(shape, lex->shape, sizeof(shape));
	sql_lex_run(lex, b, strlen(b), true);
	return !memcmp(shape, lex->shape, sizeof(shape));
}

static void test_masks(void)
{
	static const char *const rows[][2] = {
		{ "", "" },
		{ "select 1", "select ?" },
		{ "select 'a''b'", "select ?" },
		{ "select 'a\\'", "select ?" },
		{ "select e'a\\'b' , E'\\\\'", "select ? , ?" },
		{ "select type'x'", "select type?" },
		{ "select ae'x'", "select ae?" },
		{ "select 'a' \n 'b' \t\r 'c'", "select ?" },
		{ "select 'a' --c\n'b'", "select ?" },
		{ "select 'a' 'b'", "select ? ?" },
		{ "select 'a' /* \n */ 'b'", "select ? /* \n */ ?" },
		{ "select b'01' || X'ff' || u&'\\0041' || N'x'", "select ? || ? || ? || ?" },
		{ "select U&\"a\"\"b'\" , \"x'y\"", "select U&\"a\"\"b'\" , \"x'y\"" },
		{ "select u & 'x'", "select u & ?" },
		{ "select $1, $23+$4", "select $1, $23+$4" },
		{ "select a$1, $$x$$, $t$ $$ $t$", "select a$1, ?, ?" },
		{ "select $t$ $T$ $t$", "select ?" },
		{ "select $a$b$a$c$a$", "select ?c$a$" },
		{ "select $1$", "select $1$" },
		{ "select $ x", "select $ x" },
		{ "select 1.5, .5e-3, 1., 1e5x, 0xff, a.b", "select ?, ?, ?, ?x, ?xff, a.b" },
		{ "select a[1..2]", "select a[?..?]" },
		{ "select 1--2", "select ?--2" },
		{ "select 1-'x'", "select ?-?" },
		{ "select a/*'*/'b'", "select a/*'*/?" },
		{ "select a-/* x */-'b'", "select a-/* x */-?" },
		{ "select /* /* ' */ ' */ 'x'", "select /* /* ' */ ' */ ?" },
		{ "select '--' , '/*', \"--\"", "select ? , ?, \"--\"" },
		{ "select 'x", "select ?" },
		{ "select $x$ secret", "select ?" },
		{ "select \"secret 'x'", "select ?" },
		{ "create role a password 'geheim'", "create role a password ?" },
		{ "do $$ password 'x' $$", "do ?" },
		{ "select 1 -- the PassWord is x\nfrom t", "select ? --?\nfrom t" },
		{ "select /* api_key: abc */ 1", "select /*?*/ ?" },
		{ "select '\xff\xfe\xc3' , \xc3\xa4", "select ? , \xc3\xa4" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		CHECK_STR(mask(rows[i][0]), rows[i][1]);
}

static void test_backslashes_without_standard_strings(void)
{
	CHECK_STR(mask_off("select 'a\\'; drop table t --'"), "select ?");
	CHECK_STR(mask_off("select N'a\\'b'; x"), "select ?; x");
	CHECK_STR(mask_off("select 'a\\\\'; drop"), "select ?; drop");
	CHECK_STR(mask("select 'a\\'; drop"), "select ?; drop");
}

static void test_tags(void)
{
	mask("select 1 /*application='web',route='%2Fx'*/ -- a='b'\n /* plain */ /*x=1*/");
	CHECK_STR(lex->tags, "application='web',route='%2Fx',a='b'");
	mask("/*token='abc'*/ select 1");
	CHECK_STR(lex->tags, "");
	mask("select 1");
	CHECK_STR(lex->tags, "");
}

static void test_segments(void)
{
	const char *sql = " ; select 1 /* ; */ ;; -- ;\n drop \"a;b\" ; ";

	mask(sql);
	CHECK_INT(lex->segment_cnt, 5);
	CHECK_INT(lex->segments[0].start, lex->segments[0].end);
	CHECK_INT(lex->segments[1].end - lex->segments[1].start, strlen("select 1"));
	CHECK(!strncmp(sql + lex->segments[1].start, "select 1", 8));
	CHECK_INT(lex->segments[2].start, lex->segments[2].end);
	CHECK(!strncmp(sql + lex->segments[3].start, "drop \"a;b\"", 10));
	CHECK_INT(lex->segments[3].end - lex->segments[3].start, 10);
	CHECK_INT(lex->segments[4].start, lex->segments[4].end);
}

static void test_shapes(void)
{
	CHECK(same_shape("select 1 from t", "select 22222 from t"));
	CHECK(same_shape("select 'a' from t", "select $x$ b $x$ from t") == false);
	CHECK(same_shape("select 'a' from t", "select e'\\x' from t"));
	CHECK(same_shape("select 1 /*traceparent='1'*/", "select 1 /*traceparent='2'*/"));
	CHECK(same_shape("select/**/1", "select/* x */1"));
	CHECK(same_shape("select/**/1", "select 1"));
	CHECK(!same_shape("select 1", "select '1'"));
	CHECK(!same_shape("select a ? b", "select a 'x' b"));
	CHECK(!same_shape("select 'a' ? b", "select a ? 'b'"));
	CHECK(!same_shape("select 1 'a'", "select 'a' 1"));
	CHECK(!same_shape("select a", "select A"));
	CHECK(!same_shape("select $1", "select $2"));
	CHECK(!same_shape("select 'x'", "select 'x"));
	CHECK(!same_shape("select 1 /* */", "select 1 /* "));
	CHECK(!same_shape("select 1; select 2", "select 1 select 2"));
}

static void test_key_changes_shape(void)
{
	static const uint8_t other_key[16] = "another key.....";
	struct sql_lex *other = sql_lex_new(other_key);

	if (!CHECK(other != NULL))
		return;
	mask("select 1");
	sql_lex_run(other, "select 1", 8, true);
	CHECK(memcmp(lex->shape, other->shape, sizeof(lex->shape)) != 0);
	sql_lex_free(other);
}

/* @head, then @part over and over up to @len bytes; what the lexer says of it, within a time that only linear code meets. */
static enum sql_unknown refused(const char *head, const char *part, size_t len)
{
	char *text = malloc(len + 64);
	size_t used = strlen(head);
	uint64_t start;

	if (!CHECK(text != NULL))
		return SQL_KNOWN;
	memcpy(text, head, used);
	while (used + strlen(part) <= len) {
		memcpy(text + used, part, strlen(part));
		used += strlen(part);
	}
	start = clock_mono_ns();
	sql_lex_run(lex, text, used, true);
	CHECK_MSG(clock_mono_ns() - start < 200 * NS_PER_MS, "%s%s... took %llu us", head, part,
		  (unsigned long long)(clock_mono_ns() - start) / 1000);
	CHECK(lex->masked_len <= used);
	free(text);
	return lex->refused;
}

static void test_refusals(void)
{
	CHECK_INT(refused("select 1", "+1", 60000), SQL_UNKNOWN_DEPTH);
	CHECK_INT(refused("select a", "::x", 60000), SQL_UNKNOWN_DEPTH);
	CHECK_INT(refused("select a", " is null", 60000), SQL_UNKNOWN_DEPTH);
	CHECK_INT(refused("select (1", "+(1", 60000), SQL_UNKNOWN_DEPTH);
	CHECK_INT(refused("select a from a", " join b on c", 65000), SQL_UNKNOWN_DEPTH);
	CHECK_INT(refused("table a", " union table b", 65000), SQL_KNOWN);
	CHECK_INT(refused("(table a)", "except(a)", 65000), SQL_UNKNOWN_DEPTH);
	CHECK_INT(refused("select ", "(", 60000), SQL_UNKNOWN_DEPTH);
	CHECK_INT(refused("select ", "+", 20000), SQL_UNKNOWN_OPERATOR_RUN);
	CHECK_INT(refused("select ", "+ ", 8000), SQL_KNOWN);
	CHECK_INT(refused("select 1 ", "/*", 20000), SQL_UNKNOWN_OPERATOR_RUN);
	CHECK_INT(refused("select 1 ", "/**/", 60000), SQL_UNKNOWN_OPERATOR_RUN);
	CHECK_INT(refused("select 1 /* x", "*//*/**/", 60000), SQL_UNKNOWN_OPERATOR_RUN);
	CHECK_INT(refused("select 1 /* x ", "/**/", 60000), SQL_UNKNOWN_OPERATOR_RUN);
	CHECK_INT(refused("select 1 ", "/* ", 20000), SQL_UNKNOWN_COMMENT_NESTING);
	CHECK_INT(refused("", "select 1;", 20000), SQL_UNKNOWN_TOO_MANY);
	CHECK_INT(refused("select ", "1,", 70000), SQL_UNKNOWN_TOO_LONG);
	CHECK_INT(refused("select '", "$", 60000), SQL_KNOWN);
	CHECK_INT(refused("select ", "$a", 60000), SQL_KNOWN);
	CHECK_INT(refused("select ", "'a'\n", 60000), SQL_KNOWN);
}

static void test_long_but_flat(void)
{
	CHECK_INT(refused("select a where b=1", " or b=1", 60000), SQL_KNOWN);
	CHECK_INT(refused("select a where b=1", " and b=1", 60000), SQL_KNOWN);
	CHECK_INT(refused("select a", ",a+1", 60000), SQL_KNOWN);
	CHECK_INT(refused("insert into t values (1)", ",(1+2+3)", 60000), SQL_KNOWN);
	CHECK_INT(refused("select a where b in (1", ",-1", 60000), SQL_KNOWN);
	/* BETWEEN's AND does not end a chain of its own kind. */
	CHECK_INT(refused("select a", " between a and a is null", 65500), SQL_UNKNOWN_DEPTH);
	CHECK_INT(refused("select 1 /*", "*", 60000), SQL_KNOWN);
	CHECK_INT(refused("select 1 --", "-", 60000), SQL_KNOWN);
}

static void test_nul(void)
{
	sql_lex_run(lex, "select 1\0drop", 13, true);
	CHECK_INT(lex->refused, SQL_UNKNOWN_NUL);
	CHECK_INT(lex->masked_len, strlen("select ? drop"));
	sql_lex_run(lex, "select '\0'", 10, true);
	CHECK_INT(lex->refused, SQL_UNKNOWN_NUL);
	sql_lex_run(lex, "select \"\0\"", 10, true);
	CHECK_INT(lex->refused, SQL_UNKNOWN_NUL);
	sql_lex_run(lex, "select /*\0*/ 1", 14, true);
	CHECK_INT(lex->refused, SQL_UNKNOWN_NUL);
}

static void check_assign(const char *sql, int at, int len)
{
	sql_lex_run(lex, sql, strlen(sql), true);
	CHECK_MSG((int)lex->assign_len == len && (!len || (int)lex->assign == at), "%s: %u, %u", sql, lex->assign,
		  lex->assign_len);
}

static void test_assignment_operator(void)
{
	check_assign("x := 1", 2, 2);
	check_assign("x = 1 = 2", 2, 1);
	check_assign("x:=-1", 1, 2);
	check_assign("x =-+1", 2, 1);
	check_assign("$1 := 1", 3, 2);
	check_assign("\"a:=b\".c /* := */ [f(y := 1)][a = b] := 2", 37, 2);
	check_assign("x['='] -- =\n = y", 13, 1);
	check_assign("x) := 1", 3, 2);
	check_assign("f(a := 1)", 0, 0);
	check_assign("a >= b", 0, 0);
	check_assign("a => b", 0, 0);
	check_assign("a =@ b", 0, 0);
	check_assign("a::int", 0, 0);
	check_assign("(x := 1", 0, 0);
	check_assign("a : = 1", 4, 1);
	check_assign("", 0, 0);
}

static const struct test_case cases[] = {
	{ "assignment_operator", test_assignment_operator },
	{ "masks", test_masks },
	{ "backslashes_without_standard_strings", test_backslashes_without_standard_strings },
	{ "tags", test_tags },
	{ "segments", test_segments },
	{ "shapes", test_shapes },
	{ "key_changes_shape", test_key_changes_shape },
	{ "refusals", test_refusals },
	{ "long_but_flat", test_long_but_flat },
	{ "nul", test_nul },
};

int main(int argc, char **argv)
{
	int failed;

	lex = sql_lex_new(key);
	if (!lex)
		return 1;
	failed = test_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
	sql_lex_free(lex);
	return failed;
}
