// SPDX-License-Identifier: Apache-2.0
#include "source/urgent.h"

#include <stdlib.h>
#include <string.h>

#define WAITING_MAX DBF_HOLD_SLOTS /* no more can be held at once; what is beyond waits for its turn */

struct waiting {
	uint64_t pos; /* of the record with the hold */
	uint64_t session;
	uint32_t tgid;
	bool is_long;
};

struct urgent {
	struct ring *ring;  /* borrowed */
	uint64_t looked_at; /* records before this one */
	struct waiting waiting[WAITING_MAX];
	unsigned cnt;
};

struct urgent *urgent_new(struct ring *ring)
{
	struct urgent *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->ring = ring;
	u->looked_at = ring_tail(ring);
	return u;
}

void urgent_free(struct urgent *u)
{
	free(u);
}

/* The header of a record that is long enough to have one; NULL otherwise. */
static const struct dbf_batch *header(const void *record, size_t len)
{
	return record && len >= sizeof(struct dbf_batch) ? record : NULL;
}

/* Note who waits among the records that came since the last look. */
static void look(struct urgent *u)
{
	const struct dbf_batch *b;
	const void *record;
	uint64_t next;
	size_t len;

	if (u->looked_at < ring_tail(u->ring))
		u->looked_at = ring_tail(u->ring);
	while (ring_peek(u->ring, u->looked_at, &record, &len, &next)) {
		b = header(record, len);
		if (b && b->flags & DBF_BATCH_HOLD && u->cnt < WAITING_MAX)
			u->waiting[u->cnt++] = (struct waiting){
				.pos = u->looked_at, .session = b->session, .tgid = b->tgid,
				.is_long = b->flags & DBF_BATCH_HOLD_LONG,
			};
		u->looked_at = next;
	}
}

/* Take the next one out of the list: the first with a short text, else the first. */
static bool choose(struct urgent *u, struct waiting *out)
{
	unsigned at = 0;

	if (!u->cnt)
		return false;
	while (at < u->cnt && u->waiting[at].is_long)
		at++;
	if (at == u->cnt)
		at = 0;
	*out = u->waiting[at];
	u->cnt--;
	memmove(&u->waiting[at], &u->waiting[at + 1], (u->cnt - at) * sizeof(*out));
	return true;
}

bool urgent_take(struct urgent *u, ring_record_fn fn, void *ctx)
{
	const struct dbf_batch *b;
	struct waiting w;
	const void *record;
	uint64_t pos, next;
	size_t len;

	look(u);
	if (!choose(u, &w))
		return false;
	for (pos = ring_tail(u->ring); pos <= w.pos; pos = next) {
		if (!ring_peek(u->ring, pos, &record, &len, &next))
			break;
		b = header(record, len);
		if (!b || b->session != w.session || b->tgid != w.tgid)
			continue;
		fn(ctx, record, len);
		ring_mark_taken(u->ring, pos);
	}
	return true;
}
