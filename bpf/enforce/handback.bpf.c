/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Kept packets back on their way to the server's socket, changed when their statement was denied.
 *
 * The keeper runs the program (BPF_PROG_TEST_RUN, in the socket's network namespace) once for each piece, so that no
 * process of ours touches the bytes. The frame that the kernel made for the run becomes the packet: it is put into the
 * receive queue of the device by which the first one came. Pieces need no segment sizes. Their checksum is not made: the
 * kernel is told that it was checked, as a device would.
 *
 * When the connection is to end, nothing is handed back: the client gets the FATAL error, with its bytes acknowledged, and
 * a FIN; the server a RST.
 */

/* A piece's headers: lengths and sequence number are its own. */
static __always_inline int handback_headers(struct __sk_buff *skb, struct kept *k, u32 seq, u32 len, u8 flags)
{
	u32 network = KEEP_LINK, be_seq = bpf_htonl(seq);
	u64 n = bounded_mask(k->headers_len - 1, 128) + 1;
	u16 total, old;

	if (bpf_skb_store_bytes(skb, 0, k->link, KEEP_LINK, 0) || bpf_skb_store_bytes(skb, network, k->headers, n, 0) ||
	    bpf_skb_store_bytes(skb, network + k->tcp + 4, &be_seq, sizeof(be_seq), 0) ||
	    bpf_skb_store_bytes(skb, network + k->tcp + 13, &flags, sizeof(flags), 0))
		return -1;
	if (k->v6) {
		total = bpf_htons(n - 40 + len);
		return bpf_skb_store_bytes(skb, network + 4, &total, sizeof(total), 0);
	}
	total = bpf_htons(n + len);
	return bpf_skb_load_bytes(skb, network + 2, &old, sizeof(old)) ||
	       bpf_l3_csum_replace(skb, network + 10, old, total, sizeof(total)) ||
	       bpf_skb_store_bytes(skb, network + 2, &total, sizeof(total), 0);
}

/* The part of the patch that stands in the piece. */
static __always_inline int handback_patch(struct __sk_buff *skb, struct dbf_wire_hold *slot, u32 seq, u32 len, u32 off)
{
	struct rewrite_scratch *r = rewrite_scratch_get();
	s32 first = slot->patch - seq, last = first + slot->patch_len;
	u32 skip = 0;
	u64 n;

	if (!r)
		return -1;
	if (first < 0) {
		skip = -first;
		first = 0;
	}
	if (last > (s32)len)
		last = len;
	if (last <= first)
		return 0;
	n = bounded_mask(last - first - 1, DBF_WIRE_PATCH_BYTES) + 1;
	rewrite_token(r, slot);
	for (u32 i = 0; i < DBF_WIRE_PATCH_BYTES; i++)
		r->new[i] = r->token[(skip + i) & (DBF_WIRE_PATCH_BYTES - 1)];
	__sync_fetch_and_add(&slot->rewrites, 1);
	count_add(DBF_COUNT_WIRE_REWRITES, 1);
	return bpf_skb_store_bytes(skb, off + first, r->new, n, 0);
}

/* From the server, as far as the client can tell. */
GLOBAL_FN int handback_farewell(struct __sk_buff *skb, struct kept *k, struct dbf_wire_hold *slot)
{
	struct rewrite_scratch *r = rewrite_scratch_get();
	struct segment p = {};
	u64 len;

	if (!k || !slot || !r)
		return -1;
	p.tcp = k->tcp;
	p.data = k->headers_len;
	p.v6 = k->v6;
	p.len = k->len;
	p.seq = k->seq;
	if (bpf_skb_load_bytes(skb, KEEP_LINK + p.tcp + 8, &p.ack, sizeof(p.ack)))
		return -1;
	p.ack = bpf_ntohl(p.ack);
	len = bounded_mask(rewrite_error(r, slot) - 1, 128) + 1;
	return rewrite_resize(skb, &p, KEEP_LINK, len, TCP_FIN | TCP_PSH | TCP_ACK) ||
	       rewrite_turn(skb, &p, KEEP_LINK) ||
	       bpf_skb_store_bytes(skb, KEEP_LINK + p.data, r->error, len, 0) ||
	       rewrite_checksum(skb, &p, KEEP_LINK, len, 0) || bpf_clone_redirect(skb, k->ifindex, 0);
}

/* The client first: the slot is free as soon as the server has its RST. */
GLOBAL_FN int handback_kill(struct __sk_buff *skb, u32 index)
{
	struct dbf_wire_hold *slot = gate_slot(index);
	struct kept *k;
	u32 headers;

	if (!slot)
		return -1;
	k = slot->kept ? keep_at(slot->kept - 1) : NULL;
	if (!k || k->owner != keep_owner(slot, index) || slot->rewrites)
		return -1;
	headers = KEEP_LINK + k->headers_len;
	if (bpf_skb_change_tail(skb, headers, 0) || handback_headers(skb, k, k->seq, 0, TCP_ACK) ||
	    handback_farewell(skb, k, slot))
		return -1;
	slot->rewrites = 1;
	count_add(DBF_COUNT_WIRE_KILLS, 1);
	if (bpf_skb_change_tail(skb, headers, 0) || handback_headers(skb, k, k->seq, 0, TCP_RST | TCP_ACK))
		return -1;
	bpf_csum_level(skb, BPF_CSUM_LEVEL_INC);
	return bpf_clone_redirect(skb, k->ifindex, BPF_F_INGRESS) ? -1 : 0;
}

/* How many bytes were handed back, or negative. */
GLOBAL_FN int handback_piece(struct __sk_buff *skb, u32 index, u32 off)
{
	struct dbf_wire_hold *slot = gate_slot(index);
	struct kept *k;
	u32 headers, st;
	u64 n, at;

	if (!slot)
		return -1;
	st = DBF_STATE_OF(slot->state);
	k = slot->kept ? keep_at(slot->kept - 1) : NULL;
	if (!k || k->owner != keep_owner(slot, index) || (st != DBF_WIRE_ALLOW && st != DBF_WIRE_REWRITE) || off >= k->len)
		return -1;
	n = k->len - off < DBF_WIRE_KEPT_PIECE ? k->len - off : DBF_WIRE_KEPT_PIECE;
	n = bounded_mask(n - 1, DBF_WIRE_KEPT_PIECE) + 1;
	at = bounded_mask(off, DBF_WIRE_KEPT_BYTES);
	headers = KEEP_LINK + k->headers_len;
	if (bpf_skb_change_tail(skb, headers + n, 0) || handback_headers(skb, k, k->seq + off, n, TCP_ACK | TCP_PSH) ||
	    bpf_skb_store_bytes(skb, headers, k->data + at, n, 0))
		return -1;
	if (st == DBF_WIRE_REWRITE && handback_patch(skb, slot, k->seq + off, n, headers))
		return -1;
	/* Meanwhile it may have become another's, whose statement is still held. */
	if (*(volatile u64 *)&k->owner != keep_owner(slot, index))
		return -1;
	bpf_csum_level(skb, BPF_CSUM_LEVEL_INC); /* checked */
	skb->mark = cfg_keep_mark;
	return bpf_clone_redirect(skb, k->ifindex, BPF_F_INGRESS) ? -1 : (int)n;
}

SEC("tc")
int wire_handback(struct __sk_buff *skb)
{
	u32 index = skb->cb[DBF_WIRE_KEEP_SLOT], seq = skb->cb[DBF_WIRE_KEEP_SEQ], off = skb->cb[DBF_WIRE_KEEP_OFF];
	struct dbf_wire_hold *slot = gate_slot(index);

	if (!slot || DBF_STATE_SEQ(slot->state) != seq)
		return -1;
	return DBF_STATE_OF(slot->state) == DBF_WIRE_KILL ? handback_kill(skb, index) : handback_piece(skb, index, off);
}
