/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a SQL text does: effects, objects, columns, predicate facts, functions and their risk.
 *
 * sql_analyze() is the only entry the pipeline needs. It puts three things in front of each other:
 *
 *   1. one pass of the linear lexer (sql_lex): finds literals and comments, refuses what makes
 *      libpg_query crash or crawl, makes the masked text and the keyed shape hash;
 *   2. two caches: by the exact bytes, and by shape for texts whose facts do not depend on
 * literals;
 *   3. libpg_query's parse tree, walked node by node; an unknown node type makes the facts unknown.
 *
 * Pure: bytes in, facts out; no logging, no file, no clock. It may be called from one thread only
 * and runs the parser on that engine's own large stack. It knows nothing of policies or
 * connections.
 */
#ifndef DBFENCE_SQL_SQL_H
#define DBFENCE_SQL_SQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

/* Effects, per object and per statement, as a set (1u << effect). Names as in policies:
 * "schema_destroy". */
enum sql_effect {
	SQL_EFFECT_NONE,
	SQL_READ,	 /* rows of a relation are read */
	SQL_WRITE,	 /* INSERT, rows added */
	SQL_MODIFY,	 /* UPDATE, MERGE … UPDATE, ON CONFLICT DO UPDATE */
	SQL_DELETE,	 /* DELETE, TRUNCATE, MERGE … DELETE */
	SQL_BULK_LOAD,	 /* COPY … FROM */
	SQL_BULK_EXPORT, /* COPY … TO */
	SQL_SCHEMA_CREATE,
	SQL_SCHEMA_ALTER,
	SQL_SCHEMA_DESTROY, /* DROP of anything, ALTER TABLE … DROP COLUMN */
	SQL_PRIVILEGE,	    /* GRANT, REVOKE, roles, ownership, row security, default privileges */
	SQL_TRANSACTION,
	SQL_SESSION,	 /* SET, RESET, DISCARD, SET ROLE, PREPARE, DEALLOCATE … */
	SQL_MAINTENANCE, /* VACUUM, ANALYZE, REINDEX, CHECKPOINT, ALTER SYSTEM, CLUSTER … */
	SQL_LOCK,
	SQL_NOTIFY,
	SQL_PROCEDURAL, /* DO, CALL, EXECUTE, functions that run text: more happens than is written
			 */
	SQL_UNSAFE_IO,	/* server files and programs, LOAD, untrusted languages, ALTER SYSTEM */
	SQL_REPLICATION,
	SQL_UNKNOWN, /* cannot be known: see the reason */
	SQL_EFFECT_MAX
};

#define SQL_BIT(effect) (1u << (effect))

/* "schema_destroy"; never NULL. sql_effect_from_name returns SQL_EFFECT_MAX for an unknown name. */
const char *sql_effect_name(enum sql_effect effect);
enum sql_effect sql_effect_from_name(const char *name);

enum sql_object_kind {
	SQL_OBJ_RELATION, /* table, view, materialised view, sequence, foreign table, index when not
			     said */
	SQL_OBJ_FUNCTION,
	SQL_OBJ_TYPE,
	SQL_OBJ_SCHEMA,
	SQL_OBJ_DATABASE,
	SQL_OBJ_ROLE,
	SQL_OBJ_EXTENSION,
	SQL_OBJ_LANGUAGE,
	SQL_OBJ_SETTING,  /* SET x, ALTER SYSTEM SET x */
	SQL_OBJ_FILE,	  /* COPY … '/path' */
	SQL_OBJ_PROGRAM,  /* COPY … PROGRAM */
	SQL_OBJ_PREPARED, /* EXECUTE name */
	SQL_OBJ_CHANNEL,  /* NOTIFY */
	SQL_OBJ_TABLESPACE,
	SQL_OBJ_PUBLICATION,
	SQL_OBJ_OTHER,
	SQL_OBJ_KIND_MAX
};

const char *sql_object_kind_name(enum sql_object_kind kind);

enum sql_func_risk {
	SQL_RISK_NONE,	      /* known and harmless */
	SQL_RISK_UNKNOWN,     /* not in the table: user-defined or an extension's */
	SQL_RISK_DYNAMIC,     /* runs SQL given as text: query_to_xml, dblink */
	SQL_RISK_FILE,	      /* pg_read_file, lo_import, lo_export … */
	SQL_RISK_NETWORK,     /* dblink_connect … */
	SQL_RISK_ADMIN,	      /* pg_terminate_backend, pg_reload_conf, set_config … */
	SQL_RISK_DOS,	      /* pg_sleep, advisory locks … */
	SQL_RISK_REPLICATION, /* logical slots */
	SQL_RISK_MAX
};

const char *sql_func_risk_name(
	enum sql_func_risk risk); /* "none unknown dynamic file network admin dos replication" */
enum sql_func_risk sql_func_risk_from_name(const char *name); /* SQL_RISK_MAX if unknown */

struct sql_object {
	enum sql_object_kind kind;
	const char *schema; /* NULL when not written; folded as the server folds it */
	const char *name;
	uint32_t effects; /* what this statement does to this object */
	const char *
		*columns; /* touched, read or written, WHERE included; NULL when none are known */
	unsigned column_cnt;
	bool all_columns; /* "*", or a statement that touches whole rows (DELETE, TRUNCATE, COPY t)
			   */
};

struct sql_function {
	const char *schema; /* NULL when not written */
	const char *name;
	enum sql_func_risk risk;
};

enum sql_selective {
	SQL_SELECTIVE_NA,     /* neither UPDATE nor DELETE */
	SQL_SELECTIVE_YES,    /* WHERE that can be false */
	SQL_SELECTIVE_NO,     /* no WHERE, or one that folds to true; TRUNCATE */
	SQL_SELECTIVE_UNKNOWN /* inside something that cannot be read */
};

struct sql_stmt {
	const char *command; /* the server's command tag without counts: "DROP TABLE", "SELECT",
				"INSERT" … */
	uint32_t effects;
	struct sql_object *objects;
	unsigned object_cnt;
	struct sql_function *functions;
	unsigned function_cnt;
	enum sql_selective selective; /* the worst of its UPDATE/DELETE parts, CTEs included */
	bool has_where, where_true, has_limit, has_returning;
	size_t off, len; /* in the text */
};

enum sql_unknown {
	SQL_KNOWN,
	SQL_UNKNOWN_SYNTAX, /* libpg_query cannot parse it */
	SQL_UNKNOWN_TOO_LONG,
	SQL_UNKNOWN_NUL, /* an embedded NUL */
	SQL_UNKNOWN_OPERATOR_RUN,
	SQL_UNKNOWN_COMMENT_NESTING,
	SQL_UNKNOWN_DEPTH,
	SQL_UNKNOWN_TOO_MANY,	  /* statements, objects or columns beyond the limit */
	SQL_UNKNOWN_NODE,	  /* a syntax node this release does not know */
	SQL_UNKNOWN_TRUNCATED,	  /* the caller had only a part of the text */
	SQL_UNKNOWN_EMPTY_SOURCE, /* an execution without text (BEGIN ATOMIC body) */
	SQL_UNKNOWN_RESOURCE,	  /* memory or time ran out */
	SQL_UNKNOWN_DOUBT,	  /* the caller's text may not be what runs */
	SQL_UNKNOWN_OVERLOAD,	  /* it was not read: see sql_engine_set_parsing() */
	SQL_UNKNOWN_MAX
};

const char *sql_unknown_name(enum sql_unknown why); /* "syntax", "too_long" … */

struct sql_facts {
	uint64_t id; /* of one engine: equal ids, equal facts (the statements' offsets, masked text and
			tags apart); 0: not comparable */
	bool own_text; /* the masked text does not follow from the id: it has comments */
	enum sql_unknown unknown; /* not SQL_KNOWN: effects include SQL_BIT(SQL_UNKNOWN), stmts may
				     be empty */
	uint32_t effects;	  /* union over the statements */
	struct sql_stmt *stmts;
	unsigned stmt_cnt;	/* 0 for an empty text or comments only */
	bool literal_dependent; /* another literal could change the facts: no caching by shape */
	bool by_quotes; /* the other standard_conforming_strings could change the facts */
	char fingerprint[17];	/* hex of libpg_query's 64-bit fingerprint; of the shape when it
				   cannot parse */
	const char
		*masked; /* the text with literals as ?, passwords gone, $n kept; NUL-terminated */
	size_t masked_len;
	const char *tags;  /* sqlcommenter comment bodies, "" when none */
	const char *error; /* libpg_query's message for SQL_UNKNOWN_SYNTAX, else NULL */
};

struct sql_stats {
	uint64_t calls, exact_hits, shape_hits, parses, refused, parse_errors, unread;
};

struct sql_engine;

/*
 * @cache_entries bounds both caches together (LIMIT_SQL_CACHE_ENTRIES). @key is the secret of the
 * shape and byte hashes (16 bytes, random per process). NULL with errno when memory or the parser's
 * thread cannot be had.
 */
struct sql_engine *sql_engine_new(unsigned cache_entries, const uint8_t key[16]);
void sql_engine_free(struct sql_engine *engine);

/*
 * Facts of @text (any bytes, not NUL-terminated). Never fails: what cannot be known is in
 * ->unknown.
 * @standard_strings: the session's standard_conforming_strings. Borrowed: by the engine, valid
 * until the next call on it.
 */
const struct sql_facts *sql_analyze(struct sql_engine *engine, const char *text, size_t len,
				    bool standard_strings);

/* How the server reads a text: the values of raw_parser's mode. Any other means that it is not known. */
enum sql_mode {
	SQL_MODE_STATEMENTS,
	SQL_MODE_TYPE_NAME,
	SQL_MODE_EXPRESSION, /* of PL/pgSQL */
	SQL_MODE_ASSIGN1,    /* of PL/pgSQL, to a variable; the next two to a field, and to a field of that */
	SQL_MODE_ASSIGN2,
	SQL_MODE_ASSIGN3,
	SQL_MODE_ANY
};

/* Added to a mode: the text may have been parsed when the session's standard_conforming_strings were others. */
#define SQL_MODE_ANY_QUOTES 0x100

/*
 * As sql_analyze, for a text that is read by @mode. Where it is not known how the server read the text, and it can be
 * read in several ways, the facts hold the statements of all of them.
 */
const struct sql_facts *sql_analyze_mode(struct sql_engine *engine, const char *text, size_t len,
					 bool standard_strings, unsigned mode);

/*
 * As sql_analyze, for what a walsender gets: a replication command, or SQL. The first word says which, as for the server
 * itself; no SQL begins like one. What is not understood is unknown, with the effect replication.
 */
const struct sql_facts *sql_analyze_walsender(struct sql_engine *engine, const char *text, size_t len,
					      bool standard_strings);

/*
 * Facts for a text that the caller has only in part, or not at all: unknown for @why, plus what can
 * still be said: the masked text of the part, and @effects as hinted by the executor (0 when
 * nothing is known).
 */
const struct sql_facts *sql_unknown_facts(struct sql_engine *engine, enum sql_unknown why,
					  uint32_t effects, const char *text, size_t len);

/* Whether texts that are in no cache are parsed, as they are at first; otherwise they are unknown: OVERLOAD. */
void sql_engine_set_parsing(struct sql_engine *engine, bool parsing);

void sql_engine_stats(const struct sql_engine *engine, struct sql_stats *stats);

#endif
