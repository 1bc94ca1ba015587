/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rank 2. Every map, and the state kept per backend.
 *
 * A batch's facts are written at data[used]; `used` never exceeds DBF_BATCH_BYTES, and data[] has
 * room for the largest fact behind that, so a write at a masked offset is always inside.
 */
#ifndef DBF_MAPS_BPF_H
#define DBF_MAPS_BPF_H

#include "lib/bounded.bpf.h"

/*
 * Which load of the object this is. A new daemon attaches its own programs beside the pinned ones
 * of the last, then makes itself the active instance: at no moment do both act, or neither.
 */
const volatile unsigned int cfg_instance = 1;
/* The wire vantage is wanted. */
const volatile bool cfg_wire_vantage;
/* Holds are ended by the kernel itself when nobody else is left. */
const volatile bool cfg_releases;

#define FRAMES 8
#define FOLDS 8
#define COMPARE_BYTES 256
#define WINDOW_BYTES 512
#define FACT_MAX (sizeof(struct dbf_fact) + sizeof(struct dbf_exec) + DBF_TEXT_CHUNK)

struct frame { /* an execution that has not returned, as far as the stack pointer tells */
	u64 sp;
	u64 query_desc;
	u32 exec_id;
	u32 pad;
};

struct fold { /* a nested text whose repeats are counted, not reported */
	u64 ptr;
	u64 source; /* ptr, when the text is all of its source and no portal's; 0 otherwise */
	u64 query_desc; /* of its execution that began last: a cursor's goes on, and ends, anywhere */
	u64 hash[2];
	u64 rows;
	u64 first_ts;
	u64 last_ts;
	u32 len;
	u32 exec_id;
	u32 parent_id;
	u32 executions; /* since the last report */
	u32 epoch;	/* texts may have been freed since an older one */
	u32 policy_gen;
};

struct piece { /* of a text, wherever it was read to; hashed and screened there */
	u8 bytes[DBF_TEXT_CHUNK + 8];
};

struct hash128 {
	u64 words[2];
};

struct text {	 /* what text_fact() read, for judging */
	u32 off; /* of its bytes in backend.data, a multiple of 8 */
	u32 len;
	u32 whole; /* all of it is in this one chunk */
	u32 fault;
	u32 escapes; /* standard_conforming_strings is off */
	u32 lost;    /* batches of the session that were lost when it was read */
};

struct running { /* what an executor or utility entry was called with */
	u64 ptr;
	u64 source; /* ptr, when it is all of its source; 0 otherwise */
	u64 sp;
	u64 query_desc;
	u64 estate;
	u32 op;
	u32 dest;
	u32 gate;
	u32 again;
	u32 flags;
	u32 len; /* of the statement in its source; 0: to the end */
};

struct judging { /* a text at a gate */
	u64 ptr;
	u32 gate;
	u32 exec_id;
	u32 mode;
	u32 top;
	u32 fail_closed; /* what becomes of it when nobody can judge it */
	struct text text;
};

/* Large: what would overflow the programs' 512 bytes of stack lives here too. */
struct backend {
	/* What every hit touches stands together: the server evicts our cache lines between two
	 * hits. */
	u32 kind;	  /* enum dbf_session_kind; 0: not looked at yet */
	u32 reader_epoch; /* which reader was told of this session */
	u32 server;
	u32 tgid;
	u64 session;
	u64 base; /* load address of the server's binary */
	u64 strings_addr; /* of its standard_conforming_strings */
	u32 postmaster;
	u32 cycle; /* counts ReadyForQuery */
	u32 next_exec_id;
	u32 top_id;	      /* the top-level execution of this cycle, 0 before it */
	u64 parse_ptr;	      /* the client's text parsed last in this cycle, 0 none */
	u32 parse_executed;   /* id given to its execution, 0 none yet */
	u32 replicating;      /* its last text is a replication command */
	u64 ddl_text;	      /* the client's text when all that is left of it creates a function */
	u64 nested_parse_ptr; /* parsed inside, not executed yet */
	u64 execute_ptr;      /* reported at the Execute gate, not run yet */
	u32 execute_id;
	u32 epoch; /* counts texts parsed inside executions */
	u32 depth;
	u32 folded; /* some fold is in use */
	u32 failed; /* an error was raised in this cycle */
	u32 fold_next;
	u32 fold_last; /* index of the one that was counted last */
	u32 hold_slot; /* index + 1, 0 none */

	u32 carry_len; /* bytes of a split message header */
	u32 ready;     /* ReadyForQuery was seen in the last secure_write */
	u8 carry[8];
	u64 skip;      /* bytes of the current message still to come */
	u32 skip_kept; /* of which so many are wanted */
	u32 rows;
	u32 other_bytes; /* of messages that are neither rows nor kept, since the last kept one */
	u32 sock_known;
	u64 row_bytes;
	u64 sock; /* its client's connection: struct tcp_sock *, only ever read as a probe does; 0: none on TCP */
	u64 write_start, write_end; /* of the last secure_write */

	u64 judged_ptr;
	u32 judged_cycle;
	u32 judged_action;
	u32 judged_gen;
	u32 hold_seq;
	u64 hold_ptr;
	u32 hold_top;
	u32 denial_open;    /* a reject whose error was not seen yet */
	u32 nested_denials; /* in this cycle: a caller that catches them ends its session with the
			       second */
	u32 execs;
	u32 lost_batches;
	u32 lost_execs;
	u32 seq;
	u32 used;
	struct running run;
	struct frame frames[FRAMES];

	struct dbf_batch head; /* sent together with data */
	u8 data[DBF_BATCH_BYTES + FACT_MAX + 64];

	struct judging judge;
	struct dbf_verdict proto;
	struct hash128 text_hash;
	char compare[2][COMPARE_BYTES];
	u8 window[WINDOW_BYTES + 16]; /* a short write to the client, whole */
	struct fold folds[FOLDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 8 * 1024 * 1024);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct backend);
} backends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DBF_SERVERS);
	__type(key, u32);
	__type(value, struct dbf_server);
} servers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct dbf_config);
} configs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct dbf_vitals);
} vitals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct dbf_doorbell);
} doorbells SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, DBF_HOLD_SLOTS);
	__type(key, u32);
	__type(value, struct dbf_hold_slot);
} holds SEC(".maps");

struct bpf_task_work { /* as in the kernel, which knows it by its name from 6.18 on */
	u64 __opaque;
} __attribute__((aligned(8)));

struct release { /* what ends a slot's hold when nobody else does */
	struct bpf_timer timer;
	struct bpf_task_work work;
	u32 seq;	 /* of the hold it was armed for */
	u32 attempts;	 /* that the kernel refused */
	u32 interrupted; /* SIGINT was sent, SIGCONT is owed */
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, DBF_HOLD_SLOTS);
	__type(key, u32);
	__type(value, struct release);
} releases SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, struct dbf_screen);
} screens SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, u32); /* tgid of a postmaster */
	__type(value, struct dbf_cluster);
} clusters SEC(".maps");

struct { /* a map of its own: the keeper writes the clusters whole */
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 256);
	__type(key, u32);   /* tgid of a postmaster that was told to stop */
	__type(value, u64); /* its start, ns since boot: the pid may be another's by now */
} stopping SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct dbf_verdict_key);
	__type(value, struct dbf_verdict_value);
} verdicts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct dbf_session_key);
	__type(value, u32); /* identity class */
} classes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u64); /* struct sock *, while it connects */
	__type(value, struct dbf_tcp_client);
} connecting SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct dbf_tcp_key);
	__type(value, struct dbf_tcp_client);
} tcp_clients SEC(".maps");

static __always_inline struct dbf_vitals *vitals_get(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&vitals, &zero);
}

static __always_inline bool instance_active(void)
{
	struct dbf_vitals *v = vitals_get();

	return v && v->active_instance == cfg_instance;
}

static __always_inline struct dbf_config *config_get(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&configs, &zero);
}

static __always_inline void count_add(enum dbf_count what, u64 n)
{
	struct dbf_vitals *v = vitals_get();

	if (v && what < DBF_COUNT_MAX)
		__sync_fetch_and_add(&v->counts[what], n);
}

#endif
