// SPDX-License-Identifier: Apache-2.0
/*
 * Captures of real sessions (tests/golden/record_wire.py) -> framed items -> exact audit records, through the kernel's
 * framing and the whole pipeline. NAME.mangled.pcap holds the same bytes as a bad path brings them, and must give the same;
 * so must they when each byte comes alone. DBFENCE_GOLDEN_UPDATE=1 rewrites NAME.items and NAME.expected; the difference is
 * to be reviewed as code.
 */
#include "golden.h"

#include <dirent.h>

#include "lib/frame_items.h"
#include "lib/pcap.h"

#define FOLDER "tests/golden/wire"
#define POLICY "tests/golden/pipeline/policy.yaml"
#define CONNS 16
#define NS_BASE 10000000000ULL

struct side {
	struct run *run;	  /* borrowed */
	struct connection *conn;  /* borrowed */
	struct follow follow;
	struct frame_items items;
	bool opened, ended;
};

struct connection {
	struct pcap_end client, server;
	unsigned number;
	struct side sides[2]; /* enum dbf_wire_dir */
};

struct run {
	struct connection conns[CONNS];
	unsigned cnt;
	bool by_byte;
	u64 refuse[2]; /* records of each direction that the ring has no room for: 1 << n */
	unsigned again, early;
	struct golden golden;
};

static bool same_end(const struct pcap_end *a, const struct pcap_end *b)
{
	return a->port == b->port && !memcmp(a->addr, b->addr, sizeof(a->addr));
}

/* Into the pipeline, as from the ring. */
static void on_record(void *ctx, const void *record, size_t len)
{
	golden_feed(ctx, record, len);
}

/* An end begins to be followed, by a process of its own. */
static void side_open(struct side *s)
{
	const struct connection *c = s->conn;
	struct frame_items *items = &s->items;
	u8 dir = items->s.dir;
	struct dbf_wire_open open = { .client_port = c->client.port, .server_port = c->server.port, .netns = 4026531840U,
				      .cookie = 100U + 2 * c->number + dir, .end = dir, .synced = 3 };
	struct dbf_wire_who who = { .pid = 1000U * (dir + 1) + c->number, .uid = dir ? 105 : 1000, .start = 5000000000ULL + dir,
				    .cgroup = 40U + dir };

	memcpy(open.client_addr, c->client.addr, sizeof(open.client_addr));
	memcpy(open.server_addr, c->server.addr, sizeof(open.server_addr));
	memcpy(who.comm, dir ? "postgres" : "client", dir ? 8 : 6);
	items->rec->head.conn = 0xc0ffee0000ULL + c->number;
	items->rec->head.seen_by = dir;
	items->rec->head.pid = who.pid;
	frame_items_begin(items);
	frame_items_put(items, DBF_WIRE_OPEN, &open, sizeof(open));
	frame_items_put(items, DBF_WIRE_WHO, &who, sizeof(who));
	frame_flush(&items->s, items->rec);
	frame_items_text(items);
	buf_reset(&items->text);
	s->opened = true;
}

/* Its socket is gone. */
static void side_close(struct side *s, u32 how)
{
	if (!s->opened)
		return;
	frame_items_begin(&s->items);
	frame_note(&s->items.s, s->items.rec, DBF_WIRE_CLOSE, how);
	frame_flush(&s->items.s, s->items.rec);
	s->opened = false;
}

/* Bytes whose turn has come. */
static void on_bytes(void *ctx, const void *bytes, size_t len)
{
	struct side *s = ctx;

	if (!s->opened)
		side_open(s);
	if (!s->run->by_byte)
		frame_items_feed(&s->items, bytes, len, FRAME_OF_SKB);
	for (size_t i = 0; s->run->by_byte && i < len; i++)
		frame_items_feed(&s->items, (const char *)bytes + i, 1, FRAME_OF_SKB);
}

static void conn_begin(struct run *run, const struct pcap_segment *seg)
{
	struct connection *c = &run->conns[run->cnt];

	if (!CHECK(run->cnt < CONNS))
		return;
	c->number = ++run->cnt;
	c->client = seg->from;
	c->server = seg->to;
	for (int dir = DBF_WIRE_CLIENT; dir <= DBF_WIRE_SERVER; dir++) {
		struct side *s = &c->sides[dir];

		frame_items_init(&s->items, dir, FRAME_START);
		s->follow.take = on_bytes;
		s->follow.ctx = s;
		s->run = run;
		s->conn = c;
		s->items.refuse = run->refuse[dir];
		s->items.record = on_record;
		s->items.record_ctx = &run->golden;
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

/* It says no more; the sockets are gone when both do, or at once. */
static void side_ends(struct side *s, bool reset)
{
	struct side *sides = s->conn->sides;

	s->ended = true;
	if (!reset && !(sides[0].ended && sides[1].ended))
		return;
	side_close(&sides[DBF_WIRE_CLIENT], reset ? 2 : 1);
	side_close(&sides[DBF_WIRE_SERVER], reset ? 2 : 1);
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
	for (int dir = DBF_WIRE_CLIENT; dir <= DBF_WIRE_SERVER; dir++)
		s->conn->sides[dir].items.rec->head.ts = NS_BASE + seg->ns;
	if (syn)
		follow_begin(&s->follow, seg->seq + 1);
	if (CHECK_MSG(s->follow.begun || !seg->len, "bytes before their SYN"))
		follow_feed(&s->follow, seg->seq + syn, seg->bytes, seg->len);
	if (seg->flags & (PCAP_FIN | PCAP_RST))
		side_ends(s, seg->flags & PCAP_RST);
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

struct result {
	struct buf items;
	struct buf records;
	unsigned disturbed; /* segments that came again, and too early; 0 unless both did */
};

static void result_fini(struct result *r)
{
	buf_fini(&r->items);
	buf_fini(&r->records);
}

static void run_data(struct run *run, const char *data, size_t len, struct buf *items)
{
	struct pcap_reader reader;
	struct pcap_segment seg;

	pcap_open(&reader, data, len);
	while (pcap_next(&reader, &seg))
		run_segment(run, &seg);
	CHECK(!reader.bad);
	for (unsigned i = 0; i < run->cnt; i++)
		conn_end(run, &run->conns[i], items);
}

static bool run_capture(const char *name, const char *kind, const struct run *how, struct result *r)
{
	struct run *run = malloc(sizeof(*run));
	bool ok = false;
	char path[512];
	char *data;
	size_t len;

	snprintf(path, sizeof(path), FOLDER "/%s%s.pcap", name, kind);
	data = golden_read(path, &len);
	if (run)
		*run = *how;
	if (CHECK_MSG(data && len && run, "%s cannot be read", path) && golden_open(&run->golden, POLICY)) {
		buf_init(&r->items, 1U << 24);
		run_data(run, data, len, &r->items);
		golden_finish(&run->golden);
		r->records = run->golden.out;
		r->disturbed = run->again && run->early ? run->again + run->early : 0;
		ok = true;
	}
	free(run);
	free(data);
	return ok;
}

/* What another way to bring the same bytes makes of them. */
static void check_same(const char *name, const char *kind, bool by_byte, const struct result *want)
{
	const struct run plan = { .by_byte = by_byte };
	struct result r;
	char how[64];

	if (!run_capture(name, kind, &plan, &r))
		return;
	snprintf(how, sizeof(how), "%s%s", kind, by_byte ? ", byte by byte" : "");
	golden_compare(name, how, buf_str(&r.items), buf_str(&want->items));
	golden_compare(name, how, buf_str(&r.records), buf_str(&want->records));
	CHECK_MSG(!kind[0] || r.disturbed, "%s%s is not disturbed", name, kind);
	result_fini(&r);
}

static void check_capture(const char *name)
{
	const struct run plan = { 0 };
	struct result r;
	char path[512];

	if (!run_capture(name, "", &plan, &r))
		return;
	check_same(name, ".mangled", false, &r);
	check_same(name, "", true, &r);
	snprintf(path, sizeof(path), FOLDER "/%s.items", name);
	golden_expect(path, &r.items);
	snprintf(path, sizeof(path), FOLDER "/%s.expected", name);
	golden_expect(path, &r.records);
	result_fini(&r);
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

/* Losing any one record costs what was in it, and says so. */
static void test_golden_wire_loss(void)
{
	const struct run plain = { 0 };
	struct result all, r;

	if (!run_capture("simple", "", &plain, &all))
		return;
	for (unsigned dir = DBF_WIRE_CLIENT; dir <= DBF_WIRE_SERVER; dir++) {
		for (unsigned n = 1; n < 10; n++) {
			struct run plan = { 0 };

			plan.refuse[dir] = 1U << n;
			if (!run_capture("simple", "", &plan, &r))
				continue;
			CHECK_MSG(strcmp(buf_str(&r.items), buf_str(&all.items)), "record %u of %u was not lost", n, dir);
			CHECK_MSG(strstr(buf_str(&r.records), "\"kind\":\"gap\""), "record %u of %u was lost silently", n, dir);
			CHECK_MSG(strstr(buf_str(&r.records), "sessions left=0"), "record %u of %u", n, dir);
			result_fini(&r);
		}
	}
	result_fini(&all);
}

/* A capture that ends anywhere is read that far. */
static void test_golden_capture_cut(void)
{
	unsigned whole = 0;
	size_t len;
	char *data = golden_read(FOLDER "/ssl_refused.pcap", &len);

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
	{ "golden_wire_loss", test_golden_wire_loss },
	{ "golden_capture_cut", test_golden_capture_cut },
};

TEST_MAIN(cases)
