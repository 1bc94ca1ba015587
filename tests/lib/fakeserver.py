# SPDX-License-Identifier: Apache-2.0
"""
A server that speaks PostgreSQL's protocol and knows nothing: every statement is answered with one row. For answers that a real
server does not give, and for more connections than a real one has memory for.

    fakeserver.py HOST [ANSWER-TO-SSLRequest [ANSWER-TO-GSSENCRequest [defer]]]     default N N; prints its port

With defer a connection is accepted when its first bytes are there, as pgbouncer does it. Ends with SIGTERM.
"""
import os
import selectors
import socket
import struct
import subprocess
import sys

SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
ROW = b"T\0\0\0\x1a\0\1x\0" + b"\0" * 18 + b"D\0\0\0\x0b\0\1\0\0\0\1" + b"1" + b"C\0\0\0\rSELECT 1\0"
READY = b"Z\0\0\0\5I"
HELLO = b"R\0\0\0\x08\0\0\0\0" + b"K\0\0\0\x0c" + struct.pack("!II", 4711, 42) + READY
ANSWERS = {b"Q": ROW + READY, b"P": b"1\0\0\0\4", b"B": b"2\0\0\0\4", b"D": b"n\0\0\0\4", b"E": ROW, b"S": READY,
           b"C": b"3\0\0\0\4"}


class Client:
    def __init__(self, sock, answers):
        self.sock, self.answers = sock, answers
        self.started, self.buffer = False, b""

    def feed(self, data):
        """False when the connection is over."""
        self.buffer += data
        while len(self.buffer) >= (5 if self.started else 8):
            head = 1 if self.started else 0
            size = head + struct.unpack("!I", self.buffer[head:head + 4])[0]
            if len(self.buffer) < size:
                break
            message, self.buffer = self.buffer[:size], self.buffer[size:]
            answer = self.answer(message)
            if answer is None:
                return False
            self.sock.sendall(answer)
        return True

    def answer(self, message):
        if self.started:
            return ANSWERS.get(message[:1])
        code = struct.unpack("!I", message[4:8])[0]
        if code in self.answers:
            return self.answers[code]
        self.started = code != CANCEL_REQUEST
        return HELLO if self.started else None


class Fake:
    """This program, beside the server of a Cluster: the same address, the same clients."""

    def __init__(self, cluster, *answers):
        self.host, self.client = cluster.host, cluster.client
        with cluster.server:
            self.proc = subprocess.Popen([sys.executable, os.path.abspath(__file__), self.host, *answers],
                                         stdout=subprocess.PIPE, text=True)
        self.port = int(self.proc.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.proc.terminate()
        self.proc.wait(10)
        self.proc.stdout.close()


def main():
    answers = dict(zip((SSL_REQUEST, GSSENC_REQUEST), (a.encode() for a in (sys.argv[2:] + ["N", "N"])[:2])))
    family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    listener = socket.create_server((sys.argv[1], 0), family=family, backlog=4096)
    if sys.argv[4:]:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 10)
    print(listener.getsockname()[1], flush=True)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                sock = listener.accept()[0]
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(sock, selectors.EVENT_READ, Client(sock, answers))
                continue
            try:
                data = key.fileobj.recv(65536)
                alive = data and key.data.feed(data)
            except OSError:
                alive = False
            if not alive:
                selector.unregister(key.fileobj)
                key.fileobj.close()


if __name__ == "__main__":
    main()
