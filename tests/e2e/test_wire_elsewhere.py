# SPDX-License-Identifier: Apache-2.0
"""
Statements of clients elsewhere, stopped at the server's socket by the wire vantage alone: clients whose TCP does what it may
not, more of them at once than packets can be kept of, and processes of ours that die meanwhile. The ways to drop a table, and
to give up, are test_wire_enforce's, at this end too.
"""
import contextlib
import os
import signal
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Cluster, Daemon, case, check, field, kill_quietly, main, say, wait_until  # noqa: E402
from netns import World  # noqa: E402
from pgwire import Closed, Connection, Error  # noqa: E402
from rawtcp import ACK, ADDRESS, PSH, RawClient  # noqa: E402
from wirestop import Asker, held, node, policy  # noqa: E402

POLICY = policy(unless="{objects: [may_go]}")
BODY = b"".join(s.encode() + b"\0" for s in ("user", "postgres", "database", "postgres", "application_name", "raw")) + b"\0"
START_UP = struct.pack("!II", len(BODY) + 8, 196608) + BODY
ANEW_S = 0.1  # longer than what was judged may wait to be taken
CROWD = 120   # more than packets are kept of at once


def query(text):
    return Connection.message(b"Q", text.encode() + b"\0")


@contextlib.contextmanager
def elsewhere(enforced=True, **settings):
    """(world, cluster, daemon): a table `victim`, with trust for whoever comes by the veth pair; only the server is on the node."""
    with World("veth", segments=True, patient=True) as world, \
            Cluster(settings=dict(listen_addresses="*", max_connections=300, **settings), world=world) as cluster:
        cluster.psql("CREATE TABLE victim (); CREATE TABLE may_go ();")
        with open(os.path.join(cluster.data, "pg_hba.conf"), "a", encoding="utf-8") as hba:
            hba.write(f"host all all {ADDRESS}/32 trust\n")
        cluster.psql("SELECT pg_reload_conf()")
        if not enforced:
            yield world, cluster, None
            return
        with Daemon({"p.yaml": POLICY}, args=node(world, "server")) as daemon:
            yield world, cluster, daemon


def there(cluster, table="victim"):
    return cluster.value(f"SELECT count(*) FROM pg_class WHERE relname = '{table}'") == "1"


# --- clients whose TCP does what it may not ----------------------------------------------------------------

def raw_session(world, cluster):
    client = RawClient(world, cluster.port)
    client.connect()
    client.send(START_UP)
    client.settle()
    check(client.got.endswith(b"Z\0\0\0\5I"), f"no session: {client.got[-60:]} {client.ended}")
    client.got = b""
    return client


def told_of_no_drop(client):
    return b"blocked" in client.got or bool(client.ended)


def behind_the_start_up_packet_in_the_handshake(world, cluster):
    """It reaches the socket that listens, which nobody follows."""
    with RawClient(world, cluster.port) as client:
        client.connect(START_UP + query("DROP TABLE victim"))
        if not client.got:
            client.send(START_UP + query("DROP TABLE victim"))
            client.settle()
        yield client


def other_bytes_behind_a_wrong_checksum(world, cluster):
    """What TCP throws away was judged; what it takes then is something else of the same length."""
    harmless, drop = (query(text.ljust(200)) for text in ("SELECT 1", "DROP TABLE victim"))
    with raw_session(world, cluster) as client:
        client.send(harmless, wrong_sum=True)
        for _ in range(4):
            check(not client.settle(ANEW_S) or client.got, "what has a wrong checksum was taken")
            if client.got or client.ended:
                break
            client.send(drop)
        client.receive(0.5)
        yield client


def other_bytes_that_come_early(world, cluster):
    """Two segments before their turn, of which TCP takes the longer one."""
    text = "SELECT 1".ljust(len("DROP TABLE victim"))
    harmless, drop = query(text), query("DROP TABLE victim") + Connection.SYNC
    with raw_session(world, cluster) as client:
        client.send(harmless[5:], at=5)
        client.send(drop[5:], at=5)
        client.send(harmless[:5])
        client.settle()
        client.send(drop)
        client.receive(0.5)
        yield client


def forbidden_in_front_of_its_turn(world, cluster):
    first, drop = query("SELECT 1"), query("DROP TABLE victim")
    with raw_session(world, cluster) as client:
        client.send(drop, at=len(first))
        client.receive(0.1)
        client.send(first)
        client.receive(0.5)
        yield client


def in_front_of_the_start_up_packet(world, cluster):
    """In the handshake's last packet, but early: it waits behind the start-up packet for its turn."""
    with RawClient(world, cluster.port) as client:
        client.connect(query("DROP TABLE victim"), at=len(START_UP))
        client.send(START_UP)
        client.receive(0.5)
        yield client


def behind_what_looks_encrypted(world, cluster, **how):
    """TCP throws it away, and takes a start-up packet in its place."""
    with RawClient(world, cluster.port) as client:
        client.connect()
        client.send(b"\x16" * 200, **how)
        client.receive(0.1)
        for message in (START_UP, query("DROP TABLE victim")):
            for _ in range(3):
                client.send(message)
                if client.settle(ANEW_S):
                    break
            client.receive(0.3)
        yield client


def behind_what_has_no_ack(world, cluster):
    yield from behind_what_looks_encrypted(world, cluster, flags=PSH)


def behind_what_has_a_wrong_checksum(world, cluster):
    yield from behind_what_looks_encrypted(world, cluster, wrong_sum=True)


RAW = [behind_the_start_up_packet_in_the_handshake, in_front_of_the_start_up_packet, other_bytes_behind_a_wrong_checksum,
       other_bytes_that_come_early, forbidden_in_front_of_its_turn, behind_what_has_no_ack, behind_what_has_a_wrong_checksum]
UNANSWERED = RAW[:2]  # the connection is never made


@case
def every_trick_works_without_dbfence():
    with elsewhere(enforced=False) as (world, cluster, _):
        for trick in RAW:
            for _client in trick(world, cluster):
                wait_until(lambda: not there(cluster), 2, f"{trick.__name__} to drop the table")  # noqa: B023
            cluster.psql("CREATE TABLE victim ()")


@case
def no_trick_works():
    with elsewhere() as (world, cluster, daemon):
        for trick in RAW:
            for client in trick(world, cluster):
                check(there(cluster), f"{trick.__name__}: the table is gone")
                if trick not in UNANSWERED:
                    check(told_of_no_drop(client), f"{trick.__name__}: the client was told {client.got[-200:]}")
            time.sleep(0.3)
            check(there(cluster), f"{trick.__name__}: the table is gone later")
        with RawClient(world, cluster.port) as client:
            client.connect(START_UP)
            check(not client.got, "what comes with the handshake passes unseen")
            client.send(b"", flags=ACK)
            client.send(START_UP)
            client.settle()
            check(client.got.endswith(b"Z\0\0\0\5I"), "when it comes again behind it, it does not pass")
            client.send(query("SELECT 'here'"))
            client.settle()
            check(b"here" in client.got, "its session does not go on")
        daemon.settle()
        ran = [r for r in daemon.journal("statement") if "DROP" in field(r, "statement.text") and r["outcome"] == "executed"]
        check(not ran, f"recorded as executed: {ran}")


@case
def what_is_handed_back_is_what_was_judged():
    """Two segments, the second first; while they are held the second comes again, with another table in it."""
    may, victim = query("DROP TABLE may_go"), query("DROP TABLE victim")
    with elsewhere() as (world, cluster, daemon):
        worker = daemon.processes()["worker"]
        for _ in range(5):
            cluster.psql("DROP TABLE IF EXISTS may_go; CREATE TABLE may_go ()", check_rc=False)
            with raw_session(world, cluster) as client:
                os.kill(worker, signal.SIGSTOP)
                client.send(may[5:], at=5)
                client.send(may[:5])
                client.send(victim[5:], at=5)
                time.sleep(0.01)
                os.kill(worker, signal.SIGCONT)
                client.settle()
                client.receive(0.3)
                check(there(cluster), f"the other table is gone: {client.got}")


# --- many at once ------------------------------------------------------------------------------------------

@case
def more_at_once_than_can_be_kept():
    """All are first seen; who finds no room is judged when it comes again."""
    with elsewhere() as (_world, cluster, daemon):
        conns = [Connection(cluster, "tcp", application=f"crowd{i}") for i in range(CROWD)]
        answers = [None] * CROWD
        ready = threading.Barrier(CROWD)

        def ask(i):
            ready.wait()
            try:
                table = "victim" if i % 2 else "may_go"
                answers[i] = conns[i].query(f"/* {i} */ DROP TABLE IF EXISTS {table}").sqlstate
            except (Error, Closed, OSError) as e:
                answers[i] = str(e)
        worker = daemon.processes()["worker"]
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(CROWD)]
        os.kill(worker, signal.SIGSTOP)
        for t in threads:
            t.start()
        time.sleep(0.05)
        os.kill(worker, signal.SIGCONT)
        for t in threads:
            t.join(30)
        counters = daemon.status()["counters"]
        say(f"not kept at first: {counters['kernel_wire_not_kept']}, holds {counters['kernel_wire_holds']}")
        denied, passed = answers[1::2], answers[0::2]
        check(denied == ["42601"] * len(denied), f"denied: {sorted(set(map(str, denied)))}")
        check(passed == [""] * len(passed), f"allowed: {sorted(set(map(str, passed)))}")
        check(there(cluster) and not there(cluster, "may_go"), "the tables")
        daemon.settle()
        found = [r for r in daemon.journal("statement") if r.get("application_name", "").startswith("crowd")]
        outcomes = sorted(r["outcome"] for r in found)
        check(outcomes == ["executed"] * (CROWD // 2) + ["prevented"] * (CROWD // 2),
              f"{len(found)} records: {[(r['outcome'], outcomes.count(r['outcome'])) for r in found[:1]]}")
        for conn in conns:
            conn.close()


# --- processes of ours that die ----------------------------------------------------------------------------

def dead_during_a_hold(role):
    with elsewhere() as (_world, cluster, daemon):
        processes = daemon.processes()
        before = held(daemon)
        os.kill(processes["worker"], signal.SIGSTOP)
        asker = Asker(cluster, "DROP TABLE victim")
        wait_until(lambda: held(daemon) > before, 0.1, "the hold", every=0.005)
        for name in processes if role == "all" else [role]:
            kill_quietly(processes[name], signal.SIGKILL)
        kill_quietly(processes["worker"], signal.SIGCONT)
        if role != "worker":
            wait_until(lambda: not daemon.alive(), 10, "dbfenced to end with its keeper")
            time.sleep(0.5)
            check(asker.is_alive() and there(cluster), f"with nobody there to hand it back: {asker.result or asker.error}")
            daemon.start()
        answer = asker.answer()
        check(answer == "42601" and there(cluster), f"the client got {answer}")
        check(asker.conn.query("SELECT 1").tags == ["SELECT 1"], "the connection does not go on")


@case
def the_worker_dies_during_a_hold():
    dead_during_a_hold("worker")


@case
def every_process_dies_during_a_hold():
    """Nothing passes; the next start gives the client its answer."""
    dead_during_a_hold("all")


if __name__ == "__main__":
    main()
