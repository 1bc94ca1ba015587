/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel records to facts: checks every length, then hands out each fact with its payload. Pure;
 * the bytes may come from the ring or from a file.
 */
#ifndef DBFENCE_SOURCE_BATCH_H
#define DBFENCE_SOURCE_BATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "dbfence/abi/record.h"

struct batch_iter {
	const unsigned char *at;
	const unsigned char *end;
	bool bad; /* the rest made no sense and was skipped */
};

struct batch_fact {
	enum dbf_fact_kind kind;
	uint32_t arg;
	uint64_t ts;
	const void
		*head; /* the fact's struct, NULL for kinds without one; borrowed: by the record */
	const char *bytes; /* text or message behind it, not NUL-terminated */
	size_t len;	   /* of bytes */
};

/*
 * Check a ring record and start on its facts. NULL when it is no batch of this version; else the
 * header, borrowed: by the record.
 */
const struct dbf_batch *batch_open(const void *record, size_t len, struct batch_iter *it);

/* The next fact; false at the end, and when the rest is malformed (then it->bad). */
bool batch_next(struct batch_iter *it, struct batch_fact *fact);

#endif
