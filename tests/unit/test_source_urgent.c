// SPDX-License-Identifier: Apache-2.0
/* ring.c and urgent.c on a ring in a memory file: order, what is passed over, short before long, the end of the buffer. */
#include "../lib/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dbfence/abi/wire.h"
#include "source/urgent.h"

#define RING_BYTES 65536
#define BUSY (1U << 31)
#define DISCARD (1U << 30)

static struct {
	int fd;
	unsigned char *pages;	/* as the kernel writes: consumer, producer, data; user space sees the data twice */
	uint64_t producer;
	struct ring *ring;
	struct urgent *urgent;
	char seen[256];
} rig;

static size_t page(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static void rig_start(uint64_t first)
{
	size_t size = 2 * page() + 2 * RING_BYTES;

	rig.fd = memfd_create("ring", MFD_CLOEXEC);
	CHECK(rig.fd >= 0 && !ftruncate(rig.fd, (off_t)size));
	rig.pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, rig.fd, 0);
	CHECK(rig.pages != MAP_FAILED);
	rig.producer = first;
	*(uint64_t *)(void *)rig.pages = first;
	*(uint64_t *)(void *)(rig.pages + page()) = first;
	rig.ring = ring_open(rig.fd, RING_BYTES);
	CHECK(rig.ring != NULL);
	rig.urgent = urgent_new(rig.ring);
	rig.seen[0] = '\0';
}

static void rig_stop(void)
{
	urgent_free(rig.urgent);
	ring_close(rig.ring);
	munmap(rig.pages, 2 * page() + 2 * RING_BYTES);
	close(rig.fd);
}

static void put_record(const void *bytes, uint32_t head_flags, size_t len)
{
	unsigned char *data = rig.pages + 2 * page();
	uint32_t head = (uint32_t)len | head_flags;
	unsigned char record[4096] = { 0 };

	memcpy(record, &head, sizeof(head));
	memcpy(record + 8, bytes, len);
	for (size_t i = 0; i < ((8 + len + 7) & ~7UL); i++) {
		size_t at = (rig.producer + i) & (RING_BYTES - 1);

		data[at] = data[at + RING_BYTES] = record[i];
	}
	rig.producer += (8 + len + 7) & ~7UL;
	*(uint64_t *)(void *)(rig.pages + page()) = rig.producer;
}

/* A record of @session, numbered by its seq. */
static void put(char session, uint32_t seq, uint16_t flags, uint32_t head_flags, size_t len)
{
	struct dbf_batch b = { .abi = DBF_ABI_VERSION, .flags = flags, .session = (uint64_t)session, .tgid = 1, .seq = seq };

	put_record(&b, head_flags, len);
}

/* Of a connection: its name in capitals. */
static void put_wire(char conn, int dir, uint32_t seq, uint16_t flags)
{
	struct dbf_wire w = { .abi = DBF_WIRE_ABI, .len = sizeof(w), .flags = flags, .conn = (uint64_t)(conn - 'A' + 'a'),
			      .dir = (uint8_t)dir, .seq = seq };

	put_record(&w, 0, sizeof(w));
}

static void put_plain(char session, uint32_t seq)
{
	put(session, seq, 0, 0, sizeof(struct dbf_batch));
}

static void put_held(char session, uint32_t seq, uint16_t more)
{
	put(session, seq, DBF_BATCH_HOLD | more, 0, sizeof(struct dbf_batch));
}

static void see(void *ctx, const void *record, size_t len)
{
	const struct dbf_batch *b = record;
	const struct dbf_wire *w = record;
	size_t at = strlen(rig.seen);

	(void)ctx;
	if (len >= sizeof(*w) && w->abi == DBF_WIRE_ABI)
		snprintf(rig.seen + at, sizeof(rig.seen) - at, "%c%c%u ", (char)w->conn - 'a' + 'A', w->dir ? '<' : '>', w->seq);
	else if (len < sizeof(*b))
		snprintf(rig.seen + at, sizeof(rig.seen) - at, "short ");
	else
		snprintf(rig.seen + at, sizeof(rig.seen) - at, "%c%u ", (char)b->session, b->seq);
}

/* As the worker does: who waits, then one of the others. */
static void drain(void)
{
	do {
		while (urgent_take(rig.urgent, see, NULL))
			;
	} while (ring_consume(rig.ring, 1, see, NULL));
}

static void test_held_first(void)
{
	rig_start(0);
	for (uint32_t i = 0; i < 3; i++)
		put_plain('a', i);
	put_plain('b', 0);
	put_plain('a', 3);
	put_held('b', 1, 0);
	put_plain('b', 2);
	drain();
	CHECK_STR(rig.seen, "b0 b1 a0 a1 a2 a3 b2 ");
	CHECK_INT(ring_backlog(rig.ring), 0);
	rig_stop();
}

/* A connection's records, both directions in their order, before what is anybody else's; a session of the same name is another. */
static void test_wire(void)
{
	rig_start(0);
	put_plain('a', 0);
	put_wire('A', 1, 0, 0);
	put_wire('B', 0, 0, 0);
	put_wire('A', 0, 0, 0);
	put_wire('A', 0, 1, DBF_BATCH_HOLD);
	put_wire('A', 0, 2, 0);
	put_held('a', 1, 0);
	put_wire('B', 0, 1, DBF_BATCH_HOLD | DBF_BATCH_HOLD_LONG);
	drain();
	CHECK_STR(rig.seen, "A<0 A>0 A>1 a0 a1 B>0 B>1 A>2 ");
	rig_stop();
}

/* Of several that wait the short texts, then in the order in which they came. */
static void test_short_before_long(void)
{
	rig_start(0);
	put_plain('x', 0);
	put_held('a', 0, DBF_BATCH_HOLD_LONG);
	put_held('b', 0, DBF_BATCH_HOLD_LONG);
	put_held('c', 0, 0);
	put_held('d', 0, 0);
	drain();
	CHECK_STR(rig.seen, "c0 d0 a0 b0 x0 ");
	rig_stop();
}

/* One session twice: never out of its own order, nothing twice. */
static void test_own_order(void)
{
	rig_start(0);
	put_held('a', 0, DBF_BATCH_HOLD_LONG);
	put_plain('x', 0);
	put_held('a', 1, 0);
	put_plain('a', 2);
	drain();
	CHECK_STR(rig.seen, "a0 a1 x0 a2 ");
	rig_stop();
}

/* What comes between two records is seen before the second. */
static void test_comes_meanwhile(void)
{
	rig_start(0);
	put_plain('a', 0);
	put_plain('a', 1);
	CHECK(!urgent_take(rig.urgent, see, NULL));
	ring_consume(rig.ring, 1, see, NULL);
	put_held('b', 0, 0);
	drain();
	CHECK_STR(rig.seen, "a0 b0 a1 ");
	rig_stop();
}

/* Discarded and short records are passed over; nothing behind one that is being written is touched. */
static void test_odd_records(void)
{
	rig_start(0);
	put('b', 7, DBF_BATCH_HOLD, DISCARD, sizeof(struct dbf_batch));
	put('b', 0, 0, 0, 3);
	put_held('b', 0, 0);
	put('c', 0, DBF_BATCH_HOLD, BUSY, sizeof(struct dbf_batch));
	put_held('d', 0, 0);
	drain();
	CHECK_STR(rig.seen, "b0 short ");
	rig_stop();
}

/* Over the end of the buffer, many times: a place that was passed over once is not passed over for ever. */
static void test_wraps(void)
{
	char want[64];
	uint32_t n = 0;

	rig_start((uint64_t)RING_BYTES * 5 - 64);
	for (unsigned round = 0; round < 20000; round++) {
		put_plain('a', n);
		put_held('b', n, 0);
		put_plain('a', n + 1);
		rig.seen[0] = '\0';
		drain();
		snprintf(want, sizeof(want), "b%u a%u a%u ", n, n, n + 1);
		if (!CHECK_STR(rig.seen, want))
			break;
		n += 2;
	}
	CHECK_INT(ring_backlog(rig.ring), 0);
	rig_stop();
}

static const struct test_case cases[] = {
	{ "held_first", test_held_first },	   { "short_before_long", test_short_before_long },
	{ "own_order", test_own_order },	   { "comes_meanwhile", test_comes_meanwhile },
	{ "wire", test_wire },
	{ "odd_records", test_odd_records },	   { "wraps", test_wraps },
};

TEST_MAIN(cases)
