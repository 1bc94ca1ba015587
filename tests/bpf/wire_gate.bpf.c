/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate and the rewriter with a trivial framing in front: a Query or Parse message that begins where a packet does,
 * and whose text begins with DROP, is held; with cfg_tail, only its last packet. Driven by wire_rig.c.
 */
#include "lib/compat.bpf.h"
#include "lib/gate.bpf.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#include "enforce/rewrite.bpf.c"
#include "enforce/handback.bpf.c"

const volatile u32 cfg_port;
const volatile u64 cfg_hold_ns;
const volatile u8 cfg_fail_closed;
const volatile u8 cfg_tail;
const volatile u8 cfg_state;
const volatile u8 cfg_receive; /* at the server's socket */

u64 to_drop; /* packets with a payload, by drop_first */
u64 dropped;

#define HEAD 32
#define HEAD_MIN 20

struct pending {
	struct gate_message m;
	u32 judged; /* up to here */
	u32 tail;   /* its end has not been seen */
};

struct event {
	u32 slot, slot_seq, pid, len;
	u64 cookie;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, u64);
	__type(value, struct pending);
} streams SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} events SEC(".maps");

static __always_inline bool is_drop(const u8 *text)
{
	return text[0] == 'D' && text[1] == 'R' && text[2] == 'O' && text[3] == 'P';
}

/* Offset of the text, when it is a candidate. */
static __always_inline u32 candidate(const u8 *head)
{
	if (head[0] == 'Q')
		return is_drop(head + 5) ? 5 : 0;
	if (head[0] != 'P')
		return 0;
	for (u32 i = 5; i < HEAD - 5; i++)
		if (!head[i])
			return is_drop(head + i + 1) ? i + 1 : 0;
	return 0;
}

/* Where the text may be spoilt when its head has gone. */
static __always_inline void spoil(struct gate_message *m, u8 type)
{
	m->deny = DBF_WIRE_DENY_FILL;
	m->fill = type == 'Q' ? ' ' : 0xff;
	m->patch_len = type == 'Q' ? 1 : 2;
	m->patch = m->end - m->patch_len;
}

static __always_inline int begin(struct __sk_buff *skb, struct gate_packet *p, struct pending *s)
{
	struct event *e;
	int answer = gate_begin(skb, p, &s->m);

	s->tail = 0;
	s->judged = s->m.end;
	if (s->m.state == DBF_WIRE_HOLD && answer == GATE_REFUSE) {
		e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
		if (e) {
			*e = (struct event){ s->m.slot, s->m.slot_seq, s->m.pid, p->len, p->cookie };
			bpf_ringbuf_submit(e, 0);
		}
	}
	return answer;
}

static const struct pending nothing;

GLOBAL_FN int look(struct __sk_buff *skb, struct gate_packet *p)
{
	struct pending *s;
	u8 head[HEAD] = {};
	u32 text, len;
	u64 cookie;

	if (!p)
		return GATE_PASS;
	cookie = p->cookie;
	s = bpf_map_lookup_elem(&streams, &cookie);
	if (!s) {
		bpf_map_update_elem(&streams, &cookie, &nothing, BPF_ANY);
		s = bpf_map_lookup_elem(&streams, &cookie);
		if (!s)
			return GATE_REFUSE;
		s->judged = p->seq;
	}
	if (s->tail) {
		if (gate_before(p->seq + p->len, s->m.end))
			return GATE_PASS;
		s->m.from = p->seq;
		return begin(skb, p, s);
	}
	if (gate_before(p->seq, s->judged))
		return GATE_PASS;
	if (bpf_skb_load_bytes(skb, p->off, head, HEAD) && bpf_skb_load_bytes(skb, p->off, head, HEAD_MIN))
		return GATE_PASS;
	text = candidate(head);
	if (!text)
		return GATE_PASS;
	len = ((u32)head[1] << 24 | (u32)head[2] << 16 | (u32)head[3] << 8 | head[4]) + 1;
	s->m = (struct gate_message){
		.conn = cookie, .deadline_ns = bpf_ktime_get_ns() + cfg_hold_ns, .start = p->seq, .from = p->seq,
		.end = p->seq + len, .patch = p->seq + text, .fail_closed = cfg_fail_closed, .state = cfg_state,
		.pid = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), tgid), .rule = 7,
	};
	len -= text + (head[0] == 'Q' ? 1 : 3);
	s->m.patch_len = len < DBF_WIRE_PATCH_BYTES ? len : DBF_WIRE_PATCH_BYTES;
	if (cfg_tail && gate_before(p->seq + p->len, s->m.end)) {
		spoil(&s->m, head[0]);
		s->tail = 1;
		return GATE_PASS;
	}
	return begin(skb, p, s);
}

static __always_inline int describe(struct __sk_buff *skb, struct gate_packet *p, u64 cookie, bool received)
{
	struct bpf_sock *sk = skb->sk;
	struct segment parts = {};
	struct bpf_tcp_sock *tp;

	if (segment_parse(skb, &parts, 0) != SEGMENT_TCP)
		return -1;
	if (!sk)
		return -1;
	sk = bpf_sk_fullsock(sk);
	tp = sk ? bpf_tcp_sock(sk) : NULL;
	if (!tp)
		return -1;
	*p = (struct gate_packet){
		.cookie = cookie, .netns = gate_netns(skb), .ifindex = skb->ifindex, .seq = parts.seq,
		.len = parts.len, .off = parts.data, .done = received ? tp->rcv_nxt : tp->snd_una, .received = received,
		.fin = !!(parts.flags & TCP_FIN), .rst = !!(parts.flags & TCP_RST),
	};
	return 0;
}

static __always_inline int judge(struct __sk_buff *skb, bool received)
{
	u64 cookie = bpf_get_socket_cookie(skb);
	struct gate_packet p = {};

	if (describe(skb, &p, cookie, received))
		return gate_is_open(cookie);
	if (gate_packet(skb, &p) == GATE_PASS && (!p.len || look(skb, &p) == GATE_PASS))
		return 1;
	gate_keep(skb, &p);
	return 0;
}

SEC("cgroup_skb/egress")
int egress(struct __sk_buff *skb)
{
	return cfg_receive || bpf_ntohl(skb->remote_port) != cfg_port ? 1 : judge(skb, false);
}

SEC("cgroup_skb/ingress")
int ingress(struct __sk_buff *skb)
{
	return !cfg_receive || skb->local_port != cfg_port ? 1 : judge(skb, true);
}

SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(socket_state, struct sock *sk, int oldstate, int newstate)
{
	if (newstate == TCP_CLOSE)
		gate_socket_gone(bpf_get_socket_cookie(sk));
	return 0;
}

/* For another device of the way: the next copies of what is sent are lost. */
SEC("tc")
int drop_first(struct __sk_buff *skb)
{
	struct segment p = {};

	if (!to_drop || segment_parse(skb, &p, 14) != SEGMENT_TCP || !p.len)
		return TC_ACT_UNSPEC;
	if (__sync_fetch_and_add(&to_drop, -1) <= 0)
		return TC_ACT_UNSPEC;
	__sync_fetch_and_add(&dropped, 1);
	return TC_ACT_SHOT;
}

#define COPY_MARK 0xc0b1

/* Another: two packets of a hundred are lost, and two come twice. */
SEC("tc")
int lossy(struct __sk_buff *skb)
{
	u32 dice = bpf_get_prandom_u32() % 100;

	if (skb->mark == COPY_MARK)
		return TC_ACT_UNSPEC;
	if (dice < 2)
		return TC_ACT_SHOT;
	if (dice < 4) {
		skb->mark = COPY_MARK;
		bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
		skb->mark = 0;
	}
	return TC_ACT_UNSPEC;
}
