// SPDX-License-Identifier: Apache-2.0
/* dbfence-policy(5) names every word of the policy language, and its examples load without a
 * warning. */
#include "../lib/test.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "policy/guarantee.h"
#include "policy/load.h"

static struct buf page;

/* The page with roff's escapes undone; dots at line starts stay. */
static bool read_page(void)
{
	const char *src = getenv("DBFENCE_SRC");
	char path[4096];
	int c;
	FILE *f;

	if (page.len)
		return true;
	snprintf(path, sizeof(path), "%s/man/dbfence-policy.5", src ? src : ".");
	f = fopen(path, "r");
	if (!CHECK_MSG(f != NULL, "cannot read %s", path))
		return false;
	buf_init(&page, 1 << 20);
	while ((c = getc(f)) != EOF) {
		if (c == '\\') {
			c = getc(f);
			if (c == '&')
				continue;
			if (c == 'e')
				c = '\\';
		}
		buf_putc(&page, (char)c);
	}
	fclose(f);
	return CHECK(page.len > 1000);
}

/* As a word of its own, not as a part of another. */
static bool names_word(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = strstr(text, word); at; at = strstr(at + 1, word)) {
		char before = at == text ? ' ' : at[-1], after = at[len];

		if (!isalnum((unsigned char)before) && before != '_' &&
		    !isalnum((unsigned char)after) && after != '_')
			return true;
	}
	return false;
}

static void test_keywords(void)
{
	const char *word;
	unsigned cnt = 0;

	if (!read_page())
		return;
	for (; (word = policy_keyword_at(cnt)); cnt++)
		CHECK_MSG(names_word(buf_str(&page), word), "the manual does not name '%s'", word);
	CHECK_MSG(cnt > 45, "only %u keywords", cnt);
	for (enum sql_effect e = SQL_EFFECT_NONE + 1; e < SQL_EFFECT_MAX; e++)
		CHECK_MSG(names_word(buf_str(&page), sql_effect_name(e)), "effect %s",
			  sql_effect_name(e));
	for (enum sql_func_risk r = 0; r < SQL_RISK_MAX; r++)
		CHECK_MSG(names_word(buf_str(&page), sql_func_risk_name(r)), "risk %s",
			  sql_func_risk_name(r));
	for (enum sql_unknown u = SQL_KNOWN + 1; u < SQL_UNKNOWN_MAX; u++)
		CHECK_MSG(names_word(buf_str(&page), sql_unknown_name(u)), "reason %s",
			  sql_unknown_name(u));
	CHECK(!names_word(buf_str(&page), "no_such_word"));
}

static void test_examples(void)
{
	const char *at, *end;
	unsigned cnt = 0;

	if (!read_page())
		return;
	for (at = strstr(buf_str(&page), "\n.EX\n"); at; at = strstr(end, "\n.EX\n"), cnt++) {
		struct policy_source src = {.name = "dbfence-policy.5"};
		struct policy_report report;
		struct policy_set *set = NULL;

		at += 5;
		end = strstr(at, ".EE\n");
		if (!CHECK(end != NULL))
			return;
		src.yaml = at;
		src.len = (size_t)(end - at);
		policy_report_init(&report);
		CHECK_INT(policy_set_load(&src, 1, 1, &set, &report), 0);
		CHECK_MSG(!report.errors && !report.warnings, "%s", buf_str(&report.text));
		policy_set_free(set);
		policy_report_fini(&report);
	}
	CHECK(cnt >= 2);
	buf_fini(&page);
}

static const struct test_case cases[] = {
    {"keywords", test_keywords},
    {"examples", test_examples},
};

TEST_MAIN(cases)
