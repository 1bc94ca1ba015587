# SPDX-License-Identifier: Apache-2.0
"""
Which processes a record of the wire names: who sent the statement, at the moment of sending, by whatever way the bytes came into
the socket; and the server's process. Through NAT, through a pooler, of connections that were there before the daemon, and
where only one end is on the node.
"""
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from bouncer import Bouncer  # noqa: E402
from clients import built  # noqa: E402
from e2e import Cluster, Daemon, Skip, case, check, field, kill_quietly, main, run, say, wait_until  # noqa: E402
from netns import World  # noqa: E402
from pgwire import Connection  # noqa: E402
from stage import Stage, brief  # noqa: E402

NOBODY = 65534
STAGE = Stage()
scenario = STAGE.scenario
EXE = os.path.realpath("/proc/self/exe")


def expect_ends(record, *, pid, backend, exe=EXE, uid=0):
    got = {key: field(record, "client." + key) for key in ("pid", "exe", "uid", "known", "assurance")}
    want = {"pid": pid, "exe": exe, "uid": uid, "known": True, "assurance": "kernel"}
    check(got == want, f"{brief(record)}: the record says {got}, and the client is {want}")
    check(field(record, "server.pid") == backend, f"{brief(record)}: backend {field(record, 'server.pid')}, not {backend}")


def expect(record, **ends):
    expect_ends(record, **ends)
    check(record["outcome"] == "executed" and record.get("rows") == 1, brief(record))


def by_text(seen, application):
    return {field(r, "statement.text"): r for r in seen.statements(application)}


class Program:
    """@argv where the clients live, with pipes; it has one line of input for each step, and answers with a line."""

    def __init__(self, server, argv, **kw):
        with server.client:
            self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **kw)
        self.pid = self.proc.pid

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        with contextlib.suppress(OSError):
            self.proc.stdin.close()
        self.proc.stdout.read()
        self.proc.wait(20)
        self.proc.stdout.close()

    def step(self, line=""):
        self.proc.stdin.write(line + "\n")
        self.proc.stdin.flush()
        return self.answer()

    def answer(self):
        return self.proc.stdout.readline().strip()


def psql(server, application, *prefix):
    env = dict(server.env("tcp"), PGAPPNAME=application)
    return Program(server, [*prefix, server.bin("psql"), "-X", "-q", "-A", "-t"], env=env, cwd="/")


# Over the socket that it has as its standard input: a query, its answer until ReadyForQuery, then a line.
ASK = r"""
import os, struct, sys
text = ("SELECT '%s'" % sys.argv[1]).encode() + b"\0"
os.write(0, b"Q" + struct.pack("!I", len(text) + 4) + text)
data = b""
while not data.endswith(b"Z\0\0\0\5I"):
    data += os.read(0, 65536)
print(os.getpid())
"""
PERL = r"""
open S, "+<&=0"; $text = "SELECT 'of perl'\0"; $data = ""; syswrite S, "Q" . pack("N", 4 + length $text) . $text;
while (substr($data, -6) ne "Z\0\0\0\5I") { sysread S, $data, 65536, length $data; }
print "done\n";
"""


# --- one connection, and who uses it -------------------------------------------------------------------------

@scenario
def a_plain_client(server):
    with psql(server, "plain") as program:
        backend = int(program.step("SELECT pg_backend_pid();"))
    seen = yield
    record = seen.one("plain")
    expect(record, pid=program.pid, backend=backend, exe=server.bin("psql"))
    check(field(record, "client.cgroup", "").endswith("/client"), f"control group {field(record, 'client.cgroup')}")


@scenario
def another_user(server):
    with psql(server, "nobody", "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups") as program:
        backend = int(program.step("SELECT pg_backend_pid();"))
    seen = yield
    expect(seen.one("nobody"), pid=program.pid, backend=backend, exe=server.bin("psql"), uid=NOBODY)


@scenario
def the_child_that_sends_after_a_fork(server):
    """Parent and child take turns on one connection."""
    with Connection(server, "tcp", application="fork") as conn:
        conn.must("SELECT 'of the parent'")
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                conn.must("SELECT 'of the child'")
                os._exit(0)
            os._exit(1)
        check(os.waitpid(child, 0)[1] == 0, "the child failed")
        conn.must("SELECT 'of the parent again'")
        backend = conn.pid
    seen = yield
    found = by_text(seen, "fork")
    expect(found["SELECT 'of the parent'"], pid=os.getpid(), backend=backend)
    expect(found["SELECT 'of the child'"], pid=child, backend=backend)
    expect(found["SELECT 'of the parent again'"], pid=os.getpid(), backend=backend)


@scenario
def the_process_that_was_given_the_socket(server):
    """By SCM_RIGHTS: it neither connected nor inherited anything."""
    given = ("import socket, sys, os\ns = socket.socket(fileno=3)\nfd = socket.recv_fds(s, 1, 1)[1][0]\n"
             "os.dup2(fd, 0)\n" + ASK)
    ours, theirs = socket.socketpair()
    with Connection(server, "tcp", application="given") as conn, ours:
        conn.must("SELECT 'of the giver'")
        conn.sock.settimeout(None)  # which makes it a blocking one, for whoever has it
        with server.client:
            proc = subprocess.Popen(["sh", "-c", f'exec 3<&{theirs.fileno()}; exec "$0" "$@"', EXE, "-c", given, "of the taker"],
                                    stdout=subprocess.PIPE, text=True, pass_fds=[theirs.fileno()])
        theirs.close()
        socket.send_fds(ours, [b"x"], [conn.sock.fileno()])
        check(int(proc.communicate(timeout=20)[0]) == proc.pid, "the process that was given the socket failed")
        backend = conn.pid
    seen = yield
    found = by_text(seen, "given")
    expect(found["SELECT 'of the giver'"], pid=os.getpid(), backend=backend)
    expect(found["SELECT 'of the taker'"], pid=proc.pid, backend=backend)


@scenario
def another_program_over_an_inherited_connection(server):
    """It is named by what it runs when it sends, not by what ran when the connection was made."""
    with Connection(server, "tcp", application="exec") as conn:
        conn.must("SELECT 'of python'")
        conn.sock.settimeout(None)
        with server.client:
            proc = subprocess.Popen(["perl", "-e", PERL], stdin=conn.sock.fileno(), stdout=subprocess.PIPE, text=True)
        check(proc.communicate(timeout=20)[0] == "done\n", "perl failed")
        backend = conn.pid
    seen = yield
    found = by_text(seen, "exec")
    expect(found["SELECT 'of python'"], pid=os.getpid(), backend=backend)
    expect(found["SELECT 'of perl'"], pid=proc.pid, backend=backend, exe=os.path.realpath("/usr/bin/perl"))


@scenario
def threads_are_their_process(server):
    with Connection(server, "tcp", application="threads") as conn:
        for number in range(3):
            thread = threading.Thread(target=conn.must, args=(f"SELECT 'of thread {number}'",))
            thread.start()
            thread.join()
        backend = conn.pid
    seen = yield
    found = seen.statements("threads")
    check(len(found) == 3, [brief(r) for r in found])
    for record in found:
        expect(record, pid=os.getpid(), backend=backend)


def uring(server, application, *how):
    program = built("uring_client", "uring_client.c", lambda source, path: [
        "cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", source, "-o", path])
    done = server.run_client([program, server.host, str(server.port), application,
                              "SELECT pg_backend_pid() AS by_uring", *how], check_rc=False)
    if "io_uring_setup" in done.stderr:
        raise Skip(f"this kernel has no io_uring for us: {done.stderr.strip()}")
    check(done.returncode == 0, f"uring_client: {done.stderr}")
    return int(done.stdout), program


@scenario
def an_io_uring_client(server):
    """No send, write or recv: what traces system calls sees nothing."""
    pid, exe = uring(server, "uring")
    seen = yield
    check_uring(seen.one("uring"), pid, exe, seen)


@scenario
def an_io_uring_client_whose_kernel_thread_sends(server):
    pid, exe = uring(server, "sqpoll", "sqpoll")
    seen = yield
    check_uring(seen.one("sqpoll"), pid, exe, seen)


def check_uring(record, pid, exe, seen):
    name = f"{field(record, 'client.address')}:{field(record, 'client.port')}"
    expect(record, pid=pid, backend=next(iter(seen.log[name].pids)), exe=exe)


# --- connections that are not what they seem --------------------------------------------------------------------

def observed(cluster, application, *, ends="both", world=None):
    """The records of one psql session, and the pids of its client and its backend."""
    args = ["--vantage", "wire"]
    if ends != "both":
        args += ["--wire-cgroup", getattr(world, ends).cgroup]
    with Daemon(args=args) as daemon:
        with psql(cluster, application) as program:
            backend = int(program.step("SELECT pg_backend_pid();"))
        daemon.settle()
        found = [r for r in daemon.journal("statement") if r.get("application_name") == application]
    return found, program.pid, backend


@case
def one_end_on_the_node_the_other_unknown():
    """The server's node knows its backend and an address; the client's node its client."""
    with World("veth") as world, Cluster(world=world) as cluster:
        found, _, backend = observed(cluster, "from afar", ends="server", world=world)
        check(len(found) == 1 and found[0]["outcome"] == "executed", [brief(r) for r in found])
        check(field(found[0], "server.pid") == backend and field(found[0], "client.address") == world.client_host,
              f"server {found[0].get('server')}, client {found[0].get('client')}")
        check(not field(found[0], "client.known") and not field(found[0], "client.pid") and not field(found[0], "client.exe"),
              f"a client that cannot be known: {found[0].get('client')}")
        found, pid, backend = observed(cluster, "to afar", ends="client", world=world)
        check(len(found) == 1 and found[0]["outcome"] == "executed", [brief(r) for r in found])
        check(field(found[0], "client.pid") == pid and field(found[0], "client.exe") == cluster.bin("psql") and
              field(found[0], "server.address") == world.host and field(found[0], "server.port") == cluster.port,
              f"server {found[0].get('server')}, client {found[0].get('client')}")
        check(field(found[0], "server.pid", 0) in (0, backend), f"server {found[0].get('server')}")


NAT = """
table ip dbf {{
  chain pre {{
    type nat hook prerouting priority -100
    tcp dport 6000 redirect to :{port}
  }}
  chain out {{
    type nat hook output priority -100
    tcp dport 6000 redirect to :{port}
  }}
}}
"""
SNAT = """
table ip dbf {
  chain post {
    type nat hook postrouting priority 100
    tcp dport 6000 masquerade to :40000-40100
  }
}
"""


def translate(place, rules):
    done = run(place.argv("nft", "-f", "-"), input=rules, check_rc=False)
    if done.returncode:
        raise Skip(f"this machine cannot translate addresses: {done.stderr.strip()[:200]}")


class Dialled:
    """A cluster, called by another port."""

    def __init__(self, cluster, port):
        self.cluster, self.port, self.client = cluster, port, cluster.client

    def env(self, transport):
        return dict(self.cluster.env(transport), PGPORT=str(self.port))

    def bin(self, name):
        return self.cluster.bin(name)


def through_nat(kind):
    with World(kind) as world, Cluster(world=world) as cluster:
        translate(world.server, NAT.format(port=cluster.port))
        if kind == "veth":
            translate(world.client, SNAT)
        found, pid, backend = observed(Dialled(cluster, 6000), "translated")
    check(len(found) == 1, f"{len(found)} records: {[brief(r) for r in found]}")
    expect(found[0], pid=pid, backend=backend, exe=cluster.bin("psql"))
    say(f"recorded as {found[0]['client']['address']}:{found[0]['client']['port']} → "
        f"{found[0]['server']['address']}:{found[0]['server']['port']}, the server listens on {cluster.port}")


@case
def a_connection_through_nat_is_one():
    """Redirected and masqueraded: the two ends have no port and no address in common, and there is one record."""
    through_nat("veth")


@case
def a_connection_redirected_on_loopback_is_one():
    through_nat("lo")


@case
def a_connection_from_before_the_daemon():
    """Its processes are known, its user and its names are not, nor where the first answer begins: what is not known is said."""
    with World("here") as world, Cluster(world=world) as cluster, psql(cluster, "early") as program, \
            Connection(cluster, "tcp", application="early too") as conn:
        backend = int(program.step("SELECT pg_backend_pid();"))
        conn.sync(conn.parse("SELECT 'of before'", "old"))
        with Daemon(args=["--vantage", "wire"]) as daemon:
            program.step("SELECT 'joined';")
            program.step("SELECT 'from then on';")
            conn.must("SELECT 'joined too'")
            conn.sync(conn.bind("old"), conn.execute())
            daemon.settle()
            found = [r for r in daemon.journal("statement") if field(r, "server.port") == cluster.port]
    texts = [field(r, "statement.text", "") for r in found]
    check(texts == ["SELECT 'joined';", "SELECT 'from then on';", "SELECT 'joined too'", ""], f"{[brief(r) for r in found]}")
    for record, outcomes in zip(found, (("executed", "unknown"), ("executed",)) * 2):
        expect_ends(record, **(dict(pid=program.pid, backend=backend, exe=cluster.bin("psql")) if record in found[:2]
                               else dict(pid=os.getpid(), backend=conn.pid)))
        check(record["outcome"] in outcomes and "identity" in record["incomplete"], f"{brief(record)} {record['incomplete']}")
    check("joined_mid_stream" in found[3]["incomplete"] and field(found[3], "statement.unknown_reason"), found[3])


def restarted(ends, transports=("plain", "changed")):
    """Another worker, and then another daemon, in the middle of connections: whose they are is known to the next, too."""
    with World("veth") as world, Cluster(world=world) as cluster:
        args = ["--vantage", "wire", *(["--wire-cgroup", getattr(world, ends).cgroup] if ends != "both" else [])]
        with Daemon(args=args) as daemon, contextlib.ExitStack() as stack:
            conns = {name: stack.enter_context(Connection(cluster, "tcp", database="template1", application=name))
                     for name in transports}
            for name, conn in conns.items():
                conn.must(f"SELECT 'first of {name}'")
            conns["changed"].must("SET application_name TO 'another'")
            worker = daemon.processes()["worker"]
            kill_quietly(worker, signal.SIGKILL)
            wait_until(lambda: daemon.processes().get("worker") != worker, 15, "the worker's end to be seen")
            for name, conn in conns.items():
                conn.must(f"SELECT 'second of {name}'")
            wait_until(lambda: daemon.processes().get("worker"), 15, "another worker")
            for name, conn in conns.items():
                conn.must(f"SELECT 'third of {name}'")
            daemon.settle()
            daemon.kill_all()
            daemon.start()
            for name, conn in conns.items():
                conn.must(f"SELECT 'fourth of {name}'")
            daemon.settle()
            found = {field(r, "statement.text"): r for r in daemon.journal("statement")}
        for when in ("first", "second", "third", "fourth"):
            for name in transports:
                record = found.get(f"SELECT '{when} of {name}'", {})
                check(record and (record.get("db_user"), record.get("database")) == ("postgres", "template1")
                      and "identity" not in record.get("incomplete", []), f"{when} of {name}: {record}")
                check(record.get("application_name", "") == (name if when == "first" or name == "plain" else ""),
                      f"{when} of {name}: called {record.get('application_name')!r}")


@case
def whose_a_session_is_outlives_the_reader():
    restarted("both")


@case
def whose_a_session_is_outlives_the_reader_at_the_servers_end():
    restarted("server")


def pooled(vantage):
    with World("here") as world, Cluster(world=world) as cluster, Bouncer(cluster, "tcp") as pooler:
        with Daemon(args=["--vantage", vantage]) as daemon:
            with psql(Dialled(cluster, pooler.port), "pooled") as program:
                backend = int(program.step("SELECT pg_backend_pid() AS pooled;"))
            daemon.settle()
            found = [r for r in daemon.journal("statement") if "AS pooled" in field(r, "statement.text", "")]
        legs = {field(r, "server.port"): r for r in found}
        check(len(found) == 2 and set(legs) == {cluster.port, pooler.port}, f"{[(brief(r), r['server']) for r in found]}")
        first, second = legs[pooler.port], legs[cluster.port]
        expect(first, pid=program.pid, backend=pooler.proc.pid, exe=cluster.bin("psql"))
        expect(second, pid=pooler.proc.pid, backend=backend, exe=os.path.realpath("/usr/sbin/pgbouncer"), uid=cluster.owner["user"])
        check((first["vantage"], second["vantage"]) == ("wire", "server" if "server" in vantage else "wire"),
              f"{first['vantage']}, {second['vantage']}")


@case
def a_pooler_has_two_legs():
    pooled("wire")


@case
def of_a_pooler_the_servers_leg_is_the_execution():
    """With the server vantage on, too."""
    pooled("server,wire")


if __name__ == "__main__":
    main()
