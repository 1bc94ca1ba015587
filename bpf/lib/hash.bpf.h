/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rank 4. SipHash-2-4 with 128 bits of output over a text, the same function as libsodium's crypto_shorthash_siphashx24:
 * a keyed hash, because a client must not be able to make two texts collide.
 */
#ifndef DBF_HASH_BPF_H
#define DBF_HASH_BPF_H

#include "lib/maps.bpf.h"

struct siphash {
	u64 v0, v1, v2, v3;
	const struct piece *text;
};

#define siphash_rotl(x, n) (((x) << (n)) | ((x) >> (64 - (n))))
#define SIPROUND(h) \
	do { \
		(h)->v0 += (h)->v1; (h)->v1 = siphash_rotl((h)->v1, 13); (h)->v1 ^= (h)->v0; \
		(h)->v0 = siphash_rotl((h)->v0, 32); \
		(h)->v2 += (h)->v3; (h)->v3 = siphash_rotl((h)->v3, 16); (h)->v3 ^= (h)->v2; \
		(h)->v0 += (h)->v3; (h)->v3 = siphash_rotl((h)->v3, 21); (h)->v3 ^= (h)->v0; \
		(h)->v2 += (h)->v1; (h)->v1 = siphash_rotl((h)->v1, 17); (h)->v1 ^= (h)->v2; \
		(h)->v2 = siphash_rotl((h)->v2, 32); \
	} while (0)

static __always_inline u64 siphash_word(const struct piece *text, u32 index)
{
	return *(const u64 *)&text->bytes[bounded_max(index, DBF_TEXT_CHUNK / 8) * 8];
}

static long siphash_step(u32 i, struct siphash *h)
{
	u64 m = siphash_word(h->text, i);

	h->v3 ^= m;
	SIPROUND(h);
	SIPROUND(h);
	h->v0 ^= m;
	return 0;
}

/* Of the first @len bytes. */
GLOBAL_FN int siphash_text(const struct piece *text, u32 len, struct hash128 *out)
{
	struct dbf_config *cfg = config_get();
	struct siphash h;
	u32 tail = len & 7;
	u64 last = (u64)len << 56;

	if (!text || !out || !cfg)
		return 0;
	h = (struct siphash){
		.v0 = cfg->key[0] ^ 0x736f6d6570736575ULL,
		.v1 = cfg->key[1] ^ 0x646f72616e646f6dULL ^ 0xee,
		.v2 = cfg->key[0] ^ 0x6c7967656e657261ULL,
		.v3 = cfg->key[1] ^ 0x7465646279746573ULL,
		.text = text,
	};
	bpf_loop(bounded_max(len / 8, DBF_TEXT_CHUNK / 8), siphash_step, &h, 0);
	if (tail)
		last |= siphash_word(text, len / 8) & (~0ULL >> (64 - 8 * tail));
	h.v3 ^= last;
	SIPROUND(&h);
	SIPROUND(&h);
	h.v0 ^= last;
	h.v2 ^= 0xee;
	SIPROUND(&h);
	SIPROUND(&h);
	SIPROUND(&h);
	SIPROUND(&h);
	out->words[0] = h.v0 ^ h.v1 ^ h.v2 ^ h.v3;
	h.v1 ^= 0xdd;
	SIPROUND(&h);
	SIPROUND(&h);
	SIPROUND(&h);
	SIPROUND(&h);
	out->words[1] = h.v0 ^ h.v1 ^ h.v2 ^ h.v3;
	return 0;
}

#endif
