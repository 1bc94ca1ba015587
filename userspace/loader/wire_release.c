// SPDX-License-Identifier: Apache-2.0
#include "loader/wire_release.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "enforce/socket.h"
#include "enforce/wire_hold.h"
#include "loader/netdev.h"

#define PATIENCE_NS (1000 * NS_PER_MS) /* for what was decided */
#define PAUSE_NS (20 * NS_PER_MS)

/* TCP tries by itself too, only later. */
static void poke(const struct dbf_wire_hold *slot)
{
	int fd, pidfd;

	if (slot->received || !slot->pid || socket_take((pid_t)slot->pid, slot->cookie, &fd, &pidfd, NULL))
		return;
	socket_poke(fd);
	close(fd);
	close(pidfd);
}

static void destroy(const struct dbf_wire_hold *slot)
{
	int netns = netdev_open_namespace(slot->netns), diag;

	if (netns < 0)
		return;
	if (!socket_diag_open(netns, &diag, NULL)) {
		socket_destroy(diag, slot, NULL);
		close(diag);
	}
	close(netns);
}

/* False when the slot is free. */
static bool release(struct dbf_wire_hold *slots, uint32_t index, uint64_t now)
{
	struct dbf_wire_hold *slot = &slots[index], copy = *slot;
	uint64_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);

	switch (DBF_STATE_OF(state)) {
	case DBF_WIRE_FREE: return false;
	case DBF_WIRE_CLAIMED: break; /* for a moment */
	case DBF_WIRE_HOLD:
		if (!wire_hold_end(slots, index, DBF_STATE_SEQ(state),
				   copy.fail_closed ? DBF_WIRE_REWRITE : DBF_WIRE_ALLOW, NULL, DBF_BY_START))
			poke(&copy);
		break;
	case DBF_WIRE_ALLOW:
	case DBF_WIRE_REWRITE:
		if (now - copy.resolved_ns > PATIENCE_NS)
			destroy(&copy);
		break;
	default: destroy(&copy); break;
	}
	return true;
}

unsigned wire_release_all(struct dbf_wire_hold *slots, unsigned ms)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	uint64_t now = clock_mono_ns(), end = now + ms * NS_PER_MS;
	unsigned left;

	for (;; now = clock_mono_ns()) {
		left = 0;
		for (uint32_t i = 0; i < DBF_WIRE_HOLD_SLOTS; i++)
			left += release(slots, i, now);
		if (!left || now >= end)
			return left;
		nanosleep(&pause, NULL);
	}
}
