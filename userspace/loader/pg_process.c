// SPDX-License-Identifier: Apache-2.0
/*
 * Owns: reading /proc/PID and postmaster.pid. Called by discover.c. What is read belongs to other
 * users: every length is bounded, and nothing is followed out of the process's own file tree.
 */
#include "loader/pg_process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The whole of a small file into @buf, NUL-terminated. Its length, or a negative errno. */
static int read_small(int fd, char *buf, size_t cap)
{
	size_t len = 0;

	while (len < cap - 1) {
		ssize_t n = read(fd, buf + len, cap - 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		len += (size_t)n;
	}
	buf[len] = '\0';
	return (int)len;
}

static int read_proc(pid_t pid, const char *name, char *buf, size_t cap)
{
	char path[64];
	int fd, n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read_small(fd, buf, cap);
	close(fd);
	return n;
}

int proc_read_stat(pid_t pid, pid_t *ppid, uint64_t *start_ticks)
{
	char buf[1024], *p;
	unsigned long long start;
	int parent;

	if (read_proc(pid, "stat", buf, sizeof(buf)) < 0)
		return -ESRCH;
	/* The name in parentheses may hold anything. */
	p = strrchr(buf, ')');
	if (!p ||
	    sscanf(
		p + 1,
		" %*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		&parent, &start) != 2)
		return -EINVAL;
	*ppid = parent;
	*start_ticks = start;
	return 0;
}

int proc_stat_exe(pid_t pid, struct stat *st)
{
	struct statx sx;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	/* Without asking a remote or user-space file system, which might never answer. */
	if (statx(AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &sx))
		return -errno;
	*st = (struct stat){
	    .st_dev = makedev(sx.stx_dev_major, sx.stx_dev_minor),
	    .st_ino = sx.stx_ino,
	    .st_mode = sx.stx_mode,
	    .st_size = (off_t)sx.stx_size,
	    .st_mtim = {.tv_sec = sx.stx_mtime.tv_sec, .tv_nsec = sx.stx_mtime.tv_nsec},
	    .st_ctim = {.tv_sec = sx.stx_ctime.tv_sec, .tv_nsec = sx.stx_ctime.tv_nsec},
	};
	return 0;
}

pid_t proc_read_ns_pid(pid_t pid)
{
	char buf[4096], *p, *end;
	long n = pid, next;

	if (read_proc(pid, "status", buf, sizeof(buf)) < 0)
		return pid;
	p = strstr(buf, "\nNSpid:");
	if (!p)
		return pid;
	for (p += 7; *p == '\t' || *p == ' '; p = end) {
		next = strtol(p, &end, 10);
		if (end == p)
			break;
		n = next;
	}
	return (pid_t)n;
}

/* The directory after -D, into @dir. */
static int read_data_option(pid_t pid, char *dir, size_t cap)
{
	char buf[8192];
	int len = read_proc(pid, "cmdline", buf, sizeof(buf));

	for (char *p = buf; len > 0 && p < buf + len; p += strlen(p) + 1) {
		const char *value = NULL;

		if (!strcmp(p, "-D") && p + 3 < buf + len)
			value = p + 3;
		else if (!strncmp(p, "-D", 2) && p[2])
			value = p + 2;
		if (value && value[0] == '/' && strlen(value) < cap) {
			memcpy(dir, value, strlen(value) + 1);
			return 0;
		}
	}
	return -ENOENT;
}

/* Links inside @dir are followed as the server would follow them, and never into our own file tree.
 */
static int open_data_dir(pid_t pid, const char *dir)
{
	struct open_how how = {
	    .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
	    .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	char path[64];
	int root, fd;

	snprintf(path, sizeof(path), "/proc/%d/root", pid);
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	fd = (int)syscall(SYS_openat2, root, dir, &how, sizeof(how));
	if (fd < 0)
		fd = -errno;
	close(root);
	return fd;
}

static int read_pid_file_at(int dir, char *buf, size_t cap)
{
	int fd = openat(dir, "postmaster.pid", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC),
	    n = -EINVAL;
	struct stat st;

	if (fd < 0)
		return -errno;
	/* The directory belongs to the server's user, who may have put anything there. */
	if (!fstat(fd, &st) && S_ISREG(st.st_mode))
		n = read_small(fd, buf, cap);
	close(fd);
	return n;
}

/* A server changes into its data directory early; before that only its command line tells. */
static int read_pid_file(pid_t pid, char *buf, size_t cap)
{
	char path[64], dir[PATH_MAX];
	int fd, n;

	snprintf(path, sizeof(path), "/proc/%d/cwd", pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	n = fd < 0 ? -errno : read_pid_file_at(fd, buf, cap);
	if (fd >= 0)
		close(fd);
	if (n > 0 || read_data_option(pid, dir, sizeof(dir)))
		return n;
	fd = open_data_dir(pid, dir);
	if (fd < 0)
		return fd;
	n = read_pid_file_at(fd, buf, cap);
	close(fd);
	return n;
}

static void copy_text(char *out, size_t cap, const char *text)
{
	size_t len = strlen(text);

	if (len >= cap)
		len = cap - 1;
	memcpy(out, text, len);
	out[len] = '\0';
}

/*
 * Lines: pid, data directory, start time, port, socket directories, listen address, shared memory
 * key, state. The last ones appear while the server starts.
 */
int pg_postmaster_parse(char *buf, struct pg_postmaster *pm)
{
	char *lines[8] = {0}, *save = NULL;
	unsigned cnt = 0;
	long port;

	for (char *p = buf; p && cnt < 8; p = save) {
		save = strchr(p, '\n');
		if (save)
			*save++ = '\0';
		lines[cnt++] = p;
	}
	if (cnt < 4 || strtol(lines[0], NULL, 10) != pm->ns_pid)
		return -ENOENT;
	copy_text(pm->data_dir, sizeof(pm->data_dir), lines[1]);
	port = strtol(lines[3], NULL, 10);
	pm->port = port > 0 && port < 65536 ? (int)port : 0;
	if (cnt > 4) {
		lines[4][strcspn(lines[4], ",")] = '\0';
		copy_text(pm->socket_dir, sizeof(pm->socket_dir), lines[4]);
	}
	if (cnt > 5)
		copy_text(pm->listen_address, sizeof(pm->listen_address), lines[5]);
	pm->ready = cnt > 7 && (!strncmp(lines[7], "ready", 5) || !strncmp(lines[7], "standby", 7));
	return 0;
}

int pg_postmaster_read(struct pg_postmaster *pm)
{
	char buf[8192];
	int n = read_pid_file(pm->pid, buf, sizeof(buf));

	return n < 0 ? n : pg_postmaster_parse(buf, pm);
}
