/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Live readers of the record stream: who they are, what waits for them, and what they missed. A
 * reader that does not keep up loses records and is told how many; it never slows the recorder.
 */
#ifndef DBFENCE_AUDIT_RECORDER_SUB_H
#define DBFENCE_AUDIT_RECORDER_SUB_H

#include <stdbool.h>
#include <stdint.h>

#include "audit/line.h"
#include "audit/record.h"
#include "audit/recorder.h"
#include "core/buf.h"

struct sub {
	int fd;		/* owned, unless keep_fd; -1: this place is free */
	bool is_socket; /* otherwise a terminal, pipe or file that is asked by poll before each
			   write */
	bool keep_fd;
	uint32_t serial; /* of the reader, 24 bits: places are reused */
	bool blocked;	 /* waits for the descriptor to take more */
	enum recorder_format format;
	struct line_opts line;
	struct buf queue; /* whole records; sent counts what already left */
	size_t sent;
	uint64_t lost; /* not queued since the reader was last told */
};

/* What is made once per record however many readers want it. */
struct sub_render {
	struct record_arena arena;
	struct buf json, line;
	uint8_t *raw; /* owned; JOURNAL_FRAME_MAX bytes */
};

struct sub_set {
	struct sub subs[RECORDER_SUBSCRIBERS_MAX + 1]; /* the last is the foreground's */
	unsigned cnt;
	unsigned blocked_cnt; /* of those that epoll cannot watch */
	int epoll_fd;	      /* borrowed: by the recorder */
	uint32_t epoll_tag;   /* high half of epoll's u64 for our events; the low half says who */
	uint32_t serial;
	struct sub_render render;
	const char *node;	      /* borrowed: by the recorder's caller */
	struct recorder_stats *stats; /* borrowed: by the recorder */
};

int sub_set_init(struct sub_set *set, int epoll_fd, uint32_t epoll_tag, const char *node,
		 struct recorder_stats *stats);
void sub_set_fini(struct sub_set *set);

/* A new reader; its socket is the set's now. When there is no place, it is told so and closed. */
void sub_add(struct sub_set *set, int fd, enum recorder_format format,
	     const struct line_opts *line);
/* The daemon's own terminal; the descriptor stays the caller's. */
void sub_add_foreground(struct sub_set *set, int fd, const struct line_opts *line);

/* Queues one record for every reader that has room. @seq may be 0: it was not recorded. */
void sub_emit(struct sub_set *set, uint64_t seq, const uint8_t *body, size_t len,
	      uint64_t parent_seq);

/* Sends what is queued, as far as the readers take it. */
void sub_flush(struct sub_set *set);

/* An epoll event; @tag is the low half of its u64. */
void sub_event(struct sub_set *set, uint32_t tag, uint32_t events);

#endif
