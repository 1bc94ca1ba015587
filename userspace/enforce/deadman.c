// SPDX-License-Identifier: Apache-2.0
#include "enforce/deadman.h"

#include <poll.h>
#include <stdbool.h>
#include <unistd.h>

#include "core/clock.h"
#include "enforce/hold.h"
#include "enforce/wire_hold.h"

/* Longer than the programs accept a silent keeper: after that no hold can begin. */
#define LAST_WATCH_NS (1 * NS_PER_SEC)

int deadman_run(const struct deadman *d)
{
	uint64_t gone_ns = 0, now;
	unsigned open = 0, held = 0;
	char byte;

	for (;;) {
		struct pollfd p = { .fd = gone_ns ? -1 : d->keeper_fd, .events = POLLIN };

		poll(&p, 1, open || held ? DEADMAN_TICK_MS : DEADMAN_IDLE_MS);
		now = clock_mono_ns();
		if (!gone_ns && p.revents && read(d->keeper_fd, &byte, 1) <= 0)
			gone_ns = now;
		__atomic_store_n(&d->vitals->deadman_beat_ns, now, __ATOMIC_RELEASE);
		hold_end_overdue(d->slots, DBF_HOLD_SLOTS, now, DBF_BY_DEADMAN, &open);
		if (d->wire_slots)
			wire_hold_end_overdue(d->wire_slots, DBF_WIRE_HOLD_SLOTS, now, DBF_BY_DEADMAN, &held);
		if (gone_ns && !open && !held && now - gone_ns > LAST_WATCH_NS)
			return 0;
	}
}
