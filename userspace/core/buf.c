// SPDX-License-Identifier: Apache-2.0
#include "core/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){ .max = max };
}

void buf_fini(struct buf *b)
{
	free(b->data);
	b->data = NULL;
	b->len = b->cap = 0;
}

void buf_reset(struct buf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->data)
		b->data[0] = '\0';
}

char *buf_grow(struct buf *b, size_t len)
{
	size_t need, cap;
	char *data;

	if (b->failed)
		return NULL;
	if (len > b->max - b->len) {
		b->failed = true;
		return NULL;
	}
	need = b->len + len + 1;
	if (need > b->cap) {
		cap = b->cap ? b->cap : 256;
		while (cap < need)
			cap *= 2;
		data = realloc(b->data, cap);
		if (!data) {
			b->failed = true;
			return NULL;
		}
		b->data = data;
		b->cap = cap;
	}
	data = b->data + b->len;
	b->len += len;
	b->data[b->len] = '\0';
	return data;
}

void buf_put(struct buf *b, const void *data, size_t len)
{
	char *to = buf_grow(b, len);

	if (to && len)
		memcpy(to, data, len);
}

void buf_puts(struct buf *b, const char *s)
{
	buf_put(b, s, strlen(s));
}

void buf_putc(struct buf *b, char c)
{
	buf_put(b, &c, 1);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	char *to;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n >= 0) {
		to = buf_grow(b, (size_t)n);
		if (to)
			vsnprintf(to, (size_t)n + 1, fmt, again);
	} else {
		b->failed = true;
	}
	va_end(again);
}

int buf_err(const struct buf *b)
{
	if (!b->failed)
		return 0;
	return b->len >= b->max ? -E2BIG : -ENOMEM;
}

const char *buf_str(const struct buf *b)
{
	return b->data ? b->data : "";
}
