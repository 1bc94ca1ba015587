/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rank 4. SQL text out of the server's memory, into facts.
 *
 * Reads never fault pages in: a sleepable program can lose its stack to another task. A page that
 * is not there makes the text `fault`, which is undecided, never allowed.
 */
#ifndef DBF_TEXT_BPF_H
#define DBF_TEXT_BPF_H

#include "lib/emit.bpf.h"

/* Where text_fact() put it. */
static __always_inline struct piece *text_piece(struct backend *b, const struct text *t)
{
	return (struct piece *)&b->data[bounded_max(t->off, DBF_BATCH_BYTES + FACT_MAX - DBF_TEXT_CHUNK)];
}

enum text_end { TEXT_END, TEXT_GOES_ON, TEXT_LIMIT, TEXT_FAULT }; /* arg of DBF_FACT_TEXT */

GLOBAL_FN int text_more(struct backend *b, u64 ptr)
{
	if (!b)
		return 0;
	for (u32 i = 1; i < DBF_TEXT_CHUNKS; i++) {
		u8 *at;
		long n;
		u32 end;
		u64 len;

		/* A long text is held, so its pieces may use the room of what is held. */
		if (b->used + sizeof(struct dbf_fact) + DBF_TEXT_CHUNK > DBF_BATCH_BYTES)
			emit_flush(b, EMIT_RESERVE);
		at = emit_room(b, sizeof(struct dbf_fact) + DBF_TEXT_CHUNK);
		n = bpf_probe_read_user_str(at + sizeof(struct dbf_fact), DBF_TEXT_CHUNK,
					    (void *)(ptr + i * (DBF_TEXT_CHUNK - 1)));
		end = n < 0			? TEXT_FAULT
		      : n < DBF_TEXT_CHUNK	? TEXT_END
		      : i + 1 < DBF_TEXT_CHUNKS ? TEXT_GOES_ON
						: TEXT_LIMIT;
		len = n > 0 ? bounded_max(n - 1, DBF_TEXT_CHUNK) : 0;
		emit_commit(b, DBF_FACT_TEXT, sizeof(struct dbf_fact) + len, end, 0);
		if (end != TEXT_GOES_ON)
			break;
	}
	return 0;
}

/*
 * Append a fact whose payload is @head_size bytes that begin with a struct dbf_text, then the text
 * at @ptr. The caller has filled in the rest of the head at text_head(). Only the first chunk is
 * described in @t.
 */
static __always_inline void text_fact(struct backend *b, u32 kind, u32 head_size, u64 ptr,
				      u32 flags, struct text *t)
{
	u32 limit = b->run.len;
	u8 standard = 0;
	u8 *at = &b->data[bounded_mask(b->used, DBF_BATCH_BYTES)];
	struct dbf_text *head = (struct dbf_text *)(at + sizeof(struct dbf_fact));
	long n = bpf_probe_read_user_str(at + sizeof(struct dbf_fact) + head_size, DBF_TEXT_CHUNK,
					 (void *)ptr);
	u64 len = n > 0 ? bounded_max(n - 1, DBF_TEXT_CHUNK) : 0;

	/* One statement of a longer source: it ends before the NUL. */
	if (limit && kind == DBF_FACT_EXEC && n > 0 && limit < n - 1) {
		n = limit + 1;
		len = bounded_max(limit, DBF_TEXT_CHUNK);
	}
	t->off = b->used + sizeof(struct dbf_fact) + head_size;
	t->len = len;
	t->fault = n < 0 || bpf_probe_read_user(&standard, sizeof(standard), (void *)b->strings_addr);
	t->escapes = !standard;
	if (t->escapes)
		flags |= DBF_TEXT_ESCAPES;
	t->whole = n > 0 && n < DBF_TEXT_CHUNK;
	if (t->fault) /* the text, or what its quotes mean */
		flags |= DBF_TEXT_FAULT;
	if (n == DBF_TEXT_CHUNK)
		flags |= DBF_TEXT_MORE;
	head->ptr = ptr;
	head->length = len;
	head->captured = len;
	head->flags = flags;
	emit_commit(b, kind, sizeof(struct dbf_fact) + head_size + len, 0, bpf_ktime_get_ns());
	t->lost = b->lost_batches;
	if (t->fault)
		count_add(DBF_COUNT_TEXT_FAULTS, 1);
	if (n == DBF_TEXT_CHUNK)
		text_more(b, ptr);
}

/* Where the head of the next text fact goes. */
static __always_inline void *text_head(struct backend *b)
{
	return (u8 *)emit_room(b, FACT_MAX) + sizeof(struct dbf_fact);
}

#endif
