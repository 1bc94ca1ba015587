/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One TC program on the egress of every network device of every network namespace that has a process, or a name in
 * /run/netns or /run/docker/netns.
 *
 * The program must be the first to see a packet, or a neighbour (a CNI's, a container runtime's) may let it pass
 * without: it is put in front, behind nobody, and looked at again when the device's filters change. Neighbours' filters
 * and qdiscs are never touched. The map tells the kernel side which devices have the program in front; a device is in
 * it only while that is so, and for a device that is not, statements that are to be changed are refused.
 *
 * Knows netlink and namespaces, not what the program does. Filters stay when this ends; they are found again by their
 * handle and name. A namespace is kept open here only as long as a scan finds it.
 */
#ifndef DBFENCE_LOADER_NETDEV_H
#define DBFENCE_LOADER_NETDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

struct netdev;

struct netdev_stats {
	unsigned namespaces;
	unsigned devices; /* with the program in front */
	unsigned behind;  /* another program comes first: not covered */
	unsigned failed;  /* that do not take the program */
	unsigned over_limit;
	uint64_t scans;
};

/*
 * @prog is a loaded program of type sched_cls and @devices the map wire_devices; both stay the caller's. Nothing is
 * attached yet. NULL with errno.
 */
struct netdev *netdev_new(int prog, int devices);
void netdev_free(struct netdev *nd); /* accepts NULL; detaches nothing */

/*
 * Find namespaces that have come and gone, and attach to all devices of those that came. Call at the start, when
 * processes were started, and every NETDEV_SCAN_MS. 0, or a negative errno when not even the process list can be read;
 * what went wrong with one device is counted.
 */
int netdev_scan(struct netdev *nd, struct err *err);

/* Look again at all devices of @most namespaces that were not looked at since the scan: a few at a time, for it takes long. */
void netdev_look(struct netdev *nd, unsigned most);

/* Readable when devices or filters change somewhere: then call netdev_poll(). */
int netdev_fd(const struct netdev *nd);
void netdev_poll(struct netdev *nd);

/* Another program in the place of the one that is attached: each device has one or the other, at every moment. */
int netdev_replace(struct netdev *nd, int prog);

/* A descriptor of the namespace with this cookie, borrowed until the next scan, or -ENOENT. */
int netdev_namespace(const struct netdev *nd, uint64_t cookie);

/* The same without a struct netdev, for a process that does not follow namespaces. The descriptor is the caller's. */
int netdev_open_namespace(uint64_t cookie);

struct netdev_stats netdev_get_stats(const struct netdev *nd);

/*
 * Remove our filters everywhere, whoever attached them. Needs no daemon. Qdiscs stay: others may use them. Returns how
 * many were removed, or a negative errno.
 */
int netdev_detach_all(struct err *err);

#define NETDEV_SCAN_MS 2000

#endif
