/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What both sides read and write in place: configuration, server tables, hold slots, vitals.
 *
 * A hold slot's ->state is one 64-bit word, sequence number in the upper half and enum dbf_hold_state in the lower,
 * changed by compare-and-swap only. Whoever moves it from OPEN to a verdict is the one who signals:
 *
 *   FREE ──(program)──▶ OPEN ──(keeper or dead-man)──▶ ALLOWED / DENIED / KILLED ──(program, at the backend's
 *    ▲                                                                              next gate or exit)──┐
 *    └──────────────────────────────────── sequence + 1 ────────────────────────────────────────────────┘
 *
 * When no slot is free, the one that was ALLOWED longest ago is taken for another backend, with sequence + 1.
 */
#ifndef DBFENCE_ABI_SHARED_H
#define DBFENCE_ABI_SHARED_H

#include "dbfence/abi/record.h"

#define DBF_SERVERS 32
#define DBF_HOLDS_MAX 64	/* statements of one cluster held at once, at most */
#define DBF_HOLD_SLOTS 256	/* more: one stays taken until its backend collects how its hold ended */

enum dbf_hold_state {
	DBF_HOLD_FREE, DBF_HOLD_CLAIMED, DBF_HOLD_OPEN, DBF_HOLD_ALLOWED, DBF_HOLD_DENIED, DBF_HOLD_KILLED, DBF_HOLD_STATE_MAX
};

enum dbf_resolver { DBF_BY_NONE, DBF_BY_KEEPER, DBF_BY_DEADMAN, DBF_BY_KERNEL, DBF_BY_START, DBF_BY_MAX };

struct dbf_hold_slot {
	dbf_u64 state;		/* sequence << 32 | enum dbf_hold_state */
	dbf_u64 since_ns;
	dbf_u64 deadline_ns;
	dbf_u64 session;	/* start of the process, ns since boot */
	dbf_u32 tgid;
	dbf_u32 fail_closed;	/* what the deadline decides */
	dbf_u32 resolver;	/* enum dbf_resolver */
	dbf_u32 postmaster;
	dbf_u64 resolved_ns;
	dbf_u32 identity_class;	/* of the session; 0 not known */
	dbf_u32 timer;		/* DBF_TIMER_MADE when the kernel has one for it; below, which hold's runs */
};

#define DBF_TIMER_MADE 0x80000000U
#define DBF_TIMER_OF(seq) (DBF_TIMER_MADE | (((dbf_u32)(seq) + 1) & ~DBF_TIMER_MADE))

enum dbf_count {
	DBF_COUNT_NONE,
	DBF_COUNT_BATCHES,
	DBF_COUNT_LOST_BATCHES,
	DBF_COUNT_LOST_EXECS,
	DBF_COUNT_TEXT_FAULTS,
	DBF_COUNT_NO_STORAGE,	/* no memory for a backend's storage: its facts are not seen */
	DBF_COUNT_FRAME_LOST,	/* a reply's framing was given up */
	DBF_COUNT_NEST_LOST,	/* more nesting than the program follows */
	DBF_COUNT_SCREENED,
	DBF_COUNT_CANDIDATES,
	DBF_COUNT_CACHE_ALLOW,
	DBF_COUNT_CACHE_DENY,
	DBF_COUNT_HOLDS,
	DBF_COUNT_FAIL_OPEN,
	DBF_COUNT_FAIL_CLOSED,
	DBF_COUNT_SIGNALS,
	DBF_COUNT_SIGNAL_ERRORS,
	DBF_COUNT_TIMER_RELEASES,
	DBF_COUNT_HOLD_ENDS_LOST,	/* a slot was taken for another hold before its backend said how its own ended */
	DBF_COUNT_STATE_FAULTS,	/* variables of the server that decide something and could not be read */
	DBF_COUNT_WIRE_CONNS,	/* ends of connections that were followed */
	DBF_COUNT_WIRE_NO_ROOM,	/* packets that were not followed for want of memory or of a lock */
	DBF_COUNT_WIRE_REORDERED,	/* packets that came before their turn, and were kept */
	DBF_COUNT_WIRE_HOLDS,	/* statements held at their socket */
	DBF_COUNT_WIRE_NO_SLOT,	/* that could not be held: the fail mode decided */
	DBF_COUNT_WIRE_OVERDUE,	/* that the program itself decided, at a try behind the deadline */
	DBF_COUNT_WIRE_ABANDONED,	/* whose client gave up: refused for ever */
	DBF_COUNT_WIRE_REWRITES,	/* packets changed */
	DBF_COUNT_WIRE_KILLS,	/* connections ended */
	DBF_COUNT_WIRE_FAILED,	/* packets that could not be changed, and were dropped */
	DBF_COUNT_WIRE_WRONG_DEVICE,	/* packets refused because their device has no rewriter */
	DBF_COUNT_WIRE_LEAKED,	/* denied statements that were acknowledged unchanged: a rewriter was removed */
	DBF_COUNT_WIRE_NOT_KEPT,	/* held packets of remote clients that were not kept: the client sends them again */
	DBF_COUNT_MAX = 48
};

struct dbf_vitals {
	dbf_u64 keeper_beat_ns;	/* CLOCK_MONOTONIC; set while keeper and worker live */
	dbf_u64 deadman_beat_ns;
	dbf_u32 active_instance;	/* programs of any other instance do nothing */
	dbf_u32 reader_epoch;	/* counts readers of the ring: a new one is told every session again; never 0 */
	dbf_u64 counts[DBF_COUNT_MAX];
};

/* The one page that the unprivileged reader of the ring may write. */
struct dbf_doorbell {
	dbf_u32 asleep;		/* the reader wants to be woken */
	dbf_u32 pad;
};

struct dbf_config {
	dbf_u32 policy_gen;	/* 0: nothing loaded */
	dbf_u32 enforce;	/* some rule denies or kills */
	dbf_u32 fail_closed;	/* some closed policy is enforced: texts that it may need judged fall closed */
	dbf_u32 max_holds;
	dbf_u64 hold_ns;
	dbf_u64 beat_max_ns;
	dbf_u64 key[2];		/* of the statement hash */
	dbf_u32 screen;		/* index into screens */
	dbf_u32 gate_replication; /* some rule that acts may match a replication command */
	dbf_u32 keeper;		/* tgid: what it makes a socket send is not its own */
	dbf_u32 pad;
};

/* One server binary: addresses are ELF virtual addresses, offsets are into the server's structs. */
struct dbf_server {
	dbf_u32 valid;
	dbf_u32 major;
	dbf_u64 debug_query_string, my_proc_port, active_portal;
	dbf_u64 interrupt_holdoff, cancel_holdoff, crit_section;
	dbf_u64 am_walsender, parallel_worker, standard_strings;
	dbf_u16 qd_operation, qd_plannedstmt, qd_source, qd_dest, qd_estate, qd_again;
	dbf_u16 es_processed, dest_kind, portal_prep_name, portal_source;
	dbf_u16 ps_command, ps_modifying_cte, ps_utility, port_laddr, port_raddr, port_database;
	dbf_u16 port_user, port_application, port_ssl, port_sock;
	dbf_u16 dest_remote_execute, dest_spi;
	dbf_u16 utility_context_arg;	/* 1-based register argument of ProcessUtility's context */
	dbf_u16 create_function_tag;	/* NodeTag of CreateFunctionStmt; 0 unknown */
	dbf_u16 ps_location, ps_len;
	dbf_u32 pad;
};

/* The server's QueryDesc, the same in every supported major; what is not read has no name of its own. */
struct dbf_query_desc {
	dbf_u32 operation;
	dbf_u32 pad;
	dbf_u64 plannedstmt;
	dbf_u64 source;
	dbf_u64 snapshots[2];
	dbf_u64 dest;
	dbf_u64 unread[4];
	dbf_u64 estate;
	dbf_u64 planstate;
	dbf_u8 already_executed;
	dbf_u8 pad2[7];
};

enum dbf_cluster_flag {
	DBF_CLUSTER_ENFORCE = 1,
	DBF_CLUSTER_STANDBY = 2,
	DBF_CLUSTER_OBSERVED = 4,	/* the server vantage sees its sessions */
};

struct dbf_cluster {		/* by postmaster tgid */
	dbf_u32 flags;
	dbf_u32 max_holds;	/* 0: as the configuration says */
};

#define DBF_MODE_WIRE 0x200	/* in a verdict key's mode: seen on the wire, where nobody knows how its quotes are read */
#define DBF_MODE_ESCAPES 0x100	/* in a verdict key's mode: standard_conforming_strings was off */

struct dbf_verdict_key {
	dbf_u64 hash[2];
	dbf_u32 len;
	dbf_u32 identity_class;
	dbf_u32 policy_gen;
	dbf_u32 mode;		/* raw_parser's mode, and DBF_MODE_ESCAPES: the same bytes mean another thing there */
};

#define DBF_RULE_NAME_BYTES 32	/* of a rule, as a client may read it; the NUL included */

struct dbf_verdict_value {
	dbf_u32 action;
	dbf_u32 name_len;	/* of the rule's name, without the NUL */
	char name[DBF_RULE_NAME_BYTES];	/* letters, digits, '_' */
};

struct dbf_session_key {
	dbf_u64 session;
	dbf_u32 tgid;		/* the backend's; in ->classes, on the wire, who sends: 0 when that is elsewhere */
	dbf_u32 uid;		/* and as whom; otherwise 0 */
};

struct dbf_tcp_key {		/* client's end first; IPv4 mapped; ports in host order */
	dbf_u8 client_addr[16];
	dbf_u8 server_addr[16];
	dbf_u16 client_port;
	dbf_u16 server_port;
	dbf_u32 netns;		/* 0 unless the addresses are loopback */
};

struct dbf_tcp_client {
	dbf_u32 pid;
	dbf_u32 uid;
	dbf_u64 cgroup;
	dbf_u64 start;
	char comm[16];
};

struct dbf_tcp_owner {		/* one connection that is there when a daemon starts */
	struct dbf_tcp_key key;
	struct dbf_tcp_client client;
};

enum dbf_port_set {
	DBF_PORTS_KNOWN,	/* where databases are known to listen */
	DBF_PORTS_ENFORCED,	/* connections to there may be stopped */
	DBF_PORTS_MAX
};

struct dbf_ports {		/* one bit a port */
	dbf_u64 bits[65536 / 64];
};

DBF_ASSERT_SIZE(dbf_hold_slot, 64);
DBF_ASSERT_SIZE(dbf_vitals, 24 + 8 * DBF_COUNT_MAX);
DBF_ASSERT_SIZE(dbf_config, 64);
DBF_ASSERT_SIZE(dbf_server, 136);
DBF_ASSERT_SIZE(dbf_verdict_key, 32);
DBF_ASSERT_SIZE(dbf_tcp_key, 40);
DBF_ASSERT_SIZE(dbf_tcp_client, 40);
DBF_ASSERT_SIZE(dbf_tcp_owner, 80);

#define DBF_STATE(seq, st) (((dbf_u64)(seq) << 32) | (dbf_u64)(st))
#define DBF_STATE_OF(word) ((dbf_u32)(word) & 0xff)
#define DBF_STATE_SEQ(word) ((dbf_u32)((word) >> 32))

#endif
