/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel records out of a fuzzer's bytes: each stands behind a little-endian u16 length, the last may be shorter than it
 * says. Even lengths give the bytes as they are; for odd ones version and length of the header are made right first (of a
 * connection's record, if it says that it is one), so that mutations of a good record stay good. Each record is fed from a copy of its own: a read beyond it is seen.
 */
#ifndef DBFENCE_TESTS_FUZZ_RECORDS_H
#define DBFENCE_TESTS_FUZZ_RECORDS_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "dbfence/abi/wire.h"

typedef void (*record_feed_fn)(void *to, const void *record, size_t len);

static inline void records_feed_one(const uint8_t *data, size_t len, bool mend, record_feed_fn feed, void *to)
{
	unsigned char *copy = malloc(len ? len : 1);
	struct dbf_batch *b = (struct dbf_batch *)(void *)copy;

	if (!copy)
		abort();
	if (len)
		memcpy(copy, data, len);
	if (mend && len >= sizeof(struct dbf_wire) && b->abi == DBF_WIRE_ABI) {
		struct dbf_wire *w = (struct dbf_wire *)(void *)copy;

		w->len = (uint32_t)len;
		w->dir &= 1;
		w->seen_by &= 1;
	} else if (mend && len >= sizeof(*b)) {
		b->abi = DBF_ABI_VERSION;
		b->len = (uint32_t)len;
	}
	feed(to, copy, len);
	free(copy);
}

/* How many records there were. */
static inline uint64_t records_feed(const uint8_t *data, size_t size, record_feed_fn feed, void *to)
{
	uint64_t records = 0;
	size_t at = 0;

	while (size - at >= 2) {
		size_t n = data[at] | (size_t)data[at + 1] << 8;
		bool mend = n & 1;

		at += 2;
		n &= ~(size_t)1;
		n = n < size - at ? n : size - at;
		records_feed_one(data + at, n, mend, feed, to);
		at += n;
		records++;
	}
	return records;
}

#endif
