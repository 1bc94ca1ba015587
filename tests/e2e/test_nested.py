# SPDX-License-Identifier: Apache-2.0
"""
What runs inside other statements: repeats are counted, and are judged again whenever it is not certain that the same
bytes were allowed before; each statement of a longer source is one of its own.
"""
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Cluster, Daemon, case, check, field, main, task_state, wait_until  # noqa: E402
from pgwire import Closed, Connection, Error  # noqa: E402

POLICY = """
apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: nested
spec:
  mode: enforce
  on_failure: closed
  rules:
    - name: no-drop
      when:
        effects: [schema_destroy]
      action: deny
    - name: no-emptying
      when:
        effects: [delete]
        selective: false
      action: deny
    - name: no-files
      when:
        function_risk: [file]
      action: deny
"""
VICTIM = "CREATE TABLE victim AS SELECT generate_series(1, 10) AS id;"


def plpgsql(name, body, declare=""):
    return f"CREATE FUNCTION {name}() RETURNS void LANGUAGE plpgsql AS $f$ {declare} BEGIN {body} END $f$;"


def load(daemon):
    daemon.write_policy("p.yaml", POLICY)
    daemon.reload()


def executions(daemon, conn):
    """Text → executions of what ran nested in the backend of @conn."""
    daemon.settle()
    found = {}
    for r in daemon.journal("statement"):
        if field(r, "server.pid") == conn.pid and r.get("parent_statement_id"):
            text = field(r, "statement.text", "").strip()
            found[text] = found.get(text, 0) + field(r, "statement.executions", 0)
    return found


@case
def a_denied_repeat_of_a_cached_plan_is_denied_again():
    body = "FOR i IN 1..3 LOOP BEGIN DELETE FROM victim; EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;"
    with Cluster() as cluster:
        cluster.psql(VICTIM + plpgsql("again", body))
        with Daemon() as daemon, Connection(cluster) as held, Connection(cluster) as known:
            for conn in (held, known):
                conn.must("BEGIN")
                conn.must("SELECT again()")
                conn.must("ROLLBACK")
            load(daemon)
            for conn in (held, known):  # the first is held, the second is denied by what is remembered
                try:
                    result = conn.query("SELECT again()")
                    check(result.errors, f"the loop went through: {result.tags}")
                except (Error, Closed):
                    pass
            check(cluster.value("SELECT count(*) FROM victim") == "10", "a repeat emptied the table")


@case
def two_cursors_whose_texts_take_the_same_place_are_told_apart():
    body = "".join(f"OPEN c FOR SELECT id + {i} FROM victim; FETCH c INTO n; CLOSE c; " for i in (1, 2))
    with Cluster() as cluster, Daemon() as daemon, Connection(cluster) as conn:
        conn.must(VICTIM + plpgsql("cursors", f"FOR i IN 1..4 LOOP {body} END LOOP;", "DECLARE c refcursor; n int;"))
        conn.must("SELECT cursors()")
        conn.must("SELECT cursors()")
        found = executions(daemon, conn)
    want = {f"SELECT id + {i} FROM victim": 8 for i in (1, 2)}
    check({k: v for k, v in found.items() if k in want} == want, f"recorded: {found}")


@case
def long_texts_with_one_beginning_are_told_apart():
    """Longer than one piece of a text, alike in all of it, and in the same place."""
    long = "'" + "x" * 5000 + "'"
    texts = [f"SELECT length({long}) + {i} FROM victim" for i in (1, 2)]
    body = "".join(f"OPEN c FOR {t}; FETCH c INTO n; CLOSE c; " for t in texts)
    with Cluster() as cluster, Daemon() as daemon, Connection(cluster) as conn:
        conn.must(VICTIM + plpgsql("long_texts", f"FOR i IN 1..3 LOOP {body} END LOOP;", "DECLARE c refcursor; n int;"))
        conn.must("SELECT long_texts()")
        conn.must("SELECT long_texts()")
        found = executions(daemon, conn)
    check({t[-30:]: n for t, n in found.items()} == {t[-30:]: 6 for t in texts},
          f"recorded: { {t[-30:]: n for t, n in found.items()} }")


@case
def what_is_created_does_not_excuse_what_comes_after_it():
    """Texts are not judged while CREATE FUNCTION checks them; what the next statement of the same message parses is."""
    create = "CREATE OR REPLACE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    with Cluster() as cluster:
        # A simple expression meets no other gate than the parser's.
        cluster.psql("".join(plpgsql(f"reads{i}", "x := pg_read_file('PG_VERSION');", "DECLARE x text;") for i in (1, 2)))
        with Daemon({"p.yaml": POLICY}), Connection(cluster) as conn:
            tries = [lambda: conn.query(f"{create}; SELECT reads1()"),
                     lambda: conn.sync(conn.parse(create), conn.bind(), conn.execute(),
                                       conn.parse("SELECT reads2()"), conn.bind(), conn.execute())]
            for attempt in tries:
                result = attempt()
                check(result.sqlstate == "57014", f"not stopped: {result.tags} {result.errors}")


@case
def the_statements_of_a_function_are_each_one_of_their_own():
    with Cluster() as cluster, Daemon() as daemon, Connection(cluster) as conn:
        conn.must(VICTIM + "CREATE TABLE kept (id int); CREATE FUNCTION whole() RETURNS bigint LANGUAGE sql AS 'INSERT INTO "
                  "kept SELECT id FROM victim WHERE id < 4; COMMENT ON TABLE kept IS ''x''; SELECT count(*) FROM kept';")
        conn.must("SELECT whole()")
        found = executions(daemon, conn)
    want = {"INSERT INTO kept SELECT id FROM victim WHERE id < 4": 1, "COMMENT ON TABLE kept IS 'x'": 1,
            "SELECT count(*) FROM kept": 1}
    check(found == want, f"recorded: {found}")


@case
def the_same_bytes_are_judged_by_how_their_strings_are_read():
    """With standard_conforming_strings off it is one literal, with it on a DROP: the verdict for one is not the other's."""
    text = "SELECT 'a\\'; DROP TABLE victim --'"
    with Cluster() as cluster:
        cluster.psql(VICTIM)
        with Daemon({"p.yaml": POLICY}), Connection(cluster) as conn:
            for _ in range(2):
                conn.must("SET standard_conforming_strings = off")
                check(not conn.query(text).errors, "a literal was denied")
                conn.must("SET standard_conforming_strings = on")
                check(conn.query(text).sqlstate == "57014", "the DROP ran by the verdict for a literal")
                # Within one message it is what the parser sees, not what the client was told last.
            check(cluster.value("SELECT to_regclass('victim')") == "victim", "the table is gone")


@case
def a_stranger_frees_no_hold_inside_a_function():
    """SIGCONT from elsewhere lets it run up to the end of the held plan, not through what comes after."""
    busy = ("CREATE FUNCTION busy(times int) RETURNS void LANGUAGE plpgsql AS $f$ DECLARE n int; BEGIN "
            "PERFORM id FROM victim WHERE 'drop' <> ''; FOR i IN 1..times LOOP n := i; END LOOP; END $f$;")
    with Cluster() as cluster:
        cluster.psql(VICTIM + busy)
        with Daemon(args=["--hold-ms", "3000"]) as daemon, Connection(cluster, timeout=60) as conn:
            conn.must("SELECT busy(1)")  # from here on only its executor entry can be held
            load(daemon)
            worker = daemon.processes()["worker"]
            os.kill(worker, signal.SIGSTOP)
            thread = threading.Thread(target=lambda: conn.query("SELECT busy(400000000)"), daemon=True)
            try:
                thread.start()
                wait_until(lambda: task_state(conn.pid) == "T", 2, "the plan to be held", every=0.001)
                os.kill(conn.pid, signal.SIGCONT)
                time.sleep(0.2)
                check(task_state(conn.pid) == "T", "it runs on without a verdict")
            finally:
                os.kill(worker, signal.SIGCONT)
                with Connection(cluster) as other:
                    time.sleep(0.3)
                    other.query(f"SELECT pg_cancel_backend({conn.pid})")
                thread.join(20)
            check(not thread.is_alive(), "the function got no end")


if __name__ == "__main__":
    main()
