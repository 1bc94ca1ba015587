# SPDX-License-Identifier: Apache-2.0
"""
Every utility command, and the plans beside them, through every gate, each under a policy that denies exactly that
command: in a text of the client, prepared before the policy was loaded, in a text that a DO block runs, and from
a plan that a function cached before. What was seen is written to tests/gates-report.md; what `dbfence policy check`
promises to prevent must have been prevented there.

What happened is asked of the server: a probe per command tells its effect; whether a transaction id was spent tells
whether it had begun to write; the error's context tells whether it was stopped inside or only behind its end.
Each command is first run without dbfence, so that a probe that sees nothing cannot pass for prevention.
"""
import json
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import ROOT, Cluster, Daemon, case, check, field, main, say, wait_until  # noqa: E402
from gate_commands import COMMANDS, NOT_TRIED  # noqa: E402
from pgwire import Closed, Connection, Error  # noqa: E402

DATABASE = "guarded"
REPORT = os.path.join(ROOT, "tests", "gates-report.md")
GATES = ("parse", "execute", "nested text", "cached plan")
NESTED = GATES[2:]
EARLY = ("execute", "cached plan")  # what has to be prepared before the policy is loaded
CANCELLED = "57014"
# Relocatable or not, without dependencies; every case that makes or drops one needs one of its own.
EXTENSIONS = ("amcheck autoinc bloom btree_gin btree_gist citext cube dblink dict_int dict_xsyn file_fdw "
              "fuzzystrmatch hstore insert_username intagg intarray isn lo ltree moddatetime pageinspect "
              "pg_buffercache pg_freespacemap pg_prewarm pg_trgm").split()

SHARED = """
CREATE ROLE stranger;
CREATE FUNCTION run(text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE $1; END';
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE SCHEMA source;
CREATE TABLE source.imported (a int);
CREATE EXTENSION postgres_fdw;
CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{sock}', port '{port}', dbname 'guarded');
CREATE USER MAPPING FOR postgres SERVER loopback OPTIONS (user 'postgres');
"""

POLICY = """
apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: gates
spec:
  mode: enforce
  guarantee: prevent
  on_failure: closed
  match:
    engine: [postgresql]
    database: [guarded]
  rules:
"""

# By the application's name, so that the statement around a nested command is not denied in its place.
RULE = """    - name: {slug}
      when:
        identity:
          application_name: [gate-{slug}]
        commands: ["{tag}"]
      action: deny
"""


def slug(tag):
    return tag.lower().replace(" ", "-")


class Client(Connection):
    """Answers a request for COPY data with a row."""
    syncs = False

    def sync(self, *messages):
        self.syncs = True
        try:
            return super().sync(*messages)
        finally:
            self.syncs = False

    def send(self, *messages):
        if messages[0][:1] == b"f":  # the server ignored the Sync that came before the data
            messages = (self.message(b"d", b"7\t7\n"), self.message(b"c"), *([self.SYNC] if self.syncs else []))
        super().send(*messages)

    def answer(self, text):
        """The first value of a query, "ok" where it has none, or the error's code."""
        result = self.query(text)
        if result.errors:
            return result.sqlstate
        return result.rows[0][0] if result.rows else "ok"


class Run:
    """One command at one gate: its own objects, its connection, and what was seen."""

    def __init__(self, cluster, command, gate, phase, index, extension):
        self.cluster, self.command, self.gate = cluster, command, gate
        self.name = f"{command.label} at {gate}"
        number = (20000 if phase == "b" else 40000) + index
        self.words = {"{t}": f"{phase}{index}", "{n}": str(number), "{ext}": extension, "{dir}": cluster.dir}
        self.victim = self.words["{t}"]
        self.sql = self.fill(command.sql)
        self.conn = self.sqlstate = self.end = self.before = self.after = None
        self.wrote = self.lives = self.effect = False
        self.pid = 0

    def fill(self, text):
        for word, value in self.words.items():
            text = text.replace(word, value)
        return text

    def possible(self):
        """Why this gate is out of the command's reach, or None."""
        known = ("sql", "loop", "perform")
        return self.command.static if self.gate == "cached plan" and self.command.static not in known else None

    def setup(self):
        text = self.fill(self.command.setup)
        if self.gate != "cached plan":
            return text
        body = {"sql": self.sql + ";", "loop": f"FOR r IN {self.sql} LOOP END LOOP;",
                "perform": re.sub("^SELECT", "PERFORM", self.sql) + ";"}[self.command.static]
        head = "PROCEDURE" if self.command.caller == "CALL" else "FUNCTION"
        returns = "" if head == "PROCEDURE" else "RETURNS void "
        return text + (f"CREATE {head} w_{self.victim}() {returns}LANGUAGE plpgsql AS "
                       f"$w$ DECLARE r record; BEGIN {body} END $w$;")

    def connect(self):
        self.conn = Client(self.cluster, database=DATABASE, application=f"gate-{slug(self.command.tag)}")
        self.pid = self.conn.pid
        if self.command.session:
            for text in self.fill(self.command.session).split("; "):
                self.conn.must(text)
        if self.gate == "execute":
            result = self.conn.sync(self.conn.parse(self.sql, "early"))
            check(not result.errors, f"{self.name}: Parse failed: {result.errors}")
        elif self.gate == "cached plan":
            self.fill_plan_cache()

    def fill_plan_cache(self):
        begun = self.command.session.startswith("BEGIN")
        self.conn.must("SAVEPOINT w" if begun else "BEGIN")
        self.conn.query(self.text())  # refused or not: the plan is kept before it runs
        self.conn.must("ROLLBACK TO SAVEPOINT w" if begun else "ROLLBACK")
        if self.command.undo == "file":
            path = os.path.join(self.cluster.dir, self.victim)
            if os.path.exists(path):
                os.unlink(path)
        elif self.command.undo:
            self.conn.query(self.fill(self.command.undo))

    def text(self):
        if self.gate == "parse":
            return self.sql
        if self.gate == "cached plan":
            return f"{self.command.caller} w_{self.victim}()"
        if self.command.tag == "DO":
            return f"SELECT run($x${self.sql}$x$)"
        return f"DO $gate$ BEGIN EXECUTE $x${self.sql}$x$; END $gate$"

    def ask(self, monitor, *, result=None):
        where, probe = self.command.where, self.command.probe
        if probe is None or (where.startswith("after") and result is None):
            return None
        if where == "status":
            return result.status if result else "T" if self.command.session else "I"
        if where == "maps":
            with open(f"/proc/{self.pid}/maps", encoding="utf-8") as f:
                return probe in f.read()
        return (monitor if where == "monitor" else self.conn).answer(self.fill(probe))

    def spent(self, monitor):
        return monitor.answer("SELECT pg_snapshot_xmax(pg_current_snapshot())")

    def strike(self, monitor):
        if not self.conn:
            self.connect()
        if self.command.ahead:
            monitor.must(self.command.ahead)
        self.before, spent = self.ask(monitor), self.spent(monitor)
        try:
            if self.gate == "execute":
                result = self.conn.sync(self.conn.bind("early"), self.conn.execute())
            else:
                result = self.conn.query(self.text())
            self.sqlstate = result.sqlstate
            where = result.errors[0].fields.get("W", "") if result.errors else ""
            self.end = "inside" if " at " in where.partition("\n")[0] or 'SQL statement "' in where else "behind"
            self.judge_effect(monitor, result)
            if result.status != "I":
                self.conn.query("COMMIT" if self.command.tag == "ROLLBACK" else "ROLLBACK")
            health = "SHOW port" if self.command.tag == "SELECT" else "SELECT 'still here'"
            self.lives = not self.conn.query(health).errors
        except (Error, Closed, OSError) as e:
            self.sqlstate = getattr(e, "sqlstate", "") or "closed"
        self.wrote = self.spent(monitor) != spent and "INSERT" not in self.command.session
        self.conn.close()
        # A backend that drops its temporary tables spends a transaction id of its own.
        wait_until(lambda: not os.path.exists(f"/proc/{self.pid}"), 10, "a backend to exit", every=0.001)

    def judge_effect(self, monitor, result):
        where = self.command.where
        end = time.monotonic() + (0.5 if self.command.late else 0)
        self.after = self.ask(monitor, result=result)
        while self.after == self.before and time.monotonic() < end:
            time.sleep(0.05)
            self.after = self.ask(monitor, result=result)
        if self.command.probe is None:
            self.effect = None
        elif where.startswith("after"):
            self.effect = self.after != where.partition(":")[2]
        else:
            self.effect = self.after != self.before and not (where == "status" and self.after == "E")


def make_runs(cluster, phase):
    pool = iter(EXTENSIONS[::2] if phase == "b" else EXTENSIONS[1::2])
    runs = []
    for gate in GATES:
        for command in COMMANDS:
            extension = next(pool, "") if "{ext}" in command.sql else ""
            run = Run(cluster, command, gate, phase, len(runs), extension)
            if not run.possible():
                check(extension or "{ext}" not in command.sql, "there are too few extensions")
                runs.append(run)
    return runs


def make_objects(cluster, runs):
    head = "SET client_min_messages = error;\n"
    cluster.psql(head + "".join(run.setup() + "\n" for run in runs), database=DATABASE)


def make_database(cluster):
    cluster.psql(f"CREATE DATABASE {DATABASE};")
    cluster.psql(SHARED.format(sock=cluster.sock, port=cluster.port), database=DATABASE)
    os.chmod(cluster.dir, 0o777)
    with open(os.path.join(cluster.dir, "rows"), "w", encoding="utf-8") as f:
        f.write("7\t7\n")


def monitor_of(cluster):
    return Client(cluster, database=DATABASE, application="monitor")


def gates_cluster():
    # Without standby information a lock spends no transaction id, and nothing but the cases may spend any.
    return Cluster(settings={"max_connections": 500, "autovacuum": "off", "wal_level": "minimal",
                             "max_wal_senders": 0, "max_prepared_transactions": 100, "jit": "off",
                             "allow_in_place_tablespaces": "on", "checkpoint_timeout": "1h",
                             "max_locks_per_transaction": 256})


def listener_of(cluster):
    """Keeps the notification queue from being emptied, so that its length shows a NOTIFY."""
    conn = Client(cluster, database=DATABASE, application="listener")
    conn.must("LISTEN channel")
    conn.must("BEGIN")
    conn.must("SELECT 1")
    return conn


def all_tags():
    tags = []
    for command in COMMANDS:
        if command.tag not in tags:
            tags.append(command.tag)
    return tags


def promises(daemon):
    """{tag: (promise at the top level, promise when nested)} as policy check prints them."""
    checked = daemon.cli("policy", "check", "--json", daemon.policy_dir, check_rc=False)
    reply = json.loads(checked.stdout)
    check(not reply["errors"], f"policy check: {reply['findings']}")
    said = {r["rule"]: (r["postgresql_server"], r["postgresql_server_nested"]) for r in reply["rules"]}
    return {tag: said[slug(tag)] for tag in all_tags()}


def without_dbfence(cluster, monitor):
    """{(label, gate): run} of what each command does where nothing stops it."""
    runs = make_runs(cluster, "b")
    make_objects(cluster, runs)
    for run in runs:
        run.strike(monitor)
    return {(r.command.label, r.gate): r for r in runs}


def refused(run):
    """The server's own refusal, which is an answer too where nothing happened."""
    return bool(run.sqlstate) and run.sqlstate != CANCELLED and not run.effect


def baseline_faults(plain):
    faults = []
    for (label, gate), run in plain.items():
        if gate in NESTED and refused(run):
            continue
        if run.sqlstate:
            faults.append(f"{label} at {gate}: the server says {run.sqlstate}")
        elif run.effect is False:
            faults.append(f"{label} at {gate}: the probe sees no effect ({run.before} → {run.after})")
    return faults


def denied_records(records):
    found = {}
    for record in records:
        if field(record, "decision.action") == "deny" and field(record, "decision.mode") == "enforce":
            found.setdefault(field(record, "server.pid"), []).append(record)
    return found


def shown(run, record, plain):
    """What was seen, in a few words for the table."""
    if run.effect:
        return f"**took effect**, recorded as {record.get('outcome') if record else 'nothing'}"
    if not record:
        return f"refused by the server, {run.sqlstate}" if refused(run) else f"no record, {run.sqlstate or 'no error'}"
    text = record.get("outcome", "")
    if run.gate in NESTED:
        text += ", stopped inside" if run.end == "inside" else ", ran to its end"
        text += ", had written" if run.wrote else ""
    if run.sqlstate != CANCELLED:
        text += f", client saw {run.sqlstate or 'no error'}"
    if plain.sqlstate:
        text += f" (the server would refuse it, {plain.sqlstate})"
    gate = field(record, "statement.gate")
    return f"{text} [{gate}]"


def prevented(run, record):
    """Was the command stopped before it did anything?"""
    if run.effect or not run.lives:
        return False
    if run.gate in NESTED and refused(run):
        return True
    if not record or run.sqlstate != CANCELLED:
        return False
    if run.gate in NESTED:
        return run.end == "inside" and not run.wrote and record.get("outcome") in ("prevented", "cancelled")
    return record.get("outcome") == "prevented" and not run.wrote


def run_faults(run, denied, promise):
    faults = []
    record = denied[0] if denied else None
    if len(denied) > 1:
        faults.append(f"{len(denied)} denied records")
    if not record and not (run.gate in NESTED and refused(run)):
        faults.append("no denied record")
    if run.effect and any(r.get("outcome") == "prevented" for r in denied):
        faults.append("took effect and is recorded as prevented")
    if run.gate in NESTED and run.sqlstate == CANCELLED and run.end == "behind" and \
            any(r.get("outcome") == "prevented" for r in denied):
        faults.append("ran to its end and is recorded as prevented")
    if not run.lives:
        faults.append(f"the connection did not live ({run.sqlstate})")
    if promise == "prevent" and not prevented(run, record):
        faults.append(f"promised to be prevented, and was not: effect {run.effect}, SQLSTATE {run.sqlstate!r}, "
                      f"{run.end}, wrote {run.wrote}, record {record and record.get('outcome')}")
    if promise == "contain" and run.effect:
        faults.append("promised to be contained, and took effect")
    return [f"{run.name}: {f}" for f in faults]


REPORT_HEAD = """# What was seen at each gate

Written by tests/e2e/test_gates.py; do not edit. PostgreSQL {version}, one row per statement, each denied by a rule for
exactly its command. `prevented`, `cancelled` and so on are the outcomes in the journal, the gate that judged it is in
brackets; the rest was asked of the server: *stopped inside* means that the error came while the statement was at it,
*ran to its end* that it came behind, *had written* that it had spent a transaction id. Both are rolled back with the
caller. `prevent` needs a statement that was stopped inside, with nothing written and no effect left.

- parse: the client's text. execute: prepared before the policy was loaded. nested text: `EXECUTE` in a DO block.
  cached plan: a statement of a PL/pgSQL function that ran before the policy was loaded.
- *promised* is what `dbfence policy check` says of the command at the top level and inside functions.
- *(no probe)*: nothing that can be asked tells whether the command ran.

| statement | promised | parse | execute | nested text | cached plan |
|---|---|---|---|---|---|
"""


def write_report(version, runs, plain, records, promised):
    cells = {(r.command.label, r.gate): shown(r, (records.get(r.pid) or [None])[0], plain[(r.command.label, r.gate)])
             for r in runs}
    lines = []
    for command in COMMANDS:
        reached = [cells.get((command.label, gate), f"not tried: {command.static}") for gate in GATES]
        name = command.label + (" *(no probe)*" if command.probe is None else "")
        lines.append("| " + " | ".join([name, " / ".join(promised[command.tag]), *reached]) + " |\n")
    lines.append("\nNot tried:\n\n")
    lines += [f"- {tag}: {why}.\n" for tag, why in sorted(NOT_TRIED.items())]
    with open(REPORT + ".tmp", "w", encoding="utf-8") as f:
        f.write(REPORT_HEAD.format(version=version) + "".join(lines))
    os.rename(REPORT + ".tmp", REPORT)


def enforced(cluster, monitor, daemon):
    """The runs under the policy, the denied records by backend, and what was promised."""
    runs = make_runs(cluster, "e")
    make_objects(cluster, runs)
    for run in runs:
        if run.gate in EARLY:
            run.connect()
    daemon.write_policy("gates.yaml", POLICY + "".join(RULE.format(slug=slug(t), tag=t) for t in all_tags()))
    promised = promises(daemon)
    daemon.reload()
    for run in runs:
        run.strike(monitor)
    daemon.settle()
    return runs, denied_records(daemon.journal("statement")), promised


@case
def every_command_at_every_gate():
    """Prevent is promised only where the table says so, and nothing that took effect is recorded as prevented."""
    with gates_cluster() as cluster:
        make_database(cluster)
        with monitor_of(cluster) as monitor, listener_of(cluster):
            version = monitor.answer("SHOW server_version").split()[0].partition(".")[0]
            plain = without_dbfence(cluster, monitor)
            faults = baseline_faults(plain)
            check(not faults, f"without dbfence, {len(faults)} faults:\n    " + "\n    ".join(faults[:60]))
            with Daemon() as daemon:
                runs, records, promised = enforced(cluster, monitor, daemon)
                check(not cluster.stopped_backends(), "a backend stayed stopped")
    write_report(version, runs, plain, records, promised)
    faults = []
    for run in runs:
        promise = promised[run.command.tag][run.gate in NESTED]
        faults += run_faults(run, records.get(run.pid, []), promise)
    stopped = sum(prevented(r, (records.get(r.pid) or [None])[0]) for r in runs)
    say(f"{len(COMMANDS)} statements with {len(all_tags())} command tags, {len(runs)} cases: "
        f"{stopped} stopped before they did anything, {sum(bool(r.effect) for r in runs)} took effect")
    check(not faults, f"{len(faults)} faults:\n    " + "\n    ".join(faults[:80]))


if __name__ == "__main__":
    main()
