/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel side sends: batches of facts about one backend process.
 *
 *   ring record = struct dbf_batch, then facts back to back
 *   fact        = struct dbf_fact (16 bytes), then fact->len - 16 bytes of payload, padded to 8
 *
 * A batch is gathered in the backend's own storage and sent when the server becomes ready for the next query,
 * when it is full, when a statement is held, and when the process exits. ->seq counts the batches of a session
 * whether or not the ring had room, so a hole is a loss; ->lost_* say how much was in it.
 *
 * Both compilers see this file: fixed widths, no implicit padding, sizes asserted.
 */
#ifndef DBFENCE_ABI_RECORD_H
#define DBFENCE_ABI_RECORD_H

#include "dbfence/abi/screen.h"

#define DBF_ABI_VERSION 1

#define DBF_BATCH_BYTES 8192	/* facts of one batch */
#define DBF_TEXT_CHUNK 4096	/* bytes of SQL in one fact, the NUL included */
#define DBF_TEXT_CHUNKS 16	/* chunks captured of one text: 64 KiB */
#define DBF_MESSAGE_BYTES 512	/* of one kept backend message */
#define DBF_NAME_BYTES 64	/* PostgreSQL's NAMEDATALEN */
#define DBF_MODE_REPLICATION 0xfe	/* a text's mode: a replication command's, which raw_parser never sees */
#define DBF_MODE_UNKNOWN 0xff	/* a text's mode: a SELECT that runs nested may be a PL/pgSQL expression or assignment */

enum dbf_batch_flag {
	DBF_BATCH_HOLD = 1,	/* its last fact is the verdict of a hold: somebody stands still */
	DBF_BATCH_HOLD_LONG = 2,	/* whose text is more than one chunk */
};

struct dbf_batch {
	dbf_u16 abi;
	dbf_u16 flags;		/* enum dbf_batch_flag */
	dbf_u32 len;		/* of the whole ring record */
	dbf_u32 tgid;
	dbf_u32 postmaster;	/* tgid of the parent */
	dbf_u64 session;	/* start time of the process, ns since boot; with tgid it names the session */
	dbf_u32 seq;
	dbf_u32 execs;		/* top-level executions that began in this batch */
	dbf_u32 lost_batches;	/* of this session, ever */
	dbf_u32 lost_execs;
	dbf_u32 server;		/* index of the server binary */
	dbf_u32 policy_gen;	/* under which the last statement was judged */
};

enum dbf_fact_kind {
	DBF_FACT_NONE,
	DBF_FACT_OPEN,		/* struct dbf_session */
	DBF_FACT_PARSE,		/* struct dbf_text, text */
	DBF_FACT_TEXT,		/* more bytes of the text before */
	DBF_FACT_EXEC,		/* struct dbf_exec, text unless it is the parsed one */
	DBF_FACT_NESTED,	/* struct dbf_nested: what was folded; arg 1: its rows are not known, it did not end */
	DBF_FACT_REPLY,		/* struct dbf_reply, message bytes; arg: bytes of messages before it that are neither rows nor told, and since the reply before */
	DBF_FACT_REPLY_MORE,	/* more bytes of the message before */
	DBF_FACT_ERROR,		/* struct dbf_error, text when it is not known yet */
	DBF_FACT_XID,		/* arg: transaction id */
	DBF_FACT_XACT,		/* arg: 1 commit, 2 rollback, inside a procedure */
	DBF_FACT_VERDICT,	/* struct dbf_verdict */
	DBF_FACT_FASTPATH,	/* arg: function oid */
	DBF_FACT_REPLICATION,	/* struct dbf_text, a text that a walsender got: a replication command, unless it is parsed next */
	DBF_FACT_EXIT,		/* arg: exit code as wait(2) gives it */
	DBF_FACT_MAX
};

struct dbf_fact {
	dbf_u16 kind;
	dbf_u16 len;		/* with this header, before padding */
	dbf_u32 arg;
	dbf_u64 ts;		/* CLOCK_MONOTONIC */
};

enum dbf_session_kind {
	DBF_SESSION_NONE,
	DBF_SESSION_CLIENT,
	DBF_SESSION_WALSENDER,
	DBF_SESSION_BACKGROUND,	/* no client: background and autovacuum workers */
	DBF_SESSION_IGNORED,	/* parallel workers: their leader tells everything */
	DBF_SESSION_KIND_MAX
};

enum dbf_transport { DBF_TRANSPORT_NONE, DBF_TRANSPORT_TCP, DBF_TRANSPORT_TLS, DBF_TRANSPORT_UNIX, DBF_TRANSPORT_MAX };

struct dbf_session {
	dbf_u8 kind;
	dbf_u8 transport;
	dbf_u8 found;		/* it was there before the probes */
	dbf_u8 client_known;
	dbf_u32 client_pid;
	dbf_u32 client_uid;
	dbf_u32 major;
	dbf_u64 client_cgroup;	/* cgroup v2 id */
	dbf_u64 client_start;	/* start of that process, ns since boot */
	dbf_u8 client_addr[16];	/* IPv4 mapped */
	dbf_u8 server_addr[16];
	dbf_u16 client_port;
	dbf_u16 server_port;
	dbf_u32 pad;
	char client_comm[16];
	char database[DBF_NAME_BYTES];
	char user[DBF_NAME_BYTES];
	char application[DBF_NAME_BYTES];
	char socket_path[108];
	dbf_u32 pad2;
};

enum dbf_text_flag {
	DBF_TEXT_TOP = 1,	/* the client's own text */
	DBF_TEXT_MORE = 2,	/* DBF_FACT_TEXT follows */
	DBF_TEXT_FAULT = 4,	/* could not be read */
	DBF_TEXT_MINIMUM = 8,	/* the end was not found: length is a minimum */
	DBF_TEXT_ESCAPES = 16,	/* standard_conforming_strings was off when it was read */
};

struct dbf_text {
	dbf_u64 ptr;
	dbf_u32 length;		/* without the NUL */
	dbf_u32 captured;
	dbf_u16 flags;
	dbf_u16 mode;		/* raw_parser's mode: 0 statements, 1 type name, 2.. PL/pgSQL expressions */
	dbf_u32 id;		/* exec_id of the execution it is inside of; 0 at top level */
};

enum dbf_exec_op {
	DBF_OP_UNKNOWN, DBF_OP_SELECT, DBF_OP_UPDATE, DBF_OP_INSERT, DBF_OP_DELETE, DBF_OP_UTILITY, DBF_OP_MERGE,
	DBF_OP_EXECUTE,		/* an Execute message, before its portal runs */
	DBF_OP_MAX
};

enum dbf_exec_flag {
	DBF_EXEC_TOP = 1,
	DBF_EXEC_SIMPLE = 2,	/* runs the text that was parsed last in this cycle */
	DBF_EXEC_AGAIN = 4,	/* the portal goes on */
	DBF_EXEC_MODIFYING_CTE = 8,
	DBF_EXEC_SAME = 16,	/* of an Execute that was reported already */
};

struct dbf_exec {
	struct dbf_text text;
	dbf_u32 exec_id;	/* of the session, from 1 */
	dbf_u32 parent_id;
	dbf_u16 op;
	dbf_u16 flags;
	dbf_u32 dest;
	char statement_name[DBF_NAME_BYTES];	/* of a prepared statement; only with DBF_EXEC_TOP */
};

struct dbf_nested {
	dbf_u32 exec_id;
	dbf_u32 executions;
	dbf_u64 rows;
	dbf_u64 first_ts;
	dbf_u64 last_ts;
};

struct dbf_reply {
	dbf_u32 type;		/* the message's type byte */
	dbf_u32 length;		/* of its payload */
	dbf_u32 captured;
	dbf_u32 rows;		/* DataRow and CopyData messages since the reply before */
	dbf_u64 row_bytes;	/* of ReadyForQuery, before which there are none: struct dbf_tcp_at, 0 where it is not known */
};

struct dbf_tcp_at {		/* of the server's socket, as sequence numbers */
	dbf_u32 read;		/* all before this was taken by the server */
	dbf_u32 written;	/* with the bytes that are written now: where they end on the wire, if they go there as they are */
};

struct dbf_error {
	struct dbf_text text;
	dbf_u32 sqlstate;	/* packed as MAKE_SQLSTATE does: six bits a character */
	dbf_u32 exec_id;	/* the innermost execution that was running */
};

enum dbf_gate { DBF_GATE_NONE, DBF_GATE_PARSE, DBF_GATE_EXECUTE, DBF_GATE_EXECUTOR, DBF_GATE_UTILITY, DBF_GATE_REPLICATION, DBF_GATE_WIRE, DBF_GATE_MAX };

enum dbf_how {
	DBF_HOW_NONE,
	DBF_HOW_CACHE,		/* judged before for exactly these bytes */
	DBF_HOW_HOLD,		/* asked user space */
	DBF_HOW_FAIL,		/* nobody could be asked: the fail mode decided */
	DBF_HOW_SCREEN,		/* no enforcing rule can match */
	DBF_HOW_MAX
};

enum dbf_action { DBF_ACTION_NONE, DBF_ACTION_ALLOW, DBF_ACTION_DENY, DBF_ACTION_KILL, DBF_ACTION_MAX };

enum dbf_why {
	DBF_WHY_NONE,
	DBF_WHY_KEEPER_SILENT, DBF_WHY_DEADMAN_SILENT, DBF_WHY_NO_SLOT, DBF_WHY_RING_FULL, DBF_WHY_FAULT,
	DBF_WHY_BUSY,		/* interrupts are held off: never stop here */
	DBF_WHY_NOT_OURS,	/* not a client backend of a known postmaster */
	DBF_WHY_SIGNAL,		/* the signal could not be sent */
	DBF_WHY_STANDBY,
	DBF_WHY_IN_DDL,
	DBF_WHY_STOPPING,	/* the server was told to stop, and waits for its sessions */
	DBF_WHY_MAX
};

struct dbf_verdict {
	dbf_u64 ptr;
	dbf_u16 gate;
	dbf_u16 how;
	dbf_u16 action;
	dbf_u16 why;		/* with DBF_HOW_FAIL */
	dbf_u32 slot;		/* with DBF_HOW_HOLD */
	dbf_u32 slot_seq;
	dbf_u32 exec_id;	/* 0 when it was not executed yet */
	dbf_u32 signal;		/* sent by the program; 0 none */
	dbf_u64 hash[2];	/* of the text, 0 when it was not hashed */
	dbf_u64 deadline_ns;
	dbf_u32 text_len;
	dbf_u32 policy_gen;
};

#define DBF_ASSERT_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type " has changed its layout")
DBF_ASSERT_SIZE(dbf_batch, 48);
DBF_ASSERT_SIZE(dbf_fact, 16);
DBF_ASSERT_SIZE(dbf_session, 392);
DBF_ASSERT_SIZE(dbf_text, 24);
DBF_ASSERT_SIZE(dbf_exec, 104);
DBF_ASSERT_SIZE(dbf_nested, 32);
DBF_ASSERT_SIZE(dbf_reply, 24);
DBF_ASSERT_SIZE(dbf_tcp_at, 8);
DBF_ASSERT_SIZE(dbf_error, 32);
DBF_ASSERT_SIZE(dbf_verdict, 64);

#endif
