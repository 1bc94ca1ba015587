// SPDX-License-Identifier: Apache-2.0
#include "loader/rtnl.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define RTNL_BUF 32768
#define RTNL_TIMEOUT_S 2
#define EGRESS TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)

struct request {
	struct nlmsghdr head;
	union {
		struct tcmsg tc;
		struct ifinfomsg link;
	};
	char attrs[256];
};

int rtnl_open(bool events)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK };
	struct timeval patience = { .tv_sec = RTNL_TIMEOUT_S };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | (events ? SOCK_NONBLOCK : 0), NETLINK_ROUTE);

	if (fd < 0)
		return -errno;
	if (events)
		addr.nl_groups = RTMGRP_LINK | RTMGRP_TC;
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience))) {
		int rc = -errno;

		close(fd);
		return rc;
	}
	return fd;
}

static void begin_request(struct request *r, uint16_t type, uint16_t flags, int ifindex)
{
	memset(r, 0, sizeof(*r));
	r->head.nlmsg_len = NLMSG_LENGTH(sizeof(r->tc));
	r->head.nlmsg_type = type;
	r->head.nlmsg_flags = NLM_F_REQUEST | flags;
	r->tc.tcm_family = AF_UNSPEC;
	r->tc.tcm_ifindex = ifindex;
}

static struct rtattr *put(struct request *r, uint16_t type, const void *data, size_t len)
{
	struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));

	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	r->head.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(a->rta_len));
	return a;
}

static void end_nested(struct request *r, struct rtattr *a)
{
	a->rta_len = (uint16_t)((char *)r + r->head.nlmsg_len - (char *)a);
}

/* What an earlier request, which was given up, still has to say. */
static void drain(int fd)
{
	char buf[256];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_TRUNC) > 0)
		;
}

static int command(int fd, struct request *r)
{
	struct {
		struct nlmsghdr head;
		struct nlmsgerr body;
		char rest[512];
	} answer;
	ssize_t n;

	drain(fd);
	if (send(fd, r, r->head.nlmsg_len, 0) < 0)
		return -errno;
	n = recv(fd, &answer, sizeof(answer), 0);
	if (n < 0)
		return -errno;
	if (n < (ssize_t)(sizeof(answer.head) + sizeof(answer.body)) || answer.head.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return answer.body.error;
}

typedef void (*message_fn)(void *ctx, const struct nlmsghdr *h);

/* 1: the end; 0: more will come; or a negative errno. */
static int read_dump(char *buf, size_t len, message_fn fn, void *ctx)
{
	struct nlmsghdr *h = (struct nlmsghdr *)buf;

	for (; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type == NLMSG_ERROR)
			return ((struct nlmsgerr *)NLMSG_DATA(h))->error ?: -EPROTO;
		fn(ctx, h);
	}
	return 0;
}

static int dump(int fd, struct request *r, message_fn fn, void *ctx)
{
	char *buf = malloc(RTNL_BUF);
	int rc = 0;

	if (!buf)
		return -ENOMEM;
	drain(fd);
	if (send(fd, r, r->head.nlmsg_len, 0) < 0)
		rc = -errno;
	while (!rc) {
		ssize_t n = recv(fd, buf, RTNL_BUF, 0);

		rc = n < 0 ? -errno : read_dump(buf, (size_t)n, fn, ctx);
	}
	free(buf);
	return rc < 0 ? rc : 0;
}

static const struct rtattr *find(const struct rtattr *a, int len, uint16_t type)
{
	for (; RTA_OK(a, len); a = RTA_NEXT(a, len))
		if ((a->rta_type & NLA_TYPE_MASK) == type)
			return a;
	return NULL;
}

static void copy_text(char *to, size_t cap, const struct rtattr *a)
{
	if (a)
		snprintf(to, cap, "%.*s", (int)RTA_PAYLOAD(a), (const char *)RTA_DATA(a));
}

/* --- devices --- */

struct device_ctx {
	rtnl_device_fn fn;
	void *ctx;
};

static void on_device(void *arg, const struct nlmsghdr *h)
{
	const struct ifinfomsg *m = NLMSG_DATA(h);
	struct device_ctx *d = arg;
	char name[IFNAMSIZ] = "";

	if (h->nlmsg_type != RTM_NEWLINK || h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return;
	copy_text(name, sizeof(name), find(IFLA_RTA(m), (int)IFLA_PAYLOAD(h), IFLA_IFNAME));
	d->fn(d->ctx, m->ifi_index, name);
}

int rtnl_devices(int fd, rtnl_device_fn fn, void *ctx)
{
	struct device_ctx d = { fn, ctx };
	struct request r;

	begin_request(&r, RTM_GETLINK, NLM_F_DUMP, 0);
	r.head.nlmsg_len = NLMSG_LENGTH(sizeof(r.link));
	memset(&r.link, 0, sizeof(r.link));
	return dump(fd, &r, on_device, &d);
}

/* --- filters --- */

int rtnl_add_clsact(int fd, int ifindex)
{
	struct request r;
	int rc;

	begin_request(&r, RTM_NEWQDISC, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, ifindex);
	r.tc.tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	r.tc.tcm_parent = TC_H_CLSACT;
	put(&r, TCA_KIND, "clsact", sizeof("clsact"));
	rc = command(fd, &r);
	return rc == -EEXIST ? 0 : rc;
}

int rtnl_set_filter(int fd, int ifindex, uint32_t prio, uint32_t handle, int prog, const char *name, bool replace)
{
	uint32_t flags = TCA_BPF_FLAG_ACT_DIRECT, prog_fd = (uint32_t)prog;
	struct rtattr *options;
	struct request r;

	begin_request(&r, RTM_NEWTFILTER, NLM_F_ACK | NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL), ifindex);
	r.tc.tcm_handle = handle;
	r.tc.tcm_parent = EGRESS;
	r.tc.tcm_info = TC_H_MAKE(prio << 16, htons(ETH_P_ALL));
	put(&r, TCA_KIND, "bpf", sizeof("bpf"));
	options = put(&r, TCA_OPTIONS, NULL, 0);
	put(&r, TCA_BPF_FD, &prog_fd, sizeof(prog_fd));
	put(&r, TCA_BPF_NAME, name, strlen(name) + 1);
	put(&r, TCA_BPF_FLAGS, &flags, sizeof(flags));
	end_nested(&r, options);
	return command(fd, &r);
}

int rtnl_remove_filter(int fd, int ifindex, uint32_t prio, uint32_t handle)
{
	struct request r;

	begin_request(&r, RTM_DELTFILTER, NLM_F_ACK, ifindex);
	r.tc.tcm_handle = handle;
	r.tc.tcm_parent = EGRESS;
	r.tc.tcm_info = TC_H_MAKE(prio << 16, htons(ETH_P_ALL));
	put(&r, TCA_KIND, "bpf", sizeof("bpf"));
	return command(fd, &r);
}

struct filter_ctx {
	rtnl_filter_fn fn;
	void *ctx;
};

static void on_filter(void *arg, const struct nlmsghdr *h)
{
	const struct tcmsg *m = NLMSG_DATA(h);
	const struct rtattr *attrs = TCA_RTA(m), *options, *chain;
	struct rtnl_filter f = {};
	struct filter_ctx *c = arg;
	int len;

	/* Each priority is told once more without a handle, in front of its filters. */
	if (h->nlmsg_type != RTM_NEWTFILTER || h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)) || !m->tcm_handle)
		return;
	len = (int)TCA_PAYLOAD(h);
	chain = find(attrs, len, TCA_CHAIN);
	if (chain && RTA_PAYLOAD(chain) >= sizeof(uint32_t) && *(uint32_t *)RTA_DATA(chain))
		return; /* met only by a jump from another */
	f.prio = TC_H_MAJ(m->tcm_info) >> 16;
	f.handle = m->tcm_handle;
	copy_text(f.kind, sizeof(f.kind), find(attrs, len, TCA_KIND));
	options = find(attrs, len, TCA_OPTIONS);
	if (options && !strcmp(f.kind, "bpf"))
		copy_text(f.name, sizeof(f.name),
			  find(RTA_DATA(options), (int)RTA_PAYLOAD(options), TCA_BPF_NAME));
	c->fn(c->ctx, &f);
}

int rtnl_filters(int fd, int ifindex, rtnl_filter_fn fn, void *ctx)
{
	struct filter_ctx c = { fn, ctx };
	struct request r;

	begin_request(&r, RTM_GETTFILTER, NLM_F_DUMP, ifindex);
	r.tc.tcm_parent = EGRESS;
	return dump(fd, &r, on_filter, &c);
}

/* --- notifications --- */

static void on_event(const struct nlmsghdr *h, rtnl_event_fn fn, void *ctx)
{
	const struct ifinfomsg *link = NLMSG_DATA(h);
	const struct tcmsg *tc = NLMSG_DATA(h);

	switch (h->nlmsg_type) {
	case RTM_NEWLINK: fn(ctx, RTNL_DEVICE, link->ifi_index); break;
	case RTM_DELLINK: fn(ctx, RTNL_DEVICE_GONE, link->ifi_index); break;
	case RTM_NEWTFILTER:
	case RTM_DELTFILTER:
	case RTM_NEWQDISC:
	case RTM_DELQDISC: fn(ctx, RTNL_FILTERS, tc->tcm_ifindex); break;
	default: break;
	}
}

void rtnl_read_events(int fd, rtnl_event_fn fn, void *ctx)
{
	char *buf = malloc(RTNL_BUF);
	ssize_t n = 0;

	while (buf) {
		struct nlmsghdr *h = (struct nlmsghdr *)buf;
		size_t len;

		n = recv(fd, buf, RTNL_BUF, MSG_DONTWAIT);
		if (n < 0)
			break;
		len = (size_t)n;
		for (; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len))
			if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifinfomsg)))
				on_event(h, fn, ctx);
	}
	if (!buf || errno == ENOBUFS)
		fn(ctx, RTNL_LOST, 0);
	free(buf);
}
