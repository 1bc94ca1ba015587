// SPDX-License-Identifier: Apache-2.0
/*
 * The journal's writer. Called by the recorder only.
 *
 * A segment, STATE_DIR/journal/<first seq, 12 digits or more>.dbf, mode 0600:
 *
 *   0         8         12        16           24          32
 *   +---------+---------+---------+------------+-----------+--------+--------+--------+--
 *   |DBFENCEJ | version | header  | created_ns | first_seq | record | record | record | …
 *   |         | u32     | bytes 32| u64        | u64       |        |        |        |
 *   +---------+---------+---------+------------+-----------+--------+--------+--------+--
 *                                     (integers little-endian)
 *   record:  varint length | 08 varint seq | body as the worker packed it | [60 varint parent_seq]
 *            `------------ a protobuf Record of that length: concatenation is merging ---------'
 *
 * Within a segment seqs have no holes. Appending encodes into one buffer of whole records; flushing
 * writes the buffer at `file_len`, the offset behind the last whole record in the file. So a write
 * that stops half way is undone by truncating to the last whole record that did arrive, or, should
 * even that fail, by the next write at the same offset. The records that did not arrive stay in the
 * buffer and are tried again; only when the buffer is full are new ones dropped, counted, and, as
 * soon as a write has succeeded, accounted for in a gap record:
 *
 *   WRITING --a write fails--> FULL or ERROR --the buffer is full--> dropping
 *      ^                                                                |
 *      `----- gap record with the counts <------- a write succeeds -----'
 *
 * A dropped record takes no seq, so the seqs of a journal have no holes, and its gap record stands
 * exactly where the records would have.
 */
#include "audit/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/record.h"
#include "core/clock.h"

#define BUFFER_BYTES (1UL << 20)
#define FLUSH_BYTES (128UL << 10) /* write at once when this much waits */
#define RETRY_MS 250		  /* after a failed write */
/*
 * A crash tears at most what one flush writes. More than that is damage of another kind: evidence,
 * left alone.
 */
#define TORN_MAX (4UL << 20)

struct journal {
	int dir_fd;	   /* borrowed: by the caller */
	int lock_fd;	   /* owned */
	int fd;		   /* owned; -1: the next flush opens a segment */
	uint64_t file_len; /* behind the last whole record in the file */
	bool tail_dirty;   /* bytes behind file_len could not be truncated */

	uint8_t *buf; /* owned; whole records */
	size_t buf_len, buf_cap;
	uint64_t buf_first_seq;

	uint64_t next_seq;
	uint64_t lost_records, lost_executions; /* since the last gap record */
	uint64_t unsynced_records;
	uint64_t flushed_ns, synced_ns, retry_ns, rotate_ns;
	uint64_t segment_bytes;
	uint64_t sync_ns;
	const char *node;
	struct journal_stats stats;
};

size_t journal_encode(uint8_t *to, uint64_t seq, const uint8_t *body, size_t len,
		      uint64_t parent_seq)
{
	size_t total = 1 + record_varint_size(seq) + len;
	uint8_t *at = to;

	if (parent_seq)
		total += 1 + record_varint_size(parent_seq);
	at += record_put_varint(at, total);
	*at++ = RECORD_SEQ << 3;
	at += record_put_varint(at, seq);
	if (len)
		memcpy(at, body, len);
	at += len;
	if (parent_seq) {
		*at++ = RECORD_PARENT_SEQ << 3;
		at += record_put_varint(at, parent_seq);
	}
	return (size_t)(at - to);
}

static int journal_failed(struct journal *journal, int err)
{
	journal->stats.state =
	    err == -ENOSPC || err == -EDQUOT || err == -EFBIG ? JOURNAL_FULL : JOURNAL_ERROR;
	journal->stats.last_errno = -err;
	journal->stats.write_errors++;
	journal->retry_ns = clock_mono_ns() + RETRY_MS * NS_PER_MS;
	return err;
}

static int write_at(int fd, const uint8_t *data, size_t len, uint64_t offset, size_t *done)
{
	ssize_t n;

	for (*done = 0; *done < len; *done += (size_t)n) {
		n = pwrite(fd, data + *done, len - *done, (off_t)(offset + *done));
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n ? -errno : -EIO;
	}
	return 0;
}

static int segment_create(struct journal *journal, uint64_t first_seq)
{
	struct journal_header header = {JOURNAL_VERSION, JOURNAL_HEADER_BYTES, clock_wall_ns(),
					first_seq};
	uint8_t bytes[JOURNAL_HEADER_BYTES];
	char name[JOURNAL_NAME_MAX];
	size_t done;
	int fd, err;

	journal_name_format(name, first_seq);
	fd =
	    openat(journal->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	journal_header_write(bytes, &header);
	err = write_at(fd, bytes, sizeof(bytes), 0, &done);
	if (err) {
		unlinkat(journal->dir_fd, name, 0);
		close(fd);
		return err;
	}
	/*
	 * The name must outlive a power cut as surely as the records will; where that fails, the
	 * sync will say so.
	 */
	if (fsync(journal->lock_fd))
		journal->stats.sync_errors++;
	journal->fd = fd;
	journal->file_len = JOURNAL_HEADER_BYTES;
	journal->tail_dirty = false;
	journal->stats.segments++;
	return 0;
}

/* Length of the frame at @offset of the buffer, which we wrote ourselves. */
static size_t buffered_frame(const struct journal *journal, size_t offset)
{
	const uint8_t *from = journal->buf + offset, *at = from;
	uint64_t len = 0;

	record_get_varint(&at, journal->buf + journal->buf_len, &len);
	return (size_t)(at - from) + (size_t)len;
}

/*
 * After a write that stopped after @done bytes: keep the whole records that arrived, undo the rest.
 */
static void undo_partial(struct journal *journal, size_t done)
{
	size_t whole = 0, next = 0;

	do {
		whole = next;
		if (whole < done)
			next += buffered_frame(journal, whole);
	} while (next <= done && next > whole);
	if (done > whole && ftruncate(journal->fd, (off_t)(journal->file_len + whole)))
		journal->tail_dirty = true;
	journal->file_len += whole;
	journal->buf_len -= whole;
	memmove(journal->buf, journal->buf + whole, journal->buf_len);
}

int journal_flush(struct journal *journal)
{
	size_t done;
	int err;

	if (!journal->buf_len)
		return 0;
	journal->flushed_ns = clock_mono_ns();
	if (journal->fd < 0) {
		err = segment_create(journal, journal->buf_first_seq);
		if (err)
			return journal_failed(journal, err);
	}
	err = write_at(journal->fd, journal->buf, journal->buf_len, journal->file_len, &done);
	if (err) {
		undo_partial(journal, done);
		return journal_failed(journal, err);
	}
	journal->file_len += journal->buf_len;
	journal->buf_len = 0;
	if (journal->tail_dirty) {
		if (ftruncate(journal->fd, (off_t)journal->file_len))
			return journal_failed(journal, -errno);
		journal->tail_dirty = false;
	}
	journal->stats.state = JOURNAL_WRITING;
	return 0;
}

static void journal_put(struct journal *journal, const uint8_t *body, size_t len,
			uint64_t parent_seq)
{
	if (!journal->buf_len)
		journal->buf_first_seq = journal->next_seq;
	len = journal_encode(journal->buf + journal->buf_len, journal->next_seq, body, len,
			     parent_seq);
	journal->buf_len += len;
	journal->next_seq++;
	journal->unsynced_records++;
	journal->stats.records++;
	journal->stats.bytes += len;
}

static bool journal_put_gap(struct journal *journal, const char *reason, const char *detail,
			    uint64_t records, uint64_t executions)
{
	struct record_gap gap = {journal->node, reason, detail, records, executions};
	struct buf body;
	bool ok;

	buf_init(&body, LIMIT_RECORD_BYTES);
	record_put_gap(&gap, &body);
	ok = !buf_err(&body) && journal->buf_cap - journal->buf_len >= body.len + 32;
	if (ok) {
		journal_put(journal, (const uint8_t *)body.data, body.len, 0);
		journal->stats.gap_records++;
	}
	buf_fini(&body);
	return ok;
}

/* Accounts for what was dropped, now that there is room again. */
static bool journal_settle(struct journal *journal)
{
	const char *why;

	if (!journal->lost_records)
		return true;
	why = journal->stats.last_errno ? strerror(journal->stats.last_errno)
					: "a record was too large";
	if (!journal_put_gap(journal, "journal_dropped", why, journal->lost_records,
			     journal->lost_executions))
		return false;
	journal->lost_records = journal->lost_executions = 0;
	return true;
}

static uint64_t journal_drop(struct journal *journal, const uint8_t *body, size_t len)
{
	struct record_keys keys;
	uint64_t executions = record_scan(body, len, &keys) ? record_executions(&keys) : 0;

	journal->lost_records++;
	journal->lost_executions += executions;
	journal->stats.dropped_records++;
	journal->stats.dropped_executions += executions;
	return 0;
}

/*
 * Called with an empty buffer. Where no new segment can be made, the old one grows beyond its size.
 */
static void journal_rotate(struct journal *journal)
{
	int old = journal->fd;
	int err;

	journal->rotate_ns = clock_mono_ns() + RETRY_MS * NS_PER_MS;
	/* A sync that fails leaves a gap record in the buffer, which belongs to this segment. */
	if (journal_sync(journal))
		return;
	err = segment_create(journal, journal->next_seq);
	if (err) {
		journal->stats.write_errors++;
		journal->stats.last_errno = -err;
		return;
	}
	journal->rotate_ns = 0;
	close(old);
}

/* Room in the buffer for one more frame; false while writing fails. */
static bool journal_make_room(struct journal *journal)
{
	bool retry =
	    journal->stats.state == JOURNAL_WRITING || clock_mono_ns() >= journal->retry_ns;
	uint64_t segment = journal->file_len + journal->buf_len;

	if (journal->fd >= 0 && segment >= journal->segment_bytes &&
	    segment > JOURNAL_HEADER_BYTES && retry && clock_mono_ns() >= journal->rotate_ns &&
	    !journal_flush(journal))
		journal_rotate(journal);
	if (journal->lost_records ||
	    journal->buf_cap - journal->buf_len < JOURNAL_FRAME_MAX + RECORD_VARINT_MAX) {
		/* Once something was dropped, nothing is taken until a write has succeeded. */
		if (!retry || journal_flush(journal) || !journal_settle(journal))
			return false;
	}
	return true;
}

uint64_t journal_append(struct journal *journal, const uint8_t *body, size_t len,
			uint64_t parent_seq)
{
	uint64_t seq;

	if (len > LIMIT_RECORD_BYTES || !journal_make_room(journal))
		return journal_drop(journal, body, len);
	seq = journal->next_seq;
	journal_put(journal, body, len, parent_seq);
	return seq;
}

int journal_sync(struct journal *journal)
{
	int err = journal_flush(journal);

	journal->synced_ns = clock_mono_ns();
	if (err || !journal->unsynced_records || journal->fd < 0)
		return err;
	journal->stats.syncs++;
	if (!fdatasync(journal->fd)) {
		journal->unsynced_records = 0;
		return 0;
	}
	/*
	 * The kernel has given these pages up; trying again would succeed and prove nothing. Say
	 * what is in doubt.
	 */
	err = -errno;
	journal->stats.sync_errors++;
	journal->stats.last_errno = -err;
	journal_put_gap(journal, "journal_sync", strerror(-err), journal->unsynced_records, 0);
	journal->unsynced_records = 1;
	return err;
}

static int ms_until(uint64_t deadline_ns, uint64_t now_ns)
{
	return deadline_ns <= now_ns ? 0
				     : (int)((deadline_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

int journal_tick(struct journal *journal, uint64_t now_ns)
{
	uint64_t flush_ns, sync_ns;
	bool failing = journal->stats.state != JOURNAL_WRITING;

	flush_ns = failing ? journal->retry_ns : journal->flushed_ns + JOURNAL_FLUSH_MS * NS_PER_MS;
	if (flush_ns <= now_ns || (journal->buf_len >= FLUSH_BYTES && !failing)) {
		if (!journal_flush(journal) && journal->lost_records && journal_settle(journal))
			journal_flush(journal);
	}
	sync_ns = journal->synced_ns + journal->sync_ns;
	if (journal->unsynced_records && sync_ns <= now_ns &&
	    journal->stats.state == JOURNAL_WRITING) {
		journal_sync(journal);
		sync_ns = journal->synced_ns + journal->sync_ns;
	}
	if (journal->buf_len || journal->lost_records) {
		flush_ns = journal->flushed_ns + JOURNAL_FLUSH_MS * NS_PER_MS;
		return ms_until(
		    journal->stats.state == JOURNAL_WRITING ? flush_ns : journal->retry_ns, now_ns);
	}
	return journal->unsynced_records ? ms_until(sync_ns, now_ns) : -1;
}

void journal_stats(const struct journal *journal, struct journal_stats *stats)
{
	*stats = journal->stats;
	stats->seq = journal->next_seq - 1;
	stats->buffered_bytes = journal->buf_len;
}

/* --- opening --- */

/* Reads a segment to its end. The damage that reaches the end, if any, is in *tail. */
static int segment_examine(int fd, const char *name, uint64_t *last_seq,
			   struct journal_damage *tail, struct err *err)
{
	struct journal_record record;
	struct journal_reader *reader;
	int copy, rc;

	*tail = (struct journal_damage){0};
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (copy < 0)
		return err_set(err, -errno, "cannot read journal segment %s: %s", name,
			       strerror(errno));
	reader = journal_reader_open_fd(copy, name, err);
	if (!reader)
		return -ENOMEM;
	while ((rc = journal_reader_next(reader, &record))) {
		if (rc == 1)
			*last_seq = record.seq;
		else if (rc != -EBADMSG)
			break;
		else if (journal_reader_damage(reader)->torn)
			*tail = *journal_reader_damage(reader);
	}
	journal_reader_close(reader);
	if (rc)
		return err_set(err, rc, "cannot read journal segment %s: %s", name, strerror(-rc));
	return 0;
}

/* Goes on with the segment in @fd, which is cut or left alone according to what its tail holds. */
static int segment_continue(struct journal *journal, int fd, uint64_t first_seq, uint64_t size,
			    struct journal_repair *repair, struct err *err)
{
	struct journal_header header = {0};
	uint8_t bytes[JOURNAL_HEADER_BYTES];
	struct journal_damage tail;
	uint64_t last_seq = first_seq - 1;
	bool known = pread(fd, bytes, sizeof(bytes), 0) == (ssize_t)sizeof(bytes) &&
		     journal_header_parse(bytes, &header) && header.first_seq == first_seq;
	int rc;

	if (!known && size <= JOURNAL_HEADER_BYTES) {
		/* The crash came while the segment was made: it holds nothing. */
		repair->cut_bytes = size;
		repair->last_seq = last_seq;
		journal->next_seq = first_seq;
		rc = unlinkat(journal->dir_fd, repair->segment, 0) ? -errno : 0;
		return rc ? err_set(err, rc, "cannot remove the empty journal segment %s: %s",
				    repair->segment, strerror(-rc))
			  : 1;
	}
	tail = (struct journal_damage){.bytes = size};
	rc = known ? segment_examine(fd, repair->segment, &last_seq, &tail, err) : 0;
	if (rc)
		return rc;
	repair->last_seq = last_seq;
	if (!known || tail.bytes > TORN_MAX) {
		/* Every seq takes at least one byte, so none in there reaches this. */
		repair->kept_bytes = tail.bytes;
		journal->next_seq = last_seq + 1 + tail.bytes;
		return 1;
	}
	if (tail.bytes && (ftruncate(fd, (off_t)tail.offset) || fdatasync(fd)))
		return err_set(err, -errno, "cannot repair journal segment %s: %s", repair->segment,
			       strerror(errno));
	repair->cut_bytes = tail.bytes;
	journal->fd = fd;
	journal->file_len = tail.bytes ? tail.offset : size;
	journal->next_seq = last_seq + 1;
	return 0;
}

static int journal_continue(struct journal *journal, uint64_t first_seq,
			    struct journal_repair *repair, struct err *err)
{
	struct stat st;
	int fd, rc;

	journal_name_format(repair->segment, first_seq);
	fd = openat(journal->dir_fd, repair->segment, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return err_set(err, -errno, "cannot open journal segment %s: %s", repair->segment,
			       strerror(errno));
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(err, -EINVAL,
			       "journal segment %s is not a regular file; move it away",
			       repair->segment);
	}
	rc = segment_continue(journal, fd, first_seq, (uint64_t)st.st_size, repair, err);
	if (rc)
		close(fd);
	return rc < 0 ? rc : 0;
}

static int journal_lock(struct journal *journal, struct err *err)
{
	journal->lock_fd = openat(journal->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (journal->lock_fd < 0)
		return err_set(err, -errno, "cannot open the journal directory: %s",
			       strerror(errno));
	if (!flock(journal->lock_fd, LOCK_EX | LOCK_NB))
		return 0;
	if (errno == EWOULDBLOCK)
		return err_set(err, -EBUSY, "another recorder writes this journal; stop it first");
	return err_set(err, -errno, "cannot lock the journal directory: %s", strerror(errno));
}

static int journal_find_end(struct journal *journal, struct journal_repair *repair, struct err *err)
{
	uint64_t *segments = NULL, first_seq = 0;
	size_t cnt = 0;
	int rc;

	rc = journal_list(journal->dir_fd, &segments, &cnt);
	if (rc)
		return err_set(err, rc, "cannot list the journal directory: %s", strerror(-rc));
	if (cnt)
		first_seq = segments[cnt - 1];
	free(segments);
	if (first_seq)
		return journal_continue(journal, first_seq, repair, err);
	journal->next_seq = 1;
	return 0;
}

int journal_open(int dir_fd, const struct journal_opts *opts, struct journal **out,
		 struct journal_repair *repair, struct err *err)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	int rc;

	*repair = (struct journal_repair){0};
	if (!journal)
		return err_set(err, -ENOMEM, "cannot open the journal: out of memory");
	journal->dir_fd = dir_fd;
	journal->fd = journal->lock_fd = -1;
	journal->segment_bytes = opts->segment_bytes ? opts->segment_bytes : JOURNAL_SEGMENT_BYTES;
	journal->sync_ns = (opts->sync_ms ? opts->sync_ms : JOURNAL_SYNC_MS) * NS_PER_MS;
	journal->node = opts->node;
	journal->buf_cap = opts->buffer_bytes ? opts->buffer_bytes : BUFFER_BYTES;
	if (journal->buf_cap < 2 * (JOURNAL_FRAME_MAX + RECORD_VARINT_MAX))
		journal->buf_cap = 2 * (JOURNAL_FRAME_MAX + RECORD_VARINT_MAX);
	journal->buf = malloc(journal->buf_cap);
	rc = journal->buf ? journal_lock(journal, err)
			  : err_set(err, -ENOMEM, "cannot open the journal: out of memory");
	if (!rc)
		rc = journal_find_end(journal, repair, err);
	if (!rc && journal->fd < 0) {
		rc = segment_create(journal, journal->next_seq);
		if (rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG) {
			journal_failed(journal, rc);
			rc = 0;
		} else if (rc) {
			err_set(err, rc, "cannot create a journal segment: %s", strerror(-rc));
		}
	}
	if (rc) {
		journal_close(journal);
		return rc;
	}
	journal->synced_ns = clock_mono_ns();
	*out = journal;
	return 0;
}

void journal_close(struct journal *journal)
{
	if (!journal)
		return;
	if (journal->buf && !journal_flush(journal) && journal_settle(journal))
		journal_sync(journal);
	if (journal->fd >= 0)
		close(journal->fd);
	if (journal->lock_fd >= 0)
		close(journal->lock_fd);
	free(journal->buf);
	free(journal);
}
