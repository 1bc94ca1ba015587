/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is given back all at once: what one policy set, or one YAML file, consists of.
 * Nothing else lives here, and nothing is freed singly.
 */
#ifndef DBFENCE_POLICY_ARENA_H
#define DBFENCE_POLICY_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
	struct arena_chunk *head; /* owned */
};

void arena_init(struct arena *arena);
void arena_fini(struct arena *arena);
/* Zeroed and aligned for any type; NULL when memory runs out. @len 0 gives a valid pointer. */
void *arena_alloc(struct arena *arena, size_t len);
/* @cnt items of @size; NULL also when the product overflows. */
void *arena_array(struct arena *arena, size_t cnt, size_t size);
/* A NUL-terminated copy of @len bytes. */
char *arena_strndup(struct arena *arena, const char *s, size_t len);

#endif
