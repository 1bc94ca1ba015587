/* SPDX-License-Identifier: Apache-2.0 */
/* Settings of a running server, from its memory: what it started with, whatever its files say now. */
#ifndef DBFENCE_LOADER_PG_MEMORY_H
#define DBFENCE_LOADER_PG_MEMORY_H

#include <sys/types.h>

#include "loader/discover.h"

/*
 * The exported int variable @symbol of process @pid, which runs @server. -ENOENT when it is not
 * exported, or another negative errno. What is read is a stranger's: any int.
 */
int pg_memory_read_int(const struct pg_server *server, pid_t pid, const char *symbol, int *value);

#endif
