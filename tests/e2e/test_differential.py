# SPDX-License-Identifier: Apache-2.0
"""
Nothing missing, nothing twice, nothing under the wrong session: what the journal says was executed is compared
with the server's own csvlog, the clients' command tags and pg_stat_statements, for seven kinds of client over
TCP, unix socket and TLS.

DBFENCE_E2E_EXECUTIONS sets the volume (default 20000; the full run is 1000000).
"""
import json
import os
import sys
from collections import Counter

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import TRANSPORTS, Cluster, Daemon, case, check, main, say  # noqa: E402
from clients import (ClientTags, jdbc, jdbc_class, libpq_pipeline, node_modules, node_postgres,  # noqa: E402
                     pgbench_modes, psql_scripts, psycopg2_client)
import oracle  # noqa: E402
from pgwire import Connection  # noqa: E402

EXECUTIONS = int(os.environ.get("DBFENCE_E2E_EXECUTIONS", "20000"))
PGSS = {"pg_stat_statements.max": 10000, "pg_stat_statements.track_utility": "off"}
EXTENSIONS = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements;"
PGSS_TOTALS = ("SELECT sum(calls), sum(rows) FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid "
               "WHERE rolname = 'bench'")


# --- the cases -------------------------------------------------------------------------------------------

def compare_everything(client, *, pgss=False):
    """Run @client over each transport under an observing daemon and hold the journal against the csvlog."""
    with Cluster(preload=["pg_stat_statements"], log_all=True, settings=PGSS) as cluster:
        cluster.psql(EXTENSIONS + "CREATE ROLE bench LOGIN SUPERUSER; CREATE TABLE pipeline_t (id int, v text);")
        if pgss:
            cluster.pgbench("-i", "-q", "-s", "1", user="bench")
            cluster.psql("SELECT pg_stat_statements_reset();")
        start = os.path.getsize(cluster.csvlog)
        tags = ClientTags()
        with Daemon() as daemon:
            for transport in TRANSPORTS:
                client(cluster, transport, tags, EXECUTIONS // len(TRANSPORTS))
            totals = cluster.value(PGSS_TOTALS) if pgss else ""
            daemon.settle()
            journal = oracle.Journal(daemon.records(), cluster)
        log = oracle.read_csvlog(cluster.csvlog, start)
        report(log, journal, tags, totals)


def report(log, journal, tags, totals):
    executed = sum(len(s.statements) for s in log.values())
    say(f"{executed} executions by {len(log)} sessions in the server's log, {journal.executions} in the "
        f"journal, {sum(map(len, journal.truncated.values()))} of them truncated, {journal.lost} counted as lost")
    check(executed > 0, "the server's log holds no statement: the oracle is broken")
    found = oracle.compare(log, journal)
    found += [f"{journal.lost} executions were counted as lost: {journal.gaps[:3]}"] if journal.lost else []
    found += tags.differences(journal)
    found += tags.rows_differences(journal)
    if totals:
        calls, rows = map(int, totals.split("|"))
        have = (journal.calls["pgbench"], journal.rows["pgbench"])
        say(f"pg_stat_statements: {calls} calls, {rows} rows; the journal: {have[0]} calls, {have[1]} rows")
        if have != (calls, rows):
            found.append("pg_stat_statements and the journal disagree about pgbench")
    check(not found, "\n    ".join(found))


@case
def the_server_log_itself_equals_pg_stat_statements():
    """The oracle against a third opinion; needs no daemon."""
    with Cluster(preload=["pg_stat_statements"], log_all=True, settings=PGSS) as cluster:
        cluster.psql(EXTENSIONS + "CREATE ROLE bench LOGIN SUPERUSER;")
        cluster.pgbench("-i", "-q", "-s", "1", user="bench")
        cluster.psql("SELECT pg_stat_statements_reset();")
        start = os.path.getsize(cluster.csvlog)
        pgbench_modes(cluster, "unix", None, EXECUTIONS // len(TRANSPORTS))
        calls = int(cluster.value(PGSS_TOTALS).split("|")[0])
        log = oracle.read_csvlog(cluster.csvlog, start)
    texts = [text for s in log.values() if s.application == "pgbench" for text, _ in s.statements]
    planned = [t for t in texts if t.upper().startswith(oracle.PLANNED_TAGS)]
    say(f"{len(texts)} executions in the server's log, {len(planned)} of them planned; "
        f"pg_stat_statements counted {calls}")
    check(len(planned) == calls > 0, "the server's log and pg_stat_statements disagree")


def as_records(log):
    """The journal that a perfect dbfence would have written for @log."""
    seq = 0
    for pid, session in log.items():
        for text, sqlstate in session.statements:
            seq += 1
            raw = len(text.encode("utf-8", "surrogateescape"))
            yield {"seq": seq, "kind": "statement", "session_id": f"s{pid}", "server": {"pid": pid},
                   "statement": {"text": text, "form": "simple", "length": raw, "captured": raw},
                   "sqlstate": sqlstate}


@case
def the_comparison_notices_what_is_wrong():
    """A journal made up from the server's log passes; each way of spoiling it is found. Needs no daemon."""
    with Cluster(log_all=True) as cluster:
        psql_scripts(cluster, "unix", None, 0)
        log = oracle.read_csvlog(cluster.csvlog)

    def differences(spoil):
        records = list(as_records(log))
        spoil(records)
        return oracle.compare(log, oracle.Journal(records))

    def renumber(records):
        for seq, record in enumerate(records, 1):
            record["seq"] = seq

    def wrong_session(records):
        a, b = records[5], next(r for r in records if r["server"] != records[5]["server"])
        a["server"], b["server"], a["session_id"], b["session_id"] = b["server"], a["server"], b["session_id"], a["session_id"]
    check(not differences(lambda records: None), "a perfect journal does not pass")
    for name, spoil in {
            "one missing": lambda r: (r.pop(5), renumber(r)),
            "one twice": lambda r: (r.append(dict(r[5])), renumber(r)),
            "a hole in the numbers": lambda r: r[5].update(seq=100000),
            "a number twice": lambda r: r[5].update(seq=r[6]["seq"]),
            "another text": lambda r: r[5]["statement"].update(text="SELECT 'no such'"),
            "a failure not seen": lambda r: next(x for x in r if x["sqlstate"]).update(sqlstate=""),
            "another SQLSTATE": lambda r: next(x for x in r if x["sqlstate"]).update(sqlstate="XX000"),
            "the wrong session": wrong_session,
            "a session in two halves": lambda r: r[5].update(session_id="other"),
            "one recorded as nested": lambda r: r[5].update(parent_statement_id=1)}.items():
        check(differences(spoil), f"not noticed: {name}")


@case
def psql_scripts_equal_the_server_log():
    compare_everything(psql_scripts)


@case
def pgbench_in_every_mode_equals_the_server_log():
    compare_everything(pgbench_modes, pgss=True)


@case
def libpq_pipeline_equals_the_server_log():
    compare_everything(libpq_pipeline)


@case
def psycopg2_equals_the_server_log():
    compare_everything(psycopg2_client)


@case
def node_postgres_equals_the_server_log():
    node_modules()
    compare_everything(node_postgres)


@case
def jdbc_equals_the_server_log():
    jdbc_class()
    compare_everything(jdbc)


NO_DROP = """
apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: no-drop
spec:
  mode: enforce
  rules:
    - name: WHAT
      when:
        effects: [EFFECT]
      action: deny
"""


def pieces(conn, text, per_sync):
    """All 35 rows of @text, 10 at a time: in one pipeline, or with a Sync after each Execute of a transaction."""
    if not per_sync:
        result = conn.sync(conn.parse(text), conn.bind(portal="p"), *[conn.execute("p", 10)] * 5)
        check(len(result.rows) == 35 and result.suspended == 3 and not result.errors, f"{text}: {result.errors}")
        return
    conn.must("BEGIN")
    results = [conn.sync(conn.parse(text), conn.bind(portal="p"), conn.execute("p", 10))]
    results += [conn.sync(conn.execute("p", 10)) for _ in range(3)]
    conn.must("COMMIT")
    check(sum(len(r.rows) for r in results) == 35 and not any(r.errors for r in results), f"{text}: the client went wrong")


def one_record_for_each_portal(policies):
    texts = ["SELECT generate_series(1, 35)", "SELECT generate_series(1, 35) AS drop",
             "INSERT INTO kept SELECT generate_series(1, 35) RETURNING id"]
    with Cluster(log_all=True) as cluster, Daemon(policies) as daemon, Connection(cluster) as conn:
        conn.must("CREATE TABLE kept (id int)")
        for text in texts:
            for per_sync in (False, True):
                pieces(conn, text, per_sync)
        daemon.settle()
        for text in texts:
            found = [r for r in daemon.journal("statement") if r["statement"].get("text") == text]
            check([(r.get("rows"), r["outcome"]) for r in found] == [(35, "executed")] * 2,
                  f"{text}: two portals of 35 rows, recorded as {[(r.get('rows'), r['outcome']) for r in found]}")


@case
def a_portal_fetched_in_pieces_is_one_record():
    one_record_for_each_portal({})


@case
def a_portal_fetched_in_pieces_is_one_record_behind_the_execute_gate():
    one_record_for_each_portal({"p.yaml": NO_DROP.replace("WHAT", "drops").replace("EFFECT", "schema_destroy")})


@case
def a_portal_denied_in_the_middle_is_recorded_as_denied():
    text = "SELECT id FROM kept"
    with Cluster() as cluster, Daemon() as daemon, Connection(cluster) as conn:
        conn.must("CREATE TABLE kept AS SELECT generate_series(1, 35) AS id")
        conn.must("BEGIN")
        conn.sync(conn.parse(text), conn.bind(portal="p"), conn.execute("p", 10))
        daemon.write_policy("p.yaml", NO_DROP.replace("WHAT", "reads").replace("EFFECT", "read"))
        daemon.reload()
        result = conn.sync(conn.execute("p", 10))
        check(result.sqlstate == "57014" and not result.rows, f"the second Execute: {result.errors or result.rows}")
        conn.must("ROLLBACK")
        daemon.settle()
        found = [r for r in daemon.journal("statement") if r["statement"].get("text") == text]
    got = [(r.get("rows"), r["outcome"], r.get("decision", {}).get("rule")) for r in found if r["outcome"] == "prevented"]
    check(len(found) == 2 and found[0]["outcome"] == "executed" and found[0].get("rows") == 10,
          f"recorded: {[(r.get('rows'), r['outcome']) for r in found]}")
    check([(o, rule) for _, o, rule in got] == [("prevented", "reads")], f"the denial: {got}")


@case
def sessions_from_before_the_daemon_count():
    with Cluster(log_all=True) as cluster, Connection(cluster) as conn:
        conn.sync(conn.parse("SELECT 'prepared before' AS p", "old"))
        start = os.path.getsize(cluster.csvlog)
        with Daemon() as daemon:
            conn.must("SELECT 'simple after'")
            conn.sync(conn.bind("old"), conn.execute())
            conn.sync(conn.bind("old"), conn.execute())
            daemon.settle()
            journal = oracle.Journal(daemon.records(), cluster)
        found = oracle.compare(oracle.read_csvlog(cluster.csvlog, start), journal)
        check(journal.executions == 3, f"{journal.executions} executions in the journal, 3 were made")
        check(not found, "\n    ".join(found))


CURSOR_SETUP = """
CREATE TABLE cursor_t (id int);
INSERT INTO cursor_t SELECT generate_series(1, 100);
CREATE FUNCTION for_loop() RETURNS int LANGUAGE plpgsql AS $f$
DECLARE r record; n int := 0;
BEGIN FOR r IN SELECT id FROM cursor_t LOOP PERFORM count(*) FROM cursor_t; n := n + 1; END LOOP; RETURN n; END $f$;
CREATE FUNCTION fetch_loop() RETURNS int LANGUAGE plpgsql AS $f$
DECLARE c CURSOR FOR SELECT id + 1 FROM cursor_t; x int; n int := 0;
BEGIN OPEN c; LOOP FETCH c INTO x; EXIT WHEN NOT FOUND; n := n + 1; END LOOP; CLOSE c; RETURN n; END $f$;
CREATE FUNCTION broken_loop() RETURNS void LANGUAGE plpgsql AS $f$
DECLARE r record;
BEGIN FOR r IN SELECT id + 2 AS id FROM cursor_t LOOP IF r.id > 30 THEN RAISE 'enough'; END IF; END LOOP; END $f$;
"""


@case
def rows_of_cursors_inside_functions_are_all_counted():
    """A cursor is run once per piece, between other statements; pg_stat_statements counts its last piece only."""
    with Cluster() as cluster, Daemon() as daemon:
        cluster.psql(CURSOR_SETUP)
        cluster.psql("SELECT for_loop(); SELECT fetch_loop(); BEGIN; DECLARE c CURSOR FOR SELECT id + 3 FROM cursor_t;"
                     "FETCH 30 FROM c; FETCH ALL FROM c; COMMIT; SELECT broken_loop();", check_rc=False)
        daemon.settle()
        nested = [r for r in daemon.records() if r.get("kind") == "statement" and r.get("parent_statement_id")
                  and r["statement"].get("form") == "nested"]

    def found(text):
        return [(r["statement"].get("executions"), r.get("rows")) for r in nested if text in r["statement"]["text"]]

    check(found("SELECT id FROM") == [(1, 100)], f"FOR loop: {found('SELECT id FROM')}")
    check(found("SELECT count(*)") == [(100, 100)], f"inside the loop: {found('SELECT count(*)')}")
    check(found("SELECT id + 1") == [(1, 100)], f"FETCH loop: {found('SELECT id + 1')}")
    check([rows for _, rows in found("SELECT id + 3")] == [30, 70], f"FETCH by the client: {found('SELECT id + 3')}")
    check(found("SELECT id + 2") == [(1, None)], f"a loop that failed: {found('SELECT id + 2')}")
    check(not found("r.id > 30"), f"an expression was blamed for RAISE: {found('r.id > 30')}")


NESTED_SETUP = """
CREATE TABLE nested_t (id int, v text);
INSERT INTO nested_t SELECT g, g FROM generate_series(1, 100) g;
CREATE FUNCTION loop_dynamic(n int) RETURNS void LANGUAGE plpgsql AS $f$
BEGIN
  FOR i IN 1..n LOOP
    EXECUTE 'UPDATE nested_t SET v = v WHERE id = $1' USING i;
  END LOOP;
END $f$;
CREATE FUNCTION loop_cached(n int) RETURNS bigint LANGUAGE plpgsql AS $f$
DECLARE total bigint := 0; c bigint;
BEGIN
  FOR i IN 1..n LOOP
    SELECT count(*) INTO c FROM nested_t WHERE id <= i;
    total := total + c;
  END LOOP;
  RETURN total;
END $f$;
CREATE FUNCTION wrapped(n int) RETURNS void LANGUAGE plpgsql AS $f$ BEGIN PERFORM loop_cached(n); END $f$;
CREATE FUNCTION in_sql(int) RETURNS SETOF text LANGUAGE sql VOLATILE ROWS 10 AS
  'DELETE FROM nested_t WHERE id = $1; SELECT v FROM nested_t WHERE id > $1 AND id < $1 + $1';
"""


@case
def nested_statements_equal_pg_stat_statements():
    settings = dict(PGSS, **{"pg_stat_statements.track": "all"})
    with Cluster(preload=["pg_stat_statements"], settings=settings) as cluster:
        cluster.psql(EXTENSIONS + NESTED_SETUP + "SELECT pg_stat_statements_reset();")
        with Daemon() as daemon:
            for transport in TRANSPORTS:
                cluster.psql("SELECT loop_dynamic(20); SELECT loop_cached(30); SELECT * FROM in_sql(40);"
                             "SELECT loop_dynamic(5); SELECT wrapped(10);",
                             transport=transport)
            rows = json.loads(cluster.value(
                "SELECT json_agg(json_build_array(query, calls, rows)) FROM pg_stat_statements WHERE NOT toplevel"))
            daemon.settle()
            journal = oracle.Journal(daemon.records(), cluster)
            parents = [r for r in daemon.records() if r.get("kind") == "statement"
                       and r["statement"].get("form") == "nested" and not r.get("parent_statement_id")]
    want = sum(calls for _, calls, _ in rows), sum(n for _, _, n in rows)
    have = sum(journal.nested.values()), sum(journal.nested_rows.values())
    say(f"nested: {want[0]} calls and {want[1]} rows in pg_stat_statements, {have[0]} and {have[1]} in the journal")
    check(want[0] > 100, "pg_stat_statements counted too little: the oracle is broken")
    check(not parents, f"{len(parents)} nested records name no parent")
    check(have == want, "nested executions differ: " + nested_differences(rows, journal))


def nested_differences(rows, journal):
    want = Counter({" ".join(q.split()): calls for q, calls, _ in rows})
    have = Counter()
    for text, calls in journal.nested.items():
        have[" ".join(text.split())] += calls
    return f"too few {dict(want - have)}; too many {dict(have - want)}"


if __name__ == "__main__":
    main()
