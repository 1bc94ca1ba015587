// SPDX-License-Identifier: Apache-2.0
/*
 * Captures of real sessions (tests/golden/record_wire.py) -> framed items. NAME.mangled.pcap holds the same bytes as a bad
 * path brings them, and must give the same; so must both when each byte comes alone. DBFENCE_GOLDEN_UPDATE=1 rewrites
 * NAME.items; the difference is to be reviewed as code.
 */
#include "../lib/test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/frame_items.h"
#include "lib/pcap.h"

#define FOLDER "tests/golden/wire"
#define FILE_MAX (1024 * 1024)
#define CONNS 16

struct side {
	struct follow follow;
	struct frame_items items;
	bool by_byte;
};

struct connection {
	struct pcap_end client, server;
	struct side sides[2]; /* enum dbf_wire_dir */
};

struct run {
	struct connection conns[CONNS];
	unsigned cnt;
	bool by_byte;
	unsigned again, early;
};

static bool same_end(const struct pcap_end *a, const struct pcap_end *b)
{
	return a->port == b->port && !memcmp(a->addr, b->addr, sizeof(a->addr));
}

/* Bytes whose turn has come. */
static void on_bytes(void *ctx, const void *bytes, size_t len)
{
	struct side *s = ctx;

	if (!s->by_byte)
		frame_items_feed(&s->items, bytes, len, FRAME_OF_SKB);
	for (size_t i = 0; s->by_byte && i < len; i++)
		frame_items_feed(&s->items, (const char *)bytes + i, 1, FRAME_OF_SKB);
}

static void conn_begin(struct run *run, const struct pcap_segment *seg)
{
	struct connection *c = &run->conns[run->cnt];

	if (!CHECK(run->cnt < CONNS))
		return;
	run->cnt++;
	c->client = seg->from;
	c->server = seg->to;
	for (int dir = DBF_WIRE_CLIENT; dir <= DBF_WIRE_SERVER; dir++) {
		struct side *s = &c->sides[dir];

		frame_items_init(&s->items, dir, FRAME_START);
		s->follow.take = on_bytes;
		s->follow.ctx = s;
		s->by_byte = run->by_byte;
	}
}

static struct side *side_of(struct run *run, const struct pcap_segment *seg)
{
	for (unsigned i = run->cnt; i-- > 0;) {
		struct connection *c = &run->conns[i];

		if (same_end(&seg->from, &c->client) && same_end(&seg->to, &c->server))
			return &c->sides[DBF_WIRE_CLIENT];
		if (same_end(&seg->from, &c->server) && same_end(&seg->to, &c->client))
			return &c->sides[DBF_WIRE_SERVER];
	}
	return NULL;
}

static void run_segment(struct run *run, const struct pcap_segment *seg)
{
	bool syn = seg->flags & PCAP_SYN;
	struct side *s;

	if (syn && !(seg->flags & PCAP_ACK))
		conn_begin(run, seg);
	s = side_of(run, seg);
	if (!CHECK_MSG(s, "a segment of no connection"))
		return;
	if (syn)
		follow_begin(&s->follow, seg->seq + 1);
	if (CHECK_MSG(s->follow.begun || !seg->len, "bytes before their SYN"))
		follow_feed(&s->follow, seg->seq + syn, seg->bytes, seg->len);
}

static void conn_end(struct run *run, struct connection *c, struct buf *out)
{
	static const char *const names[] = { "client", "server" };

	for (int dir = DBF_WIRE_CLIENT; dir <= DBF_WIRE_SERVER; dir++) {
		struct side *s = &c->sides[dir];

		buf_printf(out, "# connection %td, %s: %llu bytes\n%s", c - run->conns + 1, names[dir],
			   (unsigned long long)s->items.s.bytes, frame_items_text(&s->items));
		CHECK_MSG(!s->items.bad, "%s", s->items.bad);
		CHECK_INT(s->follow.kept_cnt, 0);
		CHECK(!s->follow.full);
		run->again += s->follow.again;
		run->early += s->follow.early;
		frame_items_fini(&s->items);
		follow_fini(&s->follow);
	}
}

static char *read_file(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	char *data = NULL;

	*len = 0;
	if (!f)
		return NULL;
	data = calloc(1, FILE_MAX + 1);
	if (data)
		*len = fread(data, 1, FILE_MAX, f);
	fclose(f);
	return data;
}

/* The items of a capture, in @out; how much of it was disturbed. */
static unsigned run_capture(const char *name, const char *kind, bool by_byte, struct buf *out)
{
	struct run *run = calloc(1, sizeof(*run));
	struct pcap_reader reader;
	struct pcap_segment seg;
	unsigned disturbed;
	char path[512];
	char *data;
	size_t len;

	buf_init(out, 1U << 24);
	snprintf(path, sizeof(path), FOLDER "/%s%s.pcap", name, kind);
	data = read_file(path, &len);
	if (!CHECK_MSG(data && len && run, "%s cannot be read", path)) {
		free(data);
		free(run);
		return 0;
	}
	run->by_byte = by_byte;
	pcap_open(&reader, data, len);
	while (pcap_next(&reader, &seg))
		run_segment(run, &seg);
	CHECK_MSG(!reader.bad, "%s is no capture", path);
	for (unsigned i = 0; i < run->cnt; i++)
		conn_end(run, &run->conns[i], out);
	disturbed = run->again && run->early ? run->again + run->early : 0;
	free(run);
	free(data);
	return disturbed;
}

static void expect_same(const char *name, const char *how, const struct buf *got, const char *want)
{
	CHECK_MSG(!strcmp(buf_str(got), want), "%s%s:\n--- got\n%s--- expected\n%s", name, how, buf_str(got), want);
}

static void check_capture(const char *name)
{
	struct buf got, other;
	char path[512];
	char *want;
	size_t len;
	FILE *f;

	run_capture(name, "", false, &got);
	CHECK_MSG(run_capture(name, ".mangled", false, &other), "%s.mangled is not", name);
	expect_same(name, ", mangled", &other, buf_str(&got));
	buf_fini(&other);
	run_capture(name, "", true, &other);
	expect_same(name, ", byte by byte", &other, buf_str(&got));
	buf_fini(&other);
	snprintf(path, sizeof(path), FOLDER "/%s.items", name);
	if (getenv("DBFENCE_GOLDEN_UPDATE")) {
		f = fopen(path, "wb");
		CHECK(f && fwrite(got.data, 1, got.len, f) == got.len && !fclose(f));
	}
	want = read_file(path, &len);
	if (CHECK_MSG(want, "%s cannot be read", path))
		expect_same(name, "", &got, want);
	free(want);
	buf_fini(&got);
}

static int is_capture(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return n > 5 && !strcmp(d->d_name + n - 5, ".pcap") && !strstr(d->d_name, ".mangled");
}

static void test_golden_captures(void)
{
	struct dirent **names;
	int cnt = scandir(FOLDER, &names, is_capture, alphasort);

	if (!CHECK_MSG(cnt >= 10, "%d captures in " FOLDER "; run it in the root of the tree", cnt))
		return;
	for (int i = 0; i < cnt; i++) {
		names[i]->d_name[strlen(names[i]->d_name) - 5] = '\0';
		check_capture(names[i]->d_name);
		free(names[i]);
	}
	free(names);
}

/* A capture that ends anywhere is read that far. */
static void test_golden_capture_cut(void)
{
	unsigned whole = 0;
	size_t len;
	char *data = read_file(FOLDER "/ssl_refused.pcap", &len);

	if (!CHECK(data && len))
		return;
	for (size_t cut = 0; cut <= len; cut++) {
		struct pcap_reader reader;
		struct pcap_segment seg;
		unsigned cnt = 0;
		char *copy = malloc(cut + 1);

		if (!CHECK(copy))
			break;
		memcpy(copy, data, cut);
		pcap_open(&reader, copy, cut);
		while (pcap_next(&reader, &seg))
			cnt++;
		CHECK(cnt >= whole && cnt <= whole + 1);
		whole = cnt;
		free(copy);
	}
	CHECK(whole > 5);
	free(data);
}

static const struct test_case cases[] = {
	{ "golden_captures", test_golden_captures },
	{ "golden_capture_cut", test_golden_capture_cut },
};

TEST_MAIN(cases)
