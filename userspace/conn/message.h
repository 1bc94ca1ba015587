/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PostgreSQL backend messages, as far as a record needs them. Pure and bounded; the bytes are what
 * the kernel side kept of a message, perhaps only its beginning. (PostgreSQL documentation,
 * "Message Formats".)
 */
#ifndef DBFENCE_CONN_MESSAGE_H
#define DBFENCE_CONN_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct message_error {
	char severity[16];
	char sqlstate[6];
	char text[256]; /* cut there */
};

/* ErrorResponse. False when it has no SQLSTATE. */
bool message_parse_error(const char *bytes, size_t len, struct message_error *out);

/*
 * CommandComplete: copies the tag (at most cap - 1 bytes) and finds its row count ("UPDATE 3",
 * "INSERT 0 1"). *rows_known is false for tags without one.
 */
void message_parse_complete(const char *bytes, size_t len, char *tag, size_t cap, uint64_t *rows,
			    bool *rows_known);

/* ParameterStatus: the value, copied, when it is the one of @name. */
bool message_parameter(const char *bytes, size_t len, const char *name, char *value, size_t cap);

/* Unpack MAKE_SQLSTATE's six bits a character. @out has 6 bytes. */
void message_sqlstate(uint32_t packed, char *out);

#endif
