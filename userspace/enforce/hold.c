// SPDX-License-Identifier: Apache-2.0
#include "enforce/hold.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"

static int send_to(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) ? -errno : 0;
}

int hold_end(struct dbf_hold_slot *slots, uint32_t index, uint32_t seq, enum dbf_hold_state to,
	     enum dbf_resolver by)
{
	struct dbf_hold_slot *slot;
	uint64_t open = DBF_STATE(seq, DBF_HOLD_OPEN);
	int pidfd, rc = 0;

	if (index >= DBF_HOLD_SLOTS)
		return -EINVAL;
	slot = &slots[index];
	if (__atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) != open)
		return -EALREADY;
	pidfd = (int)syscall(SYS_pidfd_open, (pid_t)slot->tgid, 0);
	if (pidfd < 0)
		return -errno;
	if (!__atomic_compare_exchange_n(&slot->state, &open, DBF_STATE(seq, to), false,
					 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		close(pidfd);
		return -EALREADY;
	}
	slot->resolver = by;
	__atomic_store_n(&slot->resolved_ns, clock_mono_ns(), __ATOMIC_RELEASE);
	if (to == DBF_HOLD_DENIED)
		rc = send_to(pidfd, SIGINT);
	else if (to == DBF_HOLD_KILLED)
		rc = send_to(pidfd, SIGTERM);
	if (!rc)
		rc = send_to(pidfd, SIGCONT);
	else
		send_to(pidfd, SIGCONT); /* whatever went wrong, nobody stays stopped */
	close(pidfd);
	return rc;
}

static void end_by_fail_mode(struct dbf_hold_slot *slots, uint32_t index, uint64_t state,
			     enum dbf_resolver by)
{
	hold_end(slots, index, DBF_STATE_SEQ(state),
		 slots[index].fail_closed ? DBF_HOLD_DENIED : DBF_HOLD_ALLOWED, by);
}

unsigned hold_end_overdue(struct dbf_hold_slot *slots, unsigned cnt, uint64_t now_ns,
			  enum dbf_resolver by, unsigned *open)
{
	unsigned ended = 0;

	*open = 0;
	for (uint32_t i = 0; i < cnt; i++) {
		uint64_t state = __atomic_load_n(&slots[i].state, __ATOMIC_ACQUIRE);

		if (DBF_STATE_OF(state) != DBF_HOLD_OPEN)
			continue;
		if (now_ns <= slots[i].deadline_ns) {
			(*open)++;
			continue;
		}
		end_by_fail_mode(slots, i, state, by);
		ended++;
	}
	return ended;
}

unsigned hold_release_all(struct dbf_hold_slot *slots, unsigned cnt, enum dbf_resolver by)
{
	unsigned open;

	return hold_end_overdue(slots, cnt, UINT64_MAX, by, &open);
}

const char *hold_resolver_name(enum dbf_resolver by)
{
	static const char *const names[DBF_BY_MAX] = { "", "keeper", "dead-man", "kernel",
						       "start" };

	return by < DBF_BY_MAX ? names[by] : "";
}
