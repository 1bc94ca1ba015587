#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Records tests/golden/pipeline/*.rec anew: a scratch PostgreSQL, the real daemon, one scenario after the other, and what
the kernel wrote meanwhile (tests/golden/record.c). Root, a built tree and a compiler. The expectations follow with
`make golden-update`; review both. Sessions that were not the scenario's are left out.

  sudo tests/golden/record.py [NAME …]
"""
import os
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lib"))
import e2e  # noqa: E402
import pgwire  # noqa: E402

RING = os.path.join(e2e.PINS, "ring")
OUT = os.path.join(HERE, "pipeline")
WIRE_ABI = 0x5701  # include/dbfence/abi/wire.h

READS = """
SELECT count(*) FROM golden_accounts;
INSERT INTO golden_accounts VALUES (1, 'ada', 10), (2, 'bob', 20);
UPDATE golden_accounts SET balance = balance + 1 WHERE owner = 'ada';
SELECT owner FROM golden_accounts WHERE id = 1 \\; SELECT 2 \\; SELECT 1/0 \\; SELECT 3;
SELECT * FROM golden_missing;
SELEC 1;
SELECT 1/0;
INSERT INTO golden_accounts VALUES (1, 'again', 0);
/* nothing */;
SET application_name = 'renamed';
DELETE FROM golden_accounts WHERE id = 2;
"""

SAVEPOINT = """
BEGIN;
INSERT INTO golden_accounts VALUES (10, 'carl', 1);
SAVEPOINT s;
INSERT INTO golden_accounts VALUES (10, 'carl', 1);
ROLLBACK TO s;
INSERT INTO golden_accounts VALUES (11, 'dora', 1);
COMMIT;
BEGIN;
DELETE FROM golden_accounts;
SELECT nonsense;
COMMIT;
BEGIN;
UPDATE golden_accounts SET balance = 0 WHERE id = 10;
COMMIT AND CHAIN;
UPDATE golden_accounts SET balance = 1 WHERE id = 10;
ROLLBACK;
"""

NESTED = """
DO $$
BEGIN
  FOR i IN 1..5 LOOP
    INSERT INTO golden_accounts VALUES (100 + i, 'loop', i);
  END LOOP;
  BEGIN
    INSERT INTO golden_accounts VALUES (101, 'twice', 0);
  EXCEPTION WHEN unique_violation THEN
    PERFORM count(*) FROM golden_accounts;
  END;
  EXECUTE 'UPDATE golden_accounts SET balance = 7 WHERE id = 103';
END $$;
CREATE PROCEDURE golden_commits() LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO golden_accounts VALUES (200, 'first', 0);
  COMMIT;
  INSERT INTO golden_accounts VALUES (201, 'second', 0);
  ROLLBACK;
  INSERT INTO golden_accounts VALUES (202, 'third', 0);
END $$;
CALL golden_commits();
"""

COPY = """
COPY golden_accounts FROM STDIN;
300\tcopied\t1
301\tcopied\t2
\\.
COPY (SELECT id FROM golden_accounts ORDER BY id LIMIT 3) TO STDOUT;
"""

DENIED = """
DROP TABLE golden_precious;
SELECT 1 \\; DROP TABLE golden_precious;
BEGIN;
DROP TABLE golden_precious;
ROLLBACK;
DROP TABLE golden_precious;
"""

CAUGHT = """
DO $$
BEGIN
  EXECUTE 'DROP TABLE golden_precious';
EXCEPTION WHEN query_canceled THEN
  PERFORM 1;
END $$;
DO $$ BEGIN EXECUTE 'DROP TABLE golden_precious'; END $$;
"""


def psql(sql):
    return lambda cluster: cluster.psql(sql, options=(), check_rc=False)


def prepared(cluster, transport="unix"):
    cluster.pgbench("-n", "-M", "prepared", "-t", "3", "-f", os.path.join(cluster.dir, "bench.sql"), transport=transport)


def extended(cluster):
    """Names, a pipeline with an error in its middle, a refused Parse, a failing Bind, a portal read in pieces."""
    with pgwire.Connection(cluster, "tcp", application="golden") as c:
        c.sync(c.parse("SELECT $1::int + 1", "plus"))
        c.sync(c.bind("plus", args=[1]), c.execute())
        c.sync(c.bind("plus", args=["x"]), c.execute())
        c.sync(c.parse("SELECT nothing FROM nowhere"), c.bind(), c.execute())
        c.sync(c.parse("SELECT 1"), c.bind(), c.execute(), c.parse("SELECT 1/0"), c.bind(), c.execute(),
               c.parse("SELECT 3"), c.bind(), c.execute())
        c.sync(c.parse("SELECT g FROM generate_series(1, 5) g"), c.bind(portal="p"), c.execute("p", 2),
               c.execute("p", 2), c.execute("p", 0))
        c.sync(c.parse("BEGIN"), c.bind(), c.execute(), c.parse("SELECT g FROM generate_series(1, 4) g"),
               c.bind(portal="q"), c.execute("q", 3))
        c.sync(c.execute("q", 3))
        c.sync(c.parse("COMMIT"), c.bind(), c.execute())
        c.sync(c.parse(""), c.bind(), c.execute())


def refused(cluster):
    cluster.psql("SELECT 1", transport="tcp", database="golden_missing", check_rc=False)


def tcp(sql):
    return lambda cluster: cluster.psql(sql, transport="tcp", options=(), check_rc=False)


# Over TCP, with the server vantage off.
WIRE_SCENARIOS = {"wire_reads": tcp(READS), "wire_savepoint": tcp(SAVEPOINT), "wire_copy": tcp(COPY),
                  "wire_prepared": lambda cluster: prepared(cluster, "tcp"), "wire_extended": extended,
                  "wire_refused": refused}
SCENARIOS = {"reads": psql(READS), "savepoint": psql(SAVEPOINT), "nested": psql(NESTED), "copy": psql(COPY),
             "prepared": prepared, "extended": extended, "denied": psql(DENIED), "caught": psql(CAUGHT)}


def ours(raw, since_ns):
    """The records of sessions that began after @since_ns (boot clock), and whose first batch is here."""
    at, keep, known = 0, b"", set()
    while at < len(raw):
        size = struct.unpack_from("<I", raw, at)[0]
        body = raw[at + 4:at + 4 + size]
        if struct.unpack_from("<H", body)[0] == WIRE_ABI:
            at += 4 + size
            continue
        tgid, _, session, seq = struct.unpack_from("<IIQI", body, 8)
        if session >= since_ns and seq == 0:
            known.add((session, tgid))
        if (session, tgid) in known:
            keep += raw[at:at + 4 + size]
        at += 4 + size
    return keep


def ours_wire(raw):
    """The records of connections whose beginning is here."""
    at, keep, known = 0, b"", set()
    while at < len(raw):
        size = struct.unpack_from("<I", raw, at)[0]
        body = raw[at + 4:at + 4 + size]
        if struct.unpack_from("<H", body)[0] == WIRE_ABI:
            conn, seq = struct.unpack_from("<Q", body, 8)[0], struct.unpack_from("<I", body, 32)[0]
            if seq == 0:
                known.add(conn)
            if conn in known:
                keep += raw[at:at + 4 + size]
        at += 4 + size
    return keep


def record(tool, cluster, scenarios, keep):
    for name, scenario in scenarios.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        time.sleep(0.5)
        since = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        mark = e2e.run([tool, RING, "mark"]).stdout.strip()
        scenario(cluster)
        time.sleep(0.5)
        raw = subprocess.run([tool, RING, "dump", mark], check=True, capture_output=True).stdout
        kept = keep(raw, since)
        e2e.check(kept, f"{name}: the kernel wrote nothing")
        with open(os.path.join(OUT, name + ".rec"), "wb") as f:
            f.write(kept)
        print(f"{name}: {len(kept)} bytes")


def main():
    e2e.need_root()
    with open(os.path.join(OUT, "policy.yaml"), encoding="utf-8") as f:
        policy = f.read()
    with tempfile.TemporaryDirectory() as tmp:
        tool = os.path.join(tmp, "record")
        e2e.run(["gcc", "-O2", "-D_GNU_SOURCE", os.path.join(HERE, "record.c"), "-lbpf", "-o", tool])
        with e2e.Cluster(name="golden", settings={"autovacuum": "off"}) as cluster:
            cluster.psql("CREATE TABLE golden_accounts (id int PRIMARY KEY, owner text, balance int);"
                         "CREATE TABLE golden_precious (id int)")
            with open(os.path.join(cluster.dir, "bench.sql"), "w", encoding="utf-8") as f:
                f.write("\\set i random_zipfian(1, 9, 2)\nSELECT balance FROM golden_accounts WHERE id = :i;\n"
                        "UPDATE golden_accounts SET balance = 3 WHERE id = 1;\n")
            with e2e.Daemon({"policy.yaml": policy}):
                record(tool, cluster, SCENARIOS, ours)
            cluster.psql("TRUNCATE golden_accounts")
            with e2e.Daemon({"policy.yaml": policy}, args=["--vantage", "wire"]):
                record(tool, cluster, WIRE_SCENARIOS, lambda raw, since: ours_wire(raw))


if __name__ == "__main__":
    main()
