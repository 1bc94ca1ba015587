// SPDX-License-Identifier: Apache-2.0
/* The words of the policy language, and the nearest one to a word that is not among them. */
#include "policy/policy.h"
#include "policy/set.h"

#include <stdio.h>
#include <string.h>

static const char *const action_names[POLICY_ACTION_MAX] = {
    [POLICY_ALLOW] = "allow", [POLICY_AUDIT] = "audit", [POLICY_ALERT] = "alert",
    [POLICY_DENY] = "deny",   [POLICY_KILL] = "kill",
};

static const char *const mode_names[POLICY_MODE_MAX] = {
    [POLICY_SHADOW] = "shadow",
    [POLICY_ENFORCE] = "enforce",
};

static const char *const failure_names[POLICY_FAILURE_MAX] = {
    [POLICY_FAIL_OPEN] = "open",
    [POLICY_FAIL_CLOSED] = "closed",
};

static const char *const guarantee_names[POLICY_GUARANTEE_MAX] = {
    [POLICY_DETECT] = "detect",
    [POLICY_CONTAIN] = "contain",
    [POLICY_PREVENT] = "prevent",
};

static const char *const attr_names[ATTR_MAX] = {
    [ATTR_ENGINE] = "engine",
    [ATTR_TRANSPORT] = "transport",
    [ATTR_DATABASE] = "database",
    [ATTR_DB_USER] = "db_user",
    [ATTR_ENVIRONMENT] = "environment",
    [ATTR_UID] = "uid",
    [ATTR_EXE] = "exe",
    [ATTR_CGROUP] = "cgroup",
    [ATTR_SERVER] = "server",
    [ATTR_CLIENT_ADDRESS] = "client_address",
    [ATTR_APPLICATION_NAME] = "application_name",
};

static const char *const fact_names[FACT_MAX] = {
    [FACT_UNKNOWN] = "unknown",	    [FACT_EFFECTS] = "effects",
    [FACT_COMMANDS] = "commands",   [FACT_SELECTIVE] = "selective",
    [FACT_OBJECTS] = "objects",	    [FACT_COLUMNS] = "columns",
    [FACT_FUNCTIONS] = "functions", [FACT_FUNCTION_RISK] = "function_risk",
};

static const char *name_of(const char *const *names, unsigned cnt, unsigned idx)
{
	return idx < cnt ? names[idx] : "invalid";
}

static unsigned index_of(const char *const *names, unsigned cnt, const char *name)
{
	unsigned i;

	for (i = 0; i < cnt; i++)
		if (!strcmp(names[i], name))
			break;
	return i;
}

const char *policy_action_name(enum policy_action action)
{
	return name_of(action_names, POLICY_ACTION_MAX, action);
}

const char *policy_mode_name(enum policy_mode mode)
{
	return name_of(mode_names, POLICY_MODE_MAX, mode);
}

const char *policy_failure_name(enum policy_failure failure)
{
	return name_of(failure_names, POLICY_FAILURE_MAX, failure);
}

const char *policy_guarantee_name(enum policy_guarantee guarantee)
{
	return name_of(guarantee_names, POLICY_GUARANTEE_MAX, guarantee);
}

const char *policy_attr_name(enum policy_attr attr)
{
	return name_of(attr_names, ATTR_MAX, attr);
}

const char *policy_fact_name(enum policy_fact fact)
{
	return name_of(fact_names, FACT_MAX, fact);
}

enum policy_attr policy_attr_from_name(const char *name)
{
	return index_of(attr_names, ATTR_MAX, name);
}

enum policy_fact policy_fact_from_name(const char *name)
{
	return index_of(fact_names, FACT_MAX, name);
}

enum policy_action policy_action_from_name(const char *name)
{
	return index_of(action_names, POLICY_ACTION_MAX, name);
}

enum policy_mode policy_mode_from_name(const char *name)
{
	return index_of(mode_names, POLICY_MODE_MAX, name);
}

enum policy_failure policy_failure_from_name(const char *name)
{
	return index_of(failure_names, POLICY_FAILURE_MAX, name);
}

enum policy_guarantee policy_guarantee_from_name(const char *name)
{
	return index_of(guarantee_names, POLICY_GUARANTEE_MAX, name);
}

enum sql_unknown policy_unknown_from_name(const char *name)
{
	enum sql_unknown why;

	for (why = SQL_KNOWN + 1; why < SQL_UNKNOWN_MAX; why++)
		if (!strcmp(sql_unknown_name(why), name))
			return why;
	return SQL_UNKNOWN_MAX;
}

#define SUGGEST_LEN 48

/* Levenshtein with adjacent swaps counted once, over short words only. */
unsigned policy_distance(const char *a, const char *b)
{
	unsigned rows[3][SUGGEST_LEN + 1];
	unsigned *before = rows[0], *prev = rows[1], *cur = rows[2], *swap;
	unsigned la = (unsigned)strlen(a), lb = (unsigned)strlen(b), best;

	if (la > SUGGEST_LEN || lb > SUGGEST_LEN || la > lb + 3 || lb > la + 3)
		return SUGGEST_LEN;
	for (unsigned j = 0; j <= lb; j++)
		prev[j] = before[j] = j;
	for (unsigned i = 1; i <= la; i++) {
		cur[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			best = prev[j - 1] + (a[i - 1] != b[j - 1]);
			if (prev[j] + 1 < best)
				best = prev[j] + 1;
			if (cur[j - 1] + 1 < best)
				best = cur[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			cur[j] = best;
		}
		swap = before;
		before = prev;
		prev = cur;
		cur = swap;
	}
	return prev[lb];
}

unsigned policy_distance_limit(const char *word)
{
	size_t limit = strlen(word) / 3 + 1;

	return limit > 3 ? 3 : (unsigned)limit;
}

const char *policy_suggest(const char *word, const char *(*name_at)(unsigned idx), unsigned cnt,
			   char *buf, size_t len)
{
	unsigned best = SUGGEST_LEN, d;
	const char *nearest = NULL, *name;

	for (unsigned i = 0; i < cnt; i++) {
		name = name_at(i);
		d = name ? policy_distance(word, name) : SUGGEST_LEN;
		if (d < best) {
			best = d;
			nearest = name;
		}
	}
	buf[0] = '\0';
	if (nearest && best <= policy_distance_limit(word))
		snprintf(buf, len, "; did you mean '%s'?", nearest);
	return buf;
}
