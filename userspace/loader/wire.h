/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the wire vantage is attached: a cgroup v2 hierarchy, wherever it is mounted (beside the v1 hierarchies on some
 * systems). Knows neither maps nor sessions.
 */
#ifndef DBFENCE_LOADER_WIRE_H
#define DBFENCE_LOADER_WIRE_H

#include <stddef.h>

#include "core/err.h"

struct bpf_link;
struct bpf_program;

/* The mount point of the cgroup v2 hierarchy, as this process sees it. 0, or -ENOENT when none is mounted. */
int wire_find_cgroup(char *path, size_t cap);

/*
 * Attach @prog to every socket of the processes below @cgroup, beside whatever others have there, and pin the link at
 * @pin. NULL with errno and a sentence. What is there already is covered too.
 */
struct bpf_link *wire_attach(struct bpf_program *prog, const char *cgroup, const char *pin, struct err *err);

#endif
