/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The BPF object's life: load, pin, attach to a server binary, take over from the daemon before,
 * disarm. It and features.c are the only files that talk to libbpf. Everything it makes is pinned,
 * so that what is enforced outlives the daemon.
 */
#ifndef DBFENCE_LOADER_KERNEL_H
#define DBFENCE_LOADER_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"
#include "dbfence/abi/wire.h"
#include "dbfence/abi/wire_hold.h"
#include "loader/discover.h"
#include "loader/tcp_seed.h"

#define KERNEL_PIN_DIR "/sys/fs/bpf/dbfence"
#define KERNEL_DISARMED_FILE \
	"disarmed" /* in the state directory: left by disarm for the next start */
#define KERNEL_RING_BYTES (8 * 1024 * 1024)

struct kernel;

struct kernel_opts {
	const char *pin_dir; /* NULL: KERNEL_PIN_DIR */
	size_t ring_bytes;   /* 0: KERNEL_RING_BYTES; rounded up to a power of two; what is pinned
				already wins */
	bool no_server, no_wire; /* vantages that are not wanted */
	const char *wire_cgroup; /* below which sockets are followed; NULL: all */
};

/* One attached hook, for status and doctor. */
struct kernel_hook {
	const char *symbol;
	bool attached;
	bool slow; /* its instruction is single-stepped */
	bool optional;
	const char *why_not; /* "" when attached */
};

#define KERNEL_HOOKS_MAX 20

struct kernel_server { /* one server binary */
	int index;     /* in the servers map */
	dev_t dev;
	ino_t ino;
	int major;
	bool covered; /* every hook that is not optional is attached */
	struct kernel_hook hooks[KERNEL_HOOKS_MAX];
	unsigned hook_cnt;
	char problem[256]; /* why it is not covered; "" when it is */
};

/* Whether this process and machine can load anything at all; a plain sentence when not. */
int kernel_check(struct err *err);

/*
 * First thing at a start, before anything can fail: end what an earlier daemon left held. *released
 * counts them, *generation is the pinned policies' (0 none).
 */
void kernel_recover(const char *pin_dir, unsigned *released, uint64_t *generation);

/*
 * Load the object with the maps that are pinned, or new ones; attach nothing yet but make what it
 * needs to attach. Mounts bpffs when it is absent. Sentences that say what to do: not root, no BTF,
 * no bpffs, too old a kernel. NULL on failure.
 */
struct kernel *kernel_open(const struct kernel_opts *opts, struct err *err);

enum kernel_end {
	KERNEL_KEEP,   /* leave it pinned and deciding */
	KERNEL_UNDO,   /* a start that failed: leave what was pinned before it, remove the rest */
	KERNEL_REMOVE, /* detach and unpin everything */
};

void kernel_close(struct kernel *k, enum kernel_end end);

/* Whether maps of an earlier daemon were taken over. */
bool kernel_took_over(const struct kernel *k);

/* Attach to a server binary. 0 even when not everything could be had: see *out. Negative errno when
 * nothing was done. */
int kernel_attach_server(struct kernel *k, const struct pg_server *server,
			 struct kernel_server *out, struct err *err);
void kernel_detach_server(struct kernel *k, int index);

/*
 * Where databases are known to listen, so that connections to and from there are followed even from their middle; or
 * where connections may be stopped.
 */
int kernel_set_ports(struct kernel *k, enum dbf_port_set set, const struct dbf_ports *ports);

/* Attach or detach the Execute gate on every server (see bpf/README.md). 0 or a negative errno. */
int kernel_set_execute_gate(struct kernel *k, bool on);

/*
 * From now on our programs act and those of the instance before do nothing; its links are removed.
 * Call once, after the servers that run were attached.
 */
int kernel_activate(struct kernel *k, struct err *err);

/* A postmaster whose sessions may be signalled. */
int kernel_set_cluster(struct kernel *k, uint32_t postmaster, const struct dbf_cluster *cluster);
void kernel_drop_cluster(struct kernel *k, uint32_t postmaster);

/* Put a screen beside the one in use, then the configuration that names it. */
int kernel_set_policy(struct kernel *k, struct dbf_config *config, const struct dbf_screen *screen);
int kernel_get_config(struct kernel *k, struct dbf_config *config);

/* @rule: its name, NULL or "" none; what is no letter or digit becomes '_'. */
int kernel_put_verdict(struct kernel *k, const struct dbf_verdict_key *key, uint32_t action, const char *rule);
int kernel_put_class(struct kernel *k, const struct dbf_session_key *session,
		     uint32_t identity_class);
/*
 * Tell the programs who owns the TCP connections that are there already, see tcp_seed.h. What they
 * saw themselves is not replaced: it is newer. Call once, before kernel_activate().
 */
int kernel_seed_tcp_clients(struct kernel *k, const struct tcp_seed_ports *ports, size_t *left_out,
			    struct err *err);

int kernel_ring_fd(const struct kernel *k);
size_t kernel_ring_bytes(const struct kernel *k);
/* Shared pages; borrowed: by the kernel object, writable. */
struct dbf_vitals *kernel_vitals(const struct kernel *k);
struct dbf_hold_slot *kernel_holds(const struct kernel *k);
/*
 * In a child that must not write them: give up both shared pages, and map the vitals again so that they can never become
 * writable. NULL with errno.
 */
const struct dbf_vitals *kernel_drop_pages(const struct kernel *k);
struct dbf_doorbell *kernel_doorbell(const struct kernel *k);
/* What the wire marks, mapped so that it can never become writable. */
const struct dbf_wire_mark *kernel_marks(const struct kernel *k);
struct dbf_wire_hold *kernel_wire_holds(const struct kernel *k); /* DBF_WIRE_HOLD_SLOTS of them */
int kernel_rewriter(const struct kernel *k);	 /* the program that changes what is denied at a device */
int kernel_handback(const struct kernel *k);	 /* the program that hands back what was kept at a server's socket */
int kernel_wire_devices(const struct kernel *k); /* the map of devices that have it */
/* All that connection @conn has prepared is allowed by these policies. */
int kernel_put_vouch(struct kernel *k, uint64_t conn, uint32_t policy_gen);

/*
 * With no daemon needed: release what is held by each hold's fail mode, detach and unpin everything
 * under @pin_dir. *released and *removed count. 0, -ENOENT when nothing was pinned, or a negative
 * errno.
 */
int kernel_disarm(const char *pin_dir, unsigned *released, unsigned *removed, struct err *err);

/*
 * Whether the kernel itself ends a hold that is past its deadline when every process of ours is
 * gone. Otherwise the next start does, or disarm.
 */
bool kernel_releases_holds(void);
/* Whether it then does so in time on an idle node too: KERNEL_TASK_WORK_KFUNC is there, with the
 * arguments we give it. */
#define KERNEL_TASK_WORK_KFUNC "bpf_task_work_schedule_signal_impl"
bool kernel_has_task_work(void);
/*
 * Rename a symbol of a BPF object to one that no kernel has. libbpf refuses an extern whose
 * prototype is not the kernel's even when it is weak, and from 7.0 on that kfunc's name stands in
 * BTF with another prototype.
 */
void kernel_hide_symbol(void *image, size_t len, const char *name);

/* For doctor: what this kernel offers. @fn gets a name, whether it is there, and what its absence
 * costs. */
void kernel_features(void (*fn)(void *ctx, const char *name, bool have, const char *cost),
		     void *ctx);

#endif
