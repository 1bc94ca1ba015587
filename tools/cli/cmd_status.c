// SPDX-License-Identifier: Apache-2.0
/* `dbfence status` and `dbfence doctor`: what the daemon says of itself, for people and as JSON;
 * `dbfence disarm`. */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "control.h"
#include "loader/kernel.h"

static const struct option json_options[] = {
	{ "json", no_argument, NULL, 'j' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

/* -1: go on; otherwise the exit status. */
static int parse_json_option(int argc, char **argv, const char *usage, bool *json)
{
	int c;

	optind = 1;
	*json = false;
	while ((c = getopt_long(argc, argv, "", json_options, NULL)) != -1) {
		if (c == 'h') {
			fputs(usage, stdout);
			return CLI_DONE;
		}
		if (c != 'j') {
			fputs(usage, stderr);
			return CLI_USAGE;
		}
		*json = true;
	}
	if (optind < argc) {
		fputs(usage, stderr);
		return CLI_USAGE;
	}
	return -1;
}

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static long long number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static bool flag(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

static void print_servers(const json_t *status)
{
	size_t i, k;
	json_t *s, *h;

	printf("servers:\n");
	if (!flag(status, "server_vantage"))
		printf("  not observed (--vantage)\n");
	else if (!json_array_size(json_object_get(status, "servers")))
		printf("  none runs on this node\n");
	json_array_foreach(json_object_get(status, "servers"), i, s)
	{
		printf("  PostgreSQL %s  %s  %s\n", text(s, "version"), text(s, "exe"),
		       flag(s, "covered")		  ? "covered"
		       : flag(status, "server_vantage") ? "NOT COVERED"
							: "not observed");
		if (*text(s, "problem"))
			printf("    %s\n", text(s, "problem"));
		json_array_foreach(json_object_get(s, "hooks"), k,
				   h) if (!flag(h, "attached") || flag(h, "slow"))
			printf("    %s: %s%s\n", text(h, "symbol"),
			       flag(h, "attached") ? "attached" : text(h, "why_not"),
			       flag(h, "slow")
				       ? " (slow: the kernel single-steps its first instruction)"
				       : "");
	}
	printf("clusters:\n");
	if (!json_array_size(json_object_get(status, "clusters")))
		printf("  none\n");
	json_array_foreach(json_object_get(status, "clusters"), i, s) {
		printf("  port %lld  %s  postmaster %lld  ", number(s, "port"), text(s, "data_dir"),
		       number(s, "postmaster"));
		if (!flag(s, "may_enforce"))
			printf("observed only\n");
		else if (flag(s, "standby"))
			printf("may be enforced, a standby: never held\n");
		else
			printf("may be enforced, at most %lld held at once\n",
			       number(s, "max_holds"));
	}
}

static void print_wire(const json_t *status)
{
	const json_t *w = json_object_get(status, "wire");
	const char *cgroup = text(w, "cgroup");

	if (!flag(w, "followed")) {
		printf("wire: not followed (--vantage)\n");
		return;
	}
	printf("wire: clear-text connections of %s%s are followed\n", *cgroup ? "cgroup " : "this node", cgroup);
	if (!flag(w, "enforced"))
		return;
	printf("  enforced on %lld network devices in %lld namespaces\n", number(w, "devices"),
	       number(w, "namespaces"));
	if (number(w, "devices_behind") || number(w, "devices_failed"))
		printf("  NOT COVERED: %lld devices where another program comes first, %lld that take no program; what is "
		       "denied does not leave by them\n",
		       number(w, "devices_behind"), number(w, "devices_failed"));
}

static void print_policy(const json_t *status)
{
	const json_t *p = json_object_get(status, "policy");

	printf("policies: generation %lld from %s: %lld policies, %lld rules, %lld enforced%s\n",
	       number(p, "generation"), text(p, "directory"), number(p, "policies"),
	       number(p, "rules"), number(p, "enforcing_rules"),
	       flag(p, "fails_closed") ? ", fails closed" : "");
	if (*text(p, "last_error"))
		printf("  the last reload failed: %s\n", text(p, "last_error"));
}

static void print_status(const json_t *status)
{
	const char *name;
	json_t *v;
	size_t i;

	printf("dbfenced: %s, up %lld s, new servers found by %s\n",
	       flag(status, "ready") ? "ready" : "starting", number(status, "uptime_s"),
	       text(status, "discovery"));
	json_array_foreach(json_object_get(status, "processes"), i, v)
		printf("  %-9s pid %lld\n", text(v, "role"), number(v, "pid"));
	print_policy(status);
	print_servers(status);
	print_wire(status);
	printf("counters:\n");
	json_object_foreach(json_object_get(status, "counters"), name, v) if (json_integer_value(v))
		printf("  %-26s %lld\n", name, (long long)json_integer_value(v));
}

int cli_status(const struct cli *cli, int argc, char **argv)
{
	static const char usage[] =
		"usage: dbfence [--socket PATH] status [--json]\n\n"
		"What the daemon is doing: processes, policies, servers and hooks, clusters, and "
		"the "
		"counters that are not 0;\ndbfence(1) describes them.\n\n"
		"  --json   the daemon's answer as it is, with every counter\n\n"
		"exit status: 0 done, 1 the daemon refused, 2 usage, 3 the daemon cannot be "
		"reached\n";
	json_t *status;
	bool json;
	int rc = parse_json_option(argc, argv, usage, &json);

	if (rc >= 0)
		return rc;
	rc = control_ask(cli->socket, "status", &status);
	if (rc)
		return rc;
	if (json)
		printf("%s\n", json_dumps(status, JSON_COMPACT));
	else
		print_status(status);
	json_decref(status);
	return CLI_DONE;
}

static void print_feature(void *ctx, const char *name, bool have, const char *cost)
{
	bool *all = ctx;

	printf("  %-18s %s%s%s\n", name, have ? "yes" : "NO", have ? "" : ": ", have ? "" : cost);
	*all = *all && (have || !strcmp(name, "send_signal_task") || !strcmp(name, "task_work"));
}

static void print_kernel(bool *healthy)
{
	printf("kernel:\n");
	if (geteuid())
		printf("  not root: what the kernel offers cannot be asked\n");
	else
		kernel_features(print_feature, healthy);
}

/* What is lost with the processes: said plainly, because nothing else shows it before it happens.
 */
static void print_promises(const json_t *status)
{
	long long lost = number(json_object_get(status, "counters"), "kernel_lost_executions");

	printf("holds when every dbfence process is killed at once: released by %s\n",
	       !kernel_releases_holds() ? "the next start, at the latest by 'dbfence disarm'"
	       : kernel_has_task_work() ? "the kernel, within 100 ms of their deadline"
					: "the kernel after their deadline, late on an idle node");
	printf("not covered here: encrypted connections to databases on other nodes, and servers whose hooks are "
	       "listed as missing\n");
	if (lost)
		printf("LOSSES: %lld executions were not recorded; the journal's gap records say "
		       "when\n",
		       lost);
}

int cli_doctor(const struct cli *cli, int argc, char **argv)
{
	static const char usage[] =
		"usage: dbfence [--socket PATH] doctor [--json]\n\n"
		"What this kernel offers, what is covered and what is not, and why. Without the "
		"daemon "
		"it says what it can.\n\n"
		"  --json   the daemon's answer as it is\n\n"
		"exit status: 0 all is well, 1 something is not covered or missing, 2 usage, 3 the "
		"daemon cannot be reached\n";
	bool json, healthy = true;
	json_t *status, *s;
	size_t i;
	int rc = parse_json_option(argc, argv, usage, &json);

	if (rc >= 0)
		return rc;
	rc = control_ask(cli->socket, "doctor", &status);
	if (!json)
		print_kernel(&healthy);
	if (rc)
		return rc;
	if (json) {
		printf("%s\n", json_dumps(status, JSON_COMPACT));
	} else {
		print_policy(status);
		print_servers(status);
		print_wire(status);
		print_promises(status);
	}
	json_array_foreach(json_object_get(status, "servers"), i, s) healthy =
		healthy && (flag(s, "covered") || !flag(status, "server_vantage"));
	json_decref(status);
	return healthy ? CLI_DONE : CLI_NEGATIVE;
}

/* For the next start to record: when, and by whom. */
static void leave_mark(const char *state_dir, unsigned released, unsigned removed)
{
	char path[4096], when[64];
	time_t now = time(NULL);
	FILE *f;

	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
	snprintf(path, sizeof(path), "%s/" KERNEL_DISARMED_FILE, state_dir);
	f = fopen(path, "we");
	if (!f) {
		fprintf(stderr,
			"dbfence: the disarming is not marked in %s: %s (--state-dir names another "
			"place)\n",
			state_dir, strerror(errno));
		return;
	}
	fprintf(f, "disarmed at %s by uid %u: %u holds released, %u pins removed\n", when, getuid(),
		released, removed);
	fclose(f);
}

int cli_disarm(const struct cli *cli, int argc, char **argv)
{
	static const char usage[] =
		"usage: dbfence disarm [--pin-dir DIR] [--state-dir DIR]\n\n"
		"Releases every hold, detaches and unpins everything. Works with every daemon "
		"dead; "
		"stop one that runs first.\n\n"
		"  --pin-dir DIR     what the daemon was given (default " KERNEL_PIN_DIR ")\n"
		"  --state-dir DIR   where a note for the next start is left "
		"(default " CLI_DEFAULT_STATE ")\n\n"
		"exit status: 0 done, or nothing was armed, 1 it could not be done, 2 usage\n";
	static const struct option options[] = {
		{ "pin-dir", required_argument, NULL, 'p' },
		{ "state-dir", required_argument, NULL, 's' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	unsigned released, removed;
	const char *dir = NULL, *state = CLI_DEFAULT_STATE;
	struct err err = {};
	int c, rc;

	(void)cli;
	optind = 1;
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'p') {
			dir = optarg;
		} else if (c == 's') {
			state = optarg;
		} else {
			fputs(usage, c == 'h' ? stdout : stderr);
			return c == 'h' ? CLI_DONE : CLI_USAGE;
		}
	}
	if (geteuid()) {
		fprintf(stderr, "dbfence: disarm must be run as root\n");
		return CLI_NEGATIVE;
	}
	rc = kernel_disarm(dir, &released, &removed, &err);
	if (rc == -ENOENT) {
		printf("nothing is armed\n");
		return CLI_DONE;
	}
	if (rc) {
		fprintf(stderr, "dbfence: %s\n", err.text);
		return CLI_NEGATIVE;
	}
	leave_mark(state, released, removed);
	printf("disarmed: %u holds released, %u pins removed\n", released, removed);
	return CLI_DONE;
}
