// SPDX-License-Identifier: Apache-2.0
/*
 * audit/json.c, json_read.c, text.c: exact output, escapes, completeness against the schema and the
 * manual.
 */
#include "../lib/test.h"

#include <jansson.h>

#include "audit/json.h"
#include "audit/text.h"
#include "audit_sample.h"
#include "core/clock.h"

static const char *to_json(const Dbfence__Audit__V1__Record *record)
{
	static struct buf out;

	if (!out.max)
		buf_init(&out, JSON_RECORD_MAX);
	buf_reset(&out);
	audit_json_write(record, &out);
	CHECK_INT(buf_err(&out), 0);
	return buf_str(&out);
}

static void test_json_exact(void)
{
	struct sample s;

	sample_statement(&s, "s-1", 7, "SELECT * FROM customers WHERE id = ?");
	s.record.seq = 42;
	s.statement.digest.len = 3;
	CHECK_STR(
	    to_json(&s.record),
	    "{\"seq\":42,\"kind\":\"statement\",\"time\":\"2023-11-14T22:13:20.123456789Z\","
	    "\"time_ns\":1700000000123456789,\"mono_ns\":5000000000,\"end_time_ns\":"
	    "1700000000124690789,"
	    "\"duration_us\":1234,\"node\":\"db-7\",\"session_id\":\"s-1\",\"statement_id\":7,"
	    "\"engine\":\"postgresql\",\"engine_version\":\"15.14\",\"database\":\"orders\",\"db_"
	    "user\":\"app\","
	    "\"application_name\":\"psql\",\"client\":{\"pid\":4242,\"exe\":\"/usr/lib/postgresql/"
	    "15/bin/psql\","
	    "\"comm\":\"psql\",\"uid\":1000,\"known\":true,\"assurance\":\"kernel\"},"
	    "\"server\":{\"pid\":999,\"postmaster_pid\":900,\"socket_path\":"
	    "\"/var/run/postgresql/.s.PGSQL.5432\"},\"transport\":\"unix\",\"vantage\":\"server\","
	    "\"statement\":{\"text\":\"SELECT * FROM customers WHERE id = "
	    "?\",\"masked\":true,\"length\":36,"
	    "\"captured\":36,\"digest\":\"00070e\",\"fingerprint\":\"02a281c251c3a43d\",\"form\":"
	    "\"simple\"},"
	    "\"effects\":[{\"kind\":\"read\",\"object\":\"public.customers\",\"object_kind\":"
	    "\"relation\"}],"
	    "\"tag\":\"SELECT "
	    "3\",\"rows\":3,\"decision\":{\"action\":\"allow\"},\"outcome\":\"executed\"}\n");
}

/* What tools rely on is there even when nothing is known. */
static void test_json_always(void)
{
	Dbfence__Audit__V1__Record record = DBFENCE__AUDIT__V1__RECORD__INIT;

	record.kind = (char *)"statement";
	CHECK_STR(to_json(&record), "{\"seq\":0,\"kind\":\"statement\",\"time\":\"1970-01-01T00:00:"
				    "00.000000000Z\",\"time_ns\":0,"
				    "\"session_id\":\"\",\"engine\":\"\",\"database\":\"\",\"db_"
				    "user\":\"\",\"client\":{},\"server\":{},"
				    "\"statement\":{\"text\":\"\",\"length\":0,\"captured\":0,"
				    "\"form\":\"\"},\"effects\":[],"
				    "\"decision\":{\"action\":\"\"},\"outcome\":\"\"}\n");
	record.kind = (char *)"gap";
	CHECK_STR(to_json(&record), "{\"seq\":0,\"kind\":\"gap\",\"time\":\"1970-01-01T00:00:00."
				    "000000000Z\",\"time_ns\":0}\n");
}

static void test_json_uid_of_root(void)
{
	Dbfence__Audit__V1__Record record = DBFENCE__AUDIT__V1__RECORD__INIT;
	Dbfence__Audit__V1__Client client = DBFENCE__AUDIT__V1__CLIENT__INIT;

	record.kind = (char *)"statement";
	record.client = &client;
	CHECK(strstr(to_json(&record), "\"client\":{}"));
	client.known = 1;
	CHECK(strstr(to_json(&record), "\"client\":{\"uid\":0,\"known\":true}"));
}

static void test_json_rows(void)
{
	Dbfence__Audit__V1__Record record = DBFENCE__AUDIT__V1__RECORD__INIT;

	record.kind = (char *)"statement";
	record.rows = 5;
	CHECK(!strstr(to_json(&record), "\"rows\""));
	record.rows = 0;
	record.rows_known = 1;
	CHECK(strstr(to_json(&record), "\"rows\":0,"));
	CHECK(!strstr(to_json(&record), "rows_known"));
}

static void test_json_escapes(void)
{
	static const struct {
		const char *text, *json;
	} cases[] = {
	    {"", ""},
	    {"it's", "it's"},
	    {"a\"b\\c", "a\\\"b\\\\c"},
	    {"\n\t\r\b\f", "\\n\\t\\r\\u0008\\u000c"},
	    {"\033[31mred\033[0m", "\\u001b[31mred\\u001b[0m"},
	    {"\x01\x1f\x7f", "\\u0001\\u001f\\u007f"},
	    {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
	    {"\xc2\x9b"
	     "1m",
	     "\\u009b1m"}, /* C1 CSI */
	    {"\xe2\x80\xae"
	     "x",
	     "\\u202ex"}, /* right-to-left override */
	    {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
	    {"\xf3\xa0\x80\x81", "\\udb40\\udc01"}, /* a tag character, as a surrogate pair */
	    {"a\xff"
	     "b",
	     "a\\ufffdb"},
	    {"\xc0\x80", "\\ufffd\\ufffd"},			  /* overlong NUL */
	    {"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"},		  /* a surrogate */
	    {"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"}, /* beyond U+10FFFF */
	    {"cut \xe2\x82", "cut \\ufffd\\ufffd"},
	    {"0123456789abcde\"f", "0123456789abcde\\\"f"},
	};
	Dbfence__Audit__V1__Record record = DBFENCE__AUDIT__V1__RECORD__INIT;
	char want[256];

	record.kind = (char *)"agent";
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		record.node = (char *)cases[i].text;
		snprintf(want, sizeof(want), "\"node\":\"%s\"", cases[i].json);
		if (*cases[i].text)
			CHECK_MSG(strstr(to_json(&record), want), "case %zu: %s in %s", i, want,
				  to_json(&record));
	}
}

/* Every byte at every place of a word: the eight-at-a-time scan and the byte-wise one agree. */
static void test_json_every_byte(void)
{
	Dbfence__Audit__V1__Record record = DBFENCE__AUDIT__V1__RECORD__INIT;
	char text[24];
	json_t *object;

	record.kind = (char *)"agent";
	record.node = text;
	for (unsigned byte = 1; byte < 128; byte++) {
		for (unsigned at = 0; at < 19; at++) {
			memset(text, 'x', 19);
			text[19] = '\0';
			text[at] = (char)byte;
			object = json_loads(to_json(&record), 0, NULL);
			CHECK_STR(json_string_value(json_object_get(object, "node")), text);
			json_decref(object);
		}
	}
}

static void check_names(const ProtobufCMessageDescriptor *desc, json_t *object)
{
	for (unsigned i = 0; i < desc->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &desc->fields[i];
		json_t *value = json_object_get(object, field->name);
		bool skipped = false;

		for (unsigned k = 0; audit_json_skipped[k]; k++)
			skipped |= !strcmp(audit_json_skipped[k], field->name);
		CHECK_MSG(skipped == !value, "%s.%s is %s", desc->short_name, field->name,
			  value ? "rendered and listed as skipped"
				: "neither rendered nor listed as skipped");
		CHECK_MSG(!json_is_null(value), "%s.%s has a type that the writer does not know",
			  desc->short_name, field->name);
		if (json_is_array(value)) {
			CHECK_INT(json_array_size(value), 2);
			value = json_array_get(value, 0);
		}
		if (field->type == PROTOBUF_C_TYPE_MESSAGE)
			check_names(field->descriptor, value);
	}
}

static void test_json_complete(void)
{
	Dbfence__Audit__V1__Record record = DBFENCE__AUDIT__V1__RECORD__INIT;
	struct record_arena arena = {0};
	json_t *object;

	sample_fill(&arena, &record.base);
	object = json_loads(to_json(&record), JSON_REJECT_DUPLICATES, NULL);
	CHECK(object);
	check_names(&dbfence__audit__v1__record__descriptor, object);
	json_decref(object);
	record_arena_fini(&arena);
}

/* Record → JSON → record gives the same bytes, every field set. */
static void test_json_round_trip(void)
{
	Dbfence__Audit__V1__Record record = DBFENCE__AUDIT__V1__RECORD__INIT, *back;
	struct record_arena arena = {0}, again = {0};
	uint8_t *want, *got = NULL;
	const char *json;
	size_t len;

	sample_fill(&arena, &record.base);
	len = sample_pack(&record, &want);
	json = to_json(&record);
	back = audit_json_read(&again, json, strlen(json));
	if (CHECK(back)) {
		CHECK_INT(sample_pack(back, &got), len);
		CHECK(!memcmp(got, want, len));
	}
	CHECK(!audit_json_read(&again, "{\"seq\":-1}", 10));
	CHECK(!audit_json_read(&again, "{\"evidence\":[1]}", 16));
	CHECK(!audit_json_read(&again, "{\"client\":3}", 12));
	CHECK(!audit_json_read(&again, "[]", 2));
	CHECK(!audit_json_read(&again, "{", 1));
	CHECK(audit_json_read(&again, "{\"from_the_future\":1}", 21));
	free(want);
	free(got);
	record_arena_fini(&arena);
	record_arena_fini(&again);
}

static void manual_names(const char *manual, const ProtobufCMessageDescriptor *desc,
			 const char *prefix)
{
	char name[128], needle[160];

	for (unsigned i = 0; i < desc->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &desc->fields[i];
		bool many = field->label == PROTOBUF_C_LABEL_REPEATED;

		snprintf(name, sizeof(name), "%s%s%s", prefix, field->name, many ? "[]" : "");
		snprintf(needle, sizeof(needle), "\n.B %s\n", name);
		CHECK_MSG(strstr(manual, needle), "man/dbfence-audit.5 does not name %s", name);
		snprintf(name, sizeof(name), "%s%s%s.", prefix, field->name, many ? "[]" : "");
		if (field->type == PROTOBUF_C_TYPE_MESSAGE)
			manual_names(manual, field->descriptor, name);
	}
}

static void test_manual_complete(void)
{
	static char manual[128 * 1024];
	FILE *file = fopen("man/dbfence-audit.5", "r");
	size_t len;

	if (!CHECK_MSG(file,
		       "man/dbfence-audit.5 cannot be read; run this from the root of the tree"))
		return;
	len = fread(manual, 1, sizeof(manual) - 1, file);
	manual[len] = '\0';
	fclose(file);
	manual_names(manual, &dbfence__audit__v1__record__descriptor, "");
}

static void test_time(void)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
	    {0, "1970-01-01T00:00:00.000000000Z"},
	    {-1, "1969-12-31T23:59:59.999999999Z"},
	    {951782400000000000LL, "2000-02-29T00:00:00.000000000Z"},
	    {4107542399999999999LL, "2100-02-28T23:59:59.999999999Z"},
	    {4107542400000000000LL, "2100-03-01T00:00:00.000000000Z"},
	    {INT64_MAX, "2262-04-11T23:47:16.854775807Z"},
	    {INT64_MIN, "1677-09-21T00:12:43.145224192Z"},
	};
	char text[TEXT_TIME_MAX + 1];
	struct tm tm;
	time_t secs;
	char want[40];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		text[text_time(text, cases[i].ns, 9)] = '\0';
		CHECK_STR(text, cases[i].text);
	}
	for (secs = -9000000000LL; secs < 9000000000LL; secs += 86399 * 13) {
		gmtime_r(&secs, &tm);
		strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S.000Z", &tm);
		text[text_time(text, secs * 1000000000LL, 3)] = '\0';
		if (!CHECK_STR(text, want))
			break;
	}
}

static void test_arena_bounds(void)
{
	static uint8_t many[LIMIT_RECORD_BYTES];
	struct record_arena arena = {0};
	Dbfence__Audit__V1__Record *record;

	CHECK(!record_arena_take(&arena, 1UL << 40));
	/*
	 * The most elements that a record's bytes can ask for: "evidence", empty, again and again.
	 */
	for (size_t i = 0; i + 3 <= sizeof(many); i += 3)
		memcpy(many + i, "\xd2\x02\x00", 3);
	record = record_unpack(&arena, many, sizeof(many) / 3 * 3);
	if (CHECK(record))
		CHECK_INT(record->n_evidence, sizeof(many) / 3);
	CHECK(arena.total <= 32UL << 20);
	CHECK(!record_unpack(&arena, (const uint8_t *)"\x0a\xff", 2));
	record_arena_fini(&arena);
}

/* Names in another encoding: the record stays readable to strict protobuf readers. */
static void test_utf8(void)
{
	static const struct {
		const char *from;
		size_t len;
		bool valid;
		const char *to;
	} cases[] = {
		{ "", 0, true, "" },
		{ "plain", 5, true, "plain" },
		{ "t\xc3\xa9l\xe2\x82\xac\xf0\x9f\x90\x98", 11, true, "t\xc3\xa9l\xe2\x82\xac\xf0\x9f\x90\x98" },
		{ "t\xe9l", 3, false, "t\xef\xbf\xbdl" },
		{ "cut\xe2\x82", 5, false, "cut\xef\xbf\xbd\xef\xbf\xbd" },
		{ "a\0b", 3, false, "a\xef\xbf\xbd""b" },
		{ "\xc0\x80", 2, false, "\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xed\xa0\x80", 3, false, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
	};
	struct buf out;

	buf_init(&out, 4096);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		buf_reset(&out);
		text_put_utf8(&out, cases[i].from, cases[i].len);
		CHECK_STR(buf_str(&out), cases[i].to);
		CHECK_INT(text_is_utf8(cases[i].from, cases[i].len), cases[i].valid);
	}
	buf_fini(&out);
}

static void bench(void)
{
	enum { ROUNDS = 400000 };
	struct record_arena arena = {0};
	Dbfence__Audit__V1__Record *record = NULL;
	struct buf out;
	struct sample s;
	uint8_t *packed;
	uint64_t start, unpack_ns, json_ns;
	size_t len;

	buf_init(&out, JSON_RECORD_MAX);
	sample_statement(
	    &s, "4f2a-1c", 7,
	    "SELECT c.id, c.email, o.total FROM customers c JOIN orders o ON o.customer = "
	    "c.id WHERE c.country = ? AND o.created > ? ORDER BY o.total DESC LIMIT ?");
	len = sample_pack(&s.record, &packed);
	start = clock_mono_ns();
	for (unsigned i = 0; i < ROUNDS; i++)
		record = record_unpack(&arena, packed, len);
	unpack_ns = (clock_mono_ns() - start) / ROUNDS;
	start = clock_mono_ns();
	for (unsigned i = 0; i < ROUNDS; i++) {
		buf_reset(&out);
		audit_json_write(record, &out);
	}
	json_ns = (clock_mono_ns() - start) / ROUNDS;
	printf("record %zu bytes: unpack %llu ns, to JSON (%zu bytes) %llu ns\n", len,
	       (unsigned long long)unpack_ns, out.len, (unsigned long long)json_ns);
	free(packed);
	buf_fini(&out);
	record_arena_fini(&arena);
}

static const struct test_case cases[] = {
    {"json_exact", test_json_exact},
    {"json_always", test_json_always},
    {"json_uid_of_root", test_json_uid_of_root},
    {"json_rows", test_json_rows},
    {"json_escapes", test_json_escapes},
    {"json_every_byte", test_json_every_byte},
    {"json_complete", test_json_complete},
    {"json_round_trip", test_json_round_trip},
    {"manual_complete", test_manual_complete},
    {"time", test_time},
    {"utf8", test_utf8},
    {"arena_bounds", test_arena_bounds},
};

/* With --bench it measures instead. */
int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--bench")) {
		bench();
		return 0;
	}
	return test_main(cases, sizeof(cases) / sizeof(cases[0]), argc, argv);
}
