# SPDX-License-Identifier: Apache-2.0
"""
Scenarios that share one server and one daemon, for starting and settling take longer than what most of them do. A scenario is
a generator: it does what it does with the server, yields, is sent what the daemon recorded, and checks. All of them do, one
after the other; then each looks. Each is a case of its own.
"""
import contextlib
import os

from e2e import Cluster, Daemon, Failure, Skip, case, check, field
from netns import World
import oracle


class Seen:
    """
    What a daemon recorded of the scenarios, once all have run: records, the server's log, the journal as the oracle reads it; and
    which ends it saw.
    """

    def __init__(self, daemon, cluster, start, ends):
        self.ends = ends
        self.records = list(daemon.records())
        self.journal = oracle.WireJournal(self.records, cluster)
        self.log = oracle.read_csvlog(cluster.csvlog, start, by=oracle.FROM)

    def statements(self, application):
        return [r for r in self.records if r["kind"] == "statement" and r.get("application_name") == application]

    def of_port(self, port, kind):
        return [r for r in self.records if r["kind"] == kind and field(r, "client.port") == port]

    def one(self, application):
        found = self.statements(application)
        check(len(found) == 1, f"{len(found)} records: {[brief(r) for r in found]}")
        return found[0]


def brief(record):
    text = field(record, "statement.text", "")
    return (text if len(text) < 60 else f"{text[:40]}…", field(record, "statement.form"), record.get("outcome"),
            record.get("rows"), record.get("sqlstate", ""), record.get("tag", ""))


class Stage:
    """@ends: both, or only the client's or the server's, by the daemon's --wire-cgroup. @setup: SQL before the daemon starts."""

    def __init__(self, ends="both", *, setup="", suffix="", kind="here"):
        self.ends, self.setup, self.suffix, self.kind = ends, setup, suffix, kind
        self.scenarios, self.running, self.seen = [], {}, None

    def scenario(self, function):
        """Register a scenario, @function(cluster), and a case of its name."""
        self.scenarios.append(function)

        def run_case():
            self.look(function)
        run_case.__name__ = function.__name__ + self.suffix
        case(run_case)
        return function

    def observe(self):
        if self.seen:
            return self.seen
        with World(self.kind) as world, Cluster(log_all=True, world=world) as cluster:
            cluster.psql(self.setup)
            start = os.path.getsize(cluster.csvlog)
            args = ["--vantage", "wire"]
            if self.ends != "both":
                args += ["--wire-cgroup", getattr(world, self.ends).cgroup]
            with Daemon(args=args) as daemon:
                for function in self.scenarios:
                    self.running[function] = self._begin(function(cluster))
                daemon.settle()
                self.seen = Seen(daemon, cluster, start, self.ends)
        return self.seen

    @staticmethod
    def _begin(running):
        try:
            next(running)
        except Exception as e:  # of one scenario: the others still do what they do
            return e
        return running

    def look(self, function):
        seen = self.observe()
        running = self.running[function]
        if isinstance(running, Skip):
            raise running
        if isinstance(running, Exception):
            raise Failure(f"the clients went wrong: {running!r}") from running
        with contextlib.suppress(StopIteration):
            running.send(seen)
