/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A YAML text as a tree of nodes that remember where they stood. Only what policies need: mappings,
 * lists and scalars. Anchors, aliases, tags, duplicate keys, keys that are not scalars, NUL bytes,
 * and depth or size beyond the limits are refused here, so that the loader above sees only sane
 * trees.
 */
#ifndef DBFENCE_POLICY_YAML_H
#define DBFENCE_POLICY_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/arena.h"
#include "policy/policy.h"

#define YAML_DEPTH 16		/* levels of nesting; a policy needs seven */
#define YAML_NODES (256 * 1024) /* nodes of one file */

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };

struct yaml_node {
	enum yaml_kind kind;
	bool plain;	       /* a scalar without quotes: may be a number or a bool */
	unsigned line, column; /* from 1 */
	const char *value;     /* scalar: NUL-terminated, holds no NUL */
	size_t len;
	struct yaml_node **items; /* list: items; map: key, value, key, value … */
	unsigned cnt;		  /* of items; twice the pairs for a map */
};

struct yaml_docs {
	struct yaml_node **docs; /* owned: the arena */
	unsigned cnt;
};

/*
 * Parse all documents of @src into @arena. 0; -EINVAL with findings in @report; -ENOMEM. Only reads
 * @src.
 */
int yaml_parse_docs(struct arena *arena, const struct policy_source *src, struct yaml_docs *docs,
		    struct policy_report *report);

/* The value of @key, or NULL. @map must be a map. */
struct yaml_node *yaml_lookup(const struct yaml_node *map, const char *key);
/* "a list", "a mapping", "the text 'x'": for messages, into @buf. Returns @buf. */
const char *yaml_describe(const struct yaml_node *node, char *buf, size_t len);
/* One finding at a place. An error unless @warning. */
void yaml_finding(struct policy_report *report, const char *file, const struct yaml_node *at,
		  bool warning, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

#endif
