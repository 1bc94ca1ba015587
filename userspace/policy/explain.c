// SPDX-License-Identifier: Apache-2.0
/* `policy explain`: what is known of a text and of who sends it, and what every rule made of it, as
 * text. */
#include "policy/policy.h"
#include "policy/set.h"

#include <stdio.h>
#include <string.h>

static void put_effects(struct buf *out, uint32_t effects)
{
	bool some = false;

	for (enum sql_effect effect = SQL_EFFECT_NONE + 1; effect < SQL_EFFECT_MAX; effect++) {
		if (!(effects & SQL_BIT(effect)))
			continue;
		buf_printf(out, "%s%s", some ? " " : "", sql_effect_name(effect));
		some = true;
	}
	if (!some)
		buf_puts(out, "none");
}

/* Names come from the text: what could move a terminal's cursor is shown as ?. */
static void put_name(struct buf *out, const char *text)
{
	for (; text && *text; text++)
		buf_putc(out, (unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text);
}

static void put_object(struct buf *out, const struct sql_object *object)
{
	buf_printf(out, "    %s ", sql_object_kind_name(object->kind));
	if (object->schema) {
		put_name(out, object->schema);
		buf_putc(out, '.');
	}
	put_name(out, object->name);
	buf_puts(out, ": ");
	put_effects(out, object->effects);
	if (object->all_columns)
		buf_puts(out, "; all columns");
	for (unsigned c = 0; c < object->column_cnt; c++) {
		buf_puts(out, c ? ", " : "; columns ");
		put_name(out, object->columns[c]);
	}
	buf_putc(out, '\n');
}

static void put_function(struct buf *out, const struct sql_function *function)
{
	buf_puts(out, "    calls ");
	if (function->schema) {
		put_name(out, function->schema);
		buf_putc(out, '.');
	}
	put_name(out, function->name);
	buf_printf(out, " (risk %s)\n", sql_func_risk_name(function->risk));
}

static void put_statement(struct buf *out, const struct sql_stmt *stmt, unsigned idx)
{
	static const char *const selective[] = {
	    [SQL_SELECTIVE_NA] = "",
	    [SQL_SELECTIVE_YES] = "; selective",
	    [SQL_SELECTIVE_NO] = "; not selective: all rows",
	    [SQL_SELECTIVE_UNKNOWN] = "; selective or not: unknown",
	};

	buf_printf(out, "  statement %u: %s: ", idx + 1, stmt->command ? stmt->command : "?");
	put_effects(out, stmt->effects);
	buf_printf(out, "%s\n",
		   stmt->selective <= SQL_SELECTIVE_UNKNOWN ? selective[stmt->selective] : "");
	for (unsigned i = 0; i < stmt->object_cnt; i++)
		put_object(out, &stmt->objects[i]);
	for (unsigned i = 0; i < stmt->function_cnt; i++)
		put_function(out, &stmt->functions[i]);
}

static void put_facts(struct buf *out, const struct sql_facts *facts)
{
	buf_puts(out, "text: ");
	put_name(out, facts->masked);
	buf_puts(out, "\neffects: ");
	put_effects(out, facts->effects);
	buf_putc(out, '\n');
	if (facts->unknown != SQL_KNOWN) {
		buf_printf(out, "unknown: %s", sql_unknown_name(facts->unknown));
		if (facts->error) {
			buf_puts(out, ": ");
			put_name(out, facts->error);
		}
		buf_putc(out, '\n');
	} else if (!facts->stmt_cnt) {
		buf_puts(out, "no statement: empty, or comments only\n");
	}
	for (unsigned i = 0; i < facts->stmt_cnt; i++)
		put_statement(out, &facts->stmts[i], i);
}

static void put_attr(struct buf *out, const char *name, const char *value)
{
	if (!value)
		return;
	buf_printf(out, " %s=", name);
	put_name(out, value);
}

static void put_identity(struct buf *out, const struct identity *who)
{
	buf_puts(out, "identity:");
	put_attr(out, "engine", who->engine);
	put_attr(out, "database", who->database);
	put_attr(out, "db_user", who->db_user);
	put_attr(out, "application_name", who->application_name);
	put_attr(out, "transport", who->transport);
	put_attr(out, "environment", who->environment);
	put_attr(out, "server", who->server_address);
	put_attr(out, "client_address", who->client_address);
	put_attr(out, "exe", who->exe);
	put_attr(out, "cgroup", who->cgroup);
	if (who->uid_known)
		buf_printf(out, " uid=%u", who->uid);
	buf_puts(out, " (what is not listed is unknown)\n");
}

static void put_reason(struct buf *out, const struct rule *rule, const struct rule_trace *trace)
{
	switch (trace->stop) {
	case STOP_NONE:
		buf_printf(out, "matches statement %u", trace->stmt + 1);
		if (trace->by_fail_mode)
			buf_puts(out,
				 ", only because something is unknown and on_failure is closed");
		break;
	case STOP_NO_STATEMENT:
		buf_puts(out, "no: the text holds no statement");
		break;
	case STOP_MATCH:
		buf_printf(out, "no: match.%s does not cover this connection",
			   policy_attr_name(trace->attr));
		break;
	case STOP_WHEN_FACT:
		buf_printf(out, "no: when.%s does not match", policy_fact_name(trace->fact));
		break;
	case STOP_WHEN_IDENTITY:
		buf_printf(out, "no: when.identity.%s does not match",
			   policy_attr_name(trace->attr));
		break;
	case STOP_UNLESS:
		buf_puts(out, "no: 'unless' exempts it");
		break;
	case STOP_UNSURE:
		buf_printf(out, "no: %s is unknown, and ",
			   trace->fact < FACT_MAX ? policy_fact_name(trace->fact)
						  : policy_attr_name(trace->attr));
		buf_puts(out, rule_blocks(rule) ? "on_failure is open"
						: "only deny and kill can fail closed");
		break;
	}
}

static void put_rules(struct buf *out, const struct policy_set *set, const struct sql_facts *facts,
		      const struct identity *who)
{
	struct who_trace seen = {0};
	struct rule_trace trace;
	const struct rule *rule;

	for (unsigned p = 0; p < set->policy_cnt; p++) {
		buf_printf(out, "policy %s (%s, on_failure %s)\n", set->policies[p].name,
			   policy_mode_name(set->policies[p].mode),
			   policy_failure_name(set->policies[p].on_failure));
		for (unsigned r = 0; r < set->policies[p].rule_cnt; r++) {
			rule = &set->policies[p].rules[r];
			rule_match(rule, facts, who, &seen, &trace);
			buf_printf(out, "  %s %s (%s): ", trace.stop == STOP_NONE ? "*" : " ",
				   rule->match.rule, policy_action_name(rule->match.action));
			put_reason(out, rule, &trace);
			buf_putc(out, '\n');
		}
	}
}

static void put_deciding(struct buf *out, const char *what, enum policy_action action,
			 const struct policy_match *match)
{
	buf_printf(out, "%s: %s", what, policy_action_name(action));
	if (match)
		buf_printf(out, ", by rule %s of policy %s%s%s", match->rule, match->policy,
			   match->message ? ": " : "", match->message ? match->message : "");
	buf_putc(out, '\n');
}

static const struct policy_match *strongest_shadow(const struct policy_decision *decision)
{
	for (unsigned i = 0; i < decision->match_cnt; i++)
		if (decision->matches[i].mode == POLICY_SHADOW)
			return &decision->matches[i];
	return NULL; /* pushed out of the list by enforced ones */
}

static void put_decision(struct buf *out, const struct policy_set *set,
			 const struct sql_facts *facts, const struct identity *who)
{
	struct policy_decision decision;

	policy_eval(set, facts, who, &decision);
	if (decision.deciding && decision.deciding->mode == POLICY_ENFORCE)
		put_deciding(out, "decision", decision.action, decision.deciding);
	else
		buf_puts(out, "decision: allow, no rule in enforce mode matches\n");
	if (decision.shadow > POLICY_ALLOW)
		put_deciding(out, "in shadow mode it would be", decision.shadow,
			     strongest_shadow(&decision));
	for (unsigned i = 0; i < decision.unknown_cnt; i++)
		buf_printf(out, "%s%s%s",
			   i ? ", " : "asked for and unknown: ", decision.unknown_attributes[i],
			   i + 1 == decision.unknown_cnt ? "\n" : "");
	buf_printf(
	    out, "holds for other literals: %s; changes with what the client calls itself: %s\n",
	    decision.literal_free ? "yes" : "no", decision.identity_volatile ? "possibly" : "no");
}

void policy_explain(const struct policy_set *set, const struct sql_facts *facts,
		    const struct identity *who, struct buf *out)
{
	put_facts(out, facts);
	put_identity(out, who);
	put_rules(out, set, facts, who);
	put_decision(out, set, facts, who);
}
