// SPDX-License-Identifier: Apache-2.0
/*
 * The recorder's main loop. One turn: read one buffer of frames from the worker, take one message
 * from the keeper, let the journal do what is due, send to live readers what they take. Nothing in
 * it waits but epoll_wait and the disk.
 */
#include "audit/recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "audit/record.h"
#include "audit/recorder_sub.h"
#include "core/clock.h"
#include "core/log.h"

#define READ_BYTES (1UL << 20)
/*
 * A frame beyond LIMIT_RECORD_BYTES is skipped; beyond this its length is no length and the stream
 * is lost.
 */
#define FRAME_SKIP_MAX (64UL << 20)
#define PARENT_WAYS 4
#define PARENT_SETS (RECORDER_PARENTS / PARENT_WAYS)
#define RETRY_BLOCKED_MS 50
#define DRAIN_MAX_MS 2000

enum event_source { EVENT_WORKER, EVENT_CONTROL, EVENT_SUBSCRIBER };

/* seq of recent statements by (session_id, statement_id); the oldest of a set makes room. */
struct parent {
	uint64_t hash;
	uint64_t seq; /* 0: free */
};

struct recorder {
	int epoll_fd;	/* owned */
	int records_fd; /* owned; -1: no worker now */
	int control_fd; /* owned; -1: none */
	struct journal *journal;
	uint8_t *in; /* owned; READ_BYTES */
	size_t in_len;
	uint64_t skip; /* bytes of an oversize frame still to come */
	bool stopping;
	int failed; /* negative errno that ends the loop */
	uint64_t hash_key;
	struct parent *parents; /* owned; RECORDER_PARENTS */
	struct sub_set subs;
	struct recorder_stats stats;
	const char *node;
};

static uint64_t hash_mix(uint64_t h)
{
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ULL;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ULL;
	return h ^ h >> 32;
}

static uint64_t statement_hash(uint64_t key, const struct record_span *session,
			       uint64_t statement_id)
{
	uint64_t h = hash_mix(key ^ session->len), word;
	size_t at = 0;

	for (; session->len - at >= 8; at += 8) {
		memcpy(&word, session->data + at, 8);
		h = hash_mix(h ^ word);
	}
	word = 0;
	if (session->len > at)
		memcpy(&word, session->data + at, session->len - at);
	h = hash_mix(h ^ word);
	return hash_mix(h ^ statement_id * 0x9e3779b97f4a7c15ULL);
}

static uint64_t parent_lookup(const struct recorder *rec, const struct record_keys *keys)
{
	uint64_t hash = statement_hash(rec->hash_key, &keys->session_id, keys->parent_statement_id);
	const struct parent *set = &rec->parents[hash % PARENT_SETS * PARENT_WAYS];

	for (unsigned i = 0; i < PARENT_WAYS; i++)
		if (set[i].seq && set[i].hash == hash)
			return set[i].seq;
	return 0;
}

static void parent_remember(struct recorder *rec, const struct record_keys *keys, uint64_t seq)
{
	uint64_t hash = statement_hash(rec->hash_key, &keys->session_id, keys->statement_id);
	struct parent *set = &rec->parents[hash % PARENT_SETS * PARENT_WAYS], *oldest = set;

	for (unsigned i = 0; i < PARENT_WAYS; i++) {
		if (set[i].seq && set[i].hash == hash) {
			oldest = &set[i];
			break;
		}
		if (set[i].seq < oldest->seq)
			oldest = &set[i];
	}
	*oldest = (struct parent){hash, seq};
}

/* Numbers, stores and shows one body. */
static void record_take(struct recorder *rec, const uint8_t *body, size_t len)
{
	struct record_keys keys;
	uint64_t parent_seq = 0, seq;

	if (!record_scan(body, len, &keys) || keys.has_seq || !keys.kind.len) {
		/* A seq of the sender's own would replace ours in every reader. */
		rec->stats.bad_records++;
		return;
	}
	if (keys.parent_statement_id && !keys.parent_seq) {
		parent_seq = parent_lookup(rec, &keys);
		rec->stats.parents_unknown += !parent_seq;
	}
	seq = journal_append(rec->journal, body, len, parent_seq);
	if (seq && keys.statement_id)
		parent_remember(rec, &keys, seq);
	sub_emit(&rec->subs, seq, body, len, parent_seq);
}

static void record_gap(struct recorder *rec, const char *reason, const char *detail,
		       uint64_t records)
{
	struct record_gap gap = {rec->node, reason, detail, records, 0};
	struct buf body;

	buf_init(&body, LIMIT_RECORD_BYTES);
	record_put_gap(&gap, &body);
	if (!buf_err(&body))
		record_take(rec, (const uint8_t *)body.data, body.len);
	buf_fini(&body);
}

static uint32_t frame_len(const uint8_t *at)
{
	return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* Takes the whole frames out of the buffer. False when the stream makes no sense any more. */
static bool frames_take(struct recorder *rec)
{
	size_t at = 0, len;

	for (;;) {
		if (rec->skip) {
			len = rec->skip < rec->in_len - at ? (size_t)rec->skip : rec->in_len - at;
			rec->skip -= len;
			at += len;
		}
		if (rec->in_len - at < 4)
			break;
		len = frame_len(rec->in + at);
		if (len > FRAME_SKIP_MAX)
			return false;
		if (len > LIMIT_RECORD_BYTES) {
			rec->stats.oversize_records++;
			record_gap(rec, "record_too_large", "a record was beyond the size limit",
				   1);
			rec->skip = 4 + (uint64_t)len;
			continue;
		}
		if (rec->in_len - at - 4 < len)
			break;
		rec->stats.worker_records++;
		record_take(rec, rec->in + at + 4, len);
		at += 4 + len;
	}
	rec->in_len -= at;
	memmove(rec->in, rec->in + at, rec->in_len);
	return true;
}

static void worker_close(struct recorder *rec)
{
	if (rec->records_fd < 0)
		return;
	epoll_ctl(rec->epoll_fd, EPOLL_CTL_DEL, rec->records_fd, NULL);
	close(rec->records_fd);
	rec->records_fd = -1;
	if (rec->in_len || rec->skip) {
		rec->stats.torn_records++;
		record_gap(rec, "worker_ended", "the worker ended in the middle of a record", 1);
	}
	rec->in_len = 0;
	rec->skip = 0;
	if (rec->control_fd < 0)
		rec->stopping = true;
}

/* One read. 1: there may be more, 0: nothing now, or no worker any more. */
static int worker_read(struct recorder *rec)
{
	ssize_t n;

	if (rec->records_fd < 0)
		return 0;
	n = read(rec->records_fd, rec->in + rec->in_len, READ_BYTES - rec->in_len);
	if (n < 0 && errno == EINTR)
		return 1;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return 0;
	if (n <= 0) {
		worker_close(rec);
		return 0;
	}
	rec->in_len += (size_t)n;
	if (frames_take(rec))
		return 1;
	log_err(
	    "the worker's record stream is not in frames; the recorder ends and must be restarted");
	record_gap(rec, "worker_stream", "the worker's record stream was not in frames", 0);
	rec->failed = -EPROTO;
	return 0;
}

/* What was written before the end; a worker that goes on writing does not hold it up for ever. */
static void worker_drain(struct recorder *rec)
{
	uint64_t until = clock_mono_ns() + DRAIN_MAX_MS * NS_PER_MS;

	while (worker_read(rec) && clock_mono_ns() < until)
		;
}

static bool epoll_watch(struct recorder *rec, int fd, enum event_source source)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)source << 32};

	return !epoll_ctl(rec->epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int worker_open(struct recorder *rec, int fd)
{
	int flags = fcntl(fd, F_GETFL), err;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) ||
	    !epoll_watch(rec, fd, EVENT_WORKER)) {
		err = -errno;
		close(fd);
		return err;
	}
	rec->records_fd = fd;
	return 0;
}

/* The old worker is dead or about to be: what it still wrote comes first. */
static void control_worker(struct recorder *rec, int fd)
{
	int err;

	if (fd < 0)
		return;
	worker_drain(rec);
	worker_close(rec);
	err = worker_open(rec, fd);
	if (err)
		log_err("cannot read from the new worker: %s", strerror(-err));
}

static void control_subscribe(struct recorder *rec, const struct recorder_msg *msg, int fd)
{
	struct line_opts line = {.width = msg->width, .color = msg->color};

	if (fd < 0)
		return;
	if (msg->format >= RECORDER_FORMAT_MAX) {
		close(fd);
		return;
	}
	sub_add(&rec->subs, fd, msg->format, &line);
}

static void control_stats(struct recorder *rec)
{
	journal_stats(rec->journal, &rec->stats.journal);
	/* A keeper that does not take its answer asks again. */
	send(rec->control_fd, &rec->stats, sizeof(rec->stats), MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void control_dispatch(struct recorder *rec, const struct recorder_msg *msg,
			     const uint8_t *body, size_t len, int fd)
{
	switch (msg->cmd) {
	case RECORDER_SUBSCRIBE:
		control_subscribe(rec, msg, fd);
		return;
	case RECORDER_WORKER:
		control_worker(rec, fd);
		return;
	case RECORDER_APPEND:
		rec->stats.keeper_records++;
		record_take(rec, body, len);
		break;
	case RECORDER_STATS:
		control_stats(rec);
		break;
	case RECORDER_STOP:
		rec->stopping = true;
		break;
	default:
		log_warn("unknown message from the keeper cmd=%u", msg->cmd);
		break;
	}
	if (fd >= 0)
		close(fd);
}

static int control_fd_of(struct msghdr *hdr)
{
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(hdr);
	int fd = -1;

	if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
	    cmsg->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

static void control_read(struct recorder *rec)
{
	static uint8_t room[sizeof(struct recorder_msg) + LIMIT_RECORD_BYTES + 1];
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {room, sizeof(room)};
	struct msghdr hdr = {
	    .msg_iov = &iov,
	    .msg_iovlen = 1,
	    .msg_control = control,
	    .msg_controllen = sizeof(control),
	};
	struct recorder_msg msg;
	ssize_t n = recvmsg(rec->control_fd, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int fd;

	if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK))
		return;
	if (n <= 0) {
		/* The keeper is gone: its children end. */
		rec->stopping = true;
		return;
	}
	fd = control_fd_of(&hdr);
	if ((size_t)n < sizeof(msg) || (hdr.msg_flags & MSG_TRUNC)) {
		rec->stats.bad_records++;
		if (fd >= 0)
			close(fd);
		return;
	}
	memcpy(&msg, room, sizeof(msg));
	control_dispatch(rec, &msg, room + sizeof(msg), (size_t)n - sizeof(msg), fd);
}

static int recorder_wait_ms(struct recorder *rec)
{
	int ms = journal_tick(rec->journal, clock_mono_ns());

	if (rec->subs.blocked_cnt && (ms < 0 || ms > RETRY_BLOCKED_MS))
		ms = RETRY_BLOCKED_MS;
	return ms;
}

static void recorder_loop(struct recorder *rec)
{
	struct epoll_event events[RECORDER_SUBSCRIBERS_MAX + 2];
	int cnt;

	while (!rec->stopping && !rec->failed) {
		cnt = epoll_wait(rec->epoll_fd, events, sizeof(events) / sizeof(events[0]),
				 recorder_wait_ms(rec));
		if (cnt < 0 && errno != EINTR) {
			rec->failed = -errno;
			log_err("the recorder cannot wait for events: %s", strerror(errno));
		}
		for (int i = 0; i < cnt; i++) {
			switch ((enum event_source)(events[i].data.u64 >> 32)) {
			case EVENT_WORKER:
				worker_read(rec);
				break;
			case EVENT_CONTROL:
				control_read(rec);
				break;
			case EVENT_SUBSCRIBER:
				sub_event(&rec->subs, (uint32_t)events[i].data.u64,
					  events[i].events);
				break;
			}
		}
		sub_flush(&rec->subs);
	}
	if (!rec->failed)
		worker_drain(rec);
	sub_flush(&rec->subs);
}

static void recorder_report_repair(struct recorder *rec, const struct journal_repair *repair)
{
	char detail[256];

	if (!repair->cut_bytes && !repair->kept_bytes)
		return;
	snprintf(detail, sizeof(detail), "segment %s: %" PRIu64 " bytes after seq %" PRIu64 " %s",
		 repair->segment, repair->kept_bytes ? repair->kept_bytes : repair->cut_bytes,
		 repair->last_seq,
		 repair->kept_bytes ? "cannot be read; they were left as they are"
				    : "were a torn tail and were cut off");
	log_warn("journal repaired at start: %s", detail);
	record_gap(rec, repair->kept_bytes ? "journal_damaged" : "journal_torn", detail, 0);
}

static int recorder_open(struct recorder *rec, const struct recorder_opts *opts)
{
	struct journal_opts journal_opts = {
	    .segment_bytes = opts->segment_bytes,
	    .sync_ms = opts->sync_ms,
	    .node = opts->node,
	};
	struct line_opts line = {.width = opts->foreground_width, .color = opts->foreground_color};
	struct journal_repair repair;
	struct err err;
	int rc;

	rec->in = malloc(READ_BYTES);
	rec->parents = calloc(RECORDER_PARENTS, sizeof(*rec->parents));
	if (rec->epoll_fd < 0)
		rec->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (rec->epoll_fd < 0 || !rec->in || !rec->parents ||
	    sub_set_init(&rec->subs, rec->epoll_fd, EVENT_SUBSCRIBER, opts->node, &rec->stats)) {
		log_err("the recorder cannot start: out of memory or descriptors");
		return -ENOMEM;
	}
	if (getrandom(&rec->hash_key, sizeof(rec->hash_key), GRND_NONBLOCK) !=
	    sizeof(rec->hash_key))
		rec->hash_key = clock_mono_ns() ^ (uint64_t)getpid() << 32;
	rc = journal_open(opts->journal_dir_fd, &journal_opts, &rec->journal, &repair, &err);
	if (rc) {
		log_err("%s", err.text);
		return rc;
	}
	if (opts->foreground_fd >= 0)
		sub_add_foreground(&rec->subs, opts->foreground_fd, &line);
	recorder_report_repair(rec, &repair);
	if (rec->control_fd >= 0 && !epoll_watch(rec, rec->control_fd, EVENT_CONTROL)) {
		log_err("the recorder cannot watch the keeper's socket: %s", strerror(errno));
		return -EINVAL;
	}
	rc = opts->records_fd >= 0 ? worker_open(rec, opts->records_fd) : 0;
	if (rc)
		log_err("the recorder cannot read the worker's stream: %s", strerror(-rc));
	return rc;
}

static void recorder_close(struct recorder *rec)
{
	if (rec->records_fd >= 0)
		close(rec->records_fd);
	journal_close(rec->journal);
	if (rec->subs.render.raw)
		sub_set_fini(&rec->subs);
	if (rec->control_fd >= 0)
		close(rec->control_fd);
	if (rec->epoll_fd >= 0)
		close(rec->epoll_fd);
	free(rec->parents);
	free(rec->in);
	free(rec);
}

int recorder_run(const struct recorder_opts *opts)
{
	static const int ignored[] = {SIGINT, SIGTERM, SIGPIPE, SIGXFSZ};
	struct recorder *rec = calloc(1, sizeof(*rec));
	int rc;

	if (!rec)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	rec->epoll_fd = opts->epoll_fd;
	rec->records_fd = -1;
	rec->control_fd = opts->control_fd;
	rec->node = opts->node;
	rc = recorder_open(rec, opts);
	if (!rc) {
		recorder_loop(rec);
		rc = rec->failed;
	}
	recorder_close(rec);
	return rc;
}
