// SPDX-License-Identifier: Apache-2.0
/*
 * The journal's format and its reader. journal.c draws the format.
 *
 * A record is believed when its length is in bounds, its seq is the one that must come next, and
 * its bytes are a sequence of protobuf fields. When one is not, the reader looks for the next place
 * where a whole record with a later seq starts, so that damage costs the damaged records only; it
 * says which bytes it passed over.
 */
#include "audit/journal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "audit/record.h"

/* Length, tag of seq, seq: no record is shorter, so seqs grow slower than offsets. */
#define FRAME_BYTES_MIN 3
#define READER_BYTES ((1UL << 20) + 2 * JOURNAL_FRAME_MAX)
/* Bytes of candidates that are looked into, so that crafted damage cannot cost hours. */
#define RESYNC_SCAN_MAX (64UL << 20)
#define SEGMENTS_MAX (1UL << 20)

const char *journal_state_name(enum journal_state state)
{
	static const char *const names[JOURNAL_STATE_MAX] = {"writing", "full", "error"};

	return state < JOURNAL_STATE_MAX ? names[state] : "invalid";
}

static uint64_t get_le(const uint8_t *at, unsigned bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | at[bytes];
	return value;
}

static void put_le(uint8_t *to, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		to[i] = (uint8_t)(value >> (8 * i));
}

bool journal_header_parse(const uint8_t data[JOURNAL_HEADER_BYTES], struct journal_header *header)
{
	struct journal_header h = {
	    .version = (uint32_t)get_le(data + 8, 4),
	    .header_bytes = (uint32_t)get_le(data + 12, 4),
	    .created_ns = get_le(data + 16, 8),
	    .first_seq = get_le(data + 24, 8),
	};

	if (memcmp(data, JOURNAL_MAGIC, 8) || h.version != JOURNAL_VERSION ||
	    h.header_bytes != JOURNAL_HEADER_BYTES || !h.first_seq)
		return false;
	*header = h;
	return true;
}

void journal_header_write(uint8_t data[JOURNAL_HEADER_BYTES], const struct journal_header *header)
{
	memcpy(data, JOURNAL_MAGIC, 8);
	put_le(data + 8, header->version, 4);
	put_le(data + 12, header->header_bytes, 4);
	put_le(data + 16, header->created_ns, 8);
	put_le(data + 24, header->first_seq, 8);
}

enum journal_parse journal_parse(const uint8_t *data, size_t len, uint64_t want_seq,
				 struct journal_frame *frame)
{
	const uint8_t *at = data, *end = data + len;
	struct record_keys keys;
	uint64_t body, seq;

	if (!record_get_varint(&at, end, &body))
		return len < 4 && (!len || data[len - 1] >= 0x80) ? JOURNAL_PARSE_MORE
								  : JOURNAL_PARSE_BAD;
	if (body < FRAME_BYTES_MIN - 1 || body > JOURNAL_FRAME_MAX)
		return JOURNAL_PARSE_BAD;
	if (at < end && *at != (RECORD_SEQ << 3))
		return JOURNAL_PARSE_BAD;
	if ((size_t)(end - at) < body)
		return JOURNAL_PARSE_MORE;
	frame->data = at;
	frame->len = (size_t)body;
	frame->consumed = (size_t)(at - data) + frame->len;
	end = at++ + body;
	if (!record_get_varint(&at, end, &seq) || !seq || (want_seq && seq != want_seq))
		return JOURNAL_PARSE_BAD;
	/* Behind the seq there is none: the scan would see the last one, and so would a decoder. */
	if (!record_scan(at, (size_t)(end - at), &keys) || keys.has_seq)
		return JOURNAL_PARSE_BAD;
	frame->seq = seq;
	return JOURNAL_PARSE_OK;
}

bool journal_name_parse(const char *name, uint64_t *first_seq)
{
	size_t digits = strspn(name, "0123456789");
	uint64_t seq;

	if (digits < 12 || digits > 20 || strcmp(name + digits, JOURNAL_SUFFIX))
		return false;
	errno = 0;
	seq = strtoull(name, NULL, 10);
	if (errno || !seq)
		return false;
	*first_seq = seq;
	return true;
}

void journal_name_format(char name[JOURNAL_NAME_MAX], uint64_t first_seq)
{
	snprintf(name, JOURNAL_NAME_MAX, "%012" PRIu64 JOURNAL_SUFFIX, first_seq);
}

static int compare_seqs(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

static int list_entries(DIR *dir, uint64_t **seqs, size_t *cnt)
{
	size_t cap = 0;
	struct dirent *entry;
	uint64_t seq, *grown;

	while ((errno = 0, entry = readdir(dir))) {
		if (!journal_name_parse(entry->d_name, &seq))
			continue;
		if (*cnt == cap) {
			cap = cap ? 2 * cap : 64;
			grown = cap <= SEGMENTS_MAX ? realloc(*seqs, cap * sizeof(**seqs)) : NULL;
			if (!grown)
				return -ENOMEM;
			*seqs = grown;
		}
		(*seqs)[(*cnt)++] = seq;
	}
	return -errno;
}

int journal_list(int dir_fd, uint64_t **out, size_t *cnt)
{
	uint64_t *seqs = NULL;
	size_t found = 0;
	DIR *dir;
	int fd, err;

	fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		err = -errno;
		close(fd);
		return err;
	}
	err = list_entries(dir, &seqs, &found);
	closedir(dir);
	if (err) {
		free(seqs);
		return err;
	}
	if (found)
		qsort(seqs, found, sizeof(*seqs), compare_seqs);
	*out = seqs;
	*cnt = found;
	return 0;
}

struct journal_reader {
	int dir_fd;	    /* owned; -1 when a single file is read */
	uint64_t *segments; /* owned */
	size_t segment_cnt, segment_idx;

	int fd; /* owned; of the current segment, -1: the next one is to be opened */
	char name[sizeof(((struct journal_damage *)0)->segment)];
	uint8_t *buf; /* owned */
	size_t len, pos;
	uint64_t base; /* offset in the segment of buf[0] */
	bool eof;

	uint64_t expect; /* the seq that must come next; 0: any, before the first segment */
	uint64_t last_seq;
	uint64_t gap_from; /* where the seqs after the last delivered record began to be missing */
	struct journal_damage damage;
};

static struct journal_reader *reader_new(void)
{
	struct journal_reader *reader = calloc(1, sizeof(*reader));

	if (!reader)
		return NULL;
	reader->dir_fd = reader->fd = -1;
	reader->buf = malloc(READER_BYTES);
	if (!reader->buf) {
		free(reader);
		errno = ENOMEM;
		return NULL;
	}
	return reader;
}

void journal_reader_close(struct journal_reader *reader)
{
	if (!reader)
		return;
	if (reader->fd >= 0)
		close(reader->fd);
	if (reader->dir_fd >= 0)
		close(reader->dir_fd);
	free(reader->segments);
	free(reader->buf);
	free(reader);
}

static void reader_start(struct journal_reader *reader, int fd, const char *name)
{
	snprintf(reader->name, sizeof(reader->name), "%s", name);
	reader->fd = fd;
	reader->len = reader->pos = 0;
	reader->base = 0;
	reader->eof = false;
}

struct journal_reader *journal_reader_open_fd(int fd, const char *name, struct err *err)
{
	struct journal_reader *reader = reader_new();

	if (!reader) {
		close(fd);
		err_set(err, -ENOMEM, "cannot read %s: out of memory", name);
		return NULL;
	}
	reader_start(reader, fd, name);
	return reader;
}

struct journal_reader *journal_reader_open(int dir_fd, const char *path, struct err *err)
{
	struct journal_reader *reader;
	struct stat st;
	int fd, rc;

	fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st)) {
		rc = errno;
		err_set(err, -rc, "cannot open %s: %s%s", path, strerror(rc),
			rc == EACCES ? " (journals are readable by root and the recorder only)"
				     : "");
		if (fd >= 0)
			close(fd);
		errno = rc;
		return NULL;
	}
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode)) {
		close(fd);
		err_set(err, -EINVAL, "%s is neither a journal segment nor a directory of them",
			path);
		errno = EINVAL;
		return NULL;
	}
	if (S_ISREG(st.st_mode))
		return journal_reader_open_fd(fd, path, err);
	reader = reader_new();
	rc = reader ? journal_list(fd, &reader->segments, &reader->segment_cnt) : -ENOMEM;
	if (rc) {
		err_set(err, rc, "cannot list %s: %s", path, strerror(-rc));
		journal_reader_close(reader);
		close(fd);
		errno = -rc;
		return NULL;
	}
	reader->dir_fd = fd;
	return reader;
}

/* Moves what is left to the front and reads until the buffer is full or the file ends. */
static int reader_fill(struct journal_reader *reader)
{
	ssize_t n;

	memmove(reader->buf, reader->buf + reader->pos, reader->len - reader->pos);
	reader->base += reader->pos;
	reader->len -= reader->pos;
	reader->pos = 0;
	while (!reader->eof && reader->len < READER_BYTES) {
		n = read(reader->fd, reader->buf + reader->len, READER_BYTES - reader->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		reader->eof = !n;
		reader->len += (size_t)n;
	}
	return 0;
}

static int reader_need(struct journal_reader *reader, size_t bytes)
{
	return reader->len - reader->pos < bytes && !reader->eof ? reader_fill(reader) : 0;
}

static bool reader_is_last(const struct journal_reader *reader)
{
	return reader->segment_idx >= reader->segment_cnt;
}

static void reader_end_segment(struct journal_reader *reader)
{
	close(reader->fd);
	reader->fd = -1;
}

/* Everything from @offset to where the reader stands could not be read. */
static int reader_damaged(struct journal_reader *reader, uint64_t offset, bool to_end)
{
	struct journal_damage *damage = &reader->damage;

	memcpy(damage->segment, reader->name, sizeof(damage->segment));
	damage->offset = offset;
	damage->bytes = reader->base + reader->pos - offset;
	damage->last_seq = reader->last_seq;
	damage->torn = to_end && reader_is_last(reader);
	if (to_end)
		reader_end_segment(reader);
	return -EBADMSG;
}

/* Passes over the rest of the segment, to know how much it is. */
static int reader_skip_rest(struct journal_reader *reader)
{
	int err;

	do {
		reader->pos = reader->len;
		err = reader_fill(reader);
	} while (!err && reader->len);
	return err;
}

/*
 * Whether a frame found by searching is a record. Messages inside a record can look like a frame, a
 * client's with its pid for instance, so it must also have a kind, and a seq that the damaged bytes
 * leave room for.
 */
static bool is_record(const struct journal_reader *reader, const struct journal_frame *frame,
		      uint64_t damaged_bytes)
{
	static const char *const kinds[] = {"statement", "transaction", "session",  "agent",
					    "policy",	 "approval",	"coverage", "gap"};
	struct record_keys keys;

	if (frame->seq < reader->expect ||
	    frame->seq - reader->expect > damaged_bytes / FRAME_BYTES_MIN + 1 ||
	    !record_scan(frame->data, frame->len, &keys) || !keys.kind.data)
		return false;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (keys.kind.len == strlen(kinds[i]) &&
		    !memcmp(keys.kind.data, kinds[i], keys.kind.len))
			return true;
	return false;
}

/*
 * Stands on a place where no record starts: goes to the next one that does, or to the end of the
 * segment.
 */
static int reader_resync(struct journal_reader *reader)
{
	uint64_t from = reader->base + reader->pos;
	struct journal_frame frame = {0};
	size_t scanned = 0;
	int err;

	for (;;) {
		reader->pos += reader->pos < reader->len;
		err = reader_need(reader, JOURNAL_FRAME_MAX + RECORD_VARINT_MAX);
		if (err)
			return err;
		if (reader->pos >= reader->len)
			return reader_damaged(reader, from, true);
		frame.len = 0;
		if (journal_parse(reader->buf + reader->pos, reader->len - reader->pos, 0,
				  &frame) == JOURNAL_PARSE_OK &&
		    is_record(reader, &frame, reader->base + reader->pos - from))
			break;
		scanned += frame.len;
		if (scanned > RESYNC_SCAN_MAX) {
			err = reader_skip_rest(reader);
			return err ? err : reader_damaged(reader, from, true);
		}
	}
	reader->expect = frame.seq;
	return reader_damaged(reader, from, false);
}

static int reader_read_header(struct journal_reader *reader)
{
	struct journal_header header;
	int err;

	err = reader_fill(reader);
	if (err)
		return err;
	if (reader->len < JOURNAL_HEADER_BYTES || !journal_header_parse(reader->buf, &header)) {
		err = reader_skip_rest(reader);
		if (err)
			return err;
		reader_damaged(reader, 0, true);
		/*
		 * Too short for a header: the crash came early. Anything longer was never a
		 * segment, or was one.
		 */
		reader->damage.torn =
		    reader->damage.torn && reader->damage.bytes < JOURNAL_HEADER_BYTES;
		return -EBADMSG;
	}
	reader->pos = JOURNAL_HEADER_BYTES;
	/* Seqs missing between segments are reported with the record behind them. */
	if (!reader->gap_from || header.first_seq < reader->gap_from)
		reader->gap_from = header.first_seq;
	reader->expect = header.first_seq;
	return 0;
}

static int reader_next_segment(struct journal_reader *reader)
{
	char name[JOURNAL_NAME_MAX];
	int fd;

	if (reader_is_last(reader))
		return 0;
	journal_name_format(name, reader->segments[reader->segment_idx++]);
	fd = openat(reader->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) {
		reader_start(reader, -1, name);
		return -errno;
	}
	reader_start(reader, fd, name);
	return 1;
}

static int reader_next_here(struct journal_reader *reader, struct journal_record *record)
{
	enum journal_parse parsed;
	struct journal_frame frame;
	int err;

	if (!reader->base && !reader->pos) {
		err = reader_read_header(reader);
		if (err)
			return err;
	}
	err = reader_need(reader, JOURNAL_FRAME_MAX + RECORD_VARINT_MAX);
	if (err)
		return err;
	if (reader->pos == reader->len) {
		reader_end_segment(reader);
		return 0;
	}
	parsed = journal_parse(reader->buf + reader->pos, reader->len - reader->pos, reader->expect,
			       &frame);
	if (parsed != JOURNAL_PARSE_OK)
		return reader_resync(reader);
	reader->pos += frame.consumed;
	*record =
	    (struct journal_record){frame.data, frame.len, frame.seq, frame.seq - reader->gap_from};
	reader->last_seq = frame.seq;
	reader->expect = reader->gap_from = frame.seq + 1;
	return 1;
}

int journal_reader_next(struct journal_reader *reader, struct journal_record *record)
{
	int rc;

	for (;;) {
		if (reader->fd < 0) {
			rc = reader_next_segment(reader);
			if (rc <= 0)
				return rc;
		}
		rc = reader_next_here(reader, record);
		if (rc < 0 && rc != -EBADMSG && reader->fd >= 0)
			reader_end_segment(reader);
		if (rc)
			return rc;
	}
}

const struct journal_damage *journal_reader_damage(const struct journal_reader *reader)
{
	return &reader->damage;
}
