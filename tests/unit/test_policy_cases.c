// SPDX-License-Identifier: Apache-2.0
/*
 * Every shipped policy against its table of cases, and that none is shipped without one. Runs in
 * the tree's root, or wherever DBFENCE_SRC says.
 */
#include "../lib/test.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "policy/cases.h"

#define CASES_MIN 15

static const char *root(void)
{
	const char *src = getenv("DBFENCE_SRC");

	return src ? src : ".";
}

static int is_policy(const struct dirent *entry)
{
	const char *dot = strrchr(entry->d_name, '.');

	return dot && !strcmp(dot, ".yaml");
}

static void run_policy(struct sql_engine *engine, const char *name)
{
	struct policy_cases_result result = {0};
	struct policy_report report;
	char path[4096];

	policy_report_init(&report);
	snprintf(path, sizeof(path), "%s/policies/tests/%.*s.cases.yaml", root(),
		 (int)(strlen(name) - 5), name);
	CHECK_MSG(policy_cases_run(path, engine, &result, &report) == 0, "%s: %s", path,
		  buf_str(&report.text));
	CHECK_MSG(!result.failed && !report.errors, "%s", buf_str(&report.text));
	CHECK_MSG(!report.warnings, "%s", buf_str(&report.text));
	CHECK_MSG(result.passed >= CASES_MIN, "%s: %u cases, at least %u are wanted", path,
		  result.passed, CASES_MIN);
	policy_report_fini(&report);
}

static void test_shipped(void)
{
	static const uint8_t key[16] = {1};
	struct sql_engine *engine = sql_engine_new(64, key);
	struct dirent **names = NULL;
	char dir[4096];
	int n;

	snprintf(dir, sizeof(dir), "%s/policies", root());
	n = scandir(dir, &names, is_policy, alphasort);
	CHECK_MSG(n >= 3, "%s holds %d policies", dir, n);
	for (int i = 0; i < n; i++) {
		if (CHECK(engine != NULL))
			run_policy(engine, names[i]->d_name);
		free(names[i]);
	}
	free(names);
	sql_engine_free(engine);
}

/* Shipped as they are, all together: they load, without a warning, and enforce nothing. */
static void test_shipped_together(void)
{
	struct policy_set *set = NULL;
	struct policy_report report;
	struct policy_summary sum;
	char dir[4096];

	policy_report_init(&report);
	snprintf(dir, sizeof(dir), "%s/policies", root());
	CHECK_INT(policy_set_load_path(dir, 1, &set, &report), 0);
	CHECK_MSG(!report.warnings && !report.errors, "%s", buf_str(&report.text));
	if (set) {
		policy_set_summary(set, &sum);
		CHECK(!sum.enforces);
		policy_set_free(set);
	}
	policy_report_fini(&report);
}

/* The runner itself: a wrong expectation, a wrong rule and a broken file are all noticed. */
static void test_runner_fails(void)
{
	static const uint8_t key[16] = {1};
	static const struct {
		const char *yaml, *want;
	} tests[] = {
	    {"policy: p.yaml\ncases: [{sql: DROP TABLE t, expect: allow}]\n",
	     "expected allow, got deny by r"},
	    {"policy: p.yaml\ncases: [{sql: DROP TABLE t, expect: deny, rule: x}]\n",
	     "expected deny by x, got deny by r"},
	    {"policy: p.yaml\ncases: [{sql: SELECT 1, expect: deny, rule: r}]\n",
	     "expected deny by r, got allow by none"},
	    {"policy: p.yaml\ncases: [{sql: SELECT 1, expect: deny}]\n", "names its rule"},
	    {"policy: p.yaml\ncases: [{sql: SELECT 1}]\n", "a case needs sql, and expect"},
	    {"policy: nope.yaml\ncases: []\n", "cannot be read"},
	    {"policy: p.yaml\ncases: [{sql: x, expct: deny}]\n", "unknown key 'expct'"},
	    {"policy: p.yaml\nidentity: {user: x}\ncases: []\n", "unknown key 'user'"},
	};
	struct sql_engine *engine = sql_engine_new(64, key);
	char dir[] = "/tmp/test_policy_cases.XXXXXX", path[128];
	FILE *f;

	if (!CHECK(engine && mkdtemp(dir)))
		return;
	snprintf(path, sizeof(path), "%s/p.yaml", dir);
	f = fopen(path, "w");
	if (CHECK(f != NULL)) {
		fputs("apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata: {name: p}\nspec:\n  "
		      "rules:\n"
		      "    - {name: r, action: deny, when: {effects: [schema_destroy]}}\n",
		      f);
		fclose(f);
	}
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		struct policy_cases_result result = {0};
		struct policy_report report;

		policy_report_init(&report);
		snprintf(path, sizeof(path), "%s/c.cases.yaml", dir);
		f = fopen(path, "w");
		if (CHECK(f != NULL)) {
			fputs(tests[i].yaml, f);
			fclose(f);
		}
		policy_cases_run(path, engine, &result, &report);
		CHECK_MSG(strstr(buf_str(&report.text), tests[i].want), "wanted \"%s\": %s",
			  tests[i].want, buf_str(&report.text));
		CHECK_INT(report.errors > 0, 1);
		policy_report_fini(&report);
	}
	snprintf(path, sizeof(path), "%s/c.cases.yaml", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/p.yaml", dir);
	unlink(path);
	rmdir(dir);
	sql_engine_free(engine);
}

static const struct test_case cases[] = {
    {"shipped", test_shipped},
    {"shipped_together", test_shipped_together},
    {"runner_fails", test_runner_fails},
};

TEST_MAIN(cases)
