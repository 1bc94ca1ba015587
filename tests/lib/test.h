/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one C test helper. A test file is a set of void functions run by TEST_MAIN; each prints one line when it
 * fails, and the program ends with "N passed, N failed, N skipped", where N counts functions.
 */
#ifndef DBFENCE_TESTS_TEST_H
#define DBFENCE_TESTS_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct test_case {
	const char *name;
	void (*run)(void);
};

/* Fails the running case (and returns false) unless the condition holds; the case goes on. */
bool test_check(bool ok, const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void test_skip(const char *reason);
int test_main(const struct test_case *cases, size_t cnt, int argc, char **argv);

#define CHECK(cond) test_check((cond), __FILE__, __LINE__, "%s", #cond)
#define CHECK_MSG(cond, ...) test_check((cond), __FILE__, __LINE__, __VA_ARGS__)
#define CHECK_INT(got, want) test_check_int((long long)(got), (long long)(want), __FILE__, __LINE__, #got)
#define CHECK_STR(got, want) test_check_str((got), (want), __FILE__, __LINE__, #got)
bool test_check_int(long long got, long long want, const char *file, int line, const char *what);
bool test_check_str(const char *got, const char *want, const char *file, int line, const char *what);

#define TEST_MAIN(cases) \
	int main(int argc, char **argv) \
	{ \
		return test_main(cases, sizeof(cases) / sizeof((cases)[0]), argc, argv); \
	}

#endif
