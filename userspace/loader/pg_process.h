/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process says about itself in /proc, and what a running PostgreSQL cluster says in its
 * postmaster.pid, whatever mount or pid namespace it lives in.
 */
#ifndef DBFENCE_LOADER_PG_PROCESS_H
#define DBFENCE_LOADER_PG_PROCESS_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* One cluster that runs. */
struct pg_postmaster {
	pid_t pid;		 /* as this process sees it */
	pid_t ns_pid;		 /* as the server sees it: what postmaster.pid says */
	uint64_t start_ticks;	 /* /proc/PID/stat, field 22: tells a reused pid */
	char data_dir[PATH_MAX]; /* the next four as the server sees them */
	int port;		 /* 0 until known */
	char socket_dir[256]; /* "" until known, or without unix sockets; the first one when it has
				 several */
	char listen_address[64]; /* "" until known, or without TCP */
	bool ready;		 /* accepts connections, or is a standby that replays */
};

/* Parent and start time of @pid; -ESRCH when it is gone. */
int proc_read_stat(pid_t pid, pid_t *ppid, uint64_t *start_ticks);
/*
 * Device, inode, mode, size and times of the program file that @pid runs; fails for kernel threads
 * and zombies. Does not wait for remote file systems.
 */
int proc_stat_exe(pid_t pid, struct stat *st);
/* The pid of @pid in its own, innermost, pid namespace. */
pid_t proc_read_ns_pid(pid_t pid);

/*
 * Fill @pm, whose pid and ns_pid are set, from the postmaster.pid of its data directory. -ENOENT
 * when there is none or it names another process: then it is no postmaster, or not one yet.
 */
int pg_postmaster_read(struct pg_postmaster *pm);
/* The same from the file's text, which is cut up. */
int pg_postmaster_parse(char *buf, struct pg_postmaster *pm);

#endif
