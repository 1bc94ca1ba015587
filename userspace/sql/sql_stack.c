// SPDX-License-Identifier: Apache-2.0
/*
 * Owns the stack and the switch to it. One context lives on the stack for ever and runs one call per round.
 * AddressSanitizer is told of each switch, since it keeps bounds per stack.
 */
#include "sql/sql_stack.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SQL_STACK_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define SQL_STACK_ASAN 1
#endif

#ifdef SQL_STACK_ASAN
#include <sanitizer/common_interface_defs.h>
#else
#define __sanitizer_start_switch_fiber(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#define __sanitizer_finish_switch_fiber(save, bottom, size) ((void)(save), (void)(bottom), (void)(size))
#endif

struct sql_stack {
	ucontext_t caller, callee;
	char *map;	/* owned; guard page first */
	size_t map_size, guard;
	void (*fn)(void *arg);
	void *arg;
	const void *caller_bottom;	/* of the thread's own stack, as the sanitizer knows it */
	size_t caller_size;
};

/* makecontext() passes ints only: a pointer goes as two halves. */
static void stack_main(unsigned high, unsigned low)
{
	struct sql_stack *stack = (struct sql_stack *)((uintptr_t)high << 32 | (uintptr_t)low);
	void *fake = NULL;

	for (;;) {
		__sanitizer_finish_switch_fiber(fake, &stack->caller_bottom, &stack->caller_size);
		stack->fn(stack->arg);
		__sanitizer_start_switch_fiber(&fake, stack->caller_bottom, stack->caller_size);
		swapcontext(&stack->callee, &stack->caller);
	}
}

/* Apart from the constructor, whose locals getcontext() might clobber. */
static int make_context(struct sql_stack *stack, size_t size)
{
	uint64_t self = (uintptr_t)stack;

	if (getcontext(&stack->callee))
		return -1;
	stack->callee.uc_stack.ss_sp = stack->map + stack->guard;
	stack->callee.uc_stack.ss_size = size;
	stack->callee.uc_link = NULL;
	makecontext(&stack->callee, (void (*)(void))stack_main, 2, (unsigned)(self >> 32), (unsigned)self);
	return 0;
}

struct sql_stack *sql_stack_new(size_t size)
{
	struct sql_stack *stack = calloc(1, sizeof(*stack));

	if (!stack)
		return NULL;
	stack->guard = (size_t)sysconf(_SC_PAGESIZE);
	stack->map_size = size + stack->guard;
	stack->map = mmap(NULL, stack->map_size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (stack->map == MAP_FAILED) {
		stack->map = NULL;
		goto fail;
	}
	if (mprotect(stack->map, stack->guard, PROT_NONE) || make_context(stack, size))
		goto fail;
	return stack;
fail:
	sql_stack_free(stack);
	return NULL;
}

void sql_stack_free(struct sql_stack *stack)
{
	if (!stack)
		return;
	if (stack->map)
		munmap(stack->map, stack->map_size);
	free(stack);
}

void sql_stack_run(struct sql_stack *stack, void (*fn)(void *arg), void *arg)
{
	void *fake = NULL;

	stack->fn = fn;
	stack->arg = arg;
	__sanitizer_start_switch_fiber(&fake, stack->map + stack->guard, stack->map_size - stack->guard);
	swapcontext(&stack->caller, &stack->callee);
	__sanitizer_finish_switch_fiber(fake, &stack->caller_bottom, &stack->caller_size);
}
