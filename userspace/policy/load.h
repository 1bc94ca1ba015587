/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the halves of the loader share: load.c (documents, policies, rules) and load_clause.c
 * (match, when, unless). Findings go to the report and loading continues, so that one run shows all
 * of them; only running out of memory stops it.
 */
#ifndef DBFENCE_POLICY_LOAD_H
#define DBFENCE_POLICY_LOAD_H

#include "policy/set.h"
#include "policy/yaml.h"

struct loader {
	struct arena *arena;	      /* borrowed: the set's */
	struct policy_report *report; /* borrowed */
	const char *file;	      /* lives in the set's arena */
	char where[128];	      /* "rule 'x': ", or "" */
	bool oom;
};

struct loader_key {
	const char *name;
	void (*load)(struct loader *l, const struct yaml_node *value, void *into);
	bool required;
};

/* Every key of the language, for documentation tests and suggestions; NULL behind the last. */
const char *policy_keyword_at(unsigned idx);
extern const char *const policy_clause_keywords[];

void loader_error(struct loader *l, const struct yaml_node *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void loader_warning(struct loader *l, const struct yaml_node *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Walk a mapping by @keys; unknown and missing ones are findings. @what: "spec". False unless it is
 * a mapping. */
bool loader_map(struct loader *l, const struct yaml_node *map, const char *what,
		const struct loader_key *keys, unsigned cnt, void *into);
/* The text of a scalar that is not empty, copied into the set; NULL after a finding. */
const char *loader_text(struct loader *l, const struct yaml_node *value, const char *what,
			size_t max);
/* True for a list with one to LIMIT_POLICY_LIST entries, else a finding. */
bool loader_list(struct loader *l, const struct yaml_node *value, const char *what);
void *loader_array(struct loader *l, size_t cnt, size_t size);

/* spec.match, a rule's when and unless. */
void load_match(struct loader *l, const struct yaml_node *value, void *who_matcher);
void load_when(struct loader *l, const struct yaml_node *value, void *clause);
void load_unless(struct loader *l, const struct yaml_node *value, void *clause);

#endif
