/* SPDX-License-Identifier: Apache-2.0 */
/* The system calls of each role as data. Included by sandbox.c alone. */
#ifndef DBFENCE_PRIV_SANDBOX_RULES_H
#define DBFENCE_PRIV_SANDBOX_RULES_H

#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>

#include "priv/sandbox.h"

#define SANDBOX_SETS_MAX 6

struct sandbox_rule {
	int nr;			 /* negative: this architecture has no such call */
	unsigned arg_cnt;	 /* 0: any arguments; 1: only where @arg holds */
	struct scmp_arg_cmp arg;
	int error;		 /* 0: allowed; an errno: refused with it, the process lives */
};

struct sandbox_rule_set {
	const struct sandbox_rule *rules;
	size_t cnt;
};

/* The sets of @role, in @sets. Everything that is in none of them ends the process. Returns how many. */
size_t sandbox_rules_get(enum sandbox_role role, struct sandbox_rule_set sets[SANDBOX_SETS_MAX]);

#endif
