/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The linear lexer: one pass over any bytes, in PostgreSQL's own lexical rules, before anything else sees them.
 *
 * It finds where literals and comments are, writes the masked text, collects sqlcommenter tags, marks where each
 * statement begins and ends, makes the keyed shape hash, and refuses what makes libpg_query crash or crawl. It
 * knows nothing of grammar; it never fails, since every byte sequence has some masked text.
 */
#ifndef DBFENCE_SQL_SQL_LEX_H
#define DBFENCE_SQL_SQL_LEX_H

#include "core/limits.h"
#include "sql/sql.h"

#define SQL_LEX_TAGS_MAX 4096

/* What stands between two top-level or inner semicolons, without the white space and comments around it. */
struct sql_segment {
	uint32_t start, end;	/* equal when empty */
	uint32_t semi;		/* where its semicolon is, or the text's length */
};

struct sql_level {
	uint32_t hard, soft;	/* links of set operation and join chains; of operator chains */
	uint32_t inner, best;	/* deepest closed parenthesis since the last separator; deepest before it */
	uint32_t between;	/* BETWEENs whose AND is still to come */
};

struct sql_lex {
	uint8_t key[16];
	/* Results of the last sql_lex_run(). */
	enum sql_unknown refused;	/* SQL_KNOWN: the parser may see it */
	char *masked;			/* owned; NUL-terminated, never longer than the input */
	uint32_t masked_len;
	char tags[SQL_LEX_TAGS_MAX];
	uint32_t tags_len;
	struct sql_segment segments[LIMIT_SQL_STATEMENTS + 1];
	uint32_t segment_cnt;		/* at least 1 */
	uint8_t shape[16];
	bool fragile;			/* holds escapes that the server may refuse: no two texts are alike */
	uint32_t assign, assign_len;	/* the first `:=` or `=` outside of brackets; length 0 when there is none */
	/* Working state. */
	const char *text, *end, *span, *run_end;
	char *out;
	char *marks, *marks_out;	/* owned: where literals of which class stand, part of the shape */
	char *shape_text, *shape_out;	/* owned: the masked text without comments, once one was seen */
	uint32_t mark_pos;
	bool has_comments, open_ended, has_nul, standard_strings, deep;
	bool plain_backslash;		/* in quotes where it stands for itself, as long as strings are standard */
	uint32_t last_end, brackets;
	uint32_t level;
	struct sql_level levels[LIMIT_SQL_CHAIN_DEPTH + 1];
};

/* NULL with errno. @key (16 bytes) is the secret of the shape hash. */
struct sql_lex *sql_lex_new(const uint8_t key[16]);
void sql_lex_free(struct sql_lex *lex);

/*
 * Lex @text. Beyond LIMIT_SQL_PARSE_BYTES only the head is masked and ->refused says too long. The results
 * are valid until the next run; ->shape only when nothing was refused.
 */
void sql_lex_run(struct sql_lex *lex, const char *text, size_t len, bool standard_strings);

#endif
