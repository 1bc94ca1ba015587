// SPDX-License-Identifier: Apache-2.0
/*
 * The lexer on any bytes; the first one chooses standard_conforming_strings. Beside memory errors it looks for broken
 * promises: a masked text longer than its input, a literal left in it (masking it again must change nothing), or
 * statement marks out of order.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sql/sql_lex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok)
{
	if (!ok)
		abort();
}

static void check_segments(const struct sql_lex *lex, size_t len)
{
	uint32_t at = 0;

	require(lex->segment_cnt >= 1 && lex->segment_cnt <= LIMIT_SQL_STATEMENTS + 1);
	if (lex->refused != SQL_KNOWN)
		return;
	for (uint32_t i = 0; i < lex->segment_cnt; i++) {
		const struct sql_segment *segment = &lex->segments[i];

		require(segment->start >= at && segment->end >= segment->start && segment->semi >= segment->end);
		at = segment->semi;
	}
	require(at == len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[16] = "fuzz";
	static struct sql_lex *lex;
	static char masked[LIMIT_SQL_PARSE_BYTES + 1];
	char *text;
	bool standard;
	size_t len;

	if (!lex)
		lex = sql_lex_new(key);
	require(lex != NULL);
	if (!size)
		return 0;
	standard = data[0] & 1;
	len = size - 1;
	/* A block of its exact size, so that one byte too far is seen. */
	text = malloc(len ? len : 1);
	require(text != NULL);
	memcpy(text, data + 1, len);
	sql_lex_run(lex, text, len, standard);
	require(lex->masked_len <= len && lex->masked_len <= LIMIT_SQL_PARSE_BYTES);
	require(strlen(lex->masked) == lex->masked_len);
	require(strlen(lex->tags) == lex->tags_len && lex->tags_len < SQL_LEX_TAGS_MAX);
	require((lex->refused == SQL_UNKNOWN_TOO_LONG) >= (len > LIMIT_SQL_PARSE_BYTES));
	check_segments(lex, len);
	memcpy(masked, lex->masked, (size_t)lex->masked_len + 1);
	len = lex->masked_len;
	sql_lex_run(lex, masked, len, standard);
	require(lex->masked_len == len && !memcmp(lex->masked, masked, len));
	free(text);
	return 0;
}
