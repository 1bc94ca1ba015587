/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: the privileged parent. Loads and attaches, starts and restarts its children, applies
 * verdicts, answers the control socket. Reads no byte that a client or a server wrote.
 *
 *   keeper.c          the loop and the children
 *   keeper_policy.c   policy sources, compiled in a sandboxed child, handed to worker and kernel
 *   keeper_offer.c    which of them are in force, which on their way
 *   keeper_server.c   server binaries and clusters that come and go
 *   keeper_worker.c   what the worker asks for
 *   keeper_wire.c     statements held at their client's or server's socket, and network devices
 *   keeper_who.c      who is process N
 *   keeper_control.c  the control socket's answers
 */
#ifndef DBFENCE_KEEPER_H
#define DBFENCE_KEEPER_H

#include <stdbool.h>
#include <stdint.h>

#include "audit/recorder.h"
#include "core/err.h"
#include "enforce/deadman.h"
#include "enforce/socket.h"
#include "keeper_offer.h"
#include "loader/discover.h"
#include "loader/kernel.h"
#include "loader/netdev.h"
#include "policy/policy.h"
#include "priv/chan.h"
#include "priv/child.h"
#include "priv/messages.h"

#define KEEPER_CLUSTERS 256
#define KEEPER_PORTS 16

struct keeper_opts {
	const char *policy_dir;
	const char *state_dir;
	const char *socket;
	const char *pin_dir; /* NULL: the default */
	uint32_t force_mode; /* 0 as written, 1 shadow, 2 enforce */
	bool full_text;
	bool foreground; /* live lines on standard output */
	unsigned hold_ms;
	unsigned max_holds;
	size_t ring_bytes;
	int only_ports[KEEPER_PORTS]; /* clusters that may be signalled; all when none is named */
	unsigned only_port_cnt;
	bool no_server, no_wire; /* vantages that are not wanted */
	int wire_ports[KEEPER_PORTS];
	unsigned wire_port_cnt;
	const char *wire_cgroup; /* NULL: the whole node */
};

struct keeper_cluster {
	uint32_t pid; /* 0: free */
	int server;   /* index into keeper.servers */
	struct pg_postmaster pm;
	uint32_t flags; /* enum dbf_cluster_flag, as told to the kernel */
	uint32_t max_holds;
	int pidfd;	/* to notice its shutdown */
};

struct keeper_server {
	bool used;
	char exe[512];
	char version[64];
	struct kernel_server k;
	char error[512]; /* why nothing was attached; "" when something was */
};

struct keeper_counters {
	uint64_t pokes_missed, sockets_destroyed, handbacks_failed;
	uint64_t verdicts, verdicts_late, verdict_errors, whos, who_missing, clients_left_out,
		reloads, reload_errors, records_unsent;
};

#define KEEPER_ASKERS 8
#define KEEPER_REQUEST_MAX 4096
#define KEEPER_ASKER_SOURCE 16 /* in the epoll data: the first asker's; other sources are below */

struct keeper_asker { /* somebody at the control socket, one request */
	bool open, root;
	int fd;
	uint64_t since_ns;
	size_t len;
	char line[KEEPER_REQUEST_MAX];
};

struct keeper {
	struct keeper_opts opts;
	char node[65];
	struct kernel *kernel;
	struct discover *discover;
	struct keeper_server servers[DBF_SERVERS];
	struct keeper_cluster clusters[KEEPER_CLUSTERS];
	bool discover_slow; /* no exec records: polling */

	struct child worker, recorder, deadman;
	int worker_fd;	 /* chan to the worker, -1 */
	int recorder_fd; /* control channel to the recorder, -1 */
	int deadman_fd;	 /* our end of the pipe that tells the dead-man that we live */
	int worker_side, records_side, recorder_side, recorder_records,
		deadman_side; /* the children's ends, during a spawn */
	int journal_dir_fd;
	struct chan_table worker_table;
	char msg[4096];
	struct msg_stats stats; /* the worker's last */
	uint64_t worker_beat_ns;

	struct netdev *devices; /* owned; NULL while nothing is enforced on the wire */
	struct socket_places *places; /* owned, as long */
	uint64_t *handed_back_ns; /* owned, as long: by wire slot, when its packets were handed back last */
	uint64_t devices_scanned_ns, wire_began_ns;

	struct offers policies;
	char policy_error[4096]; /* of the last load that failed; "" */

	int epoll, signal_fd, timer_fd, listen_fd;
	struct keeper_counters counters;
	uint64_t spawned_ns, started_ns, journal_looked_ns;
	struct recorder_stats journal; /* as the recorder told last */
	struct keeper_asker askers[KEEPER_ASKERS];
	bool journal_failing;
	bool ready, stop;
};

int keeper_run(const struct keeper_opts *opts);

/* keeper.c: records of the keeper's own. Fills in kind, node and times of @rec and sends it to the
 * recorder. */
struct Dbfence__Audit__V1__Record;
void keeper_record(struct keeper *k, const char *kind, struct Dbfence__Audit__V1__Record *rec);
void keeper_record_agent(struct keeper *k, const char *event, const char *message);

/* keeper_policy.c */
/* Read, check and compile; on success offer to the worker, and to the kernel when it agrees. -EINVAL
 * leaves everything as it was, with the findings. */
int keeper_load_policy(struct keeper *k, struct err *err);
/* Send what the worker has to have and was not sent. */
void keeper_send_policies(struct keeper *k);
/* A load did not come into force, after it was accepted. */
void keeper_policy_failed(struct keeper *k, const char *why);
void keeper_policy_ready(struct keeper *k, const struct msg_ready *m);

/* keeper_server.c */
void keeper_on_discovery(void *arg, enum discover_event event, const struct pg_server *server,
			 const struct pg_postmaster *pm);

/* Tell the kernel where databases listen. */
void keeper_set_ports(struct keeper *k);

/* Once, when the clusters are known: clients that connected over TCP before us. */
void keeper_seed_clients(struct keeper *k);

/* keeper_worker.c: fill in k->worker_table. */
void keeper_worker_table(struct keeper *k);

/* keeper_wire.c */
/* Be ready to change what will be denied: before the kernel side begins to enforce. */
int keeper_wire_enforce(struct keeper *k, struct err *err);
/* keeper.c: have keeper_wire_devices() called when @fd is readable. */
int keeper_watch_devices(struct keeper *k, int fd, struct err *err);
void keeper_wire_devices(struct keeper *k);
int keeper_wire_verdict(struct keeper *k, const struct msg_verdict *m, const char *rule);
void keeper_wire_vouch(struct keeper *k, const struct msg_vouch *m);
void keeper_wire_tick(struct keeper *k, uint64_t now_ns);
/* End all holds, and, unless what is enforced is to stay, detach from the devices. False: some are left, the programs must stay. */
bool keeper_wire_stop(struct keeper *k, bool keep);

/* keeper_who.c */
void keeper_find_who(const struct msg_who *ask, struct msg_who_answer *answer);

/* keeper_control.c */
int keeper_control_open(struct keeper *k, struct err *err);
void keeper_control_accept(struct keeper *k);
/* Askers[index] has something to say. */
void keeper_control_read(struct keeper *k, unsigned index);
/* Forget those who said nothing for too long. */
void keeper_control_tick(struct keeper *k, uint64_t now_ns);

#endif
