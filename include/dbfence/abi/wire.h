/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the kernel side sends about a TCP connection: the framed messages of one direction.
 *
 *   ring record = struct dbf_wire, then items back to back
 *   item        = struct dbf_wire_item (8 bytes), then ->captured bytes, padded to 8
 *
 * A record holds what one packet brought, or a part of it. Both directions of a connection have the same ->conn,
 * whichever of its two ends saw them; each counts its own ->seq, whether or not the ring had room, so a hole is a loss.
 * Items have the protocol's own type bytes (PostgreSQL documentation, "Message Formats"), which are printable; those
 * below 32 are the kernel side's.
 */
#ifndef DBFENCE_ABI_WIRE_H
#define DBFENCE_ABI_WIRE_H

#include "dbfence/abi/record.h"

#define DBF_WIRE_ABI 0x5701	/* in the place of dbf_batch.abi */

enum dbf_wire_dir { DBF_WIRE_CLIENT, DBF_WIRE_SERVER };	/* who sent the bytes */

struct dbf_wire {
	dbf_u16 abi;
	dbf_u16 flags;		/* enum dbf_batch_flag */
	dbf_u32 len;		/* of the whole ring record */
	dbf_u64 conn;		/* names the connection */
	dbf_u64 ts;		/* CLOCK_MONOTONIC, of the packet */
	dbf_u64 bytes;		/* of this direction until now, message headers included */
	dbf_u32 seq;
	dbf_u32 lost_records;	/* of this direction, ever */
	dbf_u32 lost_execs;	/* statements begun in them: Query, Execute, FunctionCall */
	dbf_u32 pid;		/* tgid of who sent it; 0 when no process did (a timer, a peer's acknowledgement) */
	dbf_u8 dir;		/* enum dbf_wire_dir */
	dbf_u8 seen_by;		/* enum dbf_wire_dir: the end whose socket saw it */
	dbf_u8 pad[6];
	dbf_u64 pad2;
};

enum dbf_wire_type {
	DBF_WIRE_NONE,
	DBF_WIRE_OPEN,		/* struct dbf_wire_open: an end begins to be followed */
	DBF_WIRE_WHO,		/* struct dbf_wire_who: the process that sends from here on */
	DBF_WIRE_STARTUP,	/* a message without a type byte: its bytes behind the length, the code first */
	DBF_WIRE_MORE,		/* more bytes of the item before, in this record or an earlier one of this direction */
	DBF_WIRE_ANSWER,	/* the one byte that answers a request for encryption: ->length is that byte */
	DBF_WIRE_OPAQUE,	/* encrypted from here on: nothing more of this direction follows but CLOSE */
	DBF_WIRE_GAP,		/* the framing was lost: ->length is an enum dbf_wire_gap */
	DBF_WIRE_RESYNC,	/* and found again, at the beginning of a message */
	DBF_WIRE_DOUBT,		/* these bytes came twice before TCP took them: what stands in the items before and behind may differ */
	DBF_WIRE_CLOSE,		/* the end that saw it has no socket any more; ->length: 1 in order, 2 by a reset or an error */
	DBF_WIRE_VERDICT,	/* struct dbf_verdict: about the message before; without a gate: how a hold ended */
	DBF_WIRE_AGAIN,		/* the start-up message as it was, for a reader that was not told: as in STARTUP; of either direction */
	DBF_WIRE_TYPE_MAX
};

enum dbf_wire_gap {
	DBF_WIRE_GAP_NONE,
	DBF_WIRE_GAP_FRAME,	/* bytes that are no message */
	DBF_WIRE_GAP_HOLE,	/* segments were missing for longer than others could be kept */
	DBF_WIRE_GAP_MAX
};

struct dbf_wire_item {
	dbf_u8 type;		/* the message's, or enum dbf_wire_type */
	dbf_u8 flags;		/* enum dbf_wire_item_flag */
	dbf_u16 captured;	/* bytes behind this */
	dbf_u32 length;		/* of the message's payload; of a run of 'D' or 'd': how many */
};

enum dbf_wire_item_flag {
	DBF_WIRE_ITEM_MORE = 1,	/* more of its bytes follow in DBF_WIRE_MORE items */
};

/* Runs of DataRow and CopyData are one item, sent before the next message of their direction: */
struct dbf_wire_run {
	dbf_u64 bytes;		/* of their payloads */
};

struct dbf_wire_open {
	dbf_u8 client_addr[16];	/* IPv4 mapped; as this end sees them */
	dbf_u8 server_addr[16];
	dbf_u16 client_port;
	dbf_u16 server_port;
	dbf_u32 netns;		/* of this end: inode number */
	dbf_u64 cookie;		/* of this end's socket, as SO_COOKIE gives it */
	dbf_u8 end;		/* enum dbf_wire_dir: which end this is */
	dbf_u8 joined;		/* it was there before the programs, or before this reader */
	dbf_u8 synced;		/* 1 << enum dbf_wire_dir: the framing of that direction is known; else RESYNC tells when */
	dbf_u8 changed;		/* parameters were told since the session began: what its start-up said of them may be old */
	dbf_u8 pad[4];
};

struct dbf_wire_who {
	dbf_u32 pid;
	dbf_u32 uid;
	dbf_u64 start;		/* of the process, ns since boot */
	dbf_u64 cgroup;		/* cgroup v2 id */
	char comm[16];
};

/*
 * Of a connection that the server vantage sees, no message is told: the wire leaves marks, in an array that the reader maps.
 * A mark stands where a request ends in its client's sequence numbers, or a packet in its server's; the server vantage says
 * how far it has read and written when it is ready (struct dbf_tcp_at), and there the reader looks. A newer mark takes an older
 * one's place. Nobody waits for anybody: a mark that is being written, or another's, does not fit its name.
 */
#define DBF_WIRE_MARKS 16384

struct dbf_wire_mark {
	dbf_u64 check;		/* name ^ ns ^ info */
	dbf_u64 ns;		/* CLOCK_MONOTONIC: of a request, its first packet's; of a server's packet, its own */
	dbf_u64 info;		/* of a request: the sequence number of its first byte, and DBF_WIRE_MARK_COPY */
};

#define DBF_WIRE_MARK_COPY (1ULL << 32)	/* it holds copy data: it may belong to the request before it */

/* Of what ends at @seq in that direction of that connection. Never 0. */
static inline dbf_u64 dbf_wire_mark_name(dbf_u64 conn, dbf_u32 dir, dbf_u32 seq)
{
	dbf_u64 h = (conn ^ ((dbf_u64)seq << 1 | dir)) * 0x9e3779b97f4a7c15ULL;

	h = (h ^ h >> 29) * 0xbf58476d1ce4e5b9ULL;
	return (h ^ h >> 32) | 1;
}

static inline dbf_u32 dbf_wire_mark_index(dbf_u64 name)
{
	return (dbf_u32)(name >> 8) & (DBF_WIRE_MARKS - 1);
}

#define DBF_WIRE_BIND_BYTES 512		/* of a Bind: its names; never its values */
#define DBF_WIRE_MESSAGE_BYTES 512	/* of a kept message that holds no statement */
#define DBF_WIRE_AGAIN_BYTES 512	/* a longer start-up message is not told again */
#define DBF_WIRE_STARTUP_BYTES 10000	/* PostgreSQL's MAX_STARTUP_PACKET_LENGTH, which does not count the length itself */

DBF_ASSERT_SIZE(dbf_wire, 64);
DBF_ASSERT_SIZE(dbf_wire_item, 8);
DBF_ASSERT_SIZE(dbf_wire_run, 8);
DBF_ASSERT_SIZE(dbf_wire_open, 56);
DBF_ASSERT_SIZE(dbf_wire_who, 40);
DBF_ASSERT_SIZE(dbf_wire_mark, 24);

#endif
