/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A large stack of its own to run the parser on: its grammar is recursive in the input's depth. Switching to it
 * and back costs about a microsecond in the same thread; handing the text to another thread and waiting for it costs
 * ten to fifty. Below the stack stands a guard page: an overflow is a fault, never a silent overwrite.
 */
#ifndef DBFENCE_SQL_SQL_STACK_H
#define DBFENCE_SQL_SQL_STACK_H

#include <stddef.h>

struct sql_stack;

/* @size bytes, touched only as deep as they are used. NULL with errno. */
struct sql_stack *sql_stack_new(size_t size);
void sql_stack_free(struct sql_stack *stack);

/* Call fn(arg) on @stack and return when it returns. From the thread that made it, and not from within fn. */
void sql_stack_run(struct sql_stack *stack, void (*fn)(void *arg), void *arg);

#endif
