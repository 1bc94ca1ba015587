/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What both sides read and write in place about statements that are stopped on the wire.
 *
 * A slot is one message at one socket of this node: the client's, or, when the client is elsewhere, the server's. Its ->state is a word as in abi/shared.h, changed by
 * compare-and-swap only:
 *
 *   FREE ─▶ CLAIMED ─▶ HOLD ──(whoever decides)──▶ ALLOW   passes; free once it has
 *             │          │                         REWRITE passes, and TC makes it an error; free once acknowledged
 *             │          │                         KILL    TC ends the connection; free with the socket
 *             │          └──(the client gave up)─▶ ABANDONED  never passes; free with the socket
 *             └─ REWRITE, KILL: decided when it was seen
 *
 * Several may want to decide at once, and who loses must not spoil what the winner said. So the word also says who moved it
 * (enum dbf_resolver, in its second byte), and each of them has a place of its own for when, and for the rule's name, which
 * it writes before it tries: nobody reads the place of one who did not win. There is one of each, and it tries one word
 * after the other; what it left of a try that failed, it writes anew before the next one.
 *
 * A refused packet still stands in its sender's queue, here or elsewhere, so the packets of a socket are stopped until its slots are free:
 * a program may be detached only when every slot is.
 */
#ifndef DBFENCE_ABI_WIRE_HOLD_H
#define DBFENCE_ABI_WIRE_HOLD_H

#include "dbfence/abi/shared.h"

#define DBF_WIRE_HOLD_SLOTS 1024
#define DBF_WIRE_GATES 4096	/* sockets with a slot, or dead */
#define DBF_WIRE_GATE_SLOTS 16	/* of one socket: denied and not acknowledged yet, in a pipeline */
#define DBF_WIRE_PATCH_BYTES 64	/* overwritten at most */
#define DBF_WIRE_NAME_BYTES DBF_RULE_NAME_BYTES
#define DBF_WIRE_DEVICES 16384
#define DBF_WIRE_KEPT 32	/* statements of remote clients whose packets are kept */
#define DBF_WIRE_KEPT_BYTES 65536	/* of one */
#define DBF_WIRE_KEPT_PIECE 8192	/* handed back at once */

enum dbf_wire_hold_state {
	DBF_WIRE_FREE, DBF_WIRE_CLAIMED, DBF_WIRE_HOLD, DBF_WIRE_ALLOW, DBF_WIRE_REWRITE, DBF_WIRE_KILL,
	DBF_WIRE_ABANDONED, DBF_WIRE_STATE_MAX
};

/* How the message is made one that the server answers with an error. */
enum dbf_wire_deny {
	DBF_WIRE_DENY_TOKEN,	/* the patch becomes blocked_by_policy_NAME or less, and blanks */
	DBF_WIRE_DENY_FILL,	/* each byte of the patch becomes ->fill */
	DBF_WIRE_DENY_MAX
};

/* Whose name of the rule is meant: the program's, from when it saw the message, or the keeper's. */
enum dbf_wire_name { DBF_WIRE_NAME_SEEN, DBF_WIRE_NAME_JUDGED, DBF_WIRE_NAMES };

#define DBF_WIRE_STATE(seq, by, st) (DBF_STATE(seq, st) | (dbf_u64)(by) << 8)
#define DBF_WIRE_BY(word) ((dbf_u32)((word) >> 8) & 0xff)
#define DBF_WIRE_NAME_OF(word) (DBF_WIRE_BY(word) == DBF_BY_KEEPER ? DBF_WIRE_NAME_JUDGED : DBF_WIRE_NAME_SEEN)

struct dbf_wire_hold {
	dbf_u64 state;		/* sequence << 32 | enum dbf_resolver << 8 | enum dbf_wire_hold_state */
	dbf_u64 cookie;		/* of the socket, as SO_COOKIE gives it */
	dbf_u64 netns;		/* its network namespace, as SO_NETNS_COOKIE gives it */
	dbf_u64 conn;		/* dbf_wire.conn */
	dbf_u64 since_ns;
	dbf_u64 deadline_ns;
	dbf_u64 decided_ns[DBF_BY_MAX];	/* when, by whom: see DBF_WIRE_BY() */
	dbf_u32 start;		/* sequence number of the message, and of what is behind it */
	dbf_u32 end;
	dbf_u32 from;		/* of the first byte that is held: ->start, unless the head had gone */
	dbf_u32 patch;		/* of the first byte to overwrite */
	dbf_u16 patch_len;
	dbf_u8 deny;		/* enum dbf_wire_deny */
	dbf_u8 fill;
	dbf_u8 fail_closed;	/* what the deadline decides */
	dbf_u8 received;	/* at the server's socket: the packets come, and are kept */
	dbf_u8 name_len[DBF_WIRE_NAMES];	/* without the NUL */
	dbf_u32 pid;		/* tgid of who sent it, 0 not known */
	dbf_u32 identity_class;
	dbf_u32 ifindex;	/* the device it would leave by, when that has no rewriter; else 0 */
	dbf_u32 refusals;	/* packets refused, passed to TC to be changed, changed there */
	dbf_u32 passes;
	dbf_u32 rewrites;
	dbf_u32 bound_if;	/* SO_BINDTODEVICE */
	dbf_u8 local_addr[16];	/* IPv4 mapped */
	dbf_u8 remote_addr[16];
	dbf_u16 local_port;
	dbf_u16 remote_port;
	char name[DBF_WIRE_NAMES][DBF_WIRE_NAME_BYTES];	/* letters, digits, '_'; see DBF_WIRE_NAME_OF() */
	dbf_u32 kept;		/* index + 1 of its packets' copy; 0 none */
	dbf_u32 pad;
};

/* What the program that hands kept packets back is told, in its context's cb. */
enum dbf_wire_keep_arg { DBF_WIRE_KEEP_SLOT, DBF_WIRE_KEEP_SEQ, DBF_WIRE_KEEP_OFF, DBF_WIRE_KEEP_ARGS };

/* By socket cookie: which slots are its, index + 1. Written by the program at the socket alone. */
struct dbf_wire_gate {
	dbf_u16 slots[DBF_WIRE_GATE_SLOTS];
	dbf_u32 dead;		/* nothing of it passes any more: the client gets a RST */
	dbf_u32 busy;		/* a packet that came is being looked at: they come on any CPU */
};

/* A device whose egress has the rewriter. The key has the namespace, because indexes are its own. */
struct dbf_wire_device_key {
	dbf_u64 netns;
	dbf_u32 ifindex;
	dbf_u32 pad;
};

DBF_ASSERT_SIZE(dbf_wire_hold, 248);
DBF_ASSERT_SIZE(dbf_wire_gate, 40);
DBF_ASSERT_SIZE(dbf_wire_device_key, 16);

#endif
