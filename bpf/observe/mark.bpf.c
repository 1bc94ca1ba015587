/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Of a connection whose statements the server vantage sees: when its requests and responses were on the wire, as marks
 * (abi/wire.h). No message is kept, and none is told.
 *
 * A request is what makes the server say once that it is ready: up to a Query, a Sync or a FunctionCall, or a piece of copy
 * data behind one. Its bytes are walked by the messages' heads alone, and only the first few of a packet: a request is
 * marked when it ends where its packet ends, and was the only one that ended in there. What is not marked, like what a
 * client sends without waiting, has no time and no bytes in the record, rather than another's.
 */

#define MARK_MESSAGES 16 /* of one packet */

static __always_inline void mark_put(u64 conn, u32 dir, u32 seq, u64 ns, u64 info)
{
	u64 name = dbf_wire_mark_name(conn, dir, seq);
	u32 index = dbf_wire_mark_index(name);
	struct dbf_wire_mark *mark = bpf_map_lookup_elem(&wire_marks, &index);

	if (!mark)
		return;
	mark->ns = ns;
	mark->info = info;
	mark->check = name ^ ns ^ info;
}

enum mark_ends { MARK_GOES_ON, MARK_ENDS, MARK_COPY, MARK_BAD };

/* What a client's message does to its request. */
static __always_inline u32 mark_type(u8 type)
{
	switch (type) {
	case 'Q':
	case 'S':
	case 'F': return MARK_ENDS;
	case 'c':
	case 'f':
	case 'd': return MARK_COPY;
	}
	return frame_client_wants(type) & FRAME_BAD ? MARK_BAD : MARK_GOES_ON;
}

struct mark_walk {
	u32 at;
	u32 end;
	u32 ended;  /* where the last request or piece of copy data ended; 0: none did */
	u32 cnt;    /* requests that ended */
	u32 copied; /* copy data ended right before */
};

/* One message, or the rest of one. Not 0: no further. */
GLOBAL_FN int mark_message(struct __sk_buff *skb, struct wire_asked *a, struct mark_walk *w)
{
	u32 left, length, does;
	u8 head[5];

	if (!a || !w)
		return 1;
	left = w->end - w->at;
	if (!a->skip) {
		if (left < sizeof(head) || bpf_skb_load_bytes(skb, w->at, head, sizeof(head)))
			return 1;
		length = (u32)head[1] << 24 | (u32)head[2] << 16 | (u32)head[3] << 8 | head[4];
		if (mark_type(head[0]) == MARK_BAD || length < 4 || length > FRAME_LENGTH_MAX)
			return 1;
		a->type = head[0];
		a->skip = length + 1;
	}
	left = left < a->skip ? left : a->skip;
	a->skip -= left;
	w->at += left;
	if (a->skip)
		return 0;
	does = mark_type(a->type);
	w->cnt += does == MARK_ENDS;
	if (w->copied && a->type != 'S') /* what is behind copy data does not belong to it, but for a Sync */
		w->cnt = MARK_MESSAGES;
	w->copied = a->type == 'c' || a->type == 'f';
	a->copy |= does == MARK_COPY;
	if (does == MARK_ENDS || w->copied)
		w->ended = w->at;
	return 0;
}

/* A client's packet. On a server's socket packets may be looked at side by side: then what is marked fits nothing. */
GLOBAL_FN int mark_request(struct __sk_buff *skb, struct wire_sock *ws, struct segment *p, u64 now)
{
	struct mark_walk w = {};
	struct wire_asked *a;

	if (!ws || !p)
		return 0;
	a = &ws->asked;
	if (a->known && (s32)(p->seq + p->len - a->next) <= 0)
		return 0; /* sent again */
	if (!a->known || (s32)(p->seq - a->next) > 0)
		*a = (struct wire_asked){ .begin = p->seq, .next = p->seq };
	if (a->begin == a->next)
		a->ns = now;
	w.at = p->data + (a->next - p->seq);
	w.end = p->data + p->len;
	a->next = p->seq + p->len;
	a->known = 0;
	for (u32 i = 0; i < MARK_MESSAGES && w.at < w.end; i++)
		if (mark_message(skb, a, &w))
			return 0;
	if (w.at != w.end)
		return 0;
	a->known = 1;
	if (!w.ended)
		return 0;
	if (w.ended == w.end && w.cnt <= 1)
		mark_put(ws->conn, DBF_WIRE_CLIENT, a->next, a->ns, a->begin | (a->copy ? DBF_WIRE_MARK_COPY : 0));
	a->begin = p->seq + (w.ended - p->data);
	a->ns = now;
	a->copy = 0;
	return 0;
}

/* What an end sends, and was not seen before. */
static __always_inline void mark_sent(struct __sk_buff *skb, struct wire_sock *ws, struct segment *p, u64 now)
{
	if (ws->end == DBF_WIRE_CLIENT)
		mark_request(skb, ws, p, now);
	else
		mark_put(ws->conn, DBF_WIRE_SERVER, p->seq + p->len, now, 0);
}
