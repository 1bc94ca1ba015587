/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rank 2. Where the parts of a TCP segment stand, in cgroup_skb and in TC programs alike.
 *
 * Everything is read relative to the network header, so no link layer is assumed. Packets above 64 KB have no length in
 * their IP header; with IPv6 a hop-by-hop header stands in front of TCP then.
 */
#ifndef DBF_SEGMENT_BPF_H
#define DBF_SEGMENT_BPF_H

#include "lib/bounded.bpf.h"

#define NEXTHDR_HOP 0
#define NEXTHDR_ROUTING 43
#define NEXTHDR_FRAGMENT 44
#define NEXTHDR_DEST 60
#define SEGMENT_EXT_MAX 8

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define TCP_URG 0x20

enum segment_kind {
	SEGMENT_TCP,
	SEGMENT_OTHER,  /* carried by something else: a tunnel's outer packet */
	SEGMENT_BROKEN, /* a fragment, or headers that are not understood */
};

struct segment { /* offsets from the network header */
	u32 tcp;
	u32 data;
	u32 len; /* of the payload */
	u32 seq;
	u32 ack;
	u8 flags;
	u8 v6;
	u8 kind; /* enum segment_kind */
	u8 pad;
};

/* Of the headers: the payload cannot be had in this way. */
#define segment_load(skb, off, to, len) bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET)

/* The protocol behind the fixed header and all extension headers; *off becomes its place. */
static __always_inline int segment_skip_extensions(struct __sk_buff *skb, u32 next, u32 *off)
{
	u8 ext[2];

	for (u32 i = 0; i < SEGMENT_EXT_MAX; i++) {
		if (next != NEXTHDR_HOP && next != NEXTHDR_ROUTING && next != NEXTHDR_DEST)
			return next;
		if (segment_load(skb, *off, ext, sizeof(ext)))
			return -1;
		next = ext[0];
		*off += ((u32)ext[1] + 1) * 8;
	}
	return -1;
}

static __always_inline int segment_network4(struct __sk_buff *skb, struct segment *p, const u8 *ip)
{
	if (ip[9] != IPPROTO_TCP)
		return SEGMENT_OTHER;
	if (((u32)ip[6] << 8 | ip[7]) & 0x3fff)
		return SEGMENT_BROKEN;
	p->tcp = (u32)(ip[0] & 0xf) * 4;
	return SEGMENT_TCP;
}

static __always_inline int segment_network6(struct __sk_buff *skb, struct segment *p, const u8 *ip)
{
	int next;

	p->tcp = 40;
	next = segment_skip_extensions(skb, ip[6], &p->tcp);
	if (next == IPPROTO_TCP)
		return SEGMENT_TCP;
	return next < 0 || next == NEXTHDR_FRAGMENT ? SEGMENT_BROKEN : SEGMENT_OTHER;
}

/* @total: bytes from the network header on; 0 when the caller does not know them, and the IP header has none. */
static __always_inline int segment_transport(struct __sk_buff *skb, struct segment *p, u32 total)
{
	u8 tcp[20];

	if (segment_load(skb, p->tcp, tcp, sizeof(tcp)))
		return SEGMENT_BROKEN;
	p->seq = (u32)tcp[4] << 24 | (u32)tcp[5] << 16 | (u32)tcp[6] << 8 | tcp[7];
	p->ack = (u32)tcp[8] << 24 | (u32)tcp[9] << 16 | (u32)tcp[10] << 8 | tcp[11];
	p->flags = tcp[13];
	p->data = p->tcp + (tcp[12] >> 4) * 4;
	if (tcp[12] >> 4 < 5 || total < p->data)
		return SEGMENT_BROKEN;
	p->len = total - p->data;
	return SEGMENT_TCP;
}

/*
 * @link: bytes in front of the network header, which skb->len counts: 0 in cgroup programs. Needed only for packets
 * above 64 KB. Returns p->kind.
 */
GLOBAL_FN int segment_parse(struct __sk_buff *skb, struct segment *p, u32 link)
{
	u32 total;
	u8 ip[20];

	if (!p)
		return SEGMENT_BROKEN;
	p->kind = SEGMENT_BROKEN;
	if (segment_load(skb, 0, ip, sizeof(ip)))
		return SEGMENT_BROKEN;
	p->v6 = ip[0] >> 4 == 6;
	if (p->v6) {
		total = (u32)ip[4] << 8 | ip[5];
		total = total ? total + 40 : 0;
		p->kind = segment_network6(skb, p, ip);
	} else if (ip[0] >> 4 == 4) {
		total = (u32)ip[2] << 8 | ip[3];
		p->kind = segment_network4(skb, p, ip);
	} else {
		p->kind = SEGMENT_OTHER;
	}
	if (p->kind != SEGMENT_TCP)
		return p->kind;
	if (!total)
		total = skb->len - link;
	p->kind = segment_transport(skb, p, total);
	return p->kind;
}

#endif
