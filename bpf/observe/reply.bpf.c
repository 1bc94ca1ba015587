/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the client is told, read from secure_write(Port *, void *ptr, size_t len): plain text under
 * TLS too.
 *
 * The backend's message stream is followed exactly, message by message, across calls: a header or a
 * message may be split at the end of the server's buffer. Messages with meaning are copied up to
 * DBF_MESSAGE_BYTES; rows and COPY data are counted. ReadyForQuery ends the cycle and sends the
 * batch.
 */

#define MESSAGE_HEAD 5 /* type and length */

struct walk {
	struct backend *b;
	u64 at;
	u64 end;
	u64 window; /* address of what b->window holds; 0: it holds nothing */
};

/* C complete, E error, Z ready, I empty, s suspended, 1 2 3 parse/bind/close done, R
 * authentication, S parameter, G H W copy, V function result, n no data */
static __always_inline bool reply_kept(u8 type)
{
	switch (type) {
	case 'C':
	case 'E':
	case 'Z':
	case 'I':
	case 's':
	case '1':
	case '2':
	case '3':
	case 'R':
	case 'S':
	case 'G':
	case 'H':
	case 'W':
	case 'V': return true;
	}
	return false;
}

/*
 * How far the connection was read and will be written, where the wire may have left marks. That the socket is the session's
 * own is settled when it is found; afterwards these are two reads of memory that nobody else writes.
 */
static __always_inline void reply_position(struct backend *b, struct dbf_tcp_at *at)
{
	struct tcp_sock *tp = (struct tcp_sock *)b->sock;

	if (!tp)
		return;
	at->read = BPF_CORE_READ(tp, copied_seq);
	at->written = BPF_CORE_READ(tp, write_seq) + (u32)(b->write_end - b->write_start);
}

static __always_inline void reply_put(struct walk *w, u32 kind, u8 type, u32 length, u64 at,
				      u64 avail)
{
	struct backend *b = w->b;
	u32 head_len = kind == DBF_FACT_REPLY ? sizeof(struct dbf_reply) : 0;
	u8 *to = emit_room(b,
			   sizeof(struct dbf_fact) + sizeof(struct dbf_reply) + DBF_MESSAGE_BYTES);
	u64 n = bounded_max(avail, DBF_MESSAGE_BYTES);
	u32 other = 0;

	if (kind == DBF_FACT_REPLY) {
		struct dbf_reply *r = (struct dbf_reply *)(to + sizeof(struct dbf_fact));

		r->type = type;
		r->length = length;
		r->captured = n;
		r->rows = b->rows;
		r->row_bytes = b->row_bytes;
		other = b->other_bytes;
		b->rows = 0;
		b->row_bytes = 0;
		b->other_bytes = 0;
		if (type == 'Z')
			reply_position(b, (struct dbf_tcp_at *)&r->row_bytes);
	}
	to += sizeof(struct dbf_fact) + head_len;
	if (w->window &&
	    n <= 16) { /* most are that short; room and window both have some behind their end */
		u64 off = bounded_mask(at - w->window, WINDOW_BYTES);

		*(u64 *)to = *(u64 *)&b->window[off];
		*(u64 *)(to + 8) = *(u64 *)&b->window[off + 8];
	} else {
		bpf_probe_read_user(to, n, (void *)at);
	}
	emit_commit(b, kind, sizeof(struct dbf_fact) + head_len + n, other, bpf_ktime_get_ns());
}

/* The socket of a session over TCP, once it is known. */
GLOBAL_FN int reply_find_socket(struct backend *b, struct dbf_server *srv, u64 port)
{
	struct sock *sk;
	u16 family;

	if (!b || !srv)
		return 0;
	b->sock_known = 1;
	sk = task_sock(bpf_get_current_task_btf(), task_user_u32(port + srv->port_sock));
	family = sk ? BPF_CORE_READ(sk, __sk_common.skc_family) : 0;
	if ((family == AF_INET || family == AF_INET6) && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_TCP)
		b->sock = (u64)sk;
	return 0;
}

static __always_inline void reply_message(struct walk *w)
{
	struct backend *b = w->b;
	u8 type = b->carry[0];
	u32 length = ((u32)b->carry[1] << 24 | (u32)b->carry[2] << 16 | (u32)b->carry[3] << 8 |
		      b->carry[4]);
	u64 here;

	b->carry_len = 0;
	length = length >= 4 ? length - 4 : 0;
	here = w->end - w->at < length ? w->end - w->at : length;
	b->skip = length - here;
	b->skip_kept = 0;
	if (type == 'D' || type == 'd') {
		b->rows++;
		b->row_bytes += length;
	} else if (reply_kept(type)) {
		if (type == 'E')
			b->failed = 1;
		if (type == 'Z') /* what ran inside belongs before the end of the cycle */
			stmt_end_folds(b);
		reply_put(w, DBF_FACT_REPLY, type, length, w->at, here);
		if (b->skip && here < DBF_MESSAGE_BYTES)
			b->skip_kept = DBF_MESSAGE_BYTES - here;
		if (type == 'Z')
			b->ready = 1;
	} else {
		b->other_bytes += MESSAGE_HEAD + length;
	}
	w->at += here;
}

static long reply_step(u32 i, struct walk *w)
{
	struct backend *b = w->b;
	u64 left = w->end - w->at;
	u32 have = b->carry_len & 7;

	if (w->at >= w->end)
		return 1;
	if (b->skip) {
		u64 n = left < b->skip ? left : b->skip;

		if (b->skip_kept) {
			reply_put(w, DBF_FACT_REPLY_MORE, 0, 0, w->at,
				  n < b->skip_kept ? n : b->skip_kept);
			b->skip_kept -= n < b->skip_kept ? n : b->skip_kept;
		}
		b->skip -= n;
		w->at += n;
		return 0;
	}
	if (!have && left >= 5) {
		if (w->window) {
			u64 off = bounded_mask(w->at - w->window, WINDOW_BYTES);

			*(u64 *)b->carry = *(u64 *)&b->window[off];
		} else if (bpf_probe_read_user(b->carry, 5, (void *)w->at)) {
			goto lost;
		}
		w->at += 5;
		reply_message(w);
		return 0;
	}
	if (bpf_probe_read_user(&b->carry[have], 1, (void *)w->at))
		goto lost;
	b->carry_len = have + 1;
	w->at++;
	if (b->carry_len >= 5)
		reply_message(w);
	return 0;
lost:
	count_add(DBF_COUNT_FRAME_LOST, 1);
	b->carry_len = 0;
	b->skip = 0;
	w->at = w->end;
	return 1;
}

static __always_inline void reply_cycle_end(struct backend *b)
{
	/* The first time it is authenticated: its statements will wait for what user space knows of it. */
	emit_flush(b, b->kind != DBF_SESSION_CLIENT || !b->cycle ? EMIT_WAKE : EMIT_LAZY);
	b->cycle++;
	b->nested_denials = 0;
	b->denial_open = 0;
	b->failed = 0;
	b->ready = 0;
	b->depth = 0;
	b->top_id = 0;
	b->ddl_text = 0;
	b->parse_ptr = 0;
	b->parse_executed = 0;
	b->nested_parse_ptr = 0;
	b->execute_ptr = 0;
}

/* From 17 on this way goes the answer to a request for encryption too: one byte, before it is known who asks. */
static __always_inline bool reply_is_negotiation(struct pt_regs *ctx, u64 port, u64 len)
{
	struct dbf_server *srv;

	if (len != 1)
		return false;
	srv = task_server(COOKIE_SERVER(bpf_get_attach_cookie(ctx)));
	return srv && !task_user_u64(port + srv->port_database);
}

SEC("uprobe")
int BPF_KPROBE(secure_write, u64 port, u64 ptr, u64 len)
{
	struct dbf_server *srv;
	struct backend *b = reply_is_negotiation(ctx, port, len) ? NULL : task_backend(ctx, &srv, true);
	struct walk w;

	if (!b)
		return 0;
	hold_settle(b);
	/* A partial write is followed by one of the rest, which was walked already. */
	if (ptr > b->write_start && ptr + len == b->write_end) {
		b->write_start = ptr;
		return 0;
	}
	b->write_start = ptr;
	b->write_end = ptr + len;
	if (cfg_wire_vantage && !b->sock_known)
		reply_find_socket(b, srv, port);
	w = (struct walk){ .b = b, .at = ptr, .end = ptr + len };
	if (len && len <= WINDOW_BYTES &&
	    !bpf_probe_read_user(b->window, bounded_max(len, WINDOW_BYTES), (void *)ptr))
		w.window = ptr;
	bpf_loop(1 << 20, reply_step, &w, 0);
	if (w.at < w.end)
		count_add(DBF_COUNT_FRAME_LOST, 1);
	if (b->ready)
		reply_cycle_end(b);
	return 0;
}
