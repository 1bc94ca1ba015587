/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rank 5. What is known of the connections that are followed on the wire: the state of an end, what both ends tell each
 * other, and the records being built. observe/wire.bpf.c says how it is used.
 */
#ifndef DBF_WIRE_BPF_H
#define DBF_WIRE_BPF_H

#include "lib/frame.bpf.h"
#include "lib/gate.bpf.h"
#include "lib/task.bpf.h"

#define WIRE_QUEUE 256
#define WIRE_LOCK_SPINS 16384
#define WIRE_RECS 4
#define WIRE_ASKS 64 /* how often a client's end looks whether the server vantage sees the same */

enum wire_peer { WIRE_PEER_UNKNOWN, WIRE_PEER_HERE, WIRE_PEER_AWAY };

/* The vantages that are wanted. */
const volatile bool cfg_server_vantage = true;
const volatile unsigned int cfg_wire_text = 1 << 20;

struct wire_slot { /* a piece of a segment that came before its turn */
	u32 seq;
	u32 len;    /* 0: free */
	u32 serial; /* in wire_chunks */
};

struct wire_queue {
	struct wire_slot slots[WIRE_QUEUE];
};

struct wire_first { /* what came to a socket that listens */
	u32 seq;
	u32 ack;
	u32 len;
	u32 pad;
	struct frame_kept kept;
};

struct wire_asked { /* a client's direction of a connection that is not framed here */
	u64 ns;	   /* of the packet in which the request begins */
	u32 begin; /* sequence number of its first byte */
	u32 next;  /* of the next byte */
	u32 skip;  /* bytes of the current message still to come */
	u8 known;  /* next is the beginning of a message, or skip bytes before one */
	u8 type;   /* of the current message */
	u8 copy;   /* the request holds copy data */
	u8 pad;
};

struct wire_sock { /* one end of a connection */
	u64 conn;
	u64 start; /* of the process told last */
	u32 pid;
	u32 uid;
	u32 epoch; /* of the reader that was told of it */
	u8 end;	   /* enum dbf_wire_dir */
	u8 peer;   /* enum wire_peer */
	u8 joined;
	u8 covered; /* the server vantage sees its statements */
	u8 gated;   /* something of it was stopped */
	u8 held;    /* and is held: how that ends is to be told */
	u8 kept;    /* it has a queue */
	u8 dead;    /* nothing of it passes any more */
	u8 alien;   /* it began with something else than PostgreSQL's protocol */
	u8 pad[3];
	u32 held_slot, held_seq;
	u64 cookie; /* of a gated one */
	u32 server_port;
	u32 vouched; /* the policies under which all that it prepared was judged */
	u32 asks;
	u32 lock; /* of ->in: packets come on any CPU */
	u32 serial;
	u32 anew;    /* up to here TCP had taken it when what was judged came again... */
	u32 pad2;
	u64 anew_ns; /* ...first */
	struct wire_asked asked;
	u32 began_len; /* bytes of ->began, the client's start-up message; 0: not known */
	u8 began[DBF_WIRE_AGAIN_BYTES];
	struct frame_stream out, in;
};

struct wire_ends { /* what the ends of a connection tell each other */
	u32 ends; /* 1 << enum dbf_wire_dir */
	u32 covered;
};

struct wire_chunk_key {
	u64 conn;
	u32 serial;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct wire_sock);
} wire_socks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, struct wire_ends);
} wire_ends SEC(".maps");

struct { /* the names of connections that began under our eyes, for an end that did not see it */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct dbf_tcp_key);
	__type(value, u64);
} wire_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, struct wire_chunk_key);
	__type(value, struct frame_kept);
} wire_chunks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1024);
	__type(key, u64); /* connection */
	__type(value, struct wire_queue);
} wire_queues SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, struct dbf_tcp_key); /* without a namespace: the listener's addresses may be any */
	__type(value, struct wire_first);
} wire_firsts SEC(".maps");

struct { /* by enum dbf_port_set */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DBF_PORTS_MAX);
	__type(key, u32);
	__type(value, struct dbf_ports);
} wire_ports SEC(".maps");

static __always_inline bool wire_port_is(u32 set, u32 port)
{
	struct dbf_ports *ports = bpf_map_lookup_elem(&wire_ports, &set);

	return ports && ports->bits[bounded_mask(port / 64, 65536 / 64)] >> port % 64 & 1;
}

struct { /* by dbf_wire_mark_index() */
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, DBF_WIRE_MARKS);
	__type(key, u32);
	__type(value, struct dbf_wire_mark);
} wire_marks SEC(".maps");

struct { /* a program may be interrupted by another on its CPU */
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, WIRE_RECS);
	__type(key, u32);
	__type(value, struct frame_rec);
} wire_recs SEC(".maps");

/* What the ends told each other. The key is on the stack because 6.1 takes none from a function's argument. */
static __always_inline struct wire_ends *wire_ends_get(const struct wire_sock *ws)
{
	u64 conn = ws->conn;

	return bpf_map_lookup_elem(&wire_ends, &conn);
}

static __always_inline void wire_mark_end(u64 conn, u32 end)
{
	struct wire_ends mark = { .ends = 1 << end }, *found;

	found = bpf_map_lookup_elem(&wire_ends, &conn);
	if (!found) {
		bpf_map_update_elem(&wire_ends, &conn, &mark, BPF_NOEXIST);
		found = bpf_map_lookup_elem(&wire_ends, &conn);
	}
	if (found)
		__sync_fetch_and_or(&found->ends, 1 << end);
}

/* Whose class is known: a process that sends has its own, and its successor may not have it for a moment. */
static __always_inline struct dbf_session_key wire_sender_key(const struct wire_sock *ws)
{
	struct dbf_session_key key = { .session = ws->conn };

	if (ws->end == DBF_WIRE_CLIENT) {
		key.tgid = ws->pid;
		key.uid = ws->uid;
	}
	return key;
}

/* The client's bytes, which @ws sends or gets. */
static __always_inline struct frame_stream *wire_requests(struct wire_sock *ws)
{
	return ws->end == DBF_WIRE_CLIENT ? &ws->out : &ws->in;
}

static __always_inline struct frame_rec *wire_rec_take(void)
{
	for (u32 i = 0; i < WIRE_RECS; i++) {
		u32 key = i;
		struct frame_rec *rec = bpf_map_lookup_elem(&wire_recs, &key);

		if (rec && !__sync_val_compare_and_swap(&rec->busy, 0, 1))
			return rec;
	}
	count_add(DBF_COUNT_WIRE_NO_ROOM, 1);
	return NULL;
}

static __always_inline void wire_rec_begin(struct frame_rec *rec, const struct wire_sock *ws)
{
	rec->used = rec->execs = rec->judging = 0;
	rec->text_max = cfg_wire_text;
	rec->head.conn = ws->conn;
	rec->head.ts = bpf_ktime_get_ns();
	rec->head.pid = 0;
	rec->head.seen_by = ws->end;
}

#endif
