/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bump allocator for one analysis: everything is freed at once, nothing singly. It has a hard maximum; once an
 * allocation failed, all later ones fail too, so that a builder may check at the end.
 */
#ifndef DBFENCE_SQL_SQL_ARENA_H
#define DBFENCE_SQL_SQL_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sql_arena_chunk;

struct sql_arena {
	struct sql_arena_chunk *chunks;	/* owned; the newest first */
	size_t used, cap;		/* of the newest */
	size_t total, max;
	bool failed;
};

void sql_arena_init(struct sql_arena *arena, size_t max);
void sql_arena_fini(struct sql_arena *arena);
/* Forget everything, keep one chunk. */
void sql_arena_reset(struct sql_arena *arena);
/* Zeroed and aligned for any type; NULL once failed. */
void *sql_arena_alloc(struct sql_arena *arena, size_t size);

#endif
