/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection's PostgreSQL protocol: framed messages of both directions in, executions and their replies out.
 *
 * The kernel side frames; this says what a reply answers. What the client asked for waits in a queue, and the replies
 * consume it in order, as the protocol promises:
 *
 *   client   P(s1,text) B(p,s1) D(p) E(p) S  Q(text)            queue: P B D E S Q
 *   server   1          2       T    C    Z  T .. C Z           1→P 2→B T→D C→E Z→S, then all up to Z →Q
 *
 * Names are resolved when the reply comes, never when the request is sent: only then is it settled whether the Parse
 * before a pipelined Bind succeeded, which is how the server resolves them too. (PostgreSQL documentation, "Message Flow";
 * src/backend/tcop/postgres.c.) So
 *
 *   - a statement's name means its text once '1' came; a named Parse that failed leaves the old text, an unnamed one
 *     leaves none; a simple query drops the unnamed statement; '3' removes a name. A portal keeps the text that its name
 *     had at '2', and dies at the end of the transaction.
 *   - an error skips everything up to the next Sync in the extended protocol; nothing after a Query or FunctionCall.
 *   - while data is copied in, the server swallows Sync and Flush until CopyDone or CopyFail: libpq sends one Sync
 *     behind Execute and one more behind CopyDone, and only the second is answered. When the copy failed before the
 *     server read anything, the first was not swallowed: both are answered then. Which it was shows in what comes.
 *
 * Doubt is handed on, never resolved by a guess: a text that was cut or overlapped (flags), a name that is not known
 * because the connection was joined, a name that may mean another text since something was lost. After a loss, and where
 * a reply does not fit what waits, all that waits is handed out as lost, and replies are matched again from the next
 * point at which nothing can be outstanding: with a client that was never seen to send a request before the last was answered,
 * at its next one; with one that pipelines, when as many ReadyForQuery came as could still come, or when it sends its next
 * request a second after the last ReadyForQuery.
 *
 * Pure: no clock, no I/O; what all connections together may keep is the caller's struct pgwire_pool.
 */
#ifndef DBFENCE_PROTO_PGWIRE_H
#define DBFENCE_PROTO_PGWIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dbfence/abi/wire.h"

#define PGWIRE_NAME_BYTES DBF_NAME_BYTES /* PostgreSQL's NAMEDATALEN: longer names are cut, as there */

enum pgwire_start { PGWIRE_START_NONE, PGWIRE_SESSION, PGWIRE_CANCEL, PGWIRE_SSL, PGWIRE_GSS, PGWIRE_START_MAX };

struct pgwire_startup {
	enum pgwire_start kind;
	char user[PGWIRE_NAME_BYTES];
	char database[PGWIRE_NAME_BYTES];
	char application[PGWIRE_NAME_BYTES];
	bool replication;
	uint32_t cancel_pid; /* of PGWIRE_CANCEL: the backend that is to stop */
};

enum pgwire_form { PGWIRE_SIMPLE, PGWIRE_EXTENDED, PGWIRE_FASTPATH, PGWIRE_REPLICATION };

enum pgwire_flag {
	PGWIRE_CUT = 1,		/* only the beginning of the text was kept */
	PGWIRE_MINIMUM = 2,	/* and its length is not known */
	PGWIRE_NAMELESS = 4,	/* no text: what its name stands for was not seen */
	PGWIRE_DOUBTFUL = 8,	/* the name may stand for another text: something was lost since */
	PGWIRE_OVERLAP = 16,	/* bytes came twice: what is here may not be what the server took */
	PGWIRE_LOST = 32,	/* it cannot be told what became of it */
	PGWIRE_AGAIN = 64,	/* a portal that goes on: ->handle is what the first run() gave */
};

struct pgwire_run {
	enum pgwire_form form;
	const char *text; /* borrowed, not NUL-terminated */
	size_t captured;
	uint64_t length;
	uint32_t flags; /* enum pgwire_flag */
	const char *name; /* of the statement, "" unnamed; borrowed */
	uint64_t start_ns;
	uint32_t oid; /* of a function call */
	uint64_t handle;
	uint64_t mark; /* as pgwire_mark() was given for its message, or for one that it builds on; 0 none */
};

struct pgwire_reply {
	char type;
	const char *bytes; /* what was kept of the payload */
	size_t captured;
	uint32_t length;
	uint64_t rows, row_bytes; /* DataRow or CopyData since the reply before */
	uint64_t bytes_in, bytes_out; /* for the statement that runs, since the reply before */
	uint64_t ts;
};

enum pgwire_loss { PGWIRE_LOSS_NONE, PGWIRE_LOSS_MISMATCH, PGWIRE_LOSS_LIMIT, PGWIRE_LOSS_MAX };

struct pgwire_ops {
	void (*startup)(void *ctx, const struct pgwire_startup *s);
	/* Something begins to be answered, or is handed out as lost. The value comes back as ->handle. */
	uint64_t (*run)(void *ctx, const struct pgwire_run *run);
	/*
	 * Replies that concern the statement that runs (C I s E V G H W), the transaction (Z) or the session (R S K).
	 * An E that belongs to no statement comes without a run before it.
	 */
	void (*reply)(void *ctx, const struct pgwire_reply *reply);
	/* A reply did not fit, or there was no room: @ops executions are lost by it, those that wait are handed out behind this. */
	void (*loss)(void *ctx, enum pgwire_loss why, unsigned ops);
};

/* What all connections keep together. Zeroed is empty. */
struct pgwire_pool {
	size_t text_bytes;
	size_t ops, names;
	uint64_t texts_limited, ops_limited, names_limited, mismatches;
};

struct pgwire;

/* @pool, @ops and @ctx are borrowed. @joined: it was there before us. NULL when memory is out. */
struct pgwire *pgwire_new(struct pgwire_pool *pool, const struct pgwire_ops *ops, void *ctx, bool joined);
void pgwire_free(struct pgwire *w);
/* Of a joined one: how its start-up message was, the code first. Calls ->startup(), unless that is no session's. */
void pgwire_began(struct pgwire *w, const char *bytes, size_t len);

/*
 * One message of direction @dir: its type as the protocol has it, or DBF_WIRE_STARTUP, DBF_WIRE_ANSWER; 'D' and 'd' are
 * runs. @item->captured bytes stand at @bytes. With DBF_WIRE_ITEM_MORE the rest follows by pgwire_more().
 */
void pgwire_feed(struct pgwire *w, enum dbf_wire_dir dir, const struct dbf_wire_item *item, const void *bytes, uint64_t ts);
void pgwire_more(struct pgwire *w, enum dbf_wire_dir dir, const void *bytes, size_t len, bool more, uint64_t ts);

/* Bytes of @dir are missing from here on, until pgwire_resync(). */
void pgwire_gap(struct pgwire *w, enum dbf_wire_dir dir, uint64_t ts);
/* The framing of @dir is not known yet, of a connection that was joined: pgwire_resync() tells when. */
void pgwire_unframed(struct pgwire *w, enum dbf_wire_dir dir);
/* From here on messages of @dir are whole again. */
void pgwire_resync(struct pgwire *w, enum dbf_wire_dir dir, uint64_t ts);
/* The message of @dir before this, and the next one, may not be what the other end took. */
void pgwire_doubt(struct pgwire *w, enum dbf_wire_dir dir);
/* The connection is over: what waits is handed out, without a reply. */
void pgwire_end(struct pgwire *w, uint64_t ts);

/*
 * What the client's last Query, Parse, Bind, Execute or FunctionCall would run if everything before it succeeds: the
 * reading at request time. PGWIRE_DOUBTFUL when it would run another text if something before it fails. False when the last message was none of them. The text is borrowed, until the next call.
 */
bool pgwire_pending_text(const struct pgwire *w, struct pgwire_run *out);
/* The client's last message waits for nothing that it sent before. */
bool pgwire_alone(const struct pgwire *w);
/*
 * Remember @mark with the client's last message: it comes back in its run, or, of a Parse or Bind that the server took, in
 * the first run of what it made.
 */
void pgwire_mark(struct pgwire *w, uint64_t mark);
/* The message with @mark never gets to the server, nor does what the client sent, or sends, behind it: it is the last that runs. */
void pgwire_withheld(struct pgwire *w, uint64_t mark);

typedef bool (*pgwire_text_fn)(void *ctx, const struct pgwire_run *run);

/*
 * Hand out every text that a Bind or Execute of this connection could still run, until @fn says false. True when @fn
 * never did, and no name can exist that is not known.
 */
bool pgwire_each_text(const struct pgwire *w, pgwire_text_fn fn, void *ctx);
/* How often a named statement went, or got another text: as long as it does not grow, every named text is still there. */
uint64_t pgwire_gone(const struct pgwire *w);

/* Nothing is outstanding that replies could belong to. */
bool pgwire_idle(const struct pgwire *w);

#endif
