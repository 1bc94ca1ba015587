// SPDX-License-Identifier: Apache-2.0
#include "loader/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "core/clock.h"
#include "core/log.h"
#include "dbfence.skel.h"
#include "loader/pg_layout.h"
#include "loader/pinned.h"
#include "loader/probe.h"
#include "loader/wire.h"

#define LINKS_MAX (DBF_SERVERS * KERNEL_HOOKS_MAX)
#define TRACEPOINTS 5
#define WIRE_PROGRAMS 2
#define TIMER_TRIES 20
#define TIMER_WAIT_US 1000

struct server_links {
	bool used;
	dev_t dev;
	ino_t ino;
	struct bpf_link *links[KERNEL_HOOKS_MAX]; /* owned */
	struct probe_site gate;			  /* where the Execute gate goes */
	int fd;					  /* owned: the binary */
	bool has_gate;
	uint64_t retired_ns; /* of an unused one: probes with its index may still be there for a while */
};

struct kernel {
	struct dbfence_bpf *skel;
	char pin_dir[256];
	char link_dir[300];
	uint32_t instance;
	bool took_over;
	size_t ring_bytes;
	struct dbf_vitals *vitals;
	struct dbf_hold_slot *holds;
	struct dbf_doorbell *doorbell;
	struct bpf_link *tracepoints[TRACEPOINTS];
	struct bpf_link *wire[WIRE_PROGRAMS];
	struct server_links servers[DBF_SERVERS];
	bool gate_on;
};

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

static int libbpf_print(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char line[1024];

	if (level == LIBBPF_DEBUG)
		return 0;
	vsnprintf(line, sizeof(line), fmt, ap);
	line[strcspn(line, "\n")] = '\0';
	log_debug("libbpf: %s", line);
	return 0;
}

int kernel_check(struct err *err)
{
	char cgroup[2048];

	if (geteuid() != 0)
		return err_set(
			err, -EPERM,
			"dbfenced must be started as root: it loads programs into the kernel");
	if (wire_find_cgroup(cgroup, sizeof(cgroup)))
		return err_set(
			err, -ENOTSUP,
			"no cgroup v2 hierarchy is mounted: mount one (mount -t cgroup2 none "
			"/sys/fs/cgroup/unified), or boot with systemd.unified_cgroup_hierarchy=1");
	if (access("/sys/kernel/btf/vmlinux", R_OK))
		return err_set(
			err, -ENOTSUP,
			"this kernel has no BTF (/sys/kernel/btf/vmlinux): use one built with "
			"CONFIG_DEBUG_INFO_BTF=y, 6.1 or later");
	return 0;
}

/* Every map is pinned by its name; what is pinned already is used again. */
static int pin_maps(struct kernel *k, bool *reused)
{
	struct bpf_map *map;
	char path[400];

	*reused = false;
	bpf_object__for_each_map(map, k->skel->obj)
	{
		if (bpf_map__is_internal(map))
			continue;
		snprintf(path, sizeof(path), "%s/%s", k->pin_dir, bpf_map__name(map));
		if (!access(path, F_OK))
			*reused = true;
		if (bpf_map__set_pin_path(map, path))
			return -errno;
	}
	return 0;
}

static size_t ring_size(size_t want)
{
	size_t size = 4096;

	while (size < want && size < (1UL << 30))
		size *= 2;
	return size;
}

/* dbfence_bpf__open, of a copy when something in the object must be changed first. *image is to be
 * freed after the load. */
static struct dbfence_bpf *open_object(void **image)
{
	struct dbfence_bpf *skel;
	int rc = -ENOMEM;

	*image = NULL;
	if (kernel_has_task_work())
		return dbfence_bpf__open();
	skel = calloc(1, sizeof(*skel));
	if (!skel || dbfence_bpf__create_skeleton(skel))
		goto fail;
	*image = malloc(skel->skeleton->data_sz);
	if (!*image)
		goto fail;
	memcpy(*image, skel->skeleton->data, skel->skeleton->data_sz);
	kernel_hide_symbol(*image, skel->skeleton->data_sz, KERNEL_TASK_WORK_KFUNC);
	skel->skeleton->data = *image;
	rc = bpf_object__open_skeleton(skel->skeleton, NULL);
	if (!rc)
		return skel;
fail:
	dbfence_bpf__destroy(skel);
	errno = -rc;
	return NULL;
}

static int load_once(struct kernel *k, const struct kernel_opts *opts, struct err *err)
{
	void *image;
	int rc;

	k->skel = open_object(&image);
	if (!k->skel) {
		rc = err_set(err, -errno, "cannot open the BPF object: %s", strerror(errno));
		free(image);
		return rc;
	}
	k->instance = pinned_instance(k->pin_dir) + 1;
	k->skel->rodata->cfg_instance = k->instance;
	bpf_map__set_max_entries(k->skel->maps.ring, (uint32_t)k->ring_bytes);
	bpf_program__set_autoload(k->skel->progs.signal_generate, kernel_releases_holds());
	bpf_program__set_autoload(k->skel->progs.release_prepare, kernel_releases_holds());
	k->skel->rodata->cfg_releases = kernel_releases_holds();
	k->skel->rodata->cfg_task_work = kernel_has_task_work();
	k->skel->rodata->cfg_server_vantage = !opts->no_server;
	bpf_program__set_autoload(k->skel->progs.wire_egress, !opts->no_wire);
	bpf_program__set_autoload(k->skel->progs.wire_ingress, !opts->no_wire);
	bpf_program__set_autoload(k->skel->progs.wire_closed, !opts->no_wire);
	rc = pin_maps(k, &k->took_over);
	if (!rc)
		rc = dbfence_bpf__load(k->skel);
	free(image);
	if (rc) {
		dbfence_bpf__destroy(k->skel);
		k->skel = NULL;
		return err_set(
			err, rc,
			"the kernel refused the programs (%s); 'dbfence doctor' says what it lacks",
			strerror(-rc));
	}
	return 0;
}

/* Memory for the timers is asked for without waiting, so it may take more than one try. */
static int make_timers(struct kernel *k, struct err *err)
{
	LIBBPF_OPTS(bpf_test_run_opts, run);

	if (!bpf_program__autoload(k->skel->progs.release_prepare))
		return 0;
	for (int i = 0; i < TIMER_TRIES; i++) {
		if (bpf_prog_test_run_opts(bpf_program__fd(k->skel->progs.release_prepare), &run))
			return err_set(err, -errno, "cannot make the timers that end holds: %s",
				       strerror(errno));
		if (!run.retval)
			return 0;
		usleep(TIMER_WAIT_US);
	}
	/* Slots without one are not used; a quarter of them is all that can be needed at once. */
	if (run.retval > DBF_HOLD_SLOTS / 2)
		log_warn("%u of %d timers that end holds could not be made: statements may not be held for want of them",
			 run.retval, DBF_HOLD_SLOTS);
	return 0;
}

static int attach_tracepoints(struct kernel *k, struct err *err)
{
	struct bpf_program *progs[TRACEPOINTS] = {
		k->skel->progs.process_exit,
		k->skel->progs.tcp_state,
		k->skel->progs.signal_generate,
		k->skel->progs.server_stop,
		k->skel->progs.wire_closed,
	};
	char path[400];

	for (int i = 0; i < TRACEPOINTS; i++) {
		if (!bpf_program__autoload(progs[i]))
			continue;
		k->tracepoints[i] = bpf_program__attach(progs[i]);
		if (!k->tracepoints[i])
			return err_set(err, -errno, "cannot attach %s: %s",
				       bpf_program__name(progs[i]), strerror(errno));
		snprintf(path, sizeof(path), "%s/%s", k->link_dir, bpf_program__name(progs[i]));
		if (bpf_link__pin(k->tracepoints[i], path))
			return err_set(err, -errno, "cannot pin %s: %s", path, strerror(errno));
	}
	return 0;
}

static int attach_wire(struct kernel *k, const char *cgroup, struct err *err)
{
	struct bpf_program *progs[WIRE_PROGRAMS] = { k->skel->progs.wire_egress, k->skel->progs.wire_ingress };
	char root[2048], path[400];

	if (!cgroup && wire_find_cgroup(root, sizeof(root)))
		return err_set(err, -ENOTSUP, "no cgroup v2 hierarchy is mounted");
	for (int i = 0; i < WIRE_PROGRAMS; i++) {
		if (!bpf_program__autoload(progs[i]))
			continue;
		snprintf(path, sizeof(path), "%s/%s", k->link_dir, bpf_program__name(progs[i]));
		k->wire[i] = wire_attach(progs[i], cgroup ? cgroup : root, path, err);
		if (!k->wire[i])
			return -errno;
	}
	return 0;
}

struct kernel *kernel_open(const struct kernel_opts *opts, struct err *err)
{
	struct kernel *k = NULL;
	size_t pinned;
	int rc;

	libbpf_set_print(libbpf_print);
	k = calloc(1, sizeof(*k));
	if (!k) {
		rc = err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	snprintf(k->pin_dir, sizeof(k->pin_dir), "%s",
		 opts->pin_dir ? opts->pin_dir : KERNEL_PIN_DIR);
	rc = pinned_make_dir(k->pin_dir, err);
	if (rc)
		goto fail;
	pinned = pinned_ring_bytes(k->pin_dir);
	k->ring_bytes = pinned ? pinned
			       : ring_size(opts->ring_bytes ? opts->ring_bytes : KERNEL_RING_BYTES);
	rc = load_once(k, opts, err);
	if (rc && k->took_over) {
		unsigned released, removed;

		log_warn("what is pinned under %s is of another version and cannot be taken over: "
			 "it is released",
			 k->pin_dir);
		kernel_disarm(k->pin_dir, &released, &removed, NULL);
		rc = pinned_make_dir(k->pin_dir, err);
		if (!rc)
			rc = load_once(k, opts, err);
	}
	if (rc)
		goto fail;
	snprintf(k->link_dir, sizeof(k->link_dir), "%s/links-%u", k->pin_dir, k->instance);
	if (mkdir(k->link_dir, 0700) && errno != EEXIST) {
		rc = err_set(err, -errno, "cannot create %s: %s", k->link_dir, strerror(errno));
		goto fail;
	}
	k->vitals = pinned_map(bpf_map__fd(k->skel->maps.vitals), sizeof(*k->vitals));
	k->holds = pinned_map(bpf_map__fd(k->skel->maps.holds), DBF_HOLD_SLOTS * sizeof(*k->holds));
	k->doorbell = pinned_map(bpf_map__fd(k->skel->maps.doorbells), sizeof(*k->doorbell));
	if (!k->vitals || !k->holds || !k->doorbell) {
		rc = err_set(err, -errno, "cannot map the shared pages: %s", strerror(errno));
		goto fail;
	}
	rc = make_timers(k, err);
	if (!rc)
		rc = attach_tracepoints(k, err);
	if (!rc)
		rc = attach_wire(k, opts->wire_cgroup, err);
	if (rc)
		goto fail;
	return k;
fail:
	kernel_close(k, KERNEL_UNDO);
	errno = -rc;
	return NULL;
}

/*
 * While a pin holds the link too, closing it costs nothing, and removing the pin then leaves the
 * detaching (100 ms a probe) to a kernel worker. The other way round it would be ours.
 */
static void free_server(struct server_links *s)
{
	if (!s->used)
		return;
	for (unsigned i = 0; i < KERNEL_HOOKS_MAX; i++)
		bpf_link__destroy(s->links[i]);
	close(s->fd);
	*s = (struct server_links){ .fd = -1 };
}

void kernel_close(struct kernel *k, enum kernel_end end)
{
	unsigned removed = 0;

	if (!k)
		return;
	if (end == KERNEL_REMOVE)
		__atomic_store_n(&k->vitals->active_instance, 0, __ATOMIC_SEQ_CST);
	/* Pins last: see free_server(). */
	for (unsigned i = 0; i < DBF_SERVERS; i++)
		free_server(&k->servers[i]);
	for (int i = 0; i < TRACEPOINTS; i++)
		bpf_link__destroy(k->tracepoints[i]);
	for (int i = 0; i < WIRE_PROGRAMS; i++)
		bpf_link__destroy(k->wire[i]);
	if (end == KERNEL_REMOVE)
		pinned_remove_links(k->pin_dir, NULL, &removed);
	else if (end == KERNEL_UNDO && k->link_dir[0])
		pinned_remove_dir(k->link_dir, &removed);
	if (end == KERNEL_REMOVE || (end == KERNEL_UNDO && !k->took_over))
		pinned_remove_dir(k->pin_dir, &removed);
	if (k->vitals)
		munmap(k->vitals, sizeof(*k->vitals));
	if (k->holds)
		munmap(k->holds, DBF_HOLD_SLOTS * sizeof(*k->holds));
	if (k->doorbell)
		munmap(k->doorbell, sizeof(*k->doorbell));
	dbfence_bpf__destroy(k->skel);
	free(k);
}

bool kernel_took_over(const struct kernel *k)
{
	return k->took_over;
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
	free_server(&k->servers[index]);
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

int kernel_activate(struct kernel *k, struct err *err)
{
	unsigned removed = 0;

	(void)err;
	__atomic_store_n(&k->vitals->active_instance, k->instance, __ATOMIC_SEQ_CST);
	pinned_remove_links(k->pin_dir, k->link_dir, &removed);
	return 0;
}

int kernel_set_cluster(struct kernel *k, uint32_t postmaster, const struct dbf_cluster *cluster)
{
	return bpf_map_update_elem(bpf_map__fd(k->skel->maps.clusters), &postmaster, cluster,
				   BPF_ANY)
		       ? -errno
		       : 0;
}

void kernel_drop_cluster(struct kernel *k, uint32_t postmaster)
{
	bpf_map_delete_elem(bpf_map__fd(k->skel->maps.clusters), &postmaster);
}

int kernel_set_ports(struct kernel *k, const struct dbf_ports *ports)
{
	uint32_t zero = 0;

	return bpf_map_update_elem(bpf_map__fd(k->skel->maps.wire_ports), &zero, ports, BPF_ANY) ? -errno : 0;
}

int kernel_get_config(struct kernel *k, struct dbf_config *config)
{
	uint32_t zero = 0;

	return bpf_map_lookup_elem(bpf_map__fd(k->skel->maps.configs), &zero, config) ? -errno : 0;
}

int kernel_set_policy(struct kernel *k, struct dbf_config *config, const struct dbf_screen *screen)
{
	struct dbf_config old = {};
	uint32_t zero = 0, index;

	kernel_get_config(k, &old);
	index = old.policy_gen ? !old.screen : 0;
	if (bpf_map_update_elem(bpf_map__fd(k->skel->maps.screens), &index, screen, BPF_ANY))
		return -errno;
	config->screen = index;
	if (old.key[0] | old.key[1])
		memcpy(config->key, old.key, sizeof(old.key));
	else if (getrandom(config->key, sizeof(config->key), 0) != sizeof(config->key))
		return -errno;
	return bpf_map_update_elem(bpf_map__fd(k->skel->maps.configs), &zero, config, BPF_ANY)
		       ? -errno
		       : 0;
}

int kernel_put_verdict(struct kernel *k, const struct dbf_verdict_key *key, uint32_t action)
{
	struct dbf_verdict_value value = { .action = action };

	return bpf_map_update_elem(bpf_map__fd(k->skel->maps.verdicts), key, &value, BPF_ANY)
		       ? -errno
		       : 0;
}

int kernel_put_class(struct kernel *k, const struct dbf_session_key *session,
		     uint32_t identity_class)
{
	return bpf_map_update_elem(bpf_map__fd(k->skel->maps.classes), session, &identity_class,
				   BPF_ANY)
		       ? -errno
		       : 0;
}

static void put_tcp_client(void *ctx, const struct dbf_tcp_owner *owner)
{
	struct kernel *k = ctx;

	bpf_map_update_elem(bpf_map__fd(k->skel->maps.tcp_clients), &owner->key, &owner->client,
			    BPF_NOEXIST);
}

int kernel_seed_tcp_clients(struct kernel *k, const struct tcp_seed_ports *ports, size_t *left_out,
			    struct err *err)
{
	struct bpf_link *link = bpf_program__attach_iter(k->skel->progs.tcp_owners, NULL);
	int fd = link ? bpf_iter_create(bpf_link__fd(link)) : -1;
	int rc = fd < 0 ? -errno :
			  tcp_seed(fd, ports, bpf_map__max_entries(k->skel->maps.tcp_clients),
				   put_tcp_client, k, left_out);

	if (fd >= 0)
		close(fd);
	bpf_link__destroy(link);
	return rc ? err_set(err, rc, "cannot list the TCP connections: %s", strerror(-rc)) : 0;
}

int kernel_ring_fd(const struct kernel *k)
{
	return bpf_map__fd(k->skel->maps.ring);
}

size_t kernel_ring_bytes(const struct kernel *k)
{
	return k->ring_bytes;
}

struct dbf_vitals *kernel_vitals(const struct kernel *k)
{
	return k->vitals;
}

struct dbf_hold_slot *kernel_holds(const struct kernel *k)
{
	return k->holds;
}

struct dbf_doorbell *kernel_doorbell(const struct kernel *k)
{
	return k->doorbell;
}

const struct dbf_vitals *kernel_drop_pages(const struct kernel *k)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p;

	munmap(k->holds, DBF_HOLD_SLOTS * sizeof(*k->holds));
	munmap(k->vitals, page);
	/* A mapping made without PROT_WRITE loses the right to get it back, unlike one that only lost it to mprotect. */
	p = mmap(NULL, page, PROT_READ, MAP_SHARED, bpf_map__fd(k->skel->maps.vitals), 0);
	return p == MAP_FAILED ? NULL : p;
}
