# SPDX-License-Identifier: Apache-2.0
"""
Losing is allowed, losing silently is not: with a ring made far too small, what the server executed equals what
the journal recorded plus what its gap records count as lost.
"""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Cluster, Daemon, case, check, main, say  # noqa: E402
import oracle  # noqa: E402

EXECUTIONS = int(os.environ.get("DBFENCE_E2E_EXECUTIONS", "20000"))


@case
def executed_is_recorded_plus_lost():
    with Cluster(log_all=True) as cluster:
        cluster.pgbench("-i", "-q", "-s", "1")
        start = os.path.getsize(cluster.csvlog)
        with Daemon(args=["--ring-bytes", "65536"]) as daemon:
            each = str(max(1, EXECUTIONS // 3 // 8))
            for mode in ("simple", "extended", "prepared"):
                cluster.pgbench("-n", "-S", "-c", "8", "-j", "2", "-t", each, "-M", mode)
            daemon.settle()
            journal = oracle.Journal(daemon.records(), cluster)
        log = oracle.read_csvlog(cluster.csvlog, start)
    executed = sum(len(s.statements) for s in log.values())
    say(f"{executed} executed = {journal.executions} recorded + {journal.lost} counted as lost "
        f"in {len(journal.gaps)} gap records")
    check(executed == journal.executions + journal.lost,
          f"{executed - journal.executions - journal.lost} executions are neither recorded nor counted")
    check(not oracle.check_seqs(journal.seqs), "the journal's sequence numbers have holes")
    for pid, have in journal.sessions.items():
        want = {}
        for text, sqlstate in log[pid].statements if pid in log else ():
            want[(text, sqlstate)] = want.get((text, sqlstate), 0) + 1
        for key, count in have.items():
            check(count <= want.get(key, 0), f"backend {pid}: {key!r} is recorded {count} times, "
                  f"executed {want.get(key, 0)} times")


@case
def a_stalled_worker_loses_nothing_silently():
    """The worker is stopped while the ring fills up, so that something is certainly lost, and then goes on."""
    import signal
    with Cluster(log_all=True) as cluster:
        cluster.pgbench("-i", "-q", "-s", "1")
        start = os.path.getsize(cluster.csvlog)
        with Daemon(args=["--ring-bytes", "65536"]) as daemon:
            worker = daemon.processes()["worker"]
            os.kill(worker, signal.SIGSTOP)
            try:
                cluster.pgbench("-n", "-S", "-c", "1", "-t", "2000")
            finally:
                os.kill(worker, signal.SIGCONT)
            cluster.pgbench("-n", "-S", "-c", "1", "-t", "10")
            daemon.settle()
            journal = oracle.Journal(daemon.records(), cluster)
        log = oracle.read_csvlog(cluster.csvlog, start)
    executed = sum(len(s.statements) for s in log.values())
    say(f"{executed} executed = {journal.executions} recorded + {journal.lost} counted as lost")
    check(journal.lost > 0, "2000 statements into a stopped worker's 64 KiB ring lost nothing: was it observed at all?")
    check(executed == journal.executions + journal.lost,
          f"{executed - journal.executions - journal.lost} executions are neither recorded nor counted")


if __name__ == "__main__":
    main()
