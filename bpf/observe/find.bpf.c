/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which sockets are followed on the wire, and how their connection is named.
 *
 * Both ends must find out of each other. They know the same two initial sequence numbers, whatever rewrote the
 * addresses between them: these name the connection, and the end that comes first leaves its mark under that name.
 * What was there before the programs has no known beginning; it is named by its addresses.
 */

/* Does a client's first packet say that it speaks PostgreSQL? What is too short to tell does not say no. */
static __always_inline bool wire_is_start(struct __sk_buff *skb, const struct segment *p)
{
	u8 b[9] = {};
	u32 len = p->len, code;

	if (len < 8) {
		bpf_skb_load_bytes(skb, p->data, b, 1);
		return !b[0]; /* the length's first byte */
	}
	if (bpf_skb_load_bytes(skb, p->data, b, 8) || b[0] || b[1])
		return false;
	code = (u32)b[4] << 24 | b[5] << 16 | b[6] << 8 | b[7];
	if (code >= FRAME_CANCEL && code <= FRAME_GSS)
		return true;
	if (code >> 16 != FRAME_PROTOCOL_MAJOR)
		return false;
	/* The name of a parameter follows, in any alphabet. Other protocols have a small number there. */
	return len == 8 || (!bpf_skb_load_bytes(skb, p->data + 8, b + 8, 1) && b[8]);
}

static __always_inline u64 wire_mix(u64 h, u64 v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ULL;
	return h ^ h >> 29;
}

static __always_inline u64 wire_tuple_name(const struct dbf_tcp_key *key)
{
	const u64 *words = (const u64 *)key;
	u64 h = 1;

	for (u32 i = 0; i < sizeof(*key) / sizeof(u64); i++)
		h = wire_mix(h, words[i]);
	return h;
}

/* What TCP has done so far. */
struct wire_tcp {
	u32 snd_una, snd_nxt, rcv_nxt;
	u32 unsent;   /* no byte was acknowledged */
	u32 unspoken; /* no byte was received */
};

/* Fields are loaded before they are chosen from: the verifier knows no offset into a socket that was computed. */
static __always_inline void wire_tcp_read(struct wire_tcp *t, struct bpf_tcp_sock *tp)
{
	u32 una = tp->snd_una, nxt = tp->snd_nxt, rcv = tp->rcv_nxt;

	bounded_pin(una);
	bounded_pin(nxt);
	bounded_pin(rcv);
	t->snd_una = una;
	t->snd_nxt = nxt;
	t->rcv_nxt = rcv;
	t->unsent = tp->bytes_acked <= 1; /* the SYN may count */
	t->unspoken = !tp->bytes_received;
}

/* What is known of a socket when its first packet of interest comes. */
struct wire_new {
	u32 egress;
	u32 end;
	u32 fresh; /* it began under our eyes: nothing was said before */
	u64 conn;
};

/*
 * Is this packet's connection one to follow? A client's first bytes tell, or a port where a database is known to listen;
 * what was said before on other ports cannot be told from anything else.
 */
static __always_inline bool wire_wanted(struct __sk_buff *skb, struct bpf_sock *sk, const struct wire_tcp *t,
					struct segment *p, struct wire_new *n)
{
	bool known_client, known_server;

	known_client = wire_port_is(DBF_PORTS_KNOWN, bpf_ntohs(sk->dst_port));
	known_server = wire_port_is(DBF_PORTS_KNOWN, sk->src_port);
	n->fresh = t->unspoken && t->unsent;
	if (!n->fresh && !known_client && !known_server)
		return false;
	if (segment_parse(skb, p, 0) != SEGMENT_TCP || !p->len || p->flags & TCP_SYN)
		return false;
	if (!known_client && !known_server &&
	    (p->seq != (n->egress ? t->snd_una : t->rcv_nxt) || !wire_is_start(skb, p)))
		return false;
	/* The client speaks first, whatever ports it chose. */
	if (n->fresh)
		n->end = n->egress ? DBF_WIRE_CLIENT : DBF_WIRE_SERVER;
	else
		n->end = known_client ? DBF_WIRE_CLIENT : DBF_WIRE_SERVER;
	n->conn = n->end == DBF_WIRE_CLIENT ? (u64)t->snd_una << 32 | t->rcv_nxt : (u64)t->rcv_nxt << 32 | t->snd_una;
	return true;
}

static __always_inline void wire_stream_begin(struct frame_stream *s, u32 dir, u32 next, bool fresh)
{
	s->dir = dir;
	s->next = next;
	s->phase = fresh ? FRAME_START : FRAME_LOST;
}

static __always_inline struct wire_sock *wire_create(struct bpf_sock *sk, const struct wire_tcp *t, const struct segment *p,
						     struct wire_new *n)
{
	struct sock *ksk = (struct sock *)bpf_skc_to_tcp_sock(sk);
	struct dbf_tcp_key key = {};
	struct dbf_config *cfg;
	struct wire_sock *ws;
	u64 *named;

	if (!ksk)
		return NULL;
	tcp_key(&key, ksk, n->end == DBF_WIRE_CLIENT);
	if (n->fresh) {
		bpf_map_update_elem(&wire_names, &key, &n->conn, BPF_ANY);
	} else {
		named = bpf_map_lookup_elem(&wire_names, &key);
		n->conn = named ? *named : wire_tuple_name(&key);
	}
	ws = bpf_sk_storage_get(&wire_socks, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!ws) {
		count_add(DBF_COUNT_WIRE_NO_ROOM, 1);
		return NULL;
	}
	ws->conn = n->conn;
	ws->end = n->end;
	ws->joined = !n->fresh;
	ws->server_port = key.server_port;
	cfg = config_get();
	if (n->fresh && cfg)
		ws->vouched = cfg->policy_gen;
	wire_stream_begin(&ws->out, n->end, p && n->egress && !n->fresh ? p->seq : t->snd_nxt, n->fresh);
	if (n->egress && n->fresh)
		ws->out.next = t->snd_una;
	wire_stream_begin(&ws->in, !n->end, t->rcv_nxt, n->fresh);
	wire_mark_end(ws->conn, ws->end);
	count_add(DBF_COUNT_WIRE_CONNS, 1);
	return ws;
}
