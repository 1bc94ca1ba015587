/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What netdev needs of rtnetlink: devices, the clsact qdisc and BPF filters on its egress. One socket is one network
 * namespace's, and is used from any other.
 */
#ifndef DBFENCE_LOADER_RTNL_H
#define DBFENCE_LOADER_RTNL_H

#include <stdbool.h>
#include <stdint.h>

struct rtnl_filter {
	uint32_t prio;
	uint32_t handle;
	char kind[16];
	char name[64]; /* of a BPF filter */
};

typedef void (*rtnl_device_fn)(void *ctx, int ifindex, const char *name);
typedef void (*rtnl_filter_fn)(void *ctx, const struct rtnl_filter *filter);
/* A device came or changed, went, or its filters changed. */
enum rtnl_event { RTNL_DEVICE, RTNL_DEVICE_GONE, RTNL_FILTERS, RTNL_LOST };
typedef void (*rtnl_event_fn)(void *ctx, enum rtnl_event event, int ifindex);

/* A socket of the calling thread's namespace, for requests; with @events, for notifications. Negative errno. */
int rtnl_open(bool events);

/* All return 0 or a negative errno. */
int rtnl_devices(int fd, rtnl_device_fn fn, void *ctx);
int rtnl_add_clsact(int fd, int ifindex); /* 0 also when there is one */
int rtnl_set_filter(int fd, int ifindex, uint32_t prio, uint32_t handle, int prog, const char *name, bool replace);
int rtnl_remove_filter(int fd, int ifindex, uint32_t prio, uint32_t handle);
/* In the order in which packets meet them. */
int rtnl_filters(int fd, int ifindex, rtnl_filter_fn fn, void *ctx);

/* What has come until now, without waiting. RTNL_LOST: too much at once, look at everything. */
void rtnl_read_events(int fd, rtnl_event_fn fn, void *ctx);

#endif
