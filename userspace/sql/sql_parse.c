// SPDX-License-Identifier: Apache-2.0
/*
 * Owns the use of libpg_query. Its JSON is read, not its protobuf: that costs four to nine times as much, and packing
 * it measures every subtree once per level, which is quadratic in the depth that an attacker chooses.
 */
#include "sql/sql_parse.h"

#include <pg_query.h>
#include <stdlib.h>
#include <string.h>

#include "sql/sql_json.h"
#include "sql/sql_stack.h"

/* The tree of the longest text that may be parsed takes a quarter of this. */
#define ARENA_MAX (256UL << 20)

/* The server's settings that change how text is read; libpg_query exports its own copies of them. */
extern __thread bool standard_conforming_strings;
extern __thread bool escape_string_warning;

struct sql_parser {
	struct sql_stack *stack;	/* owned */
	struct sql_arena arena;
	/* The call in progress. */
	const char *text;
	const struct sql_lex *lex;
	struct sql_core *core;
};

struct sql_parser *sql_parser_new(void)
{
	struct sql_parser *parser = calloc(1, sizeof(*parser));

	if (!parser)
		return NULL;
	sql_json_init();
	sql_arena_init(&parser->arena, ARENA_MAX);
	parser->stack = sql_stack_new(LIMIT_SQL_PARSE_STACK);
	if (parser->stack)
		return parser;
	sql_parser_free(parser);
	return NULL;
}

void sql_parser_free(struct sql_parser *parser)
{
	if (!parser)
		return;
	sql_stack_free(parser->stack);
	sql_arena_fini(&parser->arena);
	free(parser);
}

static unsigned count_items(const struct jnode *list)
{
	unsigned cnt = 0;

	jnode_for_each(item, list)
		cnt++;
	return cnt;
}

/* The statement's segments, from where the parser says it begins and how long it is (0: to the end). */
static struct sql_span span_of(const struct sql_lex *lex, const struct jnode *raw, uint32_t from)
{
	uint64_t start = (uint64_t)jnode_num(raw, "stmt_location"), len = (uint64_t)jnode_num(raw, "stmt_len");
	uint32_t last_segment = lex->segment_cnt - 1;
	struct sql_span span = { from, from };

	while (span.first < last_segment && lex->segments[span.first].semi < start)
		span.first++;
	for (span.last = span.first; span.last < last_segment; span.last++)
		if (len && lex->segments[span.last].semi >= start + len)
			break;
	/* Semicolons in front of it belong to nothing. */
	while (span.first < span.last && lex->segments[span.first].start == lex->segments[span.first].end)
		span.first++;
	return span;
}

static void copy_fingerprint(struct sql_core *core, const char *text)
{
	PgQueryFingerprintResult result = pg_query_fingerprint(text);

	if (!result.error && result.fingerprint_str)
		strncpy(core->facts.fingerprint, result.fingerprint_str, sizeof(core->facts.fingerprint) - 1);
	pg_query_free_fingerprint_result(result);
}

static struct sql_core *build_facts(struct sql_parser *parser, const struct jnode *root)
{
	const struct jnode *stmts = jnode_get(root, "stmts");
	unsigned cnt = count_items(stmts), i = 0;
	struct sql_span *spans = sql_arena_alloc(&parser->arena, (cnt + 1) * sizeof(*spans));
	struct walk *walks = sql_arena_alloc(&parser->arena, (cnt + 1) * sizeof(*walks));
	struct sql_core *core;

	if (!root || !stmts || !spans || !walks)
		return sql_core_new(NULL, NULL, 0, SQL_UNKNOWN_RESOURCE, NULL);
	if (cnt > LIMIT_SQL_STATEMENTS)
		return sql_core_new(NULL, NULL, 0, SQL_UNKNOWN_TOO_MANY, NULL);
	jnode_for_each(raw, stmts) {
		spans[i] = span_of(parser->lex, raw, i ? spans[i - 1].last : 0);
		sql_walk_start(&walks[i], &parser->arena, jnode_get(raw, "stmt"));
		i++;
	}
	core = sql_core_new(walks, spans, cnt, SQL_KNOWN, NULL);
	if (core)
		copy_fingerprint(core, parser->text);
	return core;
}

/* Runs on the large stack. */
static void parse_and_walk(void *arg)
{
	struct sql_parser *parser = arg;
	PgQueryParseResult result;

	standard_conforming_strings = parser->lex->standard_strings;
	escape_string_warning = false;
	result = pg_query_parse(parser->text);
	if (result.error || !result.parse_tree) {
		const char *message = result.error ? result.error->message : NULL;
		bool memory = message && !strncmp(message, "memory exhausted", 16);

		parser->core = sql_core_new(NULL, NULL, 0, memory ? SQL_UNKNOWN_DEPTH : SQL_UNKNOWN_SYNTAX, message);
	} else {
		parser->core = build_facts(parser, sql_json_parse(&parser->arena, result.parse_tree));
	}
	pg_query_free_parse_result(result);
}

struct sql_core *sql_parser_run(struct sql_parser *parser, const char *text, const struct sql_lex *lex)
{
	parser->text = text;
	parser->lex = lex;
	parser->core = NULL;
	sql_arena_reset(&parser->arena);
	sql_stack_run(parser->stack, parse_and_walk, parser);
	sql_arena_reset(&parser->arena);
	return parser->core;
}
