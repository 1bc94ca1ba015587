/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line tool. One file per subcommand, each a function main.c's table names. Every subcommand takes
 * --help and, where it prints data, --json.
 */
#ifndef DBFENCE_TOOLS_CLI_H
#define DBFENCE_TOOLS_CLI_H

enum cli_exit { CLI_DONE = 0, CLI_NEGATIVE = 1, CLI_USAGE = 2, CLI_UNREACHABLE = 3 };

#define CLI_DEFAULT_SOCKET "/run/dbfence/control.sock"
#define CLI_DEFAULT_POLICIES "/etc/dbfence/policies"
#define CLI_DEFAULT_STATE "/var/lib/dbfence"

struct cli {
	const char *socket;	/* --socket PATH, or CLI_DEFAULT_SOCKET */
};

/* argv[0] is the subcommand's own name. Each returns an enum cli_exit. */
int cli_policy(const struct cli *cli, int argc, char **argv);
int cli_audit(const struct cli *cli, int argc, char **argv);
int cli_tail(const struct cli *cli, int argc, char **argv);
int cli_status(const struct cli *cli, int argc, char **argv);
int cli_doctor(const struct cli *cli, int argc, char **argv);
int cli_disarm(const struct cli *cli, int argc, char **argv);

#endif
