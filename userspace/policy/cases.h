/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of cases beside policies: SQL, identity, expected action and rule. `dbfence policy test`
 * and the tests of the shipped policies run them. Policies are judged in enforce mode, whatever
 * their files say.
 */
#ifndef DBFENCE_POLICY_CASES_H
#define DBFENCE_POLICY_CASES_H

#include "policy/policy.h"

struct policy_cases_result {
	unsigned passed, failed;
	unsigned policies; /* files of cases that were run */
};

/*
 * Run the cases file @path, whose `policy:` names the policy file relative to it. Failures are
 * lines in @report (errors), with file and line. 0 even when cases failed; -EINVAL when the file or
 * its policy cannot be used; -ENOMEM.
 */
int policy_cases_run(const char *path, struct sql_engine *engine,
		     struct policy_cases_result *result, struct policy_report *report);

#endif
