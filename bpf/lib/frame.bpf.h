/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rank 4. One direction of a PostgreSQL connection: bytes in order in, framed messages out.
 *
 *   START ──start-up message──▶ TYPED ──bytes that are no message──▶ LOST ──a boundary──▶ TYPED
 *     └──── TLS or GSS ──▶ OPAQUE
 *
 * A step of the walk either gathers a header or passes over a part of a body. What a message's body is worth stands in
 * frame_wants(): a statement is kept whole, of most others the head or nothing; rows and COPY data are counted. Nothing
 * here knows packets or sockets: the bytes come from a packet or from memory, each byte once, cut anywhere.
 *
 * Compiled for the kernel, and for user space by the fuzzer and the unit tests (tests/lib/bpf_shim.h).
 */
#ifndef DBF_FRAME_BPF_H
#define DBF_FRAME_BPF_H

#ifdef __bpf__
#include "lib/emit.bpf.h"
#else
#include "lib/bpf_shim.h"
#endif

#include "dbfence/abi/wire.h"

#define FRAME_DATA 8192
#define FRAME_CHUNK 4096
#define FRAME_KEPT 2048 /* more than a segment of Ethernet */
#define FRAME_ITEM (sizeof(struct dbf_wire_item) + FRAME_CHUNK)
#define FRAME_LENGTH_MAX (1U << 30) /* PostgreSQL's MaxAllocSize: no message is longer */
#define FRAME_STEPS (1U << 18)	    /* of one packet: more than its bytes */

#define FRAME_PROTOCOL_MAJOR 3
#define FRAME_PROTOCOL_OLD 2 /* servers before 14 take it */
#define FRAME_CANCEL 80877102
#define FRAME_SSL 80877103
#define FRAME_GSS 80877104
#define FRAME_TLS_HANDSHAKE 0x16

enum frame_phase { FRAME_START, FRAME_TYPED, FRAME_OPAQUE, FRAME_LOST };

struct frame_stream {
	u32 next; /* sequence number of the next byte */
	u32 skip; /* bytes of the current message still to come */
	u32 want; /* of which so many are kept */
	u8 phase; /* enum frame_phase */
	u8 dir;	  /* enum dbf_wire_dir */
	u8 type;  /* of the current message */
	u8 head_len;
	u8 head[8];
	u8 begun;    /* something of the current message was put out */
	u8 strings;  /* kept up to the end of so many strings; 0: by length */
	u8 run_type; /* 'D' or 'd' */
	u8 gss;	     /* asked for: what follows may have another framing */
	u8 ready;    /* a server's: it was ready once */
	u8 changed;  /* and has told a parameter since */
	u8 pad[2];
	u32 run_cnt;
	u64 run_bytes;
	u64 bytes;
	u32 length; /* of the current message's body */
	u32 start;  /* sequence number of its first byte */
	u32 kept;   /* bytes of its body that are kept */
	u32 text_end; /* of a Parse: sequence number of the NUL behind its statement, when it stands in this packet; 0 otherwise */
	u32 seq;
	u32 lost_records;
	u32 lost_execs;
};

struct frame_judged { /* the message at which the framing stopped */
	struct hash128 hash;
	u32 off; /* of its statement in frame_rec.data */
	u32 len;
	u32 hashed;
	u32 fail_closed;
	u32 identity_class;
	u32 name_len;
	char name[DBF_RULE_NAME_BYTES]; /* of the rule that decided it before */
};

struct frame_rec { /* being built; one packet's, or a part of it */
	u32 busy;
	u32 used;
	u32 execs;
	u32 text_max; /* bytes kept of a statement */
	u32 judging;  /* stop behind each message that makes the server run something */
	u32 stop;     /* its type; 0 when the walk did not stop */
	u32 other_sender; /* than before: what is known of that one does not hold */
	u32 whole;    /* where its body stands in data, when it is there whole; 0 otherwise */
	u32 began; /* the phase in which the packet found its direction */
	u32 pad;
	struct frame_judged judged;
	u64 scratch[24]; /* of whoever judges: the stack is short */
	struct frame_stream before; /* a direction as this packet found it */
	struct dbf_wire head;
	u8 data[FRAME_DATA + FRAME_ITEM + 64];
};

struct frame_kept { /* bytes that are no longer in a packet */
	u8 bytes[FRAME_KEPT];
};

struct frame_span {
	u32 begin;
	u32 at;
	u32 end;
};

struct frame_walk {
	struct __sk_buff *skb;
	struct frame_kept *kept; /* NULL: the bytes are in the packet */
	struct frame_stream *s;
	struct frame_rec *rec;
	struct frame_span in;
};

/* Send what was built. A loss is counted, and told with the next record. */
GLOBAL_FN int frame_send(struct frame_stream *s, struct frame_rec *rec, u32 how)
{
	long err = 1;
	u64 used;

	if (!s || !rec || !rec->used)
		return 0;
	used = bounded_max(rec->used, FRAME_DATA + FRAME_ITEM);
	rec->head.abi = DBF_WIRE_ABI;
	rec->head.flags = how & EMIT_HOLD ? DBF_BATCH_HOLD : 0;
	rec->head.len = sizeof(rec->head) + used;
	rec->head.bytes = s->bytes;
	rec->head.seq = s->seq++;
	rec->head.lost_records = s->lost_records;
	rec->head.lost_execs = s->lost_execs;
	rec->head.dir = s->dir;
	if (emit_has_room(how))
		err = bpf_ringbuf_output(&ring, &rec->head, sizeof(rec->head) + used, emit_wakeup(how & EMIT_WAKE));
	if (err) {
		s->lost_records++;
		s->lost_execs += rec->execs;
		count_add(DBF_COUNT_LOST_BATCHES, 1);
		count_add(DBF_COUNT_LOST_EXECS, rec->execs);
	}
	rec->used = rec->execs = 0;
	return 0;
}

static __always_inline int frame_flush(struct frame_stream *s, struct frame_rec *rec)
{
	return frame_send(s, rec, EMIT_LAZY);
}

/* Where the next item goes, with room for FRAME_CHUNK bytes behind its head. */
static __always_inline struct dbf_wire_item *frame_item(struct frame_stream *s, struct frame_rec *rec)
{
	if (rec->used > FRAME_DATA - sizeof(struct dbf_wire_item))
		frame_flush(s, rec);
	return (struct dbf_wire_item *)&rec->data[bounded_mask(rec->used, FRAME_DATA)];
}

/* @captured bytes stand behind it. The padding must not tell what stood there before, which may be of no kept bytes. */
static __always_inline void frame_item_end(struct frame_rec *rec, u32 captured)
{
	u64 end = bounded_max(rec->used, FRAME_DATA) + sizeof(struct dbf_wire_item) + captured;

	__builtin_memset(&rec->data[end], 0, 8);
	rec->used = round8(end);
}

/* An item without bytes. */
static __always_inline void frame_note(struct frame_stream *s, struct frame_rec *rec, u8 type, u32 length)
{
	struct dbf_wire_item *item = frame_item(s, rec);

	*item = (struct dbf_wire_item){ .type = type, .length = length };
	frame_item_end(rec, 0);
}

static __always_inline void frame_end_run(struct frame_stream *s, struct frame_rec *rec)
{
	struct dbf_wire_item *item;

	if (!s->run_cnt)
		return;
	item = frame_item(s, rec);
	*item = (struct dbf_wire_item){ .type = s->run_type,
					.captured = sizeof(struct dbf_wire_run),
					.length = s->run_cnt };
	((struct dbf_wire_run *)(item + 1))->bytes = s->run_bytes;
	frame_item_end(rec, sizeof(struct dbf_wire_run));
	s->run_cnt = 0;
	s->run_bytes = 0;
}

static __always_inline void frame_lose(struct frame_stream *s, struct frame_rec *rec, u32 why)
{
	if (s->phase == FRAME_OPAQUE)
		return;
	frame_end_run(s, rec);
	s->phase = FRAME_LOST;
	s->skip = s->want = 0;
	s->head_len = 0;
	frame_note(s, rec, DBF_WIRE_GAP, why);
	count_add(DBF_COUNT_FRAME_LOST, 1);
}

/* The next @len bytes are not looked at. */
static __always_inline void frame_pass_over(struct frame_stream *s, u32 len)
{
	s->next += len;
	s->bytes += len;
}

#define FRAME_WHOLE 0x80000000U
#define FRAME_BAD 0x40000000U
#define FRAME_RUN 0x20000000U
#define FRAME_SILENT 0x10000000U /* no item: it says nothing about statements */

/* What is kept of a message that a client sends: so many bytes, or one of the above. */
static __always_inline u32 frame_client_wants(u8 type)
{
	switch (type) {
	case 'Q':
	case 'P': return FRAME_WHOLE;
	case 'B': return DBF_WIRE_BIND_BYTES;
	case 'E':
	case 'D':
	case 'C': return DBF_WIRE_MESSAGE_BYTES;
	case 'F': return 4;
	case 'd': return FRAME_RUN;
	case 'S':
	case 'H':
	case 'X':
	case 'c':
	case 'f':
	case 'p': return 0; /* a password: not even a byte of it */
	}
	return FRAME_BAD;
}

static __always_inline u32 frame_server_wants(u8 type)
{
	switch (type) {
	case 'C':
	case 'E': return DBF_WIRE_MESSAGE_BYTES;
	case 'S': return DBF_WIRE_MESSAGE_BYTES;
	case 'Z': return 1;
	case 'R': return 4;
	case 'K': return 4; /* the process, not the secret behind it */
	case 'G':
	case 'H':
	case 'W': return 1;
	case 'D':
	case 'd': return FRAME_RUN;
	case 'T':
	case 't':
	case 'n':
	case '1':
	case '2':
	case '3':
	case 'I':
	case 's':
	case 'V':
	case 'c': return 0;
	case 'N':
	case 'A':
	case 'v': return FRAME_SILENT;
	}
	return FRAME_BAD;
}

static __always_inline u32 frame_wants(const struct frame_stream *s, u8 type)
{
	return s->dir == DBF_WIRE_CLIENT ? frame_client_wants(type) : frame_server_wants(type);
}

/* The first item of a message is in the record. */
static __always_inline void frame_count_exec(const struct frame_stream *s, struct frame_rec *rec)
{
	u8 type = s->type;

	rec->execs += s->dir == DBF_WIRE_CLIENT && (type == 'Q' || type == 'E' || type == 'F');
}

/* A message begins whose body has @length bytes; at its beginning the record gets its item, unless bytes of it follow. */
static __always_inline void frame_begin(struct frame_stream *s, struct frame_rec *rec, u8 type, u32 length)
{
	u32 wants = frame_wants(s, type), kept;

	if (wants & FRAME_BAD || length > FRAME_LENGTH_MAX) {
		frame_lose(s, rec, DBF_WIRE_GAP_FRAME);
		return;
	}
	s->type = type;
	s->length = s->skip = length;
	s->want = 0;
	s->begun = 0;
	s->strings = 0;
	s->kept = 0;
	s->text_end = 0;
	if (wants & FRAME_RUN) {
		if (s->run_type != type)
			frame_end_run(s, rec);
		s->run_type = type;
		s->run_cnt++;
		s->run_bytes += length;
		return;
	}
	if (wants & FRAME_SILENT)
		return;
	if (s->dir == DBF_WIRE_SERVER) {
		s->ready |= type == 'Z';
		s->changed |= type == 'S' && s->ready;
	}
	frame_end_run(s, rec);
	kept = wants & FRAME_WHOLE ? rec->text_max : wants;
	s->want = kept < length ? kept : length;
	if (s->dir == DBF_WIRE_CLIENT && (type == 'B' || (type == 'P' && rec->judging)))
		s->strings = 2;
	if (!s->want) {
		frame_note(s, rec, type, length);
		frame_count_exec(s, rec);
	}
}

/* The first message of a client has no type, and says what is spoken. */
static __always_inline void frame_begin_start(struct frame_stream *s, struct frame_rec *rec)
{
	u32 length = (u32)s->head[0] << 24 | s->head[1] << 16 | s->head[2] << 8 | s->head[3];
	u32 code = (u32)s->head[4] << 24 | s->head[5] << 16 | s->head[6] << 8 | s->head[7];
	struct dbf_wire_item *item;

	if (length < 8 || length > DBF_WIRE_STARTUP_BYTES + 4 ||
	    (code >> 16 != FRAME_PROTOCOL_MAJOR && (code < FRAME_CANCEL || code > FRAME_GSS))) {
		if (s->gss) { /* a token of GSS */
			s->phase = FRAME_OPAQUE;
			frame_note(s, rec, DBF_WIRE_OPAQUE, 'G');
		} else {
			frame_lose(s, rec, DBF_WIRE_GAP_FRAME);
		}
		return;
	}
	s->gss = code == FRAME_GSS;
	s->type = DBF_WIRE_STARTUP;
	s->length = length - 4;
	s->skip = length - 8;
	s->want = code == FRAME_CANCEL ? 4 : s->skip; /* whose statement, not the secret */
	if (s->want > s->skip)
		s->want = s->skip;
	s->strings = 0;
	s->begun = 1;
	item = frame_item(s, rec);
	*item = (struct dbf_wire_item){ .type = DBF_WIRE_STARTUP,
					.flags = s->want ? DBF_WIRE_ITEM_MORE : 0,
					.captured = 4,
					.length = length - 4 };
	__builtin_memcpy(item + 1, s->head + 4, 4);
	frame_item_end(rec, 4);
	if (code >> 16 == FRAME_PROTOCOL_MAJOR && !s->skip)
		s->phase = FRAME_TYPED;
}

/* The first byte behind the protocol's number is a name's, or all there is. Other protocols have a small number there. */
static __always_inline void frame_begin_names(struct frame_stream *s, struct frame_rec *rec, u8 byte)
{
	if (s->phase != FRAME_START || s->type != DBF_WIRE_STARTUP || s->head[5] != FRAME_PROTOCOL_MAJOR)
		return;
	if (byte || s->skip == 1)
		s->phase = FRAME_TYPED;
	else
		frame_lose(s, rec, DBF_WIRE_GAP_FRAME);
}

/* The first byte of a server's: the answer to a request for encryption, or its first message. */
static __always_inline bool frame_answer(struct frame_stream *s, struct frame_rec *rec, u8 byte)
{
	if (byte == FRAME_TLS_HANDSHAKE) { /* its client began with TLS, too */
		s->phase = FRAME_OPAQUE;
		frame_note(s, rec, DBF_WIRE_OPAQUE, byte);
		return false;
	}
	if (byte != 'S' && byte != 'G' && byte != 'N') {
		s->phase = FRAME_TYPED;
		return false;
	}
	frame_note(s, rec, DBF_WIRE_ANSWER, byte);
	if (byte != 'N') {
		s->phase = FRAME_OPAQUE;
		frame_note(s, rec, DBF_WIRE_OPAQUE, byte);
	}
	return true;
}

static __always_inline long frame_load(struct __sk_buff *skb, struct frame_kept *kept, u32 at, void *to, u32 len)
{
	if (!kept)
		return bpf_skb_load_bytes(skb, at, to, len);
	return bpf_probe_read_kernel(to, len, kept->bytes + bounded_max(at, FRAME_KEPT));
}

/* One byte of the header, or all of it. Not 0: no further. */
GLOBAL_FN int frame_head(struct __sk_buff *skb, struct frame_kept *kept, struct frame_stream *s, struct frame_rec *rec,
			 struct frame_span *in)
{
	u32 need, length;
	bool start;
	u8 byte;

	if (!s || !rec || !in)
		return 1;
	start = s->phase == FRAME_START;
	need = start ? 8 : 5;
	if (!s->head_len)
		s->start = s->next + (in->at - in->begin);
	if (!start && !s->head_len && in->end - in->at >= 5) {
		if (frame_load(skb, kept, in->at, s->head, 5))
			return 1;
		in->at += 5;
		s->head_len = 5;
	} else {
		if (frame_load(skb, kept, in->at, &byte, 1))
			return 1;
		if (start && !s->head_len && s->dir == DBF_WIRE_SERVER) {
			in->at += frame_answer(s, rec, byte);
			return 0;
		}
		if (start && !s->head_len && byte == FRAME_TLS_HANDSHAKE) {
			s->phase = FRAME_OPAQUE;
			frame_note(s, rec, DBF_WIRE_OPAQUE, byte);
			return 1;
		}
		in->at++;
		s->head[s->head_len & 7] = byte;
		s->head_len++;
	}
	if (s->head_len < need)
		return 0;
	s->head_len = 0;
	if (start) {
		frame_begin_start(s, rec);
		return 0;
	}
	length = (u32)s->head[1] << 24 | s->head[2] << 16 | s->head[3] << 8 | s->head[4];
	if (length < 4)
		frame_lose(s, rec, DBF_WIRE_GAP_FRAME);
	else
		frame_begin(s, rec, s->head[0], length - 4);
	return 0;
}

struct frame_strings {
	const u8 *bytes;
	u32 len;
	u32 left;
	u32 kept;
};

#define FRAME_STRIDE 8

static long frame_string_step(u32 i, struct frame_strings *c)
{
	u32 at = i * FRAME_STRIDE;

	for (u32 k = 0; k < FRAME_STRIDE; k++) {
		if (at + k >= c->len)
			return 1;
		c->kept = at + k + 1;
		if (!c->bytes[bounded_max(at + k, FRAME_CHUNK - 1)] && !--c->left)
			return 1;
	}
	return 0;
}

/* Of @len bytes, those up to the end of the last string that is kept. */
static __always_inline u32 frame_cut_strings(struct frame_stream *s, const u8 *bytes, u32 len)
{
	struct frame_strings c = { .bytes = bytes, .len = len, .left = s->strings };

	bpf_loop(FRAME_CHUNK / FRAME_STRIDE, frame_string_step, &c, 0);
	s->strings = c.left;
	return c.kept;
}

/* Where the statement of a Parse ends that comes in pieces, after the name: only needed to spoil it. */
static __always_inline void frame_find_end(struct frame_stream *s, const u8 *bytes, u32 len)
{
	u32 kept = frame_cut_strings(s, bytes, len);

	if (!s->strings)
		s->text_end = s->start + 5 + s->kept + kept - 1;
}

/* A part of a body that is kept: one item. Not 0: no further. */
GLOBAL_FN int frame_keep(struct __sk_buff *skb, struct frame_kept *bytes, struct frame_stream *s, struct frame_rec *rec,
			 struct frame_span *in)
{
	struct dbf_wire_item *item;
	u32 left, n, kept;

	if (!s || !rec || !in)
		return 1;
	item = frame_item(s, rec);
	left = in->end - in->at;
	n = s->want < left ? s->want : left;
	if (!n)
		return 1;
	n = n < FRAME_CHUNK ? n : FRAME_CHUNK;
	if (frame_load(skb, bytes, in->at, item + 1, bounded_some(n, FRAME_CHUNK)))
		return 1;
	frame_begin_names(s, rec, *(u8 *)(item + 1));
	if (s->phase == FRAME_LOST)
		return 1;
	in->at += n;
	s->skip -= n;
	s->want -= n;
	kept = n;
	if (s->strings && s->type == 'B') {
		kept = frame_cut_strings(s, (const u8 *)(item + 1), n);
		s->want = s->strings ? s->want : 0;
	} else if (s->strings && (s->begun || s->skip)) {
		frame_find_end(s, (const u8 *)(item + 1), n);
	}
	s->kept += kept;
	*item = (struct dbf_wire_item){ .type = s->begun ? DBF_WIRE_MORE : s->type,
					.flags = s->want ? DBF_WIRE_ITEM_MORE : 0,
					.captured = kept,
					.length = s->length };
	rec->whole = s->begun || s->skip ? 0 : rec->used + sizeof(*item);
	if (!s->begun)
		frame_count_exec(s, rec);
	s->begun = 1;
	frame_item_end(rec, bounded_max(kept, FRAME_CHUNK));
	return 0;
}

/* The message that ends here makes the server run something. */
static __always_inline bool frame_runs(const struct frame_stream *s)
{
	return s->dir == DBF_WIRE_CLIENT && (s->type == 'Q' || s->type == 'P' || s->type == 'B' || s->type == 'E' || s->type == 'F');
}

static long frame_step(u32 i, struct frame_walk *w)
{
	struct frame_stream *s = w->s;
	u32 left = w->in.end - w->in.at;

	if (w->in.at >= w->in.end || s->phase >= FRAME_OPAQUE)
		return 1;
	if (!s->skip)
		return frame_head(w->skb, w->kept, s, w->rec, &w->in) != 0;
	if (s->want) {
		if (frame_keep(w->skb, w->kept, s, w->rec, &w->in))
			return 1;
	} else {
		left = left < s->skip ? left : s->skip;
		s->skip -= left;
		w->in.at += left;
	}
	if (s->skip || !w->rec->judging || !frame_runs(s))
		return 0;
	w->rec->stop = s->type;
	return 1;
}

/* Pass over the bytes from w->in.at to w->in.end, which are the next of this direction. */
static __always_inline void frame_walk(struct frame_walk *w)
{
	w->in.begin = w->in.at;
	bpf_loop(FRAME_STEPS, frame_step, w, 0);
	if (!w->rec->stop) {
		if (w->in.at < w->in.end && w->s->phase < FRAME_OPAQUE) /* they could not be read */
			frame_lose(w->s, w->rec, DBF_WIRE_GAP_FRAME);
		w->in.at = w->in.end;
	}
	frame_pass_over(w->s, w->in.at - w->in.begin);
}

struct frame_chain {
	struct frame_walk *w;
	u32 at;
	u32 ok;
};

/* A message could begin here: a type of this direction, and a length that no text has where one is expected. */
static long frame_chain_step(u32 i, struct frame_chain *c)
{
	u8 head[5];
	u32 length, left = c->w->in.end - c->at;

	if (c->at >= c->w->in.end || left < 5) {
		c->ok = c->at == c->w->in.end;
		return 1;
	}
	if (frame_load(c->w->skb, c->w->kept, c->at, head, sizeof(head)))
		return 1;
	length = (u32)head[1] << 24 | head[2] << 16 | head[3] << 8 | head[4];
	if (frame_wants(c->w->s, head[0]) & FRAME_BAD || length < 4 || length >= 0x01000000)
		return 1;
	if (length + 1 > left) {
		c->ok = 1;
		return 1;
	}
	c->at += length + 1;
	return 0;
}

/*
 * After a loss: a client's messages are found again where a packet is a chain of them; a server's behind a
 * ReadyForQuery that ends a packet. True when w->in.at now stands at the beginning of a message.
 */
static __always_inline bool frame_resync(struct frame_walk *w)
{
	struct frame_chain c = { .w = w, .at = w->in.at };
	u8 ready[6];

	if (w->s->dir == DBF_WIRE_CLIENT) {
		bpf_loop(FRAME_STEPS, frame_chain_step, &c, 0);
		if (!c.ok)
			return false;
	} else {
		if (w->in.end - w->in.at < sizeof(ready) || frame_load(w->skb, w->kept, w->in.end - sizeof(ready), ready, sizeof(ready)))
			return false;
		if (ready[0] != 'Z' || ready[1] || ready[2] || ready[3] || ready[4] != 5 ||
		    (ready[5] != 'I' && ready[5] != 'T' && ready[5] != 'E'))
			return false;
		frame_pass_over(w->s, w->in.end - sizeof(ready) - w->in.at);
		w->in.at = w->in.end - sizeof(ready);
	}
	w->s->phase = FRAME_TYPED;
	frame_note(w->s, w->rec, DBF_WIRE_RESYNC, 0);
	return true;
}

/* What is done with the bytes from w->in.at to w->in.end, the next of their direction. */
static __always_inline void frame_take(struct frame_walk *w)
{
	struct frame_stream *s = w->s;

	w->rec->stop = w->rec->whole = 0;
	if (s->phase == FRAME_LOST && !frame_resync(w)) {
		frame_pass_over(s, w->in.end - w->in.at);
		w->in.at = w->in.end;
		return;
	}
	frame_walk(w);
}

/* Bytes of a packet. How far they were followed: to the end, or behind a message that is to be judged. */
GLOBAL_FN int frame_feed(struct __sk_buff *skb, struct frame_stream *s, struct frame_rec *rec, u32 at, u32 end)
{
	struct frame_walk w = { .skb = skb, .s = s, .rec = rec, .in = { .at = at, .end = end } };

	if (s && rec)
		frame_take(&w);
	return w.in.at;
}

/* Bytes that were kept. @skb is not looked at. */
GLOBAL_FN int frame_feed_kept(struct __sk_buff *skb, struct frame_stream *s, struct frame_rec *rec, struct frame_kept *kept,
			      const struct frame_span *which)
{
	struct frame_walk w = { .skb = skb, .kept = kept, .s = s, .rec = rec };

	if (!s || !rec || !kept || !which)
		return 0;
	w.in = *which;
	frame_take(&w);
	return 0;
}

#endif
