# SPDX-License-Identifier: Apache-2.0
"""
PL/pgSQL's expressions and assignments are not statements, and still are read as what they are: those whose plans were
cached before the policy came reach the executor without a parse that tells how they were read.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Cluster, Daemon, case, check, field, main  # noqa: E402
from pgwire import Connection  # noqa: E402

POLICY = """
apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: no-server-files
spec:
  mode: enforce
  on_failure: FAILURE
  rules:
    - name: files
      when:
        function_risk: [file]
      action: deny
"""

# name: the text that the executor gets, and the function's body around it.
READERS = {
    "assignment": ("x := (SELECT pg_read_file('PG_VERSION'))", "{};"),
    "equals": ("x = pg_read_file(f) FROM names", "{};"),
    "element": ("a[(SELECT length(pg_read_file('PG_VERSION')))] := 1", "{};"),
    "condition": ("(SELECT length(pg_read_file('PG_VERSION'))) > 0", "IF {} THEN x := 'y'; END IF;"),
    "result": ("(SELECT pg_read_file('PG_VERSION'))", "RETURN {};"),
}

HARMLESS = """
CREATE FUNCTION harmless() RETURNS text LANGUAGE plpgsql AS $f$
DECLARE x text; n int := 0; a int[] := '{1,2,3}'; r record;
BEGIN
  x := (SELECT 'pg_read_file' || count(*) FROM names);
  x = x || f FROM names WHERE f <> 'pg_read_file';
  a[(SELECT count(*) FROM names WHERE f <> 'pg_read_file')] := 7;
  IF (SELECT count(*) FROM names WHERE f = 'pg_read_file') = 0 THEN n := n + a[1]; END IF;
  FOR r IN SELECT f AS pg_read_file FROM names LOOP n := n + 1; END LOOP;
  RETURN (SELECT 'pg_read_file ' || n::text || x);
END $f$;
"""
HARMLESS_GIVES = "pg_read_file 8pg_read_file1PG_VERSION"


def make_functions(cluster):
    cluster.psql("CREATE TABLE names AS SELECT 'PG_VERSION' AS f;" + HARMLESS)
    for name, (text, around) in READERS.items():
        cluster.psql(f"CREATE FUNCTION reads_{name}() RETURNS text LANGUAGE plpgsql AS $f$ DECLARE x text; a int[]; "
                     f"BEGIN {around.format(text)} RETURN x; END $f$;")


def harmless_works(conn):
    result = conn.query("SELECT harmless()")
    check(not result.errors and result.rows == [[HARMLESS_GIVES]], f"harmless(): {result.errors or result.rows}")


def denied(daemon, conn, name):
    """reads_@name() is stopped, and the record of its expression says what it would have done."""
    text = READERS[name][0]
    result = conn.query(f"SELECT reads_{name}()")
    check(result.sqlstate == "57014", f"{text}: {result.errors or result.rows}")
    found = daemon.wait_journal(lambda r: field(r, "statement.text") == text and field(r, "server.pid") == conn.pid
                                and field(r, "decision.action") == "deny", what=f"the denied record of {text}")
    for r in found:
        check(r["outcome"] in ("prevented", "cancelled"), f"{text}: outcome {r['outcome']}")
        check(field(r, "decision.rule") == "files" and not field(r, "decision.by_fail_mode", False),
              f"{text}: the decision is {r['decision']}")
        check(not field(r, "statement.unknown_reason"), f"{text}: {field(r, 'statement.unknown_reason')}")


def stopped_under(failure):
    with Cluster() as cluster:
        make_functions(cluster)
        with Daemon() as daemon, Connection(cluster) as early:
            for name in READERS:  # every plan is cached before there is a policy
                early.must(f"SELECT reads_{name}()")
            harmless_works(early)
            daemon.write_policy("p.yaml", POLICY.replace("FAILURE", failure))
            daemon.reload()
            harmless_works(early)
            for name in READERS:
                denied(daemon, early, name)
            harmless_works(early)
            with Connection(cluster) as late:
                harmless_works(late)
                for name in READERS:
                    denied(daemon, late, name)
                harmless_works(late)
            wrong = [r for r in daemon.journal("statement") if field(r, "decision.action") == "deny"
                     and field(r, "decision.rule") != "files"]
            check(not wrong, f"denied by something else: {[(field(r, 'statement.text'), r['decision']) for r in wrong]}")


@case
def cached_expressions_and_assignments_are_stopped_under_an_open_policy():
    stopped_under("open")


@case
def cached_expressions_and_assignments_are_stopped_under_a_closed_policy():
    stopped_under("closed")


@case
def a_failed_statement_does_not_vouch_for_an_assignment():
    """The same bytes, sent as a statement, are a syntax error that an open policy lets pass: no verdict for the assignment."""
    text = READERS["assignment"][0]
    with Cluster() as cluster:
        make_functions(cluster)
        with Daemon() as daemon, Connection(cluster) as conn:
            conn.must("SELECT reads_assignment()")
            daemon.write_policy("p.yaml", POLICY.replace("FAILURE", "open"))
            daemon.reload()
            for _ in range(2):
                check(conn.query(text).sqlstate == "42601", "an assignment is a statement")
            denied(daemon, conn, "assignment")


# Functions that read a file in a way that reaches no executor entry of its own.
PLANNED = """
CREATE FUNCTION planned() RETURNS text LANGUAGE plpgsql IMMUTABLE AS
    $f$ DECLARE x text; BEGIN x := pg_read_file('PG_VERSION'); RETURN x; END $f$;
CREATE FUNCTION inlined() RETURNS text LANGUAGE sql AS $f$ SELECT pg_read_file('PG_VERSION') $f$;
CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS
    $f$ DECLARE x text; BEGIN x := pg_read_file('PG_VERSION'); RETURN NULL; END $f$;
CREATE TABLE late (id int);
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fired();
"""
CREATES = "CREATE OR REPLACE FUNCTION nothing() RETURNS int LANGUAGE sql AS 'SELECT 1'"


def behind_create_function(conn, text):
    return conn.query(f"{CREATES}; {text}")


def bound_behind_create_function(conn, text):
    conn.sync(conn.parse(text, "s"))
    return conn.sync(conn.parse(CREATES), conn.bind(), conn.execute(), conn.bind("s"), conn.execute())


@case
def what_runs_behind_a_created_function_is_stopped():
    """Texts that CREATE FUNCTION checks pass; what is planned, bound or committed behind it is no such text."""
    attempts = {
        "planned": lambda conn: behind_create_function(conn, "SELECT planned()"),
        "inlined": lambda conn: behind_create_function(conn, "SELECT inlined()"),
        "planned between": lambda conn: behind_create_function(conn, f"SELECT planned(); {CREATES}"),
        "bound": lambda conn: bound_behind_create_function(conn, "SELECT planned()"),
        "committed": lambda conn: conn.query(f"INSERT INTO late VALUES (1); {CREATES}"),
    }
    checked = ("CREATE OR REPLACE FUNCTION reads() RETURNS text LANGUAGE plpgsql AS "
               "$f$ DECLARE x text; BEGIN x := pg_read_file('PG_VERSION'); RETURN x; END $f$")
    with Cluster() as cluster:
        cluster.psql(PLANNED)
        with Daemon() as daemon:
            daemon.write_policy("p.yaml", POLICY.replace("FAILURE", "open"))
            daemon.reload()
            for name, attempt in attempts.items():
                with Connection(cluster) as conn:
                    result = attempt(conn)
                    check(result.sqlstate == "57014", f"{name}: {result.errors or result.rows}")
            for text in (checked, f"{checked};\n", f"SELECT 1; {checked} ; "):
                with Connection(cluster) as conn:
                    result = conn.query(text)
                    check(not result.errors, f"what is merely checked was not let pass: {result.errors}")


if __name__ == "__main__":
    main()
