/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rank 3. Copies of packets that were refused at a server's socket, in the kernel: no process of ours reads them.
 *
 * A copy is the headers of the first packet and the bytes behind one another from the first held one on, as many as there
 * is room for. What is missing the client sends again.
 */
#ifndef DBF_KEEP_BPF_H
#define DBF_KEEP_BPF_H

#include "dbfence/abi/wire_hold.h"
#include "lib/maps.bpf.h"
#include "lib/segment.bpf.h"

#define KEEP_LINK 14
#define KEEP_HEADERS 120 /* IPv4 with all options and TCP with all of them */
#define KEEP_PIECE 4096

/* In skb->mark of what is handed back. Whoever could mark packets with it could pass what is refused. */
const volatile unsigned int cfg_keep_mark;

struct kept {
	u64 owner; /* sequence << 32 | index + 1 of the hold that it is for; 0: free */
	u32 seq;   /* of the first byte */
	u32 len;
	u32 tcp;     /* offset of the TCP header in ->headers, and of their end */
	u32 headers_len;
	u32 v6;
	u32 ifindex;
	u8 link[16];
	u8 headers[128];
	u8 data[DBF_WIRE_KEPT_BYTES + DBF_WIRE_KEPT_PIECE];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, DBF_WIRE_HOLD_SLOTS);
	__type(key, u32);
	__type(value, struct dbf_wire_hold);
} wire_holds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DBF_WIRE_KEPT);
	__type(key, u32);
	__type(value, struct kept);
} wire_kept SEC(".maps");

static __always_inline struct dbf_wire_hold *gate_slot(u32 index)
{
	return bpf_map_lookup_elem(&wire_holds, &index);
}

/* Sequence numbers wrap. */
static __always_inline bool gate_before(u32 a, u32 b)
{
	return (s32)(a - b) < 0;
}

static __always_inline struct kept *keep_at(u32 index)
{
	return bpf_map_lookup_elem(&wire_kept, &index);
}

static __always_inline bool keep_is_ours(struct __sk_buff *skb)
{
	return cfg_keep_mark && skb->mark == cfg_keep_mark;
}

/* A byte at @seq, or before, is kept. */
static __always_inline bool keep_has(const struct dbf_wire_hold *slot, u32 seq)
{
	const struct kept *k = slot->kept ? keep_at(slot->kept - 1) : NULL;

	return k && gate_before(seq, k->seq + k->len);
}

static __always_inline void keep_free(struct dbf_wire_hold *slot)
{
	struct kept *k = slot->kept ? keep_at(slot->kept - 1) : NULL;

	slot->kept = 0;
	if (k)
		k->owner = 0;
}

struct keep_claim {
	u64 owner;
	u32 found; /* index + 1 */
	u32 pad;
};

static long keep_claim_step(u32 i, struct keep_claim *c)
{
	struct kept *k = keep_at(i);

	if (!k)
		return 1;
	if (k->owner || __sync_val_compare_and_swap(&k->owner, 0, c->owner))
		return 0;
	c->found = i + 1;
	return 1;
}

/* The first packet's headers. False: they cannot be kept. */
static __always_inline bool keep_headers(struct __sk_buff *skb, struct kept *k, u32 off)
{
	struct segment s = {};
	u64 n;

	if (segment_parse(skb, &s, 0) != SEGMENT_TCP || s.data != off || off > KEEP_HEADERS)
		return false;
	n = bounded_mask(off - 1, 128) + 1;
	k->tcp = s.tcp;
	k->headers_len = n;
	k->v6 = s.v6;
	k->ifindex = skb->ifindex;
	k->len = 0;
	__builtin_memset(k->link, 0, sizeof(k->link));
	/* Where there is no link layer, none is made. */
	bpf_skb_load_bytes_relative(skb, 0, k->link, KEEP_LINK, BPF_HDR_START_MAC);
	return !segment_load(skb, 0, k->headers, n);
}

static __always_inline u64 keep_owner(struct dbf_wire_hold *slot, u32 index)
{
	return DBF_STATE(DBF_STATE_SEQ(slot->state), index + 1);
}

static __always_inline struct kept *keep_claim(struct __sk_buff *skb, struct dbf_wire_hold *slot, u32 index, u32 seq,
					       u32 off)
{
	struct keep_claim c = { .owner = keep_owner(slot, index) };
	struct kept *k;

	bpf_loop(DBF_WIRE_KEPT, keep_claim_step, &c, 0);
	k = c.found ? keep_at(c.found - 1) : NULL;
	if (!k)
		return NULL;
	if (!keep_headers(skb, k, off)) {
		k->owner = 0;
		return NULL;
	}
	k->seq = seq;
	slot->kept = c.found;
	return k;
}

struct keep_copy {
	struct __sk_buff *skb;
	struct kept *k;
	u32 off;
	u32 left;
};

static long keep_copy_step(u32 i, struct keep_copy *c)
{
	u64 at = bounded_mask(c->k->len, DBF_WIRE_KEPT_BYTES), n;

	if (!c->left || c->k->len >= DBF_WIRE_KEPT_BYTES)
		return 1;
	n = c->left < KEEP_PIECE ? c->left : KEEP_PIECE;
	n = bounded_mask(n - 1, KEEP_PIECE) + 1;
	if (bpf_skb_load_bytes(c->skb, c->off, c->k->data + at, n))
		return 1;
	c->off += n;
	c->left -= n;
	c->k->len += n;
	return 0;
}

/* A packet of a held message, if it is the first, or follows what is kept. 1 when all that it has of the message is kept. */
GLOBAL_FN int keep_packet(struct __sk_buff *skb, u32 index, u32 seq, u32 len, u32 off)
{
	struct dbf_wire_hold *slot = gate_slot(index);
	struct keep_copy c = { .skb = skb, .off = off, .left = len };
	u32 next;

	if (!slot)
		return 0;
	if (!slot->kept && gate_before(slot->from, seq))
		return 0;
	c.k = slot->kept ? keep_at(slot->kept - 1) : keep_claim(skb, slot, index, seq, off);
	if (!c.k) {
		count_add(DBF_COUNT_WIRE_NOT_KEPT, 1);
		return 0;
	}
	next = c.k->seq + c.k->len;
	/* What is missing of the message itself TCP has already, as it was judged. */
	if (gate_before(next, seq) || (c.k->len && gate_before(next, slot->end)))
		return 0;
	if (gate_before(next, seq + len)) {
		c.off += next - seq;
		c.left -= next - seq;
		bpf_loop(DBF_WIRE_KEPT_BYTES / KEEP_PIECE + 1, keep_copy_step, &c, 0);
	}
	next = gate_before(slot->end, seq + len) ? slot->end : seq + len;
	return !gate_before(c.k->seq + c.k->len, next);
}

#endif
