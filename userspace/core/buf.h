/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one byte buffer: growable, with a hard maximum and a sticky error, so that writers append
 * freely and check once. Used for records, JSON, and generated text.
 */
#ifndef DBFENCE_CORE_BUF_H
#define DBFENCE_CORE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
	char *data; /* owned; NUL-terminated whenever it is not NULL */
	size_t len;
	size_t cap;
	size_t max;  /* appending beyond sets failed */
	bool failed; /* sticky: out of memory or beyond max */
};

/* An empty buffer that never grows beyond @max bytes. Allocates nothing. */
void buf_init(struct buf *b, size_t max);
void buf_fini(struct buf *b);
/* Forget the contents and the error, keep the memory. */
void buf_reset(struct buf *b);
void buf_put(struct buf *b, const void *data, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Room for @len bytes, already counted in b->len, to be filled by the caller; NULL once failed. */
char *buf_grow(struct buf *b, size_t len);
/* 0, or -ENOMEM / -E2BIG remembered from an earlier append. */
int buf_err(const struct buf *b);
/* The text, "" when nothing was appended. Borrowed: by the buffer. */
const char *buf_str(const struct buf *b);

#endif
