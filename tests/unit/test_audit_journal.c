// SPDX-License-Identifier: Apache-2.0
/*
 * audit/journal.c and journal_read.c: round trips, torn and damaged segments, rotation, a disk that
 * is full.
 */
#include "../lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit/journal.h"
#include "audit_sample.h"
#include "core/clock.h"

static char dir_path[64];

static int dir_new(void)
{
	snprintf(dir_path, sizeof(dir_path), "/tmp/dbfence-journal-XXXXXX");
	if (!CHECK(mkdtemp(dir_path)))
		return -1;
	return open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void dir_free(int dir)
{
	uint64_t *seqs = NULL;
	size_t cnt = 0;
	char name[JOURNAL_NAME_MAX];

	CHECK_INT(journal_list(dir, &seqs, &cnt), 0);
	for (size_t i = 0; i < cnt; i++) {
		journal_name_format(name, seqs[i]);
		unlinkat(dir, name, 0);
	}
	free(seqs);
	close(dir);
	CHECK_INT(rmdir(dir_path), 0);
}

static struct journal *start(int dir, const struct journal_opts *opts,
			     struct journal_repair *repair)
{
	static const struct journal_opts defaults = {0};
	struct journal_repair ignored;
	struct journal *journal = NULL;
	struct err err = {""};
	int rc =
	    journal_open(dir, opts ? opts : &defaults, &journal, repair ? repair : &ignored, &err);

	CHECK_MSG(!rc, "journal_open: %d %s", rc, err.text);
	return journal;
}

static uint64_t put(struct journal *journal, uint64_t id, size_t text_len)
{
	static char text[LIMIT_RECORD_BYTES];
	struct sample s;
	uint8_t *body;
	uint64_t seq;
	size_t len;

	memset(text, 'a' + (int)(id % 26), text_len);
	text[text_len] = '\0';
	sample_statement(&s, "s", id, text);
	len = sample_pack(&s.record, &body);
	seq = journal_append(journal, body, len, 0);
	free(body);
	return seq;
}

struct seen {
	unsigned records, damages, gaps;
	uint64_t missing, damaged_bytes, last_seq, gap_records, gap_executions;
	bool torn;
};

static struct seen read_all(int dir, const char *path)
{
	struct record_arena arena = {0};
	struct journal_record entry;
	struct journal_reader *reader = journal_reader_open(dir, path, NULL);
	struct seen seen = {0};
	int rc;

	if (!CHECK(reader))
		return seen;
	while ((rc = journal_reader_next(reader, &entry))) {
		if (rc == -EBADMSG) {
			seen.damages++;
			seen.damaged_bytes += journal_reader_damage(reader)->bytes;
			seen.torn = journal_reader_damage(reader)->torn;
			continue;
		}
		if (!CHECK_INT(rc, 1))
			break;
		Dbfence__Audit__V1__Record *record = record_unpack(&arena, entry.data, entry.len);

		if (CHECK(record)) {
			CHECK_INT(record->seq, entry.seq);
			CHECK(entry.seq > seen.last_seq);
			if (record->gap) {
				seen.gaps++;
				seen.gap_records += record->gap->records;
				seen.gap_executions += record->gap->executions;
			} else {
				CHECK(record->statement->text[0] ==
				      (char)('a' + (int)(record->statement_id % 26)));
			}
		}
		seen.records++;
		seen.missing += entry.missing;
		seen.last_seq = entry.seq;
	}
	journal_reader_close(reader);
	record_arena_fini(&arena);
	return seen;
}

static void test_journal_round_trip(void)
{
	int dir = dir_new();
	struct journal_repair repair;
	struct journal_stats stats;
	struct journal *journal;
	struct seen seen;
	struct stat st;

	for (unsigned run = 0; run < 3; run++) {
		journal = start(dir, NULL, &repair);
		CHECK_INT(repair.cut_bytes + repair.kept_bytes, 0);
		for (unsigned i = 1; i <= 100; i++)
			CHECK_INT(put(journal, i, i * 37), run * 100 + i);
		journal_stats(journal, &stats);
		CHECK_INT(stats.seq, run * 100 + 100);
		CHECK_INT(stats.state, JOURNAL_WRITING);
		journal_close(journal);
	}
	seen = read_all(dir, ".");
	CHECK_INT(seen.records, 300);
	CHECK_INT(seen.last_seq, 300);
	CHECK_INT(seen.damages + seen.missing, 0);
	CHECK_INT(fstatat(dir, "000000000001.dbf", &st, 0), 0);
	CHECK_INT(st.st_mode & 07777, 0600);
	dir_free(dir);
}

static void test_journal_parent_seq(void)
{
	int dir = dir_new();
	struct journal *journal = start(dir, NULL, NULL);
	struct record_arena arena = {0};
	Dbfence__Audit__V1__Record *record;
	struct journal_reader *reader;
	struct journal_record entry;
	struct sample s;
	uint8_t *body;
	size_t len;

	sample_statement(&s, "s", 9, "x");
	len = sample_pack(&s.record, &body);
	CHECK_INT(journal_append(journal, body, len, 0xffffffffffULL), 1);
	journal_close(journal);
	reader = journal_reader_open(dir, "000000000001.dbf", NULL);
	if (CHECK(reader) && CHECK_INT(journal_reader_next(reader, &entry), 1)) {
		record = record_unpack(&arena, entry.data, entry.len);
		CHECK(record && record->parent_seq == 0xffffffffffULL && record->seq == 1);
	}
	journal_reader_close(reader);
	record_arena_fini(&arena);
	free(body);
	dir_free(dir);
}

static size_t slurp(int dir, const char *name, uint8_t *data, size_t cap)
{
	int fd = openat(dir, name, O_RDONLY);
	ssize_t n = read(fd, data, cap);

	close(fd);
	return n > 0 ? (size_t)n : 0;
}

static void spill(int dir, const char *name, const uint8_t *data, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK_INT(write(fd, data, len), len);
	close(fd);
}

/*
 * The end of the segment at every byte of its last record: the reader stops there, the writer
 * repairs it.
 */
static void test_journal_torn_everywhere(void)
{
	static const char name[] = "000000000001.dbf";
	static uint8_t data[8192];
	int dir = dir_new();
	struct journal *journal = start(dir, NULL, NULL);
	struct journal_repair repair;
	struct seen seen;
	size_t len, before;

	put(journal, 1, 50);
	put(journal, 2, 200);
	journal_flush(journal);
	before = slurp(dir, name, data, sizeof(data));
	put(journal, 3, 300);
	journal_close(journal);
	len = slurp(dir, name, data, sizeof(data));
	CHECK(len > before + 300);
	for (size_t cut = before; cut <= len; cut++) {
		spill(dir, name, data, cut);
		seen = read_all(dir, ".");
		CHECK_INT(seen.records, cut == len ? 3 : 2);
		CHECK_INT(seen.damaged_bytes, cut == len ? 0 : cut - before);
		CHECK_INT(seen.torn, cut != len && cut != before);
		journal = start(dir, NULL, &repair);
		CHECK_INT(repair.cut_bytes, cut == len ? 0 : cut - before);
		CHECK_INT(repair.kept_bytes, 0);
		CHECK_INT(repair.last_seq, cut == len ? 3 : 2);
		CHECK_INT(put(journal, 4, 10), cut == len ? 4 : 3);
		journal_close(journal);
		seen = read_all(dir, ".");
		CHECK_INT(seen.records, cut == len ? 4 : 3);
		CHECK_INT(seen.damages + seen.missing, 0);
	}
	dir_free(dir);
}

/* A tail of zeros is what a power cut can leave of pages that were never written. */
static void test_journal_zero_tail(void)
{
	static uint8_t data[65536];
	int dir = dir_new();
	struct journal *journal = start(dir, NULL, NULL);
	struct journal_repair repair;
	size_t len;

	put(journal, 1, 50);
	journal_close(journal);
	len = slurp(dir, "000000000001.dbf", data, sizeof(data));
	memset(data + len, 0, 5000);
	spill(dir, "000000000001.dbf", data, len + 5000);
	journal = start(dir, NULL, &repair);
	CHECK_INT(repair.cut_bytes, 5000);
	CHECK_INT(put(journal, 2, 50), 2);
	journal_close(journal);
	CHECK_INT(read_all(dir, ".").records, 2);
	dir_free(dir);
}

/* A crash while the segment was made: shorter than its header, or a header of zeros. */
static void test_journal_torn_header(void)
{
	static const uint8_t zeros[JOURNAL_HEADER_BYTES];
	struct journal_opts small = {.segment_bytes = 500};
	struct journal_repair repair;
	struct journal *journal;
	int dir = dir_new();

	journal = start(dir, &small, NULL);
	put(journal, 1, 600);
	put(journal, 2, 10);
	journal_close(journal);
	for (size_t len = 0; len <= JOURNAL_HEADER_BYTES; len++) {
		spill(dir, "000000000002.dbf", zeros, len);
		CHECK_INT(read_all(dir, ".").records, 1);
		journal = start(dir, &small, &repair);
		CHECK_INT(repair.cut_bytes, len);
		CHECK_INT(put(journal, 2, 20), 2);
		journal_close(journal);
		CHECK_INT(read_all(dir, ".").records, 2);
	}
	dir_free(dir);
}

/*
 * A flipped byte in the middle costs the records it damages and nothing behind them, for reader and
 * writer.
 */
static void test_journal_damage_inside(void)
{
	static uint8_t data[65536], good[65536];
	int dir = dir_new();
	struct journal *journal = start(dir, NULL, NULL);
	struct journal_repair repair;
	struct seen seen;
	size_t len, step = 7;

	for (unsigned i = 1; i <= 20; i++)
		put(journal, i, 20 * i);
	journal_close(journal);
	len = slurp(dir, "000000000001.dbf", good, sizeof(good));
	for (size_t at = JOURNAL_HEADER_BYTES; at < len; at += step) {
		memcpy(data, good, len);
		data[at] ^= 0xff;
		spill(dir, "000000000001.dbf", data, len);
		seen = (struct seen){0};
		struct journal_reader *reader = journal_reader_open(dir, ".", NULL);
		struct journal_record entry;
		int rc;

		while ((rc = journal_reader_next(reader, &entry))) {
			seen.records += rc == 1;
			seen.damages += rc == -EBADMSG;
			seen.missing += rc == 1 ? entry.missing : 0;
			if (rc == 1)
				seen.last_seq = entry.seq;
		}
		journal_reader_close(reader);
		CHECK_MSG(seen.records >= 18 && seen.records + seen.missing == seen.last_seq &&
			      seen.last_seq >= 19,
			  "byte %zu: %u records, last %llu", at, seen.records,
			  (unsigned long long)seen.last_seq);
	}
	/* The writer goes on behind damage that is not at the end, and cuts nothing. */
	memcpy(data, good, len);
	memset(data + 2000, 0xff, 50);
	spill(dir, "000000000001.dbf", data, len);
	journal = start(dir, NULL, &repair);
	CHECK_INT(repair.cut_bytes + repair.kept_bytes, 0);
	CHECK_INT(put(journal, 21, 10), 21);
	journal_close(journal);
	dir_free(dir);
}

/*
 * More damage than a crash makes: left alone, in a segment of its own, and no seq is given twice.
 */
static void test_journal_damage_large(void)
{
	static uint8_t data[6 << 20];
	int dir = dir_new();
	struct journal *journal = start(dir, NULL, NULL);
	struct journal_repair repair;
	struct seen seen;
	struct stat st;
	size_t len;
	uint64_t seq;

	put(journal, 1, 50);
	journal_close(journal);
	len = slurp(dir, "000000000001.dbf", data, sizeof(data));
	memset(data + len, 0xff, sizeof(data) - len);
	spill(dir, "000000000001.dbf", data, sizeof(data));
	journal = start(dir, NULL, &repair);
	CHECK_INT(repair.kept_bytes, sizeof(data) - len);
	CHECK_INT(repair.cut_bytes, 0);
	seq = put(journal, 2, 10);
	CHECK(seq > sizeof(data) - len);
	journal_close(journal);
	CHECK_INT(fstatat(dir, "000000000001.dbf", &st, 0), 0);
	CHECK_INT(st.st_size, sizeof(data));
	seen = read_all(dir, ".");
	CHECK_INT(seen.records, 2);
	CHECK_INT(seen.missing, seq - 2);
	CHECK_INT(seen.damages, 1);
	dir_free(dir);
}

static void test_journal_rotation(void)
{
	struct journal_opts small = {.segment_bytes = 4096};
	int dir = dir_new();
	struct journal *journal = start(dir, &small, NULL);
	struct journal_stats stats;
	uint64_t *seqs = NULL;
	struct seen seen;
	struct stat st;
	size_t cnt = 0;
	char name[JOURNAL_NAME_MAX];

	for (unsigned i = 1; i <= 200; i++)
		CHECK_INT(put(journal, i, 300), i);
	journal_stats(journal, &stats);
	journal_close(journal);
	CHECK_INT(journal_list(dir, &seqs, &cnt), 0);
	CHECK(cnt > 10);
	CHECK_INT(stats.segments, cnt);
	for (size_t i = 0; i < cnt; i++) {
		journal_name_format(name, seqs[i]);
		CHECK_INT(fstatat(dir, name, &st, 0), 0);
		CHECK(st.st_size < 4096 + 1024);
	}
	free(seqs);
	seen = read_all(dir, ".");
	CHECK_INT(seen.records, 200);
	CHECK_INT(seen.missing + seen.damages, 0);
	/* A segment that is gone is missed. */
	journal_name_format(name, 1);
	unlinkat(dir, name, 0);
	CHECK_INT(read_all(dir, ".").missing, 0); /* the oldest may have been retired */
	journal = start(dir, &small, NULL);
	CHECK_INT(put(journal, 201, 10), 201);
	journal_close(journal);
	dir_free(dir);
}

static void test_journal_one_writer(void)
{
	struct journal_opts opts = {0};
	int dir = dir_new();
	struct journal *journal = start(dir, NULL, NULL), *second = NULL;
	struct journal_repair repair;
	struct err err;

	CHECK_INT(journal_open(dir, &opts, &second, &repair, &err), -EBUSY);
	CHECK(strstr(err.text, "another recorder"));
	journal_close(journal);
	journal = start(dir, NULL, NULL);
	journal_close(journal);
	dir_free(dir);
}

static void test_journal_too_large(void)
{
	static uint8_t body[LIMIT_RECORD_BYTES + 1];
	int dir = dir_new();
	struct journal *journal = start(dir, NULL, NULL);
	struct journal_stats stats;
	struct seen seen;

	CHECK_INT(put(journal, 1, LIMIT_RECORD_BYTES - 1024), 1);
	CHECK_INT(journal_append(journal, body, sizeof(body), 0), 0);
	CHECK_INT(put(journal, 2, 10), 3);
	journal_stats(journal, &stats);
	CHECK_INT(stats.dropped_records, 1);
	journal_close(journal);
	seen = read_all(dir, ".");
	CHECK_INT(seen.records, 3);
	CHECK_INT(seen.gap_records, 1);
	dir_free(dir);
}

static void test_journal_tick(void)
{
	struct journal_opts opts = {.sync_ms = 30};
	int dir = dir_new();
	struct journal *journal = start(dir, &opts, NULL);
	struct journal_stats stats;
	int ms;

	CHECK_INT(journal_tick(journal, clock_mono_ns()), -1);
	put(journal, 1, 10);
	CHECK(journal_tick(journal, clock_mono_ns()) >= 0);
	for (unsigned i = 0; i < 100; i++) {
		ms = journal_tick(journal, clock_mono_ns());
		if (ms < 0)
			break;
		CHECK(ms <= 30);
		usleep((unsigned)ms * 1000);
	}
	journal_stats(journal, &stats);
	CHECK_INT(stats.syncs, 1);
	CHECK_INT(stats.buffered_bytes, 0);
	/* Never one sync per record. */
	for (unsigned i = 0; i < 1000; i++) {
		put(journal, i, 10);
		journal_tick(journal, clock_mono_ns());
	}
	journal_stats(journal, &stats);
	CHECK(stats.syncs < 50);
	journal_close(journal);
	dir_free(dir);
}

/*
 * Fills the journal until it drops, gives it room again with @relieve, and reads what came of it.
 */
static void fill_and_recover(int dir, void (*relieve)(int dir))
{
	struct journal_opts opts = {.buffer_bytes = 1}; /* the least there is */
	struct journal *journal = start(dir, &opts, NULL);
	struct journal_stats stats;
	struct journal_repair repair;
	struct seen seen;
	uint64_t dropped = 0, kept = 0, last = 0, seq;

	for (unsigned i = 1; i <= 4000 && dropped < 500; i++) {
		seq = put(journal, i, 1000);
		dropped += !seq;
		kept += !!seq;
		if (seq)
			CHECK_INT(seq, last + 1);
		last = seq ? seq : last;
		journal_tick(journal, clock_mono_ns());
		/* Whatever happens, the file ends with a whole record. */
		if (i % 50 == 0)
			CHECK_INT(read_all(dir, ".").damages, 0);
	}
	journal_stats(journal, &stats);
	CHECK_INT(dropped, 500);
	CHECK_INT(stats.state, JOURNAL_FULL);
	CHECK(stats.last_errno == ENOSPC || stats.last_errno == EFBIG);
	CHECK_INT(stats.dropped_records, 500);
	CHECK_INT(stats.dropped_executions, 500);
	relieve(dir);
	usleep(300 * 1000);			  /* until it tries again */
	CHECK_INT(put(journal, 5, 10), last + 2); /* one seq is the gap record's */
	journal_stats(journal, &stats);
	CHECK_INT(stats.state, JOURNAL_WRITING);
	journal_close(journal);
	seen = read_all(dir, ".");
	CHECK_INT(seen.records, kept + 2);
	CHECK_INT(seen.gaps, 1);
	CHECK_INT(seen.gap_records, 500);
	CHECK_INT(seen.gap_executions, 500);
	CHECK_INT(seen.damages + seen.missing, 0);
	journal = start(dir, NULL, &repair);
	CHECK_INT(repair.cut_bytes, 0);
	journal_close(journal);
}

static struct rlimit size_before;

static void relieve_limit(int dir)
{
	(void)dir;
	setrlimit(RLIMIT_FSIZE, &size_before);
}

static void test_journal_full_limit(void)
{
	struct rlimit limit;
	int dir = dir_new();

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &size_before);
	limit = size_before;
	limit.rlim_cur = 100 * 1000 + 7; /* in the middle of a record */
	setrlimit(RLIMIT_FSIZE, &limit);
	fill_and_recover(dir, relieve_limit);
	setrlimit(RLIMIT_FSIZE, &size_before);
	dir_free(dir);
}

static void relieve_tmpfs(int dir)
{
	unlinkat(dir, "ballast", 0);
}

static void full_tmpfs(void)
{
	static const uint8_t ballast[65536];
	int dir;

	if (!mkdtemp(memcpy(dir_path, "/tmp/dbfence-journal-XXXXXX", 28)) ||
	    mount("dbfence-test", dir_path, "tmpfs", 0, "size=1m")) {
		rmdir(dir_path);
		_exit(77);
	}
	dir = open(dir_path, O_RDONLY | O_DIRECTORY);
	int fd = openat(dir, "ballast", O_CREAT | O_WRONLY, 0600);

	for (unsigned i = 0; i < 12; i++)
		CHECK_INT(write(fd, ballast, sizeof(ballast)), sizeof(ballast));
	close(fd);
	fill_and_recover(dir, relieve_tmpfs);
	close(dir);
	umount2(dir_path, MNT_DETACH);
	rmdir(dir_path);
}

/* ENOSPC itself, on a file system of one megabyte; in a process and mount namespace of its own. */
static void test_journal_full_tmpfs(void)
{
	int status = 0;
	pid_t pid;

	if (geteuid()) {
		test_skip("needs root to mount a small tmpfs");
		return;
	}
	pid = fork();
	if (!pid) {
		struct test_case inner = {"journal_full_tmpfs", full_tmpfs};

		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
			_exit(77);
		dup2(STDERR_FILENO,
		     STDOUT_FILENO); /* the counts on stdout are this program's alone */
		_exit(test_main(&inner, 1, 1, NULL));
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		test_skip("cannot mount a small tmpfs here");
	else
		CHECK_INT(status, 0);
}

/*
 * No room for a segment at the start: records wait and are dropped, the gap says so, then writing
 * begins.
 */
static void test_journal_full_at_open(void)
{
	struct rlimit limit;
	struct journal_stats stats;
	struct journal *journal;
	struct seen seen;
	unsigned i;
	int dir = dir_new();

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &size_before);
	limit = size_before;
	limit.rlim_cur = 10;
	setrlimit(RLIMIT_FSIZE, &limit);
	journal = start(dir, NULL, NULL);
	journal_stats(journal, &stats);
	CHECK_INT(stats.state, JOURNAL_FULL);
	CHECK_INT(journal_tick(journal, clock_mono_ns()),
		  -1); /* nothing to do is no reason to spin */
	for (i = 1; i < 3000 && put(journal, i, 1000); i++)
		;
	CHECK(i > 100 && i < 3000);
	setrlimit(RLIMIT_FSIZE, &size_before);
	usleep(300 * 1000);
	CHECK(journal_tick(journal, clock_mono_ns()) >= 0);
	CHECK_INT(put(journal, 1, 10), i + 1);
	journal_close(journal);
	seen = read_all(dir, ".");
	CHECK_INT(seen.records, i + 1);
	CHECK_INT(seen.gap_records, 1);
	dir_free(dir);
}

static void test_journal_names(void)
{
	char name[JOURNAL_NAME_MAX];
	uint64_t seq = 0;

	journal_name_format(name, 42);
	CHECK_STR(name, "000000000042.dbf");
	CHECK(journal_name_parse(name, &seq) && seq == 42);
	journal_name_format(name, UINT64_MAX);
	CHECK(journal_name_parse(name, &seq) && seq == UINT64_MAX);
	CHECK(!journal_name_parse("000000000000.dbf", &seq));
	CHECK(!journal_name_parse("00000000001.dbf", &seq));
	CHECK(!journal_name_parse("000000000001.dbf.zst", &seq));
	CHECK(!journal_name_parse("99999999999999999999.dbf", &seq));
	CHECK(!journal_name_parse("-00000000001.dbf", &seq));
	CHECK_STR(journal_state_name(JOURNAL_FULL), "full");
	CHECK_STR(journal_state_name(99), "invalid");
}

static void test_journal_reader_refuses(void)
{
	struct journal_record entry;
	struct journal_reader *reader;
	struct err err;
	int dir = dir_new();

	CHECK(!journal_reader_open(dir, "nothing-here", &err) && strstr(err.text, "nothing-here"));
	CHECK(!journal_reader_open(AT_FDCWD, "/dev/null", &err) && errno == EINVAL);
	/* A file that never was a segment is damage, not a torn one. */
	spill(dir, "000000000001.dbf",
	      (const uint8_t *)"#!/bin/sh\necho this is no journal at all\n", 41);
	reader = journal_reader_open(dir, "000000000001.dbf", &err);
	if (CHECK(reader)) {
		CHECK_INT(journal_reader_next(reader, &entry), -EBADMSG);
		CHECK_INT(journal_reader_damage(reader)->bytes, 41);
		CHECK(!journal_reader_damage(reader)->torn);
		CHECK_INT(journal_reader_next(reader, &entry), 0);
	}
	journal_reader_close(reader);
	dir_free(dir);
}

static void test_journal_scan(void)
{
	struct record_keys keys;
	struct sample s;
	uint8_t *body;
	size_t len;

	sample_statement(&s, "sess", 300, "x");
	s.record.parent_statement_id = 299;
	s.statement.executions = 77;
	len = sample_pack(&s.record, &body);
	CHECK(record_scan(body, len, &keys));
	CHECK_INT(keys.statement_id, 300);
	CHECK_INT(keys.parent_statement_id, 299);
	CHECK(!keys.has_seq && keys.session_id.len == 4 &&
	      !memcmp(keys.session_id.data, "sess", 4));
	CHECK_INT(record_executions(&keys), 77);
	for (size_t cut = 1; cut < len; cut++)
		record_scan(body, cut, &keys);
	free(body);
	CHECK(!record_scan((const uint8_t *)"\x0b\x0c", 2, &keys)); /* a group */
	CHECK(!record_scan((const uint8_t *)"\x00\x01", 2, &keys)); /* field 0 */
	CHECK(!record_scan((const uint8_t *)"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11,
			   &keys));
	CHECK(record_scan((const uint8_t *)"\x0a\x00", 2, &keys) &&
	      keys.has_seq); /* seq, as a string */
	CHECK(record_scan((const uint8_t *)"\x09"
					   "12345678",
			  9, &keys) &&
	      keys.has_seq);
	CHECK(!record_scan((const uint8_t *)"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 11,
			   &keys));
}

static const struct test_case cases[] = {
    {"journal_round_trip", test_journal_round_trip},
    {"journal_parent_seq", test_journal_parent_seq},
    {"journal_torn_everywhere", test_journal_torn_everywhere},
    {"journal_zero_tail", test_journal_zero_tail},
    {"journal_torn_header", test_journal_torn_header},
    {"journal_damage_inside", test_journal_damage_inside},
    {"journal_damage_large", test_journal_damage_large},
    {"journal_rotation", test_journal_rotation},
    {"journal_one_writer", test_journal_one_writer},
    {"journal_too_large", test_journal_too_large},
    {"journal_tick", test_journal_tick},
    {"journal_full_limit", test_journal_full_limit},
    {"journal_full_tmpfs", test_journal_full_tmpfs},
    {"journal_full_at_open", test_journal_full_at_open},
    {"journal_names", test_journal_names},
    {"journal_reader_refuses", test_journal_reader_refuses},
    {"journal_scan", test_journal_scan},
};

TEST_MAIN(cases)
