// SPDX-License-Identifier: Apache-2.0
/*
 * Any bytes as a policy file: loading never crashes, never leaks, and says why whenever it refuses.
 * What loads is then summed up, compiled into a screen and asked about one statement, so that the
 * compiled form is walked too.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "policy/guarantee.h"
#include "policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_set(struct policy_set *set)
{
	static struct dbf_screen screen;
	static const char *columns[] = {"id", "ssn"};
	struct sql_object object = {.kind = SQL_OBJ_RELATION,
				    .schema = "public",
				    .name = "customers",
				    .effects = SQL_BIT(SQL_DELETE) | SQL_BIT(SQL_READ),
				    .columns = columns,
				    .column_cnt = 2};
	struct sql_function function = {.name = "pg_read_file", .risk = SQL_RISK_FILE};
	struct sql_stmt stmt = {.command = "DELETE",
				.effects = SQL_BIT(SQL_DELETE) | SQL_BIT(SQL_READ),
				.objects = &object,
				.object_cnt = 1,
				.functions = &function,
				.function_cnt = 1,
				.selective = SQL_SELECTIVE_NO};
	struct sql_facts facts = {
	    .effects = stmt.effects, .stmts = &stmt, .stmt_cnt = 1, .masked = ""};
	struct identity who = {.engine = "postgresql",
			       .server_address = "10.0.0.1",
			       .server_port = 5432,
			       .client_address = "::1",
			       .application_name = "psql",
			       .uid_known = true};
	struct policy_decision decision;
	struct policy_summary summary;
	struct policy_rule_info info;

	policy_set_summary(set, &summary);
	for (unsigned i = 0; policy_rule_info(set, i, &info); i++)
		if (info.nested > info.top)
			abort();
	for (int unknown = 0; unknown < 2; unknown++) {
		facts.unknown = unknown ? SQL_UNKNOWN_SYNTAX : SQL_KNOWN;
		policy_eval(set, &facts, &who, &decision);
		if ((decision.match_total > 0) != (decision.deciding != NULL))
			abort();
	}
	policy_eval_undecided(set, &who, &decision);
	policy_set_force_mode(set, POLICY_ENFORCE);
	if (policy_compile_screen(set, &screen))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy_source src = {.name = "fuzz.yaml", .yaml = (const char *)data, .len = size};
	struct policy_report report;
	struct policy_set *set = NULL;
	int err;

	policy_report_init(&report);
	err = policy_set_load(&src, 1, 1, &set, &report);
	if (err && !report.errors)
		abort();
	if (!err) {
		use_set(set);
		policy_set_free(set);
	}
	policy_report_fini(&report);
	return 0;
}
