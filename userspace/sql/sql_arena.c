// SPDX-License-Identifier: Apache-2.0
/* Owns the chunks of an arena. The first chunk stays over resets, so that small statements never call malloc. */
#include "sql/sql_arena.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CHUNK (64 * 1024)

struct sql_arena_chunk {
	struct sql_arena_chunk *older;
	alignas(max_align_t) char data[];
};

void sql_arena_init(struct sql_arena *arena, size_t max)
{
	memset(arena, 0, sizeof(*arena));
	arena->max = max;
}

void sql_arena_reset(struct sql_arena *arena)
{
	while (arena->chunks && arena->chunks->older) {
		struct sql_arena_chunk *older = arena->chunks->older;

		free(arena->chunks);
		arena->chunks = older;
	}
	arena->used = 0;
	arena->total = arena->cap = arena->chunks ? FIRST_CHUNK : 0;
	arena->failed = false;
}

void sql_arena_fini(struct sql_arena *arena)
{
	sql_arena_reset(arena);
	free(arena->chunks);
	arena->chunks = NULL;
}

static bool add_chunk(struct sql_arena *arena, size_t size)
{
	struct sql_arena_chunk *chunk;
	size_t cap = arena->cap ? arena->cap * 2 : FIRST_CHUNK;

	if (cap < size && arena->cap)
		cap = size;
	if (arena->total + cap > arena->max)
		return false;
	chunk = malloc(sizeof(*chunk) + cap);
	if (!chunk)
		return false;
	chunk->older = arena->chunks;
	arena->chunks = chunk;
	arena->used = 0;
	arena->cap = cap;
	arena->total += cap;
	return true;
}

void *sql_arena_alloc(struct sql_arena *arena, size_t size)
{
	void *data;

	size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
	if (arena->failed)
		return NULL;
	/* Twice at most: the first chunk has a fixed size, the next one is as large as it must be. */
	while (size > arena->cap - arena->used) {
		if (!add_chunk(arena, size)) {
			arena->failed = true;
			return NULL;
		}
	}
	data = arena->chunks->data + arena->used;
	arena->used += size;
	return memset(data, 0, size);
}
