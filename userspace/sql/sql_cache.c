// SPDX-License-Identifier: Apache-2.0
/* Owns the entries, their hash chains, and the clock's hand. */
#include "sql/sql_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* What an entry may hold on average; the whole cache never holds more than entries times this. */
#define BYTES_PER_ENTRY 8192

struct entry {
	struct sql_key key;
	uint32_t next;			/* index + 1 of the chain's next, 0 at its end */
	bool used, recent;
	struct sql_text *text;		/* owned; one of the two is set */
	struct sql_core *core;		/* owned: one reference */
	size_t size;
};

struct sql_cache {
	unsigned cnt, bucket_cnt, hand;
	uint32_t *buckets;		/* owned; index + 1 of the first entry */
	struct entry *entries;		/* owned */
	size_t bytes, max_bytes;
};

struct sql_cache *sql_cache_new(unsigned entries)
{
	struct sql_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return NULL;
	cache->cnt = entries ? entries : 1;
	for (cache->bucket_cnt = 16; cache->bucket_cnt < cache->cnt; cache->bucket_cnt *= 2)
		;
	cache->max_bytes = (size_t)cache->cnt * BYTES_PER_ENTRY;
	cache->buckets = calloc(cache->bucket_cnt, sizeof(*cache->buckets));
	cache->entries = calloc(cache->cnt, sizeof(*cache->entries));
	if (cache->buckets && cache->entries)
		return cache;
	sql_cache_free(cache);
	errno = ENOMEM;
	return NULL;
}

static uint32_t *bucket_of(const struct sql_cache *cache, const struct sql_key *key)
{
	uint32_t h;

	memcpy(&h, key->hash, sizeof(h));
	return &cache->buckets[h & (cache->bucket_cnt - 1)];
}

static bool same_key(const struct sql_key *a, const struct sql_key *b)
{
	return a->len == b->len && !memcmp(a->hash, b->hash, sizeof(a->hash));
}

static void drop(struct sql_cache *cache, unsigned index)
{
	struct entry *entry = &cache->entries[index];
	uint32_t *link = bucket_of(cache, &entry->key);

	if (!entry->used)
		return;
	while (*link != index + 1)
		link = &cache->entries[*link - 1].next;
	*link = entry->next;
	sql_text_free(entry->text);
	sql_core_put(entry->core);
	cache->bytes -= entry->size;
	memset(entry, 0, sizeof(*entry));
}

void sql_cache_free(struct sql_cache *cache)
{
	if (!cache)
		return;
	for (unsigned i = 0; cache->entries && cache->buckets && i < cache->cnt; i++)
		drop(cache, i);
	free(cache->buckets);
	free(cache->entries);
	free(cache);
}

static struct entry *find(struct sql_cache *cache, const struct sql_key *key)
{
	for (uint32_t i = *bucket_of(cache, key); i; i = cache->entries[i - 1].next) {
		struct entry *entry = &cache->entries[i - 1];

		if (same_key(&entry->key, key)) {
			entry->recent = true;
			return entry;
		}
	}
	return NULL;
}

struct sql_text *sql_cache_text(struct sql_cache *cache, const struct sql_key *key)
{
	struct entry *entry = find(cache, key);

	return entry ? entry->text : NULL;
}

struct sql_core *sql_cache_core(struct sql_cache *cache, const struct sql_key *key)
{
	struct entry *entry = find(cache, key);

	return entry ? entry->core : NULL;
}

static void evict_next(struct sql_cache *cache)
{
	while (cache->entries[cache->hand].recent) {
		cache->entries[cache->hand].recent = false;
		cache->hand = (cache->hand + 1) % cache->cnt;
	}
	drop(cache, cache->hand);
}

/* A free slot for @key of @size bytes, linked in; NULL when it is too large. */
static struct entry *add(struct sql_cache *cache, const struct sql_key *key, size_t size)
{
	struct entry *entry = find(cache, key);
	uint32_t *bucket;

	if (entry || size > cache->max_bytes / 8)
		return NULL;
	while (cache->bytes + size > cache->max_bytes) {
		evict_next(cache);
		cache->hand = (cache->hand + 1) % cache->cnt;
	}
	evict_next(cache);
	entry = &cache->entries[cache->hand];
	entry->key = *key;
	entry->used = true;
	entry->size = size;
	cache->bytes += size;
	bucket = bucket_of(cache, key);
	entry->next = *bucket;
	*bucket = cache->hand + 1;
	cache->hand = (cache->hand + 1) % cache->cnt;
	return entry;
}

bool sql_cache_add_text(struct sql_cache *cache, const struct sql_key *key, struct sql_text *text)
{
	struct entry *entry = add(cache, key, text->size + text->core->size);

	if (entry)
		entry->text = text;
	return entry != NULL;
}

bool sql_cache_add_core(struct sql_cache *cache, const struct sql_key *key, struct sql_core *core)
{
	struct entry *entry = add(cache, key, core->size);

	if (entry)
		entry->core = core;
	return entry != NULL;
}
