// SPDX-License-Identifier: Apache-2.0
/*
 * Recorded kernel records -> exact audit records, through the whole pipeline. tests/golden/pipeline/NAME.rec holds
 * records (u32 length, bytes, repeated; tests/golden/record.py makes them), NAME.expected the audit records as JSON and,
 * in lines that begin with '#', what the pipeline asked of the keeper. DBFENCE_GOLDEN_UPDATE=1 rewrites NAME.expected;
 * the difference is to be reviewed as code.
 */
#include "golden.h"

#include <dirent.h>

#include "source/batch.h"
#include "source/wire.h"

#define FOLDER "tests/golden/pipeline"
#define RECORD_MAX 16384 /* larger than any of either layout */

/* Each fact of @record as a batch of its own; *seq counts over the file. */
static void feed_facts(struct golden *g, const void *record, size_t len, uint32_t *seq)
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
		golden_feed(g, &one, one.head.len);
	}
	CHECK(!it.bad);
}

/* Each item of @record as a record of its own. */
static void feed_items(struct golden *g, const void *record, size_t len, uint32_t *seq)
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
		golden_feed(g, one, head.len);
	}
	CHECK(!it.bad);
}

/* What counts its own records: a session, or one direction of a connection. */
static uint64_t counts_own(const void *record, size_t len)
{
	const struct dbf_wire *w = record;

	return wire_is_record(record, len) ? w->conn * 2 + w->dir : ((const struct dbf_batch *)record)->session;
}

static void feed_file(struct golden *g, const char *data, size_t len, bool by_fact)
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
			(wire_is_record(record, n) ? feed_items : feed_facts)(g, record, n, &seen[i].seq);
		} else {
			golden_feed(g, record, n);
		}
	}
	CHECK_INT(at, len);
	free(record);
}

static bool run_file(const char *data, size_t len, bool by_fact, struct buf *out)
{
	struct golden g;

	if (!golden_open(&g, FOLDER "/policy.yaml"))
		return false;
	feed_file(&g, data, len, by_fact);
	golden_finish(&g);
	*out = g.out;
	return true;
}

static void check_file(const char *name)
{
	char path[512], expected_path[512];
	char *data;
	struct buf got, split;
	size_t len;

	snprintf(path, sizeof(path), FOLDER "/%s.rec", name);
	snprintf(expected_path, sizeof(expected_path), FOLDER "/%s.expected", name);
	data = golden_read(path, &len);
	if (!CHECK_MSG(data && len, "%s cannot be read", path) || !run_file(data, len, false, &got)) {
		free(data);
		return;
	}
	if (run_file(data, len, true, &split)) {
		golden_compare(name, " (one fact a batch)", buf_str(&split), buf_str(&got));
		buf_fini(&split);
	}
	golden_expect(expected_path, &got);
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
	char *data = golden_read(FOLDER "/savepoint.rec", &len);
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
