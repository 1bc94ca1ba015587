/* SPDX-License-Identifier: Apache-2.0 */
/* Private to kernel.c (load, pin, maps) and kernel_server.c (probes on server binaries). */
#ifndef DBFENCE_LOADER_KERNEL_PRIVATE_H
#define DBFENCE_LOADER_KERNEL_PRIVATE_H

#include "dbfence.skel.h"
#include "loader/kernel.h"
#include "loader/probe.h"

#define TRACEPOINTS 5
#define WIRE_PROGRAMS 2

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
	const struct dbf_wire_mark *marks;
	struct dbf_wire_hold *wire_holds;
	struct bpf_link *tracepoints[TRACEPOINTS];
	struct bpf_link *wire[WIRE_PROGRAMS];
	struct server_links servers[DBF_SERVERS];
	bool gate_on;
};

/*
 * While a pin holds the link too, closing it costs nothing, and removing the pin then leaves the
 * detaching (100 ms a probe) to a kernel worker. The other way round it would be ours.
 */
void kernel_free_server(struct server_links *s);

#endif
