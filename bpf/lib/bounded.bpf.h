/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rank 1. Every mask and clamp that exists for the verifier. Compilers merge or move plain comparisons so that the
 * verifier loses the bound between the test and the use; the empty asm pins the value to the register tested.
 */
#ifndef DBF_BOUNDED_BPF_H
#define DBF_BOUNDED_BPF_H

#include "lib/compat.bpf.h"

#define bounded_pin(x) asm volatile("" : "+r"(x))

/* @x, or @max when it is larger. The verifier knows the result is at most @max, a constant. */
#define bounded_max(x, max) \
	({ \
		u64 _x = (x); \
		bounded_pin(_x); \
		if (_x > (max)) \
			_x = (max); \
		_x; \
	})

/* @x below @size, a power of two. */
#define bounded_mask(x, size) \
	({ \
		u64 _x = (x); \
		_x &= (size) - 1; \
		bounded_pin(_x); \
		_x &= (size) - 1; \
		_x; \
	})

/* @x, which is 1 to @size, a power of two. 6.1 does not see that what was tested against zero is at least one. */
#define bounded_some(x, size) \
	({ \
		u64 _y = (x); \
		_y = ((_y - 1) & ((size) - 1)) + 1; \
		bounded_pin(_y); \
		_y = ((_y - 1) & ((size) - 1)) + 1; \
		_y; \
	})

/*
 * A function that the verifier checks once, on its own, instead of at every call: pointers in, an int out. What it gets
 * it must test for NULL.
 */
#define GLOBAL_FN __attribute__((noinline))

#define round8(x) (((x) + 7) & ~7U)

#endif
