/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The wire: every packet of every TCP socket passes here; those of a PostgreSQL connection are followed.
 *
 * A direction is followed where its bytes are in order: at the egress of the socket that sends them, which sees each
 * byte first in its turn and again when it is sent again. Only when the sender is not on this node is its direction
 * followed at our socket's ingress, where segments come in any order: one that comes before its turn is kept until
 * those before it have come.
 *
 *     client's socket      server's socket        followed at
 *     here                 here                   client's egress, server's egress
 *     here                 elsewhere              client's egress, client's ingress
 *     elsewhere            here                   server's ingress, server's egress
 *
 * Both ends must find out of each other. They know the same two initial sequence numbers, whatever rewrote the
 * addresses between them: these name the connection, and the end that comes first leaves its mark under that name.
 * What was there before the programs has no known beginning; it is named by its addresses.
 */

#define WIRE_OFO 32
#define WIRE_LOCK_SPINS 16384
#define WIRE_RECS 4
#define WIRE_ASKS 64 /* how often a client's end looks whether the server vantage sees the same */

#define IPV6_HOP 0
#define IPV6_ROUTING 43
#define IPV6_DESTINATION 60

enum wire_peer { WIRE_PEER_UNKNOWN, WIRE_PEER_HERE, WIRE_PEER_AWAY };

/* The vantages that are wanted. */
const volatile bool cfg_server_vantage = true;
const volatile unsigned int cfg_wire_text = 1 << 20;

struct wire_ofo { /* of a segment that came before its turn */
	u32 seq;
	u32 len;    /* 0: free */
	u32 serial; /* in wire_chunks */
};

struct wire_sock { /* one end of a connection */
	u64 conn;
	u64 start; /* of the process told last */
	u32 pid;
	u32 uid;
	u32 epoch; /* of the reader that was told of it */
	u8 end;	   /* enum dbf_wire_dir */
	u8 peer;   /* enum wire_peer */
	u8 joined;
	u8 covered; /* the server vantage sees its statements */
	u32 asks;
	u32 lock; /* of ->in: packets come on any CPU */
	u32 serial;
	u32 last_taken; /* what TCP had taken of ->in at the last packet */
	struct frame_stream out, in;
	struct wire_ofo ofo[WIRE_OFO];
};

struct wire_ends { /* what the ends of a connection tell each other */
	u32 ends; /* 1 << enum dbf_wire_dir */
	u32 covered;
};

struct wire_chunk_key {
	u64 conn;
	u32 serial;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct wire_sock);
} wire_socks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct wire_ends);
} wire_ends SEC(".maps");

struct { /* the names of connections that began under our eyes, for an end that did not see it */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct dbf_tcp_key);
	__type(value, u64);
} wire_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct wire_chunk_key);
	__type(value, struct frame_kept);
} wire_chunks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct dbf_ports);
} wire_ports SEC(".maps");

struct { /* a program may be interrupted by another on its CPU */
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WIRE_RECS);
	__type(key, u32);
	__type(value, struct frame_rec);
} wire_recs SEC(".maps");

struct packet {
	u32 seq;
	u32 off; /* of its payload */
	u32 end;
	u32 egress;
};

/* Behind the extension headers of an IPv6 packet; 0 when they are not followed. */
static __always_inline u32 packet_tcp6(struct __sk_buff *skb, u8 next)
{
	u32 off = 40;
	u8 head[2];

	for (int i = 0; i < 4; i++) {
		if (next == IPPROTO_TCP)
			return off;
		if (next != IPV6_HOP && next != IPV6_ROUTING && next != IPV6_DESTINATION)
			return 0;
		if (bpf_skb_load_bytes(skb, off, head, sizeof(head)))
			return 0;
		next = head[0];
		off += 8 + head[1] * 8;
	}
	return 0;
}

static __always_inline bool packet_parse(struct __sk_buff *skb, struct packet *p)
{
	u8 ip[20], tcp[16];
	u32 off;

	if (bpf_skb_load_bytes(skb, 0, ip, sizeof(ip)))
		return false;
	if (ip[0] >> 4 == 4)
		off = (ip[0] & 15) * 4;
	else
		off = packet_tcp6(skb, ip[6]);
	if (!off || bpf_skb_load_bytes(skb, off, tcp, sizeof(tcp)))
		return false;
	p->seq = (u32)tcp[4] << 24 | tcp[5] << 16 | tcp[6] << 8 | tcp[7];
	p->seq += tcp[13] >> 1 & 1; /* SYN: data in it begins behind */
	p->off = off + (tcp[12] >> 4) * 4;
	p->end = skb->len;
	return true;
}

static __always_inline bool wire_port_known(u32 port)
{
	u32 zero = 0;
	struct dbf_ports *ports = bpf_map_lookup_elem(&wire_ports, &zero);

	return ports && ports->bits[bounded_mask(port / 64, 65536 / 64)] >> port % 64 & 1;
}

/* Does a client's first packet say that it speaks PostgreSQL? What is too short to tell does not say no. */
static __always_inline bool wire_is_start(struct __sk_buff *skb, const struct packet *p)
{
	u8 b[8] = {};
	u32 len = p->end - p->off, code;

	if (len < sizeof(b)) {
		bpf_skb_load_bytes(skb, p->off, b, 1);
		return !b[0]; /* the length's first byte */
	}
	if (bpf_skb_load_bytes(skb, p->off, b, sizeof(b)) || b[0] || b[1])
		return false;
	code = (u32)b[4] << 24 | b[5] << 16 | b[6] << 8 | b[7];
	return code >> 16 == FRAME_PROTOCOL_MAJOR || (code >= FRAME_CANCEL && code <= FRAME_GSS);
}

static __always_inline void wire_tuple(struct dbf_tcp_key *key, struct sock *sk, u32 end)
{
	bool client = end == DBF_WIRE_CLIENT;

	tcp_address(key->client_addr, sk, client);
	tcp_address(key->server_addr, sk, !client);
	key->client_port = client ? BPF_CORE_READ(sk, __sk_common.skc_num) : bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	key->server_port = client ? bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport)) : BPF_CORE_READ(sk, __sk_common.skc_num);
	if (task_is_loopback(key->server_addr))
		key->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
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

/* What the ends told each other. The key is on the stack because 6.1 takes none from a function's argument. */
static __always_inline struct wire_ends *wire_ends_get(const struct wire_sock *ws)
{
	u64 conn = ws->conn;

	return bpf_map_lookup_elem(&wire_ends, &conn);
}

static __always_inline u32 wire_mark_end(u64 conn, u32 end)
{
	struct wire_ends mark = { .ends = 1 << end }, *found;

	found = bpf_map_lookup_elem(&wire_ends, &conn);
	if (!found) {
		bpf_map_update_elem(&wire_ends, &conn, &mark, BPF_NOEXIST);
		found = bpf_map_lookup_elem(&wire_ends, &conn);
	}
	if (!found)
		return 0;
	__sync_fetch_and_or(&found->ends, 1 << end);
	return found->ends;
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
	u32 end;
	u32 fresh; /* it began under our eyes: nothing was said before */
	u64 conn;
};

/*
 * Is this packet's connection one to follow? A client's first bytes tell, or a port where a database is known to listen;
 * what was said before on other ports cannot be told from anything else.
 */
static __always_inline bool wire_wanted(struct __sk_buff *skb, struct bpf_sock *sk, const struct wire_tcp *t,
					struct packet *p, struct wire_new *n)
{
	bool first, known_client, known_server;

	known_client = wire_port_known(bpf_ntohs(sk->dst_port));
	known_server = !known_client && wire_port_known(sk->src_port);
	if (!t->unspoken && !known_client && !known_server)
		return false;
	if (!packet_parse(skb, p) || p->off >= p->end)
		return false;
	first = t->unspoken && t->unsent && p->seq == (p->egress ? t->snd_una : t->rcv_nxt);
	if (known_client || known_server)
		n->end = known_client ? DBF_WIRE_CLIENT : DBF_WIRE_SERVER;
	else if (first && wire_is_start(skb, p))
		n->end = p->egress ? DBF_WIRE_CLIENT : DBF_WIRE_SERVER;
	else
		return false;
	/* A server that speaks first does not speak PostgreSQL. */
	n->fresh = t->unspoken && t->unsent && p->egress == (n->end == DBF_WIRE_CLIENT);
	n->conn = n->end == DBF_WIRE_CLIENT ? (u64)t->snd_una << 32 | t->rcv_nxt : (u64)t->rcv_nxt << 32 | t->snd_una;
	return true;
}

static __always_inline void wire_stream_begin(struct frame_stream *s, u32 dir, u32 next, bool fresh)
{
	s->dir = dir;
	s->next = next;
	s->phase = fresh ? FRAME_START : FRAME_LOST;
}

static __always_inline struct wire_sock *wire_create(struct bpf_sock *sk, const struct wire_tcp *t, const struct packet *p,
						     struct wire_new *n)
{
	struct sock *ksk = (struct sock *)bpf_skc_to_tcp_sock(sk);
	struct dbf_tcp_key key = {};
	struct wire_sock *ws;
	u64 *named;

	if (!ksk)
		return NULL;
	wire_tuple(&key, ksk, n->end);
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
	wire_stream_begin(&ws->out, n->end, p->egress && !n->fresh ? p->seq : t->snd_nxt, n->fresh);
	if (p->egress && n->fresh)
		ws->out.next = t->snd_una;
	wire_stream_begin(&ws->in, !n->end, t->rcv_nxt, n->fresh);
	wire_mark_end(ws->conn, ws->end);
	count_add(DBF_COUNT_WIRE_CONNS, 1);
	return ws;
}

static __always_inline struct frame_rec *wire_rec_take(void)
{
	for (u32 i = 0; i < WIRE_RECS; i++) {
		u32 key = i;
		struct frame_rec *rec = bpf_map_lookup_elem(&wire_recs, &key);

		if (rec && !__sync_val_compare_and_swap(&rec->busy, 0, 1))
			return rec;
	}
	count_add(DBF_COUNT_WIRE_NO_ROOM, 1);
	return NULL;
}

static __always_inline void wire_rec_begin(struct frame_rec *rec, const struct wire_sock *ws)
{
	rec->used = rec->execs = 0;
	rec->text_max = cfg_wire_text;
	rec->head.conn = ws->conn;
	rec->head.ts = bpf_ktime_get_ns();
	rec->head.pid = 0;
	rec->head.seen_by = ws->end;
}

static __always_inline void wire_open(struct frame_stream *s, struct frame_rec *rec, const struct wire_sock *ws,
				      struct sock *sk, u64 cookie)
{
	struct dbf_wire_item *item = frame_item(s, rec);
	struct dbf_wire_open *open = (struct dbf_wire_open *)(item + 1);
	struct dbf_tcp_key key = {};

	wire_tuple(&key, sk, ws->end);
	*item = (struct dbf_wire_item){ .type = DBF_WIRE_OPEN, .captured = sizeof(*open) };
	*open = (struct dbf_wire_open){
		.client_port = key.client_port,
		.server_port = key.server_port,
		.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum),
		.cookie = cookie,
		.end = ws->end,
		.joined = ws->joined || ws->epoch,
		.synced = (ws->out.phase != FRAME_LOST) << ws->out.dir | (ws->in.phase != FRAME_LOST) << ws->in.dir,
	};
	__builtin_memcpy(open->client_addr, key.client_addr, 16);
	__builtin_memcpy(open->server_addr, key.server_addr, 16);
	frame_item_end(rec, sizeof(*open));
}

static __always_inline void wire_who(struct frame_stream *s, struct frame_rec *rec, struct task_struct *task, u64 start)
{
	struct dbf_wire_item *item = frame_item(s, rec);
	struct dbf_wire_who *who = (struct dbf_wire_who *)(item + 1);

	*item = (struct dbf_wire_item){ .type = DBF_WIRE_WHO, .captured = sizeof(*who) };
	*who = (struct dbf_wire_who){
		.pid = task->tgid,
		.uid = task->cred->uid.val,
		.start = start,
		.cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id),
	};
	BPF_CORE_READ_STR_INTO(&who->comm, task, group_leader, comm);
	frame_item_end(rec, sizeof(*who));
}

/* The statements of this backend are seen where they run: it is the child of a postmaster whose sessions are observed. */
static __always_inline bool wire_is_backend(struct task_struct *task)
{
	u32 parent = BPF_CORE_READ(task, group_leader, real_parent, tgid);
	struct dbf_cluster *c = bpf_map_lookup_elem(&clusters, &parent);

	return cfg_server_vantage && c && c->flags & DBF_CLUSTER_OBSERVED;
}

/*
 * Who sends: while a process is inside a system call on the socket it owns it, and is the current task. What is sent
 * from a timer or on an acknowledgement has no sender.
 */
static __always_inline void wire_sender(struct wire_sock *ws, struct frame_rec *rec, struct tcp_sock *tp, bool opened)
{
	struct task_struct *task;
	struct wire_ends *ends;
	u64 start;

	if (!tp->inet_conn.icsk_inet.sk.sk_lock.owned)
		return;
	task = bpf_get_current_task_btf();
	start = task->group_leader->start_boottime;
	rec->head.pid = task->tgid;
	if (!opened && ws->pid == (u32)task->tgid && ws->start == start && ws->uid == task->cred->uid.val)
		return;
	ws->pid = task->tgid;
	ws->start = start;
	ws->uid = task->cred->uid.val;
	wire_who(&ws->out, rec, task, start);
	if (ws->end != DBF_WIRE_SERVER || !wire_is_backend(task))
		return;
	ends = wire_ends_get(ws);
	if (ends)
		ends->covered = 1;
	ws->covered = 1;
}

/* True while the wire is to tell what is said: nobody nearer to the execution does. */
static __always_inline bool wire_tells(struct wire_sock *ws)
{
	struct wire_ends *ends;

	if (!ws->covered && cfg_server_vantage && ws->asks < WIRE_ASKS) {
		ws->asks++;
		ends = wire_ends_get(ws);
		ws->covered = ends && ends->covered;
	}
	return !ws->covered;
}

/* For the reader that is not told yet. */
GLOBAL_FN int wire_tell_open(struct __sk_buff *skb, struct wire_sock *ws, struct frame_rec *rec, u32 egress, u32 epoch)
{
	struct bpf_sock *sk = skb->sk;
	struct sock *ksk;

	if (!ws || !rec || !sk)
		return 0;
	ksk = (struct sock *)bpf_skc_to_tcp_sock(sk);
	if (!ksk)
		return 0;
	if (egress)
		wire_open(&ws->out, rec, ws, ksk, bpf_get_socket_cookie(skb));
	else
		wire_open(&ws->in, rec, ws, ksk, bpf_get_socket_cookie(skb));
	ws->epoch = epoch;
	return 0;
}

/* A socket's egress: its own direction. */
GLOBAL_FN int wire_sent(struct __sk_buff *skb, struct wire_sock *ws, struct packet *p, u32 epoch)
{
	struct bpf_sock *sk = skb->sk;
	struct frame_rec *rec;
	struct tcp_sock *tp;
	bool opens;
	s32 ahead;

	if (!ws || !p || !sk)
		return 0;
	ahead = p->seq - ws->out.next;
	if (ahead < 0 && (s32)(p->seq + (p->end - p->off) - ws->out.next) <= 0)
		return 0; /* sent again */
	tp = bpf_skc_to_tcp_sock(sk);
	rec = tp ? wire_rec_take() : NULL;
	if (!rec)
		return 0;
	wire_rec_begin(rec, ws);
	opens = ws->epoch != epoch;
	if (opens)
		wire_tell_open(skb, ws, rec, 1, epoch);
	wire_sender(ws, rec, tp, opens);
	if (ahead > 0) {
		frame_lose(&ws->out, rec, DBF_WIRE_GAP_HOLE);
		ws->out.next = p->seq;
		ahead = 0;
	}
	if (wire_tells(ws)) {
		frame_feed(skb, &ws->out, rec, p->off - ahead, p->end);
	} else {
		ws->out.next = p->seq + (p->end - p->off);
		ws->out.bytes += p->end - p->off + ahead;
	}
	frame_flush(&ws->out, rec);
	rec->busy = 0;
	return 0;
}

/* A slot that is free; WIRE_OFO when there is none. */
GLOBAL_FN int wire_ofo_free(struct wire_sock *ws)
{
	for (u32 i = 0; ws && i < WIRE_OFO; i++)
		if (!ws->ofo[i].len)
			return i;
	return WIRE_OFO;
}

/* One whose turn has come; WIRE_OFO when there is none. */
GLOBAL_FN int wire_ofo_due(struct wire_sock *ws)
{
	for (u32 i = 0; ws && i < WIRE_OFO; i++)
		if (ws->ofo[i].len && (s32)(ws->ofo[i].seq - ws->in.next) <= 0)
			return i;
	return WIRE_OFO;
}

struct wire_keeping {
	struct __sk_buff *skb;
	struct wire_sock *ws;
	struct frame_rec *rec;
	u32 seq;
	u32 off;
	u32 end;
	u32 failed;
};

/* One chunk of a segment that came before its turn. */
static long wire_keep_step(u32 i, struct wire_keeping *k)
{
	struct wire_chunk_key key = { .conn = k->ws->conn };
	u32 n = k->end - k->off, at;

	if (k->off >= k->end)
		return 1;
	n = n < FRAME_CHUNK ? n : FRAME_CHUNK;
	at = wire_ofo_free(k->ws);
	k->failed = 1;
	if (!n || at >= WIRE_OFO)
		return 1;
	key.serial = k->ws->serial++;
	if (bpf_skb_load_bytes(k->skb, k->off, k->rec->data, bounded_some(n, FRAME_CHUNK)) ||
	    bpf_map_update_elem(&wire_chunks, &key, k->rec->data, BPF_ANY))
		return 1;
	k->failed = 0;
	k->ws->ofo[at & (WIRE_OFO - 1)] = (struct wire_ofo){ .seq = k->seq, .len = n, .serial = key.serial };
	k->seq += n;
	k->off += n;
	return 0;
}

/* Keep a segment. False when there is no room for it. */
GLOBAL_FN int wire_keep(struct __sk_buff *skb, struct wire_sock *ws, struct packet *p)
{
	struct wire_keeping k = { .skb = skb, .ws = ws };

	if (!ws || !p)
		return 0;
	k.rec = wire_rec_take();
	if (!k.rec)
		return 0;
	k.seq = p->seq;
	k.off = p->off;
	k.end = p->end;
	bpf_loop(WIRE_OFO + 1, wire_keep_step, &k, 0);
	k.rec->busy = 0;
	count_add(DBF_COUNT_WIRE_REORDERED, 1);
	return !k.failed;
}

struct wire_draining {
	struct wire_sock *ws;
	struct frame_rec *rec;
};

/* Whatever was kept and is next now. */
static long wire_drain_step(u32 i, struct wire_draining *d)
{
	struct wire_chunk_key key = { .conn = d->ws->conn };
	struct wire_sock *ws = d->ws;
	struct frame_kept *chunk;
	u32 at = wire_ofo_due(ws), skip, len;
	struct wire_ofo *o;

	if (at >= WIRE_OFO)
		return 1;
	o = &ws->ofo[at & (WIRE_OFO - 1)];
	key.serial = o->serial;
	skip = ws->in.next - o->seq;
	len = o->len;
	o->len = 0;
	chunk = bpf_map_lookup_elem(&wire_chunks, &key);
	if (chunk && skip < len)
		frame_feed_kept(&ws->in, d->rec, chunk, skip, len);
	if (chunk)
		bpf_map_delete_elem(&wire_chunks, &key);
	return 0;
}

GLOBAL_FN int wire_drain(struct wire_sock *ws, struct frame_rec *rec)
{
	struct wire_draining d = { .ws = ws, .rec = rec };

	if (ws && rec)
		bpf_loop(2 * WIRE_OFO, wire_drain_step, &d, 0);
	return 0;
}

/* TCP has bytes that we have not, nor kept: they passed where we do not look. */
static __always_inline bool wire_missed(struct wire_sock *ws, u32 taken)
{
	return (s32)(taken - ws->in.next) > 0 && wire_ofo_due(ws) == WIRE_OFO;
}

/* The lock is held: the other end's bytes, in whatever order. */
GLOBAL_FN int wire_received(struct __sk_buff *skb, struct wire_sock *ws, struct frame_rec *rec, struct packet *p, u32 taken)
{
	s32 ahead, fresh;
	u32 len;

	if (!ws || !rec || !p)
		return 0;
	len = p->end - p->off;
	if (ws->in.phase != FRAME_LOST && wire_missed(ws, taken)) {
		frame_lose(&ws->in, rec, DBF_WIRE_GAP_HOLE);
		ws->in.next = taken;
	}
	ahead = p->seq - ws->in.next;
	fresh = p->seq + len - ws->in.next;
	/* Bytes we followed come again and TCP has not taken the first ones: which it takes is not ours to know. */
	if (ahead < 0 && (s32)(p->seq + (fresh < 0 ? len : -ahead) - taken) > 0 && ws->in.phase == FRAME_TYPED)
		frame_note(&ws->in, rec, DBF_WIRE_DOUBT, 0);
	if (fresh <= 0)
		return 0;
	if (ahead > 0 && ws->in.phase != FRAME_LOST) {
		if (wire_keep(skb, ws, p))
			return 0;
		frame_lose(&ws->in, rec, DBF_WIRE_GAP_HOLE);
	}
	if (ahead > 0) {
		ws->in.next = p->seq;
		ahead = 0;
	}
	frame_feed(skb, &ws->in, rec, p->off - ahead, p->end);
	return 0;
}

static long wire_lock_step(u32 i, u32 **lock)
{
	return !__sync_val_compare_and_swap(*lock, 0, 1);
}

static __always_inline bool wire_lock(struct wire_sock *ws)
{
	u32 *lock = &ws->lock;

	return bpf_loop(WIRE_LOCK_SPINS, wire_lock_step, &lock, 0) < WIRE_LOCK_SPINS;
}

/* Is the other end's direction followed here? It is where it is sent, if that is on this node. */
static __always_inline bool wire_peer_away(struct wire_sock *ws)
{
	struct wire_ends *ends;

	if (ws->peer == WIRE_PEER_UNKNOWN) {
		ends = wire_ends_get(ws);
		ws->peer = ends && ends->ends & 1 << !ws->end ? WIRE_PEER_HERE : WIRE_PEER_AWAY;
	}
	return ws->peer == WIRE_PEER_AWAY;
}

/* A socket's ingress: the direction of an end that is elsewhere. */
GLOBAL_FN int wire_came(struct __sk_buff *skb, struct wire_sock *ws, struct packet *p, u32 taken, u32 epoch)
{
	struct frame_rec *rec;

	if (!ws || !p || !wire_tells(ws))
		return 0;
	if (!wire_lock(ws)) {
		count_add(DBF_COUNT_WIRE_NO_ROOM, 1); /* a hole is found next */
		return 0;
	}
	rec = wire_rec_take();
	if (rec) {
		wire_rec_begin(rec, ws);
		if (ws->epoch != epoch)
			wire_tell_open(skb, ws, rec, 0, epoch);
		wire_received(skb, ws, rec, p, taken);
		wire_drain(ws, rec);
		frame_flush(&ws->in, rec);
		rec->busy = 0;
	}
	ws->lock = 0;
	return 0;
}

/* A socket that is not followed: 1 when it is from now on. */
GLOBAL_FN int wire_begin(struct __sk_buff *skb, u32 egress)
{
	struct packet p = { .egress = egress };
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tp;
	struct wire_new n = {};
	struct wire_tcp t;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (!sk || sk->protocol != IPPROTO_TCP || sk->state == TCP_LISTEN)
		return 0;
	tp = bpf_tcp_sock(sk);
	if (!tp)
		return 0;
	wire_tcp_read(&t, tp);
	return wire_wanted(skb, sk, &t, &p, &n) && wire_create(sk, &t, &p, &n);
}

static __always_inline int wire_packet(struct __sk_buff *skb, bool egress)
{
	struct dbf_vitals *v = vitals_get();
	struct packet p = { .egress = egress };
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tp;
	struct wire_sock *ws;

	if (!sk || !v || v->active_instance != cfg_instance)
		return 1;
	ws = bpf_sk_storage_get(&wire_socks, sk, NULL, 0);
	if (!ws) {
		if (!wire_begin(skb, egress))
			return 1;
		ws = bpf_sk_storage_get(&wire_socks, sk, NULL, 0);
	}
	if (!ws || (!egress && !wire_peer_away(ws)) || !packet_parse(skb, &p) || p.off >= p.end)
		return 1;
	if (egress) {
		wire_sent(skb, ws, &p, v->reader_epoch);
	} else {
		tp = bpf_tcp_sock(sk);
		if (tp)
			wire_came(skb, ws, &p, tp->rcv_nxt, v->reader_epoch);
	}
	return 1;
}

SEC("cgroup_skb/egress")
int wire_egress(struct __sk_buff *skb)
{
	return wire_packet(skb, true);
}

SEC("cgroup_skb/ingress")
int wire_ingress(struct __sk_buff *skb)
{
	return wire_packet(skb, false);
}

/* An end is gone: closed, reset, timed out or destroyed. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(wire_closed, struct sock *sk, int oldstate, int newstate)
{
	struct frame_rec *rec;
	struct wire_sock *ws;

	if (newstate != TCP_CLOSE || !instance_active())
		return 0;
	ws = bpf_sk_storage_get(&wire_socks, sk, NULL, 0);
	if (!ws || !ws->epoch)
		return 0;
	rec = wire_rec_take();
	if (!rec)
		return 0;
	wire_rec_begin(rec, ws);
	frame_note(&ws->out, rec, DBF_WIRE_CLOSE, sk->sk_err ? 2 : 1);
	frame_flush(&ws->out, rec);
	rec->busy = 0;
	return 0;
}
