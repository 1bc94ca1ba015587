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
void record_writer_statement(struct record_writer *w, const struct conn_stmt *st,
			     const struct sql_facts *facts, const struct policy_decision *d,
			     uint64_t generation, bool full_text);
void record_writer_transaction(struct record_writer *w, const struct conn_session *s,
			       const struct conn_xact *x);
void record_writer_gap(struct record_writer *w, const char *reason, uint64_t records,
		       uint64_t execs, const char *detail);
/* The packed body, borrowed: by the writer until the next begin. NULL when it is too large or
 * memory is out. */
const void *record_writer_pack(struct record_writer *w, size_t *len);

const char *
record_transport_name(enum dbf_transport transport); /* "tcp" "tls" "unix"; NULL when unknown */
/* @ip as text, IPv4-mapped as IPv4; "" for the unspecified address. */
void record_address_text(const uint8_t *ip, char *text, size_t cap);

#endif
