/* SPDX-License-Identifier: Apache-2.0 */
/* Private to conn/: a session's moving parts, shared by conn.c (table), stmt.c (life cycle), outcome.c and
 * reply.c (backend messages). */
#ifndef DBFENCE_CONN_STATE_H
#define DBFENCE_CONN_STATE_H

#include "conn/conn.h"
#include "conn/marks.h"
#include "core/limits.h"
#include "proto/pgwire.h"

#define STATE_TOPS_MAX 8192   /* statements of one cycle (a pipeline) */
#define STATE_NESTED_MAX 1024 /* distinct nested texts of one statement */
#define STATE_PARTS_MAX 1024
#define STATE_EXEC_IDS 4096 /* recent execution ids, direct mapped */
#define STATE_TEXT_MAX LIMIT_STATEMENT_BYTES

/* LOST: facts are missing since; no reply can be matched to it, only an execution with its id. */
enum stmt_state { STMT_PARSED, STMT_GATED, STMT_RUNNING, STMT_SUSPENDED, STMT_DONE, STMT_LOST };

struct stmt {
	struct conn_stmt pub;
	enum stmt_state state;
	uint64_t ptr; /* of its text, in the server */
	uint64_t portal; /* of its portal's own copy, while that lives */
	uint32_t exec_id;
	uint64_t text_hash;
	uint32_t key_mode; /* as the kernel knew it when it judged last */
	bool more; /* only the first piece of its text was here when it was made */
	bool stale; /* facts are missing since its address was told: another text may stand there */
	char *buf; /* owned: the text */
	size_t cap;
	char name[DBF_NAME_BYTES];
	char error[256];
	unsigned runs; /* Executes of its portal that are not answered */
	bool empty_query;
	bool answered; /* parsed and told so; it stays because something ran meanwhile */
	unsigned parts_cap;
	struct stmt *top;     /* of a nested one: whose list it is in */
	struct stmt **nested; /* owned; of a top-level statement */
	unsigned nested_cnt, nested_cap;
	struct stmt *next_free;
};

struct exec_ref {
	uint32_t exec_id;
	struct stmt *stmt;
};

struct conn_state {
	uint32_t next_seq;
	bool seen; /* next_seq is valid */
	uint64_t next_id;
	struct stmt **tops; /* owned; of this cycle, in order */
	unsigned top_cnt, top_cap;
	struct stmt *current;	  /* the top-level statement that runs; nested ones hang there */
	struct stmt *text_target; /* gets the next DBF_FACT_TEXT */
	struct stmt *text_check; /* has it already, by its beginning: the rest must be the same */
	size_t text_at;		 /* of text_check, where the rest begins */
	struct stmt *judged; /* of the last text: a verdict that names no execution is about it */
	struct stmt
		*parsed; /* owned; answered by '1' last: what fails before it runs is this text */
	struct stmt *held;
	struct exec_ref *refs;	/* owned; STATE_EXEC_IDS, or NULL until something is nested */
	struct dbf_reply reply; /* being assembled */
	char reply_buf[DBF_MESSAGE_BYTES];
	size_t reply_len;
	bool reply_open;
	char last_status; /* of ReadyForQuery, 'I' before the first */
	bool cycle_failed;
	bool fatal;
	char fatal_text[256];
	char fatal_sqlstate[6];
	bool xact_open, xact_implicit;
	struct conn_xact xact;
	size_t text_bytes; /* of its statements' texts */
	unsigned stmt_cnt;
	uint32_t lost;	  /* statements of this cycle that found no room */
	bool gap;	  /* something of this cycle was lost */
	bool recent;	  /* fed since the eviction's hand passed */
	uint64_t last_ts; /* of any fact */
	uint32_t lost_batches, lost_execs;
	uint64_t out_bytes; /* told to the client, and no statement's yet */
	uint32_t tcp_read;  /* where its connection had been read when it was ready last */
	uint64_t tcp_ns;    /* and when that was; 0 not known */
	struct marks_turn turn;
	struct conn_wire *wire; /* owned by a session of the wire; borrowed by the server's session that it is seen as */
	struct peer *client;	/* its client's process, counted there */
};

struct conn_table {
	struct conn_ops ops;
	void *ctx;
	struct conn_session **slots; /* open addressing by start and tgid */
	unsigned mask, cnt, hand;
	struct stmt *free_stmts;
	unsigned free_cnt, stmt_cnt;
	struct conn_counters counters;
	struct pgwire_pool wire_pool;
	struct peers *peers; /* owned */
	const struct dbf_wire_mark *marks; /* borrowed; NULL when there are none */
	struct conn_wire *opaque_first, *opaque_last; /* connections that wait to be said opaque */
};

/* conn.c */
/* NULL when memory is out. Evicts another one when the table is full. */
struct conn_session *session_new(struct conn_table *t, uint64_t start, uint32_t tgid);
/* Out of the table, and freed. */
void session_remove(struct conn_table *t, struct conn_session *s);

/* stmt.c */
/* NULL when there is no room, which is counted, and told when the cycle ends. */
struct stmt *stmt_new(struct conn_table *t, struct conn_session *s, enum conn_form form,
		      uint64_t ts);
void stmt_free(struct conn_table *t, struct stmt *st);
/* What finds no room is missing from then on, and says so. */
void stmt_set_text(struct conn_table *t, struct stmt *st, const char *bytes, size_t len);
void stmt_append_text(struct conn_table *t, struct stmt *st, const char *bytes, size_t len);
/* Adds to the cycle; frees and returns NULL when the cycle is full. */
struct stmt *stmt_add_top(struct conn_table *t, struct conn_session *s, struct stmt *st);
/*
 * Hangs below the running statement, merging with an equal text; NULL when there is no room. @ran:
 * it begins. A text that only is parsed is never merged with one that ran: what is decided about it
 * now is not what was decided then.
 */
struct stmt *stmt_add_nested(struct conn_table *t, struct conn_session *s, uint64_t parent_id,
			     struct stmt *st, bool ran);
/*
 * An Execute that was seen at its gate turns out to be @st's portal that goes on: @gated, which began nothing of its
 * own, is freed, and what was decided about it holds for @st.
 */
void stmt_absorb(struct conn_table *t, struct conn_session *s, struct stmt *st, struct stmt *gated);
bool stmt_same_text(const struct stmt *a, const struct stmt *b);
/* Free @st, which is in no list, and forget it and what hangs below it everywhere. */
void stmt_drop(struct conn_table *t, struct conn_session *s, struct stmt *st);
/* Something was executed below it. */
bool stmt_ran_inside(const struct stmt *st);
/* What ran while @st's text was parsed and bound belongs to @st, its execution. */
void stmt_adopt(struct conn_state *cs, struct stmt *st);
struct stmt *stmt_by_exec(struct conn_session *s, uint32_t exec_id);
void stmt_ref(struct conn_session *s, uint32_t exec_id, struct stmt *st);
void stmt_add_part(struct stmt *st, const char *tag, uint64_t rows, bool rows_known);
/* The cycle is over, or the session is: hand everything out. @status is 0 at the end of the
 * session. */
void stmt_end_cycle(struct conn_table *t, struct conn_session *s, char status, uint64_t ts);
/*
 * A session without a client, about which no reply tells anything, begins its next statement, or ended well: what
 * began before and had no error was executed.
 */
void stmt_settle_background(struct conn_session *s, uint64_t ts);
bool stmt_is_background(const struct conn_session *s);
/* Forget what could not be followed: after a loss. */
void stmt_mark_gap(struct conn_session *s);
void stmt_procedure_xact(struct conn_table *t, struct conn_session *s, bool commit, uint64_t ts);

/* outcome.c */
/* It was to be stopped, and that was done: by a signal, or on the wire. */
bool outcome_rejected(const struct stmt *st);
/* Fills in the outcome and the evidence. @session_end: nothing more is seen of its session. */
void outcome_decide(struct stmt *st, bool session_end);
/* The same of one that ran inside @top, which was decided. */
void outcome_decide_nested(struct stmt *st, const struct stmt *top);

/* conn.c: how the hold of @to ended. What was done about it is the vantage's to know. */
void conn_verdict_ends(struct conn_verdict *to, const struct dbf_verdict *v);

/* reply.c */
/* Bytes of @r, a server vantage's, and of what was told since the reply before: @other are of messages nobody looks at. */
void reply_count(struct conn_state *cs, const struct dbf_reply *r, uint32_t other);
void reply_begin(struct conn_table *t, struct conn_session *s, const struct dbf_reply *r,
		 const char *bytes, size_t len, uint64_t ts);
void reply_more(struct conn_table *t, struct conn_session *s, const char *bytes, size_t len,
		uint64_t ts);

#endif
