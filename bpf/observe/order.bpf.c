/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Segments from elsewhere, in the order in which they belong: those that come before their turn are kept, in pieces,
 * until what is between has come. A socket's queue is made when it is needed first, and holds no more than a window of
 * small segments; what finds no room in it is a gap.
 */

#define DRAIN_STEPS 65536 /* messages judged in what was kept: more than it holds */

/* A slot that is free; WIRE_QUEUE when there is none. */
GLOBAL_FN int order_find_free(struct wire_queue *q)
{
	for (u32 i = 0; q && i < WIRE_QUEUE; i++)
		if (!q->slots[i].len)
			return i;
	return WIRE_QUEUE;
}

/* One whose turn has come: @next, or what is before it, stands in it. WIRE_QUEUE when there is none. */
GLOBAL_FN int order_find_due(struct wire_queue *q, u32 next)
{
	for (u32 i = 0; q && i < WIRE_QUEUE; i++)
		if (q->slots[i].len && (s32)(q->slots[i].seq - next) <= 0)
			return i;
	return WIRE_QUEUE;
}

static __always_inline struct wire_queue *order_queue(struct wire_sock *ws)
{
	u64 conn = ws->conn;

	return ws->kept ? bpf_map_lookup_elem(&wire_queues, &conn) : NULL;
}

/* NULL without memory. */
static __always_inline struct wire_queue *order_queue_make(struct wire_sock *ws)
{
	static const struct wire_queue none;
	u64 conn = ws->conn;
	struct wire_queue *q = bpf_map_lookup_elem(&wire_queues, &conn);

	if (q)
		return q;
	bpf_map_update_elem(&wire_queues, &conn, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&wire_queues, &conn);
}

/* Some bytes from @seq to @end are kept already. */
GLOBAL_FN int order_overlaps(struct wire_queue *q, u32 seq, u32 end)
{
	for (u32 i = 0; q && i < WIRE_QUEUE; i++)
		if (q->slots[i].len && (s32)(q->slots[i].seq - end) < 0 && (s32)(seq - q->slots[i].seq - q->slots[i].len) < 0)
			return 1;
	return 0;
}

struct order_keeping {
	struct __sk_buff *skb;
	struct wire_sock *ws;
	struct wire_queue *q;
	struct frame_rec *rec;
	u32 seq;
	u32 off;
	u32 end;
	u32 failed;
};

/* One piece of a segment. */
static long order_keep_step(u32 i, struct order_keeping *k)
{
	struct wire_chunk_key key = { .conn = k->ws->conn };
	u32 n = k->end - k->off, at;

	if (k->off >= k->end)
		return 1;
	n = n < FRAME_KEPT ? n : FRAME_KEPT;
	k->failed = 1;
	at = order_find_free(k->q);
	if (at >= WIRE_QUEUE)
		return 1;
	key.serial = k->ws->serial++;
	if (bpf_skb_load_bytes(k->skb, k->off, k->rec->data, bounded_some(n, FRAME_KEPT)) ||
	    bpf_map_update_elem(&wire_chunks, &key, k->rec->data, BPF_ANY))
		return 1;
	k->failed = 0;
	k->q->slots[bounded_mask(at, WIRE_QUEUE)] = (struct wire_slot){ .seq = k->seq, .len = n, .serial = key.serial };
	k->seq += n;
	k->off += n;
	return 0;
}

struct order_forgetting {
	struct wire_queue *q;
	u64 conn;
	u32 first; /* of pieces kept from here on, unless all */
	u32 all;
};

static long order_forget_step(u32 i, struct order_forgetting *f)
{
	struct wire_slot *slot = &f->q->slots[bounded_mask(i, WIRE_QUEUE)];
	struct wire_chunk_key key = { .conn = f->conn, .serial = slot->serial };

	if (!slot->len || (!f->all && (s32)(slot->serial - f->first) < 0))
		return 0;
	bpf_map_delete_elem(&wire_chunks, &key);
	slot->len = 0;
	return 0;
}

/* Keep a segment, whole or not at all. False when there is no room for it. */
GLOBAL_FN int order_keep(struct __sk_buff *skb, struct wire_sock *ws, struct segment *p)
{
	struct order_keeping k = { .skb = skb, .ws = ws };
	struct order_forgetting f = {};

	if (!ws || !p)
		return 0;
	k.q = order_queue_make(ws);
	k.rec = k.q ? wire_rec_take() : NULL;
	if (!k.rec)
		return 0;
	ws->kept = 1;
	k.seq = p->seq;
	k.off = p->data;
	k.end = p->data + p->len;
	f.q = k.q;
	f.conn = ws->conn;
	f.first = ws->serial;
	bpf_loop(WIRE_QUEUE + 1, order_keep_step, &k, 0);
	k.rec->busy = 0;
	if (k.failed)
		bpf_loop(WIRE_QUEUE, order_forget_step, &f, 0);
	count_add(DBF_COUNT_WIRE_REORDERED, 1);
	return !k.failed;
}

struct order_draining {
	struct __sk_buff *skb;
	struct wire_sock *ws;
	struct wire_queue *q;
	struct frame_rec *rec;
	u32 answer;
	u32 pad;
};

/* Whatever was kept and is next now. A piece stays until all messages in it were judged. */
static long order_drain_step(u32 i, struct order_draining *d)
{
	u32 at = order_find_due(d->q, d->ws->in.next);
	struct wire_chunk_key key = { .conn = d->ws->conn };
	struct frame_span which = {};
	struct frame_kept *chunk;
	struct wire_slot *slot;

	if (at >= WIRE_QUEUE)
		return 1;
	slot = &d->q->slots[bounded_mask(at, WIRE_QUEUE)];
	key.serial = slot->serial;
	which.at = d->ws->in.next - slot->seq;
	which.end = slot->len;
	d->rec->stop = 0;
	chunk = bpf_map_lookup_elem(&wire_chunks, &key);
	if (chunk && which.at < which.end)
		frame_feed_kept(d->skb, &d->ws->in, d->rec, chunk, &which);
	if (d->rec->stop)
		d->answer = wire_judge(d->skb, d->ws, d->rec);
	if (d->rec->stop && (s32)(d->ws->in.next - slot->seq - which.end) < 0)
		return d->answer != GATE_PASS;
	slot->len = 0;
	if (chunk)
		bpf_map_delete_elem(&wire_chunks, &key);
	return d->answer != GATE_PASS;
}

/* enum gate_answer for the packet that filled the hole in front of it. */
GLOBAL_FN int order_drain(struct __sk_buff *skb, struct wire_sock *ws, struct frame_rec *rec, u32 judged)
{
	struct order_draining d = { .skb = skb, .ws = ws, .rec = rec };

	if (!ws || !rec)
		return GATE_PASS;
	d.q = order_queue(ws);
	if (!d.q)
		return GATE_PASS;
	rec->judging = judged;
	bpf_loop(DRAIN_STEPS, order_drain_step, &d, 0);
	rec->judging = 0;
	return d.answer;
}

/* Nothing that was kept will be needed: the socket is gone, or its order is lost. */
GLOBAL_FN int order_forget(struct wire_sock *ws)
{
	struct order_forgetting f = { .all = 1 };
	u64 conn;

	if (!ws)
		return 0;
	conn = f.conn = ws->conn;
	f.q = order_queue(ws);
	if (f.q)
		bpf_loop(WIRE_QUEUE, order_forget_step, &f, 0);
	if (ws->kept)
		bpf_map_delete_elem(&wire_queues, &conn);
	ws->kept = 0;
	return 0;
}

/* TCP has bytes that we have not, nor kept: they passed where we do not look. */
static __always_inline bool order_missed(struct wire_sock *ws, u32 taken)
{
	return (s32)(taken - ws->in.next) > 0 && order_find_due(order_queue(ws), ws->in.next) == WIRE_QUEUE;
}

/*
 * The bytes that complete the handshake reach the listening socket: where the last acknowledgement was lost, and always
 * where the listener waits for data (TCP_DEFER_ACCEPT). They are kept for the socket that is made of them.
 */
static __always_inline bool order_first_key(struct __sk_buff *skb, const struct segment *p, struct dbf_tcp_key *key)
{
	u8 ports[4];

	if (segment_load(skb, p->tcp, ports, sizeof(ports)))
		return false;
	key->client_port = (u16)ports[0] << 8 | ports[1];
	key->server_port = (u16)ports[2] << 8 | ports[3];
	if (p->v6)
		return !segment_load(skb, 8, key->client_addr, 16) && !segment_load(skb, 24, key->server_addr, 16);
	key->client_addr[10] = key->client_addr[11] = key->server_addr[10] = key->server_addr[11] = 0xff;
	return !segment_load(skb, 12, key->client_addr + 12, 4) && !segment_load(skb, 16, key->server_addr + 12, 4);
}

/* Nobody judges what comes with the handshake's last packet, so it must be a client's whose packets are judged where they leave. */
GLOBAL_FN int order_first_is_strange(struct __sk_buff *skb, struct segment *p)
{
	struct dbf_tcp_key key = {};
	u64 *named;

	if (!p || !order_first_key(skb, p, &key))
		return 1;
	if (task_is_loopback(key.server_addr))
		return 0;
	named = bpf_map_lookup_elem(&wire_names, &key);
	return !named || *named != ((u64)p->seq << 32 | p->ack);
}

GLOBAL_FN int order_keep_first(struct __sk_buff *skb, struct segment *p)
{
	struct dbf_tcp_key key = {};
	struct wire_first *first;
	struct frame_rec *rec;
	u32 n;

	if (!p || !p->len || !order_first_key(skb, p, &key))
		return 0;
	rec = wire_rec_take();
	if (!rec)
		return 0;
	first = (struct wire_first *)rec->data;
	n = p->len < FRAME_KEPT ? p->len : FRAME_KEPT;
	first->seq = p->seq;
	first->ack = p->ack;
	first->len = n;
	if (!bpf_skb_load_bytes(skb, p->data, first->kept.bytes, bounded_some(n, FRAME_KEPT)))
		bpf_map_update_elem(&wire_firsts, &key, first, BPF_ANY);
	rec->busy = 0;
	return 0;
}
