// SPDX-License-Identifier: Apache-2.0
/* core/buf and core/err: limits, the sticky error, cut sentences. */
#include "../lib/test.h"

#include <errno.h>

#include "core/buf.h"
#include "core/err.h"

static void test_buf_empty(void)
{
	struct buf b;

	buf_init(&b, 10);
	CHECK_STR(buf_str(&b), "");
	CHECK(!b.data);
	CHECK_INT(buf_err(&b), 0);
	buf_reset(&b);
	buf_put(&b, NULL, 0);
	CHECK_STR(buf_str(&b), "");
	CHECK_INT(b.len, 0);
	buf_fini(&b);
	buf_fini(&b);
}

static void test_buf_appends(void)
{
	struct buf b;
	char *to;

	buf_init(&b, 1000);
	buf_puts(&b, "one ");
	buf_putc(&b, '2');
	buf_put(&b, " three", 4);
	buf_printf(&b, "|%d|%s", -7, "x");
	CHECK_STR(buf_str(&b), "one 2 thr|-7|x");
	CHECK_INT(b.len, strlen("one 2 thr|-7|x"));
	to = buf_grow(&b, 3);
	if (CHECK(to))
		memcpy(to, "abc", 3);
	CHECK_STR(buf_str(&b), "one 2 thr|-7|xabc");
	buf_put(&b, "a\0b", 3);
	CHECK_INT(b.len, 20);
	CHECK(!memcmp(b.data + 17, "a\0b", 4));
	buf_reset(&b);
	CHECK_STR(buf_str(&b), "");
	CHECK(b.cap > 0);
	buf_fini(&b);
	CHECK_INT(b.cap, 0);
}

/* Growing by every amount keeps what was there and its end. */
static void test_buf_growth(void)
{
	struct buf b;

	buf_init(&b, 100000);
	for (size_t i = 1; i < 400; i++) {
		char *to = buf_grow(&b, i);

		if (!CHECK(to))
			break;
		memset(to, (int)('a' + i % 26), i);
		CHECK_INT(b.data[b.len], 0);
		CHECK(b.cap > b.len);
	}
	CHECK_INT(b.len, 400 * 399 / 2);
	for (size_t i = 1, at = 0; i < 400; at += i++)
		CHECK(b.data[at] == (char)('a' + i % 26) && b.data[at + i - 1] == b.data[at]);
	buf_fini(&b);
}

static void test_buf_limit(void)
{
	struct buf b;

	buf_init(&b, 8);
	buf_puts(&b, "12345678");
	CHECK_INT(buf_err(&b), 0);
	CHECK_STR(buf_str(&b), "12345678");
	buf_putc(&b, '9');
	CHECK(b.failed);
	CHECK_INT(buf_err(&b), -E2BIG);
	CHECK_STR(buf_str(&b), "12345678");
	buf_reset(&b);
	CHECK_INT(buf_err(&b), 0);
	/* The error stays: what would fit behind it is not taken either. */
	buf_puts(&b, "1234");
	buf_puts(&b, "56789");
	buf_puts(&b, "5");
	buf_printf(&b, "%d", 5);
	CHECK(!buf_grow(&b, 0));
	CHECK(b.failed);
	CHECK(buf_err(&b) < 0);
	CHECK_STR(buf_str(&b), "1234");
	buf_reset(&b);
	buf_printf(&b, "%s", "12345678");
	CHECK_INT(buf_err(&b), 0);
	buf_printf(&b, "%s", "");
	CHECK_INT(buf_err(&b), 0);
	buf_reset(&b);
	CHECK(!buf_grow(&b, SIZE_MAX));
	buf_fini(&b);
	buf_init(&b, 0);
	buf_puts(&b, "");
	CHECK_INT(buf_err(&b), 0);
	buf_putc(&b, 'x');
	CHECK_INT(buf_err(&b), -E2BIG);
	buf_fini(&b);
}

static void test_err(void)
{
	char wide[2000];
	struct err e;

	CHECK_INT(err_set(&e, -EINVAL, "file %s, line %d", "a", 3), -EINVAL);
	CHECK_STR(e.text, "file a, line 3");
	CHECK_INT(err_set(NULL, -ENOENT, "%s", "nobody reads it"), -ENOENT);
	memset(wide, 'w', sizeof(wide) - 1);
	wide[sizeof(wide) - 1] = '\0';
	CHECK_INT(err_set(&e, -E2BIG, "%s", wide), -E2BIG);
	CHECK_INT(strlen(e.text), sizeof(e.text) - 1);
}

static const struct test_case cases[] = {
	{ "buf_empty", test_buf_empty }, { "buf_appends", test_buf_appends }, { "buf_growth", test_buf_growth },
	{ "buf_limit", test_buf_limit }, { "err", test_err },
};

TEST_MAIN(cases)
