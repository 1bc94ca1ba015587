// SPDX-License-Identifier: Apache-2.0
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "pipeline.h"
#include "policy/policy.h"
#include "priv/chan.h"
#include "priv/messages.h"
#include "priv/sandbox.h"
#include "source/ring.h"
#include "source/urgent.h"

#define OUT_MAX (32UL << 20) /* records waiting for a recorder that is slow or being replaced */
#define OUT_FLUSH (64UL << 10)
#define POLL_BUSY_MS 1
#define POLL_IDLE_MS 200
#define OVERLOAD_PART 8 /* the reader is behind when this part of the ring waits, until half of that */
#define LOOK_EACH 64	/* records between two looks at the clock and the keeper, if they are small */
#define LARGE_RECORD 2048
#define IDLE_ROUNDS 5 /* empty polls before the reader asks to be woken */
#define WHO_WAIT_MS 5
#define SOURCES_BYTES_MAX (64UL << 20)

struct worker {
	struct worker_opts opts;
	struct pipeline *pipeline;
	struct ring *ring;
	struct urgent *urgent;
	unsigned since_look; /* records */
	bool overloaded;
	int epoll;
	struct buf out; /* whole frames, the first perhaps partly sent */
	size_t sent;
	uint64_t dropped; /* frames that found no room */
	uint64_t last_beat_ns;
	unsigned asking; /* who sessions' clients are, of the keeper */
	bool who_late; /* its last answer took too long */
	bool holds;    /* somebody may be stopped until we judge */
	bool stop;
	char msg[sizeof(struct msg_who_answer) + 64];
	struct chan_table table;
};

static void on_record(void *ctx, const void *body, size_t len)
{
	struct worker *w = ctx;
	unsigned char head[4] = { (unsigned char)len, (unsigned char)(len >> 8),
				  (unsigned char)(len >> 16), (unsigned char)(len >> 24) };

	if (w->out.len + sizeof(head) + len > OUT_MAX) {
		w->dropped++;
		return;
	}
	buf_put(&w->out, head, sizeof(head));
	buf_put(&w->out, body, len);
}

static void on_message(void *ctx, uint32_t type, const void *payload, size_t len)
{
	struct worker *w = ctx;

	/* A full channel means a keeper that does not live: its dead-man decides. */
	if (chan_try_send(w->opts.keeper_fd, type, payload, len, -1))
		log_debug("message %u not sent", type);
	else
		w->asking += type == MSG_WHO;
}

static void out_flush(struct worker *w)
{
	while (w->opts.records_fd >= 0 && w->sent < w->out.len) {
		ssize_t n = send(w->opts.records_fd, w->out.data + w->sent, w->out.len - w->sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0) { /* the recorder is gone; the keeper brings a new stream */
			close(w->opts.records_fd);
			w->opts.records_fd = -1;
			break;
		}
		w->sent += (size_t)n;
	}
	if (w->sent == w->out.len) {
		buf_reset(&w->out);
		w->sent = 0;
	}
}

/* Forget the frames that were sent whole; a frame cut off in a dead recorder is sent again from its
 * start. */
static void out_rewind(struct worker *w)
{
	const unsigned char *p = (const unsigned char *)w->out.data;
	size_t at = 0;

	while (at + 4 <= w->sent) {
		size_t len = 4 + ((size_t)p[at] | (size_t)p[at + 1] << 8 | (size_t)p[at + 2] << 16 |
				  (size_t)p[at + 3] << 24);

		if (at + len > w->sent)
			break;
		at += len;
	}
	memmove(w->out.data, w->out.data + at, w->out.len - at);
	w->out.len -= at;
	w->sent = 0;
}

int worker_unpack_sources(const char *blob, size_t len, struct policy_source *out, size_t cap,
			  size_t *cnt)
{
	size_t at = 0;

	*cnt = 0;
	while (at < len) {
		const char *part[2];
		uint32_t part_len[2];

		for (int i = 0; i < 2; i++) {
			if (len - at < sizeof(uint32_t))
				return -EPROTO;
			memcpy(&part_len[i], blob + at, sizeof(uint32_t));
			at += sizeof(uint32_t);
			if (part_len[i] > len - at)
				return -EPROTO;
			part[i] = blob + at;
			at += part_len[i];
		}
		if (*cnt >= cap || !part_len[0] || part[0][part_len[0] - 1])
			return -EPROTO;
		out[(*cnt)++] = (struct policy_source){ .name = part[0],
							.yaml = part[1],
							.len = part_len[1] };
	}
	return 0;
}

static int load_policy(struct worker *w, const struct msg_policy *m, const char *blob)
{
	struct policy_source *sources = calloc(LIMIT_POLICY_FILES, sizeof(*sources));
	struct policy_report report;
	struct policy_summary summary;
	struct policy_set *set = NULL;
	size_t cnt;
	int rc;

	policy_report_init(&report);
	rc = sources ? worker_unpack_sources(blob, m->bytes, sources, LIMIT_POLICY_FILES, &cnt)
		     : -ENOMEM;
	if (!rc)
		rc = policy_set_load(sources, cnt, m->generation, &set, &report);
	if (!rc && m->force_mode)
		policy_set_force_mode(set, m->force_mode == 2 ? POLICY_ENFORCE : POLICY_SHADOW);
	if (!rc) {
		policy_set_summary(set, &summary);
		w->holds = summary.enforces;
		pipeline_set_policy(w->pipeline, set);
	}
	policy_report_fini(&report);
	free(sources);
	return rc;
}

static int handle_policy(void *ctx, const struct chan_msg *msg)
{
	struct worker *w = ctx;
	const struct msg_policy *m = msg->payload;
	struct msg_ready ready = { .generation = m->generation };
	char *blob = NULL;
	int rc = -E2BIG;

	if (m->bytes && m->bytes <= SOURCES_BYTES_MAX)
		blob = malloc(m->bytes);
	if (blob && !lseek(msg->fd, 0, SEEK_SET) &&
	    read(msg->fd, blob, m->bytes) == (ssize_t)m->bytes)
		rc = load_policy(w, m, blob);
	else if (!m->bytes)
		rc = load_policy(w, m, "");
	ready.ok = !rc;
	free(blob);
	close(msg->fd);
	on_message(w, MSG_READY, &ready, sizeof(ready));
	return 0;
}

static int handle_who(void *ctx, const struct chan_msg *msg)
{
	struct worker *w = ctx;

	w->asking -= w->asking > 0;
	w->who_late = false;
	pipeline_who(w->pipeline, msg->payload);
	return 0;
}

static int handle_records(void *ctx, const struct chan_msg *msg)
{
	struct worker *w = ctx;

	out_rewind(w);
	if (w->opts.records_fd >= 0)
		close(w->opts.records_fd);
	w->opts.records_fd = msg->fd;
	return 0;
}

static int handle_stop(void *ctx, const struct chan_msg *msg)
{
	struct worker *w = ctx;

	(void)msg;
	w->stop = true;
	return 0;
}

static const struct chan_rule rules[] = {
	{ MSG_POLICY, sizeof(struct msg_policy), sizeof(struct msg_policy), true, handle_policy },
	{ MSG_WHO_ANSWER, sizeof(struct msg_who_answer), sizeof(struct msg_who_answer), false,
	  handle_who },
	{ MSG_RECORDS, 0, 0, true, handle_records },
	{ MSG_STOP, 0, 0, false, handle_stop },
};

static void read_keeper(struct worker *w)
{
	struct chan_msg msg;
	int rc;

	while (!(rc = chan_try_recv(w->opts.keeper_fd, w->msg, sizeof(w->msg), &msg)))
		chan_dispatch(&w->table, &msg);
	if (rc == -EPIPE)
		w->stop = true;
}

static void beat(struct worker *w, uint64_t now)
{
	struct msg_stats stats;

	if (now - w->last_beat_ns < WORKER_BEAT_MS * NS_PER_MS)
		return;
	w->last_beat_ns = now;
	pipeline_stats(w->pipeline, &stats);
	stats.record_errors += w->dropped;
	stats.ring_backlog = ring_backlog(w->ring);
	on_message(w, MSG_STATS, &stats, sizeof(stats));
}

/* One that is held is to be judged by its client's program, which may just have become another. */
static void on_await_who(void *ctx)
{
	struct worker *w = ctx;
	struct epoll_event ev[2];
	uint64_t until;

	if (!w->asking)
		return;
	until = clock_mono_ns() + WHO_WAIT_MS * NS_PER_MS;
	while (w->asking && !w->who_late && !w->stop) {
		epoll_wait(w->epoll, ev, 2, 1);
		read_keeper(w);
		w->who_late = w->asking && clock_mono_ns() > until;
	}
}

/*
 * A session's first statements may be right behind it in the ring, and are to be recorded with its
 * client's program. A keeper that is late is not waited for again before it answers; none is while
 * others may be held meanwhile, because hold slots are few.
 */
static void await_who(struct worker *w)
{
	if (!w->holds)
		on_await_who(w);
}

static void feed(void *ctx, const void *record, size_t len)
{
	struct worker *w = ctx;

	pipeline_feed(w->pipeline, record, len);
	await_who(w);
	if (w->out.len - w->sent >= OUT_FLUSH)
		out_flush(w);
	w->since_look += len > LARGE_RECORD ? LOOK_EACH : 1;
}

/* While much waits, nothing is parsed for the record alone: it would only make more be lost. */
static void weigh_backlog(struct worker *w)
{
	size_t limit = w->opts.ring_bytes / OVERLOAD_PART;

	w->overloaded = ring_backlog(w->ring) > (w->overloaded ? limit / 2 : limit);
	pipeline_set_overloaded(w->pipeline, w->overloaded);
}

/* However much there is: the keeper must hear of us, or nothing is held any more. */
static void look_around(struct worker *w)
{
	if (w->since_look < LOOK_EACH)
		return;
	w->since_look = 0;
	weigh_backlog(w);
	read_keeper(w);
	beat(w, clock_mono_ns());
}

static void drain(struct worker *w)
{
	pipeline_set_clock(w->pipeline);
	weigh_backlog(w);
	do {
		while (urgent_take(w->urgent, feed, w))
			look_around(w);
		look_around(w);
	} while (ring_consume(w->ring, 1, feed, w));
	pipeline_losses(
		w->pipeline,
		__atomic_load_n(&w->opts.vitals->counts[DBF_COUNT_LOST_BATCHES], __ATOMIC_RELAXED),
		__atomic_load_n(&w->opts.vitals->counts[DBF_COUNT_LOST_EXECS], __ATOMIC_RELAXED));
	out_flush(w);
}

static void loop(struct worker *w)
{
	unsigned idle = 0;

	while (!w->stop) {
		struct epoll_event ev[2];
		bool sleeping = idle >= IDLE_ROUNDS && w->sent == w->out.len;

		if (sleeping) {
			__atomic_store_n(&w->opts.doorbell->asleep, 1, __ATOMIC_SEQ_CST);
			if (ring_backlog(w->ring)) /* it came before the bell was armed */
				sleeping = false;
		}
		epoll_wait(w->epoll, ev, 2, sleeping ? POLL_IDLE_MS : POLL_BUSY_MS);
		__atomic_store_n(&w->opts.doorbell->asleep, 0, __ATOMIC_SEQ_CST);
		idle = ring_backlog(w->ring) ? 0 : idle + 1;
		read_keeper(w);
		drain(w);
		beat(w, clock_mono_ns());
	}
	drain(w);
}

static int enter_sandbox(const struct worker *w)
{
	int keep[] = { STDERR_FILENO, w->opts.ring_fd, w->opts.keeper_fd, w->opts.records_fd,
		       w->epoll };
	struct sandbox_profile profile = sandbox_profile_get(SANDBOX_WORKER);
	struct err err = {};
	int rc;

	profile.keep_fds = keep;
	profile.keep_cnt = sizeof(keep) / sizeof(keep[0]);
	if (w->opts.limit_as)
		profile.limit_as = w->opts.limit_as;
	rc = sandbox_enter(&profile, &err);
	if (rc)
		log_err("%s", err.text);
	else if (err.text[0])
		log_info("%s", err.text);
	return rc;
}

int worker_run(const struct worker_opts *opts)
{
	static const struct pipeline_ops ops = { .record = on_record, .message = on_message, .await_who = on_await_who };
	struct pipeline_opts popts = { .node = opts->node, .full_text = opts->full_text, .marks = opts->marks };
	struct epoll_event ring_ev = { .events = EPOLLIN | EPOLLET, .data.u32 = 0 };
	struct epoll_event keeper_ev = { .events = EPOLLIN, .data.u32 = 1 };
	static struct worker w;

	log_set_who("dbfenced worker");
	if (getrandom(&popts.class_base, sizeof(popts.class_base), 0) != sizeof(popts.class_base)) {
		log_err("no randomness: %s", strerror(errno));
		return 1;
	}
	w = (struct worker){ .opts = *opts };
	w.table = (struct chan_table){ .rules = rules,
				       .rule_cnt = sizeof(rules) / sizeof(rules[0]),
				       .ctx = &w };
	buf_init(&w.out, OUT_MAX);
	w.ring = ring_open(opts->ring_fd, opts->ring_bytes);
	w.urgent = w.ring ? urgent_new(w.ring) : NULL;
	w.epoll = epoll_create1(EPOLL_CLOEXEC);
	w.pipeline = pipeline_new(&popts, &ops, &w);
	if (!w.urgent || w.epoll < 0 || !w.pipeline ||
	    epoll_ctl(w.epoll, EPOLL_CTL_ADD, opts->ring_fd, &ring_ev) ||
	    epoll_ctl(w.epoll, EPOLL_CTL_ADD, opts->keeper_fd, &keeper_ev)) {
		log_err("cannot start: %s", strerror(errno));
		return 1;
	}
	if (enter_sandbox(&w))
		return 1;
	loop(&w);
	pipeline_free(w.pipeline);
	urgent_free(w.urgent);
	ring_close(w.ring);
	buf_fini(&w.out);
	return 0;
}
