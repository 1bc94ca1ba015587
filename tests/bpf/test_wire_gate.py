#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Statements stopped on the wire, without a daemon: the gate at the client's socket, the rewriter at the device, the poke,
and the programs on every device. wire_rig does the keeper's part; a real PostgreSQL answers; the client's sockets are
in this namespace (over lo) or in another (over a veth pair).
"""
import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib"))
import pgwire  # noqa: E402
from e2e import BUILD, Cluster, Skip, case, check, main, need_root, run, say, wait_until  # noqa: E402

RIG = os.path.join(BUILD, "tests", "bpf", "wire_rig")
OBJECT = os.path.join(BUILD, "bpf", "wire_gate.bpf.o")
SPACE = f"dbf{os.getpid() % 100000}"
HERE, THERE = f"{SPACE}s", f"{SPACE}c"  # the veth pair: server's end, client's end
SERVER = {"lo4": "127.0.0.1", "lo6": "::1", "veth4": "10.211.7.1", "veth6": "fd21:7::1"}
PATHS = tuple(SERVER)
PIN = f"/sys/fs/bpf/{SPACE}"
SIZES = {"34 B": 0, "60 KB": 60_000, "600 KB": 600_000}
CLONE_NEWNET = 0x40000000
ETHTOOL_STXCSUM, SIOCETHTOOL = 0x17, 0x8946

libc = ctypes.CDLL(None, use_errno=True)
shared = {}


def setns(path):
    with open(path, "rb") as f:
        if libc.setns(f.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {path}")


class inside:
    """With the client's namespace as this thread's."""

    def __init__(self, path):
        self.far = path.startswith("veth")

    def __enter__(self):
        if self.far:
            setns(f"/run/netns/{SPACE}")

    def __exit__(self, *exc):
        if self.far:
            setns(shared["home"])


def ip(*args):
    return run(["ip", *args])


def ethtool(device, command, value, far=True):
    """One of the old switches, for a machine without ethtool."""
    data = ctypes.create_string_buffer(struct.pack("II", command, value))
    request = struct.pack("16sP", device.encode(), ctypes.addressof(data)) + b"\0" * 16
    with inside("veth" if far else "lo"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            fcntl.ioctl(s, SIOCETHTOOL, request)


class Client(pgwire.Connection):
    """A session over one of the paths; the socket is made in the client's namespace."""

    def __init__(self, path, timeout=15, mss=0):
        family = socket.AF_INET6 if path.endswith("6") else socket.AF_INET
        with inside(path):
            self.sock = socket.socket(family)
        self.sock.settimeout(timeout)
        if mss:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
        self.sock.connect((SERVER[path], server().port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.pid, self.transport, self.chunk = b"", 0, "tcp", 0
        body = struct.pack("!I", 196608) + b"user\0postgres\0database\0postgres\0\0"
        self.sock.sendall(struct.pack("!I", len(body) + 4) + body)
        self.read()

    def say(self, kind, text):
        """The text as a Query, or as Parse, Bind, Execute, Sync."""
        if kind == "Q":
            return self.query(text)
        return self.extended(text)


class Rig:
    """wire_rig with a gate; ended, and its filters removed, on exit."""

    def __init__(self, scan=True, **options):
        port = server().port
        self.argv = [RIG, OBJECT, shared["cgroup"], f"port={port}"]
        self.argv += [f"{key}={value}" for key, value in options.items()]
        self.scan, self.lines = scan, []

    def __enter__(self):
        check(os.access(RIG, os.X_OK) and os.access(OBJECT, os.R_OK), f"{RIG} was not built: run make tests-bin")
        self.proc = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.answer("ready")
        if self.scan:
            self.tell("scan 0")
        return self

    def __exit__(self, *exc):
        # Clients that were forked have its end of the pipe too; what nobody read yet stands in its way.
        self.proc.communicate("quit\n", timeout=20)

    def answer(self, word):
        before = len(self.lines)
        while True:
            line = self.proc.stdout.readline()
            check(line, f"the rig ended: {''.join(self.lines[-5:])}")
            if line.strip() == f"ok {word}":
                return self.lines[before:]
            self.lines.append(line.strip())

    def tell(self, command):
        """Lines that came until the command was done, those of earlier events among them."""
        self.proc.stdin.write(command + "\n")
        return self.answer(command.split()[0])

    def said(self, word):
        self.tell("poke 1")
        return [line for line in self.lines if line.startswith(word)]

    def stats(self):
        line = next(line for line in reversed(self.tell("stats")) if line.startswith("holds="))
        return {k: int(v) for k, v in (pair.split("=") for pair in line.split())}

    def slots(self):
        return [line for line in self.tell("slots") if line.startswith("slot ")]


def server():
    """The one PostgreSQL of all cases, on every path's address; made with the namespace at its first use."""
    if "cluster" in shared:
        return shared["cluster"]
    need_root()
    mounts = open("/proc/mounts", encoding="utf-8").read().split("\n")
    where = [m.split()[1] for m in mounts if m.split()[2:3] == ["cgroup2"]]
    if not where:
        raise Skip("there is no cgroup2 mount")
    shared["home"] = f"/proc/{os.getppid()}/ns/net"
    shared["cgroup"] = os.path.join(where[0], SPACE)
    os.mkdir(shared["cgroup"])
    with open(os.path.join(shared["cgroup"], "cgroup.procs"), "w", encoding="ascii") as f:
        f.write(str(os.getpid()))
    ip("netns", "add", SPACE)
    ip("link", "add", HERE, "type", "veth", "peer", "name", THERE, "netns", SPACE)
    ip("addr", "add", "10.211.7.1/24", "dev", HERE)
    ip("addr", "add", "fd21:7::1/64", "dev", HERE, "nodad")
    ip("link", "set", HERE, "up")
    ip("-n", SPACE, "addr", "add", "10.211.7.2/24", "dev", THERE)
    ip("-n", SPACE, "addr", "add", "fd21:7::2/64", "dev", THERE, "nodad")
    for device in ("lo", THERE):
        ip("-n", SPACE, "link", "set", device, "up")
    shared["holder"] = subprocess.Popen(["ip", "netns", "exec", SPACE, "sleep", "3600"])
    os.mkdir(PIN)
    cluster = Cluster(name="gate", settings={"listen_addresses": ",".join(SERVER.values()), "log_statement": "none"})
    cluster._make()
    with open(os.path.join(cluster.data, "pg_hba.conf"), "a", encoding="ascii") as f:
        f.write("host all all 10.211.7.0/24 trust\nhost all all fd21:7::/64 trust\n")
    cluster.start()
    shared["cluster"] = cluster
    return cluster


def end():
    reap(shared.get("clients", []))
    if "cluster" in shared:
        shared["cluster"].close()
    if "holder" in shared:
        shared["holder"].kill()
        shared["holder"].wait()
    subprocess.run(["ip", "link", "del", HERE], capture_output=True, check=False)
    subprocess.run(["ip", "netns", "del", SPACE], capture_output=True, check=False)
    if os.path.isdir(PIN):
        for name in os.listdir(PIN):
            os.unlink(os.path.join(PIN, name))
        os.rmdir(PIN)
    if "cgroup" in shared:
        with open(os.path.join(os.path.dirname(shared["cgroup"]), "cgroup.procs"), "w", encoding="ascii") as f:
            f.write(str(os.getpid()))
        wait_until(lambda: remove_quietly(shared["cgroup"]), 10, "the test's cgroup to be empty")


def remove_quietly(path):
    try:
        os.rmdir(path)
        return True
    except OSError:
        return False


def table(name):
    server().psql(f"create table if not exists {name} (a int)")
    return name


def exists(name):
    return server().value(f"select count(*) from pg_class where relname = '{name}'") == "1"


def statement(name, size):
    text = f"DROP TABLE {name}"
    return text + " " + "-- filler\n" * (size // 10) if size else text


def median(values):
    return sorted(values)[len(values) // 2]


# --- decided by user space -------------------------------------------------------------------------------

@case
def allowed_after_a_hold():
    """Held, allowed, poked: the statement runs, over every path, short and long, Query and Parse."""
    with Rig() as rig:
        rig.tell("verdict allow 100 x")
        for path in PATHS:
            for kind in "QP":
                with Client(path) as c:
                    took = []
                    for label, size in SIZES.items():
                        name = table("a_" + path + kind.lower())
                        start = time.monotonic()
                        result = c.say(kind, statement(name, size))
                        took.append(f"{label} {1e3 * (time.monotonic() - start):.1f}")
                        check(result.tags == ["DROP TABLE"], f"{path} {kind} {label}: {result.tags} {result.errors}")
                    check(c.must("select 1") == [["1"]], f"{path} {kind}: the session does not go on")
                    say(f"{path} {kind} ms: {', '.join(took)}")
        stats = rig.stats()
        check(stats["holds"] == 24 and not stats["open"] and not stats["rewrites"], f"{stats}")
        largest = max(int(line.split("packet=")[1]) for line in rig.said("held"))
        say(f"largest packet {largest}")
        refusals = [int(line.split("refusals=")[1].split()[0]) for line in rig.said("decided")]
        check(min(refusals) >= 1, "a statement was not refused before it was allowed")


def deny_everywhere(rig, name, sqlstate, sizes, paths=PATHS, token="blocked_by_policy_no_drop"):
    for path in paths:
        for kind in "QP":
            with Client(path) as c:
                for label in sizes:
                    result = c.say(kind, statement(name, SIZES[label]))
                    what = f"{path} {kind} {label}: {result.tags} {[str(e) for e in result.errors]}"
                    check(result.sqlstate == sqlstate and not result.tags, what)
                    wanted = '"blocked_no_drop"' if label == "34 B" else f'"{token}"'
                    check(sqlstate != "42601" or wanted in str(result.errors[0]), what)
                    check(c.must("select pg_backend_pid()") == [[str(c.pid)]], f"{path}: another backend")
    check(exists(name), "the table is gone")
    stats = rig.stats()
    check(not stats["leaked"] and not stats["failed"], f"{stats}")
    return stats


@case
def denied_by_rewriting():
    """The server reads a token in place of the statement's head, over every path; the session lives."""
    name = table("denied_one")
    with Rig() as rig:
        rig.tell("verdict deny 100 no_drop")
        stats = deny_everywhere(rig, name, "42601", SIZES)
        check(stats["rewrites"] >= 24 and stats["open"] <= 1, f"{stats}")


@case
def token_ladder():
    """The longest token that fits, blanks behind it, never a byte beyond the text."""
    with Rig() as rig:
        with Client("veth4") as c:
            for rule, text, token in (("r7", "DROP TABLE x", "blocked_r7"), ("r7", "DROP TABLE some.name1", "blocked_by_policy_r7"),
                                      ("a_rule_with_a_name", "DROP TABLE x", "blocked"), ("r7", "DROP b", "blocke"),
                                      ("r7", "DROP TABLE some.other_name", "blocked_by_policy_r7")):
                rig.tell(f"verdict deny 0 {rule}")
                # padded behind, so that the toy framing has its 32 bytes
                result = c.sync(c.parse(text), c.bind(), c.execute())
                check(f'"{token}"' in str(result.errors[0]), f"{text}: {result.errors[0]}")
            for pad in range(4):  # the patch must not cut a character in two
                for letter in ("\u00e9", "\u20ac", "\U0001f40d"):
                    result = c.query("DROP TABLE x -- " + pad * "." + 60 * letter)
                    check('"blocked_by_policy_r7"' in str(result.errors[0]), f"{pad} {letter}: {result.errors[0]}")
        check(not rig.stats()["failed"], "a rewrite failed")


@case
def denied_at_its_tail():
    """When the head has gone, the end is spoilt: of a Query its NUL, of a Parse its parameter count."""
    name = table("denied_tail")
    with Rig(tail=1) as rig:
        rig.tell("verdict deny 100 no_drop")
        deny_everywhere(rig, name, "08P01", ("600 KB",))
        held = [line for line in rig.said("held")]
        check(all("from=0 " not in line for line in held), f"nothing had gone before: {held[:2]}")
        rig.tell("verdict allow 100 x")
        for kind in "QP":
            with Client("veth4") as c:
                check(c.say(kind, statement(table("tail_ok"), 600_000)).tags == ["DROP TABLE"], "not allowed")
    with Rig(tail=1, receive=1) as rig:
        rig.tell("verdict deny 100 no_drop")
        deny_everywhere(rig, name, "08P01", ("600 KB",), ("veth4", "veth6"))
        rig.tell("verdict allow 100 x")
        for kind in "QP":
            with Client("veth4") as c:
                check(c.say(kind, statement(table("tail_ok"), 600_000)).tags == ["DROP TABLE"], "not allowed")


@case
def without_checksum_offload():
    """Real checksums: what is rewritten, and what is made anew, is accepted."""
    name = table("no_offload")
    with Rig() as rig:
        ethtool(THERE, ETHTOOL_STXCSUM, 0)
        before = checksum_errors()
        try:
            rig.tell("verdict deny 100 no_drop")
            deny_everywhere(rig, name, "42601", SIZES, ("veth4", "veth6"))
            rig.tell("verdict kill 100 no_drop")
            for path in ("veth4", "veth6"):
                for kind in "QP":
                    killed(path, kind, name, 0)
                    killed(path, kind, name, 60_000)
            check(exists(name), "the table is gone")
            check(checksum_errors() == before, f"{checksum_errors() - before} checksum errors")
        finally:
            ethtool(THERE, ETHTOOL_STXCSUM, 1)


def checksum_errors():
    total = 0
    for space in ([], ["ip", "netns", "exec", SPACE]):
        rows = run([*space, "cat", "/proc/net/snmp"]).stdout.splitlines()
        names, values = [row.split() for row in rows if row.startswith("Tcp:")]
        total += int(values[names.index("InCsumErrors")])
    return total


@case
def rewritten_across_packets():
    """A patch that two packets share: each has its part written."""
    name = table("shared_patch")
    with Rig() as rig:
        rig.tell("verdict deny 100 no_drop")
        for path in PATHS:
            for cut in (21, 22, 40, 55):
                with Client(path) as c:
                    text = c.parse(statement(name, 300)) + c.bind() + c.execute() + c.SYNC
                    c.sock.send(text[:cut], socket.MSG_EOR)  # TCP appends nothing to it
                    c.send(text[cut:])
                    result = c.read()
                    check('"blocked_by_policy_no_drop"' in str(result.errors[0]), f"{path} {cut}: {result.errors[0]}")
        stats = rig.stats()
        check(stats["rewrites"] >= 32 and exists(name), f"{stats}")


@case
def retransmitted():
    """The first copies are lost behind the rewriter: every copy is rewritten, also after the packets grew."""
    name = table("lost_copies")
    with Rig() as rig:
        rig.tell(f"pin {PIN}/drop drop_first")
        run(["tc", "filter", "add", "dev", HERE, "ingress", "prio", "9", "bpf", "da", "pinned", f"{PIN}/drop"])
        try:
            rig.tell("verdict deny 100 no_drop")
            for path in ("veth4", "veth6"):
                for kind in "QP":
                    for size in (0, 60_000):
                        with Client(path) as c:
                            rig.tell("drop 3")
                            result = c.say(kind, statement(name, size))
                            check(result.sqlstate == "42601", f"{path} {kind} {size}: {result.tags} {result.errors}")
            stats = rig.stats()
            check(exists(name), "the table is gone")
            check(stats["rewrites"] >= stats["holds"] + 8 and not stats["leaked"], f"{stats}")
        finally:
            run(["tc", "filter", "del", "dev", HERE, "ingress", "prio", "9"])


@case
def pipelined():
    """What follows a held statement waits with it, and a neighbour in the pipeline is not touched."""
    name = table("pipe")
    with Rig() as rig:
        rig.tell("verdict deny 20000 no_drop")
        for path in PATHS:
            with Client(path) as c:
                c.send(c.parse(statement(name, 0)), c.bind(), c.execute())
                time.sleep(0.005)
                c.send(c.SYNC, c.message(b"Q", b"select 'behind'\0"))
                first, second = c.read(), c.read()
                check(first.sqlstate == "42601" and second.rows == [["behind"]], f"{first.errors} {second.rows}")
    with Rig(state=4, closed=1) as rig:  # decided when it is seen
        with Client("veth4") as c:
            for _ in range(10):  # a packet each, which is what the toy framing can tell apart
                c.sock.send(c.message(b"Q", statement(name, 50).encode() + b"\0"), socket.MSG_EOR)
            results = [c.read() for _ in range(10)]
            check(all(r.sqlstate == "42601" for r in results), f"{[r.sqlstate for r in results]}")
            check('"blocked_by_policy_7"' in str(results[0].errors[0]), str(results[0].errors[0]))
        check(exists(name) and not rig.stats()["leaked"], "a pipelined statement ran")


# --- the end of the connection ---------------------------------------------------------------------------

def killed(path, kind, name, size):
    """The client reads why, its session ends, and so does the server's backend."""
    c = Client(path)
    pid, message = c.pid, ""
    try:
        c.say(kind, statement(name, size))
    except pgwire.Error as e:
        message = str(e)
        check(e.sqlstate == "28000" and e.severity == "FATAL", message)
    except (pgwire.Closed, OSError) as e:
        message = repr(e)
    check("blocked by policy no_drop" in message, f"{path} {kind} {size}: {message!r}")
    check(not c.sock.recv(1), "the connection is not at its end")
    c.close()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 10, "the server's backend to end")


@case
def killed_with_a_reason():
    """The client reads a FATAL error with the rule's name, the server gets a RST, and nothing is left."""
    name = table("killed_one")
    with Rig() as rig:
        rig.tell("verdict kill 100 no_drop")
        for path in PATHS:
            for kind in "QP":
                for size in (0, 60_000):
                    killed(path, kind, name, size)
        check(exists(name), "the table is gone")
        wait_until(lambda: not rig.stats()["open"], 5, "the slots of closed sockets to be free")
        check(rig.stats()["kills"] == 16, f"{rig.stats()}")


@case
def packets_above_64_kb():
    """IPv6 over lo, once warm: one packet of more than 64 KB, whose length stands in a hop-by-hop option."""
    name = table("jumbo")

    def warm():
        c = Client("lo6")
        for _ in range(30):
            c.query("select 1 " + "-- filler\n" * 200_000)
        return c

    ip("link", "set", "dev", "lo", "gso_max_size", "200000")
    try:
        above_64_kb(name, warm)
    finally:
        ip("link", "set", "dev", "lo", "gso_max_size", "65536")


def above_64_kb(name, warm):
    with Rig() as rig:
        rig.tell("verdict deny 100 no_drop")
        with warm() as c:
            check('"blocked_by_policy_no_drop"' in str(c.query(statement(name, 600_000)).errors[0]), "not rejected")
        rig.tell("verdict kill 100 no_drop")
        c, message = warm(), ""
        try:
            c.query(statement(name, 600_000))
        except pgwire.Error as e:
            message = str(e)
        check("blocked by policy no_drop" in message, f"{message!r}")
        pid = c.pid
        c.close()
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 10, "the server's backend to end")
        rig.tell("verdict allow 100 x")
        with warm() as c:
            check(exists(name), "the table is gone")
            check(c.query(statement(name, 600_000)).tags == ["DROP TABLE"], "not allowed")
        largest = [int(line.split("packet=")[1]) for line in rig.said("held")]
        say(f"packets of {largest}")
        if max(largest) < 65536:
            raise Skip(f"this kernel makes no packets above 64 KB here ({max(largest)})")
        check(not rig.stats()["failed"] and not rig.stats()["leaked"], f"{rig.stats()}")


# --- nobody decides --------------------------------------------------------------------------------------

@case
def overdue_without_anybody():
    """Behind the deadline the program itself decides, at TCP's next try: closed is rejected, open runs."""
    name = table("overdue")
    for closed in (1, 0):
        with Rig(hold_ms=400, closed=closed) as rig:
            rig.tell("verdict none 0 x")
            for path in ("lo4", "veth6"):
                with Client(path) as c:
                    start = time.monotonic()
                    result = c.query(statement(table(name), 0))
                    took = time.monotonic() - start
                    check(result.sqlstate == ("42601" if closed else ""), f"{path}: {result.errors}")
                    check(exists(name) == bool(closed), f"{path}: the table")
                    check(0.35 < took < 5, f"{path}: after {took:.1f} s")
                    say(f"{path}, {'closed' if closed else 'open'}: {took:.2f} s")
            check(rig.stats()["overdue"] == 2, f"{rig.stats()}")


def client_process(path, name, how):
    """A process that sends the statement, and ends in the way @how when it is told."""
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        shared.setdefault("clients", []).append(pid)
        check(select.select([ready[0]], [], [], 10)[0], "the client did not get so far")
        for fd in (*ready, go[0]):
            os.close(fd)
        return pid, go[1]
    try:
        os.close(go[1])
        c = Client(path)
        c.send(c.message(b"Q", statement(name, 0).encode() + b"\0"))
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        if how == "finish":
            c.close()
        elif how == "shutdown":
            c.sock.shutdown(socket.SHUT_WR)
            time.sleep(60)
        elif how == "terminate":  # it goes on living with its socket, but said good-bye
            c.send(b"X\0\0\0\4")
            time.sleep(60)
    finally:
        os._exit(0)


def give_up(rig, path, name, how):
    held = len(rig.said("held"))
    pid, go = client_process(path, name, how)
    wait_until(lambda: len(rig.said("held")) > held, 5, "the hold")
    if how == "killed":
        os.kill(pid, signal.SIGKILL)
    else:
        os.write(go, b"x")
    os.close(go)
    return pid


def reap(pids):
    for pid in list(pids):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        shared["clients"].remove(pid)


@case
def given_up_then_nothing_done():
    """The control: without the care of the other cases, the abandoned statement runs when the programs are gone."""
    name = table("orphan_control")
    with Rig() as rig:
        for order in ("verdict none 0 x", "take 0", "destroy 0"):
            rig.tell(order)
        pid = give_up(rig, "veth4", name, "killed")
        time.sleep(0.3)
        check(exists(name), "it ran although it was held")
        rig.tell("detach")
        try:
            wait_until(lambda: not exists(name), 8, "the abandoned statement to run")
        finally:
            reap([pid])


@case
def given_up():
    """A client that gives up in the hold never has its statement run, also when the programs are removed then."""
    name = table("orphan")
    for take in (1, 0):
        pids = []
        with Rig() as rig:
            rig.tell("verdict none 0 x")
            rig.tell(f"take {take}")
            for path in ("lo4", "lo6", "veth4", "veth6"):
                for how in ("killed", "finish", "shutdown", "terminate"):
                    if how != "terminate" or take:
                        pids.append(give_up(rig, path, name, how))
            wait_until(lambda: not rig.stats()["open"], 10, "every socket to be gone")
            ended = rig.said("destroyed")
            check(len(ended) == len(pids), f"{len(ended)} of {len(pids)} were ended")
            check(all("listed=0" in line for line in ended), f"{ended}")
            check(all("rc=0" in line or "rc=-2" in line for line in ended), f"{ended}")
            rig.tell("detach")
            time.sleep(1.5)
        reap(pids)
        check(exists(name), f"an abandoned statement ran (take {take})")
    check(server().value("select count(*) from pg_stat_activity where query like 'DROP%'") == "0", "a backend is left")


@case
def allowed_too_late():
    """An allow that comes when the client has gone does not let its statement pass."""
    name = table("too_late")
    with Rig() as rig:
        for order in ("verdict none 0 x", "take 0", "destroy 0"):
            rig.tell(order)
        pids = [give_up(rig, path, name, how) for path in ("lo4", "veth6") for how in ("killed", "finish")]
        rig.tell("verdict allow 0 x")
        wait_until(lambda: rig.stats()["abandoned"] == 4, 8, "the gate to see that they had gone")
        check(exists(name), "it ran")
        rig.tell("destroy 1")
        wait_until(lambda: not rig.stats()["open"], 10, "every socket to be gone")
        rig.tell("detach")
        time.sleep(1)
    reap(pids)
    check(exists(name), "it ran")


@case
def released_before_a_disarm():
    """With every daemon dead: what is held falls by its fail mode, what was abandoned is destroyed, and only then nothing is left."""
    for closed in (1, 0):
        name = table("disarm")
        with Rig(closed=closed) as rig:
            for order in ("verdict none 0 x", "take 0", "destroy 0"):
                rig.tell(order)
            pids = [give_up(rig, path, name, how) for path in ("lo4", "veth6") for how in ("killed", "finish", "terminate")]
            waiting = [Client(path) for path in ("lo6", "veth4")]
            for c in waiting:
                c.send(c.message(b"Q", statement(name, 0).encode() + b"\0"))
            wait_until(lambda: rig.stats()["holds"] == 8, 5, "the holds")
            start = time.monotonic()
            check("left 0" in rig.tell("release"), f"{rig.slots()}")
            say(f"{'closed' if closed else 'open'}: released in {time.monotonic() - start:.2f} s")
            rig.tell("detach")
            results = [c.read() for c in waiting]
            if closed:
                check([r.sqlstate for r in results] == ["42601"] * 2, f"{[r.sqlstate for r in results]}")
            else:
                check(sorted(r.sqlstate for r in results) == ["", "42P01"], f"{[r.sqlstate for r in results]}")
            time.sleep(1)
            check(exists(name) == bool(closed), "the table")
            for c in waiting:
                c.close()
        reap(pids)


# --- the client is elsewhere -----------------------------------------------------------------------------

@case
def held_at_the_server():
    """Kept, decided and handed back at the server's socket: allowed ones run, denied ones are an error."""
    name = table("received")
    with Rig(receive=1) as rig:
        for path in PATHS:
            for kind in "QP":
                with Client(path) as c:
                    took = []
                    for size in (0, 10_000, 60_000):
                        what = f"{path} {kind} {size}"
                        rig.tell("verdict deny 100 no_drop")
                        start = time.monotonic()
                        result = c.say(kind, statement(name, size))
                        took.append(f"{1e3 * (time.monotonic() - start):.1f}")
                        check(result.sqlstate == "42601" and "blocked" in str(result.errors[0]),
                              f"{what}: {result.tags} {[str(e) for e in result.errors]}")
                        check(exists(name), f"{what}: the table is gone")
                        rig.tell("verdict allow 100 x")
                        allowed = table("received_ok")
                        start = time.monotonic()
                        result = c.say(kind, statement(allowed, size))
                        took.append(f"{1e3 * (time.monotonic() - start):.1f}")
                        check(result.tags == ["DROP TABLE"], f"{what}: {[str(e) for e in result.errors]}")
                    check(c.must("select pg_backend_pid()") == [[str(c.pid)]], f"{path}: another backend")
                    say(f"{path} {kind} ms (deny, allow; 34 B, 10 KB, 60 KB): {', '.join(took)}")
        check(not rig.stats()["open"] and not rig.stats()["leaked"], f"{rig.stats()}")
        for offload in (1, 0):
            ethtool(THERE, ETHTOOL_STXCSUM, offload)
            before = checksum_errors()
            try:
                rig.tell("verdict deny 100 no_drop")
                deny_everywhere(rig, name, "42601", ("34 B",), ("veth4", "veth6"))
                rig.tell("verdict kill 100 no_drop")
                for path in ("veth4", "veth6"):
                    for kind in "QP":
                        for size in (0, 60_000):
                            killed(path, kind, name, size)
            finally:
                ethtool(THERE, ETHTOOL_STXCSUM, 1)
            check(checksum_errors() == before, f"{checksum_errors() - before} checksum errors")
        wait_until(lambda: not rig.stats()["open"], 5, "the slots of closed sockets to be free")
        check(exists(name) and rig.stats()["kills"] == 16, f"{rig.stats()}")


@case
def late_and_lost_at_the_server():
    """Nobody decides, or the packets that follow are lost: the program decides, and the rest comes again."""
    name = table("received_late")
    with Rig(receive=1, hold_ms=400) as rig:
        rig.tell("verdict none 0 x")
        for path in ("veth4", "veth6"):
            with Client(path) as c:
                start = time.monotonic()
                result = c.query(statement(name, 10_000))
                check(result.sqlstate == "42601" and exists(name), f"{path}: {result.tags}")
                say(f"{path}: {time.monotonic() - start:.2f} s")
        check(rig.stats()["overdue"] == 2, f"{rig.stats()}")
    with Rig(receive=1) as rig:
        rig.tell(f"pin {PIN}/lose drop_first")
        run(["tc", "filter", "add", "dev", HERE, "ingress", "prio", "9", "bpf", "da", "pinned", f"{PIN}/lose"])
        try:
            for verdict, sqlstate in (("deny", "42601"), ("allow", "")):
                rig.tell(f"verdict {verdict} 5000 x")
                for kind in "QP":
                    with Client("veth4") as c:
                        rig.tell("drop 3")
                        check(c.say(kind, statement(table(name), 60_000)).sqlstate == sqlstate, f"{verdict} {kind}")
        finally:
            run(["tc", "filter", "del", "dev", HERE, "ingress", "prio", "9"])


# --- many at once ----------------------------------------------------------------------------------------

def busy_client(path, name, rounds):
    """Denied statements among others, of all sizes, in both protocols; exit status: how many went wrong, at most 99."""
    wrong = 0
    pid = os.fork()
    if pid:
        return pid
    try:
        with Client(path, timeout=30) as c:
            for i in range(rounds):
                kind, size = "QP"[i % 2], (0, 300, 9_000, 60_000)[i // 2 % 4]
                result = c.say(kind, statement(name, size))
                wrong += result.sqlstate != "42601" or bool(result.tags)
                text = f"select {i} " + "-- filler\n" * (size // 10)
                wrong += c.say(kind, text).rows != [[str(i)]]
    except Exception as e:  # a child that only counts
        print(f"  {path}: {e!r}", flush=True)
        wrong += 50
    finally:
        os._exit(min(wrong, 99))


def crowd(rig, name, paths, rounds):
    """24 clients, each with its own mix: every denied one is an error, nothing else is touched."""
    rig.tell("verdict deny 200 no_drop")
    start = time.monotonic()
    pids = [busy_client(paths[i % len(paths)], name, rounds) for i in range(24)]
    while pids:
        done, status = os.waitpid(pids[0], os.WNOHANG)
        if done:
            pids.pop(0)
            check(os.waitstatus_to_exitcode(status) == 0, f"a client had {status >> 8} wrong answers")
        rig.tell("stats")
        time.sleep(0.02)
    wait_until(lambda: not rig.stats()["open"], 10, "every slot to be free")
    stats = rig.stats()
    say(f"{stats['holds']} holds, {stats['rewrites']} rewrites in {time.monotonic() - start:.1f} s")
    check(stats["holds"] == 24 * rounds and not stats["no_slot"] and not stats["leaked"], f"{stats}")
    check(not stats["abandoned"] and not stats["failed"] and exists(name), f"{stats}")


@case
def many_at_once():
    """Two dozen clients over all paths, held at their own sockets, then at the server's."""
    for receive in (0, 1):
        with Rig(receive=receive) as rig:
            crowd(rig, table("crowd"), PATHS, 60)


@case
def many_on_a_bad_line():
    """The same over veth, with packets lost and doubled in both directions."""
    for receive in (0, 1):
        with Rig(receive=receive) as rig:
            rig.tell(f"pin {PIN}/lossy{receive} lossy")
            attach = ["ingress", "prio", "9", "bpf", "da", "pinned", f"{PIN}/lossy{receive}"]
            run(["tc", "filter", "add", "dev", HERE, *attach])
            tc("filter", "add", "dev", THERE, *attach)
            try:
                crowd(rig, table("bad_line"), ("veth4", "veth6"), 30)
            finally:
                run(["tc", "filter", "del", "dev", HERE, "ingress", "prio", "9"])
                tc("filter", "del", "dev", THERE, "ingress", "prio", "9")


# --- devices ---------------------------------------------------------------------------------------------

@case
def no_rewriter_on_the_device():
    """What would leave unchanged is refused, and goes when the device has its program."""
    name = table("wrong_device")
    for path in ("lo6", "veth4"):
        with Rig(scan=False) as rig:
            rig.tell("verdict deny 0 no_drop")
            c = Client(path, timeout=0.7)
            c.send(c.message(b"Q", statement(name, 0).encode() + b"\0"))
            wait_until(lambda: any("ifindex=0" not in s for s in rig.slots()), 5, "the refusal")
            try:
                c.read()
                raise AssertionError("there was an answer")
            except TimeoutError:
                pass
            check(rig.stats()["wrong_device"] > 0 and not rig.stats()["rewrites"], f"{rig.stats()}")
            rig.tell("scan 0")
            c.sock.settimeout(10)
            check(c.read().sqlstate == "42601" and exists(name), "not rejected in the end")
            c.close()


def tc(*args, space=SPACE, **kw):
    """In the client's namespace. tc's own option for that hides what is pinned."""
    return run(["nsenter", f"--net=/run/netns/{space}", "tc", *args], **kw).stdout


def filters(device):
    return [line for line in tc("filter", "show", "dev", device, "egress").splitlines() if "handle" in line]


def ours_first(device):
    return any("dbfence" in line for line in filters(device)[:1])


@case
def neighbours_stay():
    """Ours is the first filter whoever comes; others' filters stay, before, meanwhile and afterwards."""
    name = table("neighbours")
    with Rig(scan=False) as rig:
        rig.tell(f"pin {PIN}/neighbour drop_first")
        foreign = ["filter", "add", "dev", THERE, "egress", "prio", "1", "handle"]
        theirs = ["bpf", "da", "pinned", f"{PIN}/neighbour"]
        tc("qdisc", "add", "dev", THERE, "clsact", check_rc=False)
        tc(*foreign, "1", *theirs)
        rig.tell("scan 0")
        check(ours_first(THERE), f"{filters(THERE)}")
        tc(*foreign, "2", *theirs)
        wait_until(lambda: ours_first(THERE), 3, "ours to be in front again")
        check(sum("dbfence" in f for f in filters(THERE)) == 1 and len(filters(THERE)) == 3, f"{filters(THERE)}")
        tc("filter", "del", "dev", THERE, "egress", "prio", "1")  # everything, ours too
        wait_until(lambda: len(filters(THERE)) == 1, 3, "ours to be there again")
        tc("qdisc", "del", "dev", THERE, "clsact")
        wait_until(lambda: len(filters(THERE)) == 1, 3, "ours to be there again, with its qdisc")
        rig.tell("verdict deny 100 no_drop")
        deny_everywhere(rig, name, "42601", ("34 B",), ("veth4",))
        tc(*foreign, "1", *theirs)
        wait_until(lambda: ours_first(THERE), 3, "ours to be in front again")
    check(len(filters(THERE)) == 1 and not ours_first(THERE), f"{filters(THERE)}")
    tc("filter", "del", "dev", THERE, "egress", "prio", "1")


@case
def somebody_else_is_first():
    """A filter of another protocol has the first place: nothing can come before it, so nothing is let out there."""
    name = table("behind")
    with Rig(scan=False) as rig:
        rig.tell(f"pin {PIN}/first drop_first")
        tc("qdisc", "add", "dev", THERE, "clsact", check_rc=False)
        tc("filter", "add", "dev", THERE, "egress", "protocol", "ip", "prio", "1", "bpf", "da", "pinned", f"{PIN}/first")
        try:
            rig.tell("scan 0")
            check(rig.stats()["behind"] == 1, f"{rig.stats()}")
            rig.tell("verdict deny 0 no_drop")
            c = Client("veth4", timeout=10)
            c.send(c.message(b"Q", statement(name, 0).encode() + b"\0"))
            wait_until(lambda: rig.stats()["wrong_device"], 3, "the refusal")
        finally:
            tc("filter", "del", "dev", THERE, "egress", "prio", "1")
        wait_until(lambda: not rig.stats()["behind"], 3, "the device to be covered")
        check(c.read().sqlstate == "42601" and exists(name), "not rejected in the end")
        c.close()


@case
def somebody_else_has_the_newer_hook():
    """What runs before every filter may let packets pass without: such a device counts as not covered."""
    with Rig() as rig:
        before = rig.stats()
        check(not before["behind"], f"{before}")
        if "tcx 0" not in rig.tell(f"tcx {HERE} on"):
            raise Skip("this kernel has no tcx")
        rig.tell("scan 1")
        check(rig.stats()["behind"] == 1 and rig.stats()["devices"] == before["devices"] - 1, f"{rig.stats()}")
        rig.tell(f"tcx {HERE} off")
        rig.tell("scan 1")
        check(not rig.stats()["behind"] and rig.stats()["devices"] == before["devices"], f"{rig.stats()}")


@case
def devices_come_and_go():
    """A device that comes has the program at once; a namespace with its first process; nothing is kept alive."""
    other = SPACE + "x"
    with Rig() as rig:
        before = rig.stats()
        ip("-n", SPACE, "link", "add", "dbf0", "type", "veth", "peer", "name", "dbf1")
        wait_until(lambda: rig.stats()["devices"] == before["devices"] + 2, 3, "the new devices")
        check(ours_first("dbf0"), f"{filters('dbf0')}")
        ip("-n", SPACE, "link", "del", "dbf0")
        wait_until(lambda: rig.stats()["devices"] == before["devices"], 3, "the device to be forgotten")
        ip("netns", "add", other)
        ip("-n", other, "link", "add", f"{SPACE}y", "type", "veth", "peer", "name", f"{SPACE}z", "netns", str(os.getpid()))
        held = subprocess.Popen(["ip", "netns", "exec", other, "sleep", "60"])
        try:
            wait_until(lambda: os.readlink(f"/proc/{held.pid}/ns/net") != os.readlink("/proc/self/ns/net"), 3, "ip")
            rig.tell("scan 0")
            check(rig.stats()["namespaces"] == before["namespaces"] + 1, f"{rig.stats()}")
            check("dbfence" in tc("filter", "show", "dev", f"{SPACE}y", "egress", space=other),
                  "the new namespace's device has no filter")
        finally:
            held.kill()
            held.wait()
            ip("netns", "del", other)
        rig.tell("scan 0")
        check(rig.stats()["namespaces"] == before["namespaces"], f"{rig.stats()}")
        wait_until(lambda: not os.path.exists(f"/sys/class/net/{SPACE}z"), 5, "the namespace to end, and our end of its veth")


@case
def poke_leaves_the_socket_as_it_was():
    """TCP_NODELAY of a client that wants Nagle's algorithm is off again."""
    with Rig() as rig:
        rig.tell("verdict allow 100 x")
        with Client("veth4") as c:
            c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
            took = []
            for _ in range(20):
                name = table("poked")
                start = time.monotonic()
                check(c.query(statement(name, 0)).tags == ["DROP TABLE"], "not allowed")
                took.append(time.monotonic() - start)
            check(not c.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), "TCP_NODELAY was left on")
            check(median(took) < 0.1, f"{median(took):.3f} s: nothing was poked")
        after = [int(line.split("after_us=")[1]) for line in rig.said("decided")]
        say(f"held to decided and poked: median {median(after)} us")


if __name__ == "__main__":
    try:
        main()
    finally:
        end()
