// SPDX-License-Identifier: Apache-2.0
/* conn/message: ErrorResponse, CommandComplete, ParameterStatus, each cut at every byte; packed SQLSTATEs. */
#include "../lib/test.h"

#include <stdlib.h>

#include "conn/message.h"

/* @len bytes with nothing behind them. */
static char *exact(const char *bytes, size_t len)
{
	char *p = malloc(len ? len : 1);

	if (CHECK(p))
		memcpy(p, bytes, len);
	return p;
}

static void test_message_error(void)
{
	static const char msg[] = "SFEHLER\0VERROR\0C42P01\0Mrelation \"x\" does not exist\0P15\0Fparse.c\0";
	struct message_error e;

	CHECK(message_parse_error(msg, sizeof(msg), &e));
	CHECK_STR(e.severity, "ERROR");
	CHECK_STR(e.sqlstate, "42P01");
	CHECK_STR(e.text, "relation \"x\" does not exist");
	for (size_t n = 0; n <= sizeof(msg); n++) {
		char *cut = exact(msg, n);
		bool ok = message_parse_error(cut, n, &e);

		/* The code is whole from its fifth byte on, before its NUL. */
		CHECK_MSG(ok == (n >= 8 + 7 + 6), "%zu bytes", n);
		CHECK(strlen(e.text) < sizeof(e.text));
		free(cut);
	}
	CHECK(message_parse_error("SERROR\0C57014\0", 15, &e));
	CHECK_STR(e.severity, "ERROR");		/* a server before 9.6 */
	CHECK(message_parse_error("VPANIC\0SLOG\0CXX000\0", 20, &e));
	CHECK_STR(e.severity, "PANIC");
	CHECK(!message_parse_error("C4200\0Mx\0", 10, &e));
	CHECK(!message_parse_error("\0C42000\0", 9, &e));
	CHECK(!message_parse_error("", 0, &e));
}

static void test_message_error_long(void)
{
	struct message_error e;
	char msg[2000];

	memset(msg, 'm', sizeof(msg));
	memcpy(msg, "C22012\0M", 8);
	CHECK(message_parse_error(msg, sizeof(msg), &e));
	CHECK_INT(strlen(e.text), sizeof(e.text) - 1);
	memset(msg, 'V', sizeof(msg));
	CHECK(!message_parse_error(msg, sizeof(msg), &e));
	CHECK_INT(strlen(e.severity), sizeof(e.severity) - 1);
}

static void complete(const char *msg, size_t len, const char *want, uint64_t want_rows, bool want_known)
{
	char tag[12], *copy = exact(msg, len);
	uint64_t rows;
	bool known;

	message_parse_complete(copy, len, tag, sizeof(tag), &rows, &known);
	CHECK_STR(tag, want);
	CHECK_MSG(known == want_known && rows == want_rows, "%.*s: %llu rows, known %d", (int)len, msg,
		  (unsigned long long)rows, known);
	free(copy);
}

static void test_message_complete(void)
{
	complete("SELECT 5", 9, "SELECT 5", 5, true);
	complete("SELECT 5", 8, "SELECT 5", 5, true);
	complete("INSERT 0 17", 12, "INSERT 0 17", 17, true);
	complete("UPDATE 0", 9, "UPDATE 0", 0, true);
	complete("DELETE 3", 9, "DELETE 3", 3, true);
	complete("MERGE 4", 8, "MERGE 4", 4, true);
	complete("COPY 2", 7, "COPY 2", 2, true);
	complete("FETCH 1", 8, "FETCH 1", 1, true);
	complete("MOVE 1", 7, "MOVE 1", 1, true);
	complete("BEGIN", 6, "BEGIN", 0, false);
	complete("DROP TABLE", 11, "DROP TABLE", 0, false);
	complete("LISTEN 5", 9, "LISTEN 5", 0, false);
	complete("SELECT", 7, "SELECT", 0, false);
	complete("SELECT5", 8, "SELECT5", 0, false);
	complete("12345", 6, "12345", 0, false);
	complete("", 0, "", 0, false);
	complete("\0SELECT 5", 10, "", 0, false);
	/* Longer than the room for it: cut, but counted. */
	complete("INSERT 0 123456789", 19, "INSERT 0 12", 123456789, true);
	complete("SELECT 18446744073709551615", 28, "SELECT 1844", UINT64_MAX, true);
	complete("SELECT 000000000000000000001", 29, "SELECT 0000", 0, false);
}

static void test_message_parameter(void)
{
	static const char msg[] = "application_name\0psql";
	char value[8];

	for (size_t n = 0; n <= sizeof(msg); n++) {
		char *cut = exact(msg, n);

		memset(value, '#', sizeof(value));
		if (CHECK_INT(message_parameter(cut, n, "application_name", value, sizeof(value)), n >= 17) && n >= 17)
			CHECK_INT(strlen(value), n - 17 > 4 ? 4 : n - 17);
		free(cut);
	}
	CHECK_STR(value, "psql");
	CHECK(!message_parameter(msg, sizeof(msg), "application", value, sizeof(value)));
	CHECK(!message_parameter(msg, sizeof(msg), "application_names", value, sizeof(value)));
	CHECK(message_parameter("a\0longer than eight", 20, "a", value, sizeof(value)));
	CHECK_STR(value, "longer ");
}

static void test_message_sqlstate(void)
{
	char out[6];

	message_sqlstate(0, out);
	CHECK_STR(out, "00000");
	/* MAKE_SQLSTATE('4','2','P','0','1') of PostgreSQL's utils/elog.h. */
	message_sqlstate(4U | 2U << 6 | ('P' - '0') << 12 | 0U << 18 | 1U << 24, out);
	CHECK_STR(out, "42P01");
	message_sqlstate(UINT32_MAX, out);
	CHECK_INT(strlen(out), 5);
}

static const struct test_case cases[] = {
	{ "message_error", test_message_error },
	{ "message_error_long", test_message_error_long },
	{ "message_complete", test_message_complete },
	{ "message_parameter", test_message_parameter },
	{ "message_sqlstate", test_message_sqlstate },
};

TEST_MAIN(cases)
