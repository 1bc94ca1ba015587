// SPDX-License-Identifier: Apache-2.0
#include "loader/netdev.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "core/limits.h"
#include "dbfence/abi/wire_hold.h"
#include "loader/rtnl.h"

#define FILTER_NAME "dbfence"
#define FILTER_PRIO 1
/* Two: a filter that is put in front is there before the one behind is removed. */
#define FILTER_HANDLE 0xdbf0U
#define FILTER_OTHER 0xdbf1U
#define TCX_EGRESS 47 /* BPF_TCX_EGRESS, from Linux 6.6 on */

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

enum device_state { DEVICE_NEW, DEVICE_FRONT, DEVICE_BEHIND, DEVICE_FAILED };

struct device {
	int ifindex;
	uint32_t handle; /* of our filter */
	enum device_state state;
	bool stale; /* look again */
};

struct space { /* a network namespace */
	dev_t dev;
	ino_t ino;
	uint64_t cookie;
	int fd, requests, events; /* owned */
	bool seen, all_stale;
	struct device *devices; /* owned */
	size_t cnt;
};

struct netdev {
	int prog, map, epoll;
	struct space **spaces; /* owned */
	size_t cnt;
	size_t to_look; /* spaces before this one are to be looked at again */
	unsigned over_limit;
	uint64_t scans;
};

/* --- in another namespace --------------------------------------------------------------------------------------- */

typedef int (*space_fn)(struct netdev *nd, struct space *s);

struct errand {
	struct netdev *nd;
	struct space *s;
	space_fn fn;
	int rc;
};

static void *run_errand(void *arg)
{
	struct errand *e = arg;

	e->rc = setns(e->s->fd, CLONE_NEWNET) ? -errno : e->fn(e->nd, e->s);
	return NULL;
}

/* In a thread of its own, which ends there. */
static int in_space(struct netdev *nd, struct space *s, space_fn fn)
{
	struct errand e = { nd, s, fn, 0 };
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, run_errand, &e);

	if (rc)
		return -rc;
	pthread_join(thread, NULL);
	return e.rc;
}

static int open_space(struct netdev *nd, struct space *s)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = s };
	socklen_t len = sizeof(s->cookie);

	s->requests = rtnl_open(false);
	if (s->requests < 0)
		return s->requests;
	if (getsockopt(s->requests, SOL_SOCKET, SO_NETNS_COOKIE, &s->cookie, &len))
		return -errno;
	if (!nd)
		return 0;
	s->events = rtnl_open(true);
	if (s->events < 0)
		return s->events;
	return epoll_ctl(nd->epoll, EPOLL_CTL_ADD, s->events, &ev) ? -errno : 0;
}

static void space_free(struct space *s)
{
	if (!s)
		return;
	if (s->fd >= 0)
		close(s->fd);
	if (s->requests >= 0)
		close(s->requests);
	if (s->events >= 0)
		close(s->events);
	free(s->devices);
	free(s);
}

/* --- one device ------------------------------------------------------------------------------------------------- */

static void tell_kernel(struct netdev *nd, const struct space *s, const struct device *d)
{
	struct dbf_wire_device_key key = { .netns = s->cookie, .ifindex = (uint32_t)d->ifindex };
	uint32_t yes = 1;

	if (d->state == DEVICE_FRONT)
		bpf_map_update_elem(nd->map, &key, &yes, BPF_ANY);
	else
		bpf_map_delete_elem(nd->map, &key);
}

/* Programs on the device's newer hook run before any filter. To be asked in its namespace. */
static bool has_tcx(int ifindex)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.query.target_fd = (uint32_t)ifindex;
	attr.query.attach_type = TCX_EGRESS;
	return !syscall(SYS_bpf, BPF_PROG_QUERY, &attr, sizeof(attr)) && attr.query.prog_cnt;
}

struct chain {
	unsigned cnt;
	bool first;	 /* ours is the first */
	uint32_t ours[2]; /* handles, in the order of the chain; 0 none */
};

static bool is_ours(const struct rtnl_filter *f)
{
	return !strcmp(f->name, FILTER_NAME) && f->prio == FILTER_PRIO &&
	       (f->handle == FILTER_HANDLE || f->handle == FILTER_OTHER);
}

static void note_filter(void *ctx, const struct rtnl_filter *f)
{
	struct chain *c = ctx;

	if (is_ours(f)) {
		c->first |= !c->cnt;
		c->ours[c->ours[0] ? 1 : 0] = f->handle;
	}
	c->cnt++;
}

static struct chain read_chain(const struct space *s, int ifindex)
{
	struct chain c = {};

	if (rtnl_filters(s->requests, ifindex, note_filter, &c))
		c = (struct chain){}; /* no clsact there */
	return c;
}

/* A new filter comes in front of those of its priority. */
static int put_in_front(const struct netdev *nd, const struct space *s, struct device *d, const struct chain *c)
{
	uint32_t handle = c->ours[0] == FILTER_HANDLE ? FILTER_OTHER : FILTER_HANDLE;
	int rc;

	if (c->ours[1]) /* left by somebody who was stopped in the middle */
		rtnl_remove_filter(s->requests, d->ifindex, FILTER_PRIO, handle);
	rc = rtnl_set_filter(s->requests, d->ifindex, FILTER_PRIO, handle, nd->prog, FILTER_NAME, false);
	if (!rc && c->ours[0])
		rtnl_remove_filter(s->requests, d->ifindex, FILTER_PRIO, c->ours[0]);
	return rc;
}

static void attach(struct netdev *nd, const struct space *s, struct device *d)
{
	struct chain c = read_chain(s, d->ifindex);
	bool known = d->handle && d->handle == c.ours[0];
	int rc = 0;

	d->stale = false;
	if (!c.first || has_tcx(d->ifindex)) {
		d->state = DEVICE_BEHIND; /* until it is so again */
		tell_kernel(nd, s, d);
	}
	if (!c.first) {
		rc = rtnl_add_clsact(s->requests, d->ifindex);
		if (!rc)
			rc = put_in_front(nd, s, d, &c);
		c = read_chain(s, d->ifindex);
	} else if (!known) { /* another load's, in the same place */
		rc = rtnl_set_filter(s->requests, d->ifindex, FILTER_PRIO, c.ours[0], nd->prog, FILTER_NAME, true);
	}
	d->handle = c.ours[0];
	d->state = !rc && c.first && !has_tcx(d->ifindex) ? DEVICE_FRONT :
		   c.cnt && (!rc || rc == -EINVAL)	  ? DEVICE_BEHIND :
							    DEVICE_FAILED;
	tell_kernel(nd, s, d);
}

/* --- the devices of a namespace --------------------------------------------------------------------------------- */

static struct device *find_device(struct space *s, int ifindex)
{
	for (size_t i = 0; i < s->cnt; i++)
		if (s->devices[i].ifindex == ifindex)
			return &s->devices[i];
	return NULL;
}

static void forget_device(struct netdev *nd, struct space *s, struct device *d)
{
	d->state = DEVICE_NEW;
	tell_kernel(nd, s, d);
	*d = s->devices[--s->cnt];
}

struct listing {
	struct netdev *nd;
	struct space *s;
};

static void list_device(void *ctx, int ifindex, const char *name)
{
	struct listing *l = ctx;
	struct space *s = l->s;
	struct device *d;

	(void)name;
	if (find_device(s, ifindex))
		return;
	if (s->cnt >= LIMIT_DEVICES) {
		l->nd->over_limit++;
		return;
	}
	if (!(s->cnt & (s->cnt - 1))) { /* its room is the next power of two */
		d = realloc(s->devices, (s->cnt ? 2 * s->cnt : 1) * sizeof(*d));
		if (!d) {
			l->nd->over_limit++;
			return;
		}
		s->devices = d;
	}
	s->devices[s->cnt++] = (struct device){ .ifindex = ifindex, .stale = true };
}

static int refresh(struct netdev *nd, struct space *s)
{
	struct listing l = { nd, s };
	int rc = rtnl_devices(s->requests, list_device, &l);

	for (size_t i = 0; i < s->cnt; i++)
		if (s->devices[i].stale || s->all_stale)
			attach(nd, s, &s->devices[i]);
	s->all_stale = false;
	return rc;
}

static void on_event(void *ctx, enum rtnl_event event, int ifindex)
{
	struct listing *l = ctx;
	struct device *d = find_device(l->s, ifindex);

	if (event == RTNL_LOST)
		l->s->all_stale = true;
	else if (event == RTNL_DEVICE_GONE && d)
		forget_device(l->nd, l->s, d);
	else if (d && event == RTNL_FILTERS)
		d->stale = true;
}

/* --- namespaces ------------------------------------------------------------------------------------------------- */

static struct space *find_space(struct netdev *nd, const struct stat *st)
{
	for (size_t i = 0; i < nd->cnt; i++)
		if (nd->spaces[i]->ino == st->st_ino && nd->spaces[i]->dev == st->st_dev)
			return nd->spaces[i];
	return NULL;
}

static struct space *space_new(int dir, const char *path)
{
	struct space *s = calloc(1, sizeof(*s));
	struct stat st;

	if (!s)
		return NULL;
	s->requests = s->events = -1;
	s->fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0 || fstat(s->fd, &st)) {
		space_free(s);
		return NULL;
	}
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	s->seen = true;
	return s;
}

static void add_space(struct netdev *nd, int dir, const char *path)
{
	struct space *s, **grown;

	if (nd->cnt >= LIMIT_NAMESPACES) {
		nd->over_limit++;
		return;
	}
	s = space_new(dir, path);
	grown = s ? realloc(nd->spaces, (nd->cnt + 1) * sizeof(*grown)) : NULL;
	if (!grown || in_space(nd, s, open_space)) {
		nd->spaces = grown ? grown : nd->spaces;
		space_free(s);
		return;
	}
	nd->spaces = grown;
	nd->spaces[nd->cnt++] = s;
	in_space(nd, s, refresh);
}

static void drop_space(struct netdev *nd, size_t at)
{
	struct space *s = nd->spaces[at];

	while (s->cnt)
		forget_device(nd, s, &s->devices[0]);
	nd->spaces[at] = nd->spaces[--nd->cnt];
	epoll_ctl(nd->epoll, EPOLL_CTL_DEL, s->events, NULL); /* a child may have it open for a moment */
	space_free(s);
}

/* @path is of a namespace, relative to @dir. */
typedef void (*place_fn)(void *ctx, int dir, const char *path, const struct stat *st);

/* Those that are kept by a name: a process may have sockets in one without living there. */
static void each_name(const char *where, place_fn fn, void *ctx)
{
	DIR *d = opendir(where);
	struct dirent *e;
	struct stat st;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && !fstatat(dirfd(d), e->d_name, &st, 0))
			fn(ctx, dirfd(d), e->d_name, &st);
	if (d)
		closedir(d);
}

static int each_place(place_fn fn, void *ctx, struct err *err)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	char path[64];
	struct stat st;

	if (!d)
		return err_set(err, -errno, "/proc cannot be read: %s", strerror(errno));
	while ((e = readdir(d))) {
		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "%.32s/ns/net", e->d_name);
		if (!fstatat(dirfd(d), path, &st, 0))
			fn(ctx, dirfd(d), path, &st);
	}
	closedir(d);
	each_name("/run/netns", fn, ctx);
	each_name("/run/docker/netns", fn, ctx);
	return 0;
}

static void see_place(void *ctx, int dir, const char *path, const struct stat *st)
{
	struct netdev *nd = ctx;
	struct space *s = find_space(nd, st);

	if (s)
		s->seen = true;
	else
		add_space(nd, dir, path);
}

int netdev_scan(struct netdev *nd, struct err *err)
{
	int rc;

	nd->scans++;
	nd->over_limit = 0;
	for (size_t i = 0; i < nd->cnt; i++)
		nd->spaces[i]->seen = false;
	rc = each_place(see_place, nd, err);
	if (rc)
		return rc;
	for (size_t i = nd->cnt; i-- > 0;)
		if (!nd->spaces[i]->seen)
			drop_space(nd, i);
	nd->to_look = nd->cnt;
	return 0;
}

void netdev_look(struct netdev *nd, unsigned most)
{
	if (nd->to_look > nd->cnt)
		nd->to_look = nd->cnt;
	for (; most && nd->to_look; most--) {
		struct space *s = nd->spaces[--nd->to_look];

		s->all_stale = true;
		in_space(nd, s, refresh);
	}
}

void netdev_poll(struct netdev *nd)
{
	struct epoll_event ev[16];
	int n = epoll_wait(nd->epoll, ev, 16, 0);

	for (int i = 0; i < n; i++) {
		struct listing l = { nd, ev[i].data.ptr };

		rtnl_read_events(l.s->events, on_event, &l);
		in_space(nd, l.s, refresh);
	}
}

int netdev_replace(struct netdev *nd, int prog)
{
	int rc = 0;

	nd->prog = prog;
	for (size_t i = 0; i < nd->cnt; i++) {
		struct space *s = nd->spaces[i];

		for (size_t j = 0; j < s->cnt; j++)
			if (s->devices[j].handle)
				rc = rtnl_set_filter(s->requests, s->devices[j].ifindex, FILTER_PRIO,
						     s->devices[j].handle, prog, FILTER_NAME, true) ?:
					     rc;
	}
	return rc;
}

/* --- life ------------------------------------------------------------------------------------------------------- */

struct netdev *netdev_new(int prog, int devices)
{
	struct netdev *nd = calloc(1, sizeof(*nd));

	if (!nd)
		return NULL;
	nd->prog = prog;
	nd->map = devices;
	nd->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (nd->epoll < 0) {
		free(nd);
		return NULL;
	}
	return nd;
}

void netdev_free(struct netdev *nd)
{
	if (!nd)
		return;
	for (size_t i = 0; i < nd->cnt; i++)
		space_free(nd->spaces[i]);
	free(nd->spaces);
	close(nd->epoll);
	free(nd);
}

int netdev_fd(const struct netdev *nd)
{
	return nd->epoll;
}

int netdev_namespace(const struct netdev *nd, uint64_t cookie)
{
	for (size_t i = 0; i < nd->cnt; i++)
		if (nd->spaces[i]->cookie == cookie)
			return nd->spaces[i]->fd;
	return -ENOENT;
}

struct netdev_stats netdev_get_stats(const struct netdev *nd)
{
	struct netdev_stats stats = { .namespaces = (unsigned)nd->cnt, .over_limit = nd->over_limit,
				      .scans = nd->scans };

	for (size_t i = 0; i < nd->cnt; i++)
		for (size_t j = 0; j < nd->spaces[i]->cnt; j++) {
			enum device_state state = nd->spaces[i]->devices[j].state;

			stats.devices += state == DEVICE_FRONT;
			stats.behind += state == DEVICE_BEHIND;
			stats.failed += state == DEVICE_FAILED;
		}
	return stats;
}

/* --- without a struct netdev ------------------------------------------------------------------------------------ */

typedef void (*visit_fn)(void *ctx, struct netdev *none, struct space *s);

struct visit { /* of each namespace, once */
	visit_fn fn;
	void *ctx;
	struct stat done[LIMIT_NAMESPACES];
	size_t cnt;
};

static void visit_there(void *ctx, int dir, const char *path, const struct stat *st)
{
	struct visit *v = ctx;
	struct netdev none = {};
	struct space *s;

	for (size_t i = 0; i < v->cnt; i++)
		if (v->done[i].st_ino == st->st_ino && v->done[i].st_dev == st->st_dev)
			return;
	if (v->cnt == LIMIT_NAMESPACES)
		return;
	v->done[v->cnt++] = *st;
	s = space_new(dir, path);
	if (s && !in_space(NULL, s, open_space))
		v->fn(v->ctx, &none, s);
	space_free(s);
}

static int visit_all(visit_fn fn, void *ctx, struct err *err)
{
	struct visit *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return -ENOMEM;
	v->fn = fn;
	v->ctx = ctx;
	rc = each_place(visit_there, v, err);
	free(v);
	return rc;
}

struct search {
	uint64_t cookie;
	int fd;
};

static void take_namespace(void *ctx, struct netdev *none, struct space *s)
{
	struct search *search = ctx;

	(void)none;
	if (s->cookie != search->cookie || search->fd >= 0)
		return;
	search->fd = s->fd;
	s->fd = -1;
}

int netdev_open_namespace(uint64_t cookie)
{
	struct search search = { cookie, -1 };
	int rc = visit_all(take_namespace, &search, NULL);

	return search.fd >= 0 ? search.fd : rc ? rc : -ENOENT;
}

static void remove_filters(void *ctx, struct netdev *none, struct space *s)
{
	struct listing l = { none, s };
	int *removed = ctx;

	rtnl_devices(s->requests, list_device, &l);
	for (size_t i = 0; i < s->cnt; i++) {
		struct chain c = read_chain(s, s->devices[i].ifindex);

		for (unsigned j = 0; j < 2; j++)
			if (c.ours[j])
				*removed += !rtnl_remove_filter(s->requests, s->devices[i].ifindex, FILTER_PRIO,
								c.ours[j]);
	}
}

int netdev_detach_all(struct err *err)
{
	int removed = 0, rc = visit_all(remove_filters, &removed, err);

	return rc ? rc : removed;
}
