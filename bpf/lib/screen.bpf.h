/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Rank 4. Runs the screen's automaton over a text: can any enforcing rule match at all, and one of a closed policy? */
#ifndef DBF_SCREEN_BPF_H
#define DBF_SCREEN_BPF_H

#include "lib/maps.bpf.h"

#define SCREEN_STRIDE 32

enum screen_found { SCREEN_NOTHING, SCREEN_OPEN, SCREEN_CLOSED };

struct screening {
	struct dbf_screen *screen;
	const struct piece *text;
	u32 len;
	u32 state;
	u32 found;
};

static long screen_step(u32 i, struct screening *s)
{
	u32 at = i * SCREEN_STRIDE;

	for (u32 k = 0; k < SCREEN_STRIDE; k++) {
		u8 byte, class;
		u16 next;

		if (at + k >= s->len)
			return 1;
		byte = s->text->bytes[bounded_max(at + k, DBF_TEXT_CHUNK)];
		class = s->screen->class_of[byte];
		next = s->screen->next[s->state & (DBF_SCREEN_STATES - 1)]
				      [class & (DBF_SCREEN_CLASSES - 1)];
		s->state = next & DBF_SCREEN_STATE;
		if (next & DBF_SCREEN_ACCEPT) {
			s->found = SCREEN_CLOSED;
			return 1;
		}
		if (next & DBF_SCREEN_OPEN)
			s->found = SCREEN_OPEN;
	}
	return 0;
}

/* enum screen_found: anything but NOTHING makes the text a candidate. */
GLOBAL_FN int screen_text(const struct piece *text, u32 len, u32 index)
{
	struct screening s = { .text = text, .len = len };

	if (!text)
		return SCREEN_CLOSED;
	index &= 1;
	s.screen = bpf_map_lookup_elem(&screens, &index);
	if (!s.screen || s.screen->match_all == DBF_SCREEN_ALL)
		return SCREEN_CLOSED;
	if (s.screen->match_all)
		s.found = SCREEN_OPEN;
	if (s.screen->state_cnt)
		bpf_loop(DBF_TEXT_CHUNK / SCREEN_STRIDE, screen_step, &s, 0);
	return s.found;
}

#endif
