/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Results of the stages to one packed audit record. The writer owns the memory of the record that
 * is being made; begin, one of the fill functions, pack, in this order.
 */
#ifndef DBFENCE_PIPELINE_RECORD_H
#define DBFENCE_PIPELINE_RECORD_H

#include "conn/conn.h"
#include "policy/policy.h"

struct record_writer;

/* @node is borrowed. NULL with errno. */
struct record_writer *record_writer_new(const char *node);
void record_writer_free(struct record_writer *w);

/* What every record of a session has in common (who, where), packed once: protobuf messages may be
 * concatenated. */
struct record_common {
	uint8_t bytes[2048]; /* every part of it is bounded: names, two paths, two addresses */
	size_t len;	     /* 0: nothing, not packed yet or too large */
};

void record_writer_common(struct record_writer *w, const struct conn_session *s,
			  const struct identity *who, struct record_common *out);

/* Start a record of @kind, with a session's @common part (NULL: about the agent). Everything passed
 * is borrowed until pack. */
void record_writer_begin(struct record_writer *w, const struct record_common *common,
			 const char *kind);
void record_writer_session(struct record_writer *w, const struct conn_session *s,
			   enum conn_event event, const char *reason);
void record_writer_transaction(struct record_writer *w, const struct conn_session *s,
			       const struct conn_xact *x);
void record_writer_gap(struct record_writer *w, const char *reason, uint64_t records,
		       uint64_t execs, const char *detail);
/* The packed body, borrowed: by the writer until the next begin. NULL when it is too large or
 * memory is out. */
const void *record_writer_pack(struct record_writer *w, size_t *len);

/* The part of a statement record that follows from facts and decision alone. */
struct record_known {
	/* One behind the other in bytes; no text where it does not follow from the facts. */
	uint32_t text_len, effects_len, decision_len;
	uint8_t bytes[1024];			      /* what is longer is packed each time */
};

struct record_statement {
	const struct record_common *common; /* NULL: the session is not known */
	const struct conn_stmt *st;
	const struct sql_facts *facts;
	const struct policy_decision *decision;
	const struct record_known *known; /* NULL: pack it */
	uint64_t generation;
	uint64_t wall_minus_mono; /* ns */
	bool full_text;
};

struct statement_writer;

/* NULL with errno. */
struct statement_writer *statement_writer_new(void);
void statement_writer_free(struct statement_writer *w);
/* Pack what @r's facts and decision say, for later records of equal ones. False when it does not fit. */
bool statement_writer_know(struct statement_writer *w, const struct record_statement *r,
			   struct record_known *known);
/* The packed body, borrowed: by the writer until the next call. NULL when it is too large even
 * without its text. */
const void *statement_writer_pack(struct statement_writer *w, const struct record_statement *r,
				  size_t *len);

const char *
record_transport_name(enum dbf_transport transport); /* "tcp" "tls" "unix"; NULL when unknown */
/* @ip as text, IPv4-mapped as IPv4; "" for the unspecified address. */
void record_address_text(const uint8_t *ip, char *text, size_t cap);
/* @value in decimal with its NUL, at most 21 bytes; returns the length. printf would be most of a
 * record's cost. */
size_t record_decimal(char *to, uint64_t value);

#endif
