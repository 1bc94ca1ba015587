// SPDX-License-Identifier: Apache-2.0
/*
 * Journal bytes from nowhere, through everything that reads them: the reader, decoding, JSON and
 * back, the line. Whatever comes in, the JSON parses, and nothing that could steer a terminal comes
 * out.
 *
 * Input: the first byte chooses (bit 0: a valid header is put in front; bit 1: one body instead of
 * a segment; bits 2 to 7: the line's width, in fours), the rest is the segment or the body.
 */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "audit/journal.h"
#include "audit/json.h"
#include "audit/line.h"
#include "audit/record.h"
#include "audit/text.h"
#include "core/limits.h"
#include "dbfence/audit.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_shown(const char *text, size_t len, bool colored)
{
	const unsigned char *at = (const unsigned char *)text, *end = at + len;
	unsigned taken;
	uint32_t cp;

	must(len && text[len - 1] == '\n');
	for (end--; at < end; at += taken) {
		taken = text_utf8(at, end, &cp);
		must(taken);
		must(!text_is_unsafe(cp) ||
		     (colored && cp == 0x1b && at + 1 < end && at[1] == '['));
	}
}

static void show(struct record_arena *arena, const uint8_t *data, size_t len, unsigned width)
{
	struct line_opts opts = {
	    .width = width, .color = width & 4, .date = width & 8, .seq = width & 16};
	Dbfence__Audit__V1__Record *record = record_unpack(arena, data, len);
	struct record_arena again = {0};
	struct buf out;
	json_t *object;

	if (!record)
		return;
	buf_init(&out, JSON_RECORD_MAX);
	audit_line_write(record, &opts, &out);
	if (!buf_err(&out))
		check_shown(out.data, out.len, opts.color);
	buf_reset(&out);
	audit_json_write(record, &out);
	if (!buf_err(&out)) {
		check_shown(out.data, out.len, false);
		/* Numbers beyond 63 bits are fine JSON, and too much for the parser's integers. */
		object = json_loadb(out.data, out.len,
				    JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES, NULL);
		must(object != NULL);
		json_decref(object);
		record = audit_json_read(&again, out.data, out.len);
		if (record)
			must(record->kind != NULL);
	}
	record_arena_fini(&again);
	buf_fini(&out);
}

static void read_segment(struct record_arena *arena, const uint8_t *data, size_t size, bool header,
			 unsigned width)
{
	struct journal_header head = {JOURNAL_VERSION, JOURNAL_HEADER_BYTES, 1, 1};
	uint8_t bytes[JOURNAL_HEADER_BYTES];
	struct journal_record record;
	struct journal_reader *reader;
	uint64_t last = 0, covered = 0;
	int fd = memfd_create("journal", MFD_CLOEXEC), rc;

	must(fd >= 0);
	journal_header_write(bytes, &head);
	must(!header || write(fd, bytes, sizeof(bytes)) == sizeof(bytes));
	must(write(fd, data, size) == (ssize_t)size && !lseek(fd, 0, SEEK_SET));
	reader = journal_reader_open_fd(fd, "journal", NULL);
	must(reader != NULL);
	while ((rc = journal_reader_next(reader, &record))) {
		must(rc == 1 || rc == -EBADMSG);
		if (rc == 1) {
			must(record.seq > last && record.len <= JOURNAL_FRAME_MAX);
			last = record.seq;
			covered += record.len;
			show(arena, record.data, record.len, width);
		} else {
			covered += journal_reader_damage(reader)->bytes;
		}
	}
	must(covered <= size + sizeof(bytes));
	journal_reader_close(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct record_arena arena = {0};
	struct record_keys keys;

	if (!size)
		return 0;
	if (data[0] & 2) {
		if (record_scan(data + 1, size - 1, &keys))
			record_executions(&keys);
		if (size - 1 <= LIMIT_RECORD_BYTES)
			show(&arena, data + 1, size - 1, data[0] & 0xfc);
	} else {
		read_segment(&arena, data + 1, size - 1, data[0] & 1, data[0] & 0xfc);
	}
	record_arena_fini(&arena);
	return 0;
}
