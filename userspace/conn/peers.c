// SPDX-License-Identifier: Apache-2.0
#include "conn/peers.h"

#include <stdlib.h>

#include "conn/wire.h"

#define BUCKETS 8192 /* a power of two; no more peers than twice the sessions */

struct peers {
	struct peer *buckets[BUCKETS];
};

struct peers *peers_new(void)
{
	return calloc(1, sizeof(struct peers));
}

static struct peer **place(const struct peers *p, uint32_t pid, uint64_t start)
{
	uint64_t h = (start ^ (uint64_t)pid * 0x9e3779b97f4a7c15ULL) * 0xff51afd7ed558ccdULL;
	struct peer **at = (struct peer **)&p->buckets[h >> 32 & (BUCKETS - 1)];

	while (*at && ((*at)->pid != pid || (*at)->start != start))
		at = &(*at)->next;
	return at;
}

void peers_free(struct peers *p)
{
	for (unsigned i = 0; p && i < BUCKETS; i++)
		while (p->buckets[i]) {
			struct peer *peer = p->buckets[i];

			p->buckets[i] = peer->next;
			free(peer);
		}
	free(p);
}

struct peer *peers_find(const struct peers *p, uint32_t pid, uint64_t start)
{
	return *place(p, pid, start);
}

static struct peer *get(struct peers *p, uint32_t pid, uint64_t start)
{
	struct peer **at = place(p, pid, start);

	if (!*at) {
		*at = calloc(1, sizeof(**at));
		if (*at) {
			(*at)->pid = pid;
			(*at)->start = start;
		}
	}
	return *at;
}

static void put(struct peers *p, struct peer *peer)
{
	struct peer **at = place(p, peer->pid, peer->start);

	if (peer->clients || peer->wires)
		return;
	*at = peer->next;
	free(peer);
}

struct peer *peers_add_client(struct peers *p, uint32_t pid, uint64_t start)
{
	struct peer *peer = get(p, pid, start);

	if (peer)
		peer->clients++;
	return peer;
}

void peers_drop_client(struct peers *p, struct peer *peer)
{
	if (!peer)
		return;
	peer->clients--;
	put(p, peer);
}

struct peer *peers_add_wire(struct peers *p, uint32_t pid, uint64_t start, struct conn_wire *wire)
{
	struct peer *peer = get(p, pid, start);

	if (peer) {
		wire->next_here = peer->wires;
		peer->wires = wire;
	}
	return peer;
}

void peers_drop_wire(struct peers *p, struct peer *peer, struct conn_wire *wire)
{
	struct conn_wire **at;

	if (!peer)
		return;
	at = &peer->wires;
	while (*at && *at != wire)
		at = &(*at)->next_here;
	if (*at)
		*at = wire->next_here;
	put(p, peer);
}
