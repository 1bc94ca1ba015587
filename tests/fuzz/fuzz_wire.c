// SPDX-License-Identifier: Apache-2.0
/*
 * A conversation made of the fuzzer's bytes: into a protocol tracker, and as kernel records through the whole pipeline.
 * What the tracker keeps for all connections is nothing when they are gone, and every record that comes out can be read.
 *
 * Input: for each item one byte of flags (1 the server says it, 2 more of it follows, 4 the next record, 8 a record is lost
 * before it, 16 another connection), one that chooses its type, one for its length, then its bytes. A verdict is these
 * bytes when there are enough, else one that the kernel could send, chosen by the first of them.
 */
#include <stdlib.h>
#include <string.h>

#include "audit/record.h"
#include "core/limits.h"
#include "dbfence/audit.pb-c.h"
#include "pipeline.h"
#include "proto/pgwire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RECORD_BYTES 4096

struct item {
	unsigned flags;
	struct dbf_wire_item head;
	const uint8_t *bytes;
	struct dbf_verdict verdict;
};

enum flag { SERVER = 1, MORE = 2, FLUSH = 4, LOST = 8, OTHER = 16 };

static struct record_arena arena;

static void must(bool ok)
{
	if (!ok)
		abort();
}

static unsigned byte_of(const struct item *item, unsigned i)
{
	return i < item->head.captured ? item->bytes[i] : 0;
}

static void choose_verdict(struct item *item)
{
	unsigned b = byte_of(item, 0);

	item->verdict = (struct dbf_verdict){ .gate = b & 1 ? DBF_GATE_WIRE : 0,
					      .how = (dbf_u16)((b >> 1) % DBF_HOW_MAX),
					      .action = (dbf_u16)((b >> 4) % DBF_ACTION_MAX),
					      .why = (dbf_u16)(byte_of(item, 1) % DBF_WHY_MAX),
					      .slot = byte_of(item, 2) % 4,
					      .text_len = byte_of(item, 3),
					      .deadline_ns = byte_of(item, 4) * 100000000ULL };
	item->head.captured = sizeof(item->verdict);
	item->bytes = (const uint8_t *)&item->verdict;
}

static bool next(const uint8_t **at, const uint8_t *end, struct item *item)
{
	static const uint8_t client[] = { 'Q', 'P', 'B', 'E', 'D', 'C', 'S', 'H', 'F', 'c', 'f', 'd', 'X',
					  DBF_WIRE_STARTUP, DBF_WIRE_OPEN, DBF_WIRE_WHO, DBF_WIRE_MORE, DBF_WIRE_GAP,
					  DBF_WIRE_RESYNC, DBF_WIRE_DOUBT, DBF_WIRE_CLOSE, DBF_WIRE_OPAQUE,
					  DBF_WIRE_VERDICT };
	static const uint8_t server[] = { '1', '2', '3', 't', 'T', 'n', 'D', 'C', 'I', 's', 'V', 'E', 'Z', 'G', 'H', 'W', 'd',
					  'c', 'R', 'S', 'K', 'N', DBF_WIRE_ANSWER, DBF_WIRE_OPEN, DBF_WIRE_WHO,
					  DBF_WIRE_MORE, DBF_WIRE_GAP, DBF_WIRE_RESYNC, DBF_WIRE_DOUBT, DBF_WIRE_CLOSE };
	const uint8_t *p = *at;
	size_t left;

	if (end - p < 3)
		return false;
	left = (size_t)(end - p) - 3;
	item->flags = p[0];
	item->head = (struct dbf_wire_item){
		.type = p[0] & SERVER ? server[p[1] % sizeof(server)] : client[p[1] % sizeof(client)],
		.flags = p[0] & MORE ? DBF_WIRE_ITEM_MORE : 0,
		.captured = (uint16_t)(p[2] < left ? p[2] : left),
	};
	item->head.length = item->head.captured + (p[0] >> 5) * 100U;
	item->bytes = p + 3;
	*at = p + 3 + item->head.captured;
	if (item->head.type == DBF_WIRE_VERDICT && item->head.captured < sizeof(item->verdict))
		choose_verdict(item);
	return true;
}

/* --- the tracker --- */

static uint64_t on_run(void *ctx, const struct pgwire_run *run)
{
	uint64_t *touched = ctx;

	must(run->text && run->name && strlen(run->name) < PGWIRE_NAME_BYTES);
	for (size_t i = 0; i < run->captured; i++)
		*touched += (unsigned char)run->text[i];
	must(run->captured <= run->length || run->flags & PGWIRE_MINIMUM);
	must(run->mark % 400000000 == 0);
	return ++*touched;
}

static void on_reply(void *ctx, const struct pgwire_reply *r)
{
	uint64_t *touched = ctx;

	for (size_t i = 0; i < r->captured; i++)
		*touched += (unsigned char)r->bytes[i];
}

static void on_startup(void *ctx, const struct pgwire_startup *s)
{
	(void)ctx;
	must(s->kind && s->kind < PGWIRE_START_MAX && strlen(s->user) < sizeof(s->user));
}

static void on_loss(void *ctx, enum pgwire_loss why, unsigned ops)
{
	*(uint64_t *)ctx += why + ops;
}

static bool on_text(void *ctx, const struct pgwire_run *run)
{
	on_run(ctx, run);
	return *(uint64_t *)ctx % 16;
}

static void track_one(struct pgwire *w, const struct item *item, uint64_t ts, uint64_t *touched)
{
	enum dbf_wire_dir dir = item->flags & SERVER ? DBF_WIRE_SERVER : DBF_WIRE_CLIENT;
	unsigned char *copy = malloc(item->head.captured + 1U);
	struct pgwire_run run;

	must(copy);
	memcpy(copy, item->bytes, item->head.captured);
	switch (item->head.type) {
	case DBF_WIRE_MORE: pgwire_more(w, dir, copy, item->head.captured, item->flags & MORE, ts); break;
	case DBF_WIRE_GAP: pgwire_gap(w, dir, ts); break;
	case DBF_WIRE_RESYNC: pgwire_resync(w, dir, ts); break;
	case DBF_WIRE_DOUBT: pgwire_doubt(w, dir); break;
	case DBF_WIRE_VERDICT: pgwire_mark(w, ts); pgwire_each_text(w, on_text, touched); break;
	case DBF_WIRE_OPEN: case DBF_WIRE_WHO: case DBF_WIRE_CLOSE: case DBF_WIRE_OPAQUE: break;
	default: pgwire_feed(w, dir, &item->head, copy, ts); break;
	}
	if (pgwire_pending_text(w, &run))
		must(run.text && run.name);
	free(copy);
}

static void track(const uint8_t *data, size_t size)
{
	static const struct pgwire_ops ops = { .startup = on_startup, .run = on_run, .reply = on_reply, .loss = on_loss };
	const uint8_t *at = data, *end = data + size;
	struct pgwire_pool pool = { 0 };
	struct pgwire *w[2];
	uint64_t touched = 0, ts = 0;
	struct item item;

	w[0] = pgwire_new(&pool, &ops, &touched, false);
	w[1] = pgwire_new(&pool, &ops, &touched, true);
	must(w[0] && w[1]);
	while (next(&at, end, &item))
		track_one(w[!!(item.flags & OTHER)], &item, ts += 400000000, &touched);
	pgwire_end(w[0], ts);
	pgwire_free(w[0]);
	pgwire_free(w[1]);
	must(!pool.text_bytes && !pool.ops && !pool.names);
}

/* --- the pipeline --- */

static void on_record(void *ctx, const void *body, size_t len)
{
	Dbfence__Audit__V1__Record *rec;

	(void)ctx;
	must(len && len <= LIMIT_RECORD_BYTES);
	rec = record_unpack(&arena, body, len);
	must(rec && rec->kind[0]);
	if (!strcmp(rec->kind, "statement"))
		must(rec->statement && rec->outcome[0] && rec->statement->form[0] && !strcmp(rec->vantage, "wire"));
}

static void on_message(void *ctx, uint32_t type, const void *payload, size_t len)
{
	(void)ctx;
	must(payload && len && type);
}

struct building {
	struct pipeline *pipeline;
	unsigned char bytes[RECORD_BYTES] __attribute__((aligned(8)));
	size_t len;
	unsigned flags; /* of its items */
	uint32_t seq[2][2];
	uint64_t ts;
};

static void send_record(struct building *b)
{
	uint32_t *seq = &b->seq[!!(b->flags & OTHER)][b->flags & SERVER];
	struct dbf_wire head = { .abi = DBF_WIRE_ABI, .len = (uint32_t)b->len, .conn = 1 + !!(b->flags & OTHER),
				 .ts = b->ts += 400000000, .seq = *seq, .dir = b->flags & SERVER };
	unsigned char *copy = malloc(b->len);

	must(copy);
	memcpy(b->bytes, &head, sizeof(head));
	memcpy(copy, b->bytes, b->len);
	pipeline_feed(b->pipeline, copy, b->len);
	free(copy);
	(*seq)++;
	b->len = sizeof(struct dbf_wire);
}

static void add(struct building *b, const struct item *item)
{
	size_t size = (sizeof(item->head) + item->head.captured + 7U) & ~7UL;

	if (b->len > sizeof(struct dbf_wire) &&
	    (item->flags & FLUSH || (item->flags ^ b->flags) & (SERVER | OTHER) || b->len + size > RECORD_BYTES))
		send_record(b);
	b->flags = item->flags;
	b->seq[!!(b->flags & OTHER)][b->flags & SERVER] += !!(item->flags & LOST);
	memset(b->bytes + b->len, 0, size);
	memcpy(b->bytes + b->len, &item->head, sizeof(item->head));
	memcpy(b->bytes + b->len + sizeof(item->head), item->bytes, item->head.captured);
	b->len += size;
}

static void record_all(const uint8_t *data, size_t size)
{
	struct pipeline_ops ops = { .record = on_record, .message = on_message };
	struct pipeline_opts opts = { .node = "fuzz", .cache_entries = 64 };
	const uint8_t *at = data, *end = data + size;
	struct building b = { .len = sizeof(struct dbf_wire) };
	struct msg_stats stats;
	struct item item;

	b.pipeline = pipeline_new(&opts, &ops, NULL);
	must(b.pipeline);
	while (next(&at, end, &item))
		add(&b, &item);
	if (b.len > sizeof(struct dbf_wire))
		send_record(&b);
	pipeline_stats(b.pipeline, &stats);
	must(!stats.record_errors && stats.sessions <= 2);
	pipeline_free(b.pipeline);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	track(data, size);
	record_all(data, size);
	return 0;
}
