/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record as one line for a person who watches. The words carry the meaning; colour only repeats
 * it, and never as red against green. Whatever a client could have chosen is escaped before it
 * reaches the terminal.
 */
#ifndef DBFENCE_AUDIT_LINE_H
#define DBFENCE_AUDIT_LINE_H

#include <stdbool.h>

#include "audit/record.h"
#include "core/buf.h"

struct line_opts {
	unsigned width; /* columns; the statement's text is shortened to fit. 0: not shortened */
	bool color;
	bool date; /* the whole date in front of the time; for files, where days matter */
	bool seq;  /* "#123" in front */
};

/* Appends the line and a newline. Times are UTC. Errors are the buffer's (buf_err). */
void audit_line_write(const struct Dbfence__Audit__V1__Record *record, const struct line_opts *opts,
		      struct buf *out);

#endif
