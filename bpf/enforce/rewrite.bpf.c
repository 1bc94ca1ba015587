/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * At the device by which a stopped packet leaves: it is made one that the server answers with an error, or the
 * connection is ended. lib/gate.bpf.h let it pass only because this stands here.
 *
 * A change is made in this packet alone, never in the socket's queue, so it is made again in each retransmission, and
 * only in the part of the patch that this packet has. What cannot be changed is dropped; TCP tries again.
 *
 * Checksums: an ordinary change replaces what differs, which is right whether the field holds the whole sum or, because
 * the device adds the rest, the pseudo header's only. A packet that is made anew must know which of the two it is; they
 * are told apart by comparing, wrong once in 65536 packets whose sum is whole, and then the packet is lost.
 *
 * To end a connection the packet's headers go to the server as a RST, and turned round to the client, with a FATAL error
 * and a FIN, its bytes acknowledged so that nothing is sent again. What the client sends afterwards is answered by a RST.
 *
 * Other filters of the device come after this one: it says TC_ACT_UNSPEC for what is not its.
 */

#define TC_ACT_UNSPEC (-1)
#define TC_ACT_SHOT 2
#define LOOPBACK_IFINDEX 1 /* in every network namespace */

#define REWRITE_WINDOW 72 /* a patch at an even or odd place, a multiple of 4 */
#define REWRITE_LINK 14	  /* Ethernet's */
#define REWRITE_ERROR 192
#define REWRITE_TCP_MAX 60

struct rewrite_scratch {
	u8 old[128];
	u8 new[128];
	u8 token[DBF_WIRE_PATCH_BYTES];
	u8 pseudo[40];
	u8 header[REWRITE_TCP_MAX + 4];
	u8 error[REWRITE_ERROR];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct rewrite_scratch);
} wire_scratches SEC(".maps");

static __always_inline struct rewrite_scratch *rewrite_scratch_get(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&wire_scratches, &zero);
}

static __always_inline bool rewrite_same(struct __sk_buff *skb, u32 link, const u64 *network)
{
	u64 at[5];

	if (bpf_skb_load_bytes(skb, link, at, sizeof(at)))
		return false;
	return !((at[0] ^ network[0]) | (at[1] ^ network[1]) | (at[2] ^ network[2]) | (at[3] ^ network[3]) |
		 (at[4] ^ network[4]));
}

/* How many bytes stand in front of the network header: some devices have no link layer. Negative: not known. */
GLOBAL_FN int rewrite_link(struct __sk_buff *skb)
{
	u64 network[5];

	if (segment_load(skb, 0, network, sizeof(network)))
		return -1;
	if (rewrite_same(skb, REWRITE_LINK, network))
		return REWRITE_LINK;
	if (rewrite_same(skb, 0, network))
		return 0;
	return rewrite_same(skb, REWRITE_LINK + 4, network) ? REWRITE_LINK + 4 : -1;
}

#define REWRITE_LONG "blocked_by_policy_"
#define REWRITE_SHORT "blocked_"
#define REWRITE_SHORTEST "blocked"

/* @prefix, a constant, and the name behind it; the rest is blanks already, and NULs are to be ones. */
#define rewrite_put(r, prefix, name, len) \
	do { \
		__builtin_memcpy((r)->token, prefix, sizeof(prefix) - 1); \
		for (u32 i = 0; i < DBF_WIRE_NAME_BYTES; i++) \
			(r)->token[sizeof(prefix) - 1 + i] = \
				(name)[i] | (i < (len) ? 0 : ' '); \
	} while (0)

/* The name that whoever decided gave the rule: it is decided, so that stays. */
static __always_inline u32 rewrite_name_of(struct dbf_wire_hold *slot)
{
	u64 state = *(volatile u64 *)&slot->state;

	return DBF_WIRE_NAME_OF(state);
}

/* The most telling token that fits into the patch. */
GLOBAL_FN int rewrite_token(struct rewrite_scratch *r, struct dbf_wire_hold *slot)
{
	u32 len, fill, which;
	const char *name;

	if (!r || !slot)
		return 0;
	fill = slot->deny == DBF_WIRE_DENY_FILL ? slot->fill : ' ';
	__builtin_memset(r->token, fill, sizeof(r->token));
	if (slot->deny == DBF_WIRE_DENY_FILL)
		return 0;
	which = bounded_mask(rewrite_name_of(slot), DBF_WIRE_NAMES);
	name = slot->name[which];
	len = slot->name_len[which];
	if (len && slot->patch_len >= sizeof(REWRITE_LONG) - 1 + len)
		rewrite_put(r, REWRITE_LONG, name, len);
	else if (len && slot->patch_len >= sizeof(REWRITE_SHORT) - 1 + len)
		rewrite_put(r, REWRITE_SHORT, name, len);
	else
		__builtin_memcpy(r->token, REWRITE_SHORTEST, sizeof(REWRITE_SHORTEST) - 1);
	return 0;
}

struct rewrite_part { /* of a patch, in one packet */
	u32 off;  /* from the beginning of the packet */
	u32 skip; /* bytes of the patch in front of it */
	u32 n;
	u32 sum_off;
	u32 odd; /* it stands at an odd place of what is summed up */
};

/* 0, or negative when nothing may be sent. */
GLOBAL_FN int rewrite_part(struct __sk_buff *skb, struct rewrite_part *part, struct dbf_wire_hold *slot)
{
	struct rewrite_scratch *r = rewrite_scratch_get();
	s64 diff;
	u64 n, odd;

	if (!r || !part || !slot)
		return -1;
	n = bounded_mask(part->n - 1, DBF_WIRE_PATCH_BYTES) + 1;
	odd = bounded_mask(part->odd, 2);
	rewrite_token(r, slot);
	__builtin_memset(r->old, 0, sizeof(r->old));
	__builtin_memset(r->new, 0, sizeof(r->new));
	if (bpf_skb_load_bytes(skb, part->off, r->old + odd, n))
		return -1;
	for (u32 i = 0; i < DBF_WIRE_PATCH_BYTES; i++)
		if (i < n)
			r->new[(odd + i) & 127] = r->token[(part->skip + i) & (DBF_WIRE_PATCH_BYTES - 1)];
	diff = bpf_csum_diff((__be32 *)r->old, REWRITE_WINDOW, (__be32 *)r->new, REWRITE_WINDOW, 0);
	if (diff < 0 || bpf_skb_store_bytes(skb, part->off, r->new + odd, n, 0) ||
	    bpf_l4_csum_replace(skb, part->sum_off, 0, diff, 0))
		return -1;
	return 0;
}

enum rewrite_answer { REWRITE_PASS, REWRITE_DROP, REWRITE_KILL };

/* One slot of the socket and this packet. */
GLOBAL_FN int rewrite_slot(struct __sk_buff *skb, struct segment *p, u32 index, u32 link)
{
	struct dbf_wire_hold *slot = gate_slot(index);
	struct rewrite_part part = {};
	s32 first, last;
	u32 st;

	if (!slot || !p)
		return REWRITE_DROP;
	if (slot->received) /* these are the server's own packets */
		return REWRITE_PASS;
	st = DBF_STATE_OF(*(volatile u64 *)&slot->state);
	if (st == DBF_WIRE_KILL)
		return gate_before(slot->from, p->seq + p->len) && p->len ? REWRITE_KILL : REWRITE_PASS;
	if (st != DBF_WIRE_REWRITE)
		return REWRITE_PASS;
	first = slot->patch - p->seq;
	last = first + slot->patch_len;
	if (first < 0) {
		part.skip = -first;
		first = 0;
	}
	if (last > (s32)p->len)
		last = p->len;
	if (last <= first)
		return REWRITE_PASS;
	part.n = last - first;
	part.off = link + p->data + first;
	part.sum_off = link + p->tcp + 16;
	part.odd = (p->data + first - p->tcp) & 1;
	if (rewrite_part(skb, &part, slot)) {
		count_add(DBF_COUNT_WIRE_FAILED, 1);
		return REWRITE_DROP;
	}
	__sync_fetch_and_add(&slot->rewrites, 1);
	count_add(DBF_COUNT_WIRE_REWRITES, 1);
	return REWRITE_PASS;
}

static __always_inline u16 rewrite_fold(u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The sum over the pseudo header, not folded; negative: not known. */
static __always_inline s64 rewrite_pseudo(struct __sk_buff *skb, struct segment *p, struct rewrite_scratch *r, u32 len)
{
	__builtin_memset(r->pseudo, 0, sizeof(r->pseudo));
	if (p->v6 ? segment_load(skb, 8, r->pseudo, 32) : segment_load(skb, 12, r->pseudo, 8))
		return -1;
	*(u32 *)&r->pseudo[32] = bpf_htonl(len);
	r->pseudo[39] = IPPROTO_TCP;
	return bpf_csum_diff(NULL, 0, (__be32 *)r->pseudo, sizeof(r->pseudo), 0);
}

/* Only the pseudo header's sum stands in the packet: the device adds the rest. */
GLOBAL_FN int rewrite_is_partial(struct __sk_buff *skb, struct segment *p)
{
	struct rewrite_scratch *r = rewrite_scratch_get();
	u16 field;
	s64 sum;

	if (!r || !p || segment_load(skb, p->tcp + 16, &field, sizeof(field)))
		return 0;
	sum = rewrite_pseudo(skb, p, r, p->data - p->tcp + p->len);
	return sum >= 0 && rewrite_fold(sum) == field;
}

/* Of headers with @len bytes of r->error behind them. */
GLOBAL_FN int rewrite_checksum(struct __sk_buff *skb, struct segment *p, u32 link, u32 len, u32 partial)
{
	struct rewrite_scratch *r = rewrite_scratch_get();
	u16 field = 0;
	u64 header;
	s64 sum;

	if (!r || !p || bpf_skb_store_bytes(skb, link + p->tcp + 16, &field, sizeof(field), 0))
		return -1;
	header = bounded_mask(p->data - p->tcp - 1, 64) + 1;
	sum = rewrite_pseudo(skb, p, r, p->data - p->tcp + len);
	if (sum < 0 || header > REWRITE_TCP_MAX)
		return -1;
	if (!partial) {
		__builtin_memset(r->header, 0, sizeof(r->header));
		if (segment_load(skb, p->tcp, r->header, header))
			return -1;
		sum = bpf_csum_diff(NULL, 0, (__be32 *)r->header, REWRITE_TCP_MAX, sum);
		if (len)
			sum = bpf_csum_diff(NULL, 0, (__be32 *)r->error, REWRITE_ERROR, sum);
		if (sum < 0)
			return -1;
	}
	field = rewrite_fold(sum);
	if (!partial)
		field = ~field;
	return bpf_skb_store_bytes(skb, link + p->tcp + 16, &field, sizeof(field), 0) ? -1 : 0;
}

#define IPV6_JUMBO 0xc2

/* The lengths that the IP header tells of; one that was too long for it had an option instead, which becomes padding. */
static __always_inline int rewrite_ip_length(struct __sk_buff *skb, struct segment *p, u32 link, u32 len)
{
	u8 option[6], padding[6] = { 1, 4 };
	u16 old, new;

	if (!p->v6) {
		new = bpf_htons(p->data + len);
		return segment_load(skb, 2, &old, sizeof(old)) ||
		       bpf_l3_csum_replace(skb, link + 10, old, new, sizeof(new)) ||
		       bpf_skb_store_bytes(skb, link + 2, &new, sizeof(new), 0);
	}
	new = bpf_htons(p->data + len - 40);
	if (bpf_skb_store_bytes(skb, link + 4, &new, sizeof(new), 0))
		return -1;
	if (p->tcp < 48 || segment_load(skb, 42, option, sizeof(option)) || option[0] != IPV6_JUMBO)
		return 0;
	return bpf_skb_store_bytes(skb, link + 42, padding, sizeof(padding), 0);
}

/* @len bytes behind the headers, and @flags in them. */
GLOBAL_FN int rewrite_resize(struct __sk_buff *skb, struct segment *p, u32 link, u32 len, u32 flags)
{
	u8 byte = flags;

	if (!p || bpf_skb_change_tail(skb, link + p->data + len, 0))
		return -1;
	return rewrite_ip_length(skb, p, link, len) ||
	       bpf_skb_store_bytes(skb, link + p->tcp + 13, &byte, sizeof(byte), 0);
}

static __always_inline int rewrite_swap(struct __sk_buff *skb, u32 off, u32 half)
{
	u8 from[32], to[32];

	if (bpf_skb_load_bytes(skb, off, from, 2 * half))
		return -1;
	__builtin_memcpy(to, from + half, half);
	__builtin_memcpy(to + half, from, half);
	return bpf_skb_store_bytes(skb, off, to, 2 * half, 0);
}

/* Back to where it came from: addresses, ports, sequence numbers; what was in the TCP options does not apply. */
GLOBAL_FN int rewrite_turn(struct __sk_buff *skb, struct segment *p, u32 link)
{
	u32 numbers[2], nops = 0x01010101;

	if (!p)
		return -1;
	numbers[0] = bpf_htonl(p->ack);
	numbers[1] = bpf_htonl(p->seq + p->len + (p->flags & TCP_FIN ? 1 : 0));
	if (link >= REWRITE_LINK && rewrite_swap(skb, 0, 6))
		return -1;
	if (p->v6 ? rewrite_swap(skb, link + 8, 16) : rewrite_swap(skb, link + 12, 4))
		return -1;
	if (rewrite_swap(skb, link + p->tcp, 2) ||
	    bpf_skb_store_bytes(skb, link + p->tcp + 4, numbers, sizeof(numbers), 0))
		return -1;
	for (u32 i = 20; i < REWRITE_TCP_MAX; i += 4)
		if (p->tcp + i < p->data && bpf_skb_store_bytes(skb, link + p->tcp + i, &nops, sizeof(nops), 0))
			return -1;
	return 0;
}

/* To the client. The loopback device does so by itself, and its packets lose their route when they are redirected. */
static __always_inline int rewrite_back(struct __sk_buff *skb)
{
	return skb->ifindex == LOOPBACK_IFINDEX ? TC_ACT_UNSPEC : bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/* Type, length, then fields: severity twice, SQLSTATE, and the message, whose end is the name. */
#define REWRITE_FATAL "E\0\0\0\0SFATAL\0VFATAL\0C28000\0Mstatement not permitted: blocked by policy "

/* Into r->error, zeros behind it; its length. */
static __always_inline u32 rewrite_error(struct rewrite_scratch *r, struct dbf_wire_hold *slot)
{
	u32 which = bounded_mask(rewrite_name_of(slot), DBF_WIRE_NAMES);
	u32 len = sizeof(REWRITE_FATAL) - 1 + (slot->name_len[which] & (DBF_WIRE_NAME_BYTES - 1)) + 2;

	__builtin_memset(r->error, 0, sizeof(r->error));
	__builtin_memcpy(r->error, REWRITE_FATAL, sizeof(REWRITE_FATAL) - 1);
	__builtin_memcpy(r->error + sizeof(REWRITE_FATAL) - 1, slot->name[which], DBF_WIRE_NAME_BYTES);
	r->error[4] = len - 1;
	return len;
}

/* The packet becomes a RST to the server, then what the client reads. */
GLOBAL_FN int rewrite_kill(struct __sk_buff *skb, struct segment *p, u32 index, u32 link)
{
	struct dbf_wire_hold *slot = gate_slot(index);
	struct rewrite_scratch *r = rewrite_scratch_get();
	u64 len;
	u32 partial;

	if (!p || !slot || !r)
		return TC_ACT_SHOT;
	partial = rewrite_is_partial(skb, p);
	if (rewrite_resize(skb, p, link, 0, TCP_RST | TCP_ACK) || rewrite_checksum(skb, p, link, 0, partial))
		return TC_ACT_SHOT;
	bpf_clone_redirect(skb, skb->ifindex, 0);
	len = bounded_mask(rewrite_error(r, slot) - 1, 128) + 1;
	if (rewrite_resize(skb, p, link, len, TCP_FIN | TCP_PSH | TCP_ACK) || rewrite_turn(skb, p, link) ||
	    bpf_skb_store_bytes(skb, link + p->data, r->error, len, 0) || rewrite_checksum(skb, p, link, len, partial))
		return TC_ACT_SHOT;
	count_add(DBF_COUNT_WIRE_KILLS, 1);
	return rewrite_back(skb);
}

/* A packet of a connection that was ended. */
GLOBAL_FN int rewrite_dead(struct __sk_buff *skb, struct segment *p, u32 link)
{
	u32 partial;

	if (!p)
		return TC_ACT_SHOT;
	if (p->flags & TCP_RST && !p->len)
		return TC_ACT_UNSPEC;
	if (!p->len && !(p->flags & TCP_FIN))
		return TC_ACT_SHOT;
	partial = rewrite_is_partial(skb, p);
	if (rewrite_resize(skb, p, link, 0, TCP_RST | TCP_ACK) || rewrite_turn(skb, p, link) ||
	    rewrite_checksum(skb, p, link, 0, partial))
		return TC_ACT_SHOT;
	return rewrite_back(skb);
}

struct rewrite_round {
	struct __sk_buff *skb;
	struct segment *p;
	struct dbf_wire_gate *g;
	u32 link;
	int answer;
};

static long rewrite_round_step(u32 i, struct rewrite_round *r)
{
	u32 index = r->g->slots[bounded_mask(i, DBF_WIRE_GATE_SLOTS)];
	int answer;

	if (!index)
		return 0;
	answer = rewrite_slot(r->skb, r->p, index - 1, r->link);
	if (answer == REWRITE_PASS)
		return 0;
	r->answer = TC_ACT_SHOT;
	if (answer == REWRITE_KILL) {
		r->answer = rewrite_kill(r->skb, r->p, index - 1, r->link);
		r->g->dead = r->answer != TC_ACT_SHOT;
	}
	return 1;
}

/* A packet of a socket that has slots. */
static __always_inline int rewrite_packet(struct __sk_buff *skb, struct dbf_wire_gate *g)
{
	struct segment p = {};
	int link = rewrite_link(skb), kind;
	struct rewrite_round r = { .skb = skb, .p = &p, .g = g, .link = link, .answer = TC_ACT_UNSPEC };

	kind = segment_parse(skb, &p, link < 0 ? 0 : link);
	if (kind == SEGMENT_OTHER) /* the outer packet of a tunnel, whose own device has seen the inner one */
		return TC_ACT_UNSPEC;
	if (kind != SEGMENT_TCP || link < 0) {
		count_add(DBF_COUNT_WIRE_FAILED, 1);
		return TC_ACT_SHOT;
	}
	if (g->dead)
		return rewrite_dead(skb, &p, link);
	bpf_loop(DBF_WIRE_GATE_SLOTS, rewrite_round_step, &r, 0);
	return r.answer;
}

/* Egress of every device. Every packet comes by here. */
SEC("tc")
int wire_rewriter(struct __sk_buff *skb)
{
	u64 cookie = bpf_get_socket_cookie(skb);
	struct dbf_wire_gate *g;

	if (!cookie)
		return TC_ACT_UNSPEC;
	g = bpf_map_lookup_elem(&wire_gates, &cookie);
	return g ? rewrite_packet(skb, g) : TC_ACT_UNSPEC;
}
