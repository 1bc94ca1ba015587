// SPDX-License-Identifier: Apache-2.0
/* Server binaries and clusters: attached when they appear, told to the kernel, forgotten when they
 * go. */
#include "keeper.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/log.h"
#include "dbfence/audit.pb-c.h"
#include "loader/pg_memory.h"

#define HOLD_SHARE 10
#define POSTGRESQL_PORT 5432

static struct keeper_server *server_lookup(struct keeper *k, const struct pg_server *s)
{
	for (unsigned i = 0; i < DBF_SERVERS; i++)
		if (k->servers[i].used && k->servers[i].k.dev == s->dev &&
		    k->servers[i].k.ino == s->ino)
			return &k->servers[i];
	return NULL;
}

static void record_coverage(struct keeper *k, const char *object, const char *state,
			    const char *detail)
{
	Dbfence__Audit__V1__Record rec = DBFENCE__AUDIT__V1__RECORD__INIT;
	Dbfence__Audit__V1__Coverage c = DBFENCE__AUDIT__V1__COVERAGE__INIT;

	rec.vantage = (char *)(uintptr_t) "server";
	c.object = (char *)(uintptr_t)object;
	c.state = (char *)(uintptr_t)state;
	c.detail = (char *)(uintptr_t)detail;
	rec.coverage = &c;
	keeper_record(k, "coverage", &rec);
}

static void server_new(struct keeper *k, const struct pg_server *s)
{
	struct keeper_server *to = server_lookup(k, s);
	struct err err = {};

	for (unsigned i = 0; !to && i < DBF_SERVERS; i++)
		if (!k->servers[i].used)
			to = &k->servers[i];
	if (!to) {
		log_warn("more than %d server binaries: %s is not observed", DBF_SERVERS, s->exe);
		return;
	}
	*to = (struct keeper_server){ .used = true };
	snprintf(to->exe, sizeof(to->exe), "%.500s", s->exe);
	snprintf(to->version, sizeof(to->version), "%.60s", s->version);
	if (k->opts.no_server) {
		to->k.index = -1;
		to->k.dev = s->dev;
		to->k.ino = s->ino;
		return;
	}
	if (kernel_attach_server(k->kernel, s, &to->k, &err)) {
		to->k.dev = s->dev;
		to->k.ino = s->ino;
		snprintf(to->error, sizeof(to->error), "%.500s", err.text);
		log_warn("%s (PostgreSQL %s) is not observed: %s", s->exe, s->version, err.text);
		record_coverage(k, s->exe, "not_covered", err.text);
		return;
	}
	if (!to->k.covered)
		log_warn("%s (PostgreSQL %s) is observed in part: %s", s->exe, s->version,
			 to->k.problem);
	else
		log_info("observing PostgreSQL %s, %s", s->version, s->exe);
	record_coverage(k, s->exe, to->k.covered ? "covered" : "partial", to->k.problem);
}

static void server_gone(struct keeper *k, const struct pg_server *s)
{
	struct keeper_server *to = server_lookup(k, s);

	if (!to)
		return;
	kernel_detach_server(k->kernel, to->k.index);
	log_info("no longer observing %s: no process runs it", to->exe);
	to->used = false;
}

static struct keeper_cluster *cluster_lookup(struct keeper *k, uint32_t pid)
{
	for (unsigned i = 0; i < KEEPER_CLUSTERS; i++)
		if (k->clusters[i].pid == pid)
			return &k->clusters[i];
	return NULL;
}

static bool may_signal(const struct keeper *k, const struct pg_postmaster *pm)
{
	for (unsigned i = 0; i < k->opts.only_port_cnt; i++)
		if (k->opts.only_ports[i] == pm->port)
			return true;
	return !k->opts.only_port_cnt;
}

/* A standby's backends replay WAL around them: holding one stops the replay. */
static bool is_standby(const struct pg_postmaster *pm)
{
	char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "/proc/%d/cwd/standby.signal", pm->pid);
	return !access(path, F_OK);
}

/*
 * A tenth of the sessions that it admits may stand still at once, if that is less than the option
 * says. 0 when it cannot be told: then the option alone counts.
 */
static uint32_t cluster_holds(const struct keeper *k, const struct pg_server *s, pid_t postmaster)
{
	unsigned share;
	int admits;

	if (pg_memory_read_int(s, postmaster, "MaxConnections", &admits) || admits < 1)
		return 0;
	share = (unsigned)admits / HOLD_SHARE;
	return share < 1 ? 1 : share < k->opts.max_holds ? share : k->opts.max_holds;
}

static void cluster_set(struct keeper *k, const struct pg_server *s, const struct pg_postmaster *pm)
{
	struct keeper_cluster *c = cluster_lookup(k, (uint32_t)pm->pid);
	struct dbf_cluster entry = {};
	struct keeper_server *server = server_lookup(k, s);
	bool fresh = !c;

	if (!c)
		c = cluster_lookup(k, 0);
	if (!c) {
		log_warn("more than %d clusters: nothing is enforced on postmaster %d",
			 KEEPER_CLUSTERS, pm->pid);
		return;
	}
	c->pid = (uint32_t)pm->pid;
	c->server = server ? (int)(server - k->servers) : -1;
	c->pm = *pm;
	entry.flags = (may_signal(k, pm) ? DBF_CLUSTER_ENFORCE : 0) |
		      (is_standby(pm) ? DBF_CLUSTER_STANDBY : 0);
	if (server && server->k.covered)
		entry.flags |= DBF_CLUSTER_OBSERVED;
	entry.max_holds = cluster_holds(k, s, pm->pid);
	c->flags = entry.flags;
	c->max_holds = entry.max_holds ? entry.max_holds : k->opts.max_holds;
	if (kernel_set_cluster(k->kernel, c->pid, &entry))
		log_warn("cannot tell the kernel about postmaster %u: %s", c->pid, strerror(errno));
	keeper_set_ports(k);
	if (fresh)
		log_info("cluster %s, port %d, postmaster %u", pm->data_dir, pm->port, c->pid);
}

static void add_port(struct dbf_ports *ports, int port)
{
	if (port > 0 && port < 65536)
		ports->bits[port / 64] |= 1ULL << port % 64;
}

void keeper_set_ports(struct keeper *k)
{
	struct dbf_ports ports = {}, enforced = {};

	for (unsigned i = 0; i < k->opts.only_port_cnt; i++)
		add_port(&enforced, k->opts.only_ports[i]);
	if (!k->opts.only_port_cnt)
		memset(&enforced, 0xff, sizeof(enforced));
	add_port(&ports, POSTGRESQL_PORT);
	for (unsigned i = 0; i < k->opts.wire_port_cnt; i++)
		add_port(&ports, k->opts.wire_ports[i]);
	for (unsigned i = 0; i < KEEPER_CLUSTERS; i++)
		if (k->clusters[i].pid)
			add_port(&ports, k->clusters[i].pm.port);
	if (kernel_set_ports(k->kernel, DBF_PORTS_KNOWN, &ports) ||
	    kernel_set_ports(k->kernel, DBF_PORTS_ENFORCED, &enforced))
		log_warn("cannot tell the kernel about the ports: %s", strerror(errno));
}

void keeper_on_discovery(void *arg, enum discover_event event, const struct pg_server *server,
			 const struct pg_postmaster *pm)
{
	struct keeper *k = arg;
	struct keeper_cluster *c;

	switch (event) {
	case DISCOVER_SERVER_NEW: server_new(k, server); break;
	case DISCOVER_SERVER_GONE: server_gone(k, server); break;
	case DISCOVER_POSTMASTER_NEW:
	case DISCOVER_POSTMASTER_CHANGED: cluster_set(k, server, pm); break;
	case DISCOVER_POSTMASTER_GONE:
		c = cluster_lookup(k, (uint32_t)pm->pid);
		if (c) {
			kernel_drop_cluster(k->kernel, c->pid);
			*c = (struct keeper_cluster){};
		}
		break;
	case DISCOVER_EVENT_MAX: break;
	}
}

void keeper_seed_clients(struct keeper *k)
{
	uint16_t ports[KEEPER_CLUSTERS];
	struct tcp_seed_ports known = { ports, 0 };
	struct err err = {};
	size_t left_out = 0;

	for (unsigned i = 0; i < KEEPER_CLUSTERS; i++)
		if (k->clusters[i].pid && k->clusters[i].pm.port)
			ports[known.cnt++] = (uint16_t)k->clusters[i].pm.port;
	if (kernel_seed_tcp_clients(k->kernel, &known, &left_out, &err))
		log_warn("%s; clients that connected before now have no process in the records",
			 err.text);
	k->counters.clients_left_out = left_out;
}
