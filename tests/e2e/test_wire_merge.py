# SPDX-License-Identifier: Apache-2.0
"""
Both vantages at once: what the server vantage sees is recorded by it and by it alone, with the client's process; what it does
not see, by the wire.
"""
import os
import sys
import time
from collections import Counter

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from clients import EVERY, ClientTags, jdbc_class, node_modules  # noqa: E402
from e2e import TRANSPORTS, Cluster, Daemon, case, check, field, is_top_level, main, say  # noqa: E402
from fakeserver import Fake  # noqa: E402
from netns import World  # noqa: E402
import oracle  # noqa: E402
from pgwire import Connection  # noqa: E402
from wirestop import policy  # noqa: E402

VOLUME = int(os.environ.get("DBFENCE_E2E_EXECUTIONS", "20000")) // 10
SETUP = "CREATE ROLE bench LOGIN SUPERUSER; CREATE TABLE pipeline_t (id int, v text);"


def merged(kind, transports, **world_args):
    """Every client under both vantages, against the server's log."""
    node_modules()
    jdbc_class()
    with World(kind, **world_args) as world, Cluster(log_all=True, world=world) as cluster:
        cluster.psql(SETUP)
        cluster.pgbench("-i", "-q", "-s", "1", user="bench")
        start = os.path.getsize(cluster.csvlog)
        with Daemon() as daemon:
            for transport in transports:
                for client in EVERY:
                    client(cluster, transport, ClientTags(), VOLUME // len(transports))
            daemon.settle()
            records = list(daemon.records())
        journal = oracle.Journal(records, cluster)
        log = oracle.read_csvlog(cluster.csvlog, start)
    found = oracle.compare(log, journal)
    vantages = Counter(r["vantage"] for r in records if is_top_level(r))
    # Of a client that was gone before anybody could look, there is the name that the kernel had for it.
    programs = Counter((r.get("application_name", ""),
                        os.path.basename(field(r, "client.exe", "")) or field(r, "client.comm", ""))
                       for r in records if is_top_level(r))
    say(f"{journal.executions} executions by {len(log)} sessions; records by vantage {dict(vantages)}")
    if set(vantages) != {"server"}:
        found.append(f"records of another vantage: {[r for r in records if is_top_level(r) and r['vantage'] != 'server'][:2]}")
    found += [f"{n} records of {app!r} name the program {exe!r}" for (app, exe), n in programs.items()
              if exe != oracle.PROGRAMS.get(app, exe)]
    check(not found and not journal.lost, "\n    ".join(map(str, [*found, *journal.gaps[:3]])))


@case
def one_record_for_each_execution_over_tcp_tls_and_unix():
    merged("here", TRANSPORTS)


@case
def one_record_for_each_execution_between_namespaces_disturbed():
    merged("veth", ("tcp",), mangle=True, segments=True)


@case
def a_session_from_before_the_daemon_has_one_record_for_each_execution():
    """Neither of the two knows how it began."""
    with World("here") as world, Cluster(log_all=True, world=world) as cluster, \
            Connection(cluster, "tcp", application="before") as conn:
        conn.sync(conn.parse("SELECT 'prepared before'", "old"))
        start = os.path.getsize(cluster.csvlog)
        with Daemon() as daemon:
            conn.must("SELECT 'first'")
            for _ in range(20):
                conn.sync(conn.bind("old"), conn.execute())
            daemon.settle()
            records = [r for r in daemon.records() if is_top_level(r)]
        log = oracle.read_csvlog(cluster.csvlog, start, by=oracle.FROM)
    wanted = sum(len(s.statements) for s in log.values())
    check(wanted == 21 and len(records) == wanted and {r["vantage"] for r in records} == {"server"},
          f"{len(records)} records of {wanted}: {Counter((r['vantage'], field(r, 'statement.text')) for r in records)}")
    check({field(r, "client.pid") for r in records} == {os.getpid()}, f"clients {[r['client'] for r in records[:2]]}")


class Counted(Connection):
    """Counts what passes, and looks at the clock."""

    passed = [0, 0]

    def write(self, data):
        self.passed[0] += len(data)
        super().write(data)

    def _take(self, size):
        self.passed[1] += size
        return super()._take(size)

    def step(self, what):
        self.passed = [0, 0]
        begun = time.monotonic_ns()
        what(self)
        return *self.passed, begun, time.monotonic_ns()


def copied(conn, rows):
    conn.copy_in = [b"1\tcopied\n"] * rows
    conn.must("COPY turns FROM STDIN")


# What is one request and one statement: its bytes both ways, and when they passed.
TURNS = [
    lambda c: c.must("SELECT 'simple'"),
    lambda c: c.must("SELECT repeat('x', 100) FROM generate_series(1, 20000)"),
    lambda c: c.must("SELECT length('" + "y" * 300000 + "')"),
    lambda c: c.must("SELECT 'a'; SELECT 'b'; SELECT 'c'"),
    lambda c: c.query("SELECT 1 / 0"),
    lambda c: c.query("SELECT FROM WHERE"),
    lambda c: c.must("DO $$ BEGIN RAISE NOTICE 'to be told'; END $$"),
    lambda c: c.extended("SELECT 'extended'"),
    lambda c: c.sync(c.bind("named", args=["9"]), c.describe(), c.execute()),
    lambda c: c.must("COPY (SELECT generate_series(1, 1000)) TO STDOUT"),
    lambda c: copied(c, 3),
]
# And what is not: whose the bytes are is not known.
OTHERS = [
    (2, lambda c: c.sync(c.parse("SELECT 'first'"), c.bind(), c.execute(), c.parse("SELECT 'second'"), c.bind(), c.execute())),
    (2, lambda c: (c.send(*(c.message(b"Q", f"SELECT 'pipelined {n}'\0".encode()) for n in range(2))), c.read(), c.read())),
    (1, lambda c: (c.must("BEGIN"), c.sync(c.parse("SELECT generate_series(1, 3)"), c.bind(portal="p"), c.execute("p", 1)),
                   c.sync(c.execute("p", 0)), c.must("COMMIT"))),
]


def turns(cluster, daemon, transport):
    """Every turn over one connection; its records, with what the client counted."""
    with Counted(cluster, transport, application=f"turns {transport}") as conn:
        conn.must("CREATE TEMP TABLE turns (id int, v text)")
        conn.sync(conn.parse("SELECT $1::int", "named"))
        counted = [conn.step(what) for what in TURNS]
        for _, what in OTHERS:
            what(conn)
    daemon.settle()
    found = [r for r in daemon.records() if is_top_level(r) and r.get("application_name") == f"turns {transport}"]
    check(len(found) == 1 + len(TURNS) + sum(n for n, _ in OTHERS) + 2, f"{len(found)} records over {transport}")
    return list(zip(found[1:], counted)), found[1 + len(TURNS):]


def check_wire(record, sent, read, begun, ended):
    text, wire = field(record, "statement.text", "")[:40], record.get("wire", {})
    request, response = wire.get("request_mono_ns", 0), wire.get("response_mono_ns", 0)
    check((record.get("bytes_in"), record.get("bytes_out")) == (sent, read),
          f"{text!r}: {record.get('bytes_in')} and {record.get('bytes_out')} bytes, not {sent} and {read}")
    check(begun <= request <= record["mono_ns"], f"{text!r}: sent at {request}, began at {begun} and {record['mono_ns']}")
    check(not response or record["end_mono_ns"] <= response <= ended, f"{text!r}: answered at {response}, ended {ended}")
    return response != 0


def merged_turns(world, cluster, args=()):
    with Daemon(args=list(args)) as daemon:
        found, others = turns(cluster, daemon, "tcp")
        answered = sum(check_wire(record, *counted) for record, counted in found)
        say(f"{len(found)} turns, {answered} of them with the time of their answer")
        check(answered >= len(found) - 2, f"only {answered} answers were seen to leave")
        shared = [(field(r, "statement.text"), r["bytes_in"]) for r in others if r.get("bytes_in")
                  and r.get("tag") not in ("BEGIN", "COMMIT")]
        check(not shared, f"bytes that are several statements': {shared}")
        check(all(r.get("bytes_out") for r in others), "what is answered is known of each")


@case
def the_servers_record_has_the_bytes_and_times_of_the_wire():
    with World("here") as world, Cluster(world=world) as cluster:
        merged_turns(world, cluster)


@case
def and_of_a_client_elsewhere():
    with World("veth") as world, Cluster(world=world) as cluster:
        merged_turns(world, cluster, ("--wire-cgroup", world.server.cgroup))


@case
def what_is_answered_is_counted_where_the_wire_sees_nothing():
    """Over TLS and a unix socket the server vantage knows what it says; what it is asked, it does not."""
    with World("here") as world, Cluster(world=world) as cluster, Daemon() as daemon:
        for transport in ("tls", "unix"):
            found, _ = turns(cluster, daemon, transport)
            for record, (_, read, _, _) in found:
                check(record.get("bytes_out") == read and "bytes_in" not in record and "wire" not in record,
                      f"{transport}: {field(record, 'statement.text', '')[:40]!r} {record.get('bytes_in')} "
                      f"{record.get('bytes_out')} {record.get('wire')}, not {read}")


@case
def denied_on_the_wire_before_its_backend_is_known():
    """In one segment with the start-up packet. The backend gets another text, so the record is the connection's."""
    with World("here") as world, Cluster(world=world) as cluster, Daemon({"p.yaml": policy()}) as daemon:
        cluster.psql("CREATE TABLE stays ()")
        behind, answers = Connection.message(b"Q", b"DROP TABLE stays\0"), []
        for number in range(5):
            with Connection(cluster, "tcp", application=f"early{number}", behind=behind) as conn:
                answers.append(conn.read().sqlstate)
        check(answers == ["42601"] * 5 and cluster.value("SELECT to_regclass('stays')") == "stays", f"{answers}")
        daemon.settle()
        found = [r for r in daemon.journal("statement") if field(r, "statement.text", "") == "DROP TABLE stays"]
        got = sorted((r.get("application_name"), field(r, "decision.action"), "reject_sent" in r.get("evidence", ())) for r in found)
        check(got == [(f"early{number}", "deny", True) for number in range(5)], f"{got}")


@case
def what_only_the_wire_sees_is_recorded_beside_it():
    """A server that has no probes, and one that has."""
    with World("here") as world, Cluster(world=world) as cluster, Fake(cluster) as fake, Daemon() as daemon:
        for server, name in ((cluster, "probed"), (fake, "fake")):
            with Connection(server, "tcp", application=name) as conn:
                for number in range(20):
                    conn.must(f"SELECT {number} AS merged")
        daemon.settle()
        found = Counter((r.get("application_name"), r["vantage"]) for r in daemon.records()
                        if is_top_level(r) and "AS merged" in field(r, "statement.text", ""))
    check(found == {("probed", "server"): 20, ("fake", "wire"): 20}, dict(found))


if __name__ == "__main__":
    main()
