// SPDX-License-Identifier: Apache-2.0
/* Statements that are held at their client's or server's socket, and the devices at which what is denied is changed. */
#include "keeper.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "enforce/socket.h"
#include "enforce/wire_hold.h"
#include "loader/handback.h"
#include "loader/wire_release.h"

#define POKE_AGAIN_NS (10 * NS_PER_MS)
#define LOOK_AT_ONCE 8 /* network namespaces: somebody may wait for a verdict meanwhile */
#define NO_WAY_NS (1 * NS_PER_SEC) /* what is denied cannot be changed at the device it would leave by, or on its way back */
#define HAND_BACK_AGAIN_NS (20 * NS_PER_MS)

/* TCP tries by itself, but late: 0.2 s and longer each time. */
static void poke(struct keeper *k, const struct dbf_wire_hold *slot)
{
	k->counters.pokes_missed += !socket_poke_held(k->places, slot);
}

/* The client of a server here is elsewhere: it sends again, but late, and not what was judged for certain. */
static void hand_back(struct keeper *k, uint32_t index, uint32_t seq, uint64_t netns_cookie)
{
	int netns = netdev_namespace(k->devices, netns_cookie);
	struct err err = {};

	k->handed_back_ns[index] = clock_mono_ns();
	if (netns >= 0 && handback(kernel_handback(k->kernel), netns, index, seq, &err) >= 0)
		return;
	k->counters.handbacks_failed++;
	log_debug("%s", netns < 0 ? "the network namespace of a statement's server is not known" : err.text);
}

/* A client that gave up: what it left in its queue must never be sent. */
static void destroy(struct keeper *k, const struct dbf_wire_hold *slot)
{
	int netns = netdev_namespace(k->devices, slot->netns);

	if (netns >= 0)
		k->counters.sockets_destroyed += socket_destroy_held(netns, slot);
}

int keeper_wire_verdict(struct keeper *k, const struct msg_verdict *m, const char *rule)
{
	static const enum dbf_wire_hold_state states[DBF_ACTION_MAX] = {
		[DBF_ACTION_ALLOW] = DBF_WIRE_ALLOW,
		[DBF_ACTION_DENY] = DBF_WIRE_REWRITE,
		[DBF_ACTION_KILL] = DBF_WIRE_KILL,
	};
	struct dbf_wire_hold *slots = kernel_wire_holds(k->kernel), slot;
	enum dbf_wire_hold_state to = states[m->action];
	int rc;

	if (m->slot >= DBF_WIRE_HOLD_SLOTS)
		return -EINVAL;
	slot = slots[m->slot];
	if (to == DBF_WIRE_REWRITE && !slot.patch_len) /* nothing in the packet could be changed */
		to = DBF_WIRE_KILL;
	rc = wire_hold_end(slots, m->slot, m->slot_seq, to, rule, DBF_BY_KEEPER);
	if (rc || !k->devices)
		return rc;
	if (slot.received)
		hand_back(k, m->slot, m->slot_seq, slot.netns);
	else
		poke(k, &slot);
	return 0;
}

void keeper_wire_vouch(struct keeper *k, const struct msg_vouch *m)
{
	kernel_put_vouch(k->kernel, m->conn, m->policy_gen);
}

/*
 * Decided at a server's socket: what was lost on its way back goes again, and what cannot go ends. Before us there may have
 * been nobody to hand it back.
 */
static void look_at_received(struct keeper *k, uint32_t index, const struct dbf_wire_hold *slot, uint64_t now, uint64_t since)
{
	enum dbf_wire_hold_state state = DBF_STATE_OF(slot->state);

	if (since > now - k->wire_began_ns)
		since = now - k->wire_began_ns;
	if (state != DBF_WIRE_ALLOW && (since > NO_WAY_NS || (state == DBF_WIRE_KILL && !slot->kept)))
		destroy(k, slot);
	else if (slot->kept && now - k->handed_back_ns[index] > HAND_BACK_AGAIN_NS)
		hand_back(k, index, DBF_STATE_SEQ(slot->state), slot->netns);
}

static void look_at(struct keeper *k, uint32_t index, const struct dbf_wire_hold *slot, uint64_t now)
{
	uint64_t decided = wire_hold_decided_ns(slot), since = decided && now > decided ? now - decided : 0;
	enum dbf_wire_hold_state state = DBF_STATE_OF(slot->state);

	if (state == DBF_WIRE_ABANDONED) {
		destroy(k, slot);
		return;
	}
	if (state == DBF_WIRE_FREE || state == DBF_WIRE_HOLD)
		return;
	if (slot->received) {
		look_at_received(k, index, slot, now, since);
		return;
	}
	if (slot->passes)
		return;
	/* Decided, and still here: its poke was lost, or it waits for the other end. */
	if (state != DBF_WIRE_ALLOW && slot->ifindex && since > NO_WAY_NS)
		destroy(k, slot);
	else if (since > POKE_AGAIN_NS)
		poke(k, slot);
}

static void look_at_all(struct keeper *k, uint64_t now)
{
	struct dbf_wire_hold *slots = kernel_wire_holds(k->kernel), slot;
	unsigned held;

	wire_hold_end_overdue(slots, DBF_WIRE_HOLD_SLOTS, now, DBF_BY_KEEPER, &held);
	for (unsigned i = 0; i < DBF_WIRE_HOLD_SLOTS; i++)
		if (DBF_STATE_OF(__atomic_load_n(&slots[i].state, __ATOMIC_RELAXED)) != DBF_WIRE_FREE &&
		    wire_hold_read(&slots[i], &slot))
			look_at(k, i, &slot, now);
}

void keeper_wire_tick(struct keeper *k, uint64_t now)
{
	struct err err = {};

	if (!k->devices)
		return;
	look_at_all(k, now);
	netdev_look(k->devices, LOOK_AT_ONCE);
	if (now - k->devices_scanned_ns < NETDEV_SCAN_MS * NS_PER_MS)
		return;
	k->devices_scanned_ns = now;
	if (netdev_scan(k->devices, &err))
		log_debug("%s", err.text);
}

static void forget_devices(struct keeper *k)
{
	netdev_free(k->devices);
	free(k->places);
	free(k->handed_back_ns);
	k->devices = NULL;
	k->places = NULL;
	k->handed_back_ns = NULL;
}

int keeper_wire_enforce(struct keeper *k, struct err *err)
{
	int rc;

	if (k->opts.no_wire || k->devices)
		return 0;
	k->places = calloc(1, sizeof(*k->places));
	k->handed_back_ns = calloc(DBF_WIRE_HOLD_SLOTS, sizeof(*k->handed_back_ns));
	k->devices = netdev_new(kernel_rewriter(k->kernel), kernel_wire_devices(k->kernel));
	if (!k->places || !k->handed_back_ns || !k->devices)
		rc = err_set(err, -errno, "cannot watch the network devices: %s", strerror(errno));
	else
		rc = netdev_scan(k->devices, err);
	k->devices_scanned_ns = k->wire_began_ns = clock_mono_ns();
	if (!rc)
		rc = keeper_watch_devices(k, netdev_fd(k->devices), err);
	if (rc)
		forget_devices(k);
	return rc;
}

void keeper_wire_devices(struct keeper *k)
{
	netdev_poll(k->devices);
}

bool keeper_wire_stop(struct keeper *k, bool keep)
{
	struct err err;
	unsigned left;

	if (!k->devices)
		return true;
	left = wire_release_all(kernel_wire_holds(k->kernel), kernel_handback(k->kernel), WIRE_RELEASE_MS);
	if (left)
		log_err("%u statements that were stopped are still in their clients' sockets", left);
	forget_devices(k);
	if (!keep && !left)
		netdev_detach_all(&err);
	return !left;
}
