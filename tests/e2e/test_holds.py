# SPDX-License-Identifier: Apache-2.0
"""
Holding is bounded, and a bound never decides about what it was not made for: how many statements may be held, by which
fail mode each falls, and what goes on being judged when a reload fails.
"""
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Cluster, Daemon, case, check, field, main, say, wait_until  # noqa: E402
from pgwire import Connection  # noqa: E402

HEAD = "apiVersion: dbfence.dev/v1\nkind: Policy\nmetadata:\n  name: {name}\nspec:\n  mode: enforce\n" \
       "  on_failure: {failure}\n  rules:\n"


def policy(name, failure, when, unless=""):
    """One rule that denies @when (YAML flow), but for @unless."""
    text = HEAD.format(name=name, failure=failure) + f"    - name: rule\n      action: deny\n      when: {when}\n"
    return text + (f"      unless: {unless}\n" if unless else "")


SLEEPS = policy("no-sleep", "closed", "{functions: [pg_sleep]}", "{identity: {db_user: [postgres]}}")
DROPS = policy("no-drop", "closed", "{effects: [schema_destroy]}")


def record_of(daemon, conn, text):
    found = daemon.wait_journal(lambda r: field(r, "server.pid") == conn.pid and
                                text in field(r, "statement.text", ""), what=f"the record of {text}")
    return found[0]


@case
def statements_that_were_allowed_and_run_on_take_nobody_elses_hold():
    """More of them than may be held at once; what comes next is held and judged, not left to the fail mode."""
    with Cluster() as cluster, Daemon({"s.yaml": SLEEPS, "d.yaml": DROPS}) as daemon:
        runners = [Connection(cluster, timeout=60) for _ in range(20)]
        threads = []
        for i, conn in enumerate(runners):
            thread = threading.Thread(target=conn.query, args=(f"SELECT pg_sleep(6) /* {i} */",), daemon=True)
            thread.start()
            threads.append(thread)
            time.sleep(0.03)
        wait_until(lambda: cluster.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "20", 4,
                   "20 statements to run at once")
        with Connection(cluster) as conn:
            start = time.monotonic()
            result = conn.query("SELECT pg_sleep(0) /* one more */")
            check(result.tags == ["SELECT 1"], f"an allowed statement was denied: {result.errors}")
            check(conn.query("DROP TABLE nowhere /* held */").sqlstate == "57014", "a DROP was not denied")
            say(f"two first-seen statements beside 20 runners: {(time.monotonic() - start) * 1000:.1f} ms")
            for text in ("one more", "held"):
                record = record_of(daemon, conn, text)
                check(field(record, "hold.resolved_by") == "keeper", f"'{text}' was not judged: {record.get('decision')}")
        for thread in threads:
            thread.join(20)
        for conn in runners:
            conn.close()
        counters = daemon.status()["counters"]
        check(not counters["kernel_fail_closed"], f"the fail mode decided {counters['kernel_fail_closed']} times")


@case
def a_small_server_is_held_less():
    """A tenth of max_connections: with 25, the third statement at once is left to the fail mode."""
    with Cluster(settings={"max_connections": 25}) as cluster, Daemon({"d.yaml": DROPS}) as daemon:
        limits = [c["max_holds"] for c in daemon.status()["clusters"] if c["port"] == cluster.port]
        check(limits == [2], f"status says {limits}")
        check("at most 2 held" in daemon.cli("status").stdout, "status does not print it")
        conns = [Connection(cluster, timeout=30) for _ in range(3)]
        worker = daemon.processes()["worker"]
        os.kill(worker, signal.SIGSTOP)
        try:
            before = daemon.status()["counters"]["kernel_fail_closed"]
            threads = []
            for i, conn in enumerate(conns):
                thread = threading.Thread(target=conn.query, args=(f"DROP TABLE nowhere /* {i} */",), daemon=True)
                thread.start()
                threads.append(thread)
                time.sleep(0.02)
            held = len(cluster.stopped_backends())
        finally:
            os.kill(worker, signal.SIGCONT)
        for thread in threads:
            thread.join(20)
        counters = daemon.status()["counters"]
        check(held == 2, f"{held} are held")
        check(counters["kernel_fail_closed"] == before + 1, "the third was not left to the fail mode")
        for conn in conns:
            conn.close()


LENIENT = policy("no-truncate", "open", "{effects: [delete]}")


def tries(cluster, label):
    """What becomes of a candidate of the open policy, of the closed one, and of both."""
    cluster.psql("CREATE TABLE IF NOT EXISTS kept (id int); CREATE TABLE IF NOT EXISTS emptied (id int);"
                 "INSERT INTO emptied VALUES (1);")
    with Connection(cluster) as conn:
        return [conn.query(f"{text} /* {label} */").sqlstate or "ran" for text in
                ("DELETE FROM emptied", "DROP TABLE kept", "DELETE FROM emptied; DROP TABLE kept")]


@case
def an_empty_query_is_not_held():
    """Clients send it to see whether the connection lives: simple and extended, it is no candidate."""
    with Cluster() as cluster, Daemon({"d.yaml": DROPS}) as daemon, Connection(cluster) as conn:
        before = daemon.status()["counters"]["kernel_candidates"]
        for result in (conn.query(""), conn.extended(""), conn.query("")):
            check(not result.errors, f"the client saw {result.errors}")
        candidates = daemon.status()["counters"]["kernel_candidates"] - before
        check(candidates == 0, f"{candidates} candidates")


@case
def a_statement_that_nobody_can_judge_falls_by_the_policy_that_needs_it():
    """Worker stalled while it is held, then every process dead: the open policy's runs, the closed one's is denied."""
    with Cluster() as cluster, Daemon({"o.yaml": LENIENT, "c.yaml": DROPS}) as daemon:
        check(tries(cluster, "judged") == ["57014"] * 3, "not everything is denied while it can be judged")
        worker = daemon.processes()["worker"]
        for label in ("held", "silent"):  # the first wait makes the keeper silent
            os.kill(worker, signal.SIGSTOP)
            try:
                got = tries(cluster, label)
            finally:
                os.kill(worker, signal.SIGCONT)
            check(got == ["ran", "57014", "57014"], f"{label}: {got}")
        daemon.kill_all()
        got = tries(cluster, "dead")
        check(got == ["ran", "57014", "57014"], f"with every process dead: {got}")
        # What cannot be looked through may be anything.
        long = "/*" + "x" * 5000 + "*/"
        with Connection(cluster) as conn:
            check(conn.query("SELECT 1 " + long).sqlstate == "57014", "a text too long for the screen ran")


@case
def what_is_in_force_is_judged_on_when_the_worker_dies_of_a_reload():
    """The files compile, and the worker ends with them in its hands: the next one gets what was in force, not these."""
    with Cluster() as cluster, Daemon({"d.yaml": DROPS, "s.yaml": SLEEPS}) as daemon:
        worker = daemon.processes()["worker"]
        rules = daemon.status()["policy"]["rules"]
        daemon.write_policy("s.yaml", policy("no-sleep", "closed", "{functions: [pg_sleep]}"))
        daemon.write_policy("more.yaml", LENIENT)
        os.kill(worker, signal.SIGSTOP)  # it is sent them, and never answers
        said = len(daemon.lines)
        os.kill(daemon.proc.pid, signal.SIGHUP)
        time.sleep(0.5)
        check(daemon.status()["policy"]["rules"] == rules, "in force before the worker answered")
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: daemon.processes()["worker"] not in (0, worker), 10, "the worker to be replaced")
        wait_until(lambda: any("policy generation" in line for line in daemon.lines[said:]), 5, "policies in force")
        time.sleep(0.5)  # longer than a program believes a silent keeper
        policies = daemon.status()["policy"]
        check(policies["rules"] == rules, f"in force: {policies}")
        check("worker" in policies["last_error"], f"status does not say what failed: {policies['last_error']}")
        check(daemon.journal("agent")[-1]["agent"]["event"] == "reload_failed", "no record of it")
        with Connection(cluster) as conn:
            check(conn.query("DROP TABLE nowhere /* later */").sqlstate == "57014", "a DROP is not denied any more")
            check(field(record_of(daemon, conn, "later"), "hold.resolved_by") == "keeper", "nobody judged it")
            check(conn.query("SELECT pg_sleep(0) /* fine */").tags == ["SELECT 1"], "the new rules are in force")
            daemon.reload()
            check(conn.query("SELECT pg_sleep(0) /* again */").sqlstate == "57014", "the new rules are not in force")


if __name__ == "__main__":
    main()
