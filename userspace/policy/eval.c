// SPDX-License-Identifier: Apache-2.0
/*
 * The decision. Pure: no allocation, no clock, no log; the answer depends on the arguments alone.
 *
 * Every test has three answers. MAYBE means that the fact or attribute is not known; a conjunction
 * is the least of its parts, so one NO settles a rule whatever else is unknown. A rule that ends in
 * MAYBE matches only if it denies or kills and its policy is on_failure: closed; the match then
 * says by_fail_mode.
 *
 * `when` is lenient and existential: some object of the statement fits, and a name written without
 * schema may be in any schema, since the search path can be changed. `unless` is strict and
 * universal: all objects that made the rule match are exempt, and a name without schema is in none
 * that a pattern spells out. So neither "DROP TABLE scratch.a, public.b" nor a changed search path
 * slips through an exemption for scratch.
 *
 * A text whose facts are unknown is judged by what is known of it (statements that were read,
 * effects hinted by the executor) and then once more as a statement without facts, for which all
 * facts but the reason are MAYBE.
 */
#include "policy/policy.h"
#include "policy/set.h"

#include <string.h>

bool name_pattern_match(const struct name_pattern *p, const char *schema, const char *name,
			bool strict)
{
	if (!name || !glob_match(&p->name, name))
		return false;
	if (!p->has_schema)
		return true;
	if (!schema)
		return !strict || p->schema.kind == GLOB_ANY;
	return glob_match(&p->schema, schema);
}

bool object_pattern_match(const struct name_pattern *p, const struct sql_object *object,
			  bool strict)
{
	if (!object->name)
		return false;
	switch (object->kind) {
	case SQL_OBJ_RELATION:
	case SQL_OBJ_FUNCTION:
	case SQL_OBJ_TYPE:
	case SQL_OBJ_OTHER:
		return name_pattern_match(p, object->schema, object->name, strict);
	case SQL_OBJ_SCHEMA:
		/* What is done to a schema is done to everything in it. */
		if (!strict && p->has_schema && glob_match(&p->schema, object->name))
			return true;
		return glob_match(&p->full, object->name);
	default:
		return glob_match(&p->full, object->name);
	}
}

bool column_pattern_match(const struct column_pattern *p, const struct sql_object *object,
			  const char *column, bool strict)
{
	if (p->has_table && !object_pattern_match(&p->table, object, strict))
		return false;
	return glob_match(&p->column, column);
}

static bool objects_hit(const struct facts_matcher *m, const struct sql_object *object, bool strict)
{
	for (unsigned i = 0; i < m->object_cnt; i++)
		if (object_pattern_match(&m->objects[i], object, strict))
			return true;
	return false;
}

static bool columns_hit(const struct facts_matcher *m, const struct sql_object *object)
{
	const struct column_pattern *p;

	for (unsigned i = 0; i < m->column_cnt; i++) {
		p = &m->columns[i];
		if (object->all_columns &&
		    (!p->has_table || object_pattern_match(&p->table, object, false)))
			return true;
		for (unsigned c = 0; c < object->column_cnt; c++)
			if (column_pattern_match(p, object, object->columns[c], false))
				return true;
	}
	return false;
}

/* Is @object one that makes the `when` clause hold, as far as effects, objects and columns go? */
static bool object_relevant(const struct facts_matcher *m, const struct sql_object *object,
			    uint32_t loose, bool with_columns)
{
	if ((m->keys & FACT_BIT(FACT_EFFECTS)) && !((object->effects | loose) & m->effects))
		return false;
	if ((m->keys & FACT_BIT(FACT_OBJECTS)) && !objects_hit(m, object, false))
		return false;
	return !with_columns || !(m->keys & FACT_BIT(FACT_COLUMNS)) || columns_hit(m, object);
}

/* Effects of the statement that no object carries: they may be on any of its objects. */
static uint32_t loose_effects(const struct sql_stmt *stmt)
{
	uint32_t bound = 0;

	for (unsigned i = 0; i < stmt->object_cnt; i++)
		bound |= stmt->objects[i].effects;
	return stmt->effects & ~bound;
}

static bool some_object_relevant(const struct facts_matcher *m, const struct sql_stmt *stmt,
				 bool with_columns)
{
	uint32_t loose = loose_effects(stmt);

	for (unsigned i = 0; i < stmt->object_cnt; i++)
		if (object_relevant(m, &stmt->objects[i], loose, with_columns))
			return true;
	return false;
}

static bool function_relevant(const struct facts_matcher *m, const struct sql_function *function,
			      bool strict)
{
	unsigned i;

	if ((m->keys & FACT_BIT(FACT_FUNCTION_RISK)) && !(m->risks & 1u << function->risk))
		return false;
	if (!(m->keys & FACT_BIT(FACT_FUNCTIONS)))
		return true;
	for (i = 0; i < m->function_cnt; i++)
		if (name_pattern_match(&m->functions[i], function->schema, function->name, strict))
			return true;
	return false;
}

static bool some_function_relevant(const struct facts_matcher *m, const struct sql_stmt *stmt)
{
	for (unsigned i = 0; i < stmt->function_cnt; i++)
		if (function_relevant(m, &stmt->functions[i], false))
			return true;
	return false;
}

static bool commands_hit(const struct facts_matcher *m, const char *command)
{
	for (unsigned i = 0; command && i < m->command_cnt; i++)
		if (glob_match(&m->commands[i], command))
			return true;
	return false;
}

static enum tri selective_hit(const struct facts_matcher *m, enum sql_selective selective)
{
	if (selective == SQL_SELECTIVE_UNKNOWN)
		return TRI_MAYBE;
	return selective == (m->selective ? SQL_SELECTIVE_YES : SQL_SELECTIVE_NO) ? TRI_YES
										  : TRI_NO;
}

static enum tri known_fact(enum policy_fact fact, const struct facts_matcher *m,
			   const struct sql_facts *facts, const struct sql_stmt *stmt)
{
	bool hit = false;

	switch (fact) {
	case FACT_UNKNOWN:
		hit = m->unknown & 1u << facts->unknown;
		break;
	case FACT_EFFECTS:
		hit = stmt->effects & m->effects;
		break;
	case FACT_COMMANDS:
		hit = commands_hit(m, stmt->command);
		break;
	case FACT_SELECTIVE:
		return selective_hit(m, stmt->selective);
	case FACT_OBJECTS:
		hit = some_object_relevant(m, stmt, false);
		break;
	case FACT_COLUMNS:
		hit = some_object_relevant(m, stmt, true);
		break;
	case FACT_FUNCTIONS:
	case FACT_FUNCTION_RISK:
		hit = some_function_relevant(m, stmt);
		break;
	case FACT_MAX:
		break;
	}
	return hit ? TRI_YES : TRI_NO;
}

static enum tri unknown_fact(enum policy_fact fact, const struct facts_matcher *m,
			     const struct sql_facts *facts)
{
	if (fact == FACT_UNKNOWN)
		return m->unknown & 1u << facts->unknown ? TRI_YES : TRI_NO;
	if (fact == FACT_EFFECTS && (facts->effects & m->effects))
		return TRI_YES;
	/* A rule that names the reason asks for exactly what cannot be known. */
	return m->keys & FACT_BIT(FACT_UNKNOWN) ? TRI_YES : TRI_MAYBE;
}

/* @stmt NULL: the statement of which nothing but facts->unknown and facts->effects is known. */
static enum tri when_facts(const struct facts_matcher *m, const struct sql_facts *facts,
			   const struct sql_stmt *stmt, enum policy_fact *failed)
{
	enum tri all = TRI_YES, one;

	for (enum policy_fact fact = 0; fact < FACT_MAX && all != TRI_NO; fact++) {
		if (!(m->keys & FACT_BIT(fact)))
			continue;
		one = stmt ? known_fact(fact, m, facts, stmt) : unknown_fact(fact, m, facts);
		if (one < all) {
			all = one;
			*failed = fact;
		}
	}
	return all;
}

static bool column_exempt(const struct facts_matcher *m, const struct sql_object *object,
			  const char *column)
{
	for (unsigned i = 0; i < m->column_cnt; i++)
		if (column_pattern_match(&m->columns[i], object, column, true))
			return true;
	return false;
}

static bool object_exempt(const struct facts_matcher *m, const struct sql_object *object)
{
	if ((m->keys & FACT_BIT(FACT_OBJECTS)) && !objects_hit(m, object, true))
		return false;
	if (!(m->keys & FACT_BIT(FACT_COLUMNS)))
		return true;
	for (unsigned c = 0; c < object->column_cnt; c++)
		if (!column_exempt(m, object, object->columns[c]))
			return false;
	return object->column_cnt && !object->all_columns;
}

/* All objects that make @when hold are exempt, and there is at least one. */
static bool objects_exempt(const struct facts_matcher *m, const struct facts_matcher *when,
			   const struct sql_stmt *stmt)
{
	uint32_t loose = loose_effects(stmt);
	bool some = false;

	if ((when->keys & FACT_BIT(FACT_EFFECTS)) && (loose & when->effects))
		return false;
	for (unsigned i = 0; i < stmt->object_cnt; i++) {
		if (!object_relevant(when, &stmt->objects[i], 0, true))
			continue;
		if (!object_exempt(m, &stmt->objects[i]))
			return false;
		some = true;
	}
	return some;
}

static bool functions_exempt(const struct facts_matcher *m, const struct facts_matcher *when,
			     const struct sql_stmt *stmt)
{
	bool some = false;

	for (unsigned i = 0; i < stmt->function_cnt; i++) {
		if (!function_relevant(when, &stmt->functions[i], false))
			continue;
		if (!function_relevant(m, &stmt->functions[i], true))
			return false;
		some = true;
	}
	return some;
}

static bool unless_facts(const struct facts_matcher *m, const struct facts_matcher *when,
			 const struct sql_facts *facts, const struct sql_stmt *stmt)
{
	uint32_t keys = m->keys;

	if ((keys & FACT_BIT(FACT_UNKNOWN)) && !(m->unknown & 1u << facts->unknown))
		return false;
	keys &= ~FACT_BIT(FACT_UNKNOWN);
	if (!keys)
		return true;
	if (!stmt)
		return false;
	if ((keys & FACT_BIT(FACT_EFFECTS)) && (!stmt->effects || (stmt->effects & ~m->effects)))
		return false;
	if ((keys & FACT_BIT(FACT_COMMANDS)) && !commands_hit(m, stmt->command))
		return false;
	if ((keys & FACT_BIT(FACT_SELECTIVE)) && selective_hit(m, stmt->selective) != TRI_YES)
		return false;
	if ((keys & (FACT_BIT(FACT_OBJECTS) | FACT_BIT(FACT_COLUMNS))) &&
	    !objects_exempt(m, when, stmt))
		return false;
	if ((keys & (FACT_BIT(FACT_FUNCTIONS) | FACT_BIT(FACT_FUNCTION_RISK))) &&
	    !functions_exempt(m, when, stmt))
		return false;
	return true;
}

/* One rule's look at one text: identity is asked once, and only when some statement gets that far.
 */
struct look {
	const struct rule *rule;
	const struct sql_facts *facts;
	const struct identity *who;
	struct who_trace *seen;
	struct rule_trace *trace;
	bool asked_who, asked_unless;
	enum tri who_answer;
	enum rule_stop who_stop;
	enum policy_attr who_failed;
	bool unless_who;
};

static enum tri look_who(struct look *look)
{
	const struct rule *rule = look->rule;
	enum tri one;

	if (look->asked_who)
		return look->who_answer;
	look->asked_who = true;
	look->who_answer = who_match(&rule->policy->match, look->who, look->seen);
	look->who_stop = STOP_MATCH;
	look->who_failed = look->seen->failed;
	if (look->who_answer == TRI_NO)
		return TRI_NO;
	one = who_match(&rule->when.who, look->who, look->seen);
	if (one < look->who_answer) {
		look->who_answer = one;
		look->who_stop = STOP_WHEN_IDENTITY;
		look->who_failed = look->seen->failed;
	}
	return look->who_answer;
}

static bool look_exempt(struct look *look, const struct sql_stmt *stmt)
{
	const struct rule *rule = look->rule;

	if (!rule->has_unless ||
	    !unless_facts(&rule->unless.facts, &rule->when.facts, look->facts, stmt))
		return false;
	if (!look->asked_unless) {
		look->asked_unless = true;
		look->unless_who = who_match(&rule->unless.who, look->who, look->seen) == TRI_YES;
	}
	return look->unless_who;
}

/* Of several statements that did not match, the one that got furthest is the one to explain. */
static enum tri look_stop(struct look *look, enum rule_stop stop, enum policy_fact fact,
			  enum policy_attr attr)
{
	static const unsigned char rank[] = {
	    [STOP_NO_STATEMENT] = 0,  [STOP_WHEN_FACT] = 1, [STOP_MATCH] = 2,
	    [STOP_WHEN_IDENTITY] = 3, [STOP_UNLESS] = 4,    [STOP_UNSURE] = 5,
	};

	if (rank[stop] > rank[look->trace->stop]) {
		look->trace->stop = stop;
		look->trace->fact = fact;
		look->trace->attr = attr;
	}
	return stop == STOP_UNSURE ? TRI_MAYBE : TRI_NO;
}

static enum tri look_statement(struct look *look, const struct sql_stmt *stmt)
{
	enum policy_fact failed = FACT_MAX;
	enum tri facts = when_facts(&look->rule->when.facts, look->facts, stmt, &failed), who;

	if (facts == TRI_NO)
		return look_stop(look, STOP_WHEN_FACT, failed, ATTR_MAX);
	who = look_who(look);
	if (who == TRI_NO)
		return look_stop(look, look->who_stop, FACT_MAX, look->who_failed);
	if (look_exempt(look, stmt))
		return look_stop(look, STOP_UNLESS, FACT_MAX, ATTR_MAX);
	if (facts == TRI_MAYBE)
		return look_stop(look, STOP_UNSURE, failed, ATTR_MAX);
	if (who == TRI_MAYBE)
		return look_stop(look, STOP_UNSURE, FACT_MAX, look->who_failed);
	return TRI_YES;
}

bool rule_match(const struct rule *rule, const struct sql_facts *facts, const struct identity *who,
		struct who_trace *who_seen, struct rule_trace *trace)
{
	struct look look = {
	    .rule = rule, .facts = facts, .who = who, .seen = who_seen, .trace = trace};
	unsigned cnt = facts->stmt_cnt + (facts->unknown != SQL_KNOWN), maybe = cnt;
	enum tri one;

	*trace = (struct rule_trace){.stop = STOP_NO_STATEMENT, .fact = FACT_MAX, .attr = ATTR_MAX};
	for (unsigned i = 0; i < cnt; i++) {
		one = look_statement(&look, i < facts->stmt_cnt ? &facts->stmts[i] : NULL);
		if (one == TRI_YES) {
			trace->stop = STOP_NONE;
			trace->stmt = i;
			break;
		}
		if (one == TRI_MAYBE && maybe == cnt)
			maybe = i;
	}
	if (trace->stop != STOP_NONE && maybe < cnt && rule_blocks(rule) &&
	    rule->policy->on_failure == POLICY_FAIL_CLOSED) {
		trace->stop = STOP_NONE;
		trace->stmt = maybe;
		trace->by_fail_mode = true;
	}
	if (trace->stmt && trace->stmt >= facts->stmt_cnt)
		trace->stmt = facts->stmt_cnt ? facts->stmt_cnt - 1 : 0;
	return trace->stop == STOP_NONE;
}

/* What is enforced stands before what is not; then the stronger action; then the order of the
 * files. */
static bool stronger(const struct policy_match *a, const struct policy_match *b)
{
	if (a->mode != b->mode)
		return a->mode == POLICY_ENFORCE;
	return a->action > b->action;
}

static void decision_add(struct policy_decision *decision, const struct policy_match *match)
{
	unsigned at = decision->match_cnt;
	enum policy_action *action =
	    match->mode == POLICY_ENFORCE ? &decision->action : &decision->shadow;

	decision->match_total++;
	if (match->action > *action)
		*action = match->action;
	while (at && stronger(match, &decision->matches[at - 1]))
		at--;
	if (at == LIMIT_POLICY_MATCHES)
		return;
	if (decision->match_cnt < LIMIT_POLICY_MATCHES)
		decision->match_cnt++;
	memmove(&decision->matches[at + 1], &decision->matches[at],
		(decision->match_cnt - 1 - at) * sizeof(*match));
	decision->matches[at] = *match;
}

static void decision_init(struct policy_decision *decision)
{
	decision->action = decision->shadow = POLICY_ALLOW;
	decision->deciding = NULL;
	decision->match_cnt = decision->match_total = 0;
	decision->unknown_cnt = 0;
	decision->literal_free = decision->identity_volatile = false;
}

static void decision_finish(struct policy_decision *decision, const struct who_trace *seen)
{
	unsigned cap =
	    sizeof(decision->unknown_attributes) / sizeof(decision->unknown_attributes[0]);

	for (enum policy_attr attr = 0; attr < ATTR_MAX && decision->unknown_cnt < cap; attr++)
		if (seen->unknown & 1u << attr)
			decision->unknown_attributes[decision->unknown_cnt++] =
			    policy_attr_name(attr);
	decision->identity_volatile = seen->asked & 1u << ATTR_APPLICATION_NAME;
	if (decision->match_cnt)
		decision->deciding = &decision->matches[0];
}

/* Most rules fall out here: facts that are known and exclude the rule, without a look at any
 * statement. */
static bool rule_excluded(const struct rule *rule, const struct sql_facts *facts)
{
	const struct facts_matcher *m = &rule->when.facts;

	if (facts->unknown != SQL_KNOWN)
		return false;
	if ((m->keys & FACT_BIT(FACT_EFFECTS)) && !(facts->effects & m->effects))
		return true;
	return m->keys & FACT_BIT(FACT_UNKNOWN);
}

void policy_eval(const struct policy_set *set, const struct sql_facts *facts,
		 const struct identity *who, struct policy_decision *decision)
{
	struct who_trace seen = {0};
	struct rule_trace trace;
	struct policy_match match;
	const struct rule *rule;

	decision_init(decision);
	for (unsigned p = 0; p < set->policy_cnt; p++) {
		for (unsigned r = 0; r < set->policies[p].rule_cnt; r++) {
			rule = &set->policies[p].rules[r];
			if (rule_excluded(rule, facts) ||
			    !rule_match(rule, facts, who, &seen, &trace))
				continue;
			match = rule->match;
			match.by_fail_mode = trace.by_fail_mode;
			match.stmt = trace.stmt;
			decision_add(decision, &match);
		}
	}
	decision->literal_free = facts->unknown == SQL_KNOWN && !facts->literal_dependent;
	decision_finish(decision, &seen);
}

/* Could @rule stop some text of @who? Not when its identity excludes, or exempts, whatever the text
 * says. */
static bool rule_could_stop(const struct rule *rule, const struct identity *who,
			    struct who_trace *seen)
{
	if (!rule_blocks(rule) || who_match(&rule->when.who, who, seen) == TRI_NO)
		return false;
	return !rule->has_unless || rule->unless.facts.keys ||
	       who_match(&rule->unless.who, who, seen) != TRI_YES;
}

void policy_eval_undecided(const struct policy_set *set, const struct identity *who,
			   struct policy_decision *decision)
{
	struct who_trace seen = {0};
	const struct policy *policy;
	struct policy_match match;

	decision_init(decision);
	for (unsigned p = 0; p < set->policy_cnt; p++) {
		policy = &set->policies[p];
		if (policy->on_failure != POLICY_FAIL_CLOSED ||
		    who_match(&policy->match, who, &seen) == TRI_NO)
			continue;
		for (unsigned r = 0; r < policy->rule_cnt; r++) {
			if (!rule_could_stop(&policy->rules[r], who, &seen))
				continue;
			match = policy->rules[r].match;
			match.action = POLICY_DENY;
			match.message =
			    NULL; /* the rule's own sentence would claim what nobody saw */
			match.by_fail_mode = true;
			decision_add(decision, &match);
			break;
		}
	}
	decision_finish(decision, &seen);
}
