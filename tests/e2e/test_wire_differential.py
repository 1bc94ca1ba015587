# SPDX-License-Identifier: Apache-2.0
"""
The wire vantage alone against the server's own log: every execution over TCP, in clear text, of seven kinds of client. Over
loopback and between network namespaces, seen at both ends, at the client's only and at the server's only, undisturbed and
with 1 % of the segments dropped, 1 % doubled and 1 % late. Nothing missing, nothing too many, nothing under another process.

DBFENCE_E2E_EXECUTIONS sets the volume of all cases together (default 20000).
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Cluster, Daemon, case, check, main, say  # noqa: E402
from clients import EVERY, ClientTags, long_statements, pgbench_modes  # noqa: E402
from netns import World  # noqa: E402
import oracle  # noqa: E402

EXECUTIONS = int(os.environ.get("DBFENCE_E2E_EXECUTIONS", "20000"))
SHARE = EXECUTIONS // 8  # of a case
PGSS = {"pg_stat_statements.max": 10000, "pg_stat_statements.track_utility": "off"}
SETUP = "CREATE ROLE bench LOGIN SUPERUSER; CREATE TABLE pipeline_t (id int, v text);"
# What shows in the kernel's counters that segments were lost, came twice, and came early.
DISTURBED = ("RetransSegs", "TCPDSACKOldSent", "TCPOFOQueue")


def server(world, **settings):
    return Cluster(log_all=True, world=world, settings=dict(PGSS, **settings), preload=["pg_stat_statements"])


def prepare(cluster):
    cluster.psql(SETUP)
    cluster.pgbench("-i", "-q", "-s", "1", user="bench")


def check_disturbed(world, before):
    after = world.netstat()
    more = {key: after[key] - before[key] for key in DISTURBED}
    counts = [m.counts() for m in world.manglers]
    total = {key: sum(c[key] for c in counts) for key in counts[0]}
    say(f"the path: {total}; the kernel: {more}")
    check(all(total.values()) and all(more.values()), "a path that was not disturbed in every way")


def compare(kind, *, ends="both", clients=EVERY, share=SHARE, **world_args):
    """Run @clients in a World of @kind; what the daemon saw at @ends against the server's log."""
    with World(kind, **world_args) as world, server(world) as cluster:
        prepare(cluster)
        start, tags, before = os.path.getsize(cluster.csvlog), ClientTags(), world.netstat()
        args = ["--vantage", "wire"]
        if ends != "both":
            args += ["--wire-cgroup", getattr(world, ends).cgroup]
        with Daemon(args=args) as daemon:
            for client in clients:
                client(cluster, "tcp", tags, share)
            daemon.settle()
            journal = oracle.WireJournal(daemon.records(), cluster)
            status = daemon.status()
        log = oracle.read_csvlog(cluster.csvlog, start, by=oracle.FROM)
        if world.mangle:
            check_disturbed(world, before)
        report(log, journal, tags.rename(log), ends, status)


def report(log, journal, tags, ends, status):
    executed = sum(len(s.statements) for s in log.values())
    say(f"{executed} executions by {len(log)} sessions in the server's log, {journal.executions} in the "
        f"journal, {sum(map(len, journal.truncated.values()))} of them truncated, {journal.lost} counted as lost")
    check(executed > min(SHARE, 1000) / 2, "the server's log holds too little: the oracle is broken")
    found = oracle.compare(log, journal)
    found += [f"{journal.lost} executions were counted as lost: {journal.gaps[:3]}"] if journal.lost else []
    found += journal.misattributed(log, client=ends != "server", server=ends != "client")
    found += tags.differences(journal) + tags.rows_differences(journal)
    wire = {k: v for k, v in status["counters"].items() if v and ("wire" in k or "framing" in k)}
    check(not found, "\n    ".join([*found, f"counters: {wire}", f"gaps: {journal.gaps[:3]}"]))


# --- the path itself: these need no daemon -----------------------------------------------------------------

def disturb(kind, **world_args):
    with World(kind, mangle=True, segments=True, **world_args) as world, server(world) as cluster:
        prepare(cluster)
        before = world.netstat()
        for client in (pgbench_modes, long_statements):
            client(cluster, "tcp", None, max(SHARE, 5000))
        check_disturbed(world, before)


@case
def a_disturbed_loopback_drops_doubles_and_reorders():
    disturb("lo")


@case
def a_disturbed_veth_pair_drops_doubles_and_reorders():
    disturb("veth", family=6)


# --- the comparison ------------------------------------------------------------------------------------------

@case
def over_loopback():
    """Both ends on the node, as most tests of other people have it."""
    compare("lo")


@case
def over_loopback_ipv6_disturbed():
    compare("lo", family=6, mangle=True, segments=True)


@case
def between_namespaces_ipv6_in_super_packets():
    compare("veth", family=6)


@case
def between_namespaces_disturbed():
    compare("veth", mangle=True, segments=True)


@case
def at_the_client_only():
    """As on a node whose database is elsewhere: the server's bytes are seen as they come in, disturbed."""
    compare("veth", ends="client", mangle=True, segments=True)


@case
def at_the_server_only():
    """As on a node whose clients are elsewhere."""
    compare("veth", ends="server", family=6, mangle=True, segments=True)


@case
def long_statements_at_the_server_only():
    """1,000 texts of 38 segments, five at once: when one segment is lost, a window of others comes before it."""
    compare("veth", ends="server", clients=[long_statements], share=200000, mangle=True, segments=True)


@case
def at_the_client_only_over_loopback_in_super_packets():
    compare("lo", ends="client", mangle=True)


@case
def at_the_server_only_over_loopback():
    compare("lo", ends="server")


if __name__ == "__main__":
    main()
