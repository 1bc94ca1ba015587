// SPDX-License-Identifier: Apache-2.0
/*
 * `dbfence audit cat`: prints journal segments. Needs no daemon, only the right to read the files.
 */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "audit/journal.h"
#include "audit/json.h"
#include "audit/line.h"
#include "audit/record.h"
#include "dbfence/audit.pb-c.h"

struct cat {
	const char *state_dir;
	const char *kind, *outcome, *session;
	bool json;
	struct line_opts line;
	struct record_arena arena;
	struct buf text;
	bool incomplete; /* something could not be read */
};

static const char *const kinds[] = {"statement", "transaction", "session", "agent", "policy",
				    "approval",	 "coverage",	"gap",	   NULL};
static const char *const outcomes[] = {"executed", "failed",	"prevented", "cancelled",
				       "aborted",  "contained", "unknown",   NULL};

static void usage(FILE *out)
{
	fprintf(out,
		"usage: dbfence audit cat [--json] [--kind K] [--outcome O] [--session ID]\n"
		"                         [--state-dir DIR | FILE...]\n\n"
		"Prints the journal in DIR (default " CLI_DEFAULT_STATE
		"), or the given segments or directories,\n"
		"one record per line, oldest first. Times are UTC.\n\n"
		"  --json         one JSON object per line; dbfence-audit(5) names the fields\n"
		"  --kind K       only statement, transaction, session, agent, policy, approval, "
		"coverage or gap\n"
		"  --outcome O    only executed, failed, prevented, cancelled, aborted, contained "
		"or unknown\n"
		"  --session ID   only this session_id\n\n"
		"exit status: 0 done, 1 something could not be read, 2 usage\n");
}

static bool known(const char *value, const char *const *names, const char *what)
{
	for (unsigned i = 0; !value || names[i]; i++)
		if (!value || !strcmp(value, names[i]))
			return true;
	fprintf(stderr, "dbfence: no %s is called '%s'; dbfence audit cat --help lists them\n",
		what, value);
	return false;
}

static bool wanted(const struct cat *cat, const Dbfence__Audit__V1__Record *record)
{
	return (!cat->kind || !strcmp(record->kind, cat->kind)) &&
	       (!cat->outcome || !strcmp(record->outcome, cat->outcome)) &&
	       (!cat->session || !strcmp(record->session_id, cat->session));
}

static void print_record(struct cat *cat, const struct journal_record *entry)
{
	Dbfence__Audit__V1__Record *record = record_unpack(&cat->arena, entry->data, entry->len);

	if (!record) {
		fprintf(stderr, "dbfence: record %" PRIu64 " cannot be decoded and is left out\n",
			entry->seq);
		cat->incomplete = true;
		return;
	}
	if (!wanted(cat, record))
		return;
	buf_reset(&cat->text);
	if (cat->json)
		audit_json_write(record, &cat->text);
	else
		audit_line_write(record, &cat->line, &cat->text);
	if (buf_err(&cat->text)) {
		fprintf(stderr,
			"dbfence: record %" PRIu64 " is too large to print and is left out\n",
			entry->seq);
		cat->incomplete = true;
		return;
	}
	fwrite(cat->text.data, 1, cat->text.len, stdout);
}

static void report_damage(struct cat *cat, const struct journal_damage *damage)
{
	if (damage->torn) {
		/* Ordinary beside a running recorder, and after a crash until the next start. */
		if (damage->bytes)
			fprintf(stderr,
				"dbfence: %s ends in the middle of a record: it is being written, "
				"or a crash "
				"cut it off\n",
				damage->segment);
		return;
	}
	fprintf(stderr,
		"dbfence: %s: %" PRIu64 " bytes at offset %" PRIu64
		" are no records and are passed over\n",
		damage->segment, damage->bytes, damage->offset);
	cat->incomplete = true;
}

static int cat_path(struct cat *cat, const char *path)
{
	struct journal_record record;
	struct journal_reader *reader;
	struct err err;
	int rc;

	reader = journal_reader_open(AT_FDCWD, path, &err);
	if (!reader) {
		fprintf(stderr, "dbfence: %s\n", err.text);
		return CLI_NEGATIVE;
	}
	while ((rc = journal_reader_next(reader, &record)) == 1 || rc == -EBADMSG) {
		if (rc == -EBADMSG) {
			report_damage(cat, journal_reader_damage(reader));
			continue;
		}
		if (record.missing) {
			fprintf(stderr,
				"dbfence: %" PRIu64 " records before seq %" PRIu64 " are missing\n",
				record.missing, record.seq);
			cat->incomplete = true;
		}
		print_record(cat, &record);
		if (ferror(stdout))
			break;
	}
	if (rc < 0)
		fprintf(stderr, "dbfence: cannot read %s: %s\n", path, strerror(-rc));
	journal_reader_close(reader);
	return rc < 0 ? CLI_NEGATIVE : CLI_DONE;
}

static int cat_all(struct cat *cat, int cnt, char **paths)
{
	char journal[4096];
	int rc = CLI_DONE;

	if (!cnt) {
		if ((size_t)snprintf(journal, sizeof(journal), "%s/journal", cat->state_dir) >=
		    sizeof(journal)) {
			fprintf(stderr, "dbfence: the path given to --state-dir is too long\n");
			return CLI_USAGE;
		}
		rc = cat_path(cat, journal);
	}
	for (int i = 0; i < cnt; i++)
		if (cat_path(cat, paths[i]) != CLI_DONE)
			rc = CLI_NEGATIVE;
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "dbfence: cannot write the output: %s\n", strerror(errno));
		return CLI_NEGATIVE;
	}
	return cat->incomplete ? CLI_NEGATIVE : rc;
}

static int audit_cat(int argc, char **argv)
{
	static const struct option options[] = {
	    {"json", no_argument, NULL, 'j'},
	    {"kind", required_argument, NULL, 'k'},
	    {"outcome", required_argument, NULL, 'o'},
	    {"session", required_argument, NULL, 's'},
	    {"state-dir", required_argument, NULL, 'd'},
	    {"help", no_argument, NULL, 'h'},
	    {0},
	};
	struct cat cat = {.line = {.date = true, .seq = true}};
	struct winsize size;
	int opt, rc;

	optind = 1;
	while ((opt = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		switch (opt) {
		case 'j':
			cat.json = true;
			break;
		case 'k':
			cat.kind = optarg;
			break;
		case 'o':
			cat.outcome = optarg;
			break;
		case 's':
			cat.session = optarg;
			break;
		case 'd':
			cat.state_dir = optarg;
			break;
		case 'h':
			usage(stdout);
			return CLI_DONE;
		default:
			usage(stderr);
			return CLI_USAGE;
		}
	}
	if (cat.state_dir && optind < argc) {
		fprintf(stderr, "dbfence: give either --state-dir or files, not both\n");
		return CLI_USAGE;
	}
	if (!known(cat.kind, kinds, "kind") || !known(cat.outcome, outcomes, "outcome"))
		return CLI_USAGE;
	if (!cat.state_dir)
		cat.state_dir = CLI_DEFAULT_STATE;
	if (isatty(STDOUT_FILENO)) {
		cat.line.color = !getenv("NO_COLOR");
		cat.line.width = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) ? 0 : size.ws_col;
	}
	buf_init(&cat.text, JSON_RECORD_MAX);
	rc = cat_all(&cat, argc - optind, argv + optind);
	buf_fini(&cat.text);
	record_arena_fini(&cat.arena);
	return rc;
}

int cli_audit(const struct cli *cli, int argc, char **argv)
{
	(void)cli;
	if (argc > 1 && !strcmp(argv[1], "cat"))
		return audit_cat(argc - 1, argv + 1);
	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		usage(stdout);
		return CLI_DONE;
	}
	if (argc > 1)
		fprintf(stderr, "dbfence: audit has no subcommand '%s'\n", argv[1]);
	usage(stderr);
	return CLI_USAGE;
}
