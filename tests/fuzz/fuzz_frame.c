// SPDX-License-Identifier: Apache-2.0
/*
 * bpf/lib/frame.bpf.h against a framer that has all bytes at once and keeps no state: until the first loss of framing
 * both say the same, however the bytes are cut. What is not kept has no influence on what is sent; every byte is
 * counted; every statement came or is counted as lost.
 *
 * Input: a byte of options, which records are lost, the bound of a text, how many cuts, the cuts (two bytes each), the
 * stream.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/frame_items.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OPT_SERVER = 1, OPT_TYPED = 2, OPT_LOST = 4, OPT_KEPT = 8, OPT_JUDGING = 16 };

#define CUTS 15
#define HEAD 4

struct input {
	uint8_t opts, refuse;
	u32 text_max;
	unsigned cuts;
	size_t at[CUTS + 1]; /* ascending; the last is len */
	const uint8_t *bytes;
	size_t len;
};

static void must(bool ok)
{
	if (!ok)
		abort();
}

static int by_size(const void *a, const void *b)
{
	size_t x = *(const size_t *)a, y = *(const size_t *)b;

	return x < y ? -1 : x > y;
}

static bool input_parse(struct input *in, const uint8_t *data, size_t size)
{
	if (size < HEAD)
		return false;
	*in = (struct input){ .opts = data[0], .refuse = data[1], .text_max = 1U << data[2] % 21, .cuts = data[3] % (CUTS + 1) };
	if (size < HEAD + 2 * (size_t)in->cuts)
		return false;
	in->bytes = data + HEAD + 2 * in->cuts;
	in->len = size - HEAD - 2 * in->cuts;
	for (unsigned i = 0; i < in->cuts; i++)
		in->at[i] = (data[HEAD + 2 * i] | (size_t)data[HEAD + 2 * i + 1] << 8) % (in->len + 1);
	qsort(in->at, in->cuts, sizeof(in->at[0]), by_size);
	in->at[in->cuts] = in->len;
	return true;
}

/* What is expected. */
struct expected {
	const struct input *in;
	struct buf text;
	uint8_t *used; /* owned; of each byte: may what is sent hang on it? */
	size_t at;
	char run;
	unsigned runs;
	unsigned long long run_bytes;
	bool lost; /* the framing, or a good reason to look at nothing more */
};

static size_t min_of(size_t a, size_t b)
{
	return a < b ? a : b;
}

static u32 number(const uint8_t *b)
{
	return (u32)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
}

static void stop(struct expected *e, const char *line, bool lost)
{
	buf_puts(&e->text, line);
	e->lost = true;
	if (lost) /* what follows may be a beginning again */
		memset(e->used, 1, e->in->len);
	e->at = e->in->len;
}

static void end_run(struct expected *e)
{
	if (e->runs)
		buf_printf(&e->text, "%c x%u %llu\n", e->run, e->runs, e->run_bytes);
	e->runs = 0;
	e->run_bytes = 0;
}

/* @kept bytes at @body of @want, of @length; what stands before is in the line already. */
static void put_body(struct expected *e, const uint8_t *body, size_t kept, size_t want, size_t length)
{
	if (kept)
		buf_putc(&e->text, ' ');
	frame_items_print_bytes(&e->text, body, kept);
	if (kept < want)
		buf_puts(&e->text, " (broken off)");
	else if (kept < length)
		buf_puts(&e->text, " ...");
	buf_putc(&e->text, '\n');
	memset(e->used + (body - e->in->bytes), 1, kept);
}

/* False when the client's stream goes on with typed messages, or ends. */
static bool expect_startup(struct expected *e, bool *gss)
{
	const uint8_t *b = e->in->bytes + e->at;
	size_t left = e->in->len - e->at, body, here, want;
	u32 length, code;

	if (!left)
		return false;
	memset(e->used + e->at, 1, min_of(left, 8));
	if (b[0] == 0x16) {
		stop(e, "opaque 22\n", false);
		return false;
	}
	if (left < 8) {
		e->at = e->in->len;
		return false;
	}
	length = number(b);
	code = number(b + 4);
	if (length < 8 || length > 10004 || (code >> 16 != 3 && (code < 80877102 || code > 80877104))) {
		stop(e, *gss ? "opaque 71\n" : "gap 1\n", !*gss);
		return false;
	}
	*gss = code == 80877104;
	body = length - 8;
	here = min_of(body, left - 8);
	want = code == 80877102 ? min_of(body, 4) : body;
	buf_printf(&e->text, "startup %u", length - 4);
	if (code >> 16 == 3 && body > 1 && here && !b[8]) { /* no name begins so */
		put_body(e, b + 4, 4, 4 + want, length - 4);
		e->used[e->at + 8] = 1;
		stop(e, "gap 1\n", true);
		return false;
	}
	put_body(e, b + 4, 4 + min_of(here, want), 4 + want, length - 4);
	e->at += 8 + here;
	return code >> 16 != 3;
}

static bool expect_answer(struct expected *e)
{
	uint8_t byte;

	if (e->at >= e->in->len)
		return false;
	byte = e->in->bytes[e->at];
	e->used[e->at] = 1;
	if (byte == 0x16)
		stop(e, "opaque 22\n", false);
	else if (byte == 'S')
		stop(e, "answer 83\nopaque 83\n", false);
	else if (byte == 'G')
		stop(e, "answer 71\nopaque 71\n", false);
	else if (byte == 'N')
		buf_puts(&e->text, "answer 78\n");
	else
		return false;
	e->at++;
	return byte == 'N';
}

static bool one_of(const char *types, uint8_t type)
{
	return type && strchr(types, type);
}

/* Bytes wanted of a body of @length, of which @here are here; the names of a Bind end where they end. */
static size_t wanted(const struct expected *e, uint8_t type, const uint8_t *body, size_t length, size_t here)
{
	bool server = e->in->opts & OPT_SERVER;
	size_t most = min_of(length, 512), nuls = 0;

	if (!server && one_of("QP", type))
		return min_of(length, e->in->text_max);
	if (server ? one_of("RK", type) : type == 'F')
		return min_of(length, 4);
	if (server && one_of("ZGHW", type))
		return min_of(length, 1);
	if (server ? one_of("CES", type) : one_of("EDC", type))
		return most;
	if (server || type != 'B')
		return 0;
	for (size_t i = 0; i < min_of(most, here); i++) {
		nuls += !body[i];
		if (nuls == 2)
			return i + 1;
	}
	return most;
}

static bool expect_message(struct expected *e)
{
	bool server = e->in->opts & OPT_SERVER;
	const uint8_t *b = e->in->bytes + e->at;
	size_t left = e->in->len - e->at, length, here, want;

	memset(e->used + e->at, 1, min_of(left, 5));
	if (left < 5)
		return false;
	if (number(b + 1) < 4 || number(b + 1) - 4 > 1U << 30 ||
	    !one_of(server ? "RZCESKGHWDdTtn123IsVcNAv" : "QPBEDCFdSHXcfp", b[0])) {
		end_run(e);
		stop(e, "gap 1\n", true);
		return false;
	}
	length = number(b + 1) - 4;
	here = min_of(length, left - 5);
	e->at += 5 + here;
	if (b[0] == 'd' || (server && b[0] == 'D')) {
		if (e->run != (char)b[0])
			end_run(e);
		e->run = (char)b[0];
		e->runs++;
		e->run_bytes += length;
		return true;
	}
	if (server && one_of("NAv", b[0]))
		return true;
	end_run(e);
	want = wanted(e, b[0], b + 5, length, here);
	if (want && !here)
		return false;
	buf_printf(&e->text, "%c %zu", b[0], length);
	put_body(e, b + 5, min_of(want, here), want, length);
	return true;
}

static void expect(struct expected *e, const struct input *in)
{
	bool gss = false;

	*e = (struct expected){ .in = in, .used = calloc(1, in->len + 1) };
	must(e->used);
	buf_init(&e->text, 1U << 24);
	if (!(in->opts & OPT_TYPED))
		while (in->opts & OPT_SERVER ? expect_answer(e) : expect_startup(e, &gss))
			;
	while (e->at < in->len && expect_message(e))
		;
	must(!buf_err(&e->text));
}

static void run(struct frame_items *f, const struct input *in, const uint8_t *bytes, bool cut, u64 refuse)
{
	enum frame_how how = in->opts & OPT_KEPT ? FRAME_OF_KEPT : FRAME_OF_SKB;
	size_t at = 0, n;

	frame_items_init(f, in->opts & OPT_SERVER ? DBF_WIRE_SERVER : DBF_WIRE_CLIENT,
			 in->opts & OPT_LOST ? FRAME_LOST : in->opts & OPT_TYPED ? FRAME_TYPED : FRAME_START);
	f->text_max = in->text_max;
	f->refuse = refuse;
	f->judging = in->opts & OPT_JUDGING;
	for (unsigned i = cut ? 0 : in->cuts; i <= in->cuts; i++)
		for (; at < in->at[i]; at += n) {
			n = in->at[i] - at;
			n = how == FRAME_OF_KEPT ? min_of(n, FRAME_KEPT) : n;
			frame_items_feed(f, bytes + at, n, how);
		}
	frame_items_text(f);
	must(!f->bad);
	must(f->s.bytes == in->len && f->s.next == (u32)in->len);
}

/* As far as nothing was lost: what is found again hangs on the cuts. */
static void compare(struct frame_items *f, const struct expected *e)
{
	const char *got = frame_items_text(f);

	must(!strncmp(got, buf_str(&e->text), e->text.len));
	must(e->lost || !got[e->text.len]);
}

/* Other bytes in the place of those that are not kept. */
static void check_not_kept(const struct expected *e, const struct frame_items *f)
{
	const struct input *in = e->in;
	uint8_t *other = malloc(in->len + 1);
	struct frame_items g;

	must(other);
	for (size_t i = 0; i < in->len; i++)
		other[i] = e->used[i] ? in->bytes[i] : in->bytes[i] ^ 0x5a;
	run(&g, in, other, true, 0);
	must(f->raw.len == g.raw.len && (!g.raw.len || !memcmp(f->raw.data, g.raw.data, g.raw.len)));
	frame_items_fini(&g);
	free(other);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct frame_items whole, cut, lossy;
	struct expected e;
	struct input in;

	if (!input_parse(&in, data, size))
		return 0;
	run(&whole, &in, in.bytes, false, 0);
	run(&cut, &in, in.bytes, true, 0);
	run(&lossy, &in, in.bytes, true, in.refuse);
	must(lossy.execs + lossy.s.lost_execs == cut.execs);
	must(lossy.s.seq == cut.s.seq && lossy.s.lost_records <= 8);
	if (!(in.opts & OPT_LOST)) {
		expect(&e, &in);
		compare(&whole, &e);
		compare(&cut, &e);
		check_not_kept(&e, &cut);
		buf_fini(&e.text);
		free(e.used);
	}
	frame_items_fini(&whole);
	frame_items_fini(&cut);
	frame_items_fini(&lossy);
	return 0;
}
