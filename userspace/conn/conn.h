/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sessions: kernel facts in, finished statements, transactions and session events out.
 *
 * A batch's facts come in the order in which the backend lived them. A statement goes through
 *
 *     PARSED ──▶ RUNNING ──▶ DONE          simple query: parsed, run under the same text pointer
 *       │  └──────▶ (popped by '1')        Parse: its text is only parsed; an Execute makes the
 * record GATED ──▶ RUNNING ──▶ DONE           Execute: seen at the gate, then at the executor
 *
 * and is handed out when the server is ready for the next query, or when the session ends. Replies
 * are matched in order: the protocol answers messages in the order it got them. Nested executions
 * hang below the client's statement, are folded by text, and are handed out after it.
 *
 * After a loss nothing that was running can be matched with a reply any more: the end of its cycle
 * may be among what is missing. It is unknown, for the reason "gap", unless an execution names its
 * id again. A text whose last piece is missing has a minimum length. What begins later in the same
 * cycle is followed, and says "gap" too.
 *
 * A connection that is followed on the wire becomes a session too, by the same statements and replies; see conn/wire.h,
 * also for what is recorded when both vantages see one connection.
 *
 * The stage decides the outcome (what was observed), never the verdict. It knows no SQL beyond
 * command tags.
 */
#ifndef DBFENCE_CONN_CONN_H
#define DBFENCE_CONN_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dbfence/abi/shared.h"

enum conn_form {
	CONN_SIMPLE,
	CONN_EXTENDED,
	CONN_NESTED,
	CONN_REPLICATION,
	CONN_FASTPATH,
	CONN_FORM_MAX
};

enum conn_outcome {
	CONN_UNKNOWN,
	CONN_EXECUTED,
	CONN_FAILED,
	CONN_PREVENTED,
	CONN_CANCELLED,
	CONN_ABORTED,
	CONN_CONTAINED,
	CONN_OUTCOME_MAX
};

const char *conn_form_name(enum conn_form form);
const char *conn_outcome_name(enum conn_outcome outcome);

/* Bits of conn_stmt.evidence and .incomplete, with names for the record. */
enum conn_evidence {
	CONN_SAW_TAG,
	CONN_SAW_ERROR,
	CONN_SAW_EXECUTOR,
	CONN_SAW_UTILITY,
	CONN_SAW_REJECT,
	CONN_SAW_EXIT,
	CONN_SAW_NO_EXECUTION,
	CONN_SAW_PARENT_END,
	CONN_SAW_WITHHELD,
	CONN_EVIDENCE_MAX
};

enum conn_missing {
	CONN_MISSING_GAP,
	CONN_MISSING_TEXT_FAULT,
	CONN_MISSING_TEXT_LIMIT,
	CONN_MISSING_START,
	CONN_MISSING_IDENTITY,
	CONN_MISSING_NESTED,
	CONN_MISSING_SUSPENDED,
	CONN_MISSING_OVERLAP,  /* the server may have taken other bytes than these */
	CONN_MISSING_NAME,     /* its prepared name may stand for another text */
	CONN_MISSING_ENCODING, /* the server reads its bytes in an encoding that is not ours */
	CONN_MISSING_MAX
};

const char *conn_evidence_name(enum conn_evidence evidence);
const char *conn_missing_name(enum conn_missing missing);

struct conn_part { /* one statement of a text that holds several */
	char tag[68];
	uint64_t rows;
	bool rows_known;
};

struct conn_verdict {
	enum dbf_gate gate;
	enum dbf_how how;
	enum dbf_action action;
	enum dbf_why why;
	enum dbf_resolver resolver;
	uint32_t policy_gen;
	uint32_t slot, slot_seq;
	uint64_t held_ns, since_ns, deadline_ns;
	uint64_t hash[2];
	uint32_t hashed_len; /* 0: not hashed by the kernel */
	uint32_t mode;	     /* of the kernel's key: how the text was read, and DBF_MODE_ESCAPES */
	bool signalled; /* the reject was made: a signal, or the message was changed on its way */
	bool withheld;	/* it never left its client */
};

/* Reasons for which a text may not be what ran: nothing is known of what it does. */
#define CONN_MISSING_DOUBT (1U << CONN_MISSING_OVERLAP | 1U << CONN_MISSING_NAME | 1U << CONN_MISSING_ENCODING)

enum conn_vantage { CONN_SERVER, CONN_WIRE, CONN_VANTAGE_MAX };
const char *conn_vantage_name(enum conn_vantage vantage);

struct conn_session;

struct conn_stmt {
	struct conn_session *session; /* borrowed: valid during the callback */
	uint64_t id;		      /* of the session, from 1 */
	uint64_t parent_id;	      /* 0 at top level */
	enum conn_form form;
	const char *text; /* not NUL-terminated; borrowed */
	size_t captured;
	uint64_t length;
	bool length_is_minimum;
	bool elsewhere;	     /* of a hold: the other vantage judges it */
	bool began;	     /* an executor or utility entry was seen for it */
	enum dbf_exec_op op; /* of its first execution */
	bool modifying_cte;
	bool escapes; /* standard_conforming_strings was off when its text was seen */
	bool parsed;  /* its text was seen as it was parsed: ->escapes is how it was read */
	uint32_t mode;	  /* raw_parser's mode, or DBF_MODE_UNKNOWN */
	const char *name; /* of a prepared statement, "" when none */
	uint64_t start_ns, end_ns;
	uint64_t executions;
	uint64_t rows;
	bool rows_known;
	struct conn_part *parts;
	unsigned part_cnt;
	char sqlstate[6];  /* "" when none */
	const char *error; /* as the client was told; "" when none */
	bool has_verdict;
	struct conn_verdict verdict;
	enum conn_outcome outcome;
	uint32_t evidence; /* 1 << enum conn_evidence */
	uint32_t missing;  /* 1 << enum conn_missing */
	uint32_t fastpath_oid;
	uint64_t xact;	  /* number of its transaction in the session */
	bool closes_xact; /* the only statement of an implicit transaction */
	bool xact_committed;
	uint64_t xid; /* the first that was assigned in it; 0 none, or not its own */
	uint64_t bytes_in, bytes_out; /* message headers included; 0 where that is not seen */
	uint64_t request_ns, response_ns; /* of vantage server: when they were on the wire; 0 not seen */
};

struct conn_xact {
	uint64_t number;
	uint64_t start_ns, end_ns;
	uint64_t statements;
	uint64_t xid;
	bool implicit;
	enum { CONN_XACT_UNKNOWN, CONN_XACT_COMMITTED, CONN_XACT_ROLLED_BACK } state;
};

enum conn_event {
	CONN_OPEN,
	CONN_FOUND,
	CONN_AUTH_OK,
	CONN_AUTH_FAILED,
	CONN_CLOSE,
	CONN_OPAQUE, /* encrypted: nothing more is seen of it from here */
	CONN_CANCEL, /* a connection that only asked to cancel another's statement */
	CONN_EVENT_MAX
};
const char *conn_event_name(enum conn_event event);

/* What is known of the other end once the keeper looked; strings are copied. */
struct conn_who {
	char exe[256];
	char comm[16];
	char cgroup[256];
	uint64_t start_ticks;
};

/* An end's address as the other end sees it, where that is not its own: something in between translates. */
struct conn_seen_as {
	bool differs;
	uint16_t port;
	uint8_t addr[16];
};

/* Public part of a session, stable while it lives. */
struct conn_session {
	uint64_t start; /* ns since boot, or the connection's name on the wire; with tgid it names the session */
	uint32_t tgid;	/* 0: a connection on the wire */
	uint32_t postmaster;
	enum conn_vantage vantage;
	uint32_t server_pid;  /* the process at the server's end; 0 not on this node */
	bool pooler_leg;      /* and that passes on what it is asked to another server */
	struct conn_seen_as client_seen_as, server_seen_as;
	uint64_t bytes_in, bytes_out; /* of the connection so far, where it is seen on the wire */
	char id[40]; /* the same as text */
	struct dbf_session info;
	char application[DBF_NAME_BYTES]; /* as the client set it last */
	bool standard_strings;
	bool known; /* the opening fact was seen */
	bool authenticated;
	struct conn_who who;
	bool who_known;
	uint32_t identity_class;
	uint64_t statements;	  /* top-level ones handed out */
	void *user;		  /* the pipeline's; freed with the session */
	struct conn_state *state; /* owned, private to this stage */
};

struct conn_ops {
	void (*session)(void *ctx, struct conn_session *s, enum conn_event event,
			const char *reason);
	/* A backend stands still: answer with the slot and sequence in @stmt->verdict. */
	void (*hold)(void *ctx, const struct conn_stmt *stmt);
	/* Its client's process or an address became known, or is another one. */
	void (*client)(void *ctx, struct conn_session *s);
	void (*statement)(void *ctx, const struct conn_stmt *stmt);
	void (*transaction)(void *ctx, struct conn_session *s, const struct conn_xact *xact);
	/* @batches ring records of this session were lost, with @execs executions begun in them. */
	void (*gap)(void *ctx, struct conn_session *s, uint32_t batches, uint32_t execs);
	/* @statements of the cycle that ends were beyond what is kept. */
	void (*limit)(void *ctx, struct conn_session *s, uint32_t statements);
};

struct conn_table;

struct conn_counters {
	uint64_t records, bad_records, facts, sessions, evicted, statements, nested, nested_lost,
		orphan_replies;
	uint64_t texts_limited; /* texts that found no room: kept without them, or with their head */
	uint64_t text_bytes;	/* kept now */
	uint64_t wire_records, wire_sessions, wire_merged; /* sessions: with records of their own; seen at the server */
	uint64_t wire_mismatches; /* replies that did not fit */
	uint64_t wire_limited;	  /* requests or names beyond what is kept */
};

/* NULL with errno ENOMEM. */
struct conn_table *conn_table_new(const struct conn_ops *ops, void *ctx);
void conn_table_free(struct conn_table *t);

struct dbf_wire_mark;
/* DBF_WIRE_MARKS of them, which the kernel side writes. Borrowed: as long as the table lives. */
void conn_table_set_marks(struct conn_table *t, const struct dbf_wire_mark *marks);

/* One ring record. Whatever it holds, the table stays sound; what makes no sense is counted. */
void conn_table_feed(struct conn_table *t, const void *record, size_t len);

typedef bool (*conn_text_fn)(void *ctx, const struct conn_stmt *stmt);
/*
 * Every text that connection @s has prepared, until @fn says false. True when @fn never did and nothing can be prepared
 * that is not known. The statement is valid during the call.
 */
bool conn_wire_each_prepared(struct conn_table *t, struct conn_session *s, conn_text_fn fn, void *ctx);
/* Grows whenever one of them that has a name is not there any more. */
uint64_t conn_wire_prepared_gone(const struct conn_session *s);

/* Its text means the same in every client_encoding. */
bool conn_is_ascii(const struct conn_stmt *stmt);

/* NULL when unknown. */
struct conn_session *conn_table_lookup(struct conn_table *t, uint64_t start, uint32_t tgid);
const struct conn_counters *conn_table_counters(const struct conn_table *t);
unsigned conn_table_cnt(const struct conn_table *t);

#endif
