#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
The wire alone (--vantage wire), against what a real server answers: which request a reply belongs to where that is not
plain. Copies in both protocols, failing before, while and after the server reads; pipelines with an error in them; names
and portals; what is encrypted or only cancels; texts of a megabyte.
"""
import os
import select
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Cluster, Daemon, case, check, field, main  # noqa: E402
from pgwire import Connection  # noqa: E402

SETUP = """
CREATE TABLE plain (a int); CREATE TABLE guarded (a int);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
CREATE TRIGGER refuse BEFORE INSERT ON guarded FOR EACH STATEMENT EXECUTE FUNCTION refuse();
"""
DATA, BAD = Connection.message(b"d", b"1\n"), Connection.message(b"d", b"x\n")
DONE, FAIL, SYNC = Connection.message(b"c"), Connection.message(b"f", b"no\0"), Connection.SYNC


def query(text):
    return Connection.message(b"Q", text.encode() + b"\0")


def extended(text, name="", portal=""):
    return [Connection.parse(text, name), Connection.bind(name, portal), Connection.execute(portal)]


def copy(table):
    """As libpq does it: a Sync behind Execute, and one more behind CopyDone."""
    return [*extended(f"COPY {table} FROM STDIN"), SYNC]


def say(connection, *messages):
    """Send, and take whatever comes back until it is quiet."""
    connection.send(*messages)
    quiet = 1.0
    while select.select([connection.sock], [], [], quiet)[0]:
        if not connection.sock.recv(65536):
            return
        quiet = 0.2


def statements(daemon):
    time.sleep(0.5)
    daemon.settle()
    return daemon.journal("statement")


def seen(records):
    """(text, SQLSTATE or tag) of each, marked where the text is not known."""
    return [(r["statement"]["text"] if "joined_mid_stream" not in r.get("incomplete", ()) else "?",
             r.get("sqlstate") or r.get("tag", "")) for r in records]


def expect(got, want):
    for i in range(max(len(got), len(want))):
        pair = (got[i] if i < len(got) else None, want[i] if i < len(want) else None)
        check(pair[0] == pair[1], f"statement {i}: got {pair[0]}, expected {pair[1]}")


def converse(*turns):
    """Each turn is a list of messages, sent once the replies to the one before are there."""
    with Cluster(name="wire") as cluster:
        cluster.psql(SETUP)
        with Daemon(args=["--vantage", "wire"]) as daemon:
            with Connection(cluster, "tcp") as connection:
                for turn in turns:
                    say(connection, *turn)
            records = statements(daemon)
            counters = daemon.status()["counters"]
            check(not counters["wire_mismatches"], f"{counters['wire_mismatches']} replies did not fit")
            check(all(r["vantage"] == "wire" for r in records), "another vantage")
            return seen(records)


@case
def copies_of_the_extended_protocol():
    plain, guarded = "COPY plain FROM STDIN", "COPY guarded FROM STDIN"
    expect(converse(copy("plain"), [DATA, DONE, SYNC], [query("SELECT 1")],
                    [*copy("plain"), DATA, DONE, SYNC, *extended("SELECT 2"), SYNC],
                    copy("plain"), [BAD], [DATA, DONE, SYNC], [query("SELECT 3")],
                    [*copy("plain"), BAD, DATA, DONE, SYNC], [query("SELECT 4")],
                    copy("plain"), [DATA, FAIL, SYNC], [query("SELECT 5")],
                    copy("guarded"), [DATA, DONE, SYNC], [query("SELECT 6")],
                    [*copy("guarded"), DATA, DONE, SYNC, query("SELECT 7")],
                    copy("missing"), [query("SELECT 8")]),
           [(plain, "COPY 1"), ("SELECT 1", "SELECT 1"), (plain, "COPY 1"), ("SELECT 2", "SELECT 1"),
            (plain, "22P02"), ("SELECT 3", "SELECT 1"), (plain, "22P02"), ("SELECT 4", "SELECT 1"),
            (plain, "57014"), ("SELECT 5", "SELECT 1"), (guarded, "P0001"), ("SELECT 6", "SELECT 1"),
            (guarded, "P0001"), ("SELECT 7", "SELECT 1"), ("COPY missing FROM STDIN", "42P01"),
            ("SELECT 8", "SELECT 1")])


@case
def copies_of_simple_queries():
    twice = "COPY plain FROM STDIN; COPY plain FROM STDIN; SELECT 1"
    expect(converse([query(twice)], [DATA, DONE], [DATA, DONE],
                    [query("COPY plain FROM STDIN"), BAD, DATA, DONE, query("SELECT 2")],
                    [query("COPY plain TO STDOUT")], [query("SELECT 3")]),
           [(twice, "SELECT 1"), ("COPY plain FROM STDIN", "22P02"), ("SELECT 2", "SELECT 1"),
            ("COPY plain TO STDOUT", "COPY 2"), ("SELECT 3", "SELECT 1")])


@case
def names_and_portals():
    bind, execute, parse = Connection.bind, Connection.execute, Connection.parse
    expect(converse([parse("SELECT 1", "s"), SYNC], [bind("s"), execute(), SYNC],
                    [parse("SELECT 2", "s"), SYNC], [bind("s"), execute(), SYNC],
                    [Connection.message(b"C", b"Ss\0"), parse("SELECT 3", "s"), bind("s"), execute(), SYNC],
                    [parse("SELECT 4"), SYNC], [parse("SELEC"), SYNC], [bind(), execute(), SYNC],
                    [*extended("SELECT 5"), *extended("SELECT 1/0"), *extended("SELECT 6"), query("SELECT 7"), SYNC],
                    [*extended("BEGIN"), parse("SELECT generate_series(1, 5)"), bind(portal="p"), execute("p", 2), SYNC],
                    [execute("p", 2), execute("p", 0), SYNC], [query("COMMIT")],
                    [query("PREPARE q AS SELECT 8")], [bind("q"), execute(), SYNC]),
           [("SELECT 1", "SELECT 1"), ("SELECT 2", "42P05"), ("SELECT 1", "SELECT 1"), ("SELECT 3", "SELECT 1"),
            ("SELEC", "42601"), ("SELECT 5", "SELECT 1"), ("SELECT 1/0", "22012"), ("BEGIN", "BEGIN"),
            ("SELECT generate_series(1, 5)", "SELECT 1"), ("COMMIT", "COMMIT"),
            ("PREPARE q AS SELECT 8", "PREPARE"), ("?", "SELECT 1")])


@case
def what_was_there_before():
    with Cluster(name="wire") as cluster, Connection(cluster, "tcp") as early:
        early.sync(early.parse("SELECT 1", "before"))
        with Daemon(args=["--vantage", "wire"]) as daemon:
            for _ in range(2):
                early.sync(early.bind("before"), early.execute())
            early.extended("SELECT 2")
            records = statements(daemon)
            check(seen(records)[1:] == [("?", "SELECT 1"), ("SELECT 2", "SELECT 1")], f"{seen(records)}")
            check(records[0]["outcome"] == "unknown" and "gap" in records[0]["incomplete"],
                  "the reply to the first was not framed yet")
            check(field(records[1], "client.pid") == os.getpid(), "the client's process")


@case
def encrypted_and_cancelled():
    with Cluster(name="wire") as cluster, Daemon(args=["--vantage", "wire"]) as daemon:
        cluster.psql("SELECT 1", transport="tls")
        psql = subprocess.Popen([cluster.bin("psql"), "-X", "-c", "SELECT pg_sleep(60)", cluster.conninfo("tcp")],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(1)
        psql.send_signal(signal.SIGINT)
        psql.wait(20)
        expect(seen(statements(daemon)), [("SELECT pg_sleep(60)", "57014")])
        events = {r["session"]["event"]: r for r in daemon.journal("session")}
        check(events["opaque"]["session"]["reason"] == "tls", "what is encrypted says so")
        check(field(events["opaque"], "client.comm") == "psql", "and whose it is")
        check(field(events["cancel_request"], "client.pid") == psql.pid, "who cancelled")


@case
def long_texts():
    with Cluster(name="wire") as cluster, Daemon(args=["--vantage", "wire"], text="masked") as daemon:
        with Connection(cluster, "tcp") as connection:
            for size in (100_000, 1_000_000, 1_200_000):
                connection.must(f"SELECT length('{'x' * size}')")
            connection.must("SELECT 1")
        records = statements(daemon)
        check([r["outcome"] for r in records] == ["executed"] * 4, "all ran")
        lengths = [(field(r, "statement.length"), field(r, "statement.captured")) for r in records]
        check(lengths[:2] == [(n + 17, n + 17) for n in (100_000, 1_000_000)], f"{lengths}: whole")
        check(lengths[2] == (1_200_017, 1 << 20), f"{lengths[2]}: cut, and it is said")
        check("text_limit" in records[2]["incomplete"] and not field(records[2], "statement.digest"), "and named")


if __name__ == "__main__":
    main()
