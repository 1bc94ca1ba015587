// SPDX-License-Identifier: Apache-2.0
#include "policy/glob.h"

#include <string.h>
#include <strings.h>

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c;
}

bool glob_has_wildcard(const char *text)
{
	return strpbrk(text, "*?") != NULL;
}

void glob_compile(struct glob *glob, const char *text, bool fold)
{
	size_t len = strlen(text);

	*glob = (struct glob){.kind = GLOB_GENERAL, .fold = fold, .text = text, .part = text};
	if (!glob_has_wildcard(text)) {
		glob->kind = GLOB_EXACT;
		glob->part_len = len;
	} else if (len == 1 && text[0] == '*') {
		glob->kind = GLOB_ANY;
	} else if (text[len - 1] == '*' && strcspn(text, "*?") == len - 1) {
		glob->kind = GLOB_PREFIX;
		glob->part_len = len - 1;
	} else if (text[0] == '*' && !glob_has_wildcard(text + 1)) {
		glob->kind = GLOB_SUFFIX;
		glob->part = text + 1;
		glob->part_len = len - 1;
	}
}

/* The classic two-pointer walk: only the last star is ever retried, so the cost is at most |p| *
 * |s|. */
static bool match_general(const char *p, const char *s, bool fold)
{
	const char *star = NULL, *resume = NULL;

	while (*s) {
		if (*p == '*') {
			star = p++;
			resume = s;
		} else if (*p == '?' || *p == *s || (fold && lower(*p) == lower(*s))) {
			p++;
			s++;
		} else if (star) {
			p = star + 1;
			s = ++resume;
		} else {
			return false;
		}
	}
	while (*p == '*')
		p++;
	return !*p;
}

bool glob_match(const struct glob *glob, const char *s)
{
	size_t len;

	switch (glob->kind) {
	case GLOB_ANY:
		return true;
	case GLOB_EXACT:
		return glob->fold ? !strcasecmp(glob->text, s) : !strcmp(glob->text, s);
	case GLOB_PREFIX:
		return glob->fold ? !strncasecmp(glob->part, s, glob->part_len)
				  : !strncmp(glob->part, s, glob->part_len);
	case GLOB_SUFFIX:
		len = strlen(s);
		if (len < glob->part_len)
			return false;
		s += len - glob->part_len;
		return glob->fold ? !strcasecmp(glob->part, s) : !strcmp(glob->part, s);
	case GLOB_GENERAL:
		break;
	}
	return match_general(glob->text, s, glob->fold);
}

const char *glob_literal(const char *text, size_t *len)
{
	const char *best = text;
	size_t best_len = 0, n;

	while (*text) {
		n = strcspn(text, "*?");
		if (n > best_len) {
			best = text;
			best_len = n;
		}
		text += n;
		if (*text)
			text++;
	}
	*len = best_len;
	return best;
}
