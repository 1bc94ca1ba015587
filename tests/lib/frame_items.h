/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bpf/lib/frame.bpf.h with packets of a test's and without a kernel: what it puts out is checked against its contract
 * (dbfence/abi/wire.h) and written down as text, one line an item, pieces joined:
 *
 *   Q 9 select 1\00          type, length, what was kept
 *   P 5000 \00select ...     only the beginning was kept
 *   D x3 27                  a run: how many, their bytes
 *   gap 1                    the kernel side's own
 *
 * Several may live side by side: the shim's ring belongs to the one that is fed.
 */
#ifndef DBFENCE_TESTS_FRAME_ITEMS_H
#define DBFENCE_TESTS_FRAME_ITEMS_H

#include <stdlib.h>

#include "../../bpf/lib/frame.bpf.h"
#include "core/buf.h"

#define FRAME_TEXT_MAX (1U << 20) /* kept of a statement, unless the test says less */
#define FRAME_SHOWN 160		  /* longer ones are told by their beginning and a sum */

enum frame_how { FRAME_OF_SKB, FRAME_OF_KEPT };

struct frame_items {
	struct frame_stream s;
	struct frame_rec *rec;	 /* owned */
	struct frame_kept *kept; /* owned */
	u32 text_max;
	bool judging; /* the framing stops behind each message that runs something, and is asked to go on */
	u32 stops;
	u64 refuse; /* 1 << n: the nth record finds no room */
	u32 tried;  /* records */
	u32 next_seq;
	u32 told_records, told_execs; /* by the last record that came through */
	void (*record)(void *ctx, const void *record, size_t len); /* that came through; may be NULL */
	void *record_ctx;
	const char *bad; /* the first breach of the contract */
	struct buf text;
	struct buf raw; /* the records behind their heads, as they came */
	struct dbf_wire_item item; /* being joined */
	bool open;
	bool hole; /* a record was lost since */
	u32 execs; /* statements that came */
	struct buf bytes; /* of it */
};

static inline void frame_items_bad(struct frame_items *f, const char *why)
{
	if (!f->bad)
		f->bad = why;
}

static inline const char *frame_items_own_name(u8 type)
{
	static const char *const names[DBF_WIRE_TYPE_MAX] = {
		"none", "open", "who", "startup", "more", "answer", "opaque", "gap", "resync", "doubt", "close", "verdict", "again",
	};

	return type < DBF_WIRE_TYPE_MAX ? names[type] : NULL;
}

static inline void frame_items_print_bytes(struct buf *to, const unsigned char *bytes, size_t len)
{
	u32 sum = 2166136261U;

	for (size_t i = 0; i < len; i++) {
		sum = (sum ^ bytes[i]) * 16777619U;
		if (i >= FRAME_SHOWN)
			continue;
		if (bytes[i] < 32 || bytes[i] > 126 || bytes[i] == '\\')
			buf_printf(to, "\\%02x", bytes[i]);
		else
			buf_putc(to, (char)bytes[i]);
	}
	if (len > FRAME_SHOWN)
		buf_printf(to, " (%zu: %08x)", len, sum);
}

/* The item that was being joined is whole, or nothing more of it comes. */
static inline void frame_items_end(struct frame_items *f)
{
	const struct dbf_wire_item *item = &f->item;
	const char *own = frame_items_own_name(item->type);
	struct dbf_wire_run run;

	if (!f->open)
		return;
	f->open = false;
	if (own)
		buf_puts(&f->text, own);
	else
		buf_putc(&f->text, (char)item->type);
	if (item->type == 'd' || (item->type == 'D' && f->s.dir == DBF_WIRE_SERVER)) {
		if (f->bytes.len != sizeof(run)) {
			frame_items_bad(f, "a run of another size");
			return;
		}
		memcpy(&run, f->bytes.data, sizeof(run));
		buf_printf(&f->text, " x%u %llu\n", item->length, (unsigned long long)run.bytes);
		return;
	}
	buf_printf(&f->text, " %u", item->length);
	if (f->bytes.len)
		buf_putc(&f->text, ' ');
	frame_items_print_bytes(&f->text, (const unsigned char *)f->bytes.data, f->bytes.len);
	if (!own || item->type == DBF_WIRE_STARTUP) {
		if (f->bytes.len > item->length)
			frame_items_bad(f, "more bytes than the message has");
		if (f->bytes.len < item->length)
			buf_puts(&f->text, item->flags & DBF_WIRE_ITEM_MORE ? " (broken off)" : " ...");
	}
	buf_putc(&f->text, '\n');
}

static inline void frame_items_take(struct frame_items *f, const struct dbf_wire_item *item)
{
	bool more = f->open && f->item.flags & DBF_WIRE_ITEM_MORE;

	if (item->captured > FRAME_CHUNK)
		frame_items_bad(f, "an item above its bound");
	if (item->type == DBF_WIRE_MORE && f->hole)
		return;
	f->hole = false;
	if (item->type == DBF_WIRE_MORE) {
		if (!more)
			frame_items_bad(f, "more of nothing");
		if (item->length != f->item.length)
			frame_items_bad(f, "a piece of another length");
		f->item.flags = item->flags;
	} else {
		if (more && item->type != DBF_WIRE_GAP)
			frame_items_bad(f, "an item in the middle of another");
		frame_items_end(f);
		buf_reset(&f->bytes);
		f->item = *item;
		f->open = true;
		f->execs += f->s.dir == DBF_WIRE_CLIENT && (item->type == 'Q' || item->type == 'E' || item->type == 'F');
	}
	buf_put(&f->bytes, item + 1, item->captured);
}

static inline void frame_items_head(struct frame_items *f, const struct dbf_wire *w, size_t len)
{
	if (w->abi != DBF_WIRE_ABI || w->len != len || w->dir != f->s.dir)
		frame_items_bad(f, "a wrong head");
	if (len <= sizeof(*w) || len > sizeof(*w) + FRAME_DATA + FRAME_CHUNK)
		frame_items_bad(f, "a record beyond its bounds");
	if (w->seq != f->next_seq)
		frame_items_bad(f, "records out of their order");
	f->next_seq = w->seq + 1;
}

/* The ring. */
static inline int frame_items_output(void *ctx, const void *record, size_t len)
{
	const struct dbf_wire *w = record;
	struct frame_items *f = ctx;
	size_t at = sizeof(*w);

	frame_items_head(f, w, len);
	if (f->tried < 64 && f->refuse >> f->tried & 1) {
		f->tried++;
		f->hole = true;
		frame_items_end(f);
		return -EAGAIN;
	}
	f->tried++;
	f->told_records = w->lost_records;
	f->told_execs = w->lost_execs;
	buf_put(&f->raw, w + 1, len - sizeof(*w));
	while (len - at >= sizeof(struct dbf_wire_item)) {
		const struct dbf_wire_item *item = (const void *)((const unsigned char *)record + at);

		at += sizeof(*item) + round8(item->captured);
		if (at > len) {
			frame_items_bad(f, "an item beyond its record");
			return 0;
		}
		frame_items_take(f, item);
	}
	if (at != len)
		frame_items_bad(f, "half an item");
	if (f->record)
		f->record(f->record_ctx, record, len);
	return 0;
}

static inline void frame_items_init(struct frame_items *f, enum dbf_wire_dir dir, enum frame_phase phase)
{
	memset(f, 0, sizeof(*f));
	f->rec = malloc(sizeof(*f->rec));
	f->kept = malloc(sizeof(*f->kept));
	if (!f->rec || !f->kept)
		abort();
	memset(f->rec, 0, sizeof(*f->rec)); /* as a map's value is */
	f->s.dir = dir;
	f->s.phase = phase;
	f->text_max = FRAME_TEXT_MAX;
	buf_init(&f->text, 1U << 24);
	buf_init(&f->raw, 1U << 24);
	buf_init(&f->bytes, FRAME_TEXT_MAX);
}

static inline void frame_items_fini(struct frame_items *f)
{
	free(f->rec);
	free(f->kept);
	buf_fini(&f->text);
	buf_fini(&f->raw);
	buf_fini(&f->bytes);
}

/* A packet begins, as in observe/wire.bpf.c. Its CPU's record served another connection before, whose secrets are 0xee. */
static inline void frame_items_begin(struct frame_items *f)
{
	memset(f->rec->data, 0xee, 1024);
	f->rec->stop = f->rec->whole = 1000;
	shim.output = frame_items_output;
	shim.ctx = f;
	f->rec->used = f->rec->execs = 0;
	f->rec->text_max = f->text_max;
	f->rec->judging = f->judging;
}

/* It stands behind a message that makes the server run something; when it is in the record whole, there. */
static inline bool frame_items_check_stop(struct frame_items *f, const unsigned char *bytes, u32 at)
{
	const struct frame_rec *rec = f->rec;

	if (!rec->stop)
		return false;
	if (f->s.skip || rec->stop != f->s.type || f->s.start + 5 + f->s.length != f->s.next)
		frame_items_bad(f, "stopped elsewhere than behind a message");
	if (rec->whole && (f->s.length > at || memcmp(rec->data + rec->whole, bytes + at - f->s.length, f->s.length)) &&
	    rec->stop != 'B') /* its values are not kept */
		frame_items_bad(f, "a message that is not where it should be");
	return true;
}

static inline void frame_items_feed_skb(struct frame_items *f, const void *bytes, size_t len)
{
	unsigned char *copy = malloc(len + 1); /* nothing beyond can be read */
	struct __sk_buff skb = { .data = copy, .len = (u32)len + 1 };

	if (!copy)
		abort();
	copy[0] = 0x45; /* of a header */
	memcpy(copy + 1, bytes, len);
	for (u32 at = 1; at < skb.len;) {
		u32 to = (u32)frame_feed(&skb, &f->s, f->rec, at, skb.len);

		if (to <= at || to > skb.len || (to < skb.len && !f->rec->stop))
			abort();
		at = to;
		f->stops += frame_items_check_stop(f, copy, at);
	}
	free(copy);
}

static inline void frame_items_feed_kept(struct frame_items *f, const void *bytes, size_t len)
{
	const struct frame_span which = { .at = (u32)(FRAME_KEPT - len), .end = FRAME_KEPT };

	memset(f->kept->bytes, 'Z', FRAME_KEPT);
	memcpy(f->kept->bytes + FRAME_KEPT - len, bytes, len);
	f->rec->judging = 0; /* what is kept was taken already */
	frame_feed_kept(NULL, &f->s, f->rec, f->kept, &which);
}

/* An item of the kernel side's own. */
static inline void frame_items_put(struct frame_items *f, u8 type, const void *bytes, u16 len)
{
	struct dbf_wire_item *item = frame_item(&f->s, f->rec);

	*item = (struct dbf_wire_item){ .type = type, .captured = len };
	memcpy(item + 1, bytes, len);
	frame_item_end(f->rec, len);
}

/* One packet of @len bytes; at most FRAME_KEPT when they are @how kept. */
static inline void frame_items_feed(struct frame_items *f, const void *bytes, size_t len, enum frame_how how)
{
	if (!len)
		return;
	frame_items_begin(f);
	if (how == FRAME_OF_SKB)
		frame_items_feed_skb(f, bytes, len);
	else
		frame_items_feed_kept(f, bytes, len);
	frame_flush(&f->s, f->rec);
}

/* All that came. */
static inline const char *frame_items_text(struct frame_items *f)
{
	frame_items_end(f);
	if (buf_err(&f->text) || buf_err(&f->raw) || buf_err(&f->bytes))
		abort();
	return buf_str(&f->text);
}

#endif
