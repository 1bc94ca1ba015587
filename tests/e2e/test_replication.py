# SPDX-License-Identifier: Apache-2.0
"""
Replication commands: each is stopped at its entry before it does anything, its SQL is judged as SQL and once, what
streams is left alone, and where no rule is about replication nothing is different from a server without dbfence.
"""
import json
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import (Cluster, Daemon, case, check, end_process, field, kill_quietly, main, run, say,  # noqa: E402
                 wait_until)
from pgwire import Closed, Connection, Error  # noqa: E402

POLICY = """
apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: p
spec:
  mode: enforce
  on_failure: {failure}
  rules:
    - name: rule
      when: {{{when}}}
      unless: {{identity: {{db_user: [keeper]}}}}
      action: {action}
"""
# Each with a query that tells whether it had an effect, where one would show.
COMMANDS = [
    ("IDENTIFY_SYSTEM", None),
    ("TIMELINE_HISTORY 1", None),
    ("READ_REPLICATION_SLOT kept", None),
    ("SHOW port", None),
    ("CREATE_REPLICATION_SLOT made PHYSICAL", "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'made'"),
    ("CREATE_REPLICATION_SLOT \"made\" LOGICAL test_decoding",
     "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'made'"),
    ("DROP_REPLICATION_SLOT kept", "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'kept'"),
    ("BASE_BACKUP (LABEL 'x', CHECKPOINT 'fast')", "SELECT checkpoint_lsn FROM pg_control_checkpoint()"),
    (" \n BASE_BACKUP;", "SELECT checkpoint_lsn FROM pg_control_checkpoint()"),
    (" " * 300 + "BASE_BACKUP", "SELECT checkpoint_lsn FROM pg_control_checkpoint()"),
    ("START_REPLICATION PHYSICAL 0/0", None),
    ("START_REPLICATION SLOT kept PHYSICAL 0/0", "SELECT active FROM pg_replication_slots WHERE slot_name = 'kept'"),
]


def policy(when, *, failure="open", action="deny"):
    return {"p.yaml": POLICY.format(failure=failure, when=when, action=action)}


def prepare(cluster):
    cluster.psql("CREATE TABLE victim (id int); CREATE ROLE keeper SUPERUSER LOGIN;")
    cluster.psql("SELECT pg_create_physical_replication_slot('kept')", user="keeper")  # exempt: it is replication


def statements(daemon, pid):
    daemon.settle()
    return [r for r in daemon.journal("statement") if field(r, "server.pid") == pid]


def brief(record):
    return (field(record, "statement.form"), field(record, "statement.gate"), record.get("outcome"),
            field(record, "decision.rule"), record.get("sqlstate", ""))


@case
def every_command_is_stopped_before_it_does_anything():
    """Held the first time and stopped by its verdict; the second time by the signal in the probe itself."""
    with Cluster() as cluster, Daemon(policy("commands: [\"*_*\", SHOW]")) as daemon:
        prepare(cluster)
        with Connection(cluster, replication="database") as conn:
            time.sleep(0.5)  # until the kernel knows the session's class, no verdict is remembered for it
            for command, probe in COMMANDS:
                before = cluster.value(probe) if probe else None
                for _ in range(2):
                    result = conn.query(command)
                    check(result.sqlstate == "57014" and result.errors[0].fields.get("M") ==
                          "canceling statement due to user request", f"{command}: {result.errors}")
                    check(not result.rows and not result.tags and not result.copied and result.status == "I",
                          f"{command}: {vars(result)}")
                check(not probe or cluster.value(probe) == before, f"{command} had an effect")
            check(conn.must("SELECT 1") == [["1"]], "the session did not go on")
            records = statements(daemon, conn.pid)
        check(len(records) == 2 * len(COMMANDS) + 1, f"{len(records)} records")
        for number, record in enumerate(records[:-1]):
            command = COMMANDS[number // 2][0]
            check(brief(record) == ("replication", "replication", "prevented", "rule", "57014"),
                  f"{command}: {brief(record)}")
            check(set(record["evidence"]) == {"error", "reject_sent", "no_execution_seen"}, record["evidence"])
            held = number % 2 == 0
            check(bool(record.get("hold")) == held, f"{command}: held {record.get('hold')}, wanted {held}")
        say(f"{len(COMMANDS)} commands, each by hold and by cache: no rows, no effect, 57014, session lives")


@case
def a_physical_walsender_lives_on_and_kill_ends_it():
    """Without a database too an error is an error; kill is FATAL, and prevented."""
    with Cluster() as cluster, Daemon(policy("effects: [replication]")) as daemon:
        prepare(cluster)
        with Connection(cluster, replication="true") as conn:
            for _ in range(2):
                check(conn.query("BASE_BACKUP").sqlstate == "57014", "not denied")
            check(conn.must("SHOW port") == [[str(cluster.port)]], "SHOW is not the effect replication")
            refused = conn.query("SELECT 1")
            check(refused.errors and refused.sqlstate != "57014", f"SQL there: {refused.errors}")
            forms = [brief(r)[:3] for r in statements(daemon, conn.pid)]
            check(forms[2:] == [("replication", None, "executed"), ("replication", None, "failed")], forms)
        daemon.write_policy("p.yaml", policy("effects: [replication]", action="kill")["p.yaml"])
        daemon.reload()
        conn = Connection(cluster, replication="true")
        try:
            conn.query("BASE_BACKUP")
            check(False, "not killed")
        except (Error, Closed) as e:
            check("57P01" in str(e), f"ended with {e}")
        check(brief(statements(daemon, conn.pid)[0]) ==
              ("replication", "replication", "prevented", "rule", "57P01"), "the record of the kill")


@case
def sql_of_a_walsender_is_sql_and_counted_once():
    """One record each, judged at the parser; one that is denied never runs."""
    with Cluster() as cluster, Daemon(policy("effects: [schema_destroy]", failure="closed")) as daemon:
        prepare(cluster)
        texts = ["SELECT 1", "show port", "SHOW port", "DROP TABLE victim", "DROP TABLE victim",
                 "SELECT 1; DROP TABLE victim", "/* BASE_BACKUP */ SELECT 2", "base_backup", "NO_SUCH_COMMAND",
                 " " * 300 + "SELECT 3", "SELECT 4 -- " + "x" * 9000, "IDENTIFY_SYSTEM"]
        with Connection(cluster, replication="database") as conn:
            for text in texts:
                conn.query(text)
            records = statements(daemon, conn.pid)
        check([field(r, "statement.text").strip() for r in records] == [t.strip() for t in texts],
              [field(r, "statement.text")[:40] for r in records])
        wanted = ["executed"] * 3 + ["prevented"] * 3 + ["executed"] + ["failed"] * 2 + ["executed"] * 3
        check([r["outcome"] for r in records] == wanted, [r["outcome"] for r in records])
        forms = [field(r, "statement.form") for r in records]
        check(forms == ["simple"] * 2 + ["replication"] + ["simple"] * 8 + ["replication"], forms)
        check({field(r, "statement.gate") for r in records[3:6]} == {"parse"}, "not stopped at the parser")
        check(cluster.value("SELECT to_regclass('victim') IS NOT NULL") == "t", "the table is gone")


def base_backup(cluster, target, user="postgres"):
    return run([cluster.bin("pg_basebackup"), "-D", target, "-X", "stream", "-c", "fast", "--no-sync"],
               env=cluster.env("tcp", user=user), check_rc=False, **cluster.owner)


@case
def pg_basebackup_takes_nothing_when_denied_and_all_when_allowed():
    """The copy of the whole cluster: no file for one who is denied, a verified backup for one who is exempt."""
    with Cluster() as cluster, Daemon(policy("effects: [bulk_export]")) as daemon:
        prepare(cluster)
        for number in range(2):
            target = os.path.join(cluster.sock, f"denied{number}")
            done = base_backup(cluster, target)
            check(done.returncode and "canceling statement" in done.stderr, f"{done.returncode} {done.stderr}")
            left = [f for _, _, files in os.walk(target) for f in files]
            check(not left, f"files were made: {left}")
        told = daemon.cli("policy", "explain", "--policies", daemon.policy_dir, "BASE_BACKUP").stdout
        check("BASE_BACKUP: bulk_export replication" in told and "deny, by rule rule" in told, told)
        promise = json.loads(daemon.cli("policy", "check", "--json", daemon.policy_dir).stdout)
        check([r["postgresql_server"] for r in promise["rules"]] == ["prevent"], promise)
        target = os.path.join(cluster.sock, "allowed")
        done = base_backup(cluster, target, user="keeper")
        check(done.returncode == 0, done.stderr)
        run([cluster.bin("pg_verifybackup"), target], **cluster.owner)
        daemon.settle()
        found = [(field(r, "db_user"), r["outcome"], field(r, "decision.rule"))
                 for r in daemon.journal("statement") if "BASE_BACKUP" in field(r, "statement.text", "")]
        check(found == [("postgres", "prevented", "rule")] * 2 + [("keeper", "executed", None)], found)


class Receiver:
    """pg_receivewal on a slot, until it is ended or fails."""

    def __init__(self, cluster, *options):
        self.cluster, self.folder = cluster, os.path.join(cluster.sock, "wal")
        os.makedirs(self.folder, exist_ok=True)
        os.chown(self.folder, cluster.owner["user"], cluster.owner["group"])
        self.proc = subprocess.Popen([cluster.bin("pg_receivewal"), "-D", self.folder, "-S", "kept", "--no-sync",
                                      "--no-loop", "-s", "1", *options], env=cluster.env("tcp"),
                                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                     text=True, **cluster.owner)

    def walsender(self):
        return self.cluster.value("SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'kept'")

    def started(self):
        return wait_until(self.walsender, 10, "pg_receivewal to stream")

    def receives(self):
        """New WAL arrives, over the same walsender."""
        pid = self.walsender()
        self.cluster.psql("INSERT INTO victim SELECT generate_series(1, 20000);")
        lsn = self.cluster.value("SELECT pg_current_wal_flush_lsn()")
        wait_until(lambda: self.cluster.value(f"SELECT write_lsn >= '{lsn}' FROM pg_stat_replication "
                                              f"WHERE pid = {pid}") == "t", 15, "the stream to go on")

    def end(self):
        end_process(self.proc, (signal.SIGINT, signal.SIGKILL))
        return self.proc.stderr.read()


@case
def a_stream_goes_on_and_its_reconnect_is_denied():
    """A policy that is loaded while a walsender streams is for the next command, not for the stream."""
    with Cluster() as cluster, Daemon() as daemon:
        prepare(cluster)
        receiver = Receiver(cluster)
        pid = int(receiver.started())
        daemon.write_policy("p.yaml", policy("effects: [replication]", failure="closed")["p.yaml"])
        daemon.reload()
        for _ in range(3):
            receiver.receives()
        check(int(receiver.walsender()) == pid, "another walsender")
        again = Receiver(cluster)
        check(again.proc.wait(10) != 0, "a new stream was not denied")
        check("canceling statement" in again.end(), "not by a cancel")
        receiver.receives()
        check(receiver.proc.poll() is None and int(receiver.walsender()) == pid, "the first did not go on")
        receiver.end()
        found = [r for r in statements(daemon, pid) if "START_REPLICATION" in field(r, "statement.text", "")]
        # pg_receivewal says goodbye, and may be gone before the server has answered.
        check([brief(r)[:2] for r in found] == [("replication", None)] and found[0]["outcome"] in ("aborted", "executed"),
              [brief(r) for r in found])
        check(not set(found[0]["evidence"]) & {"no_execution_seen", "reject_sent"}, found[0]["evidence"])


@case
def policies_about_other_things_leave_replication_alone():
    """Closed policies whose rules are about other effects, and nobody there to judge: a backup, a stream, a reconnect."""
    rules = policy("effects: [schema_destroy, modify, delete]", failure="closed")
    with Cluster() as cluster, Daemon(rules) as daemon:
        prepare(cluster)
        worker = daemon.processes()["worker"]
        before = daemon.status()["counters"]
        os.kill(worker, signal.SIGSTOP)
        try:
            done = base_backup(cluster, os.path.join(cluster.sock, "copy"))
            check(done.returncode == 0, done.stderr)
            for _ in range(2):
                receiver = Receiver(cluster)
                receiver.started()
                receiver.end()
        finally:
            kill_quietly(worker, signal.SIGCONT)
        after = daemon.status()["counters"]
        changed = {k: after[k] - before.get(k, 0) for k in after
                   if k.startswith("kernel_") and after[k] != before.get(k, 0)}
        check(not {k for k in changed if "hold" in k or "fail" in k or "signal" in k or "candidate" in k},
              f"something was done: {changed}")
        # Every text is a candidate for a rule on reading; what starts a standby is still none of its business.
        daemon.write_policy("p.yaml", policy("effects: [read], columns: [\"*.ssn\"]", failure="closed")["p.yaml"])
        daemon.reload()
        worker = daemon.processes()["worker"]
        os.kill(worker, signal.SIGSTOP)
        try:
            with Connection(cluster, replication="true") as conn:
                flushed = conn.must("IDENTIFY_SYSTEM")[0][2]
                result = conn.query(f"START_REPLICATION PHYSICAL {flushed}")
                check(not result.errors and result.copied, f"START_REPLICATION: {result.errors}")
        finally:
            kill_quietly(worker, signal.SIGCONT)


@case
def without_a_verdict_the_fail_mode_decides():
    """The worker stands still: a base backup runs under an open policy and not under a closed one."""
    for failure in ("open", "closed"):
        with Cluster() as cluster, Daemon(policy("effects: [replication]", failure=failure)) as daemon:
            prepare(cluster)
            worker = daemon.processes()["worker"]
            with Connection(cluster, replication="true") as conn:
                os.kill(worker, signal.SIGSTOP)
                try:
                    result = conn.query("BASE_BACKUP (CHECKPOINT 'fast')")
                finally:
                    kill_quietly(worker, signal.SIGCONT)
                check(not cluster.stopped_backends(), "it stayed stopped")
                pid = conn.pid
            record = statements(daemon, pid)[0]
            say(f"{failure}: {brief(record)}, {result.copied} messages of data")
            if failure == "open":
                check(result.tags and result.copied and record["outcome"] == "executed", vars(result))
            else:
                check(result.sqlstate == "57014" and not result.rows and not result.copied, vars(result))
                check(record["outcome"] == "prevented" and field(record, "decision.by_fail_mode"), record)


if __name__ == "__main__":
    main()
