// SPDX-License-Identifier: Apache-2.0
/*
 * Warnings about policies that load but cannot do what their author must have meant: rules that can
 * never match, rules that can never act, exemptions that exempt everyone. Warnings never keep a set
 * from loading.
 */
#include "policy/guarantee.h"
#include "policy/set.h"
#include "policy/yaml.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Nobody reads more, and each costs a search for the nearest tag. */
#define LINT_WARNINGS 200

static void __attribute__((format(printf, 3, 4)))
warn_rule(struct policy_report *report, const struct rule *rule, const char *fmt, ...)
{
	struct yaml_node at = {.line = rule->line, .column = rule->column};
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	yaml_finding(report, rule->file, &at, true, "rule '%s': %s", rule->match.rule, text);
}

static const char *tag_name(unsigned idx)
{
	return policy_command_tag_at(idx);
}

static unsigned tag_count(void)
{
	unsigned cnt = 0;

	while (policy_command_tag_at(cnt))
		cnt++;
	return cnt;
}

static void lint_commands(const struct rule *rule, const struct facts_matcher *m,
			  struct policy_report *report)
{
	char hint[96], upper[64];
	const char *tag;
	bool any;
	size_t i;

	for (unsigned c = 0; c < m->command_cnt && report->warnings < LINT_WARNINGS; c++) {
		any = false;
		for (unsigned t = 0; !any && (tag = policy_command_tag_at(t)); t++)
			any = glob_match(&m->commands[c], tag);
		if (any)
			continue;
		for (i = 0; m->commands[c].text[i] && i < sizeof(upper) - 1; i++)
			upper[i] = m->commands[c].text[i] >= 'a' && m->commands[c].text[i] <= 'z'
				       ? (char)(m->commands[c].text[i] - 'a' + 'A')
				       : m->commands[c].text[i];
		upper[i] = '\0';
		warn_rule(report, rule, "no PostgreSQL command has the tag '%.60s'%s",
			  m->commands[c].text,
			  policy_suggest(upper, tag_name, tag_count(), hint, sizeof(hint)));
	}
}

static void lint_never_matches(const struct rule *rule, struct policy_report *report)
{
	const struct facts_matcher *m = &rule->when.facts;
	uint32_t changes = SQL_BIT(SQL_MODIFY) | SQL_BIT(SQL_DELETE);

	if ((m->keys & FACT_BIT(FACT_SELECTIVE)) && (m->keys & FACT_BIT(FACT_EFFECTS)) &&
	    !(m->effects & changes))
		warn_rule(report, rule,
			  "can never match: only statements with the effects modify or delete are "
			  "selective or not");
	if ((m->keys & FACT_BIT(FACT_UNKNOWN)) && (m->keys & FACT_BIT(FACT_EFFECTS)) &&
	    rule->match.action < POLICY_DENY)
		warn_rule(report, rule,
			  "matches every unknown statement: effects do not narrow 'unknown'");
	for (unsigned i = 0; i < rule->when.who.cnt; i++)
		for (unsigned k = 0; k < i; k++)
			if (rule->when.who.conds[i].attr == ATTR_CLIENT_ADDRESS &&
			    rule->when.who.conds[k].attr == ATTR_TRANSPORT &&
			    rule->when.who.conds[k].cnt == 1 &&
			    !strcmp(rule->when.who.conds[k].globs[0].text, "unix"))
				warn_rule(
				    report, rule,
				    "can never match: a client on a unix socket has no address");
}

/* Only wildcards everywhere: whoever is known at all is exempt. */
static bool exempts_everyone(const struct clause *unless)
{
	bool star;

	for (unsigned i = 0; i < unless->who.cnt; i++) {
		star = false;
		for (unsigned g = 0; unless->who.conds[i].globs && g < unless->who.conds[i].cnt;
		     g++)
			star |= unless->who.conds[i].globs[g].kind == GLOB_ANY;
		if (!star)
			return false;
	}
	return unless->who.cnt && !unless->facts.keys;
}

static void lint_never_acts(const struct rule *rule, struct policy_report *report)
{
	if (rule->match.action == POLICY_ALLOW)
		warn_rule(
		    report, rule,
		    "never acts: 'allow' does not override a deny; exempt with 'unless' instead");
	if (rule->has_unless && exempts_everyone(&rule->unless))
		warn_rule(report, rule,
			  "never acts where the attribute is known: 'unless' exempts everyone");
	if (rule->match.action >= POLICY_DENY && !rule->has_when)
		warn_rule(report, rule,
			  "has no 'when': it stops every statement of the connections that 'match' "
			  "covers");
}

static void lint_engines(const struct policy *policy, struct policy_report *report)
{
	struct yaml_node at = {.line = policy->line, .column = policy->column};
	const struct attr_cond *cond;
	bool any;

	for (unsigned i = 0; i < policy->match.cnt; i++) {
		cond = &policy->match.conds[i];
		if (cond->attr != ATTR_ENGINE)
			continue;
		any = false;
		for (unsigned g = 0; g < cond->cnt; g++)
			any |= glob_match(&cond->globs[g], "postgresql");
		if (!any)
			yaml_finding(report, policy->file, &at, true,
				     "policy '%s': can never match: this release knows the engine "
				     "postgresql only, not '%s'",
				     policy->name, cond->globs[0].text);
	}
}

static void lint_policy(const struct policy *policy, struct policy_report *report)
{
	struct yaml_node at = {.line = policy->line, .column = policy->column};
	bool blocks = false;

	for (unsigned r = 0; r < policy->rule_cnt; r++)
		blocks |= rule_blocks(&policy->rules[r]);
	if (!blocks && policy->guarantee_given && policy->guarantee != POLICY_DETECT)
		yaml_finding(
		    report, policy->file, &at, true,
		    "policy '%s': guarantee: %s means nothing, since no rule denies or kills",
		    policy->name, policy_guarantee_name(policy->guarantee));
	if (!blocks && policy->on_failure == POLICY_FAIL_CLOSED)
		yaml_finding(
		    report, policy->file, &at, true,
		    "policy '%s': on_failure: closed means nothing, since no rule denies or kills",
		    policy->name);
}

void policy_lint(const struct policy_set *set, struct policy_report *report)
{
	const struct rule *rule;

	for (unsigned p = 0; p < set->policy_cnt; p++) {
		lint_policy(&set->policies[p], report);
		lint_engines(&set->policies[p], report);
		for (unsigned r = 0; r < set->policies[p].rule_cnt; r++) {
			rule = &set->policies[p].rules[r];
			lint_commands(rule, &rule->when.facts, report);
			lint_commands(rule, &rule->unless.facts, report);
			lint_never_matches(rule, report);
			lint_never_acts(rule, report);
		}
	}
}
