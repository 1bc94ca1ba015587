/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Captures for tests: a reader of classic pcap files (Ethernet, IPv4 and IPv6, TCP), and a follower that gives the bytes
 * of one direction in their order, each once. Both believe no length.
 */
#ifndef DBFENCE_TESTS_PCAP_H
#define DBFENCE_TESTS_PCAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PCAP_MAGIC 0xa1b2c3d4U /* microseconds, of this machine's byte order */
#define PCAP_ETHERNET 1

enum pcap_flag { PCAP_FIN = 1, PCAP_SYN = 2, PCAP_RST = 4, PCAP_ACK = 16 };

struct pcap_reader {
	const unsigned char *at;
	const unsigned char *end;
	bool bad; /* it is no such file, or ends in the middle of a packet */
};

struct pcap_end {
	unsigned char addr[16]; /* IPv4 mapped */
	uint16_t port;
};

struct pcap_segment {
	uint64_t ns;
	struct pcap_end from, to;
	uint32_t seq;
	uint8_t flags; /* enum pcap_flag */
	const unsigned char *bytes; /* borrowed: by the file */
	size_t len;
};

static inline uint16_t pcap_u16(const unsigned char *b)
{
	return (uint16_t)(b[0] << 8 | b[1]);
}

static inline uint32_t pcap_u32(const unsigned char *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static inline void pcap_open(struct pcap_reader *r, const void *file, size_t len)
{
	uint32_t head[6] = { 0 };

	*r = (struct pcap_reader){ .at = file, .end = (const unsigned char *)file + len };
	if (len >= sizeof(head))
		memcpy(head, file, sizeof(head));
	r->bad = head[0] != PCAP_MAGIC || head[5] != PCAP_ETHERNET;
	if (!r->bad)
		r->at += sizeof(head);
}

static inline void pcap_mapped(unsigned char addr[16], const unsigned char *v4)
{
	memset(addr, 0, 10);
	memset(addr + 10, 0xff, 2);
	memcpy(addr + 12, v4, 4);
}

/* Cuts *len to what the packet says of itself; the TCP header, or NULL. */
static inline const unsigned char *pcap_ip(struct pcap_segment *s, const unsigned char *ip, size_t *len)
{
	size_t head = 40, all;

	if (*len >= 20 && ip[0] >> 4 == 4) {
		head = (size_t)(ip[0] & 15) * 4;
		all = pcap_u16(ip + 2);
		if (head < 20 || ip[9] != 6 || pcap_u16(ip + 6) & 0x3fff)
			return NULL;
		pcap_mapped(s->from.addr, ip + 12);
		pcap_mapped(s->to.addr, ip + 16);
	} else if (*len >= 40 && ip[0] >> 4 == 6) {
		all = 40 + (size_t)pcap_u16(ip + 4);
		if (ip[6] != 6)
			return NULL;
		memcpy(s->from.addr, ip + 8, 16);
		memcpy(s->to.addr, ip + 24, 16);
	} else {
		return NULL;
	}
	if (all > *len || all < head)
		return NULL;
	*len = all - head;
	return ip + head;
}

static inline bool pcap_frame(struct pcap_segment *s, const unsigned char *frame, size_t len)
{
	const unsigned char *tcp;
	size_t head;

	if (len < 14 || (pcap_u16(frame + 12) != 0x0800 && pcap_u16(frame + 12) != 0x86dd))
		return false;
	len -= 14;
	tcp = pcap_ip(s, frame + 14, &len);
	if (!tcp || len < 20)
		return false;
	head = (size_t)(tcp[12] >> 4) * 4;
	if (head < 20 || head > len)
		return false;
	s->from.port = pcap_u16(tcp);
	s->to.port = pcap_u16(tcp + 2);
	s->seq = pcap_u32(tcp + 4);
	s->flags = tcp[13];
	s->bytes = tcp + head;
	s->len = len - head;
	return true;
}

/* The next TCP segment; false at the end. */
static inline bool pcap_next(struct pcap_reader *r, struct pcap_segment *s)
{
	uint32_t head[4];

	while (!r->bad && r->at < r->end) {
		const unsigned char *frame = r->at + sizeof(head);
		size_t left = (size_t)(r->end - r->at);

		if (left >= sizeof(head))
			memcpy(head, r->at, sizeof(head));
		if (left < sizeof(head) || head[2] > left - sizeof(head)) {
			r->bad = true;
			return false;
		}
		r->at = frame + head[2];
		memset(s, 0, sizeof(*s));
		s->ns = head[0] * 1000000000ULL + head[1] * 1000ULL;
		if (head[2] == head[3] && pcap_frame(s, frame, head[2]))
			return true;
	}
	return false;
}

/* --- one direction's bytes in their order --- */

#define FOLLOW_KEPT 256

struct follow_kept {
	uint32_t seq;
	size_t len;
	unsigned char *bytes; /* owned */
};

struct follow {
	bool begun;
	uint32_t next;
	struct follow_kept kept[FOLLOW_KEPT]; /* that came before their turn, in no order */
	unsigned kept_cnt;
	unsigned again, early; /* segments that brought nothing new, or too early */
	bool full; /* one had to be given up */
	void (*take)(void *ctx, const void *bytes, size_t len);
	void *ctx;
};

static inline void follow_begin(struct follow *f, uint32_t next)
{
	f->begun = true;
	f->next = next;
}

static inline void follow_keep(struct follow *f, uint32_t seq, const unsigned char *bytes, size_t len)
{
	struct follow_kept *k = &f->kept[f->kept_cnt];

	f->early++;
	if (f->kept_cnt == FOLLOW_KEPT) {
		f->full = true;
		return;
	}
	*k = (struct follow_kept){ .seq = seq, .len = len, .bytes = malloc(len) };
	if (!k->bytes)
		abort();
	memcpy(k->bytes, bytes, len);
	f->kept_cnt++;
}

/* False when it is not its turn. */
static inline bool follow_take(struct follow *f, uint32_t seq, const unsigned char *bytes, size_t len)
{
	uint32_t known = f->next - seq;

	if ((int32_t)known < 0)
		return false;
	if (known >= len) {
		f->again++;
		return true;
	}
	f->next += (uint32_t)len - known;
	f->take(f->ctx, bytes + known, len - known);
	return true;
}

static inline void follow_feed(struct follow *f, uint32_t seq, const unsigned char *bytes, size_t len)
{
	if (!len)
		return;
	if (!follow_take(f, seq, bytes, len)) {
		follow_keep(f, seq, bytes, len);
		return;
	}
	for (unsigned i = 0; i < f->kept_cnt; i++) {
		struct follow_kept k = f->kept[i];

		if (!follow_take(f, k.seq, k.bytes, k.len))
			continue;
		free(k.bytes);
		f->kept[i] = f->kept[--f->kept_cnt];
		i = UINT32_MAX; /* anew: others may be next now */
	}
}

static inline void follow_fini(struct follow *f)
{
	while (f->kept_cnt)
		free(f->kept[--f->kept_cnt].bytes);
}

#endif
