// SPDX-License-Identifier: Apache-2.0
/*
 * Owns the engine: lexer, caches and parser in a row. A repeated text costs one hash, a text of a known shape one pass
 * of the lexer, anything else a parse.
 *
 * The two caches answer different questions. By exact bytes anything may be remembered, syntax errors included. By
 * shape only what no other literal could change. Texts that were only ever seen once (unique literals) must not
 * push out those that repeat: after a shape hit a text enters the exact cache only when it is long and comes a second
 * time.
 */
#include "sql/sql.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sql/sql_cache.h"
#include "sql/sql_parse.h"
#include "sql/sql_replication.h"

#define SEEN_SLOTS 4096
#define SHORT_TEXT 512 /* up to here a pass of the lexer is cheaper than a large cache's misses */
#define SELECT_PREFIX "SELECT "
#define SELECT_LEN (sizeof(SELECT_PREFIX) - 1)
#define READINGS_MAX 6 /* three modes, either quoting */

struct sql_engine {
	uint8_t byte_key[16], backslash_key[16];
	struct sql_lex *lex;			/* owned */
	struct sql_cache *cache;		/* owned */
	struct sql_parser *parser;		/* owned */
	char *text;				/* owned; NUL-terminated copy for the parser */
	struct sql_core *last;			/* owned: one reference; what the last answer points into */
	struct sql_core *shown;			/* borrowed: of the last answer; NULL when it has no statement */
	struct sql_core *kept[READINGS_MAX];	/* owned: one reference each; what a joined answer points into */
	unsigned kept_cnt;
	char *read;				/* owned: a text made a SELECT */
	struct sql_facts facts;			/* the last answer, when no cache holds it */
	struct sql_stmt stmts[LIMIT_SQL_STATEMENTS];
	struct sql_stmt joined[LIMIT_SQL_STATEMENTS];	/* of all readings of one text */
	struct sql_replication command;			/* of the last answer, when it was one */
	struct sql_object slot;				/* its slot */
	uint64_t seen[SEEN_SLOTS];
	uint64_t next_id;			/* of facts */
	bool unread;				/* texts that are in no cache are not parsed */
	struct sql_stats stats;
};

/* Keys of their own for each use: a hash of one kind never equals one of another. */
static void derive_key(uint8_t out[16], const uint8_t key[16], uint8_t use)
{
	crypto_shorthash_siphashx24(out, &use, 1, key);
}

struct sql_engine *sql_engine_new(unsigned cache_entries, const uint8_t key[16])
{
	struct sql_engine *engine = calloc(1, sizeof(*engine));
	uint8_t shape_key[16];

	if (!engine)
		return NULL;
	derive_key(engine->byte_key, key, 1);
	derive_key(engine->backslash_key, key, 2);
	derive_key(shape_key, key, 3);
	engine->lex = sql_lex_new(shape_key);
	engine->cache = sql_cache_new(cache_entries);
	engine->text = malloc(LIMIT_SQL_PARSE_BYTES + 1);
	engine->read = malloc(LIMIT_SQL_PARSE_BYTES + 1);
	engine->parser = sql_parser_new();
	if (engine->lex && engine->cache && engine->text && engine->read && engine->parser)
		return engine;
	sql_engine_free(engine);
	errno = ENOMEM;
	return NULL;
}

/* What the last joined answer pointed into. */
static void drop_kept(struct sql_engine *engine)
{
	while (engine->kept_cnt)
		sql_core_put(engine->kept[--engine->kept_cnt]);
}

void sql_engine_free(struct sql_engine *engine)
{
	if (!engine)
		return;
	drop_kept(engine);
	sql_core_put(engine->last);
	sql_lex_free(engine->lex);
	sql_cache_free(engine->cache);
	sql_parser_free(engine->parser);
	free(engine->text);
	free(engine->read);
	free(engine);
}

static void shape_fingerprint(const struct sql_lex *lex, char fingerprint[17])
{
	for (unsigned i = 0; i < 8; i++)
		snprintf(fingerprint + 2 * i, 3, "%02x", lex->shape[i]);
}

/* The last answer outlives its cache entry by one call. */
static void hold_core(struct sql_engine *engine, struct sql_core *core)
{
	core->refs++;
	sql_core_put(engine->last);
	engine->last = core;
}

/* An answer without any statement. */
static const struct sql_facts *give_up(struct sql_engine *engine, enum sql_unknown why, uint32_t effects)
{
	struct sql_facts *facts = &engine->facts;

	engine->shown = NULL;
	memset(facts, 0, sizeof(*facts));
	facts->unknown = why;
	facts->effects = effects | SQL_BIT(SQL_UNKNOWN);
	facts->literal_dependent = true;
	facts->masked = engine->lex->masked;
	facts->masked_len = engine->lex->masked_len;
	facts->tags = engine->lex->tags;
	shape_fingerprint(engine->lex, facts->fingerprint);
	return facts;
}

static const struct sql_facts *answer(struct sql_engine *engine, struct sql_core *core)
{
	hold_core(engine, core);
	engine->shown = core;
	sql_facts_join(&engine->facts, engine->stmts, core, engine->lex);
	return &engine->facts;
}

/* Put the text with @core into the exact cache; the answer is the entry's when it was taken. */
static const struct sql_facts *remember_text(struct sql_engine *engine, const struct sql_key *key,
					     struct sql_core *core)
{
	struct sql_text *text = sql_text_new(core, engine->lex);

	if (text && sql_cache_add_text(engine->cache, key, text)) {
		engine->shown = core;
		return &text->facts;
	}
	sql_text_free(text);
	return answer(engine, core);
}

/* True from the second time on, as far as the slots remember. */
static bool seen_before(struct sql_engine *engine, const struct sql_key *key)
{
	uint64_t tag;
	uint64_t *slot;

	memcpy(&tag, key->hash + 8, sizeof(tag));
	slot = &engine->seen[tag % SEEN_SLOTS];
	if (*slot == tag)
		return true;
	*slot = tag;
	return false;
}

static const struct sql_facts *parse(struct sql_engine *engine, const struct sql_key *exact,
				     const struct sql_key *shape, const char *text, size_t len)
{
	const struct sql_facts *facts;
	struct sql_core *core;

	memcpy(engine->text, text, len);
	engine->text[len] = '\0';
	engine->stats.parses++;
	core = sql_parser_run(engine->parser, engine->text, engine->lex);
	if (!core)
		return give_up(engine, SQL_UNKNOWN_RESOURCE, 0);
	if (core->facts.unknown == SQL_UNKNOWN_SYNTAX)
		engine->stats.parse_errors++;
	if (core->facts.unknown != SQL_KNOWN)
		core->facts.literal_dependent = true;
	if (!core->facts.fingerprint[0])
		shape_fingerprint(engine->lex, core->facts.fingerprint);
	core->facts.id = ++engine->next_id;
	hold_core(engine, core);
	/* What failed for want of memory may succeed the next time. */
	if (core->facts.unknown == SQL_UNKNOWN_RESOURCE) {
		facts = answer(engine, core);
		sql_core_put(core);
		return facts;
	}
	if (!core->facts.literal_dependent && !engine->lex->fragile) {
		core->refs++;
		if (!sql_cache_add_core(engine->cache, shape, core))
			sql_core_put(core);
	}
	facts = remember_text(engine, exact, core);
	sql_core_put(core);
	return facts;
}

const struct sql_facts *sql_analyze(struct sql_engine *engine, const char *text, size_t len, bool standard_strings)
{
	struct sql_key exact = { .len = (uint32_t)len }, shape = { .len = SQL_KEY_SHAPE };
	struct sql_text *known;
	struct sql_core *core;

	engine->stats.calls++;
	if (len && len <= LIMIT_SQL_PARSE_BYTES) {
		crypto_shorthash_siphashx24(exact.hash, (const unsigned char *)text, len,
					    standard_strings ? engine->byte_key : engine->backslash_key);
		known = sql_cache_text(engine->cache, &exact);
		if (known) {
			engine->stats.exact_hits++;
			engine->shown = known->core;
			return &known->facts;
		}
	}
	sql_lex_run(engine->lex, text, len, standard_strings);
	if (engine->lex->refused != SQL_KNOWN) {
		engine->stats.refused++;
		return give_up(engine, engine->lex->refused, 0);
	}
	memcpy(shape.hash, engine->lex->shape, sizeof(shape.hash));
	core = engine->lex->fragile ? NULL : sql_cache_core(engine->cache, &shape);
	if (!core && engine->unread) {
		engine->stats.unread++;
		return give_up(engine, SQL_UNKNOWN_OVERLOAD, 0);
	}
	if (!core)
		return parse(engine, &exact, &shape, text, len);
	engine->stats.shape_hits++;
	if (len > SHORT_TEXT && seen_before(engine, &exact))
		return remember_text(engine, &exact, core);
	return answer(engine, core);
}

/* Like the server, from the first word of an expression or the name before the assignment: neither begins with these. */
static bool only_statements(const char *text, size_t len)
{
	static const char *const words[] = { "select", "with", "create", "grant" };

	while (len && strchr(" \t\r\n\f\v", *text)) {
		text++;
		len--;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t n = strlen(words[i]);

		if (len > n && !strncasecmp(text, words[i], n) && strchr(" \t\r\n\f\v", text[n]))
			return true;
	}
	return false;
}

/* @text made a SELECT in ->read: its length, or 0 when it is none. An assignment's target becomes a column before the rest. */
static size_t make_select(struct sql_engine *engine, const char *text, size_t len, bool standard_strings, bool assign)
{
	char *operator;

	if (SELECT_LEN + len > LIMIT_SQL_PARSE_BYTES)
		return 0;
	memcpy(engine->read, SELECT_PREFIX, SELECT_LEN);
	memcpy(engine->read + SELECT_LEN, text, len);
	if (!assign)
		return SELECT_LEN + len;
	sql_lex_run(engine->lex, text, len, standard_strings);
	if (engine->lex->refused != SQL_KNOWN || !engine->lex->assign_len)
		return 0;
	operator = engine->read + SELECT_LEN + engine->lex->assign;
	memset(operator, ' ', engine->lex->assign_len);
	*operator = ',';
	return SELECT_LEN + len;
}

/* One more reading of the text, @shift bytes of which are not its own, into the joined answer. */
static void join_reading(struct sql_engine *engine, struct sql_facts *to, const struct sql_facts *from, size_t shift)
{
	unsigned room = LIMIT_SQL_STATEMENTS - to->stmt_cnt;
	unsigned cnt = from->stmt_cnt < room ? from->stmt_cnt : room;

	if (engine->shown) {
		engine->shown->refs++;
		engine->kept[engine->kept_cnt++] = engine->shown;
	}
	for (unsigned i = 0; i < cnt; i++) {
		struct sql_stmt *stmt = &engine->joined[to->stmt_cnt + i];
		size_t end;

		*stmt = from->stmts[i];
		end = stmt->off + stmt->len > shift ? stmt->off + stmt->len - shift : 0;
		stmt->off = stmt->off > shift ? stmt->off - shift : 0;
		stmt->len = end > stmt->off ? end - stmt->off : 0;
	}
	to->stmt_cnt += cnt;
	to->effects |= from->effects;
	to->literal_dependent |= from->literal_dependent;
	/* Memory may be there the next time: what rests on its want is not remembered. */
	if (from->unknown == SQL_UNKNOWN_RESOURCE || to->unknown == SQL_KNOWN)
		to->unknown = cnt < from->stmt_cnt ? SQL_UNKNOWN_TOO_MANY : from->unknown;
	if (to->unknown != SQL_KNOWN)
		to->effects |= SQL_BIT(SQL_UNKNOWN);
	if (!to->fingerprint[0])
		memcpy(to->fingerprint, from->fingerprint, sizeof(to->fingerprint));
}

/* Read @text as an expression or as an assignment; false when it is none. */
static bool try_select(struct sql_engine *engine, struct sql_facts *to, const char *text, size_t len,
		       bool standard_strings, bool assign)
{
	size_t made = make_select(engine, text, len, standard_strings, assign);
	const struct sql_facts *facts = made ? sql_analyze(engine, engine->read, made, standard_strings) : NULL;

	if (!facts || facts->unknown == SQL_UNKNOWN_SYNTAX)
		return false;
	join_reading(engine, to, facts, SELECT_LEN);
	return true;
}

/* Join what @text says when it is read by @mode. False when the grammar takes it in no way. */
static bool join_mode(struct sql_engine *engine, struct sql_facts *to, const char *text, size_t len,
		      bool standard_strings, unsigned mode)
{
	bool any = mode >= SQL_MODE_ANY, read = mode == SQL_MODE_TYPE_NAME;

	if (any || mode == SQL_MODE_STATEMENTS) {
		const struct sql_facts *facts = sql_analyze(engine, text, len, standard_strings);
		/* Nothing is no expression, though SELECT alone would be one. */
		bool nothing = facts->unknown == SQL_KNOWN && !facts->stmt_cnt;

		read = facts->unknown != SQL_UNKNOWN_SYNTAX;
		if (read)
			join_reading(engine, to, facts, 0);
		if (!any || nothing || only_statements(text, len))
			return read;
	}
	if (any || mode == SQL_MODE_EXPRESSION)
		read |= try_select(engine, to, text, len, standard_strings, false);
	if (any || (mode >= SQL_MODE_ASSIGN1 && mode <= SQL_MODE_ASSIGN3))
		read |= try_select(engine, to, text, len, standard_strings, true);
	return read;
}

/* The joined answer. What belongs to the bytes comes from the text itself, as the lexer just ran over it. */
static const struct sql_facts *joined(struct sql_engine *engine, struct sql_facts *facts)
{
	if (!facts->fingerprint[0])
		shape_fingerprint(engine->lex, facts->fingerprint);
	facts->masked = engine->lex->masked;
	facts->masked_len = engine->lex->masked_len;
	facts->tags = engine->lex->tags;
	engine->facts = *facts;
	engine->shown = NULL;
	return &engine->facts;
}

/* As sql_analyze_mode, where standard_conforming_strings are known. */
static const struct sql_facts *analyze_as(struct sql_engine *engine, const char *text, size_t len,
					  bool standard_strings, unsigned mode)
{
	bool any = mode >= SQL_MODE_ANY, read;
	struct sql_facts facts = { .stmts = engine->joined };

	drop_kept(engine);
	if (mode == SQL_MODE_STATEMENTS || (any && only_statements(text, len)))
		return sql_analyze(engine, text, len, standard_strings);
	read = join_mode(engine, &facts, text, len, standard_strings, mode);
	if (any && !read)
		return sql_analyze(engine, text, len, standard_strings);
	sql_lex_run(engine->lex, text, len, standard_strings);
	if (read && engine->lex->refused == SQL_KNOWN)
		return joined(engine, &facts);
	if (engine->lex->refused == SQL_KNOWN)
		engine->stats.parse_errors++;
	return give_up(engine, engine->lex->refused != SQL_KNOWN ? engine->lex->refused : SQL_UNKNOWN_SYNTAX, 0);
}

/* What standard_conforming_strings decide about a text. */
enum quotes { QUOTES_NOTHING, QUOTES_VALUES, QUOTES_ALL };

static enum quotes compare_quotes(struct sql_engine *engine, const char *text, size_t len)
{
	uint8_t shape[sizeof(engine->lex->shape)];

	if (!len || !memchr(text, '\\', len))
		return QUOTES_NOTHING;
	sql_lex_run(engine->lex, text, len, true);
	if (!engine->lex->plain_backslash)
		return QUOTES_NOTHING;
	memcpy(shape, engine->lex->shape, sizeof(shape));
	if (engine->lex->refused == SQL_KNOWN)
		sql_lex_run(engine->lex, text, len, false);
	if (engine->lex->refused != SQL_KNOWN || memcmp(shape, engine->lex->shape, sizeof(shape)))
		return QUOTES_ALL;
	return QUOTES_VALUES;
}

/* Read @text with both, @standard_strings first. The server did take it: what the grammar refuses was not its reading. */
static const struct sql_facts *join_quotes(struct sql_engine *engine, const char *text, size_t len,
					   bool standard_strings, unsigned mode)
{
	struct sql_facts facts = { .stmts = engine->joined };
	bool one, other;

	drop_kept(engine);
	one = join_mode(engine, &facts, text, len, standard_strings, mode);
	other = join_mode(engine, &facts, text, len, !standard_strings, mode);
	if (!one && !other)
		return analyze_as(engine, text, len, standard_strings, mode);
	sql_lex_run(engine->lex, text, len, one ? standard_strings : !standard_strings);
	if (one && other && engine->lex->refused != SQL_KNOWN)
		sql_lex_run(engine->lex, text, len, !standard_strings);
	return joined(engine, &facts);
}

const struct sql_facts *sql_analyze_mode(struct sql_engine *engine, const char *text, size_t len, bool standard_strings,
					 unsigned mode)
{
	enum quotes quotes = compare_quotes(engine, text, len);
	bool any_quotes = mode & SQL_MODE_ANY_QUOTES;
	const struct sql_facts *facts;

	mode &= ~SQL_MODE_ANY_QUOTES;
	facts = analyze_as(engine, text, len, standard_strings, mode);
	if (quotes == QUOTES_NOTHING || (quotes == QUOTES_VALUES && !facts->literal_dependent))
		return facts;
	if (any_quotes)
		facts = join_quotes(engine, text, len, standard_strings, mode);
	if (facts != &engine->facts)
		engine->facts = *facts;
	engine->facts.by_quotes = true;
	return &engine->facts;
}

/* Commands are rare, and read faster than looked up: nothing is remembered. */
const struct sql_facts *sql_analyze_walsender(struct sql_engine *engine, const char *text, size_t len,
					      bool standard_strings)
{
	struct sql_replication *cmd = &engine->command;
	struct sql_facts *facts = &engine->facts;
	struct sql_stmt *stmt = engine->joined;
	enum sql_unknown why;

	if (!sql_replication_read(text, len, cmd))
		return sql_analyze_mode(engine, text, len, standard_strings, SQL_MODE_STATEMENTS);
	sql_lex_run(engine->lex, text, len, standard_strings);
	why = engine->lex->refused;
	give_up(engine, why == SQL_KNOWN ? SQL_UNKNOWN_SYNTAX : why, cmd->effects);
	if (why != SQL_KNOWN || !cmd->command)
		return facts;
	facts->unknown = SQL_KNOWN;
	facts->effects = cmd->effects;
	engine->slot = (struct sql_object){ .kind = SQL_OBJ_OTHER, .name = cmd->slot, .effects = SQL_BIT(SQL_REPLICATION) };
	*stmt = (struct sql_stmt){ .command = cmd->command, .effects = cmd->effects, .objects = &engine->slot,
				   .object_cnt = cmd->slot[0] != 0, .off = cmd->off, .len = len - cmd->off };
	facts->stmts = stmt;
	facts->stmt_cnt = 1;
	return facts;
}

const struct sql_facts *sql_unknown_facts(struct sql_engine *engine, enum sql_unknown why, uint32_t effects,
					  const char *text, size_t len)
{
	sql_lex_run(engine->lex, text ? text : "", text ? len : 0, true);
	return give_up(engine, why == SQL_KNOWN ? SQL_UNKNOWN_TRUNCATED : why, effects);
}

void sql_engine_set_parsing(struct sql_engine *engine, bool parsing)
{
	engine->unread = !parsing;
}

void sql_engine_stats(const struct sql_engine *engine, struct sql_stats *stats)
{
	*stats = engine->stats;
}
