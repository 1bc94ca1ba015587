# SPDX-License-Identifier: Apache-2.0
"""
For the tests of what stops statements on the wire: policies of one rule, the daemon's options, what its counters show, and
clients that give up while their statements are held.
"""
import copy
import os
import select
import signal
import socket
import threading
import time

from e2e import check
from pgwire import Closed, Connection, Error

WIRE = ["--vantage", "wire"]
LONG_HOLD = ["--hold-ms", "5000"]
POLICY = """
apiVersion: dbfence.dev/v1
kind: Policy
metadata:
  name: {name}
spec:
  mode: enforce
  on_failure: {failure}
  rules:
    - name: {name}
      when: {when}
      action: {action}
"""


def policy(when="{effects: [schema_destroy]}", *, name="no-drop", failure="closed", action="deny", unless=""):
    text = POLICY.format(name=name, when=when, failure=failure, action=action)
    return text + (f"      unless: {unless}\n" if unless else "")


# A DROP is a candidate, and allowed: what runs behind the client's back would show.
LETS_PASS = policy("{effects: [schema_destroy], objects: [no_such_table]}", failure="open")


def at(cluster, host):
    """@cluster by another of its addresses."""
    view = copy.copy(cluster)
    view.host = host
    return view


def node(world, ends):
    """The daemon's arguments: only processes of one end are on its node, or both."""
    return [*WIRE, *(["--wire-cgroup", getattr(world, ends).cgroup] if ends else [])]


def shown(counters):
    return ", ".join(f"{k.removeprefix('kernel_')} {v}" for k, v in counters.items() if v and k.startswith(("kernel_wire", "pokes", "sockets")))


def held(daemon):
    return daemon.status()["counters"]["kernel_wire_holds"]


WAYS = ("killed", "closed", "shutdown", "terminate")


class Client:
    """
    A process with a connection for each of @texts; it sends them when it is told, and gives up in one of WAYS when it is told.
    """

    def __init__(self, server, texts, how="waits"):
        self.how = how
        ready, go = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._live(server, texts, ready[1], go[0])
        self.go = go[1]
        self.ready = ready[0]
        for fd in (ready[1], go[0]):
            os.close(fd)
        self._wait()

    def _wait(self):
        check(select.select([self.ready], [], [], 20)[0] and os.read(self.ready, 1), "the client did not get so far")

    def _live(self, server, texts, ready, go):
        try:
            conns = [Connection(server, "tcp", application=self.how, timeout=60) for _ in texts]
            os.write(ready, b"x")
            os.read(go, 1)
            for conn, text in zip(conns, texts):
                conn.send(conn.message(b"Q", text.encode() + b"\0"))
            os.write(ready, b"x")
            os.read(go, 1)
            for conn in conns:
                self._leave(conn)
            os.write(ready, b"x")
            time.sleep(60)
        finally:
            os._exit(0)

    def _leave(self, conn):
        if self.how == "closed":
            conn.sock.close()
        elif self.how == "shutdown":
            conn.sock.shutdown(socket.SHUT_WR)
        elif self.how == "terminate":
            conn.send(b"X\0\0\0\4")

    def _step(self):
        os.write(self.go, b"x")
        self._wait()

    def send(self):
        self._step()

    def give_up(self):
        if self.how == "killed":
            self.end()
        else:
            self._step()

    def end(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self.go)
            os.close(self.ready)
        self.pid = 0


class Asker(threading.Thread):
    """A query on its way."""

    def __init__(self, server, text):
        super().__init__(daemon=True)
        self.conn = Connection(server, "tcp", application="asker", timeout=20)
        self.text, self.result, self.error, self.took = text, None, None, 0.0
        self.began = time.monotonic()
        self.start()

    def run(self):
        try:
            self.result = self.conn.query(self.text)
        except (Error, Closed, OSError) as e:
            self.error = e
        self.took = time.monotonic() - self.began

    def answer(self):
        self.join(20)
        check(self.result, f"{self.text}: {self.error or 'no answer at all'}")
        return self.result.sqlstate or self.result.tags[0]
