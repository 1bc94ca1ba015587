/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sessions' ends, errors, transaction ids, and everything that is rare: replication commands, the
 * function-call protocol, commits inside procedures; and which process opened a TCP connection on
 * this node.
 */

#define RAISE_EXCEPTION ('P' - '0' | 1 << 24) /* P0001: not the fault of what was parsed last */

/* errcode(int sqlerrcode): an error or a notice is being made. Notices have classes 00, 01, 02. */
SEC("uprobe")
int BPF_KPROBE(errcode_entry, u32 sqlerrcode)
{
	struct dbf_server *srv;
	struct backend *b = task_backend(ctx, &srv, true);
	u32 class = sqlerrcode & 0xfff;
	struct dbf_error *e;
	struct text t;
	u64 ptr;

	/* "00", "01", "02" packed six bits a character from '0'. */
	if (!b || class == 0 || class == (1 << 6) || class == (2 << 6))
		return 0;
	hold_settle(b); /* the error may be our reject's */
	b->denial_open = 0;
	b->failed = 1;
	e = text_head(b);
	__builtin_memset(e, 0, sizeof(*e));
	e->sqlstate = sqlerrcode;
	e->exec_id = stmt_parent(b, PT_REGS_SP(ctx));
	ptr = b->nested_parse_ptr;
	if (ptr && sqlerrcode != RAISE_EXCEPTION) {
		text_fact(b, DBF_FACT_ERROR, sizeof(*e), ptr, 0, &t);
		b->nested_parse_ptr = 0;
		return 0;
	}
	ptr = stmt_top_text(b, srv);
	if (ptr && ptr != b->parse_ptr && !b->top_id) { /* Bind of what was prepared before */
		text_fact(b, DBF_FACT_ERROR, sizeof(*e), ptr, DBF_TEXT_TOP, &t);
		return 0;
	}
	emit_commit(b, DBF_FACT_ERROR, sizeof(struct dbf_fact) + sizeof(*e), 0, bpf_ktime_get_ns());
	return 0;
}

/* XactLockTableInsert(TransactionId xid): a transaction, or a subtransaction, got its id. */
SEC("uprobe")
int BPF_KPROBE(xact_lock_table_insert, u32 xid)
{
	struct dbf_server *srv;
	struct backend *b = task_backend(ctx, &srv, false);

	if (b)
		emit_arg(b, DBF_FACT_XID, xid);
	return 0;
}

static __always_inline int session_xact(struct pt_regs *ctx, u32 what)
{
	struct dbf_server *srv;
	struct backend *b = task_backend(ctx, &srv, false);

	if (b)
		emit_arg(b, DBF_FACT_XACT, what);
	return 0;
}

SEC("uprobe")
int BPF_KPROBE(spi_commit)
{
	return session_xact(ctx, 1);
}

SEC("uprobe")
int BPF_KPROBE(spi_rollback)
{
	return session_xact(ctx, 2);
}

/* HandleFunctionRequest(StringInfo msgBuf): fast-path call; the function's oid is the first
 * integer. */
SEC("uprobe")
int BPF_KPROBE(handle_function_request, u64 msg)
{
	struct dbf_server *srv;
	struct backend *b = task_backend(ctx, &srv, false);
	u64 data = task_user_u64(msg);
	u32 cursor = task_user_u32(msg + 16);

	if (!b || !hold_settle(b))
		return 0;
	b->execs++;
	emit_arg(b, DBF_FACT_FASTPATH, bpf_ntohl(task_user_u32(data + cursor)));
	return 0;
}

enum command { COMMAND_SQL, COMMAND_SHOW, COMMAND_REPLICATION };

#define COMMAND_SHOW_WORD ('S' << 24 | 'H' << 16 | 'O' << 8 | 'W')

struct command_word {
	struct backend *b;
	u32 word; /* its last four letters */
	u32 kind;
};

/* One byte; not 0 when ->kind is known. */
static long command_step(u32 i, struct command_word *w)
{
	u8 c = w->b->compare[0][bounded_max(i, COMPARE_BYTES - 1)];

	if (!w->word && c && c <= ' ')
		return 0;
	if (w->word && c == '_')
		return 1;
	if (c < 'A' || c > 'Z') {
		w->kind = w->word == COMMAND_SHOW_WORD ? COMMAND_SHOW : COMMAND_SQL;
		return 1;
	}
	w->word = w->word >> 24 ? ~0U : w->word << 8 | c; /* none of ours has five letters and no underscore */
	return 0;
}

/*
 * What a walsender does with its text, enum command. Its own commands begin with a word in capitals with an underscore,
 * like no SQL; SHOW means there what it means everywhere, but the parser does not see it. What the first bytes do not
 * tell is a replication command: if it is SQL after all, it is just judged once more when it is parsed.
 */
GLOBAL_FN int command_kind(struct backend *b, u64 text)
{
	struct command_word w = { .b = b, .kind = COMMAND_REPLICATION };
	long n;

	if (!b)
		return COMMAND_REPLICATION;
	n = bpf_probe_read_user_str(b->compare[0], COMPARE_BYTES, (void *)text);
	if (n > 0)
		bpf_loop(bounded_max(n, COMPARE_BYTES - 1), command_step, &w, 0);
	return w.kind;
}

/* True when the text in b->judge.text is to be judged here, and not when it is parsed, or not at all. */
static __always_inline bool command_is_judged(struct dbf_config *cfg, u32 kind)
{
	if (!cfg || !cfg->enforce || kind == COMMAND_SQL)
		return false;
	return kind == COMMAND_SHOW || cfg->gate_replication;
}

/* exec_replication_command(const char *cmd_string): each text that a walsender gets, before the server's check for
 * interrupts there. What is SQL is parsed next. */
SEC("uprobe")
int BPF_KPROBE(exec_replication_command, u64 cmd)
{
	struct dbf_server *srv;
	struct backend *b = task_backend(ctx, &srv, false);
	struct dbf_text *head;
	struct text t;
	u32 kind, mode;

	if (!b || !hold_settle(b))
		return 0;
	kind = command_kind(b, cmd);
	mode = kind == COMMAND_REPLICATION ? DBF_MODE_REPLICATION : 0;
	b->replicating = kind == COMMAND_REPLICATION;
	head = text_head(b);
	head->mode = mode;
	head->id = 0;
	b->execs += kind != COMMAND_SQL;
	text_fact(b, DBF_FACT_REPLICATION, sizeof(*head), cmd, DBF_TEXT_TOP, &t);
	if (command_is_judged(config_get(), kind)) {
		b->judge = (struct judging){
			.ptr = cmd, .gate = DBF_GATE_REPLICATION, .mode = mode, .top = 1, .text = t
		};
		verdict_judge(b, srv);
	}
	if (kind != COMMAND_SQL)
		emit_flush(b, EMIT_WAKE);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(process_exit, struct task_struct *p)
{
	struct backend *b;

	if (p->pid != p->tgid || !instance_active())
		return 0;
	b = bpf_task_storage_get(&backends, p, NULL, 0);
	if (!b || !b->kind || b->kind == DBF_SESSION_IGNORED)
		return 0;
	hold_abandon(b);
	b->failed = 1; /* its memory is not to be read any more */
	stmt_end_folds(b);
	emit_arg(b, DBF_FACT_EXIT, p->exit_code);
	emit_flush(b, EMIT_LAZY);
	return 0;
}

/*
 * SYN_SENT is entered in connect(2), in the client's own context; its port is known once
 * established. Works from the moment it is attached, whichever instance is active: what connects
 * while a daemon starts is missed by nobody, and two instances write the same.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int oldstate, int newstate)
{
	struct dbf_tcp_client client = {}, *found;
	struct dbf_tcp_key key = {};
	u64 id = (u64)sk;

	if (newstate == TCP_SYN_SENT) {
		client.pid = bpf_get_current_pid_tgid() >> 32;
		client.uid = bpf_get_current_uid_gid();
		client.cgroup = bpf_get_current_cgroup_id();
		client.start = BPF_CORE_READ((struct task_struct *)bpf_get_current_task_btf(),
					     group_leader, start_boottime);
		bpf_get_current_comm(client.comm, sizeof(client.comm));
		bpf_map_update_elem(&connecting, &id, &client, BPF_ANY);
		return 0;
	}
	if (oldstate != TCP_SYN_SENT)
		return 0;
	found = bpf_map_lookup_elem(&connecting, &id);
	if (!found)
		return 0;
	if (newstate == TCP_ESTABLISHED) {
		client = *found;
		tcp_key(&key, sk, true);
		bpf_map_update_elem(&tcp_clients, &key, &client, BPF_ANY);
	}
	bpf_map_delete_elem(&connecting, &id);
	return 0;
}

/* Who holds the connections that were there before, in every network namespace: read once at a
 * start. Both ends of a connection are told; which one is the client's is for the reader to say. */
SEC("iter/task_file")
int tcp_owners(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct dbf_tcp_owner owner = {};
	struct socket *socket;
	struct sock *sk;
	u16 family;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = BPF_CORE_READ(socket, sk);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if ((family != AF_INET && family != AF_INET6) ||
	    BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP ||
	    BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_ESTABLISHED)
		return 0;
	tcp_key(&owner.key, sk, true);
	owner.client.pid = BPF_CORE_READ(task, tgid);
	owner.client.uid = BPF_CORE_READ(task, cred, uid.val);
	owner.client.cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	owner.client.start = BPF_CORE_READ(task, group_leader, start_boottime);
	BPF_CORE_READ_STR_INTO(&owner.client.comm, task, comm);
	bpf_seq_write(ctx->meta->seq, &owner, sizeof(owner));
	return 0;
}
