// SPDX-License-Identifier: Apache-2.0
/* Live readers: rendering, bounded queues, non-blocking sending. */
#include "audit/recorder_sub.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "audit/json.h"
#include "dbfence/audit.pb-c.h"

#define FOREGROUND RECORDER_SUBSCRIBERS_MAX
/* What a pipe or terminal that polls writable takes without blocking. */
#define CHUNK_BYTES 4096
#define QUEUE_MAX (RECORDER_QUEUE_BYTES + JSON_RECORD_MAX)

enum recorder_format recorder_format_from_name(const char *name)
{
	static const char *const names[RECORDER_FORMAT_MAX] = {"json", "line", "raw"};

	for (unsigned i = 0; i < RECORDER_FORMAT_MAX; i++)
		if (name && !strcmp(name, names[i]))
			return i;
	return RECORDER_FORMAT_MAX;
}

int sub_set_init(struct sub_set *set, int epoll_fd, uint32_t epoll_tag, const char *node,
		 struct recorder_stats *stats)
{
	*set = (struct sub_set){
	    .epoll_fd = epoll_fd, .epoll_tag = epoll_tag, .node = node, .stats = stats};
	for (unsigned i = 0; i <= FOREGROUND; i++)
		set->subs[i].fd = -1;
	buf_init(&set->render.json, JSON_RECORD_MAX);
	buf_init(&set->render.line, JSON_RECORD_MAX);
	set->render.raw = malloc(JOURNAL_FRAME_MAX);
	return set->render.raw ? 0 : -ENOMEM;
}

static void sub_close(struct sub_set *set, struct sub *sub)
{
	if (sub->fd < 0)
		return;
	if (sub->is_socket)
		epoll_ctl(set->epoll_fd, EPOLL_CTL_DEL, sub->fd, NULL);
	if (!sub->keep_fd)
		close(sub->fd);
	sub->fd = -1;
	buf_fini(&sub->queue);
	set->cnt--;
	set->stats->subscribers = set->cnt;
}

void sub_set_fini(struct sub_set *set)
{
	for (unsigned i = 0; i <= FOREGROUND; i++)
		sub_close(set, &set->subs[i]);
	buf_fini(&set->render.json);
	buf_fini(&set->render.line);
	record_arena_fini(&set->render.arena);
	free(set->render.raw);
}

static void sub_open(struct sub_set *set, unsigned idx, int fd, enum recorder_format format,
		     const struct line_opts *line)
{
	struct sub *sub = &set->subs[idx];

	*sub = (struct sub){
	    .fd = fd, .format = format, .line = *line, .serial = ++set->serial & 0xffffff};
	buf_init(&sub->queue, QUEUE_MAX);
	set->cnt++;
	set->stats->subscribers = set->cnt;
}

void sub_add_foreground(struct sub_set *set, int fd, const struct line_opts *line)
{
	sub_open(set, FOREGROUND, fd, RECORDER_LINE, line);
	set->subs[FOREGROUND].keep_fd = true;
}

/* Hang-ups and errors are always reported; writability is asked for only while something waits. */
static bool sub_watch(struct sub_set *set, unsigned idx, int op, bool writable)
{
	struct epoll_event event = {
	    .events = writable ? EPOLLOUT : 0,
	    .data.u64 = (uint64_t)set->epoll_tag << 32 | set->subs[idx].serial << 8 | idx,
	};

	return !epoll_ctl(set->epoll_fd, op, set->subs[idx].fd, &event);
}

void sub_add(struct sub_set *set, int fd, enum recorder_format format, const struct line_opts *line)
{
	static const char refusal[] =
	    "{\"seq\":0,\"kind\":\"gap\",\"gap\":{\"reason\":\"too_many_subscribers\"}}\n";
	unsigned idx = 0;

	while (idx < RECORDER_SUBSCRIBERS_MAX && set->subs[idx].fd >= 0)
		idx++;
	if (idx == RECORDER_SUBSCRIBERS_MAX) {
		set->stats->subscribers_refused++;
		if (format == RECORDER_JSON)
			send(fd, refusal, sizeof(refusal) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		close(fd);
		return;
	}
	sub_open(set, idx, fd, format, line);
	set->subs[idx].is_socket = true;
	if (!sub_watch(set, idx, EPOLL_CTL_ADD, false))
		sub_close(set, &set->subs[idx]);
}

static ssize_t sub_write(struct sub *sub, const char *data, size_t len)
{
	struct pollfd ready = {.fd = sub->fd, .events = POLLOUT};

	if (sub->is_socket)
		return send(sub->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (poll(&ready, 1, 0) < 1 || !(ready.revents & POLLOUT)) {
		errno = ready.revents & (POLLERR | POLLHUP | POLLNVAL) ? EPIPE : EAGAIN;
		return -1;
	}
	return write(sub->fd, data, len < CHUNK_BYTES ? len : CHUNK_BYTES);
}

/* False when the reader is gone. */
static bool sub_send(struct sub *sub)
{
	ssize_t n;

	sub->blocked = false;
	while (sub->sent < sub->queue.len) {
		n = sub_write(sub, sub->queue.data + sub->sent, sub->queue.len - sub->sent);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			sub->blocked = errno == EAGAIN || errno == EWOULDBLOCK;
			return sub->blocked;
		}
		sub->sent += (size_t)n;
	}
	buf_reset(&sub->queue);
	sub->sent = 0;
	return true;
}

static void sub_compact(struct sub *sub)
{
	if (!sub->sent)
		return;
	sub->queue.len -= sub->sent;
	memmove(sub->queue.data, sub->queue.data + sub->sent, sub->queue.len + 1);
	sub->sent = 0;
}

static void sub_progress(struct sub_set *set, unsigned idx)
{
	struct sub *sub = &set->subs[idx];
	bool was_blocked = sub->blocked;

	if (!sub_send(sub)) {
		sub_close(set, sub);
		return;
	}
	sub_compact(sub);
	if (sub->is_socket && sub->blocked != was_blocked &&
	    !sub_watch(set, idx, EPOLL_CTL_MOD, sub->blocked))
		sub_close(set, sub);
}

static void queue_raw(struct sub_set *set, struct sub *sub, uint64_t seq, const uint8_t *body,
		      size_t len, uint64_t parent_seq)
{
	buf_put(&sub->queue, set->render.raw,
		journal_encode(set->render.raw, seq, body, len, parent_seq));
}

/*
 * A record of this reader's own: how many it missed. It has no seq, for it is not in the journal.
 */
static void queue_lost(struct sub_set *set, struct sub *sub)
{
	struct record_gap gap = {set->node, "subscriber_slow", "this reader did not keep up",
				 sub->lost, 0};
	Dbfence__Audit__V1__Record *record;
	struct buf body;

	buf_init(&body, LIMIT_RECORD_BYTES);
	record_put_gap(&gap, &body);
	record = buf_err(&body)
		     ? NULL
		     : record_unpack(&set->render.arena, (const uint8_t *)body.data, body.len);
	if (record && sub->format == RECORDER_JSON)
		audit_json_write(record, &sub->queue);
	else if (record && sub->format == RECORDER_LINE)
		audit_line_write(record, &sub->line, &sub->queue);
	else if (record)
		queue_raw(set, sub, 0, (const uint8_t *)body.data, body.len, 0);
	if (record)
		sub->lost = 0;
	buf_fini(&body);
}

/* Room for one more record. Makes some by sending; a reader that has none loses this record. */
static bool sub_has_room(struct sub_set *set, unsigned idx)
{
	struct sub *sub = &set->subs[idx];

	if (sub->fd < 0)
		return false;
	if (sub->queue.len >= RECORDER_QUEUE_BYTES && !sub->blocked)
		sub_progress(set, idx);
	if (sub->fd < 0)
		return false;
	/*
	 * Once behind, it stays behind until half of the queue has left, so that gaps are few and
	 * say much.
	 */
	if (sub->queue.len >= (sub->lost ? RECORDER_QUEUE_BYTES / 2 : RECORDER_QUEUE_BYTES)) {
		sub->lost++;
		set->stats->subscriber_lost++;
		return false;
	}
	return true;
}

static void sub_put(struct sub_set *set, struct sub *sub, const Dbfence__Audit__V1__Record *record)
{
	struct buf *json = &set->render.json, *line = &set->render.line;
	size_t before = sub->queue.len;

	if (sub->format == RECORDER_JSON) {
		if (!json->len)
			audit_json_write(record, json);
		buf_put(&sub->queue, buf_str(json), json->len);
		sub->queue.failed |= json->failed;
	} else {
		buf_reset(line);
		audit_line_write(record, &sub->line, line);
		buf_put(&sub->queue, buf_str(line), line->len);
		sub->queue.failed |= line->failed;
	}
	if (!sub->queue.failed)
		return;
	/* Out of memory, or a record beyond all bounds: this reader misses it. */
	sub->queue.failed = false;
	sub->queue.len = before;
	sub->lost++;
	set->stats->subscriber_lost++;
}

void sub_emit(struct sub_set *set, uint64_t seq, const uint8_t *body, size_t len,
	      uint64_t parent_seq)
{
	Dbfence__Audit__V1__Record *record = NULL;
	bool wanted[RECORDER_SUBSCRIBERS_MAX + 1] = {false};
	bool decode = false;

	if (!set->cnt)
		return;
	for (unsigned i = 0; i <= FOREGROUND; i++) {
		struct sub *sub = &set->subs[i];

		wanted[i] = sub_has_room(set, i);
		if (!wanted[i])
			continue;
		if (sub->lost)
			queue_lost(set, sub);
		if (sub->format == RECORDER_RAW)
			queue_raw(set, sub, seq, body, len, parent_seq);
		else
			decode = true;
	}
	if (!decode)
		return;
	buf_reset(&set->render.json);
	record = record_unpack(&set->render.arena, body, len);
	if (!record) {
		set->stats->render_errors++;
		return;
	}
	record->seq = seq;
	if (parent_seq)
		record->parent_seq = parent_seq;
	for (unsigned i = 0; i <= FOREGROUND; i++)
		if (wanted[i] && set->subs[i].format != RECORDER_RAW)
			sub_put(set, &set->subs[i], record);
}

void sub_flush(struct sub_set *set)
{
	set->blocked_cnt = 0;
	for (unsigned i = 0; set->cnt && i <= FOREGROUND; i++) {
		struct sub *sub = &set->subs[i];

		if (sub->fd < 0)
			continue;
		if (sub->lost && !sub->queue.len)
			queue_lost(set, sub);
		if (sub->queue.len && !(sub->is_socket && sub->blocked))
			sub_progress(set, i);
		set->blocked_cnt += sub->fd >= 0 && !sub->is_socket && sub->blocked;
	}
}

void sub_event(struct sub_set *set, uint32_t tag, uint32_t events)
{
	unsigned idx = tag & 0xff;

	/* The place may have been given to another reader since epoll reported this. */
	if (idx >= FOREGROUND || set->subs[idx].fd < 0 || set->subs[idx].serial != tag >> 8)
		return;
	if (events & (EPOLLHUP | EPOLLERR))
		sub_close(set, &set->subs[idx]);
	else
		sub_progress(set, idx);
}
