/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel records of a TCP connection to items: checks every length, then hands out each item with its bytes. Pure; the
 * bytes may come from the ring or from a file. The layout is include/dbfence/abi/wire.h.
 */
#ifndef DBFENCE_SOURCE_WIRE_H
#define DBFENCE_SOURCE_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "dbfence/abi/wire.h"

struct wire_iter {
	const unsigned char *at;
	const unsigned char *end;
	bool bad; /* the rest made no sense and was skipped */
};

struct wire_item {
	struct dbf_wire_item head;
	const unsigned char *bytes; /* head.captured of them; borrowed: by the record */
};

/* Whether a ring record is of a connection. */
bool wire_is_record(const void *record, size_t len);

/*
 * Check a ring record and start on its items. NULL when it is none of this version; else the header, borrowed: by the
 * record.
 */
const struct dbf_wire *wire_open(const void *record, size_t len, struct wire_iter *it);

/* The next item; false at the end, and when the rest is malformed (then it->bad). Items of the kernel side's own types
 * have at least the struct that stands behind them. */
bool wire_next(struct wire_iter *it, struct wire_item *item);

#endif
