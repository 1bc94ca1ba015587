/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The recorder: the process that numbers records, writes them to the journal, and hands them to
 * whoever watches.
 *
 * From the worker, over a stream (socket or pipe): frames of u32 little-endian length and a packed
 * Record body without seq, many per write (record_frame makes one). A record comes after the record
 * it is nested in. From the keeper, over a SOCK_SEQPACKET socket: struct recorder_msg, for
 * RECORDER_APPEND followed by one body.
 *
 * The recorder ignores SIGINT, SIGTERM, SIGPIPE and SIGXFSZ: a signal to the whole service must not
 * lose what is on its way. It ends by RECORDER_STOP or when the keeper's socket closes, after
 * writing what it can still read. Beyond journal.h's system calls it uses: epoll_ctl, epoll_wait,
 * recvmsg, sendto, write, poll, fcntl, rt_sigaction, getrandom, and epoll_create1 unless it is
 * given an epoll descriptor.
 */
#ifndef DBFENCE_AUDIT_RECORDER_H
#define DBFENCE_AUDIT_RECORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audit/journal.h"
#include "core/err.h"

#define RECORDER_SUBSCRIBERS_MAX 16
#define RECORDER_PARENTS 4096 /* statements whose seq is remembered for those nested in them, which come right behind */
#define RECORDER_QUEUE_BYTES (512 * 1024) /* per subscriber, beyond what its socket takes */

enum recorder_cmd {
	RECORDER_NONE,
	RECORDER_SUBSCRIBE, /* one descriptor by SCM_RIGHTS: a live reader's socket */
	RECORDER_APPEND,    /* one packed body: agent, policy, coverage and gap records */
	RECORDER_STATS,	    /* answered with struct recorder_stats */
	RECORDER_STOP,	    /* drain, flush, sync, return */
	RECORDER_WORKER,    /* one descriptor: a new worker's stream; the old one is drained */
	RECORDER_CMD_MAX
};

enum recorder_format { RECORDER_JSON, RECORDER_LINE, RECORDER_RAW, RECORDER_FORMAT_MAX };

/* "json", "line", "raw"; RECORDER_FORMAT_MAX for another name. */
enum recorder_format recorder_format_from_name(const char *name);

struct recorder_msg {
	uint32_t cmd;	 /* enum recorder_cmd */
	uint32_t format; /* enum recorder_format, of RECORDER_SUBSCRIBE */
	uint32_t color;	 /* of RECORDER_LINE */
	uint32_t width;	 /* of RECORDER_LINE, 0: not shortened */
};

struct recorder_stats {
	struct journal_stats journal;
	uint64_t worker_records, keeper_records;
	uint64_t bad_records;	   /* no Record body; not recorded */
	uint64_t oversize_records; /* beyond LIMIT_RECORD_BYTES; not recorded */
	uint64_t torn_records;	   /* a worker ended in the middle of one */
	uint64_t parents_unknown;  /* nested records whose parent's seq is not known any more */
	uint64_t subscribers, subscribers_refused, subscriber_lost;
	uint64_t render_errors;
};

struct recorder_opts {
	int records_fd; /* owned by the recorder from now on; -1: wait for RECORDER_WORKER */
	int control_fd; /* owned; -1: none, then the end of records_fd ends the recorder */
	int epoll_fd;	/* owned; made before the sandbox that forbids making one. -1: made here */
	int journal_dir_fd; /* borrowed: by the caller; opened for reading */
	int foreground_fd;  /* borrowed; gets human lines, never blocks recording; -1: none */
	bool foreground_color;
	unsigned foreground_width;
	const char *node;	/* borrowed; the host name, for gap records */
	uint64_t segment_bytes; /* 0: the journal's default */
	unsigned sync_ms;	/* 0: the journal's default */
};

/* Runs until told to stop. 0, or a negative errno with a sentence in the log. */
int recorder_run(const struct recorder_opts *opts);

/* The keeper's side of the control socket: each sends one message. 0 or a negative errno. */

/* The descriptors stay the caller's: close them afterwards. */
int recorder_subscribe(int control_fd, int subscriber_fd, enum recorder_format format, bool color,
		       unsigned width);
int recorder_set_worker(int control_fd, int records_fd);
/* Packs and sends @record, whose seq must be 0. -EMSGSIZE when it is too large for the socket. */
struct Dbfence__Audit__V1__Record;
int recorder_append(int control_fd, const struct Dbfence__Audit__V1__Record *record);
int recorder_stop(int control_fd);
/* Asks for the counters; the answer is taken later. Nothing waits for a recorder that waits for its disk. */
int recorder_ask_stats(int control_fd);
/* The newest answer that is there: 0, -EAGAIN when there is none, -ECONNRESET when the recorder is gone. */
int recorder_take_stats(int control_fd, struct recorder_stats *stats);
/*
 * Asks and waits at most @timeout_ms for the answer; -ETIMEDOUT, -ECONNRESET when the recorder is
 * gone.
 */
int recorder_get_stats(int control_fd, int timeout_ms, struct recorder_stats *stats);

#endif
