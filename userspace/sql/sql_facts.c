// SPDX-License-Identifier: Apache-2.0
/* Owns the layout of facts: measured first, then written into one block. */
#include "sql/sql_facts.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

/* With data NULL it only measures; strings and arrays go through the same calls both times. */
struct packer {
	char *data;
	size_t used;
};

static void *pack(struct packer *p, size_t size)
{
	void *at = p->data ? p->data + p->used : NULL;

	p->used += (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	return at;
}

static const char *pack_string(struct packer *p, const char *s)
{
	size_t size = s ? strlen(s) + 1 : 0;
	char *at;

	if (!s)
		return NULL;
	at = p->data ? p->data + p->used : NULL;
	/* Strings are packed tightly in words, not to the widest alignment. */
	p->used += (size + 15) & ~(size_t)15;
	return at ? memcpy(at, s, size) : NULL;
}

static void pack_object(struct packer *p, struct sql_object *to, const struct walk_object *from)
{
	const char **columns = from->column_cnt ? pack(p, from->column_cnt * sizeof(*columns)) : NULL;
	const char *schema = pack_string(p, from->schema), *name = pack_string(p, from->name);
	unsigned i = 0;

	for (const struct walk_column *column = from->columns; column; column = column->next, i++) {
		const char *s = pack_string(p, column->name);

		if (columns)
			columns[i] = s;
	}
	if (!to)
		return;
	*to = (struct sql_object){
		.kind = from->kind, .schema = schema, .name = name, .effects = from->effects, .columns = columns,
		.column_cnt = from->column_cnt, .all_columns = from->all_columns,
	};
}

static void pack_stmt(struct packer *p, struct sql_stmt *to, const struct walk *from)
{
	struct sql_object *objects = pack(p, from->object_cnt * sizeof(*objects));
	struct sql_function *functions = pack(p, from->function_cnt * sizeof(*functions));
	const char *command = pack_string(p, from->command);
	unsigned i = 0;

	for (const struct walk_object *object = from->objects; object; object = object->next, i++)
		pack_object(p, objects ? &objects[i] : NULL, object);
	i = 0;
	for (const struct walk_function *function = from->functions; function; function = function->next, i++) {
		struct sql_function packed = {
			.schema = pack_string(p, function->schema),
			.name = pack_string(p, function->name),
			.risk = function->risk,
		};

		if (functions)
			functions[i] = packed;
	}
	if (!to)
		return;
	*to = (struct sql_stmt){
		.command = command,
		.effects = from->effects,
		.objects = from->object_cnt ? objects : NULL,
		.object_cnt = from->object_cnt,
		.functions = from->function_cnt ? functions : NULL,
		.function_cnt = from->function_cnt,
		.selective = from->unknown ? SQL_SELECTIVE_UNKNOWN : from->selective,
		.has_where = from->has_where,
		.where_true = from->where_true,
		.has_limit = from->has_limit,
		.has_returning = from->has_returning,
	};
}

static struct sql_core *pack_core(struct packer *p, const struct walk *walks, const struct sql_span *spans,
				  unsigned cnt, const char *error)
{
	struct sql_core *core = pack(p, sizeof(*core));
	struct sql_stmt *stmts = pack(p, cnt * sizeof(*stmts));
	struct sql_span *copy = pack(p, cnt * sizeof(*copy));
	const char *message = pack_string(p, error);

	for (unsigned i = 0; i < cnt; i++)
		pack_stmt(p, stmts ? &stmts[i] : NULL, &walks[i]);
	if (!core)
		return NULL;
	memset(core, 0, sizeof(*core));
	core->facts.stmts = cnt ? stmts : NULL;
	core->facts.stmt_cnt = cnt;
	core->facts.error = message;
	core->spans = cnt ? memcpy(copy, spans, cnt * sizeof(*copy)) : NULL;
	return core;
}

struct sql_core *sql_core_new(const struct walk *walks, const struct sql_span *spans, unsigned cnt,
			      enum sql_unknown unknown, const char *error)
{
	struct packer p = { NULL, 0 };
	struct sql_facts *facts;
	struct sql_core *core;

	pack_core(&p, walks, spans, cnt, error);
	p.data = malloc(p.used);
	if (!p.data)
		return NULL;
	p.used = 0;
	core = pack_core(&p, walks, spans, cnt, error);
	core->refs = 1;
	core->size = p.used;
	facts = &core->facts;
	facts->unknown = unknown;
	for (unsigned i = 0; i < cnt; i++) {
		facts->effects |= walks[i].effects;
		facts->literal_dependent |= walks[i].literal_dependent;
		if (facts->unknown == SQL_KNOWN)
			facts->unknown = walks[i].unknown;
		if (walks[i].unknown)
			facts->stmts[i].effects |= SQL_BIT(SQL_UNKNOWN);
	}
	if (facts->unknown != SQL_KNOWN)
		facts->effects |= SQL_BIT(SQL_UNKNOWN);
	return core;
}

void sql_core_put(struct sql_core *core)
{
	if (core && !--core->refs)
		free(core);
}

void sql_facts_join(struct sql_facts *facts, struct sql_stmt *stmts, const struct sql_core *core,
		    const struct sql_lex *lex)
{
	*facts = core->facts;
	facts->own_text = lex->has_comments;
	facts->masked = lex->masked;
	facts->masked_len = lex->masked_len;
	facts->tags = lex->tags;
	if (!facts->stmt_cnt)
		return;
	memcpy(stmts, core->facts.stmts, facts->stmt_cnt * sizeof(*stmts));
	facts->stmts = stmts;
	for (unsigned i = 0; i < facts->stmt_cnt; i++) {
		const struct sql_segment *first = &lex->segments[core->spans[i].first];
		const struct sql_segment *last = &lex->segments[core->spans[i].last];

		stmts[i].off = first->start;
		stmts[i].len = last->end > first->start ? last->end - first->start : 0;
	}
}

struct sql_text *sql_text_new(struct sql_core *core, const struct sql_lex *lex)
{
	size_t stmts = core->facts.stmt_cnt * sizeof(struct sql_stmt);
	size_t size = sizeof(struct sql_text) + stmts + lex->masked_len + 1 + lex->tags_len + 1;
	struct sql_text *text = malloc(size);
	char *p;

	if (!text)
		return NULL;
	p = (char *)(text + 1);
	sql_facts_join(&text->facts, (struct sql_stmt *)p, core, lex);
	p += stmts;
	text->facts.masked = memcpy(p, lex->masked, (size_t)lex->masked_len + 1);
	p += lex->masked_len + 1;
	text->facts.tags = memcpy(p, lex->tags, (size_t)lex->tags_len + 1);
	text->size = size;
	text->core = core;
	core->refs++;
	return text;
}

void sql_text_free(struct sql_text *text)
{
	if (!text)
		return;
	sql_core_put(text->core);
	free(text);
}
