/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record as one JSON object on one line, and back. The names are the protobuf's;
 * man/dbfence-audit.5 lists them.
 *
 * Fields with default values are left out, except those that tools rely on in statement records.
 * The writer walks the schema's descriptors, so that a new field of the schema is a new field of
 * the JSON.
 */
#ifndef DBFENCE_AUDIT_JSON_H
#define DBFENCE_AUDIT_JSON_H

#include <stddef.h>

#include "audit/record.h"
#include "core/buf.h"
#include "core/limits.h"

/* A control character takes one byte in a record and six in JSON. */
#define JSON_RECORD_MAX (8 * LIMIT_RECORD_BYTES)

/*
 * Appends the object and a newline. Bytes are written as hex; what is not UTF-8 becomes U+FFFD;
 * characters that could steer a terminal are written as \uXXXX. Errors are the buffer's (buf_err).
 */
void audit_json_write(const struct Dbfence__Audit__V1__Record *record, struct buf *out);

/*
 * The reverse, for readers of the live stream: the record lives in @arena until its next reset
 * (this call resets it first). Names that this release does not know are ignored. NULL when the
 * line is not such an object.
 */
struct Dbfence__Audit__V1__Record *audit_json_read(struct record_arena *arena, const char *line,
						   size_t len);

/* Fields that are deliberately absent from the JSON, "rows_known"; NULL-terminated. */
extern const char *const audit_json_skipped[];

#endif
