#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Records tests/golden/wire/*.pcap anew: a scratch PostgreSQL and real clients in a network namespace of their own, one
capture a scenario; and of each, NAME.mangled.pcap: the same bytes cut elsewhere, some of them twice, overlapping, and in
another order, as a bad path makes them. Both must give the same. Root, and no daemon. The expectations follow with
`make golden-update`; review them.

  sudo tests/golden/record_wire.py [NAME …]
"""
import ctypes
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import psycopg2

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
import e2e  # noqa: E402
import pgwire  # noqa: E402

OUT = os.path.join(HERE, "wire")
CLONE_NEWNET, ETH_P_ALL, FIN, SYN = 0x40000000, 3, 1, 2

SIMPLE = """
SELECT count(*) FROM golden_accounts;
INSERT INTO golden_accounts VALUES (1, 'ada', 10), (2, 'bob', 20);
SELECT owner FROM golden_accounts WHERE id = 1 \\; SELECT 2 \\; SELECT 1/0 \\; SELECT 3;
BEGIN;
SELECT * FROM golden_missing;
COMMIT;
/* nothing */;
SET application_name = 'renamed';
DELETE FROM golden_accounts WHERE id = 2;
"""

COPY = """
COPY golden_accounts FROM STDIN;
300\tcopied\t1
301\tcopied\t2
\\.
COPY golden_accounts FROM STDIN;
302\tnot a number\tx
\\.
COPY (SELECT id FROM golden_accounts ORDER BY id) TO STDOUT;
"""


def psql(sql, **env):
    def scenario(cluster):
        e2e.run([cluster.bin("psql"), "-X", "-q", "-A", "-t", "-f", "-"], input=sql, env=dict(cluster.env("tcp"), **env),
                check_rc=False)
    return scenario


def pgbench(cluster):
    cluster.pgbench("-n", "-M", "prepared", "-t", "3", "--random-seed=1", "-f", os.path.join(cluster.dir, "bench.sql"),
                    transport="tcp")


def python(cluster):
    c = psycopg2.connect(cluster.conninfo("tcp"))
    cursor = c.cursor()
    cursor.execute("INSERT INTO golden_accounts VALUES (%s, %s, %s)", (20, "o'neil", 5))
    c.commit()
    try:
        cursor.execute("INSERT INTO golden_accounts VALUES (%s, %s, %s)", (20, "again", 5))
    except psycopg2.Error:
        c.rollback()
    named = c.cursor("several")
    named.itersize = 2
    named.execute("SELECT id FROM golden_accounts ORDER BY id")
    named.fetchmany(1)
    named.fetchall()
    c.commit()
    c.close()


def pipeline(cluster):
    cluster.psql("CREATE TABLE IF NOT EXISTS pipeline_t (id int, v text)")
    with tempfile.TemporaryDirectory() as tmp:
        tool = os.path.join(tmp, "pipeline")
        e2e.run(["gcc", "-O2", "-I/usr/include/postgresql", os.path.join(os.path.dirname(HERE), "e2e", "pipeline.c"), "-lpq",
                 "-o", tool])
        e2e.run([tool, cluster.conninfo("tcp"), "2"])


def portals(cluster):
    """Names, a pipeline with an error in its middle, portals read in pieces, a long text."""
    with pgwire.Connection(cluster, "tcp", application="golden") as c:
        c.sync(c.parse("SELECT $1::int + 1", "plus"))
        c.sync(c.bind("plus", args=[1]), c.execute())
        c.sync(c.bind("plus", args=["x"]), c.execute())
        c.sync(c.parse("SELECT 1"), c.bind(), c.execute(), c.parse("SELECT 1/0"), c.bind(), c.execute(),
               c.parse("SELECT 3"), c.bind(), c.execute())
        c.sync(c.parse("SELECT g FROM generate_series(1, 5) g"), c.bind(portal="p"), c.execute("p", 2),
               c.execute("p", 2), c.execute("p", 0))
        c.sync(c.parse("SELECT 'long', " + "1 + " * 3000 + "1"), c.bind(), c.execute())
        c.sync(c.parse(""), c.bind(), c.execute())


def cancel(cluster):
    c = psycopg2.connect(cluster.conninfo("tcp"))
    timer = threading.Timer(0.3, c.cancel)
    timer.start()
    try:
        c.cursor().execute("SELECT pg_sleep(20)")
    except psycopg2.Error:
        pass
    timer.join()
    c.close()


def tls(cluster):
    cluster.psql("ALTER SYSTEM SET ssl = on")
    cluster.psql("SELECT pg_reload_conf()")
    time.sleep(0.5)
    psql("SELECT 'unseen'", PGSSLMODE="require")(cluster)
    cluster.psql("ALTER SYSTEM SET ssl = off")
    cluster.psql("SELECT pg_reload_conf()")
    time.sleep(0.5)


SCENARIOS = {"simple": psql(SIMPLE), "copy": psql(COPY), "ssl_refused": psql("SELECT 'plain'", PGSSLMODE="prefer"),
             "ipv6": psql("SELECT 'six'", PGHOST="::1"), "pgbench": pgbench, "psycopg2": python, "pipeline": pipeline,
             "portals": portals, "cancel": cancel, "tls": tls}


class Capture:
    """What passes loopback meanwhile, each packet once: as it is sent."""

    def __init__(self):
        self.frames = []
        self.ends = False
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self.sock.bind(("lo", ETH_P_ALL))
        self.sock.settimeout(0.2)
        self.thread = threading.Thread(target=self.read)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.ends = True
        self.thread.join()
        self.sock.close()

    def read(self):
        while not self.ends:
            try:
                frame, address = self.sock.recvfrom(1 << 18)
            except socket.timeout:
                continue
            if address[2] == socket.PACKET_OUTGOING:
                self.frames.append(frame)


class Segment:
    """A frame, as far as it is TCP."""

    def __init__(self, frame):
        self.frame = frame
        ip = 14
        self.six = frame[12:14] == b"\x86\xdd"
        self.tcp_at = ip + (40 if self.six else (frame[ip] & 15) * 4)
        self.tcp = (frame[ip + 6] if self.six else frame[ip + 9]) == 6 and len(frame) >= self.tcp_at + 20
        if not self.tcp:
            return
        self.ports = struct.unpack_from(">HH", frame, self.tcp_at)
        self.seq = struct.unpack_from(">I", frame, self.tcp_at + 4)[0]
        self.flags = frame[self.tcp_at + 13]
        self.data_at = self.tcp_at + (frame[self.tcp_at + 12] >> 4) * 4
        self.data = frame[self.data_at:]

    def part(self, at, end):
        """The frame with some of its bytes only. Checksums are not right on loopback to begin with."""
        head = bytearray(self.frame[:self.data_at])
        if self.six:
            struct.pack_into(">H", head, 18, self.data_at - 54 + end - at)
        else:
            struct.pack_into(">H", head, 16, self.data_at - 14 + end - at)
        struct.pack_into(">I", head, self.tcp_at + 4, (self.seq + at) & 0xffffffff)
        return bytes(head) + self.data[at:end]


def flights(segments):
    """What one side sends before the other says something: within it the order may change."""
    flight = []
    for s in segments:
        alone = not s.data or s.flags & (FIN | SYN)
        if flight and (alone or s.ports != flight[0].ports):
            yield flight
            flight = []
        if alone:
            yield [s]
        else:
            flight.append(s)
    if flight:
        yield flight


def mangled(flight, dice):
    """Its bytes cut anew, some twice, some with what stands before or behind, in some order."""
    if not flight[0].data:
        return [s.frame for s in flight]
    frames = []
    for s in flight:
        cuts = sorted({0, len(s.data), *(dice.randrange(len(s.data)) for _ in range(min(12, 1 + len(s.data) // 8)))})
        for at, end in zip(cuts, cuts[1:]):
            frames.append(s.part(at, end))
            if dice.random() < 0.2:  # sent again
                frames.append(s.part(at, end))
            if dice.random() < 0.2:  # sent again, with more
                frames.append(s.part(max(0, at - 5), min(len(s.data), end + 5)))
    for i in range(len(frames) - 1):
        if dice.random() < 0.4:
            j = min(len(frames) - 1, i + dice.randrange(1, 4))
            frames[i], frames[j] = frames[j], frames[i]
    return frames


def write(name, numbered):
    """@numbered: (flight, frame); all of a flight have one time."""
    with open(os.path.join(OUT, name + ".pcap"), "wb") as f:
        f.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 1 << 18, 1))
        for number, frame in numbered:
            f.write(struct.pack("<IIII", number // 1000, number % 1000 * 1000, len(frame), len(frame)) + frame)


def record(name, scenario, cluster):
    with Capture() as capture:
        time.sleep(0.3)
        scenario(cluster)
        time.sleep(0.5)
    segments = [s for s in map(Segment, capture.frames) if s.tcp and cluster.port in s.ports]
    e2e.check(segments, f"{name}: nothing was captured")
    dice = random.Random(name)
    together = list(enumerate(flights(segments)))
    write(name, [(n, s.frame) for n, flight in together for s in flight])
    write(name + ".mangled", [(n, frame) for n, flight in together for frame in mangled(flight, dice)])
    print(f"{name}: {len(segments)} segments")


def main():
    e2e.need_root()
    e2e.check(not ctypes.CDLL(None).unshare(CLONE_NEWNET), "unshare")
    subprocess.run(["ip", "link", "set", "lo", "up", "mtu", "1500"], check=True)
    settings = {"autovacuum": "off", "ssl": "off", "listen_addresses": "127.0.0.1,::1"}
    with e2e.Cluster(name="golden", settings=settings) as cluster:
        cluster.psql("CREATE TABLE golden_accounts (id int PRIMARY KEY, owner text, balance int)")
        with open(os.path.join(cluster.dir, "bench.sql"), "w", encoding="utf-8") as f:
            f.write("\\set i random_zipfian(1, 9, 2)\nSELECT balance FROM golden_accounts WHERE id = :i;\n"
                    "UPDATE golden_accounts SET balance = 3 WHERE id = 1;\n")
        for name, scenario in SCENARIOS.items():
            if not sys.argv[1:] or name in sys.argv[1:]:
                record(name, scenario, cluster)


if __name__ == "__main__":
    main()
