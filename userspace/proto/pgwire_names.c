// SPDX-License-Identifier: Apache-2.0
/* Texts, and the names that stand for them. */
#include "proto/pgwire_private.h"

#include <stdlib.h>
#include <string.h>

#include "core/limits.h"

#define FIRST_BUCKETS 16

bool pgwire_fits(size_t mine, size_t all, size_t min, size_t max, size_t total)
{
	return mine <= min || (mine <= max && all <= total);
}

size_t pgwire_text_room(const struct pgwire_share *share)
{
	size_t mine = share->text_bytes, all = share->pool->text_bytes;
	size_t min = mine < LIMIT_WIRE_TEXT_MIN ? LIMIT_WIRE_TEXT_MIN - mine : 0;
	size_t own = mine < LIMIT_WIRE_TEXT ? LIMIT_WIRE_TEXT - mine : 0;
	size_t free_all = all < LIMIT_WIRE_TEXT_TOTAL ? LIMIT_WIRE_TEXT_TOTAL - all : 0;

	own = own < free_all ? own : free_all;
	return min > own ? min : own;
}

struct pgwire_text *pgwire_text_new(struct pgwire_share *share, const char *bytes, size_t len, uint64_t length,
				    uint32_t flags)
{
	size_t room = pgwire_text_room(share);
	struct pgwire_text *text;

	share->pool->texts_limited += len > room;
	room = room < LIMIT_STATEMENT_BYTES ? room : LIMIT_STATEMENT_BYTES;
	if (len > room) {
		len = room;
		flags |= PGWIRE_CUT;
	}
	text = malloc(sizeof(*text) + len + 1);
	if (!text)
		return NULL;
	*text = (struct pgwire_text){ .refs = 1, .flags = flags, .captured = len, .length = length };
	memcpy(text->bytes, bytes, len);
	text->bytes[len] = '\0';
	share->text_bytes += len;
	share->pool->text_bytes += len;
	return text;
}

struct pgwire_text *pgwire_text_ref(struct pgwire_text *text)
{
	if (text)
		text->refs++;
	return text;
}

void pgwire_text_drop(struct pgwire_share *share, struct pgwire_text *text)
{
	if (!text || --text->refs)
		return;
	share->text_bytes -= text->captured;
	share->pool->text_bytes -= text->captured;
	free(text);
}

static unsigned bucket_of(const struct pgwire_names *names, const char *name)
{
	uint64_t h = 1469598103934665603ULL;

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 1099511628211ULL;
	return (unsigned)(h ^ h >> 32) & (names->size - 1);
}

/* Where the name stands or would stand; NULL without any bucket. */
static struct pgwire_name **place_of(const struct pgwire_names *names, const char *name)
{
	struct pgwire_name **at;

	if (!names->size)
		return NULL;
	at = &names->buckets[bucket_of(names, name)];
	while (*at && strcmp((*at)->name, name))
		at = &(*at)->next;
	return at;
}

struct pgwire_name *pgwire_names_find(const struct pgwire_names *names, const char *name)
{
	struct pgwire_name **at = place_of(names, name);

	return at ? *at : NULL;
}

/* Without memory for more buckets the lists get longer. */
static bool grow(struct pgwire_names *names)
{
	struct pgwire_names more = { .size = names->size ? 2 * names->size : FIRST_BUCKETS, .cnt = names->cnt,
				     .gone = names->gone };

	if (names->cnt < names->size)
		return true;
	more.buckets = calloc(more.size, sizeof(*more.buckets));
	if (!more.buckets)
		return names->size != 0;
	for (unsigned i = 0; i < names->size; i++)
		while (names->buckets[i]) {
			struct pgwire_name *n = names->buckets[i];
			unsigned to = bucket_of(&more, n->name);

			names->buckets[i] = n->next;
			n->next = more.buckets[to];
			more.buckets[to] = n;
		}
	free(names->buckets);
	*names = more;
	return true;
}

static void copy_name(char *to, const char *from)
{
	size_t n = strnlen(from, PGWIRE_NAME_BYTES - 1);

	memcpy(to, from, n);
	to[n] = '\0';
}

static struct pgwire_name *add(struct pgwire_names *names, struct pgwire_share *share, const char *name)
{
	struct pgwire_name *n = NULL, **at;

	if (pgwire_fits(share->names + 1, share->pool->names + 1, LIMIT_WIRE_NAMES_MIN, LIMIT_WIRE_NAMES,
			LIMIT_WIRE_NAMES_TOTAL) &&
	    grow(names))
		n = calloc(1, sizeof(*n));
	if (!n) {
		share->pool->names_limited++;
		return NULL;
	}
	copy_name(n->name, name);
	at = place_of(names, n->name);
	*at = n;
	names->cnt++;
	share->names++;
	share->pool->names++;
	return n;
}

bool pgwire_names_set(struct pgwire_names *names, struct pgwire_share *share, const char *name, struct pgwire_text *text,
		      const char *of, bool doubtful)
{
	struct pgwire_name *n = pgwire_names_find(names, name);

	if (!n)
		n = add(names, share, name);
	if (!n)
		return false;
	names->gone += n->text && n->name[0];
	pgwire_text_ref(text);
	pgwire_text_drop(share, n->text);
	n->text = text;
	n->handle = n->mark = 0;
	n->started = n->loose = false;
	n->doubtful = doubtful;
	copy_name(n->of, of);
	return true;
}

static void drop(struct pgwire_names *names, struct pgwire_share *share, struct pgwire_name **at)
{
	struct pgwire_name *n = *at;

	*at = n->next;
	names->gone += n->name[0] != '\0';
	pgwire_text_drop(share, n->text);
	free(n);
	names->cnt--;
	share->names--;
	share->pool->names--;
}

void pgwire_names_remove(struct pgwire_names *names, struct pgwire_share *share, const char *name)
{
	struct pgwire_name **at = place_of(names, name);

	if (at && *at)
		drop(names, share, at);
}

void pgwire_names_clear(struct pgwire_names *names, struct pgwire_share *share)
{
	for (unsigned i = 0; names->cnt && i < names->size; i++)
		while (names->buckets[i])
			drop(names, share, &names->buckets[i]);
	if (names->size > FIRST_BUCKETS) {
		free(names->buckets);
		*names = (struct pgwire_names){ .gone = names->gone };
	}
}

void pgwire_names_fini(struct pgwire_names *names, struct pgwire_share *share)
{
	pgwire_names_clear(names, share);
	free(names->buckets);
}

static struct pgwire_name *next_name(const struct pgwire_names *names, unsigned *i, struct pgwire_name *n)
{
	if (n && n->next)
		return n->next;
	for (*i = n ? *i + 1 : 0; *i < names->size; (*i)++)
		if (names->buckets[*i])
			return names->buckets[*i];
	return NULL;
}

void pgwire_names_doubt(struct pgwire_names *names)
{
	unsigned i = 0;

	for (struct pgwire_name *n = next_name(names, &i, NULL); n; n = next_name(names, &i, n))
		n->doubtful = true;
}

void pgwire_names_loosen(struct pgwire_names *names)
{
	unsigned i = 0;

	for (struct pgwire_name *n = next_name(names, &i, NULL); n; n = next_name(names, &i, n))
		n->loose |= n->name[0] != '\0';
}

void pgwire_names_reuse(struct pgwire_names *names)
{
	unsigned i = 0;

	for (struct pgwire_name *n = next_name(names, &i, NULL); n; n = next_name(names, &i, n))
		n->doubtful |= n->loose;
}

bool pgwire_names_each(const struct pgwire_names *names, bool portals, pgwire_text_fn fn, void *ctx)
{
	for (unsigned i = 0; i < names->size; i++)
		for (const struct pgwire_name *n = names->buckets[i]; n; n = n->next) {
			struct pgwire_run run = { .form = PGWIRE_EXTENDED, .name = portals ? n->of : n->name,
						  .flags = n->doubtful ? PGWIRE_DOUBTFUL : 0 };

			pgwire_run_of_text(&run, n->text);
			if (!fn(ctx, &run))
				return false;
		}
	return true;
}
