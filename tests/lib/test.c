// SPDX-License-Identifier: Apache-2.0
#include "../lib/test.h"

#include <stdarg.h>
#include <stdio.h>

static const char *running;
static bool running_failed, running_skipped;

bool test_check(bool ok, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	if (ok)
		return true;
	running_failed = true;
	printf("FAIL %s: %s:%d: ", running, file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	return false;
}

bool test_check_int(long long got, long long want, const char *file, int line, const char *what)
{
	return test_check(got == want, file, line, "%s is %lld, expected %lld", what, got, want);
}

bool test_check_str(const char *got, const char *want, const char *file, int line, const char *what)
{
	bool same = got && want ? !strcmp(got, want) : got == want;

	return test_check(same, file, line, "%s is \"%s\", expected \"%s\"", what, got ? got : "(null)",
			  want ? want : "(null)");
}

void test_skip(const char *reason)
{
	running_skipped = true;
	printf("SKIP %s: %s\n", running, reason);
}

int test_main(const struct test_case *cases, size_t cnt, int argc, char **argv)
{
	unsigned passed = 0, failed = 0, skipped = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < cnt; i++) {
		if (argc > 1 && !strstr(cases[i].name, argv[1]))
			continue;
		running = cases[i].name;
		running_failed = running_skipped = false;
		cases[i].run();
		if (running_failed)
			failed++;
		else if (running_skipped)
			skipped++;
		else
			passed++;
	}
	printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}
