# SPDX-License-Identifier: Apache-2.0
"""
Which process is at the other end of a session that came over TCP: also when it connected before the daemon started, and
from another network namespace of this node.
"""
import contextlib
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import (PINS, Cluster, Daemon, Skip, case, check, end_process, field, main,  # noqa: E402
                 run)
from pgwire import Connection  # noqa: E402

NOBODY = 65534
HOST, GUEST = "198.51.100.1", "198.51.100.2"  # documentation addresses: nothing else has them
ENFORCING = """apiVersion: dbfence.dev/v1
kind: Policy
metadata: {name: clients}
spec:
  mode: enforce
  rules:
    - {name: no-drop, when: {effects: [schema_destroy]}, action: deny}
"""


@contextlib.contextmanager
def other_namespace():
    """The name of a network namespace with GUEST in it, joined to this one (HOST) by a veth pair."""
    name = f"dbf{os.getpid()}"
    run(["ip", "netns", "add", name])
    try:
        made = run(["ip", "link", "add", f"{name}h", "type", "veth", "peer", "name", f"{name}g", "netns", name],
                   check_rc=False)
        if made.returncode:
            raise Skip(f"no veth pair can be made: {made.stderr.strip()}")
        run(["ip", "address", "add", f"{HOST}/30", "dev", f"{name}h"])
        run(["ip", "link", "set", f"{name}h", "up"])
        run(["ip", "-n", name, "address", "add", f"{GUEST}/30", "dev", f"{name}g"])
        run(["ip", "-n", name, "link", "set", f"{name}g", "up"])
        yield name
    finally:
        run(["ip", "link", "del", f"{name}h"], check_rc=False)
        run(["ip", "netns", "del", name], check_rc=False)


class Psql:
    """A psql that stays connected; @prefix runs it elsewhere, or as somebody else, in the same process."""

    def __init__(self, cluster, host, prefix=()):
        env = dict(cluster.env("tcp"), PGHOST=host)
        argv = [*prefix, cluster.bin("psql"), "-X", "-q", "-A", "-t"]
        self.proc = subprocess.Popen(argv, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, cwd="/")
        self.pid = self.proc.pid

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.proc.stdin.close()
        end_process(self.proc, (15, 9))
        self.proc.stdout.close()

    def must(self, word):
        self.proc.stdin.write(f"SELECT '{word}';\n")
        self.proc.stdin.flush()
        said = self.proc.stdout.readline().strip()
        check(said == word, f"psql says {said!r}")


def forget_tcp_clients():
    pinned = ("pinned", os.path.join(PINS, "tcp_clients"))
    for entry in json.loads(run(["bpftool", "-j", "map", "dump", *pinned]).stdout):
        run(["bpftool", "map", "delete", *pinned, "key", *entry["key"]])


def client_of(daemon, word):
    found = daemon.wait_journal(lambda r: r.get("kind") == "statement" and word in field(r, "statement.text", ""),
                                what=f"the record of {word}")
    return found[0].get("client", {})


def expect(client, *, pid, uid, exe, address):
    got = {key: client.get(key) for key in ("pid", "uid", "exe", "address", "known", "assurance")}
    want = {"pid": pid, "uid": uid, "exe": exe, "address": address, "known": True, "assurance": "kernel"}
    check(got == want, f"the record says {got}, and the client is {want}")


@case
def who_connected_over_tcp_before_the_daemon_is_known():
    with Cluster() as cluster, Connection(cluster, "tcp") as here, \
            Psql(cluster, "127.0.0.1", ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")) as psql:
        psql.must("before")
        here.must("SELECT 'before'")
        with Daemon() as daemon:
            here.must("SELECT 'of_python'")
            psql.must("of_psql")
            expect(client_of(daemon, "of_python"), pid=os.getpid(), uid=0, exe=os.path.realpath(sys.executable),
                   address="127.0.0.1")
            expect(client_of(daemon, "of_psql"), pid=psql.pid, uid=NOBODY, exe=cluster.bin("psql"),
                   address="127.0.0.1")
            check(daemon.status()["counters"]["tcp_clients_left_out"] == 0, "clients were left out")


@case
def who_connected_from_another_network_namespace_is_known():
    with other_namespace() as name, Cluster(settings={"listen_addresses": f"127.0.0.1,{HOST}"}) as cluster:
        with open(os.path.join(cluster.data, "pg_hba.conf"), "a", encoding="ascii") as f:
            f.write(f"host all all {GUEST}/32 trust\n")
        cluster.psql("SELECT pg_reload_conf();")
        there = ("ip", "netns", "exec", name)
        with Psql(cluster, HOST, there) as early:
            early.must("before")
            with Daemon() as daemon, Psql(cluster, HOST, there) as late:
                early.must("of_early")
                late.must("of_late")
                expect(client_of(daemon, "of_early"), pid=early.pid, uid=0, exe=cluster.bin("psql"), address=GUEST)
                expect(client_of(daemon, "of_late"), pid=late.pid, uid=0, exe=cluster.bin("psql"), address=GUEST)


@case
def of_processes_that_share_a_connection_the_first_is_named():
    with Cluster() as cluster, Connection(cluster, "tcp") as conn:
        child = subprocess.Popen(["sleep", "60"], pass_fds=[conn.sock.fileno()])
        try:
            with Daemon() as daemon:
                conn.must("SELECT 'shared'")
                check(client_of(daemon, "shared").get("pid") == min(os.getpid(), child.pid),
                      f"{os.getpid()} and {child.pid} share it: {client_of(daemon, 'shared')}")
        finally:
            end_process(child, (15, 9))


@case
def a_takeover_learns_who_was_forgotten():
    with Cluster() as cluster:
        first = Daemon({"p.yaml": ENFORCING})
        second = Daemon({"p.yaml": ENFORCING}, state_dir=first.state_dir)
        try:
            first.start()
            first.stop()
            with Connection(cluster, "tcp") as conn:
                forget_tcp_clients()
                conn.must("SELECT 'between'")
                second.start()
                second.wait_journal(lambda r: field(r, "agent.event") == "takeover", what="the record of a takeover")
                conn.must("SELECT 'introduced'")
                client_of(second, "introduced")
                conn.must("SELECT 'taken_over'")
                expect(client_of(second, "taken_over"), pid=os.getpid(), uid=0, exe=os.path.realpath(sys.executable),
                       address="127.0.0.1")
        finally:
            second.close()
            first.close()


if __name__ == "__main__":
    main()
