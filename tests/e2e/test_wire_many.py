# SPDX-License-Identifier: Apache-2.0
"""
2,000 connections at once, followed on the wire: nothing lost, each statement under the process that sent it. As many of them
as memory allows have a real server behind them, the others one that answers everything.
"""
import contextlib
import os
import subprocess
import sys
from collections import Counter

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import ROOT, Cluster, Daemon, case, check, end_process, field, main, say  # noqa: E402
from fakeserver import Fake  # noqa: E402
from netns import World  # noqa: E402
import oracle  # noqa: E402

CONNECTIONS, PROCESSES, ROUNDS = 2000, 4, 5
BACKEND_KB = 5000  # what a backend is reckoned with


def available_kb():
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("MemAvailable"))


class Crowd:
    """PROCESSES clients that share @count connections to @server."""

    def __init__(self, server, count, application):
        self.count = count
        program = os.path.join(ROOT, "tests", "lib", "manyclient.py")
        with server.client:
            self.procs = [subprocess.Popen([sys.executable, program, server.host, str(server.port), str(count // PROCESSES),
                                            str(ROUNDS), application], stdout=subprocess.PIPE, text=True)
                          for _ in range(PROCESSES)]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for proc in self.procs:
            end_process(proc, (15, 9))
            proc.stdout.close()

    def wait(self):
        for proc in self.procs:
            said = proc.communicate(timeout=240)[0].strip()
            check(said == str(self.count // PROCESSES * ROUNDS), f"a client says {said!r}, status {proc.returncode}")

    def wanted(self):
        return Counter(f"SELECT '{proc.pid} {number} {turn}'" for proc in self.procs
                       for number in range(self.count // PROCESSES) for turn in range(ROUNDS))


def compare(records, crowd, port):
    """Nothing missing, nothing too many, each with the process that its own text names."""
    found = [r for r in records if r["kind"] == "statement" and field(r, "server.port") == port
             and r.get("application_name") == "crowd"]
    have = Counter(field(r, "statement.text") for r in found)
    want = crowd.wanted()
    wrong = [r for r in found if field(r, "statement.text", "").split("'")[1].split()[0] != str(field(r, "client.pid"))]
    outcomes = Counter(r["outcome"] for r in found)
    say(f"{len(found)} records of {sum(want.values())} executions over {crowd.count} connections")
    check(have == want, f"{sum((want - have).values())} missing, {sum((have - want).values())} too many")
    check(not wrong, f"{len(wrong)} under another process: {[(r['statement']['text'], r['client']) for r in wrong[:3]]}")
    check(set(outcomes) == {"executed"}, outcomes)


@case
def two_thousand_connections_at_once():
    real = min(CONNECTIONS, available_kb() // 2 // BACKEND_KB) // PROCESSES * PROCESSES
    settings = {"max_connections": real + 10, "shared_buffers": "16MB"}
    with World("here") as world, Cluster(log_all=True, world=world, settings=settings) as cluster, \
            Fake(cluster) as fake, Daemon(args=["--vantage", "wire"]) as daemon, contextlib.ExitStack() as crowds:
        start = os.path.getsize(cluster.csvlog)
        crowd = {s: crowds.enter_context(Crowd(s, count, "crowd"))
                 for s, count in ((cluster, real), (fake, CONNECTIONS - real)) if count}
        for some in crowd.values():
            some.wait()
        daemon.settle()
        records = list(daemon.records())
        log = oracle.read_csvlog(cluster.csvlog, start, by=oracle.FROM)
    say(f"{real} of them to a real server")
    for server, some in crowd.items():
        compare(records, some, server.port)
    journal = oracle.WireJournal(records, cluster)
    found = oracle.compare(log, journal) + journal.misattributed(log)
    check(not found and not journal.lost, "\n    ".join(map(str, [*found, *journal.gaps[:3]])))


if __name__ == "__main__":
    main()
