// SPDX-License-Identifier: Apache-2.0
/* dbfenced: options to a keeper. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "keeper.h"
#include "priv/child.h"

#define HOLD_MS_MAX 5000

static const char help[] =
	"usage: dbfenced [options]\n"
	"\n"
	"  --foreground          print one line per statement on standard output\n"
	"  --policy-dir DIR      policies, *.yaml (default /etc/dbfence/policies)\n"
	"  --state-dir DIR       the journal's place (default /var/lib/dbfence)\n"
	"  --socket PATH         control socket (default /run/dbfence/control.sock)\n"
	"  --mode MODE           shadow or enforce: overrides what the policies say\n"
	"  --only-port PORT      enforce only on the cluster with this port; may be repeated\n"
	"  --text MODE           masked (default) or full: how statements are stored\n"
	"  --hold-ms N           longest hold of a statement while it is judged (default 250)\n"
	"  --max-holds N         statements of one server held at once (default 8)\n"
	"  --ring-bytes N        kernel to user buffer (default 8 MiB)\n"
	"  --pin-dir DIR         where programs are pinned (default /sys/fs/bpf/dbfence)\n"
	"  --vantage LIST        where statements are seen: server, wire (default server,wire)\n"
	"  --wire-port PORT      a database listens there, besides 5432 and what runs here; may be repeated\n"
	"  --wire-cgroup DIR     follow the connections of this cgroup only (default: the whole node)\n"
	"  --verbose             debug lines\n"
	"  --version, --help\n";

enum option_id { OPT_POLICY_DIR = 256, OPT_STATE_DIR, OPT_SOCKET, OPT_MODE, OPT_ONLY_PORT, OPT_TEXT, OPT_HOLD_MS, OPT_MAX_HOLDS,
		 OPT_RING_BYTES, OPT_PIN_DIR, OPT_VANTAGE, OPT_WIRE_PORT, OPT_WIRE_CGROUP,
		  OPT_FOREGROUND, OPT_VERBOSE, OPT_VERSION, OPT_HELP };

static const struct option options[] = {
	{ "foreground", no_argument, NULL, OPT_FOREGROUND },
	{ "policy-dir", required_argument, NULL, OPT_POLICY_DIR },
	{ "state-dir", required_argument, NULL, OPT_STATE_DIR },
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "mode", required_argument, NULL, OPT_MODE },
	{ "only-port", required_argument, NULL, OPT_ONLY_PORT },
	{ "text", required_argument, NULL, OPT_TEXT },
	{ "hold-ms", required_argument, NULL, OPT_HOLD_MS },
	{ "max-holds", required_argument, NULL, OPT_MAX_HOLDS },
	{ "ring-bytes", required_argument, NULL, OPT_RING_BYTES },
	{ "pin-dir", required_argument, NULL, OPT_PIN_DIR },
	{ "vantage", required_argument, NULL, OPT_VANTAGE },
	{ "wire-port", required_argument, NULL, OPT_WIRE_PORT },
	{ "wire-cgroup", required_argument, NULL, OPT_WIRE_CGROUP },
	{ "verbose", no_argument, NULL, OPT_VERBOSE },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ "help", no_argument, NULL, OPT_HELP },
	{ NULL, 0, NULL, 0 },
};

/* A whole number in a range, or an end with a sentence. */
static unsigned long number(const char *name, const char *text, unsigned long min, unsigned long max)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (errno || *end || end == text || text[0] == '-' || v < min || v > max) {
		fprintf(stderr, "dbfenced: --%s takes a whole number from %lu to %lu, not '%s'\n", name, min, max, text);
		exit(2);
	}
	return v;
}

static void choice_error(const char *name, const char *text, const char *choices)
{
	fprintf(stderr, "dbfenced: --%s is %s, not '%s'\n", name, choices, text);
	exit(2);
}

static void set_mode(struct keeper_opts *o, const char *text)
{
	if (!strcmp(text, "shadow"))
		o->force_mode = 1;
	else if (!strcmp(text, "enforce"))
		o->force_mode = 2;
	else
		choice_error("mode", text, "shadow or enforce");
}

static void set_text(struct keeper_opts *o, const char *text)
{
	if (!strcmp(text, "full"))
		o->full_text = true;
	else if (strcmp(text, "masked"))
		choice_error("text", text, "masked or full");
}

static void set_vantage(struct keeper_opts *o, const char *text)
{
	o->no_server = strcmp(text, "server") && strcmp(text, "server,wire") && strcmp(text, "wire,server");
	o->no_wire = strcmp(text, "wire") && strcmp(text, "server,wire") && strcmp(text, "wire,server");
	if (o->no_server && o->no_wire)
		choice_error("vantage", text, "server, wire or both with a comma");
}

static void set_option(struct keeper_opts *o, int id)
{
	switch (id) {
	case OPT_FOREGROUND: o->foreground = true; break;
	case OPT_POLICY_DIR: o->policy_dir = optarg; break;
	case OPT_STATE_DIR: o->state_dir = optarg; break;
	case OPT_SOCKET: o->socket = optarg; break;
	case OPT_MODE: set_mode(o, optarg); break;
	case OPT_TEXT: set_text(o, optarg); break;
	case OPT_PIN_DIR: o->pin_dir = optarg; break;
	case OPT_HOLD_MS: o->hold_ms = (unsigned)number("hold-ms", optarg, 1, HOLD_MS_MAX); break;
	case OPT_MAX_HOLDS: o->max_holds = (unsigned)number("max-holds", optarg, 1, DBF_HOLDS_MAX); break;
	case OPT_RING_BYTES: o->ring_bytes = number("ring-bytes", optarg, 4096, 1UL << 30); break;
	case OPT_ONLY_PORT:
		if (o->only_port_cnt < KEEPER_PORTS)
			o->only_ports[o->only_port_cnt++] = (int)number("only-port", optarg, 1, 65535);
		break;
	case OPT_VANTAGE: set_vantage(o, optarg); break;
	case OPT_WIRE_CGROUP: o->wire_cgroup = optarg; break;
	case OPT_WIRE_PORT:
		if (o->wire_port_cnt < KEEPER_PORTS)
			o->wire_ports[o->wire_port_cnt++] = (int)number("wire-port", optarg, 1, 65535);
		break;
	case OPT_VERBOSE: log_set_level(LOG_LEVEL_DEBUG); break;
	case OPT_VERSION: printf("dbfenced 0.1\n"); exit(0);
	case OPT_HELP: fputs(help, stdout); exit(0);
	default: fprintf(stderr, "dbfenced --help lists the options\n"); exit(2);
	}
}

int main(int argc, char **argv)
{
	struct keeper_opts o = {
		.policy_dir = "/etc/dbfence/policies",
		.state_dir = "/var/lib/dbfence",
		.socket = "/run/dbfence/control.sock",
		.hold_ms = 250,
		.max_holds = 8,
	};
	int id;

	child_title_init(argv);
	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1)
		set_option(&o, id);
	if (optind < argc) {
		fprintf(stderr, "dbfenced: '%s' is no option; dbfenced --help lists them\n", argv[optind]);
		return 2;
	}
	return keeper_run(&o);
}
