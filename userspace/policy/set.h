/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compiled form of policies, private to this folder: made by load.c, read by everything else.
 * Immutable once loaded, except for policy_set_force_mode(). All memory belongs to the set's arena.
 *
 * A rule is two clauses, `when` and `unless`; a clause is two conjunctions, one over facts and one
 * over identity. Within a key the entries are alternatives. A mask or count of zero never means
 * "matches nothing": whether a key was given stands in `keys`.
 */
#ifndef DBFENCE_POLICY_SET_H
#define DBFENCE_POLICY_SET_H

#include "policy/arena.h"
#include "policy/glob.h"
#include "policy/policy.h"

/* Identity attributes, in the order they are tested: what a session can change by itself comes
 * last. */
enum policy_attr {
	ATTR_ENGINE,
	ATTR_TRANSPORT,
	ATTR_DATABASE,
	ATTR_DB_USER,
	ATTR_ENVIRONMENT,
	ATTR_UID,
	ATTR_EXE,
	ATTR_CGROUP,
	ATTR_SERVER,
	ATTR_CLIENT_ADDRESS,
	ATTR_APPLICATION_NAME,
	ATTR_MAX
};

/* Keys over facts, in the order they are tested. */
enum policy_fact {
	FACT_UNKNOWN,
	FACT_EFFECTS,
	FACT_COMMANDS,
	FACT_SELECTIVE,
	FACT_OBJECTS,
	FACT_COLUMNS,
	FACT_FUNCTIONS,
	FACT_FUNCTION_RISK,
	FACT_MAX
};

#define FACT_BIT(fact) (1u << (fact))

const char *policy_attr_name(enum policy_attr attr);	  /* "db_user" */
const char *policy_fact_name(enum policy_fact fact);	  /* "effects" */
enum policy_attr policy_attr_from_name(const char *name); /* ATTR_MAX */
enum policy_fact policy_fact_from_name(const char *name); /* FACT_MAX */
enum policy_action policy_action_from_name(const char *name);
enum policy_mode policy_mode_from_name(const char *name);
enum policy_failure policy_failure_from_name(const char *name);
enum policy_guarantee policy_guarantee_from_name(const char *name);
enum sql_unknown policy_unknown_from_name(const char *name); /* SQL_UNKNOWN_MAX; never SQL_KNOWN */

/* An address, with or without prefix length and port, or a glob over the text (socket directories,
 * "10.0.*"). */
struct addr_pattern {
	bool is_glob;
	int family; /* AF_INET, AF_INET6 */
	uint8_t bytes[16];
	unsigned prefix; /* bits */
	bool has_port;
	uint16_t port;
	struct glob glob;
};

struct attr_cond {
	enum policy_attr attr;
	unsigned cnt;
	const struct glob *globs;	  /* all but the following */
	const struct addr_pattern *addrs; /* ATTR_SERVER, ATTR_CLIENT_ADDRESS */
	const uint32_t *uids;		  /* ATTR_UID */
};

struct who_matcher {
	const struct attr_cond *conds; /* in the order of enum policy_attr */
	unsigned cnt;
};

/* "table", "schema.table": also functions. */
struct name_pattern {
	struct glob full; /* as written, for kinds of objects that have no schema */
	struct glob name;
	bool has_schema;
	struct glob schema;
};

struct column_pattern {
	bool has_table;
	struct name_pattern table;
	struct glob column;
};

struct facts_matcher {
	uint32_t keys;	  /* FACT_BIT of each key that was given */
	uint32_t effects; /* SQL_BIT */
	uint32_t risks;	  /* 1u << enum sql_func_risk */
	uint32_t unknown; /* 1u << enum sql_unknown */
	bool selective;
	const struct name_pattern *objects;
	const struct column_pattern *columns;
	const struct glob *commands;
	const struct name_pattern *functions;
	unsigned object_cnt, column_cnt, command_cnt, function_cnt;
};

struct clause {
	struct facts_matcher facts;
	struct who_matcher who;
};

struct policy;

struct rule {
	struct policy_match
	    match; /* what a decision copies; stmt and by_fail_mode are filled there */
	struct policy *policy;
	struct clause when, unless;
	bool has_when, has_unless;
	const char *severity; /* NULL when not given */
	const char *file;
	unsigned line, column;
};

struct policy {
	const char *name;
	enum policy_mode mode;
	enum policy_failure on_failure;
	bool guarantee_given;
	enum policy_guarantee guarantee;
	struct who_matcher match;
	struct rule *rules;
	unsigned rule_cnt;
	const char *file;
	unsigned line, column;
};

struct policy_set {
	struct arena arena;
	struct policy *policies;
	unsigned policy_cnt, rule_cnt;
	uint64_t generation;
};

static inline bool rule_blocks(const struct rule *rule)
{
	return rule->match.action >= POLICY_DENY;
}

/* Fits an object or function to a pattern. Lenient takes an unwritten schema for any; strict for
 * none. */
bool name_pattern_match(const struct name_pattern *p, const char *schema, const char *name,
			bool strict);
bool object_pattern_match(const struct name_pattern *p, const struct sql_object *object,
			  bool strict);
bool column_pattern_match(const struct column_pattern *p, const struct sql_object *object,
			  const char *column, bool strict);

/* 0, or -EINVAL for a text that is neither address, CIDR nor glob. @text must outlive the pattern.
 */
int addr_pattern_parse(struct addr_pattern *p, const char *text, bool port_allowed);

/* Answers of a test. Ordered: a conjunction is the least of its parts. */
enum tri { TRI_NO, TRI_MAYBE, TRI_YES };

/* What evaluating identity learns by the way. */
struct who_trace {
	uint32_t unknown;	 /* 1u << attr: asked for, and nobody knows */
	uint32_t asked;		 /* 1u << attr */
	enum policy_attr failed; /* the first that did not match; ATTR_MAX */
};

enum tri who_match(const struct who_matcher *m, const struct identity *who,
		   struct who_trace *trace);

/* Which part of a rule decided that it does not apply: for explain. */
enum rule_stop {
	STOP_NONE,  /* it matched */
	STOP_MATCH, /* the policy's match: attr */
	STOP_WHEN_FACT,
	STOP_WHEN_IDENTITY,
	STOP_UNLESS, /* exempted */
	STOP_UNSURE, /* only unknown things stood in the way, and the policy fails open */
	STOP_NO_STATEMENT
};

struct rule_trace {
	enum rule_stop stop;
	enum policy_fact fact; /* STOP_WHEN_FACT, and STOP_UNSURE when fact < FACT_MAX */
	enum policy_attr attr; /* STOP_MATCH, STOP_WHEN_IDENTITY, and STOP_UNSURE otherwise */
	unsigned stmt;	       /* of the match */
	bool by_fail_mode;
};

/* True when @rule matches some statement. @who_seen is added to. Pure. */
bool rule_match(const struct rule *rule, const struct sql_facts *facts, const struct identity *who,
		struct who_trace *who_seen, struct rule_trace *trace);

/* Warnings about what is legal but cannot mean what was intended. Called by the loader. */
void policy_lint(const struct policy_set *set, struct policy_report *report);

/* Edits between two words, and how many still count as a slip of the pen. */
unsigned policy_distance(const char *a, const char *b);
unsigned policy_distance_limit(const char *word);
/* "; did you mean 'x'?" for the nearest of @names, or "". Into @buf, returned. */
const char *policy_suggest(const char *word, const char *(*name_at)(unsigned idx), unsigned cnt,
			   char *buf, size_t len);

#endif
