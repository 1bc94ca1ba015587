// SPDX-License-Identifier: Apache-2.0
/* Probes on server binaries: which, where, and what the programs must know of a release. */
#include "loader/kernel_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "core/clock.h"
#include "loader/pg_layout.h"

enum hook_id {
	HOOK_RAW_PARSER,
	HOOK_EXECUTOR_RUN,
	HOOK_EXECUTOR_END,
	HOOK_PROCESS_UTILITY,
	HOOK_SECURE_WRITE,
	HOOK_ERRCODE,
	HOOK_XID,
	HOOK_SPI_COMMIT,
	HOOK_SPI_COMMIT_CHAIN,
	HOOK_SPI_ROLLBACK,
	HOOK_SPI_ROLLBACK_CHAIN,
	HOOK_FUNCTION,
	HOOK_REPLICATION,
	HOOK_EXECUTE_GATE,
	HOOK_MAX
};

static const struct {
	const char *symbol;
	unsigned args;
	bool optional;
} hooks[HOOK_MAX] = {
	[HOOK_RAW_PARSER] = { "raw_parser", 2, false },
	[HOOK_EXECUTOR_RUN] = { "ExecutorRun", 1, false },
	[HOOK_EXECUTOR_END] = { "ExecutorEnd", 1, false },
	[HOOK_PROCESS_UTILITY] = { "ProcessUtility", 2, false },
	[HOOK_SECURE_WRITE] = { "secure_write", 3, false },
	[HOOK_ERRCODE] = { "errcode", 1, true },
	[HOOK_XID] = { "XactLockTableInsert", 1, true },
	[HOOK_SPI_COMMIT] = { "SPI_commit", 0, true },
	[HOOK_SPI_COMMIT_CHAIN] = { "SPI_commit_and_chain", 0, true },
	[HOOK_SPI_ROLLBACK] = { "SPI_rollback", 0, true },
	[HOOK_SPI_ROLLBACK_CHAIN] = { "SPI_rollback_and_chain", 0, true },
	[HOOK_FUNCTION] = { "HandleFunctionRequest", 1, true },
	[HOOK_REPLICATION] = { "exec_replication_command", 1, true },
	[HOOK_EXECUTE_GATE] = { "CreateDestReceiver", 1, true },
};

static struct bpf_program *hook_program(const struct kernel *k, enum hook_id id)
{
	switch (id) {
	case HOOK_RAW_PARSER: return k->skel->progs.raw_parser;
	case HOOK_EXECUTOR_RUN: return k->skel->progs.executor_run;
	case HOOK_EXECUTOR_END: return k->skel->progs.executor_end;
	case HOOK_PROCESS_UTILITY: return k->skel->progs.process_utility;
	case HOOK_SECURE_WRITE: return k->skel->progs.secure_write;
	case HOOK_ERRCODE: return k->skel->progs.errcode_entry;
	case HOOK_XID: return k->skel->progs.xact_lock_table_insert;
	case HOOK_SPI_COMMIT:
	case HOOK_SPI_COMMIT_CHAIN: return k->skel->progs.spi_commit;
	case HOOK_SPI_ROLLBACK:
	case HOOK_SPI_ROLLBACK_CHAIN: return k->skel->progs.spi_rollback;
	case HOOK_FUNCTION: return k->skel->progs.handle_function_request;
	case HOOK_REPLICATION: return k->skel->progs.exec_replication_command;
	case HOOK_EXECUTE_GATE: return k->skel->progs.create_dest_receiver;
	case HOOK_MAX: break;
	}
	return NULL;
}

void kernel_free_server(struct server_links *s)
{
	if (!s->used)
		return;
	for (unsigned i = 0; i < KERNEL_HOOKS_MAX; i++)
		bpf_link__destroy(s->links[i]);
	close(s->fd);
	*s = (struct server_links){ .fd = -1 };
}

static int need_symbol(const struct elf_file *elf, const char *name, uint64_t *vaddr,
		       struct err *err)
{
	struct elf_symbol sym;

	if (elf_lookup_symbol(elf, name, &sym))
		return err_set(err, -ENOENT, "it does not export %s", name);
	*vaddr = sym.vaddr;
	return 0;
}

static bool query_desc_fits(const struct pg_query_desc_layout *q)
{
	return q->operation == offsetof(struct dbf_query_desc, operation) &&
	       q->plannedstmt == offsetof(struct dbf_query_desc, plannedstmt) &&
	       q->source_text == offsetof(struct dbf_query_desc, source) &&
	       q->dest == offsetof(struct dbf_query_desc, dest) &&
	       q->estate == offsetof(struct dbf_query_desc, estate) &&
	       q->already_executed == offsetof(struct dbf_query_desc, already_executed);
}

static int fill_server(const struct elf_file *elf, const struct pg_layout *l, struct dbf_server *s,
		       struct err *err)
{
	struct {
		const char *name;
		uint64_t vaddr;
	} v[] = {
		{ "debug_query_string", 0 },
		{ "MyProcPort", 0 },
		{ "ActivePortal", 0 },
		{ "InterruptHoldoffCount", 0 },
		{ "QueryCancelHoldoffCount", 0 },
		{ "CritSectionCount", 0 },
		{ "am_walsender", 0 },
		{ "ParallelWorkerNumber", 0 },
		{ "standard_conforming_strings", 0 },
	};

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		int rc = need_symbol(elf, v[i].name, &v[i].vaddr, err);

		if (rc)
			return rc;
	}
	if (!query_desc_fits(&l->query_desc))
		return err_set(err, -ENOTSUP,
			       "PostgreSQL %d lays QueryDesc out in a way the probes do not know",
			       l->major);
	*s = (struct dbf_server){
		.valid = 1,
		.major = (uint32_t)l->major,
		.debug_query_string = v[0].vaddr,
		.my_proc_port = v[1].vaddr,
		.active_portal = v[2].vaddr,
		.interrupt_holdoff = v[3].vaddr,
		.cancel_holdoff = v[4].vaddr,
		.crit_section = v[5].vaddr,
		.am_walsender = v[6].vaddr,
		.parallel_worker = v[7].vaddr,
		.standard_strings = v[8].vaddr,
		.qd_operation = (uint16_t)l->query_desc.operation,
		.qd_plannedstmt = (uint16_t)l->query_desc.plannedstmt,
		.qd_source = (uint16_t)l->query_desc.source_text,
		.qd_dest = (uint16_t)l->query_desc.dest,
		.qd_estate = (uint16_t)l->query_desc.estate,
		.qd_again = (uint16_t)l->query_desc.already_executed,
		.es_processed = (uint16_t)l->estate.processed,
		.dest_kind = (uint16_t)l->dest_receiver_mydest,
		.portal_prep_name = (uint16_t)l->portal.prep_stmt_name,
		.portal_source = (uint16_t)l->portal.source_text,
		.ps_command = (uint16_t)l->planned_stmt.command_type,
		.ps_modifying_cte = (uint16_t)l->planned_stmt.has_modifying_cte,
		.ps_location = (uint16_t)l->planned_stmt.stmt_location,
		.ps_len = (uint16_t)l->planned_stmt.stmt_len,
		.ps_utility = (uint16_t)l->planned_stmt.utility_stmt,
		.port_laddr = (uint16_t)l->port.laddr,
		.port_raddr = (uint16_t)l->port.raddr,
		.port_database = (uint16_t)l->port.database_name,
		.port_user = (uint16_t)l->port.user_name,
		.port_application = (uint16_t)l->port.application_name,
		.port_ssl = (uint16_t)l->port.ssl_in_use,
		.port_sock = (uint16_t)l->port.sock,
		.dest_remote_execute = (uint16_t)l->command_dest.remote_execute,
		.dest_spi = (uint16_t)l->command_dest.spi,
		.utility_context_arg = (uint16_t)(l->args.utility_context + 1),
		.create_function_tag = l->create_function_tag,
	};
	return 0;
}

/* The entry of an equal server (a takeover), or the one that is free for longest. -ENOSPC when there
 * is none. */
static int server_index(struct kernel *k, const struct dbf_server *s)
{
	int fd = bpf_map__fd(k->skel->maps.servers), spare = -ENOSPC;
	struct dbf_server old;

	for (uint32_t i = 0; i < DBF_SERVERS; i++) {
		if (k->servers[i].used || bpf_map_lookup_elem(fd, &i, &old))
			continue;
		if (!memcmp(&old, s, sizeof(old)))
			return (int)i;
		if (!old.valid &&
		    (spare < 0 || k->servers[i].retired_ns < k->servers[spare].retired_ns))
			spare = (int)i;
	}
	return spare;
}

static struct bpf_link *attach_hook(struct kernel *k, enum hook_id id, int index, int fd,
				    const struct probe_site *site)
{
	struct bpf_link *link;
	char path[64], pin[400];
	LIBBPF_OPTS(bpf_uprobe_opts, opts, .bpf_cookie = (uint64_t)index << 56 | site->vaddr);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	link = bpf_program__attach_uprobe_opts(hook_program(k, id), -1, path, site->offset, &opts);
	if (!link)
		return NULL;
	snprintf(pin, sizeof(pin), "%s/%d-%s", k->link_dir, index, hooks[id].symbol);
	if (bpf_link__pin(link, pin)) {
		bpf_link__destroy(link);
		return NULL;
	}
	return link;
}

/*
 * exec_execute_message, which is not exported, is the only caller of CreateDestReceiver that has
 * just called BeginCommand: a probe on that call costs nothing elsewhere.
 */
#define EXECUTE_MARK "BeginCommand"
#define EXECUTE_MARK_BYTES 24

static int place_hook(const struct elf_file *elf, enum hook_id id, const struct pg_layout *l,
		      struct probe_site *site)
{
	struct probe_target target = { .arg_regs = probe_arg_regs(hooks[id].args) };
	struct elf_symbol sym, mark;

	if (elf_lookup_symbol(elf, hooks[id].symbol, &sym))
		return -ENOENT;
	target.vaddr = sym.vaddr;
	target.size = sym.size;
	if (id == HOOK_EXECUTE_GATE && !elf_lookup_symbol(elf, EXECUTE_MARK, &mark) &&
	    !probe_place_call(elf, sym.vaddr, mark.vaddr, EXECUTE_MARK_BYTES, site))
		return 0;
	if (id == HOOK_PROCESS_UTILITY)
		target.arg_regs |= probe_arg_reg((unsigned)l->args.utility_context);
	return probe_place(elf, &target, PROBE_INSNS_MAX, site);
}

static void attach_hooks(struct kernel *k, const struct elf_file *elf, const struct pg_layout *l,
			 int index, struct kernel_server *out)
{
	struct server_links *s = &k->servers[index];

	out->covered = true;
	for (enum hook_id id = 0; id < HOOK_MAX; id++) {
		struct kernel_hook *h = &out->hooks[out->hook_cnt++];
		struct probe_site site = {};

		*h = (struct kernel_hook){ .symbol = hooks[id].symbol,
					   .optional = hooks[id].optional,
					   .why_not = "" };
		if (place_hook(elf, id, l, &site)) {
			h->why_not = "not exported by this binary";
		} else if (id == HOOK_EXECUTE_GATE) {
			s->gate = site;
			s->has_gate = true;
			h->slow = site.slow;
			h->why_not = "attached while it is needed";
			if (k->gate_on)
				s->links[id] = attach_hook(k, id, index, s->fd, &site);
			h->attached = s->links[id] != NULL;
		} else {
			s->links[id] = attach_hook(k, id, index, s->fd, &site);
			h->attached = s->links[id] != NULL;
			h->slow = site.slow;
			if (!h->attached)
				h->why_not = "the kernel refused the probe";
		}
		if (!h->attached && !h->optional && out->covered) {
			out->covered = false;
			snprintf(out->problem, sizeof(out->problem), "%s: %s", h->symbol,
				 h->why_not);
		}
	}
}

int kernel_attach_server(struct kernel *k, const struct pg_server *server,
			 struct kernel_server *out, struct err *err)
{
	const struct pg_layout *l = pg_layout_lookup(server->major);
	struct elf_file *elf = NULL;
	struct dbf_server entry;
	uint32_t key;
	int rc, index;

	*out = (struct kernel_server){
		.index = -1, .dev = server->dev, .ino = server->ino, .major = server->major
	};
	if (!l)
		return err_set(err, -ENOTSUP, "PostgreSQL %s is not supported: majors 13 to 18 are",
			       server->version[0] ? server->version : "of unknown version");
	rc = elf_open_fd(server->fd, &elf, err);
	if (!rc)
		rc = fill_server(elf, l, &entry, err);
	if (rc)
		goto out;
	index = server_index(k, &entry);
	if (index < 0) {
		rc = err_set(err, -ENOSPC, "more than %d different server binaries run here",
			     DBF_SERVERS);
		goto out;
	}
	key = (uint32_t)index;
	if (bpf_map_update_elem(bpf_map__fd(k->skel->maps.servers), &key, &entry, BPF_ANY)) {
		rc = err_set(err, -errno, "cannot write the servers map: %s", strerror(errno));
		goto out;
	}
	k->servers[index] =
		(struct server_links){ .used = true, .dev = server->dev, .ino = server->ino };
	k->servers[index].fd = fcntl(server->fd, F_DUPFD_CLOEXEC, 3);
	out->index = index;
	attach_hooks(k, elf, l, index, out);
out:
	elf_close(elf);
	return rc;
}

void kernel_detach_server(struct kernel *k, int index)
{
	struct dbf_server none = {};
	uint32_t key = (uint32_t)index;
	char pin[400];

	if (index < 0 || index >= DBF_SERVERS)
		return;
	/* Without an entry its probes do nothing, until a kernel worker has removed them. */
	bpf_map_update_elem(bpf_map__fd(k->skel->maps.servers), &key, &none, BPF_ANY);
	kernel_free_server(&k->servers[index]);
	k->servers[index].retired_ns = clock_mono_ns();
	for (enum hook_id id = 0; id < HOOK_MAX; id++) {
		snprintf(pin, sizeof(pin), "%s/%d-%s", k->link_dir, index, hooks[id].symbol);
		unlink(pin);
	}
}

int kernel_set_execute_gate(struct kernel *k, bool on)
{
	char pin[400];
	int rc = 0;

	k->gate_on = on;
	for (int i = 0; i < DBF_SERVERS; i++) {
		struct server_links *s = &k->servers[i];
		struct bpf_link **link = &s->links[HOOK_EXECUTE_GATE];

		if (!s->used || !s->has_gate || on == (*link != NULL))
			continue;
		if (on) {
			*link = attach_hook(k, HOOK_EXECUTE_GATE, i, s->fd, &s->gate);
			if (!*link)
				rc = -errno;
			continue;
		}
		snprintf(pin, sizeof(pin), "%s/%d-%s", k->link_dir, i,
			 hooks[HOOK_EXECUTE_GATE].symbol);
		bpf_link__destroy(*link);
		*link = NULL;
		unlink(pin);
	}
	return rc;
}
