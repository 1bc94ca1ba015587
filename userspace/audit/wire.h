/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One-pass protobuf writing for the one message that is made for every statement: fields are appended
 * to memory of the caller, what is empty is left out as proto3 does, and what does not fit is
 * remembered (->full) and asked for once at the end. Everything else is packed by protobuf-c.
 *
 * Wire format: protobuf.dev/programming-guides/encoding. Field numbers stand in audit/record.h.
 */
#ifndef DBFENCE_AUDIT_WIRE_H
#define DBFENCE_AUDIT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "audit/record.h"

struct wire {
	uint8_t *start, *at, *end; /* borrowed: from the caller */
	bool full;		   /* sticky: something did not fit and was left out whole */
};

static inline void wire_init(struct wire *w, void *to, size_t cap)
{
	*w = (struct wire){ .start = to, .at = to, .end = (uint8_t *)to + cap };
}

static inline size_t wire_len(const struct wire *w)
{
	return (size_t)(w->at - w->start);
}

static inline bool wire_room(struct wire *w, size_t len)
{
	if (len <= (size_t)(w->end - w->at))
		return true;
	w->full = true;
	return false;
}

/* A field's head: its key, then its value or length. */
static inline void wire_head(struct wire *w, uint64_t key, uint64_t value)
{
	w->at += record_put_varint(w->at, key);
	w->at += record_put_varint(w->at, value);
}

/* What was packed before. */
static inline void wire_raw(struct wire *w, const void *data, size_t len)
{
	if (!len || !wire_room(w, len))
		return;
	memcpy(w->at, data, len);
	w->at += len;
}

/* Also bool, and int64 that is not negative. */
static inline void wire_number(struct wire *w, unsigned field, uint64_t value)
{
	if (!value || !wire_room(w, 5 + 10))
		return;
	wire_head(w, field << 3, value);
}

/* A submessage whose @len bytes follow; an empty one is there all the same. */
static inline void wire_message(struct wire *w, unsigned field, size_t len)
{
	if (wire_room(w, 5 + 10 + len))
		wire_head(w, field << 3 | 2, len);
}

/* An element of a repeated string may be empty. */
static inline void wire_element(struct wire *w, unsigned field, const void *data, size_t len)
{
	if (!wire_room(w, 5 + 10 + len))
		return;
	wire_head(w, field << 3 | 2, len);
	memcpy(w->at, data, len);
	w->at += len;
}

static inline void wire_bytes(struct wire *w, unsigned field, const void *data, size_t len)
{
	if (len)
		wire_element(w, field, data, len);
}

/* NULL is empty. */
static inline void wire_string(struct wire *w, unsigned field, const char *s)
{
	if (s)
		wire_bytes(w, field, s, strlen(s));
}

#endif
