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
 */

static __always_inline void wire_open(struct frame_stream *s, struct frame_rec *rec, const struct wire_sock *ws,
				      struct sock *sk, u64 cookie)
{
	struct dbf_wire_item *item = frame_item(s, rec);
	struct dbf_wire_open *open = (struct dbf_wire_open *)(item + 1);
	struct dbf_tcp_key key = {};

	tcp_key(&key, sk, ws->end == DBF_WIRE_CLIENT);
	*item = (struct dbf_wire_item){ .type = DBF_WIRE_OPEN, .captured = sizeof(*open) };
	*open = (struct dbf_wire_open){
		.client_port = key.client_port,
		.server_port = key.server_port,
		.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum),
		.cookie = cookie,
		.end = ws->end,
		.joined = ws->joined || ws->epoch,
		.changed = ws->out.changed | ws->in.changed,
		.synced = (ws->out.phase != FRAME_LOST) << ws->out.dir | (ws->in.phase != FRAME_LOST) << ws->in.dir,
	};
	__builtin_memcpy(open->client_addr, key.client_addr, 16);
	__builtin_memcpy(open->server_addr, key.server_addr, 16);
	frame_item_end(rec, sizeof(*open));
}

/* What a reader before this one was told of the session. */
GLOBAL_FN int wire_again(struct frame_stream *s, struct frame_rec *rec, struct wire_sock *ws)
{
	struct dbf_wire_item *item;
	u32 len;

	if (!s || !rec || !ws || !ws->began_len)
		return 0;
	item = frame_item(s, rec);
	len = bounded_max(ws->began_len, DBF_WIRE_AGAIN_BYTES);
	*item = (struct dbf_wire_item){ .type = DBF_WIRE_AGAIN, .captured = len, .length = len };
	__builtin_memcpy(item + 1, ws->began, DBF_WIRE_AGAIN_BYTES);
	frame_item_end(rec, len);
	return 0;
}

/* A client's packet may be its start-up message: kept when it is whole, for readers to come. */
GLOBAL_FN int wire_keep_start(struct __sk_buff *skb, struct wire_sock *ws, struct segment *p)
{
	u32 length, next, have;
	u8 head[8];

	if (!ws || !p)
		return 0;
	next = ws->end == DBF_WIRE_CLIENT ? ws->out.next : ws->in.next;
	have = ws->end == DBF_WIRE_CLIENT ? ws->out.head_len : ws->in.head_len;
	if (p->seq != next || have || p->len < sizeof(head) || bpf_skb_load_bytes(skb, p->data, head, sizeof(head)))
		return 0;
	length = (u32)head[0] << 24 | (u32)head[1] << 16 | (u32)head[2] << 8 | (u32)head[3];
	if (((u32)head[4] << 8 | head[5]) != FRAME_PROTOCOL_MAJOR || length < sizeof(head) || length > p->len ||
	    length > DBF_WIRE_AGAIN_BYTES)
		return 0;
	if (!bpf_skb_load_bytes(skb, p->data + 4, ws->began, bounded_some(length - 4, DBF_WIRE_AGAIN_BYTES)))
		ws->began_len = length - 4;
	return 0;
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
 * from a timer or on an acknowledgement has no sender. True when it is another than before: its program is looked up
 * while it lives.
 */
static __always_inline bool wire_sender(struct wire_sock *ws, struct frame_rec *rec, struct tcp_sock *tp, bool opened)
{
	struct dbf_session_key sk = wire_sender_key(ws);
	struct dbf_config *cfg = config_get();
	struct task_struct *task;
	struct wire_ends *ends;
	u64 start;

	if (!tp->inet_conn.icsk_inet.sk.sk_lock.owned)
		return false;
	task = bpf_get_current_task_btf();
	if (cfg && cfg->keeper == (u32)task->tgid) /* it lets a hold go */
		return false;
	start = task->group_leader->start_boottime;
	rec->head.pid = task->tgid;
	if (!opened && ws->pid == (u32)task->tgid && ws->start == start && ws->uid == task->cred->uid.val)
		return false;
	if (ws->pid) /* its class is not this one's */
		bpf_map_delete_elem(&classes, &sk);
	ws->pid = task->tgid;
	ws->start = start;
	ws->uid = task->cred->uid.val;
	wire_who(&ws->out, rec, task, start);
	if (ws->end != DBF_WIRE_SERVER || !wire_is_backend(task))
		return true;
	ends = wire_ends_get(ws);
	if (ends)
		ends->covered = 1;
	ws->covered = 1;
	return true;
}

/* True while the wire is to tell what is said: nobody nearer to the execution does. */
static __always_inline bool wire_tells(struct wire_sock *ws)
{
	struct wire_ends *ends;

	if (!ws->covered && cfg_server_vantage && ws->asks < WIRE_ASKS && ws->peer != WIRE_PEER_AWAY) {
		ends = wire_ends_get(ws);
		ws->covered = ends && ends->covered;
		ws->asks += ends && ends->ends == (1 << DBF_WIRE_CLIENT | 1 << DBF_WIRE_SERVER);
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
	if (ws->epoch && egress)
		wire_again(&ws->out, rec, ws);
	else if (ws->epoch)
		wire_again(&ws->in, rec, ws);
	ws->epoch = epoch;
	return 0;
}

/* The client's bytes pass at this end, and are judged there. */
static __always_inline bool wire_judged(const struct wire_sock *ws, u32 end)
{
	struct dbf_config *cfg = config_get();

	return cfg && cfg->enforce && ws->end == end && wire_port_is(DBF_PORTS_ENFORCED, ws->server_port);
}

static __always_inline u32 wire_acked(struct bpf_sock *sk)
{
	struct bpf_tcp_sock *tp = bpf_tcp_sock(sk);

	return tp ? tp->snd_una : 0;
}

/*
 * The server does not read an urgent byte in its place: what it reads is not what stands here, so nothing in a packet that
 * tells of one is a message. Not to be looked into, then.
 */
static __always_inline bool wire_is_urgent(struct frame_stream *s, struct frame_rec *rec, const struct segment *p)
{
	if (!(p->flags & TCP_URG) || s->phase == FRAME_OPAQUE)
		return false;
	if (s->phase != FRAME_LOST)
		frame_lose(s, rec, DBF_WIRE_GAP_FRAME);
	return true;
}

/* A socket's egress: its own direction. enum gate_answer. */
GLOBAL_FN int wire_sent(struct __sk_buff *skb, struct wire_sock *ws, struct segment *p, u32 epoch)
{
	struct dbf_config *cfg = config_get();
	struct bpf_sock *sk = skb->sk;
	int answer = GATE_PASS;
	struct frame_rec *rec;
	bool opens, urgent;
	struct tcp_sock *tp;
	s32 ahead;
	u32 how;

	if (!ws || !p || !sk)
		return GATE_PASS;
	ahead = p->seq - ws->out.next;
	if (ahead < 0 && (s32)(p->seq + p->len - ws->out.next) <= 0)
		return GATE_PASS; /* sent again */
	tp = bpf_skc_to_tcp_sock(sk);
	rec = tp ? wire_rec_take() : NULL;
	if (!rec) /* TCP tries again */
		return cfg && cfg->enforce && ws->end == DBF_WIRE_CLIENT ? GATE_REFUSE : GATE_PASS;
	wire_rec_begin(rec, ws);
	opens = ws->epoch != epoch;
	if (opens)
		wire_tell_open(skb, ws, rec, 1, epoch);
	if (ws->out.phase == FRAME_START && ws->end == DBF_WIRE_CLIENT)
		wire_keep_start(skb, ws, p);
	rec->other_sender = wire_sender(ws, rec, tp, opens);
	how = rec->other_sender ? EMIT_WAKE : EMIT_LAZY;
	if (ahead > 0) {
		frame_lose(&ws->out, rec, DBF_WIRE_GAP_HOLE);
		ws->out.next = p->seq;
		ahead = 0;
	}
	urgent = wire_is_urgent(&ws->out, rec, p);
	if (!wire_tells(ws)) {
		frame_pass_over(&ws->out, p->len + ahead);
		mark_sent(skb, ws, p, rec->head.ts);
	} else if (wire_judged(ws, DBF_WIRE_CLIENT)) {
		wire_gate_packet(skb, &wire_scratch(rec)->packet, p, wire_acked(sk), false);
		answer = wire_pass(skb, ws, rec, p, p->data - ahead);
	} else if (urgent) {
		frame_pass_over(&ws->out, p->len + ahead);
	} else {
		frame_feed(skb, &ws->out, rec, p->data - ahead, p->data + p->len);
	}
	if (answer != GATE_PASS)
		how = EMIT_WAKE | EMIT_RESERVE | EMIT_HOLD;
	frame_send(&ws->out, rec, how);
	rec->busy = 0;
	return answer;
}

#define WIRE_ANEW_NS 50000000ULL /* longer than packets wait for a socket's owner, shorter than TCP for an answer */

enum wire_arrival {
	WIRE_OLD,    /* nothing new */
	WIRE_NEXT,   /* what is new in it is next */
	WIRE_EARLY,  /* kept until it is its turn */
	WIRE_NOT_NOW, /* it may come again */
	WIRE_ANEW,   /* what was judged comes again, and TCP did not take it before: it need not be the same */
};

/*
 * Bytes come again that were judged and that TCP has not: the first ones may still wait for the socket's owner to leave it.
 * When it has not taken them later either, it never will: their checksum was wrong, say, and these are others.
 */
static __always_inline u32 wire_anew(struct wire_sock *ws, u32 taken, u64 now)
{
	if (ws->anew_ns && ws->anew == taken)
		return now - ws->anew_ns > WIRE_ANEW_NS ? WIRE_ANEW : WIRE_NOT_NOW;
	ws->anew = taken;
	ws->anew_ns = now;
	return WIRE_NOT_NOW;
}

/* The lock is held: what the other end sent, in whatever order. enum wire_arrival. */
GLOBAL_FN int wire_arrive(struct __sk_buff *skb, struct wire_sock *ws, struct frame_rec *rec, struct segment *p, u32 taken)
{
	s32 ahead, fresh;
	bool again;
	u32 len;

	if (!ws || !rec || !p)
		return WIRE_OLD;
	len = p->len;
	if (ws->in.phase == FRAME_OPAQUE && (s32)(taken - ws->in.next) >= 0) {
		ws->in.next = taken; /* sequence numbers wrap */
		return WIRE_OLD;
	}
	ahead = p->seq - ws->in.next;
	fresh = p->seq + len - ws->in.next;
	again = ahead < 0 && !keep_is_ours(skb) && (s32)(p->seq + (fresh < 0 ? len : -ahead) - taken) > 0;
	if (rec->judging && again)
		return wire_anew(ws, taken, rec->head.ts);
	if (ws->in.phase == FRAME_OPAQUE)
		return WIRE_OLD;
	/* What is old tells nothing: TCP counts a FIN that it has as a byte. */
	if (ws->in.phase != FRAME_LOST && fresh > 0 && order_missed(ws, taken)) {
		frame_lose(&ws->in, rec, DBF_WIRE_GAP_HOLE);
		order_forget(ws);
		ws->in.next = taken;
	}
	ahead = p->seq - ws->in.next;
	fresh = p->seq + len - ws->in.next;
	/* What a server says twice is no way around anything. */
	if (again && ahead < 0 && ws->in.dir == DBF_WIRE_CLIENT && ws->in.phase == FRAME_TYPED)
		frame_note(&ws->in, rec, DBF_WIRE_DOUBT, 0);
	if (fresh <= 0)
		return WIRE_OLD;
	if (ahead > 0 && ws->in.phase != FRAME_LOST) {
		/* TCP must have the same of them as we. */
		if (rec->judging && order_overlaps(order_queue(ws), p->seq, p->seq + len))
			return WIRE_NOT_NOW;
		if (order_keep(skb, ws, p))
			return WIRE_EARLY;
		if (rec->judging)
			return WIRE_NOT_NOW;
		frame_lose(&ws->in, rec, DBF_WIRE_GAP_HOLE);
		order_forget(ws);
	}
	if (ahead > 0)
		ws->in.next = p->seq;
	wire_is_urgent(&ws->in, rec, p);
	return WIRE_NEXT;
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

/* What is new in a packet. enum gate_answer. */
static __always_inline int wire_take_in(struct __sk_buff *skb, struct wire_sock *ws, struct frame_rec *rec, struct segment *p,
					bool judged)
{
	u32 at = p->data + (ws->in.next - p->seq);

	if (judged)
		return wire_pass(skb, ws, rec, p, at);
	if (p->flags & TCP_URG && ws->in.phase == FRAME_LOST)
		frame_pass_over(&ws->in, p->data + p->len - at);
	else
		frame_feed(skb, &ws->in, rec, at, p->data + p->len);
	return GATE_PASS;
}

/*
 * A message was stopped in this packet, which is kept now, or must be: nobody else has it again as it is. Where there is
 * no room it has not been seen; the client sends it again.
 */
static __always_inline void wire_keep(struct __sk_buff *skb, struct wire_sock *ws, struct frame_rec *rec, struct gate_packet *g,
				      bool undo)
{
	struct dbf_wire_hold *slot;
	u64 state;

	if (gate_keep(skb, g))
		return;
	slot = gate_slot(g->keep - 1);
	if (!slot || slot->cookie != g->cookie)
		return;
	if (undo && !slot->kept && ws->in.seq == rec->before.seq) {
		gate_free(slot);
		ws->in = rec->before;
		ws->held = 0;
		rec->used = rec->execs = 0;
		return;
	}
	state = *(volatile u64 *)&slot->state;
	if (slot->fail_closed && DBF_STATE_OF(state) == DBF_WIRE_HOLD)
		gate_decide(slot, state, DBF_WIRE_KILL);
}

/* The lock is held. enum gate_answer. */
static __always_inline int wire_came_in(struct __sk_buff *skb, struct wire_sock *ws, struct frame_rec *rec, struct segment *p,
					u32 taken, bool judged)
{
	struct gate_packet *g = &wire_scratch(rec)->packet;
	int answer = GATE_PASS, drained = GATE_PASS;
	struct dbf_config *cfg = config_get();
	u32 arrival;

	if (judged || ws->gated)
		wire_gate_packet(skb, g, p, taken, true);
	if (ws->gated) {
		if (ws->held)
			wire_tell_end(ws, false);
		answer = gate_packet(skb, g);
		if (answer != GATE_PASS) {
			gate_keep(skb, g);
			return answer;
		}
	}
	if (!p->len || p->flags & TCP_SYN || !wire_tells(ws))
		return GATE_PASS;
	if (judged && (!(p->flags & TCP_ACK) || p->flags & TCP_RST)) /* TCP takes no data from it */
		return GATE_REFUSE;
	rec->before = ws->in;
	rec->judging = judged;
	rec->began = ws->in.phase;
	arrival = wire_arrive(skb, ws, rec, p, taken);
	rec->judging = 0;
	if (arrival == WIRE_NOT_NOW)
		return GATE_REFUSE;
	if (arrival == WIRE_ANEW)
		return cfg && cfg->fail_closed ? wire_end(skb, ws, rec, g) : GATE_PASS;
	if (arrival == WIRE_NEXT)
		answer = wire_take_in(skb, ws, rec, p, judged);
	if (answer == GATE_PASS && arrival != WIRE_EARLY) {
		drained = order_drain(skb, ws, rec, judged);
		if (drained == GATE_PASS && judged && ws->in.phase == FRAME_LOST)
			drained = wire_lost(skb, ws, rec);
	}
	if (answer != GATE_PASS || drained != GATE_PASS)
		wire_keep(skb, ws, rec, g, drained == GATE_PASS);
	return answer | drained;
}

/* A socket's ingress: the direction of an end that is elsewhere. enum gate_answer. */
GLOBAL_FN int wire_came(struct __sk_buff *skb, struct wire_sock *ws, struct segment *p, u32 taken, u32 epoch)
{
	int answer = GATE_PASS;
	struct frame_rec *rec;
	bool judged;

	if (!ws || !p || (!ws->gated && (!p->len || !wire_tells(ws))))
		return GATE_PASS;
	if (ws->dead)
		return p->len ? GATE_REFUSE : GATE_PASS;
	judged = wire_judged(ws, DBF_WIRE_SERVER);
	if (!wire_lock(ws)) {
		count_add(DBF_COUNT_WIRE_NO_ROOM, 1); /* unless it is sent again, a hole is found next */
		return judged || ws->gated ? GATE_REFUSE : GATE_PASS;
	}
	rec = wire_rec_take();
	if (rec) {
		wire_rec_begin(rec, ws);
		if (ws->epoch != epoch)
			wire_tell_open(skb, ws, rec, 0, epoch);
		answer = wire_came_in(skb, ws, rec, p, taken, judged);
		frame_send(&ws->in, rec, answer != GATE_PASS ? EMIT_WAKE | EMIT_RESERVE | EMIT_HOLD : EMIT_LAZY);
		rec->busy = 0;
	} else if (judged || ws->gated) {
		answer = GATE_REFUSE;
	}
	ws->lock = 0;
	return answer;
}

/* What came to the listener for this server's socket. */
static __always_inline struct wire_first *wire_first_get(struct __sk_buff *skb, struct dbf_tcp_key *key)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;

	if (!tp)
		return NULL;
	tcp_key(key, (struct sock *)tp, false);
	key->netns = 0;
	return bpf_map_lookup_elem(&wire_firsts, key);
}

/* It is the beginning of what this socket is sent. */
GLOBAL_FN int wire_feed_first(struct __sk_buff *skb, struct wire_sock *ws, u32 epoch)
{
	struct frame_span which = {};
	struct dbf_tcp_key key = {};
	struct wire_first *first;
	struct frame_rec *rec;

	if (!ws)
		return 0;
	first = wire_first_get(skb, &key);
	rec = first ? wire_rec_take() : NULL;
	if (!rec)
		return 0;
	if (wire_peer_away(ws)) {
		wire_rec_begin(rec, ws);
		wire_tell_open(skb, ws, rec, 0, epoch);
		which.end = bounded_max(first->len, FRAME_KEPT);
		frame_feed_kept(skb, &ws->in, rec, &first->kept, &which);
		frame_flush(&ws->in, rec);
	}
	rec->busy = 0;
	bpf_map_delete_elem(&wire_firsts, &key);
	return 0;
}

/* A server's socket whose first bytes came to the listener: 1 when it is followed from now on. */
GLOBAL_FN int wire_begin_late(struct __sk_buff *skb, u32 egress)
{
	struct wire_new n = { .egress = egress, .end = DBF_WIRE_SERVER, .fresh = 1 };
	struct bpf_sock *sk = skb->sk;
	struct dbf_tcp_key key = {};
	struct wire_first *first;
	struct bpf_tcp_sock *tp;
	struct wire_sock *ws;
	struct wire_tcp t;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	tp = sk ? bpf_tcp_sock(sk) : NULL;
	first = tp ? wire_first_get(skb, &key) : NULL;
	if (!first)
		return 0;
	wire_tcp_read(&t, tp);
	n.conn = (u64)first->seq << 32 | first->ack;
	ws = wire_create(sk, &t, NULL, &n);
	if (!ws)
		return 0;
	ws->in.next = first->seq;
	ws->out.next = first->ack;
	return 1;
}

/* Nothing of this end may pass that is not known. */
GLOBAL_FN int wire_enforced(u32 end, u32 server_port)
{
	struct dbf_config *cfg = config_get();

	return end == DBF_WIRE_CLIENT && cfg && cfg->enforce && cfg->fail_closed &&
	       wire_port_is(DBF_PORTS_ENFORCED, server_port);
}

enum wire_begun { WIRE_NOT, WIRE_FOLLOWED, WIRE_MAYBE_LATE, WIRE_REFUSED };

/* A socket that is not followed: enum wire_begun. */
GLOBAL_FN int wire_begin(struct __sk_buff *skb, u32 egress, u32 late)
{
	struct wire_new n = { .egress = egress };
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tp;
	struct segment p = {};
	struct wire_tcp t;
	bool strict;

	sk = sk ? bpf_sk_fullsock(sk) : NULL;
	if (!sk || sk->protocol != IPPROTO_TCP)
		return 0;
	if (sk->state == TCP_LISTEN) {
		if (egress)
			return WIRE_NOT;
		strict = wire_enforced(DBF_WIRE_CLIENT, sk->src_port);
		if (segment_parse(skb, &p, 0) != SEGMENT_TCP)
			return strict ? WIRE_REFUSED : WIRE_NOT;
		if (!p.len)
			return WIRE_NOT;
		if (strict && order_first_is_strange(skb, &p))
			return WIRE_REFUSED;
		if (wire_port_is(DBF_PORTS_KNOWN, sk->src_port) || wire_is_start(skb, &p))
			order_keep_first(skb, &p);
		return WIRE_NOT;
	}
	tp = bpf_tcp_sock(sk);
	if (!tp)
		return 0;
	wire_tcp_read(&t, tp);
	if (late && t.unsent && !t.unspoken)
		return WIRE_MAYBE_LATE;
	if (!wire_wanted(skb, sk, &t, &p, &n))
		return WIRE_NOT;
	if (wire_create(sk, &t, &p, &n))
		return WIRE_FOLLOWED;
	/* A client can see to it that its socket has no room for our storage. */
	return egress && wire_enforced(n.end, bpf_ntohs(sk->dst_port)) ? WIRE_REFUSED : WIRE_NOT;
}

/* The state of a socket that had none; NULL: it is not to be followed. */
static __always_inline struct wire_sock *wire_adopt(struct __sk_buff *skb, struct bpf_sock *sk, bool egress, u32 epoch, bool *refused)
{
	u32 begun = wire_begin(skb, egress, 1);
	struct wire_sock *ws;
	bool late = false;

	if (begun == WIRE_MAYBE_LATE) {
		late = wire_begin_late(skb, egress);
		begun = late ? WIRE_FOLLOWED : wire_begin(skb, egress, 0);
	}
	*refused = begun == WIRE_REFUSED;
	if (begun != WIRE_FOLLOWED)
		return NULL;
	ws = bpf_sk_storage_get(&wire_socks, sk, NULL, 0);
	if (ws && late)
		wire_feed_first(skb, ws, epoch);
	return ws;
}

/* 1 to let it pass. */
static __always_inline int wire_packet(struct __sk_buff *skb, bool egress)
{
	struct dbf_vitals *v = vitals_get();
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tp;
	struct segment p = {};
	bool refused = false;
	struct wire_sock *ws;

	if (!sk || !v || v->active_instance != cfg_instance)
		return 1;
	ws = bpf_sk_storage_get(&wire_socks, sk, NULL, 0);
	if (!ws)
		ws = wire_adopt(skb, sk, egress, v->reader_epoch, &refused);
	if (!ws)
		return !refused;
	if (!egress && !wire_peer_away(ws))
		return 1;
	segment_parse(skb, &p, 0);
	if (egress && ws->gated && wire_ask_gate(skb, ws, &p) != GATE_PASS)
		return 0;
	if (egress && ws->dead && p.len) /* the device answers it, where the gate could note it */
		return ws->gated != 0;
	if (p.kind != SEGMENT_TCP)
		return !wire_enforced(egress ? ws->end : !ws->end, ws->server_port);
	if (egress)
		return !p.len || p.flags & TCP_SYN || wire_sent(skb, ws, &p, v->reader_epoch) == GATE_PASS;
	if (p.len && !(p.flags & TCP_SYN)) {
		if (ws->covered && !ws->gated) { /* and so it is a server's socket */
			mark_request(skb, ws, &p, bpf_ktime_get_ns());
			return 1;
		}
		if (ws->in.phase == FRAME_START && ws->end == DBF_WIRE_SERVER)
			wire_keep_start(skb, ws, &p);
	}
	/* TCP believes an urgent pointer in any packet, without data too, and the server skips a byte then. */
	if (p.flags & TCP_URG && ws->in.phase != FRAME_OPAQUE && wire_enforced(!ws->end, ws->server_port))
		return 0;
	tp = bpf_tcp_sock(sk);
	return !tp || wire_came(skb, ws, &p, tp->rcv_nxt, v->reader_epoch) == GATE_PASS;
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
	order_forget(ws);
	if (ws->held)
		wire_tell_end(ws, true);
	if (ws->gated)
		gate_socket_gone(ws->cookie);
	rec = wire_rec_take();
	if (!rec)
		return 0;
	wire_rec_begin(rec, ws);
	frame_note(&ws->out, rec, DBF_WIRE_CLOSE, sk->sk_err ? 2 : 1);
	frame_flush(&ws->out, rec);
	rec->busy = 0;
	return 0;
}
