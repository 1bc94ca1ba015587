// SPDX-License-Identifier: Apache-2.0
/*
 * The whole engine on any bytes; the first one chooses standard_conforming_strings and, by the three bits above it, how
 * the text is read: raw_parser's modes, 6 when that is not known, 7 as a walsender's. One engine keeps its caches over
 * all inputs, another one has no cache to speak of: whatever the first one remembers must equal what the second
 * one finds out anew.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/limits.h"
#include "sql/sql.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static int same_string(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static void check_object(const struct sql_object *a, const struct sql_object *b)
{
	require(a->kind < SQL_OBJ_KIND_MAX && a->kind == b->kind && a->effects == b->effects);
	require(same_string(a->schema, b->schema) && a->name && same_string(a->name, b->name));
	require(a->column_cnt == b->column_cnt && a->column_cnt <= LIMIT_SQL_COLUMNS);
	require(a->all_columns == b->all_columns);
	for (unsigned i = 0; i < a->column_cnt; i++)
		require(same_string(a->columns[i], b->columns[i]));
}

static void check_stmt(const struct sql_stmt *a, const struct sql_stmt *b, size_t len)
{
	require(a->command && same_string(a->command, b->command) && a->effects == b->effects);
	require(a->selective == b->selective && a->where_true == b->where_true && a->has_where == b->has_where);
	require(a->has_limit == b->has_limit && a->has_returning == b->has_returning);
	require(a->off == b->off && a->len == b->len && a->off <= len && a->len <= len - a->off);
	require(a->object_cnt == b->object_cnt && a->object_cnt <= LIMIT_SQL_OBJECTS);
	require(a->function_cnt == b->function_cnt);
	for (unsigned i = 0; i < a->object_cnt; i++)
		check_object(&a->objects[i], &b->objects[i]);
	for (unsigned i = 0; i < a->function_cnt; i++)
		require(a->functions[i].risk == b->functions[i].risk &&
			same_string(a->functions[i].name, b->functions[i].name));
}

static void check_facts(const struct sql_facts *a, const struct sql_facts *b, size_t len)
{
	uint32_t all = 0;

	require(a->unknown == b->unknown && a->effects == b->effects && a->stmt_cnt == b->stmt_cnt);
	require((a->unknown != SQL_KNOWN) == !!(a->effects & SQL_BIT(SQL_UNKNOWN)));
	require(a->literal_dependent == b->literal_dependent && a->by_quotes == b->by_quotes && same_string(a->masked, b->masked));
	require(strlen(a->masked) == a->masked_len && same_string(a->tags, b->tags));
	require(strlen(a->fingerprint) == 16);
	for (unsigned i = 0; i < a->stmt_cnt; i++) {
		check_stmt(&a->stmts[i], &b->stmts[i], len);
		all |= a->stmts[i].effects;
	}
	require((all & ~a->effects) == 0);
}

static const struct sql_facts *analyze(struct sql_engine *engine, const char *text, size_t len, bool standard,
				       unsigned mode)
{
	return mode == 7 ? sql_analyze_walsender(engine, text, len, standard) :
			   sql_analyze_mode(engine, text, len, standard, mode);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[16] = "fuzz";
	static struct sql_engine *engine, *fresh;
	unsigned mode;
	bool standard;
	char *text;

	if (!engine) {
		engine = sql_engine_new(512, key);
		fresh = sql_engine_new(1, key);
	}
	require(engine && fresh);
	if (!size)
		return 0;
	standard = data[0] & 1;
	mode = (data[0] >> 1 & 7) | (data[0] & 16 ? SQL_MODE_ANY_QUOTES : 0);
	text = malloc(size);
	require(text != NULL);
	memcpy(text, data + 1, size - 1);
	for (unsigned round = 0; round < 3; round++) {
		const struct sql_facts *known, *found;

		/* Push the text out of the one entry that the second engine has. */
		sql_analyze(fresh, "SELECT 1; SELECT 2", 18, true);
		known = analyze(engine, text, size - 1, standard, mode);
		found = analyze(fresh, text, size - 1, standard, mode);
		/* The grammar refuses a few numbers by their value (float(99)), as the server does: that may go unseen. */
		if (found->unknown != SQL_UNKNOWN_SYNTAX || known->unknown != SQL_KNOWN)
			check_facts(known, found, size - 1);
	}
	free(text);
	return 0;
}
