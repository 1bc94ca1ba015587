/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What bpf/lib/frame.bpf.h needs of the kernel, in user space. A packet is a buffer, the ring is a function of the test's.
 * The clamps of lib/bounded.bpf.h are for the verifier only and must never act: here one that would aborts.
 */
#ifndef DBFENCE_TESTS_BPF_SHIM_H
#define DBFENCE_TESTS_BPF_SHIM_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dbfence/abi/record.h"
#include "dbfence/abi/shared.h"

#pragma GCC diagnostic ignored "-Wunused-parameter" /* as bpf/ is built */

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;

#undef __always_inline
#define __always_inline inline __attribute__((unused))
#define GLOBAL_FN static __attribute__((noinline, unused))
#define round8(x) (((x) + 7) & ~7U)

static inline u64 shim_bounded(u64 x, u64 min, u64 max)
{
	if (x < min || x > max)
		abort();
	return x;
}

#define bounded_max(x, max) shim_bounded((x), 0, (max))
#define bounded_mask(x, size) shim_bounded((x), 0, (size) - 1)
#define bounded_some(x, size) shim_bounded((x), 1, (size))

struct __sk_buff {
	const u8 *data; /* borrowed */
	u32 len;
	u32 unreadable; /* from this byte on; 0: all can be read */
};

struct shim {
	/* A record for the ring. Not 0: it has no room. */
	int (*output)(void *ctx, const void *record, size_t len);
	void *ctx;
	bool full; /* emit_has_room() says no */
	u64 counts[DBF_COUNT_MAX];
};

static struct shim shim __attribute__((unused));
static int ring __attribute__((unused));

enum emit_how { EMIT_LAZY, EMIT_WAKE = 1, EMIT_RESERVE = 2, EMIT_HOLD = 4 };

struct hash128 {
	u64 words[2];
};

static inline bool emit_has_room(u32 how)
{
	return how & EMIT_RESERVE || !shim.full;
}

static inline u64 emit_wakeup(bool wake)
{
	return wake;
}

static inline void count_add(enum dbf_count what, u64 n)
{
	shim.counts[what] += n;
}

static inline long bpf_ringbuf_output(void *to, const void *record, u64 len, u64 flags)
{
	return shim.output ? shim.output(shim.ctx, record, len) : -EAGAIN;
}

static inline long bpf_skb_load_bytes(const struct __sk_buff *skb, u32 at, void *to, u32 len)
{
	if (!len)
		abort(); /* the verifier refuses it */
	if (at > skb->len || len > skb->len - at || (skb->unreadable && at + len > skb->unreadable))
		return -EFAULT;
	memcpy(to, skb->data + at, len);
	return 0;
}

static inline long bpf_probe_read_kernel(void *to, u32 len, const void *from)
{
	memcpy(to, from, len);
	return 0;
}

#define bpf_loop(cnt, fn, ctx, flags) \
	({ \
		u32 _done = 0; \
		(void)(flags); \
		while (_done < (cnt)) \
			if (fn(_done++, ctx)) \
				break; \
		(long)_done; \
	})

#endif
