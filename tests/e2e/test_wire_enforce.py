# SPDX-License-Identifier: Apache-2.0
"""
Statements stopped on the wire, by the wire vantage alone: ways to drop a table, each over loopback and between network
namespaces, by IPv4 and IPv6; what is allowed, which nothing may disturb; clients that give up while their statement is held;
and processes of ours that die meanwhile.

An attack is (name, options, function): it is prepared while nothing is enforced yet, some before there is a daemon; the function
runs after the policies were loaded. Each has a table of its own as its victim.
"""
import contextlib
import json
import os
import signal
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from clients import ClientTags, libpq_pipeline, pgbench_modes, psycopg2_client  # noqa: E402
from e2e import (PINS, Cluster, Daemon, Failure, case, check, field, kill_quietly, main, run, say,  # noqa: E402
                 wait_until)
from netns import World  # noqa: E402
import oracle  # noqa: E402
from pgwire import Closed, Connection, Error  # noqa: E402
from stage import brief  # noqa: E402
from wirestop import LETS_PASS, LONG_HOLD, WAYS, WIRE, Asker, Client, at, held, node, policy, shown  # noqa: E402


# --- ways to drop a table ----------------------------------------------------------------------------------

GUARD = {
    "drop.yaml": policy(),
    "rows.yaml": policy("{effects: [modify, delete], selective: false}", name="no-unselective-writes"),
    "hidden.yaml": policy("{effects: [procedural]}", name="no-hidden-text"),
    "io.yaml": policy("{effects: [unsafe_io]}", name="no-unsafe-io"),
}
ATTACKS = []


def attack(*, ends=False, times=1, early=None, before=None, setup="", **connection):
    """
    Register an attack. @ends: True where nothing in the last packet can be changed so that the server refuses it, and the
    connection is ended; None where that depends on how the bytes fall into segments. @times: so many attempts it makes. @early(conn, t): before the policies are loaded, @before(conn, t): before the
    daemon is there. @setup: SQL, {t} is the victim. @connection: for Connection().
    """
    def register(function):
        ATTACKS.append({"name": function.__name__, "ends": ends, "times": times, "early": early, "before": before,
                        "setup": setup, "connection": connection, "run": function})
        return function
    return register


def simple(name, text, **options):
    """Simple queries with the same text: the second time the kernel knows it."""
    def function(conn, t):
        for _ in range(2):
            yield conn.query(text.format(t=t, port=conn.sock.getpeername()[1]))
    function.__name__ = name
    attack(times=2, **options)(function)


LONG = "x" * 60000
simple("direct", "DROP TABLE {t}")
simple("lower_case", "drop table {t}")
simple("mixed_case_and_space", "\n\t dRoP\r\n  TaBlE\f{t} ;;")
simple("commented", "DROP/**/TABLE/* a /* nested */ comment */{t}-- end")
simple("comment_in_front", "-- SELECT 1\n/* SELECT 2 */ DROP TABLE {t}")
simple("second_statement", "SELECT 1; DROP TABLE {t}")
simple("between_statements", "SELECT 1; DROP TABLE {t}; SELECT 2")
simple("after_escape_string", "SELECT E'O\\'Brien'; DROP TABLE {t} --'")
simple("after_dollar_quote", "SELECT $a$ ; $b$ ' $a$; DROP TABLE {t}")
simple("unicode_in_front", "SELECT 'äöü€𝄞'; DROP TABLE {t}")
simple("60_kb_in_front", "/*" + LONG + "*/ DROP TABLE {t}")
simple("60_kb_behind", "DROP TABLE {t} /*" + LONG + "*/")
simple("600_kb_in_front", "SELECT '" + LONG * 10 + "'; DROP TABLE {t}")
simple("600_kb_behind", "DROP TABLE {t} /*" + LONG * 10 + "*/")
simple("column", "ALTER TABLE {t} DROP COLUMN id")
simple("rows_in_cte", "WITH d AS (DELETE FROM {t} RETURNING 1) SELECT count(*) FROM d")
simple("rows_in_explain", "EXPLAIN ANALYZE DELETE FROM {t}")
simple("in_do", "DO $$ BEGIN DROP TABLE {t}; END $$")
simple("in_do_built_at_run_time", "DO $$ BEGIN EXECUTE 'DR' || 'OP TABLE {t}'; END $$")
simple("by_procedure", "CALL p_{t}()", setup="CREATE PROCEDURE p_{t}() LANGUAGE plpgsql AS $f$ BEGIN DROP TABLE {t}; END $f$;")
simple("by_program", "COPY (SELECT 1) TO PROGRAM 'psql -X -h \"$PWD/../sock\" -p {port} -U postgres -c \"DROP TABLE {t}\"'")
simple("byte_by_byte", "DROP TABLE {t}", chunk=1)
simple("by_an_sql_execute", "EXECUTE early", early=lambda conn, t: conn.must(f"PREPARE early AS DELETE FROM {t}"))
simple("by_an_sql_execute_from_before", "EXECUTE early", before=lambda conn, t: conn.must(f"PREPARE early AS DELETE FROM {t}"))


@attack()
def extended(conn, t):
    yield conn.extended(f"DROP TABLE {t}")


def one_by_one(conn, data):
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # why it was ended is there to be read
        for byte in data:
            conn.sock.sendall(bytes([byte]))
    return conn.read()


@attack(ends=None)
def extended_byte_by_byte(conn, t):
    yield one_by_one(conn, conn.parse(f"DROP TABLE {t}") + conn.bind() + conn.execute() + conn.SYNC)


@attack()
def extended_in_single_messages(conn, t):
    for message in (conn.parse(f"DROP TABLE {t}"), conn.bind(), conn.execute()):
        conn.send(message)
    yield conn.sync()


@attack()
def extended_60_kb_in_front(conn, t):
    yield conn.extended("/*" + LONG + f"*/ DROP TABLE {t}")


@attack()
def extended_60_kb_behind(conn, t):
    yield conn.extended(f"DROP TABLE {t} /*" + LONG + "*/")


@attack()
def extended_600_kb_in_front(conn, t):
    yield conn.pipeline(conn.parse("/*" + LONG * 10 + f"*/ DROP TABLE {t}"), conn.bind(), conn.execute())


@attack()
def named_statement(conn, t):
    first = conn.sync(conn.parse(f"DROP TABLE {t}", "n"))
    second = conn.sync(conn.bind("n"), conn.execute())
    check(second.sqlstate == "26000", f"what was refused was prepared: {second.errors or second.tags}")
    yield first


@attack()
def pipelined(conn, t):
    yield conn.sync(*(m for text in ("SELECT 1", f"DROP TABLE {t}", "SELECT 2")
                      for m in (conn.parse(text), conn.bind(), conn.execute())))


@attack()
def name_used_again(conn, t):
    conn.sync(conn.parse("SELECT 1", "s"), conn.bind("s"), conn.execute())
    yield conn.sync(conn.close_name(b"S", "s"), conn.parse(f"DROP TABLE {t}", "s"), conn.bind("s"), conn.execute())


@attack()
def many_in_one_segment(conn, t):
    texts = [f"SELECT {i}" for i in range(100)] + [f"DROP TABLE {t}"] + [f"SELECT {i}" for i in range(100)]
    conn.send(*(conn.message(b"Q", text.encode() + b"\0") for text in texts))
    answers = [conn.read() for _ in texts]
    check([a.tags for a in answers].count(["SELECT 1"]) == 200, "an innocent one did not run")
    yield answers[100]


@attack()
def behind_a_long_innocent_one(conn, t):
    conn.send(conn.message(b"Q", b"SELECT '" + LONG.encode() + b"'\0"), conn.message(b"Q", f"DROP TABLE {t}\0".encode()))
    check(conn.read().tags == ["SELECT 1"], "the innocent one did not run")
    yield conn.read()


def cut(conn, message, where):
    """@message in two segments."""
    conn.sock.sendall(message[:where])
    time.sleep(0.002)
    conn.sock.sendall(message[where:])
    return conn.read()


HEAD = 5 + len("DROP TABLE ")


@attack(times=10)
def cut_everywhere(conn, t):
    """In the head, behind it, in the first word, in front of the name, in front of the NUL; each with a text of its own."""
    for where in (1, 4, 5, 6, 7, 9, HEAD, HEAD + 1, -2, -1):
        yield cut(conn, conn.message(b"Q", f"DROP TABLE {t}  -- {where}\0".encode()), where)


@attack(times=8)
def extended_cut_everywhere(conn, t):
    """Of a Parse, up to the last byte of its text; with the end of its text in the second segment."""
    for where in (1, 5, 6, 7, HEAD, HEAD + 1, -4, -5):
        parse = conn.parse(f"DROP TABLE {t}  -- {where}")
        yield cut(conn, parse + conn.bind() + conn.execute() + conn.SYNC, where % len(parse))


@attack()
def parameter_types_behind_the_cut(conn, t):
    """The text has gone; what is left of its Parse is how many parameter types it has, which are too many then."""
    parse = conn.parse(f"DROP TABLE {t}")
    yield cut(conn, parse + conn.bind() + conn.execute() + conn.SYNC, len(parse) - 2)


@attack(ends=True)
def parameter_types_in_a_segment_of_their_own(conn, t):
    parse = conn.message(b"P", f"\0DROP TABLE {t}\0".encode() + struct.pack("!HII", 2, 23, 25))
    yield cut(conn, parse + conn.bind(args=(1, 2)) + conn.execute() + conn.SYNC, len(parse) - 4)


@attack(behind=lambda t: Connection.message(b"Q", f"DROP TABLE {t}\0".encode()))
def behind_the_start_up_packet(conn, _t):
    yield conn.read()


@attack()
def with_changed_string_syntax(conn, t):
    conn.must("SET standard_conforming_strings = off")
    yield conn.query(f"SELECT 'a\\'; SELECT '; DROP TABLE {t} --'")


@attack()
def behind_a_change_of_the_string_syntax(conn, t):
    """In one segment: it was not changed yet when the text was judged."""
    texts = ("SET standard_conforming_strings = off", f"SELECT 'a\\'; SELECT '; DROP TABLE {t} --'")
    conn.send(*(conn.message(b"Q", text.encode() + b"\0") for text in texts))
    conn.read()
    yield conn.read()


@attack()
def in_an_encoding_whose_characters_hold_backslashes(conn, t):
    conn.must("SET standard_conforming_strings = off; SET client_encoding = 'GBK'")
    conn.send(conn.message(b"Q", b"SELECT '\xbf\\'; DROP TABLE " + t.encode() + b" --'\0"))
    yield conn.read()


def prepared(conn, t, name="early"):
    result = conn.sync(conn.parse(f"DROP TABLE {t}", name))
    check(not result.errors, f"the setup's Parse failed: {result.errors}")


def bound(conn, t):
    conn.must("BEGIN")
    result = conn.sync(conn.parse(f"DROP TABLE {t}"), conn.bind(portal="p"))
    check(not result.errors, f"the setup's Bind failed: {result.errors}")


def executes(name, **options):
    def function(conn, _t):
        yield conn.sync(conn.bind("early"), conn.execute())
    function.__name__ = name
    attack(**options)(function)


executes("prepared_before_the_policy", early=prepared)
executes("prepared_before_the_daemon", before=prepared)


@attack(early=prepared)
def prepared_before_the_policy_pipelined(conn, _t):
    yield conn.sync(conn.parse("SELECT 1"), conn.bind(), conn.execute(), conn.bind("early"), conn.execute())


@attack(early=prepared, ends=None)
def prepared_before_the_policy_byte_by_byte(conn, _t):
    yield one_by_one(conn, conn.bind("early") + conn.execute() + conn.SYNC)


@attack(early=lambda conn, t: [prepared(conn, t, f"n{i}") for i in range(20)], times=20)
def twenty_prepared_before_the_policy(conn, _t):
    for i in range(20):
        yield conn.sync(conn.bind(f"n{i}"), conn.execute())


@attack(early=lambda conn, t: prepared(conn, t, ""))
def unnamed_prepared_before_the_policy(conn, _t):
    yield conn.sync(conn.bind(), conn.execute())


@attack(early=prepared)
def prepared_before_the_policy_behind_innocent_ones(conn, _t):
    """What it prepares and runs now is allowed, again and again; that must not vouch for what it prepared earlier."""
    for i in range(5):
        check(conn.extended(f"SELECT {i}").tags == ["SELECT 1"], "an innocent one did not run")
    conn.sync(conn.parse("SELECT 1", "fine"))
    for _ in range(3):
        check(conn.sync(conn.bind("fine"), conn.execute()).tags == ["SELECT 1"], "an innocent one did not run")
    yield conn.sync(conn.bind("early"), conn.execute())


@attack(early=bound)
def bound_before_the_policy(conn, _t):
    yield conn.sync(conn.execute("p"))


@attack(before=bound)
def bound_before_the_daemon(conn, _t):
    yield conn.sync(conn.execute("p"))


@attack(setup="CREATE FUNCTION f_{t}() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN DROP TABLE {t}; RETURN 1; END $f$;",
        early=lambda conn, t: setattr(conn, "oid", int(conn.must(f"SELECT 'f_{t}'::regproc::oid")[0][0])))
def function_call_message(conn, _t):
    conn.send(conn.function_call(conn.oid))
    yield conn.read()


class Attempt:
    """One attack by one address: its victim, its connection, and what the client saw."""

    def __init__(self, server, index, what, family):
        self.what, self.server = what, server
        self.name = f"{what['name']} by {server.host}"
        self.victim = f"v{index}_{family}"
        self.conn = self.peer = None
        self.faults, self.answers = [], []

    def connect(self):
        options = dict(self.what["connection"])
        if "behind" in options:
            options["behind"] = options["behind"](self.victim)
        self.conn = Connection(self.server, "tcp", application=self.what["name"], timeout=10, **options)
        self.peer = self.conn.sock.getsockname()[:2]

    def prepare(self, when):
        if self.what[when]:
            self.connect()
            self.what[when](self.conn, self.victim)

    def strike(self):
        if not self.conn:
            self.connect()
        try:
            for result in self.what["run"](self.conn, self.victim):
                self.answers.append(result.sqlstate or f"{result.tags}")
            self.conn.query("COMMIT")
            check(self.conn.query("SELECT 'still here'").rows == [["still here"]], "it does not go on")
        except (Error, Closed, OSError, Failure) as e:
            self.answers.append(e)
        self.conn.close()

    def client_faults(self):
        """42601: the token that stands there now; 08P01: a message that does not add up; 42883: no such function."""
        told = [isinstance(a, Error) and "blocked by policy no" in str(a) for a in self.answers]
        if self.what["ends"] or (any(told) and self.what["ends"] is None):
            return [] if told == [True] else [f"the client saw {self.answers}"]
        wrong = [str(a) for a in self.answers if a not in ("42601", "08P01", "42883")]
        return [f"the client saw {wrong[:3]}"] if wrong or len(self.answers) != self.what["times"] else []

    def survived(self, cluster):
        return cluster.psql(f"SELECT count(id) FROM {self.victim}", check_rc=False).stdout.strip() == "10"

    def record_faults(self, records):
        denied = [r for r in records if field(r, "decision.action") == "deny"]
        found = [f"{len(denied)} denied records: {[brief(r) for r in records][:6]}"] if len(denied) != self.what["times"] else []
        # Where the replies of a connection from before the daemon begin is only known behind its first answer.
        unseen = [r for r in denied[:1] if self.what["before"] and r["outcome"] == "unknown" and r["evidence"] == ["reject_sent"]]
        found += [f"{brief(r)}, evidence {r.get('evidence')}" for r in denied
                  if r not in unseen and (r["outcome"] != "prevented" or not r.get("evidence"))]
        found += [f"no rule named: {r.get('decision')}" for r in denied if not field(r, "decision.rule")]
        return found[:3]


def attempts_on(cluster, hosts):
    made = []
    for family, host in hosts.items():
        server = at(cluster, host)
        made += [Attempt(server, i, a, family) for i, a in enumerate(ATTACKS)]
    for a in made:
        cluster_setup = f"CREATE TABLE {a.victim} AS SELECT generate_series(1, 10) AS id; " + a.what["setup"].format(t=a.victim)
        a.sql = cluster_setup
    cluster.psql("".join(a.sql for a in made))
    for a in made:
        a.prepare("before")
    return made


def settings(**more):
    return dict(listen_addresses="*", max_connections=300, **more)


@case
def every_attack_works_without_dbfence():
    """An attack that the server refuses by itself would prove nothing; needs no daemon."""
    with Cluster(settings=settings()) as cluster:
        attempts = attempts_on(cluster, {4: "127.0.0.1"})
        for a in attempts:
            a.prepare("early")
        for a in attempts:
            a.strike()
        idle = [f"{a.name}: {a.answers}" for a in attempts if a.survived(cluster)]
    say(f"{len(attempts)} attacks")
    check(not idle, "without dbfence these attacks do nothing:\n    " + "\n    ".join(idle))


def load(daemon, policies):
    for name, text in policies.items():
        daemon.write_policy(name, text)
    daemon.reload()


def attack_all(kind, hosts, ends=None):
    with World(kind) as world, Cluster(settings=settings(), world=world) as cluster:
        attempts = attempts_on(cluster, hosts)
        with Daemon(args=[*node(world, ends), "--hold-ms", "2000"]) as daemon:
            for a in attempts:
                a.prepare("early")
            load(daemon, GUARD)
            start = time.monotonic()
            for a in attempts:
                a.strike()
            took = time.monotonic() - start
            daemon.settle()
            records = {}
            for r in daemon.journal("statement"):
                records.setdefault((field(r, "client.address"), field(r, "client.port")), []).append(r)
            counters = daemon.status()["counters"]
        faults = []
        for a in attempts:
            faults += [f"{a.name}: {f}" for f in [*a.client_faults(), *a.record_faults(records.get(a.peer, ()))]]
            faults += [] if a.survived(cluster) else [f"{a.name}: THE VICTIM DID NOT SURVIVE"]
    say(f"{len(attempts)} attacks in {took:.1f} s; " + shown(counters))
    check(not faults, f"{len(faults)} faults:\n    " + "\n    ".join(faults[:40]))
    check(not counters["kernel_wire_leaked"], "a packet passed a device unchanged")


@case
def attacks_over_loopback_are_prevented():
    attack_all("lo", {4: "127.0.0.1", 6: "::1"})


@case
def attacks_between_namespaces_are_prevented():
    attack_all("veth", {4: "198.51.100.1", 6: "2001:db8::1"})


@case
def attacks_from_elsewhere_over_loopback_are_prevented():
    attack_all("lo", {4: "127.0.0.1", 6: "::1"}, "server")


@case
def attacks_from_elsewhere_between_namespaces_are_prevented():
    attack_all("veth", {4: "198.51.100.1", 6: "2001:db8::1"}, "server")


# --- what is allowed ---------------------------------------------------------------------------------------

def not_disturbed(kind, ends=None, **world_args):
    """Every UPDATE and DELETE is a candidate, held when it is first seen; the journal equals the server's log."""
    everybody = "{identity: {db_user: [postgres, bench]}}"
    asked = {"drop.yaml": policy(), "writes.yaml": policy("{effects: [modify, delete]}", name="no-writes", unless=everybody)}
    with World(kind, **world_args) as world, Cluster(log_all=True, world=world) as cluster:
        cluster.psql("CREATE ROLE bench LOGIN SUPERUSER; CREATE TABLE pipeline_t (id int, v text); CREATE TABLE copied (id int, v text);")
        cluster.pgbench("-i", "-q", "-s", "1", user="bench")
        start, tags = os.path.getsize(cluster.csvlog), ClientTags()
        with Daemon(asked, args=[*node(world, ends), "--hold-ms", "3000"]) as daemon:
            for client in (pgbench_modes, libpq_pipeline, psycopg2_client):
                client(cluster, "tcp", tags, 2000)
            with Connection(cluster, "tcp", application="copy") as conn:
                conn.copy_in = [b"".join(f"{i * 100 + n}\tDROP TABLE copied\n".encode() for n in range(100)) for i in range(100)]
                check(conn.query("COPY copied FROM STDIN").tags == ["COPY 10000"], "COPY FROM")
                check(conn.query("COPY copied TO STDOUT").copied == 10000, "COPY TO")
            daemon.settle()
            journal = oracle.WireJournal(daemon.records(), cluster)
            counters = daemon.status()["counters"]
        log = oracle.read_csvlog(cluster.csvlog, start, by=oracle.FROM)
    say(f"{sum(len(s.statements) for s in log.values())} executions; {shown(counters)}")
    found = oracle.compare(log, journal) + tags.rename(log).differences(journal)
    check(not found and not journal.lost, "\n    ".join(map(str, [*found, *journal.gaps[:3]])))
    check(counters["kernel_wire_holds"] > 100, "next to nothing was held")
    check(not counters["kernel_wire_rewrites"] and not counters["kernel_wire_overdue"] and not counters["kernel_fail_closed"],
          f"{shown(counters)}, failed closed {counters['kernel_fail_closed']}, {journal.gaps[:3]}")


@case
def what_is_allowed_is_not_disturbed():
    not_disturbed("lo")


@case
def what_is_allowed_from_elsewhere_is_not_disturbed():
    not_disturbed("lo", "server")


@case
def what_is_allowed_from_elsewhere_passes_on_a_bad_line():
    """Of the segments 1 % each are lost, come twice, and late."""
    not_disturbed("veth", "server", mangle=True, segments=True)


# --- clients that give up ------------------------------------------------------------------------------------

@contextlib.contextmanager
def given_up(kind, hosts, ends=None):
    """
    (cluster, daemon, worker): with the worker stopped, every way to give up a held DROP was gone, at each of @hosts. A client
    elsewhere is held for a short time only, so each gives up at once.
    """
    with World(kind, patient=bool(ends)) as world, Cluster(settings=settings(), world=world) as cluster, \
            Daemon({"drop.yaml": LETS_PASS}, args=[*node(world, ends), *LONG_HOLD]) as daemon:
        victims = [f"v{i}_{how}" for i in range(len(hosts)) for how in WAYS]
        cluster.psql("".join(f"CREATE TABLE {v} ();" for v in [*victims, "control"]))
        with Connection(cluster, "tcp") as conn:
            check(conn.query("DROP TABLE control").tags == ["DROP TABLE"], "a DROP is not allowed to begin with")
        worker, before = daemon.processes()["worker"], held(daemon)
        clients = [Client(at(cluster, hosts[i]), [f"DROP TABLE v{i}_{how}"], how) for i in range(len(hosts)) for how in WAYS]
        os.kill(worker, signal.SIGSTOP)
        try:
            for client in clients:
                client.send()
                if ends:
                    client.give_up()
            check(held(daemon) - before == len(clients), f"{held(daemon) - before} of {len(clients)} were held")
            for client in clients if not ends else []:
                client.give_up()
            yield cluster, daemon, worker
            time.sleep(0.3)
            left = cluster.value(f"SELECT count(*) FROM pg_class WHERE relname LIKE 'v%\\_%' AND relname IN ({str(victims)[1:-1]})")
            check(left == str(len(victims)), f"{len(victims) - int(left)} of {len(victims)} were dropped behind their client's back")
        finally:
            kill_quietly(worker, signal.SIGCONT)
            for client in clients:
                client.end()


LOOPBACK, BETWEEN = ("lo", ["127.0.0.1", "::1"]), ("veth", ["198.51.100.1", "2001:db8::1"])


def gone_on(daemon, worker):
    """The verdict comes now, and would let them pass."""
    os.kill(worker, signal.SIGCONT)
    time.sleep(1)
    daemon.settle()
    found = [r for r in daemon.journal("statement") if r.get("application_name") in WAYS]
    got = [(r["application_name"], r["outcome"], "never_sent" in r.get("evidence", ())) for r in found]
    check(sorted(got) == sorted((how, "prevented", True) for how in WAYS for _ in range(2)),
          f"{got}; {shown(daemon.status()['counters'])}")


@case
def given_up_over_loopback_and_allowed_then():
    with given_up(*LOOPBACK) as (_cluster, daemon, worker):
        gone_on(daemon, worker)


@case
def given_up_between_namespaces_and_allowed_then():
    with given_up(*BETWEEN) as (_cluster, daemon, worker):
        gone_on(daemon, worker)


@case
def given_up_elsewhere_and_allowed_then():
    with given_up(*BETWEEN, "server") as (_cluster, daemon, worker):
        gone_on(daemon, worker)


@case
def given_up_elsewhere_and_the_daemon_stopped():
    with given_up(*BETWEEN, "server") as (_cluster, daemon, _worker):
        daemon.stop()
        time.sleep(1)
        nothing_left_after(daemon)


@case
def given_up_elsewhere_and_every_process_killed():
    with given_up(*BETWEEN, "server") as (_cluster, daemon, _worker):
        daemon.kill_all()
        time.sleep(1)
        nothing_left_after(daemon)
        time.sleep(1)


@case
def given_up_and_the_daemon_stopped():
    with given_up(*BETWEEN) as (_cluster, daemon, _worker):
        daemon.stop()
        time.sleep(1)
        nothing_left_after(daemon)


@case
def given_up_and_every_process_killed():
    """What is pinned refuses on; disarm ends the sockets before it takes it away."""
    with given_up(*BETWEEN) as (_cluster, daemon, _worker):
        daemon.kill_all()
        time.sleep(1)
        nothing_left_after(daemon)
        time.sleep(1)


def nothing_left_after(daemon):
    said = daemon.cli("disarm").stdout
    check(not os.path.isdir(PINS) or not os.listdir(PINS), f"pins are left: {said}")
    for space in [None, *(line.split()[0] for line in run(["ip", "netns"]).stdout.splitlines())]:
        where = ["-n", space] if space else []
        for device in json.loads(run(["ip", "-j", *where, "link"]).stdout):
            filters = run(["tc", *where, "filter", "show", "dev", device["ifname"], "egress"], check_rc=False).stdout
            check("dbfence" not in filters, f"a filter is left on {device['ifname']} of {space}: {filters}")


# --- processes of ours that die --------------------------------------------------------------------------

HOLD_S = 0.4
# TCP's own tries, where nobody pokes it: after 0.2, 0.6 and 1.4 s.
PATIENCE_S = 1.6
ROLES = {"worker": ["worker"], "keeper": ["keeper"],
         "every_process": ["keeper", "dead-man", "worker", "recorder"]}


MODES = {"drop.yaml": policy(), "delete.yaml": policy("{effects: [delete], selective: false}", name="no-delete", failure="open")}


def ended_by_its_fail_mode(asker, what, wanted):
    answer = asker.answer()
    say(f"{answer} after {asker.took:.2f} s")
    judged = what == "worker" and asker.took < HOLD_S and answer == "42601"  # by the next one
    check(judged or answer == wanted, f"{asker.text}: the client got {answer}")
    check(asker.took < HOLD_S + PATIENCE_S, f"it was held for {asker.took:.1f} s")
    check(asker.conn.query("SELECT 1").tags == ["SELECT 1"], "the connection does not go on")


def killed_during_a_hold(what):
    """The fail mode ends it, a restart takes over."""
    with World("lo") as world, Cluster(world=world) as cluster, \
            Daemon(MODES, args=[*WIRE, "--hold-ms", str(int(HOLD_S * 1000))]) as daemon:
        cluster.psql("CREATE TABLE victim (); CREATE TABLE emptied ();")
        processes, before = daemon.processes(), held(daemon)
        os.kill(processes["worker"], signal.SIGSTOP)
        askers = [Asker(cluster, text) for text in ("DROP TABLE victim", "DELETE FROM emptied")]
        wait_until(lambda: held(daemon) >= before + 2, 0.3, "the holds", every=0.01)
        for role in ROLES[what]:
            kill_quietly(processes[role], signal.SIGKILL)
        for asker, wanted in zip(askers, ("42601", "DELETE 0")):
            ended_by_its_fail_mode(asker, what, wanted)
        kill_quietly(processes["worker"], signal.SIGCONT)
        if what in ("keeper", "every_process"):
            wait_until(lambda: not daemon.alive(), 10, "dbfenced to end with its keeper")
            with Connection(cluster, "tcp") as conn:
                check([conn.query(text + " /* dead */").sqlstate for text in ("DROP TABLE victim", "DELETE FROM emptied")] ==
                      ["42601", ""], "with nobody alive")
            daemon.start()
        else:
            wait_until(lambda: daemon.processes().get(what) not in (None, 0, processes[what]), 10, "the process to be replaced")
            time.sleep(0.5)
        with Connection(cluster, "tcp", application="after") as conn:
            check(conn.query("DELETE FROM emptied /* after */").sqlstate == "42601", "it is not judged any more")
        daemon.wait_journal(lambda r: r.get("application_name") == "after" and r.get("outcome") == "prevented")


def register(what):
    def function():
        killed_during_a_hold(what)
    function.__name__ = f"{what}_killed_during_a_hold"
    case(function)


for _what in ROLES:
    register(_what)


@case
def disarmed_with_statements_held():
    """Every process dead, three held: by their fail mode they end before anything is taken away."""
    with World("veth") as world, Cluster(world=world) as cluster, Daemon({"p.yaml": policy()}, args=[*WIRE, *LONG_HOLD]) as daemon:
        cluster.psql("CREATE TABLE victim ();")
        before = held(daemon)
        os.kill(daemon.processes()["worker"], signal.SIGSTOP)
        askers = [Asker(cluster, f"DROP TABLE victim /* {i} */") for i in range(3)]
        wait_until(lambda: held(daemon) == before + 3, 2, "the holds")
        daemon.kill_all()
        start = time.monotonic()
        nothing_left_after(daemon)
        answers = [a.answer() for a in askers]
        say(f"disarmed in {time.monotonic() - start:.2f} s: {answers}")
        check(answers == ["42601"] * 3 and cluster.value("SELECT count(*) FROM pg_class WHERE relname = 'victim'") == "1", answers)
        with Connection(cluster, "tcp") as conn:
            check(conn.query("DROP TABLE victim").tags == ["DROP TABLE"], "it is still enforced")


@case
def a_device_that_is_added_is_covered():
    """Another veth pair while it is enforced; and a namespace that is removed is not kept by the daemon."""
    witness = f"dbf{os.getpid()}x"  # goes with the namespace of its other end
    with contextlib.ExitStack() as servers:
        world = servers.enter_context(World("veth"))
        cluster = servers.enter_context(Cluster(settings=settings(), world=world))
        with Daemon({"p.yaml": policy()}, args=WIRE):
            space, far = world.server.netns, world.client.netns
            cluster.psql("CREATE TABLE victim ();")
            run(["ip", "link", "add", "name", witness, "type", "veth", "peer", "name", "w0", "netns", space])
            run(["ip", "-n", space, "link", "add", "name", "v1", "type", "veth", "peer", "name", "v1", "netns", far])
            for name, address in ((space, "203.0.113.1/30"), (far, "203.0.113.2/30")):
                run(["ip", "-n", name, "address", "add", address, "dev", "v1"])
                run(["ip", "-n", name, "link", "set", "v1", "up"])
            with Connection(at(cluster, "203.0.113.1"), "tcp") as conn:
                start = time.monotonic()
                check(conn.query("DROP TABLE victim").sqlstate == "42601", "over the new pair it ran")
                say(f"denied {time.monotonic() - start:.2f} s after the pair was there")
            servers.close()
            wait_until(lambda: not os.path.exists(f"/sys/class/net/{witness}"), 10, "the namespace to go")


# --- killing, and what shows ---------------------------------------------------------------------------------

def kill_names_its_rule(kind, ends=None):
    with World(kind) as world, Cluster(world=world) as cluster, \
            Daemon({"p.yaml": policy(action="kill")}, args=node(world, ends)) as daemon:
        cluster.psql("CREATE TABLE stays ();")
        for ask, text in (("query", "DROP TABLE stays"), ("extended", "DROP TABLE stays;"), ("query", "DROP TABLE stays")):
            conn = Connection(cluster, "tcp", application="killed")
            time.sleep(0.1)  # a verdict is known for whoever is known to ask
            try:
                result = getattr(conn, ask)(text)
                check(False, f"the session lives: {result.tags} {result.errors}")
            except Error as e:
                check(e.severity == "FATAL" and "blocked by policy no_drop" in str(e), f"the client reads {e}")
            wait_until(lambda: conn.pid not in cluster.backends(), 5, "the backend to end")
            conn.close()
        check(cluster.value("SELECT to_regclass('stays')") == "stays", "the table did not survive")
        found = daemon.wait_journal(lambda r: r.get("application_name") == "killed" and field(r, "decision.action") == "kill")
        daemon.settle()
        found = [r for r in daemon.journal("statement") if field(r, "decision.action") == "kill"]
        got = [(r["outcome"], field(r, "decision.rule")) for r in found]
        check(got == [("prevented", "no-drop")] * 3, f"{got}: {[r.get('evidence') for r in found]}")
        said = daemon.cli("status").stdout
        counters = daemon.status()["counters"]
        check(counters["kernel_wire_kills"] == 3 and counters["kernel_wire_holds"] == (3 if ends else 2), shown(counters))
        check("wire" in said, f"status says nothing of the wire: {said}")
        daemon.stop()
        nothing_left_after(daemon)


@case
def kill_ends_the_connection_with_the_rule_named():
    kill_names_its_rule("lo")


@case
def kill_from_elsewhere_ends_the_connection_with_the_rule_named():
    kill_names_its_rule("veth", "server")


if __name__ == "__main__":
    main()
