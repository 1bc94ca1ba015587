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

/* Field numbers of audit.proto that are read or written in packed form; a unit test holds them against
 * the schema. */
enum record_field {
	RECORD_SEQ = 1,
	RECORD_KIND = 2,
	RECORD_TIME_NS = 3,
	RECORD_MONO_NS = 4,
	RECORD_END_TIME_NS = 5,
	RECORD_END_MONO_NS = 6,
	RECORD_DURATION_US = 7,
	RECORD_SESSION_ID = 10,
	RECORD_TRANSACTION_ID = 11,
	RECORD_PARENT_SEQ = 12,
	RECORD_STATEMENT_ID = 13,
	RECORD_PARENT_STATEMENT_ID = 14,
	RECORD_STATEMENT = 30,
	RECORD_EFFECTS = 31,
	RECORD_TAG = 32,
	RECORD_ROWS = 33,
	RECORD_ROWS_KNOWN = 34,
	RECORD_SQLSTATE = 35,
	RECORD_ERROR_MESSAGE = 36,
	RECORD_BYTES_IN = 37,
	RECORD_BYTES_OUT = 38,
	RECORD_WIRE = 39,
	RECORD_DECISION = 40,
	RECORD_OUTCOME = 41,
	RECORD_EVIDENCE = 42,
	RECORD_INCOMPLETE = 43,
	RECORD_HOLD = 44,
	RECORD_TRANSACTION = 50,
	RECORD_GAP = 53,
};

enum record_statement_field {
	STATEMENT_TEXT = 1,
	STATEMENT_MASKED = 2,
	STATEMENT_LENGTH = 3,
	STATEMENT_LENGTH_IS_MINIMUM = 4,
	STATEMENT_CAPTURED = 5,
	STATEMENT_DIGEST = 6,
	STATEMENT_FINGERPRINT = 7,
	STATEMENT_FORM = 8,
	STATEMENT_NAME = 9,
	STATEMENT_EXECUTIONS = 10,
	STATEMENT_STATEMENTS = 11,
	STATEMENT_UNKNOWN_REASON = 12,
	STATEMENT_GATE = 13,
};

enum record_part_field { PART_COMMAND = 1, PART_TAG = 2, PART_ROWS = 3, PART_OUTCOME = 4 };

enum record_effect_field {
	EFFECT_KIND = 1,
	EFFECT_OBJECT = 2,
	EFFECT_OBJECT_KIND = 3,
	EFFECT_COLUMNS = 4,
	EFFECT_RISK = 5,
};

enum record_decision_field {
	DECISION_ACTION = 1,
	DECISION_POLICY = 2,
	DECISION_RULE = 3,
	DECISION_MODE = 4,
	DECISION_MESSAGE = 5,
	DECISION_GENERATION = 6,
	DECISION_ACTED = 7,
	DECISION_BY_FAIL_MODE = 8,
	DECISION_UNDECIDED_REASON = 9,
	DECISION_UNKNOWN_ATTRIBUTES = 10,
	DECISION_MATCHES = 11,
	DECISION_GUARANTEE = 12,
};

enum record_match_field { MATCH_POLICY = 1, MATCH_RULE = 2, MATCH_ACTION = 3, MATCH_MODE = 4 };
enum record_wire_field { WIRE_REQUEST_MONO_NS = 1, WIRE_RESPONSE_MONO_NS = 2, WIRE_DURATION_US = 3 };
enum record_hold_field { HOLD_HELD_US = 1, HOLD_RESOLVED_BY = 2, HOLD_DEADLINE_US = 3 };

enum record_transaction_field {
	TRANSACTION_STATE = 1,
	TRANSACTION_XID = 2,
	TRANSACTION_STATEMENTS = 3,
	TRANSACTION_IMPLICIT = 4,
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
static inline size_t record_put_varint(uint8_t *to, uint64_t value)
{
	size_t len = 0;

	while (value >= 0x80) {
		to[len++] = (uint8_t)(value | 0x80);
		value >>= 7;
	}
	to[len++] = (uint8_t)value;
	return len;
}
/* How many bytes record_put_varint would write. */
size_t record_varint_size(uint64_t value);
/* The general case of record_get_varint(), for it alone. */
bool record_get_long_varint(const uint8_t **at, const uint8_t *end, uint64_t *value);

/* Reads one varint and moves *at behind it. False when it is cut off or longer than 64 bits. */
static inline bool record_get_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
	const uint8_t *p = *at;

	if (end - p >= 2 && (p[0] < 0x80 || p[1] < 0x80)) { /* nearly all tags and lengths */
		*value = p[0] < 0x80 ? p[0] : (uint64_t)(p[0] & 0x7f) | (uint64_t)p[1] << 7;
		*at = p + 1 + (p[0] >= 0x80);
		return true;
	}
	return record_get_long_varint(at, end, value);
}

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
