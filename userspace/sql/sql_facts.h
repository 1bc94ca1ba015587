/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Facts as one block of memory, with a reference count, so that two cache entries can share them. What depends on
 * the very bytes (masked text, tags, offsets) is apart, in struct sql_text.
 */
#ifndef DBFENCE_SQL_SQL_FACTS_H
#define DBFENCE_SQL_SQL_FACTS_H

#include "sql/sql_lex.h"
#include "sql/sql_walk.h"

/* Which segments of the lexer a statement covers: its offsets follow from them for any text of the same shape. */
struct sql_span {
	uint32_t first, last;
};

struct sql_core {
	unsigned refs;
	size_t size;			/* of the block */
	struct sql_facts facts;		/* masked, tags and the statements' offsets unset */
	struct sql_span *spans;		/* one per statement */
};

struct sql_text {
	struct sql_core *core;		/* owned: one reference */
	struct sql_facts facts;		/* complete */
	size_t size;
};

/* One block from what was walked; NULL when memory ran out. With one reference. */
struct sql_core *sql_core_new(const struct walk *walks, const struct sql_span *spans, unsigned cnt,
			      enum sql_unknown unknown, const char *error);
void sql_core_put(struct sql_core *core);

/* @core joined with what the lexer says about this text; @stmts is room for its statements. */
void sql_facts_join(struct sql_facts *facts, struct sql_stmt *stmts, const struct sql_core *core,
		    const struct sql_lex *lex);

/* An owned, complete copy for the exact cache; takes a reference on @core. NULL when memory ran out. */
struct sql_text *sql_text_new(struct sql_core *core, const struct sql_lex *lex);
void sql_text_free(struct sql_text *text);

#endif
