# SPDX-License-Identifier: Apache-2.0
"""
kill -9 in the middle of a hold: of any one process, of all but the dead-man, of all. No backend stays stopped past
its deadline by more than 100 ms, the outcome follows the fail mode, what is pinned goes on deciding, the next start
takes over, the gap is in the journal, and disarm leaves nothing behind.

A hold is made to last by stopping the worker, which owes the verdict. Its deadline is read from the journal's hold
records of a first, undisturbed round.
"""
import os
import signal
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import (PINS, Cluster, Daemon, Failure, case, check, children_of, field, kill_quietly,  # noqa: E402
                 main, say, task_state, wait_until)
from pgwire import Closed, Connection, Error  # noqa: E402

SLACK_MS = 100
ROLES = ("keeper", "dead-man", "worker", "recorder")

POLICY = """
apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: hold-drops
spec:
  mode: enforce
  on_failure: {failure}
  rules:
    - name: no-drop
      when:
        effects: [schema_destroy]
      action: deny
"""


class Held:
    """A statement on its way through a connection of its own, watched from /proc while it runs."""

    def __init__(self, cluster, text):
        self.conn = Connection(cluster, application="held", timeout=60)
        self.text = text
        self.stopped_at = self.released_at = 0.0
        self.result = self.error = None
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.done = threading.Event()

    def _ask(self):
        try:
            self.result = self.conn.query(self.text)
        except (Error, Closed, OSError) as e:
            self.error = e
        self.done.set()

    def _watch(self):
        while not self.released_at:
            now, stopped = time.monotonic(), task_state(self.conn.pid) == "T"
            if stopped and not self.stopped_at:
                self.stopped_at = now
            if not stopped and (self.stopped_at or self.done.is_set()):
                self.released_at = now
            time.sleep(0.0005)

    def start(self):
        self.watcher.start()
        self.thread.start()
        return self

    def wait_stopped(self):
        wait_until(lambda: self.stopped_at or self.done.is_set(), 5, "the statement to be held", every=0.0005)
        check(self.stopped_at, f"the statement was not held: {self.error or self.result and self.result.tags}")
        return self

    def wait_end(self, timeout=20):
        if not self.done.wait(timeout):
            state = task_state(self.conn.pid)
            kill_quietly(self.conn.pid, signal.SIGCONT)
            raise Failure(f"the statement did not end within {timeout} s; its backend's state is {state or 'gone'}")
        self.watcher.join(5)
        return self

    @property
    def held_ms(self):
        return (self.released_at - self.stopped_at) * 1000 if self.stopped_at else 0.0

    def close(self):
        self.conn.close()


def deadline_ms(cluster, daemon):
    """How long this daemon holds at most: from the hold record of a statement that it did hold."""
    cluster.psql("CREATE TABLE IF NOT EXISTS probe_t (id int);")
    with Connection(cluster) as conn:
        conn.query(f"DROP TABLE probe_t /* {time.monotonic_ns()} */")
        pid = conn.pid
    found = daemon.wait_journal(lambda r: field(r, "server.pid") == pid and field(r, "hold.deadline_us", 0))
    return field(found[0], "hold.deadline_us") / 1000


def victims_of(processes, what):
    if what == "all":
        return list(processes.values())
    if what == "all but the dead-man":
        return [pid for role, pid in processes.items() if role != "dead-man"]
    return [processes[what]]


def kill_during_hold(what, failure):
    """One row of the matrix."""
    with Cluster() as cluster, Daemon({"p.yaml": POLICY.format(failure=failure)}) as daemon:
        limit = deadline_ms(cluster, daemon)
        processes = daemon.processes()
        missing = [r for r in ROLES if r not in processes]
        check(not missing, f"status names no {missing} among {sorted(processes)}")
        cluster.psql("CREATE TABLE victim (id int);")
        os.kill(processes["worker"], signal.SIGSTOP)
        held = Held(cluster, f"DROP TABLE victim /* first seen {time.monotonic_ns()} */").start()
        try:
            held.wait_stopped()
        except Failure:
            os.kill(processes["worker"], signal.SIGCONT)
            raise
        for pid in victims_of(processes, what):
            kill_quietly(pid, signal.SIGKILL)
        held.wait_end()
        kill_quietly(processes["worker"], signal.SIGCONT)
        say(f"{what}, {failure}: held {held.held_ms:.1f} ms of {limit:.0f} ms; "
            f"{held.error or held.result.sqlstate or held.result.tags}")
        check(held.held_ms <= limit + SLACK_MS, f"held {held.held_ms:.0f} ms, deadline {limit:.0f} + {SLACK_MS} ms")
        check(not held.error, f"the connection did not live: {held.error}")
        held.close()
        survived = cluster.value("SELECT to_regclass('victim') IS NOT NULL") == "t"
        if failure == "closed":
            check(survived and held.result.sqlstate == "57014", "fail mode closed did not deny")
        elif not held.result.errors:
            check(not survived, "the DROP was reported as done and is not")
        after_the_kill(cluster, daemon, what)


def after_the_kill(cluster, daemon, what):
    """The daemon goes on (or is started again), denies, and its journal tells of the gap."""
    if what in ("keeper", "all", "all but the dead-man"):
        wait_until(lambda: not daemon.alive(), 10, "dbfenced to end with its keeper")
        daemon.start()
    else:
        wait_until(lambda: set(ROLES) <= set(daemon.processes()), 10, f"the {what} to be replaced")
    cluster.psql("CREATE TABLE IF NOT EXISTS later (id int);")
    with Connection(cluster) as conn:
        result = conn.query("DROP TABLE later /* after the kill */")
        check(result.sqlstate == "57014", f"after the kill a DROP is not denied: {result.tags} {result.errors}")
        pid = conn.pid
    daemon.wait_journal(lambda r: field(r, "server.pid") == pid and r.get("outcome") == "prevented",
                        what="the record of the denied DROP after the kill")
    told = [r for r in daemon.records() if r.get("kind") == "gap"
            or field(r, "agent.event") in ("takeover", "restart")]
    check(told or what == "dead-man", "the journal says nothing of the interruption")
    check(not cluster.stopped_backends(), "a backend stayed stopped")


def register(what, failure):
    def function():
        kill_during_hold(what, failure)
    function.__name__ = f"kill_{what.replace(' ', '_').replace('-', '_')}_during_hold_fail_{failure}"
    case(function)


for _what in ROLES + ("all but the dead-man", "all"):
    for _failure in ("closed", "open"):
        register(_what, _failure)


@case
def a_stopped_worker_alone_is_not_waited_for():
    """No process dies; the one that owes the verdict hangs."""
    with Cluster() as cluster, Daemon({"p.yaml": POLICY.format(failure="closed")}) as daemon:
        limit = deadline_ms(cluster, daemon)
        worker = daemon.processes()["worker"]
        cluster.psql("CREATE TABLE victim (id int);")
        os.kill(worker, signal.SIGSTOP)
        try:
            held = Held(cluster, "DROP TABLE victim /* hang */").start().wait_stopped().wait_end()
        finally:
            kill_quietly(worker, signal.SIGCONT)
        say(f"held {held.held_ms:.1f} ms of {limit:.0f} ms")
        check(held.held_ms <= limit + SLACK_MS, f"held {held.held_ms:.0f} ms, deadline {limit:.0f} ms")
        check(cluster.value("SELECT to_regclass('victim')") == "victim", "fail mode closed did not deny")
        wait_until(lambda: daemon.processes().get("worker") not in (None, worker) or task_state(worker) != "T", 15,
                   "the worker to be replaced or to go on")


@case
def nobody_at_the_control_socket_delays_a_verdict():
    """A recorder that waits for its disk, askers that say nothing, and others that ask without end."""
    def ask(stop):
        while not stop.is_set():
            daemon.cli("status", check_rc=False)

    with Cluster() as cluster, Daemon({"p.yaml": POLICY.format(failure="closed")}) as daemon:
        recorder = daemon.processes()["recorder"]
        cluster.psql("".join(f"CREATE TABLE t{i} ();" for i in range(10)))
        stop, silent = threading.Event(), []
        asker = threading.Thread(target=ask, args=(stop,), daemon=True)
        os.kill(recorder, signal.SIGSTOP)
        try:
            asker.start()
            with Connection(cluster) as conn:
                for i in range(300):
                    if i % 30 == 0:
                        silent.append(socket.socket(socket.AF_UNIX))
                        silent[-1].connect(daemon.socket)
                    start = time.monotonic()
                    result = conn.query(f"CREATE TABLE IF NOT EXISTS t0 () /* drop {i} */")
                    took = (time.monotonic() - start) * 1000
                    check(result.tags, f"statement {i} was refused after {took:.0f} ms: {result.errors}")
        finally:
            kill_quietly(recorder, signal.SIGCONT)
            stop.set()
            asker.join()
            for s in silent:
                s.close()
        daemon.settle()
        held = [r for r in daemon.records() if field(r, "hold.held_us") and "drop" in r["statement"]["text"]]
        failed = [r for r in held if field(r, "decision.by_fail_mode")]
        say(f"{len(held)} held, worst {max(field(r, 'hold.held_us') for r in held) / 1000:.1f} ms")
        check(len(held) >= 300 and not failed, f"{len(held)} of 300 were held, {len(failed)} ended by the fail mode")


@case
def with_everything_dead_verdicts_stay_and_new_statements_finish():
    """What was judged stays judged; 1000 first-seen statements end by fail mode; disarm leaves no pin."""
    with Cluster() as cluster, Daemon({"p.yaml": POLICY.format(failure="open")}) as daemon:
        cluster.psql("CREATE TABLE judged (id int);" + "".join(f"CREATE TABLE n{i} ();" for i in range(50)))
        with Connection(cluster, timeout=120) as conn:
            for _ in range(2):
                check(conn.query("DROP TABLE judged").sqlstate == "57014", "the DROP was not denied to begin with")
            daemon.kill_all()
            check(conn.query("DROP TABLE judged").sqlstate == "57014", "the cached verdict died with the daemon")
            start = time.monotonic()
            for i in range(1000):
                result = conn.query(f"DROP TABLE IF EXISTS n{i % 50}, no_such_{i}")
                check(result.tags == ["DROP TABLE"], f"statement {i}: {result.tags} {result.errors}")
            say(f"1000 first-seen statements with nobody alive: {time.monotonic() - start:.1f} s")
        check(not cluster.stopped_backends(), "a backend stayed stopped")
        daemon.cli("disarm")
        left = os.listdir(PINS) if os.path.isdir(PINS) else []
        check(not left, f"disarm left pins: {left}")
        cluster.psql("DROP TABLE judged;")
        daemon.start()
        daemon.wait_journal(lambda r: field(r, "agent.event") == "disarm")


@case
def with_everything_dead_fail_closed_denies_new_statements():
    with Cluster() as cluster, Daemon({"p.yaml": POLICY.format(failure="closed")}) as daemon:
        cluster.psql("CREATE TABLE stays (id int);")
        daemon.kill_all()
        with Connection(cluster, timeout=120) as conn:
            for i in range(20):
                result = conn.query(f"DROP TABLE stays /* {i} */")
                check(result.sqlstate == "57014", f"statement {i}: {result.tags} {result.errors}")
            check(conn.query("SELECT 1").tags == ["SELECT 1"], "what no rule can match does not pass")
        check(not cluster.stopped_backends(), "a backend stayed stopped")
        daemon.cli("disarm")


@case
def the_kernel_alone_ends_every_hold():
    """Six statements held at once, every process dead, again and again: each hold has its timer, or does not begin."""
    worst, rounds = 0.0, 15
    with Cluster() as cluster:
        cluster.psql("CREATE TABLE stays (id int);")
        for number in range(rounds):
            with Daemon({"p.yaml": POLICY.format(failure="closed")}) as daemon:
                helds = [Held(cluster, f"DROP TABLE stays /* {number} {i} */") for i in range(6)]
                daemon.kill_all()
                start = time.monotonic()
                for held in helds:
                    held.start()
                for held in helds:
                    check(held.done.wait(20), f"round {number}: a statement stands still: {cluster.stopped_backends()}")
                    check(held.result and held.result.sqlstate == "57014", f"{held.result and held.result.tags} {held.error}")
                worst = max(worst, (time.monotonic() - start) * 1000)
                daemon.cli("disarm")
    say(f"{6 * rounds} statements, the slowest ended after {worst:.0f} ms")


@case
def an_orderly_restart_leaves_no_gap_in_enforcement():
    """A client that tries to drop a table all the time never succeeds while the daemon restarts."""
    with Cluster() as cluster, Daemon({"p.yaml": POLICY.format(failure="closed")}) as daemon:
        cluster.psql("CREATE TABLE stays (id int);")
        seen, stop = [], threading.Event()

        def hammer():
            with Connection(cluster, timeout=60) as conn:
                while not stop.is_set():
                    seen.append(conn.query(f"DROP TABLE stays /* {len(seen) % 3} */").sqlstate)
                    time.sleep(0.002)
        thread = threading.Thread(target=hammer, daemon=True)
        thread.start()
        time.sleep(0.5)
        daemon.stop()
        hint = f"dbfence disarm --state-dir {daemon.state_dir} --pin-dir {PINS}"
        check(any(hint in line for line in daemon.lines), f"it does not say {hint!r}: {daemon.lines[-3:]}")
        time.sleep(0.5)
        daemon.start()
        time.sleep(0.5)
        stop.set()
        thread.join(30)
        check(not thread.is_alive(), "the client hangs")
        say(f"{len(seen)} attempts across a restart")
        check(len(seen) > 50 and set(seen) == {"57014"}, f"answers: {({s: seen.count(s) for s in set(seen)})}")


def writable_maps(pid):
    """Pages of kernel maps that the process can write, or give itself the right to."""
    found, name = 0, ""
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as f:
        for line in f:
            if "-" in line.split(" ")[0] and ":" not in line.split(" ")[0]:
                name = line.rstrip()
            elif line.startswith("VmFlags:") and "bpf-map" in name and "mw" in line.split():
                found += 1
    return found


@case
def neither_worker_nor_recorder_can_write_heartbeats_or_holds():
    with Cluster(), Daemon({"p.yaml": POLICY.format(failure="closed")}) as daemon:
        processes = daemon.processes()
        got = {role: writable_maps(processes[role]) for role in ("keeper", "worker", "recorder")}
        # The worker: its place in the ring, and the doorbell. The keeper: vitals, holds of both kinds, doorbell.
        check(got == {"keeper": 4, "worker": 2, "recorder": 1}, f"pages of the kernel's maps that can be written: {got}")


@case
def what_a_worker_judged_ends_with_it():
    """Its identity classes mean nothing to the next one: a new generation, and each text is judged anew."""
    with Cluster() as cluster, Daemon({"p.yaml": POLICY.format(failure="closed")}) as daemon:
        cluster.psql("CREATE TABLE stays (id int);")
        with Connection(cluster) as conn:
            for _ in range(3):
                check(conn.query("DROP TABLE stays").sqlstate == "57014", "the DROP ran")
            before, worker = daemon.status(), daemon.processes()["worker"]
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda: daemon.processes()["worker"] not in (0, worker), 10, "the worker to be replaced")
            wait_until(lambda: daemon.status()["policy"]["generation"] > before["policy"]["generation"], 5,
                       "a new generation")
            time.sleep(0.5)
            check(conn.query("DROP TABLE stays").sqlstate == "57014", "the DROP ran under the next worker")
        after = daemon.status()["counters"]
        check(after["kernel_holds"] == before["counters"]["kernel_holds"] + 1,
              f"{after['kernel_holds']} holds, before {before['counters']['kernel_holds']}: not judged anew")


def stop_during_hold(signum, failure):
    """The server's shutdown in the middle of a hold whose verdict never comes."""
    with Cluster() as cluster, Daemon({"p.yaml": POLICY.format(failure=failure)}, args=["--hold-ms", "5000"]) as daemon:
        cluster.psql("CREATE TABLE stays (id int);")
        worker = daemon.processes()["worker"]
        os.kill(worker, signal.SIGSTOP)
        try:
            held = Held(cluster, "DROP TABLE stays /* stop */").start().wait_stopped()
            start = time.monotonic()
            os.kill(cluster.proc.pid, signum)
            held.wait_end()
            released = (time.monotonic() - start) * 1000
            cluster.proc.wait(15)
            took = (time.monotonic() - start) * 1000
        finally:
            kill_quietly(worker, signal.SIGCONT)
        say(f"{signum.name}, {failure}: session over after {released:.0f} ms, server after {took:.0f} ms; {held.error}")
        check(released < 200, f"the held session ended {released:.0f} ms after the signal, of 5000 ms that it may be held")
        check(not children_of(cluster.proc.pid), "a backend outlived its server")
        record = daemon.wait_journal(lambda r: field(r, "server.pid") == held.conn.pid and r.get("kind") == "statement",
                                     what="the record of the held statement")[0]
        check(field(record, "hold.resolved_by") == "dead-man" or record.get("outcome") == "aborted", f"{record}")
        check(record.get("outcome") != "executed" or failure == "open", f"the outcome is {record.get('outcome')}")
        cluster.start()
        if failure == "closed":
            check(cluster.value("SELECT to_regclass('stays')") == "stays", "fail mode closed, and the table is gone")


@case
def the_server_stops_fast_while_a_statement_is_held():
    stop_during_hold(signal.SIGINT, "closed")


@case
def the_server_stops_fast_while_a_statement_is_held_fail_open():
    stop_during_hold(signal.SIGINT, "open")


@case
def the_server_stops_at_once_while_a_statement_is_held():
    stop_during_hold(signal.SIGQUIT, "closed")


@case
def a_smart_shutdown_goes_on_judging():
    """It waits for its sessions, so they are still held and judged."""
    with Cluster() as cluster, Daemon({"p.yaml": POLICY.format(failure="open")}) as daemon:
        with Connection(cluster) as conn:
            os.kill(cluster.proc.pid, signal.SIGTERM)
            time.sleep(0.3)
            check(conn.query("DROP TABLE nowhere /* smart */").sqlstate == "57014", "not denied in a smart shutdown")
            pid = conn.pid
        cluster.proc.wait(15)
        record = daemon.wait_journal(lambda r: field(r, "server.pid") == pid and r.get("kind") == "statement")[0]
        check(field(record, "hold.resolved_by") == "keeper", f"not judged: {record.get('decision')}")


if __name__ == "__main__":
    main()
