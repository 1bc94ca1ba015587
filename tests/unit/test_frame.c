// SPDX-License-Identifier: Apache-2.0
/*
 * bpf/lib/frame.bpf.h: every message of both directions, whole and cut anywhere, out of packets and out of memory. What
 * must never be kept is 0xee in these streams.
 */
#include "../lib/test.h"

#include <stdio.h>

#include "lib/frame_items.h"

enum { RAW_BYTES, START_BODY }; /* instead of a message's type */

struct piece {
	int type;
	const char *bytes;
	size_t len;
};

#define MSG(type, s) { type, s, sizeof(s) - 1 }
#define START(s) { START_BODY, s, sizeof(s) - 1 }
#define RAW(s) { RAW_BYTES, s, sizeof(s) - 1 }
#define X4 "\xee\xee\xee\xee"
#define X16 X4 X4 X4 X4

struct stream {
	const char *name;
	enum dbf_wire_dir dir;
	u32 text_max;
	struct piece pieces[12];
	const char *want;
};

#define V30 "\0\3\0\0"
#define V32 "\0\3\0\2"
#define CODE(c) "\x04\xd2\x16" c

static const struct stream streams[] = {
	{ "session", DBF_WIRE_CLIENT, 0,
	  { START(V30 "user\0joe\0database\0d\0\0"), MSG('p', X16), MSG('Q', "select 1\0"), MSG('X', "") },
	  "startup 25 \\00\\03\\00\\00user\\00joe\\00database\\00d\\00\\00\np 16 ...\nQ 9 select 1\\00\nX 0\n" },
	{ "protocol 3.2", DBF_WIRE_CLIENT, 0, { START(V32 "user\0joe\0\0"), MSG('S', "") },
	  "startup 14 \\00\\03\\00\\02user\\00joe\\00\\00\nS 0\n" },
	{ "startup without parameters", DBF_WIRE_CLIENT, 0, { START(V30), MSG('S', "") },
	  "startup 4 \\00\\03\\00\\00\nS 0\n" },
	{ "ssl refused", DBF_WIRE_CLIENT, 0, { START(CODE("\x2f")), START(V30 "user\0j\0\0"), MSG('Q', "x\0") },
	  "startup 4 \\04\\d2\\16/\nstartup 12 \\00\\03\\00\\00user\\00j\\00\\00\nQ 2 x\\00\n" },
	{ "ssl and gss refused", DBF_WIRE_CLIENT, 0,
	  { START(CODE("\x30")), START(CODE("\x2f")), START(V30 "user\0j\0\0") },
	  "startup 4 \\04\\d2\\160\nstartup 4 \\04\\d2\\16/\nstartup 12 \\00\\03\\00\\00user\\00j\\00\\00\n" },
	{ "ssl", DBF_WIRE_CLIENT, 0, { START(CODE("\x2f")), RAW("\x16\3\1\2\0" X16) },
	  "startup 4 \\04\\d2\\16/\nopaque 22\n" },
	{ "gss", DBF_WIRE_CLIENT, 0, { START(CODE("\x30")), RAW("\0\0\2\x50\x60\x82\2\x4c" X16) },
	  "startup 4 \\04\\d2\\160\nopaque 71\n" },
	{ "tls without asking", DBF_WIRE_CLIENT, 0, { RAW("\x16\3\1\2\0" X16) }, "opaque 22\n" },
	{ "cancel", DBF_WIRE_CLIENT, 0, { START(CODE("\x2e") "\0\0\x12\x34" X4) },
	  "startup 12 \\04\\d2\\16.\\00\\00\\124 ...\n" },
	{ "cancel 3.2", DBF_WIRE_CLIENT, 0, { START(CODE("\x2e") "\0\0\x12\x34" X16 X16) },
	  "startup 40 \\04\\d2\\16.\\00\\00\\124 ...\n" },
	{ "startup too short", DBF_WIRE_CLIENT, 0, { RAW("\0\0\0\7" V30 X16) }, "gap 1\n" },
	{ "startup too long", DBF_WIRE_CLIENT, 0, { RAW("\0\0\x27\x15" V30 X16) }, "gap 1\n" },
	{ "protocol 2", DBF_WIRE_CLIENT, 0, { START("\0\2\0\0" X16) }, "gap 1\n" },
	{ "unknown code", DBF_WIRE_CLIENT, 0, { START(CODE("\x31") X4) }, "gap 1\n" },
	{ "http", DBF_WIRE_CLIENT, 0, { RAW("GET / HTTP/1.1\r\nHost: a\r\n\r\n") }, "gap 1\n" },
	{ "client's messages", DBF_WIRE_CLIENT, 0,
	  { START(V30 "\0"), MSG('P', "s\0select $1\0\0\1\0\0\0\x17"), MSG('D', "Ss\0"), MSG('E', "p\0\0\0\0\5"), MSG('C', "Pp\0"),
	    MSG('H', ""), MSG('S', ""), MSG('F', "\0\0\3\xe7\0\0" X16), MSG('f', X16), MSG('c', ""), MSG('p', X4), MSG('Q', "") },
	  "startup 5 \\00\\03\\00\\00\\00\nP 18 s\\00select $1\\00\\00\\01\\00\\00\\00\\17\nD 3 Ss\\00\nE 6 p\\00\\00\\00\\00\\05\n"
	  "C 3 Pp\\00\nH 0\nS 0\nF 22 \\00\\00\\03\\e7 ...\nf 16 ...\nc 0\np 4 ...\nQ 0\n" },
	{ "copy in", DBF_WIRE_CLIENT, 0,
	  { START(V30 "\0"), MSG('Q', "copy t from stdin\0"), MSG('d', X16), MSG('d', ""), MSG('d', X4), MSG('c', ""),
	    MSG('d', X4), MSG('Q', "x\0") },
	  "startup 5 \\00\\03\\00\\00\\00\nQ 18 copy t from stdin\\00\nd x3 20\nc 0\nd x1 4\nQ 2 x\\00\n" },
	{ "bind", DBF_WIRE_CLIENT, 0,
	  { START(V30 "\0"), MSG('B', "p\0s\0\xee\xee" X16), MSG('B', "\0\0" X16), MSG('B', "\0long name\0" X16 X16),
	    MSG('B', "a\0b\0"), MSG('B', "never ends"), MSG('B', "x\0never ends"), MSG('B', ""), MSG('E', "\0\0\0\0\0") },
	  "startup 5 \\00\\03\\00\\00\\00\nB 22 p\\00s\\00 ...\nB 18 \\00\\00 ...\nB 43 \\00long name\\00 ...\n"
	  "B 4 a\\00b\\00\nB 10 never ends\nB 12 x\\00never ends\nB 0\nE 5 \\00\\00\\00\\00\\00\n" },
	{ "text bound", DBF_WIRE_CLIENT, 8, { START(V30 "\0"), MSG('Q', "select 12" X16 "\0"), MSG('P', "s\0select" X4),
	    MSG('Q', "1234567\0"), MSG('S', "") },
	  "startup 5 \\00\\03\\00\\00\\00\nQ 26 select 1 ...\nP 12 s\\00select ...\nQ 8 1234567\\00\nS 0\n" },
	{ "length too short", DBF_WIRE_CLIENT, 0, { START(V30 "\0"), RAW("Q\0\0\0\3" X16) }, "startup 5 \\00\\03\\00\\00\\00\ngap 1\n" },
	{ "length too long", DBF_WIRE_CLIENT, 0, { START(V30 "\0"), RAW("Q\x40\0\0\5" X16) }, "startup 5 \\00\\03\\00\\00\\00\ngap 1\n" },
	{ "length of all ones", DBF_WIRE_CLIENT, 0, { START(V30 "\0"), RAW("Q\xff\xff\xff\xff" X16) },
	  "startup 5 \\00\\03\\00\\00\\00\ngap 1\n" },
	{ "longest", DBF_WIRE_CLIENT, 0, { START(V30 "\0"), RAW("Q\x40\0\0\4select") },
	  "startup 5 \\00\\03\\00\\00\\00\nQ 1073741824 select (broken off)\n" },
	{ "unknown to a server", DBF_WIRE_CLIENT, 0, { START(V30 "\0"), MSG('S', ""), MSG('Z', X4) },
	  "startup 5 \\00\\03\\00\\00\\00\nS 0\ngap 1\n" },
	{ "unknown in copy", DBF_WIRE_CLIENT, 0, { START(V30 "\0"), MSG('d', X4), MSG('y', X4) },
	  "startup 5 \\00\\03\\00\\00\\00\nd x1 4\ngap 1\n" },

	{ "server's session", DBF_WIRE_SERVER, 0,
	  { MSG('R', "\0\0\0\5" X4), MSG('R', "\0\0\0\0"), MSG('S', "client_encoding\0UTF8\0"), MSG('K', "\0\0\x12\x34" X4),
	    MSG('K', "\0\0\x12\x34" X16 X16), MSG('Z', "I"), MSG('v', X16), MSG('N', X16), MSG('A', X16), MSG('Z', "T") },
	  "R 8 \\00\\00\\00\\05 ...\nR 4 \\00\\00\\00\\00\nS 21 client_encoding\\00UTF8\\00\nK 8 \\00\\00\\124 ...\n"
	  "K 36 \\00\\00\\124 ...\nZ 1 I\nZ 1 T\n" },
	{ "rows", DBF_WIRE_SERVER, 0,
	  { MSG('R', "\0\0\0\0"), MSG('T', X16), MSG('D', X4), MSG('D', X16), MSG('N', X16), MSG('D', ""),
	    MSG('C', "SELECT 3\0"), MSG('Z', "I"), MSG('D', X4), MSG('s', ""), MSG('D', X4), MSG('Z', "T") },
	  "R 4 \\00\\00\\00\\00\nT 16 ...\nD x3 20\nC 9 SELECT 3\\00\nZ 1 I\nD x1 4\ns 0\nD x1 4\nZ 1 T\n" },
	{ "server's copies", DBF_WIRE_SERVER, 0,
	  { MSG('R', "\0\0\0\0"), MSG('G', "\0\0\2\xee\xee"), MSG('H', "\1\0\2\xee\xee"), MSG('D', X4), MSG('d', X16), MSG('d', X4),
	    MSG('c', ""), MSG('W', "\0\0\0"), MSG('d', ""), MSG('C', "COPY 2\0") },
	  "R 4 \\00\\00\\00\\00\nG 5 \\00 ...\nH 5 \\01 ...\nD x1 4\nd x2 20\nc 0\nW 3 \\00 ...\nd x1 0\nC 7 COPY 2\\00\n" },
	{ "extended replies", DBF_WIRE_SERVER, 0,
	  { MSG('R', "\0\0\0\0"), MSG('1', ""), MSG('2', ""), MSG('t', X16), MSG('n', ""), MSG('3', ""), MSG('I', ""), MSG('s', ""),
	    MSG('V', X16), MSG('E', "SERROR\0C42601\0\0"), MSG('Z', "E") },
	  "R 4 \\00\\00\\00\\00\n1 0\n2 0\nt 16 ...\nn 0\n3 0\nI 0\ns 0\nV 16 ...\nE 15 SERROR\\00C42601\\00\\00\nZ 1 E\n" },
	{ "refused at once", DBF_WIRE_SERVER, 0, { MSG('E', "SFATAL\0\0") }, "E 8 SFATAL\\00\\00\n" },
	{ "answer N", DBF_WIRE_SERVER, 0, { RAW("N"), MSG('R', "\0\0\0\0") }, "answer 78\nR 4 \\00\\00\\00\\00\n" },
	{ "answers N N", DBF_WIRE_SERVER, 0, { RAW("NN"), MSG('R', "\0\0\0\0") }, "answer 78\nanswer 78\nR 4 \\00\\00\\00\\00\n" },
	{ "answer S", DBF_WIRE_SERVER, 0, { RAW("S"), RAW("\x16\3\1" X16) }, "answer 83\nopaque 83\n" },
	{ "answers N S", DBF_WIRE_SERVER, 0, { RAW("NS"), RAW("\x16\3\1" X16) }, "answer 78\nanswer 83\nopaque 83\n" },
	{ "answer G", DBF_WIRE_SERVER, 0, { RAW("G"), RAW("\0\0\2\x50" X16) }, "answer 71\nopaque 71\n" },
	{ "answer E", DBF_WIRE_SERVER, 0, { MSG('E', "SFATAL\0\0") }, "E 8 SFATAL\\00\\00\n" },
	{ "tls of a server", DBF_WIRE_SERVER, 0, { RAW("\x16\3\3\0\x7a" X16) }, "opaque 22\n" },
	{ "unknown to a client", DBF_WIRE_SERVER, 0, { MSG('R', "\0\0\0\0"), MSG('D', X4), MSG('Q', X16) },
	  "R 4 \\00\\00\\00\\00\nD x1 4\ngap 1\n" },
	{ "server's length", DBF_WIRE_SERVER, 0, { MSG('R', "\0\0\0\0"), RAW("C\0\0\0\0" X4) }, "R 4 \\00\\00\\00\\00\ngap 1\n" },
};

static void put_message(struct buf *b, int type, const void *body, size_t len)
{
	u32 n = (u32)len + 4;
	unsigned char head[5] = { (unsigned char)type, (unsigned char)(n >> 24), (unsigned char)(n >> 16), (unsigned char)(n >> 8),
				  (unsigned char)n };

	if (type == START_BODY)
		buf_put(b, head + 1, 4);
	else
		buf_put(b, head, 5);
	buf_put(b, body, len);
}

static void stream_bytes(const struct stream *s, struct buf *b)
{
	buf_init(b, 1U << 24);
	for (size_t i = 0; i < sizeof(s->pieces) / sizeof(s->pieces[0]) && s->pieces[i].bytes; i++)
		if (s->pieces[i].type == RAW_BYTES)
			buf_put(b, s->pieces[i].bytes, s->pieces[i].len);
		else
			put_message(b, s->pieces[i].type, s->pieces[i].bytes, s->pieces[i].len);
}

/* What is found again after a loss hangs on where packets end. */
static size_t until_gap(const char *text)
{
	const char *gap = strstr(text, "gap ");

	return gap ? (size_t)(gap - text) : strlen(text);
}

struct cuts {
	size_t at[2]; /* ascending */
	bool every;   /* or a byte a packet */
};

static void feed_cut(struct frame_items *f, const struct buf *b, const struct cuts *c, enum frame_how how)
{
	size_t ends[3] = { c->at[0], c->at[1], b->len }, at = 0;

	if (c->every) {
		for (; at < b->len; at++)
			frame_items_feed(f, b->data + at, 1, how);
		return;
	}
	for (int i = 0; i < 3; i++) {
		frame_items_feed(f, b->data + at, ends[i] - at, how);
		at = ends[i];
	}
}

/* 0xee does not stand anywhere in a record, not even between its items. */
static bool keeps_secrets(const struct buf *raw)
{
	return !raw->len || !memmem(raw->data, raw->len, "\xee\xee", 2);
}

static bool check_cut(const struct stream *s, const struct buf *b, const struct cuts *c, enum frame_how how)
{
	struct frame_items f;
	const char *text;
	size_t n = until_gap(s->want);
	bool ok;

	frame_items_init(&f, s->dir, FRAME_START);
	if (s->text_max)
		f.text_max = s->text_max;
	feed_cut(&f, b, c, how);
	text = frame_items_text(&f);
	ok = CHECK_MSG(until_gap(text) == n && !strncmp(text, s->want, n) && !text[n] == !s->want[n],
		       "%s, cut at %zu and %zu:\n--- got\n%s--- expected\n%s", s->name, c->at[0], c->at[1], text, s->want);
	ok &= CHECK_MSG(!f.bad, "%s, cut at %zu and %zu: %s", s->name, c->at[0], c->at[1], f.bad);
	ok &= CHECK_MSG(f.s.bytes == b->len && f.s.next == (u32)b->len, "%s, cut at %zu and %zu: %llu bytes of %zu", s->name,
			c->at[0], c->at[1], (unsigned long long)f.s.bytes, b->len);
	ok &= CHECK_MSG(keeps_secrets(&f.raw), "%s, cut at %zu and %zu: what must not be kept", s->name, c->at[0], c->at[1]);
	frame_items_fini(&f);
	return ok;
}

static void check_stream(const struct stream *s)
{
	struct buf b;
	struct cuts c = { { 0, 0 }, false };
	bool ok;

	stream_bytes(s, &b);
	ok = check_cut(s, &b, &c, FRAME_OF_SKB) && check_cut(s, &b, &c, FRAME_OF_KEPT);
	for (c.at[0] = 0; ok && c.at[0] <= b.len; c.at[0]++)
		for (c.at[1] = c.at[0]; ok && c.at[1] <= b.len; c.at[1]++)
			ok = check_cut(s, &b, &c, (c.at[0] ^ c.at[1]) & 1 ? FRAME_OF_SKB : FRAME_OF_KEPT);
	c = (struct cuts){ .every = true };
	if (ok)
		check_cut(s, &b, &c, FRAME_OF_SKB);
	buf_fini(&b);
}

static void test_frame_streams(void)
{
	for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++)
		check_stream(&streams[i]);
}

/* Without a gap the whole text is compared, so what ends in one is checked once as it is. */
static void test_frame_gap_is_last(void)
{
	for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
		struct frame_items f;
		struct buf b;

		stream_bytes(&streams[i], &b);
		frame_items_init(&f, streams[i].dir, FRAME_START);
		if (streams[i].text_max)
			f.text_max = streams[i].text_max;
		frame_items_feed(&f, b.data, b.len, FRAME_OF_SKB);
		CHECK_STR(frame_items_text(&f), streams[i].want);
		frame_items_fini(&f);
		buf_fini(&b);
	}
}

/* Cut into packets of @size bytes. */
static void feed_sized(struct frame_items *f, const struct buf *b, size_t size, enum frame_how how)
{
	for (size_t at = 0; at < b->len; at += size)
		frame_items_feed(f, b->data + at, size < b->len - at ? size : b->len - at, how);
}

static const size_t sizes[] = { 1, 7, 100, 1448, 4095, 4096, 65536, 1U << 20 };

/* The same items whatever the packets' size: of @b, which begins behind the start-up. */
static void check_sizes(const struct buf *b, u32 text_max, const char *want)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (int how = FRAME_OF_SKB; how <= FRAME_OF_KEPT; how++) {
			struct frame_items f;

			if (how == FRAME_OF_KEPT && sizes[i] > FRAME_KEPT)
				continue;
			frame_items_init(&f, DBF_WIRE_CLIENT, FRAME_START);
			f.text_max = text_max;
			feed_sized(&f, b, sizes[i], how);
			CHECK_STR(frame_items_text(&f), want);
			CHECK_MSG(!f.bad, "packets of %zu: %s", sizes[i], f.bad);
			CHECK(keeps_secrets(&f.raw));
			CHECK_INT(f.s.bytes, b->len);
			frame_items_fini(&f);
		}
	}
}

/* @len bytes of a statement, in what is expected as well. */
static void put_long(struct buf *b, struct buf *want, size_t len, size_t kept)
{
	char *text = malloc(len);

	if (!text)
		abort();
	for (size_t i = 0; i < len; i++)
		text[i] = i < kept ? (char)('a' + i % 23) : '\xee';
	put_message(b, 'Q', text, len);
	buf_printf(want, "Q %zu ", len);
	frame_items_print_bytes(want, (const unsigned char *)text, kept);
	buf_puts(want, kept < len ? " ...\n" : "\n");
	free(text);
}

static void test_frame_long_texts(void)
{
	static const size_t lens[] = { 4095, 4096, 4097, 8191, 8192, 8193, 20000, 70000 };
	struct buf b, want;

	buf_init(&b, 1U << 24);
	buf_init(&want, 1U << 20);
	put_message(&b, START_BODY, V30 "\0", 5);
	buf_puts(&want, "startup 5 \\00\\03\\00\\00\\00\n");
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		put_long(&b, &want, lens[i], lens[i]);
	check_sizes(&b, FRAME_TEXT_MAX, buf_str(&want));
	buf_reset(&b);
	buf_reset(&want);
	put_message(&b, START_BODY, V30 "\0", 5);
	buf_puts(&want, "startup 5 \\00\\03\\00\\00\\00\n");
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++)
		put_long(&b, &want, lens[i], lens[i] < 5000 ? lens[i] : 5000);
	check_sizes(&b, 5000, buf_str(&want));
	buf_fini(&b);
	buf_fini(&want);
}

/* The longest start-up message, whose bytes are kept, and the other bounds. */
static void test_frame_bounds(void)
{
	static const char type_of[] = "BED";
	unsigned char body[DBF_WIRE_STARTUP_BYTES];
	struct buf b, want;

	buf_init(&b, 1U << 20);
	buf_init(&want, 1U << 20);
	memset(body, 'n', sizeof(body));
	memcpy(body, V30, 4);
	put_message(&b, START_BODY, body, DBF_WIRE_STARTUP_BYTES - 4);
	buf_printf(&want, "startup %d ", DBF_WIRE_STARTUP_BYTES - 4);
	frame_items_print_bytes(&want, body, DBF_WIRE_STARTUP_BYTES - 4);
	buf_puts(&want, "\n");
	memset(body, 'n', 512);
	memset(body + 512, 0xee, 512);
	for (int i = 0; i < 3; i++) {
		put_message(&b, type_of[i], body, 1024);
		buf_printf(&want, "%c 1024 ", type_of[i]);
		frame_items_print_bytes(&want, body, 512);
		buf_puts(&want, " ...\n");
	}
	check_sizes(&b, FRAME_TEXT_MAX, buf_str(&want));
	buf_fini(&b);
	buf_fini(&want);
}

/* Many messages in a packet are many records, none above its bound. */
static void test_frame_many(void)
{
	struct buf b, want;

	buf_init(&b, 1U << 20);
	buf_init(&want, 1U << 22);
	put_message(&b, START_BODY, V30 "\0", 5);
	buf_puts(&want, "startup 5 \\00\\03\\00\\00\\00\n");
	for (int i = 0; i < 10000; i++) {
		put_message(&b, i % 3 ? 'S' : 'E', "\0\0\0\0\1", i % 3 ? 0 : 5);
		buf_puts(&want, i % 3 ? "S 0\n" : "E 5 \\00\\00\\00\\00\\01\n");
	}
	check_sizes(&b, FRAME_TEXT_MAX, buf_str(&want));
	buf_fini(&b);
	buf_fini(&want);
}

static void feed_message(struct frame_items *f, int type, const char *body, size_t len)
{
	struct buf b;

	buf_init(&b, 1U << 20);
	put_message(&b, type, body, len);
	frame_items_feed(f, b.data, b.len, FRAME_OF_SKB);
	buf_fini(&b);
}

static void test_frame_loss(void)
{
	u64 lost_before = shim.counts[DBF_COUNT_LOST_BATCHES], execs_before = shim.counts[DBF_COUNT_LOST_EXECS];
	struct frame_items f;

	frame_items_init(&f, DBF_WIRE_CLIENT, FRAME_START);
	f.refuse = 1 << 1 | 1 << 3 | 1 << 4;
	feed_message(&f, START_BODY, V30 "\0", 5);
	feed_message(&f, 'Q', "lost\0", 5);
	feed_message(&f, 'Q', "came\0", 5);
	CHECK_INT(f.told_records, 1);
	CHECK_INT(f.told_execs, 1);
	frame_items_feed(&f, "B\0\0\0\6\0\0E\0\0\0\x09\0\0\0\0\0F\0\0\0\4P\0\0\0\6\0\0", 29, FRAME_OF_SKB);
	feed_message(&f, 'S', "", 0);
	feed_message(&f, 'S', "", 0);
	CHECK_INT(f.told_records, 3);
	CHECK_INT(f.told_execs, 3);
	CHECK_INT(f.next_seq, 6);
	CHECK_STR(frame_items_text(&f), "startup 5 \\00\\03\\00\\00\\00\nQ 5 came\\00\nS 0\n");
	CHECK_INT(shim.counts[DBF_COUNT_LOST_BATCHES] - lost_before, 3);
	CHECK_INT(shim.counts[DBF_COUNT_LOST_EXECS] - execs_before, 3);
	CHECK_MSG(!f.bad, "%s", f.bad);
	frame_items_fini(&f);
}

/* A ring without room for what nobody waits for refuses before it is asked. */
static void test_frame_loss_full(void)
{
	struct frame_items f;

	frame_items_init(&f, DBF_WIRE_CLIENT, FRAME_START);
	shim.full = true;
	feed_message(&f, START_BODY, V30 "\0", 5);
	shim.full = false;
	CHECK_INT(f.tried, 0);
	f.next_seq = 1;
	feed_message(&f, 'Q', "x\0", 2);
	CHECK_INT(f.told_records, 1);
	CHECK_INT(f.told_execs, 0);
	CHECK_MSG(!f.bad, "%s", f.bad);
	frame_items_fini(&f);
}

/* A statement is lost with the record that its first item is in, wherever its header came. */
static void test_frame_loss_cut(void)
{
	for (size_t cut = 1; cut < 10; cut++) {
		struct frame_items f;

		frame_items_init(&f, DBF_WIRE_CLIENT, FRAME_TYPED);
		f.refuse = 1;
		frame_items_feed(&f, "Q\0\0\0\x09lost\0", cut, FRAME_OF_SKB);
		frame_items_feed(&f, "Q\0\0\0\x09lost\0" + cut, 10 - cut, FRAME_OF_SKB);
		feed_message(&f, 'S', "", 0);
		CHECK_INT(f.told_records, 1);
		CHECK_MSG(f.told_execs == 1, "cut at %zu: %u statements lost", cut, f.told_execs);
		frame_items_fini(&f);
	}
}

/* A packet of many records: each loses what began in it. */
static void test_frame_loss_parts(void)
{
	struct buf b;
	u32 all = 0;

	buf_init(&b, 1U << 20);
	for (int i = 0; i < 3000; i++)
		put_message(&b, 'Q', "12345678", 8);
	for (u32 lost = 0; lost < 6; lost++) {
		struct frame_items f;

		frame_items_init(&f, DBF_WIRE_CLIENT, FRAME_TYPED);
		f.refuse = 1U << lost;
		frame_items_feed(&f, b.data, b.len, FRAME_OF_SKB);
		feed_message(&f, 'S', "", 0);
		CHECK_INT(f.tried, 7);
		CHECK_INT(f.told_records, 1);
		all += f.told_execs;
		for (size_t at = 0; (at = (size_t)((char *)memmem(f.raw.data + at, f.raw.len - at, "12345678", 8) - f.raw.data)) <
				    f.raw.len;
		     at += 8)
			f.told_execs++;
		CHECK_MSG(f.told_execs == 3000, "record %u lost: %u statements came or are counted", lost, f.told_execs);
		frame_items_fini(&f);
	}
	CHECK_INT(all, 3000);
	buf_fini(&b);
}

struct resync_packet {
	const char *bytes;
	size_t len;
	const char *want;
};

/* Each is the first that is seen of a direction whose framing is lost. */
static void resync(int dir, const struct resync_packet *packets, size_t cnt)
{
	for (size_t i = 0; i < cnt; i++) {
		struct frame_items f;

		frame_items_init(&f, dir, FRAME_LOST);
		frame_items_feed(&f, packets[i].bytes, packets[i].len, i & 1 ? FRAME_OF_SKB : FRAME_OF_KEPT);
		CHECK_STR(frame_items_text(&f), packets[i].want);
		CHECK_INT(f.s.bytes, packets[i].len);
		CHECK_INT(f.s.next, packets[i].len);
		CHECK_MSG(!f.bad, "%s", f.bad);
		frame_items_fini(&f);
	}
}

static void test_frame_resync_client(void)
{
	static const struct resync_packet packets[] = {
		{ "rest of a text", 14, "" },
		{ "S\0\0\0", 4, "" },
		{ "S\0\0\0\4 more", 10, "" },
		{ "S\0\0\0\3", 5, "" },
		{ "Q\1\0\0\4", 5, "" },
		{ "Z\0\0\0\5I", 6, "" },
		{ "S\0\0\0\4", 5, "resync 0\nS 0\n" },
		{ "B\0\0\0\6\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\4", 22, "resync 0\nB 2 \\00\\00\nE 5 \\00\\00\\00\\00\\00\nS 0\n" },
		{ "S\0\0\0\4Q\0\0\0\x10sel", 13, "resync 0\nS 0\nQ 12 sel (broken off)\n" },
	};

	resync(DBF_WIRE_CLIENT, packets, sizeof(packets) / sizeof(packets[0]));
}

static void test_frame_resync_server(void)
{
	static const struct resync_packet packets[] = {
		{ "Z\0\0\0\5", 5, "" },
		{ "Z\0\0\0\5X", 6, "" },
		{ "Z\0\0\0\6I", 6, "" },
		{ "Z\0\0\0\5I ", 7, "" },
		{ "C\0\0\0\4", 5, "" },
		{ "Z\0\0\0\5I", 6, "resync 0\nZ 1 I\n" },
		{ "of a row\0\0" "C\0\0\0\5xZ\0\0\0\5E", 22, "resync 0\nZ 1 E\n" },
	};

	resync(DBF_WIRE_SERVER, packets, sizeof(packets) / sizeof(packets[0]));
}

/* Whatever was begun when the framing was lost does not go on behind it. */
static void test_frame_gap_in_message(void)
{
	u64 before = shim.counts[DBF_COUNT_FRAME_LOST];
	struct frame_items f;

	frame_items_init(&f, DBF_WIRE_CLIENT, FRAME_TYPED);
	frame_items_feed(&f, "Q\0\0\0\x10sel", 8, FRAME_OF_SKB);
	frame_items_begin(&f);
	frame_lose(&f.s, f.rec, DBF_WIRE_GAP_HOLE);
	frame_flush(&f.s, f.rec);
	frame_items_feed(&f, "ect 1", 5, FRAME_OF_SKB);
	feed_message(&f, 'd', "row", 3);
	frame_items_begin(&f);
	frame_lose(&f.s, f.rec, DBF_WIRE_GAP_HOLE);
	frame_flush(&f.s, f.rec);
	feed_message(&f, 'S', "", 0);
	frame_items_feed(&f, "Q\0\0", 3, FRAME_OF_SKB);
	frame_items_begin(&f);
	frame_lose(&f.s, f.rec, DBF_WIRE_GAP_HOLE);
	frame_flush(&f.s, f.rec);
	feed_message(&f, 'H', "", 0);
	CHECK_STR(frame_items_text(&f), "Q 12 sel (broken off)\ngap 2\nresync 0\nd x1 3\ngap 2\nresync 0\nS 0\ngap 2\nresync 0\nH 0\n");
	CHECK_INT(shim.counts[DBF_COUNT_FRAME_LOST] - before, 3);
	CHECK_MSG(!f.bad, "%s", f.bad);
	frame_items_fini(&f);
}

/* What is encrypted has no framing to lose, and none to find in it. */
static void test_frame_gap_in_opaque(void)
{
	u64 before = shim.counts[DBF_COUNT_FRAME_LOST];
	struct frame_items f;

	frame_items_init(&f, DBF_WIRE_CLIENT, FRAME_START);
	frame_items_feed(&f, "\x16\3\1", 3, FRAME_OF_SKB);
	frame_items_begin(&f);
	frame_lose(&f.s, f.rec, DBF_WIRE_GAP_HOLE);
	frame_flush(&f.s, f.rec);
	feed_message(&f, 'S', "", 0);
	CHECK_STR(frame_items_text(&f), "opaque 22\n");
	CHECK_INT(f.s.phase, FRAME_OPAQUE);
	CHECK_INT(f.s.bytes, 8);
	CHECK_INT(shim.counts[DBF_COUNT_FRAME_LOST] - before, 0);
	frame_items_fini(&f);
}

/* Bytes of a packet that cannot be read are a loss, and passed over. */
static void test_frame_unreadable(void)
{
	static const u8 bytes[] = "Q\0\0\0\x0dselect 1\0S\0\0\0\4";

	for (u32 from = 1; from < sizeof(bytes) - 1; from++) {
		struct __sk_buff skb = { .data = bytes, .len = sizeof(bytes) - 1, .unreadable = from };
		struct frame_items f;

		frame_items_init(&f, DBF_WIRE_CLIENT, FRAME_TYPED);
		frame_items_begin(&f);
		frame_feed(&skb, &f.s, f.rec, 0, skb.len);
		frame_flush(&f.s, f.rec);
		CHECK_STR(frame_items_text(&f) + strlen(frame_items_text(&f)) - 6, "gap 1\n");
		CHECK_INT(f.s.bytes, sizeof(bytes) - 1);
		CHECK_INT(f.s.phase, FRAME_LOST);
		CHECK_MSG(!f.bad, "%s", f.bad);
		frame_items_fini(&f);
	}
}

/* A Bind whose names came in an earlier packet: nothing of it stands in the record of the packet that ends it. */
static void test_frame_judging_later(void)
{
	struct frame_items f;

	frame_items_init(&f, DBF_WIRE_CLIENT, FRAME_TYPED);
	f.judging = true;
	frame_items_feed(&f, "B\0\0\0\x0c\0\0\xee\xee", 9, FRAME_OF_SKB);
	CHECK_INT(f.stops, 0);
	frame_items_feed(&f, "\xee\xee\xee\xee", 4, FRAME_OF_SKB);
	CHECK_INT(f.stops, 1);
	CHECK_INT(f.rec->stop, 'B');
	CHECK_INT(f.rec->whole, 0);
	CHECK_MSG(!f.bad, "%s", f.bad);
	frame_items_fini(&f);
}

/* The framing that stops to be judged makes the same of the bytes. */
static void test_frame_judging(void)
{
	static const char bytes[] = "P\0\0\0\x0f" "s\0select\0\0\0B\0\0\0\x0c" "\0s\0\xee\xee\xee\xee\xee" "E\0\0\0\x09\0\0\0\0\0"
				    "S\0\0\0\4Q\0\0\0\x0d" "select 2\0F\0\0\0\x0e\0\0\0\1\xee\xee\xee\xee\xee\xeeX\0\0\0\4";
	static const char want[] = "P 11 s\\00select\\00\\00\\00\nB 8 \\00s\\00 ...\nE 5 \\00\\00\\00\\00\\00\nS 0\nQ 9 select 2\\00\n"
				   "F 10 \\00\\00\\00\\01 ...\nX 0\n";
	const size_t len = sizeof(bytes) - 1;

	for (size_t cut = 0; cut <= len; cut++) {
		struct frame_items f;

		frame_items_init(&f, DBF_WIRE_CLIENT, FRAME_TYPED);
		f.judging = true;
		frame_items_feed(&f, bytes, cut, FRAME_OF_SKB);
		frame_items_feed(&f, bytes + cut, len - cut, FRAME_OF_SKB);
		CHECK_STR(frame_items_text(&f), want);
		CHECK_MSG(f.stops == 5, "cut at %zu: %u stops", cut, f.stops);
		CHECK_INT(f.s.bytes, len);
		CHECK_INT(f.s.next, len);
		CHECK(keeps_secrets(&f.raw));
		CHECK_MSG(!f.bad, "cut at %zu: %s", cut, f.bad);
		frame_items_fini(&f);
	}
}

static const struct test_case cases[] = {
	{ "frame_streams", test_frame_streams },
	{ "frame_gap_is_last", test_frame_gap_is_last },
	{ "frame_long_texts", test_frame_long_texts },
	{ "frame_bounds", test_frame_bounds },
	{ "frame_many", test_frame_many },
	{ "frame_loss", test_frame_loss },
	{ "frame_loss_full", test_frame_loss_full },
	{ "frame_loss_cut", test_frame_loss_cut },
	{ "frame_loss_parts", test_frame_loss_parts },
	{ "frame_resync_client", test_frame_resync_client },
	{ "frame_resync_server", test_frame_resync_server },
	{ "frame_gap_in_message", test_frame_gap_in_message },
	{ "frame_gap_in_opaque", test_frame_gap_in_opaque },
	{ "frame_unreadable", test_frame_unreadable },
	{ "frame_judging", test_frame_judging },
	{ "frame_judging_later", test_frame_judging_later },
};

TEST_MAIN(cases)
