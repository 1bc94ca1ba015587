// SPDX-License-Identifier: Apache-2.0
/*
 * What the daemon's own code costs per statement, without kernel, sockets or disk: the records that a backend would
 * send, and those of a TCP connection, through the worker's pipeline and the recorder's journal (into /dev/null's place, a
 * memory file).
 *
 *   build/tests/bench/pipeline [POLICY …]        ns per statement of each part, best and median of the rounds
 *
 * Literals differ from statement to statement, as pgbench's do.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../unit/conn_facts.h"
#include "../unit/wire_records.h"
#include "audit/journal.h"
#include "core/clock.h"
#include "pipeline.h"

#define STATEMENTS 20000
#define ROUNDS 15

enum mode { SIMPLE, PREPARED, WIRE_SIMPLE, WIRE_PREPARED, MODES };

static struct wiring wire; /* the same, seen on the wire */

struct taken {
	unsigned char *bodies; /* owned: the records of one round, length in front */
	size_t len, cap;
	unsigned cnt;
};

struct stream {
	unsigned char *bytes; /* owned: ring records, length in front */
	size_t len, cap;
	uint32_t seq;
};

static void put(unsigned char **to, size_t *len, size_t *cap, const void *data, size_t n)
{
	uint32_t size = (uint32_t)n;

	if (*len + n + 16 > *cap) {
		*cap = 2 * *cap + n + 4096;
		*to = realloc(*to, *cap);
		if (!*to)
			abort();
	}
	memcpy(*to + *len, &size, sizeof(size));
	memcpy(*to + *len + 8, data, n);
	*len += 8 + ((n + 7) & ~(size_t)7);
}

static void on_record(void *ctx, const void *body, size_t len)
{
	struct taken *t = ctx;

	if (t->bodies)
		put(&t->bodies, &t->len, &t->cap, body, len);
	t->cnt++;
}

static void on_message(void *ctx, uint32_t type, const void *payload, size_t len)
{
	(void)ctx, (void)type, (void)payload, (void)len;
}

static void stream_add(struct stream *s, struct facts *f)
{
	static union {
		struct dbf_batch head;
		uint64_t words[2048];
	} one;

	one.head = (struct dbf_batch){ .abi = DBF_ABI_VERSION, .tgid = 4711, .session = 123456789, .postmaster = 17,
				       .seq = s->seq++ };
	one.head.len = (uint32_t)(sizeof(one.head) + f->at[f->cnt]);
	memcpy(one.words + sizeof(one.head) / 8, f->words, f->at[f->cnt]);
	put(&s->bytes, &s->len, &s->cap, &one, one.head.len);
	f->cnt = 0;
}

static void stream_record(void *to, const void *record, size_t len)
{
	struct stream *s = to;

	put(&s->bytes, &s->len, &s->cap, record, len);
}

static void make_wire_stream(struct stream *s, enum mode mode)
{
	char line[160];

	*s = (struct stream){ 0 };
	wire.feed = stream_record;
	wire.to = s;
	for (uint32_t i = 1; i <= STATEMENTS; i++) {
		if (mode == WIRE_SIMPLE)
			snprintf(line, sizeof(line), "> Q(SELECT abalance FROM pgbench_accounts WHERE aid = %u;) "
				 "< T D(1) C(SELECT 1) ZI", i * 2654435761U % 100000);
		else
			snprintf(line, sizeof(line), "> B(,P_0) D(P,) E() S < 2 T D(1) C(SELECT 1) ZI");
		wiring_say(&wire, line);
	}
}

static void feed_pipeline(void *to, const void *record, size_t len)
{
	pipeline_feed(to, record, len);
}

static void open_connection(struct pipeline *p)
{
	struct msg_who_answer who = { .session = { .session = 987654321 }, .found = 1, .start_ticks = 5,
				      .exe = "/usr/lib/postgresql/15/bin/pgbench", .comm = "pgbench",
				      .cgroup = "/user.slice/user-0.slice/session-1.scope" };

	wiring_init(&wire, 987654321, feed_pipeline, p);
	wiring_begin(&wire, 3, 5, 4711);
	pipeline_who(p, &who);
	wiring_say(&wire, "> P(P_0,SELECT abalance FROM pgbench_accounts WHERE aid = $1;) S < 1 ZI");
}

static void make_stream(struct stream *s, enum mode mode)
{
	static struct facts f;
	char text[128];

	memset(&f, 0, sizeof(f));
	*s = (struct stream){ .seq = s->seq };
	for (uint32_t i = 1; i <= STATEMENTS; i++) {
		if (mode == SIMPLE) {
			snprintf(text, sizeof(text), "SELECT abalance FROM pgbench_accounts WHERE aid = %u;",
				 i * 2654435761U % 100000);
			add_parse(&f, text);
			add_run(&f, i, DBF_OP_SELECT, false);
		} else {
			add_execute(&f, i, DBF_OP_SELECT, "SELECT abalance FROM pgbench_accounts WHERE aid = $1;", "P_0");
		}
		add_tag(&f, "SELECT 1");
		add_ready(&f, 'I');
		stream_add(s, &f);
	}
}

static void open_session(struct pipeline *p, struct stream *s)
{
	static struct facts f;
	struct msg_who_answer who = { .session = { .session = 123456789, .tgid = 4711 }, .found = 1,
				      .exe = "/usr/lib/postgresql/15/bin/pgbench", .comm = "pgbench",
				      .cgroup = "/user.slice/user-0.slice/session-1.scope" };

	*s = (struct stream){ 0 };
	add_open(&f, false);
	add_reply(&f, 'R', "\0\0\0\0", 4, 0);
	add_ready(&f, 'I');
	stream_add(s, &f);
	pipeline_feed(p, s->bytes + 8, *(uint32_t *)(void *)s->bytes);
	pipeline_who(p, &who);
	free(s->bytes);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void show(const char *title, double *ns, size_t bytes)
{
	qsort(ns, ROUNDS, sizeof(*ns), by_value);
	printf("  %-22s %7.0f ns best, %7.0f ns median, %zu bytes a record\n", title, ns[0], ns[ROUNDS / 2], bytes);
}

static void run_pipeline(struct pipeline *p, struct stream *s, enum mode mode, struct taken *taken)
{
	static const char *const names[MODES] = { "pipeline, simple", "pipeline, prepared", "wire, simple", "wire, prepared" };
	double ns[ROUNDS];

	for (unsigned r = 0; r < ROUNDS; r++) {
		uint64_t start;

		(mode >= WIRE_SIMPLE ? make_wire_stream : make_stream)(s, mode);
		taken->len = taken->cnt = 0;
		start = clock_mono_ns();
		for (size_t at = 0; at < s->len;) {
			uint32_t len = *(uint32_t *)(void *)(s->bytes + at);

			pipeline_feed(p, s->bytes + at + 8, len);
			at += 8 + ((len + 7) & ~7UL);
		}
		ns[r] = (double)(clock_mono_ns() - start) / STATEMENTS;
		free(s->bytes);
		if (taken->cnt != STATEMENTS) {
			fprintf(stderr, "%u records of %u statements\n", taken->cnt, STATEMENTS);
			exit(1);
		}
	}
	show(names[mode], ns, taken->len / taken->cnt);
}

static void run_journal(const struct taken *taken)
{
	char dir[] = "/dev/shm/dbfence-bench-XXXXXX", path[256];
	struct journal_opts opts = { .node = "bench", .segment_bytes = 1UL << 30 };
	struct journal_repair repair;
	struct journal *journal;
	double ns[ROUNDS];
	struct err err;
	int fd;

	if (!mkdtemp(dir))
		return;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || journal_open(fd, &opts, &journal, &repair, &err))
		exit(1);
	for (unsigned r = 0; r < ROUNDS; r++) {
		uint64_t start = clock_mono_ns();

		for (size_t at = 0; at < taken->len;) {
			uint32_t len = *(uint32_t *)(void *)(taken->bodies + at);

			journal_append(journal, taken->bodies + at + 8, len, 0);
			at += 8 + ((len + 7) & ~7UL);
		}
		journal_flush(journal);
		ns[r] = (double)(clock_mono_ns() - start) / taken->cnt;
	}
	journal_close(journal);
	snprintf(path, sizeof(path), "%s/000000000001.dbf", dir);
	unlink(path);
	rmdir(dir);
	close(fd);
	show("journal", ns, taken->len / taken->cnt);
}

int main(int argc, char **argv)
{
	struct taken taken = { .bodies = malloc(1), .cap = 1 };
	struct pipeline_ops ops = { .record = on_record, .message = on_message };
	struct pipeline_opts opts = { .node = "bench" };
	struct pipeline *p = pipeline_new(&opts, &ops, &taken);
	struct policy_set *set = NULL;
	struct policy_report report;
	struct stream s;

	if (!p)
		return 1;
	policy_report_init(&report);
	if (argc > 1 && policy_set_load_path(argv[1], 1, &set, &report)) {
		fprintf(stderr, "%s", buf_str(&report.text));
		return 1;
	}
	if (set)
		pipeline_set_policy(p, set);
	open_session(p, &s);
	open_connection(p);
	for (enum mode mode = SIMPLE; mode < MODES; mode++)
		run_pipeline(p, &s, mode, &taken);
	run_journal(&taken);
	pipeline_free(p);
	free(taken.bodies);
	policy_report_fini(&report);
	return 0;
}
