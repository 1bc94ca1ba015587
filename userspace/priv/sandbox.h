/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a child of the keeper gives up what it does not need: descriptors, file system, network, identity,
 * capabilities, memory and system calls, in this order and for ever. One profile per role.
 *
 * Called by each child once, after it has mapped and opened what it needs. Knows nothing of what a role does.
 *
 * Threads: those that exist when sandbox_enter() is called get the identity, the limits and the filter, and lose all
 * capabilities, but keep their view of the file system; the filter is what keeps them from using it.
 *
 * Builds with AddressSanitizer are relaxed: a call that is not allowed is logged by the kernel instead of killing the
 * process, and the address space is not limited, because the sanitizer's run time needs both. sandbox_relaxed() says so.
 */
#ifndef DBFENCE_PRIV_SANDBOX_H
#define DBFENCE_PRIV_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"

enum sandbox_role {
	SANDBOX_NONE,
	SANDBOX_WORKER,   /* decodes, parses, evaluates: reads rings, talks on sockets that it was given */
	SANDBOX_RECORDER, /* writes segment files in one directory */
	SANDBOX_COMPILER, /* bytes in, bytes out */
	SANDBOX_DEADMAN,  /* wakes up and sends signals; the only role that keeps a capability, CAP_KILL */
	SANDBOX_ROLE_MAX
};

/* Each role has its own user and group, SANDBOX_UID_FIRST + role - SANDBOX_WORKER, unless the profile says otherwise. */
#define SANDBOX_UID_FIRST 64900
#define SANDBOX_KEEP_MAX 256 /* descriptors in a keep list */

struct sandbox_profile {
	enum sandbox_role role; /* chooses the system calls */
	const char *name;	/* for messages */
	uid_t uid;
	gid_t gid;
	uint64_t keep_caps;   /* a bit per capability number; 0 for all but the dead-man */
	const int *keep_fds;  /* borrowed: by the caller; any order. Of 0, 1 and 2 those not kept become /dev/null */
	size_t keep_cnt;
	bool drop_fs;	      /* an empty file system of its own, or root_fd's; and no network, no IPC */
	int root_fd;	      /* with drop_fs: the directory that becomes "/"; -1 for an empty one */
	pid_t parent;	      /* whose death is to kill this process; 0: whoever is the parent now */
	bool outlives_parent; /* it ends by itself when its work is done, so nobody's death is to kill it */
	uint64_t limit_as;    /* bytes of address space; 0: not limited */
	uint64_t limit_fsize; /* bytes; 0: nothing can be written to regular files */
	uint64_t limit_nofile;
	uint64_t limit_nproc; /* processes and threads of this uid; 0: no new ones */
};

/* "worker"; never NULL. */
const char *sandbox_role_name(enum sandbox_role role);

/* The role's profile, for the caller to add its descriptors to. A role out of range gives one that allows nothing. */
struct sandbox_profile sandbox_profile_get(enum sandbox_role role);

/*
 * Enter the sandbox; there is no way back. Needs root. 0, and @err->text names what this kernel or container refused
 * and is not had ("" when nothing), for the caller to log; or a negative errno with the reason, after which
 * the process is half sandboxed and must exit. @err may not be NULL.
 */
int sandbox_enter(const struct sandbox_profile *profile, struct err *err);

/* Only the steps that need no privilege: resource limits, no_new_privs and the filter. 0 or a negative errno. */
int sandbox_filter(const struct sandbox_profile *profile, struct err *err);

/*
 * Have the calling process killed when @parent's thread that forked it ends. -ESRCH when @parent is gone already.
 * A change of identity undoes it, which is why sandbox_enter() does it again.
 */
int sandbox_bind_parent(pid_t parent, struct err *err);

/* Whether this build only logs what a release build kills for. */
bool sandbox_relaxed(void);

#endif
