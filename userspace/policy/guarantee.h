/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the PostgreSQL server vantage may promise for a statement, by its command tag and by where
 * it runs. The promise is the gate table's: where a reject that is sent at a gate is acted on
 * before the statement has begun.
 */
#ifndef DBFENCE_POLICY_GUARANTEE_H
#define DBFENCE_POLICY_GUARANTEE_H

#include "policy/policy.h"

/* Where a statement stands when it is judged. */
enum guarantee_place {
	GUARANTEE_TOP,	  /* text or prepared statement of the client itself */
	GUARANTEE_NESTED, /* run by a function, a trigger or a DO block */
	GUARANTEE_PLACE_MAX
};

/* Why a nested statement is not simply prevented. */
enum guarantee_reason {
	GUARANTEE_FULL,	       /* prevented there too */
	GUARANTEE_REFUSED,     /* the server itself refuses to run it nested */
	GUARANTEE_ROLLED_BACK, /* it runs to its end, and is rolled back with what the reject aborts
				*/
	GUARANTEE_STAYS,       /* it runs to its end, and no rollback undoes it */
	GUARANTEE_REASON_MAX
};

const char *policy_guarantee_reason(enum guarantee_reason reason);

/* The promise for @tag. Unknown tags get what a utility command without interrupt check gets. */
enum policy_guarantee policy_guarantee_for(const char *tag, enum guarantee_place place,
					   enum guarantee_reason *reason);

struct rule;

/* Could a replication command make the rule's `when` hold? */
bool policy_rule_concerns_commands(const struct rule *rule);

/* All command tags of PostgreSQL 13 to 18 that a client can send, replication commands too; NULL behind the last. */
const char *policy_command_tag_at(unsigned idx);

struct policy_rule_info {
	const char *policy, *rule, *file, *message, *severity;
	unsigned line;
	enum policy_action action;
	enum policy_mode mode;
	enum policy_failure on_failure;
	enum policy_guarantee asked;
	enum policy_guarantee top, nested; /* DETECT for rules that do not act */
	/* For rules that act: bit per enum guarantee_reason that some statement of the rule has
	 * when nested. */
	unsigned nested_reasons;
	bool by_name; /* looks at objects or columns: what views and functions reach is not in the
			 text */
};

/* The @idx-th rule of the set, in file order. False behind the last. */
bool policy_rule_info(const struct policy_set *set, unsigned idx, struct policy_rule_info *info);
/* Command tags of the rule whose nested reason is @reason: the @at-th, or NULL. */
const char *policy_rule_exception(const struct policy_set *set, unsigned idx,
				  enum guarantee_reason reason, unsigned at);

#endif
