/* SPDX-License-Identifier: Apache-2.0 */
/* The only place that calls libpg_query: a text that the lexer let pass, to facts, on the parser's stack. */
#ifndef DBFENCE_SQL_SQL_PARSE_H
#define DBFENCE_SQL_SQL_PARSE_H

#include "sql/sql_facts.h"

struct sql_parser;

/* NULL with errno. */
struct sql_parser *sql_parser_new(void);
void sql_parser_free(struct sql_parser *parser);

/*
 * Facts of @text (NUL-terminated, not refused by @lex, which has just run on it), with one reference for the caller.
 * NULL only when memory ran out.
 */
struct sql_core *sql_parser_run(struct sql_parser *parser, const char *text, const struct sql_lex *lex);

#endif
