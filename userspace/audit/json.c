// SPDX-License-Identifier: Apache-2.0
/*
 * The JSON writer. One walk over the generated descriptors; what differs from "name: value unless
 * default" stands in two places: the masks of fields that are always there, and put_record.
 */
#include "audit/json.h"

#include <string.h>

#include "audit/text.h"
#include "dbfence/audit.pb-c.h"

#define ID(n) (1ULL << (n))

/* By field number; all numbers of the schema that matter here are below 64. */
static const uint64_t record_always = ID(1) | ID(2) | ID(3);
static const uint64_t statement_record_always =
    ID(10) | ID(20) | ID(22) | ID(23) | ID(25) | ID(26) | ID(30) | ID(31) | ID(40) | ID(41);
static const uint64_t statement_always = ID(1) | ID(3) | ID(5) | ID(8);
static const uint64_t decision_always = ID(1);
static const uint64_t known_client_always = ID(4); /* uid: that of root is the default value */

enum { ID_TIME_NS = 3, ID_ROWS = 33, ID_ROWS_KNOWN = 34 };

/* rows_known: "rows" is there exactly when it is true. */
const char *const audit_json_skipped[] = {"rows_known", NULL};

static bool always_has(uint64_t mask, uint32_t id)
{
	return id < 64 && mask & ID(id);
}

static void put_escape(struct buf *out, uint32_t cp)
{
	static const char hex[] = "0123456789abcdef";
	char *to;

	if (cp >= 0x10000) {
		put_escape(out, 0xd800 + ((cp - 0x10000) >> 10));
		put_escape(out, 0xdc00 + ((cp - 0x10000) & 0x3ff));
		return;
	}
	to = buf_grow(out, 6);
	if (!to)
		return;
	to[0] = '\\';
	to[1] = 'u';
	for (unsigned i = 0; i < 4; i++)
		to[2 + i] = hex[cp >> (12 - 4 * i) & 15];
}

/* Writes what stands at @at in some escaped form and returns how many bytes that was. */
static unsigned put_special(struct buf *out, const unsigned char *at, const unsigned char *end)
{
	unsigned len;
	uint32_t cp;

	switch (*at) {
	case '"':
		buf_put(out, "\\\"", 2);
		return 1;
	case '\\':
		buf_put(out, "\\\\", 2);
		return 1;
	case '\n':
		buf_put(out, "\\n", 2);
		return 1;
	case '\t':
		buf_put(out, "\\t", 2);
		return 1;
	case '\r':
		buf_put(out, "\\r", 2);
		return 1;
	}
	len = text_utf8(at, end, &cp);
	if (!len) {
		put_escape(out, 0xfffd);
		return 1;
	}
	if (text_is_unsafe(cp))
		put_escape(out, cp);
	else
		buf_put(out, at, len);
	return len;
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/*
 * True when some byte of the word is not plain: the classic tests for "less than" and "equal" on
 * eight lanes.
 */
static bool word_has_special(uint64_t w)
{
	const uint64_t ones = 0x0101010101010101ULL, high = 0x8080808080808080ULL;
	uint64_t quote = w ^ ones * '"', slash = w ^ ones * '\\', del = w ^ ones * 0x7f;

	return (w | ((w - ones * 0x20) & ~w) | ((quote - ones) & ~quote) |
		((slash - ones) & ~slash) | ((del - ones) & ~del)) &
	       high;
}

static void put_string(struct buf *out, const char *text)
{
	const unsigned char *at = (const unsigned char *)(text ? text : ""), *run = at;
	const unsigned char *end = at + strlen((const char *)at);
	uint64_t word;

	buf_putc(out, '"');
	while (at < end) {
		if (end - at >= 8) {
			memcpy(&word, at, 8);
			if (!word_has_special(word)) {
				at += 8;
				continue;
			}
		}
		if (is_plain(*at)) {
			at++;
			continue;
		}
		buf_put(out, run, (size_t)(at - run));
		at += put_special(out, at, end);
		run = at;
	}
	buf_put(out, run, (size_t)(at - run));
	buf_putc(out, '"');
}

static void put_hex(struct buf *out, const ProtobufCBinaryData *bytes)
{
	static const char hex[] = "0123456789abcdef";
	char *to = buf_grow(out, 2 * bytes->len + 2);

	if (!to)
		return;
	*to++ = '"';
	for (size_t i = 0; i < bytes->len; i++) {
		*to++ = hex[bytes->data[i] >> 4];
		*to++ = hex[bytes->data[i] & 15];
	}
	*to = '"';
}

static void put_signed(struct buf *out, int64_t value)
{
	if (value < 0)
		buf_putc(out, '-');
	text_put_u64(out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

static void put_key(struct buf *out, const char *name, bool *first)
{
	size_t len = strlen(name);
	char *to = buf_grow(out, len + 3 + !*first);

	if (!to)
		return;
	if (!*first)
		*to++ = ',';
	*first = false;
	*to++ = '"';
	memcpy(to, name, len);
	to[len] = '"';
	to[len + 1] = ':';
}

static void put_message(struct buf *out, const ProtobufCMessage *message, uint64_t always);

static void put_nested(struct buf *out, const ProtobufCMessageDescriptor *desc,
		       const ProtobufCMessage *message, bool always)
{
	Dbfence__Audit__V1__Statement no_statement = DBFENCE__AUDIT__V1__STATEMENT__INIT;
	Dbfence__Audit__V1__Decision no_decision = DBFENCE__AUDIT__V1__DECISION__INIT;
	uint64_t mask = 0;

	if (desc == &dbfence__audit__v1__statement__descriptor) {
		mask = always ? statement_always : 0;
		message = message ? message : &no_statement.base;
	} else if (desc == &dbfence__audit__v1__decision__descriptor) {
		mask = always ? decision_always : 0;
		message = message ? message : &no_decision.base;
	} else if (desc == &dbfence__audit__v1__client__descriptor && message &&
		   ((const Dbfence__Audit__V1__Client *)message)->known) {
		mask = known_client_always;
	}
	if (message)
		put_message(out, message, mask);
	else
		buf_put(out, "{}", 2);
}

static void put_value(struct buf *out, const ProtobufCFieldDescriptor *field, const void *at,
		      bool always)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		put_string(out, *(char *const *)at);
		break;
	case PROTOBUF_C_TYPE_BYTES:
		put_hex(out, at);
		break;
	case PROTOBUF_C_TYPE_BOOL:
		buf_puts(out, *(const protobuf_c_boolean *)at ? "true" : "false");
		break;
	case PROTOBUF_C_TYPE_UINT64:
		text_put_u64(out, *(const uint64_t *)at);
		break;
	case PROTOBUF_C_TYPE_UINT32:
		text_put_u64(out, *(const uint32_t *)at);
		break;
	case PROTOBUF_C_TYPE_INT64:
		put_signed(out, *(const int64_t *)at);
		break;
	case PROTOBUF_C_TYPE_INT32:
		put_signed(out, *(const int32_t *)at);
		break;
	case PROTOBUF_C_TYPE_MESSAGE:
		put_nested(out, field->descriptor, *(ProtobufCMessage *const *)at, always);
		break;
	default:
		/*
		 * A type that the schema does not use yet; the test over the descriptors fails when
		 * it does.
		 */
		buf_put(out, "null", 4);
		break;
	}
}

static bool is_default(const ProtobufCFieldDescriptor *field, const void *at)
{
	const char *text;

	switch (field->type) {
	case PROTOBUF_C_TYPE_STRING:
		text = *(char *const *)at;
		return !text || !*text;
	case PROTOBUF_C_TYPE_BYTES:
		return !((const ProtobufCBinaryData *)at)->len;
	case PROTOBUF_C_TYPE_BOOL:
		return !*(const protobuf_c_boolean *)at;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_INT64:
		return !*(const uint64_t *)at;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_INT32:
		return !*(const uint32_t *)at;
	case PROTOBUF_C_TYPE_MESSAGE:
		return !*(ProtobufCMessage *const *)at;
	default:
		return false;
	}
}

static size_t element_size(const ProtobufCFieldDescriptor *field)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_BYTES:
		return sizeof(ProtobufCBinaryData);
	case PROTOBUF_C_TYPE_BOOL:
		return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_INT32:
		return sizeof(uint32_t);
	default:
		return 8;
	}
}

static void put_array(struct buf *out, const ProtobufCFieldDescriptor *field, const char *elements,
		      size_t cnt)
{
	size_t size = element_size(field);

	buf_putc(out, '[');
	for (size_t i = 0; i < cnt; i++) {
		if (i)
			buf_putc(out, ',');
		put_value(out, field, elements + i * size, false);
	}
	buf_putc(out, ']');
}

static void put_field(struct buf *out, const ProtobufCMessage *message,
		      const ProtobufCFieldDescriptor *field, bool always, bool *first)
{
	const char *at = (const char *)message + field->offset;
	size_t cnt;

	if (field->label == PROTOBUF_C_LABEL_REPEATED) {
		cnt = *(const size_t *)((const char *)message + field->quantifier_offset);
		if (!cnt && !always)
			return;
		put_key(out, field->name, first);
		put_array(out, field, *(char *const *)at, cnt);
	} else if (always || !is_default(field, at)) {
		put_key(out, field->name, first);
		put_value(out, field, at, always);
	}
}

static void put_message(struct buf *out, const ProtobufCMessage *message, uint64_t always)
{
	const ProtobufCMessageDescriptor *desc = message->descriptor;
	bool first = true;

	buf_putc(out, '{');
	for (unsigned i = 0; i < desc->n_fields; i++)
		put_field(out, message, &desc->fields[i], always_has(always, desc->fields[i].id),
			  &first);
	buf_putc(out, '}');
}

static void put_time(struct buf *out, int64_t time_ns, bool *first)
{
	char text[TEXT_TIME_MAX];

	put_key(out, "time", first);
	buf_putc(out, '"');
	buf_put(out, text, text_time(text, time_ns, 9));
	buf_putc(out, '"');
}

void audit_json_write(const Dbfence__Audit__V1__Record *record, struct buf *out)
{
	const ProtobufCMessageDescriptor *desc = record->base.descriptor;
	uint64_t always = record_always;
	bool first = true;

	if (record->kind && !strcmp(record->kind, "statement"))
		always |= statement_record_always;
	buf_putc(out, '{');
	for (unsigned i = 0; i < desc->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &desc->fields[i];
		bool wanted = always_has(always, field->id);

		if (field->id == ID_ROWS_KNOWN || (field->id == ID_ROWS && !record->rows_known))
			continue;
		if (field->id == ID_ROWS)
			wanted = true;
		if (field->id == ID_TIME_NS)
			put_time(out, record->time_ns, &first);
		put_field(out, &record->base, field, wanted, &first);
	}
	buf_put(out, "}\n", 2);
}
