// SPDX-License-Identifier: Apache-2.0
#include "source/ring.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* The kernel's record header, from include/uapi/linux/bpf.h. */
#define RING_BUSY (1U << 31)
#define RING_DISCARD (1U << 30)
#define RING_HEADER 8

struct ring {
	unsigned long *consumer_pos; /* one page, ours to write */
	unsigned long *producer_pos; /* one page, then the data twice */
	const unsigned char *data;
	size_t bytes;
	size_t page;
	uint64_t *taken; /* owned: a bit for each 8 bytes, set where a record was taken out of its turn */
};

struct ring *ring_open(int map_fd, size_t bytes)
{
	struct ring *r = calloc(1, sizeof(*r));
	void *map;
	int err;

	if (!r)
		return NULL;
	r->bytes = bytes;
	r->page = (size_t)sysconf(_SC_PAGESIZE);
	r->taken = calloc(bytes / 8 / 64 + 1, sizeof(*r->taken));
	if (!r->taken)
		goto fail;
	r->consumer_pos = mmap(NULL, r->page, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);
	if (r->consumer_pos == MAP_FAILED) {
		r->consumer_pos = NULL;
		goto fail;
	}
	map = mmap(NULL, r->page + 2 * bytes, PROT_READ, MAP_SHARED, map_fd, (off_t)r->page);
	if (map == MAP_FAILED)
		goto fail;
	r->producer_pos = map;
	r->data = (const unsigned char *)map + r->page;
	return r;
fail:
	err = errno;
	ring_close(r);
	errno = err;
	return NULL;
}

void ring_close(struct ring *ring)
{
	if (!ring)
		return;
	if (ring->consumer_pos)
		munmap(ring->consumer_pos, ring->page);
	if (ring->producer_pos)
		munmap(ring->producer_pos, ring->page + 2 * ring->bytes);
	free(ring->taken);
	free(ring);
}

size_t ring_backlog(const struct ring *ring)
{
	return __atomic_load_n(ring->producer_pos, __ATOMIC_ACQUIRE) - *ring->consumer_pos;
}

uint64_t ring_tail(const struct ring *ring)
{
	return *ring->consumer_pos;
}

static uint64_t *taken_word(const struct ring *ring, uint64_t pos, uint64_t *bit)
{
	uint64_t at = (pos & (ring->bytes - 1)) / 8;

	*bit = 1ULL << at % 64;
	return &ring->taken[at / 64];
}

static bool is_taken(const struct ring *ring, uint64_t pos)
{
	uint64_t bit, *word = taken_word(ring, pos, &bit);

	return *word & bit;
}

void ring_mark_taken(struct ring *ring, uint64_t pos)
{
	uint64_t bit, *word = taken_word(ring, pos, &bit);

	*word |= bit;
}

bool ring_peek(const struct ring *ring, uint64_t pos, const void **record, size_t *len, uint64_t *next)
{
	const unsigned char *at = ring->data + (pos & (ring->bytes - 1));
	uint32_t head;

	if (pos >= __atomic_load_n(ring->producer_pos, __ATOMIC_ACQUIRE))
		return false;
	head = __atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_ACQUIRE);
	if (head & RING_BUSY)
		return false;
	*len = head & ~RING_DISCARD;
	*next = pos + ((RING_HEADER + *len + 7) & ~7UL);
	*record = head & RING_DISCARD || is_taken(ring, pos) ? NULL : at + RING_HEADER;
	return true;
}

unsigned ring_consume(struct ring *ring, unsigned max, ring_record_fn fn, void *ctx)
{
	uint64_t pos = *ring->consumer_pos, next;
	const void *record;
	unsigned done = 0;
	size_t len;

	for (; done < max && ring_peek(ring, pos, &record, &len, &next); done++) {
		uint64_t bit, *word = taken_word(ring, pos, &bit);

		if (record)
			fn(ctx, record, len);
		*word &= ~bit;
		pos = next;
		__atomic_store_n(ring->consumer_pos, pos, __ATOMIC_RELEASE);
	}
	return done;
}
