/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One bounded table for both caches: an entry is found by a keyed 128-bit hash and the length it was made from, and
 * holds either a complete text (exact bytes) or only the facts (shape). Eviction is by clock: what was used since
 * the hand passed stays. Memory is bounded too, since one masked text may be as long as the parser's limit.
 */
#ifndef DBFENCE_SQL_SQL_CACHE_H
#define DBFENCE_SQL_SQL_CACHE_H

#include "sql/sql_facts.h"

#define SQL_KEY_SHAPE UINT32_MAX

struct sql_key {
	uint8_t hash[16];
	uint32_t len;		/* of the text; SQL_KEY_SHAPE for a shape */
};

struct sql_cache;

struct sql_cache *sql_cache_new(unsigned entries);
void sql_cache_free(struct sql_cache *cache);

/* NULL when absent. Borrowed: by the cache, until the next call that adds. */
struct sql_text *sql_cache_text(struct sql_cache *cache, const struct sql_key *key);
struct sql_core *sql_cache_core(struct sql_cache *cache, const struct sql_key *key);

/* Takes ownership of @text (or of one reference on @core). False when it is too large to keep: still the caller's. */
bool sql_cache_add_text(struct sql_cache *cache, const struct sql_key *key, struct sql_text *text);
bool sql_cache_add_core(struct sql_cache *cache, const struct sql_key *key, struct sql_core *core);

#endif
