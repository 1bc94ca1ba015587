// SPDX-License-Identifier: Apache-2.0
/*
 * Recorded kernel records -> exact audit records, through the whole pipeline. tests/golden/pipeline/NAME.rec holds
 * records (u32 length, bytes, repeated; tests/golden/record.py makes them), NAME.expected the audit records as JSON and,
 * in lines that begin with '#', what the pipeline asked of the keeper. DBFENCE_GOLDEN_UPDATE=1 rewrites NAME.expected;
 * the difference is to be reviewed as code.
 *
 * The wall clock is the machine's: it is set to zero, and so is the monotonic time of records that are stamped when they
 * are made.
 */
#include "../lib/test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "audit/json.h"
#include "audit/record.h"
#include "dbfence/audit.pb-c.h"
#include "pipeline.h"
#include "source/batch.h"
#include "source/wire.h"

#define FOLDER "tests/golden/pipeline"
#define FILE_MAX (1024 * 1024)
#define OUT_MAX (4 * 1024 * 1024)
#define RECORD_MAX 16384 /* larger than any of either layout */

struct run {
	struct pipeline *pipeline;
	struct record_arena arena;
	struct buf out;
	struct msg_who asked[16];	/* answered between two records, as the keeper does */
	unsigned asked_cnt;
};

static void on_record(void *ctx, const void *body, size_t len)
{
	struct run *run = ctx;
	Dbfence__Audit__V1__Record *rec = record_unpack(&run->arena, body, len);

	if (!CHECK(rec))
		return;
	rec->time_ns = rec->end_time_ns = 0;
	if (!strcmp(rec->kind, "session") || !strcmp(rec->kind, "gap"))
		rec->mono_ns = rec->end_mono_ns = 0;
	if (rec->statement && rec->statement->unknown_reason[0])
		rec->statement->fingerprint[0] = '\0';
	audit_json_write(rec, &run->out);
}

static void on_message(void *ctx, uint32_t type, const void *payload, size_t len)
{
	static const char *const actions[] = { "none", "allow", "deny", "kill" };
	struct run *run = ctx;

	if (type == MSG_VERDICT && CHECK_INT(len, sizeof(struct msg_verdict))) {
		const struct msg_verdict *m = payload;

		buf_printf(&run->out, "# verdict slot=%u seq=%u action=%s remember=%u\n", m->slot, m->slot_seq,
			   m->action < 4 ? actions[m->action] : "?", m->remember);
	} else if (type == MSG_CLASS && CHECK_INT(len, sizeof(struct msg_class))) {
		buf_printf(&run->out, "# class %u\n", ((const struct msg_class *)payload)->identity_class);
	} else if (type == MSG_WHO && CHECK_INT(len, sizeof(struct msg_who))) {
		buf_puts(&run->out, "# who\n");
		if (run->asked_cnt < 16)
			run->asked[run->asked_cnt++] = *(const struct msg_who *)payload;
	} else {
		CHECK_MSG(false, "message %u", type);
	}
}

static void answer_who(struct run *run)
{
	for (unsigned i = 0; i < run->asked_cnt; i++) {
		const struct msg_who *ask = &run->asked[i];
		struct msg_who_answer a = { .session = ask->session, .found = 1,
					    .start_ticks = ask->session.tgid ? 4242 : ask->start / 10000000,
					    .exe = "/usr/lib/golden/client", .comm = "client",
					    .cgroup = "/golden.slice" };

		pipeline_who(run->pipeline, &a);
	}
	run->asked_cnt = 0;
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

/* Each fact of @record as a batch of its own; *seq counts over the file. */
static void feed_facts(struct run *run, const void *record, size_t len, uint32_t *seq)
{
	union {
		struct dbf_batch head;
		uint64_t words[(sizeof(struct dbf_batch) + DBF_BATCH_BYTES) / 8];
	} one;
	struct batch_iter it;
	const struct dbf_batch *b = batch_open(record, len, &it);
	struct batch_fact f;

	if (!CHECK(b))
		return;
	one.head = *b;
	for (const unsigned char *at = it.at; batch_next(&it, &f); at = it.at) {
		size_t size = (size_t)(it.at - at);

		if (!CHECK(size <= DBF_BATCH_BYTES))
			return;
		memcpy(one.words + sizeof(struct dbf_batch) / 8, at, size);
		one.head.len = (uint32_t)(sizeof(struct dbf_batch) + size);
		one.head.seq = (*seq)++;
		pipeline_feed(run->pipeline, &one, one.head.len);
		answer_who(run);
	}
	CHECK(!it.bad);
}

/* Each item of @record as a record of its own. */
static void feed_items(struct run *run, const void *record, size_t len, uint32_t *seq)
{
	uint64_t one[RECORD_MAX / 8];
	struct dbf_wire head;
	struct wire_item item;
	struct wire_iter it;
	const struct dbf_wire *w = wire_open(record, len, &it);

	if (!CHECK(w))
		return;
	head = *w;
	for (const unsigned char *at = it.at; wire_next(&it, &item); at = it.at) {
		size_t size = (size_t)(it.at - at);

		head.len = (uint32_t)(sizeof(head) + size);
		head.seq = (*seq)++;
		memcpy(one, &head, sizeof(head));
		memcpy((char *)one + sizeof(head), at, size);
		pipeline_feed(run->pipeline, one, head.len);
		answer_who(run);
	}
	CHECK(!it.bad);
}

/* What counts its own records: a session, or one direction of a connection. */
static uint64_t counts_own(const void *record, size_t len)
{
	const struct dbf_wire *w = record;

	return wire_is_record(record, len) ? w->conn * 2 + w->dir : ((const struct dbf_batch *)record)->session;
}

static void feed_file(struct run *run, const char *data, size_t len, bool by_fact)
{
	uint64_t *record = calloc(1, RECORD_MAX + 8);
	struct {
		uint64_t session;
		uint32_t seq;
	} seen[64] = { 0 };
	size_t at = 0;
	uint32_t n;

	if (!CHECK(record))
		return;
	while (at + sizeof(n) <= len) {
		memcpy(&n, data + at, sizeof(n));
		at += sizeof(n);
		if (!CHECK(n <= len - at) || !CHECK(n >= sizeof(struct dbf_wire)) || !CHECK(n <= RECORD_MAX))
			break;
		memcpy(record, data + at, n);
		at += n;
		if (by_fact) {
			uint64_t session = counts_own(record, n);
			unsigned i = 0;

			while (i < 63 && seen[i].session && seen[i].session != session)
				i++;
			seen[i].session = session;
			(wire_is_record(record, n) ? feed_items : feed_facts)(run, record, n, &seen[i].seq);
		} else {
			pipeline_feed(run->pipeline, record, n);
			answer_who(run);
		}
	}
	CHECK_INT(at, len);
	free(record);
}

static bool run_file(const char *data, size_t len, bool by_fact, struct buf *out)
{
	static const struct pipeline_ops ops = { .record = on_record, .message = on_message };
	struct pipeline_opts opts = { .node = "golden" };
	struct run run = { 0 };
	struct policy_report report;
	struct policy_set *set = NULL;
	struct msg_stats stats;

	policy_report_init(&report);
	run.pipeline = pipeline_new(&opts, &ops, &run);
	buf_init(&run.out, OUT_MAX);
	record_arena_init(&run.arena);
	if (!CHECK(run.pipeline) ||
	    !CHECK_MSG(policy_set_load_path(FOLDER "/policy.yaml", 1, &set, &report) == 0, "%s", buf_str(&report.text))) {
		pipeline_free(run.pipeline);
		policy_report_fini(&report);
		return false;
	}
	pipeline_set_policy(run.pipeline, set);
	feed_file(&run, data, len, by_fact);
	pipeline_stats(run.pipeline, &stats);
	CHECK_INT(stats.bad_records, 0);
	CHECK_INT(stats.record_errors, 0);
	CHECK_INT(buf_err(&run.out), 0);
	buf_printf(&run.out, "# statements=%llu nested=%llu orphans=%llu sessions left=%llu\n",
		   (unsigned long long)stats.statements, (unsigned long long)stats.nested,
		   (unsigned long long)stats.orphan_replies, (unsigned long long)stats.sessions);
	pipeline_free(run.pipeline);
	record_arena_fini(&run.arena);
	policy_report_fini(&report);
	*out = run.out;
	return true;
}

/* The first line that differs, so that a failure can be read. */
static void compare(const char *name, const char *how, const char *got, const char *want)
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

static void check_file(const char *name)
{
	char path[512], expected_path[512];
	char *data, *want;
	struct buf got, split;
	size_t len, want_len;
	FILE *f;

	snprintf(path, sizeof(path), FOLDER "/%s.rec", name);
	snprintf(expected_path, sizeof(expected_path), FOLDER "/%s.expected", name);
	data = read_file(path, &len);
	if (!CHECK_MSG(data && len, "%s cannot be read", path) || !run_file(data, len, false, &got)) {
		free(data);
		return;
	}
	if (run_file(data, len, true, &split)) {
		compare(name, " (one fact a batch)", buf_str(&split), buf_str(&got));
		buf_fini(&split);
	}
	if (getenv("DBFENCE_GOLDEN_UPDATE")) {
		f = fopen(expected_path, "wb");
		CHECK(f && fwrite(got.data, 1, got.len, f) == got.len && !fclose(f));
	}
	want = read_file(expected_path, &want_len);
	if (CHECK_MSG(want, "%s cannot be read", expected_path))
		compare(name, "", buf_str(&got), want);
	free(want);
	free(data);
	buf_fini(&got);
}

static int is_recording(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return n > 4 && !strcmp(d->d_name + n - 4, ".rec");
}

static void test_golden_recordings(void)
{
	struct dirent **names;
	int cnt = scandir(FOLDER, &names, is_recording, alphasort);

	if (!CHECK_MSG(cnt >= 8, "%d recordings in " FOLDER "; run it in the root of the tree", cnt))
		return;
	for (int i = 0; i < cnt; i++) {
		names[i]->d_name[strlen(names[i]->d_name) - 4] = '\0';
		check_file(names[i]->d_name);
		free(names[i]);
	}
	free(names);
}

/* Losing any one record in the middle costs what was in it, and says so; never anything else. */
static void test_golden_loss(void)
{
	size_t len;
	char *data = read_file(FOLDER "/savepoint.rec", &len);
	unsigned cnt = 0;
	uint32_t n;

	if (!CHECK(data && len))
		return;
	for (size_t at = 0; at + sizeof(n) <= len; at += sizeof(n) + n, cnt++)
		memcpy(&n, data + at, sizeof(n));
	CHECK(cnt > 10);
	for (unsigned drop = 1; drop + 1 < cnt; drop++) {
		char *less = malloc(len);
		size_t at = 0, to = 0;
		struct buf out;

		if (!CHECK(less))
			break;
		for (unsigned i = 0; i < cnt; i++, at += sizeof(n) + n) {
			memcpy(&n, data + at, sizeof(n));
			if (i == drop)
				continue;
			memcpy(less + to, data + at, sizeof(n) + n);
			to += sizeof(n) + n;
		}
		if (run_file(less, to, false, &out)) {
			CHECK_MSG(strstr(buf_str(&out), "session_hole"), "record %u was lost silently", drop);
			CHECK_MSG(strstr(buf_str(&out), "sessions left=0"), "record %u", drop);
			buf_fini(&out);
		}
		free(less);
	}
	free(data);
}

static const struct test_case cases[] = {
	{ "golden_recordings", test_golden_recordings },
	{ "golden_loss", test_golden_loss },
};

TEST_MAIN(cases)
