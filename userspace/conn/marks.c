// SPDX-License-Identifier: Apache-2.0
#include "conn/marks.h"

#include "conn/state.h"
#include "conn/wire.h"
#include "dbfence/abi/wire.h"

#define COPY_PIECES 4 /* of one request, marked each */

/* Three words that are not of one mark do not fit its name. */
static bool find(const struct dbf_wire_mark *marks, uint64_t conn, enum dbf_wire_dir dir, uint32_t seq,
		 struct dbf_wire_mark *mark)
{
	uint64_t name = dbf_wire_mark_name(conn, dir, seq);
	const struct dbf_wire_mark *at = &marks[dbf_wire_mark_index(name)];

	mark->ns = __atomic_load_n(&at->ns, __ATOMIC_RELAXED);
	mark->info = __atomic_load_n(&at->info, __ATOMIC_RELAXED);
	mark->check = __atomic_load_n(&at->check, __ATOMIC_RELAXED);
	return (mark->check ^ mark->ns ^ mark->info) == name;
}

/* When the request that fills the span was sent; 0 when no one request does. */
static uint64_t request(const struct dbf_wire_mark *marks, uint64_t conn, uint32_t from, uint32_t to)
{
	struct dbf_wire_mark mark;

	for (unsigned i = 0; i < COPY_PIECES; i++) {
		if (!find(marks, conn, DBF_WIRE_CLIENT, to, &mark))
			return 0;
		to = (uint32_t)mark.info;
		if (to == from)
			return mark.ns;
		if (!(mark.info & DBF_WIRE_MARK_COPY))
			return 0;
	}
	return 0;
}

void marks_take(struct conn_table *t, struct conn_session *s, const struct dbf_tcp_at *at, uint64_t ts)
{
	struct conn_state *cs = s->state;
	uint32_t from = cs->tcp_read;
	uint64_t since = cs->tcp_ns, conn;
	struct dbf_wire_mark response;

	cs->turn = (struct marks_turn){ 0 };
	if (!at->read && !at->written)
		return;
	cs->tcp_read = at->read;
	cs->tcp_ns = ts;
	if (!t->marks || !cs->wire)
		return;
	conn = cs->wire->session->start;
	/* A sequence number comes again every 4 GB; what is as old as that is not of this cycle. */
	if (find(t->marks, conn, DBF_WIRE_SERVER, at->written, &response) && response.ns >= ts)
		cs->turn.response_ns = response.ns;
	if (!since || from == at->read)
		return;
	cs->turn.request_ns = request(t->marks, conn, from, at->read);
	if (cs->turn.request_ns < since || cs->turn.request_ns > ts)
		cs->turn.request_ns = 0;
	if (cs->turn.request_ns)
		cs->turn.bytes_in = at->read - from;
}
