/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packed records: the few things that this folder does to protobuf bytes without decoding them, and
 * the one way to decode them. A "body" is a packed Record without its seq; the journal puts the seq
 * in front.
 *
 * Pure: bytes in, result out. Lengths in the bytes are never trusted.
 */
#ifndef DBFENCE_AUDIT_RECORD_H
#define DBFENCE_AUDIT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

struct Dbfence__Audit__V1__Record;

#define RECORD_VARINT_MAX 10

/* Top-level field numbers that are read or written in packed form. */
enum record_field {
	RECORD_SEQ = 1,
	RECORD_KIND = 2,
	RECORD_SESSION_ID = 10,
	RECORD_PARENT_SEQ = 12,
	RECORD_STATEMENT_ID = 13,
	RECORD_PARENT_STATEMENT_ID = 14,
	RECORD_STATEMENT = 30,
	RECORD_GAP = 53,
};

struct record_span {
	const uint8_t *data; /* borrowed: from the scanned bytes; NULL when the field is absent */
	size_t len;
};

struct record_keys {
	struct record_span kind;
	struct record_span session_id;
	struct record_span statement;
	struct record_span gap;
	uint64_t seq;
	uint64_t parent_seq;
	uint64_t statement_id;
	uint64_t parent_statement_id;
	bool has_seq;
};

/* Writes @value, at most RECORD_VARINT_MAX bytes; returns how many. */
size_t record_put_varint(uint8_t *to, uint64_t value);
/* How many bytes record_put_varint would write. */
size_t record_varint_size(uint64_t value);
/* Reads one varint and moves *at behind it. False when it is cut off or longer than 64 bits. */
bool record_get_varint(const uint8_t **at, const uint8_t *end, uint64_t *value);

/* Walks the top-level fields once. False when the bytes are not a sequence of protobuf fields. */
bool record_scan(const uint8_t *data, size_t len, struct record_keys *keys);

/*
 * How many executions losing this record loses: a statement's fold count, a gap's own count, else
 * 0.
 */
uint64_t record_executions(const struct record_keys *keys);

/* Memory for one decoded record at a time; bounded, so that crafted bytes cannot ask for more. */
struct record_arena {
	struct record_chunk *chunks; /* owned; newest first */
	size_t total;
};

/* A zeroed struct is an empty arena too. */
void record_arena_init(struct record_arena *arena);
void record_arena_fini(struct record_arena *arena);
/* Gives back everything taken from it, keeps some memory for the next record. */
void record_arena_reset(struct record_arena *arena);
/* Aligned memory, not zeroed; NULL when the bound is reached. */
void *record_arena_take(struct record_arena *arena, size_t size);

/*
 * Decodes one record. The result lives in @arena until its next reset (this call resets it first).
 * NULL when the bytes are no Record, or when it would need too much memory.
 */
struct Dbfence__Audit__V1__Record *record_unpack(struct record_arena *arena, const uint8_t *data,
						 size_t len);

/*
 * Appends @record packed as a frame for the recorder: u32 little-endian length, then the body. 0 or
 * -E2BIG, -ENOMEM.
 */
int record_frame(const struct Dbfence__Audit__V1__Record *record, struct buf *out);

struct record_gap {
	const char *node; /* may be NULL */
	const char *reason;
	const char *detail; /* may be NULL */
	uint64_t records;
	uint64_t executions;
};

/* Appends the packed body of a gap record, stamped with both clocks now. */
void record_put_gap(const struct record_gap *gap, struct buf *out);

#endif
