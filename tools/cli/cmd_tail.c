// SPDX-License-Identifier: Apache-2.0
/*
 * `dbfence tail`: the live record stream. It always asks the daemon for JSON and prints, filters
 * and colours here, where the terminal is.
 */
#include "cli.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "audit/json.h"
#include "audit/line.h"
#include "audit/record.h"
#include "control.h"
#include "dbfence/audit.pb-c.h"

struct tail {
	int fd;
	bool json, denied;
	const char *user, *database, *outcome;
	struct line_opts line;
	struct record_arena arena;
	struct buf text;
	char *in; /* JSON_RECORD_MAX bytes */
	size_t in_len, in_pos;
};

static void usage(FILE *out)
{
	fprintf(out,
		"usage: dbfence tail [--json] [--user U] [--database D] [--outcome O] "
		"[--denied]\n\n"
		"Prints records as they are made, until interrupted. Times are UTC.\n\n"
		"  --json        one JSON object per line; dbfence-audit(5) names the fields\n"
		"  --user U      only statements of this database user\n"
		"  --database D  only statements in this database\n"
		"  --outcome O   only statements with this outcome\n"
		"  --denied      only statements that an enforced rule denied or whose session it "
		"ended\n\n"
		"Gaps are printed whatever the filters. exit status: 0 done, 1 the daemon refused, "
		"2 "
		"usage,\n"
		"3 the daemon cannot be reached\n");
}

static bool is(const char *text, const char *what)
{
	return text && !strcmp(text, what);
}

static bool was_denied(const Dbfence__Audit__V1__Record *record)
{
	const Dbfence__Audit__V1__Decision *decision = record->decision;

	return decision && !is(decision->mode, "shadow") &&
	       (is(decision->action, "deny") || is(decision->action, "kill"));
}

static bool is_filtered(const struct tail *tail)
{
	return tail->denied || tail->user || tail->database || tail->outcome;
}

static bool wanted(const struct tail *tail, const Dbfence__Audit__V1__Record *record)
{
	if (!is_filtered(tail) || is(record->kind, "gap"))
		return true;
	return is(record->kind, "statement") && (!tail->denied || was_denied(record)) &&
	       (!tail->user || is(record->db_user, tail->user)) &&
	       (!tail->database || is(record->database, tail->database)) &&
	       (!tail->outcome || is(record->outcome, tail->outcome));
}

static int lost(const struct cli *cli, const char *why)
{
	fprintf(stderr, "dbfence: the daemon at %s went away: %s\n", cli->socket, why);
	return CLI_UNREACHABLE;
}

static int tail_connect(const struct cli *cli, struct tail *tail)
{
	static const char request[] = "{\"cmd\":\"tail\",\"format\":\"json\"}\n";

	tail->fd = control_connect(cli->socket);
	if (tail->fd < 0)
		return CLI_UNREACHABLE;
	if (send(tail->fd, request, sizeof(request) - 1, MSG_NOSIGNAL) !=
	    (ssize_t)sizeof(request) - 1)
		return lost(cli, strerror(errno));
	return CLI_DONE;
}

/* The next line without its newline; NULL at the end, with errno set when it came by an error. */
static const char *tail_line(struct tail *tail, size_t *len)
{
	size_t searched = 0;
	const char *line, *end;
	ssize_t n;

	for (;;) {
		line = tail->in + tail->in_pos;
		end = memchr(line + searched, '\n', tail->in_len - tail->in_pos - searched);
		if (end) {
			*len = (size_t)(end - line);
			tail->in_pos += *len + 1;
			return line;
		}
		searched = tail->in_len - tail->in_pos;
		memmove(tail->in, line, searched);
		tail->in_pos = 0;
		tail->in_len = searched;
		if (tail->in_len == JSON_RECORD_MAX) {
			errno = EMSGSIZE;
			return NULL;
		}
		/* Nothing more has come yet: show what there is. */
		if (fflush(stdout))
			return NULL;
		do
			n = read(tail->fd, tail->in + tail->in_len, JSON_RECORD_MAX - tail->in_len);
		while (n < 0 && errno == EINTR);
		if (n <= 0) {
			errno = n ? errno : 0;
			return NULL;
		}
		tail->in_len += (size_t)n;
	}
}

static int tail_answer(const struct cli *cli, struct tail *tail)
{
	size_t len;
	const char *line = tail_line(tail, &len), *why;
	json_t *answer;
	bool ok;

	if (!line)
		return lost(cli, errno ? strerror(errno) : "it closed the connection");
	answer = json_loadb(line, len, 0, NULL);
	ok = json_is_true(json_object_get(answer, "ok"));
	if (!ok) {
		why = json_string_value(json_object_get(answer, "error"));
		fprintf(stderr, "dbfence: the daemon refused: %s\n",
			why ? why : "it gave no reason");
	}
	json_decref(answer);
	return ok ? CLI_DONE : CLI_NEGATIVE;
}

static void tail_print(struct tail *tail, const char *line, size_t len)
{
	Dbfence__Audit__V1__Record *record;
	struct winsize size;

	if (tail->json && !is_filtered(tail)) {
		fwrite(line, 1, len, stdout);
		putchar('\n');
		return;
	}
	record = audit_json_read(&tail->arena, line, len);
	if (!record) {
		fprintf(stderr, "dbfence: a line of the daemon's is no record and is left out; do "
				"both have the same "
				"version?\n");
		return;
	}
	if (!wanted(tail, record))
		return;
	if (tail->json) {
		fwrite(line, 1, len, stdout);
		putchar('\n');
		return;
	}
	if (tail->line.width && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_col)
		tail->line.width = size.ws_col;
	buf_reset(&tail->text);
	audit_line_write(record, &tail->line, &tail->text);
	fwrite(buf_str(&tail->text), 1, tail->text.len, stdout);
}

static int tail_stream(const struct cli *cli, struct tail *tail)
{
	const char *line;
	size_t len;
	int rc;

	rc = tail_connect(cli, tail);
	if (rc == CLI_DONE)
		rc = tail_answer(cli, tail);
	if (rc != CLI_DONE)
		return rc;
	while ((line = tail_line(tail, &len)))
		tail_print(tail, line, len);
	if (ferror(stdout))
		return CLI_NEGATIVE;
	fprintf(stderr, "dbfence: the stream ended: %s\n",
		errno ? strerror(errno) : "the daemon closed it");
	return CLI_DONE;
}

static int tail_parse(struct tail *tail, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "user", required_argument, NULL, 'u' },
		{ "database", required_argument, NULL, 'd' },
		{ "outcome", required_argument, NULL, 'o' },
		{ "denied", no_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	int opt;

	optind = 1;
	while ((opt = getopt_long(argc, argv, "h", options, NULL)) >= 0) {
		switch (opt) {
		case 'j': tail->json = true; break;
		case 'u': tail->user = optarg; break;
		case 'd': tail->database = optarg; break;
		case 'o': tail->outcome = optarg; break;
		case 'n': tail->denied = true; break;
		case 'h': usage(stdout); return -1;
		default: usage(stderr); return CLI_USAGE;
		}
	}
	if (optind == argc)
		return CLI_DONE;
	usage(stderr);
	return CLI_USAGE;
}

int cli_tail(const struct cli *cli, int argc, char **argv)
{
	struct tail tail = { .fd = -1 };
	int rc = tail_parse(&tail, argc, argv);

	if (rc)
		return rc < 0 ? CLI_DONE : rc;
	if (isatty(STDOUT_FILENO)) {
		tail.line.color = !getenv("NO_COLOR");
		tail.line.width = 80; /* until the terminal says */
	}
	buf_init(&tail.text, JSON_RECORD_MAX);
	tail.in = malloc(JSON_RECORD_MAX);
	if (tail.in) {
		rc = tail_stream(cli, &tail);
	} else {
		fprintf(stderr, "dbfence: out of memory\n");
		rc = CLI_NEGATIVE;
	}
	if (tail.fd >= 0)
		close(tail.fd);
	free(tail.in);
	buf_fini(&tail.text);
	record_arena_fini(&tail.arena);
	return rc;
}
