/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rank 4. Statements that are stopped at the client's socket, and what becomes of its packets meanwhile.
 *
 * Everything here runs in the egress program at the socket, which TCP calls for one packet of a socket at a time. It
 * may refuse a packet or let it pass; it cannot change one: that is enforce/rewrite.bpf.c's, at the device. A refused
 * packet stays in the socket's queue, is tried again by TCP's timer or when user space pokes the socket, and has grown
 * by then if the client went on writing. So nothing may depend on where a packet ends; what is held is a range of
 * sequence numbers, and all that reaches beyond its beginning is refused with it.
 *
 * The caller asks gate_packet() for every packet of a socket before it looks into it, and follows what is let through
 * only. When it finds a message that must not pass, it calls gate_begin(), and refuses the packet. A message is held
 * whole, or, when it is longer than one packet, from the packet on that ends its text: the first refusal stops the
 * stream, so nobody ever sees what is behind it.
 *
 * When the client is elsewhere the same is done with what comes to the server's socket, but a packet that is refused
 * there is not in any queue of this node: lib/keep.bpf.h has a copy, which enforce/handback.bpf.c puts in its place. The
 * client's own copies are refused as long as they are not the same as what is handed back.
 *
 * The client gave up when its FIN, or a Terminate message, stands behind what is held: a statement that was allowed
 * only then must not run any more.
 */
#ifndef DBF_GATE_BPF_H
#define DBF_GATE_BPF_H

#include "dbfence/abi/wire_hold.h"
#include "lib/keep.bpf.h"

#define GATE_PROBES (DBF_WIRE_HOLD_SLOTS / 4 * 3) /* slots that one process may have */
#define GATE_SPINS 4096
#define GATE_MESSAGES 16 /* looked at for a Terminate behind what is held */

enum gate_answer {
	GATE_PASS,
	GATE_REFUSE,
	GATE_DEAD, /* refuse, and never let anything of the socket pass again: the caller remembers it */
};

struct gate_packet { /* one packet that a socket sends, or gets */
	u64 cookie;
	u64 netns; /* cookie; gate_begin() finds it out itself */
	u32 ifindex;
	u32 seq;
	u32 len;     /* of the payload */
	u32 off;     /* of the payload, from the network header, where a cgroup program's data begins */
	u32 done; /* up to here the other end has it: the socket's snd_una; of what comes, its rcv_nxt */
	u8 fin;
	u8 rst;
	u8 received;
	u8 pad;
	u32 keep; /* set by the gate, for gate_keep() */
	u32 pad2;
};

struct gate_message { /* what must not pass; slot and slot_seq are the answer */
	u64 conn;
	u64 deadline_ns;
	u32 start, end;
	u32 from;  /* first byte to refuse: start, or where this packet begins */
	u32 patch; /* what may be overwritten, as in struct dbf_wire_hold */
	u16 patch_len;
	u8 deny;
	u8 fill;
	u8 fail_closed;
	u8 state; /* DBF_WIRE_HOLD, or what is decided already: DBF_WIRE_REWRITE, DBF_WIRE_KILL */
	u8 pad[2];
	u32 pid;
	u32 identity_class;
	u32 rule; /* number for the client to read when it is decided already, and has no name; 0: none */
	u32 name_len;
	char name[DBF_WIRE_NAME_BYTES]; /* of the rule, when it is decided already */
	u32 slot;
	u32 slot_seq;
};

struct { /* no LRU: what is evicted is an open gate */
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, DBF_WIRE_GATES);
	__type(key, u64); /* socket cookie */
	__type(value, struct dbf_wire_gate);
} wire_gates SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, DBF_WIRE_DEVICES);
	__type(key, struct dbf_wire_device_key);
	__type(value, u32);
} wire_devices SEC(".maps");

static __always_inline bool gate_move(struct dbf_wire_hold *slot, u64 from, u32 to)
{
	return __sync_val_compare_and_swap(&slot->state, from, DBF_STATE(DBF_STATE_SEQ(from), to)) == from;
}

/* The program itself decides, or says that nobody need any more. */
static __always_inline bool gate_decide(struct dbf_wire_hold *slot, u64 from, u32 to)
{
	slot->decided_ns[DBF_BY_KERNEL] = bpf_ktime_get_ns();
	return __sync_val_compare_and_swap(&slot->state, from, DBF_WIRE_STATE(DBF_STATE_SEQ(from), DBF_BY_KERNEL, to)) == from;
}

static __always_inline void gate_free(struct dbf_wire_hold *slot)
{
	keep_free(slot);
	for (u32 i = 0; i < 4; i++) { /* it may be decided meanwhile, once */
		u64 state = *(volatile u64 *)&slot->state;

		if (__sync_val_compare_and_swap(&slot->state, state,
						DBF_STATE(DBF_STATE_SEQ(state) + 1, DBF_WIRE_FREE)) == state)
			return;
	}
}

/* The network namespace of the packet's socket, as SO_NETNS_COOKIE gives it; 0 not known. */
static __always_inline u64 gate_netns(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp;
	struct net *net;

	if (!sk)
		return 0;
	tp = bpf_skc_to_tcp_sock(sk);
	if (!tp)
		return 0;
	net = BPF_CORE_READ((struct sock *)tp, __sk_common.skc_net.net);
	if (bpf_core_field_exists(net->net_cookie))
		return BPF_CORE_READ(net, net_cookie);
	return bpf_core_field_exists(net->ns.ns_id) ? BPF_CORE_READ(net, ns.ns_id) : 0;
}

struct gate_walk {
	struct __sk_buff *skb;
	u32 at;
	u32 end;
	u32 terminate;
};

static long gate_walk_step(u32 i, struct gate_walk *w)
{
	u8 head[5];
	u32 len;

	if (w->at + sizeof(head) > w->end || bpf_skb_load_bytes(w->skb, w->at, head, sizeof(head)))
		return 1;
	len = (u32)head[1] << 24 | (u32)head[2] << 16 | (u32)head[3] << 8 | head[4];
	if (head[0] == 'X' && len == 4)
		w->terminate = 1;
	if (w->terminate || len < 4 || len > w->end - w->at)
		return 1;
	w->at += len + 1;
	return 0;
}

/* The client said in this packet that it is gone: behind @end, where a message begins. */
static __always_inline bool gate_gave_up(struct __sk_buff *skb, struct gate_packet *p, u32 end)
{
	struct gate_walk w = { .skb = skb, .at = p->off + (end - p->seq), .end = p->off + p->len };

	if (p->fin)
		return true;
	if (gate_before(end, p->seq) || !gate_before(end, p->seq + p->len))
		return false;
	bpf_loop(GATE_MESSAGES, gate_walk_step, &w, 0);
	return w.terminate;
}

static __always_inline bool gate_device_rewrites(struct gate_packet *p)
{
	struct dbf_wire_device_key key = { .netns = p->netns, .ifindex = p->ifindex };

	return bpf_map_lookup_elem(&wire_devices, &key) != NULL;
}

/* Pass what TC will change, if TC is there to do so. */
static __always_inline int gate_to_device(struct gate_packet *p, struct dbf_wire_hold *slot)
{
	if (!gate_device_rewrites(p)) {
		slot->ifindex = p->ifindex;
		slot->refusals++;
		count_add(DBF_COUNT_WIRE_WRONG_DEVICE, 1);
		return GATE_REFUSE;
	}
	slot->ifindex = 0;
	slot->passes++;
	return GATE_PASS;
}

static __always_inline int gate_abandon(struct dbf_wire_hold *slot, u64 state)
{
	count_add(DBF_COUNT_WIRE_ABANDONED, gate_decide(slot, state, DBF_WIRE_ABANDONED));
	slot->refusals++;
	return GATE_REFUSE;
}

/* Behind the deadline nobody else decided: the fail mode. */
static __always_inline u32 gate_overdue(struct dbf_wire_hold *slot, u64 state)
{
	u32 to = slot->fail_closed ? DBF_WIRE_REWRITE : DBF_WIRE_ALLOW;

	if (!gate_decide(slot, state, to))
		return DBF_STATE_OF(*(volatile u64 *)&slot->state);
	count_add(DBF_COUNT_WIRE_OVERDUE, 1);
	return to;
}

/*
 * What comes to the server's socket: a copy that was handed back, or the client's own, of which only that passes of which
 * we have no copy: its bytes need not be those that were judged.
 */
static __always_inline int gate_received(struct __sk_buff *skb, struct gate_packet *p, u32 index, struct dbf_wire_hold *slot,
					 u32 st)
{
	/* What was judged is what was kept; the client's own copy need not be the same. */
	if (st == DBF_WIRE_ALLOW && (keep_is_ours(skb) || !slot->fail_closed || !keep_has(slot, p->seq)))
		return GATE_PASS;
	if (st == DBF_WIRE_REWRITE) {
		slot->passes++;
		if (keep_is_ours(skb) || (!gate_before(p->seq, slot->patch + slot->patch_len) && !keep_has(slot, p->seq)))
			return GATE_PASS;
	}
	/* Whoever decided hands back what is kept, until the slot is free. */
	if (st == DBF_WIRE_HOLD)
		p->keep = index + 1;
	slot->refusals++;
	return GATE_REFUSE;
}

/* The other end has all that matters of it. */
static __always_inline bool gate_is_done(struct gate_packet *p, struct dbf_wire_hold *slot, u32 st)
{
	return (st == DBF_WIRE_REWRITE || (slot->received && st == DBF_WIRE_ALLOW)) && !gate_before(p->done, slot->end);
}

#define GATE_DONE 0x10 /* in gate_one()'s answer: the slot is not needed any more */

/* This packet and one slot of its socket. enum gate_answer, and GATE_DONE. */
GLOBAL_FN int gate_one(struct __sk_buff *skb, struct gate_packet *p, u32 index)
{
	struct dbf_wire_hold *slot = gate_slot(index);
	u32 st, reach;
	u64 state;

	if (!p || !slot)
		return GATE_REFUSE;
	state = *(volatile u64 *)&slot->state;
	st = DBF_STATE_OF(state);
	if (slot->cookie != p->cookie || st == DBF_WIRE_FREE)
		return GATE_PASS | GATE_DONE;
	if (slot->received != p->received) /* of the other direction */
		return GATE_PASS;
	if (gate_is_done(p, slot, st)) {
		count_add(DBF_COUNT_WIRE_LEAKED, st == DBF_WIRE_REWRITE && slot->passes && !slot->rewrites);
		return GATE_PASS | GATE_DONE;
	}
	reach = p->seq + p->len + p->fin;
	if ((!p->len && (!p->fin || p->rst)) || !gate_before(slot->from, reach))
		return GATE_PASS;
	if ((st == DBF_WIRE_HOLD || st == DBF_WIRE_ALLOW) && gate_gave_up(skb, p, slot->end))
		return gate_abandon(slot, state);
	if (st == DBF_WIRE_HOLD && bpf_ktime_get_ns() >= slot->deadline_ns)
		st = gate_overdue(slot, state);
	if (slot->received)
		return gate_received(skb, p, index, slot, st);
	if (st == DBF_WIRE_ALLOW)
		return GATE_PASS | (gate_before(reach, slot->end) ? 0 : GATE_DONE);
	if (st == DBF_WIRE_REWRITE || st == DBF_WIRE_KILL)
		return gate_to_device(p, slot);
	slot->refusals++;
	return GATE_REFUSE;
}

static __always_inline int gate_dead(struct gate_packet *p)
{
	if (p->rst && !p->len)
		return GATE_PASS;
	return !p->received && gate_device_rewrites(p) ? GATE_PASS : GATE_REFUSE;
}

/*
 * Packets that are sent are looked at under the socket's lock, one after the other. Those that come are not; so the gate of
 * a socket that gets them stays until the socket is closed, and whoever looks has it alone.
 */
static __always_inline bool gate_try(struct dbf_wire_gate *g)
{
	return !__sync_val_compare_and_swap(&g->busy, 0, 1);
}

struct gate_spin {
	struct dbf_wire_gate *g;
	u32 locked;
	u32 pad;
};

static long gate_spin_step(u32 i, struct gate_spin *s)
{
	s->locked = gate_try(s->g);
	return s->locked;
}

static __always_inline bool gate_lock(struct dbf_wire_gate *g)
{
	struct gate_spin s = { .g = g };

	bpf_loop(GATE_SPINS, gate_spin_step, &s, 0);
	return s.locked;
}

static __always_inline void gate_unlock(struct dbf_wire_gate *g)
{
	__sync_val_compare_and_swap(&g->busy, 1, 0);
}

struct gate_round {
	struct __sk_buff *skb;
	struct gate_packet *p;
	struct dbf_wire_gate *g;
	u32 answer;
	u32 left; /* slots that are needed further on */
};

static long gate_round_step(u32 i, struct gate_round *r)
{
	u32 at = bounded_mask(i, DBF_WIRE_GATE_SLOTS), index = r->g->slots[at];
	struct dbf_wire_hold *slot;
	u32 one;

	if (!index)
		return 0;
	one = gate_one(r->skb, r->p, index - 1);
	r->answer |= one & GATE_REFUSE;
	if (!(one & GATE_DONE)) {
		r->left++;
		return 0;
	}
	slot = gate_slot(index - 1);
	if (slot && slot->cookie == r->p->cookie)
		gate_free(slot);
	r->g->slots[at] = 0;
	return 0;
}

/*
 * May this packet pass, as far as what was stopped before it goes? Asked for each packet of a socket, before anything
 * else is done with it; a packet that cannot be read, of a socket for which gate_is_open() is false, is to be refused.
 */
GLOBAL_FN int gate_packet(struct __sk_buff *skb, struct gate_packet *p)
{
	struct gate_round r = { .skb = skb, .p = p };
	u64 cookie;

	if (!p)
		return GATE_REFUSE;
	cookie = p->cookie;
	r.g = bpf_map_lookup_elem(&wire_gates, &cookie);
	if (!r.g)
		return GATE_PASS;
	if (r.g->dead)
		return gate_dead(p);
	p->keep = 0;
	if (p->received && !gate_try(r.g)) /* it comes again */
		return p->len || p->fin ? GATE_REFUSE : GATE_PASS;
	bpf_loop(DBF_WIRE_GATE_SLOTS, gate_round_step, &r, 0);
	if (p->received)
		gate_unlock(r.g);
	else if (!r.left)
		bpf_map_delete_elem(&wire_gates, &cookie);
	return r.answer;
}

/*
 * To be called for a packet that came and that one of the two refused, from where little of the stack is used. True when
 * all is kept that it has of the message.
 */
static __always_inline bool gate_keep(struct __sk_buff *skb, struct gate_packet *p)
{
	return p->keep && keep_packet(skb, p->keep - 1, p->seq, p->len, p->off);
}

/* Nothing of this socket is stopped: one look-up. */
static __always_inline bool gate_is_open(u64 cookie)
{
	return !bpf_map_lookup_elem(&wire_gates, &cookie);
}

struct gate_claim {
	u32 first;
	u32 found; /* index + 1 */
	u32 seq;
	u32 pad;
};

static long gate_claim_step(u32 i, struct gate_claim *c)
{
	u32 index = (c->first + i) & (DBF_WIRE_HOLD_SLOTS - 1);
	struct dbf_wire_hold *slot = gate_slot(index);
	u64 state;

	if (!slot)
		return 1;
	state = *(volatile u64 *)&slot->state;
	if (DBF_STATE_OF(state) != DBF_WIRE_FREE || !gate_move(slot, state, DBF_WIRE_CLAIMED))
		return 0;
	c->found = index + 1;
	c->seq = DBF_STATE_SEQ(state);
	return 1;
}

static const struct dbf_wire_gate gate_new, gate_new_dead = { .dead = 1 }; /* not on the stack */

/* The socket's gate, made when there is none. */
static __always_inline struct dbf_wire_gate *gate_get(u64 cookie)
{
	struct dbf_wire_gate *g = bpf_map_lookup_elem(&wire_gates, &cookie);

	if (g)
		return g;
	bpf_map_update_elem(&wire_gates, &cookie, &gate_new, BPF_NOEXIST);
	return bpf_map_lookup_elem(&wire_gates, &cookie);
}

/* A place for one more slot in it. */
static __always_inline bool gate_add(struct dbf_wire_gate *g, u32 found)
{
	for (u32 i = 0; i < DBF_WIRE_GATE_SLOTS; i++) {
		if (*(volatile u16 *)&g->slots[i])
			continue;
		g->slots[i] = found;
		return true;
	}
	return false;
}

#define gate_load(to, field) \
	do { \
		(to) = (field); \
		bounded_pin(to); \
	} while (0)

/* IPv4 mapped; each field of the context at a constant offset. */
#define gate_address(to, skb, which) \
	do { \
		u32 *_words = (u32 *)(to), _a, _b, _c, _d; \
		if ((skb)->family == AF_INET6) { \
			gate_load(_a, (skb)->which##_ip6[0]); \
			gate_load(_b, (skb)->which##_ip6[1]); \
			gate_load(_c, (skb)->which##_ip6[2]); \
			gate_load(_d, (skb)->which##_ip6[3]); \
		} else { \
			_a = _b = 0; \
			_c = bpf_htonl(0xffff); \
			gate_load(_d, (skb)->which##_ip4); \
		} \
		_words[0] = _a; \
		_words[1] = _b; \
		_words[2] = _c; \
		_words[3] = _d; \
	} while (0)

/* What names the socket to user space. */
static __always_inline void gate_socket(struct __sk_buff *skb, struct dbf_wire_hold *slot)
{
	struct bpf_sock *sk = skb->sk;

	gate_address(slot->local_addr, skb, local);
	gate_address(slot->remote_addr, skb, remote);
	slot->local_port = skb->local_port;
	slot->remote_port = bpf_ntohl(skb->remote_port);
	slot->bound_if = 0;
	if (!sk)
		return;
	sk = bpf_sk_fullsock(sk);
	if (sk)
		slot->bound_if = sk->bound_dev_if;
}

/* A rule's number as its name. */
GLOBAL_FN int gate_name(struct dbf_wire_hold *slot, u32 rule)
{
	u32 divisor = 1000000000, digit, at = 0;

	if (!slot)
		return 0;
	__builtin_memset(slot->name[DBF_WIRE_NAME_SEEN], 0, DBF_WIRE_NAME_BYTES);
	for (u32 i = 0; i < 10; i++, divisor /= 10) {
		digit = rule / divisor % 10;
		if (digit || at)
			slot->name[DBF_WIRE_NAME_SEEN][at++ & (DBF_WIRE_NAME_BYTES - 1)] = '0' + digit;
	}
	slot->name_len[DBF_WIRE_NAME_SEEN] = at;
	return 0;
}

static __always_inline void gate_fill(struct dbf_wire_hold *slot, struct gate_packet *p, struct gate_message *m)
{
	slot->cookie = p->cookie;
	slot->netns = p->netns;
	slot->conn = m->conn;
	slot->since_ns = bpf_ktime_get_ns();
	slot->deadline_ns = m->deadline_ns;
	slot->decided_ns[DBF_BY_KERNEL] = slot->since_ns;
	slot->start = m->start;
	slot->end = m->end;
	slot->from = m->from;
	slot->patch = m->patch;
	slot->patch_len = m->patch_len < DBF_WIRE_PATCH_BYTES ? m->patch_len : DBF_WIRE_PATCH_BYTES;
	slot->deny = m->deny;
	slot->fill = m->fill;
	slot->fail_closed = m->fail_closed;
	slot->pid = m->pid;
	slot->identity_class = m->identity_class;
	slot->received = p->received;
	slot->kept = 0;
	slot->ifindex = p->received ? p->ifindex : 0;
	slot->refusals = slot->passes = slot->rewrites = 0;
	gate_name(slot, m->rule);
	if (!m->name_len)
		return;
	__builtin_memcpy(slot->name[DBF_WIRE_NAME_SEEN], m->name, DBF_WIRE_NAME_BYTES);
	slot->name_len[DBF_WIRE_NAME_SEEN] = bounded_max(m->name_len, DBF_WIRE_NAME_BYTES - 1);
}

/*
 * A patch that ends inside a longer text must not cut a character in two, or the server complains about its bytes and not
 * about our token. So it ends in front of one, at most three bytes earlier.
 */
static __always_inline void gate_cut(struct __sk_buff *skb, struct gate_packet *p, struct dbf_wire_hold *slot)
{
	u32 off = p->off + (slot->patch - p->seq) + DBF_WIRE_PATCH_BYTES - 3;
	u8 edge[4];

	if (slot->deny != DBF_WIRE_DENY_TOKEN || slot->patch_len < DBF_WIRE_PATCH_BYTES ||
	    bpf_skb_load_bytes(skb, off, edge, sizeof(edge)))
		return;
	for (u32 i = sizeof(edge) - 1; i > 0 && (edge[i] & 0xc0) == 0x80; i--)
		slot->patch_len--;
}

/* There is no slot: nobody can be asked, and the message cannot be changed either. */
static __always_inline int gate_fail(u64 cookie, struct gate_message *m)
{
	struct dbf_wire_gate *g;

	count_add(DBF_COUNT_WIRE_NO_SLOT, 1);
	if (m->state == DBF_WIRE_HOLD && !m->fail_closed)
		return GATE_PASS;
	g = bpf_map_lookup_elem(&wire_gates, &cookie);
	if (g)
		g->dead = 1;
	else
		bpf_map_update_elem(&wire_gates, &cookie, &gate_new_dead, BPF_NOEXIST);
	return GATE_DEAD;
}

/* The slot is in the gate, and is now what the message wants it to be. */
static __always_inline int gate_open(struct gate_packet *p, struct gate_message *m, struct dbf_wire_hold *slot,
				     struct gate_claim *c)
{
	m->slot = c->found - 1;
	m->slot_seq = c->seq;
	count_add(DBF_COUNT_WIRE_HOLDS, m->state == DBF_WIRE_HOLD);
	__sync_val_compare_and_swap(&slot->state, DBF_STATE(c->seq, DBF_WIRE_CLAIMED),
				    m->state == DBF_WIRE_HOLD ? DBF_STATE(c->seq, DBF_WIRE_HOLD) :
								DBF_WIRE_STATE(c->seq, DBF_BY_KERNEL, m->state));
	if (p->received)
		p->keep = m->slot + 1;
	else if (m->state != DBF_WIRE_HOLD)
		return gate_to_device(p, slot);
	slot->refusals = 1;
	return GATE_REFUSE;
}

/* A number for who sent what came. */
static __always_inline u32 gate_peer(struct __sk_buff *skb)
{
	u32 a, b;

	if (skb->family != AF_INET6)
		return skb->remote_ip4;
	gate_load(a, skb->remote_ip6[0]); /* a host chooses the lower half itself */
	gate_load(b, skb->remote_ip6[1]);
	return a ^ b;
}

/*
 * A message that must not pass stands in this packet. What becomes of the packet: GATE_REFUSE when it is held now
 * (m->slot and m->slot_seq are for user space), or what the message's own state says for the device that it is sent by.
 * When the answer is not GATE_PASS the caller looks no further into the packet. gate_packet() answered GATE_PASS before.
 * What comes to a server's socket is always refused: somebody has to hand it back, and gate_keep() keeps it for that.
 */
GLOBAL_FN int gate_begin(struct __sk_buff *skb, struct gate_packet *p, struct gate_message *m)
{
	struct dbf_wire_hold *slot;
	struct dbf_wire_gate *g;
	struct gate_claim c = {};
	bool added;

	if (!p || !m)
		return GATE_REFUSE;
	p->netns = gate_netns(skb);
	c.first = (p->received ? gate_peer(skb) : m->pid) * 2654435761U >> 8; /* nobody has all of them, but a part of its own */
	bpf_loop(GATE_PROBES, gate_claim_step, &c, 0);
	slot = c.found ? gate_slot(c.found - 1) : NULL;
	if (!slot)
		return gate_fail(p->cookie, m);
	gate_fill(slot, p, m);
	gate_cut(skb, p, slot);
	gate_socket(skb, slot);
	g = gate_get(p->cookie);
	if (!g || (p->received && !gate_lock(g))) {
		gate_free(slot);
		return gate_fail(p->cookie, m);
	}
	added = gate_add(g, c.found);
	if (p->received)
		gate_unlock(g);
	if (!added) {
		gate_free(slot);
		return gate_fail(p->cookie, m);
	}
	return gate_open(p, m, slot, &c);
}

static long gate_leave_step(u32 i, struct gate_round *r)
{
	u32 at = bounded_mask(i, DBF_WIRE_GATE_SLOTS), index = r->g->slots[at];
	struct dbf_wire_hold *slot = index ? gate_slot(index - 1) : NULL;

	if (slot && slot->cookie == r->p->cookie)
		gate_free(slot);
	return 0;
}

/* The socket is closed, its queue is gone: so are its slots. For tp_btf/inet_sock_set_state at TCP_CLOSE. */
static __always_inline void gate_socket_gone(u64 cookie)
{
	struct gate_packet p = { .cookie = cookie };
	struct gate_round r = { .p = &p, .g = bpf_map_lookup_elem(&wire_gates, &cookie) };

	if (!r.g)
		return;
	bpf_loop(DBF_WIRE_GATE_SLOTS, gate_leave_step, &r, 0);
	bpf_map_delete_elem(&wire_gates, &cookie);
}

#endif
