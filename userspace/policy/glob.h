/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Patterns with * (any run, also empty) and ? (one byte), sorted by shape when they are compiled so
 * that the common ones cost one string comparison. No brackets, no escapes, never exponential.
 */
#ifndef DBFENCE_POLICY_GLOB_H
#define DBFENCE_POLICY_GLOB_H

#include <stdbool.h>
#include <stddef.h>

enum glob_kind { GLOB_EXACT, GLOB_ANY, GLOB_PREFIX, GLOB_SUFFIX, GLOB_GENERAL };

struct glob {
	enum glob_kind kind;
	bool fold;	  /* compare ASCII letters without case */
	const char *text; /* the pattern as written; borrowed: from whom compiled it */
	const char *part; /* of text: what PREFIX and SUFFIX compare */
	size_t part_len;
};

/* Never fails; @text must outlive the glob. */
void glob_compile(struct glob *glob, const char *text, bool fold);
bool glob_match(const struct glob *glob, const char *s);
bool glob_has_wildcard(const char *text);
/* The longest run of bytes that every matching string contains; *len may be 0. */
const char *glob_literal(const char *text, size_t *len);

#endif
