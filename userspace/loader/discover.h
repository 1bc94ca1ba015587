/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the PostgreSQL servers that run on this node, in every container: which program files are
 * servers (probes belong to a file), and which postmasters run them. Start-ups are noticed through
 * the kernel's exec records, so that a new server is known within milliseconds.
 */
#ifndef DBFENCE_LOADER_DISCOVER_H
#define DBFENCE_LOADER_DISCOVER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"
#include "loader/elf.h"
#include "loader/pg_process.h"

#define DISCOVER_SERVERS_MAX 64	     /* program files */
#define DISCOVER_POSTMASTERS_MAX 256 /* of all files */
#define DISCOVER_TICK_MS 20	     /* pause between two reactions to exec records */
#define DISCOVER_POLL_MS 1000	     /* full scans without exec records */

/* One program file that is a PostgreSQL server, and what runs from it. */
struct pg_server {
	dev_t dev;
	ino_t ino;
	char build_id[ELF_BUILD_ID_HEX];
	int fd; /* owned: the file, open for reading; /proc/self/fd/N is a path to attach to */
	char exe[PATH_MAX]; /* as the process that showed it sees it, in its own mount namespace */
	int major;	    /* 0 when the file does not tell */
	char version[64];
	bool
	    exports; /* raw_parser, ProcessUtility and MyProcPort are in its dynamic symbol table */
	unsigned process_cnt; /* at the last full scan */
};

enum discover_event {
	DISCOVER_SERVER_NEW,  /* before any event of its postmasters */
	DISCOVER_SERVER_GONE, /* no process is left; its fd is closed when the callback returns */
	DISCOVER_POSTMASTER_NEW,     /* its postmaster.pid names it; port and sockets may still be
					unknown */
	DISCOVER_POSTMASTER_CHANGED, /* port, sockets or readiness became known */
	DISCOVER_POSTMASTER_GONE,
	DISCOVER_EVENT_MAX
};

struct discover_stats {
	uint64_t scans;	 /* of all of /proc */
	uint64_t checks; /* of single processes after an exec record */
	uint64_t lost;	 /* exec records that the kernel dropped, and our own queue's overflows */
	uint64_t unreadable; /* candidates that could not be opened or read */
	uint64_t over_limit; /* servers and postmasters beyond the limits */
};

struct discover;

/* @pm is NULL for the two server events. Both are borrowed: by discover, for the call. Must not
 * call back. */
typedef void (*discover_fn)(void *arg, enum discover_event event, const struct pg_server *server,
			    const struct pg_postmaster *pm);

/* NULL with errno set. Opens nothing but a timer. */
struct discover *discover_new(void);
void discover_free(struct discover *d);

/*
 * Ask the kernel for exec records: one system-wide perf event per CPU. 0; -ENOTSUP with a sentence
 * in @err when the kernel refuses. Then discover_fd still works, as a timer of DISCOVER_POLL_MS.
 */
int discover_watch(struct discover *d, struct err *err);

/* Readable whenever discover_poll has something to do. Owned by @d. */
int discover_fd(const struct discover *d);

/* Look at all of /proc and report every difference to what was known. 0 or a negative errno. */
int discover_scan(struct discover *d, discover_fn fn, void *arg);

/* Drain the records, look at what they name, at what is not settled yet and, when due, at
 * everything. Never blocks. */
int discover_poll(struct discover *d, discover_fn fn, void *arg);

const char *discover_event_name(enum discover_event event);
struct discover_stats discover_stats(const struct discover *d);

#endif
