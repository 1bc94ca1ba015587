# SPDX-License-Identifier: Apache-2.0
"""
Ways around what stops statements on the wire that once led past it. Each drops its victims where nothing is enforced, which is
shown first; then it must not, while the wire vantage alone enforces. And what such a defence must leave alone: other protocols, and
other clients.

A bypass is a generator, function(bench, victims): it attacks, yields, is sent what the daemon recorded, and checks. All of them
run on one server, first without a daemon and then with one; then each is a case of its own.
"""
import contextlib
import ctypes
import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Cluster, Daemon, Failure, case, check, field, is_top_level, kill_quietly, main, say, wait_until  # noqa: E402
from pgwire import Closed, Connection, Error  # noqa: E402
from stage import brief  # noqa: E402
from wirestop import LETS_PASS, LONG_HOLD, WIRE, Client, held, policy, shown  # noqa: E402

NOBODY = 65534
BYPASSES = []


def query(text):
    return Connection.message(b"Q", text.encode() + b"\0")


def drop(victim):
    return query(f"DROP TABLE {victim}")


class Bench:
    """Where the bypasses are tried. @stopped: the daemon enforces. Other ports than the server's lead to it, and to an echo."""

    def __init__(self, cluster, listeners):
        self.cluster, self.stopped, self.application = cluster, False, ""
        self.relay, self.echo = (listener.getsockname()[1] for listener in listeners)

    def dial(self, port=0, **options):
        server = self.cluster
        if port:
            server = Other(self.cluster, port)
        return Connection(server, "tcp", application=self.application, timeout=5, **options)

    def refused(self, result):
        """As it must be now; the connection goes on."""
        check(not self.stopped or result.sqlstate in ("42601", "08P01"), f"the client saw {result.tags} {result.errors}")

    def lives(self, conn):
        check(conn.query("SELECT 'still here'").rows == [["still here"]], "the connection does not go on")

    def ended(self, conn, *messages):
        """@messages were sent to a connection that must be ended now, over bytes that cannot be followed."""
        try:
            conn.send(*messages)
            result = conn.read()
            check(not self.stopped, f"the connection lives: {result.tags} {result.errors}")
        except Error as e:
            check(self.stopped and "blocked by policy unreadable" in str(e), f"the client reads {e}")
        except (Closed, OSError) as e:  # what is sent afterwards is answered by a RST
            check(self.stopped and not isinstance(e, TimeoutError), f"the client sees {e!r}")


class Other:
    """The cluster, by another port."""

    def __init__(self, cluster, port):
        self.host, self.port, self.client = cluster.host, port, cluster.client


class Seen:
    """What the daemon recorded of one bypass, and its counters."""

    def __init__(self, records, counters):
        self.records, self.counters = records, counters

    def kinds(self, kind):
        return [r for r in self.records if r["kind"] == kind]

    def prevented(self, count):
        found = [r for r in self.kinds("statement") if field(r, "decision.action") == "deny"]
        wrong = [r for r in found if r["outcome"] != "prevented" or not r.get("evidence") or field(r, "decision.rule") != "no-drop"]
        check(len(found) == count and not wrong,
              f"{len(found)} denied, of {count}: {[(brief(r), r.get('evidence')) for r in wrong or found]}")

    def ended(self):
        """Nothing that dropped anything, a gap where it was lost, and the connection's end."""
        ran = [brief(r) for r in self.kinds("statement")
               if r["outcome"] != "prevented" and "DROP" in field(r, "statement.text", "")]
        ends = [field(r, "session.reason") for r in self.kinds("session") if field(r, "session.event") == "close"]
        check(not ran and self.kinds("gap") and ends == ["reset"], f"ran {ran}, ended {ends}, gaps {self.kinds('gap')}")


def bypass(victims=1):
    """Register a bypass with so many victims, and the case that looks at it."""
    def register(function):
        BYPASSES.append((function, victims))

        def look():
            look_at(function)
        look.__name__ = function.__name__
        case(look)
        return function
    return register


def pump(source, to):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data)
    for end in (source, to):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def serve(listener, target):
    """Each connection to @listener is answered by what @target makes of it: the socket to send to."""
    def run():
        with contextlib.suppress(OSError):
            while True:
                conn = listener.accept()[0]
                other = target(conn)
                for ends in {(conn, other), (other, conn)}:
                    threading.Thread(target=pump, args=ends, daemon=True).start()
    threading.Thread(target=run, daemon=True).start()


def by_unix_socket(cluster):
    def target(_conn):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(os.path.join(cluster.sock, f".s.PGSQL.{cluster.port}"))
        return sock
    return target


_outcome = {}


def attack_all(bench, suffix):
    """{function: generator that waits, or what went wrong}, and which victims are left."""
    victims = {f: [f"v{i}_{suffix}_{n}" for n in range(count)] for i, (f, count) in enumerate(BYPASSES)}
    bench.cluster.psql("".join(f"CREATE TABLE {v} ();" for names in victims.values() for v in names))
    running = {}
    for function, names in victims.items():
        bench.application = function.__name__[:63]
        running[function] = function(bench, names)
        try:
            next(running[function])
        except Exception as e:  # of one bypass: the others are tried all the same
            running[function] = e
    left = set(bench.cluster.value("SELECT relname FROM pg_class").split())
    return running, {f: [v for v in names if v in left] for f, names in victims.items()}


def attempt():
    if _outcome:
        return _outcome
    with Cluster(settings={"max_connections": 100}) as cluster, contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        serve(listeners[0], by_unix_socket(cluster))
        serve(listeners[1], lambda conn: conn)
        bench = Bench(cluster, listeners)
        _outcome["without"] = attack_all(bench, "without")
        ports = [arg for port in (bench.relay, bench.echo) for arg in ("--only-port", str(port))]
        with Daemon({"drop.yaml": policy()}, args=[*WIRE, "--hold-ms", "2000", *ports]) as daemon:
            bench.stopped = True
            _outcome["with"] = attack_all(bench, "with")
            daemon.settle()
            _outcome["records"] = list(daemon.records())
            _outcome["counters"] = daemon.status()["counters"]
        say(shown(_outcome["counters"]))
    return _outcome


def look_at(function):
    outcome = attempt()
    for how in ("without", "with"):
        failed = outcome[how][0][function]
        if isinstance(failed, Exception):
            raise Failure(f"{how} dbfence: {failed!r}") from failed
    idle, survived = outcome["without"][1][function], outcome["with"][1][function]
    count = dict(BYPASSES)[function]
    check(not idle, f"without dbfence it does nothing to {idle}")
    check(len(survived) == count, f"{count - len(survived)} of {count} victims DID NOT SURVIVE")
    records = [r for r in outcome["records"] if r.get("application_name") == function.__name__[:63]]
    with contextlib.suppress(StopIteration):
        outcome["with"][0][function].send(Seen(records, outcome["counters"]))


# --- bytes that the server does not read as they stand -------------------------------------------------------

def urgent(conn, data):
    """The last byte of @data is urgent: a server that does not ask for it never reads it."""
    conn.sock.send(data, socket.MSG_OOB)
    time.sleep(0.01)


@bypass()
def an_urgent_byte_in_front_of_a_statement(bench, victims):
    """A message's type, whose length would be the statement's head."""
    with bench.dial() as conn:
        urgent(conn, b"d")
        bench.ended(conn, drop(victims[0]))
    (yield).ended()


@bypass()
def a_message_of_urgent_bytes(bench, victims):
    """One by one, a head that is good for a million bytes, the statement among them."""
    with bench.dial() as conn:
        with contextlib.suppress(OSError):
            for byte in b"d\0\x0f\xff\xff":
                urgent(conn, bytes([byte]))
        bench.ended(conn, drop(victims[0]))
    (yield).ended()


@bypass()
def an_urgent_byte_behind_a_statement(bench, victims):
    with bench.dial() as conn:
        urgent(conn, query("SELECT 1") + b"d")
        bench.ended(conn, drop(victims[0]))
        if not bench.stopped:
            check(conn.read().tags == ["DROP TABLE"], "the second answer is not the DROP's")
    (yield).ended()


@bypass()
def an_urgent_byte_in_a_packet_that_looks_well_framed(bench, victims):
    """The last byte of a length: to the server it is another, and the message ends where the statement begins."""
    with bench.dial() as conn:
        urgent(conn, b"d\0\0\xff\xff")
        bench.ended(conn, b"\0" + b"x" * (0xff00 - 4), drop(victims[0]))
    (yield).ended()


# --- where nothing can be remembered of a socket --------------------------------------------------------------

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
FILTER_LONG, FILTER_SHORT = struct.pack("HBBI", 0xb1, 0, 0, 0), struct.pack("HBBI", 0, 0, 0, 0)  # ldxb 4*([0]&0xf); ld #0
FILTER_PASS = struct.pack("HBBI", 6, 0, 0, 0xffffffff)


def attach_filter(sock, long, short):
    """False when the socket may not have so much memory."""
    code = ctypes.create_string_buffer(FILTER_LONG * long + FILTER_SHORT * short + FILTER_PASS)
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER,
                        struct.pack("HxxxxxxP", long + short + 1, ctypes.addressof(code)))
    except OSError as e:
        if e.errno != errno.ENOMEM:
            raise
        return False
    return True


def detach_filter(sock):
    sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def most(fits, limit):
    """The largest number below @limit that fits."""
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def take_memory(sock):
    """All that the kernel lets a socket have for options: a filter of some 900 instructions, each of which becomes many."""
    def fits(long, short):
        if not attach_filter(sock, long, short):
            return False
        detach_filter(sock)
        return True
    long = most(lambda n: fits(n, 0), 4000)
    short = most(lambda n: fits(long, n), 90)
    check(attach_filter(sock, long, short) and long < 3999, "the filter is not as long as it could be")


@bypass()
def a_filter_that_takes_the_memory_of_the_socket(bench, victims):
    """Nothing of it passes; once it has memory again, it is a connection like any other."""
    socks = []

    def prepare(sock):
        take_memory(sock)
        socks.append(sock)
        if bench.stopped:
            sock.settimeout(0.7)
    if not bench.stopped:
        with bench.dial(prepare=prepare) as conn:
            conn.must(f"DROP TABLE {victims[0]}")
        yield
        return
    try:
        bench.dial(prepare=prepare)
        raise Failure("the start-up packet was answered")
    except TimeoutError:
        pass
    with socks[0] as sock:
        sock.settimeout(5)
        detach_filter(sock)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answer = b""
        while not answer.endswith(b"Z\0\0\0\5I"):
            answer += sock.recv(65536)
        sock.sendall(drop(victims[0]))
        answer = sock.recv(65536)
        check(b"C42601" in answer, f"the client reads {answer}")
    seen = yield
    seen.prevented(1)
    check(seen.counters["kernel_wire_no_room"], shown(seen.counters))


# --- more than is looked at ------------------------------------------------------------------------------------

@bypass(victims=2)
def behind_thousands_of_empty_queries_in_one_send(bench, victims):
    """As many as a review found to be too many, and as many as a packet over loopback can have."""
    for count, victim in zip((4200, 10800), victims):
        with bench.dial() as conn:
            conn.sock.sendall(query("") * count + drop(victim))
            for _ in range(count):
                conn.read()
            bench.refused(conn.read())
            bench.lives(conn)
    (yield).prevented(2)


def spoiled_once(victim, stopped):
    """
    A Parse that was denied by making the NUL behind its text a blank: then the zeroes behind it were an end of the text, and no
    parameters. Without dbfence, as it came to be.
    """
    text = f"DROP TABLE {victim} /*{'x' * 9000}*/ ".encode()
    return Connection.message(b"P", b"\0" + text + (b"\0" if stopped else b" ") + b"\0\0\0")


@bypass(victims=2)
def a_long_parse_that_spoiling_would_repair(bench, victims):
    """In one send; and with its text in a segment of its own, so that nothing but the numbers behind it can be changed."""
    for victim, cut in zip(victims, (0, 4)):
        with bench.dial() as conn:
            parse = spoiled_once(victim, bench.stopped)
            if cut:
                conn.send(parse[:-cut])
                time.sleep(0.01)
            conn.send(parse[-cut:], conn.bind(), conn.execute(), conn.SYNC)
            bench.refused(conn.read())
            bench.lives(conn)
    (yield).prevented(2)


START_UP_MOST = 10004  # the server's limit of 10,000 does not count the length
SIZES = (9999, 10000, 10001, 10002, 10003, START_UP_MOST)


@bypass(victims=len(SIZES))
def behind_the_longest_start_up_packets(bench, victims):
    for size, victim in zip(SIZES, victims):
        with bench.dial(size=size) as conn:
            bench.refused(conn.query(f"DROP TABLE {victim}"))
            bench.lives(conn)
    try:
        bench.dial(size=START_UP_MOST + 1)
        raise Failure("the server takes a longer one")
    except Closed:
        pass
    (yield).prevented(len(SIZES))


FIRST_NAMES = ("é.first", "_pq_.first", "first.é")


@bypass(victims=len(FIRST_NAMES))
def a_start_up_packet_with_an_odd_name_in_front(bench, victims):
    """On a port that is not known for a database: only its first bytes tell."""
    for name, victim in zip(FIRST_NAMES, victims):
        with bench.dial(bench.relay, parameters={name: "1"}) as conn:
            bench.refused(conn.query(f"DROP TABLE {victim}"))
            bench.lives(conn)
    (yield).prevented(len(FIRST_NAMES))


# --- the same bytes, another text -------------------------------------------------------------------------------

# Characters whose last byte and the backslash behind it are one character in that encoding.
ENCODINGS = (("SJIS", "Õ"), ("SHIFT_JIS_2004", "Õ"), ("BIG5", "両"), ("GBK", "丁"), ("GB18030", "丁"))


def escaped(character, victim):
    """Where the backslash is one, a string to its end; where it is half a character, a DROP."""
    return query(f"SELECT E'{character}\\'; DROP TABLE {victim}; --'")


def is_a_string(bench, victim, character):
    """Thrice: what can be remembered, is."""
    with bench.dial() as conn:
        for _ in range(3):
            conn.send(escaped(character, victim))
            result = conn.read()
            check(result.tags == ["SELECT 1"], f"as UTF-8 it is {result.tags} {result.errors}")


@bypass(victims=3 * len(ENCODINGS))
def text_allowed_before_in_another_encoding(bench, victims):
    """Allowed as UTF-8, over and over; then the encoding is another, from the start, by SET, and by SET in the same send."""
    left = iter(victims)
    for encoding, character in ENCODINGS:
        begun, changed, at_once = next(left), next(left), next(left)
        for victim in (begun, changed, at_once):
            is_a_string(bench, victim, "a")  # ASCII: remembered
            is_a_string(bench, victim, character)
        with bench.dial(parameters={"client_encoding": encoding}) as conn:
            conn.send(escaped(character, begun))
            bench.refused(conn.read())
            bench.lives(conn)
        with bench.dial() as conn:
            conn.must(f"SET client_encoding = '{encoding}'")
            conn.send(escaped(character, changed))
            bench.refused(conn.read())
            bench.lives(conn)
        with bench.dial() as conn:
            conn.send(query(f"SET client_encoding = '{encoding}'"), escaped(character, at_once))
            conn.read()
            bench.refused(conn.read())
            bench.lives(conn)
    seen = yield
    seen.prevented(len(victims))
    check(seen.counters["kernel_cache_allowed"] >= len(victims), "nothing was remembered, so nothing could be mistaken")


# --- other protocols ---------------------------------------------------------------------------------------------

def kafka(key, version, number, body=b"\0\4test\xff\xff\xff\xff"):
    return struct.pack("!Ihhi", len(body) + 8, key, version, number) + body


METADATA, PRODUCE = kafka(3, 1, 1), kafka(0, 7, 2, b"\0\4test" + b"DROP TABLE t;" * 40)
LIKE_A_START_UP = (  # each is what is sent, piece by piece
    (kafka(18, 3, 0), METADATA, PRODUCE),
    (METADATA, PRODUCE, METADATA),
    (METADATA[:4], METADATA[4:], PRODUCE),
    (METADATA[:8], METADATA[8:], PRODUCE),
    (b"\0", b"\0", b"\0", METADATA[3:10], METADATA[10:], PRODUCE),
    (b"\x4a\0\0\1\x85\xa6\xff\1\0\0\0\1\x2d" + bytes(23) + b"root\0", b"\x0d\0\0\0\3DROP TABLE t"),  # MySQL
    (b"\0\0\0\1\x85\xa6\xff\1\0\0\0\1\x2d" + bytes(23) + b"root\0", b"\x0d\0\0\0\3DROP TABLE t"),
    (b"\0\0\0\x2d" + bytes(41) + b"x" * 4, b"\0\0\0\x08\xff\xff\xff\xfe\0\0\0\x0b"),  # ZooKeeper
    (b"\0\0\0\x14\x80\1\0\1\0\0\0\4ping\0\0\0\0\0\0",),  # Thrift
    (b"\0\0\0\x45\xffSMBr" + bytes(64), b"\0\0\0\4tail"),
    (b"\0\0\0\x05hello", b"\0\0\0\x0dDROP TABLE t;"),
    (bytes(64), bytes(5000), drop("t")),
    (b"\0\0\0\x10\0\3\0\0" + bytes(8), drop("t")),
)


def echoed(port, pieces):
    """What comes back of @pieces, each sent when the one before has come back; and of an error nothing more."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), 2) as sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for number, piece in enumerate(pieces):
            sock.sendall(piece)
            while len(got) < sum(map(len, pieces[:number + 1])):
                data = sock.recv(65536)
                if not data:
                    return got
                got += data
    return got


@bypass(victims=0)
def other_protocols_pass_unharmed(bench, _victims):
    """The port is one that is enforced on: what begins like PostgreSQL's protocol and goes on as another is ended."""
    for pieces in LIKE_A_START_UP:
        got = echoed(bench.echo, pieces)
        check(got == b"".join(pieces), f"{pieces[0][:16]}…, {len(pieces)} pieces: {got[-100:]} came back")
    pieces = (Connection.start_up({"user": "nobody"}), b"\xff" * 64)
    check((echoed(bench.echo, pieces) == b"".join(pieces)) != bench.stopped, "nothing is enforced on this port")
    yield


# --- who sends ---------------------------------------------------------------------------------------------------

PERL = r"""
open S, "+<&=0"; $text = $ARGV[0] . "\0"; $data = ""; syswrite S, "Q" . pack("N", 4 + length $text) . $text;
while (substr($data, -6) ne "Z\0\0\0\5I") { sysread S, $data, 65536, length $data or exit 1; }
print $$;
"""


def as_nobody(function):
    """@function in a child of another user; its process id."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            function()
            os._exit(0)
        os._exit(1)
    return child


def ask(sock, message):
    sock.settimeout(5)
    sock.sendall(message)
    data = b""
    while not data.endswith(b"Z\0\0\0\5I"):
        data += sock.recv(65536)


def a_child():
    """Over what it inherited."""
    def send(conn, message):
        child = as_nobody(lambda: ask(conn.sock, message))
        check(os.waitpid(child, 0)[1] == 0, "the child failed")
        return child
    return send


def who_was_given_it():
    """By SCM_RIGHTS; there before the connection."""
    ours, theirs = socket.socketpair()

    def take():
        message, fds, _, _ = socket.recv_fds(theirs, 4096, 1)
        ask(socket.socket(fileno=fds[0]), message)
    child = as_nobody(take)
    theirs.close()

    def send(conn, message):
        with ours:
            socket.send_fds(ours, [message], [conn.sock.fileno()])
            check(os.waitpid(child, 0)[1] == 0, "who was given the socket failed")
        return child
    return send


def another_program():
    def send(conn, message):
        conn.sock.settimeout(None)
        done = subprocess.run(["perl", "-e", PERL, message[5:-1]], stdin=conn.sock.fileno(), stdout=subprocess.PIPE,
                              timeout=10, check=True)
        conn.sock.settimeout(5)
        return int(done.stdout)
    return send


def sent_by(other, cluster):
    """A statement that this process may send, and did, sent by @other: who that was, and whether its victim is left."""
    victim = other.__name__
    text = f"DROP TABLE IF EXISTS {victim}"
    send = other()
    with Connection(cluster, "tcp", application=victim, timeout=5) as conn:
        for _ in range(3):
            check(conn.query(text).tags == ["DROP TABLE"], "this process may not")
        cluster.psql(f"CREATE TABLE {victim} ()")
        pid = send(conn, query(text))
        left = cluster.value(f"SELECT to_regclass('{victim}')") == victim
        for _ in range(3):
            check(conn.query(text).tags == ["DROP TABLE"], f"{victim} may not, and now this process may not any more")
    return pid, left


@case
def what_one_sender_may_another_may_not():
    """Policies know the process that sends, not the one that connected or sent before; verdicts that are known are its too."""
    others = (a_child, who_was_given_it, another_program)
    only_us = policy(unless='{identity: {uid: [0], exe: ["*/python3*"]}}')
    with Cluster() as cluster:
        idle = [other.__name__ for other in others if sent_by(other, cluster)[1]]
        check(not idle, f"without dbfence nothing happens: {idle}")
        with Daemon({"drop.yaml": only_us}, args=WIRE) as daemon:
            for other in others:
                pid, left = sent_by(other, cluster)
                check(left, f"{other.__name__} dropped it")
                found = daemon.wait_journal(lambda r: field(r, "decision.action") == "deny" and r["application_name"] == other.__name__)
                check([(r["outcome"], field(r, "client.pid")) for r in found] == [("prevented", pid)], f"{[brief(r) for r in found]}")
            check(daemon.status()["counters"]["kernel_cache_allowed"] >= len(others), "nothing was remembered of this process")


@case
def what_one_sender_may_is_not_remembered_for_another():
    """Allowed to a child over a connection of ours; what is known of that is the child's, not ours."""
    text = "DROP TABLE IF EXISTS remembered"
    with Cluster() as cluster, Daemon({"drop.yaml": policy(unless=f"{{identity: {{uid: [{NOBODY}]}}}}")}, args=WIRE) as daemon:
        with Connection(cluster, "tcp", application="shared") as shared, \
                Connection(cluster, "tcp", application="shared") as ours:
            for _ in range(3):
                a_child()(shared, query(text))
            cluster.psql("CREATE TABLE remembered ()")
            result = ours.query(text)
            check(result.sqlstate == "42601", f"it was allowed: {result.tags}")
            ours.must("SELECT 1")
            a_child()(shared, query(text))
            check(cluster.value("SELECT to_regclass('remembered')") == "", "the child may not any more")
        daemon.settle()
        got = [(r["outcome"], field(r, "client.uid")) for r in daemon.journal("statement") if field(r, "statement.text") == text]
    check(sorted(got) == [("executed", NOBODY)] * 4 + [("prevented", 0)], f"{got}")


# --- many at once ------------------------------------------------------------------------------------------------

HOARD = 4000
NOT_THE_INNOCENT = policy(unless="{identity: {db_user: [innocent]}}")


def hoard(listener, server, count, victim):
    """Denied on @count connections to who never answers, then at the server: a process, and what became of it."""
    told, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        with os.fdopen(told) as said:
            return child, said.read()
    hello = Connection.start_up({"user": "postgres", "application_name": "hoard"})
    try:
        hoarded = [socket.create_connection(listener.getsockname(), 10) for _ in range(count)]
        for sock in hoarded:
            sock.sendall(hello + drop("hoarded"))
        with Connection(server, "tcp", application="hoard", timeout=3) as conn:
            answer = conn.query(f"DROP TABLE {victim}")
            said = f"{answer.tags} {answer.errors}"
    except Exception as e:
        said = repr(e)
    os.write(tell, said.encode())
    os.close(tell)
    time.sleep(60)
    os._exit(0)


def accept_all(listener, taken):
    with contextlib.suppress(OSError):
        while True:
            taken.append(listener.accept()[0])


@contextlib.contextmanager
def hoarding(*args):
    child, said = hoard(*args)
    try:
        yield said
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@case
def a_process_that_fills_the_table_denies_nobody_else():
    """It may have three quarters of the slots; what finds none is not let through, and others find one."""
    with Cluster() as cluster, socket.create_server(("127.0.0.1", 0), backlog=HOARD) as listener:
        cluster.psql("CREATE ROLE innocent LOGIN SUPERUSER; CREATE TABLE first (); CREATE TABLE victim ();")
        taken = []
        threading.Thread(target=accept_all, args=(listener, taken), daemon=True).start()
        with hoarding(listener, cluster, 10, "first") as said:
            check(cluster.value("SELECT to_regclass('first')") == "", f"without dbfence it does nothing: {said}")
        args = [*WIRE, "--only-port", str(listener.getsockname()[1])]
        with Daemon({"drop.yaml": NOT_THE_INNOCENT}, args=args) as daemon, hoarding(listener, cluster, HOARD, "victim") as said:
            start = time.monotonic()
            denied = []
            for i in range(20):
                with Connection(cluster, "tcp", user="innocent", application="innocent", timeout=5) as conn:
                    texts = ("SELECT 1", "DROP TABLE IF EXISTS known", f"DROP TABLE IF EXISTS fresh_{i}")
                    denied += [text for text in texts if conn.query(text).errors]
            took = time.monotonic() - start
            counters = daemon.status()["counters"]
            say(f"the hoarder: {said}; 60 statements of another in {took:.1f} s; {shown(counters)}")
            check(not denied, f"denied to another: {denied}")
            check(counters["kernel_wire_no_slot"] > HOARD / 2, "the table was not full")
        check("DROP TABLE" not in said and cluster.value("SELECT to_regclass('victim')") == "victim", f"the hoarder: {said}")


GIVE_UP = 150


@case
def hundreds_that_give_up_at_once_leave_nothing_behind():
    """What is held is allowed then: nothing of it runs."""
    ways = ("closed", "killed")
    with Cluster(settings={"max_connections": 400}) as cluster, Daemon({"drop.yaml": LETS_PASS}, args=[*WIRE, *LONG_HOLD]) as daemon:
        victims = {how: [f"v_{how}_{i}" for i in range(GIVE_UP)] for how in ways}
        cluster.psql("CREATE TABLE control ();" + "".join(f"CREATE TABLE {v} ();" for names in victims.values() for v in names))
        with Connection(cluster, "tcp") as conn:
            check(conn.query("DROP TABLE control").tags == ["DROP TABLE"], "a DROP is not allowed to begin with")
        worker, before = daemon.processes()["worker"], held(daemon)
        clients = [Client(cluster, [f"DROP TABLE {v}" for v in names], how) for how, names in victims.items()]
        os.kill(worker, signal.SIGSTOP)  # soon nothing is held any more, for nobody would judge it
        try:
            for client in clients:
                client.send()
            check(held(daemon) - before == len(ways) * GIVE_UP, f"{held(daemon) - before} were held")
            for client in clients:
                client.give_up()
            wait_until(lambda: daemon.status()["counters"]["wire_sockets_destroyed"] == len(ways) * GIVE_UP, 4,
                       "every socket to be ended")
        finally:
            kill_quietly(worker, signal.SIGCONT)
            for client in clients:
                client.end()
        time.sleep(0.5)
        daemon.settle()
        left = int(cluster.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'v\\_%\\_%' AND relkind = 'r'"))
        check(left == len(ways) * GIVE_UP, f"{len(ways) * GIVE_UP - left} were dropped behind their client's back")
        found = [r for r in daemon.journal("statement") if r.get("application_name") in ways]
        got = {(r["application_name"], r["outcome"], "never_sent" in r.get("evidence", ())) for r in found}
        check(len(found) == left and got == {(how, "prevented", True) for how in ways}, f"{len(found)} records: {got}")


# --- both vantages ------------------------------------------------------------------------------------------------

@case
def what_both_vantages_could_hold_is_decided_once():
    """One hold, one verdict, one record for each statement, of those that are denied and those that are allowed."""
    count = 10
    with Cluster() as cluster:
        cluster.psql("CREATE ROLE innocent LOGIN SUPERUSER;" + "".join(f"CREATE TABLE v{i} ();" for i in range(count + 1)))
        with Connection(cluster, "tcp") as conn:
            check(conn.query(f"DROP TABLE v{count}").tags == ["DROP TABLE"], "without dbfence it does nothing")
        with Daemon({"drop.yaml": NOT_THE_INNOCENT}) as daemon:
            for user, want in (("postgres", "57014"), ("innocent", "")):
                with Connection(cluster, "tcp", user=user, application="merged") as conn:
                    for i in range(count):
                        text = f"DROP TABLE v{i}" if want else f"DROP TABLE IF EXISTS w{i}"
                        check(conn.query(text).sqlstate == want, f"{user}: {text}")
                    check(conn.query("SELECT 'still here'").rows == [["still here"]], "the connection does not go on")
            daemon.settle()
            counters = daemon.status()["counters"]
            records = [r for r in daemon.journal("statement")
                       if is_top_level(r) and r.get("application_name") == "merged" and "DROP" in field(r, "statement.text")]
        left = cluster.value("SELECT count(*) FROM pg_class WHERE relname LIKE 'v_' AND relkind = 'r'")
    holds = counters["kernel_holds"] + counters["kernel_wire_holds"]
    check(left == str(count), f"{left} of {count} victims are left")
    check(holds == 2 * count and counters["verdicts"] == 2 * count, f"{holds} holds, {counters['verdicts']} verdicts of {2 * count}")
    got = sorted((field(r, "statement.text"), r["outcome"], field(r, "decision.action"), r["vantage"]) for r in records)
    want = [(f"DROP TABLE IF EXISTS w{i}", "executed", "allow", "server") for i in range(count)]
    want += [(f"DROP TABLE v{i}", "prevented", "deny", "server") for i in range(count)]
    check(got == sorted(want), f"{got}")


if __name__ == "__main__":
    main()
