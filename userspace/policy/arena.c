// SPDX-License-Identifier: Apache-2.0
#include "policy/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_CHUNK 16384
#define ARENA_ALIGN 16

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, cap;
	_Alignas(ARENA_ALIGN) unsigned char data[];
};

void arena_init(struct arena *arena)
{
	arena->head = NULL;
}

void arena_fini(struct arena *arena)
{
	struct arena_chunk *chunk = arena->head, *next;

	for (; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	arena->head = NULL;
}

void *arena_alloc(struct arena *arena, size_t len)
{
	struct arena_chunk *chunk = arena->head;
	size_t cap;
	void *p;

	if (len > SIZE_MAX / 2)
		return NULL;
	len = (len + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	if (!chunk || chunk->cap - chunk->used < len) {
		cap = len > ARENA_CHUNK ? len : ARENA_CHUNK;
		chunk = calloc(1, sizeof(*chunk) + cap);
		if (!chunk)
			return NULL;
		chunk->cap = cap;
		chunk->next = arena->head;
		arena->head = chunk;
	}
	p = chunk->data + chunk->used;
	chunk->used += len;
	return p;
}

void *arena_array(struct arena *arena, size_t cnt, size_t size)
{
	if (size && cnt > SIZE_MAX / 2 / size)
		return NULL;
	return arena_alloc(arena, cnt * size);
}

char *arena_strndup(struct arena *arena, const char *s, size_t len)
{
	char *copy = arena_alloc(arena, len + 1);

	if (copy && len)
		memcpy(copy, s, len);
	return copy;
}
