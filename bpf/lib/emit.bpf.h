/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rank 3. Facts into the backend's batch, batches into the ring.
 *
 * The reader is woken only when it said that it sleeps, or when somebody waits for it (a hold, a
 * session that opens).
 */
#ifndef DBF_EMIT_BPF_H
#define DBF_EMIT_BPF_H

#include "lib/maps.bpf.h"

static __always_inline u64 emit_wakeup(bool wake)
{
	u32 zero = 0;
	struct dbf_doorbell *d = bpf_map_lookup_elem(&doorbells, &zero);

	if (d && d->asleep) {
		d->asleep = 0;
		return BPF_RB_FORCE_WAKEUP;
	}
	return wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;
}

enum emit_how {
	EMIT_LAZY,
	EMIT_WAKE = 1,	  /* somebody waits for the reader */
	EMIT_RESERVE = 2, /* may use the last eighth of the ring, which is kept for what is held */
	EMIT_HOLD = 4,
	EMIT_HOLD_LONG = 8,
};

/* Whoever fills the ring must not take the room of those who stand still until they are answered. */
static __always_inline bool emit_has_room(u32 how)
{
	u64 size;

	if (how & EMIT_RESERVE)
		return true;
	size = bpf_ringbuf_query(&ring, BPF_RB_RING_SIZE);
	return bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < size - size / 8;
}

/* Send what was gathered. 0, or 1 when the ring is full: then the loss is counted and told with the
 * next batch. */
GLOBAL_FN int emit_flush(struct backend *b, u32 how)
{
	u64 used;
	long err = 1;

	if (!b || !b->used)
		return 0;
	used = bounded_max(b->used, DBF_BATCH_BYTES);
	b->head = (struct dbf_batch){
		.abi = DBF_ABI_VERSION,
		.flags = (how & EMIT_HOLD ? DBF_BATCH_HOLD : 0) |
			 (how & EMIT_HOLD_LONG ? DBF_BATCH_HOLD_LONG : 0),
		.len = sizeof(b->head) + used,
		.tgid = b->tgid,
		.postmaster = b->postmaster,
		.session = b->session,
		.seq = b->seq++,
		.execs = b->execs,
		.lost_batches = b->lost_batches,
		.lost_execs = b->lost_execs,
		.server = b->server,
		.policy_gen = b->judged_gen,
	};
	if (emit_has_room(how))
		err = bpf_ringbuf_output(&ring, &b->head, sizeof(b->head) + used,
					 emit_wakeup(how & EMIT_WAKE));
	if (err) {
		b->lost_batches++;
		b->lost_execs += b->execs;
		count_add(DBF_COUNT_LOST_BATCHES, 1);
		count_add(DBF_COUNT_LOST_EXECS, b->execs);
	}
	b->execs = 0;
	b->used = 0;
	return err ? 1 : 0;
}

/* Room for one fact of at most @max bytes (a constant, at most FACT_MAX), flushing first when
 * needed. */
static __always_inline void *emit_room(struct backend *b, u32 max)
{
	if (b->used + max > DBF_BATCH_BYTES)
		emit_flush(b, EMIT_LAZY);
	return &b->data[bounded_mask(b->used, DBF_BATCH_BYTES)];
}

/* Fill in the header of the fact written at emit_room() and count it in. */
static __always_inline void emit_commit(struct backend *b, enum dbf_fact_kind kind, u32 len,
					u32 arg, u64 ts)
{
	struct dbf_fact *f = (struct dbf_fact *)&b->data[bounded_mask(b->used, DBF_BATCH_BYTES)];

	f->kind = kind;
	f->len = len;
	f->arg = arg;
	f->ts = ts;
	b->used = bounded_max(b->used + round8(len), DBF_BATCH_BYTES);
}

static __always_inline void emit_arg(struct backend *b, enum dbf_fact_kind kind, u32 arg)
{
	emit_room(b, sizeof(struct dbf_fact));
	emit_commit(b, kind, sizeof(struct dbf_fact), arg, bpf_ktime_get_ns());
}

#endif
