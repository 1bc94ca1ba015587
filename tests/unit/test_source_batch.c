// SPDX-License-Identifier: Apache-2.0
/* source/batch: every kind of fact, and every length that a record, a header or a fact may lie about. */
#include "../lib/test.h"

#include <stdlib.h>

#include "source/batch.h"

static const size_t heads[DBF_FACT_MAX] = {
	[DBF_FACT_OPEN] = sizeof(struct dbf_session), [DBF_FACT_PARSE] = sizeof(struct dbf_text),
	[DBF_FACT_EXEC] = sizeof(struct dbf_exec), [DBF_FACT_NESTED] = sizeof(struct dbf_nested),
	[DBF_FACT_REPLY] = sizeof(struct dbf_reply), [DBF_FACT_ERROR] = sizeof(struct dbf_error),
	[DBF_FACT_VERDICT] = sizeof(struct dbf_verdict), [DBF_FACT_REPLICATION] = sizeof(struct dbf_text),
};

struct record {
	unsigned char bytes[4096] __attribute__((aligned(8)));
	size_t len;
};

static void record_begin(struct record *r)
{
	struct dbf_batch b = { .abi = DBF_ABI_VERSION, .len = sizeof(b), .tgid = 1, .session = 2 };

	memset(r->bytes, 0, sizeof(r->bytes));
	memcpy(r->bytes, &b, sizeof(b));
	r->len = sizeof(b);
}

static void record_set_len(struct record *r, size_t len)
{
	uint32_t n = (uint32_t)len;

	memcpy(r->bytes + offsetof(struct dbf_batch, len), &n, sizeof(n));
}

/* A fact with @extra bytes behind its head, all with the value of its kind. */
static void record_add(struct record *r, uint16_t kind, size_t head, size_t extra, bool pad)
{
	struct dbf_fact f = { .kind = kind, .len = (uint16_t)(sizeof(f) + head + extra), .arg = kind * 100U, .ts = kind };

	memcpy(r->bytes + r->len, &f, sizeof(f));
	memset(r->bytes + r->len + sizeof(f), kind, head + extra);
	r->len += pad ? (f.len + 7U) & ~7UL : f.len;
	record_set_len(r, r->len);
}

/* An exact copy, so that a read beyond it is seen by the sanitizers. */
static unsigned walk(const struct record *r, size_t len, bool *opened, bool *bad)
{
	unsigned char *copy = malloc(len ? len : 1);
	struct batch_iter it;
	struct batch_fact f;
	unsigned cnt = 0;

	*opened = *bad = false;
	if (!CHECK(copy))
		return 0;
	memcpy(copy, r->bytes, len);
	if (batch_open(copy, len, &it)) {
		*opened = true;
		while (batch_next(&it, &f)) {
			volatile unsigned sum = 0;

			for (size_t i = 0; i < heads[f.kind]; i++)
				sum += ((const unsigned char *)f.head)[i];
			for (size_t i = 0; i < f.len; i++)
				sum += (unsigned char)f.bytes[i];
			cnt++;
		}
		*bad = it.bad;
		CHECK(!batch_next(&it, &f));
	}
	free(copy);
	return cnt;
}

static void test_batch_kinds(void)
{
	for (uint16_t kind = 1; kind < DBF_FACT_MAX; kind++)
		for (size_t extra = 0; extra < 20; extra++) {
			struct batch_iter it;
			struct batch_fact f;
			struct record r;

			record_begin(&r);
			record_add(&r, kind, heads[kind], extra, true);
			record_add(&r, DBF_FACT_XID, 0, 0, true);
			if (!CHECK(batch_open(r.bytes, r.len, &it)) || !CHECK(batch_next(&it, &f)))
				continue;
			CHECK_INT(f.kind, kind);
			CHECK_INT(f.arg, kind * 100);
			CHECK_INT(f.ts, kind);
			CHECK_INT(f.len, extra);
			CHECK(!f.head == !heads[kind]);
			CHECK(!heads[kind] || (*(const unsigned char *)f.head == kind && !((uintptr_t)f.head & 7)));
			for (size_t i = 0; i < extra; i++)
				CHECK_INT(f.bytes[i], kind);
			CHECK(batch_next(&it, &f));
			CHECK_INT(f.kind, DBF_FACT_XID);
			CHECK(!batch_next(&it, &f));
			CHECK(!it.bad);
		}
}

static void test_batch_header(void)
{
	bool opened, bad;
	struct record r;

	record_begin(&r);
	for (size_t len = 0; len < sizeof(struct dbf_batch); len++) {
		walk(&r, len, &opened, &bad);
		CHECK_MSG(!opened, "%zu bytes", len);
	}
	CHECK_INT(walk(&r, r.len, &opened, &bad), 0);
	CHECK(opened && !bad);
	for (size_t len = 0; len < sizeof(struct dbf_batch); len++) {
		record_set_len(&r, len);
		walk(&r, r.len, &opened, &bad);
		CHECK_MSG(!opened, "a header that says %zu", len);
	}
	record_set_len(&r, r.len + 1);
	walk(&r, r.len, &opened, &bad);
	CHECK(!opened);
	record_set_len(&r, UINT32_MAX);
	walk(&r, r.len, &opened, &bad);
	CHECK(!opened);
	record_begin(&r);
	r.bytes[0] ^= 0x80;
	walk(&r, r.len, &opened, &bad);
	CHECK(!opened);
}

/* Cut at every byte: whole facts only, and the rest is said to be bad. */
static void test_batch_cut(void)
{
	struct record r;
	size_t ends[DBF_FACT_MAX + 1];
	unsigned facts = 0;
	bool opened, bad;

	record_begin(&r);
	ends[0] = r.len;
	for (uint16_t kind = 1; kind < DBF_FACT_MAX; kind++) {
		record_add(&r, kind, heads[kind], 3, true);
		ends[++facts] = r.len;
	}
	for (size_t len = sizeof(struct dbf_batch); len <= r.len; len++) {
		struct record cut = r;
		unsigned whole = 0, got;
		bool boundary;

		while (whole < facts && ends[whole + 1] <= len)
			whole++;
		/* The last fact's padding may be missing. */
		boundary = len == ends[whole] || (whole < facts && len >= ends[whole + 1] - 5);
		if (whole < facts && len >= ends[whole + 1] - 5)
			whole++;
		record_set_len(&cut, len);
		got = walk(&cut, len, &opened, &bad);
		CHECK(opened);
		CHECK_MSG(got == whole, "%zu bytes: %u facts, expected %u", len, got, whole);
		CHECK_MSG(bad == !boundary, "%zu bytes: bad is %d", len, bad);
	}
	/* More in the record than its header says is not looked at. */
	record_set_len(&r, ends[1]);
	CHECK_INT(walk(&r, r.len, &opened, &bad), 1);
	CHECK(!bad);
}

static void test_batch_fact_lengths(void)
{
	for (unsigned kind = 0; kind <= DBF_FACT_MAX + 1; kind++)
		for (uint32_t len = 0; len < 700; len++) {
			struct dbf_fact f = { .kind = (uint16_t)kind, .len = (uint16_t)len };
			bool known = kind && kind < DBF_FACT_MAX, opened, bad, good;
			struct record r;
			unsigned got;

			record_begin(&r);
			memcpy(r.bytes + r.len, &f, sizeof(f));
			r.len += 512;
			record_set_len(&r, r.len);
			good = known && len <= 512 && len >= sizeof(f) + heads[kind];
			got = walk(&r, r.len, &opened, &bad);
			/* What follows a good one is zeros: no fact. */
			CHECK_MSG(got == good, "kind %u, length %u: %u facts", kind, len, got);
			CHECK_MSG(bad == !(good && len > 504), "kind %u, length %u: bad is %d", kind, len, bad);
		}
	for (uint32_t len = 65000; len <= UINT16_MAX; len++) {
		struct dbf_fact f = { .kind = DBF_FACT_TEXT, .len = (uint16_t)len };
		bool opened, bad;
		struct record r;

		record_begin(&r);
		memcpy(r.bytes + r.len, &f, sizeof(f));
		r.len += sizeof(f);
		record_set_len(&r, r.len);
		CHECK_INT(walk(&r, r.len, &opened, &bad), 0);
		CHECK(bad);
	}
}

static const struct test_case cases[] = {
	{ "batch_kinds", test_batch_kinds },
	{ "batch_header", test_batch_header },
	{ "batch_cut", test_batch_cut },
	{ "batch_fact_lengths", test_batch_fact_lengths },
};

TEST_MAIN(cases)
