// SPDX-License-Identifier: Apache-2.0
/* source/wire: items as they were put in, and every length that a record or an item may lie about. */
#include "../lib/test.h"

#include <stdlib.h>

#include "source/wire.h"

struct record {
	unsigned char bytes[1024] __attribute__((aligned(8)));
	size_t len;
};

static void begin(struct record *r)
{
	struct dbf_wire w = { .abi = DBF_WIRE_ABI, .len = sizeof(w), .conn = 1, .dir = DBF_WIRE_SERVER };

	memset(r->bytes, 0, sizeof(r->bytes));
	memcpy(r->bytes, &w, sizeof(w));
	r->len = sizeof(w);
}

static void add(struct record *r, uint8_t type, uint16_t captured)
{
	struct dbf_wire_item item = { .type = type, .captured = captured, .length = type * 100U };
	uint32_t len;

	memcpy(r->bytes + r->len, &item, sizeof(item));
	memset(r->bytes + r->len + sizeof(item), type, captured);
	r->len += (sizeof(item) + captured + 7U) & ~7UL;
	len = (uint32_t)r->len;
	memcpy(r->bytes + offsetof(struct dbf_wire, len), &len, sizeof(len));
}

/* From an exact copy, so that a read beyond it is seen. */
static unsigned walk(const struct record *r, size_t len, bool *opened, bool *bad)
{
	unsigned char *copy = malloc(len ? len : 1);
	struct wire_item item;
	struct wire_iter it;
	unsigned cnt = 0;

	*opened = *bad = false;
	if (!CHECK(copy))
		return 0;
	memcpy(copy, r->bytes, len);
	*opened = wire_open(copy, len, &it);
	while (*opened && wire_next(&it, &item)) {
		CHECK_INT(item.head.length, item.head.type * 100U);
		for (unsigned i = 0; i < item.head.captured; i++)
			CHECK_INT(item.bytes[i], item.head.type);
		cnt++;
	}
	*bad = *opened && it.bad;
	free(copy);
	return cnt;
}

static void sample(struct record *r)
{
	begin(r);
	add(r, DBF_WIRE_OPEN, sizeof(struct dbf_wire_open));
	add(r, DBF_WIRE_WHO, sizeof(struct dbf_wire_who));
	add(r, 'Q', 13);
	add(r, DBF_WIRE_MORE, 1);
	add(r, DBF_WIRE_VERDICT, sizeof(struct dbf_verdict));
	add(r, 'Z', 0);
}

static void test_items(void)
{
	bool opened, bad;
	struct record r;

	sample(&r);
	CHECK_INT(walk(&r, r.len, &opened, &bad), 6);
	CHECK(opened && !bad);
	begin(&r);
	CHECK_INT(walk(&r, r.len, &opened, &bad), 0);
	CHECK(opened && !bad);
}

static void test_headers(void)
{
	struct dbf_wire w = { .abi = DBF_WIRE_ABI, .len = sizeof(w) };
	struct wire_iter it;

	CHECK(wire_is_record(&w, sizeof(w)) && wire_open(&w, sizeof(w), &it));
	CHECK(!wire_is_record(&w, 1) && !wire_open(&w, sizeof(w) - 1, &it));
	w.len = sizeof(w) + 1;
	CHECK(!wire_open(&w, sizeof(w), &it));
	w.len = sizeof(w) - 1;
	CHECK(!wire_open(&w, sizeof(w), &it));
	w.len = sizeof(w);
	w.dir = 2;
	CHECK(!wire_open(&w, sizeof(w), &it));
	w.dir = 0;
	w.seen_by = 2;
	CHECK(!wire_open(&w, sizeof(w), &it));
	w.seen_by = 0;
	w.abi = DBF_ABI_VERSION;
	CHECK(!wire_is_record(&w, sizeof(w)) && !wire_open(&w, sizeof(w), &it));
}

/* However short the record: no item that is not whole, and what is left over is bad. */
static void test_cuts(void)
{
	bool opened, bad;
	struct record r;
	size_t full;

	sample(&r);
	full = r.len;
	for (size_t len = 0; len < full; len++) {
		uint32_t n = (uint32_t)len;

		memcpy(r.bytes + offsetof(struct dbf_wire, len), &n, sizeof(n));
		CHECK(walk(&r, len, &opened, &bad) < 6 || len + 7 >= full);
		CHECK_INT(opened, len >= sizeof(struct dbf_wire));
	}
}

static void test_lies(void)
{
	static const struct {
		uint8_t type;
		uint16_t captured;
	} lies[] = { { DBF_WIRE_NONE, 0 }, { DBF_WIRE_TYPE_MAX, 0 }, { 31, 0 },
		     { DBF_WIRE_OPEN, sizeof(struct dbf_wire_open) - 1 }, { DBF_WIRE_WHO, sizeof(struct dbf_wire_who) - 1 },
		     { DBF_WIRE_VERDICT, sizeof(struct dbf_verdict) - 1 }, { DBF_WIRE_VERDICT, 0 } };
	uint16_t beyond = 9;
	bool opened, bad;
	struct record r;

	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		begin(&r);
		add(&r, 'Z', 1);
		add(&r, lies[i].type, lies[i].captured);
		CHECK_INT(walk(&r, r.len, &opened, &bad), 1);
		CHECK_MSG(bad, "lie %zu", i);
	}
	begin(&r);
	add(&r, 'Q', 8);
	memcpy(r.bytes + sizeof(struct dbf_wire) + offsetof(struct dbf_wire_item, captured), &beyond, sizeof(beyond));
	CHECK_INT(walk(&r, r.len, &opened, &bad), 0);
	CHECK(bad);
}

static const struct test_case cases[] = {
	{ "items", test_items }, { "headers", test_headers }, { "cuts", test_cuts }, { "lies", test_lies },
};

TEST_MAIN(cases)
