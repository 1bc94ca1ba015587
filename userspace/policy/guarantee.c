// SPDX-License-Identifier: Apache-2.0
/*
 * The gate table of the PostgreSQL server vantage.
 *
 * At the top level every statement has a gate that works: the parser for text, the activity report
 * of Execute for what was prepared earlier, the entry of a replication command. The server checks
 * for interrupts between each and the first effect.
 *
 * Inside functions and DO blocks there is no such check before a utility command. SELECT and data
 * changes check in each plan node; the commands marked FULL below check before they write (most
 * when they take a new object identifier or file); the others run to their end, or well into their
 * work, and the reject then rolls them back together with their caller, which is `contain`. Two
 * kinds stand apart: commands that the server refuses inside functions, and commands whose effect
 * no rollback undoes. COMMIT and ROLLBACK in a procedure are the language's own statements, which
 * pass no gate at all.
 *
 * tests/e2e/test_gates.py drives every command through every gate, keeps what it saw in
 * tests/gates-report.md, and fails where more is promised here than was seen there.
 */
#include "policy/guarantee.h"

#include "policy/set.h"

#include <string.h>

#define E(name) SQL_BIT(SQL_##name)

static const struct tag {
	const char *tag;
	enum guarantee_reason nested;
	uint32_t
	    effects; /* that a statement with this tag can have; for rules that name effects only */
} tags[] = {
    {"SELECT", GUARANTEE_FULL,
     E(READ) | E(WRITE) | E(MODIFY) | E(DELETE) | E(LOCK) | E(PROCEDURAL) | E(UNSAFE_IO) |
	 E(MAINTENANCE) | E(SESSION) | E(NOTIFY) | E(REPLICATION)},
    {"SELECT INTO", GUARANTEE_FULL, E(READ) | E(WRITE) | E(SCHEMA_CREATE)},
    {"INSERT", GUARANTEE_FULL, E(READ) | E(WRITE) | E(MODIFY) | E(DELETE)},
    {"UPDATE", GUARANTEE_FULL, E(READ) | E(WRITE) | E(MODIFY) | E(DELETE)},
    {"DELETE", GUARANTEE_FULL, E(READ) | E(WRITE) | E(MODIFY) | E(DELETE)},
    {"MERGE", GUARANTEE_FULL, E(READ) | E(WRITE) | E(MODIFY) | E(DELETE)},
    {"VALUES", GUARANTEE_FULL, E(READ)},
    {"TRUNCATE TABLE", GUARANTEE_FULL, E(DELETE)},
    /* COPY TO empties its file, or starts its program, before it checks. */
    {"COPY", GUARANTEE_STAYS,
     E(READ) | E(WRITE) | E(BULK_LOAD) | E(BULK_EXPORT) | E(UNSAFE_IO) | E(DELETE) | E(MODIFY)},
    {"EXPLAIN", GUARANTEE_FULL, E(READ) | E(WRITE) | E(MODIFY) | E(DELETE)},
    {"DECLARE CURSOR", GUARANTEE_ROLLED_BACK, E(READ) | E(SESSION)},
    {"FETCH", GUARANTEE_ROLLED_BACK, E(READ) | E(SESSION)},
    {"MOVE", GUARANTEE_ROLLED_BACK, E(READ) | E(SESSION)},
    {"CLOSE CURSOR", GUARANTEE_STAYS, E(SESSION)},
    {"CLOSE CURSOR ALL", GUARANTEE_STAYS, E(SESSION)},
    {"PREPARE", GUARANTEE_STAYS, E(SESSION)},
    {"EXECUTE", GUARANTEE_ROLLED_BACK, E(PROCEDURAL)},
    {"DEALLOCATE", GUARANTEE_STAYS, E(SESSION)},
    {"DEALLOCATE ALL", GUARANTEE_STAYS, E(SESSION)},
    {"CALL", GUARANTEE_ROLLED_BACK, E(PROCEDURAL)},
    {"DO", GUARANTEE_ROLLED_BACK, E(PROCEDURAL) | E(UNSAFE_IO)},
    {"GRANT", GUARANTEE_ROLLED_BACK, E(PRIVILEGE)},
    {"GRANT ROLE", GUARANTEE_ROLLED_BACK, E(PRIVILEGE)},
    {"REVOKE", GUARANTEE_ROLLED_BACK, E(PRIVILEGE)},
    {"REVOKE ROLE", GUARANTEE_ROLLED_BACK, E(PRIVILEGE)},
    {"REASSIGN OWNED", GUARANTEE_ROLLED_BACK, E(PRIVILEGE)},
    {"DROP OWNED", GUARANTEE_ROLLED_BACK, E(PRIVILEGE) | E(SCHEMA_DESTROY)},
    {"ALTER SYSTEM", GUARANTEE_REFUSED, E(MAINTENANCE) | E(UNSAFE_IO)},
    {"SET", GUARANTEE_ROLLED_BACK, E(SESSION) | E(PRIVILEGE) | E(TRANSACTION)},
    {"RESET", GUARANTEE_ROLLED_BACK, E(SESSION) | E(PRIVILEGE)},
    {"SET CONSTRAINTS", GUARANTEE_ROLLED_BACK, E(TRANSACTION) | E(SESSION)},
    {"SHOW", GUARANTEE_ROLLED_BACK, E(SESSION)},
    {"DISCARD ALL", GUARANTEE_REFUSED, E(SESSION)},
    {"DISCARD PLANS", GUARANTEE_STAYS, E(SESSION)},
    {"DISCARD SEQUENCES", GUARANTEE_STAYS, E(SESSION)},
    {"DISCARD TEMP", GUARANTEE_ROLLED_BACK, E(SESSION)},
    {"NOTIFY", GUARANTEE_ROLLED_BACK, E(NOTIFY)},
    {"LISTEN", GUARANTEE_ROLLED_BACK, E(NOTIFY)},
    {"UNLISTEN", GUARANTEE_ROLLED_BACK, E(NOTIFY)},
    {"LOAD", GUARANTEE_STAYS, E(UNSAFE_IO)},
    {"LOCK TABLE", GUARANTEE_ROLLED_BACK, E(LOCK)},
    {"BEGIN", GUARANTEE_REFUSED, E(TRANSACTION)},
    {"START TRANSACTION", GUARANTEE_REFUSED, E(TRANSACTION)},
    {"COMMIT", GUARANTEE_STAYS, E(TRANSACTION)},
    {"ROLLBACK", GUARANTEE_STAYS, E(TRANSACTION)},
    {"SAVEPOINT", GUARANTEE_REFUSED, E(TRANSACTION)},
    {"RELEASE", GUARANTEE_REFUSED, E(TRANSACTION)},
    {"PREPARE TRANSACTION", GUARANTEE_REFUSED, E(TRANSACTION)},
    {"COMMIT PREPARED", GUARANTEE_REFUSED, E(TRANSACTION)},
    {"ROLLBACK PREPARED", GUARANTEE_REFUSED, E(TRANSACTION)},
    {"VACUUM", GUARANTEE_REFUSED, E(MAINTENANCE)},
    {"ANALYZE", GUARANTEE_ROLLED_BACK, E(MAINTENANCE)},
    {"REINDEX", GUARANTEE_FULL, E(MAINTENANCE)},
    {"CLUSTER", GUARANTEE_ROLLED_BACK, E(MAINTENANCE)},
    {"CHECKPOINT", GUARANTEE_STAYS, E(MAINTENANCE)},
    {"REFRESH MATERIALIZED VIEW", GUARANTEE_ROLLED_BACK, E(MAINTENANCE) | E(READ) | E(WRITE)},
    {"COMMENT", GUARANTEE_ROLLED_BACK, E(SCHEMA_ALTER)},
    {"SECURITY LABEL", GUARANTEE_ROLLED_BACK, E(SCHEMA_ALTER) | E(PRIVILEGE)},
    {"IMPORT FOREIGN SCHEMA", GUARANTEE_ROLLED_BACK, E(SCHEMA_CREATE)},
    {"DROP DATABASE", GUARANTEE_REFUSED, E(SCHEMA_DESTROY)},
    {"DROP TABLESPACE", GUARANTEE_REFUSED, E(SCHEMA_DESTROY) | E(PRIVILEGE)},
    {"DROP SUBSCRIPTION", GUARANTEE_ROLLED_BACK, E(SCHEMA_DESTROY) | E(REPLICATION)},
    {"DROP ROLE", GUARANTEE_ROLLED_BACK, E(SCHEMA_DESTROY) | E(PRIVILEGE)},
    {"CREATE DATABASE", GUARANTEE_REFUSED, E(SCHEMA_CREATE)},
    {"CREATE TABLESPACE", GUARANTEE_REFUSED, E(SCHEMA_CREATE) | E(UNSAFE_IO) | E(PRIVILEGE)},
    {"CREATE SUBSCRIPTION", GUARANTEE_ROLLED_BACK,
     E(SCHEMA_CREATE) | E(REPLICATION) | E(UNSAFE_IO)},
    {"CREATE ROLE", GUARANTEE_ROLLED_BACK, E(PRIVILEGE) | E(SCHEMA_CREATE)},
    {"ALTER DATABASE", GUARANTEE_ROLLED_BACK, E(SCHEMA_ALTER) | E(PRIVILEGE)},
    {"ALTER ROLE", GUARANTEE_ROLLED_BACK, E(PRIVILEGE) | E(SCHEMA_ALTER)},
    {"ALTER DEFAULT PRIVILEGES", GUARANTEE_ROLLED_BACK, E(PRIVILEGE)},
    {"ALTER TABLE", GUARANTEE_ROLLED_BACK,
     E(SCHEMA_ALTER) | E(SCHEMA_DESTROY) | E(PRIVILEGE) | E(SCHEMA_CREATE) | E(REPLICATION)},
    {"CREATE TABLE AS", GUARANTEE_FULL, E(SCHEMA_CREATE) | E(READ) | E(WRITE)},
    /* A walsender's own, and the only ones with an underscore. Inside functions they are no commands. */
    {"ALTER_REPLICATION_SLOT", GUARANTEE_REFUSED, E(REPLICATION)},
    {"BASE_BACKUP", GUARANTEE_REFUSED, E(REPLICATION) | E(BULK_EXPORT)},
    {"CREATE_REPLICATION_SLOT", GUARANTEE_REFUSED, E(REPLICATION)},
    {"DROP_REPLICATION_SLOT", GUARANTEE_REFUSED, E(REPLICATION)},
    {"IDENTIFY_SYSTEM", GUARANTEE_REFUSED, E(REPLICATION)},
    {"READ_REPLICATION_SLOT", GUARANTEE_REFUSED, E(REPLICATION)},
    {"START_REPLICATION", GUARANTEE_REFUSED, E(REPLICATION)},
    {"TIMELINE_HISTORY", GUARANTEE_REFUSED, E(REPLICATION)},
    {"UPLOAD_MANIFEST", GUARANTEE_REFUSED, E(REPLICATION)},
};

/* CREATE, ALTER and DROP of everything else. */
static const struct {
	const char *name;
	bool replaced; /* CREATE can change one that is there, and then takes no new identifier */
} objects[] = {
    {"ACCESS METHOD", false},
    {"AGGREGATE", true},
    {"CAST", false},
    {"COLLATION", false},
    {"CONVERSION", false},
    {"DOMAIN", false},
    {"EVENT TRIGGER", false},
    {"EXTENSION", false},
    {"FOREIGN DATA WRAPPER", false},
    {"FOREIGN TABLE", false},
    {"FUNCTION", true},
    {"INDEX", false},
    {"LANGUAGE", true},
    {"LARGE OBJECT", false},
    {"MATERIALIZED VIEW", false},
    {"OPERATOR", true},
    {"OPERATOR CLASS", false},
    {"OPERATOR FAMILY", false},
    {"POLICY", false},
    {"PROCEDURE", true},
    {"PUBLICATION", false},
    {"ROUTINE", false},
    {"RULE", true},
    {"SCHEMA", false},
    {"SEQUENCE", false},
    {"SERVER", false},
    {"STATISTICS", false},
    {"SUBSCRIPTION", false},
    {"TABLE", false},
    {"TABLESPACE", false},
    {"TEXT SEARCH CONFIGURATION", false},
    {"TEXT SEARCH DICTIONARY", false},
    {"TEXT SEARCH PARSER", false},
    {"TEXT SEARCH TEMPLATE", false},
    {"TRANSFORM", true},
    {"TRIGGER", true},
    {"TYPE", false},
    {"USER MAPPING", false},
    {"VIEW", true},
};

static const struct {
	const char *prefix;
	enum guarantee_reason nested;
	uint32_t effects;
} verbs[] = {
    {"CREATE ", GUARANTEE_FULL, E(SCHEMA_CREATE) | E(PRIVILEGE) | E(UNSAFE_IO) | E(REPLICATION)},
    {"DROP ", GUARANTEE_ROLLED_BACK, E(SCHEMA_DESTROY) | E(PRIVILEGE) | E(REPLICATION)},
    {"ALTER ", GUARANTEE_ROLLED_BACK,
     E(SCHEMA_ALTER) | E(SCHEMA_DESTROY) | E(PRIVILEGE) | E(REPLICATION)},
};

#define COUNT(array) ((unsigned)(sizeof(array) / sizeof((array)[0])))
#define MADE_MAX (COUNT(verbs) * COUNT(objects))

const char *policy_guarantee_reason(enum guarantee_reason reason)
{
	static const char *const names[GUARANTEE_REASON_MAX] = {
	    [GUARANTEE_FULL] = "prevented",
	    [GUARANTEE_REFUSED] = "the server refuses it there",
	    [GUARANTEE_ROLLED_BACK] =
		"no interrupt check before it runs; rolled back with its caller",
	    [GUARANTEE_STAYS] = "nothing stops it there and no rollback undoes it",
	};

	return reason < GUARANTEE_REASON_MAX ? names[reason] : "invalid";
}

/* Tags are made of verb and object in a table of static texts, built once on first use by the
 * caller's index. */
static const char *made_tag(unsigned idx)
{
	static char texts[COUNT(verbs) * COUNT(objects)][48];
	unsigned v = idx / COUNT(objects), o = idx % COUNT(objects);
	size_t len = strlen(verbs[v].prefix);

	if (!texts[idx][0]) {
		memcpy(texts[idx] + 1, verbs[v].prefix + 1, len - 1);
		memcpy(texts[idx] + len, objects[o].name, strlen(objects[o].name));
		texts[idx][0] = verbs[v].prefix[0];
	}
	return texts[idx];
}

static const struct tag *lookup_special(const char *tag)
{
	for (unsigned i = 0; i < COUNT(tags); i++)
		if (!strcmp(tags[i].tag, tag))
			return &tags[i];
	return NULL;
}

const char *policy_command_tag_at(unsigned idx)
{
	if (idx < COUNT(tags))
		return tags[idx].tag;
	idx -= COUNT(tags);
	return idx < MADE_MAX ? made_tag(idx) : NULL;
}

static struct tag made_facts(const char *tag)
{
	struct tag facts = {tag, GUARANTEE_ROLLED_BACK, 0};
	unsigned v = 0, o = 0;

	while (v < COUNT(verbs) && strncmp(tag, verbs[v].prefix, strlen(verbs[v].prefix)) != 0)
		v++;
	if (v == COUNT(verbs))
		return facts;
	facts.nested = verbs[v].nested;
	facts.effects = verbs[v].effects;
	while (o < COUNT(objects) && strcmp(tag + strlen(verbs[v].prefix), objects[o].name) != 0)
		o++;
	if (o == COUNT(objects) || (objects[o].replaced && facts.nested == GUARANTEE_FULL))
		facts.nested = GUARANTEE_ROLLED_BACK;
	return facts;
}

static enum policy_guarantee promise(enum guarantee_reason reason)
{
	switch (reason) {
	case GUARANTEE_FULL:
	case GUARANTEE_REFUSED:
		return POLICY_PREVENT;
	case GUARANTEE_ROLLED_BACK:
		return POLICY_CONTAIN;
	default:
		return POLICY_DETECT;
	}
}

/* The facts at @idx, false behind the last. A tag that is listed and made has an empty one where it
 * is made. */
static bool facts_at(unsigned idx, struct tag *facts)
{
	const char *tag = policy_command_tag_at(idx);

	if (!tag)
		return false;
	*facts = idx < COUNT(tags) ? tags[idx] : made_facts(tag);
	if (idx >= COUNT(tags) && lookup_special(tag))
		*facts = (struct tag){"", GUARANTEE_FULL, 0};
	return true;
}

enum policy_guarantee policy_guarantee_for(const char *tag, enum guarantee_place place,
					   enum guarantee_reason *reason)
{
	const struct tag *special = lookup_special(tag);

	if (place == GUARANTEE_TOP)
		*reason = GUARANTEE_FULL;
	else
		*reason = special ? special->nested : made_facts(tag).nested;
	return promise(*reason);
}

/* Could a statement with this tag make the rule's `when` hold? */
static bool tag_concerns(const struct rule *rule, const struct tag *tag)
{
	const struct facts_matcher *m = &rule->when.facts;

	if (!tag->tag[0])
		return false;
	if ((m->keys & FACT_BIT(FACT_EFFECTS)) && !(m->effects & tag->effects))
		return false;
	if ((m->keys & FACT_BIT(FACT_SELECTIVE)) &&
	    !(tag->effects & (SQL_BIT(SQL_MODIFY) | SQL_BIT(SQL_DELETE))))
		return false;
	if (!(m->keys & FACT_BIT(FACT_COMMANDS)))
		return true;
	for (unsigned i = 0; i < m->command_cnt; i++)
		if (glob_match(&m->commands[i], tag->tag))
			return true;
	return false;
}

bool policy_rule_concerns_commands(const struct rule *rule)
{
	const struct facts_matcher *m = &rule->when.facts;

	if (m->keys & (FACT_BIT(FACT_COLUMNS) | FACT_BIT(FACT_FUNCTIONS) | FACT_BIT(FACT_FUNCTION_RISK)))
		return false; /* they have none */
	for (unsigned i = 0; i < COUNT(tags); i++)
		if (strchr(tags[i].tag, '_') && tag_concerns(rule, &tags[i]))
			return true;
	return false;
}

static const struct rule *rule_at(const struct policy_set *set, unsigned idx)
{
	for (unsigned p = 0; p < set->policy_cnt; p++) {
		if (idx < set->policies[p].rule_cnt)
			return &set->policies[p].rules[idx];
		idx -= set->policies[p].rule_cnt;
	}
	return NULL;
}

bool policy_rule_info(const struct policy_set *set, unsigned idx, struct policy_rule_info *info)
{
	const struct rule *rule = rule_at(set, idx);
	struct tag facts;

	if (!rule)
		return false;
	*info = (struct policy_rule_info){
	    .policy = rule->match.policy,
	    .rule = rule->match.rule,
	    .file = rule->file,
	    .message = rule->match.message,
	    .severity = rule->severity,
	    .line = rule->line,
	    .action = rule->match.action,
	    .mode = rule->match.mode,
	    .on_failure = rule->policy->on_failure,
	    .asked = rule->match.guarantee,
	    .top = POLICY_DETECT,
	    .nested = POLICY_DETECT,
	};
	info->by_name = rule->when.facts.keys & (FACT_BIT(FACT_OBJECTS) | FACT_BIT(FACT_COLUMNS));
	if (!rule_blocks(rule))
		return true;
	info->top = info->nested = POLICY_PREVENT;
	for (unsigned i = 0; facts_at(i, &facts); i++) {
		if (!tag_concerns(rule, &facts))
			continue;
		info->nested_reasons |= 1u << facts.nested;
		if (promise(facts.nested) < info->nested)
			info->nested = promise(facts.nested);
	}
	return true;
}

const char *policy_rule_exception(const struct policy_set *set, unsigned idx,
				  enum guarantee_reason reason, unsigned at)
{
	const struct rule *rule = rule_at(set, idx);
	struct tag facts;

	for (unsigned i = 0; rule && facts_at(i, &facts); i++)
		if (facts.nested == reason && tag_concerns(rule, &facts) && !at--)
			return facts.tag;
	return NULL;
}
