// SPDX-License-Identifier: Apache-2.0
#include "cli.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int (*run)(const struct cli *cli, int argc, char **argv);
	const char *help;
} commands[] = {
	{ "status", cli_status, "what the daemon is doing: servers, hooks, counters" },
	{ "doctor", cli_doctor, "what this node offers, what is covered and what is not, and why" },
	{ "tail", cli_tail, "live statements [--json]" },
	{ "policy", cli_policy, "check | test | explain | show | reload" },
	{ "audit", cli_audit, "cat [--json]" },
	{ "disarm", cli_disarm,
	  "release every hold, detach and unpin everything; needs no daemon" },
};

static void usage(FILE *out)
{
	fprintf(out, "usage: dbfence [--socket PATH] SUBCOMMAND [--help] [...]\n\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
	fprintf(out, "\nexit status: 0 done, 1 negative answer, 2 usage, 3 the daemon cannot be "
		     "reached\n");
}

int main(int argc, char **argv)
{
	struct cli cli = { .socket = CLI_DEFAULT_SOCKET };
	int at = 1;

	if (at + 1 < argc && !strcmp(argv[at], "--socket")) {
		cli.socket = argv[at + 1];
		at += 2;
	}
	if (at >= argc) {
		usage(stderr);
		return CLI_USAGE;
	}
	if (!strcmp(argv[at], "--help") || !strcmp(argv[at], "-h") || !strcmp(argv[at], "help")) {
		usage(stdout);
		return CLI_DONE;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(argv[at], commands[i].name))
			return commands[i].run(&cli, argc - at, argv + at);
	fprintf(stderr, "dbfence: unknown subcommand '%s'; dbfence --help lists them\n", argv[at]);
	return CLI_USAGE;
}
