# SPDX-License-Identifier: Apache-2.0
"""
A PostgreSQL protocol client small enough to do what drivers will not: several Parse, Bind and Execute
messages before one Sync, a portal executed in pieces, a statement prepared now and executed later. Trust
authentication only; TCP, TLS and unix sockets. PostgreSQL documentation, chapter 55.
"""
import os
import socket
import ssl
import struct
import threading


SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102


class Error(Exception):
    """An ErrorResponse: .sqlstate, .severity and the message."""

    def __init__(self, fields):
        self.fields = fields
        self.sqlstate = fields.get("C", "")
        self.severity = fields.get("V", fields.get("S", ""))
        super().__init__(f"{self.severity} {self.sqlstate}: {fields.get('M', '')}")


class Closed(Exception):
    """The server ended the connection."""


class Result:
    """What came back up to one ReadyForQuery."""

    def __init__(self):
        self.tags, self.rows, self.errors = [], [], []
        self.status = ""
        self.copied = 0  # CopyData messages
        self.suspended = 0

    @property
    def sqlstate(self):
        return self.errors[0].sqlstate if self.errors else ""


def _text(value):
    return value.encode("utf-8") + b"\0"


class Connection:
    """One session. `pid` is the backend's. Usable as a context manager."""

    def __init__(self, cluster, transport="unix", database="postgres", user="postgres", application="pgwire",
                 timeout=30, replication=None, chunk=0, request=0, behind=b"", parameters=None, size=0, prepare=None):
        """
        @chunk: write that many bytes at a time, each with a segment of its own. @request: SSL_REQUEST or GSSENC_REQUEST goes
        first; nothing is started when the answer is other than N. @behind: goes in one write with the start-up packet.
        @parameters: more of them, in front of ours. @size: of the start-up packet. @prepare: gets the TCP socket first.
        """
        self.transport, self.chunk = transport, chunk
        self.copy_in = None  # what the next COPY FROM STDIN is given, a list of bytes; refused where there is none
        if transport == "unix":
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(os.path.join(cluster.sock, f".s.PGSQL.{cluster.port}"))
        else:
            with cluster.client:
                self.sock = socket.create_connection((cluster.host, cluster.port), timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if prepare:
            prepare(self.sock)
        if transport == "tls":
            if self.ask(SSL_REQUEST) != b"S":
                raise Closed("the server refused TLS")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)
        self.buffer = b""
        self.pid, self.secret = 0, b""
        if request and self.ask(request) != b"N":
            return
        ours = {"user": user, "database": database, "application_name": application, "client_encoding": "UTF8"}
        if replication:  # "database" or "true"
            ours["replication"] = replication
        parameters = parameters or {}
        packet = self.start_up({**parameters, **ours, **parameters})
        if size:
            packet = self.start_up({**parameters, **ours, **parameters, "pad.ding": "x" * (size - len(packet) - 10)})
        self.write(packet + behind)
        result = self.read()
        if result.errors:
            raise result.errors[0]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def ask(self, code):
        """A request for encryption; the one byte that answers it."""
        self.sock.sendall(struct.pack("!II", 8, code))
        return self.sock.recv(1)

    def close(self):
        try:
            self.sock.sendall(b"X\0\0\0\4")
        except OSError:
            pass
        self.sock.close()

    # --- messages, queued by the caller and sent with sync() or send() -----------------------------------

    @staticmethod
    def message(kind, body=b""):
        return kind + struct.pack("!I", len(body) + 4) + body

    @staticmethod
    def start_up(parameters):
        body = struct.pack("!I", 196608) + b"".join(_text(k) + _text(v) for k, v in parameters.items()) + b"\0"
        return struct.pack("!I", len(body) + 4) + body

    @classmethod
    def parse(cls, text, name=""):
        return cls.message(b"P", _text(name) + _text(text) + b"\0\0")

    @classmethod
    def bind(cls, name="", portal="", args=()):
        body = _text(portal) + _text(name) + struct.pack("!HH", 0, len(args))
        for value in args:
            raw = str(value).encode("utf-8")
            body += struct.pack("!I", len(raw)) + raw
        return cls.message(b"B", body + b"\0\0")

    @classmethod
    def execute(cls, portal="", limit=0):
        return cls.message(b"E", _text(portal) + struct.pack("!I", limit))

    @classmethod
    def function_call(cls, oid, args=()):
        """The function with this number, text in and out."""
        body = struct.pack("!IHH", oid, 0, len(args))
        for value in args:
            raw = str(value).encode("utf-8")
            body += struct.pack("!I", len(raw)) + raw
        return cls.message(b"F", body + b"\0\0")

    SYNC = b"S\0\0\0\4"

    @classmethod
    def describe(cls, kind=b"P", name=""):
        return cls.message(b"D", kind + _text(name))

    @classmethod
    def close_name(cls, kind=b"S", name=""):
        return cls.message(b"C", kind + _text(name))

    def write(self, data):
        step = self.chunk or len(data)
        for at in range(0, len(data), step):
            self.sock.sendall(data[at:at + step])

    def send(self, *messages):
        self.write(b"".join(messages))

    def sync(self, *messages):
        """Send the messages and a Sync; everything that came back."""
        self.send(*messages, self.SYNC)
        return self.read()

    def pipeline(self, *messages):
        """sync() of more than the buffers between the two take: the answers are read while it is being sent. Not over TLS."""
        if self.transport == "tls":
            return self.sync(*messages)
        sender = threading.Thread(target=self.send, args=(*messages, self.SYNC))
        sender.start()
        try:
            return self.read()
        finally:
            sender.join()

    def query(self, text):
        """One simple-query message."""
        self.send(self.message(b"Q", _text(text)))
        return self.read()

    def extended(self, text, args=()):
        """Parse, Bind, Execute, Sync in one write."""
        return self.sync(self.parse(text), self.bind(args=args), self.execute())

    def must(self, text):
        """A simple query that has to succeed; its rows."""
        result = self.query(text)
        if result.errors:
            raise result.errors[0]
        return result.rows

    # --- reading -----------------------------------------------------------------------------------------

    def _take(self, size):
        while len(self.buffer) < size:
            try:
                data = self.sock.recv(65536)
            except (ConnectionResetError, ssl.SSLEOFError) as e:
                raise Closed(str(e)) from e
            if not data:
                raise Closed("the server closed the connection")
            self.buffer += data
        head, self.buffer = self.buffer[:size], self.buffer[size:]
        return head

    def read(self):
        """Everything up to ReadyForQuery. A FATAL error, or an end without one, raises."""
        result = Result()
        while True:
            head = self._take(5)
            body = self._take(struct.unpack("!I", head[1:])[0] - 4)
            kind = head[:1]
            if kind == b"Z":
                result.status = body.decode("ascii")
                return result
            if kind == b"E":
                fields = {p[:1].decode(): p[1:].decode("utf-8", "replace") for p in body.split(b"\0") if p}
                error = Error(fields)
                if error.severity in ("FATAL", "PANIC"):
                    raise error
                result.errors.append(error)
            elif kind == b"C":
                result.tags.append(body[:-1].decode("ascii"))
            elif kind == b"D":
                result.rows.append(self._row(body))
            elif kind == b"d":
                result.copied += 1
            elif kind == b"W":  # a stream without an end: ask for one
                result.copied += 1
                self.send(self.message(b"c"))
            elif kind == b"s":
                result.suspended += 1
            elif kind == b"K":
                self.pid, self.secret = struct.unpack("!I", body[:4])[0], body[4:]
            elif kind == b"G" and self.copy_in is not None:
                self.send(*(self.message(b"d", data) for data in self.copy_in), self.message(b"c"))
            elif kind == b"G":
                self.send(self.message(b"f", _text("no data")))
            elif kind == b"R" and struct.unpack("!I", body[:4])[0] != 0:
                raise Closed("the server asks for a password; only trust is supported")

    @staticmethod
    def _row(body):
        count, at, row = struct.unpack("!H", body[:2])[0], 2, []
        for _ in range(count):
            size = struct.unpack("!i", body[at:at + 4])[0]
            at += 4
            if size < 0:
                row.append(None)
                continue
            row.append(body[at:at + size].decode("utf-8", "replace"))
            at += size
        return row
