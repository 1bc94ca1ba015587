/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walsender's own commands, as far as facts need them: the command and the slot it names. What follows is options,
 * which change neither. Everything else that a walsender gets is SQL, SHOW too: its grammar is the same there.
 */
#ifndef DBFENCE_SQL_SQL_REPLICATION_H
#define DBFENCE_SQL_SQL_REPLICATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SQL_SLOT_MAX 64 /* with its NUL; the server has no longer ones */

struct sql_replication {
	const char *command; /* "BASE_BACKUP"; NULL: not understood */
	uint32_t effects;
	size_t off; /* of the command in the text */
	char slot[SQL_SLOT_MAX]; /* "" when it names none */
};

/* False, with *@cmd untouched, when the text is SQL. Any bytes. */
bool sql_replication_read(const char *text, size_t len, struct sql_replication *cmd);

#endif
