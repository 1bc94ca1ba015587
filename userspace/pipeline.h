/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one place that knows all stages: kernel records in, verdicts and packed audit records out.
 * Runs in the worker; no privilege, no file, no log line above debug.
 */
#ifndef DBFENCE_PIPELINE_H
#define DBFENCE_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "policy/policy.h"
#include "priv/messages.h"

struct dbf_wire_mark;
struct pipeline;

struct pipeline_ops {
	/* One packed record body (without seq). */
	void (*record)(void *ctx, const void *body, size_t len);
	/* To the keeper: an enum message_type and its struct. */
	void (*message)(void *ctx, uint32_t type, const void *payload, size_t len);
	/* Wait a little for the answer to a MSG_WHO: pipeline_who() may be called before this returns. NULL: do not. */
	void (*await_who)(void *ctx);
};

struct pipeline_opts {
	const char *node;	/* host name; copied */
	bool full_text;		/* store texts as they are, not masked */
	uint32_t class_base; /* identity classes count from here: random, so that two workers' never meet */
	unsigned cache_entries; /* of the SQL engine; 0: LIMIT_SQL_CACHE_ENTRIES */
	const struct dbf_wire_mark *marks; /* borrowed; may be NULL: see conn_table_set_marks() */
};

/* NULL with errno. */
struct pipeline *pipeline_new(const struct pipeline_opts *opts, const struct pipeline_ops *ops,
			      void *ctx);
void pipeline_free(struct pipeline *p);

/* Judge by @set from now on. Owned: by the pipeline; the one before is freed. */
void pipeline_set_policy(struct pipeline *p, struct policy_set *set);

/* Look at the clocks: what is fed from now on gets its wall time from this look. Once per batch of records. */
void pipeline_set_clock(struct pipeline *p);

/*
 * The reader is behind: until it is told otherwise, a text that is in no cache is not parsed for its record alone, which
 * then says "overload" as the reason why nothing is known about it. What is held, or was decided, is parsed all the same.
 */
void pipeline_set_overloaded(struct pipeline *p, bool overloaded);

/* One record from the ring. */
void pipeline_feed(struct pipeline *p, const void *record, size_t len);

/* The keeper's answer about a client process. */
void pipeline_who(struct pipeline *p, const struct msg_who_answer *answer);

/* What the kernel counted as lost until now; writes a gap record when it grew. */
void pipeline_losses(struct pipeline *p, uint64_t lost_batches, uint64_t lost_execs);

struct conn_stmt;
struct sql_facts;

/*
 * Only what was judged for exactly these bytes, this session's class and this generation is remembered, and only what
 * would be judged the same again.
 */
bool pipeline_may_remember(const struct sql_facts *facts, const struct conn_stmt *st,
			   const struct policy_decision *d, uint64_t generation);

void pipeline_stats(const struct pipeline *p, struct msg_stats *stats);

#endif
