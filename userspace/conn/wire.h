/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections that are followed on the wire: kernel records to sessions. What a reply answers is proto/pgwire's matter;
 * here statements are made of it when the first reply to them comes, and go through the same life as the server vantage's.
 *
 * One execution, one record. When the process at the server's end is a session of the server vantage, that session's
 * records stand, and the connection makes none; it lends the session what only it knows: the client's process behind an
 * address that was translated, what each end's address looks like to the other, and through marks.c the times and bytes of
 * its requests. Which of the two is seen first does not matter, because nothing of a
 * connection is told before its server's ReadyForQuery, and then it is settled: a backend's own facts are in the ring
 * before the reply that ends its cycle is sent (they are sent from the function that sends it), and a connection's
 * statements are handed out by that reply. So at ReadyForQuery either the backend's session is known, and all that was
 * gathered is dropped, because the backend has told the same; or it is no session of the server vantage. When the
 * backend's facts found no room in the ring there is no other record, so the connection's stands; should the backend be
 * seen later, its connection ends there ("seen at the server").
 * What is encrypted has no ReadyForQuery: with the server's end on this node it is told after two seconds, by when a
 * backend has said who it is, or when the connection ends.
 *
 * A connection that another reader was told of before opens again, with its start-up message (DBF_WIRE_AGAIN): whose it is
 * stays known. What it calls itself is forgotten when parameters changed since, for it may be among them.
 *
 * The client's address is the client's own, the server's the server's own, as far as each end is on this node; where the
 * other end sees another, that is kept beside it.
 *
 * A process at a server's end that is itself a client is a pooler: the execution is recorded for the leg behind it, and
 * the leg to it is marked. Backends are clients too (dblink, foreign tables) and are told from poolers by their name.
 */
#ifndef DBFENCE_CONN_WIRE_H
#define DBFENCE_CONN_WIRE_H

#include "conn/peers.h"
#include "conn/state.h"
#include "dbfence/abi/wire.h"
#include "proto/pgwire.h"

struct conn_wire_dir {
	bool seen; /* next_seq is valid */
	uint32_t next_seq, lost_records, lost_execs;
	uint64_t bytes;
};

#define CONN_WIRE_VERDICTS 64 /* of messages that are not answered; more than the kernel stops of one connection */

struct conn_wire_verdict {
	uint64_t mark; /* 0: free */
	struct conn_verdict verdict;
};

struct conn_wire {
	struct conn_wire_verdict *verdicts; /* owned; NULL before the first. By mark */
	uint64_t last_mark;
	struct stmt *parting;	      /* owned: stopped before it was seen whose session it is, and not known yet how that ended */
	struct conn_table *table;     /* borrowed */
	struct conn_session *session; /* borrowed: the connection's own */
	struct conn_session *server;  /* borrowed: the session that it is seen as, while that lives */
	struct pgwire *protocol;      /* owned; NULL once nothing more is to be read from it */
	struct peer *server_peer;
	struct conn_wire *next_here;   /* of the same process at the server's end */
	struct conn_wire *next_opaque; /* that waits to be told */
	struct conn_wire_dir dirs[2];
	struct dbf_wire_open ends[2];
	struct dbf_wire_who who[2];
	bool end_seen[2], who_seen[2], closed[2];
	bool reset;
	bool joined;
	bool merged;	/* it is another session's: no record */
	bool told;	/* its opening was recorded */
	bool failed;	/* to authenticate */
	bool cancels;	/* it only asked to cancel */
	bool opaque, opaque_waits;
	bool gap;	/* not told yet */
	bool changed;	/* parameters were, before this reader */
	bool utf8, strings_known;
	const char *opaque_reason;
	uint32_t gap_records, gap_execs;
	uint64_t opaque_ns;
	uint64_t running; /* id of the statement that the next reply is about */
};

/* One ring record that wire_is_record(). */
void conn_wire_feed(struct conn_table *t, const void *record, size_t len);

/* @s has just been made by the server vantage: is it a connection's? */
void conn_wire_find(struct conn_table *t, struct conn_session *s);
/* Adds to @s, a server's session, what its connection knows. */
void conn_wire_enrich(struct conn_table *t, struct conn_session *s);
/* @s is about to be freed, of whatever vantage. */
void conn_wire_forget(struct conn_table *t, struct conn_session *s);
/* Ends @s, a connection that is to make room. */
void conn_wire_evict(struct conn_session *s);
/* Tells of @event, or keeps it until it is settled whose records stand. For sessions of every vantage. */
void conn_wire_session(struct conn_table *t, struct conn_session *s, enum conn_event event, const char *reason);

/* For wire_verdict.c: what @run runs, in no list. NULL when there is no room. */
struct stmt *conn_wire_new_statement(struct conn_wire *w, const struct pgwire_run *run);

#endif
