/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Journal segments on disk: one writer, any number of readers. journal.c opens with the format.
 *
 * The writer works through a directory's descriptor only (openat, unlinkat), so it can be sandboxed
 * after that is open. Its system calls: openat, unlinkat, getdents64, fstat, fcntl, flock, read,
 * pread, pwrite, ftruncate, fdatasync, fsync, close.
 */
#ifndef DBFENCE_AUDIT_JOURNAL_H
#define DBFENCE_AUDIT_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/limits.h"

#define JOURNAL_MAGIC "DBFENCEJ"
#define JOURNAL_VERSION 1
#define JOURNAL_HEADER_BYTES 32
#define JOURNAL_SUFFIX ".dbf"
#define JOURNAL_NAME_MAX 32
#define JOURNAL_SEGMENT_BYTES (256ULL << 20)
#define JOURNAL_SYNC_MS 1000
#define JOURNAL_FLUSH_MS 10
/* A record with its seq, parent_seq and length. */
#define JOURNAL_FRAME_MAX (LIMIT_RECORD_BYTES + 32)

enum journal_state {
	JOURNAL_WRITING, /* the safe default: everything appended reached the file or is about to */
	JOURNAL_FULL,	 /* no space; records wait in memory, then are dropped and counted */
	JOURNAL_ERROR,	 /* another error; the same */
	JOURNAL_STATE_MAX
};

/* "writing", "full", "error". */
const char *journal_state_name(enum journal_state state);

struct journal_opts {
	uint64_t segment_bytes; /* 0: JOURNAL_SEGMENT_BYTES */
	unsigned sync_ms;	/* 0: JOURNAL_SYNC_MS */
	size_t buffer_bytes;	/* 0: 1 MiB. At least two frames */
	const char *node;	/* borrowed: by the caller; stamped on gap records. May be NULL */
};

/* What journal_open found at the end of the last segment. All zero after a clean stop. */
struct journal_repair {
	char segment[JOURNAL_NAME_MAX];
	uint64_t cut_bytes; /* a torn tail that was cut off */
	uint64_t
	    kept_bytes; /* damage too large for a torn tail: left as evidence, seq jumps past it */
	uint64_t last_seq; /* of the last whole record */
};

struct journal_stats {
	uint64_t seq;		 /* of the last record */
	uint64_t records, bytes; /* appended since open, gap records included */
	uint64_t dropped_records, dropped_executions;
	uint64_t gap_records;
	uint64_t segments; /* opened since start */
	uint64_t write_errors, sync_errors, syncs;
	uint64_t buffered_bytes;
	enum journal_state state;
	int last_errno; /* of the last failed write or sync; 0 when there was none */
};

struct journal;

/*
 * Opens the journal for writing: finds the last segment, repairs its tail, continues its seq. One
 * writer at a time (-EBUSY). A full disk is no error here: records are dropped and counted until
 * there is space. The caller turns a non-zero @repair into a gap record. @dir_fd is borrowed: by
 * the caller, for the journal's life.
 */
int journal_open(int dir_fd, const struct journal_opts *opts, struct journal **out,
		 struct journal_repair *repair, struct err *err);

/* Flushes, syncs, closes. Accepts NULL. */
void journal_close(struct journal *journal);

/*
 * Appends one packed body that has no seq field, and parent_seq behind it unless that is 0. Returns
 * the seq, or 0 when the record was dropped and counted. Reaches memory only: journal_tick or
 * journal_flush write it.
 */
uint64_t journal_append(struct journal *journal, const uint8_t *body, size_t len,
			uint64_t parent_seq);

/*
 * Encodes one frame as it stands in a segment, at most JOURNAL_FRAME_MAX bytes; returns its length.
 */
size_t journal_encode(uint8_t *to, uint64_t seq, const uint8_t *body, size_t len,
		      uint64_t parent_seq);

/*
 * Writes what is buffered. 0 or a negative errno; nothing is lost by a failure until the buffer is
 * full.
 */
int journal_flush(struct journal *journal);

/* Flushes and makes it durable. */
int journal_sync(struct journal *journal);

/*
 * Flushes and syncs as far as the policy says it is time; returns milliseconds until it wants to be
 * called, -1: never.
 */
int journal_tick(struct journal *journal, uint64_t now_mono_ns);

void journal_stats(const struct journal *journal, struct journal_stats *stats);

/* --- format, shared by writer and reader; pure --- */

enum journal_parse {
	JOURNAL_PARSE_OK,
	JOURNAL_PARSE_MORE, /* the bytes end inside a record */
	JOURNAL_PARSE_BAD   /* no record starts here */
};

struct journal_frame {
	const uint8_t *data; /* the packed Record, seq included */
	size_t len;
	size_t consumed; /* data and its length prefix */
	uint64_t seq;
};

/* The frame at the start of @data. @want_seq: what its seq must be, 0 for any. */
enum journal_parse journal_parse(const uint8_t *data, size_t len, uint64_t want_seq,
				 struct journal_frame *frame);

struct journal_header {
	uint32_t version;
	uint32_t header_bytes;
	uint64_t created_ns;
	uint64_t first_seq;
};

bool journal_header_parse(const uint8_t data[JOURNAL_HEADER_BYTES], struct journal_header *header);
void journal_header_write(uint8_t data[JOURNAL_HEADER_BYTES], const struct journal_header *header);

/* Whether @name is a segment's, with its first seq. */
bool journal_name_parse(const char *name, uint64_t *first_seq);
void journal_name_format(char name[JOURNAL_NAME_MAX], uint64_t first_seq);

/*
 * First seqs of all segments of a directory, ascending; *out owned by the caller (free). 0 or a
 * negative errno.
 */
int journal_list(int dir_fd, uint64_t **out, size_t *cnt);

/* --- reader --- */

struct journal_record {
	const uint8_t *data; /* borrowed: by the reader, until its next call */
	size_t len;
	uint64_t seq;
	uint64_t missing; /* seqs that should stand between this record and the one before */
};

/* Bytes that could not be read. */
struct journal_damage {
	char segment[256]; /* path as given, or the segment's name */
	uint64_t offset, bytes;
	uint64_t last_seq; /* before it; 0: none */
	bool torn;	   /* the end of the newest segment: being written, or cut by a crash */
};

struct journal_reader;

/*
 * Reads one segment, or, when @path (relative to @dir_fd) is a directory, all of its segments in
 * order. NULL with errno and a sentence. Never writes; safe beside a running writer.
 */
struct journal_reader *journal_reader_open(int dir_fd, const char *path, struct err *err);
/* The same for one segment that is already open; @fd is owned by the reader. */
struct journal_reader *journal_reader_open_fd(int fd, const char *name, struct err *err);
void journal_reader_close(struct journal_reader *reader);

/*
 * 1 and a record; 0 at the end; -EBADMSG when the rest of a segment is unreadable
 * (journal_reader_damage says where; the next call goes on with the next segment); another negative
 * errno when reading failed, then it ends.
 */
int journal_reader_next(struct journal_reader *reader, struct journal_record *record);
const struct journal_damage *journal_reader_damage(const struct journal_reader *reader);

#endif
