/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies: YAML files to a checked set, and one pure function from (facts, identity) to a
 * decision.
 *
 * Deny wins, order never matters, every statement of a text counts. A set is immutable once loaded;
 * a reload builds a new one. This folder knows SQL facts and identity, and nothing of kernels,
 * sockets or records.
 */
#ifndef DBFENCE_POLICY_POLICY_H
#define DBFENCE_POLICY_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"
#include "core/limits.h"
#include "dbfence/abi/screen.h"
#include "policy/identity.h"
#include "sql/sql.h"

/* Ordered by strength: the strongest matching action decides. */
enum policy_action {
	POLICY_ALLOW, /* also the answer when nothing matches */
	POLICY_AUDIT,
	POLICY_ALERT,
	POLICY_DENY, /* reject the statement, the connection lives */
	POLICY_KILL, /* end the session */
	POLICY_ACTION_MAX
};

enum policy_mode { POLICY_SHADOW, POLICY_ENFORCE, POLICY_MODE_MAX };
enum policy_failure { POLICY_FAIL_OPEN, POLICY_FAIL_CLOSED, POLICY_FAILURE_MAX };
enum policy_guarantee { POLICY_DETECT, POLICY_CONTAIN, POLICY_PREVENT, POLICY_GUARANTEE_MAX };

const char *policy_action_name(enum policy_action action);
const char *policy_mode_name(enum policy_mode mode);
const char *policy_failure_name(enum policy_failure failure);
const char *policy_guarantee_name(enum policy_guarantee guarantee);

/* What one rule says, as named in records. Strings borrowed: by the set. */
struct policy_match {
	const char *policy;
	const char *rule;
	const char *message; /* NULL when the rule has none */
	enum policy_action action;
	enum policy_mode mode;
	enum policy_guarantee guarantee;
	bool by_fail_mode; /* matched only because something was unknown under on_failure: closed */
	unsigned stmt;	   /* index of the statement in the text that matched first */
};

struct policy_decision {
	enum policy_action
		action; /* of the strongest matching rule in enforce mode; ALLOW when none */
	enum policy_action shadow; /* what shadow policies would have done; ALLOW when nothing */
	const struct policy_match *deciding; /* into matches; NULL when no rule matched. The
					      * enforced one, else the strongest shadow one */
	struct policy_match matches[LIMIT_POLICY_MATCHES];
	unsigned match_cnt;		   /* strongest first */
	unsigned match_total;		   /* may exceed match_cnt: the rest is only counted */
	const char *unknown_attributes[8]; /* names of attributes that rules asked for and nobody
					      knows */
	unsigned unknown_cnt;
	bool literal_free; /* any text of the same shape by the same identity gets the same decision
			    */
	bool identity_volatile; /* the decision rests on an attribute that a session can change
				   (application_name) */
};

struct policy_set;

/* One finding, as printed: "file.yaml:12:7: rule 'x': unknown effect 'dropp'; did you mean …". */
struct policy_report {
	struct buf text; /* one line per finding, each ending in a newline */
	unsigned errors, warnings;
};

void policy_report_init(struct policy_report *report);
void policy_report_fini(struct policy_report *report);

struct policy_source {
	const char *name; /* for messages: a path */
	const char *yaml;
	size_t len;
};

/*
 * Build a set from YAML texts. 0 with *out owned by the caller; -EINVAL with the findings in
 * @report when any error was found (then nothing is loaded: a bad file changes nothing); -ENOMEM.
 * @generation is stamped on it.
 */
int policy_set_load(const struct policy_source *sources, size_t cnt, uint64_t generation,
		    struct policy_set **out, struct policy_report *report);

/*
 * Read @path, a file or a directory whose *.yaml and *.yml are read in name order, and load it.
 * Unreadable files are errors in @report (-EINVAL), a missing directory too.
 */
int policy_set_load_path(const char *path, uint64_t generation, struct policy_set **out,
			 struct policy_report *report);

void policy_set_free(struct policy_set *set);

struct policy_summary {
	unsigned policies, rules, enforcing_rules;
	bool enforces;	     /* some rule in enforce mode denies or kills */
	bool fails_closed;   /* some such rule is on_failure: closed */
	bool replication;    /* some such rule may match a replication command */
	bool needs_identity; /* some such rule matches on identity or names an exception */
	uint64_t generation;
};

void policy_set_summary(const struct policy_set *set, struct policy_summary *summary);

/* Force every policy to @mode (dbfenced's ENFORCE=1 / --shadow). Before the set is shared. */
void policy_set_force_mode(struct policy_set *set, enum policy_mode mode);

/* Decide. Pure: same input, same answer; nothing allocated. */
void policy_eval(const struct policy_set *set, const struct sql_facts *facts,
		 const struct identity *who, struct policy_decision *decision);

/*
 * Decide where nobody could judge (statement lost, verdict late): deny when an enforcing closed
 * policy's `match` covers @who, else allow. The decision says by_fail_mode.
 */
void policy_eval_undecided(const struct policy_set *set, const struct identity *who,
			   struct policy_decision *decision);

/*
 * Compile what the kernel looks for: an automaton over the bytes whose words' absence proves that
 * no enforcing rule can match the text. When that cannot be had (a rule without textual condition,
 * or too many words) the screen is `match_all`. A set that enforces nothing gives an empty screen.
 */
int policy_compile_screen(const struct policy_set *set, struct dbf_screen *screen);

/* `dbfence policy explain`: facts, effects, which rule, why not the others, as text. */
void policy_explain(const struct policy_set *set, const struct sql_facts *facts,
		    const struct identity *who, struct buf *out);

#endif
