/* SPDX-License-Identifier: Apache-2.0 */
/* Private to proto/: a connection's state, shared by pgwire.c (replies), pgwire_request.c (requests) and pgwire_names.c. */
#ifndef DBFENCE_PROTO_PGWIRE_PRIVATE_H
#define DBFENCE_PROTO_PGWIRE_PRIVATE_H

#include "proto/pgwire.h"

/* A statement's text, shared by the message that brought it, the name that stands for it and the portals made of it. */
struct pgwire_text {
	unsigned refs;
	uint32_t flags; /* PGWIRE_CUT, PGWIRE_MINIMUM, PGWIRE_OVERLAP */
	size_t captured;
	uint64_t length;
	char bytes[];
};

struct pgwire_name {
	struct pgwire_name *next;
	struct pgwire_text *text; /* owned reference; NULL: not seen */
	uint64_t handle;	  /* of a portal's first run */
	uint64_t mark;		  /* of the message that made it, until it runs */
	bool started;		  /* a portal that ran */
	bool doubtful;
	bool loose; /* SQL may have deallocated it */
	char of[PGWIRE_NAME_BYTES]; /* of a portal: its statement's name */
	char name[PGWIRE_NAME_BYTES];
};

struct pgwire_names {
	struct pgwire_name **buckets; /* owned */
	unsigned size, cnt;	      /* size: 0 or a power of two */
	uint64_t gone;		      /* texts that a name (not the empty one) stood for, and does no more */
};

/* What a connection keeps, and what all of them do. */
struct pgwire_share {
	struct pgwire_pool *pool; /* borrowed */
	size_t text_bytes;
	unsigned ops, names;
};

bool pgwire_fits(size_t mine, size_t all, size_t min, size_t max, size_t total);
/* How many more bytes of text this connection may keep. */
size_t pgwire_text_room(const struct pgwire_share *share);

/* Copies as much of @bytes as there is room for. NULL when memory is out. */
struct pgwire_text *pgwire_text_new(struct pgwire_share *share, const char *bytes, size_t len, uint64_t length,
				    uint32_t flags);
struct pgwire_text *pgwire_text_ref(struct pgwire_text *text);
void pgwire_text_drop(struct pgwire_share *share, struct pgwire_text *text);

struct pgwire_name *pgwire_names_find(const struct pgwire_names *names, const char *name);
/* Stands for @text from now on, which gets a reference more. False when there is no room: the name is not known then. */
bool pgwire_names_set(struct pgwire_names *names, struct pgwire_share *share, const char *name, struct pgwire_text *text,
		      const char *of, bool doubtful);
void pgwire_names_remove(struct pgwire_names *names, struct pgwire_share *share, const char *name);
void pgwire_names_clear(struct pgwire_names *names, struct pgwire_share *share);
void pgwire_names_fini(struct pgwire_names *names, struct pgwire_share *share);
void pgwire_names_doubt(struct pgwire_names *names);
bool pgwire_names_each(const struct pgwire_names *names, bool portals, pgwire_text_fn fn, void *ctx);
/* SQL deallocated some name, or prepared one: of those that may have gone some may be back with another text. */
void pgwire_names_loosen(struct pgwire_names *names);
void pgwire_names_reuse(struct pgwire_names *names);

#define PGWIRE_HEAD_BYTES 5		/* of a message: its type and its length */
#define PGWIRE_OP_STARTUP DBF_WIRE_STARTUP

struct op { /* a request that is not answered; its type is the message's, or PGWIRE_OP_STARTUP */
	struct op *next, *prev;
	struct pgwire_text *text; /* owned reference; of Query and Parse */
	uint64_t ts;
	uint64_t bytes;
	uint64_t mark;
	uint32_t oid;
	char type;
	char kind; /* of Describe and Close: 'S' or 'P' */
	bool begun;
	bool swallowed; /* a Sync that the server may have read while data was copied in */
	bool overlap;
	bool names_cut; /* the names were not captured whole */
	bool withheld;
	const char *name, *portal; /* in names[] */
	char names[];
};

struct assembly { /* of a message that comes in pieces */
	bool open, overlap, cut;
	struct dbf_wire_item item;
	uint64_t ts;
	char *buf; /* owned */
	size_t len, cap;
};

struct pgwire {
	struct pgwire_share share;
	const struct pgwire_ops *ops; /* borrowed */
	void *ctx;
	struct op *head, *tail;
	struct pgwire_names statements, portals;
	struct assembly parts[2];
	bool framed[2];
	bool doubt_next[2];
	bool started;	  /* the start-up packet was seen, or it was joined */
	bool replication;
	bool names_known; /* no name can exist that was not seen */
	bool lost;	  /* replies cannot be matched */
	bool last_was_ready; /* the server's last word was ReadyForQuery, then: */
	uint64_t last_ts;
	bool owed_known;
	unsigned owed; /* while lost: no more ReadyForQuery can come for what was sent */
	bool group_ended; /* the client's last request ends a group: Sync, Query, FunctionCall */
	bool pipelines;	  /* it has sent a group before the one before was answered */
	bool skipping;	  /* an error: the server reads up to Sync */
	bool copying;	  /* data is copied in for the request at the head */
	unsigned passed;  /* Syncs that were taken for swallowed; if they were not, their answers are still to come */
	uint64_t rows, row_bytes, bytes_in, bytes_out;
};

/* pgwire.c */
bool pgwire_ends_group(char type);
void pgwire_run_of_text(struct pgwire_run *run, const struct pgwire_text *text);
/* What @name stands for now. False when it stands for nothing, for certain. */
bool pgwire_run_of_name(const struct pgwire *w, struct pgwire_run *run, const char *name, bool portal, bool cut);
/* What @op runs, or would have run: false when that is nothing. */
bool pgwire_run_of(const struct pgwire *w, const struct op *op, struct pgwire_run *run);
/* All that waits is handed out as lost, and nothing can be matched for now. @more executions found no room. */
void pgwire_lose(struct pgwire *w, enum pgwire_loss why, unsigned more);

/* pgwire_request.c */
void pgwire_read_request(struct pgwire *w, const struct assembly *m);

#endif
