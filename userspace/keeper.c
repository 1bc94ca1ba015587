// SPDX-License-Identifier: Apache-2.0
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "audit/recorder.h"
#include "core/clock.h"
#include "core/log.h"
#include "dbfence/audit.pb-c.h"
#include "enforce/hold.h"
#include "priv/sandbox.h"
#include "worker.h"

#define TICK_MS 50
#define WORKER_SILENT_MS 5000 /* a worker that says nothing for so long is replaced */
#define STOP_GRACE_MS 3000
#define START_WAIT_MS 15000
#define JOURNAL_LOOK_MS 250
#define DBFENCE_VERSION "0.1"

enum source { SRC_SIGNAL, SRC_TIMER, SRC_DISCOVER, SRC_CONTROL, SRC_WORKER, SRC_CHILDREN, SRC_DEVICES };

void keeper_record(struct keeper *k, const char *kind, Dbfence__Audit__V1__Record *rec)
{
	rec->kind = (char *)(uintptr_t)kind;
	rec->node = k->node;
	rec->time_ns = rec->end_time_ns = (int64_t)clock_wall_ns();
	rec->mono_ns = rec->end_mono_ns = clock_mono_ns();
	if (k->recorder_fd >= 0 && recorder_append(k->recorder_fd, rec))
		k->counters.records_unsent++;
}

void keeper_record_agent(struct keeper *k, const char *event, const char *message)
{
	Dbfence__Audit__V1__Record rec = DBFENCE__AUDIT__V1__RECORD__INIT;
	Dbfence__Audit__V1__Agent agent = DBFENCE__AUDIT__V1__AGENT__INIT;

	agent.event = (char *)(uintptr_t)event;
	agent.version = (char *)(uintptr_t)DBFENCE_VERSION;
	agent.message = (char *)(uintptr_t)message;
	rec.agent = &agent;
	keeper_record(k, "agent", &rec);
}

static void record_gap(struct keeper *k, const char *reason, const char *detail)
{
	Dbfence__Audit__V1__Record rec = DBFENCE__AUDIT__V1__RECORD__INIT;
	Dbfence__Audit__V1__Gap gap = DBFENCE__AUDIT__V1__GAP__INIT;

	gap.reason = (char *)(uintptr_t)reason;
	gap.detail = (char *)(uintptr_t)detail;
	rec.gap = &gap;
	keeper_record(k, "gap", &rec);
}

/* A signal to the whole group, or to the unit, ends the keeper; the children end by it, in order.
 */
static void ignore_group_signals(void)
{
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
}

static int worker_main(void *arg)
{
	struct keeper *k = arg;
	struct worker_opts o = {
		.ring_fd = kernel_ring_fd(k->kernel),
		.ring_bytes = kernel_ring_bytes(k->kernel),
		.keeper_fd = k->worker_side,
		.records_fd = k->records_side,
		.doorbell = kernel_doorbell(k->kernel),
		.marks = kernel_marks(k->kernel),
		.node = k->node,
		.full_text = k->opts.full_text,
		/* The ring is mapped twice over; the rest is the profile's share. */
		.limit_as = sandbox_profile_get(SANDBOX_WORKER).limit_as
				    ? sandbox_profile_get(SANDBOX_WORKER).limit_as +
					      3 * kernel_ring_bytes(k->kernel)
				    : 0,
	};

	ignore_group_signals();
	/* A worker that was taken over must not write heartbeats or resolve holds. */
	o.vitals = kernel_drop_pages(k->kernel);
	if (!o.vitals) {
		log_err("cannot map the shared page: %s", strerror(errno));
		return 1;
	}
	return worker_run(&o);
}

static int recorder_main(void *arg)
{
	struct keeper *k = arg;
	int foreground = k->opts.foreground ? STDOUT_FILENO : -1;
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	int keep[] = { STDERR_FILENO, k->recorder_records, k->recorder_side, k->journal_dir_fd,
		       epoll,	      STDOUT_FILENO };
	struct sandbox_profile profile = sandbox_profile_get(SANDBOX_RECORDER);
	struct recorder_opts o = {
		.records_fd = k->recorder_records,
		.control_fd = k->recorder_side,
		.journal_dir_fd = k->journal_dir_fd,
		.epoll_fd = epoll,
		.foreground_fd = foreground,
		.foreground_color = isatty(STDOUT_FILENO) && !getenv("NO_COLOR"),
		.foreground_width = 100,
		.node = k->node,
	};
	struct err err = {};

	log_set_who("dbfenced recorder");
	if (k->kernel) /* nor must this one: it reads what the worker sends */
		kernel_drop_pages(k->kernel);
	profile.keep_fds = keep;
	profile.keep_cnt = foreground >= 0 ? 6 : 5;
	profile.root_fd = k->journal_dir_fd;
	profile.outlives_parent = true; /* it writes what is on its way, then ends */
	if (sandbox_enter(&profile, &err)) {
		log_err("%s", err.text);
		return 1;
	}
	return recorder_run(&o) ? 1 : 0;
}

static int deadman_main(void *arg)
{
	struct keeper *k = arg;
	struct deadman d = { .vitals = kernel_vitals(k->kernel),
			     .slots = kernel_holds(k->kernel),
			     .wire_slots = kernel_wire_holds(k->kernel),
			     .keeper_fd = k->deadman_side };
	struct sandbox_profile profile = sandbox_profile_get(SANDBOX_DEADMAN);
	struct err err = {};
	int keep[] = { STDERR_FILENO, k->deadman_side };
	int adj;

	log_set_who("dbfenced dead-man");
	ignore_group_signals();
	adj = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (adj >= 0 && write(adj, "-1000", 5) < 0)
		log_debug("oom_score_adj: %s", strerror(errno));
	mlockall(MCL_CURRENT);
	profile.keep_fds = keep;
	profile.keep_cnt = 2;
	profile.outlives_parent = true;
	if (sandbox_enter(&profile, &err)) {
		log_err("%s", err.text);
		return 1;
	}
	return deadman_run(&d);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int spawn_deadman(struct keeper *k, struct err *err)
{
	int fds[2], rc;

	if (pipe2(fds, O_CLOEXEC))
		return err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	close_fd(&k->deadman_fd);
	k->deadman_fd = fds[1];
	k->deadman_side = fds[0];
	rc = child_spawn(&k->deadman, err);
	close_fd(&k->deadman_side);
	return rc;
}

static int records_pair(int fds[2], struct err *err)
{
	int size = 4 << 20;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return err_set(err, -errno, "cannot make a socket pair: %s", strerror(errno));
	setsockopt(fds[0], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	return 0;
}

/* A recorder, and a stream from the worker to it. */
static int spawn_recorder(struct keeper *k, struct err *err)
{
	int control[2], records[2], rc;

	rc = chan_pair(control, err);
	if (!rc)
		rc = records_pair(records, err);
	if (rc)
		return rc;
	close_fd(&k->recorder_fd);
	k->recorder_fd = control[0];
	k->recorder_side = control[1];
	k->recorder_records = records[1];
	rc = child_spawn(&k->recorder, err);
	close_fd(&k->recorder_side);
	close_fd(&k->recorder_records);
	if (k->worker_fd >= 0) {
		chan_try_send(k->worker_fd, MSG_RECORDS, NULL, 0, records[0]);
		close(records[0]);
	} else {
		k->records_side = records[0];
	}
	return rc;
}

/*
 * Sessions that live introduce themselves again: the next worker knows none. When the last one has gone, for what is told
 * until there is another; and when that is there, for what found no room meanwhile.
 */
static void introduce_sessions(struct keeper *k)
{
	struct dbf_vitals *v = kernel_vitals(k->kernel);

	if (!__atomic_add_fetch(&v->reader_epoch, 1, __ATOMIC_SEQ_CST))
		__atomic_add_fetch(&v->reader_epoch, 1, __ATOMIC_SEQ_CST);
}

static int spawn_worker(struct keeper *k, struct err *err)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = SRC_WORKER };
	int fds[2], records[2], rc;

	rc = chan_pair(fds, err);
	if (rc)
		return rc;
	if (k->records_side < 0) { /* a new worker needs a new stream */
		rc = records_pair(records, err);
		if (rc)
			return rc;
		k->records_side = records[0];
		recorder_set_worker(k->recorder_fd, records[1]);
		close(records[1]);
	}
	k->worker_side = fds[1];
	close_fd(&k->worker_fd);
	k->worker_fd = fds[0];
	rc = child_spawn(&k->worker, err);
	close_fd(&k->worker_side);
	close_fd(&k->records_side);
	if (!rc && epoll_ctl(k->epoll, EPOLL_CTL_ADD, k->worker_fd, &ev))
		rc = err_set(err, -errno, "epoll: %s", strerror(errno));
	k->worker_beat_ns = clock_mono_ns();
	introduce_sessions(k);
	if (offers_new_worker(&k->policies))
		keeper_policy_failed(k, "the worker ended while it loaded them");
	if (!rc)
		keeper_send_policies(k);
	return rc;
}

static void read_worker(struct keeper *k)
{
	struct chan_msg msg;
	int rc;

	if (k->worker_fd < 0)
		return;
	while (!(rc = chan_try_recv(k->worker_fd, k->msg, sizeof(k->msg), &msg)))
		chan_dispatch(&k->worker_table, &msg);
	if (rc == -EPIPE)
		close_fd(&k->worker_fd); /* its end is noticed through the pidfd */
}

/* Beats while the worker judges; silent otherwise, so that no program begins a hold that nobody
 * would answer. */
static void beat(struct keeper *k, uint64_t now)
{
	if (k->worker.pid && k->policies.judged &&
	    now - k->worker_beat_ns < 2 * WORKER_BEAT_MS * NS_PER_MS)
		__atomic_store_n(&kernel_vitals(k->kernel)->keeper_beat_ns, now, __ATOMIC_RELEASE);
}

static void restart_children(struct keeper *k)
{
	struct err err;

	if (!k->deadman.pid && !child_restart_in_ms(&k->deadman) && spawn_deadman(k, &err))
		log_err("%s", err.text);
	if (!k->recorder.pid && !child_restart_in_ms(&k->recorder)) {
		if (spawn_recorder(k, &err))
			log_err("%s", err.text);
		else
			record_gap(k, "recorder_restart",
				   "the recorder ended; records it had not written are lost");
	}
	if (!k->worker.pid && !child_restart_in_ms(&k->worker)) {
		if (spawn_worker(k, &err))
			log_err("%s", err.text);
		else
			record_gap(k, "worker_restart",
				   "the worker ended; statements it was following are lost");
	}
}

static void reap_children(struct keeper *k)
{
	struct child *all[] = { &k->deadman, &k->recorder, &k->worker };

	for (int i = 0; i < 3; i++)
		if (child_reap(all[i]) > 0) {
			log_warn("the %s %s; it is started again", all[i]->name, all[i]->ended);
			if (all[i] == &k->worker)
				introduce_sessions(k);
		}
}

/* Said once when it begins and once when it is over; meanwhile enforcement goes on. */
static void watch_journal(struct keeper *k, uint64_t now)
{
	const struct journal_stats *j = &k->journal.journal;

	if (!k->ready || k->recorder_fd < 0)
		return;
	if (now - k->journal_looked_ns >= JOURNAL_LOOK_MS * NS_PER_MS) {
		k->journal_looked_ns = now;
		recorder_ask_stats(k->recorder_fd);
	}
	if (recorder_take_stats(k->recorder_fd, &k->journal))
		return;
	if (j->state != JOURNAL_WRITING && !k->journal_failing)
		log_err("the journal cannot be written (%s): records are lost and counted until "
			"there is room in %s/journal",
			strerror(j->last_errno), k->opts.state_dir);
	else if (j->state == JOURNAL_WRITING && k->journal_failing)
		log_warn("the journal is written again; %llu records were lost",
			 (unsigned long long)j->dropped_records);
	k->journal_failing = j->state != JOURNAL_WRITING;
}

static void tick(struct keeper *k)
{
	uint64_t now = clock_mono_ns(), expirations;

	if (read(k->timer_fd, &expirations, sizeof(expirations)) < 0)
		return;
	beat(k, now);
	reap_children(k);
	if (k->worker.pid && now - k->worker_beat_ns > WORKER_SILENT_MS * NS_PER_MS) {
		log_warn("the worker has not answered for %d ms: it is replaced", WORKER_SILENT_MS);
		kill(k->worker.pid, SIGKILL);
		k->worker_beat_ns = now;
	}
	restart_children(k);
	watch_journal(k, now);
	keeper_control_tick(k, now);
	keeper_wire_tick(k, now);
}

static void on_signal(struct keeper *k)
{
	struct signalfd_siginfo info;
	struct err err = {};

	if (read(k->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo != SIGHUP) {
		k->stop = true;
		return;
	}
	k->counters.reloads++;
	k->policy_error[0] = '\0';
	if (keeper_load_policy(k, &err)) {
		k->counters.reload_errors++;
		snprintf(k->policy_error, sizeof(k->policy_error), "%s", err.text);
		log_err("the policies were not reloaded, what was in force stays: %s", err.text);
		keeper_record_agent(k, "reload_failed", err.text);
	}
}

static void dispatch(struct keeper *k, uint32_t src)
{
	if (src >= KEEPER_ASKER_SOURCE) {
		keeper_control_read(k, src - KEEPER_ASKER_SOURCE);
		return;
	}
	switch ((enum source)src) {
	case SRC_SIGNAL: on_signal(k); break;
	case SRC_TIMER: tick(k); break;
	case SRC_DISCOVER: discover_poll(k->discover, keeper_on_discovery, k); break;
	case SRC_CONTROL: keeper_control_accept(k); break;
	case SRC_WORKER: read_worker(k); break;
	case SRC_CHILDREN: break;
	case SRC_DEVICES: keeper_wire_devices(k); break;
	}
}

/* One round of events. @timeout_ms bounds the wait. */
static void round_of_events(struct keeper *k, int timeout_ms)
{
	struct epoll_event ev[8];
	int n = epoll_wait(k->epoll, ev, 8, timeout_ms);

	for (int i = 0; i < n; i++)
		dispatch(k, ev[i].data.u32);
}

static int watch_fd(struct keeper *k, int fd, enum source src, struct err *err)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = src };

	if (fd < 0 || epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &ev))
		return err_set(err, -errno, "epoll: %s", strerror(errno));
	return 0;
}

int keeper_watch_devices(struct keeper *k, int fd, struct err *err)
{
	return watch_fd(k, fd, SRC_DEVICES, err);
}

static int open_events(struct keeper *k, struct err *err)
{
	struct itimerspec every = { { 0, TICK_MS * NS_PER_MS }, { 0, TICK_MS * NS_PER_MS } };
	sigset_t set;
	int rc;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	k->epoll = epoll_create1(EPOLL_CLOEXEC);
	k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	k->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	timerfd_settime(k->timer_fd, 0, &every, NULL);
	rc = watch_fd(k, k->signal_fd, SRC_SIGNAL, err);
	if (!rc)
		rc = watch_fd(k, k->timer_fd, SRC_TIMER, err);
	return rc;
}

static int make_dir(const char *path, mode_t mode, struct err *err)
{
	if (mkdir(path, mode) && errno != EEXIST)
		return err_set(err, -errno, "cannot create %s: %s", path, strerror(errno));
	return 0;
}

/*
 * One daemon per pin directory and per state directory. The first is a name in the abstract socket
 * space, because bpffs has no locks; both end with the keeper, however it ends.
 */
static int take_locks(struct keeper *k, struct err *err)
{
	const char *pins = k->opts.pin_dir ? k->opts.pin_dir : KERNEL_PIN_DIR;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char path[4096];
	int n = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "dbfence %.90s", pins), fd;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr,
			   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n)))
		return err_set(err, -EBUSY,
			       "another dbfenced runs on this node (its programs are pinned under "
			       "%s): stop it first, "
			       "or give this one its own --pin-dir",
			       pins);
	snprintf(path, sizeof(path), "%s/lock", k->opts.state_dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(err, -errno, "cannot create %s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB))
		return err_set(err, -EBUSY,
			       "another dbfenced uses %s: give this one its own --state-dir",
			       k->opts.state_dir);
	return 0;
}

/* The recorder's directory belongs to it, so that it needs no privilege; root reads everything. */
static int open_journal(struct keeper *k, struct err *err)
{
	struct sandbox_profile profile = sandbox_profile_get(SANDBOX_RECORDER);
	char path[4096];
	int rc;

	snprintf(path, sizeof(path), "%s/journal", k->opts.state_dir);
	rc = make_dir(path, 0700, err);
	if (rc)
		return rc;
	k->journal_dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (k->journal_dir_fd < 0 || fchown(k->journal_dir_fd, profile.uid, profile.gid))
		return err_set(err, -errno, "cannot use %s for the journal: %s", path,
			       strerror(errno));
	return 0;
}

static int find_servers(struct keeper *k, struct err *err)
{
	struct err why = {};

	k->discover = discover_new();
	if (!k->discover)
		return err_set(err, -errno, "cannot look for servers: %s", strerror(errno));
	if (discover_watch(k->discover, &why)) {
		k->discover_slow = true;
		log_warn("%s; new servers are looked for every second", why.text);
	}
	discover_scan(k->discover, keeper_on_discovery, k);
	return watch_fd(k, discover_fd(k->discover), SRC_DISCOVER, err);
}

/* The worker judges and the dead-man watches: from here on a hold is possible. */
static bool may_hold(const struct keeper *k)
{
	return k->policies.judged && __atomic_load_n(&kernel_vitals(k->kernel)->deadman_beat_ns,
						  __ATOMIC_ACQUIRE) > k->spawned_ns;
}

static int wait_for_worker(struct keeper *k, struct err *err)
{
	uint64_t until = clock_mono_ns() + START_WAIT_MS * NS_PER_MS;

	while (!may_hold(k) && !k->stop) {
		if (clock_mono_ns() > until || !k->worker.pid)
			return err_set(err, -ETIMEDOUT,
				       "the worker did not start: see the lines above");
		round_of_events(k, 20);
	}
	beat(k, clock_mono_ns());
	return 0;
}

static bool recorder_alive(struct keeper *k)
{
	child_reap(&k->recorder);
	return k->recorder.pid != 0;
}

/* It opens the journal first: a directory it cannot write to is found here. */
static int wait_for_recorder(struct keeper *k, struct err *err)
{
	struct recorder_stats stats = {};

	if (!recorder_get_stats(k->recorder_fd, START_WAIT_MS, &stats) &&
	    stats.journal.state != JOURNAL_WRITING)
		return err_set(err, -ENOSPC,
			       "the journal in %s/journal cannot be written (%s): make room, or "
			       "name another "
			       "--state-dir",
			       k->opts.state_dir, strerror(stats.journal.last_errno));
	if (!stats.journal.segments && !stats.journal.seq && !recorder_alive(k))
		return err_set(err, -EIO,
			       "the recorder cannot use the journal in %s/journal: see the line "
			       "above, and check the "
			       "disk's free space",
			       k->opts.state_dir);
	return 0;
}

static int start(struct keeper *k, struct err *err)
{
	struct kernel_opts ko = { .pin_dir = k->opts.pin_dir,
				  .ring_bytes = k->opts.ring_bytes,
				  .no_server = k->opts.no_server,
				  .no_wire = k->opts.no_wire,
				  .wire_cgroup = k->opts.wire_cgroup };
	unsigned released;
	int rc = kernel_check(err);

	if (!rc)
		rc = make_dir(k->opts.state_dir, 0755, err);
	if (!rc)
		rc = take_locks(k, err);
	if (rc)
		return rc;
	kernel_recover(k->opts.pin_dir, &released, &k->policies.generation);
	if (released)
		log_warn("%u statements were still held by an earlier daemon: released", released);
	rc = keeper_load_policy(k, err);
	if (!rc)
		rc = open_journal(k, err);
	if (rc)
		return rc;
	k->kernel = kernel_open(&ko, err);
	if (!k->kernel)
		return -errno;
	k->spawned_ns = clock_mono_ns();
	rc = open_events(k, err);
	if (!rc)
		rc = spawn_deadman(k, err);
	if (!rc)
		rc = spawn_recorder(k, err);
	if (!rc)
		rc = wait_for_recorder(k, err);
	if (!rc)
		rc = spawn_worker(k, err);
	if (!rc)
		rc = wait_for_worker(k, err);
	if (!rc)
		rc = find_servers(k, err);
	if (!rc)
		rc = keeper_control_open(k, err);
	if (!rc)
		rc = watch_fd(k, k->listen_fd, SRC_CONTROL, err);
	if (rc)
		return rc;
	keeper_set_ports(k);
	keeper_seed_clients(k);
	return kernel_activate(k->kernel, err);
}

static unsigned servers_covered(const struct keeper *k)
{
	unsigned n = 0;

	for (unsigned i = 0; i < DBF_SERVERS; i++)
		n += k->servers[i].used && k->servers[i].k.covered;
	return n;
}

/* What `dbfence disarm` left for us to say. */
static void tell_disarmed(struct keeper *k)
{
	char path[4096], text[256] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/" KERNEL_DISARMED_FILE, k->opts.state_dir);
	f = fopen(path, "re");
	if (!f)
		return;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	unlink(path);
	text[strcspn(text, "\n")] = '\0';
	keeper_record_agent(k, "disarm", text);
	record_gap(k, "disarmed", "nothing was observed since then");
}

static void announce(struct keeper *k)
{
	bool over = kernel_took_over(k->kernel);

	tell_disarmed(k);

	k->ready = true;
	k->started_ns = clock_mono_ns();
	keeper_record_agent(k, over ? "takeover" : "start",
			    over ? "programs pinned by an earlier daemon were taken over" : "");
	if (over)
		record_gap(k, "daemon_restart",
			   "no daemon ran before this; what the ring could not keep is lost");
	if (!k->opts.no_server && !servers_covered(k))
		log_info("no PostgreSQL server runs on this node yet: waiting for one (try: make "
			 "demo, or start one)");
	log_info("ready");
}

static void stop(struct keeper *k)
{
	bool keep = k->ready && k->policies.in_force && k->policies.in_force->summary.enforces;

	if (k->ready)
		keeper_record_agent(k, "stop", keep ? "enforcement goes on in the kernel" : "");
	if (k->kernel)
		hold_release_all(kernel_holds(k->kernel), DBF_HOLD_SLOTS, DBF_BY_KEEPER);
	if (!keeper_wire_stop(k, keep)) /* or what is left would be sent as it is */
		keep = true;
	if (k->worker_fd >= 0)
		chan_try_send(k->worker_fd, MSG_STOP, NULL, 0, -1);
	/* First: a newer daemon may take the path while we detach. */
	if (k->listen_fd >= 0)
		unlink(k->opts.socket);
	child_stop(&k->worker, STOP_GRACE_MS);
	if (k->recorder_fd >= 0)
		recorder_stop(k->recorder_fd);
	child_stop(&k->recorder, STOP_GRACE_MS);
	kernel_close(k->kernel, !k->ready ? KERNEL_UNDO : keep ? KERNEL_KEEP : KERNEL_REMOVE);
	close_fd(&k->deadman_fd);
	child_stop(&k->deadman, STOP_GRACE_MS);
	discover_free(k->discover);
	if (keep)
		log_info("stopped; the last policies stay enforced in the kernel ('dbfence disarm "
			 "--state-dir %s%s%s' ends that)",
			 k->opts.state_dir, k->opts.pin_dir ? " --pin-dir " : "",
			 k->opts.pin_dir ? k->opts.pin_dir : "");
	else if (k->ready)
		log_info("stopped");
}

int keeper_run(const struct keeper_opts *opts)
{
	struct keeper *k = calloc(1, sizeof(*k));
	struct rlimit files = { 65536, 65536 };
	struct err err = {};
	int rc;

	if (!k)
		return 1;
	log_set_who("dbfenced");
	k->opts = *opts;
	k->worker_fd = k->recorder_fd = k->deadman_fd = k->worker_side = k->records_side =
		k->recorder_side = -1;
	k->recorder_records = k->deadman_side = k->journal_dir_fd = k->epoll =
		k->listen_fd = -1;
	keeper_worker_table(k);
	child_init(&k->worker, "worker", worker_main, k);
	child_init(&k->recorder, "recorder", recorder_main, k);
	child_init(&k->deadman, "dead-man", deadman_main, k);
	gethostname(k->node, sizeof(k->node) - 1);
	setrlimit(RLIMIT_NOFILE, &files);
	rc = start(k, &err);
	if (rc) {
		log_err("%s", err.text);
	} else {
		announce(k);
		while (!k->stop)
			round_of_events(k, 1000);
	}
	stop(k);
	offers_fini(&k->policies);
	free(k);
	return rc ? 1 : 0;
}
