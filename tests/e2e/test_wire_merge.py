# SPDX-License-Identifier: Apache-2.0
"""
Both vantages at once: what the server vantage sees is recorded by it and by it alone, with the client's process; what it does
not see, by the wire.
"""
import os
import sys
from collections import Counter

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from clients import EVERY, ClientTags, jdbc_class, node_modules  # noqa: E402
from e2e import TRANSPORTS, Cluster, Daemon, case, check, field, is_top_level, main, say  # noqa: E402
from fakeserver import Fake  # noqa: E402
from netns import World  # noqa: E402
import oracle  # noqa: E402
from pgwire import Connection  # noqa: E402

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
