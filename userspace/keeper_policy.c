// SPDX-License-Identifier: Apache-2.0
/*
 * Policies from files to force. The keeper only carries bytes: a short-lived sandboxed child parses
 * and compiles them, the worker judges by them, and the kernel gets the checked screen last, so
 * nothing is enforced that nobody can judge.
 */
#include "keeper.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "dbfence/audit.pb-c.h"
#include "priv/sandbox.h"
#include "worker.h"

#define COMPILE_MS 10000

struct compiled { /* from the child, then its findings as text, then the screen */
	uint32_t ok;
	uint32_t text_len;
	struct policy_summary summary;
};

static int is_policy_file(const struct dirent *e)
{
	const char *dot = strrchr(e->d_name, '.');

	return e->d_name[0] != '.' && dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml"));
}

static int add_file(const char *dir, const char *name, struct buf *blob, struct err *err)
{
	char path[4096];
	uint32_t len;
	struct stat st;
	char *to;
	int fd, rc = 0;

	snprintf(path, sizeof(path), "%s%s%s", dir, *name ? "/" : "", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		rc = err_set(err, -errno, "cannot read policy %s: %s", path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		rc = err_set(err, -EINVAL, "policy %s is no regular file", path);
	else if (st.st_size > LIMIT_POLICY_FILE_BYTES)
		rc = err_set(err, -EFBIG, "policy %s is larger than %d bytes", path,
			     LIMIT_POLICY_FILE_BYTES);
	if (rc)
		goto out;
	len = (uint32_t)strlen(path) + 1;
	buf_put(blob, &len, sizeof(len));
	buf_put(blob, path, len);
	len = (uint32_t)st.st_size;
	buf_put(blob, &len, sizeof(len));
	to = buf_grow(blob, len);
	if (!to || read(fd, to, len) != (ssize_t)len)
		rc = err_set(err, -EIO,
			     "cannot read policy %s: it changed while it was read, or is too much",
			     path);
out:
	if (fd >= 0)
		close(fd);
	return rc;
}

static int read_sources(const char *path, struct buf *blob, struct err *err)
{
	struct dirent **names;
	struct stat st;
	int n, rc = 0;

	if (stat(path, &st))
		return err_set(err, -errno, "cannot read the policies in %s: %s", path,
			       strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return add_file(path, "", blob, err);
	n = scandir(path, &names, is_policy_file, alphasort);
	if (n < 0)
		return err_set(err, -errno, "cannot read the policies in %s: %s", path,
			       strerror(errno));
	for (int i = 0; i < n; i++) {
		if (!rc)
			rc = add_file(path, names[i]->d_name, blob, err);
		free(names[i]);
	}
	free(names);
	return rc;
}

static bool write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

/* In the child: parse, compile, write the result, end. */
static int compile(const struct buf *blob, uint64_t generation, uint32_t force_mode, int out)
{
	static struct dbf_screen screen;
	static struct policy_source sources[LIMIT_POLICY_FILES];
	struct sandbox_profile profile = sandbox_profile_get(SANDBOX_COMPILER);
	struct policy_report report;
	struct policy_set *set = NULL;
	struct compiled c = {};
	struct err err = {};
	size_t cnt;

	profile.keep_fds = &out;
	profile.keep_cnt = 1;
	if (sandbox_enter(&profile, &err))
		return 1;
	policy_report_init(&report);
	if (!worker_unpack_sources(buf_str(blob), blob->len, sources, LIMIT_POLICY_FILES, &cnt))
		c.ok = !policy_set_load(sources, cnt, generation, &set, &report);
	if (c.ok && force_mode)
		policy_set_force_mode(set, force_mode == 2 ? POLICY_ENFORCE : POLICY_SHADOW);
	if (c.ok) {
		policy_set_summary(set, &c.summary);
		c.ok = !policy_compile_screen(set, &screen);
	}
	c.text_len = (uint32_t)report.text.len;
	return write_all(out, &c, sizeof(c)) && write_all(out, buf_str(&report.text), c.text_len) &&
			       write_all(out, &screen, sizeof(screen))
		       ? 0
		       : 1;
}

static bool read_all(int fd, void *data, size_t len, uint64_t until_ns)
{
	char *p = data;

	while (len) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_mono_ns();
		ssize_t n;

		if (now >= until_ns || poll(&pfd, 1, (int)((until_ns - now) / NS_PER_MS) + 1) <= 0)
			return false;
		n = read(fd, p, len);
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static int run_compiler(struct keeper *k, const struct buf *blob, struct compiled *c,
			struct dbf_screen *screen, struct err *err)
{
	uint64_t until = clock_mono_ns() + COMPILE_MS * NS_PER_MS;
	int fds[2], rc = 0;
	char *text;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	pid = fork();
	if (!pid)
		_exit(compile(blob, k->policies.generation + 1, k->opts.force_mode, fds[1]));
	close(fds[1]);
	if (pid < 0 || !read_all(fds[0], c, sizeof(*c), until) ||
	    c->text_len > sizeof(k->policy_error) * 64) {
		rc = err_set(
			err, -EINVAL,
			"the policies could not be compiled: the compiler ended without an answer");
		goto out;
	}
	text = calloc(1, c->text_len + 1UL);
	if (!text || !read_all(fds[0], text, c->text_len, until))
		rc = err_set(
			err, -EINVAL,
			"the policies could not be compiled: the compiler's answer is cut off");
	else if (!c->ok)
		rc = err_set(err, -EINVAL, "%s", text);
	else if (!read_all(fds[0], screen, sizeof(*screen), until) ||
		 screen->state_cnt > DBF_SCREEN_STATES)
		rc = err_set(err, -EINVAL, "the policies could not be compiled: no usable screen");
	free(text);
out:
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	close(fds[0]);
	return rc;
}

void keeper_send_policies(struct keeper *k)
{
	struct offer *o;

	while (k->worker_fd >= 0 && (o = offers_to_send(&k->policies))) {
		struct msg_policy m = { .generation = o->generation,
					.force_mode = k->opts.force_mode,
					.bytes = o->bytes };

		/* A worker that is gone is replaced, and the next one gets it. */
		if (chan_send(k->worker_fd, MSG_POLICY, &m, sizeof(m), o->fd))
			return;
		o->sent = true;
	}
}

static int make_offer(struct keeper *k, const struct buf *blob, struct offer *o, struct err *err)
{
	struct compiled c = {};
	int rc;

	o->screen = calloc(1, sizeof(*o->screen));
	if (!o->screen)
		return err_set(err, -ENOMEM, "out of memory");
	rc = run_compiler(k, blob, &c, o->screen, err);
	if (rc)
		return rc;
	o->fd = memfd_create("dbfence-policies", MFD_CLOEXEC);
	if (o->fd < 0 || !write_all(o->fd, buf_str(blob), blob->len))
		return err_set(err, -EIO, "cannot keep the policies in memory: %s",
			       strerror(errno));
	o->bytes = (uint32_t)blob->len;
	o->summary = c.summary;
	return 0;
}

int keeper_load_policy(struct keeper *k, struct err *err)
{
	struct offer *o = calloc(1, sizeof(*o));
	struct buf blob;
	int rc;

	if (!o)
		return err_set(err, -ENOMEM, "out of memory");
	o->fd = -1;
	buf_init(&blob, 32UL << 20);
	rc = read_sources(k->opts.policy_dir, &blob, err);
	if (!rc)
		rc = make_offer(k, &blob, o, err);
	buf_fini(&blob);
	if (rc) {
		offer_free(o);
		return rc;
	}
	offer_new(&k->policies, o);
	keeper_send_policies(k);
	return 0;
}

static void record_policy(struct keeper *k, const struct offer *o)
{
	Dbfence__Audit__V1__Record rec = DBFENCE__AUDIT__V1__RECORD__INIT;
	Dbfence__Audit__V1__PolicyChange change = DBFENCE__AUDIT__V1__POLICY_CHANGE__INIT;

	change.generation = o->generation;
	change.policies = o->summary.policies;
	change.rules = o->summary.rules;
	change.enforcing = o->summary.enforcing_rules;
	rec.policy_change = &change;
	keeper_record(k, "policy", &rec);
}

void keeper_policy_failed(struct keeper *k, const char *why)
{
	k->counters.reload_errors++;
	snprintf(k->policy_error, sizeof(k->policy_error), "%s", why);
	log_err("the policies were not reloaded, what was in force stays: %s", why);
	keeper_record_agent(k, "reload_failed", why);
}

/* 0 when the kernel screens by it. */
static int install(struct keeper *k, const struct offer *o)
{
	struct dbf_config config = {
		.policy_gen = (uint32_t)o->generation,
		.enforce = o->summary.enforces,
		.fail_closed = o->summary.fails_closed,
		.max_holds = k->opts.max_holds,
		.hold_ns = (uint64_t)k->opts.hold_ms * NS_PER_MS,
		.beat_max_ns = 250 * NS_PER_MS,
		.gate_replication = o->summary.replication,
		.keeper = (uint32_t)getpid(),
	};
	struct err err = {};
	int rc;

	if (config.enforce && keeper_wire_enforce(k, &err))
		log_err("%s: what is denied on the wire ends its connection", err.text);
	rc = kernel_set_policy(k->kernel, &config, o->screen);
	if (rc)
		return rc;
	if (kernel_set_execute_gate(k->kernel, config.enforce))
		log_err("the Execute gate cannot be attached everywhere: statements prepared before this policy "
			"are not stopped there");
	log_info("policy generation %llu: %u policies, %u rules, %u enforced",
		 (unsigned long long)o->generation, o->summary.policies, o->summary.rules,
		 o->summary.enforcing_rules);
	record_policy(k, o);
	return 0;
}

/* The worker judges by the new set: now the kernel may screen by it. Or it cannot use it: then both
 * go on with what they have. */
void keeper_policy_ready(struct keeper *k, const struct msg_ready *m)
{
	enum offer_next next = offers_answered(&k->policies, m->generation, m->ok);
	const char *why = "the worker could not use them (out of memory?)";
	int rc;

	if (next == OFFER_INSTALL) {
		rc = install(k, offers_lookup(&k->policies, m->generation));
		next = offers_installed(&k->policies, m->generation, !rc);
		why = "the kernel did not take them";
	}
	if (next == OFFER_REFUSED)
		keeper_policy_failed(k, why);
	if (next == OFFER_REPLACE_WORKER) {
		log_err("nobody judges by the policies in force, the worker is replaced: %s", why);
		kill(k->worker.pid, SIGKILL);
	}
	keeper_send_policies(k);
}
