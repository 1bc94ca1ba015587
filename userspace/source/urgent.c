// SPDX-License-Identifier: Apache-2.0
#include "source/urgent.h"

#include <stdlib.h>
#include <string.h>

#include "source/wire.h"

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

struct owner { /* of a record */
	uint64_t session;
	uint32_t tgid; /* 0 of a connection on the wire */
	uint16_t flags;
};

/* False when the record is too short to say. */
static bool owner_of(const void *record, size_t len, struct owner *o)
{
	const struct dbf_batch *b = record;
	const struct dbf_wire *w = record;

	if (record && wire_is_record(record, len) && len >= sizeof(*w))
		*o = (struct owner){ w->conn, 0, w->flags };
	else if (record && len >= sizeof(*b))
		*o = (struct owner){ b->session, b->tgid, b->flags };
	else
		return false;
	return true;
}

/* Note who waits among the records that came since the last look. */
static void look(struct urgent *u)
{
	const void *record;
	struct owner o;
	uint64_t next;
	size_t len;

	if (u->looked_at < ring_tail(u->ring))
		u->looked_at = ring_tail(u->ring);
	while (ring_peek(u->ring, u->looked_at, &record, &len, &next)) {
		if (owner_of(record, len, &o) && o.flags & DBF_BATCH_HOLD && u->cnt < WAITING_MAX)
			u->waiting[u->cnt++] = (struct waiting){
				.pos = u->looked_at, .session = o.session, .tgid = o.tgid,
				.is_long = o.flags & DBF_BATCH_HOLD_LONG,
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
	struct owner o;
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
		if (!owner_of(record, len, &o) || o.session != w.session || o.tgid != w.tgid)
			continue;
		fn(ctx, record, len);
		ring_mark_taken(u->ring, pos);
	}
	return true;
}
