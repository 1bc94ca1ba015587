/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the golden tests share: a pipeline whose audit records, and what it asks of the keeper, become text, and the
 * comparison with a checked-in expectation, which DBFENCE_GOLDEN_UPDATE=1 rewrites.
 *
 * The wall clock is the machine's: it is set to zero, and so is the monotonic time of records that are stamped when they
 * are made.
 */
#ifndef DBFENCE_TESTS_UNIT_GOLDEN_H
#define DBFENCE_TESTS_UNIT_GOLDEN_H

#include <stdio.h>
#include <stdlib.h>

#include "../lib/test.h"
#include "audit/json.h"
#include "audit/record.h"
#include "dbfence/audit.pb-c.h"
#include "pipeline.h"

#define GOLDEN_FILE_MAX (1024 * 1024)
#define GOLDEN_OUT_MAX (4 * 1024 * 1024)

struct golden {
	struct pipeline *pipeline;
	struct record_arena arena;
	struct buf out;
	struct msg_who asked[16];	/* answered between two records, as the keeper does */
	unsigned asked_cnt;
};

static inline void golden_on_record(void *ctx, const void *body, size_t len)
{
	struct golden *g = ctx;
	Dbfence__Audit__V1__Record *rec = record_unpack(&g->arena, body, len);

	if (!CHECK(rec))
		return;
	rec->time_ns = rec->end_time_ns = 0;
	if (!strcmp(rec->kind, "session") || !strcmp(rec->kind, "gap"))
		rec->mono_ns = rec->end_mono_ns = 0;
	if (rec->session && !strcmp(rec->session->event, "cancel_request"))
		rec->bytes_in = 0; /* told before its last bytes, or behind them */
	if (rec->statement && rec->statement->unknown_reason[0])
		rec->statement->fingerprint[0] = '\0';
	audit_json_write(rec, &g->out);
}

static inline void golden_on_message(void *ctx, uint32_t type, const void *payload, size_t len)
{
	static const char *const actions[] = { "none", "allow", "deny", "kill" };
	struct golden *g = ctx;

	if (type == MSG_VERDICT && CHECK_INT(len, sizeof(struct msg_verdict))) {
		const struct msg_verdict *m = payload;

		buf_printf(&g->out, "# verdict slot=%u seq=%u action=%s remember=%u\n", m->slot, m->slot_seq,
			   m->action < 4 ? actions[m->action] : "?", m->remember);
	} else if (type == MSG_CLASS && CHECK_INT(len, sizeof(struct msg_class))) {
		buf_printf(&g->out, "# class %u\n", ((const struct msg_class *)payload)->identity_class);
	} else if (type == MSG_WHO && CHECK_INT(len, sizeof(struct msg_who))) {
		buf_puts(&g->out, "# who\n");
		if (g->asked_cnt < 16)
			g->asked[g->asked_cnt++] = *(const struct msg_who *)payload;
	} else {
		CHECK_MSG(false, "message %u", type);
	}
}

static inline void golden_close(struct golden *g)
{
	pipeline_free(g->pipeline);
	record_arena_fini(&g->arena);
}

/* False (and closed) when it cannot be. Its text, @g->out, is the caller's to free. */
static inline bool golden_open(struct golden *g, const char *policy)
{
	static const struct pipeline_ops ops = { .record = golden_on_record, .message = golden_on_message };
	struct pipeline_opts opts = { .node = "golden" };
	struct policy_report report;
	struct policy_set *set = NULL;
	bool ok;

	memset(g, 0, sizeof(*g));
	policy_report_init(&report);
	buf_init(&g->out, GOLDEN_OUT_MAX);
	record_arena_init(&g->arena);
	g->pipeline = pipeline_new(&opts, &ops, g);
	ok = CHECK(g->pipeline) &&
	     CHECK_MSG(policy_set_load_path(policy, 1, &set, &report) == 0, "%s", buf_str(&report.text));
	if (ok)
		pipeline_set_policy(g->pipeline, set);
	else
		golden_close(g);
	policy_report_fini(&report);
	return ok;
}

/* One kernel record; what is asked about it is answered. */
static inline void golden_feed(struct golden *g, const void *record, size_t len)
{
	pipeline_feed(g->pipeline, record, len);
	for (unsigned i = 0; i < g->asked_cnt; i++) {
		const struct msg_who *ask = &g->asked[i];
		struct msg_who_answer a = { .session = ask->session, .found = 1,
					    .start_ticks = ask->session.tgid ? 4242 : ask->start / 10000000,
					    .exe = "/usr/lib/golden/client", .comm = "client",
					    .cgroup = "/golden.slice" };

		pipeline_who(g->pipeline, &a);
	}
	g->asked_cnt = 0;
}

/* Nothing more comes. */
static inline void golden_finish(struct golden *g)
{
	struct msg_stats stats;

	pipeline_stats(g->pipeline, &stats);
	CHECK_INT(stats.bad_records, 0);
	CHECK_INT(stats.record_errors, 0);
	CHECK_INT(buf_err(&g->out), 0);
	buf_printf(&g->out, "# statements=%llu nested=%llu orphans=%llu sessions left=%llu\n",
		   (unsigned long long)stats.statements, (unsigned long long)stats.nested,
		   (unsigned long long)stats.orphan_replies, (unsigned long long)stats.sessions);
	golden_close(g);
}

/* The file's bytes and a NUL, to be freed; NULL when it cannot be read. */
static inline char *golden_read(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	char *data = NULL;

	*len = 0;
	if (!f)
		return NULL;
	data = calloc(1, GOLDEN_FILE_MAX + 1);
	if (data)
		*len = fread(data, 1, GOLDEN_FILE_MAX, f);
	fclose(f);
	return data;
}

/* Fails with the first line that differs. */
static inline void golden_compare(const char *name, const char *how, const char *got, const char *want)
{
	unsigned line = 1;

	while (*got || *want) {
		size_t n = strcspn(got, "\n"), m = strcspn(want, "\n");

		if (n != m || memcmp(got, want, n)) {
			CHECK_MSG(false, "%s%s, line %u:\n  got      %.*s\n  expected %.*s", name, how, line, (int)n, got,
				  (int)m, want);
			return;
		}
		got += n + (got[n] == '\n');
		want += m + (want[m] == '\n');
		line++;
	}
}

/* @got is what the file at @path says. */
static inline void golden_expect(const char *path, const struct buf *got)
{
	size_t len;
	char *want;
	FILE *f;

	if (getenv("DBFENCE_GOLDEN_UPDATE")) {
		f = fopen(path, "wb");
		CHECK(f && fwrite(got->data, 1, got->len, f) == got->len && !fclose(f));
	}
	want = golden_read(path, &len);
	if (CHECK_MSG(want, "%s cannot be read", path))
		golden_compare(path, "", buf_str(got), want);
	free(want);
}

#endif
