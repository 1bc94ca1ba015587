/* SPDX-License-Identifier: Apache-2.0 */
/* The worker process: everything that touches what clients and servers wrote, with no privilege at
 * all. */
#ifndef DBFENCE_WORKER_H
#define DBFENCE_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "dbfence/abi/shared.h"
#include "dbfence/abi/wire.h"

#define WORKER_BEAT_MS 500 /* between two MSG_STATS */

struct worker_opts {
	int ring_fd; /* owned by the worker from now on, as are the others */
	size_t ring_bytes;
	int keeper_fd;			 /* priv/chan.h */
	int records_fd;			 /* stream to the recorder */
	const struct dbf_vitals *vitals; /* borrowed: shared page */
	struct dbf_doorbell *doorbell;
	const struct dbf_wire_mark *marks; /* borrowed: shared pages */
	const char *node;
	bool full_text;
	uint64_t limit_as; /* bytes of address space; 0 the profile's */
};

/* Runs until the keeper says stop or is gone. Exit status of the process. */
int worker_run(const struct worker_opts *opts);

/*
 * Policy sources as they travel in a memfd: for each file u32 name length, name, u32 text length,
 * text. Fills at most @cap sources that point into @blob; -EPROTO when the lengths do not add up.
 */
struct policy_source;
int worker_unpack_sources(const char *blob, size_t len, struct policy_source *out, size_t cap,
			  size_t *cnt);

#endif
