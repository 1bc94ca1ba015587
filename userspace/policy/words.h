/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words of which a text must contain at least one if a rule is to match it: the screen's input.
 * Private to this folder and its tests.
 */
#ifndef DBFENCE_POLICY_WORDS_H
#define DBFENCE_POLICY_WORDS_H

#include "policy/set.h"

#define WORD_MAX 24 /* a word's beginning is as necessary as the word */

#define WORD_END                                                                                   \
	' ' /* in a word: any ASCII byte that is no part of an identifier, " & and \ excepted */

struct word {
	unsigned char len;
	bool open; /* only rules of open policies need it, and there are closed ones */
	char text[WORD_MAX]; /* lower case, ASCII; WORD_END for what ends an identifier */
};

struct words {
	struct word *v; /* owned */
	unsigned cnt, cap;
	bool open;  /* what is added is needed by rules of open policies only */
	bool all;   /* no set of words is necessary: every text is a candidate */
	bool names; /* some words are names, which can be written with escapes */
	bool open_all, open_names; /* the same, for what was added as open */
	int err;    /* -ENOMEM, sticky */
};

void words_init(struct words *words);
void words_fini(struct words *words);
/* Sorted, without duplicates and without words that contain another one that says as much. */
void words_tidy(struct words *words);

/* The necessary words of one effect, of one rule, and of all enforcing rules that deny or kill. */
void words_of_effect(struct words *words, enum sql_effect effect);
void words_of_rule(struct words *words, const struct rule *rule);
void words_of_set(struct words *words, const struct policy_set *set);

#endif
