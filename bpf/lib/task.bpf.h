/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Rank 4. Whose backend is this: finds or makes its state, and says who it is once.
 *
 * A probe's cookie holds the server's index in its top byte and the probe's virtual address below,
 * so that the load address is the instruction pointer minus that address, without knowing where a
 * binary is mapped.
 */
#ifndef DBF_TASK_BPF_H
#define DBF_TASK_BPF_H

#include "lib/text.bpf.h"

#define COOKIE_SERVER(cookie) ((u32)((cookie) >> 56))
#define COOKIE_VADDR(cookie) ((cookie)&0x00ffffffffffffffULL)

/*
 * What a decision hangs on is read with task_read(): true when the page is not there, and then
 * nothing is known. The others read what is only described; there a missing page reads as zero.
 */
#define task_read(to, addr) (bpf_probe_read_user(to, sizeof(*(to)), (void *)(addr)) != 0)

static __always_inline u64 task_user_u64(u64 addr)
{
	u64 v = 0;

	bpf_probe_read_user(&v, sizeof(v), (void *)addr);
	return v;
}

static __always_inline u32 task_user_u32(u64 addr)
{
	u32 v = 0;

	bpf_probe_read_user(&v, sizeof(v), (void *)addr);
	return v;
}

static __always_inline u16 task_user_u16(u64 addr)
{
	u16 v = 0;

	bpf_probe_read_user(&v, sizeof(v), (void *)addr);
	return v;
}

static __always_inline u8 task_user_u8(u64 addr)
{
	u8 v = 0;

	bpf_probe_read_user(&v, sizeof(v), (void *)addr);
	return v;
}

static __always_inline struct dbf_server *task_server(u32 index)
{
	index &= DBF_SERVERS - 1;
	return bpf_map_lookup_elem(&servers, &index);
}

/* sockaddr_storage at @addr: family and port, the address as 16 bytes. */
static __always_inline u16 task_user_sockaddr(u64 addr, u8 *ip, u16 *port)
{
	u16 family = task_user_u16(addr);

	*port = bpf_ntohs(task_user_u16(addr + 2));
	if (family == AF_INET) {
		ip[10] = ip[11] = 0xff;
		bpf_probe_read_user(ip + 12, 4, (void *)(addr + 4));
	} else if (family == AF_INET6) {
		bpf_probe_read_user(ip, 16, (void *)(addr + 8));
	}
	return family;
}

static __always_inline bool task_is_loopback(const u8 *ip)
{
	static const u8 v6[16] = { [15] = 1 };

	if (ip[10] == 0xff && ip[11] == 0xff)
		return ip[12] == 127;
	for (int i = 0; i < 16; i++)
		if (ip[i] != v6[i])
			return false;
	return true;
}

static __always_inline void tcp_address(u8 *to, struct sock *sk, bool local)
{
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET6) {
		if (local)
			BPF_CORE_READ_INTO((struct in6_addr *)to, sk, __sk_common.skc_v6_rcv_saddr);
		else
			BPF_CORE_READ_INTO((struct in6_addr *)to, sk, __sk_common.skc_v6_daddr);
		return;
	}
	to[10] = to[11] = 0xff;
	*(u32 *)(to + 12) = local ? BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr)
				  : BPF_CORE_READ(sk, __sk_common.skc_daddr);
}

/* What names a connection at one of its ends. @key is zeroed. */
static __always_inline void tcp_key(struct dbf_tcp_key *key, struct sock *sk, bool client)
{
	u32 local = BPF_CORE_READ(sk, __sk_common.skc_num);
	u32 remote = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));

	tcp_address(key->client_addr, sk, client);
	tcp_address(key->server_addr, sk, !client);
	key->client_port = client ? local : remote;
	key->server_port = client ? remote : local;
	if (task_is_loopback(key->server_addr))
		key->netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

static __always_inline struct sock *task_sock(struct task_struct *task, int fd)
{
	struct fdtable *fdt = BPF_CORE_READ(task, files, fdt);
	struct file *file = NULL;
	struct file **fds;
	struct socket *socket;

	if (fd < 0 || (u32)fd >= BPF_CORE_READ(fdt, max_fds))
		return NULL;
	fds = BPF_CORE_READ(fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), fds + fd);
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

/* The process at the other end, when it is on this node: a unix socket knows its peer, TCP is
 * looked up. */
static __always_inline void task_find_client(struct dbf_session *s, struct task_struct *task,
					     int fd)
{
	struct sock *sk = task_sock(task, fd);
	struct dbf_tcp_key key = {};
	struct dbf_tcp_client *client;

	if (!sk)
		return;
	if (s->transport == DBF_TRANSPORT_UNIX) {
		s->client_pid = BPF_CORE_READ(sk, sk_peer_pid, numbers[0].nr);
		s->client_uid = BPF_CORE_READ(sk, sk_peer_cred, uid.val);
		s->client_known = s->client_pid != 0;
		return;
	}
	__builtin_memcpy(key.client_addr, s->client_addr, 16);
	__builtin_memcpy(key.server_addr, s->server_addr, 16);
	key.client_port = s->client_port;
	key.server_port = s->server_port;
	if (task_is_loopback(key.server_addr))
		key.netns = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	client = bpf_map_lookup_elem(&tcp_clients, &key);
	if (!client)
		return;
	s->client_known = 1;
	s->client_pid = client->pid;
	s->client_uid = client->uid;
	s->client_cgroup = client->cgroup;
	s->client_start = client->start;
	__builtin_memcpy(s->client_comm, client->comm, sizeof(s->client_comm));
}

static __always_inline void task_user_name(char *to, u64 addr)
{
	u64 ptr = task_user_u64(addr);

	if (ptr)
		bpf_probe_read_user_str(to, DBF_NAME_BYTES, (void *)ptr);
}

static __always_inline void task_describe(struct dbf_session *s, struct dbf_server *srv, u64 port)
{
	u16 family = task_user_sockaddr(port + srv->port_raddr, s->client_addr, &s->client_port);

	if (family == AF_UNIX) {
		s->transport = DBF_TRANSPORT_UNIX;
		s->client_port = 0;
		bpf_probe_read_user_str(s->socket_path, sizeof(s->socket_path),
					(void *)(port + srv->port_laddr + 2));
	} else {
		task_user_sockaddr(port + srv->port_laddr, s->server_addr, &s->server_port);
		s->transport =
			task_user_u8(port + srv->port_ssl) ? DBF_TRANSPORT_TLS : DBF_TRANSPORT_TCP;
	}
	task_user_name(s->database, port + srv->port_database);
	task_user_name(s->user, port + srv->port_user);
	task_user_name(s->application, port + srv->port_application);
}

/* What kind of process it is, and its Port. NONE when that cannot be read now. */
static __always_inline u32 task_kind(struct backend *b, struct dbf_server *srv, u64 *port)
{
	u8 walsender = 0;
	s32 worker = 0;

	if (task_read(&worker, b->base + srv->parallel_worker) ||
	    task_read(port, b->base + srv->my_proc_port) ||
	    task_read(&walsender, b->base + srv->am_walsender)) {
		count_add(DBF_COUNT_STATE_FAULTS, 1);
		return DBF_SESSION_NONE;
	}
	return worker >= 0  ? DBF_SESSION_IGNORED
	       : !*port	    ? DBF_SESSION_BACKGROUND
	       : walsender  ? DBF_SESSION_WALSENDER
			    : DBF_SESSION_CLIENT;
}

/*
 * First sight of a process, or the first since a new reader took the ring: say who it is. @opening:
 * its first words to the client, so it is new; otherwise it was there before. When it cannot be
 * told, the next hit looks again: nothing is guessed for good.
 */
GLOBAL_FN int task_open(struct backend *b, struct dbf_server *srv, bool opening)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct dbf_session *s;
	u32 fact_len = sizeof(struct dbf_fact) + sizeof(*s);
	u64 port = 0;
	u32 kind;

	if (!b || !srv)
		return 0;
	kind = task_kind(b, srv, &port);
	if (!kind) {
		b->reader_epoch = 0;
		return 0;
	}
	if (!b->next_exec_id)
		b->next_exec_id = 1;
	b->tgid = bpf_get_current_pid_tgid() >> 32;
	b->session = BPF_CORE_READ(task, group_leader, start_boottime);
	b->postmaster = BPF_CORE_READ(task, real_parent, tgid);
	/* One that was there before may be streaming: until its next text it is taken for that. */
	if (!b->kind)
		b->replicating = kind == DBF_SESSION_WALSENDER;
	b->kind = kind;
	if (kind == DBF_SESSION_IGNORED)
		return 0;
	s = emit_room(b, sizeof(struct dbf_fact) + sizeof(*s)) + sizeof(struct dbf_fact);
	__builtin_memset(s, 0, sizeof(*s));
	s->kind = b->kind;
	s->found = !opening;
	s->major = srv->major;
	if (port) {
		task_describe(s, srv, port);
		task_find_client(s, task, task_user_u32(port + srv->port_sock));
	}
	emit_commit(b, DBF_FACT_OPEN, fact_len, 0, bpf_ktime_get_ns());
	/* The client may be gone in a moment: let user space look at it now. */
	if (emit_flush(b, EMIT_WAKE | EMIT_RESERVE))
		b->reader_epoch = 0; /* tell it again */
	return 0;
}

/*
 * The state of the process that hit this probe, or NULL when it has none to have. *srv is never
 * NULL with it. A forked child inherits memory, not storage, so a postmaster's children start
 * clean.
 */
static __always_inline struct backend *task_backend(struct pt_regs *ctx, struct dbf_server **srv,
						    bool opening)
{
	struct dbf_vitals *v = vitals_get();
	u64 cookie;
	struct backend *b;

	if (!v || v->active_instance != cfg_instance)
		return NULL;
	cookie = bpf_get_attach_cookie(ctx);
	*srv = task_server(COOKIE_SERVER(cookie));
	if (!*srv || !(*srv)->valid)
		return NULL;
	b = bpf_task_storage_get(&backends, bpf_get_current_task_btf(), NULL,
				 BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!b) {
		count_add(DBF_COUNT_NO_STORAGE, 1);
		return NULL;
	}
	if (!b->kind || b->reader_epoch != v->reader_epoch) {
		opening = opening && !b->kind;
		b->reader_epoch = v->reader_epoch;
		b->server = COOKIE_SERVER(cookie);
		b->base = PT_REGS_IP(ctx) - COOKIE_VADDR(cookie);
		b->strings_addr = b->base + (*srv)->standard_strings;
		task_open(b, *srv, opening);
	}
	return !b->kind || b->kind == DBF_SESSION_IGNORED ? NULL : b;
}

#endif
