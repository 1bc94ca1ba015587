// SPDX-License-Identifier: Apache-2.0
/*
 * A libpq pipeline-mode client for the differential test: sends many statements before it reads one answer,
 * some of which fail, and prints each answer as "backend pid TAB query index TAB command tag".
 * Usage: pipeline CONNINFO ROUNDS (needs a table pipeline_t(id int, v text)).
 */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

#define QUERY_CNT 6

static const char *const queries[QUERY_CNT] = {
	"SELECT $1::int + 1",
	"INSERT INTO pipeline_t SELECT g, 'p' FROM generate_series(1, $1::int) g",
	"UPDATE pipeline_t SET v = 'q' WHERE id = $1::int",
	"SELECT v FROM pipeline_t WHERE id <= $1::int LIMIT 7",
	"DELETE FROM pipeline_t WHERE id = $1::int",
	"SELECT 10 / ($1::int - $1::int)",
};

static int die(PGconn *conn, const char *what)
{
	fprintf(stderr, "pipeline: %s: %s", what, PQerrorMessage(conn));
	PQfinish(conn);
	return 1;
}

/* The answers to one sync: of each query a result and a NULL; then the sync itself. */
static int read_round(PGconn *conn)
{
	int index = 0;

	for (;;) {
		PGresult *res = PQgetResult(conn);
		ExecStatusType status;

		if (!res) {
			if (PQstatus(conn) != CONNECTION_OK)
				return -1;
			index++;
			continue;
		}
		status = PQresultStatus(res);
		if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
			printf("%d\t%d\t%s\n", PQbackendPID(conn), index % QUERY_CNT, PQcmdStatus(res));
		PQclear(res);
		if (status == PGRES_PIPELINE_SYNC)
			return 0;
	}
}

/* Two syncs a round: five statements that work, then one that fails with two behind it that are skipped. */
static int send_round(PGconn *conn, const char *arg)
{
	const char *values[] = { arg };

	for (int i = 0; i < QUERY_CNT - 1; i++)
		if (!PQsendQueryParams(conn, queries[i], 1, NULL, values, NULL, NULL, 0))
			return -1;
	if (!PQpipelineSync(conn))
		return -1;
	for (int i = QUERY_CNT - 1; i < QUERY_CNT + 2; i++)
		if (!PQsendQueryParams(conn, queries[i % QUERY_CNT], 1, NULL, values, NULL, NULL, 0))
			return -1;
	return PQpipelineSync(conn) ? 0 : -1;
}

int main(int argc, char **argv)
{
	char arg[16];
	PGconn *conn;
	int rounds;

	if (argc != 3) {
		fprintf(stderr, "usage: pipeline CONNINFO ROUNDS\n");
		return 2;
	}
	conn = PQconnectdb(argv[1]);
	if (PQstatus(conn) != CONNECTION_OK)
		return die(conn, "connect");
	if (!PQenterPipelineMode(conn))
		return die(conn, "pipeline mode");
	rounds = (int)strtol(argv[2], NULL, 10);
	for (int i = 0; i < rounds; i++) {
		snprintf(arg, sizeof(arg), "%d", 1 + i % 9);
		if (send_round(conn, arg) || read_round(conn) || read_round(conn))
			return die(conn, "round");
	}
	PQfinish(conn);
	return 0;
}
