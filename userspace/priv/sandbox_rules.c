// SPDX-License-Identifier: Apache-2.0
/*
 * The system calls of each role, to be read and reviewed as a table. A call that stands in no set of a role ends the
 * process with SIGSYS: bpf, kill, socket, execve, fork, ptrace and some three hundred others, for every role.
 *
 * A few calls that the C library makes on its own (localtime looks for /etc/localtime, stdio for a terminal) are
 * refused with an error instead, so that a harmless habit of a library does not cost the worker its life.
 */
#include "priv/sandbox_rules.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define ALLOW(name) { SCMP_SYS(name), 0, { 0, SCMP_CMP_EQ, 0, 0 }, 0 }
#define ALLOW_EQ(name, n, value) { SCMP_SYS(name), 1, { (n), SCMP_CMP_EQ, (value), 0 }, 0 }
#define ALLOW_BITS(name, n, mask, bits) { SCMP_SYS(name), 1, { (n), SCMP_CMP_MASKED_EQ, (mask), (bits) }, 0 }
#define REFUSE(name, error) { SCMP_SYS(name), 0, { 0, SCMP_CMP_EQ, 0, 0 }, (error) }
#define REFUSE_BITS(name, n, mask, bits, error) \
	{ SCMP_SYS(name), 1, { (n), SCMP_CMP_MASKED_EQ, (mask), (bits) }, (error) }

/* Memory, time, randomness, threads and the end: what any C program does. */
static const struct sandbox_rule base[] = {
	ALLOW_BITS(mmap, 2, PROT_EXEC, 0),
	ALLOW_BITS(mprotect, 2, PROT_EXEC, 0),
	ALLOW(munmap),
	ALLOW(mremap),
	ALLOW(brk),
	ALLOW(madvise),
	ALLOW(futex),
	ALLOW(membarrier),
	ALLOW(sched_yield),
	ALLOW(sched_getaffinity),
	ALLOW(set_robust_list),
	ALLOW(rseq),
	ALLOW(clock_gettime),
	ALLOW(clock_getres),
	ALLOW(clock_nanosleep),
	ALLOW(gettimeofday),
	ALLOW(time),
	ALLOW(nanosleep),
	ALLOW(getrandom),
	ALLOW(getpid),
	ALLOW(getppid),
	ALLOW(gettid),
	ALLOW(getuid),
	ALLOW(geteuid),
	ALLOW(getgid),
	ALLOW(getegid),
	ALLOW(uname),
	ALLOW(sysinfo),
	ALLOW(rt_sigaction),
	ALLOW(rt_sigprocmask),
	ALLOW(rt_sigreturn),
	ALLOW(rt_sigtimedwait),
	ALLOW(sigaltstack),
	ALLOW(restart_syscall),
	ALLOW(exit),
	ALLOW(exit_group),
	ALLOW(read),
	ALLOW(readv),
	ALLOW(write),
	ALLOW(writev),
	ALLOW(close),
	ALLOW(lseek),
	ALLOW(fstat),
	/* Reading a limit; the address of a new one must be NULL. */
	ALLOW_EQ(prlimit64, 2, 0),
	ALLOW(getrlimit),
	ALLOW_EQ(prctl, 0, PR_SET_NAME),
	ALLOW_EQ(prctl, 0, PR_GET_NAME),
};

/* A thread, never a process; the limit on processes decides whether there may be one. clone3's flags cannot be seen. */
static const struct sandbox_rule threads[] = {
	ALLOW_BITS(clone, 0, CLONE_THREAD, CLONE_THREAD),
	REFUSE(clone3, ENOSYS),
};

/* Waiting for and talking on what is open already. */
static const struct sandbox_rule messages[] = {
	ALLOW(epoll_wait),
	ALLOW(epoll_pwait),
	ALLOW(epoll_pwait2),
	ALLOW(epoll_ctl),
	ALLOW(poll),
	ALLOW(ppoll),
	ALLOW(select),
	ALLOW(pselect6),
	ALLOW(sendmsg),
	ALLOW(recvmsg),
	ALLOW(sendto),
	ALLOW(recvfrom),
	ALLOW(shutdown),
	ALLOW(timerfd_settime),
	ALLOW(timerfd_gettime),
	ALLOW_EQ(fcntl, 1, F_GETFD),
	ALLOW_EQ(fcntl, 1, F_SETFD),
	ALLOW_EQ(fcntl, 1, F_GETFL),
	ALLOW_EQ(fcntl, 1, F_SETFL),
	ALLOW_EQ(fcntl, 1, F_DUPFD_CLOEXEC),
};

/* Paths, for a role that has none. fstat() is newfstatat with an empty path. */
static const struct sandbox_rule no_paths[] = {
	REFUSE(open, EACCES),
	REFUSE(openat, EACCES),
	REFUSE(openat2, EACCES),
	REFUSE(stat, EACCES),
	REFUSE(lstat, EACCES),
	REFUSE(statx, EACCES),
	REFUSE(access, EACCES),
	REFUSE(faccessat, EACCES),
	REFUSE(faccessat2, EACCES),
	REFUSE(readlink, EACCES),
	REFUSE(readlinkat, EACCES),
	ALLOW_BITS(newfstatat, 3, AT_EMPTY_PATH, AT_EMPTY_PATH),
	REFUSE_BITS(newfstatat, 3, AT_EMPTY_PATH, 0, EACCES),
	REFUSE(ioctl, ENOTTY),
};

/* Paths, for the recorder: its directory is its root, so that neither ".." nor a symbolic link leads out of it. */
static const struct sandbox_rule files[] = {
	ALLOW(open),
	ALLOW(openat),
	ALLOW(openat2),
	ALLOW(stat),
	ALLOW(lstat),
	ALLOW(statx),
	ALLOW(newfstatat),
	ALLOW(access),
	ALLOW(faccessat),
	ALLOW(faccessat2),
	ALLOW(statfs),
	ALLOW(fstatfs),
	ALLOW(getdents64),
	ALLOW(pread64),
	ALLOW(preadv),
	ALLOW(pwrite64),
	ALLOW(pwritev),
	ALLOW(fsync),
	ALLOW(fdatasync),
	ALLOW(sync_file_range),
	ALLOW(ftruncate),
	ALLOW(fallocate),
	ALLOW(fadvise64),
	ALLOW(flock),
	ALLOW(fchmod),
	ALLOW(fchmodat),
	ALLOW(umask),
	ALLOW(mkdir),
	ALLOW(mkdirat),
	ALLOW(rename),
	ALLOW(renameat),
	ALLOW(renameat2),
	ALLOW(link),
	ALLOW(linkat),
	ALLOW(unlink),
	ALLOW(unlinkat),
	ALLOW(dup),
	ALLOW_EQ(fcntl, 1, F_SETLK),
	ALLOW_EQ(fcntl, 1, F_SETLKW),
	ALLOW_EQ(fcntl, 1, F_GETLK),
	ALLOW_EQ(fcntl, 1, F_OFD_SETLK),
	ALLOW_EQ(fcntl, 1, F_OFD_SETLKW),
	REFUSE(readlink, EACCES),
	REFUSE(readlinkat, EACCES),
	REFUSE(ioctl, ENOTTY),
};

/* The dead-man names a process by its pidfd, so that a reused pid is never hit. Its memory is locked before. */
static const struct sandbox_rule release[] = {
	ALLOW(pidfd_open),
	ALLOW(pidfd_send_signal),
};

#define SET(rules) { rules, sizeof(rules) / sizeof((rules)[0]) }

static const struct sandbox_rule_set sets_of[SANDBOX_ROLE_MAX][SANDBOX_SETS_MAX] = {
	[SANDBOX_WORKER] = { SET(base), SET(threads), SET(messages), SET(no_paths) },
	[SANDBOX_RECORDER] = { SET(base), SET(threads), SET(messages), SET(files) },
	[SANDBOX_COMPILER] = { SET(base), SET(threads), SET(no_paths) },
	[SANDBOX_DEADMAN] = { SET(base), SET(messages), SET(no_paths), SET(release) },
};

size_t sandbox_rules_get(enum sandbox_role role, struct sandbox_rule_set sets[SANDBOX_SETS_MAX])
{
	size_t cnt = 0;

	if ((unsigned)role >= SANDBOX_ROLE_MAX)
		return 0;
	while (cnt < SANDBOX_SETS_MAX && sets_of[role][cnt].rules) {
		sets[cnt] = sets_of[role][cnt];
		cnt++;
	}
	return cnt;
}
