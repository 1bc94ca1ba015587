// SPDX-License-Identifier: Apache-2.0
/* Packed protobuf: varints, the top-level walk, decoding into an arena, and the gap record. */
#include "audit/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/limits.h"
#include "dbfence/audit.pb-c.h"

/*
 * Two bytes of input can become an element of about 100 bytes: this covers the worst record that is
 * still sane.
 */
#define ARENA_MAX (32UL << 20)
#define ARENA_CHUNK (64UL << 10)
#define ARENA_KEEP (1UL << 20)

enum wire_type { WIRE_VARINT = 0, WIRE_I64 = 1, WIRE_BYTES = 2, WIRE_I32 = 5 };

size_t record_varint_size(uint64_t value)
{
	size_t len = 1;

	while (value >= 0x80) {
		value >>= 7;
		len++;
	}
	return len;
}

bool record_get_long_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
	const uint8_t *p = *at;
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && p < end; shift += 7) {
		uint8_t byte = *p++;

		if (shift == 63 && byte > 1)
			return false;
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*at = p;
			*value = v;
			return true;
		}
	}
	return false;
}

struct wire_field {
	uint64_t number;
	enum wire_type type;
	uint64_t value; /* of a varint */
	struct record_span bytes;
};

static inline bool wire_skip(const uint8_t **at, const uint8_t *end, size_t len)
{
	if (len > (size_t)(end - *at))
		return false;
	*at += len;
	return true;
}

static inline bool wire_next(const uint8_t **at, const uint8_t *end, struct wire_field *field)
{
	uint64_t tag, len;

	if (!record_get_varint(at, end, &tag) || !(tag >> 3) || tag >> 3 >= 1U << 29)
		return false;
	field->number = tag >> 3;
	field->type = tag & 7;
	switch (field->type) {
	case WIRE_VARINT:
		return record_get_varint(at, end, &field->value);
	case WIRE_I64:
		return wire_skip(at, end, 8);
	case WIRE_I32:
		return wire_skip(at, end, 4);
	case WIRE_BYTES:
		if (!record_get_varint(at, end, &len) || len > (size_t)(end - *at))
			return false;
		field->bytes = (struct record_span){*at, (size_t)len};
		*at += len;
		return true;
	}
	return false; /* groups, and types that do not exist */
}

static void keys_take_number(struct record_keys *keys, const struct wire_field *field)
{
	switch (field->number) {
	case RECORD_SEQ:
		keys->seq = field->value;
		keys->has_seq = true;
		break;
	case RECORD_PARENT_SEQ:
		keys->parent_seq = field->value;
		break;
	case RECORD_STATEMENT_ID:
		keys->statement_id = field->value;
		break;
	case RECORD_PARENT_STATEMENT_ID:
		keys->parent_statement_id = field->value;
		break;
	}
}

static void keys_take_bytes(struct record_keys *keys, const struct wire_field *field)
{
	switch (field->number) {
	case RECORD_KIND:
		keys->kind = field->bytes;
		break;
	case RECORD_SESSION_ID:
		keys->session_id = field->bytes;
		break;
	case RECORD_STATEMENT:
		keys->statement = field->bytes;
		break;
	case RECORD_GAP:
		keys->gap = field->bytes;
		break;
	case RECORD_SEQ:
		/* Not what the schema says, but a reader might choke on it: it counts as a seq. */
		keys->has_seq = true;
		break;
	}
}

bool record_scan(const uint8_t *data, size_t len, struct record_keys *keys)
{
	const uint8_t *at = data, *end = data + len;
	struct wire_field field;

	memset(keys, 0, sizeof(*keys));
	while (at < end) {
		if (!wire_next(&at, end, &field))
			return false;
		if (field.type == WIRE_VARINT)
			keys_take_number(keys, &field);
		else if (field.type == WIRE_BYTES)
			keys_take_bytes(keys, &field);
		else if (field.number == RECORD_SEQ)
			keys->has_seq = true;
	}
	return true;
}

static uint64_t message_varint(const struct record_span *message, uint64_t number)
{
	const uint8_t *at = message->data, *end = at + message->len;
	struct wire_field field;
	uint64_t value = 0;

	while (at < end && wire_next(&at, end, &field))
		if (field.number == number && field.type == WIRE_VARINT)
			value = field.value;
	return value;
}

static bool span_is(const struct record_span *span, const char *text)
{
	return span->len == strlen(text) && !memcmp(span->data, text, span->len);
}

uint64_t record_executions(const struct record_keys *keys)
{
	enum { GAP_EXECUTIONS = 3 };
	uint64_t cnt;

	if (!keys->kind.data)
		return 0;
	if (span_is(&keys->kind, "statement")) {
		cnt = keys->statement.data ? message_varint(&keys->statement, STATEMENT_EXECUTIONS)
					   : 0;
		return cnt ? cnt : 1;
	}
	if (span_is(&keys->kind, "gap") && keys->gap.data)
		return message_varint(&keys->gap, GAP_EXECUTIONS);
	return 0;
}

struct record_chunk {
	struct record_chunk *next;
	size_t cap, used;
	_Alignas(16) unsigned char data[];
};

void record_arena_init(struct record_arena *arena)
{
	*arena = (struct record_arena){0};
}

static void arena_free_from(struct record_arena *arena, struct record_chunk *chunk)
{
	while (chunk) {
		struct record_chunk *next = chunk->next;

		arena->total -= chunk->cap;
		free(chunk);
		chunk = next;
	}
}

void record_arena_fini(struct record_arena *arena)
{
	arena_free_from(arena, arena->chunks);
	arena->chunks = NULL;
}

void record_arena_reset(struct record_arena *arena)
{
	struct record_chunk *keep = arena->chunks;

	if (!keep)
		return;
	arena_free_from(arena, keep->next);
	keep->next = NULL;
	keep->used = 0;
	if (keep->cap > ARENA_KEEP) {
		arena_free_from(arena, keep);
		arena->chunks = NULL;
	}
}

void *record_arena_take(struct record_arena *arena, size_t size)
{
	struct record_chunk *chunk = arena->chunks;
	size_t cap;
	void *at;

	if (size > ARENA_MAX)
		return NULL;
	size = (size + 15) & ~(size_t)15;
	if (!chunk || size > chunk->cap - chunk->used) {
		cap = chunk ? chunk->cap * 2 : ARENA_CHUNK;
		if (cap < size)
			cap = size;
		if (cap > ARENA_MAX - arena->total)
			cap = size;
		if (cap > ARENA_MAX - arena->total)
			return NULL;
		chunk = malloc(sizeof(*chunk) + cap);
		if (!chunk)
			return NULL;
		chunk->next = arena->chunks;
		chunk->cap = cap;
		chunk->used = 0;
		arena->chunks = chunk;
		arena->total += cap;
	}
	at = chunk->data + chunk->used;
	chunk->used += size;
	return at;
}

static void *arena_alloc(void *arena, size_t size)
{
	return record_arena_take(arena, size);
}

static void arena_free(void *arena, void *pointer)
{
	(void)arena;
	(void)pointer;
}

Dbfence__Audit__V1__Record *record_unpack(struct record_arena *arena, const uint8_t *data,
					  size_t len)
{
	ProtobufCAllocator allocator = {arena_alloc, arena_free, arena};

	record_arena_reset(arena);
	return dbfence__audit__v1__record__unpack(&allocator, len, data);
}

int record_frame(const Dbfence__Audit__V1__Record *record, struct buf *out)
{
	size_t len = dbfence__audit__v1__record__get_packed_size(record);
	uint8_t *to;

	if (len > LIMIT_RECORD_BYTES)
		return -E2BIG;
	to = (uint8_t *)buf_grow(out, 4 + len);
	if (!to)
		return buf_err(out);
	to[0] = (uint8_t)len;
	to[1] = (uint8_t)(len >> 8);
	to[2] = (uint8_t)(len >> 16);
	to[3] = (uint8_t)(len >> 24);
	dbfence__audit__v1__record__pack(record, to + 4);
	return 0;
}

void record_put_gap(const struct record_gap *gap, struct buf *out)
{
	Dbfence__Audit__V1__Record record = DBFENCE__AUDIT__V1__RECORD__INIT;
	Dbfence__Audit__V1__Gap body = DBFENCE__AUDIT__V1__GAP__INIT;
	uint8_t *to;

	body.reason = (char *)gap->reason;
	if (gap->detail)
		body.detail = (char *)gap->detail;
	body.records = gap->records;
	body.executions = gap->executions;
	record.kind = (char *)"gap";
	if (gap->node)
		record.node = (char *)gap->node;
	record.time_ns = (int64_t)clock_wall_ns();
	record.mono_ns = clock_mono_ns();
	record.gap = &body;
	to = (uint8_t *)buf_grow(out, dbfence__audit__v1__record__get_packed_size(&record));
	if (to)
		dbfence__audit__v1__record__pack(&record, to);
}
