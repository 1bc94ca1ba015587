/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's exec records of the whole system, reduced to "this process has just replaced its
 * program". Through software perf events and not BPF, so that it works before, and without,
 * anything being loaded.
 */
#ifndef DBFENCE_LOADER_EXEC_WATCH_H
#define DBFENCE_LOADER_EXEC_WATCH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"

struct exec_watch;

/* -ENOTSUP with a sentence when the kernel refuses perf events on any CPU. */
int exec_watch_open(struct exec_watch **out, struct err *err);
void exec_watch_close(struct exec_watch *w);

/*
 * Readable within a fraction of a millisecond after an exec. Asking whether it is readable consumes
 * the news, so drain after every wake-up. Owned by @w.
 */
int exec_watch_fd(const struct exec_watch *w);

/*
 * Take all records: process ids in this process's pid namespace, at most @cap of them into @pids.
 * *lost grows by what the kernel dropped and by what did not fit. Returns how many were stored.
 */
size_t exec_watch_drain(struct exec_watch *w, pid_t *pids, size_t cap, uint64_t *lost);

#endif
