// SPDX-License-Identifier: Apache-2.0
#include "loader/kernel_private.h"

#include <errno.h>
#include <fcntl.h>
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
#include "loader/pinned.h"
#include "enforce/wire_hold.h"
#include "loader/wire.h"

#define TIMER_TRIES 20
/* Bits that no container network is known to give a meaning: some drop, accept or route by the others. */
#define KEEP_MARK 0x3000
#define KEEP_MARK_RANDOM 0xff
#define PIPE_BYTES (4 * 4096) /* four buffers of 40 bytes: a block as large as a timer's, 144 bytes */

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
	uint32_t mark;
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
	if (getrandom(&mark, sizeof(mark), 0) != sizeof(mark))
		mark = (uint32_t)clock_mono_ns();
	k->skel->rodata->cfg_keep_mark = KEEP_MARK | (mark & KEEP_MARK_RANDOM);
	k->skel->rodata->cfg_server_vantage = !opts->no_server;
	k->skel->rodata->cfg_wire_vantage = !opts->no_wire;
	bpf_program__set_autoload(k->skel->progs.wire_egress, !opts->no_wire);
	bpf_program__set_autoload(k->skel->progs.wire_ingress, !opts->no_wire);
	bpf_program__set_autoload(k->skel->progs.wire_closed, !opts->no_wire);
	bpf_program__set_autoload(k->skel->progs.wire_rewriter, !opts->no_wire);
	bpf_program__set_autoload(k->skel->progs.wire_handback, !opts->no_wire);
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

/*
 * Memory for a timer is asked for without waiting: since 6.18 from blocks that are free already, and none are added, however
 * often one asks. Pipes use blocks of that size too and may wait for more; closed, they leave theirs to the timers.
 */
static void free_blocks_for_timers(void)
{
	int fds[DBF_HOLD_SLOTS][2];
	int n = 0;

	for (; n < DBF_HOLD_SLOTS && !pipe2(fds[n], O_CLOEXEC); n++)
		if (fcntl(fds[n][1], F_SETPIPE_SZ, PIPE_BYTES) < 0)
			log_debug("a pipe keeps its size: %s", strerror(errno));
	while (n--) {
		close(fds[n][0]);
		close(fds[n][1]);
	}
}

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
		free_blocks_for_timers();
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
	k->wire_holds = pinned_map(bpf_map__fd(k->skel->maps.wire_holds),
				   DBF_WIRE_HOLD_SLOTS * sizeof(*k->wire_holds));
	k->marks = pinned_map_read(bpf_map__fd(k->skel->maps.wire_marks), DBF_WIRE_MARKS * sizeof(*k->marks));
	if (!k->vitals || !k->holds || !k->doorbell || !k->wire_holds || !k->marks) {
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

void kernel_close(struct kernel *k, enum kernel_end end)
{
	unsigned removed = 0;

	if (!k)
		return;
	if (end == KERNEL_REMOVE)
		__atomic_store_n(&k->vitals->active_instance, 0, __ATOMIC_SEQ_CST);
	/* Pins last: see kernel_free_server(). */
	for (unsigned i = 0; i < DBF_SERVERS; i++)
		kernel_free_server(&k->servers[i]);
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
	if (k->wire_holds)
		munmap(k->wire_holds, DBF_WIRE_HOLD_SLOTS * sizeof(*k->wire_holds));
	if (k->marks)
		munmap((void *)(uintptr_t)k->marks, DBF_WIRE_MARKS * sizeof(*k->marks));
	dbfence_bpf__destroy(k->skel);
	free(k);
}

bool kernel_took_over(const struct kernel *k)
{
	return k->took_over;
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

int kernel_set_ports(struct kernel *k, enum dbf_port_set set, const struct dbf_ports *ports)
{
	uint32_t key = set;

	return bpf_map_update_elem(bpf_map__fd(k->skel->maps.wire_ports), &key, ports, BPF_ANY) ? -errno : 0;
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

int kernel_put_verdict(struct kernel *k, const struct dbf_verdict_key *key, uint32_t action, const char *rule)
{
	struct dbf_verdict_value value = { .action = action };

	value.name_len = wire_hold_name(value.name, rule);

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

struct dbf_wire_hold *kernel_wire_holds(const struct kernel *k)
{
	return k->wire_holds;
}

int kernel_rewriter(const struct kernel *k)
{
	return bpf_program__fd(k->skel->progs.wire_rewriter);
}

int kernel_handback(const struct kernel *k)
{
	return bpf_program__fd(k->skel->progs.wire_handback);
}

int kernel_wire_devices(const struct kernel *k)
{
	return bpf_map__fd(k->skel->maps.wire_devices);
}

int kernel_put_vouch(struct kernel *k, uint64_t conn, uint32_t policy_gen)
{
	return bpf_map_update_elem(bpf_map__fd(k->skel->maps.wire_vouches), &conn, &policy_gen, BPF_ANY) ? -errno : 0;
}

struct dbf_doorbell *kernel_doorbell(const struct kernel *k)
{
	return k->doorbell;
}

const struct dbf_wire_mark *kernel_marks(const struct kernel *k)
{
	return k->marks;
}

const struct dbf_vitals *kernel_drop_pages(const struct kernel *k)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p;

	munmap(k->holds, DBF_HOLD_SLOTS * sizeof(*k->holds));
	munmap(k->wire_holds, DBF_WIRE_HOLD_SLOTS * sizeof(*k->wire_holds));
	munmap(k->vitals, page);
	/* A mapping made without PROT_WRITE loses the right to get it back, unlike one that only lost it to mprotect. */
	p = mmap(NULL, page, PROT_READ, MAP_SHARED, bpf_map__fd(k->skel->maps.vitals), 0);
	return p == MAP_FAILED ? NULL : p;
}
