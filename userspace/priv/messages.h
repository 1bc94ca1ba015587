/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the keeper and the worker say to each other, over priv/chan.h. The worker may ask for these things and no
 * others; the keeper checks each against its own knowledge before it acts.
 */
#ifndef DBFENCE_PRIV_MESSAGES_H
#define DBFENCE_PRIV_MESSAGES_H

#include "dbfence/abi/wire_hold.h"

enum message_type {
	MSG_NONE,
	/* worker → keeper */
	MSG_VERDICT,		/* struct msg_verdict */
	MSG_WHO,		/* struct msg_who */
	MSG_CLASS,		/* struct msg_class */
	MSG_READY,		/* struct msg_ready: a policy generation is in use */
	MSG_STATS,		/* struct msg_stats */
	MSG_VOUCH,		/* struct msg_vouch */
	/* keeper → worker */
	MSG_POLICY,		/* struct msg_policy and a descriptor: the sources */
	MSG_WHO_ANSWER,		/* struct msg_who_answer */
	MSG_RECORDS,		/* a descriptor: the recorder's new stream */
	MSG_STOP,
	MSG_TYPE_MAX
};

struct msg_verdict {
	dbf_u32 slot, slot_seq;
	dbf_u32 action;		/* enum dbf_action */
	dbf_u32 remember;	/* put into the verdict cache under @key */
	struct dbf_verdict_key key;
	dbf_u32 wire;		/* a slot of those for client sockets */
	char name[DBF_WIRE_NAME_BYTES];	/* of the rule, for the client to read */
	dbf_u32 pad;
};

struct msg_vouch {		/* all that a connection has prepared is allowed by these policies */
	dbf_u64 conn;
	dbf_u32 policy_gen;
	dbf_u32 pad;
};

struct msg_who {
	struct dbf_session_key session;
	dbf_u32 pid;
	dbf_u32 pad;
	dbf_u64 start;		/* of that process, ns since boot; 0 unknown */
};

struct msg_who_answer {
	struct dbf_session_key session;
	dbf_u32 found;
	dbf_u32 uid;
	dbf_u64 start_ticks;
	char exe[256];
	char comm[16];
	char cgroup[256];
};

struct msg_class {
	struct dbf_session_key session;
	dbf_u32 identity_class;
	dbf_u32 pad;
};

struct msg_policy {
	dbf_u64 generation;
	dbf_u32 force_mode;	/* 0 as written, 1 shadow, 2 enforce */
	dbf_u32 bytes;		/* of the sources in the descriptor */
};

struct msg_ready {
	dbf_u64 generation;
	dbf_u32 ok;
	dbf_u32 pad;
};

struct msg_stats {
	dbf_u64 records, bad_records, facts, sessions_seen, sessions, statements, nested, nested_lost, orphan_replies;
	dbf_u64 sql_calls, sql_exact_hits, sql_shape_hits, sql_parses, sql_refused, sql_errors, sql_unread;
	dbf_u64 sessions_refused, verdicts, denied, would_deny, alerts, record_errors, ring_backlog;
	dbf_u64 texts_limited, text_bytes;
	dbf_u64 wire_records, wire_sessions, wire_merged, wire_mismatches, wire_limited;
};

#endif
