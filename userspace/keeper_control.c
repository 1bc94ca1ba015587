// SPDX-License-Identifier: Apache-2.0
/*
 * The control socket: one JSON line in, one JSON line out. Root may ask everything; members of
 * group `dbfence` may look. Nobody is waited for: the keeper owes verdicts.
 */
#include "keeper.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <jansson.h>

#include "audit/recorder.h"
#include "core/clock.h"
#include "core/log.h"

#define CONTROL_MS 500
#define GROUP_NAME "dbfence"

int keeper_control_open(struct keeper *k, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct group *group = getgrnam(GROUP_NAME);
	char dir[200], *slash;

	if (strlen(k->opts.socket) >= sizeof(addr.sun_path))
		return err_set(err, -ENAMETOOLONG, "the control socket's path is too long: %s",
			       k->opts.socket);
	snprintf(dir, sizeof(dir), "%s", k->opts.socket);
	slash = strrchr(dir, '/');
	if (slash && slash != dir) {
		*slash = '\0';
		if (mkdir(dir, 0755) && errno != EEXIST)
			return err_set(err, -errno, "cannot create %s: %s", dir, strerror(errno));
	}
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", k->opts.socket);
	unlink(addr.sun_path);
	k->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (k->listen_fd < 0 || bind(k->listen_fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	    chmod(addr.sun_path, 0660) || (group && chown(addr.sun_path, 0, group->gr_gid)) ||
	    listen(k->listen_fd, 16))
		return err_set(err, -errno, "cannot listen on %s: %s", k->opts.socket,
			       strerror(errno));
	return 0;
}

static bool in_group(uid_t uid, gid_t gid)
{
	struct group *group = getgrnam(GROUP_NAME);
	struct passwd *pw = getpwuid(uid);

	if (!group)
		return false;
	if (gid == group->gr_gid)
		return true;
	for (char **m = group->gr_mem; pw && *m; m++)
		if (!strcmp(*m, pw->pw_name))
			return true;
	return false;
}

static json_t *processes_json(const struct keeper *k)
{
	const struct child *children[] = { &k->deadman, &k->worker, &k->recorder };
	static const char *const roles[] = { "dead-man", "worker", "recorder" };
	json_t *list = json_array();

	json_array_append_new(list,
			      json_pack("{s:s, s:i}", "role", "keeper", "pid", (int)getpid()));
	for (int i = 0; i < 3; i++)
		json_array_append_new(list, json_pack("{s:s, s:i, s:I}", "role", roles[i], "pid",
						      (int)children[i]->pid, "starts",
						      (json_int_t)children[i]->starts));
	return list;
}

static json_t *hooks_json(const struct kernel_server *s)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < s->hook_cnt; i++)
		json_array_append_new(
			list, json_pack("{s:s, s:b, s:b, s:b, s:s}", "symbol", s->hooks[i].symbol,
					"attached", s->hooks[i].attached, "slow", s->hooks[i].slow,
					"optional", s->hooks[i].optional, "why_not",
					s->hooks[i].why_not));
	return list;
}

static json_t *servers_json(const struct keeper *k)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < DBF_SERVERS; i++) {
		const struct keeper_server *s = &k->servers[i];

		if (s->used)
			json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:s, s:o}", "exe",
							      s->exe, "version", s->version,
							      "covered", s->k.covered, "problem",
							      s->error[0] ? s->error : s->k.problem,
							      "hooks", hooks_json(&s->k)));
	}
	return list;
}

static json_t *clusters_json(const struct keeper *k)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < KEEPER_CLUSTERS; i++) {
		const struct keeper_cluster *c = &k->clusters[i];

		if (c->pid)
			json_array_append_new(
				list,
				json_pack("{s:i, s:s, s:i, s:s, s:b, s:b, s:i}", "postmaster",
					  (int)c->pid, "data_dir", c->pm.data_dir, "port",
					  c->pm.port, "socket_dir", c->pm.socket_dir, "may_enforce",
					  c->flags & DBF_CLUSTER_ENFORCE ? 1 : 0, "standby",
					  c->flags & DBF_CLUSTER_STANDBY ? 1 : 0, "max_holds",
					  (int)c->max_holds));
	}
	return list;
}

static void add_count(json_t *o, const char *name, uint64_t value)
{
	json_object_set_new(o, name, json_integer((json_int_t)value));
}

static void add_discovery(json_t *o, const struct keeper *k)
{
	struct discover_stats d = discover_stats(k->discover);

	add_count(o, "discovery_lost", d.lost);
	add_count(o, "discovery_unreadable", d.unreadable);
	add_count(o, "discovery_over_limit", d.over_limit);
}

static void add_kernel(json_t *o, const struct dbf_vitals *v)
{
	static const char *const kernel_names[DBF_COUNT_MAX] = {
		[DBF_COUNT_LOST_BATCHES] = "kernel_lost_batches",
		[DBF_COUNT_LOST_EXECS] = "kernel_lost_executions",
		[DBF_COUNT_TEXT_FAULTS] = "kernel_text_faults",
		[DBF_COUNT_NO_STORAGE] = "kernel_no_storage",
		[DBF_COUNT_FRAME_LOST] = "kernel_framing_lost",
		[DBF_COUNT_NEST_LOST] = "kernel_nesting_lost",
		[DBF_COUNT_SCREENED] = "kernel_screened",
		[DBF_COUNT_CANDIDATES] = "kernel_candidates",
		[DBF_COUNT_CACHE_ALLOW] = "kernel_cache_allowed",
		[DBF_COUNT_CACHE_DENY] = "kernel_cache_denied",
		[DBF_COUNT_HOLDS] = "kernel_holds",
		[DBF_COUNT_FAIL_OPEN] = "kernel_fail_open",
		[DBF_COUNT_FAIL_CLOSED] = "kernel_fail_closed",
		[DBF_COUNT_SIGNALS] = "kernel_signals",
		[DBF_COUNT_SIGNAL_ERRORS] = "kernel_signal_errors",
		[DBF_COUNT_TIMER_RELEASES] = "kernel_timer_releases",
		[DBF_COUNT_STATE_FAULTS] = "kernel_state_faults",
		[DBF_COUNT_HOLD_ENDS_LOST] = "kernel_hold_ends_lost",
		[DBF_COUNT_WIRE_CONNS] = "kernel_wire_ends",
		[DBF_COUNT_WIRE_NO_ROOM] = "kernel_wire_no_room",
		[DBF_COUNT_WIRE_REORDERED] = "kernel_wire_reordered",
		[DBF_COUNT_WIRE_HOLDS] = "kernel_wire_holds",
		[DBF_COUNT_WIRE_NO_SLOT] = "kernel_wire_no_slot",
		[DBF_COUNT_WIRE_OVERDUE] = "kernel_wire_overdue",
		[DBF_COUNT_WIRE_ABANDONED] = "kernel_wire_abandoned",
		[DBF_COUNT_WIRE_REWRITES] = "kernel_wire_rewrites",
		[DBF_COUNT_WIRE_KILLS] = "kernel_wire_kills",
		[DBF_COUNT_WIRE_FAILED] = "kernel_wire_failed",
		[DBF_COUNT_WIRE_WRONG_DEVICE] = "kernel_wire_wrong_device",
		[DBF_COUNT_WIRE_LEAKED] = "kernel_wire_leaked",
		[DBF_COUNT_WIRE_NOT_KEPT] = "kernel_wire_not_kept",
	};
	for (int i = 0; i < DBF_COUNT_MAX; i++)
		if (kernel_names[i])
			add_count(o, kernel_names[i],
				  __atomic_load_n(&v->counts[i], __ATOMIC_RELAXED));
}

static void add_worker(json_t *o, const struct msg_stats *w)
{
	add_count(o, "records", w->records);
	add_count(o, "record_errors", w->record_errors);
	add_count(o, "bad_kernel_records", w->bad_records);
	add_count(o, "facts", w->facts);
	add_count(o, "sessions", w->sessions);
	add_count(o, "sessions_seen", w->sessions_seen);
	add_count(o, "statements", w->statements);
	add_count(o, "nested", w->nested);
	add_count(o, "nested_lost", w->nested_lost);
	add_count(o, "orphan_replies", w->orphan_replies);
	add_count(o, "texts_limited", w->texts_limited);
	add_count(o, "text_bytes", w->text_bytes);
	add_count(o, "ring_backlog", w->ring_backlog);
	add_count(o, "sql_calls", w->sql_calls);
	add_count(o, "sql_exact_hits", w->sql_exact_hits);
	add_count(o, "sql_shape_hits", w->sql_shape_hits);
	add_count(o, "sql_parses", w->sql_parses);
	add_count(o, "sql_refused", w->sql_refused);
	add_count(o, "sql_errors", w->sql_errors);
	add_count(o, "sql_unread", w->sql_unread);
	add_count(o, "sessions_refused", w->sessions_refused);
	add_count(o, "wire_records", w->wire_records);
	add_count(o, "wire_sessions", w->wire_sessions);
	add_count(o, "wire_merged", w->wire_merged);
	add_count(o, "wire_mismatches", w->wire_mismatches);
	add_count(o, "wire_limited", w->wire_limited);
}

static void add_judged(json_t *o, const struct msg_stats *w)
{
	add_count(o, "denied", w->denied);
	add_count(o, "would_deny", w->would_deny);
	add_count(o, "alerts", w->alerts);
}

static void add_keeper(json_t *o, const struct keeper *k)
{
	add_count(o, "verdicts", k->counters.verdicts);
	add_count(o, "verdicts_late", k->counters.verdicts_late);
	add_count(o, "verdict_errors", k->counters.verdict_errors);
	add_count(o, "wire_pokes_missed", k->counters.pokes_missed);
	add_count(o, "wire_sockets_destroyed", k->counters.sockets_destroyed);
	add_count(o, "wire_handbacks_failed", k->counters.handbacks_failed);
	add_count(o, "clients_not_found", k->counters.who_missing);
	add_count(o, "tcp_clients_left_out", k->counters.clients_left_out);
	add_count(o, "worker_requests_refused", chan_refused(&k->worker_table));
}

static void add_journal(json_t *o, const struct keeper *k)
{
	const struct recorder_stats *r = &k->journal;

	add_count(o, "journal_records", r->worker_records + r->keeper_records);
	add_count(o, "journal_bad_records", r->bad_records + r->oversize_records + r->torn_records);
	add_count(o, "journal_lost_records", r->journal.dropped_records);
	add_count(o, "journal_lost_executions", r->journal.dropped_executions);
	add_count(o, "journal_records_unsent", k->counters.records_unsent);
	add_count(o, "tail_lost", r->subscriber_lost);
}

static json_t *counters_json(struct keeper *k)
{
	json_t *o = json_object();

	add_kernel(o, kernel_vitals(k->kernel));
	add_worker(o, &k->stats);
	add_count(o, "policy_reloads", k->counters.reloads);
	add_count(o, "policy_reload_errors", k->counters.reload_errors);
	add_discovery(o, k);
	add_judged(o, &k->stats);
	add_keeper(o, k);
	add_journal(o, k);
	return o;
}

static json_t *policy_json(const struct keeper *k, const struct offer *o)
{
	static const struct offer none;

	if (!o)
		o = &none;
	return json_pack("{s:I, s:i, s:i, s:i, s:b, s:s, s:s}", "generation",
			 (json_int_t)o->generation, "policies", (int)o->summary.policies, "rules",
			 (int)o->summary.rules, "enforcing_rules", (int)o->summary.enforcing_rules,
			 "fails_closed", o->summary.fails_closed, "directory", k->opts.policy_dir,
			 "last_error", k->policy_error);
}

static void add_feature(void *ctx, const char *name, bool have, const char *cost)
{
	json_array_append_new(
		ctx, json_pack("{s:s, s:b, s:s}", "name", name, "have", have, "cost", cost));
}

static json_t *wire_json(const struct keeper *k)
{
	struct netdev_stats d = {};

	if (k->devices)
		d = netdev_get_stats(k->devices);
	return json_pack("{s:b, s:s, s:b, s:i, s:i, s:i, s:i}", "followed", !k->opts.no_wire, "cgroup",
			 k->opts.wire_cgroup ? k->opts.wire_cgroup : "", "enforced", k->devices != NULL, "namespaces",
			 (int)d.namespaces, "devices", (int)d.devices, "devices_behind", (int)d.behind,
			 "devices_failed", (int)(d.failed + d.over_limit));
}

static json_t *answer_status(struct keeper *k, bool features)
{
	json_t *o = json_pack(
		"{s:b, s:b, s:I, s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "ok", 1, "ready", k->ready,
		"uptime_s", (json_int_t)((clock_mono_ns() - k->started_ns) / NS_PER_SEC),
		"discovery", k->discover_slow ? "polling" : "exec records", "server_vantage",
		!k->opts.no_server, "wire", wire_json(k), "processes",
		processes_json(k), "servers", servers_json(k), "clusters", clusters_json(k),
		"policy", policy_json(k, k->policies.in_force), "counters", counters_json(k));

	if (features) {
		json_t *list = json_array();

		kernel_features(add_feature, list);
		json_object_set_new(o, "features", list);
	}
	return o;
}

static json_t *failure(const char *sentence)
{
	return json_pack("{s:b, s:s}", "ok", 0, "error", sentence);
}

static json_t *answer_reload(struct keeper *k)
{
	struct err err = {};

	k->counters.reloads++;
	if (keeper_load_policy(k, &err)) {
		k->counters.reload_errors++;
		snprintf(k->policy_error, sizeof(k->policy_error), "%s", err.text);
		return failure(err.text);
	}
	k->policy_error[0] = '\0';
	return json_pack("{s:b, s:o}", "ok", 1, "policy", policy_json(k, k->policies.offered));
}

/* All at once or not at all: nobody is waited for. */
static bool send_json(int fd, json_t *answer)
{
	char *text = json_dumps(answer, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;
	int room = (int)(2 * len + 65536);
	ssize_t n = -1;

	if (text) {
		text[len++] = '\n'; /* in place of the terminator */
		setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
		n = send(fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	free(text);
	return n > 0 && (size_t)n == len;
}

static void refuse(int fd, const char *sentence)
{
	json_t *no = failure(sentence);

	send_json(fd, no);
	json_decref(no);
	close(fd);
}

static void answer_tail(struct keeper *k, int fd, json_t *request)
{
	const char *format = json_string_value(json_object_get(request, "format"));
	enum recorder_format f = recorder_format_from_name(format ? format : "line");
	json_t *ok = f == RECORDER_FORMAT_MAX ? failure("format is json or line")
					      : json_pack("{s:b}", "ok", 1);

	if (send_json(fd, ok) && f != RECORDER_FORMAT_MAX)
		recorder_subscribe(k->recorder_fd, fd, f,
				   json_is_true(json_object_get(request, "color")),
				   (unsigned)json_integer_value(json_object_get(request, "width")));
	json_decref(ok);
}

static void answer(struct keeper *k, int fd, const char *line, bool root)
{
	json_t *request = json_loads(line, 0, NULL), *reply = NULL;
	const char *cmd = json_string_value(json_object_get(request, "cmd"));

	if (!cmd)
		reply = failure("the request is not understood");
	else if (!strcmp(cmd, "tail"))
		answer_tail(k, fd, request);
	else if (!strcmp(cmd, "status"))
		reply = answer_status(k, false);
	else if (!strcmp(cmd, "doctor"))
		reply = answer_status(k, true);
	else if (!strcmp(cmd, "policy_show"))
		reply = json_pack("{s:b, s:o}", "ok", 1, "policy",
				  policy_json(k, k->policies.in_force));
	else if (!strcmp(cmd, "policy_reload"))
		reply = root ? answer_reload(k) : failure("only root may reload policies");
	else
		reply = failure("unknown request");
	if (reply)
		send_json(fd, reply);
	json_decref(reply);
	json_decref(request);
}

static void asker_close(struct keeper_asker *a)
{
	if (a->open)
		close(a->fd);
	a->open = false;
}

void keeper_control_accept(struct keeper *k)
{
	int fd = accept4(k->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct keeper_asker *a = k->askers;
	struct ucred peer = {};
	socklen_t len = sizeof(peer);
	struct epoll_event ev = { .events = EPOLLIN };

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) ||
	    (peer.uid && !in_group(peer.uid, peer.gid))) {
		refuse(fd, "only root and members of group " GROUP_NAME " may ask");
		return;
	}
	while (a < k->askers + KEEPER_ASKERS && a->open)
		a++;
	if (a == k->askers + KEEPER_ASKERS) {
		refuse(fd, "too many are asking at once; try again");
		return;
	}
	*a = (struct keeper_asker){ .open = true, .fd = fd, .root = !peer.uid, .since_ns = clock_mono_ns() };
	ev.data.u32 = KEEPER_ASKER_SOURCE + (uint32_t)(a - k->askers);
	if (epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &ev))
		asker_close(a);
}

void keeper_control_read(struct keeper *k, unsigned index)
{
	struct keeper_asker *a = &k->askers[index];
	ssize_t n;

	if (!a->open)
		return;
	n = recv(a->fd, a->line + a->len, sizeof(a->line) - 1 - a->len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		a->len += (size_t)n;
		if (a->line[a->len - 1] != '\n' && a->len < sizeof(a->line) - 1)
			return;
		a->line[a->len] = '\0';
		answer(k, a->fd, a->line, a->root);
	}
	asker_close(a);
}

void keeper_control_tick(struct keeper *k, uint64_t now_ns)
{
	for (unsigned i = 0; i < KEEPER_ASKERS; i++)
		if (now_ns - k->askers[i].since_ns > CONTROL_MS * NS_PER_MS)
			asker_close(&k->askers[i]);
}
