/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes from clients, made safe to show: UTF-8 decoding, which characters a terminal must not get
 * raw, how wide one is, and the two ways a time is written. Used by the JSON and the line writers.
 */
#ifndef DBFENCE_AUDIT_TEXT_H
#define DBFENCE_AUDIT_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"

/*
 * Length of the valid UTF-8 character at @at with its code point in *cp; 0 when the bytes there are
 * not one.
 */
unsigned text_utf8(const unsigned char *at, const unsigned char *end, uint32_t *cp);

/* Whether all of @text is valid UTF-8 without a NUL, as protobuf and JSON want strings to be. */
bool text_is_utf8(const char *text, size_t len);

/*
 * Appends @text, each byte that is not part of UTF-8 (and NUL) as U+FFFD: a database's encoding may be
 * another, and a client may send anything.
 */
void text_put_utf8(struct buf *out, const char *text, size_t len);

/*
 * True for what could steer a terminal or deceive a reader: C0 and C1 controls, DEL, line and
 * paragraph separators, and characters that reorder or hide text.
 */
bool text_is_unsafe(uint32_t cp);

/* Columns on a terminal: 0, 1 or 2. */
unsigned text_width(uint32_t cp);

#define TEXT_TIME_MAX 40

/*
 * "2026-11-23T02:10:11.123456789Z" when @ns_digits is 9; 3 gives milliseconds. Returns the length,
 * no NUL.
 */
size_t text_time(char to[TEXT_TIME_MAX], int64_t time_ns, unsigned ns_digits);

/* Appends @value in decimal. */
void text_put_u64(struct buf *out, uint64_t value);

#endif
