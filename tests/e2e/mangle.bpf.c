// SPDX-License-Identifier: Apache-2.0
/*
 * The disturbed path of the wire tests: of the TCP segments that come in by a device (SYNs pass) some are dropped, some come
 * twice, and some are taken out to a side device, whose other end tests/lib/mangler.py reads; what it gives back a little
 * later comes in here again, behind what followed. At the ingress a drop is a loss like any other: at the egress
 * the sender would be told of it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MARK 0x6d616e67		/* has been here before */
#define HELD_BYTES 60000	/* longer ones are not taken out: the reader's buffer has an end */

enum key { SEEN, DROPPED, DOUBLED, HELD, BACK, DROP_PERMILLE, DOUBLE_PERMILLE, HOLD_PERMILLE, DEVICE, SIDE, KEY_MAX };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KEY_MAX);
	__type(key, __u32);
	__type(value, __u64);
} mangle SEC(".maps");

static __u64 *slot(__u32 key)
{
	return bpf_map_lookup_elem(&mangle, &key);
}

static __u64 get(__u32 key)
{
	__u64 *value = slot(key);

	return value ? *value : 0;
}

static void count(__u32 key)
{
	__u64 *value = slot(key);

	if (value)
		__sync_fetch_and_add(value, 1);
}

/* A TCP segment of an established connection. */
static int is_segment(struct __sk_buff *skb)
{
	__u32 at = sizeof(struct ethhdr);
	__u8 protocol = 0, flags = 0, first = 0;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		bpf_skb_load_bytes(skb, at, &first, 1);
		bpf_skb_load_bytes(skb, at + offsetof(struct iphdr, protocol), &protocol, 1);
		at += (first & 15) * 4;
	} else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
		bpf_skb_load_bytes(skb, at + offsetof(struct ipv6hdr, nexthdr), &protocol, 1);
		at += sizeof(struct ipv6hdr);
	}
	return protocol == IPPROTO_TCP && !bpf_skb_load_bytes(skb, at + 13, &flags, 1) && !(flags & 2);
}

SEC("tc")
int mangle_in(struct __sk_buff *skb)
{
	__u64 chance = bpf_get_prandom_u32() % 1000, drop = get(DROP_PERMILLE), twice = drop + get(DOUBLE_PERMILLE);

	if (skb->mark == MARK || !is_segment(skb))
		return TC_ACT_OK;
	count(SEEN);
	if (chance < drop) {
		count(DROPPED);
		return TC_ACT_SHOT;
	}
	if (chance < twice) {
		skb->mark = MARK;
		if (!bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS))
			count(DOUBLED);
		return TC_ACT_OK;
	}
	if (chance < twice + get(HOLD_PERMILLE) && skb->len <= HELD_BYTES) {
		count(HELD);
		return bpf_redirect(get(SIDE), 0);
	}
	return TC_ACT_OK;
}

SEC("tc")
int mangle_back(struct __sk_buff *skb)
{
	count(BACK);
	skb->mark = MARK;
	return bpf_redirect(get(DEVICE), BPF_F_INGRESS);
}

char LICENSE[] SEC("license") = "Apache-2.0";
