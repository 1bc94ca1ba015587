// SPDX-License-Identifier: Apache-2.0
/*
 * The steps into the sandbox. Their order matters:
 *
 *   descriptors      first, while nothing else has changed: what is not kept cannot be used against us later
 *   parent's death   from here on an orphan dies
 *   no_new_privs     needed by the filter, and no exec can give anything back
 *   file system      needs the capabilities that the next steps take away
 *   bounding set, groups, ids, capabilities
 *   parent's death   again, and dumpable: the kernel resets both when the ids change
 *   limits, filter   last: the filter forbids every step above
 */
#include "priv/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/buf.h"
#include "priv/sandbox_rules.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANDBOX_RELAXED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANDBOX_RELAXED 1
#endif
#endif
#ifndef SANDBOX_RELAXED
#define SANDBOX_RELAXED 0
#endif

#define MIB (1024UL * 1024)
#define CAP_NUMBERS 64 /* in the kernel's 64-bit sets; fewer exist */

static const char *const role_names[SANDBOX_ROLE_MAX] = {
	[SANDBOX_NONE] = "none",
	[SANDBOX_WORKER] = "worker",
	[SANDBOX_RECORDER] = "recorder",
	[SANDBOX_COMPILER] = "compiler",
	[SANDBOX_DEADMAN] = "dead-man",
};

/*
 * Limits of each role. A file limit of some size where a role writes no files is for standard error, which may be one.
 * The worker's space holds the rings, the parser's stack and the caches of facts.
 */
static const struct sandbox_profile profiles[SANDBOX_ROLE_MAX] = {
	[SANDBOX_WORKER] = { .limit_as = 1024 * MIB, .limit_fsize = 64 * MIB, .limit_nofile = 64 },
	[SANDBOX_RECORDER] = { .limit_as = 512 * MIB, .limit_fsize = 4096 * MIB, .limit_nofile = 64 },
	[SANDBOX_COMPILER] = { .limit_as = 512 * MIB, .limit_fsize = 0, .limit_nofile = 16 },
	[SANDBOX_DEADMAN] = { .limit_as = 128 * MIB, .limit_fsize = 64 * MIB, .limit_nofile = 1024,
			      .keep_caps = 1ULL << CAP_KILL },
};

bool sandbox_relaxed(void)
{
	return SANDBOX_RELAXED;
}

const char *sandbox_role_name(enum sandbox_role role)
{
	return (unsigned)role < SANDBOX_ROLE_MAX ? role_names[role] : "none";
}

struct sandbox_profile sandbox_profile_get(enum sandbox_role role)
{
	struct sandbox_profile profile;

	if ((unsigned)role >= SANDBOX_ROLE_MAX)
		role = SANDBOX_NONE;
	profile = profiles[role];
	profile.role = role;
	profile.name = role_names[role];
	profile.uid = SANDBOX_UID_FIRST + (role == SANDBOX_NONE ? 0 : (uid_t)(role - SANDBOX_WORKER));
	profile.gid = profile.uid;
	profile.drop_fs = true;
	profile.root_fd = -1;
	return profile;
}

static int step_failed(struct err *err, const char *step)
{
	int code = -errno;

	return err_set(err, code, "the sandbox cannot be entered: %s: %s", step, strerror(-code));
}

static int compare_fds(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

/* Standard descriptors are never left free: the next one opened or received would become somebody's stderr. */
static int fill_standard_fds(const int *keep, size_t cnt, struct err *err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return step_failed(err, "/dev/null");
	for (int fd = 0; fd <= 2; fd++) {
		bool kept = false;

		for (size_t i = 0; i < cnt; i++)
			kept |= keep[i] == fd;
		if (!kept && null != fd && dup2(null, fd) < 0)
			return step_failed(err, "standard descriptors");
	}
	if (null > 2)
		close(null);
	return 0;
}

/* Close all but the kept ones, by the gaps between them. */
static int close_fds(const struct sandbox_profile *p, struct err *err)
{
	int keep[SANDBOX_KEEP_MAX + 1];
	unsigned next = 3;
	size_t cnt = 0;
	int code;

	if (p->keep_cnt > SANDBOX_KEEP_MAX)
		return err_set(err, -E2BIG, "the sandbox can keep %d descriptors, not %zu", SANDBOX_KEEP_MAX,
			       p->keep_cnt);
	for (size_t i = 0; i < p->keep_cnt; i++)
		if (p->keep_fds[i] >= 0)
			keep[cnt++] = p->keep_fds[i];
	code = fill_standard_fds(keep, cnt, err);
	if (code)
		return code;
	if (p->drop_fs && p->root_fd >= 0)
		keep[cnt++] = p->root_fd;
	qsort(keep, cnt, sizeof(keep[0]), compare_fds);
	for (size_t i = 0; i < cnt; i++) {
		unsigned fd = (unsigned)keep[i];

		if (fd > next && close_range(next, fd - 1, 0))
			return step_failed(err, "close_range");
		if (fd >= next)
			next = fd + 1;
	}
	if (close_range(next, ~0U, 0))
		return step_failed(err, "close_range");
	return 0;
}

int sandbox_bind_parent(pid_t parent, struct err *err)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		return step_failed(err, "PR_SET_PDEATHSIG");
	/* It may have died before the line above. */
	if (getppid() != parent)
		return err_set(err, -ESRCH, "the process that started this one is gone");
	return 0;
}

static void not_had(struct buf *missing, const char *what)
{
	int code = errno;

	buf_printf(missing, "%s%s (%s)", missing->len ? ", " : "", what, strerror(code));
}

/*
 * Namespaces are a second wall behind the user and the filter; a container may refuse them. True when the mounts
 * are ours alone.
 */
static bool leave_namespaces(struct buf *missing)
{
	bool mounts = false;

	if (unshare(CLONE_NEWNET))
		not_had(missing, "network namespace");
	if (unshare(CLONE_NEWIPC))
		not_had(missing, "IPC namespace");
	if (unshare(CLONE_NEWNS))
		not_had(missing, "mount namespace");
	else if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		not_had(missing, "private mounts");
	else
		mounts = true;
	return mounts;
}

/* An empty, read-only file system as the working directory; with no mounts of our own, a directory without a name. */
static int enter_empty_directory(bool own_mounts, struct buf *missing, struct err *err)
{
	char path[] = "/tmp/dbfence-empty-XXXXXX";

	if (own_mounts) {
		/* Any directory that always exists will do: the mount is ours alone. */
		if (!mount("dbfence", "/proc", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
			   "size=4k,nr_inodes=2,mode=0555"))
			return chdir("/proc") ? step_failed(err, "empty directory") : 0;
		not_had(missing, "empty file system");
	}
	if (!mkdtemp(path))
		return step_failed(err, "empty directory");
	if (chdir(path)) {
		int code = step_failed(err, "empty directory");

		rmdir(path);
		return code;
	}
	/* Nothing can be created in a directory that has been removed. */
	if (rmdir(path))
		return step_failed(err, "empty directory");
	return 0;
}

static int drop_fs(const struct sandbox_profile *p, struct buf *missing, struct err *err)
{
	bool own_mounts = leave_namespaces(missing);

	if (p->root_fd >= 0) {
		if (fchdir(p->root_fd))
			return step_failed(err, "root directory");
	} else {
		int code = enter_empty_directory(own_mounts, missing, err);

		if (code)
			return code;
		/* Where possible the old root is not only out of reach but gone; it is not when / is an initramfs. */
		if (own_mounts && !syscall(SYS_pivot_root, ".", ".")) {
			if (umount2(".", MNT_DETACH))
				return step_failed(err, "detaching the old root");
			return chdir("/") ? step_failed(err, "chdir") : 0;
		}
	}
	if (chroot("."))
		return step_failed(err, "chroot");
	return chdir("/") ? step_failed(err, "chdir") : 0;
}

static int drop_bounding_set(uint64_t keep, struct err *err)
{
	for (int cap = 0; cap < CAP_NUMBERS; cap++) {
		int had = prctl(PR_CAPBSET_READ, cap);

		if (had < 0)
			break; /* beyond the last one of this kernel */
		if (had && !(keep >> cap & 1) && prctl(PR_CAPBSET_DROP, cap))
			return step_failed(err, "capability bounding set");
	}
	return 0;
}

static int set_capabilities(uint64_t keep, struct err *err)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct want[2], have[2];

	memset(want, 0, sizeof(want));
	for (int i = 0; i < 2; i++)
		want[i].effective = want[i].permitted = (uint32_t)(keep >> (32 * i));
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) || syscall(SYS_capset, &head, want))
		return step_failed(err, "capabilities");
	if (syscall(SYS_capget, &head, have))
		return step_failed(err, "capabilities");
	if (memcmp(want, have, sizeof(want)))
		return err_set(err, -EPERM, "the sandbox cannot be entered: capabilities are left");
	return 0;
}

static int change_identity(const struct sandbox_profile *p, struct err *err)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid;
	int code = drop_bounding_set(p->keep_caps, err);

	if (code)
		return code;
	if (p->keep_caps && prctl(PR_SET_KEEPCAPS, 1))
		return step_failed(err, "PR_SET_KEEPCAPS");
	if (setgroups(0, NULL))
		return step_failed(err, "setgroups");
	if (setresgid(p->gid, p->gid, p->gid))
		return step_failed(err, "setresgid");
	if (setresuid(p->uid, p->uid, p->uid))
		return step_failed(err, "setresuid");
	if (getresuid(&ruid, &euid, &suid) || getresgid(&rgid, &egid, &sgid))
		return step_failed(err, "getresuid");
	if (ruid != p->uid || euid != p->uid || suid != p->uid || rgid != p->gid || egid != p->gid || sgid != p->gid)
		return err_set(err, -EPERM, "the sandbox cannot be entered: the user is still %u", (unsigned)euid);
	return set_capabilities(p->keep_caps, err);
}

static int set_limits(const struct sandbox_profile *p, struct err *err)
{
	const struct {
		int resource;
		uint64_t max;
		const char *name;
	} limits[] = {
		{ RLIMIT_CORE, 0, "RLIMIT_CORE" },
		{ RLIMIT_FSIZE, p->limit_fsize, "RLIMIT_FSIZE" },
		{ RLIMIT_NOFILE, p->limit_nofile, "RLIMIT_NOFILE" },
		{ RLIMIT_NPROC, p->limit_nproc, "RLIMIT_NPROC" },
		{ RLIMIT_AS, p->limit_as && !SANDBOX_RELAXED ? p->limit_as : RLIM_INFINITY, "RLIMIT_AS" },
	};

	/* A log that has reached the limit must cost a log line, not the process. */
	signal(SIGXFSZ, SIG_IGN);
	for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct rlimit now, want = { limits[i].max, limits[i].max };

		if (getrlimit((__rlimit_resource_t)limits[i].resource, &now))
			return step_failed(err, limits[i].name);
		/* What was limited harder from outside stays so. */
		if (want.rlim_max > now.rlim_max)
			want.rlim_cur = want.rlim_max = now.rlim_max;
		if (setrlimit((__rlimit_resource_t)limits[i].resource, &want))
			return step_failed(err, limits[i].name);
	}
	return 0;
}

static int add_rules(scmp_filter_ctx ctx, enum sandbox_role role)
{
	/* abort() signals its own thread: an assertion shall be seen as such. */
	struct scmp_arg_cmp self = { 0, SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0 };
	struct sandbox_rule_set sets[SANDBOX_SETS_MAX];
	size_t set_cnt = sandbox_rules_get(role, sets);
	int code = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &self);

	for (size_t i = 0; i < set_cnt; i++) {
		for (size_t j = 0; j < sets[i].cnt && !code; j++) {
			const struct sandbox_rule *r = &sets[i].rules[j];
			uint32_t action = r->error ? SCMP_ACT_ERRNO((uint32_t)r->error) : SCMP_ACT_ALLOW;

			if (r->nr >= 0)
				code = seccomp_rule_add_array(ctx, action, r->nr, r->arg_cnt, &r->arg);
		}
	}
	return code;
}

static int load_filter(const struct sandbox_profile *p, struct err *err)
{
	scmp_filter_ctx ctx = seccomp_init(SANDBOX_RELAXED ? SCMP_ACT_LOG : SCMP_ACT_KILL_PROCESS);
	int code = -ENOMEM;

	if (!ctx)
		goto out;
	code = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (code)
		goto out;
	/* Threads that run already get the same filter, or none of us does. */
	code = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	if (code)
		goto out;
	code = add_rules(ctx, p->role);
	if (!code)
		code = seccomp_load(ctx);
out:
	if (ctx)
		seccomp_release(ctx);
	if (code)
		return err_set(err, code, "the system call filter of the %s cannot be loaded: %s",
			       sandbox_role_name(p->role), strerror(-code));
	return 0;
}

int sandbox_filter(const struct sandbox_profile *p, struct err *err)
{
	int code;

	if (p->role <= SANDBOX_NONE || p->role >= SANDBOX_ROLE_MAX)
		return err_set(err, -EINVAL, "there is no sandbox for role %d", (int)p->role);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return step_failed(err, "PR_SET_NO_NEW_PRIVS");
	code = set_limits(p, err);
	return code ? code : load_filter(p, err);
}

/* What an orphan, a debugger or an exec could do with this process. */
static int guard_process(const struct sandbox_profile *p, pid_t parent, struct err *err)
{
	if (prctl(PR_SET_DUMPABLE, 0))
		return step_failed(err, "PR_SET_DUMPABLE");
	if (p->outlives_parent)
		return prctl(PR_SET_PDEATHSIG, 0) ? step_failed(err, "PR_SET_PDEATHSIG") : 0;
	return sandbox_bind_parent(parent, err);
}

static int enter(const struct sandbox_profile *p, pid_t parent, struct buf *missing, struct err *err)
{
	int code = close_fds(p, err);

	if (!code)
		code = guard_process(p, parent, err);
	if (!code && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		code = step_failed(err, "PR_SET_NO_NEW_PRIVS");
	if (!code && p->drop_fs)
		code = drop_fs(p, missing, err);
	if (!code)
		code = change_identity(p, err);
	if (!code)
		code = guard_process(p, parent, err);
	return code ? code : sandbox_filter(p, err);
}

int sandbox_enter(const struct sandbox_profile *p, struct err *err)
{
	pid_t parent = p->parent ? p->parent : getppid();
	struct buf missing;
	int code;

	if (geteuid() != 0)
		return err_set(err, -EPERM, "the sandbox can be entered by root only");
	if (p->uid == 0 || p->gid == 0)
		return err_set(err, -EINVAL, "the %s cannot run as root", sandbox_role_name(p->role));
	buf_init(&missing, sizeof(err->text) / 2);
	code = enter(p, parent, &missing, err);
	if (!code && missing.len)
		err_set(err, 0, "the %s runs without: %s", sandbox_role_name(p->role), buf_str(&missing));
	else if (!code)
		err->text[0] = '\0';
	buf_fini(&missing);
	return code;
}
