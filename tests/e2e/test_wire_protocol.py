# SPDX-License-Identifier: Apache-2.0
"""
What PostgreSQL's protocol allows and drivers seldom do, followed on the wire alone: bytes one by one, many messages in a packet,
one over hundreds, portals in pieces, COPY, lying lengths, requests for encryption. Each scenario is seen three times, by daemons
that see both ends, the client's, and the server's; the scenarios of one daemon run one after the other, then each
looks at its records, and all of them together are held against the server's log.
"""
import contextlib
import hashlib
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from e2e import Failure, case, check, field, main, say  # noqa: E402
from fakeserver import Fake  # noqa: E402
import oracle  # noqa: E402
from pgwire import (CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST, Closed, Connection, Error)  # noqa: E402
from stage import Stage, brief  # noqa: E402

SETUP = """
CREATE TABLE copied (id int, v text);
CREATE TABLE victim (id int);
"""
STAGES = [Stage(setup=SETUP), Stage("client", setup=SETUP, suffix="_at_the_client"),
          Stage("server", setup=SETUP, suffix="_at_the_server")]


def scenario(function):
    for stage in STAGES:
        stage.scenario(function)
    return function


def texts(records):
    return [field(r, "statement.text") for r in records]


# --- how bytes become messages -----------------------------------------------------------------------------

@scenario
def byte_by_byte(server):
    """The start-up packet too: on a known port a connection is followed from its SYN."""
    with Connection(server, "tcp", application="bytes", chunk=1) as conn:
        conn.must("SELECT 'byte by byte'")
        result = conn.extended("SELECT $1::text", ["of a parameter"])
        check(result.tags == ["SELECT 1"], result.errors)
    seen = yield
    found = seen.statements("bytes")
    check([brief(r)[:4] for r in found] == [("SELECT 'byte by byte'", "simple", "executed", 1),
                                            ("SELECT $1::text", "extended", "executed", 1)], [brief(r) for r in found])


@scenario
def a_message_cut_at_every_byte(server):
    """Two segments, with the cut one byte further each time."""
    with Connection(server, "tcp", application="cut") as conn:
        message = conn.message(b"Q", b"SELECT 'cut'\0")
        for at in range(1, len(message)):
            conn.sock.sendall(message[:at])
            time.sleep(0.001)
            conn.sock.sendall(message[at:])
            check(conn.read().tags == ["SELECT 1"], "the server did not answer")
        pieces = conn.parse("SELECT 'cut'", "s") + conn.bind("s") + conn.execute() + conn.close_name(b"S", "s") + conn.SYNC
        for at in range(1, len(pieces)):
            conn.sock.sendall(pieces[:at])
            time.sleep(0.001)
            conn.sock.sendall(pieces[at:])
            check(conn.read().tags == ["SELECT 1"], "the server did not answer")
    count = len(message) + len(pieces) - 2
    seen = yield
    found = seen.statements("cut")
    check(len(found) == count and {(field(r, "statement.text"), r["outcome"], r.get("rows")) for r in found} ==
          {("SELECT 'cut'", "executed", 1)}, f"{len(found)} records of {count}: {[brief(r) for r in found[:5]]}")


@scenario
def a_server_that_accepts_with_the_first_bytes(server):
    """TCP_DEFER_ACCEPT, as pgbouncer has it: the start-up packet comes to the socket that listens."""
    with Fake(server, "N", "N", "defer") as fake:
        with Connection(fake, "tcp", application="deferred") as conn:
            conn.must("SELECT 'deferred'")
        pid = fake.proc.pid
    seen = yield
    record = seen.one("deferred")
    check(brief(record)[:4] == ("SELECT 'deferred'", "simple", "executed", 1), brief(record))
    check(seen.ends == "client" or field(record, "server.pid") == pid, f"the server is {pid}, not {record.get('server')}")


@scenario
def many_statements_in_one_segment(server):
    """Simple queries that do not wait for each other, the start-up packet with the first of them."""
    wanted = [f"SELECT {i} AS many" for i in range(200)]
    queries = b"".join(Connection.message(b"Q", t.encode() + b"\0") for t in wanted)
    with Connection(server, "tcp", application="many", behind=queries) as conn:
        for _ in wanted:
            check(conn.read().tags == ["SELECT 1"], "the server did not answer")
    seen = yield
    check(texts(seen.statements("many")) == wanted, f"{len(seen.statements('many'))} records, or out of order")


@scenario
def a_super_packet_of_many_messages(server):
    """Some 200 KB of Parse, Bind and Execute before one Sync, each of 3,000 texts another."""
    wanted = [f"SELECT {i} AS super_packet" for i in range(3000)]
    with Connection(server, "tcp", application="super") as conn:
        result = conn.pipeline(*(conn.parse(t) + conn.bind() + conn.execute() for t in wanted))
        check(len(result.tags) == len(wanted), result.errors)
    seen = yield
    found = seen.statements("super")
    check(texts(found) == wanted and {r["outcome"] for r in found} == {"executed"}, f"{len(found)} records, or out of order")


def sized(length):
    head = f"SELECT {length} AS n, length('"
    return head + "x" * (length - len(head) - 2) + "')"


def ask_sized(server, application, lengths):
    with Connection(server, "tcp", application=application, timeout=60) as conn:
        for length in lengths:
            for ask in (conn.query, conn.extended):
                result = ask(sized(length))
                check(len(result.rows) == 1, f"{length} bytes: {result.errors}")


@scenario
def long_statements_whole(server):
    """All of their bytes have come: the digest says so. The record holds the text where there is room for it, or says why not."""
    lengths = [60000, 600000, 1000000]
    ask_sized(server, "whole", lengths)
    seen = yield
    found = seen.statements("whole")
    got = [(field(r, "statement.length"), field(r, "statement.captured"), field(r, "statement.digest"), r["outcome"]) for r in found]
    check(got == [(n, n, hashlib.sha256(sized(n).encode()).hexdigest(), "executed") for n in lengths for _ in range(2)], got)
    check(all(field(r, "statement.text") == sized(field(r, "statement.length")) or "record_limit" in r["incomplete"] for r in found),
          "a text is neither whole nor said to be left out")


@scenario
def a_statement_beyond_the_bound_says_so(server):
    """It was longer than what was captured, and what comes behind it is seen."""
    ask_sized(server, "beyond", [20000000])
    with Connection(server, "tcp", application="behind") as conn:
        conn.must("SELECT 'behind it'")
    seen = yield
    found = seen.statements("beyond")
    check(len(found) == 2, [brief(r) for r in found])
    for record in found:
        said = record["statement"]
        check(said["captured"] < 20000000 and (said["length"] == 20000000 or said.get("length_is_minimum")) and
              not said.get("digest") and record["outcome"] == "executed" and "text_limit" in record["incomplete"],
              f"{ {k: v for k, v in said.items() if k != 'text'} }, incomplete {record.get('incomplete')}")
    check(seen.one("behind")["outcome"] == "executed", "what came behind it")


# --- what the messages mean ----------------------------------------------------------------------------------

@scenario
def copy_both_ways(server):
    with Connection(server, "tcp", application="copy") as conn:
        conn.copy_in = [b"".join(f"{i * 100 + n}\tcopied\n".encode() for n in range(100)) for i in range(100)]
        check(conn.query("COPY copied FROM STDIN").tags == ["COPY 10000"], "COPY FROM")
        result = conn.query("COPY copied TO STDOUT")
        check(result.tags == ["COPY 10000"] and result.copied == 10000, "COPY TO")
        conn.copy_in = None
        check(conn.query("COPY copied FROM STDIN").sqlstate == "57014", "CopyFail")
        conn.copy_in = [b"1\tone\nnot a number\tx\n"]
        check(conn.query("COPY copied FROM STDIN").sqlstate == "22P02", "a bad line")
        conn.copy_in = [b"7\tseven\n"]
        check(conn.query("SELECT 1; COPY copied FROM STDIN; SELECT 2").tags == ["SELECT 1", "COPY 1", "SELECT 1"], "in a batch")
        conn.must("SELECT 'goes on'")
    seen = yield
    got = [(field(r, "statement.text"), r["outcome"], r.get("rows", 0), r.get("sqlstate", "")) for r in seen.statements("copy")]
    check(got == [("COPY copied FROM STDIN", "executed", 10000, ""), ("COPY copied TO STDOUT", "executed", 10000, ""),
                  ("COPY copied FROM STDIN", "failed", 0, "57014"), ("COPY copied FROM STDIN", "failed", 0, "22P02"),
                  ("SELECT 1; COPY copied FROM STDIN; SELECT 2", "executed", 3, ""), ("SELECT 'goes on'", "executed", 1, "")],
          got)


@scenario
def a_portal_in_pieces_is_one_record(server):
    with Connection(server, "tcp", application="pieces") as conn:
        conn.must("BEGIN")
        first = conn.sync(conn.parse("SELECT generate_series(1, 35)"), conn.bind(portal="p"), conn.execute("p", 10))
        check(first.suspended == 1 and len(first.rows) == 10, "the first piece")
        check(conn.query("SELECT 'between'").tags == ["SELECT 1"], "between the pieces")
        rest = [conn.sync(conn.execute("p", 10)) for _ in range(3)]
        check(sum(len(r.rows) for r in rest) == 25, "the other pieces")
        conn.must("COMMIT")
        conn.must("BEGIN; DECLARE c CURSOR FOR SELECT generate_series(1, 20)")
        check(len(conn.must("FETCH 7 FROM c")) == 7, "FETCH")
        conn.must("COMMIT")
    seen = yield
    got = {field(r, "statement.text"): (r["outcome"], r.get("rows")) for r in seen.statements("pieces")}
    check(len(seen.statements("pieces")) == 7 and got["SELECT generate_series(1, 35)"] == ("executed", 35) and
          got["FETCH 7 FROM c"] == ("executed", 7) and got["SELECT 'between'"] == ("executed", 1), got)


@scenario
def a_portal_keeps_its_statement(server):
    """The name is given to another text between Bind and Execute."""
    with Connection(server, "tcp", application="names") as conn:
        result = conn.sync(conn.parse("SELECT 'first'", "s"), conn.bind("s", "p"), conn.close_name(b"S", "s"),
                           conn.parse("SELECT 'second'", "s"), conn.execute("p"), conn.bind("s"), conn.execute())
        check(result.rows == [["first"], ["second"]], result.errors)
        check(conn.sync(conn.bind("s"), conn.execute()).rows == [["second"]], "later")
        check(conn.sync(conn.describe(b"S", "s")).tags == [], "Describe alone runs nothing")
        check(conn.sync(conn.parse("SELECT 'never run'", "t")).errors == [], "Parse alone runs nothing")
    seen = yield
    found = [r for r in seen.statements("names") if field(r, "statement.form") != "parsed"]
    check(texts(found) == ["SELECT 'first'", "SELECT 'second'", "SELECT 'second'"], [brief(r) for r in found])


@scenario
def what_is_skipped_after_an_error_was_not_executed(server):
    with Connection(server, "tcp", application="skipped") as conn:
        result = conn.sync(*(m for text in ("SELECT 'before'", "SELECT 1 / 0", "SELECT 'skipped'")
                             for m in (conn.parse(text), conn.bind(), conn.execute())))
        check(result.sqlstate == "22012" and result.rows == [["before"]], result.errors)
        result = conn.sync(conn.parse("SELEC"), conn.bind(), conn.execute(), conn.parse("SELECT 'skipped'"), conn.bind(), conn.execute())
        check(result.sqlstate == "42601", result.errors)
        result = conn.sync(conn.bind("no such name"), conn.execute())
        check(result.sqlstate == "26000", result.errors)
        conn.must("SELECT 'after'")
    seen = yield
    found = seen.statements("skipped")
    ran = [(field(r, "statement.text"), r["outcome"]) for r in found if r["outcome"] == "executed"]
    failed = [(field(r, "statement.text", ""), r.get("sqlstate")) for r in found if r["outcome"] == "failed"]
    check(ran == [("SELECT 'before'", "executed"), ("SELECT 'after'", "executed")], [brief(r) for r in found])
    check(failed[:2] == [("SELECT 1 / 0", "22012"), ("SELEC", "42601")], [brief(r) for r in found])


@scenario
def a_function_call_message(server):
    """int4pl by its number: there is no text."""
    with Connection(server, "tcp", application="fastpath") as conn:
        conn.send(conn.function_call(177, [40, 2]))
        check(conn.read().errors == [], "the call failed")
        conn.send(conn.function_call(999999999, []))
        check(conn.read().sqlstate == "42883", "the call of what is not there")
    seen = yield
    got = [(field(r, "statement.form"), r["outcome"], r.get("sqlstate", "")) for r in seen.statements("fastpath")]
    check(got == [("fastpath", "executed", ""), ("fastpath", "failed", "42883")], got)


@scenario
def a_cancel_request(server):
    """It comes by a connection of its own, which is not a session."""
    with Connection(server, "tcp", application="cancelled") as conn:
        conn.send(conn.message(b"Q", b"SELECT pg_sleep(30)\0"))
        time.sleep(0.3)
        with server.client:
            side = socket.create_connection((server.host, server.port), 10)
        port = side.getsockname()[1]
        side.sendall(struct.pack("!III", 16, CANCEL_REQUEST, conn.pid) + conn.secret)
        side.close()
        check(conn.read().sqlstate == "57014", "it was not cancelled")
        conn.must("SELECT 'lives on'")
    seen = yield
    got = [(field(r, "statement.text"), r["outcome"], r.get("sqlstate", "")) for r in seen.statements("cancelled")]
    check(got == [("SELECT pg_sleep(30)", "failed", "57014"), ("SELECT 'lives on'", "executed", "")], got)
    check(not seen.of_port(port, "statement"), "the cancel request's connection has statements")


@scenario
def a_client_that_vanishes_in_the_middle(server):
    """A reset while the statement runs: nobody saw its end."""
    with contextlib.closing(Connection(server, "tcp", application="vanished")) as conn:
        conn.must("SELECT 'before'")
        conn.send(conn.message(b"Q", b"SELECT pg_sleep(0.5)\0"))
        time.sleep(0.1)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        conn.sock.close()
    time.sleep(0.7)
    seen = yield
    got = [(field(r, "statement.text"), r["outcome"]) for r in seen.statements("vanished")]
    check(got in ([("SELECT 'before'", "executed"), ("SELECT pg_sleep(0.5)", outcome)] for outcome in ("aborted", "unknown")), got)


# --- bytes that are no messages --------------------------------------------------------------------------------

@scenario
def a_nul_in_the_text(server):
    """The server refuses it; what stands behind the NUL is not what ran, and nothing ran."""
    with Connection(server, "tcp", application="nul") as conn:
        conn.send(conn.message(b"Q", b"SELECT 1\0; DROP TABLE victim\0"))
        check(conn.read().sqlstate == "08P01", "the server took it")
        conn.must("SELECT 'after the nul'")
    seen = yield
    found = seen.statements("nul")
    check([(r["outcome"], r.get("sqlstate", "")) for r in found] == [("failed", "08P01"), ("executed", "")],
          [brief(r) for r in found])


def refused_by_the_server(server, application, data):
    with contextlib.closing(Connection(server, "tcp", application=application)) as conn:
        conn.must("SELECT 'before the lie'")
        conn.sock.sendall(data)
        for _ in range(3):
            try:
                conn.read()
            except (Error, Closed):
                return
        raise Failure("the server went on")


LIES = {
    "too long by half": b"Q\x7f\xff\xff\xffDROP TABLE victim\0",
    "shorter than itself": b"Q\0\0\0\3DROP TABLE victim\0",
    "too short": struct.pack("!cI", b"Q", 4 + 9) + b"SELECT 1\0DROP TABLE victim\0",
    "no such type": struct.pack("!cI", b"\x07", 4 + 18) + b"DROP TABLE victim\0",
}


@scenario
def lying_lengths(server):
    """The session ends; what was seen before counts, nothing of the lie is said to have run, the others go on."""
    for name, data in LIES.items():
        refused_by_the_server(server, f"lie: {name}", data)
    with Connection(server, "tcp", application="beside the lies") as conn:
        conn.must("SELECT 'beside'")
    seen = yield
    for name in LIES:
        found = seen.statements(f"lie: {name}")
        ran = [field(r, "statement.text") for r in found if r["outcome"] == "executed"]
        check(ran[:1] == ["SELECT 'before the lie'"] and not any("victim" in text for text in ran),
              f"{name}: {[brief(r) for r in found]}")
    check(seen.one("beside the lies")["outcome"] == "executed", "a session beside them")


@scenario
def another_protocol_on_the_port(server):
    """HTTP, then TLS without a request: nothing is recorded as a statement, and nobody is disturbed."""
    ports = []
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500):
        with server.client:
            sock = socket.create_connection((server.host, server.port), 10)
        ports.append(sock.getsockname()[1])
        sock.sendall(data)
        with contextlib.suppress(OSError):
            sock.recv(1000)
        sock.close()
    seen = yield
    check(not any(seen.of_port(port, "statement") for port in ports), "statements out of what is none")


# --- requests for encryption -------------------------------------------------------------------------------

@scenario
def encryption_refused_then_plain(server):
    """Answered N, the session is in clear text; on a port that nobody told of, too."""
    with Fake(server) as fake:
        for name, request in (("ssl", SSL_REQUEST), ("gss", GSSENC_REQUEST)):
            with Connection(fake, "tcp", application=f"refused {name}", request=request) as conn:
                conn.must(f"SELECT 'after {name}'")
    seen = yield
    for name in ("ssl", "gss"):
        record = seen.one(f"refused {name}")
        check(brief(record)[:4] == (f"SELECT 'after {name}'", "simple", "executed", 1), brief(record))


@scenario
def an_encrypted_session_is_said_to_be_opaque(server):
    """TLS, and GSS by the letter that begins it: one session record says that nothing more can be seen."""
    with Connection(server, "tls", application="hidden") as conn:
        ports = [conn.sock.getsockname()[1]]
        conn.must("SELECT 'hidden by TLS'")
    with contextlib.closing(Connection(server, "tcp", request=GSSENC_REQUEST)) as conn:
        ports.append(conn.sock.getsockname()[1])
    seen = yield
    for port, reason in zip(ports, ("tls", "gss")):
        check(not seen.of_port(port, "statement"), "statements out of what is encrypted")
        said = [r["session"] for r in seen.of_port(port, "session") if field(r, "session.event") == "opaque"]
        check([s["reason"] for s in said] == [reason], f"{reason}: {seen.of_port(port, 'session')}")


# --- all of them together ----------------------------------------------------------------------------------

def compare_all(stage):
    """What the server's log and the journal have in common: not what the server ended without a word about its text."""
    seen = stage.observe()
    ports = {name for name, session in seen.log.items() if session.application.startswith(("lie", "nul", "vanished"))
             or session.application == "hidden"}
    log = {name: session for name, session in seen.log.items() if name not in ports}
    for known in (seen.journal.sessions, seen.journal.truncated, seen.journal.ids):
        for name in ports:
            known.pop(name, None)
    say(f"{sum(len(s.statements) for s in log.values())} executions by {len(log)} sessions in the server's log")
    found = oracle.compare(log, seen.journal)
    found += seen.journal.misattributed(log, client=stage.ends != "server", server=stage.ends != "client")
    check(not found and not seen.journal.lost, "\n    ".join(map(str, [*found, *seen.journal.gaps[:3]])))


@case
def all_of_it_equals_the_server_log():
    compare_all(STAGES[0])


@case
def all_of_it_equals_the_server_log_at_the_client():
    compare_all(STAGES[1])


@case
def all_of_it_equals_the_server_log_at_the_server():
    compare_all(STAGES[2])


if __name__ == "__main__":
    main()
