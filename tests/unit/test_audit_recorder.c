// SPDX-License-Identifier: Apache-2.0
/*
 * audit/recorder.c with its subscribers and its client: a real recorder process with the test as
 * worker, keeper and reader. With --bench it measures the cost per record instead.
 */
#include "../lib/test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "audit/journal.h"
#include "audit/recorder.h"
#include "audit_sample.h"
#include "core/clock.h"
#include "core/log.h"
#include "priv/sandbox.h"

struct rig {
	bool sandboxed;
	char path[64];
	int dir;
	int control; /* our end; -1 once closed */
	int worker;  /* our end */
	int screen;  /* what the foreground shows; -1 without */
	pid_t pid;
};

static void rig_child(const struct rig *rig, int worker, int control, int screen)
{
	struct recorder_opts opts = {
	    .records_fd = worker,
	    .control_fd = control,
	    .journal_dir_fd = rig->dir,
	    .foreground_fd = screen,
	    .node = "testnode",
	    .sync_ms = 100,
	    .epoll_fd = -1,
	};
	struct sandbox_profile profile = sandbox_profile_get(SANDBOX_RECORDER);
	struct err err = {""};

	close(rig->control);
	close(rig->worker);
	log_set_level(LOG_LEVEL_ERR);
	if (rig->sandboxed) {
		opts.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		if (sandbox_filter(&profile, &err)) {
			log_err("%s", err.text);
			_exit(2);
		}
	}
	_exit(recorder_run(&opts) ? 1 : 0);
}

static void rig_run(struct rig *rig, bool screen)
{
	int worker[2], control[2], shown[2] = {-1, -1};

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, worker), 0);
	CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
	if (screen)
		CHECK_INT(pipe2(shown, O_CLOEXEC), 0);
	rig->worker = worker[0];
	rig->control = control[0];
	rig->screen = shown[0];
	rig->pid = fork();
	if (!rig->pid)
		rig_child(rig, worker[1], control[1], shown[1]);
	close(worker[1]);
	close(control[1]);
	if (screen)
		close(shown[1]);
}

static void rig_start(struct rig *rig, bool screen)
{
	rig->sandboxed = false;
	memcpy(rig->path, "/tmp/dbfence-recorder-XXXXXX", 29);
	CHECK(mkdtemp(rig->path));
	rig->dir = open(rig->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rig_run(rig, screen);
}

/* Waits for the recorder's end; its exit status. */
static int rig_wait(struct rig *rig)
{
	int status = -1;

	for (unsigned i = 0; i < 2000; i++) {
		if (waitpid(rig->pid, &status, WNOHANG) == rig->pid)
			return status;
		usleep(5000);
	}
	kill(rig->pid, SIGKILL);
	waitpid(rig->pid, &status, 0);
	return CHECK_MSG(false, "the recorder did not end") ? 0 : -1;
}

static void rig_stop(struct rig *rig)
{
	CHECK_INT(recorder_stop(rig->control), 0);
	CHECK_INT(rig_wait(rig), 0);
}

static void rig_free(struct rig *rig)
{
	char name[JOURNAL_NAME_MAX];
	uint64_t *seqs = NULL;
	size_t cnt = 0;

	journal_list(rig->dir, &seqs, &cnt);
	for (size_t i = 0; i < cnt; i++) {
		journal_name_format(name, seqs[i]);
		unlinkat(rig->dir, name, 0);
	}
	free(seqs);
	close(rig->dir);
	close(rig->worker);
	close(rig->control);
	if (rig->screen >= 0)
		close(rig->screen);
	CHECK_INT(rmdir(rig->path), 0);
}

static void send_all(int fd, const void *data, size_t len)
{
	ssize_t n;

	for (size_t done = 0; done < len; done += (size_t)n) {
		n = send(fd, (const char *)data + done, len - done, MSG_NOSIGNAL);
		if (!CHECK_MSG(n > 0, "send: %s", strerror(errno)))
			return;
	}
}

static void send_statement(int fd, const char *session, uint64_t id, uint64_t parent_id,
			   const char *text)
{
	struct sample s;
	struct buf frame;

	buf_init(&frame, LIMIT_RECORD_BYTES + 4);
	sample_statement(&s, session, id, text);
	s.record.parent_statement_id = parent_id;
	CHECK_INT(record_frame(&s.record, &frame), 0);
	send_all(fd, frame.data, frame.len);
	buf_fini(&frame);
}

/* Waits until the recorder has taken @records records from the worker. */
static struct recorder_stats settled(struct rig *rig, uint64_t records)
{
	struct recorder_stats stats = {0};

	for (unsigned i = 0; i < 1000; i++) {
		if (!CHECK_INT(recorder_get_stats(rig->control, 5000, &stats), 0) ||
		    stats.worker_records >= records)
			break;
		usleep(2000);
	}
	CHECK_INT(stats.worker_records, records);
	return stats;
}

struct entry {
	uint64_t seq, parent_seq, statement_id, gap_records;
	char kind[16], gap_reason[32], session[16];
};

static unsigned journal_read(struct rig *rig, struct entry *entries, unsigned cap)
{
	struct record_arena arena = {0};
	struct journal_reader *reader = journal_reader_open(rig->dir, ".", NULL);
	struct journal_record raw;
	unsigned cnt = 0;

	while (CHECK(reader) && cnt < cap && journal_reader_next(reader, &raw) == 1) {
		Dbfence__Audit__V1__Record *record = record_unpack(&arena, raw.data, raw.len);
		struct entry *entry = &entries[cnt++];

		CHECK(!raw.missing && record);
		*entry = (struct entry){
		    record->seq, record->parent_seq, record->statement_id, 0, "", "", ""};
		snprintf(entry->kind, sizeof(entry->kind), "%s", record->kind);
		snprintf(entry->session, sizeof(entry->session), "%s", record->session_id);
		if (record->gap) {
			entry->gap_records = record->gap->records;
			snprintf(entry->gap_reason, sizeof(entry->gap_reason), "%s",
				 record->gap->reason);
		}
	}
	journal_reader_close(reader);
	record_arena_fini(&arena);
	return cnt;
}

static void test_recorder_records(void)
{
	Dbfence__Audit__V1__Record start = DBFENCE__AUDIT__V1__RECORD__INIT;
	struct entry e[8];
	struct rig rig;

	rig_start(&rig, false);
	start.kind = (char *)"agent";
	CHECK_INT(recorder_append(rig.control, &start), 0);
	send_statement(rig.worker, "one", 1, 0, "SELECT 1");
	send_statement(rig.worker, "two", 1, 0, "SELECT 2");
	send_statement(rig.worker, "two", 2, 1, "nested in two's 1");
	send_statement(rig.worker, "one", 2, 1, "nested in one's 1");
	send_statement(rig.worker, "one", 3, 2, "nested in that");
	send_statement(rig.worker, "one", 4, 99, "its parent was never seen");
	CHECK_INT(settled(&rig, 6).parents_unknown, 1);
	rig_stop(&rig);
	CHECK_INT(journal_read(&rig, e, 8), 7);
	for (unsigned i = 0; i < 7; i++)
		CHECK_INT(e[i].seq, i + 1);
	/*
	 * The agent's record came by another way, so it may stand anywhere; the parents are found
	 * by name.
	 */
	for (unsigned i = 0; i < 7; i++) {
		uint64_t want = 0;

		for (unsigned k = 0; k < i; k++)
			if (!strcmp(e[k].session, e[i].session) && e[i].statement_id > 1 &&
			    e[k].statement_id == e[i].statement_id - 1 && e[i].statement_id < 4)
				want = e[k].seq;
		CHECK_INT(e[i].parent_seq, want);
	}
	rig_free(&rig);
}

/* The stream cut at every byte into two writes gives the same journal. */
static void test_recorder_split(void)
{
	static struct entry e[1024];
	struct buf frame;
	struct sample s;
	struct rig rig;
	unsigned rounds = 0;

	rig_start(&rig, false);
	buf_init(&frame, LIMIT_RECORD_BYTES);
	sample_statement(&s, "s", 1, "SELECT 1");
	CHECK_INT(record_frame(&s.record, &frame), 0);
	for (size_t cut = 1; cut < frame.len; cut++, rounds++) {
		send_all(rig.worker, frame.data, cut);
		usleep(200);
		send_all(rig.worker, frame.data + cut, frame.len - cut);
	}
	settled(&rig, rounds);
	rig_stop(&rig);
	CHECK_INT(journal_read(&rig, e, 1024), rounds);
	buf_fini(&frame);
	rig_free(&rig);
}

static void test_recorder_bad_records(void)
{
	static uint8_t large[4 + LIMIT_RECORD_BYTES + 1];
	static const uint8_t with_seq[] = {6, 0, 0, 0, 0x08, 0x05, 0x12, 0x02, 'a', 'b'};
	static const uint8_t no_kind[] = {2, 0, 0, 0, 0x68, 0x05};
	static const uint8_t garbage[] = {3, 0, 0, 0, 0xff, 0xff, 0xff};
	static const uint8_t empty[] = {0, 0, 0, 0};
	struct recorder_stats stats;
	struct entry e[8];
	struct rig rig;
	uint32_t len = sizeof(large) - 4;

	rig_start(&rig, false);
	send_all(rig.worker, with_seq, sizeof(with_seq));
	send_all(rig.worker, no_kind, sizeof(no_kind));
	send_all(rig.worker, garbage, sizeof(garbage));
	send_all(rig.worker, empty, sizeof(empty));
	memcpy(large, &len, 4);
	send_all(rig.worker, large, sizeof(large));
	send_statement(rig.worker, "s", 1, 0, "SELECT 1");
	stats = settled(&rig, 5);
	CHECK_INT(stats.bad_records, 4);
	CHECK_INT(stats.oversize_records, 1);
	rig_stop(&rig);
	CHECK_INT(journal_read(&rig, e, 8), 2);
	CHECK_STR(e[0].gap_reason, "record_too_large");
	CHECK_INT(e[0].gap_records, 1);
	CHECK_STR(e[1].kind, "statement");
	rig_free(&rig);
}

/*
 * A length that cannot be one: what came before is kept, the loss is on record, the recorder says
 * it failed.
 */
static void test_recorder_stream_lost(void)
{
	static const uint8_t broken[] = {0xff, 0xff, 0xff, 0xff};
	struct entry e[8];
	struct rig rig;
	int null = open("/dev/null", O_WRONLY), saved = dup(STDERR_FILENO);

	dup2(null, STDERR_FILENO);
	rig_start(&rig, false);
	dup2(saved, STDERR_FILENO);
	close(null);
	close(saved);
	send_statement(rig.worker, "s", 1, 0, "SELECT 1");
	send_all(rig.worker, broken, sizeof(broken));
	CHECK(WEXITSTATUS(rig_wait(&rig)) == 1);
	CHECK_INT(journal_read(&rig, e, 8), 2);
	CHECK_STR(e[1].gap_reason, "worker_stream");
	rig_free(&rig);
}

/* A worker dies in the middle of a record; a new one goes on. */
static void test_recorder_new_worker(void)
{
	struct entry e[8];
	struct rig rig;
	int pair[2];

	rig_start(&rig, false);
	send_statement(rig.worker, "s", 1, 0, "SELECT 1");
	send_all(rig.worker, "\x50\x00\x00\x00half", 8);
	close(rig.worker);
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_INT(recorder_set_worker(rig.control, pair[1]), 0);
	close(pair[1]);
	rig.worker = pair[0];
	send_statement(rig.worker, "s", 2, 1, "SELECT 2");
	CHECK_INT(settled(&rig, 2).torn_records, 1);
	rig_stop(&rig);
	CHECK_INT(journal_read(&rig, e, 8), 3);
	CHECK_STR(e[1].gap_reason, "worker_ended");
	CHECK_INT(e[2].parent_seq, 1);
	rig_free(&rig);
}

/*
 * The keeper's death ends the recorder, after it has written what the worker had sent. Signals do
 * not.
 */
static void test_recorder_keeper_dies(void)
{
	static struct entry e[600];
	struct rig rig;

	rig_start(&rig, false);
	send_statement(rig.worker, "s", 1, 0, "SELECT 1");
	settled(&rig, 1);
	kill(rig.pid, SIGTERM);
	kill(rig.pid, SIGINT);
	for (unsigned i = 2; i <= 500; i++)
		send_statement(rig.worker, "s", i, 0, "SELECT 1");
	close(rig.control);
	CHECK_INT(rig_wait(&rig), 0);
	rig.control = -1;
	CHECK_INT(journal_read(&rig, e, 600), 500);
	rig_free(&rig);
}

static void test_recorder_torn_start(void)
{
	struct entry e[8];
	struct rig rig;
	int fd;

	rig_start(&rig, false);
	send_statement(rig.worker, "s", 1, 0, "SELECT 1");
	settled(&rig, 1);
	rig_stop(&rig);
	fd = openat(rig.dir, "000000000001.dbf", O_WRONLY | O_APPEND);
	CHECK_INT(write(fd, "\x40\x08\x02torn", 7), 7);
	close(fd);
	close(rig.worker);
	close(rig.control);
	rig_run(&rig, false);
	settled(&rig, 0);
	rig_stop(&rig);
	CHECK_INT(journal_read(&rig, e, 8), 2);
	CHECK_STR(e[1].gap_reason, "journal_torn");
	CHECK_INT(e[1].seq, 2);
	rig_free(&rig);
}

static int subscribe(struct rig *rig, enum recorder_format format)
{
	int pair[2];

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_INT(recorder_subscribe(rig->control, pair[1], format, false, 0), 0);
	close(pair[1]);
	return pair[0];
}

/* Reads until the other end closes; the caller frees nothing, the text is static. */
static const char *read_to_end(int fd)
{
	static char text[4 << 20];
	size_t len = 0;
	ssize_t n;

	while (len < sizeof(text) - 1 && (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	return text;
}

static void test_recorder_subscribers(void)
{
	struct recorder_stats stats;
	struct record_arena arena = {0};
	Dbfence__Audit__V1__Record *record;
	struct journal_frame frame;
	struct rig rig;
	const char *text;
	int json, line, raw, gone;

	rig_start(&rig, true);
	json = subscribe(&rig, RECORDER_JSON);
	line = subscribe(&rig, RECORDER_LINE);
	raw = subscribe(&rig, RECORDER_RAW);
	gone = subscribe(&rig, RECORDER_JSON);
	stats = settled(&rig, 0);
	CHECK_INT(stats.subscribers, 5);
	close(gone);
	send_statement(rig.worker, "s", 1, 0, "SELECT 1");
	send_statement(rig.worker, "s", 2, 1, "SELECT 2");
	stats = settled(&rig, 2);
	CHECK_INT(stats.subscribers, 4);
	rig_stop(&rig);
	text = read_to_end(json);
	CHECK(!strncmp(text, "{\"seq\":1,\"kind\":\"statement\",", 28));
	CHECK(strstr(text, "\n{\"seq\":2,") && strstr(text, "\"parent_seq\":1,"));
	text = read_to_end(line);
	CHECK(strstr(text, " app@orders psql[4242] executed 3 rows 1.23ms SELECT 1\n"));
	CHECK(strstr(text, " 1.23ms > SELECT 2\n"));
	CHECK_STR(strstr(read_to_end(rig.screen), "SELECT 1\n") ? "shown" : "not shown", "shown");
	text = read_to_end(raw);
	if (CHECK_INT(journal_parse((const uint8_t *)text, sizeof(frame) + 1000, 1, &frame),
		      JOURNAL_PARSE_OK) &&
	    CHECK_INT(journal_parse((const uint8_t *)text + frame.consumed, 1000, 2, &frame),
		      JOURNAL_PARSE_OK)) {
		record = record_unpack(&arena, frame.data, frame.len);
		CHECK(record && record->parent_seq == 1 && record->statement_id == 2);
	}
	record_arena_fini(&arena);
	close(json);
	close(line);
	close(raw);
	rig_free(&rig);
}

/* A reader that does not read loses records and is told how many; the journal has them all. */
static void test_recorder_slow_subscriber(void)
{
	enum { RECORDS = 5000 };
	static struct entry e[RECORDS + 1];
	static char text[2001];
	struct recorder_stats stats;
	unsigned lines = 0, gaps = 0;
	unsigned long long lost = 0;
	struct rig rig;
	const char *stream, *at;
	int slow, fast;

	rig_start(&rig, true); /* a screen that nobody reads is slow too */
	slow = subscribe(&rig, RECORDER_JSON);
	memset(text, 'x', sizeof(text) - 1);
	for (unsigned i = 1; i <= RECORDS; i++)
		send_statement(rig.worker, "s", i, 0, text);
	stats = settled(&rig, RECORDS);
	CHECK_INT(stats.subscribers, 2);
	CHECK(stats.subscriber_lost > RECORDS / 2);
	CHECK_INT(stats.journal.dropped_records, 0);
	/* Once it reads again it is told, and gets what comes then. */
	fast = fcntl(slow, F_GETFL);
	fcntl(slow, F_SETFL, fast | O_NONBLOCK);
	for (unsigned i = 0; i < 200; i++) {
		static char sink[65536];
		ssize_t n;

		while ((n = read(slow, sink, sizeof(sink))) > 0) {
			for (char *p = sink; (p = memchr(p, '\n', (size_t)(sink + n - p))); p++)
				lines++;
			if ((at = memmem(sink, (size_t)n,
					 "\"reason\":\"subscriber_slow\",\"records\":", 37))) {
				gaps++;
				lost += strtoull(at + 37, NULL, 10);
			}
		}
		usleep(1000);
	}
	fcntl(slow, F_SETFL, fast);
	send_statement(rig.worker, "s", RECORDS + 1, 0, "the last one");
	settled(&rig, RECORDS + 1);
	rig_stop(&rig);
	stream = read_to_end(slow);
	CHECK(strstr(stream, "the last one"));
	for (at = stream; (at = strchr(at, '\n')); at++)
		lines++;
	CHECK_INT(gaps, 1);
	CHECK_INT(lines - gaps + lost, RECORDS + 1);
	CHECK_INT(journal_read(&rig, e, RECORDS + 1), RECORDS + 1);
	close(slow);
	rig_free(&rig);
}

/*
 * Everything that the recorder does, under the filter that it runs under: a system call too many
 * kills it.
 */
static void test_recorder_sandboxed(void)
{
	static char text[30000];
	struct entry e[64];
	struct rig rig;
	int fd, json, pair[2];

	rig_start(&rig, false);
	send_statement(rig.worker, "s", 1, 0, "SELECT 1");
	settled(&rig, 1);
	rig_stop(&rig);
	close(rig.worker);
	close(rig.control);
	fd = openat(rig.dir, "000000000001.dbf", O_WRONLY | O_APPEND);
	CHECK_INT(write(fd, "\x40\x08\x02torn", 7), 7);
	close(fd);
	rig.sandboxed = true;
	rig_run(&rig, true);
	json = subscribe(&rig, RECORDER_JSON);
	memset(text, 'x', sizeof(text) - 1);
	for (unsigned i = 2; i <= 40; i++)
		send_statement(rig.worker, "s", i, i - 1, text);
	settled(&rig, 39);
	close(rig.worker);
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_INT(recorder_set_worker(rig.control, pair[1]), 0);
	close(pair[1]);
	rig.worker = pair[0];
	send_statement(rig.worker, "s", 41, 40, "SELECT 1");
	settled(&rig, 40);
	usleep(150 * 1000); /* a sync */
	rig_stop(&rig);
	CHECK_INT(journal_read(&rig, e, 64), 42);
	close(json);
	rig_free(&rig);
}

static void test_recorder_too_many_subscribers(void)
{
	int fds[RECORDER_SUBSCRIBERS_MAX + 1];
	struct recorder_stats stats;
	struct rig rig;

	rig_start(&rig, false);
	for (unsigned i = 0; i <= RECORDER_SUBSCRIBERS_MAX; i++)
		fds[i] = subscribe(&rig, RECORDER_JSON);
	stats = settled(&rig, 0);
	CHECK_INT(stats.subscribers, RECORDER_SUBSCRIBERS_MAX);
	CHECK_INT(stats.subscribers_refused, 1);
	CHECK(strstr(read_to_end(fds[RECORDER_SUBSCRIBERS_MAX]), "too_many_subscribers"));
	/* Places are reused. */
	close(fds[3]);
	usleep(20000);
	fds[3] = subscribe(&rig, RECORDER_LINE);
	stats = settled(&rig, 0);
	CHECK_INT(stats.subscribers, RECORDER_SUBSCRIBERS_MAX);
	rig_stop(&rig);
	for (unsigned i = 0; i <= RECORDER_SUBSCRIBERS_MAX; i++)
		close(fds[i]);
	rig_free(&rig);
}

static void test_recorder_control_garbage(void)
{
	struct recorder_msg unknown = {.cmd = 77};
	struct recorder_stats stats;
	struct rig rig;

	rig_start(&rig, false);
	CHECK_INT(send(rig.control, "abc", 3, 0), 3);
	CHECK_INT(send(rig.control, &unknown, sizeof(unknown), 0), sizeof(unknown));
	unknown.cmd = RECORDER_SUBSCRIBE; /* without a descriptor */
	CHECK_INT(send(rig.control, &unknown, sizeof(unknown), 0), sizeof(unknown));
	unknown.cmd = RECORDER_WORKER;
	CHECK_INT(send(rig.control, &unknown, sizeof(unknown), 0), sizeof(unknown));
	unknown.cmd = RECORDER_APPEND; /* without a body */
	CHECK_INT(send(rig.control, &unknown, sizeof(unknown), 0), sizeof(unknown));
	stats = settled(&rig, 0);
	CHECK_INT(stats.bad_records, 2);
	CHECK_INT(stats.journal.seq, 0);
	rig_stop(&rig);
	CHECK_INT(recorder_format_from_name("json"), RECORDER_JSON);
	CHECK_INT(recorder_format_from_name("xml"), RECORDER_FORMAT_MAX);
	CHECK_INT(recorder_format_from_name(NULL), RECORDER_FORMAT_MAX);
	rig_free(&rig);
}

static void bench(bool subscriber)
{
	enum { RECORDS = 1000000, BATCH = 64 };
	struct recorder_stats stats;
	struct rusage usage;
	struct buf frames;
	struct sample s;
	struct rig rig;
	uint64_t start, wall;
	double cpu;
	int status, fd = -1;
	pid_t sink = 0;

	rig_start(&rig, false);
	if (subscriber) {
		fd = subscribe(&rig, RECORDER_JSON);
		sink = fork();
		if (!sink) {
			read_to_end(fd);
			while (*read_to_end(fd))
				;
			_exit(0);
		}
		close(fd);
	}
	buf_init(&frames, 1 << 20);
	start = clock_mono_ns();
	for (unsigned i = 0; i < RECORDS; i += BATCH) {
		buf_reset(&frames);
		for (unsigned k = 0; k < BATCH; k++) {
			sample_statement(
			    &s, "4f2a-1c", i + k + 1,
			    "SELECT c.id, c.email FROM customers c WHERE c.country = ? LIMIT ?");
			record_frame(&s.record, &frames);
		}
		send_all(rig.worker, frames.data, frames.len);
	}
	do
		recorder_get_stats(rig.control, 5000, &stats);
	while (stats.worker_records < RECORDS);
	wall = clock_mono_ns() - start;
	recorder_stop(rig.control);
	wait4(rig.pid, &status, 0, &usage);
	cpu = (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6;
	printf("%s: %d records of %zu bytes: recorder %.0f ns user + %.0f ns system each, %.0f "
	       "records/s, lost by "
	       "reader %llu\n",
	       subscriber ? "one JSON reader" : "no reader", RECORDS, frames.len / BATCH,
	       cpu * 1e9 / RECORDS,
	       ((double)usage.ru_stime.tv_sec * 1e9 + (double)usage.ru_stime.tv_usec * 1e3) /
		   RECORDS,
	       RECORDS / ((double)wall / 1e9), (unsigned long long)stats.subscriber_lost);
	if (sink)
		waitpid(sink, NULL, 0);
	buf_fini(&frames);
	rig_free(&rig);
}

/* A recorder that waits for its disk reads nothing: whoever tells or asks it does not wait. */
static void test_recorder_never_waited_for(void)
{
	struct recorder_stats stats;
	struct sample s;
	uint64_t start = clock_mono_ns();
	int fds[2], err = 0;

	if (!CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds)))
		return;
	sample_statement(&s, "s", 1, "SELECT 1");
	for (unsigned i = 0; i < 100000 && !err; i++)
		err = recorder_append(fds[0], &s.record);
	CHECK_INT(err, -EAGAIN);
	CHECK_INT(recorder_ask_stats(fds[0]), -EAGAIN);
	CHECK_INT(recorder_take_stats(fds[0], &stats), -EAGAIN);
	CHECK(clock_mono_ns() - start < 5000 * NS_PER_MS);
	close(fds[1]);
	CHECK_INT(recorder_take_stats(fds[0], &stats), -ECONNRESET);
	close(fds[0]);
}

static const struct test_case cases[] = {
    {"recorder_never_waited_for", test_recorder_never_waited_for},
    {"recorder_records", test_recorder_records},
    {"recorder_split", test_recorder_split},
    {"recorder_bad_records", test_recorder_bad_records},
    {"recorder_stream_lost", test_recorder_stream_lost},
    {"recorder_new_worker", test_recorder_new_worker},
    {"recorder_keeper_dies", test_recorder_keeper_dies},
    {"recorder_torn_start", test_recorder_torn_start},
    {"recorder_subscribers", test_recorder_subscribers},
    {"recorder_slow_subscriber", test_recorder_slow_subscriber},
    {"recorder_sandboxed", test_recorder_sandboxed},
    {"recorder_too_many_subscribers", test_recorder_too_many_subscribers},
    {"recorder_control_garbage", test_recorder_control_garbage},
};

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--bench")) {
		bench(false);
		bench(true);
		return 0;
	}
	return test_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
