// SPDX-License-Identifier: Apache-2.0
#include "loader/wire_release.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "enforce/socket.h"
#include "enforce/wire_hold.h"
#include "loader/handback.h"
#include "loader/netdev.h"

#define PATIENCE_NS (1000 * NS_PER_MS) /* for what was decided, from when we begin: others decide meanwhile */
#define PAUSE_NS (20 * NS_PER_MS)

static void destroy(const struct dbf_wire_hold *slot)
{
	int netns = netdev_open_namespace(slot->netns);

	if (netns < 0)
		return;
	socket_destroy_held(netns, slot);
	close(netns);
}

/* To the server's socket, as it was decided. False when nothing went. */
static bool hand_back(const struct dbf_wire_hold *slot, uint32_t index, int prog)
{
	int netns = prog < 0 ? -1 : netdev_open_namespace(slot->netns), rc;
	struct err err;

	if (netns < 0)
		return false;
	rc = handback(prog, netns, index, DBF_STATE_SEQ(slot->state), &err);
	close(netns);
	return rc > 0;
}

/* False when the slot is free. */
static bool release(struct dbf_wire_hold *slots, uint32_t index, int prog, bool patient)
{
	struct dbf_wire_hold slot;

	if (!wire_hold_read(&slots[index], &slot))
		return true;
	switch (DBF_STATE_OF(slot.state)) {
	case DBF_WIRE_FREE: return false;
	case DBF_WIRE_HOLD: /* TCP tries by itself too, only later */
		if (!wire_hold_end(slots, index, DBF_STATE_SEQ(slot.state),
				   slot.fail_closed ? DBF_WIRE_REWRITE : DBF_WIRE_ALLOW, NULL, DBF_BY_START) &&
		    !slot.received)
			socket_poke_held(NULL, &slot);
		break;
	case DBF_WIRE_ALLOW:
	case DBF_WIRE_REWRITE:
		if (!patient || (slot.received && !hand_back(&slot, index, prog)))
			destroy(&slot);
		break;
	case DBF_WIRE_KILL:
		if (!slot.received || !hand_back(&slot, index, prog))
			destroy(&slot);
		break;
	default: destroy(&slot); break;
	}
	return true;
}

unsigned wire_release_all(struct dbf_wire_hold *slots, int prog, unsigned ms)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	uint64_t begin = clock_mono_ns(), now = begin, end = begin + ms * NS_PER_MS;
	unsigned left;

	for (;; now = clock_mono_ns()) {
		left = 0;
		for (uint32_t i = 0; i < DBF_WIRE_HOLD_SLOTS && clock_mono_ns() < end; i++)
			left += release(slots, i, prog, now - begin < PATIENCE_NS);
		if (!left || clock_mono_ns() >= end)
			return wire_hold_count(slots, DBF_WIRE_HOLD_SLOTS);
		nanosleep(&pause, NULL);
	}
}
