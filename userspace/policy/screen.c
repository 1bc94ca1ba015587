// SPDX-License-Identifier: Apache-2.0
/*
 * The screen: necessary words to an Aho-Corasick automaton in the form that the probes run.
 *
 * The absence of every word proves that no enforcing rule matches what the text says. It proves
 * nothing about texts that are incomplete: those never reach the screen as a whole and are
 * undecided. A text that the parser here cannot read, but that holds no word, is passed: whatever
 * it means to a newer server, the keywords of the denied effects are not in it.
 *
 * Bytes are mapped to classes first: letters without case, everything that ends an identifier as
 * one, and what no word uses as class 0. If words do not fit into the automaton they are shortened,
 * since a word's beginning is as necessary as the word; if that is not enough, the screen lets
 * every text be a candidate.
 *
 * Words that only rules of open policies need are marked, so that a text which nobody can judge falls
 * by the fail mode of those that need it judged. Without a closed policy there is nothing to mark.
 */
#include "policy/words.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MIN 4 /* shorter beginnings would be in every text */

static void screen_match_all(struct dbf_screen *screen)
{
	memset(screen, 0, sizeof(*screen));
	screen->match_all = DBF_SCREEN_ALL;
	screen->state_cnt = 1;
}

/* Bytes above 0x7f continue an identifier; the three left out stand in words of their own. */
static bool ends_identifier(unsigned byte)
{
	if ((byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
	    (byte >= 'a' && byte <= 'z'))
		return false;
	return byte != '_' && byte != '$' && byte != '"' && byte != '&' && byte != '\\';
}

/* 0, or -E2BIG with more classes than the table has. */
static int make_classes(const struct words *words, struct dbf_screen *screen)
{
	unsigned cnt = 1;

	for (unsigned i = 0; i < words->cnt; i++)
		for (unsigned c = 0; c < words->v[i].len; c++) {
			unsigned char byte = (unsigned char)words->v[i].text[c];

			if (screen->class_of[byte])
				continue;
			if (cnt == DBF_SCREEN_CLASSES)
				return -E2BIG;
			screen->class_of[byte] = (dbf_u8)cnt++;
		}
	for (unsigned byte = 'a'; byte <= 'z'; byte++)
		screen->class_of[byte - 'a' + 'A'] = screen->class_of[byte];
	for (unsigned byte = 0; byte < 0x80; byte++)
		if (ends_identifier(byte))
			screen->class_of[byte] = screen->class_of[WORD_END];
	return 0;
}

/* The trie. A transition of 0 means none yet: nothing but the root's own failures leads to state 0.
 */
static int make_trie(const struct words *words, unsigned max_len, struct dbf_screen *screen)
{
	unsigned state, len, ends;
	dbf_u16 *next;

	screen->state_cnt = 1;
	for (unsigned i = 0; i < words->cnt; i++) {
		len = words->v[i].len < max_len ? words->v[i].len : max_len;
		ends = words->v[i].open ? DBF_SCREEN_OPEN : DBF_SCREEN_ACCEPT;
		state = 0;
		for (unsigned c = 0; c < len; c++) {
			next = &screen->next[state]
					    [screen->class_of[(unsigned char)words->v[i].text[c]]];
			/* A shorter word that says as much ends on the way: this one adds nothing. */
			if (*next & (ends | DBF_SCREEN_ACCEPT))
				break;
			if (!*next) {
				if (screen->state_cnt == DBF_SCREEN_STATES)
					return -E2BIG;
				*next = (dbf_u16)screen->state_cnt++;
			}
			state = *next & DBF_SCREEN_STATE;
			if (c + 1 == len)
				*next |= (dbf_u16)ends;
		}
	}
	return 0;
}

/* Breadth first: a missing transition is that of the longest proper suffix; an accepting suffix
 * accepts. */
static int make_links(struct dbf_screen *screen)
{
	dbf_u16 *fail = calloc(DBF_SCREEN_STATES, sizeof(*fail)),
		*queue = calloc(DBF_SCREEN_STATES, sizeof(*queue));
	unsigned head = 0, tail = 0, state, to;
	dbf_u16 *next, by_suffix;

	if (!fail || !queue) {
		free(fail);
		free(queue);
		return -ENOMEM;
	}
	for (unsigned c = 0; c < DBF_SCREEN_CLASSES; c++)
		if (screen->next[0][c])
			queue[tail++] = screen->next[0][c] & DBF_SCREEN_STATE;
	while (head < tail) {
		state = queue[head++];
		for (unsigned c = 0; c < DBF_SCREEN_CLASSES; c++) {
			next = &screen->next[state][c];
			by_suffix = screen->next[fail[state]][c];
			if (!*next) {
				*next = by_suffix;
				continue;
			}
			to = *next & DBF_SCREEN_STATE;
			fail[to] = by_suffix & DBF_SCREEN_STATE;
			*next |= by_suffix & (DBF_SCREEN_ACCEPT | DBF_SCREEN_OPEN);
			queue[tail++] = (dbf_u16)to;
		}
	}
	free(fail);
	free(queue);
	return 0;
}

static int build(struct words *words, struct dbf_screen *screen)
{
	int err = -E2BIG;

	for (unsigned max_len = WORD_MAX; err == -E2BIG && max_len >= WORD_MIN; max_len -= 2) {
		memset(screen, 0, sizeof(*screen));
		err = make_classes(words, screen);
		if (err)
			break;
		err = make_trie(words, max_len, screen);
	}
	if (!err)
		err = make_links(screen);
	if (err == -E2BIG) {
		screen_match_all(screen);
		err = 0;
	}
	return err;
}

int policy_compile_screen(const struct policy_set *set, struct dbf_screen *screen)
{
	struct policy_summary summary;
	struct words words;
	int err = 0;

	memset(screen, 0, sizeof(*screen));
	policy_set_summary(set, &summary);
	if (!summary.enforces)
		return 0;
	words_init(&words);
	words_of_set(&words, set);
	err = words.err;
	if (!err && (words.all || (!words.cnt && !words.open_all)))
		screen_match_all(screen);
	else if (!err)
		err = build(&words, screen);
	if (!err && words.open_all && !screen->match_all)
		screen->match_all = DBF_SCREEN_ALL_OPEN;
	words_fini(&words);
	return err;
}
